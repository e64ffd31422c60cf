"""Every cell of the table of conventions is what the peer itself returns, and Backgrid's own metrics are the peers'
wherever the definition is the same: at 1e-9, on random series, on hard ones and on real runs."""

import math
from typing import NamedTuple

import backtesting
import backtesting.lib
import empyrical
import ffn
import numpy as np
import pandas as pd
import pytest
import quantstats as qs
import scipy.stats
import vectorbt as vbt
from backtesting._stats import compute_stats
from vectorbt.portfolio.enums import TradeStatus, trade_dt

from backgrid.conventions import CONVENTIONS, TOOLS, conventions
from backgrid.data import fetch_ohlcv
from backgrid.engine import run_backtest
from backgrid.metrics import calculate_metrics, cash_return, drawdown_of, returns_of

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # peers that pandas 3 warns

NAN = float("nan")
DAILY = {"freq": "B", "start": "2020-01-01"}
CALENDARS = {
    "stocks": DAILY,
    "seven days": {"freq": "D", "start": "2021-06-01"},
    "weekly": {"freq": "W-FRI", "start": "2015-01-01"},
    "monthly": {"freq": "MS", "start": "2001-01-01"},
    "yearly": {"freq": "YS", "start": "1900-01-01"},
    "hourly": {"freq": "h", "start": "2023-03-01", "tz": "America/New_York"},
}


@pytest.fixture(autouse=True)
def old_numpy(monkeypatch):
    """empyrical-reloaded 0.5.9 names np.NINF, which numpy 2 lacks: without it, it has no Sortino and no downside."""
    monkeypatch.setattr(np, "NINF", -np.inf, raising=False)


class Case(NamedTuple):
    """An account by its closes, and its closed trades."""

    equity: pd.Series
    pnl: np.ndarray
    trade_returns: np.ndarray

    @property
    def returns(self):
        return pd.Series(returns_of(self.equity.to_numpy()), index=self.equity.index[1:])

    @property
    def table(self):
        return conventions(self.returns, self.equity, self.pnl, self.trade_returns, periods_per_year=252)


def case_of(returns, pnl=(), trade_returns=None, calendar="stocks"):
    index = pd.date_range(periods=len(returns) + 1, **CALENDARS[calendar])
    equity = pd.Series(1000.0 * np.cumprod([1.0, *(1.0 + r for r in returns)]), index=index.as_unit("ns"))
    pnl = np.array(pnl, dtype=float)
    return Case(equity, pnl, pnl / 1000.0 if trade_returns is None else np.array(trade_returns, dtype=float))


def random_case(seed, n_bars=250, calendar="stocks", zeros=0.0):
    """Returns with fat tails, some of them 0, and up to 30 trades whose sizes differ."""
    rng = np.random.default_rng(seed)
    returns = np.maximum(rng.standard_t(4, n_bars) * 0.01 + rng.normal(0.0, 0.002), -0.5)
    returns[rng.random(n_bars) < zeros] = 0.0
    trade_returns = rng.normal(0.01, 0.05, rng.integers(2, 30))
    return case_of(returns, trade_returns * rng.uniform(100.0, 5000.0, trade_returns.size), trade_returns, calendar)


# ---- what the peers return -------------------------------------------------------------------------------------------


def of_backtesting(case):
    index = case.equity.index
    bars = pd.DataFrame({"Close": np.linspace(100.0, 110.0, len(index))}, index=index)
    trades = pd.DataFrame({"PnL": case.pnl, "ReturnPct": case.trade_returns, "EntryBar": 0, "ExitBar": 0})
    trades["Duration"] = pd.Series(pd.Timedelta(days=1), index=trades.index, dtype="timedelta64[ns]")
    return in_fractions(compute_stats(trades, case.equity.to_numpy(), bars, None, 0.0))


def in_fractions(stats):
    """The table of backtesting.py under our names."""
    percent = {
        "total_return": "Return [%]",
        "cagr": "CAGR [%]",
        "annual_return": "Return (Ann.) [%]",
        "annual_volatility": "Volatility (Ann.) [%]",
        "max_drawdown": "Max. Drawdown [%]",
        "avg_drawdown": "Avg. Drawdown [%]",
        "win_rate": "Win Rate [%]",
        "expectancy": "Expectancy [%]",
        "avg_trade": "Avg. Trade [%]",
    }
    plain = {
        "sharpe": "Sharpe Ratio",
        "sortino": "Sortino Ratio",
        "calmar": "Calmar Ratio",
        "profit_factor": "Profit Factor",
        "sqn": "SQN",
        "kelly": "Kelly Criterion",
    }
    return {k: stats[v] / 100.0 for k, v in percent.items()} | {k: stats[v] for k, v in plain.items()}


