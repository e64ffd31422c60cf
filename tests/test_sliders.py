"""Sliders are driven here without a browser: what is dragged is run, counted and shown."""

import re
import subprocess
import sys
import textwrap
from types import SimpleNamespace

import nbformat
import numpy as np
import pytest
from IPython.core.interactiveshell import InteractiveShell
from nbclient import NotebookClient

from backgrid import ParameterError, PricesError, count_trials, deflated_sharpe_ratio, explore, run_backtest
from backgrid.sliders import _span, _ticks
from backgrid.strategies import STRATEGIES

BOTH = pytest.mark.usefixtures("either")
HOW = "A static figure. For sliders: pip install ipywidgets, and run this cell in JupyterLab."


def view(explorer):
    """The HTML that is shown now."""
    return explorer._panel.children[-1].value


def text(explorer):
    return re.sub(r"<[^>]+>", " ", view(explorer))


def lines(explorer):
    """Heights of the points of each line on the page."""
    drawn = re.findall(r"points='([^']*)'", view(explorer))
    return [[float(point.split(",")[1]) for point in points.split()] for points in drawn]


def margin(prices, *, window=10, width=0.02, strict=True, label="x", table=None, seed=0, shift=-2.0, huge=10.0**12):
    """Long while the close is above its mean by a margin."""
    if window == 13:
        raise ZeroDivisionError("unlucky\nnumber")
    close = prices["Close"]
    return (close > close.rolling(window).mean() * (1.0 + width)).astype(float)


@pytest.fixture
def kernel(monkeypatch):
    """`kernel(allow_stdin=True)` makes this look like a notebook, at which someone is or is not."""

    def make(**content):
        running = SimpleNamespace(get_parent=lambda channel: {"content": content})
        monkeypatch.setattr("IPython.get_ipython", lambda: SimpleNamespace(kernel=running))

    return make


@pytest.fixture(params=["sliders", "static figure"])
def either(request, monkeypatch):
    """With ipywidgets, and without: what is run must not depend on it."""
    if request.param == "static figure":
        monkeypatch.setitem(sys.modules, "ipywidgets", None)
    return request.param == "sliders"


@pytest.fixture
def displayed(monkeypatch):
    """What is displayed."""
    shown = []
    monkeypatch.setattr("IPython.display.display", lambda one, **_: shown.append(one))
    return shown


# ---- dragging --------------------------------------------------------------------------------------------------------


def test_it_begins_with_the_defaults_of_the_strategy(aapl):
    explorer = explore(aapl, fees=0.001)
    assert explorer.params == {"fast_window": 20, "slow_window": 50}
    assert explorer.result == run_backtest(aapl, "ma_crossover", fees=0.001)
    assert explorer.n_trials == 1 and explorer.message == ""
    assert "ma_crossover(fast_window=20, slow_window=50) on AAPL" in text(explorer)


def test_dragging_runs_what_the_sliders_say(aapl):
    explorer = explore(aapl, fees=0.001)
    explorer.controls["fast_window"].value = 5
    expected = run_backtest(aapl, "ma_crossover", params={"fast_window": 5}, fees=0.001)
    assert explorer.result == expected and explorer.params == expected.params
    assert expected.title in text(explorer)


def test_each_combination_is_a_trial_once(aapl):
    explorer = explore(aapl)
    slider = explorer.controls["fast_window"]
    for window in (10, 11, 12, 11, 10, 20):
        slider.value = window
    assert explorer.n_trials == 4  # 20, 10, 11, 12
    assert "Sharpe, 4 combinations tried in this panel" in text(explorer)
    assert "the best of 4 without skill would show a Sharpe of about" in text(explorer)


def test_same_parameters_of_another_strategy_are_another_trial(aapl):
    explorer = explore(aapl)
    explorer.chooser.value = "ema_crossover"
    explorer.controls["slow_window"].value = 50
    explorer.controls["fast_window"].value = 20
    assert explorer.params == {"fast_window": 20, "slow_window": 50}
    assert explorer.n_trials == 4  # the crossover, the other one at 12/26, 12/50 and 20/50


