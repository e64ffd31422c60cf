"""Prices in: sources, adjustment, validation, cache and snapshots.

Every source gives *raw* bars: Open High Low Close Volume as traded (splits applied), and where it has them Adj Close,
Dividends and Stock Splits. Raw bars are what is cached and what a snapshot holds; the adjustment for dividends is made
here, on reading, in one place.
"""

import contextlib
import contextvars
import copy
import datetime as dt
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from backgrid.bars import (
    DAY,
    PRICE_COLUMNS,
    bar_text,
    check_columns,
    check_index,
    check_interval,
    check_prices,
    check_range,
    check_symbol,
    column_numbers,
    cut_range,
    hash_bars,
    span_text,
)
from backgrid.cache import cached_bars, keep_snapshot, load_snapshot
from backgrid.errors import (
    BadDataError,
    NoDataError,
    OfflineError,
    ParameterError,
    PricesError,
    UnknownSymbolError,
    did_you_mean,
    shown,
)
from backgrid.settings import setting
from backgrid.yahoo import RAW_COLUMNS, fetch_yahoo

SAMPLE = Path(__file__).parent / "sample"
JUMP = 3.0  # a close this many times the one before, or its inverse, is pointed out

Source = str | os.PathLike | Callable
ASKED = ("symbol", "start", "end", "interval", "source", "adjusted")
Key = tuple[str, dt.date | None, dt.date | None, str, Any, bool]  # of a request, as `request_key` makes it


class _Pins(NamedTuple):
    """Prices that are at hand, by `request_key`."""

    frames: Mapping[Key, pd.DataFrame]
    only: bool  # whether the network is off for all others


_held = _Pins({}, only=False)  # of this process
_pins: contextvars.ContextVar[_Pins | None] = contextvars.ContextVar("pins", default=None)
_log: Path | None = None  # of this process: where it writes what it asked for, and what the prices said of themselves
_fetched: contextvars.ContextVar[dict[Key, pd.DataFrame] | None] = contextvars.ContextVar("fetched", default=None)


def fetch_ohlcv(
    symbol: str,
    start: str | dt.date | None = None,
    end: str | dt.date | None = None,
    *,
    interval: str = "1d",
    source: Source | None = None,
    adjusted: bool = True,
) -> pd.DataFrame:
    """Prices of one symbol, validated.

    Parameters
    ----------
    symbol : str
        Ticker such as AAPL, ^GSPC, BRK-B, EURUSD=X; upper-cased.
    start, end : str or date, optional
        First and last session, both inclusive, as "2023-12-31"; None for all there is.
    interval : str, default "1d"
        Length of a bar: 1m 2m 5m 15m 30m 60m 90m 1h 1d 5d 1wk 1mo 3mo.
    source : str, path or function, optional
        "yahoo" (the default, as BACKGRID_SOURCE overrides), "sample" (real bars inside the package, no network),
        "snapshot:HASH" (bars that an earlier fetch kept), the path of a CSV or Parquet file, or a function of
        (symbol, start, end, interval) that returns a frame.
    adjusted : bool, default True
        Scale Open, High, Low and Close by Adj Close / Close, so that returns include dividends.

    Returns
    -------
    DataFrame
        Open High Low Close Volume [currency; Volume in units], float64; index Date, sorted, unique, datetime64[ns]:
        tz-naive session dates for daily bars and longer, tz-aware times for intraday bars. `attrs` holds symbol,
        source, interval, adjusted, snapshot (SHA-256 of the raw bars) and notes (what was dropped or adjusted).

    Raises
    ------
    ParameterError
        For a symbol, range, interval or source that cannot be asked for.
    DataFetchError
        If the prices cannot be had (see its subclasses), or fail validation (BadDataError).
    """
    key = request_key(symbol, start, end, interval, source, adjusted)
    if not isinstance(key[4], str):  # a function may give something else each time
        prices = _fetch(*key)
        _log_read(key, prices)
        return prices
    frames, _ = pins()
    prices = frames[key] if key in frames else _fetch(*key)
    if (fetched := _fetched.get()) is not None:
        fetched[key] = prices
    _log_read(key, prices)
    given = prices.copy()
    given.attrs = copy.deepcopy(prices.attrs)
    return given


