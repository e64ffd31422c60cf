"""What is on disk is listed, compared, checked and cleared; nothing that a report needs, or may need, is removed."""

import json
import os
import re
import shutil
import time

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

from backgrid import cache, snapshots
from backgrid.cli import main
from backgrid.data import fetch_ohlcv
from backgrid.errors import BackgridError, ParameterError

DAYS = 86_400.0


@pytest.fixture(autouse=True)
def reports(folder, tmp_path, monkeypatch):
    """A folder of reports of the test's own, empty."""
    path = tmp_path / "reports"
    path.mkdir()
    monkeypatch.setenv("BACKGRID_REPORTS", str(path))
    return path


@pytest.fixture
def raw(bars):
    return bars(100.0 + np.arange(8.0)).assign(Volume=1000.0).rename_axis("Date")


@pytest.fixture
def keep(folder):
    """`keep(raw, days=2)`: a snapshot of AAPL that was asked for so many days ago; gives its hash."""

    def keep_bars(raw, symbol="AAPL", interval="1d", days=2.0):
        kept = cache.keep_snapshot(raw, symbol, interval)
        then = time.time() - days * DAYS
        os.utime(path_of(kept), (then, then))
        return kept

    return keep_bars


@pytest.fixture
def report(reports):
    """`report("name", snapshot)`: a report that says that it used this snapshot."""

    def write(name, snapshot, text=None):
        path = reports / name / "provenance.json"
        path.parent.mkdir(parents=True)
        said = {"template_sha256": "0" * 64, "snapshot": snapshot}
        path.write_text(json.dumps(said) if text is None else text, encoding="utf-8")
        return path

    return write


def data(*words):
    """The finished `backgrid data`, run in this process."""
    return CliRunner().invoke(main, ["data", *map(str, words)], catch_exceptions=False)


def path_of(snapshot):
    return cache.cache_folder("snapshots") / f"{snapshot}.parquet"


def kept_snapshots(folder):
    return {path.stem for path in (folder / "snapshots").glob("*")}


def cached_range(raw, symbol="AAPL"):
    """A cached range that holds these bars; gives its file."""
    cache.cached_bars(symbol, None, None, "1d", lambda *_: (raw, []))
    (path,) = cache.cache_folder("prices").glob(f"{symbol}_*")
    return path


