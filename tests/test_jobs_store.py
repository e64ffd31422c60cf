"""The jobs' database: entered once, run once, written once and whole; and its tables, made and kept by migrations."""

import datetime as dt
import hashlib
import os
import re
import subprocess
import sys
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import psycopg
import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from servers import run_postgres

from backgrid.errors import BackgridError, ParameterError
from backgrid.jobs import store
from backgrid.models import BacktestRequest, BacktestResponse, JobStatus

AAPL = BacktestRequest(symbol="AAPL", source="sample", start="2023-01-01", end="2023-12-31", fees=0.1)
OLD = BacktestRequest(symbol="AMZN", strategy="rsi_reversion", params={"window": 5}, source="sample")
OF_A_JOB = (store.results, store.equity_curves, store.reports)
MIDNIGHT = dt.datetime(2026, 11, 30, tzinfo=dt.UTC)


@pytest.fixture
def url(tmp_path):
    return f"sqlite:///{tmp_path / 'jobs.db'}"


@pytest.fixture(scope="module")
def postgres():
    with run_postgres() as server:
        yield server


@pytest.fixture
def postgres_url(postgres):
    """A database of its own, gone when the test ends."""
    base, name = postgres.url.rpartition("/")[0], f"test_{uuid.uuid4().hex}"
    with psycopg.connect(postgres.url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
        yield f"{base}/{name}"
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(params=["sqlite", "postgresql"])
def engine(request):
    engine = store.open_store(request.getfixturevalue("url" if request.param == "sqlite" else "postgres_url"))
    yield engine
    engine.dispose()


@pytest.fixture
def sqlite(url):
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


def claim(engine, job, seconds=60.0):
    return store.claim(engine, job.number, seconds=seconds)


def release(engine, job):
    store.release(engine, job.number, store.utc_now() + dt.timedelta(seconds=1))


def complete(engine, job, html=None):
    claimed = claim(engine, job)
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


@pytest.mark.parametrize("how", ["failed", "cancelled", "interrupted"])
def test_job_that_came_to_nothing_gives_its_key_back(engine, how):
    job = enter(engine)
    if how == "failed":
        assert store.fail(engine, claim(engine, job), "no prices")
    elif how == "cancelled":
        assert store.cancel(engine, job)
    else:
        claim(engine, job, None)
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


def test_questions_of_one_owner_are_answered_by_an_index(sqlite):
    """However many jobs there are: nothing reads the whole table."""
    engine = sqlite
    asked = []
    sa.event.listen(engine, "before_cursor_execute", lambda *event: asked.append(event[2:4]))
    job = enter(engine)
    store.submit(engine, AAPL, owner="ann")
    store.find_job(engine, job.id, "ann")
    store.entered_at(engine, "ann", 5)
    store.list_jobs(engine, owner="ann", filters={}, before=9, limit=5)
    claim(engine, store.find_job(engine, job.id))
    release(engine, job)
    store.requeue_overdue(engine)
    store.fail_interrupted(engine)
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
        taken = [found for found in threads.map(lambda _: claim(engine, job), range(20)) if found]
    assert [(found.number, found.status, found.attempts) for found in taken] == [(1, JobStatus.RUNNING, 1)]
    assert taken[0].started_at >= taken[0].created_at


def test_job_of_a_worker_is_anothers_after_its_deadline_or_when_it_is_released(engine, clock):
    job = enter(engine)
    assert claim(engine, job, 60.0).attempts == 1
    clock.now += dt.timedelta(seconds=60)
    assert claim(engine, job) is claim(engine, job, None) is None
    clock.now += dt.timedelta(seconds=1)
    assert claim(engine, job).attempts == 2
    assert claim(engine, job) is None
    release(engine, job)
    assert claim(engine, job).attempts == 3


def test_job_that_another_has_taken_over_is_neither_released_nor_failed(engine, clock):
    """Of a worker that was frozen, and hears late of what became of its own."""
    job = enter(engine)
    claim(engine, job, 20.0)
    latest = clock.now + dt.timedelta(seconds=10)
    clock.now += dt.timedelta(seconds=21)
    assert claim(engine, job).attempts == 2
    store.release(engine, job.number, latest)
    store.fail_running(engine, job.number, latest, "it ran too long")
    assert claim(engine, job) is None and store.find_job(engine, job.id).status is JobStatus.RUNNING
    store.fail_running(engine, job.number, clock.now + dt.timedelta(seconds=1), "it ran too long")
    assert store.find_job(engine, job.id).error == "it ran too long"


def test_job_that_a_service_runs_itself_is_no_workers_and_its_own_again(engine, clock):
    job, _ = store.submit(engine, AAPL, owner="ann", here=True)
    assert (job.status, job.attempts) == (JobStatus.RUNNING, 0)
    clock.now += dt.timedelta(days=400)
    release(engine, job)
    store.requeue_overdue(engine)
    assert claim(engine, job) is None and store.list_queued(engine) == []
    assert [claim(engine, job, None).attempts for _ in range(3)] == [1, 2, 3]


def test_job_that_is_never_ended_fails_after_three_attempts(engine):
    job = enter(engine)
    assert [claim(engine, job, -1.0).attempts for _ in range(3)] == [1, 2, 3]
    assert claim(engine, job) is None
    ended = store.find_job(engine, job.id)
    assert (ended.status, ended.error) == (JobStatus.FAILED, store.WORN_OUT)


@pytest.mark.parametrize("end", ["completed", "failed", "cancelled"])
def test_job_that_has_ended_stays_as_it_is(engine, end):
    job = enter(engine)
    claimed = claim(engine, job, -1.0)
    if end == "cancelled":
        store.cancel(engine, job)
    else:
        assert store.finish(engine, claimed, respond(job)) if end == "completed" else store.fail(engine, claimed, "x")
    ended = store.find_job(engine, job.id)
    assert claim(engine, job) is claim(engine, job, None) is None
    assert not store.finish(engine, claimed, respond(job))
    assert not store.fail(engine, claimed, "other")
    assert not store.cancel(engine, job)
    release(engine, job)
    store.requeue_overdue(engine)
    assert store.fail_interrupted(engine) == 0
    assert store.find_job(engine, job.id) == ended
    assert count(engine, store.results) == count(engine, store.equity_curves) == (end == "completed")


def test_job_that_is_queued_again_while_it_is_asked_for_is_not_called_worn_out(engine):
    job = enter(engine)
    claim(engine, job)
    queued = []

    def queue_again(_connection, _cursor, statement, *_):
        if statement.startswith("UPDATE jobs SET status=") and "attempts=" in statement and not queued:
            queued.append(True)
            release(engine, job)
            store.requeue_overdue(engine)

    sa.event.listen(engine, "after_cursor_execute", queue_again)
    assert claim(engine, job) is None and queued
    assert claim(engine, job).attempts == 2


def test_attempt_that_was_given_up_writes_nothing(engine):
    job = enter(engine)
    first = claim(engine, job, -1.0)
    second = claim(engine, job)
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
    assert store.read_report(engine, done) == (page, hashlib.sha256(page).hexdigest())


def test_outcome_is_written_whole_or_not_at_all(engine):
    """The page cannot be written, so the rows before it are not either, and the job is still to be ended."""
    claimed = claim(engine, enter(engine))
    with engine.begin() as connection:
        connection.execute(sa.text("DROP TABLE reports"))
    with pytest.raises(sa.exc.DBAPIError):
        store.finish(engine, claimed, respond(claimed), b"<p>")
    assert store.find_job(engine, claimed.id) == claimed
    assert count(engine, store.results) == count(engine, store.equity_curves) == 0
    assert store.finish(engine, claimed, respond(claimed))


def test_second_result_of_a_job_is_refused_by_the_database(engine):
    done = complete(engine, enter(engine), b"<p>")
    for table in OF_A_JOB:
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            row = connection.execute(sa.select(table)).mappings().one()
            with pytest.raises(sa.exc.IntegrityError):
                connection.execute(sa.insert(table).values(**row))
            with pytest.raises(sa.exc.IntegrityError):
                connection.execute(sa.insert(table).values(**{**row, "number": done.number + 1}))


def test_row_read_before_the_end_shows_no_numbers(engine):
    """A job ends between two reads: its answer must not be running and yet have a result."""
    claimed = claim(engine, enter(engine))
    store.finish(engine, claimed, respond(claimed))
    answer = store.read_result(engine, claimed)
    assert (answer.status, answer.sharpe, answer.metrics, answer.equity_curve) == (JobStatus.RUNNING, None, {}, [])


def test_lost_job_is_queued_again_and_failed_at_last(engine, clock):
    job, fresh = enter(engine), enter(engine, OLD)
    for attempt in (1, 2, 3):
        assert claim(engine, job, 5.0).attempts == attempt
        clock.now += dt.timedelta(seconds=5)
        store.requeue_overdue(engine)
        assert store.find_job(engine, job.id).status is JobStatus.RUNNING  # it may still run
        clock.now += dt.timedelta(seconds=1)
        assert store.requeue_overdue(engine) == [job.number] * (attempt < 3)
    ended = store.find_job(engine, job.id)
    assert (ended.status, ended.error) == (JobStatus.FAILED, store.WORN_OUT)
    assert store.list_queued(engine) == [fresh.number]


def test_error_of_any_text_is_kept(engine):
    job = claim(engine, enter(engine))
    assert store.fail(engine, job, "a\0b\ud800c")
    assert store.find_job(engine, job.id).error == r"a\0b\ud800c"


def test_queued_jobs_are_listed(engine):
    some = [enter(engine, key=str(n)) for n in range(4)]
    claim(engine, some[0])
    store.cancel(engine, claim(engine, some[2]))
    assert store.list_queued(engine) == [some[1].number, some[3].number]


def test_only_what_the_service_ran_itself_is_interrupted_with_it(engine):
    waiting, of_worker = enter(engine), claim(engine, enter(engine, OLD))
    running, _ = store.submit(engine, AAPL, owner="bob", here=True)
    assert store.fail_interrupted(engine) == 1
    ended = store.find_job(engine, running.id)
    assert (ended.status, ended.error) == (JobStatus.FAILED, "the service was stopped while it ran. Submit it again.")
    assert [store.find_job(engine, job.id) for job in (waiting, of_worker)] == [waiting, of_worker]


def test_file_is_held_by_one_at_a_time_whatever_it_is_called(sqlite, tmp_path):
    (tmp_path / "other.db").symlink_to(tmp_path / "jobs.db")
    by_link = store.open_store(f"sqlite:///{tmp_path / 'other.db'}")
    with store.held_alone(sqlite) as first:
        for engine in (sqlite, by_link):
            with store.held_alone(engine) as second:
                assert (first, second) == (True, False)
    with store.held_alone(by_link) as again:
        assert again
    by_link.dispose()


def test_queue_is_named_after_its_database(engine, tmp_path):
    other = store.open_store(f"sqlite:///{tmp_path / 'other.db'}")
    names = [store.queue_name(engine), store.queue_name(engine), store.queue_name(other)]
    other.dispose()
    assert re.fullmatch("backgrid-[0-9a-f]{32}", names[0])
    assert names[0] == names[1] != names[2]


def test_number_is_never_given_twice_and_a_job_takes_its_rows_along(engine):
    done = complete(engine, enter(engine), b"<p>")
    with engine.begin() as connection:
        connection.execute(sa.delete(store.jobs).where(store.jobs.c.number == done.number))
    assert [count(engine, table) for table in (store.jobs, *OF_A_JOB)] == [0, 0, 0, 0]
    assert enter(engine).number == done.number + 1


def test_jobs_of_a_user_can_be_deleted_while_one_runs(engine):
    done, running, others = complete(engine, enter(engine), b"<p>"), enter(engine, OLD), enter(engine, owner="bob")
    claimed = claim(engine, running)
    with engine.begin() as connection:
        connection.execute(sa.text("DELETE FROM jobs WHERE owner = 'ann'"))
    assert not store.finish(engine, claimed, respond(claimed), b"<p>")
    assert not store.fail(engine, claimed, "late")
    assert not store.cancel(engine, running)
    assert store.find_job(engine, done.id) is None and store.read_report(engine, done) is None
    assert store.list_jobs(engine, filters={}, limit=10) == [others]
    assert [count(engine, table) for table in OF_A_JOB] == [0, 0, 0]


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
        "site",
    ]
    assert differences(engine) == []


