"""The statistics of luck: published numbers, known answers, what no data may change, slow twins, and calibration."""

import itertools
import math
import statistics

import numpy as np
import pandas as pd
import pytest
from benchmarks import calibration
from hypothesis import given
from hypothesis import strategies as st

from backgrid import overfit
from backgrid._sums import bar_sums
from backgrid.errors import ParameterError
from backgrid.metrics import METRICS, calculate_max_drawdown, calculate_sharpe_ratio, line
from backgrid.overfit import (
    adjust_pvalues,
    average_trial,
    bootstrap_ci,
    deflated_sharpe_ratio,
    effective_trials,
    expected_maximum_sharpe,
    minimum_backtest_length,
    minimum_track_record_length,
    optimal_block_length,
    pbo_of_sums,
    probabilistic_sharpe_ratio,
    probability_of_backtest_overfitting,
    reality_check,
    reality_check_of,
)

RNG = np.random.default_rng(0)
NOISE = RNG.normal(0.0, 0.01, (240, 12))
DAY = 250.0**0.5

sharpes = st.floats(-1.0, 1.0)
lengths = st.integers(2, 10_000)
trials = st.floats(1.0, 1e9)
variances = st.floats(0.0, 1.0)
skews = st.floats(-5.0, 5.0)
cells = st.integers(-3, 3).map(lambda n: n / 100)
matrices = st.tuples(st.integers(2, 6), st.integers(8, 21)).flatmap(
    lambda shape: st.lists(
        st.lists(cells, min_size=shape[0], max_size=shape[0]), min_size=shape[1], max_size=shape[1]
    ).map(np.array)
)


# ---- slow twins ------------------------------------------------------------------------------------------------------


def plain_sharpe(returns):
    """Mean by standard deviation; 0 where all are equal."""
    return statistics.fmean(returns) / statistics.stdev(returns) if max(returns) > min(returns) else 0.0


