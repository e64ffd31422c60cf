"""Which combinations of parameters a sweep tries: a grid, a list or a sample; and which of them it leaves out."""

import ast
import contextlib
import datetime as dt
import functools
import inspect
import math
import operator
from collections.abc import Callable, Iterator, Mapping, Sequence, Sized
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from backgrid.errors import ParameterError, did_you_mean, shown

SPARSE = 4  # combinations of the values for each that is a point, from which on points have lines of their own
MOST = 2**53  # of the ends of a range, either way
EXACT = 2**53  # whole numbers up to here are floats too
WHOLE = 2**63  # whole numbers below are in 64 bits
OPERATORS: dict[type, Callable] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.USub: operator.neg,
    ast.UAdd: operator.pos,
    ast.And: np.logical_and,
    ast.Or: np.logical_or,
}


class Space(NamedTuple):
    """Values of each parameter, and the combinations of them: all, or those in `points` (places in `values`)."""

    names: tuple[str, ...]
    values: tuple[list[Any], ...]
    points: np.ndarray | None  # int64[n_points, n_names]

    @property
    def shape(self) -> tuple[int, ...]:
        """How many values each parameter has."""
        return tuple(len(values) for values in self.values)

    @property
    def size(self) -> int:
        """How many combinations there are."""
        return math.prod(self.shape) if self.points is None else len(self.points)

    @property
    def is_dense(self) -> bool:
        """Whether the combinations are most of all that the values have: a line for each value serves them."""
        return self.points is None or math.prod(self.shape) <= SPARSE * len(self.points)

    def codes(self, numbers: np.ndarray) -> np.ndarray:
        """Places of these combinations in `values`: int64[n_numbers, n_names]. The last name varies fastest."""
        if self.points is not None:
            return self.points[numbers]
        if not self.names:
            return np.zeros((numbers.size, 0), dtype=np.int64)
        codes, rest = np.empty((numbers.size, len(self.names)), dtype=np.int64), numbers
        for k in range(len(self.names) - 1, 0, -1):
            whole = rest // len(self.values[k])  # which NumPy does many at once, unlike divmod
            codes[:, k], rest = rest - len(self.values[k]) * whole, whole
        codes[:, 0] = rest
        return codes

    def params(self, code: Sequence[int]) -> dict[str, Any]:
        """One combination by name."""
        return {name: values[place] for name, values, place in zip(self.names, self.values, code, strict=True)}


def count_cells(grid: Any) -> int:
    """How many combinations a grid has, before its values are looked at."""
    if not isinstance(grid, Mapping):
        return len(grid) if isinstance(grid, Sized) else 0
    one = (str, bytes, np.ndarray)
    return math.prod(len(v) if isinstance(v, Sized) and not isinstance(v, one) else np.size(v) for v in grid.values())


def read_space(grid: Any) -> Space:
    """A dict of lists (all combinations) or a list of dicts (those) as a Space.

    Raises
    ------
    ParameterError
        If it is neither, a list is empty, or the dicts do not name the same parameters.
    """
    if isinstance(grid, Mapping):
        values = {name: _distinct(name, given) for name, given in grid.items()}
        return Space(tuple(values), tuple(values.values()), None)
    if not isinstance(grid, Sequence) or isinstance(grid, str) or not all(isinstance(point, Mapping) for point in grid):
        raise ParameterError(f"a grid is a dict of lists, or a list of dicts; got {shown(grid)}")
    if not grid:
        raise ParameterError("the grid is empty: give at least one combination")
    names = tuple(grid[0])
    for place, point in enumerate(grid):
        if set(point) != set(names):
            raise ParameterError(
                f"each dict of a grid names the same parameters: number 0 has {', '.join(map(str, names))}, "
                f"number {place} has {', '.join(map(str, point))}"
            )
    columns = [_distinct(name, [point[name] for point in grid], again=True) for name in names]
    places = [{_key(value): place for place, value in enumerate(column)} for column in columns]
    points = [[place[_key(point[name])] for name, place in zip(names, places, strict=True)] for point in grid]
    array = np.array(points, dtype=np.int64).reshape(len(grid), len(names))
    _, first = np.unique(array, axis=0, return_index=True) if names else (None, np.array([0]))
    return Space(names, tuple(columns), array[np.sort(first)])


