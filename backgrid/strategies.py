"""Strategies: plain functions from prices to target positions, and their registry by name.

A strategy takes the prices first (the whole frame, or only the closes if its first parameter is called `close`), then
keyword parameters with defaults, and returns one target position a bar: a fraction of equity in [-1, 1], NaN while
warming up. Its signature is at once the documentation, the grid's axes and the request's fields.
"""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from backgrid.errors import ParameterError, did_you_mean, shown
from backgrid.indicators import above, check_window, sma


def ma_crossover(prices: pd.DataFrame, *, fast_window: int = 20, slow_window: int = 50) -> pd.Series:
    """Long while the fast mean is above the slow mean, else flat.

    Parameters
    ----------
    prices : DataFrame
        With a column Close. [currency]
    fast_window, slow_window : int
        Fast and slow simple moving average of the close. [bars]

    Returns
    -------
    Series
        1.0 or 0.0, NaN for the first slow_window - 1 bars. [fraction of equity]

    Raises
    ------
    ParameterError
        If a window is not a whole number of at least 1, or fast_window is not below slow_window.
    """
    fast_window = check_window("fast_window", fast_window)
    slow_window = check_window("slow_window", slow_window)
    if fast_window >= slow_window:
        raise ParameterError(f"fast_window {shown(fast_window)} must be below slow_window {shown(slow_window)}")
    close = prices["Close"]
    return above(sma(close, fast_window), sma(close, slow_window))


def buy_and_hold(prices: pd.DataFrame) -> pd.Series:
    """Long from the first bar to the last.

    Parameters
    ----------
    prices : DataFrame
        Only its index is used.

    Returns
    -------
    Series
        1.0 on every bar. [fraction of equity]
    """
    return pd.Series(1.0, index=prices.index)


def calculate_ma_crossover_signals(close: Any, fast_window: int = 20, slow_window: int = 50) -> pd.Series:
    """Signals of `ma_crossover` with the warm-up written as flat.

    Parameters
    ----------
    close : Series or array-like of float, shape (n_bars,)
        Closing prices. [currency]
    fast_window, slow_window : int
        Fast and slow simple moving average. [bars]

    Returns
    -------
    Series, shape (n_bars,)
        1.0 while the fast mean is above the slow mean, else 0.0. [fraction of equity]

    Raises
    ------
    ParameterError
        As `ma_crossover`.
    """
    close = close if isinstance(close, pd.Series) else pd.Series(np.asarray(close, dtype=float))
    return ma_crossover(close.to_frame("Close"), fast_window=fast_window, slow_window=slow_window).fillna(0.0)


STRATEGIES: dict[str, Callable] = {function.__name__: function for function in (ma_crossover, buy_and_hold)}


WORDS = {
    "ma_crossover": (
        "Moving-average crossover {fast_window}/{slow_window}",
        "Long {symbol} while its {fast_window}-bar mean is above its {slow_window}-bar mean",
    ),
    "buy_and_hold": ("Buy and hold", "Long {symbol} from the first bar to the last"),
}


def describe_strategy(name: str, params: Mapping[str, Any], symbol: str) -> tuple[str, str]:
    """Title and rule of a strategy in words; a function's own first line where there are no better ones."""
    if name in WORDS and params.keys() == strategy_defaults(STRATEGIES[name]).keys():
        title, rule = WORDS[name]
        return title.format_map(params), rule.format_map({**params, "symbol": symbol})
    arguments = ", ".join(f"{key} {value}" for key, value in params.items())
    documented = (inspect.getdoc(STRATEGIES[name]) or name).split("\n")[0] if name in STRATEGIES else name
    return f"{name} ({arguments})" if arguments else name, documented.rstrip(".")


def register_strategy(function: Callable) -> Callable:
    """Make a strategy known by its function name in this process; usable as a decorator.

    `run_backtest` then takes the name. Requests, and so reports, name the built-in ones only.

    Raises
    ------
    ParameterError
        If the name is taken by another function, or a parameter has no default.
    """
    name = function.__name__
    if STRATEGIES.get(name, function) is not function:
        raise ParameterError(f"a strategy named {name!r} exists; give yours another name")
    strategy_defaults(function)
    STRATEGIES[name] = function
    return function


def get_strategy(name: str) -> Callable:
    """The registered strategy of that name, or ParameterError with the nearest name."""
    if name not in STRATEGIES:
        raise ParameterError(f"unknown strategy {shown(name)}{did_you_mean(str(name)[:40], STRATEGIES)}")
    return STRATEGIES[name]


def strategy_defaults(function: Callable) -> dict[str, Any]:
    """Name and default of each parameter of a strategy, the prices left out.

    Raises
    ------
    ParameterError
        If the function takes no prices, or a parameter has no default.
    """
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except ValueError:
        raise ParameterError(f"{function_name(function)} is no strategy: it does not tell its parameters") from None
    if not parameters:
        raise ParameterError(f"strategy {function_name(function)} must take the prices as its first parameter")
    named = [p for p in parameters[1:] if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    for parameter in named:
        if parameter.default is parameter.empty:
            raise ParameterError(f"strategy {function_name(function)}: {parameter.name} needs a default value")
    return {p.name: p.default for p in named}


def complete_params(function: Callable, params: Mapping[str, Any] | None) -> dict[str, Any]:
    """All parameters of a strategy: those given, and defaults for the rest.

    Raises
    ------
    ParameterError
        For a name that the strategy does not have, or a value of another type than its default.
    """
    defaults = strategy_defaults(function)
    if params is not None and not isinstance(params, Mapping):
        raise ParameterError(f"params must be a dict of parameters, got {shown(params)}")
    for name, value in (params or {}).items():
        if name not in defaults:
            hint = did_you_mean(str(name)[:40], defaults)
            raise ParameterError(f"{function_name(function)} has no parameter {shown(name)}{hint}")
        _check_type(name, value, defaults[name])
    return {**defaults, **(params or {})}


def select_params(strategy: str, **offered: Any) -> dict[str, Any]:
    """Those of the offered parameters that a registered strategy has."""
    defaults = strategy_defaults(get_strategy(strategy))
    return {name: value for name, value in offered.items() if name in defaults}


def call_strategy(function: Callable, bars: pd.DataFrame, params: Mapping[str, Any]) -> Any:
    """What the strategy returns for a copy of these prices, so that it cannot change the caller's."""
    first = next(iter(inspect.signature(function).parameters))
    return function(bars["Close"].copy() if first == "close" else bars.copy(), **params)


def function_name(function: Callable) -> str:
    """What a result calls the strategy: the function's own name."""
    return getattr(function, "__name__", type(function).__name__)


def _check_type(name: str, value: Any, default: Any) -> None:
    """Refuse text for a number and the like; a whole number passes for a float, never the other way round."""
    wanted = {bool: (bool, np.bool_), int: (int, np.integer), float: (int, float, np.number), str: (str,)}
    allowed = wanted.get(type(default))
    boolean = isinstance(value, (bool, np.bool_))
    if allowed and (not isinstance(value, allowed) or (boolean and type(default) is not bool)):
        need = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}[type(default)]
        raise ParameterError(f"{name} must be {need}, got {shown(value)} ({type(value).__name__})")
