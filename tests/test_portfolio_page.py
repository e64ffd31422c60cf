"""The page of a portfolio says what its result says, adds up, and no symbol becomes markup."""

import dataclasses
import functools
import re

import numpy as np
import pandas as pd
import plain
import pytest
from test_page import HOSTILE, chips, course, minutes, parsed, percent, rows, sample, words

from backgrid import page, portfolio_page
from backgrid.data import fetch_many
from backgrid.engine import run_backtest
from backgrid.metrics import Drawdown, deepest_drawdowns, format_metric
from backgrid.portfolio import run_portfolio
from backgrid.result import BacktestResult

SIX = "AAPL AMZN GOOG META NFLX NVDA"


def six():
    return fetch_many(SIX, source="sample")


def two(first, second):
    return {"A": course(first), "B": course(second)}


def random_symbols(number, n_bars=120):
    return {f"S{seed}": plain.random_bars(seed, n_bars) for seed in range(number)}


def carried():
    prices = random_symbols(3, 60)
    return {**prices, "S1": prices["S1"].drop(prices["S1"].index[[5, 6, 40]])}


def minutes_of(number, n_bars):
    return {
        f"M{k}": minutes(n_bars).iloc[:: 1 if k == 0 else -1].set_axis(minutes(n_bars).index) for k in range(number)
    }


PORTFOLIOS = {
    "six": lambda: (six(), "equal_weight", {"rebalance": "month", "fees": 0.001}),
    "momentum": lambda: (six(), "top_momentum", {"rebalance": "month", "fees": 0.001, "cash_rate": 0.02}),
    "two_bars": lambda: (two([10.0, 11.0], [5.0, 5.0]), "equal_weight", {}),
    "one_symbol": lambda: (random_symbols(1), "equal_weight", {"rebalance": 0.1}),
    "never_traded": lambda: (two([10.0, 11.0, 12.0], [5.0, 5.0, 4.0]), {"A": 0.0}, {}),
    "losing": lambda: (two([10.0, 10.0, 8.0], [5.0, 5.0, 4.0]), "equal_weight", {"cash": 123.0}),
    "long_short": lambda: (
        random_symbols(3, 300),
        {"S0": 0.8, "S1": -0.5, "S2": 0.1},
        {"rebalance": "week", "leverage": 2.0, "borrow_rate": 0.03, "cash_rate": 0.01, "fees": 0.001},
    ),
    "levered": lambda: (random_symbols(2), {"S0": 0.9, "S1": 0.9}, {"leverage": 2.0, "cash_rate": 0.02}),
    "ruined": lambda: (
        two([10.0, 10.0, 15.0, 25.0, 30.0], [5.0, 5.0, 5.0, 6.0, 6.0]),
        {"A": -1.0, "B": 0.2},
        {"fill": "close", "leverage": 1.5},
    ),
    "carried": lambda: (carried(), "inverse_volatility", {"align": "ffill", "params": {"lookback": 5}}),
    "left_out": lambda: (carried(), "inverse_volatility", {"rebalance": "bar", "params": {"lookback": 5}}),
    "many": lambda: (random_symbols(15), "top_momentum", {"params": {"window": 10, "top": 7}, "fixed_fee": 1.0}),
    "minutes": lambda: (minutes_of(2, 1_500), "equal_weight", {"rebalance": 0.01, "slippage": 0.0001}),
    "long_series": lambda: (minutes_of(3, 40_000), "inverse_volatility", {"rebalance": "week", "fees": 0.0001}),
}
every_portfolio = pytest.mark.parametrize("name", PORTFOLIOS)

PIECES = {
    "summary": lambda prices, result: page.summary(result),
    "drawdowns": lambda prices, result: page.drawdowns(result),
    "symbols": lambda prices, result: portfolio_page.symbols(result),
    "monthly_returns": lambda prices, result: page.monthly_returns(result),
    "trades": lambda prices, result: page.trades(result),
    "stress": lambda prices, result: page.stress(result),
    "metrics": lambda prices, result: page.metrics(result),
    "parameters": lambda prices, result: page.parameters(result),
    "data": portfolio_page.data,
    "provenance": lambda prices, result: page.provenance(result),
}
every_piece = pytest.mark.parametrize("piece", PIECES)


