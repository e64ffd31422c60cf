"""The walk-forward report: what was chosen before and traded after, the same bytes twice, wrong requests at once."""

import functools
import hashlib
import json
import re

import nbformat
import papermill
import pytest
from test_report import FILES, THE_SAME, Page, bytes_of, listing, run_elsewhere

from backgrid.data import fetch_ohlcv
from backgrid.errors import DataFetchError, ParameterError, PricesError
from backgrid.ledger import count_trials, read_ledger
from backgrid.models import BacktestRequest
from backgrid.report import run_report
from backgrid.result import BacktestResult
from backgrid.templates import find_template, list_templates, read_parameters
from backgrid.walkforward import walk_forward

TEMPLATE = find_template("report_walk_forward").resolve()
GRID = {"fast_window": range(5, 61, 5), "slow_window": range(20, 201, 10)}
WINDOWS = {"train", "test", "gap", "anchored", "shorter_last", "metric"}


@functools.cache
def finished():
    """The report with the defaults of the template, made once for all tests that only look at it."""
    return run_report("report_walk_forward")


@functools.cache
def finished_page():
    return Page(finished().html.read_text(encoding="utf-8"))


# ---- what it is ------------------------------------------------------------------------------------------------------


def test_folder_holds_the_usual_files():
    assert listing(finished().path) == FILES
    assert re.fullmatch(r"AAPL_ma_crossover_[0-9a-f]{10}", finished().path.name)


def test_recorded_result_is_the_run_out_of_sample():
    prices = fetch_ohlcv("AAPL", source="sample")
    forward = walk_forward(prices, "ma_crossover", GRID, train=500, test=125, fees=0.001)
    assert finished().result == forward.result
    assert (finished().path / "result.json").read_text() == finished().result.to_json() + "\n"


def test_page_answers_first_and_shows_its_evidence_in_order():
    page = finished_page()
    assert [heading.text.removesuffix("#") for heading in page.all("h2")] == [
        *("Equity out of sample", "In sample against out of sample", "Folds", "Do the parameters hold still?"),
        *("Months and years", "Does it survive its assumptions?", "All metrics out of sample", "Parameters"),
        *("Data", "Provenance"),
    ]
    assert page.all("title")[0].text == "AAPL ma_crossover"
    assert page.all("h1")[0].text == "Moving-average crossover on AAPL, walked forward"


def test_verdicts_name_holding_efficiency_folds_parameters_look_ahead_and_trials():
    chips = [item.text for item in finished_page().all("li")]
    for said in (
        *("beat holding by return", "efficiency 0.", "gains in", "parameters wander", "no fold is flat"),
        *("chose from 203 trials", "no look-ahead found", "95 % interval of the Sharpe", "twice the costs"),
    ):
        assert [chip for chip in chips if said in chip.replace("\u202f", " ")], said


def test_every_figure_is_drawn_and_has_words():
    figures = [element.attributes for element in finished_page().all("div") if element.attributes.get("role") == "img"]
    assert len(figures) == len(finished_page().all("svg")) == len(finished_page().all("figcaption")) == 3
    assert all(len(figure["aria-label"]) > 20 for figure in figures)


def test_page_is_one_small_file_that_loads_nothing():
    text = finished().html.read_text(encoding="utf-8")
    assert len(text.encode()) < 1_000_000
    assert not re.search(r"""(src|href|action)\s*=\s*["']?(https?:)?//|@import|url\((?!#)""", text)


def test_provenance_holds_the_whole_request():
    provenance = json.loads((finished().path / "provenance.json").read_text())
    assert provenance["parameters"].keys() == read_parameters(TEMPLATE).keys()
    assert provenance["snapshot"] == fetch_ohlcv("AAPL", source="sample").attrs["snapshot"]
    assert provenance["template_sha256"] == hashlib.sha256(TEMPLATE.read_bytes()).hexdigest()


