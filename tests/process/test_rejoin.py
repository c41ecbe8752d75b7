"""Owners that a launcher starts with a rejoin socket."""

from __future__ import annotations

import os
import select
from queue import SimpleQueue

from tests.support.waiting import wait_until
from wsadapter.contract.ipc.record import RecordReader
from wsadapter.contract.ipc.rejoin import call_owner
from wsadapter.contract.ipc.reports import Rejoined, parse_report
from wsadapter.process.launcher import Launcher, StartedOwner


def test_an_owner_outlives_its_supervisor_and_ends_when_nobody_can_follow(start_method: str) -> None:
    launcher, done = Launcher(start_method, rejoin=True), SimpleQueue[StartedOwner | OSError]()
    launcher.start("owner", done.put)
    started = done.get(timeout=30)
    assert isinstance(started, StartedOwner)
    assert started.rejoin is not None
    records, data = RecordReader(), started.data.fileno()
    started.control.close()
    with call_owner(started.rejoin, 3):
        assert select.select([data], [], [], 30)[0]
        [record] = records.feed(os.read(data, 1 << 16))
        assert parse_report(record.report) == Rejoined(3, "idle", 0, (), (), ())
        started.rejoin.close()
    wait_until(lambda: started.process.exitcode is not None, 5)
    assert started.process.exitcode == 0
    started.close()
    launcher.close()
