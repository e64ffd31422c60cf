"""The trial ledger: how many trials has anyone here spent on this data with this strategy?

One SQLite file, `backgrid.ledger.db` in the working folder; BACKGRID_LEDGER names another or switches it off. A run
never fails for its ledger; a count that cannot be trusted does. It guards against forgetting, not against cheating.
"""

import contextlib
import datetime as dt
import hashlib
import json
import math
import numbers
import os
import threading
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from backgrid.errors import BackgridError, ParameterError, did_you_mean, shown
from backgrid.settings import setting

if TYPE_CHECKING:
    import sqlite3

    import pandas as pd

FILE = "backgrid.ledger.db"
OFF, ON = {"off", "no", "false", "0"}, {"on", "yes", "true", "1"}
KINDS = ("sweep", "search", "report", "walk_forward")
MOST_TRIALS = 10**12
LONGEST_REQUEST = 100_000  # characters; of a longer one only the hash is kept, so that the file stays small
BUSY_SECONDS = 10.0  # how long to wait while other processes write
REMEDY = "Try again if it is locked; move it away if it is damaged; or set BACKGRID_LEDGER to another file, or to off."
TABLE = """CREATE TABLE ledger (id INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE,
    first_seen TEXT, kind TEXT, symbol TEXT, strategy TEXT, data TEXT, n_trials INTEGER, request TEXT)"""
INSERT = "INSERT OR IGNORE INTO ledger VALUES (NULL, ?, ?, ?, ?, ?, ?, ?, ?)"

# What SQLite knows of its locks does not survive a fork: a child born while the file is open finds it locked for good.
_alone = threading.RLock()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_alone.acquire, after_in_parent=_alone.release, after_in_child=_alone.release)
_warned: dict[Path, object] = {}


class LedgerWarning(UserWarning):
    """Trials were not recorded: a later count will be too low."""


class _Entry(NamedTuple):
    first_seen: str
    kind: str
    symbol: str
    strategy: str
    data: str
    n_trials: int
    request: str

    def key(self) -> str:
        """Identity and checksum in one: SQLite checks its pages and not what is written in them."""
        told_apart = (self.kind, self.strategy, self.data, self.n_trials, self.request)
        return hashlib.sha256(json.dumps(told_apart, default=repr).encode()).hexdigest()


def record_trials(
    *, data: str, strategy: str, request: Mapping[str, Any], n_trials: int, kind: str, symbol: str = ""
) -> None:
    """Add trials to the ledger; the same request again adds nothing, and no trials leave no trace.

    Parameters
    ----------
    data : str
        Hash of the prices.
    strategy : str
        Name of the strategy.
    request : mapping
        What was tried: grid, parameters, costs, fill. Told apart by its JSON with sorted keys, in which 20, 20.0 and
        numpy's 20 are one number and arrays, tuples and ranges are lists. A list in another order is another request.
        What JSON cannot say, such as the code of a function, goes in as a hash: of a search, its `identity`.
    n_trials : int
        Combinations evaluated, 0 to 10**12; of several numbers for one request the largest counts. [trials]
    kind : str
        sweep, search, report or walk_forward; another kind is another request.
    symbol : str, optional
        Shown in the ledger, and nothing else.

    Raises
    ------
    ParameterError
        If an argument is not as above.

    Warns
    -----
    LedgerWarning
        If the file cannot be written; once a process and file.
    """
    if kind not in KINDS:
        raise ParameterError(f"unknown kind {shown(kind)}{did_you_mean(str(kind), KINDS)}")
    for name, text in (("data", data), ("strategy", strategy), ("symbol", symbol or "none")):
        if not isinstance(text, str) or not text:
            raise ParameterError(f"{name} must be a text, got {shown(text)}")
    if not isinstance(n_trials, numbers.Integral) or not 0 <= n_trials <= MOST_TRIALS:
        raise ParameterError(f"n_trials must be a whole number, 0 to {MOST_TRIALS:,}, got {shown(n_trials)}")
    now = dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
    entry = _Entry(now, kind, symbol or "", strategy, data, int(n_trials), _request_as_json(request))
    path = _ledger_path()
    if path is None or entry.n_trials == 0:
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _open_ledger(path, "rwc", "BEGIN IMMEDIATE") as connection:
            if _is_empty(connection):
                connection.execute(TABLE)
            connection.execute(INSERT, (entry.key(), *entry))
    except OSError as error:
        mine = object()
        if _warned.setdefault(path, mine) is mine:  # in one step: of two threads, one warns
            lost = f"the trial ledger {path} was not written, a later count will be {entry.n_trials:,} or more too low"
            warnings.warn(f"{lost}: {error}. {REMEDY}", LedgerWarning, stacklevel=2)


