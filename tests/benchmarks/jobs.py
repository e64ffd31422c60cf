"""The jobs service as its clients see it, in one process and with four workers: rows for the table of `make bench`.

`python tests/benchmarks/jobs.py` starts a PostgreSQL and a Redis of its own, `backgrid serve` and `backgrid worker
-c 4`, and ends them again, in some minutes; the clients run on the same cores. Every job is another pair of windows
over the same 1,508 daily bars, which are read from the cache on disk, as after a download. Jobs are counted in the
database, and some of their answers are held to what the notebook gives.
"""

import argparse
import contextlib
import datetime as dt
import http.client
import itertools
import json
import os
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import psutil
import sqlalchemy as sa

from backgrid.cache import cached_bars
from backgrid.data import SAMPLE
from backgrid.jobs.store import jobs, open_store, results
from backgrid.models import build_request
from backgrid.run import run_request

sys.path.insert(0, str(Path(__file__).parents[1]))
from servers import list_processes, run_postgres, run_redis, run_service, run_worker

CLIENTS = (1, 4, 16)
WORKERS = 4
RANGE = {"start": "2019-01-03", "end": "2024-12-30"}
ASKED = {"symbol": "AAPL", "source": "yahoo", **RANGE}
N_BARS = 1508
PAIRS = list(itertools.product(range(5, 105), range(105, 205)))  # of windows
SAMPLED = 50  # answers that are held to the notebook's
PATIENCE = 600.0  # with all jobs together [seconds]
TESTED = 20260101  # seed

Request = dict[str, Any]


class Answered(NamedTuple):
    """What a client got."""

    code: int
    seconds: float  # from the first byte sent to the last received
    body: dict[str, Any]


# ---- servers ---------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def postgres() -> Iterator[str]:
    """URL of a new PostgreSQL that waits for the disk at each commit, as that of the tests does not."""
    with run_postgres() as server:
        server.stop()
        server.command = ["fsync=on" if word == "fsync=off" else word for word in server.command]
        server.start()
        yield server.url


def resident(folder: Path) -> float:
    """Memory of the service that was started in a folder. [MB]"""
    processes = (psutil.Process(process) for process in list_processes(folder))
    return sum(process.memory_info().rss for process in processes if "serve" in process.cmdline()) / 1e6


def fill_cache(folder: Path) -> None:
    """Bars as a download leaves them in the cache, for this process and those that it starts."""
    os.environ.update(BACKGRID_CACHE=str(folder / "cache"), BACKGRID_LEDGER="off")
    raw = pd.read_parquet(SAMPLE / "AAPL_1d.parquet").loc[RANGE["start"] : RANGE["end"]]
    first, last = (dt.date.fromisoformat(day) for day in RANGE.values())
    cached_bars("AAPL", first, last, "1d", lambda *_: (raw, []))


# ---- clients ---------------------------------------------------------------------------------------------------------


def requests(fees: float) -> Iterator[Request]:
    """10,000 that differ, and differ from those with other fees."""
    for fast, slow in PAIRS:
        yield {**ASKED, "fees": fees, "params": {"fast_window": fast, "slow_window": slow}}


class Client:
    """One connection, kept open."""

    def __init__(self, port: int):
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60.0)
        self.connection.connect()
        self.connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # else head and body wait apart

    def ask(self, method: str, path: str, body: Request | None = None) -> Answered:
        data = None if body is None else json.dumps(body).encode()
        started = time.perf_counter()
        self.connection.request(method, f"/api/v1{path}", data, {"Content-Type": "application/json"})
        response = self.connection.getresponse()
        content = response.read()
        return Answered(response.status, time.perf_counter() - started, json.loads(content))


