"""Indicators give what TA-Lib gives, to 1e-9, on every daily sample symbol and on random bars."""

import numpy as np
import plain
import pytest
import talib

from backgrid.data import fetch_ohlcv
from backgrid.indicators import atr, bollinger, donchian, ema, macd, rsi, sma, zscore

SYMBOLS = ["AAPL", "AMZN", "GOOG", "META", "NFLX", "NVDA", "^GSPC"]
RANDOM = {f"random {seed}": (seed, volatility) for seed, volatility in enumerate([0.001, 0.01, 0.02, 0.05, 0.1])}


@pytest.fixture(params=[*SYMBOLS, *RANDOM])
def prices(request):
    if request.param in RANDOM:
        seed, volatility = RANDOM[request.param]
        return plain.random_bars(seed, n_bars=1000, volatility=volatility)
    return fetch_ohlcv(request.param, source="sample")


def same(line, peer):
    """Equal to 1e-9, relative or absolute, and unknown on the same bars."""
    peer = np.asarray(peer)
    assert np.isnan(peer).tolist() == line.isna().tolist()
    return np.allclose(line, peer, rtol=1e-9, atol=1e-9, equal_nan=True)


@pytest.mark.parametrize("window", [2, 5, 14, 20, 50, 200])
def test_line_of_one_window_is_that_of_ta_lib(prices, window):
    high, low, close = prices["High"], prices["Low"], prices["Close"]
    assert same(sma(close, window), talib.SMA(close, window))
    assert same(ema(close, window), talib.EMA(close, window))
    assert same(rsi(close, window), talib.RSI(close, window))
    assert same(atr(prices, window), talib.ATR(high, low, close, window))
    bands = donchian(prices, window)
    assert same(bands.lower, talib.MIN(low, window)) and same(bands.upper, talib.MAX(high, window))
    assert same(bands.middle, talib.MIDPRICE(high, low, window))


@pytest.mark.parametrize(("window", "width"), [(5, 1.0), (20, 2.0), (50, 2.5)])
def test_bands_are_those_of_ta_lib(prices, window, width):
    close = prices["Close"]
    upper, middle, lower = talib.BBANDS(close, window, width, width)
    bands = bollinger(close, window, width)
    assert same(bands.lower, lower) and same(bands.middle, middle) and same(bands.upper, upper)


@pytest.mark.parametrize("window", [20, 50])
def test_zscore_is_that_of_the_mean_and_deviation_of_ta_lib(prices, window):
    """TA-Lib's deviation has ddof 0, and loses digits where it is small against the price."""
    close = prices["Close"]
    spread = talib.STDDEV(close, window) * np.sqrt(window / (window - 1))
    np.testing.assert_allclose(zscore(close, window), (close - talib.SMA(close, window)) / spread, rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("windows", [(12, 26, 9), (2, 3, 2), (5, 35, 5), (20, 50, 100)], ids=str)
def test_macd_is_that_of_ta_lib(prices, windows):
    """TA-Lib hides the line until the signal is known."""
    lines, (line, signal, histogram) = macd(prices["Close"], *windows), talib.MACD(prices["Close"], *windows)
    assert same(lines.line.where(lines.signal.notna()), line)
    assert same(lines.signal, signal) and same(lines.histogram, histogram)


@pytest.mark.parametrize("function", ["SMA", "EMA", "RSI"])
def test_missing_values_at_the_start_delay_as_in_ta_lib(prices, function):
    close = prices["Close"].copy()
    close.iloc[:7] = np.nan
    mine = {"SMA": sma, "EMA": ema, "RSI": rsi}[function]
    assert same(mine(close, 14), getattr(talib, function)(close, 14))


def test_chain_of_indicators_is_that_of_ta_lib(prices):
    close = prices["Close"]
    assert same(ema(rsi(close, 14), 9), talib.EMA(talib.RSI(close, 14), 9))
    assert same(bollinger(rsi(close, 14), 20).upper, talib.BBANDS(talib.RSI(close, 14), 20, 2.0, 2.0)[0])
