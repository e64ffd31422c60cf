"""On what terms a run trades: fills, costs, sizes, stops and rebalancing, checked and made ready for the kernels."""

from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

import numpy as np
import pandas as pd

from backgrid import _kernels
from backgrid.bars import float_of, infer_periods_per_year
from backgrid.errors import ParameterError, did_you_mean, shown
from backgrid.metrics import cash_return, rolling_std

FILLS = {"next_open": _kernels.NEXT_OPEN, "close": _kernels.CLOSE, "next_close": _kernels.NEXT_CLOSE}
SIZINGS = {
    "fraction": _kernels.FRACTION,
    "units": _kernels.UNITS,
    "cash": _kernels.CASH,
    "volatility": _kernels.FRACTION,
    "risk": _kernels.FRACTION,
}
STOPS = ("stop_loss", "take_profit", "trailing_stop")
MOST = {"stop_loss": 1.0, "take_profit": np.inf, "trailing_stop": 1.0}  # of a distance from the price
BY_BAR = "by bar"
COSTS = (
    *("fees", "slippage", "fixed_fee", "cash", "whole_units", "leverage"),
    *("cash_rate", "borrow_rate", "risk_free"),
)
CALENDAR = ("bar", "week", "month")
LARGEST = 1e300  # of any number given

ByBar: TypeAlias = float | np.ndarray | pd.Series | list | None


# ---- what is allowed -------------------------------------------------------------------------------------------------


def check_fill(fill: Any, bars: pd.DataFrame) -> str:
    """A known fill that these bars offer."""
    check_one_of("fill", fill, FILLS)
    if fill == "next_open" and "Open" not in bars:
        raise ParameterError("a Series of closes has no opens: use fill='close' or 'next_close', or pass a DataFrame")
    return fill


def check_costs(
    fees: Any,
    slippage: Any,
    fixed_fee: Any,
    cash: Any,
    whole_units: Any,
    leverage: Any,
    cash_rate: Any,
    borrow_rate: Any,
    risk_free: Any,
) -> dict[str, Any]:
    """The costs and limits of an account by name."""
    if not isinstance(whole_units, (bool, np.bool_)):
        raise ParameterError(f"whole_units must be True or False, got {shown(whole_units)}")
    return {
        "fees": check_number("fees", fees, 0.0, 1.0),
        "slippage": check_number("slippage", slippage, 0.0, 1.0),
        "fixed_fee": check_number("fixed_fee", fixed_fee, 0.0),
        "cash": check_number("cash", cash, 0.0, open_below=True),
        "whole_units": bool(whole_units),
        "leverage": check_number("leverage", leverage, 0.0, open_below=True),
        "cash_rate": check_number("cash_rate", cash_rate, -1.0, open_below=True),
        "borrow_rate": check_number("borrow_rate", borrow_rate, 0.0),
        "risk_free": check_number("risk_free", risk_free, -1.0, open_below=True),
    }


def check_sizing(sizing: Any, size: Any, stop_loss: Any, trailing_stop: Any) -> dict[str, Any]:
    """How targets become units, and the size that a target of 1 has."""
    check_one_of("sizing", sizing, SIZINGS)
    if size is None and sizing != "fraction":
        raise ParameterError(f"sizing='{sizing}' needs a size")
    if sizing == "risk" and stop_loss is None and trailing_stop is None:
        raise ParameterError("sizing='risk' needs a stop_loss or a trailing_stop")
    size = (
        1.0 if size is None else check_number("size", size, 0.0, 1.0 if sizing == "risk" else np.inf, open_below=True)
    )
    return {"sizing": sizing, "size": size}


def check_stop(name: str, value: Any) -> float | str | None:
    """None, a distance from the price, or "by bar" where there is one a bar."""
    if isinstance(value, (list, tuple, np.ndarray, pd.Series)):
        return BY_BAR
    return value if value is None else check_number(name, value, 0.0, MOST[name], open_below=True)


def check_rebalance(rebalance: Any, sizing: str) -> str | float | None:
    """None, a rhythm, or a band of drift."""
    if rebalance is None:
        return None
    if sizing == "units" or (sizing == "cash" and not isinstance(rebalance, str)):
        raise ParameterError(f"rebalance={shown(rebalance)} holds a weight, which sizing='{sizing}' has not")
    if isinstance(rebalance, str):
        check_one_of("rebalance", rebalance, CALENDAR)
        return rebalance
    return check_number("rebalance", rebalance, 0.0, 1.0, open_below=True)


def check_periods(periods_per_year: Any, index: pd.DatetimeIndex) -> float:
    """Bars a year as given, or as the bars have them."""
    if periods_per_year is None:
        return infer_periods_per_year(index)
    return check_number("periods_per_year", periods_per_year, 0.0, open_below=True)


