"""Weightings by name: which parameters they take, and how they are put into words."""

import pytest

from backgrid.errors import ParameterError
from backgrid.weightings import WEIGHTINGS, describe_weighting, select_weighting_params

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
        ("weights", {"A": 1.0}, ("Given weights", "A, B at given weights")),
        ("of_my_own", {"days": 5}, ("of_my_own", "A, B by of_my_own")),
        ("equal_weight", {"days": 5}, ("equal_weight", "A, B by equal_weight")),
    ],
)
def test_weightings_are_put_into_words(name, params, words):
    assert describe_weighting(name, params, "A, B") == words
