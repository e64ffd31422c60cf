"""Bars on disk: a cache of fetched ranges, and snapshots kept under the hash of their content.

A file is replaced at once, so that any number of processes may read and write it, and carries a checksum of every
number in it (a flipped byte in a Parquet file mostly reads back as another price). A damaged file is moved aside.

What is downloaded anew replaces what was there; nothing of both is merged, and a note says which bars are other.
"""

import contextlib
import datetime as dt
import functools
import hashlib
import json
import logging
import os
import re
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import pandas as pd

from backgrid.bars import PRICE_COLUMNS, hash_bars
from backgrid.errors import BackgridError
from backgrid.revisions import compare_bars, revision_note
from backgrid.settings import setting

log = logging.getLogger("backgrid")

NOTED = "reports.txt"  # folders of reports
CACHED_SYMBOLS = 100
LEFT_SECONDS = 3600  # after which a temporary file is nobody's
UNFINISHED_SECONDS = 3600  # how long a range is good for that was not over when it was fetched
CUT_BARS = ("5d", "1wk", "1mo", "3mo")  # a range cuts its first and last one: those of other ranges are not the same
HASH = re.compile(r"[0-9a-f]{64}")


class KeptFile(NamedTuple):
    """What the footer of a file says, which is not checked against its numbers.

    Attributes
    ----------
    path : Path
    symbol, interval : str
        Whose bars they are.
    facts : dict
        What it was sealed with, such as notes and times.
    first, last : Timestamp
        Labels of its first and last bar.
    bars, size : int
        Number of bars; size of the file. [bars; bytes]
    when : float
        When it was kept or fetched. [seconds since 1970]
    """

    path: Path
    symbol: str
    interval: str
    facts: dict[str, Any]
    first: pd.Timestamp
    last: pd.Timestamp
    bars: int
    size: int
    when: float


def cached_bars(
    symbol: str,
    first: dt.date | None,
    last: dt.date | None,
    interval: str,
    download: Callable[..., tuple[pd.DataFrame, list[str]]],
) -> tuple[pd.DataFrame, list[str]]:
    """Bars and notes of a range from the cache, or from `download` and then into the cache.

    One of the notes says which bars are not what they were when they were downloaded before, if any.

    Raises
    ------
    BackgridError
        If the cache folder cannot be written; errors of `download` pass through and leave the cache as it was.
    """
    path, key = _entry_of(symbol, first, last, interval)
    kept = read_entry(path)
    if kept and _still_good(last, kept[1]["fetched"]):
        with contextlib.suppress(FileNotFoundError):  # another process has evicted it meanwhile
            os.utime(path)  # what was used last is evicted last
        return kept[0], [*kept[1]["notes"], *kept[1].get("changes", [])]
    fetched = time.time()
    raw, notes = download(symbol, first, last, interval)
    changes = _changes(symbol, interval, raw, path, kept)
    _write_bars(path, raw, {"key": key, "fetched": fetched, "notes": notes, "changes": changes})
    keep_snapshot(raw, symbol, interval, changes=changes)  # whatever becomes of the entry, it can be compared with
    _evict(path.parent)
    return raw, [*notes, *changes]


def mark_entry(symbol: str, first: dt.date | None, last: dt.date | None, interval: str) -> str | None:
    """SHA-256 of what is in the cache for a range, as used now; None where there is nothing, or no longer any good."""
    import pyarrow.parquet

    path, _ = _entry_of(symbol, first, last, interval)
    try:
        content = path.read_bytes()
        footer = pyarrow.parquet.read_metadata(pyarrow.BufferReader(content)).metadata
        if not _still_good(last, json.loads(footer[b"backgrid"])["fetched"]):
            return None
        os.utime(path)
    except Exception as error:  # as in _read_bars, which then says what is wrong
        log.debug("%s cannot be read: %s", path, error)
        return None
    return hashlib.sha256(content).hexdigest()


def _entry_of(symbol: str, first: dt.date | None, last: dt.date | None, interval: str) -> tuple[Path, str]:
    """File and key of a range."""
    key = hashlib.sha256(f"{symbol}|{interval}|{first}|{last}".encode()).hexdigest()[:16]
    return cache_folder("prices") / f"{symbol}_{interval}_{key}.parquet", key


