"""The statistics of luck: what a Sharpe ratio is worth, given its length, its tails and how many were tried.

A Sharpe ratio here is per bar, mean / std, unless a docstring says a year; kurtosis is plain, 3 for a normal
distribution; a trial is one parameter combination tried. None of these numbers is a verdict by itself, and the
probability of backtest overfitting is a noisy one: on pure noise it scatters widely around one half.

A sweep holds more trials than memory: `pbo_of_sums` takes what it can sum up, `average_trial` and `reality_check_of`
what it can stream. The functions that take a matrix of returns go through them.
"""

import itertools
import math
from collections.abc import Callable, Iterable, Iterator
from statistics import NormalDist
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from backgrid._kernels import compiled
from backgrid.bars import float_of
from backgrid.errors import ParameterError, did_you_mean, shown
from backgrid.metrics import LARGEST_RATIO, NAN, ROUNDING, line

NORMAL = NormalDist()
NO_VARIANCE = LARGEST_RATIO**-2  # variance / mean square of what is rounding noise
EQUAL = 1e-12  # Sharpe ratios no further apart are tied
MOST_BLOCKS = 20  # 184,756 splits
FEWEST_BARS = 10  # fewer have no interval
MOST_TRIALS = 256  # at a time
CELLS = 2**22  # numbers at a time: trials by bars, or resamples by bars


# ---- one Sharpe ratio, or the best of many ---------------------------------------------------------------------------


def probabilistic_sharpe_ratio(
    sharpe: float, *, n_obs: float, benchmark: float = 0.0, skew: float = 0.0, kurtosis: float = 3.0
) -> float:
    """Probability that the true Sharpe ratio is above `benchmark`, given the one that was observed.

    Parameters
    ----------
    sharpe, benchmark : float
        Observed, with ddof 1, and to be beaten. [per bar]
    n_obs : float
        Returns that it was observed on, at least 2. [bars]
    skew, kurtosis : float
        Moments of these returns, `kurtosis` plain and so at least skew**2 + 1. [ratio]

    Returns
    -------
    float
        Phi((sharpe - benchmark) * sqrt(n_obs - 1) / sqrt(1 - skew * sharpe + (kurtosis - 1) / 4 * sharpe**2)).

    Raises
    ------
    ParameterError
        For an argument that is out of its bounds, or no finite number.

    References
    ----------
    D. H. Bailey, M. Lopez de Prado, "The Sharpe Ratio Efficient Frontier", J. Risk 15(2), 2012, pp. 3-44.
    """
    observed, target = _sharpe_ratio("sharpe", sharpe), _sharpe_ratio("benchmark", benchmark)
    bars = _number("n_obs", n_obs, "a number of bars, 2 at least", lambda n: n >= 2.0)
    variance = _sharpe_variance(observed, skew, kurtosis)
    if observed == target:
        return 0.5
    distance = (observed - target) * math.sqrt(bars - 1.0)
    return NORMAL.cdf(distance / math.sqrt(variance) if variance else math.copysign(math.inf, distance))


def expected_maximum_sharpe(n_trials: float, *, variance: float) -> float:
    """Sharpe ratio that the best of `n_trials` without skill is expected to show.

    Parameters
    ----------
    n_trials : float
        Independent trials, at least 1; `effective_trials` for those that are alike. [count]
    variance : float
        Variance of the Sharpe ratios of the trials. [(per bar) squared, or a year]

    Returns
    -------
    float
        sqrt(variance) * ((1 - g) * z(1 - 1 / N) + g * z(1 - 1 / (N * e))), z the normal quantile, g Euler's constant;
        0.0 for one trial, and never below. [per bar, or a year, as the root of `variance`]

    Raises
    ------
    ParameterError
        For an argument that is out of its bounds, or no finite number.

    References
    ----------
    D. H. Bailey, M. Lopez de Prado, "The Deflated Sharpe Ratio", J. Portfolio Management 40(5), 2014, pp. 94-107.
    """
    return math.sqrt(_number("variance", variance, "0 or more", lambda v: v >= 0.0)) * _expected_maximum(n_trials)


