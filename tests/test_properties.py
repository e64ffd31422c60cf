"""What holds for one backtest whatever the bars, targets and orders are.

Stands elsewhere: compiled kernels = plain ones to the bit, and = their twins on random walks (test_kernels.py); sma on
constants and after a spike (test_kernels.py); signals do not depend on the unit of the price, nor on what comes later
(test_strategies.py); ratios do not depend on the size of the returns (test_metrics.py); the canary that knows its own
bar earns nothing, and a Sharpe above 6 where it is let know it a bar early (test_engine.py).
"""

import itertools
import json
from typing import NamedTuple
from unittest import mock

import numpy as np
import pandas as pd
import plain
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from backgrid import _kernels
from backgrid._kernels import FILL_BAR, FILL_FEE, FILL_HELD, FILL_PRICE, FILL_REASON, FILL_UNITS
from backgrid.engine import FILLS, run_backtest
from backgrid.metrics import cash_return
from backgrid.result import EXIT_REASONS, BacktestResult

CASH = 1000.0
ANY, SIDES, PARTS = (0.0, 1.0, -1.0, -0.5, 0.3), (0.0, 1.0, -1.0), (0.0, 1.0, -1.0, -0.5)  # targets
OPEN, RUIN, SIGNAL = (EXIT_REASONS.index(reason) for reason in ("open", "ruin", "signal"))
STOP_NAMES = ("stop_loss", "take_profit", "trailing_stop")
TRADED_AT = {"next_open": "Open", "close": "Close", "next_close": "Close"}
ENTRY_BAR, EXIT_BAR, UNITS, ENTRY_PRICE, EXIT_PRICE, FEES, PNL, REASON = range(8)  # columns of what is booked


# ---- what is drawn ---------------------------------------------------------------------------------------------------


def percent_bars(seed, n_bars, step):
    """Bars that move by whole percents, so that they meet stops exactly, rest, and gap; at step 4 shorts are ruined."""
    rng = np.random.default_rng(seed)
    close, rows = 100.0, []
    for gap, body, above, below in rng.integers((-5, -9, 0, 0), (6, 10, 7, 7), (n_bars, 4)) * step / 100:
        open_ = close * (1.0 + gap)
        close = open_ * (1.0 + body)
        rows.append((open_, max(open_, close) * (1.0 + above), min(open_, close) * (1.0 - below), close))
    return framed(np.array(rows))


def framed(rows):
    index = pd.bdate_range("2023-11-01", periods=len(rows), name="Date")
    return pd.DataFrame(rows, columns=["Open", "High", "Low", "Close"], index=index)


seeds = st.integers(0, 2**32)  # bars drawn one by one are nearly always the same few, and at rest
bars = st.builds(percent_bars, seeds, st.integers(8, 30), st.sampled_from([1, 4]))
walks = st.builds(
    plain.random_bars, seeds, st.integers(10, 60), st.sampled_from([0.01, 0.03, 0.08])
)  # meet no stop exactly


def orders(*groups):
    """Arguments of `run_backtest`: a fill, and what each group adds to it."""
    drawn = st.tuples(st.sampled_from([{"fill": fill} for fill in FILLS]), *groups)
    return drawn.map(lambda parts: {name: value for part in parts for name, value in part.items()})


def some(**choices):
    """None, some or all of the arguments."""
    return st.fixed_dictionaries({}, optional={name: st.sampled_from(values) for name, values in choices.items()})


