"""Every metric is what its docstring says, on numbers that can be checked by hand, and never infinite."""

import inspect
import math

import numpy as np
import plain
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backgrid import metrics as metrics_module
from backgrid._sums import bar_sums
from backgrid.errors import ParameterError
from backgrid.metrics import (
    HIGHER,
    LOWER,
    METRICS,
    NEITHER,
    calculate_max_drawdown,
    calculate_metrics,
    calculate_sharpe_ratio,
    calculate_total_return,
    drawdown_of,
    format_metric,
    format_value,
    group_metrics,
    line,
    returns_of,
)

NAN = float("nan")
MINUS, SPACE, WIDE = "\N{MINUS SIGN}", "\N{NARROW NO-BREAK SPACE}", "\N{NO-BREAK SPACE}"

# A year of four bars: returns .1 -.1 0 .3 (mean .075, squared deviations .0875 in all); four closed trades, one open.
RUN = {
    "equity": [100.0, 110.0, 99.0, 99.0, 128.7],
    "benchmark": [0.05, -0.05, 0.1, 0.1],
    "positions": [0.0, 1.0, -0.5, 0.0, 1.0],
    "traded": [0.5, 0.5, 1.0],
    "pnl": [20.0, -10.0, 5.0, -5.0],
    "trade_returns": [0.2, -0.1, 0.05, -0.05],
    "bars_held": [1.0, 2.0, 3.0, 6.0],
    "fees": [1.0, 2.0, 3.0],
    "n_trades": 5,
    "financing": -7.0,
    "risk_free": 0.0,
    "periods_per_year": 4,
}
BY_HAND = {  # in the order of section 5 of the design
    "total_return": 128.7 / 100 - 1,
    "cagr": 128.7 / 100 - 1,  # four bars are one year
    "annual_return": 0.075 * 4,
    "annual_volatility": math.sqrt(0.0875 / 3) * 2,
    "sharpe": 0.075 / math.sqrt(0.0875 / 3) * 2,
    "sortino": 0.075 / math.sqrt(0.1**2 / 4) * 2,
    "calmar": 0.287 / 0.1,
    "omega": 0.4 / 0.1,
    "max_drawdown": 99 / 110 - 1,
    "max_drawdown_duration": 2,
    "avg_drawdown": 99 / 110 - 1,
    "ulcer_index": math.sqrt((0.1**2 + 0.1**2) / 3),
    "value_at_risk": -0.1 + 0.15 * 0.1,  # .05 * (4 - 1) = .15 of the way from the lowest to the next
    "expected_shortfall": -0.1,
    "skew": (0.025**3 - 0.175**3 - 0.075**3 + 0.225**3) / 4 / (0.0875 / 4) ** 1.5,
    "kurtosis": (0.025**4 + 0.175**4 + 0.075**4 + 0.225**4) / 4 / (0.0875 / 4) ** 2,
    "tail_ratio": 0.27 / 0.085,  # .1 + .85 * .2
    "exposure": 3 / 5,
    "turnover": 2.0,
    "n_trades": 5,
    "win_rate": 2 / 4,
    "profit_factor": 25 / 15,
    "expectancy": 10 / 4,
    "avg_trade": 0.1 / 4,
    "best_trade": 0.2,
    "worst_trade": -0.1,
    "avg_trade_duration": 12 / 4,
    "sqn": math.sqrt(4) * 2.5 / math.sqrt((17.5**2 + 12.5**2 + 2.5**2 + 7.5**2) / 3),
    "kelly": 0.5 - 0.5 / (0.125 / 0.075),
    "fees_paid": 6.0,
    "best_day": 0.3,
    "worst_day": -0.1,
    "benchmark_return": 1.05 * 0.95 * 1.1 * 1.1 - 1,
    "alpha": (0.075 - 5 / 3 * 0.05) * 4,
    "beta": 0.025 / 0.015,
    "information_ratio": 0.025 / math.sqrt(0.0525 / 3) * 2,
    # beyond that list, by group
    "positive_bars": 2 / 4,
    "downside_deviation": math.sqrt(0.1**2 / 4) * 2,
    "time_under_water": 2 / 5,
    "avg_drawdown_duration": 2.0,
    "recovery_factor": 0.287 / 0.1,
    "ulcer_performance_index": 0.287 / math.sqrt((0.1**2 + 0.1**2) / 3),
    "max_exposure": 1.0,
    "avg_win": 0.25 / 2,
    "avg_loss": -0.15 / 2,
    "payoff_ratio": 0.125 / 0.075,
    "longest_trade": 6,
    "win_streak": 1,
    "loss_streak": 1,
    "financing": -7.0,
    "excess_cagr": 0.287 - (1.05 * 0.95 * 1.1 * 1.1 - 1),
    "tracking_error": math.sqrt(0.0525 / 3) * 2,
    "r_squared": 0.025**2 / (0.0875 * 0.015),
    "treynor": 0.075 * 4 / (5 / 3),
    "up_capture": (1.43 ** (1 / 3) - 1) / ((1.05 * 1.21) ** (1 / 3) - 1),  # .1 0 .3 against .05 .1 .1
    "down_capture": 2.0,  # -.1 against -.05
}
NAMES = list(BY_HAND)


