"""What the tests share: small bars, the sample prices, folders of their own, and a browser."""

import os
import shutil
import subprocess

import nbformat
import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, settings

from backgrid import standby
from backgrid.data import fetch_ohlcv

QUIET = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    "--host-resolver-rules=MAP * ~NOTFOUND",
)

settings.register_profile(
    "backgrid",
    deadline=None,  # the first example compiles
    derandomize=True,
    max_examples=200,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("backgrid")


@pytest.fixture(scope="session", autouse=True)
def own_folders(tmp_path_factory):
    """No test reads or writes the user's cache, reports and trial ledger, nor the user's choice of a source."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BACKGRID_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("BACKGRID_REPORTS", str(tmp_path_factory.mktemp("reports")))
        patch.setenv("BACKGRID_LEDGER", "off")
        patch.delenv("BACKGRID_SOURCE", raising=False)
        yield


@pytest.fixture(scope="session", autouse=True)
def warm_kernels():
    """The first report starts a process from which the kernels of all others are forked: a second each, not five."""
    standby.keep()


@pytest.fixture(scope="session")
def bars():
    """`bars(close=[...])` makes a valid frame; opens are the closes before where they are not given."""

    def make(close, open=None, index=None):
        close = np.asarray(close, dtype=float)
        open = np.concatenate([close[:1], close[:-1]]) if open is None else np.asarray(open, dtype=float)
        columns = {"Open": open, "High": np.maximum(open, close), "Low": np.minimum(open, close), "Close": close}
        return pd.DataFrame(columns, index=pd.bdate_range("2023-01-02", periods=close.size) if index is None else index)

    return make


@pytest.fixture(scope="session")
def aapl():
    """AAPL 2023: 250 real daily bars."""
    return fetch_ohlcv("AAPL", "2023-01-01", "2023-12-31", source="sample")


def program(name):
    """Path of a program; without it the test is skipped, or fails where all programs are asked for."""
    path = shutil.which(name)
    if path is None and os.environ.get("BACKGRID_REQUIRE_PROGRAMS"):
        pytest.fail(f"{name} is not installed")
    if path is None:
        pytest.skip(f"{name} is not installed")
    return path


@pytest.fixture(scope="session")
def browse(tmp_path_factory):
    """`browse(page, *options)` opens a page in Chromium and gives what it prints."""
    chromium, profile = program("chromium"), tmp_path_factory.mktemp("profile")

    def visit(page, *options):
        command = [chromium, *QUIET, f"--user-data-dir={profile}", *options, page.resolve().as_uri()]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout

    return visit


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A cache folder of the test's own, which does not exist yet."""
    monkeypatch.setenv("BACKGRID_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def no_kernel(monkeypatch):
    """A kernel that starts fails the test."""
    monkeypatch.setattr("papermill.execute_notebook", lambda *_, **__: pytest.fail("a kernel was started"))


@pytest.fixture
def no_run(monkeypatch):
    """Notebooks come back as if they had been run and had nothing to show; gives what they were to be run with."""
    asked = []

    def execute_notebook(path, output, parameters, **_):
        asked.append(parameters)
        return nbformat.read(path, as_version=4)

    monkeypatch.setattr("papermill.execute_notebook", execute_notebook)
    return asked
