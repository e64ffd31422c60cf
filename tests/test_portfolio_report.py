"""The portfolio report: one command, the same bytes twice, and what is wrong is said before a kernel starts."""

import functools
import hashlib
import json
import re

import nbformat
import papermill
import pytest
from test_report import FILES, THE_SAME, Page, bytes_of, listing, run_elsewhere

from backgrid.data import fetch_many
from backgrid.errors import DataFetchError, ParameterError, PricesError
from backgrid.portfolio import run_portfolio
from backgrid.report import run_report
from backgrid.result import RESULT_TYPE, BacktestResult, PortfolioResult
from backgrid.templates import find_template, list_templates, read_parameters

TEMPLATE = find_template("report_portfolio").resolve()
FIVE = "AMZN GOOG META NFLX NVDA"
SIX = f"AAPL {FIVE}"
FOLDER = r"AAPL_AMZN_GOOG_META_NFLX_NVDA_equal_weight_[0-9a-f]{10}"


@functools.cache
def finished():
    """The report with the defaults of the template, made once for all tests that only look at it."""
    return run_report("report_portfolio")


@functools.cache
def finished_page():
    return Page(finished().html.read_text(encoding="utf-8"))


# ---- what it is ------------------------------------------------------------------------------------------------------


def test_folder_is_named_by_symbols_and_weights_and_holds_the_usual_files():
    assert listing(finished().path) == FILES
    assert re.fullmatch(FOLDER, finished().path.name)


def test_recorded_result_is_what_run_portfolio_gives():
    expected = run_portfolio(fetch_many(SIX, source="sample"), "equal_weight", rebalance="month", fees=0.001)
    assert isinstance(finished().result, PortfolioResult)
    assert finished().result == expected
    assert (finished().path / "result.json").read_text() == expected.to_json() + "\n"


def test_page_has_its_sections_in_order_and_a_title():
    assert [heading.text.removesuffix("#") for heading in finished_page().all("h2")] == [
        *("Equity and drawdown", "Drawdowns", "Weights", "Contributions", "Turnover and costs", "Months and years"),
        *("Through time", "Trades", "Does it survive its assumptions?", "All metrics", "Parameters"),
        *("Data by symbol", "Provenance"),
    ]
    assert finished_page().all("title")[0].text == f"{SIX} equal_weight"
    assert finished_page().all("h1")[0].text == "Equal weights on AAPL, AMZN, GOOG, META, NFLX, NVDA"


def test_every_figure_is_drawn_and_has_words():
    figures = [element.attributes for element in finished_page().all("div") if element.attributes.get("role") == "img"]
    assert len(figures) == len(finished_page().all("svg")) == len(finished_page().all("figcaption")) == 6
    assert all(len(figure["aria-label"]) > 20 for figure in figures)


def test_page_is_one_small_file_that_loads_nothing():
    text = finished().html.read_text(encoding="utf-8")
    assert len(text.encode()) < 1_000_000
    assert not re.search(r"""(src|href|action)\s*=\s*["']?(https?:)?//|@import|url\((?!#)""", text)


def test_provenance_names_the_bars_of_each_symbol_and_the_weighting():
    provenance = json.loads((finished().path / "provenance.json").read_text())
    prices = fetch_many(SIX, source="sample")
    assert provenance["snapshot"] == {symbol: frame.attrs["snapshot"] for symbol, frame in prices.items()}
    assert provenance["prices_hash"] == finished().result.prices_hash
    assert provenance["template_sha256"] == hashlib.sha256(TEMPLATE.read_bytes()).hexdigest()
    assert re.fullmatch("[0-9a-f]{64}", provenance["strategy_sha256"])


def test_template_is_listed_and_offers_what_run_portfolio_takes():
    assert "report_portfolio" in list_templates()
    declared = read_parameters(TEMPLATE)
    assert {name: declared[name].default for name in ("symbols", "weights", "rebalance", "align", "fees")} == {
        "symbols": SIX,
        "weights": "equal_weight",
        "rebalance": "month",
        "align": "inner",
        "fees": 0.001,
    }


# ---- the same again --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def made_again(tmp_path_factory):
    """The same request by the command line: another folder, time zone, locale, hash seed, and matplotlib style."""
    folder = tmp_path_factory.mktemp("made again")
    (folder / "matplotlibrc").write_text("font.size: 30\naxes.grid: False\n")
    strange = {"TZ": "Asia/Kathmandu", "LC_ALL": "C", "PYTHONHASHSEED": "42", "COLUMNS": "40"}
    return folder, run_elsewhere(folder, "backgrid", "report", "report_portfolio", "--out", "out", **strange)


