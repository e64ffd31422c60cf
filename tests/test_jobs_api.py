"""The HTTP door: the numbers of `run_request` and the bytes of `run_report`, each error one clear sentence."""

import asyncio
import concurrent.futures
import contextlib
import hashlib
import http.client
import json
import logging
import re
import socket
import sqlite3
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import httpx
import jwt
import pytest
import schemathesis
import sqlalchemy as sa
from fastapi.responses import StreamingResponse
from hypothesis import settings
from live import live
from schemathesis.specs.openapi.checks import positive_data_acceptance

from backgrid import __version__
from backgrid.errors import PricesError
from backgrid.jobs import api, middleware, running, store
from backgrid.jobs.auth import Issuer
from backgrid.jobs.queue import BrokerError
from backgrid.jobs.running import Outcome
from backgrid.jobs.schema import EXAMPLE
from backgrid.models import BacktestRequest, BacktestResponse
from backgrid.run import run_request

AAPL = {"symbol": "AAPL", "source": "sample", "start": "2023-01-01", "end": "2023-12-31"}
JSON = {"Content-Type": "application/json"}


@contextlib.contextmanager
def serving(folder, **how):
    """A service over a database in this folder: `.client` asks it, `.engine` is its database."""
    engine = store.open_store(f"sqlite:///{folder / 'jobs.db'}")
    with (
        live(api.create_app(engine, **how)) as url,
        httpx.Client(base_url=f"{url}/api/v1", timeout=60) as client,
    ):
        yield SimpleNamespace(url=url, client=client, engine=engine)
    engine.dispose()


@pytest.fixture
def service(tmp_path):
    with serving(tmp_path) as served:
        yield served


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """One service for all that needs no empty database."""
    with serving(tmp_path_factory.mktemp("shared")) as served:
        yield served


def respond(job):
    known = {"job_id": job.id, "status": "completed", "symbol": job.symbol, "strategy": job.strategy}
    return BacktestResponse(**known, sharpe=1.5, metrics={"sharpe": 1.5}, equity_curve=[1.0, 2.0])


@pytest.fixture
def ran(monkeypatch):
    """Jobs end at once; gives those that were run."""
    jobs = []

    def run_job(job):
        jobs.append(job)
        return Outcome(respond(job), b"<p>" if job.report else None)

    monkeypatch.setattr(api, "run_job", run_job)
    return jobs


@pytest.fixture
def held(monkeypatch):
    """Jobs begin, each with a release of `.begun`, and end when `.go_on` is set, with `.error` if there is one."""
    this = SimpleNamespace(jobs=[], begun=threading.Semaphore(0), go_on=threading.Event(), error=None)

    def run_job(job):
        this.jobs.append(job)
        this.begun.release()
        this.go_on.wait()
        return Outcome(error=this.error) if this.error else Outcome(respond(job))

    monkeypatch.setattr(api, "run_job", run_job)
    yield this
    this.go_on.set()


@contextlib.contextmanager
def queueing(folder):
    """A service with workers, which never come; `.sent` are the numbers that they were told of, `.ended` the killed."""
    sent, ended = [], []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(api, "publish", lambda queue, numbers: sent.extend(numbers))
        patch.setattr(api, "end_job", lambda queue, number: ended.append(number))
        with serving(folder, queue="the queue") as served:
            served.sent, served.ended = sent, ended
            yield served


@pytest.fixture
def queued(tmp_path):
    with queueing(tmp_path) as served:
        yield served


@pytest.fixture
def hurried(queued, monkeypatch):
    """One with workers, which has a quarter of a second to answer."""
    monkeypatch.setattr(middleware, "LONGEST_ANSWER", 0.25)
    return queued


@pytest.fixture
def hanging(monkeypatch):
    """A database that hangs when it is asked for a job, until this is set."""
    find_job, go_on = store.find_job, threading.Event()
    monkeypatch.setattr(store, "find_job", lambda *args: go_on.wait() and find_job(*args))
    yield go_on
    go_on.set()


def enter(service, asked=AAPL):
    """Enter a job by a connection of its own."""
    return httpx.post(f"{service.url}/api/v1/jobs", json=asked, timeout=60)


@contextlib.contextmanager
def all_entered(count):
    """Leave the block when so many requests that were sent in it have found their job."""
    submit, found = store.submit, threading.Semaphore(0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store, "submit", lambda *args, **how: (submit(*args, **how), found.release())[0])
        yield
        for _ in range(count):
            assert found.acquire(timeout=60)


def until(condition):
    """Wait for what comes within a moment."""
    end = time.monotonic() + 60.0
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def assert_refused(answer, code, said):
    """One sentence under `detail`, and nothing else."""
    assert answer.status_code == code, answer.text
    assert answer.headers["content-type"] == "application/json"
    assert list(answer.json()) == ["detail"]
    detail = answer.json()["detail"]
    assert re.fullmatch(said, detail), detail
    assert len(detail) < 500 and "\n" not in detail and "Traceback" not in detail


def exactly(text):
    return re.escape(text)


def numbers_of(answer):
    """An answer without what differs from run to run."""
    return {name: value for name, value in answer.items() if name in BacktestResponse.model_fields} | {
        "runtime_seconds": None
    }


# ---- answers ---------------------------------------------------------------------------------------------------------


def test_health_names_the_version(shared):
    answer = shared.client.get("/health")
    assert (answer.status_code, answer.json()) == (200, {"status": "ok", "version": __version__})


@pytest.mark.parametrize(
    "asked",
    [
        {"symbol": "AAPL", "strategy": "ma_crossover", "start": "2020-01-01", "source": "sample"},
        {**AAPL, "symbol": "aapl", "params": {"fast_window": 5, "slow_window": 15}, "fees": 0.001, "slippage": 0.0005},
        {**AAPL, "strategy": "rsi_reversion", "stop_loss": 0.05, "take_profit": 0.2, "fill": "close"},
        {**AAPL, "strategy": "bollinger_reversion", "sizing": "volatility", "size": 0.1, "rebalance": "week"},
        {**AAPL, "strategy": "buy_and_hold", "adjusted": False, "whole_units": True, "cash": 12_345.67},
        {"symbol": "EURUSD=X", "source": "sample", "interval": "1h", "strategy": "donchian_breakout"},
        {"symbol": "^GSPC", "source": "sample", "strategy": "momentum", "risk_free": 0.02, "borrow_rate": 0.01},
    ],
    ids=lambda asked: f"{asked['symbol']}-{asked.get('strategy')}",
)
def test_answer_is_that_of_run_request(shared, asked):
    answer = shared.client.post("/jobs", json=asked)
    assert answer.status_code == 200
    job_id = answer.json()["job_id"]
    expected = run_request(BacktestRequest(**asked), job_id=job_id).model_dump(mode="json")
    assert numbers_of(answer.json()) == numbers_of(expected)
    assert answer.json()["request"] == BacktestRequest(**asked).model_dump(mode="json")
    assert answer.json()["runtime_seconds"] > 0.0
    assert shared.client.get(f"/jobs/{job_id}").json() == answer.json()


