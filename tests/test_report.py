"""A report is one folder that can be made again to the byte, from a page in which nothing foreign can run."""

import base64
import contextlib
import functools
import hashlib
import itertools
import json
import logging
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote, unquote

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output, new_raw_cell

from backgrid.data import fetch_ohlcv
from backgrid.engine import run_backtest
from backgrid.errors import BackgridError, DataFetchError, ParameterError, PricesError, ReportError
from backgrid.notebook import render_html, safe_svg
from backgrid.report import run_report
from backgrid.templates import find_template

FILES = ["provenance.json", "report.html", "report.ipynb", "result.json", "run_log.json"]
THE_SAME = ["report.html", "report.ipynb", "result.json"]  # whenever and wherever the request is made again
TEMPLATE = find_template("report_backtest").resolve()
SVG = 'xmlns="http://www.w3.org/2000/svg"'


@functools.cache
def finished():
    """The report of AAPL, made once for all tests that only look at it."""
    return run_report(parameters={"symbol": "AAPL"})


class Element(NamedTuple):
    """One element of a page: its name, attributes, and the text inside it."""

    name: str
    attributes: dict[str, str]
    texts: list[str]

    @property
    def text(self):
        return "".join(self.texts).strip()


class Page(HTMLParser):
    """The elements of a page in their order."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.open = [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.elements.append(Element(tag, {name: value or "" for name, value in attrs}, []))
        if tag not in ("meta", "br", "hr", "img", "link", "base"):
            self.open.append(self.elements[-1])

    def handle_startendtag(self, tag, attrs):
        self.elements.append(Element(tag, {name: value or "" for name, value in attrs}, []))

    def handle_endtag(self, tag):
        while self.open and self.open.pop().name != tag:
            pass

    def handle_data(self, data):
        for element in self.open:
            element.texts.append(data)

    def all(self, *names):
        return [element for element in self.elements if element.name in names]


@functools.cache
def finished_page():
    return Page(finished().html.read_text(encoding="utf-8"))


def bytes_of(folder, names=THE_SAME):
    return {name: (folder / name).read_bytes() for name in names}


def listing(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def run_elsewhere(tmp_path, *words, **environment):
    """A command of this Python, run in another folder."""
    return subprocess.run(
        [sys.executable, "-m", *words], cwd=tmp_path, env=os.environ | environment, capture_output=True, text=True
    )


@pytest.fixture
def template(tmp_path):
    """`template(source, ...)` writes a template with these cells after its parameters, and gives its path."""

    def write(*sources, parameters="note: str = ''  # words", name="report_own"):
        cells = [new_code_cell(parameters, metadata={"tags": ["parameters"]}), *map(new_code_cell, sources)]
        kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
        nbformat.write(new_notebook(cells=cells, metadata={"kernelspec": kernel}), tmp_path / f"{name}.ipynb")
        return tmp_path / f"{name}.ipynb"

    return write


# ---- what a report is ------------------------------------------------------------------------------------------------


def test_folder_holds_these_files_and_no_other():
    report = finished()
    assert listing(report.path) == FILES
    assert report.html == report.path / "report.html"
    assert re.fullmatch(r"AAPL_ma_crossover_[0-9a-f]{10}", report.path.name)


def test_reports_go_to_the_folder_of_the_settings():
    assert finished().path.parent == Path(os.environ["BACKGRID_REPORTS"])


def test_nothing_temporary_is_left_beside_a_report():
    assert [name for name in listing(finished().path.parent) if name.startswith(".")] == []


def test_recorded_result_is_what_run_backtest_gives():
    expected = run_backtest(fetch_ohlcv("AAPL", source="sample"), fees=0.001)
    assert finished().result == expected
    assert (finished().path / "result.json").read_text() == expected.to_json() + "\n"


ORDERS = [
    ({"strategy": "macd", "signal_window": 5}, {"stop_loss": 0.1, "rebalance": 0.05}),
    (
        {"strategy": "rsi_reversion", "window": 10, "lower": 35.0},
        {"sizing": "risk", "size": 0.02, "trailing_stop": 0.1, "rebalance": "month", "leverage": 1.5},
    ),
]


@pytest.mark.parametrize(("named", "orders"), ORDERS, ids=["macd", "rsi_reversion"])
def test_report_of_a_strategy_with_orders_is_what_run_backtest_gives_and_shows_them(tmp_path, caplog, named, orders):
    report = run_report(parameters={**named, **orders}, out=tmp_path)
    params = {name: value for name, value in named.items() if name != "strategy"}
    expected = run_backtest(
        fetch_ohlcv("AAPL", source="sample"), named["strategy"], params=params, fees=0.001, **orders
    )
    assert report.result == expected and len(expected.trades) > 5
    recorded = json.loads((report.path / "result.json").read_text())["settings"]
    assert {name: recorded[name] for name in orders} == orders
    cells = [element.text for element in Page(report.html.read_text(encoding="utf-8")).all("th", "td")]
    for name, value in {**params, **orders}.items():
        assert cells[cells.index(name) + 1] == (value if isinstance(value, str) else f"{value:g}")
    assert caplog.records == []  # papermill would call each parameter that may be None unknown


def test_word_of_papermill_about_others_is_heard(caplog):
    finished()
    logging.getLogger("papermill").warning("Passed unknown parameter: x")
    assert len(caplog.records) == 1


def test_report_asks_whether_the_result_survives_other_terms():
    page = finished_page()
    (heading,) = [e for e in page.all("h2") if e.text.startswith("Does it survive its assumptions?")]
    following = page.elements[page.elements.index(heading) :]
    table = next(element for element in following if element.name == "table").text
    for case in ("one bar later", "filled at the next close", "twice the costs"):
        assert case in table


def test_provenance_names_everything_that_determines_the_report():
    provenance = json.loads((finished().path / "provenance.json").read_text())
    assert provenance["template_sha256"] == hashlib.sha256(TEMPLATE.read_bytes()).hexdigest()
    assert provenance["parameters"]["symbol"] == "AAPL" and provenance["parameters"]["fees"] == 0.001
    assert provenance["snapshot"] == fetch_ohlcv("AAPL", source="sample").attrs["snapshot"]
    assert provenance["prices_hash"] == finished().result.prices_hash
    ((asked, given),) = (read.values() for read in provenance["prices"])
    assert asked.keys() == {"symbol", "start", "end", "interval", "source", "adjusted"}
    assert given == fetch_ohlcv(**asked).attrs  # the very request, and all that the prices said of themselves
    assert re.fullmatch("[0-9a-f]{64}", provenance["strategy_sha256"])
    assert {"Python", "backgrid", "numpy", "pandas", "papermill"} <= provenance["versions"].keys()


def test_only_the_log_knows_the_clock():
    log = json.loads((finished().path / "run_log.json").read_text())
    assert log["seconds"] > 0.0
    for name in ("report.ipynb", "report.html", "result.json", "provenance.json"):
        assert log["started"][:10] not in (finished().path / name).read_text()


@pytest.mark.parametrize("name", ["report.ipynb", "report.html"])
def test_no_path_id_or_address_is_left(name):
    text = (finished().path / name).read_text()
    for place in (str(finished().path.parent), str(Path.cwd()), str(Path.home()), "/tmp/", os.uname().nodename):
        assert place not in text
    noise = r"\b0x[0-9a-f]{6,}|ipykernel_\d|papermill|iopub|start_time|\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-"
    assert (
        re.findall(noise, re.sub(r"to\\?n?`backgrid report` or `papermill`", "", text).replace("`papermill`", "")) == []
    )


def test_request_of_a_lower_case_symbol_is_the_same_request(no_run, tmp_path):
    names = {run_report(parameters={"symbol": symbol}, out=tmp_path).path.name for symbol in ("AAPL", "aapl")}
    assert len(names) == 1
    assert no_run == [{"symbol": "AAPL"}] * 2


def test_order_of_the_parameters_is_not_part_of_a_request(no_run, tmp_path):
    asked = {"fees": 0.002, "symbol": "AAPL", "slow_window": 60, "fast_window": 10}
    reports = [run_report(parameters=given, out=tmp_path) for given in (asked, dict(reversed(asked.items())))]
    assert reports[0].path == reports[1].path
    assert list(no_run[0]) == list(no_run[1]) == ["symbol", "fast_window", "slow_window", "fees"]


def test_another_request_is_another_folder(no_run, tmp_path):
    requests = [{}, {"fees": 0.002}, {"fast_window": 5}, {"strategy": "buy_and_hold"}, {"end": "2024-01-02"}]
    requests += [{"stop_loss": 0.1}, {"stop_loss": 0.2}, {"rebalance": "week"}, {"rebalance": 0.1}]
    assert len({run_report(parameters=request, out=tmp_path).path for request in requests}) == len(requests)


def test_template_without_a_result_gives_a_report_without_one(no_run, template, tmp_path):
    report = run_report(template(), out=tmp_path / "out")
    assert report.result is None
    assert (report.path / "result.json").read_text() == "null\n"


def test_package_that_is_kept_from_loading_can_be_loaded_later(no_run, template, tmp_path, monkeypatch):
    monkeypatch.delitem(sys.modules, "rfc3987_syntax", raising=False)
    run_report(template(), out=tmp_path / "out")
    assert "rfc3987_syntax" not in sys.modules


@pytest.mark.parametrize("symbol", ["../escaped", "{tmp}/escaped", "a/b", "..", "a\0b", "x" * 300])
def test_no_parameter_leads_out_of_the_folder(no_run, template, tmp_path, symbol):
    """Also where the template has a symbol and no strategy, so that no request is checked."""
    path, out = template(parameters="symbol: str = ''  # any text"), tmp_path / "some" / "out"
    with contextlib.suppress(BackgridError):
        run_report(path, {"symbol": symbol.format(tmp=tmp_path)}, out=out)
    assert {file.parents[1] for file in tmp_path.rglob("*.*") if file.is_file() and file != path} <= {out}


# ---- the same again --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def made_again(tmp_path_factory):
    """The same request by the command line: another folder, time zone, locale, hash seed, and matplotlib style."""
    folder = tmp_path_factory.mktemp("made again")
    (folder / "matplotlibrc").write_text("font.size: 30\naxes.grid: False\n")
    words = ("backgrid", "report", "-p", "symbol", "AAPL", "--out", "an out folder")
    strange = {"TZ": "Asia/Kathmandu", "LC_ALL": "C", "PYTHONHASHSEED": "42", "COLUMNS": "40"}
    return folder, run_elsewhere(folder, *words, **strange)


def test_command_prints_the_path_of_the_page_last(made_again):
    folder, done = made_again
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == str(Path("an out folder") / finished().path.name / "report.html")
    assert (folder / done.stdout.splitlines()[-1]).is_file()
    assert done.stderr == ""


@pytest.mark.parametrize("name", THE_SAME)
def test_same_request_gives_the_same_bytes(made_again, name):
    again = made_again[0] / "an out folder" / finished().path.name / name
    assert again.read_bytes() == (finished().path / name).read_bytes()


def test_plain_papermill_gives_the_same_cells_and_outputs(tmp_path):
    done = run_elsewhere(tmp_path, "papermill", str(TEMPLATE), "out.ipynb", "-p", "symbol", "AAPL", "-k", "python3")
    assert done.returncode == 0, done.stderr

    def content(path):
        cells = nbformat.read(path, as_version=4).cells
        return [(cell.cell_type, cell.source, cell.metadata.get("tags", []), cell.get("outputs")) for cell in cells]

    assert content(tmp_path / "out.ipynb") == content(finished().path / "report.ipynb")


def test_exporter_of_nbconvert_gives_the_same_page(tmp_path):
    words = ("--to", "backgrid", str(finished().path / "report.ipynb"), "--output-dir", str(tmp_path))
    done = run_elsewhere(tmp_path, "nbconvert", *words)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "report.html").read_bytes() == finished().html.read_bytes()


# ---- what fails ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("raise LookupError('nothing here')", "cell 4 failed with LookupError: nothing here"),
        ("import os\nos.kill(os.getpid(), 9)", "the kernel died"),
    ],
    ids=["error", "kill"],
)
def test_failing_cell_ends_in_an_error_and_keeps_what_ran(template, tmp_path, source, said):
    """papermill marks every cell of a killed kernel as completed."""
    path = template("print('so far')", source, "print('not reached')")
    with pytest.raises(ReportError, match=said) as failed:
        run_report(path, {"note": "x"}, out=tmp_path / "out")
    (kept,) = (tmp_path / "out").iterdir()
    assert re.fullmatch(r"report_own_[0-9a-f]{10}\.failed", kept.name)
    assert listing(kept) == ["error.txt", "report.ipynb"]
    assert said in (kept / "error.txt").read_text()
    assert str(failed.value).startswith("report_own: ") and str(kept / "report.ipynb") in str(failed.value)
    outputs = [
        output.text
        for cell in nbformat.read(kept / "report.ipynb", 4).cells
        for output in cell.get("outputs", [])
        if "text" in output
    ]
    assert outputs == ["so far\n"]


def test_good_report_survives_a_later_failure_and_clears_it_away_again(template, tmp_path):
    path = template("import pathlib\nassert not pathlib.Path(note).exists()\nprint('good')")
    flag, out = tmp_path / "flag", tmp_path / "out"
    request = {"note": str(flag)}
    good = run_report(path, request, out=out)
    before = bytes_of(good.path, FILES)
    flag.touch()
    with pytest.raises(ReportError, match="AssertionError"):
        run_report(path, request, out=out)
    assert bytes_of(good.path, FILES) == before
    assert sorted(folder.name for folder in out.iterdir()) == [good.path.name, f"{good.path.name}.failed"]
    flag.unlink()
    assert run_report(path, request, out=out).path == good.path
    assert bytes_of(good.path) == {name: before[name] for name in THE_SAME}
    assert list(out.iterdir()) == [good.path]


@pytest.mark.parametrize("name", FILES)
def test_full_disk_leaves_the_earlier_report_and_nothing_else(no_run, template, tmp_path, monkeypatch, name):
    own = template()
    good = run_report(own, out=tmp_path / "out")
    before = bytes_of(good.path, FILES)
    write = Path.write_text

    def write_until_full(path, text, **options):
        if path.name == name:
            write(path, text[: len(text) // 2], **options)
            raise OSError(28, "No space left on device")
        return write(path, text, **options)

    monkeypatch.setattr(Path, "write_text", write_until_full)
    with pytest.raises(ReportError, match="No space left on device"):
        run_report(own, out=tmp_path / "out")
    assert bytes_of(good.path, FILES) == before
    assert list((tmp_path / "out").iterdir()) == [good.path]


def test_new_folder_arrives_whole_and_its_seal_is_replaced_last(no_run, template, tmp_path, monkeypatch):
    """Whoever sees a folder may rely on what its provenance.json says of the rest."""
    renamed, arrived, rename, replace = [], [], os.rename, os.replace
    monkeypatch.setattr(os, "rename", lambda source, target: renamed.append(target.name) or rename(source, target))
    monkeypatch.setattr(os, "replace", lambda source, target: arrived.append(target.name) or replace(source, target))
    own = template()
    report = run_report(own, out=tmp_path / "out")
    assert renamed == [report.path.name] and not arrived
    assert sorted(path.name for path in report.path.iterdir()) == FILES
    run_report(own, out=tmp_path / "out")
    assert sorted(arrived) == FILES and arrived[-1] == "provenance.json" and len(renamed) == 1


def test_provenance_names_the_content_of_every_file_that_is_reproduced(no_run, template, tmp_path):
    report = run_report(template(), out=tmp_path / "out")
    noted = json.loads((report.path / "provenance.json").read_text())["files"]
    assert noted == {
        name: hashlib.sha256((report.path / name).read_bytes()).hexdigest()
        for name in ("report.html", "report.ipynb", "result.json")
    }


def test_out_that_is_a_file_is_refused(no_run, template, tmp_path):
    (tmp_path / "out").write_text("here already")
    with pytest.raises(ReportError, match="cannot write .*give another folder"):
        run_report(template(), out=tmp_path / "out")
    assert (tmp_path / "out").read_text() == "here already"


# ---- bad requests: refused before a kernel starts, with nothing written ----------------------------------------------


@pytest.mark.parametrize(
    ("request_", "error", "said"),
    [
        ({"symbol": "../../etc/passwd"}, ParameterError, "symbol '../../etc/passwd' is not a ticker"),
        ({"symbol": "A/B"}, ParameterError, "is not a ticker"),
        ({"symbol": ""}, ParameterError, "is not a ticker"),
        ({"symbol": "a" * 10_240}, ParameterError, "is not a ticker"),
        ({"symbol": "<script>"}, ParameterError, "is not a ticker"),
        ({"symbol": "MSFT"}, DataFetchError, "the embedded sample has no 1d bars of it"),
        ({"fast_windw": 5}, ParameterError, "unknown parameter 'fast_windw'; did you mean 'fast_window'"),
        ({"strategy": "ma_crosover"}, ParameterError, "did you mean 'ma_crossover'"),
        ({"fill": "next_opn"}, ParameterError, "fill"),
        ({"interval": "2d"}, ParameterError, "interval"),
        ({"source": "sampel"}, ParameterError, "did you mean 'sample'"),
        ({"fast_window": 50, "slow_window": 20}, ParameterError, "fast_window 50 must be below slow_window 20"),
        ({"fast_window": 50, "slow_window": 50}, ParameterError, "fast_window 50 must be below slow_window 50"),
        ({"strategy": "buy_and_hold", "fast_window": 5}, ParameterError, "buy_and_hold has no parameter 'fast_window'"),
        (
            {"strategy": "momentum", "fast_window": 5},
            ParameterError,
            "has no parameter 'fast_window'; did you mean 'win",
        ),
        ({"window": 14}, ParameterError, "ma_crossover has no parameter 'window'"),
        ({"strategy": "rsi_reversion", "lower": 80.0}, ParameterError, "lower 80 must be below upper 70"),
        ({"stop_loss": 5.0}, ParameterError, "stop_loss: Input should be less than 1, got 5.0"),
        ({"stop_loss": "5%"}, ParameterError, "stop_loss must be a number, got '5%'"),
        ({"lookback": 1}, ParameterError, "lookback"),
        ({"leverage": 0.0}, ParameterError, "leverage"),
        ({"sizing": "units"}, ParameterError, "sizing='units' needs a size"),
        ({"sizing": "risk", "size": 0.01}, ParameterError, "sizing='risk' needs a stop_loss or a trailing_stop"),
        ({"rebalance": "weekly"}, ParameterError, "unknown rebalance 'weekly'; did you mean 'week'"),
        ({"rebalance": True}, ParameterError, "rebalance must be text or a number, got True"),
        ({"rebalance": 1.5}, ParameterError, "rebalance must be a number above 0 and below 1, got 1.5"),
        ({"fast_window": 0}, ParameterError, "fast_window must be at least 1 bar, got 0"),
        ({"fast_window": -5}, ParameterError, "fast_window must be at least 1 bar, got -5"),
        ({"fast_window": 2.5}, ParameterError, "fast_window must be a whole number, got 2.5"),
        ({"fast_window": "10"}, ParameterError, "fast_window must be a whole number, got '10'"),
        ({"fast_window": True}, ParameterError, "fast_window must be a whole number, got True"),
        ({"fast_window": float("nan")}, ParameterError, "fast_window must be a whole number, got nan"),
        ({"slow_window": 10**9}, PricesError, "slow_window=1000000000"),
        ({"slow_window": 10**400}, PricesError, "slow_window=10"),
        ({"slow_window": 2_000}, PricesError, "gave no signal in 1509 bars"),
        ({"fees": float("nan")}, ParameterError, "fees must be finite"),
        ({"fees": -0.1}, ParameterError, "fees"),
        ({"fees": 1.0}, ParameterError, "fees"),
        ({"cash": 0.0}, ParameterError, "cash"),
        ({"start": "2023-02-30"}, ParameterError, "start must be a date"),
        ({"start": "2024-01-01", "end": "2023-01-01"}, ParameterError, "end 2023-01-01 is before start 2024-01-01"),
        ({"end": "1999-01-01"}, DataFetchError, "no bars in this range"),
        ({"start": "2024-12-30"}, PricesError, "two bars at least"),
    ],
    ids=lambda value: str(value)[:50] if isinstance(value, dict) else "",
)
def test_bad_request_is_refused_with_nothing_written(no_kernel, tmp_path, request_, error, said):
    with pytest.raises(error, match=re.escape(said)):
        run_report(parameters=request_, out=tmp_path / "out")
    assert listing(tmp_path) == []


def test_parameter_given_as_none_is_left_to_the_strategy(no_run, tmp_path):
    request = {"strategy": "momentum", "fast_window": None, "window": None, "stop_loss": None}
    assert run_report(parameters=request, out=tmp_path / "out").path.is_dir()


def test_parameter_that_a_template_has_for_itself_may_be_called_as_one_of_another_strategy(no_run, template, tmp_path):
    declared = (
        "symbol: str = 'AAPL'\nsource: str = 'sample'\nstrategy: str = 'ma_crossover'\nwindow: int = 63  # of a chart"
    )
    assert run_report(template(parameters=declared), {"window": 21}, out=tmp_path / "out").path.is_dir()


@pytest.mark.parametrize(
    "name", ["a = 1\nopen('pwned', 'w')\nb", "class", "print", "__import__('os')", "", "x" * 10_000]
)
def test_name_of_a_parameter_never_becomes_code(no_kernel, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ParameterError, match="unknown parameter"):
        run_report(parameters={name: 1}, out=tmp_path / "out")
    assert listing(tmp_path) == []


@pytest.mark.parametrize("name", ["nope", "../report_backtest", "/etc/passwd", "no/such.ipynb"])
def test_unknown_template_is_refused_with_nothing_written(no_kernel, tmp_path, name):
    with pytest.raises(ParameterError, match="template"):
        run_report(name, out=tmp_path / "out")
    assert listing(tmp_path) == []


# ---- the page --------------------------------------------------------------------------------------------------------


def test_page_needs_nothing_else():
    text = finished().html.read_text(encoding="utf-8")
    assert len(text.encode()) < 1_000_000
    assert not re.search(r"""(src|href|action)\s*=\s*["']?(https?:)?//|@import|url\((?!#)""", text)
    assert not finished_page().all("link", "iframe", "object", "embed", "img", "base", "form")