def tree(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# ---- damage: what a file may become ----------------------------------------------------------------------------------


def truncated(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flipped(path):
    """Every bit of a stretch of its numbers."""
    content = bytearray(path.read_bytes())
    content[60:90] = bytes(byte ^ 0xFF for byte in content[60:90])
    path.write_bytes(content)


def emptied(path):
    path.write_bytes(b"")


def folder_instead(path):
    path.unlink()
    path.mkdir()
    (path / "inside").write_text("x")


damages = pytest.mark.parametrize("damage", [truncated, flipped, emptied, folder_instead])


# ---- ls --------------------------------------------------------------------------------------------------------------


def test_ls_shows_every_snapshot_and_range_with_its_reports(raw, keep, report):
    first, second = keep(raw), keep(raw.iloc[:5], "MSFT")
    report("one", first)
    report("batch/two", {"AAPL": first, "MSFT": second})
    cached_range(raw * 2.0)
    done = data("ls")
    assert done.stdout.count("\n\n") == 1  # between the tables
    lines = [line.split() for line in done.stdout.splitlines() if line]
    assert done.exit_code == 0 and done.stderr == ""
    assert lines[0][:3] == ["snapshot", "symbol", "interval"]
    rows = {line[0]: line for line in lines}
    assert rows[first[:12]][1:6] == ["AAPL", "1d", "2023-01-02", "2023-01-11", "8"]
    assert rows[second[:12]][1:6] == ["MSFT", "1d", "2023-01-02", "2023-01-06", "5"]
    assert rows[first[:12]][-2:] == ["batch/two,", "one"] and rows[second[:12]][-1] == "batch/two"
    assert ["cached", "range", "symbol"] in [line[:3] for line in lines]
    assert lines[-1][1:6] == ["AAPL", "1d", "2023-01-02", "2023-01-11", "8"]


def test_ls_of_a_symbol_shows_that_one_only(raw, keep):
    keep(raw)
    other = keep(raw * 2.0, "MSFT")
    shown = data("ls", "msft").stdout
    assert other[:12] in shown and "AAPL" not in shown


def test_ls_of_a_symbol_that_is_not_kept_says_so(raw, keep):
    keep(raw)
    done = data("ls", "msft")
    said = "nothing is kept of MSFT; backgrid fetch MSFT fetches and keeps its prices\n"
    assert (done.exit_code, done.stdout) == (0, said)


def test_ls_shows_times_where_bars_have_them(raw, keep):
    times = pd.date_range("2023-01-05 09:30", periods=8, freq="min", tz="America/New_York", name="Date")
    keep(raw.set_axis(times), interval="1m")
    assert "2023-01-05 09:30  2023-01-05 09:37" in data("ls").stdout


def test_ls_of_nothing_says_so(folder):
    done = data("ls")
    assert (done.exit_code, done.stdout) == (0, "nothing is kept; backgrid fetch SYMBOL fetches and keeps prices\n")
    assert not folder.exists()


def test_ls_names_three_users_and_counts_the_rest(raw, keep, report):
    kept = keep(raw)
    for name in "abcde":
        report(name, kept)
    assert "a, b, c and 2 more" in data("ls").stdout


def test_ls_goes_on_where_reports_do_not_say_what_they_use(raw, keep, report):
    kept = keep(raw)
    report("broken", None, text="{")
    done = data("ls")
    assert done.exit_code == 0 and kept[:12] in done.stdout and "which reports use them is not known" in done.stderr


@damages
def test_ls_counts_what_it_cannot_read_and_leaves_it(raw, keep, folder, damage):
    kept = keep(raw)
    damage(path_of(kept))
    before = tree(folder)
    done = data("ls")
    assert done.exit_code == 0 and tree(folder) == before
    if damage is not flipped:  # its footer is whole
        assert "1 more cannot be read; backgrid data verify names them" in done.stderr


def test_ls_refuses_a_symbol_that_is_none():
    done = data("ls", "../x")
    assert done.exit_code == 2 and "is not a ticker" in done.stderr


# ---- diff ------------------------------------------------------------------------------------------------------------


def test_diff_of_the_same_bars_exits_0(raw, keep):
    kept = keep(raw)
    done = data("diff", kept, kept[:6])
    assert (done.exit_code, done.stdout) == (0, f"{kept[:12]} -> {kept[:12]}\nthe same bars\n")


def test_diff_names_changed_bars_and_exits_1(raw, keep):
    other = raw.copy()
    other.loc["2023-01-04", "Close"] = 102.5
    old, new = keep(raw), keep(other)
    done = data("diff", old[:8], new[:8].upper())
    assert done.exit_code == 1
    assert done.stdout.splitlines() == [
        f"{old[:12]} -> {new[:12]}",
        "1 bar changed",
        "1 changed number, by at most 0.5 %:",
        "  2023-01-04 Close 102 -> 102.5",
    ]


def test_diff_of_a_symbol_compares_its_last_two(raw, keep):
    kept = [keep(raw * factor) for factor in (1.0, 2.0, 3.0)]
    keep(raw * 9.0, "MSFT")
    done = data("diff", "aapl")
    assert done.exit_code == 1 and done.stdout.startswith(f"{kept[1][:12]} -> {kept[2][:12]}\n")


@pytest.mark.parametrize("other", ["interval", "years"])
def test_diff_of_a_symbol_passes_over_other_bars(raw, keep, other):
    """A report of an earlier time, or of weeks, is no earlier form of the last one."""
    first = keep(raw)
    if other == "interval":
        keep(raw * 2.0, interval="1wk")
    else:
        keep(raw.set_axis(raw.index + pd.DateOffset(years=3)))
    done = data("diff", "AAPL")
    assert done.exit_code == 2 and "only one snapshot of AAPL 1" in done.stderr
    last = keep(raw * 3.0)
    assert data("diff", "AAPL").stdout.startswith(f"{first[:12]} -> {last[:12]}\n")


def test_diff_refuses_an_ambiguous_prefix_with_the_candidates(raw, keep):
    """Seventeen snapshots: two at least begin with the same digit."""
    kept = [keep(raw * factor) for factor in range(1, 18)]
    firsts = [snapshot[0] for snapshot in kept]
    digit = next(digit for digit in firsts if firsts.count(digit) > 1)
    done = data("diff", digit, kept[0])
    assert done.exit_code == 2 and f"snapshots begin with {digit}" in done.stderr
    for snapshot in kept:
        assert (snapshot[:12] in done.stderr) == (snapshot[0] == digit)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("0" * 64, "0" * 64), "no snapshot begins with 0000"),
        (("../../etc", "0"), "is no hash of a snapshot"),
        (("", "0"), "is no hash of a snapshot"),
        (("0" * 65, "0"), "is no hash of a snapshot"),
        (("MSFT",), "there is no snapshot of MSFT"),
        (("AAPL",), "only one snapshot of AAPL"),
        (("0" * 64,), "is not a ticker"),
    ],
)
def test_diff_refuses_what_is_not_there(raw, keep, words, said):
    keep(raw)
    done = data("diff", *words)
    assert (done.exit_code, done.stdout) == (2, "") and said in done.stderr


