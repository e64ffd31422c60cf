"""A strategy is a plain function; its signature is what may be asked of it, and its name how it is found."""

import functools
import inspect
import math

import numpy as np
import pandas as pd
import plain
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backgrid.data import fetch_ohlcv
from backgrid.engine import run_backtest
from backgrid.errors import ParameterError, PricesError, TooFewBarsError
from backgrid.strategies import (
    STRATEGIES,
    WORDS,
    bollinger_reversion,
    buy_and_hold,
    calculate_ma_crossover_signals,
    call_strategy,
    complete_params,
    describe_strategy,
    donchian_breakout,
    ema_crossover,
    function_name,
    get_strategy,
    ma_crossover,
    macd,
    momentum,
    register_strategy,
    rsi_reversion,
    select_params,
    strategy_defaults,
)

NAN = float("nan")

NO_WINDOWS = [0, -5, 2.5, "10", True, np.nan, 1e9]
CONSTANTS = [100.0, 100.1, 0.1, 1 / 3, 1e-8, 1e8 / 3]

# Each strategy that comes with the package: its defaults, and how many bars it needs before its first signal.
BUILT_IN = {
    "ma_crossover": ({"fast_window": 20, "slow_window": 50}, 49),
    "ema_crossover": ({"fast_window": 12, "slow_window": 26}, 25),
    "macd": ({"fast_window": 12, "slow_window": 26, "signal_window": 9}, 33),
    "rsi_reversion": ({"window": 14, "lower": 30.0, "upper": 70.0}, 14),
    "bollinger_reversion": ({"window": 20, "width": 2.0}, 19),
    "donchian_breakout": ({"entry_window": 20, "exit_window": 10}, 20),
    "momentum": ({"window": 126}, 126),
    "buy_and_hold": ({}, 0),
}
SHORT = {  # windows for a few bars
    "ma_crossover": {"fast_window": 2, "slow_window": 5},
    "ema_crossover": {"fast_window": 2, "slow_window": 5},
    "macd": {"fast_window": 2, "slow_window": 5, "signal_window": 3},
    "rsi_reversion": {"window": 3, "lower": 40.0, "upper": 60.0},
    "bollinger_reversion": {"window": 5, "width": 1.0},
    "donchian_breakout": {"entry_window": 4, "exit_window": 2},
    "momentum": {"window": 3},
    "buy_and_hold": {},
}
WINDOWS = [(name, window) for name, (params, _) in BUILT_IN.items() for window in params if window.endswith("window")]
every_strategy = pytest.mark.parametrize("name", BUILT_IN)


@pytest.fixture
def registry(monkeypatch):
    """The registered strategies, put back afterwards."""
    monkeypatch.setattr("backgrid.strategies.STRATEGIES", dict(STRATEGIES))


# ---- each by hand ----------------------------------------------------------------------------------------------------


def check(function, prices, signals, **params):
    """The strategy must give these signals, on the index of the prices."""
    given_ = function(prices, **params)
    assert isinstance(given_, pd.Series) and given_.index.equals(prices.index)
    assert given_.tolist() == pytest.approx(signals, abs=0.0, nan_ok=True)


def test_ma_crossover_is_long_while_the_fast_mean_is_above_the_slow_one(bars):
    """Means of 1 and 2 bars: 1 > ?, 3 > 2, 2 < 2.5, 2 = 2, 5 > 3.5."""
    check(ma_crossover, bars([1.0, 3.0, 2.0, 2.0, 5.0]), [NAN, 1.0, 0.0, 0.0, 1.0], fast_window=1, slow_window=2)


def test_ema_crossover_is_long_while_the_fast_exponential_mean_is_above_the_slow_one(bars):
    """Slow mean 1, then 1 + 2/3 * 6 = 5, then 5 + 2/3 * 1: 6 is above it, and below the plain mean of 7 and 6."""
    prices = bars([1.0, 1.0, 7.0, 6.0])
    check(ema_crossover, prices, [NAN, 0.0, 1.0, 1.0], fast_window=1, slow_window=2)
    check(ma_crossover, prices, [NAN, 0.0, 1.0, 0.0], fast_window=1, slow_window=2)


