"""Every performance metric, each once: a function of arrays whose docstring is its formula, basis and unit.

What the formulas call things, all of them net of costs:

    r, e, b, d, A     return of a bar, from the second on; r above cash; return of the benchmark; equity / highest
                      equity so far - 1, first bar included, at most 0; bars a year

and the functions:

    equity            account value at each close, first bar included                       [currency]
    returns, excess, benchmark, benchmark_excess, active    Line of r, e, b, b above cash, r - b
    sorted_returns    r in order                                                             [fraction]
    bars, falls, trades    sums over the bars, the drawdowns and the closed trades: `backgrid._sums`
    positions         share of the equity in the market at each close, negative for short    [fraction]
    traded            traded value of each fill / equity at the close before                 [fraction]
    n_trades          trades opened                                                         [trades]
    fees              fees of each fill                                                      [currency]
    financing         interest earned on cash less what borrowing cost                       [currency]
    risk_free         return of cash                                                [fraction per year]
    periods_per_year  A                                                              [bars per year]

and a metric that stands further up by its own name.

An undefined value is NaN (null in JSON, n/a on a page), never infinity and never a ratio above a million. Means,
variances and moments are over all bars; standard deviations have ddof 1; quantiles interpolate linearly.

What other tools list and another metric already says is left out: the geometric mean of a bar is the CAGR's, gain to
pain is Omega - 1, the common sense ratio is Omega times the tail ratio (these three without a return of cash), the
correlation with the benchmark is the root of R squared with the sign of beta.
"""

import inspect
import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from backgrid._sums import bar_sums, drawdowns, trade_sums
from backgrid.errors import ParameterError, shown

NAN = float("nan")
LARGEST_RATIO = 1e6  # beyond this a ratio is rounding noise
HIGHER, LOWER, NEITHER = 1, -1, 0  # what is better of a metric
ROUNDING = 1e-14  # returns of an account that grows steadily differ by this much and less


class Metric(NamedTuple):
    """One metric: how it is computed and how it is shown."""

    function: Callable[..., float]
    arguments: tuple[str, ...]
    group: str
    label: str
    unit: str
    formula: str
    better: int  # HIGHER, LOWER or NEITHER


METRICS: dict[str, Metric] = {}


def metric(group: str, label: str, unit: str, better: int = HIGHER) -> Callable:
    """Enter a function in METRICS under its own name; its docstring is the formula that the reports show."""

    def enter(function: Callable[..., float]) -> Callable[..., float]:
        arguments = tuple(inspect.signature(function).parameters)
        formula = " ".join((function.__doc__ or "").split())
        METRICS[function.__name__] = Metric(function, arguments, group, label, unit, formula, better)
        return function

    return enter


def calculate_metrics(**series: Any) -> dict[str, float | int]:
    """All metrics of one run, in the order in which they are defined here.

    Parameters
    ----------
    **series
        equity, benchmark, positions, traded, pnl, trade_returns, bars_held, fees : ndarray of float
        n_trades : int
        risk_free : float [fraction per year]
        periods_per_year : float
        financing : float, default 0.0 [currency]
        as described at the head of this module; all else that stands there is derived here.

    Returns
    -------
    dict
        Name to value; NaN where a metric is undefined.
    """
    equity, cash = series["equity"], cash_return(series["risk_free"], series["periods_per_year"])
    returns = returns_of(equity)
    bars = bar_sums(returns, series["benchmark"], cash)
    n = returns.size
    known = {
        "financing": 0.0,
        **series,
        "returns": Line(n, bars.mean, bars.square, bars.spread),
        "excess": Line(n, bars.mean - cash, bars.square, bars.spread),
        "benchmark": Line(n, bars.mean_benchmark, bars.square_benchmark, bars.spread_benchmark),
        "benchmark_excess": Line(n, bars.mean_benchmark - cash, bars.square_benchmark, bars.spread_benchmark),
        "active": Line(n, bars.mean - bars.mean_benchmark, bars.square_active, bars.spread_active),
        "sorted_returns": np.sort(returns),
        "bars": bars,
        "falls": drawdowns(equity),
        "trades": trade_sums(series["pnl"], series["trade_returns"], series["bars_held"]),
    }
    values = {}
    for name, entry in METRICS.items():
        values[name] = value = entry.function(*map(known.__getitem__, entry.arguments))
        if name not in series:
            known[name] = value
    return values


