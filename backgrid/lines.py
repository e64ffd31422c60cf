"""Lines of a sweep: what a strategy function computes when axes stand in the place of its numbers.

A sweep calls the function once. Each of its parameters is an `Axis` with all the values that are to be tried; an
indicator of an axis is computed once a value and becomes `Lines`; what compares lines becomes a `Rule`, which the sweep
evaluates for every combination without calling Python again. The same function so serves one run and a sweep.

Lines keep one dimension for each axis of the sweep, of length 1 where they do not depend on it, and the bars last: two
of them combine as NumPy broadcasts. Whatever else is done with an axis (a branch, a loop, a NumPy function) raises: the
sweep then calls the function for each combination instead.
"""

import contextlib
import contextvars
import dataclasses
import functools
import math
import operator
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from backgrid.errors import ParameterError

ABOVE, CROSSED, AND, OR, NOT, MINUS, LATCH, FILL = range(8)  # what a rule does with its parts


GONE = object()  # in place of a value that was refused


class _Sticky(Exception):
    """What ends a trace, also where the function that is traced goes on without it."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        if (tracing := _tracing.get()) is not None:
            tracing.failed.append((type(self), args))  # and not what it refers to, which is to be let go


class NotTraceable(_Sticky, TypeError):
    """An axis or lines were used as if they were a number or a series."""


class TooManyLines(_Sticky, MemoryError):
    """The lines of all combinations at once would need more memory than the sweep may use."""


@dataclasses.dataclass
class _Tracing:
    """What is left of the memory for lines [bytes], and what went wrong."""

    room: float
    failed: list[tuple[type[Exception], tuple]] = dataclasses.field(default_factory=list)


_tracing: contextvars.ContextVar[_Tracing | None] = contextvars.ContextVar("tracing", default=None)


def _refuse(self: Any, *_: Any) -> Any:
    raise NotTraceable(f"{type(self).__name__} of a sweep has no single value")


@contextlib.contextmanager
def room_for_lines(n_bytes: float) -> Iterator[None]:
    """Within it, lines of more than this altogether raise TooManyLines before they are computed.

    That, and NotTraceable, is raised at the end once more where somebody has caught it.
    """
    token = _tracing.set(tracing := _Tracing(n_bytes))
    try:
        yield
        for kind, args in tracing.failed:
            raise kind(*args)
    finally:
        _tracing.reset(token)


def check_room(*shape: int) -> None:
    """TooManyLines if lines of this shape are more than there is room left for; takes it."""
    if (tracing := _tracing.get()) is not None:
        tracing.room -= 8 * math.prod(shape)
        if tracing.room < 0.0:
            raise TooManyLines


class _Symbol:
    """What stands for many values at once; it has none of its own, and pandas and NumPy leave arithmetic to it."""

    __pandas_priority__ = 10_000
    __array_ufunc__ = None
    __bool__ = __int__ = __float__ = __index__ = __len__ = __iter__ = __array__ = __hash__ = _refuse
    __str__ = __format__ = _refuse
    __eq__ = __ne__ = __lt__ = __le__ = __gt__ = __ge__ = _refuse

    def __array_function__(self, function: Callable, types: Any, args: tuple, kwargs: dict) -> Any:
        if function is not np.where or len(args) != 3 or not isinstance(args[0], Rule):
            _refuse(self)
        return _where(*args)


class Axis(_Symbol):
    """All values of one parameter, numbers of one type; GONE for those that were refused.

    place    which axis of the sweep, of n_axes
    refused  what the function refused so far, shared by the axes of a sweep: truth arrays with a dimension each
    """

    def __init__(self, values: Iterable[Any], place: int, n_axes: int, refused: list[np.ndarray]) -> None:
        self.values, self.place, self.n_axes, self.refused = list(values), place, n_axes, refused

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        """What its values are, for a function that asks: only then it meets the comparison that cannot be traced."""
        return next((type(value) for value in self.values if value is not GONE), float)

    def map(self, function: Callable[[Any], Any]) -> "Axis":
        """The function of each value; a ParameterError refuses the combinations with that value."""
        mapped, bad = [], np.zeros(len(self.values), dtype=bool)
        for place, value in enumerate(self.values):
            try:
                mapped.append(GONE if value is GONE else function(value))
            except ParameterError:
                mapped.append(GONE)
                bad[place] = True
        if bad.any():
            self.refused.append(self.along(bad))
        return Axis(mapped, self.place, self.n_axes, self.refused)

    @functools.cached_property
    def least_whole(self) -> float:
        """The smallest value where all are whole numbers, below all numbers where they are not."""
        return min(self.values) if all(type(value) is int for value in self.values) else -math.inf

    def along(self, values: np.ndarray) -> np.ndarray:
        """One value each, along this axis of the sweep."""
        shape = [1] * self.n_axes
        shape[self.place] = len(self.values)
        return values.reshape(shape)

    def numbers(self) -> np.ndarray:
        """The values as floats along this axis, NaN for what was refused."""
        with contextlib.suppress(TypeError, OverflowError):  # where something was refused, or has 400 digits
            return self.along(np.array(self.values, dtype=np.float64))
        return self.along(np.array([np.nan if value is GONE else _as_float(value) for value in self.values]))

    def as_lines(self) -> "Lines":
        """A level each: the value on every bar."""
        return Lines(self.numbers()[..., None])

    def __neg__(self) -> "Axis":
        return self.map(operator.neg)

    def _with(self, other: Any, function: Callable, swapped: bool) -> Any:
        if not is_symbol(other) and isinstance(other, (int, float, np.number)):
            return self.map(lambda value: function(other, value) if swapped else function(value, other))
        return self.as_lines()._with(other, function, swapped)


class Lines(_Symbol):
    """A line for every combination of the axes that it depends on: float64[one dimension an axis, n_bars]."""

    __iadd__ = __isub__ = __imul__ = __itruediv__ = _refuse  # of a Series whoever else holds it sees that

    def __init__(self, rows: np.ndarray) -> None:
        self.rows = rows

    def shift(self, periods: int = 1) -> "Lines":
        """The values so many bars later, as of a Series; NaN where there was none."""
        n_bars = self.rows.shape[-1]
        moved = np.full(self.rows.shape, np.nan)
        if periods >= 0:
            moved[..., min(periods, n_bars) :] = self.rows[..., : max(n_bars - periods, 0)]
        else:
            moved[..., : max(n_bars + periods, 0)] = self.rows[..., min(-periods, n_bars) :]
        return Lines(moved)

    def __neg__(self) -> "Lines":
        return self._with(-1, operator.mul, True)

    def __gt__(self, other: Any) -> "Rule":
        return _truth(compare(self, other))

    def __lt__(self, other: Any) -> "Rule":
        return _truth(compare(other, self))

    def __ge__(self, other: Any) -> "Rule":
        return _truth(~compare(other, self))

    def __le__(self, other: Any) -> "Rule":
        return _truth(~compare(self, other))

    def _with(self, other: Any, function: Callable, swapped: bool) -> Any:
        if isinstance(other, Rule):
            return NotImplemented
        number = not is_symbol(other) and isinstance(other, (int, float))
        theirs = other if number else as_lines(other, self.rows.ndim - 1).rows
        check_room(*np.broadcast_shapes(self.rows.shape, np.shape(theirs)))
        with np.errstate(all="ignore"):  # as pandas does
            return Lines(function(theirs, self.rows) if swapped else function(self.rows, theirs))


def _operator(function: Callable, swapped: bool) -> Callable:
    return lambda self, other: self._with(other, function, swapped)


for _name in ("add", "sub", "mul", "truediv"):
    for _kind in (Axis, Lines):
        setattr(_kind, f"__{_name}__", _operator(getattr(operator, _name), False))
        setattr(_kind, f"__r{_name}__", _operator(getattr(operator, _name), True))


class Rule(_Symbol):
    """A signal for every combination: a comparison of lines, or what other rules make together.

    signed  whether it may be -1
    final   whether & and | mean something else to it in NumPy
    """

    __iand__ = __ior__ = __isub__ = _refuse

    def __init__(self, does: int, *parts: Any, signed: bool = False, final: bool = False) -> None:
        self.does, self.parts, self.signed, self.final = does, parts, signed, final

    def __and__(self, other: Any) -> "Rule":
        other = self._like(other)
        return Rule(AND, self, other, signed=self.signed or other.signed)

    def __or__(self, other: Any) -> "Rule":
        other = self._like(other)
        return Rule(OR, self, other, signed=self.signed or other.signed)

    def __sub__(self, other: Any) -> "Rule":
        return _less(self, self._like(other))

    def __rsub__(self, other: Any) -> "Rule":
        return _less(self._like(other), self)

    __rand__, __ror__ = __and__, __or__

    def __invert__(self) -> "Rule":
        if self.signed:
            raise NotTraceable("1 less a short signal is no position")
        return Rule(NOT, self)

    def fillna(self, value: Any) -> "Rule":
        """This signal, and the other one where this one is not known."""
        value = self._like(value)
        return Rule(FILL, self, value, signed=self.signed or value.signed)

    def astype(self, dtype: Any) -> "Rule":
        """The same as numbers, which it is anyway."""
        if not self.is_truth or np.dtype(dtype).kind not in ("if" if self.signed else "biuf"):
            raise NotTraceable(f"a signal that is short, or not known on every bar, is not the same as {dtype}")
        return self

    @property
    def is_truth(self) -> bool:
        """Whether it is known on every bar, as the truth values of NumPy and pandas are."""
        if self.does == ABOVE:
            return not any(np.isnan(line.rows).any() for line in self.parts)
        if self.does == FILL:
            return any(part.is_truth for part in reversed(self.parts))
        return self.does in (AND, OR, NOT, MINUS) and all(part.is_truth for part in self.parts)

    def _like(self, other: Any) -> "Rule":
        """The other as a rule that combines with this one; & and | of NumPy's -1 go by bits, and are not ours."""
        other = other if isinstance(other, Rule) else as_rule(other, self.n_axes)
        if self.final or other.final:
            raise NotTraceable("positions of np.where with a short side combine otherwise than signals")
        return other

    @property
    def n_axes(self) -> int:
        """Axes of the sweep."""
        first = self.parts[0]
        return first.n_axes if isinstance(first, Rule) else first.rows.ndim - 1


