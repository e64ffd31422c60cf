"""Compiled loops. They take arrays, trust them, and have plain twins in tests/plain.py that the tests hold them to.

Numba keeps the machine code on disk, beside this file or, where that folder is read-only, in the user's cache
folder (NUMBA_CACHE_DIR overrides), each file replaced atomically: a new process loads it instead of compiling.
"""

import warnings
from collections.abc import Callable

import numpy as np
from numba import njit

NEXT_OPEN, CLOSE, NEXT_CLOSE = 0, 1, 2
FILL_BAR, FILL_UNITS, FILL_PRICE, FILL_FEE, FILL_HELD, FILL_REASON = 0, 1, 2, 3, 4, 5
SIGNAL, RUIN, OPEN = 0, 1, 2


def compiled(function: Callable) -> Callable:
    """`njit`, kept on disk where a folder for it can be written."""
    try:
        return njit(cache=True)(function)
    except RuntimeError:  # numba found no such folder
        warnings.warn("no writable folder for compiled code: set NUMBA_CACHE_DIR to save seconds a start", stacklevel=2)
        return njit(function)


@compiled
def sma(values, window):
    """Mean of the last `window` values, NaN before there are that many.

    values   float64[n_bars]  finite
    window   int              1 <= window <= n_bars
    returns  float64[n_bars]  within one rounding of the exact mean

    The running sum is kept in two floats, about 106 bits (Knuth's two-sum), and divided as such: a plain running
    sum drifts, so that two means of a constant price differ in the last bit and cross without cause.
    """
    n_bars = values.size
    means = np.full(n_bars, np.nan)
    high, low = 0.0, 0.0
    for t in range(n_bars):
        high, low = _add(high, low, values[t])
        if t >= window:
            high, low = _add(high, low, -values[t - window])
        if t >= window - 1:
            means[t] = _divide(high, low, window)
    return means


@compiled
def _add(high, low, x):
    """high + low + x as an unevaluated sum of two floats."""
    total, error = _two_sum(high, x)
    return _two_sum(total, low + error)


@compiled
def _two_sum(a, b):
    """a + b rounded, and what the rounding left out."""
    total = a + b
    part = total - a
    return total, (a - (total - part)) + (b - part)


@compiled
def _divide(high, low, divisor):
    """(high + low) / divisor, rounded once; the remainder of the first quotient is computed exactly (Dekker)."""
    quotient = high / divisor
    scaled = 134217729.0 * quotient  # 2**27 + 1 splits 53 bits in two halves
    upper = scaled - (scaled - quotient)
    lower = quotient - upper
    product = quotient * divisor
    error = (upper * divisor - product) + lower * divisor
    return quotient + ((high - product) - error + low) / divisor


@compiled
def simulate(open_, close, target, timing, fees, slippage, fixed_fee, cash, whole_units):
    """Trade from one target position to the next, and value the account at every close.

    open_, close   float64[n_bars]  prices, finite, > 0; open_ is read for NEXT_OPEN only  [currency]
    target         float64[n_bars]  position wanted at each close, no NaN, in [-1, 1]       [fraction of equity]
    timing         int              NEXT_OPEN, CLOSE or NEXT_CLOSE
    fees, slippage float            one-way                                                [fraction of traded value]
    fixed_fee      float            charged for each fill                                  [currency]
    cash           float            account before the first bar, > 0                      [currency]
    whole_units    bool             round units towards zero

    equity   float64[n_bars]     cash + units * close; the first bar is `cash`, a ruined account is 0  [currency]
    units    float64[n_bars]     held after each close, negative for short                             [units]
    fills    float64[n_fills, 6] in order of time; columns FILL_*: bar, signed units, price, fee, units held
                                  after it, reason (SIGNAL or RUIN)
    ruin     int                 bar on which the account was used up, -1 for never

    Units change only where the target does. A change of sign closes first, then opens with what is left.
    """
    n_bars = close.size
    equity, units = np.empty(n_bars), np.zeros(n_bars)
    fills = np.empty((2 * _changes(target) + 1, 6))
    n_fills, held, aimed, ruin = 0, 0.0, 0.0, -1
    account = cash
    for t in range(n_bars):
        wanted, price = aimed, close[t]
        if timing == CLOSE:
            wanted = target[t]
        elif t > 0:
            wanted = target[t - 1]
            if timing == NEXT_OPEN:
                price = open_[t]
        if wanted != aimed:
            aimed = wanted
            if held != 0.0 and wanted * held <= 0.0:
                account, held, n_fills = _fill(
                    fills, n_fills, t, account, held, 0.0, price, fees, slippage, fixed_fee, SIGNAL
                )
            if wanted != 0.0:
                side = 1.0 if wanted * (account + held * price) > held * price else -1.0
                paid = price * (1.0 + side * slippage)
                units_wanted = _units_for(wanted, account + held * paid, paid, fees, fixed_fee, whole_units)
                if (units_wanted - held) * side > 0.0:
                    account, held, n_fills = _fill(
                        fills, n_fills, t, account, held, units_wanted, price, fees, slippage, fixed_fee, SIGNAL
                    )
        equity[t], units[t] = account + held * close[t], held
        if equity[t] <= 0.0:
            ruin = t
            if held != 0.0:
                account, held, n_fills = _fill(fills, n_fills, t, account, held, 0.0, close[t], 0.0, 0.0, 0.0, RUIN)
            else:  # the fill of this bar left nothing
                fills[n_fills - 1, FILL_REASON] = RUIN
            equity[t:], units[t:] = 0.0, 0.0
            break
    equity[0] = cash
    return equity, units, fills[:n_fills], ruin