RATES = some(fees=[0.001, 0.02], slippage=[0.0005, 0.01])
COSTS = some(fees=[0.001, 0.02], slippage=[0.0005, 0.01], fixed_fee=[1.0, 20.0])
STOPS = some(stop_loss=[0.02, 0.05], take_profit=[0.03, 0.1])
TRAILING = some(trailing_stop=[0.02, 0.05])
WHOLE = some(whole_units=[True])
INTEREST = some(cash_rate=[0.03], borrow_rate=[0.1])
WEIGHTS = st.sampled_from([{}, {"size": 0.4}, {"size": 1.5, "leverage": 2.0}])
REBALANCED = st.sampled_from([{}, {"rebalance": "bar"}, {"rebalance": "week"}, {"rebalance": 0.05}])
SIZES = st.sampled_from(
    [
        {},
        {"size": 1.5, "leverage": 2.0},
        {"sizing": "units", "size": 3.0},
        {"sizing": "cash", "size": 400.0, "rebalance": "week"},
        {"sizing": "volatility", "size": 0.2, "lookback": 2, "rebalance": "month"},
        {"sizing": "volatility", "size": 0.5, "lookback": 3, "rebalance": "bar"},
        {"sizing": "volatility", "size": 0.5, "lookback": 3, "rebalance": 0.05},
        {"sizing": "risk", "size": 0.02, "stop_loss": 0.04},
        {"rebalance": "bar"},
        {"rebalance": 0.05},
    ]
)
KEPT, RESIZED = (SIZES.filter(lambda size, wanted=wanted: ("rebalance" in size) is wanted) for wanted in (False, True))
ALL = (COSTS, WHOLE, STOPS, TRAILING, INTEREST, SIZES)


@st.composite
def runs(draw, *groups, prices=bars, values=ANY):
    """Prices, targets and orders."""
    drawn = draw(prices)
    return drawn, plain.random_targets(draw(seeds), len(drawn), values), draw(orders(*groups))


def run(prices, target, **asked):
    return run_backtest(prices, target, **{"cash": CASH, "periods_per_year": 252, **asked})


class Course(NamedTuple):
    """A result, and what the kernel noted on the way to it."""

    result: BacktestResult
    units: np.ndarray
    fills: np.ndarray
    financing: float


def follow(prices, target, **asked):
    noted = []

    def note(*arguments, simulate=_kernels.simulate):
        noted.append(simulate(*arguments))
        return noted[-1]

    with mock.patch.object(_kernels, "simulate", note):
        result = run(prices, target, **asked)
    return Course(result, *noted[0][1:])


def bits(result, n_bars=None):
    """Equity and positions of the first bars, and the trades that were over by then, byte by byte."""
    n_bars = len(result.equity) if n_bars is None else n_bars
    over = result.booked[(result.booked[:, EXIT_BAR] < n_bars) & (result.booked[:, REASON] != OPEN)]
    return result.equity.to_numpy()[:n_bars].tobytes(), result.positions.to_numpy()[:n_bars].tobytes(), over.tobytes()


def when_and_why(result):
    return result.booked[:, [ENTRY_BAR, EXIT_BAR, REASON]].tolist()


# ---- what is known when ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fill", FILLS)
@given(runs(*ALL), st.data())
def test_nothing_changes_with_what_comes_later(fill, drawn, data):
    """Dropped, or other prices, targets and stops: to the bit the same until then, also with stops by the bar."""
    prices, target, asked = drawn
    asked["fill"] = fill
    n_bars = len(prices) - data.draw(st.integers(1, len(prices) - 2))
    factor = data.draw(st.sampled_from([0.5, 1.01, 3.0]))
    stops = {name: asked[name] * (1.0 + np.arange(len(prices)) % 3) for name in asked if name in STOP_NAMES}
    before = np.arange(len(prices)) < n_bars
    changed = pd.concat([prices[:n_bars], prices[n_bars:] * factor])
    others = {name: np.where(before, values, np.nan) for name, values in stops.items()}
    whole = bits(run(prices, target, **{**asked, **stops}), n_bars)
    cut = {name: values[:n_bars] for name, values in stops.items()}
    assert bits(run(prices[:n_bars], target[:n_bars], **{**asked, **cut}), n_bars) == whole
    assert bits(run(changed, np.where(before, target, -target), **{**asked, **others}), n_bars) == whole


