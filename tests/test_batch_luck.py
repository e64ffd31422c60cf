"""What the best of a batch is worth, and how alike its runs are, on numbers that can be checked by hand."""

import concurrent.futures
import math

import numpy as np
import pandas as pd
import pytest
from test_batch_page import account, noise

from backgrid import batch, batch_luck
from backgrid.batch import run_batch
from backgrid.batch_luck import compare, compared_places, correlate, even_variance, measure_worth, track_of
from backgrid.luck import measure_luck
from backgrid.overfit import deflated_sharpe_ratio


def tracks_of(*lines, a_year=252):
    """Of accounts that earn these returns."""
    return [track_of(account(line), a_year) for line in lines]


def correlations_of(*curves):
    tracks = [track_of(curve, 252) for curve in curves]
    return correlate([track.ends for track in tracks], [track.returns for track in tracks])


def sharpe_of(line, a_year=252):
    return line.mean() / line.std(ddof=1) * math.sqrt(a_year)


def worth_of(*lines, a_year=252):
    tracks = tracks_of(*lines, a_year=a_year)
    sharpes = [sharpe_of(line, a_year) if np.ptp(line) else math.nan for line in lines]
    return measure_worth(sharpes, tracks, compare(tracks))


def moments_of(line):
    apart = (line - line.mean()) / line.std()
    return {"n_obs": line.size, "skew": (apart**3).mean(), "kurtosis": (apart**4).mean()}


# ---- what is kept of an account --------------------------------------------------------------------------------------


def test_track_draws_the_same_line_with_few_points():
    values = np.r_[np.ones(500), 9.0, np.ones(500), 0.5, np.ones(500)]
    track = track_of(pd.Series(values, index=pd.bdate_range("2020-01-01", periods=values.size)), 252)
    assert (track.equity.min(), track.equity.max()) == (0.5, 9.0)
    assert (track.drawn[0], track.drawn[-1], track.n_returns) == (0, 1501, 1501)
    assert len(track.drawn) <= 62 and track.equity.tolist() == values[track.drawn].tolist()
    assert (track.first, track.last) == ("2020-01-01", "2025-10-02")


def test_track_of_an_account_that_does_not_move_has_no_moments():
    for returns in (np.zeros(30), np.full(30, 0.001), np.array([0.1, -0.1])):
        track = track_of(account(returns), 252)
        assert not track.varies and math.isnan(track.skew)
    assert track_of(account([0.1, -0.1, 0.1]), 252).varies


@pytest.mark.parametrize(
    "equity",
    [
        account([]),
        pd.Series([1.0, 2.0, 3.0]),
        account([0.1, np.nan]),
        account([0.1, np.inf]),
    ],
    ids=["one bar", "no dates", "nan", "infinity"],
)
def test_there_is_no_track_of(equity):
    assert track_of(equity, 252) is None


def test_bars_within_a_day_are_compared_by_day():
    """In the days of the market, at the midnight of daily bars; moments stay those of all bars."""
    days = pd.bdate_range("2020-03-02", periods=40, tz="America/New_York")  # the clocks change on the 8th
    index = pd.DatetimeIndex([day + pd.Timedelta(hours=hour) for day in days for hour in (10, 12, 14, 15)])
    equity = account(noise(1, 159)).set_axis(index)
    track, returns = track_of(equity, 1008), equity.pct_change().dropna()
    assert track.returns.tolist() == pytest.approx(equity.iloc[3::4].pct_change().dropna().tolist())
    assert pd.DatetimeIndex(track.ends).equals(pd.bdate_range("2020-03-03", periods=39).as_unit("ns"))
    assert (track.n_returns, track.drawn[-1]) == (159, 159)
    assert track.kurtosis == pytest.approx(moments_of(returns.to_numpy())["kurtosis"])


def test_without_returns_the_rest_of_a_track_stays():
    (track,) = tracks_of(noise(1, 4000))
    assert track.without_returns() == track._replace(ends=None, returns=None)
    arrays = [value for value in track.without_returns() if isinstance(value, np.ndarray)]
    assert sum(array.nbytes for array in arrays) < 1200


# ---- what is alike ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stretch", [7, 100_000])
def test_correlations_are_those_of_the_common_bars(monkeypatch, stretch):
    """Against pandas, pair by pair, on accounts that begin and end on different days and miss some."""
    monkeypatch.setattr(batch_luck, "STRETCH", stretch)
    curves = [account(noise(seed), f"2020-0{seed + 1}-01") for seed in range(4)]
    curves[2] = curves[2].drop(curves[2].index[[50, 120]])
    curves[3] = curves[3] * 2.0
    correlations, common = correlations_of(*curves)
    returns = [curve.pct_change().dropna() for curve in curves]
    for i in range(4):
        for j in range(4):
            pair = pd.concat([returns[i], returns[j]], axis=1, join="inner")
            assert common[i, j] == len(pair)
            assert correlations[i, j] == pytest.approx(pair.corr().iloc[0, 1], abs=1e-9)


