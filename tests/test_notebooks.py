"""Committed notebooks are valid, clean and honest: templates hold calls and no output, tutorials were run in order."""

import ast
import re
from pathlib import Path

import nbformat
import pytest

from backgrid.templates import NOUNS, read_parameters

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"
TEMPLATES = sorted(NOTEBOOKS.glob("report_*.ipynb"))
TUTORIALS = sorted(NOTEBOOKS.glob("[0-9]*.ipynb"))

every_notebook = pytest.mark.parametrize("path", [*TEMPLATES, *TUTORIALS], ids=lambda path: path.stem)
every_template = pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.stem)
every_tutorial = pytest.mark.parametrize("path", TUTORIALS, ids=lambda path: path.stem)


def read(path):
    return nbformat.read(path, as_version=4)


def code_cells(path):
    return [cell for cell in read(path).cells if cell.cell_type == "code"]


def test_notebooks_are_templates_and_numbered_tutorials_only():
    assert "report_backtest" in [path.stem for path in TEMPLATES]
    assert sorted(NOTEBOOKS.glob("*.ipynb")) == sorted([*TEMPLATES, *TUTORIALS])


def test_index_leads_to_every_other_notebook_under_its_name():
    """`make lab` opens it."""
    text = "\n".join(cell.source for cell in read(NOTEBOOKS / "00_index.ipynb").cells)
    links = re.findall(r"\[([^]]+)\]\(([^)]+)\): \w+", text)
    assert all(name == target for name, target in links) and len(set(links)) == len(links)
    assert {path.name for path in [*TEMPLATES, *TUTORIALS]} - {"00_index.ipynb"} <= {name for name, _ in links}
    makefile = (NOTEBOOKS.parent / "Makefile").read_text(encoding="utf-8")
    assert "jupyterlab $(ARGS) notebooks/00_index.ipynb" in makefile


# ---- every notebook --------------------------------------------------------------------------------------------------


@every_notebook
def test_notebook_is_valid_and_of_the_current_format(path):
    notebook = read(path)
    nbformat.validate(notebook)
    assert (notebook.nbformat, notebook.nbformat_minor) == (4, 5)


@every_notebook
def test_notebook_asks_for_the_usual_kernel(path):
    metadata = read(path).metadata
    assert metadata.kernelspec == {"display_name": "Python 3", "language": "python", "name": "python3"}
    assert metadata.language_info.name == "python"


@every_notebook
def test_cells_have_plain_ids_in_their_order(path):
    """Random ids would change with every save."""
    ids = [cell.id for cell in read(path).cells]
    assert ids == [f"cell-{number:02d}" for number in range(len(ids))]


@every_notebook
def test_notebook_holds_no_clock_path_or_address(path):
    text = path.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
    folders = r"/(?:home|Users|root|tmp|work)/|[A-Z]:\\\\"
    assert re.findall(rf"{folders}|ipykernel_\d|0x[0-9a-f]{{8,}}|https?://", text) == []
    for cell in read(path).cells:
        assert set(cell.metadata) <= {"tags"}


@every_notebook
def test_notebook_begins_with_its_title_and_explains_itself(path):
    first, *others = read(path).cells
    assert first.cell_type == "markdown" and first.source.startswith("# ")
    assert any(cell.cell_type == "markdown" for cell in others)


@every_notebook
def test_notebook_stays_off_the_network(path):
    """Examples run anywhere: their prices come from the embedded sample."""
    sources = [cell.source for cell in code_cells(path)]
    assert any(re.search(r"source(: str)?\s*=\s*\"sample\"", source) for source in sources)


# ---- templates -------------------------------------------------------------------------------------------------------


@every_template
def test_template_has_no_output(path):
    for cell in code_cells(path):
        assert cell.outputs == [] and cell.execution_count is None


@every_template
def test_parameters_are_literals_each_with_type_and_meaning(path):
    """`read_parameters` refuses a cell that holds anything but literals."""
    first = code_cells(path)[0]
    assert first.metadata.tags == ["parameters"]
    declared = read_parameters(path)
    assert len(declared) == len(first.source.splitlines())
    for name, (kind, default, meaning) in declared.items():
        assert meaning, name
        assert type(default).__name__ in kind.split(" | ") or default is None
        assert kind.removesuffix(" | None") in NOUNS


@every_template
def test_template_uses_every_parameter(path):
    _, *others = code_cells(path)
    used = {node.id for cell in others for node in ast.walk(ast.parse(cell.source)) if isinstance(node, ast.Name)}
    assert set(read_parameters(path)) <= used


@every_template
def test_template_holds_calls_and_no_programming(path):
    """What needs a loop, a branch or a def belongs in the package, where it is tested."""
    allowed = (ast.Import, ast.ImportFrom, ast.Assign, ast.Expr)
    programming = (ast.Lambda, ast.comprehension, ast.IfExp, ast.NamedExpr, ast.Await)
    for cell in code_cells(path)[1:]:
        tree = ast.parse(cell.source)
        assert all(isinstance(statement, allowed) for statement in tree.body), cell.source
        assert not [node for node in ast.walk(tree) if isinstance(node, programming)], cell.source


@every_template
def test_template_records_its_result_last(path):
    assert "page.record(" in code_cells(path)[-1].source


# ---- tutorials -------------------------------------------------------------------------------------------------------


@every_tutorial
def test_tutorial_was_run_in_order_from_a_fresh_kernel(path):
    """nbval compares nothing in a cell that was never run."""
    counts = [cell.execution_count for cell in code_cells(path)]
    assert counts == list(range(1, len(counts) + 1))


@every_tutorial
def test_tutorial_shows_outputs_and_no_error_or_warning(path):
    outputs = [output for cell in code_cells(path) for output in cell.outputs]
    assert outputs
    for output in outputs:
        assert output.output_type != "error"
        assert output.get("name") != "stderr", output.text


@every_tutorial
def test_tutorial_is_compared_in_every_cell(path):
    """No output is exempt from nbval."""
    for cell in code_cells(path):
        assert not re.search(r"NBVAL|PYTEST_VALIDATE", cell.source)
        assert not [tag for tag in cell.metadata.get("tags", []) if tag.startswith(("nbval", "raises"))]
