"""What the winner of a sweep is worth once it is known how many were tried."""

import html
import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from backgrid import metrics
from backgrid._sums import bar_sums
from backgrid.metrics import Line, format_value, line
from backgrid.overfit import (
    Interval,
    Overfitting,
    RealityCheck,
    average_trial,
    bootstrap_ci,
    check_blocks,
    deflated_sharpe_ratio,
    effective_trials,
    expected_maximum_sharpe,
    minimum_backtest_length,
    minimum_track_record_length,
    optimal_block_length,
    pbo_of_sums,
    probabilistic_sharpe_ratio,
    reality_check_of,
)

Chunks = Callable[[], Iterator[np.ndarray]]


class Luck(NamedTuple):
    """What the winner of a sweep is worth. Sharpe ratios are annual unless they say otherwise."""

    winner: dict[str, Any]  # parameters of the highest Sharpe ratio
    sharpe: float
    interval: Interval  # 95 % of the Sharpe ratio, by the bootstrap, as if only this one had been tried
    n_trials: float  # that the Sharpe ratio is deflated by
    correlation: float  # mean correlation of two trials
    n_effective: float  # trials that differ, r + (1 - r) * n_trials
    luckiest: float  # Sharpe ratio that the best of n_trials without any skill is expected to have
    psr: float  # probability that the true Sharpe ratio is above 0, as if only this one had been tried
    dsr: float  # the same, deflated by n_trials and the variance of the trials' Sharpe ratios
    dsr_sampling: float  # with the variance 1 / (n_bars - 1) that chance alone gives each trial
    dsr_effective: float  # with that variance and n_effective
    minimum_track_record: float  # bars that the winner needs to be above 0 with 95 % confidence    [bars]
    minimum_backtest: float  # years below which such a Sharpe ratio is expected of luck           [years]
    overfitting: Overfitting | None  # cross-validation; None for one trial, or too few bars
    against_cash: RealityCheck
    against_holding: RealityCheck

    @property
    def pbo(self) -> float:
        """Probability of backtest overfitting, NaN where there is none."""
        return self.overfitting.pbo if self.overfitting else math.nan

    def table(self) -> pd.DataFrame:
        """One row a number: value as text, and what it says."""
        sharpe, share, whole = "ratio", "probability", "count"
        rows = [
            ("Sharpe of the winner", self.sharpe, sharpe, f"{_named(self.winner)}"),
            ("95 % interval, low", self.interval.low, sharpe, "as if only this one had been tried"),
            ("95 % interval, high", self.interval.high, sharpe, "as if only this one had been tried"),
            ("Trials", self.n_trials, whole, "what the Sharpe ratio is deflated by"),
            ("Trials that differ", self.n_effective, whole, f"their mean correlation is {self.correlation:.2f}"),
            ("Sharpe expected of luck", self.luckiest, sharpe, "of the best of so many without any skill"),
            ("Probabilistic Sharpe", self.psr, share, "above 0, as if only this one had been tried"),
            ("Deflated Sharpe", self.dsr, share, "by the variance of these trials: flatters a dense grid"),
            ("Deflated Sharpe, sampling", self.dsr_sampling, share, "by the variance of chance, all trials: severe"),
            ("Deflated Sharpe, effective", self.dsr_effective, share, "by the variance of chance, trials that differ"),
            ("Overfitting (PBO)", self.pbo, share, "best on half of the bars, below the median on the rest; noisy"),
            ("Reality check, cash", self.against_cash.pvalue, share, "p-value: no trial beats cash"),
            ("Reality check, holding", self.against_holding.pvalue, share, "p-value: no trial beats holding"),
            ("Shortest track record", self.minimum_track_record, "bars", "for a Sharpe above 0 with 95 % confidence"),
            ("Shortest backtest", self.minimum_backtest, "years", "below it luck alone is expected to do as well"),
        ]
        shown = [(label, _shown(value, unit), meaning) for label, value, unit, meaning in rows]
        return pd.DataFrame(shown, columns=["", "value", "meaning"]).set_index("")

    def __repr__(self) -> str:
        return f"<Luck of {_named(self.winner)}, {self.n_trials:,.0f} trials>\n{self.table().to_string()}"

    def _repr_html_(self) -> str:
        head = f"Sharpe {self.sharpe:.2f} for {_named(self.winner)}, the best of {self.n_trials:,.0f} trials"
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
) -> Luck:
    """Every statistic of luck, from trials that are handed over in chunks, in bounded memory.

    chunks     function that begins anew: float64[n_trials_of_the_chunk, n_bars]  returns     [fraction]
    n_bars     returns of each trial                                                          [bars]
    place      which trial the winner is
    benchmark  float64[n_bars]  returns of holding                                            [fraction]
    cash       return of cash                                                                 [fraction a bar]
    n_trials   what to deflate by, those of the chunks if not given                           [trials]
    """

    def excess() -> Iterator[np.ndarray]:
        return (chunk - cash for chunk in chunks())

    average, variance = average_trial(excess()), _variance_of_sharpes(excess())
    best = _trial(excess(), place)
    (sharpe,), (skew, kurtosis) = _sharpes(best[None, :]), _moments(best)
    tried = float(average.n_trials if n_trials is None else n_trials)
    known = {"n_obs": n_bars, "skew": skew, "kurtosis": kurtosis}
    chance = 1.0 / (n_bars - 1)
    effective = effective_trials(average.correlation, tried)
    a_year, holding = math.sqrt(periods_per_year), benchmark - cash
    draws: dict[str, Any] = {"n_bars": n_bars, "n_boot": n_boot, "seed": seed}
    return Luck(
        winner=winner,
        sharpe=sharpe * a_year,
        interval=bootstrap_ci(best, seed=seed, periods_per_year=periods_per_year),
        n_trials=tried,
        correlation=average.correlation,
        n_effective=effective,
        luckiest=expected_maximum_sharpe(tried, variance=chance) * a_year,
        psr=probabilistic_sharpe_ratio(sharpe, **known),
        dsr=deflated_sharpe_ratio(sharpe, n_trials=tried, variance=variance, **known),
        dsr_sampling=deflated_sharpe_ratio(sharpe, n_trials=tried, variance=chance, **known),
        dsr_effective=deflated_sharpe_ratio(sharpe, n_trials=effective, variance=chance, **known),
        minimum_track_record=minimum_track_record_length(sharpe, skew=skew, kurtosis=kurtosis),
        minimum_backtest=minimum_backtest_length(sharpe * a_year, n_trials=tried),
        overfitting=_overfitting(excess(), n_bars, average.n_trials, n_blocks),
        against_cash=reality_check_of(excess(), block_length=optimal_block_length(average.returns), **draws),
        against_holding=reality_check_of(
            excess(), block_length=optimal_block_length(average.returns - holding), benchmark=holding, **draws
        ),
    )