def test_command_makes_the_same_report_to_the_byte(made_again):
    folder, done = made_again
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1] == f"out/{finished().path.name}/report.html"
    assert bytes_of(folder / "out" / finished().path.name) == bytes_of(finished().path, THE_SAME)


def test_plain_papermill_gives_the_same_cells_and_outputs(tmp_path):
    done = run_elsewhere(tmp_path, "papermill", str(TEMPLATE), "out.ipynb", "-k", "python3")
    assert done.returncode == 0, done.stderr

    def content(path):
        cells = nbformat.read(path, as_version=4).cells
        return [(cell.cell_type, cell.source, cell.metadata.get("tags", []), cell.get("outputs")) for cell in cells]

    assert content(tmp_path / "out.ipynb") == content(finished().path / "report.ipynb")


def test_plain_papermill_takes_every_parameter_as_a_word(tmp_path):
    """Declared so that papermill reads them all: it warns of none, and the run goes through."""
    words = {"symbols": FIVE, "weights": "top_momentum", "window": 20, "top": 2, "rebalance": "week"}
    given = [word for name, value in words.items() for word in ("-p", name, str(value))]
    done = run_elsewhere(tmp_path, "papermill", str(TEMPLATE), "out.ipynb", "-k", "python3", *given)
    assert done.returncode == 0, done.stderr
    assert "unknown parameter" not in done.stderr
    cells = nbformat.read(tmp_path / "out.ipynb", as_version=4).cells
    recorded = [output["data"][RESULT_TYPE] for output in cells[-1].outputs if RESULT_TYPE in output.get("data", {})]
    result = BacktestResult.from_json("".join(recorded[0]))
    assert (result.strategy, result.params) == ("top_momentum", {"window": 20, "top": 2})
    assert result.settings["rebalance"] == "week"


@pytest.mark.parametrize("name", ["report_backtest", "report_portfolio"])
def test_papermill_reads_every_parameter_that_is_declared(name):
    read = papermill.inspect_notebook(str(find_template(name)))
    assert {each["inferred_type_name"].replace(", ", " | ") for each in read.values()} <= {
        *("str", "int", "float", "bool", "str | int", "str | float | None")
    }
    assert read.keys() == read_parameters(find_template(name)).keys()


@pytest.mark.parametrize("weights", ["NVDA 0.4, AAPL 0.6", " nvda .4,aapl 0.60 "])
def test_weights_may_be_given_as_text(no_run, tmp_path, weights):
    folder = run_report("report_portfolio", {"symbols": "AAPL NVDA", "weights": weights}, out=tmp_path).path.name
    assert re.fullmatch(r"AAPL_NVDA_NVDA_0.4_AAPL_0.6_[0-9a-f]{10}", folder)
    assert no_run == [{"symbols": "AAPL NVDA", "weights": "NVDA 0.4, AAPL 0.6"}]


def test_report_of_given_weights_is_that_of_the_run(tmp_path):
    request = {"symbols": "AAPL NVDA", "weights": "AAPL 0.6, NVDA -0.4", "borrow_rate": 0.02}
    expected = run_portfolio(
        fetch_many("AAPL NVDA", source="sample"),
        {"AAPL": 0.6, "NVDA": -0.4},
        rebalance="month",
        fees=0.001,
        borrow_rate=0.02,
    )
    assert run_report("report_portfolio", request, out=tmp_path).result == expected


@pytest.mark.parametrize("symbols", ["AAPL NVDA", "aapl, nvda", " AAPL,NVDA "])
def test_request_is_the_same_however_its_symbols_are_written(no_run, tmp_path, symbols):
    folder = run_report("report_portfolio", {"symbols": symbols}, out=tmp_path).path.name
    assert folder == run_report("report_portfolio", {"symbols": "AAPL NVDA"}, out=tmp_path).path.name
    assert folder.startswith("AAPL_NVDA_equal_weight_")
    assert no_run == [{"symbols": "AAPL NVDA"}] * 2


