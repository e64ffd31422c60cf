"""The ledger forgets no trial, counts none twice, fails no run, and gives no number that it cannot stand for."""

import contextlib
import datetime as dt
import json
import os
import random
import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from backgrid import ledger
from backgrid.errors import BackgridError, ParameterError
from backgrid.ledger import KINDS, LedgerWarning, count_trials, read_ledger, record_trials

GRID = {"fast": [10, 20], "slow": [50]}


@pytest.fixture(autouse=True)
def file(tmp_path, monkeypatch):
    """The ledger of a working folder of the test's own, which does not exist yet."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BACKGRID_LEDGER", "on")
    monkeypatch.setattr(ledger, "_warned", {})
    return tmp_path / "backgrid.ledger.db"


def record(request=GRID, n_trials=2, data="a" * 64, strategy="ma_crossover", kind="sweep", **given):
    record_trials(data=data, strategy=strategy, request=request, n_trials=n_trials, kind=kind, **given)


# ---- what counts -----------------------------------------------------------------------------------------------------


def test_count_sums_the_requests_on_the_data_over_strategies_unless_one_is_named():
    record(n_trials=100)
    record(n_trials=20, strategy="macd")
    record(n_trials=3, data="b" * 64)
    assert count_trials(data="a" * 64, strategy="ma_crossover") == 100
    assert count_trials(data="a" * 64) == 120
    assert count_trials(strategy="ma_crossover") == 103
    assert count_trials() == 123
    assert count_trials(data="c" * 64) == count_trials(strategy="rsi") == 0


@pytest.mark.parametrize(
    "again",
    [
        {"slow": [50], "fast": [10, 20]},
        {"fast": (10, 20), "slow": range(50, 51)},
        {"fast": np.array([10, 20]), "slow": pd.Series([50.0])},
        {"fast": [10.0, np.float32(20)], "slow": [np.int64(50)]},
    ],
    ids=["order of names", "sequences", "arrays", "floats"],
)
def test_same_request_again_adds_nothing(again):
    record()
    for _ in range(2):
        record(again)
    assert count_trials() == 2 and len(read_ledger()) == 1


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"fees": 0.0}, {"fees": 0.001}),
        ({"fast": 1}, {"fast": True}),
        ({"fast": 1}, {"fast": "1"}),
        ({"fast": 1}, {"fast": [1]}),
        ({"fast": None}, {}),
        ({"level": 1 / 3}, {"level": np.nextafter(1 / 3, 1)}),
        ({"level": float("inf")}, {"level": float("-inf")}),
        ({"start": dt.date(2023, 1, 1)}, {"start": dt.date(2023, 1, 2)}),
        ({"fast": np.arange(5000)}, {"fast": np.where(np.arange(5000) == 2500, 1, np.arange(5000))}),
        ({"fast": list(range(50_000))}, {"fast": list(range(50_001))}),
    ],
    ids=str,
)
def test_another_request_counts(one, other):
    record(one)
    record(other)
    assert count_trials() == 4


def test_kind_tells_requests_apart_and_symbol_and_time_do_not():
    for kind in KINDS:
        record(kind=kind, symbol="AAPL")
        record(kind=kind, symbol="aapl")
    assert count_trials() == 2 * len(KINDS)
    assert read_ledger()["symbol"].tolist() == ["AAPL"] * len(KINDS)


def test_request_cut_short_counts_its_longest_attempt():
    for n_trials in (100, 4950, 300):
        record(n_trials=n_trials)
    assert count_trials() == 4950
    assert read_ledger()["n_trials"].tolist() == [4950]


def test_large_numbers_are_exact():
    for k in range(3):
        record({"seed": k}, n_trials=10**12 - k)
    assert count_trials() == 3 * 10**12 - 3
    assert read_ledger()["n_trials"].tolist() == [10**12, 10**12 - 1, 10**12 - 2]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"kind": "sweeep"}, "unknown kind 'sweeep'; did you mean 'sweep'"),
        ({"n_trials": -1}, "n_trials must be a whole number, 0 to 1,000,000,000,000, got -1"),
        ({"n_trials": 10**12 + 1}, "n_trials must be"),
        ({"n_trials": 2.5}, "n_trials must be a whole number, 0 to 1,000,000,000,000, got 2.5"),
        ({"data": ""}, "data must be a text, got ''"),
        ({"strategy": None}, "strategy must be a text, got None"),
        ({"symbol": 5}, "symbol must be a text, got 5"),
        ({"request": [1, 2]}, r"request must be a mapping, got \[1, 2\]"),
        ({"request": {"fast": 1j}}, "request must be numbers, .* complex is not JSON serializable"),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_wrong_argument_is_refused_and_leaves_no_file(file, wrong, message):
    with pytest.raises(ParameterError, match=message):
        record(**wrong)
    assert not file.exists()


# ---- the table -------------------------------------------------------------------------------------------------------


def test_table_tells_what_was_tried_in_the_order_in_which_it_came(monkeypatch):
    """The clock jumps back between the two."""
    times = iter([dt.datetime(2026, 3, 1, 12, tzinfo=dt.UTC), dt.datetime(2026, 2, 1, tzinfo=dt.UTC)])
    clock = SimpleNamespace(now=lambda zone: next(times))
    monkeypatch.setattr(ledger, "dt", SimpleNamespace(datetime=clock, date=dt.date, UTC=dt.UTC))
    record(symbol="AAPL")
    record({"fast": 10}, n_trials=1, strategy="macd", kind="report")
    table = read_ledger()
    assert table["first_seen"].tolist() == [pd.Timestamp("2026-03-01T12:00Z"), pd.Timestamp("2026-02-01T00:00Z")]
    assert table.iloc[0, 1:].tolist() == ["sweep", "AAPL", "ma_crossover", "a" * 64, 2, json.dumps(GRID)]
    assert table.iloc[1, 1:].tolist() == ["report", "", "macd", "a" * 64, 1, '{"fast": 10}']


def test_empty_table_has_its_columns():
    table = read_ledger()
    assert len(table) == 0
    assert list(table) == ["first_seen", "kind", "symbol", "strategy", "data", "n_trials", "request"]
    assert str(table["first_seen"].dtype).endswith("UTC]") and table["n_trials"].dtype == "int64"


def test_of_a_very_long_request_the_hash_is_kept(file):
    record({"fast": list(range(200_000))})
    assert len(json.loads(read_ledger()["request"][0])["sha256"]) == 64
    assert file.stat().st_size < 100_000


# ---- where it is -----------------------------------------------------------------------------------------------------


def test_nothing_recorded_leaves_no_file(tmp_path):
    record(n_trials=0)
    assert count_trials() == len(read_ledger()) == 0
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("word", ["on", "ON", "1", ""])
def test_ledger_is_in_the_working_folder_of_the_moment(tmp_path, monkeypatch, word):
    monkeypatch.setenv("BACKGRID_LEDGER", word)
    record()
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path / "other")
    assert count_trials() == 0
    record(n_trials=5)
    assert count_trials() == 5
    assert sorted(p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*.db")) == [
        "backgrid.ledger.db",
        "other/backgrid.ledger.db",
    ]


@pytest.mark.parametrize("word", ["off", "OFF", "no", "0"])
def test_ledger_that_is_off_writes_nothing_and_gives_no_number(tmp_path, monkeypatch, word):
    monkeypatch.setenv("BACKGRID_LEDGER", word)
    record()
    for ask in (count_trials, read_ledger):
        with pytest.raises(BackgridError, match="the trial ledger is off, .*set BACKGRID_LEDGER to on"):
            ask()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["trials.db", "new/folder/trials.db", "50% ?a=b#c ü/:memory:", "file:x?mode=memory"])
def test_ledger_is_at_the_path_that_is_set(tmp_path, monkeypatch, name):
    monkeypatch.setenv("BACKGRID_LEDGER", name)
    record()
    assert count_trials() == 2
    assert [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()] == [name]


# ---- many at once ----------------------------------------------------------------------------------------------------

WRITER = """
import sys
from backgrid.ledger import record_trials

