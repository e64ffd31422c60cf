"""Intervals from the stationary bootstrap, and what its blocks must be like where returns depend on each other."""

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from backgrid._kernels import compiled
from backgrid.bars import float_of
from backgrid.errors import ParameterError, did_you_mean, shown
from backgrid.metrics import LARGEST_RATIO, NAN, line

NO_VARIANCE = LARGEST_RATIO**-2  # variance / mean square of what is rounding noise
FEWEST_BARS = 10  # fewer have no interval
MOST_DRAWS = 100_000
LARGEST = 1e60  # beyond it a fourth moment leaves the range of floats
CELLS = 2**18  # numbers at a time: resamples by bars
MOST_PLACES = 100_000  # of more bars, equal stretches are drawn in their place


class Interval(NamedTuple):
    """An interval in the unit of its metric; NaN at both ends where it has none."""

    low: float
    high: float


class Statistic(NamedTuple):
    """A metric as a smooth function of the means of two lines."""

    lines: Callable  # returns -> both lines, stacked
    value: Callable  # both means -> value, and its slope in the one and in the other
    shown: Callable  # value, number of bars, periods per year -> the metric


def _sharpe(mean, square):
    std = np.sqrt(np.where(square - mean * mean > NO_VARIANCE * square, square - mean * mean, NAN))
    return mean / std, square / std**3, -mean / (2.0 * std**3)


def _log_std(mean, square):
    variance = np.where(square - mean * mean > NO_VARIANCE * square, square - mean * mean, NAN)
    return np.log(variance) / 2.0, -mean / variance, 0.5 / variance


def _sortino(mean, loss):
    loss = np.where(loss > 0.0, loss, NAN)
    return mean / np.sqrt(loss), 1.0 / np.sqrt(loss), -mean / (2.0 * loss**1.5)


def _mean(mean, other):
    return mean, np.ones_like(mean), np.zeros_like(other)


def _with_square(r):
    return np.stack([r, r * r])


def _log_growth(r):
    return np.stack([np.log1p(r), np.zeros_like(r)])


STATISTICS = {  # what is computed is what is closest to normal: the logarithm of a standard deviation and of growth
    "sharpe": Statistic(_with_square, _sharpe, lambda v, n, a: v * math.sqrt(a * (n - 1) / n)),
    "sortino": Statistic(lambda r: np.stack([r, np.minimum(r, 0.0) ** 2]), _sortino, lambda v, n, a: v * math.sqrt(a)),
    "annual_return": Statistic(_with_square, _mean, lambda v, n, a: v * a),
    "annual_volatility": Statistic(_with_square, _log_std, lambda v, n, a: _exp(v) * math.sqrt(a * n / (n - 1))),
    "total_return": Statistic(_log_growth, _mean, lambda v, n, a: _growth(v * n)),
    "cagr": Statistic(_log_growth, _mean, lambda v, n, a: _growth(v * a)),
}
COMPOUNDED = ("total_return", "cagr", "max_drawdown")


