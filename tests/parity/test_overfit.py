"""Block lengths, bootstrap variances and tests of many trials are those of arch and statsmodels, wherever the
definition is the same: at 1e-9, on random series and on every sample symbol."""

import math

import numpy as np
import pytest
from arch.bootstrap import SPA, StationaryBootstrap
from arch.bootstrap import optimal_block_length as arch_block_length
from statsmodels.stats.multitest import multipletests

from backgrid import bootstrap, overfit
from backgrid.bootstrap import optimal_block_length
from backgrid.data import fetch_ohlcv
from backgrid.overfit import RealityTest, adjust_pvalues, reality_check

SYMBOLS = ["AAPL", "AMZN", "GOOG", "META", "NFLX", "NVDA", "^GSPC"]


def autoregressive(seed, n_bars=500, phi=0.0):
    noise = np.random.default_rng(seed).standard_normal(n_bars)
    for t in range(1, n_bars):
        noise[t] += phi * noise[t - 1]
    return noise


LINES = {symbol: fetch_ohlcv(symbol, source="sample")["Close"].pct_change().dropna().to_numpy() for symbol in SYMBOLS}
LINES |= {f"|{symbol}|": np.abs(returns) for symbol, returns in LINES.items()}
LINES |= {
    f"AR(1) {phi}, seed {seed}": autoregressive(seed, n_bars, phi)
    for phi in (-0.3, 0.0, 0.3, 0.6, 0.9)
    for seed, n_bars in enumerate([30, 100, 250, 1000, 2500] * 4)
}
LCG = 1_664_525, 1_013_904_223, 2**32


def lcg(seed, shape):
    """Numbers between -1/2 and 1/2 that any language can make again."""
    values, state = np.empty(math.prod(shape)), seed
    for k in range(values.size):
        state = (LCG[0] * state + LCG[1]) % LCG[2]
        values[k] = state / LCG[2] - 0.5
    return values.reshape(shape)


def test_block_lengths_are_those_of_arch(compared, differs):
    """Both search the lag from which autocorrelations are insignificant. arch divides by the products of the values
    that are left at a lag, one short, the paper by the variance: near the bound they can stop at different lags."""
    apart = {}
    for name, values in LINES.items():
        theirs = max(float(arch_block_length(values)["stationary"].iloc[0]), 1.0)
        apart[name] = abs(optimal_block_length(values) / theirs - 1.0)
    equal = {name: difference for name, difference in apart.items() if difference < 1e-9}
    assert len(equal) >= 0.85 * len(apart)
    for name, difference in equal.items():
        compared("arch", "block length of the stationary bootstrap", name, 0, difference)
    differs(
        "arch",
        f"lag at which the block length stops looking ({len(apart) - len(equal)} of {len(apart)} series)",
        "correlation of the values that are left at a lag, the first of them left out below the line",
        "autocovariance / variance, as in the paper",
    )


@pytest.mark.parametrize("block_length", [1.5, 4.0, 25.0])
def test_bootstrap_variance_is_that_of_arch(compared, block_length):
    trials = np.column_stack([autoregressive(seed, 251, 0.4) for seed in range(8)])
    theirs = SPA(np.zeros(251), -trials, block_size=block_length, reps=2, bootstrap="stationary", seed=0)
    theirs.compute()
    centred = (trials - trials.mean(axis=0)).T
    ours = overfit._power(centred) @ overfit._variance_weights(251, block_length)
    assert ours == pytest.approx(theirs._loss_diff_var, rel=1e-9)
    apart = float(np.abs(ours / theirs._loss_diff_var - 1.0).max())
    compared("arch", "variance of a resampled mean", f"length {block_length:g}", 0, apart)


