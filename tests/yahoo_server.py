"""A stand-in for Yahoo Finance on 127.0.0.1, for the real yfinance client.

It speaks the chart JSON that yfinance reads (bars, dividends, splits, adjusted closes, trading hours) and
fails when told to, so downloads and their failures are tested without a network:

    reset_yfinance(tmp_path)
    with YahooServer() as server:
        server.serve("AAPL", bars, dividends={"2024-02-09": 0.24})
        server.answer_with(*RATE_LIMITED, times=2)
        yfinance.Ticker("AAPL", session=server.session()).history(start="2024-01-02", auto_adjust=False)
        assert len(server.chart_requests) == 4

`with serving_yahoo(tmp_path) as server:` does that for a fetch_ohlcv, which gives no session of its own.

yfinance repeats a request that answered 400 or above once, by itself, with another cookie. So one try of a
client against a standing fault costs two chart requests, and `times=2` is one failed try.
"""

import contextlib
import json
import logging
import socket
import threading
import warnings
import weakref
from dataclasses import dataclass
from fractions import Fraction
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

import curl_cffi.requests
import pandas as pd
from curl_cffi import CurlOpt

CHART, DETAILS = "/v8/finance/chart/", "/v10/finance/quoteSummary/"
VALID_RANGES = ["1d", "5d", "1mo", "3mo", "6mo", "1y", "2y", "5y", "10y", "ytd", "max"]
PAGE = "<!DOCTYPE html><html><head><title>Yahoo</title></head><body>{}</body></html>"
JSON, HTML, TEXT = "application/json", "text/html", "text/plain"


def chart_error(code, description):
    """The body with which the chart endpoint explains a refusal."""
    return json.dumps({"chart": {"result": None, "error": {"code": code, "description": description}}})


# Faults, as the arguments of YahooServer.answer_with: status, body, content type. The wording is Yahoo's.
RATE_LIMITED = (429, "Too Many Requests\r\n", TEXT)
NOT_FOUND = (404, chart_error("Not Found", "No data found, symbol may be delisted"), JSON)
TOO_OLD = (422, chart_error("Unprocessable Entity", "15m data must be within the last 60 days."), JSON)
INVALID_CRUMB = (401, chart_error("Unauthorized", "Invalid Crumb").replace("chart", "finance"), JSON)
SERVER_ERROR = (500, PAGE.format("Internal Server Error"), HTML)
BAD_GATEWAY = (502, chart_error("Bad Gateway", "upstream connect error"), JSON)
DOWN = (200, PAGE.format("<h1>Will be right back...</h1>"), HTML)
NOTHING = (200, json.dumps({"chart": {"result": None, "error": None}}), JSON)
HANG_UP = (0, "", TEXT)  # the connection is closed without an answer


class LoopbackSession(curl_cffi.requests.Session):
    """A session that sends every request to 127.0.0.1:`port`, with its path and query as they are."""

    def __init__(self, port, **options):
        super().__init__(curl_options={CurlOpt.NOPROXY: b"*"}, **options)  # whatever the environment says
        self.port = port

    def request(self, method, url, *args, **kwargs):
        """As the parent's, at the loopback server."""
        url = urlsplit(url)._replace(scheme="http", netloc=f"127.0.0.1:{self.port}").geturl()
        return super().request(method, url, *args, **kwargs)


def refused_session():
    """A session whose connections are refused: its port is held by a socket that does not listen."""
    held = socket.socket()
    held.bind(("127.0.0.1", 0))
    session = LoopbackSession(held.getsockname()[1])
    weakref.finalize(session, held.close)  # until then no other process gets the port
    return session


def reset_yfinance(folder):
    """Forget what yfinance keeps in the process, and keep its time zones and cookies in `folder` from now on.

    Kept are one session, cookie and crumb (YfData, a singleton), 64 responses, failed ones too (cache_get), a
    SQLite file of time zones, a count of look-ups of unknown symbols, and the switches under yfinance.config.
    """
    import yfinance
    from yfinance import base, cache, data

    data.YfData.cache_get.cache_clear()
    data.SingletonMeta._instances.pop(data.YfData, None)
    base._tz_info_fetch_ctr = 0
    yfinance.set_tz_cache_location(str(folder))
    cache._TzCacheManager._tz_cache = None  # else the old file stays in use
    cache._CookieCacheManager._Cookie_cache = None
    cache._ISINCacheManager._isin_cache = None
    yfinance.config.debug.hide_exceptions = True
    yfinance.config.network.retries, yfinance.config.network.proxy = 0, None
    logging.getLogger("yfinance").disabled = False


