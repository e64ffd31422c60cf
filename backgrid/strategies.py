"""Strategies: plain functions from prices to target positions, and their registry by name.

A strategy takes the prices first (the whole frame, or only the closes if its first parameter is called `close`), then
keyword parameters with defaults, and returns one target position a bar: a fraction of equity in [-1, 1], NaN while
warming up. Its signature is at once the documentation, the grid's axes and the request's fields.
"""

import copy
import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from backgrid.bars import EAGER
from backgrid.errors import ParameterError, did_you_mean, shown
from backgrid.indicators import (
    above,
    below,
    bollinger,
    check_below,
    check_fast_below_slow,
    check_number,
    check_window,
    donchian,
    ema,
    latch,
    rsi,
    sma,
)
from backgrid.indicators import macd as macd_lines
from backgrid.lines import Axis, each

PLAIN = (bool, int, float, str, np.generic, type(None))  # parameters that cannot be changed in place


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
    fast_window, slow_window = check_fast_below_slow(fast_window, slow_window)
    close = prices["Close"]
    return above(sma(close, fast_window), sma(close, slow_window))


def ema_crossover(prices: pd.DataFrame, *, fast_window: int = 12, slow_window: int = 26) -> pd.Series:
    """Long while the fast exponential mean is above the slow one, else flat.

    Parameters
    ----------
    prices : DataFrame
        With a column Close. [currency]
    fast_window, slow_window : int
        Fast and slow exponential moving average of the close. [bars]

    Returns
    -------
    Series
        1.0 or 0.0, NaN for the first slow_window - 1 bars. [fraction of equity]

    Raises
    ------
    ParameterError
        As `ma_crossover`.
    """
    fast_window, slow_window = check_fast_below_slow(fast_window, slow_window)
    close = prices["Close"]
    return above(ema(close, fast_window), ema(close, slow_window))


def macd(prices: pd.DataFrame, *, fast_window: int = 12, slow_window: int = 26, signal_window: int = 9) -> pd.Series:
    """Long while the MACD line is above its signal line, else flat.

    Parameters
    ----------
    prices : DataFrame
        With a column Close. [currency]
    fast_window, slow_window : int
        Exponential moving averages of the close; the line is the fast one less the slow one. [bars]
    signal_window : int
        Exponential moving average of the line. [bars]

    Returns
    -------
    Series
        1.0 or 0.0, NaN for the first slow_window + signal_window - 2 bars. [fraction of equity]

    Raises
    ------
    ParameterError
        If a window is not a whole number of at least 1, or fast_window is not below slow_window.
    """
    lines = macd_lines(prices["Close"], fast_window, slow_window, signal_window)
    return above(lines.line, lines.signal)


def rsi_reversion(prices: pd.DataFrame, *, window: int = 14, lower: float = 30.0, upper: float = 70.0) -> pd.Series:
    """Long from an RSI below the lower level until one above the upper level, else flat.

    Parameters
    ----------
    prices : DataFrame
        With a column Close. [currency]
    window : int
        Of the relative strength index of the close. [bars]
    lower, upper : float
        Levels of the index, lower below upper. [0 to 100]

    Returns
    -------
    Series
        1.0 or 0.0, NaN for the first `window` bars. [fraction of equity]

    Raises
    ------
    ParameterError
        If `window` is not a whole number of at least 1, a level is not a number from 0 to 100, or lower is not below
        upper.
    """
    lower, upper = _level("lower", lower), _level("upper", upper)
    check_below("lower", lower, "upper", upper)
    close = prices["Close"]
    strength = rsi(close, window)
    signal = latch(below(strength, lower), above(strength, upper))
    return signal.fillna(0.0 * _bars_ago(close, window))  # a price that has not moved since has no RSI: flat


def bollinger_reversion(prices: pd.DataFrame, *, window: int = 20, width: float = 2.0) -> pd.Series:
    """Long from a close below the lower Bollinger band until one above the middle, else flat.

    Parameters
    ----------
    prices : DataFrame
        With a column Close. [currency]
    window : int
        Of the mean and the standard deviation of the close. [bars]
    width : float
        From the middle to the lower band, above 0. [standard deviations]

    Returns
    -------
    Series
        1.0 or 0.0, NaN for the first window - 1 bars. [fraction of equity]

    Raises
    ------
    ParameterError
        If `window` is not a whole number of at least 1, or `width` is not a number above 0.
    """
    close = prices["Close"]
    bands = bollinger(close, window, width)
    return latch(below(close, bands.lower), above(close, bands.middle))