def test_answer_of_the_first_plan_has_its_fields(shared):
    asked = {"symbol": "AAPL", "strategy": "ma_crossover", "start": "2020-01-01", "source": "sample"}
    job = shared.client.post("/jobs", json=asked).json()
    assert re.fullmatch(r"manual-\d{4}-\d\d-\d\d-\d{6}", job["job_id"])
    assert (job["status"], job["error"], job["report_url"]) == ("completed", None, None)
    assert -1.0 < job["max_drawdown"] < 0.0 < job["sharpe"] and job["equity_curve"][0] == 100_000.0
    assert job["equity_curve"][-1] / 100_000.0 - 1.0 == pytest.approx(job["total_return"])
    assert job["created_at"] <= job["started_at"] <= job["finished_at"]
    standing = shared.client.get(f"/jobs/{job['job_id']}/status")
    assert standing.json() == {"job_id": job["job_id"], "status": "completed", "error": None}


def test_job_without_a_report_says_so(service, ran):
    job_id = service.client.post("/jobs", json=AAPL).json()["job_id"]
    assert_refused(service.client.get(f"/jobs/{job_id}/report"), 404, f"job {job_id} has no report")


def test_list_is_paged_and_filtered(service, ran):
    asked = [("AAPL", "macd"), ("AMZN", "macd"), ("AAPL", "momentum"), ("AMZN", "momentum"), ("AAPL", "buy_and_hold")]
    answers = [service.client.post("/jobs", json={"symbol": symbol, "strategy": name}) for symbol, name in asked]
    ids = [answer.json()["job_id"] for answer in answers]

    def page(**query):
        answer = service.client.get("/jobs", params=query).json()
        return [ids.index(job["job_id"]) for job in answer["jobs"]], answer["next"] and ids.index(answer["next"])

    assert page() == page(limit=5) == page(limit=500) == ([4, 3, 2, 1, 0], None)
    assert page(limit=2) == ([4, 3], 3)
    assert page(limit=2, before=ids[3]) == ([2, 1], 1)
    assert page(limit=2, before=ids[1]) == ([0], None)
    assert page(before=ids[0]) == ([], None)
    assert page(symbol="amzn") == page(symbol="AMZN") == ([3, 1], None)
    assert page(strategy="macd", symbol="AAPL") == ([0], None)
    assert page(status="completed", limit=4) == ([4, 3, 2, 1], 1)
    assert page(status="failed") == page(symbol="NVDA") == ([], None)
    line = service.client.get("/jobs", params={"limit": 1}).json()["jobs"][0]
    last = answers[-1].json()
    assert line == {name: last[name] for name in line}
    assert list(line) == list(api.JobLine.model_fields)


def test_jobs_outlive_the_service(tmp_path, ran):
    with serving(tmp_path) as served:
        answer = served.client.post("/jobs", json={**AAPL, "report": True}).json()
    with serving(tmp_path) as served:
        assert served.client.get(f"/jobs/{answer['job_id']}").json() == answer
        assert served.client.post("/jobs", json={**AAPL, "report": True}).json() == answer
        assert served.client.get(f"/jobs/{answer['job_id']}/report").text == "<p>"
    assert len(ran) == 1


# ---- equal requests --------------------------------------------------------------------------------------------------


def test_fifty_equal_requests_at_once_are_one_job(service, ran):
    with concurrent.futures.ThreadPoolExecutor(50) as threads:
        answers = [*threads.map(enter, [service] * 50)]
    assert [answer.status_code for answer in answers] == [200] * 50
    assert [answer.json() for answer in answers] == [answers[0].json()] * 50
    assert len(ran) == 1
    with service.engine.connect() as connection:
        for table in (store.jobs, store.results, store.equity_curves):
            assert connection.execute(sa.select(sa.func.count()).select_from(table)).scalar_one() == 1


def test_those_who_wait_for_a_job_hear_how_it_failed(service, held):
    """All are told the same, whoever had it run."""
    held.error = PricesError("no such prices")
    with concurrent.futures.ThreadPoolExecutor(2) as threads:
        first = threads.submit(enter, service)
        held.begun.acquire()
        with all_entered(1):
            second = threads.submit(enter, service)
        held.go_on.set()
        for answer in (first.result(), second.result()):
            assert_refused(answer, 400, "no such prices")
    assert len(held.jobs) == 1


def test_those_who_wait_for_a_job_hold_up_nobody(service, held):
    """More of them than there are threads."""
    with concurrent.futures.ThreadPoolExecutor(60) as threads:
        with all_entered(60):
            answers = [threads.submit(enter, service) for _ in range(60)]
        assert service.client.get("/health", timeout=5).status_code == 200
        (job,) = service.client.get("/jobs?status=running", timeout=5).json()["jobs"]
        held.go_on.set()
        assert {(one.result().status_code, one.result().json()["job_id"]) for one in answers} == {(200, job["job_id"])}
    assert len(held.jobs) == 1


def test_of_too_many_jobs_as_many_are_run_at_once_as_may(service, held):
    asked = [{**AAPL, "fees": n / 100} for n in range(3 * api.MOST_AT_ONCE)]
    with concurrent.futures.ThreadPoolExecutor(len(asked)) as threads:
        with all_entered(len(asked)):
            answers = [threads.submit(enter, service, one) for one in asked]
        assert all(held.begun.acquire(timeout=60) for _ in range(api.MOST_AT_ONCE))
        assert not held.begun.acquire(timeout=0.2)
        held.go_on.set()
        told = [answer.result() for answer in answers]
    assert {(one.status_code, one.json()["status"]) for one in told} == {(200, "completed")}
    assert len({one.json()["job_id"] for one in told}) == len(held.jobs) == len(asked)