class Line(NamedTuple):
    """What most metrics ask of a line of returns."""

    n: int  # values
    mean: float  # NaN without any
    square: float  # sum of (value - mean)^2
    spread: float  # largest value - smallest value

    @property
    def std(self) -> float:
        """Standard deviation with ddof 1; exactly 0.0 for equal values, NaN for fewer than two."""
        if self.n < 2:
            return NAN
        return math.sqrt(self.square / (self.n - 1)) if self.spread else 0.0

    @property
    def varies(self) -> bool:
        """Whether there are two values at least, and they differ by more than rounding."""
        return self.n > 1 and self.spread > ROUNDING


def line(values: np.ndarray) -> Line:
    """The Line of an array."""
    bars = bar_sums(values, values, 0.0)
    return Line(values.size, bars.mean, bars.square, bars.spread)


def cash_return(risk_free: float, periods_per_year: float) -> float:
    """Return of cash in one bar, so that a year of them compounds to `risk_free`. [fraction]"""
    try:
        return (1.0 + risk_free) ** (1.0 / periods_per_year) - 1.0
    except OverflowError:
        raise ParameterError(
            f"a rate of {risk_free:g} a year over {periods_per_year:g} bars a year leaves the range of floats"
        ) from None


def returns_of(equity: np.ndarray) -> np.ndarray:
    """Simple return of each bar from the second on; 0 for an account that stays at 0."""
    before = equity[:-1]
    if equity.size and equity[-1] <= 0.0:  # ruined, and so since that bar
        return np.divide(equity[1:], before, out=np.ones_like(before), where=before > 0.0) - 1.0
    return equity[1:] / before - 1.0


def rolling_std(values: np.ndarray, window: int) -> np.ndarray:
    """Standard deviation (ddof 1) of the last `window` values along the first axis, each window by itself.

    Exactly 0.0 where they differ by rounding only; NaN where there are fewer, or one is NaN. pandas' running sum is
    faster for long windows, and keeps a trace of values that have left.
    """
    deviation = np.full(values.shape, NAN)
    n_windows = len(values) - window + 1
    if n_windows < 1:
        return deviation
    lags = [values[lag : lag + n_windows] for lag in range(window)]
    mean, square = sum(lags) / window, np.zeros_like(lags[0])
    lowest, highest = lags[0], lags[0]
    for lag in lags:
        square += (lag - mean) * (lag - mean)
        lowest, highest = np.minimum(lowest, lag), np.maximum(highest, lag)
    steady = highest - lowest <= ROUNDING
    deviation[window - 1 :] = np.where(steady, 0.0, np.sqrt(square / (window - 1)))
    return deviation


def drawdown_of(equity: np.ndarray) -> np.ndarray:
    """equity / highest equity so far - 1, exactly 0.0 at a new high."""
    return equity / np.maximum.accumulate(equity) - 1.0


class Drawdown(NamedTuple):
    """One stretch below a high: its bars, depth [fraction, < 0] and length [bars]; recovered is None if it goes on."""

    high: int
    lowest: int
    recovered: int | None
    depth: float
    bars: int


def deepest_drawdowns(equity: np.ndarray, most: int = 5) -> list[Drawdown]:
    """The deepest stretches below a high, the deepest first; of equals, the first.

    equity   float64[n_bars]  account value at each close, the first above 0    [currency]
    """
    drawdown = drawdown_of(equity)
    found = []
    for start, bars in zip(*_runs(drawdown < 0.0), strict=True):
        lowest = int(start + drawdown[start : start + bars].argmin())
        end = int(start + bars)
        recovered = end if end < equity.size else None
        found.append(Drawdown(int(start) - 1, lowest, recovered, float(drawdown[lowest]), int(bars)))
    return sorted(found, key=lambda each: each.depth)[:most]


# ---- the functions of the plan: public, checked arguments ------------------------------------------------------------


