"""The HTTP door: requests in, jobs out. With a broker it queues them for workers; without, it runs them itself."""

import contextlib
import datetime as dt
import json
import logging
import re
import threading
import time
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal

import pandas as pd
import sqlalchemy as sa
from celery import Celery
from fastapi import Body, Depends, FastAPI, Header, HTTPException, Path, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse
from fastapi.security import HTTPBearer
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.routing import Match, Route

from backgrid import __version__
from backgrid.bars import SYMBOL, SYMBOL_LENGTH, check_symbol
from backgrid.errors import BackgridError, ParameterError, TooFewBarsError, did_you_mean, shown
from backgrid.jobs import store
from backgrid.jobs.auth import NOBODY, Issuer, TooManyError, UnauthorizedError, check_rate, identify
from backgrid.jobs.queue import BrokerError, end_job, publish
from backgrid.jobs.running import INTERNAL, run_job, write_outcome
from backgrid.models import BacktestRequest, BacktestResponse, JobStatus, StrategyType, describe_errors
from backgrid.strategies import complete_params, get_strategy

LARGEST_BODY = 100_000  # bytes
LARGEST_REFUSED = 2**28  # of a body that is too large, which its client is let send before it hears so [bytes]
LONGEST_LOGGED = 200  # of a path [characters]
LONGEST_PLACE = 40  # of a name in a message [characters]
MOST_LISTED = 500
FILTERS = ("status", "symbol", "strategy", "before", "limit")
LONGEST_WAIT = 60.0  # for an equal request that runs already [seconds]
SOURCE = re.compile("yahoo|sample|snapshot:[0-9a-f]{64}")  # a path would let a client read files of the service
MADE_UP = pd.DataFrame(100.0, index=pd.bdate_range("2023-01-02", periods=100), columns=["Open", "High", "Low", "Close"])

logger = logging.getLogger("backgrid.jobs")

EXAMPLE = {"symbol": "AAPL", "strategy": "ma_crossover", "start": "2020-01-01", "source": "sample"}
EXAMPLES: dict[str, Any] = {
    "crossover": {"summary": "Moving averages, with their usual windows", "value": EXAMPLE},
    "report": {
        "summary": "Windows and costs of one's own, and the HTML report",
        "value": {
            **EXAMPLE,
            "end": "2024-12-30",
            "params": {"fast_window": 10, "slow_window": 40},
            "fees": 0.001,
            "report": True,
        },
    },
}
ANSWER: dict[str, Any] = {
    "job_id": "manual-2026-11-30-000001",
    "status": "completed",
    "symbol": "AAPL",
    "strategy": "ma_crossover",
    "sharpe": 0.75,
    "max_drawdown": -0.25,
    "total_return": 0.5,
    "metrics": {"total_return": 0.5, "sharpe": 0.75, "n_trades": 2},
    "equity_curve": [100000.0, 125000.0, 150000.0],
    "runtime_seconds": 0.012,
    "created_at": "2026-11-30T09:00:00Z",
    "started_at": "2026-11-30T09:00:00.010000Z",
    "finished_at": "2026-11-30T09:00:00.030000Z",
    "request": EXAMPLE,
    "report_url": "/api/v1/jobs/manual-2026-11-30-000001/report",
}


TICKER: dict[str, Any] = {"maxLength": SYMBOL_LENGTH, "pattern": f"^{SYMBOL.pattern.replace('A-Z', 'A-Za-z')}$"}


def _describe_text(schema: dict[str, Any]) -> None:
    """Say in the OpenAPI document what functions check, not types: of symbols, sources and dates."""
    schema["properties"]["symbol"].update(TICKER)
    source = {"type": "string", "pattern": f"^({SOURCE.pattern})$"}
    schema["properties"]["source"].update(anyOf=[source, {"type": "null"}], description="yahoo, sample, snapshot:HASH.")
    for name in ("start", "end"):
        schema["properties"][name]["anyOf"].append({"type": "string", "maxLength": 0})  # a day not chosen in a form


class JobRequest(BacktestRequest):
    """One backtest to run, and whether its report is wanted."""

    model_config = ConfigDict(json_schema_extra=_describe_text)

    report: bool = Field(False, description="Also make the HTML report.")