for k in range(10):
    for own in ("all", sys.argv[1]):
        record_trials(data="a", strategy="s", request={"of": own, "k": k}, n_trials=1, kind="sweep")
print("done")
"""


def run_python(program, *arguments):
    done = subprocess.run([sys.executable, "-W", "error", "-c", program, *arguments], capture_output=True, text=True)
    return done.stdout + done.stderr


def test_processes_lose_nothing_and_count_nothing_twice():
    """Four write ten requests of their own and ten that all share; a reader finds a count each time, never a lower."""
    seen = []
    with ThreadPoolExecutor() as pool:
        writers = [pool.submit(run_python, WRITER, str(k)) for k in range(4)]
        while not all(writer.done() for writer in writers):
            seen.append(count_trials())
    assert [writer.result() for writer in writers] == ["done\n"] * 4
    assert count_trials() == 4 * 10 + 10
    assert seen == sorted(seen)


def test_threads_lose_nothing_and_count_nothing_twice():
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda k: record({"k": k % 20}, n_trials=1), range(60)))
    assert count_trials() == 20


FORKS = """
import os, signal, threading
from backgrid import ledger

def record(of, k):
    ledger.record_trials(data="a", strategy="s", request={"of": of, "k": k}, n_trials=1, kind="sweep")

signal.alarm(60)  # so that a lock held for good fails the test
threads = [threading.Thread(target=lambda of=of: [record(of, k) for k in range(40)]) for of in range(2)]
for thread in threads:
    thread.start()