def calculate_total_return(equity: Any) -> float:
    """Total return of an account.

    Parameters
    ----------
    equity : array-like of float, shape (n_bars,)
        Account value at each close, positive at first. [currency]

    Returns
    -------
    float
        equity[-1] / equity[0] - 1. [fraction]

    Raises
    ------
    ParameterError
        If `equity` is not one-dimensional, is empty, is negative, starts at 0, or holds NaN or infinity.
    """
    return total_return(_checked_equity(equity))


def calculate_max_drawdown(equity: Any) -> float:
    """Deepest fall of an account from its highest value so far.

    Parameters
    ----------
    equity : array-like of float, shape (n_bars,)
        Account value at each close, positive at first. [currency]

    Returns
    -------
    float
        min over t of equity[t] / max(equity[:t + 1]) - 1, between -1.0 and 0.0. [fraction, <= 0]

    Raises
    ------
    ParameterError
        As `calculate_total_return`.
    """
    return drawdowns(_checked_equity(equity)).deepest


def calculate_sharpe_ratio(returns: Any, *, risk_free: float = 0.0, periods_per_year: float = 252) -> float:
    """Annualised Sharpe ratio of a series of simple returns.

    Parameters
    ----------
    returns : array-like of float, shape (n_bars,)
        Simple return of each bar, net of costs. [fraction: 0.01 is 1 %]
    risk_free : float, default 0.0
        Return of cash, spread over the bars by compounding. [fraction per year]
    periods_per_year : float, default 252
        252 for daily stock bars, 52 weekly, 12 monthly. [bars per year]

    Returns
    -------
    float
        mean(e) / std(e, ddof=1) * sqrt(periods_per_year), e being the excess return;
        NaN for fewer than two bars or where e does not vary. [ratio]

    Raises
    ------
    ParameterError
        If `returns` is not one-dimensional, or holds NaN or infinity; if `risk_free` is not above -1, or
        `periods_per_year` not above 0.

    References
    ----------
    W. F. Sharpe, "The Sharpe Ratio", J. Portfolio Management 21(1), 1994, pp. 49-58.
    """
    checked = _checked("returns", returns)
    if not (-1.0 < risk_free < math.inf and 0.0 < periods_per_year < math.inf):
        raise ParameterError(
            f"risk_free must be above -1 and periods_per_year above 0, got {risk_free} and {periods_per_year}"
        )
    return sharpe(line(checked - cash_return(risk_free, periods_per_year)), periods_per_year)


def _checked(name: str, values: Any) -> np.ndarray:
    """One line of finite floats, or ParameterError naming the first value that is none."""
    try:
        checked = np.asarray(values, dtype=float)
    except (TypeError, ValueError):
        raise ParameterError(f"{name} must be one-dimensional and numbers, got {shown(values)}") from None
    if checked.ndim != 1:
        raise ParameterError(f"{name} must be one-dimensional and finite, got shape {checked.shape}")
    bad = np.flatnonzero(~np.isfinite(checked))
    if bad.size:
        raise ParameterError(f"{name} must be one-dimensional and finite, got {checked[bad[0]]} at place {bad[0]}")
    return checked


def _checked_equity(equity: Any) -> np.ndarray:
    checked = _checked("equity", equity)
    if checked.size == 0:
        raise ParameterError("equity must be one-dimensional, finite and not empty, got shape (0,)")
    if checked[0] <= 0.0 or checked.min() < 0.0:
        raise ParameterError(f"equity must start above 0 and never be negative, got a minimum of {checked.min()}")
    return checked


# ---- return ----------------------------------------------------------------------------------------------------------


@metric("Return", "Total return", "fraction")
def total_return(equity):
    """equity[-1] / equity[0] - 1; whole run."""
    return float(equity[-1] / equity[0] - 1.0)


@metric("Return", "CAGR", "fraction")
def cagr(equity, periods_per_year):
    """(equity[-1] / equity[0]) ** (A / n) - 1, n bars of return; whole run."""
    return _annual(float(equity[-1] / equity[0]), equity.size - 1, periods_per_year)


@metric("Return", "Mean annual return", "fraction")
def annual_return(returns, periods_per_year):
    """mean(r) * A, not compounded; per bar."""
    return returns.mean * periods_per_year


