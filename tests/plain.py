"""Plain twins: slow, obvious versions of what the package computes, written from the words of the design.

`simulate`, `simulate_portfolio` and `pair_trades` keep an account the way a person with a ledger would; the kernels are
held to them.
"""

import itertools
import math
import statistics
from typing import NamedTuple

import numpy as np
import pandas as pd

NAN = float("nan")


# ---- random input ----------------------------------------------------------------------------------------------------


def random_bars(seed, n_bars=120, volatility=0.02):
    """Bars of a random walk around 100, with gaps at the open."""
    rng = np.random.default_rng(seed)
    close = 100.0 * np.exp(np.cumsum(rng.normal(0.0, volatility, n_bars)))
    open_ = close * np.exp(rng.normal(0.0, volatility / 2.0, n_bars))
    high = np.maximum(open_, close) * (1.0 + rng.random(n_bars) * volatility)
    low = np.minimum(open_, close) / (1.0 + rng.random(n_bars) * volatility)
    columns = {"Open": open_, "High": high, "Low": low, "Close": close}
    return pd.DataFrame(columns, index=pd.bdate_range("2020-01-01", periods=n_bars, name="Date"))


def random_targets(seed, n_bars=120, values=(-1.0, -0.5, 0.0, 0.3, 1.0)):
    """Target positions held for 1 to 6 bars each."""
    rng = np.random.default_rng(seed)
    return np.repeat(rng.choice(values, n_bars), rng.integers(1, 7, n_bars))[:n_bars]


# ---- averages and signals --------------------------------------------------------------------------------------------


def sma(values, window):
    """Mean of the last `window` values, summed without rounding."""
    return [math.fsum(values[t - window + 1 : t + 1]) / window if t + 1 >= window else NAN for t in range(len(values))]


def calculate_ma_crossover_signals(close, fast_window, slow_window):
    """1.0 while the fast mean is above the slow mean, else 0.0."""
    lines = zip(sma(close, fast_window), sma(close, slow_window), strict=True)
    return [1.0 if fast > slow else 0.0 for fast, slow in lines]  # NaN is above nothing


# ---- the account -----------------------------------------------------------------------------------------------------


class Fill(NamedTuple):
    """One trade of the account: `units` bought (sold if negative) at `price`, `held` after it."""

    bar: int
    units: float
    price: float
    fee: float
    held: float
    reason: str


