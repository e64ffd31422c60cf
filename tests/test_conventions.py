"""The table of conventions, on numbers that can be checked by hand; tests/parity holds it to the peers themselves."""

import math
import statistics

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backgrid.conventions import CONVENTIONS, TOOLS, conventions
from backgrid.errors import ParameterError
from backgrid.metrics import METRICS, returns_of

# Five closes from Monday to Friday: returns .1 -.1 0 .3; four closed trades.
EQUITY = [100.0, 110.0, 99.0, 99.0, 128.7]
RETURNS = [0.1, -0.1, 0.0, 0.3]
PNL = [20.0, -10.0, 5.0, -5.0]
TRADES = [0.2, -0.1, 0.1, -0.05]
WEEK = pd.date_range("2024-01-01", periods=5)
GROWTH = 1.287 ** (1 / 4)  # of a day
A_DAY_OF_365 = 1.287 ** (365 / 5)  # a year, the first bar counting as a day


def table_of(equity=EQUITY, pnl=PNL, trade_returns=TRADES, index=WEEK, periods_per_year=4, **settings):
    equity = np.asarray(equity, dtype=float)
    returns = returns_of(equity)
    return conventions(returns, equity, pnl, trade_returns, periods_per_year=periods_per_year, index=index, **settings)


def variance(values):
    return statistics.variance(values)


# ---- values ----------------------------------------------------------------------------------------------------------

BY_HAND = {
    ("total_return", "vectorbt"): 0.287,
    ("cagr", "backtesting.py"): 1.287 ** (365.25 / 4) - 1,  # Monday to Friday are four days
    ("cagr", "vectorbt"): A_DAY_OF_365 - 1,
    ("cagr", "quantstats"): 1.287 ** (252 / 4) - 1,
    ("cagr", "backgrid"): 0.287,  # four bars are a year
    ("annual_return", "backgrid"): 0.075 * 4,
    ("annual_return", "backtesting.py"): GROWTH**252 - 1,
    ("annual_volatility", "backtesting.py"): math.sqrt((variance(RETURNS) + GROWTH**2) ** 252 - GROWTH**504),
    ("annual_volatility", "vectorbt"): math.sqrt(variance([0.0, *RETURNS]) * 365),
    ("annual_volatility", "empyrical"): math.sqrt(variance(RETURNS) * 252),
    ("downside_deviation", "vectorbt"): math.sqrt(0.01 / 5 * 365),
    ("downside_deviation", "empyrical"): math.sqrt(0.01 / 4 * 252),
    ("max_drawdown", "vectorbt"): -0.1,
    ("avg_drawdown", "backtesting.py"): -0.1,
    ("ulcer_index", "vectorbt"): math.sqrt(0.02 / 5),
    ("ulcer_index", "quantstats"): math.sqrt(0.02 / 3),
    ("value_at_risk", "empyrical"): -0.1 + 0.15 * 0.1,
    ("value_at_risk", "vectorbt"): -0.1 + 0.2 * 0.1,  # of five returns
    ("value_at_risk", "quantstats"): 0.075 - 1.6448536269514722 * statistics.stdev(RETURNS),
    ("expected_shortfall", "empyrical"): -0.1,
    ("expected_shortfall", "quantstats"): 0.075 - 2.062712807507426 * statistics.stdev(RETURNS),
    ("sharpe", "backtesting.py"): (GROWTH**252 - 1) / math.sqrt((variance(RETURNS) + GROWTH**2) ** 252 - GROWTH**504),
    ("sharpe", "vectorbt"): 0.06 / statistics.stdev([0.0, *RETURNS]) * math.sqrt(365),
    ("sharpe", "quantstats"): 0.075 / statistics.stdev(RETURNS) * math.sqrt(252),
    ("sortino", "backtesting.py"): (GROWTH**252 - 1) / math.sqrt(0.01 / 4 * 252),
    ("sortino", "vectorbt"): 0.06 / math.sqrt(0.01 / 5) * math.sqrt(365),
    ("sortino", "empyrical"): 0.075 / math.sqrt(0.01 / 4) * math.sqrt(252),
    ("calmar", "backtesting.py"): (GROWTH**252 - 1) / 0.1,
    ("calmar", "vectorbt"): (A_DAY_OF_365 - 1) / 0.1,
    ("omega", "vectorbt"): 4.0,
    ("tail_ratio", "empyrical"): 0.27 / 0.085,
    ("tail_ratio", "vectorbt"): 0.26 / 0.08,
    ("common_sense_ratio", "vectorbt"): 0.26 / 0.08 * A_DAY_OF_365,
    ("common_sense_ratio", "quantstats"): 4 * 0.27 / 0.085,
    ("recovery_factor", "backgrid"): 0.287 / 0.1,
    ("recovery_factor", "quantstats"): 0.3 / 0.1,
    ("ulcer_performance_index", "vectorbt"): (A_DAY_OF_365 - 1) / math.sqrt(0.02 / 5),
    ("ulcer_performance_index", "quantstats"): 0.287 / math.sqrt(0.02 / 3),
    ("win_rate", "vectorbt"): 2 / 4,
    ("win_rate", "quantstats"): 2 / 3,  # of the bars that moved
    ("profit_factor", "backgrid"): 25 / 15,
    ("profit_factor", "backtesting.py"): 0.3 / 0.15,
    ("profit_factor", "vectorbt"): 25 / 15,
    ("profit_factor", "quantstats"): 0.4 / 0.1,
    ("expectancy", "backtesting.py"): 0.15 / 4,
    ("expectancy", "vectorbt"): 10 / 4,
    ("avg_trade", "backgrid"): 0.15 / 4,
    ("avg_trade", "backtesting.py"): (1.2 * 0.9 * 1.1 * 0.95) ** (1 / 4) - 1,
    ("sqn", "backtesting.py"): 2 * 2.5 / statistics.stdev(PNL),
    ("kelly", "backgrid"): 0.5 - 0.5 / (0.15 / 0.075),
    ("kelly", "backtesting.py"): 0.5 - 0.5 / (12.5 / 7.5),
    ("kelly", "quantstats"): 2 / 3 - 1 / 3 / (0.2 / 0.1),
    ("avg_win", "vectorbt"): 0.15,
    ("avg_win", "quantstats"): 0.2,
    ("avg_loss", "vectorbt"): -0.075,
    ("avg_loss", "quantstats"): -0.1,
    ("payoff_ratio", "quantstats"): 2.0,
    ("win_streak", "quantstats"): 1.0,
    ("loss_streak", "quantstats"): 1.0,
}


