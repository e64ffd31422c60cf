"""What the metrics are made of: sums over the bars and trades of a run, gathered in compiled passes.

Each function takes arrays, trusts them, and has a plain twin in tests/plain.py.
"""

from typing import NamedTuple

import numpy as np

from backgrid._kernels import compiled

BLOCK = 256  # bars that are summed before they are added: the rounding of 100,000 bars in a row shows in the 12th digit


class BarSums(NamedTuple):
    """Of r, the returns of an account, b, those of its benchmark, and e = r - cash, over n bars."""

    mean: float  # of r, NaN without any bars
    mean_benchmark: float  # of b
    square: float  # sum of (r - mean)^2
    cube: float  # sum of (r - mean)^3
    fourth: float  # sum of (r - mean)^4
    square_benchmark: float  # sum of (b - mean)^2
    square_active: float  # sum of (r - b - mean)^2
    together: float  # sum of (r - mean)(b - mean)
    spread: float  # max(r) - min(r)
    spread_benchmark: float  # max(b) - min(b)
    spread_active: float  # max(r - b) - min(r - b)
    gained: float  # sum of max(e, 0)
    lost: float  # sum of max(-e, 0)
    square_lost: float  # sum of min(e, 0)^2
    n_positive: int  # bars with r > 0
    growth_benchmark: float  # product of 1 + b
    log_up: float  # sum of ln(1 + r) over the bars with b > 0
    log_up_benchmark: float  # sum of ln(1 + b) over them
    n_up: int
    log_down: float  # the same over the bars with b < 0
    log_down_benchmark: float
    n_down: int


class Falls(NamedTuple):
    """Of d = equity / highest equity so far - 1, and the stretches of closes with d < 0."""

    deepest: float  # min(d)
    square: float  # sum of d^2
    n_below: int  # closes with d < 0
    n_falls: int  # stretches, an unfinished one included
    longest: int  # closes in the longest
    lowest: float  # sum of the lowest d of each


class TradeSums(NamedTuple):
    """Of closed trades in order of entry: profit, return, bars held."""

    n: int
    n_won: int  # profit > 0
    won: float  # sum of profits > 0
    lost: float  # sum of losses, as a positive number
    mean: float  # profit, NaN without any trades
    square: float  # sum of (profit - mean)^2
    largest: float  # max |profit|
    mean_return: float
    best: float
    worst: float
    n_wins: int  # return > 0
    wins: float  # sum of returns > 0
    n_losses: int  # return < 0
    losses: float  # sum of returns < 0
    mean_bars: float
    longest: int  # bars
    win_streak: int  # profits > 0 in a row
    loss_streak: int  # profits < 0 in a row


@compiled
def bar_sums(returns, benchmark, cash):
    """BarSums of two lines of returns, float64[n] each, and the return of cash of one bar.  [fraction]"""
    n = returns.size
    total = total_benchmark = gained = lost = square_lost = 0.0
    low = low_benchmark = low_active = np.inf
    high = high_benchmark = high_active = -np.inf
    n_positive = n_up = n_down = 0
    growth, up, up_benchmark, down, down_benchmark = 1.0, (1.0, 0.0), (1.0, 0.0), (1.0, 0.0), (1.0, 0.0)
    for t in range(n):
        r, b = returns[t], benchmark[t]
        active, excess = r - b, r - cash
        total += r
        total_benchmark += b
        low, high = min(low, r), max(high, r)
        low_benchmark, high_benchmark = min(low_benchmark, b), max(high_benchmark, b)
        low_active, high_active = min(low_active, active), max(high_active, active)
        if excess > 0.0:
            gained += excess
        else:
            lost -= excess
            square_lost += excess * excess
        n_positive += r > 0.0
        growth *= 1.0 + b
        if b > 0.0:
            up, up_benchmark = _grown(up, r), _grown(up_benchmark, b)
            n_up += 1
        elif b < 0.0:
            down, down_benchmark = _grown(down, r), _grown(down_benchmark, b)
            n_down += 1
    mean, mean_benchmark = _mean(total, n), _mean(total_benchmark, n)
    square, cube, fourth = moments(returns, mean)
    square_benchmark = square_active = together = 0.0
    for start in range(0, n, BLOCK):
        squares_benchmark, squares_active, products = 0.0, 0.0, 0.0
        for t in range(start, min(start + BLOCK, n)):
            r, b = returns[t] - mean, benchmark[t] - mean_benchmark
            squares_benchmark += b * b
            squares_active += (r - b) * (r - b)
            products += r * b
        square_benchmark += squares_benchmark
        square_active += squares_active
        together += products
    return BarSums(
        mean,
        mean_benchmark,
        square,
        cube,
        fourth,
        square_benchmark,
        square_active,
        together,
        high - low,
        high_benchmark - low_benchmark,
        high_active - low_active,
        gained,
        lost,
        square_lost,
        n_positive,
        growth,
        up[1] + np.log(up[0]),
        up_benchmark[1] + np.log(up_benchmark[0]),
        n_up,
        down[1] + np.log(down[0]),
        down_benchmark[1] + np.log(down_benchmark[0]),
        n_down,
    )


