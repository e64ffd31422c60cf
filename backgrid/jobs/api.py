"""The HTTP door: requests in, jobs out. With a broker it queues them for workers; without, it runs them itself."""

import asyncio
import contextlib
import threading
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated, Any
from urllib.parse import urlsplit

import pandas as pd
import sqlalchemy as sa
from celery import Celery
from fastapi import Body, Depends, FastAPI, Header, HTTPException, Path, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.security import HTTPBearer
from pydantic import BaseModel

from backgrid import __version__
from backgrid.bars import check_symbol
from backgrid.errors import ParameterError, TooFewBarsError, did_you_mean, shown
from backgrid.jobs import store
from backgrid.jobs.auth import NOBODY, Issuer, check_rate, identify
from backgrid.jobs.middleware import limit_bodies, limit_time, log_requests
from backgrid.jobs.problems import LONGEST_PLACE, handle_errors, problems
from backgrid.jobs.queue import end_job, publish
from backgrid.jobs.running import INTERNAL, insist, run_job, write_outcome
from backgrid.jobs.schema import EXAMPLES, SOURCE, TICKER, Health, JobAnswer, JobLine, JobList, JobRequest, JobState
from backgrid.models import BacktestRequest, JobStatus, StrategyType
from backgrid.strategies import complete_params, get_strategy

MOST_AT_ONCE = 8  # jobs that the service runs itself
MOST_LISTED = 500
FILTERS = ("status", "symbol", "strategy", "before", "limit")
CALM = pd.DataFrame(100.0, index=pd.bdate_range("2023-01-02", periods=100), columns=["Open", "High", "Low", "Close"])

TOKEN = HTTPBearer(bearerFormat="JWT", auto_error=False, description="The sub of the token owns the jobs.")
JobId = Annotated[str, Path(description="As `POST /api/v1/jobs` gave it.", max_length=100)]


