"""Bars from Yahoo Finance through yfinance: raw, with every failure as one DataFetchError that says what to do.

yfinance is one client a process, remembers failed answers, hides errors and adjusts prices behind one's back; all of
that is dealt with here, and nowhere else is it imported.
"""

import contextlib
import datetime as dt
import functools
import logging
import random
import re
import threading
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from backgrid.bars import bar_text, cut_range, span_text
from backgrid.errors import (
    BadDataError,
    DataFetchError,
    NoDataError,
    OfflineError,
    RateLimitedError,
    UnknownSymbolError,
    UpstreamError,
    shown,
)
from backgrid.settings import setting

RAW_COLUMNS = ["Open", "High", "Low", "Close", "Volume", "Adj Close", "Dividends", "Stock Splits"]
_OLDEST = dt.date(1900, 1, 2)
_TRIES = 3
_LAG = pd.Timedelta(minutes=30)  # the most by which Yahoo's quotes trail an exchange
_YAHOO = threading.Lock()  # yfinance has one session, one response cache and one set of switches a process
_LONG_BARS = {
    "5d": pd.DateOffset(days=5),
    "1wk": pd.DateOffset(weeks=1),
    "1mo": pd.DateOffset(months=1),
    "3mo": pd.DateOffset(months=3),
}
_OTHER_SYMBOL = "Check how Yahoo spells the symbol (BRK-B, ^GSPC, SAP.DE), or use source='sample'."
_OTHER_DATES = (
    "Choose other dates: these may hold only weekends or holidays, lie before the first trading day, "
    "or be too old for this interval."
)
_WAIT = "Wait a few minutes, or use source='sample'."
_CONNECT = "Check the network connection, or use source='sample'."
_LATER = "Try again later, or use source='sample'."
_sleep = time.sleep  # tests put their own here


def _cache_folder() -> Path:
    """Where yfinance keeps time zones and cookies."""
    return Path(setting("BACKGRID_CACHE")) / "yfinance"


# ---- download --------------------------------------------------------------------------------------------------------


def fetch_yahoo(
    symbol: str, first: dt.date | None, last: dt.date | None, interval: str
) -> tuple[pd.DataFrame, list[str]]:
    """Whole bars from Yahoo, and a note of a last one that was still traded and therefore dropped."""
    raw, notes = _download_yahoo(symbol, first, last, interval), []
    if raw.attrs["unfinished"]:
        notes = [f"dropped the last bar {bar_text(raw.index, len(raw) - 1)}: it was still being traded"]
        raw = raw.iloc[:-1]
    if raw.empty:
        raise NoDataError(symbol, span_text(first, last), "the only bar is still being traded", _OTHER_DATES)
    raw.attrs = {}  # pandas would copy them deeply at every access to a column
    return raw, notes


def _download_yahoo(
    symbol: str, start: dt.date | None, end: dt.date | None, interval: str, session: Any = None
) -> pd.DataFrame:
    """Bars from Yahoo as yfinance hands them over: not adjusted, not checked, an unfinished last bar included.

    Parameters
    ----------
    symbol : str
        As Yahoo spells it; the caller has checked its form.
    start, end : date or None
        First and last day, both inclusive; None for as far as Yahoo goes.
    interval : str
        Length of a bar as Yahoo names it: "1d", "15m", "1wk".
    session : curl_cffi or requests session, optional
        What yfinance talks through from now on, in the whole process.

    Returns
    -------
    DataFrame
        Index `Date` in nanoseconds: tz-naive session dates, or exchange time for bars shorter than a day.
        Columns float64: Open High Low Close Volume, Adj Close where Yahoo sent it (never within the day),
        Dividends, Stock Splits. Yahoo has taken splits out of prices, volume and dividends already.
        `attrs`: currency, timezone, instrument, unfinished (whether the last bar was still traded).

    Raises
    ------
    DataFetchError
        One of its subclasses: at once for an unknown symbol or an empty range, else after three tries.
    """
    span = span_text(start, end)
    for attempt in range(_TRIES):
        if attempt:  # a generator of its own, since the global one may have been seeded by the user
            _sleep(2.0 ** (attempt - 1) * random.Random().uniform(0.5, 1.5))
        answers: list[Any] = []
        try:
            with _YAHOO, _quiet_yfinance(answers) as yfinance:
                bars = yfinance.Ticker(symbol, session=session).history(
                    **_range(start, end),
                    interval=interval,
                    auto_adjust=False,
                    actions=True,
                    keepna=interval != "30m",  # made of 15m with an empty row for each half hour of a weekend
                )
        except Exception as error:  # whatever its HTTP client, its JSON parser or pandas raise
            failure, passing = _as_fetch_error(error, *_last_answer(answers), symbol, span)
            if not passing or attempt == _TRIES - 1:
                raise failure from error
        else:
            break
    result = _at(_last_answer(answers)[1], "chart", "result", 0)
    _refuse_repeated(result, interval, symbol, span)
    bars = _as_raw_bars(bars, result, interval)
    bars = cut_range(bars, start, end)
    if bars.empty:  # Yahoo may append the latest price to a range that holds none
        raise NoDataError(symbol, span, "Yahoo has no bars in this range", _OTHER_DATES)
    bars.attrs["unfinished"] = _is_unfinished(bars.index[-1], interval, _at(result, "meta"))
    return bars


