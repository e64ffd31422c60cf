"""fetch_ohlcv: each source gives validated bars with a note of all that was done, or one error that says what to do."""

import datetime as dt
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from backgrid.bars import hash_bars
from backgrid.cache import load_snapshot
from backgrid.data import fetch_many, fetch_ohlcv, sample_symbols
from backgrid.errors import BadDataError, DataFetchError, NoDataError, ParameterError, PricesError, UnknownSymbolError

pytestmark = pytest.mark.usefixtures("folder")
PRICES = ["Open", "High", "Low", "Close"]
OHLCV = [*PRICES, "Volume"]
NOT_ADJUSTED = "not adjusted for dividends: the source gives no adjusted close"


@pytest.fixture
def week(bars):
    """Five daily bars, 2023-01-02 to 2023-01-06, closing at 100, 101, ... 104."""
    return bars([100.0, 101.0, 102.0, 103.0, 104.0]).assign(Volume=1000.0).rename_axis("Date")


@pytest.fixture
def csv(tmp_path):
    """`csv(text)` or `csv(frame)` writes a CSV file and returns its path."""

    def write(content):
        path = tmp_path / "prices.csv"
        path.write_text(content if isinstance(content, str) else content.to_csv(), encoding="utf-8")
        return path

    return write


def fetch(frame, start=None, end=None, **options):
    """What fetch_ohlcv makes of a frame."""
    return fetch_ohlcv("AAPL", start, end, source=lambda *request: frame, **options)


def assert_same_bars(prices, frame):
    """The same numbers on the same days, in the form of the design."""
    assert prices.index.dtype == "datetime64[ns]" and prices.index.name == "Date"
    assert [str(kind) for kind in prices.dtypes] == ["float64"] * len(prices.columns)
    assert list(prices.columns) == [c for c in OHLCV if c in frame]
    assert hash_bars(prices) == hash_bars(frame[list(prices.columns)])


def stamped(times, tz=None):
    """Bars at these times."""
    index = pd.DatetimeIndex(times) if tz is None else pd.DatetimeIndex(times, tz=tz)
    return pd.DataFrame(dict.fromkeys(PRICES, np.arange(1.0, len(index) + 1.0)), index=index)


# ---- sample ----------------------------------------------------------------------------------------------------------


def test_sample_gives_250_bars_of_aapl_in_2023(folder):
    prices = fetch_ohlcv("AAPL", "2023-01-01", "2023-12-31", source="sample")
    assert len(prices) == 250 and list(prices.columns) == OHLCV
    assert (str(prices.index[0].date()), str(prices.index[-1].date())) == ("2023-01-03", "2023-12-29")
    assert prices.index.dtype == "datetime64[ns]" and prices.index.name == "Date"
    assert not folder.exists()


def test_sample_prices_include_dividends_unless_asked_not_to():
    adjusted = fetch_ohlcv("AAPL", "2023-01-01", "2023-12-31", source="sample")
    traded = fetch_ohlcv("AAPL", "2023-01-01", "2023-12-31", source="sample", adjusted=False)
    assert (traded["Close"].iloc[0], traded["Close"].iloc[-1]) == (125.07, 192.53)
    assert adjusted["Close"].iloc[0] < 125.07
    assert (adjusted["Volume"] == traded["Volume"]).all()
    assert (adjusted.attrs["adjusted"], traded.attrs["adjusted"]) == (True, False)
    assert adjusted.attrs["snapshot"] == traded.attrs["snapshot"]


def test_symbol_is_upper_cased():
    prices = fetch_ohlcv("aapl", "2023-01-01", "2023-01-31", source="sample")
    assert prices.attrs["symbol"] == "AAPL"
    assert prices.equals(fetch_ohlcv("AAPL", "2023-01-01", "2023-01-31", source="sample"))


@pytest.mark.parametrize(("symbol", "interval"), sample_symbols())
def test_every_series_of_the_sample_can_be_fetched(symbol, interval):
    prices = fetch_ohlcv(symbol, interval=interval, source="sample")
    assert len(prices) > 1000
    assert (prices.index.tz is not None) == interval.endswith(("m", "h"))
    assert (prices.attrs["symbol"], prices.attrs["interval"], prices.attrs["source"]) == (symbol, interval, "sample")


