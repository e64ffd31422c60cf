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
    "BACKGRID_DATABASE_URL": Setting("sqlite:///backgrid.db", "jobs service: its database, sqlite or postgresql"),
    "BACKGRID_BROKER_URL": Setting("", "jobs service: Redis, which carries jobs to workers; empty to run them itself"),
    "BACKGRID_JOB_SECONDS": Setting("300", "jobs service: longest that a worker runs a job"),
    "BACKGRID_RATE_LIMIT": Setting("", "jobs service: jobs a minute that one user may enter; empty for any number"),
    "BACKGRID_JWT_SECRET": Setting("", "jobs service: key of HS256 tokens, 32 bytes or more; empty to ask for none"),
    "BACKGRID_JWT_PUBLIC_KEY": Setting("", "jobs service: file of the public key of RS256 tokens, in PEM"),
    "BACKGRID_JWT_AUDIENCE": Setting("", "jobs service: `aud` that tokens must have; empty for tokens without"),
}


def setting(name: str) -> str:
    """Value of a setting; an empty variable counts as unset."""
    return os.environ.get(name) or SETTINGS[name].default
