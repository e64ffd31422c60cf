"""The trials of a sweep: what any combination of parameters does, many at once, in the memory that is given.

A strategy that compares lines is called once, with axes (`lines`), and its combinations are evaluated by `_sweep`. Any
other function is called for each combination, and its target positions are simulated bar by bar. Both ways every number
is that of `run_backtest` with the same parameters.
"""

import concurrent.futures
import contextlib
import functools
import itertools
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from backgrid import _sweep
from backgrid._masks import Table, table_of
from backgrid._sweep import AGAIN, CORE, DONE, FEW, REFUSED
from backgrid.engine import Asked, check_settings, checked_target, market_of, only_where_sized, run_asked
from backgrid.errors import ParameterError, PricesError, TooFewBarsError, shown
from backgrid.lines import (
    ABOVE,
    Axis,
    Lines,
    NotTraceable,
    Rule,
    TooManyLines,
    as_rule,
    is_remembering,
    remembering,
    room_for_lines,
)
from backgrid.metrics import cash_return, returns_of
from backgrid.space import Space
from backgrid.strategies import BUILT_IN, call_strategy, complete_params, function_name, own_params, strategy_defaults
from backgrid.terms import STOPS, kernel_terms

BLOCKS_FROM = 2**14  # bars from which on a table of all of them outgrows the cache
BYTES = 13  # of a value of a line, with what a Table has beside it
N_CHECKED = 32  # combinations of a function of the user's that are held to plain calls
PARTS = 4  # of a sweep for each thread
N_CALLED = 256  # combinations that are called before they are simulated

Evaluated = tuple[np.ndarray, np.ndarray]

# glibc gives freed memory back, and a sweep pays for every page anew, until it has seen a block of this size go.
np.empty(31 * 2**20, dtype=np.uint8)


class Job(NamedTuple):
    """What is to be tried; it can be pickled where the function can."""

    bars: pd.DataFrame  # with whatever other columns the strategy may use
    n_columns: int  # of prices, which come first
    strategy: Callable
    space: Space
    given: Mapping[str, Any]  # the other arguments of run_backtest
    metrics: tuple[str, ...]
    room: int  # bytes for lines, and for what is called
    facts: Mapping[str, Any] = {}  # what the prices say of themselves
    why_called: str = ""  # why the function is to be called for each combination from the start

    @property
    def prices(self) -> pd.DataFrame:
        """The bars without other columns."""
        return self.bars if self.bars.shape[1] == self.n_columns else self.bars.iloc[:, : self.n_columns]


class Traced(NamedTuple):
    """A strategy as lines, and what it does with them: the arguments of `_masks.evaluate`."""

    program: np.ndarray
    lines: Table
    bases: np.ndarray  # int64[n_columns]: first line of each column of the program
    strides: np.ndarray  # int64[n_columns, n_axes]: lines from one value of an axis to the next
    refused: list[np.ndarray]

    @property
    def nbytes(self) -> int:
        """Memory of its lines."""
        return sum(part.nbytes for part in self.lines)

    def rows(self, codes: np.ndarray) -> np.ndarray:
        """Lines of these combinations: `bases + codes @ strides.T`, which takes NumPy three times as long."""
        found = np.empty((len(codes), self.bases.size), dtype=np.int64)
        for k, (base, strides) in enumerate(zip(self.bases, self.strides, strict=True)):
            found[:, k] = base
            for axis in np.flatnonzero(strides):
                found[:, k] += strides[axis] * codes[:, axis]
        return found

    def refuses(self, codes: np.ndarray) -> np.ndarray:
        """Whether the function refuses these combinations."""
        bad = np.zeros(len(codes), dtype=bool)
        for array in self.refused:
            bad |= array[tuple(codes[:, k] if n > 1 else 0 for k, n in enumerate(array.shape))]
        return bad


