"""What a source says now of bars that it gave before: which bars are other, gone or new, which columns were rescaled.

Each dividend rescales all adjusted closes before it, and each split all prices: such a stretch is one line here, not a
thousand changed bars.
"""

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pandas as pd

from backgrid.bars import bar_text
from backgrid.errors import counted

SAME_FACTOR = 1e-5  # by which new / old may vary within a rescaled stretch: sources round their numbers
LEAST_FACTOR = 1e-4  # a stretch that was changed by less is noise
LEAST_CELLS = 5  # of a stretch: fewer cells are listed one by one
LISTED = 10  # bars, cells or stretches that are named
LEAST_PERCENT = 0.001  # a smaller relative change is not told more exactly
HASH_SHOWN = 12  # hexadecimal digits of a snapshot


class Rescaled(NamedTuple):
    """Columns that were multiplied by one factor over a stretch of bars."""

    columns: tuple[str, ...]
    where: str
    factor: float

    def __str__(self) -> str:
        return f"{', '.join(self.columns)} {self.where} times {self.factor:.6g}"


class Revision(NamedTuple):
    """How new bars differ from old ones.

    Attributes
    ----------
    gone, added : DatetimeIndex
        Bars that only the old ones have, or only the new ones.
    columns : tuple of two lists of str
        Columns that only the old bars have, or only the new ones.
    changed : int
        Bars that both have with other numbers. [bars]
    rescaled : list of Rescaled
        What happened to whole stretches of them.
    cells : DataFrame
        Every other changed number: columns bar, column, old, new; sorted by bar, then in the order of the columns.
    """

    gone: pd.DatetimeIndex
    added: pd.DatetimeIndex
    columns: tuple[list[str], list[str]]
    changed: int
    rescaled: list[Rescaled]
    cells: pd.DataFrame

    @property
    def same(self) -> bool:
        """Whether nothing differs."""
        return not (len(self.gone) or len(self.added) or any(self.columns) or self.changed)


def compare_bars(old: pd.DataFrame, new: pd.DataFrame) -> Revision:
    """How new bars differ from old ones; two missing numbers are the same, and so are 0.0 and -0.0.

    Parameters
    ----------
    old, new : DataFrame
        Raw bars of one symbol and interval: numbers, on a sorted, unique DatetimeIndex.

    Returns
    -------
    Revision
    """
    at_old, at_new = _common_bars(old.index, new.index)
    common = old.index[at_old]
    names = [name for name in old.columns if name in new.columns]
    before = old[names].to_numpy(dtype=float)[at_old]
    after = new[names].to_numpy(dtype=float)[at_new]
    differs = (before != after) & ~(np.isnan(before) & np.isnan(after))
    listed = differs.copy()
    found: dict[tuple[str, str], Rescaled] = {}
    for column, name in enumerate(names):
        for first, last, factor, where in _stretches(before[:, column], after[:, column], differs[:, column], common):
            listed[first : last + 1, column] = False
            key = where, f"{factor:.4g}"
            together = found.get(key, Rescaled((), where, factor))  # a split rescales several columns alike
            found[key] = together._replace(columns=(*together.columns, name))
    rows, columns = np.nonzero(listed)
    cells = {"bar": common[rows], "column": [names[column] for column in columns]}
    return Revision(
        gone=old.index.delete(at_old),
        added=new.index.delete(at_new),
        columns=([name for name in old if name not in names], [name for name in new if name not in names]),
        changed=int(differs.any(axis=1).sum()),
        rescaled=list(found.values()),
        cells=pd.DataFrame({**cells, "old": before[rows, columns], "new": after[rows, columns]}),
    )


def describe_revision(revision: Revision, old: str, new: str) -> list[str]:
    """Lines that say how `new` differs from `old`, their names; ten of a kind are listed, the rest is counted."""
    lines = []
    for name, index, columns in ((old, revision.gone, revision.columns[0]), (new, revision.added, revision.columns[1])):
        if len(index):
            lines.append(f"{counted(len(index), 'bar')} only in {name}: {_dates(index)}")
        lines += [f"column {column} only in {name}" for column in columns]
    if revision.changed:
        lines.append(f"{counted(revision.changed, 'bar')} changed")
    cells = [_cell_text(revision.cells, at) for at in range(min(len(revision.cells), LISTED))]
    stretches = [str(stretch) for stretch in revision.rescaled[:LISTED]]
    return [
        *lines,
        *_listed(stretches, len(revision.rescaled), "rescaling", ""),
        *_listed(cells, len(revision.cells), "changed number", _by_at_most(revision.cells)),
    ]


def revision_note(revision: Revision, old: str, new: str) -> str:
    """One sentence on a changed history that names its snapshots, `old` and `new`; it holds no clock, for pages."""
    old, new = old[:HASH_SHOWN], new[:HASH_SHOWN]
    return f"{revision_text(revision, f' since snapshot {old}')} (backgrid data diff {old} {new})"


