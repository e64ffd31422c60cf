"""A report is run again to the same bytes, or what differs first is named; of two it is said why they differ."""

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
from backgrid.errors import ParameterError, ReportError
from backgrid.report import Report, run_report
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
    cells = [
        new_markdown_cell("# Words"),
        new_code_cell("note: str = 'none'  # words\ntimes: int = 2", metadata={"tags": ["parameters"]}),
        new_code_cell("print(note * times)"),
    ]
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    template = tmp_path / "notebooks" / "report_own.ipynb"
    template.parent.mkdir()
    nbformat.write(new_notebook(cells=cells, metadata={"kernelspec": kernel}), template)
    path = run_report("report_own", {"note": "yes"}, out=tmp_path).path
    nbformat.write(new_notebook(cells=cells[:-1], metadata={"kernelspec": kernel}), template)
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
    assert rerun_report(copied).first_difference == (f"data: the SHA-256 of the raw bars is {'0' * 64} then, {now} now")


def test_first_bar_that_is_another_shows_in_what_holding_was_worth(csv, comes_out):
    _, before, after = csv
    comes_out(after)
    found = rerun_report(before)
    assert found.first_difference.startswith("data: the SHA-256 of the raw bars is ")
    (bar,) = (line for line in found.further if line.startswith("data: the benchmark is worth"))
    assert bar.count(" on 2023-05-03 ") == 2 and bar.endswith(" now")


def test_edited_parameter_contradicts_the_notebook_and_gives_other_numbers(made, copied):
    edit(copied, "provenance.json", parameters={**provenance_of(made)["parameters"], "fees": 0.002})
    found = rerun_report(copied)
    assert not found.identical
    assert found.first_difference == "parameter fees: 0.001 in report.ipynb, 0.002 in provenance.json"
    kinds = [line.split(" ")[0] for line in found.further]
    assert kinds == ["parameter", "metric", "trade", "equity", "the"]
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
        "equity",
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
    with pytest.raises(ParameterError, match="lacks template, template_sha256, parameters, versions"):
        call(copied)
    (copied / "provenance.json").write_text("{")
    with pytest.raises(ParameterError, match="provenance.json of .* cannot be read"):
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
    assert found.equity == f"equity of bar {first}, {date}: {a} in A, {b} in B"
    assert found.trades.startswith("trade 1, units: ") and found.trades.endswith(" in B")
    assert found.metrics.loc["sharpe"].tolist() == ["Sharpe", *(result["metrics"]["sharpe"] for result in results)]
    assert "n_trades" not in found.metrics.index


def test_parameter_left_open_is_the_value_that_the_run_took(made, copied, tmp_path):
    asked = {**provenance_of(made)["parameters"], "fast_window": 20, "periods_per_year": 252.0}
    edit(copied, "provenance.json", parameters=asked)
    assert diff_reports(made, copied).same


def test_changed_bar_is_named_and_is_the_cause(csv):
    _, before, after = csv
    found = diff_reports(before, after)
    close = fetch_ohlcv("AAPL", "2023-05-03", "2023-05-04", source="sample")["Close"].iloc[0]
    high = fetch_ohlcv("AAPL", "2023-05-03", "2023-05-04", source="sample")["High"].iloc[0]
    said = f"AAPL: the bars differ from 2023-05-03 on: High is {high!r} in A and 200.0 in B"
    assert float(high) != 200.0 != float(close)
    assert found.data == (said.replace(repr(high), repr(float(high))),)
    assert found.cause == f"the metrics differ because {found.data[0]}"


def test_snapshots_that_are_not_at_hand_are_named_only(csv, own_cache):
    shutil.rmtree(own_cache / "snapshots")
    _, before, after = csv
    short = " and ".join(provenance_of(folder)["snapshot"][:12] for folder in (before, after))
    (said,) = diff_reports(before, after).data
    assert said == f"AAPL: the snapshots {short} differ; to name the first bar, both must be at hand"


def test_other_range_says_which_bars_each_has(made, tmp_path, comes_out):
    longer = run_report(parameters={**SHORT, "start": "2022-12-01"}, out=tmp_path).path
    found = diff_reports(made, longer)
    assert found.cause == "the metrics differ because start is 2023-01-01 in A and 2022-12-01 in B"
    (said,) = found.data
    assert "A has 250 bars from 2023-01-03 to 2023-12-29, B 271 bars from 2022-12-01 to 2023-12-29" in said
    assert said.endswith("the traded prices of all 250 common bars are the same")
    assert found.equity == "date of bar 0, 2023-01-03: 2023-01-03 in A, 2022-12-01 in B"


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
    said = f"version of numpy is {recorded['numpy']} in A and 0.1 in B"
    assert found.cause == f"the numbers are the same, though {said}"


def test_page_alone_that_differs_is_pointed_at(made, copied):
    (copied / "report.html").write_text((made / "report.html").read_text().replace("<title>", "<title>My ", 1))
    found = diff_reports(made, copied)
    assert found.page.startswith("the page: line ")
    assert found.cause == f"the numbers are the same, and {found.page}"


def differences(**given):
    values = {"a": "x", "b": "y", "cause": "why", "data": (), "parameters": (), "code": ()}
    values |= {"equity": "", "trades": "", "page": "", "edited": ()}
    table = pd.DataFrame({"label": [], "a": [], "b": []})
    return Differences(**{**values, "metrics": table, **given})


def test_table_shows_each_metric_with_the_digits_that_tell_both_apart():
    table = pd.DataFrame(
        {"label": ["Sharpe", "Skew"], "a": [1.0, 2.0], "b": [1.0000001, np.nan]}, index=["sharpe", "skew"]
    )
    assert str(differences(metrics=table)).splitlines()[3:] == [
        "Metrics       A          B",
        "  Sharpe      1  1.0000001",
        "  Skew     2.00        n/a",
    ]


def test_notebook_shows_foreign_text_as_text():
    shown = differences(a=PAYLOAD, cause=PAYLOAD, parameters=(Change(PAYLOAD, PAYLOAD, PAYLOAD),), trades=PAYLOAD)
    page = shown._repr_html_()
    assert "<script" not in page and page.count("&lt;script&gt;alert(1)") == 6
    assert repr(shown) == f"<Differences of {PAYLOAD} and y: {PAYLOAD}>"


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
