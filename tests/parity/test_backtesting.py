"""Backgrid trades as backtesting.py does: entry and exit bar, units, prices and pnl of every trade, and the equity of
every bar, at 1e-9, on 102 random series and every sample symbol.

Backgrid takes target positions, backtesting.py orders: `Follow` turns the one into the other. Sizes are its own, in
whole units or in 2**-36 of one, except where a test says that it passes sizes on. What is done otherwise on purpose is
pinned below, on bars small enough to check by hand. The targets here leave it aside: they start at 0 and rest on the
last two bars, change to 0 or to the other side only, do not ruin an account that pays fees, and their stops lie too far
apart for one bar to open beyond the profit and then hit the loss.
"""

import functools
from collections import Counter
from typing import NamedTuple
from unittest import mock

import numpy as np
import pandas as pd
import plain
import pytest
from backtesting import Backtest, Strategy

from backgrid.data import fetch_ohlcv
from backgrid.engine import run_backtest
from backgrid.errors import PricesError
from backgrid.strategies import STRATEGIES

PEER = "backtesting.py"
UNIT = 2.0**-36  # of a share: prices times this lose no bit, and an account buys some 1e12 of them
FILLS = ("next_open", "close", "next_close")
LONG, SHORT, BOTH, PARTS = (0.0, 1.0), (-0.6, 0.0), (-1.0, 0.0, 1.0), (-0.5, 0.0, 0.8)
COLUMNS = ["entry_bar", "exit_bar", "units", "entry_price", "exit_price", "pnl"]

CASES = {  # targets, and arguments of run_backtest; stops are multiples of the volatility of the series
    "long or flat": (LONG, {}),
    "long or flat, fees, whole units": (LONG, {"fees": 0.002, "whole_units": True}),
    "short or flat, fees": (SHORT, {"fees": 0.002}),
    "long and short": (BOTH, {}),
    "long and short, whole units": (BOTH, {"whole_units": True}),
    "parts of the account, fees, whole units": (PARTS, {"fees": 0.002, "whole_units": True}),
    "one unit, fees, fixed fee": (BOTH, {"sizing": "units", "size": 1.0, "fees": 0.001, "fixed_fee": 1.5}),
    "leverage": ((-1.5, 0.0, 2.0), {"leverage": 2.0}),  # wild enough for ruin
    "stop loss, fees": (BOTH, {"stop_loss": 2.0, "fees": 0.002}),
    "take profit, whole units": (BOTH, {"take_profit": 2.0, "whole_units": True}),
    "stop loss, take profit, long": (LONG, {"stop_loss": 2.0, "take_profit": 3.0}),
    "stop loss, take profit, short, whole units": (SHORT, {"stop_loss": 2.0, "take_profit": 3.0, "whole_units": True}),
    "trailing stop": (BOTH, {"trailing_stop": 2.5}),
    "three stops, fees, whole units": (
        PARTS,
        {"stop_loss": 2.0, "take_profit": 4.0, "trailing_stop": 2.5, "fees": 0.002, "whole_units": True},
    ),
}
every_case = pytest.mark.parametrize("name", CASES)
every_fill = pytest.mark.parametrize("fill", FILLS)

pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning",  # pandas 3 warns them
    "ignore:Some trades remain open",
    "ignore:.*Broker canceled",
)


# ---- series ----------------------------------------------------------------------------------------------------------

DAILY = ("AAPL", "AMZN", "GOOG", "META", "NFLX", "NVDA", "^GSPC")
SAMPLES = {symbol: (symbol, "1d") for symbol in DAILY} | {"EURUSD=X 1h": ("EURUSD=X", "1h"), "AAPL 1m": ("AAPL", "1m")}


@functools.cache
def random_series():
    """102 random walks of 60 to 400 bars, calm to wild, each with gaps at the open."""
    volatilities = (0.005, 0.01, 0.02, 0.04, 0.08)
    return {f"random {k}": plain.random_bars(k, 60 + k * 37 % 341, volatilities[k % 5]) for k in range(102)}


@functools.cache
def sample(name):
    """All of a daily sample, the last 2,000 bars of the others."""
    symbol, interval = SAMPLES[name]
    prices = fetch_ohlcv(symbol, interval=interval, source="sample")
    return prices if interval == "1d" else prices.iloc[-2000:]


