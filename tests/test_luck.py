"""What a winner is worth: numbers that can be checked by hand, two passes in bounded memory, and words."""

import math
import tracemalloc

import numpy as np
import pandas as pd
import pytest
from benchmarks import calibration

from backgrid import overfit
from backgrid.errors import ParameterError
from backgrid.grid import run_grid
from backgrid.luck import measure_luck
from backgrid.metrics import calculate_sharpe_ratio
from backgrid.overfit import (
    deflated_sharpe_ratio,
    expected_maximum_sharpe,
    probability_of_backtest_overfitting,
    reality_check,
)
from backgrid.trials import Trials

NOISE = np.random.default_rng(0).normal(0.0003, 0.01, (12, 240))
ASSET = np.random.default_rng(1).normal(0.0005, 0.01, 240)


def measured(trials, benchmark=ASSET, *, chunk=None, cash=0.0, place=None, **terms):
    """Luck of the best trial of float64[n_trials, n_bars], handed over in chunks."""
    trials = np.asarray(trials, dtype=float)
    place = int(np.nanargmax([calculate_sharpe_ratio(each - cash) for each in trials])) if place is None else place
    size = chunk or len(trials)
    return measure_luck(
        lambda: (trials[first : first + size] for first in range(0, len(trials), size)),
        n_bars=trials.shape[1],
        winner={"k": place},
        place=place,
        benchmark=np.asarray(benchmark, dtype=float),
        cash=cash,
        **{"periods_per_year": 252, "n_blocks": 4, "n_boot": 99} | terms,
    )


def closes(n_bars, seed=0):
    steps = np.random.default_rng(seed).normal(0.0, 0.01, n_bars)
    return pd.Series(100.0 * np.exp(np.cumsum(steps)), pd.date_range("1800-01-01", periods=n_bars, name="Date"))


def swept(n_bars=300, fast=(5, 10, 20), **terms):
    grid = {"fast_window": list(fast), "slow_window": [50]}
    return run_grid(closes(n_bars), "ma_crossover", grid, fill="close", **terms)


# ---- numbers ---------------------------------------------------------------------------------------------------------


def test_each_number_is_that_of_its_own_function():
    cash = 0.0001
    luck, excess = measured(NOISE, cash=cash), NOISE - cash
    best = excess[luck.winner["k"]]
    assert luck.sharpe == pytest.approx(calculate_sharpe_ratio(best))
    assert luck.pbo == probability_of_backtest_overfitting(excess.T, n_blocks=4).pbo
    for found, rival in ((luck.against_cash, np.zeros(240)), (luck.against_holding, ASSET - cash)):
        expected = reality_check(excess.T, benchmark=rival, n_boot=99)
        assert found == expected._replace(
            statistic=pytest.approx(expected.statistic), block_length=pytest.approx(expected.block_length)
        )
    assert luck.correlation == pytest.approx((np.corrcoef(excess).sum() - 12) / (12 * 11))
    assert luck.n_effective == 12 and luck.correlation < 0.0


def test_each_deflated_sharpe_is_above_its_own_threshold():
    luck, best = measured(NOISE), NOISE[measured(NOISE).winner["k"]]
    z = (best - best.mean()) / best.std()
    known = {"n_obs": 240, "skew": (z**3).mean(), "kurtosis": (z**4).mean()}
    sharpes = NOISE.mean(axis=1) / NOISE.std(axis=1, ddof=1)
    told = [
        (luck.dsr_sampling, luck.luckiest, 12, 1 / 239),
        (luck.dsr_effective, luck.luckiest_effective, luck.n_effective, 1 / 239),
        (luck.dsr, luck.luckiest_observed, 12, sharpes.var(ddof=1)),
    ]
    for deflated, threshold, n_trials, variance in told:
        terms = {"n_trials": n_trials, "variance": variance}
        assert deflated == pytest.approx(deflated_sharpe_ratio(luck.sharpe / 252**0.5, **terms, **known))
        assert threshold == pytest.approx(expected_maximum_sharpe(**terms) * 252**0.5)


