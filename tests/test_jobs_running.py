"""Prices that a process holds for its jobs: read once, and again as soon as they may be other."""

import datetime as dt

import pandas as pd
import pytest

from backgrid import cache
from backgrid.data import SAMPLE
from backgrid.jobs import running
from backgrid.models import build_request

FIRST, LAST = dt.date(2023, 1, 3), dt.date(2023, 12, 29)


@pytest.fixture(autouse=True)
def nothing_held(folder):
    running._read.cache_clear()


def keep(factor=1.0, last=LAST):
    """Bars as a download leaves them in the cache."""
    raw = pd.read_parquet(SAMPLE / "AAPL_1d.parquet").loc[str(FIRST) : str(LAST)]
    prices = [name for name in raw if name in ("Open", "High", "Low", "Close", "Adj Close")]
    raw[prices] *= factor
    cache.cached_bars("AAPL", FIRST, last, "1d", lambda *_: (raw, []))


def held(**fields):
    asked = {"symbol": "AAPL", "start": str(FIRST), "end": str(LAST), "source": "yahoo", **fields}
    return [*running.prices_at_hand(build_request(**asked)).values()]


def the_entry():
    [path] = cache.cache_folder("prices").glob("*.parquet")
    return path


def test_prices_of_the_sample_are_read_once():
    [first], [second] = held(source="sample"), held(source="sample")
    assert first is second and len(first) == 250


def test_prices_of_the_cache_are_read_once():
    keep()
    [first], [second] = held(), held()
    assert first is second and len(first) == 250


def test_an_entry_that_was_replaced_is_read_again():
    keep()
    [before] = held()
    the_entry().unlink()
    keep(factor=2.0)
    [after] = held()
    assert (after["Close"] == 2.0 * before["Close"]).all()


def test_nothing_is_held_of_a_range_that_is_not_in_the_cache():
    assert held() == []


def test_nothing_is_held_of_an_entry_that_has_gone():
    keep()
    held()
    the_entry().unlink()
    assert held() == []


def test_nothing_is_held_of_a_range_that_was_not_over_an_hour_ago(monkeypatch):
    keep(last=None)
    assert len(held(end=None)) == 1
    now = cache.time.time()
    monkeypatch.setattr(cache.time, "time", lambda: now + 3601.0)
    assert held(end=None) == []


def test_nothing_is_held_of_a_file():
    assert held(source="prices.csv") == []


def test_what_a_job_is_given_is_a_copy():
    keep()
    [prices] = held()
    with running.pinned(running.prices_at_hand(build_request(symbol="AAPL", start=FIRST, end=LAST, source="yahoo"))):
        given = running.fetch_ohlcv("AAPL", FIRST, LAST, source="yahoo")
    given["Close"] = 0.0
    assert (held()[0]["Close"] > 0.0).all() and held()[0] is prices