def _less(left: Rule, right: Rule) -> Rule:
    if left.signed or right.signed:
        raise NotTraceable("the difference of short signals may be beyond fully invested")
    return Rule(MINUS, left, right, signed=True)


def _truth(rule: Rule) -> Rule:
    """A comparison by an operator: false where a line is NaN."""
    return rule.fillna(0.0)


def _where(rule: Rule, here: Any, elsewhere: Any) -> Rule:
    """What np.where gives for -1, 0, 1, and rules that are made of them."""
    if rule.signed or not rule.is_truth:
        raise NotTraceable("a signal that is short, or not known on every bar, is no truth value")
    up, down = (_pick(rule, *sides) for sides in zip(_sides(here), _sides(elsewhere), strict=True))
    if down is False:
        return as_rule(float(up), rule.n_axes) if isinstance(up, bool) else up
    return Rule(MINUS, rule._like(up), rule._like(down), signed=True, final=True)


def _sides(value: Any) -> tuple[Any, Any]:
    """Where a position is long and where it is short: two rules, or True and False for everywhere and nowhere."""
    if isinstance(value, Rule) and value.is_truth and (not value.signed or value.does == MINUS):
        return value.parts if value.signed else (value, False)
    if isinstance(value, (int, float)) and not isinstance(value, bool) and value in (-1, 0, 1):
        return bool(value == 1), bool(value == -1)
    raise NotTraceable("not a position of -1, 0 and 1")


