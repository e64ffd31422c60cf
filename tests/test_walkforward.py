"""Walk-forward: choices know the past only, what follows is one account that pays, and every number has its twin."""

import concurrent.futures
import itertools
import math
import pickle
import statistics

import numpy as np
import pandas as pd
import plain
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from backgrid import _windows, search, walkforward
from backgrid._sweep import Account
from backgrid._windows import FORMULAS, MOST_SPLITS
from backgrid.engine import run_backtest
from backgrid.errors import ParameterError, PricesError
from backgrid.ledger import count_trials, read_ledger
from backgrid.metrics import LARGEST_RATIO, ROUNDING, calculate_metrics, calculate_sharpe_ratio, cash_return
from backgrid.strategies import ma_crossover
from backgrid.walkforward import combinatorial_cross_validation, walk_forward

PAIRS = {"fast_window": [2, 3, 5], "slow_window": [5, 8, 12]}
SIDES = {"side": [1.0, -1.0]}
FILLS = ["next_open", "close", "next_close"]
RISES, FALLS = [1.1, 1.2] * 2, [0.9, 0.8] * 2
HAND = [100.0, *(100.0 * np.cumprod(RISES + FALLS))]  # 100 110 132 145.2 174.24 156.816 125.4528 112.90752 90.326016


def one_side(prices, *, side=1.0):
    """The same position on every bar."""
    return np.full(len(prices), side)


def after_rise(prices, *, lag=3, side=1.0):
    """Plain NumPy, long and short: one way after a rise over some bars, the other after a fall."""
    close = prices["Close"].to_numpy()
    rise = np.zeros(close.size)
    rise[lag:] = np.sign(close[lag:] - close[:-lag])
    return side * rise


CASES = {  # strategy and grid: by lines, bar by bar, and with combinations that are refused
    "lines": ("ma_crossover", PAIRS),
    "plain": (after_rise, {"lag": [1, 2, 5], "side": [1.0, -0.5, -1.0]}),
    "refused": ("ma_crossover", {"fast_window": [2, 9, 40], "slow_window": [6, 9]}),
}

# ---- slow twins ------------------------------------------------------------------------------------------------------


def plain_metric(name, returns, cost_of_cash, a_year, to_choose=False):
    """A metric of an account that opens before the first of these returns."""
    returns = np.asarray(returns, dtype=float)
    if not returns.size or (to_choose and np.ptp(returns) <= ROUNDING):
        return math.nan
    none = np.zeros(0)
    return calculate_metrics(
        equity=np.cumprod([1.0, *(1.0 + returns)]),
        benchmark=np.zeros(returns.size),
        positions=np.zeros(returns.size + 1),
        **dict.fromkeys(("traded", "pnl", "trade_returns", "bars_held", "fees"), none),
        n_trades=0,
        risk_free=cost_of_cash,
        periods_per_year=a_year,
    )[name]


def plain_folds(n_bars, train, test, gap, anchored, shorter_last):
    """Training and test bars of each fold."""
    folds = []
    for k in itertools.count():
        start = k * test
        bars = range(0 if anchored else start, start + train), range(start + train + gap, start + train + gap + test)
        if bars[1].stop > n_bars and not (shorter_last and bars[1].start < n_bars):
            return folds
        folds.append((list(bars[0]), list(bars[1])[: max(n_bars - bars[1].start, 0)]))


def plain_trials(prices, strategy, grid, **given):
    """Each combination that is not refused, in order: parameters, returns by bar (0 for the first), targets."""
    trials = []
    function = ma_crossover if strategy == "ma_crossover" else strategy
    for values in itertools.product(*grid.values()):
        params = dict(zip(grid, values, strict=True))
        try:
            run = run_backtest(prices, strategy, params=params, **given)
        except ParameterError:
            continue
        targets = np.nan_to_num(np.asarray(function(prices, **params), dtype=float))
        trials.append((params, np.concatenate([[math.nan], run.returns]), targets))
    return trials


def on(bars, returns):
    """The returns of these bars; the first bar of all has none."""
    return [returns[bar] for bar in bars if bar > 0]


