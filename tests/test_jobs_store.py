"""The jobs' database: entered once, run once, written once and whole; and its tables, made and kept by migrations."""

import datetime as dt
import hashlib
import os
import re
import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext

from backgrid.errors import BackgridError, ParameterError
from backgrid.jobs import store
from backgrid.models import BacktestRequest, BacktestResponse, JobStatus

AAPL = BacktestRequest(symbol="AAPL", source="sample", start="2023-01-01", end="2023-12-31", fees=0.1)
OLD = BacktestRequest(symbol="AMZN", strategy="rsi_reversion", params={"window": 5}, source="sample")
MIDNIGHT = dt.datetime(2026, 11, 30, tzinfo=dt.UTC)


@pytest.fixture
def url(tmp_path):
    return f"sqlite:///{tmp_path / 'jobs.db'}"


@pytest.fixture
def engine(url):
    engine = store.open_store(url)
    yield engine
    engine.dispose()


@pytest.fixture
def clock(monkeypatch):
    """The time of the store, which a test sets."""

    class Clock:
        now = MIDNIGHT

    monkeypatch.setattr(store, "utc_now", lambda: Clock.now)
    return Clock


def enter(engine, request=AAPL, owner="ann", **how):
    return store.submit(engine, request, owner=owner, **how)[0]


def respond(job, **values):
    """What a run of a job might answer."""
    usual = {
        "sharpe": 1 / 3,
        "max_drawdown": -0.1,
        "total_return": 0.1 + 0.2,
        "metrics": {"sharpe": 1 / 3, "n_trades": 2, "sqn": None},
        "equity_curve": [100_000.0, 100_000.1, 1e5 / 3],
        "runtime_seconds": 0.012345678901234567,
    }
    known = {"job_id": job.id, "status": "completed", "symbol": job.symbol, "strategy": job.strategy}
    return BacktestResponse(**known, **(usual | values))


def complete(engine, job, html=None):
    claimed = store.claim(engine, job.number)
    assert store.finish(engine, claimed, respond(claimed), html)
    return store.find_job(engine, job.id)


def count(engine, table):
    with engine.connect() as connection:
        return connection.execute(sa.select(sa.func.count()).select_from(table)).scalar_one()


# ---- entering --------------------------------------------------------------------------------------------------------


def test_new_job_is_queued_under_the_day_and_its_number(engine, clock):
    job, is_new = store.submit(engine, AAPL, owner="ann", report=True)
    assert is_new and job.id == "manual-2026-11-30-000001"
    assert (job.owner, job.status, job.symbol, job.strategy) == ("ann", JobStatus.QUEUED, "AAPL", "ma_crossover")
    assert (job.report, job.attempts, job.created_at) == (True, 0, MIDNIGHT)
    assert (job.started_at, job.finished_at, job.error) == (None, None, None)
    assert BacktestRequest(**job.request) == AAPL
    assert store.find_job(engine, job.id) == job


def test_equal_requests_are_one_job(engine):
    first, second = store.submit(engine, AAPL, owner="ann"), store.submit(engine, AAPL, owner="ann")
    assert (first[1], second[1]) == (True, False)
    assert first[0] == second[0]


def test_other_request_owner_report_or_key_is_another_job(engine):
    numbers = [
        enter(engine).number,
        enter(engine, OLD).number,
        enter(engine, owner="bob").number,
        enter(engine, report=True).number,
        enter(engine, key="a").number,
        enter(engine, key="b").number,
        enter(engine, key="").number,
    ]
    assert numbers == [1, 2, 3, 4, 5, 6, 7]


def test_given_key_is_one_job_whatever_is_asked_and_whenever(engine, clock):
    first = enter(engine, key="a")
    clock.now += dt.timedelta(days=400)
    assert enter(engine, OLD, key="a") == first


def test_equal_request_of_the_next_day_is_another_job(engine, clock):
    clock.now -= dt.timedelta(seconds=1)
    before = enter(engine)
    clock.now += dt.timedelta(seconds=1)
    assert [before.id, enter(engine).id] == ["manual-2026-11-29-000001", "manual-2026-11-30-000002"]


