"""Two fetches of the same bars are told apart bar by bar; a rescaled stretch is one line, and hides nothing."""

import numpy as np
import pandas as pd
import pytest

from backgrid.revisions import Rescaled, compare_bars, describe_revision, revision_note, revision_text

OLD, NEW = "a" * 64, "b" * 64


@pytest.fixture
def raw(bars):
    """Twenty raw bars from 2023-01-02 on, closes 101 to 120, with an adjusted close and one dividend."""
    frame = bars(np.arange(101.0, 121.0)).assign(Volume=1000.0)
    return frame.assign(**{"Adj Close": frame["Close"], "Dividends": 0.0}).rename_axis("Date")


def dates(index):
    return [f"{label:%m-%d}" for label in index]


def test_same_bars_are_the_same_whatever_stands_for_nothing(raw):
    raw.loc["2023-01-04", "Dividends"] = np.nan
    other = raw.copy()
    other["Dividends"] = other["Dividends"] * -1.0  # -0.0
    found = compare_bars(raw, other)
    assert found.same and describe_revision(found, "A", "B") == []


def test_changed_number_is_named_by_bar_and_column(raw):
    other = raw.copy()
    other.loc["2023-01-05", "Close"] = 103.48  # 0.5 % below 104
    other.loc["2023-01-04", "Volume"] = 900.0
    found = compare_bars(raw, other)
    assert not found.same and found.changed == 2 and found.rescaled == []
    assert found.cells.values.tolist() == [
        [pd.Timestamp("2023-01-04"), "Volume", 1000.0, 900.0],
        [pd.Timestamp("2023-01-05"), "Close", 104.0, 103.48],
    ]
    assert describe_revision(found, "A", "B") == [
        "2 bars changed",
        "2 changed numbers, by at most 10 %:",
        "  2023-01-04 Volume 1000 -> 900",
        "  2023-01-05 Close 104 -> 103.48",
    ]


def test_ten_of_many_changes_are_listed_and_all_are_counted(raw):
    other = raw.copy()
    other["Volume"] += np.arange(1.0, 21.0) ** 2  # no common factor
    lines = describe_revision(compare_bars(raw, other), "A", "B")
    assert lines[:3] == ["20 bars changed", "20 changed numbers, by at most 40 %:", "  2023-01-02 Volume 1000 -> 1001"]
    assert len(lines) == 2 + 10 + 1 and lines[-1] == "  and 10 more"


def test_dividend_is_one_line_with_its_factor(raw):
    """Adjusted closes before the ex-date, the eleventh bar, times 0.9959, rounded as sources do."""
    other = raw.copy()
    other.iloc[:10, other.columns.get_loc("Adj Close")] *= 0.9959
    other = other.round({"Adj Close": 6})
    other.loc["2023-01-16", "Dividends"] = 0.45
    found = compare_bars(raw, other)
    assert [str(stretch) for stretch in found.rescaled] == ["Adj Close before 2023-01-16 times 0.9959"]
    assert found.cells["column"].tolist() == ["Dividends"] and found.changed == 11
    assert describe_revision(found, "A", "B") == [
        "11 bars changed",
        "1 rescaling:",
        "  Adj Close before 2023-01-16 times 0.9959",
        "1 changed number:",
        "  2023-01-16 Dividends 0 -> 0.45",
    ]


def test_two_dividends_are_two_stretches(raw):
    other = raw.copy()
    adjusted = other.columns.get_loc("Adj Close")
    other.iloc[:15, adjusted] *= 0.99
    other.iloc[:7, adjusted] *= 0.98
    assert [str(stretch) for stretch in compare_bars(raw, other).rescaled] == [
        "Adj Close before 2023-01-11 times 0.9702",
        "Adj Close from 2023-01-11 to 2023-01-20 times 0.99",
    ]