def test_ledger_does_not_count_what_sliders_try_and_the_panel_says_so(aapl, tmp_path, monkeypatch):
    monkeypatch.setenv("BACKGRID_LEDGER", str(tmp_path / "ledger.db"))
    explorer = explore(aapl)
    explorer.controls["fast_window"].value = 10
    assert explorer.n_trials == 2 and count_trials() == 0
    assert "The trial ledger does not count them." in text(explorer)


def test_deflated_sharpe_takes_the_number_of_trials(aapl):
    explorer = explore(aapl)
    alone = explorer.deflated_sharpe
    explorer.controls["fast_window"].value = 10
    explorer.controls["fast_window"].value = 20
    metrics = explorer.result.metrics
    by_hand = deflated_sharpe_ratio(
        metrics["sharpe"] / 252**0.5,
        n_obs=249,
        n_trials=2,
        variance=1 / 248,
        skew=metrics["skew"],
        kurtosis=metrics["kurtosis"],
    )
    assert explorer.deflated_sharpe == pytest.approx(by_hand, abs=1e-12)
    assert explorer.deflated_sharpe < alone


def test_refused_combination_is_a_message_in_place_of_the_figure(aapl):
    explorer = explore(aapl)
    before = explorer.result
    explorer.controls["fast_window"].value = 60
    assert explorer.message == "fast_window 60 must be below slow_window 50"
    assert explorer.message in text(explorer) and "<svg" not in view(explorer)
    assert explorer.result is before and explorer.n_trials == 1
    explorer.controls["slow_window"].value = 61
    assert explorer.message == "" and "<svg" in view(explorer)


def test_error_of_ones_own_function_is_one_line(aapl):
    explorer = explore(aapl, margin)
    explorer.controls["window"].value = 13
    assert explorer.message == "ZeroDivisionError: unlucky number"
    assert explorer.message in text(explorer)


def test_words_of_an_error_cannot_break_the_page(aapl):
    def hostile(prices, *, window=10):
        if window == 13:
            raise ValueError("<script>alert(1)</script> & more")
        return np.ones(len(prices))

    explorer = explore(aapl, hostile)
    explorer.controls["window"].value = 13
    assert explorer.message == "ValueError: <script>alert(1)</script> & more"
    assert "&lt;script&gt;alert(1)&lt;/script&gt; &amp; more" in view(explorer) and "<script" not in view(explorer)


def test_another_strategy_has_sliders_of_its_own(aapl):
    explorer = explore(aapl, params={"fast_window": 7})
    assert set(explorer.chooser.options) == set(STRATEGIES)
    explorer.chooser.value = "rsi_reversion"
    assert list(explorer.controls) == ["window", "lower", "upper"]
    assert explorer.result.strategy == "rsi_reversion" and explorer.n_trials == 2
    explorer.chooser.value = "buy_and_hold"
    assert explorer.controls == {} and explorer.result.metrics["exposure"] > 0.99
    explorer.chooser.value = "ma_crossover"
    assert explorer.params == {"fast_window": 7, "slow_window": 50}
    assert explorer.n_trials == 3


def test_prices_that_are_changed_later_do_not_change_what_is_shown(aapl):
    prices = aapl.copy()
    explorer = explore(prices)
    prices.loc[:, :] = 1.0
    explorer.controls["fast_window"].value = 10
    assert explorer.result == run_backtest(aapl, params={"fast_window": 10})


# ---- the controls ----------------------------------------------------------------------------------------------------


def test_controls_follow_the_defaults(aapl):
    controls = explore(aapl, margin).controls
    kinds = {name: type(control).__name__ for name, control in controls.items()}
    assert kinds == {
        "window": "IntSlider",
        "width": "FloatSlider",
        "strict": "Checkbox",
        "label": "Text",
        "seed": "IntSlider",
        "shift": "FloatSlider",
    }  # a table and a default of 10**12 stay as they are
    assert (controls["width"].min, controls["width"].max, controls["width"].step) == (0.0, 0.06, 0.001)
    assert controls["width"].readout_format == ".3f"


