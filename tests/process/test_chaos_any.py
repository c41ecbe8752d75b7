"""`tests.bench.chaos --any` in short: one kill of each kind of process, on ws:// and on wss:// with a TLS holder."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.bench.chaos_any import WEIGHTS, run


@pytest.mark.native
@pytest.mark.timeout(120)
def test_a_kill_of_any_process_loses_nothing_repeats_nothing_and_closes_no_other_connection(tmp_path: Path) -> None:
    results, sinks = run(tmp_path, seed=3, kinds=list(WEIGHTS), lanes=("ws", "held"))
    assert {kind: tally.kills for kind, tally in results.items()} == dict.fromkeys(WEIGHTS, 1)
    for kind, tally in (*results.items(), *sinks.items()):
        assert tally.is_clean, (kind, tally)
        assert kind == "holder" or kind in sinks or not tally.lost, (kind, tally)