def of_vectorbt(case):
    bar = case.equity.index.to_series().diff().median()
    account = pd.Series.vbt.returns.from_value(case.equity, init_value=case.equity.iloc[0], freq=bar)
    records = np.zeros(case.pnl.size, dtype=trade_dt)
    records["id"] = np.arange(case.pnl.size)
    records["pnl"], records["return"], records["status"] = case.pnl, case.trade_returns, TradeStatus.Closed
    trades = vbt.portfolio.trades.ExitTrades(account.wrapper, records, case.equity)
    return by_vectorbt(account, trades)


def by_vectorbt(account, trades):
    """A returns accessor and closed trades of vectorbt under our names."""
    by_account = {
        "total_return": "total",
        "cagr": "annualized",
        "annual_return": "annualized",
        "annual_volatility": "annualized_volatility",
        "downside_deviation": "downside_risk",
        "max_drawdown": "max_drawdown",
        "ulcer_index": "ulcer_index",
        "ulcer_performance_index": "martin_ratio",
        "value_at_risk": "value_at_risk",
        "expected_shortfall": "cond_value_at_risk",
        "sharpe": "sharpe_ratio",
        "sortino": "sortino_ratio",
        "calmar": "calmar_ratio",
        "omega": "omega_ratio",
        "tail_ratio": "tail_ratio",
        "common_sense_ratio": "common_sense_ratio",
    }
    with np.errstate(all="ignore"):
        return {
            **{name: getattr(account, method)() for name, method in by_account.items()},
            **{name: account.stats([name]).iloc[0] for name in ("skew", "kurtosis")},
            **{name: getattr(trades, name)() for name in ("win_rate", "profit_factor", "expectancy", "sqn")},
            "avg_win": trades.winning.returns.mean(),
            "avg_loss": trades.losing.returns.mean(),
        }


def of_quantstats(case):
    names = {
        "total_return": "comp",
        "cagr": "cagr",
        "annual_volatility": "volatility",
        "max_drawdown": "max_drawdown",
        "ulcer_index": "ulcer_index",
        "ulcer_performance_index": "ulcer_performance_index",
        "value_at_risk": "value_at_risk",
        "expected_shortfall": "expected_shortfall",
        "skew": "skew",
        "kurtosis": "kurtosis",
        "sharpe": "sharpe",
        "sortino": "sortino",
        "calmar": "calmar",
        "omega": "omega",
        "tail_ratio": "tail_ratio",
        "common_sense_ratio": "common_sense_ratio",
        "recovery_factor": "recovery_factor",
        "win_rate": "win_rate",
        "profit_factor": "profit_factor",
        "kelly": "kelly_criterion",
        "avg_win": "avg_win",
        "avg_loss": "avg_loss",
        "payoff_ratio": "payoff_ratio",
        "win_streak": "consecutive_wins",
        "loss_streak": "consecutive_losses",
    }
    return {name: or_nan(getattr(qs.stats, function), case.returns) for name, function in names.items()}


def of_empyrical(case):
    names = {
        "total_return": "cum_returns_final",
        "cagr": "cagr",
        "annual_return": "annual_return",
        "annual_volatility": "annual_volatility",
        "downside_deviation": "downside_risk",
        "max_drawdown": "max_drawdown",
        "value_at_risk": "value_at_risk",
        "expected_shortfall": "conditional_value_at_risk",
        "sharpe": "sharpe_ratio",
        "sortino": "sortino_ratio",
        "calmar": "calmar_ratio",
        "omega": "omega_ratio",
        "tail_ratio": "tail_ratio",
    }
    return {name: or_nan(getattr(empyrical, function), case.returns) for name, function in names.items()}


def or_nan(function, returns):
    try:
        return float(function(returns))
    except ZeroDivisionError:
        return NAN


PEERS = {
    "backtesting.py": of_backtesting,
    "vectorbt": of_vectorbt,
    "quantstats": of_quantstats,
    "empyrical": of_empyrical,
}


def assert_same(ours, theirs, left_out=()):
    given = {name: value for name, value in ours.items() if name not in left_out}
    assert given == pytest.approx({n: theirs[n] for n in given}, rel=1e-9, abs=1e-13, nan_ok=True)


# ---- the table of conventions ----------------------------------------------------------------------------------------

