"""One connection over its owners, without processes: what goes from one owner to the next."""

from __future__ import annotations

from tests.support.fakes import FakeHoldingSupervisor, connected, up


def test_an_owner_that_dies_before_its_first_report_leaves_the_connection_to_the_next_owner(
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
