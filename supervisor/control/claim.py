"""The name of a running supervisor: its lock and its control socket."""

from __future__ import annotations

from wsadapter.control.instance import Instance
from wsadapter.control.server import Command, Commanded, ControlServer
from wsadapter.loop.reactor import Reactor


class NameClaim:
    """The lock and the control server of one name; without a name it has neither."""

    def __init__(self, reactor: Reactor, name: str, runtime_dir: str, supervisor: Commanded) -> None:
        """`runtime_dir`: the folder of the lock and the control socket, as configured; "" is the default."""
        self._reactor = reactor
        self._supervisor = supervisor
        self._server: ControlServer | None = None
        self.commands: dict[str, Command] = {}
        """Commands of the control socket in addition to those of the server."""
        self.name = name
        self.runtime_dir = runtime_dir
        self.instance: Instance | None = None
        """The lock, while it is held."""

    def open(self) -> None:
        """Take the name, if there is one that was not inherited, and answer commands. Raises `AlreadyRunning`, `UsageError`."""
        if self.name and self.instance is None:
            self.instance = Instance.acquire(self.name, self.runtime_dir)
        if self.instance is not None:
            self._server = ControlServer(self._reactor, self.instance, self._supervisor, self.commands)

    def take(self, name: str) -> None:
        """Take a name while the supervisor runs without one. Raises as `open`."""
        self.name = name
        self.open()

    def inherit(self, instance: Instance) -> None:
        """The name was given by another supervisor; `open` answers commands on its socket."""
        self.instance = instance

    def describe(self) -> str | None:
        """The address of the control socket; None: there is none."""
        return self.instance.describe() if self.instance is not None else None

    def hand_over(self) -> None:
        """Name and socket belong to another supervisor now."""
        assert self.instance is not None
        assert self._server is not None
        self._server.close()
        self.instance.hand_over()

    def close(self) -> None:
        """Accept no more commands."""
        if self._server is not None:
            self._server.close()

    def release(self) -> None:
        """After `close`: free the name, and only then close the clients that wait for the end of a `stop`, because they rely on
        a free name."""
        if self.instance is not None:
            self.instance.release()
        if self._server is not None:
            self._server.dismiss()