@compiled
def _changes(target):
    """How often the target differs from the one before, starting from flat."""
    count, aimed = 0, 0.0
    for t in range(target.size):
        if target[t] != aimed:
            count += 1
            aimed = target[t]
    return count


@compiled
def _units_for(weight, equity, price, fees, fixed_fee, whole_units):
    """Units that put `weight` of the equity to work with nothing left to pay after the fees."""
    if equity <= fixed_fee:
        return 0.0
    units = weight * (equity - fixed_fee) / (price * (1.0 + fees))
    return np.trunc(units) if whole_units else units


@compiled
def _fill(fills, n_fills, t, account, held, wanted, price, fees, slippage, fixed_fee, reason):
    """Trade from `held` to `wanted` units, note it, and return the account, the units held and the number of fills."""
    traded = wanted - held
    paid = price * (1.0 + (slippage if traded > 0.0 else -slippage))
    fee = fees * abs(traded) * paid + fixed_fee
    fills[n_fills, FILL_BAR] = t
    fills[n_fills, FILL_UNITS] = traded
    fills[n_fills, FILL_PRICE] = paid
    fills[n_fills, FILL_FEE] = fee
    fills[n_fills, FILL_HELD] = wanted
    fills[n_fills, FILL_REASON] = reason
    return account - traded * paid - fee, wanted, n_fills + 1


@compiled
def pair_trades(fills, last_bar, last_price):
    """Gather fills into trades: from leaving 0 until back at 0 or at the other sign.

    fills       float64[n_fills, 6]  as `simulate` returns them
    last_bar    int                  bar at which an open trade is valued
    last_price  float                price at which it is                      [currency]

    trades  float64[n_trades, 8]  entry bar, exit bar, signed units, mean entry price, mean exit price, fees, pnl
                                  after fees, reason (SIGNAL, RUIN, or OPEN for the trade still open)
    """
    trades = np.empty((fills.shape[0], 8))
    n_trades, held, entry_bar = 0, 0.0, 0
    entered = entry_value = exit_value = fees = 0.0
    for k in range(fills.shape[0]):
        units, price = fills[k, FILL_UNITS], fills[k, FILL_PRICE]
        if held == 0.0:
            entered = entry_value = exit_value = fees = 0.0
            entry_bar = int(fills[k, FILL_BAR])
        fees += fills[k, FILL_FEE]
        if held * units >= 0.0:
            entered += units
            entry_value += units * price
        else:
            exit_value -= units * price
        held = fills[k, FILL_HELD]
        if held == 0.0 or k == fills.shape[0] - 1:
            exit_bar = int(fills[k, FILL_BAR]) if held == 0.0 else last_bar
            exit_value += held * last_price
            trades[n_trades, 0] = entry_bar
            trades[n_trades, 1] = exit_bar
            trades[n_trades, 2] = entered
            trades[n_trades, 3] = entry_value / entered
            trades[n_trades, 4] = exit_value / entered
            trades[n_trades, 5] = fees
            trades[n_trades, 6] = exit_value - entry_value - fees
            trades[n_trades, 7] = OPEN if held != 0.0 else fills[k, FILL_REASON]
            n_trades += 1
    return trades[:n_trades]