def targets_of(seed, n_bars, values):
    """Random targets, held for 1 to 6 bars each."""
    return tradeable(plain.random_targets(seed, n_bars, values))


def tradeable(target):
    """Flat on the first bar, at rest on the last two."""
    target = np.array(target, dtype=float)
    target[0], target[-2:] = 0.0, target[-3]
    return target


def scaled(orders, prices):
    """The orders of a case with its stops in fractions of the price."""
    volatility = float(prices["Close"].pct_change().std())
    stops = ("stop_loss", "take_profit", "trailing_stop")
    return {name: value * volatility if name in stops else value for name, value in orders.items()}


# ---- theirs and ours -------------------------------------------------------------------------------------------------


class Follow(Strategy):
    """Orders at each close what the target has changed to, and moves the stop of an open trade.

    backtesting.py takes stops as prices, before the price of the entry is known: `paid` gives it away, and
    `Order._replace` sets them without the check of `buy` that the last close lies between the two.
    """

    target = paid = None  # by bar: position wanted at the close, and the price at which an order of that close fills
    leverage, units = 1.0, None
    stop_loss = take_profit = trailing_stop = None
    after_entry = 0  # from how many bars after the entry bar on a high is one since the entry

    def init(self):
        pass

    def next(self):
        bar = len(self.data) - 1
        for trade in self.trades:
            if self.trailing_stop is not None:
                trade.sl = self.level(np.sign(trade.size), trade.entry_price, self.best_since(trade))
        wanted = self.target[bar]
        if wanted == self.target[bar - 1]:
            return
        if wanted == 0.0:
            self.position.close()
            return
        share, side, paid = abs(wanted) / self.leverage, np.sign(wanted), self.paid[bar]
        size = {} if share == 1.0 else {"size": share}
        order = (self.buy if side > 0.0 else self.sell)(**({"size": self.units} if self.units else size))
        profit = None if self.take_profit is None else paid * (1.0 + side * self.take_profit)
        order._replace(sl_price=self.level(side, paid, paid), tp_price=profit)

    def level(self, side, entry, best):
        """The nearest of the stops below a long, above a short trade."""
        stops = [(self.stop_loss, entry), (self.trailing_stop, best)]
        levels = [base * (1.0 - side * distance) for distance, base in stops if distance is not None]
        return max(levels, key=lambda level: side * level) if levels else None

    def best_since(self, trade):
        first = trade.entry_bar + self.after_entry
        if trade.is_long:
            return max(trade.entry_price, *self.data.High[first:])
        return min(trade.entry_price, *self.data.Low[first:])


class Run(NamedTuple):
    """An account at each close, and its trades, in COLUMNS, the last one valued at the last close if it is open."""

    equity: np.ndarray
    trades: np.ndarray


def run_ours(prices, target, **orders):
    result = run_backtest(prices, target, cash=10_000.0, **orders)
    return Run(result.equity.to_numpy(), result.trades[COLUMNS].to_numpy())


def run_theirs(prices, target, *, fill="next_open", fees=0.0, fixed_fee=0.0, whole_units=False, **orders):
    """The same run by backtesting.py; a fill at the next close is its fill at the close, decided a bar later."""
    at_open, units, leverage = fill == "next_open", orders.pop("size", None), orders.pop("leverage", 1.0)
    unit = 1.0 if whole_units or orders.pop("sizing", None) else UNIT
    opens, closes = prices["Open"].to_numpy(), prices["Close"].to_numpy()
    equity, closed, still = bare_run(
        prices * unit,
        Follow,
        {
            "cash": 10_000.0,
            "commission": (fixed_fee, fees),
            "margin": 1.0 / leverage,
            "trade_on_close": not at_open,
            "exclusive_orders": True,
        },
        target=np.concatenate([[0.0], target[:-1]]) if fill == "next_close" else target,
        paid=unit * (np.append(opens[1:], np.nan) if at_open else closes),
        units=units,
        leverage=leverage,
        after_entry=0 if at_open else 1,
        **orders,
    )
    trades = [[t.entry_bar, t.exit_bar, t.size * unit, t.entry_price / unit, t.exit_price / unit, t.pl] for t in closed]
    for t in still:  # valued at the last close, after the costs of the entry
        pnl = t.pl - fixed_fee - fees * abs(t.size) * t.entry_price
        trades.append([t.entry_bar, closes.size - 1, t.size * unit, t.entry_price / unit, closes[-1], pnl])
    trades = np.array(trades, dtype=float).reshape(-1, len(COLUMNS))
    return Run(equity if at_open else equity - costs_at_close(trades, closes, fees, fixed_fee), trades)


