"""Windows of bars: how they follow each other, and what the returns in each come to, of many trials at once.

Of each trial the returns between two edges of windows are added up once, in a binary tree, and a window joins the few
nodes that cover it: time grows with the bars and, slowly, with the windows.
"""

import itertools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from backgrid._kernels import compiled
from backgrid._sweep import Account
from backgrid.errors import ParameterError, PricesError, did_you_mean, shown
from backgrid.metrics import LARGEST_RATIO, ROUNDING

MOST_SPLITS = 1_000  # 12 blocks, 6 of them tested, are 924
N_SUMS = 12
N, MEAN, SQUARE, LOW, HIGH, GAINED, LOST, SQUARE_LOST, GROWTH, PEAK, TROUGH, DEEPEST = range(N_SUMS)

Runs = list[tuple[int, int]]  # stretches of bars: the first, and the one after the last


class Split(NamedTuple):
    """Bars for training and for testing."""

    train: Runs
    test: Runs


def cut_folds(n_bars: int, train: int, test: int, gap: int, anchored: bool, shorter_last: bool) -> list[Split]:
    """The folds of a walk-forward."""
    first = train + gap
    if first + (min(test, 2) if shorter_last else test) > n_bars:
        raise ParameterError(
            f"train {train:,} + gap {gap:,} + test {test:,} = {first + test:,} bars for one fold, and prices have "
            f"{n_bars:,}: shorten one of them"
        )
    starts = range(first, n_bars if shorter_last else n_bars - test + 1, test)
    if min(starts[-1] + test, n_bars) - first < 2:
        raise ParameterError("the test window has one bar, and a run needs two: give a longer test, or a shorter train")
    return [
        Split([(0 if anchored else start - first, start - gap)], [(start, min(start + test, n_bars))])
        for start in starts
    ]