def test_fifty_equal_requests_at_once_are_one_job(engine):
    with ThreadPoolExecutor(50) as threads:
        found = [*threads.map(lambda _: store.submit(engine, AAPL, owner="ann"), range(50))]
    assert len({job.id for job, _ in found}) == 1
    assert sum(is_new for _, is_new in found) == 1
    assert count(engine, store.jobs) == 1


@pytest.mark.parametrize("how", ["failed", "cancelled", "withdrawn", "interrupted"])
def test_job_that_came_to_nothing_gives_its_key_back(engine, how):
    job = enter(engine)
    if how == "failed":
        assert store.fail(engine, store.claim(engine, job.number), "no prices")
    elif how == "cancelled":
        assert store.cancel(engine, job)
    elif how == "withdrawn":
        store.withdraw(engine, job, "no broker")
    else:
        assert store.fail_interrupted(engine) == 1
    again, is_new = store.submit(engine, AAPL, owner="ann")
    assert is_new and again.number == 2


def test_completed_job_keeps_its_key(engine):
    done = complete(engine, enter(engine))
    assert store.submit(engine, AAPL, owner="ann") == (done, False)


# ---- finding ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        *("", "1", "000001", "x' OR 1=1 --1", "\0", "🙂-1", "MANUAL-2026-11-30-000001"),
        *("manual-2026-11-30-1", "manual-2026-11-29-000001", "manual-2026-11-30-000002", "manual-2026-11-30--1"),
        *("manual-2026-11-30-٠٠٠٠٠١", "manual-2026-11-30-" + "0" * 90 + "1", "manual-2026-11-30-" + "9" * 10_000),
    ],
    ids=lambda name: ascii(name)[:40],
)
def test_name_of_no_job_finds_none(engine, clock, name):
    enter(engine)
    assert store.find_job(engine, name) is None


def test_job_of_another_owner_is_not_found(engine):
    job = enter(engine)
    assert store.find_job(engine, job.id, "ann") == store.find_job(engine, job.id) == job
    assert store.find_job(engine, job.id, "bob") is store.find_job(engine, job.id, "") is None


def test_list_has_the_newest_first_and_every_filter(engine):
    for request, owner in [(AAPL, "ann"), (OLD, "ann"), (AAPL, "bob"), (OLD, "bob")]:
        enter(engine, request, owner)
    complete(engine, enter(engine, OLD, "ann"))

    def numbers(limit=10, before=None, owner=None, **filters):
        found = store.list_jobs(engine, owner=owner, filters=filters, before=before, limit=limit)
        return [job.number for job in found]

    assert numbers() == numbers(status=None, symbol=None) == [4, 3, 2, 1]
    assert numbers(limit=2) == [4, 3]
    assert numbers(limit=2, before=3) == [2, 1]
    assert numbers(before=1) == []
    assert numbers(owner="ann") == [2, 1]
    assert numbers(owner="ANN") == numbers(owner="") == []
    assert numbers(symbol="AAPL") == [3, 1]
    assert numbers(strategy="rsi_reversion") == [4, 2]
    assert numbers(status="completed") == [2]
    assert numbers(status="queued", owner="bob", symbol="AMZN", strategy="rsi_reversion") == [4]


def test_nth_newest_entry_of_an_owner_is_found(engine, clock):
    for _ in range(3):
        clock.now += dt.timedelta(seconds=10)
        enter(engine, key=str(clock.now))
    enter(engine, owner="bob")
    moments = [store.entered_at(engine, "ann", nth) for nth in (1, 2, 3, 4)]
    assert moments == [MIDNIGHT + dt.timedelta(seconds=seconds) for seconds in (30, 20, 10)] + [None]


def test_questions_of_one_owner_are_answered_by_an_index(engine):
    """However many jobs there are: nothing reads the whole table."""
    asked = []
    sa.event.listen(engine, "before_cursor_execute", lambda *event: asked.append(event[2:4]))
    job = enter(engine)
    store.submit(engine, AAPL, owner="ann")
    store.find_job(engine, job.id, "ann")
    store.entered_at(engine, "ann", 5)
    store.list_jobs(engine, owner="ann", filters={}, before=9, limit=5)
    store.claim(engine, store.find_job(engine, job.id).number)
    store.requeue_lost(engine, MIDNIGHT)
    store.count_open(engine, MIDNIGHT)
    store.list_queued(engine)
    with engine.connect() as connection:
        plans = [
            step.detail
            for statement, parameters in [*asked]
            if not statement.startswith("INSERT")
            for step in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)
        ]
    assert len(plans) >= 9
    assert [plan for plan in plans if not re.match("SEARCH jobs USING (INTEGER PRIMARY KEY|.*INDEX)", plan)] == []