class JobAnswer(BacktestResponse):
    """A job with what came of it so far."""

    model_config = ConfigDict(json_schema_extra={"examples": [ANSWER]})

    created_at: dt.datetime
    started_at: dt.datetime | None
    finished_at: dt.datetime | None
    request: dict[str, Any] = Field(description="What was asked, with every default written out.")
    report_url: str | None = Field(description="Path of the HTML report, if there is one.")


class JobLine(BaseModel):
    """A job without its numbers."""

    job_id: str
    status: JobStatus
    symbol: str
    strategy: StrategyType
    created_at: dt.datetime
    started_at: dt.datetime | None
    finished_at: dt.datetime | None
    error: str | None


class JobList(BaseModel):
    """A page of jobs, the newest first."""

    jobs: list[JobLine]
    next: str | None = Field(description="Give it as `before` for the next page; null on the last.")


class Standing(BaseModel):
    """Where a job stands."""

    job_id: str
    status: JobStatus
    error: str | None


class Health(BaseModel):
    """Whether the service works."""

    status: Literal["ok"]
    version: str


class Problem(BaseModel):
    """What is wrong, in one sentence."""

    detail: str


def _header(name: str, kind: str, description: str) -> dict[str, Any]:
    return {name: {"schema": {"type": kind}, "description": description, "required": True}}


WAIT = _header("Retry-After", "integer", "When to try again. [seconds]")
PROBLEMS: dict[int | str, dict[str, Any]] = {
    400: {"model": Problem, "description": "No JSON, or prices that cannot be had or backtested."},
    401: {
        "model": Problem,
        "description": "No token, or one that is not valid.",
        "headers": _header("WWW-Authenticate", "string", "Bearer"),
    },
    404: {"model": Problem, "description": "No such job of yours."},
    409: {"model": Problem, "description": "The job has ended, or cannot be cancelled."},
    413: {"model": Problem, "description": "A body that is too large."},
    415: {"model": Problem, "description": "A body of another type than JSON."},
    422: {"model": Problem, "description": "A field that is unknown, wrong or out of bounds."},
    429: {"model": Problem, "description": "Too many jobs in a minute.", "headers": WAIT},
    500: {"model": Problem, "description": "An error of the service; its log says more."},
    503: {"model": Problem, "description": "The database or the broker does not answer.", "headers": WAIT},
}


def _problems(*codes: int) -> dict[int | str, dict[str, Any]]:
    return {code: PROBLEMS[code] for code in (*codes, 500, 503)}


TOKEN = HTTPBearer(bearerFormat="JWT", auto_error=False, description="The sub of the token owns the jobs.")
JobId = Annotated[str, Path(description="As `POST /api/v1/jobs` gave it.", max_length=100)]


