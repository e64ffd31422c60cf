"""Batches: a table of parameters becomes a folder of reports and one index.

Each worker is a process that stays warm, with a process on standby from which it forks a clean kernel for each report.
A report that fails, a kernel that dies, and a worker that is killed cost their own row and no other.
"""

import concurrent.futures
import contextlib
import dataclasses
import html
import itertools
import json
import logging
import os
import re
import signal
import subprocess
import sys
import threading
import time
import traceback
import uuid
from collections.abc import Callable, Generator, Iterator
from multiprocessing.connection import Connection, Pipe, wait
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pandas as pd
from tqdm import tqdm

from backgrid import standby
from backgrid.batch_luck import compared_places, track_of
from backgrid.batch_page import index_page
from backgrid.batch_runs import COLOURS, Run, index_rows, index_table
from backgrid.batch_table import Job, read_jobs
from backgrid.data import pinned, pins
from backgrid.errors import BackgridError, ParameterError, ReportError, shown
from backgrid.report import (
    check_timeout,
    folder_of,
    is_finished,
    load_tools,
    make_report,
    plan_report,
    remove_stale,
    working_folder,
    writing,
)
from backgrid.result import VERDICTS_TYPE, BacktestResult
from backgrid.search import n_threads
from backgrid.templates import CELL_FILE

log = logging.getLogger("backgrid")

CELL_TIMEOUT = 3600.0  # [seconds]
LONGEST_MESSAGE, LONGEST_TRACEBACK = 2_000, 50_000  # of an error [characters]
MOST_PRICES = 64  # requests whose prices a worker keeps
ENDING = 5.0  # that workers may take to end what they have begun [seconds]
ADDRESSES = re.compile(rf"{CELL_FILE}|\b0x[0-9a-f]{{6,}}\b")  # what differs from run to run

Outcome = dict[str, Any]  # the fields of a Run that are not in the table


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class BatchResult:
    """What a batch gives back.

    Attributes
    ----------
    path : Path
        The folder of reports, with index.html, index.json and index.csv.
    runs : tuple of Run
        One a row of the table, in its order; their `row` counts from 1, as the index and error messages do.
    """

    path: Path
    runs: tuple[Run, ...]

    @property
    def index(self) -> Path:
        """index.html."""
        return self.path / "index.html"

    @property
    def failed(self) -> tuple[Run, ...]:
        """The runs that failed, each with its error."""
        return tuple(run for run in self.runs if run.error)

    @property
    def table(self) -> pd.DataFrame:
        """One line a run: its parameters, metrics and error."""
        return index_table(self.runs)

    def __repr__(self) -> str:
        return f"<BatchResult {self._headline()}>"

    def _headline(self) -> str:
        return f"{len(self.runs):,} reports, {len(self.failed):,} failed: {self.index}"

    def _repr_html_(self) -> str:
        table = self.table.to_html(max_rows=10, float_format="{:.4g}".format, na_rep="", notebook=True)
        return f"<p>{html.escape(self._headline())}</p>{table}"


def run_batch(
    table: Any,
    *,
    out: str | Path | None = None,
    workers: int | None = None,
    executor: concurrent.futures.Executor | None = None,
    resume: bool = True,
    cell_timeout: float | None = CELL_TIMEOUT,
) -> BatchResult:
    """Make a report of each row of a table, and one index of all.

    Parameters
    ----------
    table : DataFrame, list of dicts, dict, or path
        One row a report: values by parameter, and `template` where it is not report_backtest. A dict of lists is a
        grid: all combinations. A path ends in .csv, .yml, .yaml or .json.
    out : path, optional
        Folder to write to, BACKGRID_REPORTS if not given: the folders that `run_report` writes, and index.html,
        index.json and index.csv.
    workers : int, optional
        Processes that make reports; one a core if not given.
    executor : concurrent.futures.Executor, optional
        Where reports are made instead, such as a Dask client's; its workers must see the same folders.
    resume : bool, default True
        Leave reports as they are that were made before from the same request, prices, template, strategy and package.
        Modules of one's own that a notebook imports are not looked at.
    cell_timeout : float, optional
        Longest that a cell may run; None for no limit. [seconds]

    Returns
    -------
    BatchResult
        Rows whose report failed have an `error`; it does not raise for them.

    Raises
    ------
    ParameterError
        For a table that cannot be read, names what there is not or gives a value of another type; before any report
        is made.
    ReportError
        Where the index cannot be written.
    """
    check_timeout(cell_timeout)
    if workers is not None and (isinstance(workers, bool) or not isinstance(workers, int) or workers < 1):
        raise ParameterError(f"workers must be a whole number of at least 1, got {shown(workers)}")
    if executor is not None and not isinstance(executor, concurrent.futures.Executor):
        raise ParameterError(f"executor must be a concurrent.futures.Executor, got {shown(executor)}")
    jobs, folder = read_jobs(table), folder_of(out)
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        remove_stale(folder)
    places = _places(jobs)
    terms = (folder.resolve(), resume, cell_timeout, uuid.uuid4().hex)
    todo = [(rows[0], jobs[rows[0]], *terms) for rows in places.values()]
    made = _by_executor(todo, executor) if executor else _by_workers(todo, min(workers or n_threads(), len(todo)))
    outcomes: dict[int, Outcome] = {}
    compared = {todo[place][0] for place in compared_places(len(todo))}
    with _progress(len(todo)) as tell, contextlib.closing(made):
        for row, outcome in made:
            if outcome["track"] and row not in compared:
                outcome["track"] = outcome["track"].without_returns()
            outcomes[row] = outcome
            tell(outcome)
    first = {row: rows[0] for rows in places.values() for row in rows}
    runs = tuple(Run(row + 1, *job, **outcomes[first[row]]) for row, job in enumerate(jobs))
    _write_index(runs, folder)
    return BatchResult(folder, runs)


