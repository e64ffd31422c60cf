"""What every request passes through: a line in the log, a limit of time, a limit of size."""

import asyncio
import logging
import re
import time
from typing import Any

from fastapi import HTTPException
from fastapi.responses import JSONResponse

LARGEST_BODY = 100_000  # bytes
LARGEST_REFUSED = 2**28  # of a body that is too large, which its client is let send before it hears so [bytes]
LONGEST_LOGGED = 200  # of a path [characters]
LONGEST_ANSWER = 4.0  # before the service says that something does not answer it [seconds]

logger = logging.getLogger("backgrid.jobs")


def limit_bodies(app: Any) -> Any:
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


def log_requests(app: Any) -> Any:
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


def limit_time(app: Any, unlimited: tuple[str, str] | None = None) -> Any:
    """ASGI middleware that answers for what is held up, by a database that hangs or a client that sends no end.

    unlimited  method and path of the door that may take long
    """

    async def timed(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http" or (scope["method"], scope["path"]) == unlimited:
            return await app(scope, receive, send)
        has_begun = is_late = False

        async def send_in_time(message: Any) -> None:
            nonlocal has_begun
            if not is_late:
                has_begun = True
                await send(message)

        work = asyncio.create_task(app(scope, receive, send_in_time))
        await asyncio.wait({work}, timeout=LONGEST_ANSWER)
        if work.done() or has_begun:
            return await work
        is_late = True  # what it still says is not sent; an error that it ends with is logged by asyncio
        said = {"detail": f"no answer within {LONGEST_ANSWER:g} s; try again"}
        await JSONResponse(said, 503, {"Retry-After": "5", "Connection": "close"})(scope, receive, send)

    return timed