def test_diff_refuses_two_symbols(raw, keep):
    done = data("diff", keep(raw), keep(raw * 2.0, "MSFT"))
    assert done.exit_code == 2 and "one snapshot is of AAPL 1d, the other of MSFT 1d" in done.stderr


@damages
def test_diff_with_a_damaged_snapshot_is_no_difference(raw, keep, folder, damage):
    """Exit code 1 would say that the bars differ."""
    old, new = keep(raw), keep(raw * 2.0)
    damage(path_of(new))
    done = data("diff", old, new)
    assert done.exit_code == 2 and f"{new[:12]} was damaged" in done.stderr and "quarantine" in done.stderr
    assert len(list((folder / "quarantine").iterdir())) == 1


# ---- verify ----------------------------------------------------------------------------------------------------------


def test_verify_of_whole_files_exits_0_and_leaves_them(raw, keep, folder):
    keep(raw)
    cached_range(raw * 2.0)
    before = tree(folder)
    done = data("verify")
    assert (done.exit_code, done.stdout) == (0, "3 intact, 0 not\n") and tree(folder) == before
    assert data("verify").exit_code == 0


@damages
@pytest.mark.parametrize("of", ["snapshot", "entry"])
def test_verify_names_what_is_damaged_and_moves_it_aside(raw, keep, folder, report, damage, of):
    kept = keep(raw)
    report("mine", kept)
    path = path_of(kept) if of == "snapshot" else cached_range(raw)
    damage(path)
    done = data("verify")
    assert done.exit_code == 1
    named, counted = done.stdout.splitlines()
    assert named.startswith(f"{path} is damaged and was moved to {folder / 'quarantine'}")
    assert named.endswith("; reports that need it: mine") == (of == "snapshot")
    assert counted.endswith(" intact, 1 not")
    assert not path.exists() and len(list((folder / "quarantine").iterdir())) == 1
    assert data("verify").exit_code == 0


def test_verify_finds_a_snapshot_under_the_name_of_another(raw, keep):
    kept, other = keep(raw), keep(raw * 2.0)
    shutil.copy(path_of(other), path_of(kept))
    assert str(path_of(kept)) in data("verify").stdout
    assert cache.load_snapshot(other) is not None


