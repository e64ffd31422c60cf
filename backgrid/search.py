"""Searches: what is asked is read, its combinations are tried in batches, here or by an executor, and noted."""

import concurrent.futures
import contextlib
import copy
import itertools
import os
import pickle
import re
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from backgrid.bars import bar_text, check_prices, hash_bars, with_other_columns
from backgrid.engine import complete_given, run_backtest
from backgrid.errors import BackgridError, ParameterError, shown
from backgrid.fingerprint import UntoldError, fingerprint
from backgrid.ledger import record_trials
from backgrid.space import Space, count_cells, read_space, read_where
from backgrid.strategies import check_axis, function_name, get_strategy
from backgrid.trials import N_CALLED, Job, Trials

MEMORY = "1GB"
UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9}
WORK = 2**27  # bars of all combinations of a batch over lines: a second of one core, or less
SECONDS = 0.5  # what a batch of called functions is to take
FIRST = 1  # of them, before it is known how long one takes
BLOCK = 2**16  # combinations that `where` looks at together
WORKERS = 16  # of an executor that does not tell how many it has
TASKS = 4  # for each worker: so many are waiting, and so many at least is a search cut into


class Question(NamedTuple):
    """What is to be tried, on any prices."""

    strategy: Callable
    space: Space
    given: Mapping[str, Any]  # the other arguments of run_backtest
    metrics: tuple[str, ...]
    room: int  # what is left of the memory when the results are in it [bytes]
    where: Any
    chosen: Callable[[np.ndarray], np.ndarray]  # from numbers of combinations to whether `where` leaves them
    executor: concurrent.futures.Executor | None

    def on(self, prices: Any, facts: Mapping[str, Any] | None = None) -> Job:
        """What is to be tried on these prices."""
        bars = check_prices(prices)
        known = {**copy.deepcopy(prices.attrs), **(facts or {})}
        columns, asked = with_other_columns(bars, prices), (self.strategy, self.space, self.given, self.metrics)
        return Job(columns, bars.shape[1], *asked, self.room, known)


class Identity(NamedTuple):
    """What tells a search from another: hash of its prices, and of all that was asked."""

    data: str
    request: str


# ---- what is asked ---------------------------------------------------------------------------------------------------


def read_search(
    strategy: Any,
    grid: Any,
    where: Any,
    settings: Mapping[str, Any],
    metrics: tuple[str, ...],
    memory: Any,
    executor: Any,
    *,
    n_results: int,
) -> Question:
    """The arguments of a search, checked; of each combination the memory holds so many results.

    Raises
    ------
    ParameterError
        For any wrong argument, naming it; for results that have no room in the memory.
    """
    if executor is not None and not isinstance(executor, concurrent.futures.Executor):
        raise ParameterError(f"executor must be a concurrent.futures.Executor, got {shown(executor)}")
    function = get_strategy(strategy) if isinstance(strategy, str) else strategy
    if not callable(function):
        raise ParameterError("a sweep needs a strategy with parameters: a registered name, or a function")
    given, n_axes = complete_given(settings), len(grid) if isinstance(grid, Mapping) else 0
    check_room(memory, count_cells(grid) * n_results, len(metrics), n_axes)  # before its values are written out
    space = read_space(grid)
    room = check_room(memory, space.size * n_results, len(metrics), len(space.names))
    for name, values in zip(space.names, space.values, strict=True):
        check_axis(function, name, values)
    if isinstance(executor, concurrent.futures.ProcessPoolExecutor):
        _check_sendable(function)
    return Question(function, space, given, metrics, room, where, read_where(where, space), executor)


def check_room(memory: str | int | None, n: int, n_metrics: int, n_axes: int) -> int:
    """What is left of the memory when the results are in it. [bytes]"""
    asked = MEMORY if memory is None else memory
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMG]?)i?B?\s*", str(asked), re.IGNORECASE)
    if not isinstance(asked, (str, int, np.integer)) or not found:
        raise ParameterError(f"memory must be a size such as '500MB', got {shown(memory)}")
    most = int(float(found[1]) * UNITS[found[2].upper()])
    results = n * (16 * n_metrics + 12 * n_axes + 44)  # metrics twice, places and index, numbers and state
    if results > 0.75 * most:
        raise ParameterError(
            f"{n:,} combinations with {n_metrics} metrics need {results / 10**6:,.0f} MB for their results alone, and "
            f"memory is {asked}: give more of it, fewer values, or fewer metrics"
        )
    return most - results