@given(runs(COSTS, WHOLE, STOPS, TRAILING, RESIZED))
def test_fill_at_an_open_knows_nothing_else_of_its_bar(drawn):
    """With a last bar that stays at its open, all is the same but stops hit after the open."""
    prices, target, asked = drawn
    asked["fill"] = "next_open"
    for n_bars in range(len(prices) - 4, len(prices) + 1):
        rows = prices.to_numpy()[:n_bars].copy()
        rows[-1] = rows[-1, 0]
        at_open = follow(framed(rows), target[:n_bars], **asked)
        whole = follow(prices[:n_bars], target[:n_bars], **asked)
        if at_open.result.equity.iloc[-1] > 0.0 and whole.result.equity.iloc[-1] > 0.0:
            n_fills = len(at_open.fills)
            assert whole.fills[:n_fills].tobytes() == at_open.fills.tobytes()
            assert (whole.fills[n_fills:, FILL_REASON] != SIGNAL).all()


@given(runs(COSTS, WHOLE, STOPS, KEPT, values=PARTS), st.data())
def test_bar_at_rest_between_two_others_changes_nothing(drawn, data):
    """After a bar that gave no signal, and where time does not count: no interest, rhythm or trailing stop."""
    prices, target, asked = drawn
    quiet = [bar for bar in range(len(target)) if target[bar] == (target[bar - 1] if bar else 0.0)]
    assume(quiet)
    after = data.draw(st.sampled_from(quiet))
    rows = prices.to_numpy()
    longer = framed(np.insert(rows, after + 1, rows[after, 3], axis=0))
    here, there = run(prices, target, **asked), run(longer, np.insert(target, after + 1, target[after]), **asked)
    assert np.delete(there.equity.to_numpy(), after + 1).tobytes() == here.equity.to_numpy().tobytes()
    moved = here.booked.copy()
    moved[:, [ENTRY_BAR, EXIT_BAR]] += moved[:, [ENTRY_BAR, EXIT_BAR]] > after
    if after == len(prices) - 1:
        moved[moved[:, REASON] == OPEN, EXIT_BAR] += 1
    assert there.booked.tobytes() == moved.tobytes()


@given(runs(*ALL), st.integers(-2000, 2000))
def test_dates_moved_by_whole_weeks_change_nothing(drawn, weeks):
    prices, target, asked = drawn
    assume(asked.get("rebalance") != "month")
    moved = prices.set_axis(prices.index + pd.Timedelta(weeks=weeks), axis=0)
    assert bits(run(moved, target, **asked)) == bits(run(prices, target, **asked))


# ---- the unit of prices and of cash ----------------------------------------------------------------------------------


def in_units_of(asked, prices=1.0, cash=1.0):
    """The same orders where prices, or all money, are counted in another unit."""
    rescaled = dict(asked)
    if "fixed_fee" in asked:
        rescaled["fixed_fee"] = asked["fixed_fee"] * cash
    if asked.get("sizing") == "cash":
        rescaled["size"] = asked["size"] * cash
    if asked.get("sizing") == "units":
        rescaled["size"] = asked["size"] * cash / prices
    return rescaled


@given(runs(COSTS, STOPS, TRAILING, INTEREST, SIZES), st.integers(-30, 30))
def test_prices_times_a_power_of_two_change_units_only(drawn, power):
    """To the bit: units by the inverse, prices of trades by the factor."""
    prices, target, asked = drawn
    factor = 2.0**power
    here, there = run(prices, target, **asked), run(prices * factor, target, **in_units_of(asked, prices=factor))
    assert bits(there)[:2] == bits(here)[:2]
    expected = here.booked.copy()
    expected[:, UNITS] /= factor
    expected[:, [ENTRY_PRICE, EXIT_PRICE]] *= factor
    assert there.booked.tobytes() == expected.tobytes()


@given(runs(COSTS, STOPS, TRAILING, INTEREST, SIZES, prices=walks), st.sampled_from([10.0, 1 / 3]))
def test_prices_in_another_currency_change_units_only(drawn, factor):
    prices, target, asked = drawn
    here, there = run(prices, target, **asked), run(prices * factor, target, **in_units_of(asked, prices=factor))
    assert there.equity.to_numpy() == pytest.approx(here.equity.to_numpy(), rel=1e-12, abs=1e-12 * CASH)
    assert when_and_why(there) == when_and_why(here)


