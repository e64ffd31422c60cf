"""A report is run again to the same bytes, or what differs first is named; of two it is said why they differ."""

import contextlib
import copy
import functools
import itertools
import json
import shutil
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from backgrid.cache import keep_snapshot
from backgrid.cli import main
from backgrid.data import fetch_ohlcv
from backgrid.errors import BackgridError, OfflineError, ParameterError, ReportError
from backgrid.report import Report, plan_report, run_report
from backgrid.reproduce import Change, Differences, Rerun, diff_reports, rerun_report
from backgrid.settings import setting

SHORT = {"symbol": "AAPL", "start": "2023-01-01", "end": "2023-12-31"}
SPAN = {"AAPL": ("2023-01-03", 250), "NVDA": ("2022-01-03", 431)}
PAYLOAD = "<script>alert(1)</script>"


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    return tmp_path_factory.mktemp("made")


@pytest.fixture(scope="module")
def made(out):
    """A report on the embedded sample, fees 0.1 %."""
    return run_report(parameters=SHORT, out=out).path


@pytest.fixture(scope="module")
def dearer(out):
    """The same with fees of 0.2 %."""
    return run_report(parameters={**SHORT, "fees": 0.002}, out=out).path


@pytest.fixture(scope="module")
def csv(aapl, out):
    """The path of a CSV file, a report on it, and one after a close of it was changed."""
    path = out / "prices.csv"
    aapl.to_csv(path)
    before = run_report(parameters={"symbol": "AAPL", "source": str(path)}, out=out / "before").path
    revised = aapl.copy()
    revised.loc["2023-05-03", ["Close", "High"]] = 200.0
    revised.to_csv(path)
    after = run_report(parameters={"symbol": "AAPL", "source": str(path)}, out=out / "after").path
    return path, before, after


@pytest.fixture(scope="module")
def swept(out):
    """A sweep over the bars of `made`."""
    grid = {"grid": "fast_window 5|10, slow_window 40", "n_boot": 100}
    return run_report("report_grid", {**SHORT, **grid}, out=out).path


@pytest.fixture(scope="module")
def words(out):
    """A report that reads no prices and records no result."""
    template = own_template(out / "report_own.ipynb", "note: str = 'none'\ntimes: int = 2", "print(note * times)")
    return run_report(template, {"note": "yes"}, out=out).path


@pytest.fixture(scope="module")
def closes(out, bars):
    """Two reports that print the last close of a CSV file and record no result; the third close of it was changed."""
    source, raw = out / "closes.csv", bars([100.0, 101.0, 102.0, 102.0, 103.0]).rename_axis("Date")
    reads = "from backgrid import fetch_ohlcv\nprices = fetch_ohlcv(symbol, source=source)\nprint(prices.to_string())"
    declared = f"symbol: str = 'AAPL'\nsource: str = {str(source)!r}"
    template, made = own_template(out / "report_close.ipynb", declared, reads), []
    for close in (102.0, 102.5):
        raw.loc["2023-01-04", ["Close", "High"]] = close
        raw.to_csv(source)
        made.append(run_report(template, {"symbol": "AAPL"}, out=out / str(close)).path)
    return made


@pytest.fixture(scope="module")
def edited(out):
    """A small report to edit again and again, and the same untouched."""
    few = {"symbol": "AAPL", "start": "2023-01-01", "end": "2023-02-28", "fast_window": 2, "slow_window": 5}
    made = run_report(parameters=few, out=out).path
    notebook = json.loads((made / "report.ipynb").read_text())
    for cell in notebook["cells"]:
        cell.update({"outputs": cell["outputs"][:1]} if "outputs" in cell else {})
        for output in cell.get("outputs", []):
            output.update(data={"text/plain": "x"}) if "data" in output else output.update(text="x")
    (made / "report.ipynb").write_text(json.dumps(notebook))
    return Path(shutil.copytree(made, out / "edited")), made


@pytest.fixture
def copied(made, tmp_path):
    """A copy of the report on the sample, to tamper with."""
    return Path(shutil.copytree(made, tmp_path / "copied"))


@pytest.fixture
def comes_out(monkeypatch):
    """`comes_out(folder)`: what is run becomes that report, without a kernel; gives what was asked for."""

    def set_up(folder):
        asked = {}

        def run(template, parameters, *, out):
            asked.update(template=template, parameters=parameters)
            if isinstance(folder, Exception):
                raise folder
            return Report(folder, folder / "report.html", None)

        monkeypatch.setattr("backgrid.reproduce.run_report", run)
        return asked

    return set_up


