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

from backgrid import bootstrap, overfit
from backgrid.errors import ParameterError
from backgrid.overfit import (
    CrossValidation,
    MeanLength,
    RealityTest,
    adjust_pvalues,
    deflated_sharpe_ratio,
    effective_trials,
    expected_maximum_sharpe,
    minimum_backtest_length,
    minimum_track_record_length,
    probabilistic_sharpe_ratio,
    probability_of_backtest_overfitting,
    reality_check,
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
    errors, spreads = [], []
    for k in range(n_trials):
        lags = [centred[i:, k] @ centred[: n - i, k] / n for i in range(n)]
        spreads.append(math.sqrt(lags[0] + 2 * sum(keep[i] * lags[i] for i in range(1, n))))
        errors.append(max(spreads[-1], math.sqrt(bootstrap.long_run_variance(excess[:, k].copy()))))
    ratio = math.sqrt(n) * excess.mean(axis=0) / errors
    observed, bound = max(0.0, max(ratio)), -math.sqrt(2 * math.log(math.log(n)))
    pvalues = []
    for shift in (np.minimum(ratio, 0.0), np.where(ratio < bound, ratio, 0.0), 0.0):
        drawn = [max(0.0, max(math.sqrt(n) * centred[row].mean(axis=0) / spreads + shift)) for row in places]
        pvalues.append((1 + sum(value >= observed for value in drawn)) / (1 + len(drawn)))
    return observed, pvalues


def resamples(n_bars, length, n_boot=50, seed=0):
    return np.concatenate(list(bootstrap.resamples(n_bars, length, n_boot, seed)))


def checked(chunks, **terms):
    test = RealityTest(**terms)
    for chunk in chunks:
        test.add(chunk)
    return test.result()


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


def test_a_threshold_beyond_all_ratios_is_not_reached():
    assert deflated_sharpe_ratio(1.0, n_obs=250, n_trials=500, variance=1e12) == 0.0


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


def test_chunks_of_trials_change_no_split():
    expected = probability_of_backtest_overfitting(NOISE, n_blocks=8)
    for size in (1, 5, 11):
        validation = CrossValidation(240, 8)
        for take in (validation.choose, validation.rank):
            for first in range(0, 12, size):
                take(np.ascontiguousarray(NOISE.T[first : first + size]))
        found = validation.result()
        assert all(np.array_equal(*pair) for pair in zip(found, expected, strict=True))


def test_kernels_compiled_or_not_are_one(monkeypatch):
    blocks, both = NOISE.reshape(4, 60, 12), []
    sums, squares = blocks.sum(axis=1), (blocks**2).sum(axis=1)
    known = (np.array([[True, True, False, False], [True, False, True, False]]), 60, sums, squares)
    choose, rank = overfit._choose, overfit._rank
    for python in (False, True):
        best, earned = np.full((2, 2), -np.inf), np.zeros((2, 2))
        n_best, below, tied = np.zeros((3, 2, 2), dtype=np.int64)
        (choose.py_func if python else choose)(*known, best, earned, n_best)
        (rank.py_func if python else rank)(*known, earned / n_best, below, tied)
        both.append(np.array([best, earned, n_best, below, tied]))
        monkeypatch.setattr(overfit, "_sharpes", overfit._sharpes.py_func if not python else overfit._sharpes)
    assert both[0] == pytest.approx(both[1], rel=1e-12)
    places, counts = resamples(50, 3.0, 4), np.zeros((2, 4, 50), dtype=np.uint8)
    overfit._count(places, counts[0])
    overfit._count.py_func(places, counts[1])
    assert (counts[0] == counts[1]).all()


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
    terms = {"benchmark": np.zeros(240), "block_length": 2.0}
    quiet_check, loud_check = (checked([returns.T], **terms) for returns in (good, loud))
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
    terms = {"benchmark": np.zeros(240), "block_length": 3.0}
    expected, check = checked([NOISE.T], **terms), checked([flat.T], **terms)
    assert check == expected._replace(n_trials=14, best=expected.best + 1)
    never = reality_check(np.full((240, 2), 0.01))
    assert never.best is None and never.statistic == 0.0 and never.pvalue == 1.0
    assert reality_check(pd.DataFrame(np.zeros((240, 2)), columns=["a", "b"])) == reality_check(np.zeros((240, 2)))


def test_holding_the_benchmark_is_no_win():
    """Apart from the benchmark by rounding only."""
    held = NOISE[:, 0]
    check = reality_check(np.column_stack([held, (1.0 + held) * (1.0 + 1e-16) - 1.0]), benchmark=held)
    assert check.best is None and check.pvalue == 1.0


def test_the_best_may_lose():
    check = reality_check(NOISE - np.where(np.arange(12) == 3, 0.01, 0.02))
    assert check.best == 3 and check.statistic == 0.0


@pytest.mark.parametrize("memory", [1, 50_000, 2e6])
def test_neither_chunks_nor_memory_change_a_pvalue(memory):
    """60 resamples of 300 bars: 18,000 counts are kept, or drawn again some at a time."""
    wide = np.random.default_rng(2).normal(0.0002, 0.01, (600, 300))
    terms = {"benchmark": wide[0], "block_length": 4.0, "n_boot": 60}
    whole = checked([wide], **terms)
    assert whole.n_trials == 600
    for size in (71, 256, 599):
        cut = checked((wide[first : first + size] for first in range(0, 600, size)), **terms, memory=memory)
        assert cut == whole._replace(statistic=pytest.approx(whole.statistic, rel=1e-12))


def test_equal_trials_tie_whichever_way_they_are_summed():
    """Resamples whose statistic is that of the sample but for rounding are counted as reaching it."""
    returns = np.tile([[0.02], [-0.01]], (2, 1))
    drawn = resamples(4, 1.0, 200)
    as_good = [returns[row].mean() - returns.mean() >= returns.mean() - 1e-9 for row in drawn]
    check = checked([returns.T], benchmark=np.zeros(4), block_length=1.0, n_boot=200)
    assert 0 < sum(as_good) < 200 and check.pvalue_upper == (1 + sum(as_good)) / 201


def test_counts_are_how_often_a_resample_holds_a_bar(monkeypatch):
    monkeypatch.setattr(bootstrap, "CELLS", 20_000)
    test = RealityTest(np.zeros(9000), block_length=5.0, n_boot=3)
    (counts,) = test.kept
    assert (counts.sum(axis=1, dtype=int) == 9000).all()
    assert counts[1].tolist() == np.bincount(resamples(9000, 5.0, 3)[1], minlength=9000).tolist()
    lines = np.random.default_rng(3).normal(size=(2, 9000))
    assert overfit._products(counts, lines, 6000) == pytest.approx(counts.astype(float) @ lines.T, rel=1e-9)


def test_block_length_is_the_mean_of_those_of_the_trials():
    """A strategy and its opposite have no mean, and depend on the past as each of them does."""
    line = calibration.autoregressive(np.random.default_rng(1), 0.6, (1000,))
    length = bootstrap.optimal_block_length(line)
    assert length > 5.0
    both = np.column_stack([line, -line, np.ones(1000)])
    assert reality_check(both, n_boot=1).block_length == pytest.approx(length)
    assert reality_check(both, benchmark=line, n_boot=1).block_length == pytest.approx(
        (length + bootstrap.optimal_block_length(1.0 - line)) / 2.0
    )
    assert MeanLength().result == 1.0


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
        [NOISE[:, 0], NOISE[:1], np.empty((40, 0)), np.full((40, 3), math.inf), np.full((40, 3), 1e70)],
    ),
    (reality_check, {"returns": NOISE}, "benchmark", [NOISE[:5, 0], NOISE, [math.nan] * 240]),
    (reality_check, {"returns": NOISE}, "n_boot", [0, 10**6, 9.5]),
    (reality_check, {"returns": NOISE}, "seed", [-1, "a", None]),
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


