"""One real `backgrid serve`: the smoke test passes, reports are those of `run_report`, jobs outlive its restart."""

import concurrent.futures
import contextlib
import functools
import http.server
import json
import os
import re
import signal
import subprocess
import sys
import threading

import httpx
import jwt
import pytest

from backgrid import __version__
from backgrid.jobs import store
from backgrid.jobs.smoke import AAPL, SmokeError, smoke
from backgrid.models import BacktestRequest
from backgrid.report import run_report
from backgrid.settings import SETTINGS

YEAR = {**AAPL, "start": "2023-01-01", "end": "2023-12-31", "fees": 0.001}
COMMAND = [sys.executable, "-m", "backgrid"]


def environment(**settings):
    """That of these tests, with no setting of the service but these."""
    own = {name: value for name, value in os.environ.items() if name not in SETTINGS or "JWT" not in name}
    return {**own, "BACKGRID_BROKER_URL": "", "BACKGRID_RATE_LIMIT": "", **settings}


@contextlib.contextmanager
def serve(folder, *words, **settings):
    """`backgrid serve` on a free port; gives its process, its address and the lines that it logs."""
    settings = {"BACKGRID_DATABASE_URL": f"sqlite:///{folder / 'jobs.db'}", **settings}
    process = subprocess.Popen(
        [*COMMAND, "serve", "--port", "0", *words], stderr=subprocess.PIPE, text=True, env=environment(**settings)
    )
    lines = []
    try:
        for line in process.stderr:
            lines.append(line)
            if found := re.search(r"running on (http://\S+)", line):
                break
        else:
            pytest.fail(f"the service did not start: {lines}")
        reader = threading.Thread(target=lambda: lines.extend(process.stderr))
        reader.start()
        yield process, found[1], lines
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=60)
        reader.join()
    finally:
        process.kill()
        process.wait()
        process.stderr.close()


def run(*words, **settings):
    """A command, finished: its code and what it said on either channel."""
    done = subprocess.run([*COMMAND, *words], capture_output=True, text=True, timeout=120, env=environment(**settings))
    return done.returncode, done.stdout.splitlines(), done.stderr.splitlines()


FIVE = [
    f"health: ok, version {re.escape(__version__)}",
    r"submission: job manual-\d{4}-\d\d-\d\d-\d{6}, completed",
    r"retrieval: Sharpe 0\.\d\d, 1,257 bars",
    r"invalid symbol: symbol '../etc/passwd' is not a ticker: .*",
    "bad parameter: fast_window must be at least 1 bar, got 0",
]


def assert_five(lines):
    for line, expected in zip(lines, FIVE, strict=True):
        assert re.fullmatch(expected, line), line


def test_service_passes_the_smoke_test_logs_each_request_and_keeps_its_jobs(tmp_path):
    """One process for all, since each takes seconds to start."""
    with serve(tmp_path) as (process, url, lines):
        code, said, problems = run("smoke", url)
        assert (code, problems) == (0, [])
        assert_five(said)
        assert_five([*smoke(url + "/")])  # again, as a job of its own
        client = httpx.Client(base_url=f"{url}/api/v1", timeout=60)
        assert client.get("/health", headers={"Host": "example.com"}).status_code == 403  # a page of elsewhere asks

        # two reports at once, each of the bytes that run_report writes
        asked = [{**YEAR, "params": {"fast_window": fast}, "report": True} for fast in (10, 20)]
        with concurrent.futures.ThreadPoolExecutor(2) as threads:
            answers = [answer.json() for answer in threads.map(lambda one: client.post("/jobs", json=one), asked)]
        pages = [httpx.get(url + answer["report_url"], timeout=60) for answer in answers]
        for page, answer, fast in zip(pages, answers, (10, 20), strict=True):
            assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
            assert page.headers["x-content-type-options"] == "nosniff"
            terms = {name: value for name, value in answer["request"].items() if name != "params"}
            terms |= {name: terms.pop(name) for name in ("start", "end", "source")}  # the page shows their order
            report = run_report("report_backtest", {**terms, "fast_window": fast}, out=tmp_path)
            assert page.content == report.html.read_bytes()

        # 50 equal ones at once
        def enter(_):
            return httpx.post(f"{url}/api/v1/jobs", json={**YEAR, "strategy": "macd"}, timeout=60).json()["job_id"]

        with concurrent.futures.ThreadPoolExecutor(50) as threads:
            assert len({*threads.map(enter, range(50))}) == 1
        listed = client.get("/jobs").json()
        assert len(listed["jobs"]) == 5 and {job["status"] for job in listed["jobs"]} == {"completed"}

    assert process.returncode == 128 + signal.SIGTERM
    text = "".join(lines)
    assert len(re.findall(r" INFO POST /api/v1/jobs 200 \d+\.\d ms\n", text)) == 2 + 2 + 50
    assert len(re.findall(r" INFO POST /api/v1/jobs 422 \d+\.\d ms\n", text)) == 4
    assert len(re.findall(r" INFO GET /api/v1/health 200 \d+\.\d ms\n", text)) == 2
    assert "Traceback" not in text and "ERROR" not in text

    with serve(tmp_path) as (process, url, _):
        assert httpx.get(f"{url}/api/v1/jobs", timeout=60).json() == listed
        assert [httpx.get(url + answer["report_url"], timeout=60).content for answer in answers] == [
            page.content for page in pages
        ]
        again = httpx.post(f"{url}/api/v1/jobs", json=asked[0], timeout=60)
        assert again.json() == answers[0]
    client.close()