def bare_run(prices, strategy, account, **params):
    """Equity of each bar, trades closed and trades still open; without the statistics, which take longer than a run."""

    def instead(*, equity, trades, strategy_instance, **others):
        return equity, trades, strategy_instance.trades

    with mock.patch("backtesting.backtesting.compute_stats", instead):
        return Backtest(prices, strategy, **account).run(**params)


def costs_at_close(trades, close, fees, fixed_fee):
    """Costs of the fills at each close, which the equity of backtesting.py holds one bar later only."""
    costs = np.zeros_like(close)
    for entry_bar, exit_bar, units, entry, exit_, *_ in trades:
        costs[int(entry_bar)] += fixed_fee + fees * abs(units) * entry
        if exit_bar < close.size - 1 and exit_ == close[int(exit_bar)]:  # by a signal, not by a stop
            costs[int(exit_bar)] += fixed_fee + fees * abs(units) * exit_
    return costs


def apart(ours, theirs):
    """Largest relative difference; of a pnl it is that by the value of the trade at its entry."""
    assert ours.trades[:, :2].tolist() == theirs.trades[:, :2].tolist()  # entry and exit bar
    value = np.abs(ours.trades[:, 2] * ours.trades[:, 3])
    scales = np.column_stack([*np.abs(ours.trades[:, 2:5].T), value])
    differences = np.abs(ours.trades[:, 2:] - theirs.trades[:, 2:]) / scales
    return max(relative(ours.equity, theirs.equity), differences.max(initial=0.0))


def relative(ours, theirs):
    both = np.maximum(ours, theirs)
    return np.divide(np.abs(ours - theirs), both, out=np.zeros_like(ours), where=both > 0.0).max()


# ---- the same --------------------------------------------------------------------------------------------------------


def assert_same(compared, case, series, prices, target, orders):
    ours, theirs = run_ours(prices, target, **orders), run_theirs(prices, target, **orders)
    distance = apart(ours, theirs)
    assert distance <= 1e-9, f"{series}: {distance}"
    compared(PEER, case, series, len(ours.trades), distance)


@every_fill
@every_case
def test_random_series_are_traded_the_same(compared, name, fill):
    values, orders = CASES[name]
    for k, (label, prices) in enumerate(random_series().items()):
        if fill != "next_close" or k % 3 == 0:  # which is the close, decided a bar later
            target = targets_of(k, len(prices), values)
            assert_same(compared, name, label, prices, target, {**scaled(orders, prices), "fill": fill})


@every_case
@pytest.mark.parametrize("label", SAMPLES)
def test_sample_symbols_are_traded_the_same(compared, label, name):
    values, orders = CASES[name]
    prices = sample(label)
    for k, fill in enumerate(FILLS):
        target = targets_of(k, len(prices), values)
        assert_same(compared, name, label, prices, target, {**scaled(orders, prices), "fill": fill})


def test_runs_compared_hold_every_kind_of_exit():
    """Or the tests above prove little: stops at their level and gapped through, signals, ruin and open trades."""
    seen = Counter()
    for name in ("three stops, fees, whole units", "leverage"):
        values, orders = CASES[name]
        for k, prices in enumerate(random_series().values()):
            target = targets_of(k, len(prices), values)
            trades = run_backtest(prices, target, fill="close", cash=10_000.0, **scaled(orders, prices)).trades
            gapped = trades["exit_price"].to_numpy() == prices["Open"].to_numpy()[trades["exit_bar"]]
            seen.update(zip(trades["exit_reason"], gapped.tolist(), strict=True))
    stops = {(reason, at_open) for reason in ("stop_loss", "take_profit", "trailing_stop") for at_open in (False, True)}
    assert set(seen) == stops | {("signal", False), ("ruin", False), ("open", False)} and min(seen.values()) >= 3


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("symbol", DAILY)
def test_strategies_of_the_package_are_traded_the_same_on_daily_bars(compared, symbol, strategy):
    prices = sample(symbol)
    target = tradeable(np.nan_to_num(STRATEGIES[strategy](prices)))
    assert_same(compared, "every strategy, fees", symbol, prices, target, {"fees": 0.001})


