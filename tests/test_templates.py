"""Templates are found by name, read without being run, and take declared names and types only."""

import datetime as dt
import json
import re
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest

from backgrid.errors import ParameterError
from backgrid.models import BacktestRequest, StrategyType
from backgrid.strategies import get_strategy, strategy_defaults
from backgrid.templates import (
    Parameter,
    check_parameters,
    find_template,
    list_templates,
    parse_words,
    read_parameters,
    template_folders,
)

DECLARED = {
    "name": Parameter("str", "", ""),
    "window": Parameter("int", 20, ""),
    "fees": Parameter("float", 0.0, ""),
    "whole": Parameter("bool", False, ""),
    "windows": Parameter("list", [], ""),
    "more": Parameter("dict", {}, ""),
    "limit": Parameter("int | None", None, ""),
    "most": Parameter("float | None", 0.5, ""),
    "rhythm": Parameter("str | float | None", None, ""),
}


@pytest.fixture
def template(tmp_path):
    """`template(source)` writes a notebook whose parameters cell has that source, and gives its path."""

    def write(source, tags=("parameters",)):
        cell = {"cell_type": "code", "metadata": {"tags": list(tags)}, "source": source, "outputs": []}
        path = tmp_path / "report_own.ipynb"
        path.write_text(json.dumps({"cells": [cell]}), encoding="utf-8")
        return path

    return write


# ---- where templates are ---------------------------------------------------------------------------------------------


def test_template_of_the_package_is_found_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert find_template("report_backtest").is_file()
    assert "report_backtest" in list_templates()


def test_own_template_wins_over_the_one_of_the_package(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    own = tmp_path / "notebooks" / "report_backtest.ipynb"
    own.parent.mkdir()
    own.write_text("{}")
    assert find_template("report_backtest").resolve() == own
    assert list_templates()["report_backtest"].resolve() == own


def test_notebook_beside_the_reader_is_found_where_there_is_no_folder_of_them(tmp_path, monkeypatch):
    """After the folder of notebooks, and before those of the package."""
    monkeypatch.chdir(tmp_path)
    here = tmp_path / "report_backtest.ipynb"
    here.write_text("{}")
    assert find_template("report_backtest").resolve() == here
    own = tmp_path / "notebooks" / "report_backtest.ipynb"
    own.parent.mkdir()
    own.write_text("{}")
    assert find_template("report_backtest").resolve() == own


def test_installed_package_brings_its_templates_along(monkeypatch, tmp_path):
    """A wheel holds them in backgrid/notebooks, a checkout beside backgrid/."""
    monkeypatch.setattr("backgrid.templates.__file__", str(tmp_path / "backgrid" / "templates.py"))
    assert template_folders()[1] == tmp_path / "notebooks"
    (tmp_path / "backgrid" / "notebooks").mkdir(parents=True)
    assert template_folders()[1] == tmp_path / "backgrid" / "notebooks"


def test_template_is_found_by_path(template):
    path = template("a: int = 1")
    assert find_template(path) == find_template(str(path)) == path


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", "../report_backtest", "/etc/passwd", "no.ipynb", "a\0.ipynb", "x" * 300, "y" * 300 + ".ipynb"],
)
def test_unknown_template_is_refused(name):
    with pytest.raises(ParameterError, match="template"):
        find_template(name)


def test_misspelt_template_gets_a_hint():
    with pytest.raises(ParameterError, match="'report_bactest'; did you mean 'report_backtest'"):
        find_template("report_bactest")


# ---- what templates declare ------------------------------------------------------------------------------------------


def test_declaration_has_type_default_and_meaning(template):
    source = (
        "symbol: str = 'AAPL'  # ticker\n"
        "\n"
        "# a line of words\n"
        "fees: float = -0.5  # fraction\n"
        "windows: list = [\n    1,\n    2,\n]  # bars\n"
        "note: str = '# no comment'\n"
        "limit: int | None = None  # bars, none for all\n"
        "rhythm: str | float = 0.5  # a word or a fraction\n"
        "drift: 'str, float, None' = 0.5  # as papermill reads it\n"
        "plain = True  # without a type"
    )
    assert read_parameters(template(source)) == {
        "symbol": Parameter("str", "AAPL", "ticker"),
        "fees": Parameter("float", -0.5, "fraction"),
        "windows": Parameter("list", [1, 2], "bars"),
        "note": Parameter("str", "# no comment", ""),
        "limit": Parameter("int | None", None, "bars, none for all"),
        "rhythm": Parameter("str | float", 0.5, "a word or a fraction"),
        "drift": Parameter("str | float | None", 0.5, "as papermill reads it"),
        "plain": Parameter("bool", True, "without a type"),
    }