@pytest.fixture
def own_cache(tmp_path, monkeypatch):
    """A copy of the cache, to damage."""
    shutil.copytree(setting("BACKGRID_CACHE"), tmp_path / "cache")
    monkeypatch.setenv("BACKGRID_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def own_template(path, declared, code):
    """A template of these two cells, and the code's title above them."""
    cells = [
        new_markdown_cell("# Words"),
        new_code_cell(declared, metadata={"tags": ["parameters"]}),
        new_code_cell(code),
    ]
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    path.parent.mkdir(exist_ok=True)
    nbformat.write(new_notebook(cells=cells, metadata={"kernelspec": kernel}), path)
    return path


def test_prices_that_only_a_cell_reads_are_kept_and_given_again(tmp_path, bars):
    raw = bars(100.0 + np.arange(30.0)).rename_axis("Date")
    own, benchmark = tmp_path / "own.csv", tmp_path / "benchmark.csv"
    for file in (own, benchmark):
        raw.to_csv(file)
    code = f"""from backgrid import fetch_ohlcv
print(fetch_ohlcv("SPY", source={str(benchmark)!r})["Close"].iloc[-1], fetch_ohlcv(symbol, source=source).attrs)"""
    declared = f"symbol: str = 'AAPL'\nsource: str = {str(own)!r}"
    path = run_report(own_template(tmp_path / "mine" / "two.ipynb", declared, code), {}, out=tmp_path / "out").path
    assert [read["asked"]["symbol"] for read in provenance_of(path)["prices"]] == ["AAPL", "SPY"]
    (raw * 2).to_csv(benchmark)
    own.unlink()
    assert rerun_report(path).identical


TWICE = """from backgrid import fetch_ohlcv
then, now = (fetch_ohlcv("AAPL", *span, source=source) for span in (("2023-01-01", "2023-01-20"), ("2023-01-21", None)))
print(then["Close"].iloc[-1], len(now))"""


def test_symbol_that_is_read_twice_is_compared_twice(tmp_path, bars):
    raw, file = bars(100.0 + np.arange(60.0)).rename_axis("Date"), tmp_path / "prices.csv"
    template = own_template(tmp_path / "mine" / "twice.ipynb", f"source: str = {str(file)!r}", TWICE)
    raw.to_csv(file)
    before = run_report(template, {}, out=tmp_path / "before").path
    raw.assign(Close=raw["Close"].where(raw.index != "2023-01-20", 113.5)).to_csv(file)
    after = run_report(template, {}, out=tmp_path / "after").path
    (changed,) = diff_reports(before, after).data
    assert changed.startswith("AAPL 1d 2023-01-01..2023-01-20 of") and "1 bar changed from A to B" in changed


OF_A_FUNCTION = """import pandas as pd
from backgrid import fetch_ohlcv
def mine(*_):
    return pd.read_csv(path, index_col=0, parse_dates=True)
print(fetch_ohlcv("AAPL", source=mine)["Close"].iloc[-1])"""


def test_what_a_function_gave_is_recorded_and_asked_of_it_again(tmp_path, bars):
    raw, file = bars(100.0 + np.arange(60.0)).rename_axis("Date"), tmp_path / "prices.csv"
    raw.to_csv(file)
    template = own_template(tmp_path / "mine" / "asks.ipynb", f"path: str = {str(file)!r}", OF_A_FUNCTION)
    path = run_report(template, {}, out=tmp_path).path
    (read,) = provenance_of(path)["prices"]
    assert read["asked"]["source"] == "function mine" and rerun_report(path).identical
    (raw * 2).to_csv(file)
    assert rerun_report(path).first_difference.startswith("data: the SHA-256 of the bars read of AAPL 1d is")


def test_request_that_was_answered_twice_otherwise_is_no_puzzle(csv, tmp_path):
    _, before, _ = csv
    copied = Path(shutil.copytree(before, tmp_path / "twice"))
    (read,) = provenance_of(before)["prices"]
    other = {**read, "given": {**read["given"], "snapshot": "0" * 64}}
    edit(copied, "provenance.json", prices=[read, other])
    assert "AAPL was read twice in one run, with other bars the second time" in rerun_report(copied).first_difference


def short(text):
    """Of a test's name."""
    return ascii(text)[:20]


def edit(folder, name, **changed):
    """Change values of a JSON file of a report."""
    body = json.loads((folder / name).read_text())
    (folder / name).write_text(json.dumps({**body, **changed}))


def provenance_of(folder):
    return json.loads((folder / "provenance.json").read_text())


def bytes_in(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def backgrid_command(*words):
    return CliRunner().invoke(main, [str(word) for word in words], catch_exceptions=False)


# ---- run again: identical --------------------------------------------------------------------------------------------


def test_untouched_report_is_identical_and_stays_as_it_is(made, tmp_path):
    before, listed = bytes_in(made), sorted(made.parent.iterdir())
    found = rerun_report(made / "report.html")
    assert found == Rerun(True, "", (), made)
    assert str(found) == f"{made}: identical"
    assert bytes_in(made) == before and sorted(made.parent.iterdir()) == listed


def test_report_on_a_file_is_made_again_from_its_snapshot_after_the_file_has_changed(csv):
    path, before, _ = csv
    assert "2023-05-03" in path.read_text() and "200.0" in path.read_text()
    assert rerun_report(before).identical


def test_report_on_downloaded_bars_is_made_again_without_the_network(aapl, tmp_path, folder, monkeypatch):
    raw = aapl.assign(**{"Adj Close": aapl["Close"] * 0.5})
    raw.attrs = {}
    monkeypatch.setattr("backgrid.data.fetch_yahoo", lambda *_: (raw, ["as the vendor says"]))
    path = run_report(parameters={**SHORT, "source": "yahoo"}, out=tmp_path).path
    shutil.rmtree(folder / "prices")
    monkeypatch.setattr("backgrid.data.fetch_yahoo", lambda *_: pytest.fail("the network was asked"))
    assert json.loads((path / "result.json").read_text())["data"]["notes"][0] == "as the vendor says"
    assert rerun_report(path).identical


REPORTS = [
    ("report_portfolio", {"symbols": "AAPL AMZN", "start": "2022-01-01", "weights": "AAPL 0.6, AMZN 0.4"}),
    ("report_grid", {"symbol": "AAPL", "grid": "fast_window 5|10, slow_window 40|50", "n_boot": 100}),
    ("report_walk_forward", {"symbol": "AAPL", "grid": "fast_window 5|10, slow_window 40", "train": 400}),
]


@pytest.mark.parametrize(("template", "parameters"), REPORTS, ids=[name for name, _ in REPORTS])
def test_reports_of_every_template_are_identical(template, parameters, tmp_path):
    source = str(tmp_path / "{symbol}.csv")
    for symbol in ("AAPL", "AMZN"):
        fetch_ohlcv(symbol, end="2023-09-21", source="sample").to_csv(source.replace("{symbol}", symbol))
    source = source if "symbols" in parameters else source.replace("{symbol}", "AAPL")
    path = run_report(template, {**parameters, "source": source}, out=tmp_path / "out").path
    for file in tmp_path.glob("*.csv"):
        file.unlink()
    assert rerun_report(path) == Rerun(True, "", (), path)


def test_report_whose_template_has_changed_is_made_again_by_its_own_notebook(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    declared = "note: str = 'none'  # words\ntimes: int = 2"
    template = own_template(tmp_path / "notebooks" / "report_own.ipynb", declared, "print(note * times)")
    path = run_report("report_own", {"note": "yes"}, out=tmp_path).path
    own_template(template, declared, "print(note)")
    said = "the template report_own has changed: the report's own notebook was run"
    found = rerun_report(path)
    assert found == Rerun(True, "", (said,), path)
    assert str(found) == f"{path}: identical\n  note: {said}"


def test_versions_that_the_page_does_not_name_are_a_note_where_the_bytes_are_the_same(made, copied, comes_out):
    edit(copied, "provenance.json", versions={**provenance_of(made)["versions"], "click": "0.1"})
    comes_out(made)
    found = rerun_report(copied)
    assert (found.identical, found.first_difference) == (True, "")
    assert found.further[0].startswith("version of click: 0.1 then, ")


def test_the_same_parameters_are_injected_again_and_no_others(dearer, comes_out):
    asked = comes_out(dearer)
    assert rerun_report(dearer).identical
    assert list(asked["parameters"]) == ["symbol", "start", "end", "fees"]
    assert asked["parameters"]["fees"] == 0.002


# ---- run again: what differs -----------------------------------------------------------------------------------------


def test_edited_result_is_said_first_then_where_it_differs(made, copied, comes_out):
    metrics = json.loads((made / "result.json").read_text())["metrics"]
    edit(copied, "result.json", metrics={**metrics, "sharpe": 9.0})
    comes_out(made)
    found = rerun_report(copied)
    assert not found.identical
    assert found.first_difference.startswith("result.json is not the file that was written: its SHA-256")
    assert found.further[0] == f"metric sharpe: 9.0 then, {metrics['sharpe']!r} now"


def test_edited_page_is_said(made, copied, comes_out):
    with (copied / "report.html").open("a") as page:
        page.write("<p>it doubled</p>")
    comes_out(made)
    found = rerun_report(copied)
    assert found.first_difference.startswith("report.html is not the file that was written")
    assert found.further[-1].startswith("the page: line ") and "of report.html" in found.further[-1]


def test_result_that_was_edited_beyond_reading_is_said(copied, no_kernel):
    (copied / "result.json").write_text("{")
    found = rerun_report(copied)
    assert found.first_difference.startswith("result.json is not the file that was written")
    assert "result.json" in found.further[0] and "cannot be read" in found.further[0]


def test_file_that_is_missing_is_said(made, copied, comes_out):
    (copied / "report.html").unlink()
    comes_out(made)
    assert rerun_report(copied).first_difference == "report.html is missing"


def test_missing_snapshot_names_symbol_hash_and_remedy(csv, own_cache, no_kernel):
    _, before, _ = csv
    snapshot = provenance_of(before)["snapshot"]
    (own_cache / "snapshots" / f"{snapshot}.parquet").unlink()
    said = rerun_report(before).first_difference
    assert said.startswith(f"data: the snapshot {snapshot} of AAPL is missing; put {snapshot}.parquet from where")
    assert "or fetch these bars from 'prices.csv' again" in said


def test_damaged_snapshot_is_told_from_a_missing_one_also_when_asked_again(csv, own_cache, no_kernel):
    _, before, _ = csv
    snapshot = provenance_of(before)["snapshot"]
    kept = own_cache / "snapshots" / f"{snapshot}.parquet"
    kept.write_bytes(kept.read_bytes()[:-100])
    for _ in range(2):
        found = rerun_report(before)
        assert not found.identical
        assert f"data: the snapshot {snapshot} of AAPL is damaged, and was moved to" in found.first_difference


def test_snapshot_first_kept_of_another_symbol_serves_as_well(csv, tmp_path, monkeypatch, comes_out):
    """A snapshot is known by its numbers, whoever had them first."""
    _, before, _ = csv
    snapshot = provenance_of(before)["snapshot"]
    raw = fetch_ohlcv("AAPL", source=f"snapshot:{snapshot}")
    monkeypatch.setenv("BACKGRID_CACHE", str(tmp_path / "cache"))
    raw.attrs = {}
    assert keep_snapshot(raw, "MSFT", "1d") == snapshot
    comes_out(before)
    assert rerun_report(before).identical


def test_another_version_is_named_with_both_values(made, copied, comes_out):
    recorded = provenance_of(made)["versions"]
    edit(copied, "provenance.json", versions={**recorded, "numpy": "0.1"})
    comes_out(made)
    assert rerun_report(copied).first_difference == f"version of numpy: 0.1 then, {recorded['numpy']} now"


def test_another_source_of_the_strategy_is_named(made, copied, comes_out):
    edit(copied, "provenance.json", strategy_sha256="0" * 64)
    comes_out(made)
    now = provenance_of(made)["strategy_sha256"]
    said = f"the source of the strategy (ma_crossover): SHA-256 {'0' * 64} then, {now} now"
    assert rerun_report(copied).first_difference == said


def test_other_bars_are_named(made, copied, comes_out):
    edit(copied, "provenance.json", snapshot="0" * 64)
    comes_out(made)
    now = provenance_of(made)["snapshot"]
    assert rerun_report(copied).first_difference == (
        f"data: the SHA-256 of the raw bars of AAPL is {'0' * 64} then, {now} now"
    )


def test_other_bars_that_were_read_are_named(made, copied, comes_out):
    (read,) = provenance_of(made)["prices"]
    edit(copied, "provenance.json", prices=[{**read, "given": {**read["given"], "snapshot": "0" * 64}}])
    comes_out(made)
    said = f"data: the SHA-256 of the bars read of AAPL 1d is {'0' * 64} then, {read['given']['snapshot']} now"
    assert rerun_report(copied) == Rerun(False, said, (), copied)


def test_first_bar_that_is_another_shows_in_what_holding_was_worth(csv, comes_out):
    _, before, after = csv
    comes_out(after)
    found = rerun_report(before)
    assert found.first_difference.startswith("data: the SHA-256 of the raw bars of AAPL is ")
    (bar,) = (line for line in found.further if line.startswith("data: the benchmark is worth"))
    assert bar.count(" on 2023-05-03 ") == 2 and bar.endswith(" now")


def test_edited_parameter_contradicts_the_notebook_and_gives_other_numbers(made, copied):
    edit(copied, "provenance.json", parameters={**provenance_of(made)["parameters"], "fees": 0.002})
    found = rerun_report(copied)
    assert not found.identical
    assert found.first_difference == "parameter fees: 0.001 in report.ipynb, 0.002 in provenance.json"
    kinds = [line.split(" ")[0] for line in found.further]
    assert kinds == ["parameter", "metric", "trade", "the", "the"]
    assert found.further[0] == "parameter fees: 0.001 then, 0.002 now"
    assert found.further[1].startswith("metric total_return: ")
    assert found.further[2].startswith("trade 1, units: ") and found.further[2].endswith(" now")


def test_what_differs_is_named_from_cause_to_effect(made, dearer, copied, comes_out):
    recorded = provenance_of(made)
    edit(
        copied,
        "provenance.json",
        versions={**recorded["versions"], "numpy": "0.1", "click": "0.1"},
        prices_hash="0" * 64,
        strategy_sha256="0" * 64,
        template="report_gone",
        parameters={**recorded["parameters"], "cash": 5.0},
    )
    comes_out(dearer)
    found = rerun_report(copied)
    lines = [found.first_difference, *found.further]
    starts = ["data: the SHA-256 of the traded bars", "version of numpy", "version of click", "the source of the strat"]
    starts += [
        "the template 'report_gone' is not among",
        "parameter cash",
        "parameter fees",
        "metric",
        "trade",
        "the run on",
    ]
    starts += ["the page"]
    assert [line[: len(start)] for line, start in zip(lines, starts, strict=True)] == starts
    assert str(found).splitlines()[-1] == "  and 1 more"


def test_report_that_no_longer_runs_says_why(made, comes_out):
    comes_out(ReportError("report_backtest: cell 2 failed with ValueError: no. What ran is in /x/report.ipynb"))
    said = "it no longer runs: report_backtest: cell 2 failed with ValueError: no"
    assert rerun_report(made) == Rerun(False, said, (), made)


def test_parameters_that_are_refused_by_now_say_why(made, copied, no_kernel):
    edit(copied, "provenance.json", parameters={**provenance_of(made)["parameters"], "fees": -1.0})
    assert "it no longer runs: " in rerun_report(copied).first_difference


@pytest.mark.parametrize("call", [rerun_report, lambda path: diff_reports(path, path)], ids=["rerun", "diff"])
def test_what_is_no_report_is_refused(call, copied, tmp_path, no_kernel):
    with pytest.raises(ParameterError, match="there is no report .*gone.*: give its folder or its report.html"):
        call(tmp_path / "gone")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ParameterError, match="no finished report, it holds no provenance.json"):
        call(tmp_path / "empty")
    (copied / "provenance.json").write_text("[]")
    with pytest.raises(ParameterError, match=r"provenance.json of .* is not as it was written: .*, got \[\]"):
        call(copied)
    (copied / "provenance.json").write_text("{")
    with pytest.raises(ParameterError, match="provenance.json of .* is not as it was written: all of it: Invalid JSON"):
        call(copied)


# ---- two reports -----------------------------------------------------------------------------------------------------


def test_report_does_not_differ_from_itself(made):
    found = diff_reports(made, made / "report.html")
    assert found.same and found.cause == "nothing differs"
    assert str(found) == f"A: {made}\nB: {made}\nnothing differs"


def test_other_fees_are_the_cause_of_other_metrics(made, dearer):
    found = diff_reports(made, dearer)
    assert not found.same
    assert found.cause == "the metrics differ because fees is 0.001 in A and 0.002 in B"
    assert found.parameters == (Change("fees", 0.001, 0.002),)
    assert (found.data, found.code, found.page, found.edited) == ((), (), "", ())
    results = [json.loads((folder / "result.json").read_text()) for folder in (made, dearer)]
    first = next(at for at in range(250) if results[0]["equity"][at] != results[1]["equity"][at])
    date, (a, b) = results[0]["time"][first][:10], (result["equity"][first] for result in results)
    assert found.equity == f"first on {date} (bar {first}), equity: {a:,.12g} against {b:,.12g}"
    assert found.trades.startswith("trade 1, units: ") and found.trades.endswith(" in B")
    assert found.metrics.loc["sharpe", ["a", "b"]].tolist() == [result["metrics"]["sharpe"] for result in results]
    assert "n_trades" not in found.metrics.index


def test_parameter_left_open_is_the_value_that_the_run_took(made, copied, tmp_path):
    asked = {**provenance_of(made)["parameters"], "fast_window": 20, "periods_per_year": 252.0}
    edit(copied, "provenance.json", parameters=asked)
    assert diff_reports(made, copied).same


def test_changed_bar_is_named_and_is_the_cause(csv):
    _, before, after = csv
    found = diff_reports(before, after)
    bar = fetch_ohlcv("AAPL", "2023-05-03", "2023-05-04", source="sample").iloc[0]
    assert found.data == (
        f"AAPL 1d: 1 bar changed from A to B: first 2023-05-03 High {bar['High']:.10g} -> 200, "
        f"by at most {100.0 * (200.0 / bar['Close'] - 1.0):.0f} %",
    )
    assert found.cause == f"the metrics differ because {found.data[0]}"


def test_snapshots_that_are_not_at_hand_are_named_only(csv, own_cache):
    shutil.rmtree(own_cache / "snapshots")
    _, before, after = csv
    short = " and ".join(provenance_of(folder)["snapshot"][:12] for folder in (before, after))
    (said,) = diff_reports(before, after).data
    assert said == f"AAPL 1d: the snapshots {short} differ; to name the first bar, both must be at hand"


def test_other_range_says_which_bars_each_has(made, tmp_path, comes_out):
    longer = run_report(parameters={**SHORT, "start": "2022-12-01"}, out=tmp_path).path
    found = diff_reports(made, longer)
    assert found.cause == "the metrics differ because start is 2023-01-01 in A and 2022-12-01 in B"
    assert found.data == ("AAPL 1d: 21 bars added from A to B: first added 2022-12-01",)
    assert found.equity == "first on 2023-01-03 (bar 0), date: 2023-01-03 against 2022-12-01"


def test_code_is_the_cause_where_neither_parameters_nor_bars_are(made, dearer, copied):
    shutil.copy(dearer / "result.json", copied / "result.json")
    edit(copied, "provenance.json", strategy_sha256="0" * 64)
    found = diff_reports(made, copied)
    assert found.cause == "the metrics differ because the source of the strategy has changed"
    assert [change.label for change in found.parameters] == ["fees as run"]
    assert found.edited == (
        "B: result.json is not the file that was written: its SHA-256 is not the one in provenance.json",
    )
    assert found.edited[0] in str(found)


def test_numbers_that_differ_for_no_recorded_reason_are_said_to(made, dearer, copied):
    shutil.copy(dearer / "result.json", copied / "result.json")
    assert diff_reports(made, copied).cause == "the metrics differ, for a reason that neither report records"


def test_same_numbers_by_another_version_are_said_to_be_the_same(made, copied):
    recorded = provenance_of(made)["versions"]
    edit(copied, "provenance.json", versions={**recorded, "numpy": "0.1"})
    found = diff_reports(made, copied)
    assert not found.same
    said = f"the version of numpy is {recorded['numpy']} in A and 0.1 in B"
    assert found.cause == f"the numbers are the same, though {said}"


def test_page_alone_that_differs_is_pointed_at(made, copied):
    (copied / "report.html").write_text((made / "report.html").read_text().replace("<title>", "<title>My ", 1))
    found = diff_reports(made, copied)
    assert found.page.startswith("the page: line ")
    assert found.cause == f"the numbers are the same, and {found.page}"


def differences(**given):
    values = {"a": "x", "b": "y", "cause": "why", "data": (), "parameters": (), "code": ()}
    values |= {"equity": "", "trades": "", "page": "", "edited": ()}
    table = pd.DataFrame({"a": [], "b": [], "difference": []})
    return Differences(**{**values, "metrics": table, **given})


def test_table_shows_each_metric_and_by_how_much_it_differs():
    table = {"a": [1.0, 2.0], "b": [1.0000001, np.nan], "difference": [1e-7, np.nan]}
    assert str(differences(metrics=pd.DataFrame(table, index=["sharpe", "skew"]))).splitlines()[3:] == [
        "Metrics      A     B  B - A",
        "  Sharpe  1.00  1.00  1e-07",
        "  Skew    2.00   n/a    n/a",
    ]


def test_notebook_shows_foreign_text_as_text():
    shown = differences(a=PAYLOAD, cause=PAYLOAD, parameters=(Change(PAYLOAD, PAYLOAD, PAYLOAD),), trades=PAYLOAD)
    page = shown._repr_html_()
    assert "<script" not in page and page.count("&lt;script&gt;alert(1)") == 6
    assert repr(shown) == f"<Differences of {PAYLOAD} and y: {PAYLOAD}>"


def test_reports_of_two_templates_differ_by_their_template_first(made, copied, swept):
    """Their bars are the same; that each has parameters which the other has not is part of that."""
    edit(copied, "provenance.json", parameters={**provenance_of(made)["parameters"], "fees": 0.002})
    found = diff_reports(copied, swept)
    assert found.data == ()
    said = "the template is report_backtest in A and report_grid in B and fees is 0.002 in A and 0.001 in B"
    assert found.cause == f"the metrics differ because {said}"
    assert {"grid", "n_boot"} <= {change.label for change in found.parameters}


def test_bars_of_another_template_may_be_put_together_otherwise(made, swept, copied):
    """The hash of what was traded tells something only of reports that put it together alike."""
    edit(copied, "provenance.json", prices_hash="0" * 64)
    assert diff_reports(made, copied).data == ("the same raw bars were adjusted or put together otherwise",)
    assert diff_reports(copied, swept).data == ()


def test_same_bars_adjusted_in_one_only_are_told(made, tmp_path):
    other = run_report(parameters={**SHORT, "adjusted": False}, out=tmp_path).path
    assert diff_reports(made, other).data == ("AAPL 1d: the same raw bars, adjusted in A only",)


def test_reports_without_a_result_are_said_to_record_none(words, tmp_path):
    other = Path(shutil.copytree(words, tmp_path / "other"))
    assert diff_reports(words, other).cause == "nothing differs"
    edit(other, "provenance.json", parameters={"note": "no", "times": 2})
    assert diff_reports(words, other).cause == "neither records a result, though note is yes in A and no in B"


def test_report_with_a_result_differs_from_one_without(made, words):
    found = diff_reports(made, words)
    assert found.data == ("B records no prices",)
    assert found.cause.startswith("only A records a result because the template is report_backtest in A and report_own")


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"snapshot": "0" * 64}, "the SHA-256 of the raw bars of AAPL is"),
        ({"snapshot": None}, "the SHA-256 of the raw bars of AAPL is"),
        ({"files": {}}, "the numbers are the same, and provenance.json says otherwise of files"),
        ({"more": 1}, "the numbers are the same, and provenance.json says otherwise of more"),
    ],
)
def test_changed_provenance_is_no_report_that_is_the_same(made, copied, changed, said):
    edit(copied, "provenance.json", **changed)
    found = diff_reports(made, copied)
    assert not found.same and said in found.cause and "nothing differs" not in str(found)


