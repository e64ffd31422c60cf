"""What the engine must do: every fill and cost by hand, and what must hold whatever the prices and targets are."""

import math

import numpy as np
import pandas as pd
import plain
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backgrid.data import fetch_ohlcv
from backgrid.engine import FILLS, calculate_returns, run_backtest
from backgrid.errors import ParameterError, PricesError, TooFewBarsError
from backgrid.indicators import above, sma
from backgrid.metrics import calculate_max_drawdown, calculate_sharpe_ratio, calculate_total_return
from backgrid.strategies import STRATEGIES, calculate_ma_crossover_signals

every_fill = pytest.mark.parametrize("fill", FILLS)
ALL_COSTS = {"fees": 0.002, "slippage": 0.003, "fixed_fee": 5.0}
RATIOS = ["sharpe", "sortino", "calmar", "omega", "profit_factor", "sqn", "kelly", "tail_ratio", "information_ratio"]
CONSTANTS = [100.0, 100.1, 0.1, 1 / 3, 1e-8, 1e8 / 3]


def run_free(prices, targets, **more):
    """A run without costs on 1,000 of cash, filled at the close of the signal unless said otherwise."""
    return run_backtest(prices, targets, **{"fill": "close", "cash": 1000.0, **more})


# ---- one signal, one fill --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fill", "equity", "trade"),
    [
        # bought at Close[0] = 100, sold at Close[2] = 150
        ("close", [1000.0, 1250.0, 1500.0, 1500.0], (0, 2, 10.0, 100.0, 150.0)),
        # bought at Open[1] = 100, sold at Open[3] = 175
        ("next_open", [1000.0, 1250.0, 1500.0, 1750.0], (1, 3, 10.0, 100.0, 175.0)),
        # bought at Close[1] = 125, sold at Close[3] = 200
        ("next_close", [1000.0, 1000.0, 1200.0, 1600.0], (1, 3, 8.0, 125.0, 200.0)),
    ],
)
def test_each_fill_trades_at_its_own_price(bars, fill, equity, trade):
    prices = bars(close=[100.0, 125.0, 150.0, 200.0], open=[90.0, 100.0, 120.0, 175.0])
    result = run_free(prices, [1.0, 1.0, 0.0, 0.0], fill=fill)
    assert result.equity.tolist() == equity
    columns = ["entry_bar", "exit_bar", "units", "entry_price", "exit_price"]
    assert [tuple(row) for row in result.trades[columns].to_numpy()] == [trade]


def test_signal_earns_the_next_bar_not_its_own(bars):
    """A signal at the close of a jump must not earn that jump."""
    prices, signals = bars(close=[100.0, 110.0, 121.0]), pd.Series([0.0, 1.0, 1.0])
    assert calculate_returns(prices, signals, fill="close").tolist() == pytest.approx([0.0, 0.0, 0.1])
    assert run_free(prices, signals).returns.tolist() == pytest.approx([0.0, 0.1])


@pytest.mark.parametrize(("fill", "last_trade"), [("close", 3), ("next_open", 2), ("next_close", 2)])
def test_signal_of_the_last_bar_trades_only_at_its_own_close(bars, fill, last_trade):
    prices = bars(close=[100.0, 100.0, 100.0, 100.0])
    for bar in range(4):
        targets = np.zeros(4)
        targets[bar:] = 1.0
        assert len(run_free(prices, targets, fill=fill).trades) == (bar <= last_trade)


def test_position_is_its_share_of_the_equity_at_the_close(bars):
    result = run_free(bars(close=[100.0, 200.0, 100.0, 100.0]), [0.5, 0.5, 0.0, 0.0])
    assert result.positions.tolist() == pytest.approx([0.5, 1000 / 1500, 0.0, 0.0])


# ---- costs -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("costs", "units", "entry", "exit_", "fees", "left"),
    [
        ({"fees": 0.25}, 8.0, 100.0, 100.0, 200.0 + 200.0, 600.0),  # 1000 / (100 * 1.25)
        ({"slippage": 0.25}, 8.0, 125.0, 75.0, 0.0, 600.0),  # 1000 / 125
        ({"fixed_fee": 100.0}, 9.0, 100.0, 100.0, 200.0, 800.0),  # (1000 - 100) / 100
        # 960 / (128 * 1.25); entry 768 + 192 + 40 = 1000; exit 432 - 108 - 40
        ({"fees": 0.25, "slippage": 0.28, "fixed_fee": 40.0}, 6.0, 128.0, 72.0, 232.0 + 148.0, 284.0),
    ],
    ids=["fees", "slippage", "fixed fee", "all"],
)
@every_fill
def test_round_trip_costs_what_a_hand_gets(bars, fill, costs, units, entry, exit_, fees, left):
    result = run_free(bars(close=[100.0] * 4), [1.0, 0.0, 0.0, 0.0], fill=fill, **costs)
    assert result.equity.iloc[-1] == pytest.approx(left)
    trade = result.trades.iloc[0]
    assert trade[["units", "entry_price", "exit_price", "fees"]].tolist() == pytest.approx([units, entry, exit_, fees])
    assert trade["pnl"] == pytest.approx(left - 1000.0)
    assert trade["trade_return"] == pytest.approx((left - 1000.0) / (units * entry))
    assert result.metrics["fees_paid"] == pytest.approx(fees)


def test_slippage_of_a_short_moves_both_prices_against_it(bars):
    """Sold at 75, bought back at 125: 1000 / 75 units lose 50 each."""
    trade = run_free(
        bars(close=[100.0] * 3), [-1.0, 0.0, 0.0], slippage=0.25, fill="next_close", cash=30.0
    ).trades.iloc[0]
    assert trade[["entry_price", "exit_price", "units", "pnl"]].tolist() == pytest.approx([75.0, 125.0, -0.4, -20.0])


