"""Finished reports under doubt: is one made again to the byte, and in what, and why, do two of them differ?

A report is run again from the snapshots of its bars; no prices are downloaded. That runs code: that of the template or,
where it has changed, of the report's own notebook; so run again only reports of people you trust.
"""

import ast
import dataclasses
import importlib.metadata
import itertools
import json
import math
import re
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from backgrid.bars import bar_text
from backgrid.cache import load_snapshot
from backgrid.data import fetch_ohlcv, pinned, request_key
from backgrid.errors import BackgridError, ParameterError, shown
from backgrid.metrics import METRICS, format_value
from backgrid.page import html_table, versions
from backgrid.report import run_report, sha256
from backgrid.result import BacktestResult
from backgrid.settings import setting
from backgrid.templates import find_template, read_parameters

COMPARED = ("result.json", "report.ipynb", "report.html")  # the files that the same request makes again to the byte
OF_DATA = {"symbol", "symbols", "source", "start", "end", "interval", "adjusted", "align"}  # parameters
MOST_REASONS = 3  # of a cause that are named
MOST_FURTHER = 9  # lines after the first difference
EXACT_DIGITS = 17  # that tell any two numbers apart


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
        One row a metric that differs, columns label, a and b; NaN where undefined.
    page : str
        Where report.ipynb or report.html first differ, if nothing above does.
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
        for name, rows in self._tables():
            blocks += _aligned([(name, "A", "B"), *rows])
        for name, lines in self._texts():
            blocks += [name, *(f"  {line}" for line in lines)]
        return "\n".join(blocks)

    def __repr__(self) -> str:
        return f"<Differences of {self.a} and {self.b}: {self.cause}>"

    def _repr_html_(self) -> str:
        cells = [("A", self.a), ("B", self.b), *(("edited", line) for line in self.edited), ("cause", self.cause)]
        cells += [(name.lower(), line) for name, lines in self._texts() for line in lines]
        tables = (html_table((name, "A", "B"), rows) for name, rows in self._tables())
        return f"<div class='backgrid-differences'>{html_table(('', 'two reports'), cells)}{''.join(tables)}</div>"

    def _tables(self) -> Iterator[tuple[str, list[tuple[str, str, str]]]]:
        """Name and rows of text of what has a value on each side."""
        for name, changes in (("Parameters", self.parameters), ("Code", self.code)):
            if changes:
                yield name, [(change.label, _value(change.a), _value(change.b)) for change in changes]
        if len(self.metrics):
            yield "Metrics", [_metric_row(*row) for row in self.metrics.itertuples()]

    def _texts(self) -> Iterator[tuple[str, tuple[str, ...]]]:
        found: dict[str, str | tuple[str, ...]] = {
            "Data": self.data,
            "Equity": self.equity,
            "Trades": self.trades,
            "Page": self.page,
        }
        for name, lines in found.items():
            if lines:
                yield name, (lines,) if isinstance(lines, str) else tuple(lines)