@pytest.mark.parametrize(
    "request_",
    [
        {"symbols": FIVE, "weights": "inverse_volatility", "lookback": 20},
        {"weights": "top_momentum", "window": 60, "top": 2, "rebalance": None},
        {"symbols": f"{FIVE} ^GSPC", "align": "ffill", "rebalance": 0.05},
        {"symbols": "AAPL", "leverage": 2.0, "fill": "next_close", "whole_units": True},
    ],
    ids=str,
)
def test_other_requests_pass_the_check_and_reach_the_notebook(no_run, tmp_path, request_):
    run_report("report_portfolio", request_, out=tmp_path)
    assert no_run == [request_]


def test_many_symbols_leave_room_for_weights_and_hash(no_run, tmp_path, bars):
    symbols = " ".join(f"LONGSYMBOL{number}" for number in range(12))
    for symbol in symbols.split():
        bars([1.0, 2.0, 3.0]).rename_axis("Date").to_csv(tmp_path / f"{symbol}.csv")
    request = {"symbols": symbols, "source": str(tmp_path / "{symbol}.csv")}
    folder = run_report("report_portfolio", request, out=tmp_path / "out").path.name
    assert re.fullmatch(r"LONGSYMBOL0_LONGSYMBOL1_[A-Z0-9_]{,16}_equal_weight_[0-9a-f]{10}", folder)


# ---- bad requests: refused before a kernel starts, with nothing written ----------------------------------------------


@pytest.mark.parametrize(
    ("request_", "error", "said"),
    [
        ({"symbols": ""}, ParameterError, "symbols must name at least one ticker"),
        ({"symbols": "AAPL AAPL"}, ParameterError, "AAPL stands twice"),
        ({"symbols": "AAPL ../../etc/passwd"}, ParameterError, "'../../etc/passwd' is not a ticker"),
        ({"symbols": "AAPL <script>"}, ParameterError, "is not a ticker"),
        ({"symbols": "AAPL MSFT"}, DataFetchError, "MSFT first bar..last bar: the embedded sample has no 1d bars"),
        ({"symbols": "AAPL ^GSPC"}, PricesError, "two bars that every symbol has, got 0"),
        ({"symbol": "AAPL"}, ParameterError, "did you mean 'symbols'"),
        ({"weights": "equal_wieght"}, ParameterError, "did you mean 'equal_weight'"),
        ({"lookback": 5}, ParameterError, "equal_weight has no parameter 'lookback'"),
        ({"weights": "AAPL 0.6, NVDA 0.4", "top": 2}, ParameterError, "weights that are given have no parameter 'top'"),
        ({"weights": "AAPL 0.6, NVDA"}, ParameterError, "or such as 'AAPL 0.6, NVDA 0.4', got 'AAPL 0.6, NVDA'"),
        ({"weights": "AAPL 0.6, MSFT 0.4"}, ParameterError, "no prices were given for 'MSFT'"),
        ({"weights": "AAPL 0.6, aapl 0.4"}, ParameterError, "AAPL stands twice"),
        ({"weights": "AAPL 0.6, NVDA 0.6"}, ParameterError, "above the leverage 1"),
        ({"weights": "AAPL nan"}, ParameterError, "got 'AAPL nan'"),
        ({"weights": ""}, ParameterError, "or such as 'AAPL 0.6, NVDA 0.4', got ''"),
        ({"weights": "top_momentum", "top": 7}, ParameterError, "top must be a whole number from 1 to the 6 symbols"),
        ({"weights": "top_momentum", "window": 10**6}, PricesError, "top_momentum gave no weight"),
        ({"rebalance": "year"}, ParameterError, "unknown rebalance 'year'"),
        ({"rebalance": 2.0}, ParameterError, "rebalance must be a number above 0 and below 1"),
        ({"align": "outer"}, ParameterError, "unknown align 'outer'"),
        ({"leverage": 0.5}, ParameterError, "above the leverage 0.5"),
        ({"fees": 1.0}, ParameterError, "fees"),
        ({"fill": "next_opn"}, ParameterError, "fill"),
        ({"source": "prices.csv"}, ParameterError, "put {symbol} in its name"),
        ({"start": "2024-01-01", "end": "2023-01-01"}, ParameterError, "end 2023-01-01 is before start 2024-01-01"),
    ],
    ids=str,
)
def test_bad_request_is_refused_with_nothing_written(no_kernel, tmp_path, request_, error, said):
    with pytest.raises(error, match=re.escape(said)):
        run_report("report_portfolio", request_, out=tmp_path / "out")
    assert listing(tmp_path) == []
