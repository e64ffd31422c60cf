"""The same signals on other terms: every case is the run that its name says, and the break-even cost breaks even."""

import dataclasses
import math
import types

import numpy as np
import pandas as pd
import plain
import pytest

from backgrid.data import fetch_ohlcv
from backgrid.engine import run_backtest
from backgrid.errors import ParameterError
from backgrid.result import BacktestResult
from backgrid.stress import stress

COLUMNS = [
    *["fill", "delay", "fees", "slippage", "fixed_fee"],
    *["total_return", "cagr", "sharpe", "max_drawdown", "n_trades"],
]
EVEN = "break-even cost"
CASES = [
    *["as run", "one bar later", "filled at the next close", "filled at the close", "filled at the next open"],
    *["twice the costs", "without costs", EVEN],
]


def without(*cases):
    return [case for case in CASES if case not in cases]


@pytest.fixture(scope="module")
def rise(bars):
    """Closes 100, 110, 132, 132 with opens of their own: what is bought when can be told from the return."""
    return bars(close=[100.0, 110.0, 132.0, 132.0], open=[100.0, 104.0, 117.0, 130.0])


def one_trade(bars, entry, exit, side=1.0, **terms):
    """A position taken at the close of the second bar and left at that of the third."""
    prices = bars(close=[entry, entry, exit, exit])
    return run_backtest(prices, [0.0, side, 0.0, 0.0], fill="close", **terms)


# ---- the table -------------------------------------------------------------------------------------------------------


def test_rows_are_the_cases_and_columns_the_terms_and_what_came_of_them(rise):
    table = run_backtest(rise, [1.0, 0.0, 0.0, 0.0], fees=0.001).stress()
    assert table.index.tolist() == without("filled at the next open") and table.index.name == "case"
    assert table.columns.tolist() == COLUMNS
    assert (table["delay"].dtype, table["n_trades"].dtype) == ("int64", "Int64")
    assert (table.drop(columns=["fill", "delay", "n_trades"]).dtypes == "float64").all()


@pytest.mark.parametrize("fill", ["next_open", "close", "next_close"])
def test_the_two_fills_that_were_not_used_are_tried(rise, fill):
    table = run_backtest(rise, [1.0, 0.0, 0.0, 0.0], fill=fill).stress()
    used = {"next_open": "the next open", "close": "the close", "next_close": "the next close"}
    assert table.index.tolist() == without(f"filled at {used.pop(fill)}")
    assert {other: table.loc[f"filled at {words}", "fill"] for other, words in used.items()} == {o: o for o in used}
    assert (table.loc[["as run", "one bar later", "twice the costs", "without costs", EVEN], "fill"] == fill).all()


def test_each_case_trades_at_its_own_prices(rise):
    """100 to 110 at the close, 110 to 132 at the next, 104 to 117 at the next open, 117 to 130 a bar later."""
    table = run_backtest(rise, [1.0, 0.0, 0.0, 0.0]).stress()
    returns = {
        "as run": 117 / 104 - 1,
        "one bar later": 130 / 117 - 1,
        "filled at the close": 0.1,
        "filled at the next close": 0.2,
        "twice the costs": 117 / 104 - 1,
        "without costs": 117 / 104 - 1,
    }
    assert table["total_return"][list(returns)].to_dict() == pytest.approx(returns)
    assert table["delay"].to_dict() == {case: int(case == "one bar later") for case in table.index}


def test_delay_is_counted_from_the_run_that_is_stressed(rise):
    """A run that is a bar late already is two bars late then: its purchase is at 132, its sale after the end."""
    late = run_backtest(rise, [1.0, 0.0, 0.0, 0.0], fill="close").again(delay=1)
    table = late.stress()
    assert table.loc["as run", "total_return"] == pytest.approx(0.2)
    assert table.loc["one bar later", "total_return"] == pytest.approx(0.0)


