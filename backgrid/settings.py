"""Settings: environment variables, each with a default, read when they are needed."""

import os
from typing import NamedTuple

import platformdirs


class Setting(NamedTuple):
    """Default and meaning of one environment variable."""

    default: str
    meaning: str


SETTINGS = {
    "BACKGRID_SOURCE": Setting("yahoo", "where prices come from: yahoo, sample, or a path"),
    "BACKGRID_CACHE": Setting(platformdirs.user_cache_dir("backgrid", appauthor=False), "folder of fetched prices"),
    "BACKGRID_REPORTS": Setting("reports", "folder that reports are written to"),
    "BACKGRID_LEDGER": Setting("on", "count of trials: on (backgrid.ledger.db in the working folder), off, or a path"),
}


def setting(name: str) -> str:
    """Value of a setting; an empty variable counts as unset."""
    return os.environ.get(name) or SETTINGS[name].default
