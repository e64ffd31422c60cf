"""Jobs in a database: what was asked, where it stands, and what came of it. A job's row is the truth; queues carry it.

SQLite for one process, PostgreSQL for many; the tables are made and changed by the migrations beside this file.
"""

import contextlib
import datetime as dt
import fcntl
import hashlib
import json
import sqlite3
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.util import CommandError

from backgrid import __version__
from backgrid.errors import BackgridError, ParameterError
from backgrid.models import BacktestRequest, BacktestResponse, JobStatus, StrategyType

MOST_ATTEMPTS = 3  # at a job that ends its worker
MOST_LOOKS = 10  # for the job that an equal request has entered
FINAL = (JobStatus.COMPLETED, JobStatus.FAILED, JobStatus.CANCELLED)
NO_DATABASE = (sa.exc.OperationalError, sa.exc.InterfaceError, sa.exc.TimeoutError)  # what one that is away raises
BUSY = 30.0  # that a writer of SQLite waits for another [seconds]
POSTGRES = {  # a server that has vanished is noticed after some 15 s
    "connect_timeout": 3,
    "keepalives_idle": 5,
    "keepalives_interval": 5,
    "keepalives_count": 2,
    "tcp_user_timeout": 15_000,
}
PAUSE = 0.01  # before it is tried again [seconds]

metadata = sa.MetaData()
# BIGINT, save for SQLite, which counts only an INTEGER by itself
NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
JSON = sa.JSON()

jobs = sa.Table(
    "jobs",
    metadata,
    sa.Column("number", NUMBER, primary_key=True, autoincrement=True),
    sa.Column("owner", sa.String(200), nullable=False),
    sa.Column("key", sa.String(64)),
    sa.Column("status", sa.String(10), nullable=False),
    sa.Column("symbol", sa.String(40), nullable=False),
    sa.Column("strategy", sa.String(40), nullable=False),
    sa.Column("request", JSON, nullable=False),
    sa.Column("report", sa.Boolean, nullable=False),
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
    sa.Column("started_at", sa.DateTime(timezone=True)),
    sa.Column("finished_at", sa.DateTime(timezone=True)),
    sa.Column("error", sa.Text),
    sa.Column("deadline", sa.DateTime(timezone=True)),  # of a worker; none where the service runs the job itself
    sa.UniqueConstraint("owner", "key"),
    sa.Index("jobs_by_owner", "owner", "number"),
    sa.Index("jobs_by_status", "status", "number"),
    sqlite_autoincrement=True,  # a number is never given twice
)


def _of_job() -> sa.Column:
    return sa.Column("number", NUMBER, sa.ForeignKey("jobs.number", ondelete="CASCADE"), primary_key=True)


results = sa.Table(
    "results",
    metadata,
    _of_job(),
    sa.Column("sharpe", sa.Float),
    sa.Column("max_drawdown", sa.Float),
    sa.Column("total_return", sa.Float),
    sa.Column("metrics", JSON, nullable=False),
    sa.Column("runtime_seconds", sa.Float, nullable=False),
)
equity_curves = sa.Table(
    "equity_curves",
    metadata,
    _of_job(),
    sa.Column("equity", sa.LargeBinary, nullable=False),  # little-endian float64, one a bar [currency]
)
reports = sa.Table(
    "reports",
    metadata,
    _of_job(),
    sa.Column("html", sa.LargeBinary, nullable=False),
    sa.Column("sha256", sa.String(64), nullable=False),
)
site = sa.Table("site", metadata, sa.Column("id", sa.String(32), primary_key=True))  # one row


class Job(NamedTuple):
    """One row of `jobs`."""

    number: int
    owner: str
    status: JobStatus
    symbol: str
    strategy: str
    request: dict[str, Any]
    report: bool
    attempts: int
    created_at: dt.datetime
    started_at: dt.datetime | None
    finished_at: dt.datetime | None
    error: str | None

    @property
    def id(self) -> str:
        """Its name: the day on which it was asked for, and its number."""
        return f"manual-{self.created_at:%Y-%m-%d}-{self.number:06d}"


