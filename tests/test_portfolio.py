"""Several symbols, one account: numbers by hand, a plain twin, and what must hold for any prices and weights."""

import copy
import pickle

import numpy as np
import pandas as pd
import plain
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from backgrid.data import fetch_ohlcv
from backgrid.engine import run_backtest
from backgrid.errors import ParameterError, PricesError, TooFewBarsError
from backgrid.portfolio import align_prices, run_portfolio
from backgrid.result import BacktestResult
from backgrid.terms import FILLS

few = settings(max_examples=40)


def units_of(result, prices):
    """Units held at each close, by symbol."""
    closes = pd.DataFrame({symbol: frame["Close"] for symbol, frame in prices.items()})
    return result.weights.mul(result.equity, axis=0) / closes.reindex(result.equity.index).ffill()


def account_of(result):
    """What is not in any symbol, at each close; that of the first bar after its costs."""
    account = result.equity * (1.0 - result.weights.sum(axis=1))
    account.iloc[0] += result.contributions.iloc[0].sum()
    return account


# ---- by hand ---------------------------------------------------------------------------------------------------------


def test_weights_are_bought_at_the_next_open_and_kept(bars):
    prices = {"A": bars([10.0, 10.0, 20.0, 20.0]), "B": bars([5.0, 5.0, 5.0, 10.0])}
    result = run_portfolio(prices, {"A": 0.5, "B": 0.3}, cash=1000.0)
    assert result.trades[["symbol", "entry_bar", "units", "entry_price"]].values.tolist() == [
        ["A", 1, 50.0, 10.0],
        ["B", 1, 60.0, 5.0],
    ]
    assert result.equity.tolist() == [1000.0, 1000.0, 1500.0, 1800.0]
    assert result.weights.iloc[2].tolist() == pytest.approx([1000.0 / 1500.0, 300.0 / 1500.0])
    assert result.contributions.sum().tolist() == [500.0, 300.0]


def test_a_fifth_each_is_a_fifth_each_after_costs(bars):
    """Purchases that cannot all be paid shrink alike: no symbol gets what the others left."""
    prices = {name: bars([10.0, 10.0, 10.0]) for name in "ABCDE"}
    result = run_portfolio(prices, "equal_weight", fees=0.01, fixed_fee=2.0, cash=1000.0)
    assert result.trades["units"].tolist() == pytest.approx([(1000.0 - 5 * 2.0) / 1.01 / 5 / 10.0] * 5)
    assert result.equity.iloc[-1] == pytest.approx(990.0 / 1.01)


def test_sales_pay_for_purchases_in_the_same_bar(bars):
    prices = {"A": bars([10.0] * 4), "B": bars([10.0] * 4)}
    weights = pd.DataFrame({"A": [1.0, 0.0], "B": [0.0, 1.0]}, index=prices["A"].index[[0, 1]])
    result = run_portfolio(prices, weights, fees=0.01, cash=1010.0)
    first, second = result.trades.to_dict("records")
    assert (first["symbol"], first["units"], first["exit_bar"]) == ("A", pytest.approx(100.0), 2)
    assert (second["symbol"], second["units"], second["entry_bar"]) == ("B", pytest.approx(990.0 / 1.01 / 10.0), 2)


def test_one_symbol_all_in_is_a_backtest(aapl):
    target = np.repeat([1.0, 0.0], 25)[np.arange(250) % 50]
    costs = {"fees": 0.001, "slippage": 0.002, "fixed_fee": 1.0, "cash_rate": 0.03}
    for fill in ("next_open", "close", "next_close"):
        alone = run_backtest(aapl, target, fill=fill, **costs)
        result = run_portfolio({"AAPL": aapl}, pd.DataFrame({"AAPL": target}, aapl.index), fill=fill, **costs)
        np.testing.assert_allclose(result.equity, alone.equity, rtol=1e-12)
        assert result.metrics == pytest.approx(alone.metrics, rel=1e-9, nan_ok=True)


def test_rebalance_by_month_sells_the_winner(bars):
    index = pd.DatetimeIndex(["2023-01-30", "2023-01-31", "2023-02-01", "2023-02-02"])
    prices = {"A": bars([10.0, 10.0, 30.0, 30.0], index=index), "B": bars([10.0] * 4, index=index)}
    result = run_portfolio(prices, {"A": 0.5, "B": 0.5}, rebalance="month", cash=1000.0)
    assert result.weights["A"].tolist() == pytest.approx([0.0, 0.5, 0.75, 0.5])


def test_band_trades_only_where_a_weight_has_drifted_by_more(bars):
    prices = {"A": bars([10.0, 10.0, 12.0, 18.0, 18.0]), "B": bars([10.0] * 5)}
    result = run_portfolio(prices, {"A": 0.5, "B": 0.5}, rebalance=0.1, cash=1000.0)
    assert result.weights["A"].tolist() == pytest.approx([0.0, 0.5, 600.0 / 1100.0, 900.0 / 1400.0, 0.5])


def test_calendars_are_aligned_and_what_was_done_is_noted(bars):
    index = pd.bdate_range("2023-01-02", periods=5)
    prices = {"A": bars([1.0, 2.0, 3.0, 4.0, 5.0], index=index), "B": bars([1.0, 1.0, 2.0], index=index[[0, 2, 4]])}
    inner = run_portfolio(prices, "equal_weight")
    assert list(inner.equity.index) == list(index[[0, 2, 4]])
    assert inner.data["notes"] == ["A: 2 of its 5 bars left out, which not every symbol has"]
    carried = run_portfolio(prices, "equal_weight", align="ffill")
    assert list(carried.equity.index) == list(index)
    assert carried.data["notes"] == ["B: price carried forward over 2 bars without one, first on 2023-01-03"]
    assert carried.trades["entry_bar"].tolist() == [2, 2]  # B has no price of its own on the bar before


def test_next_close_and_close_trade_at_the_close(bars):
    prices = {"A": bars([10.0, 20.0, 40.0]), "B": bars([10.0, 10.0, 10.0])}
    at_close = run_portfolio(prices, {"A": 0.5}, fill="close", cash=1000.0)
    assert at_close.equity.tolist() == [1000.0, 1500.0, 2500.0]
    at_next = run_portfolio(prices, {"A": 0.5}, fill="next_close", cash=1000.0)
    assert at_next.equity.tolist() == [1000.0, 1000.0, 1500.0]


def test_slippage_and_fees_are_paid_on_top_of_the_weight(bars):
    """Half of 1,000 at 10 are 50 units, paid at 10.10, and 1 % of 505 for it."""
    result = run_portfolio({"A": bars([10.0] * 3)}, {"A": 0.5}, fees=0.01, slippage=0.01, cash=1000.0)
    assert result.trades[["units", "entry_price", "fees"]].values.tolist() == [[50.0, 10.1, pytest.approx(5.05)]]
    assert result.equity.iloc[-1] == pytest.approx(1000.0 - 5.0 - 5.05)


def test_purchases_shrink_alike_beside_what_is_held(bars):
    """A doubles and is sold to its half; what that leaves in the account goes to B and C, as one to two."""
    prices = {"A": bars([10.0, 20.0, 20.0]), "B": bars([10.0] * 3), "C": bars([10.0] * 3)}
    weights = pd.DataFrame({"A": [0.5, 0.5], "B": [0.0, 1 / 6], "C": [0.0, 1 / 3]}, prices["A"].index[:2])
    result = run_portfolio(prices, weights, fill="close", fees=0.01, cash=1005.0)
    cash = 1005.0 - 502.5 * 1.01  # after 50.25 units of A, 1,005 of 1,502.475 at the second close
    worth = cash + 1005.0
    sold = 50.25 - 0.5 * worth / 20.0
    share = (cash + sold * 20.0 * 0.99) / (0.5 * worth * 1.01)
    assert share < 1.0
    units = units_of(result, prices).iloc[1].tolist()
    assert units == pytest.approx([50.25 - sold, share * worth / 60.0, share * worth / 30.0])
    assert account_of(result).iloc[1] == pytest.approx(0.0, abs=1e-9)


