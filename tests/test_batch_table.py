"""A table of a batch is read in whatever form it comes, or refused in one line that names the row."""

import datetime as dt
import subprocess

import nbformat
import numpy as np
import pandas as pd
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from backgrid import batch_table
from backgrid.batch import run_batch
from backgrid.batch_table import Job, read_jobs
from backgrid.errors import ParameterError

DEFAULT = "report_backtest"


def job(template=DEFAULT, **parameters):
    return Job(template, parameters)


@pytest.fixture
def file(tmp_path, monkeypatch):
    """`file(name, content)` writes a file of text or bytes, and gives its name."""
    monkeypatch.chdir(tmp_path)

    def write(name, content):
        (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
        return name

    return write


# ---- forms -----------------------------------------------------------------------------------------------------------

WINDOWS = [job(fast_window=5, slow_window=20), job(fast_window=10, slow_window=50)]


@pytest.mark.parametrize(
    "table",
    [
        [{"fast_window": 5, "slow_window": 20}, {"fast_window": 10, "slow_window": 50}],
        ({"fast_window": np.int64(5), "slow_window": 20}, {"fast_window": 10, "slow_window": np.int32(50)}),
        pd.DataFrame({"fast_window": [5, 10], "slow_window": [20, 50]}),
        pd.DataFrame({"fast_window": [5.0, 10.0], "slow_window": [20, 50]}, index=["a", "b"]),
        pd.DataFrame({"fast_window": pd.array([5, 10], dtype="Int64"), "slow_window": [20, 50]}),
    ],
    ids=["list", "tuple of numpy", "frame", "frame of floats", "frame of nullable"],
)
def test_rows_are_read_in_their_order(table):
    assert read_jobs(table) == WINDOWS


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("jobs.csv", "fast_window,slow_window\n5,20\n10,50\n"),
        ("jobs.CSV", "\ufefffast_window, slow_window\r\n\r\n 5 ,20\r\n,\r\n10,50\r\n"),
        ("jobs.csv", "\n\nfast_window,slow_window,,\n5,20,,\n10,50\n"),
        ("jobs.csv", 'slow_window,"fast_window"\n20, "5"\n50,10'),
        ("jobs.yml", "- {fast_window: 5, slow_window: 20}\n- fast_window: 10\n  slow_window: 50\n"),
        ("jobs.json", '\ufeff[{"fast_window": 5, "slow_window": 20}, {"slow_window": 50, "fast_window": 10}]'),
    ],
    ids=["csv", "of a spreadsheet", "blank lines and columns", "quotes", "yaml", "json"],
)
def test_files_are_read_in_their_order(file, name, content):
    assert read_jobs(file(name, content)) == WINDOWS


def test_gaps_are_left_at_their_defaults(file):
    expected = [job(fast_window=5), job(symbol="NVDA", stop_loss=0.1), job()]
    frame = pd.DataFrame(
        {"symbol": [None, "NVDA", np.nan], "fast_window": [5, None, None], "stop_loss": [None, 0.1, None]}
    )
    assert read_jobs(frame) == expected
    assert read_jobs(file("jobs.csv", "symbol,fast_window,stop_loss\n,5\nNVDA,,0.1\n")) == expected[:2]


def test_template_is_a_column(file):
    rows = [{"template": "report_portfolio", "top": 2}, {"template": None, "fast_window": 5}, {"template": ""}]
    assert read_jobs(rows) == [job("report_portfolio", top=2), job(fast_window=5), job()]
    assert read_jobs(file("jobs.csv", "template,top\nreport_portfolio,2\n")) == [job("report_portfolio", top=2)]
    assert read_jobs({"template": ["report_grid", DEFAULT], "symbol": "AAPL"}) == [
        job("report_grid", symbol="AAPL"),
        job(symbol="AAPL"),
    ]


GRID = [job(symbol="AAPL", fast_window=fast, fees=fees) for fast in (5, 10, 15) for fees in (0.0, 0.001)]


@pytest.mark.parametrize(
    "windows",
    [[5, 10, 15], (5, 10, 15), range(5, 16, 5), np.arange(5, 16, 5), pd.Series([5, 10, 15]), pd.Index([5, 10, 15])],
    ids=lambda value: type(value).__name__,
)
def test_dict_of_lists_is_all_combinations_the_last_varying_first(windows):
    assert read_jobs({"symbol": "AAPL", "fast_window": windows, "fees": [0.0, 0.001]}) == GRID