def _pick(rule: Rule, here: Any, elsewhere: Any) -> Any:
    """The one where the rule holds, the other where it does not."""
    if here is elsewhere and isinstance(here, bool):
        return here
    first = rule if here is True else False if here is False else rule & here
    second = ~rule if elsewhere is True else False if elsewhere is False else ~rule & elsewhere
    return second if first is False else first if second is False else first | second


def is_symbol(*values: Any) -> bool:
    """Whether any of these stands for the values of a sweep."""
    return any(isinstance(value, _Symbol) for value in values)


def as_lines(values: Any, n_axes: int) -> Lines:
    """Lines as they are; an axis, a number, a Series or an array as lines."""
    if isinstance(values, Lines):
        return values
    if isinstance(values, Axis):
        return values.as_lines()
    if is_symbol(values):
        raise NotTraceable("a signal is no line")
    numbers = np.asarray(values, dtype=float)
    if numbers.ndim > 1:
        raise NotTraceable("a line has one dimension")
    return Lines(numbers.reshape((1,) * n_axes + (numbers.size,)))


def as_rule(signal: Any, n_axes: int) -> Rule:
    """A rule as it is; lines of 0, 1 and NaN as a rule."""
    if isinstance(signal, Rule):
        return signal
    line = as_lines(signal, n_axes)
    known = line.rows[~np.isnan(line.rows)]
    if not np.isin(known, (0.0, 1.0)).all():
        raise NotTraceable("not a signal of 0 and 1")
    return Rule(ABOVE, line, as_lines(0.5, n_axes))


