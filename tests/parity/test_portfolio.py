"""Backgrid shares one account among several symbols as vectorbt 1.2 does with cash_sharing, wherever the cash reaches.

Every case runs on 120 random panels of 2 to 6 symbols and on the sample, with weights of their own. Compared are all
fills by bar and symbol (units, price, fees), the units held at each close, and the equity of every bar but the first,
at 1e-9. Panels of one length lie side by side as groups of columns of one vectorbt portfolio.

Its orders: `targetpercent` of the value of the group, at the price of the fill before slippage, sales first; so are
ours. It serves purchases one after the other until the cash is gone, ours shrink alike: pinned at the end, by hand.
"""

from typing import NamedTuple

import numpy as np
import pandas as pd
import plain
import pytest
import vectorbt as vbt

from backgrid import _kernels
from backgrid._kernels import FILL_BAR, FILL_FEE, FILL_PRICE, FILL_SYMBOL, FILL_UNITS
from backgrid.data import fetch_ohlcv
from backgrid.portfolio import run_portfolio

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # vectorbt, of pandas 3

PEER = "vectorbt"
NAN, CASH, FIVE = float("nan"), 100_000.0, ("AMZN", "GOOG", "META", "NFLX", "NVDA")
FILLS, LENGTHS = ("next_open", "close", "next_close"), (60, 97, 150, 240)
FEES, FIXED_FEE, SLIPPAGE = {"fees": 0.001}, {"fixed_fee": 1.5}, {"slippage": 0.0005}
COSTS = {"fees": FEES, "fixed fee": FIXED_FEE, "slippage": SLIPPAGE, "all costs": {**FEES, **FIXED_FEE, **SLIPPAGE}}
every_fill = pytest.mark.parametrize("fill", FILLS)
every_rebalance = pytest.mark.parametrize("rebalance", [None, "bar", "week", "month"])
some_rebalance = pytest.mark.parametrize("rebalance", [None, "bar", "month"])


# ---- the panels ------------------------------------------------------------------------------------------------------


class Panel(NamedTuple):
    """Prices by symbol, each with bars of its own, and what becomes of them on common bars."""

    name: str
    prices: dict
    open: pd.DataFrame
    close: pd.DataFrame
    tradable: np.ndarray

    @property
    def seed(self):
        return len(self.close) + len(self.name) + sum(map(ord, self.name))


def panel_of(name, prices):
    """The bars that all symbols have."""
    opens, closes = (pd.concat({s: f[c] for s, f in prices.items()}, axis=1, join="inner") for c in ("Open", "Close"))
    return Panel(name, prices, opens, closes, np.ones(len(closes), dtype=bool))


def random_panels(n_bars):
    """Thirty panels of 2 to 6 symbols, calm to wild."""
    for seed in range(30):
        volatility = (0.005, 0.01, 0.02, 0.04)[seed % 4]
        symbols = "ABCDEF"[: 2 + seed % 5]
        prices = {
            s: plain.random_bars(1000 * n_bars + 10 * seed + k, n_bars, volatility) for k, s in enumerate(symbols)
        }
        yield panel_of(f"random {n_bars} bars {seed}", prices)


@pytest.fixture(scope="module")
def samples():
    """Five symbols of the sample, and the same with one of other dates, on the bars that all have."""
    prices = {symbol: fetch_ohlcv(symbol, source="sample") for symbol in FIVE}
    more = {**prices, "AAPL": fetch_ohlcv("AAPL", source="sample")}
    return [panel_of("sample of 5", prices)], [panel_of("sample of 6", more)]


@pytest.fixture(scope="module")
def groups(samples):
    """Lists of panels of one length each."""
    return [*(list(random_panels(n_bars)) for n_bars in LENGTHS), *samples]


def weights_of(panel, most, *, short=0.0, leave=False):
    """Weights that add up to `most`, or to minus `short` for every second symbol, a fifth of them none, kept for 1 to
    15 bars; with a bar of none after each row if it is to leave."""
    rng, shape = np.random.default_rng(panel.seed), panel.close.shape
    parts = rng.dirichlet(np.ones(shape[1]), shape[0])
    parts[(parts < 0.02) | (rng.random(shape) < 0.2)] = 0.0
    for places, total in ((slice(0, None, 2), most), (slice(1, None, 2), -short)) if short else ((slice(None), most),):
        parts[:, places] *= total / np.maximum(parts[:, places].sum(axis=1, keepdims=True), 0.02)
    weights = np.repeat(parts, rng.integers(1, 16, shape[0]), axis=0)[: shape[0]]
    if leave:
        weights[1:][(weights[1:] != weights[:-1]).any(axis=1)] = 0.0
    return weights