for k in range(20):
    child = os.fork()
    if not child:
        signal.alarm(60)
        record("child", k)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
for thread in threads:
    thread.join()
print(ledger.count_trials())
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_children_born_while_threads_write_can_write():
    """A child that inherits an open connection, or half an import, waits for a lock that nobody will give back."""
    ignored = "import warnings\nwarnings.simplefilter('ignore', DeprecationWarning)  # of a fork beside threads\n"
    assert run_python(ignored + FORKS) == "100\n"


# ---- faults ----------------------------------------------------------------------------------------------------------


def no_database(file):
    file.write_text("first_seen,kind,n_trials\n" * 100, encoding="utf-8")


def of_somebody_else(file):
    with contextlib.closing(sqlite3.connect(file)) as connection:
        connection.execute("CREATE TABLE trades (price REAL)")


def of_another_version(file):
    with contextlib.closing(sqlite3.connect(file)) as connection:
        connection.execute("CREATE TABLE ledger (n_trials INTEGER)")


@pytest.mark.parametrize("break_it", [no_database, of_somebody_else, of_another_version, Path.mkdir])
def test_file_that_is_no_ledger_fails_no_run_and_is_neither_counted_nor_touched(file, break_it):
    break_it(file)
    before = file.read_bytes() if file.is_file() else None
    with pytest.warns(LedgerWarning, match="was not written, .* 2 or more too low: .*BACKGRID_LEDGER") as w:
        record()
    assert str(file) in str(w[0].message) and w[0].filename == __file__
    for ask in (count_trials, read_ledger):
        with pytest.raises(BackgridError, match="cannot be counted") as raised:
            ask()
        assert str(file) in str(raised.value)
    assert before == (file.read_bytes() if file.is_file() else None)


@pytest.mark.parametrize("path", ["a_file/ledger.db", "/proc/backgrid/ledger.db", "x" * 300])
def test_path_that_cannot_be_written_fails_no_run(tmp_path, monkeypatch, path):
    (tmp_path / "a_file").touch()
    monkeypatch.setenv("BACKGRID_LEDGER", path)
    with pytest.warns(LedgerWarning, match="was not written"):
        record()


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
def test_read_only_folder_fails_no_run_and_is_counted(tmp_path, file):
    record()
    file.chmod(0o444)
    tmp_path.chmod(0o555)
    try:
        with pytest.warns(LedgerWarning, match="readonly"):
            record({"fast": 30})
        assert count_trials() == 2
    finally:
        tmp_path.chmod(0o755)


def test_working_folder_that_is_gone_fails_no_run(tmp_path, monkeypatch):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    with pytest.warns(LedgerWarning, match="the trial ledger backgrid.ledger.db was not written"):
        record()
    monkeypatch.chdir(tmp_path)


def test_name_that_cannot_be_written_fails_no_run():
    with pytest.warns(LedgerWarning, match="surrogates not allowed"):
        record(strategy="\ud800")


def test_process_warns_once_of_a_file(tmp_path, monkeypatch):
    """Whatever the filter: here every warning is an error, and the second call passes."""
    for name in ("one.db", "two.db"):
        (tmp_path / name).mkdir()
        monkeypatch.setenv("BACKGRID_LEDGER", name)
        with pytest.raises(LedgerWarning, match=name):
            record()
        record()


