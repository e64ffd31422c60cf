"""One account, five tools: what each computes under the same name by default, so that a reader sees why they differ.

The peers' rows are held to backtesting.py 0.6.6, vectorbt 1.2.0, quantstats 0.0.86 and empyrical-reloaded 0.5.9, under
pandas 3.
"""

import itertools
import statistics
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from backgrid.errors import ParameterError, shown
from backgrid.metrics import METRICS, calculate_metrics, drawdown_of

TOOLS = ("backgrid", "backtesting.py", "vectorbt", "quantstats", "empyrical")
TAIL = 0.05  # of value at risk and expected shortfall
DAY = 86_400 * 10**9  # nanoseconds
EMPTY = np.empty(0)
CALENDAR = {7: "week", 31: "M", 365: "Y"}  # by the days of a bar; all else goes by days


class Run(NamedTuple):
    """What the tools know of one run, by the letters of `conventions`.

    returns, drawdown, trade_returns   r, d, T                          [fraction]
    equity, pnl    equity, P                                            [currency]
    padded         v                                                    [fraction]
    daily          q                                                    [fraction]
    days_a_year    A of backtesting.py, NaN without dates               [bars per year]
    years          from the first bar to the last, NaN without dates    [years of 365.25 days]
    bars_a_year    A of vectorbt, NaN without dates                     [bars per year]
    """

    returns: np.ndarray
    equity: np.ndarray
    drawdown: np.ndarray
    pnl: np.ndarray
    trade_returns: np.ndarray
    padded: np.ndarray
    daily: np.ndarray
    days_a_year: float
    years: float
    bars_a_year: float


class Convention(NamedTuple):
    """How one tool computes one metric."""

    function: Callable[[Run], float]
    formula: str


CONVENTIONS: dict[str, dict[str, Convention]] = {}


def conventions(
    returns: Any,
    equity: Any,
    pnl: Any,
    trade_returns: Any,
    *,
    periods_per_year: float,
    risk_free: float = 0.0,
    index: pd.DatetimeIndex | None = None,
) -> pd.DataFrame:
    """What Backgrid, backtesting.py, vectorbt, quantstats and empyrical make of one run, each by its own defaults.

    Parameters
    ----------
    returns : array-like of float, shape (n_bars - 1,)
        Simple return of each bar from the second on, net of costs. [fraction]
    equity : array-like of float, shape (n_bars,)
        Account value at each close, positive at first. [currency]
    pnl, trade_returns : array-like of float, shape (n_closed_trades,)
        Of each closed trade, after fees. [currency, fraction of the value at entry]
    periods_per_year, risk_free : float
        Of Backgrid's own rows; the peers' defaults stand in their formulas. [bars per year, fraction per year]
    index : DatetimeIndex, shape (n_bars,), optional
        Dates of the closes; those of `equity` if that is a Series with dates. Without any, what a peer takes from
        dates is NaN.

    Returns
    -------
    DataFrame
        Rows by (metric, tool); columns value (a fraction also where the tool prints percent) and formula. A tool that
        lacks a metric has no row. A peer's value is what the peer returns, infinity included; NaN where it returns
        that, raises, or lacks what it needs.

    Notes
    -----
    What the tools are given, and what the formulas call it; those of Backgrid's rows stand in `backgrid.metrics`:

        r, n   `returns` and their number: what one hands to quantstats and empyrical
        v, m   the same after a return of 0 for the first bar (m = n + 1): what vectorbt has of its own portfolios
        q, g   returns from day to day (of weekly, monthly and yearly bars: from bar to bar), which backtesting.py
               makes of the equity, and their geometric mean
        d      equity / highest equity so far - 1
        P, T   `pnl` and `trade_returns`

    Peers take no return of cash by default, nor do they here.

    Raises
    ------
    ParameterError
        If the series are not one-dimensional and finite, do not fit each other, or are shorter than two bars; if
        `risk_free` is not above -1, or `periods_per_year` not above 0.
    """
    if not (-1.0 < risk_free < np.inf and 0.0 < periods_per_year < np.inf):
        raise ParameterError(
            f"risk_free must be above -1 and periods_per_year above 0, got {risk_free} and {periods_per_year}"
        )
    if index is None and isinstance(equity, pd.Series) and isinstance(equity.index, pd.DatetimeIndex):
        index = equity.index
    run = _checked_run(returns, equity, pnl, trade_returns, index)
    own = _own_metrics(run, periods_per_year, risk_free)
    rows: dict[tuple[str, str], tuple[float, str]] = {}
    with np.errstate(all="ignore"):  # dividing by nothing is what some of them do
        for metric, tools in CONVENTIONS.items():
            if metric in METRICS:
                rows[metric, TOOLS[0]] = (own[metric], METRICS[metric].formula)
            for tool in TOOLS[1:]:
                if tool in tools:
                    value = float(tools[tool].function(run)) + 0.0  # no -0.0
                    rows[metric, tool] = (value, tools[tool].formula)
    names = pd.MultiIndex.from_tuples(rows, names=["metric", "tool"])
    return pd.DataFrame(list(rows.values()), index=names, columns=["value", "formula"])