class _Finished(NamedTuple):
    """A report as it lies on disk."""

    folder: Path
    provenance: dict[str, Any]
    files: dict[str, bytes]

    def edited(self) -> list[str]:
        """Files that are not those which provenance.json was written for."""
        recorded = self.provenance.get("files", {})
        missing = [f"{name} is missing" for name in COMPARED if name not in self.files]
        return missing + [
            f"{name} is not the file that was written: its SHA-256 is not the one in provenance.json"
            for name in COMPARED
            if name in self.files and name in recorded and recorded[name] != sha256(self.files[name])
        ]

    def result(self) -> BacktestResult | None:
        """The recorded result, None for a template that records none; ParameterError if it cannot be read."""
        if self.files.get("result.json", b"").strip() == b"null":
            return None
        try:
            return BacktestResult.from_json(self.files["result.json"].decode())
        except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
            raise ParameterError(
                f"result.json of {self.folder} cannot be read ({type(error).__name__}: {shown(str(error))}). "
                "Run the report again from its template."
            ) from error


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
    edited = report.edited()
    try:
        result = report.result()
    except ParameterError as error:
        if not edited:
            raise
        return _rerun(report, edited, [str(error)])
    try:
        frames = _pinned_frames(report, result)
    except BackgridError as error:
        return _rerun(report, edited, [f"data: {error}"])
    printed, others = _other_versions(report.provenance["versions"])
    changed: list[str] = []
    with tempfile.TemporaryDirectory(prefix="backgrid-rerun-") as work:
        try:
            template, changed = _template_of(report, Path(work))
            given = _given(report, template)
            parameters = _contradictions(report, template)
            with pinned(frames):
                again = _open(run_report(template, given, out=Path(work) / "reports").path)
        except BackgridError as error:
            said = str(error).split(". What ran is in ")[0]  # a folder that is about to be removed
            return _rerun(report, edited, printed, others, changed, [f"it no longer runs: {said}"])
    data, strategy = _other_data(report, again), _other_strategy(report, again)
    others += _other_package(report, again)
    if all(report.files.get(name) == again.files[name] for name in COMPARED):
        found = [*edited, *data, *printed, *strategy, *parameters]
        return _rerun(report, found, further=[*others, *changed])
    effects = _effects(report, again)
    return _rerun(report, edited, data, printed, others, strategy, changed, parameters, effects)


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
        If one of them is no report, or its provenance.json or result.json cannot be read.
    """
    reports = _open(a), _open(b)
    results = reports[0].result(), reports[1].result()
    declared, data, code = _other_parameters(reports, results), _bars_apart(reports, results), _other_code(reports)
    as_run: list[Change] = []
    equity, trades, metrics = "", "", _metrics_apart({}, {})
    if results[0] and results[1]:
        compared = results[0].compare(results[1])
        known = {change.label for change in declared} | OF_DATA
        rows = compared.parameters.itertuples()
        as_run = [Change(f"{name} as run", *values) for name, *values in rows if name not in known]
        equity = _beginning(compared.first_divergence, ("in A", "in B"))
        trades = _trades_apart(results[0].trades, results[1].trades, ("in A", "in B"))
        metrics = _metrics_apart(results[0].metrics, results[1].metrics)
    elif results[0] or results[1]:
        equity = f"only {'A' if results[0] else 'B'} records a result"
    told = bool(declared or as_run or data or code or equity or trades) or not metrics.empty
    page = "" if told else _page_apart(reports[0].files, reports[1].files)
    numbers = ["the metrics differ"] * (not metrics.empty) + ["the trades differ"] * bool(trades)
    numbers += ["the equity differs"] * bool(equity)
    return Differences(
        a=str(reports[0].folder),
        b=str(reports[1].folder),
        cause=_cause(numbers, page, declared, data, code),
        parameters=(*declared, *as_run),
        data=tuple(data),
        code=tuple(code),
        equity=equity,
        trades=trades,
        metrics=metrics,
        page=page,
        edited=tuple(f"{side}: {line}" for side, r in zip("AB", reports, strict=True) for line in r.edited()),
    )


# ---- a report on disk ------------------------------------------------------------------------------------------------


def _open(path: str | Path) -> _Finished:
    """What a report folder holds, or ParameterError."""
    given = Path(path)
    if not given.exists():
        raise ParameterError(f"there is no report {shown(str(path))}: give its folder or its report.html")
    folder = given if given.is_dir() else given.parent
    try:
        provenance = json.loads((folder / "provenance.json").read_bytes())
        files = {name: (folder / name).read_bytes() for name in COMPARED if (folder / name).is_file()}
    except FileNotFoundError:
        raise ParameterError(
            f"{folder} is no finished report, it holds no provenance.json: give a folder that `backgrid report` wrote"
        ) from None
    except (OSError, ValueError, RecursionError) as error:
        raise ParameterError(f"provenance.json of {folder} cannot be read: {shown(str(error))}") from error
    kinds = {"template": str, "template_sha256": str, "parameters": dict, "versions": dict}
    wrong = [name for name, kind in kinds.items() if not isinstance(provenance, dict) or name not in provenance]
    wrong = wrong or [name for name, kind in kinds.items() if not isinstance(provenance[name], kind)]
    if wrong or not isinstance(provenance.get("files", {}), dict):
        raise ParameterError(f"provenance.json of {folder} lacks {', '.join(wrong) or 'files'}: it is not as written")
    return _Finished(folder, provenance, files)


def _cells(files: Mapping[str, bytes]) -> list[dict[str, Any]]:
    """Cells of report.ipynb; none where it cannot be read."""
    try:
        cells = json.loads(files["report.ipynb"])["cells"]
        return [cell for cell in cells if isinstance(cell, dict)]
    except (KeyError, ValueError, TypeError, RecursionError):
        return []


def _tags(cell: Mapping[str, Any]) -> list[str]:
    return cell.get("metadata", {}).get("tags", [])


def _facts(result: BacktestResult | None) -> dict[str, dict[str, Any]]:
    """What the prices of each symbol said of themselves, where they were fetched."""
    if result is None:
        return {}
    by_symbol = result.data.get("symbols", {result.symbol: result.data})
    needed = {"source", "interval", "snapshot"}
    return {symbol: facts for symbol, facts in by_symbol.items() if symbol and needed <= facts.keys()}


# ---- the bars --------------------------------------------------------------------------------------------------------


def _pinned_frames(report: _Finished, result: BacktestResult | None) -> dict[Any, pd.DataFrame]:
    """Prices of every symbol from its snapshot, by the request for them; the package itself keeps the sample."""
    asked = report.provenance["parameters"]
    frames = {}
    for symbol, facts in _facts(result).items():
        if facts["source"] == "sample":
            continue
        prices = _from_snapshot(symbol, facts)
        # a template of one's own may leave the source to the settings, or have it in a cell
        for source in [asked["source"]] if "source" in asked else [None, facts["source"]]:
            key = request_key(
                symbol,
                asked.get("start"),
                asked.get("end"),
                asked.get("interval", facts["interval"]),
                str(source).replace("{symbol}", symbol) if source else None,
                asked.get("adjusted", True),
            )
            frames[key] = prices
    return frames


def _from_snapshot(symbol: str, facts: Mapping[str, Any]) -> pd.DataFrame:
    """Prices as they were fetched, with all they said of themselves; BackgridError if the snapshot is not at hand."""
    snapshot = str(facts["snapshot"])
    folder = Path(setting("BACKGRID_CACHE"))
    there = (folder / "snapshots" / f"{snapshot}.parquet").is_file()
    kept = load_snapshot(snapshot)
    if kept is None:
        aside = re.fullmatch("[0-9a-f]+", snapshot) and any((folder / "quarantine").glob(f"{snapshot}.parquet.*"))
        what = f"is damaged, and was moved to {folder / 'quarantine'}" if there or aside else "is missing"
        raise BackgridError(
            f"the snapshot {snapshot} of {symbol} {what}; put {snapshot}.parquet from where the report was made into "
            f"{folder / 'snapshots'}, or fetch these bars from {shown(facts['source'])} again: if they are still the "
            "same, that restores it"
        )
    prices = fetch_ohlcv(
        symbol, interval=facts["interval"], source=lambda *_: kept[0], adjusted=bool(facts.get("adjusted"))
    )
    prices.attrs = {"symbol": symbol, **facts}
    return prices


def _prices(report: _Finished, symbol: str, facts: Mapping[str, Any]) -> pd.DataFrame | None:
    """The bars that a report traded, None if they are not at hand."""
    asked = report.provenance["parameters"]
    try:
        if facts["source"] != "sample":
            return _from_snapshot(symbol, facts)
        wanted = {name: asked[name] for name in ("start", "end") if name in asked}
        prices = fetch_ohlcv(
            symbol, **wanted, interval=facts["interval"], source="sample", adjusted=bool(facts.get("adjusted"))
        )
    except BackgridError:
        return None
    return prices if prices.attrs["snapshot"] == facts["snapshot"] else None


def _other_data(report: _Finished, again: _Finished) -> list[str]:
    """Bars that are not those of then."""
    then, now = ({**_snapshots(r), "the traded bars": r.provenance.get("prices_hash")} for r in (report, again))
    return [
        f"data: the SHA-256 of {of} is {then.get(of)} then, {now.get(of)} now"
        for of in dict.fromkeys([*then, *now])
        if then.get(of) != now.get(of)
    ]


def _snapshots(report: _Finished) -> dict[str, Any]:
    kept = report.provenance.get("snapshot")
    if isinstance(kept, dict):
        return {f"the raw bars of {symbol}": snapshot for symbol, snapshot in kept.items()}
    return {"the raw bars": kept}


def _bars_apart(reports: tuple[_Finished, _Finished], results: tuple[Any, Any]) -> list[str]:
    """In what the bars of two reports differ, symbol by symbol."""
    a, b = _facts(results[0]), _facts(results[1])
    found = [f"{symbol} is in A only" for symbol in a if symbol not in b]
    found += [f"{symbol} is in B only" for symbol in b if symbol not in a]
    for symbol in a:
        if symbol not in b or a[symbol]["snapshot"] == b[symbol]["snapshot"]:
            continue
        frames = _prices(reports[0], symbol, a[symbol]), _prices(reports[1], symbol, b[symbol])
        if frames[0] is None or frames[1] is None:
            short = " and ".join(str(facts[symbol]["snapshot"])[:12] for facts in (a, b))
            found.append(f"{symbol}: the snapshots {short} differ; to name the first bar, both must be at hand")
        else:
            found.append(f"{symbol}: {_first_bar_apart(frames[0], frames[1])}")
    same_raw = not found and results[0] and results[1] and results[0].prices_hash != results[1].prices_hash
    return ["the same raw bars were adjusted or put together otherwise"] if same_raw else found


def _first_bar_apart(a: pd.DataFrame, b: pd.DataFrame) -> str:
    """The first bar on which two frames of prices differ, and which bars each has if these are not the same."""
    if (a.index.tz is None) != (b.index.tz is None):
        return "only one of them has a time zone"
    said = "" if a.index.equals(b.index) else f"A has {_span(a.index)}, B {_span(b.index)}; "
    common, names = a.index.intersection(b.index), [name for name in a if name in b]
    before, after = (frame.loc[common, names].to_numpy() for frame in (a, b))
    bars, columns = np.nonzero((before != after) & ~(np.isnan(before) & np.isnan(after)))
    if not bars.size:
        return f"{said}the traded prices of all {len(common):,} common bars are the same"
    at = int(bars[0]), int(columns[0])
    first = Change(names[at[1]], float(before[at]), float(after[at]))
    return f"{said}the bars differ from {bar_text(common, at[0])} on: {first}"


def _span(index: pd.Index) -> str:
    return f"{len(index):,} bars from {bar_text(index, 0)} to {bar_text(index, len(index) - 1)}"


# ---- the code --------------------------------------------------------------------------------------------------------


def _other_versions(recorded: Mapping[str, Any]) -> tuple[list[str], list[str]]:
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


def _other_strategy(report: _Finished, again: _Finished) -> list[str]:
    then, now = (r.provenance.get("strategy_sha256") for r in (report, again))
    named = report.provenance["parameters"].get("strategy") or report.provenance["parameters"].get("weights") or "it"
    return [f"the source of the strategy ({named}): SHA-256 {then} then, {now} now"] if then != now else []


def _other_package(report: _Finished, again: _Finished) -> list[str]:
    then, now = (r.provenance.get("package_sha256") for r in (report, again))
    return [f"the source of backgrid itself: SHA-256 {then} then, {now} now"] if then and then != now else []


def _template_of(report: _Finished, work: Path) -> tuple[Path, list[str]]:
    """The template of a report if it is still the same, else the report's own notebook as one; and what was found."""
    name, recorded = report.provenance["template"], report.provenance["template_sha256"]
    try:
        path = find_template(name)
        if sha256(path.read_bytes()) == recorded:
            return path, []
        said = f"the template {name} has changed"
    except ParameterError:
        said = f"the template {shown(name)} is not among the templates here"
    if Path(name).name != name or not name:
        raise ParameterError(f"provenance.json names a template {shown(name)}: it is not as written")
    own = work / f"{name}.ipynb"
    own.write_text(json.dumps(_unrun(report)), encoding="utf-8")
    return own, [f"{said}: the report's own notebook was run"]


