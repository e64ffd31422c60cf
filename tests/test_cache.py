"""The cache asks once, never hands out other numbers than it was given, and stands many processes; snapshots stay."""

import contextlib
import datetime as dt
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pyarrow
import pyarrow.parquet
import pytest
from yahoo_server import SERVER_ERROR, serving_yahoo

from backgrid import cache, errors
from backgrid.bars import hash_bars
from backgrid.data import fetch_ohlcv

pytestmark = pytest.mark.usefixtures("folder")
RANGE = (dt.date(2023, 1, 1), dt.date(2023, 1, 31))
YEAR = (dt.date(2023, 1, 1), dt.date(2023, 12, 31))
NOTES = ["dropped the last bar"]
LEGAL = ["AAPL", "^GSPC", "BRK-B", "EURUSD=X", "ES=F", "005930.KS", "BTC-USD", "BF.B"]


@pytest.fixture
def raw(bars):
    """Eight raw bars with numbers that fill their bytes, and a gap."""
    frame = bars(100.0 + np.sqrt(np.arange(2.0, 10.0))).assign(Volume=1e6 / 3, Dividends=0.0)
    frame.loc["2023-01-05", "Dividends"] = np.nan
    return frame.set_axis(frame.index.as_unit("ns").rename("Date"))


class Download:
    """Hands out the same bars each time, and counts."""

    def __init__(self, raw):
        self.raw, self.calls = raw, []

    def __call__(self, *request):
        self.calls.append(request)
        return self.raw.copy(), list(NOTES)


@pytest.fixture
def download(raw):
    return Download(raw)


@pytest.fixture
def server(tmp_path, monkeypatch, bars):
    """Yahoo with AAPL's ten bars from 2023-01-02 on."""
    monkeypatch.setattr("backgrid.yahoo._sleep", lambda seconds: None)
    with serving_yahoo(tmp_path / "yfinance") as yahoo_server:
        yahoo_server.serve("AAPL", bars(np.arange(100.0, 110.0)).assign(Volume=1000.0), dividends={"2023-01-05": 0.5})
        yield yahoo_server


@pytest.fixture
def clock(monkeypatch):
    """The cache's own clock: `clock.now` may be set."""
    ours = SimpleNamespace(now=time.time(), time_ns=time.time_ns)
    ours.time = lambda: ours.now
    monkeypatch.setattr(cache, "time", ours)
    return ours


def cached(download, symbol="AAPL", span=RANGE, interval="1d"):
    return cache.cached_bars(symbol, *span, interval, download)


def entries(folder, name="prices"):
    return sorted((folder / name).glob("*"))


def assert_intact(got, raw):
    """Exactly the bars and notes that were downloaded."""
    pd.testing.assert_frame_equal(got[0], raw, check_exact=True, check_freq=False)
    assert got[1] == NOTES


# ---- entries ---------------------------------------------------------------------------------------------------------


def test_second_fetch_makes_no_request_and_gives_the_same(server):
    first = fetch_ohlcv("AAPL", *RANGE, source="yahoo")
    asked = len(server.requests)
    second = fetch_ohlcv("aapl", "2023-01-01", "2023-01-31", source="yahoo")
    assert len(server.requests) == asked > 0
    pd.testing.assert_frame_equal(first, second, check_exact=True, check_freq=False)
    assert first.attrs == second.attrs


def test_adjustment_is_made_on_reading(server):
    """One entry serves both, since it holds raw bars."""
    adjusted = fetch_ohlcv("AAPL", *RANGE, source="yahoo")
    asked = len(server.requests)
    traded = fetch_ohlcv("AAPL", *RANGE, source="yahoo", adjusted=False)
    assert len(server.requests) == asked
    assert traded["Close"].iloc[0] == 100.0 and adjusted["Close"].iloc[0] < 100.0