def test_macd_is_long_while_its_line_is_above_its_signal_line(bars):
    """Lines 1 - 1 = 0, 7 - 5 = 2, 6 - 5.67 = 0.33; signal (0 + 2) / 2 = 1, then 1 + 2/3 * (0.33 - 1) = 0.56."""
    prices = bars([1.0, 1.0, 7.0, 6.0])
    check(macd, prices, [NAN, NAN, 1.0, 0.0], fast_window=1, slow_window=2, signal_window=2)


def test_rsi_reversion_is_long_from_a_low_rsi_until_a_high_one(bars):
    """Moves -1 -1 +1 +2 +1: an RSI of 0, then .5 / 1, then 1.25 / 1.5, then 1.125 / 1.25."""
    prices = bars([10.0, 9.0, 8.0, 9.0, 11.0, 12.0])
    check(rsi_reversion, prices, [NAN, NAN, 1.0, 1.0, 0.0, 0.0], window=2)
    check(rsi_reversion, prices, [NAN, NAN, 1.0, 1.0, 1.0, 0.0], window=2, upper=85)


def test_rsi_at_a_level_is_neither_below_nor_above_it(bars):
    prices = bars([10.0, 9.0, 8.0, 9.0, 11.0, 12.0])  # RSI 0, 50, 83.3, 90
    check(rsi_reversion, prices, [NAN, NAN, 0.0, 0.0, 0.0, 0.0], window=2, lower=0, upper=50)
    check(rsi_reversion, prices, [NAN, NAN, 1.0, 1.0, 0.0, 0.0], window=2, lower=30, upper=50)
    check(rsi_reversion, prices, [NAN, NAN, 1.0, 1.0, 1.0, 1.0], window=2, lower=100 - 1e-9, upper=100)


def test_rsi_reversion_is_flat_until_the_price_moves_and_keeps_its_position_while_it_rests(bars):
    """Window 1: only the last move counts. Before any move there is no RSI, nor on a bar without one."""
    prices = bars([5.0, 5.0, 5.0, 4.0, 4.0, 5.0, 5.0])
    check(rsi_reversion, prices, [NAN, 0.0, 0.0, 1.0, 1.0, 0.0, 0.0], window=1)


def test_bollinger_reversion_is_long_from_below_the_band_until_above_the_mean(bars):
    """6 is below 9 - 1.73; 8 is not above 8.5; 9 is above 8.25."""
    prices = bars([10.0, 10.0, 10.0, 6.0, 8.0, 9.0])
    check(bollinger_reversion, prices, [NAN, NAN, NAN, 1.0, 1.0, 0.0], window=4, width=1.0)
    check(bollinger_reversion, prices, [NAN, NAN, NAN, 0.0, 0.0, 0.0], window=4, width=2)


def test_donchian_breakout_is_long_from_above_the_bars_before_until_below_them():
    """11 is not above 12, nor is 12; 13 is. 13 is not below 12, nor is 12; 10 is. Its own bar never counts."""
    columns = {
        "High": [11.0, 12.0, 12.0, 12.0, 14.0, 14.0, 13.0, 13.0],
        "Low": [9.0, 10.0, 10.0, 11.0, 12.0, 12.0, 12.0, 9.0],
        "Close": [10.0, 11.0, 11.0, 12.0, 13.0, 13.0, 12.0, 10.0],
    }
    prices = pd.DataFrame(columns, index=pd.bdate_range("2023-01-02", periods=8))
    expected = [NAN, NAN, 0.0, 0.0, 1.0, 1.0, 1.0, 0.0]
    check(donchian_breakout, prices, expected, entry_window=2, exit_window=1)


def test_momentum_is_long_while_the_close_is_above_that_of_some_bars_before(bars):
    prices = bars([1.0, 2.0, 1.0, 3.0, 2.0, 2.0])
    check(momentum, prices, [NAN, NAN, 0.0, 1.0, 1.0, 0.0], window=2)


def test_buy_and_hold_is_long_on_every_bar(aapl):
    assert buy_and_hold(aapl).tolist() == [1.0] * 250


# ---- moving averages, flat while warming up --------------------------------------------------------------------------


def test_calculated_signals_are_flat_while_warming_up():
    signals = calculate_ma_crossover_signals([1.0, 3.0, 2.0, 2.0, 5.0], 1, 2)
    assert signals.tolist() == [0.0, 1.0, 0.0, 0.0, 1.0]


