"""A process that imports what a report needs while its request is being checked, and then forks kernels from itself.

A kernel so starts in a tenth of a second, and yet knows nothing of the one before: each is a copy of a process that has
run nothing of any request. The same goes for the fresh process in which a look-ahead check asks a strategy again.
"""

import atexit
import contextlib
import ctypes
import gc
import importlib
import os
import pickle
import random
import shutil
import signal
import socket
import subprocess
import sys
import threading
import warnings
import weakref
from collections.abc import Callable, Iterator, Mapping
from multiprocessing.connection import Connection, Pipe, wait
from pathlib import Path
from typing import Any

PR_SET_PDEATHSIG = 1  # of prctl
ENDING = 10.0  # that a process on standby may take to end what it has started [seconds]

_idle: list["Standby"] = []
_kept = 0  # how many times `ahead` is open
_all: weakref.WeakSet["Standby"] = weakref.WeakSet()


class Standby:
    """A process on standby, and the one kernel at a time that is forked from it. It ends with this process."""

    def __init__(self) -> None:
        self._line, theirs = Pipe()
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-m", "backgrid.standby", str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,  # a kernel repeats there what programs print that it starts
                pass_fds=[theirs.fileno()],
                env={**_environment(), "PYTHONHASHSEED": "0"},  # the same bytes, in whatever order a set comes
                start_new_session=True,
            )
        self._pinned: Mapping[Any, Any] = {}  # prices that it holds, by request
        self._runs, self._code = False, 0  # the kernel, and how the last one ended
        self._used = False
        _all.add(self)

    def fork(self, connection_file: str, frames: Mapping[Any, Any], only: bool, leftovers: list[str]) -> None:
        """Fork a kernel for this connection file.

        frames, only  what `backgrid.data.hold` is given in it
        leftovers     folders to remove should this process vanish before the next kernel is asked for
        """
        new = {key: frame for key, frame in frames.items() if self._pinned.get(key) is not frame}
        message = (os.getcwd(), _environment(), connection_file, new, list(frames), only, leftovers)
        self._pinned, self._runs, self._used = dict(frames), True, True
        try:
            self._line.send(message)
        except BaseException as error:
            self.process.kill()  # which has half of a message
            self.process.wait()
            if not isinstance(error, OSError):  # it has died, which `poll` tells
                raise

    def poll(self) -> int | None:
        """Exit code of the kernel, None while it runs."""
        return self._heard(0.0)

    def wait(self) -> int | None:
        """Exit code of the kernel, when it has ended."""
        return self._heard(None)

    def _heard(self, seconds: float | None) -> int | None:
        try:
            if self._runs and self._line.poll(seconds):
                self._code, self._runs = self._line.recv(), False
        except (EOFError, OSError):  # the process on standby has died, and its kernel ends with it
            self._code, self._runs = -signal.SIGKILL, False
        return None if self._runs else self._code

    def kill(self) -> None:
        """End the kernel and all of its process group."""
        if self._runs:
            with contextlib.suppress(OSError):
                self._line.send(None)

    def is_ready(self) -> bool:
        """Whether it can fork another kernel; none runs any more."""
        self.kill()
        self.wait()
        return self.process.poll() is None

    def close(self) -> None:
        """End it, and its kernel."""
        self._line.close()
        if not self._used:
            self.process.kill()  # it may still import
        try:
            self.process.wait(ENDING)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def _environment() -> dict[str, str]:
    """That of this process, for a kernel."""
    environment = {**os.environ}
    environment.setdefault("MPLBACKEND", "module://matplotlib_inline.backend_inline")  # as in any kernel
    environment.pop("JPY_SESSION_NAME", None)  # of a server that someone looks at: no progress bars in a report
    environment["COLUMNS"] = "80"  # tracebacks are as wide, wherever they are made
    return environment


@contextlib.contextmanager
def ahead() -> Iterator[None]:
    """Start the process that the next `waiting` gives; within, those that have been used wait for the next report."""
    global _kept
    _kept += 1
    if not _idle:
        _idle.append(Standby())
    try:
        yield
    finally:
        _kept -= 1
        if not _kept:
            _close_idle()


def keep() -> None:
    """As `ahead` from now on, for a process that makes many reports."""
    global _kept
    if not _kept:
        _kept += 1
        atexit.register(_close_idle)


def _close_idle() -> None:
    while _idle:
        _idle.pop().close()


def _next_idle() -> Standby | None:
    """One that is idle, and has not been killed meanwhile."""
    while _idle:
        standby = _idle.pop()
        if standby.process.poll() is None:
            return standby
        standby.close()
    return None


def _let_go() -> None:
    """In a forked copy of this process: what stands by does so for the original."""
    global _kept
    _kept = 0
    _idle.clear()
    for standby in list(_all):
        standby._line.close()


os.register_at_fork(after_in_child=_let_go)


@contextlib.contextmanager
def waiting() -> Iterator[Standby]:
    """A process on standby: one that is idle, or a new one. Its kernel has ended afterwards, whatever became of it."""
    standby = _next_idle() or Standby()
    try:
        yield standby
    finally:
        if standby.is_ready() and _kept:
            _idle.append(standby)
        else:
            standby.close()


# ---- in that process -------------------------------------------------------------------------------------------------


def _stand_by(line: Connection) -> None:
    """Get ready, and fork what is asked for until nobody is there to ask."""
    sys.modules["debugpy"] = None  # type: ignore[assignment]  # a report has no debugger: 0.1 s
    gc.disable()  # imports leave nothing to collect
    importlib.import_module("ipykernel.kernelapp")
    with contextlib.suppress(Exception):  # the notebook does it again, and says what is wrong
        get_ready()
    gc.freeze()  # else a collection in a kernel would copy every page
    _serve(line)


