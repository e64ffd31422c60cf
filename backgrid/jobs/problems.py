"""Every error of the service as one sentence under `detail`, with its status."""

import json
import logging
from collections.abc import Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.routing import Match, Route

from backgrid.errors import BackgridError, ParameterError, shown
from backgrid.jobs.auth import TooManyError, UnauthorizedError
from backgrid.jobs.queue import BrokerError
from backgrid.jobs.schema import EXAMPLE, JobRequest
from backgrid.jobs.store import NO_DATABASE
from backgrid.models import describe_errors

LONGEST_PLACE = 40  # of a name in a message [characters]

logger = logging.getLogger("backgrid.jobs")


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
    403: {"model": Problem, "description": "Asked by a page of another site, or under another name than its own."},
    404: {"model": Problem, "description": "No such job of yours."},
    409: {"model": Problem, "description": "The job has ended, or cannot be cancelled."},
    413: {"model": Problem, "description": "A body that is too large."},
    415: {"model": Problem, "description": "A body of another type than JSON."},
    422: {"model": Problem, "description": "A field that is unknown, wrong or out of bounds."},
    429: {"model": Problem, "description": "Too many jobs in a minute.", "headers": WAIT},
    500: {"model": Problem, "description": "An error of the service; its log says more."},
    503: {"model": Problem, "description": "The database or the broker does not answer.", "headers": WAIT},
}


def problems(*codes: int) -> dict[int | str, dict[str, Any]]:
    """Those that a door may answer with, for the document."""
    return {code: PROBLEMS[code] for code in (*codes, 403, 500, 503)}


def handle_errors(app: FastAPI) -> None:
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

    def no_database(_: Request, error: Exception) -> JSONResponse:
        logger.warning("the database does not answer: %s", " ".join(str(error).split()))
        return say(503, "the database does not answer; try again", {"Retry-After": "5"})

    for kind in NO_DATABASE:
        app.add_exception_handler(kind, no_database)

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
    found = [{**one, "loc": [_place(part) for part in one["loc"][1:]]} for one in errors]
    return 422, str(describe_errors(found, JobRequest))


def _place(part: int | str) -> str:
    """A step of the way to what is wrong; it may be a name that a client has made up."""
    text = str(part)
    return text if len(text) <= LONGEST_PLACE and text.isprintable() else shown(text)


def _allowed(app: FastAPI, request: Request) -> list[str]:
    """Methods that a path takes, by all of its routes; Starlette names those of the first alone."""
    routes = [route for route in app.routes if isinstance(route, Route) and route.methods]
    found = [route.methods for route in routes if route.matches(request.scope)[0] is not Match.NONE]
    return sorted({method for methods in found for method in methods or ()})
