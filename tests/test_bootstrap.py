"""Bootstrap intervals and the lengths of their blocks: known answers, slow twins, and calibration."""

import math
import statistics

import numpy as np
import pandas as pd
import pytest
from benchmarks import calibration
from hypothesis import given
from hypothesis import strategies as st

from backgrid import bootstrap
from backgrid._sums import bar_sums
from backgrid.bootstrap import bootstrap_ci, optimal_block_length
from backgrid.errors import ParameterError
from backgrid.metrics import METRICS, calculate_max_drawdown, calculate_sharpe_ratio, line

NOISE = np.random.default_rng(0).normal(0.0, 0.01, (240, 12))


def plain_block_products(lines, places):
    """Means of both lines over a resample, and the sums over its blocks of the products of their deviations."""
    n = lines.shape[1]
    found = []
    for row in places.tolist():
        first, second = lines[:, row].mean(axis=1)
        starts = [t for t in range(n) if t == 0 or row[t] != (row[t - 1] + 1) % n]
        blocks = [row[a:b] for a, b in zip(starts, [*starts[1:], n], strict=True)]
        x = [sum(lines[0, p] - first for p in block) for block in blocks]
        y = [sum(lines[1, p] - second for p in block) for block in blocks]
        found.append([first, second, np.dot(x, x), np.dot(x, y), np.dot(y, y)])
    return np.array(found)


def resamples(n_bars, length, n_boot=50, seed=0):
    return np.concatenate(list(bootstrap.resamples(n_bars, length, n_boot, seed)))


# ---- bootstrap intervals ---------------------------------------------------------------------------------------------


def test_resamples_are_blocks_of_the_asked_mean_length_beginning_anywhere():
    places = resamples(1000, 4.0, 200)
    begins = places[:, 1:] != (places[:, :-1] + 1) % 1000
    assert begins.mean() == pytest.approx(1 / 4, abs=0.003)  # of 200,000
    assert np.bincount(places.ravel(), minlength=1000).mean() == 200.0
    assert places.min() == 0 and places.max() == 999
    assert abs(places.mean() - 499.5) < 5.0


def test_resamples_do_not_depend_on_how_many_are_made_at_once(monkeypatch):
    together = resamples(100, 3.0, 20)
    monkeypatch.setattr(bootstrap, "CELLS", 700)
    assert (resamples(100, 3.0, 20) == together).all()
    assert (np.concatenate(list(bootstrap.resamples(100, 3.0, 20, 0, first=13))) == together[13:]).all()


@pytest.mark.parametrize("length", [1.0, 3.0, 20.0])
def test_block_products_are_those_of_the_plain_twin(length):
    lines = np.stack([NOISE[:60, 0], NOISE[:60, 1] ** 2])
    places = resamples(60, length, 20)
    expected = plain_block_products(lines, places)
    assert bootstrap._block_products(lines, places) == pytest.approx(expected, rel=1e-9, abs=1e-18)
    assert bootstrap._block_products.py_func(lines, places) == pytest.approx(expected, rel=1e-9, abs=1e-18)


@pytest.mark.parametrize("name", bootstrap.STATISTICS)
def test_statistics_are_the_metrics_and_their_slopes(name):
    """The value of the sample itself is the metric, and the slopes are those of small steps."""
    returns, statistic = NOISE[:, 2] + 0.001, bootstrap.STATISTICS[name]
    equity = np.cumprod(np.append(1.0, 1.0 + returns))
    known = {
        "returns": line(returns),
        "excess": line(returns),
        "bars": bar_sums(returns, returns, 0.0),
        "equity": equity,
        "periods_per_year": 252,
    }
    metric = METRICS[name]
    means = statistic.lines(returns).mean(axis=1)
    value, *slopes = statistic.value(*means)
    assert statistic.shown(value, 240, 252) == pytest.approx(metric.function(*map(known.get, metric.arguments)))
    for axis, slope in enumerate(slopes):
        step = np.where(np.arange(2) == axis, 1e-9, 0.0)
        change = statistic.value(*(means + step))[0] - statistic.value(*(means - step))[0]
        assert slope == pytest.approx(change / 2e-9, rel=1e-4, abs=1e-6)