def bootstrap_ci(
    returns: Any,
    metric: str = "sharpe",
    *,
    level: float = 0.95,
    n_boot: int = 2000,
    seed: int = 0,
    periods_per_year: float = 252,
) -> Interval:
    """Interval that holds the true value of a metric with probability `level`, from resampled blocks of the returns.

    Parameters
    ----------
    returns : array-like of float, shape (n_bars,)
        Simple return of each bar. [fraction]
    metric : {"sharpe", "sortino", "annual_return", "annual_volatility", "total_return", "cagr", "max_drawdown"}
        As in `backgrid.metrics`, annual where it is so there, without a return of cash; total_return is what the true
        mean growth makes of as many bars.
    level : float, default 0.95
        Above 0 and below 1. [probability]
    n_boot : int, default 2000
        Resamples, 1 to 100,000. [count]
    seed : int, default 0
        Of the resamples.
    periods_per_year : float, default 252
        [bars per year]

    Returns
    -------
    Interval
        `low` and `high`, in the unit of the metric; NaN for fewer than 10 bars, returns that do not vary, and where
        the metric is undefined.

    Raises
    ------
    ParameterError
        If `returns` is not one-dimensional, or holds NaN or infinity, or, for a metric that compounds, -1 or less; for
        an unknown metric, or another argument out of its bounds.

    Notes
    -----
    A plain percentile interval is too narrow for returns that depend on each other. Here each resample is studentised
    by the variance between its blocks, and the quantiles so found are scaled by the standard error of the sample from a
    prewhitened Parzen kernel (O. Ledoit, M. Wolf, "Robust Performance Hypothesis Testing with the Sharpe
    Ratio", J. Empirical Finance 15(5), 2008, pp. 850-859). The block length is `optimal_block_length` of what each bar
    adds to the metric. It needs a fourth moment for the Sharpe ratio and more for the volatility: where volatility
    itself comes in long waves, its interval is too narrow.

    Of more than 100,000 bars, the resamples draw stretches of k bars each in place of bars, k the least that leaves
    100,000 or fewer; a stretch holds the sums of what the metric is made of, such as r and r**2, so its mean and
    variance remain those of bars, and the standard error is that of all bars. What is given up is only that a block
    begins anywhere: it begins with a stretch, and is k bars long at least.

    A drawdown is no such mean: its interval holds the drawdowns of `level` of the histories that the same returns
    could have made, in blocks, in another order.

    References
    ----------
    D. N. Politis, J. P. Romano, "The Stationary Bootstrap", JASA 89, 1994, pp. 1303-1313.
    """
    values = check_numbers("returns", returns, 1)
    if metric not in (known := (*STATISTICS, "max_drawdown")):
        raise ParameterError(f"unknown metric {shown(metric)}{did_you_mean(str(metric), known)}")
    if metric in COMPOUNDED and values.size and values.min() <= -1.0:
        raise ParameterError(f"returns must be above -1 to be compounded for {metric}, got {values.min()}")
    share = check_number("level", level, "above 0 and below 1", lambda p: 0.0 < p < 1.0)
    periods = check_number("periods_per_year", periods_per_year, "above 0", lambda a: a > 0.0)
    draws, seed = check_whole("n_boot", n_boot, 1, 100_000), check_whole("seed", seed, 0)
    if values.size < FEWEST_BARS or not line(values).varies:
        return Interval(NAN, NAN)
    tails = [(1.0 - share) / 2.0, (1.0 + share) / 2.0]
    if metric == "max_drawdown":
        drawn = resamples(values.size, optimal_block_length(values), draws, seed)
        low, high = np.quantile(np.concatenate([_deepest(values[places]) for places in drawn]), tails)
        return Interval(float(low), float(high))
    statistic = STATISTICS[metric]
    ends = _studentised(statistic.lines(values), statistic.value, tails, draws, seed)
    return Interval(*(float(statistic.shown(end, values.size, periods)) for end in ends))


def optimal_block_length(values: Any) -> float:
    """Mean block length that suits the stationary bootstrap of the mean of these values.

    Parameters
    ----------
    values : array-like of float, shape (n_bars,)

    Returns
    -------
    float
        (2 * G**2 / D * n_bars) ** (1 / 3), D = 2 * g**2, with g the long-run variance and G the sum of |lag| times the
        autocovariance, both with a flat-top window to twice the lag from which five autocorrelations in a row are
        insignificant; at least 1, at most 3 * sqrt(n_bars) and n_bars / 3. [bars]

    Raises
    ------
    ParameterError
        If `values` is not one-dimensional, holds NaN or infinity, or has fewer than two values.

    References
    ----------
    D. N. Politis, H. White, "Automatic Block-Length Selection for the Dependent Bootstrap", Econometric Reviews 23(1),
    2004, pp. 53-70; A. Patton, D. N. Politis, H. White, "Correction", Econometric Reviews 28(4), 2009, pp. 372-375.
    """
    checked = check_numbers("values", values, 1)
    if checked.size < 2:
        raise ParameterError(f"values must be two at least, got {checked.size}")
    return block_length(checked) if line(checked).varies else 1.0