def submit_all(
    port: int, asked: list[Request], clients: int, rate: float | None = None
) -> tuple[float, list[Answered]]:
    """Submit by so many clients at once, each as fast as it is answered, or all together at a rate.

    Returns the seconds it took, and the answers.
    """
    todo, lock = iter(enumerate(asked)), threading.Lock()
    began = time.perf_counter()

    def work(_: int) -> list[Answered]:
        client, answers = Client(port), []
        while True:
            with lock:
                at, request = next(todo, (0, None))
            if request is None:
                return answers
            if rate:
                time.sleep(max(began + at / rate - time.perf_counter(), 0.0))
            answers.append(client.ask("POST", "/jobs", request))

    with ThreadPoolExecutor(clients) as pool:
        answers = [answer for of_client in pool.map(work, range(clients)) for answer in of_client]
    refused = [answer for answer in answers if answer.code not in (200, 202)]
    assert not refused, refused[:3]
    return time.perf_counter() - began, answers


def await_all(engine: sa.Engine) -> None:
    """Until no job is queued or running."""
    until = time.monotonic() + PATIENCE
    query = sa.select(sa.func.count()).where(jobs.c.status.in_(["queued", "running"]))
    while time.monotonic() < until:
        with engine.connect() as connection:
            if not connection.execute(query).scalar_one():
                return
        time.sleep(0.2)
    raise RuntimeError(f"jobs did not end within {PATIENCE:g} s")


def hold_to_notebook(engine: sa.Engine, expected: int) -> None:
    """Each job completed once and has its own result; some are what `run_request` gives here, to the last digit."""
    with engine.connect() as connection:
        states = dict(connection.execute(sa.select(jobs.c.status, sa.func.count()).group_by(jobs.c.status)).all())
        again = connection.execute(sa.select(sa.func.count()).where(jobs.c.attempts != 1)).scalar_one()
        written = connection.execute(sa.select(sa.func.count()).select_from(results)).scalar_one()
        found = connection.execute(
            sa.select(jobs.c.request, results.c.metrics).join(results, results.c.number == jobs.c.number)
        ).all()
    assert (states, written, again) == ({"completed": expected}, expected, 0), (states, written, again)
    assert len({json.dumps(asked, sort_keys=True) for asked, _ in found}) == expected
    for at in np.random.default_rng(TESTED).integers(expected, size=SAMPLED):
        asked, metrics = found[at]
        assert run_request(build_request(**asked)).metrics == metrics


# ---- what is measured ------------------------------------------------------------------------------------------------


def spread(took: list[float], digits: int = 0) -> str:
    """Median and 99th percentile of seconds."""
    middle, last = np.percentile(np.array(took) * 1e3, [50, 99])
    return f"p50 {middle:.{digits}f} ms, p99 {last:.{digits}f} ms"


def latency(answers: list[Answered]) -> str:
    return spread([answer.seconds for answer in answers])


def people(clients: int) -> str:
    return f"{clients} client{'s' * (clients > 1)}"


def first(n_jobs: int, fees: float) -> list[Request]:
    return list(itertools.islice(requests(fees), n_jobs))


def moments(engine: sa.Engine, fees: float) -> tuple[np.ndarray, float]:
    """Of the jobs with these fees: how long each waited for a worker [seconds], and how many ended a second."""
    times = (jobs.c.created_at, jobs.c.started_at, jobs.c.finished_at)
    with engine.connect() as connection:
        found = connection.execute(sa.select(*times).where(jobs.c.request["fees"].as_float() == fees)).all()
    created, started, finished = (np.array([at.timestamp() for at in column]) for column in zip(*found, strict=True))
    return started - created, len(found) / (finished.max() - created.min())


def embedded(folder: Path, n_jobs: int) -> Iterator[tuple[str, str]]:
    """The service of one process over SQLite, whose clients wait for their jobs."""
    url = f"sqlite:///{folder / 'jobs.db'}"
    with run_service({"BACKGRID_DATABASE_URL": url, "BACKGRID_BROKER_URL": ""}, folder) as service:
        port = service.client.base_url.port
        submit_all(port, first(16, 0.009), 16)  # compiled code, threads, connections
        for turn, clients in enumerate(CLIENTS):
            took, answers = submit_all(port, first(n_jobs, turn * 1e-4), clients)
            yield f"`backgrid serve` alone, {people(clients)}", f"{n_jobs / took:.0f} jobs/s, {latency(answers)}"
    with opened(url) as engine:
        hold_to_notebook(engine, 16 + len(CLIENTS) * n_jobs)