def test_verify_leaves_a_file_of_someone_else(raw, keep, folder):
    keep(raw)
    foreign = folder / "snapshots" / "mine.parquet"
    foreign.write_text("x")
    done = data("verify")
    assert done.exit_code == 1 and "left where it is" in done.stdout and foreign.exists()


def test_verify_goes_on_after_a_file_that_cannot_be_moved(raw, keep, folder):
    for factor in (1.0, 2.0):
        emptied(path_of(keep(raw * factor)))
    whole = keep(raw * 3.0)
    (folder / "quarantine").write_text("in the way")
    done = data("verify")
    assert done.exit_code == 1 and done.stdout.count("cannot be moved aside") == 2
    assert done.stdout.endswith("1 intact, 2 not\n") and path_of(whole).exists()


def test_entry_that_is_evicted_meanwhile_is_not_called_damaged(raw, monkeypatch):
    path = cached_range(raw)
    monkeypatch.setattr(snapshots, "read_entry", lambda path: path.unlink())
    assert snapshots.verify_files({}).damaged == [] and not path.exists()


# ---- gc --------------------------------------------------------------------------------------------------------------


def test_gc_removes_what_no_report_uses_and_says_what_was_freed(raw, keep, report, folder):
    used, also, free = keep(raw), keep(raw * 2.0), keep(raw * 3.0)
    report("one", used)
    report("batch/two", {"AAPL": None, "MSFT": also})
    size = path_of(free).stat().st_size
    done = data("gc")
    assert done.exit_code == 0 and kept_snapshots(folder) == {used, also}
    assert done.stdout.splitlines() == [
        f"removed {path_of(free)}",
        f"removed {size / 1000:,.1f} kB; kept 2 snapshots in use, 0 of the last day",
    ]


def test_gc_leaves_what_was_asked_for_within_a_day(raw, keep, folder):
    """A report that is being made has not said yet what it needs."""
    young, old = keep(raw, days=0.99), keep(raw * 2.0, days=1.01)
    asked_again = keep(raw * 3.0, days=30)
    cache.keep_snapshot(raw * 3.0, "AAPL", "1d")
    assert data("gc").exit_code == 0
    assert kept_snapshots(folder) == {young, asked_again} and old not in kept_snapshots(folder)


def test_dry_run_says_the_same_and_removes_nothing(raw, keep, folder):
    keep(raw)
    before = tree(folder)
    said = data("gc", "--dry-run").stdout
    assert tree(folder) == before
    assert data("ls").exit_code == data("verify").exit_code == 0  # reading does not make it young
    assert data("gc").stdout == said.replace("would remove", "removed") and tree(folder) == {}


def test_gc_removes_stale_temporary_and_quarantined_files(raw, keep, folder):
    kept = keep(raw, days=0)
    entry = cached_range(raw)
    aside = folder / "quarantine" / "AAPL_1d_0.parquet.1"
    folder_aside = folder / "quarantine" / "AAPL_1d_1.parquet.2"
    stale, writing = folder / "snapshots" / "a.tmp", folder / "prices" / "b.tmp"
    folder_aside.mkdir(parents=True)
    for path in (aside, folder_aside / "x", stale, writing):
        path.write_text("12345")
    os.utime(stale, (1000.0, 1000.0))
    done = data("gc")
    assert done.exit_code == 0 and "removed 0.0 kB" in done.stdout
    assert [path.exists() for path in (aside, folder_aside, stale, writing)] == [False, False, False, True]
    assert path_of(kept).exists() and entry.exists()


def test_gc_leaves_the_remains_of_a_snapshot_that_a_report_needs(raw, keep, report, folder):
    """Until it has been fetched again."""
    kept = keep(raw)
    report("mine", kept)
    truncated(path_of(kept))
    data("verify")
    (aside,) = (folder / "quarantine").iterdir()
    assert data("gc").exit_code == 0 and aside.exists()
    keep(raw)
    assert data("gc").exit_code == 0 and not aside.exists() and path_of(kept).exists()