def resamples(n_bars: int, length: float, n_boot: int, seed: int, first: int = 0) -> Iterator[np.ndarray]:
    """Places of the bars of the stationary bootstrap's resamples from `first` on, int64[some, n_bars] at a time.

    A resample is the same one whichever is the first, and however many are made at a time.
    """
    rng, rows = np.random.default_rng(seed), max(1, CELLS // n_bars)
    rng.bit_generator.advance(first * n_bars)  # type: ignore[attr-defined]
    for row in range(first, n_boot, rows):
        yield _places(rng.random((min(rows, n_boot - row), n_bars)), length)


@compiled
def _places(uniform, length):
    """A block begins on a bar with probability 1 / length, anywhere, and goes around the end.

    uniform  float64[n_boot, n_bars]  in [0, 1)
    length   float                    mean length of the blocks, at least 1   [bars]
    returns  int64[n_boot, n_bars]
    """
    n_boot, n_bars = uniform.shape
    places = np.empty((n_boot, n_bars), dtype=np.int64)
    for row in range(n_boot):
        place = int(uniform[row, 0] * n_bars)
        for t in range(n_bars):
            if t and uniform[row, t] * length < 1.0:  # and then this product is uniform itself
                place = int(uniform[row, t] * length * n_bars)
            places[row, t] = place
            place = place + 1 if place + 1 < n_bars else 0
    return places


def _studentised(lines, value, tails, n_boot, seed):
    """Both ends of the interval of a smooth function of the means of two lines, float64[2, n_bars]."""
    mean, n_bars = lines.mean(axis=1), lines.shape[1]
    with np.errstate(divide="ignore", invalid="ignore"):  # resamples that do not vary are left out
        centre, *slopes = value(*mean)
        added = slopes @ (lines - mean[:, None])
        if not np.isfinite(added).all():
            return NAN, NAN
        error = math.sqrt(long_run_variance(added) / n_bars)
        if n_bars > MOST_PLACES:
            lines = _stretches(lines)
            n_bars, added = lines.shape[1], slopes @ (lines - mean[:, None])
        parts = resamples(n_bars, optimal_block_length(added), n_boot, seed)
        first, second, *products = np.concatenate([_block_products(lines, places) for places in parts]).T
        drawn, a, b = value(first, second)
        variance = a * a * products[0] + 2.0 * a * b * products[1] + b * b * products[2]
        ratio = (drawn - centre) * n_bars / np.sqrt(variance)
    ratio = ratio[np.isfinite(ratio)]
    if not ratio.size:
        return NAN, NAN
    low, high = np.quantile(ratio, tails)
    return centre - high * error, centre - low * error


def _stretches(lines: np.ndarray) -> np.ndarray:
    """Both lines summed over stretches of equally many bars, the last one shorter, and scaled to the means of all bars.

    Sums, so that bars without a position stay exactly 0, and a resample of nothing else has no Sharpe ratio.

    lines    float64[2, n_bars]
    returns  float64[2, n_stretches]   at most MOST_PLACES of them, of the same means
    """
    n_bars = lines.shape[1]
    starts = np.arange(0, n_bars, -(-n_bars // MOST_PLACES))
    return np.add.reduceat(lines, starts, axis=1) * (starts.size / n_bars)


@compiled
def _block_products(lines, places):
    """Of each resample: both means, and over its blocks the sums of xx, xy and yy, x and y the deviations in a block.

    lines    float64[2, n_bars]
    places   int64[n_boot, n_bars]   two blocks that happen to fit together count as one, which does no harm
    returns  float64[n_boot, 5]
    """
    n_boot, n_bars = places.shape
    found = np.zeros((n_boot, 5))
    for row in range(n_boot):
        first = second = 0.0
        for place in places[row]:
            first += lines[0, place]
            second += lines[1, place]
        first /= n_bars
        second /= n_bars
        x = y = xx = xy = yy = 0.0
        for t in range(n_bars):
            place = places[row, t]
            if t and place != (places[row, t - 1] + 1) % n_bars:
                xx, xy, yy = xx + x * x, xy + x * y, yy + y * y
                x = y = 0.0
            x += lines[0, place] - first
            y += lines[1, place] - second
        found[row] = (first, second, xx + x * x, xy + x * y, yy + y * y)
    return found


@compiled
def block_length(values):
    """`optimal_block_length` of float64[n_bars], n_bars >= 2; no lag is summed that is not asked for."""
    n, run = values.size, 5  # the paper's max(5, sqrt(log10 n))
    centred = values - values.mean()
    largest = np.abs(centred).max()
    if largest == 0.0:
        return 1.0
    centred /= largest
    most = min(math.ceil(math.sqrt(n)) + run, n - 1)
    covariance = np.zeros(most + 1)
    covariance[0] = _covariance(centred, 0)
    bound = 2.0 * math.sqrt(math.log10(n) / n) * covariance[0]
    quiet, calm, known = most, 0, 0
    while known < most - 1 and calm < run:
        known += 1
        covariance[known] = _covariance(centred, known)
        calm = calm + 1 if abs(covariance[known]) < bound else 0
    if calm == run:
        quiet = known - run + 1
    last = min(2 * quiet, most)
    spread, long_run = 0.0, covariance[0]
    for lag in range(1, last + 1):
        if lag > known:
            covariance[lag] = _covariance(centred, lag)
        windowed = min(1.0, 2.0 * (1.0 - lag / last)) * covariance[lag]
        spread += 2.0 * lag * windowed
        long_run += 2.0 * windowed
    longest = math.ceil(min(3.0 * math.sqrt(n), n / 3.0))
    if long_run == 0.0:
        return float(longest)
    return float(min(max(((spread / long_run) ** 2 * n) ** (1.0 / 3.0), 1.0), longest))


@compiled
def long_run_variance(values):
    """Variance of sqrt(n) * the mean of dependent values, float64[n], n >= 2; 0 where all are equal.

    A Parzen kernel with automatic bandwidth, after an AR(1) is taken out (D. W. K. Andrews, J. C. Monahan, "An Improved
    HAC Covariance Matrix Estimator", Econometrica 60(4), 1992, pp. 953-966).
    """
    centred = values - values.mean()
    slope = _persistence(centred)
    rest = centred[1:] - slope * centred[:-1]
    rest -= rest.mean()
    left = _persistence(rest)
    bandwidth = 2.6614 * (4.0 * left**2 / (1.0 - left) ** 4 * rest.size) ** 0.2
    variance = _covariance(rest, 0)
    for lag in range(1, min(math.ceil(bandwidth), rest.size)):
        far = lag / bandwidth
        weight = 1.0 - 6.0 * far**2 * (1.0 - far) if far <= 0.5 else 2.0 * (1.0 - far) ** 3
        variance += 2.0 * weight * _covariance(rest, lag)
    return variance / (1.0 - slope) ** 2


@compiled
def _persistence(values):
    """Slope of a value on the one before, kept away from 1; 0 where there is none."""
    square = together = 0.0
    for t in range(values.size - 1):
        square += values[t] * values[t]
        together += values[t] * values[t + 1]
    return min(max(together / square, -0.97), 0.97) if square else 0.0


@compiled
def _covariance(centred, lag):
    """sum over t of v[t] * v[t + lag] / n."""
    total = 0.0
    for t in range(centred.size - lag):
        total += centred[t] * centred[t + lag]
    return total / centred.size


def _deepest(returns: np.ndarray) -> np.ndarray:
    """Deepest drawdown of each row of returns, the start included."""
    equity = np.cumprod(1.0 + returns, axis=1)
    return (equity / np.maximum(np.maximum.accumulate(equity, axis=1), 1.0)).min(axis=1, initial=1.0) - 1.0


def _growth(log_growth: float) -> float:
    return math.expm1(log_growth) if log_growth < math.log(LARGEST_RATIO) else NAN


def _exp(power: float) -> float:
    return math.exp(power) if power < math.log(LARGEST_RATIO) else NAN


# ---- arguments -------------------------------------------------------------------------------------------------------


def check_number(name: str, value: Any, needed: str, holds: Callable[[float], bool]) -> float:
    number = float_of(value)
    if not (math.isfinite(number) and holds(number)):
        raise ParameterError(f"{name} must be {needed}, got {shown(value)}")
    return number


def check_whole(name: str, value: Any, least: int, most: float = math.inf) -> int:
    if not isinstance(value, (int, np.integer)) or isinstance(value, bool) or not least <= value <= most:
        bounds = f"{least:,} or more" if most == math.inf else f"{least:,} to {most:,}"
        raise ParameterError(f"{name} must be a whole number, {bounds}, got {shown(value)}")
    return int(value)


def check_numbers(name: str, values: Any, n_axes: int) -> np.ndarray:
    """Finite floats in one or two dimensions, or ParameterError naming the first that is none."""
    shape = "one-dimensional" if n_axes == 1 else "two-dimensional, bars by trials,"
    try:
        checked = np.asarray(values, dtype=float)
    except (TypeError, ValueError):
        raise ParameterError(f"{name} must be {shape} and numbers, got {shown(values)}") from None
    if checked.ndim != n_axes:
        raise ParameterError(f"{name} must be {shape} and finite, got shape {checked.shape}")
    bad = np.argwhere(~(np.abs(checked) <= LARGEST))
    if bad.size:
        place = tuple(bad[0].tolist())
        raise ParameterError(f"{name} must be {shape} and finite, got {checked[place]} at {', '.join(map(str, place))}")
    return checked