def run(**changes):
    """All metrics of RUN, with some of its series replaced."""
    series = {**RUN, **changes}
    return calculate_metrics(**{k: np.array(v, dtype=float) if isinstance(v, list) else v for k, v in series.items()})


def equity_of(returns):
    return (100.0 * np.cumprod([1.0, *(1.0 + r for r in returns)])).tolist()


# ---- values ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_metric_is_what_a_hand_gets(name):
    assert run()[name] == pytest.approx(BY_HAND[name], rel=1e-12)


def test_metrics_come_in_the_order_of_the_design():
    assert list(run()) == list(METRICS) == NAMES


def test_costs_and_risks_are_better_low_and_what_only_describes_has_no_better_end():
    found = {way: {name for name in NAMES if METRICS[name].better == way} for way in (HIGHER, LOWER, NEITHER)}
    assert found[LOWER] == {
        *("annual_volatility", "max_drawdown_duration", "ulcer_index", "turnover", "fees_paid", "downside_deviation"),
        *("time_under_water", "avg_drawdown_duration", "loss_streak", "down_capture"),
    }
    assert found[NEITHER] == {
        *("skew", "kurtosis", "exposure", "n_trades", "avg_trade_duration", "benchmark_return", "beta"),
        *("max_exposure", "longest_trade", "tracking_error", "r_squared"),
    }
    assert found[HIGHER] == set(NAMES) - found[LOWER] - found[NEITHER]


def test_losses_are_negative_so_that_their_highest_is_the_mildest():
    for name in ("max_drawdown", "avg_drawdown", "value_at_risk", "expected_shortfall", "worst_day", "avg_loss"):
        assert BY_HAND[name] < 0.0 and METRICS[name].better == HIGHER


def test_counts_are_whole_numbers_and_all_else_is_a_plain_float():
    counts = {"n_trades", "max_drawdown_duration", "longest_trade", "win_streak", "loss_streak"}
    assert {name: type(value) for name, value in run().items()} == {n: int if n in counts else float for n in NAMES}


