"""The runner as the first process of a container: not root, read-only root, orphans reaped, a bounded stop, a health check.

In namespaces of this machine's own root, and in the image where there is one (`sh ops/image test`).
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.support.containers import PATIENCE, USER, Container, Image, Namespaces, why_no_image, why_no_namespaces
from tests.support.waiting import wait_until
from wsadapter.testing import Exchange

pytestmark = pytest.mark.slow


@pytest.fixture(params=["namespaces", "image"])
def kind(request: pytest.FixtureRequest) -> type[Container]:
    """Each way to have a container; skipped with the reason where this machine has none."""
    why = why_no_namespaces() if request.param == "namespaces" else why_no_image()
    if why:
        pytest.skip(why)
    return Namespaces if request.param == "namespaces" else Image


@pytest.fixture
def exchanges() -> Iterator[tuple[Exchange, Exchange]]:
    """One for each endpoint."""
    with Exchange(messages=["x"]) as good, Exchange(messages=["x"]) as bad:
        yield good, bad


def config_of(folder: Path, exchanges: tuple[Exchange, Exchange]) -> Path:
    """`bad` is fatal after the first connection that it loses."""
    good, bad = exchanges
    path = folder / "feeds.toml"
    path.write_text(
        f'[supervisor]\nname = "container-{os.getpid()}"\n[endpoints.good]\nurl = "{good.url}"\n'
        f'[endpoints.bad]\nurl = "{bad.url}"\nrestart = {{ intensity = 0, on_exceeded = "fatal" }}\n'
    )
    return path


def endpoints(container: Container) -> dict[str, dict[str, object]]:
    """As `status` in the container shows them."""
    said = container.run("status", "--json").stdout
    found: dict[str, dict[str, object]] = json.loads(said)["endpoints"] if said else {}
    return found


def all_up(container: Container) -> bool:
    """Whether both endpoints have a connection. Fails if the container has ended instead."""
    if container.process.poll() is not None:
        container.wait()
        pytest.fail(f"the container ended: {container.log}")
    return [endpoint["state"] for endpoint in endpoints(container).values()] == ["up", "up"]


def inside(container: Container) -> list[psutil.Process]:
    """All its processes but the first."""
    return container.one().children(recursive=True)


def zombies(container: Container) -> list[psutil.Process]:
    """Processes that have ended and that nobody has reaped."""
    return [process for process in inside(container) if process.status() == psutil.STATUS_ZOMBIE]


def test_in_a_container_it_is_process_1_without_rights_reaps_owners_and_reports_its_health(
    kind: type[Container], exchanges: tuple[Exchange, Exchange], tmp_path: Path
) -> None:
    good, bad = exchanges
    with kind(config_of(tmp_path, exchanges)) as container:
        wait_until(lambda: all_up(container), PATIENCE, "both endpoints are up")
        one = container.one()
        root = next(mount for mount in Path(f"/proc/{one.pid}/mounts").read_text().splitlines() if mount.split()[1] == "/")
        assert "ro" in root.split()[3].split(",")
        assert {process.uids().real for process in (one, *inside(container))} == {USER}
        assert "CapEff:\t0000000000000000\n" in Path(f"/proc/{one.pid}/status").read_text()
        healthy = container.run("health")
        assert (healthy.returncode, healthy.stdout) == (
            0, "the supervisor answers; 2 of 2 endpoints are up, none is fatal\n",
        )  # fmt: skip

        before = endpoints(container)["good"]
        owner = next(process for process in inside(container) if own_pid(process) == before["pid"])
        helper = owner.parent()  # the fork server: without it, owners are children of process 1
        assert helper is not None
        owner.kill()
        wait_until(lambda: endpoints(container)["good"]["pid"] not in (None, before["pid"]), PATIENCE, "a new owner")
        if helper.pid not in (one.pid, *(child.pid for child in one.children())):
            helper.kill()
        wait_until(lambda: all_up(container), PATIENCE, "both endpoints are up again")
        assert container.run("restart", "good").returncode == 0  # a fork server that was killed is reaped at the next fork
        assert container.execute("sh", "-c", "(sleep 0.2 &)").returncode == 0  # an orphan that is not the supervisor's
        wait_until(lambda: not any(child.name() == "sleep" for child in one.children()), PATIENCE, "the orphan is reaped")
        wait_until(lambda: not zombies(container), PATIENCE, lambda: f"not reaped: {zombies(container)}")

        bad.close(1011)
        wait_until(lambda: endpoints(container)["bad"]["state"] == "fatal", PATIENCE, lambda: str(endpoints(container)))
        red = container.run("health")
        assert (red.returncode, red.stdout.splitlines()) == (1, ["bad: fatal: closed by peer, code 1011"])
        if isinstance(container, Image):
            assert container.declared_check().returncode == 1

        one.send_signal(signal.SIGTERM)
        assert container.wait() == 0, container.log
        wait_until(lambda: good.closes and set(good.closes.values()) <= {1000, 1006}, PATIENCE, lambda: str(good.closes))
    assert "stopping: SIGTERM" in container.log


def own_pid(process: psutil.Process) -> int:
    """The pid that a process has in the innermost pid namespace."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("NSpid:")).split()[-1])