def _check_sendable(function: Callable) -> None:
    """ParameterError for a function that does not reach another process."""
    try:
        pickle.dumps(function)
    except Exception as error:  # of whatever the function holds
        raise _unsendable(function, error) from error


def _unsendable(function: Callable, error: BaseException) -> ParameterError:
    return ParameterError(
        f"strategy {function_name(function)} cannot be sent to another process ({error}): define it with `def` at the "
        "top of a module and import it from there, or use an executor of threads"
    )


# ---- how it is tried -------------------------------------------------------------------------------------------------


def try_all(
    trials: Trials,
    left: Callable[[np.ndarray], np.ndarray],
    work: Callable[[Trials, np.ndarray], Any],
    executor: concurrent.futures.Executor | None,
) -> Iterator[tuple[np.ndarray, Any]]:
    """Batches of combinations with what the work made of them, as they are finished; a bar where someone looks on.

    Parameters
    ----------
    trials : Trials
        Of the job to do.
    left : function
        From numbers of combinations to those of them that are to be tried.
    work : function
        Of the trials and some numbers; with an executor it is called in a worker, on trials made there.
    executor : concurrent.futures.Executor or None
        Where; in this process, one batch after the other, if None. Only then do batches come in order.
    """
    pace, n_tasks = _Pace(trials), 1 if executor is None else TASKS * getattr(executor, "_max_workers", WORKERS)
    with _progress(trials.job.space.size) as count:
        batches = _batches(trials.job.space.size, left, pace, n_tasks, count)
        here = ((numbers, _timed(work, trials, numbers)) for numbers in batches)
        done = here if executor is None else _elsewhere(trials.job, batches, work, executor, n_tasks)
        for numbers, (found, seconds) in done:
            pace.took(numbers.size, seconds)
            yield numbers, found
            count(numbers.size)


