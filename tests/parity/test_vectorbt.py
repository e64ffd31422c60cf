"""Backgrid's trades and equity are those of vectorbt 1.2, trade by trade and bar by bar, at 1e-9 relative.

Every case runs on 120 random series and on every symbol of the sample, each with targets of its own. Compared are all
trades (entry bar, exit bar, units, entry price, exit price, fees, pnl, whether open) and the equity of every bar but
the first. Series of one length lie side by side as columns of one vectorbt portfolio.

Most cases give vectorbt one row a bar, as its users do. It takes one order a row, and lets a stop of the row go before
any signal of it; Backgrid follows the clock: what the open calls for, then what lies between low and high. Where that
matters, vectorbt gets a bar as three rows: leave at the price of the fill, enter at it, and the whole bar; or as two:
the open, and the whole bar. The rows before the bar show it nothing but their price. What remains different is pinned
at the end, by hand.
"""

import itertools
from typing import NamedTuple

import numpy as np
import pandas as pd
import plain
import pytest
import vectorbt as vbt
from numba import njit
from vectorbt.portfolio import nb
from vectorbt.portfolio.enums import StopEntryPrice, StopExitPrice, StopUpdateMode, TradeStatus

from backgrid.data import fetch_ohlcv
from backgrid.engine import FILLS, run_backtest
from backgrid.result import EXIT_REASONS
from backgrid.strategies import STRATEGIES

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # vectorbt, of pandas 3

PEER = "vectorbt"
NAN, CASH = float("nan"), 100_000.0
LENGTHS, VOLATILITIES = (60, 97, 150, 240, 365, 600), (0.002, 0.005, 0.01, 0.02, 0.04)
DAILY = ("AMZN", "GOOG", "META", "NFLX", "NVDA")  # of one length
OTHERS = (("AAPL", "1d"), ("^GSPC", "1d"), ("EURUSD=X", "1h"), ("AAPL", "1m"))
SIDES = {"long": (0.0, 1.0), "short": (0.0, -1.0), "long and short": (-1.0, 0.0, 1.0)}
FRACTIONS = (-1.0, -0.5, 0.0, 0.3, 0.7, 1.0)
FEES, FIXED_FEE, SLIPPAGE = {"fees": 0.001}, {"fixed_fee": 1.5}, {"slippage": 0.0005}
COSTS = {
    "no costs": {},
    "fees": FEES,
    "fixed fee": FIXED_FEE,
    "slippage": SLIPPAGE,
    "fees, slippage": {**FEES, **SLIPPAGE},
    "all costs": {**FEES, **FIXED_FEE, **SLIPPAGE},
}
ONE_COST, ALL_COSTS = ("fees", "fixed fee", "slippage"), COSTS["all costs"]
every_fill = pytest.mark.parametrize("fill", FILLS)


# ---- the series ------------------------------------------------------------------------------------------------------


class Group(NamedTuple):
    """Bars of one length, side by side."""

    names: list[str]
    frames: list[pd.DataFrame]

    def matrix(self, column):
        return np.column_stack([frame[column] for frame in self.frames])

    def price(self, fill):
        return self.matrix("Open" if fill == "next_open" else "Close")

    def targets(self, values):
        """Targets of each series, held for 1 to 6 bars and often longer, since the next may be the same."""
        n_bars = len(self.frames[0])
        return np.column_stack([plain.random_targets(n_bars + k, n_bars, values) for k in range(len(self.frames))])

    @property
    def daily_move(self):
        """Standard deviation of the returns of each series, to scale its stops."""
        return np.array([frame["Close"].pct_change().std() for frame in self.frames])


def with_gaps(bars, seed):
    """The same bars, every twentieth or so opened 5 to 15 % away."""
    rng = np.random.default_rng(seed)
    jumps = np.where(rng.random(len(bars)) < 0.05, rng.uniform(0.05, 0.15, len(bars)), 0.0)
    return bars.mul(np.cumprod(1.0 + jumps * rng.choice([-1.0, 1.0], len(bars))), axis=0)


def random_group(n_bars):
    """Twenty series of one length: five volatilities, half of the series with gaps beyond those of the walk."""
    names, frames = [], []
    for k, (gaps, volatility) in enumerate(itertools.product((False, True) * 2, VOLATILITIES)):
        bars = plain.random_bars(1000 * k + n_bars, n_bars, volatility)
        names.append(f"random {n_bars} bars {k}")
        frames.append(with_gaps(bars, k) if gaps else bars)
    return Group(names, frames)


@pytest.fixture(scope="module")
def samples():
    groups = [[(symbol, "1d") for symbol in DAILY], *([other] for other in OTHERS)]
    names = [[f"{symbol} {interval}" for symbol, interval in group] for group in groups]
    frames = [[fetch_ohlcv(s, interval=i, source="sample") for s, i in group] for group in groups]
    return [Group(*both) for both in zip(names, frames, strict=True)]


