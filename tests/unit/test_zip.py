"""The package inside a zip archive, as zipimport reads it."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import wsadapter
from wsadapter.config.dialect import bundled

PROGRAM = """
import wsadapter
from wsadapter.config.dialect import bundled, load_dialect
print(wsadapter.__file__)
print(" ".join(bundled()))
print(load_dialect("binance")["dialect"]["name"])
"""


@pytest.mark.slow
def test_the_dialects_of_a_package_in_an_archive_are_found_and_read(tmp_path: Path) -> None:
    archive = tmp_path / "app.zip"
    package = Path(wsadapter.__file__).parent
    with zipfile.ZipFile(archive, "w") as writing:
        for file in package.rglob("*"):
            if file.suffix in (".py", ".toml"):
                writing.write(file, file.relative_to(package.parent))
    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM], env={**os.environ, "PYTHONPATH": str(archive)}, cwd=tmp_path,
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert ran.stderr == ""
    assert ran.stdout.splitlines() == [f"{archive}/wsadapter/__init__.py", " ".join(bundled()), "binance"]