# ---- prices that no result tells of ----------------------------------------------------------------------------------


def test_report_without_a_result_is_made_again_from_its_snapshot(closes):
    """Its template prints the last close of a file which holds another one by now."""
    before, _ = closes
    assert json.loads((before / "result.json").read_text()) is None
    said = "the template 'report_close' is not among the templates here: the report's own notebook was run"
    assert rerun_report(before) == Rerun(True, "", (said,), before)


def test_bars_of_reports_without_a_result_are_compared(closes):
    found = diff_reports(*closes)
    said = "AAPL 1d: 1 bar changed from A to B: first 2023-01-04 High 102 -> 102.5, by at most 0.5 %"
    assert found.data == (said,)
    assert found.cause == f"neither records a result, though {said}"


def test_all_prices_that_provenance_names_are_given_from_their_snapshots(made, copied, bars, monkeypatch):
    """A benchmark as well: with its attrs, for the very request."""
    raw = bars([100.0, 101.0, 102.0]).rename_axis("Date").assign(Volume=1.0)
    asked = {"symbol": "SPY", "start": "2023-01-01", "end": None, "interval": "1d", "source": "yahoo", "adjusted": True}
    given = {"symbol": "SPY", "source": "yahoo", "interval": "1d", "adjusted": False}
    given |= {"snapshot": keep_snapshot(raw, "SPY", "1d"), "notes": ["as it was said"]}
    edit(copied, "provenance.json", prices=[*provenance_of(made)["prices"], {"asked": asked, "given": given}])
    came = []

    def run(template, parameters, *, out):
        came.append(fetch_ohlcv("spy", "2023-01-01", source="yahoo"))
        with pytest.raises(OfflineError):
            fetch_ohlcv("SPY", "2023-01-02", source="yahoo")
        return Report(copied, copied / "report.html", None)

    monkeypatch.setattr("backgrid.reproduce.run_report", run)
    assert rerun_report(copied).identical
    (prices,) = came
    assert prices["Close"].tolist() == [100.0, 101.0, 102.0] and list(prices.attrs.items()) == list(given.items())