def test_job_runs_on_when_its_client_leaves(service, held):
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(f"{service.url}/api/v1/jobs", json=AAPL, timeout=0.5)
    held.begun.acquire()
    held.go_on.set()
    until(lambda: service.client.get("/jobs").json()["jobs"][0]["status"] == "completed")
    assert (enter(service).status_code, len(held.jobs)) == (200, 1)


def test_job_that_a_worker_runs_is_answered_at_once(service, ran):
    """One that it took when there was a broker."""
    job, _ = store.submit(service.engine, BacktestRequest(**AAPL), owner="")
    store.claim(service.engine, job.number, seconds=60.0)
    answer = service.client.post("/jobs", json=AAPL)
    assert (answer.status_code, answer.json()["job_id"], answer.json()["status"]) == (202, job.id, "running")
    assert ran == []


def test_job_that_was_entered_and_not_begun_is_run_by_the_next_who_asks(service, ran):
    job, _ = store.submit(service.engine, BacktestRequest(**AAPL), owner="")
    answer = service.client.post("/jobs", json=AAPL).json()
    assert (answer["job_id"], answer["status"], len(ran)) == (job.id, "completed", 1)


def test_idempotency_key_tells_requests_apart_and_together(service, ran):
    def enter_as(key, **more):
        return service.client.post("/jobs", json={**AAPL, **more}, headers={"Idempotency-Key": key.encode()})

    first = enter_as("a").json()
    assert enter_as("a").json() == first
    assert enter_as("b").json()["job_id"] != first["job_id"] != enter(service).json()["job_id"]
    said = f"this Idempotency-Key was used for another request, job {first['job_id']}"
    assert_refused(enter_as("a", fees=0.1), 422, said)
    assert_refused(enter_as("a", report=True), 422, said)
    assert enter_as("ü" * 10).status_code == enter_as("x" * 200).status_code == 200
    assert_refused(enter_as("x" * 201), 422, "idempotency-key: String should have at most 200 characters, got .*")
    assert_refused(enter_as(""), 422, "idempotency-key: String should have at least 1 character, got ''")


def test_failed_job_can_be_entered_again(service, monkeypatch, ran):
    nothing = {**AAPL, "symbol": "ZZZZ", "start": "1990-01-01"}
    with monkeypatch.context() as broken:
        broken.setattr(api, "run_job", lambda job: Outcome(error=PricesError("no such prices")))
        assert_refused(service.client.post("/jobs", json=nothing), 400, "no such prices")
    (failed,) = service.client.get("/jobs").json()["jobs"]
    assert (failed["status"], failed["error"]) == ("failed", "no such prices")
    again = service.client.post("/jobs", json=nothing)
    assert again.status_code == 200 and again.json()["job_id"] != failed["job_id"]
    shown = service.client.get(f"/jobs/{failed['job_id']}").json()
    assert (shown["status"], shown["sharpe"], shown["equity_curve"], shown["metrics"]) == ("failed", None, [], {})
    standing = {"job_id": failed["job_id"], "status": "failed", "error": "no such prices"}
    assert service.client.get(f"/jobs/{failed['job_id']}/status").json() == standing


# ---- with workers ----------------------------------------------------------------------------------------------------


def test_with_workers_a_job_is_queued_at_once(queued):
    answer = queued.client.post("/jobs", json={**AAPL, "report": True})
    job = answer.json()
    assert (answer.status_code, job["status"], job["sharpe"], job["equity_curve"]) == (202, "queued", None, [])
    assert (job["started_at"], job["finished_at"], job["report_url"]) == (None, None, None)
    again = queued.client.post("/jobs", json={**AAPL, "report": True})
    assert (again.status_code, again.json()) == (202, job)
    assert queued.sent == [1]  # once
    assert_refused(queued.client.get(f"/jobs/{job['job_id']}/report"), 404, f"job {job['job_id']} is not ready")
    claimed = store.claim(queued.engine, 1, seconds=60.0)
    assert queued.client.get(f"/jobs/{job['job_id']}/status").json()["status"] == "running"
    store.finish(queued.engine, claimed, respond(claimed), b"<p>")
    done = queued.client.post("/jobs", json={**AAPL, "report": True})
    assert (done.status_code, done.json()["status"], done.json()["sharpe"]) == (200, "completed", 1.5)
    page = queued.client.get(f"/jobs/{job['job_id']}/report")
    assert (page.text, page.headers["etag"]) == ("<p>", f'"{hashlib.sha256(b"<p>").hexdigest()}"')


@pytest.mark.parametrize("runs", [False, True])
def test_job_is_cancelled_and_can_be_entered_again(queued, runs):
    job_id = queued.client.post("/jobs", json=AAPL).json()["job_id"]
    claimed = store.claim(queued.engine, 1, seconds=60.0) if runs else None
    answer = queued.client.post(f"/jobs/{job_id}/cancel")
    assert (answer.status_code, answer.json()) == (200, {"job_id": job_id, "status": "cancelled", "error": None})
    assert queued.ended == [1]
    assert not claimed or not store.finish(queued.engine, claimed, respond(claimed))
    assert queued.client.get(f"/jobs/{job_id}").json()["status"] == "cancelled"
    assert_refused(queued.client.post(f"/jobs/{job_id}/cancel"), 409, f"job {job_id} has ended: cancelled")
    assert_refused(queued.client.get(f"/jobs/{job_id}/report"), 404, f"job {job_id} has no report")
    assert queued.client.post("/jobs", json=AAPL).json()["job_id"] != job_id


def test_job_whose_message_could_not_be_sent_stays_queued(queued, monkeypatch):
    """A worker's sweeper sends it later."""

    def publish(queue, numbers):
        raise BrokerError("the broker does not answer; try again")

    with monkeypatch.context() as broken:
        broken.setattr(api, "publish", publish)
        refused = enter(queued)
    assert_refused(refused, 503, "the broker does not answer; try again")
    assert refused.headers["retry-after"] == "5"
    (job,) = queued.client.get("/jobs").json()["jobs"]
    assert (job["status"], job["error"]) == ("queued", None)
    again = enter(queued)
    assert (again.status_code, again.json()["job_id"], queued.sent) == (202, job["job_id"], [])