def test_template_is_listed_and_offers_what_the_sweep_report_offers():
    """Names that mean the same have the same defaults and the same words."""
    assert "report_walk_forward" in list_templates()
    declared, sister = read_parameters(TEMPLATE), read_parameters(find_template("report_grid"))
    assert declared.keys() == BacktestRequest.model_fields.keys() - {"params"} | {"grid", "where"} | WINDOWS
    for name in declared.keys() - WINDOWS:
        assert declared[name] == sister[name], name


def test_papermill_reads_every_parameter_that_is_declared():
    read = papermill.inspect_notebook(str(TEMPLATE))
    assert read.keys() == read_parameters(TEMPLATE).keys()


def test_cells_hold_calls_and_prose_only():
    for cell in nbformat.read(TEMPLATE, as_version=4).cells:
        assert cell.cell_type == "markdown" or not re.search(
            r"^\s*(def|for|while|if|class|try|with)\b", cell.source, re.M
        )


# ---- the same again --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def made_again(tmp_path_factory):
    """The same request by the command line: another folder, time zone, locale, hash seed, and matplotlib style."""
    folder = tmp_path_factory.mktemp("made again")
    (folder / "matplotlibrc").write_text("font.size: 30\naxes.grid: False\npatch.linewidth: 9\n")
    strange = {"TZ": "Asia/Kathmandu", "LC_ALL": "C", "PYTHONHASHSEED": "42", "COLUMNS": "40"}
    return folder, run_elsewhere(folder, "backgrid", "report", "report_walk_forward", "--out", "out", **strange)


def test_command_makes_the_same_report_to_the_byte(made_again):
    folder, done = made_again
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1] == f"out/{finished().path.name}/report.html"
    assert bytes_of(folder / "out" / finished().path.name) == bytes_of(finished().path, THE_SAME)


def test_plain_papermill_takes_every_parameter_as_a_word(tmp_path):
    """Declared so that papermill reads them all: it warns of none, and the run goes through."""
    words = {
        "symbol": "GOOG",
        "strategy": "momentum",
        "grid": "window 20:60:20",
        "where": "window > 20",
        "train": 400,
        "test": 200,
        "gap": 20,
        "anchored": True,
        "shorter_last": True,
        "metric": "calmar",
    }
    asked = [word for name, value in words.items() for word in ("-p", name, str(value))]
    done = run_elsewhere(tmp_path, "papermill", str(TEMPLATE), "out.ipynb", "-k", "python3", *asked)
    assert done.returncode == 0, done.stderr
    assert "unknown parameter" not in done.stderr
    cells = nbformat.read(tmp_path / "out.ipynb", as_version=4).cells
    (recorded,) = cells[-1].outputs
    result = BacktestResult.from_json("".join(recorded["data"]["application/vnd.backgrid.result"]))
    assert (result.symbol, result.strategy) == ("GOOG", "momentum, walk-forward")
    assert result.params == {"train": 400, "test": 200, "gap": 20, "anchored": True, "metric": "calmar"}


def test_report_in_which_no_fold_could_choose_still_says_so(tmp_path):
    """A price that never moves is never traded."""
    rows = "\n".join(f"{day:%Y-%m-%d},10,10,10,10,1" for day in fetch_ohlcv("AAPL", source="sample").index[:120])
    (tmp_path / "flat.csv").write_text(f"Date,Open,High,Low,Close,Volume\n{rows}\n")
    asked = {
        "source": str(tmp_path / "flat.csv"),
        "train": 50,
        "test": 20,
        "strategy": "momentum",
        "grid": "window 2|5",
    }
    text = run_report("report_walk_forward", asked, out=tmp_path / "out").html.read_text(encoding="utf-8")
    assert "flat in 3 of 3 folds: no trial could be chosen" in text
    assert "not tested here: look-ahead" in text