def request_key(symbol: str, start: Any, end: Any, interval: str, source: Source | None, adjusted: bool) -> Key:
    """The arguments of `fetch_ohlcv`, checked, in the one form that all ways to write them have."""
    symbol = check_symbol(symbol)
    first, last = check_range(start, end)
    interval = check_interval(interval)
    if not isinstance(adjusted, bool):
        raise ParameterError(f"adjusted must be True or False, got {shown(adjusted)}")
    named = setting("BACKGRID_SOURCE") if source is None else source
    return symbol, first, last, interval, os.fspath(named) if isinstance(named, os.PathLike) else named, adjusted


@contextlib.contextmanager
def pinned(frames: Mapping[Key, pd.DataFrame], *, only: bool = True) -> Iterator[None]:
    """Within it, `fetch_ohlcv` gives these prices for these requests.

    frames   prices with their attrs, by `request_key`
    only     whether a request that is none of these and needs the network raises OfflineError
    """
    token = _pins.set(_Pins(frames, only))
    try:
        yield
    finally:
        _pins.reset(token)


def hold(frames: Mapping[Key, pd.DataFrame], only: bool) -> None:
    """As `pinned`, for a whole process from now on."""
    global _held
    _held = _Pins(frames, only)


def log_prices(path: Path) -> None:
    """Write a line of JSON for all that `fetch_ohlcv` gives in this process from now on."""
    global _log
    _log = path


def _log_read(key: Key, prices: pd.DataFrame) -> None:
    """Write down a request by the names of its arguments, and what its prices said of themselves."""
    if _log is None:
        return
    plain = [part.isoformat() if isinstance(part, dt.date) else part for part in key]
    asked = dict(zip(ASKED, plain, strict=True))
    if callable(asked["source"]):
        asked["source"] = prices.attrs["source"]
    with _log.open("a", encoding="utf-8") as file:
        file.write(json.dumps({"asked": asked, "given": prices.attrs}) + "\n")


def pins() -> tuple[Mapping[Key, pd.DataFrame], bool]:
    """What is pinned, and whether the network is off for all else."""
    return _pins.get() or _held


@contextlib.contextmanager
def noting_prices() -> Iterator[dict[Key, pd.DataFrame]]:
    """Within it, what `fetch_ohlcv` gives is noted by `request_key`; a function as a source is not."""
    fetched: dict[Key, pd.DataFrame] = {}
    token = _fetched.set(fetched)
    try:
        yield fetched
    finally:
        _fetched.reset(token)


def _fetch(
    symbol: str, first: dt.date | None, last: dt.date | None, interval: str, source: Source, adjusted: bool
) -> pd.DataFrame:
    """Prices of a checked request, from their source."""
    raw, name, notes = _read_source(source, symbol, first, last, interval)
    span = span_text(first, last)
    try:
        raw, dropped = _tidy_range(raw, first, last, interval) if len(raw) else (raw, [])
        if raw.empty:
            raise NoDataError(symbol, span, f"{name} has no bars in this range", "Check the dates, or widen the range.")
        traded = check_prices(raw[[c for c in (*PRICE_COLUMNS, "Volume") if c in raw]])
        prices, adjustments = _adjust(traded, raw, adjusted)
    except PricesError as error:
        raise BadDataError(symbol, span, f"{name}: {error}", "Mend the data, or take another source.") from error
    # the package itself keeps the sample
    snapshot = hash_bars(raw) if name == "sample" else keep_snapshot(raw, symbol, interval)
    prices.attrs = {
        "symbol": symbol,
        "source": name,
        "interval": interval,
        "adjusted": adjusted and "Adj Close" in raw,
        "snapshot": snapshot,
        "notes": [*notes, *dropped, *adjustments, *_naive_times(prices.index), *_jumps(prices["Close"])],
    }
    return prices