def test_service_of_one_process_cannot_stop_its_jobs(service, held):
    with concurrent.futures.ThreadPoolExecutor(1) as threads:
        answer = threads.submit(enter, service)
        held.begun.acquire()
        (job,) = service.client.get("/jobs").json()["jobs"]
        said = f"job {job['job_id']} is run by the service itself, which cannot stop it"
        assert_refused(service.client.post(f"/jobs/{job['job_id']}/cancel"), 409, said)
        held.go_on.set()
        assert answer.result().json()["status"] == "completed"


# ---- in time ---------------------------------------------------------------------------------------------------------

NO_ANSWER = exactly("no answer within 0.25 s; try again")


def test_database_that_hangs_is_answered_for(hurried, hanging, caplog):
    """More requests than there are threads; when it goes on, so does the service."""
    caplog.set_level(logging.INFO, "backgrid.jobs")
    paths = [f"/jobs/manual-2026-11-30-{number:06d}" for number in range(60)]
    with concurrent.futures.ThreadPoolExecutor(60) as threads:
        for answer in threads.map(lambda path: httpx.get(f"{hurried.url}/api/v1{path}", timeout=60), paths):
            assert_refused(answer, 503, NO_ANSWER)
            assert (answer.headers["retry-after"], answer.headers["connection"]) == ("5", "close")
    until(lambda: len(caplog.messages) == 60)
    assert all(re.fullmatch(r"GET /api/v1/jobs/\S+ 503 \d+\.\d ms", line) for line in caplog.messages)
    assert_refused(hurried.client.get("/health"), 503, NO_ANSWER)
    hanging.set()
    until(lambda: hurried.client.get("/health").status_code == 200)
    assert_refused(hurried.client.get(paths[0]), 404, "there is no job .*")


def test_service_that_runs_its_jobs_itself_takes_its_time_for_them_alone(service, monkeypatch):
    """Everything else is answered in time, also while another program keeps its file locked."""
    monkeypatch.setattr(middleware, "LONGEST_ANSWER", 0.25)
    monkeypatch.setattr(api, "run_job", lambda job: time.sleep(0.6) or Outcome(respond(job)))
    assert enter(service).json()["status"] == "completed"
    with sqlite3.connect(service.engine.url.database) as other, concurrent.futures.ThreadPoolExecutor(4) as threads:
        other.execute("BEGIN IMMEDIATE")
        entered = [threads.submit(enter, service, {**AAPL, "fees": fees}) for fees in (0.1, 0.2, 0.3, 0.4)]
        until(lambda: service.client.get("/health").status_code == 503)
        other.rollback()
        assert [answer.result().json()["status"] for answer in entered] == ["completed"] * 4
    other.close()
    assert service.client.get("/health").status_code == 200


def test_error_that_comes_too_late_is_told_to_the_log_alone(hurried, monkeypatch, caplog):
    go_on = threading.Event()
    with monkeypatch.context() as broken:
        broken.setattr(store, "ping", lambda engine: go_on.wait() and 1 / 0)
        assert_refused(hurried.client.get("/health"), 503, NO_ANSWER)
        assert "ZeroDivisionError" not in caplog.text
        go_on.set()
        until(lambda: "ZeroDivisionError" in caplog.text)
    until(lambda: hurried.client.get("/health").status_code == 200)


@pytest.mark.parametrize("sent", [b"", b'{"symbol"'], ids=["nothing", "a part"])
def test_body_that_does_not_end_is_not_waited_for(hurried, sent):
    host, port = hurried.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=60) as line:
        line.sendall(b"POST /api/v1/jobs HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n")
        line.sendall(b"Content-Length: 100\r\n\r\n" + sent)
        answer = b"".join(iter(lambda: line.recv(1_000), b""))  # until it is closed
    assert answer.startswith(b"HTTP/1.1 503 ") and b"no answer within 0.25 s; try again" in answer


def test_body_that_is_too_large_is_refused_however_slowly_it_comes(hurried):
    """The answer has begun, and is given when the client listens."""
    line = http.client.HTTPConnection(hurried.url.removeprefix("http://"), timeout=60)
    line.putrequest("POST", "/api/v1/jobs")
    line.putheader("Content-Length", str(middleware.LARGEST_BODY + 5))
    line.endheaders()
    for _ in range(5):
        time.sleep(0.2)
        line.send(b"x")
    line.send(b" " * middleware.LARGEST_BODY)
    assert line.getresponse().status == 413
    line.close()


def test_answer_that_has_begun_is_not_cut(monkeypatch):
    monkeypatch.setattr(middleware, "LONGEST_ANSWER", 0.25)

    async def pieces():
        yield b"begun"
        await asyncio.sleep(0.5)
        yield b" and ended"

    async def app(scope, receive, send):
        await StreamingResponse(pieces())(scope, receive, send)

    with live(middleware.limit_time(app)) as url:
        assert httpx.get(url, timeout=60).text == "begun and ended"


# ---- whose pages may ask ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def named(tmp_path_factory):
    """A service that is called by its names alone."""
    with serving(tmp_path_factory.mktemp("named"), names={"127.0.0.1", "localhost", "::1"}) as served:
        yield served


@pytest.mark.parametrize("host", ["127.0.0.1:80", "localhost", "LocalHost:8000", "[::1]:80", "[::1]"])
def test_service_answers_to_its_names(named, ran, host):
    for headers in ({"Host": host}, {"Host": host, "Origin": f"http://{host}"}):
        assert named.client.get("/health", headers=headers).status_code == 200
        assert named.client.post("/jobs", json=AAPL, headers=headers).status_code == 200


@pytest.mark.parametrize(
    "host",
    [
        *(b"example.com", b"127.0.0.1.example.com", b"localhost.example.com:80", b"127.0.0.2", b"0.0.0.0", b"[::2]:80"),
        *(b"", b"[", b"[::1", b"]", b"[x]", b"::1", b":80", b"@", b"a\xe9", b"\xff" * 9, b"x" * 1_000),
    ],
    ids=lambda host: ascii(host)[:20],
)
def test_service_does_not_answer_to_another_name(named, ran, host):
    """A page of elsewhere may give its own name the address of this machine."""
    said = "the service is not called '.*'"
    for method, path in [("GET", "/health"), ("GET", "/jobs"), ("POST", "/jobs"), ("POST", "/jobs/x/cancel")]:
        asked = {"json": AAPL} if path == "/jobs" and method == "POST" else {}
        assert_refused(named.client.request(method, path, headers={"Host": host}, **asked), 403, said)
    assert ran == []