@metric("Risk", "Annual volatility", "fraction", LOWER)
def annual_volatility(returns, periods_per_year):
    """std(r, ddof 1) * sqrt(A); per bar."""
    return returns.std * math.sqrt(periods_per_year)


# ---- ratios ----------------------------------------------------------------------------------------------------------


@metric("Ratios", "Sharpe", "ratio")
def sharpe(excess, periods_per_year):
    """mean(e) / std(e, ddof 1) * sqrt(A); per bar; undefined where e does not vary."""
    return _ratio(excess.mean * math.sqrt(periods_per_year), excess.std) if excess.varies else NAN


@metric("Ratios", "Sortino", "ratio")
def sortino(excess, bars, periods_per_year):
    """mean(e) / sqrt(mean(min(e, 0)^2)) * sqrt(A); per bar, over all bars; undefined without a loss."""
    return _ratio(excess.mean * math.sqrt(periods_per_year), _root_mean(bars.square_lost, excess.n))


@metric("Ratios", "Calmar", "ratio")
def calmar(cagr, falls):
    """CAGR / |max drawdown|; whole run; undefined without a drawdown."""
    return _ratio(cagr, -falls.deepest)


@metric("Ratios", "Omega", "ratio")
def omega(bars):
    """sum(max(e, 0)) / sum(max(-e, 0)); per bar; undefined without a loss."""
    return _ratio(bars.gained, bars.lost)


# ---- risk ------------------------------------------------------------------------------------------------------------


@metric("Risk", "Max drawdown", "fraction")
def max_drawdown(falls):
    """min(d); whole run, first bar included."""
    return falls.deepest


@metric("Risk", "Longest drawdown", "bars", LOWER)
def max_drawdown_duration(falls):
    """most bars in a row with d < 0, unfinished ones included; whole run."""
    return falls.longest


@metric("Risk", "Average drawdown", "fraction")
def avg_drawdown(falls):
    """mean over the stretches with d < 0 of the lowest d of each; 0 without any; whole run."""
    return falls.lowest / falls.n_falls if falls.n_falls else 0.0


@metric("Risk", "Ulcer index", "fraction", LOWER)
def ulcer_index(falls, returns):
    """sqrt(sum(d^2) / (n - 1)), n bars of return; per bar."""
    return math.sqrt(falls.square / (returns.n - 1)) if returns.n > 1 else NAN


@metric("Risk", "Value at risk, 5 %", "fraction")
def value_at_risk(sorted_returns):
    """5 % quantile of r; per bar, historical."""
    return _quantile(sorted_returns, 0.05)


@metric("Risk", "Expected shortfall, 5 %", "fraction")
def expected_shortfall(sorted_returns):
    """mean of the r at or below the 5 % quantile; per bar, historical."""
    tail = np.searchsorted(sorted_returns, _quantile(sorted_returns, 0.05), side="right")
    return _mean(sorted_returns[:tail])


@metric("Risk", "Skew", "ratio", NEITHER)
def skew(returns, bars):
    """mean((r - mean)^3) / std(r, ddof 0)^3; per bar; 0 for a normal distribution."""
    return _moment_ratio(bars.cube, returns, 3)


@metric("Risk", "Kurtosis", "ratio", NEITHER)
def kurtosis(returns, bars):
    """mean((r - mean)^4) / std(r, ddof 0)^4; per bar; 3 for a normal distribution."""
    return _moment_ratio(bars.fourth, returns, 4)


@metric("Ratios", "Tail ratio", "ratio")
def tail_ratio(sorted_returns):
    """|95 % quantile of r| / |5 % quantile of r|; per bar."""
    return _ratio(abs(_quantile(sorted_returns, 0.95)), abs(_quantile(sorted_returns, 0.05)))


# ---- trading ---------------------------------------------------------------------------------------------------------


@metric("Trades", "Exposure", "fraction", NEITHER)
def exposure(positions):
    """share of closes with a position; whole run."""
    return float(np.count_nonzero(positions) / positions.size)


@metric("Trades", "Turnover a year", "multiple", LOWER)
def turnover(traded, equity, periods_per_year):
    """sum over fills of traded value / equity at the close before, * A / n; buying and selling both count; per fill."""
    return float(traded.sum()) * periods_per_year / (equity.size - 1) if equity.size > 1 else NAN


