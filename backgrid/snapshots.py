"""The snapshots and cached ranges on disk: what there is, how two snapshots differ, what is damaged, what may go.

A report says in its provenance.json which snapshots it was made from; nothing is removed before every report has said.
"""

import datetime as dt
import json
import os
import re
import shutil
import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from backgrid.bars import bar_text, check_symbol
from backgrid.cache import (
    HASH,
    LEFT_SECONDS,
    KeptFile,
    cache_folder,
    list_entries,
    list_snapshots,
    load_snapshot,
    noted_in,
    noted_reports,
    read_entry,
)
from backgrid.errors import BackgridError, ParameterError, shown
from backgrid.revisions import HASH_SHOWN, Revision, compare_bars
from backgrid.settings import setting

GRACE_SECONDS = 86_400  # a report that is being made has not said yet what it needs
NAMED = 10  # candidates that a message lists
USERS = 3  # reports that a row names
WRITING = ".run-"  # begins the name of a folder in which a report is being written

Users = Mapping[str, list[str]]


# ---- what there is ---------------------------------------------------------------------------------------------------


def list_files(symbol: str | None, users: Users) -> tuple[list[str], int]:
    """Lines of a table of snapshots and one of cached ranges, and the number of files that cannot be read.

    No line where nothing is kept at all.

    `symbol` is whose to list, None for all; `users` the reports of each hash, as `read_users` gives them.
    """
    wanted = None if symbol is None else check_symbol(symbol)
    snapshots, entries = list_snapshots(), list_entries()
    unreadable = {*_files("snapshots", "prices")} - {file.path for file in (*snapshots, *entries)}
    kept = text_table(
        ("snapshot", *HEADS, "kept (UTC)", "used by"),
        [
            (file.path.stem[:HASH_SHOWN], *_columns(file), _some(users.get(file.path.stem, [])))
            for file in sorted(snapshots, key=_order)
            if wanted in (None, file.symbol)
        ],
        right=NUMBERS,
    )
    fetched = text_table(
        ("cached range", *HEADS, "fetched (UTC)"),
        [
            (file.path.stem.rsplit("_", 1)[-1][:HASH_SHOWN], *_columns(file))
            for file in sorted(entries, key=_order)
            if wanted in (None, file.symbol)
        ],
        right=NUMBERS,
    )
    none = [f"nothing is kept of {wanted}; backgrid fetch {wanted} fetches and keeps its prices"]
    lines = [*kept, *[""] * bool(kept and fetched), *fetched]
    return lines or (none if snapshots or entries else []), len(unreadable)


NUMBERS = ("bars", "kB")
HEADS = ("symbol", "interval", "first bar", "last bar", *NUMBERS)


def text_table(heads: tuple[str, ...], rows: list[tuple[str, ...]], right: Collection[str]) -> list[str]:
    """Columns under their heads, those named in `right` to the right; nothing where there is no row."""
    widths = [max(map(len, column)) for column in zip(heads, *rows, strict=True)]
    aligned = [">" if head in right else "<" for head in heads]
    lines = [
        "  ".join(f"{text:{side}{width}}" for text, side, width in zip(row, aligned, widths, strict=True)).rstrip()
        for row in (heads, *rows)
    ]
    return lines if rows else []


def _order(file: KeptFile) -> tuple[str, str, float]:
    return file.symbol, file.interval, file.when


def _columns(file: KeptFile) -> tuple[str, ...]:
    index = pd.DatetimeIndex([file.first, file.last])
    when = dt.datetime.fromtimestamp(file.when, dt.UTC)
    bars = bar_text(index, 0), bar_text(index, 1), f"{file.bars:,}"
    return file.symbol or "-", file.interval or "-", *bars, f"{file.size / 1000:,.1f}", f"{when:%Y-%m-%d %H:%M}"


def _some(names: list[str]) -> str:
    more = f" and {len(names) - USERS:,} more" if len(names) > USERS else ""
    return ", ".join(names[:USERS]) + more if names else "-"


def _files(*folders: str) -> list[Path]:
    """What bears the name of a Parquet file in these folders of the cache."""
    return [path for folder in folders for path in sorted(cache_folder(folder).glob("*.parquet"))]


# ---- how two differ --------------------------------------------------------------------------------------------------