@pytest.mark.parametrize(
    "origin",
    ["https://example.com", "http://127.0.0.1:1", "http://127.0.0.1", "null", "", "127.0.0.1", "://", "[", "\xe9"],
)
def test_page_of_elsewhere_may_not_ask(named, ran, origin):
    for path in ("/jobs", "/jobs/x/cancel"):
        answer = named.client.post(path, json=AAPL, headers={"Origin": origin.encode()})
        assert_refused(answer, 403, "a page of '.*' may not ask the service")
    assert ran == []


def test_service_without_names_is_called_by_any(shared):
    headers = {"Host": "example.com", "Origin": "https://elsewhere.example.com"}
    assert shared.client.get("/health", headers=headers).status_code == 200


# ---- what is refused -------------------------------------------------------------------------------------------------

OBJECT = exactly(f"the body must be a JSON object, such as {json.dumps(EXAMPLE)}")
NO_JSON = "the body cannot be read as JSON"
DEEP = b'{"symbol":"AAPL","params":' + b"[" * 900 + b"]" * 900 + b"}"
BAD_BODIES = {
    "none": (b"", 422, OBJECT),
    "null": (b"null", 422, OBJECT),
    "list": (b"[1]", 422, OBJECT),
    "text": (b'"AAPL"', 422, OBJECT),
    "open": (b"{", 400, "the body is not JSON: Expecting property name enclosed in double quotes at character 1"),
    "garbage after": (b'{"symbol":"AAPL"} x', 400, "the body is not JSON: Extra data at character 18"),
    "no UTF-8": (b'{"symbol":"\xff"}', 400, NO_JSON),
    "deep lists": (b"[" * 50_000, 400, NO_JSON),
    "deep objects": (b'{"a":' * 19_000, 400, NO_JSON),
    "deep parameter": (DEEP, 422, "params: Input should be a valid dictionary, got .*"),
    "NaN": (b'{"symbol":"AAPL","fees":NaN}', 422, "fees: Input should be a finite number, got nan"),
    "infinity": (b'{"symbol":"AAPL","cash":1e999}', 422, "cash: Input should be a finite number, got inf"),
    "NaN parameter": (b'{"symbol":"AAPL","params":{"fast_window":NaN}}', 422, "params.fast_window.*, got nan"),
    "5,000 digits": (b'{"symbol":"AAPL","cash":1' + b"0" * 5_000 + b"}", 400, NO_JSON),
    "400 digits": (b'{"symbol":"AAPL","cash":1' + b"0" * 400 + b"}", 422, "cash: Input should be .*, got 10+[.]{3}0+"),
    "surrogate name": (rb'{"symbol":"AAPL","\ud800":1}', 422, "request: .* unicode string, got '.*ud800'"),
    "surrogate parameter": (rb'{"symbol":"AAPL","params":{"\ud800":1}}', 422, "params.* unicode string, got .*"),
    "long parameter": (json.dumps({**AAPL, "params": {"a" * 90_000: 1}}).encode(), 422, "params.'aaa.*at most 40 .*"),
    "5,000 parameters": (
        json.dumps({**AAPL, "params": {f"p{n}": n for n in range(5_000)}}).encode(),
        422,
        "params: Dictionary should have at most 40 items .*",
    ),
    "6,000 fields": (
        json.dumps({f"f{n}": n for n in range(6_000)}).encode(),
        422,
        "a request has no field 'f0'; known: .*",
    ),
    "100,000 fields": (
        json.dumps({f"f{n}": n for n in range(100_000)}).encode(),
        413,
        "a body may have at most 100,000 bytes",
    ),
}


@pytest.mark.parametrize(("body", "code", "said"), BAD_BODIES.values(), ids=BAD_BODIES.keys())
def test_body_that_is_no_request_is_refused(shared, ran, body, code, said):
    assert_refused(shared.client.post("/jobs", content=body, headers=JSON), code, said)
    assert ran == []


WRONG = {
    "no symbol": ({}, "symbol: Field required, got {}"),
    "unknown field": ({**AAPL, "fee": 0.1}, "a request has no field 'fee'; did you mean 'fees'[?] known: .*"),
    "nearly report": ({**AAPL, "repot": True}, "a request has no field 'repot'; did you mean 'report'[?] known: .*"),
    "unknown strategy": (
        {**AAPL, "strategy": "ma_cross"},
        "unknown strategy 'ma_cross'; did you mean 'ma_crossover'[?] known: .*",
    ),
    "no day": ({**AAPL, "start": "2023-02-30"}, "start must be a date such as 2023-12-31, got '2023-02-30'"),
    "ends first": ({**AAPL, "end": "2022-12-31"}, "end 2022-12-31 is before start 2023-01-01"),
    "fees": ({**AAPL, "fees": 1.0}, "fees: Input should be less than 1, got 1.0"),
    "text for a number": ({**AAPL, "fees": "0.1"}, "fees: Input should be a valid number, got '0.1'"),
    "report": ({**AAPL, "report": "yes"}, "report: Input should be a valid boolean, got 'yes'"),
    "no window": ({**AAPL, "params": {"fast_window": 0}}, "fast_window must be at least 1 bar, got 0"),
    "half a window": (
        {**AAPL, "params": {"fast_window": 2.5}},
        "fast_window must be a whole number.*, got 2.5 .*",
    ),
    "not below": (
        {**AAPL, "params": {"fast_window": 50}},
        "fast_window 50 must be below slow_window 50",
    ),
    "unknown parameter": (
        {**AAPL, "params": {"fast_windw": 5}},
        "ma_crossover has no parameter 'fast_windw'; did you mean 'fast_window'[?] .*",
    ),
    "parameter name": ({**AAPL, "params": {"a = 1\nopen('pwned','w')\nb": 1}}, "params.*pattern.*"),
    "no size": ({**AAPL, "sizing": "volatility", "size": -1.0}, "size: Input should be greater than 0, got -1.0"),
}


