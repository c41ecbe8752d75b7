"""One connection over its owners, without processes: what goes from one owner to the next."""

from __future__ import annotations

from tests.support.fakes import FakeHoldingSupervisor, connected, up


def test_an_owner_that_dies_before_it_reports_anything_hands_on_what_its_predecessor_was_handed(
    holding_supervisor: FakeHoldingSupervisor,
) -> None:
    supervisor = holding_supervisor
    link = connected(supervisor)
    up(supervisor.process)
    for _ in range(3):
        supervisor.kill_owner()
        assert supervisor.handed.resume.up == {"headers": {}, "subprotocol": None, "peer": ""}
        assert (link.state, link.is_between_owners) == ("connecting", True)
    supervisor.handed.held.sock.close()
    link.stop()
