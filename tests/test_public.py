"""What the tab key offers and a tooltip shows: public names, docstrings with every parameter, results that tell."""

import inspect
import re
from pathlib import Path
from types import WrapperDescriptorType

import pytest

import backgrid
from backgrid import (
    BacktestRequest,
    Report,
    check_lookahead,
    combinatorial_cross_validation,
    explore,
    run_backtest,
    run_grid,
    run_portfolio,
    run_request,
    walk_forward,
)

GRID = {"fast_window": [5, 10], "slow_window": [20, 30]}
PUBLIC = {name: getattr(backgrid, name) for name in backgrid.__all__}
CLASSES = [one for one in PUBLIC.values() if isinstance(one, type)]
ENUMS = ("JobStatus", "StrategyType")


def docstring(one):
    """Its own, and for a class those of the classes it extends and of its fields."""
    if not isinstance(one, type):
        return inspect.getdoc(one) or ""
    above = [inspect.getdoc(base) or "" for base in one.__mro__ if base.__module__.startswith("backgrid.")]
    fields = [f"{name}: {field.description}" for name, field in getattr(one, "model_fields", {}).items()]
    return "\n".join([*above, *fields])


def unnamed(one, text):
    """Parameters that the text does not name; those of an error are Python's, where it has no others."""
    if inspect.isclass(one) and issubclass(one, Exception) and isinstance(one.__init__, WrapperDescriptorType):
        return []
    names = [name for name in inspect.signature(one).parameters if name not in ("self", "cls")]
    return [name for name in names if not re.search(rf"\b{name}\b", text)]


def methods(one):
    """Public functions that a class of ours defines."""
    own = {
        name: value
        for base in one.__mro__
        if base.__module__.startswith("backgrid.")
        for name, value in vars(base).items()
    }
    plain = {name: getattr(value, "__func__", value) for name, value in own.items() if not name.startswith("_")}
    return {name: value for name, value in plain.items() if inspect.isfunction(value)}


@pytest.fixture(scope="module")
def results(aapl):
    """One of each object that a public function gives back."""
    run = run_backtest(aapl)
    other = aapl.copy()
    other.attrs = {**aapl.attrs, "symbol": "COPY"}
    return {
        "BacktestResult": run,
        "PortfolioResult": run_portfolio({"AAPL": aapl, "COPY": other}, {"AAPL": 0.5, "COPY": 0.5}),
        "GridResult": run_grid(aapl, "ma_crossover", GRID),
        "WalkForwardResult": walk_forward(aapl, "ma_crossover", GRID, train=100, test=50),
        "of combinatorial splits": combinatorial_cross_validation(aapl, "ma_crossover", GRID, n_blocks=4, n_test=2),
        "LookaheadReport": check_lookahead("ma_crossover", aapl),
        "Explorer": explore(aapl),
        "Report": Report(Path("reports/AAPL"), Path("reports/AAPL/report.html"), run),
    }


def test_tab_key_offers_the_public_names_and_nothing_else():
    offered = [name for name in dir(backgrid) if not name.startswith("__")]
    assert offered == sorted(backgrid.__all__)


@pytest.mark.parametrize("name", backgrid.__all__)
def test_first_line_of_the_docstring_is_a_sentence(name):
    first, *_ = inspect.getdoc(PUBLIC[name]).splitlines()
    assert first.endswith(".") and len(first) > 10


@pytest.mark.parametrize("name", [name for name in backgrid.__all__ if name not in ENUMS])
def test_docstring_names_every_parameter(name):
    assert unnamed(PUBLIC[name], docstring(PUBLIC[name])) == []


@pytest.mark.parametrize("one", CLASSES, ids=lambda one: one.__name__)
def test_docstrings_of_methods_name_every_parameter(one):
    for name, method in methods(one).items():
        text = inspect.getdoc(method)
        assert text and unnamed(method, text) == [], name


def test_results_show_themselves_in_a_line_and_in_a_notebook(results):
    for name, result in results.items():
        line = repr(result)
        assert "\n" not in line and 30 < len(line) < 300, (name, line)
        assert hasattr(result, "_repr_html_") or hasattr(result, "plot"), name


def test_report_links_to_its_page(results):
    shown = results["Report"]._repr_html_()
    assert f"<a href='{results['Report'].html.as_posix()}'" in shown and "backgrid-result" in shown


def test_response_is_a_line_too(aapl):
    request = BacktestRequest(symbol="AAPL", start="2023-01-01", end="2023-12-31", source="sample")
    line = repr(run_request(request))
    assert "\n" not in line and len(line) < 300 and "equity_curve" not in line