def _unrun(report: _Finished) -> dict[str, Any]:
    """The notebook of a report as it was before it was run."""
    cells = [cell for cell in _cells(report.files) if "injected-parameters" not in _tags(cell)]
    code = [{**cell, "outputs": [], "execution_count": None} if "outputs" in cell else cell for cell in cells]
    if not code:
        raise ParameterError("report.ipynb cannot be read")
    return {**json.loads(report.files["report.ipynb"]), "cells": code}


def _given(report: _Finished, template: Path) -> dict[str, Any]:
    """The parameters to give again: those that were injected, in their order, and others that are no default."""
    recorded, declared = report.provenance["parameters"], read_parameters(template)
    other = [name for name in recorded if name not in declared or recorded[name] != declared[name].default]
    injected = [name for name in _injected(report) if name in recorded]
    return {name: recorded[name] for name in dict.fromkeys([*injected, *other])}


def _injected(report: _Finished) -> dict[str, Any]:
    """What papermill wrote into the notebook."""
    sources = ["".join(cell["source"]) for cell in _cells(report.files) if "injected-parameters" in _tags(cell)]
    try:
        lines = [line for source in sources for line in ast.parse(source).body if isinstance(line, ast.Assign)]
        return {ast.unparse(line.targets[0]): ast.literal_eval(line.value) for line in lines}
    except (ValueError, SyntaxError):
        return {}