class Account:
    """Money, units of one symbol, what its stops refer to, and a ledger of fills."""

    def __init__(self, cash, fees, slippage, fixed_fee, whole_units, leverage):
        self.money, self.held, self.ledger = cash, 0.0, []
        self.fees, self.slippage, self.fixed_fee = fees, slippage, fixed_fee
        self.whole_units, self.leverage = whole_units, leverage
        self.entry = self.best = None

    def worth(self, price):
        return self.money + self.held * price

    def paid(self, price, buying):
        """Slippage moves the price against the trade."""
        return price * (1.0 + self.slippage) if buying else price * (1.0 - self.slippage)

    def trade(self, bar, units, price, reason="signal"):
        """Fees are charged on the traded value."""
        paid = self.paid(price, buying=units > 0.0)
        fee = self.fees * abs(units) * paid + self.fixed_fee
        if self.held == 0.0:
            self.entry = self.best = paid
        elif self.held * units > 0.0:
            self.entry = (self.entry * self.held + paid * units) / (self.held + units)
        self.money -= units * paid
        self.money -= fee
        self.held += units
        self.ledger.append(Fill(bar, units, paid, fee, self.held, reason))

    def close(self, bar, price, reason="signal"):
        self.trade(bar, -self.held, price, reason)

    def units_for(self, sizing, wanted, paid):
        """What is wanted, as far as the account and its leverage reach after costs."""
        to_spend = max(self.worth(paid) - self.fixed_fee, 0.0)
        one = paid * (1.0 + self.fees)
        units = {
            "fraction": wanted * to_spend / one,
            "cash": math.copysign(max(abs(wanted) - self.fixed_fee, 0.0), wanted) / one,
            "units": wanted,
        }[sizing]
        reach = self.leverage * to_spend / one
        units = math.copysign(min(abs(units), reach), units)
        return float(int(units)) if self.whole_units else units

    def aim(self, bar, target, sizing, size, price):
        """Close what is on the wrong side, then go to the units of the target; costs never turn a trade around."""
        wrong_side = (self.held > 0.0 and target <= 0.0) or (self.held < 0.0 and target >= 0.0)
        if wrong_side:
            self.close(bar, price)
        if target == 0.0:
            return
        value = {"fraction": self.worth(price), "cash": 1.0, "units": price}[sizing] * target * size
        value = math.copysign(min(abs(value), self.leverage * self.worth(price)), value)
        buying = value > self.held * price
        missing, turned = (
            self.units_for(sizing, target * size, self.paid(price, way)) - self.held for way in (buying, not buying)
        )
        met = abs(value - self.held * price) <= 1e-12 * abs(self.held * price)
        if self.held != 0.0 and (turned == 0.0 or (turned > 0.0) != buying):  # at the other price it would go back
            return
        if not met and missing != 0.0 and (missing > 0.0) == buying:
            self.trade(bar, missing, price)

    def watch(self, bar, open_, high, low, stop_loss, take_profit, trailing_stop):
        """Close at the stop that this bar hits, and say on which side: the loss first, at the open if that is worse."""
        if self.held == 0.0:
            return 0
        side = 1 if self.held > 0.0 else -1
        limits = []
        if stop_loss is not None:
            limits.append((self.entry * (1.0 - side * stop_loss), "stop_loss"))
        if trailing_stop is not None:
            limits.append((self.best * (1.0 - side * trailing_stop), "trailing_stop"))
        if limits:
            nearest, reason = max(limits, key=lambda limit: side * limit[0])
            if side > 0 and low <= nearest:
                self.close(bar, min(open_, nearest), reason)
                return side
            if side < 0 and high >= nearest:
                self.close(bar, max(open_, nearest), reason)
                return side
        if take_profit is not None:
            goal = self.entry * (1.0 + side * take_profit)
            if side > 0 and high >= goal:
                self.close(bar, max(open_, goal), "take_profit")
                return side
            if side < 0 and low <= goal:
                self.close(bar, min(open_, goal), "take_profit")
                return side
        return 0

    def remember(self, high, low):
        """The best price since entry, for a trailing stop."""
        if self.held > 0.0:
            self.best = max(self.best, high)
        elif self.held < 0.0:
            self.best = min(self.best, low)

    def give_up(self, bar, price):
        """In ruin, what is still held is closed free of charge."""
        if self.held != 0.0:
            units = -self.held
            self.money += self.held * price
            self.held = 0.0
            self.ledger.append(Fill(bar, units, price, 0.0, 0.0, "ruin"))
        else:
            self.ledger[-1] = self.ledger[-1]._replace(reason="ruin")


def simulate(
    bars,
    target,
    *,
    fill="next_open",
    fees=0.0,
    slippage=0.0,
    fixed_fee=0.0,
    cash=1000.0,
    whole_units=False,
    stop_loss=None,
    take_profit=None,
    trailing_stop=None,
    sizing="fraction",
    size=1.0,
    leverage=1.0,
    due=(),
    band=math.inf,
    cash_rate=0.0,
    borrow_rate=0.0,
):
    """Equity and units held at each close, the ledger, and the interest; rates are by the bar, `due` holds bars."""
    account = Account(cash, fees, slippage, fixed_fee, whole_units, leverage)
    opens, highs, lows, closes = (bars[name].tolist() for name in ("Open", "High", "Low", "Close"))
    stops = {"stop_loss": stop_loss, "take_profit": take_profit, "trailing_stop": trailing_stop}
    equity, units, financing, barred = [0.0] * len(closes), [0.0] * len(closes), 0.0, 0

    def follow(bar, decided, price):
        """Trade what was decided, unless a stop has barred that side."""
        nonlocal barred
        wanted, before = target[decided], target[decided - 1] if decided > 0 else 0.0
        barred = barred if wanted * barred > 0.0 else 0
        calls = wanted != before
        if not calls and account.held != 0.0:
            weight = math.copysign(min(abs(wanted * size), leverage), wanted)
            noted = equity[decided] if decided < bar else account.worth(closes[decided])
            drift = abs(account.held * closes[decided] / noted - weight)
            calls = decided in due or drift > band
        if calls and not barred:
            account.aim(bar, wanted, sizing, size, price)

    for bar in range(len(closes)):
        if bar > 0:
            interest = account.money * cash_rate
            if account.held < 0.0:
                interest += account.held * closes[bar - 1] * borrow_rate
            account.money += interest
            financing += interest
        barred = account.watch(bar, opens[bar], opens[bar], opens[bar], **stops) or barred
        if fill == "next_open":
            if bar > 0:
                follow(bar, bar - 1, opens[bar])
            barred = account.watch(bar, opens[bar], highs[bar], lows[bar], **stops) or barred
            account.remember(highs[bar], lows[bar])
        else:
            barred = account.watch(bar, opens[bar], highs[bar], lows[bar], **stops) or barred
            account.remember(highs[bar], lows[bar])
            if fill == "close" or bar > 0:
                follow(bar, bar if fill == "close" else bar - 1, closes[bar])
        if account.worth(closes[bar]) <= 0.0:
            account.give_up(bar, closes[bar])
            break
        equity[bar], units[bar] = account.worth(closes[bar]), account.held
    equity[0] = cash
    return equity, units, account.ledger, financing