def convention(metric: str, *tools: str) -> Callable:
    """Enter a function in CONVENTIONS as what these tools do; its docstring is the formula that is shown."""

    def enter(function: Callable[[Run], float]) -> Callable[[Run], float]:
        formula = " ".join((function.__doc__ or "").split())
        CONVENTIONS.setdefault(metric, {}).update(dict.fromkeys(tools, Convention(function, formula)))
        return function

    return enter


# ---- what goes in ----------------------------------------------------------------------------------------------------


def _checked_run(returns: Any, equity: Any, pnl: Any, trade_returns: Any, index: pd.DatetimeIndex | None) -> Run:
    given = {"returns": returns, "equity": equity, "pnl": pnl, "trade_returns": trade_returns}
    arrays = {name: np.asarray(values, dtype=float) for name, values in given.items()}
    for name, array in arrays.items():
        if array.ndim != 1 or not np.isfinite(array).all():
            raise ParameterError(f"{name} must be one-dimensional and finite, got shape {array.shape}")
    bars = arrays["equity"].size
    if bars < 2 or arrays["equity"][0] <= 0.0 or arrays["equity"].min() < 0.0:
        raise ParameterError("equity must have two bars at least, start above 0 and never be negative")
    for name, needed in (("returns", bars - 1), ("trade_returns", arrays["pnl"].size)):
        if arrays[name].size != needed:
            raise ParameterError(f"{name} must have {needed} values beside these {bars} bars, got {arrays[name].size}")
    if index is not None and (not isinstance(index, pd.DatetimeIndex) or len(index) != bars):
        raise ParameterError(f"index must be a DatetimeIndex of {bars} bars, got {shown(index)}")
    daily, days_a_year, years, bars_a_year = _by_calendar(arrays["equity"], index)
    return Run(
        **arrays,
        drawdown=drawdown_of(arrays["equity"]),
        padded=np.concatenate([[0.0], arrays["returns"]]),
        daily=daily,
        days_a_year=days_a_year,
        years=years,
        bars_a_year=bars_a_year,
    )