def keep_snapshot(raw: pd.DataFrame, symbol: str = "", interval: str = "", *, changes: list[str] | None = None) -> str:
    """Keep raw bars under the SHA-256 of their numbers, never to be rewritten, and return it.

    `changes` is what a download had to say of bars seen before; None for bars that were not downloaded. The file's
    time is that of the last request for it.
    """
    snapshot = hash_bars(raw)
    path = cache_folder("snapshots") / f"{snapshot}.parquet"
    if path.is_file():
        with contextlib.suppress(OSError):  # removed meanwhile, or a folder that may only be read
            os.utime(path)
    if not path.is_file():
        facts = {"symbol": symbol, "interval": interval, "kept": time.time()}
        _write_bars(path, raw, facts if changes is None else {**facts, "changes": changes})
    return snapshot


def load_snapshot(snapshot: str) -> tuple[pd.DataFrame, dict] | None:
    """Raw bars kept under this hash, and of what; None if there are none, or they are no longer what was kept."""
    if not HASH.fullmatch(snapshot):
        return None
    return _read_bars(cache_folder("snapshots") / f"{snapshot}.parquet", "content", snapshot)


def read_entry(path: Path) -> tuple[pd.DataFrame, dict] | None:
    """Bars and facts of a cached range, or None after moving aside one that is damaged."""
    return _read_bars(path, "key", path.stem.rsplit("_", 1)[-1])


def list_entries(symbol: str = "*", interval: str = "*") -> list[KeptFile]:
    """The cached ranges, those of which the footer can be read, by name."""
    found = (read_footer(path) for path in sorted(cache_folder("prices").glob(f"{symbol}_{interval}_*.parquet")))
    return [file for file in found if file]


def list_snapshots() -> list[KeptFile]:
    """The snapshots of which the footer can be read, by hash."""
    found = (read_footer(path) for path in sorted(cache_folder("snapshots").glob("*.parquet")))
    return [file for file in found if file and HASH.fullmatch(file.path.stem)]


def read_footer(path: Path) -> KeptFile | None:
    """What a file says of itself, in a twentieth of the time of reading it; None where even that cannot be read."""
    import pyarrow.parquet

    try:
        footer, status = pyarrow.parquet.read_metadata(path), path.stat()
        facts = json.loads(footer.metadata[b"backgrid"])
        groups = [footer.row_group(at).column(footer.num_columns - 1) for at in range(footer.num_row_groups)]
        labels = [pd.Timestamp(label) for group in groups for label in (group.statistics.min, group.statistics.max)]
        zone = footer.schema.to_arrow_schema()[-1].type.tz
        first, last = (label.tz_convert(zone) if zone else label for label in (min(labels), max(labels)))
        symbol, interval = path.stem.split("_")[:2] if "key" in facts else (facts["symbol"], facts["interval"])
        when = facts.get("kept") or facts.get("fetched") or status.st_mtime
        return KeptFile(path, symbol, interval, facts, first, last, footer.num_rows, status.st_size, when)
    except Exception as error:  # as in _read_bars
        log.debug("the footer of %s cannot be read: %s", path, error)
        return None


# ---- what has changed ------------------------------------------------------------------------------------------------


def _changes(
    symbol: str, interval: str, raw: pd.DataFrame, path: Path, kept: tuple[pd.DataFrame, dict] | None
) -> list[str]:
    """Notes on bars that are not what they were, each bar compared with what was downloaded last of its time.

    The same bars again have the notes they had, so that a page on them stays the same.
    """
    if not _in_order(raw):
        return []
    content, rest, notes = hash_bars(raw), raw, []
    compared: list[tuple[pd.Timestamp, pd.Timestamp]] = []  # spans of time, ends included
    for earlier in (_earlier_entries, _earlier_snapshots):
        if compared and not rest.index.min() <= max(high for _, high in compared):
            break  # nothing is left, or new bars: no need to look through every snapshot
        for first, last, read in earlier(symbol, interval, path, kept):
            if rest.empty or (first.tz is None) != (raw.index.tz is None):
                continue
            if first > rest.index[-1] or last < rest.index[0]:
                continue
            if (found := read()) is None or not _in_order(found[0]):
                continue
            old, facts = _without_incomplete_bar(found[0]), found[1]
            if facts["content"] == content and not compared:
                return facts.get("changes", [])
            low, high = max(old.index[0], rest.index[0]), min(old.index[-1], rest.index[-1])
            revision = compare_bars(_outside(old.loc[low:high], compared), rest.loc[low:high])
            if not revision.same:
                before = keep_snapshot(found[0], symbol, interval, changes=facts.get("changes", []))
                notes.append(revision_note(revision, before, content))
            compared.append((low, high))
            rest = _outside(rest, compared)
    return notes