def hold_to_the_best(result, trials, bars_of_folds, metric, risk_free, a_year):
    """No trial is better in a training window than the chosen one, and its metric there is right."""
    by_params = {str(params): (returns, targets) for params, returns, targets in trials}
    for k, bars in enumerate(bars_of_folds):
        known = [plain_metric(metric, on(bars, returns), risk_free, a_year, True) for _, returns, _ in trials]
        if np.isnan(known).all():
            assert result.chosen[k] is None and math.isnan(result.folds["in_sample"].iloc[k])
            continue
        mine = plain_metric(metric, on(bars, by_params[str(result.chosen[k])][0]), risk_free, a_year, True)
        assert mine == pytest.approx(np.nanmax(known), rel=1e-9, abs=1e-11)
        assert result.folds["in_sample"].iloc[k] == pytest.approx(mine, rel=1e-9, abs=1e-11)
    return by_params


# ---- what is drawn ---------------------------------------------------------------------------------------------------

walks = st.builds(plain.random_bars, st.integers(0, 2**32), st.integers(30, 70), st.sampled_from([0.005, 0.03]))
metrics = st.sampled_from(sorted(FORMULAS))
cases = st.sampled_from(sorted(CASES))
costs = st.fixed_dictionaries(
    {"fill": st.sampled_from(FILLS), "fees": st.sampled_from([0.0, 0.002]), "risk_free": st.sampled_from([0.0, 0.05])}
)

# ---- by hand ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def by_hand():
    """Up by 10 % and 20 %, then down by as much; long or short, decided on 3 bars for the next 2."""
    closes = pd.Series(HAND, index=pd.bdate_range("2023-01-02", periods=9, name="Date"))
    closes.attrs["symbol"] = "HAND"
    return walk_forward(closes, one_side, SIDES, train=3, test=2, fill="close", cash=1000.0)


def test_the_best_on_the_bars_before_is_held_on_the_next(by_hand):
    """Long at bar 3 (+20 %, -10 %, -20 %, -10 %), turned at the close of bar 7, short into the last -20 %."""
    assert by_hand.chosen == ({"side": 1.0}, {"side": 1.0}, {"side": -1.0})
    assert by_hand.equity.tolist() == pytest.approx([1000.0, 1200.0, 1080.0, 864.0, 777.6, 933.12])
    assert by_hand.result.trades["exit_reason"].tolist() == ["signal", "open"]  # one position over two folds


def test_folds_tell_their_windows_and_both_metrics(by_hand):
    assert by_hand.folds.columns.tolist() == [
        *("train_start", "train_end", "test_start", "test_end", "side", "in_sample", "out_of_sample")
    ]
    days = by_hand.folds.iloc[:, :4].apply(lambda column: column.dt.day).to_numpy().tolist()
    assert days == [[2, 4, 5, 6], [4, 6, 9, 10], [6, 10, 11, 12]]
    a_year = 252.0**0.5
    assert by_hand.folds["in_sample"].iloc[0] == pytest.approx(statistics.mean([0.1, 0.2]) / 0.005**0.5 * a_year)
    assert by_hand.folds["out_of_sample"].iloc[1:].tolist() == pytest.approx(
        [statistics.mean(pair) / statistics.stdev(pair) * a_year for pair in ([-0.1, -0.2], [-0.1, 0.2])]
    )
    assert math.isnan(by_hand.folds["out_of_sample"].iloc[0])  # the first test bar opens the account: one return


def test_efficiency_is_what_is_left_of_the_sharpe_ratio(by_hand):
    outside = calculate_sharpe_ratio([0.2, -0.1, -0.2, -0.1, 0.2])
    inside = by_hand.folds["in_sample"].mean()
    assert by_hand.out_of_sample_sharpe == pytest.approx(outside) == pytest.approx(by_hand.result.metrics["sharpe"])
    assert by_hand.in_sample_sharpe == pytest.approx(inside)
    assert by_hand.efficiency == pytest.approx(outside / inside)


def test_stability_counts_the_chosen_values(by_hand):
    row = by_hand.stability.loc["side"]
    assert (row["distinct"], row["most_frequent"], row["share"]) == (2, 1.0, pytest.approx(2 / 3))
    assert row["spread"] == pytest.approx(statistics.pstdev([1.0, 1.0, -1.0]) / 2.0)


