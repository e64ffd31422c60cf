"""Every combination does what a single run does, by whichever path, in whatever portions, on however many threads."""

import os
import signal
import subprocess
import sys
import threading
import time
import tracemalloc
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import plain
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backgrid import _sweep, trials
from backgrid._sweep import CORE, DONE, FEW, REFUSED
from backgrid.bars import check_prices
from backgrid.engine import complete_given, run_backtest, with_other_columns
from backgrid.errors import ParameterError, PricesError, TooFewBarsError
from backgrid.indicators import above, below, crossed_above, crossed_below, ema, latch, rsi, sma
from backgrid.metrics import METRICS
from backgrid.space import read_space, sample_grid
from backgrid.strategies import STRATEGIES
from backgrid.trials import Job, Trials

N_TRADES = CORE.index("n_trades")
BUILT_IN = {
    "ma_crossover": {"fast_window": [1, 2, 3, 5], "slow_window": [2, 4, 9]},
    "ema_crossover": {"fast_window": [1, 2, 5], "slow_window": [2, 4, 9]},
    "macd": {"fast_window": [1, 3], "slow_window": [4, 9], "signal_window": [1, 3]},
    "rsi_reversion": {"window": [2, 3, 7], "lower": [20, 40.0], "upper": [60.0, 40]},
    "bollinger_reversion": {"window": [2, 5, 9], "width": [0.5, 1, 2.0]},
    "donchian_breakout": {"entry_window": [1, 2, 5], "exit_window": [1, 3]},
    "momentum": {"window": [1, 2, 5, 20]},
    "buy_and_hold": {},
}
every_built_in = pytest.mark.parametrize("name", BUILT_IN)


# ---- functions of a user's that compare lines ------------------------------------------------------------------------


def long_short(prices, *, fast=2, slow=5):
    close = prices["Close"]
    return above(sma(close, fast), ema(close, slow)) - below(sma(close, fast), ema(close, slow))


def both_or(prices, *, fast=2, slow=5, level=50.0):
    close = prices["Close"]
    strong = above(sma(close, fast), sma(close, slow)) & above(rsi(close, slow), level)
    return strong.fillna(0.0) | crossed_above(close, sma(close, fast))


def two_latches(prices, *, fast=2, slow=5, level=50.0):
    close = prices["Close"]
    quick, calm, strength = sma(close, fast), ema(close, slow), rsi(close, slow)
    longs = latch(crossed_above(quick, calm), crossed_below(strength, level) | ~above(close, calm))
    return longs - latch(crossed_below(quick, calm), above(close, calm) & above(strength, level))


def short_only(prices, *, window=3):
    close = prices["Close"]
    return 0.0 - above(close, sma(close, window))


def from_the_first_bar(prices, *, level=100.0):
    return above(prices["Close"], level) - below(prices["Close"], level)


def of_closes(close, *, window=3, share=0.01):
    return above(close, sma(close, window) * (1.0 + share))


def with_an_array(prices, *, window=3):
    close = prices["Close"].to_numpy()
    return above(close, sma(close, window))


def with_truth_values(prices, *, window=3):
    close = prices["Close"]
    return above(close, sma(close, window)) & (close.diff() > 0.0)


def by_operators(prices, *, fast=2, slow=5):
    close = prices["Close"]
    return ((sma(close, fast) >= sma(close, slow)) & ~(close < ema(close, fast)) | (rsi(close, slow) >= 50.0)).astype(
        float
    )


def in_numpy(prices, *, fast=2, slow=5):
    close = prices["Close"].to_numpy()
    quick, calm = sma(close, fast), sma(close, slow)
    return np.where(quick > calm, 1, np.where(quick < 0.98 * calm, -1, 0))


def nested_in_numpy(prices, *, fast=2, slow=5):
    close = prices["Close"]
    strong = close > sma(close, fast)
    return np.where(close <= sma(close, slow), np.where(strong, 0, -1.0), strong.astype(int))


OF_LINES = {
    by_operators: {"fast": [1, 3, 500], "slow": [2, 5]},
    in_numpy: {"fast": [1, 2, 500], "slow": [2, 5]},
    nested_in_numpy: {"fast": [1, 2, 500], "slow": [2, 5]},
    long_short: {"fast": [1, 2, 3], "slow": [2, 5, 9]},
    both_or: {"fast": [1, 3], "slow": [2, 5], "level": [30.0, 50.0]},
    two_latches: {"fast": [1, 3], "slow": [2, 5], "level": [30.0, 50.0]},
    short_only: {"window": [1, 2, 3, 30]},
    from_the_first_bar: {"level": [3.0, 90.0, 100.0, 110.0]},
    of_closes: {"window": [2, 5], "share": [0.0, 0.01, -0.02]},
    with_an_array: {"window": [0, 2, 5, 500]},
    with_truth_values: {"window": [2, 5]},
}

# ---- functions of a user's that are plain NumPy and pandas -----------------------------------------------------------


def numpy_momentum(prices, *, window=5):
    close = prices["Close"].to_numpy()
    target = np.zeros(close.size)
    target[window:] = np.sign(close[window:] - close[:-window])
    return target


def rolling_means(prices, *, fast=2, slow=5):
    if fast >= slow:
        raise ParameterError(f"fast {fast} must be below slow {slow}")
    close = prices["Close"]
    return (close.rolling(fast).mean() > close.rolling(slow).mean()).astype(float)


def own_comparison(prices, *, fast=2, slow=5):
    line = sma(prices["Close"], fast) - ema(prices["Close"], slow)
    return np.sign(line).where(line.abs() > 0.0)


def fractions(prices, *, window=3, size=0.5):
    return size * above(prices["Close"], sma(prices["Close"], window)) - 0.25


def by_word(prices, *, mean="sma", window=3, turned=False):
    line = {"sma": sma, "ema": ema}[mean](prices["Close"], window)
    return below(prices["Close"], line) if turned else above(prices["Close"], line)


def a_loop(prices, *, window=3):
    held, targets = 0.0, []
    for change in prices["Close"].pct_change(min(window, len(prices))):
        held = 1.0 if change > 0.0 else -1.0 if change < -0.02 else held
        targets.append(held)
    return targets


