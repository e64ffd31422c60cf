"""PostgreSQL, Redis, `backgrid serve` and `backgrid worker` for tests: on free loopback ports, gone when a test ends.

    with run_site(folder) as site, run_worker(site.settings, folder):
        job = site.service.submit({"symbol": "AAPL", "strategy": "ma_crossover", "source": "sample"})
        assert site.service.wait([job]) == ["completed"]

Every process of backgrid that is started here, and whatever it starts, carries its folder's name in its environment,
so that `list_processes(folder)` tells what is left of it.
"""

import contextlib
import glob
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import psutil
import psycopg
import redis
import sqlalchemy as sa
from conftest import program
from tricky_worker import HANGS

from backgrid.jobs import store
from backgrid.jobs.queue import open_queue

PATIENCE = 60.0  # with anything that is waited for [seconds]
MARK = "BACKGRID_TEST_FOLDER"
FINAL = ("completed", "failed", "cancelled")
TRICKY = (str(Path(__file__).with_name("tricky_worker.py")),)


def until(condition, what, seconds=PATIENCE):
    """Wait for a condition, and give its value."""
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end, f"not within {seconds:g} s: {what}"
        time.sleep(0.02)
    return value


@contextlib.contextmanager
def within(seconds):
    """What is done here takes no longer."""
    started = time.monotonic()
    yield
    assert time.monotonic() - started < seconds


def free_port():
    """A port of 127.0.0.1 on which nobody listens."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class Server:
    """A program that can be stopped and started again."""

    def __init__(self, url, command, answers, ends_by=signal.SIGTERM, **options):
        self.url, self.command, self.answers, self.ends_by, self.options = url, command, answers, ends_by, options
        self.process = None

    def start(self):
        """Start it, and wait until it answers."""
        silent = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.DEVNULL)
        self.process = subprocess.Popen(self.command, **silent, **self.options)
        until(self.answers, f"{self.command[0]} answers")

    def stop(self, how=None):
        """End it."""
        if self.process is not None:
            self.process.send_signal(how or self.ends_by)
            self.process.wait(PATIENCE)
            self.process = None

    def pause(self):
        """Let it hang, with all its processes: it takes connections, and answers nothing."""
        self.signal_all(signal.SIGSTOP)

    def resume(self):
        """Let it go on."""
        self.signal_all(signal.SIGCONT)

    def signal_all(self, number):
        """Send a signal to its processes."""
        whole = psutil.Process(self.process.pid)
        for process in [whole, *whole.children(recursive=True)]:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(number)


@contextlib.contextmanager
def started(server):
    """A server while it is needed."""
    server.start()
    try:
        yield server
    finally:
        if server.process:
            server.resume()  # where a test failed while it was paused
        server.stop()


def state_of(process):
    """R, S, T, Z: runs, sleeps, was paused, has ended."""
    return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]


@contextlib.contextmanager
def run_redis():
    """An empty Redis, which forgets everything when it ends."""
    path, port = program("redis-server"), free_port()
    client = redis.Redis(port=port, socket_timeout=1.0, retry=None)

    def answers():
        with contextlib.suppress(redis.RedisError):
            return client.ping()

    with tempfile.TemporaryDirectory(prefix="redis-") as folder, contextlib.closing(client):
        command = [
            path,
            "--bind",
            "127.0.0.1",
            "--port",
            str(port),
            "--save",
            "",
            "--appendonly",
            "no",
            "--dir",
            folder,
        ]
        with started(Server(f"redis://127.0.0.1:{port}/0", command, answers, signal.SIGKILL)) as server:
            yield server


@contextlib.contextmanager
def run_postgres():
    """An empty PostgreSQL. It refuses to run as root: then it is that user's whom Debian's package brings."""
    user = {"user": "postgres", "group": "postgres", "extra_groups": []} if os.getuid() == 0 else {}
    with tempfile.TemporaryDirectory(prefix="postgres-") as folder:
        path = postgres_programs()
        if user:
            shutil.chown(folder, pwd.getpwnam("postgres").pw_uid)
        data, port = f"{folder}/data", free_port()
        initdb = [
            f"{path}/initdb",
            "-D",
            data,
            "-U",
            "backgrid",
            "-A",
            "trust",
            "--no-sync",
            "--encoding=UTF8",
            "--locale=C",
        ]
        subprocess.run(initdb, check=True, capture_output=True, cwd=folder, **user)
        url = f"postgresql://backgrid@127.0.0.1:{port}/postgres"

        def answers():
            with contextlib.suppress(psycopg.Error):
                psycopg.connect(url, connect_timeout=2).close()
                return True

        options = [*("-D", data), *("-p", str(port)), *("-h", "127.0.0.1"), *("-k", folder), *("-c", "fsync=off")]
        server = Server(url, [f"{path}/postgres", *options], answers, signal.SIGINT, cwd=folder, **user)
        with started(server):
            yield server


def postgres_programs():
    """Folder of PostgreSQL's programs; Debian keeps it out of the path."""
    debian = sorted(glob.glob("/usr/lib/postgresql/*/bin/initdb"))
    return os.path.dirname(debian[-1] if debian else program("initdb"))


# ---- backgrid's own processes ----------------------------------------------------------------------------------------


