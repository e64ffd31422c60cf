"""Stops, sizes, leverage, interest and rebalancing, on bars small enough to check by hand."""

import math
import pickle

import numpy as np
import pandas as pd
import plain
import pytest

from backgrid.engine import calculate_returns, run_backtest
from backgrid.errors import ParameterError


def ohlc(*rows):
    """Daily bars from (Open, High, Low, Close)."""
    index = pd.bdate_range("2024-01-01", periods=len(rows), name="Date")
    return pd.DataFrame(rows, columns=["Open", "High", "Low", "Close"], index=index, dtype=float)


def exits(prices, target, **orders):
    """Exit bar, exit price and reason of each trade."""
    trades = run_backtest(prices, target, cash=1000.0, **orders).trades
    return list(zip(trades["exit_bar"], trades["exit_price"].round(6), trades["exit_reason"], strict=True))


FLAT = (100, 101, 99, 100)


def test_stop_loss_fills_at_its_level_within_the_bar():
    prices = ohlc(FLAT, FLAT, (99, 100, 90, 95), FLAT)
    assert exits(prices, [1, 1, 1, 1], stop_loss=0.05) == [(2, 95.0, "stop_loss")]


def test_gap_through_a_stop_fills_at_the_open():
    prices = ohlc(FLAT, FLAT, (90, 96, 88, 95), FLAT)
    assert exits(prices, [1, 1, 1, 1], stop_loss=0.05) == [(2, 90.0, "stop_loss")]


def test_short_stops_above_its_entry():
    prices = ohlc(FLAT, FLAT, (101, 110, 100, 100), FLAT)
    assert exits(prices, [-1, -1, -1, -1], stop_loss=0.05) == [(2, 105.0, "stop_loss")]
    prices = ohlc(FLAT, FLAT, (101, 102, 90, 100), FLAT)
    assert exits(prices, [-1, -1, -1, -1], take_profit=0.05) == [(2, 95.0, "take_profit")]


def test_profit_is_taken_at_its_level_or_at_a_better_open():
    assert exits(ohlc(FLAT, FLAT, (101, 120, 100, 110)), [1, 1, 1], take_profit=0.1) == [(2, 110.0, "take_profit")]
    assert exits(ohlc(FLAT, FLAT, (115, 120, 112, 118)), [1, 1, 1], take_profit=0.1) == [(2, 115.0, "take_profit")]


def test_loss_comes_before_a_profit_in_the_same_bar():
    prices = ohlc(FLAT, FLAT, (100, 120, 90, 100))
    assert exits(prices, [1, 1, 1], stop_loss=0.05, take_profit=0.1) == [(2, 95.0, "stop_loss")]


@pytest.mark.parametrize("fill", ["next_open", "close", "next_close"])
def test_open_beyond_the_profit_comes_before_a_loss_later_in_the_bar(fill):
    prices = ohlc(FLAT, FLAT, (115, 120, 90, 100))
    found = exits(prices, [1, 1, 1], stop_loss=0.05, take_profit=0.1, fill=fill)
    assert found == [(2, 115.0, "take_profit")]


def test_stop_is_watched_within_the_entry_bar_of_an_open_fill_and_after_that_of_a_close_fill():
    prices = ohlc(FLAT, (100, 101, 90, 100), (100, 101, 99, 100), (100, 101, 94, 100))
    assert exits(prices, [1, 1, 1, 1], stop_loss=0.05) == [(1, 95.0, "stop_loss")]
    assert exits(prices, [0, 1, 1, 1], stop_loss=0.05, fill="close") == [(3, 95.0, "stop_loss")]
    assert exits(prices, [1, 1, 1, 1], stop_loss=0.05, fill="next_close") == [(3, 95.0, "stop_loss")]


def test_trailing_stop_follows_the_highs_of_bars_that_are_over():
    prices = ohlc(FLAT, (100, 110, 100, 109), (109, 120, 107, 118), (118, 119, 110, 111), FLAT)
    assert exits(prices, [1] * 5, trailing_stop=0.05) == [(3, 114.0, "trailing_stop")]  # 5 % below the 120 of bar 2


