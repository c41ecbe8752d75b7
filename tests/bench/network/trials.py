"""The faults, one after the other; runs in the client's namespace, started by `tests.bench.network`."""

from __future__ import annotations

import json
import logging
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, Self

from tests.bench.accounts import Backlog, Totals
from tests.bench.network.host import ADDRESS, PORTS, configure, ip
from tests.bench.network.link import FAIR, Link, Weather, open_tun
from wsadapter import Endpoint, Message, Supervisor
from wsadapter.contract.items import Item
from wsadapter.testing.certificates import Authority

_CLIENT: Final = "198.51.100.1"
_OTHER_CLIENT: Final = "198.51.100.3"
_PATIENCE: Final = 60.0
_FLOWING: Final = 50
"""Messages that must have come of each endpoint before and behind a fault."""
_MORE_THAN_UNSEEN: Final = 1000
"""Messages that a host can't have sent after the last one that arrived."""
_INTERVAL, _TIMEOUT = 1.0, 3.0


class Failed(Exception):
    """A fault did not have the effect that it must have."""


class Scene:
    """The supervisor, the link and the host."""

    def __init__(self, folder: Path, seed: int) -> None:
        self._folder = folder
        self._stack = ExitStack()
        self._accounts = {name: Backlog(name) for name in PORTS}
        self._ups: dict[str, int] = dict.fromkeys(PORTS, 0)
        self._downs: dict[str, list[str]] = {name: [] for name in PORTS}
        self._tun = open_tun("client0")
        configure("client0", _CLIENT)
        self.link = Link(self._tun, seed=seed)
        self._host: subprocess.Popen[str] | None = None
        self._host_tun = -1
        self._first = 0
        self.feed: Supervisor

    def __enter__(self) -> Self:
        self._stack.callback(os.close, self._tun)
        self._stack.enter_context(self.link)
        self._stack.callback(self.shut_down)
        self.boot()
        ca_file = self._folder / "ca.pem"
        settings: dict[str, Any] = {
            "restart": {"backoff_initial": 0.05, "backoff_max": 0.5, "intensity": 1_000_000},
            "heartbeat": {"kind": "ping", "interval": _INTERVAL, "timeout": _TIMEOUT},
            "timeouts": {"connect": 3.0, "handshake": 3.0, "close": 1.0},
        }
        tls = {"ca_file": str(ca_file), "server_name": "localhost"}
        ends = [
            Endpoint(name, url=f"{name}://{ADDRESS}:{port}/", tls=tls if name == "wss" else {}, proxy="none", **settings)
            for name, port in PORTS.items()
        ]
        self.feed = self._stack.enter_context(Supervisor(ends))
        self.flow("the start")
        return self

    def __exit__(self, *_error: object) -> None:
        self._stack.close()

    # -- the host --------------------------------------------------------------------------------------------------------

    def boot(self) -> None:
        """The host starts; it knows nothing of what was before, but that its messages are later ones."""
        ours, theirs = socket.socketpair()
        words = [sys.executable, "-m", "tests.bench.network.host", str(theirs.fileno()), str(self._folder), str(self._first)]
        self._host = subprocess.Popen(
            ["unshare", "--net", *words], pass_fds=[theirs.fileno()], text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        theirs.close()
        with ours:
            ours.settimeout(_PATIENCE)
            _, descriptors, _, _ = socket.recv_fds(ours, 1, 1)
        if not descriptors:
            raise Failed("the host did not start")
        self._host_tun = descriptors[0]
        os.set_blocking(self._host_tun, False)
        self._hear()
        self.link.plug(self._host_tun)

    def shut_down(self) -> None:
        """The host ends as by a power cut: no FIN and no RST leaves it."""
        self.link.plug(None)
        if self._host is not None:
            self._host.kill()
            self._host.communicate()
            os.close(self._host_tun)
            self._host = None
        self._first = _MORE_THAN_UNSEEN + max(backlog.reached("x") for backlog in self._accounts.values())

    def order(self, word: str) -> None:
        """The host's exchanges obey."""
        assert self._host is not None
        assert self._host.stdin is not None
        self._host.stdin.write(f"{word}\n")
        self._host.stdin.flush()
        self._hear()

    def _hear(self) -> None:
        assert self._host is not None
        assert self._host.stdout is not None
        if not self._host.stdout.readline():
            raise Failed("the host ended")

    # -- what comes ------------------------------------------------------------------------------------------------------

    def take(self, seconds: float) -> None:
        """What comes within that time is judged."""
        self.until(lambda: False, seconds)

    def until(self, done: Callable[[], bool], seconds: float = _PATIENCE) -> bool:
        """The same, until something is so; whether it is."""
        end = time.monotonic() + seconds
        while not done():
            if (left := end - time.monotonic()) <= 0:
                return False
            with suppress(TimeoutError):
                self._judge(self.feed.get(min(left, 0.05)))
        return True

    def _judge(self, item: Item) -> None:
        backlog = self._accounts.get(item.endpoint)
        if backlog is None:
            return
        if isinstance(item, Message):
            line = {"epoch": item.epoch, "number": item.number, "data": json.loads(item.data)}
        else:
            line = item.to_json()
            self._ups[item.endpoint] += line["event"] == "up"
            if line["event"] == "down":
                self._downs[item.endpoint].append(line["reason"]["kind"])
        backlog.take(line, now=time.monotonic(), wall_ns=time.time_ns())

    def flow(self, when: str) -> None:
        """Messages of both come. Raises `Failed`."""
        marks = {name: backlog.totals.received + _FLOWING for name, backlog in self._accounts.items()}
        if not self.until(lambda: all(self._accounts[name].totals.received >= mark for name, mark in marks.items())):
            raise Failed(f"{when}: nothing came: {self._states()}")

    def lost(self, *names: str, within: float = _PATIENCE) -> None:
        """These connections are lost. Raises `Failed`."""
        before = {name: len(self._downs[name]) for name in names}
        if not self.until(lambda: all(len(self._downs[name]) > before[name] for name in names), within):
            raise Failed(f"a connection was not found dead within {within:g} s: {self._states()}")

    def kill(self) -> None:
        """`kill -9` of the owner of the ws:// endpoint, and the next one goes on."""
        ready = lambda: self.feed.status()["spares"] > 0 and self.feed.status()["endpoints"]["ws"]["in_custody"]  # noqa: E731
        if not self.until(ready):
            raise Failed(f"no spare, or no custody: {self._states()}")
        ups = self._ups["ws"]
        pid = self.feed.status()["endpoints"]["ws"]["pid"]
        if pid:
            os.kill(pid, signal.SIGKILL)
            if not self.until(lambda: self._ups["ws"] > ups):
                raise Failed(f"no owner came after a kill: {self._states()}")

    def totals(self) -> dict[str, Totals]:
        """Of both, up to now."""
        return {name: replace(backlog.totals) for name, backlog in self._accounts.items()}

    def wrong(self) -> list[str]:
        """What must never be."""
        return [text for backlog in self._accounts.values() for text in backlog.texts]

    def reasons_since(self, before: dict[str, int]) -> str:
        """Why connections were lost."""
        found = [kind for name, kinds in self._downs.items() for kind in kinds[before[name] :] if kind != "crashed"]
        return ", ".join(f"{kind} ×{found.count(kind)}" for kind in dict.fromkeys(found)) or "none"

    def down_counts(self) -> dict[str, int]:
        return {name: len(kinds) for name, kinds in self._downs.items()}

    def _states(self) -> str:
        return ", ".join(f"{name} {one['state']} {one['last_exit']}" for name, one in self.feed.status()["endpoints"].items())


# -- faults: each ends with a fair link ------------------------------------------------------------------------------------


def _bad_weather(weather: Weather, kills: int = 3) -> Callable[[Scene], None]:
    """TCP mends it: no connection is lost, nothing is missing, whatever happens to the owner."""

    def run(scene: Scene) -> None:
        scene.link.weather = weather
        for _ in range(kills):
            scene.take(1.0)
            scene.kill()
        scene.take(1.0)
        scene.link.weather = FAIR
        scene.flow("afterwards")

    return run


def _hole(weather: Weather) -> Callable[[Scene], None]:
    """A black hole is found by the heartbeat, and told."""

    def run(scene: Scene) -> None:
        scene.link.weather = weather
        scene.lost("ws", "wss")
        scene.take(1.0)
        scene.link.weather = FAIR
        scene.flow("afterwards")

    return run


def _short_hole(scene: Scene) -> None:
    """Shorter than the heartbeat's patience: TCP sends again what was lost."""
    scene.link.weather = Weather(to_host=False, to_client=False)
    scene.take(1.0)
    scene.link.weather = FAIR
    scene.flow("afterwards")


def _new_address(scene: Scene) -> None:
    """The client's address changes, as by DHCP or from one network to another."""
    ip("addr", "del", f"{_CLIENT}/24", "dev", "client0")
    ip("addr", "add", f"{_OTHER_CLIENT}/24", "dev", "client0")
    scene.lost("ws", "wss")
    scene.flow("with the new address")
    ip("addr", "del", f"{_OTHER_CLIENT}/24", "dev", "client0")
    ip("addr", "add", f"{_CLIENT}/24", "dev", "client0")
    scene.lost("ws", "wss")
    scene.flow("afterwards")


def _link_down(scene: Scene) -> None:
    """The interface goes down, and up again."""
    ip("link", "set", "client0", "down")
    scene.lost("ws", "wss")
    ip("link", "set", "client0", "up")
    scene.flow("afterwards")


def _nat_forgets(*, resets: bool) -> Callable[[Scene], None]:
    """The router is restarted, and knows no connection any more."""

    def run(scene: Scene) -> None:
        scene.link.nat.resets = resets
        scene.link.nat.forget()
        scene.lost("ws", "wss")
        scene.link.nat.resets = False
        scene.flow("afterwards")

    return run


def _nat_idle(scene: Scene) -> None:
    """Heartbeats keep a mapping that is forgotten after 2.5 s of silence, in a market that is quiet for longer."""
    scene.link.nat.idle = 2.5
    scene.order("pause")
    scene.take(8.0)
    scene.order("resume")
    scene.flow("afterwards")
    scene.link.nat.idle = None


def _reboot(scene: Scene) -> None:
    """The host loses power, and comes back without a memory: it answers the old connections with a RST."""
    scene.shut_down()
    scene.take(1.0)
    scene.boot()
    scene.flow("after the reboot")


KEPT: Final = "kept"
"""No connection is lost, and nothing is missing."""
LOST: Final = "lost"
"""Both connections are lost; what is missing is told."""
EITHER: Final = "either"
"""It depends on the moment; what is missing is told."""

FAULTS: Final[dict[str, tuple[Callable[[Scene], None], str]]] = {
    "loss": (_bad_weather(Weather(loss=0.05)), KEPT),
    "delay": (_bad_weather(Weather(delay=0.1, jitter=0.05)), KEPT),
    "order": (_bad_weather(Weather(reorder=0.2, delay=0.002)), KEPT),
    "copies": (_bad_weather(Weather(copies=0.2)), KEPT),
    "errors": (_bad_weather(Weather(errors=0.03)), KEPT),
    "storm": (_bad_weather(Weather(loss=0.02, delay=0.03, jitter=0.03, reorder=0.1, copies=0.05, errors=0.01)), KEPT),
    "short hole": (_short_hole, KEPT),
    "hole": (_hole(Weather(to_host=False, to_client=False)), LOST),
    "hole to host": (_hole(Weather(to_host=False)), LOST),
    "hole to client": (_hole(Weather(to_client=False)), LOST),
    "mtu": (_hole(Weather(largest=900)), LOST),
    "address": (_new_address, LOST),
    "interface": (_link_down, LOST),
    "nat silent": (_nat_forgets(resets=False), LOST),
    "nat resets": (_nat_forgets(resets=True), LOST),
    "nat idle": (_nat_idle, KEPT),
    "reboot": (_reboot, LOST),
}


def judge(kind: str, before: dict[str, Totals], after: dict[str, Totals]) -> list[str]:
    """What is not as it must be. Pure."""
    wrong = []
    for name, now in after.items():
        then = before[name]
        missing = now.covered - then.covered
        ends = now.downs - then.downs - (now.resumed - then.resumed)
        if now.wrong > then.wrong:
            wrong.append(f"{name}: lost in silence, doubled or misnumbered")
        if kind == KEPT and (missing or now.gaps > then.gaps or ends):
            wrong.append(f"{name}: {missing} missing, {now.gaps - then.gaps} gaps, {ends} connections lost")
        if kind == LOST and now.gaps == then.gaps:
            wrong.append(f"{name}: the connection was lost, and no gap says so")
    return wrong


def main() -> int:
    """Print a row per fault; 1 where one is wrong."""
    folder, only, seed = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    logging.getLogger("wsadapter").setLevel(logging.CRITICAL)
    Authority.shared(folder)
    wanted = [name.strip() for name in only.split(",") if name.strip()]
    if unknown := [name for name in wanted if name not in FAULTS]:
        print(f"no fault {unknown[0]!r}; there are {', '.join(FAULTS)}")
        return 2
    good = True
    columns = ("seconds", "packets", "received", "missing", "gaps")
    print(f"{'fault':15} {'must be':8}", *(f"{column:>8}" for column in columns), " connections lost by")
    with Scene(folder, seed) as scene:
        for name in wanted or FAULTS:
            run, kind = FAULTS[name]
            before, counts, began, packets = scene.totals(), scene.down_counts(), time.monotonic(), scene.link.carried
            try:
                run(scene)
                wrong = judge(kind, before, scene.totals())
            except Failed as error:
                scene.link.weather = FAIR
                wrong = [str(error)]
            after = scene.totals()
            received, missing, gaps = (
                sum(getattr(after[end], what) - getattr(before[end], what) for end in after)
                for what in ("received", "covered", "gaps")
            )
            reasons = scene.reasons_since(counts)
            figures = (round(time.monotonic() - began, 1), scene.link.carried - packets, received, missing, gaps)
            told = "".join(f"  WRONG: {text}" for text in wrong)
            print(f"{name:15} {kind:8}", *(f"{figure:8}" for figure in figures), f" {reasons}{told}", flush=True)
            good = good and not wrong
        for text in scene.wrong():
            print(f"WRONG: {text}")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
