"""The folder of quarantined messages, on which a hook failed or owners died: its place, and which files are removed from it.

It is a state folder, not the runtime folder, because the messages must survive a restart of the machine. All supervisors of a
user share the folder, with one subfolder for each run, so it has limits in bytes and in age.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from time import time
from typing import Final, NamedTuple

from wsadapter.control.instance import is_ours, runtime_folder

logger = logging.getLogger("wsadapter.supervisor")

INTERVAL: Final = 600.0
"""Seconds between two cleanings."""


class KeptFile(NamedTuple):
    """A file of the quarantine."""

    path: Path
    size: int
    """Bytes."""
    changed_at: float
    """Wall-clock seconds."""


def quarantine_folder(state_dir: str, runtime_dir: str) -> Path | None:
    """The best folder that only this user can write to; if no state folder can be used, one in the runtime folder. None: there
    is none."""
    state = next((folder for folder in _candidates(state_dir) if is_ours(folder)), None)
    folder = state or runtime_folder(runtime_dir)
    return folder / "quarantine" if folder is not None else None


def _candidates(state_dir: str) -> Iterator[Path]:
    """The candidates for the state folder, best first (XDG Base Directory Specification)."""
    if state_dir:
        yield Path(state_dir)
        return
    if given := os.environ.get("STATE_DIRECTORY"):  # systemd
        yield Path(given.split(":")[0])
    given = os.environ.get("XDG_STATE_HOME", "")
    if given.startswith("/"):  # the specification: a relative path is to be ignored
        yield Path(given) / "wsadapter"
    elif (home := os.environ.get("HOME", "")).startswith("/"):
        yield Path(home) / ".local" / "state" / "wsadapter"


def surplus(files: Iterable[KeptFile], *, now: float, most_bytes: int, most_age: float) -> list[KeptFile]:
    """The files to remove: those older than `most_age` seconds (0: no limit), and of the rest the oldest, until at most
    `most_bytes` are left."""
    removed: list[KeptFile] = []
    total = 0
    for file in sorted(files, key=lambda file: file.changed_at, reverse=True):
        total += file.size
        too_old = most_age and now - file.changed_at > most_age
        if too_old or total > most_bytes:
            removed.append(file)
    return removed


def remove_surplus(folder: Path, *, most_bytes: int, most_age: float) -> None:
    """Read the folder, and remove files that are too old or exceed the size. Files that can't be removed stay."""
    runs = [run for run in _entries(folder) if run.is_dir() and not run.is_symlink()]
    files = [kept for run in runs for kept in _files(run)]
    for file in surplus(files, now=time(), most_bytes=most_bytes, most_age=most_age):
        try:
            file.path.unlink(missing_ok=True)
        except OSError as error:
            logger.warning("quarantine: %s can't be removed: %s", file.path, error.strerror)
        else:
            logger.info("quarantine: %s is removed, it is too old or the quarantine too large", file.path)
    for run in runs:
        with suppress(OSError):  # something is in it
            run.rmdir()


@dataclass(frozen=True, slots=True)
class QuarantineFolder:
    """The folder of one supervisor's quarantine, and its limits."""

    state_dir: str
    """The state folder, as configured; "" is the default."""
    most_bytes: int
    """0: nothing is kept."""
    most_age: float
    """Seconds; 0: no limit."""

    def folder(self, runtime_dir: str, run: str) -> str:
        """The folder of a run; "" if nothing is kept."""
        folder = quarantine_folder(self.state_dir, runtime_dir) if self.most_bytes else None
        return str(folder / run) if folder is not None else ""

    def clean(self, runtime_dir: str) -> None:
        """Remove the surplus of all runs, in a thread, because a file system may hang."""
        if not self.most_bytes:
            return
        try:
            threading.Thread(target=self._clean, args=(runtime_dir,), name="wsadapter-quarantine", daemon=True).start()
        except RuntimeError as error:
            logger.warning("quarantine: no thread can be started to clean it: %s; next try in %g s", error, INTERVAL)

    def _clean(self, runtime_dir: str) -> None:
        folder = quarantine_folder(self.state_dir, runtime_dir)
        if folder is not None:
            remove_surplus(folder, most_bytes=self.most_bytes, most_age=self.most_age)


def _files(run: Path) -> Iterator[KeptFile]:
    for path in _entries(run):
        with suppress(OSError):  # it was removed meanwhile
            about = path.lstat()
            if path.suffix == ".jsonl":
                yield KeptFile(path, about.st_size, about.st_mtime)


def _entries(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:  # it is not there, or not ours
        return []