@metric("Trades", "Trades", "count", NEITHER)
def n_trades(n_trades):
    """trades opened, one that is still open included; per trade."""
    return int(n_trades)


@metric("Trades", "Win rate", "fraction")
def win_rate(trades):
    """share of closed trades with pnl > 0 after fees; per trade."""
    return _share(trades.n_won, trades.n)


@metric("Trades", "Profit factor", "ratio")
def profit_factor(trades):
    """sum of gains / sum of losses of closed trades, in currency; per trade; undefined without a loss."""
    return _ratio(trades.won, trades.lost)


@metric("Trades", "Expectancy", "currency")
def expectancy(trades):
    """mean pnl of closed trades after fees; per trade."""
    return trades.mean


@metric("Trades", "Average trade", "fraction")
def avg_trade(trades):
    """mean return of closed trades, pnl / value at entry; per trade."""
    return trades.mean_return


@metric("Trades", "Best trade", "fraction")
def best_trade(trades):
    """largest return of a closed trade; per trade."""
    return trades.best + 0.0


@metric("Trades", "Worst trade", "fraction")
def worst_trade(trades):
    """smallest return of a closed trade; per trade."""
    return trades.worst + 0.0


@metric("Trades", "Average holding", "bars", NEITHER)
def avg_trade_duration(trades):
    """mean of exit bar - entry bar of closed trades; per trade."""
    return trades.mean_bars


@metric("Trades", "SQN", "ratio")
def sqn(trades):
    """sqrt(n) * mean(pnl) / std(pnl, ddof 1), n closed trades; per trade."""
    if trades.n < 2:
        return NAN
    std = math.sqrt(trades.square / (trades.n - 1))
    return _ratio(math.sqrt(trades.n) * trades.mean, std) if std > ROUNDING * trades.largest else NAN


@metric("Trades", "Kelly", "fraction")
def kelly(trades):
    """W - (1 - W) / (mean win / mean loss), W the share of winners, on the returns of closed trades; per trade."""
    if not trades.n_wins or not trades.n_losses:
        return NAN
    share = trades.n_wins / trades.n
    mean_win, mean_loss = trades.wins / trades.n_wins, trades.losses / trades.n_losses
    return share - (1.0 - share) * _ratio(-mean_loss, mean_win)


@metric("Trades", "Fees paid", "currency", LOWER)
def fees_paid(fees):
    """sum of the fees of all fills; whole run."""
    return float(fees.sum())


@metric("Return", "Best bar", "fraction")
def best_day(sorted_returns):
    """max(r); per bar."""
    return float(sorted_returns[-1]) if sorted_returns.size else NAN


@metric("Return", "Worst bar", "fraction")
def worst_day(sorted_returns):
    """min(r); per bar."""
    return float(sorted_returns[0]) if sorted_returns.size else NAN


# ---- against the benchmark -------------------------------------------------------------------------------------------


@metric("Benchmark", "Benchmark return", "fraction", NEITHER)
def benchmark_return(bars):
    """product of (1 + b) - 1; whole run."""
    return bars.growth_benchmark - 1.0


@metric("Benchmark", "Alpha a year", "fraction")
def alpha(excess, benchmark_excess, bars, periods_per_year):
    """(mean(e) - beta * mean(b's excess)) * A; per bar."""
    return (excess.mean - beta(benchmark_excess, bars) * benchmark_excess.mean) * periods_per_year


@metric("Benchmark", "Beta", "ratio", NEITHER)
def beta(benchmark_excess, bars):
    """cov(e, b's excess) / var(b's excess); per bar; undefined where b does not vary."""
    return _ratio(bars.together, bars.square_benchmark) if benchmark_excess.varies else NAN


@metric("Benchmark", "Information ratio", "ratio")
def information_ratio(active, periods_per_year):
    """mean(r - b) / std(r - b, ddof 1) * sqrt(A); per bar; undefined where r - b does not vary."""
    return sharpe(active, periods_per_year)


# ---- further metrics, in the order of the groups ---------------------------------------------------------------------


