"""The sweep report: its winner beside the number of trials, the same bytes twice, wrong requests before a kernel."""

import functools
import hashlib
import json
import re

import nbformat
import numpy as np
import papermill
import pytest
from test_report import FILES, THE_SAME, Page, bytes_of, listing, run_elsewhere

from backgrid.bars import hash_bars
from backgrid.data import fetch_ohlcv
from backgrid.engine import run_backtest
from backgrid.errors import BackgridError, DataFetchError, ParameterError, PricesError
from backgrid.grid import run_grid
from backgrid.ledger import count_trials, record_trials
from backgrid.models import BacktestRequest
from backgrid.report import run_report
from backgrid.result import BacktestResult
from backgrid.templates import check_parameters, find_template, list_templates, parse_words, read_parameters

TEMPLATE = find_template("report_grid").resolve()
GRID = {"fast_window": range(5, 61, 5), "slow_window": range(20, 201, 10)}
SMALL = {"grid": "fast_window 5|10, slow_window 20|50|100"}  # 6 combinations, none refused


@functools.cache
def finished():
    """The report with the defaults of the template, made once for all tests that only look at it."""
    return run_report("report_grid")


@functools.cache
def finished_page():
    return Page(finished().html.read_text(encoding="utf-8"))


# ---- what it is ------------------------------------------------------------------------------------------------------


def test_folder_holds_the_usual_files():
    assert listing(finished().path) == FILES
    assert re.fullmatch(r"AAPL_ma_crossover_[0-9a-f]{10}", finished().path.name)


def test_recorded_result_is_the_backtest_of_the_winner():
    prices = fetch_ohlcv("AAPL", source="sample")
    sweep = run_grid(prices, "ma_crossover", GRID, fees=0.001)
    assert finished().result == run_backtest(prices, "ma_crossover", params=sweep.best().params, fees=0.001)
    assert (finished().path / "result.json").read_text() == finished().result.to_json() + "\n"


def test_page_answers_first_and_shows_its_evidence_in_order():
    page = finished_page()
    assert [heading.text.removesuffix("#") for heading in page.all("h2")] == [
        *("Equity and drawdown", "Is it luck?", "All trials", "Maps", "Neighbours of the winner"),
        *("Chosen on one half, traded on the other", "Does it survive its assumptions?", "What was tried"),
        *("All metrics of the winner", "Parameters", "Data", "Provenance"),
    ]
    assert page.all("title")[0].text == "AAPL ma_crossover"
    assert page.all("h1")[0].text == "Moving-average crossover 5/20 on AAPL, the best of 203 trials"


def test_verdicts_name_the_trials_look_ahead_overfitting_and_the_reality_check():
    chips = [item.text for item in finished_page().all("li")]
    for said in ("the best of 203 trials", "no look-ahead found", "probability of overfitting", "reality check of all"):
        assert [chip for chip in chips if said in chip], said


def test_every_figure_is_drawn_and_has_words():
    figures = [element.attributes for element in finished_page().all("div") if element.attributes.get("role") == "img"]
    assert len(figures) == len(finished_page().all("svg")) == len(finished_page().all("figcaption")) == 4
    assert all(len(figure["aria-label"]) > 20 for figure in figures)


def test_page_is_one_small_file_that_loads_nothing():
    text = finished().html.read_text(encoding="utf-8")
    assert len(text.encode()) < 1_000_000
    assert not re.search(r"""(src|href|action)\s*=\s*["']?(https?:)?//|@import|url\((?!#)""", text)


def test_provenance_holds_the_whole_request():
    provenance = json.loads((finished().path / "provenance.json").read_text())
    assert provenance["parameters"]["grid"] == "fast_window 5:60:5, slow_window 20:200:10"
    assert provenance["parameters"].keys() == read_parameters(TEMPLATE).keys()
    assert provenance["snapshot"] == fetch_ohlcv("AAPL", source="sample").attrs["snapshot"]
    assert provenance["template_sha256"] == hashlib.sha256(TEMPLATE.read_bytes()).hexdigest()


def test_template_is_listed_and_offers_every_term_of_a_request():
    assert "report_grid" in list_templates()
    own = {"grid", "where", "n_trials", "n_boot", "seed"}
    declared = read_parameters(TEMPLATE)
    assert declared.keys() == BacktestRequest.model_fields.keys() - {"params"} | own
    usual = BacktestRequest(symbol="AAPL", source="sample", fees=0.001).model_dump(mode="json")
    for name in declared.keys() - own - {"start", "end"}:
        assert declared[name].default == usual[name], name


