"""The service and its workers as processes, put together from the settings."""

import contextlib
import logging
import os
import sys
from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa
import uvicorn

from backgrid.errors import BackgridError, ParameterError, counted
from backgrid.jobs import store
from backgrid.jobs.api import create_app
from backgrid.jobs.auth import check_host, find_issuer, own_names, read_limit
from backgrid.jobs.queue import open_queue
from backgrid.jobs.running import remove_leftovers
from backgrid.jobs.worker import start_worker
from backgrid.settings import setting

PATIENCE = 30  # with clients, when it is told to stop [seconds]

logger = logging.getLogger("backgrid.jobs")


def start_service(host: str, port: int) -> None:
    """Listen until told to stop.

    Raises
    ------
    ParameterError
        For a setting that is wrong, or an address beyond this machine without tokens.
    BackgridError
        If the database does not answer, or another service runs its jobs.
    """
    _prepare()
    issuer, limit, broker = find_issuer(), read_limit(), setting("BACKGRID_BROKER_URL")
    check_host(host, issuer)
    engine = store.open_store(_database(bool(broker)))
    with contextlib.nullcontext() if broker else _alone(engine):
        remove_leftovers()
        queue = open_queue(broker, store.queue_name(engine)) if broker else None
        logger.info("tokens: %s; jobs: %s", issuer.algorithm if issuer else "none", "workers" if queue else "run here")
        names = None if issuer else own_names(host)
        app = create_app(engine, queue=queue, issuer=issuer, limit=limit, names=names)
        how: dict[str, Any] = {"access_log": False, "log_config": None, "server_header": False}
        uvicorn.run(app, host=host, port=port, timeout_graceful_shutdown=PATIENCE, **how)


@contextlib.contextmanager
def _alone(engine: sa.Engine) -> Iterator[None]:
    """The database of a service that runs its jobs itself: nobody else's, and without what the last one left."""
    with store.held_alone(engine) as is_alone:
        if not is_alone:
            raise BackgridError("another service has this database; for more than one, set BACKGRID_BROKER_URL")
        if interrupted := store.fail_interrupted(engine):
            logger.warning("%s interrupted when the service last stopped", counted(interrupted, "job"))
        yield


def start_workers(processes: int) -> None:
    """Run jobs in so many processes until told to stop.

    Raises
    ------
    ParameterError
        For a setting that is wrong.
    BackgridError
        If the database or the broker does not answer.
    """
    _prepare()
    broker = setting("BACKGRID_BROKER_URL")
    if not broker:
        raise ParameterError("workers need BACKGRID_BROKER_URL, such as redis://127.0.0.1:6379/0")
    engine = store.open_store(_database(True))
    sys.exit(start_worker(open_queue(broker, store.queue_name(engine)), engine, processes))


def _database(has_broker: bool) -> str:
    """URL of the database; ParameterError for one of the wrong kind, before it is opened."""
    url = setting("BACKGRID_DATABASE_URL")
    if has_broker and url.startswith("sqlite"):
        raise ParameterError("with BACKGRID_BROKER_URL, BACKGRID_DATABASE_URL must be a PostgreSQL")
    if not has_broker and url.startswith("postgresql"):
        raise ParameterError("without BACKGRID_BROKER_URL, BACKGRID_DATABASE_URL must be a file of SQLite")
    return url


def _prepare() -> None:
    """A log of one line an event, and no count of trials: users would see each other's."""
    os.environ["BACKGRID_LEDGER"] = "off"
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    for name in ("alembic", "papermill", "traitlets"):  # else two lines a start and four a report
        logging.getLogger(name).setLevel(logging.WARNING)
