"""Finished reports under doubt: is one made again to the byte, and in what, and why, do two of them differ?

A report is run again from the snapshots of its bars; no prices are downloaded. That runs code: that of the template or,
where it has changed, of the report's own notebook; so run again only reports of people you trust.
"""

import ast
import dataclasses
import importlib.metadata
import itertools
import json
import re
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator
from pydantic_core import from_json

from backgrid.bars import bar_text
from backgrid.cache import HASH, cache_folder, load_snapshot
from backgrid.comparison import ABSENT, beginning, metric_row
from backgrid.data import fetch_ohlcv, pinned, request_key
from backgrid.errors import BackgridError, ParameterError, shown
from backgrid.page import html_table, versions
from backgrid.report import load_tools, run_report, sha256
from backgrid.result import BacktestResult
from backgrid.revisions import HASH_SHOWN, compare_bars, revision_text
from backgrid.snapshots import text_table
from backgrid.templates import find_template, read_parameters

OF_A_FUNCTION = "function "  # begins the name of a source that is none of a file or vendor
COMPARED = ("result.json", "report.ipynb", "report.html")  # the files that the same request makes again to the byte
OF_DATA = {"symbol", "symbols", "source", "start", "end", "interval", "adjusted", "align"}  # parameters
INJECTED = "injected-parameters"  # tag of a cell that papermill put in
MOST_REASONS = 3  # of a cause that are named
MOST_FURTHER = 9  # lines after the first difference
LONGEST_NAME = 200  # of a template [bytes]


class Rerun(NamedTuple):
    """What became of a report that was run again.

    Attributes
    ----------
    identical : bool
        Whether the same bytes came out, and nothing contradicts what provenance.json says of them.
    first_difference : str
        What differs first, with its values then and now; empty if identical.
    further : tuple of str
        What else differs, or, if identical, what has changed since without changing the report.
    path : Path
        Folder of the report.
    """

    identical: bool
    first_difference: str
    further: tuple[str, ...]
    path: Path

    def __str__(self) -> str:
        more = len(self.further) - MOST_FURTHER
        lines = [f"{self.path}: {'identical' if self.identical else 'not identical'}"]
        lines += [f"  first difference: {self.first_difference}"] if self.first_difference else []
        lines += [f"  {'note' if self.identical else 'then'}: {line}" for line in self.further[:MOST_FURTHER]]
        return "\n".join([*lines, f"  and {more} more"] if more > 0 else lines)

    def __repr__(self) -> str:
        return f"<Rerun of {self}>"