class Trade(NamedTuple):
    """One trip away from zero units."""

    entry_bar: int
    exit_bar: int
    units: float
    entry_price: float
    exit_price: float
    fees: float
    pnl: float
    reason: str


def pair_trades(ledger, last_bar, last_price):
    """Trades from leaving 0 until back at 0; one that is open is valued at the last price, free of charge."""
    trades, trip = [], []
    for fill in ledger:
        trip.append(fill)
        if fill.held == 0.0:
            trades.append(_settle(trip))
            trip = []
    if trip:
        trades.append(_settle([*trip, Fill(last_bar, -trip[-1].held, last_price, 0.0, 0.0, "open")]))
    return trades


def _settle(trip):
    entries = [fill for fill in trip if (fill.units > 0.0) == (trip[0].units > 0.0)]
    exits = [fill for fill in trip if (fill.units > 0.0) != (trip[0].units > 0.0)]
    units, fees = sum(fill.units for fill in entries), sum(fill.fee for fill in trip)
    return Trade(
        trip[0].bar,
        trip[-1].bar,
        units,
        sum(fill.units * fill.price for fill in entries) / units,
        sum(-fill.units * fill.price for fill in exits) / units,
        fees,
        -sum(fill.units * fill.price for fill in trip) - fees,
        trip[-1].reason,
    )


# ---- several symbols, one account ------------------------------------------------------------------------------------


class SharedAccount:
    """Money and units of several symbols, and a ledger of fills by symbol."""

    def __init__(self, symbols, cash, fees, slippage, fixed_fee, whole_units, leverage):
        self.money, self.held, self.ledger = cash, dict.fromkeys(symbols, 0.0), []
        self.fees, self.slippage, self.fixed_fee = fees, slippage, fixed_fee
        self.whole_units, self.leverage = whole_units, leverage

    def worth(self, prices):
        return self.money + sum(units * prices[symbol] for symbol, units in self.held.items())

    def paid(self, price, buying):
        """Slippage moves the price against the trade."""
        return price * (1.0 + self.slippage) if buying else price * (1.0 - self.slippage)

    def outlay(self, units, price):
        """Money that a trade takes, its costs included; below zero for what it brings."""
        paid = self.paid(price, buying=units > 0.0)
        return units * paid + abs(units) * paid * self.fees + self.fixed_fee

    def trade(self, bar, symbol, wanted, price):
        """Go to so many units."""
        units = wanted - self.held[symbol]
        if units != 0.0:
            paid = self.paid(price, buying=units > 0.0)
            self.money -= self.outlay(units, price)
            self.held[symbol] = wanted
            fee = abs(units) * paid * self.fees + self.fixed_fee
            self.ledger.append((symbol, Fill(bar, units, paid, fee, wanted, "signal")))

    def wanted(self, weights, prices, worth=None):
        """Units of each symbol at its weight; what is held where that is so already, or where what is missing is not
        worth its fixed fee and closes nothing."""
        worth = max(self.worth(prices) if worth is None else worth, 0.0)
        units = {symbol: weights[symbol] * worth / prices[symbol] for symbol in self.held}
        if self.whole_units:
            units = {symbol: float(int(number)) for symbol, number in units.items()}
        for symbol, held in self.held.items():
            missing = abs(units[symbol] - held)
            not_worth_it = units[symbol] != 0.0 and missing * prices[symbol] <= self.fixed_fee
            if missing <= 1e-12 * abs(held) or not_worth_it:
                units[symbol] = held
        return units

    def rebalance(self, bar, weights, prices):
        """First what makes positions smaller, then shorts, then purchases, all of these scaled alike."""
        wanted = self.wanted(weights, prices)
        credit = max(self.leverage - 1.0, 0.0) * max(self.worth(prices), 0.0)
        self._sell_all(bar, {s: max(wanted[s], 0.0) for s, h in self.held.items() if h > 0.0}, prices, credit)
        for symbol, held in list(self.held.items()):
            if held < min(wanted[symbol], 0.0):
                self.trade(bar, symbol, min(wanted[symbol], 0.0), prices[symbol])
        self._sell_all(bar, {s: wanted[s] for s, h in self.held.items() if h <= 0.0}, prices, credit)
        self._buy(bar, {s: wanted[s] - held for s, held in self.held.items() if wanted[s] > held}, prices, credit)

    def _sell_all(self, bar, wanted, prices, credit):
        """Sales that bring money go first; one that does not bring its fixed fee needs money for it."""
        sales = {symbol: units for symbol, units in wanted.items() if units < self.held[symbol]}
        outlays = {s: self.outlay(units - self.held[s], prices[s]) for s, units in sales.items()}
        for symbol in sorted(sales, key=lambda s: outlays[s] > 0.0):
            if outlays[symbol] <= 0.0 or outlays[symbol] <= self.money + credit:
                self.trade(bar, symbol, sales[symbol], prices[symbol])

    def _buy(self, bar, purchases, prices, credit):
        """Pro rata of what the account and its credit can pay, after a fixed fee for each."""
        fixed = len(purchases) * self.fixed_fee
        needed = sum(self.outlay(units, prices[symbol]) for symbol, units in purchases.items())
        if purchases and needed > self.money + credit:
            share = max(self.money + credit - fixed, 0.0) / (needed - fixed)
            purchases = {symbol: share * units for symbol, units in purchases.items()}
        for symbol, units in purchases.items():
            whole = float(int(units)) if self.whole_units else units
            self.trade(bar, symbol, self.held[symbol] + whole, prices[symbol])

    def give_up(self, bar, prices):
        """In ruin, what is still held is closed free of charge, or the last fill has done it."""
        if not any(self.held.values()):
            symbol, fill = self.ledger[-1]
            self.ledger[-1] = symbol, fill._replace(reason="ruin")
        for symbol, units in self.held.items():
            if units != 0.0:
                self.ledger.append((symbol, Fill(bar, -units, prices[symbol], 0.0, 0.0, "ruin")))