def test_split_is_one_line_for_all_prices_and_one_for_volume(raw):
    """Days without a trade have no volume before and after."""
    raw.iloc[3, raw.columns.get_loc("Volume")] = 0.0
    other = raw.copy()
    prices = ["Open", "High", "Low", "Close", "Adj Close"]
    other.loc[:"2023-01-17", prices] /= 4.0
    other.loc[:"2023-01-17", "Volume"] *= 4.0
    found = compare_bars(raw, other)
    assert found.rescaled == [
        Rescaled(tuple(prices), "before 2023-01-18", pytest.approx(0.25)),
        Rescaled(("Volume",), "before 2023-01-18", pytest.approx(4.0)),
    ]
    assert found.cells.empty and found.changed == 12


@pytest.mark.parametrize(
    ("bars_from", "bars_to", "where"),
    [(0, 20, "of all common bars"), (8, 20, "from 2023-01-12 on"), (8, 14, "from 2023-01-12 to 2023-01-19")],
)
def test_stretch_says_where_it_lies(raw, bars_from, bars_to, where):
    other = raw.copy()
    other.iloc[bars_from:bars_to, other.columns.get_loc("Volume")] *= 2.0
    assert [stretch.where for stretch in compare_bars(raw, other).rescaled] == [where]


def test_other_number_within_a_stretch_is_not_hidden(raw):
    other = raw.copy()
    volume = other.columns.get_loc("Volume")
    other.iloc[:, volume] *= 2.0
    other.iloc[9, volume] = 7.0
    found = compare_bars(raw, other)
    assert [stretch.where for stretch in found.rescaled] == ["before 2023-01-13", "from 2023-01-16 on"]
    assert found.cells["new"].tolist() == [7.0]


@pytest.mark.parametrize("lost", [np.nan, 0.0, -1.0, np.inf])
def test_number_that_is_lost_within_a_stretch_is_listed(raw, lost):
    other = raw.copy()
    other["Volume"] *= 2.0
    other.iloc[9, other.columns.get_loc("Volume")] = lost
    found = compare_bars(raw, other)
    np.testing.assert_equal(found.cells.loc[found.cells["bar"] == "2023-01-13", "new"].tolist(), [lost])


def test_few_bars_and_tiny_factors_are_listed_one_by_one(raw):
    few, tiny = raw.copy(), raw.copy()
    few.iloc[:4, few.columns.get_loc("Volume")] *= 2.0
    tiny["Close"] *= 1.0 + 1e-9
    assert len(compare_bars(raw, few).cells) == 4 and len(compare_bars(raw, tiny).cells) == 20
    shown = describe_revision(compare_bars(raw, tiny), "A", "B")
    assert shown[1:3] == ["20 changed numbers, by less than 0.001 %:", "  2023-01-02 Close 101 -> 101.0000001"]


@pytest.mark.parametrize(("step", "alike"), [(0.9e-5, True), (1.1e-5, False)])
def test_stretch_is_one_where_the_factor_goes_from_bar_to_bar_by_less_than_a_hundred_thousandth(raw, step, alike):
    """To and fro, half of it on either side of the middle: sources round their numbers."""
    other = raw.copy()
    other["Close"] *= 2.0 * np.exp(step * (np.arange(20) % 2))
    found = compare_bars(raw, other)
    assert len(found.rescaled) == alike and len(found.cells) == 20 * (not alike)


@pytest.mark.parametrize(("step", "alike"), [(1.0e-6, True), (1.1e-6, False)])
def test_stretch_is_one_where_no_factor_is_further_from_the_middle_than_that(raw, step, alike):
    """Twenty bars that drift: the ends are 9.5 steps from the middle."""
    other = raw.copy()
    other["Close"] *= 2.0 * np.exp(step * np.arange(20))
    found = compare_bars(raw, other)
    assert len(found.rescaled) == alike and len(found.cells) == 20 * (not alike)


@pytest.mark.parametrize(
    ("factor", "said"),
    [
        (1.0000099, "less than 0.001 %"),
        (1.064, "at most 6.4 %"),
        (1.996, "at most 100 %"),
        (1.1244, "at most 13 %"),
        (1.0344, "at most 3.5 %"),
        (1.1049, "at most 11 %"),
        (1.000123, "at most 0.013 %"),
        (3.0, "at most 200 %"),
        (1001.0, "at most 100,000 %"),
    ],
)
def test_largest_change_is_a_number_that_reads_well(raw, factor, said):
    other = raw.copy()
    other.iloc[3, other.columns.get_loc("Volume")] *= factor
    assert describe_revision(compare_bars(raw, other), "A", "B")[1] == f"1 changed number, by {said}:"