def test_policy_allows_the_one_script_of_the_page_and_nothing_more():
    (script,) = finished_page().all("script")
    digest = base64.b64encode(hashlib.sha256("".join(script.texts).encode()).digest()).decode()
    (policy,) = [
        meta.attributes["content"]
        for meta in finished_page().all("meta")
        if meta.attributes.get("http-equiv") == "Content-Security-Policy"
    ]
    rules = dict(rule.split(maxsplit=1) for rule in policy.split("; "))
    assert rules["default-src"] == "'none'"
    assert rules["script-src"] == f"'sha256-{digest}'"
    assert rules["img-src"] == "data:"
    assert rules["base-uri"] == rules["form-action"] == "'none'"
    assert script.attributes == {}


def test_page_names_its_language_and_title_and_fits_a_phone():
    page = finished_page()
    assert page.elements[0].name == "html" and page.elements[0].attributes["lang"] == "en"
    assert page.all("title")[0].text == "AAPL ma_crossover"
    viewport = [meta.attributes["content"] for meta in page.all("meta") if meta.attributes.get("name") == "viewport"]
    assert viewport == ["width=device-width, initial-scale=1"]


def test_headings_are_in_order():
    levels = [int(heading.name[1]) for heading in finished_page().all("h1", "h2", "h3", "h4", "h5", "h6")]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))