def called(panel, weights, rebalance):
    """The closes at which the account is to be brought to its weights."""
    due = np.ones(len(weights), dtype=bool)
    if rebalance is None:
        due[1:] = (weights[1:] != weights[:-1]).any(axis=1)
    elif rebalance != "bar":
        parts = panel.close.index.to_period("W" if rebalance == "week" else "M")
        due[:] = np.r_[False, parts[1:] != parts[:-1]]
    due[: weights.any(axis=1).argmax()] = False
    due[weights.any(axis=1).argmax()] = True
    return due


def pulsing(panel, weights, rebalance):
    """The first of the weights throughout, halved at every other rebalance: no sale is worth less than its fee."""
    count = called(panel, weights, rebalance).cumsum()[:, None]
    return weights[weights.any(axis=1).argmax()] * np.where(count == 0, 0.0, np.where(count % 2 == 0, 0.5, 1.0))


def ordered(panel, weights, fill, rebalance):
    """Weights in the rows where vectorbt is to trade them, NaN in the others."""
    due, rows, asked = called(panel, weights, rebalance), np.full_like(weights, NAN), None
    for bar in range(len(weights)):
        decided = bar if fill == "close" else bar - 1
        if decided >= 0 and due[decided]:
            asked = decided
        if asked is not None and panel.tradable[bar]:
            rows[bar], asked = weights[asked], None
    return rows


# ---- two runs and their comparison -----------------------------------------------------------------------------------


class Run(NamedTuple):
    """Arrays by bar and symbol, and the equity by bar."""

    bought: np.ndarray
    price: np.ndarray
    fees: np.ndarray
    held: np.ndarray
    equity: np.ndarray
    n_trades: int


def filled(shape, bar, symbol, units, price, fees):
    """Units bought, mean price and fees by bar and symbol; one bar may have two fills of a symbol."""
    bought, paid, charged = np.zeros(shape), np.zeros(shape), np.zeros(shape)
    at = bar.astype(int), symbol.astype(int)
    for table, values in ((bought, units), (paid, units * price), (charged, fees)):
        np.add.at(table, at, values)
    return bought, np.divide(paid, bought, out=np.zeros(shape), where=bought != 0.0), charged


@pytest.fixture
def of_backgrid(monkeypatch):
    """`of_backgrid(panel, weights, ...)` runs the portfolio, and keeps the fills that its kernel made."""
    kernel, seen = _kernels.simulate_portfolio, []

    def listen(*arguments):
        seen.append(kernel(*arguments))
        return seen[-1]

    monkeypatch.setattr(_kernels, "simulate_portfolio", listen)

    def run(panel, weights, **settings):
        frame = pd.DataFrame(weights, index=panel.close.index, columns=panel.close.columns)
        result = run_portfolio(panel.prices, frame, cash=CASH, **settings)
        assert (result.trades["exit_reason"] != "ruin").all()  # vectorbt knows no ruin
        fills, shape = seen[-1][2], panel.close.shape
        table = filled(shape, *(fills[:, k] for k in (FILL_BAR, FILL_SYMBOL, FILL_UNITS, FILL_PRICE, FILL_FEE)))
        held = result.weights.to_numpy() * result.equity.to_numpy()[:, None] / panel.close.to_numpy()
        return Run(*table, held, result.equity.to_numpy(), len(result.booked))

    return run


def of_vectorbt(group, targets, fill, **settings):
    """One portfolio, a group of columns each panel; NaN in `targets` orders nothing."""
    close = np.hstack([panel.close for panel in group])
    price = np.hstack([panel.open for panel in group]) if fill == "next_open" else close
    places = np.repeat(np.arange(len(group)), [panel.close.shape[1] for panel in group])
    portfolio = vbt.Portfolio.from_orders(
        close,
        size=np.hstack(targets),
        size_type="targetpercent",
        price=price,
        val_price=price,
        group_by=places,
        cash_sharing=True,
        call_seq="auto",
        init_cash=CASH,
        **settings,
    )
    found = portfolio.orders.records
    units = found["size"] * np.where(found["side"] == 0, 1.0, -1.0)
    columns = (np.asarray(column) for column in (found["idx"], found["col"], units, found["price"], found["fees"]))
    tables = [*filled(close.shape, *columns), portfolio.assets().to_numpy()]
    equity = np.asarray(portfolio.value()).reshape(len(close), -1)
    return [Run(*(t[:, places == k] for t in tables), equity[:, k], 0) for k in range(len(group))]