def _contradictions(report: _Finished, template: Path) -> list[str]:
    """Parameters that the notebook was not run with."""
    ran = {name: parameter.default for name, parameter in read_parameters(template).items()} | _injected(report)
    return [
        f"parameter {name}: {_value(ran.get(name))} in report.ipynb, {_value(value)} in provenance.json"
        for name, value in report.provenance["parameters"].items()
        if name in ran and ran[name] != value
    ]


def _other_code(reports: tuple[_Finished, _Finished]) -> list[Change]:
    return _changes(*(_code_of(report.provenance) for report in reports), absent="not recorded")


def _code_of(provenance: Mapping[str, Any]) -> dict[str, Any]:
    hashes = {"template": provenance["template"], "template SHA-256": provenance["template_sha256"]}
    sources = {"source of the strategy": "strategy_sha256", "source of backgrid": "package_sha256"}
    hashes |= {f"{what} SHA-256": provenance[name] for what, name in sources.items() if provenance.get(name)}
    return {**hashes, **{f"version of {name}": v for name, v in provenance["versions"].items()}}


# ---- what came of it -------------------------------------------------------------------------------------------------


def _rerun(report: _Finished, *found: Iterable[str], further: Iterable[str] = ()) -> Rerun:
    """The first of what was found, and the rest."""
    first, *rest = [*itertools.chain(*found)] or [""]
    return Rerun(not first, first, (*rest, *further), report.folder)