def count_trials(*, data: str | None = None, strategy: str | None = None) -> int:
    """Trials recorded, summed over distinct requests: an upper bound, as what two sweeps share counts twice.

    Parameters
    ----------
    data : str, optional
        Hash of the prices; any prices if not given.
    strategy : str, optional
        Name of the strategy, whatever its code was: an edited function is another try of the same idea. Not given, all
        strategies count: what the deflated Sharpe of a winner among several needs.

    Returns
    -------
    int
        0 where there is no file yet, or an empty one. [trials]

    Raises
    ------
    BackgridError
        If the ledger is off, or its file cannot be read in full.
    """
    entries = _read_entries()
    return sum(e.n_trials for e in entries if data in (None, e.data) and strategy in (None, e.strategy))


def read_ledger() -> "pd.DataFrame":
    """The ledger, one row a request, in the order in which they came.

    Returns
    -------
    DataFrame, shape (n_requests, 7)
        first_seen (UTC, by the machine's clock), kind, symbol, strategy, data, n_trials, request (JSON; {"sha256": ...}
        in place of more than 100,000 characters).

    Raises
    ------
    BackgridError
        If the ledger is off, or its file cannot be read in full.
    """
    import pandas as pd

    ledger = pd.DataFrame(_read_entries(), columns=_Entry._fields).astype({"n_trials": "int64"})
    return ledger.assign(first_seen=pd.to_datetime(ledger["first_seen"], utc=True, errors="coerce"))


def _read_entries() -> list[_Entry]:
    """One entry a request, each verified: a wrong number is worse than none."""
    path = _ledger_path()
    if path is None:
        raise BackgridError("the trial ledger is off, so nobody counts: set BACKGRID_LEDGER to on, or to a path")
    try:
        path.stat()
        with _open_ledger(path, "rw", "BEGIN") as connection:  # "ro" cannot undo what a killed process has left
            sound = connection.execute("PRAGMA integrity_check(1)").fetchone() == ("ok",)
            select = f"SELECT key, {', '.join(_Entry._fields)} FROM ledger ORDER BY id"
            rows = [] if sound and _is_empty(connection) else connection.execute(select).fetchall()
        entries = [_Entry(*row) for _, *row in rows]
        if not sound or [key for key, *_ in rows] != [entry.key() for entry in entries]:
            raise OSError("its content is damaged")
    except FileNotFoundError:
        return []
    except OSError as error:
        raise BackgridError(f"the trial ledger {path} cannot be counted: {error}. {REMEDY}") from error
    requests: dict[tuple, _Entry] = {}
    for entry in entries:
        first = requests.setdefault((entry.kind, entry.strategy, entry.data, entry.request), entry)
        if entry.n_trials > first.n_trials:  # it was cut short at first
            requests[entry.kind, entry.strategy, entry.data, entry.request] = first._replace(n_trials=entry.n_trials)
    return list(requests.values())


@contextlib.contextmanager
def _open_ledger(path: Path, mode: str, begin: str) -> "Iterator[sqlite3.Connection]":
    """One transaction, with SQLite's errors as OSError; no write-ahead log, which network drives cannot keep."""
    with _alone:
        import sqlite3  # here: a child born during an import waits for its end, which never comes

        try:
            uri = f"{path.as_uri()}?mode={mode}"
            with contextlib.closing(
                sqlite3.connect(uri, uri=True, timeout=BUSY_SECONDS, isolation_level=None)
            ) as connection:
                connection.execute(begin)
                yield connection
                connection.execute("COMMIT")
        except (sqlite3.Error, ValueError) as error:  # ValueError: a text or a path that cannot be encoded
            raise OSError(str(error)) from error


def _is_empty(connection: "sqlite3.Connection") -> bool:
    """A new file. One with other tables is somebody else's: not to be written to, and its count is not 0."""
    return connection.execute("SELECT count(*) FROM sqlite_master").fetchone() == (0,)


def is_kept() -> bool:
    """Whether there is a ledger: BACKGRID_LEDGER is not off."""
    return _ledger_path() is not None


def _ledger_path() -> Path | None:
    named = setting("BACKGRID_LEDGER")
    if named.lower() in OFF:
        return None
    path = Path(FILE if named.lower() in ON else named)
    with contextlib.suppress(OSError):  # a working folder that is gone
        path = path.absolute()
    return path


def _request_as_json(request: Mapping[str, Any]) -> str:
    if not isinstance(request, Mapping):
        raise ParameterError(f"request must be a mapping, got {shown(request)}")
    try:
        text = json.dumps(_plain(request), sort_keys=True, allow_nan=False)
    except TypeError as error:
        raise ParameterError(
            f"request must be numbers, texts, dates, and lists and mappings of them: {error}"
        ) from None
    return text if len(text) <= LONGEST_REQUEST else json.dumps({"sha256": hashlib.sha256(text.encode()).hexdigest()})


def _plain(value: Any) -> Any:
    """What JSON can say, equal numbers said alike."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    value = value.tolist() if hasattr(value, "tolist") else value  # numpy, pandas
    if isinstance(value, list | tuple | range):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, float) and value.is_integer() and abs(value) < 2.0**53:
        return int(value)
    return value.isoformat() if isinstance(value, dt.date) else value
