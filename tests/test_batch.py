"""A batch is its reports and one index, whatever fails, is killed or stopped on the way, and whoever makes it."""

import concurrent.futures
import contextlib
import csv
import io
import json
import multiprocessing
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import nbformat
import pandas as pd
import pytest
from distributed import Client, LocalCluster
from nbformat.v4 import new_code_cell, new_notebook

from backgrid import batch
from backgrid.batch import run_batch
from backgrid.errors import ParameterError, ReportError
from backgrid.report import plan_report, remove_stale, run_report, working_folder

FILES = ["provenance.json", "report.html", "report.ipynb", "result.json", "run_log.json"]
INDEX = ["index.csv", "index.html", "index.json"]
COUNTED = "with open(log, 'a') as file:\n    print(n, file=file)"  # a cell that notes that it ran
PRICED = "from backgrid import fetch_ohlcv\nprint(fetch_ohlcv(symbol, source=source)['Close'].tolist())"
OF_PRICES = "symbol: str = 'AAPL'  # ticker\nsource: str = 'sample'  # of prices\nn: int = 0  # which"


def write_template(folder, name, *cells, parameters="n: int = 0  # which\nlog: str = ''  # file"):
    """A notebook with these cells after its parameters, the same whenever it is written."""
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    cells = [new_code_cell(parameters, metadata={"tags": ["parameters"]}), *map(new_code_cell, cells)]
    for place, cell in enumerate(cells):
        cell["id"] = f"cell-{place}"
    nbformat.write(new_notebook(cells=cells, metadata={"kernelspec": kernel}), folder / f"{name}.ipynb")