def fetch_many(
    symbols: str | Iterable[str],
    start: str | dt.date | None = None,
    end: str | dt.date | None = None,
    *,
    interval: str = "1d",
    source: Source | None = None,
    adjusted: bool = True,
) -> dict[str, pd.DataFrame]:
    """Prices of several symbols, each as `fetch_ohlcv` gives them, by symbol in the order asked for.

    Parameters
    ----------
    symbols : str or iterable of str
        Tickers; in one text, separated by blanks or commas.
    start, end, interval, adjusted
        As in `fetch_ohlcv`, the same for all.
    source : str, path or function, optional
        As in `fetch_ohlcv`; for files a path with {symbol} in it, such as "prices/{symbol}.csv".

    Returns
    -------
    dict
        Symbol, upper-cased, to prices.

    Raises
    ------
    ParameterError
        If no symbol is given, one stands twice, or a path is the same for all; else as `fetch_ohlcv`.
    DataFetchError
        Of the first symbol that cannot be had, naming it.
    """
    wanted = _symbols(symbols)
    path = os.fspath(source) if isinstance(source, (str, os.PathLike)) else ""
    if len(wanted) > 1 and Path(path).suffix.lower() in (".csv", ".parquet") and "{symbol}" not in path:
        raise ParameterError(
            f"{shown(path)} would be read for each of {len(wanted)} symbols: put {{symbol}} in its name"
        )
    return {
        symbol: fetch_ohlcv(
            symbol,
            start,
            end,
            interval=interval,
            source=path.replace("{symbol}", symbol) if path else source,
            adjusted=adjusted,
        )
        for symbol in wanted
    }


def _symbols(symbols: Any) -> list[str]:
    """Tickers from a text or an iterable, upper-cased, each once."""
    listed = symbols.replace(",", " ").split() if isinstance(symbols, str) else symbols
    if not isinstance(listed, Iterable) or isinstance(listed, Mapping):
        raise ParameterError(f"symbols must be tickers separated by blanks, or a list of them, got {shown(symbols)}")
    checked = [check_symbol(symbol) for symbol in listed]
    if not checked:
        raise ParameterError("symbols must name at least one ticker, got none")
    twice = [symbol for place, symbol in enumerate(checked) if symbol in checked[:place]]
    if twice:
        raise ParameterError(f"symbols: {twice[0]} stands twice")
    return checked


# ---- sources ---------------------------------------------------------------------------------------------------------


def _read_source(
    source: Source, symbol: str, first: dt.date | None, last: dt.date | None, interval: str
) -> tuple[pd.DataFrame, str, list[str]]:
    """Raw bars, the name of their source, and what it has to say about them."""
    if callable(source):
        return _call_source(source, symbol, first, last, interval)
    if source == "sample":
        return _read_sample(symbol, first, last, interval), "sample", []
    if source == "yahoo":
        if pins()[1]:
            cause = "nothing is downloaded while a report is run again from its snapshots"
            raise OfflineError(symbol, span_text(first, last), cause, "Pin these prices too.")
        raw, notes = cached_bars(symbol, first, last, interval, fetch_yahoo)
        return raw, "yahoo", notes
    text = os.fspath(source) if isinstance(source, (str, os.PathLike)) else ""
    if text.startswith("snapshot:"):
        return _read_snapshot(text, symbol, interval, span_text(first, last)), text, []
    if Path(text).suffix.lower() in (".csv", ".parquet"):
        return _read_file(Path(text), symbol, span_text(first, last)), Path(text).name, []
    raise ParameterError(
        f"unknown source {shown(source)}{did_you_mean(text[:20], ['sample', 'yahoo'])}, snapshot:HASH, "
        "a path ending in .csv or .parquet, or a function"
    )