# ---- running ---------------------------------------------------------------------------------------------------------


def test_job_is_claimed_by_one_of_many(engine):
    job = enter(engine)
    with ThreadPoolExecutor(20) as threads:
        taken = [found for found in threads.map(lambda _: store.claim(engine, job.number), range(20)) if found]
    assert [(found.number, found.status, found.attempts) for found in taken] == [(1, JobStatus.RUNNING, 1)]
    assert taken[0].started_at >= taken[0].created_at


def test_running_job_is_claimed_again_only_where_its_worker_is_dead(engine):
    job = enter(engine)
    assert store.claim(engine, job.number).attempts == 1
    assert store.claim(engine, job.number) is None
    assert store.claim(engine, job.number, again=True).attempts == 2


def test_job_that_ends_its_workers_is_failed_after_three_attempts(engine):
    job = enter(engine)
    assert [store.claim(engine, job.number, again=True).attempts for _ in range(3)] == [1, 2, 3]
    assert store.claim(engine, job.number, again=True) is None
    ended = store.find_job(engine, job.id)
    assert (ended.status, ended.error) == (JobStatus.FAILED, "its worker died 3 times while running it")


@pytest.mark.parametrize("end", ["completed", "failed", "cancelled"])
def test_job_that_has_ended_stays_as_it_is(engine, end):
    job = enter(engine)
    claimed = store.claim(engine, job.number)
    if end == "cancelled":
        store.cancel(engine, job)
    else:
        assert store.finish(engine, claimed, respond(job)) if end == "completed" else store.fail(engine, claimed, "x")
    ended = store.find_job(engine, job.id)
    assert store.claim(engine, job.number) is store.claim(engine, job.number, again=True) is None
    assert not store.finish(engine, claimed, respond(job))
    assert not store.fail(engine, claimed, "other")
    assert not store.cancel(engine, job)
    store.withdraw(engine, job, "other")
    store.requeue_lost(engine, dt.datetime.now(dt.UTC))
    assert store.fail_interrupted(engine) == 0
    assert store.find_job(engine, job.id) == ended
    assert count(engine, store.results) == count(engine, store.equity_curves) == (end == "completed")


def test_job_that_is_queued_again_while_it_is_asked_for_is_not_called_worn_out(engine):
    number = enter(engine).number
    store.claim(engine, number)
    queued = []

    def queue_again(_connection, _cursor, statement, *_):
        if statement.startswith("UPDATE jobs SET status=?, attempts") and not queued:
            queued.append(store.requeue_lost(engine, store.utc_now() + dt.timedelta(hours=1)))

    sa.event.listen(engine, "after_cursor_execute", queue_again)
    assert store.claim(engine, number) is None and queued
    assert store.claim(engine, number).attempts == 2


def test_attempt_that_was_given_up_writes_nothing(engine):
    job = enter(engine)
    first = store.claim(engine, job.number)
    second = store.claim(engine, job.number, again=True)
    assert not store.finish(engine, first, respond(job, sharpe=1.0))
    assert not store.fail(engine, first, "late")
    assert store.finish(engine, second, respond(job, sharpe=2.0))
    assert store.read_result(engine, store.find_job(engine, job.id)).sharpe == 2.0


def test_result_comes_back_bit_by_bit(engine):
    job = enter(engine)
    done = complete(engine, job)
    assert done.status is JobStatus.COMPLETED and done.finished_at >= done.started_at
    assert store.read_result(engine, done) == respond(job)
    assert store.read_report(engine, done) is None
    with engine.connect() as connection:
        equity = connection.execute(sa.select(store.equity_curves.c.equity)).scalar_one()
    assert np.frombuffer(equity, "<f8").tolist() == [100_000.0, 100_000.1, 1e5 / 3]


def test_report_is_kept_with_its_hash(engine):
    page = "<p>−1 %</p>".encode()
    done = complete(engine, enter(engine, report=True), page)
    assert store.read_report(engine, done) == page
    with engine.connect() as connection:
        kept = connection.execute(sa.select(store.reports.c.sha256)).scalar_one()
    assert kept == hashlib.sha256(page).hexdigest()


