"""Weightings: numbers by hand, what may be known when, which parameters they take, and how they are put into words."""

import inspect
import statistics

import numpy as np
import pandas as pd
import plain
import pytest

from backgrid.errors import ParameterError, TooFewBarsError
from backgrid.portfolio import run_portfolio
from backgrid.weightings import (
    WEIGHTINGS,
    describe_weighting,
    equal_weight,
    get_weighting,
    inverse_volatility,
    select_weighting_params,
    top_momentum,
)

NAN = float("nan")
OF_EACH = [(equal_weight, {}), (inverse_volatility, {"lookback": 5}), (top_momentum, {"window": 5, "top": 2})]
every_weighting = pytest.mark.parametrize(("weighting", "params"), OF_EACH, ids=[f.__name__ for f, _ in OF_EACH])


def closes(**columns):
    """A frame of closes by symbol."""
    return pd.DataFrame(columns, index=pd.bdate_range("2023-01-02", periods=len(next(iter(columns.values())))))


def random_closes(seed=0, n_bars=60, symbols="ABC"):
    return pd.DataFrame({s: plain.random_bars(100 * seed + k, n_bars)["Close"] for k, s in enumerate(symbols)})


# ---- by hand ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_symbols", [1, 2, 3, 7])
def test_equal_weight_gives_each_symbol_the_same_whatever_its_prices(n_symbols):
    prices = closes(**{f"S{k}": [1.0, NAN, 3.0] for k in range(n_symbols)})
    weights = equal_weight(prices)
    assert weights.shape == prices.shape
    assert (weights == 1.0 / n_symbols).all(axis=None)
    assert weights.columns.equals(prices.columns) and weights.index.equals(prices.index)


def test_calm_symbol_weighs_more_by_the_inverse_of_its_volatility():
    """A moves by 10 % and -10 %, B by 20 % and -20 %: A weighs twice as much."""
    weights = inverse_volatility(closes(A=[100.0, 110.0, 99.0, 108.9], B=[100.0, 120.0, 96.0, 115.2]), lookback=2)
    assert weights.iloc[:2].isna().all(axis=None)
    assert weights.iloc[2:].to_numpy() == pytest.approx(np.array([[2 / 3, 1 / 3]] * 2))


def test_inverse_volatility_is_that_of_the_plain_formula():
    prices = random_closes(1)
    weights, returns = inverse_volatility(prices, lookback=7), prices.pct_change()
    for bar in range(7, 60):
        inverse = [1.0 / statistics.stdev(returns[s].iloc[bar - 6 : bar + 1]) for s in prices]
        assert weights.iloc[bar].tolist() == pytest.approx([part / sum(inverse) for part in inverse], rel=1e-9)
    assert weights.iloc[7:].sum(axis=1).tolist() == pytest.approx([1.0] * 53)
    assert weights.iloc[:7].isna().all(axis=None)


def test_price_that_has_not_moved_weighs_nothing():
    """Also after it has moved: the deviation of equal returns is 0, not what rounding leaves of a larger one."""
    moving = random_closes(2, 40, "A")["A"].tolist()
    still = [100.0] * 40
    stopped = [*moving[:20], *[moving[19]] * 20]
    weights = inverse_volatility(closes(A=moving, B=still, C=stopped), lookback=5)
    assert weights["B"].iloc[5:].tolist() == [0.0] * 35
    assert (weights["C"].iloc[5:24] > 0.0).all()
    assert weights["C"].iloc[25:].tolist() == [0.0] * 15
    assert weights["A"].iloc[25:].tolist() == [1.0] * 15


def test_nothing_is_held_where_no_price_has_moved():
    weights = inverse_volatility(closes(A=[5.0] * 9, B=[7.0] * 9), lookback=3)
    assert not (weights.fillna(0.0) != 0.0).any(axis=None)


def test_what_has_risen_most_is_held_in_equal_parts():
    """Over two bars A rises by 20 %, B falls, C rises by 10 %; then B by 30 %, and C has risen more than A."""
    prices = closes(A=[10.0, 10.0, 12.0, 11.0], B=[10.0, 10.0, 9.0, 13.0], C=[10.0, 10.0, 11.0, 11.5])
    assert top_momentum(prices, window=2, top=1).to_numpy()[2:].tolist() == [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]
    assert top_momentum(prices, window=2, top=2).to_numpy()[2:].tolist() == [[0.5, 0.0, 0.5], [0.0, 0.5, 0.5]]
    assert top_momentum(prices, window=2, top=3).to_numpy()[2:].tolist() == [[1 / 3] * 3] * 2
    assert top_momentum(prices, window=2, top=1).iloc[:2].isna().all(axis=None)