GENERAL = {
    numpy_momentum: {"window": [1, 2, 7]},
    rolling_means: {"fast": [1, 2, 5], "slow": [2, 5]},
    own_comparison: {"fast": [1, 2], "slow": [2, 5, 500]},
    fractions: {"window": [2, 5], "size": [0.25, 0.5, 1.0]},
    by_word: {"mean": ["sma", "ema"], "window": [2, 5], "turned": [False, True]},
    a_loop: {"window": [1, 3, 500]},
}


# ---- how they are held to single runs --------------------------------------------------------------------------------


def job_of(prices, strategy, grid, *, metrics=CORE, room=10**9, **given):
    bars = check_prices(prices)
    function = STRATEGIES[strategy] if isinstance(strategy, str) else strategy
    return Job(
        with_other_columns(bars, prices),
        bars.shape[1],
        function,
        read_space(grid),
        complete_given(given),
        tuple(metrics),
        room,
    )


def trials_of(*args, n_threads=1, **kwargs):
    return Trials(job_of(*args, **kwargs), n_threads)


def all_codes(made):
    return made.job.space.codes(np.arange(made.job.space.size))


def everything(made):
    """State and metrics of all combinations, NaN for what is refused."""
    return spread(*made.metrics(all_codes(made)))


def spread(state, of_done):
    """What is known of those that are done, in the places of all."""
    values = np.full((state.size, of_done.shape[1]), np.nan)
    values[state == DONE] = of_done
    return state, values


def minutes_of(close):
    """Bars of a minute that begin and end at these closes."""
    index = pd.date_range("2024-01-01", periods=len(close), freq="min", name="Date")
    return pd.DataFrame(dict.fromkeys(("Open", "High", "Low", "Close"), close), index)


def hold_to_single_runs(prices, strategy, grid, *, metrics=None, tolerance=1e-12, **given):
    """Each combination against `run_backtest`, refused ones too; the four and all core metrics, unless told which."""
    made = [
        trials_of(prices, strategy, grid, metrics=names, **given) for names in ([metrics] if metrics else [FEW, CORE])
    ]
    space, found = made[-1].job.space, [everything(each) for each in made]
    for place, code in enumerate(space.codes(np.arange(space.size))):
        try:
            single = run_backtest(prices, strategy, params=space.params(code), **given).metrics
        except (ParameterError, TooFewBarsError):
            single = None
        for each, (state, values) in zip(made, found, strict=True):
            assert state[place] == (REFUSED if single is None else DONE)
            if single is None:
                continue
            for name, value in zip(each.job.metrics, values[place], strict=True):
                close = pytest.approx(single[name], rel=tolerance, abs=tolerance, nan_ok=True)
                assert value == (single[name] if name == "n_trades" else close), (name, space.params(code))
    return made[-1]


FILLS = st.sampled_from(["next_open", "close", "next_close"])
TERMS = st.fixed_dictionaries(
    {"fill": FILLS},
    optional={
        "fees": st.sampled_from([0.001, 0.02]),
        "slippage": st.sampled_from([0.0005, 0.01]),
        "risk_free": st.sampled_from([0.03, -0.01]),
        "periods_per_year": st.sampled_from([252, 12.5]),
        "cash": st.sampled_from([1.0, 1e9]),
    },
)
SEEDS = st.integers(0, 2**32)
SIZES = st.integers(3, 140)
KINDS = [
    *("walk", "wild", "few whole prices", "whole prices", "steps", "constant", "steady growth", "nearly steady growth"),
    *("spikes", "tiny moves", "last digits"),
]


# ---- every cell is a single run --------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@given(st.sampled_from([*BUILT_IN.items(), *OF_LINES.items()]), SEEDS, SIZES, TERMS)
@settings(max_examples=60)
def test_a_combination_is_a_single_run_on_any_prices(kind, swept, seed, n_bars, terms):
    hold_to_single_runs(plain.odd_bars(kind, seed, n_bars), *swept, **terms)


@given(SEEDS, st.integers(3, 8))
@settings(max_examples=400)
def test_a_few_bars_lose_no_digits(seed, n_bars):
    hold_to_single_runs(plain.odd_bars("walk", seed, n_bars), "buy_and_hold", {})


def test_minutes_of_a_calm_price_differ_by_the_rounding_of_the_account():
    """Of moves of 0.01 % an account of 16 digits keeps 12, and a Sharpe ratio near 0 less."""
    for seed in range(20):
        moves = np.random.default_rng(seed).normal(0.0, 1e-4, 2000)
        close = 1.1 * np.exp(np.cumsum(moves)).round(7)
        hold_to_single_runs(
            minutes_of(close), "ma_crossover", {"fast_window": [5], "slow_window": [20]}, tolerance=1e-10
        )


def test_costs_do_not_hide_that_a_price_is_calm():
    for seed in range(200):
        bars = plain.odd_bars("tiny moves", seed, 110)
        hold_to_single_runs(bars, "buy_and_hold", {}, fees=0.001, slippage=0.0005)


@every_built_in
@given(SEEDS, SIZES, TERMS)
@settings(max_examples=25)
def test_each_strategy_of_the_package_is_swept_fused(name, seed, n_bars, terms):
    made = hold_to_single_runs(plain.odd_bars("walk", seed, n_bars), name, BUILT_IN[name], **terms)
    assert made.fused and made.traceable


@pytest.mark.parametrize("function", OF_LINES, ids=lambda function: function.__name__)
@given(SEEDS, st.integers(30, 140), TERMS)
@settings(max_examples=25)
def test_a_function_that_compares_lines_is_swept_fused(function, seed, n_bars, terms):
    made = hold_to_single_runs(plain.odd_bars("walk", seed, n_bars), function, OF_LINES[function], **terms)
    assert made.fused and made.traceable


@pytest.mark.parametrize("function", GENERAL, ids=lambda function: function.__name__)
@given(SEEDS, st.integers(10, 100), TERMS)
@settings(max_examples=25)
def test_any_other_function_is_called_for_each_combination(function, seed, n_bars, terms):
    made = hold_to_single_runs(plain.odd_bars("few whole prices", seed, n_bars), function, GENERAL[function], **terms)
    assert not made.traceable