class Change(NamedTuple):
    """One thing that is not the same in two reports: what it is, and each side's value."""

    label: str
    a: Any
    b: Any

    def __str__(self) -> str:
        return f"{self.label} is {_value(self.a)} in A and {_value(self.b)} in B"


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Differences:
    """In what two reports differ.

    Attributes
    ----------
    a, b : str
        Their folders.
    cause : str
        The most likely reason, in one sentence.
    parameters : tuple of Change
        Parameters with another value; where a report leaves one open, what its run took. Then "... as run" for what
        differs although the parameters do not, such as the winner of a sweep.
    data : tuple of str
        Symbols, snapshots and the first bar that differs, where both snapshots are at hand.
    code : tuple of Change
        Template, source of the strategy, versions.
    equity : str
        First bar on which date, equity or positions differ, with both values; empty if there is none.
    trades : str
        How many there are, and the first that differs; empty if there is none.
    metrics : DataFrame
        One row a metric that differs, columns a, b and difference (b - a); NaN where undefined or absent.
    page : str
        Where report.ipynb, report.html or provenance.json first differ, if nothing above does.
    edited : tuple of str
        Files that are not as they were written.
    same : bool
        Whether nothing differs.
    """

    a: str
    b: str
    cause: str
    parameters: tuple[Change, ...]
    data: tuple[str, ...]
    code: tuple[Change, ...]
    equity: str
    trades: str
    metrics: pd.DataFrame
    page: str
    edited: tuple[str, ...]

    @property
    def same(self) -> bool:
        """Whether nothing differs."""
        found = (self.parameters, self.data, self.code, self.equity, self.trades, self.page)
        return self.metrics.empty and not any(found)

    def __str__(self) -> str:
        blocks = [f"A: {self.a}", f"B: {self.b}", *self.edited, self.cause]
        for heads, rows in self._tables():
            blocks += text_table(heads, [(f"  {label}", *values) for label, *values in rows], right=heads[1:])
        for name, lines in self._texts():
            blocks += [name, *(f"  {line}" for line in lines)]
        return "\n".join(blocks)

    def __repr__(self) -> str:
        return f"<Differences of {self.a} and {self.b}: {self.cause}>"

    def _repr_html_(self) -> str:
        cells = [("A", self.a), ("B", self.b), *(("edited", line) for line in self.edited), ("cause", self.cause)]
        cells += [(name.lower(), line) for name, lines in self._texts() for line in lines]
        tables = "".join(html_table(heads, rows) for heads, rows in self._tables())
        return f"<div class='backgrid-differences'>{html_table(('', 'two reports'), cells)}{tables}</div>"

    def _tables(self) -> Iterator[tuple[tuple[str, ...], list[tuple[str, ...]]]]:
        """Heads and rows of text of what has a value on each side."""
        for name, changes in (("Parameters", self.parameters), ("Code", self.code)):
            if changes:
                yield (name, "A", "B"), [(change.label, _value(change.a), _value(change.b)) for change in changes]
        if len(self.metrics):
            yield ("Metrics", "A", "B", "B - A"), [metric_row(row) for row in self.metrics.itertuples()]

    def _texts(self) -> Iterator[tuple[str, tuple[str, ...]]]:
        """Name and lines of the rest."""
        if self.data:
            yield "Data", self.data
        for name, line in (("Equity", self.equity), ("Trades", self.trades), ("Page", self.page)):
            if line:
                yield name, (line,)


def rerun_report(path: str | Path) -> Rerun:
    """Run a report again from the snapshots of its bars, downloading no prices, and compare.

    Parameters
    ----------
    path : path
        Folder of a report, or its report.html. Nothing in it is changed.

    Returns
    -------
    Rerun
        Its `first_difference` is the first in this order: a file that was edited, the bars (or their snapshot is
        missing or damaged), a version, the source of the strategy, the template, a parameter, a metric, a trade, a
        bar of the equity, a place on the page. Of a template that has changed the report's own notebook is run.

    Raises
    ------
    ParameterError
        If there is no such report, or its provenance.json or result.json cannot be read.
    """
    report = _open(path)
    found, notes = _run_again(report)
    return Rerun(not found, "".join(found[:1]), (*found[1:], *notes), report.folder)


def _run_again(report: "_Finished") -> tuple[list[str], list[str]]:
    """What differs when a report is run again, the first thing first; and what has changed without an effect."""
    edited = report.edited()
    if "result.json" not in report.files:
        return edited, []
    try:
        result = report.result()
    except ParameterError as error:
        if not edited:
            raise
        return [*edited, str(error)], []
    try:
        frames = _frames_to_pin(report)
    except BackgridError as error:
        return [*edited, f"data: {error}"], []
    printed, others = _other_versions(report.provenance.versions)
    changed: list[str] = []
    with tempfile.TemporaryDirectory(prefix="backgrid-rerun-") as work:
        try:
            template, changed = _template_of(report, Path(work))
            contradicted = _contradictions(report, template)
            with pinned(frames):
                again = _open(run_report(template, _given(report, template), out=Path(work) / "reports").path)
        except BackgridError as error:
            said = str(error).split(". What ran is in ")[0]  # a folder that is about to be removed
            return [*edited, *printed, *others, *changed, f"it no longer runs: {said}"], []
    asked, then, now = report.provenance.parameters, report.provenance, again.provenance
    named = f"the strategy ({_value(asked.get('strategy') or asked.get('weights') or 'it')})"
    strategy = _other_source(named, then.strategy_sha256, now.strategy_sha256)
    others += _other_source("backgrid itself", then.package_sha256, now.package_sha256) if then.package_sha256 else []
    data = _other_data(report, again)
    if all(report.files.get(name) == again.files[name] for name in COMPARED):
        return [*edited, *data, *printed, *strategy, *contradicted], [*others, *changed]
    effects = _effects(report, result, again)
    return [*edited, *data, *printed, *others, *strategy, *changed, *contradicted, *effects], []