def apart(mine, peers, n_fills):
    """Largest relative difference: units in terms of the most held of the symbol, fees of the most charged at once."""
    most = np.maximum(np.abs(peers.held).max(axis=0), 1e-12)
    dear = max(peers.fees.max(), 1e-12)
    traded = np.abs(peers.bought) > 1e-9 * most
    assert np.array_equal(traded, np.abs(mine.bought) > 1e-9 * most)  # the same fills on the same bars
    off = [np.abs(mine.bought - peers.bought) / most, np.abs(mine.held - peers.held) / most]
    off += [np.abs(mine.fees - peers.fees) / dear, np.abs(mine.price[traded] / peers.price[traded] - 1.0)]
    off += [np.abs(mine.equity[1:] / peers.equity[1:] - 1.0)]
    n_fills.append(traded.sum())
    return max(part.max(initial=0.0) for part in off)


@pytest.fixture
def hold(compared, of_backgrid):
    """`hold(what, groups, ...)` fails where runs differ, and enters them in the table where they do not."""

    def hold(what, groups, fill, book, *, rebalance=None, costs=None, pulse=False, there=None, **settings):
        n_fills, costs = [], costs or {}
        named_there = {{"fixed_fee": "fixed_fees"}.get(name, name): value for name, value in costs.items()}
        for group in groups:
            weights = [weights_of(panel, **book) for panel in group]
            if pulse:
                weights = [pulsing(panel, w, rebalance) for panel, w in zip(group, weights, strict=True)]
            targets = [ordered(panel, w, fill, rebalance) for panel, w in zip(group, weights, strict=True)]
            peers = of_vectorbt(group, targets, fill, **named_there, **(there or {}))
            for panel, w, peer in zip(group, weights, peers, strict=True):
                mine = of_backgrid(panel, w, fill=fill, rebalance=rebalance, **costs, **settings)
                difference = apart(mine, peer, n_fills)
                assert difference <= 1e-9, panel.name
                compared(PEER, what, f"portfolio of {panel.name}", mine.n_trades, difference)
        assert min(n_fills) > 1

    return hold


# ---- equal to its peer -----------------------------------------------------------------------------------------------


@every_fill
@every_rebalance
def test_all_in_without_costs(groups, hold, fill, rebalance):
    hold(f"portfolio, all in, rebalance={rebalance}", groups, fill, {"most": 1.0}, rebalance=rebalance)


@every_fill
@some_rebalance
@pytest.mark.parametrize("costs", COSTS)
def test_costs_that_a_reserve_of_cash_pays(groups, hold, fill, rebalance, costs):
    """Weights that pulse under a fixed fee: what is worth less than that is left (see below)."""
    what, settings = f"portfolio, a reserve, rebalance={rebalance}, costs", {"costs": COSTS[costs]}
    hold(what, groups, fill, {"most": 0.9}, rebalance=rebalance, pulse="fixed_fee" in COSTS[costs], **settings)


@every_fill
@some_rebalance
@pytest.mark.parametrize("costs", ["fees", "all costs"])
def test_long_and_short(groups, hold, fill, rebalance, costs):
    """What is sold short pays for what is bought, so that the weights may add up to more than 1."""
    settings = {"rebalance": rebalance, "costs": COSTS[costs], "leverage": 1.4, "pulse": "fixed_fee" in COSTS[costs]}
    book = {"most": 0.8, "short": 0.6}
    hold(f"portfolio, long and short, rebalance={rebalance}", groups, fill, book, **settings)


@every_fill
def test_whole_units_bought_and_sold_as_a_whole(groups, hold, fill):
    """vectorbt rounds what it trades, ours what it holds: the same where every position is left before the next."""
    there, book = {"size_granularity": 1.0}, {"most": 0.9, "leave": True}
    hold("portfolio, whole units", groups, fill, book, costs=COSTS["all costs"], there=there, whole_units=True)


@every_fill
@every_rebalance
def test_carried_prices(hold, fill, rebalance):
    """Symbols that lack bars of their own: vectorbt gets the last price, and no order on such a bar."""
    groups = [[with_holes(panel)] for n_bars in LENGTHS for panel in list(random_panels(n_bars))[:5]]
    settings = {"rebalance": rebalance, "costs": {**FEES, **SLIPPAGE}, "align": "ffill"}
    hold(f"portfolio, carried prices, rebalance={rebalance}", groups, fill, {"most": 0.9}, **settings)