STOPS = np.where(np.arange(100) % 7, 0.05, np.nan)
OTHER_TERMS = {
    "fixed fee": {"fixed_fee": 20.0},
    "whole units": {"whole_units": True},
    "whole units of a small account": {"whole_units": True, "cash": 150.0},
    "stop loss": {"stop_loss": 0.03},
    "take profit": {"take_profit": 0.05},
    "trailing stop": {"trailing_stop": 0.04},
    "stops by bar": {"stop_loss": STOPS, "take_profit": 2 * STOPS},
    "all stops": {"stop_loss": 0.06, "take_profit": 0.08, "trailing_stop": 0.05},
    "half": {"size": 0.5},
    "cash": {"sizing": "cash", "size": 5000.0},
    "units": {"sizing": "units", "size": 3.0},
    "volatility": {"sizing": "volatility", "size": 0.2, "lookback": 10},
    "risk": {"sizing": "risk", "size": 0.01, "stop_loss": 0.05},
    "leverage": {"size": 2.0, "leverage": 2.0},
    "little leverage": {"leverage": 0.5},
    "every bar": {"rebalance": "bar"},
    "every week": {"rebalance": "week"},
    "band": {"rebalance": 0.05},
    "interest": {"cash_rate": 0.03},
    "borrowed": {"borrow_rate": 0.05},
}


@pytest.mark.parametrize("terms", OTHER_TERMS.values(), ids=OTHER_TERMS)
@pytest.mark.parametrize("fill", ["next_open", "close", "next_close"])
def test_other_terms_are_simulated_bar_by_bar(terms, fill):
    bars = plain.random_bars(5, 100, 0.03)
    for strategy, grid in {"ma_crossover": BUILT_IN["ma_crossover"], **OF_LINES}.items():
        if strategy in ("ma_crossover", two_latches):
            made = hold_to_single_runs(bars, strategy, grid, fill=fill, fees=0.001, slippage=0.0005, **terms)
            assert made.traceable and not made.fused
    made = hold_to_single_runs(bars, own_comparison, GENERAL[own_comparison], fill=fill, fees=0.001, **terms)
    assert not made.traceable and not made.fused


@pytest.mark.parametrize("terms", [{"leverage": 3.0}, {"benchmark": plain.random_bars(6, 100)}, {"lookback": 5}])
def test_terms_that_change_nothing_do_not_cost_the_fused_path(terms):
    assert hold_to_single_runs(plain.random_bars(5, 100), "momentum", BUILT_IN["momentum"], **terms).fused


@pytest.mark.parametrize("metrics", [("sharpe",), ("n_trades", "max_drawdown"), CORE[::-1], CORE[:4], ("kurtosis",)])
def test_any_of_the_core_metrics_in_any_order(metrics):
    made = hold_to_single_runs(plain.random_bars(5, 80), "ma_crossover", BUILT_IN["ma_crossover"], metrics=metrics)
    assert made.fused and made.core


@pytest.mark.parametrize("strategy", ["ma_crossover", "buy_and_hold", two_latches, fractions, numpy_momentum])
@pytest.mark.parametrize("terms", [{}, {"benchmark": plain.random_bars(6, 80), "stop_loss": 0.05}], ids=["", "stops"])
def test_every_metric_there_is(strategy, terms):
    grid = {**BUILT_IN, **OF_LINES, **GENERAL}[strategy]
    made = hold_to_single_runs(plain.random_bars(5, 80), strategy, grid, metrics=tuple(METRICS), fees=0.001, **terms)
    assert not made.core


@pytest.mark.parametrize("n_bars", [2, 3, 4, 63, 64, 65, 128])
@pytest.mark.parametrize("fill", ["next_open", "close", "next_close"])
def test_few_bars_and_whole_words_of_bars(n_bars, fill):
    bars = plain.random_bars(n_bars, n_bars)
    for strategy, grid in {**BUILT_IN, **OF_LINES}.items():
        made = hold_to_single_runs(bars, strategy, grid, fill=fill, fees=0.001)
        assert made.fused == (n_bars > 2)


def test_a_series_of_closes_will_do():
    closes = plain.random_bars(5, 80)["Close"]
    for fill in ("close", "next_close"):
        assert hold_to_single_runs(closes, "momentum", BUILT_IN["momentum"], fill=fill).fused
        hold_to_single_runs(closes, of_closes, OF_LINES[of_closes], fill=fill)


def test_other_columns_are_there_for_the_strategy():
    def crowded(prices, *, window=3):
        return above(prices["Volume"], sma(prices["Crowd"], window))

    bars = plain.random_bars(5, 80)
    rng = np.random.default_rng(5)
    bars["Volume"], bars["Crowd"], bars["Note"] = rng.integers(0, 9, 80), rng.integers(0, 9, 80), "text"
    assert hold_to_single_runs(bars, crowded, {"window": [1, 3, 9]}).fused


# ---- what the tables cannot tell is walked ---------------------------------------------------------------------------


@pytest.fixture
def walked(monkeypatch):
    """How many combinations were simulated bar by bar, by the number of their metrics."""
    counts = Counter()

    def counted(targets, market, terms, account, metrics):
        counts[metrics.shape[1]] += len(targets)
        return simulate_each(targets, market, terms, account, metrics)

    simulate_each = _sweep.simulate_each
    monkeypatch.setattr(trials._sweep, "simulate_each", counted)
    return counts


def test_the_fused_path_does_not_simulate(walked):
    hold_to_single_runs(plain.random_bars(5, 100), "ma_crossover", BUILT_IN["ma_crossover"], fees=0.001)
    assert not walked


def test_target_positions_of_a_called_function_are_not_simulated_while_they_are_all_in_or_out(walked):
    def mean_reverting(prices, *, window=3, size=1.0):
        change = prices["Close"].diff(window).to_numpy()
        return np.where(change < 0.0, size, np.where(change > 0.02, -size, 0.0))

    made = hold_to_single_runs(
        plain.random_bars(5, 100), mean_reverting, {"window": [1, 2, 5], "size": [1.0, 0.5]}, fees=0.001
    )
    assert made.fused and not made.traceable
    assert walked == {4: 3, 15: 3}  # those of half the account