def test_longer_series_agree_with_numpy():
    """400 random bars: the formulas in their textbook form."""
    rng = np.random.default_rng(0)
    r, b = rng.normal(0.001, 0.02, 400), rng.normal(0.0005, 0.01, 400)
    equity = equity_of(r)
    given = run(equity=equity, benchmark=b, periods_per_year=252, risk_free=0.03)
    cash = 1.03 ** (1 / 252) - 1
    e, be = r - cash, b - cash
    d = np.array(equity) / np.maximum.accumulate(equity) - 1
    var, covariance = np.percentile(r, 5), np.cov(e, be)
    expected = {
        "cagr": np.prod(1 + r) ** (252 / 400) - 1,
        "annual_volatility": np.std(r, ddof=1) * np.sqrt(252),
        "sharpe": e.mean() / e.std(ddof=1) * np.sqrt(252),
        "sortino": e.mean() / np.sqrt(np.mean(np.minimum(e, 0) ** 2)) * np.sqrt(252),
        "calmar": (np.prod(1 + r) ** (252 / 400) - 1) / -d.min(),
        "omega": e[e > 0].sum() / -e[e < 0].sum(),
        "max_drawdown": d.min(),
        "ulcer_index": np.sqrt(np.sum(d**2) / 399),
        "value_at_risk": var,
        "expected_shortfall": r[r <= var].mean(),
        "skew": np.mean((r - r.mean()) ** 3) / r.std() ** 3,
        "kurtosis": np.mean((r - r.mean()) ** 4) / r.std() ** 4,
        "tail_ratio": abs(np.percentile(r, 95)) / abs(var),
        "benchmark_return": np.prod(1 + b) - 1,
        "beta": covariance[0, 1] / covariance[1, 1],
        "alpha": (e.mean() - covariance[0, 1] / covariance[1, 1] * be.mean()) * 252,
        "information_ratio": (r - b).mean() / (r - b).std(ddof=1) * np.sqrt(252),
        "positive_bars": (r > 0).mean(),
        "downside_deviation": np.sqrt(np.mean(np.minimum(e, 0) ** 2) * 252),
        "time_under_water": (d < 0).mean(),
        "recovery_factor": (np.prod(1 + r) - 1) / -d.min(),
        "ulcer_performance_index": (np.prod(1 + r) ** (252 / 400) - 1.03) / np.sqrt(np.sum(d**2) / 399),
        "excess_cagr": np.prod(1 + r) ** (252 / 400) - np.prod(1 + b) ** (252 / 400),
        "tracking_error": (r - b).std(ddof=1) * np.sqrt(252),
        "r_squared": np.corrcoef(e, be)[0, 1] ** 2,
        "treynor": e.mean() * 252 / (covariance[0, 1] / covariance[1, 1]),
        "up_capture": (np.prod(1 + r[b > 0]) ** (1 / (b > 0).sum()) - 1)
        / (np.prod(1 + b[b > 0]) ** (1 / (b > 0).sum()) - 1),
        "down_capture": (np.prod(1 + r[b < 0]) ** (1 / (b < 0).sum()) - 1)
        / (np.prod(1 + b[b < 0]) ** (1 / (b < 0).sum()) - 1),
    }
    assert {name: given[name] for name in expected} == pytest.approx(expected, rel=1e-9)


def test_risk_free_is_spread_over_the_bars_by_compounding():
    """21 % a year over two bars a year is 10 % a bar, so returns of 10 % earn nothing above cash."""
    assert run(equity=equity_of([0.1, 0.3, -0.1, 0.1]), risk_free=0.21, periods_per_year=2)["sharpe"] == pytest.approx(
        0.0
    )


def test_drawdowns_are_counted_by_stretch_and_one_that_lasts_counts():
    """Two stretches below a high: 2 bars down to -10 %, then 3 bars down to -20 % that never recover."""
    given = run(equity=[100.0, 95.0, 90.0, 100.0, 90.0, 80.0, 85.0], benchmark=[0.01 * n for n in range(6)])
    assert given["max_drawdown_duration"] == 3
    assert given["max_drawdown"] == pytest.approx(-0.2)
    assert given["avg_drawdown"] == pytest.approx((-0.1 - 0.2) / 2)
    assert given["avg_drawdown_duration"] == 2.5
    assert given["time_under_water"] == 5 / 7


