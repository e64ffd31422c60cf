"""Several symbols, one account: numbers by hand."""

import numpy as np
import pandas as pd
import pytest

from backgrid.data import fetch_ohlcv
from backgrid.engine import run_backtest
from backgrid.errors import ParameterError, PricesError, TooFewBarsError
from backgrid.portfolio import run_portfolio


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
        ({"prices_by_symbol": {}}, ParameterError, "prices_by_symbol must be a dict"),
        ({"prices_by_symbol": {"A": pd.Series([], dtype=float, index=pd.DatetimeIndex([]))}}, TooFewBarsError, "A: "),
        ({"prices_by_symbol": {"A": None}}, PricesError, "A: prices must be"),
    ],
    ids=str,
)
def test_wrong_arguments_are_named(bars, change, error, says):
    prices = {"A": bars([1.0, 2.0, 3.0]), "B": bars([1.0, 1.0, 2.0])}
    arguments = {"prices_by_symbol": prices, "weights": "equal_weight", **change}
    with pytest.raises(error, match=says):
        run_portfolio(**arguments)


def test_symbols_without_a_bar_in_common_are_named(bars):
    early, late = bars([1.0, 2.0]), bars([1.0, 2.0], index=pd.bdate_range("2024-01-01", periods=2))
    with pytest.raises(TooFewBarsError, match="got 0 .A 2023-01-02..2023-01-03, B 2024-01-01..2024-01-02"):
        run_portfolio({"A": early, "B": late})


def test_daily_beside_intraday_is_refused():
    prices = {"AAPL": fetch_ohlcv("AAPL", source="sample"), "X": fetch_ohlcv("AAPL", interval="1m", source="sample")}
    with pytest.raises(PricesError, match="different time zones"):
        run_portfolio(prices)