@pytest.mark.parametrize(("symbol", "interval"), [("MSFT", "1d"), ("AAPL", "5m"), ("GSPC", "1d"), ("EURUSD-X", "1h")])
def test_what_the_sample_lacks_is_answered_with_what_it_holds(symbol, interval):
    with pytest.raises(UnknownSymbolError, match=rf"{symbol} .*no {interval} bars of it.*holds AAPL 1d,.* EURUSD=X 1h"):
        fetch_ohlcv(symbol, interval=interval, source="sample")


def test_minute_bars_of_one_day_are_cut_by_new_york_time():
    day = fetch_ohlcv("AAPL", interval="1m", source="sample").index[0].date()
    times = fetch_ohlcv("AAPL", day, day, interval="1m", source="sample").index
    assert (len(times), f"{times[0]:%H:%M}", f"{times[-1]:%H:%M}") == (390, "09:30", "15:59")
    assert str(times.dtype) == "datetime64[ns, America/New_York]"


def test_sample_loads_neither_yfinance_nor_a_web_client():
    script = "import sys; from backgrid import fetch_ohlcv; fetch_ohlcv('AAPL', source='sample'); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-W", "error", "-c", script], capture_output=True, text=True, check=True)
    assert not {"yfinance", "curl_cffi", "requests"} & set(done.stdout.split())


# ---- ranges ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("start", "end", "closes"),
    [
        (None, None, [100, 101, 102, 103, 104]),
        ("2023-01-03", "2023-01-05", [101, 102, 103]),
        (dt.date(2023, 1, 3), dt.date(2023, 1, 5), [101, 102, 103]),
        (dt.datetime(2023, 1, 3), dt.datetime(2023, 1, 5), [101, 102, 103]),
        (pd.Timestamp("2023-01-03"), pd.Timestamp("2023-01-05"), [101, 102, 103]),
        ("2023-01-04", None, [102, 103, 104]),
        (None, "2023-01-04", [100, 101, 102]),
        ("", "", [100, 101, 102, 103, 104]),
        ("2022-12-25", "2023-01-03", [100, 101]),
        ("0001-01-01", "9999-12-31", [100, 101, 102, 103, 104]),
    ],
)
def test_both_ends_of_a_range_are_included(week, start, end, closes):
    assert fetch(week, start, end)["Close"].tolist() == closes


def test_days_are_those_of_the_bars_own_time_zone():
    """21:00 of the fourth in New York is the fifth in UTC."""
    times = ["2023-01-04 09:30", "2023-01-04 21:00", "2023-01-05 09:30"]
    prices = fetch(stamped(times, "America/New_York"), "2023-01-04", "2023-01-04", interval="1h")
    assert [f"{time:%d %H:%M}" for time in prices.index] == ["04 09:30", "04 21:00"]


def test_function_gets_the_range_as_dates_and_the_symbol_upper_cased(week):
    got = []
    fetch_ohlcv("brk-b", "2023-01-02", None, interval="1wk", source=lambda *given: got.append(given) or week)
    assert got == [("BRK-B", dt.date(2023, 1, 2), None, "1wk")]


@pytest.mark.parametrize(
    ("start", "end", "said"),
    [
        ("2023-02-30", None, "start must be a date such as 2023-12-31, got '2023-02-30'"),
        (None, "31.12.2023", "end must be a date such as 2023-12-31, got '31.12.2023'"),
        ("yesterday", None, "start must be a date"),
        ("2023-01-02 09:30", None, "start must be a date"),
        (2023, None, "start must be a date such as 2023-12-31, got 2023"),
        (True, None, "start must be a date"),
        (np.datetime64("2023-01-02"), None, "start must be a date"),
        (None, float("nan"), "end must be a date"),
        (pd.NaT, None, "start is not a date: NaT"),
        ("2023-01-03", "2023-01-02", "end 2023-01-02 is before start 2023-01-03"),
    ],
)
def test_wrong_range_is_refused_and_named(start, end, said):
    with pytest.raises(ParameterError) as raised:
        fetch(None, start, end)
    assert said in str(raised.value)


def test_range_without_bars_is_no_data(week):
    with pytest.raises(NoDataError, match=r"2023-02-01\.\.2023-02-28: function <lambda> has no bars in this range"):
        fetch(week, "2023-02-01", "2023-02-28")