def test_numbers_stand_beside_how_many_were_tried(by_hand):
    told = "one_side HAND, 3 rolling folds, each the best of 2 trials by sharpe; Sharpe "
    assert repr(by_hand).startswith(f"<WalkForwardResult {told}") and "out of sample" in repr(by_hand)
    assert (by_hand.n_folds, by_hand.n_trials, by_hand.n_flat, by_hand.n_untested) == (3, 2, 0, 0)
    page = by_hand._repr_html_()
    assert told in page and "2023-01-12" in page and "stability" not in page and "66.7" in page
    assert by_hand.result.title.startswith("one_side, walk-forward(train=3, test=2, gap=0, anchored=False, metric=")
    assert by_hand.result.symbol == "HAND"


def test_result_can_be_written_pickled_and_stressed(by_hand):
    again = pickle.loads(pickle.dumps(by_hand.result))
    assert again == type(again).from_json(by_hand.result.to_json())
    assert len(by_hand.result.stress())


def test_a_fold_in_which_nothing_can_be_chosen_is_flat_and_says_so():
    """Long from bar 12 on: the first window has no trade, so nothing is held on bars 8 to 15."""

    def late(prices, *, start=12):
        return np.where(np.arange(len(prices)) >= start, 1.0, 0.0)

    result = walk_forward(plain.random_bars(1, 24), late, {"start": [12]}, train=8, test=8)
    assert result.chosen == (None, {"start": 12})
    assert result.folds["start"].isna().tolist() == [True, False]
    assert result.folds["in_sample"].isna().tolist() == [True, False]
    assert set(result.equity.iloc[:8]) == {100_000.0} and result.equity.iloc[-1] != 100_000.0
    assert result.n_flat == 1 and "flat in 1 of the 2, where no trial could be chosen" in repr(result)
    assert "n/a" in result._repr_html_() and result.stability.loc["start", "share"] == 1.0


@pytest.mark.parametrize("function", [walk_forward, combinatorial_cross_validation])
def test_where_nothing_ever_trades_everything_is_undefined(function):
    windows = {"train": 8, "test": 8} if function is walk_forward else {}
    result = function(plain.random_bars(1, 24), one_side, {"side": [0.0]}, **windows)
    assert set(result.chosen) == {None} and result.n_trials == 1
    for value in (result.efficiency, result.in_sample_sharpe, result.out_of_sample_sharpe, *result.stability["share"]):
        assert math.isnan(value)
    assert np.unique(result.equity).tolist() == [100_000.0]
    assert result._repr_html_().count("n/a") >= result.n_folds


def test_of_equals_the_first_is_chosen():
    def indifferent(prices, *, nothing=1):
        return np.full(len(prices), 1.0)

    result = walk_forward(plain.random_bars(1, 60), indifferent, {"nothing": [7, 3, 5]}, train=20, test=10)
    assert {params["nothing"] for params in result.chosen} == {7}
    assert result.stability.loc["nothing", ["distinct", "share", "spread"]].tolist() == [1, 1.0, 0.0]


def test_the_same_choice_again_costs_nothing():
    result = walk_forward(plain.random_bars(1, 60), one_side, {"side": [1.0]}, train=20, test=10, fees=0.01)
    assert result.result.metrics["n_trades"] == 1 and result.n_folds == 4


def test_another_choice_pays_for_the_change(by_hand):
    closes = pd.Series(HAND, index=by_hand.folds["train_start"].iloc[0] + pd.Timedelta(days=1) * np.arange(9))
    paid = walk_forward(closes, one_side, SIDES, train=3, test=2, fill="close", cash=1000.0, fees=0.01)
    assert paid.chosen == by_hand.chosen
    bought, sold, shorted = 1000.0 / 1.01, 777.6 / 1.01 * 0.99, 777.6 / 1.01 * 0.99 / 1.01
    assert paid.result.trades["fees"].tolist() == pytest.approx([bought * 0.01 + 777.6 / 1.01 * 0.01, shorted * 0.01])
    assert paid.equity.iloc[0] == 1000.0  # an account opens with its cash
    assert paid.equity.iloc[-1] == pytest.approx(sold - shorted * 0.01 + shorted * 0.2)