def compare(left: Any, right: Any) -> Rule:
    """The rule that is 1 where `left` is above `right`."""
    n_axes = next(_n_axes(side) for side in (left, right) if is_symbol(side))
    return Rule(ABOVE, as_lines(left, n_axes), as_lines(right, n_axes))


def crossing(rule: Rule) -> Rule:
    """1 on the bar on which the rule turns from 0 to 1."""
    return Rule(CROSSED, rule)


def latching(entries: Any, exits: Any) -> Rule:
    """1 from an entry until an exit; at least one of the two is a rule."""
    n_axes = next(_n_axes(side) for side in (entries, exits) if is_symbol(side))
    return Rule(LATCH, as_rule(entries, n_axes), as_rule(exits, n_axes))


def _n_axes(symbol: Any) -> int:
    return symbol.rows.ndim - 1 if isinstance(symbol, Lines) else symbol.n_axes


def each(function: Callable[..., Any], *arguments: Any) -> Any:
    """The function of these arguments; where some are an `Axis` or `Lines`, of each combination of theirs, as `Lines`.

    The function gives one line of the bars; it sees the values of an axis as they are, and lines as arrays. A
    ParameterError refuses that combination.
    """
    symbols = [value for value in arguments if is_symbol(value)]
    if not symbols:
        return function(*arguments)
    axis = next((symbol for symbol in symbols if isinstance(symbol, Axis)), None)
    shapes = [(s.rows.shape[:-1] if isinstance(s, Lines) else s.along(np.zeros(len(s.values))).shape) for s in symbols]
    shape = np.broadcast_shapes(*shapes)
    known = _refused(axis, shape)
    found: list[tuple[tuple[int, ...], np.ndarray]] = []
    bad, computed = np.zeros(shape, dtype=bool), {}
    for place in np.ndindex(*shape):
        chosen = [_at(value, place) for value in arguments]
        if known[place] or any(value is GONE for value in chosen):
            continue
        key = None if any(isinstance(symbol, Lines) for symbol in symbols) else tuple(_at(a, place) for a in symbols)
        try:
            if key is None or key not in computed:
                computed[key] = np.asarray(function(*chosen), dtype=float)
            found.append((place, computed[key]))
        except ParameterError:
            bad[place] = True
        if len(found) == 1:
            check_room(*shape, found[0][1].size)
    if bad.any() and axis is None:
        raise NotTraceable("lines that refuse")
    if bad.any() and axis is not None:
        axis.refused.append(bad)
    n_bars = found[0][1].size if found else 1
    rows = np.full((*shape, n_bars), np.nan)
    for place, line in found:
        rows[place] = line
    return Lines(rows)


def _refused(axis: Axis | None, shape: tuple[int, ...]) -> np.ndarray:
    """What is refused so far by these axes alone."""
    known = np.zeros(shape, dtype=bool)
    for bad in axis.refused if axis is not None else ():
        if all(n == 1 or m == n for n, m in zip(bad.shape, shape, strict=True)):
            known |= bad
    return known


def _at(value: Any, place: tuple[int, ...]) -> Any:
    """What an argument is in one combination; GONE where it was refused."""
    if isinstance(value, Axis):
        return value.values[place[value.place]]
    if isinstance(value, Lines):
        return value.rows[tuple(p if n > 1 else 0 for p, n in zip(place, value.rows.shape[:-1], strict=True))]
    return value


def refuse_unless_below(low: Any, high: Any) -> None:
    """Refuse the combinations in which `low` is not below `high`; at least one of the two is an axis."""
    axis = low if isinstance(low, Axis) else high
    lower, upper = (side.numbers() if isinstance(side, Axis) else side for side in (low, high))
    bad = lower >= upper
    if bad.any():
        axis.refused.append(bad)