# ---- names -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("interval", "said"),
    [
        ("1day", "did you mean '1d'"),
        ("15min", "did you mean '15m'"),
        ("1D", "unknown interval '1D'"),
        ("", "unknown interval ''"),
        (None, "unknown interval None"),
        (["1d"], "unknown interval ['1d']"),
        ("x" * 9999, "xxx...xxx"),
    ],
)
def test_unknown_interval_is_answered_with_the_nearest_and_all(interval, said):
    with pytest.raises(ParameterError, match="known: .*15m, 1d.* 90m$") as raised:
        fetch(None, interval=interval)
    assert said in str(raised.value) and len(str(raised.value)) < 200


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("yaho", "'yaho'; did you mean 'yahoo'?"),
        ("Sample", "'Sample'; did you mean 'sample'?"),
        ("prices.xlsx", "unknown source 'prices.xlsx'"),
        ("", "unknown source ''"),
        (3, "unknown source 3"),
        (Path("prices"), "unknown source"),
    ],
)
def test_unknown_source_is_answered_with_the_nearest_and_all(folder, source, said):
    with pytest.raises(ParameterError, match=r"known: sample, yahoo, snapshot:HASH, a path ending in \.csv") as raised:
        fetch_ohlcv("AAPL", source=source)
    assert said in str(raised.value) and not folder.exists()


def test_setting_names_the_source_where_none_is_given(monkeypatch, csv, week):
    monkeypatch.setenv("BACKGRID_SOURCE", "sample")
    assert fetch_ohlcv("AAPL", "2023-01-01").attrs["source"] == "sample"
    monkeypatch.setenv("BACKGRID_SOURCE", str(csv(week)))
    assert fetch_ohlcv("AAPL", "2023-01-01").attrs["source"] == "prices.csv"
    monkeypatch.setenv("BACKGRID_SOURCE", "smaple")
    with pytest.raises(ParameterError, match="did you mean 'sample'"):
        fetch_ohlcv("AAPL", "2023-01-01")
    assert len(fetch_ohlcv("AAPL", "2023-01-01", source="sample")) > 250


ILLEGAL = [
    "../../etc/passwd", "..\\..\\x", "/etc/passwd", "C:\\x", "", " ", ".", "..", "A/B", "A\\B", "A\0B", "A\nB",
    "AAPL\n", "\tAAPL", "A B", "%2e%2e%2f", "a" * 10_240, "A" * 21, "🙂", "\u202eAAPL", "CAF\u00c9", "CAFE\u0301",
    "\uff21\uff21", "\u0131BM", "\u212a", "<script>alert(1)</script>", "<img src=x onerror=alert(1)>", "$(id)", "`id`",
    "' OR 1=1", "A;B", "A|B", "A,B", "A&B", "A?B", "A#B", "A_B", "A*", "~", "^", "^^GSPC", "-A", "A-", "A..B", "=X",
    "\x1b[31m", None, 3, float("nan"), b"AAPL", ["AAPL"],
]  # fmt: skip


@pytest.mark.parametrize("symbol", ILLEGAL, ids=lambda symbol: ascii(symbol)[:20])
def test_illegal_symbol_is_refused_before_anything_is_touched(folder, monkeypatch, symbol):
    calls = []
    monkeypatch.setattr("backgrid.data.fetch_yahoo", lambda *given: calls.append(given))
    monkeypatch.setattr(pd, "read_csv", calls.append)
    monkeypatch.setattr(pd, "read_parquet", calls.append)
    for source in (lambda *given: calls.append(given), "yahoo", "sample", "prices.csv", "snapshot:" + "0" * 64):
        with pytest.raises(ParameterError, match="is not a ticker: .*such as AAPL") as raised:
            fetch_ohlcv(symbol, source=source)
    message = str(raised.value)
    assert len(message) < 250 and message.isprintable()
    assert calls == [] and not folder.exists()


@pytest.mark.parametrize(
    "symbol",
    ["A", "AAPL", "^GSPC", "BRK-B", "EURUSD=X", "ES=F", "005930.KS", "BTC-USD", "BF.B", "^N225", "GC=F", "A" * 20],
)
def test_legal_symbol_reaches_the_source_as_it_is(week, symbol):
    asked = []
    prices = fetch_ohlcv(symbol.lower(), source=lambda name, *range_: asked.append(name) or week)
    assert asked == [symbol] and prices.attrs["symbol"] == symbol