def test_contents_list_leads_to_every_section():
    page = finished_page()
    links = [link for link in page.all("a") if link.attributes["href"].startswith("#")]
    ids = {element.attributes.get("id") for element in page.elements}
    assert {link.attributes["href"][1:] for link in links} <= ids
    sections = [heading.text.removesuffix("#") for heading in page.all("h2")]
    assert [link.text for link in links if link.text in sections] == sections
    assert sections[0] == "Equity and drawdown" and sections[-1] == "Provenance"


def test_no_id_stands_twice():
    ids = [element.attributes["id"] for element in finished_page().elements if "id" in element.attributes]
    assert len(set(ids)) == len(ids)


def test_every_figure_has_a_description_and_a_caption():
    figures = finished_page().all("figure")
    drawings = [e for e in finished_page().elements if e.attributes.get("role") == "img"]
    captions = finished_page().all("figcaption")
    assert len(figures) == len(drawings) == len(captions) == 4
    for drawing, caption in zip(drawings, captions, strict=True):
        assert len(drawing.attributes["aria-label"]) > 20 and drawing.attributes["aria-label"] != "Figure"
        assert len(caption.text) > 20


def test_every_table_has_named_columns():
    for head in finished_page().all("thead"):
        assert head.text
    for cell in finished_page().all("th"):
        assert cell.attributes.get("scope") in ("col", "row", "rowgroup")