@every_fill
@given(fees=st.floats(0.0, 0.5), slippage=st.floats(0.0, 0.5), fixed_fee=st.floats(0.0, 900.0), seed=st.integers(0, 99))
def test_a_full_target_spends_the_account_to_zero_and_never_below(fill, fees, slippage, fixed_fee, seed):
    prices = plain.random_bars(seed, 5)
    result = run_free(prices, [1.0] * 5, fill=fill, fees=fees, slippage=slippage, fixed_fee=fixed_fee)
    worth = result.trades["units"].iloc[0] * prices["Close"]
    assert result.equity[2:].tolist() == pytest.approx(worth[2:].tolist(), rel=1e-12)


def test_fee_above_the_account_buys_nothing(bars):
    for fixed_fee in (1000.0, 5000.0):
        result = run_free(bars(close=[100.0] * 4), [1.0, -1.0, 1.0, 0.5], fixed_fee=fixed_fee)
        assert result.equity.tolist() == [1000.0] * 4 and result.trades.empty


@every_fill
@pytest.mark.parametrize("targets", [[0.0, 1.0], [-1.0, 0.0], [-1.0, 1.0]], ids=["long", "short", "both"])
def test_final_equity_never_rises_with_the_fee(fill, targets):
    prices, signals = plain.random_bars(5), plain.random_targets(5, values=targets)
    finals = [run_free(prices, signals, fill=fill, fees=fees).equity.iloc[-1] for fees in np.linspace(0.0, 0.02, 41)]
    assert (np.diff(finals) < 0.0).all()


# ---- changes of position ---------------------------------------------------------------------------------------------


def test_change_of_sign_closes_first_then_opens_with_what_is_left(bars):
    """8 units cost 800 + 200; sold for 800 - 200 = 600; then 600 / 125 = 4.8 units short for a fee of 120."""
    result = run_free(bars(close=[100.0] * 4), [1.0, -1.0, -1.0, -1.0], fees=0.25, fill="next_open")
    assert result.equity.tolist() == pytest.approx([1000.0, 800.0, 480.0, 480.0])
    assert result.trades["units"].tolist() == pytest.approx([8.0, -4.8])
    assert result.trades["exit_bar"].tolist() == [2, 3] and result.trades["entry_bar"].tolist() == [1, 2]
    assert result.trades["exit_reason"].tolist() == ["signal", "open"]


def test_units_are_kept_while_the_target_stays(bars):
    """Half of 1,000 buys 5 units at 100; at 300 they are three quarters of the account, and still 5."""
    result = run_free(bars(close=[100.0, 200.0, 300.0]), [0.5, 0.5, 0.5])
    assert result.equity.tolist() == [1000.0, 1500.0, 2000.0]
    assert result.positions.iloc[-1] == 0.75


def test_larger_target_of_the_same_sign_adds_to_the_trade(bars):
    """5 units at 100; 1,500 at a price of 200 makes 7.5: 2.5 more, at a mean of (500 + 500) / 7.5."""
    result = run_free(bars(close=[100.0, 200.0, 100.0, 100.0]), [0.5, 1.0, 1.0, 0.0])
    assert result.equity.tolist() == [1000.0, 1500.0, 750.0, 750.0]
    trade = result.trades.iloc[0]
    assert trade[["units", "entry_price", "exit_price", "pnl"]].tolist() == pytest.approx(
        [7.5, 1000 / 7.5, 100.0, -250.0]
    )
    assert result.metrics["n_trades"] == 1


def test_smaller_target_of_the_same_sign_sells_a_part_of_the_trade(bars):
    """10 units at 100; half of 2,000 at 200 is 5: 5 sold at 200, the rest at 300."""
    result = run_free(bars(close=[100.0, 200.0, 300.0, 300.0]), [1.0, 0.5, 0.0, 0.0])
    assert result.equity.tolist() == [1000.0, 2000.0, 2500.0, 2500.0]
    trade = result.trades.iloc[0]
    assert trade[["units", "exit_price", "pnl", "bars_held"]].tolist() == [10.0, 250.0, 1500.0, 2]


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_costs_never_turn_a_trade_around(bars, sign):
    """A hair more is wanted, but after fees the formula would hold less: nothing is traded."""
    result = run_free(bars(close=[100.0] * 4), [0.5 * sign, 0.5001 * sign, 0.5001 * sign, 0.0], fees=0.01)
    assert result.trades["fees"].iloc[0] == pytest.approx(2 * 0.01 * 500 / 1.01)  # one entry, one exit


def test_short_earns_what_the_price_loses(bars):
    result = run_free(bars(close=[100.0, 80.0, 120.0]), [-1.0, -1.0, -1.0])
    assert result.equity.tolist() == [1000.0, 1200.0, 800.0]
    assert result.positions.tolist() == pytest.approx([-1.0, -800 / 1200, -1200 / 800])
    assert result.trades.iloc[0][["units", "pnl", "trade_return"]].tolist() == [-10.0, -200.0, -0.2]


@pytest.mark.parametrize(("target", "units", "equity"), [(1.0, 3.0, 1300.0), (-1.0, -3.0, 700.0), (0.7, 2.0, 1200.0)])
def test_whole_units_are_rounded_towards_zero(bars, target, units, equity):
    result = run_free(bars(close=[300.0, 400.0]), [target, target], whole_units=True)
    assert result.trades["units"].tolist() == [units]
    assert result.equity.tolist() == [1000.0, equity]


def test_account_too_small_for_one_unit_does_not_trade(bars):
    result = run_free(bars(close=[1001.0, 1001.0]), [1.0, 1.0], whole_units=True)
    assert result.trades.empty and result.equity.tolist() == [1000.0, 1000.0]


# ---- the end ---------------------------------------------------------------------------------------------------------