# ---- what is called for each combination -----------------------------------------------------------------------------


class _Memory(NamedTuple):
    """Indicators computed so far, of bars whose columns lie at these addresses; so many at most."""

    bars: pd.DataFrame
    names: Iterator[str]  # of columns that are not looked at yet
    columns: dict[int, np.ndarray]
    computed: dict[tuple, Any]
    most: int


_memory: contextvars.ContextVar[_Memory | None] = contextvars.ContextVar("memory", default=None)


@contextlib.contextmanager
def remembering(bars: pd.DataFrame, most: int) -> Iterator[None]:
    """Within it, an indicator of columns of these bars is computed once for the same numbers.

    most  indicators that are kept at a time
    """
    names = sorted(bars.columns, key=lambda name: name != "Close")  # mostly all that is asked for
    token = _memory.set(_Memory(bars, iter(names), {}, {}, most))
    try:
        yield
    finally:
        _memory.reset(token)


def is_remembering(bars: pd.DataFrame) -> bool:
    """Whether this is within `remembering` these bars."""
    memory = _memory.get()
    return memory is not None and memory.bars is bars


def remembered(indicator: Callable) -> Callable:
    """An indicator that a sweep need not compute twice; elsewhere it is just called."""

    @functools.wraps(indicator)
    def recall(*args: Any, **kwargs: Any) -> Any:
        memory = _memory.get()
        key, axis = _key(memory, indicator.__name__, args, kwargs) if memory else (None, None)
        if memory is None or key is None:
            return indicator(*args, **kwargs)
        if key not in memory.computed:
            n_refused = len(axis.refused) if axis is not None else 0
            found = indicator(*args, **kwargs)
            if axis is not None and len(axis.refused) > n_refused:  # which the next axis has to be told too
                return found
            if len(memory.computed) >= memory.most:
                memory.computed.clear()
            memory.computed[key] = found
        return _fresh(memory.computed[key], axis)

    return recall


def _key(memory: _Memory, name: str, args: tuple, kwargs: dict) -> tuple[tuple | None, Axis | None]:
    """What tells one call from another, and the axis in it; None where it is not of columns of these bars and numbers.

    It is asked for each combination: every microsecond counts.
    """
    parts: list[Any] = [name, *kwargs]
    axis = None
    for value in (*args, *kwargs.values()):
        kind = type(value)
        if kind is int or kind is float or issubclass(kind, (int, float, np.number)):
            parts += (kind, value)
        elif kind is Axis:
            if axis is not None or value.least_whole == -math.inf:
                return None, None
            axis = value
            parts += (Axis, *value.values)
        elif issubclass(kind, (np.ndarray, pd.Series, pd.DataFrame)) and (place := _place(memory, value)):
            parts += (kind, place)
        else:
            return None, None
    return tuple(parts), axis


def _place(memory: _Memory, values: Any) -> tuple | None:
    """Where in the memory of the bars these values lie; None where they do not, or have another index."""
    if not isinstance(values, np.ndarray) and not values.index.is_(memory.bars.index):
        return None
    if isinstance(values, pd.DataFrame):
        places = [_place(memory, values[name]) for name in values.columns]
        return None if None in places else (*values.columns, *places)
    array = values if isinstance(values, np.ndarray) else values.to_numpy()
    address = _address(array)
    while address not in memory.columns and (name := next(memory.names, None)) is not None:
        found = memory.bars[name].to_numpy()
        memory.columns[_address(found)] = found
    column = memory.columns.get(address)
    if column is None or (array.shape, array.strides, array.dtype) != (column.shape, column.strides, column.dtype):
        return None
    return (address,)


def _as_float(value: Any) -> float:
    try:
        return float(value)
    except OverflowError:  # of 400 digits
        return math.inf if value > 0 else -math.inf


def _address(array: np.ndarray) -> int:
    return array.ctypes.data


def _fresh(lines: Any, axis: Axis | None) -> Any:
    """The same once more, so that nobody changes what is remembered; along the axis that it is asked for now."""
    if isinstance(lines, tuple):
        return type(lines)(*(_fresh(each, axis) for each in lines))
    if isinstance(lines, Lines) and axis is not None:
        return Lines(lines.rows.reshape((*axis.along(np.empty(len(axis.values))).shape, -1)))
    return lines.copy()
