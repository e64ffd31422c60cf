"""The service with a worker, as it is run: `backgrid serve` and `backgrid worker` over PostgreSQL and Redis."""

import hashlib
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
import sqlalchemy as sa
from servers import (
    environment,
    is_alive,
    list_processes,
    number_of,
    run_postgres,
    run_service,
    run_site,
    run_worker,
    until,
)
from tricky_worker import DIES_AFTER_COMMIT, DIES_BEFORE_COMMIT, HANGS, KILLS_ITS_WORKER

from backgrid.errors import ParameterError
from backgrid.jobs import store
from backgrid.jobs.queue import job_seconds, list_messages, open_queue

AAPL = {"symbol": "AAPL", "strategy": "ma_crossover", "start": "2023-01-01", "source": "sample"}
ALONE = 4  # processes: the service, the worker and its two


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A service, and a worker of two processes."""
    folder = tmp_path_factory.mktemp("jobs")
    with run_site(folder) as site, run_worker(site.settings, folder):
        yield site


def until_only_the_site_runs(site, seconds):
    """Wait until no process of a job is left."""
    until(lambda: len(list_processes(site.folder)) == ALONE, "nothing else runs", seconds)


def run_backgrid(folder, settings, *words):
    """The command, run to its end."""
    command = [sys.executable, "-m", "backgrid", *words]
    return subprocess.run(
        command, env=environment(settings, folder), cwd=folder, capture_output=True, text=True, timeout=60
    )


def test_smoke_finds_nothing_wrong(site):
    done = run_backgrid(site.folder, {}, "smoke", site.service.url)
    assert (done.returncode, done.stderr) == (0, "")
    asked = ["health", "submission", "retrieval", "invalid symbol", "bad parameter"]
    assert [line.split(":")[0] for line in done.stdout.splitlines()] == asked


def test_equal_submissions_at_once_are_one_job(site):
    before = site.count_results()[0]
    with ThreadPoolExecutor(50) as pool:
        answers = [*pool.map(lambda _: site.service.post({**AAPL, "fees": 0.0123}), range(50))]
    assert {answer.status_code for answer in answers} <= {200, 202}
    assert len({answer.json()["job_id"] for answer in answers}) == 1
    assert site.service.wait([answers[0].json()]) == ["completed"]
    assert site.count_results()[0] == before + 1


def test_hundreds_of_queued_jobs_are_each_run_once(site):
    before = site.count_results()[0]
    jobs = [site.service.submit({**AAPL, "fees": n / 100_000}) for n in range(300)]
    assert len({job["job_id"] for job in jobs}) == 300
    assert set(site.service.wait(jobs)) == {"completed"}
    assert site.count_results()[0] == before + 300
    assert {site.attempts(job) for job in jobs} == {1}


def test_a_job_that_was_cancelled_in_the_queue_never_runs(site):
    blocking = [site.service.submit({**AAPL, "cash": HANGS}) for _ in range(2)]
    for job in blocking:
        site.started(job)
    waiting = site.service.submit(AAPL)
    assert site.service.standing(waiting) == "queued"
    assert site.service.cancel(waiting).json()["status"] == "cancelled"
    for job in blocking:
        site.let_go(job)
    assert site.service.wait(blocking) == ["completed", "completed"]
    until(lambda: not list_messages(site.queue), "the message of the cancelled job was taken")
    assert (site.service.standing(waiting), site.attempts(waiting)) == ("cancelled", 0)


def test_a_running_job_that_is_cancelled_ends_at_once_and_is_never_completed(site):
    job = site.service.submit({**AAPL, "cash": HANGS})
    process = site.started(job)
    assert site.service.cancel(job).json()["status"] == "cancelled"
    until(lambda: not is_alive(process), "its process has ended", 5.0)
    site.let_go(job)
    assert site.service.wait([site.service.submit(AAPL)]) == ["completed"]
    until(lambda: not list_messages(site.queue), "its message is gone")
    assert (site.service.standing(job), site.attempts(job)) == ("cancelled", 1)
    assert site.service.cancel(job).status_code == 409


def test_a_report_leaves_nothing_behind(site):
    until_only_the_site_runs(site, 30.0)
    before, files = site.count_results()[2], {*(site.folder / "tmp").iterdir()}
    job = site.service.submit({**AAPL, "report": True})
    assert site.service.wait([job]) == ["completed"]
    page = site.service.client.get(site.service.url + site.service.read(job)["report_url"])
    assert page.status_code == 200 and page.text.startswith("<!DOCTYPE html>") and "AAPL" in page.text
    assert site.count_results()[2] == before + 1
    until_only_the_site_runs(site, 10.0)
    assert {*(site.folder / "tmp").iterdir()} == files


def test_a_report_that_is_cancelled_takes_its_kernel_along(site):
    until_only_the_site_runs(site, 30.0)
    job = site.service.submit({**AAPL, "report": True})
    until(lambda: len(list_processes(site.folder)) == ALONE + 2, "its process on standby and its kernel run")
    assert site.service.cancel(job).json()["status"] == "cancelled"
    until_only_the_site_runs(site, 5.0)
    assert site.service.standing(job) == "cancelled"


def test_a_job_whose_process_is_killed_is_done_again(site):
    job = site.service.submit({**AAPL, "cash": HANGS})
    os.kill(site.started(job), signal.SIGKILL)
    site.started(job, attempt=2)
    site.let_go(job)
    assert site.service.wait([job], 30.0) == ["completed"]
    assert site.attempts(job) == 2


def test_a_job_that_kills_its_process_fails_after_three_attempts_and_harms_no_other(site):
    jobs = [site.service.submit({**AAPL, "cash": cash}) for cash in (KILLS_ITS_WORKER, *range(2000, 2020))]
    assert site.service.wait(jobs) == ["failed"] + ["completed"] * 20
    assert [site.attempts(job) for job in jobs] == [3] + [1] * 20
    assert site.service.read(jobs[0])["error"] == store.WORN_OUT


@pytest.mark.parametrize("report", [False, True])
@pytest.mark.parametrize(("cash", "attempts"), [(DIES_BEFORE_COMMIT, 2), (DIES_AFTER_COMMIT, 1)])
def test_a_process_killed_around_the_commit_leaves_one_result(site, cash, attempts, report):
    before = site.count_results()
    job = site.service.submit({**AAPL, "cash": cash, "report": report})
    assert site.service.wait([job]) == ["completed"]
    until(lambda: not list_messages(site.queue), "its message is gone")
    assert site.attempts(job) == attempts
    assert site.count_results() == [before[0] + 1, before[1] + 1, before[2] + report]
    assert len(site.service.read(job)["equity_curve"]) > 1
    if report:
        page = site.service.client.get(f"/jobs/{job['job_id']}/report")
        assert page.headers["ETag"] == f'"{hashlib.sha256(page.content).hexdigest()}"'


def test_the_database_refuses_a_second_result(site):
    keys = {
        table: sa.inspect(site.engine).get_pk_constraint(table) for table in ("results", "equity_curves", "reports")
    }
    assert [key["constrained_columns"] for key in keys.values()] == [["number"]] * 3


def test_a_job_is_one_line_of_the_log(site):
    job = site.service.submit(AAPL)
    assert site.service.wait([job]) == ["completed"]
    log = site.folder / "worker.log"
    until(lambda: f"job {job['job_id']} " in log.read_text(), "the line is written")
    lines = [line for line in log.read_text().splitlines() if job["job_id"] in line or f"[{number_of(job)}]" in line]
    assert len(lines) == 1 and f"INFO job {job['job_id']} completed, " in lines[0]
    assert not [line for line in log.read_text().splitlines() if line.startswith((" ", "Traceback"))]


def test_two_sites_share_a_broker_and_not_their_jobs(site, tmp_path):
    with run_postgres() as other:
        settings = {**site.settings, "BACKGRID_DATABASE_URL": other.url, "TRICKS": str(tmp_path)}
        with run_service(settings, tmp_path) as service:
            job = service.submit(AAPL)
            assert site.service.wait([site.service.submit(AAPL)]) == ["completed"]  # whose workers left it alone
            assert service.standing(job) == "queued"
            with run_worker(settings, tmp_path, processes=1):
                assert service.wait([job]) == ["completed"]


def test_celery_is_set_so_that_no_job_is_lost():
    conf = open_queue("redis://127.0.0.1:6379/0", "backgrid-x").conf
    assert conf.task_acks_late and conf.task_reject_on_worker_lost and conf.worker_prefetch_multiplier == 1
    transport = conf.broker_transport_options
    assert transport["visibility_timeout"] > conf.task_time_limit > job_seconds()
    assert transport["unacked_restore_interval"] == transport["unacked_restore_throttle"] == 1
    own = {transport[name] for name in ("unacked_key", "unacked_index_key", "unacked_mutex_key")}
    assert len(own) == 3 and all(name.startswith("backgrid-x.") for name in own)
    assert conf.task_default_queue == conf.control_exchange == "backgrid-x"


@pytest.mark.parametrize("url", ["amqp://127.0.0.1", "redis://127.0.0.1:port/0", "redis://127.0.0.1/name", "redis"])
def test_a_broker_that_is_no_redis_is_refused(url):
    with pytest.raises(ParameterError, match="BACKGRID_BROKER_URL must be the address of a Redis, such as redis://"):
        open_queue(url, "backgrid")


@pytest.mark.parametrize(
    ("name", "url", "said"),
    [
        (
            "BACKGRID_DATABASE_URL",
            "postgresql://127.0.0.1:1/none",
            "cannot open BACKGRID_DATABASE_URL postgresql",
        ),
        ("BACKGRID_BROKER_URL", "redis://127.0.0.1:1/0", "the broker does not answer; try again"),
    ],
)
def test_a_worker_without_its_servers_says_so_and_ends(site, name, url, said):
    done = run_backgrid(site.folder, {**site.settings, name: url}, "worker")
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1].startswith(f"backgrid: {said}")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"BACKGRID_BROKER_URL": ""}, "workers need BACKGRID_BROKER_URL, such as redis://127.0.0.1:6379/0"),
        (
            {"BACKGRID_BROKER_URL": "redis://127.0.0.1:1/0", "BACKGRID_DATABASE_URL": ""},
            "with BACKGRID_BROKER_URL, BACKGRID_DATABASE_URL must be a PostgreSQL",
        ),
    ],
    ids=["broker", "database"],
)
def test_a_worker_needs_a_broker_and_a_database_of_many(tmp_path, settings, said):
    done = run_backgrid(tmp_path, settings, "worker")
    assert (done.returncode, done.stderr) == (2, f"backgrid: {said}\n")