def find_snapshot(prefix: str) -> str:
    """The hash that begins with these digits.

    Raises
    ------
    ParameterError
        If none does, or several do; it names them.
    """
    if not re.fullmatch(r"[0-9a-f]{1,64}", prefix.lower()):
        raise ParameterError(
            f"{shown(prefix)} is no hash of a snapshot: give its first digits, as backgrid data ls shows"
        )
    found = [
        path.stem for path in _files("snapshots") if path.stem.startswith(prefix.lower()) and HASH.fullmatch(path.stem)
    ]
    if len(found) == 1:
        return found[0]
    if not found:
        raise ParameterError(f"no snapshot begins with {prefix}: backgrid data ls lists those there are")
    several = ", ".join(hashed[:HASH_SHOWN] for hashed in found[:NAMED]) + ", ..." * (len(found) > NAMED)
    raise ParameterError(f"{len(found):,} snapshots begin with {prefix}: {several}; give more digits")


def last_two(symbol: str) -> tuple[str, str]:
    """The hashes of the last snapshot of a symbol, and of the last one before it of the same interval and time.

    Raises
    ------
    ParameterError
        If there are no such two.
    """
    symbol = check_symbol(symbol)
    files = sorted((file for file in list_snapshots() if file.symbol == symbol), key=lambda file: file.when)
    if not files:
        raise ParameterError(f"there is no snapshot of {symbol}: backgrid fetch {symbol} makes one")
    *others, last = files
    for other in reversed(others):
        alike = other.interval == last.interval and (other.first.tz is None) == (last.first.tz is None)
        if alike and other.first <= last.last and last.first <= other.last:
            return other.path.stem, last.path.stem
    raise ParameterError(f"only one snapshot of {symbol} {last.interval} holds these bars: nothing to compare")


def diff_snapshots(old: str, new: str) -> Revision:
    """How the bars of one snapshot differ from those of another, both given by their whole hash.

    Raises
    ------
    ParameterError
        If one is damaged, or they are of two symbols or intervals.
    """
    bars, of = [], []
    for hashed in (old, new):
        kept = load_snapshot(hashed)
        if kept is None:
            raise ParameterError(
                f"snapshot {hashed[:HASH_SHOWN]} was damaged and is now in {cache_folder('quarantine')}"
            )
        bars.append(kept[0])
        of.append(f"{kept[1]['symbol']} {kept[1]['interval']}")
    if of[0] != of[1]:
        raise ParameterError(f"one snapshot is of {of[0]}, the other of {of[1]}: choose two of one symbol and interval")
    return compare_bars(*bars)


# ---- what is damaged -------------------------------------------------------------------------------------------------


class Verified(NamedTuple):
    """What was found when every file was read.

    Attributes
    ----------
    intact : int
        Number of files whose numbers are those that were kept.
    damaged : list of (Path, str)
        The others and what became of them.
    """

    intact: int
    damaged: list[tuple[Path, str]]


def verify_files(users: Users) -> Verified:
    """Read every snapshot and every cached range; what is damaged is moved aside, as on any other reading."""
    intact, damaged = 0, []
    for path in _files("snapshots", "prices"):
        is_snapshot = path.parent == cache_folder("snapshots")
        if is_snapshot and not HASH.fullmatch(path.stem):
            damaged.append((path, "is not named by a hash and was left where it is"))
            continue
        try:
            found = load_snapshot(path.stem) if is_snapshot else read_entry(path)
        except BackgridError as error:
            damaged.append((path, str(error)))
            continue
        if found:
            intact += 1
        elif any(aside.name.startswith(f"{path.name}.") for aside in _quarantined()):  # else it was evicted meanwhile
            needed = users.get(path.stem, []) if is_snapshot else []
            lost = f"; reports that need it: {_some(needed)}" if needed else ""
            damaged.append((path, f"is damaged and was moved to {cache_folder('quarantine')}{lost}"))
    return Verified(intact, damaged)


# ---- what may go -----------------------------------------------------------------------------------------------------


class Freed(NamedTuple):
    """What was removed, or would be.

    Attributes
    ----------
    snapshots, temporary, quarantined : list of Path
        Files that went.
    size : int
        Theirs together. [bytes]
    used, young : int
        Snapshots that stayed because a report uses them, or because they were asked for within a day.
    """

    snapshots: list[Path]
    temporary: list[Path]
    quarantined: list[Path]
    size: int
    used: int
    young: int