@pytest.mark.parametrize("cell", BY_HAND, ids=" ".join)
def test_cell_is_what_a_hand_gets(cell):
    assert table_of().loc[cell, "value"] == pytest.approx(BY_HAND[cell], rel=1e-9)


def test_skew_and_kurtosis_are_corrected_for_a_sample_by_some():
    """Returns 0 0 0 1: skew 2 and excess kurtosis 4 as pandas has them, 1.1547 and 2 1/3 (plain) for Backgrid."""
    values = table_of([1.0, 1.0, 1.0, 1.0, 2.0])["value"]
    assert values["skew", "quantstats"] == pytest.approx(2.0)
    assert values["kurtosis", "quantstats"] == pytest.approx(4.0)
    assert values["skew", "backgrid"] == pytest.approx(2.0 / math.sqrt(3.0))
    assert values["kurtosis", "backgrid"] == pytest.approx(7.0 / 3.0)


@pytest.mark.parametrize(
    ("freq", "of_backtesting", "of_vectorbt"),
    [
        ("B", 252, 365),
        ("D", 365, 365),
        ("W-FRI", 52, 365 / 7),
        ("MS", 12, 365 / 31),
        ("YS", 1, 1),
        ("h", 24 * 365, 24 * 365),
    ],
)
def test_years_of_the_peers_follow_from_the_dates(freq, of_backtesting, of_vectorbt):
    """Growth of .1 % a bar: what a peer takes for a year is how often that is compounded."""
    n_bars = 240
    index = pd.date_range("2022-01-01", periods=n_bars, freq=freq)
    values = table_of(100.0 * 1.001 ** np.arange(n_bars), index=index)["value"]
    years = np.log1p(values[["cagr", "annual_return"]]) / math.log(1.001)
    assert years["annual_return", "backtesting.py"] == pytest.approx(of_backtesting)
    assert years["cagr", "vectorbt"] == pytest.approx(of_vectorbt * (n_bars - 1) / n_bars)  # the first bar counts
    assert years["cagr", "empyrical"] == pytest.approx(252)