def test_missing_notebook_is_said_and_no_parameter_is_made_up(dearer, tmp_path, comes_out):
    copied = Path(shutil.copytree(dearer, tmp_path / "copied"))
    (copied / "report.ipynb").unlink()
    comes_out(dearer)
    assert rerun_report(copied) == Rerun(False, "report.ipynb is missing", (), copied)
    found = diff_reports(dearer, copied)
    assert found.edited == ("B: report.ipynb is missing",)
    assert found.page == "report.ipynb is there in one of them only" and not found.same


@pytest.mark.parametrize("source", ["fees = (", "fees = {[]: 1}", "fees = \0", "fees = " + "(" * 500], ids=short)
def test_injected_cell_that_cannot_be_read_makes_no_parameter_up(dearer, tmp_path, comes_out, source):
    copied = Path(shutil.copytree(dearer, tmp_path / "copied"))
    notebook = json.loads((copied / "report.ipynb").read_text())
    (injected,) = (cell for cell in notebook["cells"] if "injected-parameters" in cell["metadata"].get("tags", []))
    injected["source"] = source
    (copied / "report.ipynb").write_text(json.dumps(notebook))
    comes_out(dearer)
    found = rerun_report(copied)
    assert found.first_difference.startswith("report.ipynb is not the file that was written")
    assert [line.split()[:2] for line in found.further] == [["the", "page:"]]


