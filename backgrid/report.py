"""Reports: a template executed by papermill becomes a folder with a notebook, one HTML file, and the result as JSON.

The same request gives the same folder and the same bytes of report.ipynb, report.html and result.json: whatever the
tools write about clocks, paths and ids is taken out, and only run_log.json tells when and how long.
"""

import contextlib
import datetime as dt
import fcntl
import functools
import hashlib
import html
import importlib
import importlib.metadata
import inspect
import json
import os
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Set
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from backgrid import standby
from backgrid.cache import note_reports
from backgrid.data import fetch_many, fetch_ohlcv, noting_prices, pins
from backgrid.engine import run_backtest
from backgrid.errors import BackgridError, ParameterError, ReportError, TooFewBarsError, shown
from backgrid.grid import run_grid
from backgrid.grid_page import check_grid, plain_grid, read_grid
from backgrid.ledger import count_trials, is_kept, record_trials
from backgrid.models import BacktestRequest, build_request
from backgrid.overfit import check_draws
from backgrid.page import versions
from backgrid.portfolio import run_portfolio
from backgrid.result import RESULT_TYPE, BacktestResult
from backgrid.run import backtest_request
from backgrid.settings import setting
from backgrid.space import Space
from backgrid.strategies import STRATEGIES, get_strategy, select_params, strategy_defaults
from backgrid.templates import Parameter, check_parameters, find_template, read_parameters
from backgrid.walkforward_page import check_folds
from backgrid.weightings import WEIGHTINGS, get_weighting, read_weights, select_weighting_params

MOST_REFUSED = 1000  # combinations of a sweep that are tried in search of one that is not refused
ABOUT = ("symbol", "symbols", "strategy", "weights")  # parameters that name a report


class Report(NamedTuple):
    """A finished report.

    Attributes
    ----------
    path : Path
        Its folder.
    html : Path
        report.html in it.
    result : BacktestResult or None
        What its notebook recorded; None for a template that records none.
    """

    path: Path
    html: Path
    result: BacktestResult | None

    def _repr_html_(self) -> str:
        """A link to the page, and the result."""
        page = html.escape(self.html.as_posix(), quote=True)
        shown_result = self.result._repr_html_() if self.result else ""
        return f"<p>Report: <a href='{page}' target='_blank'>{page}</a></p>{shown_result}"


class Plan(NamedTuple):
    """A report that is to be made: its request has been found good.

    template  path of the notebook
    complete  all parameters, as they are written in one way only
    given     those to inject
    frames    prices that the request was tried on, by `backgrid.data.request_key`
    """

    template: Path
    complete: dict[str, Any]
    given: dict[str, Any]
    frames: Mapping[Any, pd.DataFrame]

    @property
    def name(self) -> str:
        """Of its folder: the same for the same request."""
        content = sha256(self.template.read_bytes())
        key = json.dumps([self.template.stem, content, self.complete, sorted(self.given)], sort_keys=True)
        about = [str(self.complete[name])[:40] for name in ABOUT if self.complete.get(name)] or [self.template.stem]
        named = re.sub(r"[^A-Za-z0-9^=.-]+", "_", "_".join(about))[:60].lstrip(".")
        return f"{named}_{sha256(key.encode())[:10]}"


def run_report(
    template: str | Path = "report_backtest",
    parameters: Mapping[str, Any] | None = None,
    *,
    out: str | Path | None = None,
    cell_timeout: float | None = None,
) -> Report:
    """Execute a template and write its report.

    Parameters
    ----------
    template : str or path
        Name of a template in the working folder's notebooks/ or in the package, or the path of a notebook.
    parameters : dict, optional
        Values for the names that its parameters cell declares; its defaults for the rest.
    out : path, optional
        Folder to write to, BACKGRID_REPORTS if not given. The report becomes <symbol>_<strategy>_<hash>/ in it, or
        <symbols>_<weights>_<hash>/, with report.ipynb, report.html, result.json, provenance.json and run_log.json.
    cell_timeout : float, optional
        Longest that a cell may run; no limit if not given. [seconds]

    Returns
    -------
    Report

    Raises
    ------
    ParameterError, DataFetchError, PricesError
        For a request that cannot be run: before a kernel starts, and with nothing written.
    ReportError
        If the notebook fails, runs too long, gives too much output, or its kernel dies; the partial notebook is then
        in <folder>.failed/.
    """
    check_timeout(cell_timeout)
    path = find_template(template)
    read_parameters(path)
    with standby.waiting() as process:
        return make_report(plan_report(path, parameters), folder_of(out), process, cell_timeout)