def create_app(
    engine: sa.Engine, *, queue: Celery | None = None, issuer: Issuer | None = None, limit: int | None = None
) -> FastAPI:
    """The service.

    Parameters
    ----------
    engine : sqlalchemy.Engine
        As `open_store` gives it.
    queue : celery.Celery, optional
        Where workers take jobs from; without, jobs are run while their client waits.
    issuer : Issuer, optional
        Whose tokens are asked for; without, everyone sees all jobs.
    limit : int, optional
        How many jobs an owner may enter in a minute.
    """
    app = FastAPI(
        title="Backgrid",
        version=__version__,
        description="Backtests you can believe, behind an HTTP door.",
        docs_url=None,  # both pages load scripts from elsewhere
        redoc_url=None,
    )
    app.add_middleware(_limit_bodies)
    app.add_middleware(_log_requests)
    _handle_errors(app)
    Owner = Annotated[str | None, Depends(_who(issuer))]
    entering = threading.Lock()  # so that of requests at once no more pass than may

    def find(job_id: JobId, owner: Owner) -> store.Job:
        job = store.find_job(engine, job_id, owner)
        if job is None:
            raise HTTPException(404, f"there is no job {shown(job_id)}")
        return job

    Found = Annotated[store.Job, Depends(find)]

    @app.get("/api/v1/health", responses=_problems(), tags=["service"])
    def health() -> Health:
        """Whether the service and its database answer."""
        store.ping(engine)
        return Health(status="ok", version=__version__)

    @app.post(
        "/api/v1/jobs",
        responses={202: {"model": JobAnswer, "description": "Queued."}, **_problems(400, 401, 413, 415, 422, 429)},
        tags=["jobs"],
    )
    def submit(
        asked: Annotated[JobRequest, Body(openapi_examples=EXAMPLES)],
        response: Response,
        owner: Owner,
        idempotency_key: Annotated[str | None, Header(min_length=1, max_length=200)] = None,
    ) -> JobAnswer:
        """Enter a job. An equal request of the same day is the same job, unless an Idempotency-Key tells them apart.

        Without workers it answers when the job has ended; with workers at once, with 202 and status "queued".
        """
        request = BacktestRequest(**asked.model_dump(exclude={"report"}))
        check_source(request)
        check_params(request)
        mine = owner or NOBODY
        with entering if limit else contextlib.nullcontext():
            if limit:
                check_rate(engine, mine, limit)
            job, is_new = store.submit(engine, request, owner=mine, report=asked.report, key=idempotency_key)
        if job.request != request.model_dump(mode="json") or job.report != asked.report:
            raise HTTPException(422, f"this Idempotency-Key was used for another request, job {job.id}")
        if queue is None:
            job = _run_here(engine, job)
        elif is_new:
            _enqueue(engine, queue, job)
        response.status_code = 200 if job.status in store.FINAL else 202
        return answer(engine, job)

    @app.get("/api/v1/jobs", responses=_problems(401, 404, 422), tags=["jobs"])
    def list_jobs(
        request: Request,
        owner: Owner,
        status: JobStatus | None = None,
        symbol: Annotated[str | None, Query(json_schema_extra=TICKER)] = None,
        strategy: StrategyType | None = None,
        before: Annotated[str | None, Query(max_length=100, description="A job; older ones are listed.")] = None,
        limit: Annotated[int, Query(ge=1, le=MOST_LISTED)] = 50,
    ) -> JobList:
        """List jobs, the newest first."""
        _check_filters(request)
        last = None if before is None else store.find_job(engine, before, owner)
        if before is not None and last is None:
            raise HTTPException(404, f"before: there is no job {shown(before)}")
        filters = {"status": status, "symbol": symbol if symbol is None else check_symbol(symbol), "strategy": strategy}
        found = store.list_jobs(
            engine, owner=owner, filters=filters, before=last.number if last else None, limit=limit + 1
        )
        lines = [JobLine(job_id=job.id, **_fields(job, JobLine)) for job in found[:limit]]
        return JobList(jobs=lines, next=lines[-1].job_id if len(found) > limit else None)

    @app.get("/api/v1/jobs/{job_id}", responses=_problems(401, 404, 422), tags=["jobs"])
    def read(job: Found) -> JobAnswer:
        """A job with its metrics and equity curve."""
        return answer(engine, job)

    @app.get("/api/v1/jobs/{job_id}/status", responses=_problems(401, 404, 422), tags=["jobs"])
    def status(job: Found) -> Standing:
        """Where a job stands."""
        return Standing(job_id=job.id, status=job.status, error=job.error)

    @app.get(
        "/api/v1/jobs/{job_id}/report",
        response_class=Response,  # which leaves JSON to the problems
        responses={200: {"content": {"text/html": {"schema": {"type": "string"}}}}, **_problems(401, 404, 422)},
        tags=["jobs"],
    )
    def report(job: Found) -> HTMLResponse:
        """The HTML report of a job that was entered with `"report": true`."""
        page = store.read_report(engine, job)
        if page is None:
            said = "is not ready" if job.report and job.status not in store.FINAL else "has no report"
            raise HTTPException(404, f"job {job.id} {said}")
        return HTMLResponse(page, headers={"X-Content-Type-Options": "nosniff"})

    @app.post("/api/v1/jobs/{job_id}/cancel", responses=_problems(401, 404, 409, 422), tags=["jobs"])
    def cancel(job: Found) -> Standing:
        """Cancel a job that is queued or running."""
        if job.status not in store.FINAL and queue is None:
            raise HTTPException(409, f"job {job.id} is run by the service itself, which cannot stop it")
        if not store.cancel(engine, job):
            raise HTTPException(409, f"job {job.id} has ended: {job.status}")
        end_job(queue, job.number)
        return Standing(job_id=job.id, status=JobStatus.CANCELLED, error=None)

    return app


# ---- jobs ------------------------------------------------------------------------------------------------------------