def deflated_sharpe_ratio(
    sharpe: float, *, n_obs: float, n_trials: float, variance: float, skew: float = 0.0, kurtosis: float = 3.0
) -> float:
    """Probability that the true Sharpe ratio of the best of `n_trials` is above what luck alone would show.

    It is no p-value: of the best of 500 strategies without skill, 5 % reach 0.8, and hardly any 0.95. Neighbouring
    trials of a dense grid have nearly one Sharpe ratio, and their small variance flatters the winner: compare with
    1 / (n_obs - 1), the variance between independent trials without skill, and see `effective_trials`.

    Parameters
    ----------
    sharpe, n_obs, skew, kurtosis : float
        As for `probabilistic_sharpe_ratio`, of the best trial.
    n_trials, variance : float
        As for `expected_maximum_sharpe`, `variance` per bar squared.

    Returns
    -------
    float
        probabilistic_sharpe_ratio with expected_maximum_sharpe(n_trials, variance=variance) as benchmark.

    Raises
    ------
    ParameterError
        For an argument that is out of its bounds, or no finite number.

    References
    ----------
    As `expected_maximum_sharpe`.
    """
    luck = expected_maximum_sharpe(n_trials, variance=variance)
    return probabilistic_sharpe_ratio(sharpe, n_obs=n_obs, benchmark=luck, skew=skew, kurtosis=kurtosis)


def minimum_track_record_length(
    sharpe: float, *, benchmark: float = 0.0, confidence: float = 0.95, skew: float = 0.0, kurtosis: float = 3.0
) -> float:
    """Bars after which the probabilistic Sharpe ratio reaches `confidence`, if the Sharpe ratio stays as observed.

    Parameters
    ----------
    sharpe, benchmark, skew, kurtosis : float
        As for `probabilistic_sharpe_ratio`.
    confidence : float, default 0.95
        At least 0.5 and below 1. [probability]

    Returns
    -------
    float
        1 + (1 - skew * sharpe + (kurtosis - 1) / 4 * sharpe**2) * (z(confidence) / (sharpe - benchmark))**2; infinite
        where `sharpe` is not above `benchmark`. [bars]

    Raises
    ------
    ParameterError
        For an argument that is out of its bounds, or no finite number.

    References
    ----------
    As `probabilistic_sharpe_ratio`.
    """
    observed, target = _sharpe_ratio("sharpe", sharpe), _sharpe_ratio("benchmark", benchmark)
    level = _number("confidence", confidence, "at least 0.5 and below 1", lambda c: 0.5 <= c < 1.0)
    variance = _sharpe_variance(observed, skew, kurtosis)
    if observed <= target:
        return math.inf
    return 1.0 + variance * _square_ratio(NORMAL.inv_cdf(level), observed - target)


def minimum_backtest_length(sharpe: float, *, n_trials: float) -> float:
    """Years that a backtest must have, or the best of `n_trials` without skill is expected to show `sharpe`.

    Parameters
    ----------
    sharpe : float
        Sharpe ratio of the best trial. [a year]
    n_trials : float
        Independent trials, at least 1. [count]

    Returns
    -------
    float
        (expected_maximum_sharpe(n_trials, variance=1) / sharpe)**2; infinite where `sharpe` is not above 0. [years]

    Raises
    ------
    ParameterError
        For an argument that is out of its bounds, or no finite number.

    References
    ----------
    D. H. Bailey, J. M. Borwein, M. Lopez de Prado, Q. J. Zhu, "Pseudo-Mathematics and Financial Charlatanism", Notices
    of the AMS 61(5), 2014, pp. 458-471.
    """
    observed, luck = _sharpe_ratio("sharpe", sharpe), _expected_maximum(n_trials)
    return _square_ratio(luck, observed) if observed > 0.0 else math.inf


def effective_trials(correlation: float, n_trials: float) -> float:
    """Independent trials that `n_trials` correlated ones amount to, by the simplest rule there is.

    Parameters
    ----------
    correlation : float
        Mean correlation between the returns of two trials (`average_trial` has it); below 0 counts as 0. [ratio]
    n_trials : float
        Trials, at least 1. [count]

    Returns
    -------
    float
        correlation + (1 - correlation) * n_trials: 1 where all are one strategy, `n_trials` where none is like another.

    Raises
    ------
    ParameterError
        For an argument that is out of its bounds, or no finite number.

    References
    ----------
    M. Lopez de Prado, M. J. Lewis, "Detection of False Investment Strategies Using Unsupervised Learning Methods",
    Quantitative Finance 19(9), 2019, pp. 1555-1565, quoting D. H. Bailey and M. Lopez de Prado.
    """
    alike = _number("correlation", correlation, "between -1 and 1", lambda r: abs(r) <= 1.0 + ROUNDING)
    alike = min(max(alike, 0.0), 1.0)
    return alike + (1.0 - alike) * _trials(n_trials)