def test_interval_of_a_mean_is_the_normal_one_on_independent_returns():
    returns = np.random.default_rng(4).normal(0.001, 0.01, 2000)
    half = statistics.NormalDist().inv_cdf(0.95) * returns.std() / 2000**0.5
    low, high = bootstrap_ci(returns, "annual_return", level=0.9, n_boot=4000, periods_per_year=1)
    assert [low, high] == pytest.approx([returns.mean() - half, returns.mean() + half], abs=0.1 * half)


def test_dependence_widens_the_interval():
    """The mean of an AR(1) with 0.5 has three times the variance of independent returns: 1.7 times the width."""
    noise = calibration.autoregressive(np.random.default_rng(6), 0.5, (2500,))
    wide, narrow = (bootstrap_ci(returns) for returns in (noise, np.random.default_rng(0).permutation(noise)))
    assert (wide.high - wide.low) / (narrow.high - narrow.low) == pytest.approx(3**0.5, rel=0.15)


@pytest.mark.parametrize("metric", [*bootstrap.STATISTICS, "max_drawdown"])
def test_interval_holds_the_metric_and_narrows_with_the_level(metric):
    returns = NOISE[:, 3]
    wide, narrow = (bootstrap_ci(returns, metric, level=level) for level in (0.99, 0.5))
    assert wide.low < narrow.low < narrow.high < wide.high
    assert bootstrap_ci(returns, metric) == bootstrap_ci(pd.Series(returns), metric, seed=0)
    assert bootstrap_ci(returns, metric) != bootstrap_ci(returns, metric, seed=1)


def test_interval_of_the_sharpe_ratio_holds_it_in_its_unit():
    low, high = bootstrap_ci(NOISE[:, 3], periods_per_year=12)
    assert low < calculate_sharpe_ratio(NOISE[:, 3], periods_per_year=12) < high
    assert bootstrap_ci(NOISE[:, 3]) == pytest.approx((low * 21**0.5, high * 21**0.5))


@pytest.mark.parametrize("metric", ["sharpe", "sortino"])
def test_leverage_does_not_change_the_interval_of_a_ratio(metric):
    assert bootstrap_ci(3.0 * NOISE[:, 0], metric) == pytest.approx(bootstrap_ci(NOISE[:, 0], metric))


def test_drawdowns_are_counted_from_the_start():
    rows = np.array([[-0.5, 0.1, 0.1], [0.1, -0.1, 0.05], [0.1, 0.1, 0.1]])
    expected = [calculate_max_drawdown(np.cumprod(np.append(1.0, 1.0 + row))) for row in rows]
    assert bootstrap._deepest(rows).tolist() == pytest.approx(expected)
    assert expected == pytest.approx([-0.5, -0.1, 0.0])
    low, high = bootstrap_ci(NOISE[:, 0], "max_drawdown")
    assert -1.0 <= low < high <= 0.0


@pytest.mark.parametrize("returns", [[], [0.01] * 9, [0.0] * 60, [0.001] * 60, [0.1, -0.1, 0.1, 0.2]])
@pytest.mark.parametrize("metric", ["sharpe", "annual_volatility", "max_drawdown"])
def test_too_few_or_equal_returns_have_no_interval(metric, returns):
    assert all(map(math.isnan, bootstrap_ci(returns, metric)))


def test_a_sortino_without_losses_has_no_interval():
    assert all(map(math.isnan, bootstrap_ci(np.abs(NOISE[:, 0]), "sortino")))
    assert not any(map(math.isnan, bootstrap_ci(np.append(np.abs(NOISE[:, 0]), [-0.01]), "sortino")))