def check_source(request: BacktestRequest) -> None:
    """ParameterError for a path, which would let a client read files of the service."""
    if request.source is not None and not SOURCE.fullmatch(request.source):
        raise ParameterError(f"source must be yahoo, sample or snapshot:HASH here, got {shown(request.source)}")


def check_params(request: BacktestRequest) -> None:
    """ParameterError for values that the strategy refuses, whatever the prices: nobody should wait to hear of them."""
    strategy = get_strategy(request.strategy.value)
    params = complete_params(strategy, request.params)
    with contextlib.suppress(TooFewBarsError):
        strategy(MADE_UP, **params)


def answer(engine: sa.Engine, job: store.Job) -> JobAnswer:
    """A job with what came of it so far."""
    has_report = job.report and job.status is JobStatus.COMPLETED
    return JobAnswer(
        **store.read_result(engine, job).model_dump(),
        created_at=job.created_at,
        started_at=job.started_at,
        finished_at=job.finished_at,
        request=job.request,
        report_url=f"/api/v1/jobs/{job.id}/report" if has_report else None,
    )


def _check_filters(request: Request) -> None:
    """ParameterError for a name that is none: a misspelt filter would list everything."""
    for name in request.query_params:
        if name not in FILTERS:
            raise ParameterError(f"a list has no filter {shown(name)}{did_you_mean(name[:LONGEST_PLACE], FILTERS)}")


def _fields(job: store.Job, model: type[BaseModel]) -> dict[str, Any]:
    return {name: value for name, value in job._asdict().items() if name in model.model_fields}


def _run_here(engine: sa.Engine, job: store.Job) -> store.Job:
    """Run a job while its client waits, or wait for the equal request that runs it."""
    if job.status not in store.FINAL:
        claimed = store.claim(engine, job.number)
        if claimed:
            write_outcome(engine, claimed, run_job(claimed))
        job = _wait(engine, job)
    if job.status is JobStatus.FAILED:
        said = job.error or ""
        raise HTTPException(500 if said.startswith(INTERNAL) else 400, said)
    return job


def _wait(engine: sa.Engine, job: store.Job) -> store.Job:
    """A job when it has ended, or after the longest wait."""
    until, pause = time.monotonic() + LONGEST_WAIT, 0.01
    while (job := store.find_job(engine, job.id) or job).status not in store.FINAL and time.monotonic() < until:
        time.sleep(pause)
        pause = min(1.5 * pause, 0.25)  # many who wait must not slow the one who runs
    return job


def _enqueue(engine: sa.Engine, queue: Celery, job: store.Job) -> None:
    """Hand a job to the workers; what cannot be handed over has failed, so that it can be entered again."""
    try:
        publish(queue, [job.number])
    except BrokerError as error:
        store.withdraw(engine, job, str(error))
        raise


# ---- requests --------------------------------------------------------------------------------------------------------


def _who(issuer: Issuer | None) -> Callable[..., Any]:
    """What finds out who asks."""

    async def anyone() -> None:
        return None

    async def owner(request: Request, _: Annotated[Any, Depends(TOKEN)]) -> str:
        return identify(issuer, request.headers)  # type: ignore[arg-type]

    return owner if issuer else anyone