def test_files_hold_grids_too(file):
    assert read_jobs(file("jobs.yml", "symbol: AAPL\nfast_window: [5, 10, 15]\nfees: [0, 0.001]\n")) == GRID
    assert read_jobs(file("jobs.json", '{"symbol": "AAPL", "fast_window": [5], "fees": [0, 0.001]}')) == GRID[:2]


@pytest.mark.parametrize(
    "start", [dt.date(2023, 1, 2), dt.datetime(2023, 1, 2), pd.Timestamp("2023-01-02"), "2023-01-02"]
)
def test_dates_are_dates(start):
    expected = [job(start="2023-01-02")]
    assert read_jobs([{"start": start}]) == expected
    assert read_jobs(pd.DataFrame({"start": [start]})) == expected


def test_dates_of_a_yaml_file_are_dates(file):
    assert read_jobs(file("jobs.yaml", "- start: 2023-01-02\n")) == [job(start="2023-01-02")]


def test_words_of_a_csv_file_are_read_as_their_types(file):
    text = "fees,whole_units,rebalance,n_trials,stop_loss,start\n1,yes,0.05,ledger,none,2023-01-02\n"
    expected = job(fees=1.0, whole_units=True, rebalance=0.05, n_trials="ledger", stop_loss=None, start="2023-01-02")
    assert read_jobs(file("jobs.csv", text)) == [expected]


def test_quoted_line_break_and_comma_belong_to_their_cell(file):
    (read,) = read_jobs(
        file("jobs.csv", 'template,weights,symbols\nreport_portfolio,"AAPL 0.6,\nNVDA 0.4",AAPL NVDA\n')
    )
    assert read.parameters["weights"] == "AAPL 0.6,\nNVDA 0.4"


def test_values_are_what_any_worker_and_the_index_can_take():
    """Plain, whatever they were."""
    table = pd.DataFrame(
        {"fast_window": np.array([5], dtype="uint8"), "fees": [np.float32(0.5)], "whole_units": [np.True_]}
    )
    (read,) = read_jobs(table)
    assert [type(value) for value in read.parameters.values()] == [int, float, bool]


# ---- refused ---------------------------------------------------------------------------------------------------------

TABLES = [
    ([], "the table has no rows: give at least one"),
    ({}, "the table has no rows"),
    ({"fast_window": []}, "the table has no rows"),
    (pd.DataFrame({"fast_window": []}), "the table has no rows"),
    (None, "a table is a DataFrame, a list of dicts, a dict of lists, or a file; got None"),
    (5, "a table is a DataFrame"),
    ([5, 10], "a table is a DataFrame"),
    ([{"fast_window": 5}, None], "a table is a DataFrame"),
    (b"jobs.csv", "a table is a DataFrame"),
    ({"fast_window": range(1000), "slow_window": range(1000)}, "1,000,000 rows, and a batch at most 100,000"),
    ({"fast_window": range(10**9), "slow_window": range(10**9)}, "a batch at most 100,000: give it in parts"),
    ([{"fast_window": 5}] * 100_001, "the table has 100,001 rows"),
    ([{}, {"fast_windw": 5}], "row 2 of the table: report_backtest has no parameter 'fast_windw'; did you mean 'fast_"),
    ([{"a = 1\nopen('pwned', 'w')\nb": 1}], r"row 1 of the table: report_backtest has no parameter "),
    ([{"class": 1}], "report_backtest has no parameter 'class'"),
    ([{"print": 1}], "report_backtest has no parameter 'print'"),
    ([{1: 1}], "row 1 of the table: report_backtest has no parameter 1"),
    ([{None: 1}], "row 1 of the table: report_backtest has no parameter None"),
    ([{"template": "report_backtset"}], "row 1 of the table: unknown template 'report_backtset'; did you mean"),
    ([{"template": "../../etc/passwd"}], "row 1 of the table: unknown template"),
    ([{"template": "none.ipynb"}], "row 1 of the table: there is no template 'none.ipynb'"),
    ([{"template": 5}], "row 1 of the table: template must be a name or a path, got 5"),
    ([{"template": ["report_grid"]}], "row 1 of the table: template must be a name or a path"),
    ([{}, {"fast_window": "ten"}], "row 2 of the table: fast_window must be a whole number, got 'ten'"),
    ([{"fast_window": 2.5}], "row 1 of the table: fast_window must be a whole number, got 2.5"),
    ([{"fast_window": True}], "fast_window must be a whole number, got True"),
    ([{"fees": float("nan")}], "fees must be finite, got nan"),
    ([{"fees": 10**400}], "fees must be finite, got inf"),
    ([{"fees": None}], "fees must be a number, got None"),
    ([{"source": lambda *_: None}], "source must be text"),
    (pd.DataFrame([[1, 2]], columns=["fees", "fees"]), "the table has two columns 'fees': give each name once"),
    (pd.DataFrame([[1]], columns=pd.MultiIndex.from_tuples([("fees", "a")])), "report_backtest has no parameter"),
]