@pytest.fixture(scope="module")
def groups(samples):
    return [*(random_group(n_bars) for n_bars in LENGTHS), *samples]


# ---- two runs and their comparison -----------------------------------------------------------------------------------


class Run(NamedTuple):
    """Columns of `trades`: series, entry bar, exit bar, open, then units, entry price, exit price, fees, pnl."""

    trades: np.ndarray
    equity: np.ndarray
    reasons: set


def of_backgrid(group, strategy, **settings):
    """Runs of targets, a column each, or of a strategy by name."""
    columns = [strategy] * len(group.names) if isinstance(strategy, str) else strategy.T
    runs = [
        run_backtest(frame, column, cash=CASH, **{name: by_series(value, k) for name, value in settings.items()})
        for k, (frame, column) in enumerate(zip(group.frames, columns, strict=True))
    ]
    booked = np.vstack([np.column_stack([np.full(len(run.booked), k), run.booked]) for k, run in enumerate(runs)])
    reasons = np.array(EXIT_REASONS)[booked[:, 8].astype(int)]
    trades = np.column_stack([booked[:, :3], reasons == "open", booked[:, 3:8]])
    return Run(trades, np.column_stack([run.equity for run in runs]), set(reasons))


def by_series(value, k):
    """Row k of what is given by series, column k of what is given by bar and series."""
    return value if np.ndim(value) == 0 else value[k] if np.ndim(value) == 1 else value[:, k]