def test_side_stays_barred_after_a_stop_until_the_target_has_left_it():
    prices = ohlc(FLAT, FLAT, (99, 100, 90, 95), *[FLAT] * 6)
    kept = [1, 1, 1, 0.5, 1, 1, 1, 1, 1]
    assert exits(prices, kept, stop_loss=0.05) == [(2, 95.0, "stop_loss")]
    left = [1, 1, 1, 0, 1, 1, 1, 1, 1]
    assert exits(prices, left, stop_loss=0.05) == [(2, 95.0, "stop_loss"), (8, 100.0, "open")]
    turned = [1, 1, 1, -1, -1, -1, -1, -1, -1]
    assert exits(prices, turned, stop_loss=0.05) == [(2, 95.0, "stop_loss"), (8, 100.0, "open")]


def test_stops_may_differ_by_trade():
    prices = ohlc(*[FLAT] * 3, (100, 101, 92, 100), *[FLAT] * 3, (100, 101, 92, 100))
    target = [1, 1, 1, 0, 1, 1, 1, 1]
    distances = [0.05, 0.5, 0.5, 0.5, 0.1, 0.02, 0.02, 0.02]  # that of the bar that decided the trade counts
    assert exits(prices, target, stop_loss=distances) == [(3, 95.0, "stop_loss"), (7, 100.0, "open")]
    assert exits(prices, target, stop_loss=[np.nan] * 8)[0] == (4, 100.0, "signal")


def test_sizes_mean_units_cash_and_risk():
    prices = ohlc(*[FLAT] * 4)
    held = lambda **orders: run_backtest(prices, [1] * 4, cash=1000.0, **orders).trades["units"].tolist()  # noqa: E731
    assert held() == [10.0]
    assert held(size=0.5) == [5.0]
    assert held(sizing="units", size=3.0) == [3.0]
    assert held(sizing="units", size=30.0) == [10.0]  # as far as the account reaches
    assert held(sizing="units", size=30.0, leverage=2.0) == [20.0]
    assert held(sizing="cash", size=202.0, fees=0.01) == pytest.approx([2.0])
    assert held(sizing="risk", size=0.01, stop_loss=0.05) == pytest.approx([2.0])  # 5 % of 200 is 1 % of 1,000
    assert held(sizing="risk", size=0.01, stop_loss=0.05, trailing_stop=0.02) == pytest.approx([5.0])


def test_volatility_target_divides_by_the_volatility_of_the_last_returns():
    prices = plain.random_bars(3, 80)
    result = run_backtest(prices, np.ones(80), sizing="volatility", size=0.1, lookback=20, fill="close", leverage=5.0)
    at = result.trades["entry_bar"].iloc[0]
    volatility = prices["Close"].pct_change().iloc[1:21].std() * math.sqrt(252)
    assert at == 20 and result.positions.iloc[at] == pytest.approx(0.1 / volatility)


def test_leverage_lets_targets_beyond_one_and_caps_what_is_held():
    prices = ohlc(FLAT, FLAT, (110, 111, 109, 110), FLAT)
    result = run_backtest(prices, [2, 2, 2, 2], leverage=2.0, cash=1000.0)
    assert result.trades["units"].tolist() == [20.0] and result.equity.tolist() == [1000.0, 1000.0, 1200.0, 1000.0]
    with pytest.raises(ParameterError, match=r"target position 2 on 2024-01-01 is not in \[-1, 1\]"):
        run_backtest(prices, [2, 2, 2, 2])


def test_cash_earns_and_a_short_pays_by_the_bar():
    prices = ohlc(*[FLAT] * 3)
    rates = {"cash_rate": 0.21, "borrow_rate": 0.44, "periods_per_year": 2.0, "cash": 1000.0}  # 10 % and 20 % a bar
    assert run_backtest(prices, [0, 0, 0], **rates).equity.tolist() == pytest.approx([1000.0, 1100.0, 1210.0])
    short = run_backtest(prices, [-1, -1, -1], fill="close", **rates)  # 2,000 in cash, 1,000 borrowed: 200 - 200
    assert short.equity.tolist() == pytest.approx([1000.0, 1000.0, 1000.0])


def test_weight_held_by_bar_has_the_returns_of_the_signals():
    prices, target = plain.random_bars(5), plain.random_targets(5)
    run = run_backtest(prices, target, rebalance="bar", fill="close")
    assert run.returns.to_numpy() == pytest.approx(calculate_returns(prices, target, fill="close").to_numpy()[1:])


