"""The service while the broker or the database is away, or hangs: it says so at once, and no job is lost or doubled."""

import signal
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from servers import is_alive, run_site, run_worker, until, within

from backgrid.jobs.queue import list_messages

AAPL = {"symbol": "AAPL", "strategy": "ma_crossover", "start": "2023-01-01", "source": "sample"}
ANSWER = 5.0  # within which the service says that something is wrong [seconds]
OUTAGE = 60.0  # of the broker [seconds]


@pytest.fixture(scope="module")
def whole_site(tmp_path_factory):
    """A service without workers; each test starts its own."""
    with run_site(tmp_path_factory.mktemp("outages")) as site:
        yield site


@pytest.fixture
def site(whole_site):
    """The service, with nothing left to do."""
    whole_site.clear()
    return whole_site


def test_a_broker_that_is_killed_for_a_minute_and_forgets_everything_loses_no_job(site):
    before, tries = site.count_results()[0], [f"while it is down {n}" for n in range(5)]
    with run_worker(site.settings, site.folder) as worker:
        hanging, others = site.submit_hanging(AAPL, 2)
        site.broker.stop(signal.SIGKILL)
        for job in hanging:
            site.let_go(job)
        for key in tries:
            with within(ANSWER):
                refused = site.service.post(AAPL, key)
            assert refused.status_code == 503 and refused.headers["Retry-After"] == "5"
            assert refused.json() == {"detail": "the broker does not answer; try again"}
            assert site.service.standing(others[0]) == "queued"
            time.sleep(OUTAGE / len(tries))
        site.broker.start()
        again = [site.service.post(AAPL, key) for key in tries]  # whoever tries again finds it kept
        assert {answer.status_code for answer in again} <= {200, 202}
        late = [*(answer.json() for answer in again), site.service.submit(AAPL)]
        assert set(site.service.wait([*hanging, *others, *late])) == {"completed"}
        until(lambda: not list_messages(site.queue), "every message was taken")
        assert is_alive(worker.pid)
    assert {site.attempts(job) for job in [*hanging, *others, *late]} == {1}
    assert site.count_results()[0] == before + 22 + len(late)


def test_a_broker_that_hangs_is_not_waited_for(site):
    with run_worker(site.settings, site.folder):
        hanging, others = site.submit_hanging(AAPL, 2)
        site.broker.pause()
        with within(ANSWER):
            assert site.service.post(AAPL, "while it hangs").status_code == 503
        with within(ANSWER):
            assert site.service.cancel(others[0]).status_code == 200
        site.broker.resume()
        for job in hanging:
            site.let_go(job)
        assert site.service.wait(hanging) == ["completed"] * 2
        assert site.service.wait(others) == ["cancelled"] + ["completed"] * 19
    assert {site.attempts(job) for job in hanging} == {1}


@pytest.mark.parametrize(("way", "seconds"), [("stops", 30.0), ("hangs", 10.0)])
def test_a_database_that_is_away_loses_no_job(site, way, seconds):
    before = site.count_results()[0]
    with run_worker(site.settings, site.folder) as worker:
        hanging, others = site.submit_hanging(AAPL, 2)
        away, back = (site.database.stop, site.database.start)
        if way == "hangs":
            away, back = site.database.pause, site.database.resume
        away()
        for job in hanging:
            site.let_go(job)
        until_over = time.monotonic() + seconds
        while time.monotonic() < until_over:
            for ask in (lambda: site.service.client.get("/health"), lambda: site.service.post(AAPL)):
                with within(ANSWER):
                    refused = ask()
                assert (refused.status_code, refused.headers["Retry-After"]) == (503, "5")
                assert refused.json()["detail"].endswith("; try again")
        back()
        assert set(site.service.wait([*hanging, *others], 30.0)) == {"completed"}
        assert site.service.client.get("/health").status_code == 200
        assert is_alive(worker.pid)
    assert {site.attempts(job) for job in [*hanging, *others]} == {1}
    assert site.count_results()[0] >= before + 22


def test_requests_in_plenty_while_the_database_hangs_hold_up_nothing_later(site):
    """More than the service has threads: each is refused, and all work again when it goes on."""
    site.database.pause()
    with within(2 * ANSWER), ThreadPoolExecutor(60) as threads:
        codes = {*threads.map(lambda n: site.service.post(AAPL, f"plenty {n}").status_code, range(60))}
    site.database.resume()
    assert codes == {503}
    until(lambda: site.service.client.get("/health").status_code == 200, "it answers", ANSWER)
    assert site.service.client.get("/jobs").status_code == 200
