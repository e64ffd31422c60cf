"""Whether a strategy looks ahead: its signals up to a bar must stay the same, whatever comes after that bar.

What no test of signals can find: survivorship, prices that were revised later, a choice among strategies, and an engine
that fills a signal before it was known (the tests of the engine hold it to that).
"""

import contextlib
import dataclasses
import faulthandler
import functools
import html
import importlib
import importlib.machinery
import importlib.util
import inspect
import operator
import os
import pickle
import signal
import socket
import subprocess
import sys
import sysconfig
import tempfile
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import IO, Any, NamedTuple, TypeAlias

import numpy as np
import pandas as pd

from backgrid.bars import bar_text, check_prices, on_these_bars, with_other_columns
from backgrid.errors import BackgridError, LookaheadError, ParameterError, TooFewBarsError, counted, did_you_mean, shown
from backgrid.strategies import STRATEGIES, call_strategy, complete_params, function_name, get_strategy

RTOL, ATOL = 1e-9, 1e-12  # by which signals may differ: a mean by FFT rounds otherwise over more bars
SPREAD, EARLY, CHANGES = 10, 5, 80  # most cuts: spread over the bars, in the warm-up, just after a change of the signal
EARLY_BARS = 50  # where a warm-up is looked for that does not show, since it was filled
CLOSER = 100  # most cuts tried before the first leak seen, to find the first there is
FACTOR = 1.5  # of later prices, or the largest one, and the smallest 1 / 1.5
LIMIT = 120.0  # for the answer of a fresh process [seconds]
BOOT = (  # before pandas is imported: the paths on which the caller found its modules
    "import pickle, sys; settled = pickle.load(sys.stdin.buffer); sys.path[:] = settled[0]; "
    "from backgrid.lookahead import answer_afresh, settle; settle(*settled); answer_afresh()"
)

AGAIN = "called again"
SHORTER = "later bars left out"
TIMES = f"later prices times {FACTOR:g}"
SHAKEN = "later prices times random factors"
FIRST = "fewer bars before all of them"
FRESH = "fresh process"

SAME, LEAK, OTHER = "same signals", "look-ahead", "other signals"
NOT_POSSIBLE, FAILED, NOT_RUN = "not possible", "failed", "not run"

Answer: TypeAlias = np.ndarray | str  # signals, or what a strategy said instead of giving any


class Leak(NamedTuple):
    """The first bar whose signal was seen to depend on later bars.

    bar      its place, counted from 0
    time     its label
    test     name of the check that found it
    cut      how many bars were given, or left as they are
    until    label of the last of these
    full     its signal with all the data                              [fraction of equity, or NaN]
    without  its signal with the later bars left out, or changed       [fraction of equity, or NaN]
    """

    bar: int
    time: pd.Timestamp
    test: str
    cut: int
    until: pd.Timestamp
    full: float
    without: float


class Check(NamedTuple):
    """One of the checks: its name, what it found, at how many cuts signals were compared, and a remark."""

    name: str
    verdict: str
    n_cuts: int = 0
    remark: str = ""