@given(runs(COSTS, STOPS, TRAILING, INTEREST, SIZES, prices=walks), st.sampled_from([1e-6, 0.3, 7.0, 1e9]))
def test_more_cash_trades_more_of_the_same(drawn, factor):
    prices, target, asked = drawn
    here = run(prices, target, **asked)
    there = run(prices, target, cash=CASH * factor, **in_units_of(asked, cash=factor))
    assert there.equity.to_numpy() / factor == pytest.approx(here.equity.to_numpy(), rel=1e-9, abs=1e-9 * CASH)
    assert when_and_why(there) == when_and_why(here)


# ---- what is known by hand -------------------------------------------------------------------------------------------


@given(bars, orders(COSTS, WHOLE, STOPS, TRAILING, SIZES))
def test_no_signal_trades_nothing(prices, asked):
    result = run(prices, np.zeros(len(prices)), **asked)
    assert (result.equity == CASH).all() and (result.positions == 0.0).all() and result.booked.size == 0
    assert repr(result.metrics["max_drawdown"]) == repr(result.metrics["total_return"]) == "0.0"


@given(bars, st.sampled_from(list(FILLS)))
def test_held_from_the_first_signal_it_grows_from_its_price_to_the_last_close(prices, fill):
    bought = {
        "next_open": prices["Open"].iloc[1],
        "close": prices["Close"].iloc[0],
        "next_close": prices["Close"].iloc[1],
    }
    result = run(prices, np.ones(len(prices)), fill=fill)
    assert result.equity.iloc[-1] == pytest.approx(CASH * prices["Close"].iloc[-1] / bought[fill], rel=1e-12)


@given(runs(values=SIDES))
def test_shorts_lose_what_longs_of_one_unit_win(drawn):
    prices, target, asked = drawn
    long, short = (run(prices, sign * target, sizing="units", size=1.0, cash=1e6, **asked).booked for sign in (1, -1))
    mirrored = long.copy()
    mirrored[:, [UNITS, PNL]] *= -1.0
    assert short == pytest.approx(mirrored, rel=1e-12, abs=1e-12)


@given(runs(some(slippage=[0.01]), STOPS, TRAILING, values=SIDES), st.sampled_from([0.001, 0.01, 0.1]))
def test_account_never_gains_by_a_higher_fee(drawn, more):
    """Long, short or flat in fractional units; whole units are rounded, and may gain."""
    prices, target, asked = drawn
    finals = [run(prices, target, fees=fees, **asked).equity.iloc[-1] for fees in (0.0, 0.002, 0.002 + more)]
    traded = run(prices, target, **asked).booked.size > 0
    for cheaper, dearer in itertools.pairwise(finals):
        assert dearer < cheaper if traded and cheaper > 0.0 else dearer == cheaper


@given(runs(RATES, STOPS, TRAILING, WEIGHTS, REBALANCED, prices=walks), st.data())
def test_runs_joined_where_both_are_flat_multiply(drawn, data):
    prices, target, asked = drawn
    middle = data.draw(st.integers(3, len(prices) - 2))
    target[middle - 2 : middle] = 0.0
    parts = [(prices, target), (prices[:middle], target[:middle]), (prices[middle:], target[middle:])]
    whole, first, second = (run(*part, **asked).equity.iloc[-1] / CASH for part in parts)
    assert whole == pytest.approx(first * second, rel=1e-12, abs=1e-12)


# ---- the account -----------------------------------------------------------------------------------------------------


@given(runs(COSTS, WHOLE, STOPS, TRAILING, SIZES))
def test_money_left_and_units_held_make_the_equity_of_every_bar(drawn):
    prices, target, asked = drawn
    result, units, fills, _ = follow(prices, target, **asked)
    spent = np.zeros(len(prices))
    np.add.at(spent, fills[:, FILL_BAR].astype(int), fills[:, FILL_UNITS] * fills[:, FILL_PRICE] + fills[:, FILL_FEE])
    worth = CASH - np.cumsum(spent) + units * prices["Close"].to_numpy()
    equity = result.equity.to_numpy()
    alive = equity > 0.0
    assert worth[alive][1:] == pytest.approx(equity[alive][1:], rel=1e-9, abs=1e-9)
    assert equity[0] == CASH and (np.diff(alive.astype(int)) <= 0).all() and (units[~alive] == 0.0).all()
    assert (worth[~alive][:1] <= 1e-9).all()


