"""What tells one search from another: a hash of what was asked, down to the code of the strategy and what it uses."""

import contextlib
import copyreg
import dis
import functools
import hashlib
import importlib
import importlib.metadata
import operator
import sys
import types
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from backgrid.engine import check_settings
from backgrid.terms import stops_of
from backgrid.trials import Job

PLAIN = (int, float, str, bytes, bool, complex, type(None), type(...))  # whose repr is all of them
INSTALLED = {"site-packages", "dist-packages"}
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
        name = _installed_name(value)
        if name:
            yield name
        elif type(value) in (list, tuple):
            plain = all(type(each) in PLAIN for each in value)
            yield repr(value) if plain else self._all(value)
        elif type(value) in (dict, types.MappingProxyType):
            yield self._all(value.keys())
            yield self._all(value.values())
        elif type(value) in (set, frozenset):
            yield sorted(self._all(value))
        elif type(value) is np.ndarray:
            yield from self._of_array(value)
        elif isinstance(value, (pd.DataFrame, pd.Series, pd.Index)):
            yield from self._of_table(value)
        else:
            yield from self._of_code(value)

    def _of_array(self, array: np.ndarray) -> Iterator[Any]:
        yield repr(array.dtype), array.shape
        yield self._all(array.ravel().tolist()) if array.dtype.hasobject else _hash(array)

    def _of_table(self, table: Any) -> Iterator[Any]:
        if isinstance(table, pd.DataFrame):
            yield self._all((table.index, *(table.iloc[:, k] for k in range(table.shape[1]))))
            return
        yield self.told(table.index if isinstance(table, pd.Series) else tuple(table.names))
        yield self.told(table.name), str(table.dtype), len(table)
        known = table.dtype != object and not isinstance(table, pd.MultiIndex)
        yield _hash(np.asarray(pd.util.hash_pandas_object(table, index=False))) if known else self._all(table)

    def _of_code(self, value: Any) -> Iterator[Any]:
        """Functions, classes and modules, of which no pickle tells the content; all else as a pickle would tell it."""
        if isinstance(value, types.FunctionType):
            yield from self._of_function(value)
        elif isinstance(value, types.CodeType):
            yield value.co_code, value.co_exceptiontable, value.co_flags, value.co_argcount, value.co_kwonlyargcount
            yield value.co_names, value.co_varnames, value.co_freevars, value.co_cellvars, self.told(value.co_consts)
        elif isinstance(value, types.CellType):
            with contextlib.suppress(ValueError):  # it is empty
                yield self.told(value.cell_contents)
        elif isinstance(value, types.ModuleType):
            yield _source(value)
        elif isinstance(value, type):
            members = {k: v for k, v in vars(value).items() if k not in OF_NO_MATTER and not isinstance(v, SLOTS)}
            yield value.__qualname__, self.told(value.__bases__), self.told(members)
        elif isinstance(value, (staticmethod, classmethod)):
            yield self.told(value.__func__)
        elif isinstance(value, property):
            yield self._all((value.fget, value.fset, value.fdel))
        elif isinstance(value, functools.cached_property):
            yield self.told(value.func)
        elif isinstance(value, functools._lru_cache_wrapper):
            yield self.told(value.__wrapped__)
        elif isinstance(getattr(value, "py_func", None), types.FunctionType):  # compiled by numba
            yield self.told(value.py_func)
        else:
            yield from self._of_state(value)

    def _of_function(self, function: types.FunctionType) -> Iterator[Any]:
        names = _names(function.__code__)
        used = {name: function.__globals__[name] for name in names.read if name in function.__globals__}
        used |= {f"import {name}": _import(name, function.__globals__.get("__package__")) for name in names.imported}
        yield self.told(function.__code__), self.told(function.__defaults__), self.told(function.__kwdefaults__)
        yield self.told(function.__closure__), self.told(vars(function)), self.told(used)
        modules = [module for module in used.values() if isinstance(module, types.ModuleType)]
        yield [self.told(each) for module in modules for each in _attributes(module, names.all)]

    def _of_state(self, value: Any) -> Iterator[Any]:
        reduce = copyreg.dispatch_table.get(type(value))
        try:
            state = reduce(value) if reduce else value.__reduce_ex__(4)
        except TypeError as error:
            raise UntoldError(f"a {type(value).__qualname__} has no content to compare") from error
        if isinstance(state, str):  # a name, as which it is known
            yield state
            return
        maker, arguments, *rest = state
        told, items, pairs = (*rest[:3], None, None, None)[:3]
        yield self._all((maker, arguments, told, list(items or ()), list(pairs or ())))


def _hash(array: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()


class _Names(NamedTuple):
    """Names in code, in the order in which they come."""

    read: dict[str, None]  # globals
    imported: dict[str, None]  # modules, with a dot for each package up
    all: dict[str, None]  # with those of attributes


def _names(code: types.CodeType) -> _Names:
    """Names that code uses, and functions within it."""
    steps = list(dis.get_instructions(code))
    read = {step.argval: None for step in steps if step.opname in ("LOAD_GLOBAL", "LOAD_NAME")}
    imports = [at for at, step in enumerate(steps) if step.opname == "IMPORT_NAME"]
    imported = {"." * (steps[at - 2].argval or 0) + steps[at].argval: None for at in imports}
    names = _Names(read, imported, dict.fromkeys(code.co_names))
    for inner in code.co_consts:
        if isinstance(inner, types.CodeType):
            for known, more in zip(names, _names(inner), strict=True):
                known.update(more)
    return names


def _import(name: str, package: str | None) -> types.ModuleType | None:
    """A module that a function imports when it is called; None where there is none."""
    try:
        return importlib.import_module(name, package)
    except Exception:  # of whatever the module does: so it will be where the function is called
        return None


def _attributes(module: types.ModuleType, names: Iterable[str]) -> Iterator[Any]:
    """Of a module of the user's own, what these names are in it, and in the modules that it names so."""
    if _version(module.__name__) is None:
        for name in names:
            if name in vars(module):
                found = vars(module)[name]
                yield name
                yield found
                if isinstance(found, types.ModuleType) and found.__name__.startswith(f"{module.__name__}."):
                    yield from _attributes(found, names)


def _source(module: types.ModuleType) -> str:
    """Hash of the file of a module; nothing where it has none."""
    try:
        return hashlib.sha256(Path(module.__file__ or "").read_bytes()).hexdigest()
    except (AttributeError, OSError):
        return ""


def _installed_name(value: Any) -> tuple[str, str | None] | None:
    """What an installed package calls a function, a class or itself, with its version; None for all else."""
    if isinstance(value, types.ModuleType):
        return None if _version(value.__name__) is None else (value.__name__, _version(value.__name__))
    module, name = getattr(value, "__module__", None), getattr(value, "__qualname__", None)
    if not isinstance(module, str) or not isinstance(name, str) or module not in sys.modules:
        return None
    try:
        found = operator.attrgetter(name)(sys.modules[module])
    except AttributeError:
        return None
    return None if _version(module) is None or found is not value else (f"{module}.{name}", _version(module))


@functools.cache
def _version(module: str) -> str | None:
    """Version of the installed package that a module is of; None for one of the user's own."""
    package = module.partition(".")[0]
    if package in sys.stdlib_module_names:
        return ""
    file = getattr(sys.modules.get(module), "__file__", None)
    installed = package == "backgrid" or not INSTALLED.isdisjoint(Path(file or "").parts)
    if not installed or package == "__main__":  # the file of which may be that of a notebook's kernel
        return None
    known = getattr(sys.modules.get(package), "__version__", None)
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        return str(known or importlib.metadata.version(package))
    return ""