def test_code_is_there_and_hidden():
    page = finished_page()
    code = [element for element in page.all("div") if "code" in element.attributes.get("class", "").split()]
    assert any("run_backtest" in cell.text for cell in code)
    style = "".join(element.text for element in page.all("style"))
    assert re.search(r"\.code \{ display: none;", style)
    assert "show-code" not in page.elements[0].attributes.get("class", "")


def test_what_is_meant_for_the_notebook_is_not_on_the_page():
    page, notebook = (finished().path / name for name in ("report.html", "report.ipynb"))
    for words in ("Set the parameters in the next cell", "&lt;BacktestResult", "vnd.backgrid"):
        assert words not in page.read_text()
    assert "Set the parameters in the next cell" in notebook.read_text()


# ---- hostile notebooks -----------------------------------------------------------------------------------------------

PAYLOADS = [
    "<script>window.PWN = 1</script>",
    '"><script>window.PWN = 1</script><img src=x onerror="window.PWN = 1">',
    "'><svg onload='window.PWN = 1'>",
    "</title></style></textarea></pre><script>window.PWN = 1</script>",
    "<img src=x onerror=window.PWN=1>",
    '<img src="http://example.invalid/x.png">',
    '<a href="javascript:window.PWN=1">x</a>',
    '<a href="JaVa\tScript:window.PWN=1">x</a>',
    '<a href="data:text/html,<script>window.PWN=1</script>">x</a>',
    '<p onclick="window.PWN=1" onmouseover=window.PWN=1>x</p>',
    '<details open ontoggle="window.PWN=1">x</details>',
    '<p style="background: url(http://example.invalid/x)">x</p>',
    '<iframe src="http://example.invalid"></iframe>',
    '<object data="http://example.invalid"></object>',
    '<meta http-equiv="refresh" content="0; url=http://example.invalid/" />',
    '<base href="http://example.invalid/" />',
    '<link rel="stylesheet" href="http://example.invalid/" />',
    '<form action="http://example.invalid"><button>x</button></form>',
    '<style>@import "http://example.invalid/"; body { display: none }</style>',
    f"<script {SVG}>window.PWN = 1</script>",
    f'<svg {SVG} onload="window.PWN=1"><g ONCLICK="window.PWN=1"/></svg>',
    f"<svg {SVG}><script>window.PWN = 1</script></svg>",
    f"<svg {SVG}><foreignObject><p>x</p><iframe/></foreignObject></svg>",
    f'<svg {SVG}><a href="javascript:window.PWN=1"><text>x</text></a></svg>',
    f'<svg {SVG} xmlns:xlink="http://www.w3.org/1999/xlink"><use xlink:href="http://example.invalid/x.svg#a"/></svg>',
    f'<svg {SVG}><image href="http://example.invalid/x.png"/></svg>',
    f'<svg {SVG}><path style="fill: url(http://example.invalid/x)" d="M0 0"/></svg>',
    f'<svg {SVG}><path style="fill: URL( http://example.invalid/x)" d="M0 0"/></svg>',
    f'<svg {SVG}><path style="fill: u\\72l(http://example.invalid/x)" d="M0 0"/></svg>',
    f"<svg {SVG}><path fill='url(\"http://example.invalid/x\")' d='M0 0'/></svg>",
    f'<svg {SVG}><style>@IMPORT "http://example.invalid/"; path {{ fill: URL(http://example.invalid/) }}</style></svg>',
    f"<svg {SVG}><style>main {{ display: none }}</style></svg>",
    f'<svg {SVG}><animate attributeName="href" to="javascript:window.PWN=1"/><set attributeName="onload"/></svg>',
    f"<svg {SVG}><text>&lt;script&gt;window.PWN = 1&lt;/script&gt;</text></svg>",
]