def _distinct(name: Any, given: Any, *, again: bool = False) -> list[Any]:
    """The values of one parameter as plain Python values, each once."""
    if not isinstance(name, str):
        raise ParameterError(f"a grid names parameters by text, got {shown(name)}")
    if isinstance(given, (str, bytes, Mapping)) or not hasattr(given, "__iter__") or getattr(given, "ndim", 1) == 0:
        given = [given]  # one value of a grid that does not vary
    values = list(given)
    if not values:
        raise ParameterError(f"the grid has no value of {name}: give at least one")
    try:
        distinct = _each_once(values)
    except (TypeError, ValueError):  # the latter of months, which are no time span
        raise ParameterError(
            f"the values of {name} must be numbers, text or truth values, got {shown(given)}"
        ) from None
    if len(distinct) < len(values) and not again:
        raise ParameterError(f"the grid has a value of {name} twice: {shown(given)}")
    return distinct


def _each_once(values: list[Any]) -> list[Any]:
    """Values as plain Python values, the first of equals."""
    if {type(value) for value in values} <= {int, float}:  # and neither truth values nor NumPy's numbers
        return list(dict.fromkeys(values))
    distinct: dict[tuple[bool, Any], Any] = {}
    for value in values:
        distinct.setdefault(_key(value), _plain(value))
    return list(distinct.values())


def _plain(value: Any) -> Any:
    """A value of NumPy as Python's own, or pandas' where it is a time: a date in nanoseconds would become a number."""
    if isinstance(value, np.datetime64):
        return pd.Timestamp(value)
    if isinstance(value, np.timedelta64):
        return pd.Timedelta(value)
    return value.item() if isinstance(value, np.generic) else value


def _key(value: Any) -> tuple[bool, Any]:
    """1 and 1.0 are one number; True is another value."""
    value = _plain(value)
    return isinstance(value, bool), value


# ---- what is left out ------------------------------------------------------------------------------------------------