@pytest.mark.parametrize(("asked", "said"), WRONG.values(), ids=WRONG.keys())
def test_wrong_field_is_named_before_anything_is_entered(shared, ran, asked, said):
    before = shared.client.get("/jobs").json()
    assert_refused(shared.client.post("/jobs", json=asked), 422, said)
    assert ran == [] and shared.client.get("/jobs").json() == before


@pytest.mark.parametrize(
    "symbol",
    [
        *("../../etc/passwd", "..\\..\\x", "/etc/passwd", "", " ", ".", "..", "A/B", "A\0B", "A\nB", "%2e%2e%2f"),
        *("a" * 10_240, "🍎", "\u202eLPAA", "e\u0301", "\xe9", "<script>alert(1)</script>", "$(id)", "' OR 1=1"),
        *("\ud800", "AAPL ", "ＡＡＰＬ", None, 5, ["AAPL"], {"a": 1}, True),
    ],
    ids=lambda symbol: ascii(symbol)[:20],
)
def test_symbol_that_is_none_is_refused_before_anything_is_touched(shared, ran, symbol):
    body = json.dumps({"symbol": symbol, "source": "sample"}).encode()
    assert_refused(
        shared.client.post("/jobs", content=body, headers=JSON),
        422,
        "symbol .* is not a ticker: at most 20 letters and digits, .*",
    )
    if isinstance(symbol, str) and "\ud800" not in symbol:
        assert_refused(shared.client.get("/jobs", params={"symbol": symbol}), 422, "symbol .* is not a ticker: .*")
    assert ran == []


@pytest.mark.parametrize("symbol", ["^GSPC", "BRK-B", "EURUSD=X", "ES=F", "005930.KS", "BTC-USD", "CON", "btc-usd"])
def test_legal_symbol_is_run(shared, ran, symbol):
    answer = shared.client.post("/jobs", json={"symbol": symbol, "fees": 0.5})
    assert answer.status_code == 200 and answer.json()["symbol"] == symbol.upper()


def test_file_of_the_service_is_no_source(shared, ran, tmp_path, monkeypatch):
    """Not even one whose name begins as a source does."""
    monkeypatch.chdir(tmp_path)
    for name in ("sample.csv", "yahoo.parquet", "snapshot:x.csv", "prices.csv"):
        Path(name).write_text("Date,Close\n2023-01-02,1\n2023-01-03,2\n")
    paths = [
        "sample.csv",
        "./prices.csv",
        str(tmp_path / "prices.csv"),
        "yahoo.parquet",
        "snapshot:x.csv",
        "snapshot:x",
    ]
    for source in [*paths, "sample/../prices.csv", "/etc/passwd", "", "Sample", "sample\n", "sample\0", "x" * 1000]:
        asked = {"symbol": "AAPL", "source": source}
        said = "source must be yahoo, sample or snapshot:HASH here, got .*"
        assert_refused(shared.client.post("/jobs", json=asked), 422, said)
    assert ran == []
    for source in ("sample", "yahoo", "snapshot:" + "0" * 64, None):
        assert shared.client.post("/jobs", json={"symbol": "AAPL", "source": source}).status_code == 200


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (
            {"symbol": "ZZZZ"},
            "ZZZZ first bar..last bar: the embedded sample has no 1d bars of it. It holds AAPL 1d, .*",
        ),
        (
            {"symbol": "AAPL", "start": "1990-01-01", "end": "1990-12-31"},
            "AAPL 1990.*: sample has no bars in this range.*",
        ),
        ({"symbol": "AAPL", "params": {"slow_window": 10**9}}, "ma_crossover gave no signal in 1509 bars .*"),
        ({"symbol": "AAPL", "source": f"snapshot:{'1' * 64}"}, "AAPL .*: there is no intact 'snapshot:1.*"),
    ],
    ids=["symbol", "range", "window", "snapshot"],
)
def test_prices_that_cannot_be_had_or_backtested_are_a_failed_job(shared, asked, said):
    assert_refused(shared.client.post("/jobs", json={"source": "sample", **asked}), 400, said)
    newest = shared.client.get("/jobs", params={"limit": 1}).json()["jobs"][0]
    assert newest["status"] == "failed" and re.fullmatch(said, newest["error"])


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "application/xml", ""])
def test_body_of_another_type_is_refused(shared, ran, kind):
    """A page elsewhere can make a browser post such a body to this machine, but no JSON."""
    body = json.dumps(AAPL).encode()
    said = "the body must be JSON, and Content-Type say so: application/json"
    assert_refused(shared.client.post("/jobs", content=body, headers={"Content-Type": kind}), 415, said)
    assert ran == []


def test_last_of_two_equal_names_counts(shared, ran):
    body = b'{"symbol":"AAPL","symbol":"NVDA"}'
    assert shared.client.post("/jobs", content=body, headers=JSON).json()["symbol"] == "NVDA"


@pytest.mark.parametrize(
    ("method", "path", "code", "said"),
    [
        ("GET", "/jobs/x", 404, "there is no job 'x'"),
        ("GET", "/jobs/manual-2026-11-30-999999/status", 404, "there is no job 'manual-2026-11-30-999999'"),
        ("GET", "/jobs/manual-2026-11-30-999999/report", 404, "there is no job 'manual-2026-11-30-999999'"),
        ("POST", "/jobs/manual-2026-11-30-999999/cancel", 404, "there is no job 'manual-2026-11-30-999999'"),
        ("GET", "/jobs/%00%ff%f0%9f%8d%8e", 404, "there is no job '.*'"),
        ("GET", "/jobs/" + "x" * 101, 422, "job_id: String should have at most 100 characters, got 'xxx.*'"),
        ("GET", "/jobs/a%2Fb", 404, "there is nothing at '/api/v1/jobs/a/b'; /openapi.json lists what there is"),
        ("GET", "/nothing", 404, "there is nothing at '/api/v1/nothing'; /openapi.json lists what there is"),
        ("PUT", "/jobs", 405, "'/api/v1/jobs' takes GET, POST, not PUT"),
        ("DELETE", "/jobs/x", 405, "'/api/v1/jobs/x' takes GET, not DELETE"),
        ("POST", "/health", 405, "'/api/v1/health' takes GET, not POST"),
        ("GET", "/jobs?limit=0", 422, "limit: Input should be greater than or equal to 1, got '0'"),
        ("GET", "/jobs?limit=501", 422, "limit: Input should be less than or equal to 500, got '501'"),
        ("GET", "/jobs?limit=ten", 422, "limit: Input should be a valid integer, .*, got 'ten'"),
        ("GET", "/jobs?status=done", 422, "status: Input should be 'queued', .* or 'cancelled', got 'done'"),
        ("GET", "/jobs?strategy=macdd", 422, "unknown strategy 'macdd'; did you mean 'macd'[?] known: .*"),
        ("GET", "/jobs?statu=failed", 422, "a list has no filter 'statu'; did you mean 'status'[?] known: before, .*"),
        ("GET", "/jobs?before=x", 404, "before: there is no job 'x'"),
        ("GET", "/jobs?before=", 404, "before: there is no job ''"),
        ("GET", "/jobs?before=" + "x" * 101, 422, "before: String should have at most 100 characters, got 'xxx.*'"),
    ],
)
def test_question_without_an_answer_says_why(shared, method, path, code, said):
    answer = shared.client.request(method, path)
    assert_refused(answer, code, said)
    assert ("allow" in answer.headers) == (code == 405)