class Trials:
    """The combinations of one job, ready to be evaluated."""

    def __init__(self, job: Job, n_threads: int = 1) -> None:
        self.job, self.n_threads = job, n_threads
        self.settings = check_settings(job.prices, job.given)
        self.market = market_of(job.prices, job.given, self.settings)
        self.terms = kernel_terms(self.settings)
        self.defaults = strategy_defaults(job.strategy)
        self.account = _sweep.Account(
            0 if self.settings["fill"] == "close" else 1,
            self.terms.cash,
            self.terms.fees,
            self.terms.slippage,
            cash_return(self.settings["risk_free"], self.settings["periods_per_year"]),
            self.settings["periods_per_year"],
        )
        self.core = set(job.metrics) <= set(CORE)
        self.computed = FEW if set(job.metrics) <= set(FEW) else CORE
        self.fused = self.core and _can_fuse(self.settings, self.market.close.size)
        price_returns = returns_of(self.market.close)
        self.fused = self.fused and price_returns @ price_returns > _sweep.CALM * price_returns.size
        self.shift = _shift_of(self.market.close.size)
        if self.fused:
            close, few = self.market.close, self.computed == FEW
            fill = self.market.open if self.settings["fill"] == "next_open" else close
            deals = _sweep.deals_of(fill, close, self.account) if few and not self.shift else np.empty((0, 4))
            table = _sweep.stretches(close, self.account.cash_return, self.shift, few)
            self.fast = (_sweep.Prices(fill, close, deals), table, self.shift, self.account)
        self.traced: Traced | None = None
        self.why_called = job.why_called  # why the function is called for each combination; empty where it is not
        if not self.why_called:
            self._read_function()

    def _read_function(self) -> None:
        """Call it with axes, and find out whether it serves all combinations so."""
        job = self.job
        try:
            for name, values in zip(job.space.names, job.space.values, strict=True):
                _check_axis(name, values, job.strategy in BUILT_IN)
            if job.space.is_dense:
                with contextlib.suppress(TooManyLines):
                    if self.in_doubt:  # before many lines are computed for nothing
                        _trace(job, [values[:2] for values in job.space.values])
                    self.traced = _trace(job, job.space.values)
            if self.in_doubt:
                self._check_some()
        except NotTraceable as error:
            self._call(str(error))

    @property
    def traceable(self) -> bool:
        """Whether the function is called once, with axes, and not for each combination."""
        return not self.why_called

    def metrics(self, codes: np.ndarray) -> Evaluated:
        """State of combinations, uint8[n], DONE or REFUSED, and metrics of those that are done, float64[., n]."""
        if not self.core:
            return self._one_by_one(codes)
        evaluated = self._if_traced(codes, self._fuse) if self.fused else None
        state, values = evaluated or self._simulate(codes)
        names, known = self.job.metrics, self.computed
        return state, values if names == known else values[:, [known.index(name) for name in names]]

    def targets(self, codes: np.ndarray) -> Evaluated:
        """State of combinations, uint8[n], and target positions of those that are done, float64[., n_bars]."""
        state, targets = self._if_traced(codes, self._positions) or self._called(codes)
        return state, only_where_sized(targets, self.market.scale)

    def returns(self, codes: np.ndarray) -> Evaluated:
        """State of combinations, uint8[n], and returns of those that are done, net of costs: float64[., n_bars - 1]."""
        state, targets = self.targets(codes)
        return state, self.returns_of(targets)

    def returns_of(self, targets: np.ndarray) -> np.ndarray:
        """Returns of target positions, net of costs: float64[n, n_bars - 1] of float64[n, n_bars]."""
        returns = np.empty((len(targets), targets.shape[1] - 1))
        self._in_threads(
            lambda part: _sweep.returns_of_each(targets[part], self.market, self.terms, returns[part]), len(targets)
        )
        return returns

    # ---- over lines --------------------------------------------------------------------------------------------------

    def _if_traced(self, codes: np.ndarray, work: Callable[[Traced, np.ndarray], Evaluated]) -> Evaluated | None:
        """The work on lines; None for a function that has none, which some show with some values only."""
        if self.traceable:
            try:
                return self._over_lines(codes, work)
            except NotTraceable as error:
                self._call(str(error))
        return None

    def _over_lines(self, codes: np.ndarray, work: Callable[[Traced, np.ndarray], Evaluated]) -> Evaluated:
        """The work on lines of all combinations of the job, or of as many of these as there is room for."""
        if self.traced is not None:
            return work(self.traced, codes)
        try:
            found = self._trace(codes)
        except TooManyLines:
            if len(codes) == 1:
                raise ParameterError("memory is too small for the lines of a single combination") from None
            found = None  # and with the error goes what has been computed
        return work(*found) if found else self._in_halves(codes, work)

    def _in_halves(self, codes: np.ndarray, work: Callable[[Traced, np.ndarray], Evaluated]) -> Evaluated:
        """The work on either half of the values of the axis that has most, so that each needs fewer lines."""
        longest = int(np.argmax([np.unique(column).size for column in codes.T]))
        order = np.argsort(codes[:, longest], kind="stable")
        halves = [self._over_lines(codes[half], work) for half in np.array_split(order, 2)]
        state, values = (np.concatenate(parts) for parts in zip(*halves, strict=True))
        places = np.empty(len(codes), dtype=np.int64)
        places[order] = np.arange(len(codes))
        rows = np.cumsum(state == DONE) - 1
        return state[places], values[rows[places][state[places] == DONE]]

    def _trace(self, codes: np.ndarray) -> tuple[Traced, np.ndarray]:
        """Lines of these combinations only, and their codes among these."""
        known = self.job.space.values
        if self.job.space.is_dense:
            found = [np.unique(column, return_inverse=True) for column in codes.T]
            values = [[of[place] for place in places] for of, (places, _) in zip(known, found, strict=True)]
            local = np.array([inverse for _, inverse in found], dtype=np.int64).reshape(codes.shape[::-1]).T
        else:
            values = [[of[place] for place in column] for of, column in zip(known, codes.T, strict=True)]
            local = np.arange(len(codes))[:, None]
        return _trace(self.job, values, together=not self.job.space.is_dense), local

    def _fuse(self, traced: Traced, codes: np.ndarray) -> Evaluated:
        allowed = np.flatnonzero(~traced.refuses(codes))
        rows, told = traced.rows(codes.take(allowed, axis=0)), np.empty(allowed.size, dtype=np.uint8)
        values = np.empty((allowed.size, len(self.computed)))

        def sweep(part: slice) -> None:
            _sweep.sweep(traced.program, rows[part], traced.lines, *self.fast, values[part], told[part])

        self._in_threads(sweep, allowed.size)
        if (told != DONE).any():
            again = np.flatnonzero(told == AGAIN)
            for places in self._chunks(again):
                _, targets = self._positions(traced, codes[allowed[places]])
                values[places] = self._bar_by_bar(targets)
            told[again] = DONE
            values = values[told == DONE]
        return self._spread(allowed, told, len(codes)), values

    def _positions(self, traced: Traced, codes: np.ndarray) -> Evaluated:
        allowed = np.flatnonzero(~traced.refuses(codes))
        rows, told = traced.rows(codes.take(allowed, axis=0)), np.empty(allowed.size, dtype=np.uint8)
        targets = np.empty((allowed.size, self.market.close.size))

        def find(part: slice) -> None:
            _sweep.positions_of(traced.program, rows[part], traced.lines, targets[part], told[part])

        self._in_threads(find, allowed.size)
        return self._spread(allowed, told, len(codes)), targets[told == DONE]

    def _spread(self, allowed: np.ndarray, told: np.ndarray, n: int) -> np.ndarray:
        """The state of all combinations from that of those which the function allows."""
        state = np.full(n, REFUSED, dtype=np.uint8)
        state[allowed] = told
        return state

    @property
    def in_doubt(self) -> bool:
        """Whether a function of the user's is taken for lines: to be held to what it gives when it is called."""
        return self.traceable and self.job.strategy not in BUILT_IN

    def confirm(self, codes: np.ndarray) -> bool:
        """Whether these winners are what they are when the function is called; if not, it is called from now on."""
        try:
            if not len(codes) or self._agrees(codes):
                return True
        except NotTraceable as error:  # known to the workers that tried them, and called it
            self._call(str(error))
            return True
        self._call("it gives its winner other target positions when it is called")
        return False

    def _call(self, why: str) -> None:
        """Call the function for each combination from now on, here and in workers."""
        self.why_called, self.traced, self.job = why, None, self.job._replace(why_called=why)

    def _agrees(self, codes: np.ndarray) -> bool:
        """Whether the function gives the same over lines as it gives when it is called with each of these."""
        parts = ((self._over_lines(part, self._positions), self._called(part)) for part in self._chunks(codes))
        return all(all(map(np.array_equal, *both)) for both in parts)

    def _check_some(self) -> None:
        """NotTraceable for a function of the user's that gives something else when it is called."""
        numbers = np.unique(np.linspace(0, self.job.space.size - 1, N_CHECKED).astype(np.int64))
        try:
            same = self._agrees(self.job.space.codes(numbers))
        except Exception as error:  # whatever a function does that is called as itself, it will do again, to be seen
            raise NotTraceable(_reason(error)) from error
        if not same:
            raise NotTraceable("it gives other target positions when it is called")

    # ---- combination by combination ----------------------------------------------------------------------------------

    def _simulate(self, codes: np.ndarray) -> Evaluated:
        states, values = [], []
        for part in self._chunks(codes):
            state, targets = self.targets(part)
            states.append(state)
            values.append(self._metrics_of(targets))
        return np.concatenate(states), np.concatenate(values)

    def _metrics_of(self, targets: np.ndarray) -> np.ndarray:
        if not self.fused:
            return self._bar_by_bar(targets)
        values, told = np.empty((len(targets), len(self.computed))), np.empty(len(targets), dtype=np.uint8)
        self._in_threads(
            lambda part: _sweep.sweep_positions(targets[part], *self.fast, values[part], told[part]), len(targets)
        )
        again = told == AGAIN
        values[again] = self._bar_by_bar(targets[again])
        return values

    def _bar_by_bar(self, targets: np.ndarray) -> np.ndarray:
        values = np.empty((len(targets), len(self.computed)))
        self._in_threads(
            lambda part: _sweep.simulate_each(targets[part], self.market, self.terms, self.account, values[part]),
            len(targets),
        )
        if not np.isfinite(values[:, self.computed.index("total_return")]).all():
            raise PricesError("the account left the range of floats: prices or cash are too large or too small")
        return values

    def _called(self, codes: np.ndarray) -> Evaluated:
        """Target positions as the function gives them."""
        state, n = np.full(len(codes), REFUSED, dtype=np.uint8), 0
        targets = np.empty((len(codes), self.market.close.size))
        with self.remembering():
            for place, code in enumerate(codes.tolist()):
                target = self._target(self.job.space.params(code))
                if target is not None:
                    state[place], targets[n], n = DONE, target, n + 1
        return state, targets[:n]

    def remembering(self) -> contextlib.AbstractContextManager[None]:
        """Within it, what is called computes an indicator once, in all batches."""
        if is_remembering(self.job.bars):
            return contextlib.nullcontext()
        return remembering(self.job.bars, max(self.job.room // (64 * self.market.close.size), 1))

    def _target(self, params: Mapping[str, Any]) -> np.ndarray | None:
        """Target positions of one combination; None where the function refuses it, or gives no signal."""
        job, most = self.job, max(self.settings["leverage"], 1.0)
        complete = own_params({**self.defaults, **params})
        try:
            signals = call_strategy(job.strategy, job.bars, complete)
        except (ParameterError, TooFewBarsError):
            return None
        try:
            return checked_target(signals, job.bars.index, function_name(job.strategy), most, complete)
        except TooFewBarsError:
            return None
        except ParameterError as error:
            raise ParameterError(
                f"{error} ({', '.join(f'{key}={shown(value)}' for key, value in params.items())})"
            ) from error

    def _one_by_one(self, codes: np.ndarray) -> Evaluated:
        """Any metric, as `run_backtest` computes it."""
        states, values, name = [], [], function_name(self.job.strategy)
        for part in self._chunks(codes):
            state, targets = self.targets(part)
            states.append(state)
            for target in targets:
                asked = Asked(name, {}, target)
                metrics = run_asked(self.job.prices, {}, asked, self.job.given, self.settings).metrics
                values.append([metrics[wanted] for wanted in self.job.metrics])
        return np.concatenate(states), np.array(values, dtype=float).reshape(len(values), len(self.job.metrics))

    # ---- how it is divided -------------------------------------------------------------------------------------------

    def _chunks(self, codes: np.ndarray) -> Iterator[np.ndarray]:
        """As many combinations at a time as have room for their target positions, in a few copies."""
        most = max(min(N_CALLED, self.job.room // (32 * self.market.close.size)), 1)
        return (codes[start : start + most] for start in range(0, len(codes), most))

    def _in_threads(self, work: Callable[[slice], Any], n: int) -> None:
        """The work on 0..n in parts, of which the last are the smallest, so that all threads end together."""
        n_parts = PARTS * self.n_threads if self.n_threads > 1 else 1
        ends = sorted({n - n * k * k // n_parts**2 for k in range(n_parts + 1)})
        parts = iter([slice(*each) for each in itertools.pairwise(ends)])

        def do_parts() -> None:
            for part in parts:  # whoever is free takes the next
                work(part)

        if len(ends) <= 2:
            do_parts()
            return
        others = [_helpers(self.n_threads - 1).submit(do_parts) for _ in range(self.n_threads - 1)]
        try:
            do_parts()
        finally:  # nobody begins another part, or writes into what the caller has
            list(parts)
            errors = [other.exception() for other in others]
        for error in errors:
            if error is not None:
                raise error


@functools.cache
def _helpers(n: int) -> concurrent.futures.ThreadPoolExecutor:
    """Threads that stay, since to start and to end them takes as long as a tenth of a sweep."""
    return concurrent.futures.ThreadPoolExecutor(n, "sweep")


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_helpers.cache_clear)  # which has none of them


def _shift_of(n_bars: int) -> int:
    """A table of stretches has blocks of 2**shift bars: a bar each, or as many as keep it small."""
    return 0 if n_bars < BLOCKS_FROM else max((n_bars >> 15).bit_length(), 3)


def _can_fuse(settings: Mapping[str, Any], n_bars: int) -> bool:
    """Whether the account is all in, all out or all short between two changes of the target, and pays by value only."""
    plain = {"sizing": "fraction", "size": 1.0, "rebalance": None, "fixed_fee": 0.0, "whole_units": False}
    free = {"cash_rate": 0.0, "borrow_rate": 0.0, **dict.fromkeys(STOPS)}
    usual = all(settings[name] == value for name, value in {**plain, **free}.items())
    return usual and settings["leverage"] >= 1.0 and n_bars > 2


# ---- from a function to lines ----------------------------------------------------------------------------------------


def _reason(error: Exception) -> str:
    said = " ".join(str(error).split())[:200]
    return said if isinstance(error, NotTraceable) else f"with axes in place of numbers, {type(error).__name__}: {said}"


def _check_axis(name: str, values: list[Any], known: bool) -> None:
    """NotTraceable unless these are numbers, of one type if the function is not known."""
    kinds = {type(value) for value in values}
    if not kinds <= {int, float} or not (known or len(kinds) == 1):
        raise NotTraceable(f"{name} is not all whole numbers or all floats")


def _trace(job: Job, values: Sequence[list[Any]], *, together: bool = False) -> Traced:
    """The function called with axes of these values.

    Each axis has a dimension of its own; `together` gives them one: the first values of all, the second ones ...

    Raises
    ------
    NotTraceable
        Where it does more with them than to compare lines.
    TooManyLines
        Where there is no room for the lines.
    """
    refused: list[np.ndarray] = []
    n_axes = 1 if together else len(values)
    axes = [Axis(given, 0 if together else place, n_axes, refused) for place, given in enumerate(values)]
    try:
        complete = {**complete_params(job.strategy, {}), **dict(zip(job.space.names, axes, strict=True))}
        with remembering(job.bars, N_CALLED), room_for_lines(job.room / 2):
            rule = as_rule(call_strategy(job.strategy, job.bars, complete), n_axes)
            return _compiled(rule, len(job.bars), refused, job.room)
    except TooManyLines:
        raise
    except Exception as error:  # a function that is not made for axes fails in its own way
        raise NotTraceable(_reason(error)) from error


def _compiled(rule: Rule, n_bars: int, refused: list[np.ndarray], room: int) -> Traced:
    """The rule as a program on a stack, its lines below each other."""
    program: list[tuple[int, int]] = []
    columns: list[Lines] = []
    _visit(rule, program, columns)
    tables = {_place(lines): lines.rows for lines in columns}
    if BYTES * n_bars * sum(rows[..., 0].size for rows in tables.values()) > room / 2:
        raise TooManyLines
    stacked = [np.broadcast_to(rows, (*rows.shape[:-1], n_bars)).reshape(-1, n_bars) for rows in tables.values()]
    first = dict(zip(tables, np.cumsum([0, *map(len, stacked)]), strict=False))
    lines = np.ascontiguousarray(np.concatenate(stacked) if len(stacked) > 1 else stacked[0])
    return Traced(
        np.array(program, dtype=np.int64),
        table_of(lines),
        np.array([first[_place(column)] for column in columns], dtype=np.int64),
        np.array([_strides(column.rows.shape[:-1]) for column in columns], dtype=np.int64).reshape(len(columns), -1),
        refused,
    )


def _place(lines: Lines) -> tuple[int, ...]:
    """Where in memory lines lie, whichever axes they are along."""
    return lines.rows.ctypes.data, lines.rows.size, lines.rows.shape[-1], lines.rows.strides[-1]


def _visit(node: Rule, program: list[tuple[int, int]], columns: list[Lines]) -> None:
    """Write the steps of a rule, its parts before itself."""
    if node.does == ABOVE:
        program.append((ABOVE, len(columns)))
        columns.extend(node.parts)
        return
    for part in node.parts:
        _visit(part, program, columns)
    program.append((node.does, 0))


def _strides(shape: tuple[int, ...]) -> list[int]:
    """Lines from one value of each axis to the next, 0 for an axis that does not matter."""
    strides, step = [], 1
    for n in reversed(shape):
        strides.append(step if n > 1 else 0)
        step *= n
    return strides[::-1]