def test_outcome_is_written_whole_or_not_at_all(engine):
    """The page cannot be written, so the rows before it are not either, and the job is still to be ended."""
    claimed = store.claim(engine, enter(engine).number)
    with engine.begin() as connection:
        connection.execute(sa.text("DROP TABLE reports"))
    with pytest.raises(sa.exc.OperationalError):
        store.finish(engine, claimed, respond(claimed), b"<p>")
    assert store.find_job(engine, claimed.id) == claimed
    assert count(engine, store.results) == count(engine, store.equity_curves) == 0
    assert store.finish(engine, claimed, respond(claimed))


def test_second_result_of_a_job_is_refused_by_the_database(engine):
    done = complete(engine, enter(engine), b"<p>")
    for table in (store.results, store.equity_curves, store.reports):
        with engine.connect() as connection:
            row = connection.execute(sa.select(table)).mappings().one()
            with pytest.raises(sa.exc.IntegrityError):
                connection.execute(sa.insert(table).values(**row))
            with pytest.raises(sa.exc.IntegrityError):
                connection.execute(sa.insert(table).values(**{**row, "number": done.number + 1}))


def test_row_read_before_the_end_shows_no_numbers(engine):
    """A job ends between two reads: its answer must not be running and yet have a result."""
    claimed = store.claim(engine, enter(engine).number)
    store.finish(engine, claimed, respond(claimed))
    answer = store.read_result(engine, claimed)
    assert (answer.status, answer.sharpe, answer.metrics, answer.equity_curve) == (JobStatus.RUNNING, None, {}, [])


def test_lost_job_is_queued_again_and_failed_at_last(engine, clock):
    job, fresh = enter(engine), enter(engine, OLD)
    for attempt in (1, 2, 3):
        assert store.claim(engine, job.number).attempts == attempt
        store.requeue_lost(engine, clock.now)
        assert store.find_job(engine, job.id).status is JobStatus.RUNNING  # it may still run
        clock.now += dt.timedelta(seconds=1)
        store.requeue_lost(engine, clock.now)
    ended = store.find_job(engine, job.id)
    assert (ended.status, ended.error) == (JobStatus.FAILED, "its worker died 3 times while running it")
    assert store.list_queued(engine) == [fresh.number]


def test_open_jobs_are_counted_and_queued_ones_listed(engine, clock):
    numbers = [enter(engine, key=str(n)).number for n in range(4)]
    store.claim(engine, numbers[0])
    store.cancel(engine, store.claim(engine, numbers[2]))
    clock.now += dt.timedelta(seconds=1)
    assert store.count_open(engine, clock.now) == 3
    assert store.count_open(engine, MIDNIGHT) == 0
    assert store.list_queued(engine) == [numbers[1], numbers[3]]


def test_interrupted_jobs_say_what_to_do(engine):
    waiting, running = enter(engine), store.claim(engine, enter(engine, OLD).number)
    assert store.fail_interrupted(engine) == 2
    for job in (waiting, running):
        ended = store.find_job(engine, job.id)
        assert (ended.status, ended.error) == (
            JobStatus.FAILED,
            "the service was stopped while it ran. Submit it again.",
        )


def test_number_is_never_given_twice_and_a_job_takes_its_rows_along(engine):
    done = complete(engine, enter(engine), b"<p>")
    with engine.begin() as connection:
        connection.execute(sa.delete(store.jobs).where(store.jobs.c.number == done.number))
    assert [count(engine, table) for table in store.metadata.sorted_tables] == [0, 0, 0, 0]
    assert enter(engine).number == done.number + 1


# ---- opening and migrating -------------------------------------------------------------------------------------------


def differences(engine):
    with engine.connect() as connection:
        return compare_metadata(MigrationContext.configure(connection, opts={"compare_type": True}), store.metadata)


def test_migrations_make_the_tables_that_the_code_knows(engine):
    assert sorted(sa.inspect(engine).get_table_names()) == [
        "alembic_version",
        "equity_curves",
        "jobs",
        "reports",
        "results",
    ]
    assert differences(engine) == []


