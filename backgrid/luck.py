"""What the winner of a sweep is worth once it is known how many were tried."""

import html
import math
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from backgrid import metrics
from backgrid._sums import bar_sums
from backgrid.bootstrap import Interval, bootstrap_ci
from backgrid.metrics import LARGEST_RATIO, NAN, ROUNDING, Line, format_value, line
from backgrid.overfit import (
    MEMORY,
    CrossValidation,
    MeanLength,
    Overfitting,
    RealityCheck,
    RealityTest,
    deflated_sharpe_ratio,
    effective_trials,
    expected_maximum_sharpe,
    minimum_backtest_length,
    minimum_track_record_length,
    pieces,
    probabilistic_sharpe_ratio,
)

Chunks = Callable[[], Iterable[np.ndarray]]


class Luck(NamedTuple):
    """What the winner of a sweep is worth. Sharpe ratios are annual unless they say otherwise.

    A deflated Sharpe ratio is the probability that the true Sharpe ratio is above what luck alone would give the best
    of n trials. That threshold depends on n and on how much the Sharpe ratios of trials without skill vary, and so
    there are three of them, each beside its threshold.
    """

    winner: dict[str, Any]  # parameters of the highest Sharpe ratio
    sharpe: float
    interval: Interval  # 95 % of the Sharpe ratio, by the bootstrap, as if only this one had been tried
    n_trials: float  # that the Sharpe ratio is deflated by
    correlation: float  # mean correlation of two trials that vary; 1.0 where fewer than two do
    n_effective: float  # trials that differ, r + (1 - r) * n_trials
    psr: float  # probability that the true Sharpe ratio is above 0, as if only this one had been tried
    luckiest: float  # what luck gives the best of n_trials by the variance of chance, 1 / (n_bars - 1) per bar
    dsr_sampling: float  # probability that the true Sharpe ratio is above that: severe where trials are alike
    luckiest_effective: float  # what it gives the best of n_effective by that variance
    dsr_effective: float  # probability of being above that
    luckiest_observed: float  # what it gives the best of n_trials by the variance of the trials' Sharpe ratios
    dsr: float  # probability of being above that: flatters a dense grid, is stricter where trials differ in skill
    beta: float  # of the winner to holding, by least squares of the returns above cash; NaN where holding does not vary
    timing: float  # alpha / standard deviation of what beta leaves: the appraisal ratio; NaN where nothing is left
    dsr_timing: float  # probability that the true appraisal ratio is above `luckiest`
    minimum_track_record: float  # bars that the winner needs to be above 0 with 95 % confidence    [bars]
    minimum_backtest: float  # years below which such a Sharpe ratio is expected of luck           [years]
    overfitting: Overfitting | None  # cross-validation; None for one trial, or too few bars
    against_cash: RealityCheck
    against_holding: RealityCheck

    @property
    def pbo(self) -> float:
        """Probability of backtest overfitting, NaN where there is none."""
        return self.overfitting.pbo if self.overfitting else NAN

    def table(self) -> pd.DataFrame:
        """One row a number: value as text, and what it says."""
        sharpe, share, whole = "ratio", "probability", "count"
        alone, tried = "as if only this one had been tried", _trials(self.n_trials)
        luck = f"above {_ratio(self.luckiest)}, what luck alone would give the best of {tried}"
        same = f"above {_ratio(self.luckiest_effective)}, the same for {_trials(self.n_effective)} that differ"
        observed = f"above {_ratio(self.luckiest_observed)}, by how these vary: {self._caveat()}"
        differ = f"their mean correlation is {_ratio(self.correlation)}"
        if self.n_trials <= 1:
            luck = same = observed = f"above {_ratio(self.luckiest)}, as nothing else was tried"
            differ = "there is one"
        rows = [
            ("Sharpe of the winner", self.sharpe, sharpe, _named(self.winner)),
            ("95 % interval, low", self.interval.low, sharpe, alone),
            ("95 % interval, high", self.interval.high, sharpe, alone),
            ("Trials", self.n_trials, whole, "what the Sharpe ratio is deflated by"),
            ("Trials that differ", self.n_effective, whole, differ),
            ("Probabilistic Sharpe", self.psr, share, f"that the true Sharpe is above 0, {alone}"),
            ("Deflated Sharpe", self.dsr_sampling, share, f"that the true Sharpe is {luck}"),
            ("Deflated, trials that differ", self.dsr_effective, share, f"that it is {same}"),
            ("Deflated, variance of trials", self.dsr, share, f"that it is {observed}"),
            ("Timing only", self.timing, sharpe, f"Sharpe of the winner less {_ratio(self.beta)} of holding, its beta"),
            ("Timing only, deflated", self.dsr_timing, share, f"that the true one is {luck}"),
            ("Overfitting (PBO)", self.pbo, share, "best on half of the bars, below the median on the rest; noisy"),
            ("Reality check, cash", self.against_cash.pvalue, share, "p-value: no trial beats cash"),
            ("Reality check, holding", self.against_holding.pvalue, share, "p-value: no trial beats holding"),
            ("Shortest track record", self.minimum_track_record, "bars", "for a Sharpe above 0 with 95 % confidence"),
            ("Shortest backtest", self.minimum_backtest, "years", "below it luck alone is expected to do as well"),
        ]
        shown = [(label, _shown(value, unit), meaning) for label, value, unit, meaning in rows]
        return pd.DataFrame(shown, columns=["", "value", "meaning"]).set_index("")

    def _caveat(self) -> str:
        """Which way the variance of the trials moves the threshold."""
        if abs(self.luckiest_observed - self.luckiest) < 0.1 * self.luckiest:
            return "much as by chance"
        if self.luckiest_observed < self.luckiest:
            return "less than by chance, which flatters a dense grid"
        return "more than by chance, which is stricter"

    def __repr__(self) -> str:
        return f"<Luck of {_named(self.winner)}, {_trials(self.n_trials)}>\n{self.table().to_string()}"

    def _repr_html_(self) -> str:
        among = f"the best of {_trials(self.n_trials)}" if self.n_trials > 1 else "the only trial"
        head = f"Sharpe {_ratio(self.sharpe)} for {_named(self.winner)}, {among}"
        return f"<p>{html.escape(head)}</p>{self.table().to_html(notebook=True)}"


