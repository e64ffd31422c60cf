"""The command line: words to requests, answers to text, one clear line and an exit code for an error."""

import json
import math
import re
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

import backgrid
from backgrid.cli import main
from backgrid.data import fetch_ohlcv
from backgrid.engine import run_backtest
from backgrid.errors import ReportError
from backgrid.metrics import METRICS
from backgrid.models import BacktestRequest, BacktestResponse
from backgrid.settings import SETTINGS
from backgrid.templates import find_template, read_parameters

SAMPLE = ("--source", "sample")


def backgrid_command(*words):
    """The finished command, run in this process."""
    return CliRunner().invoke(main, [str(word) for word in words], catch_exceptions=False)


def assert_refused(done, code, *said):
    """One line on stderr that says it, nothing on stdout, and the exit code."""
    assert (done.exit_code, done.stdout) == (code, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("backgrid: ")
    for words in said:
        assert words in line


@pytest.fixture
def reported(monkeypatch):
    """What `backgrid report` asks of run_report, which writes nothing here."""
    asked = {}

    def run_report(template, parameters, *, out):
        asked.update(template=template, parameters=parameters, out=out)
        return backgrid.Report(Path("x"), Path("x") / "report.html", None)

    monkeypatch.setattr("backgrid.report.run_report", run_report)
    return asked


@pytest.fixture
def parameter_file(tmp_path):
    def write(text):
        path = tmp_path / "parameters.yml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


# ---- report ----------------------------------------------------------------------------------------------------------


def test_report_prints_the_path_of_its_page(reported):
    done = backgrid_command("report")
    assert (done.exit_code, done.stdout) == (0, f"{Path('x') / 'report.html'}\n")
    assert reported == {"template": "report_backtest", "parameters": {}, "out": None}


def test_report_reads_words_as_the_declared_types(reported):
    words = ("fast_window", "007", "fees", "1", "whole_units", "yes", "symbol", "007", "start", "2023-01-02")
    pairs = [word for name, value in zip(words[::2], words[1::2], strict=True) for word in ("-p", name, value)]
    backgrid_command("report", "report_backtest", *pairs, "--out", "somewhere")
    assert reported["parameters"] == {
        "fast_window": 7,
        "fees": 1.0,
        "whole_units": True,
        "symbol": "007",
        "start": "2023-01-02",
    }
    assert reported["out"] == "somewhere"


@pytest.mark.parametrize(
    ("name", "word", "value"),
    [
        ("stop_loss", "0.1", 0.1),
        ("take_profit", "1", 1.0),
        ("lookback", "20", 20),
        ("rebalance", "week", "week"),
        ("rebalance", "0.05", 0.05),
        ("rebalance", "none", None),
        ("trailing_stop", "None", None),
        ("lower", "25", 25.0),
        ("exit_window", "5", 5),
    ],
)
def test_report_reads_orders_and_parameters_of_any_strategy(reported, name, word, value):
    assert backgrid_command("report", "-p", name, word).exit_code == 0
    assert reported["parameters"] == {name: value}
    assert type(reported["parameters"][name]) is type(value)


def test_word_takes_back_an_order_of_the_file(reported, parameter_file):
    path = parameter_file("stop_loss: 0.1\nrebalance: 0.05\nsizing: fraction\n")
    backgrid_command("report", "-f", path, "-p", "stop_loss", "none")
    assert reported["parameters"] == {"stop_loss": None, "rebalance": 0.05, "sizing": "fraction"}


def test_report_takes_a_file_of_parameters_and_words_win(reported, parameter_file):
    path = parameter_file("symbol: GOOG\nstart: 2023-01-02\nfast_window: 5\nfees: 0.002\nwhole_units: true\n")
    assert backgrid_command("report", "-f", path, "-p", "fast_window", "7").exit_code == 0
    given = {name: str(value) for name, value in reported["parameters"].items()}
    expected = {"symbol": "GOOG", "start": "2023-01-02", "fast_window": "7", "fees": "0.002", "whole_units": "True"}
    assert given == expected


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("- a\n- b\n", "name: value"),
        ("just text", "name: value"),
        ("5: x", "name: value"),
        ("a: [", "parameters.yml"),
        ("a: !!python/object/apply:os.system [id]", "parameters.yml"),
        (b"\xff\xfe\x00", "parameters.yml"),
        ("[" * 5_000, "parameters.yml"),
        ("fast_windw: 5", "did you mean 'fast_window'"),
        ("fast_window: '5'", "fast_window must be a whole number, got '5'"),
        ("fast_window: 2.5", "fast_window must be a whole number, got 2.5"),
        ("fast_window: yes", "fast_window must be a whole number, got True"),
        ("fees: .nan", "fees must be finite"),
        ("fees: 1" + "0" * 400, "fees must be"),
        ("symbol: 007", "symbol must be text, got 7"),
        ("symbol:", "symbol must be text, got None"),
    ],
    ids=lambda value: str(value)[:24],
)
def test_report_refuses_a_wrong_file_of_parameters(reported, parameter_file, content, said):
    assert_refused(backgrid_command("report", "-f", parameter_file(content)), 2, said)
    assert not reported


