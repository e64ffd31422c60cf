"""Only legal symbols, ranges and bars get past here, and a refusal names what is wrong with which bar."""

import datetime as dt
import hashlib
import struct

import numpy as np
import pandas as pd
import pytest

from backgrid.bars import (
    INTERVALS,
    bar_text,
    check_date,
    check_interval,
    check_prices,
    check_range,
    check_symbol,
    cut_range,
    drawn_bars,
    hash_bars,
    infer_periods_per_year,
    longest_gap,
    span_text,
)
from backgrid.data import fetch_ohlcv
from backgrid.errors import BackgridError, ParameterError, PricesError, TooFewBarsError

CLOSES = [100.0, 110.0, 121.0, 115.0]

# ---- what may be asked for -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("symbol", ["AAPL", "^GSPC", "BRK-B", "EURUSD=X", "ES=F", "005930.KS", "BTC-USD", "A" * 20])
def test_legal_symbol_passes_in_any_case(symbol):
    assert check_symbol(symbol) == check_symbol(symbol.lower()) == symbol


@pytest.mark.parametrize(
    "symbol",
    [
        "../../etc/passwd",
        "..\\..\\x",
        "/etc/passwd",
        "A/B",
        "",
        " ",
        ".",
        "..",
        "A.",
        "A..B",
        "^",
        "A^B",
        "A\0B",
        "AAPL\n",
        "AA PL",
        "%2e%2e%2f",
        "A" * 21,
        "A" * 10_240,
        "\N{GRINNING FACE}",
        "\N{RIGHT-TO-LEFT OVERRIDE}LPAA",
        "CAF\N{LATIN CAPITAL LETTER E WITH ACUTE}",
        "CAFE\N{COMBINING ACUTE ACCENT}",
        "\N{FULLWIDTH LATIN CAPITAL LETTER A}APL",
        "STRA\N{LATIN SMALL LETTER SHARP S}E",  # upper-cases to STRASSE
        "<script>alert(1)</script>",
        "$(id)",
        "' OR 1=1",
        None,
        5,
        b"AAPL",
        ["AAPL"],
    ],
    ids=lambda symbol: ascii(symbol)[:30],
)
def test_illegal_symbol_is_refused_in_one_short_line(symbol):
    with pytest.raises(ParameterError, match=r"^symbol .* is not a ticker: .* such as AAPL") as caught:
        check_symbol(symbol)
    assert len(str(caught.value)) < 300 and "\n" not in str(caught.value)


def test_unknown_interval_is_refused_with_the_nearest_one():
    assert [check_interval(interval) for interval in INTERVALS] == list(INTERVALS)
    with pytest.raises(ParameterError, match="unknown interval '1dd'; did you mean '1d'"):
        check_interval("1dd")
    with pytest.raises(ParameterError, match="unknown interval None"):
        check_interval(None)


@pytest.mark.parametrize(
    "value",
    ["2023-12-31", dt.date(2023, 12, 31), dt.datetime(2023, 12, 31), pd.Timestamp("2023-12-31")],
    ids=repr,
)
def test_date_may_be_text_a_date_or_a_midnight(value):
    assert check_date(value) == dt.date(2023, 12, 31)


@pytest.mark.parametrize("value", [dt.datetime(2023, 12, 31, 16), pd.Timestamp("2023-12-31", tz="UTC")], ids=repr)
def test_time_of_a_date_is_refused_and_not_dropped(value):
    with pytest.raises(ParameterError, match="^start must be a date without a time, got 2023-12-31T"):
        check_date(value, "start")


@pytest.mark.parametrize("value", [None, ""])
def test_no_date_is_none(value):
    assert check_date(value) is None


@pytest.mark.parametrize("value", ["2023-02-30", "31.12.2023", "yesterday", 20231231, 2023.5, True, pd.NaT, ["2023"]])
def test_what_is_no_date_is_refused_by_name(value):
    with pytest.raises(ParameterError, match=r"^end (must be a date such as 2023-12-31, got|is not a date: NaT)"):
        check_range("2023-01-01", value)