def test_shorts_pay_for_longs(bars):
    """Half short, half long: the account keeps its 1,000 and earns on both sides."""
    prices = {"A": bars([10.0, 11.0, 11.0]), "B": bars([10.0, 9.0, 9.0])}
    result = run_portfolio(prices, {"A": 0.5, "B": -0.5}, fill="close", cash=1000.0)
    assert units_of(result, prices).iloc[0].tolist() == [50.0, -50.0]
    assert result.equity.tolist() == [1000.0, 1100.0, 1100.0]
    assert account_of(result).tolist() == pytest.approx([1000.0] * 3)
    assert result.positions.tolist() == pytest.approx([1.0, 1000.0 / 1100.0, 1000.0 / 1100.0])


def test_leverage_is_borrowed_at_the_cash_rate(bars):
    """Twice 1,000 in two symbols owes 1,000, for which 1 % a bar is due."""
    prices = {"A": bars([10.0] * 4), "B": bars([10.0] * 4)}
    terms = {"leverage": 2.0, "cash": 1000.0, "cash_rate": 0.01, "periods_per_year": 1}
    result = run_portfolio(prices, {"A": 1.0, "B": 1.0}, fill="close", **terms)
    assert result.equity.tolist() == pytest.approx([1000.0, 990.0, 979.9, 969.699])
    assert result.metrics["financing"] == pytest.approx(-30.301)


def test_borrow_rate_is_due_on_what_is_short(bars):
    prices = {"A": bars([10.0] * 3), "B": bars([10.0] * 3)}
    terms = {"cash": 1000.0, "borrow_rate": 0.01, "periods_per_year": 1}
    result = run_portfolio(prices, {"A": 0.5, "B": -0.5}, fill="close", **terms)
    assert result.equity.tolist() == pytest.approx([1000.0, 995.0, 990.0])
    assert result.by_symbol["contribution"].tolist() == pytest.approx([0.0, -10.0])


def test_change_of_side_closes_first(bars):
    prices = {"A": bars([10.0] * 3), "B": bars([10.0] * 3)}
    weights = pd.DataFrame({"A": [0.5, -0.3], "B": [-0.2, 0.4]}, prices["A"].index[:2])
    result = run_portfolio(prices, weights, fill="close", cash=1000.0, fixed_fee=1.0)
    assert result.trades["units"].tolist() == pytest.approx([50.0, -20.0, -29.94, 39.92])
    assert result.trades["fees"].tolist() == [2.0, 2.0, 1.0, 1.0]
    assert result.equity.iloc[1:].tolist() == pytest.approx([994.0, 994.0])


def test_whole_units_are_rounded_towards_zero_and_leave_their_rest_in_cash(bars):
    prices = {"A": bars([300.0] * 3), "B": bars([70.0] * 3)}
    result = run_portfolio(prices, {"A": 0.5, "B": -0.5}, fill="close", whole_units=True, cash=1000.0)
    assert result.trades["units"].tolist() == [1.0, -7.0]
    assert account_of(result).iloc[-1] == pytest.approx(1000.0 - 300.0 + 490.0)


def test_whole_units_that_costs_cut_short_stay_whole(bars):
    """Ten of each are wanted, 9.9 paid for."""
    prices = {"A": bars([10.0] * 3), "B": bars([10.0] * 3)}
    result = run_portfolio(prices, fill="close", whole_units=True, fees=0.01, cash=200.0)
    assert result.trades["units"].tolist() == [9.0, 9.0]


@pytest.mark.parametrize(
    ("second", "fees"), [(0.4995, 5.0), (0.5055, 5.0), (0.4976, 5.0), (0.5074, 5.0), (0.4974, 10.0), (0.5076, 10.0)]
)
def test_what_is_not_worth_its_fixed_fee_is_left(bars, second, fees):
    """502.50 of 1,000 are held: 3 or 4.90 more or less for a fee of 5 are not traded, 5.10 are."""
    prices = {"A": bars([10.0] * 3), "B": bars([10.0] * 3)}
    weights = pd.DataFrame({"A": [0.5, second]}, prices["A"].index[:2])
    assert run_portfolio(prices, weights, fill="close", fixed_fee=5.0, cash=1005.0).metrics["fees_paid"] == fees


def test_position_that_is_not_worth_its_fixed_fee_is_closed_where_the_account_can_pay(bars):
    """3 are sold for a fee of 5: not with an empty account."""
    prices = {"A": bars([10.0] * 3), "B": bars([10.0, 0.03, 0.03])}
    weights = pd.DataFrame({"B": [1.0, 0.0]}, prices["A"].index[:2])
    poor = run_portfolio(prices, weights, fill="close", fixed_fee=5.0, cash=1005.0)
    assert units_of(poor, prices)["B"].tolist() == pytest.approx([100.0] * 3)
    rich = run_portfolio(prices, weights * 0.9, fill="close", fixed_fee=5.0, cash=1000.0)
    assert units_of(rich, prices)["B"].tolist() == pytest.approx([90.0, 0.0, 0.0])


def test_week_is_due_on_its_first_close_also_after_a_holiday_and_across_a_year(bars):
    """Bars on Thu 29, Fri 30 Dec, Tue 3 and Wed 4 Jan: the week begins on the Tuesday."""
    index = pd.DatetimeIndex(["2022-12-29", "2022-12-30", "2023-01-03", "2023-01-04", "2023-01-05"])
    prices = {"A": bars([10.0, 30.0, 30.0, 30.0, 30.0], index=index), "B": bars([10.0] * 5, index=index)}
    result = run_portfolio(prices, rebalance="week", fill="close")
    assert result.weights["A"].tolist() == pytest.approx([0.5, 0.75, 0.5, 0.5, 0.5])


def test_rhythm_keeps_the_weights_decided_when_it_was_due(bars):
    """Of weights that differ on every bar, only those of the first of the month trade."""
    index = pd.DatetimeIndex(["2023-01-30", "2023-01-31", "2023-02-01", "2023-02-02", "2023-02-03"])
    prices = {"A": bars([10.0] * 5, index=index)}
    weights = pd.DataFrame({"A": [0.1, 0.2, 0.3, 0.4, 0.5]}, index)
    assert run_portfolio(prices, weights, rebalance="month").weights["A"].tolist() == pytest.approx(
        [0.0, 0.1, 0.1, 0.3, 0.3]
    )
    assert run_portfolio(prices, weights, rebalance=None, fill="close").weights["A"].tolist() == pytest.approx(
        [0.1, 0.2, 0.3, 0.4, 0.5]
    )


def test_rhythm_begins_with_the_first_weights(bars):
    index = pd.bdate_range("2023-01-02", periods=4)
    weights = pd.DataFrame({"A": [np.nan, 0.5, 0.5, 0.5]}, index)
    for rebalance in (None, "bar", "week", "month", 0.3):
        result = run_portfolio({"A": bars([10.0] * 4)}, weights, rebalance=rebalance, fill="close")
        assert result.weights["A"].tolist() == pytest.approx([0.0, 0.5, 0.5, 0.5])