def test_runs_of_any_number_of_hours_are_compared_with_each_other_and_with_days():
    """6,200 hours, the last 4,700 of them, and the last of each day; the days in common but the first have a return."""
    index = pd.date_range("2020-01-01", periods=6200, freq="h", tz="UTC")
    long = account(noise(1, 6199)).set_axis(index)
    daily = long.groupby(long.index.date).last()
    daily.index = pd.DatetimeIndex(daily.index)
    correlations, common = correlations_of(long, long[1500:], daily)
    assert correlations[0].tolist() == pytest.approx([1.0, 1.0, 1.0])
    assert common[0].tolist() == [258, 196, 258]  # 6,200 hours are 258.3 days, 1,500 of them 62.5


def test_a_run_of_one_day_is_like_nothing():
    """It has no return of a day, and is among the compared all the same."""
    day = pd.date_range("2020-01-01", periods=24, freq="h")
    hours = [track_of(account(noise(seed, 23)).set_axis(day), 8760) for seed in (1, 2)]
    compared = compare([*hours, *tracks_of(noise(1))])
    assert compared.at.tolist() == [0, 1, 2] and np.isnan(compared.correlations[:2]).all()
    assert (compared.n_moving, compared.n_unknown) == (3, 3)


def test_correlation_of_a_line_with_itself_and_with_its_opposite():
    line = noise(1)
    correlations, _ = correlations_of(account(line), account(line), account(-line))
    assert correlations[0].tolist() == pytest.approx([1.0, 1.0, -1.0])


@pytest.mark.parametrize(
    "other",
    [
        account(noise(2), "2030-01-01"),
        account(noise(2), "2021-02-10"),
        account(np.zeros(300)),
        account(np.full(300, 0.001)),
        account(noise(2, 60)).set_axis(pd.date_range("2020-01-05", periods=61, freq="W")),
        account(noise(2)).set_axis(pd.date_range("2020-01-01", periods=301, freq="h", tz="America/New_York")),
    ],
    ids=["no bar in common", "too few", "no movement", "steady growth", "weeks", "hours"],
)
def test_there_is_no_correlation_with(other):
    correlations, _ = correlations_of(account(noise(1)), other)
    assert math.isnan(correlations[0, 1]) and math.isnan(correlations[1, 0])


@pytest.mark.parametrize(("n_common", "known"), [(19, False), (20, True)])
def test_correlation_needs_twenty_bars(n_common, known):
    long, short = account(noise(1)), account(noise(2)).iloc[: n_common + 1]
    correlations, common = correlations_of(long, short)
    assert (common[0, 1], math.isfinite(correlations[0, 1])) == (n_common, known)


def index_every(freq, start="2020-01-01"):
    return pd.date_range(start, periods=50, freq=freq).as_unit("ns").asi8


@pytest.mark.parametrize(
    ("one", "other", "alike"),
    [
        ("MS", "ME", True),
        ("MS", "30D", True),
        ("D", "B", True),
        ("15min", "20min", False),
        ("D", "W", False),
        ("h", "2h", False),
        ("W", "MS", False),
    ],
)
def test_bars_of_about_one_length_are_compared(one, other, alike):
    found = batch_luck._of_one_length([index_every(one), index_every(other), index_every(one)])
    assert sorted(sorted(places.tolist()) for places in found) == ([[0, 1, 2]] if alike else [[0, 2], [1]])


def test_bar_length_is_that_of_most_bars():
    """Not of the week-ends between them, nor of a holiday."""
    odd = np.delete(index_every("D"), [3, 17, 18, 30])
    assert len(batch_luck._of_one_length([odd, index_every("B"), index_every("D")])) == 1


def test_runs_at_equal_distances_are_compared(monkeypatch):
    monkeypatch.setattr(batch_luck, "MOST_COMPARED", 3)
    assert [compared_places(n) for n in (0, 1, 3, 5, 100)] == [[], [0], [0, 1, 2], [0, 2, 4], [0, 50, 99]]
    first, *rest = tracks_of(*(noise(seed) for seed in range(5)))
    compared = compare([first, None, *rest])
    assert compared.at.tolist() == [0, 3, 5] and compared.n_tracks == 5