def test_few_trades_have_an_interval():
    """Many resamples hold none of three returns; they are left out."""
    returns = np.zeros(250)
    returns[[10, 100, 200]] = 0.02, -0.01, 0.03
    low, high = bootstrap_ci(returns)
    assert math.isfinite(low) and math.isfinite(high) and low < calculate_sharpe_ratio(returns) < high


def test_growth_beyond_all_reason_is_undefined():
    assert math.isnan(bootstrap_ci(np.abs(NOISE[:, 0]) + 0.5, "cagr").high)


@given(st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=60))
def test_block_lengths_are_within_their_bounds(values):
    length = optimal_block_length(values)
    assert 1.0 <= length <= max(1.0, math.ceil(min(3.0 * len(values) ** 0.5, len(values) / 3.0)))


def test_block_length_grows_with_dependence():
    lengths = [
        optimal_block_length(calibration.autoregressive(np.random.default_rng(8), phi, (2000,)))
        for phi in (0.0, 0.3, 0.6, 0.9)
    ]
    assert lengths == sorted(lengths) and lengths[0] < 3.0 and lengths[-1] > 25.0


def plain_block_length(values):
    """As the papers tell it, from the autocovariances of all lags."""
    n, values = len(values), np.asarray(values) - np.mean(values)
    most = min(math.ceil(math.sqrt(n)) + 5, n - 1)
    covariance = [float(values[lag:] @ values[: n - lag]) / n for lag in range(most + 1)]
    small = [abs(each) < 2.0 * math.sqrt(math.log10(n) / n) * covariance[0] for each in covariance]
    quiet = next((lag for lag in range(1, most - 4) if all(small[lag : lag + 5])), most)
    last = min(2 * quiet, most)
    windowed = [min(1.0, 2.0 * (1.0 - lag / last)) * covariance[lag] for lag in range(last + 1)]
    long_run = covariance[0] + 2.0 * sum(windowed[1:])
    spread = 2.0 * sum(lag * each for lag, each in enumerate(windowed))
    longest = math.ceil(min(3.0 * math.sqrt(n), n / 3.0))
    return min(max(math.cbrt((spread / long_run) ** 2 * n), 1.0), longest)


@pytest.mark.parametrize("phi", [-0.4, 0.0, 0.5, 0.95])
@pytest.mark.parametrize("n_bars", [3, 8, 30, 250, 1000])
def test_block_length_is_that_of_the_plain_twin(phi, n_bars):
    values = calibration.autoregressive(np.random.default_rng(n_bars), phi, (n_bars,))
    assert optimal_block_length(values) == pytest.approx(plain_block_length(values), rel=1e-9)
    assert optimal_block_length(1e-9 * values) == pytest.approx(plain_block_length(values), rel=1e-6)


def test_kernels_compiled_or_not_are_one(monkeypatch):
    lines = [calibration.autoregressive(np.random.default_rng(1), phi, (300,)) for phi in (-0.4, 0.0, 0.9)]
    lines.append(np.zeros(300))
    lengths = [bootstrap.block_length(line) for line in lines]
    variances = [bootstrap.long_run_variance(line) for line in lines]
    for name in ("_persistence", "_covariance"):
        monkeypatch.setattr(bootstrap, name, getattr(bootstrap, name).py_func)
    assert [bootstrap.block_length.py_func(line) for line in lines] == pytest.approx(lengths)
    assert [bootstrap.long_run_variance.py_func(line) for line in lines] == pytest.approx(variances)
    assert lengths[-1] == 1.0 and variances[-1] == 0.0
    uniform = np.random.default_rng(0).random((3, 240))
    assert (bootstrap._places.py_func(uniform, 5.0) == bootstrap._places(uniform, 5.0)).all()