def test_papermill_reads_every_parameter_that_is_declared():
    read = papermill.inspect_notebook(str(TEMPLATE))
    assert read.keys() == read_parameters(TEMPLATE).keys()
    assert read["n_trials"]["inferred_type_name"] == "str, int, None"


# ---- the same again --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def made_again(tmp_path_factory):
    """The same request by the command line: another folder, time zone, locale, hash seed, and matplotlib style."""
    folder = tmp_path_factory.mktemp("made again")
    (folder / "matplotlibrc").write_text("font.size: 30\naxes.grid: False\npatch.linewidth: 9\n")
    strange = {"TZ": "Asia/Kathmandu", "LC_ALL": "C", "PYTHONHASHSEED": "42", "COLUMNS": "40"}
    return folder, run_elsewhere(folder, "backgrid", "report", "report_grid", "--out", "out", **strange)


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
        "n_trials": 50,
    }
    asked = [word for name, value in words.items() for word in ("-p", name, str(value))]
    done = run_elsewhere(tmp_path, "papermill", str(TEMPLATE), "out.ipynb", "-k", "python3", *asked)
    assert done.returncode == 0, done.stderr
    assert "unknown parameter" not in done.stderr
    cells = nbformat.read(tmp_path / "out.ipynb", as_version=4).cells
    (recorded,) = cells[-1].outputs
    result = BacktestResult.from_json("".join(recorded["data"]["application/vnd.backgrid.result"]))
    assert (result.symbol, result.strategy) == ("GOOG", "momentum")
    assert result.params["window"] in (40, 60)


@pytest.mark.parametrize(
    "grid", ["fast_window 5|10, slow_window 20|50|100", " fast_window=5 | 10,slow_window  20|50|100, "]
)
def test_request_is_the_same_however_its_grid_is_written(no_run, tmp_path, grid):
    folder = run_report("report_grid", {"symbol": "aapl", "grid": grid}, out=tmp_path).path.name
    assert folder == run_report("report_grid", {"symbol": "AAPL", **SMALL}, out=tmp_path).path.name
    assert no_run == [{"symbol": "AAPL", **SMALL}] * 2


@pytest.mark.parametrize(
    "request_",
    [
        {"strategy": "momentum", "grid": "window 20:120:20", "stop_loss": 0.1, "seed": 3, "n_boot": 200},
        {"strategy": "rsi_reversion", "grid": "window 7|14, lower 20:40:5.0", "fill": "next_close"},
        {"where": "fast_window < slow_window and slow_window > 50", "n_trials": 10_000},
        {
            "symbol": "EURUSD=X",
            "interval": "1h",
            "grid": "fast_window 10:60:10, slow_window 100",
        },
        {"grid": "fast_window 100|5, slow_window 20", "start": "2023-01-01", "end": "2023-12-31"},
    ],
    ids=str,
)
def test_other_requests_pass_the_check_and_reach_the_notebook(no_run, tmp_path, request_):
    run_report("report_grid", request_, out=tmp_path)
    assert no_run == [request_]


def test_templates_of_ones_own_may_sweep_too(no_run, tmp_path):
    source = 'symbol: str = "AAPL"\nsource: str = "sample"\nstrategy: str = "momentum"\ngrid: str = "window  5:9"'
    cells = [nbformat.v4.new_code_cell(source, metadata={"tags": ["parameters"]})]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), tmp_path / "report_own.ipynb")
    run_report(tmp_path / "report_own.ipynb", out=tmp_path / "out")
    assert no_run == [{"grid": "window 5:9"}]


# ---- how many trials -------------------------------------------------------------------------------------------------


@pytest.fixture
def ledger(tmp_path, monkeypatch):
    """A ledger with 1,000 trials of another grid on AAPL, and as many of another strategy, and on other bars."""
    monkeypatch.setenv("BACKGRID_LEDGER", str(tmp_path / "ledger.db"))
    data = hash_bars(fetch_ohlcv("AAPL", source="sample"))
    known = {"n_trials": 1000, "kind": "sweep", "symbol": "AAPL", "request": {"grid": "another"}}
    record_trials(data=data, strategy="ma_crossover", **known)
    record_trials(data=data, strategy="momentum", **known)
    record_trials(data="other bars", strategy="ma_crossover", **known)
    return functools.partial(count_trials, data=data, strategy="ma_crossover")