@pytest.mark.parametrize(
    ("default", "value", "span"),
    [
        (20, 20, (1, 100, 1)),
        (1, 1, (1, 10, 1)),
        (20, 150, (1, 150, 1)),
        (0, 0, (0, 100, 1)),
        (-3, -3, (-15, 15, 1)),
        (2.0, 2.0, (0.0, 6.0, 0.1)),
        (0.07, 0.5, (0.0, 0.5, 0.001)),
        (0.0, 0.0, (-1.0, 1.0, 0.1)),
        (-2.0, -2.0, (-6.0, 6.0, 0.1)),
        (1e-13, 1e-13, (0.0, 3e-13, 1e-14)),
        (-1e-13, -1e-13, (-3e-13, 3e-13, 1e-14)),
        (1e9, 1e9, (0.0, 3e9, 1e8)),
        (10**9, 10**9, (1, 5 * 10**9, 1)),
    ],
)
def test_slider_goes_from_its_default_to_either_side(default, value, span):
    assert _span(default, value) == span


def test_ranges_are_the_users(aapl):
    ranges = {"window": (5, 12), "width": (0.0, 0.5, 0.1), "shift": (-4, 4)}
    controls = explore(aapl, margin, ranges=ranges).controls
    assert [(controls[n].min, controls[n].max, controls[n].step) for n in ranges] == [
        (5, 12, 1),
        (0.0, 0.5, 0.1),
        (-4.0, 4.0, 0.1),
    ]


@BOTH
def test_default_outside_its_range_is_moved_to_the_end_and_run_there(aapl):
    explorer = explore(aapl, margin, ranges={"window": (15, 40), "width": (0.0, 0.01)})
    assert (explorer.params["window"], explorer.params["width"]) == (15, 0.01)
    assert explorer.n_trials == 1


@BOTH
@pytest.mark.parametrize("window", [4, 13])
def test_start_outside_its_range_is_refused(aapl, window):
    with pytest.raises(ParameterError, match=f"window {window} is outside of its slider, 5 to 12; begin within"):
        explore(aapl, margin, params={"window": window}, ranges={"window": (5, 12)})


@BOTH
def test_start_at_the_end_of_a_range_is_kept(aapl):
    assert explore(aapl, margin, params={"window": 12}, ranges={"window": (5, 12)}).params["window"] == 12


@BOTH
def test_level_that_no_slider_reaches_is_refused(aapl):
    with pytest.raises(ParameterError, match="upper 170 is outside of its slider, 0.0 to 100.0"):
        explore(aapl, "rsi_reversion", params={"upper": 170})


@BOTH
def test_function_by_the_name_of_a_registered_strategy_has_its_own_ranges(aapl):
    def rsi_reversion(prices, *, lower=-5):
        return np.ones(len(prices))

    assert explore(aapl, rsi_reversion).params == {"lower": -5}


@pytest.mark.parametrize(
    "size", [1e-13, 1e-320, 5e-324, 1e9, 1e10, 1e300, 0.0, -0.0, -1e-13, -1e9, 10**9, -(10**9), 10**400, True]
)
def test_default_of_any_size_works(aapl, size, either):
    def sized(prices, *, size=size):
        return np.ones(len(prices))

    explorer = explore(aapl, sized)
    assert explorer.params == {"size": size} and explorer.n_trials == 1
    assert ("size" in explorer.controls) == (either and (size == 0 or 1e-300 <= abs(size) <= 1e9))


@BOTH
@pytest.mark.parametrize("value", [1e-320, 1e15, 10**400])
def test_start_that_no_slider_reaches_is_kept(aapl, value):
    explorer = explore(aapl, margin, params={"shift": value})
    assert explorer.params["shift"] == value and "shift" not in explorer.controls


@BOTH
@pytest.mark.parametrize(
    "given", [{"shift": 3}, {"strict": np.True_}, {"window": np.int64(7)}, {"label": np.str_("y")}]
)
def test_start_of_a_like_type_is_one_trial(aapl, given):
    explorer = explore(aapl, margin, params=given)
    assert explorer.params.items() >= given.items() and explorer.n_trials == 1
    assert type(explorer.params["shift"]) is float


@BOTH
@pytest.mark.parametrize("prices", [None, "AAPL", [1.0, 2.0]])
def test_prices_that_are_none_are_refused(prices):
    with pytest.raises(PricesError, match="prices must be"):
        explore(prices)


@BOTH
def test_prices_with_a_gap_are_refused(aapl):
    with pytest.raises(PricesError, match="2023-01-09"):
        explore(aapl.where(aapl["Close"] != aapl.loc["2023-01-09", "Close"]))