def test_failing_write_leaves_what_was_recorded(file):
    """A limit on the size of files stands for a full disk."""
    resource = pytest.importorskip("resource")
    record()
    before = file.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.warns(LedgerWarning, match="was not written"):
            record({"fast": 30})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert file.read_bytes() == before and count_trials() == 2
    record({"fast": 30})
    assert count_trials() == 4


def test_first_write_that_fails_leaves_a_folder_that_can_be_written(file):
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.warns(LedgerWarning, match="was not written"):
            record()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert count_trials() == 0
    record()
    assert count_trials() == 2


def test_file_that_others_hold_fails_no_run_and_is_not_counted(file, monkeypatch):
    monkeypatch.setattr(ledger, "BUSY_SECONDS", 0.0)
    record()
    with contextlib.closing(sqlite3.connect(file, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.warns(LedgerWarning, match="database is locked"):
            record({"fast": 30})
        with pytest.raises(BackgridError, match="database is locked. Try again"):
            count_trials()
    assert count_trials() == 2


KILLED = """
import os, signal, sqlite3

connection = sqlite3.connect("backgrid.ledger.db", isolation_level=None)
connection.execute("PRAGMA cache_size = 1")  # so that pages reach the file before the commit
connection.execute("BEGIN IMMEDIATE")
connection.execute("UPDATE ledger SET n_trials = 7")
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no SIGKILL here")
def test_killed_writer_leaves_what_was_recorded(file):
    """The half of its pages that had reached the file are undone by the next who opens it, be it a reader."""
    for k in range(50):
        record({"k": k}, n_trials=1)
    before = file.read_bytes()
    run_python(KILLED)
    assert file.read_bytes() != before and Path(f"{file}-journal").stat().st_size > 0
    assert count_trials() == 50
    assert file.read_bytes() == before


def test_damaged_file_is_counted_right_or_not_at_all(file):
    """600 flipped bits, one at a time, and 40 lengths. SQLite alone reads most flips back as other words or numbers."""
    for k in range(12):
        record({"fast": list(range(k + 1)), "slow": list(range(100, 200))}, n_trials=1000)
    sound, chosen = file.read_bytes(), random.Random(1)
    cases = [sound[:length] for length in chosen.sample(range(2, len(sound)), 40)]
    for _ in range(600):
        flipped = bytearray(sound)
        flipped[chosen.randrange(len(sound))] ^= 1 << chosen.randrange(8)
        cases.append(bytes(flipped))
    refused = 0
    for damaged in cases:
        file.write_bytes(damaged)
        try:
            assert count_trials() == 12_000
        except BackgridError as error:
            refused += str(file) in str(error)
    assert refused > 100


def test_number_changed_by_hand_is_not_counted(file):
    record(n_trials=4950)
    with contextlib.closing(sqlite3.connect(file)) as connection, connection:
        connection.execute("UPDATE ledger SET n_trials = 1")
    with pytest.raises(BackgridError, match="its content is damaged"):
        count_trials()


def test_row_that_has_gone_missing_is_noticed(file):
    """The number of rows on the second page, which holds the table, is one less than there are."""
    for k in range(3):
        record({"k": k})
    content = bytearray(file.read_bytes())
    assert content[4096] == 13 and content[4099:4101] == b"\0\3"  # a leaf of three rows, says SQLite's file format
    content[4100] = 2
    file.write_bytes(content)
    with pytest.raises(BackgridError, match="its content is damaged"):
        count_trials()


def test_every_connection_is_closed(file, monkeypatch):
    opened = []
    connect = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda *a, **k: [opened.append(connect(*a, **k)), opened[-1]][1])
    record()
    count_trials()
    no_database(file)
    with pytest.warns(LedgerWarning):
        record()
    with pytest.raises(BackgridError):
        count_trials()
    assert len(opened) == 4
    for connection in opened:
        with pytest.raises(sqlite3.ProgrammingError, match="closed"):
            connection.execute("SELECT 1")


def test_import_loads_neither_sqlite_nor_pandas():
    program = "import sys, backgrid.ledger; print({'sqlite3', 'pandas', 'numpy'} & set(sys.modules))"
    assert run_python(program) == "set()\n"
