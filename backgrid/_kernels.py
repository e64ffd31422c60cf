"""Compiled loops. They take arrays, trust them, and have plain twins in tests/plain.py that the tests hold them to.

Numba keeps the machine code on disk, beside this file or, where that folder is read-only, in the user's cache
folder (NUMBA_CACHE_DIR overrides), each file replaced atomically: a new process loads it instead of compiling.
"""

import hashlib
import math
import warnings
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numba import njit, types
from numba.extending import intrinsic, overload

SOURCES = hashlib.sha256(b"".join(map(Path.read_bytes, sorted(Path(__file__).parent.glob("_*.py"))))).hexdigest()
NEXT_OPEN, CLOSE, NEXT_CLOSE = 0, 1, 2
FRACTION, UNITS, CASH = 0, 1, 2
FILL_BAR, FILL_UNITS, FILL_PRICE, FILL_FEE, FILL_HELD, FILL_REASON, FILL_SYMBOL = 0, 1, 2, 3, 4, 5, 6
ROUNDING = 1e-12  # a target that differs from what is held by less than this share has been met
SIGNAL, STOP_LOSS, TAKE_PROFIT, TRAILING_STOP, RUIN, OPEN = 0, 1, 2, 3, 4, 5


class Terms(NamedTuple):
    """On what terms a simulation trades."""

    cash: float  # account before the first bar, > 0                                  [currency]
    fees: float  # one-way                                                            [fraction of traded value]
    slippage: float  # one-way, against the trade                                     [fraction of price]
    fixed_fee: float  # charged for each fill                                         [currency]
    whole_units: bool  # round units towards zero
    leverage: float  # largest |position| at a fill                                   [fraction of equity]
    cash_rate: float  # earned on the account, paid where it is negative              [fraction a bar]
    borrow_rate: float  # paid on the value of units sold short                       [fraction a bar]
    band: float  # drift of the weight that calls for a rebalance, infinite for none  [fraction of equity]


class Market(NamedTuple):
    """Prices, and what a target means on each bar, as `simulate` takes them."""

    open: np.ndarray
    high: np.ndarray
    low: np.ndarray
    close: np.ndarray
    scale: np.ndarray
    due: np.ndarray
    stops: np.ndarray
    timing: int
    sizing: int


def compiled(function: Callable) -> Callable:
    """`njit` that lets other threads run, kept on disk where a folder for it can be written."""
    try:
        made = njit(cache=True, nogil=True, error_model="numpy")(function)
    except RuntimeError:  # numba found no such folder
        warnings.warn("no writable folder for compiled code: set NUMBA_CACHE_DIR to save seconds a start", stacklevel=2)
        return njit(nogil=True, error_model="numpy")(function)
    index = getattr(getattr(made, "_cache", None), "_cache_file", None)
    if index is not None:  # numba would look at the file of a function, and not at those of what it calls
        index._source_stamp = (*index._source_stamp, SOURCES)
    return made


def inlined(function: Callable) -> Callable:
    """A part of compiled functions: it is compiled into each of them, and makes no array.

    Nobody counts who holds the arrays that it is given: that takes longer than what a few loops do with them.
    """
    return njit(nogil=True, error_model="numpy", forceinline=True, _nrt=False)(function)  # type: ignore[call-overload]


@compiled
def flatten_missing(target):
    """Make NaN 0 in target positions; returns how many there were, and the largest position either way."""
    n_missing, largest = 0, 0.0
    for t in range(target.size):
        if target[t] != target[t]:
            target[t] = 0.0
            n_missing += 1
        largest = max(largest, abs(target[t]))
    return n_missing, largest


def sma(values, windows):
    """Mean of the last `window` values for each window, NaN before there are that many.

    values   float64[n_bars]  finite
    windows  int64[n_windows]  at least 1 each
    returns  float64[n_windows, n_bars]  within one rounding of the exact mean

    The sum of all values so far is kept in two floats, about 106 bits (Knuth's two-sum), and the difference of two such
    sums divided as such: with plain sums two means of a constant price differ in the last bit and cross without cause.
    """
    means = np.empty((windows.size, values.size))  # by NumPy, which asks for huge pages, as compiled code does not
    fill_means(values, windows, means)
    return means


