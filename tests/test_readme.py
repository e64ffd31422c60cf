"""The README says what is: its Python examples run, and its commands exist."""

import doctest
import re
from pathlib import Path

import pytest

from backgrid import BacktestResult, fetch_ohlcv, run_backtest
from backgrid.cli import main
from backgrid.metrics import METRICS

README = Path(__file__).parents[1] / "README.md"


def test_python_examples_of_the_readme_run():
    outcome = doctest.testfile(str(README), module_relative=False, optionflags=doctest.NORMALIZE_WHITESPACE)
    assert outcome.attempted >= 8
    assert outcome.failed == 0


def test_commands_and_targets_that_the_readme_names_exist():
    text = README.read_text(encoding="utf-8")
    makefile = (README.parent / "Makefile").read_text(encoding="utf-8")
    named = set(re.findall(r"(?:^|`)make ([a-z]+)", text, flags=re.MULTILINE))
    assert {"report", "test"} <= named
    assert all(re.search(rf"^{target}:", makefile, flags=re.MULTILINE) for target in named)
    assert set(re.findall(r"(?:^|`)backgrid ([a-z]+)", text, flags=re.MULTILINE)) <= set(main.commands)


def test_number_of_metrics_in_the_readme_is_true():
    assert f"metrics: {len(METRICS)}," in README.read_text(encoding="utf-8")


def test_example_report_shows_what_its_request_gives_today():
    folder = README.parent / "reports" / "example"
    kept = BacktestResult.from_json((folder / "result.json").read_text(encoding="utf-8"))
    today = run_backtest(fetch_ohlcv("AAPL", source="sample"), fees=0.001)
    assert kept.metrics == pytest.approx(today.metrics, rel=1e-9, nan_ok=True)
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert kept.data["snapshot"] == today.data["snapshot"] and kept.data["snapshot"] in page