# ---- hostile clients -------------------------------------------------------------------------------------------------


def resident():
    """Memory of this process. [bytes]"""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


@pytest.mark.parametrize("declared", [True, False], ids=["declared", "chunked"])
def test_hundred_megabytes_are_refused_and_not_kept(shared, ran, declared):
    """The client sends them all before it looks at the answer, and still gets it."""
    before, piece = resident(), b" " * 100_000
    line = http.client.HTTPConnection(shared.url.removeprefix("http://"))
    line.putrequest("POST", "/api/v1/jobs")
    line.putheader("Content-Type", "application/json")
    line.putheader(*(("Content-Length", "100000000") if declared else ("Transfer-Encoding", "chunked")))
    line.endheaders()
    for _ in range(1_000):
        line.send(piece if declared else b"%x\r\n%b\r\n" % (len(piece), piece))
    line.send(b"" if declared else b"0\r\n\r\n")
    answer = line.getresponse()
    assert (answer.status, answer.getheader("Connection")) == (413, "close")
    assert json.load(answer) == {"detail": "a body may have at most 100,000 bytes"}
    line.close()
    assert resident() - before < 200e6
    assert ran == [] and shared.client.get("/health").status_code == 200


def test_body_of_the_largest_size_is_read(shared, ran):
    body = json.dumps(AAPL).encode()
    padded = body + b" " * (middleware.LARGEST_BODY - len(body))
    assert shared.client.post("/jobs", content=padded, headers=JSON).status_code == 200
    assert shared.client.post("/jobs", content=padded + b" ", headers=JSON).status_code == 413
    assert shared.client.post("/jobs", content=iter([padded, b" "]), headers=JSON).status_code == 413


def test_client_who_is_slow_or_leaves_holds_up_nobody(shared, ran):
    """More of them than there are threads."""
    body = json.dumps({**AAPL, "fees": 0.25}).encode()
    lines = ["POST /api/v1/jobs HTTP/1.1", "Host: x", "Content-Type: application/json", f"Content-Length: {len(body)}"]
    head = "\r\n".join([*lines, "", ""]).encode()
    host, port = shared.url.removeprefix("http://").split(":")
    with contextlib.ExitStack() as opened:
        slow = [opened.enter_context(socket.create_connection((host, int(port)))) for _ in range(60)]
        for line in slow:
            line.sendall(head + body[:5])
        assert shared.client.get("/health").status_code == 200
        assert shared.client.post("/jobs", json=AAPL).status_code == 200
        slow[0].sendall(body[5:])
        assert slow[0].recv(15) == b"HTTP/1.1 200 OK"
    assert shared.client.get("/health").status_code == 200


@pytest.mark.parametrize("sent", [b"\0" * 100, b"GET\r\n\r\n", b"GET /" + b"x" * 100_000])
def test_what_is_no_http_is_refused_and_others_are_served(shared, sent):
    host, port = shared.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as line, contextlib.suppress(ConnectionError):
        line.sendall(sent + b"\r\n\r\n")
        assert line.recv(12) == b"HTTP/1.1 400"
    assert shared.client.get("/health").status_code == 200


# ---- when the service fails ------------------------------------------------------------------------------------------


def test_error_that_nobody_expected_tells_the_client_nothing_and_the_log_all(service, monkeypatch, caplog):
    monkeypatch.setattr("backgrid.jobs.running.run_request", lambda *_, **__: 1 / 0)
    answer = service.client.post("/jobs", json=AAPL)
    assert_refused(answer, 500, r"internal error; the log of the process that ran it says more of job manual-\S+")
    (failed,) = service.client.get("/jobs").json()["jobs"]
    assert (failed["status"], failed["error"]) == ("failed", answer.json()["detail"])
    assert "ZeroDivisionError" in caplog.text and failed["job_id"] in caplog.text


