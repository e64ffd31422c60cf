"""Imports go downwards, each heavy library has one gate, and nothing heavy is loaded before it is used."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
HEAVY = {"numba", "matplotlib", "yfinance", "papermill", "nbconvert", "pydantic"}


def test_imports_keep_the_floors_and_the_gates():
    """The contracts of [tool.importlinter] in pyproject.toml."""
    lint = "from importlinter.cli import lint_imports; raise SystemExit(lint_imports(no_cache=True))"
    linted = subprocess.run([sys.executable, "-c", lint], cwd=ROOT, capture_output=True, text=True)
    assert linted.returncode == 0, linted.stdout + linted.stderr
    assert " 0 broken" in linted.stdout, linted.stdout


@pytest.mark.parametrize("arguments", [["-c", "import backgrid"], ["-m", "backgrid", "--help"]], ids=" ".join)
def test_start_loads_nothing_heavy(arguments):
    command = [sys.executable, "-X", "importtime", *arguments]
    started = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = {line.rsplit("|", 1)[-1].strip() for line in started.stderr.splitlines() if "|" in line}
    assert "backgrid" in loaded
    assert sorted(HEAVY & {name.split(".")[0] for name in loaded}) == []