def test_report_refuses_a_file_that_is_not_there(reported, tmp_path):
    assert_refused(backgrid_command("report", "-f", tmp_path / "none.yml"), 2, "none.yml")
    assert not reported


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nope"], "unknown template 'nope'"),
        (["report_bactest"], "did you mean 'report_backtest'"),
        (["-p", "fast_windw", "5"], "did you mean 'fast_window'"),
        (["-p", "fast_window", "2.5"], "fast_window must be a whole number, got '2.5'"),
        (["-p", "fees", "nan"], "fees must be finite"),
        (["-p", "fees", "cheap"], "fees must be a number"),
        (["-p", "whole_units", "maybe"], "whole_units must be true or false"),
        (["-p", "stop_loss", "5%"], "stop_loss must be a number, got '5%'"),
        (["-p", "lookback", "20.5"], "lookback must be a whole number, got '20.5'"),
        (["-p", "rebalance", "nan"], "rebalance must be finite"),
        (["-p", "stop_los", "0.1"], "did you mean 'stop_loss'"),
        (["-p", "a = 1\nopen('pwned','w')\nb", "1"], "unknown parameter"),
    ],
)
def test_report_refuses_wrong_words_before_it_starts(reported, words, said):
    assert_refused(backgrid_command("report", *words), 2, said)
    assert not reported


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["-p", "symbol", "../../etc/passwd"], 2, "is not a ticker"),
        (["-p", "strategy", "ma_crosover"], 2, "did you mean 'ma_crossover'"),
        (["-p", "fast_window", "50"], 2, "fast_window 50 must be below slow_window 50"),
        (["-p", "fast_window", "0"], 2, "fast_window must be at least 1 bar, got 0"),
        (["-p", "start", "2023-13-01"], 2, "start must be a date"),
        (["-p", "start", "2024-01-01", "-p", "end", "2023-01-01"], 2, "end 2023-01-01 is before start 2024-01-01"),
        (["-p", "stop_loss", "5"], 2, "stop_loss: Input should be less than 1, got 5.0"),
        (["-p", "sizing", "units"], 2, "sizing='units' needs a size"),
        (["-p", "sizing", "risk", "-p", "size", "0.01"], 2, "sizing='risk' needs a stop_loss or a trailing_stop"),
        (["-p", "rebalance", "weekly"], 2, "unknown rebalance 'weekly'; did you mean 'week'?"),
        (["-p", "strategy", "momentum", "-p", "fast_window", "10"], 2, "momentum has no parameter 'fast_window'"),
        (["-p", "signal_window", "9"], 2, "ma_crossover has no parameter 'signal_window'"),
        (["-p", "symbol", "MSFT"], 1, "the embedded sample has no 1d bars of it"),
        (["-p", "slow_window", "1000000000"], 1, "slow_window=1000000000"),
    ],
)
def test_report_refuses_what_cannot_be_run_before_a_kernel_starts(words, code, said, tmp_path, monkeypatch):
    monkeypatch.setattr("papermill.execute_notebook", lambda *_, **__: pytest.fail("a kernel was started"))
    assert_refused(backgrid_command("report", *words, "--out", tmp_path / "out"), code, said)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (ReportError("report_backtest: cell 3 failed\nwith this"), 1, "report_backtest: cell 3 failed with this"),
        (KeyboardInterrupt(), 130, "stopped"),
    ],
)
def test_failure_of_a_report_is_one_line(monkeypatch, error, code, line):
    def run_report(*_, **__):
        raise error

    monkeypatch.setattr("backgrid.report.run_report", run_report)
    assert_refused(backgrid_command("report"), code, f"backgrid: {line}")