WORN_OUT = f"it was begun {MOST_ATTEMPTS} times, and each time its process died or its result could not be kept"
JOB = [jobs.c[name] for name in Job._fields]
NUMBERS = {"sharpe", "max_drawdown", "total_return", "metrics", "runtime_seconds"}  # of a response, in `results`


# ---- opening ---------------------------------------------------------------------------------------------------------


def open_store(url: str) -> sa.Engine:
    """Connect to a database and bring its tables up to date.

    Parameters
    ----------
    url : str
        As SQLAlchemy takes it: sqlite:///backgrid.db or postgresql://user:password@host/name.

    Raises
    ------
    ParameterError
        If the URL cannot be read, or names a database of another kind.
    BackgridError
        If the database cannot be opened, or a newer version has made its tables.
    """
    try:
        parsed = sa.make_url(url)
    except (sa.exc.ArgumentError, ValueError):  # not repeated, since it may hold a password
        raise ParameterError("BACKGRID_DATABASE_URL is no URL such as sqlite:///backgrid.db") from None
    kind = parsed.get_backend_name()
    if kind == "sqlite":
        if parsed.database in (None, "", ":memory:") or parsed.query:
            raise ParameterError("BACKGRID_DATABASE_URL must name a file, such as sqlite:///backgrid.db")
        # SQLite lets writers wait in no order, some for seconds: here they wait for one of two connections, in theirs
        few: dict[str, Any] = {"pool_size": 2, "max_overflow": 0, "connect_args": {"timeout": BUSY}}
        engine = sa.create_engine(parsed.set(drivername="sqlite"), **few)
        sa.event.listen(engine, "connect", _set_up_sqlite)
    elif kind == "postgresql":
        parsed = parsed.set(drivername="postgresql+psycopg")
        engine = sa.create_engine(parsed, pool_pre_ping=True, pool_timeout=3.0, connect_args=POSTGRES)
    else:
        raise ParameterError(f"BACKGRID_DATABASE_URL must be sqlite or postgresql, got {kind}")
    try:
        migrate(engine)
    except (sa.exc.DBAPIError, CommandError) as error:
        engine.dispose()
        said = " ".join(str(getattr(error, "orig", error)).split())
        # the URL without its password, which may stand in the query too
        shown = parsed.set(query={}).render_as_string()
        raise BackgridError(f"cannot open BACKGRID_DATABASE_URL {shown}: {said}") from error
    return engine