def diff_reports(a: str | Path, b: str | Path) -> Differences:
    """In what two reports differ: parameters, data, code, equity, trades, metrics; and the most likely cause.

    Parameters
    ----------
    a, b : path
        Folders of reports, or their report.html. Nothing is run.

    Returns
    -------
    Differences

    Raises
    ------
    ParameterError
        If one of them is no report, its provenance.json or result.json cannot be read, or the latter is missing.
    """
    reports = _open(a), _open(b)
    results = reports[0].result(), reports[1].result()
    took = [_settled(report, result) for report, result in zip(reports, results, strict=True)]
    declared, data, code = _changes(*took), _bars_apart(reports, results), _changes(*map(_code_of, reports))
    as_run: list[Change] = []
    equity, trades, metrics = "", "", pd.DataFrame(columns=["a", "b", "difference"], dtype=float)
    if results[0] and results[1]:
        compared = results[0].compare(results[1])
        known = {change.label for change in declared} | OF_DATA
        rows = compared.parameters.itertuples()
        as_run = [Change(f"{name} as run", *values) for name, *values in rows if name not in known]
        equity = f"first on {beginning(compared.first_divergence)}" if compared.first_divergence else ""
        trades = _trades_apart(results[0].trades, results[1].trades, ("in A", "in B"))
        metrics = compared.metrics.rename(columns={"ours": "a", "theirs": "b"})
    elif results[0] or results[1]:
        equity = f"only {'A' if results[0] else 'B'} records a result"
    told = bool(declared or as_run or data or code or equity or trades) or not metrics.empty
    page = "" if told else _page_apart(reports[0].files, reports[1].files) or _record_apart(reports)
    numbers = [equity] if None in results else ["the metrics differ"] * (not metrics.empty)
    numbers += ["the trades differ"] * bool(trades) + ["the equity differs"] * bool(equity)
    same = "the numbers are the same" if any(results) else "neither records a result"
    return Differences(
        a=str(reports[0].folder),
        b=str(reports[1].folder),
        cause=_cause(next(filter(None, numbers), ""), same, page, declared, data, code),
        parameters=(*declared, *as_run),
        data=tuple(data),
        code=tuple(code),
        equity=equity,
        trades=trades,
        metrics=metrics,
        page=page,
        edited=tuple(f"{side}: {line}" for side, r in zip("AB", reports, strict=True) for line in r.edited()),
    )


# ---- a report on disk: whoever edited it, what is read here is as it was written -------------------------------------


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True)


class _Asked(_Strict):
    """A request for prices, as `fetch_ohlcv` takes it."""

    symbol: str
    start: str | None
    end: str | None
    interval: str
    source: str
    adjusted: bool


class _Facts(_Strict):
    """What prices said of themselves: their attrs, in that order."""

    model_config = ConfigDict(extra="allow")
    symbol: str = Field(min_length=1)
    source: str
    interval: str
    adjusted: bool = False
    snapshot: str = Field(pattern=f"^{HASH.pattern}$")
    notes: list[str] = []


class _Prices(_Strict):
    """Prices that a report read, and how it asked for them."""

    asked: _Asked
    given: _Facts


