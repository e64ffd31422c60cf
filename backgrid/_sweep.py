"""What a sweep does for each combination, compiled: from the bars on which its position changes to trades, to metrics.

Cost follows the trades, not the bars: only bars on which the position changes are visited, and a stretch held in
between is looked up in tables. What this does not serve (`AGAIN`) is simulated bar by bar instead. All ways end in
`core_metrics` or `few_metrics`, the formulas of `metrics` for those metrics that need no more than a few sums.
"""

import math
from typing import NamedTuple

import numpy as np

from backgrid._kernels import FILL_BAR, FILL_FEE, FILL_PRICE, FILL_UNITS, OPEN, compiled, inlined, pair_trades, simulate
from backgrid._masks import BITS, STEP, any_known, changes_of, compare, evaluate, positions_on
from backgrid._sums import drawdowns, moments
from backgrid._words import WORD, leading_zeros
from backgrid.lines import ABOVE

CORE = (  # in the order of metrics.METRICS
    *("total_return", "cagr", "annual_volatility", "sharpe", "sortino", "calmar", "max_drawdown", "skew", "kurtosis"),
    *("exposure", "turnover", "n_trades", "win_rate", "profit_factor", "fees_paid"),
)
FEW = ("total_return", "sharpe", "max_drawdown", "n_trades")  # these alone are computed faster
DONE, REFUSED, AGAIN = 0, 1, 2  # state of a combination: REFUSED gave no signal, AGAIN is to be simulated

HIGH, LOW, FALL, R, R2, R3, R4, LOSS2 = 0, 1, 2, 3, 4, 5, 6, 7  # a record of a stretch; up to R2 for FEW
PAID, BOUGHT, GOT, SOLD = 0, 1, 2, 3  # a record of what a deal on a bar does
LARGEST_RATIO = 1e6  # as in metrics
ROUNDING = 1e-14  # as in metrics
STEADY = 0.5  # below this share of r^2 in its variance the sums have lost digits
CALM = 1e-10  # below this mean of r^2 the rounding of the account shows in its returns
MANY = 2048  # changes, from which on the rounding of deals that repeat would add up
FAR = 1e150  # prices and cash beyond, or below its inverse, may make units that are no ordinary floats
RUIN = -0.999  # after such a fall what the account kept as a rounding error is none any more


class Prices(NamedTuple):
    """What is charged and earned where."""

    fill: np.ndarray  # float64[n_bars]  price at which a decision is filled on this bar   [currency]
    close: np.ndarray  # float64[n_bars]                                                   [currency]
    deals: np.ndarray  # float64[n_bars + 1, 4] of `deals_of`; no rows where nothing may grow by them


class Account(NamedTuple):
    """On what terms all combinations trade."""

    lag: int  # bars from a decision to its fill
    cash: float  # account before the first bar                              [currency]
    fees: float  # one-way                                                   [fraction of traded value]
    slippage: float  # one-way                                               [fraction of price]
    cash_return: float  # of a bar                                           [fraction]
    a_year: float  # bars a year


# ---- what all combinations share -------------------------------------------------------------------------------------


@compiled
def deals_of(fill, close, account):
    """What buying and selling does on each bar: float64[n_bars + 1, 4].

    A record holds the money that a unit costs and the return of that bar, the money that a unit brings and the return
    of that bar; the last one values at the last close what is still held. Fees are counted bar by bar and returns made
    of differences, since what is rounded alike on every bar would add up over the trades. There are no rows where a
    price or the cash is FAR from 1.
    """
    n_bars = close.size
    deals = np.zeros((n_bars + 1, 4))
    for t in range(n_bars):
        if max(fill[t], close[t], account.cash) > FAR or min(fill[t], close[t], account.cash) < 1.0 / FAR:
            return np.zeros((0, 4))
        price = fill[t] * (1.0 + account.slippage)
        fee = account.fees * price
        deals[t, PAID], deals[t, BOUGHT] = price + fee, (close[t] - price - fee) / (price + fee)
        price, before = fill[t] * (1.0 - account.slippage), close[max(t - 1, 0)]
        fee = account.fees * price
        deals[t, GOT], deals[t, SOLD] = price - fee, (price - before - fee) / before
    deals[n_bars, GOT] = close[n_bars - 1]
    return deals


