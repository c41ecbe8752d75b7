"""Whose end an owner saw: its peer's, or that of the process that holds its TLS."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

import pytest

from wsadapter.contract.ipc.commands import LEFT, Command
from wsadapter.contract.reasons import Reason
from wsadapter.process.owner_process import OwnerProcess
from wsadapter.process.tls_holder import TlsHolder

END_OF_STREAM = Reason(kind="closed_by_peer", code=1006)
DIED = Reason(kind="crashed", signal="SIGKILL")


def holder(*, waiting: tuple[Command, ...] = (), ended: bool = False) -> TlsHolder:
    """Its process has said `waiting`, which nobody has read yet."""
    found = TlsHolder(lambda _: None, lambda _: None)

    def read_all() -> bool:
        for command in waiting:
            found.on_command(found.process, command)
        return True

    process = SimpleNamespace(control=SimpleNamespace(read_all=read_all), exit=SimpleNamespace(has_ended=ended))
    return found.adopt(lambda _: cast("OwnerProcess", process))


def test_an_end_that_the_holder_did_not_report_is_the_holders_even_before_its_death_is_seen() -> None:
    lost = holder().lost(END_OF_STREAM)
    assert lost is not None
    assert lost.kind == "crashed"


def test_an_end_that_the_holder_reported_is_the_peers() -> None:
    assert holder(waiting=(Command(LEFT, 0, b""),)).lost(END_OF_STREAM) is None


@pytest.mark.parametrize("kind", ["handshake_rejected", "send_failed"])
def test_a_failure_that_may_have_other_causes_is_the_holders_if_the_holder_is_dead(kind: str) -> None:
    assert holder().lost(Reason(kind=kind)) is None
    assert holder(ended=True).lost(Reason(kind=kind)) is not None


def test_a_close_frame_of_the_peer_is_the_peers() -> None:
    assert holder().lost(Reason(kind="closed_by_peer", code=1001)) is None


def test_the_reason_of_the_holders_end_is_returned_only_if_it_concerns_the_owner() -> None:
    found = holder()
    found.on_dead(found.process, DIED)
    assert found.lost(END_OF_STREAM) == DIED
    assert found.lost(Reason(kind="crashed")) is None