class _Provenance(_Strict):
    """provenance.json."""

    model_config = ConfigDict(extra="allow")
    template: str
    template_sha256: str
    parameters: dict[str, Any]
    versions: dict[str, str]
    files: dict[str, str] = {}
    snapshot: str | dict[str, str | None] | None = None
    prices_hash: str | None = None
    prices: list[_Prices]
    strategy_sha256: str | None = None
    package_sha256: str | None = None

    @field_validator("template")
    @classmethod
    def _names_a_file(cls, name: str) -> str:
        """Which is written under this name: any that a file may have, since a template may be given by its path."""
        plain = name.isprintable() and Path(name).name == name and name not in ("", "..")
        if not plain or len(name.encode()) > LONGEST_NAME:
            raise ValueError("it is no name of a template")
        return name


class _Finished(NamedTuple):
    """A report as it lies on disk."""

    folder: Path
    provenance: _Provenance
    files: dict[str, bytes]

    def edited(self) -> list[str]:
        """Files that are not those which provenance.json was written for."""
        recorded = self.provenance.files
        missing = [f"{name} is missing" for name in COMPARED if name not in self.files]
        return missing + [
            f"{name} is not the file that was written: its SHA-256 is not the one in provenance.json"
            for name in COMPARED
            if name in self.files and name in recorded and recorded[name] != sha256(self.files[name])
        ]

    def result(self) -> BacktestResult | None:
        """The recorded result, None for a template that records none; ParameterError if it cannot be read."""
        if "result.json" not in self.files:
            raise ParameterError(f"result.json is missing in {self.folder}: run the report again from its template")
        try:
            if from_json(self.files["result.json"]) is None:
                return None
            result = BacktestResult.from_json(self.files["result.json"].decode())
            kinds = {"symbol": str, "strategy": str, "data": dict, "params": dict, "settings": dict}
            if wrong := [name for name, kind in kinds.items() if not isinstance(getattr(result, name), kind)]:
                raise TypeError(f"{wrong[0]} is {shown(getattr(result, wrong[0]))}")
            result.compare(result)  # reads all that is looked at later
            return result
        except Exception as error:  # of what nobody wrote, pandas can raise anything
            raise ParameterError(
                f"result.json of {self.folder} cannot be read ({type(error).__name__}: {shown(str(error))}). "
                "Run the report again from its template."
            ) from error


def _open(path: str | Path) -> _Finished:
    """What a report folder holds, or ParameterError."""
    try:
        given = Path(path)
        there, folder = given.exists(), given if given.is_dir() else given.parent
    except (OSError, ValueError):  # a name that no file can have
        there = False
    if not there:
        raise ParameterError(f"there is no report {shown(str(path))}: give its folder or its report.html")
    try:
        provenance = _Provenance.model_validate_json((folder / "provenance.json").read_bytes())
        files = {name: (folder / name).read_bytes() for name in COMPARED if (folder / name).is_file()}
        return _Finished(folder, provenance, files)
    except FileNotFoundError:
        raise ParameterError(
            f"{folder} is no finished report, it holds no provenance.json: give a folder that `backgrid report` wrote"
        ) from None
    except ValidationError as error:
        first = error.errors()[0]
        what = ": ".join([".".join(map(str, first["loc"])) or "all of it", first["msg"]])
        raise ParameterError(
            f"provenance.json of {folder} is not as it was written: {what}, got {shown(first['input'])}"
        ) from None
    except (OSError, ValueError) as error:
        raise ParameterError(f"provenance.json of {folder} cannot be read: {shown(str(error))}") from error


def _cells(files: Mapping[str, bytes]) -> list[dict[str, Any]]:
    """Cells of report.ipynb; none where it is missing or cannot be read."""
    try:
        cells = from_json(files["report.ipynb"])["cells"]
        return [
            {**cell, "source": "".join(cell["source"]), "tags": [*cell["metadata"].get("tags", [])]} for cell in cells
        ]
    except (KeyError, ValueError, TypeError, AttributeError):
        return []


