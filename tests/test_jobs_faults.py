"""The service when a worker, the broker or the database stops: no job is lost, and none is done twice."""

import contextlib
import datetime as dt
import os
import signal

import pytest
import redis
import sqlalchemy as sa
from servers import is_alive, list_processes, number_of, run_site, run_worker, until
from tricky_worker import HANGS, HEEDS_NO_TIME

from backgrid.jobs import store
from backgrid.jobs.queue import list_messages, publish
from backgrid.jobs.worker import sweep
from backgrid.models import BacktestRequest

AAPL = {"symbol": "AAPL", "strategy": "ma_crossover", "start": "2023-01-01", "source": "sample"}


@pytest.fixture(scope="module")
def whole_site(tmp_path_factory):
    """A service without workers; each test starts its own."""
    with run_site(tmp_path_factory.mktemp("faults")) as site:
        yield site


@pytest.fixture
def site(whole_site):
    """The service, with nothing left to do."""
    whole_site.clear()
    return whole_site


def test_jobs_of_a_killed_worker_are_done_by_another(site):
    """After their deadline: the limit of a job and twice ten seconds."""
    brief, before = {**site.settings, "BACKGRID_JOB_SECONDS": "4"}, site.count_results()[0]
    with run_worker(brief, site.folder) as worker:
        hanging, others = site.submit_hanging(AAPL, 2)
        os.killpg(worker.pid, signal.SIGKILL)
    with run_worker(brief, site.folder):
        for job in hanging:
            site.let_go(job)
        assert site.service.wait(others) == ["completed"] * 20
        assert site.service.wait(hanging, 4.0 + 20.0 + 30.0) == ["completed"] * 2
    assert [site.attempts(job) for job in hanging] == [2, 2]
    assert site.count_results()[0] == before + 22


def test_jobs_of_a_worker_that_is_frozen_are_done_by_another_at_their_deadline(site):
    """Whatever limit that other has for jobs of its own; and what the first still does then comes too late."""
    with run_worker({**site.settings, "BACKGRID_JOB_SECONDS": "5"}, site.folder, processes=1) as frozen:
        job = site.service.submit({**AAPL, "cash": HANGS})
        site.started(job)
        os.killpg(frozen.pid, signal.SIGSTOP)
        with run_worker({**site.settings, "BACKGRID_JOB_SECONDS": "3600"}, site.folder, processes=1):
            site.let_go(job)
            assert site.service.wait([job], 5.0 + 20.0 + 30.0) == ["completed"]
            os.killpg(frozen.pid, signal.SIGCONT)
            until(lambda: not list_messages(site.queue), "every message was taken")
    assert (site.service.standing(job), site.attempts(job)) == ("completed", 2)


def test_a_connection_that_is_cut_runs_no_job_twice(site):
    """A message that is given back then does not start a job that runs on."""
    before = site.count_results()[0]
    with run_worker(site.settings, site.folder) as worker:
        hanging, others = site.submit_hanging(AAPL, 1)
        with contextlib.closing(redis.Redis.from_url(site.broker.url)) as client:
            for kind in ("normal", "pubsub"):
                client.client_kill_filter(_type=kind, skipme=True)
        assert site.service.wait(others) == ["completed"] * 20
        site.let_go(hanging[0])
        assert site.service.wait(hanging) == ["completed"]
        assert is_alive(worker.pid)
    assert {site.attempts(job) for job in [*hanging, *others]} == {1}
    assert site.count_results()[0] == before + 21


def test_a_job_that_runs_too_long_fails_with_its_limit(site):
    with run_worker({**site.settings, "BACKGRID_JOB_SECONDS": "0.5"}, site.folder):
        kinds = ({"cash": HEEDS_NO_TIME}, {"cash": HANGS}, {"report": True})
        jobs = [site.service.submit({**AAPL, **kind}) for kind in kinds]
        assert site.service.wait([*jobs, site.service.submit(AAPL)]) == ["failed"] * 3 + ["completed"]
        assert [site.service.read(job)["error"] for job in jobs] == ["it ran longer than 0.5 seconds"] * 3
        assert [site.attempts(job) for job in jobs] == [1, 1, 1]


def test_a_worker_told_to_stop_ends_what_it_runs_and_goes(site):
    own = site.folder / "own"
    own.mkdir()
    with run_worker(site.settings, own, processes=1) as worker:
        job, waiting = site.service.submit({**AAPL, "cash": HANGS}), site.service.submit(AAPL)
        site.started(job)
        worker.send_signal(signal.SIGTERM)
        until(lambda: "Warm shutdown" in (own / "worker.log").read_text(), "it has heard of it")
        site.let_go(job)
        assert worker.wait(10.0) == 0
    until(lambda: not list_processes(own), "all its processes have ended")
    assert [site.service.standing(one) for one in (job, waiting)] == ["completed", "queued"]
    assert list_messages(site.queue) == {number_of(waiting)}
    with run_worker(site.settings, site.folder):
        assert site.service.wait([waiting]) == ["completed"]


def enter(site, *keys):
    """Jobs of which the broker knows nothing."""
    return [store.submit(site.engine, BacktestRequest(**AAPL), owner="", key=key)[0] for key in keys]


def test_only_what_the_broker_does_not_know_is_sent_again(site):
    known, lost, done = enter(site, "known", "lost", "done")
    publish(site.queue, [known.number, done.number])
    store.cancel(site.engine, done)  # whose message must not stand for the lost one
    assert sweep(site.engine, site.queue) == 1
    assert list_messages(site.queue) == {known.number, lost.number, done.number}
    assert sweep(site.engine, site.queue) == 0
    for job in (known, lost):
        store.cancel(site.engine, job)
    site.queue.control.purge()
    assert sweep(site.engine, site.queue) == 0


def test_a_job_whose_workers_vanish_with_its_message_is_queued_again_and_at_last_fails(site):
    (job,) = enter(site, "vanishing")
    for attempt in (1, 2, 3):
        assert store.claim(site.engine, job.number, seconds=60.0).attempts == attempt
        assert sweep(site.engine, site.queue) == 0  # it may still be running
        store.release(site.engine, job.number, store.utc_now() + dt.timedelta(seconds=1))
        assert sweep(site.engine, site.queue) == (attempt < 3)
        site.queue.control.purge()
    with site.engine.connect() as connection:
        status = connection.execute(
            sa.select(store.jobs.c.status).where(store.jobs.c.number == job.number)
        ).scalar_one()
    assert status == "failed"