def adjust_pvalues(pvalues: Any, *, method: str = "holm") -> np.ndarray | pd.Series:
    """P-values of several tests, raised so that each can be read as if it had been the only one.

    Parameters
    ----------
    pvalues : array-like of float, shape (n_tests,)
        Between 0 and 1. [probability]
    method : {"holm", "bhy"}
        "holm" bounds the probability of any false discovery; "bhy" the share of false ones among the discoveries.
        Both hold for tests that depend on each other in any way.

    Returns
    -------
    ndarray, or Series with the index of `pvalues` where that is one
        In the order given, at most 1. [probability]

    Raises
    ------
    ParameterError
        If `pvalues` is not one-dimensional, or holds what is no probability; for an unknown method.

    References
    ----------
    S. Holm, "A Simple Sequentially Rejective Multiple Test Procedure", Scand. J. Statistics 6(2), 1979, pp. 65-70.
    Y. Benjamini, D. Yekutieli, "The Control of the False Discovery Rate in Multiple Testing under Dependency", Annals
    of Statistics 29(4), 2001, pp. 1165-1188.
    """
    given = _numbers("pvalues", pvalues, 1)
    if ((given < 0.0) | (given > 1.0)).any():
        raise ParameterError(f"pvalues must lie between 0 and 1, got {given.min()} to {given.max()}")
    order, n = np.argsort(given, kind="stable"), given.size
    place = np.arange(1, n + 1)
    if method == "holm":
        raised = np.maximum.accumulate(given[order] * (n + 1 - place))
    elif method == "bhy":
        factors = n / place * (1.0 / place).sum()
        raised = np.minimum.accumulate((given[order] * factors)[::-1])[::-1]
    else:
        raise ParameterError(f"unknown method {shown(method)}{did_you_mean(str(method), ('holm', 'bhy'))}")
    adjusted = np.empty(n)
    adjusted[order] = np.minimum(raised, 1.0)
    return pd.Series(adjusted, pvalues.index, name=pvalues.name) if isinstance(pvalues, pd.Series) else adjusted


# ---- probability of backtest overfitting -----------------------------------------------------------------------------


class Overfitting(NamedTuple):
    """What cross-validation says of choosing the best trial. Arrays have one value a split."""

    pbo: float  # share of the splits whose winner ends below the median outside    [probability]
    n_trials: int
    n_splits: int
    logits: np.ndarray  # ln(w / (1 - w)), w the rank of the winner outside / (n_trials + 1); 0 is the median
    in_sample: np.ndarray  # Sharpe ratio of the winner where it was chosen         [per bar]
    out_of_sample: np.ndarray  # and on the other bars                              [per bar]
    slope: float  # of a line through out_of_sample over in_sample; NaN where in_sample does not vary
    probability_of_loss: float  # share of the splits with out_of_sample below 0    [probability]


def probability_of_backtest_overfitting(returns: Any, *, n_blocks: int = 16) -> Overfitting:
    """How often the trial that is best on half of the bars is below the median on the other half.

    The bars are cut into `n_blocks` blocks, and every choice of half of them is one split (combinatorially symmetric
    cross-validation). Noise scatters around one half, by 0.2 from one data set to the next: a low value supports a
    strategy, and does not prove it.

    Parameters
    ----------
    returns : DataFrame or array-like of float, shape (n_bars, n_trials)
        Simple return of each bar and trial, two trials at least. [fraction]
    n_blocks : int, default 16
        Even, 2 to 20; 16 give 12,870 splits. The last n_bars % n_blocks bars are left out. [blocks]

    Returns
    -------
    Overfitting
        A logit below 0 counts as overfit, 0 does not.

    Raises
    ------
    ParameterError
        If `returns` is not two-dimensional, or holds NaN or infinity; for fewer than two trials or two bars a block;
        if `n_blocks` is odd or out of its bounds.

    Notes
    -----
    Trials rank by Sharpe ratio, 0 where returns do not vary. Trials that rank alike outside have their mean rank; of
    trials that are tied for the best, the mean of their Sharpe ratios outside is ranked.

    References
    ----------
    D. H. Bailey, J. M. Borwein, M. Lopez de Prado, Q. J. Zhu, "The Probability of Backtest Overfitting", J.
    Computational Finance 20(4), 2017, pp. 39-69.
    """
    values = _numbers("returns", returns, 2)
    n_bars, n_trials = values.shape
    check_blocks(n_blocks, n_bars, n_trials)
    length = n_bars // n_blocks
    largest = np.abs(values).max(axis=0)
    blocks = (values / np.where(largest, largest, 1.0))[: length * n_blocks].reshape(n_blocks, length, n_trials)
    return pbo_of_sums(np.full(n_blocks, length), blocks.sum(axis=1), np.einsum("btk,btk->bk", blocks, blocks))