# ---- run -------------------------------------------------------------------------------------------------------------


def test_run_answers_with_what_run_backtest_gives():
    words = ("--start", "2023-01-01", "--end", "2023-12-31", "-p", "fast_window", "5", "-p", "fees", "0.001", "--json")
    done = backgrid_command("run", "aapl", *SAMPLE, *words)
    result = run_backtest(
        fetch_ohlcv("AAPL", "2023-01-01", "2023-12-31", source="sample"), params={"fast_window": 5}, fees=0.001
    )
    response = BacktestResponse.model_validate_json(done.stdout)
    assert (done.exit_code, response.symbol, response.status) == (0, "AAPL", "completed")
    assert response.equity_curve == result.equity.tolist()
    given = {name: math.nan if value is None else value for name, value in response.metrics.items()}
    assert given == pytest.approx(result.metrics, rel=0, abs=0, nan_ok=True)


def test_run_takes_every_order(aapl):
    orders = {"sizing": "risk", "size": 0.02, "stop_loss": 0.1, "trailing_stop": 0.05, "rebalance": 0.05}
    terms = {**orders, "leverage": 1.5, "cash_rate": 0.02, "borrow_rate": 0.03}
    words = [word for name, value in {**terms, "window": 5, "upper": 60}.items() for word in ("-p", name, value)]
    year = ("--start", "2023-01-01", "--end", "2023-12-31")
    done = backgrid_command("run", "AAPL", *SAMPLE, *year, "--strategy", "rsi_reversion", *words, "--json")
    result = run_backtest(aapl, "rsi_reversion", params={"window": 5, "upper": 60}, **terms)
    assert BacktestResponse.model_validate_json(done.stdout).equity_curve == result.equity.tolist()
    assert result.metrics["n_trades"] > 0


def test_run_writes_strict_json_for_undefined_numbers():
    done = backgrid_command("run", "AAPL", *SAMPLE, "--start", "2024-12-27", "--strategy", "buy_and_hold", "--json")
    answer = json.loads(done.stdout, parse_constant=lambda word: pytest.fail(f"{word} is not JSON"))
    assert answer["metrics"]["profit_factor"] is None
    assert BacktestResponse.model_validate(answer, strict=False).model_dump(mode="json") == answer


