"""The chaos bench in short: nothing is lost in silence, doubled or out of order, whatever happens to whom."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.bench.chaos import run

LOSSLESS = {("ws", "kill"), ("ws", "restart"), ("wss", "restart"), ("held", "kill"), ("held", "restart"), ("replicas", "kill")}
"""What nothing may be lost by."""


@pytest.mark.native
@pytest.mark.timeout(300)
@pytest.mark.parametrize("kinds", [{"kill", "restart"}, {"reset", "takeover", "kill holder"}])
def test_chaos(tmp_path: Path, kinds: set[str]) -> None:
    results = run(tmp_path, faults=8, seconds=60, rate=200, seed=5, kinds=kinds)
    assert sum(tally.faults for tally in results.values()) == 8
    for (lane, kind), tally in results.items():
        assert (tally.silent, tally.doubled, tally.disordered) == (0, 0, 0), (lane, kind)
        if (lane, kind) in LOSSLESS:
            assert (tally.lost, tally.gaps) == (0, 0), (lane, kind)