# ---- what no data may change -----------------------------------------------------------------------------------------


@given(walks, cases, metrics, costs, st.booleans(), st.integers(0, 3), st.integers(0, 2**32))
@settings(max_examples=60)
def test_no_test_window_has_a_say_in_its_own_choice_or_an_earlier_one(prices, case, metric, terms, anchored, gap, seed):
    given = {"train": 12, "test": 6, "gap": gap, "anchored": anchored, "metric": metric, **terms}
    before = walk_forward(prices, *CASES[case], **given)
    rng = np.random.default_rng(seed)
    k = int(rng.integers(before.n_folds))
    changed = prices.copy()
    changed.iloc[12 + gap + 6 * k :] *= rng.lognormal(0.0, 0.2, (len(prices) - (12 + gap + 6 * k), 1))
    after = walk_forward(changed, *CASES[case], **given)
    assert after.chosen[: k + 1] == before.chosen[: k + 1]
    pd.testing.assert_series_equal(after.folds["in_sample"][: k + 1], before.folds["in_sample"][: k + 1])
    np.testing.assert_array_equal(after.equity[: 6 * k], before.equity[: 6 * k])


@given(walks, cases, metrics, costs, st.integers(1, 3), st.booleans())
@settings(max_examples=40)
def test_neither_memory_nor_executor_nor_chunks_change_anything(prices, case, metric, terms, chunk, anchored):
    given = {"train": 12, "test": 6, "metric": metric, "anchored": anchored, **terms}
    expected = walk_forward(prices, *CASES[case], **given)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(walkforward, "CHUNK", chunk)
        patch.setattr(search, "WORK", 4 * len(prices))
        for result in (
            walk_forward(prices, *CASES[case], executor=Pickling(), **given),
            walk_forward(prices, *CASES[case], memory="100KB", **given),
        ):
            assert result.chosen == expected.chosen
            assert (result.n_trials, result.n_refused) == (expected.n_trials, expected.n_refused)
            pd.testing.assert_frame_equal(result.folds, expected.folds)
            assert result.result == expected.result


class Pickling(concurrent.futures.Executor):
    """Runs what it is given as another process would: from a pickle."""

    def submit(self, function, /, *args):
        future = concurrent.futures.Future()
        function, args = pickle.loads(pickle.dumps((function, args)))
        future.set_result(pickle.loads(pickle.dumps(function(*args))))
        return future


def test_combinatorial_splits_take_an_executor_too():
    prices = plain.random_bars(3, 80)
    expected = combinatorial_cross_validation(prices, "ma_crossover", PAIRS)
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        result = combinatorial_cross_validation(prices, "ma_crossover", PAIRS, executor=pool)
    pd.testing.assert_frame_equal(result.folds, expected.folds)


# ---- twins -----------------------------------------------------------------------------------------------------------


@given(
    walks,
    cases,
    metrics,
    costs,
    st.integers(2, 25),
    st.integers(1, 12),
    st.integers(0, 5),
    st.booleans(),
    st.booleans(),
)
@settings(max_examples=60)
def test_walk_forward_is_its_slow_twin(prices, case, metric, terms, train, test, gap, anchored, shorter_last):
    strategy, grid = CASES[case]
    folds = plain_folds(len(prices), train, test, gap, anchored, shorter_last)
    assume(sum(len(tested) for _, tested in folds) >= 2)
    given = {"train": train, "test": test, "gap": gap, "anchored": anchored, "shorter_last": shorter_last}
    result = walk_forward(prices, strategy, grid, metric=metric, **given, **terms)
    trials = plain_trials(prices, strategy, grid, **terms)
    assert (result.n_folds, result.n_trials) == (len(folds), len(trials))
    assert result.n_trials + result.n_refused == math.prod(map(len, grid.values()))
    by_params = hold_to_the_best(result, trials, [trained for trained, _ in folds], metric, terms["risk_free"], 252)
    target = np.zeros(len(prices))
    for chosen, (_, tested) in zip(result.chosen, folds, strict=True):
        if chosen:
            target[tested] = by_params[str(chosen)][1][tested]
    first, stop = folds[0][1][0], folds[-1][1][-1] + 1
    run = run_backtest(prices.iloc[first:stop], target[first:stop], periods_per_year=252, **terms)
    pd.testing.assert_series_equal(result.equity, run.equity)
    assert result.n_untested == len(prices) - stop
    returns = dict(zip(range(first + 1, stop), run.returns, strict=True))
    outside = [
        plain_metric(metric, [returns[t] for t in tested if t in returns], terms["risk_free"], 252)
        for _, tested in folds
    ]
    np.testing.assert_allclose(result.folds["out_of_sample"], outside, rtol=1e-9, atol=1e-10)
    np.testing.assert_allclose(result.out_of_sample_sharpe, run.metrics["sharpe"], rtol=1e-9)
    ends = zip(*([bars[end] for bars in fold for end in (0, -1)] for fold in folds), strict=True)
    for name, places in zip(("train_start", "train_end", "test_start", "test_end"), ends, strict=True):
        assert result.folds[name].tolist() == prices.index[list(places)].tolist()