def test_source_may_be_written_as_lines(template):
    assert read_parameters(template(["a: int = 1\n", "b: int = 2"])).keys() == {"a", "b"}


@pytest.mark.parametrize(
    "source",
    [
        "a: int = len('x')",
        "a: str = open('pwned', 'w')",
        "import os",
        "a: int",
        "a: int = ",
        "a = b = 1",
        "a.b = 1",
        "a, b = 1, 2",
        "a: set = {1}",
        "a: int | str = 1",
        "a: 'int, str' = 1",
        "a: 'open()' = 1",
        "a: float = 'open",
        "a: list = [1,",
        "  a: int = 1\n b: int = 2",
        "print(1)",
        "a: list = " + "[" * 300 + "]" * 300,
    ],
)
def test_parameters_cell_with_more_than_literals_is_refused(template, source, tmp_path):
    with pytest.raises(ParameterError, match="parameters cell of report_own"):
        read_parameters(template(source))
    assert not (tmp_path / "pwned").exists()


def test_refused_literal_shows_no_address(template):
    with pytest.raises(ParameterError, match="line 1") as refused:
        read_parameters(template("a: int = f()"))
    assert "0x" not in str(refused.value)


@pytest.mark.parametrize("tags", [(), ("injected-parameters",)])
def test_template_needs_a_parameters_cell(template, tags):
    with pytest.raises(ParameterError, match="needs one cell tagged 'parameters', it has 0"):
        read_parameters(template("a: int = 1", tags))


def test_template_with_two_parameters_cells_is_refused(tmp_path):
    cell = {"metadata": {"tags": ["parameters"]}, "source": "a = 1"}
    path = tmp_path / "two.ipynb"
    path.write_text(json.dumps({"cells": [cell, cell]}))
    with pytest.raises(ParameterError, match="it has 2"):
        read_parameters(path)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xfe\x00",
        b"[]",
        b"5",
        b'{"cells": 5}',
        b'{"cells": [1]}',
        b'{"cells": [{"metadata": null}]}',
        b'{"cells": [{"metadata": {"tags": null}}]}',
        b'{"cells": [{"metadata": {"tags": ["parameters"]}}]}',
        b'{"cells": [{"metadata": {"tags": ["parameters"]}, "source": 5}]}',
        b"[" * 100_000,
    ],
    ids=lambda content: content[:60].decode(errors="replace"),
)
def test_file_that_is_no_notebook_is_refused(tmp_path, content):
    path = tmp_path / "odd.ipynb"
    path.write_bytes(content)
    with pytest.raises(ParameterError, match=r"odd\.ipynb"):
        read_parameters(path)


# ---- values ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value", "taken"),
    [
        ("name", "AAPL", "AAPL"),
        ("name", dt.date(2023, 1, 2), "2023-01-02"),
        ("name", dt.datetime(2023, 1, 2), "2023-01-02"),
        ("name", dt.datetime(2023, 1, 2, 9, 30), "2023-01-02T09:30:00"),
        ("name", Path("a") / "b.csv", str(Path("a") / "b.csv")),
        ("window", np.int64(7), 7),
        ("fees", 1, 1.0),
        ("fees", np.float32(0.5), 0.5),
        ("whole", np.bool_(True), True),
        ("windows", [1, (2, 3)], [1, [2, 3]]),
        ("more", {"a": {"b": None}}, {"a": {"b": None}}),
        ("limit", None, None),
        ("limit", 5, 5),
        ("most", None, None),
        ("rhythm", None, None),
        ("rhythm", "week", "week"),
        ("rhythm", 0.05, 0.05),
        ("rhythm", 1, 1.0),
        ("rhythm", np.float64(0.5), 0.5),
    ],
)
def test_value_is_taken_in_its_declared_type(name, value, taken):
    checked = check_parameters(DECLARED, {name: value})
    assert checked == {name: taken}
    assert type(checked[name]) is type(taken)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("name", 7),
        ("name", None),
        ("name", b"AAPL"),
        ("window", "10"),
        ("window", True),
        ("window", 2.5),
        ("window", 20.0),
        ("window", float("nan")),
        ("window", np.arange(3)),
        ("window", None),
        ("fees", "0.1"),
        ("fees", False),
        ("fees", float("nan")),
        ("fees", float("-inf")),
        ("fees", 10**400),
        ("fees", Decimal("0.1")),
        ("whole", 1),
        ("whole", "yes"),
        ("windows", (1, 2)),
        ("windows", [float("nan")]),
        ("windows", [object()]),
        ("more", {"a": {1, 2}}),
        ("limit", "5"),
        ("rhythm", True),
        ("rhythm", [0.1]),
        ("rhythm", float("nan")),
        ("rhythm", 10**400),
    ],
    ids=lambda value: str(value)[:20],
)
def test_value_of_another_type_is_refused_by_name(name, value):
    with pytest.raises(ParameterError, match=f"^{name} must "):
        check_parameters(DECLARED, {name: value})