RANDOM = [
    *[pytest.param(seed, {}, id=f"stocks {seed}") for seed in range(20)],
    *[pytest.param(seed, {"zeros": 0.6}, id=f"mostly flat {seed}") for seed in range(20, 30)],
    *[pytest.param(seed, {"n_bars": 2 + seed - 30}, id=f"{seed - 28} returns") for seed in range(30, 42)],
    *[
        pytest.param(
            seed, {"calendar": calendar, "n_bars": 40 if calendar == "yearly" else 150}, id=f"{calendar} {seed}"
        )
        for calendar in CALENDARS
        for seed in range(50, 54)
    ],
]


def test_every_cell_has_a_peer_to_be_held_to():
    case = random_case(0)
    for tool in TOOLS[1:]:
        assert {m for m, tools in CONVENTIONS.items() if tool in tools} == set(PEERS[tool](case)), tool
    assert len(RANDOM) > 50


@pytest.mark.parametrize(("seed", "kind"), RANDOM)
def test_random_account_has_the_numbers_of_each_peer(seed, kind):
    case = random_case(seed, **kind)
    for tool in TOOLS[1:]:
        assert_same(case.table["value"].xs(tool, level="tool"), PEERS[tool](case))


@pytest.mark.filterwarnings("ignore:No non-zero returns", "ignore:Insufficient data", "ignore::RuntimeWarning")
@pytest.mark.parametrize(
    "case",
    [
        case_of([0.0] * 20),
        case_of([0.01, 0.02, 0.0, 0.03, 0.015] * 4, [10.0, 20.0, 5.0]),
        case_of([-0.01, -0.02, 0.0, -0.03, -0.015] * 4, [-10.0, -20.0, -5.0]),
        case_of([0.1, -0.5, -1.0, 0.0, 0.0], [100.0, -1100.0], [0.1, -1.0]),
        case_of([0.01, -0.02, 0.01], [10.0]),
        case_of([0.01, -0.02, 0.01], [10.0, 10.0]),
        case_of([0.01, -0.02, 0.01], [0.0, 0.0]),
        case_of([0.02, 0.01, -0.01], [10.0, 0.0, -10.0]),
        case_of([0.01, -0.02, 0.05, 0.02, -0.01], [-10.0, 0.0]),
        case_of([0.02]),
        case_of([-0.02]),
        case_of([0.1, -0.1]),
    ],
    ids=[
        *("flat", "only gains", "only losses", "ruin", "one trade", "equal trades", "trades of nothing"),
        *("falls at last", "falls at last again", "one gain", "one loss", "two returns"),
    ],
)
def test_hard_account_has_the_numbers_of_each_peer_infinite_ones_too(case):
    for tool in TOOLS[1:]:
        assert_same(case.table["value"].xs(tool, level="tool"), PEERS[tool](case))


@pytest.mark.parametrize("seed", range(10))
def test_portfolio_of_vectorbt_has_the_numbers_that_it_shows_itself(seed):
    """Its own fills, values and trades; only the first bar does not trade, as ours does not."""
    rng = np.random.default_rng(seed)
    index = pd.bdate_range("2022-01-03", periods=200)
    close = pd.Series(100.0 * np.exp(np.cumsum(rng.normal(0.0, 0.02, 200))), index=index)
    entries, exits = rng.random(200) < 0.1, rng.random(200) < 0.1
    entries[0] = False
    portfolio = vbt.Portfolio.from_signals(close, entries, exits, fees=0.002, freq="1D")
    trades = portfolio.trades.closed
    table = conventions(
        portfolio.returns().to_numpy()[1:],
        portfolio.value(),
        trades.pnl.values,
        trades.returns.values,
        periods_per_year=252,
    )
    assert_same(table["value"].xs("vectorbt", level="tool"), by_vectorbt(portfolio.returns_acc, trades))


class Crossing(backtesting.Strategy):
    """Long while the close is above its mean of ten bars, else short."""

    def init(self):
        self.mean = self.I(lambda close: pd.Series(close).rolling(10).mean(), self.data.Close)

    def next(self):
        self.buy() if self.data.Close[-1] > self.mean[-1] else self.sell()


@pytest.mark.parametrize("seed", range(5))
def test_run_of_backtesting_has_the_numbers_that_it_shows_itself(seed):
    rng = np.random.default_rng(seed)
    close = 100.0 * np.exp(np.cumsum(rng.normal(0.0, 0.02, 200)))
    frame = pd.DataFrame(dict.fromkeys(("Open", "High", "Low", "Close"), close))
    frame.index = pd.bdate_range("2022-01-03", periods=200)
    costs = {"cash": 1e6, "commission": 0.001}
    stats = backtesting.Backtest(frame, Crossing, exclusive_orders=True, finalize_trades=True, **costs).run()
    equity, trades = stats["_equity_curve"]["Equity"], stats["_trades"]
    table = conventions(returns_of(equity.to_numpy()), equity, trades["PnL"], trades["ReturnPct"], periods_per_year=252)
    assert_same(table["value"].xs("backtesting.py", level="tool"), in_fractions(stats))