def donchian_breakout(prices: pd.DataFrame, *, entry_window: int = 20, exit_window: int = 10) -> pd.Series:
    """Long from a close above the highest High of the bars before until one below their lowest Low, else flat.

    Parameters
    ----------
    prices : DataFrame
        With columns High, Low and Close. [currency]
    entry_window, exit_window : int
        How many bars before: of the highest High, and of the lowest Low. [bars]

    Returns
    -------
    Series
        1.0 or 0.0, NaN for the first max(entry_window, exit_window) bars. [fraction of equity]

    Raises
    ------
    ParameterError
        If a window is not a whole number of at least 1.
    PricesError
        If a column is missing, as where the run is of closes only.
    """
    entry_window = check_window("entry_window", entry_window)
    exit_window = check_window("exit_window", exit_window)
    close = prices["Close"]
    highest = donchian(prices, entry_window).upper.shift(1)
    lowest = donchian(prices, exit_window).lower.shift(1)
    return latch(above(close, highest), below(close, lowest))


def momentum(prices: pd.DataFrame, *, window: int = 126) -> pd.Series:
    """Long while the close is above that of some bars before, else flat.

    Parameters
    ----------
    prices : DataFrame
        With a column Close. [currency]
    window : int
        How many bars before. [bars]

    Returns
    -------
    Series
        1.0 or 0.0, NaN for the first `window` bars. [fraction of equity]

    Raises
    ------
    ParameterError
        If `window` is not a whole number of at least 1.
    """
    close = prices["Close"]
    return above(close, _bars_ago(close, check_window("window", window)))


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


def _level(name: str, value: Any) -> Any:
    """A level of the RSI, or ParameterError naming the parameter; an axis keeps the values that pass."""
    if isinstance(value, Axis):
        return value.map(lambda one: _level(name, one))
    level = check_number(name, value)
    if not 0.0 <= level <= 100.0:
        raise ParameterError(f"{name} must be from 0 to 100, got {level:.15g}")
    return level


def _bars_ago(close: pd.Series, window: Any) -> Any:
    """The close of `window` bars before, NaN where there are not so many; pandas takes no window of 10**400."""
    return each(lambda window: close.shift(min(window, len(close))), window)


# ---- the registry ----------------------------------------------------------------------------------------------------

BUILT_IN = (
    ma_crossover,
    ema_crossover,
    macd,
    rsi_reversion,
    bollinger_reversion,
    donchian_breakout,
    momentum,
    buy_and_hold,
)
STRATEGIES: dict[str, Callable] = {function.__name__: function for function in BUILT_IN}

WORDS = {
    "ma_crossover": (
        "Moving-average crossover {fast_window}/{slow_window}",
        "Long {symbol} while its {fast_window}-bar mean is above its {slow_window}-bar mean",
    ),
    "ema_crossover": (
        "Exponential moving-average crossover {fast_window}/{slow_window}",
        "Long {symbol} while its {fast_window}-bar exponential mean is above its {slow_window}-bar exponential mean",
    ),
    "macd": (
        "MACD {fast_window}/{slow_window}/{signal_window}",
        "Long {symbol} while its MACD line of {fast_window} and {slow_window} bars is above its signal line of "
        "{signal_window} bars",
    ),
    "rsi_reversion": (
        "RSI reversion {window}, {lower}/{upper}",
        "Long {symbol} from a {window}-bar RSI below {lower} until one above {upper}",
    ),
    "bollinger_reversion": (
        "Bollinger reversion {window}, {width}",
        "Long {symbol} from a close more than {width} standard deviations below its {window}-bar mean until one above "
        "that mean",
    ),
    "donchian_breakout": (
        "Donchian breakout {entry_window}/{exit_window}",
        "Long {symbol} from a close above the highest high of the {entry_window} bars before until one below the "
        "lowest low of the {exit_window} bars before",
    ),
    "momentum": ("Momentum {window}", "Long {symbol} while its close is above that of {window} bars before"),
    "buy_and_hold": ("Buy and hold", "Long {symbol} from the first bar to the last"),
}