def test_range_may_be_one_day_and_not_run_backwards():
    day = dt.date(2023, 1, 2)
    assert check_range("2023-01-02", "2023-01-02") == (day, day)
    assert check_range(None, "2023-01-02") == (None, day)
    with pytest.raises(ParameterError, match="end 2023-01-01 is before start 2023-01-02"):
        check_range("2023-01-02", "2023-01-01")


@pytest.mark.parametrize(
    ("first", "last", "kept"),
    [(None, None, [0, 1, 2, 3]), (2, 3, [1, 2]), (3, None, [2, 3]), (None, 1, [0]), (9, None, []), (4, 4, [3])],
)
@pytest.mark.parametrize("zone", [None, "America/New_York", "Asia/Tokyo"])
def test_range_holds_both_ends_in_the_bars_own_time_zone(bars, first, last, kept, zone):
    """The bars lie at 23:30 of 1 to 4 January: another day in most of the world."""
    prices = bars(CLOSES, index=pd.date_range("2023-01-01 23:30", periods=4, tz=zone))
    first, last = (day and dt.date(2023, 1, day) for day in (first, last))
    assert cut_range(prices, first, last).equals(prices.iloc[kept])


def test_bars_without_dates_are_not_cut(bars):
    prices = bars(CLOSES).reset_index(drop=True)
    assert cut_range(prices, dt.date(2023, 1, 3), None) is prices


def test_range_is_shown_with_its_open_ends():
    assert span_text(dt.date(2023, 1, 2), None) == "2023-01-02..last bar"
    assert span_text(None, dt.date(2023, 1, 2)) == "first bar..2023-01-02"


# ---- which bars can be backtested ------------------------------------------------------------------------------------


def test_checked_prices_are_float64_on_a_nanosecond_index_named_date(bars):
    prices = bars(CLOSES).round().astype(int).assign(Volume=[5, 6, 7, 8], Dividends=0.0)
    prices.index = prices.index.as_unit("s").rename("when")
    prices.attrs["symbol"] = "X"
    checked = check_prices(prices)
    assert checked.columns.tolist() == ["Open", "High", "Low", "Close", "Volume"]
    assert (checked.dtypes == np.float64).all()
    assert (checked.index.name, checked.index.dtype, checked.attrs) == ("Date", "datetime64[ns]", {})
    assert checked["Close"].tolist() == CLOSES and checked["Volume"].tolist() == [5.0, 6.0, 7.0, 8.0]


def test_checking_leaves_the_callers_frame_as_it_was(bars, aapl):
    for prices in (bars(CLOSES), aapl.copy()):
        before, attrs = prices.copy(), dict(prices.attrs)
        checked = check_prices(prices)
        checked.loc[checked.index[0], "Close"] = 1.0
        pd.testing.assert_frame_equal(prices, before)
        assert prices.attrs == attrs


def test_prices_that_are_already_checked_pass_as_they_are(aapl):
    assert check_prices(aapl).equals(aapl)


def test_series_of_closes_gives_one_column():
    closes = pd.Series(CLOSES, index=pd.bdate_range("2023-01-02", periods=4), name="AAPL")
    assert check_prices(closes).to_dict("list") == {"Close": CLOSES}


@pytest.mark.parametrize("dtype", ["Float64", "float32", "Int64", "int32"])
def test_any_dtype_of_numbers_will_do(bars, dtype):
    assert check_prices(bars(CLOSES).astype(dtype))["Close"].tolist() == CLOSES


def cell(column, row, value):
    """A way to damage a frame: one value."""

    def damage(prices):
        prices = prices.astype(object) if isinstance(value, str) else prices
        prices.iloc[row, prices.columns.get_loc(column)] = value
        return prices

    return damage


def rows(*places):
    """A way to damage a frame: take these rows."""
    return lambda prices: prices.iloc[list(places)]