def test_costs_are_doubled_and_dropped(bars):
    """1 % a side leaves 0.99 / 1.01 of the gain of 10 %, 2 % leave 0.98 / 1.02."""
    table = one_trade(bars, 100.0, 110.0, fees=0.01).stress()
    left = {"as run": 0.99 / 1.01, "twice the costs": 0.98 / 1.02, "without costs": 1.0}
    assert (table["total_return"][list(left)] + 1).to_dict() == pytest.approx({c: 1.1 * s for c, s in left.items()})
    assert table.loc["twice the costs", "fees"] == 0.02


def test_every_cost_is_doubled_and_dropped():
    result = run_backtest(
        plain.random_bars(1), plain.random_targets(1), fees=0.001, slippage=0.0005, fixed_fee=3.0, borrow_rate=0.1
    )
    table = result.stress()
    for case, factor in (("twice the costs", 2.0), ("without costs", 0.0)):
        terms = {"fees": 0.001, "slippage": 0.0005, "fixed_fee": 3.0, "borrow_rate": 0.1}
        same = result.again(**{name: factor * cost for name, cost in terms.items()})
        assert table.loc[case, ["fees", "slippage", "fixed_fee"]].tolist() == [
            factor * terms[name] for name in ("fees", "slippage", "fixed_fee")
        ]
        for name in COLUMNS[5:]:
            assert table.loc[case, name] == same.metrics[name]


@pytest.mark.parametrize("name", ["fees", "slippage"])
def test_doubled_share_of_the_value_stays_below_all_of_it(bars, name):
    table = one_trade(bars, 100.0, 110.0, **{name: 0.6}).stress()
    assert 0.999 < table.loc["twice the costs", name] < 1.0
    assert table.loc["twice the costs", "total_return"] == pytest.approx(-1.0)


def test_interest_on_the_account_stays_as_it_was_run(bars):
    """100 % a year and one bar a year: the account has doubled three times, whatever the costs."""
    flat = run_backtest(bars(close=[100.0] * 4), np.zeros(4), cash_rate=1.0, periods_per_year=1.0, fees=0.01)
    table = flat.stress()
    assert table["total_return"][:-1].tolist() == pytest.approx([7.0] * 6)


# ---- the break-even cost ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("gain", [0.0001, 0.01, 0.1, 1.0, 50.0])
def test_break_even_of_a_closed_trade_is_that_of_the_formula(bars, gain):
    """(1 + gain) (1 - f) / (1 + f) = 1."""
    table = one_trade(bars, 100.0, 100.0 * (1.0 + gain)).stress()
    assert table.loc[EVEN, "fees"] == pytest.approx(gain / (2.0 + gain), rel=2e-6, abs=2e-9)
    assert table.loc[EVEN, "total_return"] == pytest.approx(0.0, abs=1e-4)
    assert -1e-4 < table.loc[EVEN, "total_return"] <= 1e-12
    assert table.loc[EVEN, "n_trades"] == 1


def test_break_even_of_a_short_is_that_of_the_formula(bars):
    """100 - 90 = f (100 + 90)."""
    assert one_trade(bars, 100.0, 90.0, side=-1.0).stress().loc[EVEN, "fees"] == pytest.approx(10 / 190, rel=2e-6)


def test_break_even_of_an_open_trade_pays_one_side(bars):
    """110 / 100 / (1 + f) = 1."""
    table = run_backtest(bars(close=[100.0, 110.0]), [1.0, 1.0], fill="close").stress()
    assert table.loc[EVEN, "fees"] == pytest.approx(0.1, rel=2e-6)


def test_break_even_of_whole_units_is_that_of_the_formula(bars):
    """Each unit earns 10 and pays f (100 + 110), however many there are."""
    table = one_trade(bars, 100.0, 110.0, whole_units=True, cash=1_000.0).stress()
    assert table.loc[EVEN, "fees"] == pytest.approx(10 / 210, rel=2e-6)


@pytest.mark.parametrize(
    "terms", [{}, {"fees": 0.02}, {"slippage": 0.03}, {"fixed_fee": 500.0}, {"fees": 0.5}], ids=repr
)
def test_break_even_is_the_same_whatever_was_charged(bars, terms):
    row = one_trade(bars, 100.0, 110.0, **terms).stress().loc[EVEN]
    assert row["fees"] == pytest.approx(0.1 / 2.1, rel=2e-6)
    assert (row["slippage"], row["fixed_fee"]) == (0.0, 0.0)


