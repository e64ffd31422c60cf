"""Do the statistics of luck keep their word? On worlds where the truth is known, how often do they say what they must.

`python tests/benchmarks/calibration.py` prints a line for each, in some minutes; the tests of bootstrap, luck and
overfit run the same functions on fewer worlds.
"""

import sys
from collections.abc import Callable, Iterator

import numpy as np

from backgrid.bootstrap import bootstrap_ci
from backgrid.luck import Luck, measure_luck
from backgrid.overfit import deflated_sharpe_ratio, probability_of_backtest_overfitting, reality_check

PHIS = (-0.3, 0.0, 0.3, 0.5)


def autoregressive(rng: np.random.Generator, phi: float, shape: tuple[int, ...]) -> np.ndarray:
    """AR(1) noise of mean 0 and variance 1 along the first axis."""
    noise = rng.standard_normal(shape)
    noise[1:] *= np.sqrt(1.0 - phi * phi)
    for t in range(1, len(noise) if phi else 0):
        noise[t] += phi * noise[t - 1]
    return noise


def deflated_sharpe(n_worlds: int = 200, n_trials: int = 500, n_bars: int = 1250, seed: int = 0) -> np.ndarray:
    """Deflated Sharpe ratio of the best of many strategies without skill, one a world."""
    rng, found = np.random.default_rng(seed), np.empty(n_worlds)
    for world in range(n_worlds):
        returns = rng.standard_normal((n_trials, n_bars))
        sharpes = returns.mean(axis=1) / returns.std(axis=1, ddof=1)
        best = returns[sharpes.argmax()]
        z = (best - best.mean()) / best.std()
        found[world] = deflated_sharpe_ratio(
            sharpes.max(),
            n_obs=n_bars,
            n_trials=n_trials,
            variance=sharpes.var(ddof=1),
            skew=(z**3).mean(),
            kurtosis=(z**4).mean(),
        )
    return found


def alike(noise: np.ndarray) -> np.ndarray:
    """Trials half of which is common to all."""
    return noise[:, 1:] + noise[:, :1]


def opposite(noise: np.ndarray) -> np.ndarray:
    """Trials and their opposites, whose mean is nothing at all."""
    return np.hstack([noise, -noise])


def reality_check_pvalues(
    n_worlds: int = 1000,
    n_trials: int = 100,
    n_bars: int = 500,
    phi: float = 0.0,
    n_boot: int = 299,
    seed: int = 0,
    trials: Callable[[np.ndarray], np.ndarray] = alike,
) -> np.ndarray:
    """P-value (consistent) of the best of many strategies without skill, one a world; `trials` makes them of noise."""
    rng, found = np.random.default_rng(seed), np.empty(n_worlds)
    n_lines = n_trials + 1 if trials is alike else n_trials // 2
    for world in range(n_worlds):
        noise = autoregressive(rng, phi, (n_bars, n_lines))
        found[world] = reality_check(trials(noise), n_boot=n_boot, seed=world).pvalue
    return found


TESTED = ((250, 20, alike), (500, 100, alike), (1000, 500, alike), (250, 2, opposite), (500, 100, opposite))