# ---- the bars --------------------------------------------------------------------------------------------------------


def _frames_to_pin(report: _Finished) -> dict[Any, pd.DataFrame]:
    """All prices from their snapshots, by the request for them; the package itself keeps the sample.

    What a function of the notebook gave, that function gives again.
    """
    reads: dict[Any, _Prices] = {}
    for read in report.provenance.prices:
        if read.given.source == "sample" or read.asked.source.startswith(OF_A_FUNCTION):
            continue
        key = request_key(**read.asked.model_dump())
        if key in reads and reads[key].given.snapshot != read.given.snapshot:
            raise BackgridError(f"{read.given.symbol} was read twice in one run, with other bars the second time")
        reads[key] = read
    return {key: _from_snapshot(read.given) for key, read in reads.items()}


def _reads(report: _Finished) -> dict[str, _Prices]:
    """What a report read, by symbol and interval; where these stand more than once, by the whole request."""
    reads = report.provenance.prices
    short = [f"{read.given.symbol} {read.given.interval}" for read in reads]
    return {
        name if short.count(name) == 1 else f"{name} {_in_full(read.asked)}": read
        for name, read in zip(short, reads, strict=True)
    }


def _in_full(asked: _Asked) -> str:
    kind = "adjusted" if asked.adjusted else "raw"
    return f"{asked.start or 'first bar'}..{asked.end or 'last bar'} of {shown(asked.source)}, {kind}"


def _from_snapshot(facts: _Facts) -> pd.DataFrame:
    """Prices as they were fetched, with all they said of themselves; BackgridError if the snapshot is not at hand."""
    snapshot, folder = facts.snapshot, cache_folder("snapshots")
    there = (folder / f"{snapshot}.parquet").is_file()
    kept = load_snapshot(snapshot)
    if kept is None:
        quarantine = cache_folder("quarantine")
        aside = there or any(quarantine.glob(f"{snapshot}.parquet.*"))
        what = f"is damaged, and was moved to {quarantine}" if aside else "is missing"
        raise BackgridError(
            f"the snapshot {snapshot} of {facts.symbol} {what}; put {snapshot}.parquet from where the report was made "
            f"into {folder}, or fetch these bars from {shown(facts.source)} again: if they are still the same, that "
            "restores it"
        )
    prices = fetch_ohlcv(facts.symbol, interval=facts.interval, source=lambda *_: kept[0], adjusted=facts.adjusted)
    prices.attrs = facts.model_dump(exclude_unset=True)
    return prices


def _traded(read: _Prices) -> pd.DataFrame | None:
    """The bars that a report traded, None if they are not at hand."""
    facts, asked = read.given, read.asked
    try:
        if facts.source != "sample":
            return _from_snapshot(facts)
        prices = fetch_ohlcv(**asked.model_dump())
    except BackgridError:
        return None
    return prices if prices.attrs["snapshot"] == facts.snapshot else None


def _other_data(report: _Finished, again: _Finished) -> list[str]:
    """Bars that are not those of then."""
    then, now = ({**_snapshots(r), "the traded bars": r.provenance.prices_hash} for r in (report, again))
    found = _changes(then, now)
    if not found:
        read = (
            {f"the bars read of {name}": prices.given.snapshot for name, prices in _reads(r).items()}
            for r in (report, again)
        )
        found = _changes(*read)
    return [f"data: the SHA-256 of {of} is {old} then, {new} now" for of, old, new in found]


def _snapshots(report: _Finished) -> dict[str, Any]:
    """The hash of each symbol's raw bars."""
    kept = report.provenance.snapshot
    if isinstance(kept, str):
        symbol = report.provenance.parameters.get("symbol")
        kept = {symbol if isinstance(symbol, str) else "one symbol": kept}
    return {f"the raw bars of {symbol}": snapshot for symbol, snapshot in (kept or {}).items()}