@functools.cache
def portfolio(name):
    """Prices and result of one of PORTFOLIOS."""
    prices, weights, options = PORTFOLIOS[name]()
    return prices, run_portfolio(prices, weights, **options)


def number(cell):
    """The number in a cell of a table, percent as it stands."""
    return float(re.sub(r"[^0-9.-]", "", cell))


# ---- any portfolio ---------------------------------------------------------------------------------------------------


@every_piece
@every_portfolio
def test_piece_is_well_formed_and_shows_no_odd_number(name, piece):
    shown = words(PIECES[piece](*portfolio(name)))
    assert shown
    assert not re.search(r"\b(nan|NaN|inf|Infinity|None|NaT|null)\b", shown)
    assert not re.search(r"-0(\.0+)?( %|$)", shown)


@every_piece
def test_piece_is_the_same_of_a_result_read_from_json(piece):
    prices, result = portfolio("momentum")
    again = dataclasses.replace(BacktestResult.from_json(result.to_json()), again=result.again)
    assert PIECES[piece](prices, again) == PIECES[piece](prices, result)


@every_piece
def test_no_symbol_becomes_markup(piece):
    prices = {HOSTILE: course([10.0, 10.0, 8.0]), "B": course([10.0, 10.0, 9.0, 9.0])}
    for frame in prices.values():
        frame.attrs = {"source": HOSTILE, "interval": HOSTILE, "snapshot": HOSTILE, "notes": [HOSTILE]}

    def weighting(closes):
        return pd.DataFrame(0.5, closes.index, closes.columns)

    weighting.__name__ = HOSTILE
    result = dataclasses.replace(run_portfolio(prices, weighting), params={HOSTILE: HOSTILE})
    shown = PIECES[piece](prices, result)
    assert not {"script", "img"} & {element.tag for element in parsed(shown).iter()}
    if piece not in ("monthly_returns", "stress", "metrics"):
        assert "<script>window.PWN = 1</script>" in words(shown)


# ---- the summary -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rebalance", "said"),
    [
        (None, "traded where the weights change"),
        ("bar", "rebalanced at every bar"),
        ("week", "rebalanced every week"),
        ("month", "rebalanced every month"),
        (0.05, "rebalanced where a weight drifts by more than 5 points"),
    ],
)
def test_sentence_says_what_is_held_and_when_it_is_rebalanced(rebalance, said):
    prices = two(np.linspace(10.0, 20.0, 30), np.linspace(10.0, 15.0, 30))
    result = run_portfolio(prices, "equal_weight", rebalance=rebalance, fees=0.001)
    shown = words(page.summary(result))
    assert shown.startswith("Equal weights on A, B 2023-01-02 to 2023-02-10, 30 bars The same weight of A, B, " + said)
    assert f"{said}, filled at the next open, 0.1 % a side: " in shown
    assert " against 75.0 % for holding equal parts, " in shown


def test_summary_compares_with_holding_equal_parts():
    """Equal parts of what doubles and of what stays gain a half."""
    result = run_portfolio(two([10.0, 10.0, 20.0], [5.0, 5.0, 5.0]), {"B": 1.0})
    assert chips(result)["does not beat holding equal parts by return: 0.0 % against 50.0 %"] == "bad"
    assert "holding equal parts 50.0 %" not in words(page.summary(portfolio("six")[1]))


@pytest.mark.parametrize(
    ("close", "said"),
    [
        ([10.0, 10.0, 20.0], "B alone brought 100.0 % of the profit"),
        ([10.0, 10.0, 8.0], None),
    ],
)
def test_profit_from_one_symbol_is_pointed_out(close, said):
    result = run_portfolio(two([5.0, 5.0, 5.0], close), "equal_weight")
    found = [chip for chip in chips(result) if "alone brought" in chip]
    assert found == ([said] if said else [])


def test_two_equal_halves_of_a_profit_are_nothing_to_point_out():
    result = run_portfolio(two([10.0, 10.0, 20.0], [10.0, 10.0, 20.0]), "equal_weight")
    assert not [chip for chip in chips(result) if "alone brought" in chip]


def test_alignment_is_pointed_out():
    assert "ranges or calendars differ: bars were left out, see the data" in chips(portfolio("six")[1])
    assert "calendars differ: prices were carried forward, see the data" in chips(portfolio("carried")[1])
    assert not [chip for chip in chips(portfolio("many")[1]) if " differ: " in chip]