def shown(data, metadata=None):
    return new_code_cell("pass", outputs=[new_output("display_data", data=data, metadata=metadata or {})])


PNG = base64.b64encode(b"\x89PNG\r\n").decode()
CHANNELS = {
    "markdown cell": lambda p: new_markdown_cell(f"## {p}\n\n{p}\n\n- {p}\n\n`{p}`"),
    "code": lambda p: new_code_cell(p),
    "raw cell": lambda p: new_raw_cell(p),
    "html": lambda p: shown({"text/html": p}),
    "markdown": lambda p: shown({"text/markdown": p}),
    "svg": lambda p: shown({"image/svg+xml": p}),
    "words of a drawing": lambda p: shown(
        {"image/svg+xml": f"<svg {SVG}/>"}, {"image/svg+xml": {"alt": p, "caption": p}}
    ),
    "png": lambda p: shown({"image/png": p}),
    "words of a png": lambda p: shown({"image/png": PNG}, {"image/png": {"alt": p}}),
    "jpeg": lambda p: shown({"image/jpeg": p}),
    "words of a jpeg": lambda p: shown({"image/jpeg": PNG}, {"image/jpeg": {"alt": p}}),
    "latex": lambda p: shown({"text/latex": p}),
    "javascript": lambda p: shown({"application/javascript": p}),
    "widget": lambda p: shown({"application/vnd.jupyter.widget-view+json": {"model_id": p}, "text/plain": p}),
    "text": lambda p: shown({"text/plain": p}),
    "stdout": lambda p: new_code_cell("pass", outputs=[new_output("stream", name="stdout", text=p)]),
    "stderr": lambda p: new_code_cell("pass", outputs=[new_output("stream", name="stderr", text=p)]),
    "error": lambda p: new_code_cell("pass", outputs=[new_output("error", ename=p, evalue=p, traceback=[p])]),
}