@metric("Return", "Positive bars", "fraction")
def positive_bars(bars, returns):
    """share of bars with r > 0; per bar."""
    return _share(bars.n_positive, returns.n)


@metric("Risk", "Downside deviation", "fraction", LOWER)
def downside_deviation(bars, excess, periods_per_year):
    """sqrt(mean(min(e, 0)^2)) * sqrt(A); per bar, over all bars; 0 without a loss."""
    return _root_mean(bars.square_lost, excess.n) * math.sqrt(periods_per_year)


@metric("Risk", "Time under water", "fraction", LOWER)
def time_under_water(falls, equity):
    """share of closes with d < 0; whole run."""
    return falls.n_below / equity.size


@metric("Risk", "Average drawdown length", "bars", LOWER)
def avg_drawdown_duration(falls):
    """mean length of the stretches with d < 0, an unfinished one included; 0 without any; whole run."""
    return falls.n_below / falls.n_falls if falls.n_falls else 0.0


@metric("Ratios", "Recovery factor", "ratio")
def recovery_factor(total_return, max_drawdown):
    """total return / |max drawdown|; whole run, not annualised; undefined without a drawdown."""
    return _ratio(total_return, -max_drawdown)


@metric("Ratios", "Ulcer performance (Martin)", "ratio")
def ulcer_performance_index(cagr, ulcer_index, risk_free):
    """(CAGR - risk_free) / ulcer index; whole run; undefined without a drawdown."""
    return _ratio(cagr - risk_free, ulcer_index)


@metric("Trades", "Largest position", "fraction", NEITHER)
def max_exposure(positions):
    """max |position| at a close, as a share of the equity; whole run."""
    return float(np.abs(positions).max())


@metric("Trades", "Average win", "fraction")
def avg_win(trades):
    """mean return of the closed trades that won, after fees; per trade; undefined without any."""
    return _share(trades.wins, trades.n_wins)


@metric("Trades", "Average loss", "fraction")
def avg_loss(trades):
    """mean return of the closed trades that lost, after fees; per trade; undefined without any."""
    return _share(trades.losses, trades.n_losses)


@metric("Trades", "Payoff ratio", "ratio")
def payoff_ratio(avg_win, avg_loss):
    """average win / |average loss|, on the returns of closed trades; per trade; undefined without both."""
    return _ratio(avg_win, -avg_loss)


@metric("Trades", "Longest holding", "bars", NEITHER)
def longest_trade(trades):
    """largest exit bar - entry bar of a closed trade; per trade."""
    return trades.longest if trades.n else NAN


@metric("Trades", "Winning streak", "count")
def win_streak(trades):
    """most closed trades in a row with pnl > 0, by entry; 0 without any; per trade."""
    return trades.win_streak


@metric("Trades", "Losing streak", "count", LOWER)
def loss_streak(trades):
    """most closed trades in a row with pnl < 0, by entry; 0 without any; per trade."""
    return trades.loss_streak


@metric("Trades", "Financing", "currency")
def financing(financing):
    """interest earned on cash - interest and fees paid for what was borrowed; whole run; 0 where none is charged."""
    return float(financing) + 0.0


@metric("Benchmark", "CAGR above benchmark", "fraction")
def excess_cagr(cagr, benchmark_return, returns, periods_per_year):
    """CAGR - ((product of (1 + b)) ** (A / n) - 1), n bars of return; whole run."""
    return cagr - _annual(1.0 + benchmark_return, returns.n, periods_per_year)


@metric("Benchmark", "Tracking error", "fraction", NEITHER)
def tracking_error(active, periods_per_year):
    """std(r - b, ddof 1) * sqrt(A); per bar."""
    return active.std * math.sqrt(periods_per_year)


@metric("Benchmark", "R squared", "ratio", NEITHER)
def r_squared(excess, benchmark_excess, bars):
    """cov(e, b's excess)^2 / (var(e) * var(b's excess)); per bar; undefined where e or b does not vary."""
    if not (excess.varies and benchmark_excess.varies):
        return NAN
    return min(_ratio(bars.together, bars.square) * _ratio(bars.together, bars.square_benchmark), 1.0)