def coin_flips(n_worlds: int = 100, n_trials: int = 100, n_bars: int = 750, seed: int = 0) -> list[Luck]:
    """Luck of the best of many coins that are long or flat for five bars, on an asset that rises; one a world."""
    rng, found = np.random.default_rng(seed), []
    for _ in range(n_worlds):
        asset = rng.normal(0.001, 0.012, n_bars)
        returns = np.repeat(rng.integers(0, 2, (n_trials, n_bars // 5)), 5, axis=1) * asset
        place = int((returns.mean(axis=1) / returns.std(axis=1)).argmax())
        terms = {"n_bars": n_bars, "winner": {"coin": place}, "place": place, "benchmark": asset, "cash": 0.0}
        found.append(
            measure_luck(lambda returns=returns: [returns], **terms, periods_per_year=252, n_blocks=2, n_boot=99)
        )
    return found


def overfitting_of_noise(n_worlds: int = 200, n_trials: int = 20, n_bars: int = 400, seed: int = 0) -> np.ndarray:
    """Probability of backtest overfitting of strategies without skill, one a world."""
    rng = np.random.default_rng(seed)
    worlds = (rng.standard_normal((n_bars, n_trials)) for _ in range(n_worlds))
    return np.array([probability_of_backtest_overfitting(world, n_blocks=8).pbo for world in worlds])


def sharpe_coverage(
    n_worlds: int = 2000, n_bars: int = 250, phi: float = 0.0, sharpe: float = 0.05, n_boot: int = 999, seed: int = 0
) -> float:
    """Share of the worlds whose 95 % interval holds the true Sharpe ratio. [`sharpe` per bar]"""
    worlds = autoregressive(np.random.default_rng(seed), phi, (n_bars, n_worlds)).T + sharpe
    intervals = [bootstrap_ci(world, n_boot=n_boot, seed=k, periods_per_year=1) for k, world in enumerate(worlds)]
    return sum(low <= sharpe <= high for low, high in intervals) / n_worlds


def lines(scale: float = 1.0) -> Iterator[str]:
    """Every calibration in a line; `scale` 0.1 takes a tenth of the worlds."""
    deflated = deflated_sharpe(int(200 * scale))
    high = (deflated > 0.95).mean()
    yield f"deflated Sharpe of the best of 500 strategies of noise: above 0.95 in {high:.1%} of {deflated.size} worlds"
    yield f"    its level of 5 % is at {np.quantile(deflated, 0.95):.2f}"
    pbo = overfitting_of_noise(int(200 * scale))
    yield f"PBO of 20 strategies of noise: mean {pbo.mean():.2f}, standard deviation {pbo.std():.2f}"
    flips = coin_flips(int(100 * scale))
    for name, of in (("deflated Sharpe, variance of the trials", "dsr"), ("deflated timing", "dsr_timing")):
        values = np.array([getattr(luck, of) for luck in flips])
        yield f"best of 100 coins on a rising asset, {name}: above 0.95 in {(values > 0.95).mean():.1%}"
    for phi in (0.0, 0.2, 0.5):
        for n_bars, n_trials, trials in TESTED:
            pvalues = reality_check_pvalues(int(1000 * scale), n_trials, n_bars, phi, trials=trials)
            yield (
                f"reality check at 5 %, {n_trials} strategies of noise, {trials.__name__}, {n_bars} bars, AR(1) {phi}: "
                f"rejects {(pvalues <= 0.05).mean():.1%}"
            )
    for n_bars in (250, 1000, 2500):
        for phi in PHIS:
            for sharpe in (0.0, 0.1):
                n_worlds = int(2000 * scale)
                covered = sharpe_coverage(n_worlds, n_bars, phi, sharpe)
                yield (
                    f"95 % interval of a Sharpe of {sharpe} a bar, {n_bars} bars, AR(1) {phi}: "
                    f"covers it in {covered:.1%} of {n_worlds} worlds"
                )


def rows() -> list[tuple[str, str]]:
    """The calibrations that the README names, in a minute or two."""
    deflated, pvalues = deflated_sharpe(200), reality_check_pvalues(400, 20, 500, 0.0)
    covered = [sharpe_coverage(500, 1000, phi, 0.05) for phi in PHIS]
    return [
        (
            "best of 500 strategies of noise: deflated Sharpe above 0.95 in",
            f"{(deflated > 0.95).mean():.1%} of 200 worlds",
        ),
        ("reality check at 5 % on 20 strategies of noise: rejects", f"{(pvalues <= 0.05).mean():.1%} of 400 worlds"),
        (
            "95 % interval of the Sharpe on AR(1) noise of -0.3, 0, 0.3, 0.5: covers",
            ", ".join(f"{share:.1%}" for share in covered) + " of 500 worlds each",
        ),
    ]


if __name__ == "__main__":
    for line in lines(float(sys.argv[1]) if len(sys.argv) > 1 else 1.0):
        print(line, flush=True)