def test_backtesting_takes_the_last_close_of_each_day():
    """Two bars a day, in New York, where the last of a day is the next one in London: returns of .1 and -.1 a day."""
    index = pd.DatetimeIndex([f"2024-01-0{d} {h}:00" for d in (2, 3, 4) for h in (12, 22)]).tz_localize("US/Eastern")
    values = table_of([90.0, 100.0, 50.0, 110.0, 120.0, 99.0], index=index)["value"]
    assert values["sortino", "backtesting.py"] == pytest.approx((0.99**126 - 1) / (math.sqrt(0.01 / 2 * 252)))


def test_a_drawdown_of_the_last_bar_alone_is_left_out_by_backtesting():
    """Stretches of -10 % and, at the last bar, -50 %."""
    equity = [100.0, 90.0, 100.0, 50.0]
    assert table_of(equity, index=WEEK[:4])["value"]["avg_drawdown"].tolist() == pytest.approx([-0.3, -0.1])
    assert table_of(equity[2:], index=WEEK[:2])["value"]["avg_drawdown"].tolist() == pytest.approx([-0.5, -0.5])


def test_ruin_is_no_loss_at_all_in_the_compounded_year_of_backtesting():
    values = table_of([100.0, 50.0, 0.0, 0.0, 0.0])["value"]
    assert values["annual_return", "backtesting.py"] == 0.0
    assert values["annual_return", "empyrical"] == values["cagr", "backtesting.py"] == -1.0


def test_undefined_is_nan_for_backgrid_and_what_they_return_for_the_peers():
    """An account that only grows, and one that stays."""
    values = table_of([100.0, 101.0, 103.0, 104.0, 106.0], pnl=[5.0], trade_returns=[0.05])["value"].unstack()
    assert values.loc[["sortino", "omega", "calmar", "profit_factor"], "backgrid"].isna().all()
    assert values.loc[["sortino", "omega", "profit_factor"], "vectorbt"].tolist() == [math.inf] * 3
    assert values.loc["sortino", "quantstats"] != values.loc["sortino", "quantstats"]
    assert values.loc["sortino", ["empyrical", "backtesting.py"]].tolist() == [math.inf] * 2
    flat = table_of([100.0] * 5, pnl=[], trade_returns=[])["value"].unstack()
    assert flat.loc["sharpe", "vectorbt"] == math.inf and flat.loc["sharpe"].isna().sum() == 4
    assert (flat.loc["total_return"] == 0.0).all() and flat.loc["win_rate", "quantstats"] == 0.0


# ---- the table -------------------------------------------------------------------------------------------------------


def test_every_metric_that_was_asked_for_is_there_with_every_tool_that_has_it():
    tools = table_of().reset_index().groupby("metric", sort=False)["tool"].agg(list)
    for name in ("cagr", "annual_volatility", "sharpe", "sortino", "calmar", "max_drawdown", "total_return"):
        assert tools[name] == list(TOOLS)
    for name in ("value_at_risk", "expected_shortfall", "omega", "tail_ratio"):
        assert tools[name] == ["backgrid", "vectorbt", "quantstats", "empyrical"]
    for name in ("win_rate", "profit_factor"):
        assert tools[name] == ["backgrid", "backtesting.py", "vectorbt", "quantstats"]
    assert tools["sqn"] == ["backgrid", "backtesting.py", "vectorbt"]
    assert tools["kelly"] == ["backgrid", "backtesting.py", "quantstats"]