def check_timeout(cell_timeout: float | None) -> None:
    """ParameterError unless it is a number of seconds above 0, or None."""
    if cell_timeout is None:
        return
    if isinstance(cell_timeout, bool) or not isinstance(cell_timeout, (int, float)) or not 0.0 < cell_timeout < 1e9:
        raise ParameterError(f"cell_timeout must be seconds above 0, got {shown(cell_timeout)}")


def folder_of(out: str | Path | None) -> Path:
    """Where reports go."""
    return Path(out if out is not None else setting("BACKGRID_REPORTS"))


def plan_report(template: str | Path, parameters: Mapping[str, Any] | None = None) -> Plan:
    """Try the request without a notebook: whatever is wrong with it shows here, in milliseconds.

    Raises
    ------
    ParameterError, DataFetchError, PricesError
        As `run_report`.
    """
    path = find_template(template)
    declared = read_parameters(path)
    given = check_parameters(declared, parameters or {})
    complete = {name: given.get(name, parameter.default) for name, parameter in declared.items()}
    with noting_prices() as frames:
        upper: dict[str, Any] = {}  # the same request, however its symbols, weights and grid are written
        if {"symbol", "strategy", "grid"} <= set(declared) and declared["grid"].type == "str":
            upper = _preflight_grid(complete)
        elif {"symbol", "strategy"} <= set(declared):
            upper = _preflight_backtest(declared, complete)
        elif {"symbols", "weights"} <= set(declared) and declared["weights"].type == "str":
            upper = _preflight_portfolio(declared, complete)
        elif {"symbol", "source"} <= set(declared):
            _note_prices(complete)
    complete.update(upper)
    given.update({name: value for name, value in upper.items() if name in given or value != declared[name].default})
    in_order = {name: given[name] for name in declared if name in given}  # the same bytes, however they are listed
    return Plan(path, complete, in_order, frames)


def make_report(plan: Plan, out: Path, process: standby.Standby, cell_timeout: float | None = None) -> Report:
    """Execute what is planned, and write its folder into `out`."""
    folder = out / plan.name
    with writing(folder):
        out.mkdir(parents=True, exist_ok=True)
        note_reports(out)
        with working_folder(out) as work:
            return _run(plan, folder, work, process, cell_timeout)