def test_change_beyond_the_shown_digits_shows_them_all(raw):
    other = raw.copy()
    other.iloc[0, other.columns.get_loc("Close")] = np.nextafter(101.0, 102.0)
    assert describe_revision(compare_bars(raw, other), "A", "B")[-1] == "  2023-01-02 Close 101.0 -> 101.00000000000001"


def test_bars_and_columns_of_only_one_are_named(raw):
    found = compare_bars(raw, raw.drop(columns="Adj Close").iloc[2:19].assign(Trades=3.0))
    assert (dates(found.gone), dates(found.added)) == (["01-02", "01-03", "01-27"], [])
    assert not found.same and found.changed == 0
    assert describe_revision(found, "A", "B") == [
        "3 bars only in A: 2023-01-02, 2023-01-03, 2023-01-27",
        "column Adj Close only in A",
        "column Trades only in B",
    ]


def test_many_bars_of_only_one_are_counted(raw):
    (line,) = describe_revision(compare_bars(raw.iloc[:2], raw), "A", "B")
    assert line.startswith("18 bars only in B: 2023-01-04, ") and line.endswith("2023-01-16, ..., 2023-01-27")


def test_same_times_in_two_zones_are_the_same_and_without_a_zone_are_not(raw):
    times = pd.date_range("2023-01-05 14:30", periods=20, freq="min", tz="UTC", name="Date")
    here = raw.set_axis(times)
    assert compare_bars(here, here.tz_convert("America/New_York")).same
    found = compare_bars(here, here.tz_localize(None))
    assert len(found.gone) == len(found.added) == 20


def test_empty_bars_compare(raw):
    assert compare_bars(raw.iloc[:0], raw.iloc[:0]).same
    assert len(compare_bars(raw.iloc[:0], raw).added) == 20


@pytest.mark.parametrize(
    ("change", "note"),
    [
        (
            lambda raw: raw.assign(Close=raw["Close"].replace(104.0, 103.48)),
            "1 bar changed since snapshot aaaaaaaaaaaa: first 2023-01-05 Close 104 -> 103.48, by at most 0.5 % "
            "(backgrid data diff aaaaaaaaaaaa bbbbbbbbbbbb)",
        ),
        (
            lambda raw: raw.assign(**{"Adj Close": raw["Adj Close"] * np.where(raw.index < "2023-01-16", 0.9959, 1.0)}),
            "10 bars changed since snapshot aaaaaaaaaaaa: Adj Close before 2023-01-16 times 0.9959 "
            "(backgrid data diff aaaaaaaaaaaa bbbbbbbbbbbb)",
        ),
        (
            lambda raw: raw.drop(index=raw.index[[3, 5]]),
            "2 bars gone since snapshot aaaaaaaaaaaa: first gone 2023-01-05 "
            "(backgrid data diff aaaaaaaaaaaa bbbbbbbbbbbb)",
        ),
        (
            lambda raw: raw.drop(columns="Adj Close"),
            "column Adj Close gone since snapshot aaaaaaaaaaaa (backgrid data diff aaaaaaaaaaaa bbbbbbbbbbbb)",
        ),
    ],
    ids=["cell", "dividend", "gone", "column"],
)
def test_note_says_how_much_and_where_to_look(raw, change, note):
    assert revision_note(compare_bars(raw, change(raw)), OLD, NEW) == note


def test_text_of_a_revision_counts_and_names_the_first(raw):
    other = raw.drop(index=raw.index[3]).assign(Close=raw["Close"].replace(101.0, 202.0))
    said = "1 bar changed, 1 bar gone from A to B: first 2023-01-02 Close 101 -> 202, by at most 100 %"
    assert revision_text(compare_bars(raw, other), " from A to B") == f"{said}; first gone 2023-01-05"


def test_note_on_added_bars(raw):
    note = revision_note(compare_bars(raw.drop(index=raw.index[3]), raw), OLD, NEW)
    assert note.startswith("1 bar added since snapshot aaaaaaaaaaaa: first added 2023-01-05 (")