class Resize(Strategy):
    """Orders at each close the difference to the units to be held after the next open."""

    held = None

    def init(self):
        pass

    def next(self):
        bar = len(self.data) - 1
        missing = self.held[bar + 1] - self.held[bar] if bar + 1 < len(self.held) else 0.0
        if missing > 0.0:
            self.buy(size=missing)
        elif missing < 0.0:
            self.sell(size=-missing)


@pytest.mark.parametrize(
    ("name", "orders"),
    [("resized, sizes given", {}), ("rebalanced every week, sizes given", {"rebalance": "week"})],
)
def test_resized_positions_earn_the_same(compared, name, orders):
    """The sizes are Backgrid's: its units after each bar, on a margin that never binds. Trades are lots there."""
    for label, prices in random_series().items():
        target = targets_of(len(prices), len(prices), (-0.5, 0.0, 0.3, 0.6))
        result = run_backtest(prices, target, cash=1e6, fees=0.002, whole_units=True, **orders)
        held = (result.positions * result.equity / prices["Close"]).round().to_numpy()
        theirs, *_ = bare_run(prices, Resize, {"cash": 1e6, "commission": 0.002, "margin": 0.01}, held=held)
        distance = relative(result.equity.to_numpy(), theirs)
        assert distance <= 1e-9, f"{label}: {distance}"
        compared(PEER, name, label, len(result.trades), distance)


@pytest.mark.parametrize(
    ("low", "high", "price"), [(95, 101, 95), (95.1, 101, None), (99, 105, 105), (99, 104.9, None), (95, 105, 95)]
)
@pytest.mark.parametrize("side", [1.0, -1.0], ids=["long", "short"])
def test_price_that_only_touches_a_stop_hits_it_in_both(side, low, high, price):
    """A loss or profit of 5 from 100; for the short all is mirrored at 100."""
    rows = [FLAT] * 3 + [(100, high, low, 100) if side > 0.0 else (100, 200 - low, 200 - high, 100)] + [FLAT] * 2
    stops = {"size": 2, "sl": 100 - side * 5, "tp": 100 + side * 5}
    order = {1: lambda strategy: (strategy.buy if side > 0.0 else strategy.sell)(**stops)}
    _, closed, still = theirs_by(ohlc(*rows), order)
    orders = {"sizing": "units", "size": 2.0, "stop_loss": 0.05, "take_profit": 0.05}
    _, trades, reasons = ours_by(ohlc(*rows), [0] + [side] * 5, **orders)
    if price is None:
        assert (closed, len(still), reasons) == ([], 1, ["open"])
    else:
        pnl = 2 * (price - 100)
        assert closed == trades == [(2, 3, side * 2, 100, price if side > 0.0 else 200 - price, pnl)]


# ---- different on purpose --------------------------------------------------------------------------------------------

FLAT = (100, 101, 99, 100)


def ohlc(*rows):
    """Daily bars from (Open, High, Low, Close)."""
    index = pd.bdate_range("2024-01-01", periods=len(rows), name="Date")
    return pd.DataFrame(rows, columns=["Open", "High", "Low", "Close"], index=index, dtype=float)


class ByPlan(Strategy):
    """Does at the close of a bar what the plan holds for it."""

    plan = None

    def init(self):
        pass

    def next(self):
        self.plan.get(len(self.data) - 1, lambda strategy: None)(self)


def theirs_by(prices, plan, **account):
    """Equity by bar, COLUMNS of each closed trade, and the trades still open."""
    equity, closed, still = bare_run(prices, ByPlan, {"cash": 1000, **account}, plan=plan)
    rows = [(t.entry_bar, t.exit_bar, t.size, t.entry_price, t.exit_price, round(t.pl, 9)) for t in closed]
    return equity.tolist(), rows, still