def test_open_trade_is_valued_at_the_last_close_and_counted_but_not_judged(bars):
    result = run_free(bars(close=[100.0, 110.0, 130.0]), [1.0, 1.0, 1.0])
    trade = result.trades.iloc[0]
    assert trade[["exit_bar", "exit_price", "pnl", "exit_reason"]].tolist() == [2, 130.0, 300.0, "open"]
    assert result.metrics["n_trades"] == 1 and math.isnan(result.metrics["win_rate"])


@every_fill
def test_account_used_up_ends_the_run(bars, fill):
    """10 units short at 100 are worth -2,000 at 200: nothing is left, and nothing comes back."""
    prices = bars(close=[100.0, 100.0, 200.0, 50.0, 20.0])
    result = run_free(prices, [-1.0, -1.0, -1.0, 1.0, 1.0], fill=fill)
    assert result.equity.tolist() == [1000.0, 1000.0, 0.0, 0.0, 0.0]
    assert result.positions.tolist()[2:] == [0.0, 0.0, 0.0]
    assert result.returns.tolist() == [0.0, -1.0, 0.0, 0.0]
    assert result.trades[["exit_bar", "exit_price", "exit_reason"]].to_numpy().tolist() == [[2, 200.0, "ruin"]]
    assert (result.metrics["total_return"], result.metrics["max_drawdown"]) == (-1.0, -1.0)


@pytest.mark.parametrize(
    ("closes", "targets", "costs"),
    [
        ([100.0, 250.0, 250.0], [-1.0, 0.0, 0.0], {}),  # bought back at 250 what was sold at 100
        ([100.0, 250.0, 250.0], [-1.0, 1.0, 1.0], {}),
        ([100.0, 10.0, 10.0], [1.0, 0.0, 0.0], {"fixed_fee": 200.0}),  # the fee is more than the sale brings
    ],
    ids=["flat", "change of sign", "fee"],
)
def test_account_used_up_by_a_fill_says_ruin_too(bars, closes, targets, costs):
    result = run_free(bars(close=closes), targets, **costs)
    assert result.equity.tolist()[1:] == [0.0, 0.0]
    assert result.trades["exit_reason"].tolist() == ["ruin"]


# ---- what may be given as a strategy ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "targets",
    [
        [0, 1, 1, 0],
        (0.0, 1.0, 1.0, 0.0),
        np.array([False, True, True, False]),
        np.array([0.0, 1.0, 1.0, np.nan]),
        np.array([0, 1, 1, 0], dtype=np.int8),
        pd.Series([0.0, 1.0, 1.0, 0.0]),
        pd.Series([None, True, True, False], dtype="boolean"),
        pd.Series([None, 1, 1, 0], dtype="Int64"),
        lambda prices: pd.Series([True, True, False, False], index=prices.index).shift(1),  # NaN among bools
        lambda prices: prices["Close"] > prices["Open"].iloc[0] + 5.0,
        lambda close: np.array([0.0, 1.0, 1.0, 0.0]),
        lambda prices: [np.nan, 1.0, 1.0, 0.0],
    ],
    ids=[
        "list",
        "tuple",
        "bools",
        "NaN is flat",
        "int8",
        "positional Series",
        "NA",
        "NA of Int64",
        "shifted bools",
        "bool Series",
        "close",
        "function",
    ],
)
def test_every_form_of_the_same_targets_gives_the_same_run(bars, targets):
    result = run_free(bars(close=[100.0, 110.0, 121.0, 100.0], open=[100.0] * 4), targets)
    assert result.equity.tolist() == pytest.approx([1000.0, 1000.0, 1100.0, 1000 * 100 / 110])


def test_series_on_the_dates_of_the_prices_is_taken_whatever_their_resolution(bars):
    prices = bars(close=[100.0, 110.0, 121.0])
    targets = pd.Series([0.0, 1.0, 1.0], index=prices.index.as_unit("s"))
    assert run_free(prices, targets).equity.iloc[-1] == pytest.approx(1100.0)


def test_names_and_parameters_of_a_strategy_are_kept(aapl):
    def dip(prices, *, depth=0.02, lag=1):
        return prices["Close"].pct_change(lag) < -depth

    result = run_backtest(aapl, dip, params={"lag": np.int64(3)})
    assert (result.strategy, result.params) == ("dip", {"depth": 0.02, "lag": 3})
    assert type(result.params["lag"]) is int
    assert run_backtest(aapl).strategy == "ma_crossover"
    assert run_backtest(aapl).params == {"fast_window": 20, "slow_window": 50}
    assert run_backtest(aapl, np.ones(250)).strategy == "signals"


def test_array_as_a_parameter_is_kept(aapl):
    """A strategy may take weights; only writing them as JSON needs a list."""

    def weighted(prices, *, weights=None):
        return sma(prices["Close"], len(weights)) < prices["Close"]

    weights = np.array([0.5, 0.5])
    result = run_backtest(aapl, weighted, params={"weights": weights})
    weights[:] = 9.0  # the result has its own
    assert result.params["weights"].tolist() == [0.5, 0.5]


def test_named_strategy_is_its_function(aapl):
    assert run_backtest(aapl, "buy_and_hold") == run_backtest(aapl, STRATEGIES["buy_and_hold"])


def test_engine_trades_the_public_signals(aapl):
    by_name = run_backtest(aapl, "ma_crossover", params={"fast_window": 5, "slow_window": 20})
    by_hand = run_backtest(aapl, calculate_ma_crossover_signals(aapl["Close"], 5, 20))
    assert by_name.equity.equals(by_hand.equity)