def test_break_even_pays_for_units_sold_short_as_the_run_did(bars):
    """One bar a year at 4 % of what is short: 100,000 of 100,000 at most, less with fees: 10 - 4 = f (100 + 90)."""
    row = one_trade(bars, 100.0, 90.0, side=-1.0, borrow_rate=0.04, periods_per_year=1.0).stress().loc[EVEN]
    assert row["fees"] == pytest.approx(6 / 190, rel=2e-6)
    assert math.isnan(
        one_trade(bars, 100.0, 90.0, side=-1.0, borrow_rate=0.11, periods_per_year=1.0).stress().loc[EVEN, "fees"]
    )


TERMS = [
    {},
    {"whole_units": True},
    {"stop_loss": 0.03, "trailing_stop": 0.05},
    {"leverage": 3.0, "rebalance": "week", "cash_rate": 0.02, "borrow_rate": 0.03},
    {"sizing": "cash", "size": 50_000.0, "fill": "next_close"},
    {"sizing": "risk", "size": 0.02, "stop_loss": 0.04, "take_profit": 0.1},
    {"sizing": "volatility", "size": 0.15, "lookback": 20, "fill": "close"},
]


@pytest.mark.parametrize("terms", TERMS, ids=repr)
def test_run_at_the_break_even_cost_earns_nothing_and_just_below_it_earns(terms):
    found = 0
    for seed in range(12):
        result = run_backtest(plain.random_bars(seed), plain.random_targets(seed), **terms)
        row = result.stress().loc[EVEN]
        free = result.again(fees=0.0, slippage=0.0, fixed_fee=0.0).metrics["total_return"]
        assert math.isnan(row["fees"]) == (free <= 0.0)
        if free > 0.0:
            found += 1
            at = result.again(fees=row["fees"], slippage=0.0, fixed_fee=0.0)
            assert row["total_return"] == at.metrics["total_return"] <= 1e-12
            below = result.again(fees=row["fees"] * (1.0 - 1e-6) - 1e-9, slippage=0.0, fixed_fee=0.0)
            assert below.metrics["total_return"] > 0.0
            if "whole_units" not in terms:  # a unit less is a step, not a slope
                assert at.metrics["total_return"] == pytest.approx(0.0, abs=1e-5)
    assert found > 1


@pytest.mark.parametrize(
    ("close", "target"),
    [
        ([100.0, 100.0, 90.0, 90.0], [0.0, 1.0, 0.0, 0.0]),
        ([100.0, 100.0, 100.0, 100.0], [0.0, 1.0, 0.0, 0.0]),
        ([0.3, 0.3, 0.3, 0.3], [0.0, 1.0 / 3.0, 0.0, 0.0]),
        ([100.0, 110.0, 120.0, 130.0], [0.0, 0.0, 0.0, 0.0]),
        ([100.0, 100.0, 300.0, 300.0], [-1.0, -1.0, -1.0, -1.0]),
        ([100.0, 210.0, 210.0, 210.0], [1.0, 1.0, 1.0, 1.0]),
    ],
    ids=["loses", "gains nothing", "gains a rounding", "never trades", "ruined", "open at more than twice the price"],
)
def test_without_a_break_even_cost_it_is_missing_with_what_would_come_of_it(bars, close, target):
    row = run_backtest(bars(close=close), target, fill="close", fees=0.001).stress().loc[EVEN]
    assert row[["fees", *COLUMNS[5:]]].isna().all()
    assert (row["fill"], row["delay"], row["slippage"], row["fixed_fee"]) == ("close", 0, 0.0, 0.0)


def test_a_few_dozen_runs_are_enough(bars):
    """Counted, since the page of every report asks for them."""
    for gain in (1e-8, 1e-4, 0.1, 50.0):
        result, asked = one_trade(bars, 100.0, 100.0 * (1.0 + gain)), []

        def counted(again=result.again, asked=asked, **terms):
            asked.append(terms)
            return again(**terms)

        dataclasses.replace(result, again=counted).stress()
        assert len(asked) < 45