def test_job_of_a_service_that_was_killed_has_failed_and_can_be_entered_again(tmp_path):
    asked = {**YEAR, "report": True}

    def enter(url):
        with contextlib.suppress(httpx.HTTPError):  # nobody answers any more
            httpx.post(f"{url}/api/v1/jobs", json=asked, timeout=60)

    with serve(tmp_path) as (process, url, _):
        thread = threading.Thread(target=enter, args=[url])
        thread.start()
        with httpx.Client(base_url=f"{url}/api/v1", timeout=60) as client:
            while not client.get("/jobs?status=running").json()["jobs"]:
                assert thread.is_alive()
        process.kill()
        thread.join()
    with serve(tmp_path) as (_, url, lines):
        (job,) = httpx.get(f"{url}/api/v1/jobs", timeout=60).json()["jobs"]
        assert (job["status"], job["error"]) == ("failed", "the service was stopped while it ran. Submit it again.")
        again = httpx.post(f"{url}/api/v1/jobs", json=asked, timeout=60).json()
        assert (again["status"], again["job_id"] != job["job_id"]) == ("completed", True)
    assert "interrupted" in "".join(lines)


def test_second_service_of_a_database_does_not_start_and_leaves_the_jobs_alone(tmp_path):
    database = f"sqlite:///{tmp_path / 'jobs.db'}"
    with serve(tmp_path) as (_, url, _):
        engine = store.open_store(database)
        job, _ = store.submit(engine, BacktestRequest(**YEAR), owner="", here=True)  # as the first does for a client
        assert run("serve", "--port", "0", BACKGRID_DATABASE_URL=database) == (
            1,
            [],
            ["backgrid: another service has this database; for more than one, set BACKGRID_BROKER_URL"],
        )
        assert store.find_job(engine, job.id) == job
        engine.dispose()
        assert httpx.get(f"{url}/api/v1/jobs/{job.id}/status", timeout=60).json()["status"] == "running"


def test_service_with_a_secret_asks_for_tokens_and_counts_jobs(tmp_path):
    secret = "a secret of this test, long enough"
    token = jwt.encode({"sub": "ann", "exp": 2**40}, secret, "HS256")
    with serve(tmp_path, "--host", "0.0.0.0", BACKGRID_JWT_SECRET=secret, BACKGRID_RATE_LIMIT="3") as (_, url, lines):
        url = url.replace("0.0.0.0", "127.0.0.1")
        code, said, problems = run("smoke", url, BACKGRID_TOKEN=token)
        assert (code, problems) == (0, [])
        assert_five(said)
        code, said, problems = run("smoke", url)
        assert (code, len(said)) == (1, 1)
        assert problems == [
            'backgrid: submission: unexpected answer 401, {"detail": "a token is needed: Authorization: Bearer TOKEN"}'
        ]
        client = httpx.Client(base_url=f"{url}/api/v1", timeout=60, headers={"Authorization": f"Bearer {token}"})
        codes = [client.post("/jobs", json={**YEAR, "fees": fees}).status_code for fees in (0.1, 0.2, 0.3)]
        client.close()
        assert codes == [200, 200, 429]
        assert httpx.get(f"{url}/api/v1/health", headers={"Host": "example.com"}, timeout=60).status_code == 200
    assert secret not in "".join(lines) and token not in "".join(lines)


@pytest.mark.parametrize(
    ("words", "settings", "said"),
    [
        (["--host", "0.0.0.0"], {}, "to listen on '0.0.0.0', set BACKGRID_JWT_SECRET or BACKGRID_JWT_PUBLIC_KEY; .*"),
        ([], {"BACKGRID_JWT_SECRET": "short"}, "BACKGRID_JWT_SECRET must have 32 bytes or more, got 5"),
        ([], {"BACKGRID_DATABASE_URL": "mysql://x/y"}, "BACKGRID_DATABASE_URL must be sqlite or postgresql, got mysql"),
        (
            [],
            {"BACKGRID_BROKER_URL": "redis://127.0.0.1:1/0"},
            "with BACKGRID_BROKER_URL, BACKGRID_DATABASE_URL must be a PostgreSQL",
        ),
    ],
    ids=["host", "secret", "database", "shared"],
)
def test_service_that_must_not_start_says_why(tmp_path, words, settings, said):
    usual = {"BACKGRID_DATABASE_URL": f"sqlite:///{tmp_path / 'jobs.db'}"}
    code, told, (line,) = run("serve", "--port", "0", *words, **usual | settings)
    assert (code, told) == (2, [])
    assert re.fullmatch(f"backgrid: {said}", line), line