def test_entry_gives_back_every_bit_and_the_notes(folder, download, raw):
    assert_intact(cached(download), raw)
    assert_intact(cached(download), raw)
    assert len(download.calls) == 1 and len(entries(folder)) == 1


def test_times_with_a_zone_come_back(download, raw):
    download.raw = raw.set_axis(pd.date_range("2023-01-05 09:30", periods=8, freq="min", tz="America/New_York"))
    cached(download, interval="1m")
    got = cached(download, interval="1m")[0]
    assert str(got.index.tz) == "America/New_York" and hash_bars(got) == hash_bars(download.raw)
    assert len(download.calls) == 1


@pytest.mark.parametrize(
    "other",
    [
        {"symbol": "MSFT"},
        {"interval": "1wk"},
        {"span": (RANGE[0], dt.date(2023, 1, 30))},
        {"span": (dt.date(2022, 12, 31), RANGE[1])},
        {"span": (None, RANGE[1])},
        {"span": (RANGE[0], None)},
    ],
    ids=str,
)
def test_another_request_is_another_entry(folder, download, other):
    cached(download)
    cached(download, **other)
    cached(download)
    assert len(download.calls) == 2 and len(entries(folder)) == 2


@pytest.mark.parametrize("symbol", LEGAL)
def test_every_legal_symbol_is_asked_for_as_it_is_and_stays_inside_the_folder(server, bars, folder, tmp_path, symbol):
    server.serve(symbol, bars([5.0, 6.0, 7.0]).assign(Volume=1.0))
    before = set(tmp_path.rglob("*"))
    assert fetch_ohlcv(symbol, *RANGE, source="yahoo")["Close"].tolist() == [5.0, 6.0, 7.0]
    (entry,) = entries(folder)
    assert entry.name.startswith(f"{symbol}_1d_")
    assert all(folder in path.parents or path == folder for path in set(tmp_path.rglob("*")) - before)


HOUR = 3600.0


@pytest.mark.parametrize(
    ("last", "later", "asks"),
    [
        (None, 0.99 * HOUR, False),
        (None, 1.01 * HOUR, True),
        (None, -1.0, True),
        (dt.date(2023, 12, 31), 1.01 * HOUR, True),
        (dt.date(2023, 6, 15), 1.01 * HOUR, True),
        (dt.date(2023, 6, 14), 1.01 * HOUR, True),
        (dt.date(2023, 6, 13), 1000 * 24 * HOUR, False),
        (dt.date(2023, 6, 13), -1.0, False),
    ],
)
def test_range_that_was_over_stays_good_and_any_other_for_an_hour(download, clock, last, later, asks):
    """Fetched on 2023-06-15; the day before may still be traded somewhere. A clock set back is not trusted."""
    clock.now = dt.datetime(2023, 6, 15, 12, tzinfo=dt.UTC).timestamp()
    cached(download, span=(None, last))
    clock.now += later
    cached(download, span=(None, last))
    assert len(download.calls) == 1 + asks


def test_entry_is_kept_while_yahoo_fails(server, folder, clock):
    """An expired entry is no answer, and no failure takes it away."""
    fetch_ohlcv("AAPL", source="yahoo")
    (entry,) = entries(folder)
    kept = entry.read_bytes()
    clock.now += 2 * HOUR
    server.answer_with(*SERVER_ERROR)
    with pytest.raises(errors.UpstreamError):
        fetch_ohlcv("AAPL", source="yahoo")
    assert entries(folder) == [entry] and entry.read_bytes() == kept


# ---- damage ----------------------------------------------------------------------------------------------------------


def damage(download, folder, content):
    """An entry whose file holds `content` instead; returns its path."""
    cached(download)
    (entry,) = entries(folder)
    entry.write_bytes(content(entry.read_bytes()))
    return entry


