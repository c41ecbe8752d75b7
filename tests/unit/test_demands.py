"""What an owner keeps for a supervisor that follows one that died."""

from __future__ import annotations

from wsadapter.contract.ipc.commands import PROBE, RESUBSCRIBE, SEND_TEXT, SUBSCRIBE, UNSUBSCRIBE, Command, encode_command
from wsadapter.worker.owner.demands import Demands

BOOK = {"channel": "book"}


def change(kind: int, ref: int, *streams: object) -> Command:
    return Command(kind, ref, encode_command(kind, ref, {"streams": list(streams)})[13:])


def test_what_is_wanted_follows_the_assignment_and_each_change() -> None:
    demands = Demands()
    assert demands.report(1, "idle", (), ()).wanted == ()
    demands.assigned(("a", BOOK))
    demands.note(change(SUBSCRIBE, 3, "b", "a"))
    demands.note(change(RESUBSCRIBE, 4, "c"))
    demands.note(change(UNSUBSCRIBE, 5, BOOK, "unknown"))
    assert demands.report(1, "up", (), ()).wanted == ("a", "b")


def test_the_last_ref_is_the_highest() -> None:
    demands = Demands()
    demands.note(Command(SEND_TEXT, 9, b"x"))
    demands.note(Command(PROBE, 0, b""))
    demands.note(Command(SEND_TEXT, 8, b"x"))
    report = demands.report(2, "up", [(8, SUBSCRIBE, ("a",))], ["7"])
    assert (report.last_ref, report.changes, report.requests) == (9, ((8, SUBSCRIBE, ("a",)),), ("7",))