# ---- services that are not as they should be -------------------------------------------------------------------------

HEALTHY = (200, {"status": "ok", "version": "1"})
QUEUED = (202, {"job_id": "manual-1", "status": "queued"})
DONE = (200, {"job_id": "manual-1", "status": "completed", "sharpe": None, "equity_curve": [1.0, 2.0]})


@contextlib.contextmanager
def pretending(answers, asked=None):
    """A service that gives these answers, one after the other, and then the last again; notes what it was asked."""
    left = [*answers]

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            if asked is not None:
                asked.append(self.requestline)
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            code, body, *elsewhere = left.pop(0) if len(left) > 1 else left[0]
            sent = body if isinstance(body, bytes) else json.dumps(body).encode()
            self.send_response(code)
            for place in elsewhere:
                self.send_header("Location", place)
            self.send_header("Content-Length", str(len(sent)))
            self.end_headers()
            self.wfile.write(sent)

        do_POST = do_GET

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=functools.partial(server.serve_forever, poll_interval=0.01))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


def test_service_with_workers_is_asked_until_the_job_has_ended():
    symbol, parameter = (422, {"detail": "symbol?"}), (422, {"detail": "fast_window?"})
    standing = [(200, {"status": status}) for status in ("queued", "running", "completed")]
    with pretending([HEALTHY, QUEUED, *standing, DONE, symbol, parameter]) as url:
        assert [*smoke(url)] == [
            "health: ok, version 1",
            "submission: job manual-1, queued",
            "retrieval: Sharpe undefined, 2 bars",
            "invalid symbol: symbol?",
            "bad parameter: fast_window?",
        ]


@pytest.mark.parametrize(
    ("answers", "said"),
    [
        ([(200, {})], "health: unexpected answer 200, {}"),
        ([(200, [])], r"health: unexpected answer 200, \[\]"),
        ([(200, {"status": "ok"})], "health: unexpected answer 200, .*"),
        ([(200, b"<html>")], "health: unexpected answer 200, .*<html>.*"),
        ([(500, b"<html>")], "health: unexpected answer 500, .*"),
        ([(503, {"detail": "no database"})], "health: unexpected answer 503, .*no database.*"),
        ([HEALTHY, (200, "x")], 'submission: unexpected answer 200, "x"'),
        ([HEALTHY, (404, {"detail": "no"})], "submission: unexpected answer 404, .*"),
        ([HEALTHY, QUEUED, (200, {"status": "failed", "error": "no prices"})], "retrieval: .* 200, .*no prices.*"),
        ([HEALTHY, QUEUED, (404, {"detail": "gone"})], "retrieval: unexpected answer 404, .*gone.*"),
        ([HEALTHY, QUEUED, (200, [])], r"retrieval: unexpected answer 200, \[\]"),
        ([HEALTHY, QUEUED, DONE, DONE, (200, {})], "invalid symbol: unexpected answer 200, {}"),
        ([HEALTHY, QUEUED, DONE, DONE, (422, [])], r"invalid symbol: unexpected answer 422, \[\]"),
        ([HEALTHY, QUEUED, DONE, DONE, (422, {"detail": "symbol"})], "bad parameter: unexpected answer 422, .*"),
        ([(200, b"x" * 10_000)], "health: unexpected answer 200, .{1,300}"),
    ],
    ids=lambda given: None if isinstance(given, str) else f"after {len(given) - 1}",
)
def test_first_wrong_answer_is_told(answers, said):
    with pretending(answers) as url, pytest.raises(SmokeError) as wrong:
        [*smoke(url)]
    assert re.fullmatch(said, str(wrong.value)), str(wrong.value)


@pytest.mark.parametrize(
    "url",
    ["http://127.0.0.1:1", "127.0.0.1:8000", "ftp://127.0.0.1/", "file:///etc/passwd", "http://[", "", "http://a b/"],
)
def test_service_that_is_not_there_is_told(url):
    with pytest.raises(SmokeError, match="does not answer|must begin with http"):
        [*smoke(url)]


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
def test_redirect_is_a_wrong_answer_and_the_token_stays_here(code):
    asked = []
    with pretending([HEALTHY], asked) as elsewhere:
        for before, what in (([], "health"), ([HEALTHY], "submission"), ([HEALTHY, QUEUED], "retrieval")):
            with pretending([*before, (code, {}, elsewhere)]) as url, pytest.raises(SmokeError) as wrong:
                [*smoke(url, "the token")]
            assert str(wrong.value) == f"{what}: unexpected answer {code}, {{}}"
    assert asked == []


def test_proxy_of_the_environment_is_not_asked():
    """It would learn the token."""
    asked = []
    with pretending([HEALTHY], asked) as proxy, pretending([HEALTHY, (500, {})]) as url:
        code, said, _ = run("smoke", url, http_proxy=proxy, HTTP_PROXY=proxy, no_proxy="", NO_PROXY="")
    assert (code, said, asked) == (1, ["health: ok, version 1"], [])