def page_of(*cells, title="A title"):
    """The page of a notebook with these cells."""
    for number, cell in enumerate(cells):
        cell["id"] = f"cell-{number:02d}"
    return render_html(new_notebook(cells=list(cells), metadata={"title": title}))


RUNS = {"script", "iframe", "object", "embed", "meta", "base", "link", "form", "style", "image"}
RUNS |= {"foreignobject", "animate", "set"}
LOADS = {"src", "href", "xlink:href", "action", "data", "formaction", "poster", "srcset"}
WORDS = {"alt", "aria-label", "title", "class", "id"}


def dangers(markup):
    """Whatever in the markup could run, load or leave the page; a link that a reader may click is none."""
    found = []
    for element in Page(markup).elements:
        found += [element.name] if element.name in RUNS else []
        for name, value in element.attributes.items():
            plain = value.replace("\\72", "r").lower()  # CSS may write its letters as numbers
            link = element.name == "a" and plain.startswith(("http:", "https:"))
            loads = name in LOADS and not link and not plain.startswith(("#", "data:image/"))
            styled = name not in LOADS | WORDS and re.search(r"url\(\s*[\"']?[^#\"'\s]|expression", plain)
            if name.startswith("on") or loads or styled:
                found.append(f"{element.name} {name}={value}")
    return found