def plain_reality_check(excess, places, spread, error):
    """P-values (lower, consistent, upper) as shares of given resamples, whose trials vary by `spread`; those of the
    sample are divided by `error`. Not studentised where both are 1."""
    n, mean = len(excess), excess.mean(axis=0)
    worst = -np.sqrt(2.0 * math.log(math.log(n)) / n) * (error if np.ndim(error) else standard_errors(excess))
    shifts = np.minimum(mean, 0.0), np.where(mean < worst, mean, 0.0), 0.0
    drawn = np.array([excess[row].mean(axis=0) - mean for row in places]) / spread
    return [float(((drawn + shift / error).max(axis=1) > (mean / error).max()).mean()) for shift in shifts]


def standard_errors(excess, block_length=3.0):
    centred = (excess - excess.mean(axis=0)).T
    return np.sqrt(overfit._power(centred) @ overfit._variance_weights(len(excess), block_length))


@pytest.mark.parametrize("gain", [0.0, 0.0005, 0.001])
def test_without_studentising_the_test_is_that_of_arch(compared, differs, gain):
    """One plain twin gives arch's p-values on arch's resamples, and divided by standard errors ours on ours."""
    excess = np.column_stack([0.01 * autoregressive(seed, 300, 0.2) for seed in range(10)])
    excess[:, 3] += gain
    excess[:, 5] -= 0.002
    theirs = SPA(np.zeros(300), -excess, block_size=3, reps=500, bootstrap="stationary", seed=1)
    theirs.compute()
    drawn = [
        positions[0][:, 0] for positions, _ in StationaryBootstrap(3, np.arange(300)[:, None], seed=1).bootstrap(500)
    ]
    assert plain_reality_check(excess, drawn, 1.0, 1.0) == pytest.approx(theirs.pvalues.tolist())
    compared("arch", "superior predictive ability, not studentised", f"gain {gain}", 0, 0.0)
    test = RealityTest(np.zeros(300), block_length=3.0, n_boot=499, seed=1)
    test.add(excess.T)
    places, spread = np.concatenate(list(bootstrap.resamples(300, 3.0, 499, 1))), standard_errors(excess)
    error = np.maximum(spread, [math.sqrt(bootstrap.long_run_variance(line)) for line in excess.T.copy()])
    expected, ours = plain_reality_check(excess, places, spread, error), test.result()
    found = [ours.pvalue_lower, ours.pvalue, ours.pvalue_upper]
    assert found == pytest.approx([(1.0 + 499 * pvalue) / 500 for pvalue in expected])
    differs(
        "arch", "p-value of n resamples, k of them above the statistic", "k / n, which can be 0", "(k + 1) / (n + 1)"
    )


def test_arch_does_not_studentise_and_backgrid_does(differs):
    """A trial at 20 times the others drowns a small steady gain, unless each is divided by its standard error."""
    trials = 0.01 * lcg(99, (200, 20))
    trials[:, 0] *= 20.0
    trials[:, 4] = 0.2 * trials[:, 4] + 0.0008
    pvalues = []
    for studentize in (True, False):
        theirs = SPA(np.zeros(200), -trials, reps=500, bootstrap="stationary", studentize=studentize, seed=1)
        theirs.compute()
        pvalues.append(theirs.pvalues["consistent"])
    assert pvalues[0] == pvalues[1] > 0.3
    check = reality_check(trials)
    assert check.best == 4 and check.pvalue == 1 / 1001
    differs(
        "arch",
        "superior predictive ability of trials of unequal risk",
        "studentize=True changes no p-value: the trial with the largest swings decides",
        "each trial divided by its standard error, as in Hansen's paper",
    )


@pytest.mark.parametrize(("ours", "theirs"), [("holm", "holm"), ("bhy", "fdr_by")])
def test_adjusted_pvalues_are_those_of_statsmodels(compared, ours, theirs):
    rng, apart = np.random.default_rng(0), 0.0
    for n in (1, 2, 10, 1000):
        pvalues = rng.random(n).round(2) ** 2
        expected = multipletests(pvalues, method=theirs)[1]
        found = adjust_pvalues(pvalues, method=ours)
        assert found == pytest.approx(expected, rel=1e-9)
        apart = max(apart, float(np.abs(found - expected).max()))
    compared("statsmodels", f"adjusted p-values, {ours}", "random", 0, apart)