@metric("Benchmark", "Treynor", "fraction")
def treynor(excess, beta, periods_per_year):
    """mean(e) * A / beta; per bar; undefined where beta is 0 or undefined."""
    return _ratio(excess.mean * periods_per_year, beta)


@metric("Benchmark", "Up capture", "fraction")
def up_capture(bars):
    """geometric mean of r / geometric mean of b, both over the bars with b > 0; per bar; undefined without any."""
    return _capture(bars.log_up, bars.log_up_benchmark, bars.n_up)


@metric("Benchmark", "Down capture", "fraction", LOWER)
def down_capture(bars):
    """geometric mean of r / geometric mean of b, both over the bars with b < 0; per bar; undefined without any."""
    return _capture(bars.log_down, bars.log_down_benchmark, bars.n_down)


# ---- how a value is shown --------------------------------------------------------------------------------------------


def format_metric(name: str, value: float) -> str:
    """A metric as a reader sees it: percent with one decimal, ratios with two, "n/a" where undefined."""
    return format_value(value, METRICS[name].unit)


def format_value(value: float | None, unit: str) -> str:
    """A number in its unit, with a real minus sign, no sign on a rounded zero, and thousands separated."""
    if value is None or not math.isfinite(value):
        return "n/a"
    digits = {"fraction": 1, "ratio": 2, "multiple": 1, "price": 2, "bars": 0 if value == int(value) else 1}.get(
        unit, 0
    )
    text = f"{value * 100 if unit == 'fraction' else value:,.{digits}f}"
    if not text.strip("-0.,"):
        text = text.lstrip("-")
    units = {"fraction": "\u202f%", "multiple": "\u202f×", "bars": "\u00a0bar" if value == 1 else "\u00a0bars"}
    return text.replace("-", "\u2212") + units.get(unit, "")


def group_metrics(metrics: Mapping[str, float]) -> dict[str, dict[str, float]]:
    """The metrics by group, in the order of a report."""
    groups: dict[str, dict[str, float]] = {g: {} for g in ("Return", "Risk", "Ratios", "Trades", "Benchmark")}
    for name, value in metrics.items():
        groups[METRICS[name].group][name] = value
    return groups


# ---- arithmetic ------------------------------------------------------------------------------------------------------


def _mean(values: np.ndarray) -> float:
    return float(values.sum() / values.size) if values.size else NAN


def _ratio(numerator: float, denominator: float) -> float:
    if denominator == 0.0 or not abs(numerator) <= LARGEST_RATIO * abs(denominator):
        return NAN
    return numerator / denominator + 0.0  # 0 / -1 is -0.0


def _annual(growth: float, n_bars: int, periods_per_year: float) -> float:
    """Yearly rate of what became `growth` times its start in `n_bars` bars."""
    if not n_bars:
        return NAN
    try:
        yearly = growth ** (periods_per_year / n_bars)
    except OverflowError:
        return NAN
    return yearly - 1.0 if yearly <= LARGEST_RATIO else NAN


def _capture(ours: float, theirs: float, n: int) -> float:
    """Ratio of two geometric means, (product of (1 + change)) ** (1 / n) - 1, from the logarithms of the products."""
    return _ratio(math.expm1(ours / n), math.expm1(theirs / n)) if n else NAN


def _runs(chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """First place and length of each stretch of True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], chosen, [False]])))
    return edges[::2], edges[1::2] - edges[::2]


def _quantile(ordered: np.ndarray, share: float) -> float:
    if not ordered.size:
        return NAN
    place = share * (ordered.size - 1)
    low = int(place)
    high = min(low + 1, ordered.size - 1)
    return float(ordered[low] + (place - low) * (ordered[high] - ordered[low]))


def _moment_ratio(powers: float, returns: Line, power: int) -> float:
    """Mean of these powers of the deviations by that power of the standard deviation with ddof 0."""
    if not returns.varies:
        return NAN
    return _ratio(powers / returns.n, (returns.square / returns.n) ** (power / 2))


def _share(part: float, n: int) -> float:
    return part / n if n else NAN


def _root_mean(squares: float, n: int) -> float:
    return math.sqrt(squares / n) if n else NAN