def test_entry_cut_short_at_any_length_is_fetched_again_and_kept_aside(folder, download, raw):
    cached(download)
    (entry,) = entries(folder)
    whole = entry.read_bytes()
    lengths = np.linspace(0, len(whole) - 1, 40, dtype=int)
    for length in lengths:
        entry.write_bytes(whole[:length])
        assert_intact(cached(download), raw)
        assert_intact(cached(download), raw)
    assert len(download.calls) == 1 + len(lengths)
    assert sorted(len(path.read_bytes()) for path in entries(folder, "quarantine")) == sorted(lengths)


def test_no_flipped_byte_changes_a_number(folder, download, raw):
    """Most would read back as another price; a byte that holds no number may be passed over."""
    cached(download)
    (entry,) = entries(folder)
    whole = entry.read_bytes()
    random = np.random.default_rng(4)
    bad = set()
    for at, flip in zip(random.integers(0, len(whole), 300), random.integers(1, 256, 300), strict=True):
        flipped = whole[:at] + bytes([whole[at] ^ flip]) + whole[at + 1 :]
        entry.write_bytes(flipped)
        asked = len(download.calls)
        assert_intact(cached(download), raw)
        if len(download.calls) > asked:
            bad.add(flipped)
    assert len(bad) > 150
    assert {path.read_bytes() for path in entries(folder, "quarantine")} == bad


def other_schema(raw, path):
    pyarrow.parquet.write_table(pyarrow.table({"prices": [1.0, 2.0]}), path)


def other_prices(raw, path):
    """Prices changed by someone who kept the facts and their checksum."""
    table = pyarrow.parquet.read_table(path)
    pyarrow.parquet.write_table(table.set_column(0, "Open", pyarrow.array(raw["Open"] * 2.0)), path)


def other_notes(raw, path):
    table = pyarrow.parquet.read_table(path)
    facts = table.schema.metadata[b"backgrid"].replace(b"dropped", b"kept")
    pyarrow.parquet.write_table(table.replace_schema_metadata({**table.schema.metadata, b"backgrid": facts}), path)


def no_facts(raw, path):
    raw.to_parquet(path)


def folder_in_its_place(raw, path):
    path.unlink()
    path.mkdir()


def text(raw, path):
    path.write_text("Date,Open\n", encoding="utf-8")


def other_symbol(raw, path):
    """An intact entry of another request under this name."""
    cached(Download(raw * 2.0), symbol="MSFT")
    (entry,) = path.parent.glob("MSFT*")
    entry.replace(path)


def snapshot(raw, path):
    kept = cache.keep_snapshot(raw * 2.0)
    shutil.copy(path.parents[1] / "snapshots" / f"{kept}.parquet", path)


@pytest.mark.parametrize(
    "put",
    [
        other_schema, other_prices, other_notes, no_facts, folder_in_its_place, text,
        other_symbol, snapshot,
    ],
    ids=lambda put: put.__name__,
)  # fmt: skip
def test_file_that_is_not_this_entry_is_kept_aside_and_fetched_again(folder, download, raw, put, caplog):
    cached(download)
    (entry,) = entries(folder)
    put(raw, entry)
    wrong = entry.read_bytes() if entry.is_file() else None
    assert_intact(cached(download), raw)
    assert_intact(cached(download), raw)
    assert len(download.calls) == 2 and entries(folder) == [entry]
    (aside,) = entries(folder, "quarantine")
    assert aside.name.startswith(entry.name) and (aside.read_bytes() if aside.is_file() else None) == wrong
    assert [str(entry) in record.getMessage() for record in caplog.records] == [True]


def test_entry_of_another_request_is_never_handed_out(folder, download, raw):
    cached(download)
    (entry,) = entries(folder)
    other_symbol(raw, entry)
    assert_intact(cached(download), raw)


def test_damaged_entry_that_cannot_be_moved_is_an_error_naming_it(folder, download):
    entry = damage(download, folder, lambda content: content[:100])
    (folder / "quarantine").write_text("in the way", encoding="utf-8")
    with pytest.raises(errors.BackgridError, match=re.escape(entry.name)):
        cached(download)


