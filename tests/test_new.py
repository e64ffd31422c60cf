"""`backgrid new NAME` writes a notebook that runs at once, as every template does, and never over another file."""

import ast
import json

import nbformat
import pytest
from click.testing import CliRunner

from backgrid.cli import main
from backgrid.errors import BackgridError, ParameterError
from backgrid.report import run_report
from backgrid.scaffold import new_notebook
from backgrid.templates import NOUNS, find_template, read_parameters


@pytest.fixture(autouse=True)
def workplace(tmp_path, monkeypatch):
    """An empty working folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def notebooks(workplace):
    path = workplace / "notebooks"
    path.mkdir()
    return path


def new(*words):
    """The finished `backgrid new`, run in this process."""
    return CliRunner().invoke(main, ["new", *map(str, words)], catch_exceptions=False)


def read(path):
    return nbformat.read(path, as_version=4)


def test_notebook_goes_to_the_folder_of_notebooks(notebooks):
    done = new("my_idea")
    assert (done.exit_code, done.stdout) == (0, "notebooks/my_idea.ipynb\n")
    assert find_template("my_idea").resolve() == notebooks / "my_idea.ipynb"


def test_notebook_lies_in_the_working_folder_where_there_is_no_other(workplace):
    done = new("my-idea-2")
    assert (done.exit_code, done.stdout) == (0, "my-idea-2.ipynb\n")
    assert find_template("my-idea-2").resolve() == workplace / "my-idea-2.ipynb"


def test_notebook_is_valid_and_the_same_each_time(workplace):
    first, second = new_notebook("a"), new_notebook("b")
    assert first.read_text().replace('"# a\\n"', '"# b\\n"').replace("report a`", "report b`") == second.read_text()
    notebook = read(first)
    nbformat.validate(notebook)
    assert (notebook.nbformat, notebook.nbformat_minor) == (4, 5)
    assert [cell.id for cell in notebook.cells] == [f"cell-{at:02d}" for at in range(len(notebook.cells))]
    assert notebook.metadata.kernelspec == {"display_name": "Python 3", "language": "python", "name": "python3"}
    assert notebook.cells[0].source.startswith("# a\n")
    nbformat.write(notebook, workplace / "c.ipynb")  # as JupyterLab saves it
    assert (workplace / "c.ipynb").read_text().rstrip("\n") == first.read_text().rstrip("\n")


def test_parameters_are_literals_with_type_and_meaning_and_all_are_used():
    path = new_notebook("mine")
    declared = read_parameters(path)
    assert {"symbol", "source", "start", "end", "window", "fees"} <= declared.keys()
    for name, (kind, default, meaning) in declared.items():
        assert kind in NOUNS and type(default).__name__ == kind and meaning, name
    code = [cell.source for cell in read(path).cells if cell.cell_type == "code"]
    used = {node.id for source in code[1:] for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Name)}
    assert declared.keys() <= used


def test_notebook_defines_its_strategy_and_records_its_result_last():
    code = [cell.source for cell in read(new_notebook("mine")).cells if cell.cell_type == "code"]
    functions = [node for source in code for node in ast.parse(source).body if isinstance(node, ast.FunctionDef)]
    assert [function.name for function in functions] == ["own_strategy"]
    assert [argument.arg for argument in functions[0].args.kwonlyargs] == ["window"]
    assert code[-1] == "page.record(result)"
    for call in ("run_backtest(", "page.summary(", "result.plot()", "page.metrics("):
        assert any(call in source for source in code)


def test_notebook_runs_as_a_report(tmp_path):
    """Its own parameters can be given, and its strategy is checked for look-ahead."""
    new_notebook("mine")
    report = run_report("mine", {"window": 50, "end": "2020-12-31"}, out=tmp_path / "reports")
    assert report.result.strategy == "own_strategy" and report.result.params == {"window": 50}
    assert report.result.metrics["n_trades"] > 0 and report.result.settings["fees"] == 0.001
    assert {path.name for path in report.path.iterdir()} >= {"report.html", "report.ipynb", "provenance.json"}
    assert json.loads((report.path / "provenance.json").read_text())["template"] == "mine"
    page = report.html.read_text(encoding="utf-8")
    assert "own_strategy" in page and "no look-ahead found" in page


@pytest.mark.parametrize("where", ["notebooks/taken.ipynb", "taken.ipynb"])
def test_no_file_is_written_over(workplace, where):
    path = workplace / where
    path.parent.mkdir(exist_ok=True)
    path.write_text("mine")
    done = new("taken")
    assert done.exit_code == 2 and f"there is a {where} already" in done.stderr
    assert path.read_text() == "mine"


def test_folder_under_this_name_is_not_written_over(workplace):
    (workplace / "taken.ipynb").mkdir()
    assert new("taken").exit_code == 2


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", "../x", "a/b", "/tmp/x", "a.ipynb", "a b", "ä", "x" * 81, "a\0", "a\n", "{name}", "-x", "--"],
)
def test_name_that_is_no_plain_file_stem_is_refused(workplace, name):
    with pytest.raises(ParameterError, match="is no name for a notebook"):
        new_notebook(name)
    assert list(workplace.iterdir()) == []


def test_template_is_copied_whole(notebooks):
    done = new("mine", "--template", "report_backtest")
    assert (done.exit_code, done.stdout) == (0, "notebooks/mine.ipynb\n")
    assert read(notebooks / "mine.ipynb") == read(find_template("report_backtest"))
    assert read_parameters(find_template("mine")) == read_parameters(find_template("report_backtest"))


def test_copy_leaves_out_what_cells_showed(workplace):
    path = new_notebook("first")
    notebook = read(path)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.update(execution_count=3, outputs=[nbformat.v4.new_output("stream", text="shown")])
    nbformat.write(notebook, path)
    copy = read(new_notebook("second", str(path)))
    nbformat.validate(copy)
    assert all(cell.outputs == [] and cell.execution_count is None for cell in copy.cells if cell.cell_type == "code")


def test_copy_leaves_out_what_a_run_has_noted(workplace):
    """Times, paths, and sliders that no longer move."""
    path = new_notebook("first")
    notebook, clean = read(path), path.read_text()
    notebook.metadata.update(papermill={"start_time": "2020"}, widgets={"state": {}})
    for cell in notebook.cells:
        cell.metadata.update(papermill={"duration": 1.0}, execution={"iopub.status.idle": "2020"})
    path.write_text(nbformat.writes(notebook))
    assert new_notebook("second", str(path)).read_text() == clean


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("report_bactest", "did you mean 'report_backtest'"),
        ("none.ipynb", "there is no template"),
        ("broken.ipynb", "is not a notebook"),
        ("plain.ipynb", "needs one cell tagged 'parameters'"),
    ],
)
def test_template_that_is_none_is_refused(workplace, template, said):
    (workplace / "broken.ipynb").write_text("{")
    nbformat.write(nbformat.v4.new_notebook(), workplace / "plain.ipynb")
    done = new("mine", "--template", template)
    assert done.exit_code == 2 and said in done.stderr and not (workplace / "mine.ipynb").exists()


def test_name_of_a_shipped_template_is_for_a_copy_of_it_only(workplace):
    """A short notebook by that name would silently take the place of the template."""
    done = new("report_backtest")
    assert done.exit_code == 2 and "copy it by --template report_backtest" in done.stderr
    assert list(workplace.iterdir()) == []
    assert new("report_backtest", "--template", "report_backtest").exit_code == 0
    assert find_template("report_backtest").resolve() == workplace / "report_backtest.ipynb"


def test_full_disk_leaves_nothing(workplace):
    """A limit on the size of files stands for a full disk."""
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    try:
        with pytest.raises(BackgridError, match="cannot write mine.ipynb.*File too large"):
            new_notebook("mine")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(workplace.iterdir()) == []


def test_command_explains_itself():
    done = new("--help")
    assert done.exit_code == 0 and "NAME" in done.stdout and "--template" in done.stdout