# ---- files -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("as_text", [True, False])
def test_csv_file_gives_its_bars(csv, week, as_text):
    path = csv(week)
    prices = fetch_ohlcv("AAPL", source=str(path) if as_text else path)
    assert_same_bars(prices, week)
    assert prices.attrs["source"] == "prices.csv" and prices.attrs["notes"] == [NOT_ADJUSTED]


@pytest.mark.parametrize("date_is_a_column", [True, False])
def test_parquet_file_gives_its_bars(tmp_path, week, date_is_a_column):
    frame = week.reset_index() if date_is_a_column else week
    frame.to_parquet(tmp_path / "prices.PARQUET")
    assert_same_bars(fetch_ohlcv("AAPL", source=tmp_path / "prices.PARQUET"), week)


@pytest.mark.parametrize("name", ["Date", "date", "DATE", "Datetime", "time", "Timestamp"])
def test_date_column_may_have_any_usual_name(csv, week, name):
    assert_same_bars(fetch_ohlcv("AAPL", source=csv(week.rename_axis(name))), week)


@pytest.mark.parametrize(
    "names",
    [str.lower, str.upper, lambda name: f" {name} ", lambda name: name.replace("Adj Close", "adj_close")],
    ids=["lower", "upper", "blanks", "underscore"],
)
def test_columns_may_have_any_case_and_order(csv, week, names):
    full = week.assign(**{"Adj Close": week["Close"] / 2.0, "Comment": "kept out"})
    prices = fetch_ohlcv("AAPL", source=csv(full[full.columns[::-1]].rename(columns=names)))
    assert list(prices.columns) == OHLCV and prices["Close"].tolist() == [50.0, 50.5, 51.0, 51.5, 52.0]


def test_whole_numbers_become_floats(week):
    assert_same_bars(fetch(week.astype(int)), week)
    assert_same_bars(fetch(week.convert_dtypes()), week)


def test_file_without_volume_is_enough(csv, week):
    assert_same_bars(fetch_ohlcv("AAPL", source=csv(week[PRICES])), week[PRICES])


def test_unit_of_the_dates_does_not_matter(week):
    for unit in ("s", "ms", "us", "ns"):
        assert_same_bars(fetch(week.set_axis(week.index.as_unit(unit))), week)


@pytest.mark.parametrize("zone", ["UTC", "America/New_York", "Asia/Tokyo"])
def test_daily_bars_lose_the_time_and_the_zone_but_not_the_day(csv, week, zone):
    """Yahoo stamps a session with its open, others with midnight or the close: the day is the exchange's own."""
    for hours in (0, 9, 23):
        local = (week.index + pd.Timedelta(hours=hours)).tz_localize(zone)
        assert_same_bars(fetch(week.set_axis(local)), week)
        assert_same_bars(fetch_ohlcv("AAPL", source=csv(week.set_axis(local))), week)


def test_intraday_bars_keep_their_zone(csv):
    frame = stamped(["2023-01-04 09:30", "2023-01-04 09:31"], "America/New_York")
    assert str(fetch(frame, interval="1m").index.dtype) == "datetime64[ns, America/New_York]"
    offset = fetch_ohlcv("AAPL", interval="1m", source=csv(frame.rename_axis("Date")))
    assert offset.index.tz is not None and (offset.index == frame.index).all()


def test_night_of_the_clock_change_keeps_its_two_hours():
    """New York had 01:30 twice on 2023-11-05."""
    frame = stamped(pd.date_range("2023-11-05 04:30", periods=4, freq="h", tz="UTC").tz_convert("America/New_York"))
    times = fetch(frame, interval="1h").index
    assert [f"{time:%H:%M %Z}" for time in times] == ["00:30 EDT", "01:30 EDT", "01:30 EST", "02:30 EST"]