def test_of_equals_the_first_column_is_held():
    prices = closes(A=[10.0, 10.0, 10.0], B=[5.0, 5.0, 6.0], C=[7.0, 7.0, 7.0])
    assert top_momentum(prices, window=1, top=1).to_numpy()[1:].tolist() == [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]
    assert top_momentum(prices, window=1, top=2).to_numpy()[1:].tolist() == [[0.5, 0.5, 0.0], [0.5, 0.5, 0.0]]


# ---- what may be known when ------------------------------------------------------------------------------------------


@every_weighting
def test_later_prices_do_not_change_earlier_weights(weighting, params):
    for seed in range(5):
        prices = random_closes(seed)
        whole = weighting(prices, **params)
        for n_bars in (6, 7, 20, 59):
            other = prices.copy()
            other.iloc[n_bars:] *= np.linspace(0.5, 3.0, 60 - n_bars)[:, None] ** [1.0, -1.0, 2.0]
            for changed in (prices.iloc[:n_bars], other):
                part = weighting(changed, **params).iloc[:n_bars]
                assert part.to_numpy().tobytes() == whole.iloc[:n_bars].to_numpy().tobytes()


@every_weighting
def test_weights_are_of_no_more_than_the_account_and_of_no_short(weighting, params):
    weights = weighting(random_closes(3), **params).iloc[5:]
    assert (weights >= 0.0).all(axis=None)
    assert weights.sum(axis=1).to_numpy() == pytest.approx(1.0)


@every_weighting
def test_scale_of_a_price_does_not_change_its_weight(weighting, params):
    prices = random_closes(4)
    scaled = weighting(prices * [1024.0, 1.0, 2.0**-30], **params)
    assert scaled.to_numpy().tobytes() == weighting(prices, **params).to_numpy().tobytes()


@every_weighting
def test_prices_are_not_changed(weighting, params):
    prices = random_closes(5)
    before = prices.copy()
    weighting(prices, **params)
    assert prices.equals(before)


@pytest.mark.parametrize(
    ("weights", "params"), [("inverse_volatility", {"lookback": 30}), ("top_momentum", {"window": 30, "top": 1})]
)
def test_warm_up_is_held_in_cash_and_one_that_never_ends_is_refused(weights, params):
    prices = {s: plain.random_bars(k, 60) for k, s in enumerate("AB")}
    result = run_portfolio(prices, weights, params=params, fill="close")
    assert result.positions.iloc[:30].tolist() == [0.0] * 30
    assert result.positions.iloc[30] == pytest.approx(1.0)
    short = {symbol: frame.iloc[:30] for symbol, frame in prices.items()}
    with pytest.raises(TooFewBarsError, match=f"{weights} gave no weight in 30 bars: give it more bars or shorter"):
        run_portfolio(short, weights, params=params)


@pytest.mark.parametrize("window", [10**6, 10**18])
def test_window_beyond_all_bars_warms_up_for_good(window):
    prices = random_closes(6)
    assert inverse_volatility(prices, lookback=window).isna().all(axis=None)
    assert top_momentum(prices, window=window, top=1).isna().all(axis=None)


# ---- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lookback", [1, 0, -5, 2.0, "5", True, None, NAN])
def test_lookback_is_a_whole_number_of_two_at_least(lookback):
    with pytest.raises(ParameterError, match="^lookback must be"):
        inverse_volatility(random_closes(), lookback=lookback)


@pytest.mark.parametrize("window", [0, -1, 2.0, "5", True, None])
def test_window_is_a_whole_number_of_one_at_least(window):
    with pytest.raises(ParameterError, match="^window must be"):
        top_momentum(random_closes(), window=window, top=1)


@pytest.mark.parametrize("top", [0, -1, 4, 1.0, "1", True, np.True_, None])
def test_top_is_a_whole_number_of_the_symbols_there_are(top):
    with pytest.raises(ParameterError, match="^top must be a whole number from 1 to the 3 symbols there are, got"):
        top_momentum(random_closes(), window=2, top=top)