def test_streaks_are_of_trades_in_a_row_and_one_that_earns_nothing_breaks_them():
    """Won won, nothing, won won won, lost lost."""
    pnl = [1.0, 2.0, 0.0, 1.0, 1.0, 3.0, -1.0, -2.0]
    given = run(pnl=pnl, trade_returns=[p / 100 for p in pnl])
    assert (given["win_streak"], given["loss_streak"]) == (3, 2)
    assert given["avg_win"] == pytest.approx(0.08 / 5) and given["avg_loss"] == pytest.approx(-0.015)
    assert run(pnl=[-1.0] * 4, trade_returns=[-0.1] * 4)["loss_streak"] == 4


def test_return_of_cash_is_owed_before_the_ulcer_index_and_treynor_reward():
    """Half of 28.7 % a year is left above cash, and none where cash earns as much as the bars do on average."""
    without, half = run(), run(risk_free=0.1435)
    assert half["ulcer_performance_index"] == pytest.approx(without["ulcer_performance_index"] / 2)
    assert run(risk_free=1.075**4 - 1)["treynor"] == pytest.approx(0.0, abs=1e-12)
    assert half["up_capture"] == without["up_capture"]


def test_largest_position_counts_shorts():
    assert run(positions=[0.0, 0.5, -1.5, 0.0, 1.0])["max_exposure"] == 1.5


def test_half_the_benchmark_captures_half_of_it_on_both_sides():
    """Returns of .01 and -.01 in turns, half of them held: no bar adds to the spread around beta."""
    benchmark = [0.01, -0.01] * 20
    given = run(equity=equity_of([b / 2 for b in benchmark]), benchmark=benchmark)
    assert [given[name] for name in ("up_capture", "down_capture", "r_squared", "beta")] == pytest.approx(
        [0.5, 0.5, 1.0, 0.5]
    )


def test_capture_of_many_bars_stays_in_the_range_of_floats():
    """100,000 bars of 1 % against 2 %: their products have 432 and 860 digits."""
    benchmark = np.full(100_000, 0.02)
    assert METRICS["up_capture"].function(bar_sums(benchmark / 2, benchmark, 0.0)) == pytest.approx(0.5)
    assert METRICS["down_capture"].function(bar_sums(-benchmark / 2, -benchmark, 0.0)) == pytest.approx(0.5)


def test_financing_is_nothing_where_the_engine_gives_none():
    series = {k: np.array(v, dtype=float) if isinstance(v, list) else v for k, v in RUN.items() if k != "financing"}
    assert str(calculate_metrics(**series)["financing"]) == "0.0"
    assert str(run(financing=-0.0)["financing"]) == "0.0"


def test_first_bar_counts_as_a_high():
    assert run(equity=[100.0, 50.0, 60.0, 70.0, 80.0])["max_drawdown"] == -0.5


# ---- undefined values ------------------------------------------------------------------------------------------------

FLAT = {
    "equity": [100.0] * 5,
    "benchmark": [0.0] * 4,
    "positions": [0.0] * 5,
    "traded": [],
    "pnl": [],
    "trade_returns": [],
    "bars_held": [],
    "fees": [],
    "n_trades": 0,
    "financing": 0.0,
}


def undefined(values):
    return {name for name, value in values.items() if math.isnan(value)}


def test_account_that_never_trades_has_zeros_and_undefined_ratios():
    given = run(**FLAT)
    ratios = {"sharpe", "sortino", "calmar", "omega", "skew", "kurtosis", "tail_ratio", "beta", "alpha"}
    trades = {"win_rate", "profit_factor", "expectancy", "avg_trade", "best_trade", "worst_trade", "avg_trade_duration"}
    trades |= {"sqn", "kelly", "avg_win", "avg_loss", "payoff_ratio", "longest_trade"}
    ratios |= {"recovery_factor", "ulcer_performance_index"}
    against = {"information_ratio", "r_squared", "treynor", "up_capture", "down_capture"}
    assert undefined(given) == ratios | trades | against
    assert {value for name, value in given.items() if name not in undefined(given)} == {0.0}
    assert math.copysign(1.0, given["max_drawdown"]) == 1.0


