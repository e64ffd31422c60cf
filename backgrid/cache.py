"""Bars on disk: a cache of fetched ranges, and snapshots kept under the hash of their content.

A file is replaced at once, so that any number of processes may read and write it, and carries a checksum of every
number in it (a flipped byte in a Parquet file mostly reads back as another price). A damaged file is moved aside.
"""

import contextlib
import datetime as dt
import hashlib
import json
import logging
import os
import re
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pandas as pd

from backgrid.bars import hash_bars
from backgrid.errors import BackgridError
from backgrid.settings import setting

log = logging.getLogger("backgrid")

CACHED_SYMBOLS = 100
LEFT_SECONDS = 3600  # after which a temporary file is nobody's
UNFINISHED_SECONDS = 3600  # how long a range is good for that was not over when it was fetched


def cached_bars(
    symbol: str,
    first: dt.date | None,
    last: dt.date | None,
    interval: str,
    download: Callable[..., tuple[pd.DataFrame, list[str]]],
) -> tuple[pd.DataFrame, list[str]]:
    """Bars and notes of a range from the cache, or from `download` and then into the cache.

    Raises
    ------
    BackgridError
        If the cache folder cannot be written; errors of `download` pass through and leave the cache as it was.
    """
    key = hashlib.sha256(f"{symbol}|{interval}|{first}|{last}".encode()).hexdigest()[:16]
    path = _folder("prices") / f"{symbol}_{interval}_{key}.parquet"
    kept = _read_bars(path, "key", key)
    if kept and _still_good(last, kept[1]["fetched"]):
        with contextlib.suppress(FileNotFoundError):  # another process has evicted it meanwhile
            os.utime(path)  # what was used last is evicted last
        return kept[0], kept[1]["notes"]
    fetched = time.time()
    raw, notes = download(symbol, first, last, interval)
    _write_bars(path, raw, {"key": key, "fetched": fetched, "notes": notes})
    _evict(path.parent)
    return raw, notes


def keep_snapshot(raw: pd.DataFrame, symbol: str = "", interval: str = "") -> str:
    """Keep raw bars under the SHA-256 of their numbers, never to be rewritten, and return it."""
    snapshot = hash_bars(raw)
    path = _folder("snapshots") / f"{snapshot}.parquet"
    if not path.is_file():
        _write_bars(path, raw, {"symbol": symbol, "interval": interval})
    return snapshot


def load_snapshot(snapshot: str) -> tuple[pd.DataFrame, dict] | None:
    """Raw bars kept under this hash, and of what; None if there are none, or they are no longer what was kept."""
    if not re.fullmatch(r"[0-9a-f]{64}", snapshot):
        return None
    return _read_bars(_folder("snapshots") / f"{snapshot}.parquet", "content", snapshot)


def _still_good(last: dt.date | None, fetched: float) -> bool:
    """A range that was over when it was fetched stays good; one that was not, for an hour."""
    over = last is not None and last < dt.datetime.fromtimestamp(fetched, dt.UTC).date() - dt.timedelta(days=1)
    return over or 0.0 <= time.time() - fetched < UNFINISHED_SECONDS


def _evict(folder: Path) -> None:
    """Keep the entries of the symbols used last."""
    for left in folder.glob("*.tmp"):  # by a process that was killed, unless another is writing it now
        with contextlib.suppress(FileNotFoundError):
            if time.time() - left.stat().st_mtime > LEFT_SECONDS:
                left.unlink()
    used: dict[str, float] = {}
    entries = list(folder.glob("*.parquet"))
    for entry in entries:
        symbol = entry.name.split("_")[0]
        try:
            used[symbol] = max(used.get(symbol, 0.0), entry.stat().st_mtime)
        except FileNotFoundError:  # another process was quicker
            continue
    gone = set(sorted(used, key=lambda symbol: used[symbol])[:-CACHED_SYMBOLS])
    for entry in entries:
        if entry.name.split("_")[0] in gone:
            entry.unlink(missing_ok=True)


def _folder(name: str) -> Path:
    return Path(setting("BACKGRID_CACHE")) / name


def _write_bars(path: Path, raw: pd.DataFrame, facts: dict) -> None:
    """Replace a Parquet file at once; its metadata hold the facts and a checksum of them and of every number."""
    import pyarrow
    import pyarrow.parquet

    table = pyarrow.Table.from_pandas(raw)
    sealed = json.dumps(_sealed(raw, facts))
    table = table.replace_schema_metadata({**(table.schema.metadata or {}), b"backgrid": sealed.encode()})
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".tmp", delete=False) as file:
            temporary = file.name
            pyarrow.parquet.write_table(table, file, compression="zstd")
        os.replace(temporary, path)
    except OSError as error:
        if temporary:
            Path(temporary).unlink(missing_ok=True)
        raise BackgridError(f"cannot write {path.parent}: {error}. Free space, or set BACKGRID_CACHE.") from error


def _read_bars(path: Path, fact: str, wanted: str) -> tuple[pd.DataFrame, dict] | None:
    """Bars and facts of a file, or None after moving aside one that is damaged or belongs elsewhere."""
    import pyarrow
    import pyarrow.parquet

    try:
        content = path.read_bytes()  # at once: another process may put a new file in its place
        table = pyarrow.parquet.read_table(pyarrow.BufferReader(content))
        sealed = json.loads(table.schema.metadata[b"backgrid"])
        raw = table.to_pandas()
        facts = {name: value for name, value in sealed.items() if name not in ("content", "checksum")}
        if _sealed(raw, facts) == sealed and sealed[fact] == wanted:
            return raw, sealed
    except (FileNotFoundError, NotADirectoryError):
        return None
    except Exception as error:  # a damaged file can make pyarrow raise anything
        log.debug("%s cannot be read: %s", path, error)
    _move_aside(path)
    return None


def _move_aside(path: Path) -> None:
    aside = _folder("quarantine") / f"{path.name}.{time.time_ns()}"
    try:
        aside.parent.mkdir(parents=True, exist_ok=True)
        os.replace(path, aside)
        log.warning("%s is damaged: moved aside to %s", path, aside)
    except FileNotFoundError:  # another process was quicker
        pass
    except OSError as error:
        raise BackgridError(f"{path} is damaged and cannot be moved aside: {error}. Remove it by hand.") from error


def _sealed(raw: pd.DataFrame, facts: dict) -> dict:
    body = {**facts, "content": hash_bars(raw)}
    return {**body, "checksum": hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()}