def side(number):
    return (number > 0.0) - (number < 0.0)


def simulate_portfolio(
    panel,
    weights,
    *,
    fill="next_open",
    rebalance=None,
    tradable=None,
    fees=0.0,
    slippage=0.0,
    fixed_fee=0.0,
    cash=1000.0,
    whole_units=False,
    leverage=1.0,
    cash_rate=0.0,
    borrow_rate=0.0,
):
    """Equity and units by symbol at each close, the ledger, and the interest.

    `panel` holds frames by symbol, `weights` a dict by symbol for each bar; rates are by the bar.
    """
    account = SharedAccount(panel, cash, fees, slippage, fixed_fee, whole_units, leverage)
    dates = list(next(iter(panel.values())).index)
    opens, closes = (
        [
            dict(zip(panel, row, strict=True))
            for row in zip(*(frame[name].tolist() for frame in panel.values()), strict=True)
        ]
        for name in ("Open", "Close")
    )
    first = next((bar for bar, row in enumerate(weights) if any(row.values())), None)
    equity, held, financing, waiting = [0.0] * len(dates), [dict.fromkeys(panel, 0.0) for _ in dates], 0.0, None

    def drifted(bar, worth):
        """Whether a weight is off by more than the band, or a symbol has to be opened or closed."""
        wanted = account.wanted(weights[bar], closes[bar], worth)
        for symbol, units in account.held.items():
            drift = abs(units * closes[bar][symbol] / worth - weights[bar][symbol])
            if wanted[symbol] != units and (drift > rebalance or side(units) != side(wanted[symbol])):
                return True
        return False

    def due(bar, worth):
        """Whether the close of this bar, at which the account was worth so much, calls for its weights."""
        if bar == first or rebalance == "bar":
            return True
        if isinstance(rebalance, float):
            return drifted(bar, worth)
        if bar == 0:
            return False
        before, now = dates[bar - 1], dates[bar]
        return {
            None: weights[bar] != weights[bar - 1],
            "week": before.isocalendar()[:2] != now.isocalendar()[:2],
            "month": (before.year, before.month) != (now.year, now.month),
        }[rebalance]

    for bar in range(len(dates)):
        if bar > 0:
            short = sum(-units * closes[bar - 1][symbol] for symbol, units in account.held.items() if units < 0.0)
            interest = account.money * cash_rate - short * borrow_rate
            account.money += interest
            financing += interest
        decided = bar if fill == "close" else bar - 1
        if decided >= 0 and due(decided, account.worth(closes[bar]) if decided == bar else equity[decided]):
            waiting = weights[decided]
        if waiting is not None and (tradable is None or tradable[bar]):
            account.rebalance(bar, waiting, opens[bar] if fill == "next_open" else closes[bar])
            waiting = None
        if account.worth(closes[bar]) <= 0.0:
            account.give_up(bar, closes[bar])
            break
        equity[bar], held[bar] = account.worth(closes[bar]), dict(account.held)
    equity[0] = cash
    return equity, held, account.ledger, financing