@pytest.mark.parametrize("step", [0.001, -0.001, 0.1])
def test_equal_returns_have_no_ratio_though_their_computed_deviations_are_not_zero(step):
    returns = np.full(60, step)
    assert math.isnan(calculate_sharpe_ratio(returns))
    sums = bar_sums(returns, returns, 0.0)
    assert all(math.isnan(METRICS[name].function(line(returns), sums)) for name in ("skew", "kurtosis"))


@pytest.mark.parametrize(
    "name", ["sharpe", "skew", "kurtosis", "beta", "alpha", "information_ratio", "r_squared", "treynor"]
)
def test_steady_growth_has_no_ratio_made_of_rounding(name):
    """Returns of a compounded account are equal up to the last bit only: that bit is not risk."""
    steady = equity_of([0.001] * 60)
    benchmark = returns_of(0.7 * np.array(steady))
    assert 0.0 < np.ptp(benchmark) < 1e-15
    assert math.isnan(run(equity=steady, benchmark=benchmark)[name])


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        (
            {"equity": [100.0, 110.0, 120.0, 130.0, 150.0]},
            {"sortino", "calmar", "omega", "recovery_factor", "ulcer_performance_index"},
        ),
        (
            {"pnl": [5.0, 10.0], "trade_returns": [0.1, 0.2]},
            {"profit_factor", "kelly", "avg_loss", "payoff_ratio"},
        ),
        ({"pnl": [-5.0, -10.0], "trade_returns": [-0.1, -0.2]}, {"kelly", "avg_win", "payoff_ratio"}),
        (
            {"pnl": [5.0], "trade_returns": [0.1]},
            {"profit_factor", "kelly", "sqn", "avg_loss", "payoff_ratio"},
        ),
        ({"pnl": [5.0, 5.0, 5.0]}, {"profit_factor", "sqn"}),
        ({"benchmark": [0.01] * 4}, {"alpha", "beta", "r_squared", "treynor", "down_capture"}),
        ({"benchmark": [-0.01, -0.02, 0.0, -0.01]}, {"up_capture"}),
        ({"benchmark": [0.1, -0.1, 0.0, 0.3], "equity": [1.0, 1.1, 0.99, 0.99, 1.287]}, {"information_ratio"}),
        (
            {"equity": [100.0] * 5},  # a beta of 0 is known
            {"sharpe", "sortino", "calmar", "omega", "skew", "kurtosis", "tail_ratio", "recovery_factor"}
            | {"ulcer_performance_index", "r_squared", "treynor"},
        ),
    ],
    ids=[
        *("no loss", "winners", "losers", "one trade", "equal trades", "still benchmark", "falling benchmark"),
        *("own benchmark", "flat"),
    ],
)
def test_ratio_that_divides_by_nothing_is_undefined(changes, names):
    assert undefined(run(**changes)) == names


@pytest.mark.parametrize("equity", [[100.0, 110.0], [100.0, 90.0]], ids=["up", "down"])
def test_one_return_has_no_spread(equity):
    given = run(equity=equity, benchmark=[0.05])
    spread = {"annual_volatility", "sharpe", "skew", "kurtosis", "beta", "alpha", "information_ratio", "ulcer_index"}
    assert spread | {"tracking_error", "r_squared", "treynor", "ulcer_performance_index"} <= undefined(given)
    assert given["up_capture"] == pytest.approx((equity[-1] / 100.0 - 1.0) / 0.05)
    assert given["total_return"] == given["best_day"] == given["worst_day"] == equity[-1] / 100.0 - 1.0
    assert given["cagr"] == pytest.approx((equity[-1] / 100.0) ** 4 - 1.0) and given["turnover"] == 8.0