def pbo_of_sums(n: np.ndarray, sums: np.ndarray, squares: np.ndarray) -> Overfitting:
    """`probability_of_backtest_overfitting` from the sums over each block, which a sweep can have without the returns.

    n        int[n_blocks]                bars, `check_blocks` has passed them       [bars]
    sums     float64[n_blocks, n_trials]  sum of r                                   [fraction]
    squares  float64[n_blocks, n_trials]  sum of r**2, exact to 1e-13 of itself: of a flat trial exactly 0

    Time is O(n_splits * n_trials); memory beyond the arguments O(n_splits + n_trials).
    """
    n_blocks, n_trials = sums.shape
    chosen = np.zeros((math.comb(n_blocks, n_blocks // 2) // 2, n_blocks), dtype=np.bool_)
    halves = itertools.combinations(range(1, n_blocks), n_blocks // 2 - 1)
    for row, others in zip(chosen, halves, strict=True):  # those with the first block; the kernel takes the other side
        row[[0, *others]] = True
    arrays = (np.ascontiguousarray(each, dtype=float) for each in (n, sums, squares))
    inside, outside, rank = _winners(chosen, *arrays)
    logits = np.log(rank / (n_trials + 1 - rank))
    around = inside - inside.mean()
    slope = around @ outside / (around @ around) if np.ptp(inside) > EQUAL else NAN
    pbo, loss = float((logits < 0.0).mean()), float((outside < 0.0).mean())
    return Overfitting(pbo, n_trials, logits.size, logits, inside, outside, float(slope), loss)


def check_blocks(n_blocks: Any, n_bars: int, n_trials: int) -> None:
    """ParameterError unless so many trials and bars can be split into so many blocks."""
    if _whole("n_blocks", n_blocks, 2, MOST_BLOCKS) % 2:
        raise ParameterError(f"n_blocks must be even, got {n_blocks}")
    if n_trials < 2:
        raise ParameterError(f"returns must have two trials at least, one a column, got {n_trials}")
    if n_bars < 2 * n_blocks:
        raise ParameterError(
            f"returns must have two bars a block, {2 * n_blocks} for n_blocks={n_blocks}, got {n_bars}"
        )


@compiled
def _winners(chosen, n, sums, squares):
    """The best trial of each half: its Sharpe ratio there and on the other half, and its rank on the other half.

    chosen   bool[n_pairs, n_blocks]      one half; its complement is the other
    n        float64[n_blocks]            bars
    sums, squares  float64[n_blocks, n_trials]
    returns  three float64[2 * n_pairs], the winners of the chosen halves first
    """
    n_pairs, n_trials = chosen.shape[0], sums.shape[1]
    inside, outside, rank = np.empty(2 * n_pairs), np.empty(2 * n_pairs), np.empty(2 * n_pairs)
    total, square = np.empty(n_trials), np.empty(n_trials)
    ours, theirs = np.empty(n_trials), np.empty(n_trials)
    for pair in range(n_pairs):
        _sharpes(chosen[pair], n, sums, squares, total, square, ours)
        _sharpes(~chosen[pair], n, sums, squares, total, square, theirs)
        inside[pair], outside[pair], rank[pair] = _winner(ours, theirs)
        other = n_pairs + pair
        inside[other], outside[other], rank[other] = _winner(theirs, ours)
    return inside, outside, rank


@compiled
def _sharpes(chosen, n, sums, squares, total, square, sharpe):
    """Sharpe ratio (ddof 1) of each trial over the chosen blocks into `sharpe`, 0 where the returns do not vary.

    The sums are always added anew: what is left after adding and taking away would pass for a variance.
    """
    bars = 0.0
    total[:] = 0.0
    square[:] = 0.0
    for block in range(n.size):
        if chosen[block]:
            bars += n[block]
            for k in range(total.size):
                total[k] += sums[block, k]
                square[k] += squares[block, k]
    for k in range(total.size):
        around = square[k] - total[k] * total[k] / bars
        varies = around > NO_VARIANCE * square[k]
        sharpe[k] = total[k] / bars / math.sqrt(around / (bars - 1.0)) if varies else 0.0


@compiled
def _winner(ours, theirs):
    """Highest of `ours`; the mean of `theirs` over the trials that have it; how that mean ranks in `theirs`, from 1."""
    best = ours.max()
    total, n_best = 0.0, 0
    for k in range(ours.size):
        if ours[k] >= best - EQUAL:
            total += theirs[k]
            n_best += 1
    earned = total / n_best
    below = tied = 0
    for k in range(theirs.size):
        below += theirs[k] < earned - EQUAL
        tied += theirs[k] <= earned + EQUAL
    return best, earned, below + (tied - below + 1) / 2.0


# ---- reality check ---------------------------------------------------------------------------------------------------


class RealityCheck(NamedTuple):
    """Whether the best of all trials beats the benchmark by more than luck explains."""

    pvalue: float  # Hansen's consistent one                                                        [probability]
    pvalue_lower: float  # as if every trial worse than the benchmark were far worse                [probability]
    pvalue_upper: float  # as if every trial were as good as the benchmark (White's reality check)  [probability]
    statistic: float  # largest mean excess / its standard error, at least 0                        [ratio]
    best: Any  # the trial that has it: its column, or place; None if none varies
    n_trials: int
    n_boot: int
    block_length: float  # mean length of the resampled blocks                                      [bars]


def reality_check(returns: Any, *, benchmark: Any = None, n_boot: int = 1000, seed: int = 0) -> RealityCheck:
    """Test of superior predictive ability: the best trial against a benchmark, all trials taken into account.

    Parameters
    ----------
    returns : DataFrame or array-like of float, shape (n_bars, n_trials)
        Simple return of each bar and trial. [fraction]
    benchmark : array-like of float, shape (n_bars,), optional
        Returns to beat, such as those of buying and holding; 0 on every bar, which is cash, if not given. [fraction]
    n_boot : int, default 1000
        Resamples, 1 to 100,000. [count]
    seed : int, default 0
        Of the resamples.

    Returns
    -------
    RealityCheck
        P-values are (1 + resamples at or above the statistic) / (1 + n_boot), so never 0.

    Raises
    ------
    ParameterError
        If `returns` is not two-dimensional, `benchmark` not one value a bar, or one holds NaN or infinity; for fewer
        than two bars; if `n_boot` or `seed` is no whole number within its bounds.

    Notes
    -----
    Studentised, with the stationary bootstrap: the standard error of a trial is the one that the bootstrap implies. The
    block length is that of `optimal_block_length` for the mean of all trials less the benchmark, one for all, as
    resamples must keep the trials together. A trial that moves as the benchmark does counts, and can not win.

    At 5 % it rejects 4 to 6 % of pure noise, and 8 to 11 % where every trial has an autocorrelation of 0.2.

    References
    ----------
    P. R. Hansen, "A Test for Superior Predictive Ability", J. Business & Economic Statistics 23(4), 2005, pp. 365-380.
    H. White, "A Reality Check for Data Snooping", Econometrica 68(5), 2000, pp. 1097-1126.
    """
    values = _numbers("returns", returns, 2)
    n_bars, n_trials = values.shape
    if n_bars < 2 or n_trials < 1:
        raise ParameterError(f"returns must have two bars and one trial at least, got shape {values.shape}")
    rival = np.zeros(n_bars) if benchmark is None else _numbers("benchmark", benchmark, 1)
    if rival.size != n_bars:
        raise ParameterError(f"benchmark must have one return for each of the {n_bars} bars, got {rival.size}")
    length = optimal_block_length(average_trial([values.T]).returns - rival)
    check = reality_check_of([values.T], n_bars=n_bars, block_length=length, benchmark=rival, n_boot=n_boot, seed=seed)
    named = isinstance(returns, pd.DataFrame) and check.best is not None
    return check._replace(best=returns.columns[check.best]) if named else check


def reality_check_of(
    chunks: Iterable[np.ndarray],
    *,
    n_bars: int,
    block_length: float,
    benchmark: np.ndarray | None = None,
    n_boot: int = 1000,
    seed: int = 0,
) -> RealityCheck:
    """`reality_check` of trials that come in chunks, in one pass; `best` is the place of a trial in all of them.

    chunks        float64[n_trials_of_the_chunk, n_bars]  returns, finite; the result does not depend on the cuts
    block_length  `optimal_block_length(average_trial(chunks).returns - benchmark)`, or what is known of the bars
    benchmark     float64[n_bars], finite; None for 0                                       [fraction]

    Time is O(n_trials * n_bars * n_boot), as a matrix product; memory beyond a chunk is 2 bytes * n_bars * n_boot, and
    some times 2 kB * n_boot or 32 MB.
    """
    counts = _counts(n_bars, block_length, _whole("n_boot", n_boot, 1, 100_000), _whole("seed", seed, 0))
    weights = _variance_weights(n_bars, block_length)
    bound = -math.sqrt(2.0 * max(math.log(math.log(n_bars)), 0.0))  # below it a trial is surely worse
    highest = np.zeros((3, n_boot))  # of each resample: lower, consistent, upper
    statistic, best, n_trials = -math.inf, None, 0
    for trials in _pieces(chunks):
        excess = trials if benchmark is None else trials - benchmark
        places = np.flatnonzero(np.ptp(excess, axis=1) > ROUNDING)
        if places.size:
            mean = excess[places].mean(axis=1)
            centred = excess[places] - mean[:, None]
            error = np.sqrt(_power(centred) @ weights)
            ratio = math.sqrt(n_bars) * mean / error
            if ratio.max() > statistic:
                statistic, best = float(ratio.max()), n_trials + int(places[ratio.argmax()])
            drawn = _products(counts, centred) / (math.sqrt(n_bars) * error)
            for row, kept in enumerate((ratio < 0.0, ratio < bound, np.zeros(ratio.size, dtype=bool))):
                np.maximum(highest[row], (drawn + np.where(kept, ratio, 0.0)).max(axis=1), out=highest[row])
        n_trials += len(trials)
    statistic = max(statistic, 0.0)
    lower, consistent, upper = ((1.0 + (highest >= statistic).sum(axis=1)) / (1.0 + n_boot)).tolist()
    return RealityCheck(consistent, lower, upper, statistic, best, n_trials, n_boot, float(block_length))


class AverageTrial(NamedTuple):
    """What all trials together are like."""

    n_trials: int
    returns: np.ndarray  # mean return of the trials on each bar, float64[n_bars]               [fraction]
    correlation: float  # mean correlation of two trials that vary; 1.0 where fewer than two do  [ratio]


def average_trial(chunks: Iterable[np.ndarray]) -> AverageTrial:
    """The mean trial and the mean correlation of trials that come in chunks, float64[..., n_bars], in one pass."""
    total, together, n_trials, n_vary = np.zeros(1), np.zeros(1), 0, 0
    for trials in _pieces(chunks):
        total = total + trials.sum(axis=0)
        varying = trials[np.ptp(trials, axis=1) > ROUNDING]
        centred = varying - varying.mean(axis=1, keepdims=True)
        together = together + (centred / np.sqrt((centred * centred).sum(axis=1, keepdims=True))).sum(axis=0)
        n_trials, n_vary = n_trials + len(trials), n_vary + len(varying)
    correlation = (together @ together - n_vary) / (n_vary * (n_vary - 1)) if n_vary > 1 else 1.0
    return AverageTrial(n_trials, total / n_trials, min(max(float(correlation), -1.0), 1.0))


def _pieces(chunks: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """The chunks in pieces of few trials, each trial in one stretch of memory, so that it is summed one way."""
    for chunk in chunks:
        step = min(MOST_TRIALS, max(1, CELLS // chunk.shape[1]))
        for first in range(0, len(chunk), step):
            yield np.ascontiguousarray(chunk[first : first + step], dtype=float)


def _counts(n_bars: int, length: float, n_boot: int, seed: int) -> np.ndarray:
    """How often each resample holds each bar, uint16[n_boot, n_bars]."""
    counts = np.empty((n_boot, n_bars), dtype=np.uint16)
    row = 0
    for places in _resamples(n_bars, length, n_boot, seed):
        cells = places + n_bars * np.arange(len(places))[:, None]
        counts[row : row + len(places)] = np.bincount(cells.ravel(), minlength=cells.size).reshape(cells.shape)
        row += len(places)
    return counts


def _products(counts: np.ndarray, trials: np.ndarray) -> np.ndarray:
    """Sum of each trial over each resample, float64[n_boot, n_trials]; the counts become floats some bars at a time."""
    total = np.zeros((len(counts), len(trials)))
    step = max(1, CELLS // len(counts))
    for first in range(0, counts.shape[1], step):
        bars = slice(first, first + step)
        total += counts[:, bars].astype(float) @ trials[:, bars].T
    return total


def _power(centred: np.ndarray) -> np.ndarray:
    spectrum = np.fft.rfft(centred, axis=1)
    return spectrum.real**2 + spectrum.imag**2


def _variance_weights(n_bars: int, length: float) -> np.ndarray:
    """Weights of the power of a line in the variance of sqrt(n_bars) * the mean of a resample of it.

    That variance is a sum of circular autocovariances, each weighted by the chance that a resample keeps such a pair of
    bars together (D. N. Politis, J. P. Romano, "The Stationary Bootstrap", JASA 89, 1994, pp. 1303-1313, lemma 1).
    """
    lag = np.arange(n_bars) / n_bars
    stays = (1.0 - 1.0 / length) ** np.arange(n_bars)
    kept = (1.0 - lag) * stays
    kept[1:] += kept[:0:-1]
    weights = np.fft.rfft(kept).real
    weights[1 : (n_bars + 1) // 2] *= 2.0  # a frequency and its mirror image
    return weights / n_bars**2


# ---- bootstrap intervals ---------------------------------------------------------------------------------------------


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
    "annual_volatility": Statistic(_with_square, _log_std, lambda v, n, a: math.exp(v) * math.sqrt(a * n / (n - 1))),
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
    prewhitened quadratic spectral kernel (O. Ledoit, M. Wolf, "Robust Performance Hypothesis Testing with the Sharpe
    Ratio", J. Empirical Finance 15(5), 2008, pp. 850-859). The block length is `optimal_block_length` of what each bar
    adds to the metric. It needs a fourth moment for the Sharpe ratio and more for the volatility: where volatility
    itself comes in long waves, its interval is too narrow.

    A drawdown is no such mean: its interval holds the drawdowns of `level` of the histories that the same returns
    could have made, in blocks, in another order.

    References
    ----------
    D. N. Politis, J. P. Romano, "The Stationary Bootstrap", JASA 89, 1994, pp. 1303-1313.
    """
    values = _numbers("returns", returns, 1)
    if metric not in (known := (*STATISTICS, "max_drawdown")):
        raise ParameterError(f"unknown metric {shown(metric)}{did_you_mean(str(metric), known)}")
    if metric in COMPOUNDED and values.size and values.min() <= -1.0:
        raise ParameterError(f"returns must be above -1 to be compounded for {metric}, got {values.min()}")
    share = _number("level", level, "above 0 and below 1", lambda p: 0.0 < p < 1.0)
    periods = _number("periods_per_year", periods_per_year, "above 0", lambda a: a > 0.0)
    draws, seed = _whole("n_boot", n_boot, 1, 100_000), _whole("seed", seed, 0)
    if values.size < FEWEST_BARS or not line(values).varies:
        return Interval(NAN, NAN)
    tails = [(1.0 - share) / 2.0, (1.0 + share) / 2.0]
    if metric == "max_drawdown":
        resamples = _resamples(values.size, optimal_block_length(values), draws, seed)
        low, high = np.quantile(np.concatenate([_deepest(values[places]) for places in resamples]), tails)
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
    checked = _numbers("values", values, 1)
    n = checked.size
    if n < 2:
        raise ParameterError(f"values must be two at least, got {n}")
    if not line(checked).varies:
        return 1.0
    run = 5  # the paper's max(5, sqrt(log10 n))
    most = min(math.ceil(math.sqrt(n)) + run, n - 1)
    covariance = _autocovariances(checked)[: most + 1]
    small = np.abs(covariance / covariance[0]) < 2.0 * math.sqrt(math.log10(n) / n)
    quiet = next((lag for lag in range(1, most - run + 1) if small[lag : lag + run].all()), most)
    lag = np.arange(1, min(2 * quiet, most) + 1)
    windowed = np.minimum(1.0, 2.0 * (1.0 - lag / lag[-1])) * covariance[lag]
    spread, long_run = 2.0 * (lag * windowed).sum(), covariance[0] + 2.0 * windowed.sum()
    longest = math.ceil(min(3.0 * math.sqrt(n), n / 3.0))
    length = math.cbrt((spread / long_run) ** 2 * n) if long_run else longest
    return float(min(max(length, 1.0), longest))


def _resamples(n_bars: int, length: float, n_boot: int, seed: int) -> Iterator[np.ndarray]:
    """Places of the bars of `n_boot` resamples of the stationary bootstrap, int64[some, n_bars] at a time."""
    rng, rows = np.random.default_rng(seed), max(1, CELLS // 16 // n_bars)
    for first in range(0, n_boot, rows):
        yield _places(rng.random((min(rows, n_boot - first), n_bars)), length)


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
        error = math.sqrt(_long_run_variance(added) / n_bars)
        resamples = _resamples(n_bars, optimal_block_length(added), n_boot, seed)
        first, second, *products = np.concatenate([_block_products(lines, places) for places in resamples]).T
        drawn, a, b = value(first, second)
        variance = a * a * products[0] + 2.0 * a * b * products[1] + b * b * products[2]
        ratio = (drawn - centre) * n_bars / np.sqrt(variance)
    ratio = ratio[np.isfinite(ratio)]
    if not ratio.size:
        return NAN, NAN
    low, high = np.quantile(ratio, tails)
    return centre - high * error, centre - low * error


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


def _long_run_variance(values: np.ndarray) -> float:
    """Variance of sqrt(n) * the mean of dependent values.

    A quadratic spectral kernel with automatic bandwidth, after an AR(1) is taken out (D. W. K. Andrews, J. C. Monahan,
    "An Improved HAC Covariance Matrix Estimator", Econometrica 60(4), 1992, pp. 953-966).
    """
    centred = values - values.mean()
    slope = _persistence(centred)
    rest = centred[1:] - slope * centred[:-1]
    covariance, left = _autocovariances(rest), _persistence(rest)
    bandwidth = 1.3221 * (4.0 * left**2 / (1.0 - left) ** 4 * rest.size) ** 0.2
    if bandwidth == 0.0:
        return float(covariance[0] / (1.0 - slope) ** 2)
    angle = 1.2 * math.pi * np.arange(1, rest.size) / bandwidth
    weights = 3.0 / angle**2 * (np.sin(angle) / angle - np.cos(angle))
    return float((covariance[0] + 2.0 * weights @ covariance[1:]) / (1.0 - slope) ** 2)


def _persistence(values: np.ndarray) -> float:
    """Slope of a value on the one before, kept away from 1."""
    square = float(values[:-1] @ values[:-1])
    return min(max(float(values[1:] @ values[:-1]) / square, -0.97), 0.97) if square else 0.0


def _autocovariances(values: np.ndarray) -> np.ndarray:
    """sum over t of (v[t] - mean) * (v[t + lag] - mean) / n for every lag from 0 to n - 1."""
    n = values.size
    spectrum = np.fft.rfft(values - values.mean(), 2 * n)
    return np.fft.irfft(spectrum.real**2 + spectrum.imag**2, 2 * n)[:n] / n


def _deepest(returns: np.ndarray) -> np.ndarray:
    """Deepest drawdown of each row of returns, the start included."""
    equity = np.cumprod(1.0 + returns, axis=1)
    return (equity / np.maximum(np.maximum.accumulate(equity, axis=1), 1.0)).min(axis=1, initial=1.0) - 1.0


def _growth(log_growth: float) -> float:
    return math.expm1(log_growth) if log_growth < math.log(LARGEST_RATIO) else NAN


# ---- arguments and small formulas ------------------------------------------------------------------------------------


def _number(name: str, value: Any, needed: str, holds: Callable[[float], bool]) -> float:
    number = float_of(value)
    if not (math.isfinite(number) and holds(number)):
        raise ParameterError(f"{name} must be {needed}, got {shown(value)}")
    return number


def _whole(name: str, value: Any, least: int, most: float = math.inf) -> int:
    if not isinstance(value, (int, np.integer)) or isinstance(value, bool) or not least <= value <= most:
        bounds = f"{least:,} or more" if most == math.inf else f"{least:,} to {most:,}"
        raise ParameterError(f"{name} must be a whole number, {bounds}, got {shown(value)}")
    return int(value)


def _numbers(name: str, values: Any, n_axes: int) -> np.ndarray:
    """Finite floats in one or two dimensions, or ParameterError naming the first that is none."""
    shape = "one-dimensional" if n_axes == 1 else "two-dimensional, bars by trials,"
    try:
        checked = np.asarray(values, dtype=float)
    except (TypeError, ValueError):
        raise ParameterError(f"{name} must be {shape} and numbers, got {shown(values)}") from None
    if checked.ndim != n_axes:
        raise ParameterError(f"{name} must be {shape} and finite, got shape {checked.shape}")
    bad = np.argwhere(~np.isfinite(checked))
    if bad.size:
        place = tuple(bad[0].tolist())
        raise ParameterError(f"{name} must be {shape} and finite, got {checked[place]} at {', '.join(map(str, place))}")
    return checked


def _sharpe_ratio(name: str, value: Any) -> float:
    return _number(name, value, f"a Sharpe ratio, at most {LARGEST_RATIO:,.0f}", lambda s: abs(s) <= LARGEST_RATIO)


def _trials(n_trials: Any) -> float:
    return _number("n_trials", n_trials, "a number of trials, 1 at least", lambda n: n >= 1.0)


def _sharpe_variance(sharpe: float, skew: Any, kurtosis: Any) -> float:
    """Variance of an estimated Sharpe ratio times (n - 1); no moments make it negative."""
    third = _number("skew", skew, "at most 1,000,000 either way", lambda g: abs(g) <= LARGEST_RATIO)
    least = third * third + 1.0
    needed = f"plain, not in excess of 3, and so at least skew**2 + 1 = {least:g}"
    fourth = _number("kurtosis", kurtosis, needed, lambda g: g >= least * (1.0 - EQUAL))
    return max(1.0 - third * sharpe + (fourth - 1.0) / 4.0 * sharpe * sharpe, 0.0)


def _expected_maximum(n_trials: Any) -> float:
    """Of so many standard normal numbers, approximately."""
    n = _trials(n_trials)
    if n == 1.0:
        return 0.0
    often, rarely = -NORMAL.inv_cdf(1.0 / n), -NORMAL.inv_cdf(1.0 / (n * math.e))
    return max((1.0 - np.euler_gamma) * often + np.euler_gamma * rarely, 0.0)


def _square_ratio(numerator: float, denominator: float) -> float:
    """(numerator / denominator)**2, infinite where that leaves the range of floats."""
    ratio = numerator / denominator
    return ratio * ratio