def test_difference_between_tables_and_code_would_be_found(engine):
    with engine.begin() as connection:
        connection.execute(sa.text("ALTER TABLE jobs ADD COLUMN extra INTEGER"))
        connection.execute(sa.text("DROP INDEX jobs_by_owner"))
    assert {what[0] for what in differences(engine)} == {"remove_column", "add_index"}


def test_rows_outlive_a_second_opening(engine, url):
    done = complete(engine, enter(engine), b"<p>")
    again = store.open_store(url)
    assert store.find_job(again, done.id) == done
    assert store.read_result(again, done) == respond(done)
    assert store.read_report(again, done) == b"<p>"
    assert store.submit(again, AAPL, owner="ann") == (done, False)
    again.dispose()


def test_many_processes_make_the_tables_of_an_empty_database_at_once(url):
    code = "import sys; from backgrid.jobs.store import open_store; print(flush=True); input(); open_store(sys.argv[1])"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    processes = [subprocess.Popen([sys.executable, "-c", code, url], **pipes) for _ in range(4)]
    for process in processes:
        process.stdout.readline()  # its imports are done
    for process in processes:
        process.stdin.write("\n")
        process.stdin.flush()
    ended = [(process.communicate(timeout=120), process.returncode) for process in processes]
    assert ended == [(("", ""), 0)] * 4
    engine = store.open_store(url)
    assert differences(engine) == [] and enter(engine).number == 1
    engine.dispose()


def test_readers_are_not_stopped_by_a_writer(engine):
    job = enter(engine)
    with engine.begin() as connection:
        connection.execute(sa.update(store.jobs).values(error="x"))
        assert store.find_job(engine, job.id) == job
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar_one() == "wal"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("jobs.db", "cannot read 'jobs.db'; such as sqlite:///backgrid.db"),
        ("", "cannot read ''"),
        ("mysql://root@localhost/jobs", "must be sqlite or postgresql, got mysql"),
        ("postgres://localhost/jobs", "must be sqlite or postgresql, got postgres"),
        ("sqlite://", "must name a file, such as sqlite:///backgrid.db"),
        ("sqlite:///:memory:", "must name a file"),
    ],
)
def test_database_of_another_kind_is_refused(given, said):
    with pytest.raises(ParameterError, match="BACKGRID_DATABASE_URL.*" + re.escape(said)):
        store.open_store(given)


def test_database_that_cannot_be_opened_is_named(tmp_path, url):
    with pytest.raises(BackgridError, match=r"cannot open BACKGRID_DATABASE_URL sqlite.*unable to open database file"):
        store.open_store(f"sqlite:///{tmp_path / 'none' / 'jobs.db'}")
    (tmp_path / "jobs.db").write_bytes(b"not a database" * 100)
    with pytest.raises(BackgridError, match=r"cannot open .*jobs.db: file is not a database"):
        store.open_store(url)


def test_database_server_that_is_not_there_is_named_without_its_password():
    with pytest.raises(
        BackgridError, match=r"cannot open BACKGRID_DATABASE_URL postgresql.*ann:\*\*\*@127.0.0.1:1/"
    ) as no:
        store.open_store("postgresql://ann:verysecret@127.0.0.1:1/jobs")
    assert "verysecret" not in str(no.value)


def test_database_of_a_newer_version_is_refused(engine, url, tmp_path):
    with sqlite3.connect(tmp_path / "jobs.db") as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.close()
    with pytest.raises(BackgridError, match=r"cannot open BACKGRID_DATABASE_URL .*9999"):
        store.open_store(url)


def test_migrations_can_be_undone_and_done_again(engine):
    complete(engine, enter(engine), b"<p>")
    config = Config()
    config.set_main_option("script_location", str(Path(store.__file__).parent / "migrations"))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, "base")
    assert sa.inspect(engine).get_table_names() == ["alembic_version"]
    store.migrate(engine)
    assert differences(engine) == [] and enter(engine).number == 1


def test_service_that_cannot_answer_says_so(engine, tmp_path):
    store.ping(engine)
    engine.dispose()
    os.rename(tmp_path / "jobs.db", tmp_path / "moved.db")
    (tmp_path / "jobs.db").mkdir()
    with pytest.raises(sa.exc.OperationalError):
        store.ping(engine)