@BOTH
def test_series_of_closes_and_function_of_closes(aapl):
    def rising(close, *, window=5):
        return (close > close.shift(window)).astype(float)

    explorer = explore(aapl["Close"], rising, fill="close")
    assert explorer.result == run_backtest(aapl["Close"], rising, fill="close")


@pytest.mark.parametrize(
    ("span", "readout"),
    [
        ((0.0, 1.0, 0.25), ".2f"),
        ((0.05, 1.05, 0.1), ".2f"),
        ((0.0, 5.0, 1.0), ".0f"),
        ((0.0, 1e9), ".0f"),
        ((0.0, 1e-13), ".4g"),
    ],
)
def test_number_beside_a_slider_shows_its_steps(aapl, span, readout):
    assert explore(aapl, margin, ranges={"width": span}).controls["width"].readout_format == readout


def test_parameter_without_a_control_can_be_given(aapl):
    """None, a list and the like stay as they are, or as they are asked for."""

    def optional(prices, *, stop=None, mode="mean", choices=("a", "b")):
        return np.ones(len(prices)) * (stop or 1.0)

    explorer = explore(aapl, optional, params={"stop": 0.5})
    assert list(explorer.controls) == ["mode"]
    explorer.controls["mode"].value = "median"
    assert explorer.params == {"stop": 0.5, "mode": "median", "choices": ("a", "b")} and explorer.n_trials == 2


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"strategy": "ma_crosover"}, "did you mean 'ma_crossover'"),
        ({"strategy": np.ones(3)}, "explore needs a strategy by name, or a function"),
        ({"params": {"fast": 1}}, "has no parameter 'fast'"),
        ({"params": {"fast_window": 60}}, "fast_window 60 must be below slow_window 50"),
        ({"fee": 0.1}, "no setting 'fee'; did you mean 'fees'"),
        ({"ranges": [1, 2]}, "ranges must be a dict"),
        ({"ranges": {"fast": (1, 2)}}, "has no parameter 'fast'"),
        ({"ranges": {"fast_window": (2, 1)}}, "low below high"),
        ({"ranges": {"fast_window": (1, 2.5)}}, "whole numbers"),
        ({"ranges": {"fast_window": 5}}, "must be \\(low, high\\)"),
        ({"ranges": {"fast_window": (1, 9, 0)}}, "needs a step above 0"),
        ({"ranges": {"fast_window": (1, 9, -1)}}, "needs a step above 0"),
        ({"ranges": {"fast_window": (5, 5)}}, "to begin at 5, give that in params and leave fast_window out of ranges"),
        ({"ranges": {"fast_window": (1, 10**400)}}, "up to 1,000,000,000"),
        ({"ranges": {"fast_window": (True, 9)}}, "whole numbers"),
        ({"strategy": margin, "ranges": {"width": (0.0, 5e-324)}}, "a step of 0: give it farther ends"),
        ({"strategy": margin, "ranges": {"width": (1.0, np.nextafter(1.0, 2.0))}}, "give it farther ends"),
        ({"strategy": margin, "ranges": {"width": (float("nan"), 1.0)}}, "of numbers up to"),
        ({"strategy": margin, "ranges": {"table": (1, 2)}}, "the default of table is None, no number"),
        ({"strategy": margin, "ranges": {"label": (1, 2)}}, "the default of label is 'x', no number"),
    ],
)
def test_wrong_request_is_told_at_once(aapl, given, said):
    with pytest.raises(ParameterError, match=said):
        explore(aapl, **given)


def test_prices_that_cannot_be_run_are_told_at_once(aapl):
    with pytest.raises(PricesError):
        explore(aapl.head(1))


# ---- the figure ------------------------------------------------------------------------------------------------------


def test_figure_holds_both_lines_on_a_log_axis(bars):
    """The account doubles twice: on a log axis both steps are equally high."""
    explorer = explore(bars([100.0, 200.0, 400.0]), lambda prices: [1.0, 1.0, 1.0], fill="close")
    holding, account = lines(explorer)
    assert account == holding
    assert account[0] - account[1] == pytest.approx(account[1] - account[2], abs=0.11)