def test_gc_looks_into_every_folder_that_is_named(raw, keep, report, folder, reports, tmp_path):
    here, there, free = keep(raw), keep(raw * 2.0), keep(raw * 3.0)
    report("one", here)
    report("two", there)
    (reports / "two").rename(tmp_path / "elsewhere")
    assert data("gc", "--reports", reports, "--reports", tmp_path / "elsewhere").exit_code == 0
    assert kept_snapshots(folder) == {here, there} and free not in kept_snapshots(folder)


def test_gc_follows_links_and_ends_where_they_make_a_circle(raw, keep, report, reports, folder, tmp_path):
    kept = keep(raw)
    report("one", kept)
    (reports / "one").rename(tmp_path / "far")
    (reports / "link").symlink_to(tmp_path / "far")
    (tmp_path / "far" / "back").symlink_to(reports)
    assert data("gc").exit_code == 0 and kept_snapshots(folder) == {kept}


def test_gc_without_the_folder_of_reports_refuses_and_removes_nothing(raw, keep, folder, reports):
    keep(raw)
    reports.rmdir()
    before = tree(folder)
    for words in ((), ("--reports", folder / "snapshots" / "none"), ("--dry-run",)):
        done = data("gc", *words)
        assert done.exit_code == 2 and "there is no folder of reports" in done.stderr and "--reports" in done.stderr
    assert tree(folder) == before


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "null", "3", '"snapshot"', "{}", '{"snapshots": 1}', '{"snapshot": "' + "a" * 30, "[" * 100_000],
    ids=lambda text: text[:12],
)
def test_gc_refuses_a_report_that_does_not_say_what_it_needs(raw, keep, folder, report, text):
    keep(raw)
    path = report("broken", None, text=text)
    before = tree(folder)
    done = data("gc")
    assert done.exit_code == 2 and str(path) in done.stderr and "run that report again, or remove" in done.stderr
    assert tree(folder) == before


def no_text(path):
    path.write_bytes(b"\xff\xfe\x00")


@pytest.mark.parametrize("damage", [truncated, emptied, folder_instead, no_text])
def test_gc_refuses_a_damaged_provenance(raw, keep, folder, report, damage):
    kept = keep(raw)
    path = report("broken", kept)
    damage(path)
    done = data("gc")
    assert done.exit_code == 2 and str(path) in done.stderr and kept_snapshots(folder) == {kept}


def test_gc_refuses_a_page_without_its_provenance_and_does_not_advise_to_remove_the_folder(raw, keep, reports):
    """Which may hold all reports."""
    kept, page = keep(raw), reports / "report.html"
    page.write_text("<html>")
    done = data("gc")
    assert done.exit_code == 2 and path_of(kept).exists()
    assert f"{page} lies there without its provenance.json" in done.stderr and "folder, or" not in done.stderr
    assert "put that file back beside it, or move the page out of the folders of reports" in done.stderr


def test_gc_reads_every_hash_that_a_provenance_names(raw, keep, report, folder):
    """Wherever it stands: a later form of the file may name more."""
    kept = keep(raw)
    report("mine", None, text=json.dumps({"snapshot": None, "prices": [{"benchmark": kept}]}))
    assert data("gc").exit_code == 0 and kept_snapshots(folder) == {kept}


def test_report_that_is_being_written_is_no_reason_to_refuse(raw, keep, report, folder):
    report(".run-abc", None, text='{"snap')
    assert data("gc").exit_code == 0
    page = report(".run-abc/whole", None, text='{"snap').with_name("report.html")
    page.write_text("<html>")
    assert data("gc").exit_code == 0
    page.with_name("provenance.json").unlink()
    assert data("gc").exit_code == 0
    report(".run-def", keep(raw))
    assert data("gc").exit_code == 0 and len(kept_snapshots(folder)) == 1