def test_calculated_signals_have_the_windows_of_the_strategy(aapl):
    assert calculate_ma_crossover_signals(aapl["Close"]).equals(ma_crossover(aapl).fillna(0.0))


@pytest.mark.parametrize("windows", [(20, 50), (1, 2), (3, 200), (100, 300)])
def test_calculated_signals_equal_the_plain_twin(aapl, windows):
    signals = calculate_ma_crossover_signals(aapl["Close"], *windows)
    assert signals.tolist() == plain.calculate_ma_crossover_signals(aapl["Close"].tolist(), *windows)
    assert signals.index.equals(aapl.index)


@pytest.mark.parametrize("constant", [100.0, 100.1, 0.1, 1 / 3, 1e-8, 1e8 / 3])
def test_means_of_a_constant_price_never_cross(constant):
    for fast, slow in [(1, 2), (2, 3), (7, 20), (20, 50), (13, 299)]:
        assert not calculate_ma_crossover_signals(np.full(300, constant), fast, slow).any()


@pytest.mark.parametrize("windows", [(50, 50), (51, 50), (10**400, 50)], ids=["equal", "above", "huge"])
def test_fast_window_must_be_below_slow_window_and_both_are_named(aapl, windows):
    with pytest.raises(ParameterError, match=r"^fast_window .* must be below slow_window 50$") as caught:
        calculate_ma_crossover_signals(aapl["Close"], *windows)
    assert len(str(caught.value)) < 120


# ---- what holds for every strategy -----------------------------------------------------------------------------------


@every_strategy
def test_defaults_are_these(name):
    assert strategy_defaults(STRATEGIES[name]) == BUILT_IN[name][0]


def test_strategies_are_listed_in_this_order():
    assert [name for name in STRATEGIES if STRATEGIES[name].__module__ == "backgrid.strategies"] == list(BUILT_IN)
    assert WORDS.keys() == BUILT_IN.keys()


@every_strategy
@pytest.mark.parametrize("symbol", ["AAPL", "AMZN", "GOOG", "META", "NFLX", "NVDA", "^GSPC"])
def test_strategy_is_long_or_flat_after_its_warm_up_and_trades_on_every_sample(name, symbol):
    prices = fetch_ohlcv(symbol, source="sample")
    signals, warm_up = STRATEGIES[name](prices), BUILT_IN[name][1]
    assert signals.index.equals(prices.index) and signals.dtype == np.float64
    assert signals.isna().tolist() == [True] * warm_up + [False] * (len(prices) - warm_up)
    assert set(signals[warm_up:]) == ({1.0} if name == "buy_and_hold" else {0.0, 1.0})
    entries = np.diff(signals.fillna(0.0), prepend=0.0)[:-1] == 1.0  # one on the last bar has no open to trade at
    assert len(run_backtest(prices, name).trades) == entries.sum() > 0


@every_strategy
def test_signal_comes_with_the_bar_after_the_warm_up_and_not_before(name):
    """One bar fewer, and a run says so instead of showing a flat line."""
    prices, warm_up = plain.random_bars(1, n_bars=200), BUILT_IN[name][1]
    assert len(run_backtest(prices[: max(warm_up + 1, 2)], name).equity) == max(warm_up + 1, 2)
    if warm_up:
        with pytest.raises(TooFewBarsError, match=f"^{name} gave no signal in {warm_up} bars "):
            run_backtest(prices[:warm_up], name)


@every_strategy
@given(seed=st.integers(0, 10**6), cut=st.integers(0, 60), factor=st.floats(0.5, 2.0))
def test_signal_never_changes_with_what_comes_later(name, seed, cut, factor):
    """Later bars cut off, or other ones in their place."""
    prices = plain.random_bars(seed, n_bars=60, volatility=0.05)
    changed = prices.copy()
    changed.iloc[cut:] *= factor
    signals = STRATEGIES[name](prices, **SHORT[name])[:cut]
    assert signals.equals(STRATEGIES[name](prices[:cut], **SHORT[name]))
    assert signals.equals(STRATEGIES[name](changed, **SHORT[name])[:cut])