def test_ranges_alone_are_no_calendars():
    prices = random_symbols(2, 60)
    result = run_portfolio({**prices, "S1": prices["S1"].iloc[20:]}, align="ffill")
    assert "ranges differ: bars were left out, see the data" in chips(result)


@pytest.mark.parametrize(
    ("weights", "said"),
    [
        ({"A": 0.6, "B": 0.4}, "A 60 %, B 40 %, traded where the weights change, filled"),
        ({"A": 0.125, "B": -0.25}, "A 12.5 %, B -25 %, traded where the weights change, filled"),
        (pd.Series({"A": 1.0}), "A 100 %, traded where the weights change, filled"),
    ],
    ids=str,
)
def test_given_weights_are_named(weights, said):
    shown = words(page.summary(run_portfolio(two([10.0, 11.0, 12.0], [5.0, 5.0, 5.0]), weights)))
    assert said in shown


def test_many_given_weights_are_not_named():
    result = run_portfolio(random_symbols(7, 30), {f"S{number}": 0.1 for number in range(7)})
    assert " 7 symbols at given weights, " in words(page.summary(result))


def test_portfolio_speaks_of_weights_and_names_its_leverage_and_rates():
    result = portfolio("long_short")[1]
    orders = "rebalanced every week, leverage 2, interest of 1 % a year, 3 % a year for units sold short, filled at"
    assert orders in words(page.summary(result))
    assert words(page.stress(result)).startswith("The same weights on other terms")
    assert "signals" not in words(page.stress(result) + page.parameters(result))


def test_data_chip_counts_adjusted_symbols_and_notes():
    assert "data: 6 of 6 symbols adjusted for dividends, 6 notes" in chips(portfolio("six")[1])
    prices = {"AAPL": sample("AAPL"), "AMZN": sample("AMZN", adjusted=False)}
    assert "data: 1 of 2 symbols adjusted for dividends, 1 note" in chips(run_portfolio(prices))
    assert "data: 0 of 2 symbols adjusted for dividends, 0 notes" in chips(portfolio("two_bars")[1])


def test_ruin_is_dated_also_where_the_last_trade_to_open_was_closed_before(bars):
    prices = {"A": bars([10.0, 10.0, 10.0, 30.0]), "B": bars([10.0] * 4)}
    weights = pd.DataFrame({"A": [-1.0, -1.0, -1.0], "B": [0.0, 0.5, 0.0]}, index=prices["A"].index[:3])
    result = run_portfolio(prices, weights, fill="close", leverage=2.0)
    assert result.trades["exit_reason"].tolist() == ["ruin", "signal"]
    assert chips(result)["ruined on 2023-01-05"] == "bad"


# ---- the tables ------------------------------------------------------------------------------------------------------


def test_symbols_show_weight_profit_and_costs():
    """1,000 in two symbols at 10: 50 units of A gain 5 each, 50 of B lose 1 each."""
    result = run_portfolio(two([10.0, 10.0, 15.0], [10.0, 10.0, 9.0]), {"A": 0.5, "B": 0.5}, cash=1000.0)
    _, a, b, account = rows(portfolio_page.symbols(result))
    assert a == ["A", percent((0.5 + 750 / 1200) / 3), percent(750 / 1200), "250.00", "25.0 %", "63.00 ×", "0.00", "1"]
    assert b[3:5] == ["-50.00", "-5.0 %"]
    assert account == ["Account", percent(2 / 3), "", "200.00", "20.0 %", "126.00 ×", "0.00", "2"]


@every_portfolio
def test_profits_of_the_symbols_add_up_to_that_of_the_account(name):
    _, *body, account = rows(portfolio_page.symbols(portfolio(name)[1]))
    assert sum(number(row[3]) for row in body) == pytest.approx(number(account[3]), abs=0.01 * len(body))


@pytest.mark.parametrize(("name", "row"), [("levered", "Interest"), ("ruined", "Not covered"), ("six", None)])
def test_what_no_symbol_brought_has_its_own_row(name, row):
    result = portfolio(name)[1]
    shown = {cells[0] for cells in rows(portfolio_page.symbols(result))[1:]}
    assert shown == {*result.by_symbol.index, "Account", *([row] if row else [])}