def test_folder_above_the_reports_may_have_any_name(raw, keep, report, folder, tmp_path, monkeypatch):
    monkeypatch.setenv("BACKGRID_REPORTS", str(tmp_path / ".run-me" / "reports"))
    kept = keep(raw)
    damaged = tmp_path / ".run-me" / "reports" / "mine"
    damaged.mkdir(parents=True)
    (damaged / "provenance.json").write_text("{broken")
    assert data("gc").exit_code == 2 and kept_snapshots(folder) == {kept}


def test_gc_leaves_files_of_someone_else(keep, raw, folder):
    keep(raw)
    foreign = folder / "snapshots" / "mine.parquet"
    foreign.write_text("x")
    os.utime(foreign, (1000.0, 1000.0))
    data("gc")
    assert list((folder / "snapshots").iterdir()) == [foreign]


def test_gc_of_no_cache_removes_nothing(folder):
    done = data("gc")
    assert done.exit_code == 0 and done.stdout == "removed 0.0 kB; kept 0 snapshots in use, 0 of the last day\n"
    assert not folder.exists()


def test_file_that_cannot_be_removed_is_an_error_naming_it(raw, keep, reports, monkeypatch):
    kept = keep(raw)

    def unlink(path, missing_ok=False):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("pathlib.Path.unlink", unlink)
    with pytest.raises(BackgridError, match=f"cannot remove .*{kept}.*Permission denied"):
        snapshots.collect_garbage([reports])


def test_folder_that_cannot_be_looked_into_is_refused(reports, monkeypatch):
    (reports / "closed").mkdir()
    scandir = os.scandir

    def refusing(path):
        if str(path).endswith("closed"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr("os.scandir", refusing)
    with pytest.raises(ParameterError, match="cannot look for reports in .*closed: Permission denied"):
        snapshots.read_users([reports])


def test_report_can_be_made_again_after_gc(folder, report, bars, tmp_path):
    """From a file of prices: fetched, reported, cleared, and read again by its hash alone."""
    path = tmp_path / "prices.csv"
    bars(np.arange(100.0, 120.0)).rename_axis("Date").to_csv(path)
    prices = fetch_ohlcv("AAPL", source=path)
    report("mine", prices.attrs["snapshot"])
    os.utime(path_of(prices.attrs["snapshot"]), (1000.0, 1000.0))
    data("gc")
    again = fetch_ohlcv("AAPL", source=f"snapshot:{prices.attrs['snapshot']}")
    pd.testing.assert_frame_equal(again, prices, check_exact=True, check_freq=False)


@pytest.mark.parametrize("command", ["ls", "diff", "verify", "gc"])
def test_every_command_explains_itself(command):
    done = data(command, "--help")
    assert done.exit_code == 0 and re.search(r"(?s)Usage: .*\n\n  [A-Z].*\.", done.stdout)


def test_gc_keeps_what_a_report_in_any_folder_needs_that_was_written_to(folder, tmp_path, monkeypatch, bars):
    """The prices are the user's; another project's reports need them as well."""
    monkeypatch.setenv("BACKGRID_REPORTS", str(tmp_path / "here"))
    (tmp_path / "here").mkdir()
    needed, unused = (cache.keep_snapshot(bars(close=[100.0, 110.0, last])) for last in (120.0, 130.0))
    report = tmp_path / "elsewhere" / "AAPL"
    report.mkdir(parents=True)
    (report / "provenance.json").write_text(json.dumps({"snapshot": needed}))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    cache.note_reports(report.parent)
    cache.note_reports(tmp_path / "temporary" / "reports")  # which nobody keeps
    for path in (folder / "snapshots").iterdir():
        os.utime(path, (0, 0))
    freed = snapshots.collect_garbage(snapshots.report_folders([]), dry_run=True)
    assert [path.stem for path in freed.snapshots] == [unused] and freed.used == 1
    report.parent.rename(tmp_path / "moved")
    with pytest.raises(ParameterError, match="no folder of reports .*elsewhere.*if these are gone, take it out of"):
        snapshots.collect_garbage(snapshots.report_folders([]))
    assert len(list((folder / "snapshots").iterdir())) == 2