def test_run_prints_every_metric_by_its_label():
    done = backgrid_command("run", "AAPL", *SAMPLE, "-p", "fees", "0.001")
    lines = done.stdout.splitlines()[2:]
    assert [line for line in lines if not line.startswith(" ")] == ["Return", "Risk", "Ratios", "Trades", "Benchmark"]
    for metric in METRICS.values():
        assert sum(line.startswith(f"  {metric.label}  ") for line in lines) == 1
    assert "  Total return                     179.1\u202f%" in lines


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "filled at the next open, no costs are charged"),
        (["-p", "fees", "0.001", "-p", "fill", "close"], "filled at the close that decided them, 0.1\u202f% a side"),
        (["-p", "stop_loss", "0.05"], "stop 5\u202f%, filled at the next open, no costs are charged"),
    ],
    ids=str,
)
def test_run_first_says_what_was_run(words, said):
    done = backgrid_command("run", "AAPL", *SAMPLE, *words)
    assert done.stdout.splitlines()[:2] == [
        "ma_crossover(fast_window=20, slow_window=50) on AAPL, 2019-01-02 to 2024-12-30, 1,509 bars",
        f"Long AAPL while its 20-bar mean is above its 50-bar mean, {said}",
    ]


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["A/B"], 2, "is not a ticker"),
        ([""], 2, "is not a ticker"),
        (["<script>"], 2, "is not a ticker"),
        (["a" * 10_240], 2, "is not a ticker"),
        (["MSFT"], 1, "the embedded sample has no 1d bars of it"),
        (["AAPL", "--strategy", "ma_crosover"], 2, "did you mean 'ma_crossover'"),
        (["AAPL", "--interval", "2d"], 2, "interval"),
        (["AAPL", "--start", "tomorrow"], 2, "start must be a date"),
        (["AAPL", "--end", "2018-01-01"], 1, "no bars in this range"),
        (["AAPL", "-p", "fast_windw", "5"], 2, "did you mean 'fast_window'"),
        (["AAPL", "-p", "fast_window", "50"], 2, "must be below slow_window"),
        (["AAPL", "-p", "fast_window", "ten"], 2, "fast_window must be a whole number, got 'ten'"),
        (["AAPL", "-p", "fees", "nan"], 2, "fees"),
        (["AAPL", "-p", "fees", "2"], 2, "fees"),
        (["AAPL", "-p", "whole_units", "maybe"], 2, "whole_units"),
        (["AAPL", "-p", "class", "1"], 2, "class"),
        (["AAPL", "-p", "stop_loss", "5"], 2, "stop_loss: Input should be less than 1, got 5"),
        (
            ["AAPL", "-p", "stop_los", "0.1"],
            2,
            "neither ma_crossover nor a run has 'stop_los'; did you mean 'stop_loss'?",
        ),
        (["AAPL", "-p", "adjust", "0"], 2, "did you mean 'adjusted'?"),
        (["AAPL", "-p", "sizing", "unit"], 2, "sizing: Input should be 'fraction', 'units', "),
        (["AAPL", "-p", "sizing", "units"], 2, "sizing='units' needs a size"),
        (["AAPL", "-p", "rebalance", "1.5"], 2, "rebalance must be a number above 0 and below 1, got 1.5"),
        (["AAPL", "-p", "lookback", "1"], 2, "lookback: Input should be greater than or equal to 2, got 1"),
        (
            ["AAPL", "--strategy", "macd", "-p", "window", "9"],
            2,
            "macd has no parameter 'window'; did you mean 'slow_w",
        ),
    ],
)
def test_run_refuses_in_one_line(words, code, said):
    assert_refused(backgrid_command("run", *words, *SAMPLE), code, said)


@pytest.mark.parametrize("name", ["start", "source", "interval", "symbol", "strategy", "params"])
def test_run_takes_or_refuses_an_option_given_as_a_parameter(name):
    """A field that has an option of its own must not end in a traceback."""
    done = backgrid_command("run", "AAPL", *SAMPLE, "-p", name, "2023-01-01")
    if done.exit_code != 0:
        assert_refused(done, done.exit_code)


@pytest.mark.parametrize(
    ("name", "word", "value"),
    [
        ("cash", "1e6", 1e6),
        ("whole_units", "TRUE", True),
        ("fill", "close", "close"),
        ("fees", "0", 0.0),
        ("rebalance", "week", "week"),
        ("rebalance", "0.1", 0.1),
        ("lookback", "20", 20),
    ],
)
def test_run_reads_words_as_numbers_and_truth_values(name, word, value, monkeypatch):
    asked = []

    def backtest_request(request):
        asked.append(request)
        raise ReportError("that is enough")

    monkeypatch.setattr("backgrid.run.backtest_request", backtest_request)
    backgrid_command("run", "AAPL", "-p", name, word)
    assert getattr(asked[0], name) == value