def _bars_apart(reports: tuple[_Finished, _Finished], results: tuple[Any, Any]) -> list[str]:
    """In what the bars of two reports differ, symbol by symbol."""
    a, b = map(_reads, reports)
    if bool(a) != bool(b):
        return [f"{'B' if a else 'A'} records no prices"]
    found = [f"{symbol} is in A only" for symbol in a if symbol not in b]
    found += [f"{symbol} is in B only" for symbol in b if symbol not in a]
    for symbol in a:
        if symbol in b and (how := _how_apart(a[symbol], b[symbol])):
            found.append(f"{symbol}: {how}")
    found = found or [
        str(Change(f"the SHA-256 of {of}", *hashes)) for of, *hashes in _changes(*map(_snapshots, reports))
    ]
    hashes = {report.provenance.prices_hash for report in reports}
    alike = reports[0].provenance.template == reports[1].provenance.template and None not in (*results, *hashes)
    if alike and len(hashes) > 1 and not found:
        return ["the same raw bars were adjusted or put together otherwise"]
    return found


def _how_apart(a: _Prices, b: _Prices) -> str:
    """How the bars of one symbol differ; empty where they do not."""
    if a.given.snapshot == b.given.snapshot:
        only = "A" if a.given.adjusted else "B"
        return f"the same raw bars, adjusted in {only} only" if a.given.adjusted != b.given.adjusted else ""
    frames = _traded(a), _traded(b)
    if frames[0] is None or frames[1] is None:
        short = " and ".join(read.given.snapshot[:HASH_SHOWN] for read in (a, b))
        return f"the snapshots {short} differ; to name the first bar, both must be at hand"
    revision = compare_bars(frames[0], frames[1])
    return revision_text(revision, " from A to B") if not revision.same else "other raw bars, the same traded prices"


# ---- the code --------------------------------------------------------------------------------------------------------


def _other_versions(recorded: Mapping[str, str]) -> tuple[list[str], list[str]]:
    """Versions that are others now: of what the page names, and of all else."""
    printed = versions()
    now = {name: printed.get(name) or _installed(name) for name in recorded}
    other = {n: f"version of {n}: {recorded[n]} then, {now[n]} now" for n in recorded if recorded[n] != now[n]}
    return (
        [line for name, line in other.items() if name in printed],
        [line for name, line in other.items() if name not in printed],
    )


