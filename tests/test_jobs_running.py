"""Prices that a process holds for its jobs: read once, and again as soon as they may be other."""

import datetime as dt
import os

import pandas as pd
import pytest

from backgrid import cache
from backgrid.data import SAMPLE
from backgrid.jobs import running, store
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


def test_a_result_that_the_database_will_not_have_fails_its_job(tmp_path, monkeypatch, caplog):
    engine = store.open_store(f"sqlite:///{tmp_path / 'jobs.db'}")
    request = build_request(symbol="AAPL", start=FIRST, end=LAST, source="sample")
    job = store.claim(engine, store.submit(engine, request, owner="")[0].number, seconds=60.0)
    outcome = running.run_job(job)
    broken = outcome._replace(response=outcome.response.model_copy(update={"sharpe": "none"}))
    assert running.write_outcome(engine, job, broken)
    ended = store.find_job(engine, job.id)
    assert (ended.status, ended.error) == ("failed", f"{running.INTERNAL} {job.id}")
    assert "Traceback" in caplog.text
    engine.dispose()


def test_only_folders_that_no_job_can_be_using_are_removed(tmp_path, monkeypatch):
    monkeypatch.setattr(running.tempfile, "gettempdir", lambda: str(tmp_path))
    for name, age in {"backgrid-job-old": 3, "backgrid-job-new": 1, "other-old": 3}.items():
        (tmp_path / name).mkdir()
        long_ago = running.time.time() - age * 86_400.0
        os.utime(tmp_path / name, (long_ago, long_ago))
    running.remove_leftovers()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["backgrid-job-new", "other-old"]
