"""A worker: takes the numbers of jobs from the queue, runs them, and looks after those that were lost."""

import contextlib
import datetime as dt
import logging
import signal
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import sqlalchemy as sa
from billiard.exceptions import TimeLimitExceeded, WorkerLostError
from celery import Celery, signals
from celery.platforms import SecurityWarning
from celery.worker import state as worker_state
from celery.worker.control import control_command
from celery.worker.request import Request
from kombu.transport.redis import Channel

from backgrid.errors import BackgridError, counted
from backgrid.jobs import store
from backgrid.jobs.queue import END_TASK, MARGIN, TASK, BrokerError, job_seconds, list_messages, publish
from backgrid.jobs.running import Outcome, insist, remove_leftovers, run_job, write_outcome
from backgrid.jobs.store import NO_DATABASE
from backgrid.standby import get_ready

SWEEP = 5.0  # between two looks for lost jobs [seconds]
PAUSE = 0.5  # before something is tried again [seconds]
KILLED = (WorkerLostError, TimeLimitExceeded)  # what Celery calls it

logger = logging.getLogger("backgrid.jobs")


class TimeUp(KeyboardInterrupt):
    """A job has run as long as it may; as Ctrl-C, past any `except Exception`, and with every `finally` done."""


def start_worker(queue: Celery, engine: sa.Engine, processes: int) -> int:
    """Run jobs in so many processes until told to stop; the exit code.

    Parameters
    ----------
    queue : celery.Celery
        As `open_queue` gives it.
    engine : sqlalchemy.Engine
        As `open_store` gives it.

    Raises
    ------
    BrokerError
        If there is no broker to begin with; for one that vanishes later it waits.
    """
    list_messages(queue)
    signals.worker_init.connect(lambda **_: get_ready(), weak=False)  # once, before processes are forked
    signals.worker_process_init.connect(lambda **_: _begin(engine), weak=False)
    signals.worker_ready.connect(lambda **_: _be_ready(engine, queue, processes), weak=False)
    _outlive_the_broker()
    _log_briefly()

    @queue.task(name=TASK, Request=_request_class(engine))
    def run(number: int) -> None:
        try:
            run_number(engine, number)
        except NO_DATABASE as error:
            logger.warning("job %d is left for later: %s", number, " ".join(str(error).split()))

    control_command(name=END_TASK)(end_number)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SecurityWarning)  # of root: messages are JSON, and hold numbers only
        worker = queue.Worker(
            concurrency=processes, loglevel="WARNING", quiet=True, without_gossip=True, without_mingle=True
        )
        worker.start()
    return worker.exitcode or 0


def _begin(engine: sa.Engine) -> None:
    """In a process that has just been forked."""
    engine.dispose(close=False)  # its connections are the parent's
    remove_leftovers()  # a process that was killed is followed by a new one


def _be_ready(engine: sa.Engine, queue: Celery, processes: int) -> None:
    logger.info("ready, %d at a time", processes)
    _start_sweeper(engine, queue)


def _request_class(engine: sa.Engine) -> type[Request]:
    """What a worker does with a message whose process was killed: by others, or since it did not heed its time."""

    class Watched(Request):
        def latest(self) -> dt.datetime:
            """Before which its own process began the job, if it did: others may only after its deadline."""
            return dt.datetime.fromtimestamp((self.time_start or 0.0) + job_seconds() + MARGIN, dt.UTC)

        def reject(self, requeue: bool = False) -> None:
            if requeue:
                with contextlib.suppress(*NO_DATABASE):  # then it is lost until its deadline
                    store.release(engine, int(self.id), self.latest())
            super().reject(requeue)

        def on_timeout(self, soft: bool, timeout: float) -> None:
            with contextlib.suppress(*NO_DATABASE):
                store.fail_running(engine, int(self.id), self.latest(), _too_long(job_seconds()))
            super().on_timeout(soft, timeout)

    return Watched