# ---- statistics ------------------------------------------------------------------------------------------------------


def calculate_returns(open_, close, target, fill):
    """Return of each bar, piece by piece: what was held overnight, then what is held after the open."""
    returns = [0.0]
    for t in range(1, len(close)):
        new, old = target[t - 1], target[t - 2] if t >= 2 else 0.0
        if fill == "close":
            growth = 1.0 + new * (close[t] / close[t - 1] - 1.0)
        elif fill == "next_close":
            growth = 1.0 + old * (close[t] / close[t - 1] - 1.0)
        else:
            overnight = 1.0 + old * (open_[t] / close[t - 1] - 1.0)
            growth = overnight * (1.0 + new * (close[t] / open_[t] - 1.0))
        returns.append(growth - 1.0)
    return returns


def calculate_total_return(equity):
    return equity[-1] / equity[0] - 1.0


def calculate_max_drawdown(equity):
    return min(equity[t] / max(equity[: t + 1]) - 1.0 for t in range(len(equity)))


def calculate_sharpe_ratio(returns, risk_free=0.0, periods_per_year=252):
    cash_return = (1.0 + risk_free) ** (1.0 / periods_per_year) - 1.0
    excess = [r - cash_return for r in returns]
    if len(excess) < 2 or max(excess) == min(excess):
        return NAN
    return statistics.fmean(excess) / statistics.stdev(excess) * math.sqrt(periods_per_year)


# ---- sums of the metrics ---------------------------------------------------------------------------------------------


def bar_sums(returns, benchmark, cash):
    """Fields of BarSums, each by itself."""
    active, excess = returns - benchmark, returns - cash
    own, theirs = (values - values.mean() if values.size else values for values in (returns, benchmark))
    spread = [values.max() - values.min() if values.size else -math.inf for values in (returns, benchmark, active)]
    up, down = benchmark > 0.0, benchmark < 0.0
    return {
        "mean": returns.mean() if returns.size else NAN,
        "mean_benchmark": benchmark.mean() if benchmark.size else NAN,
        "square": (own**2).sum(),
        "cube": (own**3).sum(),
        "fourth": (own**4).sum(),
        "square_benchmark": (theirs**2).sum(),
        "square_active": ((own - theirs) ** 2).sum(),
        "together": (own * theirs).sum(),
        "spread": spread[0],
        "spread_benchmark": spread[1],
        "spread_active": spread[2],
        "gained": excess[excess > 0.0].sum(),
        "lost": -excess[excess < 0.0].sum(),
        "square_lost": (excess[excess < 0.0] ** 2).sum(),
        "n_positive": (returns > 0.0).sum(),
        "growth_benchmark": np.prod(1.0 + benchmark),
        "log_up": np.log1p(returns[up]).sum(),
        "log_up_benchmark": np.log1p(benchmark[up]).sum(),
        "n_up": up.sum(),
        "log_down": np.log1p(returns[down]).sum(),
        "log_down_benchmark": np.log1p(benchmark[down]).sum(),
        "n_down": down.sum(),
    }


def drawdowns(equity):
    """Fields of Falls, from the stretches below an earlier high."""
    below = [value / max(equity[: t + 1]) - 1.0 for t, value in enumerate(equity)]
    stretches = [list(group) for fallen, group in itertools.groupby(below, lambda d: d < 0.0) if fallen]
    return {
        "deepest": min(below),
        "square": sum(d * d for d in below),
        "n_below": sum(d < 0.0 for d in below),
        "n_falls": len(stretches),
        "longest": max((len(stretch) for stretch in stretches), default=0),
        "lowest": sum(min(stretch) for stretch in stretches),
    }