def _refuse_repeated(result: Any, interval: str, symbol: str, span: str) -> None:
    """BadDataError for two bars of one time, of which yfinance would keep the first; the last may be a live price."""
    times = pd.to_datetime(_at(result, "timestamp") or [], unit="s", utc=True)[:-1]
    times = times.tz_convert(_at(result, "meta", "exchangeTimezoneName") or "UTC")
    times = times if _within_day(interval) else times.normalize()
    if not times.is_unique:
        twice = bar_text(times.tz_localize(None), int(times.duplicated().argmax()))
        raise BadDataError(symbol, span, f"Yahoo: the date {twice} stands twice", _LATER)


def _range(start: dt.date | None, end: dt.date | None) -> dict[str, Any]:
    """Arguments of Ticker.history, whose end is exclusive and which takes a month where it has no start.

    Both lie some hours outside the range, which is cut afterwards: yfinance fails at a midnight that the clock skips.
    """
    tomorrow = dt.datetime.now(dt.UTC).date() + dt.timedelta(days=1)
    before = None if start is None else dt.datetime.combine(max(start, _OLDEST), dt.time()) - dt.timedelta(hours=2)
    after = None if end is None else dt.datetime.combine(min(end, tomorrow), dt.time()) + dt.timedelta(hours=28)
    return {"period": "max", "end": after} if before is None else {"start": before, "end": after}


def _as_raw_bars(bars: pd.DataFrame, result: Any, interval: str) -> pd.DataFrame:
    """The frame of yfinance in Backgrid's form; `result` is the JSON it was made of."""
    index = bars.index if _within_day(interval) else bars.index.tz_localize(None).normalize()
    bars = bars.set_axis(index.as_unit("ns").rename("Date"))
    given = _at(result, "indicators", "adjclose") is not None
    bars = bars[[name for name in RAW_COLUMNS if given or name != "Adj Close"]].astype("float64")
    bars.attrs = {
        "currency": _at(result, "meta", "currency"),
        "timezone": _at(result, "meta", "exchangeTimezoneName"),
        "instrument": _at(result, "meta", "instrumentType"),
    }
    return bars


# ---- yfinance, tamed -------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _quiet_yfinance(answers: list[Any]) -> Iterator[Any]:
    """yfinance that raises, says nothing and has forgotten earlier answers; chart answers go to `answers`.

    Its client is listened to because it tells neither the status of an answer, nor Yahoo's reason in all
    cases, nor whether adjusted closes were sent (it fills them with the closes). Hold _YAHOO meanwhile.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # yfinance 1.7.0 uses what pandas 3.1 deprecates
        import yfinance
        from yfinance.data import YfData

        logger, debug = logging.getLogger("yfinance"), yfinance.config.debug
        muted, hidden = logger.disabled, debug.hide_exceptions
        try:
            logger.disabled, debug.hide_exceptions = True, False
            _keep_yfinance_files_in(_cache_folder())
            YfData.cache_get.cache_clear()  # it would repeat the last 64 answers, failures too
            with _listening(YfData(), answers):
                yield yfinance
        finally:
            logger.disabled, debug.hide_exceptions = muted, hidden


@contextlib.contextmanager
def _listening(client: Any, answers: list[Any]) -> Iterator[None]:
    """Chart answers that yfinance's client receives meanwhile are appended to `answers`."""
    get = client.get

    def listening_get(url: str, params: Any = None, timeout: Any = 30) -> Any:
        answer = get(url, params, timeout)
        if "/finance/chart/" in url:
            answers.append(answer)
        return answer

    client.get = listening_get
    try:
        yield
    finally:
        del client.get


@functools.lru_cache(maxsize=1)
def _keep_yfinance_files_in(folder: Path) -> None:
    """Time zones and cookies; it works before yfinance's first request only, and never needs repeating."""
    import yfinance

    yfinance.set_tz_cache_location(str(folder))