HEAD = "Date,Open,High,Low,Close\n"
TWO = "2023-01-02,1,1,1,1\n2023-01-03,1,1,1,1\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("Open,High,Low,Close\n1,1,1,1\n", "prices.csv has no date column. Name one column Date."),
        ("Date;Open;High;Low;Close\n2023-01-02;1;1;1;1\n", "prices.csv has no date column"),
        ("Date,Time,Open,High,Low,Close\n2023-01-02,09:30,1,1,1,1\n", "has 2 date columns. Name one column Date."),
        (HEAD + "2023-01-02,x,1,1,1\n2023-01-03,1,1,1,1\n", "column Open holds"),
        (HEAD + '2023-01-02,"1,000",1,1,1\n2023-01-03,1,1,1,1\n', "column Open holds"),
        (HEAD + "2023-01-03,1,1,1,1\n2023-01-02,1,1,1,1\n", "dates are not sorted: 2023-01-02 comes after 2023-01-03"),
        (HEAD + "2023-01-02,1,1,1,1\n" + TWO, "the date 2023-01-02 stands twice"),
        (HEAD + "2023-01-02,1,1,1,\n" + TWO[19:], "Close is nan on 2023-01-02"),
        (HEAD + "2023-01-02,1,1,1,1\n,1,1,1,1\n", "the date of row 1 is missing"),
        (HEAD + "2023-01-02,1,1,1,1\n", "a backtest needs two bars at least, got 1"),
        ("Date,Open,Low,Close\n2023-01-02,1,1,1\n2023-01-03,1,1,1\n", "prices lack High"),
        (HEAD.replace("Open", "close") + TWO, "two columns have the same meaning"),
        ("", "prices.csv cannot be read"),
        (HEAD + '"2023-01-02', "prices.csv cannot be read"),
        (HEAD + "2023-03-10 09:30:00-05:00,1,1,1,1\n2023-03-13 09:30:00-04:00,1,1,1,1\n", "prices.csv: "),
    ],
)
def test_bad_csv_is_bad_data_and_says_what_is_wrong(csv, folder, text, said):
    path = csv(text)
    with pytest.raises(BadDataError) as raised:
        fetch_ohlcv("AAPL", source=path)
    message = str(raised.value)
    assert message.startswith("AAPL first bar..last bar: prices.csv") and said in message
    assert isinstance(raised.value, PricesError) and len(message) < 300
    assert not folder.exists()


@pytest.mark.parametrize(
    ("dates", "interval"),
    [
        (["20230103", "20230104"], "1d"),
        (["20230103", "20230104"], "1m"),
        (["1672756200", "1672756260"], "1m"),
        (["03/01/2023", "04/01/2023"], "1d"),
        (["foo", "bar"], "1d"),
        (["2023-02-30", "2023-03-01"], "1d"),
        (["2023-01-03", "04.01.2023"], "1d"),
    ],
)
def test_dates_that_are_not_iso_are_refused_and_never_guessed(csv, dates, interval):
    path = csv(HEAD + "".join(f"{date},1,1,1,1\n" for date in dates))
    with pytest.raises(BadDataError, match="prices.csv: .*Write dates as 2023-12-31"):
        fetch_ohlcv("AAPL", source=path, interval=interval)


def test_csv_with_a_head_only_has_no_bars(csv):
    with pytest.raises(NoDataError, match="prices.csv has no bars"):
        fetch_ohlcv("AAPL", source=csv(HEAD))


@pytest.mark.parametrize("name", ["prices.csv", "prices.parquet"])
def test_missing_file_is_said(tmp_path, name):
    with pytest.raises(NoDataError, match=f"there is no file .*{name}.*Check the path"):
        fetch_ohlcv("AAPL", source=tmp_path / name)


@pytest.mark.parametrize("length", [0, 4, 100, -4])
def test_damaged_parquet_file_is_bad_data(tmp_path, week, length):
    path = tmp_path / "prices.parquet"
    week.to_parquet(path)
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(BadDataError, match="prices.parquet cannot be read: .*Check the file"):
        fetch_ohlcv("AAPL", source=path)


@pytest.mark.parametrize("name", ["prices.csv", "prices.parquet"])
def test_folder_with_the_name_of_a_file_is_an_error(tmp_path, name):
    (tmp_path / name).mkdir()
    with pytest.raises(DataFetchError, match=name):
        fetch_ohlcv("AAPL", source=tmp_path / name)


# ---- functions -------------------------------------------------------------------------------------------------------


def my_source(symbol, start, end, interval):
    return None


class MySource:
    def __call__(self, *request):
        return pd.Series([1.0, 2.0])


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (my_source, "function my_source returned NoneType. Return a DataFrame of bars."),
        (MySource(), "function MySource returned Series. Return a DataFrame of bars."),
        (lambda *request: {"Close": [1.0]}, "function <lambda> returned dict"),
    ],
)
def test_function_that_returns_no_frame_is_bad_data(source, said):
    with pytest.raises(BadDataError) as raised:
        fetch_ohlcv("AAPL", source=source)
    assert said in str(raised.value)