@dataclasses.dataclass(frozen=True, repr=False)
class LookaheadReport:
    """What `check_lookahead` found.

    Attributes
    ----------
    title : str
        The strategy and its parameters as a call, and the symbol.
    n_bars, n_cuts : int
        Length of the data, and at how many places it was cut and signals compared.
    first_leak : Leak or None
        The first bar seen to leak, with the evidence.
    checks : tuple of Check
        Each check and its verdict: "same signals"; "look-ahead" or "other signals", which are not clean; "not possible"
        or "failed", with the reason; "not run", where another one had found enough. The last is the fresh process.
    """

    title: str
    n_bars: int
    n_cuts: int
    first_leak: Leak | None
    checks: tuple[Check, ...]

    @property
    def conclusive(self) -> bool:
        """Whether it says anything: signals were compared at some cut, or were others when asked for again."""
        return self.n_cuts > 0 or any(check.verdict in (LEAK, OTHER) for check in self.checks)

    @property
    def clean(self) -> bool:
        """Whether signals were compared, and no check found look-ahead, nor others when asked for again."""
        return self.n_cuts > 0 and not any(check.verdict in (LEAK, OTHER) for check in self.checks)

    @property
    def summary(self) -> str:
        """The verdict and its evidence, in one or two sentences."""
        if self.first_leak is not None:
            return f"{self.title} looks ahead. {_evidence(self.first_leak, self.n_bars)}"
        for check in self.checks:
            if check.verdict == OTHER:
                return f"{self.title} {check.remark}."
        if not self.conclusive:
            return f"{self.title} could not be checked: it gives no signals with fewer or changed bars."
        afresh = "" if self.checks[-1].verdict == SAME else "; it was not checked in a fresh process"
        return f"{self.title}: no look-ahead found at {counted(self.n_cuts, 'cut')} of {self.n_bars:,} bars{afresh}."

    def raise_if_leaky(self) -> None:
        """Raise LookaheadError, with the evidence, unless the strategy is clean."""
        if not self.clean:
            raise LookaheadError(self.summary)

    def __str__(self) -> str:
        return "\n".join([self.summary, *(f"  {check.name}: {_found(check)}" for check in self.checks)])

    def __repr__(self) -> str:
        verdict = "not clean" if self.conclusive else "nothing could be compared"
        verdict = f"clean at {counted(self.n_cuts, 'cut')}" if self.clean else verdict
        return f"<LookaheadReport {self.title}: {verdict}>"

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><th scope='row'>{html.escape(check.name)}</th><td>{html.escape(_found(check))}</td></tr>"
            for check in self.checks
        )
        return (
            f"<p><strong>{html.escape(self.summary)}</strong></p><div class='scroll'>"
            "<table class='plain'><thead><tr><th scope='col'>Check</th><th scope='col'>Found</th></tr></thead>"
            f"<tbody>{rows}</tbody></table></div>"
        )


def check_lookahead(
    strategy: str | Callable, prices: pd.DataFrame | pd.Series, *, params: Mapping[str, Any] | None = None
) -> LookaheadReport:
    """Whether the signals of a strategy depend on bars that come after them.

    The strategy is called twice with all bars; then with the bars after a cut left out, and with changed prices after
    it: its signals up to the cut must stay the same (to 1e-9, NaN equal to NaN). Cuts are spread over the bars, lie in
    the warm-up, and just after bars where the signal changes. Meanwhile another Python imports the strategy and calls
    it with fewer bars first, which finds what it keeps between calls; where it cannot be imported, as from a notebook,
    the report says so. On fewer bars a strategy may refuse to run.

    Parameters
    ----------
    strategy : str or function
        A registered name, or a function of the prices, as `run_backtest` takes it.
    prices : DataFrame or Series, n_bars rows
        As `run_backtest` takes them. [currency]
    params : dict, optional
        Parameters of the strategy; its defaults for the rest.

    Returns
    -------
    LookaheadReport
        With `clean`, `conclusive`, `first_leak`, `checks` and `raise_if_leaky()`.

    Raises
    ------
    ParameterError
        For an array of target positions, which cannot be asked again, and as `run_backtest`.
    PricesError
        For prices that cannot be backtested; TooFewBarsError where the strategy gives no signal.
    Exception
        Whatever the strategy raises with all bars.
    """
    with start_check(strategy, prices, params=params) as finish:
        return finish()


@contextlib.contextmanager
def start_check(
    strategy: str | Callable, prices: pd.DataFrame | pd.Series, *, params: Mapping[str, Any] | None = None
) -> Iterator[Callable[[], LookaheadReport]]:
    """`check_lookahead` in two steps: its fresh process starts now, and calling what this gives does the rest.

    For whoever has other work to do meanwhile: that process takes a second to import what it needs.
    """
    asked = _ask(strategy, prices, params)
    spread = _spread_cuts(len(asked.bars))
    plan = _fresh_plan(spread, len(asked.bars))
    with contextlib.ExitStack() as stack:
        fresh: _Fresh | _NotPossible
        try:
            fresh = _Fresh(plan, stack.enter_context(_another_process(asked, plan)))
        except _NotPossible as error:
            fresh = error
        yield functools.partial(_finish, asked, spread, fresh)