def _call_source(function: Callable, symbol: str, first: Any, last: Any, interval: str) -> Any:
    name = f"function {getattr(function, '__name__', type(function).__name__)}"
    raw = function(symbol, first, last, interval)
    if not isinstance(raw, pd.DataFrame):
        cause = f"{name} returned {type(raw).__name__}"
        raise BadDataError(symbol, span_text(first, last), cause, "Return a DataFrame of bars.")
    return raw, name, []


def _read_snapshot(source: str, symbol: str, interval: str, span: str) -> pd.DataFrame:
    kept = load_snapshot(source.removeprefix("snapshot:"))
    if kept is None:
        raise NoDataError(symbol, span, f"there is no intact {shown(source)}", "Fetch again without pinning.")
    raw, facts = kept
    if (facts["symbol"], facts["interval"]) != (symbol, interval):
        cause = f"this snapshot is of {facts['symbol']} {facts['interval']}, not of {symbol} {interval}"
        raise NoDataError(symbol, span, cause, "Ask for what it holds.")
    return raw


def sample_symbols() -> list[tuple[str, str]]:
    """Symbol and interval of every series in the embedded sample."""
    listed = [path.stem.rsplit("_", 1) for path in sorted(SAMPLE.glob("*.parquet"))]
    return [("^GSPC" if stem == "GSPC" else stem.replace("-X", "=X"), interval) for stem, interval in listed]


def _read_sample(symbol: str, first: dt.date | None, last: dt.date | None, interval: str) -> pd.DataFrame:
    path = SAMPLE / f"{symbol.removeprefix('^').replace('=', '-')}_{interval}.parquet"
    if (symbol, interval) not in sample_symbols():
        held = ", ".join(f"{s} {i}" for s, i in sample_symbols())
        cause = f"the embedded sample has no {interval} bars of it"
        raise UnknownSymbolError(symbol, span_text(first, last), cause, f"It holds {held}.")
    return pd.read_parquet(path)


def _read_file(path: Path, symbol: str, span: str) -> pd.DataFrame:
    """Bars from a file with a date column (or, in Parquet, a date index); column names in any case."""
    try:
        frame = pd.read_csv(path) if path.suffix.lower() == ".csv" else pd.read_parquet(path)
    except FileNotFoundError:
        raise NoDataError(symbol, span, f"there is no file {path}", "Check the path.") from None
    except Exception as error:  # pandas and pyarrow raise many kinds for a damaged file
        raise BadDataError(symbol, span, f"{path.name} cannot be read: {error}", "Check the file.") from error
    if isinstance(frame.index, pd.DatetimeIndex):
        return frame
    dates = [c for c in frame.columns if str(c).lower() in ("date", "datetime", "time", "timestamp")]
    if len(dates) != 1:
        cause = f"{path.name} has {len(dates) or 'no'} date column{'s' if len(dates) > 1 else ''}"
        raise BadDataError(symbol, span, cause, "Name one column Date.")
    try:
        return frame.drop(columns=dates).set_axis(_iso_dates(frame[dates[0]]))
    except (ValueError, TypeError) as error:
        cause = f"{path.name}: {str(error).splitlines()[0]}"
        raise BadDataError(symbol, span, cause, "Write dates as 2023-12-31, times with one time zone.") from error


def _iso_dates(column: pd.Series) -> pd.DatetimeIndex:
    """Dates from ISO text; numbers could be days, seconds or nanoseconds, and 03/01/2023 is two dates."""
    if pd.api.types.is_datetime64_any_dtype(column.dtype) or column.empty:
        return pd.DatetimeIndex(column)
    if pd.api.types.is_numeric_dtype(column.dtype):
        raise ValueError(f"column {column.name} holds {column.dtype}, not dates")
    return pd.DatetimeIndex(pd.to_datetime(column, format="ISO8601"))


# ---- from raw bars to prices -----------------------------------------------------------------------------------------