def inside(markup):
    """What a page holds between its own head and its own script."""
    return markup.partition('<main id="report">')[2].rpartition("<script>")[0]


@pytest.mark.parametrize("channel", CHANNELS)
def test_nothing_hostile_survives_in_any_kind_of_cell(channel):
    page = page_of(*map(CHANNELS[channel], PAYLOADS))
    assert dangers(inside(page)) == [] and page.count("<script") == 1


@pytest.mark.parametrize("payload", PAYLOADS, ids=lambda payload: payload[:60])
def test_hostile_text_survives_nowhere(payload):
    page = page_of(*(make(payload) for make in CHANNELS.values()))
    assert dangers(inside(page)) == [] and page.count("<script") == 1


@pytest.mark.parametrize("payload", PAYLOADS, ids=lambda payload: payload[:60])
def test_drawing_loses_what_could_run_or_load(payload):
    assert dangers(safe_svg(payload)) == []


def test_drawing_nested_without_end_does_no_harm():
    assert dangers(safe_svg(f"<svg {SVG}>" * 3000 + "</svg>" * 3000)) == []


@pytest.mark.parametrize("payload", PAYLOADS[:6], ids=lambda payload: payload[:60])
def test_title_and_contents_are_text(payload):
    page = page_of(new_markdown_cell(f"## {payload}"), title=payload)
    head = page.partition("<main")[0]
    assert dangers(re.sub(r"<meta [^>]*>|<style>.*?</style>", "", head, flags=re.DOTALL)) == []
    assert Page(page).all("title")[0].text == payload.strip()