def with_holes(panel):
    """Each symbol without a tenth of its bars, begun and ended within the first and last ten."""
    rng = np.random.default_rng(panel.seed)
    prices = {}
    for symbol, frame in panel.prices.items():
        some = frame.iloc[rng.integers(0, 10) : len(frame) - rng.integers(0, 10)]
        prices[symbol] = some[rng.random(len(some)) > 0.1]
    own = pd.concat({symbol: frame["Close"] for symbol, frame in prices.items()}, axis=1).sort_index()
    common = own.ffill()[own.ffill().notna().all(axis=1) & own.bfill().notna().all(axis=1)]
    opens = pd.concat({symbol: frame["Open"] for symbol, frame in prices.items()}, axis=1).reindex(common.index)
    tradable = own.reindex(common.index).notna().all(axis=1).to_numpy()
    return Panel(f"{panel.name} with holes", prices, opens.fillna(1.0), common, tradable)


@every_fill
def test_five_symbols_of_the_sample_as_users_ask_for_it(samples, of_backgrid, compared, fill):
    """The call of vectorbt's own documentation, a fifth each, the first of each month."""
    panel = samples[0][0]
    weights = np.full(panel.close.shape, 0.2)
    price = panel.open if fill == "next_open" else panel.close
    theirs = vbt.Portfolio.from_orders(
        panel.close,
        size=ordered(panel, weights, fill, "month"),
        size_type="targetpercent",
        price=price,
        val_price=price,
        group_by=True,
        cash_sharing=True,
        call_seq="auto",
        init_cash=CASH,
    )
    mine = of_backgrid(panel, weights, fill=fill, rebalance="month")
    difference = np.abs(mine.equity[1:] / theirs.value().to_numpy()[1:] - 1.0).max()
    assert difference <= 1e-9
    assert len(theirs.orders.records) == (mine.bought != 0.0).sum()
    compared(PEER, "portfolio, a fifth each by month", f"portfolio of {panel.name}", mine.n_trades, difference)


# ---- different on purpose --------------------------------------------------------------------------------------------


def test_cash_that_does_not_reach_is_shared_pro_rata(bars, differs):
    """1,000 for five symbols of 10, fees 1 % and 2: vectorbt pays 204 for 20 units of four each, and 184 are left for
    (184 - 2) / 10.1 = 18.02 of the last; ours (1,000 - 5 * 2) / 10.1 / 5 = 19.60 of each."""
    close = pd.DataFrame(np.full((3, 5), 10.0), columns=list("ABCDE"))
    size = np.vstack([np.full((1, 5), 0.2), np.full((2, 5), NAN)])
    asked = {"size_type": "targetpercent", "group_by": True, "cash_sharing": True, "call_seq": "auto"}
    theirs = vbt.Portfolio.from_orders(close, size=size, **asked, init_cash=1000.0, fees=0.01, fixed_fees=2.0)
    assert theirs.assets().iloc[-1].tolist() == pytest.approx([20.0] * 4 + [182.0 / 10.1])
    ours = run_portfolio({s: bars([10.0] * 3) for s in "ABCDE"}, fill="close", cash=1000.0, fees=0.01, fixed_fee=2.0)
    assert ours.trades["units"].tolist() == pytest.approx([990.0 / 10.1 / 5.0] * 5)
    differs(
        PEER,
        "a portfolio whose cash does not pay for all purchases and their costs (1,000 in fifths of 10 each, 1 % + 2)",
        "orders are served one by one, and the last gets what is left: 20, 20, 20, 20, 18.02 units",
        "all purchases shrink alike: 19.60 units each",
    )


def test_a_fifth_of_the_equity_each_is_not_a_fifth_of_what_is_left(bars, differs):
    """`percent` is of the free cash at each order: 200, then a fifth of 800, of 640, of 512 and of 409.60."""
    close = pd.DataFrame(np.full((3, 5), 10.0), columns=list("ABCDE"))
    entries = np.vstack([np.ones((1, 5), dtype=bool), np.zeros((2, 5), dtype=bool)])
    asked = {"size": 0.2, "size_type": "percent", "group_by": True, "cash_sharing": True}
    theirs = vbt.Portfolio.from_signals(close, entries, np.zeros_like(entries), **asked, init_cash=1000.0)
    assert theirs.assets().iloc[-1].tolist() == pytest.approx([20.0, 16.0, 12.8, 10.24, 8.192])
    assert theirs.cash(group_by=True).iloc[-1] == pytest.approx(327.68)
    ours = run_portfolio({s: bars([10.0] * 3) for s in "ABCDE"}, dict.fromkeys("ABCDE", 0.2), fill="close", cash=1000.0)
    assert ours.trades["units"].tolist() == pytest.approx([20.0] * 5)
    differs(
        PEER,
        "entries of size 0.2, size_type 'percent', for five symbols on one bar",
        "a fifth of the cash that the orders before have left: 20 %, 16 %, 12.8 %, 10.24 %, 8.19 %",
        "a weight is a fraction of the equity: 20 % each",
    )


