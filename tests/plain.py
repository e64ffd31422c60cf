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
    """Money, units of one symbol, and a ledger of fills."""

    def __init__(self, cash, fees, slippage, fixed_fee):
        self.money, self.held, self.ledger = cash, 0.0, []
        self.fees, self.slippage, self.fixed_fee = fees, slippage, fixed_fee

    def worth(self, price):
        return self.money + self.held * price

    def paid(self, price, buying):
        """Slippage moves the price against the trade."""
        return price * (1.0 + self.slippage) if buying else price * (1.0 - self.slippage)

    def trade(self, bar, units, price):
        """Fees are charged on the traded value."""
        paid = self.paid(price, buying=units > 0.0)
        fee = self.fees * abs(units) * paid + self.fixed_fee
        self.money -= units * paid
        self.money -= fee
        self.held += units
        self.ledger.append(Fill(bar, units, paid, fee, self.held, "signal"))

    def close(self, bar, price):
        self.trade(bar, -self.held, price)

    def units_for(self, target, paid, whole_units):
        """target * (equity at the fill price - fixed fee) / (fill price * (1 + fees))."""
        to_spend = self.worth(paid) - self.fixed_fee
        units = target * to_spend / (paid * (1.0 + self.fees)) if to_spend > 0.0 else 0.0
        return float(int(units)) if whole_units else units

    def aim(self, bar, target, price, whole_units):
        """Close what is on the wrong side, then go to the units of the target; costs never turn a trade around."""
        wrong_side = (self.held > 0.0 and target <= 0.0) or (self.held < 0.0 and target >= 0.0)
        if wrong_side:
            self.close(bar, price)
        if target == 0.0:
            return
        buying = target * self.worth(price) > self.held * price
        missing = self.units_for(target, self.paid(price, buying), whole_units) - self.held
        if (missing > 0.0 and buying) or (missing < 0.0 and not buying):
            self.trade(bar, missing, price)

    def give_up(self, bar, price):
        """In ruin, what is still held is closed free of charge."""
        if self.held != 0.0:
            units = -self.held
            self.money += self.held * price
            self.held = 0.0
            self.ledger.append(Fill(bar, units, price, 0.0, 0.0, "ruin"))


def simulate(
    open_,
    close,
    target,
    *,
    fill="next_open",
    fees=0.0,
    slippage=0.0,
    fixed_fee=0.0,
    cash=1000.0,
    whole_units=False,
):
    """Equity and units held at each close, the ledger, and the bar of ruin (-1 for none)."""
    account = Account(cash, fees, slippage, fixed_fee)
    n_bars = len(close)
    price_of = {"next_open": open_, "close": close, "next_close": close}[fill]
    delay = 0 if fill == "close" else 1
    equity, units, ruin = [0.0] * n_bars, [0.0] * n_bars, -1
    for bar in range(n_bars):
        decided = target[bar - delay] if bar >= delay else 0.0
        before = target[bar - delay - 1] if bar >= delay + 1 else 0.0
        if decided != before:  # units are kept until the target changes
            account.aim(bar, decided, price_of[bar], whole_units)
        if account.worth(close[bar]) <= 0.0:
            account.give_up(bar, close[bar])
            ruin = bar
            break
        equity[bar], units[bar] = account.worth(close[bar]), account.held
    equity[0] = cash
    return equity, units, account.ledger, ruin


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