def test_correlation_leaves_out_what_does_not_vary():
    line = NOISE[0]
    assert measured([line, 3.0 * line, np.zeros(240)]).correlation == pytest.approx(1.0)
    assert measured([line, np.zeros(240)]).correlation == 1.0
    assert measured(np.tile(line, (999, 1))).correlation <= 1.0  # no rounding beyond
    assert measured([line, -line]).correlation == pytest.approx(-1.0)


def test_trials_that_do_not_vary_have_a_sharpe_of_zero():
    """0.0 and the ratio of the winner, s, have variance s**2 / 2."""
    luck = measured([NOISE[0], np.full(240, 0.001)], place=0)
    assert luck.luckiest_observed == pytest.approx(expected_maximum_sharpe(2, variance=luck.sharpe**2 / 2), rel=1e-9)


def test_one_trial_is_not_deflated():
    luck = measured(NOISE[:1])
    assert luck.luckiest == luck.luckiest_effective == luck.luckiest_observed == 0.0
    assert luck.dsr == luck.dsr_sampling == luck.dsr_effective == luck.psr
    assert luck.overfitting is None and math.isnan(luck.pbo)


def test_all_that_were_counted_deflate():
    """The ledger may know of more trials than the sweep has."""
    few, many = measured(NOISE), measured(NOISE, n_trials=1000)
    assert many.n_trials == 1000 and many.luckiest > few.luckiest and many.dsr_timing < few.dsr_timing


def test_a_single_gain_in_many_bars_is_measured():
    """Returns of two values: kurtosis is skew**2 + 1, its least, but for rounding."""
    one = np.zeros(20_000)
    one[7777] = 0.01
    luck = measured([one], np.tile([0.01, -0.009], 10_000), n_boot=1)
    assert luck.sharpe == pytest.approx((252 / 20_000) ** 0.5, rel=1e-3) and 0.5 < luck.psr < 1.0


# ---- timing ----------------------------------------------------------------------------------------------------------


def test_timing_is_alpha_by_residual_risk():
    """0.05 % alpha a bar, residuals of 0.1 % that have nothing to do with holding, beta 1/2."""
    held = np.tile([0.01, -0.01, 0.01, -0.01], 60) + 0.002
    returns = 0.5 * held + 0.0005 + np.tile([0.001, 0.001, -0.001, -0.001], 60)
    luck = measured([returns], held)
    assert luck.beta == pytest.approx(0.5)
    assert luck.timing == pytest.approx(0.5 * (239 / 240 * 252) ** 0.5)
    assert luck.dsr_timing == pytest.approx(
        deflated_sharpe_ratio(luck.timing / 252**0.5, n_obs=240, n_trials=1, variance=0.0, kurtosis=1.0)
    )


def test_timing_is_above_cash():
    """Half in holding and half in cash: the part in cash is no alpha."""
    cash = 0.0002
    luck = measured([0.5 * ASSET + 0.5 * cash + 0.001 * NOISE[0]], cash=cash)
    pure = measured([0.5 * (ASSET - cash) + 0.001 * NOISE[0]], ASSET - cash)
    assert luck.timing == pytest.approx(pure.timing) and luck.beta == pytest.approx(pure.beta)


@pytest.mark.parametrize("weight", [1.0, 0.5, -0.3])
def test_a_constant_share_of_holding_has_no_timing(weight):
    luck = measured([weight * ASSET])
    assert luck.beta == pytest.approx(weight) and math.isnan(luck.timing) and math.isnan(luck.dsr_timing)
    assert luck.table()["value"][["Timing only", "Timing only, deflated"]].tolist() == ["n/a", "n/a"]


def test_there_is_no_timing_in_what_does_not_move():
    luck = measured(NOISE, np.zeros(240))
    assert math.isnan(luck.beta) and math.isnan(luck.timing) and math.isnan(luck.dsr_timing)
    assert "n/a of holding" in luck.table()["meaning"]["Timing only"]