@pytest.mark.parametrize("error", [ZeroDivisionError("mine"), NoDataError("AAPL", "all", "mine", "None.")], ids=repr)
def test_error_of_a_function_passes_through(error):
    def broken(*request):
        raise error

    with pytest.raises(type(error)) as raised:
        fetch_ohlcv("AAPL", source=broken)
    assert raised.value is error


def test_frame_of_a_function_is_left_alone(week):
    frame = week.assign(**{"Adj Close": week["Close"] / 2.0})
    frame.attrs["mine"] = "kept"
    before = frame.copy()
    prices = fetch(frame)
    prices.loc[:, "Close"] = 0.0
    pd.testing.assert_frame_equal(frame, before)
    assert frame.attrs == {"mine": "kept"} and "mine" not in prices.attrs


# ---- validation ------------------------------------------------------------------------------------------------------


def with_cell(frame, column, value, day="2023-01-04"):
    changed = frame.copy()
    changed.loc[day, column] = value
    return changed


@pytest.mark.parametrize("adjust", [False, True], ids=["traded", "with Adj Close"])
@pytest.mark.parametrize("column", PRICES)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 0.0, -1.0])
def test_price_that_is_no_price_is_refused_with_its_date(folder, week, column, value, adjust):
    frame = week.assign(**{"Adj Close": 50.0}) if adjust else week
    with pytest.raises(BadDataError, match=f"{column} is {value} on 2023-01-04: prices must be finite and above 0"):
        fetch(with_cell(frame, column, value))
    assert not folder.exists()


@pytest.mark.parametrize(("column", "value"), [("High", 101.0), ("Low", 101.5), ("Open", 103.0), ("Close", 50.0)])
def test_high_and_low_that_do_not_bracket_are_refused_with_their_date(week, column, value):
    with pytest.raises(BadDataError, match="High and Low do not bracket Open and Close on 2023-01-04: Open"):
        fetch(with_cell(week, column, value))


@pytest.mark.parametrize("value", [np.nan, np.inf, 0.0, -50.0])
def test_adjustment_factor_that_is_no_factor_is_refused_with_its_date(week, value):
    frame = with_cell(week.assign(**{"Adj Close": 50.0}), "Adj Close", value)
    with pytest.raises(BadDataError, match=f"Adj Close / Close of 2023-01-04 is {value / 102.0}"):
        fetch(frame)


@pytest.mark.parametrize("column", [*OHLCV, "Adj Close", "Dividends", "Stock Splits"])
@pytest.mark.parametrize("adjusted", [True, False])
def test_text_in_any_column_is_refused(week, column, adjusted):
    frame = week.assign(**{"Adj Close": 50.0, "Dividends": 0.0, "Stock Splits": 0.0}).astype({column: str})
    with pytest.raises(BadDataError, match=f"column {column} holds .*, not numbers"):
        fetch(frame, adjusted=adjusted)


@pytest.mark.parametrize("column", PRICES)
def test_missing_price_column_is_named(week, column):
    with pytest.raises(BadDataError, match=f"prices lack {column}: they have "):
        fetch(week.assign(**{"Adj Close": 50.0}).drop(columns=column))


def test_missing_columns_are_answered_with_those_there_are(week):
    with pytest.raises(BadDataError, match="prices lack Open, High, Low, Close: they have o, h, l, c, Volume"):
        fetch(week.rename(columns=dict(zip(PRICES, "ohlc", strict=True))))


def test_two_levels_of_columns_are_said(week):
    with pytest.raises(BadDataError, match="two levels of columns: select one symbol first"):
        fetch(pd.concat({"AAPL": week}, axis=1))


def test_column_that_stands_twice_is_refused(week):
    with pytest.raises(BadDataError, match="two columns"):
        fetch(pd.concat([week, week[["Close"]]], axis=1))


def test_frame_without_dates_is_refused(week):
    with pytest.raises(BadDataError, match="prices need a DatetimeIndex, got RangeIndex of int64"):
        fetch(week.reset_index(drop=True), "2023-01-01", "2023-12-31")


@pytest.mark.parametrize(
    "start",
    [None, "2023-01-01"],
)
def test_row_without_a_date_is_refused(week, start):
    dates = [*week.index[:2], pd.NaT, *week.index[3:]]
    with pytest.raises(BadDataError, match="the date of row 2 is missing"):
        fetch(week.set_axis(pd.DatetimeIndex(dates)), start)