def revision_text(revision: Revision, since: str = "") -> str:
    """What is changed, gone and added, counted, and the first of each; `since` follows what is counted."""
    bars = (("changed", revision.changed), ("gone", len(revision.gone)), ("added", len(revision.added)))
    told = [f"{counted(number, 'bar')} {how}" for how, number in bars if number]
    for how, columns in zip(("gone", "added"), revision.columns, strict=True):
        told += [f"column {column} {how}" for column in columns]
    details = [str(stretch) for stretch in revision.rescaled[:2]]
    if len(revision.cells):
        details.append(f"first {_cell_text(revision.cells, 0)}{_by_at_most(revision.cells)}")
    if len(revision.gone):
        details.append(f"first gone {bar_text(revision.gone, 0)}")
    if len(revision.added):
        details.append(f"first added {bar_text(revision.added, 0)}")
    detailed = f": {'; '.join(details)}" if details else ""
    return f"{', '.join(told)}{since}{detailed}"


def _common_bars(old: pd.DatetimeIndex, new: pd.DatetimeIndex) -> tuple[np.ndarray, np.ndarray]:
    """Places of the common bars in both; there are none where only one has a time zone."""
    if (old.tz is None) != (new.tz is None):
        return np.empty(0, dtype=int), np.empty(0, dtype=int)
    _, at_old, at_new = np.intersect1d(
        old.as_unit("ns").asi8, new.as_unit("ns").asi8, assume_unique=True, return_indices=True
    )
    return at_old, at_new


def _stretches(
    before: np.ndarray, after: np.ndarray, differs: np.ndarray, index: pd.DatetimeIndex
) -> Iterator[tuple[int, int, float, str]]:
    """First and last bar of each stretch of a column that was multiplied by one factor, the factor, and where it is.

    A number that is missing or 0 in both fits any factor, as dividends are on most days.
    """
    at = np.flatnonzero((before > 0.0) & (after > 0.0) & np.isfinite(before) & np.isfinite(after))
    logs = np.log(after[at]) - np.log(before[at])
    edges = np.flatnonzero(np.abs(np.diff(logs)) > SAME_FACTOR) + 1
    spans = np.array([np.concatenate([[0], edges]), np.concatenate([edges, [at.size]])])
    for start, stop in spans[:, np.diff(spans, axis=0)[0] >= LEAST_CELLS].T:
        centre = float(np.median(logs[start:stop]))
        if abs(centre) < LEAST_FACTOR or np.abs(logs[start:stop] - centre).max() > SAME_FACTOR:
            continue
        first, last = int(at[start]), int(at[stop - 1])
        if differs[first : last + 1].sum() == stop - start:  # else a number came or went within it
            yield first, last, float(np.exp(centre)), _where(index, at, start, stop)


def _where(index: pd.DatetimeIndex, at: np.ndarray, start: int, stop: int) -> str:
    """Which bars of the column a stretch covers."""
    if start == 0 and stop == at.size:
        return "of all common bars"
    if start == 0:
        return f"before {bar_text(index, int(at[stop]))}"
    first, last = bar_text(index, int(at[start])), bar_text(index, int(at[stop - 1]))
    return f"from {first} on" if stop == at.size else f"from {first} to {last}"


def _dates(index: pd.DatetimeIndex) -> str:
    """All bars, or the first of many and the last."""
    dates = [bar_text(index, at) for at in range(min(len(index), LISTED))]
    return ", ".join(dates if len(index) <= LISTED else [*dates[:-1], "...", bar_text(index, len(index) - 1)])


def _cell_text(cells: pd.DataFrame, at: int) -> str:
    old, new = float(cells["old"].iloc[at]), float(cells["new"].iloc[at])
    short = f"{old:.10g}", f"{new:.10g}"
    before, after = short if short[0] != short[1] else (repr(old), repr(new))
    return f"{bar_text(pd.DatetimeIndex(cells['bar']), at)} {cells['column'].iloc[at]} {before} -> {after}"


def _by_at_most(cells: pd.DataFrame) -> str:
    """The largest relative change, where an old number is neither missing nor 0."""
    old, new = cells["old"].to_numpy(), cells["new"].to_numpy()
    both = np.isfinite(old) & np.isfinite(new) & (old != 0.0)
    if not both.any():
        return ""
    percent = 100.0 * float(np.abs(new[both] / old[both] - 1.0).max())
    if percent < LEAST_PERCENT:
        return f", by less than {LEAST_PERCENT} %"
    step = 10.0 ** min(math.floor(math.log10(percent)) - 1, 0)  # two digits, rounded up
    percent = math.ceil(percent / step - SAME_FACTOR) * step
    return f", by at most {percent:.2g} %" if percent < 10.0 else f", by at most {percent:,.0f} %"


def _listed(lines: list[str], number: int, what: str, by: str) -> list[str]:
    """The first lines of so many, indented below a head that counts them all."""
    more = [f"  and {number - len(lines):,} more"] if number > len(lines) else []
    return [f"{counted(number, what)}{by}:", *(f"  {line}" for line in lines), *more] if number else []