def test_rebalancing_follows_the_calendar_or_the_drift():
    prices = plain.random_bars(6, 120)

    def turnover(rebalance):
        return run_backtest(prices, np.full(120, 0.5), rebalance=rebalance).metrics["turnover"]

    assert turnover("bar") > turnover("week") > turnover("month") > turnover(None)
    assert turnover("bar") > turnover(0.01) > turnover(0.2) == turnover(None)


def test_rebalancing_an_account_that_is_all_in_trades_nothing():
    prices = plain.random_bars(7, 120)
    assert (
        run_backtest(prices, np.ones(120), rebalance="bar", fees=0.01, fixed_fee=1.0).metrics["fees_paid"]
        == (run_backtest(prices, np.ones(120), fees=0.01, fixed_fee=1.0).metrics["fees_paid"])
    )


@pytest.mark.parametrize(
    ("orders", "said"),
    [
        ({"stop_loss": -1}, "stop_loss must be a number above 0 and below 1, got -1"),
        ({"stop_loss": 0}, "stop_loss must be a number above 0"),
        ({"stop_loss": 1.0}, "below 1"),
        ({"take_profit": float("nan")}, "take_profit must be a number above 0"),
        ({"trailing_stop": "5%"}, "trailing_stop must be"),
        ({"trailing_stop": [0.1, 0.1]}, r"trailing_stop: need one number, or one a bar, 120, got shape \(2,\)"),
        ({"stop_loss": np.full(120, -0.1)}, "stop_loss of bar 0 must be a number above 0"),
        ({"leverage": 0}, "leverage must be a number above 0, got 0"),
        ({"leverage": True}, "leverage must be a number above 0"),
        ({"sizing": "fractions"}, "unknown sizing 'fractions'; did you mean 'fraction'"),
        ({"sizing": "units"}, "sizing='units' needs a size"),
        ({"sizing": "risk", "size": 0.01}, "sizing='risk' needs a stop_loss or a trailing_stop"),
        ({"size": -0.5}, "size must be a number above 0"),
        ({"sizing": "volatility", "size": 0.1, "lookback": 2.5}, "lookback must be a whole number"),
        ({"rebalance": "weekly"}, "unknown rebalance 'weekly'"),
        ({"rebalance": 0.0}, "rebalance must be a number above 0 and below 1"),
        ({"rebalance": "month", "sizing": "units", "size": 1.0}, "rebalance='month' holds a weight"),
        ({"cash_rate": -1.0}, "cash_rate must be a number above -1"),
        ({"borrow_rate": -0.1}, "borrow_rate must be a number at least 0"),
    ],
)
def test_wrong_order_is_refused_by_name(orders, said):
    with pytest.raises(ParameterError, match=said):
        run_backtest(plain.random_bars(0), np.ones(120), **orders)


def test_stops_need_highs_and_lows():
    with pytest.raises(ParameterError, match="stops need a DataFrame"):
        run_backtest(plain.random_bars(0)["Close"], np.ones(120), fill="close", stop_loss=0.1)


@pytest.mark.parametrize("fill", ["next_open", "close", "next_close"])
def test_course_of_a_prefix_is_the_prefix_of_the_course_to_the_bit(fill):
    orders = {"stop_loss": 0.05, "trailing_stop": 0.08, "rebalance": "week", "sizing": "volatility", "size": 0.2}
    prices, target = plain.random_bars(8, 200), plain.random_targets(8, 200)
    whole = run_backtest(prices, target, fill=fill, fees=0.001, **orders)
    for n_bars in (70, 120, 199):
        part = run_backtest(prices.iloc[:n_bars], target[:n_bars], fill=fill, fees=0.001, **orders)
        assert part.equity.equals(whole.equity.iloc[:n_bars]) and part.positions.equals(whole.positions.iloc[:n_bars])


def test_result_can_be_run_again_with_other_settings_also_after_pickling():
    prices, target = plain.random_bars(9), plain.random_targets(9)
    result = pickle.loads(pickle.dumps(run_backtest(prices, target, fees=0.001, stop_loss=0.05)))
    assert result.again() == run_backtest(prices, target, fees=0.001, stop_loss=0.05)
    later = np.concatenate([[0.0], target[:-1]])
    assert result.again(delay=1, fees=0.0) == run_backtest(prices, later, stop_loss=0.05)