# ---- eviction --------------------------------------------------------------------------------------------------------


def fill(download, n_symbols):
    """Entries of S100, S101, ... the first of them used longest ago."""
    for k in range(n_symbols):
        cached(download, symbol=f"S{100 + k}")
    for k, entry in enumerate(entries(Path(os.environ["BACKGRID_CACHE"]))):
        os.utime(entry, (1000.0 + k, 1000.0 + k))


def symbols(folder):
    return {entry.name.split("_")[0] for entry in entries(folder)}


def test_hundred_symbols_stay_and_the_one_used_longest_ago_goes(folder, download):
    fill(download, 100)
    assert len(symbols(folder)) == 100
    cached(download, symbol="S100")  # used again, so that S101 comes first
    cached(download, symbol="NEW")
    assert symbols(folder) == {f"S{k}" for k in range(100, 200)} - {"S101"} | {"NEW"}
    cached(download, symbol="NEW2")
    assert symbols(folder) == {f"S{k}" for k in range(100, 200)} - {"S101", "S102"} | {"NEW", "NEW2"}


def test_symbol_goes_with_all_its_entries_and_is_as_old_as_its_youngest(folder, download, monkeypatch):
    monkeypatch.setattr(cache, "CACHED_SYMBOLS", 2)
    for span in (RANGE, YEAR):
        cached(download, symbol="A", span=span)
        cached(download, symbol="B", span=span)
    for entry, used in zip(entries(folder), (1.0, 5.0, 2.0, 3.0), strict=True):  # A, A, B, B
        os.utime(entry, (used, used))
    cached(download, symbol="C")
    assert [entry.name.split("_")[0] for entry in entries(folder)] == ["A", "A", "C"]


def test_temporary_file_of_a_killed_process_is_removed_in_time(folder, download):
    cached(download)
    left, fresh = folder / "prices" / "left.tmp", folder / "prices" / "fresh.tmp"
    for path in (left, fresh):
        path.write_text("half", encoding="utf-8")
    os.utime(left, (1000.0, 1000.0))
    cached(download, symbol="MSFT")
    assert not left.exists() and fresh.exists()


def test_entry_that_vanishes_while_others_are_counted_is_no_error(folder, download, monkeypatch):
    cached(download)
    monkeypatch.setattr(Path, "glob", lambda self, pattern: [self / "GONE_1d_0.parquet"])
    assert_intact(cached(download, symbol="MSFT"), download.raw)


def test_damaged_entry_that_another_process_has_moved_is_no_error(folder, download, raw, monkeypatch):
    entry = damage(download, folder, lambda content: content[:100])
    folder_of = cache.cache_folder
    monkeypatch.setattr(
        cache, "cache_folder", lambda name: [name == "quarantine" and entry.unlink(), folder_of(name)][1]
    )
    assert_intact(cached(download), raw)
    assert len(download.calls) == 2 and entries(folder) == [entry] and entries(folder, "quarantine") == []


def test_entry_evicted_while_it_is_read_is_no_error(folder, download, raw, monkeypatch):
    cached(download)
    (entry,) = entries(folder)
    judge = cache._still_good
    monkeypatch.setattr(cache, "_still_good", lambda *given: [judge(*given), entry.unlink()][0])
    assert_intact(cached(download), raw)


# ---- many processes, no space, no permission -------------------------------------------------------------------------

WRITER = """
import sys
import pandas as pd
from backgrid import cache

cache.UNFINISHED_SECONDS = 0.0  # so that each round writes
raw = pd.read_pickle(sys.argv[1])
for k in range(25):
    own = raw * (1.0 + int(sys.argv[2]) + k / 25.0)
    cache.cached_bars("AAPL", None, None, "1d", lambda *request: (own, []))
print("done")
"""