def test_band_opens_and_closes_whatever_the_drift(bars):
    """0.04 is within a band of 0.1, and bought and sold all the same."""
    prices = {"A": bars([10.0] * 5), "B": bars([10.0] * 5)}
    weights = pd.DataFrame({"A": [0.5, 0.5, 0.5, 0.45], "B": [0.0, 0.04, 0.0, 0.0]}, prices["A"].index[:4])
    result = run_portfolio(prices, weights, rebalance=0.1, fill="close", cash=1000.0)
    assert units_of(result, prices).values.tolist() == pytest.approx(
        np.array([[50.0, 0.0], [50.0, 4.0], [50.0, 0.0], [50.0, 0.0], [50.0, 0.0]])
    )


def test_benchmark_is_equal_parts_of_each_unless_one_is_given(bars):
    prices = {"A": bars([10.0, 20.0, 30.0]), "B": bars([80.0, 80.0, 40.0])}
    alone = run_portfolio(prices, {"A": 0.1}, cash=1000.0)
    assert alone.benchmark.tolist() == [1000.0, 1500.0, 1750.0]
    assert alone.settings["benchmark"] == "holding equal parts"
    given_one = run_portfolio(prices, {"A": 0.1}, cash=1000.0, benchmark=prices["A"]["Close"])
    assert given_one.benchmark.tolist() == [1000.0, 2000.0, 3000.0]


def test_by_symbol_says_what_each_was_cost_and_brought(bars):
    """50 units of A bought for 500 + 5 and sold for 750 - 7.50; 20 of B bought for 200 + 2 and held."""
    prices = {"A": bars([10.0, 10.0, 15.0, 15.0]), "B": bars([10.0, 10.0, 10.0, 5.0])}
    weights = pd.DataFrame({"A": [0.5, 0.5, 0.0], "B": [0.2] * 3}, prices["A"].index[:3])
    result = run_portfolio(prices, weights, fill="close", fees=0.01, cash=1000.0, periods_per_year=3)
    worth = 993.0 + 250.0  # at the third close, before A is sold and B, worth 200, brought to 248.60
    more = 0.2 * worth / 10.0 - 20.0
    table = result.by_symbol
    assert table.index.tolist() == ["A", "B"]
    assert table["fees"].tolist() == pytest.approx([12.5, 2.0 + more * 0.1])
    assert table["contribution"].tolist() == pytest.approx([250.0 - 12.5, -5.0 * (20.0 + more) - 2.0 - more * 0.1])
    assert table["contribution_share"].tolist() == pytest.approx((table["contribution"] / 1000.0).tolist())
    assert table["turnover"].tolist() == pytest.approx([0.5 + 750.0 / 993.0, 0.2 + more * 10.0 / 993.0])
    assert table["n_trades"].tolist() == [1, 1]
    assert table["mean_weight"].tolist() == pytest.approx(result.weights.mean().tolist())
    assert table["largest_weight"].tolist() == pytest.approx([500.0 / 993.0, 200.0 / 993.0])


def test_largest_weight_keeps_its_sign(bars):
    result = run_portfolio({"A": bars([10.0, 10.0, 15.0])}, {"A": -0.5}, fill="close", cash=1000.0)
    assert result.by_symbol["largest_weight"].tolist() == pytest.approx([-1.0])


def test_ruin_ends_the_run_with_what_is_held(bars):
    """Borrowed twice: a half of the prices is the whole account, and less is its ruin."""
    prices = {"A": bars([10.0, 10.0, 4.0, 8.0]), "B": bars([10.0, 10.0, 5.0, 8.0])}
    result = run_portfolio(prices, {"A": 1.0, "B": 1.0}, leverage=2.0, cash=1000.0)
    assert result.equity.tolist() == [1000.0, 1000.0, 0.0, 0.0]
    assert result.trades["exit_reason"].tolist() == ["ruin", "ruin"]
    assert result.trades["pnl"].tolist() == [-600.0, -500.0]
    assert result.weights.iloc[2:].to_numpy().tolist() == [[0.0, 0.0], [0.0, 0.0]]


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        ({"weights": {"A": 0.8, "B": 0.8}}, ParameterError, "add up to 1.6 of the equity, above the leverage 1"),
        ({"weights": {"A": 0.5, "C": 0.5}}, ParameterError, "no prices were given for 'C'"),
        ({"weights": {"A": np.nan}}, ParameterError, "weight of A"),
        ({"weights": {"A": "1"}}, ParameterError, "weight of A"),
        ({"weights": {}}, ParameterError, "weights must be a dict or a frame"),
        ({"weights": 0.5}, ParameterError, "weights must be a dict or a frame"),
        ({"weights": "equal_wieght"}, ParameterError, "did you mean 'equal_weight'"),
        ({"weights": "top_momentum", "params": {"top": 3}}, ParameterError, "top must be"),
        ({"weights": "top_momentum", "params": {"window": 50, "top": 1}}, TooFewBarsError, "gave no weight"),
        ({"params": {"lookback": 5}}, ParameterError, "equal_weight has no parameter 'lookback'"),
        ({"weights": {"A": 1.0}, "params": {"x": 1}}, ParameterError, "take no params"),
        ({"align": "outer"}, ParameterError, "unknown align 'outer'"),
        ({"rebalance": "year"}, ParameterError, "unknown rebalance 'year'"),
        ({"rebalance": 0.0}, ParameterError, "rebalance must be a number"),
        ({"leverage": 0.0}, ParameterError, "leverage must be a number above 0"),
        ({"fees": -0.1}, ParameterError, "fees must be a number"),
        ({"fill": "open"}, ParameterError, "unknown fill 'open'"),
        ({"cash": 0.0}, ParameterError, "cash must be a number above 0"),
        ({"fixed_fee": np.nan}, ParameterError, "fixed_fee must be a number"),
        ({"whole_units": 1}, ParameterError, "whole_units must be True or False"),
        ({"periods_per_year": "252"}, ParameterError, "periods_per_year must be a number"),
        ({"rebalance": 1.0}, ParameterError, "rebalance must be a number above 0 and below 1"),
        ({"rebalance": True}, ParameterError, "rebalance must be a number"),
        ({"benchmark": "SPY"}, ParameterError, "benchmark: prices must be a DataFrame"),
        ({"weights": ["A"]}, ParameterError, "weights must be a dict or a frame"),
        ({"weights": {"A": True}}, ParameterError, "weight of A must be a finite number, got True"),
        ({"weights": {"A": np.inf}}, ParameterError, "weight of A must be a finite number, got inf"),
        ({"weights": {("A", "B"): 0.5}}, ParameterError, "no prices were given for .'A', 'B'."),
        ({"weights": {"A": 0.8, "B": -0.8}}, ParameterError, "add up to 1.6 of the equity"),
        ({"weights": lambda: None}, ParameterError, "<lambda> must take the prices"),
        ({"weights": lambda closes, days: None}, ParameterError, "days needs a default value"),
        ({"weights": lambda closes: None}, ParameterError, "<lambda> must return a frame of weights"),
        (
            {"weights": lambda closes: {"A": 1.0}},
            ParameterError,
            "<lambda> must return a frame of weights",
        ),
        ({"weights": lambda closes: closes.to_numpy()}, ParameterError, "<lambda> must return a frame"),
        ({"weights": lambda closes: closes}, ParameterError, "<lambda> on 2023-01-02 add up to 2 of the equity"),
        ({"weights": lambda closes: closes * np.nan}, TooFewBarsError, "<lambda> gave no weight in 3 bars"),
        ({"weights": lambda closes: closes.rename(columns={"B": "b"})}, ParameterError, "no prices were given for 'b'"),
        ({"weights": "top_momentum", "params": {"windw": 1}}, ParameterError, "did you mean 'window'"),
        ({"weights": "inverse_volatility", "params": {"lookback": 2.5}}, ParameterError, "lookback must be a whole"),
        ({"params": [1]}, ParameterError, "params must be a dict"),
        ({"prices_by_symbol": {}}, ParameterError, "prices_by_symbol must be a dict"),
        ({"prices_by_symbol": {"A": pd.Series([], dtype=float, index=pd.DatetimeIndex([]))}}, TooFewBarsError, "A: "),
        ({"prices_by_symbol": {"A": None}}, PricesError, "A: prices must be"),
        ({"prices_by_symbol": {1: None}}, ParameterError, "needs symbols as text, got 1"),
        ({"prices_by_symbol": {"": None}}, ParameterError, "needs symbols as text, got ''"),
        ({"prices_by_symbol": [None]}, ParameterError, "prices_by_symbol must be a dict of prices by symbol"),
        ({"cash": 10**400}, ParameterError, "cash must be a number above 0"),
    ],
)
def test_wrong_arguments_are_named(bars, change, error, says):
    prices = {"A": bars([1.0, 2.0, 3.0]), "B": bars([1.0, 1.0, 2.0])}
    arguments = {"prices_by_symbol": prices, "weights": "equal_weight", **change}
    with pytest.raises(error, match=says):
        run_portfolio(**arguments)


