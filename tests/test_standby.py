"""The process that waits to become a report's kernel: it never outlives its use, and adds nothing to a notebook."""

import os
import signal
import subprocess
import sys
import time

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from backgrid import standby
from backgrid.errors import ParameterError
from backgrid.report import run_report


@pytest.fixture
def started(monkeypatch):
    """The processes started while a test runs."""
    processes, start = [], standby._start

    def noted():
        processes.append(start())
        return processes[-1]

    monkeypatch.setattr(standby, "_start", noted)
    return processes


def test_process_started_ahead_is_the_one_that_is_used(started):
    with standby.ahead(), standby.waiting() as process:
        assert process.poll() is None
    assert started == [process] and process.poll() == -signal.SIGKILL


def test_process_started_ahead_and_not_used_is_ended(started):
    with standby.ahead():
        pass
    assert [process.poll() for process in started] == [-signal.SIGKILL] and not standby._ahead


def test_refused_request_leaves_no_process(started, tmp_path):
    with pytest.raises(ParameterError):
        run_report(parameters={"symbol": "AAPL", "fees": -1.0}, out=tmp_path)
    assert [process.poll() for process in started] == [-signal.SIGKILL]


def test_report_uses_one_process_and_ends_it(started, tmp_path):
    assert run_report(parameters={"start": "2023-01-01"}, out=tmp_path).html.is_file()
    assert len(started) == 1 and started[0].poll() is not None


def test_process_ends_with_the_one_that_started_it():
    code = "import time; from backgrid import standby; process = standby._start(); print(process.pid, flush=True)"
    with subprocess.Popen(
        [sys.executable, "-c", f"{code}; time.sleep(60)"], stdout=subprocess.PIPE, text=True
    ) as first:
        waiting = int(first.stdout.readline())
        first.kill()
    ended_by = time.monotonic() + 60.0
    while _is_running(waiting) and time.monotonic() < ended_by:
        time.sleep(0.1)
    assert not _is_running(waiting)


def _is_running(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    with open(f"/proc/{pid}/stat", encoding="utf-8") as status:  # nobody may have collected it
        return status.read().rsplit(")", 1)[1].split()[0] != "Z"


def test_notebook_finds_the_names_of_any_fresh_kernel_and_nothing_else(tmp_path):
    cell = "print(sorted(name for name in globals() if not name.startswith('_')))"
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    cells = [new_code_cell("", metadata={"tags": ["parameters"]}), new_code_cell(cell)]
    nbformat.write(new_notebook(cells=cells, metadata={"kernelspec": kernel}), tmp_path / "names.ipynb")
    report = run_report(tmp_path / "names.ipynb", out=tmp_path)
    (output,) = nbformat.read(report.path / "report.ipynb", as_version=4).cells[-1]["outputs"]
    assert output["text"].strip() == str(sorted(["In", "Out", "exit", "get_ipython", "open", "quit"]))


def test_process_that_died_early_is_reported_as_a_dead_kernel(monkeypatch, tmp_path):
    start = standby._start

    def broken():
        process = start()
        process.kill()
        process.wait()
        return process

    monkeypatch.setattr(standby, "_start", broken)
    with pytest.raises(Exception, match="the kernel died"):
        run_report(parameters={"start": "2023-01-01"}, out=tmp_path)
    assert not list(tmp_path.rglob("report.html"))