def test_intraday_bars_are_not_taken_for_daily_ones():
    with pytest.raises(BadDataError, match="interval '1d'"):
        fetch(stamped(["2023-01-04 09:30", "2023-01-04 09:31"], "UTC"))


def test_frame_without_rows_is_no_data(week):
    for frame in (week[:0], pd.DataFrame()):
        with pytest.raises(NoDataError, match="has no bars in this range"):
            fetch(frame)


# ---- what was done to the bars is said -------------------------------------------------------------------------------


@pytest.mark.parametrize("columns", [["Close"], PRICES, [*OHLCV, "Adj Close"]], ids=str)
def test_last_bar_without_prices_is_dropped_and_said(week, columns):
    frame = week.assign(**{"Adj Close": week["Close"]})
    frame.loc["2023-01-06", columns] = np.nan
    prices = fetch(frame)
    assert prices["Close"].tolist() == [100.0, 101.0, 102.0, 103.0]
    assert prices.attrs["notes"][0] == "dropped the last bar 2023-01-06: it has no complete prices yet"


def test_time_of_a_dropped_intraday_bar_is_said():
    frame = stamped(["2023-01-04 09:30", "2023-01-04 09:31", "2023-01-04 09:32"], "UTC")
    frame.iloc[-1, 3] = np.nan
    assert "dropped the last bar 2023-01-04 09:32" in fetch(frame, interval="1m").attrs["notes"][0]


def test_only_one_last_bar_is_dropped(week):
    week.loc["2023-01-05":, "Close"] = np.nan
    with pytest.raises(BadDataError, match="Close is nan on 2023-01-05"):
        fetch(week)


def test_nothing_is_said_of_bars_outside_the_range(week):
    week.loc["2023-01-06", "Close"] = np.nan
    assert fetch(week, None, "2023-01-04").attrs["notes"] == [NOT_ADJUSTED]


def test_adjustment_scales_the_four_prices_by_one_factor_and_says_so(week):
    """Closes of 100, 101, ... adjusted to half before the third bar and to themselves from there on."""
    factor = [0.5, 0.5, 1.0, 1.0, 1.0]
    frame = week.assign(**{"Adj Close": week["Close"] * factor})
    prices = fetch(frame)
    for column in PRICES:
        assert prices[column].tolist() == (week[column] * factor).tolist()
    assert prices["Volume"].tolist() == [1000.0] * 5
    assert prices.attrs["adjusted"] is True
    assert prices.attrs["notes"] == ["adjusted by Adj Close / Close, 0.5000 at the first bar, 1 step above 0.1 %"]


def test_high_stays_above_close_after_any_adjustment(week):
    """Equal prices stay equal: one factor for the four, rounded the same way."""
    close = np.sqrt(np.arange(2.0, 7.0))
    frame = week.assign(Open=close, High=close, Low=close, Close=close).assign(**{"Adj Close": close / 3.0})
    prices = fetch(frame)
    assert (prices[PRICES].nunique(axis=1) == 1).all()


def test_unadjusted_prices_are_those_of_the_source(week):
    prices = fetch(week.assign(**{"Adj Close": 1.0}), adjusted=False)
    assert_same_bars(prices, week)
    assert (prices.attrs["adjusted"], prices.attrs["notes"]) == (False, [])


def test_attrs_say_what_the_prices_are(week):
    prices = fetch(week.assign(**{"Adj Close": week["Close"]}), "2023-01-03", "2023-01-05")
    snapshot = prices.attrs.pop("snapshot")
    assert prices.attrs == {
        "symbol": "AAPL",
        "source": "function <lambda>",
        "interval": "1d",
        "adjusted": True,
        "notes": ["adjusted by Adj Close / Close, 1.0000 at the first bar, 0 steps above 0.1 %"],
    }
    kept, _ = load_snapshot(snapshot)
    assert list(kept.columns) == [*OHLCV, "Adj Close"] and kept["Close"].tolist() == [101.0, 102.0, 103.0]


def test_same_bars_give_the_same_snapshot_whatever_the_source(csv, tmp_path, week):
    week.to_parquet(tmp_path / "prices.parquet")
    sources = [lambda *request: week, csv(week), tmp_path / "prices.parquet"]
    assert len({fetch_ohlcv("AAPL", source=source).attrs["snapshot"] for source in sources}) == 1
    assert fetch(with_cell(week, "Volume", 1001.0)).attrs["snapshot"] != fetch(week).attrs["snapshot"]