def get_ready() -> None:
    """Import, and load the compiled code and the fonts, by one small backtest.

    Of made-up prices: to read real ones starts more threads of libraries than there need be.
    """
    import numpy as np
    import pandas as pd

    from backgrid import lookahead, page  # noqa: F401  the former for what is forked
    from backgrid.engine import run_backtest

    close = 100.0 * np.exp(0.1 * np.sin(np.arange(300) / 9.0))
    columns = {"Open": close, "High": close, "Low": close, "Close": close}
    prices = pd.DataFrame(columns, index=pd.bdate_range("2023-01-02", periods=close.size, name="Date"))
    result = run_backtest(prices, fees=0.001)
    page.summary(result)
    page.stress(result)
    result.plot().svg()


def _serve(line: Connection) -> None:
    """Fork a kernel for each message, and fresh processes for that kernel; end with the process at the other end."""
    woken, waker = socket.socketpair()
    waker.setblocking(False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(waker.fileno())
    kernel, questions, leftovers, asked = 0, None, [], True
    while asked:
        for ready in wait([line, woken, *([questions] if questions else [])]):
            if ready is woken:
                woken.recv(4096)
                kernel = _collect(kernel, line)
            elif ready is questions:
                questions = _answer(questions, line)
            elif ready is line:
                try:
                    message = line.recv()
                except (EOFError, OSError):  # the process that asks is gone
                    message, asked = None, False
                if message is None:
                    _kill(kernel)
                    continue
                *settled, new, wanted, only, leftovers = message
                _hold(new, wanted, only)
                questions, theirs = socket.socketpair()
                kernel = _fork(_be_kernel, *settled, theirs, without=[line, questions, woken, waker])
                theirs.close()
    for folder in leftovers:
        shutil.rmtree(folder, ignore_errors=True)


def _kill(group: int) -> None:
    if group:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(group, signal.SIGKILL)


def _hold(new: Mapping[Any, Any], wanted: list[Any], only: bool) -> None:
    """Hold these prices and no others, in whatever is forked from now on."""
    from backgrid.data import hold, pins

    held = {**pins()[0], **new}
    hold({key: held[key] for key in wanted}, only)


def _collect(kernel: int, line: Connection) -> int:
    """Let go the processes that have ended; where the kernel is among them, say how it ended."""
    with contextlib.suppress(ChildProcessError):
        while (ended := os.waitpid(-1, os.WNOHANG))[0]:
            if ended[0] == kernel:
                kernel = 0
                _kill(ended[0])  # what it started and left behind
                with contextlib.suppress(OSError):  # nobody is there any more, which the next message tells
                    line.send(os.waitstatus_to_exitcode(ended[1]))
    return kernel


def _answer(questions: socket.socket, line: Connection) -> socket.socket | None:
    """Fork a fresh process for a kernel that asks for one; None where the kernel is gone."""
    try:
        asked, files, _, _ = socket.recv_fds(questions, 1, 3)
    except ConnectionError:
        asked, files = b"", []
    if not asked:
        questions.close()
        return None
    _fork(_be_fresh, *files, without=[line, questions])
    for file in files:
        os.close(file)
    return questions


def _fork(work: Callable[..., Any], *arguments: Any, without: list[Any]) -> int:
    """A copy of this process in a group of its own that does the work and nothing else; its id."""
    parent = os.getpid()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of threads: libraries' own, which know of forks
        child = os.fork()
    if child:
        with contextlib.suppress(OSError):  # whoever is first
            os.setpgid(child, child)
        return child
    code = 1
    try:
        with contextlib.suppress(OSError):
            os.setpgid(0, 0)
        _end_with(parent)
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for end in without:
            end.close()
        importlib.invalidate_caches()
        gc.enable()
        random.seed()
        sys.modules["numpy"].random.seed()
        work(*arguments)
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 0
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def _end_with(parent: int) -> None:
    """Be killed when the parent ends, where the system can do that; a kernel looks for itself too."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def _be_kernel(folder: str, environment: dict[str, str], connection_file: str, questions: socket.socket) -> None:
    from ipykernel.kernelapp import launch_new_instance

    from backgrid import lookahead
    from backgrid.data import log_prices

    def fork_afresh(*files: int) -> None:
        socket.send_fds(questions, [b"?"], files)

    lookahead.fork_afresh = fork_afresh
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    log_prices(Path(connection_file).with_name("prices.jsonl"))
    sys.path.append(folder)  # last, so that nothing there stands before a module that is installed
    # a kernel ends when its parent does, and is no part of anyone's history
    ends = f"--IPKernelApp.parent_handle={os.getppid()}"
    launch_new_instance(argv=["-f", connection_file, ends, "--HistoryManager.hist_file=:memory:"])


def _be_fresh(sent: int, answers: int, said: int) -> None:
    """Answer what a kernel asks, as `lookahead.BOOT` does; end where it does not wait any more."""
    from backgrid import lookahead

    def end_with_kernel(line: int) -> None:
        os.read(line, 1)
        os.killpg(0, signal.SIGKILL)

    threading.Thread(target=end_with_kernel, args=[os.dup(answers)], daemon=True).start()
    for place, file in enumerate((sent, answers, said)):
        os.dup2(file, place)
        os.close(file)
    lookahead.settle(*pickle.load(sys.stdin.buffer))
    lookahead.answer_afresh()


if __name__ == "__main__":
    _stand_by(Connection(int(sys.argv[1])))
    os._exit(0)  # without taking all modules apart first: 0.2 s
