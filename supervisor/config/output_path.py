"""The path of an output: `{endpoint}` and strftime fields (UTC) filled in. Pure, but for `series`."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from glob import escape, glob
from pathlib import Path
from typing import Final

ENDPOINT: Final = "{endpoint}"

_FIELDS: Final = "YmdHMSjyUuGV"
_PERCENT: Final = re.compile(r"%(.?)", re.DOTALL)
_BRACES: Final = re.compile(r"\{[^}]*\}?|\}")
_SECOND: Final = 1_000_000_000


def check_path(template: str) -> str:
    """The problem of the template, or ""."""
    if not template:
        return 'expected a path, or "-" for standard output'
    if "\0" in template:
        return "a path holds no NUL"
    if unknown := [field for field in _BRACES.findall(template) if field != ENDPOINT]:
        return f"only {ENDPOINT} is filled in, not {unknown[0]}"
    if unknown := [field for field in _PERCENT.findall(template) if not field or field not in _FIELDS + "%"]:
        return f"%{unknown[0]} is no date field here; there are {', '.join('%' + c for c in _FIELDS)}, and %% for a % sign"
    try:
        is_folder = template.endswith("/") or Path(template).is_dir()
    except OSError as error:  # a folder above it that this user may not enter, a name that is too long
        return f"can't be written: {error.strerror}"
    return "expected a file, this is a folder" if is_folder else ""


class PathTemplate:
    """Where an item's line goes. Not thread-safe."""

    def __init__(self, template: str) -> None:
        """Raises `ValueError` where `check_path` finds something."""
        if wrong := check_path(template):
            raise ValueError(f"{template!r}: {wrong}")
        self._template = template
        self.by_endpoint = ENDPOINT in template
        """Whether each endpoint has separate files."""
        self.by_time = any(field != "%" for field in _PERCENT.findall(template))
        """Whether the file changes with the time."""
        self._second = -1
        self.dated = "" if self.by_time else template.replace("%%", "%")
        """With the date of the last `fill` filled in, and the endpoint not."""

    def fill(self, endpoint: str, at: int) -> str:
        """The path for `endpoint` at `at` (wall-clock ns)."""
        if self.by_time and at // _SECOND != self._second:
            self._second = at // _SECOND
            moment = datetime.fromtimestamp(self._second, UTC)
            self.dated = _PERCENT.sub(lambda found: moment.strftime(found[0]), self._template)
        return self.dated.replace(ENDPOINT, endpoint) if self.by_endpoint else self.dated

    def series(self, endpoint: str) -> list[Path]:
        """The files there are of `endpoint`, of whatever time; the newest last."""
        parts = re.split(r"(%.)", self._template)
        pattern = "".join(_wildcard(part) if part.startswith("%") else escape(part) for part in parts)
        files = [Path(name) for name in glob(pattern.replace(escape(ENDPOINT), escape(endpoint)))]  # noqa: PTH207  it may be absolute
        return sorted(filter(Path.is_file, files), key=lambda file: (file.stat().st_mtime_ns, file.name))


def _wildcard(field: str) -> str:
    if field == "%%":
        return "%"
    digits = {"Y": 4, "G": 4, "j": 3, "u": 1}.get(field[1], 2)
    return "[0-9]" * digits