def test_every_formula_says_what_it_is_based_on_and_own_ones_are_those_of_the_report():
    table = table_of()
    for (metric, tool), formula in table["formula"].items():
        assert any(basis in formula for basis in ("per bar", "per day", "per trade", "whole run")), (metric, tool)
        assert formula.isascii() and "\n" not in formula and "  " not in formula
        if tool == "backgrid":
            assert formula == METRICS[metric].formula
        else:
            assert formula == CONVENTIONS[metric][tool].formula
    assert table.index.is_unique and table.index.names == ["metric", "tool"]


def test_settings_are_of_own_rows_only():
    """The defaults of the peers stay what they are."""
    given, other = table_of()["value"].unstack(), table_of(periods_per_year=1, risk_free=0.02)["value"].unstack()
    ratio = other.loc["sharpe", "backgrid"] / given.loc["sharpe", "backgrid"]
    assert ratio == pytest.approx((0.075 - 0.02) / 0.075 / 2)  # a bar is a year
    pd.testing.assert_frame_equal(given.drop(columns="backgrid"), other.drop(columns="backgrid"))


def test_dates_may_come_with_the_equity():
    equity = pd.Series(EQUITY, index=WEEK)
    given = conventions(equity.pct_change().dropna(), equity, PNL, TRADES, periods_per_year=4)
    pd.testing.assert_frame_equal(given, table_of())


def test_without_dates_only_what_needs_none_is_known():
    with_dates, without = table_of()["value"], table_of(index=None)["value"]
    unknown = without[without.isna()]
    assert set(unknown.index.get_level_values("tool")) == {"backtesting.py", "vectorbt"}
    assert ("sharpe", "vectorbt") in unknown and ("cagr", "backtesting.py") in unknown
    pd.testing.assert_series_equal(without.dropna(), with_dates[without.notna()])


@given(st.lists(st.integers(-3000, 3000), min_size=1, max_size=40), st.lists(st.integers(-900, 900), max_size=20))
def test_no_account_fails_and_own_rows_are_never_infinite(basis_points, trades):
    equity = 100.0 * np.cumprod([1.0, *(1.0 + n / 10_000 for n in basis_points)])
    index = pd.bdate_range("2024-01-01", periods=equity.size)
    table = table_of(equity, [100.0 * n for n in trades], [n / 1000 for n in trades], index)
    own = table["value"].xs("backgrid", level="tool")
    assert not np.isinf(own).any()
    assert not (np.signbit(table["value"]) & (table["value"] == 0.0)).any()


# ---- what it refuses -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"returns": RETURNS[1:]}, "returns must have 4 values beside these 5 bars, got 3"),
        ({"trade_returns": [0.1]}, "trade_returns must have 4 values beside these 5 bars, got 1"),
        ({"returns": [0.1, math.nan, 0.0, 0.3]}, "returns must be one-dimensional and finite"),
        ({"pnl": [[1.0]]}, r"pnl must be one-dimensional and finite, got shape \(1, 1\)"),
        ({"equity": [100.0], "returns": []}, "two bars at least"),
        ({"equity": [0.0, 1.0, 1.0, 1.0, 1.0]}, "start above 0"),
        ({"equity": [1.0, 1.0, -1.0, 1.0, 1.0]}, "never be negative"),
        ({"index": WEEK[1:]}, "index must be a DatetimeIndex of 5 bars"),
        ({"index": list(WEEK)}, "index must be a DatetimeIndex of 5 bars"),
        ({"periods_per_year": 0}, "periods_per_year above 0, got 0.0 and 0"),
        ({"risk_free": -1.0}, "risk_free must be above -1"),
    ],
)
def test_what_does_not_fit_is_refused(changes, message):
    given = {"returns": RETURNS, "equity": EQUITY, "pnl": PNL, "trade_returns": TRADES, "index": WEEK, **changes}
    settings = {"periods_per_year": given.pop("periods_per_year", 252), "risk_free": given.pop("risk_free", 0.0)}
    index = given.pop("index")
    with pytest.raises(ParameterError, match=message):
        conventions(**given, **settings, index=index)
