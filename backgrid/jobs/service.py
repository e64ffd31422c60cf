"""The service and its workers as processes, put together from the settings."""

import logging
import sys

import uvicorn

from backgrid.errors import ParameterError
from backgrid.jobs.api import create_app
from backgrid.jobs.auth import check_host, find_issuer, read_limit
from backgrid.jobs.queue import open_queue
from backgrid.jobs.store import fail_interrupted, open_store
from backgrid.jobs.worker import start_worker
from backgrid.settings import setting

logger = logging.getLogger("backgrid.jobs")


def start_service(host: str, port: int) -> None:
    """Listen until told to stop.

    Raises
    ------
    ParameterError
        For a setting that is wrong, or an address beyond this machine without tokens.
    """
    _log()
    issuer, limit, broker = find_issuer(), read_limit(), setting("BACKGRID_BROKER_URL")
    check_host(host, issuer)
    engine = open_store(setting("BACKGRID_DATABASE_URL"))
    if not broker and (interrupted := fail_interrupted(engine)):
        logger.warning("%d jobs were interrupted when the service last stopped", interrupted)
    queue = open_queue(broker) if broker else None
    app = create_app(engine, queue=queue, issuer=issuer, limit=limit)
    uvicorn.run(app, host=host, port=port, access_log=False, log_config=None, server_header=False)


def start_workers(processes: int) -> None:
    """Run jobs in so many processes until told to stop.

    Raises
    ------
    ParameterError
        For a setting that is wrong.
    BackgridError
        If the database or the broker does not answer.
    """
    _log()
    broker = setting("BACKGRID_BROKER_URL")
    if not broker:
        raise ParameterError("workers need BACKGRID_BROKER_URL, such as redis://127.0.0.1:6379/0")
    queue = open_queue(broker)
    sys.exit(start_worker(queue, open_store(setting("BACKGRID_DATABASE_URL")), processes))


def _log() -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    for name in ("alembic", "papermill", "traitlets"):  # else two lines a start and four a report
        logging.getLogger(name).setLevel(logging.WARNING)