def test_a_ruined_short_is_walked_and_right(walked):
    """A price that doubles on every bar ruins a short at once."""
    bars = plain.odd_bars("constant", 1, 12)
    bars.loc[:, :] = 10.0
    bars.iloc[4:] = np.repeat(10.0 * 2.0 ** np.arange(1, 9), 4).reshape(8, 4)
    bars["Low"] = bars["Open"] = bars["Close"] / 2.0
    made = hold_to_single_runs(bars, short_only, {"window": [1, 2, 3]}, fees=0.001)
    assert made.fused and walked == {4: 2, 15: 2}
    assert everything(made)[1][1:, CORE.index("total_return")].tolist() == [-1.0, -1.0]


def test_a_position_decided_before_the_second_bar_at_its_own_close_is_walked(walked):
    made = hold_to_single_runs(
        plain.random_bars(5, 60), from_the_first_bar, OF_LINES[from_the_first_bar], fill="close", fees=0.01
    )
    assert made.fused and walked == {4: 4, 15: 4}


@pytest.mark.parametrize("rate", [0.1, 0.01, 0.001, -0.01])
def test_an_account_that_grows_steadily_is_walked(walked, rate):
    close = 100.0 * (1.0 + rate) ** np.arange(300)
    bars = pd.DataFrame(dict.fromkeys(("Open", "High", "Low", "Close"), close), plain.random_bars(1, 300).index)
    made = hold_to_single_runs(bars, "buy_and_hold", {}, fill="next_close")
    assert made.fused and walked == {4: 1, 15: 1}


def test_one_enormous_bar_while_flat_costs_no_digit():
    """1e12 on bar 30, on which nobody has a position: sums of a stretch are of its own bars."""
    bars = plain.random_bars(5, 80)

    def later(prices, *, window=3):
        return above(sma(prices["Close"], window), 1.0) & (prices.index > prices.index[40])

    bars.iloc[30] = 1e12
    made = hold_to_single_runs(bars, later, {"window": [1, 3, 9]}, fees=0.001)
    assert made.fused


@pytest.mark.parametrize("strategy", ["buy_and_hold", "momentum", numpy_momentum])
@pytest.mark.parametrize("terms", [{}, {"fixed_fee": 0.1}], ids=["", "fixed fee"])
def test_an_account_beyond_the_range_of_floats_is_an_error(strategy, terms):
    bars = pd.DataFrame(
        dict.fromkeys(("Open", "High", "Low", "Close"), np.geomspace(1e-200, 1e200, 60)), plain.random_bars(1, 60).index
    )
    with pytest.raises(PricesError, match="left the range of floats"):
        everything(trials_of(bars, strategy, {**BUILT_IN, **OF_LINES, **GENERAL}[strategy], **terms))


@pytest.mark.parametrize("metrics", [FEW, CORE], ids=["few", "core"])
def test_growth_beyond_the_range_of_floats_is_an_error(metrics):
    """Who is in for the rises only has more than 1e308 times what he began with, and still no more than floats hold."""
    rises = np.random.default_rng(1).random(3900) < 0.4
    close = 100.0 * np.exp(np.cumsum(np.where(rises, 0.6, -0.4)))
    bars = minutes_of(close).assign(Turn=np.append(rises[1:], 0.0))

    def seer(prices, *, level=0.5):
        return above(prices["Turn"], level)

    with pytest.raises(PricesError, match="left the range of floats"):
        everything(trials_of(bars, seer, {"level": [0.5, 0.6]}, metrics=metrics, fill="close", cash=1e-140))


def test_what_is_worth_nothing_is_no_position():
    """The last of a float's digits: what is held is worth 0 on some bars."""
    bars = minutes_of(np.array([0.2, 0.51, 0.7, 0.7, 1.3, 0.23, 0.48, 0.23]))

    def given(prices, *, times=1):
        return np.array([0.0, 1.0, 1.0, 0.0, 1.0, 1.0, 1.0, 0.0])

    with np.errstate(all="ignore"):
        single = run_backtest(bars, given, fees=0.5, fill="close", cash=2e-323).metrics["exposure"]
        swept = everything(
            trials_of(bars, given, {"times": [1]}, metrics=("exposure",), fees=0.5, fill="close", cash=2e-323)
        )
    assert swept[1].tolist() == [[single]] == [[0.375]]


# ---- long series -----------------------------------------------------------------------------------------------------


@pytest.fixture(params=[1, 3])
def blocks(request, monkeypatch):
    """Tables of blocks of 2 or 8 bars for any series."""
    monkeypatch.setattr(trials, "_shift_of", lambda n_bars: request.param)


@pytest.mark.parametrize("fill", ["next_open", "close", "next_close"])
@pytest.mark.parametrize("n_bars", [3, 9, 64, 130])
def test_blocks_of_bars_tell_what_the_bars_do(blocks, n_bars, fill):
    for seed in range(2):
        bars = plain.odd_bars("walk", seed, n_bars)
        for strategy, grid in {**BUILT_IN, **OF_LINES}.items():
            made = hold_to_single_runs(bars, strategy, grid, fill=fill, fees=0.001, risk_free=0.02)
            assert made.fused and made.shift


@pytest.mark.parametrize(
    ("n_bars", "shift"), [(3, 0), (2**14 - 1, 0), (2**14, 3), (100_000, 3), (10**6, 5), (10**8, 12)]
)
def test_the_longer_a_series_the_longer_are_its_blocks(n_bars, shift):
    assert trials._shift_of(n_bars) == shift


def test_a_really_long_series():
    """20,000 minutes."""
    rng = np.random.default_rng(1)
    close = 100.0 * np.exp(np.cumsum(rng.normal(0.0, 0.001, 20_000)))
    bars = minutes_of(close)
    grid = {"fast_window": [5, 50], "slow_window": [20, 1000]}
    assert hold_to_single_runs(bars, "ma_crossover", grid, fees=0.0001).shift == 3
    assert hold_to_single_runs(bars, long_short, {"fast": [50], "slow": [1000]}).shift == 3


# ---- four metrics ----------------------------------------------------------------------------------------------------


def in_turn(prices, *, level=0.5):
    """Held on the bars of a column that is above a level."""
    return above(prices["Turn"], level)


