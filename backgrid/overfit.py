"""The statistics of luck: what a Sharpe ratio is worth, given its length, its tails and how many were tried.

A Sharpe ratio here is per bar, mean / std, unless a docstring says a year; kurtosis is plain, 3 for a normal
distribution; a trial is one parameter combination tried. None of these numbers is a verdict by itself, and the
probability of backtest overfitting is a noisy one: on pure noise it scatters widely around one half.

A sweep holds more trials than memory: `CrossValidation` and `RealityTest` take them in chunks. The functions that take
a matrix of returns go through them.
"""

import itertools
import math
from collections.abc import Iterator
from statistics import NormalDist
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from backgrid._kernels import compiled
from backgrid.bootstrap import (
    MOST_DRAWS,
    NO_VARIANCE,
    block_length,
    check_number,
    check_numbers,
    check_whole,
    long_run_variance,
    resamples,
)
from backgrid.errors import ParameterError, did_you_mean, shown
from backgrid.metrics import LARGEST_RATIO, NAN, ROUNDING

NORMAL = NormalDist()
EQUAL = 1e-12  # Sharpe ratios no further apart are tied
MOST_BLOCKS = 20  # 184,756 splits
MOST_TRIALS = 512  # at a time
CELLS = 2**18  # numbers at a time: trials by bars
MEMORY = 2**28  # of a reality check [bytes]


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
    bars = check_number("n_obs", n_obs, "a number of bars, 2 at least", lambda n: n >= 2.0)
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
    return math.sqrt(check_number("variance", variance, "0 or more", lambda v: v >= 0.0)) * _expected_maximum(n_trials)