@every_strategy
@given(seed=st.integers(0, 10**6), power=st.integers(-30, 30))
def test_signal_does_not_depend_on_the_unit_of_the_price(name, seed, power):
    prices = plain.random_bars(seed, n_bars=60, volatility=0.05)
    assert STRATEGIES[name](prices * 2.0**power, **SHORT[name]).equals(STRATEGIES[name](prices, **SHORT[name]))


@every_strategy
@pytest.mark.parametrize("constant", CONSTANTS)
@pytest.mark.parametrize("short", [False, True], ids=["defaults", "short"])
def test_no_strategy_trades_on_a_constant_price(bars, name, constant, short):
    prices, params = bars(np.full(300, constant)), SHORT[name] if short else {}
    signals = STRATEGIES[name](prices, **params)
    if name == "buy_and_hold":
        assert set(signals) == {1.0}
        return
    assert set(signals.dropna()) == {0.0}
    result = run_backtest(prices, name, params=params, fees=0.01)
    assert result.trades.empty and set(result.equity) == {100_000.0}


@every_strategy
@pytest.mark.parametrize("constant", CONSTANTS)
def test_no_strategy_trades_once_the_price_has_rested_for_long(name, constant):
    """Whatever came before: nothing is left in the means that rounding could turn into a crossing."""
    for seed in range(5):
        close = np.concatenate([plain.random_bars(seed)["Close"] * constant, np.full(600, constant * 99.0)])
        prices = pd.DataFrame({"High": close, "Low": close, "Close": close})
        assert STRATEGIES[name](prices, **SHORT[name])[320:].nunique() == 1


@every_strategy
def test_run_of_closes_only_takes_every_strategy_that_needs_no_more(aapl, name):
    close = aapl["Close"]
    if name == "donchian_breakout":
        with pytest.raises(PricesError, match="need prices with High, Low; these lack High, Low$"):
            run_backtest(close, name, fill="close")
    else:
        of_closes, of_bars = run_backtest(close, name, fill="close"), run_backtest(aapl, name, fill="close")
        assert of_closes.equity.equals(of_bars.equity) and of_closes.metrics == pytest.approx(
            of_bars.metrics, abs=0.0, nan_ok=True
        )


@every_strategy
def test_strategy_leaves_the_prices_as_they_were(aapl, name):
    prices = aapl.copy()
    signals = STRATEGIES[name](prices)
    signals.iloc[:] = 0.5
    pd.testing.assert_frame_equal(prices, aapl)


# ---- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("window", NO_WINDOWS, ids=repr)
@pytest.mark.parametrize(("name", "parameter"), WINDOWS)
def test_what_is_no_window_is_refused_by_name(aapl, name, parameter, window):
    with pytest.raises(ParameterError, match=f"^{parameter} must be ") as caught:
        STRATEGIES[name](aapl, **{parameter: window})
    assert len(str(caught.value)) < 120
    with pytest.raises(ParameterError, match=f"^{parameter} must be "):
        run_backtest(aapl, name, params={parameter: window})


@pytest.mark.parametrize(("name", "parameter"), WINDOWS)
@pytest.mark.parametrize("window", [10**9, 10**400], ids=["1e9", "huge"])
def test_window_beyond_the_bars_gives_no_signal_and_takes_no_memory(aapl, name, parameter, window):
    params = {parameter: window}
    if parameter == "fast_window":
        params["slow_window"] = window + 1
    assert STRATEGIES[name](aapl, **params).isna().all()
    with pytest.raises(TooFewBarsError, match=f"^{name} gave no signal in 250 bars "):
        run_backtest(aapl, name, params=params)


@pytest.mark.parametrize("function", [ma_crossover, ema_crossover, macd])
@pytest.mark.parametrize("windows", [(30, 30), (31, 30), (10**400, 30)], ids=["equal", "above", "huge"])
def test_fast_window_must_be_below_slow_window(aapl, function, windows):
    with pytest.raises(ParameterError, match=r"^fast_window [0-9.]+ must be below slow_window 30$") as caught:
        function(aapl, fast_window=windows[0], slow_window=windows[1])
    assert len(str(caught.value)) < 120


