"""The README says what is: its Python examples run, and its commands exist."""

import doctest
import json
import re
import subprocess
from pathlib import Path

import psycopg
import pytest
from conftest import program
from servers import run_postgres, run_service

from backgrid import BacktestResult, fetch_ohlcv, run_backtest
from backgrid.cli import main
from backgrid.jobs.queue import open_queue
from backgrid.jobs.store import open_store
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


def test_curl_of_the_readme_works_as_written_on_the_embedded_default(tmp_path):
    program("curl")
    (command,) = re.findall(r"^(curl .*?)^```", README.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    settings = {"BACKGRID_DATABASE_URL": "", "BACKGRID_BROKER_URL": ""}  # the defaults
    with run_service(settings, tmp_path) as service:
        here = command.replace("http://127.0.0.1:8000", service.url)
        assert here != command
        done = subprocess.run(["bash", "-c", here], capture_output=True, text=True, timeout=60, check=True)
    answer = json.loads(done.stdout)
    assert answer["status"] == "completed" and len(answer["equity_curve"]) == 1257
    assert {"job_id", "sharpe", "max_drawdown", "total_return", "metrics", "runtime_seconds"} <= {*answer}
    assert (tmp_path / "backgrid.db").exists()


def test_database_of_the_readme_is_made_and_opened_by_its_lines():
    text = README.read_text(encoding="utf-8")
    (line,) = re.findall(r"^sudo -u postgres psql (.*)$", text, flags=re.MULTILINE)
    exported = dict(re.findall(r"^export (BACKGRID_\w+)=(\S+)", text, flags=re.MULTILINE))
    assert {*exported} == {"BACKGRID_BROKER_URL", "BACKGRID_DATABASE_URL"}
    open_queue(exported["BACKGRID_BROKER_URL"], "backgrid").close()
    with run_postgres() as server:
        with psycopg.connect(server.url, autocommit=True) as connection:
            for statement in re.findall('-c "([^"]*)"', line):
                connection.execute(statement)
        place = server.url.partition("@")[2].partition("/")[0]
        url = exported["BACKGRID_DATABASE_URL"]
        open_store(url.replace("@127.0.0.1/", f"@{place}/")).dispose()