def deflated_sharpe_ratio(
    sharpe: float, *, n_obs: float, n_trials: float, variance: float, skew: float = 0.0, kurtosis: float = 3.0
) -> float:
    """Probability that the true Sharpe ratio is above what luck alone would give the best of `n_trials`.

    It is no p-value: of the best of 500 strategies without skill, 5 % reach 0.8, and hardly any 0.95. The Sharpe ratios
    of independent trials without skill have the variance 1 / (n_obs - 1). Neighbouring trials of a dense grid have
    nearly one, and their small variance flatters the winner (see `effective_trials`); where trials differ in skill,
    theirs is larger, and stricter.

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
    luck = min(expected_maximum_sharpe(n_trials, variance=variance), LARGEST_RATIO)
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
    level = check_number("confidence", confidence, "at least 0.5 and below 1", lambda c: 0.5 <= c < 1.0)
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
        Mean correlation between the returns of two trials (`Luck.correlation` has it); below 0 counts as 0. [ratio]
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
    alike = check_number("correlation", correlation, "between -1 and 1", lambda r: abs(r) <= 1.0 + ROUNDING)
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
    given = check_numbers("pvalues", pvalues, 1)
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
    values = check_numbers("returns", returns, 2)
    n_bars, n_trials = values.shape
    check_n_blocks(n_blocks)
    if n_trials < 2:
        raise ParameterError(f"returns must have two trials at least, one a column, got {n_trials}")
    if n_bars < 2 * n_blocks:
        raise ParameterError(
            f"returns must have two bars a block, {2 * n_blocks} for n_blocks={n_blocks}, got {n_bars}"
        )
    validation = CrossValidation(n_bars, n_blocks)
    for take in (validation.choose, validation.rank):
        for trials in pieces(values.T):
            take(trials)
    return validation.result()


def check_n_blocks(n_blocks: Any) -> None:
    """ParameterError unless bars can be cut into so many blocks."""
    if check_whole("n_blocks", n_blocks, 2, MOST_BLOCKS) % 2:
        raise ParameterError(f"n_blocks must be even, got {n_blocks}")


class CrossValidation:
    """`probability_of_backtest_overfitting` of trials that are handed over in chunks, and twice.

    All of them go to `choose`, then all of them to `rank`, each time as float64[., n_bars]; the result does not depend
    on the cuts. Memory beyond a chunk is that of the splits.
    """

    def __init__(self, n_bars: int, n_blocks: int) -> None:
        self.length = n_bars // n_blocks
        self.chosen = np.zeros((math.comb(n_blocks, n_blocks // 2) // 2, n_blocks), dtype=np.bool_)
        halves = itertools.combinations(range(1, n_blocks), n_blocks // 2 - 1)
        for row, others in zip(self.chosen, halves, strict=True):  # those with the first block; the kernels swap sides
            row[[0, *others]] = True
        sides = 2, len(self.chosen)
        self.best, self.earned = np.full(sides, -np.inf), np.zeros(sides)
        self.n_best, self.below, self.tied = (np.zeros(sides, dtype=np.int64) for _ in range(3))
        self.n_trials = 0

    def choose(self, trials: np.ndarray) -> None:
        """Find the best of each half."""
        self.n_trials += len(trials)
        _choose(self.chosen, *self._sums(trials), self.best, self.earned, self.n_best)

    def rank(self, trials: np.ndarray) -> None:
        """See where it stands on the other half."""
        _rank(self.chosen, *self._sums(trials), self.earned / self.n_best, self.below, self.tied)

    def _sums(self, trials: np.ndarray) -> tuple[int, np.ndarray, np.ndarray]:
        """Bars of a block; sums of the returns and of their squares over each block: float64[n_blocks, n_trials].

        A trial counts in units of its largest return: leverage is nothing to a Sharpe ratio.
        """
        n_blocks = self.chosen.shape[1]
        largest = np.abs(trials).max(axis=1, keepdims=True)
        scaled = trials[:, : self.length * n_blocks] / np.where(largest, largest, 1.0)
        blocks = scaled.reshape(len(trials), n_blocks, self.length)
        sums, squares = blocks.sum(axis=2).T, np.einsum("kbt,kbt->bk", blocks, blocks)
        return self.length, np.ascontiguousarray(sums), np.ascontiguousarray(squares)

    def result(self) -> Overfitting:
        inside, outside = self.best.ravel(), (self.earned / self.n_best).ravel()
        rank = (self.below + (self.tied - self.below + 1) / 2.0).ravel()
        logits = np.log(rank / (self.n_trials + 1 - rank))
        around = inside - inside.mean()
        slope = around @ outside / (around @ around) if np.ptp(inside) > EQUAL else NAN
        pbo, loss = float((logits < 0.0).mean()), float((outside < 0.0).mean())
        return Overfitting(pbo, self.n_trials, logits.size, logits, inside, outside, float(slope), loss)


@compiled
def _choose(chosen, length, sums, squares, best, earned, n_best):
    """Keep the best Sharpe ratio of each half, how many trials have it, and the sum of their ratios on the other half.

    chosen   bool[n_pairs, n_blocks]         one half; its complement is the other
    length   int                             bars of a block
    sums, squares  float64[n_blocks, n_trials]
    best, earned   float64[2, n_pairs]       changed; those of the chosen halves first
    n_best   int64[2, n_pairs]               changed
    """
    room = np.empty((4, sums.shape[1]))
    total, square, here, there = room[0], room[1], room[2], room[3]
    for pair in range(len(chosen)):
        _sharpes(chosen[pair], length, sums, squares, total, square, here)
        _sharpes(~chosen[pair], length, sums, squares, total, square, there)
        for side in range(2):
            ours, theirs = (there, here) if side else (here, there)
            top = best[side, pair]
            for k in range(ours.size):
                if ours[k] >= top - EQUAL:
                    if ours[k] > top + EQUAL:
                        earned[side, pair], n_best[side, pair] = 0.0, 0
                    earned[side, pair] += theirs[k]
                    n_best[side, pair] += 1
                    top = max(top, ours[k])
            best[side, pair] = top


@compiled
def _rank(chosen, length, sums, squares, earned, below, tied):
    """Count the trials that are below what the best of each half has earned on the other half, and those up to it.

    earned       float64[2, n_pairs]  mean Sharpe ratio of the best; the rest is as in `_choose`
    below, tied  int64[2, n_pairs]    changed
    """
    room = np.empty((4, sums.shape[1]))
    total, square, here, there = room[0], room[1], room[2], room[3]
    for pair in range(len(chosen)):
        _sharpes(chosen[pair], length, sums, squares, total, square, here)
        _sharpes(~chosen[pair], length, sums, squares, total, square, there)
        for side in range(2):
            theirs, low, high = here if side else there, earned[side, pair] - EQUAL, earned[side, pair] + EQUAL
            n_below = n_tied = 0
            for k in range(theirs.size):
                n_below += theirs[k] < low
                n_tied += theirs[k] <= high
            below[side, pair] += n_below
            tied[side, pair] += n_tied


@compiled
def _sharpes(chosen, length, sums, squares, total, square, sharpe):
    """Sharpe ratio (ddof 1) of each trial over the chosen blocks into `sharpe`, 0 where the returns do not vary.

    The sums are always added anew: what is left after adding and taking away would pass for a variance.
    """
    bars = 0.0
    total[:] = 0.0
    square[:] = 0.0
    for block in range(chosen.size):
        if chosen[block]:
            bars += length
            for k in range(total.size):
                total[k] += sums[block, k]
                square[k] += squares[block, k]
    for k in range(total.size):
        around = square[k] - total[k] * total[k] / bars
        varies = around > NO_VARIANCE * square[k]
        sharpe[k] = total[k] / bars / math.sqrt(around / (bars - 1.0)) if varies else 0.0


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
    Studentised, with the stationary bootstrap. The standard error of a trial is the larger of two: that which the
    bootstrap implies, and that of a prewhitened Parzen kernel. The block length is the mean of what
    `optimal_block_length` gives for each trial less the benchmark: one for all, as resamples must keep the trials
    together. (The length for the mean of the trials would miss what cancels in it, as a strategy and its opposite do.)
    A trial that moves as the benchmark does counts, and can not win.

    At 5 % it rejects 4 to 7 % of pure noise, 4 to 8 % where every trial has an autocorrelation of 0.2, and 6 to 9 %
    where that is 0.5: 2 to 500 trials on 250 to 1,000 bars, alike in part, or each with its opposite.

    References
    ----------
    P. R. Hansen, "A Test for Superior Predictive Ability", J. Business & Economic Statistics 23(4), 2005, pp. 365-380.
    H. White, "A Reality Check for Data Snooping", Econometrica 68(5), 2000, pp. 1097-1126.
    """
    values = check_numbers("returns", returns, 2)
    n_bars, n_trials = values.shape
    if n_bars < 2 or n_trials < 1:
        raise ParameterError(f"returns must have two bars and one trial at least, got shape {values.shape}")
    rival = np.zeros(n_bars) if benchmark is None else check_numbers("benchmark", benchmark, 1)
    if rival.size != n_bars:
        raise ParameterError(f"benchmark must have one return for each of the {n_bars} bars, got {rival.size}")
    check_draws(n_boot, seed)
    lengths = MeanLength()
    for trials in pieces(values.T):
        lengths.add(trials - rival)
    test = RealityTest(rival, block_length=lengths.result, n_boot=n_boot, seed=seed)
    for trials in pieces(values.T, test.cells):
        test.add(trials)
    check = test.result()
    named = isinstance(returns, pd.DataFrame) and check.best is not None
    return check._replace(best=returns.columns[check.best]) if named else check