@pytest.mark.parametrize("whole", [2, np.int64(2), np.uint8(2)])
def test_whole_numbers_of_numpy_are_whole_numbers(whole):
    prices = random_closes()
    assert inverse_volatility(prices, lookback=whole).equals(inverse_volatility(prices, lookback=2))
    assert top_momentum(prices, window=whole, top=whole).equals(top_momentum(prices, window=2, top=2))


# ---- the registry ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", WEIGHTINGS)
def test_registered_weighting_has_its_name_a_docstring_and_keywords_with_defaults(name):
    function = get_weighting(name)
    assert function.__name__ == name
    first, *others = inspect.signature(function).parameters.values()
    assert first.name == "closes"
    assert all(p.kind is p.KEYWORD_ONLY and p.default is not p.empty for p in others)
    for word in ("Parameters", "Returns", "[fraction of equity]", *(p.name for p in others)):
        assert word in inspect.getdoc(function)


@pytest.mark.parametrize("name", ["equal_wieght", "", "Equal_weight", 5, None])
def test_unknown_weighting_is_named_beside_those_known(name):
    with pytest.raises(ParameterError, match="known: equal_weight, inverse_volatility, top_momentum"):
        get_weighting(name)


@every_weighting
def test_registered_weighting_runs_by_name_as_by_function(weighting, params):
    prices = {s: plain.random_bars(k, 60) for k, s in enumerate("ABC")}
    by_name = run_portfolio(prices, weighting.__name__, params=params, rebalance="week")
    assert by_name == run_portfolio(prices, weighting, params=params, rebalance="week")
    assert (by_name.strategy, by_name.params) == (weighting.__name__, params)


OFFERED = {"lookback": None, "window": None, "top": None}  # as the template does


@pytest.mark.parametrize("weighting", WEIGHTINGS)
def test_what_is_not_given_is_left_to_the_weighting(weighting):
    assert select_weighting_params(weighting, **OFFERED) == {}


@pytest.mark.parametrize(
    ("weighting", "given"),
    [("inverse_volatility", {"lookback": 5}), ("top_momentum", {"top": 2}), ("top_momentum", {"window": 9, "top": 1})],
)
def test_what_is_given_is_selected(weighting, given):
    assert select_weighting_params(weighting, **{**OFFERED, **given}) == given


@pytest.mark.parametrize(
    ("weighting", "given", "said"),
    [
        ("equal_weight", {"lookback": 5}, "equal_weight has no parameter 'lookback'"),
        ("inverse_volatility", {"top": 5}, "inverse_volatility has no parameter 'top'"),
        ("top_momentum", {"lookback": 5}, "top_momentum has no parameter 'lookback'"),
        ("top_momentum", {"top": 2.5}, "top must be a whole number, got 2.5"),
        ("top_momentun", {}, "unknown weighting 'top_momentun'; did you mean 'top_momentum'"),
    ],
)
def test_what_a_weighting_does_not_have_is_refused(weighting, given, said):
    with pytest.raises(ParameterError, match=said):
        select_weighting_params(weighting, **{**OFFERED, **given})


@pytest.mark.parametrize(
    ("name", "params", "words"),
    [
        ("equal_weight", {}, ("Equal weights", "The same weight of A, B")),
        (
            "inverse_volatility",
            {"lookback": 60},
            ("Inverse volatility 60", "A, B by the inverse of their volatility over 60 bars"),
        ),
        (
            "top_momentum",
            {"window": 126, "top": 1},
            ("Momentum 126, top 1", "The 1 of A, B that rose most over 126 bars, in equal parts"),
        ),
        ("weights", {"A": 1.0, "B": -0.125}, ("Given weights", "A 100\u202f%, B \u221212.5\u202f%")),
        ("weights", {}, ("Given weights", "A, B at given weights")),
        ("of_my_own", {"days": 5}, ("of_my_own", "A, B by of_my_own")),
        ("equal_weight", {"days": 5}, ("equal_weight", "A, B by equal_weight")),
    ],
)
def test_weightings_are_put_into_words(name, params, words):
    assert describe_weighting(name, params, "A, B") == words
