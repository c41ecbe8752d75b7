"""A frozen program (PyInstaller) that runs itself again where an owner is to start."""

from __future__ import annotations

import sys
from multiprocessing import spawn

import pytest

from wsadapter import Endpoint, Supervisor
from wsadapter.capabilities import is_for_multiprocessing
from wsadapter.contract.errors import UsageError

FORK_SERVER = ["program", "-B", "-c", "from multiprocessing.forkserver import main; main(3, 4, [], **{})"]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["program"], False),
        (["program", "config.toml"], False),
        (["program", "-c", "config.toml"], False),
        (["program", "from multiprocessing.x"], False),
        (["program", "--multiprocessing-fork", "parent_pid=1", "pipe_handle=5"], True),
        (FORK_SERVER, True),
        ([], False),
    ],
)
def test_what_multiprocessing_has_started_is_known_by_its_arguments(arguments: list[str], expected: bool) -> None:
    assert is_for_multiprocessing(arguments) is expected


def test_the_arguments_are_those_of_this_multiprocessing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    assert is_for_multiprocessing(spawn.get_command_line(pipe_handle=5))


@pytest.mark.parametrize("frozen", [True, False])
def test_a_supervisor_there_is_refused_with_the_remedy(frozen: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", FORK_SERVER)
    monkeypatch.setattr(sys, "frozen", frozen, raising=False)
    if not frozen:
        Supervisor([Endpoint("a", url="ws://localhost/")])
        return
    with pytest.raises(UsageError, match=r"multiprocessing\.freeze_support\(\)"):
        Supervisor([Endpoint("a", url="ws://localhost/")])