@pytest.mark.parametrize("argument", ["prices", "close"])
def test_strategy_cannot_change_the_prices_of_the_caller_or_of_the_engine(bars, argument):
    def vandal_prices(prices):
        prices["Close"] = 1.0
        prices.loc[prices.index[0], "Open"] = 7.0
        prices.attrs["symbol"] = "HACKED"
        return [1.0] * len(prices)

    def vandal_close(close):
        close.iloc[:] = 1.0
        return [1.0] * len(close)

    prices = bars(close=[100.0, 110.0, 121.0])
    prices.attrs["symbol"] = "AAPL"
    before = prices.copy()
    result = run_free(prices, {"prices": vandal_prices, "close": vandal_close}[argument])
    pd.testing.assert_frame_equal(prices, before)
    assert prices.attrs == {"symbol": "AAPL"}
    assert result.equity.tolist() == pytest.approx([1000.0, 1100.0, 1210.0])


def test_engine_keeps_no_hold_of_the_callers_targets(bars):
    targets = np.array([1.0, np.nan, 1.0])
    run_free(bars(close=[100.0, 110.0, 121.0]), targets)
    assert targets.tolist() == pytest.approx([1.0, np.nan, 1.0], nan_ok=True)


def test_series_of_closes_works_with_the_close_fills(aapl):
    for fill in ("close", "next_close"):
        assert run_backtest(aapl["Close"], fill=fill).equity.equals(run_backtest(aapl, fill=fill).equity)


def test_result_knows_symbol_source_and_settings(aapl):
    result = run_backtest(aapl, fees=0.001, whole_units=True)
    assert result.symbol == "AAPL" and result.data["source"] == "sample"
    assert result.settings == {
        "fill": "next_open",
        "fees": 0.001,
        "slippage": 0.0,
        "fixed_fee": 0.0,
        "cash": 100_000.0,
        "whole_units": True,
        "leverage": 1.0,
        "cash_rate": 0.0,
        "borrow_rate": 0.0,
        "risk_free": 0.0,
        "sizing": "fraction",
        "size": 1.0,
        "lookback": 60,
        "rebalance": None,
        "periods_per_year": 252,
        "stop_loss": None,
        "take_profit": None,
        "trailing_stop": None,
        "benchmark": "holding",
    }


# ---- metrics of a run ------------------------------------------------------------------------------------------------


def test_metrics_are_those_of_the_public_functions(aapl):
    result = run_backtest(aapl, fees=0.001, risk_free=0.02)
    assert result.metrics["total_return"] == calculate_total_return(result.equity)
    assert result.metrics["max_drawdown"] == calculate_max_drawdown(result.equity)
    assert result.metrics["sharpe"] == calculate_sharpe_ratio(result.returns, risk_free=0.02)


def test_periods_per_year_may_be_given(aapl):
    given_, found = run_backtest(aapl, periods_per_year=63), run_backtest(aapl)
    assert given_.metrics["sharpe"] == pytest.approx(found.metrics["sharpe"] / 2.0)


def test_turnover_is_traded_value_over_the_equity_at_the_close_before(bars):
    """10 units for 1,000 of 1,000, sold for 1,320 when 1,210 was the last value, in 4 bars of a year of 8."""
    prices = bars(close=[100.0, 110.0, 121.0, 140.0, 140.0], open=[100.0, 100.0, 110.0, 132.0, 140.0])
    result = run_free(prices, [1.0, 1.0, 0.0, 0.0, 0.0], fill="next_open", periods_per_year=8)
    assert result.metrics["turnover"] == pytest.approx((1000 / 1000 + 1320 / 1210) * 8 / 4)


def test_trade_metrics_are_of_closed_trades(bars):
    """+100 on 1,000 over two bars, -110 on 1,100 over one, and one still open."""
    prices = bars(close=[100.0, 105.0, 110.0, 100.0, 90.0, 90.0, 95.0])
    metrics = run_free(prices, [1.0, 1.0, 0.0, 1.0, 0.0, 1.0, 1.0]).metrics
    expected = {
        "n_trades": 3,
        "win_rate": 0.5,
        "expectancy": -5.0,
        "best_trade": 0.1,
        "worst_trade": -0.1,
        "avg_trade_duration": 1.5,
        "profit_factor": 100 / 110,
        "exposure": 5 / 7,
    }
    assert {name: metrics[name] for name in expected} == pytest.approx(expected)


def test_benchmark_is_the_symbol_itself_unless_another_is_given(bars):
    prices, other = bars(close=[100.0, 110.0, 120.0]), bars(close=[10.0, 10.0, 15.0])
    assert run_free(prices, [0.0, 0.0, 0.0]).benchmark.tolist() == pytest.approx([1000.0, 1100.0, 1200.0])
    for benchmark in (other, other["Close"], bars(close=[10.0, 10.0, 15.0, 99.0])):
        result = run_free(prices, [0.0, 0.0, 0.0], benchmark=benchmark)
        assert result.benchmark.tolist() == pytest.approx([1000.0, 1000.0, 1500.0])
        assert result.metrics["benchmark_return"] == pytest.approx(0.5)


def test_holding_the_benchmark_itself_has_beta_one_and_no_information_ratio(aapl):
    """Both hold the same units: their returns differ in the last bit only."""
    metrics = run_backtest(aapl, "buy_and_hold", fill="close").metrics
    assert metrics["beta"] == pytest.approx(1.0) and metrics["alpha"] == pytest.approx(0.0, abs=1e-12)
    assert math.isnan(metrics["information_ratio"])


# ---- what holds for any prices and targets ---------------------------------------------------------------------------


@every_fill
def test_equity_starts_at_cash_and_grows_by_the_returns(fill):
    for seed in range(20):
        result = run_free(plain.random_bars(seed), plain.random_targets(seed), fill=fill, **ALL_COSTS)
        assert result.equity.iloc[0] == 1000.0 and len(result.returns) == len(result.equity) - 1
        grown = 1000.0 * (1.0 + result.returns).cumprod()
        assert result.equity[1:].tolist() == pytest.approx(grown.tolist(), rel=1e-12)