@compiled
def moments(returns, mean):
    """Sums of (r - mean)^2, ^3 and ^4 of returns, float64[n]."""
    square = cube = fourth = 0.0
    for start in range(0, returns.size, BLOCK):
        squares, cubes, fourths = 0.0, 0.0, 0.0
        for t in range(start, min(start + BLOCK, returns.size)):
            r = returns[t] - mean
            squares += r * r
            cubes += r * r * r
            fourths += (r * r) * (r * r)
        square, cube, fourth = square + squares, cube + cubes, fourth + fourths
    return square, cube, fourth


@compiled
def _mean(total, n):
    return total / n if n else np.nan


@compiled
def _grown(grown, change):
    """A product of 1 + change, as a factor and a logarithm: the product of many bars leaves the range of floats."""
    factor, logarithm = grown[0] * (1.0 + change), grown[1]
    if 1e-100 < factor < 1e100:
        return factor, logarithm
    return 1.0, logarithm + np.log(factor)


@compiled
def drawdowns(equity):
    """Falls of an account, float64[n_bars], > 0 at first.  [currency]"""
    peak, deepest, square, lowest, low = equity[0], 0.0, 0.0, 0.0, 0.0
    n_below = n_falls = longest = length = 0
    for t in range(equity.size):
        peak = max(peak, equity[t])
        fall = equity[t] / peak - 1.0
        square += fall * fall
        if fall < 0.0:
            n_below += 1
            length += 1
            low = min(low, fall)
        if length > 0 and (fall == 0.0 or t == equity.size - 1):
            n_falls += 1
            lowest += low
            longest, deepest = max(longest, length), min(deepest, low)
            length, low = 0, 0.0
    return Falls(deepest, square, n_below, n_falls, longest, lowest)


@compiled
def trade_sums(pnl, returns, bars):
    """TradeSums of closed trades, float64[n_trades] each: profit [currency], return [fraction], bars held [bars]."""
    n = pnl.size
    won = lost = total = total_returns = total_bars = wins = losses = largest = longest = 0.0
    n_won = n_wins = n_losses = winning = losing = win_streak = loss_streak = 0
    best, worst = -np.inf, np.inf
    for k in range(n):
        total += pnl[k]
        total_returns += returns[k]
        total_bars += bars[k]
        largest, longest = max(largest, abs(pnl[k])), max(longest, bars[k])
        best, worst = max(best, returns[k]), min(worst, returns[k])
        winning = winning + 1 if pnl[k] > 0.0 else 0
        losing = losing + 1 if pnl[k] < 0.0 else 0
        win_streak, loss_streak = max(win_streak, winning), max(loss_streak, losing)
        if pnl[k] > 0.0:
            n_won += 1
            won += pnl[k]
        else:
            lost -= pnl[k]
        if returns[k] > 0.0:
            n_wins += 1
            wins += returns[k]
        elif returns[k] < 0.0:
            n_losses += 1
            losses += returns[k]
    mean, square = _mean(total, n), 0.0
    for k in range(n):
        square += (pnl[k] - mean) * (pnl[k] - mean)
    return TradeSums(
        n,
        n_won,
        won,
        lost,
        mean,
        square,
        largest,
        _mean(total_returns, n),
        best if n else np.nan,
        worst if n else np.nan,
        n_wins,
        wins,
        n_losses,
        losses,
        _mean(total_bars, n),
        int(longest),
        win_streak,
        loss_streak,
    )