def test_missing_result_is_said(made, copied, no_kernel):
    (copied / "result.json").unlink()
    assert rerun_report(copied) == Rerun(False, "result.json is missing", (), copied)
    with pytest.raises(ParameterError, match="result.json is missing in .*: run the report again"):
        diff_reports(made, copied)


@pytest.mark.parametrize(
    "name", ["", ".", "..", "a/b", "../report_backtest", "a\0b", "a" * 300, "a\nb", "\ud800"], ids=short
)
def test_template_of_a_name_that_no_file_has_is_refused(copied, no_kernel, name):
    edit(copied, "provenance.json", template=name)
    for call in (rerun_report, lambda path: diff_reports(path, path)):
        with pytest.raises(ParameterError, match="provenance.json of .* is not as it was written"):
            call(copied)


@pytest.mark.parametrize("path", ["a" * 300, "a\0b", ""], ids=short)
def test_path_that_no_file_has_is_no_report(path, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ParameterError, match="there is no report|is no finished report"):
        rerun_report(path)


def places(value, at=()):
    """Way to every value of a JSON file, of lists to the first and the last."""
    yield at
    inner = value.items() if isinstance(value, dict) else list(enumerate(value)) if isinstance(value, list) else []
    for name, below in inner if isinstance(value, dict) else [*inner[:1], *inner[-1:]]:
        yield from places(below, (*at, name))