# ---- fetch -----------------------------------------------------------------------------------------------------------


def test_fetch_says_what_came():
    done = backgrid_command("fetch", "aapl", *SAMPLE, "--start", "2023-01-01", "--end", "2023-12-31")
    assert done.exit_code == 0
    first, note = done.stdout.splitlines()
    assert first == "AAPL: 250 bars, 2023-01-03 to 2023-12-29"
    assert note.startswith("  adjusted by Adj Close / Close")


def test_fetch_goes_on_after_a_failure_and_fails_at_the_end():
    done = backgrid_command("fetch", "GOOG", "MSFT", "NVDA", *SAMPLE)
    assert done.exit_code == 1
    assert [line.split(":")[0] for line in done.stdout.splitlines() if line[0] != " "] == ["GOOG", "NVDA"]
    (line,) = done.stderr.splitlines()
    assert line.startswith("backgrid: MSFT first bar..last bar: the embedded sample has no 1d bars of it")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["GOOG", "../x"], "'../x' is not a ticker"),
        (["GOOG", "--interval", "2d"], "unknown interval '2d'"),
        (["GOOG", "--start", "2024-01-01", "--end", "2023-01-01"], "end 2023-01-01 is before start 2024-01-01"),
        (["GOOG", "--source", "sampel"], "did you mean 'sample'"),
    ],
)
def test_fetch_refuses_a_wrong_request_as_a_whole(words, said):
    assert_refused(backgrid_command("fetch", *SAMPLE, *words), 2, said)


# ---- templates, settings, help ---------------------------------------------------------------------------------------


def test_templates_lists_every_parameter_with_type_default_and_meaning():
    done = backgrid_command("templates")
    listed = done.stdout.splitlines()
    declared = read_parameters(find_template("report_backtest"))
    start = listed.index("report_backtest") + 1
    for line, (name, parameter) in zip(listed[start : start + len(declared)], declared.items(), strict=True):
        assert re.split(r"\s{2,}", line.strip())[:3] == [name, parameter.type, repr(parameter.default)]
        assert line.endswith(parameter.meaning) and parameter.meaning
    assert done.exit_code == 0


def test_settings_lists_every_setting_with_the_value_in_force(monkeypatch):
    monkeypatch.setenv("BACKGRID_SOURCE", "sample")
    monkeypatch.setenv("BACKGRID_REPORTS", "")
    listed = backgrid_command("settings").stdout
    assert "BACKGRID_SOURCE=sample  (default yahoo)\n" in listed
    assert "BACKGRID_REPORTS=reports\n" in listed
    for name, (_, meaning) in SETTINGS.items():
        assert f"{name}=" in listed and meaning in listed


def test_settings_show_no_secret(monkeypatch):
    monkeypatch.setenv("BACKGRID_JWT_SECRET", "s3cret" * 6)
    monkeypatch.setenv("BACKGRID_DATABASE_URL", "postgresql://me:s3cret@host/name")
    monkeypatch.setenv("BACKGRID_BROKER_URL", "redis://:s3cret@host:6379/0")
    listed = backgrid_command("settings").stdout
    assert "s3cret" not in listed
    assert "BACKGRID_JWT_SECRET=***  (default none)\n" in listed
    assert "postgresql://me:***@host/name" in listed and "redis://:***@host:6379/0" in listed


@pytest.mark.parametrize("place", ["me:s3c:r3t@host/db", "me:s3c/r3t@host/db", "host/db?user=me&password=s3cr3t&a=b"])
def test_settings_show_no_password_however_it_is_written(monkeypatch, place):
    monkeypatch.setenv("BACKGRID_DATABASE_URL", f"postgresql://{place}")
    listed = backgrid_command("settings").stdout
    assert "s3c" not in listed and "r3t" not in listed and "***" in listed and "host/db" in listed