@every_fill
def test_all_in_or_flat_earns_what_calculate_returns_says(fill):
    for seed in range(20):
        prices, signals = plain.random_bars(seed), plain.random_targets(seed, values=[0.0, 1.0])
        earned = calculate_returns(prices, signals, fill=fill)
        assert run_free(prices, signals, fill=fill).returns.tolist() == pytest.approx(earned[1:].tolist(), abs=1e-12)


def test_returns_at_the_close_are_the_textbook_product(aapl):
    signals = plain.random_targets(3, 250)
    textbook = (pd.Series(signals, index=aapl.index).shift(1) * aapl["Close"].pct_change()).fillna(0.0)
    assert calculate_returns(aapl, signals, fill="close").tolist() == pytest.approx(textbook.tolist(), abs=1e-15)


@every_fill
def test_calculate_returns_equals_its_plain_twin(fill):
    for seed in range(10):
        prices, signals = plain.random_bars(seed), plain.random_targets(seed)
        expected = plain.calculate_returns(prices["Open"].tolist(), prices["Close"].tolist(), signals, fill)
        assert calculate_returns(prices, signals, fill=fill).tolist() == pytest.approx(expected, abs=1e-14)


@every_fill
def test_what_the_trades_won_is_what_the_account_gained(fill):
    for seed in range(20):
        result = run_free(plain.random_bars(seed), plain.random_targets(seed), fill=fill, whole_units=True, **ALL_COSTS)
        gained = result.equity.iloc[-1] - 1000.0
        assert result.trades["pnl"].sum() == pytest.approx(gained, abs=1e-9)
        assert result.trades["fees"].sum() == pytest.approx(result.metrics["fees_paid"], rel=1e-12)


@pytest.mark.parametrize(("fill", "column"), [("close", "Close"), ("next_open", "Open"), ("next_close", "Close")])
def test_trades_start_and_end_at_a_price_of_their_bar_moved_by_slippage(fill, column):
    prices, signals = plain.random_bars(7), plain.random_targets(7, values=[-1.0, 0.0, 1.0])
    trades = run_free(prices, signals, fill=fill, slippage=0.003).trades
    side = np.sign(trades["units"])
    closed = trades["exit_reason"] == "signal"
    entry, exit_ = prices[column].to_numpy()[trades["entry_bar"]], prices[column].to_numpy()[trades["exit_bar"]]
    assert closed.sum() > 10
    assert trades["entry_price"].tolist() == pytest.approx((entry * (1 + side * 0.003)).tolist(), rel=1e-12)
    assert trades["exit_price"][closed].tolist() == pytest.approx(
        (exit_ * (1 - side * 0.003))[closed].tolist(), rel=1e-12
    )


@every_fill
def test_bars_after_the_end_change_nothing_before_it(fill):
    """Dropped or changed: to the bit the same."""
    prices, signals = plain.random_bars(11), plain.random_targets(11)
    whole = run_free(prices, signals, fill=fill, **ALL_COSTS)
    for n_bars in (2, 3, 50, 119):
        changed = pd.concat([prices[:n_bars], prices[n_bars:] * 1.5])
        flipped = np.concatenate([signals[:n_bars], -signals[n_bars:]])
        cut = run_free(prices[:n_bars], signals[:n_bars], fill=fill, **ALL_COSTS)
        other = run_free(changed, flipped, fill=fill, **ALL_COSTS)
        for name in ("equity", "positions"):
            expected = getattr(whole, name)[:n_bars].to_numpy().tobytes()
            assert getattr(cut, name).to_numpy().tobytes() == expected
            assert getattr(other, name)[:n_bars].to_numpy().tobytes() == expected
        done = whole.trades[(whole.trades["exit_bar"] < n_bars) & (whole.trades["exit_reason"] == "signal")]
        assert cut.trades[cut.trades["exit_reason"] == "signal"].equals(done)


@every_fill
def test_no_signal_leaves_the_cash_untouched_to_the_bit(aapl, fill):
    result = run_backtest(aapl, np.zeros(250), fill=fill, **ALL_COSTS)
    assert (result.equity == 100_000.0).all() and result.trades.empty
    assert str(result.metrics["max_drawdown"]) == str(result.metrics["total_return"]) == "0.0"
    assert all(math.isnan(result.metrics[name]) for name in RATIOS if name != "information_ratio")


def test_held_from_the_first_bar_it_grows_from_the_second_open_to_the_last_close(aapl):
    result = run_backtest(aapl, "buy_and_hold")
    assert result.equity.iloc[-1] == pytest.approx(100_000.0 * aapl["Close"].iloc[-1] / aapl["Open"].iloc[1], rel=1e-12)


@every_fill
@pytest.mark.parametrize("power", [-7, 3])
def test_prices_in_another_power_of_two_give_the_same_account_to_the_bit(fill, power):
    prices, signals = plain.random_bars(13), plain.random_targets(13)
    small = run_free(prices, signals, fill=fill, **ALL_COSTS)
    large = run_free(prices * 2.0**power, signals, fill=fill, **ALL_COSTS)
    assert large.equity.equals(small.equity) and large.positions.equals(small.positions)
    assert (large.trades["units"] * 2.0**power).equals(small.trades["units"])


@pytest.mark.parametrize("factor", [10.0, 1 / 3])
def test_prices_in_another_currency_give_the_same_returns(factor):
    prices, signals = plain.random_bars(13), plain.random_targets(13)
    result = run_free(prices * factor, signals, fees=0.002, slippage=0.003)
    assert result.equity.tolist() == pytest.approx(
        run_free(prices, signals, fees=0.002, slippage=0.003).equity, rel=1e-12
    )


def test_more_cash_gives_the_same_returns():
    prices, signals = plain.random_bars(17), plain.random_targets(17)
    cents, millions = (run_free(prices, signals, fees=0.002, cash=cash) for cash in (0.01, 1e7))
    assert millions.returns.tolist() == pytest.approx(cents.returns.tolist(), abs=1e-12)
    assert millions.positions.tolist() == pytest.approx(cents.positions.tolist(), abs=1e-12)