def test_only_runs_whose_returns_were_kept_are_compared():
    tracks = tracks_of(*(noise(seed) for seed in range(3)))
    compared = compare([tracks[0].without_returns(), *tracks[1:]])
    assert compared.at.tolist() == [1, 2] and compared.n_tracks == 3


def test_a_batch_keeps_the_returns_of_those_runs_only_that_are_compared(monkeypatch, tmp_path):
    """However many rows there are: of the others it keeps what draws them and what their best is deflated by."""
    facts = {"error": None, "symbol": "", "strategy": "", "metrics": {"sharpe": 1.0}, "verdicts": []}

    def make_row(row, *_):
        return row, {"folder": f"report_{row}", "track": track_of(account(noise(row)), 252), **facts}

    monkeypatch.setattr(batch, "make_row", make_row)
    monkeypatch.setattr(batch_luck, "MOST_COMPARED", 3)
    with concurrent.futures.ThreadPoolExecutor(1) as executor:
        runs = run_batch([{"fast_window": 5 + row} for row in range(5)], out=tmp_path, executor=executor).runs
    assert [run.track.returns is not None for run in runs] == [True, False, True, False, True]
    assert all(run.track.varies and run.track.equity.size > 50 for run in runs)


def test_mean_correlation_is_that_of_the_pairs():
    """Three pairs: 1, -1 and -1."""
    line = noise(1)
    assert compare(tracks_of(line, line, -line)).mean == pytest.approx(-1.0 / 3.0)


def test_pairs_that_cannot_be_compared_count_as_unlike():
    line = noise(1)
    tracks = [*tracks_of(line, line), track_of(account(line, "2030-01-01"), 252)]
    assert compare(tracks).mean == pytest.approx(1.0 / 3.0) and compare(tracks).n_unknown == 2


def test_what_does_not_move_is_like_nothing_and_unlike_nothing():
    """As `Luck.correlation` has it: of those that vary."""
    line, flat = noise(1), np.zeros(300)
    assert compare(tracks_of(line, flat, line)).mean == pytest.approx(1.0)
    assert compare(tracks_of(line, flat, line))[-3:-1] == (2, 0)


def test_mean_correlation_is_unknown_where_no_two_runs_have_one():
    """And the trials that differ are then all."""
    line, flat = noise(1), np.zeros(300)
    apart = [track_of(account(line, start), 252) for start in ("2010-01-01", "2030-01-01")]
    for tracks in ([], tracks_of(line), tracks_of(line, flat, flat), apart):
        assert math.isnan(compare(tracks).mean)
    assert compare(apart)[-3:-1] == (2, 1)  # they vary; their pair is unknown
    worth = worth_of(line, *[flat] * 9)
    assert math.isnan(worth.correlation) and worth.n_effective == 10.0
    assert worth.deflated_effective == worth.deflated


# ---- what the best is worth ------------------------------------------------------------------------------------------


def test_a_batch_of_equal_lengths_is_worth_what_a_sweep_is():
    """Every number that both have, one trial that never trades among them."""
    lines = [*(noise(seed) for seed in range(5)), np.zeros(300)]
    worth = worth_of(*lines)
    luck = measure_luck(
        lambda: iter([np.array(lines)]),
        n_bars=300,
        winner={},
        place=worth.best,
        benchmark=noise(9),
        cash=0.0,
        periods_per_year=252,
        n_boot=10,
    )
    assert worth.n_trials == luck.n_trials == 6
    for ours, theirs in [
        ("sharpe", "sharpe"),
        ("correlation", "correlation"),
        ("n_effective", "n_effective"),
        ("luckiest", "luckiest"),
        ("deflated", "dsr_sampling"),
        ("luckiest_effective", "luckiest_effective"),
        ("deflated_effective", "dsr_effective"),
        ("luckiest_observed", "luckiest_observed"),
        ("deflated_observed", "dsr"),
    ]:
        assert getattr(worth, ours) == pytest.approx(getattr(luck, theirs), rel=1e-9), ours


@pytest.mark.parametrize("a_year", [12, 52, 252, 6552])
def test_numbers_are_annual_by_the_bars_a_year_of_the_reports(a_year):
    """Variance of chance A / (n - 1): sqrt(A / 299) times the expected best of two."""
    lines = [noise(seed) for seed in range(2)]
    worth = worth_of(*lines, a_year=a_year)
    z = 0.5772156649015329 * 0.9002  # (1 - g) * z(1/2) + g * z(1 - 1/(2e)), z(0.8161) = 0.9002
    assert worth.luckiest == pytest.approx(math.sqrt(a_year / 299.0) * z, rel=1e-3)
    best = lines[worth.best]
    terms = {"n_trials": 2, "variance": 1.0 / 299.0, **moments_of(best)}
    assert worth.deflated == pytest.approx(deflated_sharpe_ratio(best.mean() / best.std(ddof=1), **terms), abs=1e-9)


