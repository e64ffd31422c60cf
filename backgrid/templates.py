"""Notebook templates: where they are, what parameters they declare, and whether given values fit.

A parameters cell (tag `parameters`) holds literals only, one `name: type = value  # unit or meaning` a line. To
papermill the name of a parameter is code, so only declared names pass. It passes over a line whose type has a bar;
what may be one of several types is written `name: "str, float" = value`, and a default of None needs no word.
"""

import ast
import contextlib
import datetime as dt
import io
import json
import math
import re
import tokenize
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from backgrid.errors import ParameterError, did_you_mean, shown

NAME = re.compile(r"[A-Za-z0-9_-]{1,80}")  # of a template
CELL_FILE = r"(?<!\S)\S*ipykernel_\d+[/\\]\d+\.py"  # what a kernel calls the source of a cell, after its process
NOUNS = {
    "str": "text",
    "int": "a whole number",
    "float": "a number",
    "str | int": "text or a whole number",
    "str | float": "text or a number",
    "bool": "true or false",
    "list": "a list",
    "dict": "a mapping",
}


CLASSES: dict[str, Any] = {
    "str": str,
    "int": int,
    "float": float,
    "str | int": str | int,
    "str | float": str | float,
    "bool": bool,
    "list": list,
    "dict": dict,
}


class Parameter(NamedTuple):
    """One line of a parameters cell."""

    type: str
    default: Any
    meaning: str


def template_folders() -> list[Path]:
    """Where templates are looked up: the working folder's notebooks, then those shipped with the package."""
    package = Path(__file__).parent
    installed = package / "notebooks"  # a wheel holds them here; a checkout has them beside the package
    return [Path("notebooks"), installed if installed.is_dir() else package.parent / "notebooks"]


def list_templates() -> dict[str, Path]:
    """Name and path of every template; the working folder's own ones win."""
    found: dict[str, Path] = {}
    for folder in template_folders():
        for path in sorted(folder.glob("report_*.ipynb")):
            found.setdefault(path.stem, path)
    return found


def find_template(template: str | Path) -> Path:
    """Path of a template given by name, or by a path ending in .ipynb.

    A name is looked up in the template folders, and in the working folder before those of the package.

    Raises
    ------
    ParameterError
        If there is none.
    """
    if str(template).endswith(".ipynb"):
        if not _is_file(Path(template)):
            raise ParameterError(f"there is no template {shown(str(template))}")
        return Path(template)
    if NAME.fullmatch(str(template)):
        own, *shipped = template_folders()
        for folder in (own, Path(), *shipped):
            if _is_file(folder / f"{template}.ipynb"):
                return folder / f"{template}.ipynb"
    raise ParameterError(f"unknown template {shown(str(template))}{did_you_mean(str(template)[:80], list_templates())}")


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name too long for the system
        return False


def read_parameters(path: Path) -> dict[str, Parameter]:
    """The parameters that a template declares, in its order.

    Raises
    ------
    ParameterError
        If the file is no notebook, has no cell tagged `parameters`, or that cell holds anything but literals.
    """
    source = _parameters_cell(path)
    meanings = _comments(source)
    try:
        return dict(_declared(line, meanings) for line in ast.parse(source).body)
    except (ValueError, SyntaxError) as error:
        raise ParameterError(f"parameters cell of {path.name}: {error}") from None


def check_parameters(declared: Mapping[str, Parameter], given: Mapping[str, Any]) -> dict[str, Any]:
    """The given values in their declared types.

    Raises
    ------
    ParameterError
        For a name that is not declared, or a value of another type.
    """
    for name in given:
        if name not in declared:
            raise ParameterError(f"unknown parameter {shown(name)}{did_you_mean(str(name)[:40], declared)}")
    return {name: _checked(name, value, declared[name]) for name, value in given.items()}


def parse_words(declared: Mapping[str, Parameter], words: Mapping[str, str]) -> dict[str, Any]:
    """Values from words of a command line, read as their declared types; unknown names are left for the check.

    "none" is None where a parameter may be that.
    """
    return {name: _parsed(name, text, declared[name]) if name in declared else text for name, text in words.items()}