def plain_logits(returns, n_blocks):
    """The logit of every split, as the paper tells it; of several winners the mean Sharpe ratio is ranked."""
    length = len(returns) // n_blocks
    blocks = [returns[b * length : (b + 1) * length] for b in range(n_blocks)]
    logits = []
    for chosen in itertools.combinations(range(n_blocks), n_blocks // 2):
        inside = np.concatenate([blocks[b] for b in chosen])
        outside = np.concatenate([blocks[b] for b in range(n_blocks) if b not in chosen])
        ours, theirs = ([plain_sharpe(column.tolist()) for column in half.T] for half in (inside, outside))
        best = [k for k, value in enumerate(ours) if math.isclose(value, max(ours), rel_tol=1e-9, abs_tol=1e-11)]
        earned = statistics.fmean(theirs[k] for k in best)
        tied = sum(math.isclose(value, earned, rel_tol=1e-9, abs_tol=1e-11) for value in theirs)
        below = sum(value < earned for value in theirs if not math.isclose(value, earned, rel_tol=1e-9, abs_tol=1e-11))
        rank = below + (tied + 1) / 2
        logits.append(math.log(rank / (len(theirs) + 1 - rank)))
    return logits


def plain_reality_check(excess, places, block_length):
    """Statistic and p-values (lower, consistent, upper) of Hansen's test, on resamples given by the places of bars."""
    n, n_trials = excess.shape
    keep = [(1 - i / n) * (1 - 1 / block_length) ** i + i / n * (1 - 1 / block_length) ** (n - i) for i in range(n)]
    centred = excess - excess.mean(axis=0)
    errors = []
    for k in range(n_trials):
        lags = [centred[i:, k] @ centred[: n - i, k] / n for i in range(n)]
        errors.append(math.sqrt(lags[0] + 2 * sum(keep[i] * lags[i] for i in range(1, n))))
    mean = excess.mean(axis=0)
    observed = max(0.0, max(math.sqrt(n) * mean / errors))
    worst = -np.array(errors) * math.sqrt(2 * math.log(math.log(n)) / n)
    pvalues = []
    for centre in (np.maximum(mean, 0.0), np.where(mean >= worst, mean, 0.0), mean):
        drawn = [max(0.0, max(math.sqrt(n) * (excess[row].mean(axis=0) - centre) / errors)) for row in places]
        pvalues.append((1 + sum(value >= observed for value in drawn)) / (1 + len(drawn)))
    return observed, pvalues


def plain_block_products(lines, places):
    """Means of both lines over a resample, and the sums over its blocks of the products of their deviations."""
    n = lines.shape[1]
    found = []
    for row in places.tolist():
        first, second = lines[:, row].mean(axis=1)
        starts = [t for t in range(n) if t == 0 or row[t] != (row[t - 1] + 1) % n]
        blocks = [row[a:b] for a, b in zip(starts, [*starts[1:], n], strict=True)]
        x = [sum(lines[0, p] - first for p in block) for block in blocks]
        y = [sum(lines[1, p] - second for p in block) for block in blocks]
        found.append([first, second, np.dot(x, x), np.dot(x, y), np.dot(y, y)])
    return np.array(found)


def resamples(n_bars, length, n_boot=50, seed=0):
    return np.concatenate(list(overfit._resamples(n_bars, length, n_boot, seed)))


# ---- one Sharpe ratio, or the best of many ---------------------------------------------------------------------------


def test_published_deflated_sharpe():
    """Five years of 250 days at 2.5, the best of 100 trials whose annual Sharpe ratios have variance 1/2."""
    value = deflated_sharpe_ratio(2.5 / DAY, n_obs=1250, n_trials=100, variance=0.5 / 250, skew=-3.0, kurtosis=10.0)
    assert value == pytest.approx(0.9004, abs=5e-5)


def test_published_probabilistic_sharpe():
    """24 months with mean 3.6 % and standard deviation 7.9 %."""
    assert probabilistic_sharpe_ratio(0.036 / 0.079, n_obs=24) == pytest.approx(0.9812, abs=5e-5)


def test_published_expected_maxima():
    """Ten trials of noise show 1.57; 45 fill five years; a manager at 2 must beat 1 for three years of days."""
    assert expected_maximum_sharpe(10, variance=1.0) == pytest.approx(1.57, abs=0.005)
    assert minimum_backtest_length(1.0, n_trials=45) == pytest.approx(5.0, abs=0.01)
    bars = minimum_track_record_length(2 / 252**0.5, benchmark=1 / 252**0.5, skew=-0.72, kurtosis=5.78)
    assert bars / 252 == pytest.approx(3.0, abs=0.01)


@pytest.mark.parametrize("n_trials", [10, 100, 1000])
def test_expected_maximum_is_that_of_noise(n_trials):
    drawn = np.random.default_rng(1).normal(0.0, 0.5, (2000, n_trials)).max(axis=1).mean()
    assert expected_maximum_sharpe(n_trials, variance=0.25) == pytest.approx(drawn, rel=0.04)


def test_one_trial_is_not_deflated():
    assert expected_maximum_sharpe(1, variance=0.01) == 0.0
    assert deflated_sharpe_ratio(0.1, n_obs=250, n_trials=1, variance=0.01) == probabilistic_sharpe_ratio(
        0.1, n_obs=250
    )
    assert minimum_backtest_length(1.0, n_trials=1) == 0.0


def test_what_no_length_can_show_is_infinite():
    assert minimum_track_record_length(0.1, benchmark=0.1) == math.inf
    assert minimum_track_record_length(-0.1) == math.inf
    assert minimum_backtest_length(0.0, n_trials=10) == math.inf


def test_no_deviation_is_certainty():
    """skew 2 and kurtosis 5: two values, and at a Sharpe ratio of 1 the formula has no variance."""
    known = {"n_obs": 10, "skew": 2.0, "kurtosis": 5.0}
    assert [probabilistic_sharpe_ratio(1.0, benchmark=b, **known) for b in (0.5, 1.0, 2.0)] == [1.0, 0.5, 0.0]


@given(sharpes, lengths, trials, variances, skews, st.floats(0.0, 10.0))
def test_deflated_sharpe_is_a_probability_below_the_probabilistic(sharpe, n_obs, n_trials, variance, skew, more):
    moments = {"n_obs": n_obs, "skew": skew, "kurtosis": skew * skew + 1.0 + more}
    deflated = deflated_sharpe_ratio(sharpe, n_trials=n_trials, variance=variance, **moments)
    assert 0.0 <= deflated <= probabilistic_sharpe_ratio(sharpe, **moments) <= 1.0
    assert deflated_sharpe_ratio(sharpe, n_trials=2.0 * n_trials, variance=variance, **moments) <= deflated


@given(st.floats(0.001, 1.0), st.floats(1.001, 2.0), st.floats(0.5, 0.999))
def test_a_higher_sharpe_needs_fewer_bars(sharpe, factor, confidence):
    bars = minimum_track_record_length(sharpe, confidence=confidence)
    assert minimum_track_record_length(sharpe * factor, confidence=confidence) <= bars
    assert minimum_backtest_length(sharpe * factor, n_trials=50) < minimum_backtest_length(sharpe, n_trials=50)


@given(st.floats(0.01, 0.5), st.floats(-0.5, 0.0), st.floats(0.6, 0.999))
def test_after_the_minimum_length_the_probability_is_reached(sharpe, benchmark, confidence):
    bars = minimum_track_record_length(sharpe, benchmark=benchmark, confidence=confidence, skew=-1.0, kurtosis=6.0)
    reached = probabilistic_sharpe_ratio(sharpe, n_obs=max(bars, 2), benchmark=benchmark, skew=-1.0, kurtosis=6.0)
    assert reached == pytest.approx(confidence, abs=1e-9) or (bars < 2 and reached > confidence)


def test_effective_trials_lie_between_one_and_all():
    assert [effective_trials(r, 101) for r in (-0.5, 0.0, 0.5, 0.99, 1.0)] == pytest.approx([101, 101, 51, 2, 1])


def test_adjusted_pvalues_by_hand():
    """Holm: 3 x 0.01, 2 x 0.03, and not below it; BHY: (1 + 1/2 + 1/3) * 3 / rank."""
    given_ = pd.Series([0.01, 0.04, 0.03], index=["a", "b", "c"], name="p")
    holm = adjust_pvalues(given_)
    assert holm.to_dict() == pytest.approx({"a": 0.03, "b": 0.06, "c": 0.06}) and holm.name == "p"
    assert adjust_pvalues([0.01, 0.04, 0.03], method="bhy").tolist() == pytest.approx([0.055, 11 / 150, 11 / 150])
    assert adjust_pvalues([]).size == 0


@given(st.lists(st.floats(0.0, 1.0), min_size=1), st.sampled_from(["holm", "bhy"]))
def test_adjusted_pvalues_are_higher_and_in_the_same_order(pvalues, method):
    adjusted = adjust_pvalues(pvalues, method=method)
    assert ((adjusted >= np.array(pvalues) * (1 - 1e-12)) & (adjusted <= 1.0)).all()
    assert (np.diff(adjusted[np.argsort(pvalues)]) >= 0.0).all()


# ---- probability of backtest overfitting -----------------------------------------------------------------------------


@pytest.mark.parametrize("n_blocks", [2, 4, 6])
@pytest.mark.parametrize("n_trials", [2, 5, 12])
def test_splits_are_those_of_the_plain_twin(n_blocks, n_trials):
    found = probability_of_backtest_overfitting(NOISE[:59, :n_trials], n_blocks=n_blocks)
    expected = plain_logits(NOISE[:59, :n_trials], n_blocks)
    assert sorted(found.logits) == pytest.approx(sorted(expected))
    assert found.pbo == pytest.approx(sum(logit < 0.0 for logit in expected) / len(expected))
    assert found.n_splits == len(expected) == math.comb(n_blocks, n_blocks // 2)
    assert found.n_trials == n_trials


@given(matrices)
def test_splits_with_ties_and_flat_trials_are_those_of_the_plain_twin(returns):
    found = probability_of_backtest_overfitting(returns, n_blocks=4).logits
    assert sorted(found) == pytest.approx(sorted(plain_logits(returns, 4)))


@given(matrices, st.randoms(use_true_random=False), st.integers(-20, 20))
def test_order_and_leverage_of_trials_change_no_split(returns, random, power):
    order = list(range(returns.shape[1]))
    random.shuffle(order)
    scales = np.array([random.uniform(0.1, 10.0) * 2.0**power for _ in order])
    expected = probability_of_backtest_overfitting(returns, n_blocks=4)
    found = probability_of_backtest_overfitting(returns[:, order] * scales, n_blocks=4)
    assert found.logits.tolist() == expected.logits.tolist()
    assert found.out_of_sample == pytest.approx(expected.out_of_sample, rel=1e-9, abs=1e-12)


def test_a_trial_that_always_wins_is_not_overfit():
    returns = NOISE.copy()
    returns[:, 7] += 0.02
    found = probability_of_backtest_overfitting(returns, n_blocks=8)
    assert found.pbo == 0.0 and found.probability_of_loss == 0.0
    assert found.logits.tolist() == pytest.approx([math.log(12)] * 70)


def test_trials_whose_luck_must_end_are_always_overfit():
    """Over all bars both earn nothing, so what one gains in a half it loses in the other."""
    first = NOISE[:, 0] - NOISE[:, 0].mean()
    found = probability_of_backtest_overfitting(np.column_stack([first, -first]), n_blocks=4)
    assert found.pbo == 1.0 and found.probability_of_loss == 1.0 and found.slope < 0.0
    assert found.logits.tolist() == pytest.approx([math.log(1 / 2)] * 6)
    assert (found.in_sample > 0.0).all() and (found.out_of_sample < 0.0).all()


def test_the_median_does_not_count_as_overfit():
    """Of three equal trials every winner ranks in the middle: logit 0."""
    found = probability_of_backtest_overfitting(np.column_stack([NOISE[:, 0]] * 3), n_blocks=4)
    assert found.logits.tolist() == [0.0] * 6 and found.pbo == 0.0


def test_rows_beyond_the_last_whole_block_are_left_out():
    expected = probability_of_backtest_overfitting(NOISE[:232], n_blocks=8)
    changed = np.vstack([NOISE[:232], np.full((7, 12), 9.0)])
    assert probability_of_backtest_overfitting(changed, n_blocks=8).logits.tolist() == expected.logits.tolist()


@pytest.mark.parametrize("constant", [0.0, 0.001, 0.1, -1 / 3, 1e-9])
def test_a_trial_that_does_not_vary_scores_zero(constant):
    """Beside a loser it is always chosen, with a Sharpe ratio of exactly 0."""
    loser = NOISE[:, 0] - 0.02
    found = probability_of_backtest_overfitting(np.column_stack([loser, np.full(240, constant)]))
    assert not found.in_sample.any() and not found.out_of_sample.any() and found.pbo == 0.0


def test_a_trial_that_rests_in_half_of_the_blocks_leaves_no_trace_of_rounding_there():
    """Its sums over the blocks without a trade are exactly 0, though it traded in the others."""
    resting = np.where(np.arange(240) < 120, NOISE[:, 1] - 0.01, 0.0)
    found = probability_of_backtest_overfitting(np.column_stack([NOISE[:, 0] - 0.02, resting]), n_blocks=2)
    assert found.in_sample.tolist()[1] == 0.0


def test_blocks_of_different_lengths_can_be_summed():
    """The sums are all that is needed: 8 blocks of 30 bars, two and two put together."""
    blocks = NOISE.reshape(8, 30, 12)
    sums, squares = blocks.sum(axis=1), (blocks**2).sum(axis=1)
    whole = pbo_of_sums(np.full(8, 30), sums, squares)
    assert whole.logits == pytest.approx(probability_of_backtest_overfitting(NOISE, n_blocks=8).logits)
    cut, lengths = [0, 1, 2, 5], np.array([30, 30, 90, 90])
    uneven = pbo_of_sums(lengths, np.add.reduceat(sums, cut), np.add.reduceat(squares, cut))
    winner = max(range(12), key=lambda k: plain_sharpe(NOISE[:60, k].tolist()))  # of the first two blocks
    assert uneven.in_sample[0] == pytest.approx(plain_sharpe(NOISE[:60, winner].tolist()))
    assert uneven.out_of_sample[0] == pytest.approx(plain_sharpe(NOISE[60:, winner].tolist()))


def test_kernels_compiled_or_not_are_one(monkeypatch):
    blocks = NOISE.reshape(4, 60, 12)
    arguments = (np.array([[True, True, False, False]]), np.full(4, 60.0), blocks.sum(axis=1), (blocks**2).sum(axis=1))
    compiled = overfit._winners(*arguments)
    places = overfit._places(np.random.default_rng(0).random((3, 240)), 5.0)
    for name in ("_sharpes", "_winner"):
        monkeypatch.setattr(overfit, name, getattr(overfit, name).py_func)
    assert np.array(overfit._winners.py_func(*arguments)) == pytest.approx(np.array(compiled), rel=1e-12)
    assert (overfit._places.py_func(np.random.default_rng(0).random((3, 240)), 5.0) == places).all()


# ---- reality check ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("benchmark", [None, NOISE[:, 11]])
@pytest.mark.parametrize("gain", [0.0, 0.001, 0.002])
def test_reality_check_is_that_of_the_plain_twin(benchmark, gain):
    returns = NOISE[:, :6] * [20.0, 1.0, 1.0, 1.0, 0.2, 1.0] + [0.0, -0.005, 0.0, 0.0, gain, 0.0]
    found = reality_check(returns, benchmark=benchmark, n_boot=99, seed=3)
    excess = returns if benchmark is None else returns - benchmark[:, None]
    places = resamples(240, found.block_length, 99, seed=3)
    statistic, pvalues = plain_reality_check(excess, places, found.block_length)
    assert found.statistic == pytest.approx(statistic)
    assert [found.pvalue_lower, found.pvalue, found.pvalue_upper] == pytest.approx(pvalues)


def test_standard_error_is_that_of_resampled_means():
    """The variance that the resamples have is known, and need not be drawn."""
    values = calibration.autoregressive(np.random.default_rng(5), 0.5, (101,))
    centred = values - values.mean()
    drawn = values[resamples(101, 8.0, 40_000)].mean(axis=1).var() * 101
    assert overfit._power(centred[None]) @ overfit._variance_weights(101, 8.0) == pytest.approx(drawn, rel=0.02)


def test_leverage_of_a_trial_does_not_matter():
    """A statistic that is not studentised hears only the loudest trial: one at 20 times would drown a good one."""
    good = NOISE + np.where(np.arange(12) == 4, 0.003, 0.0)
    loud = good * np.where(np.arange(12) == 0, 20.0, 1.0) * np.where(np.arange(12) == 4, 0.2, 1.0)
    length = {"n_bars": 240, "block_length": 2.0}
    quiet_check, loud_check = (reality_check_of([returns.T], **length) for returns in (good, loud))
    assert loud_check == quiet_check._replace(statistic=pytest.approx(quiet_check.statistic))
    assert loud_check.best == 4 and loud_check.pvalue < 0.01


def test_skill_beyond_doubt_has_the_smallest_pvalue_and_never_zero():
    returns = pd.DataFrame(NOISE, columns=pd.MultiIndex.from_product([[5, 10, 20], [50, 100, 150, 200]]))
    returns[10, 100] += 0.01
    check = reality_check(returns, n_boot=199)
    assert check.pvalue == check.pvalue_upper == 1 / 200 and check.best == (10, 100)


def test_nothing_above_the_benchmark_is_no_evidence_at_all():
    check = reality_check(NOISE - 0.01)
    assert check.statistic == 0.0 and check.pvalue == check.pvalue_lower == check.pvalue_upper == 1.0


@given(matrices, st.integers(0, 5))
def test_pvalues_are_in_order_and_probabilities(returns, seed):
    check = reality_check(returns, n_boot=39, seed=seed)
    assert 1 / 40 <= check.pvalue_lower <= check.pvalue <= check.pvalue_upper <= 1.0
    assert check == reality_check(returns, n_boot=39, seed=seed)


def test_trials_without_variance_neither_win_nor_count():
    flat = np.column_stack([np.zeros(240), NOISE, np.full(240, 0.01)])
    length = {"n_bars": 240, "block_length": 3.0}
    expected, check = reality_check_of([NOISE.T], **length), reality_check_of([flat.T], **length)
    assert check == expected._replace(n_trials=14, best=expected.best + 1)
    never = reality_check(np.full((240, 2), 0.01))
    assert never.best is None and never.statistic == 0.0 and never.pvalue == 1.0
    assert reality_check(pd.DataFrame(np.zeros((240, 2)), columns=["a", "b"])) == reality_check(np.zeros((240, 2)))


def test_holding_the_benchmark_is_no_win():
    """Apart from the benchmark by rounding only."""
    held = NOISE[:, 0]
    check = reality_check(np.column_stack([held, (1.0 + held) * (1.0 + 1e-16) - 1.0]), benchmark=held)
    assert check.best is None and check.pvalue == 1.0


def test_chunks_change_nothing():
    wide = np.random.default_rng(2).normal(0.0002, 0.01, (600, 300))
    known = {"n_bars": 300, "block_length": 4.0, "benchmark": wide[0], "n_boot": 99}
    whole = reality_check_of([wide], **known)
    assert whole.n_trials == 600
    for size in (1, 7, 256, 599):
        chunks = (wide[first : first + size] for first in range(0, 600, size))
        cut = reality_check_of(chunks, **known)
        assert cut == whole._replace(statistic=pytest.approx(whole.statistic, rel=1e-12))
        chunks = (wide[first : first + size] for first in range(0, 600, size))
        n_trials, returns, correlation = average_trial(chunks)
        assert n_trials == 600 and returns == pytest.approx(wide.mean(axis=0), abs=1e-15)
        assert correlation == pytest.approx((np.corrcoef(wide).sum() - 600) / (600 * 599), abs=1e-12)


def test_correlation_leaves_out_what_does_not_vary():
    alike = np.vstack([NOISE[:, 0], 3.0 * NOISE[:, 0], np.zeros(240)])
    assert average_trial([alike]).correlation == pytest.approx(1.0)
    assert average_trial([alike[1:]]).correlation == 1.0
    assert average_trial([np.tile(NOISE[:, 0], (999, 1))]).correlation <= 1.0  # no rounding beyond
    assert average_trial([np.vstack([NOISE[:, 0], -NOISE[:, 0]])]).correlation == pytest.approx(-1.0)


def test_long_lines_are_multiplied_in_slices(monkeypatch):
    monkeypatch.setattr(overfit, "CELLS", 6000)
    lines = np.random.default_rng(3).normal(size=(2, 9000))
    counts = overfit._counts(9000, 5.0, 3, 0)
    assert (counts.sum(axis=1) == 9000).all()
    assert overfit._products(counts, lines) == pytest.approx(counts.astype(float) @ lines.T, rel=1e-9)
    assert counts[1].tolist() == np.bincount(resamples(9000, 5.0, 3)[1], minlength=9000).tolist()


# ---- bootstrap intervals ---------------------------------------------------------------------------------------------


def test_resamples_are_blocks_of_the_asked_mean_length_beginning_anywhere():
    places = resamples(1000, 4.0, 200)
    begins = places[:, 1:] != (places[:, :-1] + 1) % 1000
    assert begins.mean() == pytest.approx(1 / 4, abs=0.003)  # of 200,000
    assert np.bincount(places.ravel(), minlength=1000).mean() == 200.0
    assert places.min() == 0 and places.max() == 999
    assert abs(places.mean() - 499.5) < 5.0


def test_resamples_do_not_depend_on_how_many_are_made_at_once(monkeypatch):
    together = resamples(100, 3.0, 20)
    monkeypatch.setattr(overfit, "CELLS", 16 * 700)
    assert (resamples(100, 3.0, 20) == together).all()


@pytest.mark.parametrize("length", [1.0, 3.0, 20.0])
def test_block_products_are_those_of_the_plain_twin(length):
    lines = np.stack([NOISE[:60, 0], NOISE[:60, 1] ** 2])
    places = resamples(60, length, 20)
    expected = plain_block_products(lines, places)
    assert overfit._block_products(lines, places) == pytest.approx(expected, rel=1e-9, abs=1e-18)
    assert overfit._block_products.py_func(lines, places) == pytest.approx(expected, rel=1e-9, abs=1e-18)


@pytest.mark.parametrize("name", overfit.STATISTICS)
def test_statistics_are_the_metrics_and_their_slopes(name):
    """The value of the sample itself is the metric, and the slopes are those of small steps."""
    returns, statistic = NOISE[:, 2] + 0.001, overfit.STATISTICS[name]
    equity = np.cumprod(np.append(1.0, 1.0 + returns))
    known = {
        "returns": line(returns),
        "excess": line(returns),
        "bars": bar_sums(returns, returns, 0.0),
        "equity": equity,
        "periods_per_year": 252,
    }
    metric = METRICS[name]
    means = statistic.lines(returns).mean(axis=1)
    value, *slopes = statistic.value(*means)
    assert statistic.shown(value, 240, 252) == pytest.approx(metric.function(*map(known.get, metric.arguments)))
    for axis, slope in enumerate(slopes):
        step = np.where(np.arange(2) == axis, 1e-9, 0.0)
        change = statistic.value(*(means + step))[0] - statistic.value(*(means - step))[0]
        assert slope == pytest.approx(change / 2e-9, rel=1e-4, abs=1e-6)


def test_interval_of_a_mean_is_the_normal_one_on_independent_returns():
    returns = np.random.default_rng(4).normal(0.001, 0.01, 2000)
    half = statistics.NormalDist().inv_cdf(0.95) * returns.std() / 2000**0.5
    low, high = bootstrap_ci(returns, "annual_return", level=0.9, n_boot=4000, periods_per_year=1)
    assert [low, high] == pytest.approx([returns.mean() - half, returns.mean() + half], abs=0.1 * half)


def test_dependence_widens_the_interval():
    """The mean of an AR(1) with 0.5 has three times the variance of independent returns: 1.7 times the width."""
    noise = calibration.autoregressive(np.random.default_rng(6), 0.5, (2500,))
    wide, narrow = (bootstrap_ci(returns) for returns in (noise, np.random.default_rng(0).permutation(noise)))
    assert (wide.high - wide.low) / (narrow.high - narrow.low) == pytest.approx(3**0.5, rel=0.15)


@pytest.mark.parametrize("metric", [*overfit.STATISTICS, "max_drawdown"])
def test_interval_holds_the_metric_and_narrows_with_the_level(metric):
    returns = NOISE[:, 3]
    wide, narrow = (bootstrap_ci(returns, metric, level=level) for level in (0.99, 0.5))
    assert wide.low < narrow.low < narrow.high < wide.high
    assert bootstrap_ci(returns, metric) == bootstrap_ci(pd.Series(returns), metric, seed=0)
    assert bootstrap_ci(returns, metric) != bootstrap_ci(returns, metric, seed=1)


def test_interval_of_the_sharpe_ratio_holds_it_in_its_unit():
    low, high = bootstrap_ci(NOISE[:, 3], periods_per_year=12)
    assert low < calculate_sharpe_ratio(NOISE[:, 3], periods_per_year=12) < high
    assert bootstrap_ci(NOISE[:, 3]) == pytest.approx((low * 21**0.5, high * 21**0.5))


@pytest.mark.parametrize("metric", ["sharpe", "sortino"])
def test_leverage_does_not_change_the_interval_of_a_ratio(metric):
    assert bootstrap_ci(3.0 * NOISE[:, 0], metric) == pytest.approx(bootstrap_ci(NOISE[:, 0], metric))


def test_drawdowns_are_counted_from_the_start():
    rows = np.array([[-0.5, 0.1, 0.1], [0.1, -0.1, 0.05], [0.1, 0.1, 0.1]])
    expected = [calculate_max_drawdown(np.cumprod(np.append(1.0, 1.0 + row))) for row in rows]
    assert overfit._deepest(rows).tolist() == pytest.approx(expected)
    assert expected == pytest.approx([-0.5, -0.1, 0.0])
    low, high = bootstrap_ci(NOISE[:, 0], "max_drawdown")
    assert -1.0 <= low < high <= 0.0


@pytest.mark.parametrize("returns", [[], [0.01] * 9, [0.0] * 60, [0.001] * 60, [0.1, -0.1, 0.1, 0.2]])
@pytest.mark.parametrize("metric", ["sharpe", "annual_volatility", "max_drawdown"])
def test_too_few_or_equal_returns_have_no_interval(metric, returns):
    assert all(map(math.isnan, bootstrap_ci(returns, metric)))


def test_a_sortino_without_losses_has_no_interval():
    assert all(map(math.isnan, bootstrap_ci(np.abs(NOISE[:, 0]), "sortino")))
    assert not any(map(math.isnan, bootstrap_ci(np.append(np.abs(NOISE[:, 0]), [-0.01]), "sortino")))


def test_few_trades_have_an_interval():
    """Many resamples hold none of three returns; they are left out."""
    returns = np.zeros(250)
    returns[[10, 100, 200]] = 0.02, -0.01, 0.03
    low, high = bootstrap_ci(returns)
    assert math.isfinite(low) and math.isfinite(high) and low < calculate_sharpe_ratio(returns) < high


def test_growth_beyond_all_reason_is_undefined():
    assert math.isnan(bootstrap_ci(np.abs(NOISE[:, 0]) + 0.5, "cagr").high)


@given(st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=60))
def test_block_lengths_are_within_their_bounds(values):
    length = optimal_block_length(values)
    assert 1.0 <= length <= max(1.0, math.ceil(min(3.0 * len(values) ** 0.5, len(values) / 3.0)))


def test_block_length_grows_with_dependence():
    lengths = [
        optimal_block_length(calibration.autoregressive(np.random.default_rng(8), phi, (2000,)))
        for phi in (0.0, 0.3, 0.6, 0.9)
    ]
    assert lengths == sorted(lengths) and lengths[0] < 3.0 and lengths[-1] > 25.0


def test_long_run_variance_is_that_of_the_process():
    """Of an AR(1) of variance 1 it is (1 + phi) / (1 - phi), of white[t] + 0.7 * white[t - 1] it is 1.7**2."""
    rng = np.random.default_rng(9)
    for phi in (-0.3, 0.0, 0.5):
        noise = calibration.autoregressive(rng, phi, (50_000,))
        assert overfit._long_run_variance(noise) == pytest.approx((1 + phi) / (1 - phi), rel=0.1)
    white = rng.standard_normal(50_001)
    assert overfit._long_run_variance(white[1:] + 0.7 * white[:-1]) == pytest.approx(1.7**2, rel=0.1)
    assert overfit._long_run_variance(np.tile([1.0, -1.0], 50)) < 0.1


# ---- what is refused -------------------------------------------------------------------------------------------------

PSR = {"sharpe": 0.1, "n_obs": 250}
DSR = {**PSR, "n_trials": 10, "variance": 0.001}
REFUSED = [
    (probabilistic_sharpe_ratio, PSR, "sharpe", [math.nan, math.inf, "1", None, True, 1e7]),
    (probabilistic_sharpe_ratio, PSR, "n_obs", [1, 0, -5, math.nan, math.inf, "250"]),
    (probabilistic_sharpe_ratio, PSR, "benchmark", [math.nan, None]),
    (probabilistic_sharpe_ratio, PSR, "skew", [math.nan, 1e7, "0"]),
    (probabilistic_sharpe_ratio, PSR, "kurtosis", [0.0, 0.99, math.inf, None]),
    (deflated_sharpe_ratio, DSR, "n_trials", [0, 0.5, math.inf, 10**400]),
    (deflated_sharpe_ratio, DSR, "variance", [-0.1, math.nan]),
    (minimum_track_record_length, {"sharpe": 0.1}, "confidence", [0.4, 1.0, math.nan, 95]),
    (minimum_backtest_length, {"sharpe": 0.1, "n_trials": 5}, "n_trials", [0]),
    (effective_trials, {"correlation": 0.5, "n_trials": 5}, "correlation", [1.1, -1.1, math.nan]),
    (adjust_pvalues, {"pvalues": [0.1]}, "pvalues", [[0.1, 1.1], [-0.1], [math.nan], 0.1, ["x"], [[0.1]]]),
    (adjust_pvalues, {"pvalues": [0.1]}, "method", ["bonferroni", None]),
    (
        probability_of_backtest_overfitting,
        {"returns": NOISE},
        "returns",
        [NOISE[:, 0], NOISE[:, :1], NOISE[:31], np.full((40, 3), math.nan), "x", None, np.empty((40, 0))],
    ),
    (probability_of_backtest_overfitting, {"returns": NOISE}, "n_blocks", [3, 0, -2, 22, 4.0, "4", True]),
    (
        reality_check,
        {"returns": NOISE},
        "returns",
        [NOISE[:, 0], NOISE[:1], np.empty((40, 0)), np.full((40, 3), math.inf)],
    ),
    (reality_check, {"returns": NOISE}, "benchmark", [NOISE[:5, 0], NOISE, [math.nan] * 240]),
    (reality_check, {"returns": NOISE}, "n_boot", [0, 10**6, 9.5]),
    (reality_check, {"returns": NOISE}, "seed", [-1, "a", None]),
    (bootstrap_ci, {"returns": NOISE[:, 0]}, "returns", [NOISE, [math.nan] * 20, ["x"]]),
    (bootstrap_ci, {"returns": NOISE[:, 0]}, "metric", ["sharp", None, 5]),
    (bootstrap_ci, {"returns": NOISE[:, 0]}, "level", [0.0, 1.0, 95]),
    (bootstrap_ci, {"returns": NOISE[:, 0]}, "n_boot", [0]),
    (bootstrap_ci, {"returns": NOISE[:, 0]}, "seed", [-1]),
    (bootstrap_ci, {"returns": NOISE[:, 0]}, "periods_per_year", [0, -1, math.inf]),
    (optimal_block_length, {"values": [1.0, 2.0]}, "values", [[], [1.0], [math.inf, 1.0], [[1.0, 2.0]]]),
]
CASES = [(function, good, name, bad) for function, good, name, values in REFUSED for bad in values]


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize(
    ("function", "good", "name", "bad"), CASES, ids=lambda value: getattr(value, "__name__", str(value)[:20])
)
def test_wrong_arguments_are_refused_by_name(function, good, name, bad):
    function(**good)
    with pytest.raises(ParameterError, match=name):
        function(**{**good, name: bad})


def test_returns_of_a_ruined_account_can_not_be_compounded():
    ruined = np.append(NOISE[:, 0], -1.0)
    for metric in overfit.COMPOUNDED:
        with pytest.raises(ParameterError, match="above -1"):
            bootstrap_ci(ruined, metric)
    assert bootstrap_ci(ruined, "sharpe").low < 0.0


def test_messages_say_what_to_do():
    with pytest.raises(ParameterError, match="did you mean 'sharpe'"):
        bootstrap_ci(NOISE[:, 0], "sharp")
    with pytest.raises(ParameterError, match="not in excess of 3"):
        probabilistic_sharpe_ratio(0.1, n_obs=250, kurtosis=0.0)


# ---- calibration: fewer worlds than tests/benchmarks/calibration.py takes --------------------------------------------


def test_noise_rarely_has_a_high_deflated_sharpe():
    """The best of 500 strategies of noise, in 200 worlds: above 0.95 in fewer than 5 % of them."""
    assert (calibration.deflated_sharpe(n_worlds=200, n_trials=500, n_bars=500) > 0.95).mean() < 0.05


@pytest.mark.parametrize(("n_trials", "n_bars"), [(20, 250), (50, 500)])
def test_reality_check_rejects_noise_at_its_level(n_trials, n_bars):
    """5 % of 300 worlds, and two binomial standard errors, 1.3 % each."""
    pvalues = calibration.reality_check_pvalues(300, n_trials, n_bars, n_boot=199)
    assert 0.05 - 0.026 <= (pvalues <= 0.05).mean() <= 0.05 + 0.026
    assert 0.4 < (pvalues <= 0.5).mean() < 0.6


def test_noise_is_overfit_half_of_the_time():
    """On the mean of many worlds; a single one says little."""
    found = calibration.overfitting_of_noise(200)
    assert found.mean() == pytest.approx(0.5, abs=0.05) and 0.15 < found.std() < 0.25


@pytest.mark.parametrize("phi", calibration.PHIS)
def test_intervals_of_the_sharpe_ratio_cover_what_they_say(phi):
    """93 to 97 % of 1,000 worlds; their binomial standard error is 0.7 %."""
    assert 0.93 <= calibration.sharpe_coverage(1000, 250, phi, n_boot=499) <= 0.97


def test_intervals_cover_on_long_series_too():
    assert 0.92 <= calibration.sharpe_coverage(400, 1000, 0.3, n_boot=499) <= 0.98