def _by_calendar(equity: np.ndarray, index: pd.DatetimeIndex | None) -> tuple[np.ndarray, float, float, float]:
    """q, and what backtesting.py and vectorbt take from the dates."""
    if index is None:
        return EMPTY, np.nan, np.nan, np.nan
    instants = index.as_unit("ns").asi8
    days_a_bar = int(np.median(np.diff(instants[-100:])) // DAY)
    local = (index if index.tz is None else index.tz_localize(None)).as_unit("ns").to_numpy()
    days = local.astype("datetime64[D]").astype(np.int64)
    weekdays = (days + 3) % 7  # the first of January 1970 was a Thursday
    unit = CALENDAR.get(days_a_bar, "day")
    spans = {"day": days, "week": (days + 3) // 7}.get(unit)
    if spans is None:
        spans = local.astype(f"datetime64[{unit}]").astype(np.int64)
    closing = equity[np.append(np.diff(spans) != 0, True)]
    with np.errstate(all="ignore"):
        daily = closing[1:] / closing[:-1] - 1.0
    everyday = 365.0 if np.mean(weekdays >= 5) > 2 / 7 * 0.6 else 252.0
    days_a_year = {7: 52.0, 31: 12.0, 365: 1.0}.get(days_a_bar, everyday)
    years = int((instants[-1] - instants[0]) // 10**9) / 86_400 / 365.25
    return daily[~np.isnan(daily)], days_a_year, years, 365.0 * DAY / float(np.median(np.diff(instants)))


def _own_metrics(run: Run, periods_per_year: float, risk_free: float) -> dict[str, float | int]:
    """Backgrid's metrics; what is not known here (positions, fills, benchmark) is in none of the rows."""
    return calculate_metrics(
        equity=run.equity,
        benchmark=np.zeros(run.returns.size),
        positions=np.zeros(run.equity.size),
        traded=EMPTY,
        pnl=run.pnl,
        trade_returns=run.trade_returns,
        bars_held=EMPTY,
        fees=EMPTY,
        n_trades=run.pnl.size,
        risk_free=risk_free,
        periods_per_year=periods_per_year,
    )


# ---- return ----------------------------------------------------------------------------------------------------------


@convention("total_return", "backtesting.py", "vectorbt", "quantstats", "empyrical")
def _total_return(run):
    """equity[-1] / equity[0] - 1, the product of (1 + r) - 1; whole run; here all agree."""
    return run.equity[-1] / run.equity[0] - 1.0


@convention("cagr", "backtesting.py")
def _cagr_by_dates(run):
    """(equity[-1] / equity[0]) ** (1 / years) - 1, years of 365.25 days from the first date to the last; whole run."""
    return (run.equity[-1] / run.equity[0]) ** (1.0 / np.float64(run.years)) - 1.0 if run.years else np.nan


@convention("cagr", "vectorbt")
@convention("annual_return", "vectorbt")
def _cagr_of_365_days(run):
    """(product of (1 + v)) ** (A / m) - 1, A = 365 days / length of a bar (365 also where only 252 are traded), m bars
    with the first; whole run; printed as annualized return."""
    return np.prod(1.0 + run.padded) ** (run.bars_a_year / run.padded.size) - 1.0


@convention("cagr", "quantstats", "empyrical")
@convention("annual_return", "empyrical")
def _cagr_of_252_bars(run):
    """(product of (1 + r)) ** (252 / n) - 1, 252 whatever the bars are; whole run; compounded."""
    return np.prod(1.0 + run.returns) ** (252.0 / run.returns.size) - 1.0


@convention("annual_return", "backtesting.py")
def _annual_return_compounded(run):
    """(1 + g) ** A - 1, g the geometric mean of q (0 if any q is -1), A = 252 days, 365 where over 17 % of the bars
    lie on weekends, 52, 12 or 1 for longer bars; per day; compounded; printed as return (ann.)."""
    return (1.0 + _geometric_mean(run.daily)) ** np.float64(run.days_a_year) - 1.0


# ---- risk ------------------------------------------------------------------------------------------------------------


@convention("annual_volatility", "backtesting.py")
def _volatility_compounded(run):
    """sqrt((var(q, ddof 1) + (1 + g)^2)^A - (1 + g)^(2 A)), g the geometric mean of q, A as in its annual return; per
    day; the deviation of a compounded year, not std * sqrt(A)."""
    mean, a_year = 1.0 + _geometric_mean(run.daily), np.float64(run.days_a_year)
    return np.sqrt((_std(run.daily) ** 2 + mean**2) ** a_year - mean ** (2.0 * a_year))


@convention("annual_volatility", "vectorbt")
def _volatility_of_365_days(run):
    """std(v, ddof 1) * sqrt(A), A = 365 days / length of a bar; per bar."""
    return _std(run.padded) * np.sqrt(run.bars_a_year)


@convention("annual_volatility", "quantstats", "empyrical")
def _volatility_of_252_bars(run):
    """std(r, ddof 1) * sqrt(252), 252 whatever the bars are; per bar."""
    return _std(run.returns) * np.sqrt(252.0)


@convention("downside_deviation", "vectorbt")
def _downside_of_365_days(run):
    """sqrt(mean(min(v, 0)^2)) * sqrt(A), A = 365 days / length of a bar; per bar, over all bars."""
    return _downside(run.padded) * np.sqrt(run.bars_a_year)


@convention("downside_deviation", "empyrical")
def _downside_of_252_bars(run):
    """sqrt(mean(min(r, 0)^2)) * sqrt(252), 252 whatever the bars are; per bar, over all bars."""
    return _downside(run.returns) * np.sqrt(252.0)


@convention("max_drawdown", "backtesting.py", "vectorbt", "quantstats", "empyrical")
def _max_drawdown(run):
    """min(d), first bar included; whole run; here all agree, though vectorbt prints it without its sign."""
    return run.drawdown.min()


@convention("avg_drawdown", "backtesting.py")
def _avg_drawdown(run):
    """mean over the stretches with d < 0 of the lowest d of each, without one that begins at the last bar where there
    are others; NaN without any; whole run."""
    edges = np.unique(np.append(np.flatnonzero(run.drawdown == 0.0), run.drawdown.size - 1))  # highs and the end
    lowest = [run.drawdown[a : b + 1].min() for a, b in itertools.pairwise(edges) if b > a + 1]
    return _mean(np.array(lowest) if lowest else run.drawdown[run.drawdown < 0.0])


@convention("ulcer_index", "vectorbt")
def _ulcer_over_all(run):
    """sqrt(mean(d^2)) over all m bars; per bar."""
    return np.sqrt(_mean(run.drawdown**2))


@convention("ulcer_index", "quantstats")
def _ulcer_over_one_less(run):
    """sqrt(sum(d^2) / (n - 1)); per bar."""
    return np.sqrt(np.float64((run.drawdown**2).sum()) / (run.returns.size - 1))


@convention("value_at_risk", "vectorbt")
def _quantile_with_first_bar(run):
    """5 % quantile of v, between values linear; per bar, historical."""
    return np.percentile(run.padded, 100.0 * TAIL)


@convention("value_at_risk", "empyrical")
def _quantile(run):
    """5 % quantile of r, between values linear; per bar, historical."""
    return np.percentile(run.returns, 100.0 * TAIL)


@convention("value_at_risk", "quantstats")
def _quantile_if_normal(run):
    """mean(r) - 1.645 * std(r, ddof 1), the 5 % quantile if returns were normal; per bar."""
    return _mean(run.returns) + statistics.NormalDist().inv_cdf(TAIL) * _or_nan(_std(run.returns))


@convention("expected_shortfall", "vectorbt")
def _lowest_with_first_bar(run):
    """mean of the k lowest v, k = floor((m - 1) * 5 %) + 1; per bar, historical; printed as cond value at risk."""
    return _mean_of_lowest(run.padded)


@convention("expected_shortfall", "empyrical")
def _lowest(run):
    """mean of the k lowest r, k = floor((n - 1) * 5 %) + 1; per bar, historical."""
    return _mean_of_lowest(run.returns)


@convention("expected_shortfall", "quantstats")
def _tail_if_normal(run):
    """mean(r) - std(r, ddof 1) * density(1.645) / 5 %, the mean below the 5 % quantile if returns were normal; per
    bar."""
    normal, std = statistics.NormalDist(), _std(run.returns)
    depth = normal.pdf(normal.inv_cdf(TAIL)) / TAIL
    return _mean(run.returns) - (std * depth if std > 0.0 else 0.0)


@convention("skew", "vectorbt")
def _skew_with_first_bar(run):
    """mean((v - mean)^3) / std(v, ddof 0)^3 * sqrt(m (m - 1)) / (m - 2), corrected for a sample as pandas does; per
    bar."""
    return _sample_skew(run.padded)


@convention("skew", "quantstats")
def _skew(run):
    """mean((r - mean)^3) / std(r, ddof 0)^3 * sqrt(n (n - 1)) / (n - 2), corrected for a sample as pandas does; per
    bar."""
    return _sample_skew(run.returns)


@convention("kurtosis", "vectorbt")
def _kurtosis_with_first_bar(run):
    """excess kurtosis of v, 0 for a normal distribution, corrected for a sample as pandas does; per bar."""
    return _sample_excess_kurtosis(run.padded)


@convention("kurtosis", "quantstats")
def _kurtosis(run):
    """excess kurtosis of r, 0 for a normal distribution, corrected for a sample as pandas does; per bar."""
    return _sample_excess_kurtosis(run.returns)


# ---- ratios ----------------------------------------------------------------------------------------------------------


@convention("sharpe", "backtesting.py")
def _sharpe_compounded(run):
    """compounded annual return / deviation of a compounded year, both as in its own rows above; per day; not
    mean / std."""
    return _annual_return_compounded(run) / _or_nan(_volatility_compounded(run))


@convention("sharpe", "vectorbt")
def _sharpe_of_365_days(run):
    """mean(v) / std(v, ddof 1) * sqrt(A), A = 365 days / length of a bar, so that daily stock bars get 1.2 times the
    ratio of 252; per bar; infinite where v does not vary."""
    std = _std(run.padded)
    return _mean(run.padded) / std * np.sqrt(run.bars_a_year) if std else np.inf


@convention("sharpe", "quantstats", "empyrical")
def _sharpe_of_252_bars(run):
    """mean(r) / std(r, ddof 1) * sqrt(252), 252 whatever the bars are; per bar."""
    return _mean(run.returns) / _std(run.returns) * np.sqrt(252.0)


@convention("sortino", "backtesting.py")
def _sortino_compounded(run):
    """compounded annual return / (sqrt(mean(min(q, 0)^2)) * sqrt(A)), A as in its annual return; per day; infinite
    without a loss."""
    return _annual_return_compounded(run) / (_downside(run.daily) * np.sqrt(run.days_a_year))


@convention("sortino", "vectorbt")
def _sortino_of_365_days(run):
    """mean(v) * A / (sqrt(mean(min(v, 0)^2)) * sqrt(A)), A = 365 days / length of a bar; per bar, over all bars;
    infinite without a loss."""
    downside = _downside(run.padded)
    return _mean(run.padded) / downside * np.sqrt(run.bars_a_year) if downside else np.inf


@convention("sortino", "quantstats")
def _sortino_or_nan(run):
    """mean(r) / sqrt(mean(min(r, 0)^2)) * sqrt(252), 252 whatever the bars are; per bar, over all bars."""
    return _mean(run.returns) / _or_nan(_downside(run.returns)) * np.sqrt(252.0)


@convention("sortino", "empyrical")
def _sortino_or_infinite(run):
    """mean(r) * 252 / (sqrt(mean(min(r, 0)^2)) * sqrt(252)), 252 whatever the bars are; per bar, over all bars;
    infinite without a loss."""
    return _mean(run.returns) / _downside(run.returns) * np.sqrt(252.0) if run.returns.size > 1 else np.nan


@convention("calmar", "backtesting.py")
def _calmar_compounded(run):
    """compounded annual return of q / |max drawdown|; whole run; not its CAGR by dates."""
    return _annual_return_compounded(run) / _or_nan(-run.drawdown.min())


@convention("calmar", "vectorbt")
def _calmar_of_365_days(run):
    """annualized return, of 365 days, / |max drawdown|; whole run."""
    return _cagr_of_365_days(run) / _or_nan(-run.drawdown.min())


@convention("calmar", "quantstats", "empyrical")
def _calmar_of_252_bars(run):
    """CAGR of 252 bars a year / |max drawdown|; whole run."""
    return _cagr_of_252_bars(run) / _or_nan(-run.drawdown.min())


@convention("omega", "vectorbt")
def _omega_or_infinite(run):
    """sum(max(r, 0)) / sum(max(-r, 0)); per bar; infinite without a loss."""
    losses = np.maximum(-run.returns, 0.0).sum()
    return np.maximum(run.returns, 0.0).sum() / losses if losses else np.inf


@convention("omega", "quantstats", "empyrical")
def _omega(run):
    """sum(max(r, 0)) / sum(max(-r, 0)); per bar; NaN for a single return."""
    losses = np.maximum(-run.returns, 0.0).sum()
    return np.maximum(run.returns, 0.0).sum() / _or_nan(losses) if run.returns.size > 1 else np.nan


@convention("tail_ratio", "vectorbt")
def _tail_ratio_with_first_bar(run):
    """|95 % quantile of v| / |5 % quantile of v|; per bar; infinite where the latter is 0."""
    low = abs(np.percentile(run.padded, 5.0))
    return abs(np.percentile(run.padded, 95.0)) / low if low else np.inf


@convention("tail_ratio", "quantstats")
def _tail_ratio_or_nan(run):
    """|95 % quantile of r| / |5 % quantile of r|; per bar."""
    return abs(np.percentile(run.returns, 95.0)) / _or_nan(abs(np.percentile(run.returns, 5.0)))


@convention("tail_ratio", "empyrical")
def _tail_ratio_or_infinite(run):
    """|95 % quantile of r| / |5 % quantile of r|; per bar; infinite where only the latter is 0."""
    return abs(np.percentile(run.returns, 95.0)) / abs(np.percentile(run.returns, 5.0))


@convention("common_sense_ratio", "vectorbt")
def _common_sense_of_a_year(run):
    """tail ratio * (1 + annualized return), the latter of 365 days; per bar."""
    return _tail_ratio_with_first_bar(run) * (1.0 + _cagr_of_365_days(run))


@convention("common_sense_ratio", "quantstats")
def _common_sense_of_bars(run):
    """profit factor of the bars * tail ratio; per bar."""
    return _profit_factor_of_bars(run) * _tail_ratio_or_nan(run)


@convention("recovery_factor", "quantstats")
def _recovery_of_the_sum(run):
    """|sum(r)| / |max drawdown|, not compounded, and without its sign: a loss looks like a gain; whole run."""
    return abs(run.returns.sum()) / _or_nan(-run.drawdown.min())


@convention("ulcer_performance_index", "vectorbt")
def _martin_of_365_days(run):
    """annualized return, of 365 days, / sqrt(mean(d^2)); whole run; printed as Martin ratio."""
    return _cagr_of_365_days(run) / _or_nan(_ulcer_over_all(run))


@convention("ulcer_performance_index", "quantstats")
def _martin_of_the_run(run):
    """total return / ulcer index; whole run, not annualised, so that it grows with the length of the run."""
    return _total_return(run) / _or_nan(_ulcer_over_one_less(run))


# ---- trades ----------------------------------------------------------------------------------------------------------


@convention("win_rate", "backtesting.py", "vectorbt")
def _win_rate(run):
    """share of closed trades with P > 0; per trade."""
    return np.float64(np.count_nonzero(run.pnl > 0.0)) / run.pnl.size


@convention("win_rate", "quantstats")
def _win_rate_of_bars(run):
    """share of r > 0 among the r that are not 0: bars, not trades; per bar; 0 where all are 0."""
    moved = np.count_nonzero(run.returns)
    return np.count_nonzero(run.returns > 0.0) / moved if moved else 0.0


@convention("profit_factor", "backtesting.py")
def _profit_factor_of_returns(run):
    """sum of T > 0 / |sum of T < 0|: a trade counts the same whatever its size; per trade."""
    return run.trade_returns[run.trade_returns > 0.0].sum() / _or_nan(_lost(run.trade_returns))


@convention("profit_factor", "vectorbt")
def _profit_factor(run):
    """sum of P > 0 / |sum of P < 0|, in currency; per trade; infinite without a loss."""
    return run.pnl[run.pnl > 0.0].sum() / _lost(run.pnl)


@convention("profit_factor", "quantstats")
def _profit_factor_of_bars(run):
    """sum of r > 0 / |sum of r < 0|: bars, not trades, so it is Omega; per bar; infinite without a loss, 0 where all
    are 0."""
    gains, losses = run.returns[run.returns > 0.0].sum(), _lost(run.returns)
    if losses == 0.0:
        return np.inf if gains else 0.0
    return gains / losses


@convention("expectancy", "backtesting.py")
def _expectancy_of_returns(run):
    """mean(T), a fraction, not currency; per trade."""
    return _mean(run.trade_returns)


@convention("expectancy", "vectorbt")
def _expectancy(run):
    """mean(P) as win rate * mean win - loss rate * |mean loss|, in currency; per trade."""
    return _mean(run.pnl)


@convention("avg_trade", "backtesting.py")
def _avg_trade_compounded(run):
    """geometric mean of T, (product of (1 + T)) ** (1 / trades) - 1; per trade; 0 where a trade lost all."""
    return _geometric_mean(run.trade_returns)


@convention("sqn", "backtesting.py")
def _sqn(run):
    """sqrt(trades) * mean(P) / std(P, ddof 1); per trade."""
    return np.sqrt(run.pnl.size) * _mean(run.pnl) / _or_nan(_std(run.pnl))


@convention("sqn", "vectorbt")
def _sqn_or_infinite(run):
    """sqrt(trades) * mean(P) / std(P, ddof 1); per trade; infinite where P does not vary."""
    return np.sqrt(run.pnl.size) * _mean(run.pnl) / _std(run.pnl)


@convention("kelly", "backtesting.py")
def _kelly_of_pnl(run):
    """W - (1 - W) / (mean of P > 0 / |mean of P < 0|), W the win rate, in currency; per trade."""
    wins, share = run.pnl[run.pnl > 0.0], _win_rate(run)
    return share - (1.0 - share) / (_mean(wins) / -_mean(_losing(run.pnl)))


@convention("kelly", "quantstats")
def _kelly_of_bars(run):
    """W - (1 - W) / (mean of r > 0 / |mean of r < 0|), W its win rate: bars, not trades; per bar."""
    payoff, share = _payoff_of_bars(run), _win_rate_of_bars(run)
    return (payoff * share - (1.0 - share)) / _or_nan(payoff)


@convention("avg_win", "vectorbt")
def _avg_win(run):
    """mean of T > 0; per trade; printed as average winning trade."""
    return _mean(run.trade_returns[run.trade_returns > 0.0])


@convention("avg_win", "quantstats")
def _avg_win_of_bars(run):
    """mean of r > 0: bars, not trades; per bar."""
    return _mean(run.returns[run.returns > 0.0])


@convention("avg_loss", "vectorbt")
def _avg_loss(run):
    """mean of T < 0; per trade; printed as average losing trade."""
    return _mean(_losing(run.trade_returns))


@convention("avg_loss", "quantstats")
def _avg_loss_of_bars(run):
    """mean of r < 0: bars, not trades; per bar."""
    return _mean(_losing(run.returns))


@convention("payoff_ratio", "quantstats")
def _payoff_of_bars(run):
    """mean of r > 0 / |mean of r < 0|: bars, not trades; per bar."""
    return _avg_win_of_bars(run) / -_avg_loss_of_bars(run)


@convention("win_streak", "quantstats")
def _winning_bars(run):
    """most r > 0 in a row: bars, not trades; per bar."""
    return _longest_run(run.returns > 0.0)


@convention("loss_streak", "quantstats")
def _losing_bars(run):
    """most r < 0 in a row: bars, not trades; per bar."""
    return _longest_run(run.returns < 0.0)


# ---- arithmetic, plain: 0 / 0 is NaN ---------------------------------------------------------------------------------


def _or_nan(value):
    return value if value else np.nan


def _losing(values):
    return values[values < 0.0]


def _lost(values):
    return abs(_losing(values).sum())


def _mean(values):
    return np.float64(values.sum()) / values.size


def _std(values):
    return np.sqrt(np.float64(((values - _mean(values)) ** 2).sum()) / max(values.size - 1, 0))


def _downside(values):
    return np.sqrt(_mean(np.minimum(values, 0.0) ** 2))


def _geometric_mean(values):
    """As backtesting.py has it: 0 where anything lost all."""
    return np.expm1(_mean(np.log1p(values))) if not (values <= -1.0).any() else 0.0


def _mean_of_lowest(values):
    return _mean(np.sort(values)[: int((values.size - 1) * TAIL) + 1])


def _sample_skew(values):
    n, deviation = values.size, values - _mean(values)
    square = (deviation**2).sum()
    if n < 3:
        return np.nan
    return (deviation**3).sum() / square**1.5 * n * np.sqrt(n - 1) / (n - 2)


def _sample_excess_kurtosis(values):
    n, deviation = values.size, values - _mean(values)
    square = (deviation**2).sum()
    if n < 4:
        return np.nan
    plain = n * (deviation**4).sum() / square**2
    return ((n + 1) * plain - 3 * (n - 1)) * (n - 1) / ((n - 2) * (n - 3))


def _longest_run(chosen):
    breaks = np.flatnonzero(np.concatenate([[True], ~chosen, [True]]))
    return int(np.diff(breaks).max()) - 1