@pytest.mark.parametrize(
    ("close", "said"),
    [
        ([1.0, 100.0, 101.0], "the close of 2023-01-03 is 100 times the one before"),
        ([100.0, 101.0, 1.01], "the close of 2023-01-04 is 0.01 times the one before"),
        ([1.0, 3.0, 3.0], "the close of 2023-01-03 is 3 times the one before"),
    ],
)
def test_jump_of_three_times_is_said_and_kept(bars, close, said):
    prices = fetch(bars(close))
    assert prices["Close"].tolist() == close
    assert prices.attrs["notes"] == [NOT_ADJUSTED, said]


def test_smaller_jump_is_nothing_to_say(bars):
    assert fetch(bars([100.0, 299.0, 100.0])).attrs["notes"] == [NOT_ADJUSTED]


def test_snapshot_is_not_handed_out_under_another_name(week):
    snapshot = fetch(week).attrs["snapshot"]
    with pytest.raises(NoDataError, match="this snapshot is of AAPL 1d, not of MSFT 1d"):
        fetch_ohlcv("MSFT", source=f"snapshot:{snapshot}")


def test_interval_that_the_bars_contradict_is_refused(week):
    weekly = week.set_axis(pd.date_range("2023-01-06", periods=len(week), freq="W-FRI"))
    with pytest.raises(BadDataError, match="the bars lie 7 days apart: interval '1d' is not theirs"):
        fetch(weekly)
    assert len(fetch_ohlcv("AAPL", source=lambda *asked: weekly, interval="1wk")) == len(week)


# ---- several symbols -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "symbols", ["AAPL NVDA", " aapl,nvda ", "AAPL, NVDA", ["AAPL", "nvda"], ("AAPL", "NVDA"), iter(["AAPL", "NVDA"])]
)
def test_several_symbols_are_fetched_in_the_order_asked_for(symbols):
    prices = fetch_many(symbols, "2023-01-03", "2023-01-31", source="sample", adjusted=False)
    assert list(prices) == ["AAPL", "NVDA"]
    for symbol, frame in prices.items():
        alone = fetch_ohlcv(symbol, "2023-01-03", "2023-01-31", source="sample", adjusted=False)
        pd.testing.assert_frame_equal(frame, alone)
        assert frame.attrs == alone.attrs


def test_each_symbol_is_asked_of_a_function(week):
    asked = []
    fetch_many("B A", source=lambda *request: asked.append(request) or week, interval="1d")
    assert asked == [("B", None, None, "1d"), ("A", None, None, "1d")]


def test_each_symbol_has_its_own_file(tmp_path, week):
    for number, symbol in enumerate(["^GSPC", "BRK-B"], start=1):
        (week * number).to_csv(tmp_path / f"{symbol}.csv")
    for source in (str(tmp_path / "{symbol}.csv"), tmp_path / "{symbol}.csv"):
        prices = fetch_many("^GSPC BRK-B", source=source)
        assert [frame["Close"].iloc[0] for frame in prices.values()] == [100.0, 200.0]


def test_one_file_is_not_the_prices_of_several_symbols(csv, week):
    with pytest.raises(ParameterError, match="would be read for each of 2 symbols: put {symbol} in its name"):
        fetch_many("A B", source=csv(week))
    assert list(fetch_many("A", source=csv(week))) == ["A"]


@pytest.mark.parametrize(
    ("symbols", "error", "said"),
    [
        ("", ParameterError, "symbols must name at least one ticker, got none"),
        (" , ", ParameterError, "symbols must name at least one ticker, got none"),
        ([], ParameterError, "symbols must name at least one ticker, got none"),
        ("AAPL NVDA aapl", ParameterError, "symbols: AAPL stands twice"),
        ("AAPL ../NVDA", ParameterError, "symbol '../NVDA' is not a ticker"),
        (["AAPL", 5], ParameterError, "symbol 5 is not a ticker"),
        (None, ParameterError, "symbols must be tickers separated by blanks, or a list of them, got None"),
        ({"AAPL": 1}, ParameterError, "symbols must be tickers separated by blanks"),
        ("AAPL MSFT", UnknownSymbolError, "MSFT first bar..last bar: the embedded sample has no 1d bars of it"),
    ],
    ids=str,
)
def test_wrong_symbols_are_named(symbols, error, said):
    with pytest.raises(error, match=said):
        fetch_many(symbols, source="sample")