@pytest.mark.parametrize("name", ["lower", "upper"])
@pytest.mark.parametrize(
    ("level", "need"),
    [(-0.1, "from 0 to 100, got -0.1"), (100.5, "from 0 to 100, got 100.5"), (NAN, "a finite number, got nan"),
     (math.inf, "a finite number"), (True, "a finite number, got True"), ("30", "a finite number, got '30'"),
     (10**400, "a finite number"), (None, "a finite number, got None")],
    ids=repr,
)  # fmt: skip
def test_level_of_the_rsi_is_a_number_from_0_to_100(aapl, name, level, need):
    with pytest.raises(ParameterError, match=f"^{name} must be {need}") as caught:
        rsi_reversion(aapl, **{name: level})
    assert len(str(caught.value)) < 120


@pytest.mark.parametrize(("lower", "upper"), [(70.0, 70.0), (70, 30.0), (30.0001, 30.0)])
def test_lower_level_must_be_below_the_upper_one_and_both_are_named(aapl, lower, upper):
    with pytest.raises(ParameterError, match=f"^lower {lower:.15g} must be below upper {upper:.15g}$"):
        rsi_reversion(aapl, lower=lower, upper=upper)


def test_levels_may_lie_on_their_bounds(aapl):
    assert not rsi_reversion(aapl, lower=0, upper=np.float32(100)).any()  # never below the one


@pytest.mark.parametrize("width", [0, 0.0, -2.0, NAN, math.inf, True, "2", None], ids=repr)
def test_width_of_the_band_is_a_number_above_0(aapl, width):
    with pytest.raises(ParameterError, match=r"^width must be (above 0|a finite number), got "):
        bollinger_reversion(aapl, width=width)


# ---- the registry ----------------------------------------------------------------------------------------------------


def test_registered_function_is_found_by_its_name(registry):
    @register_strategy
    def always_flat(prices, *, level=0.0):
        return pd.Series(level, index=prices.index)

    assert get_strategy("always_flat") is always_flat
    assert register_strategy(always_flat) is always_flat  # a cell that runs twice


def test_name_of_another_strategy_cannot_be_taken(registry):
    def buy_and_hold(prices):
        return prices["Close"] * 0.0

    with pytest.raises(ParameterError, match="a strategy named 'buy_and_hold' exists"):
        register_strategy(buy_and_hold)
    assert get_strategy("buy_and_hold") is not buy_and_hold


def test_function_without_defaults_is_not_registered(registry):
    def needy(prices, *, window):
        return prices["Close"] * window

    with pytest.raises(ParameterError, match="strategy needy: window needs a default value"):
        register_strategy(needy)
    with pytest.raises(ParameterError, match="unknown strategy 'needy'"):
        get_strategy("needy")


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("ma_crosover", "did you mean 'ma_crossover'?"),
        ("zzz", "known: bollinger_reversion, buy_and_hold, "),
        (None, "known: "),
    ],
)
def test_unknown_strategy_is_refused_with_the_nearest_name(name, hint):
    with pytest.raises(ParameterError) as caught:
        get_strategy(name)
    assert f"unknown strategy {name!r}" in str(caught.value) and hint in str(caught.value)


