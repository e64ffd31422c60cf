"""`backgrid`, whose worker fails as a test asks for: by the cash of a job, since a request can carry nothing else.

Each attempt of a job leaves a file attempt-<number>-<attempt> with the id of its process in the folder TRICKS.
"""

import os
import signal
import time
from pathlib import Path

import sqlalchemy as sa

HANGS = 1001.0  # until there is a file go-<number>
KILLS_ITS_WORKER = 1002.0
DIES_BEFORE_COMMIT = 1003.0  # at the first attempt
DIES_AFTER_COMMIT = 1004.0
HEEDS_NO_TIME = 1005.0


def die(*_):
    """End this process as the system does when memory is short."""
    os.kill(os.getpid(), signal.SIGKILL)


def play_tricks(worker, folder):
    """Put tricks before and after the work of a worker."""
    run_job, write_outcome = worker.run_job, worker.write_outcome

    def run_tricky(job):
        (folder / f"attempt-{job.number}-{job.attempts}").write_text(str(os.getpid()))
        while job.request["cash"] == HANGS and not (folder / f"go-{job.number}").exists():
            time.sleep(0.02)
        if job.request["cash"] == HEEDS_NO_TIME:
            signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGALRM])
            time.sleep(60.0)
        if job.request["cash"] == KILLS_ITS_WORKER:
            die()
        return run_job(job)

    def write_tricky(engine, job, outcome):
        if job.attempts == 1 and job.request["cash"] == DIES_BEFORE_COMMIT:
            sa.event.listen(engine, "commit", die)
        written = write_outcome(engine, job, outcome)
        if job.request["cash"] == DIES_AFTER_COMMIT:
            die()
        return written

    worker.run_job, worker.write_outcome = run_tricky, write_tricky


if __name__ == "__main__":
    from backgrid.__main__ import start
    from backgrid.jobs import worker

    play_tricks(worker, Path(os.environ["TRICKS"]))
    start()