@contextlib.contextmanager
def serving_yahoo(folder, session=None):
    """A YahooServer that everything in this process takes for Yahoo; or let it talk through another `session`."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the import
        reset_yfinance(folder)
    from yfinance.data import YfData

    with YahooServer() as server:
        YfData(session=session or server.session())
        yield server
    reset_yfinance(folder)


@dataclass(frozen=True)
class Listing:
    """One symbol at one interval, as served."""

    symbol: str
    interval: str
    bars: pd.DataFrame  # Open High Low Close Volume, Adj Close where Yahoo gives it; index of epoch seconds
    dividends: dict  # epoch second -> amount
    splits: dict  # epoch second -> (numerator, denominator)
    timezone: str
    currency: str
    instrument: str
    session: tuple  # epoch seconds of the current session's open and close
    market_time: int  # epoch second of the last trade
    hours: tuple  # of each session, as "09:30"
    live_row: bool  # the last price once more at market_time, whatever the range

    @property
    def intraday(self):
        """Whether bars are shorter than a day."""
        return self.interval[-1] in "mh"


@dataclass
class Fault:
    """One scripted answer, given to requests that hold `match` until `left` runs out (None: for ever)."""

    status: int
    body: str
    content_type: str
    match: str
    left: int | None


class YahooServer:
    """Yahoo Finance on a free loopback port while in `with`; `requests` lists each path with its query."""

    def __init__(self):
        self.requests = []
        self._listings, self._faults, self._lock = {}, [], threading.Lock()

    def __enter__(self):
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), _handler_of(self))
        self._thread = threading.Thread(target=self._http.serve_forever, args=[0.02], daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *exception):
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    @property
    def port(self):
        """The port, from `with` on."""
        return self._http.server_port

    @property
    def chart_requests(self):
        """The requests for prices alone: not those for cookies, crumbs and company details."""
        return [path for path in self.requests if path.startswith(CHART)]

    def session(self):
        """A new session for `yfinance.Ticker(symbol, session=...)`."""
        return LoopbackSession(self.port)

    def serve(
        self,
        symbol,
        bars,
        *,
        dividends=None,
        splits=None,
        adjclose=True,
        interval="1d",
        timezone="America/New_York",
        currency="USD",
        instrument="EQUITY",
        hours=("09:30", "16:00"),
        session=None,
        market_time=None,
        live_row=False,
    ):
        """Know `symbol` from now on, with these bars.

        Parameters
        ----------
        symbol : str
        bars : DataFrame
            Open, High, Low, Close, Volume and perhaps Adj Close; NaN becomes null. A tz-naive index of dates
            is stamped with the session's open, as Yahoo does; a tz-aware one is sent as it is.
        dividends, splits : mapping or Series, optional
            Date to amount; date to ratio (4 for four-for-one).
        adjclose : bool, default True
            Whether daily bars carry adjusted closes: those given, else computed from the dividends.
        interval, timezone, currency, instrument : str
            As Yahoo has them: "1d", "America/New_York", "USD", "EQUITY" (or "ETF", "CRYPTOCURRENCY").
        hours : tuple of str
            Open and close of each session, local time.
        session : tuple of timestamps, optional
            Open and close of the current session (currentTradingPeriod); default: that of the last bar.
        market_time : timestamp, optional
            Time of the last trade (regularMarketTime); default: the close of that session.
        live_row : bool, default False
            Append the last bar once more at `market_time`, whatever the range, as Yahoo often does.
        """
        clock = _Clock(timezone, hours)
        bars = bars.astype(float).set_axis([clock.second(label) for label in bars.index])
        dividends = clock.seconds_of(dividends)
        if not adjclose or interval[-1] in "mh":
            bars = bars.drop(columns="Adj Close", errors="ignore")
        elif "Adj Close" not in bars:
            bars = bars.assign(**{"Adj Close": adjusted_close(bars["Close"], dividends)})
        session = tuple(map(clock.second, session)) if session else clock.session_of(bars.index[-1])
        self._listings[symbol, interval] = Listing(
            symbol=symbol,
            interval=interval,
            bars=bars,
            dividends=dividends,
            splits={second: _as_fraction(ratio) for second, ratio in clock.seconds_of(splits).items()},
            timezone=timezone,
            currency=currency,
            instrument=instrument,
            session=session,
            market_time=clock.second(market_time) if market_time is not None else session[1],
            hours=hours,
            live_row=live_row,
        )

    def answer_with(self, status, body, content_type=JSON, *, times=None, match=CHART):
        """Give this answer to the next `times` requests that hold `match` (None: to all of them).

        `match` is looked for in the path with its query: "period1" spares the first request, for the time
        zone; "getcrumb" takes only the crumb. Faults are used in the order given. Status 0 hangs up.
        """
        self._faults.append(Fault(status, body, content_type, match, times))

    def answer_well(self):
        """Drop all faults."""
        self._faults.clear()

    def answer(self, path):
        """(status, body, content type) for a path with its query, which is noted in `requests`."""
        with self._lock:
            self.requests.append(path)
            for fault in self._faults:
                if fault.match in path and fault.left != 0:
                    fault.left = None if fault.left is None else fault.left - 1
                    return fault.status, fault.body, fault.content_type
        return self._well_answered(path)

    def _well_answered(self, path):
        url = urlsplit(path)
        if url.path == "/v1/test/getcrumb":
            return 200, "crumb", TEXT
        if url.path == "/v1/finance/search":
            return 200, json.dumps({"quotes": [], "news": []}), JSON
        if url.path.startswith(CHART):
            query = {name: values[-1] for name, values in parse_qs(url.query).items()}
            return self._chart(unquote(url.path.removeprefix(CHART)), query)
        if url.path.startswith(DETAILS):
            return self._details(unquote(url.path.removeprefix(DETAILS)))
        return 404, PAGE.format("Not Found"), HTML

    def _details(self, symbol):
        """Company details: yfinance asks for them when the chart gave no time zone."""
        for listing in self._known(symbol):
            details = {"quoteType": {"symbol": symbol, "timeZoneFullName": listing.timezone}}
            return 200, json.dumps({"quoteSummary": {"result": [details], "error": None}}), JSON
        error = {"code": "Not Found", "description": f"Quote not found for symbol: {symbol}"}
        return 404, json.dumps({"quoteSummary": {"result": None, "error": error}}), JSON

    def _known(self, symbol):
        return [listing for (name, _), listing in self._listings.items() if name == symbol]

    def _chart(self, symbol, query):
        interval = query.get("interval", "1d")
        known = self._known(symbol)
        if not known:
            return NOT_FOUND
        listing = self._listings.get((symbol, interval))
        if "period1" not in query:
            return 200, chart_json(listing or known[0], slice(-1, None)), JSON
        if listing is None:
            return 422, chart_error("Unprocessable Entity", f"{interval} data not available."), JSON
        first, last = int(query["period1"]), int(query["period2"])
        if last <= listing.bars.index[0]:  # before the first trade
            reason = f"Data doesn't exist for startDate = {first}, endDate = {last}"
            return 400, chart_error("Bad Request", reason), JSON
        rows = slice(*listing.bars.index.searchsorted([first, last]))
        return 200, chart_json(listing, rows, first, last), JSON


def chart_json(listing, rows, first=None, last=None):
    """The chart body: `rows` is the slice of bars asked for, `first` to before `last` the range of events."""
    bars = listing.bars.iloc[rows]
    if listing.live_row:
        bars = pd.concat([bars, listing.bars.iloc[-1:].set_axis([listing.market_time])])
    result = {"meta": _meta(listing, bars.index), "indicators": {"quote": [{}]}}
    if len(bars):
        result["timestamp"] = bars.index.tolist()
        result["indicators"]["quote"] = [
            {name.lower(): _or_null(bars[name]) for name in ["Open", "High", "Low", "Close", "Volume"]}
        ]
        result["events"] = _events(listing, first, last)
    if len(bars) and "Adj Close" in bars:
        result["indicators"]["adjclose"] = [{"adjclose": _or_null(bars["Adj Close"])}]
    return json.dumps({"chart": {"result": [result], "error": None}})


def adjusted_close(close, dividends):
    """Closes before each dividend times 1 - amount / the last of them, as Yahoo does."""
    factor = pd.Series(1.0, close.index)
    for second, amount in dividends.items():
        before = close.index < second
        if before.any():
            factor[before] *= 1.0 - amount / close[before].iloc[-1]
    return close * factor


def _meta(listing, seconds):
    """What Yahoo says about the symbol beside its bars."""
    clock = _Clock(listing.timezone, listing.hours)
    opens, closes = listing.session
    meta = {
        "currency": listing.currency,
        "symbol": listing.symbol,
        "exchangeName": "NMS",
        "instrumentType": listing.instrument,
        "firstTradeDate": int(listing.bars.index[0]),
        "regularMarketTime": listing.market_time,
        "gmtoffset": clock.offset(opens),
        "timezone": clock.zone_name(opens),
        "exchangeTimezoneName": listing.timezone,
        "regularMarketPrice": _or_null(listing.bars["Close"])[-1],
        "priceHint": 2,
        "currentTradingPeriod": {
            "pre": clock.period(opens, opens),
            "regular": clock.period(opens, closes),
            "post": clock.period(closes, closes),
        },
        "dataGranularity": listing.interval,
        "range": "",
        "validRanges": VALID_RANGES,
    }
    if listing.intraday:
        sessions = sorted({clock.session_of(second) for second in seconds})
        meta["tradingPeriods"] = [[clock.period(*session)] for session in sessions]
    return meta


def _events(listing, first, last):
    """Dividends and splits of the range, each under its own second as a string."""

    def asked_for(second):
        return first is not None and first <= second < last

    return {
        "dividends": {str(s): {"amount": a, "date": s} for s, a in listing.dividends.items() if asked_for(s)},
        "splits": {
            str(s): {"date": s, "numerator": n, "denominator": d, "splitRatio": f"{n}:{d}"}
            for s, (n, d) in listing.splits.items()
            if asked_for(s)
        },
    }


@dataclass(frozen=True)
class _Clock:
    """Local time of an exchange, in and out of epoch seconds."""

    timezone: str
    hours: tuple

    def second(self, label):
        """A date (tz-naive midnight) stands for its session's open; any other tz-naive time is local."""
        time = pd.Timestamp(label)
        if time.tz is None and time == time.normalize():
            time = self._at(time, self.hours[0])
        elif time.tz is None:
            time = time.tz_localize(self.timezone)
        return int(time.timestamp())

    def seconds_of(self, by_day):
        """A mapping or Series by day as a dict by second."""
        return {} if by_day is None else {self.second(day): float(value) for day, value in by_day.items()}

    def session_of(self, second):
        """Open and close of the session on the day of `second`."""
        day = self._local(second).normalize().tz_localize(None)
        return tuple(int(self._at(day, hour).timestamp()) for hour in self.hours)

    def period(self, start, end):
        """A trading period, as Yahoo writes it."""
        name, offset = self.zone_name(start), self.offset(start)
        return {"timezone": name, "start": start, "end": end, "gmtoffset": offset}

    def offset(self, second):
        """Seconds ahead of UTC."""
        return int(self._local(second).utcoffset().total_seconds())

    def zone_name(self, second):
        """Such as EST or EDT."""
        return self._local(second).tzname()

    def _local(self, second):
        return pd.Timestamp(second, unit="s", tz="UTC").tz_convert(self.timezone)

    def _at(self, day, hour):
        return (day + pd.Timedelta(f"{hour}:00")).tz_localize(self.timezone)


def _as_fraction(ratio):
    """A split's numerator and denominator: 4 is (4, 1), 0.1 is (1, 10)."""
    return Fraction(ratio).limit_denominator(1000).as_integer_ratio()


def _or_null(column):
    return [None if pd.isna(value) else value for value in column.tolist()]


def _handler_of(server):
    """The request handler class that asks `server` for its answers."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            status, body, content_type = server.answer(self.path)
            if status == 0:
                self.connection.shutdown(socket.SHUT_RDWR)
                return
            content = body.encode()
            self.send_response(status)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *parts):
            """Say nothing: a test must not write to stderr."""

    return Handler