@given(walks, cases, metrics, costs, st.integers(2, 7), st.integers(1, 6), st.integers(0, 3))
@settings(max_examples=60)
def test_combinatorial_cross_validation_is_its_slow_twin(prices, case, metric, terms, n_blocks, n_test, gap):
    assume(n_test < n_blocks)
    strategy, grid = CASES[case]
    edges = [len(prices) * k // n_blocks for k in range(n_blocks + 1)]
    blocks = [list(range(start, stop)) for start, stop in itertools.pairwise(edges)]
    splits = list(itertools.combinations(range(n_blocks), n_test))
    tested = [[t for block in split for t in blocks[block]] for split in splits]
    trained = [
        [t for t in range(len(prices)) if not any(near in bars for near in range(t - gap, t + gap + 1))]
        for bars in map(set, tested)
    ]
    assume(min(map(len, trained)) >= 2)
    given = {"n_blocks": n_blocks, "n_test": n_test, "gap": gap, "metric": metric, **terms}
    result = combinatorial_cross_validation(prices, strategy, grid, **given)
    assert result.folds["train_bars"].tolist() == [*map(len, trained)]
    assert result.folds["test_bars"].tolist() == [*map(len, tested)]
    assert result.folds["test_blocks"].tolist() == [", ".join(map(str, split)) for split in splits]
    trials = plain_trials(prices, strategy, grid, **terms)
    by_params = hold_to_the_best(result, trials, trained, metric, terms["risk_free"], 252)
    outside = [
        plain_metric(metric, on(bars, by_params[str(chosen)][0]), terms["risk_free"], 252) if chosen else math.nan
        for chosen, bars in zip(result.chosen, tested, strict=True)
    ]
    np.testing.assert_allclose(result.folds["out_of_sample"], outside, rtol=1e-9, atol=1e-10)
    assert len(result.paths) == math.comb(n_blocks, n_test) * n_test // n_blocks
    for path, run in enumerate(result.paths):
        target = np.zeros(len(prices))
        for block, bars in enumerate(blocks):
            chosen = result.chosen[[k for k, split in enumerate(splits) if block in split][path]]
            if chosen:
                target[bars] = by_params[str(chosen)][1][bars]
        pd.testing.assert_series_equal(run.equity, run_backtest(prices, target, **terms).equity)
        np.testing.assert_array_equal(result.equity[path], run.equity)
        np.testing.assert_allclose(result.sharpes[path], run.metrics["sharpe"], rtol=1e-9)


small = st.integers(-4, 4).map(lambda n: n / 50)


@given(st.lists(small, min_size=1, max_size=40), st.data(), st.sampled_from([0.0, 0.3]), metrics)
def test_joined_windows_have_the_metrics_of_their_returns(returns, data, risk_free, metric):
    """Any stretches of bars, in order of time, as one account."""
    cuts = st.lists(st.integers(0, len(returns)), min_size=2, max_size=6).map(sorted)
    windows = [[*zip(cut[::2], cut[1::2], strict=False)] for cut in data.draw(st.lists(cuts, min_size=1, max_size=4))]
    layout = _windows.lay_out([[(a + 1, b + 1) for a, b in runs] for runs in windows])
    account = Account(0, 1.0, 0.0, 0.0, cash_return(risk_free, 252), 252)
    values = _windows.window_values(metric, _windows.sum_windows(np.array([returns]), account, layout), account)[0]
    expected = [plain_metric(metric, [r for a, b in runs for r in returns[a:b]], risk_free, 252) for runs in windows]
    assume(not any(abs(value) > LARGEST_RATIO / 2 for value in [*values, *expected]))
    np.testing.assert_allclose(values, expected, rtol=1e-9, atol=1e-12)


def test_each_metric_chooses_by_itself():
    """Two trials that differ in what is better: the calm one in ratios, the wild one in growth."""

    def share(prices, *, share=1.0):
        return np.where(np.arange(len(prices)) % 2, share, share * 0.99)

    prices = plain.random_bars(5, 80)
    up = prices * (1.01 ** np.arange(80))[:, None]
    chosen = {
        metric: walk_forward(up, share, {"share": [0.2, 1.0]}, train=60, test=20, metric=metric).chosen[0]["share"]
        for metric in FORMULAS
    }
    assert chosen["total_return"] == chosen["cagr"] == chosen["annual_return"] == 1.0
    assert chosen["max_drawdown"] == 0.2


# ---- other settings --------------------------------------------------------------------------------------------------


@given(walks, st.sampled_from(["lines", "plain"]), st.sampled_from(["next_open", "next_close"]), st.integers(0, 2**32))
@settings(max_examples=60)
def test_an_account_that_waits_is_the_account_that_opens_with_the_first_test_bar(prices, case, fill, seed):
    """By-bar stops, a size by volatility, a benchmark: the run on all bars, flat but in test windows, is the same."""
    rng = np.random.default_rng(seed)
    terms = {
        "fill": fill,
        "fees": 0.001,
        "stop_loss": rng.choice([np.nan, 0.03, 0.1], len(prices)),
        "take_profit": pd.Series(rng.choice([np.nan, 0.05], len(prices)), index=prices.index),
        "trailing_stop": rng.choice([np.nan, 0.04], len(prices)).tolist(),
        "benchmark": prices["Close"],
        **({"sizing": "volatility", "size": 0.1, "lookback": 8} if seed % 2 else {"sizing": "cash", "size": 5e4}),
    }
    result = walk_forward(prices, *CASES[case], train=12, test=6, **terms)
    stop = 12 + 6 * result.n_folds
    target = np.zeros(stop)
    for k, chosen in enumerate(result.chosen):
        if chosen:
            bars = slice(12 + 6 * k, 18 + 6 * k)
            function = ma_crossover if case == "lines" else after_rise
            target[bars] = np.nan_to_num(function(prices, **chosen))[bars]
    for name in ("stop_loss", "take_profit", "trailing_stop"):
        terms[name] = np.asarray(terms[name])[:stop]
    run = run_backtest(prices.iloc[:stop], target, periods_per_year=252, **terms)
    np.testing.assert_allclose(result.equity, run.equity.iloc[12:], rtol=1e-12)
    assert result.equity.index[0] == result.folds["test_start"].iloc[0] and result.equity.iloc[0] == 100_000.0
    shown = ["n_trades", "fees_paid", "profit_factor", "best_trade"]
    np.testing.assert_allclose([result.result.metrics[n] for n in shown], [run.metrics[n] for n in shown], rtol=1e-9)


def test_only_where_names_what_is_tried():
    prices = plain.random_bars(2, 80)
    grid = {"fast_window": [2, 3, 9], "slow_window": [3, 9, 500]}
    result = walk_forward(prices, "ma_crossover", grid, where="fast_window < slow_window", train=20, test=20)
    assert (result.n_trials, result.n_refused, result.n_excluded) == (3, 3, 3)
    assert {tuple(params.values()) for params in result.chosen} <= {(2, 3), (2, 9), (3, 9)}


def test_a_list_of_combinations_is_a_grid_too():
    points = [{"fast_window": 2, "slow_window": 9}, {"fast_window": 3, "slow_window": 5}]
    result = walk_forward(plain.random_bars(2, 80), "ma_crossover", points, train=20, test=20)
    assert result.n_trials == 2 and all(params in points for params in result.chosen)


def test_text_and_single_values_have_no_spread():
    def by_name(prices, *, name="up", bars=1):
        return np.full(len(prices), 1.0 if name == "up" else -1.0)

    grid = {"name": ["up", "down"], "bars": [1]}
    stability = walk_forward(plain.random_bars(2, 80), by_name, grid, train=20, test=20).stability
    assert stability["spread"].isna().all() and stability.loc["bars", "share"] == 1.0


def test_intraday_bars_keep_their_time_zone():
    prices = plain.random_bars(2, 80).set_axis(pd.date_range("2024-01-02 09:30", periods=80, freq="1min", tz="UTC"))
    result = walk_forward(prices, "ma_crossover", PAIRS, train=20, test=20)
    assert result.folds["test_start"].iloc[0] == prices.index[20] and "2024-01-02 09:50" in result._repr_html_()


# ---- purging ---------------------------------------------------------------------------------------------------------


def test_purged_bars_stand_on_either_side_of_a_test_block():
    """12 bars, 4 blocks of 3: test bars 3 to 5 with a gap of 1 leave 0, 1 and 7 to 11."""
    assert _windows.purge([(3, 6)], 12, 1) == ([(0, 2), (7, 12)], [(3, 6)])
    assert _windows.purge([(0, 3), (3, 6)], 12, 1).train == [(7, 12)]
    assert _windows.purge([(0, 3), (9, 12)], 12, 2).train == [(5, 7)]


def test_with_a_gap_as_long_as_the_memory_a_test_block_has_no_say_in_its_choice():
    """Other returns in blocks 1 and 2 of 6; all other bars move as they did."""
    prices = plain.random_bars(7, 240)
    factor = np.cumprod(np.where((np.arange(240) >= 40) & (np.arange(240) < 120), 1.02, 1.0))
    factor[60:] *= 0.7
    given = {"n_blocks": 6, "n_test": 2, "gap": 15}
    before = combinatorial_cross_validation(prices, "ma_crossover", PAIRS, **given)
    after = combinatorial_cross_validation(prices * factor[:, None], "ma_crossover", PAIRS, **given)
    split = before.folds["test_blocks"].tolist().index("1, 2")
    assert after.chosen[split] == before.chosen[split]
    assert after.folds["in_sample"][split] == pytest.approx(before.folds["in_sample"][split], rel=1e-9)
    assert after.folds["in_sample"].round(6).ne(before.folds["in_sample"].round(6)).any()


def test_paths_are_shown_as_a_distribution():
    result = combinatorial_cross_validation(plain.random_bars(7, 120), "ma_crossover", PAIRS)
    assert (result.n_folds, len(result.paths), result.result) == (15, 5, None)
    assert result.equity.shape == (120, 5) and set(result.equity.iloc[0]) == {100_000.0}
    low, high = (f"{value:.2f}".replace("-", "\u2212") for value in (result.sharpes.min(), result.sharpes.max()))
    assert "15 combinatorial splits, each the best of 8 trials by sharpe" in repr(result)
    assert f"5 paths: Sharpe from {low} to {high}, median" in repr(result)
    assert result.out_of_sample_sharpe == pytest.approx(result.sharpes.mean())
    assert result.paths[3].params == {"n_blocks": 6, "n_test": 2, "gap": 0, "metric": "sharpe", "path": 3}


# ---- the ledger ------------------------------------------------------------------------------------------------------


def test_trials_are_recorded_once_a_request(tmp_path, monkeypatch):
    monkeypatch.setenv("BACKGRID_LEDGER", str(tmp_path / "ledger.db"))
    prices = plain.random_bars(2, 80)
    for train in (20, 20, 30):
        walk_forward(prices, "ma_crossover", PAIRS, train=train, test=20)
    combinatorial_cross_validation(prices, "ma_crossover", PAIRS)
    assert (
        read_ledger()[["kind", "strategy", "n_trials"]].to_numpy().tolist() == [["walk_forward", "ma_crossover", 8]] * 3
    )
    assert count_trials(strategy="ma_crossover") == 24


# ---- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"train": 1}, "train must be at least 2"),
        ({"train": 0.5}, "train must be a whole number of bars, got 0.5"),
        ({"test": 0}, "test must be at least 1"),
        ({"test": True}, "test must be a whole number"),
        ({"gap": -1}, "gap must be at least 0"),
        ({"train": 61}, "train 61 + gap 0 + test 20 = 81 bars for one fold, and prices have 80"),
        ({"gap": 41}, "train 20 + gap 41 + test 20 = 81 bars"),
        ({"test": 61}, "= 81 bars for one fold"),
        ({"train": 79, "shorter_last": True}, "= 99 bars for one fold"),
        ({"train": 79, "test": 1}, "the test window has one bar"),
        ({"metric": "sharp"}, "did you mean 'sharpe'"),
        ({"metric": "annual_volatility"}, "no choice by metric 'annual_volatility'"),
        ({"metric": ["sharpe"]}, "no choice by metric"),
        ({"grid": {"fastwindow": [2]}}, "fastwindow"),
        ({"grid": {"fast_window": [50]}}, "every combination is refused; the first says: fast_window 50"),
        ({"where": "fast_window > 99"}, "where leaves out all 9 combinations"),
        ({"where": "fast > 99"}, "no parameter 'fast'"),
        ({"memory": "much"}, "memory must be a size"),
        ({"feees": 0.1}, "feees"),
        ({"strategy": np.ones(80)}, "a strategy with parameters"),
    ],
)
def test_wrong_arguments_are_named(wrong, told):
    given = {"prices": plain.random_bars(1, 80), "strategy": "ma_crossover", "grid": PAIRS, "train": 20, "test": 20}
    with pytest.raises(ParameterError, match=told.replace("+", r"\+")):
        walk_forward(**{**given, **wrong})


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"n_blocks": 1}, "n_blocks must be a whole number, 2 to 40, got 1"),
        ({"n_blocks": 41}, "2 to 40, got 41"),
        ({"n_blocks": 6.0}, "n_blocks must be a whole number"),
        ({"n_test": 0}, "n_test must be a whole number, 1 to 5, got 0"),
        ({"n_test": 6}, "1 to 5, got 6"),
        ({"n_blocks": 16, "n_test": 8}, f"12,870 splits, {MOST_SPLITS:,} at most"),
        ({"gap": 40}, "gap 40 leaves fewer than two bars of 80"),
        ({"gap": None}, "gap must be a whole number"),
    ],
)
def test_wrong_splits_are_named(wrong, told):
    with pytest.raises(ParameterError, match=told):
        combinatorial_cross_validation(plain.random_bars(1, 80), "ma_crossover", PAIRS, **wrong)


