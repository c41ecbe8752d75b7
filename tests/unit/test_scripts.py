"""The shell scripts of ops/, where descriptors 0 to 2 are closed, as some service managers and shells leave them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from itertools import combinations
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SHELLS = [shell for shell in ("dash", "bash", "sh") if shutil.which(shell)]
CLOSED = [closed for count in range(4) for closed in combinations((0, 1, 2), count)]


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("closed", CLOSED, ids=str)
def test_a_script_has_descriptors_0_to_2_whatever_its_caller_has_closed(
    shell: str, closed: tuple[int, ...], tmp_path: Path
) -> None:
    found = tmp_path / "found"
    look = "import os; os.write(3, ' '.join(os.readlink(f'/proc/self/fd/{fd}') for fd in (0, 1, 2)).encode())"
    script = f". '{ROOT}/ops/python.sh'; exec 3>'{found}'; exec '{sys.executable}' -I -S -c \"{look}\""

    def close() -> None:
        for fd in closed:
            os.close(fd)

    with open(tmp_path / "open", "w+b") as place:
        process = subprocess.run([shell, "-c", script], preexec_fn=close, stdin=place, stdout=place, stderr=place, check=False)
    assert process.returncode == 0
    inherited = str(tmp_path / "open")
    assert found.read_text("utf-8").split() == ["/dev/null" if fd in closed else inherited for fd in (0, 1, 2)]
