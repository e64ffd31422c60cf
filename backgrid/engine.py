"""The engine: signals decided at a close become trades at a later price. The only place that shifts signals in time."""

import copy
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import numpy as np
import pandas as pd

from backgrid import _kernels
from backgrid._kernels import FILL_BAR, FILL_FEE, FILL_PRICE, FILL_UNITS
from backgrid.bars import bar_text, check_prices, hash_bars, infer_periods_per_year
from backgrid.errors import ParameterError, PricesError, TooFewBarsError, did_you_mean, shown
from backgrid.metrics import calculate_metrics, returns_of
from backgrid.result import BacktestResult
from backgrid.strategies import call_strategy, complete_params, function_name, get_strategy

FILLS = {"next_open": _kernels.NEXT_OPEN, "close": _kernels.CLOSE, "next_close": _kernels.NEXT_CLOSE}
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
        A registered name, a function of the prices, or target positions in [-1, 1] decided at each close; NaN is flat.
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
    risk_free : float, default 0.0
        Return of cash for Sharpe and the like. [fraction per year]
    periods_per_year : float, optional
        Taken from the bars if not given. [bars per year]
    benchmark : DataFrame or Series of prices, optional
        What the run is compared with, on every bar of `prices`; holding the symbol itself if not given.

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
    timing = _timing(fill)
    if not isinstance(whole_units, (bool, np.bool_)):
        raise ParameterError(f"whole_units must be True or False, got {shown(whole_units)}")
    bars = check_prices(prices)
    if fill == "next_open" and "Open" not in bars:
        raise ParameterError("a Series of closes has no opens: use fill='close' or 'next_close', or pass a DataFrame")
    settings: dict[str, Any] = {
        "fill": fill,
        "fees": _number("fees", fees, 0.0, 1.0),
        "slippage": _number("slippage", slippage, 0.0, 1.0),
        "fixed_fee": _number("fixed_fee", fixed_fee, 0.0),
        "cash": _number("cash", cash, 0.0, open_below=True),
        "whole_units": bool(whole_units),
        "risk_free": _number("risk_free", risk_free, -1.0, open_below=True),
        "periods_per_year": infer_periods_per_year(bars.index)
        if periods_per_year is None
        else _number("periods_per_year", periods_per_year, 0.0, open_below=True),
        "benchmark": "holding" if benchmark is None else str(getattr(benchmark, "attrs", {}).get("symbol", "given")),
    }
    name, params, target = _target(strategy, _with_other_columns(bars, prices), params)
    close = bars["Close"].to_numpy()
    opens = bars["Open"].to_numpy() if fill == "next_open" else close
    equity, units, fills, _ = _kernels.simulate(
        np.array(opens),
        np.array(close),
        target,
        timing,
        settings["fees"],
        settings["slippage"],
        settings["fixed_fee"],
        settings["cash"],
        settings["whole_units"],
    )
    trades = _kernels.pair_trades(fills, close.size - 1, close[-1])
    positions = np.divide(units * close, equity, out=np.zeros_like(equity), where=equity > 0.0)
    held = close if benchmark is None else _benchmark_close(benchmark, bars)
    metrics = _metrics(equity, positions, fills, trades, held, settings)
    return BacktestResult(
        symbol=str(prices.attrs.get("symbol", "")),
        data=copy.deepcopy({name: prices.attrs[name] for name in DATA_FACTS if name in prices.attrs}),
        strategy=name,
        params=params,
        settings=settings,
        equity=pd.Series(equity, index=bars.index, name="equity", copy=False),
        positions=pd.Series(positions, index=bars.index, name="positions", copy=False),
        benchmark=pd.Series(settings["cash"] * held / held[0], index=bars.index, name="benchmark", copy=False),
        booked=trades,
        metrics=metrics,
        prices_hash=hash_bars(bars),
    )


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
    _timing(fill)
    bars = check_prices(prices)
    weight = _checked_target(signals, bars.index, "signals")
    close = bars["Close"].to_numpy()
    returns = np.zeros(close.size)
    if fill == "close":
        returns[1:] = weight[:-1] * (close[1:] / close[:-1] - 1.0)
    elif fill == "next_close":
        returns[2:] = weight[:-2] * (close[2:] / close[1:-1] - 1.0)
    elif "Open" not in bars:
        raise ParameterError("a Series of closes has no opens: use fill='close' or 'next_close', or pass a DataFrame")
    else:
        opens = bars["Open"].to_numpy()
        overnight = np.concatenate([[0.0], weight[:-2]]) * (opens[1:] / close[:-1] - 1.0)
        returns[1:] = (1.0 + overnight) * (1.0 + weight[:-1] * (close[1:] / opens[1:] - 1.0)) - 1.0
    return pd.Series(returns, index=bars.index, name="returns")


# ---- what goes in ----------------------------------------------------------------------------------------------------


def _with_other_columns(bars: pd.DataFrame, prices: pd.DataFrame | pd.Series) -> pd.DataFrame:
    """The bars, and whatever else stood in the caller's frame for the strategy to use."""
    if isinstance(prices, pd.Series) or prices.shape[1] == bars.shape[1]:
        return bars
    others = prices[[column for column in prices.columns if column not in bars.columns]]
    return pd.concat([bars, others.set_axis(bars.index)], axis=1)