def migrate(engine: sa.Engine) -> None:
    """Bring the tables to the newest version; several processes may try at once."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    with engine.begin() as connection:
        if engine.dialect.name == "postgresql":
            connection.execute(sa.text("SELECT pg_advisory_xact_lock(20261122)"))
        else:
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def _set_up_sqlite(connection: sqlite3.Connection, _: Any) -> None:
    """Readers beside one writer, and foreign keys. A power cut may take the last jobs, and nothing else."""
    until = time.monotonic() + BUSY
    while True:
        try:
            for line in ("journal_mode=WAL", "synchronous=NORMAL", "foreign_keys=ON"):
                connection.execute(f"PRAGMA {line}")
            return
        except sqlite3.OperationalError as error:
            # others change the mode of a new file too, and SQLite does not wait for them
            if not error.sqlite_errorname.startswith("SQLITE_BUSY") or time.monotonic() > until:
                raise
            time.sleep(PAUSE)


@contextlib.contextmanager
def held_alone(engine: sa.Engine) -> Iterator[bool]:
    """Whether no other process is in here with the same SQLite file, which keeps others out until the end."""
    with Path(f"{Path(engine.url.database or '').resolve()}.lock").open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


def queue_name(engine: sa.Engine) -> str:
    """Name of the queue of this database, since others may share its broker."""
    with engine.connect() as connection:
        return f"backgrid-{connection.execute(sa.select(site.c.id)).scalar_one()}"


def ping(engine: sa.Engine) -> None:
    """Nothing, or the error of a database that does not answer."""
    with engine.connect() as connection:
        connection.execute(sa.text("SELECT 1"))


# ---- asking ----------------------------------------------------------------------------------------------------------


def submit(
    engine: sa.Engine,
    request: BacktestRequest,
    *,
    owner: str,
    report: bool = False,
    key: str | None = None,
    here: bool = False,
) -> tuple[Job, bool]:
    """Enter a job, or find the equal one that was entered before.

    Parameters
    ----------
    owner : str
        Who asks; equal requests of two owners are two jobs.
    report : bool
        Whether its HTML report is wanted.
    key : str, optional
        What makes two requests one. If not given: the request itself, the day and this version.
    here : bool
        Whether the service runs it itself, and at once: no worker may have it.

    Returns
    -------
    job, is_new
    """
    asked = request.model_dump(mode="json")
    now = utc_now()
    same = key if key is not None else json.dumps([asked, report, f"{now:%Y-%m-%d}", __version__], sort_keys=True)
    row = {
        "owner": owner,
        "key": hashlib.sha256(f"{'given' if key is not None else 'made'} {same}".encode()).hexdigest(),
        "status": (JobStatus.RUNNING if here else JobStatus.QUEUED).value,
        "symbol": request.symbol,
        "strategy": request.strategy.value,
        "request": asked,
        "report": report,
        "attempts": 0,
        "created_at": now,
    }
    equal = (jobs.c.owner == owner) & (jobs.c.key == row["key"])
    for _ in range(MOST_LOOKS):  # an equal job may end, and so give its key back, between the two
        try:
            with _statements(engine) as connection:
                return _job(connection.execute(sa.insert(jobs).values(row).returning(*JOB)).one()), True
        except sa.exc.IntegrityError as error:
            refused = error
            with engine.connect() as connection:
                if found := connection.execute(sa.select(*JOB).where(equal)).one_or_none():
                    return _job(found), False
    raise refused


def find_job(engine: sa.Engine, job_id: str, owner: str | None = None) -> Job | None:
    """The job of this name; None if there is none, or another owner's."""
    number = job_id.rsplit("-", 1)[-1]
    if not (number.isascii() and number.isdigit() and len(number) <= 18):
        return None
    with engine.connect() as connection:
        found = connection.execute(sa.select(*JOB).where(jobs.c.number == int(number))).one_or_none()
    job = found and _job(found)
    return job if job and job.id == job_id and owner in (None, job.owner) else None


def list_jobs(
    engine: sa.Engine,
    *,
    owner: str | None = None,
    filters: Mapping[str, str | None],
    before: int | None = None,
    limit: int,
) -> list[Job]:
    """The newest jobs first.

    filters  values of status, symbol and strategy that are looked for
    before   only jobs with a smaller number
    """
    query = sa.select(*JOB).order_by(jobs.c.number.desc()).limit(limit)
    for name, value in {"owner": owner, **filters}.items():
        if value is not None:
            query = query.where(jobs.c[name] == value)
    if before is not None:
        query = query.where(jobs.c.number < before)
    with engine.connect() as connection:
        return [_job(row) for row in connection.execute(query)]


def read_result(engine: sa.Engine, job: Job) -> BacktestResponse:
    """What came of a job, by the row that was read of it: one that ends only now has no numbers yet."""
    found = _find_result(engine, job.number) if job.status is JobStatus.COMPLETED else None
    known = {name: found[name] for name in NUMBERS} if found else {}
    return BacktestResponse(
        job_id=job.id,
        status=job.status,
        symbol=job.symbol,
        strategy=StrategyType(job.strategy),
        equity_curve=np.frombuffer(found["equity"], dtype="<f8").tolist() if found else [],
        error=job.error,
        **known,
    )