@pytest.mark.parametrize(
    "grid", ["fast_window 5|10, slow_window 20|50|100", " fast_window=5 | 10,slow_window  20|50|100, "]
)
def test_request_is_the_same_however_its_grid_is_written(no_run, tmp_path, grid):
    small = {"symbol": "AAPL", "grid": "fast_window 5|10, slow_window 20|50|100"}
    folder = run_report("report_walk_forward", {"symbol": "aapl", "grid": grid}, out=tmp_path).path.name
    assert folder == run_report("report_walk_forward", small, out=tmp_path).path.name
    assert no_run == [small] * 2


@pytest.mark.parametrize(
    "request_",
    [
        {"strategy": "momentum", "grid": "window 20:120:20", "stop_loss": 0.1, "anchored": True, "gap": 20},
        {"strategy": "rsi_reversion", "grid": "window 7|14, lower 20:40:5.0", "metric": "max_drawdown"},
        {"symbol": "EURUSD=X", "interval": "1h", "grid": "fast_window 10:60:10, slow_window 100", "train": 2000},
        {"start": "2023-01-01", "train": 200, "test": 300, "shorter_last": True},
    ],
    ids=str,
)
def test_other_requests_pass_the_check_and_reach_the_notebook(no_run, tmp_path, request_):
    run_report("report_walk_forward", request_, out=tmp_path)
    assert no_run == [request_]


def test_trials_are_noted_once_by_the_notebook_and_not_by_the_check(no_run, monkeypatch, tmp_path):
    monkeypatch.setenv("BACKGRID_LEDGER", str(tmp_path / "ledger.db"))
    run_report("report_walk_forward", out=tmp_path / "out")
    assert len(read_ledger()) == 0
    prices = fetch_ohlcv("AAPL", source="sample")
    walk_forward(prices, "ma_crossover", GRID, train=500, test=125)
    assert count_trials(strategy="ma_crossover") == 203


# ---- bad requests: refused before a kernel starts, with nothing written ----------------------------------------------


@pytest.mark.parametrize(
    ("request_", "error", "said"),
    [
        ({"train": 1}, ParameterError, "train must be"),
        ({"test": 0}, ParameterError, "test must be"),
        ({"gap": -1}, ParameterError, "gap must be"),
        ({"train": 1400}, ParameterError, "train 1,400 + gap 0 + test 125 = 1,525 bars for one fold, and prices have"),
        ({"train": 1500, "test": 9, "gap": 1}, ParameterError, "shorten one of them"),
        ({"train": 2.5}, ParameterError, "train must be a whole number"),
        ({"metric": "sharp"}, ParameterError, "no choice by metric 'sharp'; did you mean 'sharpe'"),
        ({"metric": "n_trades"}, ParameterError, "no choice by metric 'n_trades'"),
        ({"anchored": 1}, ParameterError, "anchored must be true or false"),
        ({"trian": 500}, ParameterError, "unknown parameter 'trian'; did you mean 'train'"),
        ({"n_trials": 5}, ParameterError, "unknown parameter 'n_trials'"),
        ({"grid": "fast_windw 5:9"}, ParameterError, "no parameter 'fast_windw'; did you mean 'fast_window'"),
        ({"where": "fast_window > slow_window + 999"}, ParameterError, "where leaves out all 228 combinations"),
        ({"grid": "fast_window 60|80, slow_window 20|50"}, ParameterError, "every combination is refused"),
        ({"strategy": "momentum"}, ParameterError, "momentum has no parameter 'fast_window'"),
        ({"symbol": "MSFT"}, DataFetchError, "the embedded sample has no 1d bars"),
        ({"start": "2024-12-30"}, PricesError, "a backtest needs two bars at least, got 1"),
        ({"fees": 1.0}, ParameterError, "fees"),
        ({"sizing": "risk"}, ParameterError, "sizing"),
    ],
    ids=str,
)
def test_bad_request_is_refused_with_nothing_written(no_kernel, tmp_path, request_, error, said):
    with pytest.raises(error, match=re.escape(said)):
        run_report("report_walk_forward", request_, out=tmp_path / "out")
    assert listing(tmp_path) == []