@pytest.mark.parametrize("n_bars", [_sweep.MANY, trials.BLOCKS_FROM - 1])
def test_thousands_of_trades_lose_no_digits(n_bars):
    """Bought and sold on every second bar, at two prices: what is rounded alike each time would add up."""
    turn, moves = np.arange(n_bars) % 2, np.zeros(n_bars)
    moves[[11, 13]] = 0.2, -0.2
    bars = minutes_of(66.2 * np.exp(np.cumsum(moves)))
    for share in (turn, 1 - turn):
        bars["Turn"] = share
        made = hold_to_single_runs(bars, in_turn, {"level": [0.5]}, metrics=FEW, fees=0.00000134, fill="next_close")
        assert made.fused and not made.shift


def test_a_trade_that_breaks_even_changes_no_bit():
    """In and out at 100.1 and at 133.7, and once from the one to the other."""
    close, turn = np.repeat([100.1, 133.7], 50), np.zeros(100)
    for start, end in ((3, 7), (20, 33), (40, 60), (71, 72), (80, 95)):
        turn[start:end] = 1.0
    made = trials_of(minutes_of(close).assign(Turn=turn), in_turn, {"level": [0.5]}, metrics=FEW)
    total, _, deepest, n_trades = everything(made)[1][0]
    assert (total, deepest, n_trades) == (133.7 / 100.1 - 1.0, 0.0, 5.0)


@pytest.mark.parametrize("metrics", [FEW, CORE], ids=len)
@pytest.mark.parametrize("strategy", ["ma_crossover", "donchian_breakout", two_latches, in_numpy])
def test_a_function_that_is_called_has_the_bits_of_its_lines(strategy, metrics):
    job = job_of(plain.random_bars(5, 200), strategy, {**BUILT_IN, **OF_LINES}[strategy], metrics=metrics, fees=0.001)
    same_bits(everything(Trials(job)), everything(Trials(job._replace(why_called="to see what it gives"))))


def test_a_decision_that_is_never_filled_changes_no_bit():
    """Short from the last bar on, which would be filled after it."""

    def either_way(prices, *, level=0.5):
        return above(prices["Turn"], level) - below(prices["Turn"], -level)

    turn = np.random.default_rng(3).integers(0, 2, 100).astype(float)
    turn[-1] = -1.0
    bars = minutes_of(plain.random_bars(5, 100)["Close"].to_numpy()).assign(Turn=turn)
    hold_to_single_runs(bars, either_way, {"level": [0.5]}, fees=0.001)
    job = job_of(bars, either_way, {"level": [0.5]}, metrics=FEW, fees=0.001)
    same_bits(everything(Trials(job)), everything(Trials(job._replace(why_called="to see what it gives"))))


def test_prices_far_from_the_cash_are_those_of_a_run():
    """Units are beyond floats, or 0."""
    bars, grid = plain.random_bars(5, 80), BUILT_IN["momentum"]
    hold_to_single_runs(bars * 1e298, "momentum", grid, metrics=FEW, fees=0.001, cash=1e-30)
    with pytest.raises(PricesError, match="left the range of floats"):
        everything(trials_of(bars * 1e-306, "momentum", grid, metrics=FEW))


# ---- portions and threads --------------------------------------------------------------------------------------------

SWEPT = {
    "ma_crossover": BUILT_IN["ma_crossover"],
    "macd": BUILT_IN["macd"],
    "bollinger_reversion": BUILT_IN["bollinger_reversion"],
    "buy_and_hold": {},
    two_latches: OF_LINES[two_latches],
    from_the_first_bar: OF_LINES[from_the_first_bar],
    own_comparison: GENERAL[own_comparison],
    by_word: GENERAL[by_word],
    a_loop: GENERAL[a_loop],
}
every_sweep = pytest.mark.parametrize("strategy", SWEPT, ids=lambda s: s if isinstance(s, str) else s.__name__)
PATHS = {"fused": {}, "simulated": {"fixed_fee": 1.0}, "close": {"fill": "close"}}
every_path = pytest.mark.parametrize("terms", PATHS.values(), ids=PATHS)


def same_bits(left, right):
    for a, b in zip(left, right, strict=True):
        np.testing.assert_array_equal(a, b)


@every_sweep
@every_path
@pytest.mark.parametrize("n_threads", [2, 5])
def test_threads_change_nothing(strategy, terms, n_threads):
    bars, grid = plain.random_bars(5, 100), SWEPT[strategy]
    same_bits(
        everything(trials_of(bars, strategy, grid, n_threads=n_threads, **terms)),
        everything(trials_of(bars, strategy, grid, **terms)),
    )


@pytest.mark.parametrize("n", [0, 1, 2, 7, 100, 4950])
@pytest.mark.parametrize("n_threads", [1, 2, 5])
def test_parts_are_all_of_it_and_each_once(n, n_threads):
    done = []
    trials_of(plain.random_bars(5, 100), "buy_and_hold", {}, n_threads=n_threads)._in_threads(done.append, n)
    assert sorted(row for part in done for row in range(n)[part]) == list(range(n))
    assert n == 0 or all(part.start < part.stop for part in done)


def test_after_an_error_nobody_begins_another_part():
    begun, started = [], threading.Event()

    def work(part):
        begun.append(part)
        if threading.current_thread() is threading.main_thread():
            started.wait(10.0)  # the helper is at its first part
            raise KeyboardInterrupt
        started.set()
        time.sleep(0.2)

    with pytest.raises(KeyboardInterrupt):
        trials_of(plain.random_bars(5, 100), "buy_and_hold", {}, n_threads=2)._in_threads(work, 1000)
    n = len(begun)
    time.sleep(0.3)
    assert n == len(begun) == 2


ROOMS = [6_000, 8_000, 12_000, 20_000, 50_000, 200_000]  # bytes; a line of 100 bars has 800


@pytest.mark.parametrize("strategy", ["ma_crossover", "bollinger_reversion", "buy_and_hold", from_the_first_bar])
@every_path
@pytest.mark.parametrize("room", ROOMS[2:])
def test_little_room_changes_nothing(strategy, terms, room):
    bars, grid = plain.random_bars(5, 100), SWEPT[strategy]
    same_bits(
        everything(trials_of(bars, strategy, grid, room=room, **terms)),
        everything(trials_of(bars, strategy, grid, **terms)),
    )


