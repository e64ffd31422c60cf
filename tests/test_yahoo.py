"""The real yfinance client against a loopback server: bars arrive whole, and each failure is one error that helps."""

import datetime as dt
import logging
import random
import threading
from contextlib import nullcontext

import numpy as np
import pandas as pd
import pytest
from yahoo_server import (
    BAD_GATEWAY,
    DOWN,
    HANG_UP,
    HTML,
    INVALID_CRUMB,
    JSON,
    NOT_FOUND,
    NOTHING,
    RATE_LIMITED,
    SERVER_ERROR,
    TOO_OLD,
    chart_error,
    refused_session,
    serving_yahoo,
)

from backgrid import errors, yahoo
from backgrid.cache import load_snapshot
from backgrid.data import fetch_ohlcv

PRICES = ["Open", "High", "Low", "Close"]
NEW_YORK = "America/New_York"
RANGE = ("2024-01-04", "2024-01-10")  # the third to the seventh of the daily bars
DIVIDEND = {"2024-01-05": 0.24}


@pytest.fixture
def slept(monkeypatch):
    """Seconds waited between tries; no test waits."""
    seconds = []
    monkeypatch.setattr(yahoo, "_sleep", seconds.append)
    return seconds


@pytest.fixture
def daily(bars):
    """Ten daily bars from 2024-01-02 on, closing at 100, 101, ... 109."""
    return bars(np.arange(100.0, 110.0), index=pd.bdate_range("2024-01-02", periods=10)).assign(Volume=1000.0)


@pytest.fixture
def server(tmp_path, monkeypatch, slept, daily):
    """Yahoo with AAPL's daily bars."""
    monkeypatch.setenv("BACKGRID_CACHE", str(tmp_path))
    with serving_yahoo(tmp_path) as yahoo_server:
        yahoo_server.serve("AAPL", daily)
        yield yahoo_server


@pytest.fixture
def silent(capfd, caplog):
    """Nothing was printed or logged by the end of the test."""
    yield
    assert capfd.readouterr() == ("", "") and caplog.records == []


def fetch(symbol="AAPL", start=RANGE[0], end=RANGE[1], **options):
    return fetch_ohlcv(symbol, start, end, source="yahoo", **options)


def fetch_all(symbol="AAPL", **options):
    return fetch(symbol, None, None, **options)


def session_times(freq):
    """Bars of four whole sessions, Thursday 2024-01-04 to Tuesday 2024-01-09."""
    times = pd.date_range("2024-01-04 09:30", "2024-01-09 15:59", freq=freq, tz=NEW_YORK)
    minute = times.hour * 60 + times.minute
    return times[(minute >= 570) & (minute < 960) & (times.day_of_week < 5)]


def at(text):
    return pd.Timestamp(text, tz=NEW_YORK)


# ---- bars ------------------------------------------------------------------------------------------------------------


def test_daily_bars_arrive_as_served_with_both_ends(server, daily, slept, silent):
    prices = fetch("aapl")
    expected = daily[2:7].set_axis(daily.index[2:7].as_unit("ns").rename("Date"))
    pd.testing.assert_frame_equal(prices, expected, check_freq=False)
    assert (prices.attrs["symbol"], prices.attrs["source"], prices.attrs["adjusted"]) == ("AAPL", "yahoo", True)
    assert slept == []


@pytest.mark.parametrize(
    ("start", "end", "closes"),
    [(None, None, (100, 109)), (None, "2024-01-05", (100, 103)), ("2024-01-05", None, (103, 109))],
)
def test_range_without_an_end_goes_as_far_as_there_are_bars(server, start, end, closes):
    close = fetch("AAPL", start, end)["Close"]
    assert (close.iloc[0], close.iloc[-1]) == closes


def test_one_day_is_a_range(server):
    """yfinance's own end is exclusive: the same day twice would be an empty range."""
    with pytest.raises(errors.BadDataError, match="needs two bars at least, got 1"):
        fetch("AAPL", "2024-01-05", "2024-01-05")


def test_weekly_bars_carry_the_monday_and_both_ends_count(server, daily):
    mondays = pd.date_range("2024-01-01", periods=10, freq="7D")
    server.serve("AAPL", daily.set_axis(mondays), interval="1wk")
    prices = fetch("AAPL", "2024-01-02", "2024-02-05", interval="1wk")
    assert list(prices.index) == list(mondays[1:6])