@compiled
def fill_means(values, windows, means):
    """`sma` in place."""
    n_bars = values.size
    high, low = np.zeros(n_bars + 1), np.zeros(n_bars + 1)
    for t in range(n_bars):
        high[t + 1], low[t + 1] = _add(high[t], low[t], values[t], 0.0)
    for k in range(windows.size):
        window = windows[k]
        means[k, : window - 1] = np.nan
        mean, late, late_low = means[k, window - 1 :], high[window:], low[window:]
        for t in range(late.size):
            total, rest = _two_sum(late[t], -high[t])
            total, rest = _two_sum(total, rest + (late_low[t] - low[t]))
            mean[t] = _divide(total, rest, window)


@compiled
def _add(high, low, x, rest):
    """high + low + x + rest as an unevaluated sum of two floats."""
    total, error = _two_sum(high, x)
    return _two_sum(total, (low + rest) + error)


@compiled
def _two_sum(a, b):
    """a + b rounded, and what the rounding left out."""
    total = a + b
    part = total - a
    return total, (a - (total - part)) + (b - part)


@compiled
def _divide(high, low, divisor):
    """(high + low) / divisor, rounded once: what a first quotient leaves is computed exactly."""
    inverse = 1.0 / divisor
    quotient = high * inverse
    return quotient + (fused(-quotient, divisor, high) + low) * inverse


def fused(a, b, c):
    """a * b + c, rounded once."""
    a, b, c = map(float, (a, b, c))
    if not all(map(math.isfinite, (a, b, c))):
        return a * b + c
    return float(Fraction(a) * Fraction(b) + Fraction(c))


@intrinsic
def _fused(_, a, b, c):
    return types.float64(*[types.float64] * 3), lambda context, builder, _, given: builder.fma(*given)


overload(fused)(lambda a, b, c: lambda a, b, c: _fused(a, b, c))  # type: ignore[call-arg]