@contextlib.contextmanager
def opened(url: str) -> Iterator[sa.Engine]:
    engine = open_store(url)
    yield engine
    engine.dispose()


def one_at_rest(port: int, n_jobs: int, fees: float) -> list[float]:
    """From the request to the answer with the equity curve, one job after the other. [seconds]"""
    client, took = Client(port), []
    for request in first(n_jobs, fees):
        began = time.perf_counter()
        name = client.ask("POST", "/jobs", request).body["job_id"]
        while client.ask("GET", f"/jobs/{name}/status").body["status"] != "completed":
            time.sleep(0.002)
        assert len(client.ask("GET", f"/jobs/{name}").body["equity_curve"]) == N_BARS
        took.append(time.perf_counter() - began)
    return took


def with_workers(folder: Path, n_jobs: int, n_many: int, rate: float) -> Iterator[tuple[str, str]]:
    """The service with four workers over PostgreSQL and Redis."""
    with contextlib.ExitStack() as stack:
        database, broker = stack.enter_context(postgres()), stack.enter_context(run_redis()).url
        settings = {"BACKGRID_DATABASE_URL": database, "BACKGRID_BROKER_URL": broker}
        port = stack.enter_context(run_service(settings, folder)).client.base_url.port
        stack.enter_context(run_worker(settings, folder, WORKERS, ("-m", "backgrid")))
        engine = stack.enter_context(opened(database))

        def run(n_jobs: int, fees: float, clients: int, rate: float | None = None) -> tuple[str, np.ndarray, float]:
            took, answers = submit_all(port, first(n_jobs, fees), clients, rate)
            await_all(engine)
            return f"accepted {n_jobs / took:.0f}/s, {latency(answers)}", *moments(engine, fees)

        run(64, 0.009, 16)
        for turn, clients in enumerate(CLIENTS):
            accepted, _, ended = run(n_jobs, turn * 1e-4, clients)
            yield f"with {WORKERS} workers, {people(clients)}", f"{ended:.0f} jobs/s; {accepted}"
        took = one_at_rest(port, 100, 0.003)
        waited = spread(list(moments(engine, 0.003)[0]))
        yield "with workers, a job at rest, prices in the cache", f"{spread(took)} end to end; waited {waited}"
        accepted, waits, _ = run(10 * round(rate), 0.004, 16, rate)
        yield f"with workers, {rate:g} jobs/s for 10 s", f"{accepted}; waited {spread(list(waits))}"
        before = resident(folder)
        accepted, _, ended = run(n_many, 0.005, 4)
        grown = resident(folder) - before
        hold_to_notebook(engine, 64 + len(CLIENTS) * n_jobs + 100 + 10 * round(rate) + n_many)
        yield (
            f"{n_many:,} jobs at once, none lost or doubled",
            f"{ended:.0f} jobs/s; {accepted}; memory {grown:+.0f} MB",
        )


def rows(n_jobs: int = 500, n_many: int = 10_000, rate: float = 100.0) -> Iterator[tuple[str, str]]:
    """Both services, one after the other."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        fill_cache(folder)
        yield from embedded(folder, n_jobs)
        yield from with_workers(folder, n_jobs, n_many, rate)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--jobs", type=int, default=500, help="of each number of clients, up to 10,000")
    parser.add_argument("--many", type=int, default=10_000, help="at once, up to 10,000")
    parser.add_argument("--rate", type=float, default=100.0, help="of the load at which queueing is measured [jobs/s]")
    parser.add_argument("--source", choices=["yahoo", "sample"], default="yahoo", help="of the prices, both on disk")
    given = parser.parse_args()
    ASKED["source"] = given.source
    for what, value in rows(given.jobs, given.many, given.rate):
        print(f"{what}: {value}", flush=True)


if __name__ == "__main__":
    main()