@contextlib.contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Within it, an error of the disk is a ReportError that names the folder."""
    try:
        yield
    except OSError as error:
        raise ReportError(f"cannot write {folder}: {error}. Free space, or give another folder.") from error


@contextlib.contextmanager
def working_folder(out: Path) -> Iterator[Path]:
    """A folder in `out` that is gone afterwards; locked, so that `remove_stale` knows it is in use."""
    with tempfile.TemporaryDirectory(prefix=".run-", dir=out) as work:
        lock = os.open(work, os.O_RDONLY)
        try:
            with contextlib.suppress(OSError):  # a file system without locks
                fcntl.flock(lock, fcntl.LOCK_EX)
            yield Path(work)
        finally:
            os.close(lock)


def remove_stale(out: Path) -> None:
    """Remove the working folders that killed processes have left in `out`."""
    for work in out.glob(".run-*"):
        with contextlib.suppress(OSError):  # in use, or gone
            if time.time() - work.stat().st_mtime > 1.0:  # one that is new may not be locked yet
                lock = os.open(work, os.O_RDONLY)
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    shutil.rmtree(work, ignore_errors=True)
                finally:
                    os.close(lock)


# ---- from request to folder ------------------------------------------------------------------------------------------


def _preflight_backtest(declared: Mapping[str, Parameter], complete: Mapping[str, Any]) -> dict[str, Any]:
    """Run the request without a notebook: whatever is wrong with it shows here, in milliseconds.

    That is one trial, and noted as such; gives the symbol as it is written, and the number of trials as a number.
    """
    fields = {name: value for name, value in complete.items() if name in BacktestRequest.model_fields}
    request = build_request(**fields)
    own = strategy_defaults(get_strategy(request.strategy.value)).keys()
    params = select_params(request.strategy.value, **_offered(declared, complete, own, STRATEGIES, fields.keys()))
    result = backtest_request(request.model_copy(update={"params": {**params, **request.params}}))
    upper: dict[str, Any] = {"symbol": request.symbol}
    if is_kept():
        tried = {"params": result.params, "settings": result.settings}
        about = {"data": result.prices_hash, "strategy": result.strategy}
        record_trials(**about, request=tried, n_trials=1, kind="report", symbol=request.symbol)
    if "n_trials" in complete:
        upper["n_trials"] = _n_trials(complete["n_trials"], result)
    return upper


def _n_trials(asked: Any, result: BacktestResult) -> int:
    """What to deflate by, as a number: what the ledger counts, where that is asked for."""
    if asked == "ledger":
        return max(count_trials(data=result.prices_hash, strategy=result.strategy), 1)
    if isinstance(asked, str) or asked < 1:
        raise ParameterError(f"n_trials must be 'ledger' or a whole number of at least 1, got {shown(asked)}")
    return asked


def _preflight_grid(complete: Mapping[str, Any]) -> dict[str, Any]:
    """Try one combination of a sweep, and the windows of a walk-forward.

    Gives what is written in one way only, and the number of trials as a number.
    """
    request = build_request(**{name: value for name, value in complete.items() if name in BacktestRequest.model_fields})
    grid, where, n_trials = plain_grid(complete["grid"]), complete.get("where"), complete.get("n_trials")
    space, numbers = check_grid(grid, where, request.strategy.value)
    asked = inspect.signature(fetch_ohlcv).parameters.keys()
    prices = fetch_ohlcv(**{name: value for name, value in request.model_dump().items() if name in asked})
    _try_one(prices, request, space, numbers)
    if {"train", "test"} <= complete.keys():
        asked = inspect.signature(check_folds).parameters.keys()
        check_folds(len(prices), **{name: complete[name] for name in asked if name in complete})
    check_draws(complete.get("n_boot", 1), complete.get("seed", 0))
    if n_trials is not None and (isinstance(n_trials, str) or n_trials < numbers.size):  # it needs their exact number
        terms = {"where": where, "metrics": ["sharpe"], **request.terms()}
        n_trials = run_grid(prices, request.strategy.value, read_grid(grid), **terms).deflate_by(n_trials)
    plain = {"symbol": request.symbol, "grid": grid, "n_trials": n_trials}
    return {name: value for name, value in plain.items() if name in complete}


def _try_one(prices: pd.DataFrame, request: BacktestRequest, space: Space, numbers: np.ndarray) -> None:
    """Run the first combination that is not refused; of very many, some are tried."""
    some = numbers[:: -(-numbers.size // MOST_REFUSED)]
    refused = None
    for code in space.codes(some):
        try:
            run_backtest(prices, request.strategy.value, params=space.params(code), **request.terms())
            return
        except (ParameterError, TooFewBarsError) as error:
            refused = refused or error
    if some.size == numbers.size:
        raise ParameterError(f"every combination is refused; the first says: {refused}") from refused


def _preflight_portfolio(declared: Mapping[str, Parameter], complete: Mapping[str, Any]) -> dict[str, str]:
    """Run the request of a portfolio without a notebook; gives its symbols and weights as they are written."""
    weights = read_weights(complete["weights"])
    asked = {name: complete[name] for name in inspect.signature(fetch_many).parameters if name in complete}
    prices = fetch_many(**asked)
    own = strategy_defaults(get_weighting(weights)).keys() if isinstance(weights, str) else set()
    params = select_weighting_params(weights, **_offered(declared, complete, own, WEIGHTINGS))
    taken = inspect.signature(run_portfolio).parameters.keys() - {"prices_by_symbol", "params", "benchmark", "weights"}
    terms = {name: complete[name] for name in complete if name in taken}
    run_portfolio(prices, weights, params=params, **terms)
    if not isinstance(weights, str):
        weights = ", ".join(f"{symbol} {weight!r}" for symbol, weight in weights.items())
    return {"symbols": " ".join(prices), "weights": weights}


def _note_prices(complete: Mapping[str, Any]) -> None:
    """Fetch what a notebook of one's own asks for, to read it once for many; what cannot be had it says itself."""
    asked = {name: complete[name] for name in inspect.signature(fetch_ohlcv).parameters if name in complete}
    with contextlib.suppress(BackgridError):
        fetch_ohlcv(**asked)