def test_processes_that_fill_one_entry_never_show_a_reader_half_of_it(folder, raw, tmp_path):
    """Four writers, 25 rounds each; a reader polls, and from the first entry on finds a whole one each time."""
    raw.to_pickle(tmp_path / "raw.pickle")
    command = [sys.executable, "-W", "error", "-c", WRITER, str(tmp_path / "raw.pickle")]
    seen = []
    with contextlib.ExitStack() as stack:
        writers = []
        for k in range(4):
            writer = subprocess.Popen([*command, str(k)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
            writers.append(stack.enter_context(writer))
            stack.callback(writer.kill)
        while any(writer.poll() is None for writer in writers):
            found = folder.glob("prices/*.parquet")
            seen += [cache._read_bars(entry, "key", entry.stem.split("_")[-1]) for entry in found]
            time.sleep(0.002)
        assert [writer.stdout.read() for writer in writers] == ["done\n"] * 4
    assert None not in seen and len({kept[1]["content"] for kept in seen}) > 3
    for got, _ in seen:
        np.testing.assert_allclose(got["Close"] / raw["Close"], got["Open"].iloc[0] / raw["Open"].iloc[0], rtol=1e-12)
    assert len(entries(folder)) == 1 and not (folder / "quarantine").exists()


def test_failing_write_leaves_the_old_entry_and_nothing_else(folder, download, raw, clock):
    """A limit on the size of files stands for a full disk; Python turns its signal into an OSError."""
    resource = pytest.importorskip("resource")
    cached(download, span=(None, None))
    (entry,) = entries(folder)
    kept = entry.read_bytes()
    clock.now += 2 * HOUR
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(errors.BackgridError, match="cannot write .*prices.*File too large.*Free space, or set"):
            cached(download, span=(None, None))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert entries(folder) == [entry] and entry.read_bytes() == kept
    assert_intact(cached(download, span=(None, None)), raw)
    assert entries(folder) == [entry] and entry.read_bytes() != kept


@pytest.fixture
def file_in_the_way(folder):
    """A plain file where the cache folder should be: unwritable for the superuser, too."""
    folder.write_text("in the way", encoding="utf-8")
    return folder


def test_unwritable_cache_is_one_error_that_names_it(server, file_in_the_way):
    with pytest.raises(errors.BackgridError) as raised:
        fetch_ohlcv("AAPL", *RANGE, source="yahoo")
    assert str(file_in_the_way) in str(raised.value) and "set BACKGRID_CACHE" in str(raised.value)
    assert file_in_the_way.read_text(encoding="utf-8") == "in the way"


def test_sample_needs_no_cache(file_in_the_way):
    assert len(fetch_ohlcv("AAPL", *YEAR, source="sample")) == 250


# ---- snapshots -------------------------------------------------------------------------------------------------------


def test_snapshot_reproduces_the_prices_without_the_source(server, folder):
    prices = fetch_ohlcv("AAPL", *RANGE, source="yahoo")
    server.answer_with(*SERVER_ERROR, match="/")
    shutil.rmtree(folder / "prices")
    pinned = fetch_ohlcv("AAPL", *RANGE, source=f"snapshot:{prices.attrs['snapshot']}")
    pd.testing.assert_frame_equal(prices, pinned, check_exact=True, check_freq=False)
    assert pinned.attrs["snapshot"] == prices.attrs["snapshot"]


def test_snapshot_is_named_by_its_content_and_written_once(folder, raw):
    kept = cache.keep_snapshot(raw)
    assert kept == hash_bars(raw)
    (path,) = entries(folder, "snapshots")
    assert path.name == f"{kept}.parquet"
    written = path.stat().st_ino, path.read_bytes()
    assert cache.keep_snapshot(raw.copy()) == kept and (path.stat().st_ino, path.read_bytes()) == written
    pd.testing.assert_frame_equal(cache.load_snapshot(kept)[0], raw, check_exact=True, check_freq=False)


def test_revised_prices_are_another_snapshot_beside_the_old_one(server, folder, bars, clock):
    """Yahoo rewrites history; what a report used stays."""
    old = fetch_ohlcv("AAPL", source="yahoo")
    server.serve("AAPL", bars(np.arange(200.0, 210.0)).assign(Volume=1000.0))
    clock.now += 2 * HOUR
    new = fetch_ohlcv("AAPL", source="yahoo")
    assert new["Close"].iloc[0] == 200.0 and new.attrs["snapshot"] != old.attrs["snapshot"]
    again = fetch_ohlcv("AAPL", source=f"snapshot:{old.attrs['snapshot']}")
    assert again["Close"].tolist() == old["Close"].tolist()


def assert_refused(snapshot):
    with pytest.raises(errors.NoDataError, match=r"AAPL .*no intact .*Fetch again without pinning"):
        fetch_ohlcv("AAPL", source=f"snapshot:{snapshot}")


def test_snapshot_with_a_flipped_byte_is_refused_or_the_same(folder, raw):
    kept = cache.keep_snapshot(raw)
    (path,) = entries(folder, "snapshots")
    whole, n_refused = path.read_bytes(), 0
    for at in np.linspace(0, len(whole) - 1, 60, dtype=int):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0x55]) + whole[at + 1 :])
        loaded = cache.load_snapshot(kept)
        n_refused += loaded is None
        assert loaded is None or hash_bars(loaded[0]) == kept
    assert n_refused == len(entries(folder, "quarantine")) > 30