@pytest.mark.parametrize(("table", "message"), TABLES, ids=[message[:60] for _, message in TABLES])
def test_wrong_table_is_refused_with_nothing_started_or_written(file, monkeypatch, tmp_path, table, message):
    monkeypatch.setattr(subprocess, "Popen", lambda *_, **__: pytest.fail("a process was started"))
    with pytest.raises(ParameterError, match=message):
        run_batch(table, out="out")
    assert list(tmp_path.iterdir()) == []


FILES = [
    ("jobs.csv", "", "the table has no rows"),
    ("jobs.csv", "\n\n", "the table has no rows"),
    ("jobs.csv", "symbol\n", "the table has no rows"),
    ("jobs.csv", "symbol,fees, symbol\nAAPL,0,AAPL\n", "jobs.csv has two columns 'symbol': give each name once"),
    ("jobs.csv", "symbol,fees\nAAPL,0\nAAPL,0,1\n", "row 2 of jobs.csv has 3 values, and there are 2 columns"),
    ("jobs.csv", "symbol,\nAAPL,1\n", "row 1 of the table: report_backtest has no parameter ''"),
    ("jobs.csv", "symbol;fees\nAAPL;0\n", "report_backtest has no parameter 'symbol;fees'"),
    ("jobs.csv", "symbol,fees\n\nAAPL,0\n\nAAPL,much\n", "row 2 of the table: fees must be a number, got 'much'"),
    ("jobs.csv", 'symbol\n"AAPL\nNVDA\n', "jobs.csv cannot be read: unexpected end of data"),
    ("jobs.csv", f"symbol\n{'A' * 200_000}\n", "jobs.csv cannot be read: field larger than field limit"),
    ("jobs.csv", b"symbol\n\xff\xfe\x00\n", "jobs.csv cannot be read: 'utf-8' codec"),
    ("jobs.yml", "", "a table is a DataFrame, a list of dicts"),
    ("jobs.yml", "just words", "a table is a DataFrame, a list of dicts"),
    ("jobs.yml", "[", "jobs.yml cannot be read: while parsing"),
    ("jobs.yml", "!!python/object/apply:os.system ['touch pwned']", "jobs.yml cannot be read: could not determine"),
    ("jobs.yml", "- 1: 2", "row 1 of the table: report_backtest has no parameter 1"),
    ("jobs.yml", b"\x00\x01", "jobs.yml cannot be read"),
    ("jobs.json", "", "jobs.json cannot be read: Expecting value"),
    ("jobs.json", "[" * 100_000, "jobs.json cannot be read"),
    ("jobs.json", '[{"fees": NaN}]', "fees must be finite"),
    ("jobs.json", "5", "a table is a DataFrame"),
    ("jobs.parquet", "", "a table is a .csv, .yml, .yaml or .json file, got 'jobs.parquet'"),
    ("jobs", "", "a table is a .csv, .yml, .yaml or .json file, got 'jobs'"),
]


@pytest.mark.parametrize(("name", "content", "message"), FILES, ids=[f"{name} {text[:50]}" for name, _, text in FILES])
def test_wrong_file_is_refused(file, tmp_path, name, content, message):
    with pytest.raises(ParameterError, match=message):
        read_jobs(file(name, content))
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("name", ["none.csv", "none.yml", "none.json", "folder.csv", "folder.json", "", ".", "a\0.csv"])
def test_file_that_is_not_there_is_refused(file, tmp_path, name):
    for folder in ("folder.csv", "folder.json"):
        (tmp_path / folder).mkdir()
    with pytest.raises(ParameterError, match="cannot be read|a table is a .csv"):
        read_jobs(name)


def test_template_is_read_once_for_all_its_rows(file, tmp_path, monkeypatch):
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    cells = [new_code_cell("n: int = 0  # which", metadata={"tags": ["parameters"]})]
    nbformat.write(new_notebook(cells=cells, metadata={"kernelspec": kernel}), tmp_path / "own.ipynb")
    read, reads = batch_table.read_parameters, []
    monkeypatch.setattr(batch_table, "read_parameters", lambda path: reads.append(path.name) or read(path))
    assert len(read_jobs([{"template": "own"}] * 50)) == 50
    assert reads == ["own.ipynb"]