def test_timing_that_is_there_is_found():
    """Long when the next bar rises, four times of five."""
    right = np.random.default_rng(3).random(240) < 0.8
    luck = measured([np.where((ASSET > 0.0) == right, ASSET, 0.0), *(0.5 * ASSET + 0.001 * NOISE)])
    assert luck.dsr_timing > 0.99 and luck.timing > 3.0


def test_coins_on_a_rising_asset_pass_against_cash_and_have_no_timing():
    """The best of 100 coins, long or flat, in 60 worlds."""
    flips = calibration.coin_flips(60)
    assert np.mean([luck.dsr > 0.95 for luck in flips]) > 0.2
    assert np.mean([luck.dsr_timing > 0.95 for luck in flips]) < 0.05
    assert np.mean([luck.dsr_timing for luck in flips]) == pytest.approx(0.5, abs=0.08)


# ---- passes and memory -----------------------------------------------------------------------------------------------


def test_trials_are_made_twice():
    passes = []

    def chunks():
        passes.append(0)
        return iter([NOISE])

    terms = {"winner": {}, "place": 0, "benchmark": ASSET, "cash": 0.0, "periods_per_year": 252}
    measure_luck(chunks, n_bars=240, n_boot=9, **terms)
    assert len(passes) == 2


@pytest.mark.parametrize(("chunk", "memory"), [(1, 1), (5, 1e5), (12, 1e9)])
def test_neither_chunks_nor_memory_change_a_number(chunk, memory):
    whole, cut = measured(NOISE), measured(NOISE, chunk=chunk, memory=memory)
    for found, expected in zip(cut, whole, strict=True):
        if isinstance(expected, overfit.Overfitting):
            assert all(np.array_equal(*pair) for pair in zip(found, expected, strict=True))
        else:
            assert found == expected if isinstance(expected, dict) else found == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("n_boot", [50, 400])
def test_memory_is_honoured_on_100_000_bars(n_boot):
    """Two trials of 0.8 MB each; all counts of 400 resamples would take 80 MB."""
    trials = np.random.default_rng(0).normal(0.0, 0.01, (2, 100_000))
    measured(trials[:, :1000], trials[0, :1000])
    tracemalloc.start()
    try:
        measured(trials, trials[0], n_boot=n_boot, memory=20e6)
        assert tracemalloc.get_traced_memory()[1] < 20e6 + 2 * trials.nbytes
    finally:
        tracemalloc.stop()


def test_a_sweep_honours_its_memory_when_it_is_measured():
    """Its counts of 150 resamples would take 30 MB, and the returns of its trials 6 MB, a few times over."""
    sweep = swept(100_000, range(2, 10), memory="24MB")
    swept(300, memory="24MB").overfit(n_boot=9)
    tracemalloc.start()
    try:
        luck = sweep.overfit(n_boot=150, n_blocks=4)
        assert tracemalloc.get_traced_memory()[1] < 24e6
    finally:
        tracemalloc.stop()
    assert luck.n_trials == 8


def test_the_memory_of_a_sweep_changes_no_number():
    small, large = (swept(3000, range(2, 26), memory=memory).overfit(n_boot=50) for memory in ("1MB", "1GB"))
    assert small.against_holding.pvalue == large.against_holding.pvalue and small.pbo == large.pbo
    assert small.table().equals(large.table())


# ---- arguments -------------------------------------------------------------------------------------------------------

WRONG = [
    *(("n_blocks", value) for value in (3, 0, 22, 4.0, "16", None, True)),
    *(("n_boot", value) for value in (0, 10**6, 9.5, None)),
    *(("seed", value) for value in (-1, "a", None)),
    *(("n_trials", value) for value in (0, 1.5, "all", True)),
]