def test_damaged_snapshot_is_refused_kept_aside_and_can_be_fetched_again(server, folder):
    prices = fetch_ohlcv("AAPL", *RANGE, source="yahoo")
    (path,) = entries(folder, "snapshots")
    path.write_bytes(path.read_bytes()[:-50])
    assert_refused(prices.attrs["snapshot"])
    assert len(entries(folder, "quarantine")) == 1 and not path.exists()
    fetch_ohlcv("AAPL", *RANGE, source="yahoo")
    assert fetch_ohlcv("AAPL", source=f"snapshot:{prices.attrs['snapshot']}").equals(prices)


def test_snapshot_of_other_bars_under_this_name_is_refused(folder, raw):
    kept, other = cache.keep_snapshot(raw), cache.keep_snapshot(raw * 2.0)
    shutil.copy(folder / "snapshots" / f"{other}.parquet", folder / "snapshots" / f"{kept}.parquet")
    assert_refused(kept)


@pytest.mark.parametrize(
    "snapshot",
    [
        "0" * 64, "", "0" * 63, "0" * 65, "G" * 64, "0" * 63 + "\n", "\0", "🙂", "a" * 10_240,
        "../prices/x", "../../x", "{tmp}/x", "..\\..\\x", "%2e%2e%2fx",
    ],
    ids=lambda snapshot: repr(snapshot[:12]),
)  # fmt: skip
def test_unknown_or_hostile_snapshot_is_refused_and_touches_nothing(folder, tmp_path, snapshot):
    """A file that was read and is no snapshot would be moved aside."""
    (folder / "prices").mkdir(parents=True)
    for target in (folder / "prices" / "x.parquet", tmp_path / "x.parquet"):
        target.write_text("not a snapshot", encoding="utf-8")
    before = sorted(tmp_path.rglob("*"))
    assert_refused(snapshot.format(tmp=tmp_path))
    assert sorted(tmp_path.rglob("*")) == before


# ---- a changed history -----------------------------------------------------------------------------------------------


@pytest.fixture
def asked_again(download, clock):
    """`asked_again(raw)`: what the open range says when, two hours later, the source gives these bars."""

    def ask(raw, symbol="AAPL", span=(None, None), interval="1d"):
        download.raw = raw
        clock.now += 2 * HOUR
        got, notes = cached(download, symbol, span, interval)
        pd.testing.assert_frame_equal(got, raw, check_exact=True, check_freq=False)
        assert notes[: len(NOTES)] == NOTES
        return notes[len(NOTES) :]

    return ask