def test_whole_units_are_of_what_is_held(bars, differs):
    """75 % of 1,000 at 10 are 75 units; at 10.10, of an equity of 1,007.50, they are 74.81: half a unit is not sold."""
    close = pd.DataFrame({"A": [10.0, 10.1, 10.1], "B": [10.0, 10.0, 10.0]})
    size = np.array([[0.75, 0.0], [0.75, 0.0], [NAN, NAN]])
    asked = {"size_type": "targetpercent", "group_by": True, "cash_sharing": True, "call_seq": "auto"}
    theirs = vbt.Portfolio.from_orders(close, size=size, **asked, init_cash=1000.0, size_granularity=1.0)
    assert theirs.assets()["A"].tolist() == [75.0, 75.0, 75.0]
    prices = {s: bars(close[s]) for s in close}
    ours = run_portfolio(prices, {"A": 0.75}, fill="close", rebalance="bar", cash=1000.0, whole_units=True)
    assert (ours.weights["A"] * ours.equity / prices["A"]["Close"]).tolist() == pytest.approx([75.0, 74.0, 74.0])
    differs(
        PEER,
        "whole units of a position that is resized",
        "what is traded is rounded: 74.81 units wanted, 75 held, none sold",
        "what is held is rounded towards zero: one unit is sold, 74 are held",
    )


def test_a_change_of_side_pays_the_fixed_fee_twice(bars, differs):
    close = pd.DataFrame({"A": [10.0, 10.0, 10.0], "B": [10.0, 10.0, 10.0]})
    size = np.array([[0.5, 0.0], [-0.5, 0.0], [NAN, NAN]])
    asked = {"size_type": "targetpercent", "group_by": True, "cash_sharing": True, "call_seq": "auto"}
    theirs = vbt.Portfolio.from_orders(close, size=size, **asked, init_cash=1000.0, fixed_fees=2.0)
    assert theirs.value().tolist() == pytest.approx([998.0, 996.0, 996.0])
    weights = pd.DataFrame({"A": [0.5, -0.5]}, index=bars([1.0, 1.0]).index)
    ours = run_portfolio({s: bars(close[s]) for s in close}, weights, fill="close", cash=1000.0, fixed_fee=2.0)
    assert ours.equity.tolist() == pytest.approx([1000.0, 994.0, 994.0])
    differs(
        PEER,
        "the fixed fee where a symbol of a portfolio changes side",
        "one order, one fee: 2",
        "closed first, then opened with what is left: 2 fills, 4",
    )


def test_what_is_not_worth_its_fixed_fee(bars, differs):
    """998 after a fee of 2: of A 501 are wanted and 500 held, one is bought there. At 0.03 its 50 units bring 1.50."""
    close = pd.DataFrame({"A": [10.0, 10.0, 0.03], "B": [10.0, 10.0, 10.0]})
    weights = pd.DataFrame({"A": [0.5, 0.502, 0.0]}, index=bars([1.0] * 3).index)
    size = np.array([[0.5, 0.0], [0.502, 0.0], [0.0, 0.0]])
    asked = {"size_type": "targetpercent", "group_by": True, "cash_sharing": True, "call_seq": "auto"}
    theirs = vbt.Portfolio.from_orders(close, size=size, **asked, init_cash=1000.0, fixed_fees=2.0)
    assert theirs.assets()["A"].tolist() == pytest.approx([50.0, 50.0996, 50.0996])
    ours = run_portfolio({s: bars(close[s]) for s in close}, weights, fill="close", cash=1000.0, fixed_fee=2.0)
    assert (ours.weights["A"].to_numpy() * ours.equity / close["A"].to_numpy()).tolist() == pytest.approx(
        [50.0, 50.0, 0.0]
    )
    differs(
        PEER,
        "an order worth less than its fixed fee",
        "a purchase is made; a sale is refused, also where it would close the position",
        "neither is made, unless it closes the position and the account can pay for it",
    )
