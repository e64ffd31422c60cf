"""What the best run of a batch is worth, given how many were tried, and which of the runs are alike.

Of an account a `Track` is kept, which does not grow with its bars but where it is compared with others; those are at
most a thousand, and so is the memory of an index bounded however many runs it has.
"""

import math
from collections.abc import Sequence
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
import pandas as pd

from backgrid.bars import DAY, bar_text, drawn_bars
from backgrid.luck import _estimate
from backgrid.metrics import NAN, ROUNDING, returns_of
from backgrid.overfit import deflated_sharpe_ratio, effective_trials, expected_maximum_sharpe

MOST_DRAWN = 60  # points of a line
MOST_COMPARED = 1_000  # runs: their pairs grow with the square
LEAST_COMMON = 20  # bars of a correlation, days of shorter bars
LONGER = 1.2  # times the bars of another are of another length
STRETCH = 2_048  # bars of a correlation at a time


# ---- one run ---------------------------------------------------------------------------------------------------------


class Track(NamedTuple):
    """What is kept of an account."""

    first: str  # date of its first bar
    last: str  # and of its last
    n_returns: int  # [bars]
    bars_a_year: float
    skew: float  # of its returns; NaN where these do not vary, or are fewer than three
    kurtosis: float
    drawn: np.ndarray  # int64[n_drawn]  bars that draw the same line, from 0 to n_returns
    equity: np.ndarray  # float64[n_drawn]  account value there, lowest and highest included   [currency]
    ends: np.ndarray | None  # int64[n_compared]  days on which bars end; None where it is not compared  [ns]
    returns: np.ndarray | None  # float64[n_compared]  of these bars, of shorter ones by day             [fraction]

    @property
    def varies(self) -> bool:
        """Whether its returns do."""
        return not math.isnan(self.kurtosis)

    def without_returns(self) -> "Track":
        """The same for a run that is not to be compared."""
        return self._replace(ends=None, returns=None)


def track_of(equity: pd.Series, periods_per_year: float) -> Track | None:
    """What is kept of an account; None where it cannot be drawn.

    Parameters
    ----------
    equity : Series of float, shape (n_bars,)
        Account value at each close, by date. [currency]
    periods_per_year : float
        By which the numbers of its report are annual. [bars per year]

    Returns
    -------
    Track or None
        None for fewer than two bars, an index without dates, and values that are not finite.
    """
    index, values = equity.index, equity.to_numpy(dtype=np.float64)
    if values.size < 2 or not isinstance(index, pd.DatetimeIndex) or not np.isfinite(values).all():
        return None
    returns = returns_of(values)
    moments = {"skew": NAN, "kurtosis": NAN}
    if returns.size > 2 and np.ptp(returns) > ROUNDING:
        moments = _estimate(returns)[1]
    drawn = drawn_bars(values, MOST_DRAWN)
    ends, compared = _by_day(index, values)
    return Track(
        first=bar_text(index, 0)[:10],
        last=bar_text(index, -1)[:10],
        n_returns=returns.size,
        bars_a_year=float(periods_per_year),
        skew=moments["skew"],
        kurtosis=moments["kurtosis"],
        drawn=drawn,
        equity=values[drawn],
        ends=ends[1:],
        returns=returns_of(compared),
    )