def _places(jobs: list[Job]) -> dict[str, list[int]]:
    """Rows by what they ask for: what stands twice is made once."""
    found: dict[str, list[int]] = {}
    for row, job in enumerate(jobs):
        found.setdefault(json.dumps(job, sort_keys=True), []).append(row)
    return found


def _write_index(runs: tuple[Run, ...], folder: Path) -> None:
    """index.json, index.csv and index.html, each put in its place whole."""
    files = {
        "index.json": json.dumps(index_rows(runs), indent=1, allow_nan=False) + "\n",
        "index.csv": index_table(runs).to_csv(index=False, lineterminator="\n"),
        "index.html": index_page(runs),
    }
    with writing(folder), working_folder(folder) as work:
        for name, text in files.items():
            (work / name).write_text(text, encoding="utf-8")
        for name in files:
            os.replace(work / name, folder / name)


@contextlib.contextmanager
def _progress(total: int) -> Iterator[Callable[[Outcome], None]]:
    """One bar where a person looks on; elsewhere one line a report is logged, which the command shows."""
    watched, numbers = sys.stderr.isatty() or "JPY_SESSION_NAME" in os.environ, itertools.count(1)
    with tqdm(total=total, unit="report", leave=False, disable=not watched) as bar:

        def tell(outcome: Outcome) -> None:
            bar.update()
            error, number = outcome["error"], next(numbers)
            said = f"failed: {error['class']}: {' '.join(error['message'].split())[:200]}" if error else ""
            if watched and error:
                bar.write(said, file=sys.stderr)
            elif not watched:
                log.info("%d/%d %s", number, total, said or outcome["folder"])

        yield tell


# ---- one report ------------------------------------------------------------------------------------------------------

_prices: dict[str, dict[Any, pd.DataFrame]] = {}  # of this worker, by batch and request; of the last batch only


def make_row(
    row: int, job: Job, out: Path, resume: bool, cell_timeout: float | None, batch: str
) -> tuple[int, Outcome]:
    """Make the report of a row, or find it made; whatever goes wrong is its outcome."""
    standby.keep()
    plan = None
    try:
        if batch not in _prices:
            _prices.clear()
        kept = _prices.setdefault(batch, {})
        frames, only = pins()
        with pinned({**kept, **frames}, only=only):
            plan = plan_report(job.template, job.parameters)
            kept.update(plan.frames)
            for key in list(kept)[:-MOST_PRICES]:
                kept.pop(key, None)
            if not (resume and is_finished(plan, out / plan.name)):
                with standby.waiting() as process:
                    make_report(plan, out, process, cell_timeout)
        return row, _outcome(out / plan.name)
    except Exception as error:
        failed = f"{plan.name}.failed" if plan else ""
        return row, _failure(error, failed if failed and (out / failed).is_dir() else "", out)


def _outcome(folder: Path) -> Outcome:
    """What a finished report says."""
    found: Outcome = {"folder": folder.name, "error": None, "symbol": "", "strategy": "", "metrics": {}, "track": None}
    recorded = (folder / "result.json").read_text(encoding="utf-8")
    if json.loads(recorded) is not None:
        result = BacktestResult.from_json(recorded)
        about = {"symbol": result.symbol, "strategy": result.strategy, "metrics": dict(result.metrics)}
        found |= {**about, "track": track_of(result.equity, result.settings["periods_per_year"])}
    notebook = json.loads((folder / "report.ipynb").read_text(encoding="utf-8"))
    outputs = [output for cell in notebook["cells"] for output in cell.get("outputs", [])]
    told = [output["data"][VERDICTS_TYPE] for output in outputs if VERDICTS_TYPE in output.get("data", {})]
    return {**found, "verdicts": told[0] if told else []}