def collect_garbage(reports: Iterable[str | Path], *, dry_run: bool = False) -> Freed:
    """Remove the snapshots that no report uses, stale temporary files and what was moved aside as damaged.

    Parameters
    ----------
    reports : iterable of path
        Every folder that holds reports made with this cache.
    dry_run : bool, default False
        Remove nothing.

    Returns
    -------
    Freed

    Raises
    ------
    ParameterError
        If one of the folders is not there, or holds a report that does not say what it uses; nothing is removed then.
    BackgridError
        If a file cannot be removed.
    """
    users = read_users(reports)
    snapshots = [path for path in _files("snapshots") if HASH.fullmatch(path.stem) and path.is_file()]
    used = [path for path in snapshots if path.stem in users]
    old = [path for path in snapshots if path.stem not in users and _age(path) > GRACE_SECONDS]
    temporary = [path for folder in ("snapshots", "prices") for path in sorted(cache_folder(folder).glob("*.tmp"))]
    temporary = [path for path in temporary if _age(path) > LEFT_SECONDS]
    lost = users.keys() - {path.stem for path in used}  # its remains are all there is
    aside = [path for path in _quarantined() if path.name.split(".")[0] not in lost]
    size = sum(_size(path) for path in (*old, *temporary, *aside))
    if not dry_run:
        for path in (*old, *temporary, *aside):
            _remove(path)
    return Freed(old, temporary, aside, size, len(used), len(snapshots) - len(used) - len(old))


def report_folders(given: Iterable[str]) -> list[Path]:
    """The folders given, or the one that reports are written to; and all others that some were written to."""
    asked = [Path(folder) for folder in given] or [Path(setting("BACKGRID_REPORTS"))]
    known = {folder.resolve() for folder in asked}
    return asked + [folder for folder in noted_reports() if folder not in known]


def read_users(folders: Iterable[str | Path]) -> dict[str, list[str]]:
    """Names of the reports that use each hash.

    Raises
    ------
    ParameterError
        If a folder is not there, or holds a report that does not say what it uses.
    """
    users: dict[str, list[str]] = {}
    for folder in map(Path, folders):
        if not folder.is_dir():
            raise ParameterError(
                f"there is no folder of reports {folder}, and without it what they use seems unused: name the folders "
                f"that hold reports by --reports, once for each; if these are gone, take it out of {noted_in()}"
            )
        for report in _reports(folder):
            name = report.relative_to(folder).as_posix() if report != folder else folder.name
            for hashed in _used_by(report, folder):
                users.setdefault(hashed, []).append(name)
    return users


def _reports(folder: Path) -> Iterator[Path]:
    """Every folder below that holds a report, through links too."""
    been = set()
    for path, inner, files in os.walk(folder, onerror=_unreadable_folder, followlinks=True):
        if (real := os.path.realpath(path)) in been:  # links may make a circle
            inner.clear()
            continue
        been.add(real)
        inner.sort()
        if "provenance.json" in (*files, *inner):
            yield Path(path)
        elif "report.html" in files and not _is_being_written(Path(path), folder):
            raise ParameterError(
                f"{Path(path) / 'report.html'} lies there without its provenance.json, and so does not say which "
                "prices it needs: put that file back beside it, or move the page out of the folders of reports"
            )


def _unreadable_folder(error: OSError) -> None:
    raise ParameterError(
        f"cannot look for reports in {error.filename}: {error.strerror}; mend its permissions"
    ) from error


def _is_being_written(report: Path, folder: Path) -> bool:
    return any(part.startswith(WRITING) for part in report.relative_to(folder).parts)


def _used_by(report: Path, folder: Path) -> list[str]:
    """Every hash in the provenance of a report; of one that is being written, none."""
    path = report / "provenance.json"
    try:
        text = path.read_text(encoding="utf-8")
        said = json.loads(text)
        if not isinstance(said, dict) or "snapshot" not in said:
            raise ValueError("it names no snapshot")
        return sorted(set(re.findall(r'"([0-9a-f]{64})"', text)))
    except (OSError, ValueError, RecursionError) as error:
        if _is_being_written(report, folder):
            return []
        raise ParameterError(
            f"{path} does not say what the report needs ({error}): run that report again, or remove its folder"
        ) from error


def _quarantined() -> list[Path]:
    return sorted(cache_folder("quarantine").glob("*"))


def _age(path: Path) -> float:
    """Time since it was written or asked for [seconds]; 0 for a file that has gone."""
    try:
        return time.time() - path.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def _size(path: Path) -> int:
    files = [path] if path.is_file() else [inner for inner in path.rglob("*") if inner.is_file()]
    return sum(file.stat().st_size for file in files)


def _remove(path: Path) -> None:
    try:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    except OSError as error:
        raise BackgridError(f"cannot remove {path}: {error}. Remove it by hand.") from error