def measure_luck(
    chunks: Chunks,
    *,
    n_bars: int,
    winner: dict[str, Any],
    place: int,
    benchmark: np.ndarray,
    cash: float,
    periods_per_year: float,
    n_trials: int | None = None,
    n_blocks: int = 16,
    n_boot: int = 1000,
    seed: int = 0,
    memory: float = 2 * MEMORY,
) -> Luck:
    """Every statistic of luck, from trials that are handed over in chunks, in two passes.

    chunks     function that begins anew: float64[n_trials_of_the_chunk, n_bars]  returns     [fraction]
    n_bars     returns of each trial, 2 at least                                              [bars]
    place      which trial the winner is; its returns vary
    benchmark  float64[n_bars]  returns of holding                                            [fraction]
    cash       return of cash                                                                 [fraction a bar]
    n_trials   what to deflate by, those of the chunks if not given                           [trials]
    memory     what it may take beyond two copies of a chunk                                  [bytes]
    """
    survey = _Survey(place, cash, benchmark, n_blocks)
    for chunk in chunks():
        for trials in pieces(chunk):
            survey.add(trials)
    draws: dict[str, Any] = {"n_boot": n_boot, "seed": seed, "memory": memory / 2}
    rivals = zip((np.full(n_bars, cash), benchmark), survey.lengths, strict=True)
    tests = [RealityTest(rival, block_length=length.result, **draws) for rival, length in rivals]
    for chunk in chunks():
        for trials in pieces(chunk, chunk.size):
            for test in tests:
                test.add(trials)
        for trials in pieces(chunk):
            survey.rank(trials)
    best, a_year, chance = survey.best, math.sqrt(periods_per_year), 1.0 / (n_bars - 1)
    tried = float(survey.n_trials if n_trials is None else n_trials)
    effective, variance = effective_trials(survey.correlation, tried), survey.variance
    (sharpe, known), (beta, timing) = _estimate(best), _without(benchmark - cash, best)
    alone, known_alone = _estimate(timing)
    by_chance: dict[str, float] = {"n_trials": tried, "variance": chance}
    return Luck(
        winner=winner,
        sharpe=sharpe * a_year,
        interval=bootstrap_ci(best, seed=seed, periods_per_year=periods_per_year),
        n_trials=tried,
        correlation=survey.correlation,
        n_effective=effective,
        psr=probabilistic_sharpe_ratio(sharpe, **known),
        luckiest=expected_maximum_sharpe(**by_chance) * a_year,
        dsr_sampling=deflated_sharpe_ratio(sharpe, **by_chance, **known),
        luckiest_effective=expected_maximum_sharpe(effective, variance=chance) * a_year,
        dsr_effective=deflated_sharpe_ratio(sharpe, n_trials=effective, variance=chance, **known),
        luckiest_observed=expected_maximum_sharpe(tried, variance=variance) * a_year,
        dsr=deflated_sharpe_ratio(sharpe, n_trials=tried, variance=variance, **known),
        beta=beta,
        timing=alone * a_year,
        dsr_timing=NAN if math.isnan(alone) else deflated_sharpe_ratio(alone, **by_chance, **known_alone),
        minimum_track_record=minimum_track_record_length(sharpe, skew=known["skew"], kurtosis=known["kurtosis"]),
        minimum_backtest=minimum_backtest_length(sharpe * a_year, n_trials=tried),
        overfitting=survey.validation.result() if survey.validation and survey.n_trials > 1 else None,
        against_cash=tests[0].result(),
        against_holding=tests[1].result(),
    )