def index(make):
    """A way to damage a frame: another index."""
    return lambda prices: prices.set_axis(make(prices.index), axis=0)


def with_missing_twin(prices):
    """A duplicated date whose second row is NaN, as Yahoo has sent it."""
    return pd.concat([prices, prices.iloc[[3]] * np.nan])


DAMAGE = {
    "NaN": (cell("Close", 2, np.nan), "Close is nan on 2023-01-04: prices must be finite and above 0"),
    "NaN last": (cell("Open", 3, np.nan), "Open is nan on 2023-01-05"),
    "infinite": (cell("High", 1, np.inf), "High is inf on 2023-01-03"),
    "minus infinite": (cell("Low", 1, -np.inf), "Low is -inf on 2023-01-03"),
    "zero": (cell("Low", 2, 0.0), "Low is 0.0 on 2023-01-04"),
    "negative": (cell("Close", 0, -1.0), "Close is -1.0 on 2023-01-02"),
    "all NaN": (lambda p: p.assign(Open=np.nan), "Open is nan on 2023-01-02"),
    "NA": (lambda p: p.astype("Float64").replace(121.0, pd.NA), "Open is nan on 2023-01-05"),
    "high below low": (
        lambda p: p.rename(columns={"High": "Low", "Low": "High"}),
        "High and Low do not bracket Open and Close on 2023-01-03: Open 100, High 100, Low 110, Close 110",
    ),
    "close above high": (
        cell("High", 2, 120.0),
        "do not bracket Open and Close on 2023-01-04: .* High 120, .* Close 121",
    ),
    "close below low": (cell("Low", 3, 116.0), "do not bracket Open and Close on 2023-01-05: .* Low 116, Close 115"),
    "open above high": (cell("Open", 1, 111.0), "do not bracket Open and Close on 2023-01-03: Open 111"),
    "open below low": (cell("Low", 1, 101.0), "do not bracket Open and Close on 2023-01-03: Open 100, .* Low 101"),
    "negative volume": (lambda p: p.assign(Volume=[0.0, 2.0, -3.0, 4.0]), "Volume is -3.0 on 2023-01-04"),
    "text": (cell("Close", 1, "110"), "column Open holds object, not numbers"),
    "booleans": (lambda p: p.assign(Low=True), "column Low holds bool, not numbers"),
    "missing column": (lambda p: p.drop(columns=["Low", "High"]), "prices lack High, Low: they have Open, Close"),
    "lower case": (lambda p: p.rename(columns=str.lower), "prices lack Open, High, Low, Close: they have open, high"),
    "no columns": (lambda p: p[[]], "prices lack Open, High, Low, Close: they have no columns"),
    "twice a column": (lambda p: pd.concat([p, p["Low"]], axis=1), "prices have two columns named 'Low': keep one"),
    "two levels": (lambda p: pd.concat({"AAPL": p}, axis=1), r"two levels of columns: select .* prices\['AAPL'\]"),
    "unsorted": (rows(0, 2, 1, 3), "dates are not sorted: 2023-01-03 comes after 2023-01-04"),
    "newest first": (rows(3, 2, 1, 0), "dates are not sorted: 2023-01-04 comes after 2023-01-05"),
    "duplicate date": (rows(0, 1, 1, 2), "the date 2023-01-03 stands twice"),
    "duplicate with NaN twin": (with_missing_twin, "the date 2023-01-05 stands twice"),
    "missing date": (index(lambda i: i.where(i != i[2])), "the date of row 2 is missing"),
    "clock put back": (
        index(
            lambda i: pd.DatetimeIndex(["2023-10-29 02:00", "2023-10-29 02:30", "2023-10-29 02:00", "2023-10-29 03:00"])
        ),
        "dates are not sorted: 2023-10-29 02:00 comes after 2023-10-29 02:30",
    ),
    "mixed time zones": (
        index(lambda i: pd.Index([*i[:2], *i[2:].tz_localize("UTC")], dtype=object)),
        "prices need a DatetimeIndex, got Index of object",
    ),
    "no dates": (lambda p: p.reset_index(drop=True), "prices need a DatetimeIndex, got RangeIndex of int64"),
    "dates as text": (index(lambda i: i.astype(str)), "prices need a DatetimeIndex, got Index of (str|object)"),
    "no rows": (rows(), "a backtest needs two bars at least, got 0"),
    "one row": (rows(0), "a backtest needs two bars at least, got 1"),
    "a list": (lambda p: p["Close"].tolist(), "prices must be a DataFrame of bars or a Series of closes, got list"),
    "nothing": (lambda p: None, "prices must be a DataFrame of bars or a Series of closes, got NoneType"),
}