def _parameters_cell(path: Path) -> str:
    """Source of the cell tagged `parameters`."""
    try:
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        tagged = ["".join(cell["source"]) for cell in cells if "parameters" in cell["metadata"].get("tags", [])]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise ParameterError(f"{path.name} is not a notebook") from None
    if len(tagged) != 1:
        raise ParameterError(f"{path.name} needs one cell tagged 'parameters', it has {len(tagged)}")
    return tagged[0]


def _declared(line: ast.stmt, meanings: Mapping[int, str]) -> tuple[str, Parameter]:
    target = (
        line.targets[0] if isinstance(line, ast.Assign) and len(line.targets) == 1 else getattr(line, "target", None)
    )
    given = getattr(line, "value", None)
    if not isinstance(line, (ast.AnnAssign, ast.Assign)) or not isinstance(target, ast.Name) or given is None:
        raise ValueError(f"line {line.lineno} is not 'name: type = literal'")
    try:
        value = ast.literal_eval(given)
    except ValueError:
        raise ValueError(f"line {line.lineno} is not 'name: type = literal'") from None
    kind = _kind(line.annotation) if isinstance(line, ast.AnnAssign) else type(value).__name__
    if kind.removesuffix(" | None") not in NOUNS:
        raise ValueError(f"line {line.lineno}: type {kind} is not one of {', '.join(NOUNS)}")
    return target.id, Parameter(kind, value, meanings.get(line.end_lineno or line.lineno, ""))


def _kind(annotation: ast.expr) -> str:
    """A type as it is written; those of a text, "str, float", as str | float, which papermill does not read."""
    if isinstance(annotation, ast.Constant) and isinstance(annotation.value, str):
        return " | ".join(part.strip() for part in annotation.value.split(","))
    return ast.unparse(annotation)


def _comments(source: str) -> dict[int, str]:
    """Comment of each line."""
    try:
        tokens = list(tokenize.generate_tokens(io.StringIO(source).readline))
    except (tokenize.TokenError, IndentationError):
        return {}
    return {token.start[0]: token.string.lstrip("# ") for token in tokens if token.type == tokenize.COMMENT}


def _checked(name: str, value: Any, parameter: Parameter) -> Any:
    """The value as its declared type: dates as ISO text, numpy numbers as Python's, whole numbers as floats."""
    kind = parameter.type.removesuffix(" | None")
    if value is None and (parameter.default is None or parameter.type.endswith(" | None")):
        return None
    if type(value).__module__ == "numpy" and getattr(value, "shape", None) == ():
        value = value.item()
    if kind == "str" and isinstance(value, Path):
        return str(value)
    if kind == "str" and isinstance(value, dt.date):  # dates of a YAML file
        return value.isoformat().removesuffix("T00:00:00")
    if "float" in kind and isinstance(value, int) and not isinstance(value, bool):
        value = float(value) if abs(value) < 1e300 else math.inf
    if not isinstance(value, CLASSES[kind]) or ("int" in kind and isinstance(value, bool)):
        raise ParameterError(f"{name} must be {NOUNS[kind]}, got {shown(value)} ({type(value).__name__})")
    if isinstance(value, float) and not math.isfinite(value):
        raise ParameterError(f"{name} must be finite, got {value}")
    if kind in ("list", "dict"):
        try:
            return json.loads(json.dumps(value, allow_nan=False))
        except (TypeError, ValueError, RecursionError):
            raise ParameterError(f"{name} must hold plain numbers and text, got {shown(value)}") from None
    return value


def _parsed(name: str, text: str, parameter: Parameter) -> Any:
    kind = parameter.type.removesuffix(" | None")
    if text.lower() == "none" and (parameter.default is None or kind != parameter.type):
        return None
    try:
        if kind == "bool":
            return {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}[text.lower()]
        if kind == "int":
            return int(text)
        if kind == "float":
            return float(text)
        if kind in ("str | int", "str | float"):
            with contextlib.suppress(ValueError):
                return int(text) if kind == "str | int" else float(text)
        return json.loads(text) if kind in ("list", "dict") else text
    except (KeyError, ValueError, RecursionError):
        raise ParameterError(f"{name} must be {NOUNS[kind]}, got {shown(text)}") from None
