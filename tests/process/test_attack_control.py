"""What clients may do to the control socket, and what that may cost the supervisor."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.support.waiting import wait_until
from wsadapter.contract.errors import AlreadyRunning
from wsadapter.control.instance import Instance, connect
from wsadapter.control.server import ControlServer, ask
from wsadapter.loop.reactor import Reactor


class Commanded:
    """A supervisor that has much to say."""

    state = "running"
    journaling = None

    def __init__(self) -> None:
        self.asked = 0

    def status(self, *, memory: bool = True) -> dict[str, Any]:
        self.asked += 1
        return {"endpoints": {}, "much": "x" * 100_000}

    def ask_to_stop(self) -> bool:
        return True


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[Instance]:
    instance = Instance.acquire("one", str(tmp_path))
    yield instance
    instance.release()


@pytest.fixture
def reactor() -> Iterator[Reactor]:
    reactor = Reactor()
    reactor.start()
    yield reactor
    reactor.close()


@pytest.fixture
def server(reactor: Reactor, instance: Instance) -> Iterator[ControlServer]:
    server = ControlServer(reactor, instance, Commanded())
    yield server
    server.close()
    server.dismiss()


def client(tmp_path: Path) -> socket.socket:
    found = connect("one", str(tmp_path))
    assert found is not None
    found.settimeout(5)
    return found


def answer(peer: socket.socket) -> dict[str, Any]:
    received = b""
    while not received.endswith(b"\n"):
        chunk = peer.recv(65536)
        assert chunk, "no answer"
        received += chunk
    found: dict[str, Any] = orjson.loads(received)
    return found


class Exhausted:
    """A listener in a process without a free descriptor."""

    def __init__(self, listener: socket.socket) -> None:
        self.fileno = listener.fileno
        self.close = listener.close

    def accept(self) -> tuple[socket.socket, str]:
        raise OSError(errno.EMFILE, "Too many open files")


def test_a_client_that_can_not_be_accepted_does_not_make_the_loop_spin(
    reactor: Reactor, server: ControlServer, instance: Instance, tmp_path: Path
) -> None:
    listener, instance.listener = instance.listener, Exhausted(instance.listener)  # type: ignore[assignment]
    with client(tmp_path) as peer:
        turns = reactor.dispatcher.turns
        assert not reactor.run_until(lambda: False, 0.3)
        assert reactor.dispatcher.turns - turns < 10
        instance.listener = listener
        peer.sendall(b'{"command":"status"}\n')
        assert answer(peer)["ok"]


def test_clients_that_send_nothing_little_too_much_or_vanish_disturb_nothing(server: ControlServer, tmp_path: Path) -> None:
    slow = [client(tmp_path) for _ in range(20)]  # more than there are places
    for peer in slow[10:]:
        peer.sendall(b'{"comm')
    nonsense = (
        b"x" * 70_000, b"[" * 5000 + b"\n", b"\xff\xfe\n", b"\0" * 100 + b"\n", b'{"command":[]}\n', b'{"command":"restart"}\n',
    )  # fmt: skip
    for said in nonsense:
        with client(tmp_path) as peer:
            peer.sendall(said)
    deaf = client(tmp_path)
    deaf.sendall(b'{"command":"status"}\n' * 200)  # and never reads
    with client(tmp_path) as peer:
        peer.sendall(b'{"command":"status"}\n')
        assert answer(peer)["ok"]
    for peer in (*slow, deaf):
        peer.close()
    assert server is not None


def test_many_requests_at_once_do_not_hold_up_the_loop(reactor: Reactor, server: ControlServer, tmp_path: Path) -> None:
    with client(tmp_path) as greedy:
        greedy.sendall(b'{"command":"status"}\n' * 3000)
        supervisor = server._supervisor
        assert isinstance(supervisor, Commanded)
        assert reactor.run_until(lambda: supervisor.asked > 0, 5)
        assert supervisor.asked == 1
        turns = reactor.dispatcher.turns
        assert reactor.run_until(lambda: supervisor.asked == 4, 5)
        assert reactor.dispatcher.turns - turns >= 3  # all else comes between


def test_a_name_is_free_behind_its_release_even_if_a_fork_has_the_lock_open_too(tmp_path: Path) -> None:
    first = Instance.acquire("one", str(tmp_path))
    assert first._lock is not None
    copy = os.dup(first._lock)  # as a fork has
    with pytest.raises(AlreadyRunning):
        Instance.acquire("one", str(tmp_path))
    first.release()
    second = Instance.acquire("one", str(tmp_path))
    second.release()
    os.close(copy)


@pytest.mark.parametrize("trap", ["symlink to a folder", "symlink to nowhere", "file", "writable by all"])
def test_a_runtime_folder_that_another_user_prepared_is_not_used(trap: str, tmp_path: Path) -> None:
    folder, elsewhere = tmp_path / "run", tmp_path / "elsewhere"
    elsewhere.mkdir(mode=0o700)
    if trap == "file":
        folder.touch()
    elif trap == "writable by all":
        folder.mkdir()
        folder.chmod(0o777)
    else:
        folder.symlink_to(elsewhere if trap == "symlink to a folder" else tmp_path / "nowhere")
    instance = Instance.acquire("trapped", str(folder))
    try:
        assert instance.describe().startswith("abstract:")
        assert list(elsewhere.iterdir()) == []
    finally:
        instance.release()


@pytest.mark.native
def test_a_runtime_folder_that_was_removed_is_put_back_while_clients_are_answered(
    instance: Instance, reactor: Reactor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wsadapter.control.server._UPKEEP", 0.1)
    server = ControlServer(reactor, instance, Commanded())  # type: ignore[arg-type]
    try:
        for file in ("one.sock", "one.lock"):
            (tmp_path / file).unlink()
        assert ask("one", {"command": "status"}, runtime_dir=str(tmp_path))["ok"]
        wait_until((tmp_path / "one.sock").exists, 5)
        with client(tmp_path) as peer:
            peer.sendall(b'{"command":"status"}\n')
            assert answer(peer)["ok"]
    finally:
        server.close()
        server.dismiss()
