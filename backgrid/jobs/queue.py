"""The way of a job to its worker: Celery over Redis. It carries numbers of jobs only, and may lose or repeat them."""

import contextlib
import json
import logging
from collections.abc import Iterable, Iterator
from urllib.parse import urlsplit

from celery import Celery
from kombu.exceptions import KombuError
from redis.exceptions import RedisError

from backgrid.errors import BackgridError, ParameterError, shown
from backgrid.settings import setting

TASK = "backgrid.run"
END_TASK = "backgrid.end"  # what tells the workers to end a job
LONGEST = 86_400.0  # that a job may be allowed to run [seconds]
MARGIN = 10.0  # between the limit of a job, that of its process, its deadline, and that of its message [seconds]
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
    if not 0.0 < seconds <= LONGEST:
        raise ParameterError(f"BACKGRID_JOB_SECONDS must be above 0 and at most {LONGEST:,.0f}, got {shown(text)}")
    return seconds


def open_queue(url: str, name: str) -> Celery:
    """Celery with the settings that lose no job.

    A message is acknowledged when its job has ended; one whose worker died comes again, at once if the child died and
    after the visibility timeout if the whole worker did. It may also come again while its job runs: whether it is to
    be run is told by the job's row alone.

    Parameters
    ----------
    url : str
        Of a Redis, which may serve others too.
    name : str
        Of the queue, as `store.queue_name` gives it.

    Raises
    ------
    ParameterError
        If the URL is not that of a Redis.
    """
    _check_url(url)
    limit = job_seconds()
    queue = Celery("backgrid", broker=url)
    queue.conf.update(
        task_default_queue=name,
        control_exchange=name,
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
            "visibility_timeout": limit + 3.0 * MARGIN,
            "unacked_key": f"{name}.unacked",
            "unacked_index_key": f"{name}.unacked_index",
            "unacked_mutex_key": f"{name}.unacked_mutex",
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
            queue.control.broadcast(END_TASK, arguments={"number": number})


def list_messages(queue: Celery) -> set[int]:
    """Numbers of the jobs whose messages wait at the broker or are with a worker."""
    with _asking(), queue.connection_for_read() as connection:
        redis, unacked = connection.default_channel.client, connection.default_channel.unacked_key
        waiting = [json.loads(message) for message in redis.lrange(queue.conf.task_default_queue, 0, -1)]
        taken = [json.loads(entry)[0] for entry in redis.hvals(unacked)]
    return {int(message["headers"]["id"]) for message in [*waiting, *taken]}