def revised(raw, at=2, factor=1.01):
    other = raw.copy()
    other.iloc[at, other.columns.get_loc("High")] *= factor
    return other


def note_on(raw, other, what="1 bar changed"):
    """How the note on these two begins and ends."""
    old, new = hash_bars(raw)[:12], hash_bars(other)[:12]
    return re.compile(rf"{what} since snapshot {old}: .*\(backgrid data diff {old} {new}\)")


def test_changed_bar_is_noted_and_only_the_new_bars_are_handed_out(asked_again, raw):
    assert asked_again(raw) == []
    (note,) = asked_again(revised(raw))
    assert note_on(raw, revised(raw)).fullmatch(note)
    assert "first 2023-01-04 High 102 -> 103.02, by at most 1 %" in note


def test_both_snapshots_of_the_note_can_be_read(asked_again, raw):
    asked_again(raw)
    asked_again(revised(raw))
    assert cache.load_snapshot(hash_bars(raw))[0].equals(raw)
    assert cache.load_snapshot(hash_bars(revised(raw)))[0].equals(revised(raw))


def test_old_bars_whose_snapshot_was_removed_are_kept_again(asked_again, raw, folder):
    asked_again(raw)
    shutil.rmtree(folder / "snapshots")
    asked_again(revised(raw))
    assert cache.load_snapshot(hash_bars(raw))[0].equals(raw)


def test_note_stays_while_the_bars_do(asked_again, download, raw, folder):
    """From the entry, after a refresh, and after an eviction: the page on these bars is the same."""
    asked_again(raw)
    notes = asked_again(revised(raw))
    assert cached(download, span=(None, None))[1] == [*NOTES, *notes]
    assert asked_again(revised(raw)) == notes
    shutil.rmtree(folder / "prices")
    assert asked_again(revised(raw)) == notes


def test_new_bars_at_the_end_are_no_change(asked_again, raw):
    assert asked_again(raw.iloc[:5]) == []
    assert asked_again(raw) == []


def test_last_bar_that_had_no_prices_yet_is_no_change(asked_again, raw):
    unfinished = raw.copy()
    unfinished.iloc[-1, :4] = np.nan
    assert asked_again(unfinished) == []
    assert asked_again(raw) == []


def test_history_that_turns_back_is_noted_too(asked_again, raw):
    asked_again(raw)
    asked_again(revised(raw))
    (note,) = asked_again(raw)
    assert note_on(revised(raw), raw).fullmatch(note)


def test_bar_that_is_gone_or_new_within_the_range_is_noted(asked_again, raw):
    less = raw.drop(index=raw.index[3])
    asked_again(raw)
    (gone,) = asked_again(less)
    (added,) = asked_again(raw)
    assert note_on(raw, less, "1 bar gone").fullmatch(gone) and "2023-01-05" in gone
    assert note_on(less, raw, "1 bar added").fullmatch(added) and "2023-01-05" in added


def test_another_range_that_overlaps_is_compared_where_it_does(asked_again, raw):
    assert asked_again(raw.iloc[:5], span=RANGE) == []
    assert asked_again(raw.iloc[3:], span=YEAR) == []
    (note,) = asked_again(revised(raw), span=(None, None))
    assert note_on(raw.iloc[:5], revised(raw)).fullmatch(note)  # the bar at place 2, which only the first one has


def test_bar_is_compared_with_where_it_was_seen_last(asked_again, raw):
    """The older range still holds the old number; the newer one was told of it already."""
    asked_again(raw, span=RANGE)
    assert len(asked_again(revised(raw), span=YEAR)) == 1
    assert asked_again(revised(raw).iloc[1:], span=(None, None)) == []