def _by_day(index: pd.DatetimeIndex, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The last value of each day, at midnight as daily bars are; so bars within a day and daily ones are comparable."""
    days = index.tz_localize(None).as_unit("ns").asi8 // DAY
    last = np.flatnonzero(np.diff(days, append=days[-1] + 1))
    return days[last] * DAY, values[last]


# ---- what is alike ---------------------------------------------------------------------------------------------------


class Compared(NamedTuple):
    """Correlations of the returns of some runs."""

    at: np.ndarray  # int64[n]  their places among all
    n_tracks: int  # runs that could have been compared
    correlations: np.ndarray  # float64[n, n]  NaN without enough common bars, or where one does not vary
    common: np.ndarray  # int64[n, n]  bars that both have
    n_moving: int  # of them vary
    n_unknown: int  # pairs of these have no correlation
    mean: float  # of the pairs of these, unknown ones as 0; NaN where none is known


def compared_places(n: int) -> list[int]:
    """Which of n runs are compared: all, or of very many some at equal distances."""
    return np.rint(np.linspace(0, n - 1, min(n, MOST_COMPARED))).astype(int).tolist()


def compare(tracks: Sequence[Track | None]) -> Compared:
    """Runs with each other, as far as their returns were kept."""
    known = [(at, track) for at, track in enumerate(tracks) if track is not None and track.n_returns > 1]
    kept = [(at, track) for at, track in known if track.returns is not None]
    chosen = [kept[place] for place in compared_places(len(kept))]
    lines = [(track.ends, track.returns) for _, track in chosen if track.ends is not None and track.returns is not None]
    correlations, common = correlate([ends for ends, _ in lines], [returns for _, returns in lines])
    vary = [track.varies for _, track in chosen]
    at = np.array([at for at, _ in chosen], dtype=np.int64)
    pairs = correlations[np.ix_(vary, vary)][np.triu_indices(sum(vary), 1)]
    n_unknown = int(np.isnan(pairs).sum())
    mean = float(np.nan_to_num(pairs).mean()) if n_unknown < pairs.size else NAN
    return Compared(at, len(known), correlations, common, sum(vary), n_unknown, mean)


def correlate(ends: Sequence[np.ndarray], returns: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Correlation of each two lines of returns over the bars that both have.

    Parameters
    ----------
    ends : sequence of ndarray of int, shapes (n_bars_i,)
        When the bars end, in order. [ns]
    returns : sequence of ndarray of float, shapes (n_bars_i,)
        What they earned, finite. [fraction]

    Returns
    -------
    correlations : ndarray of float, shape (n, n)
        NaN where fewer than 20 bars end at the same time, where bars are not of one length, and where one of the two
        does not vary on them.
    common : ndarray of int, shape (n, n)
        Bars that end at the same time. [bars]
    """
    n = len(ends)
    correlations, common = np.full((n, n), NAN), np.zeros((n, n), dtype=np.int64)
    for of in _of_one_length(ends):
        block = np.ix_(of, of)
        correlations[block], common[block] = _pairwise([ends[at] for at in of], [returns[at] for at in of])
    return correlations, common


def _of_one_length(ends: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Places of the lines whose bars are of about one length: months of 30 and 31 days, not 15 and 20 minutes."""
    gaps = np.array([np.median(np.diff(each)) if each.size > 1 else DAY for each in ends])
    order = np.argsort(gaps, kind="stable")
    longer = np.flatnonzero(gaps[order][1:] > LONGER * gaps[order][:-1]) + 1
    return [places for places in np.split(order, longer) if places.size]


def _pairwise(ends: Sequence[np.ndarray], returns: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Correlation of each two lines where both are known, from sums that are products of matrices.

    The sums are taken over one stretch of time after the other: memory does not grow with the bars.
    """
    distinct = {each.tobytes(): each for each in ends}  # most runs of a batch have the same bars
    times = np.unique(np.concatenate(list(distinct.values())))
    n, totals, squares, products = np.zeros((4, len(ends), len(ends)))
    for start in range(0, times.size, STRETCH):
        stretch = times[start : start + STRETCH]
        values, known = np.zeros((2, len(ends), stretch.size))
        for row, (at, line) in enumerate(zip(ends, returns, strict=True)):
            here = slice(*np.searchsorted(at, [stretch[0], stretch[-1] + 1]))
            places = np.searchsorted(stretch, at[here])
            values[row, places], known[row, places] = line[here], 1.0
        n += known @ known.T  # [i, j]: over the bars of i and j
        totals += values @ known.T  # of i
        squares += (values * values) @ known.T
        products += values @ values.T
    bars = np.maximum(n, 1.0)
    spread = squares - totals * totals / bars
    varies = (n >= LEAST_COMMON) & (spread > 1e-10 * squares)  # the rest is rounding
    usable = varies & varies.T
    scale = np.sqrt(np.where(usable, spread * spread.T, 1.0))
    found = (products - totals * totals.T / bars) / scale
    return np.where(usable, np.clip(found, -1.0, 1.0), NAN), n.astype(np.int64)


# ---- what the best is worth ------------------------------------------------------------------------------------------


class Worth(NamedTuple):
    """What the trial of the highest Sharpe ratio is worth. Sharpe ratios are annual; NaN where its returns are unknown.

    The names are those of `backgrid.luck.Luck`.
    """

    best: int  # its place among the trials
    sharpe: float
    n_trials: int  # one without a Sharpe ratio, as of a run that never traded, was looked at like any other
    correlation: float  # mean of any two trials that vary, unknown ones as 0; NaN where none is known
    n_effective: float  # trials that differ; n_trials where no correlation is known
    luckiest: float  # what luck gives the best of n_trials by the variance of chance
    deflated: float  # probability that the true Sharpe ratio is above that
    luckiest_effective: float  # of n_effective by the same variance
    deflated_effective: float
    luckiest_observed: float  # of n_trials by the variance of the trials' Sharpe ratios
    deflated_observed: float


def measure_worth(sharpes: Sequence[float], tracks: Sequence[Track | None], compared: Compared) -> Worth | None:
    """The best trial held against luck, as `backgrid.luck` does it for a sweep.

    Trials may differ in length and in bars a year. Without skill the Sharpe ratio of one has the variance A / (n - 1) a
    year, n its returns and A its bars a year; the best of all is then mostly one of the short ones (`even_variance`).
    One whose returns do not vary has no Sharpe ratio by chance either: it counts among the trials, not in the variance.

    Parameters
    ----------
    sharpes : sequence of float, shape (n_trials,)
        NaN where undefined, which counts as 0. [a year]
    tracks : sequence of Track, shape (n_trials,)
        Of the same trials; None where there is none.
    compared : Compared
        What `compare` says of these tracks.

    Returns
    -------
    Worth or None
        None where no trial has a Sharpe ratio.
    """
    known = np.array(sharpes, dtype=np.float64)
    if np.isnan(known).all():
        return None
    best, n = int(np.nanargmax(known)), known.size
    sharpe = float(known[best])
    effective = float(n) if math.isnan(compared.mean) else effective_trials(compared.mean, n)
    unknown = Worth(best, sharpe, n, compared.mean, effective, *[NAN] * 6)
    track = tracks[best]
    if track is None or not track.varies:
        return unknown
    chance = even_variance([each.bars_a_year / (each.n_returns - 1) for each in tracks if each and each.varies])
    observed = float(np.nan_to_num(known).var(ddof=1)) if n > 1 else 0.0
    moments = {"n_obs": track.n_returns, "skew": track.skew, "kurtosis": track.kurtosis}

    def against(n_trials: float, variance: float) -> tuple[float, float]:
        """Threshold, a year, and the probability of being above it."""
        a_bar = {"n_trials": n_trials, "variance": variance / track.bars_a_year}
        probability = deflated_sharpe_ratio(sharpe / math.sqrt(track.bars_a_year), **a_bar, **moments)
        return expected_maximum_sharpe(n_trials, variance=variance), probability

    return Worth(*unknown[:5], *against(n, chance), *against(effective, chance), *against(n, observed))


def even_variance(variances: Sequence[float]) -> float:
    """The variance of as many equal trials whose best is expected to be as high as the best of these.

    Trials are normal around 0 and independent. The expected maximum is what is left of the range above the integral of
    the product of their distribution functions.
    """
    scatter, counts = np.unique(np.sqrt(variances), return_counts=True)
    if scatter.size == 1:
        return float(variances[0])
    x, normal = np.linspace(-8.0, 8.0, 8001), NormalDist()
    below = np.array([normal.cdf(value) for value in x.tolist()])
    top = scatter[-1]
    step = x[1] - x[0]
    joint, alike = np.ones_like(x), below ** counts.sum()
    for each, n in zip(scatter, counts, strict=True):
        joint *= np.interp(x * (top / each), x, below) ** n
    highest, standard = (x[-1] - step * float(product.sum()) for product in (joint, alike))
    return float((top * highest / standard) ** 2)