def _effects(report: _Finished, again: _Finished) -> Iterator[str]:
    """The first bar of the benchmark, parameter, metric, trade, bar of the equity and place on the page that differ."""
    then, now = report.result(), again.result()
    if then and now:
        compared, metrics = then.compare(now), _metrics_apart(then.metrics, now.metrics)
        if "benchmark" in compared.data.index:  # so the bars do, on that date
            yield f"data: the benchmark is worth {_then_now(*compared.data.loc['benchmark'])}"
        for name, *values in itertools.islice(compared.parameters.itertuples(), 1):
            yield f"parameter {name}: {_then_now(*values)}"
        for name, _, *values in itertools.islice(metrics.itertuples(), 1):
            yield f"metric {name}: {_then_now(*values)}"
        if trades := _trades_apart(then.trades, now.trades, ("then", "now")):
            yield trades
        if equity := _beginning(compared.first_divergence, ("then", "now")):
            yield equity
    if page := _page_apart(report.files, again.files):
        yield page


def _then_now(then: Any, now: Any) -> str:
    return f"{_value(then)} then, {_value(now)} now"


def _metrics_apart(a: Mapping[str, float], b: Mapping[str, float]) -> pd.DataFrame:
    """Label and both values of each metric that differs; NaN is NaN, and stands for a metric that a side has not."""
    both = {name: (a.get(name, math.nan), b.get(name, math.nan)) for name in dict.fromkeys([*a, *b])}
    other = {n: v for n, v in both.items() if v[0] != v[1] and not (math.isnan(v[0]) and math.isnan(v[1]))}
    columns = {
        "label": [METRICS[name].label if name in METRICS else name for name in other],
        "a": [float(a) for a, _ in other.values()],
        "b": [float(b) for _, b in other.values()],
    }
    return pd.DataFrame(columns, index=pd.Index(other, name="metric", dtype=object))


def _metric_row(name: str, label: str, a: float, b: float) -> tuple[str, str, str]:
    """As a page shows them, with more digits where they would look the same."""
    unit = METRICS[name].unit if name in METRICS else "ratio"
    texts, digits = (format_value(a, unit), format_value(b, unit)), 4
    while texts[0] == texts[1] and digits <= EXACT_DIGITS:
        texts, digits = (f"{a:.{digits}g}", f"{b:.{digits}g}"), digits + 1
    return label, *texts