@compiled
def simulate(open_, high, low, close, target, scale, due, stops, timing, sizing, terms):
    """Trade from one target position to the next, and value the account at every close.

    open_, high, low, close  float64[n_bars]  prices, finite, > 0; open_ is read for NEXT_OPEN and stops, high and low
                                              for stops only                            [currency]
    target    float64[n_bars]        position wanted at each close, no NaN
    scale     float64[n_bars]        what a target of 1 means: FRACTION of equity, UNITS or CASH  [by sizing]
    due       bool[n_bars]           at which closes an open position is sized anew
    stops     float64[n_bars or 0, 3]  stop loss, take profit, trailing stop of a trade decided at that close, NaN for
                                     none; no rows where there are none                 [fraction of entry price]
    timing    int                    NEXT_OPEN, CLOSE or NEXT_CLOSE
    sizing    int                    FRACTION, UNITS or CASH
    terms     Terms

    equity     float64[n_bars]       account + units * close; the first bar is the cash, a ruined account 0  [currency]
    units      float64[n_bars]       held after each close, negative for short                     [units]
    fills      float64[n_fills, 6]   in order of time; columns FILL_*: bar, signed units, price, fee, units held
                                     after it, reason (SIGNAL, a stop, or RUIN)
    financing  float                 interest of the account less borrow costs, over all bars      [currency]

    Within a bar: interest for the night; what the open calls for (a stop that is gapped through, then the signal);
    stops between low and high; what the close calls for. Units change where the target does, where `due` or the band
    says so, and at stops. A change of sign closes first, then opens with what is left. After a stop the side stays
    barred until the target has left it.
    """
    n_bars = close.size
    equity, units = np.empty(n_bars), np.zeros(n_bars)
    fills, n_fills = np.empty((16, 6)), 0
    account, held, aimed, barred = terms.cash, 0.0, 0.0, 0.0
    entry, best, decided_at = 0.0, 0.0, 0
    watched, financing = stops.shape[0] > 0, 0.0
    for t in range(n_bars):
        if n_fills + 5 > fills.shape[0]:
            fills = np.concatenate((fills, np.empty_like(fills)))
        if t > 0:
            interest = account * terms.cash_rate - max(-held, 0.0) * close[t - 1] * terms.borrow_rate
            account += interest
            financing += interest
        if watched and held != 0.0:
            level, reason = _stop(held, open_[t], open_[t], open_[t], entry, best, stops[decided_at])
            if reason == SIGNAL and timing != NEXT_OPEN:
                level, reason = _stop(held, open_[t], high[t], low[t], entry, best, stops[decided_at])
            if reason != SIGNAL:
                barred = 1.0 if held > 0.0 else -1.0
                account, held, n_fills = _fill(fills, n_fills, t, account, held, 0.0, level, reason, terms)
            elif timing != NEXT_OPEN:
                best = max(best, high[t]) if held > 0.0 else min(best, low[t])
        decided = t if timing == CLOSE else t - 1
        if decided >= 0:
            wanted = target[decided]
            changed, aimed = wanted != aimed, wanted
            if wanted * barred <= 0.0:
                barred = 0.0
            if not changed and held != 0.0:
                changed = due[decided]
                if terms.band < np.inf:
                    value = equity[decided] if decided < t else account + held * close[t]
                    weight = min(max(wanted * scale[decided], -terms.leverage), terms.leverage)
                    changed = changed or abs(held * close[decided] / value - weight) > terms.band
            if changed and barred == 0.0:
                price = open_[t] if timing == NEXT_OPEN else close[t]
                if wanted * held <= 0.0 and held != 0.0:
                    account, held, n_fills = _fill(fills, n_fills, t, account, held, 0.0, price, SIGNAL, terms)
                if wanted != 0.0:
                    aim, paid = _aim(held, account, price, wanted * scale[decided], sizing, terms)
                    if held == 0.0:
                        entry, best, decided_at = paid, paid, decided
                    elif abs(aim) > abs(held):
                        entry = (entry * held + paid * (aim - held)) / aim
                    if aim != held:
                        account, held, n_fills = _fill(fills, n_fills, t, account, held, aim, price, SIGNAL, terms)
        if watched and held != 0.0 and timing == NEXT_OPEN:
            level, reason = _stop(held, open_[t], high[t], low[t], entry, best, stops[decided_at])
            if reason != SIGNAL:
                barred = 1.0 if held > 0.0 else -1.0
                account, held, n_fills = _fill(fills, n_fills, t, account, held, 0.0, level, reason, terms)
            else:
                best = max(best, high[t]) if held > 0.0 else min(best, low[t])
        equity[t], units[t] = account + held * close[t], held
        if equity[t] <= 0.0:
            _ruin(fills, n_fills, t, held, close[t])
            n_fills += held != 0.0
            equity[t:], units[t:] = 0.0, 0.0
            break
    equity[0] = terms.cash
    return equity, units, fills[:n_fills], financing


@compiled
def _stop(held, open_, high, low, entry, best, stop):
    """Price and reason of the stop that a bar hits, SIGNAL for none; a gap fills at the open, losses come first."""
    side = 1.0 if held > 0.0 else -1.0
    worst, far = (low, high) if held > 0.0 else (high, low)
    level, reason = np.nan, STOP_LOSS
    if not np.isnan(stop[0]):
        level = entry * (1.0 - side * stop[0])
    if not np.isnan(stop[2]):
        trailed = best * (1.0 - side * stop[2])
        if np.isnan(level) or side * trailed > side * level:
            level, reason = trailed, TRAILING_STOP
    if side * worst <= side * level:
        return (open_ if side * open_ <= side * level else level), reason
    goal = entry * (1.0 + side * stop[1])
    if side * far >= side * goal:
        return (open_ if side * open_ >= side * goal else goal), TAKE_PROFIT
    return np.nan, SIGNAL


@compiled
def _aim(held, account, price, weight, sizing, terms):
    """Units to hold, and the price paid to get there; `held` where costs, or rounding, leave nothing to trade."""
    worth = account + held * price
    value = weight * worth if sizing == FRACTION else weight * price if sizing == UNITS else weight
    most = terms.leverage * worth
    missing = min(max(value, -most), most) - held * price
    if abs(missing) <= ROUNDING * abs(held * price):
        return held, price
    side = 1.0 if missing > 0.0 else -1.0
    paid, back = price * (1.0 + side * terms.slippage), price * (1.0 - side * terms.slippage)
    aim = _units_for(weight, account + held * paid, paid, sizing, terms)
    if held != 0.0 and (_units_for(weight, account + held * back, back, sizing, terms) - held) * side <= 0.0:
        return held, paid  # what the spread alone calls for, it would call back at once
    return (aim if (aim - held) * side > 0.0 else held), paid