def _last_answer(answers: list[Any]) -> tuple[int, Any]:
    """HTTP status and JSON of Yahoo's last chart answer, its text where that is no JSON; 0 if there was none."""
    if not answers:
        return 0, None
    try:
        return answers[-1].status_code, answers[-1].json()
    except ValueError:
        return answers[-1].status_code, answers[-1].text


def _at(tree: Any, *path: str | int) -> Any:
    """What lies at the end of a path through JSON, or None."""
    for step in path:
        try:
            tree = tree[step]
        except (KeyError, IndexError, TypeError):
            return None
    return tree


# ---- what went wrong -------------------------------------------------------------------------------------------------


def _as_fetch_error(error: Exception, status: int, answer: Any, symbol: str, span: str) -> tuple[DataFetchError, bool]:
    """What a failed try means, and whether another one may go better."""
    name = type(error).__name__
    reason = _at(answer, "chart", "error", "description") or _at(answer, "finance", "error", "description")
    if status == 404 and reason:
        return UnknownSymbolError(symbol, span, reason, _OTHER_SYMBOL), False
    if name == "YFRateLimitError":
        return RateLimitedError(symbol, span, str(error), _WAIT), True
    if _is_lost_connection(error):
        return OfflineError(symbol, span, str(error).split(" See https://")[0], _CONNECT), True
    if status >= 500 or status in (401, 403) or isinstance(answer, str):
        words = " ".join(re.sub(r"<[^>]*>", " ", str(answer)).split())  # of a page without its tags
        said = reason or (shown(words) if words else "an empty page")
        return UpstreamError(symbol, span, f"HTTP {status}: {said}", _LATER), True
    if reason:
        return NoDataError(symbol, span, reason, _OTHER_DATES), False
    if name == "YFPricesMissingError" and _at(answer, "chart", "result", 0, "meta"):
        return NoDataError(symbol, span, "Yahoo has no bars in this range", _OTHER_DATES), False
    if name == "YFTzMissingError" or str(error).startswith("Invalid ISIN"):
        return UnknownSymbolError(symbol, span, str(error), _OTHER_SYMBOL), False
    said = f"HTTP {status}: an answer that cannot be read ({name})" if status else f"{name}: {error}"
    return UpstreamError(symbol, span, said, _LATER), False


def _is_lost_connection(error: Exception) -> bool:
    """A failure before any status: curl_cffi and requests make everything an OSError, bad JSON and 404 too."""
    answered = getattr(getattr(error, "response", None), "status_code", 0)
    return isinstance(error, OSError) and not isinstance(error, ValueError) and not answered


# ---- the last bar ----------------------------------------------------------------------------------------------------


def _is_unfinished(label: pd.Timestamp, interval: str, meta: Any, now: pd.Timestamp | None = None) -> bool:
    """Whether the bar of that label was still traded: by Yahoo's clock, and by ours less Yahoo's lag.

    `meta` is the chart's: its current session is today's until some hours after the close, then the next one;
    its market time is that of the last trade, which for a thinly traded symbol may stay before the close, so
    our clock has the last word. A week or month is over after its last weekday (crypto: day).
    """
    timezone = _at(meta, "exchangeTimezoneName") or "UTC"
    opens = _as_time(_at(meta, "currentTradingPeriod", "regular", "start"), timezone)
    closes = _as_time(_at(meta, "currentTradingPeriod", "regular", "end"), timezone)
    traded = _as_time(_at(meta, "regularMarketTime"), timezone)
    if label.tz is None:
        label = label.tz_localize(timezone, ambiguous=True, nonexistent="shift_forward")
    last_day = label.normalize()
    if interval in _LONG_BARS:
        last_day = last_day + _LONG_BARS[interval] - pd.DateOffset(days=1)
        if _at(meta, "instrumentType") != "CRYPTOCURRENCY":
            last_day = pd.offsets.BDay().rollback(last_day)
    over = last_day + pd.DateOffset(days=1)
    if opens is not None and closes is not None:
        if last_day < opens.normalize():
            return False
        if last_day == opens.normalize():
            over = closes
    if _within_day(interval):
        over = min(over, label + pd.Timedelta(interval.replace("m", "min")))
    now = now or pd.Timestamp.now("UTC")
    return bool((traded is None or traded < over) and now < over + _LAG)


def _as_time(second: int | None, timezone: str) -> pd.Timestamp | None:
    return None if second is None else pd.Timestamp(second, unit="s", tz="UTC").tz_convert(timezone)


def _within_day(interval: str) -> bool:
    return interval[-1] in "mh"