def test_dates_moved_by_weeks_give_the_same_numbers(aapl):
    moved = aapl.set_axis(aapl.index + pd.Timedelta(weeks=520), axis=0)
    here, there = run_backtest(aapl, fees=0.001), run_backtest(moved, fees=0.001)
    assert there.equity.tolist() == here.equity.tolist()
    assert repr(there.metrics) == repr(here.metrics)


def test_two_runs_joined_where_both_are_flat_multiply():
    prices, signals = plain.random_bars(19, 100), plain.random_targets(19, 100)
    signals[[48, 49]] = 0.0
    growth = [
        run_free(part, targets, fees=0.002).equity.iloc[-1] / 1000.0
        for part, targets in [(prices, signals), (prices[:50], signals[:50]), (prices[50:], signals[50:])]
    ]
    assert growth[0] == pytest.approx(growth[1] * growth[2], rel=1e-12)


@pytest.mark.parametrize("constant", CONSTANTS)
def test_constant_price_gives_no_trades_and_no_ratios(bars, constant):
    result = run_backtest(bars(close=[constant] * 300), "ma_crossover")
    assert result.trades.empty and (result.equity == 100_000.0).all()
    assert all(math.isnan(result.metrics[name]) for name in RATIOS)


@pytest.mark.parametrize("constant", CONSTANTS)
def test_holding_a_constant_price_has_no_ratio_either(bars, constant):
    result = run_backtest(bars(close=[constant] * 300), "buy_and_hold")
    assert result.equity.tolist() == pytest.approx([100_000.0] * 300, rel=1e-15)
    assert all(math.isnan(result.metrics[name]) for name in RATIOS)


@every_fill
def test_two_bars_are_enough(bars, fill):
    result = run_backtest(bars(close=[100.0, 110.0]), "ma_crossover", params={"fast_window": 1, "slow_window": 2})
    assert result.equity.tolist() == [100_000.0, 100_000.0] and result.trades.empty
    held = run_free(bars(close=[100.0, 110.0], open=[100.0, 100.0]), [1.0, 1.0], fill=fill)
    assert held.equity.tolist() == pytest.approx([1000.0, 1000.0 if fill == "next_close" else 1100.0])
    assert all(math.isnan(held.metrics[name]) for name in RATIOS if name != "tail_ratio" or fill == "next_close")


@pytest.mark.parametrize("symbol", ["AAPL", "GOOG", "AMZN", "META", "NFLX", "NVDA", "^GSPC"])
def test_canary_that_knows_its_own_bar_earns_nothing_unless_the_engine_leaks(symbol):
    """Long where Close > Open: known a bar ahead it is worth a Sharpe above 6, which the engine must not give away."""
    prices = fetch_ohlcv(symbol, source="sample")
    rising = (prices["Close"] > prices["Open"]).astype(float)
    assert abs(run_backtest(prices, rising).metrics["sharpe"]) < 1.0
    assert run_backtest(prices, rising.shift(-1)).metrics["sharpe"] > 6.0