@pytest.mark.parametrize(("interval", "minutes"), [("1m", 1), ("15m", 15), ("1h", 60)])
def test_intraday_bars_keep_the_exchange_time_and_both_days(server, bars, interval, minutes):
    times = session_times(f"{minutes}min")
    served = bars(np.linspace(100.0, 110.0, len(times)), index=times)
    server.serve("AAPL", served.assign(Volume=1.0), interval=interval)
    prices = fetch("AAPL", "2024-01-05", "2024-01-08", interval=interval)
    assert len(prices) == 2 * -(-390 // minutes)
    assert prices.index[0] == at("2024-01-05 09:30") and prices.index[-1].date() == dt.date(2024, 1, 8)
    assert str(prices.index.dtype) == f"datetime64[ns, {NEW_YORK}]"
    assert prices["Close"].tolist() == served.loc["2024-01-05":"2024-01-08", "Close"].tolist()


def test_half_hours_are_made_of_quarters_without_the_empty_weekend(server, bars):
    """yfinance asks for 15m and joins them, with a row of NaN for each half hour without trade."""
    times = session_times("15min")
    server.serve("AAPL", bars(np.arange(1.0, 105.0), index=times).assign(Volume=1.0), interval="15m")
    prices = fetch("AAPL", "2024-01-05", "2024-01-08", interval="30m")
    assert prices["Close"].tolist() == list(np.arange(28.0, 79.0, 2.0)) and (prices["Volume"] == 2.0).all()


@pytest.mark.parametrize(
    ("symbol", "timezone", "hours"),
    [
        ("^GSPC", NEW_YORK, ("09:30", "16:00")),
        ("EURUSD=X", "Europe/London", ("00:00", "23:59")),
        ("7203.T", "Asia/Tokyo", ("09:00", "15:30")),
        ("BRK-B", NEW_YORK, ("09:30", "16:00")),
    ],
)
def test_daily_bars_carry_the_day_of_their_own_exchange(server, bars, symbol, timezone, hours):
    """The range spans the end of March, when London and New York change their clocks."""
    days = pd.bdate_range("2024-02-26", "2024-04-12")
    server.serve(symbol, bars(np.full(35, 5.0), index=days).assign(Volume=1.0), timezone=timezone, hours=hours)
    assert list(fetch(symbol, "2024-03-08", "2024-04-10").index) == list(pd.bdate_range("2024-03-08", "2024-04-10"))


@pytest.mark.parametrize(("start", "end"), [("2024-09-08", "2024-09-13"), ("2024-09-02", "2024-09-07")])
def test_range_may_begin_or_end_with_a_night_without_midnight(server, bars, start, end):
    """Santiago went from 23:59 on Saturday 2024-09-07 to 01:00."""
    days = pd.bdate_range("2024-09-02", "2024-09-13")
    served = bars(np.full(10, 5.0), index=days).assign(Volume=1.0)
    server.serve("LTM.SN", served, timezone="America/Santiago", hours=("09:30", "16:00"))
    assert len(fetch("LTM.SN", start, end)) == 5


def test_two_bars_of_one_day_are_refused_or_said(server, daily):
    daily.index = [*daily.index[:4], daily.index[3], *daily.index[5:]]
    server.serve("AAPL", daily)
    with pytest.raises(errors.BadDataError, match="2024-01-05 stands twice"):
        fetch()


def test_dividends_scale_all_four_prices_before_their_day(server, daily):
    """0.24 off a close of 102 makes the factor 1 - 0.24 / 102 for the days before."""
    server.serve("AAPL", daily, dividends=DIVIDEND)
    prices, factor = fetch(), 1.0 - 0.24 / 102.0
    for column in PRICES:
        expected = daily[column][2:7] * [factor, 1.0, 1.0, 1.0, 1.0]
        assert prices[column].tolist() == pytest.approx(expected.tolist(), rel=1e-15)
    assert prices["Close"].iloc[0] == pytest.approx(101.76) and prices["Volume"].iloc[0] == 1000.0
    assert "0.9976 at the first bar" in prices.attrs["notes"][0]


def test_unadjusted_prices_are_those_that_were_traded(server, daily):
    server.serve("AAPL", daily, dividends=DIVIDEND)
    prices = fetch(adjusted=False)
    assert prices["Close"].tolist() == [102.0, 103.0, 104.0, 105.0, 106.0]
    assert (prices.attrs["adjusted"], prices.attrs["notes"]) == (False, [])


def test_snapshot_holds_dividends_and_splits_and_does_not_depend_on_the_adjustment(server, daily):
    server.serve("AAPL", daily, dividends=DIVIDEND, splits={"2024-01-08": 4, "2024-01-09": 0.1})
    snapshot = fetch().attrs["snapshot"]
    raw, _ = load_snapshot(snapshot)
    assert raw["Dividends"].tolist() == [0.0, 0.24, 0.0, 0.0, 0.0]
    assert raw["Stock Splits"].tolist() == [0.0, 0.0, 4.0, 0.1, 0.0]
    assert raw["Close"].tolist() == [102.0, 103.0, 104.0, 105.0, 106.0]
    assert fetch(adjusted=False).attrs["snapshot"] == snapshot


def test_missing_adjusted_closes_are_said_and_not_made_up(server, daily):
    server.serve("AAPL", daily, dividends=DIVIDEND, adjclose=False)
    prices = fetch()
    assert prices["Close"].tolist() == [102.0, 103.0, 104.0, 105.0, 106.0]
    assert prices.attrs["adjusted"] is False
    assert prices.attrs["notes"] == ["not adjusted for dividends: the source gives no adjusted close"]


# ---- the last bar ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("columns", [["Close"], PRICES, [*PRICES, "Volume"]], ids=str)
def test_last_bar_of_nulls_is_dropped_and_said(server, daily, columns):
    daily.loc["2024-01-15", columns] = np.nan
    server.serve("AAPL", daily)
    prices = fetch("AAPL", "2024-01-10", "2024-01-31")
    assert prices["Close"].tolist() == [106.0, 107.0, 108.0]
    assert prices.attrs["notes"][0] == "dropped the last bar 2024-01-15: it has no complete prices yet"


def test_bar_of_nulls_before_the_last_is_refused(server, daily):
    daily.loc["2024-01-08", "Close"] = np.nan
    server.serve("AAPL", daily)
    with pytest.raises(errors.BadDataError, match="yahoo: .*2024-01-08.*Mend the data"):
        fetch()


TODAY = ("2024-01-15 09:30", "2024-01-15 16:00")


@pytest.mark.parametrize(
    ("last_bar", "session", "traded", "now", "unfinished"),
    [
        ("2024-01-15", TODAY, "2024-01-15 12:00:00", "2024-01-15 12:00:05", True),
        ("2024-01-15", TODAY, "2024-01-15 15:50", "2024-01-15 16:05", True),
        ("2024-01-15", ("2024-01-12 09:30", "2024-01-12 16:00"), "2024-01-15 10:00", "2024-01-15 10:00:05", True),
        ("2024-01-12", TODAY, "2024-01-12 16:00:01", "2024-01-15 08:00", False),
        ("2024-01-15", TODAY, "2024-01-15 16:00:00", "2024-01-15 16:00:20", False),
        ("2024-01-15", TODAY, "2024-01-15 13:10", "2024-01-15 16:30", False),
        ("2024-01-15", ("2024-01-16 09:30", "2024-01-16 16:00"), "2024-01-15 16:00:01", "2024-01-15 20:00", False),
        ("2024-01-15", ("2024-01-15 09:30", "2024-01-15 13:00"), "2024-01-15 13:00:01", "2024-01-15 13:00:30", False),
        ("2024-01-12", ("2024-01-12 09:30", "2024-01-12 16:00"), "2024-01-12 16:00:01", "2024-01-13 12:00", False),
    ],
    ids=[
        "open", "quotes trail the close", "session of the day before",
        "before the open", "at the close", "thinly traded, long closed", "next session", "half day", "weekend",
    ],
)  # fmt: skip
def test_last_bar_that_is_still_traded_is_dropped_and_said(
    server, daily, monkeypatch, last_bar, session, traded, now, unfinished
):
    server.serve("AAPL", daily[:last_bar], session=[at(t) for t in session], market_time=at(traded))
    judge = yahoo._is_unfinished
    monkeypatch.setattr(yahoo, "_is_unfinished", lambda label, interval, meta: judge(label, interval, meta, at(now)))
    prices = fetch_all()
    said = f"dropped the last bar {last_bar}: it was still being traded"
    assert len(prices) == len(daily[:last_bar]) - unfinished
    assert (said in prices.attrs["notes"]) == unfinished
    assert fetch_all().attrs == prices.attrs  # from the cache


@pytest.mark.parametrize(
    ("label", "interval", "session", "traded", "now", "instrument", "unfinished"),
    [
        ("2024-01-08", "1wk", "2024-01-10", "2024-01-10 16:00:01", "2024-01-10 18:00", "EQUITY", True),
        ("2024-01-08", "1wk", "2024-01-12", "2024-01-12 15:00", "2024-01-12 15:00", "EQUITY", True),
        ("2024-01-08", "1wk", "2024-01-12", "2024-01-12 16:00:01", "2024-01-13 15:00", "EQUITY", False),
        ("2024-01-08", "1wk", "2024-01-12", "2024-01-12 23:59", "2024-01-13 15:00", "CRYPTOCURRENCY", True),
        ("2024-01-08", "1wk", "2024-01-15", "2024-01-12 16:00:01", "2024-01-15 08:00", "EQUITY", False),
        ("2024-03-01", "1mo", "2024-03-28", "2024-03-28 16:00:01", "2024-03-28 18:00", "EQUITY", True),
        ("2024-03-01", "1mo", "2024-03-28", "2024-03-28 16:00:01", "2024-03-30 01:00", "EQUITY", False),
        ("2024-01-10 11:30", "1h", "2024-01-10", "2024-01-10 12:10", "2024-01-10 12:10", "EQUITY", True),
        ("2024-01-10 11:30", "1h", "2024-01-10", "2024-01-10 12:30", "2024-01-10 12:31", "EQUITY", False),
        ("2024-01-10 15:30", "1h", "2024-01-10", "2024-01-10 16:00:01", "2024-01-10 16:01", "EQUITY", False),
        ("2024-01-10 15:45", "15m", "2024-01-10", "2024-01-10 15:59", "2024-01-10 16:01", "EQUITY", True),
    ],
)
def test_bar_is_unfinished_until_its_last_trade_or_half_an_hour_past_its_end(
    label, interval, session, traded, now, instrument, unfinished
):
    """2024-03-28 is the last session of a month whose last weekday is Good Friday."""
    meta = {
        "exchangeTimezoneName": NEW_YORK,
        "instrumentType": instrument,
        "regularMarketTime": int(at(traded).timestamp()),
        "currentTradingPeriod": {
            "regular": {"start": at(f"{session} 09:30").timestamp(), "end": at(f"{session} 16:00").timestamp()}
        },
    }
    label = at(label) if interval in ("1h", "15m") else pd.Timestamp(label)
    assert yahoo._is_unfinished(label, interval, meta, at(now)) is unfinished


@pytest.mark.parametrize(("now", "unfinished"), [("2024-01-10 12:00", True), ("2024-01-11 01:00", False)])
def test_without_yahoos_clock_a_day_ends_at_midnight_utc(now, unfinished):
    assert yahoo._is_unfinished(pd.Timestamp("2024-01-10"), "1d", {}, pd.Timestamp(now, tz="UTC")) is unfinished


def test_single_bar_that_is_still_traded_is_no_data(server, daily, monkeypatch):
    server.serve("AAPL", daily, market_time=at("2024-01-15 12:00"))
    monkeypatch.setattr(yahoo, "_is_unfinished", lambda *_: True)
    with pytest.raises(errors.NoDataError, match="the only bar is still being traded"):
        fetch("AAPL", "2024-01-15", None)


def test_price_that_yahoo_adds_to_any_range_is_not_taken_for_a_bar(server, daily, tmp_path):
    server.serve("AAPL", daily, live_row=True)
    with pytest.raises(errors.NoDataError, match="no bars in this range"):
        fetch("AAPL", "2024-01-06", "2024-01-07")
    assert not (tmp_path / "prices").exists()
    assert fetch()["Close"].tolist() == [102.0, 103.0, 104.0, 105.0, 106.0]


# ---- failures --------------------------------------------------------------------------------------------------------

TRUNCATED = (200, '{"chart":{"resu', JSON)
FAULTS = {  # fault: what it becomes, its cause, its remedy, tries
    "rate limited": (RATE_LIMITED, errors.RateLimitedError, "Too Many Requests", "Wait a few minutes", 3),
    "unknown": (NOT_FOUND, errors.UnknownSymbolError, "No data found, symbol may be delisted", "Check how Yahoo", 1),
    "too old": (TOO_OLD, errors.NoDataError, "15m data must be within the last 60 days", "Choose other dates", 1),
    "not allowed": (INVALID_CRUMB, errors.UpstreamError, "HTTP 401: Invalid Crumb", "Try again later", 3),
    "error page": (SERVER_ERROR, errors.UpstreamError, "HTTP 500: 'Yahoo Internal Server Error'", "Try again later", 3),
    "bad gateway": (BAD_GATEWAY, errors.UpstreamError, "HTTP 502: upstream connect error", "Try again later", 3),
    "down": (DOWN, errors.UpstreamError, "Will be right back", "Try again later", 3),
    "page not found": ((404, "<html>", HTML), errors.UpstreamError, "HTTP 404: an empty page", "Try again later", 3),
    "truncated": (TRUNCATED, errors.UpstreamError, "HTTP 200", "Try again later", 3),
    "nothing": (NOTHING, errors.UpstreamError, "HTTP 200: an answer that cannot be read", "Try again later", 1),
    "no chart": ((200, '{"chart":null}', JSON), errors.UpstreamError, "cannot be read", "Try again later", 1),
    "a list": ((200, "[1]", JSON), errors.UpstreamError, "cannot be read", "Try again later", 1),
    "hung up": (HANG_UP, errors.OfflineError, "Empty reply", "Check the network connection", 3),
}
every_fault = pytest.mark.parametrize("name", FAULTS)
at_either_request = pytest.mark.parametrize("match", ["range=1d", "period1"], ids=["time zone", "prices"])


def assert_helpful(error, cause, remedy):
    """The message names symbol, range, cause and remedy, in one line a person can read."""
    message = str(error)
    assert message.startswith("AAPL 2024-01-04..2024-01-10: ")
    assert cause in error.cause and remedy in error.remedy
    assert message == f"AAPL 2024-01-04..2024-01-10: {error.cause.rstrip('.')}. {error.remedy}"
    assert "source='sample'" in error.remedy or isinstance(error, errors.NoDataError)
    assert len(message) < 300 and "<" not in message


@at_either_request
@every_fault
def test_failure_is_one_error_with_symbol_range_cause_and_remedy(server, slept, silent, name, match, tmp_path):
    fault, kind, cause, remedy, tries = FAULTS[name]
    server.answer_with(*fault, match=match)
    with pytest.raises(errors.DataFetchError) as raised:
        fetch()
    assert type(raised.value) is kind
    assert_helpful(raised.value, cause, remedy)
    assert len(slept) == tries - 1
    assert not (tmp_path / "prices").exists() and not (tmp_path / "snapshots").exists()


@every_fault
def test_failure_is_forgotten(server, silent, name):
    """yfinance keeps its last 64 answers and would repeat a failure without asking again."""
    import yfinance

    server.answer_with(*FAULTS[name][0])
    with pytest.raises(errors.DataFetchError):
        fetch()
    assert yfinance.config.debug.hide_exceptions is True
    assert not logging.getLogger("yfinance").disabled and "get" not in vars(yfinance.data.YfData())
    server.answer_well()
    assert len(fetch()) == 5


@at_either_request
@pytest.mark.parametrize("name", [name for name, (*_, tries) in FAULTS.items() if tries == 3])
def test_failure_that_passes_is_not_noticed(server, slept, silent, name, match):
    """yfinance itself asks again once where a status of 400 or above was answered."""
    fault = FAULTS[name][0]
    server.answer_with(*fault, match=match, times=2 if fault[0] in (0, 200) else 4)
    assert len(fetch()) == 5
    assert len(slept) == 2 and 0.5 <= slept[0] <= 1.5 and 1.0 <= slept[1] <= 3.0


def test_waiting_leaves_the_random_numbers_of_the_user_alone(server, slept):
    random.seed(1)
    state = random.getstate()
    server.answer_with(*SERVER_ERROR, times=2)
    fetch()
    assert len(slept) == 1 and random.getstate() == state


def test_refused_connection_is_offline(server, slept, silent):
    from yfinance.data import YfData

    YfData(session=refused_session())
    with pytest.raises(errors.OfflineError) as raised:
        fetch()
    assert_helpful(raised.value, "Failed to connect", "Check the network connection")
    assert len(slept) == 2


@pytest.mark.parametrize("symbol", ["NOPE", "US0378331005"])
def test_unknown_symbol_fails_the_same_way_each_time(server, slept, silent, symbol):
    """yfinance stops asking for a symbol's time zone after a few misses; US0378331005 is an ISIN to it."""
    for _ in range(3):
        with pytest.raises(errors.UnknownSymbolError, match=f"{symbol} .*Check how Yahoo spells the symbol"):
            fetch(symbol)
    assert slept == []


def test_symbol_that_vanished_is_unknown_although_its_time_zone_is_kept(server):
    fetch()
    server._listings.clear()
    with pytest.raises(errors.UnknownSymbolError):
        fetch("AAPL", "2024-01-04", "2024-01-09")


def test_symbol_that_yahoo_gives_no_time_zone_for_is_unknown(server, silent):
    import yfinance

    yfinance.base._tz_info_fetch_ctr = 2  # so that it asks for no company details instead
    server.answer_with(404, chart_error("Not Found", ""))
    with pytest.raises(errors.UnknownSymbolError, match="no timezone found"):
        fetch("NOPE")


@pytest.mark.parametrize(
    ("start", "end"),
    [("2024-01-06", "2024-01-07"), ("2020-01-06", "2020-01-08"), ("2030-01-06", "2030-01-07")],
    ids=["weekend", "before the first bar", "future"],
)
def test_range_without_bars_says_so_at_once(server, slept, silent, start, end):
    with pytest.raises(errors.NoDataError, match=rf"AAPL {start}\.\.{end}: .*\. Choose other dates"):
        fetch("AAPL", start, end)
    assert slept == []


def test_rate_limit_on_the_crumb_alone_does_not_matter(server, slept, silent):
    server.answer_with(*RATE_LIMITED, match="getcrumb")
    assert len(fetch()) == 5 and slept == []


def test_user_who_logs_yfinance_sees_nothing_of_our_requests(server, silent):
    import yfinance

    yfinance.config.debug.logging = True
    try:
        server.answer_with(*RATE_LIMITED, match="/")
        with pytest.raises(errors.RateLimitedError):
            fetch()
    finally:
        yfinance.config.debug.logging = False
        yfinance.utils.get_yf_logger()  # it takes notice of the switch now
        logging.getLogger("yfinance").handlers.clear()


@pytest.mark.parametrize("hidden", [True, False])
def test_switches_of_yfinance_are_given_back_as_they_were(server, hidden):
    import yfinance

    yfinance.config.debug.hide_exceptions = hidden
    for symbol, outcome in (("AAPL", nullcontext()), ("NOPE", pytest.raises(errors.UnknownSymbolError))):
        with outcome:
            fetch(symbol)
        assert yfinance.config.debug.hide_exceptions is hidden


def test_illegal_symbol_is_refused_before_any_request(server):
    with pytest.raises(errors.ParameterError):
        fetch("../../etc/passwd")
    assert server.requests == []


def test_threads_do_not_mix_their_bars(server, daily):
    for k in range(5):
        server.serve(f"S{k}", daily * (k + 1))
    got = {}
    threads = [threading.Thread(target=lambda k=k: got.update({k: fetch(f"S{k}")["Close"]})) for k in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {k: close.iloc[0] for k, close in got.items()} == {k: 102.0 * (k + 1) for k in range(5)}


def test_yfinance_keeps_its_files_in_the_cache_folder(server, tmp_path):
    fetch()
    assert (tmp_path / "yfinance" / "tkr-tz.db").is_file()
