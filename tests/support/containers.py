"""A runner as the first process of a container: not root, on a root that cannot be written.

Two machines do it. `Namespaces` needs only `unshare`, and puts this machine's own root and this environment into the container,
so it costs seconds. `Image` needs podman and an image (`sh ops/image build`), which the variable WSADAPTER_IMAGE names.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from contextlib import suppress
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import psutil

from tests.support.waiting import wait_until

USER: Final = 10001
PATIENCE: Final = 40.0

_ENTER: Final = r"""
set -e
mount -t proc proc /proc
mount -t tmpfs tmpfs /mnt
mkdir /mnt/venv /mnt/base
mount --bind "$1" /mnt/venv
cp "$2" /mnt/feeds.toml
chmod 644 /mnt/feeds.toml
mount --bind "$3" /mnt/base
if [ -n "$4" ]; then
    mount -t tmpfs -o mode=755 tmpfs "$4"
    mkdir -p "$3"
    mount --bind /mnt/base "$3"
    mount -o remount,ro "$4"
fi
mount -t tmpfs -o mode=1777 tmpfs /tmp
mount -o remount,ro /mnt
mount -o remount,ro,bind /
cd /
shift 4
exec "$@"
"""
_AS_USER: Final = (
    "setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups", "--no-new-privs", "--bounding-set=-all",
    "--inh-caps=-all", "env", "-i", "PATH=/usr/local/bin:/usr/bin:/bin", "WSADAPTER_RUNTIME_DIR=/tmp/wsadapter",
)  # fmt: skip
_PROGRAM: Final = ("/mnt/venv/bin/python", "-m", "wsadapter")


def _unshared(config: Path, *command: str) -> list[str]:
    """The command in separate namespaces, as the first process in them."""
    enter = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--", "sh", "-c", _ENTER, "sh"]
    return [*enter, sys.prefix, str(config), sys.base_prefix, _closed(Path(sys.base_prefix)), *_AS_USER, *command]


def _closed(path: Path) -> str:
    """The first folder of a path that other users cannot enter, such as /root; "" if there is none. In the container another
    one stands in its place, with nothing but that path in it."""
    return next((str(folder) for folder in reversed(path.parents) if not folder.stat().st_mode & 0o001), "")


@cache
def why_no_namespaces() -> str:
    """Why this machine cannot run `Namespaces`; "" if it can."""
    if os.geteuid() != 0:
        return "namespaces with another user in them need root"
    if missing := [name for name in ("unshare", "nsenter", "setpriv") if shutil.which(name) is None]:
        return f"there is no {', '.join(missing)} here (Debian: util-linux)"
    command = _unshared(Path(os.devnull), *_PROGRAM, "--version")
    tried = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    return "" if tried.returncode == 0 else f"no namespaces here, or user {USER} cannot read the Python: {tried.stderr[-200:]}"


def why_no_image() -> str:
    """Why this machine cannot run `Image`; "" if it can."""
    return "" if os.environ.get("WSADAPTER_IMAGE") else "no image is named by WSADAPTER_IMAGE: sh ops/image test"


class Container:
    """A container with one runner in it; killed at the end of the block if it still runs."""

    def __init__(self, config: Path) -> None:
        """`config`: a file that everybody may read, with a name of its own for the supervisor."""
        self.config = config
        self.log = ""
        self._process: subprocess.Popen[str] | None = None

    def command(self) -> list[str]:
        """What starts it, in the foreground."""
        raise NotImplementedError

    program: tuple[str, ...] = ()
    """The command `wsadapter` in it."""

    def inside(self, *command: str) -> list[str]:
        """What runs a command in it."""
        raise NotImplementedError

    def first(self) -> int | None:
        """The pid that its process 1 has outside; None before it has one."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            self.command(), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        process = self._process
        assert process is not None
        if process.poll() is None:
            self.kill()
        with suppress(subprocess.TimeoutExpired):
            self.log += process.communicate(timeout=PATIENCE)[1] or ""
        process.kill()
        process.wait()

    def kill(self) -> None:
        """End it at once."""
        with suppress(psutil.NoSuchProcess):
            if (first := self.first()) is not None:
                psutil.Process(first).kill()

    @property
    def process(self) -> subprocess.Popen[str]:
        """What was started."""
        assert self._process is not None
        return self._process

    def one(self) -> psutil.Process:
        """Its process 1, seen from outside."""
        wait_until(lambda: self.first() is not None, PATIENCE, "the container has no process 1")
        return psutil.Process(self.first())

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """`wsadapter WORDS` in it, to its end."""
        return self.execute(*self.program, *words)

    def execute(self, *command: str) -> subprocess.CompletedProcess[str]:
        """A command in it, to its end."""
        return subprocess.run(self.inside(*command), capture_output=True, text=True, timeout=PATIENCE, check=False)

    def wait(self) -> int:
        """Its exit code, once it has ended."""
        self.log += self.process.communicate(timeout=PATIENCE)[1]
        return self.process.returncode


class Namespaces(Container):
    """By unshare(1)."""

    program = _PROGRAM

    def command(self) -> list[str]:
        return _unshared(self.config, *_PROGRAM, "run", "/mnt/feeds.toml")

    def inside(self, *command: str) -> list[str]:
        return ["nsenter", f"--target={self.first()}", "--mount", "--pid", "--", *_AS_USER, *command]

    def first(self) -> int | None:
        for child in psutil.Process(self.process.pid).children():
            return int(child.pid)
        return None


class Image(Container):
    """By podman, from the image that the variable names."""

    program = ("wsadapter",)

    def __init__(self, config: Path) -> None:
        super().__init__(config)
        self._podman = shlex.split(os.environ.get("PODMAN", "podman"))
        self.name = f"wsadapter-test-{os.getpid()}"

    def command(self) -> list[str]:
        return [
            *self._podman, "run", "--rm", "--name", self.name, "--read-only", "--tmpfs", "/tmp", "--network", "host",
            "--cap-drop", "all", "--security-opt", "no-new-privileges",
            "--ulimit", "nofile=1024:4096", "--ulimit", "nproc=1024:1024",
            "--volume", f"{self.config}:/etc/wsadapter/feeds.toml:ro", os.environ["WSADAPTER_IMAGE"],
        ]  # fmt: skip

    def inside(self, *command: str) -> list[str]:
        return [*self._podman, "exec", self.name, *command]

    def first(self) -> int | None:
        found: Any = subprocess.run(
            [*self._podman, "inspect", "--format", "{{.State.Pid}}", self.name],
            capture_output=True, text=True, timeout=PATIENCE, check=False,
        )  # fmt: skip
        return int(found.stdout) if found.returncode == 0 and int(found.stdout) > 0 else None

    def kill(self) -> None:
        subprocess.run([*self._podman, "kill", self.name], capture_output=True, timeout=PATIENCE, check=False)

    def declared_check(self) -> subprocess.CompletedProcess[str]:
        """The health check that the image declares, as podman runs it."""
        return subprocess.run(
            [*self._podman, "healthcheck", "run", self.name], capture_output=True, text=True, timeout=PATIENCE, check=False
        )