def test_little_room_splits_the_lines(monkeypatch):
    traced = []

    def counted(job, values, **rest):
        traced.append([len(given) for given in values])
        return trace(job, values, **rest)

    trace = trials._trace
    monkeypatch.setattr(trials, "_trace", counted)
    grid = {"fast_window": list(range(1, 11)), "slow_window": list(range(11, 31))}
    made = trials_of(plain.random_bars(5, 100), "ma_crossover", grid, room=30_000)
    assert made.traced is None and made.traceable
    state, _ = everything(made)
    assert (state == DONE).all() and traced[0] == traced[1] == [10, 20] and len(traced) > 5


@every_path
def test_room_for_a_few_combinations_that_are_called(terms):
    bars, grid = plain.random_bars(5, 100), GENERAL[numpy_momentum]
    for room in ROOMS:
        same_bits(
            everything(trials_of(bars, numpy_momentum, grid, room=room, **terms)),
            everything(trials_of(bars, numpy_momentum, grid, **terms)),
        )


def test_lines_that_have_no_room_are_halved_along_an_axis_whatever_the_order(monkeypatch):
    """400 of 900 pairs in random order: either half of them has half of the values of an axis, not nearly all."""
    rng, grid = np.random.default_rng(5), {"fast_window": [*range(1, 31)], "slow_window": [*range(31, 61)]}
    numbers = rng.permutation(900)[:400]
    whole = trials_of(plain.random_bars(5, 100), "ma_crossover", grid)
    made = trials_of(plain.random_bars(5, 100), "ma_crossover", grid, room=65_000)
    counts, trace = Counter(), trials._trace
    monkeypatch.setattr(
        trials, "_trace", lambda *args, **kwargs: (counts.update(["traced"]), trace(*args, **kwargs))[1]
    )
    same_bits(made.metrics(made.job.space.codes(numbers)), whole.metrics(made.job.space.codes(numbers)))
    assert made.traced is None and counts["traced"] < 45


def test_lines_on_the_way_are_counted_too():
    """Six lines a combination, most of which no rule holds in the end."""

    def many(prices, *, a=2, b=3):
        close = prices["Close"]
        return above((sma(close, a) - sma(close, b)) * 0.5 + ema(close, a), close)

    grid, bars = {"a": [*range(2, 32)], "b": [*range(2, 32)]}, plain.random_bars(5, 2000)
    everything(trials_of(bars, many, {"a": [2], "b": [3]}))
    made = trials_of(bars, many, grid, room=10**7)
    tracemalloc.start()
    everything(made)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert made.traceable and peak < 10**7


def test_no_room_for_one_line_is_said():
    with pytest.raises(ParameterError, match="memory is too small for the lines of a single combination"):
        everything(trials_of(plain.random_bars(5, 100), "momentum", {"window": [2, 3]}, room=1000))


@every_sweep
@given(st.lists(st.integers(0, 7), min_size=1, max_size=12))
@settings(max_examples=20)
def test_any_combinations_in_any_order(strategy, places):
    made = trials_of(plain.random_bars(5, 60), strategy, SWEPT[strategy])
    numbers = np.array(places) % made.job.space.size
    state, values = everything(made)
    same_bits(spread(*made.metrics(made.job.space.codes(numbers))), (state[numbers], values[numbers]))


def test_combinations_that_are_listed():
    points = [{"fast_window": f, "slow_window": s} for f, s in ((5, 9), (2, 4), (9, 5), (3, 9))]
    made = hold_to_single_runs(plain.random_bars(5, 100), "ma_crossover", points)
    assert made.fused and everything(made)[0].tolist() == [DONE, DONE, REFUSED, DONE]


RANGES = {
    "ma_crossover": {"fast_window": (0, 20), "slow_window": (5, 130)},
    "ema_crossover": {"fast_window": (1, 20), "slow_window": (0, 130)},
    "macd": {"fast_window": (1, 20), "slow_window": (5, 60), "signal_window": (0, 90)},
    "rsi_reversion": {"window": (0, 30), "lower": (-5.0, 60.0), "upper": (40.0, 105.0)},
    "bollinger_reversion": {"window": (0, 60), "width": (-0.1, 3.0)},
    "donchian_breakout": {"entry_window": (0, 60), "exit_window": (0, 30)},
    long_short: {"fast": (0, 20), "slow": (0, 130)},
    two_latches: {"fast": (0, 20), "slow": (1, 60), "level": (20.0, 80.0)},
    with_truth_values: {"window": (0, 130)},
    rolling_means: {"fast": (1, 20), "slow": (1, 60)},
}


@pytest.mark.parametrize("strategy", RANGES, ids=lambda s: s if isinstance(s, str) else s.__name__)
@pytest.mark.parametrize("n_points", [1, 7, 60])
@pytest.mark.parametrize("terms", [{}, {"stop_loss": 0.05}], ids=["fused", "stops"])
def test_a_sample_of_ranges(strategy, n_points, terms):
    """Few points of many values: lines are those of the points, not of all pairs of values."""
    bars, points = plain.random_bars(5, 100), sample_grid(RANGES[strategy], n_points, seed=n_points)
    made = hold_to_single_runs(bars, strategy, points, fees=0.001, **terms)
    assert made.traceable == (strategy is not rolling_means) and made.fused == (not terms)
    for room in (20_000, 60_000):
        same_bits(everything(trials_of(bars, strategy, points, fees=0.001, room=room, **terms)), everything(made))


def test_values_of_two_types_are_told_apart_by_calls():
    """A function may ask for the type of a number."""

    def particular(prices, *, level=100.0):
        return above(prices["Close"], level * 1.02 if isinstance(level, int) else level)

    bars = plain.random_bars(1, 120)
    assert not hold_to_single_runs(bars, particular, {"level": [95.0, 96.0, 97, 98.0, 99.0, 100.0, 101]}).traceable
    assert hold_to_single_runs(bars, "rsi_reversion", {"lower": [20, 30.0], "upper": [60, 70.5]}).traceable