def test_long_series_keeps_its_extremes(bars):
    close = 100.0 + np.zeros(50_000)
    close[12_345], close[34_567] = 50.0, 300.0
    explorer = explore(bars(close, open=close), "buy_and_hold", fill="close")
    holding, account = lines(explorer)
    assert len(account) <= 802
    assert (min(account), max(account)) == (10.0, 262.0) == (min(holding), max(holding))
    assert len(view(explorer)) < 60_000


def test_ruined_account_is_drawn_until_its_end(bars):
    explorer = explore(bars([100.0, 100.0, 300.0, 300.0]), lambda prices: -np.ones(4), fill="close")
    assert explorer.result.equity.iloc[-1] <= 0.0
    _, account = lines(explorer)
    assert len(account) == 2


def test_run_without_trades_has_no_sharpe_and_is_shown(bars):
    explorer = explore(bars([100.0, 101.0, 102.0]), lambda prices: np.zeros(3))
    assert np.isnan(explorer.deflated_sharpe)
    assert "n/a" in text(explorer) and "<svg" in view(explorer)


def test_names_cannot_break_the_page(aapl):
    def hostile(prices, *, label="<script>alert(1)</script>"):
        return np.ones(len(prices))

    hostile.__name__ = "<b>bold</b>"
    assert "<script" not in view(explore(aapl, hostile)) and "<b>" not in view(explore(aapl, hostile))


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [(100.0, 1000.0, [100, 150, 200, 300, 500, 700, 1000][::2]), (87.8, 102.6, [88, 91, 94, 97, 100])],
)
def test_ticks_are_round(low, high, ticks):
    assert _ticks(low, high) == pytest.approx(ticks)


def test_narrow_range_shows_its_ends():
    assert _ticks(100.2, 100.4) == [100.2, 100.4]


# ---- where there are no sliders --------------------------------------------------------------------------------------


def test_without_ipywidgets_there_is_a_static_figure_and_one_line(aapl, monkeypatch, displayed, capsys):
    monkeypatch.setitem(sys.modules, "ipywidgets", None)
    explorer = explore(aapl)
    assert explorer.controls == {} and explorer.n_trials == 1
    explorer._ipython_display_()
    assert capsys.readouterr().out == HOW + "\n"
    (figure,) = displayed
    assert repr(figure) == repr(explorer.result.plot())


def test_outside_a_notebook_there_is_a_static_figure(aapl, displayed, capsys):
    InteractiveShell.clear_instance()
    explorer = explore(aapl)
    explorer._ipython_display_()
    assert capsys.readouterr().out == HOW + "\n" and len(displayed) == 1
    assert repr(explorer).startswith("<Explorer ma_crossover(fast_window=20, slow_window=50) on AAPL: sharpe ")
    assert repr(explorer).endswith("1 combination tried in this panel>")


def test_in_a_notebook_the_sliders_are_shown(aapl, kernel, displayed, capsys):
    kernel(allow_stdin=True)
    explorer = explore(aapl)
    explorer._ipython_display_()
    (bundle,) = displayed
    assert capsys.readouterr().out == ""
    assert "application/vnd.jupyter.widget-view+json" in bundle and bundle["text/plain"] == repr(explorer)


def test_notebook_that_runs_by_itself_has_no_sliders(aapl, kernel):
    """Their ids would be others in every run."""
    kernel(allow_stdin=False)
    assert explore(aapl).controls == {}


def test_run_notebook_holds_the_same_bytes_each_time(tmp_path):
    source = """
        from backgrid import explore, fetch_ohlcv
        explore(fetch_ohlcv("AAPL", "2023-01-01", "2023-12-31", source="sample"))
    """
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(textwrap.dedent(source).strip())])
    NotebookClient(notebook, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}).execute()
    said, figure = notebook.cells[0].outputs
    assert said.text == HOW + "\n" and "image/svg+xml" in figure.data
    assert "widgets" not in notebook.metadata


def test_function_is_no_module():
    """Whatever of the package is imported first."""
    code = """
        import importlib, pkgutil, types
        import backgrid
        for module in pkgutil.iter_modules(backgrid.__path__):
            if module.name != "__main__":
                importlib.import_module(f"backgrid.{module.name}")
        assert type(backgrid.explore) is types.FunctionType
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True)