@pytest.mark.parametrize("command", [[], ["report"], ["run"], ["fetch"], ["templates"], ["settings"]], ids=str)
def test_every_command_explains_itself(command):
    done = backgrid_command(*command, "-h")
    assert done.exit_code == 0 and done.stdout.startswith("Usage: ")


def test_help_of_run_names_every_field_that_has_no_option_of_its_own():
    _, listed = backgrid_command("run", "-h").stdout.split("and:\n")
    groups = [re.split(r"\s{2,}", line.strip()) for line in listed.split("\n\n")[0].splitlines()]
    named = [name for _, names in groups for name in names.split()]
    usual = BacktestRequest(symbol="AAPL").terms()
    assert sorted(named) == sorted([*usual, "adjusted"])


@pytest.mark.parametrize(
    "words", [["nope"], ["run"], ["fetch"], ["report", "-p", "fees"], ["run", "A", "--nope"]], ids=str
)
def test_wrong_usage_exits_2(words):
    assert backgrid_command(*words).exit_code == 2


def test_command_names_its_version():
    assert backgrid.__version__ in backgrid_command("--version").stdout


# ---- as a program ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "code"),
    [(["settings"], 0), (["run", "MSFT", *SAMPLE], 1), (["run", "A/B", *SAMPLE], 2)],
    ids=["done", "failed", "wrong"],
)
def test_program_exits_0_1_or_2_and_shows_no_traceback(words, code, tmp_path):
    done = subprocess.run([sys.executable, "-m", "backgrid", *words], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == code
    assert "Traceback" not in done.stderr and len(done.stderr.splitlines()) == bool(code)


def test_program_whose_output_cannot_be_written_says_so_in_a_line():
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "backgrid", "settings"], stdout=full, stderr=subprocess.PIPE, text=True
        )
    assert (done.returncode, done.stderr) == (1, "backgrid: [Errno 28] No space left on device\n")


ENDINGS = {  # what the command does, and its exit code
    "sys.exit(3)": 3,
    "sys.exit('words')": 1,
    "sys.exit()": 0,
    "1 / 0": 1,
    "os.close(1)": 0,
}


@pytest.mark.parametrize(("does", "code"), ENDINGS.items(), ids=str)
def test_program_ends_with_its_code_after_what_others_left_to_do(does, code):
    program = f"""
import atexit, os, sys
from backgrid import __main__ as program

def main(**_):
    atexit.register(print, "cleaned up", file=sys.stderr)
    {does}

program.main = main
program.start()
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.returncode, "cleaned up" in done.stderr) == (code, True)
    assert ("ZeroDivisionError" in done.stderr, "words" in done.stderr) == ("/" in does, "words" in does)


def test_installed_command_is_this_one():
    command = Path(sys.executable).with_name("backgrid")
    done = subprocess.run([command, "--version"], capture_output=True, text=True, check=True)
    assert backgrid.__version__ in done.stdout


def test_value_given_twice_is_refused():
    assert_refused(backgrid_command("run", "AAPL", *SAMPLE, "-p", "fees", "0.1", "-p", "fees", "0"), 2, "given twice")
    twice = backgrid_command("run", "AAPL", *SAMPLE, "--start", "2023-01-01", "-p", "start", "2024-06-01")
    assert_refused(twice, 2, "start is given twice")
    assert_refused(backgrid_command("report", "-p", "symbol", "AAPL", "-p", "symbol", "GOOG"), 2, "given twice")


# ---- check -----------------------------------------------------------------------------------------------------------

STRATEGIES_IN_A_FILE = """
import random

def peeks(close, *, days=1):
    return (close.shift(-days) > close).astype(float)

def random_signals(close):
    return [random.random() for _ in close]

def fine(close, *, window=20):
    return (close > close.rolling(window).mean()).astype(float)

def broken(close):
    return close["nothing"]

def picky(close):
    if len(close) < 1509 or round(close.iloc[-1]) != 252:
        raise ValueError("not these bars")
    return (close.shift(-1) > close).astype(float)