FRAME = pd.DataFrame({"A": [0.5, 0.2], "B": [0.5, 0.8]}, pd.DatetimeIndex(["2023-01-02", "2023-01-04"]))


@pytest.mark.parametrize(
    ("weights", "says"),
    [
        (FRAME.reset_index(drop=True), "weights need a DatetimeIndex, got RangeIndex"),
        (FRAME.set_axis(["2023-01-02", "2023-01-04"]), "weights need a DatetimeIndex, got Index of"),
        (FRAME.set_axis(FRAME.index.to_period("D")), "weights need a DatetimeIndex, got PeriodIndex"),
        (FRAME.iloc[::-1], "weights: dates are not sorted: 2023-01-02 comes after 2023-01-04"),
        (FRAME.set_axis(FRAME.index[[0, 0]]), "weights: the date 2023-01-02 stands twice"),
        (FRAME.set_axis([FRAME.index[0], pd.NaT]), "weights: the date of row 1 is missing"),
        (FRAME.tz_localize("UTC"), "weights: they lie in the time zone UTC, prices in none"),
        (FRAME.set_axis(pd.DatetimeIndex(["2023-01-02", "3000-01-01"]).as_unit("s")), "dates must lie in 1678..2261"),
        (FRAME > 0.3, "the weights of A are not numbers"),
        (FRAME.astype(str), "the weights of A are not numbers"),
        (FRAME.astype(complex), "the weights of A are not numbers"),
        (FRAME.astype({"B": object}), "the weights of B are not numbers"),
        (FRAME.astype({"B": "category"}), "the weights of B are not numbers"),
        (FRAME.replace(0.8, np.inf), "the weight of B on 2023-01-04 is infinite"),
        (FRAME.replace(0.8, -np.inf), "the weight of B on 2023-01-04 is infinite"),
        (FRAME.replace(0.8, 0.9), "weights on 2023-01-04 add up to 1.1 of the equity, above the leverage 1"),
        (FRAME[["A", "B", "A"]], "'A' stands twice"),
        (FRAME.rename(columns={"B": "NVDA"}), "no prices were given for 'NVDA'; known: A, B"),
        (FRAME.rename(columns={"B": np.nan}), "no prices were given for nan"),
        (pd.concat({"weight": FRAME}, axis=1), "no prices were given for .'weight', 'A'."),
        (FRAME[[]], "weights must be a dict or a frame of weights by symbol"),
        (FRAME.iloc[:0], "weights gave no weight in 3 bars"),
        (FRAME * np.nan, "weights gave no weight in 3 bars"),
        (FRAME.set_axis(FRAME.index + pd.Timedelta(days=30)), "first row, of 2023-02-01, comes after the last bar"),
        (pd.Series([0.5, 0.3], index=["A", "A"]), "weight of A must be a finite number"),
        (pd.Series([0.5, 0.5]), "no prices were given for 0"),
        (FRAME["A"], "no prices were given for Timestamp"),
    ],
    ids=range(27),
)
def test_wrong_frames_of_weights_are_named(bars, weights, says):
    prices = {"A": bars([1.0, 2.0, 3.0]), "B": bars([1.0, 1.0, 2.0])}
    with pytest.raises((ParameterError, TooFewBarsError), match=says):
        run_portfolio(prices, weights)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda frame: frame.assign(Close=np.nan), "B: Close is nan on 2023-01-02"),
        (lambda frame: frame.assign(Open=-1.0), "B: Open is -1.0 on 2023-01-02"),
        (lambda frame: frame.iloc[::-1], "B: dates are not sorted"),
        (lambda frame: frame.drop(columns="High"), "B: prices lack High"),
        (lambda frame: frame.iloc[:1], "B: a backtest needs two bars at least, got 1"),
        (lambda frame: frame.tz_localize("UTC"), "different time zones: A in none, B in UTC; tz_localize"),
        (lambda frame: frame.set_axis(range(3)), "B: prices need a DatetimeIndex"),
        (lambda frame: frame["Close"].astype(str), "B: column Close holds"),
        (lambda frame: {"Close": [1.0]}, "B: prices must be a DataFrame of bars or a Series of closes, got dict"),
    ],
    ids=range(9),
)
def test_wrong_prices_are_named_with_their_symbol(bars, change, says):
    with pytest.raises(PricesError, match=says):
        run_portfolio({"A": bars([1.0, 2.0, 3.0]), "B": change(bars([1.0, 1.0, 2.0]))})


def test_symbols_without_a_bar_in_common_are_named(bars):
    early, late = bars([1.0, 2.0]), bars([1.0, 2.0], index=pd.bdate_range("2024-01-01", periods=2))
    with pytest.raises(TooFewBarsError, match="got 0 .A 2023-01-02..2023-01-03, B 2024-01-01..2024-01-02"):
        run_portfolio({"A": early, "B": late})


def test_daily_beside_intraday_is_refused():
    prices = {"AAPL": fetch_ohlcv("AAPL", source="sample"), "X": fetch_ohlcv("AAPL", interval="1m", source="sample")}
    with pytest.raises(PricesError, match="different time zones"):
        run_portfolio(prices)


# ---- bars of each symbol ---------------------------------------------------------------------------------------------


def test_carried_bar_shows_the_last_close_and_no_volume(bars):
    index = pd.bdate_range("2023-01-02", periods=4)
    prices = {"A": bars([1.0, 2.0, 3.0, 4.0], index=index)}
    prices["B"] = bars([5.0, 7.0, 8.0], open=[4.0, 6.0, 9.0], index=index[[0, 1, 3]]).assign(Volume=100.0)
    seen = {}

    def look(prices):
        seen.update(prices)
        return pd.DataFrame({"A": 0.5, "B": 0.5}, index=prices["A"].index)

    result = run_portfolio(prices, look, align="ffill")
    assert seen["B"].iloc[2].tolist() == [7.0, 7.0, 7.0, 7.0, 0.0]
    assert seen["B"].iloc[[0, 1, 3]].equals(prices["B"].rename_axis("Date").set_axis(seen["B"].index[[0, 1, 3]]))
    assert seen["A"].to_numpy().tolist() == prices["A"].to_numpy().tolist()
    assert result.data["notes"] == ["B: price carried forward over 1 bars without one, first on 2023-01-04"]


