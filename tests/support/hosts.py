"""Hosts of a cluster: runners on this machine, each with a folder of its own, on one NATS server."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

import psutil

from tests.support.brokers import NatsServer
from tests.support.command_line import Running, wsadapter
from tests.support.waiting import wait_until
from wsadapter.contract.errors import ControlError
from wsadapter.control.server import ask

PATIENCE = 45.0


def configuration(
    folder: Path, host: str, servers: str, endpoints: Mapping[str, str], *, more: str = "", replicas: int = 1
) -> Path:
    """The file of a host. `more`: lines of [cluster]."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "prices.toml"
    tables = [
        f'[cluster]\nhost = "{host}"\nservers = "{servers}"\nreplicas = {replicas}\n{more}',
        f'[journal]\npath = "{folder / "journal"}"',
        *(f'[endpoints.{name}]\nurl = "{url}"' for name, url in endpoints.items()),
    ]
    path.write_text("\n\n".join(tables) + "\n")
    return path


class Host(Running):
    """A runner, and all its processes."""

    def __init__(self, folder: Path, name: str, servers: str, endpoints: Mapping[str, str], **more: Any) -> None:
        self.name = name
        self._home = folder
        super().__init__(folder, str(configuration(folder, name, servers, endpoints, **more)), start_new_session=True)

    def __exit__(self, *raised: object) -> None:
        if self.process.poll() is None:
            self.signal_all(signal.SIGKILL)
        super().__exit__(*raised)  # type: ignore[arg-type]

    def status(self) -> dict[str, Any]:
        """The whole status; {} while it does not answer."""
        try:
            answer = ask("prices", {"command": "status"}, runtime_dir=str(self._home / "wsadapter"))
        except ControlError:
            return {}
        return dict(answer["status"])

    def cluster(self) -> dict[str, Any]:
        """The cluster as this host sees it."""
        return dict(self.status().get("cluster", {}))

    def table(self) -> str:
        """What `wsadapter status --cluster` prints."""
        return self.command("status", "--cluster").stdout

    def command(self, name: str, *more: str) -> subprocess.CompletedProcess[str]:
        """A command for this host."""
        return wsadapter(self._home, name, "--name", "prices", *more)

    def endpoints(self) -> dict[str, str]:
        """The state of each endpoint that it has."""
        return {name: each["state"] for name, each in self.status().get("endpoints", {}).items()}

    def processes(self) -> list[psutil.Process]:
        main = psutil.Process(self.process.pid)
        return [main, *main.children(recursive=True)]

    def agent(self) -> psutil.Process:
        """The process of its agent."""
        return next(each for each in self.processes() if "wsadapter.cluster" in each.cmdline())

    def signal_all(self, number: signal.Signals) -> None:
        """To every process of the host: what a power switch, or a frozen virtual machine, does."""
        with suppress(psutil.NoSuchProcess):
            for process in self.processes():
                with suppress(ProcessLookupError):
                    os.kill(process.pid, number)


class Hosts:
    """Some hosts; whoever still runs at the end of the block is killed."""

    def __init__(
        self,
        folder: Path,
        server: NatsServer,
        names: Iterable[str],
        endpoints: Mapping[str, str],
        servers: str = "",
        **more: Any,
    ) -> None:
        """`server`: one of the `servers` in the hosts' settings."""
        self.server = server
        self._make = lambda name: Host(folder / name, name, servers or server.url, endpoints, **more)
        self.all = {name: self._make(name) for name in names}
        self._endpoints = list(endpoints)

    def __enter__(self) -> Self:
        for host in self.all.values():
            host.__enter__()
        return self

    def __exit__(self, *raised: object) -> None:
        for host in self.all.values():
            host.__exit__(*raised)

    def start_again(self, name: str) -> Host:
        """A host that was killed. Returns when it is a member, and every other host sees it."""
        self.all[name].__exit__(None, None, None)
        host = self.all[name] = self._make(name)
        host.__enter__()

        def sees(other: Host) -> bool:
            found = other.cluster()
            return found.get("state") == "member" and bool(found["hosts"].get(name, {}).get("alive"))

        wait_until(lambda: all(map(sees, self.all.values())), PATIENCE, self.said)
        return host

    def holders(self) -> dict[str, str]:
        """By endpoint: the host where it is up."""
        return {name: host.name for host in self.all.values() for name, state in host.endpoints().items() if state == "up"}

    def wait_until_up(self) -> dict[str, str]:
        """Until each endpoint is up somewhere, and has messages in the stream."""
        wait_until(lambda: len(self.holders()) == len(self._endpoints), PATIENCE, self.said)
        wait_until(lambda: all(self.lines(name) for name in self._endpoints), PATIENCE, self.said)
        return self.holders()

    def said(self) -> str:
        """The last lines of each log."""
        return "\n".join(f"--- {host.name}\n" + "\n".join(host.log[-30:]) for host in self.all.values())

    def lines(self, endpoint: str) -> list[dict[str, Any]]:
        """The lines of an endpoint in the cluster's stream."""
        return self.server.lines("WSA_prices").get(f"WSA_prices.{endpoint}", [])