def test_trade_that_wins_nothing_is_no_winner_and_no_loser():
    """One of three wins 10 %, one loses 5 %: 1/3 - 2/3 / (10 / 5)."""
    given = run(pnl=[10.0, 0.0, -5.0], trade_returns=[0.1, 0.0, -0.05])
    assert given["win_rate"] == pytest.approx(1 / 3) and given["kelly"] == pytest.approx(0.0, abs=1e-15)
    assert run(pnl=[10.0, 5.0, -5.0])["win_rate"] == pytest.approx(2 / 3)


def test_two_returns_have_a_spread():
    """Returns .1 and -.1 against .05 and -.05: no skew, the smallest kurtosis there is, and a beta of 2."""
    given = run(equity=[100.0, 110.0, 99.0], benchmark=[0.05, -0.05])
    assert [given[name] for name in ("skew", "kurtosis", "beta")] == pytest.approx([0.0, 1.0, 2.0], abs=1e-9)
    assert given["ulcer_index"] == pytest.approx(0.1)


def test_one_bar_has_no_return():
    given = run(equity=[100.0], benchmark=[])
    assert {"cagr", "sharpe", "best_day", "value_at_risk", "turnover", "annual_return"} <= undefined(given)
    assert {"positive_bars", "downside_deviation", "excess_cagr", "tracking_error", "treynor"} <= undefined(given)
    assert {"up_capture", "down_capture", "r_squared", "recovery_factor"} <= undefined(given)
    assert given["total_return"] == given["time_under_water"] == given["avg_drawdown_duration"] == 0.0


def test_growth_too_large_for_a_float_is_undefined():
    assert math.isnan(run(equity=[1.0, 1e300], benchmark=[0.0], periods_per_year=252)["cagr"])


def test_ruin_is_a_loss_of_everything_and_nothing_after_it():
    given = run(equity=[100.0, 50.0, 0.0, 0.0, 0.0])
    assert (given["total_return"], given["cagr"], given["max_drawdown"]) == (-1.0, -1.0, -1.0)
    assert (given["recovery_factor"], given["time_under_water"]) == (-1.0, 4 / 5)
    assert given["down_capture"] == pytest.approx(-1.0 / -0.05)  # all is lost in the one bar in which the other falls
    assert returns_of(np.array([100.0, 50.0, 0.0, 0.0, 0.0])).tolist() == [-0.5, -1.0, 0.0, 0.0]


returns_lists = st.lists(st.floats(-1.0, 10.0) | st.sampled_from([0.0, 1e-300, -1.0, 1e-17]), min_size=1, max_size=30)


@given(returns_lists, returns_lists)
def test_no_metric_is_ever_infinite_and_no_ratio_above_a_million(returns, others):
    n = min(len(returns), len(others))
    trades = {"pnl": others, "trade_returns": others, "bars_held": [1.0] * len(others), "n_trades": len(others)}
    given = run(equity=equity_of(returns[:n]), benchmark=others[:n], positions=[1.0] * (n + 1), **trades)
    for name, value in given.items():
        assert not math.isinf(value), name
        assert METRICS[name].unit != "ratio" or not abs(value) > 1e6 or name == "alpha", name
        assert value != 0.0 or math.copysign(1.0, value) == 1.0, name
    for name in ("positive_bars", "time_under_water", "win_rate", "r_squared"):
        assert 0.0 <= given[name] <= 1.0 or math.isnan(given[name]), name
    assert given["win_streak"] + given["loss_streak"] <= len(others)
    assert not given["avg_drawdown_duration"] > given["max_drawdown_duration"] <= n
    assert given["downside_deviation"] >= 0.0 and not given["payoff_ratio"] < 0.0
    assert -1.0 <= given["max_drawdown"] <= 0.0


@given(st.lists(st.integers(-5000, 5000), min_size=2, max_size=30), st.integers(-20, 20))
def test_sharpe_does_not_depend_on_the_size_of_the_returns(basis_points, power):
    returns = [n / 10_000 for n in basis_points]
    scaled = [r * 2.0**power for r in returns]
    assert calculate_sharpe_ratio(scaled) == pytest.approx(calculate_sharpe_ratio(returns), rel=1e-12, nan_ok=True)


