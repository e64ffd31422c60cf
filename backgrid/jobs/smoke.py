"""Five questions to a live service, as its first client would ask them."""

import functools
import http.client
import json
import os
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

from backgrid.errors import BackgridError, shown

AAPL = {"symbol": "AAPL", "strategy": "ma_crossover", "start": "2020-01-01", "source": "sample"}
PATIENCE = 60.0  # with a job [seconds]
MOST_SHOWN = 300  # of a wrong answer [characters]


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """The token is for the service that was named, and no other."""

    def redirect_request(self, *_: Any) -> None:
        return None


DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}), _NoRedirects)


class SmokeError(BackgridError):
    """A service that answers otherwise than it should."""


def smoke(url: str, token: str | None = None) -> Iterator[str]:
    """Check health, submission, retrieval, an invalid symbol and a bad parameter; yields a line for each that works.

    Parameters
    ----------
    url : str
        Such as http://127.0.0.1:8000.
    token : str, optional
        Where the service asks for one.

    Raises
    ------
    SmokeError
        At the first answer that is not as it should be.
    """
    if not url.startswith(("http://", "https://")):
        raise SmokeError(f"the address must begin with http:// or https://, got {shown(url)}")
    ask = functools.partial(_ask, f"{url.rstrip('/')}/api/v1", token)

    code, health = ask("GET", "/health")
    _expect(code == 200 and _get(health, "status") == "ok" and "version" in health, "health", code, health)
    yield f"health: ok, version {health['version']}"

    code, job = ask("POST", "/jobs", AAPL)
    _expect(code in (200, 202) and _get(job, "job_id") and _get(job, "status"), "submission", code, job)
    yield f"submission: job {job['job_id']}, {job['status']}"

    code, job = _ended(ask, job["job_id"])
    bars = _get(job, "equity_curve")
    _expect(code == 200 and _get(job, "status") == "completed" and bars and "sharpe" in job, "retrieval", code, job)
    sharpe = "undefined" if job["sharpe"] is None else f"{job['sharpe']:.2f}"
    yield f"retrieval: Sharpe {sharpe}, {len(bars):,} bars"

    for what, wrong, name in (
        ("invalid symbol", {"symbol": "../etc/passwd"}, "symbol"),
        ("bad parameter", {"params": {"fast_window": 0}}, "fast_window"),
    ):
        code, refusal = ask("POST", "/jobs", {**AAPL, **wrong})
        _expect(code == 422 and name in str(_get(refusal, "detail")), what, code, refusal)
        yield f"{what}: {refusal['detail']}"


def _ask(base: str, token: str | None, method: str, path: str, body: Any = None) -> tuple[int, Any]:
    """Status and JSON of an answer; its text where it is no JSON."""
    headers = {"Content-Type": "application/json", **({"Authorization": f"Bearer {token}"} if token else {})}
    # a key of its own, so that the job is run and not found
    headers["Idempotency-Key"] = f"smoke {os.getpid()} {time.time_ns()}"
    data = None if body is None else json.dumps(body).encode()
    try:
        request = urllib.request.Request(base + path, data, headers, method=method)
        with DIRECT.open(request, timeout=PATIENCE) as answer:
            return answer.status, _read(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, _read(error)
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise SmokeError(f"{base} does not answer: {error}") from None


def _read(answer: Any) -> Any:
    text = answer.read().decode("utf-8", "replace")
    try:
        return json.loads(text)
    except ValueError:
        return text


def _get(answer: Any, name: str) -> Any:
    """A field of an answer, whatever that is."""
    return answer.get(name) if isinstance(answer, dict) else None


def _expect(right: Any, what: str, code: int, answer: Any) -> None:
    if not right:
        raise SmokeError(f"{what}: unexpected answer {code}, {json.dumps(answer)[:MOST_SHOWN]}")


def _ended(ask: Callable[..., tuple[int, Any]], job_id: str) -> tuple[int, Any]:
    """A job as it is when it has ended."""
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        code, standing = ask("GET", f"/jobs/{job_id}/status")
        if code != 200 or _get(standing, "status") not in ("queued", "running"):
            break
        time.sleep(0.1)
    return ask("GET", f"/jobs/{job_id}")
