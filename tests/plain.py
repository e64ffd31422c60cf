"""Plain twins: slow, obvious versions of what the package computes, written from the words of the design.

`simulate` and `pair_trades` keep an account the way a person with a ledger would; the kernels are held to them.
"""

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
        missing = self.units_for(sizing, target * size, self.paid(price, buying)) - self.held
        met = abs(value - self.held * price) <= 1e-12 * abs(self.held * price)
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
        if fill == "next_open":
            barred = account.watch(bar, opens[bar], opens[bar], opens[bar], **stops) or barred
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