def test_rebalance_waits_for_a_bar_on_which_all_have_prices_and_keeps_its_weights(bars):
    """Due on 1 Feb, to be filled at the next open: B has none on the 2nd and 3rd, so it is done on the 6th."""
    index = pd.bdate_range("2023-01-31", periods=6)
    prices = {"A": bars([10.0] * 6, index=index), "B": bars([10.0] * 4, index=index[[0, 1, 4, 5]])}
    weights = pd.DataFrame({"A": [0.1, 0.2, 0.3, 0.4, 0.5, 0.6], "B": 0.0}, index)
    result = run_portfolio(prices, weights, align="ffill", rebalance="month")
    assert result.weights["A"].tolist() == pytest.approx([0.0, 0.1, 0.1, 0.1, 0.2, 0.2])
    daily = run_portfolio(prices, weights, align="ffill", rebalance="bar", fill="close")
    assert daily.weights["A"].tolist() == pytest.approx([0.1, 0.2, 0.2, 0.2, 0.5, 0.6])


@pytest.mark.parametrize("align", ["inner", "ffill"])
def test_symbols_of_different_ranges_run_while_all_have_prices(bars, align):
    """One begins late, one is delisted early: the account lives between, and the result says what was left out."""
    index = pd.bdate_range("2023-01-02", periods=8)
    prices = {
        "ALL": bars([10.0] * 8, index=index),
        "LATE": bars([10.0] * 6, index=index[2:]),
        "EARLY": bars([10.0, 10.0, 10.0, 20.0, 40.0], index=index[:5]),
    }
    result = run_portfolio(prices, {"EARLY": 0.5}, align=align, cash=1000.0)
    assert list(result.equity.index) == list(index[2:5])
    assert result.equity.tolist() == [1000.0, 1500.0, 2500.0]
    said = "which not every symbol has" if align == "inner" else "where not every symbol has prices"
    assert result.data["notes"] == [
        f"ALL: 5 of its 8 bars left out, {said}",
        f"LATE: 3 of its 6 bars left out, {said}",
        f"EARLY: 2 of its 5 bars left out, {said}",
    ]


def test_same_bars_need_no_alignment_and_no_note(bars):
    prices = {"A": bars([1.0, 2.0, 3.0]), "B": bars([1.0, 2.0, 3.0])}
    for align in ("inner", "ffill"):
        assert run_portfolio(prices, align=align).data["notes"] == []


@pytest.mark.parametrize("align", ["inner", "ffill"])
def test_alignment_uses_only_bars_that_were_there(align):
    """Every price of a panel is one of the symbol's own, at its date or before."""
    rng = np.random.default_rng(5)
    prices = {s: plain.random_bars(k, 80) for k, s in enumerate("ABC")}
    prices = {s: frame[rng.random(80) > 0.3] for s, frame in prices.items()}
    panel = align_prices(prices, align)
    for symbol, frame in prices.items():
        latest = frame.index.searchsorted(panel.index, side="right") - 1
        assert panel.frames[symbol]["Close"].tolist() == frame["Close"].iloc[latest].tolist()
        own = panel.index.isin(frame.index)
        assert panel.frames[symbol][own].to_numpy().tolist() == frame.loc[panel.index[own]].to_numpy().tolist()
        assert not (panel.tradable & ~own).any()
    assert panel.tradable.tolist() == [all(date in f.index for f in prices.values()) for date in panel.index]


def test_closes_alone_are_enough_for_the_close_fills_beside_frames_too(bars):
    frames = {"A": bars([10.0, 20.0, 40.0]), "B": bars([10.0, 5.0, 10.0])}
    mixed = {"A": frames["A"]["Close"], "B": frames["B"]}
    for fill in ("close", "next_close"):
        ours, theirs = run_portfolio(mixed, fill=fill), run_portfolio(frames, fill=fill)
        assert ours.equity.tolist() == theirs.equity.tolist()
        assert ours.trades.equals(theirs.trades)
        assert ours.again(fill="close").equity.tolist() == theirs.again(fill="close").equity.tolist()


def test_intraday_bars_keep_their_time_zone():
    bars = fetch_ohlcv("AAPL", interval="1m", source="sample")
    result = run_portfolio({"A": bars, "B": bars}, rebalance="week")
    assert str(result.equity.index.tz) == "America/New_York"
    assert BacktestResult.from_json(result.to_json()).weights.index.equals(result.weights.index)


def test_neither_prices_nor_weights_are_changed(bars):
    prices = {"A": bars([1.0, 2.0, 3.0, 4.0]), "B": bars([1.0, 1.0, 2.0], index=bars([1.0] * 4).index[1:])}
    weights = pd.DataFrame({"B": [0.5, np.nan], "A": [0.2, 0.3]}, prices["A"].index[[0, 2]])
    before = copy.deepcopy((prices, weights))
    for align in ("inner", "ffill"):
        run_portfolio(prices, weights, align=align, rebalance="bar")
    for symbol in prices:
        pd.testing.assert_frame_equal(prices[symbol], before[0][symbol], check_exact=True)
    pd.testing.assert_frame_equal(weights, before[1], check_exact=True)


# ---- weights of each kind --------------------------------------------------------------------------------------------

PAIR = {"A": [10.0] * 10, "B": [10.0] * 10}  # from Monday 2 January to Friday the 13th


@pytest.mark.parametrize(
    ("dates", "first", "second"),
    [
        (["2023-01-03", "2023-01-05"], 1, 3),
        (["2023-01-07", "2023-01-11"], 5, 7),  # a Saturday counts from Monday's close
        (["2023-01-07", "2023-01-08"], None, 5),  # Sunday's are the latest on Monday
        (["2022-06-01", "2023-01-04"], 0, 2),  # before the first bar: valid from the first
        (["2022-06-01", "2022-07-01"], None, 0),
        (["2023-01-13", "2023-01-14"], 9, None),  # after the last: too late
        (["2023-01-03 15:30", "2023-01-05 09:00"], 2, 4),  # during a day: from the next close
    ],
    ids=str,
)
def test_sparse_weights_count_from_the_close_of_their_date_or_of_the_next_bar(bars, dates, first, second):
    prices = {symbol: bars(close) for symbol, close in PAIR.items()}
    weights = pd.DataFrame({"A": [0.2, 0.0], "B": [0.0, 0.4]}, pd.DatetimeIndex(dates))
    result = run_portfolio(prices, weights, fill="close")
    expected = np.zeros((10, 2))
    if first is not None:
        expected[first:, 0] = 0.2
    if second is not None:
        expected[second:] = [0.0, 0.4]
    np.testing.assert_allclose(result.weights, expected, atol=1e-12)


def test_weights_may_come_in_any_form_that_says_the_same(bars):
    prices = {symbol: bars(close) for symbol, close in PAIR.items()}
    index = prices["A"].index
    frame = pd.DataFrame({"A": [0.25], "B": [0.5]}, index[:1])
    forms = [
        {"A": 0.25, "B": 0.5},
        {"B": np.float64(0.5), "A": np.float32(0.25)},
        pd.Series({"B": 0.5, "A": 0.25}),
        frame,
        frame[["B", "A"]],
        frame.astype("Float64"),
        frame.astype(np.float32),
        frame.set_axis(index[:1].as_unit("s")),
        frame.reindex(index, method="ffill"),
        lambda prices: pd.DataFrame({"A": 0.25, "B": 0.5}, index=prices["A"].index),
    ]
    runs = [run_portfolio(prices, form, fill="close") for form in forms]
    assert {run.equity.to_numpy().tobytes() + run.weights.to_numpy().tobytes() for run in runs} == {
        runs[0].equity.to_numpy().tobytes() + runs[0].weights.to_numpy().tobytes()
    }


def test_symbol_that_has_no_weight_has_none(bars):
    prices = {symbol: bars(close) for symbol, close in PAIR.items()}
    weights = pd.DataFrame({"A": [0.5, 0.2], "B": [0.5, np.nan]}, prices["A"].index[[0, 4]])
    result = run_portfolio(prices, weights, fill="close")
    assert result.weights.iloc[[3, 4]].to_numpy().tolist() == [[0.5, 0.5], [0.2, 0.0]]
    assert run_portfolio(prices, {"B": 0.5}).weights["A"].tolist() == [0.0] * 10