def check_number(name: str, value: Any, least: float, most: float = np.inf, *, open_below: bool = False) -> float:
    """A finite number in [least, most), or in (least, most)."""
    number = float_of(value)
    if not least <= number < min(most, LARGEST) or (open_below and number == least):
        bounds = f"{'above' if open_below else 'at least'} {least:g}" + (
            "" if most == np.inf else f" and below {most:g}"
        )
        raise ParameterError(f"{name} must be a number {bounds}, got {shown(value)}")
    return number


def check_one_of(name: str, value: Any, known: Iterable[str]) -> None:
    """ParameterError with the nearest name, unless the value is one of those known."""
    if not isinstance(value, str) or value not in known:
        raise ParameterError(f"unknown {name} {shown(value)}{did_you_mean(str(value)[:20], known)}")


# ---- made ready ------------------------------------------------------------------------------------------------------


def kernel_terms(settings: Mapping[str, Any]) -> _kernels.Terms:
    """What the kernels charge and limit; annual rates become rates of a bar."""
    rebalance, a_year = settings["rebalance"], settings["periods_per_year"]
    return _kernels.Terms(
        cash=settings["cash"],
        fees=settings["fees"],
        slippage=settings["slippage"],
        fixed_fee=settings["fixed_fee"],
        whole_units=settings["whole_units"],
        leverage=settings["leverage"],
        cash_rate=cash_return(settings["cash_rate"], a_year),
        borrow_rate=cash_return(settings["borrow_rate"], a_year),
        band=rebalance + _kernels.ROUNDING if isinstance(rebalance, float) else np.inf,
    )


def columns_of(bars: pd.DataFrame) -> tuple[np.ndarray, ...]:
    """Open, High, Low and Close as fresh arrays; the close four times for a Series of closes."""
    values = bars.to_numpy()  # columns as check_prices orders them
    return tuple(np.array(values[:, place]) for place in (range(4) if values.shape[1] > 1 else (0,) * 4))


def stops_of(given: Mapping[str, ByBar], bars: pd.DataFrame) -> np.ndarray:
    """Stop loss, take profit and trailing stop by bar, shape (n_bars, 3), NaN for none; no rows without any."""
    if all(given[name] is None for name in STOPS):
        return np.empty((0, 3))
    if "Open" not in bars:
        raise ParameterError("a Series of closes has no highs and lows: stops need a DataFrame")
    return np.column_stack([_by_bar(name, given[name], bars.index) for name in STOPS])


def _by_bar(name: str, value: ByBar, index: pd.DatetimeIndex) -> np.ndarray:
    """One distance from the price a bar."""
    most = MOST[name]
    one = check_stop(name, value)
    if one != BY_BAR:
        return np.full(len(index), np.nan if one is None else one)
    if isinstance(value, pd.Series) and not isinstance(value.index, pd.RangeIndex) and not value.index.equals(index):
        raise ParameterError(f"{name}: its index is not that of the prices")
    try:
        if np.asarray(value).dtype.kind not in "iufO":
            raise TypeError
        distances = np.array(value, dtype=float)
    except (TypeError, ValueError):
        raise ParameterError(f"{name} must be numbers, got {shown(value)}") from None
    if distances.shape != (len(index),):
        raise ParameterError(f"{name}: need one number, or one a bar, {len(index)}, got shape {distances.shape}")
    bad = np.flatnonzero(~(np.isnan(distances) | ((distances > 0.0) & (distances < most))))
    if bad.size:
        check_number(f"{name} of bar {bad[0]}", float(distances[bad[0]]), 0.0, most, open_below=True)
    return distances


def scale_of(settings: Mapping[str, Any], close: np.ndarray, stops: np.ndarray) -> np.ndarray:
    """What a target of 1 means at each close; NaN where that is not known."""
    sizing, size = settings["sizing"], settings["size"]
    if sizing == "volatility":
        changes = np.concatenate([[np.nan], close[1:] / close[:-1] - 1.0])
        volatility = rolling_std(changes, settings["lookback"]) * np.sqrt(settings["periods_per_year"])
        return np.divide(size, volatility, out=np.full(close.size, np.nan), where=volatility > 0.0)
    if sizing == "risk":
        return size / np.fmin(stops[:, 0], stops[:, 2])
    return np.full(close.size, size)


def due_bars(rebalance: str | float | None, index: pd.DatetimeIndex) -> np.ndarray:
    """At which closes the calendar calls for a rebalance: every one, or the first of a week or month."""
    due = np.zeros(len(index), dtype=bool)
    if rebalance == "bar":
        due[:] = True
    elif rebalance in ("week", "month"):
        session = index.tz_localize(None)
        days = session.to_numpy().astype("datetime64[D]")
        part = days.astype("datetime64[M]") if rebalance == "month" else (days.astype(np.int64) + 3) // 7  # Monday
        due[1:] = part[1:] != part[:-1]
    return due
