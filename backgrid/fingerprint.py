"""What tells one search from another: a hash of what was asked, down to the code of the strategy and what it uses."""

import contextlib
import copyreg
import dis
import functools
import hashlib
import importlib
import importlib.metadata
import sys
import types
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from backgrid.engine import check_settings
from backgrid.terms import stops_of
from backgrid.trials import Job

PLAIN = (int, float, str, bytes, bool, complex, type(None), type(...))  # whose repr is all of them
INSTALLED = {"site-packages", "dist-packages"}
STANDARD = Path(contextlib.__file__).parent  # Python's own library
PARTS: dict[type, tuple[str, ...]] = {  # of what no pickle tells the content
    types.FunctionType: ("__code__", "__defaults__", "__kwdefaults__", "__closure__", "__dict__"),
    types.CodeType: (
        *("co_code", "co_exceptiontable", "co_flags", "co_argcount", "co_kwonlyargcount", "co_consts"),
        *("co_names", "co_varnames", "co_freevars", "co_cellvars"),
    ),
    types.CellType: ("cell_contents",),
    staticmethod: ("__func__",),
    classmethod: ("__func__",),
    property: ("fget", "fset", "fdel"),
    functools.cached_property: ("func",),
    functools._lru_cache_wrapper: ("__wrapped__",),
}
SLOTS = (types.MemberDescriptorType, types.GetSetDescriptorType)
OF_NO_MATTER = {  # in a class: what only describes it, or is made anew in each process
    *("__doc__", "__module__", "__annotations__", "__annotate__", "__annotate_func__", "__annotations_cache__"),
    *("__firstlineno__", "__static_attributes__", "__dataclass_fields__", "__dataclass_params__", "__match_args__"),
    *("__abstractmethods__", "_abc_impl", "__parameters__", "__orig_bases__"),
}


class UntoldError(Exception):
    """Something whose content cannot be read, such as a lock or an open file."""


def fingerprint(job: Job, data: str, where: Any, *more: Any) -> str:
    """SHA-256 of a search; the same in another process, where its source is the same.

    Equal for equal prices (`data` is their hash), other columns, strategy, values or points, settings, numbers by bar,
    `where`, and whatever more tells it apart. A function is what it does: its code and that of what it calls, what it
    closes over, and the globals that it names. Of an installed package the version stands for all that is in it; of a
    module of the user's own, its source and the attributes that are named. What only happens to be found in other ways,
    such as a file that the strategy reads, is not seen.

    Raises
    ------
    ParameterError
        For settings that no run takes.
    UntoldError
        Where there is something that cannot be told from another of its kind.
    """
    settings, stops = check_settings(job.prices, job.given), stops_of(job.given, job.prices)
    others = None if job.prices is job.bars else job.bars.iloc[:, job.n_columns :]
    asked = (data, others, job.strategy, tuple(job.space), settings, stops, job.given["benchmark"], where, more)
    try:
        return _Teller().told(asked)
    except UntoldError:
        raise
    except Exception as error:  # whatever an object does that is asked for its content
        raise UntoldError(f"its content cannot be read: {type(error).__name__}: {error}") from error


class _Teller:
    """Turns values into texts that are equal where the values are, wherever they are."""

    def __init__(self) -> None:
        self.seen: dict[int, tuple[Any, str]] = {}  # by place in memory: the value, to keep it there, and its text
        self.depth = 0

    def told(self, value: Any) -> str:
        """Itself, or the hash of its parts; what is part of itself is told by where it stands."""
        if type(value) in PLAIN:
            return repr(value)
        if id(value) not in self.seen:
            self.seen[id(value)] = value, f"what it is part of, at depth {self.depth}"
            self.depth += 1
            parts = type(value).__name__, *self._parts(value)
            self.depth -= 1
            self.seen[id(value)] = value, hashlib.sha256(repr(parts).encode(errors="surrogatepass")).hexdigest()
        return self.seen[id(value)][1]

    def _all(self, values: Iterable[Any]) -> list[str]:
        return [self.told(value) for value in values]

    def _parts(self, value: Any) -> Iterator[Any]:
        """What makes up a value, as texts and numbers."""
        if name := _installed_name(value):
            yield name
        elif type(value) in (list, tuple):
            plain = all(type(each) in PLAIN for each in value)
            yield repr(value) if plain else self._all(value)
        elif type(value) in (dict, types.MappingProxyType):
            yield self._all((*value.keys(), *value.values()))
        elif isinstance(value, (set, frozenset)):
            yield self.told(type(value)), sorted(self._all(value))
        elif type(value) is np.ndarray:
            yield repr(value.dtype), value.shape
            yield self._all(value.ravel().tolist()) if value.dtype.hasobject else _hash(value)
        elif isinstance(value, pd.DataFrame):
            yield self._all((value.index, *(value.iloc[:, k] for k in range(value.shape[1]))))
        elif isinstance(value, (pd.Series, pd.Index)):
            yield from self._of_column(value)
        elif isinstance(value, types.ModuleType):
            yield _source(value)
        elif isinstance(value, type):
            members = {k: v for k, v in vars(value).items() if k not in OF_NO_MATTER and not isinstance(v, SLOTS)}
            yield value.__qualname__, self._all((value.__bases__, members))
        else:
            yield self._all(_content(value))
            if isinstance(value, types.FunctionType):
                yield from self._used(value)

    def _of_column(self, column: Any) -> Iterator[Any]:
        yield self.told(column.index if isinstance(column, pd.Series) else tuple(column.names))
        yield self.told(column.name), str(column.dtype), len(column)
        known = column.dtype != object and not isinstance(column, pd.MultiIndex)
        yield _hash(np.asarray(pd.util.hash_pandas_object(column, index=False))) if known else self._all(column)

    def _used(self, function: types.FunctionType) -> Iterator[Any]:
        """The globals that a function names, the modules that it imports, and what it may take from the user's own."""
        codes, known = list(_codes(function.__code__)), function.__globals__
        steps = [step for code in codes for step in dis.get_instructions(code)]
        read = [step.argval for step in steps if step.opname in ("LOAD_GLOBAL", "LOAD_NAME")]
        used = {name: known[name] for name in read if name in known}
        for level, _, step in zip(steps, steps[1:], steps[2:], strict=False):
            if step.opname == "IMPORT_NAME":
                name = "." * (level.argval or 0) + step.argval  # a dot for each package up
                used[f"import {name}"] = _import(name, known.get("__package__"))
        yield self.told(used)
        named = dict.fromkeys(name for code in codes for name in code.co_names)
        modules = [module for module in used.values() if isinstance(module, types.ModuleType)]
        yield [self.told(each) for module in modules for each in _attributes(module, named)]