def describe_strategy(name: str, params: Mapping[str, Any], symbol: str) -> tuple[str, str]:
    """Title and rule of a strategy in words; a function's own first line where there are no better ones."""
    if name in WORDS and params.keys() == strategy_defaults(STRATEGIES[name]).keys():
        title, rule = WORDS[name]
        words = {key: f"{value:.15g}" if isinstance(value, float) else value for key, value in params.items()}
        return title.format_map(words), rule.format_map({**words, "symbol": symbol})
    arguments = ", ".join(f"{key} {value}" for key, value in params.items())
    documented = (inspect.getdoc(STRATEGIES[name]) or name).split("\n")[0] if name in STRATEGIES else name
    return f"{name} ({arguments})" if arguments else name, documented.rstrip(".")


def register_strategy(function: Callable) -> Callable:
    """Make a strategy known by its function name in this process; usable as a decorator.

    `run_backtest` then takes the name. Requests, and so reports, name the built-in ones only.

    Parameters
    ----------
    function : function
        Of the prices, and of keyword parameters with defaults.

    Returns
    -------
    function
        The same one.

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
        If the function takes no prices, a parameter has no default, or cannot be given by name.
    """
    try:
        parameters = _parameters(function)
    except ValueError:
        raise ParameterError(f"{function_name(function)} is no strategy: it does not tell its parameters") from None
    if not parameters:
        raise ParameterError(f"strategy {function_name(function)} must take the prices as its first parameter")
    named = [p for p in parameters[1:] if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    for parameter in named:
        if parameter.kind is parameter.POSITIONAL_ONLY:
            raise ParameterError(
                f"strategy {function_name(function)}: {parameter.name} stands before a `/`, and parameters are given "
                "by name: move the `/` behind the prices"
            )
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
    return own_params({**defaults, **(params or {})})


def own_params(params: Mapping[str, Any]) -> dict[str, Any]:
    """The same parameters for one call, which may change them."""
    return {name: value if isinstance(value, PLAIN) else copy.deepcopy(value) for name, value in params.items()}


def check_axis(function: Callable, name: str, values: list[Any]) -> None:
    """ParameterError unless the strategy has this parameter, and every value has the type of its default."""
    complete_params(function, {name: values[0]})
    default = strategy_defaults(function)[name]
    for value in {type(value): value for value in values}.values():
        _check_type(name, value, default)


def select_params(strategy: str, **offered: Any) -> dict[str, Any]:
    """The parameters of a registered strategy that were given; None stands for its own default.

    Parameters
    ----------
    strategy : str
        A registered name.
    **offered
        Values by parameter, None where none was given.

    Returns
    -------
    dict
        Those that are not None.

    Raises
    ------
    ParameterError
        For a value that the strategy has no parameter for, or of another type than its default.
    """
    return given_params(get_strategy(strategy), offered)


def given_params(function: Callable, offered: Mapping[str, Any]) -> dict[str, Any]:
    """Those that are not None, after the check of `complete_params`."""
    given = {name: value for name, value in offered.items() if value is not None}
    complete_params(function, given)
    return given


def call_strategy(function: Callable, bars: pd.DataFrame, params: Mapping[str, Any]) -> Any:
    """What the strategy returns for a copy of these prices, so that it cannot change the caller's."""
    given = bars["Close"] if first_parameter(function) == "close" else bars
    return function(given.copy(deep=EAGER), **params)


def first_parameter(function: Callable) -> str:
    """Name of what the function takes first, the prices."""
    return _parameters(function)[0].name


def _parameters(function: Callable) -> tuple[inspect.Parameter, ...]:
    """What the function takes. Read once a function, since a run asks several times; an unhashable one each time."""
    try:
        hash(function)
    except TypeError:
        return _read_parameters.__wrapped__(function)
    return _read_parameters(function)


@functools.lru_cache(maxsize=64)  # bounded: it keeps its functions, and whatever these hold, alive
def _read_parameters(function: Callable) -> tuple[inspect.Parameter, ...]:
    return tuple(inspect.signature(function).parameters.values())


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