def check_blocks(n_bars: int, n_blocks: Any, n_test: Any) -> tuple[int, int]:
    """Both as int, or ParameterError naming the one that is wrong."""

    def check(name: str, value: Any, least: int, most: int) -> int:
        if not isinstance(value, (int, np.integer)) or isinstance(value, bool) or not least <= value <= most:
            raise ParameterError(f"{name} must be a whole number, {least} to {most:,}, got {shown(value)}")
        return int(value)

    n_blocks = check("n_blocks", n_blocks, 2, n_bars // 2)
    n_test = check("n_test", n_test, 1, n_blocks - 1)
    n_splits = math.comb(n_blocks, n_test)
    if n_splits > MOST_SPLITS:
        raise ParameterError(
            f"{n_test} of {n_blocks} blocks are {n_splits:,} splits, {MOST_SPLITS:,} at most: give fewer"
        )
    return n_blocks, n_test


def purge(test: Runs, n_bars: int, gap: int) -> Split:
    """The bars that are neither tested nor within the gap of one that is."""
    free = np.ones(n_bars + 2, dtype=bool)
    free[[0, -1]] = False  # so that every run has both ends
    for start, stop in test:
        free[max(start - gap, 0) + 1 : stop + gap + 1] = False
    ends = np.flatnonzero(free[1:] != free[:-1]).reshape(-1, 2)
    if (ends[:, 1] - ends[:, 0]).sum() < 2:
        raise ParameterError(f"gap {gap:,} leaves fewer than two bars of {n_bars:,} for training: shorten it")
    return Split([(int(start), int(stop)) for start, stop in ends], test)


class Layout(NamedTuple):
    """How windows are put together from nodes of a binary tree, whose leaves are the stretches between two edges."""

    edges: np.ndarray  # int64[n_stretches + 1]  places in the returns
    n_leaves: int  # a power of two
    members: np.ndarray  # int64[n_members]  nodes, those of each window in order of time
    offsets: np.ndarray  # int64[n_windows + 1]  where the members of each window begin


def lay_out(windows: list[Runs], opened: int = 0) -> Layout:
    """The windows in terms of the returns of an account that was opened at a bar: the first is that of the next."""
    places = [[(max(start - opened - 1, 0), max(stop - opened - 1, 0)) for start, stop in runs] for runs in windows]
    edges = np.unique([place for runs in places for run in runs for place in run])
    n_leaves = 1 << max(edges.size - 2, 0).bit_length()
    at = {int(edge): leaf for leaf, edge in enumerate(edges)}
    members = [[node for start, stop in runs for node in _nodes(at[start], at[stop], n_leaves)] for runs in places]
    offsets = np.cumsum([0, *map(len, members)])
    return Layout(edges, n_leaves, np.array([*itertools.chain(*members)], dtype=np.int64), offsets)


def _nodes(first: int, stop: int, n_leaves: int) -> list[int]:
    """The fewest nodes of a binary tree (node k has 2 k and 2 k + 1) that cover these leaves, in order."""
    left: list[int] = []
    right: list[int] = []
    first, stop = first + n_leaves, stop + n_leaves
    while first < stop:
        if first % 2:
            left.append(first)
        if stop % 2:
            right.append(stop - 1)
        first, stop = (first + 1) // 2, stop // 2
    return left + right[::-1]


# ---- sums of windows -------------------------------------------------------------------------------------------------


def sum_windows(returns: np.ndarray, account: Account, layout: Layout) -> np.ndarray:
    """The sums of every window, float64[n_trials, n_windows, N_SUMS]."""
    sums = np.empty((len(returns), layout.offsets.size - 1, N_SUMS))
    _sums_of_windows(returns, account.cash_return, *layout, sums)
    if not np.isfinite(sums[..., MEAN]).all():
        raise PricesError("the account left the range of floats: prices or cash are too large or too small")
    return sums


@compiled
def _sums_of_windows(returns, cash, edges, n_leaves, members, offsets, sums):
    """Sums of each trial and window, in place.

    returns  float64[n_trials, n_bars]  simple                                  [fraction]
    cash     float                      return of cash of one bar               [fraction]
    edges, n_leaves, members, offsets   a Layout
    sums     float64[n_trials, n_windows, N_SUMS]  r a return, e = r - cash, v what 1 has become: number and
                                        mean of r; sum of (r - mean)^2; lowest and highest r; sum of max(e, 0), of
                                        max(-e, 0), of min(e, 0)^2; last, highest and lowest v, 1 included; deepest
                                        drawdown of v, at most 0
    """
    nodes = np.empty((2 * n_leaves, N_SUMS))
    for k in range(returns.shape[0]):
        for leaf in range(n_leaves):
            if leaf + 1 < edges.size:
                _add_up(returns[k, edges[leaf] : edges[leaf + 1]], cash, nodes[n_leaves + leaf])
            else:
                _add_up(returns[k, :0], cash, nodes[n_leaves + leaf])
        for node in range(n_leaves - 1, 0, -1):
            nodes[node] = nodes[2 * node]
            _join(nodes[node], nodes[2 * node + 1])
        for window in range(offsets.size - 1):
            _add_up(returns[k, :0], cash, sums[k, window])
            for member in members[offsets[window] : offsets[window + 1]]:
                _join(sums[k, window], nodes[member])


@compiled
def _add_up(returns, cash, sums):
    """The sums of some returns, in place."""
    total = gained = lost = square_lost = deepest = square = 0.0
    low, high, value, peak, trough = np.inf, -np.inf, 1.0, 1.0, 1.0
    for r in returns:
        total += r
        low, high = min(low, r), max(high, r)
        if r > cash:
            gained += r - cash
        else:
            lost += cash - r
            square_lost += (r - cash) * (r - cash)
        value *= 1.0 + r
        peak, trough = max(peak, value), min(trough, value)
        if value < peak:
            deepest = min(deepest, value / peak - 1.0)
    mean = total / returns.size if returns.size else 0.0
    for r in returns:
        square += (r - mean) * (r - mean)
    sums[N], sums[MEAN], sums[SQUARE], sums[LOW], sums[HIGH] = returns.size, mean, square, low, high
    sums[GAINED], sums[LOST], sums[SQUARE_LOST] = gained, lost, square_lost
    sums[GROWTH], sums[PEAK], sums[TROUGH], sums[DEEPEST] = value, peak, trough, deepest


@compiled
def _join(sums, after):
    """Add the sums of what comes next, in place (means and squares as T. Chan, G. Golub, R. LeVeque, 1979)."""
    n = sums[N] + after[N]
    if after[N] == 0.0:
        return
    apart = after[MEAN] - sums[MEAN]
    sums[SQUARE] += after[SQUARE] + apart * apart * (sums[N] * after[N] / n)
    sums[MEAN] += apart * (after[N] / n)
    sums[N] = n
    sums[LOW], sums[HIGH] = min(sums[LOW], after[LOW]), max(sums[HIGH], after[HIGH])
    sums[GAINED] += after[GAINED]
    sums[LOST] += after[LOST]
    sums[SQUARE_LOST] += after[SQUARE_LOST]
    across = sums[GROWTH] * after[TROUGH] / sums[PEAK] - 1.0
    sums[DEEPEST] = min(sums[DEEPEST], after[DEEPEST], across)
    sums[PEAK] = max(sums[PEAK], sums[GROWTH] * after[PEAK])
    sums[TROUGH] = min(sums[TROUGH], sums[GROWTH] * after[TROUGH])
    sums[GROWTH] *= after[GROWTH]


class Window(NamedTuple):
    """What the formulas below are made of, float64[...] each: the metrics of the same names, of arrays."""

    n: np.ndarray
    mean: np.ndarray
    excess: np.ndarray  # a year, by the root of the bars a year
    deviation: np.ndarray
    sums: np.ndarray
    a_year: float

    def varies(self) -> np.ndarray:
        """Whether there are two returns at least, and they differ by more than rounding."""
        return (self.n > 1) & (self.sums[..., HIGH] - self.sums[..., LOW] > ROUNDING)

    def cagr(self) -> np.ndarray:
        """Undefined without a bar, and where it is beyond a ratio."""
        yearly = self.sums[..., GROWTH] ** (self.a_year / self.n)
        return np.where((self.n > 0) & (yearly <= LARGEST_RATIO), yearly - 1.0, np.nan)


FORMULAS: dict[str, Callable[[Window], np.ndarray]] = {  # of all of them more is better
    "sharpe": lambda w: np.where(w.varies(), _ratio(w.excess, w.deviation), np.nan),
    "sortino": lambda w: _ratio(w.excess, np.sqrt(w.sums[..., SQUARE_LOST] / w.n)),
    "calmar": lambda w: _ratio(w.cagr(), -w.sums[..., DEEPEST]),
    "omega": lambda w: _ratio(w.sums[..., GAINED], w.sums[..., LOST]),
    "total_return": lambda w: w.sums[..., GROWTH] - 1.0,
    "cagr": Window.cagr,
    "annual_return": lambda w: w.mean * w.a_year,
    "max_drawdown": lambda w: w.sums[..., DEEPEST] + 0.0,
}


def check_metric(metric: Any) -> None:
    """ParameterError unless trials can be chosen by this metric."""
    if not isinstance(metric, str) or metric not in FORMULAS:
        raise ParameterError(f"no choice by metric {shown(metric)}{did_you_mean(str(metric)[:40], FORMULAS)}")


def window_values(metric: str, sums: np.ndarray, account: Account, *, to_choose: bool = False) -> np.ndarray:
    """The metric of windows, NaN where it is undefined; also, to choose by it, where returns do not vary."""
    with np.errstate(all="ignore"):
        n, mean = np.where(sums[..., N] > 0, sums[..., N], np.nan), sums[..., MEAN]
        excess = (mean - account.cash_return) * math.sqrt(account.a_year)
        window = Window(n, mean, excess, np.sqrt(sums[..., SQUARE] / (n - 1)), sums, account.a_year)
        values = FORMULAS[metric](window)
        return np.where(np.isnan(n) | (to_choose & ~window.varies()), np.nan, values)


def _ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    defined = (denominator != 0.0) & (np.abs(numerator) <= LARGEST_RATIO * np.abs(denominator))
    return np.where(defined, numerator / denominator + 0.0, np.nan)
