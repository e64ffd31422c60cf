"""The engine: signals decided at a close become trades at a later price. The only place that shifts signals in time."""

import copy
import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import pandas as pd

from backgrid import _kernels
from backgrid._kernels import FILL_BAR, FILL_FEE, FILL_PRICE, FILL_UNITS
from backgrid.bars import bar_text, check_prices, hash_bars, on_these_bars, with_other_columns
from backgrid.errors import ParameterError, PricesError, TooFewBarsError, did_you_mean, shown
from backgrid.indicators import check_window
from backgrid.metrics import calculate_metrics, returns_of
from backgrid.result import BacktestResult
from backgrid.strategies import call_strategy, complete_params, function_name, get_strategy
from backgrid.terms import (
    COSTS,
    FILLS,
    SIZINGS,
    STOPS,
    ByBar,
    check_costs,
    check_fill,
    check_periods,
    check_rebalance,
    check_sizing,
    check_stop,
    columns_of,
    due_bars,
    kernel_terms,
    scale_of,
    stops_of,
)

ROUNDING = 1e-9  # by which a position may be beyond what is allowed
DATA_FACTS = ("source", "interval", "adjusted", "snapshot", "notes")

Strategy: TypeAlias = str | Callable | np.ndarray | pd.Series | list


def run_backtest(
    prices: pd.DataFrame | pd.Series,
    strategy: Strategy = "ma_crossover",
    *,
    params: Mapping[str, Any] | None = None,
    fill: str = "next_open",
    fees: float = 0.0,
    slippage: float = 0.0,
    fixed_fee: float = 0.0,
    cash: float = 100_000.0,
    whole_units: bool = False,
    stop_loss: ByBar = None,
    take_profit: ByBar = None,
    trailing_stop: ByBar = None,
    sizing: str = "fraction",
    size: float | None = None,
    lookback: int = 60,
    leverage: float = 1.0,
    rebalance: str | float | None = None,
    cash_rate: float = 0.0,
    borrow_rate: float = 0.0,
    risk_free: float = 0.0,
    periods_per_year: float | None = None,
    benchmark: pd.DataFrame | pd.Series | None = None,
) -> BacktestResult:
    """Backtest one strategy on one symbol.

    A target w becomes units = w * (equity at the fill price - fixed_fee) / (fill price * (1 + fees)), kept until the
    target changes. A change of sign closes first, then opens with what is left. An account at or below 0 ends the run.

    Parameters
    ----------
    prices : DataFrame or Series, n_bars rows
        Open High Low Close [currency] on a sorted, unique DatetimeIndex; a Series of closes for the close fills.
    strategy : str, function, or array of float, shape (n_bars,)
        A registered name, a function of the prices, or target positions in [-1, 1] (up to the leverage, if that is
        above 1) decided at each close; NaN is flat.
    params : dict, optional
        Parameters of the strategy; its defaults for the rest.
    fill : {"next_open", "close", "next_close"}, default "next_open"
        Where a signal of bar t trades: Open[t + 1], Close[t] or Close[t + 1].
    fees, slippage : float, default 0.0
        One-way; slippage moves the price against the trade. [fraction of traded value]
    fixed_fee : float, default 0.0
        Charged for each fill. [currency]
    cash : float, default 100,000
        Account at the first bar. [currency]
    whole_units : bool, default False
        Round units towards zero.
    stop_loss, take_profit, trailing_stop : float or array of float, shape (n_bars,), optional
        Distance from the (mean) entry price; for a trailing stop from the best price since entry, of bars that are
        over. Watched within the entry bar after an open fill, from the next bar after a close fill. A gap through one
        fills at the open; within a bar a loss comes before a profit. An array gives each trade the value of the bar
        that decided it, NaN for none. The side stays barred until the target has left it. [fraction of price]
    sizing : {"fraction", "units", "cash", "volatility", "risk"}, default "fraction"
        What `size` and so a target of 1 means: a fraction of the equity; so many units; so much cash, costs included;
        the annual volatility of the account, by that of the last `lookback` returns of the close; the fraction of
        equity that a stop costs (before gaps and costs).
    size : float, optional
        1.0 for "fraction", needed for the others. [by sizing]
    lookback : int, default 60
        For "volatility"; flat until there are that many returns, and while they do not vary. [bars]
    leverage : float, default 1.0
        Largest position at a fill, whatever the sizing. [fraction of equity]
    rebalance : {None, "bar", "week", "month"} or float, default None
        None keeps the units until the target changes. Otherwise an open position is sized anew as decided at each
        close, or the first one of each week or month; or where its weight has drifted by more than this. [fraction]
    cash_rate, borrow_rate : float, default 0.0
        Interest on the account, paid where it is negative; cost of units sold short. Both by the bar, on the values at
        the close before. [fraction per year]
    risk_free : float, default 0.0
        Return of cash for Sharpe and the like. [fraction per year]
    periods_per_year : float, optional
        Taken from the bars if not given. [bars per year]
    benchmark : DataFrame or Series of prices, optional
        What the run is compared with, on every bar of `prices`; the symbol itself if not given. Bought where the run
        could first trade (at its first close, if it is a Series of closes), and held without costs.

    Returns
    -------
    BacktestResult

    Raises
    ------
    PricesError
        For prices that cannot be backtested; TooFewBarsError where the strategy needs more of them.
    ParameterError
        For any other argument, naming it.
    """
    bars = check_prices(prices)
    given = {
        "fill": fill,
        "fees": fees,
        "slippage": slippage,
        "fixed_fee": fixed_fee,
        "cash": cash,
        "whole_units": whole_units,
        "leverage": leverage,
        "cash_rate": cash_rate,
        "borrow_rate": borrow_rate,
        "risk_free": risk_free,
        "stop_loss": copy.deepcopy(stop_loss),
        "take_profit": copy.deepcopy(take_profit),
        "trailing_stop": copy.deepcopy(trailing_stop),
        "sizing": sizing,
        "size": size,
        "lookback": lookback,
        "rebalance": rebalance,
        "periods_per_year": periods_per_year,
        "benchmark": copy.deepcopy(benchmark),
    }
    settings = check_settings(bars, given)
    asked = ask(strategy, with_other_columns(bars, prices), params, max(settings["leverage"], 1.0))
    facts = copy.deepcopy({name: prices.attrs[name] for name in ("symbol", *DATA_FACTS) if name in prices.attrs})
    return run_asked(bars, facts, asked, given, settings)