def _offered(
    declared: Mapping[str, Parameter],
    complete: Mapping[str, Any],
    own: Set[str],
    registry: Mapping[str, Callable],
    taken: Set[str] = frozenset(),
) -> dict[str, Any]:
    """Parameters of the chosen function, and of others where the template leaves them open; the rest are its own."""
    of_any = set().union(*map(strategy_defaults, registry.values())) - taken
    left_open = {name for name in of_any & declared.keys() if declared[name].default is None}
    return {name: value for name, value in complete.items() if name in own or name in left_open}


def _run(plan: Plan, folder: Path, work: Path, process: standby.Standby, cell_timeout: float | None) -> Report:
    tools = load_tools()
    started, clock = dt.datetime.now(dt.UTC), time.perf_counter()
    partial = work / "partial.ipynb"
    held, only = pins()
    try:
        notebook, read = tools.execute_notebook(
            plan.template, partial, plan.given, process, {**held, **plan.frames}, only, cell_timeout=cell_timeout
        )
    except ReportError as error:
        failed = folder.with_name(f"{folder.name}.failed")
        _keep_failed(failed, partial, str(error))
        raise ReportError(f"{error}. What ran is in {failed / 'report.ipynb'}") from error.__cause__
    recorded = _recorded(notebook)
    complete = plan.complete
    notebook.metadata["title"] = (
        " ".join(str(complete[name]) for name in ABOUT if name in complete) or plan.template.stem
    )
    files = {
        "result.json": (recorded or "null") + "\n",
        "report.ipynb": tools.nbformat.writes(notebook) + "\n",
        "report.html": tools.render_html(notebook),
    }
    provenance = _provenance(plan, recorded, read)
    provenance["files"] = {name: sha256(text.encode()) for name, text in sorted(files.items())}
    files["run_log.json"] = json.dumps({"started": started.isoformat(), "seconds": time.perf_counter() - clock}) + "\n"
    files["provenance.json"] = json.dumps(provenance, indent=2) + "\n"
    _put(files, work / "whole", folder)
    shutil.rmtree(folder.with_name(f"{folder.name}.failed"), ignore_errors=True)
    return Report(folder, folder / "report.html", BacktestResult.from_json(recorded) if recorded else None)


def _put(files: Mapping[str, str], whole: Path, folder: Path) -> None:
    """Write these files into a folder: at once where it is new, else one by one, provenance.json last."""
    whole.mkdir()
    for name, text in files.items():
        (whole / name).write_text(text, encoding="utf-8")
    if not folder.exists():
        with contextlib.suppress(OSError):  # another process was quicker
            os.rename(whole, folder)
            return
    folder.mkdir(exist_ok=True)
    for name in files:
        os.replace(whole / name, folder / name)