SAMPLES = {
    "AAPL": ({"start": "2020-01-01"}, "ma_crossover", {"fast_window": 10, "slow_window": 30}),
    "^GSPC": ({"start": "2010-01-01"}, "ma_crossover", {"fast_window": 20, "slow_window": 100}),
    "NVDA": ({}, "ma_crossover", {"fast_window": 5, "slow_window": 20}),
    "EURUSD=X": ({"interval": "1h", "end": "2017-06-30"}, "ma_crossover", {"fast_window": 24, "slow_window": 120}),
}


def sample_run(symbol, **settings):
    span, strategy, params = SAMPLES[symbol]
    return run_backtest(fetch_ohlcv(symbol, source="sample", **span), strategy, params=params, fees=0.0005, **settings)


@pytest.mark.parametrize("symbol", SAMPLES)
def test_real_run_has_the_numbers_of_each_peer(symbol):
    result = sample_run(symbol)
    closed = result.trades[result.trades["exit_reason"] != "open"]
    case = Case(result.equity, closed["pnl"].to_numpy(), closed["trade_return"].to_numpy())
    table = conventions(
        result.returns,
        result.equity,
        closed["pnl"],
        closed["trade_return"],
        periods_per_year=result.settings["periods_per_year"],
    )
    for tool in TOOLS[1:]:
        assert_same(table["value"].xs(tool, level="tool"), PEERS[tool](case))
    assert_same(table["value"].xs("backgrid", level="tool"), result.metrics)
    assert len(closed) > 10


# ---- Backgrid's own metrics, where the definitions are the same ------------------------------------------------------


def metrics_of(case, benchmark, risk_free=0.0, periods_per_year=252):
    """All metrics of a case, with nothing known of its positions and fills."""
    nothing = np.empty(0)
    return calculate_metrics(
        equity=case.equity.to_numpy(),
        benchmark=benchmark.to_numpy(),
        positions=np.zeros(case.equity.size),
        traded=nothing,
        pnl=case.pnl,
        trade_returns=case.trade_returns,
        bars_held=nothing,
        fees=nothing,
        n_trades=case.pnl.size,
        risk_free=risk_free,
        periods_per_year=periods_per_year,
    )


def case_and_benchmark(seed):
    case = random_case(seed, n_bars=60 + 5 * seed)
    noise = np.random.default_rng(1000 + seed).normal(0.0, 0.008, case.returns.size)
    return case, (0.5 * case.returns + noise).rename("benchmark")


@pytest.mark.parametrize("seed", range(50))
def test_own_metrics_are_those_of_empyrical(seed):
    case, b = case_and_benchmark(seed)
    a_year, risk_free = (252, 365, 52)[seed % 3], (0.0, 0.04)[seed % 2]
    ours, r = metrics_of(case, b, risk_free, a_year), case.returns
    cash = cash_return(risk_free, a_year)
    theirs = {
        "total_return": empyrical.cum_returns_final(r),
        "cagr": empyrical.cagr(r, annualization=a_year),
        "annual_volatility": empyrical.annual_volatility(r, annualization=a_year),
        "sharpe": empyrical.sharpe_ratio(r, risk_free=cash, annualization=a_year),
        "sortino": empyrical.sortino_ratio(r, required_return=cash, annualization=a_year),
        "downside_deviation": empyrical.downside_risk(r, required_return=cash, annualization=a_year),
        "calmar": empyrical.calmar_ratio(r, annualization=a_year),
        "omega": empyrical.omega_ratio(r, risk_free=cash),
        "max_drawdown": empyrical.max_drawdown(r),
        "value_at_risk": empyrical.value_at_risk(r),
        "tail_ratio": empyrical.tail_ratio(r),
        "beta": empyrical.beta(r, b, risk_free=cash),
        "information_ratio": empyrical.excess_sharpe(r, b) * math.sqrt(a_year),
        "benchmark_return": empyrical.cum_returns_final(b),
        "excess_cagr": empyrical.cagr(r, annualization=a_year) - empyrical.cagr(b, annualization=a_year),
        "tracking_error": empyrical.annual_volatility(r - b, annualization=a_year),
        "up_capture": empyrical.up_capture(r, b, period="yearly"),  # the mean of a bar, not a year of rising bars
        "down_capture": empyrical.down_capture(r, b, period="yearly"),
    }
    assert_same(theirs, ours)