def _hash(array: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()


def _content(value: Any) -> Iterator[Any]:
    """What a thing is made of: its PARTS, or what a pickle would hold of it."""
    names = next((names for kind, names in PARTS.items() if isinstance(value, kind)), ())
    if not names and isinstance(getattr(value, "py_func", None), types.FunctionType):  # compiled by numba
        names = ("py_func",)
    for name in names:
        with contextlib.suppress(ValueError):  # of a cell that is empty
            yield getattr(value, name)
    if not names:
        yield from _pickled(value)


def _pickled(value: Any) -> tuple[Any, ...]:
    reduce = copyreg.dispatch_table.get(type(value))
    try:
        state = reduce(value) if reduce else value.__reduce_ex__(4)
    except TypeError as error:
        raise UntoldError(f"a {type(value).__qualname__} has no content to compare") from error
    if isinstance(state, str):  # a name, as which it is known
        return (state,)
    maker, arguments, *rest = state
    held, items, pairs = (*rest, None, None, None)[:3]
    return maker, arguments, held, list(items or ()), list(pairs or ())


def _codes(code: types.CodeType) -> Iterator[types.CodeType]:
    """Code, and that of the functions within it."""
    yield code
    for inner in code.co_consts:
        if isinstance(inner, types.CodeType):
            yield from _codes(inner)


def _import(name: str, package: str | None) -> types.ModuleType | None:
    """A module that a function imports when it is called; None where there is none."""
    try:
        return importlib.import_module(name, package)
    except Exception:  # of whatever the module does: so it will be where the function is called
        return None


def _attributes(module: types.ModuleType, names: Iterable[str], within: tuple = ()) -> Iterator[Any]:
    """Of a module of the user's own, what these names are in it, and in the modules that it names so."""
    if _version(module.__name__) is None and module not in within:
        for name in names:
            if name in vars(module):
                found = vars(module)[name]
                yield name
                yield found
                if isinstance(found, types.ModuleType):
                    yield from _attributes(found, names, (*within, module))


def _source(module: types.ModuleType) -> str:
    """Hash of the file of a module; nothing where it has none."""
    try:
        return hashlib.sha256(Path(module.__file__ or "").read_bytes()).hexdigest()
    except (AttributeError, OSError):
        return ""


def _installed_name(value: Any) -> str | None:
    """What an installed package calls a function, a class or itself, with its version; None for all else."""
    module, name = getattr(value, "__module__", None), getattr(value, "__qualname__", None)
    if isinstance(value, types.ModuleType):
        module, name = value.__name__, ""
    elif not isinstance(module, str) or not isinstance(name, str) or _find(module, name) is not value:
        return None
    version = _version(module)
    return None if version is None else f"{module}.{name} {version}"


def _find(module: str, name: str) -> Any:
    """What a module has by a name with dots; None for nothing."""
    return functools.reduce(lambda at, part: getattr(at, part, None), name.split("."), sys.modules.get(module))


@functools.cache
def _version(module: str) -> str | None:
    """Version of the installed package that a module is of; None for one of the user's own."""
    package = module.partition(".")[0]
    file = getattr(sys.modules.get(module), "__file__", None)
    if package in sys.stdlib_module_names and (file is None or Path(file).is_relative_to(STANDARD)):
        return ""
    installed = package == "backgrid" or not INSTALLED.isdisjoint(Path(file or "").parts)
    if not installed or package == "__main__":  # the file of which may be that of a notebook's kernel
        return None
    known = getattr(sys.modules.get(package), "__version__", None)
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        return str(known or importlib.metadata.version(package))
    return ""