def load_strategy(text: str) -> Callable:
    """A strategy by its registered name, or as path/to/file.py:function, the file being run for it.

    Raises
    ------
    ParameterError
        For an unknown name, a missing file or function, or a file that fails.
    """
    path, _, name = text.rpartition(":")
    if text.endswith(".py"):
        raise ParameterError(f"name the function too, as in {text}:FUNCTION")
    if not path.endswith(".py"):
        return get_strategy(text)
    if not Path(path).is_file():
        raise ParameterError(f"there is no file {path}")
    try:
        module = _run_file(str(Path(path).resolve()))
    except (Exception, SystemExit) as error:
        raise ParameterError(f"{path} cannot be imported: {describe_error(error)}") from error
    function = getattr(module, name, None)
    if not callable(function):
        own = [own for own, value in vars(module).items() if inspect.isfunction(value) and not own.startswith("_")]
        raise ParameterError(f"{path} has no function {shown(name)}{did_you_mean(name, own)}")
    return function


def describe_error(error: BaseException) -> str:
    """An error that a strategy raised, in one line; of another's making, with the line of the strategy it came from."""
    said = " ".join(str(error).split())[:200]
    named = f"{type(error).__name__}: {said}" if said else type(error).__name__
    if isinstance(error, (BackgridError, SyntaxError)):
        return named
    own = [frame for frame in traceback.extract_tb(error.__traceback__) if not _is_installed(frame.filename)]
    return f"{named} ({Path(own[-1].filename).name}, line {own[-1].lineno})" if own else named