def _installed(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except (importlib.metadata.PackageNotFoundError, ValueError):
        return "not installed"


def _other_source(what: str, then: str | None, now: str | None) -> list[str]:
    return [f"the source of {what}: SHA-256 {then} then, {now} now"] if then != now else []


def _template_of(report: _Finished, work: Path) -> tuple[Path, list[str]]:
    """The template of a report if it is still the same, else the report's own notebook as one; and what was found."""
    name = report.provenance.template
    try:
        path = find_template(name)
        if sha256(path.read_bytes()) == report.provenance.template_sha256:
            return path, []
        said = f"the template {name} has changed"
    except (ParameterError, OSError):
        said = f"the template {shown(name)} is not among the templates here"
    own = work / f"{name}.ipynb"
    own.write_text(json.dumps(_unrun(report)), encoding="utf-8")
    return own, [f"{said}: the report's own notebook was run"]


def _unrun(report: _Finished) -> dict[str, Any]:
    """The notebook of a report as it was before it was run."""
    nbformat = load_tools().nbformat
    read = _cells(report.files)
    try:
        notebook = json.loads(report.files["report.ipynb"])
        cells = [cell for cell, known in zip(notebook["cells"], read, strict=True) if INJECTED not in known["tags"]]
        cells = [{**cell, "outputs": [], "execution_count": None} if "outputs" in cell else cell for cell in cells]
        notebook = {**notebook, "cells": cells}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            nbformat.validate(nbformat.from_dict(notebook))
    except Exception as error:  # of what nobody wrote, nbformat can raise anything
        raise ParameterError("report.ipynb cannot be read, and its template is not as it was") from error
    return notebook


def _given(report: _Finished, template: Path) -> dict[str, Any]:
    """The parameters to give again: those that were injected, in their order, and others that are no default."""
    recorded, declared = report.provenance.parameters, read_parameters(template)
    other = [name for name in recorded if name not in declared or recorded[name] != declared[name].default]
    injected = [name for name in _injected(report) or {} if name in recorded]
    return {name: recorded[name] for name in dict.fromkeys([*injected, *other])}


def _injected(report: _Finished) -> dict[str, Any] | None:
    """What papermill wrote into the notebook; None where that cannot be read."""
    cells = _cells(report.files)
    try:
        lines = [line for cell in cells if INJECTED in cell["tags"] for line in ast.parse(cell["source"]).body]
        found = {ast.unparse(n.targets[0]): ast.literal_eval(n.value) for n in lines if isinstance(n, ast.Assign)}
        return found if cells else None
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
        return None


def _contradictions(report: _Finished, template: Path) -> list[str]:
    """Parameters that the notebook was not run with."""
    injected = _injected(report)
    if injected is None:  # it has been edited, which is said already
        return []
    ran = {name: parameter.default for name, parameter in read_parameters(template).items()} | injected
    recorded = report.provenance.parameters
    return [
        f"parameter {name}: {_value(value)} in report.ipynb, {_value(recorded.get(name, ABSENT))} in provenance.json"
        for name, value in ran.items()
        if name not in recorded or recorded[name] != value
    ]


def _code_of(report: _Finished) -> dict[str, Any]:
    noted = report.provenance
    hashes = {
        "template SHA-256": noted.template_sha256,
        "source of the strategy SHA-256": noted.strategy_sha256,
        "source of backgrid SHA-256": noted.package_sha256,
    }
    return {"template": noted.template, **hashes, **{f"version of {n}": v for n, v in noted.versions.items()}}


# ---- what came of it -------------------------------------------------------------------------------------------------


def _effects(report: _Finished, then: BacktestResult | None, again: _Finished) -> Iterator[str]:
    """The first bar of the benchmark, parameter, metric, trade, bar of the equity and place on the page that differ."""
    now = again.result()
    if then and now:
        compared = then.compare(now)
        if "benchmark" in compared.data.index:  # so the bars do, on that date
            old, new = compared.data.loc["benchmark"]
            yield f"data: the benchmark is worth {old} then, {new} now"
        for what, table in (("parameter", compared.parameters), ("metric", compared.metrics)):
            for name, old, new, *_ in itertools.islice(table.itertuples(), 1):
                yield f"{what} {name}: {_value(old)} then, {_value(new)} now"
        if trades := _trades_apart(then.trades, now.trades, ("then", "now")):
            yield trades
        if compared.first_divergence:
            yield f"the run on {beginning(compared.first_divergence)}"
    if page := _page_apart(report.files, {name: again.files[name] for name in report.files}):
        yield page


def _trades_apart(a: pd.DataFrame, b: pd.DataFrame, sides: tuple[str, str]) -> str:
    """The first trade that differs and its first column that does, and how many there are."""
    counts = "" if len(a) == len(b) else f"{len(a):,} trades {sides[0]}, {len(b):,} {sides[1]}"
    names = [name for name in a if name in b]
    rows = (table[names].itertuples(index=False) for table in (a, b))
    for at, pair in enumerate(zip(*rows, strict=False)):
        for name, ours, theirs in zip(names, *pair, strict=True):
            if ours != theirs and not (pd.isna(ours) and pd.isna(theirs)):
                texts = f"{_value(ours)} {sides[0]}, {_value(theirs)} {sides[1]}"
                return f"trade {at + 1:,}, {name}: {texts}{counts and f' ({counts})'}"
    return f"{counts}; the first {min(len(a), len(b)):,} are the same" if counts else ""


def _page_apart(a: Mapping[str, bytes], b: Mapping[str, bytes]) -> str:
    """The first cell of the notebooks that differs, or the first line of the pages."""
    if one_sided := [name for name in COMPARED if (name in a) != (name in b)]:
        return f"{one_sided[0]} is there in one of them only"
    heading, cells = "", (_cells(a), _cells(b))
    for at, (ours, theirs) in enumerate(itertools.zip_longest(*cells)):
        if ours is None or theirs is None:
            return f"the page: report.ipynb has {len(cells[0])} cells and {len(cells[1])} cells"
        if found := re.match(r"#+ (.*)", ours["source"]):
            heading = f", under {shown(found[1])}"
        for what in ("source", "outputs", "metadata", "cell_type"):
            if ours.get(what) != theirs.get(what):
                return f"the page: {what} of cell {at} of report.ipynb{heading if what != 'source' else ''}"
    pages = [side.get("report.html", b"").splitlines() for side in (a, b)]
    for at, (ours, theirs) in enumerate(itertools.zip_longest(*pages)):
        if ours != theirs:
            return f"the page: line {at + 1:,} of report.html, though its notebook is the same"
    return next((f"{name} is other bytes" for name in COMPARED if a.get(name) != b.get(name)), "")


# ---- why two reports differ ------------------------------------------------------------------------------------------


def _changes(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[Change]:
    """What has another value in each; None is as good as absent."""
    known = dict.fromkeys([*a, *b])
    return [Change(name, a.get(name, ABSENT), b.get(name, ABSENT)) for name in known if a.get(name) != b.get(name)]


def _settled(report: _Finished, result: BacktestResult | None) -> dict[str, Any]:
    """Parameters; one that was left open as what the run took for it."""
    took = {**result.settings, **result.params} if result else {}
    return {n: took.get(n) if value is None else value for n, value in report.provenance.parameters.items()}


def _record_apart(reports: tuple[_Finished, _Finished]) -> str:
    """What else provenance.json says otherwise."""
    a, b = (report.provenance.model_dump(exclude={"parameters"}) for report in reports)
    other = [change.label for change in _changes(a, b)]
    return f"provenance.json says otherwise of {', '.join(other)}" if other else ""


def _cause(numbers: str, same: str, page: str, declared: list[Change], data: list[str], code: list[Change]) -> str:
    """Why these numbers differ; or, where none does, what does."""
    template = [f"the {change}" for change in code if change.label == "template"]
    if template:  # its own parameters come with it
        declared = [c for c in declared if all(value not in (None, ABSENT) for value in (c.a, c.b))]
    of_data = any(change.label in OF_DATA for change in declared)  # the request tells why the bars are others
    reasons = [*template, *([] if of_data else data), *map(str, declared)]
    if not reasons:
        sources = [(change, change.label.removesuffix(" SHA-256")) for change in code]
        reasons = [f"the {change}" if name == change.label else f"the {name} has changed" for change, name in sources]
    left = len(reasons) - MOST_REASONS
    told = [*reasons[:MOST_REASONS], *([f"{left} more"] if left > 0 else [])]
    why = " and ".join([", ".join(told[:-1]), told[-1]] if len(told) > 1 else told)
    if numbers:
        return f"{numbers} because {why}" if why else f"{numbers}, for a reason that neither report records"
    if why:
        return f"{same}, though {why}"
    return f"{same}, and {page}" if page else "nothing differs"


def _value(value: Any) -> str:
    """A value as it is written, shortened only where it is very long."""
    if isinstance(value, pd.Timestamp):
        return bar_text(pd.DatetimeIndex([value]), 0)
    if isinstance(value, np.generic):
        value = value.item()
    text = value if isinstance(value, str) else repr(value)
    return " ".join(text.split()) if text and len(text) <= 80 else shown(value)