@compiled
def _units_for(weight, equity, price, sizing, terms):
    """Units that put the weight to work with nothing left to pay after the fees, within the leverage."""
    if equity <= terms.fixed_fee:
        return 0.0
    free, cost = equity - terms.fixed_fee, price * (1.0 + terms.fees)
    units = weight
    if sizing == FRACTION:
        units = weight * free / cost
    elif sizing == CASH:
        units = np.sign(weight) * max(abs(weight) - terms.fixed_fee, 0.0) / cost
    most = terms.leverage * free / cost
    units = min(max(units, -most), most)
    return np.trunc(units) if terms.whole_units else units


@compiled
def _fill(fills, n_fills, t, account, held, wanted, price, reason, terms):
    """Trade from `held` to `wanted` units, note it, and return the account, the units held and the number of fills."""
    traded = wanted - held
    paid = price * (1.0 + (terms.slippage if traded > 0.0 else -terms.slippage))
    fee = terms.fees * abs(traded) * paid + terms.fixed_fee
    fills[n_fills, FILL_BAR] = t
    fills[n_fills, FILL_UNITS] = traded
    fills[n_fills, FILL_PRICE] = paid
    fills[n_fills, FILL_FEE] = fee
    fills[n_fills, FILL_HELD] = wanted
    fills[n_fills, FILL_REASON] = reason
    return account - traded * paid - fee, wanted, n_fills + 1


@compiled
def _ruin(fills, n_fills, t, held, price):
    """Note that the account is used up: what is held goes at the close, free of charge; or the last fill did it."""
    if held == 0.0:
        fills[n_fills - 1, FILL_REASON] = RUIN
    else:
        fills[n_fills] = np.array([t, -held, price, 0.0, 0.0, RUIN])


@compiled
def simulate_portfolio(open_, close, target, due, tradable, timing, terms):
    """Bring one account of several symbols to its weights when that is due, and value it at every close.

    open_, close  float64[n_bars, n_symbols]  prices, finite, > 0; open_ is read for NEXT_OPEN only  [currency]
    target    float64[n_bars, n_symbols]  weight wanted at each close, no NaN     [fraction of equity]
    due       bool[n_bars]                closes at which the account is to be brought to its weights
    tradable  bool[n_bars]                bars on which every symbol has a price of its own; a rebalance waits for one
    timing    int                         NEXT_OPEN, CLOSE or NEXT_CLOSE
    terms     Terms                       with a band, also due where a weight has drifted by more than it

    equity     float64[n_bars]            as `simulate`                               [currency]
    units      float64[n_bars, n_symbols]  held after each close, negative for short  [units]
    fills      float64[n_fills, 7]        as `simulate`, and the column of the symbol
    financing  float                      as `simulate`                               [currency]
    """
    n_bars, n_symbols = close.shape
    equity, units = np.empty(n_bars), np.zeros((n_bars, n_symbols))
    fills, n_fills = np.empty((4 * n_symbols, 7)), 0
    account, held, financing, asked = terms.cash, np.zeros(n_symbols), 0.0, -1
    for t in range(n_bars):
        if n_fills + 3 * n_symbols > fills.shape[0]:
            fills = np.concatenate((fills, np.empty_like(fills)))
        if t > 0:
            interest = account * terms.cash_rate - _worth(0.0, np.maximum(-held, 0.0), close[t - 1]) * terms.borrow_rate
            account += interest
            financing += interest
        decided = t if timing == CLOSE else t - 1
        if decided >= 0:
            value = equity[decided] if decided < t else _worth(account, held, close[t])
            if due[decided] or _drifted(held, close[decided], value, target[decided], terms):
                asked = decided
        if asked >= 0 and tradable[t]:
            price = open_[t] if timing == NEXT_OPEN else close[t]
            account, n_fills = _rebalance(fills, n_fills, t, account, held, price, target[asked], terms)
            asked = -1
        equity[t], units[t] = _worth(account, held, close[t]), held
        if equity[t] <= 0.0:
            if not held.any() and n_fills > 0:
                fills[n_fills - 1, FILL_REASON] = RUIN
            for i in range(n_symbols):
                if held[i] != 0.0:
                    fills[n_fills] = np.array([t, -held[i], close[t, i], 0.0, 0.0, RUIN, i])
                    n_fills += 1
            equity[t:], units[t:] = 0.0, 0.0
            break
    equity[0] = terms.cash
    return equity, units, fills[:n_fills], financing