"""


@pytest.fixture
def strategies_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text(STRATEGIES_IN_A_FILE)
    return "mine.py"


def test_check_of_a_clean_strategy_says_so_and_exits_0():
    """On the sample, whatever the usual source is."""
    done = backgrid_command("check", "momentum", "--end", "2020-12-31", "-p", "window", "20")
    assert done.exit_code == 0
    first, *checks = done.stdout.splitlines()
    assert re.fullmatch(r"momentum\(window=20\) on AAPL: no look-ahead found at \d+ cuts of 505 bars\.", first)
    assert [line.split(":")[0] for line in checks] == [
        "  called again",
        "  later bars left out",
        "  later prices times 1.5",
        "  later prices times random factors",
        "  fresh process",
    ]
    assert all(": same signals" in line for line in checks)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["mine.py:peeks"], "peeks(days=1) on AAPL looks ahead. Its signal on "),
        (["mine.py:peeks", "-p", "days", "3"], "peeks(days=3) on AAPL looks ahead. Its signal on "),
        (["mine.py:peeks", "--symbol", "goog"], "peeks(days=1) on GOOG looks ahead. Its signal on "),
        (
            ["mine.py:random_signals"],
            "random_signals() on AAPL gives other signals when called again with the same bars",
        ),
    ],
    ids=str,
)
def test_check_of_a_strategy_that_is_not_clean_exits_1(words, said, strategies_file):
    done = backgrid_command("check", *words)
    assert (done.exit_code, done.stderr) == (1, "")
    assert done.stdout.startswith(said)


def test_check_that_could_compare_nothing_exits_2(strategies_file):
    """It looks ahead, and refuses whatever is not the whole truth: that is no verdict."""
    done = backgrid_command("check", "mine.py:picky")
    assert (done.exit_code, done.stderr) == (2, "")
    assert done.stdout.startswith("picky() on AAPL could not be checked")


def test_check_imports_the_file_afresh(strategies_file):
    done = backgrid_command("check", "mine.py:fine", "--symbol", "EURUSD=X", "--interval", "1h", "--end", "2017-02-28")
    assert done.exit_code == 0 and "  fresh process: same signals at 4 cuts" in done.stdout


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["ma_crosover"], 2, "did you mean 'ma_crossover'"),
        (["nowhere.py:f"], 2, "there is no file nowhere.py"),
        (["mine.py"], 2, "name the function too, as in mine.py:FUNCTION"),
        (["mine.py:fin"], 2, "mine.py has no function 'fin'; did you mean 'fine'"),
        (["mine.py:broken"], 2, "mine.py:broken failed with KeyError: 'nothing' (mine.py, line 14)"),
        (["mine.py:fine", "-p", "windw", "5"], 2, "did you mean 'window'"),
        (["mine.py:fine", "-p", "window", "ten"], 2, "window must be a whole number"),
        (["mine.py:fine", "-p", "window", "5", "-p", "window", "6"], 2, "window is given twice"),
        (["momentum", "-p", "window", "5000"], 2, "momentum gave no signal in 1509 bars"),
        (["momentum", "--symbol", "A/B"], 2, "is not a ticker"),
        (["momentum", "--source", "sampel"], 2, "did you mean 'sample'"),
        (["momentum", "--symbol", "MSFT"], 1, "the embedded sample has no 1d bars of it"),
    ],
    ids=str,
)
def test_check_refuses_in_one_line(words, code, said, strategies_file):
    assert_refused(backgrid_command("check", *words), code, said)


def test_check_tells_its_exit_codes_and_its_source():
    done = backgrid_command("check", "-h")
    assert done.exit_code == 0 and done.stdout.startswith("Usage: ")
    told = " ".join(done.stdout.split())
    assert "Exits 0 if it is clean; 1 if it looks ahead" in told and "[default: sample]" in told
    assert "2 if it cannot be run, or if nothing could be compared" in told
    assert backgrid_command("check").exit_code == 2