class Service:
    """A client of a service that runs."""

    def __init__(self, url):
        self.url = url
        self.client = httpx.Client(base_url=f"{url}/api/v1", timeout=30.0, trust_env=False)
        self.entered = 0

    def post(self, request, key=None):
        """The answer to a submission; a key makes a job of its own of an equal request."""
        return self.client.post("/jobs", json=request, headers={"Idempotency-Key": key} if key else {})

    def submit(self, request):
        """A job of its own."""
        self.entered += 1
        answer = self.post(request, f"{self.url} {self.entered}")
        assert answer.status_code == 202, answer.text
        return answer.json()

    def standing(self, job):
        """Status of a job."""
        return self.client.get(f"/jobs/{job['job_id']}/status").json()["status"]

    def read(self, job):
        """A job with what came of it."""
        return self.client.get(f"/jobs/{job['job_id']}").json()

    def cancel(self, job):
        """The answer to a cancellation."""
        return self.client.post(f"/jobs/{job['job_id']}/cancel")

    def wait(self, jobs, seconds=PATIENCE):
        """Status of these jobs when all have ended."""

        def ended(job):
            answer = self.client.get(f"/jobs/{job['job_id']}/status")
            return answer.status_code == 200 and answer.json()["status"] in FINAL

        for job in jobs:
            until(lambda job=job: ended(job), f"job {job['job_id']} has ended", seconds)
        return [self.standing(job) for job in jobs]


def environment(settings, folder):
    """That of this process, with settings, a folder for what is left behind, and a mark."""
    (folder / "tmp").mkdir(exist_ok=True)
    return {**os.environ, **settings, MARK: str(folder), "TMPDIR": str(folder / "tmp"), "BACKGRID_SOURCE": "sample"}


@contextlib.contextmanager
def run_process(command, settings, folder, log):
    """A process in a group of its own; nothing of the group outlives it."""
    with (folder / log).open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, *command],
            env=environment(settings, folder),
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(PATIENCE)


@contextlib.contextmanager
def run_service(settings, folder):
    """`backgrid serve` on a free port."""
    port = free_port()
    service = Service(f"http://127.0.0.1:{port}")

    def answers():
        assert process.poll() is None, (folder / "serve.log").read_text()
        with contextlib.suppress(httpx.HTTPError):
            return service.client.get("/health").status_code == 200

    command = ["-m", "backgrid", "serve", "--port", str(port)]
    with run_process(command, settings, folder, "serve.log") as process, service.client:
        until(answers, "the service answers")
        yield service


@contextlib.contextmanager
def run_worker(settings, folder, processes=2, command=TRICKY):
    """`backgrid worker`, by default that of tricky_worker.py, when it is ready to work."""
    log = folder / "worker.log"
    before = log.read_text().count(" ready, ") if log.exists() else 0

    def is_ready():
        assert process.poll() is None, log.read_text()
        return log.read_text().count(" ready, ") > before

    words = [*command, "worker", "-c", str(processes)]
    with run_process(words, settings, folder, "worker.log") as process:
        until(is_ready, "the worker is ready")
        yield process


class Site(NamedTuple):
    """A service over databases of its own, and the ways to look behind it."""

    folder: Path
    settings: dict[str, str]
    database: Server
    broker: Server
    engine: Any
    queue: Any
    service: Service

    def count_results(self):
        """Rows in the tables of results, equity curves and reports."""
        with self.engine.connect() as connection:
            tables = (store.results, store.equity_curves, store.reports)
            return [connection.execute(sa.select(sa.func.count()).select_from(table)).scalar_one() for table in tables]

    def attempts(self, job):
        """How many times workers have begun with a job."""
        return len([*self.folder.glob(f"attempt-{number_of(job)}-*")])

    def started(self, job, attempt=1):
        """Id of the process that makes an attempt at a job, once it does."""
        mark = self.folder / f"attempt-{number_of(job)}-{attempt}"
        return int(until(lambda: mark.exists() and mark.read_text(), f"{mark.name} is there"))

    def let_go(self, job):
        """End the hanging of a job."""
        (self.folder / f"go-{number_of(job)}").touch()

    def submit_hanging(self, request, count):
        """So many jobs that run and wait to be let go, and twenty in the queue behind them."""
        hanging = [self.service.submit({**request, "cash": HANGS}) for _ in range(count)]
        for job in hanging:
            self.started(job)
        return hanging, [self.service.submit(request) for _ in range(20)]

    def clear(self):
        """Nothing is left to do: a worker that ended with its test may not have acknowledged everything."""
        for server in (self.database, self.broker):
            server.resume()  # where a test failed while it was paused
        for status in ("queued", "running"):
            for job in store.list_jobs(self.engine, filters={"status": status}, limit=1000):
                store.cancel(self.engine, job)
        with contextlib.closing(redis.Redis.from_url(self.broker.url)) as client:
            client.flushdb()


@contextlib.contextmanager
def run_site(folder, **settings):
    """A service without workers."""
    with run_postgres() as database, run_redis() as broker:
        urls = {"BACKGRID_DATABASE_URL": database.url, "BACKGRID_BROKER_URL": broker.url}
        settings = {**urls, "BACKGRID_JOB_SECONDS": "60", "TRICKS": str(folder), **settings}
        engine = store.open_store(database.url)
        with run_service(settings, folder) as service, open_queue(broker.url, store.queue_name(engine)) as queue:
            yield Site(folder, settings, database, broker, engine, queue, service)
        engine.dispose()


def number_of(job):
    """The number of a job, from its answer."""
    return int(job["job_id"].rsplit("-", 1)[1])


def is_alive(process):
    """Whether a process is there, and more than an entry for its parent to read."""
    try:
        return state_of(process) != "Z"
    except OSError:
        return False


def list_processes(folder):
    """Ids of the living processes that carry a folder's mark: those started above, and whatever they started."""
    mark, found = f"{MARK}={folder}".encode(), []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdecimal() and mark in (entry / "environ").read_bytes().split(b"\0"):
                found.append(int(entry.name))
    return found