def put(value, at, new):
    """A JSON value with another one at a place; without it where `new` is `GONE`."""
    if not at:
        return new if new is not GONE else {}
    copied = copy.copy(value)
    if len(at) == 1 and new is GONE:
        del copied[at[0]]
    else:
        copied[at[0]] = put(value[at[0]], at[1:], new)
    return copied


GONE = object()
DEEP = functools.reduce(lambda inner, _: [inner], range(150), [])
ODD = [
    GONE,
    None,
    3,
    -1e308,
    True,
    [],
    [1, "x", None],
    {},
    {"x": {"y": 1}},
    "x",
    "2023-01-01",
    "\ud800",
    "x" * 300,
    DEEP,
]


@pytest.mark.parametrize("name", ["provenance.json", "result.json", "report.ipynb"])
def test_report_that_somebody_edited_is_a_line_or_an_error_of_ours(edited, monkeypatch, name):
    """Any value of it may be anything, one odd value after the other: nothing else is raised."""
    folder, made = edited

    def run(template, parameters, *, out):
        plan_report(template, parameters)  # all but the kernel
        return Report(made, made / "report.html", None)

    monkeypatch.setattr("backgrid.reproduce.run_report", run)
    text = (folder / name).read_text()
    whole = json.loads(text)
    for number, place in enumerate(places(whole)):
        (folder / name).write_text(json.dumps(put(whole, place, ODD[number % len(ODD)])))
        for call in (rerun_report, functools.partial(diff_reports, made)):
            try:
                found = call(folder)
            except BackgridError as error:
                found = error
            assert 0 < len(str(found)) < 20_000, place
    (folder / name).write_text(text)