def test_unknown_name_of_any_length_gives_a_short_message():
    with pytest.raises(ParameterError) as caught:
        get_strategy("<script>" * 10_000)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize(
    ("name", "params", "title", "rule"),
    [
        (
            "ma_crossover",
            {"fast_window": 5, "slow_window": 9},
            "Moving-average crossover 5/9",
            "Long AAPL while its 5-bar mean is above its 9-bar mean",
        ),
        (
            "ema_crossover",
            {"fast_window": 5, "slow_window": 9},
            "Exponential moving-average crossover 5/9",
            "Long AAPL while its 5-bar exponential mean is above its 9-bar exponential mean",
        ),
        (
            "macd",
            {"fast_window": 5, "slow_window": 9, "signal_window": 3},
            "MACD 5/9/3",
            "Long AAPL while its MACD line of 5 and 9 bars is above its signal line of 3 bars",
        ),
        (
            "rsi_reversion",
            {"window": 7, "lower": 30.0, "upper": 62.5},
            "RSI reversion 7, 30/62.5",
            "Long AAPL from a 7-bar RSI below 30 until one above 62.5",
        ),
        (
            "bollinger_reversion",
            {"window": 9, "width": np.float64(2.0)},
            "Bollinger reversion 9, 2",
            "Long AAPL from a close more than 2 standard deviations below its 9-bar mean until one above that mean",
        ),
        (
            "donchian_breakout",
            {"entry_window": 9, "exit_window": 5},
            "Donchian breakout 9/5",
            "Long AAPL from a close above the highest high of the 9 bars before until one below the lowest low of the "
            "5 bars before",
        ),
        ("momentum", {"window": 9}, "Momentum 9", "Long AAPL while its close is above that of 9 bars before"),
        ("buy_and_hold", {}, "Buy and hold", "Long AAPL from the first bar to the last"),
        ("dip", {"depth": 0.1, "lag": 2}, "dip (depth 0.1, lag 2)", "Long after a fall"),
        ("dip", {}, "dip", "Long after a fall"),
        ("bare", {}, "bare", "bare"),
        ("unregistered", {}, "unregistered", "unregistered"),
    ],
)
def test_strategy_is_described_in_words(registry, name, params, title, rule):
    @register_strategy
    def dip(prices, *, depth=0.1, lag=2):
        """Long after a fall.

        And more.
        """

    @register_strategy
    def bare(prices):
        return prices["Close"] * 0.0

    assert describe_strategy(name, params, "AAPL") == (title, rule)


def test_function_that_shares_a_name_is_described_by_its_own_parameters():
    """run_backtest takes any function; one called ma_crossover need not have these windows."""
    title, _ = describe_strategy("ma_crossover", {"lag": 3}, "AAPL")
    assert "lag 3" in title
    title, _ = describe_strategy("bollinger_reversion", {"window": "short", "width": None}, "AAPL")
    assert title == "Bollinger reversion short, None"


# ---- parameters ------------------------------------------------------------------------------------------------------


def test_signature_gives_names_and_defaults():
    assert strategy_defaults(ma_crossover) == {"fast_window": 20, "slow_window": 50}
    assert strategy_defaults(buy_and_hold) == {}
    assert strategy_defaults(lambda prices, *rest, scale=1.0, **more: prices) == {"scale": 1.0}


def test_function_that_takes_nothing_is_no_strategy():
    with pytest.raises(ParameterError, match="strategy <lambda> must take the prices as its first parameter"):
        strategy_defaults(lambda: 1.0)


def test_parameters_are_given_by_name(aapl):
    """Before a `/` only the prices may stand."""

    def by_place(prices, level=0.5, /):
        return pd.Series(level, index=prices.index)

    def prices_by_place(prices, /, *, level=0.5):
        return pd.Series(level, index=prices.index)

    for ask in (strategy_defaults, register_strategy, lambda function: run_backtest(aapl, function)):
        with pytest.raises(ParameterError, match="strategy by_place: level stands before a `/`, .*move the `/` behind"):
            ask(by_place)
    assert run_backtest(aapl, prices_by_place, params={"level": 1.0}).params == {"level": 1.0}


def test_parameters_not_given_have_their_defaults():
    assert complete_params(ma_crossover, None) == {"fast_window": 20, "slow_window": 50}
    assert complete_params(ma_crossover, {"slow_window": 30}) == {"fast_window": 20, "slow_window": 30}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("fast_windw", "ma_crossover has no parameter 'fast_windw'; did you mean 'fast_window'?"),
        ("prices", "ma_crossover has no parameter 'prices'; known: fast_window, slow_window"),
        ("a = 1\nopen('pwned')", r"has no parameter \"a = 1\\nopen\('pwned'\)\""),
        (1, "ma_crossover has no parameter 1"),
    ],
    ids=["misspelt", "prices", "code", "number"],
)
def test_unknown_parameter_is_refused_with_the_nearest_name(name, message):
    with pytest.raises(ParameterError, match=message):
        complete_params(ma_crossover, {name: 5})


@pytest.mark.parametrize("params", [[("fast_window", 5)], "fast_window", 5], ids=repr)
def test_parameters_that_are_no_dict_are_refused(params):
    with pytest.raises(ParameterError, match="params"):
        complete_params(ma_crossover, params)


def every_type(prices, *, whole=1, number=0.5, text="a", flag=False, other=None):
    return prices["Close"] * 0.0


