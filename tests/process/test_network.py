"""Faults of the network in short: a link between namespaces (`python -m tests.bench.network` has all of them)."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.bench.network.namespaces import why_not


@pytest.mark.native
@pytest.mark.timeout(240)
@pytest.mark.skipif(why_not() != "", reason=why_not() or "namespaces")
def test_a_bad_link_costs_nothing_also_when_owners_are_killed_and_a_router_that_forgets_is_found() -> None:
    faults = "storm,nat silent"
    command = [sys.executable, "-m", "tests.bench.network", "--only", faults]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = {name: row for name in faults.split(",") for row in done.stdout.splitlines() if row.startswith(name)}
    assert rows["storm"].split()[-1] == "none"
    assert "heartbeat_missed" in rows["nat silent"]