def test_function_of_closes_gets_them_by_symbol_and_cannot_change_the_run(bars):
    prices = {"A": bars([1.0, 2.0, 3.0]), "B": bars([3.0, 2.0, 1.0])}

    def spoil(closes, *, part=0.5):
        assert closes.columns.tolist() == ["A", "B"]
        assert closes.to_numpy().tolist() == [[1.0, 3.0], [2.0, 2.0], [3.0, 1.0]]
        weights = closes * 0.0 + part / 2.0
        closes.iloc[:] = 7.0
        return weights

    result = run_portfolio(prices, spoil, params={"part": 0.8})
    assert (result.strategy, result.params) == ("spoil", {"part": 0.8})
    assert result.equity.tolist() == run_portfolio(prices, {"A": 0.4, "B": 0.4}).equity.tolist()


def test_function_of_prices_gets_whole_frames_and_cannot_change_the_run(bars):
    prices = {"A": bars([1.0, 2.0, 3.0]), "B": bars([3.0, 2.0, 1.0])}

    def spoil(prices, *, days=1):
        assert prices["A"].columns.tolist() == ["Open", "High", "Low", "Close"]
        opens = pd.DataFrame({symbol: frame["Open"] for symbol, frame in prices.items()})
        for frame in prices.values():
            frame.iloc[:] = 7.0
        return opens * 0.0 + 0.4

    result = run_portfolio(prices, spoil)
    assert result.params == {"days": 1}
    assert result.equity.tolist() == run_portfolio(prices, {"A": 0.4, "B": 0.4}).equity.tolist()
    assert prices["A"]["Close"].tolist() == [1.0, 2.0, 3.0]


# ---- any prices and weights ------------------------------------------------------------------------------------------


@st.composite
def panels(draw, most=4):
    """Random walks of 2 to `most` symbols, calm to wild, over 12 to 40 bars."""
    seed, n_symbols, n_bars = draw(st.integers(0, 9999)), draw(st.integers(2, most)), draw(st.integers(12, 40))
    volatility = draw(st.sampled_from([0.01, 0.05, 0.2]))
    return {"ABCDEF"[k]: plain.random_bars(seed + 10_000 * k, n_bars, volatility) for k in range(n_symbols)}


def costs(**more):
    """Terms of a run; a fixed fee makes the order of the symbols matter, see below."""
    known = {
        "fill": st.sampled_from(list(FILLS)),
        "rebalance": st.sampled_from([None, "bar", "week", "month", 0.0987]),  # no drift is just that
        "fees": st.sampled_from([0.0, 0.002, 0.05]),
        "slippage": st.sampled_from([0.0, 0.003]),
        "cash": st.just(1000.0),
        "periods_per_year": st.just(252),
    }
    return st.fixed_dictionaries({**known, **more})


FIXED_FEE = st.sampled_from([0.0, 1.0, 30.0])
WHOLE = st.booleans()
RATE = st.sampled_from([0.0, 0.5, -0.5])


def by_rank(closes, *, share=1.0):
    """The more a symbol has risen over three bars, the more it weighs; weights add up to `share`."""
    rank = (closes / closes.shift(3)).rank(axis=1)
    return rank.div(rank.sum(axis=1), axis=0) * share


def by_move(closes, *, share=1.0):
    """Long what has risen over two bars, short what has fallen; absolute weights add up to `share`, NaN for none."""
    move = closes.pct_change(2)
    return move.div(move.abs().sum(axis=1), axis=0) * share


@few
@given(panels(), costs(fixed_fee=FIXED_FEE, whole_units=WHOLE, cash_rate=RATE), st.sampled_from([1.0, 0.6]))
def test_account_never_falls_below_zero_without_leverage(prices, terms, share):
    result = run_portfolio(prices, by_rank, params={"share": share}, **terms)
    assert (account_of(result) >= -1e-9 * result.equity).all()
    assert (result.weights.to_numpy() >= 0.0).all()


@few
@given(panels(), costs(fixed_fee=FIXED_FEE, whole_units=WHOLE, cash_rate=RATE), st.integers(8, 39), st.booleans())
def test_what_comes_later_changes_nothing_before(prices, terms, n_bars, drop):
    """Prices that end earlier, or go on elsewhere: the same bytes until then, and the same closed trades."""
    n_bars = min(n_bars, len(prices["A"]) - 1)
    keep, scale = slice(0, n_bars), np.linspace(1.5, 9.0, len(prices["A"]) - n_bars)[:, None]
    other = {
        s: frame.iloc[keep] if drop else pd.concat([frame.iloc[keep], frame.iloc[n_bars:] * scale])
        for s, frame in prices.items()
    }
    for weights in (by_rank, by_move, {"A": 0.4, "B": -0.3}):
        assert_same_until(n_bars, run_portfolio(prices, weights, **terms), run_portfolio(other, weights, **terms))


def assert_same_until(n_bars, whole, part):
    for name in ("equity", "positions", "weights", "contributions", "benchmark"):
        first, second = getattr(whole, name), getattr(part, name)
        assert first.index[:n_bars].equals(second.index[:n_bars])
        assert first.to_numpy()[:n_bars].tobytes() == second.to_numpy()[:n_bars].tobytes()
    closed = [run.booked[(run.trades["exit_reason"] != "open") & (run.booked[:, 1] < n_bars)] for run in (whole, part)]
    assert closed[0].tobytes() == closed[1].tobytes()


@few
@given(panels(), costs(), st.integers(10, 39), st.integers(0, 9999))
def test_what_comes_later_changes_nothing_before_where_prices_are_carried_either(prices, terms, n_bars, seed):
    n_bars, rng = min(n_bars, len(prices["A"]) - 1), np.random.default_rng(seed)
    holes = {s: frame[(rng.random(len(frame)) > 0.2) | (np.arange(len(frame)) < 6)] for s, frame in prices.items()}
    end = prices["A"].index[n_bars]
    cut = {s: frame[frame.index < end] for s, frame in holes.items()}
    whole, part = (run_portfolio(p, by_rank, align="ffill", **terms) for p in (holes, cut))
    assert_same_until(min(len(part.equity), len(whole.equity)), whole, part)


@few
@given(
    panels(),
    costs(fixed_fee=FIXED_FEE, whole_units=WHOLE, cash_rate=RATE, borrow_rate=st.sampled_from([0.0, 0.3])),
    st.sampled_from([by_rank, by_move]),
)
def test_contributions_and_interest_are_the_change_of_the_equity(prices, terms, weights):
    """The costs of a fill at the first close, where the equity is the cash, come with the second bar."""
    result = run_portfolio(prices, weights, **terms)
    assume(result.equity.iloc[-1] > 0.0)
    rate = 1.0 + terms["cash_rate"]
    interest = account_of(result).to_numpy()[:-1] * (rate ** (1 / 252) - 1.0)
    before = result.equity.to_numpy()[:-1] + np.r_[result.contributions.iloc[0].sum(), np.zeros(len(interest) - 1)]
    gained = result.equity.to_numpy()[1:] - before
    by_bar = result.contributions.to_numpy()[1:].sum(axis=1)
    np.testing.assert_allclose(gained, by_bar + interest, rtol=1e-9, atol=1e-8)
    assert result.by_symbol["contribution"].tolist() == pytest.approx(result.contributions.sum().tolist())


