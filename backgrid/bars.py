"""The vocabulary of prices: which symbols, ranges and intervals may be asked for, which bars can be backtested."""

import contextlib
import datetime as dt
import functools
import hashlib
import re
from typing import Any

import numpy as np
import pandas as pd

from backgrid.errors import ParameterError, PricesError, TooFewBarsError, did_you_mean, shown

PRICE_COLUMNS = ["Open", "High", "Low", "Close"]
INTERVALS = ("1m", "2m", "5m", "15m", "30m", "60m", "90m", "1h", "1d", "5d", "1wk", "1mo", "3mo")
SYMBOL = re.compile(r"\^?[A-Z0-9]+(?:[.=-][A-Z0-9]+)*", re.ASCII)
SYMBOL_LENGTH = 20
DAY = 86_400 * 10**9  # nanoseconds
EAGER = int(pd.__version__.split(".")[0]) < 3  # pandas 3 copies where a copy is written, and hands out read-only views


# ---- what may be asked for -------------------------------------------------------------------------------------------


def check_symbol(symbol: Any) -> str:
    """The symbol upper-cased, or ParameterError before it can touch a path, a query or a page."""
    if isinstance(symbol, str) and len(symbol) <= SYMBOL_LENGTH and symbol.isascii():
        upper = symbol.upper()
        if SYMBOL.fullmatch(upper):
            return upper
    raise ParameterError(
        f"symbol {shown(symbol)} is not a ticker: at most {SYMBOL_LENGTH} letters and digits, with single '.', '-' or "
        "'=' between them and '^' in front, such as AAPL, ^GSPC, BRK-B, EURUSD=X"
    )


def check_interval(interval: Any) -> str:
    """The interval, or ParameterError with the nearest one."""
    if not isinstance(interval, str) or interval not in INTERVALS:
        raise ParameterError(f"unknown interval {shown(interval)}{did_you_mean(str(interval)[:9], INTERVALS)}")
    return interval


def check_range(start: Any, end: Any) -> tuple[dt.date | None, dt.date | None]:
    """Both dates, or ParameterError naming the one that is wrong."""
    first, last = check_date(start, "start"), check_date(end, "end")
    if first and last and last < first:
        raise ParameterError(f"end {last} is before start {first}")
    return first, last


def check_date(value: Any, name: str = "the value") -> dt.date | None:
    """A date from a date or ISO text, None for None or empty text, or ParameterError naming what is wrong."""
    if value is None or (isinstance(value, str) and not value):
        return None
    if isinstance(value, dt.datetime):
        if pd.isna(value):
            raise ParameterError(f"{name} is not a date: NaT")
        if value.time() != dt.time() or value.tzinfo is not None:
            raise ParameterError(f"{name} must be a date without a time, got {value.isoformat()}")
        return value.date()
    if isinstance(value, dt.date):
        return value
    if isinstance(value, str):
        with contextlib.suppress(ValueError):
            return dt.date.fromisoformat(value)
    raise ParameterError(f"{name} must be a date such as 2023-12-31, got {shown(value)}")


def float_of(value: Any) -> float:
    """A number as float, NaN for what is none, infinity for an int of 400 digits."""
    if not isinstance(value, (int, float, np.integer, np.floating)) or isinstance(value, bool):
        return float("nan")
    try:
        return float(value)
    except OverflowError:
        return float("inf")


def span_text(first: dt.date | None, last: dt.date | None) -> str:
    """A range as messages show it."""
    return f"{first or 'first bar'}..{last or 'last bar'}"


def cut_range(raw: pd.DataFrame, first: dt.date | None, last: dt.date | None) -> pd.DataFrame:
    """The bars of these days, both inclusive, in the bars' own time zone."""
    if not isinstance(raw.index, pd.DatetimeIndex) or (first is None and last is None):
        return raw
    days = raw.index.tz_localize(None).normalize()
    keep = np.ones(len(raw), dtype=bool)
    if first is not None:
        keep &= days >= pd.Timestamp(first)
    if last is not None:
        keep &= days <= pd.Timestamp(last)
    return raw[keep]


# ---- validation ------------------------------------------------------------------------------------------------------