def test_drawing_keeps_what_is_drawn():
    svg = (
        f'<svg {SVG} viewBox="0 0 9 9"><defs><clipPath id="a"><rect width="9" height="9"/></clipPath></defs>'
        '<g clip-path="url(#a)"><path d="M0 0L9 9" style="fill: none; stroke: var(--ink, #1c2128)"/>'
        '<text x="1" y="2">words &amp; <tspan>more</tspan></text><use href="#a" x="3"/><ellipse rx="2" ry="1"/>'
        '<polygon points="0,0 1,1 1,0"/></g></svg>'
    )
    kept = Page(safe_svg(svg)).elements
    assert [(e.name, e.attributes, e.text) for e in kept[1:]] == [
        (e.name, e.attributes, e.text) for e in Page(svg).elements[1:]
    ]


@pytest.mark.parametrize("broken", ["", "not a drawing", "<svg>", f"<svg {SVG}><g></svg>", "<!DOCTYPE x []>"])
def test_broken_drawing_is_left_out(broken):
    assert safe_svg(broken) == ""


def test_page_keeps_what_is_harmless():
    cell = new_markdown_cell(
        "Some **bold** words, a [link](https://example.invalid/) and\n\n| a | b |\n|---|---|\n| 1 | 2 |"
    )
    page = Page(page_of(cell, shown({"text/html": "<table class='heat'><tr><th scope='row'>x</th></tr></table>"})))
    assert [e.text for e in page.all("strong", "td")] == ["bold", "1", "2"]
    assert "https://example.invalid/" in [link.attributes["href"] for link in page.all("a")]
    assert [e.text for e in page.all("th")][-1] == "x"


@pytest.mark.parametrize(
    "heading",
    ["Plain words", "With `code` and *stress*", "R&D <b>bold</b>", 'What "it" is', "100 % of (a/b)?", "Über", "End ##"],
)
def test_contents_lead_to_headings_of_any_form(heading):
    page = Page(page_of(new_markdown_cell(f"## {heading}\n\nwords")))
    (target,) = page.all("h2")
    _, link = [link for link in page.all("a") if "anchor-link" not in link.attributes.get("class", "")]
    sought = quote(link.attributes["href"], safe="#!$%&'()*+,/:;=?@[]")  # as a browser does
    assert f"#{target.attributes['id']}" in (sought, unquote(sought))
    assert link.text == target.text.removesuffix("#")


def test_contents_list_only_what_is_on_the_page():
    page = page_of(
        new_markdown_cell("## Here\n\n```\n## a comment in code\n```"),
        new_markdown_cell("## In the notebook only", metadata={"tags": ["notebook-only"]}),
    )
    links = [link for link in Page(page).all("a") if "anchor-link" not in link.attributes.get("class", "")]
    assert [link.text for link in links[1:]] == ["Here"]