def test_ledger_is_counted_once_and_frozen_into_the_request(no_run, ledger, tmp_path):
    """The sweep's own six count, whether or not it has been made before."""
    first = run_report("report_grid", {**SMALL, "n_trials": "ledger"}, out=tmp_path / "out")
    assert ledger() == 1006
    again = run_report("report_grid", {**SMALL, "n_trials": "ledger"}, out=tmp_path / "out")
    given = run_report("report_grid", {**SMALL, "n_trials": 1006}, out=tmp_path / "out")
    assert first.path == again.path == given.path
    assert no_run == [{**SMALL, "n_trials": 1006}] * 3
    assert json.loads((first.path / "provenance.json").read_text())["parameters"]["n_trials"] == 1006


def test_ledger_as_default_of_a_template_is_frozen_too(no_run, ledger, tmp_path):
    own = TEMPLATE.read_text(encoding="utf-8").replace(
        'None\\" = None  # to deflate', 'None\\" = \\"ledger\\"  # to deflate'
    )
    (tmp_path / "report_own.ipynb").write_text(own, encoding="utf-8")
    run_report(tmp_path / "report_own.ipynb", SMALL, out=tmp_path / "out")
    assert no_run == [{**SMALL, "n_trials": 1006}]


def test_later_trials_leave_a_report_of_a_number_alone(ledger, tmp_path):
    """A report by the ledger is made again from the number in its provenance, to the byte."""
    report = run_report("report_grid", {**SMALL, "n_trials": "ledger"}, out=tmp_path / "one")
    assert "and of 1,006 that were counted" in report.html.read_text(encoding="utf-8")
    prices = fetch_ohlcv("AAPL", source="sample")
    run_grid(prices, "ma_crossover", {"fast_window": [3, 4]}, fees=0.001)
    assert ledger() == 1008
    asked = json.loads((report.path / "provenance.json").read_text())["parameters"]
    n_trials = asked["n_trials"]
    again = run_report("report_grid", {**SMALL, "n_trials": n_trials}, out=tmp_path / "two")
    assert again.path.name == report.path.name
    assert bytes_of(again.path) == bytes_of(report.path)


def test_ledger_that_is_off_cannot_be_asked(no_kernel, tmp_path):
    with pytest.raises(BackgridError, match="ledger is off"):
        run_report("report_grid", {**SMALL, "n_trials": "ledger"}, out=tmp_path / "out")
    assert listing(tmp_path) == []


def test_number_of_trials_may_be_that_of_the_sweep_and_not_less(no_run, tmp_path):
    """Refused ones are no trials: 203 of 228 combinations are."""
    run_report("report_grid", {"n_trials": 203}, out=tmp_path)
    assert no_run == [{"n_trials": 203}]
    with pytest.raises(ParameterError, match="at least 203, which this sweep has tried; got 202"):
        run_report("report_grid", {"n_trials": 202}, out=tmp_path)


@pytest.mark.parametrize(("word", "value"), [("500", 500), ("ledger", "ledger"), ("none", None), ("5.5", "5.5")])
def test_text_or_whole_number_is_read_from_a_word(word, value):
    declared = read_parameters(TEMPLATE)
    assert parse_words(declared, {"n_trials": word}) == {"n_trials": value}
    assert check_parameters(declared, {"n_trials": value}) == {"n_trials": value}


def test_numpy_number_is_a_number_of_trials():
    taken = check_parameters(read_parameters(TEMPLATE), {"n_trials": np.int64(5)})["n_trials"]
    assert (taken, type(taken)) == (5, int)


@pytest.mark.parametrize("value", [True, 5.0, [5]])
def test_neither_text_nor_whole_number_is_refused(value):
    with pytest.raises(ParameterError, match="n_trials must be text or a whole number"):
        check_parameters(read_parameters(TEMPLATE), {"n_trials": value})


# ---- bad requests: refused before a kernel starts, with nothing written ----------------------------------------------