def trade_sums(pnl, returns, bars):
    """Fields of TradeSums, each by itself."""

    def streak(wanted):
        return max((len(list(group)) for won, group in itertools.groupby(wanted) if won), default=0)

    n = len(pnl)
    mean = sum(pnl) / n if n else NAN
    return {
        "n": n,
        "n_won": sum(pnl > 0.0),
        "won": sum(p for p in pnl if p > 0.0),
        "lost": -sum(p for p in pnl if p < 0.0),
        "mean": mean,
        "square": sum((p - mean) ** 2 for p in pnl),
        "largest": max(abs(pnl), default=0.0),
        "mean_return": sum(returns) / n if n else NAN,
        "best": max(returns, default=NAN),
        "worst": min(returns, default=NAN),
        "n_wins": sum(returns > 0.0),
        "wins": sum(r for r in returns if r > 0.0),
        "n_losses": sum(returns < 0.0),
        "losses": sum(r for r in returns if r < 0.0),
        "mean_bars": sum(bars) / n if n else NAN,
        "longest": max(bars, default=0),
        "win_streak": streak(pnl > 0.0),
        "loss_streak": streak(pnl < 0.0),
    }


# ---- sweeps ----------------------------------------------------------------------------------------------------------


def word_ranges(line, word=64):
    """Lowest and highest value of each whole word of bars, NaN for one with a gap; one more word for the rest."""
    words = [line[start : start + word] for start in range(0, len(line) // word * word, word)]
    whole = [(min(values), max(values)) if all(v == v for v in values) else (NAN, NAN) for values in words]
    return [*whole, (NAN, NAN)]


def changes_of(positions):
    """Bars on which the position is another than on the bar before, and the position; flat before the first bar."""
    before = [0, *positions[:-1]]
    return [(bar, new) for bar, (old, new) in enumerate(zip(before, positions, strict=True)) if new != old]


def stretch(close, first, last, cash_return):
    """What holding from `first` to `last` goes through; the first bar of all has no return."""
    own = close[first : last + 1]
    returns = [close[t] / close[t - 1] - 1.0 if t else 0.0 for t in range(first, last + 1)]
    return {
        "high": max(own),
        "low": min(own),
        "fall": min(value / max(own[: t + 1]) - 1.0 for t, value in enumerate(own)),
        **{f"r{power}": math.fsum(r**power for r in returns) for power in (1, 2, 3, 4)},
        "loss2": math.fsum(min(r - cash_return, 0.0) ** 2 for r in returns),
    }


def odd_bars(kind, seed, n_bars=100):
    """Bars on which sums and comparisons go wrong where they can: ties, rests, steady growth, spikes, tiny moves."""
    rng = np.random.default_rng(seed)
    walk = 100.0 * np.exp(np.cumsum(rng.normal(0.0, 0.03, n_bars)))
    spikes = np.ones(n_bars)
    spikes[rng.integers(0, n_bars, 2)] = 10.0 ** rng.choice([-12.0, -6.0, 3.0, 12.0], 2)
    close = {
        "walk": walk,
        "wild": 100.0 * np.exp(np.cumsum(rng.normal(0.0, 1.0, n_bars))),
        "few whole prices": rng.integers(1, 6, n_bars).astype(float),
        "whole prices": rng.integers(95, 106, n_bars).astype(float),
        "steps": np.repeat(rng.integers(1, 9, n_bars), rng.integers(1, 9, n_bars))[:n_bars].astype(float),
        "constant": np.full(n_bars, rng.choice([100.0, 100.1, 0.1, 1 / 3, 1e-8, 1e8 / 3])),
        "steady growth": 100.0 * rng.choice([1.1, 1.01, 1.001, 0.99]) ** np.arange(n_bars),
        "nearly steady growth": 100.0 * 1.001 ** np.arange(n_bars) * np.exp(rng.normal(0.0, 1e-7, n_bars)),
        "spikes": walk * spikes,
        "tiny moves": 100.0 * (1.0 + 1e-9 * rng.integers(0, 3, n_bars)),
        "last digits": 100.0 * (1.0 + 2.3e-16 * rng.integers(0, 3, n_bars)),
    }[kind]
    gaps = np.exp(rng.normal(0.0, 0.01, n_bars)) if kind in ("walk", "wild") else 1.0
    open_ = close * gaps if rng.random() < 0.5 else np.concatenate([close[:1], close[:-1]])
    columns = {"Open": open_, "High": np.maximum(open_, close), "Low": np.minimum(open_, close), "Close": close}
    return pd.DataFrame(columns, index=pd.bdate_range("2020-01-01", periods=n_bars, name="Date"))