def test_interest_is_that_of_the_metrics():
    result = portfolio("levered")[1]
    (interest,) = (cells for cells in rows(portfolio_page.symbols(result)) if cells[0] == "Interest")
    assert number(interest[3]) == pytest.approx(result.metrics["financing"], abs=0.01)


def test_trades_of_a_portfolio_name_their_symbol():
    result = portfolio("two_bars")[1]
    head, *body = rows(page.trades(result))
    assert head[0] == "Symbol" and [row[0] for row in body] == ["A", "B"]
    assert "Symbol" not in rows(page.trades(run_backtest(course([10.0, 11.0]), "buy_and_hold")))[0]


def test_trades_that_are_all_open_are_one_table():
    result = run_portfolio(random_symbols(12, 30), "equal_weight")
    (table,) = parsed(page.trades(result)).iter("table")
    assert table.find("caption").text.startswith("All 12 trades; units are all that was bought or sold short in it, ")
    assert len(table.find("tbody")) == 12


def test_parameters_name_the_weighting_its_rhythm_and_its_terms():
    result = portfolio("long_short")[1]
    listed = {row[0]: row[1] for row in rows(page.parameters(result))[1:]}
    assert listed["weighting"] == "weights"
    assert (listed["S0"], listed["S1"]) == ("0.8", "-0.5")
    assert (listed["rebalance"], listed["align"], listed["leverage"]) == ("week", "inner", "2")
    assert (listed["benchmark"], listed["borrow_rate"]) == ("holding equal parts", "0.03")
    assert {row[0]: row[1] for row in rows(page.parameters(portfolio("many")[1]))[1:]}["rebalance"] == "none"


def test_data_lists_the_bars_of_each_symbol_and_what_was_left_out():
    prices, result = portfolio("six")
    shown = rows(portfolio_page.data(prices, result))
    assert shown[1][:5] == ["AAPL", "sample", "1,509", "2019-01-02", "2024-12-30"]
    assert shown[1][6:] == ["yes", prices["AAPL"].attrs["snapshot"][:12]]
    facts = [row for row in shown if len(row) == 2]
    assert ["bars of the run", "1,189 of 1d, 2019-01-02 to 2023-09-21"] in facts
    assert [said for of, said in facts if of == "aligned"] == result.data["notes"]
    assert next(said for of, said in facts if of == "note").startswith("AAPL: adjusted by Adj Close / Close")


def test_data_of_closes_alone_is_shown_too():
    prices = {symbol: frame["Close"] for symbol, frame in two([10.0, 11.0], [5.0, 4.0]).items()}
    shown = rows(portfolio_page.data(prices, run_portfolio(prices, fill="close")))
    assert shown[2] == ["B", "not given", "2", "2023-01-02", "2023-01-03", "4.00 to 5.00", "no", "none"]


def test_provenance_names_the_raw_bars_of_each_symbol():
    prices, result = portfolio("six")
    shown = dict(row for row in rows(page.provenance(result)) if row[0])
    for symbol, frame in prices.items():
        assert shown[f"raw bars of {symbol}, SHA-256"] == frame.attrs["snapshot"]
    assert shown["traded bars, SHA-256"] == result.prices_hash


# ---- drawdowns -------------------------------------------------------------------------------------------------------


def test_drawdowns_are_found_with_their_bars():
    """A fall by a tenth that recovers, one by a half that does not, and a bar at the high between them."""
    equity = np.array([100.0, 90.0, 95.0, 100.0, 120.0, 100.0, 60.0, 110.0])
    deep, shallow = Drawdown(4, 6, None, -0.5, 3), Drawdown(0, 1, 3, pytest.approx(-0.1), 2)
    assert deepest_drawdowns(equity) == [deep, shallow]
    assert deepest_drawdowns(equity, most=1) == [deep]
    assert deepest_drawdowns(np.array([100.0, 100.0, 101.0])) == []


@every_portfolio
def test_deepest_drawdown_is_that_of_the_metrics(name):
    result = portfolio(name)[1]
    found = deepest_drawdowns(result.equity.to_numpy(), most=10**9)
    assert (found[0].depth if found else 0.0) == result.metrics["max_drawdown"]
    assert max((fall.bars for fall in found), default=0) == result.metrics["max_drawdown_duration"]
    assert [fall.depth for fall in found] == sorted(fall.depth for fall in found)


