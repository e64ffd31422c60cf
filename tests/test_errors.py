"""An error raised on purpose is short in a notebook, and its traceback is one `%tb` away."""

import re

import nbformat
import pytest
from IPython.core.interactiveshell import InteractiveShell
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

from backgrid.errors import NoDataError

MISTAKE = """from backgrid import ParameterError

def refuse(window):
    raise ParameterError(f"window must be at least 1 bar, got {window}")

refuse(-3)"""


@pytest.fixture
def say(capsys):
    """`say(cell)` runs a cell and gives what IPython prints, without colours."""
    shell = InteractiveShell.instance()

    def run(cell):
        shell.run_cell(cell)
        printed = capsys.readouterr()
        return re.sub(r"\x1b\[[0-9;]*m", "", printed.out + printed.err)

    yield run
    InteractiveShell.clear_instance()


def test_notebook_shows_type_message_and_the_lines_of_its_own(say):
    said = say(MISTAKE)
    assert said.splitlines() == [
        "ParameterError: window must be at least 1 bar, got -3",
        "(line 6; line 4 of refuse; %tb shows the traceback)",
    ]


def test_tb_shows_the_whole_traceback_afterwards(say):
    say(MISTAKE)
    said = say("%tb")
    assert "Traceback (most recent call last)" in said
    assert "refuse(-3)" in said and "raise ParameterError" in said
    assert "ParameterError: window must be at least 1 bar, got -3" in said


def test_other_errors_are_shown_as_ever(say):
    assert "Traceback (most recent call last)" in say("1 / 0")


def test_error_inside_the_package_names_the_line_that_called_it(say):
    said = say("import backgrid\n\nbackgrid.calculate_ma_crossover_signals([1.0, 2.0], 5, 3)")
    assert said.splitlines() == [
        "ParameterError: fast_window 5 must be below slow_window 3",
        "(line 3; %tb shows the traceback)",
    ]


def test_of_many_steps_the_first_and_the_last_are_named(say):
    said = say(
        MISTAKE.replace("    raise", "    if window < -1:\n        refuse(window + 1)\n    raise").replace("-3", "-9")
    )
    assert said.splitlines()[1] == "(line 8; ...; line 5 of refuse; line 6 of refuse; %tb shows the traceback)"


def test_error_with_several_parts_is_shown_as_its_message(say):
    error = NoDataError("NOPE", "2023-01-01..2023-12-31", "no bars", "Ask for another range.")
    say("from backgrid.errors import NoDataError")
    said = say(f"raise NoDataError(*{error.args!r})")
    assert said.splitlines()[0] == f"NoDataError: {error}"


def test_run_notebook_keeps_name_message_and_the_short_form(tmp_path):
    """papermill and nbclient read the first two; the last is what stands in the notebook they leave behind."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(MISTAKE)])
    with pytest.raises(CellExecutionError, match="ParameterError: window must be at least 1 bar, got -3"):
        NotebookClient(notebook, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}).execute()
    (output,) = notebook.cells[0].outputs
    assert (output.ename, output.evalue) == ("ParameterError", "window must be at least 1 bar, got -3")
    assert len(output.traceback) == 2 and "Traceback" not in "".join(output.traceback)