def test_own_range_comes_before_others(asked_again, raw):
    """What this request gave before is what its reader has seen."""
    asked_again(raw)
    asked_again(revised(raw), span=YEAR)
    (note,) = asked_again(revised(raw))
    assert note_on(raw, revised(raw)).fullmatch(note)


@pytest.mark.parametrize("lost", ["evicted", "damaged"])
def test_history_that_changed_while_the_entry_was_lost_is_noted(asked_again, raw, folder, lost):
    asked_again(raw)
    (entry,) = entries(folder)
    if lost == "evicted":
        entry.unlink()
    else:
        entry.write_bytes(entry.read_bytes()[:-40])
    (note,) = asked_again(revised(raw))
    assert note_on(raw, revised(raw)).fullmatch(note)


def test_damaged_snapshot_is_not_compared_with(asked_again, raw, folder):
    asked_again(raw)
    shutil.rmtree(folder / "prices")
    (path,) = entries(folder, "snapshots")
    content = bytearray(path.read_bytes())
    content[200:260] = bytes(60)
    path.write_bytes(content)
    assert asked_again(revised(raw)) == []
    assert len(entries(folder, "quarantine")) == 1


@pytest.mark.parametrize(("symbol", "interval"), [("MSFT", "1d"), ("AAPL", "1h"), ("AAP", "1d")])
def test_bars_of_another_symbol_or_interval_are_no_history(asked_again, raw, symbol, interval):
    asked_again(raw)
    assert asked_again(revised(raw), symbol=symbol, interval=interval) == []


def test_bars_that_were_not_downloaded_are_no_history(asked_again, raw):
    """A file of the reader's own under the same symbol."""
    cache.keep_snapshot(revised(raw), "AAPL", "1d")
    assert asked_again(raw) == []


def test_weeks_of_another_range_are_no_history(asked_again, raw):
    """A range cuts its first and last week; those of the same range can be compared."""
    asked_again(raw, interval="1wk")
    assert asked_again(revised(raw), interval="1wk", span=YEAR) == []
    assert len(asked_again(revised(raw), interval="1wk")) == 1


def test_note_reaches_the_prices(server, bars, clock):
    first = fetch_ohlcv("AAPL", source="yahoo")
    closes = np.arange(100.0, 110.0)
    closes[3] = 103.5
    server.serve("AAPL", bars(closes).assign(Volume=1000.0), dividends={"2023-01-05": 0.5})
    clock.now += 2 * HOUR
    prices = fetch_ohlcv("AAPL", source="yahoo")
    (note,) = [note for note in prices.attrs["notes"] if "since snapshot" in note]
    assert first.attrs["snapshot"][:12] in note and prices.attrs["snapshot"][:12] in note


def test_bars_that_validation_refuses_are_compared_with_nothing(asked_again, raw):
    asked_again(raw)
    assert asked_again(raw.iloc[::-1]) == []
    assert asked_again(raw.iloc[[0, 0, 1]]) == []
    assert asked_again(raw.iloc[:0]) == []
    (note,) = asked_again(revised(raw))  # with what came before them
    assert note_on(raw, revised(raw)).fullmatch(note)


def test_snapshot_that_is_asked_for_again_is_young_again(folder, raw):
    cache.keep_snapshot(raw)
    (path,) = entries(folder, "snapshots")
    os.utime(path, (1000.0, 1000.0))
    cache.keep_snapshot(raw)
    assert path.stat().st_mtime > 1000.0


def test_file_that_cannot_be_read_for_another_reason_is_not_moved_aside(folder, download, monkeypatch):
    """Too many open files say nothing about what it holds."""
    cached(download)

    def read_bytes(path):
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(Path, "read_bytes", read_bytes)
    with pytest.raises(errors.BackgridError, match="cannot read .*AAPL_1d_.*Too many open files.*Try again"):
        cached(download)
    assert len(entries(folder)) == 1 and entries(folder, "quarantine") == []