# ---- bad input -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"fill": "open"}, "unknown fill 'open'; did you mean 'next_open'?"),
        ({"fill": None}, "unknown fill None; known: close, next_close, next_open"),
        ({"fill": ["close"]}, "unknown fill"),
        ({"fees": -0.001}, "fees must be a number at least 0 and below 1, got -0.001"),
        ({"fees": 1.0}, "fees must be a number at least 0 and below 1, got 1.0"),
        ({"fees": "0.001"}, "fees must be a number at least 0 and below 1, got '0.001'"),
        ({"fees": True}, "fees must be a number"),
        ({"fees": np.nan}, "fees must be a number"),
        ({"slippage": 1.0}, "slippage must be a number at least 0 and below 1, got 1.0"),
        ({"slippage": -1e-9}, "slippage must be a number"),
        ({"fixed_fee": -1.0}, "fixed_fee must be a number at least 0, got -1.0"),
        ({"fixed_fee": np.inf}, "fixed_fee must be a number at least 0, got inf"),
        ({"cash": 0.0}, "cash must be a number above 0, got 0.0"),
        ({"cash": -5}, "cash must be a number above 0, got -5"),
        ({"cash": None}, "cash must be a number above 0, got None"),
        ({"cash": np.inf}, "cash must be a number above 0, got inf"),
        ({"risk_free": -1.0}, "risk_free must be a number above -1, got -1.0"),
        ({"periods_per_year": 0}, "periods_per_year must be a number above 0, got 0"),
        ({"whole_units": "yes"}, "whole_units must be True or False, got 'yes'"),
        ({"whole_units": 1}, "whole_units must be True or False, got 1"),
        ({"strategy": "ma_crosover"}, "unknown strategy 'ma_crosover'; did you mean 'ma_crossover'?"),
        ({"params": {"fast_windw": 5}}, "ma_crossover has no parameter 'fast_windw'; did you mean 'fast_window'?"),
        ({"params": [5]}, "params"),
        ({"params": {"fast_window": 50}}, "fast_window 50 must be below slow_window 50"),
        ({"params": {"fast_window": 60}}, "fast_window 60 must be below slow_window 50"),
        ({"params": {"fast_window": 0}}, "fast_window must be at least 1 bar, got 0"),
        ({"params": {"slow_window": -5}}, "slow_window must be at least 1 bar, got -5"),
        ({"params": {"fast_window": 2.5}}, "fast_window must be a whole number, got 2.5"),
        ({"params": {"fast_window": "10"}}, "fast_window must be a whole number, got '10'"),
        ({"params": {"fast_window": True}}, "fast_window must be a whole number, got True"),
        ({"params": {"fast_window": np.nan}}, "fast_window must be a whole number, got nan"),
        ({"params": {"slow_window": 1e9}}, "slow_window must be a whole number, got 1000000000.0"),
        ({"strategy": None}, "strategy: need one target position a bar, 250, got shape ()"),
        ({"strategy": [1.0] * 249}, "strategy: need one target position a bar, 250, got shape (249,)"),
        ({"strategy": np.ones((250, 1))}, "strategy: need one target position a bar, 250, got shape (250, 1)"),
        ({"strategy": [[1.0], [1.0, 2.0]]}, "strategy: target positions must be numbers, got [[1.0], [1.0, 2.0]]"),
        ({"strategy": ["long"] * 250}, "strategy: target positions must be numbers, got ['long', 'long', "),
        ({"strategy": ["1.0"] * 250}, "strategy: target positions must be numbers"),
        ({"strategy": np.full(250, 1j)}, "strategy: target positions must be numbers"),
        ({"strategy": pd.Series(["1.0"] * 250)}, "strategy: target positions must be numbers"),
        ({"strategy": [0.0, 1.5] * 125}, "strategy: target position 1.5 on 2023-01-04 is not in [-1, 1]"),
        ({"strategy": [0.0, -np.inf] * 125}, "strategy: target position -inf on 2023-01-04 is not in [-1, 1]"),
        (
            {"strategy": pd.DataFrame(np.ones((250, 1)))},
            "strategy: target positions must be one column, got a DataFrame",
        ),
        ({"strategy": np.ones(250), "params": {"fast_window": 5}}, "an array of target positions takes no params"),
        ({"strategy": lambda prices: 1.0}, "<lambda>: need one target position a bar, 250, got shape ()"),
        ({"strategy": lambda prices: None}, "<lambda>: need one target position a bar, 250, got shape ()"),
        ({"strategy": lambda prices: prices}, "<lambda>: target positions must be one column, got a DataFrame"),
        (
            {"strategy": lambda prices: prices["Close"]},
            "<lambda>: target position 123.47 on 2023-01-03 is not in [-1, 1]",
        ),
        (
            {"strategy": lambda prices: (prices["Close"] > 5)[1:]},
            "<lambda>: the index of the target positions is not that",
        ),
        ({"strategy": lambda: 1.0}, "strategy <lambda> must take the prices as its first parameter"),
        ({"strategy": lambda prices, window: 1.0}, "strategy <lambda>: window needs a default value"),
        ({"strategy": dict}, "dict"),
        ({"benchmark": [1.0, 2.0]}, "benchmark: prices must be a DataFrame of bars or a Series of closes, got list"),
    ],
    ids=lambda value: value[:60] if isinstance(value, str) else "",
)
def test_wrong_argument_is_refused_by_name(aapl, change, message):
    with pytest.raises(ParameterError) as caught:
        run_backtest(aapl, **change)
    assert message in str(caught.value) and len(str(caught.value)) < 400


@pytest.mark.parametrize(
    "reindex",
    [
        lambda index: index + pd.Timedelta(days=1),
        lambda index: index.tz_localize("UTC"),
        lambda index: index[::-1],
        lambda index: pd.Index(range(1, len(index) + 1)).astype(str),
    ],
    ids=["other dates", "time zone", "reversed", "text"],
)
def test_targets_on_another_index_are_refused(bars, reindex):
    prices = bars(close=[100.0, 110.0, 121.0])
    targets = pd.Series(1.0, index=reindex(prices.index))
    for function in (run_free, calculate_returns):
        with pytest.raises(ParameterError, match="the index of the target positions is not that of the prices"):
            function(prices, targets)


@pytest.mark.parametrize("windows", [(20, 50), (2, 10**9), (2, 10**400)], ids=["50", "1e9", "1e400"])
def test_window_longer_than_the_data_names_the_bars_and_the_window(bars, windows):
    params = {"fast_window": windows[0], "slow_window": windows[1]}
    with pytest.raises(
        TooFewBarsError, match=r"ma_crossover gave no signal in 40 bars \(.*slow_window=[15]0"
    ) as caught:
        run_backtest(bars(close=range(1, 41)), params=params)
    assert len(str(caught.value)) < 200


def test_array_without_any_signal_is_refused_too(bars):
    with pytest.raises(TooFewBarsError, match=r"^strategy gave no signal in 2 bars: give it more bars"):
        run_free(bars(close=[100.0, 110.0]), [np.nan, np.nan])


@pytest.mark.parametrize("n_bars", [0, 1])
def test_fewer_than_two_bars_are_refused_by_every_door(bars, n_bars):
    for function in (run_free, calculate_returns):
        with pytest.raises(TooFewBarsError, match=f"a backtest needs two bars at least, got {n_bars}"):
            function(bars(close=[100.0] * 2)[:n_bars], [1.0] * n_bars)


def test_bad_prices_are_refused_by_every_door(bars):
    prices = bars(close=[100.0, 110.0, 121.0])
    prices.iloc[1, 3] = np.nan
    for function in (run_free, calculate_returns):
        with pytest.raises(PricesError, match="Close is nan on 2023-01-03"):
            function(prices, [1.0] * 3)


def test_bad_benchmark_is_refused_by_name(bars):
    prices = bars(close=[100.0, 110.0, 121.0])
    with pytest.raises(ParameterError, match=r"^benchmark: Close is -1.0 on 2023-01-03"):
        run_free(prices, [1.0] * 3, benchmark=pd.Series([1.0, -1.0, 1.0], index=prices.index))
    with pytest.raises(ParameterError, match=r"^benchmark has no price on 2023-01-04: give every bar"):
        run_free(prices, [1.0] * 3, benchmark=prices[:2])
    with pytest.raises(ParameterError, match=r"^benchmark has no price on 2023-01-02"):
        run_free(prices, [1.0] * 3, benchmark=prices.tz_localize("UTC"))