@pytest.mark.parametrize(
    ("request_", "error", "said"),
    [
        ({"grid": ""}, ParameterError, "grid must name parameters and their values"),
        ({"grid": "fast_window"}, ParameterError, "grid, part 'fast_window': give a name and its values"),
        ({"grid": "fast_window 5:x"}, ParameterError, "grid, part 'fast_window 5:x': a range is first:last"),
        ({"grid": "fast_windw 5:9"}, ParameterError, "no parameter 'fast_windw'; did you mean 'fast_window'"),
        ({"grid": "fast_window 0.5|2"}, ParameterError, "fast_window must be a whole number, got 0.5"),
        ({"grid": "fast_window 1:2000, slow_window 1:2000"}, ParameterError, "4,000,000 combinations"),
        (
            {"grid": "fast_window 60|80, slow_window 20|50"},
            ParameterError,
            "every combination is refused; the first says",
        ),
        ({"grid": "slow_window 2000|3000"}, ParameterError, "every combination is refused; the first says"),
        ({"grid": ["fast_window 5:9"]}, ParameterError, "grid must be text"),
        ({"where": "fast_window > slow_window + 999"}, ParameterError, "where leaves out all 228 combinations"),
        ({"where": "fast_windw < 5"}, ParameterError, "where: the grid has no parameter 'fast_windw'; did you mean"),
        ({"where": "fast_window <"}, ParameterError, "where cannot be read"),
        ({"where": "fast_window + 5"}, ParameterError, "where must be true or false"),
        ({"strategy": "macdd"}, ParameterError, "did you mean 'macd'"),
        ({"strategy": "momentum"}, ParameterError, "momentum has no parameter 'fast_window'"),
        ({"strategy": "buy_and_hold", "grid": "window 5"}, ParameterError, "buy_and_hold has no parameter 'window'"),
        ({"symbol": "MSFT"}, DataFetchError, "the embedded sample has no 1d bars"),
        ({"symbol": "../../etc/passwd"}, ParameterError, "is not a ticker"),
        ({"start": "2024-12-30"}, PricesError, "a backtest needs two bars at least, got 1"),
        ({"start": "2024-01-01", "end": "2023-01-01"}, ParameterError, "end 2023-01-01 is before start 2024-01-01"),
        ({"n_trials": "ledgr"}, ParameterError, "n_trials must be 'ledger' or a whole number of at least 203"),
        ({"n_trials": -1}, ParameterError, "n_trials must be 'ledger' or a whole number of at least 203"),
        ({"n_boot": 0}, ParameterError, "n_boot must be"),
        ({"n_boot": 10**9}, ParameterError, "n_boot must be"),
        ({"seed": -1}, ParameterError, "seed must be"),
        ({"fees": 1.0}, ParameterError, "fees"),
        ({"fill": "next_opn"}, ParameterError, "fill"),
        ({"sizing": "risk"}, ParameterError, "sizing"),
        ({"fast_window": 5}, ParameterError, "unknown parameter 'fast_window'"),
    ],
    ids=str,
)
def test_bad_request_is_refused_with_nothing_written(no_kernel, tmp_path, request_, error, said):
    with pytest.raises(error, match=re.escape(said)):
        run_report("report_grid", request_, out=tmp_path / "out")
    assert listing(tmp_path) == []


def test_check_runs_one_combination_and_not_the_sweep(no_run, monkeypatch, tmp_path):
    run = []
    monkeypatch.setattr("backgrid.report.run_grid", lambda *_, **__: pytest.fail("the sweep was made"))
    monkeypatch.setattr("backgrid.report.run_backtest", lambda *_, **given: run.append(given["params"]))
    run_report("report_grid", {"n_trials": 5000}, out=tmp_path)
    assert run == [{"fast_window": 5, "slow_window": 20}]


def test_of_very_many_refused_combinations_some_are_tried(no_run, monkeypatch, tmp_path):
    monkeypatch.setattr("backgrid.report.MOST_REFUSED", 2)
    tried = []

    def refuse(*_, params, **__):
        tried.append(params["fast_window"])
        raise ParameterError("no")

    monkeypatch.setattr("backgrid.report.run_backtest", refuse)
    run_report("report_grid", {"grid": "fast_window 1:5"}, out=tmp_path)
    assert tried == [1, 4]
    with pytest.raises(ParameterError, match="every combination is refused; the first says: no"):
        run_report("report_grid", {"grid": "fast_window 1:2"}, out=tmp_path)