def _sharpes(chunk: np.ndarray) -> np.ndarray:
    """Per bar and trial, 0.0 for returns that do not vary."""
    found = [line(returns) for returns in chunk]
    return np.array([one.mean / one.std if one.varies else 0.0 for one in found])


def _moments(returns: np.ndarray) -> tuple[float, float]:
    """Skew and plain kurtosis."""
    sums = bar_sums(returns, returns, 0.0)
    one = Line(returns.size, sums.mean, sums.square, sums.spread)
    return metrics.skew(one, sums), metrics.kurtosis(one, sums)


def _trial(chunks: Iterator[np.ndarray], place: int) -> np.ndarray:
    """Returns of one trial."""
    start = 0
    for chunk in chunks:
        if place < start + len(chunk):
            return chunk[place - start].copy()
        start += len(chunk)
    raise IndexError(place)


def _variance_of_sharpes(chunks: Iterator[np.ndarray]) -> float:
    """Of the trials' Sharpe ratios, per bar, with ddof 1; 0.0 for one trial."""
    sharpes = np.concatenate([_sharpes(chunk) for chunk in chunks])
    return float(sharpes.var(ddof=1)) if sharpes.size > 1 else 0.0


def _overfitting(chunks: Iterator[np.ndarray], n_bars: int, n_trials: int, n_blocks: int) -> Overfitting | None:
    """Cross-validation from the sums of each block."""
    if n_trials < 2 or n_bars < 2 * n_blocks:
        return None
    check_blocks(n_blocks, n_bars, n_trials)
    length = n_bars // n_blocks
    sums, squares = np.empty((n_blocks, n_trials)), np.empty((n_blocks, n_trials))
    start = 0
    for chunk in chunks:
        blocks = chunk[:, : length * n_blocks].reshape(len(chunk), n_blocks, length)
        trials = slice(start, start + len(chunk))
        sums[:, trials], squares[:, trials] = blocks.sum(axis=2).T, np.einsum("kbt,kbt->bk", blocks, blocks)
        start = trials.stop
    return pbo_of_sums(np.full(n_blocks, length), sums, squares)


def _named(params: dict[str, Any]) -> str:
    return ", ".join(f"{name}={value}" for name, value in params.items())


def _shown(value: float, unit: str) -> str:
    if not math.isfinite(value):
        return "n/a"
    if unit == "probability":
        return f"{value:.3f}"
    if unit == "years":
        return f"{value:,.1f}\u00a0years"
    return format_value(math.ceil(value) if unit == "bars" else value, unit)