def test_long_run_variance_is_that_of_the_process():
    """Of an AR(1) of variance 1 it is (1 + phi) / (1 - phi), of white[t] + 0.7 * white[t - 1] it is 1.7**2."""
    rng = np.random.default_rng(9)
    for phi in (-0.3, 0.0, 0.5):
        noise = calibration.autoregressive(rng, phi, (50_000,))
        assert bootstrap.long_run_variance(noise) == pytest.approx((1 + phi) / (1 - phi), rel=0.1)
    white = rng.standard_normal(50_001)
    assert bootstrap.long_run_variance(white[1:] + 0.7 * white[:-1]) == pytest.approx(1.7**2, rel=0.1)
    assert bootstrap.long_run_variance(np.tile([1.0, -1.0], 50)) < 0.1


# ---- very long series: stretches are drawn in place of bars ----------------------------------------------------------


def test_stretches_are_sums_of_their_bars_scaled_to_the_mean(monkeypatch):
    """Seven bars of mean 5 as three, three and one, whose sums are 9, 24 and 2, at 3 stretches to 7 bars."""
    monkeypatch.setattr(bootstrap, "MOST_PLACES", 3)
    lines = np.array([[1.0, 2.0, 6.0, 5.0, 9.0, 10.0, 2.0], [0.0, 0.0, 0.0, 0.1, 0.2, 0.3, 0.0]])
    found = bootstrap._stretches(lines)
    assert found[0].tolist() == pytest.approx([9.0 * 3 / 7, 24.0 * 3 / 7, 2.0 * 3 / 7])
    assert found[1, [0, 2]].tolist() == [0.0, 0.0]
    assert found.mean(axis=1).tolist() == pytest.approx(lines.mean(axis=1).tolist())


def test_stretches_of_a_run_of_two_trades_give_no_wilder_interval_than_its_bars(monkeypatch):
    """Resamples that miss both trades do not vary, and are left out; were they not, the high end would be tenfold."""
    returns = np.zeros(15_001)
    for start in (1_000, 9_000):
        returns[start : start + 60] = np.random.default_rng(start).normal(3e-4, 1e-3, 60)
    of_bars = bootstrap_ci(returns, "sharpe")
    monkeypatch.setattr(bootstrap, "MOST_PLACES", 10_000)
    found = bootstrap_ci(returns, "sharpe")
    assert found == pytest.approx(of_bars, abs=0.3 * (of_bars.high - of_bars.low))