def test_difference_between_tables_and_code_would_be_found(engine):
    with engine.begin() as connection:
        connection.execute(sa.text("ALTER TABLE jobs ADD COLUMN extra INTEGER"))
        connection.execute(sa.text("DROP INDEX jobs_by_owner"))
    assert {what[0] for what in differences(engine)} == {"remove_column", "add_index"}


def test_rows_outlive_a_second_opening(engine):
    done = complete(engine, enter(engine), b"<p>")
    again = store.open_store(engine.url.render_as_string(hide_password=False))
    assert store.find_job(again, done.id) == done
    assert store.read_result(again, done) == respond(done)
    assert store.read_report(again, done)[0] == b"<p>"
    assert store.submit(again, AAPL, owner="ann") == (done, False)
    again.dispose()


@pytest.mark.parametrize("kind", ["url", "postgres_url"])
def test_many_processes_make_the_tables_of_an_empty_database_at_once(request, kind):
    url = request.getfixturevalue(kind)
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


def test_readers_are_not_stopped_by_a_writer(sqlite):
    job = enter(sqlite)
    with sqlite.begin() as connection:
        connection.execute(sa.update(store.jobs).values(error="x"))
        assert store.find_job(sqlite, job.id) == job
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar_one() == "wal"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("jobs.db", "is no URL such as sqlite:///backgrid.db"),
        ("", "is no URL"),
        ("postgresql://h:x/db", "is no URL"),
        ("mysql://root@localhost/jobs", "must be sqlite or postgresql, got mysql"),
        ("postgres://localhost/jobs", "must be sqlite or postgresql, got postgres"),
        ("sqlite://", "must name a file, such as sqlite:///backgrid.db"),
        ("sqlite:///:memory:", "must name a file"),
        ("sqlite:///jobs.db?timeout=x", "must name a file"),
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
    said = r"cannot open BACKGRID_DATABASE_URL postgresql.*ann:\*\*\*@127.0.0.1:1/jobs: "
    for given in ("ann:verysecret@127.0.0.1:1/jobs", "ann:x@127.0.0.1:1/jobs?password=verysecret"):
        with pytest.raises(BackgridError, match=said) as no:
            store.open_store(f"postgresql://{given}")
        assert "verysecret" not in str(no.value)
    with pytest.raises(ParameterError, match="BACKGRID_DATABASE_URL is no URL") as no:
        store.open_store("postgresql:/ann:verysecret@127.0.0.1/jobs")
    assert "verysecret" not in str(no.value)


def test_database_of_a_newer_version_is_refused(engine):
    with engine.begin() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(BackgridError, match=r"cannot open BACKGRID_DATABASE_URL .*9999"):
        store.open_store(engine.url.render_as_string(hide_password=False))


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


def test_jobs_of_the_first_version_are_kept(engine):
    config = Config()
    config.set_main_option("script_location", str(Path(store.__file__).parent / "migrations"))
    done, running = complete(engine, enter(engine), b"<p>"), claim(engine, enter(engine, OLD))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, "0001")
    store.migrate(engine)
    assert (store.find_job(engine, done.id), store.read_result(engine, done)) == (done, respond(done))
    assert store.find_job(engine, running.id) == running
    assert store.fail_interrupted(engine) == 1  # nobody knows until when it may run


def test_service_that_cannot_answer_says_so(sqlite, tmp_path):
    engine = sqlite
    store.ping(engine)
    engine.dispose()
    os.rename(tmp_path / "jobs.db", tmp_path / "moved.db")
    (tmp_path / "jobs.db").mkdir()
    with pytest.raises(sa.exc.OperationalError):
        store.ping(engine)