@pytest.mark.parametrize(("damage", "message"), DAMAGE.values(), ids=DAMAGE.keys())
def test_damaged_prices_are_refused_naming_the_column_and_the_bar(bars, damage, message):
    prices = bars(CLOSES)
    check_prices(prices)
    with pytest.raises(PricesError, match=message):
        check_prices(damage(prices))


def test_too_few_bars_have_an_error_of_their_own(bars):
    with pytest.raises(TooFewBarsError):
        check_prices(bars([100.0]))


def test_dates_beyond_nanoseconds_are_refused_with_a_typed_error(bars):
    """A nanosecond index ends in 2262."""
    index = pd.DatetimeIndex(np.arange("2300-01-01", "2300-01-05", dtype="datetime64[D]").astype("datetime64[s]"))
    with pytest.raises(BackgridError, match="2300"):
        check_prices(bars(CLOSES, index=index))


def test_series_with_a_bad_close_is_refused_by_date():
    closes = pd.Series([1.0, np.nan], index=pd.bdate_range("2023-01-02", periods=2))
    with pytest.raises(PricesError, match="Close is nan on 2023-01-03"):
        check_prices(closes)


def test_intraday_bar_is_named_with_its_time():
    times = pd.date_range("2023-01-02 09:30", periods=2, freq="min", tz="America/New_York")
    assert bar_text(times, 1) == "2023-01-02 09:31"
    assert bar_text(pd.bdate_range("2023-01-02", periods=2), 1) == "2023-01-03"
    assert bar_text(pd.RangeIndex(5), 3) == "3"


# ---- one hash for one set of numbers ---------------------------------------------------------------------------------


def test_hash_is_of_the_numbers_and_not_of_how_they_are_kept(bars):
    prices = bars(CLOSES)
    once = hash_bars(prices)
    assert len(once) == 64
    assert once == hash_bars(prices.set_axis(prices.index.as_unit("s"), axis=0))
    assert once == hash_bars(pd.concat([prices.iloc[:2], prices.iloc[2:]]))
    assert hash_bars(prices.assign(Volume=0.0)) == hash_bars(prices.assign(Volume=-0.0))


def test_hash_is_sha_256_of_a_heading_the_nanoseconds_and_the_columns(bars):
    """Snapshots are named by it: it must never change."""
    prices = bars(CLOSES)
    nanoseconds = [pd.Timestamp(date).value for date in prices.index]
    numbers = [value for column in prices for value in prices[column]]
    content = b"None|Open|High|Low|Close|4" + struct.pack("<4q", *nanoseconds) + struct.pack("<16d", *numbers)
    assert hash_bars(prices) == hashlib.sha256(content).hexdigest()


def test_hash_changes_with_a_value_a_date_a_zone_a_name_or_the_order(bars):
    prices = bars(CLOSES)
    others = [
        prices,
        prices.assign(Close=np.nextafter(prices["Close"], np.inf)),
        prices.set_axis(prices.index + pd.Timedelta(1, "ns"), axis=0),
        prices.tz_localize("UTC"),
        prices.rename(columns={"Close": "Last"}),
        prices[["High", "Open", "Low", "Close"]],
        prices.iloc[:3],
    ]
    assert len({hash_bars(other) for other in others}) == len(others)