@pytest.mark.parametrize(
    "name", ["a = 1\nopen('pwned', 'w')\nb", "class", "print", "__import__", "", "window ", 5, None]
)
def test_undeclared_name_is_refused(name):
    with pytest.raises(ParameterError, match="unknown parameter"):
        check_parameters(DECLARED, {name: 1})


def test_misspelt_name_gets_a_hint():
    with pytest.raises(ParameterError, match="unknown parameter 'windwo'; did you mean 'window'"):
        check_parameters(DECLARED, {"windwo": 1})


# ---- words of a command line -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "word", "value"),
    [
        ("name", "007", "007"),
        ("name", "", ""),
        ("name", "true", "true"),
        ("window", "007", 7),
        ("window", "-5", -5),
        ("fees", "1e-3", 0.001),
        ("fees", "1", 1.0),
        *(("whole", word, True) for word in ("true", "True", "yes", "1")),
        *(("whole", word, False) for word in ("false", "No", "0")),
        ("windows", "[1, 2]", [1, 2]),
        ("more", '{"a": null}', {"a": None}),
        ("limit", "5", 5),
        ("limit", "none", None),
        ("most", "None", None),
        ("rhythm", "none", None),
        ("rhythm", "week", "week"),
        ("rhythm", "0.05", 0.05),
        ("rhythm", "1", 1.0),
        ("name", "none", "none"),
        ("other", "5", "5"),
    ],
)
def test_word_is_read_as_its_declared_type(name, word, value):
    parsed = parse_words(DECLARED, {name: word})
    assert parsed == {name: value}
    assert type(parsed[name]) is type(value)


@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("window", "2.5"),
        ("window", "ten"),
        ("window", ""),
        ("window", "none"),
        ("window", "9" * 5000),
        ("fees", "cheap"),
        ("whole", "maybe"),
        ("windows", "1, 2"),
        ("windows", "[" * 100_000),
    ],
    ids=lambda text: text[:12],
)
def test_word_of_another_type_is_refused_by_name(name, word):
    with pytest.raises(ParameterError, match=f"^{name} must be .*, got "):
        parse_words(DECLARED, {name: word})


# ---- the template of a backtest --------------------------------------------------------------------------------------

BACKTEST = read_parameters(Path(__file__).parents[1] / "notebooks" / "report_backtest.ipynb")
OF_STRATEGIES = {name for known in StrategyType for name in strategy_defaults(get_strategy(known.value))}


def test_backtest_offers_every_field_of_a_request_and_every_parameter_of_a_strategy():
    assert BACKTEST.keys() == (BacktestRequest.model_fields.keys() - {"params"}) | OF_STRATEGIES | {"n_trials"}


def test_backtest_has_the_defaults_of_a_request_but_for_the_sample_and_a_fee():
    usual = BacktestRequest(symbol="AAPL").model_dump(mode="json")
    other = {name for name in usual.keys() & BACKTEST.keys() if usual[name] != (BACKTEST[name].default or usual[name])}
    assert other == {"source", "fees"}


def test_backtest_leaves_parameters_to_the_strategy_and_says_what_that_takes():
    said = {name: [] for name in OF_STRATEGIES}
    for known in StrategyType:
        for name, default in strategy_defaults(get_strategy(known.value)).items():
            said[name].append(f"{known.value}'s {default:g}")
    for name, words in said.items():
        kind, default, meaning = BACKTEST[name]
        assert (kind, default) in (("int", None), ("float", None))
        assert meaning.endswith(f"None for {', '.join(words)}")


def test_backtest_names_every_strategy():
    meaning = re.sub(r"(\w+)/(\w+)(_\w+)", r"\1\3 \2\3", BACKTEST["strategy"].meaning)
    assert meaning.split() == [known.value for known in StrategyType]