@pytest.mark.parametrize(
    ("name", "value", "need"),
    [
        ("whole", 2.0, "a whole number, got 2.0 .float."),
        ("whole", "2", "a whole number, got '2' .str."),
        ("whole", True, "a whole number, got True .bool."),
        ("whole", None, "a whole number, got None .NoneType."),
        ("number", "0.5", "a number, got '0.5' .str."),
        ("number", True, "a number, got True .bool."),
        ("number", [0.5], "a number, got .0.5. .list."),
        ("text", 5, "text, got 5 .int."),
        ("flag", 1, "true or false, got 1 .int."),
        ("flag", "true", "true or false, got 'true' .str."),
    ],
)
def test_value_of_another_type_than_the_default_is_refused(name, value, need):
    with pytest.raises(ParameterError, match=f"^{name} must be {need}"):
        complete_params(every_type, {name: value})


@pytest.mark.parametrize(
    "params",
    [
        {"whole": np.int64(3)},
        {"number": 2},
        {"number": np.float32(0.5)},
        {"text": ""},
        {"flag": np.bool_(True)},
        {"other": "x"},
        {"other": [1]},
    ],
    ids=repr,
)
def test_value_of_the_type_of_the_default_passes_and_none_takes_any(params):
    assert complete_params(every_type, params).items() >= params.items()


def test_parameters_that_are_offered_are_taken_and_none_stands_for_the_default():
    assert select_params("macd", fast_window=5, slow_window=None, window=None) == {"fast_window": 5}
    assert select_params("bollinger_reversion", window=10, width=1) == {"window": 10, "width": 1}
    assert select_params("buy_and_hold", fast_window=None) == {}


@pytest.mark.parametrize(
    ("strategy", "offered", "said"),
    [
        ("momentum", {"fast_window": 10}, "momentum has no parameter 'fast_window'; did you mean 'window'"),
        ("ma_crossover", {"fast_window": 10, "signal_window": 9}, "ma_crossover has no parameter 'signal_window'"),
        ("buy_and_hold", {"window": 0}, "buy_and_hold has no parameter 'window'; known: none"),
        ("macd", {"fast_window": 2.5}, "fast_window must be a whole number, got 2.5"),
        ("mcad", {"fast_window": 2}, "unknown strategy 'mcad'; did you mean 'macd'"),
    ],
)
def test_parameter_that_the_strategy_does_not_have_is_refused(strategy, offered, said):
    with pytest.raises(ParameterError, match=said):
        select_params(strategy, **offered)


def test_signature_is_read_once_however_often_it_is_asked_for(aapl, monkeypatch):
    read = []
    signature = inspect.signature
    monkeypatch.setattr(inspect, "signature", lambda function: read.append(function) or signature(function))

    def half(prices, *, level=0.5):
        return pd.Series(level, index=prices.index)

    for level in (0.5, 0.25):
        assert set(run_backtest(aapl, half, params={"level": level}).positions.index) == set(aapl.index)
    assert read == [half]


def test_callable_that_cannot_be_hashed_is_a_strategy(aapl):
    class Level:
        __hash__ = None

        def __call__(self, prices, *, level=0.5):
            return pd.Series(level, index=prices.index)

    assert strategy_defaults(Level()) == {"level": 0.5}
    assert run_backtest(aapl, Level()).params == {"level": 0.5}


def test_function_defined_again_under_its_name_has_its_own_parameters():
    """As a notebook cell that is edited and run again."""
    for default in (1, 2):
        namespace = {}
        exec(f"def again(prices, *, lag={default}): return prices", namespace)
        assert strategy_defaults(namespace["again"]) == {"lag": default}


# ---- the call --------------------------------------------------------------------------------------------------------


def test_function_of_prices_gets_the_frame_and_one_of_close_the_closes(aapl):
    assert call_strategy(lambda prices: prices.columns.tolist(), aapl, {}) == aapl.columns.tolist()
    assert call_strategy(lambda close: close.name, aapl, {}) == "Close"
    assert call_strategy(lambda close, *, lag=1: lag, aapl, {"lag": 3}) == 3


def test_function_is_called_by_its_own_name():
    assert function_name(ma_crossover) == "ma_crossover"
    assert function_name(functools.partial(ma_crossover, fast_window=5)) == "partial"