@given(runs(*ALL))
def test_gain_is_what_trades_won_and_what_interest_brought(drawn):
    prices, target, asked = drawn
    result, _, fills, financing = follow(prices, target, **asked)
    won, gained = result.booked[:, PNL].sum() + financing, result.equity.iloc[-1] - CASH
    if result.equity.iloc[-1] > 0.0:
        assert won == pytest.approx(gained, rel=1e-9, abs=1e-9)
    else:  # a ruined trade shows its whole loss
        assert won <= -CASH + 1e-9 and RUIN in result.booked[:, REASON]
    assert result.metrics["financing"] == financing
    fees = fills[:, FILL_FEE].sum()
    assert (result.metrics["fees_paid"], result.booked[:, FEES].sum()) == pytest.approx((fees, fees), rel=1e-9)


@given(runs(*ALL))
def test_units_change_by_fills_only_and_each_has_a_price_of_its_bar(drawn):
    """A signal fills at the open or close moved by slippage, all else between low and high, ruin at the close."""
    prices, target, asked = drawn
    _, units, fills, _ = follow(prices, target, **asked)
    held = np.zeros(len(prices))
    for fill in fills:
        held[int(fill[FILL_BAR]) :] = fill[FILL_HELD]
    assert held.tobytes() == units.tobytes()
    slippage = asked.get("slippage", 0.0)
    for fill in fills:
        bar, against = prices.iloc[int(fill[FILL_BAR])], np.sign(fill[FILL_UNITS]) * slippage
        if fill[FILL_REASON] == SIGNAL:
            assert fill[FILL_PRICE] == bar[TRADED_AT[asked["fill"]]] * (1.0 + against)
        elif fill[FILL_REASON] != RUIN or fill[FILL_PRICE] != bar["Close"]:
            low, high = bar["Low"] * (1.0 + against), bar["High"] * (1.0 + against)
            assert low <= fill[FILL_PRICE] <= high


@given(runs(COSTS, WHOLE, STOPS, TRAILING, INTEREST, WEIGHTS, values=PARTS))
def test_course_is_that_of_the_twin_also_where_stops_are_met_exactly(drawn):
    """Positions change to 0 or to the other side only: the mean price of a larger one may differ in the last bit."""
    prices, target, asked = drawn
    result, units, fills, financing = follow(prices, target, **asked)
    by_bar = {name: cash_return(asked[name], 252) for name in ("cash_rate", "borrow_rate") if name in asked}
    equity, held, ledger, interest = plain.simulate(prices, target, cash=CASH, **{**asked, **by_bar})
    assert result.equity.tolist() == pytest.approx(equity, rel=1e-10, abs=1e-8)
    assert units.tolist() == pytest.approx(held, rel=1e-10, abs=1e-11)
    assert financing == pytest.approx(interest, rel=1e-10, abs=1e-10)
    reasons = [(int(fill[FILL_BAR]), EXIT_REASONS[int(fill[FILL_REASON])]) for fill in fills]
    assert reasons == [(fill.bar, fill.reason) for fill in ledger]


# ---- written and read ------------------------------------------------------------------------------------------------


def refuse(constant):
    raise AssertionError(f"{constant} is not JSON")


@given(runs(*ALL))
def test_json_is_strict_and_reads_back_to_the_bit(drawn):
    prices, target, asked = drawn
    result = run(prices, target, **asked)
    text = result.to_json()
    json.loads(text, parse_constant=refuse)
    back = BacktestResult.from_json(text)
    assert bits(back) == bits(result) and back.booked.tobytes() == result.booked.tobytes()
    assert repr(back.metrics) == repr(result.metrics) and back == result and back.to_json() == text