def ours_by(prices, target, **orders):
    """Equity by bar, COLUMNS of each trade, and the reasons of the exits."""
    result = run_backtest(prices, target, cash=1000.0, **orders)
    rows = [tuple(row) for row in result.trades[COLUMNS].to_numpy().round(9).tolist()]
    return result.equity.tolist(), rows, result.trades["exit_reason"].tolist()


def test_first_bar_decides_here(differs):
    prices = ohlc(*[FLAT] * 4)
    every_bar = {bar: lambda strategy: strategy.position or strategy.buy(size=1) for bar in range(4)}
    assert theirs_by(prices, every_bar)[2][0].entry_bar == 2
    assert ours_by(prices, [1] * 4)[1][0][0] == 1
    differs(PEER, "first decision", "at the close of the second bar", "at the close of the first bar")


def test_close_of_the_last_bar_fills_here(differs):
    prices = ohlc(*[FLAT] * 3)
    assert theirs_by(prices, {2: lambda strategy: strategy.buy(size=1)}, trade_on_close=True)[1:] == ([], ())
    assert ours_by(prices, [0, 0, 1], fill="close")[1:] == ([(2, 2, 10, 100, 100, 0)], ["open"])
    differs(PEER, "order of the last bar, filled at its close", "lost", "filled, and the trade is open")


def test_costs_of_a_close_fill_are_paid_on_its_bar_here(differs):
    prices = ohlc(*[FLAT] * 4)
    buy = {1: lambda strategy: strategy.buy(size=5)}
    assert theirs_by(prices, buy, trade_on_close=True, commission=0.01)[0] == [1000, 1000, 995, 995]
    orders = {"fill": "close", "sizing": "units", "size": 5.0, "fees": 0.01}
    assert ours_by(prices, [0, 1, 1, 1], **orders)[0] == [1000, 995, 995, 995]
    differs(PEER, "costs of a fill at the close, in the equity", "on the bar after", "on the bar of the fill")


def test_slippage_is_paid_at_both_ends_here(differs):
    prices = ohlc(*[FLAT] * 5)
    there_and_back = {1: lambda strategy: strategy.buy(size=5), 2: lambda strategy: strategy.position.close()}
    assert theirs_by(prices, there_and_back, spread=0.01)[1] == [(2, 3, 5, 101, 100, -5)]
    ours = ours_by(prices, [0, 1, 0, 0, 0], sizing="units", size=5.0, slippage=0.01)
    assert ours[1] == [(2, 3, 5, 101, 99, -10)]
    differs(PEER, "spread, slippage", "moves the entry price only", "moves every fill against the trade")


def test_fixed_fee_is_taken_once_from_what_is_spent_here(differs):
    """1,000 at 100 with a fee of 50: 1,000 / (100 + 50) is 6.7 there, (1,000 - 50) / 100 is 9.5 here."""
    prices = ohlc(*[FLAT] * 4)
    buy = {1: lambda strategy: strategy.buy()}
    assert theirs_by(prices, buy, commission=(50, 0.0))[2][0].size == 6
    assert ours_by(prices, [0, 1, 1, 1], fixed_fee=50.0, whole_units=True)[1][0][2] == 9
    differs(PEER, "size of an order with a fixed fee", "the fee is added to the price of each unit", "paid once a fill")


def test_account_that_pays_for_exactly_ten_buys_ten_here(differs):
    prices = ohlc(*[FLAT] * 4)
    assert theirs_by(prices, {1: lambda strategy: strategy.buy()})[2][0].size == 9
    assert ours_by(prices, [0, 1, 1, 1], whole_units=True)[1][0][2] == 10
    differs(PEER, "1,000 at a price of 100", "9 units: all but 2e-16 of the cash is used", "10 units")