def test_a_function_that_only_uses_lines_is_called_in_little_room_too():
    """It asks for more lines than there is room for before it does what only a Series can."""
    grid = {"fast": list(range(1, 40)), "slow": [50]}
    bars = plain.random_bars(5, 100)
    same_bits(
        everything(trials_of(bars, own_comparison, grid, room=20_000)),
        everything(trials_of(bars, own_comparison, grid)),
    )


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no forks here")
def test_a_fork_of_a_process_that_has_swept_can_sweep():
    """Threads do not come along."""
    bars = plain.random_bars(5, 70)
    expected = everything(trials_of(bars, "ma_crossover", SWEPT["ma_crossover"], n_threads=2))[1]
    child = os.fork()
    if not child:
        signal.alarm(60)
        try:
            found = everything(trials_of(bars, "ma_crossover", SWEPT["ma_crossover"], n_threads=2))[1]
            os._exit(0 if np.array_equal(found, expected, equal_nan=True) else 1)
        finally:
            os._exit(2)
    assert os.waitpid(child, 0)[1] == 0


def swept_by_hand():
    """What a process has to say: all metrics of some sweeps, each path, in one array."""
    bars, found = plain.random_bars(5, 70), []
    for strategy, grid in {**BUILT_IN, **OF_LINES}.items():
        for terms in ({"fill": "close", "fees": 0.001}, {"risk_free": 0.02}, {"fixed_fee": 1.0}):
            found.extend(everything(trials_of(bars, strategy, grid, **terms))[1].ravel())
    return np.array(found)


def test_compiled_and_plain_loops_agree(tmp_path):
    """To a few of the last bits: powers are computed otherwise."""
    told = "import numpy as np, test_trials; np.seterr(all='ignore'); np.save('told', test_trials.swept_by_hand())"
    environment = {**os.environ, "NUMBA_DISABLE_JIT": "1", "PYTHONPATH": str(Path(__file__).parent)}
    subprocess.run([sys.executable, "-c", told], cwd=tmp_path, env=environment, check=True)
    np.testing.assert_allclose(np.load(tmp_path / "told.npy"), swept_by_hand(), rtol=1e-13, atol=1e-13)


# ---- what a sweep gives beside metrics -------------------------------------------------------------------------------


@every_sweep
@pytest.mark.parametrize("terms", [{}, {"stop_loss": 0.03}, {"sizing": "volatility", "size": 0.2, "lookback": 5}])
def test_returns_are_those_of_single_runs(strategy, terms):
    bars = plain.random_bars(5, 60, 0.03)
    made = trials_of(bars, strategy, SWEPT[strategy], fees=0.001, n_threads=2, **terms)
    state, _ = everything(made)
    done = all_codes(made)[state == DONE]
    for code, returns in zip(done, made.returns(all_codes(made))[1], strict=True):
        single = run_backtest(bars, strategy, params=made.job.space.params(code), fees=0.001, **terms)
        np.testing.assert_array_equal(returns, single.returns)


@every_sweep
def test_targets_are_those_of_the_function(strategy):
    bars = plain.random_bars(5, 60)
    made = trials_of(bars, strategy, SWEPT[strategy])
    function = STRATEGIES[strategy] if isinstance(strategy, str) else strategy
    state, targets = made.targets(all_codes(made))
    for code, target in zip(all_codes(made)[state == DONE], targets, strict=True):
        called = function(bars, **made.job.space.params(code))
        np.testing.assert_array_equal(target, np.nan_to_num(np.asarray(called, dtype=float)))


# ---- functions that a sweep must not be fooled by --------------------------------------------------------------------


def test_what_one_combination_does_to_its_prices_is_not_seen_by_another():
    def changes(prices, *, window=3, factor=1.0):
        before = sma(prices["Close"], window)
        prices["Close"] *= factor
        prices.loc[prices.index[:5], "Close"] = 1.0
        after = sma(prices["Close"], window)
        prices.drop(columns="Open")
        return (before > after * factor) * 1.0

    grid = {"window": [2, 3, 5], "factor": [0.5, 1.0, 2.0]}
    made = hold_to_single_runs(plain.random_bars(5, 60), changes, grid)
    assert not made.traceable


def test_what_one_combination_does_to_its_lines_is_not_seen_by_another():
    def spoils(prices, *, window=3, times=1):
        line = sma(prices["Close"], window)
        target = (prices["Close"] > line) * 1.0
        for _ in range(times):
            line.iloc[:] = -1.0
        array = sma(prices["Close"].to_numpy(), window)
        array[:] = -1.0
        return target

    hold_to_single_runs(plain.random_bars(5, 60), spoils, {"window": [2, 3], "times": [1, 2, 3]})


def test_an_index_that_was_reset_stays_reset():
    def resets(prices, *, window=3, reset=True):
        close = prices["Close"].reset_index(drop=True) if reset else prices["Close"]
        line = sma(close, window)
        assert line.index.equals(close.index)
        return (line < close) * 1.0

    hold_to_single_runs(plain.random_bars(5, 60), resets, {"reset": [True, False], "window": [2, 3]})


def test_lines_on_other_bars_are_refused_in_a_sweep_as_in_a_run():
    def elsewhere(prices, *, window=3):
        close = prices["Close"]
        return above(close.reset_index(drop=True), sma(close, window))

    made = hold_to_single_runs(plain.random_bars(5, 60), elsewhere, {"window": [2, 3]})
    assert (everything(made)[0] == REFUSED).all()


def test_a_function_that_gives_other_signals_for_an_axis_is_called():
    """Whatever it does where something goes wrong."""

    def careful(prices, *, window=3):
        try:
            return above(prices["Close"], prices["Close"].rolling(window).mean())
        except Exception:
            return above(prices["Close"], prices["Close"].mean())

    assert not hold_to_single_runs(plain.random_bars(5, 60), careful, {"window": [2, 3, 5]}).traceable


def test_a_function_that_catches_what_a_sweep_raises_in_it_is_not_believed():
    """There is room for the lines of the 32 combinations that are held to calls, and not for those of all."""

    def plain_one(prices, *, a=2, b=3):
        close = prices["Close"].to_numpy()
        return np.where(sma(close, a) - sma(close, b) > 0.0, 1, 0)

    def robust(prices, *, a=2, b=3):
        try:
            return plain_one(prices, a=a, b=b)
        except Exception:
            return np.zeros(len(prices))

    bars, grid = plain.random_bars(5, 300), {"a": [*range(2, 102)], "b": [*range(102, 202)]}
    made = trials_of(bars, robust, grid, room=10**7)
    same_bits(made.metrics(all_codes(made)), trials_of(bars, plain_one, grid).metrics(all_codes(made)))
    assert made.traceable


