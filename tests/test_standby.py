"""A process on standby forks clean kernels, adds nothing to a notebook, and never outlives its use."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from backgrid import standby
from backgrid.errors import ParameterError, ReportError
from backgrid.report import make_report, plan_report, run_report


@pytest.fixture
def started(monkeypatch):
    """The processes started while a test runs, none of them kept from before."""
    processes = []

    class Noted(standby.Standby):
        def __init__(self):
            super().__init__()
            processes.append(self.process)

    monkeypatch.setattr(standby, "Standby", Noted)
    monkeypatch.setattr(standby, "_idle", [])
    monkeypatch.setattr(standby, "_kept", 0)
    return processes


@pytest.fixture
def notebook(tmp_path):
    """`notebook(cell, ...)` writes a template of these cells."""

    def write(*sources, name="own"):
        kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
        cells = [new_code_cell("", metadata={"tags": ["parameters"]}), *map(new_code_cell, sources)]
        path = tmp_path / f"{name}.ipynb"
        nbformat.write(new_notebook(cells=cells, metadata={"kernelspec": kernel}), path)
        return path

    return write


def said(report):
    """What the last cell of a report printed."""
    (output,) = nbformat.read(report.path / "report.ipynb", as_version=4).cells[-1]["outputs"]
    return output["text"].strip()


def test_process_started_ahead_is_the_one_that_is_used_and_waits_again(started):
    with standby.ahead():
        for _ in range(2):
            with standby.waiting() as process:
                assert [process.process] == started and started[0].poll() is None
    assert started[0].poll() is not None and not standby._idle


def test_process_started_ahead_and_not_used_is_ended(started):
    with standby.ahead():
        pass
    assert [process.poll() for process in started] == [-signal.SIGKILL] and not standby._idle


def test_refused_request_leaves_no_process(started, tmp_path):
    with pytest.raises(ParameterError):
        run_report(parameters={"symbol": "AAPL", "fees": -1.0}, out=tmp_path)
    assert [process.poll() for process in started] == [-signal.SIGKILL]


def test_report_uses_one_process_and_ends_it(started, tmp_path):
    assert run_report(parameters={"start": "2023-01-01"}, out=tmp_path).html.is_file()
    assert [process.poll() for process in started] == [0]


def test_process_ends_with_the_one_that_started_it():
    code = "import time; from backgrid.standby import Standby; print(Standby().process.pid, flush=True)"
    with subprocess.Popen(
        [sys.executable, "-c", f"{code}; time.sleep(60)"], stdout=subprocess.PIPE, text=True
    ) as first:
        waiting = int(first.stdout.readline())
        first.kill()
    wait_until(lambda: not is_running(waiting))


def wait_until(happened):
    """Wait for what must happen soon, a minute at the most."""
    ended_by = time.monotonic() + 60.0
    while not happened() and time.monotonic() < ended_by:
        time.sleep(0.05)
    assert happened()


def is_running(process):
    try:
        status = Path(f"/proc/{process}/stat").read_text(encoding="utf-8")
    except FileNotFoundError:
        return False
    return status.rsplit(")", 1)[1].split()[0] != "Z"  # nobody may have collected it


def test_notebook_finds_the_names_of_any_fresh_kernel_and_nothing_else(notebook, tmp_path):
    report = run_report(notebook("print(sorted(name for name in globals() if not name.startswith('_')))"), out=tmp_path)
    assert said(report) == str(sorted(["In", "Out", "exit", "get_ipython", "open", "quit"]))


def test_nothing_leaks_from_one_report_to_the_next(started, notebook, tmp_path):
    leave = "import backgrid.metrics, os, sys; backgrid.metrics.LEFT = sys.left = os.environ['LEFT'] = 'here'"
    find = (
        "import backgrid.metrics as m, os, sys; print(hasattr(m, 'LEFT'), hasattr(sys, 'left'), 'LEFT' in os.environ)"
    )
    with standby.ahead():
        run_report(notebook(leave), out=tmp_path)
        report = run_report(notebook(find, name="other"), out=tmp_path)
    assert said(report) == "False False False" and len(started) == 1


def test_kernel_has_the_folder_and_environment_of_the_moment(started, notebook, tmp_path, monkeypatch):
    look = notebook("import os; print(os.getcwd(), os.environ['SEEN_NOW'])")
    (tmp_path / "elsewhere").mkdir()
    with standby.ahead():
        monkeypatch.setenv("SEEN_NOW", "yes")
        monkeypatch.chdir(tmp_path / "elsewhere")
        report = run_report(look, out=tmp_path)
    assert said(report) == f"{tmp_path / 'elsewhere'} yes"


def test_random_numbers_that_nobody_seeded_differ_between_reports(started, notebook, tmp_path):
    draw = "import random; import numpy as np; print(random.random(), np.random.random())"
    with standby.ahead():
        first, other = (said(run_report(notebook(draw, name=name), out=tmp_path)) for name in ("one", "two"))
    assert set(first.split()).isdisjoint(other.split())


def test_process_that_dies_before_its_kernel_is_forked_is_reported_as_a_dead_kernel(started, notebook, tmp_path):
    with standby.ahead():
        with standby.waiting() as process:
            process.process.kill()
            process.process.wait()
            with pytest.raises(ReportError, match="the kernel died"):
                make_report(plan_report(notebook("1")), tmp_path, process)
        assert run_report(notebook("1", name="next"), out=tmp_path).html.is_file()  # by another one
    assert len(started) == 2 and not list(tmp_path.glob(".run-*"))


def test_killed_kernel_fails_its_report_and_not_the_next(started, notebook, tmp_path):
    with standby.ahead():
        with pytest.raises(ReportError, match="the kernel died"):
            run_report(notebook("import os, signal; os.kill(os.getpid(), signal.SIGKILL)"), out=tmp_path)
        assert run_report(notebook("1", name="next"), out=tmp_path).html.is_file()
    assert len(started) == 1


def test_cell_over_its_time_is_ended_with_what_it_started(started, notebook, tmp_path):
    left = tmp_path / "left"
    start = (
        f"import subprocess; print(subprocess.Popen(['sleep', '600']).pid, file=open({str(left)!r}, 'w'), flush=True)"
    )
    with pytest.raises(ReportError, match="cell 2 ran longer than 2 seconds"):
        run_report(notebook(start, "while True: pass"), out=tmp_path, cell_timeout=2)
    wait_until(lambda: not is_running(int(left.read_text())))
    (failed,) = tmp_path.glob("*.failed")
    assert sorted(path.name for path in failed.iterdir()) == ["error.txt", "report.ipynb"]


@pytest.mark.parametrize(
    "cell",
    [
        "while True: print('x' * 100_000)",
        "print('x' * 50_000_000)",
        "from IPython.display import HTML\nHTML('x' * 50_000_000)",
    ],
    ids=["without end", "at once", "shown"],
)
def test_cell_that_says_too_much_fails(notebook, tmp_path, cell):
    with pytest.raises(ReportError, match="cell 1 gave more than 10 MB of output"):
        run_report(notebook(cell), out=tmp_path)
    (failed,) = tmp_path.glob("*.failed")
    assert (failed / "report.ipynb").stat().st_size < 20e6


@pytest.mark.parametrize("timeout", [0, -1.0, True, "5", float("nan"), float("inf")])
def test_time_of_a_cell_that_is_none_is_refused(no_kernel, timeout):
    with pytest.raises(ParameterError, match="cell_timeout must be seconds above 0"):
        run_report(cell_timeout=timeout)


def test_fresh_process_of_a_check_ends_with_its_kernel(notebook, tmp_path):
    """A check whose strategy hangs in the fresh process, in a kernel that is killed meanwhile."""
    (tmp_path / "hanging.py").write_text(
        "import os, time\nfrom backgrid import lookahead\n\n"
        "def hang(prices, *, left=''):\n"
        "    if lookahead._is_fresh:\n"
        "        open(left, 'w').write(str(os.getpid()))\n"
        "        time.sleep(600)\n"
        "    return prices['Close'] * 0.0 + 1.0\n"
    )
    left = tmp_path / "left"
    check = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
        "import hanging\nfrom backgrid import check_lookahead, fetch_ohlcv\n"
        f"check_lookahead(hanging.hang, fetch_ohlcv('AAPL', source='sample'), params={{'left': {str(left)!r}}})"
    )
    with pytest.raises(ReportError, match="cell 1 ran longer than 5 seconds"):
        run_report(notebook(check), out=tmp_path, cell_timeout=5)
    wait_until(lambda: left.is_file() and not is_running(int(left.read_text())))


def test_interrupted_report_leaves_nothing(tmp_path):
    """SIGTERM to the command, while a cell runs."""
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    wait = f"import pathlib, time; pathlib.Path({str(tmp_path / 'runs')!r}).touch(); time.sleep(600)"
    cells = [new_code_cell("", metadata={"tags": ["parameters"]}), new_code_cell(wait)]
    nbformat.write(new_notebook(cells=cells, metadata={"kernelspec": kernel}), tmp_path / "own.ipynb")
    command = [sys.executable, "-m", "backgrid", "report", str(tmp_path / "own.ipynb"), "--out", str(tmp_path / "out")]
    with subprocess.Popen(command, start_new_session=True) as report:
        wait_until((tmp_path / "runs").exists)
        report.send_signal(signal.SIGTERM)
    assert report.returncode == 143
    assert list((tmp_path / "out").iterdir()) == []


def test_killed_report_leaves_nothing(tmp_path):
    """SIGKILL to the command, while a cell runs: the process on standby ends the kernel and removes what was left."""
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    wait = (
        f"import os, pathlib, time; pathlib.Path({str(tmp_path / 'runs')!r}).write_text(str(os.getpid())); "
        "time.sleep(600)"
    )
    cells = [new_code_cell("", metadata={"tags": ["parameters"]}), new_code_cell(wait)]
    nbformat.write(new_notebook(cells=cells, metadata={"kernelspec": kernel}), tmp_path / "own.ipynb")
    command = [sys.executable, "-m", "backgrid", "report", str(tmp_path / "own.ipynb"), "--out", str(tmp_path / "out")]
    with subprocess.Popen(command, start_new_session=True) as report:
        wait_until(lambda: (tmp_path / "runs").exists() and (tmp_path / "runs").read_text())
        report.kill()
    wait_until(lambda: not is_running(int((tmp_path / "runs").read_text())))
    wait_until(lambda: list((tmp_path / "out").iterdir()) == [])
    assert os.path.isdir(tmp_path / "out")


def test_process_that_is_idle_is_used_before_another_is_started(started):
    with standby.ahead(), standby.ahead():
        pass
    assert len(started) == 1 and started[0].poll() is not None


def test_idle_process_that_was_killed_costs_no_report(started, notebook, tmp_path):
    with standby.ahead():
        started[0].kill()
        started[0].wait()
        assert run_report(notebook("1"), out=tmp_path).html.is_file()
    assert len(started) == 2


def test_long_line_without_blanks_is_no_trouble(notebook, tmp_path):
    """A pattern that looked for a path from each of its characters took minutes."""
    assert len(said(run_report(notebook("print('x' * 1_000_000)"), out=tmp_path))) == 1_000_000


def test_error_that_says_too_much_fails_with_its_beginning(notebook, tmp_path):
    with pytest.raises(ReportError) as caught:
        run_report(notebook("raise ValueError('x ' * 1_000_000)"), out=tmp_path)
    assert "ValueError: x x" in str(caught.value) and len(str(caught.value)) < 10_000


def test_module_in_the_working_folder_is_found(notebook, tmp_path, monkeypatch):
    (tmp_path / "my_rules.py").write_text("RULE = 'mine'\n")
    monkeypatch.chdir(tmp_path)
    assert said(run_report(notebook("import my_rules; print(my_rules.RULE)"), out=tmp_path)) == "mine"


def test_forked_copy_of_a_process_does_not_use_what_stands_by_for_the_original(started, notebook, tmp_path):
    with standby.ahead():
        copy = os.fork()
        if not copy:
            os._exit(0 if not standby._idle and not standby._kept else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(copy, 0)[1]) == 0
        assert run_report(notebook("1"), out=tmp_path).html.is_file()
    assert len(started) == 1


def test_interrupt_while_prices_are_sent_does_not_hang(started, monkeypatch):
    def interrupted(_):
        monkeypatch.undo()
        raise KeyboardInterrupt

    with standby.waiting() as process:
        monkeypatch.setattr(process._line, "send", interrupted)
        with pytest.raises(KeyboardInterrupt):
            process.fork("none", {}, False, [])
    assert started[0].poll() == -signal.SIGKILL