def create_app(
    engine: sa.Engine,
    *,
    queue: Celery | None = None,
    issuer: Issuer | None = None,
    limit: int | None = None,
    names: Collection[str] | None = None,
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
    names : collection of str, optional
        Hosts by which alone it may be called, and only by their own pages; without, by any.
    """
    app = FastAPI(
        title="Backgrid",
        version=__version__,
        description="Backtests you can believe, behind an HTTP door.",
        docs_url=None,  # both pages load scripts from elsewhere
        redoc_url=None,
        dependencies=[] if names is None else [Depends(_called_by(names))],
    )
    app.add_middleware(limit_bodies)
    app.add_middleware(limit_time, unlimited=("POST", "/api/v1/jobs") if queue is None else None)
    app.add_middleware(log_requests)
    handle_errors(app)
    Owner = Annotated[str | None, Depends(_who(issuer))]
    entering = threading.Lock()  # so that of requests at once no more pass than may
    running: dict[int, asyncio.Future[None]] = {}  # jobs that the service runs itself
    runners = ThreadPoolExecutor(MOST_AT_ONCE, "job")

    def find(job_id: JobId, owner: Owner) -> store.Job:
        job = store.find_job(engine, job_id, owner)
        if job is None:
            raise HTTPException(404, f"there is no job {shown(job_id)}")
        return job

    Found = Annotated[store.Job, Depends(find)]

    @app.get("/api/v1/health", responses=problems(), tags=["service"])
    def health() -> Health:
        """Whether the service and its database answer."""
        store.ping(engine)
        return Health(status="ok", version=__version__)

    @app.post(
        "/api/v1/jobs",
        response_model=JobAnswer,
        responses={202: {"model": JobAnswer, "description": "Queued."}, **problems(400, 401, 413, 415, 422, 429)},
        tags=["jobs"],
    )
    async def submit(
        asked: Annotated[JobRequest, Body(openapi_examples=EXAMPLES)],
        owner: Owner,
        idempotency_key: Annotated[str | None, Header(min_length=1, max_length=200)] = None,
    ) -> Response:
        """Enter a job. An equal request of the same day is the same job, unless an Idempotency-Key tells them apart.

        Without workers it answers when the job has ended; with workers at once, with 202 and status "queued".
        """
        job = await run_in_threadpool(enter, asked, owner or NOBODY, idempotency_key)
        if queue is None and job.status not in store.FINAL:
            await run_here(job.number)
            ended = await run_in_threadpool(store.find_job, engine, job.id)
            job = ended or job  # which somebody has deleted meanwhile
        if queue is None and job.status is JobStatus.FAILED:
            raise HTTPException(500 if (job.error or "").startswith((INTERNAL, store.WORN_OUT)) else 400, job.error)
        return await run_in_threadpool(answer, engine, job, 200 if job.status in store.FINAL else 202)

    def enter(asked: JobRequest, owner: str, key: str | None) -> store.Job:
        request = BacktestRequest(**asked.model_dump(exclude={"report"}))
        check_source(request)
        check_params(request)
        with entering if limit else contextlib.nullcontext():
            if limit:
                check_rate(engine, owner, limit)
            job, is_new = store.submit(engine, request, owner=owner, report=asked.report, key=key, here=queue is None)
        if job.request != request.model_dump(mode="json") or job.report != asked.report:
            raise HTTPException(422, f"this Idempotency-Key was used for another request, job {job.id}")
        if queue is not None and is_new:
            publish(queue, [job.number])  # or a sweeper does, where the broker does not answer
        return job

    async def run_here(number: int) -> None:
        """Run a job, or wait for it where an equal request has it run."""
        if number not in running:
            running[number] = asyncio.get_running_loop().run_in_executor(runners, claim_and_run, engine, number)
            running[number].add_done_callback(lambda _: running.pop(number))
        await asyncio.shield(running[number])

    @app.get("/api/v1/jobs", responses=problems(401, 404, 422), tags=["jobs"])
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

    @app.get("/api/v1/jobs/{job_id}", response_model=JobAnswer, responses=problems(401, 404, 422), tags=["jobs"])
    def read(job: Found) -> Response:
        """A job with its metrics and equity curve."""
        return answer(engine, job)

    @app.get("/api/v1/jobs/{job_id}/status", responses=problems(401, 404, 422), tags=["jobs"])
    def status(job: Found) -> JobState:
        """Where a job stands."""
        return JobState(job_id=job.id, status=job.status, error=job.error)

    @app.get(
        "/api/v1/jobs/{job_id}/report",
        response_class=Response,  # which leaves JSON to the problems
        responses={200: {"content": {"text/html": {"schema": {"type": "string"}}}}, **problems(401, 404, 422)},
        tags=["jobs"],
    )
    def report(job: Found) -> Response:
        """The HTML report of a job that was entered with `"report": true`."""
        page = store.read_report(engine, job)
        if page is None:
            said = "is not ready" if job.report and job.status not in store.FINAL else "has no report"
            raise HTTPException(404, f"job {job.id} {said}")
        html, sha256 = page
        headers = {"X-Content-Type-Options": "nosniff", "ETag": f'"{sha256}"'}
        return Response(html, headers=headers, media_type="text/html; charset=utf-8")

    @app.post("/api/v1/jobs/{job_id}/cancel", responses=problems(401, 404, 409, 422), tags=["jobs"])
    def cancel(job: Found) -> JobState:
        """Cancel a job that is queued or running."""
        if job.number in running:
            raise HTTPException(409, f"job {job.id} is run by the service itself, which cannot stop it")
        if not store.cancel(engine, job):
            raise HTTPException(409, f"job {job.id} has ended: {job.status}")
        end_job(queue, job.number)
        return JobState(job_id=job.id, status=JobStatus.CANCELLED, error=None)

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
        strategy(CALM, **params)


def answer(engine: sa.Engine, job: store.Job, code: int = 200) -> Response:
    """A job with what came of it so far, written here, so that FastAPI does not check many thousand numbers again."""
    has_report = job.report and job.status is JobStatus.COMPLETED
    told = JobAnswer(
        **store.read_result(engine, job).model_dump(),
        created_at=job.created_at,
        started_at=job.started_at,
        finished_at=job.finished_at,
        request=job.request,
        report_url=f"/api/v1/jobs/{job.id}/report" if has_report else None,
    )
    return Response(told.model_dump_json(), code, media_type="application/json")


def claim_and_run(engine: sa.Engine, number: int) -> None:
    """Run a job in this process, unless it is a worker's."""
    job = store.claim(engine, number, seconds=None)
    if job:
        outcome = run_job(job)
        insist(lambda: write_outcome(engine, job, outcome))


def _check_filters(request: Request) -> None:
    """ParameterError for a name that is none: a misspelt filter would list everything."""
    for name in request.query_params:
        if name not in FILTERS:
            raise ParameterError(f"a list has no filter {shown(name)}{did_you_mean(name[:LONGEST_PLACE], FILTERS)}")


def _fields(job: store.Job, model: type[BaseModel]) -> dict[str, Any]:
    return {name: value for name, value in job._asdict().items() if name in model.model_fields}


# ---- requests --------------------------------------------------------------------------------------------------------


def _who(issuer: Issuer | None) -> Callable[..., Any]:
    """What finds out who asks."""

    async def anyone() -> None:
        return None

    async def owner(request: Request, _: Annotated[Any, Depends(TOKEN)]) -> str:
        return identify(issuer, request.headers)  # type: ignore[arg-type]

    return owner if issuer else anyone


def _called_by(names: Collection[str]) -> Callable[..., Any]:
    """What refuses a browser that a page of elsewhere has sent here: to a name of its own, or across sites."""

    async def own_pages(request: Request) -> None:
        host = request.headers.get("host", "")
        if _host(host) not in names:
            raise HTTPException(403, f"the service is not called {shown(host)}")
        origin = request.headers.get("origin")
        if origin is not None and origin.partition("://")[2] != host:
            raise HTTPException(403, f"a page of {shown(origin)} may not ask the service")

    return own_pages


def _host(text: str) -> str | None:
    """Name or address in a Host header, without its port."""
    try:
        return urlsplit(f"//{text}").hostname
    except ValueError:
        return None