@pytest.mark.parametrize(("name", "value"), WRONG)
@pytest.mark.parametrize("few", [{}, {"fast": [5]}, {"n_bars": 60}], ids=["trials", "one", "few_bars"])
def test_wrong_arguments_are_refused_by_name_before_any_work(monkeypatch, few, name, value):
    sweep = swept(**few)
    monkeypatch.setattr(Trials, "returns", lambda *_: pytest.fail("worked before it looked"))
    with pytest.raises(ParameterError, match=name):
        sweep.overfit(**{name: value})


@pytest.mark.parametrize("n_bars", [53, 60, 83])
def test_few_bars_are_measured_without_cross_validation(n_bars):
    luck = swept(n_bars).overfit(n_boot=9, n_blocks=20)
    assert (luck.overfitting is None) == (n_bars - 1 < 40) and 0.0 <= luck.psr <= 1.0


# ---- words -----------------------------------------------------------------------------------------------------------


def test_the_table_says_each_threshold_beside_its_probability():
    luck = measured(NOISE)._replace(
        **{"n_trials": 4950.0, "n_effective": 1092.6, "luckiest": 1.51, "luckiest_effective": 1.34},
        **{"luckiest_observed": 0.67, "dsr_sampling": 0.597, "dsr_effective": 0.743, "dsr": 0.989},
        **{"beta": 0.47, "timing": -1.04, "dsr_timing": 0.127},
    )
    told = {name: tuple(row) for name, row in zip(luck.table().index, luck.table().to_numpy(), strict=True)}
    luck_alone = "1.51, what luck alone would give the best of 4,950 trials"
    assert told["Deflated Sharpe"] == ("0.597", f"that the true Sharpe is above {luck_alone}")
    assert told["Deflated, trials that differ"] == (
        "0.743",
        "that it is above 1.34, the same for 1,093 trials that differ",
    )
    assert told["Deflated, variance of trials"] == (
        "0.989",
        "that it is above 0.67, by how these vary: less than by chance, which flatters a dense grid",
    )
    assert told["Timing only"] == ("\u22121.04", "Sharpe of the winner less 0.47 of holding, its beta")
    assert told["Timing only, deflated"] == ("0.127", f"that the true one is above {luck_alone}")
    assert list(told)[6:9] == ["Deflated Sharpe", "Deflated, trials that differ", "Deflated, variance of trials"]


@pytest.mark.parametrize(
    ("observed", "said"), [(0.67, "flatters a dense grid"), (1.45, "much as by chance"), (2.0, "which is stricter")]
)
def test_the_caveat_says_which_way_the_variance_of_the_trials_errs(observed, said):
    luck = measured(NOISE)._replace(luckiest=1.5, luckiest_observed=observed)
    assert luck.table()["meaning"]["Deflated, variance of trials"].endswith(said)


def test_one_trial_is_told_in_the_singular_and_what_is_undefined_is_not_a_number():
    luck = measured(NOISE[:1])._replace(sharpe=-0.5, minimum_track_record=math.inf, minimum_backtest=math.inf)
    values = luck.table()["value"]
    assert repr(luck).startswith("<Luck of k=0, 1 trial>\n")
    assert luck._repr_html_().startswith("<p>Sharpe \u22120.50 for k=0, the only trial</p>")
    undefined = ["Overfitting (PBO)", "Shortest track record", "Shortest backtest"]
    assert values[undefined].tolist() == ["n/a"] * 3
    assert "nan" not in repr(luck) and "inf" not in repr(luck) and "1 trials" not in repr(luck)
    assert luck.table()["meaning"]["Deflated Sharpe"] == "that the true Sharpe is above 0.00, as nothing else was tried"


def test_many_trials_are_told_in_the_plural_and_parameters_are_escaped():
    luck = measured(NOISE)._replace(winner={"<b>": "<i>"})
    assert repr(luck).startswith("<Luck of <b>=<i>, 12 trials>")
    assert "the best of 12 trials" in luck._repr_html_() and "<b>" not in luck._repr_html_()