Earlier: TypeAlias = Iterator[tuple[pd.Timestamp, pd.Timestamp, Callable[[], tuple[pd.DataFrame, dict] | None]]]


def _earlier_entries(symbol: str, interval: str, path: Path, kept: tuple[pd.DataFrame, dict] | None) -> Earlier:
    """First bar, last bar and reader of each cached range of a symbol: the one of this request, then the newest."""
    if kept and len(kept[0]):
        yield kept[0].index[0], kept[0].index[-1], lambda: kept
    if interval not in CUT_BARS:
        others = [file for file in list_entries(symbol, interval) if file.path != path]
        for file in sorted(others, key=lambda file: file.when, reverse=True):
            yield file.first, file.last, functools.partial(read_entry, file.path)


def _earlier_snapshots(symbol: str, interval: str, *_: Any) -> Earlier:
    """As `_earlier_entries`, of downloads whose cached range is gone."""
    if interval not in CUT_BARS:
        downloaded = [file for file in list_snapshots() if "changes" in file.facts]
        wanted = [file for file in downloaded if (file.symbol, file.interval) == (symbol, interval)]
        for file in sorted(wanted, key=lambda file: file.when, reverse=True):
            yield file.first, file.last, functools.partial(load_snapshot, file.path.stem)


def _in_order(raw: pd.DataFrame) -> bool:
    """Whether there are bars, each after the one before; validation refuses others."""
    return len(raw) > 0 and raw.index.is_unique and raw.index.is_monotonic_increasing


def _outside(bars: pd.DataFrame, spans: list[tuple[pd.Timestamp, pd.Timestamp]]) -> pd.DataFrame:
    for low, high in spans:
        bars = bars[(bars.index < low) | (bars.index > high)]
    return bars


def _without_incomplete_bar(raw: pd.DataFrame) -> pd.DataFrame:
    """A last bar that had no prices yet was never used."""
    columns = [name for name in PRICE_COLUMNS if name in raw]
    return raw.iloc[:-1] if len(raw) > 1 and raw[columns].iloc[-1].isna().any() else raw


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


def note_reports(folder: Path) -> None:
    """Note a folder of reports, for whoever removes what none uses: prices are the user's, reports a project's."""
    place = str(folder.resolve())
    if place.startswith(os.path.realpath(tempfile.gettempdir()) + os.sep):
        return  # which nobody keeps
    with contextlib.suppress(OSError):  # the report has its prices all the same
        if place not in _noted():
            cache_folder("").mkdir(parents=True, exist_ok=True)
            with noted_in().open("a", encoding="utf-8") as file:
                file.write(f"{place}\n")


def noted_reports() -> list[Path]:
    """Folders that reports were written to."""
    return [Path(place) for place in dict.fromkeys(_noted())]


def noted_in() -> Path:
    """The file of these."""
    return cache_folder("") / NOTED


def _noted() -> list[str]:
    try:
        return noted_in().read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return []


def cache_folder(name: str) -> Path:
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
    except (FileNotFoundError, NotADirectoryError):
        return None
    except IsADirectoryError:
        _move_aside(path)
        return None
    except OSError as error:  # too many open files, say: no reason to doubt what it holds
        raise BackgridError(f"cannot read {path}: {error}. Try again, or set BACKGRID_CACHE.") from error
    try:
        table = pyarrow.parquet.read_table(pyarrow.BufferReader(content))
        sealed = json.loads(table.schema.metadata[b"backgrid"])
        raw = table.to_pandas()
        facts = {name: value for name, value in sealed.items() if name not in ("content", "checksum")}
        if _sealed(raw, facts) == sealed and sealed[fact] == wanted:
            return raw, sealed
    except MemoryError:
        raise
    except Exception as error:  # a damaged file can make pyarrow raise anything
        log.debug("%s cannot be read: %s", path, error)
    _move_aside(path)
    return None


def _move_aside(path: Path) -> None:
    aside = cache_folder("quarantine") / f"{path.name}.{time.time_ns()}"
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