def _find_result(engine: sa.Engine, number: int) -> Any:
    query = sa.select(results, equity_curves.c.equity).join(equity_curves, results.c.number == equity_curves.c.number)
    with engine.connect() as connection:
        return connection.execute(query.where(results.c.number == number)).mappings().one_or_none()


def read_report(engine: sa.Engine, job: Job) -> tuple[bytes, str] | None:
    """The HTML report of a job and its SHA-256, where there is one."""
    query = sa.select(reports.c.html, reports.c.sha256).where(reports.c.number == job.number)
    with engine.connect() as connection:
        found = connection.execute(query).one_or_none()
    return found and (found.html, found.sha256)


def entered_at(engine: sa.Engine, owner: str, nth: int) -> dt.datetime | None:
    """When an owner entered their nth job, counted back from the newest; None where there are fewer."""
    query = sa.select(jobs.c.created_at).where(jobs.c.owner == owner)
    with engine.connect() as connection:
        found = connection.execute(query.order_by(jobs.c.number.desc()).offset(nth - 1).limit(1)).scalar_one_or_none()
    return found and _utc(found)


# ---- running ---------------------------------------------------------------------------------------------------------


def claim(engine: sa.Engine, number: int, *, seconds: float | None) -> Job | None:
    """Take a job to run it; None where it is not to be had, since it runs, has ended, or was begun too often.

    seconds  how long it may run, after which others may take it; None for a service that runs its jobs itself, and
             so knows itself which of them it runs
    """
    now = utc_now()
    is_left = jobs.c.deadline < now
    if seconds is None:
        is_left |= jobs.c.deadline.is_(None)
    is_free = (jobs.c.number == number) & ((jobs.c.status == JobStatus.QUEUED.value) | (_is_running() & is_left))
    values = {
        "status": JobStatus.RUNNING.value,
        "attempts": jobs.c.attempts + 1,
        "started_at": now,
        "deadline": None if seconds is None else now + dt.timedelta(seconds=seconds),
    }
    with _statements(engine) as connection:
        taking = sa.update(jobs).where(is_free, ~_is_worn_out()).values(values).returning(*JOB)
        if taken := connection.execute(taking).one_or_none():
            return _job(taken)
        connection.execute(_ending(JobStatus.FAILED, WORN_OUT).where(is_free, _is_worn_out()))
        return None


def release(engine: sa.Engine, number: int, begun_before: dt.datetime) -> None:
    """Let others take a job at once, as the worker that began it before then is known to be dead."""
    own = _is_running() & (jobs.c.started_at < begun_before)
    with _statements(engine) as connection:
        over = sa.update(jobs).values(deadline=utc_now() - dt.timedelta(seconds=1))
        connection.execute(over.where(jobs.c.number == number, own, jobs.c.deadline.is_not(None)))


def finish(engine: sa.Engine, job: Job, response: BacktestResponse, html: bytes | None = None) -> bool:
    """Write what came of a claimed job, once and whole; False where it was cancelled or given to another meanwhile."""
    with engine.begin() as connection:
        if not connection.execute(_ending(JobStatus.COMPLETED).where(_is_mine(job))).rowcount:
            return False
        summary = response.model_dump(include=NUMBERS)
        connection.execute(sa.insert(results).values(number=job.number, **summary))
        equity = np.asarray(response.equity_curve, dtype="<f8").tobytes()
        connection.execute(sa.insert(equity_curves).values(number=job.number, equity=equity))
        if html is not None:
            page = {"html": html, "sha256": hashlib.sha256(html).hexdigest()}
            connection.execute(sa.insert(reports).values(number=job.number, **page))
    return True


def fail(engine: sa.Engine, job: Job, error: str) -> bool:
    """Note why a claimed job failed; an equal request may then be entered again."""
    with engine.begin() as connection:
        return bool(connection.execute(_ending(JobStatus.FAILED, error).where(_is_mine(job))).rowcount)