def _finish(asked: "_Asked", spread: list[int], fresh: "_Fresh | _NotPossible") -> LookaheadReport:
    """All checks, in an order in which each can rely on those before."""
    middle = spread[len(spread) // 2]
    early = asked.tried(asked.bars.iloc[:middle]) if isinstance(fresh, _NotPossible) else ""
    full = asked.signals(asked.bars)
    if np.isnan(full).all():
        name = function_name(asked.function)
        raise TooFewBarsError(f"{name} gave no signal in {len(full)} bars: give it more bars or shorter windows")
    if changed := _contradiction(asked, full):
        return _report(asked, [Check(AGAIN, OTHER, 0, changed)])
    tests = [_compare(asked, full, test, cuts) for test, cuts in _plan(full, spread)]
    if isinstance(fresh, _NotPossible):
        tests.append(_Compared(FIRST))
        tests[-1].add(asked, full, middle, middle, early)
    leak = _first_leak(asked, full, tests)
    if leak is not None and (changed := _contradiction(asked, full, leak)):
        return _report(asked, [Check(AGAIN, OTHER, 0, changed)])
    afresh = Check(FRESH, NOT_RUN)
    if isinstance(fresh, _NotPossible):
        afresh = Check(FRESH, NOT_POSSIBLE, 0, str(fresh))
    elif leak is None:
        refused = {(test.test, cut) for test in tests for cut in test.refused}
        afresh, leak = _check_afresh(asked, full, fresh, refused)
    checks = [Check(AGAIN, SAME), *(test.check() for test in tests), afresh]
    return _report(asked, checks, leak, {cut for test in tests for cut in test.cuts})


def _report(
    asked: "_Asked", checks: list[Check], leak: Leak | None = None, cuts: Iterable[int] = ()
) -> LookaheadReport:
    """The report, with the checks that were not run any more."""
    done = {check.name for check in checks}
    missing = [Check(name, NOT_RUN) for name in (SHORTER, TIMES, SHAKEN, FRESH) if name not in done]
    arguments = ", ".join(f"{name}={value}" for name, value in complete_params(asked.function, asked.params).items())
    title = f"{function_name(asked.function)}({arguments}){f' on {asked.symbol}' if asked.symbol else ''}"
    return LookaheadReport(title, len(asked.bars), len(set(cuts)), leak, (*checks, *missing))


# ---- the strategy, asked ---------------------------------------------------------------------------------------------


class _Asked(NamedTuple):
    """A strategy, and the bars and parameters it is called with."""

    function: Callable
    bars: pd.DataFrame
    params: Mapping[str, Any]
    symbol: str = ""

    def signals(self, bars: pd.DataFrame) -> np.ndarray:
        """Target positions as the strategy gives them, NaN kept; or an error, its own or ParameterError."""
        name = function_name(self.function)
        given = call_strategy(self.function, bars, complete_params(self.function, self.params))
        signals = _floats(given, name)
        if len(signals) != len(bars):
            raise _WrongLength(f"{name}: need one target position a bar, {len(bars)}, got {len(signals)}", signals)
        if isinstance(given, pd.Series) and not on_these_bars(given.index, bars.index):
            raise ParameterError(f"{name}: the index of the target positions is not that of the prices")
        return signals

    def again(self, bars: pd.DataFrame) -> np.ndarray:
        """The same without warnings: of empty means and the like, which fewer bars bring about."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return self.signals(bars)

    def tried(self, bars: pd.DataFrame) -> Answer:
        """Its signals, more of them than bars where it gave more, or why there are none."""
        try:
            return self.again(bars)
        except _WrongLength as error:
            kept = len(bars) < len(error.signals) and len(bars) < len(self.bars)  # signals of bars it was not given
            return error.signals if kept else str(error)
        except Exception as error:
            return describe_error(error)


class _WrongLength(ParameterError):
    """Signals that are not one a bar; it keeps them."""

    def __init__(self, message: str, signals: np.ndarray):
        super().__init__(message)
        self.signals = signals


def _ask(strategy: Any, prices: Any, params: Any) -> _Asked:
    """The function, and checked prices with whatever else stood in the caller's frame."""
    if not isinstance(strategy, str) and not callable(strategy):
        raise ParameterError(
            "an array of target positions cannot be checked, since it cannot be asked again: give the function that "
            f"made it, got {type(strategy).__name__}"
        )
    function = get_strategy(strategy) if isinstance(strategy, str) else strategy
    complete_params(function, params)
    bars = with_other_columns(check_prices(prices), prices)
    return _Asked(function, bars, dict(params or {}), str(prices.attrs.get("symbol", "")))


def _floats(given: Any, name: str) -> np.ndarray:
    """A fresh float array of what a strategy returned."""
    try:
        series = given if isinstance(given, pd.Series) else pd.Series(np.asarray(given))
        plain = isinstance(series.dtype, np.dtype) and series.dtype.kind in "biuf"
        return series.to_numpy(np.float64, copy=True) if plain else series.to_numpy(np.float64, na_value=np.nan)
    except (TypeError, ValueError):
        raise ParameterError(f"{name}: target positions must be numbers, one a bar, got {shown(given)}") from None


# ---- where to cut, and what to change --------------------------------------------------------------------------------


def _plan(full: np.ndarray, spread: list[int]) -> list[tuple[str, list[int]]]:
    """Each test with its cuts. Leaving bars out finds most leaks, changed prices a choice made on all the data."""
    few = sorted({*spread, *_early_cuts(full)})
    return [(SHORTER, sorted({*few, *_change_cuts(full)})), (TIMES, few), (SHAKEN, spread)]


def _spread_cuts(n_bars: int) -> list[int]:
    """Evenly over the bars, and before the last one."""
    cuts = {round(n_bars * i / (SPREAD + 1)) for i in range(1, SPREAD + 1)} | {n_bars - 1}
    return sorted(cut for cut in cuts if 1 <= cut < n_bars)


def _fresh_plan(spread: list[int], n_bars: int) -> list[tuple[str, int]]:
    """Test and cut of each question to the fresh process; at last all the bars, after others."""
    cuts = [spread[int(len(spread) * share)] for share in (0.5, 0.25, 0.75)]
    return [*((test, cut) for cut in dict.fromkeys(cuts) for test in (SHORTER, SHAKEN)), (SHORTER, n_bars)]


def _early_cuts(full: np.ndarray) -> set[int]:
    """In the warm-up, or where one may have been filled, and just after the first signal."""
    first = int((~np.isnan(full)).argmax())
    end = max(first, min(EARLY_BARS, full.size // 4), 1)
    cuts = {round(cut) for cut in np.linspace(1, end, EARLY).tolist()} | {first + 1}
    return {cut for cut in cuts if cut < full.size}


def _change_cuts(full: np.ndarray) -> set[int]:
    """Just after bars where the signal changes: one that peeks is the last bar given, without what it peeks at.

    Of many changes some evenly, and those that last the shortest: a leak on single bars is among them.
    """
    starts = np.flatnonzero(~_equal(full[1:], full[:-1])) + 1
    if starts.size > CHANGES:
        evenly = starts[np.linspace(0, starts.size - 1, CHANGES // 2).astype(int)]
        shortest = starts[np.argsort(np.diff(starts, append=full.size), kind="stable")[: CHANGES // 2]]
        starts = np.concatenate([evenly, shortest])
    return {cut for cut in (starts + 1).tolist() if cut < full.size}


def _given_at(asked: _Asked, test: str) -> Callable[[int], pd.DataFrame]:
    """What a test gives to the strategy, by cut."""
    if test == SHORTER:
        return lambda cut: asked.bars.iloc[:cut]
    return functools.partial(_with_other_future, asked.bars, test)


def _with_other_future(bars: pd.DataFrame, test: str, cut: int) -> pd.DataFrame:
    """The bars, with all that is a number after the cut multiplied; whole numbers stay whole.

    One factor is a jump that any measure of all the data feels. Random ones, others for each cut, change which of two
    parameters that are nearly alike has done better: with them, 160 of 160 choices on random walks are found.
    """
    n_later = len(bars) - cut
    factors = np.full(n_later, FACTOR)
    if test == SHAKEN:
        factors = np.random.default_rng(cut).uniform(1.0 / FACTOR, FACTOR, n_later)
    if (bars.dtypes == np.float64).all():  # as nearly always, and ten times as fast
        values = bars.to_numpy(copy=True)
        values[cut:] *= factors[:, np.newaxis]
        return pd.DataFrame(values, index=bars.index, columns=bars.columns, copy=False)
    later = bars.iloc[cut:].copy()
    for column in bars.select_dtypes("number"):
        times = later[column] * factors
        whole = pd.api.types.is_integer_dtype(later[column].dtype)
        later[column] = (times.round() if whole else times).astype(later[column].dtype)
    return pd.concat([bars.iloc[:cut], later]).set_axis(bars.index)


# ---- comparing -------------------------------------------------------------------------------------------------------


class _Compared:
    """One test: at which cuts signals were compared, where they were others, and where the strategy refused to run."""

    def __init__(self, test: str):
        self.test = test
        self.cuts: list[int] = []
        self.leaks: list[Leak] = []
        self.refused: dict[int, str] = {}

    def add(self, asked: _Asked, full: np.ndarray, cut: int, given: int, answer: Answer) -> None:
        """Compare what the strategy said at a cut, when it was given so many bars."""
        if isinstance(answer, str):
            self.refused[cut] = answer
            return
        self.cuts.append(cut)
        at = _first_difference(answer, full, cut, given)
        if at is not None:
            self.leaks.append(_leak(self.test, cut, at, full, answer, asked.bars.index))

    def check(self) -> Check:
        """The verdict."""
        found = [f"other signals at {len(self.leaks)} of them"] if self.leaks else []
        if self.refused:
            more = f"{len(self.refused)} more" if self.cuts else "all"
            found.append(f"refused at {more}, saying {next(iter(self.refused.values()))}")
        verdict = LEAK if self.leaks else SAME if self.cuts else NOT_POSSIBLE
        return Check(self.test, verdict, len(self.cuts), "; ".join(found))


def _compare(asked: _Asked, full: np.ndarray, test: str, cuts: Iterable[int]) -> _Compared:
    """Run one test at each cut."""
    compared, given = _Compared(test), _given_at(asked, test)
    for cut in cuts:
        bars = given(cut)
        compared.add(asked, full, cut, len(bars), asked.tried(bars))
    return compared


def _first_leak(asked: _Asked, full: np.ndarray, tests: Sequence[_Compared]) -> Leak | None:
    """The earliest bar of those found to leak, and of those found at some more cuts before it."""
    leaks = [leak for test in tests for leak in test.leaks]
    if not leaks:
        return None
    first = min(leaks, key=lambda leak: leak.bar)  # the first found of equals
    before = {round(cut) for cut in np.linspace(1, first.bar, CLOSER).tolist()} if first.bar else set()
    return min([first, *_compare(asked, full, SHORTER, sorted(before)).leaks], key=lambda leak: leak.bar)


def _contradiction(asked: _Asked, full: np.ndarray, leak: Leak | None = None) -> str:
    """How a strategy contradicts itself when called again with all bars, and as when it leaked; "" if it does not."""
    again = asked.again(asked.bars)
    same = _equal(again, full)
    if not same.all():
        at = int((~same).argmax())
        seen = f"{_number(full[at])}, then {_number(again[at])} on {bar_text(asked.bars.index, at)}"
        return f"gives other signals when called again with the same bars: {seen}"
    if leak is not None and leak.test != FIRST:
        answer = asked.tried(_given_at(asked, leak.test)(leak.cut))
        if isinstance(answer, str) or not _equal(answer[leak.bar :][:1], np.array([leak.without])).all():
            return "gives other signals when called again with the same bars"
    return ""


def _first_difference(signals: np.ndarray, full: np.ndarray, cut: int, given: int) -> int | None:
    """The first of `cut` bars with another signal than with all bars, or the bar after those given if that has one."""
    expected = full[:cut]
    same = _equal(signals[:cut], expected)
    if not same.all() and (signals[:cut].any() or np.nan_to_num(expected).any()):  # all 0.0 for NaN: both are flat
        return int((~same).argmax())
    return given if signals.size > given else None


def _equal(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    """np.isclose with NaN equal to NaN, in a fraction of its time."""
    with np.errstate(invalid="ignore"):  # infinity less infinity
        near = np.abs(ours - theirs) <= ATOL + RTOL * np.abs(theirs)
    return (near & np.isfinite(theirs)) | (ours == theirs) | (np.isnan(ours) & np.isnan(theirs))


def _leak(test: str, cut: int, at: int, full: np.ndarray, signals: np.ndarray, index: pd.Index) -> Leak:
    return Leak(at, index[at], test, cut, index[cut - 1], float(full[at]), float(signals[at]))


# ---- the fresh process -----------------------------------------------------------------------------------------------

_files: dict[str, str] = {}  # modules that were run from a file, and so are found by no import
_is_fresh = False  # whether this is a fresh process
fork_afresh: Callable[[int, int, int], None] | None = None  # in a kernel that was forked: how to fork another


class _NotPossible(Exception):
    """Why a strategy cannot be asked in another process."""


class _Failed(Exception):
    """What became of the other process instead of an answer."""


class _Home(NamedTuple):
    """Where a function is imported from: a module, or the file that was run for it, and its name there."""

    module: str
    file: str
    name: str


class _Fresh(NamedTuple):
    """A process at work: test and cut of each question it puts to the strategy, and how to get the answers."""

    plan: list[tuple[str, int]]
    answers: Callable[[], list[Answer]]


@contextlib.contextmanager
def _another_process(asked: _Asked, plan: list[tuple[str, int]]) -> Iterator[Callable[[], list[Answer]]]:
    """Another Python that imports the strategy, anew for each question but the last; it has ended afterwards."""
    request = _request(asked, plan)
    with tempfile.TemporaryFile() as sent, tempfile.TemporaryFile() as said:  # pipes would make someone wait
        sent.write(request)
        sent.seek(0)
        ours, theirs = socket.socketpair()
        with ours:
            with theirs:
                end = _fork_or_start(sent.fileno(), theirs.fileno(), said.fileno())
            try:
                yield functools.partial(_answers, ours, said)
            finally:
                ours.close()
                end()


def _fork_or_start(sent: int, answers: int, said: int) -> Callable[[], Any]:
    """Another process with these files as stdin, stdout and stderr; gives what ends it."""
    if fork_afresh is not None:
        with contextlib.suppress(OSError):  # where that process has died
            fork_afresh(sent, answers, said)
            return lambda: None  # it ends when nobody waits for its answers
    try:
        process = subprocess.Popen(
            [sys.executable, "-P", "-c", BOOT],
            stdin=sent,
            stdout=answers,
            stderr=said,
            env={**os.environ, "PYTHONHASHSEED": "0"},  # two of them must not differ by the order of a set
            start_new_session=True,  # what it starts ends with it
        )
    except OSError as error:
        raise _NotPossible(f"Python cannot be started: {error}") from error
    return functools.partial(_end, process)


def _end(process: subprocess.Popen) -> None:
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _request(asked: _Asked, plan: list[tuple[str, int]]) -> bytes:
    """What the other process reads."""
    home = _home_of(asked.function)
    try:
        settled = pickle.dumps((sys.path, os.getcwd(), dict(os.environ)))
        return settled + pickle.dumps((home, asked.bars, asked.params, plan, LIMIT))
    except Exception as error:  # whatever the parameters, or columns beside the prices, are made of
        raise _NotPossible(f"its prices or parameters cannot be sent there: {describe_error(error)}") from error


def _answers(line: socket.socket, said: IO[bytes]) -> list[Answer]:
    """What the other process answers, or _Failed."""
    line.settimeout(LIMIT)
    parts: list[bytes] = []
    try:
        while part := line.recv(2**20):
            parts.append(part)
    except TimeoutError:
        raise _Failed(f"no answer within {LIMIT:g} seconds") from None
    try:
        return pickle.loads(b"".join(parts))
    except (EOFError, pickle.UnpicklingError):
        said.seek(0)
        lines = said.read().decode(errors="replace").splitlines()
        last = next((line.strip() for line in reversed(lines) if line.strip()), "")
        raise _Failed(last[:200] or "it ended without an answer") from None


def settle(paths: list[str], folder: str, environment: dict[str, str]) -> None:
    """Find modules and files where the process does that asks."""
    sys.path[:] = paths
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)


def answer_afresh() -> None:
    """Be the other process: a request from stdin, the answers to stdout."""
    global _is_fresh
    _is_fresh = True
    os.dup(1)  # never closed: nobody is to read what went wrong before all of it is written
    with os.fdopen(os.dup(1), "wb") as out:
        os.dup2(2, 1)  # what a strategy prints must not mix with the answers
        home, bars, params, plan, limit = pickle.load(sys.stdin.buffer)
        faulthandler.dump_traceback_later(limit, exit=True)  # also where nobody waits any more
        known, strategies = set(sys.modules), dict(STRATEGIES)
        asked, answers = _Asked(_import(home), bars, params), []
        for place, (test, cut) in enumerate(plan):
            if 0 < place < len(plan) - 1:
                with contextlib.suppress(Exception):  # a module that cannot be imported twice is asked as it is
                    _forget(known, strategies)
                    asked = asked._replace(function=_import(home))
            answers.append(asked.tried(_given_at(asked, test)(cut)))
        pickle.dump(answers, out)


def _forget(known: set[str], strategies: dict[str, Callable]) -> None:
    """Let the user's own modules, imported since, be imported anew, with all they keep; installed ones stay."""
    for name in set(sys.modules) - known:
        file = getattr(sys.modules[name], "__file__", None)
        if file and not _is_installed(file):
            del sys.modules[name]
    STRATEGIES.clear()
    STRATEGIES.update(strategies)


def _is_installed(file: str) -> bool:
    """Whether a module is of Python or of an installed package, and not of the user's own."""
    packages = {"site-packages", "dist-packages"} & set(Path(file).parts)
    return bool(packages) or file.startswith((sysconfig.get_path("stdlib"), "<frozen"))


def _check_afresh(
    asked: _Asked, full: np.ndarray, fresh: _Fresh, refused: set[tuple[str, int]]
) -> tuple[Check, Leak | None]:
    """What the fresh process says of a strategy that is clean here; `refused` tells where it refused to run here."""
    try:
        answers = fresh.answers()
        for (test, cut), answer in zip(fresh.plan, answers, strict=True):
            if not _agrees(answer, full, test, cut, (test, cut) in refused):
                first = answer if (test, cut) == fresh.plan[0] else _answer_of(asked, test, cut)
                return _judge(asked, full, test, cut, first, _answer_of(asked, SHORTER, full.size))
    except _Failed as error:
        return Check(FRESH, FAILED, 0, str(error)), None
    given = {cut for (_, cut), answer in zip(fresh.plan, answers, strict=True) if not isinstance(answer, str)}
    return Check(FRESH, SAME, len(given)), None


def _agrees(answer: Answer, full: np.ndarray, test: str, cut: int, refused: bool) -> bool:
    """Whether an answer is that of this process, which may have been a refusal."""
    if isinstance(answer, str) or refused:
        return isinstance(answer, str) and refused
    return _first_difference(answer, full, cut, cut if test == SHORTER else full.size) is None


def _answer_of(asked: _Asked, test: str, cut: int) -> Answer:
    """What the strategy says in a process that has asked it nothing else."""
    with _another_process(asked, [(test, cut)]) as answers:
        return answers()[0]


def _judge(
    asked: _Asked, full: np.ndarray, test: str, cut: int, answer: Answer, whole: Answer
) -> tuple[Check, Leak | None]:
    """Whether fresh processes contradict each other, asked at a cut and with all bars, or both this one."""
    if isinstance(whole, str):
        return Check(FRESH, FAILED, 0, whole), None
    if isinstance(answer, str):
        said = f"fails in a fresh process, where it has not seen all the bars before, with {answer}"
        return Check(FRESH, OTHER, 0, said), None
    at = _first_difference(answer, whole, cut, cut if test == SHORTER else full.size)
    if at is not None:
        return Check(FRESH, LEAK, 1), _leak(f"{FRESH}, {test}", cut, at, whole, answer, asked.bars.index)
    same = _equal(whole, full)
    if same.all():
        said = "gives other signals once it was called with other bars: it keeps something between calls"
        return Check(FRESH, OTHER, 0, said), None
    at = int((~same).argmax())
    seen = f"{_number(full[at])} here, {_number(whole[at])} there on {bar_text(asked.bars.index, at)}"
    why = "its module, or what is set in it, may have changed since it was imported"
    return Check(FRESH, OTHER, 0, f"gives other signals in a fresh process than here ({seen}): {why}"), None


def _home_of(function: Callable) -> _Home:
    """Where another process can import the function from, or _NotPossible."""
    if _is_fresh:
        raise _NotPossible("this is a fresh process, of another check")
    module, path = getattr(function, "__module__", None) or "", getattr(function, "__qualname__", "")
    if module == "__main__":
        raise _NotPossible("for a function defined in a notebook or script (__main__); put it into a module")
    imported = sys.modules.get(module)
    for name in (path, *(own for own, value in vars(imported or object).items() if value is function)):
        with contextlib.suppress(AttributeError):
            if operator.attrgetter(name)(imported) is function:
                return _Home(module, _files.get(module, ""), name)
    what = f"a function that module {module} does not hold under its name"
    if path.endswith("<lambda>"):
        what = "a lambda"
    elif "<locals>" in path:
        what = f"a function defined in another one ({path.split('.')[0]})"
    elif not inspect.isfunction(function):
        what = f"an object ({type(function).__name__})"
    raise _NotPossible(f"for {what}; put a plain function into a module")


def _import(home: _Home) -> Callable:
    module = _run_file(home.file) if home.file else importlib.import_module(home.module)
    return operator.attrgetter(home.name)(module)


def _run_file(file: str) -> ModuleType:
    """A module from a file of any name, read from its source, with its folder on the path as if it were run."""
    name = f"strategies of {file}"
    loader = importlib.machinery.SourceFileLoader(name, file)
    module = importlib.util.module_from_spec(importlib.util.spec_from_file_location(name, file, loader=loader))  # type: ignore[arg-type]
    if (folder := str(Path(file).parent)) not in sys.path:
        sys.path.insert(0, folder)
    sys.modules[name], _files[name] = module, file
    exec(loader.source_to_code(Path(file).read_bytes(), file), vars(module))
    return module


# ---- words -----------------------------------------------------------------------------------------------------------


def _evidence(leak: Leak, n_bars: int) -> str:
    """What was seen, as a sentence."""
    bar, until = bar_text(pd.Index([leak.time]), 0), bar_text(pd.Index([leak.until]), 0)
    only = f"only the first bar, {until}" if leak.cut == 1 else f"only the first {leak.cut:,} bars, up to {until}"
    if leak.bar >= leak.cut:
        return f"It gives a signal for {bar}, {_number(leak.without)}, when it is given {only}."
    ways = {
        SHORTER: f"with {only}",
        TIMES: f"if the prices after {until} are {FACTOR:g} times as high",
        SHAKEN: f"if each price after {until} is multiplied by a random number from {1.0 / FACTOR:.2g} to {FACTOR:g}",
        FIRST: f"with {only}, before it has seen the others",
    }
    full, without = _number(leak.full), _number(leak.without)
    way = ways[leak.test.removeprefix(f"{FRESH}, ")]
    where = "in a fresh process, " if leak.test.startswith(FRESH) else ""
    return f"Its signal on {bar} is {full} with all {n_bars:,} bars, but {without} {where}{way}."


def _found(check: Check) -> str:
    """Verdict, count and remark of a check."""
    at = f" at {counted(check.n_cuts, 'cut')}" if check.n_cuts else ""
    remark = f": {check.remark}" if check.remark and check.verdict != OTHER else ""  # which the summary tells
    return f"{check.verdict}{at}{remark}"


def _number(value: float) -> str:
    return f"{value:.12g}" if value == value else "NaN"
