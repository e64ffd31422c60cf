"""Weightings: plain functions from several symbols' prices to the weight of each, and their registry by name.

A weighting takes the closes first, one column a symbol (or a dict of whole frames by symbol, if its first parameter is
called `prices`), then keyword parameters with defaults, and returns a DataFrame of weights decided at each close, one
column a symbol: fractions of equity, NaN while warming up, the rest being cash. A dict of weights is one, too.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from backgrid.bars import check_symbol
from backgrid.errors import ParameterError, did_you_mean, shown
from backgrid.indicators import check_window
from backgrid.metrics import rolling_std
from backgrid.strategies import given_params, strategy_defaults


def equal_weight(closes: pd.DataFrame) -> pd.DataFrame:
    """The same weight for each symbol.

    Parameters
    ----------
    closes : DataFrame, shape (n_bars, n_symbols)
        Only its labels are used.

    Returns
    -------
    DataFrame, shape (n_bars, n_symbols)
        1 / n_symbols. [fraction of equity]
    """
    return pd.DataFrame(1.0 / closes.shape[1], index=closes.index, columns=closes.columns)


def inverse_volatility(closes: pd.DataFrame, *, lookback: int = 60) -> pd.DataFrame:
    """Each symbol by the inverse of its volatility, so that a calm one weighs more.

    Parameters
    ----------
    closes : DataFrame, shape (n_bars, n_symbols)
        Closing prices. [currency]
    lookback : int, default 60
        How many returns the standard deviation (ddof 1) is of; at least 2. [bars]

    Returns
    -------
    DataFrame, shape (n_bars, n_symbols)
        Adding up to 1, NaN for the first `lookback` bars; a price that has not moved weighs 0. [fraction of equity]

    Raises
    ------
    ParameterError
        If `lookback` is not a whole number of at least 2.
    """
    lookback = check_window("lookback", lookback, least=2)
    changes = closes.pct_change().to_numpy()
    deviation = pd.DataFrame(rolling_std(changes, lookback), index=closes.index, columns=closes.columns)
    inverse = (1.0 / deviation.where(deviation > 0.0)).fillna(0.0).where(deviation.notna())
    total = inverse.sum(axis=1, skipna=False)
    return inverse.div(total.where(total > 0.0), axis=0)


def top_momentum(closes: pd.DataFrame, *, window: int = 126, top: int = 3) -> pd.DataFrame:
    """The symbols that have risen most, in equal parts.

    Parameters
    ----------
    closes : DataFrame, shape (n_bars, n_symbols)
        Closing prices. [currency]
    window : int, default 126
        Over how many bars the rise is measured. [bars]
    top : int, default 3
        How many symbols are held; of equals, the first column. [symbols]

    Returns
    -------
    DataFrame, shape (n_bars, n_symbols)
        1 / top for each that is held, 0 for the others, NaN for the first `window` bars. [fraction of equity]

    Raises
    ------
    ParameterError
        If `window` or `top` is not a whole number of at least 1, or there are fewer symbols than `top`.
    """
    window, top = check_window("window", window), _check_top(top, closes.shape[1])
    rise = closes / closes.shift(min(window, len(closes)))
    held = rise.rank(axis=1, ascending=False, method="first") <= top
    return (held / top).where(rise.notna())


def _check_top(top: Any, n_symbols: int) -> int:
    whole = isinstance(top, (int, np.integer)) and not isinstance(top, bool)
    if not whole or not 1 <= top <= n_symbols:
        raise ParameterError(
            f"top must be a whole number from 1 to the {n_symbols} symbols there are, got {shown(top)}"
        )
    return int(top)


# ---- the registry ----------------------------------------------------------------------------------------------------

WEIGHTINGS: dict[str, Callable] = {
    function.__name__: function for function in (equal_weight, inverse_volatility, top_momentum)
}

MOST_NAMED = 6  # symbols whose given weights are told

WORDS = {
    "equal_weight": ("Equal weights", "The same weight of {symbols}"),
    "inverse_volatility": (
        "Inverse volatility {lookback}",
        "{symbols} by the inverse of their volatility over {lookback} bars",
    ),
    "top_momentum": (
        "Momentum {window}, top {top}",
        "The {top} of {symbols} that rose most over {window} bars, in equal parts",
    ),
    "weights": ("Given weights", "{symbols} at given weights"),
}


def get_weighting(name: str) -> Callable:
    """The weighting of that name, or ParameterError with the nearest name."""
    if name not in WEIGHTINGS:
        raise ParameterError(f"unknown weighting {shown(name)}{did_you_mean(str(name)[:40], WEIGHTINGS)}")
    return WEIGHTINGS[name]


def read_weights(text: str) -> str | dict[str, float]:
    """Weights as a text gives them, such as "equal_weight" or "AAPL 0.6, NVDA 0.4".

    Parameters
    ----------
    text : str
        The name of a weighting, or symbols and their weights, separated by commas. [fraction of equity]

    Returns
    -------
    str or dict
        The name as it stands, or the weight of each symbol, upper-cased.

    Raises
    ------
    ParameterError
        If the text is neither, or a symbol stands twice.
    """
    pairs = [pair.split() for pair in text.split(",")]
    if len(pairs) == len(pairs[0]) == 1:
        return pairs[0][0]
    weights: dict[str, float] = {}
    for pair in pairs:
        weight = _number(pair[1]) if len(pair) == 2 else math.nan
        if not math.isfinite(weight):
            known = ", ".join(WEIGHTINGS)
            raise ParameterError(f"weights must be one of {known}, or such as 'AAPL 0.6, NVDA 0.4', got {shown(text)}")
        symbol = check_symbol(pair[0])
        if symbol in weights:
            raise ParameterError(f"weights: {symbol} stands twice")
        weights[symbol] = weight
    return weights


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def select_weighting_params(weighting: str | Mapping[str, float], **offered: Any) -> dict[str, Any]:
    """The parameters of a registered weighting that were given; None stands for its own default, weights take none.

    Raises
    ------
    ParameterError
        If there is no such weighting, or for a value that it has no parameter for, or of another type than its default.
    """
    if isinstance(weighting, str):
        return given_params(get_weighting(weighting), offered)
    refused = [name for name, value in offered.items() if value is not None]
    if refused:
        raise ParameterError(f"weights that are given have no parameter {min(refused)!r}")
    return {}


def describe_weighting(name: str, params: Mapping[str, Any], symbols: str) -> tuple[str, str]:
    """Title and rule of a weighting in words."""
    if name == "weights" and 0 < len(params) <= MOST_NAMED:
        parts = (f"{symbol} {weight * 100.0:.6g}\u202f%".replace("-", "\u2212") for symbol, weight in params.items())
        return WORDS[name][0], ", ".join(parts)
    known = WEIGHTINGS.get(name)
    if name != "weights" and (known is None or params.keys() != strategy_defaults(known).keys()):
        return name, f"{symbols} by {name}"
    title, rule = WORDS[name]
    words = {**params, "symbols": symbols}
    return title.format_map(words), rule.format_map(words)