def test_closes_alone_cannot_fill_at_an_open(aapl):
    for function in (run_backtest, calculate_returns):
        with pytest.raises(ParameterError, match="a Series of closes has no opens: use fill='close' or 'next_close'"):
            function(aapl["Close"], np.ones(250))


def test_calculate_returns_names_signals_and_fill():
    prices = plain.random_bars(0, 4)
    with pytest.raises(ParameterError, match="signals: need one target position a bar, 4, got shape"):
        calculate_returns(prices, [1.0] * 3)
    with pytest.raises(ParameterError, match="unknown fill 'nxt_open'; did you mean 'next_open'"):
        calculate_returns(prices, [1.0] * 4, fill="nxt_open")


def test_error_of_a_strategy_is_its_own():
    with pytest.raises(ZeroDivisionError):
        run_backtest(plain.random_bars(0, 4), lambda prices: 1 / 0)


def test_strategies_may_use_the_indicators(aapl):
    def golden(close, *, window=100):
        return above(close, sma(close, window))

    assert run_backtest(aapl, golden, params={"window": 50}).metrics["n_trades"] > 0


def test_strategy_sees_every_column_of_the_prices(aapl):
    wanted = aapl.assign(Wanted=1.0)
    result = run_backtest(wanted, lambda prices: prices["Wanted"])
    assert result.equity.equals(run_backtest(aapl, np.ones(len(aapl))).equity)


def test_result_says_what_it_is_compared_with(aapl):
    other = fetch_ohlcv("GOOG", "2022-12-01", "2023-09-20", source="sample")
    some = aapl.loc["2023-02-01":"2023-09-01"]
    assert run_backtest(some).settings["benchmark"] == "holding"
    assert run_backtest(some, benchmark=other).settings["benchmark"] == "GOOG"
    assert run_backtest(some, benchmark=other["Close"].copy().rename(None)).settings["benchmark"] in ("GOOG", "given")


# ---- what it is compared with ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("fill", FILLS)
def test_buy_and_hold_without_costs_is_holding(aapl, fill):
    result = run_backtest(aapl, "buy_and_hold", fill=fill)
    np.testing.assert_allclose(result.equity, result.benchmark, rtol=1e-12)


def test_benchmark_of_closes_is_bought_at_its_first_close(bars):
    prices = bars([10.0, 10.0, 11.0], open=[10.0, 8.0, 11.0])
    assert run_backtest(prices, [1, 1, 1], cash=80.0).benchmark.tolist() == [80.0, 100.0, 110.0]
    given = run_backtest(prices, [1, 1, 1], cash=80.0, benchmark=prices["Close"])
    assert given.benchmark.tolist() == [80.0, 80.0, 88.0]


# ---- a run again -----------------------------------------------------------------------------------------------------


def test_run_again_does_not_see_what_the_caller_changed_since(aapl):
    stops, other = np.full(250, 0.02), aapl["Close"].copy()
    result = run_backtest(aapl, np.ones(250), stop_loss=stops, benchmark=other)
    stops[:] = 0.5
    other.iloc[:] = 1.0
    assert result.again() == result


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"fee": 0.5}, "no setting 'fee'; did you mean 'fees'"),
        ({"strategy": "momentum"}, "no setting 'strategy'"),
        ({"delay": -1}, "delay must be at least 0"),
        ({"delay": 1.0}, "delay must be a whole number"),
        ({"fees": -1.0}, "fees must be"),
    ],
    ids=str,
)
def test_run_again_refuses_what_it_does_not_know(aapl, changed, says):
    with pytest.raises(ParameterError, match=says):
        run_backtest(aapl, np.ones(250)).again(**changed)


def test_run_later_than_its_last_bar_never_trades(aapl):
    assert run_backtest(aapl, np.ones(250)).again(delay=10_000).metrics["n_trades"] == 0


# ---- at the edges of numbers -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", [-1.0, -0.5, 0.5, 1.0])
@pytest.mark.parametrize("fixed_fee", [0.0, 1.0])
def test_rebalancing_at_a_constant_price_trades_no_more_than_twice(bars, target, fixed_fee):
    costs = {"fees": 0.001, "slippage": 0.0005, "fixed_fee": fixed_fee}
    result = run_backtest(bars(np.full(253, 100.0)), np.full(253, target), rebalance="bar", **costs)
    assert result.metrics["fees_paid"] < 2.2 * (100.0 * abs(target) + fixed_fee)


def test_price_that_grows_steadily_has_no_volatility_to_size_by(bars):
    prices = bars(100.0 * 1.0001 ** np.arange(100))
    result = run_backtest(prices, np.ones(100), sizing="volatility", size=0.1, leverage=50.0, lookback=10)
    assert result.metrics["n_trades"] == 0


def test_account_beyond_the_range_of_floats_is_refused(bars):
    with np.errstate(all="ignore"), pytest.raises(PricesError, match="range of floats"):
        run_backtest(bars(np.array([1.0, 2.0, 3.0, 4.0]) * 1e-305), np.ones(4))


def test_signals_cut_off_by_one_are_not_taken_by_place(aapl):
    signals = pd.Series(1.0, index=range(5, 255))
    with pytest.raises(ParameterError, match="index of the target positions is not that of the prices"):
        run_backtest(aapl, signals)


def test_position_beyond_one_by_rounding_is_one(aapl):
    run = run_backtest(aapl, np.full(250, np.nextafter(1.0, 2.0)))
    assert run.equity.equals(run_backtest(aapl, np.ones(250)).equity)


def test_equal_requests_in_other_types_give_equal_results(aapl):
    ours = run_backtest(aapl, np.ones(250), stop_loss=np.float32(0.25), take_profit=1)
    assert ours == run_backtest(aapl, np.ones(250), stop_loss=0.25, take_profit=1.0) and ours.to_json()