def fail_running(engine: sa.Engine, number: int, begun_before: dt.datetime, error: str) -> None:
    """Note why a job failed whose worker, that began it before then, can no longer say so."""
    own = _is_running() & (jobs.c.started_at < begun_before)
    with engine.begin() as connection:
        connection.execute(_ending(JobStatus.FAILED, error).where(jobs.c.number == number, own))


def cancel(engine: sa.Engine, job: Job) -> bool:
    """Cancel a job that has not ended; whether it had not."""
    with engine.begin() as connection:
        ending = _ending(JobStatus.CANCELLED)
        return bool(connection.execute(ending.where(jobs.c.number == job.number, _is_not_final())).rowcount)


def requeue_overdue(engine: sa.Engine) -> list[int]:
    """Queue again what workers had not ended by its deadline, and give its numbers; fail what was begun too often."""
    overdue = _is_running() & (jobs.c.deadline < utc_now())
    with engine.begin() as connection:
        connection.execute(_ending(JobStatus.FAILED, WORN_OUT).where(overdue, _is_worn_out()))
        again = sa.update(jobs).where(overdue).values(status=JobStatus.QUEUED.value).returning(jobs.c.number)
        return [*connection.execute(again).scalars()]


def fail_interrupted(engine: sa.Engine) -> int:
    """Fail what a service that ran its jobs itself left behind when it was stopped; how many jobs that were."""
    with engine.begin() as connection:
        ending = _ending(JobStatus.FAILED, "the service was stopped while it ran. Submit it again.")
        return connection.execute(ending.where(_is_running(), jobs.c.deadline.is_(None))).rowcount


def list_queued(engine: sa.Engine) -> list[int]:
    """Numbers of the queued jobs, the oldest first."""
    query = sa.select(jobs.c.number).where(jobs.c.status == JobStatus.QUEUED.value).order_by(jobs.c.number)
    with engine.connect() as connection:
        return [*connection.execute(query).scalars()]


# ---- rows ------------------------------------------------------------------------------------------------------------


def _statements(engine: sa.Engine) -> sa.Connection:
    """A connection on which each statement is a transaction, which spares two of four ways to the server."""
    return engine.connect().execution_options(isolation_level="AUTOCOMMIT")


def _job(row: Any) -> Job:
    values: dict[str, Any] = dict(row._mapping)
    moments = {name: _utc(value) for name, value in values.items() if isinstance(value, dt.datetime)}
    return Job(**{**values, **moments, "status": JobStatus(values["status"])})


def _ending(status: JobStatus, error: str | None = None) -> sa.Update:
    """End jobs; one that is not completed gives its key back."""
    key = {} if status is JobStatus.COMPLETED else {"key": None}
    if error is not None:  # a database holds neither a zero byte nor half a surrogate pair
        error = error.encode("utf-8", "backslashreplace").decode().replace("\0", "\\0")
    return sa.update(jobs).values(status=status.value, finished_at=utc_now(), error=error, **key)


def _is_mine(job: Job) -> sa.ColumnElement[bool]:
    """Of a claimed job: still that of this attempt."""
    return (jobs.c.number == job.number) & _is_running() & (jobs.c.attempts == job.attempts)


def _is_running() -> sa.ColumnElement[bool]:
    return jobs.c.status == JobStatus.RUNNING.value


def _is_not_final() -> sa.ColumnElement[bool]:
    return jobs.c.status.in_([JobStatus.QUEUED.value, JobStatus.RUNNING.value])


def _is_worn_out() -> sa.ColumnElement[bool]:
    return jobs.c.attempts >= MOST_ATTEMPTS


def utc_now() -> dt.datetime:
    """The moment by which rows are dated."""
    return dt.datetime.now(dt.UTC)


def _utc(moment: dt.datetime) -> dt.datetime:
    """SQLite forgets the time zone."""
    return moment.replace(tzinfo=dt.UTC) if moment.tzinfo is None else moment.astimezone(dt.UTC)