def test_messages_say_what_to_do():
    with pytest.raises(ParameterError, match="did you mean 'holm'"):
        adjust_pvalues([0.1], method="hol")
    with pytest.raises(ParameterError, match="not in excess of 3"):
        probabilistic_sharpe_ratio(0.1, n_obs=250, kurtosis=0.0)


# ---- calibration: fewer worlds than tests/benchmarks/calibration.py takes --------------------------------------------


def test_noise_rarely_has_a_high_deflated_sharpe():
    """The best of 500 strategies of noise, in 200 worlds: above 0.95 in fewer than 5 % of them."""
    assert (calibration.deflated_sharpe(n_worlds=200, n_trials=500, n_bars=500) > 0.95).mean() < 0.05


@pytest.mark.parametrize("phi", [0.0, 0.2])
@pytest.mark.parametrize("trials", [calibration.alike, calibration.opposite])
def test_reality_check_rejects_noise_at_its_level(phi, trials):
    """4 to 7 % of 600 worlds; their binomial standard error is 1 %."""
    pvalues = calibration.reality_check_pvalues(600, 20, 500, phi, n_boot=199, trials=trials)
    assert 0.02 <= (pvalues <= 0.05).mean() <= 0.09
    assert 0.4 < (pvalues <= 0.5).mean() < 0.6


def test_noise_is_overfit_half_of_the_time():
    """On the mean of many worlds; a single one says little."""
    found = calibration.overfitting_of_noise(200)
    assert found.mean() == pytest.approx(0.5, abs=0.05) and 0.15 < found.std() < 0.25