def is_finished(plan: Plan, folder: Path) -> bool:
    """Whether a folder holds this report whole, made from the same prices by the same code."""
    try:
        noted = json.loads((folder / "provenance.json").read_text(encoding="utf-8"))
        expected = {**_code(plan.template, plan.complete), "parameters": plan.complete}
        snapshots = {frame.attrs.get("snapshot") for frame in plan.frames.values()}
        kept = noted["snapshot"]
        same = all(noted[name] == value for name, value in expected.items() if value is not None)
        same = same and (not snapshots or snapshots == set(kept.values() if isinstance(kept, dict) else [kept]))
        return same and all(sha256((folder / name).read_bytes()) == sha for name, sha in noted["files"].items())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def load_tools() -> ModuleType:
    """`backgrid.notebook`, imported without rfc3987_syntax.

    jsonschema, behind nbformat, looks for that package to check a format which notebooks do not have, and its import
    compiles a grammar for 0.9 s: a quarter of a report.
    """
    missing = "rfc3987_syntax" not in sys.modules
    if missing:
        sys.modules["rfc3987_syntax"] = None  # type: ignore[assignment]  # makes its import fail at once
    try:
        return importlib.import_module("backgrid.notebook")
    finally:
        if missing:
            del sys.modules["rfc3987_syntax"]


def _recorded(notebook: Any) -> str | None:
    """The result that the notebook recorded last."""
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    found = [output["data"][RESULT_TYPE] for output in outputs if RESULT_TYPE in output.get("data", {})]
    return "".join(found[-1]) if found else None


def _provenance(plan: Plan, recorded: str | None, read: list[dict[str, Any]]) -> dict[str, Any]:
    """Everything that determines the report."""
    path, complete = plan.template, plan.complete
    result = json.loads(recorded) if recorded else {}
    data = result.get("data", {})
    symbols = data.get("symbols", {})
    snapshot = {of: facts.get("snapshot") for of, facts in symbols.items()} if symbols else data.get("snapshot")
    fetched = {key[0]: frame.attrs["snapshot"] for key, frame in plan.frames.items()}  # where no result says
    code = _code(path, complete)
    return {
        "template": path.stem,
        "template_sha256": code.pop("template_sha256"),
        "parameters": complete,
        "snapshot": snapshot or fetched or None,
        "prices_hash": result.get("prices_hash"),
        "prices": read,
        **code,
    }


def _code(path: Path, complete: Mapping[str, Any]) -> dict[str, Any]:
    """What a report is made by: hashes of its template, strategy and this package, and versions."""
    named = str(complete.get("strategy") or complete.get("weights"))
    strategy = STRATEGIES.get(named) or WEIGHTINGS.get(named)
    requirements = importlib.metadata.requires("backgrid") or []
    names = sorted({re.split(r"[^A-Za-z0-9_-]", line)[0] for line in requirements if "extra ==" not in line})
    return {
        "template_sha256": sha256(path.read_bytes()),
        "strategy_sha256": sha256(inspect.getsource(strategy).encode()) if strategy else None,
        "package_sha256": _package_hash(),
        "versions": {**versions(), **{name: importlib.metadata.version(name) for name in names}},
    }


@functools.cache
def _package_hash() -> str:
    """SHA-256 of all source files of this package."""
    found = hashlib.sha256()
    for path in sorted(Path(__file__).parent.rglob("*")):
        if path.suffix in (".py", ".css", ".js", ".j2"):
            found.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return found.hexdigest()


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _keep_failed(failed: Path, partial: Path, message: str) -> None:
    failed.mkdir(parents=True, exist_ok=True)
    if partial.is_file():
        os.replace(partial, failed / "report.ipynb")
    (failed / "error.txt").write_text(message + "\n", encoding="utf-8")