@few
@given(panels(), costs(fixed_fee=FIXED_FEE, whole_units=WHOLE), st.sampled_from([by_rank, by_move]))
def test_numbers_by_symbol_add_up_to_those_of_the_account(prices, terms, weights):
    result = run_portfolio(prices, weights, **terms)
    table, trades = result.by_symbol, result.trades
    assert table["fees"].sum() == pytest.approx(result.metrics["fees_paid"]) == pytest.approx(trades["fees"].sum())
    assert table["turnover"].sum() == pytest.approx(result.metrics["turnover"])
    assert table["n_trades"].sum() == result.metrics["n_trades"] == len(trades)
    assert table["contribution"].tolist() == pytest.approx(
        trades.groupby("symbol")["pnl"].sum().reindex(table.index, fill_value=0.0).tolist(), abs=1e-7
    )
    assert result.positions.tolist() == result.weights.abs().sum(axis=1).tolist()


@few
@given(panels(), costs(fixed_fee=FIXED_FEE, cash_rate=RATE), st.lists(st.integers(-20, 20), min_size=4, max_size=4))
def test_scale_of_prices_changes_nothing_but_units(prices, terms, powers):
    """By powers of two, so that no digit is lost: the same bytes."""
    scaled = {s: frame * 2.0**power for (s, frame), power in zip(prices.items(), powers, strict=False)}
    for weights in (by_rank, by_move):
        ours, theirs = run_portfolio(prices, weights, **terms), run_portfolio(scaled, weights, **terms)
        assert ours.equity.to_numpy().tobytes() == theirs.equity.to_numpy().tobytes()
        assert ours.weights.to_numpy().tobytes() == theirs.weights.to_numpy().tobytes()
        assert ours.trades["pnl"].tolist() == theirs.trades["pnl"].tolist()


@few
@given(panels(), costs(cash_rate=RATE), st.sampled_from([by_rank, by_move]))
def test_order_of_the_symbols_changes_nothing(prices, terms, weights):
    ours = run_portfolio(prices, weights, **terms)
    theirs = run_portfolio(dict(reversed(prices.items())), weights, **terms)
    np.testing.assert_allclose(ours.equity, theirs.equity, rtol=1e-12)
    np.testing.assert_allclose(ours.weights, theirs.weights[list(prices)], rtol=1e-10, atol=1e-12)
    assert sorted(ours.by_symbol["n_trades"].items()) == sorted(theirs.by_symbol["n_trades"].items())


@few
@given(
    st.integers(0, 9999),
    st.sampled_from([0.01, 0.05]),
    costs(fixed_fee=st.sampled_from([0.0, 1.0]), whole_units=WHOLE, cash_rate=RATE, rebalance=st.just(None)),
)
def test_one_symbol_all_in_or_out_is_a_backtest_on_any_terms(seed, volatility, terms):
    prices, target = plain.random_bars(seed, 60, volatility), plain.random_targets(seed, 60, (0.0, 1.0))
    alone = run_backtest(prices, target, **terms)
    result = run_portfolio({"A": prices}, pd.DataFrame({"A": target}, prices.index), **terms)
    np.testing.assert_allclose(result.equity, alone.equity, rtol=1e-12)
    np.testing.assert_allclose(result.positions, alone.positions, rtol=1e-12)
    numbers = ["entry_bar", "exit_bar", "units", "entry_price", "exit_price", "fees", "pnl"]
    np.testing.assert_allclose(result.trades[numbers], alone.trades[numbers], rtol=1e-11, atol=1e-8)
    for name in {*alone.metrics} - {"expected_shortfall"}:  # of which worst returns depends on their last digit
        assert result.metrics[name] == pytest.approx(alone.metrics[name], rel=1e-8, abs=1e-9, nan_ok=True)


@few
@given(
    st.integers(0, 9999),
    costs(cash_rate=RATE, rebalance=st.sampled_from([None, "bar", "week"])),
    st.sampled_from([1.0, 0.7, -0.5]),
)
def test_two_symbols_of_the_same_prices_are_one(seed, terms, weight):
    bars = plain.random_bars(seed, 40, 0.05)
    one = run_portfolio({"A": bars}, {"A": weight}, **terms)
    two = run_portfolio({"A": bars, "B": bars.copy()}, {"A": weight / 2.0, "B": weight / 2.0}, **terms)
    np.testing.assert_allclose(one.equity, two.equity, rtol=1e-12)
    np.testing.assert_allclose(one.weights["A"], two.weights.sum(axis=1), rtol=1e-10)
    assert one.metrics["fees_paid"] == pytest.approx(two.metrics["fees_paid"])


@few
@given(panels(), costs(rebalance=st.sampled_from([None, "bar", 0.0987])), st.integers(1, 3))
def test_delay_is_the_same_weights_so_many_bars_later(prices, terms, delay):
    closes = pd.DataFrame({symbol: frame["Close"] for symbol, frame in prices.items()})
    weights = by_move(closes)
    later = run_portfolio(prices, weights.shift(delay), **terms)
    assert run_portfolio(prices, weights, **terms).again(delay=delay).equity.tolist() == later.equity.tolist()


@few
@given(panels(), costs(fixed_fee=FIXED_FEE, whole_units=WHOLE), st.sampled_from([by_rank, by_move]))
def test_result_comes_back_from_json_and_from_a_pickle(prices, terms, weights):
    result = run_portfolio(prices, weights, **terms)
    read = BacktestResult.from_json(result.to_json())
    assert read == result
    assert read.to_json() == result.to_json()
    for name in ("weights", "contributions", "by_symbol", "trades"):
        pd.testing.assert_frame_equal(getattr(read, name), getattr(result, name), check_exact=True, check_freq=False)
    for twin in (pickle.loads(pickle.dumps(result)), copy.deepcopy(result)):
        assert twin == result
        assert twin.again() == result


@few
@given(panels(6), costs(fixed_fee=FIXED_FEE, whole_units=WHOLE, cash_rate=RATE), st.sampled_from([by_rank, by_move]))
def test_run_is_that_of_the_plain_twin(prices, terms, weights):
    """From the arguments, with annual rates and a calendar, to the trades."""
    result = run_portfolio(prices, weights, **terms)
    closes = pd.DataFrame({symbol: frame["Close"] for symbol, frame in prices.items()})
    asked = {name: value for name, value in terms.items() if name != "periods_per_year"}
    asked["cash_rate"] = (1.0 + terms["cash_rate"]) ** (1 / 252) - 1.0
    rows = weights(closes).fillna(0.0).to_dict("records")
    equity, held, ledger, financing = plain.simulate_portfolio(prices, rows, **asked)
    np.testing.assert_allclose(result.equity, equity, rtol=1e-9, atol=1e-8)
    np.testing.assert_allclose(units_of(result, prices), pd.DataFrame(held), rtol=1e-9, atol=1e-9)
    assert result.metrics["fees_paid"] == pytest.approx(sum(fill.fee for _, fill in ledger))
    assert result.metrics["financing"] == pytest.approx(financing, abs=1e-8)
    for symbol, frame in prices.items():
        fills = [fill for traded, fill in ledger if traded == symbol]
        expected = plain.pair_trades(fills, len(frame) - 1, frame["Close"].iloc[-1])
        mine = result.trades[result.trades["symbol"] == symbol]
        assert mine["pnl"].tolist() == pytest.approx([trade.pnl for trade in expected], abs=1e-7)
        assert mine["exit_bar"].tolist() == [trade.exit_bar for trade in expected]


# ---- what comes out --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["weights", "contributions", "by_symbol", "equity", "positions", "benchmark"])
@pytest.mark.parametrize("way", [lambda r: r, lambda r: BacktestResult.from_json(r.to_json()), copy.deepcopy])
def test_numbers_of_a_result_cannot_be_changed(bars, name, way):
    result = way(run_portfolio({"A": bars([1.0, 2.0, 3.0]), "B": bars([1.0, 1.0, 2.0])}))
    values = getattr(result, name)
    before = values.copy()
    with pytest.raises(ValueError, match="read-only"):
        values.iloc[0] = 9.0
    assert getattr(result, name).equals(before)
    with pytest.raises(ValueError, match="read-only"):
        result.booked[0] = 9.0
    trades = result.trades
    trades["units"] = 9.0  # a copy
    assert 9.0 not in result.trades["units"].tolist()