class _Pace:
    """How many combinations make a batch: what an interrupt may lose."""

    def __init__(self, trials: Trials) -> None:
        self.trials, self.n_called = trials, FIRST

    @property
    def size(self) -> int:
        over_lines = self.trials.fused and self.trials.traceable
        return max(WORK // len(self.trials.job.bars), 1) if over_lines else self.n_called

    def took(self, n: int, seconds: float) -> None:
        """Called functions: as many as their time allows, found by going up in steps."""
        allowed = n * SECONDS / max(seconds, 1e-9)
        self.n_called = max(int(min(allowed, 4 * max(n, self.n_called), N_CALLED)), 1)


def _batches(
    n: int, left: Callable[[np.ndarray], np.ndarray], pace: _Pace, n_tasks: int, count: Callable[[int], Any]
) -> Iterator[np.ndarray]:
    """Numbers of the combinations to be tried, in batches."""
    for start in range(0, n, BLOCK):
        block = np.arange(start, min(start + BLOCK, n))
        rest = left(block)
        count(block.size - rest.size)
        most = max(-(-rest.size // n_tasks), 1)
        while rest.size:
            size = min(pace.size, most)
            yield rest[:size]
            rest = rest[size:]


def _elsewhere(
    job: Job,
    batches: Iterator[np.ndarray],
    work: Callable[[Trials, np.ndarray], Any],
    executor: concurrent.futures.Executor,
    n_tasks: int,
) -> Iterator[tuple[np.ndarray, tuple[Any, float]]]:
    """The batches as an executor finishes them; a few wait there at a time, as each has all prices with it."""
    token, job = uuid.uuid4().hex, job._replace(facts={})
    waiting: dict[concurrent.futures.Future, np.ndarray] = {}
    try:
        while True:
            for numbers in itertools.islice(batches, n_tasks - len(waiting)):
                waiting[executor.submit(_in_worker, token, job, work, numbers)] = numbers
            if not waiting:
                return
            done, _ = concurrent.futures.wait(waiting, return_when=concurrent.futures.FIRST_COMPLETED)
            for future in [future for future in waiting if future in done]:
                yield waiting.pop(future), future.result()
    except pickle.PicklingError as error:
        raise _unsendable(job.strategy, error) from error
    except concurrent.futures.BrokenExecutor as error:
        if job.strategy.__module__ != "__main__":
            raise
        raise _unsendable(job.strategy, error) from error
    finally:
        for future in waiting:
            future.cancel()
        _forget(token)


_built: tuple[str, Trials] | None = None  # of a worker, for the next task of the same search


def _in_worker(token: str, job: Job, work: Callable, numbers: np.ndarray) -> tuple[Any, float]:
    global _built
    built = _built
    if built is None or built[0] != token:
        _built = built = token, Trials(job)
    return _timed(work, built[1], numbers)


def _forget(token: str) -> None:
    """Let go what workers in threads of this process have built."""
    global _built
    if _built is not None and _built[0] == token:
        _built = None


def _timed(work: Callable, trials: Trials, numbers: np.ndarray) -> tuple[Any, float]:
    start = time.perf_counter()
    return work(trials, numbers), time.perf_counter() - start


@contextlib.contextmanager
def _progress(total: int) -> Iterator[Callable[[int], Any]]:
    """What counts those that are done, on a bar where a person sees it: in a terminal, or in an opened notebook."""
    if sys.stderr.isatty() or "JPY_SESSION_NAME" in os.environ:
        from tqdm.auto import tqdm

        with tqdm(total=total, unit="run", unit_scale=True, delay=1.0, leave=False) as bar:
            yield bar.update
    else:
        yield lambda n: None


def n_threads() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def why_none(job: Job, refused: int | None) -> str:
    """Why there is no trial: the reason for the first combination that was refused, None where none was tried."""
    if refused is None:
        return f"where leaves out all {job.space.size:,} combinations"
    params = job.space.params(job.space.codes(np.array([refused]))[0])
    try:
        run_backtest(job.bars, job.strategy, params=params, **job.given)
    except BackgridError as error:
        return f"every combination is refused; the first says: {error}"
    return f"every combination of {len(job.bars):,} bars from {bar_text(job.bars.index, 0)} on is refused"


# ---- what is noted ---------------------------------------------------------------------------------------------------


def identify(job: Job, where: Any, *more: Any, must: bool = False) -> Identity:
    """The identity of a search, found before it begins: a strategy may change what it holds.

    Raises
    ------
    ParameterError
        Where it `must` be told from another, and something in it cannot. If it need not be, it is like no other.
    """
    data = hash_bars(job.prices)
    try:
        return Identity(data, fingerprint(job, data, where, *more))
    except UntoldError as error:
        if must:
            raise ParameterError(
                f"checkpoint: cannot tell sweeps of {function_name(job.strategy)} apart, as {error}: leave the "
                "checkpoint out, or make that inside of the function"
            ) from error
        return Identity(data, f"like no other, {uuid.uuid4().hex}")  # to count too many trials is safe


def note(
    identity: Identity, job: Job, where: Any, settings: Mapping[str, Any], n_trials: int, kind: str, **how: Any
) -> None:
    """Write into the ledger what was tried: to be read, and the identity of all of it."""
    values = {name: [*map(repr, values)] for name, values in zip(job.space.names, job.space.values, strict=True)}
    named = where if where is None or isinstance(where, str) else function_name(where)
    record_trials(
        data=identity.data,
        strategy=function_name(job.strategy),
        request={"values": values, "where": named, "settings": settings, **how, "identity": identity.request},
        n_trials=n_trials,
        kind=kind,
        symbol=symbol_of(job),
    )


def symbol_of(job: Job) -> str:
    """What is traded; empty where the prices do not say."""
    return str(job.facts.get("symbol", ""))