def test_open_trade_is_listed_at_the_last_close_here(differs):
    prices = ohlc(*[FLAT] * 3, (110, 121, 109, 120))
    buy = {1: lambda strategy: strategy.buy(size=5)}
    assert theirs_by(prices, buy)[:2] == ([1000, 1000, 1000, 1100], [])
    assert theirs_by(prices, buy, finalize_trades=True)[1] == [(2, 3, 5, 100, 110, 50)]
    ours = ours_by(prices, [0, 1, 1, 1], sizing="units", size=5.0)
    assert ours == ([1000, 1000, 1000, 1100], [(2, 3, 5, 100, 120, 100)], ["open"])
    differs(
        PEER,
        "trade still open at the end",
        "not listed; with finalize_trades closed at the open of the last bar, though its close has been seen",
        "listed at the last close, marked open",
    )


def test_stop_is_a_distance_from_the_price_paid_here(differs):
    """Decided at 100, bought at 110: 5 % below the price paid lies above the last close."""
    prices = ohlc(FLAT, FLAT, (110, 111, 104, 108), (108, 109, 107, 108))
    with pytest.raises(ValueError, match=r"Long orders require: SL \(104.5\) < LIMIT \(100.0\)"):
        theirs_by(prices, {1: lambda strategy: strategy.buy(size=5, sl=104.5)})
    ours = ours_by(prices, [0, 1, 1, 1], sizing="units", size=5.0, stop_loss=0.05)
    assert ours[1:] == ([(2, 2, 5, 110, 104.5, -27.5)], ["stop_loss"])
    differs(PEER, "stop of a new order", "a price, checked against the last close", "a distance from the price paid")


def test_exit_at_the_open_comes_before_a_stop_later_in_the_bar_here(differs):
    """Long 2 from 100; an exit is ordered; the next bar opens at 100 and falls to 94."""
    prices = ohlc(*[FLAT] * 3, (100, 101, 94, 96))
    buy = {1: lambda strategy: strategy.buy(size=2, sl=95)}
    _, closed, still = theirs_by(prices, buy | {2: lambda strategy: strategy.sell(size=2)})
    assert closed == [(2, 3, 2, 100, 95, -10)]
    assert [(trade.size, trade.entry_price) for trade in still] == [(-2, 100)]
    assert theirs_by(prices, buy | {2: lambda strategy: strategy.position.close()})[1] == [(2, 3, 2, 100, 100, 0)]
    ours = ours_by(prices, [0, 1, 0, 0], sizing="units", size=2.0, stop_loss=0.05)
    assert ours[1:] == ([(2, 3, 2, 100, 100, 0)], ["signal"])
    differs(
        PEER,
        "opposite order at the open, stop hit later in that bar",
        "the stop fills first, then the order opens a short at the open before; position.close() fills at the open",
        "the signal fills at the open",
    )


@pytest.mark.parametrize(("fill", "bought"), [("next_open", 2), ("close", 1)])
def test_gap_through_the_profit_comes_before_a_loss_later_in_the_bar_here(differs, fill, bought):
    """Long 2 from 100, loss at 95, profit at 105; a bar opens at 110 and falls to 90."""
    prices, buy = ohlc(*[FLAT] * 3, (110, 111, 90, 92)), {1: lambda strategy: strategy.buy(size=2, sl=95, tp=105)}
    assert theirs_by(prices, buy, trade_on_close=fill == "close")[1] == [(bought, 3, 2, 100, 95, -10)]
    stops = {"stop_loss": 0.05, "take_profit": 0.05}
    ours = ours_by(prices, [0, 1, 1, 1], fill=fill, sizing="units", size=2.0, **stops)
    assert ours[1:] == ([(bought, 3, 2, 100, 110, 20)], ["take_profit"])
    differs(
        PEER, "open beyond the profit, loss hit later in that bar", "the loss fills", "the profit fills at the open"
    )


def test_side_stays_barred_after_a_stop_here(differs):
    """The common form there, "buy while long is wanted and nothing is held", buys again at once."""
    prices = ohlc(*[FLAT] * 3, (100, 101, 94, 96), *[FLAT] * 2)
    wanted = {bar: lambda strategy: strategy.position or strategy.buy(size=2, sl=95) for bar in (1, 2, 3)}
    _, closed, still = theirs_by(prices, wanted)
    assert closed == [(2, 3, 2, 100, 95, -10)] and [trade.entry_bar for trade in still] == [4]
    ours = ours_by(prices, [0, 1, 1, 1, 1, 1], sizing="units", size=2.0, stop_loss=0.05)
    assert ours[1:] == ([(2, 3, 2, 100, 95, -10)], ["stop_loss"])
    differs(PEER, "side still wanted after a stop", "bought again on the next bar", "barred until the target leaves it")