def test_result_says_what_was_asked_of_which_prices(bars):
    prices = {"A": bars([1.0, 2.0, 3.0]), "B": bars([1.0, 1.0, 2.0])}
    prices["A"].attrs = {"symbol": "A", "source": "sample", "notes": ["a note"], "other": 1}
    result = run_portfolio(prices, {"A": 0.5, "B": 0.25}, rebalance="week", fees=0.001)
    assert result.title == "weights(A=0.5, B=0.25) on A, B"
    assert result.data == {"symbols": {"A": {"source": "sample", "notes": ["a note"]}, "B": {}}, "notes": []}
    assert result.settings["rebalance"] == "week" and result.settings["align"] == "inner"
    result.data["symbols"]["A"]["notes"].append("another")
    assert prices["A"].attrs["notes"] == ["a note"]
    many = run_portfolio({f"S{k}": prices["A"] for k in range(7)})
    assert many.title == "equal_weight() on 7 symbols"


def test_hash_is_that_of_the_bars_that_were_traded(bars):
    index = pd.bdate_range("2023-01-02", periods=4)
    prices = {"A": bars([1.0, 2.0, 3.0, 4.0]), "B": bars([1.0, 2.0, 3.0], index=index[:3])}
    whole = run_portfolio(prices)
    assert whole.prices_hash == run_portfolio({"A": prices["A"].iloc[:3], "B": prices["B"]}).prices_hash
    assert whole.prices_hash != run_portfolio({"B": prices["A"], "A": prices["B"]}).prices_hash
    assert whole.prices_hash != run_portfolio({"A": prices["A"] * 1.5, "B": prices["B"]}).prices_hash


def test_portfolio_is_stressed_compared_drawn_and_shown(bars):
    rng = np.random.default_rng(3)
    prices = {s: bars(100.0 * np.exp(np.cumsum(rng.normal(0.001, 0.02, 60)))) for s in ("A", "<b>B</b>")}
    result = run_portfolio(prices, rebalance="bar", fees=0.001)
    table = result.stress()
    assert table.loc["one bar later", "total_return"] == result.again(delay=1).metrics["total_return"]
    assert table.loc["without costs", "total_return"] == run_portfolio(prices, rebalance="bar").metrics["total_return"]
    assert result.compare(result.again()).identical
    assert result.compare(result.again(rebalance=None)).parameters.index.tolist() == ["rebalance"]
    assert "<b>" not in result._repr_html_() and "&lt;b&gt;B" in result._repr_html_()
    assert result.plot() is not None


@pytest.mark.parametrize("fill", FILLS)
def test_ruin_by_a_rebalance_is_called_ruin(bars, fill):
    """Short at 10, covered at 25: nothing is left to hold, and `run_backtest` calls it ruin."""
    prices = bars([10.0, 10.0, 25.0, 25.0, 25.0], open=[10.0, 10.0, 25.0, 25.0, 25.0])
    terms = {"fill": fill, "rebalance": "bar", "cash": 1000.0}
    assert run_backtest(prices, -np.ones(5), **terms).trades["exit_reason"].tolist() == ["ruin"]
    result = run_portfolio({"A": prices}, {"A": -1.0}, **terms)
    assert result.equity.iloc[-1] == 0.0
    assert result.trades["exit_reason"].tolist() == ["ruin"]


@pytest.mark.parametrize(("before", "after"), [(0.4, 0.3), (0.8, 0.7)])
def test_drift_of_just_the_band_is_not_more_than_the_band(bars, before, after):
    prices = {"A": bars([10.0] * 4)}
    weights = pd.DataFrame({"A": [before, after]}, prices["A"].index[:2])
    result = run_portfolio(prices, weights, fill="close", rebalance=0.1, cash=1000.0)
    assert result.weights["A"].tolist() == pytest.approx([before] * 4)


@pytest.mark.parametrize("align", ["inner", "ffill"])
def test_daily_beside_hourly_bars_of_no_time_zone_are_refused(bars, align):
    """Else the close of a day is carried from its first hour on: 20 at midnight, of a price that closes at 20."""
    days, hours = (pd.date_range("2023-01-02", periods=n, freq=freq) for n, freq in ((4, "D"), (72, "h")))
    prices = {"A": bars([10.0, 10.0, 20.0, 20.0], index=days), "H": bars([1.0] * 72, index=hours)}
    with pytest.raises(PricesError):
        run_portfolio(prices, align=align)


def test_portfolio_that_can_never_trade_says_so(bars):
    index = pd.bdate_range("2023-01-02", periods=5)
    prices = {"A": bars([1.0, 2.0, 3.0], index=index[[0, 2, 4]]), "B": bars([1.0, 2.0], index=index[[1, 3]])}
    result = run_portfolio(prices, align="ffill")
    assert result.metrics["n_trades"] == 0
    assert result.data["notes"][-1] == "no bar has a price of its own for every symbol: nothing ever trades"


def test_band_rests_where_a_whole_unit_is_too_dear(bars):
    """A twentieth of 10,000 buys no unit of B; A drifts by less than the band: one fee."""
    prices = {"A": bars([10.0, 10.0, 10.2, 10.4, 10.6, 10.8]), "B": bars([10_000.0] * 6)}
    terms = {"rebalance": 0.1, "cash": 10_000.0, "fixed_fee": 1.0, "whole_units": True}
    assert run_portfolio(prices, {"A": 0.5, "B": 0.05}, **terms).metrics["fees_paid"] == 1.0


# ---- at the edges ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("weight", [0.5, 0.0005])
def test_band_rests_where_a_symbol_cannot_be_had(bars, weight):
    """A unit of B is too dear, or what is wanted of it not worth its fee; A drifts by less than the band."""
    prices = {"A": bars([10.0, 10.0, 10.2, 10.4, 10.6, 10.8]), "B": bars([10_000.0] * 6)}
    terms = {"rebalance": 0.1, "cash": 10_000.0, "fixed_fee": 10.0, "whole_units": weight > 0.01}
    assert run_portfolio(prices, {"A": 0.5, "B": weight}, **terms).metrics["fees_paid"] == 10.0


def test_order_of_the_symbols_does_not_decide_which_position_is_closed(bars):
    """B brings the money that closing A, worth 3, takes for its fee of 5, also where A comes first."""
    prices = {"A": bars([10.0, 0.06, 0.06]), "B": bars([10.0] * 3)}
    weights = pd.DataFrame({"A": [0.5, 0.0], "B": [0.5, 0.2]}, prices["A"].index[:2])
    terms = {"fill": "close", "fixed_fee": 5.0, "cash": 1010.0}
    runs = [run_portfolio(dict(order), weights, **terms) for order in (prices.items(), reversed(prices.items()))]
    assert runs[0].equity.tolist() == runs[1].equity.tolist()


@pytest.mark.parametrize("align", ["inner", "ffill"])
@pytest.mark.parametrize(("long", "short"), [("7D", "D"), ("h", "min"), ("30D", "D")])
def test_bars_of_other_lengths_are_refused(bars, align, long, short):
    """The week that begins on Monday the 16th closes at 20 on Friday: not to be known on Monday."""
    dates = [pd.date_range("2023-01-02", periods=n, freq=freq) for n, freq in ((4, long), (70, short))]
    prices = {"A": bars([10.0, 10.0, 20.0, 20.0], index=dates[0]), "B": bars([1.0] * 70, index=dates[1])}
    with pytest.raises(PricesError):
        run_portfolio(prices, align=align)