# ---- what the bars say about the calendar ----------------------------------------------------------------------------


def us_sessions(minutes, days=10):
    """Bars of regular US sessions, 9:30 to 16:00."""
    sessions = [
        pd.date_range(f"{day:%Y-%m-%d} 09:30", f"{day:%Y-%m-%d} 15:59", freq=f"{minutes}min", tz="America/New_York")
        for day in pd.bdate_range("2023-03-06", periods=days)  # the clock changes on 12 March
    ]
    return sessions[0].append(sessions[1:])


def new_zealand_mornings():
    """10:00 to 13:00 on ten days."""
    hours = [f"{day:%Y-%m-%d} {hour}:00" for day in pd.bdate_range("2023-01-09", periods=10) for hour in range(10, 14)]
    return pd.DatetimeIndex(hours, tz="Pacific/Auckland")


@pytest.mark.parametrize(
    ("index", "expected"),
    [
        (pd.bdate_range("2023-01-02", periods=250), 252),
        (pd.date_range("2023-01-01", periods=365), 365),
        (pd.date_range("2023-01-06", periods=52, freq="W-FRI"), 52),
        (pd.date_range("2020-01-31", periods=24, freq="BME"), 12),
        (pd.date_range("2010-03-31", periods=24, freq="QE"), 4),
        (pd.date_range("2000-12-31", periods=20, freq="YE"), 1),
        (us_sessions(15), 26 * 252),
        (us_sessions(60), 7 * 252),
        (us_sessions(1), 390 * 252),
        (us_sessions(15, days=1), 26 * 252),
        (pd.date_range("2023-01-01", periods=240, freq="h", tz="UTC"), 24 * 365),
        (pd.bdate_range("2023-01-02", periods=99, freq="C", weekmask="Mon Tue Wed Thu Fri Sat"), 252),
        (pd.bdate_range("2023-01-01", periods=250, freq="C", weekmask="Sun Mon Tue Wed Thu"), 252),  # Tel Aviv
        (new_zealand_mornings(), 4 * 252),  # on Mondays still Sunday in UTC
        (pd.DatetimeIndex(["2023-01-06", "2023-01-09"]), 252),  # Friday and Monday
        (pd.DatetimeIndex(["2022-12-30", "2023-01-03"]), 252),  # over a Monday without trade
    ],
    ids=lambda value: str(value) if isinstance(value, int) else f"{len(value)} bars",
)
def test_periods_per_year_come_from_the_bars(index, expected):
    assert infer_periods_per_year(index.as_unit("ns")) == expected


@pytest.mark.parametrize(
    ("symbol", "interval", "expected"), [("AAPL", "1d", 252), ("AAPL", "1m", 98_280), ("EURUSD=X", "1h", 6_048)]
)
def test_periods_per_year_of_real_bars(symbol, interval, expected):
    prices = fetch_ohlcv(symbol, interval=interval, source="sample")
    assert infer_periods_per_year(prices.index) == expected


def test_longest_gap_is_named_by_the_bar_after_it_and_long_ones_are_counted():
    days = pd.DatetimeIndex(["2023-01-02", "2023-01-03", "2023-01-07", "2023-01-08", "2023-01-13", "2023-01-14"])
    assert longest_gap(days) == (4, 1)  # 4 and 5 days: the median gap is one day, and only 5 is over four of them
    assert longest_gap(pd.bdate_range("2023-01-02", periods=20))[1] == 0


def test_short_series_is_drawn_whole_and_a_long_one_by_its_extremes():
    assert drawn_bars(np.arange(10.0), most=10).tolist() == list(range(10))
    values = np.zeros(10_001)
    values[[0, 777, 778, 5_000, 5_001]] = [np.nan, 9.0, np.nan, -9.0, np.nan]
    drawn = drawn_bars(values, most=100)
    assert len(drawn) <= 102 and {0, 777, 5_000, 10_000} <= set(drawn.tolist())
    assert (np.diff(drawn) > 0).all()
