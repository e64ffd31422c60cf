"""A claimed job run: by the service itself, or by a worker. Whatever becomes of it is written once."""

import contextlib
import functools
import logging
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import sqlalchemy as sa

from backgrid.cache import mark_entry
from backgrid.data import Key, fetch_ohlcv, pinned, request_key
from backgrid.errors import BackgridError
from backgrid.jobs.store import NO_DATABASE, Job, fail, finish
from backgrid.models import BacktestRequest, BacktestResponse
from backgrid.report import run_report
from backgrid.run import run_request
from backgrid.settings import setting

TEMPLATE = "report_backtest"
MOST_HELD = 32  # prices that a process holds in memory
FOLDER = "backgrid-job-"  # in which a report is made
INTERNAL = "internal error; the log of the process that ran it says more of job"
PATIENCE = 60.0  # with a database that does not answer [seconds]
PAUSE = 0.5  # before it is asked again [seconds]
LEFT = 2 * 86_400.0  # age of a folder that no job can be using [seconds]

logger = logging.getLogger("backgrid.jobs")


class Outcome(NamedTuple):
    """What became of a job: its response, and report where it was wanted; or the error that ended it."""

    response: BacktestResponse | None = None
    html: bytes | None = None
    error: Exception | None = None


def run_job(job: Job) -> Outcome:
    """Run a job; its errors are part of the outcome."""
    try:
        request = BacktestRequest(**job.request)
        with pinned(prices_at_hand(request), only=False):
            response = run_request(request, job_id=job.id)
        return Outcome(response, make_page(request) if job.report else None)
    except BackgridError as error:
        return Outcome(error=error)
    except Exception as error:
        logger.exception("job %s", job.id)
        return Outcome(error=error)


def prices_at_hand(request: BacktestRequest) -> dict[Key, pd.DataFrame]:
    """Prices of a request that are the same as when this process read them; that is two thirds of a job's time."""
    asked = (request.symbol, request.start, request.end, request.interval, request.source, request.adjusted)
    key = request_key(*asked)
    mark = _mark(key)
    return {} if mark is None else {key: _read(key, mark)}


def _mark(key: Key) -> str | None:
    """What changes when the prices of a request may have changed; None where that cannot be told."""
    source = key[4]
    if source == "yahoo":
        return mark_entry(*key[:4])
    return source if source == "sample" or source.startswith("snapshot:") else None


@functools.lru_cache(MOST_HELD)
def _read(key: Key, mark: str) -> pd.DataFrame:
    """Prices as they are under this mark."""
    symbol, start, end, interval, source, adjusted = key
    return fetch_ohlcv(symbol, start, end, interval=interval, source=source, adjusted=adjusted)


def write_outcome(engine: sa.Engine, job: Job, outcome: Outcome) -> bool:
    """Write what became of a claimed job; False where it was cancelled, or given to another, meanwhile."""
    if isinstance(outcome.error, BackgridError):
        return fail(engine, job, str(outcome.error))
    if outcome.response is not None:
        try:
            return finish(engine, job, outcome.response, outcome.html)
        except NO_DATABASE:
            raise
        except Exception:  # a result that the database will not have, today or ever
            logger.exception("job %s", job.id)
    return fail(engine, job, f"{INTERNAL} {job.id}")


def insist(work: Callable[[], Any]) -> Any:
    """Do what needs the database, again while it does not answer."""
    until = time.monotonic() + PATIENCE
    while True:
        try:
            return work()
        except NO_DATABASE:
            if time.monotonic() > until:
                raise
            time.sleep(PAUSE)


def make_page(request: BacktestRequest) -> bytes:
    """The HTML report of a request, by the same template as in a notebook."""
    asked = request.model_dump(mode="json", exclude={"params"})
    dates = {name: asked.pop(name) or "" for name in ("start", "end")}
    source = asked.pop("source") or setting("BACKGRID_SOURCE")
    with tempfile.TemporaryDirectory(prefix=FOLDER) as folder:
        given = {**asked, **dates, "source": source, **request.params}
        return run_report(TEMPLATE, given, out=folder).html.read_bytes()


def remove_leftovers() -> None:
    """Remove the folders of reports whose process was killed: those older than any job may run."""
    for folder in Path(tempfile.gettempdir()).glob(f"{FOLDER}*"):
        with contextlib.suppress(OSError):
            if time.time() - folder.stat().st_mtime > LEFT:
                shutil.rmtree(folder, ignore_errors=True)
