"""Programs of other people, from the registries, in a folder of their own; nothing is installed on the machine.

What is asked for is fetched once and kept. Everything here raises `Unavailable` with the reason where that can't be had.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Final

DEFAULT: Final = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "wsadapter-peers"
_PATIENCE: Final = 900.0
_LIBRARIES: Final = ("usr/lib/x86_64-linux-gnu", "usr/lib/aarch64-linux-gnu", "lib/x86_64-linux-gnu", "usr/lib")


class Unavailable(Exception):
    """A peer can't be had here; the text says why."""


class Cache:
    """The folder. What is fetched is marked when it is whole."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    @cache  # noqa: B019 - lives as long as the program
    def python(self, name: str, *packages: str) -> Path:
        """The interpreter of an environment of that name with these packages."""
        venv = self.folder / f"python-{name}"
        interpreter = venv / "bin" / "python"
        if not self._is_whole(venv, packages):
            _run(sys.executable, "-m", "venv", "--clear", str(venv))
            _run(str(interpreter), "-m", "pip", "install", "-q", "--disable-pip-version-check", *packages)
            self._mark(venv, packages)
        return interpreter

    @cache  # noqa: B019
    def npm(self, *packages: str) -> Path:
        """The folder `node_modules` that has them."""
        folder = self.folder / f"npm-{'-'.join(packages)}"
        if not self._is_whole(folder, packages):
            folder.mkdir(exist_ok=True)
            _run(installed("npm"), "install", "--silent", "--no-fund", "--no-audit", "--prefix", str(folder), *packages)
            self._mark(folder, packages)
        return folder / "node_modules"

    @cache  # noqa: B019
    def debian(self, *packages: str) -> Path:
        """A root folder in which these packages lie unpacked, with all they need that is not installed. No script of theirs
        is run."""
        root = self.folder / f"debian-{packages[0]}"
        if not self._is_whole(root, packages):
            shutil.rmtree(root, ignore_errors=True)
            archives = root / "archives"
            archives.mkdir(parents=True)
            plan = _run(installed("apt-get"), "-s", "install", "--no-install-recommends", *packages)
            needed = re.findall(r"^Inst (\S+)", plan, re.MULTILINE)
            _run("apt-get", "-qq", "-o", "APT::Sandbox::User=root", "download", *(needed or packages), cwd=archives)
            (root / "versions").write_text("\n".join(sorted(archive.stem for archive in archives.glob("*.deb"))))
            for archive in archives.glob("*.deb"):
                _run("dpkg", "-x", str(archive), str(root))
            shutil.rmtree(archives)
            self._mark(root, packages)
        return root

    def program(self, package: str, name: str) -> tuple[str, dict[str, str]]:
        """A program that is installed, else one of a Debian package; and the environment that it needs."""
        if found := shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"):
            return found, {}
        root = self.debian(package)
        for folder in ("usr/sbin", "usr/bin"):
            if (root / folder / name).exists():
                return str(root / folder / name), {"LD_LIBRARY_PATH": ":".join(str(root / each) for each in _LIBRARIES)}
        raise Unavailable(f"{package} has no program {name}")

    def debian_version(self, package: str) -> str:
        """Of a package that is installed, or was unpacked by `debian`."""
        stored = self.folder / f"debian-{package}" / "versions"
        for line in stored.read_text("utf-8").splitlines() if stored.exists() else ():
            name, _, rest = line.partition("_")
            if name == package:
                return rest.partition("_")[0].replace("%3a", ":")
        return _run(installed("dpkg-query"), "-W", "-f", "${Version}", package)

    def python_version(self, environment: str, package: str) -> str:
        """Of a package in one of the environments."""
        code = f"from importlib.metadata import version; print(version({package!r}))"
        return _run(str(self.folder / f"python-{environment}" / "bin" / "python"), "-c", code).strip()

    def _is_whole(self, folder: Path, packages: Sequence[str]) -> bool:
        stamp = folder / "whole"
        return stamp.exists() and stamp.read_text("utf-8") == " ".join(packages)

    def _mark(self, folder: Path, packages: Sequence[str]) -> None:
        (folder / "whole").write_text(" ".join(packages))


def installed(name: str) -> str:
    """A program of this machine."""
    found = shutil.which(name)
    if found is None:
        raise Unavailable(f"{name} is not installed")
    return found


def _run(*command: str, cwd: Path | None = None) -> str:
    """What it printed."""
    try:
        done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=_PATIENCE, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unavailable(f"{' '.join(command[:4])}: {error}") from error
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip()).splitlines()
        raise Unavailable(f"{' '.join(command[:4])} ...: {said[-1] if said else done.returncode}")
    return done.stdout