@compiled
def stretches(close, cash_return, shift, few):
    """Records of stretches of blocks of 2**shift bars, as a disjoint sparse table: two lookups make one.

    close        float64[n_bars]  finite, > 0                                        [currency]
    cash_return  float            of a bar                                           [fraction]
    shift        int
    few          bool             whether FEW are all that is asked, so that r^2 is the last sum that is kept

    float64[n_levels, n_blocks + 1, 8 or 5]: level 0 is the block itself, and in level l a block holds the stretch
    between it and the middle of its group of 2**l blocks. A record holds the highest and the lowest close, lowest close
    / highest close before it - 1, and the sums of r, r^2, r^3, r^4 and min(r - cash_return, 0)^2, r = close / close
    before - 1. The last block is empty. Sums of a stretch are sums of its own bars only: nothing cancels.
    """
    n_bars = close.size
    n_blocks, n_levels = n_bars >> shift, 1
    while 2 ** (n_levels - 1) < n_blocks:
        n_levels += 1
    table = np.empty((n_levels, n_blocks + 1, R2 + 1 if few else LOSS2 + 1))
    table[0], table[:, n_blocks] = 0.0, 0.0
    table[0, :, LOW], table[:, n_blocks, LOW] = np.inf, np.inf
    for t in range(n_blocks << shift):
        _lengthen(table, t >> shift, close[t], close[max(t - 1, 0)], cash_return)
    for level in range(1, n_levels):
        group = 2**level
        for start in range(0, n_blocks, group):
            middle = min(start + group // 2, n_blocks)
            _accumulate(table, level, middle - 1, start - 1, -1)
            _accumulate(table, level, middle, min(start + group, n_blocks), 1)
    return table


@inlined
def _lengthen(table, block, price, before, cash_return):
    """Add a bar to the record of a block."""
    r = price / before - 1.0
    lost = min(r - cash_return, 0.0)
    table[0, block, HIGH] = max(table[0, block, HIGH], price)
    table[0, block, LOW] = min(table[0, block, LOW], price)
    table[0, block, FALL] = min(table[0, block, FALL], price / table[0, block, HIGH] - 1.0)
    table[0, block, R] += r
    table[0, block, R2] += r * r
    if table.shape[2] > R3:
        table[0, block, R3] += r * r * r
        table[0, block, R4] += (r * r) * (r * r)
        table[0, block, LOSS2] += lost * lost


@inlined
def _accumulate(table, level, first, end, step):
    """Records of the stretches between block `first` and each one before `end`: forwards, or backwards by step -1."""
    high, low, fall, r, r2, r3, r4, loss2 = 0.0, np.inf, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    for block in range(first, end, step):
        highest, lowest = table[0, block, HIGH], table[0, block, LOW]
        across = (lowest / high if step > 0 else low / highest) - 1.0
        high, low, fall = max(high, highest), min(low, lowest), min(across, min(fall, table[0, block, FALL]))
        r, r2 = r + table[0, block, R], r2 + table[0, block, R2]
        table[level, block, HIGH], table[level, block, LOW], table[level, block, FALL] = high, low, fall
        table[level, block, R], table[level, block, R2] = r, r2
        if table.shape[2] > R3:
            r3, r4, loss2 = r3 + table[0, block, R3], r4 + table[0, block, R4], loss2 + table[0, block, LOSS2]
            table[level, block, R3], table[level, block, R4], table[level, block, LOSS2] = r3, r4, loss2


# ---- from changes to metrics -----------------------------------------------------------------------------------------


class Path(NamedTuple):
    """What an account went through so far."""

    r: float  # sum of its returns, flat bars left out
    r2: float  # of their squares
    r3: float
    r4: float
    loss2: float  # sum of min(r - cash_return, 0)^2, flat bars left out
    peak: float  # highest equity                                                    [currency]
    deepest: float  # lowest equity / highest before it - 1


class Grown(NamedTuple):
    """What the metrics of FEW are made of, by their names in Sums."""

    n_bars: int
    growth: float
    mean: float
    square: float
    varies: bool
    deepest: float
    n_trades: int


class Sums(NamedTuple):
    """What the metrics of CORE are made of, as in `_sums`."""

    n_bars: int
    growth: float  # equity at the end / at first
    mean: float  # of r
    square: float  # sum of (r - mean)^2
    cube: float
    fourth: float
    loss2: float  # sum of min(r - cash_return, 0)^2
    varies: bool  # whether r does
    deepest: float
    n_held: int  # closes with a position
    traded: float  # sum of traded value / equity at the close before
    n_trades: int
    n_closed: int
    n_won: int
    won: float
    lost: float
    fees: float


@compiled
def sweep(program, rows, lines, prices, table, shift, account, metrics, state):
    """Metrics of every combination, in place.

    program, lines  as in `evaluate`
    rows     int64[n_combinations, n_columns]
    prices   Prices
    table    float64[n_levels, n_blocks + 1, 8 or 5]  `stretches` of the closes, in blocks of 2**shift bars
    account  Account
    metrics  float64[n_combinations, 15 or 4]  CORE or FEW, filled
    state    uint8[n_combinations]      DONE, REFUSED or AGAIN, filled
    """
    n_bars, depth = prices.close.size, 0
    for k in range(program.shape[0]):
        depth += program[k, 0] == ABOVE
    stack = np.zeros((depth, 3, n_bars // WORD + 1), np.uint64)
    bars, positions = np.empty(n_bars + 1 + STEP, np.int64), np.empty(n_bars + 1, np.int64)
    for k in range(rows.shape[0]):
        if program.shape[0] == 1:
            compare(lines, rows[k, 0], rows[k, 1], stack[0, 0])
        else:
            evaluate(program, rows[k], lines, stack)
        n, short = changes_of(stack[0], n_bars, bars)
        if not _may_grow(n, short, prices, metrics[k]):  # nor may fewer of them, of those that are filled
            positions_on(stack[0], bars, n, positions)
        if n == 0 and not any_known(program, rows[k], lines, stack):
            state[k] = REFUSED
        else:
            state[k] = _measure(bars, positions, n, short, prices, table, shift, account, metrics[k])


@compiled
def sweep_positions(targets, prices, table, shift, account, metrics, state):
    """The same of target positions, float64[n_combinations, n_bars]; AGAIN also where one is not -1, 0 or 1."""
    n_bars = prices.close.size
    bars, positions = np.empty(n_bars + 1, np.int64), np.empty(n_bars + 1, np.int64)
    for k in range(targets.shape[0]):
        n, short = _changes_of_positions(targets[k], bars, positions)
        if n < 0:
            state[k] = AGAIN
        else:
            state[k] = _measure(bars, positions, n, short, prices, table, shift, account, metrics[k])


@inlined
def _changes_of_positions(target, bars, positions):
    """As `changes_of`; -1 for other positions than -1, 0 and 1."""
    n, before, short = 0, 0.0, False
    for t in range(target.size):
        if target[t] != before:
            before = target[t]
            if before != 0.0 and abs(before) != 1.0:
                return -1, short
            bars[n], positions[n] = t, int(before)
            n += 1
            short |= before < 0.0
    return n, short


@inlined
def _measure(bars, positions, n, short, prices, table, shift, account, metrics):
    """Metrics of one line of changes; AGAIN where it has to be simulated bar by bar."""
    while n > 0 and bars[n - 1] + account.lag >= prices.close.size:
        n -= 1
    if n > 0 and bars[0] + account.lag == 0:
        return AGAIN
    if _may_grow(n, short, prices, metrics):
        return _grow(bars, n, prices, table, account, metrics)
    if metrics.size == len(FEW):
        return _trade(bars, positions, n, prices, table, shift, account, metrics, few_metrics)
    return _trade(bars, positions, n, prices, table, shift, account, metrics, core_metrics)


@inlined
def _may_grow(n, short, prices, metrics):
    """Whether the metrics are FEW, of an account that is never short and has deals to grow by: no need of positions."""
    return metrics.size == len(FEW) and not short and n <= MANY and prices.deals.size > 0


@inlined
def _trade(bars, positions, n, prices, table, shift, account, metrics, measure):
    """The same of changes that are filled, by a function that measures; what it does not ask for is not computed."""
    close, n_bars = prices.close, prices.close.size
    money, held, worth = account.cash, 0.0, account.cash
    path = Path(0.0, 0.0, 0.0, 0.0, 0.0, account.cash, 0.0)
    since, n_flat, n_held, n_trades, n_closed, n_won = 0, 0, 0, 0, 0, 0
    spent = entry_fee = won = lost = fees = traded = 0.0
    for k in range(n + 1):
        bar = bars[k] + account.lag if k < n else n_bars
        worth = money
        if held == 0.0:
            n_flat += bar - since - 1
        else:
            n_held += bar - since
            worth = money + held * close[bar - 1]
            if held > 0.0 and shift == 0:
                if bar > since + 1:
                    path = _jump(path, held, table, since + 1, bar - 1)
            elif held > 0.0:
                path = _hold(path, held, close, since + 1, bar - 1, table, shift, account.cash_return)
            else:
                path = _walk(path, money, held, close, since + 1, bar - 1, account.cash_return)
        if k == n:
            break
        price = prices.fill[bar]
        if held != 0.0:
            paid = price * (1.0 - account.slippage) if held > 0.0 else price * (1.0 + account.slippage)
            fee = account.fees * abs(held) * paid
            money = money + held * paid - fee
            fees += fee
            traded += abs(held) * paid / worth
            pnl = held * paid - spent - (entry_fee + fee)
            n_closed += 1
            n_won += pnl > 0.0
            won += max(pnl, 0.0)
            lost += max(-pnl, 0.0)
        held, since = 0.0, bar
        if positions[k] != 0 and money > 0.0:
            paid = price * (1.0 + account.slippage) if positions[k] > 0 else price * (1.0 - account.slippage)
            held = positions[k] * money / (paid * (1.0 + account.fees))
            entry_fee, spent = account.fees * abs(held) * paid, held * paid
            money = money - spent - entry_fee
            fees += entry_fee
            traded += abs(held) * paid / worth
            n_trades += 1
        path = _add(path, worth, money + held * close[bar], account.cash_return)
    n, mean, growth = n_bars - 1, path.r / (n_bars - 1), worth / account.cash
    square, flat_loss = path.r2 - n * mean * mean, min(-account.cash_return, 0.0)
    if not _is_sound(growth, path.r2, square, path.deepest, n_bars, n_trades):
        return AGAIN
    measure(
        Sums(
            n_bars,
            growth,
            mean,
            square,
            path.r3 - 3.0 * mean * path.r2 + 2.0 * n * mean**3,
            path.r4 - 4.0 * mean * path.r3 + 6.0 * mean * mean * path.r2 - 3.0 * n * mean**4,
            path.loss2 + n_flat * flat_loss * flat_loss,
            n_trades > 0,
            path.deepest,
            n_held,
            traded,
            n_trades,
            n_closed,
            n_won,
            won,
            lost,
            fees,
        ),
        account,
        metrics,
    )
    return DONE


@inlined
def _grow(bars, n, prices, table, account, metrics):
    """Metrics of FEW for an account that is all in from the first bar to the second, from the third to the fourth ...

    It grows by ratios of prices, so that no trade waits for a division of the one before. Behind the last of the bars
    there is room for the end, which is written there.
    """
    n_bars, deals, money, peak = prices.close.size, prices.deals, account.cash, account.cash
    r = r2 = deepest = 0.0
    bars[n] = n_bars - account.lag
    for k in range(0, n, 2):  # places that are unsigned are not asked whether they count from the end
        start, end = bars[np.uint64(k)] + account.lag, bars[np.uint64(k + 1)] + account.lag
        entry, leave = np.uint64(start), np.uint64(end)
        paid, bought, sold = deals[entry, PAID], deals[entry, BOUGHT], deals[leave, SOLD]
        lowest = highest = money * (1.0 + bought)
        peak = max(peak, highest)
        if end > start + 1:
            level, a, b = _entries(table, start + 1, end - 1)
            lowest = min(lowest, money * (min(table[level, a, LOW], table[level, b, LOW]) / paid))
            highest = money * (max(table[level, a, HIGH], table[level, b, HIGH]) / paid)
            deepest = min(deepest, _fall(table, level, a, b))
            r += table[level, a, R] + table[level, b, R]
            r2 += table[level, a, R2] + table[level, b, R2]
        deepest = min(deepest, lowest / peak - 1.0)
        money *= deals[leave, GOT] / paid
        peak = max(peak, max(highest, money))
        deepest = min(deepest, money / peak - 1.0)
        r += bought + sold
        r2 += bought * bought + sold * sold
    n_trades, mean, growth = (n + 1) // 2, r / (n_bars - 1), money / account.cash
    square = r2 - (n_bars - 1) * mean * mean
    if not _is_sound(growth, r2, square, deepest, n_bars, n_trades):
        return AGAIN
    grown = Grown(n_bars, growth, mean, square, n_trades > 0, deepest, n_trades)
    few_metrics(grown, account, metrics)
    return DONE


@inlined
def _is_sound(growth, r2, square, deepest, n_bars, n_trades):
    """Whether sums have kept their digits, and the account is a float that is more than a rounding error."""
    varies = square > STEADY * r2 and r2 > CALM * (n_bars - 1)
    return growth < np.inf and deepest >= RUIN and (n_trades == 0 or varies)


@inlined
def _add(path, before, value, cash_return):
    """The path with one more bar."""
    r = value / before - 1.0
    square, loss = r * r, min(r - cash_return, 0.0)
    peak = max(path.peak, value)
    return Path(
        path.r + r,
        path.r2 + square,
        path.r3 + square * r,
        path.r4 + square * square,
        path.loss2 + loss * loss,
        peak,
        min(path.deepest, value / peak - 1.0),
    )


@inlined
def _walk(path, money, held, close, first, last, cash_return):
    """The path with bars first..last, one after the other."""
    for t in range(first, last + 1):
        path = _add(path, money + held * close[t - 1], money + held * close[t], cash_return)
    return path


@inlined
def _hold(path, held, close, first, last, table, shift, cash_return):
    """The same for units that were bought for the whole account: blocks are looked up, the bars beside them walked.

    What is left of the account is a rounding error, so equity goes as the price.
    """
    low, high = (first + (1 << shift) - 1) >> shift, ((last + 1) >> shift) - 1
    if low > high:
        return _walk(path, 0.0, held, close, first, last, cash_return)
    path = _walk(path, 0.0, held, close, first, (low << shift) - 1, cash_return)
    path = _jump(path, held, table, low, high)
    return _walk(path, 0.0, held, close, (high + 1) << shift, last, cash_return)


@inlined
def _jump(path, held, table, low, high):
    """The path with the blocks low..high."""
    level, a, b = _entries(table, low, high)
    lowest = held * min(table[level, a, LOW], table[level, b, LOW])
    fall = min(lowest / path.peak - 1.0, _fall(table, level, a, b))
    r3, r4, loss2 = path.r3, path.r4, path.loss2
    if table.shape[2] > R3:
        r3 += table[level, a, R3] + table[level, b, R3]
        r4 += table[level, a, R4] + table[level, b, R4]
        loss2 += table[level, a, LOSS2] + table[level, b, LOSS2]
    return Path(
        path.r + (table[level, a, R] + table[level, b, R]),
        path.r2 + (table[level, a, R2] + table[level, b, R2]),
        r3,
        r4,
        loss2,
        max(path.peak, held * max(table[level, a, HIGH], table[level, b, HIGH])),
        min(path.deepest, fall),
    )


@inlined
def _entries(table, low, high):
    """Level and places of the two entries of the table that tell the blocks low..high."""
    last = high if high > low else table.shape[1] - 1
    return np.uint64(WORD - leading_zeros(low ^ high)), np.uint64(low), np.uint64(last)


@inlined
def _fall(table, level, a, b):
    """Lowest close / highest close before it - 1 in two stretches, one after the other."""
    return min(table[level, b, LOW] / table[level, a, HIGH] - 1.0, min(table[level, a, FALL], table[level, b, FALL]))


@inlined
def few_metrics(sums, account, metrics):
    """The metrics of FEW."""
    excess, deviation = _excess_and_deviation(sums, account)
    metrics[0] = sums.growth - 1.0
    metrics[1] = _ratio(excess, deviation) if sums.varies else np.nan
    metrics[2] = sums.deepest
    metrics[3] = sums.n_trades


@inlined
def core_metrics(sums, account, metrics):
    """The metrics of CORE; their formulas stand in `metrics`."""
    n, a_year = sums.n_bars - 1, account.a_year
    excess, deviation = _excess_and_deviation(sums, account)
    yearly, variance = sums.growth ** (a_year / n), sums.square / n
    cagr = yearly - 1.0 if yearly <= LARGEST_RATIO else np.nan
    metrics[0] = sums.growth - 1.0
    metrics[1] = cagr
    metrics[2] = deviation * math.sqrt(a_year)
    metrics[3] = _ratio(excess, deviation) if sums.varies else np.nan
    metrics[4] = _ratio(excess, math.sqrt(sums.loss2 / n))
    metrics[5] = _ratio(cagr, -sums.deepest)
    metrics[6] = sums.deepest
    metrics[7] = _ratio(sums.cube / n, variance**1.5) if sums.varies else np.nan
    metrics[8] = _ratio(sums.fourth / n, variance * variance) if sums.varies else np.nan
    metrics[9] = sums.n_held / sums.n_bars
    metrics[10] = sums.traded * a_year / n
    metrics[11] = sums.n_trades
    metrics[12] = sums.n_won / sums.n_closed if sums.n_closed else np.nan
    metrics[13] = _ratio(sums.won, sums.lost)
    metrics[14] = sums.fees


@inlined
def _excess_and_deviation(sums, account):
    """Mean of r above cash, times the root of the bars of a year, and the deviation of r."""
    return (sums.mean - account.cash_return) * math.sqrt(account.a_year), math.sqrt(sums.square / (sums.n_bars - 2))


@inlined
def _ratio(numerator, denominator):
    if denominator == 0.0 or not abs(numerator) <= LARGEST_RATIO * abs(denominator):
        return np.nan
    return numerator / denominator + 0.0


# ---- bar by bar ------------------------------------------------------------------------------------------------------


@compiled
def simulate_each(targets, market, terms, account, metrics):
    """The metrics of CORE or FEW of every line of target positions, float64[n_combinations, n_bars], in place.

    Equity that leaves the range of floats gives NaN.
    """
    for k in range(targets.shape[0]):
        equity, units, fills, _ = _simulate(targets[k], market, terms)
        trades = pair_trades(fills, equity.size - 1, market.close[-1])
        sums = _sums_of(equity, units, market.close, fills, trades, account.cash_return)
        if metrics.shape[1] == len(FEW):
            few_metrics(sums, account, metrics[k])
        else:
            core_metrics(sums, account, metrics[k])


@compiled
def _simulate(target, market, terms):
    return simulate(
        market.open,
        market.high,
        market.low,
        market.close,
        target,
        market.scale,
        market.due,
        market.stops,
        market.timing,
        market.sizing,
        terms,
    )


@compiled
def _sums_of(equity, units, close, fills, trades, cash_return):
    n = equity.size - 1
    returns, total, low, high, loss2, n_held = np.empty(n), 0.0, np.inf, -np.inf, 0.0, 0
    for t in range(n):
        r = equity[t + 1] / equity[t] - 1.0 if equity[t] > 0.0 else 0.0
        loss = min(r - cash_return, 0.0)
        returns[t], total, low, high, loss2 = r, total + r, min(low, r), max(high, r), loss2 + loss * loss
    mean = total / n
    square, cube, fourth = moments(returns, mean)
    for t in range(n + 1):
        n_held += equity[t] > 0.0 and units[t] * close[t] / equity[t] != 0.0
    traded = fees = won = lost = 0.0
    for k in range(fills.shape[0]):
        before = equity[max(int(fills[k, FILL_BAR]) - 1, 0)]
        traded += abs(fills[k, FILL_UNITS]) * fills[k, FILL_PRICE] / before
        fees += fills[k, FILL_FEE]
    n_closed = n_won = 0
    for k in range(trades.shape[0]):
        pnl = trades[k, 6]
        if trades[k, 7] != OPEN:
            n_closed += 1
            n_won += pnl > 0.0
            won += max(pnl, 0.0)
            lost += max(-pnl, 0.0)
    return Sums(
        n + 1,
        equity[n] / equity[0],
        mean,
        square if high - low > 0.0 else 0.0,
        cube,
        fourth,
        loss2,
        n > 1 and high - low > ROUNDING,
        drawdowns(equity).deepest,
        n_held,
        traded,
        trades.shape[0],
        n_closed,
        n_won,
        won,
        lost,
        fees,
    )


@compiled
def positions_of(program, rows, lines, targets, state):
    """Target positions of every combination, float64[n_combinations, n_bars] of -1, 0, 1, and its state, in place."""
    n_bars, depth = targets.shape[1], 0
    for k in range(program.shape[0]):
        depth += program[k, 0] == ABOVE
    stack = np.zeros((depth, 3, n_bars // WORD + 1), np.uint64)
    for k in range(rows.shape[0]):
        state[k] = DONE if any_known(program, rows[k], lines, stack) else REFUSED
        for t in range(n_bars):
            up, down = stack[0, 0, t // WORD] & BITS[t % WORD], stack[0, 1, t // WORD] & BITS[t % WORD]
            targets[k, t] = (1.0 if up else 0.0) - (1.0 if down else 0.0)


@compiled
def returns_of_each(targets, market, terms, returns):
    """Returns of every line of target positions, float64[n_combinations, n_bars - 1], in place."""
    for k in range(targets.shape[0]):
        equity = _simulate(targets[k], market, terms)[0]
        for t in range(equity.size - 1):
            returns[k, t] = equity[t + 1] / equity[t] - 1.0 if equity[t] > 0.0 else 0.0