def _tidy_range(
    raw: pd.DataFrame, first: dt.date | None, last: dt.date | None, interval: str
) -> tuple[pd.DataFrame, list[str]]:
    """The bars of a range in our form, without a last one that has no prices yet, and a note of that."""
    whole = _tidy(raw, interval)
    bars = cut_range(whole, first, last)
    if bars.empty or bars.index[-1] != whole.index[-1] or not bars.iloc[-1][PRICE_COLUMNS].isna().any():
        return bars, []
    return bars.iloc[:-1], [
        f"dropped the last bar {bar_text(bars.index, len(bars) - 1)}: it has no complete prices yet"
    ]


def _tidy(raw: pd.DataFrame, interval: str) -> pd.DataFrame:
    """Known columns as floats under their usual names and in their usual order, index Date in nanoseconds."""
    usual = {name.lower().replace(" ", "_"): name for name in RAW_COLUMNS}
    names = {column: usual.get(str(column).strip().lower().replace(" ", "_")) for column in raw.columns}
    known = [name for name in names.values() if name]
    if len(set(known)) < len(known):
        raise PricesError(f"two columns have the same meaning: {', '.join(map(str, raw.columns))}")
    renamed = raw.rename(columns={column: name for column, name in names.items() if name})
    check_columns(renamed, PRICE_COLUMNS)
    index = check_index(renamed.index)
    _check_spacing(index, interval)
    if interval.endswith(("d", "wk", "mo")):
        sessions = index.tz_localize(None).normalize()
        if not sessions.is_unique:
            raise PricesError(f"several bars lie within one day: interval {interval!r} is not theirs")
        index = sessions
    return pd.DataFrame({n: column_numbers(n, renamed[n]) for n in RAW_COLUMNS if n in renamed}, index=index)


def _check_spacing(index: pd.DatetimeIndex, interval: str) -> None:
    """PricesError if the bars lie so far apart that they cannot be of this interval."""
    widest = {"1d": 4.0, "5d": 10.0, "1wk": 10.0, "1mo": 45.0, "3mo": 120.0}.get(interval, 0.9)
    if len(index) > 2 and (days := float(np.median(np.diff(index.asi8))) / DAY) > widest:
        raise PricesError(f"the bars lie {days:.3g} days apart: interval {interval!r} is not theirs")


def _adjust(traded: pd.DataFrame, raw: pd.DataFrame, adjusted: bool) -> tuple[pd.DataFrame, list[str]]:
    """Prices with dividends worked in, and a note of what was done."""
    if not adjusted:
        return traded, []
    if "Adj Close" not in raw:
        return traded, ["not adjusted for dividends: the source gives no adjusted close"]
    factor = raw["Adj Close"].to_numpy() / raw["Close"].to_numpy()
    bad = np.flatnonzero(~((factor > 0.0) & (factor < np.inf)))
    if bad.size:
        raise PricesError(f"Adj Close / Close of {bar_text(raw.index, int(bad[0]))} is {factor[bad[0]]}")
    scaled = {name: traded[name] * factor for name in PRICE_COLUMNS}  # one factor for all four keeps High >= Close
    steps = int((np.abs(np.diff(np.log(factor))) > 1e-3).sum())
    counted = f"{steps} step{'s' * (steps != 1)} above 0.1 %"
    note = f"adjusted by Adj Close / Close, {factor[0]:.4f} at the first bar, {counted}"
    return pd.DataFrame({**traded, **scaled}), [note]


def _naive_times(index: pd.DatetimeIndex) -> list[str]:
    within_day = index.tz is None and not index.equals(index.normalize())
    return ["the times carry no time zone: they are taken as they stand"] if within_day else []


def _jumps(close: pd.Series) -> list[str]:
    ratio = close.to_numpy()[1:] / close.to_numpy()[:-1]
    far = np.flatnonzero((ratio >= JUMP) | (ratio <= 1.0 / JUMP))
    notes = [f"the close of {bar_text(close.index, k + 1)} is {ratio[k]:.3g} times the one before" for k in far[:5]]
    return notes if far.size <= 5 else [*notes, f"and {far.size - 5:,} more such jumps"]