def test_prices_are_of_one_symbol():
    with pytest.raises(PricesError, match="dict"):
        walk_forward({"A": plain.random_bars(1, 80)}, "ma_crossover", PAIRS, train=20, test=20)


def test_the_longest_windows_that_fit_make_one_fold():
    prices = plain.random_bars(1, 80)
    whole = walk_forward(prices, "ma_crossover", PAIRS, train=40, gap=20, test=20)
    part = walk_forward(prices, "ma_crossover", PAIRS, train=40, gap=20, test=500, shorter_last=True)
    assert (whole.n_folds, part.n_folds) == (1, 1) and "1 rolling fold," in repr(whole)
    pd.testing.assert_frame_equal(whole.folds, part.folds)


def test_bars_that_are_left_are_named_or_tested():
    prices = plain.random_bars(1, 80)
    left = walk_forward(prices, "ma_crossover", PAIRS, train=20, test=25)
    assert (left.n_folds, left.n_untested) == (2, 10) and "the last 10 bars are not tested" in repr(left)
    tested = walk_forward(prices, "ma_crossover", PAIRS, train=20, test=25, shorter_last=True)
    assert (tested.n_folds, tested.n_untested, len(tested.equity)) == (3, 0, 60)
    pd.testing.assert_frame_equal(left.folds, tested.folds.iloc[:2])
