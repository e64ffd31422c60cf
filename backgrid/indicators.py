"""Causal indicators: a value uses its own bar and earlier ones only. A Series gives a Series, an array an array."""

from typing import Any

import numpy as np
import pandas as pd

from backgrid import _kernels
from backgrid.errors import ParameterError, shown


def sma(values: Any, window: int) -> Any:
    """Simple moving average: mean of the last `window` values.

    Parameters
    ----------
    values : Series or array-like of float, shape (n_bars,)
        Usually closes. A NaN makes every mean that holds it NaN.
    window : int
        At least 1. [bars]

    Returns
    -------
    Series or ndarray, shape (n_bars,)
        NaN for the first window - 1 bars; exactly the price where the price is constant.

    Raises
    ------
    ParameterError
        If `window` is not a whole number of at least 1.
    """
    window = check_window("window", window)
    numbers = _numbers(values)
    finite = np.isfinite(numbers)
    if window > numbers.size:
        means = np.full(numbers.size, np.nan)
    elif finite.all():
        means = _kernels.sma(numbers, window)
    else:
        means = _kernels.sma(np.where(finite, numbers, 0.0), window)
        means[_any_of_last(~finite, window)] = np.nan
    return _like(values, means)


def above(left: Any, right: Any) -> Any:
    """1.0 where `left` > `right`, 0.0 where it is not, NaN where either is NaN.

    Parameters
    ----------
    left, right : Series, array-like or float
        Two lines on the same bars, or a line and a level.

    Returns
    -------
    Series or ndarray of float
        Target position: fully long or flat. [fraction of equity]
    """
    a, b = _numbers(left), _numbers(right)
    signal = np.where(np.isnan(a) | np.isnan(b), np.nan, a > b)
    return _like(left if isinstance(left, pd.Series) else right, signal)


def check_window(name: str, window: Any) -> int:
    """A window as int, or ParameterError naming the parameter."""
    if isinstance(window, (bool, np.bool_)) or not isinstance(window, (int, np.integer)):
        raise ParameterError(f"{name} must be a whole number of bars, got {shown(window)} ({type(window).__name__})")
    if window < 1:
        raise ParameterError(f"{name} must be at least 1 bar, got {shown(window)}")
    return int(window)


def _numbers(values: Any) -> np.ndarray:
    """A fresh float64 copy: pandas 3 hands out read-only views, for which numba would compile everything twice."""
    return np.array(values, dtype=np.float64, order="C")


def _like(values: Any, numbers: np.ndarray) -> Any:
    return pd.Series(numbers, index=values.index, copy=False) if isinstance(values, pd.Series) else numbers


def _any_of_last(flags: np.ndarray, window: int) -> np.ndarray:
    """Where any of the last `window` flags is set."""
    counts = np.concatenate([[0], np.cumsum(flags)])
    starts = np.maximum(np.arange(1, counts.size) - window, 0)
    return counts[1:] > counts[starts]