def _failure(error: Exception, folder: str = "", out: Path | None = None) -> Outcome:
    """What went wrong: in the notebook, with the traceback there; else in the request, or on the way.

    folder  of what ran, in `out`
    """
    cause = error.__cause__
    if ended := getattr(cause, "ename", ""):
        lines = "\n".join(cause.traceback)[-LONGEST_TRACEBACK:]  # type: ignore[union-attr]
        told = {"class": ended, "message": cause.evalue[:LONGEST_MESSAGE], "traceback": lines}  # type: ignore[union-attr]
    elif isinstance(error, BackgridError):
        told = {"class": type(error).__name__, "message": str(error), "traceback": ""}
    else:
        told = {"class": type(error).__name__, "message": str(error), "traceback": traceback.format_exc()}
    told = {name: ADDRESSES.sub("…", COLOURS.sub("", text)) for name, text in told.items()}
    if out:  # the same wherever it is
        told = {name: text.replace(f"{out}{os.sep}", "") for name, text in told.items()}
    nothing: Outcome = {"symbol": "", "strategy": "", "metrics": {}, "verdicts": [], "track": None}
    return {"folder": folder, "error": told, **nothing}


# ---- by whom ---------------------------------------------------------------------------------------------------------


def _by_executor(
    todo: list[tuple], executor: concurrent.futures.Executor
) -> Generator[tuple[int, Outcome], None, None]:
    """Rows as an executor finishes them."""
    waiting = {_submit(executor, task): task[0] for task in todo}
    try:
        for future in concurrent.futures.as_completed(waiting):
            try:
                yield future.result()
            except Exception as error:  # of the executor: its worker died, or is not to be reached
                yield waiting[future], _failure(error)
    finally:
        for future in waiting:
            future.cancel()


def _submit(executor: concurrent.futures.Executor, task: tuple) -> concurrent.futures.Future:
    try:
        return executor.submit(make_row, *task)
    except Exception as error:  # it broke by an earlier task
        refused: concurrent.futures.Future = concurrent.futures.Future()
        refused.set_exception(error)
        return refused


class _Worker:
    """A process that makes one report after the other. It ends with this process."""

    def __init__(self) -> None:
        self.line, theirs = Pipe()
        self.row, self.died = 0, False
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-m", "backgrid.batch", str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                start_new_session=True,  # Ctrl-C is for the process that leads
            )

    def give(self, task: tuple) -> None:
        self.row = task[0]
        with contextlib.suppress(OSError):  # it has died, which `taken` tells
            self.line.send(task)

    def taken(self) -> tuple[int, Outcome]:
        """What became of its row."""
        try:
            return self.line.recv()
        except (EOFError, OSError):
            self.died = True
            code = self.process.wait()
            return self.row, _failure(ReportError(f"the process that made it ended with exit code {code}"))

    def end(self, ends_by: float) -> None:
        try:
            self.process.wait(max(ends_by - time.monotonic(), 0.0))
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def _by_workers(todo: list[tuple], n_workers: int) -> Generator[tuple[int, Outcome], None, None]:
    """Rows as workers finish them; where one dies another goes on."""
    left, workers = iter(todo), [_Worker() for _ in range(n_workers)]
    busy: dict[Any, _Worker] = {}
    try:
        for worker, task in zip(workers, left, strict=False):
            worker.give(task)
            busy[worker.line] = worker
        while busy:
            for line in wait(list(busy)):
                worker = busy.pop(line)
                yield worker.taken()
                if (task := next(left, ())) == ():
                    continue
                if worker.died:
                    worker = _Worker()
                    workers.append(worker)
                worker.give(task)
                busy[worker.line] = worker
    finally:
        for worker in workers:
            worker.line.close()  # which ends it
        ends_by = time.monotonic() + ENDING
        for worker in workers:
            worker.end(ends_by)


def _work(line: Connection) -> None:
    """Be a worker: one task after the other, until nobody gives any."""
    tasks: SimpleQueue[tuple] = SimpleQueue()

    def listen() -> None:
        with contextlib.suppress(EOFError, OSError):
            while True:
                tasks.put(line.recv())
        os.kill(os.getpid(), signal.SIGTERM)  # also within a report, which then removes what it has begun
        time.sleep(ENDING / 2)
        os._exit(1)

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    threading.Thread(target=listen, daemon=True).start()
    with contextlib.suppress(SystemExit, OSError), standby.ahead():
        load_tools()
        while True:
            line.send(make_row(*tasks.get()))
    os._exit(1)


if __name__ == "__main__":
    _work(Connection(int(sys.argv[1])))