def test_notebook_that_nobody_wrote_is_not_run(copied, no_kernel):
    """Of a template that is gone the report's own notebook is run, if it is one."""
    edit(copied, "provenance.json", template="report_gone")
    whole = json.loads((copied / "report.ipynb").read_text())
    for place in itertools.islice(places(whole), 12):
        for odd in ODD:
            (copied / "report.ipynb").write_text(json.dumps(put(whole, place, odd)))
            with contextlib.suppress(pytest.fail.Exception):  # it has come to a kernel
                assert "it no longer runs: " in str(rerun_report(copied)), place


# ---- the commands ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("identical", "code"), [(True, 0), (False, 1)])
def test_rerun_prints_what_came_of_it(identical, code, tmp_path, monkeypatch):
    found = Rerun(identical, "" if identical else "metric sharpe: 1 then, 2 now", (), tmp_path)
    monkeypatch.setattr("backgrid.reproduce.rerun_report", lambda path: found)
    done = backgrid_command("rerun", tmp_path)
    assert (done.exit_code, done.stdout) == (code, f"{found}\n")


def test_diff_prints_what_differs(made, dearer):
    done = backgrid_command("diff", made, dearer)
    assert (done.exit_code, done.stdout) == (1, f"{diff_reports(made, dearer)}\n")
    assert backgrid_command("diff", made, made).exit_code == 0


@pytest.mark.parametrize("words", [("rerun", "gone"), ("diff", "gone", "gone")], ids=" ".join)
def test_no_report_exits_2_with_one_line(words):
    done = backgrid_command(*words)
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr == "backgrid: there is no report 'gone': give its folder or its report.html\n"