def read_where(where: Any, space: Space) -> Callable[[np.ndarray], np.ndarray]:
    """The function from numbers of combinations to whether they are to be tried.

    An expression is read as comparisons, arithmetic and `and`, `or`, `not` of names and numbers, never run as Python.

    Raises
    ------
    ParameterError
        For what cannot be read, or a name that is no parameter of the grid.
    """
    if where is None:
        return lambda numbers: np.ones(numbers.size, dtype=bool)
    if callable(where):
        return _by_function(where, space)
    if not isinstance(where, str):
        raise ParameterError(f"where must be an expression or a function, got {shown(where)}")
    try:
        tree = ast.parse(where.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise ParameterError(f"where cannot be read: {shown(where)}") from None
    columns = [_column(values) for values in space.values]

    def chosen(numbers: np.ndarray) -> np.ndarray:
        codes = space.codes(numbers)
        named = {name: column[codes[:, k]] for k, (name, column) in enumerate(zip(space.names, columns, strict=True))}
        try:
            with np.errstate(divide="raise", invalid="raise", over="raise"):
                found = np.asarray(_value(tree, named))
        except ParameterError:
            raise
        except (TypeError, ValueError, ArithmeticError, RecursionError) as error:
            raise ParameterError(f"where {shown(where)}: {error}") from None
        if found.dtype != bool:
            raise ParameterError(f"where must be true or false, and {shown(where)} is {found.dtype}")
        return np.broadcast_to(found, numbers.size)

    return chosen


def _column(values: list[Any]) -> np.ndarray | pd.Index:
    """The values of a parameter in a form that compares as they do; as they are where they are of several kinds."""
    kinds = {type(value) for value in values}
    whole = max((abs(value) for value in values if type(value) is int), default=0)
    if kinds == {bool} or (kinds == {int} and whole < WHOLE) or (kinds <= {int, float} and whole <= EXACT):
        return np.array(values)
    if all(isinstance(value, dt.date) for value in values):
        with contextlib.suppress(TypeError, ValueError):  # of several time zones
            return pd.DatetimeIndex(values)
    return np.fromiter(values, dtype=object, count=len(values))


def _by_function(where: Callable, space: Space) -> Callable[[np.ndarray], np.ndarray]:
    """A function of the parameters that it names, or of all of them."""
    try:
        parameters = inspect.signature(where).parameters.values()
    except ValueError:
        raise ParameterError("where: the function does not tell its parameters") from None
    if any(p.kind is p.POSITIONAL_ONLY for p in parameters):
        raise ParameterError("where: its function gets parameters by name, and has some before a `/`: remove that")
    takes_all = any(p.kind is p.VAR_KEYWORD for p in parameters)
    wanted = space.names if takes_all else [p.name for p in parameters if p.name in space.names or p.default is p.empty]
    for name in wanted:
        _check_name(name, space.names)

    def chosen(numbers: np.ndarray) -> np.ndarray:
        points = (space.params(code) for code in space.codes(numbers).tolist())
        return np.array([bool(where(**{name: point[name] for name in wanted})) for point in points], dtype=bool)

    return chosen


def _value(node: ast.AST, named: Mapping[str, np.ndarray]) -> Any:
    """What an expression is for every combination at once."""
    if isinstance(node, ast.Name):
        _check_name(node.id, named)
        return named[node.id]
    if isinstance(node, ast.Constant) and isinstance(node.value, (bool, int, float, str)):
        large = isinstance(node.value, int) and node.value >= WHOLE
        return np.array(node.value, dtype=object) if large else node.value
    if isinstance(node, ast.Compare) and all(type(each) in OPERATORS for each in node.ops):
        sides = [_value(side, named) for side in (node.left, *node.comparators)]
        pairs = zip(node.ops, sides[:-1], sides[1:], strict=True)
        return functools.reduce(np.logical_and, [OPERATORS[type(each)](left, right) for each, left, right in pairs])
    if isinstance(node, ast.BoolOp):
        parts = [_value(part, named) for part in node.values]
        if any(np.asarray(part).dtype != bool for part in parts):
            raise TypeError("`and` and `or` join comparisons")
        return functools.reduce(OPERATORS[type(node.op)], parts)
    if isinstance(node, ast.BinOp) and type(node.op) in OPERATORS:
        return OPERATORS[type(node.op)](*_numbers(_value(node.left, named), _value(node.right, named)))
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        return np.logical_not(_value(node.operand, named))
    if isinstance(node, ast.UnaryOp) and type(node.op) in OPERATORS:
        return OPERATORS[type(node.op)](*_numbers(_value(node.operand, named)))
    raise ValueError(
        f"it may hold names, numbers, comparisons, + - * / // % and `and` `or` `not`, not {ast.unparse(node)}"
    )


def _numbers(*sides: Any) -> list[np.ndarray]:
    """Ready to be added and multiplied: as Python's own whole numbers where 64 bits may not hold what comes out."""
    numbers = [side.astype(np.int64) if side.dtype.kind in "bi" else side for side in map(np.asarray, sides)]
    for side in numbers:
        mixed = side.dtype.kind == "O" and all(isinstance(each, (int, float)) for each in side.flat)
        if side.dtype.kind not in "if" and not mixed:
            raise TypeError("arithmetic is for numbers")
    if all(side.dtype.kind == "i" and side.size for side in numbers):
        most = [
            max(int(side.max()), -int(side.min()), 2) for side in numbers
        ]  # of 2 and more no sum is above the product
        if math.prod(most) >= WHOLE:
            return [side.astype(object) for side in numbers]
    return numbers


def _check_name(name: str, known: Any) -> None:
    if name not in known:
        raise ParameterError(f"where: the grid has no parameter {shown(name)}{did_you_mean(name, known)}")


# ---- samples ---------------------------------------------------------------------------------------------------------


def sample_grid(
    ranges: Mapping[str, Any], n_points: int, *, method: str = "quasi", seed: int = 0
) -> list[dict[str, Any]]:
    """Combinations drawn from ranges: a grid for `run_grid` where all combinations would be too many.

    Parameters
    ----------
    ranges : dict
        Parameter to (lowest, highest), both inclusive: whole numbers where both are, else floats. Or to a list of
        values to choose from.
    n_points : int
        How many to draw; fewer come back where the same is drawn twice. [combinations]
    method : {"quasi", "random"}, default "quasi"
        "quasi" fills the ranges evenly (additive recurrence), "random" draws independently.
    seed : int, default 0
        The same seed, the same combinations.

    Returns
    -------
    list of dict

    Raises
    ------
    ParameterError
        For a range that is none, or an unknown method.

    References
    ----------
    M. Roberts, "The Unreasonable Effectiveness of Quasirandom Sequences", 2018: the recurrence's step.
    """
    if method not in ("quasi", "random"):
        raise ParameterError(f"unknown method {shown(method)}{did_you_mean(str(method), ('quasi', 'random'))}")
    if not isinstance(ranges, Mapping) or not ranges:
        raise ParameterError(f"ranges must be a dict of parameter to range, got {shown(ranges)}")
    if isinstance(n_points, bool) or not isinstance(n_points, (int, np.integer)) or n_points < 1:
        raise ParameterError(f"n_points must be a whole number of at least 1, got {shown(n_points)}")
    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)) or seed < 0:
        raise ParameterError(f"seed must be a whole number of at least 0, got {shown(seed)}")
    random = np.random.default_rng(seed)
    if method == "random":
        shares = random.random((n_points, len(ranges)))
    else:
        shares = (random.random(len(ranges)) + np.outer(np.arange(1, n_points + 1), _steps(len(ranges)))) % 1.0
    columns = [list(_picked(name, span, shares[:, k])) for k, (name, span) in enumerate(ranges.items())]
    points = [dict(zip(ranges, point, strict=True)) for point in zip(*columns, strict=True)]
    return list({tuple(map(_key, point.values())): point for point in points}.values())