def test_runs_with_other_bars_a_year_have_their_own_variance():
    """300 weeks are 5.8 years and 300 days 1.2: the variance of their Sharpe ratios is 52/299 and 252/299."""
    lines = [noise(seed) for seed in range(2)]
    tracks = [track_of(account(line), a_year) for line, a_year in zip(lines, (52, 252), strict=True)]
    worth = measure_worth([1.0, 0.5], tracks, compare(tracks))
    variance = even_variance([52.0 / 299.0, 252.0 / 299.0])
    assert 52.0 / 299.0 < variance < 252.0 / 299.0
    z = 0.5772156649015329 * 0.9002
    assert worth.luckiest == pytest.approx(math.sqrt(variance) * z, rel=1e-3)
    terms = {"n_trials": 2, "variance": variance / 52.0, **moments_of(lines[0])}
    assert worth.deflated == pytest.approx(deflated_sharpe_ratio(1.0 / math.sqrt(52.0), **terms), abs=1e-9)


def test_variance_of_the_runs_counts_one_that_never_traded_as_zero():
    line = noise(1)
    worth = worth_of(line, np.zeros(300))
    variance = np.var([sharpe_of(line), 0.0], ddof=1)
    assert worth.luckiest_observed == pytest.approx(math.sqrt(variance) * 0.5772156649015329 * 0.9002, rel=1e-3)
    assert (worth.best, worth.n_trials) == (0, 2)


@pytest.mark.parametrize("n_bars", [2, 3, 60])
def test_a_short_run_that_never_traded_is_a_trial_without_luck_of_its_own(n_bars):
    """It raises the number of trials from two to three; chance moves the two others alone, by 252 / 299 a year."""
    worth = worth_of(noise(0), noise(1), np.zeros(n_bars))
    even = worth_of(noise(0), noise(1), np.zeros(300))
    assert (worth.n_trials, worth.luckiest, worth.deflated) == (3, even.luckiest, even.deflated)
    z = 0.5772156649015329 * 1.1623 + (1.0 - 0.5772156649015329) * 0.4307  # z(1 - 1/(3e)) and z(2/3)
    assert worth.luckiest == pytest.approx(math.sqrt(252.0 / 299.0) * z, rel=1e-3)


def test_what_is_deflated_is_above_the_return_of_cash():
    """The Sharpe ratio of the metrics is; that of the equity is not."""
    lines = [noise(seed) for seed in range(2)]
    tracks = tracks_of(*lines)
    worth = measure_worth([3.0, 0.0], tracks, compare(tracks))
    terms = {"n_trials": 2, "variance": 1.0 / 299.0, **moments_of(lines[0])}
    assert worth.deflated == pytest.approx(deflated_sharpe_ratio(3.0 / math.sqrt(252), **terms), abs=1e-9)


def test_alike_runs_count_as_one_trial():
    worth = worth_of(*[noise(0)] * 5)
    assert (worth.n_trials, worth.best) == (5, 0)
    assert (worth.correlation, worth.n_effective) == (pytest.approx(1.0), pytest.approx(1.0))
    assert worth.luckiest_effective == pytest.approx(0.0, abs=1e-6) and worth.deflated < worth.deflated_effective


def test_without_any_sharpe_there_is_nothing_to_be_worth():
    assert worth_of() is None and worth_of(np.zeros(300), np.zeros(300)) is None


@pytest.mark.parametrize("lengths", [[60] * 10 + [2500] * 90, [22] * 5 + [2500] * 95, [100, 300]], ids=len)
def test_runs_of_different_length_are_held_against_the_best_that_luck_gives_them(lengths):
    """The best of many is mostly a short one: seeded worlds without skill have that mean of their highest."""
    sigmas = np.sqrt(252.0 / (np.array(lengths) - 1.0))
    highest = np.random.default_rng(0).normal(0.0, sigmas, (20_000, sigmas.size)).max(axis=1)
    variance = even_variance(list(sigmas**2))
    equal = np.random.default_rng(1).normal(0.0, math.sqrt(variance), highest.shape + sigmas.shape).max(axis=1)
    assert equal.mean() == pytest.approx(highest.mean(), rel=0.05)


def test_runs_of_one_length_have_the_variance_of_chance():
    assert even_variance([0.25] * 7) == 0.25