def check_prices(prices: pd.DataFrame | pd.Series) -> pd.DataFrame:
    """Prices that can be backtested, or PricesError naming the first offending bar.

    Parameters
    ----------
    prices : DataFrame or Series
        Open, High, Low and Close (Volume if there is one), or a Series of closes; a sorted, unique DatetimeIndex.

    Returns
    -------
    DataFrame
        A copy of the bars with float64 columns, a nanosecond index named Date and no attrs; only Close for a Series.

    Raises
    ------
    PricesError
        For a missing column, text, NaN, infinite or non-positive prices, High and Low that do not bracket Open and
        Close, or dates that are missing, unsorted or not unique.
    TooFewBarsError
        For fewer than two bars.
    """
    if not isinstance(prices, (pd.DataFrame, pd.Series)):
        raise PricesError(f"prices must be a DataFrame of bars or a Series of closes, got {type(prices).__name__}")
    frame = prices.to_frame("Close") if isinstance(prices, pd.Series) else prices
    needed = ["Close"] if isinstance(prices, pd.Series) else PRICE_COLUMNS
    check_columns(frame, needed)
    if len(frame) < 2:
        raise TooFewBarsError(f"a backtest needs two bars at least, got {len(frame)}")
    index = check_index(frame.index)
    names = frame.columns.tolist()
    known = tuple(name for name in (*PRICE_COLUMNS, "Volume") if name in names)
    values = frame.to_numpy() if known == tuple(names) else np.empty(0)
    if EAGER or not values.flags.writeable:  # a view of what the caller may change
        values = np.array(values, order="F")
    if values.dtype != np.float64 or not values.size:
        plain = frame.copy(deep=False)
        plain.attrs = {}  # pandas would copy them deeply at every access to a column
        values = np.column_stack([column_numbers(name, plain[name]) for name in known])
    _check_values(values[:, : len(needed)], needed, index)
    if len(needed) > 1:
        _check_brackets(values, index)
    if "Volume" in known:
        volume = values[:, known.index("Volume")]
        bad = (volume < 0.0) | np.isinf(volume)
        if bad.any():
            at = int(bad.argmax())
            where = bar_text(index, at)
            raise PricesError(f"Volume is {volume[at]} on {where}: it must be finite and not negative")
    return pd.DataFrame(values, index=index, columns=labels(known), copy=False)


def labels(names: tuple[str, ...]) -> pd.Index:
    """Names as an Index: one that nobody can change, since pandas builds a table of names for each new one."""
    return _labels(names).view()


@functools.lru_cache(maxsize=64)
def _labels(names: tuple[str, ...]) -> pd.Index:
    index = pd.Index(names)
    if isinstance(index.values, np.ndarray):  # before pandas 3
        index.values.flags.writeable = False
    return index


def hash_bars(bars: pd.DataFrame) -> str:
    """SHA-256 of the numbers: index in nanoseconds, time zone, column names and float64 values."""
    index = bars.index.as_unit("ns")
    digest = hashlib.sha256(f"{index.tz}|{'|'.join(bars.columns)}|{len(bars)}".encode())
    digest.update(index.asi8.astype("<i8").tobytes())
    values = bars.to_numpy(dtype="<f8").T + 0.0  # -0.0 and 0.0 are one number
    values[np.isnan(values)] = np.nan  # and so are all NaN
    digest.update(values.tobytes())
    return digest.hexdigest()


def bar_text(index: pd.Index, at: int) -> str:
    """The label of a bar as messages show it: a date, with the time where there is one."""
    label = index[at]
    if not isinstance(label, pd.Timestamp):
        return str(label)
    return f"{label:%Y-%m-%d}" if label.tz is None and label == label.normalize() else f"{label:%Y-%m-%d %H:%M}"


def check_columns(frame: pd.DataFrame, needed: list[str]) -> None:
    """PricesError unless the frame has each needed column, once."""
    if isinstance(frame.columns, pd.MultiIndex):
        raise PricesError("prices have two levels of columns: select one symbol first, such as prices['AAPL']")
    if not frame.columns.is_unique:
        twice = frame.columns[frame.columns.duplicated()][0]
        raise PricesError(f"prices have two columns named {shown(twice)}: keep one")
    missing = [name for name in needed if name not in frame.columns]
    if missing:
        have = ", ".join(str(c) for c in frame.columns[:9]) or "no columns"
        raise PricesError(f"prices lack {', '.join(missing)}: they have {have}; rename, or pass a Series of closes")


def check_index(index: pd.Index, of: str = "prices") -> pd.DatetimeIndex:
    """Dates in nanoseconds under the name Date, or PricesError naming the first that is missing, unsorted or twice."""
    if not isinstance(index, pd.DatetimeIndex):
        raise PricesError(f"{of} need a DatetimeIndex, got {type(index).__name__} of {index.dtype}")
    if index.hasnans:
        raise PricesError(f"the date of row {int(np.flatnonzero(index.isna())[0])} is missing")
    if not index.is_monotonic_increasing:
        at = int(np.flatnonzero(np.diff(index.asi8) < 0)[0]) + 1
        raise PricesError(f"dates are not sorted: {bar_text(index, at)} comes after {bar_text(index, at - 1)}")
    if not index.is_unique:
        raise PricesError(f"the date {bar_text(index, int(np.flatnonzero(index.duplicated())[0]))} stands twice")
    if index.unit == "ns" and index.name == "Date":
        return index.view()
    try:
        return index.as_unit("ns").rename("Date")
    except pd.errors.OutOfBoundsDatetime:
        raise PricesError(f"dates must lie in 1678..2261, got {index[0]:%Y-%m-%d}..{index[-1]:%Y-%m-%d}") from None


def column_numbers(name: str, column: pd.Series) -> np.ndarray:
    """A column as floats, or PricesError if it holds anything else."""
    if column.dtype == np.float64:
        return column.to_numpy()
    plain = pd.api.types.is_numeric_dtype(column.dtype) and not pd.api.types.is_complex_dtype(column.dtype)
    if not plain or pd.api.types.is_bool_dtype(column.dtype):
        raise PricesError(f"column {name} holds {column.dtype}, not numbers")
    return column.to_numpy(dtype=np.float64, na_value=np.nan)


