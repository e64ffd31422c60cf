"""What each template gives on each sample with its defaults, written to golden.json by `make golden`.

Statistics have twelve digits: the logarithm of NumPy may differ in the last one from processor to processor. Trades are
hashed to the bit, since they come from additions, multiplications and divisions alone.
"""

import hashlib
import json
from pathlib import Path

from backgrid.data import fetch_ohlcv, sample_symbols
from backgrid.engine import run_backtest
from backgrid.models import StrategyType
from backgrid.portfolio import run_portfolio
from backgrid.strategies import select_params
from backgrid.templates import find_template, read_parameters

STORED = Path(__file__).with_suffix(".json")
PORTFOLIOS = ("AMZN GOOG META NFLX NVDA", "AAPL AMZN GOOG META NFLX NVDA")


def defaults(template, *names):
    """The values that a template's parameters cell gives these names."""
    declared = read_parameters(find_template(template))
    return {name: declared[name].default for name in names}


def runs():
    """Every run by its name."""
    costs = defaults("report_backtest", "fill", "fees", "slippage", "fixed_fee", "cash", "whole_units", "risk_free")
    strategy = defaults("report_backtest", "strategy")["strategy"]
    for symbol, interval in sorted(sample_symbols()):
        prices = fetch_ohlcv(symbol, interval=interval, source="sample")
        yield f"report_backtest {symbol} {interval}", run_backtest(prices, strategy, **costs)
    index = fetch_ohlcv("^GSPC", source="sample")
    for kind in StrategyType:
        params = select_params(kind.value)
        yield f"report_backtest ^GSPC 1d {kind.value}", run_backtest(index, kind.value, params=params, **costs)
    terms = defaults("report_portfolio", *costs, "weights", "rebalance", "align")
    for symbols in PORTFOLIOS:
        prices = {symbol: fetch_ohlcv(symbol, source="sample") for symbol in symbols.split()}
        for weights in ("equal_weight", "inverse_volatility", "top_momentum"):
            yield f"report_portfolio {symbols} {weights}", run_portfolio(prices, **{**terms, "weights": weights})


def today():
    """Statistics as text and the SHA-256 of the trades, by run."""
    return {
        name: {
            "trades": hashlib.sha256(result.booked.tobytes()).hexdigest(),
            **{metric: f"{value:.12g}" for metric, value in result.metrics.items()},
        }
        for name, result in runs()
    }


if __name__ == "__main__":
    STORED.write_text(json.dumps(today(), indent=1) + "\n", encoding="utf-8")
