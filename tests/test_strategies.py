"""A strategy is a plain function; its signature is what may be asked of it, and its name how it is found."""

import functools

import numpy as np
import pandas as pd
import plain
import pytest

from backgrid.errors import ParameterError
from backgrid.strategies import (
    STRATEGIES,
    buy_and_hold,
    calculate_ma_crossover_signals,
    call_strategy,
    complete_params,
    describe_strategy,
    function_name,
    get_strategy,
    ma_crossover,
    register_strategy,
    select_params,
    strategy_defaults,
)

NO_WINDOWS = [0, -5, 2.5, "10", True, np.nan, 1e9]


@pytest.fixture
def registry(monkeypatch):
    """The registered strategies, put back afterwards."""
    monkeypatch.setattr("backgrid.strategies.STRATEGIES", dict(STRATEGIES))


# ---- the two that come with it ---------------------------------------------------------------------------------------


def test_ma_crossover_is_long_while_the_fast_mean_is_above_the_slow_one(bars):
    """Means of 1 and 2 bars: 1 > ?, 3 > 2, 2 < 2.5, 2 = 2, 5 > 3.5."""
    signals = ma_crossover(bars([1.0, 3.0, 2.0, 2.0, 5.0]), fast_window=1, slow_window=2)
    assert signals.tolist() == pytest.approx([np.nan, 1.0, 0.0, 0.0, 1.0], nan_ok=True)


def test_ma_crossover_is_nan_until_there_are_slow_window_bars(aapl):
    signals = ma_crossover(aapl)
    assert signals.isna().tolist() == [True] * 49 + [False] * 201
    assert signals.index.equals(aapl.index)


def test_buy_and_hold_is_long_on_every_bar(aapl):
    assert buy_and_hold(aapl).tolist() == [1.0] * 250


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


@pytest.mark.parametrize("window", NO_WINDOWS, ids=repr)
@pytest.mark.parametrize("name", ["fast_window", "slow_window"])
def test_what_is_no_window_is_refused_by_name(aapl, name, window):
    with pytest.raises(ParameterError, match=f"^{name} must be "):
        ma_crossover(aapl, **{name: window})


@pytest.mark.parametrize("windows", [(50, 50), (51, 50), (10**400, 50)], ids=["equal", "above", "huge"])
def test_fast_window_must_be_below_slow_window_and_both_are_named(aapl, windows):
    with pytest.raises(ParameterError, match=r"^fast_window .* must be below slow_window 50$") as caught:
        calculate_ma_crossover_signals(aapl["Close"], *windows)
    assert len(str(caught.value)) < 120


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
    [("ma_crosover", "did you mean 'ma_crossover'?"), ("zzz", "known: buy_and_hold, ma_crossover"), (None, "known: ")],
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


# ---- parameters ------------------------------------------------------------------------------------------------------


def test_signature_gives_names_and_defaults():
    assert strategy_defaults(ma_crossover) == {"fast_window": 20, "slow_window": 50}
    assert strategy_defaults(buy_and_hold) == {}
    assert strategy_defaults(lambda prices, *rest, scale=1.0, **more: prices) == {"scale": 1.0}


def test_function_that_takes_nothing_is_no_strategy():
    with pytest.raises(ParameterError, match="strategy <lambda> must take the prices as its first parameter"):
        strategy_defaults(lambda: 1.0)


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


def test_of_the_parameters_offered_those_the_strategy_has_are_taken():
    offered = {"fast_window": 5, "slow_window": 9, "lookback": 7}
    assert select_params("ma_crossover", **offered) == {"fast_window": 5, "slow_window": 9}
    assert select_params("buy_and_hold", **offered) == {}


# ---- the call --------------------------------------------------------------------------------------------------------


def test_function_of_prices_gets_the_frame_and_one_of_close_the_closes(aapl):
    assert call_strategy(lambda prices: prices.columns.tolist(), aapl, {}) == aapl.columns.tolist()
    assert call_strategy(lambda close: close.name, aapl, {}) == "Close"
    assert call_strategy(lambda close, *, lag=1: lag, aapl, {"lag": 3}) == 3


def test_function_is_called_by_its_own_name():
    assert function_name(ma_crossover) == "ma_crossover"
    assert function_name(functools.partial(ma_crossover, fast_window=5)) == "partial"