def test_larger_target_adds_to_the_trade_here(differs):
    """2 units become 4: exclusive orders sell 2 and buy 4, for fees of 2 + 2 + 4."""
    prices = ohlc(*[FLAT] * 5)
    larger = {1: lambda strategy: strategy.buy(size=2), 2: lambda strategy: strategy.buy(size=4)}
    equity, closed, still = theirs_by(prices, larger, commission=0.01, exclusive_orders=True)
    assert (equity[-1], closed, still[0].size) == (992, [(2, 3, 2, 100, 100, -4)], 4)
    ours = ours_by(prices, [0, 0.5, 1, 1, 1], sizing="units", size=4.0, fees=0.01)
    assert (ours[0][-1], ours[1]) == (996, [(2, 4, 4, 100, 100, -4)])
    differs(PEER, "a new size on the same side", "exclusive orders close the trade first", "the difference is traded")


def test_order_beyond_the_account_is_cut_here(differs):
    prices = ohlc(*[FLAT] * 4)
    with pytest.warns(UserWarning, match="Broker canceled the order due to insufficient margin"):
        assert theirs_by(prices, {1: lambda strategy: strategy.buy(size=20)})[1:] == ([], ())
    assert ours_by(prices, [0, 1, 1, 1], sizing="units", size=20.0)[1][0][2] == 10
    differs(PEER, "20 units, where the account pays for 10", "cancelled", "10 units")


def test_room_for_a_larger_short_is_not_taken_from_the_close_of_its_own_bar_here(differs):
    """5 short at 100, 4 more at an open of 100: at the close of that bar, 150, there is no margin left."""
    prices = ohlc(*[FLAT] * 3, (100, 151, 99, 150), (150, 151, 149, 150))
    larger = {1: lambda strategy: strategy.sell(size=5), 2: lambda strategy: strategy.sell(size=4)}
    assert [trade.size for trade in theirs_by(prices, larger)[2]] == [-5]
    assert ours_by(prices, [0, -5 / 9, -1, -1, -1], sizing="units", size=9.0)[1][0][2] == -9
    differs(
        PEER,
        "margin for more of a short, filled at the open",
        "measured at the close of the bar that opens there: it looks ahead",
        "measured at the price of the fill",
    )


def test_ruined_account_pays_no_exit_here(differs):
    """5 short at 100 for a fee of 5; at 350 they have lost 1,250."""
    prices = ohlc(*[FLAT] * 3, (100, 351, 99, 350), FLAT)
    equity, closed, _ = theirs_by(prices, {1: lambda strategy: strategy.sell(size=5)}, commission=0.01)
    assert (equity, closed) == ([1000, 1000, 995, 0, 0], [(2, 3, -5, 100, 350, -1272.5)])
    ours = ours_by(prices, [0, -1, -1, -1, -1], sizing="units", size=5.0, fees=0.01)
    assert ours == ([1000, 1000, 995, 0, 0], [(2, 3, -5, 100, 350, -1255)], ["ruin"])
    differs(
        PEER, "pnl of a trade that ruins the account", "after a fee for its exit", "no fee: there is no account left"
    )


def test_bars_that_cannot_be_are_refused_here(differs):
    wrong = ohlc(FLAT, FLAT, (100, 99, 101, 100), FLAT)
    unsorted = ohlc(*[FLAT] * 4).iloc[::-1]
    assert theirs_by(wrong, {})[0] == [1000] * 4
    with pytest.warns(UserWarning, match="Sorting"):
        assert theirs_by(unsorted, {})[0] == [1000] * 4
    for prices in (wrong, unsorted):
        with pytest.raises(PricesError):
            run_backtest(prices, [0, 1, 1, 1])
    differs(PEER, "High below Low, dates not in order", "taken; sorted with a warning", "refused, with the first date")