def _check_values(values: np.ndarray, names: list[str], index: pd.DatetimeIndex) -> None:
    good = (values > 0.0) & (values < np.inf)
    if not good.all():
        column = int((~good).any(axis=0).argmax())
        at = int((~good[:, column]).argmax())
        where = bar_text(index, at)
        raise PricesError(f"{names[column]} is {values[at, column]} on {where}: prices must be finite and above 0")


def _check_brackets(values: np.ndarray, index: pd.DatetimeIndex) -> None:
    open_, high, low, close = values.T[: len(PRICE_COLUMNS)]
    good = (high >= np.maximum(open_, close)) & (low <= np.minimum(open_, close))
    if not good.all():
        at = int(np.flatnonzero(~good)[0])
        raise PricesError(
            f"High and Low do not bracket Open and Close on {bar_text(index, at)}: "
            f"Open {open_[at]:.6g}, High {high[at]:.6g}, Low {low[at]:.6g}, Close {close[at]:.6g}"
        )


# ---- what the bars say about the calendar ----------------------------------------------------------------------------


def infer_periods_per_year(index: pd.DatetimeIndex) -> int:
    """Bars a year, from the bars themselves.

    Parameters
    ----------
    index : DatetimeIndex
        At least two bars; tz-aware times count in their own time zone.

    Returns
    -------
    int
        By the median gap: 252 for daily bars, or 365 where Saturdays and Sundays both have bars; 52 weekly, 26 for
        two weeks, 12 monthly, 4 quarterly, 1 yearly, 365 / gap for two or three days; for intraday bars, bars in the
        median session times 252 or 365.
        [bars per year]
    """
    local = (index if index.tz is None else index.tz_localize(None)).as_unit("ns").asi8
    gaps = np.sort(np.diff(local))  # np.median takes ten times as long
    gap = float(gaps[(gaps.size - 1) // 2] + gaps[gaps.size // 2]) / 2.0 / DAY
    days = local // DAY
    for longest, bars_a_year in ((20.0, 26), (45.0, 12), (120.0, 4), (np.inf, 1)):
        if 10.0 < gap <= longest:
            return bars_a_year
    if gap > 4.0:
        return 52
    if gap > 1.5 and gaps.size > 3 and gaps[0] > DAY:
        return round(365 / gap)
    since_monday = days + 3 - (days + 3) // 7 * 7  # NumPy divides faster than it takes remainders
    weekends = np.bincount(since_monday, minlength=7)[5:]
    sessions = 365 if weekends.min() > 0.05 * days.size else 252  # Sundays alone are a working day somewhere
    if gap >= 1.0:
        return sessions
    bars_a_day = np.diff(np.flatnonzero(np.diff(days, prepend=days[0] - 1, append=days[-1] + 1)))
    return int(np.median(bars_a_day)) * sessions


def longest_gap(index: pd.DatetimeIndex) -> tuple[int, int]:
    """Bar after the longest time without bars, and the number of gaps over four times the median one [bars]."""
    gaps = np.diff(index.asi8)
    return int(gaps.argmax()) + 1, int(np.count_nonzero(gaps > 4.0 * np.median(gaps)))


def drawn_bars(values: np.ndarray, most: int = 2000) -> np.ndarray:
    """Bars that draw the same line on a page: all of a short series, lowest and highest of each stretch of a long one.

    values   float64[n_bars]  NaN where there is nothing to draw
    returns  int64[n_drawn]   sorted, first and last bar and both extremes included, n_drawn <= most + 2
    """
    n_bars = values.size
    if n_bars <= most:
        return np.arange(n_bars)
    stretch = -(-n_bars // (most // 2))
    padded = np.full(-(-n_bars // stretch) * stretch, np.nan)
    padded[:n_bars] = values
    rows = padded.reshape(-1, stretch)
    starts = np.arange(rows.shape[0]) * stretch
    low = starts + np.where(np.isnan(rows), np.inf, rows).argmin(axis=1)
    high = starts + np.where(np.isnan(rows), -np.inf, rows).argmax(axis=1)
    return np.unique(np.concatenate([[0, n_bars - 1], low, high]))


def with_other_columns(bars: pd.DataFrame, prices: pd.DataFrame | pd.Series) -> pd.DataFrame:
    """The bars, and whatever else stood in the caller's frame for the strategy to use."""
    if isinstance(prices, pd.Series) or prices.shape[1] == bars.shape[1]:
        return bars
    others = prices[[column for column in prices.columns if column not in bars.columns]]
    return pd.concat([bars, others.set_axis(bars.index)], axis=1)


def on_these_bars(labels: pd.Index, index: pd.DatetimeIndex) -> bool:
    """Whether a Series has the dates of the bars, or no labels but places."""
    if isinstance(labels, pd.DatetimeIndex):
        return labels.as_unit("ns").equals(index)
    return labels.equals(pd.RangeIndex(len(index)))