def _trades_apart(a: pd.DataFrame, b: pd.DataFrame, sides: tuple[str, str]) -> str:
    """The first trade that differs and its first column that does, and how many there are."""
    counts = "" if len(a) == len(b) else f"{len(a):,} trades {sides[0]}, {len(b):,} {sides[1]}"
    n_both, names = min(len(a), len(b)), [name for name in a if name in b]
    rows = (table[names].itertuples(index=False) for table in (a, b))
    for at, (ours, theirs) in enumerate(zip(*rows, strict=False)):
        for name, *values in zip(names, ours, theirs, strict=True):
            if values[0] != values[1]:
                texts = (f"{_value(value)} {side}" for value, side in zip(values, sides, strict=True))
                return f"trade {at + 1:,}, {name}: {', '.join(texts)}{counts and f' ({counts})'}"
    return f"{counts}; the first {n_both:,} are the same" if counts else ""


def _beginning(divergence: Any, sides: tuple[str, str]) -> str:
    """The first bar on which two runs differ."""
    if divergence is None:
        return ""
    values = ("no bar" if value is None else _value(value) for value in (divergence.ours, divergence.theirs))
    texts = ", ".join(f"{value} {side}" for value, side in zip(values, sides, strict=True))
    return f"{divergence.what} of bar {divergence.bar:,}, {_value(divergence.time)}: {texts}"


def _page_apart(a: Mapping[str, bytes], b: Mapping[str, bytes]) -> str:
    """The first cell of the notebooks that differs, or the first line of the pages."""
    heading = ""
    for at, (ours, theirs) in enumerate(itertools.zip_longest(_cells(a), _cells(b))):
        if ours is None or theirs is None:
            return f"report.ipynb has {len(_cells(a))} cells and {len(_cells(b))} cells"
        if found := re.match(r"#+ (.*)", "".join(ours.get("source", ""))):
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


def _other_parameters(reports: tuple[_Finished, _Finished], results: tuple[Any, Any]) -> list[Change]:
    """Parameters that differ; one that was left open counts as what the run took for it."""
    return _changes(*itertools.starmap(_settled, zip(reports, results, strict=True)), absent="absent")


def _changes(a: Mapping[str, Any], b: Mapping[str, Any], *, absent: str) -> list[Change]:
    """What has another value in each; `absent` where a side has none."""
    known = dict.fromkeys([*a, *b])
    return [Change(name, a.get(name, absent), b.get(name, absent)) for name in known if a.get(name) != b.get(name)]


def _settled(report: _Finished, result: BacktestResult | None) -> dict[str, Any]:
    took = {**result.settings, **result.params} if result else {}
    return {n: took.get(n) if value is None else value for n, value in report.provenance["parameters"].items()}


def _cause(numbers: list[str], page: str, declared: list[Change], data: list[str], code: list[Change]) -> str:
    """Why the first of these numbers differ; or, where none does, what does."""
    reasons = [str(change) for change in declared]
    if not any(change.label in OF_DATA for change in declared):  # else the request tells why the bars are others
        reasons = [*data, *reasons]
    reasons = reasons or [_in_words(change) for change in code]
    left = len(reasons) - MOST_REASONS
    told = [*reasons[:MOST_REASONS], *([f"{left} more"] if left > 0 else [])]
    why = " and ".join([", ".join(told[:-1]), told[-1]] if len(told) > 1 else told)
    if numbers:
        return f"{numbers[0]} because {why}" if why else f"{numbers[0]}, for a reason that neither report records"
    if why:
        return f"the numbers are the same, though {why}"
    return f"the numbers are the same, and {page}" if page else "nothing differs"


def _in_words(change: Change) -> str:
    if "SHA-256" in change.label:
        return f"the {change.label.removesuffix(' SHA-256')} has changed"
    return str(change)


def _value(value: Any) -> str:
    """A value as it is written, shortened only where it is very long."""
    if isinstance(value, pd.Timestamp):
        return bar_text(pd.DatetimeIndex([value]), 0)
    if isinstance(value, np.generic):
        value = value.item()
    text = value if isinstance(value, str) else repr(value)
    return " ".join(text.split()) if text and len(text) <= 80 else shown(value)


def _aligned(rows: list[tuple[str, str, str]]) -> list[str]:
    """Lines of a table, the first one its head."""
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    lines = [f"{a:>{widths[1]}}  {b:>{widths[2]}}" for _, a, b in rows]
    indents = ["", *["  "] * (len(rows) - 1)]
    labels = [f"{indent + row[0]:{widths[0] + 2}}" for indent, row in zip(indents, rows, strict=True)]
    return [f"{label}  {line}" for label, line in zip(labels, lines, strict=True)]
