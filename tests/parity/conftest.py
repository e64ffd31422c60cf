"""What the parity tests share: the peers' warnings let through, and the table that `make parity` prints at the end."""

from collections import defaultdict

import pytest

COMPARED = defaultdict(lambda: {"series": set(), "runs": 0, "trades": 0, "apart": 0.0})
DIFFERENCES = []


@pytest.fixture(scope="session")
def compared():
    """`compared(peer, what, series, trades, apart)` enters one run: bars by name, trades held, largest difference."""

    def enter(peer, what, series, trades, apart):
        row = COMPARED[peer, what]
        row["series"].add(series)
        row["runs"] += 1
        row["trades"] += trades
        row["apart"] = max(row["apart"], apart)

    return enter


@pytest.fixture(scope="session")
def differs():
    """`differs(peer, what, theirs, ours)` enters a rule that is different on purpose, from the test that pins it."""

    def enter(peer, what, theirs, ours):
        DIFFERENCES.append((peer, what, theirs, ours))

    return enter


def pytest_terminal_summary(terminalreporter):
    write = terminalreporter.write_line
    if COMPARED:
        terminalreporter.section("equal to its peers, relative differences")
        write(f"{'peer':<16}{'what':<52}{'series':>7}{'runs':>7}{'trades':>9}{'largest':>11}")
        for (peer, what), row in sorted(COMPARED.items()):
            series, runs, trades = len(row["series"]), row["runs"], row["trades"]
            write(f"{peer:<16}{what:<52}{series:>7,}{runs:>7,}{trades:>9,}{row['apart']:>11.1e}")
        every = set().union(*(row["series"] for row in COMPARED.values()))
        write(f"{len(every):,} series, {sum(row['trades'] for row in COMPARED.values()):,} trades")
    if DIFFERENCES:
        terminalreporter.section("different on purpose, each pinned by a test")
        for peer, what, theirs, ours in sorted(set(DIFFERENCES)):
            write(f"{peer}, {what}")
            write(f"    there: {theirs}")
            write(f"    here:  {ours}")