def test_a_function_that_is_never_the_same_is_called():
    rng = np.random.default_rng(1)

    def random(prices, *, window=3):
        return above(sma(prices["Close"], window), prices["Close"] * rng.uniform(0.9, 1.1, len(prices)))

    made = trials_of(plain.random_bars(5, 60), random, {"window": [2, 3, 5]})
    assert not made.traceable and (everything(made)[0] == DONE).all()


@pytest.mark.parametrize(
    ("strategy", "grid", "why"),
    [
        ("ma_crossover", BUILT_IN["ma_crossover"], ""),
        (in_numpy, {"fast": [1, 2], "slow": [5]}, ""),
        (own_comparison, {"fast": [1, 2], "slow": [5]}, "with axes in place of numbers, TypeError: "),
        (rolling_means, {"fast": [1, 2], "slow": [5]}, "Axis of a sweep has no single value"),
        (by_word, {"mean": ["sma", "ema"]}, "mean is not all whole numbers or all floats"),
        (a_loop, {"window": [1, 3]}, "Axis of a sweep has no single value"),
    ],
)
def test_why_a_function_is_called_for_each_combination_is_known(strategy, grid, why):
    made = trials_of(plain.random_bars(5, 60), strategy, grid)
    assert made.why_called.startswith(why) and bool(made.why_called) == bool(why)


@pytest.mark.parametrize("given_back", [None, 1.0, [1.0], "long", np.ones((60, 1)), {}], ids=str)
def test_what_is_no_signal_is_an_error_as_in_a_run(given_back):
    def wrong(prices, *, window=3):
        return given_back

    with pytest.raises(ParameterError, match="wrong: "):
        run_backtest(plain.random_bars(5, 60), wrong)
    with pytest.raises(ParameterError, match="wrong: "):
        everything(trials_of(plain.random_bars(5, 60), wrong, {"window": [2, 3]}))


@pytest.mark.parametrize("error", [PricesError, KeyError, ZeroDivisionError, RuntimeError])
def test_an_error_of_the_function_is_an_error_of_the_sweep(error):
    def fails(prices, *, window=3):
        if window == 3:
            raise error("something")
        return above(prices["Close"], sma(prices["Close"], window))

    with pytest.raises(error, match="something"):
        everything(trials_of(plain.random_bars(5, 60), fails, {"window": [2, 3, 4]}))


def test_none_among_the_values_is_a_value():
    def leveled(prices, *, level=None, window=3):
        line = sma(prices["Close"], window)
        return above(prices["Close"], line) if level is None else above(line, level)

    levels = [90.0, 95.0, 96.0, 97.0, 98.0, None, 99.0, 100.0, 101.0, 102.0, 103.0, 104.0, 105.0]
    hold_to_single_runs(plain.random_bars(1, 120), leveled, {"level": levels})


def test_a_truth_value_that_is_asked_for_by_identity():
    def turning(prices, *, turned=False, window=3):
        line = sma(prices["Close"], window)
        return below(prices["Close"], line) if turned is True else above(prices["Close"], line)

    grid = [{"turned": window == 7, "window": window} for window in range(2, 22)]
    hold_to_single_runs(plain.random_bars(1, 120), turning, grid)


def test_an_error_of_one_of_many_points_is_that_of_the_function():
    def divides(prices, *, window=5, slow=9):
        return above(prices["Close"] * (1.0 + 1.0 / (window - 57)), sma(prices["Close"], slow))

    bars, rng = plain.random_bars(1, 120), np.random.default_rng(0)
    points = [
        {"window": w, "slow": s} for w, s in zip(*rng.permuted([range(2, 402)] * 2, axis=1).tolist(), strict=True)
    ]
    with pytest.raises(ZeroDivisionError):
        everything(trials_of(bars, divides, points))


def test_a_value_that_is_asked_for_by_its_type():
    def special(prices, *, window=3):
        odd = isinstance(window, int) and window == 7
        return above(prices["Close"], sma(prices["Close"], 50 if odd else window))

    hold_to_single_runs(plain.random_bars(1, 120), special, {"window": list(range(2, 100))})


def test_a_refused_value_of_one_axis_is_refused_on_another_with_the_same_values():
    """Their lines are computed once, and refused twice."""

    def two_means(prices, *, fast=2, slow=5):
        close = prices["Close"]
        return above(sma(close, fast), sma(close, slow)).fillna(0.0)

    windows = [5, 4, 3, 2, 6, 0, -1, 7, 8, 9]
    hold_to_single_runs(plain.random_bars(1, 60), two_means, {"fast": windows, "slow": windows})


def test_a_refused_pair_does_not_cost_the_fused_path():
    grid = {"fast_window": [12], "slow_window": [5, 26]}
    assert hold_to_single_runs(plain.random_bars(1, 120), "macd", grid).traceable


@pytest.mark.parametrize("strategy", ["ma_crossover", "ema_crossover"])
def test_a_window_of_400_digits_does_not_cost_the_fused_path(strategy):
    grid = {"fast_window": [2, 10**400], "slow_window": [5, 10**400]}
    assert hold_to_single_runs(plain.random_bars(1, 120), strategy, grid).traceable


def test_a_line_is_computed_once_beside_other_columns_too(monkeypatch):
    counts = Counter()

    def counted(values, windows):
        counts["sma"] += 1
        return sma_kernel(values, windows)

    from backgrid import indicators

    sma_kernel = indicators._kernels.sma
    monkeypatch.setattr(indicators._kernels, "sma", counted)

    def two_means(prices, *, fast=2, slow=5):
        return (sma(prices["Close"], fast) > sma(prices["Close"], slow)) * 1.0

    bars = plain.random_bars(1, 100)
    bars["Note"] = 1
    everything(trials_of(bars, two_means, {"fast": [2, 3, 4, 5], "slow": [6, 7, 8, 9]}))
    assert counts["sma"] <= 12


def test_a_parameter_that_is_written_into_text_is_called_for(aapl):
    """Beyond the combinations that are held to plain calls."""

    def prepared(prices, *, window=3):
        name = f"mean_{window}"
        return above(prices["Close"], prices[name] if name in prices else sma(prices["Close"], window))

    bars = plain.random_bars(1, 120)
    bars["mean_37"] = 100.0
    made = hold_to_single_runs(bars, prepared, {"window": list(range(2, 100))})
    assert not made.traceable