def test_error_outside_of_a_job_is_one_sentence_too(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(store, "ping", lambda engine: 1 / 0)
    caplog.set_level(logging.INFO)
    with serving(tmp_path) as served:
        assert_refused(served.client.get("/health"), 500, "internal error; the log of the service says more")
    assert "ZeroDivisionError" in caplog.text
    (line,) = [one.getMessage() for one in caplog.records if one.name == "backgrid.jobs"]
    assert line.startswith("GET /api/v1/health 500 ")


@pytest.mark.parametrize(
    "error",
    [
        sa.exc.OperationalError("SELECT 1", {}, Exception("server closed\nthe connection of ann:secret")),
        sa.exc.InterfaceError("SELECT 1", {}, Exception("the cursor is closed")),
        sa.exc.TimeoutError("QueuePool limit reached"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_database_that_does_not_answer_is_said(shared, monkeypatch, error):
    def ping(engine):
        raise error

    monkeypatch.setattr(store, "ping", ping)
    answer = shared.client.get("/health")
    assert_refused(answer, 503, "the database does not answer; try again")
    assert answer.headers["retry-after"] == "5"


@pytest.fixture
def unwritten(service, ran, monkeypatch):
    """The name of a job whose result the database did not take, since it was away."""

    def write_outcome(*_):
        raise sa.exc.OperationalError("UPDATE", {}, Exception("gone"))

    with monkeypatch.context() as broken:
        broken.setattr(running, "PATIENCE", 0.0)
        broken.setattr(api, "write_outcome", write_outcome)
        assert_refused(enter(service), 503, "the database does not answer; try again")
    (job,) = service.client.get("/jobs").json()["jobs"]
    assert (job["status"], len(ran)) == ("running", 1)
    return job["job_id"]


def test_job_whose_result_could_not_be_written_is_run_again(service, ran, unwritten):
    again = enter(service)
    assert (again.status_code, again.json()["job_id"], again.json()["status"]) == (200, unwritten, "completed")
    assert len(ran) == 2


def test_job_whose_result_can_never_be_written_is_given_up_and_no_fault_of_its_client(service, monkeypatch, unwritten):
    monkeypatch.setattr(store, "MOST_ATTEMPTS", 1)
    assert_refused(enter(service), 500, exactly(store.WORN_OUT))
    assert enter(service).json()["job_id"] != unwritten


def test_job_whose_result_could_not_be_written_can_be_cancelled(service, ran, unwritten):
    answer = service.client.post(f"/jobs/{unwritten}/cancel")
    assert (answer.status_code, answer.json()["status"]) == (200, "cancelled")
    assert enter(service).json()["job_id"] != unwritten and len(ran) == 2


def test_every_request_is_one_line_in_the_log(tmp_path, caplog):
    caplog.set_level(logging.INFO, "backgrid.jobs")
    with serving(tmp_path) as served:
        served.client.get("/health")
        served.client.get("/jobs?limit=1")
        served.client.post("/jobs", json={"symbol": "?"})
        served.client.post("/jobs", content=b" " * 100_001, headers=JSON)
        served.client.get("/jobs/%0d%0aGET%20/x%1b[31m")
        served.client.get("/" + "x" * 1_000)
    lines = [one.getMessage() for one in caplog.records if one.name == "backgrid.jobs"]
    assert [re.sub(r" \d+\.\d ms$", "", line) for line in lines] == [
        "GET /api/v1/health 200",
        "GET /api/v1/jobs 200",
        "POST /api/v1/jobs 422",
        "POST /api/v1/jobs 413",
        "GET /api/v1/jobs/%0d%0aGET%20/x%1b[31m 404",
        f"GET /api/v1/{'x' * 192} 404",
    ]


# ---- the document ----------------------------------------------------------------------------------------------------

ISSUER = Issuer("HS256", b"a secret of this test, long enough")
TOKEN = {"Authorization": f"Bearer {jwt.encode({'sub': 'ann', 'exp': 2**40}, ISSUER.key, ISSUER.algorithm)}"}
DOCUMENT = api.create_app(None).openapi()


def schema_of(document):
    return schemathesis.openapi.from_dict(document, config=schemathesis.Config(seed=20261130))


schema, guarded = schema_of(DOCUMENT), schema_of(api.create_app(None, issuer=ISSUER).openapi())


def test_document_lists_every_door_with_its_problems():
    doors = {
        f"{method} {path}": sorted(how["responses"])
        for path, at in DOCUMENT["paths"].items()
        for method, how in at.items()
    }
    assert doors == {
        "get /api/v1/health": ["200", "403", "500", "503"],
        "post /api/v1/jobs": ["200", "202", "400", "401", "403", "413", "415", "422", "429", "500", "503"],
        "get /api/v1/jobs": ["200", "401", "403", "404", "422", "500", "503"],
        "get /api/v1/jobs/{job_id}": ["200", "401", "403", "404", "422", "500", "503"],
        "get /api/v1/jobs/{job_id}/status": ["200", "401", "403", "404", "422", "500", "503"],
        "get /api/v1/jobs/{job_id}/report": ["200", "401", "403", "404", "422", "500", "503"],
        "post /api/v1/jobs/{job_id}/cancel": ["200", "401", "403", "404", "409", "422", "500", "503"],
    }
    problems = DOCUMENT["paths"]["/api/v1/jobs"]["post"]["responses"]
    assert {code: list(how["headers"]) for code, how in problems.items() if "headers" in how} == {
        "401": ["WWW-Authenticate"],
        "429": ["Retry-After"],
        "503": ["Retry-After"],
    }


def test_examples_of_the_document_work_as_written(shared, ran):
    body = DOCUMENT["paths"]["/api/v1/jobs"]["post"]["requestBody"]["content"]["application/json"]
    assert len(body["examples"]) == 2
    for example in body["examples"].values():
        assert shared.client.post("/jobs", json=example["value"]).status_code == 200
    (answer,) = DOCUMENT["components"]["schemas"]["JobAnswer"]["examples"]
    assert api.JobAnswer.model_validate(answer).model_dump(mode="json", exclude_none=True) == answer
    assert api.JobAnswer.model_fields.keys() - answer.keys() == {"error"}


def test_document_is_served_and_no_page_that_loads_scripts(shared):
    root = httpx.Client(base_url=shared.url, timeout=60)
    assert root.get("/openapi.json").json() == DOCUMENT
    assert [root.get(path).status_code for path in ("/docs", "/redoc", "/")] == [404, 404, 404]
    root.close()


@pytest.fixture(scope="module")
def quick(tmp_path_factory):
    """Three services whose jobs end at once: one that runs them itself, one with workers, one with tokens."""
    folders = [tmp_path_factory.mktemp(name) for name in ("alone", "workers", "tokens")]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(api, "run_job", lambda job: Outcome(respond(job), b"<p>" if job.report else None))
        with (
            serving(folders[0]) as alone,
            queueing(folders[1]) as workers,
            serving(folders[2], issuer=ISSUER) as tokens,
        ):
            yield SimpleNamespace(alone=alone.url, workers=workers.url, tokens=tokens.url)


def keep_to_the_document(case, url, **how):
    """Rules between fields cannot be said in it (fast below slow, parameters by strategy): those may be refused."""
    case.call_and_validate(base_url=url, excluded_checks=[positive_data_acceptance], **how)


@schema.parametrize()
@settings(max_examples=40)
def test_service_keeps_to_its_document(case, quick):
    keep_to_the_document(case, quick.alone)


@schema.parametrize()
@settings(max_examples=15)
def test_service_with_workers_keeps_to_its_document(case, quick):
    keep_to_the_document(case, quick.workers)


@guarded.parametrize()
@settings(max_examples=15)
def test_service_with_tokens_keeps_to_its_document(case, quick):
    keep_to_the_document(case, quick.tokens, headers=TOKEN)
