"""The sample data must be what SOURCES.md and the design say; the files on disk are tested, nothing is downloaded."""

import runpy
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

SAMPLE = Path(__file__).parents[1] / "backgrid" / "sample"
OHLCV = ["Open", "High", "Low", "Close", "Volume"]
ADJUSTED = [*OHLCV, "Adj Close"]
FORM = {
    "AAPL_1d": (None, ADJUSTED),
    "AAPL_1m": ("America/New_York", OHLCV),
    "AMZN_1d": (None, ADJUSTED),
    "EURUSD-X_1h": ("UTC", OHLCV),
    "GOOG_1d": (None, ADJUSTED),
    "GSPC_1d": (None, ADJUSTED),
    "META_1d": (None, ADJUSTED),
    "NFLX_1d": (None, ADJUSTED),
    "NVDA_1d": (None, ADJUSTED),
}
check_bars = runpy.run_path(str(SAMPLE / "build.py"))["check_bars"]
every_file = pytest.mark.parametrize("name", FORM)


def read(name):
    return pd.read_parquet(SAMPLE / f"{name}.parquet")


def rows_of_sources():
    """Rows of the table in SOURCES.md, as text by heading."""
    lines = (SAMPLE / "SOURCES.md").read_text(encoding="utf-8").splitlines()
    heading, _, *rows = [line.strip("| ").split(" | ") for line in lines if line.startswith("|")]
    return [dict(zip(heading, row, strict=True)) for row in rows]


def test_sample_holds_these_files_and_no_other():
    assert sorted(path.stem for path in SAMPLE.glob("*.parquet")) == sorted(FORM)


@every_file
def test_file_has_the_columns_and_the_index_of_the_design(name):
    bars, (zone, columns) = read(name), FORM[name]
    assert list(bars.columns) == columns
    assert (bars.dtypes == np.float64).all()
    assert bars.index.name == "Date"
    assert str(bars.index.dtype) == ("datetime64[ns]" if zone is None else f"datetime64[ns, {zone}]")
    assert bars.index.is_monotonic_increasing and bars.index.is_unique


@every_file
def test_daily_bars_carry_dates_without_a_time(name):
    bars = read(name)
    assert (bars.index == bars.index.normalize()).all() == name.endswith("_1d")


@every_file
def test_prices_are_finite_and_positive_and_volume_is_not_negative(name):
    bars = read(name)
    assert np.isfinite(bars).all(axis=None)
    assert (bars.drop(columns="Volume") > 0).all(axis=None)
    assert (bars["Volume"] >= 0).all()


@every_file
def test_high_and_low_bracket_open_and_close(name):
    bars = read(name)
    assert (bars["Low"] <= bars[["Open", "Close"]].min(axis=1)).all()
    assert (bars["High"] >= bars[["Open", "Close"]].max(axis=1)).all()


def test_aapl_2023_has_250_sessions_from_125_07_to_192_53():
    close = read("AAPL_1d").loc["2023", "Close"]
    assert (len(close), close.iloc[0], close.iloc[-1]) == (250, 125.07, 192.53)


def test_adjusted_close_never_exceeds_close():
    """Dividends only lower earlier prices, so an adjusted close above the close would be a mixed-up column."""
    for name in (name for name, (_, columns) in FORM.items() if columns == ADJUSTED):
        bars = read(name)
        assert (bars["Adj Close"] <= bars["Close"]).all()


def test_minute_bars_are_six_full_sessions():
    dates = read("AAPL_1m").index
    sessions = dates.groupby(dates.date)
    assert len(sessions) == 6
    for day, session in sessions.items():
        full = pd.date_range(f"{day} 09:30", f"{day} 15:59", freq="min", tz="America/New_York")
        assert len(full) == 390 and session.equals(full.rename("Date"))


def test_eurusd_weeks_open_on_sunday_at_17_in_new_york():
    """The source names no time zone: read as UTC, its weeks follow New York's clock through both changes of 2017."""
    dates = read("EURUSD-X_1h").index.tz_convert("America/New_York")
    opens = dates[1:][dates[1:] - dates[:-1] > pd.Timedelta(days=1)]
    usual = [date for date in opens if f"{date:%m-%d}" != "12-24"]
    assert len(usual) == 50 and {f"{date:%a %H:%M}" for date in usual} == {"Sun 17:00"}


def test_sources_has_one_row_for_each_file():
    assert sorted(row["File"] for row in rows_of_sources()) == sorted(f"{name}.parquet" for name in FORM)


@pytest.mark.parametrize("row", rows_of_sources(), ids=lambda row: row["File"])
def test_sources_states_what_the_file_holds(row):
    bars = pd.read_parquet(SAMPLE / row["File"])
    zone = bars.index.tz
    assert row["File"] == f"{row['Symbol'].lstrip('^').replace('=', '-')}_{row['Interval']}.parquet"
    assert int(row["Bars"]) == len(bars)
    assert [pd.Timestamp(end, tz=zone) for end in row["Range"].split("..")] == [bars.index[0], bars.index[-1]]
    assert row["Columns"].split(", ") == list(bars.columns)
    assert row["Time zone"] == ("none (session dates)" if zone is None else str(zone))


def test_sources_names_no_address_or_machine_path():
    text = (SAMPLE / "SOURCES.md").read_text(encoding="utf-8").lower()
    assert not [word for word in ("://", "www.", ".org", ".com", "/tmp", "/home", "/work") if word in text]


def test_sample_takes_less_than_1_3_megabytes():
    assert sum(path.stat().st_size for path in SAMPLE.glob("*.parquet")) < 1_300_000


@pytest.mark.parametrize(
    ("column", "value", "rule"),
    [
        ("Close", np.nan, "finite"),
        ("Adj Close", 0.0, "positive"),
        ("Volume", -1.0, "Volume"),
        ("High", 1.0, "High"),
        ("Low", 999.0, "Low"),
    ],
)
def test_build_stops_at_a_broken_bar_and_names_its_date(column, value, rule):
    bars = read("AAPL_1d")
    check_bars("AAPL", bars)
    bars.loc["2023-01-03", column] = value
    with pytest.raises(ValueError, match=f"AAPL: .*{rule}.* 2023-01-03"):
        check_bars("AAPL", bars)


def test_build_stops_at_dates_that_do_not_rise():
    twice = read("AAPL_1d").iloc[[0, 1, 1, 2]]
    with pytest.raises(ValueError, match="dates must rise, first broken on 2019-01-03"):
        check_bars("AAPL", twice)