def of_vectorbt(portfolio, rows=1):
    """Its positions, which are our trades, on a table with so many rows a bar."""
    found = portfolio.positions.records
    is_open = found["status"] == TradeStatus.Open
    units = found["size"] * np.where(found["direction"] == 0, 1.0, -1.0)
    columns = [found["col"], found["entry_idx"] // rows, found["exit_idx"] // rows, is_open, units]
    columns += [found["entry_price"], found["exit_price"], found["entry_fees"] + found["exit_fees"], found["pnl"]]
    return Run(np.column_stack(columns).astype(float), portfolio.value().to_numpy()[rows - 1 :: rows], set())


def apart(mine, peers):
    """Largest relative difference of each series; of a pnl, in terms of the value traded."""
    assert mine.trades[:, :4].tolist() == peers.trades[:, :4].tolist()  # the same trades on the same bars
    scale = np.abs(peers.trades[:, 4:])
    scale[:, 4] = scale[:, 0] * scale[:, 1]
    off = np.abs(mine.trades[:, 4:] - peers.trades[:, 4:])
    of_trades = np.divide(off, scale, out=off, where=scale > 0.0).max(axis=1, initial=0.0)
    of_equity = np.abs(mine.equity[1:] / peers.equity[1:] - 1.0)
    return [np.max([*of_trades[mine.trades[:, 0] == k], *curve]) for k, curve in enumerate(of_equity.T)]


@pytest.fixture
def hold(compared):
    """`hold(what, group, mine, peers)` fails where two runs differ, and enters them in the table where they do not."""

    def hold(what, group, mine, peers):
        assert "ruin" not in mine.reasons  # vectorbt knows no ruin, see below
        for k, (name, difference) in enumerate(zip(group.names, apart(mine, peers), strict=True)):
            assert difference <= 1e-9, name
            compared(PEER, what, name, int((mine.trades[:, 0] == k).sum()), difference)

    return hold


# ---- how vectorbt is asked -------------------------------------------------------------------------------------------


def at_fill(by_close, fill, blank=NAN):
    """What was decided at a close, in the row of the bar where it trades."""
    return by_close if fill == "close" else np.vstack([np.full_like(by_close[:1], blank), by_close[:-1]])


def changes(targets, also=False):
    """Targets where they change (or where it is said also), NaN elsewhere."""
    before = np.vstack([np.zeros_like(targets[:1]), targets[:-1]])
    return np.where((targets != before) | also, targets, NAN)


def through_flat(targets):
    """The same, with a flat bar wherever the side would change at once."""
    before = np.vstack([np.zeros_like(targets[:1]), targets[:-1]])
    return np.where(targets * before < 0.0, 0.0, targets)


def in_rows(*parts):
    """One table with as many rows a bar as there are parts."""
    return np.stack(np.broadcast_arrays(*parts), axis=1).reshape(-1, parts[-1].shape[1])


def one_row(group, fill, weights):
    """Prices and signals of `from_signals`, the row being the bar."""
    prices = {name.lower(): group.matrix(name) for name in ("Open", "High", "Low", "Close")}
    return {**prices, "price": group.price(fill), **signals(weights, weights)}


def three_rows(group, fill, weights):
    """The same with three rows a bar: leave, enter, and the bar. The first two show the price of the fill alone, and
    no high or low, so that no trailing stop learns from them."""
    bar, price, nothing = one_row(group, fill, weights), group.price(fill), np.full_like(weights, NAN)
    before = {"open": price, "high": np.zeros_like(price), "low": np.full_like(price, np.inf), "close": price}
    prices = {name: in_rows(seen, seen, bar[name]) for name, seen in before.items()}
    rows = signals(in_rows(nothing, weights, nothing), in_rows(weights, nothing, nothing))
    return {**prices, "price": in_rows(price, price, price), **rows}


def two_rows(group, fill, weights):
    """The same with two rows a bar: its open, and the bar."""
    bar, nothing = one_row(group, fill, weights), np.full_like(weights, NAN)
    opened = bar["open"]
    before = {"open": opened, "high": np.zeros_like(opened), "low": np.full_like(opened, np.inf), "close": opened}
    prices = {name: in_rows(seen, bar[name]) for name, seen in before.items()}
    late = in_rows(nothing, weights)
    return {**prices, "price": in_rows(bar["price"], bar["price"]), **signals(late, late)}


def signals(enter, leave):
    return {"entries": enter > 0.0, "exits": leave <= 0.0, "short_entries": enter < 0.0, "short_exits": leave >= 0.0}


def named_there(costs):
    return {{"fixed_fee": "fixed_fees"}.get(name, name): value for name, value in costs.items()}


def from_signals(rows, costs, cash=CASH, **more):
    """All in, unless a size is given; stops count from the price paid and fill at the market."""
    modes = {"stop_entry_price": StopEntryPrice.FillPrice, "stop_exit_price": StopExitPrice.StopMarket, **more}
    costs = named_there(costs)
    return vbt.Portfolio.from_signals(**rows, **costs, **modes, init_cash=cash, upon_opposite_entry="reverse")


# ---- all in and out --------------------------------------------------------------------------------------------------


@every_fill
@pytest.mark.parametrize(
    ("sides", "costs"),
    [*itertools.product(SIDES, ("no costs", "all costs")), *(("long and short", costs) for costs in ONE_COST)],
)
def test_all_in_and_out(groups, hold, fill, sides, costs):
    """Three rows a bar where a fixed fee is charged twice for a change of side."""
    rows, layout = (3, three_rows) if sides == "long and short" and "fixed_fee" in COSTS[costs] else (1, one_row)
    for group in groups:
        targets = group.targets(SIDES[sides])
        portfolio = from_signals(layout(group, fill, at_fill(changes(targets), fill)), COSTS[costs])
        mine = of_backgrid(group, targets, fill=fill, **COSTS[costs])
        hold(f"all in and out, {sides}", group, mine, of_vectorbt(portfolio, rows))


@pytest.mark.parametrize("windows", [(10, 30), (20, 50)], ids=str)
def test_crossover_of_its_own_means(groups, hold, windows):
    """Signals made by vectorbt, given as levels: what it holds where its fast mean is above its slow one."""
    for group in groups:
        close = pd.DataFrame(group.matrix("Close"))
        fast, slow = (vbt.MA.run(close, window, per_column=False) for window in windows)
        above = fast.ma_above(slow).to_numpy()
        rows = {
            "close": close.to_numpy(),
            "price": group.price("next_open"),
            "entries": at_fill(above, "next_open", False),
        }
        portfolio = from_signals({**rows, "exits": ~rows["entries"]}, FEES)
        params = dict(zip(("fast_window", "slow_window"), windows, strict=True))
        runs = of_backgrid(group, "ma_crossover", params=params, **FEES)
        hold("ma_crossover, its means and ours, fees", group, runs, of_vectorbt(portfolio))


@every_fill
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_registered_strategy_on_the_sample(samples, hold, fill, strategy):
    for group in samples:
        targets = np.column_stack([STRATEGIES[strategy](frame).fillna(0.0) for frame in group.frames])
        portfolio = from_signals(one_row(group, fill, at_fill(changes(targets), fill)), ALL_COSTS)
        mine = of_backgrid(group, strategy, fill=fill, **ALL_COSTS)
        hold("strategies on the sample, all costs", group, mine, of_vectorbt(portfolio))


@every_fill
def test_whole_units(groups, hold, fill):
    for group in groups:
        targets = group.targets(SIDES["long and short"])
        rows = three_rows(group, fill, at_fill(changes(targets), fill))
        portfolio = from_signals(rows, ALL_COSTS, size_granularity=1.0)
        mine = of_backgrid(group, targets, fill=fill, whole_units=True, **ALL_COSTS)
        hold("whole units, all in, all costs", group, mine, of_vectorbt(portfolio, 3))


# ---- weights: kept as units, or held ---------------------------------------------------------------------------------


def due(group, rebalance):
    """At which closes of a series an open position is sized anew, as columns of a group."""
    if rebalance is None:
        return False
    months = [frame.index.tz_localize(None).to_period("M") for frame in group.frames]
    first = np.column_stack([np.r_[False, month[1:] != month[:-1]] for month in months])
    return first if rebalance == "month" else np.ones_like(first)


@every_fill
@pytest.mark.parametrize("rebalance", [None, "bar", "month"])
def test_weights_without_costs(groups, hold, fill, rebalance):
    for group in groups:
        targets = group.targets(FRACTIONS)
        size = at_fill(changes(targets, also=due(group, rebalance)), fill)
        orders = {"size": size, "size_type": "targetpercent", "price": group.price(fill)}
        portfolio = vbt.Portfolio.from_orders(group.matrix("Close"), **orders, init_cash=CASH)
        mine = of_backgrid(group, targets, fill=fill, rebalance=rebalance)
        hold(f"weights, rebalance={rebalance}, no costs", group, mine, of_vectorbt(portfolio))


@njit
def towards(c, weights, called, prices, closes, band, fees, fixed_fee, slippage):
    """The rule of the design in terms of vectorbt's own account: of three rows a bar, the first leaves the wrong side
    and the second goes to weight * (equity at the price paid - fixed fee) / (price paid * (1 + fees)) units."""
    weight, price, close = weights[c.i, c.col], prices[c.i, c.col], closes[c.i, c.col]
    cash, held, missing = c.cash_now, c.position_now, 0.0
    drift = abs(held * close / (cash + held * close) - weight)
    if c.i % 3 == 0 and called[c.i, c.col] and weight * held <= 0.0:
        missing = -held
    if c.i % 3 == 1 and weight != 0.0 and (called[c.i, c.col] or (held != 0.0 and drift > band)):
        value = weight * (cash + held * price) - held * price
        side = 1.0 if value > 0.0 else -1.0
        paid, back = price * (1.0 + side * slippage), price * (1.0 - side * slippage)
        missing = weight * (cash + held * paid - fixed_fee) / (paid * (1.0 + fees)) - held
        turned = weight * (cash + held * back - fixed_fee) / (back * (1.0 + fees)) - held
        if abs(value) <= 1e-12 * abs(held * price) or missing * side <= 0.0 or (held != 0.0 and turned * side <= 0.0):
            missing = 0.0  # there, or costs leave nothing to trade
    return nb.order_nb(size=missing, price=price, fees=fees, fixed_fees=fixed_fee, slippage=slippage)


@every_fill
@pytest.mark.parametrize(
    ("rebalance", "costs"),
    [
        *((None, costs) for costs in (*ONE_COST, "all costs")),
        ("bar", "fees, slippage"),
        ("month", "fees, slippage"),
        (0.05, "all costs"),
    ],
)
def test_weights_with_costs(groups, hold, fill, rebalance, costs):
    """Its own sizes leave out the costs (pinned below), so it is told the size, in terms of its own cash and units. No
    fixed fee where small orders are frequent: it refuses a sale that its fee would eat up (pinned below)."""
    band = rebalance if isinstance(rebalance, float) else np.inf
    given = {"fees": 0.0, "fixed_fee": 0.0, "slippage": 0.0, **COSTS[costs]}
    for group in groups:
        targets, close = group.targets(FRACTIONS), group.matrix("Close")
        called = ~np.isnan(changes(targets, also=due(group, None if band < np.inf else rebalance)))
        tables = [
            at_fill(targets, fill, 0.0),
            at_fill(called, fill, False),
            group.price(fill),
            at_fill(close, fill, 1.0),
        ]
        rows = [in_rows(table, table, table) for table in tables]
        seen = in_rows(group.price(fill), group.price(fill), close)
        portfolio = vbt.Portfolio.from_order_func(seen, towards, *rows, band, *given.values(), init_cash=CASH)
        mine = of_backgrid(group, targets, fill=fill, rebalance=rebalance, **COSTS[costs])
        hold(f"weights, rebalance={rebalance}, {costs}", group, mine, of_vectorbt(portfolio, 3))


@every_fill
def test_short_of_more_than_the_account(groups, hold, fill):
    """It sells short whatever it is told; a long is limited to its cash (pinned below)."""
    for group in groups:
        targets = group.targets((0.0, -0.5, -1.3))
        orders = {"size": at_fill(changes(targets), fill), "size_type": "targetpercent", "price": group.price(fill)}
        portfolio = vbt.Portfolio.from_orders(group.matrix("Close"), **orders, init_cash=CASH)
        mine = of_backgrid(group, targets, fill=fill, leverage=1.3)
        hold("short, leverage 1.3, no costs", group, mine, of_vectorbt(portfolio))


@every_fill
def test_size_in_units(groups, hold, fill):
    for group in groups:
        targets = group.targets(FRACTIONS)
        orders = {
            "size": 2.0 * at_fill(changes(targets), fill),
            "size_type": "targetamount",
            "price": group.price(fill),
        }
        portfolio = vbt.Portfolio.from_orders(group.matrix("Close"), **orders, **FEES, **SLIPPAGE, init_cash=CASH)
        mine = of_backgrid(group, targets, fill=fill, sizing="units", size=2.0, **FEES, **SLIPPAGE)
        hold("size in units, fees and slippage", group, mine, of_vectorbt(portfolio))


@every_fill
def test_size_in_cash(groups, hold, fill):
    """Its value is that of the units without slippage and fees, so that these are taken off the cash to spend."""
    for group in groups:
        targets = group.targets((-1.0, 0.0, 1.0))
        weights = at_fill(changes(targets), fill)
        paid = 1.0 + np.sign(np.nan_to_num(weights)) * SLIPPAGE["slippage"]
        value = (2_000.0 - FIXED_FEE["fixed_fee"]) / (paid * (1.0 + FEES["fees"]))
        rows = three_rows(group, fill, weights)
        portfolio = from_signals(rows, ALL_COSTS, size=in_rows(value, value, value), size_type="value")
        mine = of_backgrid(group, targets, fill=fill, sizing="cash", size=2_000.0, **ALL_COSTS)
        hold("size in cash, all costs", group, mine, of_vectorbt(portfolio, 3))


# ---- stops -----------------------------------------------------------------------------------------------------------

LOSS, PROFIT, TRAILING = {"stop_loss": 2.0}, {"take_profit": 3.0}, {"trailing_stop": 2.5}  # daily moves of the series
ONE_STOP = {"stop_loss": LOSS, "take_profit": PROFIT, "trailing_stop": TRAILING}
STOPS = ONE_STOP | {"stop_loss, take_profit": {**LOSS, **PROFIT}, "trailing_stop, take_profit": {**TRAILING, **PROFIT}}
STOPS |= {"stop_loss, trailing_stop": {**LOSS, **TRAILING}, "all three": {**LOSS, **PROFIT, **TRAILING}}


@njit
def nearer(c, losses, trails):
    """A stop loss and a trailing stop at once: as a trailing stop, so far from the best price as the nearer one is."""
    if c.position_now == 0.0:
        return np.nan, True
    side = 1.0 if c.position_now > 0.0 else -1.0
    loss = c.init_price * (1.0 - side * losses[c.init_i, c.col])
    trailed = c.curr_price * (1.0 - side * trails[c.init_i, c.col])
    level = np.fmax(loss, trailed) if side > 0.0 else np.fmin(loss, trailed)
    return side * (1.0 - level / c.curr_price), True


def distances(group, stops, by_bar):
    """Fractions of the entry price by series; or by bar too, with none on every fifth."""
    distances = {name: moves * group.daily_move for name, moves in stops.items()}
    if by_bar:
        rng = np.random.default_rng(len(group.frames[0]))
        shape = group.matrix("Close").shape
        wider = {name: np.where(rng.random(shape) < 0.2, NAN, rng.uniform(0.5, 1.5, shape)) for name in stops}
        distances = {name: value * wider[name] for name, value in distances.items()}
    return distances


def stops_there(distances, group, fill, rows):
    """What `from_signals` takes for the same stops, as tables whether given or not: another type compiles anew."""
    zeros = np.zeros_like(group.matrix("Close"))
    tables = [at_fill(zeros + distances.get(name, NAN), fill) for name in ("stop_loss", "take_profit", "trailing_stop")]
    loss, profit, trailing = (in_rows(*[table] * rows) for table in tables)
    found = {"tp_stop": profit, "sl_stop": np.fmin(loss, trailing), "sl_trail": "trailing_stop" in distances}
    if {"stop_loss", "trailing_stop"} <= distances.keys():
        found |= {"adjust_sl_func_nb": nearer, "adjust_sl_args": (loss, trailing)}
    return found


def hold_with_stops(hold, what, groups, fill, values, stops, costs, *, by_bar=False, share=None, **settings):
    """Three rows a bar for a fill at the open, where the entry bar is watched; else two, so that what lies beyond the
    open goes first, and targets that pass through flat."""
    rows, layout = (3, three_rows) if fill == "next_open" else (2, two_rows)
    reasons = set()
    for group in groups:
        targets = group.targets(values) if fill == "next_open" else through_flat(group.targets(values))
        by_series = distances(group, stops, by_bar)
        weights = at_fill(changes(targets), fill)
        sized = {} if share is None else {"size": in_rows(*[share(weights, by_series)] * rows), "size_type": "percent"}
        there = stops_there(by_series, group, fill, rows)
        portfolio = from_signals(layout(group, fill, weights), costs, **sized, **there)
        mine = of_backgrid(group, targets, fill=fill, **by_series, **settings, **costs)
        hold(what, group, mine, of_vectorbt(portfolio, rows))
        reasons |= mine.reasons
    assert {*stops, "signal", "open"} <= reasons


@every_fill
@pytest.mark.parametrize(
    ("stops", "by_bar"), [*((stops, False) for stops in STOPS), *((s, True) for s in (*ONE_STOP, "all three"))]
)
def test_stops(groups, hold, fill, stops, by_bar):
    what, values = f"stops: {stops}{', by bar' if by_bar else ''}", SIDES["long and short"]
    hold_with_stops(hold, what, groups, fill, values, STOPS[stops], ALL_COSTS, by_bar=by_bar)


@every_fill
@pytest.mark.parametrize("sides", ["long", "short"])
@pytest.mark.parametrize("costs", ["no costs", "all costs"])
def test_stops_of_one_side(groups, hold, fill, sides, costs):
    what = f"stops, {sides}: trailing_stop, take_profit"
    stops = STOPS["trailing_stop, take_profit"]
    hold_with_stops(hold, what, groups, fill, SIDES[sides], stops, COSTS[costs])


@every_fill
def test_stops_of_fractions(groups, hold, fill):
    def share(weights, distances):
        return np.abs(np.nan_to_num(weights))

    what, values, costs = "stops of fractions: stop_loss, take_profit", (-0.6, 0.0, 0.4), COSTS["fees, slippage"]
    hold_with_stops(hold, what, groups, fill, values, STOPS["stop_loss, take_profit"], costs, share=share)


@every_fill
def test_size_by_the_risk_of_a_stop(groups, hold, fill):
    def share(weights, distances):
        return np.minimum(0.005 / distances["stop_loss"], 1.0) * np.ones_like(weights)

    what, values, costs = "size by risk: stop_loss", SIDES["long and short"], COSTS["fees, slippage"]
    hold_with_stops(hold, what, groups, fill, values, LOSS, costs, share=share, sizing="risk", size=0.005)


# ---- different on purpose, by hand -----------------------------------------------------------------------------------

UNITS, ENTRY_PRICE, EXIT_PRICE = 4, 5, 6  # columns of the trades of a Run


def there(prices, weights, fill="close", costs=None, cash=1000.0, **more):
    """vectorbt on one row a bar, where the weights are: trades and equity."""
    rows = one_row(Group([""], [prices]), fill, np.array(weights)[:, None])
    run = of_vectorbt(from_signals(rows, costs or {}, cash, **more))
    return run.trades.round(9), run.equity[:, 0].round(9).tolist()


def orders_there(prices, size, size_type="targetpercent", **costs):
    """Units that vectorbt holds after each bar, by orders at the close."""
    close = prices["Close"].to_numpy()
    portfolio = vbt.Portfolio.from_orders(close, np.array(size), size_type, init_cash=1000.0, **named_there(costs))
    return portfolio.assets().round(9).tolist()


def here(prices, targets, **settings):
    return run_backtest(prices, targets, **{"fill": "close", "cash": 1000.0, **settings})


def units_here(prices, targets, **settings):
    """Units that Backgrid holds after each bar."""
    run = here(prices, targets, **settings)
    return (run.positions * run.equity / prices["Close"]).round(9).tolist()


def trades_here(run, *columns):
    """These columns of the trades of Backgrid, row by row."""
    return run.trades[list(columns)].round(9).to_numpy().tolist()


def test_first_equity_is_the_cash(bars, differs):
    prices, fees = bars(close=[100.0, 100.0]), {"fees": 0.01}
    assert there(prices, [1.0, NAN], costs=fees, cash=1010.0)[1] == [1000.0, 1000.0]
    assert here(prices, [1.0, 1.0], cash=1010.0, **fees).equity.tolist() == [1010.0, 1000.0]
    differs(PEER, "equity of the first bar, bought at its close", "costs are gone", "the starting cash")


def test_change_of_side_is_two_fills_of_a_fixed_fee(bars, differs):
    """10 units for 1,010; of the 1,000 they bring, vectorbt keeps 990, we keep 990 and then 980."""
    prices, fee = bars(close=[100.0, 100.0]), {"fixed_fee": 10.0}
    trades, equity = there(prices, [1.0, -1.0], costs=fee, cash=1010.0)
    assert trades[:, UNITS].tolist() == [10.0, -9.9] and equity[-1] == 990.0
    run = here(prices, [1.0, -1.0], cash=1010.0, **fee)
    assert trades_here(run, "units") == [[10.0], [-9.8]] and run.equity.round(9).iloc[-1] == 980.0
    differs(PEER, "fixed fee of a change of side", "once: one order", "twice: close, then open with what is left")


def test_weight_of_a_target_leaves_room_for_its_costs(bars, differs):
    prices = bars(close=[100.0, 100.0])
    assert orders_there(prices, [0.5, NAN], fees=0.25) == [5.0, 5.0]
    assert units_here(prices, [0.5, 0.5], fees=0.25) == [4.0, 4.0]  # 500 / 125
    differs(PEER, "target weight of 0.5 with fees", "0.5 equity / price units", "0.5 equity / (price (1 + fees))")


def test_fixed_fee_is_taken_before_the_weight(bars, differs):
    """Half of 1,000, less 100; or half of what the 100 leave."""
    prices, fee = bars(close=[100.0, 100.0]), {"fixed_fee": 100.0}
    trades, _ = there(prices, [1.0, NAN], costs=fee, size=0.5, size_type="percent")
    assert trades[0, UNITS] == 4.0 and units_here(prices, [0.5, 0.5], **fee)[0] == 4.5
    differs(PEER, "fixed fee of a percentage, long", "out of the share: w cash - fee", "before it: w (equity - fee)")


def test_rebalance_does_not_trade_for_its_own_costs(bars, differs):
    """4 units are 400 of 900: below the weight of 0.5, yet more than the 3.6 that are left of 0.5 after fees."""
    prices = bars(close=[100.0, 100.0])
    assert orders_there(prices, [0.4, 0.4], fees=0.25) == [4.0, 3.6]  # told 0.5 / 1.25
    assert units_here(prices, [0.5, 0.5], fees=0.25, rebalance="bar") == [4.0, 4.0]
    differs(PEER, "rebalance between the weight and the weight net of costs", "sells down to the latter", "no trade")


def test_sale_below_its_fee_is_made(bars, differs):
    """0.05 units bring 5 and cost 10."""
    prices = bars(close=[100.0, 100.0])
    assert orders_there(prices, [5.0, 4.95], "targetamount", fixed_fee=10.0) == [5.0, 5.0]
    assert units_here(prices, [1.0, 0.99], sizing="units", size=5.0, fixed_fee=10.0) == [5.0, 4.95]
    differs(PEER, "sale that brings less than its fixed fee", "refused", "made")


def test_whole_units_round_what_is_held(bars, differs):
    """From 10 units to 5.5: vectorbt sells 4 of 4.5."""
    prices = bars(close=[100.0, 100.0])
    assert orders_there(prices, [1.0, 0.55], size_granularity=1.0) == [10.0, 6.0]
    assert units_here(prices, [1.0, 0.55], whole_units=True) == [10.0, 5.0]
    differs(PEER, "whole units", "the order is rounded", "what is held is rounded")


def test_long_beyond_the_cash_is_a_loan(bars, differs):
    prices = bars(close=[100.0, 100.0])
    assert orders_there(prices, [2.0, NAN]) == [10.0, 10.0]
    assert units_here(prices, [2.0, 2.0], leverage=2.0) == [20.0, 20.0]
    differs(PEER, "long of twice the equity", "cut to the cash", "bought, with leverage=2 (and cash_rate on the loan)")


def test_ruin_ends_the_run(bars, differs):
    """Short 10 at 100; at 250 they cost 500 more than there is."""
    prices = bars(close=[100.0, 250.0, 100.0])
    assert there(prices, [-1.0, NAN, NAN])[1] == [1000.0, -500.0, 1000.0]
    run = here(prices, [-1.0, -1.0, -1.0])
    assert run.equity.tolist() == [1000.0, 0.0, 0.0] and trades_here(run, "exit_reason") == [["ruin"]]
    differs(PEER, "account below 0", "goes on, and may come back", "the run ends in ruin")


def test_trade_sold_in_parts_is_one(bars, differs):
    """10 at 100, half sold at 110 and half at 120: that is why its positions are compared, not its trades."""
    prices = bars(close=[100.0, 110.0, 120.0])
    portfolio = vbt.Portfolio.from_orders(prices["Close"], [10.0, -5.0, -5.0], init_cash=1000.0)
    assert portfolio.trades.records["pnl"].tolist() == [50.0, 100.0]
    assert portfolio.positions.records["pnl"].tolist() == [150.0]
    assert here(prices, [1.0, 0.5, 0.0], sizing="units", size=10.0).trades["pnl"].tolist() == [150.0]
    differs(PEER, "trades, where one is sold in parts", "one a sale (its positions are our trades)", "one")


def test_equal_means_are_equal(differs):
    """A constant price has one mean; rolling sums leave a rest that a signal sees."""
    close = pd.Series(100.1, index=pd.bdate_range("2020-01-01", periods=300), name="Close")
    fast, slow = (vbt.MA.run(close, window) for window in (5, 20))
    assert fast.ma_above(slow).sum() == 281  # ever since there are 20 bars
    assert STRATEGIES["ma_crossover"](close.to_frame(), fast_window=5, slow_window=20).sum() == 0.0
    differs(PEER, "means of 5 and 20 bars of a constant price", "differ by a rounding", "equal: exact sums")


# ---- stops, different on purpose -------------------------------------------------------------------------------------


def test_exit_at_the_open_comes_before_a_stop_of_that_bar(bars, differs):
    prices = bars(close=[100.0, 100.0, 100.0]).assign(Low=[100.0, 100.0, 80.0])
    trades, _ = there(prices, [NAN, 1.0, 0.0], "next_open", sl_stop=0.1)
    assert trades[:, EXIT_PRICE].tolist() == [90.0]
    run = here(prices, [1.0, 0.0, 0.0], fill="next_open", stop_loss=0.1)
    assert trades_here(run, "exit_price") == [[100.0]]
    differs(PEER, "signal at the open and a stop within that bar", "the stop, 90", "the open, 100: it came first")


def test_profit_beyond_the_open_comes_before_a_stop_later_in_that_bar(bars, differs):
    prices = bars(close=[100.0, 100.0, 100.0], open=[100.0, 100.0, 130.0]).assign(Low=[100.0, 100.0, 80.0])
    trades, _ = there(prices, [1.0, NAN, NAN], sl_stop=0.1, tp_stop=0.2)
    assert trades[:, EXIT_PRICE].tolist() == [90.0]
    run = here(prices, [1.0, 1.0, 1.0], stop_loss=0.1, take_profit=0.2)
    assert trades_here(run, "exit_price", "exit_reason") == [[130.0, "take_profit"]]
    differs(PEER, "open beyond the profit, then a stop within that bar", "the stop, 90", "the open, 130: it came first")


def test_entry_bar_is_watched_after_an_open_fill(bars, differs):
    prices = bars(close=[100.0, 100.0, 100.0]).assign(Low=[100.0, 80.0, 100.0])
    trades, _ = there(prices, [NAN, 1.0, NAN], "next_open", sl_stop=0.1)
    assert trades[:, [2, 3, EXIT_PRICE]].tolist() == [[2.0, 1.0, 100.0]]  # still open
    run = here(prices, [1.0, 1.0, 1.0], fill="next_open", stop_loss=0.1)
    assert trades_here(run, "exit_bar", "exit_price", "exit_reason") == [[1, 90.0, "stop_loss"]]
    differs(PEER, "stop within the bar that opened with the entry", "not seen", "sold at the stop")


def test_other_side_is_entered_at_the_close_of_a_stop(bars, differs):
    prices = bars(close=[100.0, 100.0, 100.0]).assign(Low=[100.0, 80.0, 100.0])
    trades, _ = there(prices, [1.0, -1.0, NAN], sl_stop=0.1)
    assert trades[:, [UNITS, EXIT_PRICE]].tolist() == [[10.0, 90.0]]
    run = here(prices, [1.0, -1.0, -1.0], stop_loss=0.1)
    assert trades_here(run, "units", "exit_price") == [[10.0, 90.0], [-9.0, 100.0]]
    differs(PEER, "signal at the close of a bar with a stop", "dropped", "traded")


def test_stopped_side_stays_out_until_the_target_leaves_it(bars, differs):
    prices = bars(close=[100.0, 85.0, 85.0])
    trades, _ = there(prices, [1.0, 1.0, 1.0], sl_stop=0.1)
    assert trades[:, [1, ENTRY_PRICE, EXIT_PRICE]].tolist() == [[0.0, 100.0, 90.0], [2.0, 85.0, 85.0]]
    run = here(prices, [1.0, 1.0, 1.0], stop_loss=0.1)
    assert trades_here(run, "entry_bar", "entry_price", "exit_price") == [[0, 100.0, 90.0]]
    differs(PEER, "entry signal that goes on after a stop", "enters again on the next bar", "waits for a new one")


@pytest.mark.parametrize(
    ("update", "level"), [(StopUpdateMode.Override, 108.0), (StopUpdateMode.Keep, 90.0)], ids=["override", "keep"]
)
def test_stop_counts_from_the_mean_entry_price(bars, differs, update, level):
    """5 at 100 and 5 at 120 are 10 at 110: 99."""
    prices = bars(close=[100.0, 120.0, 85.0], open=[100.0, 100.0, 110.0])
    adding = {"size": 5.0, "accumulate": True, "upon_stop_update": update}
    trades, _ = there(prices, [1.0, 1.0, NAN], cash=3000.0, sl_stop=0.1, **adding)
    assert trades[:, [ENTRY_PRICE, EXIT_PRICE]].tolist() == [[110.0, level]]
    run = here(prices, [0.5, 1.0, 1.0], cash=3000.0, sizing="units", size=10.0, stop_loss=0.1)
    assert trades_here(run, "entry_price", "exit_price") == [[110.0, 99.0]]
    differs(
        PEER, "stop of a position that was added to", "from the last fill, or the first", "from the mean entry price"
    )


def test_stop_counts_from_the_price_paid_and_pays_slippage(bars, differs):
    """Bought at 110, stopped at 99 and sold at 89.1; vectorbt can, and does so in all tests above."""
    prices, slippage = bars(close=[100.0, 85.0]), {"slippage": 0.1}
    defaults = {"stop_entry_price": StopEntryPrice.Close, "stop_exit_price": StopExitPrice.StopLimit}
    trades, _ = there(prices, [1.0, NAN], costs=slippage, sl_stop=0.1, **defaults)
    assert trades[0, [ENTRY_PRICE, EXIT_PRICE]].tolist() == [110.0, 90.0]
    trades, _ = there(prices, [1.0, NAN], costs=slippage, sl_stop=0.1)
    assert trades[0, [ENTRY_PRICE, EXIT_PRICE]].tolist() == [110.0, 89.1]
    run = here(prices, [1.0, 1.0], stop_loss=0.1, **slippage)
    assert trades_here(run, "entry_price", "exit_price") == [[110.0, 89.1]]
    differs(PEER, "stop with slippage, by default", "from the close, sold without", "from the price paid, sold with")
