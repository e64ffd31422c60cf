"""The way of a job to its worker: Celery over Redis. It carries numbers of jobs only, and may lose or repeat them."""

import contextlib
import json
import logging
from collections.abc import Iterable, Iterator
from typing import Any
from urllib.parse import urlsplit

from celery import Celery
from kombu.exceptions import KombuError
from redis.exceptions import RedisError

from backgrid.errors import BackgridError, ParameterError, shown
from backgrid.settings import setting

NAME = "backgrid"  # of the queue
TASK = "backgrid.run"
END = "backgrid.end"  # what tells the workers to end a job
MARGIN = 10.0  # between the limit of a job, that of its process, and that of its message [seconds]
WAIT = 1.5  # for a broker that does not answer, so that a client hears of it within 5 s [seconds]
FAULTS = (KombuError, RedisError, OSError)

logger = logging.getLogger("backgrid.jobs")


class BrokerError(BackgridError):
    """A broker that does not answer."""


def job_seconds() -> float:
    """Longest that a job may run. [seconds]"""
    text = setting("BACKGRID_JOB_SECONDS")
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0.0 < seconds < 1e6:
        raise ParameterError(f"BACKGRID_JOB_SECONDS must be seconds above 0, got {shown(text)}")
    return seconds


def open_queue(url: str) -> Celery:
    """Celery with the settings that lose no job.

    A message is acknowledged when its job has ended; one whose worker died comes again, at once if the child died and
    after the visibility timeout if the whole worker did. That timeout is above the hard limit of a job, so that a
    message which comes again always means that nobody runs it any more.

    Raises
    ------
    ParameterError
        If the URL is not that of a Redis.
    """
    _check_url(url)
    limit = job_seconds()
    queue = Celery("backgrid", broker=url)
    queue.conf.update(
        task_default_queue=NAME,
        task_ignore_result=True,
        task_acks_late=True,
        task_reject_on_worker_lost=True,
        task_time_limit=limit + MARGIN,
        worker_prefetch_multiplier=1,
        worker_lost_wait=2.0,  # for what a child said before it died; ten by default
        worker_proc_alive_timeout=60.0,  # of a child to start: four by default, too little for a busy machine
        worker_hijack_root_logger=False,
        worker_send_task_events=False,
        task_send_sent_event=False,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,  # a worker outlives any outage
        broker_connection_timeout=WAIT,
        broker_transport_options={
            "visibility_timeout": limit + 2.0 * MARGIN,
            "unacked_key": f"{NAME}.unacked",  # no other program's, which may share the Redis
            "unacked_index_key": f"{NAME}.unacked_index",
            "unacked_mutex_key": f"{NAME}.unacked_mutex",
            "unacked_mutex_expire": 10,  # else a worker killed while it holds it keeps messages back for 300 s
            "unacked_restore_interval": 1,
            "unacked_restore_throttle": 1,
            "socket_connect_timeout": WAIT,
            "socket_timeout": WAIT,
            "max_retries": 1,
            "interval_start": 0.0,
        },
    )
    return queue


def _check_url(url: str) -> None:
    """ParameterError for what is not the address of a Redis; its password is not repeated."""
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018  reads it, or raises
        database = parts.path.strip("/")
        if parts.scheme in ("redis", "rediss") and (not database or database.isdecimal()):
            return
    except ValueError:
        pass
    raise ParameterError("BACKGRID_BROKER_URL must be the address of a Redis, such as redis://127.0.0.1:6379/0")


@contextlib.contextmanager
def _asking() -> Iterator[None]:
    """BrokerError, and a line in the log, for whatever a broker that does not answer is told by."""
    try:
        yield
    except FAULTS as error:
        logger.warning("the broker does not answer: %s", " ".join(str(error).split()))
        raise BrokerError("the broker does not answer; try again") from error


def publish(queue: Celery, numbers: Iterable[int]) -> None:
    """Tell the workers of these jobs, or raise BrokerError."""
    with _asking(), queue.producer_pool.acquire(block=True, timeout=WAIT) as producer:
        for number in numbers:
            queue.send_task(TASK, args=[number], task_id=str(number), producer=producer, retry=False)


def end_job(queue: Celery | None, number: int) -> None:
    """End the worker process that runs a job, if one does. What cannot be told leaves the job to run for nothing."""
    if queue is not None:
        with contextlib.suppress(BrokerError), _asking():
            queue.control.broadcast(END, arguments={"number": number})


def count_messages(queue: Celery) -> int:
    """How many messages wait at the broker or are with a worker."""
    with _reading(queue) as channel:
        return channel.client.llen(NAME) + channel.client.hlen(channel.unacked_key)


def list_messages(queue: Celery) -> set[int]:
    """Numbers of the jobs whose messages wait at the broker or are with a worker."""
    with _reading(queue) as channel:
        waiting = [json.loads(message) for message in channel.client.lrange(NAME, 0, -1)]
        taken = [json.loads(entry)[0] for entry in channel.client.hvals(channel.unacked_key)]
    return {int(message["headers"]["id"]) for message in [*waiting, *taken]}


@contextlib.contextmanager
def _reading(queue: Celery) -> Iterator[Any]:
    with _asking(), queue.connection_for_read() as connection:
        yield connection.default_channel