def listing(folder):
    """Every file and folder in a folder, but what every report is expected to hold."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def bytes_of(folder):
    """All files that must be the same whenever and wherever the batch runs: not what ran of a failed report."""
    paths = (path for path in folder.rglob("*") if path.is_file() and path.name != "run_log.json")
    paths = (path for path in paths if path.parent.suffix != ".failed")
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def finished(folder):
    return list(folder.glob("*/provenance.json"))


def wait_until(happened):
    """Wait for what must happen soon, a minute at the most."""
    ended_by = time.monotonic() + 60.0
    while not happened() and time.monotonic() < ended_by:
        time.sleep(0.02)
    assert happened()


class Machine:
    """A folder to work in, a folder for temporary files, and the processes that were started there."""

    def __init__(self, folder):
        self.folder = folder
        self.temporary = Path(tempfile.mkdtemp(prefix="t-", dir="/tmp"))  # short enough for a socket
        self.mark = f"BACKGRID_TEST_MARK={self.temporary.name}"

    def batch(self, table, *words, limit=None, **environment):
        """`backgrid batch` as a process of its own; limit is the largest file that it may write [bytes]."""
        rows = self.folder / "jobs.json"
        rows.write_text(json.dumps(table), encoding="utf-8")
        name, _, value = self.mark.partition("=")
        environment = os.environ | {"TMPDIR": str(self.temporary), name: value} | environment
        return subprocess.Popen(
            [sys.executable, "-m", "backgrid", "batch", rows.name, "--out", "out", *words],
            cwd=self.folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=limit and (lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))),
        )

    def run(self, table, *words, **terms):
        """The same to its end: exit code, what it printed, and its progress."""
        with self.batch(table, *words, **terms) as process:
            said, told = process.communicate()
        self.check_left()
        return process.returncode, said, told

    def processes(self):
        """Processes that carry the mark of this machine in their environment, whoever is their parent."""
        found = []
        for path in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):  # it has gone
                if self.mark.encode() in (path / "environ").read_bytes().split(b"\0"):
                    found.append(int(path.name))
        return found

    def check_left(self):
        """Nothing runs any more, and nothing temporary is there."""
        wait_until(lambda: not self.processes())
        assert listing(self.temporary) == []
        assert [path for path in self.out.rglob("*") if path.name.startswith(".")] == []

    @property
    def out(self):
        return self.folder / "out"

    @property
    def index(self):
        return json.loads((self.out / "index.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def machine(tmp_path_factory):
    """`machine()` is a new one; what still runs there is ended with the tests."""
    made = []

    def make():
        made.append(Machine(tmp_path_factory.mktemp("machine")))
        return made[-1]

    yield make
    for one in made:
        for process in one.processes():
            os.kill(process, signal.SIGKILL)
        shutil.rmtree(one.temporary, ignore_errors=True)


class AtOnce(concurrent.futures.Executor):
    """Does what it is given before it takes more: reports are made in this process, from kernels that are warm."""

    def submit(self, function, *arguments):
        future = concurrent.futures.Future()
        future.set_result(function(*arguments))
        return future


@pytest.fixture
def here(tmp_path, monkeypatch):
    """`here(table)` runs a batch in this process and gives what came of it; `here.runs()` how often a cell ran."""
    monkeypatch.chdir(tmp_path)
    write_template(tmp_path, "counted", COUNTED)
    write_template(tmp_path, "priced", PRICED, COUNTED, parameters=f"{OF_PRICES}\nlog: str = 'log'  # file")

    def run(table, **terms):
        return run_batch(table, executor=AtOnce(), **{"out": "out"} | terms)

    run.runs = lambda: (tmp_path / "log").read_text().split()
    return run


# ---- each fails alone ------------------------------------------------------------------------------------------------

KILL_WORKER = """
import os, pathlib, signal, time
stat = pathlib.Path(f"/proc/{os.getppid()}/stat").read_text()  # of the process on standby
os.kill(int(stat.rsplit(")", 1)[1].split()[1]), signal.SIGKILL)
time.sleep(600)
"""
FAULTS = {  # template: cells
    "raises": ["print('so far')", "raise ValueError('too hot')"],
    "asserts": ["assert not n >= 0"],
    "kills": ["import os, signal, subprocess", "subprocess.Popen(['sleep', '600'])", "os.kill(os.getpid(), 9)"],
    "hangs": ["print('so far')", "while True: pass"],
    "prints": ["print('x' * 50_000_000)"],
    "kills_worker": [KILL_WORKER],
    "taken": ["print(n)"],
    "good": ["import os\nos.chdir('/')\nos.system('echo from a program')", "print(n)"],
}
ERRORS = {  # template of a failed row: class and message in the index
    "raises": ("ValueError", "too hot"),
    "asserts": ("AssertionError", ""),
    "kills": ("ReportError", "the kernel died"),
    "hangs": ("ReportError", "hangs: cell 4 ran longer than 5 seconds. What ran is in hangs_"),
    "prints": ("ReportError", "prints: cell 3 gave more than 10 MB of output"),
    "kills_worker": ("ReportError", "the process that made it ended with exit code -9"),
    "taken": ("ReportError", "cannot write taken_"),
}
ROWS = [{"template": name, "n": 1} for name in FAULTS]
ROWS += [
    {"symbol": "AAPL", "fast_window": 50, "slow_window": 20},
    {"symbol": "NOSUCH"},
    {"template": "good", "n": 1},
    {"template": "good", "n": 2},
]


@pytest.fixture(scope="module")
def faults(machine):
    """A batch of many faults, and what its command said."""
    one = machine()
    for name, cells in FAULTS.items():
        write_template(one.folder, name, *cells)
    one.out.mkdir()
    (one.out / plan_report(one.folder / "taken.ipynb", {"n": 1}).name).write_text("a file, not a folder")
    one.code, one.said, one.told = one.run(ROWS, "--workers", "2", "--cell-timeout", "5")
    return one


def test_batch_with_failures_exits_1_and_prints_its_index_only(faults):
    assert (faults.code, faults.said) == (1, "out/index.html\n")


def test_each_fault_fails_its_row_and_no_other(faults):
    status = [row["status"] for row in faults.index]
    assert status == ["failed"] * 7 + ["completed"] + ["failed"] * 2 + ["completed"] * 2


@pytest.mark.parametrize("name", ERRORS)
def test_failed_row_names_class_and_message(faults, name):
    (row,) = (row for row in faults.index if row["template"] == name)
    expected, message = ERRORS[name]
    assert row["error"]["class"] == expected and message in row["error"]["message"]
    assert str(faults.folder) not in json.dumps(row)  # the same wherever it is
    page = (faults.out / "index.html").read_text(encoding="utf-8")
    assert f"<a href='#failure-{row['row']}'>{expected}</a>" in page and message in page


def test_refused_rows_say_what_is_wrong_with_the_request(faults):
    wrong, unknown = faults.index[8:10]
    assert wrong["error"]["class"] == "ParameterError" and "fast_window" in wrong["error"]["message"]
    assert unknown["error"]["class"] == "UnknownSymbolError" and "NOSUCH" in unknown["error"]["message"]
    assert [wrong["folder"], unknown["folder"]] == ["", ""]


def test_traceback_in_the_notebook_is_in_the_index(faults):
    assert "----> 1 raise ValueError('too hot')" in faults.index[0]["error"]["traceback"]


def test_table_of_the_index_names_every_row_and_error(faults):
    rows = list(csv.DictReader(io.StringIO((faults.out / "index.csv").read_text(encoding="utf-8"))))
    assert [row["status"] for row in rows] == [row["status"] for row in faults.index]
    assert rows[0]["error"] == "ValueError: too hot" and rows[7]["error"] == ""


@pytest.mark.parametrize("name", ["raises", "asserts", "kills", "hangs", "prints"])
def test_failed_row_keeps_what_ran_and_no_report(faults, name):
    (row,) = (row for row in faults.index if row["template"] == name)
    assert row["folder"].endswith(".failed")
    assert listing(faults.out / row["folder"]) == ["error.txt", "report.ipynb"]
    assert not (faults.out / row["folder"].removesuffix(".failed")).exists()


def test_partial_notebook_holds_the_output_before_the_fault(faults):
    for name in ("raises", "hangs"):
        (row,) = (row for row in faults.index if row["template"] == name)
        notebook = nbformat.read(faults.out / row["folder"] / "report.ipynb", as_version=4)
        texts = [output.get("text") for cell in notebook.cells for output in cell.get("outputs", [])]
        assert "so far\n" in texts


def test_rows_that_ask_the_same_share_one_report(faults):
    one, same, other = faults.index[7], faults.index[10], faults.index[11]
    assert one["folder"] == same["folder"] != other["folder"]
    assert listing(faults.out / one["folder"]) == FILES


def test_what_a_program_prints_is_in_its_report(faults):
    assert "from a program" in (faults.out / faults.index[7]["folder"] / "report.html").read_text(encoding="utf-8")


def test_file_in_the_place_of_a_folder_stays(faults):
    (file,) = faults.out.glob("taken_*")
    assert file.read_text() == "a file, not a folder"


def test_progress_is_one_line_a_report_where_nobody_looks_on(faults):
    lines = faults.told.splitlines()
    n_reports = len(ROWS) - 1  # two ask the same
    assert [line.split()[0] for line in lines] == [f"{at}/{n_reports}" for at in range(1, n_reports + 1)]
    assert sum(" failed: " in line for line in lines) == 9
    assert sum("failed: AssertionError" in line for line in lines) == 1


# ---- the same bytes --------------------------------------------------------------------------------------------------

ALIKE = [
    {"symbol": "AAPL", "start": "2023-01-01", "fast_window": 5},
    {"template": "alike", "n": 3},
    {"template": "alike", "n": -1},  # fails
]
UNORDERED = "print({'a', 'b', 'c', 'd', 'e'}, n)\nassert n > 0, f'{n} in {object()}'"


@pytest.fixture(scope="module")
def alike(machine):
    """A batch by one worker: what all others are held to."""
    one = machine()
    write_template(one.folder, "alike", UNORDERED)
    assert one.run(ALIKE, "--workers", "1")[0] == 1
    return one


def test_batch_holds_its_reports_and_its_index(alike):
    folders = [row["folder"] for row in alike.index]
    expected = [*INDEX, *folders, *(f"{folder}/{name}" for folder in folders[:2] for name in FILES)]
    expected += [f"{folders[2]}/{name}" for name in ("error.txt", "report.ipynb")]
    assert listing(alike.out) == sorted(expected)


def test_report_of_a_batch_is_the_report_alone(alike, tmp_path):
    report = run_report(parameters=ALIKE[0], out=tmp_path)
    made = bytes_of(alike.out)
    for name in ("report.html", "report.ipynb", "result.json", "provenance.json"):
        assert made[f"{report.path.name}/{name}"] == (report.path / name).read_bytes()


def test_two_workers_in_another_folder_zone_language_and_order_of_sets_give_the_same_bytes(alike, machine):
    other = machine()
    write_template(other.folder, "alike", UNORDERED)
    where = {"TZ": "Asia/Tokyo", "LC_ALL": "C", "PYTHONHASHSEED": "7", "COLUMNS": "40"}
    assert other.run(ALIKE, "--workers", "2", **where)[0] == 1
    assert bytes_of(other.out) == bytes_of(alike.out)


def run_there(executor, alike, folder, monkeypatch):
    monkeypatch.chdir(folder)
    write_template(folder, "alike", UNORDERED)
    result = run_batch(ALIKE, out="out", executor=executor)
    assert [run.error is None for run in result.runs] == [True, True, False]
    assert bytes_of(folder / "out") == bytes_of(alike.out)


def test_batch_run_twice_gives_the_same_bytes(alike, tmp_path, monkeypatch):
    """By an executor within this process; the second time no report is made again."""
    stamps = []
    for _ in range(2):
        run_there(AtOnce(), alike, tmp_path, monkeypatch)
        stamps.append({path: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("*/run_log.json")})
    assert stamps[0] == stamps[1] and len(stamps[0]) == 2


def test_executor_of_processes_gives_the_same_bytes(alike, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # processes start where they are asked for
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as executor:
        run_there(executor, alike, tmp_path, monkeypatch)


@pytest.mark.filterwarnings("ignore")  # of the cluster's own start and end
def test_dask_cluster_gives_the_same_bytes(alike, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None, processes=True) as cluster,
        Client(cluster) as client,
    ):
        run_there(client.get_executor(), alike, tmp_path, monkeypatch)


# ---- killed and stopped ----------------------------------------------------------------------------------------------

MANY = [{"template": "counted", "n": n, "log": "log"} for n in range(8)]
MOMENTS = {  # when a batch is killed
    "workers start": lambda one: one.processes()[1:],
    "a cell runs": lambda one: (one.folder / "log").exists(),
    "1 is finished": lambda one: len(finished(one.out)) >= 1,
    "3 are finished": lambda one: len(finished(one.out)) >= 3,
}


def test_batch_that_is_killed_goes_on_where_it_was(machine, here, tmp_path):
    """SIGKILL to the command at four moments; each time what it started ends by itself and leaves nothing."""
    killed = machine()
    write_template(killed.folder, "counted", COUNTED)
    for has_come in MOMENTS.values():
        with killed.batch(MANY, "--workers", "1") as process:
            wait_until(lambda has_come=has_come: has_come(killed))
            process.kill()
        killed.check_left()
    before = {path: path.stat().st_mtime_ns for path in finished(killed.out)}
    assert 3 <= len(before) < 8
    assert killed.run(MANY, "--workers", "1")[0] == 0
    assert bytes_of(killed.out) == bytes_of(here(MANY).path)
    assert {path: path.stat().st_mtime_ns for path in before} == before
    runs = (killed.folder / "log").read_text().split()
    assert set(runs) == {str(n) for n in range(8)} and len(runs) <= 8 + len(MOMENTS)
    assert len({row["folder"] for row in killed.index}) == 8


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_batch_that_is_stopped_leaves_what_is_finished_and_nothing_else(machine, sent, code):
    """While two cells run: they are ended with what they started."""
    one = machine()
    wait = "import pathlib, subprocess, time\nsubprocess.Popen(['sleep', '600'])"
    wait += "\nwhile n and not pathlib.Path('go').exists(): time.sleep(0.02)"
    write_template(one.folder, "waits", COUNTED, wait)
    rows = [{"template": "waits", "n": n, "log": "log"} for n in range(3)]
    with one.batch(rows, "--workers", "2") as process:
        log = one.folder / "log"
        wait_until(lambda: log.exists() and len(log.read_text().split()) == 3 and finished(one.out))
        process.send_signal(sent)
        said, _ = process.communicate()
    assert (process.returncode, said) == (code, "")
    one.check_left()
    assert [path.name for path in one.out.iterdir()] == [path.parent.name for path in finished(one.out)]
    if sent == signal.SIGINT:
        return
    (one.folder / "go").touch()
    assert one.run(rows, "--workers", "2")[0] == 0
    assert sorted(log.read_text().split()) == ["0", "1", "1", "2", "2"]


def test_working_folder_of_a_killed_process_is_removed_and_one_in_use_is_not(tmp_path):
    stale = tmp_path / ".run-stale"
    stale.mkdir()
    with working_folder(tmp_path) as used:
        for folder in (stale, used):
            os.utime(folder, (0, 0))
        remove_stale(tmp_path)
        assert list(tmp_path.iterdir()) == [used]
    assert list(tmp_path.iterdir()) == []


def test_batch_removes_what_a_killed_one_has_left(here, tmp_path):
    stale = tmp_path / "out" / ".run-stale"
    stale.mkdir(parents=True)
    (stale / "index.json").touch()
    os.utime(stale, (0, 0))
    here([{"template": "counted", "log": "log"}])
    assert not stale.exists()


# ---- no room ---------------------------------------------------------------------------------------------------------


def test_full_disk_is_told_and_leaves_what_was_there(machine, monkeypatch):
    """Files above 20 kB cannot be written: neither a long report nor the page of the index."""
    one = machine()
    monkeypatch.chdir(one.folder)
    write_template(one.folder, "long", COUNTED, "print('x' * 30_000 * n)")
    rows = [{"template": "long", "n": n, "log": "log"} for n in range(2)]
    run_batch(rows[:1], out="out", executor=AtOnce())
    before = bytes_of(one.out)
    code, said, told = one.run(rows, "--workers", "1", limit=20_000)
    assert (code, said) == (1, "")
    assert "2/2 failed: ReportError: cannot write long_" in told and "File too large" in told
    assert told.splitlines()[-1].startswith("backgrid: cannot write out: ") and "Free space" in told
    assert bytes_of(one.out) == before
    run_batch(rows, out="out", executor=AtOnce())
    assert [row["status"] for row in one.index] == ["completed"] * 2
    assert (one.folder / "log").read_text().split() == ["0", "1", "1"]


@pytest.mark.parametrize("out", ["file", "file/out", "/proc/none"])
def test_folder_that_cannot_be_written_is_told_before_a_process_starts(no_worker, tmp_path, monkeypatch, out):
    monkeypatch.chdir(tmp_path)
    Path("file").touch()
    with pytest.raises(ReportError, match=f"cannot write {out}: .*give another folder"):
        run_batch([{"n_trials": 1}], out=out)


# ---- what is made again ----------------------------------------------------------------------------------------------


def edit_template(report, source):
    write_template(Path(), "priced", PRICED, COUNTED, "1", parameters=f"{OF_PRICES}\nlog: str = 'log'  # file")


def edit_prices(report, source):
    source.write_text(source.read_text().replace("102", "112"))


def edit_page(report, source):
    with (report / "report.html").open("a") as page:
        page.write(" ")


def lose_result(report, source):
    (report / "result.json").unlink()


def lose_provenance(report, source):
    (report / "provenance.json").write_text("{")


def by_other_versions(report, source):
    noted = json.loads((report / "provenance.json").read_text())
    noted["versions"]["numpy"] = "0.1"
    (report / "provenance.json").write_text(json.dumps(noted))


def by_other_code(report, source):
    noted = json.loads((report / "provenance.json").read_text())
    (report / "provenance.json").write_text(json.dumps(noted | {"package_sha256": "0"}))


@pytest.fixture
def source(bars, tmp_path):
    """A CSV file of prices."""
    bars([100.0, 101.0, 102.0]).rename_axis("Date").to_csv(tmp_path / "prices.csv")
    return tmp_path / "prices.csv"


@pytest.mark.parametrize(
    "change",
    [edit_template, edit_prices, edit_page, lose_result, lose_provenance, by_other_versions, by_other_code],
    ids=lambda change: change.__name__,
)
def test_report_is_made_again_where_it_is_not_what_would_be_made(here, source, tmp_path, change):
    rows = [{"template": "priced", "source": "prices.csv", "n": n} for n in (1, 2)]
    first = here(rows)
    here(rows)
    assert here.runs() == ["1", "2"]
    if change is edit_template or change is edit_prices:
        change(None, source)
    else:
        change(first.path / first.runs[0].folder, source)
    again = here(rows)
    of_all = change in (edit_template, edit_prices)
    assert here.runs() == ["1", "2", "1", "2"] if of_all else ["1", "2", "1"]
    folder = again.path / again.runs[0].folder
    assert listing(folder) == FILES and not again.failed
    closes = [100.0, 101.0, 112.0 if change is edit_prices else 102.0]
    assert str(closes) in (folder / "report.html").read_text()
    here(rows)
    assert len(here.runs()) == (4 if of_all else 3)


def test_reports_of_the_strategies_are_made_again_for_other_prices(here, bars, tmp_path):
    """Prices that the strategy was tried on are compared with those of the report, whatever the file is called."""
    rows = [{"source": "prices.csv", "fast_window": 2, "slow_window": 3}]
    found = []
    for last in (105.0, 105.0, 90.0):
        bars([100.0, 101.0, 102.0, 103.0, 104.0, last]).rename_axis("Date").to_csv(tmp_path / "prices.csv")
        (run,) = here(rows).runs
        found.append(((tmp_path / "out" / run.folder / "run_log.json").read_text(), run.track.equity[-1]))
    assert found[0] == found[1]
    assert found[2][0] != found[1][0] and found[2][1] < found[1][1]


def test_other_parameters_are_another_report(here, tmp_path):
    here([{"template": "counted", "n": 1, "log": "log"}])
    here([{"template": "counted", "n": n, "log": "log"} for n in (1, 2)])
    assert here.runs() == ["1", "2"] and len(finished(tmp_path / "out")) == 2


def test_all_are_made_again_without_resume(here):
    for _ in range(2):
        here([{"template": "counted", "n": n, "log": "log"} for n in (1, 2)], resume=False)
    assert here.runs() == ["1", "2", "1", "2"]


def test_report_that_succeeds_later_leaves_no_failed_one(here, tmp_path):
    write_template(tmp_path, "picky", "import os; assert os.path.exists('ready')")
    (run,) = here([{"template": "picky"}]).failed
    assert run.folder.endswith(".failed")
    (tmp_path / "ready").touch()
    result = here([{"template": "picky"}])
    assert not result.failed
    assert sorted(path.name for path in result.path.iterdir()) == sorted([*INDEX, result.runs[0].folder])


# ---- prices ----------------------------------------------------------------------------------------------------------


def test_prices_are_read_once_for_all_reports_of_a_worker(here, source, tmp_path):
    """The first kernel removes the file; the others still have what the worker read before."""
    lose = f"import os\nif os.path.exists(source): os.remove(source)\n{PRICED}"
    write_template(tmp_path, "loses", lose, parameters=OF_PRICES)
    result = here([{"template": "loses", "source": "prices.csv", "n": n} for n in range(3)])
    assert not result.failed and not source.exists()
    for run in result.runs:
        assert "[100.0, 101.0, 102.0]" in (result.path / run.folder / "report.html").read_text()


def test_file_of_prices_is_read_once_a_batch(here, source, monkeypatch):
    reads = []
    read_csv = pd.read_csv
    monkeypatch.setattr(pd, "read_csv", lambda path: reads.append(str(path)) or read_csv(path))
    rows = [{"source": "prices.csv", "fast_window": 2, "slow_window": slow} for slow in (1, 2)]  # refused
    rows += [{"template": "priced", "source": "prices.csv", "n": n} for n in range(2)]
    here(rows)
    assert reads == ["prices.csv"] * 3  # a refused request keeps nothing
    here(rows[2:])
    assert reads == ["prices.csv"] * 4


def test_kernel_of_a_process_that_waits_has_the_prices_of_the_moment(here, source):
    """Also outside of a batch: the process on standby keeps prices, and the file has changed since."""
    for last in (102.0, 112.0):
        report = run_report("priced", {"source": "prices.csv"}, out="out")
        assert f"[100.0, 101.0, {last}]" in report.html.read_text()
        edit_prices(None, source)


# ---- what a batch gives back -----------------------------------------------------------------------------------------


def test_result_says_where_and_how_many_failed(here, tmp_path):
    write_template(tmp_path, "raises", "raise KeyError('gone')")
    result = here([{"template": "counted", "log": "log"}, {"template": "raises"}])
    assert repr(result) == "<BatchResult 2 reports, 1 failed: out/index.html>"
    assert result.index == Path("out/index.html") and result.index.is_file()
    assert result.table["status"].tolist() == ["completed", "failed"]
    assert "KeyError" in result._repr_html_() and "2 reports, 1 failed" in result._repr_html_()
    assert [run.row for run in result.failed] == [2]


def test_folder_of_the_settings_is_written_if_none_is_given(here, tmp_path, monkeypatch):
    monkeypatch.setenv("BACKGRID_REPORTS", str(tmp_path / "elsewhere"))
    assert here([{"template": "counted", "log": "log"}], out=None).index == tmp_path / "elsewhere" / "index.html"


def test_rows_that_are_one_request_written_in_two_ways_share_a_folder(here):
    """Found to be the same by their reports only."""
    result = here([{"symbol": "aapl", "start": "2023-06-01"}, {"symbol": "AAPL", "start": "2023-06-01"}])
    first, second = result.runs
    assert first.folder == second.folder and first.metrics == second.metrics and not result.failed


def test_name_of_dots_only_names_a_folder_inside(here, tmp_path):
    write_template(tmp_path, "dots", "1", parameters="symbol: str = ''  # any")
    (run,) = here([{"template": "dots", "symbol": "../.."}]).runs
    assert (tmp_path / "out" / run.folder / "report.html").is_file() and "/" not in run.folder


def test_executor_that_is_closed_fails_every_row_and_says_so(tmp_path):
    executor = concurrent.futures.ThreadPoolExecutor(1)
    executor.shutdown()
    result = run_batch([{"fast_window": 5}, {"fast_window": 6}], out=tmp_path, executor=executor)
    assert [run.error["message"] for run in result.runs] == ["cannot schedule new futures after shutdown"] * 2


def test_worker_that_dies_before_its_first_row_fails_that_row(tmp_path, monkeypatch):
    """Each row has another worker, and none lives."""
    monkeypatch.setattr(sys, "executable", "/bin/false")
    monkeypatch.chdir(tmp_path)
    write_template(tmp_path, "counted", COUNTED)
    result = run_batch(MANY[:3], out=tmp_path / "out", workers=2)
    assert [run.error["message"] for run in result.runs] == ["the process that made it ended with exit code 1"] * 3


# ---- progress --------------------------------------------------------------------------------------------------------


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_progress_is_one_bar_in_a_terminal_which_failures_stand_above(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    error = {"class": "ValueError", "message": "too\nhot", "traceback": ""}
    with batch._progress(2) as tell:
        tell({"folder": "own_1", "error": None})
        tell({"folder": "", "error": error})
    said = terminal.getvalue()
    assert "failed: ValueError: too hot\n" in said and "own_1" not in said
    assert "2/2" in said and not said.endswith("\n")


# ---- what is refused -------------------------------------------------------------------------------------------------


@pytest.fixture
def no_worker(monkeypatch):
    """A process that starts fails the test."""
    monkeypatch.setattr(subprocess, "Popen", lambda *_, **__: pytest.fail("a process was started"))


@pytest.mark.parametrize(
    ("terms", "message"),
    [
        ({"workers": 0}, "workers must be a whole number of at least 1, got 0"),
        ({"workers": True}, "workers must be"),
        ({"workers": 1.5}, "workers must be"),
        ({"executor": "dask"}, "executor must be a concurrent.futures.Executor, got 'dask'"),
        ({"cell_timeout": 0}, "cell_timeout must be seconds above 0"),
        ({"table": []}, "the table has no rows"),
        ({"table": [{"fast_windw": 3}]}, "row 1 of the table: report_backtest has no parameter 'fast_windw'; did you"),
        ({"table": "none.csv"}, "none.csv cannot be read"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_wrong_terms_are_refused_before_a_process_starts_and_with_nothing_written(no_worker, tmp_path, terms, message):
    with pytest.raises(ParameterError, match=message):
        run_batch(**{"table": [{"fast_window": 5}], "out": tmp_path / "out"} | terms)
    assert not (tmp_path / "out").exists()


def test_command_with_a_wrong_table_exits_2_in_one_line(machine):
    one = machine()
    code, said, told = one.run([{"a = 1\nopen('pwned', 'w')\nb": 1}])
    assert (code, said) == (2, "")
    assert len(told.splitlines()) == 1 and "row 1 of the table: report_backtest has no parameter" in told
    assert listing(one.folder) == ["jobs.json"]