@given(st.lists(st.integers(-5000, 5000), min_size=3, max_size=30), st.integers(-8, 0))
def test_measures_against_a_benchmark_follow_the_size_of_a_position(basis_points, power):
    """A share of the same account has that share's beta and deviations, and the same Treynor and R squared."""
    share, benchmark = 2.0**power, np.array([n / 10_000 for n in basis_points])
    excess = np.roll(benchmark, 1)
    whole, part = (
        run(equity=np.cumprod([1.0, *(1.0 + by * excess)]), benchmark=benchmark, positions=np.ones(excess.size + 1))
        for by in (1.0, share)
    )
    for name in ("beta", "treynor", "r_squared", "downside_deviation", "sortino"):
        expected = whole[name] * (share if name in ("beta", "downside_deviation") else 1.0)
        if not math.isnan(part[name]):
            assert part[name] == pytest.approx(expected, rel=1e-6, abs=1e-9), name


@given(st.lists(st.integers(-9000, 9000), min_size=1, max_size=20), st.floats(0.01, 100.0))
def test_measures_of_trades_do_not_depend_on_the_currency(basis_points, rate):
    shares = [n / 10_000 for n in basis_points]
    ours, theirs = (run(pnl=[p * by for p in shares], trade_returns=shares) for by in (1.0, rate))
    for name in ("payoff_ratio", "win_streak", "loss_streak", "avg_win", "avg_loss", "win_rate", "kelly"):
        assert theirs[name] == pytest.approx(ours[name], nan_ok=True), name
    assert theirs["profit_factor"] == pytest.approx(ours["profit_factor"], nan_ok=True)


# ---- the functions of the plan ---------------------------------------------------------------------------------------


def test_public_functions_by_hand():
    assert calculate_total_return([100.0, 50.0, 120.0]) == pytest.approx(0.2)
    assert calculate_max_drawdown([100.0, 120.0, 90.0, 130.0]) == pytest.approx(-0.25)
    assert calculate_sharpe_ratio([0.01, 0.03], periods_per_year=4) == pytest.approx(0.02 / math.sqrt(0.0002) * 2)


@pytest.mark.parametrize("seed", range(5))
def test_public_functions_equal_their_plain_twins(seed):
    equity = plain.random_bars(seed, 300)["Close"]
    returns = equity.pct_change().dropna()
    assert calculate_total_return(equity) == plain.calculate_total_return(equity.tolist())
    assert calculate_max_drawdown(equity) == plain.calculate_max_drawdown(equity.tolist())
    for risk_free, periods in [(0.0, 252), (0.05, 12), (-0.01, 365)]:
        given = calculate_sharpe_ratio(returns, risk_free=risk_free, periods_per_year=periods)
        assert given == pytest.approx(plain.calculate_sharpe_ratio(returns.tolist(), risk_free, periods), rel=1e-12)


def test_account_may_be_small_and_end_at_zero():
    assert calculate_total_return([0.5, 0.25]) == calculate_max_drawdown([0.5, 0.25]) == -0.5
    assert calculate_total_return([100.0, 0.0]) == calculate_max_drawdown([100.0, 0.0]) == -1.0


def test_flat_account_has_a_return_and_a_drawdown_of_plain_zero():
    for function in (calculate_total_return, calculate_max_drawdown):
        assert str(function([100.1] * 3)) == "0.0"


def test_sharpe_of_one_return_is_undefined():
    assert math.isnan(calculate_sharpe_ratio([0.01])) and math.isnan(calculate_sharpe_ratio([]))