def test_drawdowns_are_shown_with_dates_and_depth():
    result = run_backtest(course([100.0, 90.0, 100.0, 120.0, 60.0, 90.0]), "buy_and_hold", fill="close")
    assert rows(page.drawdowns(result)) == [
        ["High", "Lowest", "Recovered", "Depth", "Bars below the high"],
        ["2023-01-05", "2023-01-06", "not yet", "-50.0 %", "2"],
        ["2023-01-02", "2023-01-03", "2023-01-04", "-10.0 %", "1"],
    ]


def test_drawdown_of_a_portfolio_names_what_lost_most():
    """Of 100 at the high, A loses 20 and B gains 10 until the lowest close; what comes after does not count."""
    prices = two([10.0, 10.0, 6.0, 6.0], [10.0, 10.0, 12.0, 2.0])
    result = run_portfolio({name: frame.iloc[:3] for name, frame in prices.items()}, "equal_weight", fill="close")
    assert rows(page.drawdowns(result))[1][3:] == ["-10.0 %", "1", "A -20.0 %"]
    later = run_portfolio(prices, "equal_weight", fill="close")
    assert rows(page.drawdowns(later))[1][3:] == ["-60.0 %", "2", "B -40.0 %"]


def test_account_that_never_fell_has_no_drawdown():
    assert words(page.drawdowns(portfolio("two_bars")[1])) == "The account never was below an earlier high."


# ---- what was traded -------------------------------------------------------------------------------------------------


def test_purchases_and_sales_are_traded_once_each(bars):
    """1,000 are bought; A triples, and of 2,000 then 500 are sold and 500 bought."""
    index = pd.DatetimeIndex(["2023-01-30", "2023-01-31", "2023-02-01", "2023-02-02"])
    prices = {"A": bars([10.0, 10.0, 30.0, 30.0], index=index), "B": bars([10.0] * 4, index=index)}
    result = run_portfolio(prices, {"A": 0.5, "B": 0.5}, rebalance="month", cash=1000.0)
    assert portfolio_page.traded(result).tolist() == pytest.approx([0.0, 1.0, 0.0, 0.5])


def test_fees_are_part_of_what_was_paid():
    result = run_portfolio(two([10.0, 10.0], [10.0, 10.0]), "equal_weight", fees=0.01)
    assert portfolio_page.traded(result).tolist() == pytest.approx([0.0, 1.0])


@pytest.mark.parametrize("fill", ["next_open", "close", "next_close"])
@pytest.mark.parametrize("weights", ["equal_weight", "inverse_volatility", "top_momentum"])
def test_what_was_traded_adds_up_to_the_turnover(fill, weights):
    result = run_portfolio(six(), weights, rebalance="month", fill=fill)
    a_year = result.settings["periods_per_year"] / (len(result.equity) - 1)
    assert portfolio_page.traded(result).sum() * a_year == pytest.approx(result.metrics["turnover"], rel=1e-9)


def test_interest_and_borrowing_are_not_traded():
    prices = two([10.0, 10.0, 11.0, 9.0], [5.0] * 4)
    borrowed = portfolio_page.traded(run_portfolio(prices, {"A": -0.5}, borrow_rate=0.5)).tolist()
    assert borrowed == [0.0, pytest.approx(0.5), 0.0, 0.0]
    with_interest = portfolio_page.traded(run_portfolio(prices, {"A": -0.5}, borrow_rate=0.5, cash_rate=0.1)).tolist()
    assert with_interest == [0.0, pytest.approx(0.5 * 1.1 ** (1 / 252)), 0.0, 0.0]  # of what the first bar has earned


def test_ruin_trades_what_was_held_and_nothing_after():
    """100,000 short at 10 double to 250,000 at 25; 20,000 of B are 24,000."""
    result = portfolio("ruined")[1]
    before = result.equity.iloc[2]
    assert portfolio_page.traded(result).tolist() == pytest.approx([1.2, 0.0, 0.0, 274_000.0 / before, 0.0])


def test_metrics_of_a_portfolio_are_all_listed():
    result = portfolio("momentum")[1]
    shown = [row for row in rows(page.metrics(result)) if len(row) == 3][1:]
    assert [row[1] for row in shown if row[0].endswith(" turnover")] == [
        words(format_metric("turnover", result.metrics["turnover"]))
    ]