def _timing(fill: Any) -> int:
    """The kernel's code of a fill."""
    if not isinstance(fill, str) or fill not in FILLS:
        raise ParameterError(f"unknown fill {shown(fill)}{did_you_mean(str(fill)[:20], FILLS)}")
    return FILLS[fill]


def _target(strategy: Strategy, bars: pd.DataFrame, params: Any) -> tuple[str, dict[str, Any], np.ndarray]:
    """Name, complete parameters and target positions of whatever was given as a strategy."""
    if not isinstance(strategy, str) and not callable(strategy):
        if params:
            raise ParameterError("an array of target positions takes no params")
        return "signals", {}, _checked_target(strategy, bars.index, "strategy")
    function = get_strategy(strategy) if isinstance(strategy, str) else strategy
    name = function_name(function)
    complete = complete_params(function, params)
    target = _checked_target(call_strategy(function, bars, complete), bars.index, name, complete)
    plain = {key: value.item() if isinstance(value, np.generic) else value for key, value in complete.items()}
    return name, plain, target


def _checked_target(signals: Any, index: pd.DatetimeIndex, name: str, params: Mapping | None = None) -> np.ndarray:
    """Target positions as a fresh array with NaN as flat, or an error naming the first offending bar."""
    if isinstance(signals, pd.DataFrame):
        raise ParameterError(f"{name}: target positions must be one column, got a DataFrame")
    labelled = isinstance(signals, pd.Series) and not isinstance(signals.index, pd.RangeIndex)
    if labelled and not _in_nanoseconds(signals.index).equals(index):
        raise ParameterError(f"{name}: the index of the target positions is not that of the prices")
    try:
        array = np.asarray(signals)
    except ValueError:  # rows of different lengths
        raise ParameterError(f"{name}: target positions must be numbers, got {shown(signals)}") from None
    if array.shape != (len(index),):
        raise ParameterError(f"{name}: need one target position a bar, {len(index)}, got shape {array.shape}")
    try:
        target = _floats(array)
    except (TypeError, ValueError):
        raise ParameterError(f"{name}: target positions must be numbers, got {shown(signals)}") from None
    missing = np.isnan(target)
    outside = np.flatnonzero(~missing & ~(np.abs(target) <= 1.0))
    if outside.size:
        at = int(outside[0])
        raise ParameterError(f"{name}: target position {target[at]:.6g} on {bar_text(index, at)} is not in [-1, 1]")
    if missing.all():
        windows = ", ".join(f"{key}={shown(value)}" for key, value in (params or {}).items())
        raise TooFewBarsError(
            f"{name} gave no signal in {len(index)} bars{f' ({windows})' if windows else ''}: "
            "give it more bars or shorter windows"
        )
    target[missing] = 0.0
    return target


def _in_nanoseconds(index: pd.Index) -> pd.Index:
    return index.as_unit("ns") if isinstance(index, pd.DatetimeIndex) else index


def _floats(array: np.ndarray) -> np.ndarray:
    """A fresh float array; objects pass if they are numbers, truth values or missing, as shifted bools are."""
    if array.dtype.kind in "biuf":
        return array.astype(np.float64)
    if array.dtype.kind != "O" or any(isinstance(value, (str, bytes)) for value in array):
        raise TypeError
    return pd.Series(array, dtype=object).to_numpy(dtype=np.float64, na_value=np.nan)


def _benchmark_close(benchmark: Any, bars: pd.DataFrame) -> np.ndarray:
    """Closes of the benchmark on the bars of the run."""
    try:
        close = check_prices(benchmark)["Close"]
    except PricesError as error:
        raise ParameterError(f"benchmark: {error}") from error
    missing = np.flatnonzero(~bars.index.isin(close.index))
    if missing.size:
        raise ParameterError(f"benchmark has no price on {bar_text(bars.index, int(missing[0]))}: give every bar")
    return close.reindex(bars.index).to_numpy()


def _number(name: str, value: Any, least: float, most: float = np.inf, *, open_below: bool = False) -> float:
    """A finite number in [least, most), or in (least, most)."""
    good = isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)
    if not good or not least <= value < most or (open_below and value == least):
        bounds = f"{'above' if open_below else 'at least'} {least:g}" + (
            "" if most == np.inf else f" and below {most:g}"
        )
        raise ParameterError(f"{name} must be a number {bounds}, got {shown(value)}")
    return float(value)


# ---- what comes out --------------------------------------------------------------------------------------------------


def _metrics(
    equity: np.ndarray,
    positions: np.ndarray,
    fills: np.ndarray,
    trades: np.ndarray,
    held: np.ndarray,
    settings: Mapping[str, Any],
) -> dict[str, float | int]:
    before = equity[np.maximum(fills[:, FILL_BAR].astype(int) - 1, 0)]
    closed = trades[trades[:, 7] != _kernels.OPEN]
    return calculate_metrics(
        equity=equity,
        benchmark=returns_of(held),
        positions=positions,
        traded=np.abs(fills[:, FILL_UNITS]) * fills[:, FILL_PRICE] / before,
        pnl=closed[:, 6],
        trade_returns=closed[:, 6] / np.abs(closed[:, 2] * closed[:, 3]),
        bars_held=closed[:, 1] - closed[:, 0],
        fees=fills[:, FILL_FEE],
        n_trades=len(trades),
        risk_free=settings["risk_free"],
        periods_per_year=settings["periods_per_year"],
    )