DEFAULTS = {
    name: parameter.default
    for name, parameter in inspect.signature(run_backtest).parameters.items()
    if name not in ("prices", "strategy", "params")
}


def complete_given(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of `run_backtest` beside prices, strategy and params: those given, and its defaults for the rest.

    Raises
    ------
    ParameterError
        For a name that it does not have.
    """
    for name in settings:
        if name not in DEFAULTS:
            raise ParameterError(f"a run has no setting {shown(name)}{did_you_mean(name, DEFAULTS)}")
    return {**DEFAULTS, **copy.deepcopy(dict(settings))}


class Asked(NamedTuple):
    """What was asked for: name of the strategy, its complete parameters, and its target positions by bar."""

    name: str
    params: dict[str, Any]
    target: np.ndarray


def run_asked(
    bars: pd.DataFrame,
    facts: Mapping[str, Any],
    asked: Asked,
    given: Mapping[str, Any],
    settings: dict[str, Any],
    delay: int = 0,
) -> BacktestResult:
    """One simulation; with a delay, whatever was decided at a close is acted upon so many bars later."""
    market, terms = market_of(bars, given, settings), kernel_terms(settings)
    close, target = market.close, only_where_sized(asked.target, market.scale)
    equity, units, fills, financing = _kernels.simulate(
        *(market.open, market.high, market.low, close),
        later(target, delay, 0.0),
        later(market.scale, delay, 0.0),
        later(market.due, delay, False),
        later(market.stops, delay, np.nan),
        *(market.timing, market.sizing, terms),
    )
    check_range_of_floats(equity)
    trades = _kernels.pair_trades(fills, close.size - 1, close[-1])
    positions = np.divide(units * close, equity, out=np.zeros_like(equity), where=equity > 0.0)
    fill, benchmark = settings["fill"], given["benchmark"]
    held = holding(market.open, close, fill) if benchmark is None else held_benchmark(benchmark, bars.index, fill)
    return BacktestResult(
        symbol=str(facts.get("symbol", "")),
        data={name: fact for name, fact in facts.items() if name != "symbol"},
        strategy=asked.name,
        params=asked.params,
        settings=settings,
        index=bars.index,
        curves=np.array([equity, positions, settings["cash"] * held]),
        booked=trades,
        metrics=measure(equity, positions, fills, trades, held, financing, settings),
        hashed=functools.partial(hash_bars, bars),
        again=functools.partial(_again, bars, facts, asked, given, delay),
    )


def _again(
    bars: pd.DataFrame,
    facts: Mapping[str, Any],
    asked: Asked,
    given: Mapping[str, Any],
    already: int,
    *,
    delay: int = 0,
    **changed: Any,
) -> BacktestResult:
    """The same signals, acted upon `delay` bars later than they were, or on other terms."""
    check_changes(given, changed, delay)
    given = {**given, **changed}
    return run_asked(bars, facts, asked, given, check_settings(bars, given), already + delay)


def check_changes(given: Mapping[str, Any], changed: Mapping[str, Any], delay: Any) -> None:
    """ParameterError unless what is changed are settings of the run, and the delay is a number of bars."""
    for name in changed:
        if name not in given:
            raise ParameterError(f"a run has no setting {shown(name)}{did_you_mean(name, given)}")
    check_window("delay", delay, least=0)


def check_settings(bars: pd.DataFrame, given: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments checked, and as a result shows them."""
    return {
        "fill": check_fill(given["fill"], bars),
        **check_costs(**{name: given[name] for name in COSTS}),
        **check_sizing(given["sizing"], given["size"], given["stop_loss"], given["trailing_stop"]),
        "lookback": check_window("lookback", given["lookback"], least=2),
        "rebalance": check_rebalance(given["rebalance"], given["sizing"]),
        "periods_per_year": check_periods(given["periods_per_year"], bars.index),
        **{name: check_stop(name, given[name]) for name in STOPS},
        "benchmark": benchmark_name(given["benchmark"], "holding"),
    }


def market_of(bars: pd.DataFrame, given: Mapping[str, Any], settings: Mapping[str, Any]) -> _kernels.Market:
    """The prices, and what a target means on each bar, as the kernels take them."""
    stops, (open_, high, low, close) = stops_of(given, bars), columns_of(bars)
    scale, due = scale_of(settings, close, stops), due_bars(settings["rebalance"], bars.index)
    fill, sizing = FILLS[settings["fill"]], SIZINGS[settings["sizing"]]
    return _kernels.Market(open_, high, low, close, scale, due, stops, fill, sizing)


def only_where_sized(target: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """The target, flat on bars on which what a target of 1 means is not known."""
    return np.where(np.isnan(scale), 0.0, target) if np.isnan(scale).any() else target


def later(by_bar: np.ndarray, delay: int, before: Any) -> np.ndarray:
    """The values so many bars later; nothing was decided before."""
    if not delay or not by_bar.size:
        return by_bar
    moved = np.full_like(by_bar, before)
    moved[delay:] = by_bar[: max(len(by_bar) - delay, 0)]
    return moved


def calculate_returns(
    prices: pd.DataFrame | pd.Series, signals: pd.Series | np.ndarray | list, *, fill: str = "next_open"
) -> pd.Series:
    """Returns of holding each signal as a weight, rebalanced every bar, before costs.

    For "close" this is the textbook signals.shift(1) * close.pct_change(). A run of `run_backtest` that is all in or
    flat, without costs, has these returns; for other targets it keeps its units instead of its weight.

    Parameters
    ----------
    prices : DataFrame or Series, n_bars rows
        As in `run_backtest`. [currency]
    signals : array-like of float, shape (n_bars,)
        Target position decided at each close, in [-1, 1]; NaN is flat. [fraction of equity]
    fill : {"next_open", "close", "next_close"}, default "next_open"
        Where a signal of bar t trades: Open[t + 1], Close[t] or Close[t + 1].

    Returns
    -------
    Series, shape (n_bars,)
        Simple return of each bar, 0.0 for the first. [fraction]

    Raises
    ------
    PricesError, ParameterError
        As `run_backtest`.
    """
    bars = check_prices(prices)
    check_fill(fill, bars)
    weight = checked_target(signals, bars.index, "signals", 1.0)
    close = bars["Close"].to_numpy()
    returns = np.zeros(close.size)
    if fill == "close":
        returns[1:] = weight[:-1] * (close[1:] / close[:-1] - 1.0)
    elif fill == "next_close":
        returns[2:] = weight[:-2] * (close[2:] / close[1:-1] - 1.0)
    else:
        opens = bars["Open"].to_numpy()
        overnight = np.concatenate([[0.0], weight[:-2]]) * (opens[1:] / close[:-1] - 1.0)
        returns[1:] = (1.0 + overnight) * (1.0 + weight[:-1] * (close[1:] / opens[1:] - 1.0)) - 1.0
    return pd.Series(returns, index=bars.index, name="returns")


# ---- what goes in ----------------------------------------------------------------------------------------------------


def ask(strategy: Strategy, bars: pd.DataFrame, params: Any, most: float) -> Asked:
    """Name, complete parameters and target positions of whatever was given as a strategy."""
    if not isinstance(strategy, str) and not callable(strategy):
        if params:
            raise ParameterError("an array of target positions takes no params")
        return Asked("signals", {}, checked_target(strategy, bars.index, "strategy", most))
    function = get_strategy(strategy) if isinstance(strategy, str) else strategy
    name = function_name(function)
    complete = complete_params(function, params)
    target = checked_target(call_strategy(function, bars, complete), bars.index, name, most, complete)
    plain = {key: value.item() if isinstance(value, np.generic) else value for key, value in complete.items()}
    return Asked(name, plain, target)


def checked_target(
    signals: Any, index: pd.DatetimeIndex, name: str, most: float, params: Mapping | None = None
) -> np.ndarray:
    """Target positions as a fresh array with NaN as flat, or an error naming the first offending bar."""
    if isinstance(signals, pd.DataFrame):
        raise ParameterError(f"{name}: target positions must be one column, got a DataFrame")
    if isinstance(signals, pd.Series) and not on_these_bars(signals.index, index):
        raise ParameterError(f"{name}: the index of the target positions is not that of the prices")
    try:
        array = signals.to_numpy() if isinstance(signals, pd.Series) else np.asarray(signals)
    except ValueError:  # rows of different lengths
        raise ParameterError(f"{name}: target positions must be numbers, got {shown(signals)}") from None
    if array.shape != (len(index),):
        raise ParameterError(f"{name}: need one target position a bar, {len(index)}, got shape {array.shape}")
    try:
        target = _floats(array)
    except (TypeError, ValueError):
        raise ParameterError(f"{name}: target positions must be numbers, got {shown(signals)}") from None
    n_missing, largest = _kernels.flatten_missing(target)
    if largest > most * (1.0 + ROUNDING):
        at, span = int((np.abs(target) > most * (1.0 + ROUNDING)).argmax()), f"[-{most:g}, {most:g}]"
        raise ParameterError(f"{name}: target position {target[at]:.6g} on {bar_text(index, at)} is not in {span}")
    if n_missing == target.size:
        windows = ", ".join(f"{key}={shown(value)}" for key, value in (params or {}).items())
        raise TooFewBarsError(
            f"{name} gave no signal in {len(index)} bars{f' ({windows})' if windows else ''}: "
            "give it more bars or shorter windows"
        )
    return np.clip(target, -most, most) if largest > most else target


def _floats(array: np.ndarray) -> np.ndarray:
    """A fresh float array; objects pass if they are numbers, truth values or missing, as shifted bools are."""
    if array.dtype.kind in "biuf":
        return array.astype(np.float64)
    if array.dtype.kind != "O" or any(isinstance(value, (str, bytes)) for value in array):
        raise TypeError
    return pd.Series(array, dtype=object).to_numpy(dtype=np.float64, na_value=np.nan)


def holding(open_: np.ndarray, close: np.ndarray, fill: str) -> np.ndarray:
    """What 1 of cash becomes that buys where a run could first trade, without costs; one line, or a column each."""
    first = 0 if fill == "close" else 1
    paid = open_[1] if fill == "next_open" else close[first]
    return np.concatenate([np.ones_like(close[:first]), close[first:] / paid])


def benchmark_name(benchmark: Any, usual: str) -> str:
    """What a result calls what it is compared with."""
    return usual if benchmark is None else str(getattr(benchmark, "attrs", {}).get("symbol", "given"))


def held_benchmark(benchmark: Any, index: pd.DatetimeIndex, fill: str) -> np.ndarray:
    """`holding` of the prices that were given as a benchmark."""
    try:
        bars = check_prices(benchmark)
    except PricesError as error:
        raise ParameterError(f"benchmark: {error}") from error
    missing = np.flatnonzero(~index.isin(bars.index))
    if missing.size:
        raise ParameterError(f"benchmark has no price on {bar_text(index, int(missing[0]))}: give every bar")
    open_, *_, close = columns_of(bars.reindex(index))
    return holding(open_, close, "close" if fill == "next_open" and "Open" not in bars else fill)


# ---- what comes out --------------------------------------------------------------------------------------------------


def measure(
    equity: np.ndarray,
    positions: np.ndarray,
    fills: np.ndarray,
    trades: np.ndarray,
    held: np.ndarray,
    financing: float,
    settings: Mapping[str, Any],
) -> dict[str, float | int]:
    """Every metric of a run, from what the kernels gave; `held` is what 1 of cash became in the benchmark."""
    closed = trades[trades[:, 7] != _kernels.OPEN]
    return calculate_metrics(
        equity=equity,
        benchmark=returns_of(held),
        positions=positions,
        traded=np.abs(fills[:, FILL_UNITS]) * fills[:, FILL_PRICE] / equity_before(equity, fills),
        pnl=closed[:, 6],
        trade_returns=closed[:, 6] / np.abs(closed[:, 2] * closed[:, 3]),
        bars_held=closed[:, 1] - closed[:, 0],
        fees=fills[:, FILL_FEE],
        n_trades=len(trades),
        financing=financing,
        risk_free=settings["risk_free"],
        periods_per_year=settings["periods_per_year"],
    )


def check_range_of_floats(equity: np.ndarray) -> None:
    """PricesError where prices or cash were so large or small that the account could not be computed."""
    if not np.isfinite(equity).all():
        raise PricesError("the account left the range of floats: prices or cash are too large or too small")


def equity_before(equity: np.ndarray, fills: np.ndarray) -> np.ndarray:
    """Equity at the close before each fill. [currency]"""
    return equity[np.maximum(fills[:, FILL_BAR].astype(int) - 1, 0)]