def _steps(n_dimensions: int) -> np.ndarray:
    """Steps of the recurrence: powers of 1 / g, where g ** (n + 1) = g + 1."""
    g = 2.0
    for _ in range(64):
        g = (1.0 + g) ** (1.0 / (n_dimensions + 1))
    return g ** -np.arange(1.0, n_dimensions + 1)


def _rises(span: tuple) -> bool:
    return -MOST <= span[0] <= span[1] <= MOST


def _picked(name: str, span: Any, shares: np.ndarray) -> Iterator[Any]:
    """A value of the range for each share in [0, 1)."""
    if isinstance(span, tuple):
        if len(span) != 2 or not all(isinstance(end, (int, float, np.number)) for end in span) or not _rises(span):
            raise ParameterError(f"{name}: a range is (lowest, highest), or a list of values; got {shown(span)}")
        whole = all(isinstance(end, (int, np.integer)) and not isinstance(end, bool) for end in span)
        low, high = span
        if whole:
            return (int(low) + int(share * (int(high) - int(low) + 1)) for share in shares)
        return (float(low + share * (high - low)) for share in shares)
    if not isinstance(span, (list, np.ndarray, range)) or not len(span):
        raise ParameterError(f"{name}: a range is (lowest, highest), or a list of values; got {shown(span)}")
    return (_plain(span[int(share * len(span))]) for share in shares)
