"""What other programs read of a batch says what its rows gave and what its runs found, each under one name."""

import json
import math

import numpy as np
import pandas as pd
import pytest
from test_batch_page import BROKEN, completed, failed

from backgrid.batch_runs import different, index_rows, index_table, trials

FIXED = ["row", "status", "error", "template", "folder", "symbol", "strategy"]


def table_of(*given, **changes):
    """Of runs without metrics whose rows gave this."""
    changes = {"metrics": {}, "symbol": "", "strategy": ""} | changes
    return index_table([completed(row, parameters=each, **changes) for row, each in enumerate(given, 1)])


def test_rows_are_plain_and_without_nan():
    parameters = {"fast": np.int64(3), "stop": math.inf, "start": pd.Timestamp("2020-01-01"), "of": (1, None, True)}
    run = completed(8, parameters=parameters, metrics={"sharpe": math.nan, "cagr": 0.5}, verdicts=[["good", "yes"]])
    one, two = json.loads(json.dumps(index_rows([run, failed(9)]), allow_nan=False))
    assert one == {
        "status": "completed",
        "row": 8,
        "template": "report_backtest",
        "parameters": {"fast": 3, "stop": None, "start": "2020-01-01 00:00:00", "of": [1, None, True]},
        "folder": "AAPL_8",
        "error": None,
        "symbol": "AAPL",
        "strategy": "Crossover 17/50",
        "metrics": {"sharpe": None, "cagr": 0.5},
        "verdicts": [["good", "yes"]],
    }
    assert (two["status"], two["error"], two["metrics"]) == ("failed", BROKEN, {})


def test_table_has_a_line_a_run_and_a_column_a_parameter_and_metric():
    table = index_table([completed(1, metrics={"sharpe": 1.0, "cagr": math.nan}), failed(2)])
    assert list(table) == [*FIXED, "fast", "fees", "sharpe", "cagr"]
    assert table["row"].tolist() == [1, 2]
    assert table["error"].tolist()[1] == "ParameterError: fast 60 is not below slow 50"
    assert table["fast"].tolist() == [10, 60] and table["sharpe"].iloc[0] == 1.0
    assert table[["sharpe", "cagr"]].isna().to_numpy().tolist() == [[False, True], [True, True]]
    assert len(table.to_csv(index=False, lineterminator="\n").splitlines()) == 3
    assert index_table([]).shape == (0, 7)


def test_symbol_and_strategy_that_a_row_gave_stand_once():
    """Also of a failed row, which has them from its row."""
    parameters = {"symbol": "AAPL", "strategy": "rsi"}
    table = index_table([completed(1, parameters=parameters, strategy="rsi"), failed(2, parameters=parameters)])
    assert [name for name in table if name.startswith("given_")] == []
    assert table["symbol"].tolist() == ["AAPL"] * 2 and table["strategy"].tolist() == ["rsi"] * 2


def test_symbol_that_a_row_gave_in_another_way_stands_beside_that_of_the_run():
    table = table_of({"symbol": "aapl"}, {}, symbol="AAPL")
    assert table["symbol"].tolist() == ["AAPL"] * 2 and table["given_symbol"].iloc[0] == "aapl"


def test_parameter_that_is_named_as_a_metric_stands_beside_it():
    table = table_of({"sharpe": 3}, metrics={"sharpe": 1.0})
    assert (table["sharpe"].tolist(), table["given_sharpe"].tolist()) == ([1.0], [3])


@pytest.mark.parametrize("names", [("row", "given_row"), ("given_row", "row")])
def test_no_parameter_takes_the_column_of_another(names):
    values = {"row": "asked", "given_row": "other"}
    table = table_of({name: values[name] for name in names})
    assert (table["row"].tolist(), table["given_row"].tolist()) == ([1], ["other"])
    assert table["given_given_row"].tolist() == ["asked"]


def test_whole_numbers_of_the_table_stay_whole_where_a_row_has_none():
    table = table_of({"fast": 10}, {"of": ["a", None]})
    assert table.to_csv(index=False, columns=["fast", "of"]).split() == ["fast,of", "10,", ',"a,', 'none"']


def test_whole_numbers_of_the_table_keep_every_digit_beside_a_float():
    table = table_of({"seed": 2**53 + 1}, {"seed": 0.5})
    assert table.to_csv(index=False, columns=["seed"]).split() == ["seed", "9007199254740993", "0.5"]


def test_whole_numbers_of_any_size_are_written():
    """Those of more than 4,300 digits, which Python does not write in base 10, in base 16."""
    given = [10**400, 2**20000, [2**20000]]
    table = table_of(*({"n": n} for n in given))
    assert table.to_csv(index=False, columns=["n"]).split()[1:] == [str(10**400)] + ["0x1" + "0" * 5000] * 2
    rows = index_rows([completed(row, parameters={"n": n}) for row, n in enumerate(given, 1)])
    found = [row["parameters"]["n"] for row in json.loads(json.dumps(rows, allow_nan=False))]
    assert found == [10**400, "0x1" + "0" * 5000, ["0x1" + "0" * 5000]]


def test_runs_that_share_a_report_are_one_and_those_without_a_result_none():
    first, same, other = completed(1), completed(1)._replace(row=2), completed(3)
    nothing = completed(4, metrics={})
    runs = [first, same, other, failed(5), nothing]
    assert [run.row for run in different(runs)] == [1, 3, 4]
    assert [run.row for run in trials(runs)] == [1, 3]