class _Survey:
    """What passing over the trials tells of them all, by their returns above cash."""

    def __init__(self, place: int, cash: float, benchmark: np.ndarray, n_blocks: int) -> None:
        n_bars, self.place, self.cash, self.holding = benchmark.size, place, cash, benchmark - cash
        self.best, self.n_trials = np.zeros(n_bars), 0
        self.together, self.n_vary = np.zeros(n_bars), 0  # sum of the trials that vary, each of mean 0 and length 1
        self.mean, self.square = 0.0, 0.0  # of Sharpe ratios, sum of (s - mean)^2
        self.lengths = MeanLength(), MeanLength()  # against cash, against holding
        self.validation = CrossValidation(n_bars, n_blocks) if n_bars >= 2 * n_blocks else None

    def rank(self, trials: np.ndarray) -> None:
        """Take float64[., n_bars] once more."""
        if self.validation:
            self.validation.rank(trials - self.cash)

    def add(self, trials: np.ndarray) -> None:
        """Take float64[., n_bars]."""
        trials = trials - self.cash
        if self.n_trials <= self.place < self.n_trials + len(trials):
            self.best = trials[self.place - self.n_trials].copy()
        self.lengths[0].add(trials)
        self.lengths[1].add(trials - self.holding)
        if self.validation:
            self.validation.choose(trials)
        self._compare(trials)

    def _compare(self, trials: np.ndarray) -> None:
        """Sharpe ratios, and what the correlation is made of."""
        mean, varies = trials.mean(axis=1), np.ptp(trials, axis=1) > ROUNDING
        centred = trials[varies] - mean[varies, None]
        length = np.sqrt(np.einsum("kt,kt->k", centred, centred))
        self.together += (1.0 / length) @ centred
        self.n_vary += length.size
        sharpes = np.zeros(len(trials))
        sharpes[varies] = mean[varies] / length * math.sqrt(trials.shape[1] - 1)
        sharpes[np.abs(sharpes) > LARGEST_RATIO] = 0.0
        for sharpe in sharpes.tolist():
            self.n_trials += 1
            apart = sharpe - self.mean
            self.mean += apart / self.n_trials
            self.square += apart * (sharpe - self.mean)

    @property
    def variance(self) -> float:
        """Of the Sharpe ratios per bar, with ddof 1; 0 where returns do not vary, and of one trial."""
        return self.square / (self.n_trials - 1) if self.n_trials > 1 else 0.0

    @property
    def correlation(self) -> float:
        """Mean correlation of two trials that vary; 1.0 where fewer than two do."""
        if self.n_vary < 2:
            return 1.0
        found = (self.together @ self.together - self.n_vary) / (self.n_vary * (self.n_vary - 1))
        return min(max(float(found), -1.0), 1.0)


def _without(holding: np.ndarray, returns: np.ndarray) -> tuple[float, np.ndarray]:
    """Beta of returns to those of holding, both above cash, and what it leaves of them: alpha and the residuals.

    Their mean / standard deviation is the appraisal ratio (M. C. Jensen, "The Performance of Mutual Funds in the Period
    1945-1964", J. Finance 23(2), 1968, pp. 389-416; J. L. Treynor, F. Black, "How to Use Security Analysis to Improve
    Portfolio Selection", J. Business 46(1), 1973, pp. 66-86).
    """
    if not line(holding).varies:
        return NAN, np.zeros(returns.size)
    around = holding - holding.mean()
    beta = float(around @ returns / (around @ around))
    return beta, returns - beta * holding


def _estimate(returns: np.ndarray) -> tuple[float, dict[str, float]]:
    """Sharpe ratio per bar, NaN where returns do not vary, and what its error depends on."""
    sums = bar_sums(returns, returns, 0.0)
    one = Line(returns.size, sums.mean, sums.square, sums.spread)
    sharpe, skew = metrics.sharpe(one, 1.0), metrics.skew(one, sums)
    kurtosis = max(metrics.kurtosis(one, sums), skew * skew + 1.0)  # equal for two values, but for rounding
    return sharpe, {"n_obs": returns.size, "skew": skew, "kurtosis": kurtosis}


def _named(params: dict[str, Any]) -> str:
    return ", ".join(f"{name}={value}" for name, value in params.items())


def _trials(n: float) -> str:
    return f"{n:,.0f} trial{'' if round(n) == 1 else 's'}"


def _ratio(value: float) -> str:
    return format_value(value, "ratio")


def _shown(value: float, unit: str) -> str:
    if not math.isfinite(value):
        return "n/a"
    if unit == "probability":
        return f"{value:.3f}"
    if unit == "years":
        return f"{value:,.1f}\u00a0years"
    return format_value(math.ceil(value) if unit == "bars" else value, unit)
