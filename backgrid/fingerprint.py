"""What tells one sweep from another: a hash of its bars, its strategy down to what the function carries, its grid."""

import functools
import hashlib
import types
from typing import Any

import numpy as np
import pandas as pd

from backgrid.trials import Job


def fingerprint(job: Job, where: Any) -> str:
    """SHA-256 of a sweep; the same in another process, where its source is the same."""
    told = (job.bars, job.n_columns, job.strategy, tuple(job.space), dict(job.given), job.metrics, where)
    return hashlib.sha256(repr(_told(told, ())).encode()).hexdigest()


def _told(value: Any, within: tuple[int, ...]) -> Any:
    """A value as text and numbers that are the same wherever it is; what it is part of is not told again."""
    if id(value) in within:
        return "itself"
    inside = (*within, id(value))
    if isinstance(value, (pd.DataFrame, pd.Series)):
        frame = value.to_frame() if isinstance(value, pd.Series) else value
        return ("frame", list(map(str, frame.columns)), pd.util.hash_pandas_object(frame).to_numpy().tobytes())
    if isinstance(value, np.ndarray) and value.dtype.kind != "O":
        return (
            "array",
            value.dtype.str,
            value.shape,
            hashlib.sha256(np.ascontiguousarray(value).tobytes()).hexdigest(),
        )
    if isinstance(value, (list, tuple, np.ndarray)):
        return [_told(each, inside) for each in value]
    if isinstance(value, dict):
        return [(_told(key, inside), _told(each, inside)) for key, each in value.items()]
    if isinstance(value, (set, frozenset)):
        return sorted(repr(_told(each, inside)) for each in value)
    if isinstance(value, types.CodeType):
        return ("code", value.co_code, _told(value.co_consts, inside), value.co_names, value.co_varnames)
    if isinstance(value, functools.partial):
        return ("partial", _told((value.func, value.args, value.keywords), inside))
    if isinstance(value, types.MethodType):
        return ("method", _told((value.__func__, value.__self__), inside))
    if isinstance(value, types.FunctionType):
        cells = [cell.cell_contents for cell in value.__closure__ or ()]
        used = {name: value.__globals__[name] for name in value.__code__.co_names if name in value.__globals__}
        parts = (value.__code__, value.__defaults__, value.__kwdefaults__, cells, used)
        return (value.__module__, value.__qualname__, _told(parts, inside))
    if isinstance(value, (type, types.ModuleType, types.BuiltinFunctionType)):
        return getattr(value, "__qualname__", value.__name__)
    if hasattr(value, "__dict__"):
        return (type(value).__qualname__, _told(vars(value), inside))
    return repr(value)