@pytest.mark.parametrize("seed", range(50))
def test_own_metrics_are_those_of_quantstats(seed):
    """Of the bars, and, with the trades in the place of bars, of the trades."""
    case, b = case_and_benchmark(seed)
    ours, r, trades = metrics_of(case, b), case.returns, pd.Series(case.trade_returns)
    theirs = {
        "expected_shortfall": qs.stats.cvar(r, method="historical"),
        "ulcer_index": qs.stats.ulcer_index(r),
        "positive_bars": qs.stats.win_rate(r),
        "best_day": qs.stats.best(r),
        "worst_day": qs.stats.worst(r),
        "skew": scipy.stats.skew(r),
        "kurtosis": scipy.stats.kurtosis(r, fisher=False),
        "r_squared": qs.stats.r_squared(r, b),
        "beta": qs.stats.greeks(r, b)["beta"],
        "alpha": qs.stats.greeks(r, b)["alpha"],
        "information_ratio": qs.stats.information_ratio(r, b) * math.sqrt(252),
        "treynor": r.mean() * 252 / qs.stats.greeks(r, b)["beta"],
        "omega": 1.0 + qs.stats.gain_to_pain_ratio(r),
        "ulcer_performance_index": qs.stats.cagr(r) / qs.stats.ulcer_index(r),
        "recovery_factor": qs.stats.comp(r) / -qs.stats.max_drawdown(r),
        "win_rate": qs.stats.win_rate(trades),
        "avg_win": qs.stats.avg_win(trades),
        "avg_loss": qs.stats.avg_loss(trades),
        "payoff_ratio": qs.stats.payoff_ratio(trades),
        "kelly": qs.stats.kelly_criterion(trades),
        "win_streak": qs.stats.consecutive_wins(trades),
        "loss_streak": qs.stats.consecutive_losses(trades),
        "profit_factor": qs.stats.profit_factor(pd.Series(case.pnl / 1e9)),  # returns, by the look of them
    }
    with_one_side = {"avg_win", "avg_loss", "payoff_ratio", "kelly", "profit_factor"}
    one_sided = (trades > 0.0).all() or (trades < 0.0).all()
    assert_same(theirs, ours, left_out=with_one_side if one_sided else ())


@pytest.mark.parametrize("seed", range(50))
def test_own_metrics_are_those_of_ffn(seed):
    case, b = case_and_benchmark(seed)
    ours, r, equity = metrics_of(case, b, risk_free=0.03), case.returns, case.equity
    stretches = equity.to_drawdown_series()
    theirs = {
        "total_return": equity.calc_total_return(),
        "sharpe": r.calc_sharpe(rf=0.03, nperiods=252),
        "max_drawdown": equity.calc_max_drawdown(),
        "information_ratio": r.calc_information_ratio(b) * math.sqrt(252),
        "avg_drawdown": ffn.core.drawdown_details(stretches)["drawdown"].astype(float).mean(),
        "time_under_water": (stretches < 0.0).mean(),
    }
    assert_same(theirs, ours)


@pytest.mark.parametrize("seed", range(10))
def test_own_trade_metrics_are_those_of_vectorbt_and_backtesting(seed):
    case, b = case_and_benchmark(seed)
    ours, table = metrics_of(case, b), case.table["value"]
    for tool, names in (
        ("vectorbt", ["win_rate", "profit_factor", "expectancy", "sqn", "avg_win", "avg_loss"]),
        ("backtesting.py", ["win_rate", "sqn", "avg_drawdown", "max_drawdown", "total_return"]),
    ):
        if tool == "vectorbt" or drawdown_of(case.equity.to_numpy())[-2] < 0.0:
            assert_same({name: PEERS[tool](case)[name] for name in names}, ours)
            assert_same({name: table[name, tool] for name in names}, ours)


def test_streaks_of_trades_are_those_of_vectorbt():
    rng = np.random.default_rng(7)
    for _ in range(20):
        case = case_of([0.01, -0.01], rng.choice([-5.0, 0.0, 8.0], rng.integers(1, 40)))
        records = np.zeros(case.pnl.size, dtype=trade_dt)
        records["id"], records["pnl"] = np.arange(case.pnl.size), case.pnl
        trades = vbt.portfolio.trades.ExitTrades(case.equity.vbt.wrapper, records, case.equity)
        ours = metrics_of(case, case.returns)
        assert ours["win_streak"] == trades.winning_streak.max()
        assert ours["loss_streak"] == trades.losing_streak.max()