def _too_long(seconds: float) -> str:
    return f"it ran longer than {seconds:g} seconds"


def _outlive_the_broker() -> None:
    """Let jobs run on when the connection to the broker is lost, and not end the worker over a closed channel.

    Their messages come again, at once or when it is back, and find that there is nothing to do.
    """
    for answer in (Channel.basic_ack, Channel.basic_reject):
        setattr(Channel, answer.__name__, _unless_closed(answer))


def _unless_closed(answer: Callable[..., None]) -> Callable[..., None]:
    def answer_open(channel: Channel, *arguments: Any, **options: Any) -> None:
        if not channel.closed:
            answer(channel, *arguments, **options)

    return answer_open


def _log_briefly() -> None:
    """A line a job is this module's; of Celery's only what is wrong, without its own traceback of a dead child."""

    def shorten(record: logging.LogRecord) -> bool:
        if isinstance(record.args, tuple) and record.args and isinstance(record.args[0], KILLED):
            record.exc_info = None
        return True

    signals.setup_logging.connect(lambda **_: None, weak=False)  # else it makes handlers of its own
    for name in ("celery", "kombu"):
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.getLogger("celery.worker.request").addFilter(shorten)
    # that a later Celery will, by default, cancel jobs when the broker is lost
    logging.getLogger("py.warnings").addFilter(lambda record: "CPendingDeprecation" not in record.getMessage())


def end_number(state: Any, number: int) -> None:
    """End the processes of this worker that run a job; not by Celery's `revoke`, which remembers numbers for hours."""
    for request in {*worker_state.reserved_requests, *worker_state.active_requests}:
        if request.id == str(number):
            request.terminate(state.consumer.pool, signal="KILL")


def run_number(engine: sa.Engine, number: int) -> None:
    """Run the job of a message, if it is still to be run."""
    limit = job_seconds()
    job = insist(lambda: store.claim(engine, number, seconds=limit + 2.0 * MARGIN))
    if job is None:
        return
    started = time.perf_counter()
    try:
        with _time_limit(limit):
            outcome = run_job(job)
    except TimeUp:
        outcome = Outcome(error=BackgridError(_too_long(limit)))
    written = insist(lambda: write_outcome(engine, job, outcome))
    said = "had ended elsewhere" if not written else "failed" if outcome.error else "completed"
    logger.info("job %s %s, %.1f ms", job.id, said, 1e3 * (time.perf_counter() - started))


@contextlib.contextmanager
def _time_limit(seconds: float) -> Iterator[None]:
    """Raise TimeUp within, after so many seconds."""

    def ring(*_: Any) -> None:
        raise TimeUp

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, before)


def sweep(engine: sa.Engine, queue: Celery) -> int:
    """Queue again what was lost: by workers that vanished, or by a broker that forgot; how many messages were sent."""
    overdue = {*store.requeue_overdue(engine)}  # whose messages the broker may keep for long
    lost = _find_lost(engine, queue)
    if lost:
        time.sleep(PAUSE)
        lost &= _find_lost(engine, queue)  # not what was on its way
    lost |= overdue
    publish(queue, sorted(lost))
    return len(lost)


def _find_lost(engine: sa.Engine, queue: Celery) -> set[int]:
    """Numbers of queued jobs of which the broker knows nothing."""
    queued = store.list_queued(engine)
    return {*queued} - list_messages(queue)


def _start_sweeper(engine: sa.Engine, queue: Celery) -> None:
    def look() -> None:
        while True:
            time.sleep(SWEEP)
            try:
                if sent := sweep(engine, queue):
                    logger.warning("messages of %s were lost, and sent again", counted(sent, "job"))
            except BrokerError:
                pass  # it has said so
            except Exception as error:  # whatever it was, jobs that are lost later must be found
                logger.warning("no look for lost jobs: %s", " ".join(str(error).split()))

    threading.Thread(target=look, daemon=True, name="sweeper").start()