@pytest.mark.parametrize("returns", [[0.1, NAN], [0.1, math.inf], [[0.1, 0.2]], 0.1], ids=repr)
def test_sharpe_refuses_what_is_no_series_of_returns(returns):
    with pytest.raises(ParameterError, match=r"^returns must be one-dimensional and finite, got (shape|nan at|inf at)"):
        calculate_sharpe_ratio(returns)


@pytest.mark.parametrize(
    ("equity", "message"),
    [
        ([], r"not empty, got shape \(0,\)"),
        ([[1.0, 2.0]], r"one-dimensional and finite, got shape \(1, 2\)"),
        ([1.0, NAN], "finite"),
        ([1.0, math.inf], "finite"),
        ([0.0, 1.0], "start above 0 .* minimum of 0.0"),
        ([1.0, -2.0], "never be negative, got a minimum of -2.0"),
    ],
    ids=["empty", "two dimensions", "NaN", "infinite", "starts at 0", "negative"],
)
@pytest.mark.parametrize("function", [calculate_total_return, calculate_max_drawdown])
def test_account_functions_refuse_what_is_no_account(function, equity, message):
    with pytest.raises(ParameterError, match=f"^equity must .*{message}"):
        function(equity)


def test_drawdown_is_exactly_zero_at_every_high():
    assert drawdown_of(np.array([0.1, 0.3, 0.3, 0.15])).tolist() == [0.0, 0.0, 0.0, -0.5]


# ---- how they are described and shown --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_metric_states_its_formula_and_basis(name):
    entry = METRICS[name]
    assert any(basis in entry.formula for basis in ("per bar", "per trade", "per fill", "whole run"))
    assert entry.formula == " ".join(inspect.getdoc(entry.function).split())
    assert entry.unit in {"fraction", "ratio", "multiple", "count", "currency", "bars"} and entry.label


def test_every_argument_of_a_metric_is_explained_at_the_head_of_the_module():
    explained = inspect.getdoc(metrics_module)
    for name in {argument for entry in METRICS.values() for argument in entry.arguments}:
        assert name in METRICS or name in explained


def test_groups_hold_every_metric_once():
    groups = group_metrics(run())
    assert list(groups) == ["Return", "Risk", "Ratios", "Trades", "Benchmark"]
    assert sorted(name for group in groups.values() for name in group) == sorted(NAMES)
    assert group_metrics({"sharpe": 1.0})["Ratios"] == {"sharpe": 1.0}


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0.1234, "fraction", f"12.3{SPACE}%"),
        (-0.1, "fraction", f"{MINUS}10.0{SPACE}%"),
        (-0.0004, "fraction", f"0.0{SPACE}%"),
        (0.0, "fraction", f"0.0{SPACE}%"),
        (12.3456, "fraction", f"1,234.6{SPACE}%"),
        (1.005, "ratio", "1.00"),
        (-1.239, "ratio", f"{MINUS}1.24"),
        (-0.004, "ratio", "0.00"),
        (2.34, "multiple", f"2.3{SPACE}\N{MULTIPLICATION SIGN}"),
        (1234567.8, "currency", "1,234,568"),
        (-1234.4, "currency", f"{MINUS}1,234"),
        (-0.4, "currency", "0"),
        (1234, "count", "1,234"),
        (12.0, "bars", f"12{WIDE}bars"),
        (12.34, "bars", f"12.3{WIDE}bars"),
        (1234.5, "price", "1,234.50"),
        (NAN, "ratio", "n/a"),
        (NAN, "bars", "n/a"),
        (math.inf, "fraction", "n/a"),
        (None, "currency", "n/a"),
    ],
)
def test_value_is_shown_in_its_unit_with_a_real_minus_and_no_negative_zero(value, unit, text):
    assert format_value(value, unit) == text


def test_metric_is_shown_in_its_own_unit():
    assert format_metric("max_drawdown", -0.187) == f"{MINUS}18.7{SPACE}%"
    assert format_metric("sharpe", NAN) == "n/a"
    assert format_metric("n_trades", 3) == "3"