@pytest.mark.parametrize(
    ("n_bars", "n_places"), [(100_000, 100_000), (100_001, 50_001), (200_000, 100_000), (1_000_000, 100_000)]
)
def test_no_more_places_are_drawn_than_a_hundred_thousand(monkeypatch, n_bars, n_places):
    drawn, original = [], bootstrap.resamples

    def counted(n_bars, *rest):
        drawn.append(n_bars)
        return original(n_bars, *rest)

    monkeypatch.setattr(bootstrap, "resamples", counted)
    low, high = bootstrap_ci(np.tile([0.01, -0.01, 0.02, 0.0], n_bars // 4 + 1)[:n_bars], n_boot=1)
    assert drawn == [n_places] and math.isfinite(low) and math.isfinite(high)


def test_as_many_bars_as_places_are_drawn_as_they_are(monkeypatch):
    """To the last bit: that of stretches of one bar is another."""
    expected = [bootstrap_ci(line) for line in NOISE.T]
    monkeypatch.setattr(bootstrap, "MOST_PLACES", 240)
    assert [bootstrap_ci(line) for line in NOISE.T] == expected


def returns_of_a_kind(kind, n_bars=20_000):
    rng = np.random.default_rng(3)
    if kind == "skewed":
        return rng.exponential(0.01, n_bars) - 0.0098
    if kind == "few trades":
        few = np.zeros(n_bars)
        few[rng.choice(n_bars, 30, replace=False)] = rng.normal(0.01, 0.02, 30)
        return few
    return 0.01 * calibration.autoregressive(rng, kind, (n_bars,)) + 0.0005


@pytest.mark.parametrize("metric", ["sharpe", "annual_volatility", "cagr"])
@pytest.mark.parametrize("kind", [-0.3, 0.0, 0.5, 0.95, "skewed", "few trades"])
def test_stretches_give_the_interval_of_the_bars(monkeypatch, kind, metric):
    """Ten bars a stretch. Another seed moves an end by some 2 % of the width, rarely by more than 6 %."""
    returns = returns_of_a_kind(kind)
    of_bars = bootstrap_ci(returns, metric)
    monkeypatch.setattr(bootstrap, "MOST_PLACES", 2000)
    found = bootstrap_ci(returns, metric)
    assert found != of_bars and found == pytest.approx(of_bars, abs=0.1 * (of_bars.high - of_bars.low))


@pytest.mark.parametrize("phi", calibration.PHIS)
def test_intervals_of_stretches_cover_what_they_say(monkeypatch, phi):
    """92 to 98 % of 400 worlds; their binomial standard error is 1.1 %."""
    monkeypatch.setattr(bootstrap, "MOST_PLACES", 250)
    assert 0.92 <= calibration.sharpe_coverage(400, 2501, phi, n_boot=499) <= 0.98


# ---- what is refused -------------------------------------------------------------------------------------------------

REFUSED = [
    (bootstrap_ci, {"returns": NOISE[:, 0]}, "returns", [NOISE, [math.nan] * 20, ["x"], [1e70] * 20]),
    (bootstrap_ci, {"returns": NOISE[:, 0]}, "metric", ["sharp", None, 5]),
    (bootstrap_ci, {"returns": NOISE[:, 0]}, "level", [0.0, 1.0, 95]),
    (bootstrap_ci, {"returns": NOISE[:, 0]}, "n_boot", [0]),
    (bootstrap_ci, {"returns": NOISE[:, 0]}, "seed", [-1]),
    (bootstrap_ci, {"returns": NOISE[:, 0]}, "periods_per_year", [0, -1, math.inf]),
    (optimal_block_length, {"values": [1.0, 2.0]}, "values", [[], [1.0], [math.inf, 1.0], [[1.0, 2.0]]]),
]
CASES = [(function, good, name, bad) for function, good, name, values in REFUSED for bad in values]


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize(
    ("function", "good", "name", "bad"), CASES, ids=lambda value: getattr(value, "__name__", str(value)[:20])
)
def test_wrong_arguments_are_refused_by_name(function, good, name, bad):
    function(**good)
    with pytest.raises(ParameterError, match=name):
        function(**{**good, name: bad})


def test_returns_of_a_ruined_account_can_not_be_compounded():
    ruined = np.append(NOISE[:, 0], -1.0)
    for metric in bootstrap.COMPOUNDED:
        with pytest.raises(ParameterError, match="above -1"):
            bootstrap_ci(ruined, metric)
    assert bootstrap_ci(ruined, "sharpe").low < 0.0


def test_messages_say_what_to_do():
    with pytest.raises(ParameterError, match="did you mean 'sharpe'"):
        bootstrap_ci(NOISE[:, 0], "sharp")


@pytest.mark.parametrize("metric", [*bootstrap.STATISTICS, "max_drawdown"])
@given(st.lists(st.sampled_from([0.0, 1e-13, -1e-9, 0.01, -0.01, -0.5, 3.0, 1e12]), min_size=10, max_size=14))
def test_odd_returns_have_an_interval_or_none(metric, returns):
    low, high = bootstrap_ci(returns, metric, n_boot=20)
    assert low <= high or math.isnan(low) or math.isnan(high)


# ---- calibration: fewer worlds than tests/benchmarks/calibration.py takes --------------------------------------------


@pytest.mark.parametrize("phi", calibration.PHIS)
def test_intervals_of_the_sharpe_ratio_cover_what_they_say(phi):
    """93 to 97 % of 1,000 worlds; their binomial standard error is 0.7 %."""
    assert 0.93 <= calibration.sharpe_coverage(1000, 250, phi, n_boot=499) <= 0.97


def test_intervals_cover_on_long_series_too():
    assert 0.92 <= calibration.sharpe_coverage(400, 1000, 0.3, n_boot=499) <= 0.98