def check_draws(n_boot: Any, seed: Any) -> None:
    """ParameterError unless both can be used."""
    check_whole("n_boot", n_boot, 1, MOST_DRAWS)
    check_whole("seed", seed, 0)


class MeanLength:
    """Mean over trials that come in chunks of the block length that suits each; 1.0 where none varies."""

    def __init__(self) -> None:
        self.total, self.n = 0.0, 0

    def add(self, excess: np.ndarray) -> None:
        for line in excess[np.ptp(excess, axis=1) > ROUNDING]:
            self.total, self.n = self.total + block_length(line), self.n + 1

    @property
    def result(self) -> float:
        return self.total / self.n if self.n else 1.0


class RealityTest:
    """`reality_check` of trials that come in chunks; `best` is the place of a trial in all of them.

    benchmark     float64[n_bars], finite                                         [fraction]
    block_length  `MeanLength` of the trials, or what is known of the bars        [bars]
    memory        what it may take beyond a copy of a chunk                       [bytes]

    The result depends neither on the cuts nor on the memory: resamples that have no room in it are drawn again for each
    chunk, of MOST_TRIALS at most. Time is O(n_trials * n_bars * n_boot), as a matrix product.
    """

    def __init__(
        self, benchmark: np.ndarray, *, block_length: float, n_boot: int = 1000, seed: int = 0, memory: float = MEMORY
    ) -> None:
        self.benchmark, self.block_length, self.n_boot, self.seed = benchmark, float(block_length), n_boot, seed
        n_bars, eighth = benchmark.size, int(memory) // 8
        self.weights = _variance_weights(n_bars, block_length)
        self.cells = max(eighth // 8, 1)
        self.step = max(min(2 * eighth // n_bars, eighth // (16 * MOST_TRIALS), n_boot), 1)  # resamples at a time
        self.starts = range(0, n_boot, self.step)
        self.kept = [self._counts(start) for start in self.starts] if n_boot * n_bars <= 5 * eighth else None
        self.highest = np.zeros((3, n_boot))  # of each resample: lower, consistent, upper
        self.statistic, self.n_trials = -math.inf, 0
        self.best: int | None = None

    def add(self, trials: np.ndarray) -> None:
        """Take float64[., n_bars], finite."""
        excess = trials - self.benchmark
        n_bars, varies = excess.shape[1], np.ptp(excess, axis=1) > ROUNDING
        mean = excess.mean(axis=1, keepdims=True)
        excess -= mean
        excess[~varies] = 0.0
        implied = np.concatenate([_power(piece) @ self.weights for piece in pieces(excess)])
        error = np.sqrt(np.maximum(implied, [long_run_variance(line) for line in excess]))
        ratio = np.where(varies, math.sqrt(n_bars) * mean[:, 0] / np.where(varies, error, 1.0), -np.inf)
        if ratio.max() > self.statistic:
            self.statistic, self.best = float(ratio.max()), self.n_trials + int(ratio.argmax())
        self.n_trials += len(trials)
        excess /= np.sqrt(n_bars * np.where(varies, implied, 1.0))[:, None]
        bound = -math.sqrt(2.0 * max(math.log(math.log(n_bars)), 0.0))  # below it a trial is surely worse
        shifts = [np.where(kept, ratio, 0.0) for kept in (ratio < 0.0, ratio < bound, ~varies)]
        for place, start in enumerate(self.starts):
            drawn = _products(self.kept[place] if self.kept else self._counts(start), excess, self.cells)
            for shift, highest in zip(shifts, self.highest[:, start : start + self.step], strict=True):
                np.maximum(highest, (drawn + shift).max(axis=1), out=highest)

    def _counts(self, start: int) -> np.ndarray:
        """How often some resamples hold each bar, uint8[., n_bars]: more than 255 times would take a wonder."""
        stop, n_bars = min(start + self.step, self.n_boot), self.benchmark.size
        counts, row = np.zeros((stop - start, n_bars), dtype=np.uint8), 0
        for places in resamples(n_bars, self.block_length, stop, self.seed, start):
            _count(places, counts[row : row + len(places)])
            row += len(places)
        return counts

    def result(self) -> RealityCheck:
        statistic = max(self.statistic, 0.0)
        above = (self.highest >= statistic - EQUAL).sum(axis=1)
        lower, consistent, upper = ((1.0 + above) / (1.0 + self.n_boot)).tolist()
        told = (self.best, self.n_trials, self.n_boot, self.block_length)
        return RealityCheck(consistent, lower, upper, statistic, *told)


def pieces(trials: np.ndarray, cells: int = CELLS) -> Iterator[np.ndarray]:
    """Some trials at a time, each in one stretch of memory, so that it is summed one way."""
    step = min(MOST_TRIALS, max(1, cells // trials.shape[1]))
    for first in range(0, len(trials), step):
        yield np.ascontiguousarray(trials[first : first + step], dtype=float)


@compiled
def _count(places, counts):
    """Add the places of each resample, int64[n_boot, n_bars], to its counts, uint8[n_boot, n_bars]."""
    for row in range(len(places)):
        for place in places[row]:
            counts[row, place] += 1


def _products(counts: np.ndarray, lines: np.ndarray, cells: int) -> np.ndarray:
    """Sum of each line over each resample, float64[n_boot, n_lines]; so many counts become floats at a time."""
    total = np.zeros((len(counts), len(lines)))
    step = max(1, cells // len(counts))
    for first in range(0, counts.shape[1], step):
        bars = slice(first, first + step)
        total += counts[:, bars].astype(float) @ lines[:, bars].T
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


# ---- arguments and small formulas ------------------------------------------------------------------------------------


def _sharpe_ratio(name: str, value: Any) -> float:
    return check_number(name, value, f"a Sharpe ratio, at most {LARGEST_RATIO:,.0f}", lambda s: abs(s) <= LARGEST_RATIO)


def _trials(n_trials: Any) -> float:
    return check_number("n_trials", n_trials, "a number of trials, 1 at least", lambda n: n >= 1.0)


def _sharpe_variance(sharpe: float, skew: Any, kurtosis: Any) -> float:
    """Variance of an estimated Sharpe ratio times (n - 1); no moments make it negative."""
    third = check_number("skew", skew, "at most 1,000,000 either way", lambda g: abs(g) <= LARGEST_RATIO)
    least = third * third + 1.0
    needed = f"plain, not in excess of 3, and so at least skew**2 + 1 = {least:g}"
    fourth = check_number("kurtosis", kurtosis, needed, lambda g: g >= least * (1.0 - EQUAL))
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