def _limit_bodies(app: Any) -> Any:
    """ASGI middleware that keeps no more of a body than is taken, whatever its header says."""

    async def limited(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return await app(scope, receive, send)
        length = dict(scope["headers"]).get(b"content-length", b"").decode("latin-1")
        is_too_long = bool(re.fullmatch("[0-9]{1,18}", length)) and int(length) > LARGEST_BODY
        taken = 0

        async def receive_some() -> Any:
            nonlocal taken, is_too_long
            message = {} if is_too_long else await receive()
            taken += len(message.get("body", b""))
            if is_too_long or taken > LARGEST_BODY:
                is_too_long = True
                raise HTTPException(413, f"a body may have at most {LARGEST_BODY:,} bytes", {"Connection": "close"})
            return message

        async def send_and_drain(message: Any) -> None:
            """A connection that is closed on a client which still sends would take the answer from it."""
            if is_too_long and message["type"] == "http.response.body" and not message.get("more_body"):
                await send({**message, "more_body": True})
                await _drain(receive)
                message = {"type": "http.response.body"}
            await send(message)

        await app(scope, receive_some, send_and_drain)

    return limited


async def _drain(receive: Any) -> None:
    """Read the rest of a body, within bounds, and forget it."""
    left = LARGEST_REFUSED
    while left > 0:
        message = await receive()
        if not message.get("more_body"):
            return
        left -= len(message["body"])


def _log_requests(app: Any) -> Any:
    """ASGI middleware that writes one line a request at INFO."""

    async def logged(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return await app(scope, receive, send)
        started, code = time.perf_counter(), 500  # what an error that nobody expected is answered with

        async def note(message: Any) -> None:
            nonlocal code
            code = message.get("status", code)
            await send(message)

        try:
            await app(scope, receive, note)
        finally:
            path = scope["raw_path"].decode("ascii", "backslashreplace")[:LONGEST_LOGGED]
            logger.info("%s %s %d %.1f ms", scope["method"], path, code, 1e3 * (time.perf_counter() - started))

    return logged


def _handle_errors(app: FastAPI) -> None:
    """Every error as one sentence under `detail`, with its status."""

    def say(code: int, detail: str, headers: Any = None) -> JSONResponse:
        told = detail.encode("utf-8", "backslashreplace").decode()  # half a surrogate pair cannot be sent
        return JSONResponse({"detail": told}, code, headers=headers)

    @app.exception_handler(RequestValidationError)
    def invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        return say(*_describe_invalid(error.errors()))

    @app.exception_handler(StarletteHTTPException)
    def http(request: Request, error: StarletteHTTPException) -> JSONResponse:
        detail, path = str(error.detail), shown(request.url.path)
        if error.status_code == 404 and detail == "Not Found":
            detail = f"there is nothing at {path}; /openapi.json lists what there is"
        if error.status_code == 405:
            allowed = ", ".join(_allowed(app, request))
            return say(405, f"{path} takes {allowed}, not {request.method}", {"Allow": allowed})
        if error.status_code == 400 and error.__cause__:  # that is how a body is reported which cannot be read
            detail = "the body cannot be read as JSON"
        return say(error.status_code, detail, error.headers)

    @app.exception_handler(BackgridError)
    def refused(_: Request, error: BackgridError) -> JSONResponse:
        if isinstance(error, UnauthorizedError):
            return say(401, str(error), {"WWW-Authenticate": "Bearer"})
        if isinstance(error, TooManyError):
            return say(429, str(error), {"Retry-After": str(error.wait)})
        if isinstance(error, BrokerError):
            return say(503, str(error), {"Retry-After": "5"})
        return say(422 if isinstance(error, ParameterError) else 400, str(error))

    @app.exception_handler(sa.exc.OperationalError)
    @app.exception_handler(sa.exc.TimeoutError)
    def no_database(_: Request, error: Exception) -> JSONResponse:
        logger.warning("the database does not answer: %s", " ".join(str(error).split()))
        return say(503, "the database does not answer; try again", {"Retry-After": "5"})

    @app.exception_handler(Exception)
    def unexpected(_: Request, error: Exception) -> JSONResponse:
        return say(500, "internal error; the log of the service says more")


def _describe_invalid(errors: Sequence[Any]) -> tuple[int, str]:
    """Status and sentence of what is wrong with a request."""
    first = errors[0]
    if first["type"] == "json_invalid":
        return 400, f"the body is not JSON: {first['ctx']['error']} at character {first['loc'][1]}"
    if first["loc"] == ("body",) and isinstance(first.get("input"), bytes):
        return 415, "the body must be JSON, and Content-Type say so: application/json"
    if first["loc"] == ("body",) and first["type"] in ("missing", "model_type", "model_attributes_type"):
        return 422, f"the body must be a JSON object, such as {json.dumps(EXAMPLE)}"
    return 422, str(describe_errors([{**one, "loc": [_place(part) for part in one["loc"][1:]]} for one in errors]))


def _place(part: int | str) -> str:
    """A step of the way to what is wrong; it may be a name that a client has made up."""
    text = str(part)
    return text if len(text) <= LONGEST_PLACE and text.isprintable() else shown(text)


def _allowed(app: FastAPI, request: Request) -> list[str]:
    """Methods that a path takes, by all of its routes; Starlette names those of the first alone."""
    routes = [route for route in app.routes if isinstance(route, Route) and route.methods]
    found = [route.methods for route in routes if route.matches(request.scope)[0] is not Match.NONE]
    return sorted({method for methods in found for method in methods or ()})