# ---- any result ------------------------------------------------------------------------------------------------------


def test_stops_of_each_bar_are_kept():
    prices, target = plain.random_bars(4), plain.random_targets(4)
    stops = np.where(np.arange(len(prices)) % 2, 0.02, np.nan)
    result = run_backtest(prices, target, stop_loss=stops, fees=0.001)
    table = result.stress()
    assert result.settings["stop_loss"] == "by bar"
    for case, terms in (
        ("twice the costs", {"fees": 0.002}),
        ("filled at the close", {"fees": 0.001, "fill": "close"}),
    ):
        fresh = run_backtest(prices, target, stop_loss=stops, **terms)
        assert table.loc[case, COLUMNS[5:]].tolist() == pytest.approx([fresh.metrics[name] for name in COLUMNS[5:]])


def test_closes_alone_are_not_filled_at_the_open(bars):
    close = bars(close=[100.0, 100.0, 110.0, 110.0])["Close"]
    table = run_backtest(close, [0.0, 1.0, 0.0, 0.0], fill="close").stress()
    assert table.index.tolist() == without("filled at the close", "filled at the next open")
    assert table.loc[EVEN, "fees"] == pytest.approx(0.1 / 2.1, rel=2e-6)


def test_only_settings_metrics_and_again_are_needed():
    """What else has them, and no open and no rate for shorts, is stressed all the same: here 10 % less 200 fees."""

    def again(*, delay=0, fill="close", fees=0.0, slippage=0.0, fixed_fee=0.0):
        if fill == "next_open":
            raise ParameterError("no opens")
        settings = {"fill": fill, "fees": fees, "slippage": slippage, "fixed_fee": fixed_fee}
        metrics = {"total_return": 0.1 - 200.0 * fees, "cagr": 0.1, "sharpe": 1.0, "max_drawdown": 0.0, "n_trades": 100}
        return types.SimpleNamespace(settings=settings, metrics=metrics, again=again)

    table = stress(again(fees=0.0001))
    assert table.index.tolist() == without("filled at the close", "filled at the next open")
    assert table.loc[EVEN, "fees"] == pytest.approx(0.0005, rel=5e-6)


def test_only_a_missing_open_is_passed_over(rise):
    result = run_backtest(rise, [1.0, 0.0, 0.0, 0.0])

    def again(**terms):
        if terms.get("fill") == "close":
            raise ParameterError("no close today")
        return result.again(**terms)

    with pytest.raises(ParameterError, match="no close today"):
        dataclasses.replace(result, again=again).stress()


def test_an_error_of_the_run_itself_is_not_taken_for_a_missing_open(rise):
    def broken(**terms):
        raise ParameterError("the prices are gone")

    with pytest.raises(ParameterError, match="the prices are gone"):
        dataclasses.replace(run_backtest(rise, [1.0, 0.0, 0.0, 0.0]), again=broken).stress()


def test_result_read_from_json_says_that_it_cannot_be_run_again(rise):
    read = BacktestResult.from_json(run_backtest(rise, [1.0, 0.0, 0.0, 0.0]).to_json())
    with pytest.raises(ParameterError, match="a result read from JSON has no signals to run on other terms"):
        read.stress()


def test_two_bars_are_stressed_too(bars):
    table = run_backtest(bars(close=[100.0, 101.0]), [1.0, 1.0]).stress()
    assert table["total_return"][:-1].tolist() == pytest.approx([0.01, 0.0, 0.0, 0.01, 0.01, 0.01])


def test_stressing_changes_nothing_and_is_the_same_twice(aapl):
    result = run_backtest(aapl, params={"fast_window": 5, "slow_window": 20}, fees=0.001)
    before = result.to_json()
    pd.testing.assert_frame_equal(result.stress(), result.stress(), check_exact=True)
    assert result.to_json() == before


def test_intraday_bars_in_a_time_zone_are_stressed():
    prices = fetch_ohlcv("AAPL", interval="1m", source="sample")
    table = run_backtest(prices, fees=0.0001).stress()
    assert table.index.tolist() == without("filled at the next open")
    assert table.loc["twice the costs", "total_return"] < table.loc["as run", "total_return"]