@compiled
def _worth(account, held, price):
    """The account and what is held, at these prices."""
    worth = account
    for i in range(held.size):
        worth += held[i] * price[i]
    return worth


@compiled
def _drifted(held, price, value, weight, terms):
    """Whether a symbol is further from its weight than the band, or has to be opened or closed."""
    if terms.band < np.inf:
        wanted = _wanted(held, price, value, weight, terms)
        for i in range(held.size):
            turned = np.sign(held[i]) != np.sign(wanted[i])
            if wanted[i] != held[i] and (turned or abs(held[i] * price[i] / value - weight[i]) > terms.band):
                return True
    return False


@compiled
def _wanted(held, price, worth, weight, terms):
    """Units at these weights; what is held where that is so already, or the change is not worth its fixed fee."""
    wanted = np.empty_like(held)
    for i in range(held.size):
        units = weight[i] * max(worth, 0.0) / price[i]
        units = np.trunc(units) if terms.whole_units else units
        missing = abs(units - held[i])
        met = missing <= ROUNDING * abs(held[i]) or (units != 0.0 and missing * price[i] <= terms.fixed_fee)
        wanted[i] = held[i] if met else units
    return wanted


@compiled
def _rebalance(fills, n_fills, t, account, held, price, weight, terms):
    """Bring `held` to the weights, in place: first what makes positions smaller, then shorts, then what is bought.

    What is bought is scaled pro rata where the account, and the credit that the leverage gives, does not reach. What is
    not worth its fixed fee is left, unless it closes a position.
    """
    worth = _worth(account, held, price)
    credit = max(terms.leverage - 1.0, 0.0) * max(worth, 0.0)
    wanted = _wanted(held, price, worth, weight, terms)
    for step in range(6):  # sell what is long, cover what is short, sell short; each after what brings money
        for i in range(held.size):
            aim = held[i]
            if step // 2 == 0 and held[i] > 0.0:
                aim = min(max(wanted[i], 0.0), held[i])
            elif step // 2 == 1 and held[i] < 0.0:
                aim = max(min(wanted[i], 0.0), held[i])
            elif step // 2 == 2 and held[i] <= 0.0:
                aim = min(wanted[i], held[i])
            gained = (held[i] - aim) * price[i] * (1.0 - terms.slippage) * (1.0 - terms.fees) - terms.fixed_fee
            affordable = gained >= 0.0 or (step % 2 == 1 and account + credit + gained >= 0.0)
            if aim > held[i] or (aim < held[i] and affordable):
                account, held[i], n_fills = _fill(fills, n_fills, t, account, held[i], aim, price[i], SIGNAL, terms)
                fills[n_fills - 1, FILL_SYMBOL] = i
    bought, n_bought = 0.0, 0
    for i in range(held.size):
        if wanted[i] > held[i]:
            bought += (wanted[i] - held[i]) * price[i] * (1.0 + terms.slippage) * (1.0 + terms.fees)
            n_bought += 1
    share = min((account + credit - n_bought * terms.fixed_fee) / bought, 1.0) if n_bought else 0.0
    for i in range(held.size):
        aim = held[i] + share * (wanted[i] - held[i]) if share < 1.0 else wanted[i]
        aim = np.trunc(aim) if terms.whole_units else aim
        if wanted[i] > held[i] and aim > held[i]:
            account, held[i], n_fills = _fill(fills, n_fills, t, account, held[i], aim, price[i], SIGNAL, terms)
            fills[n_fills - 1, FILL_SYMBOL] = i
    return account, n_fills


@compiled
def pair_trades(fills, last_bar, last_price):
    """Gather fills into trades: from leaving 0 until back at 0 or at the other sign.

    fills       float64[n_fills, 6]  as `simulate` returns them
    last_bar    int                  bar at which an open trade is valued
    last_price  float                price at which it is                      [currency]

    trades  float64[n_trades, 8]  entry bar, exit bar, signed units, mean entry price, mean exit price, fees, pnl
                                  after fees, reason of its last fill, or OPEN for the trade still open
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
