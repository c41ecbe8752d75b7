"""Branch coverage of the unit tests, and whether a room has fallen below its floor: `python -m tests.tools.coverage`.

Runs tests/unit with a tracer, in two processes, and compares the branches and lines that were reached with the floors in
coverage.toml beside this file. A floor only rises: if a room has more, write the higher number there. Exit code 1 if a room
has fallen below its floor, or a test has failed. Arguments are passed to pytest; with `--measured FILE` no test runs, and a
data file of an earlier run is judged.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
EVERYTHING = "everything"


class Reached(NamedTuple):
    """Of one file, or of several."""

    lines: int = 0
    lines_reached: int = 0
    branches: int = 0
    branches_reached: int = 0

    @property
    def percent(self) -> float:
        """Lines and branches that were reached, of all."""
        every = self.lines + self.branches
        return 100.0 if not every else 100.0 * (self.lines_reached + self.branches_reached) / every


def together(files: Iterable[Reached]) -> Reached:
    """The sum."""
    return Reached(*map(sum, zip(*files, strict=True)))


def is_in(path: str, room: str) -> bool:
    """Whether a file belongs to a room."""
    return room in (EVERYTHING, path) or path.startswith(f"{room}/")


def rooms_of(files: Mapping[str, Reached], floors: Mapping[str, float]) -> dict[str, Reached]:
    """What was reached in each room that has a floor: a file, a folder, or everything. A room without a file is left out."""
    found = {}
    for room in floors:
        mine = [reached for path, reached in files.items() if is_in(path, room)]
        if mine:
            found[room] = together(mine)
    return found


def judged(files: Mapping[str, Reached], floors: Mapping[str, float]) -> list[str]:
    """What is wrong, as lines for a person: a room below its floor, with its files; a floor of a room that does not exist."""
    rooms = rooms_of(files, floors)
    wrong = [f"coverage.toml names {room}, which does not exist: remove the line" for room in floors if room not in rooms]
    for room, reached in rooms.items():
        if reached.percent < floors[room]:
            wrong.append(f"{room}: {reached.percent:.2f} % of its lines and branches are reached; the floor is {floors[room]}")
            if room != EVERYTHING:
                gaps = sorted((other.percent, path) for path, other in files.items() if is_in(path, room))
                wrong += [f"    {percent:6.2f} %  {path}" for percent, path in gaps if percent < floors[room]]
    return wrong


def in_repository(path: str) -> str:
    """The file of the repository that an installed file was made of."""
    _, _, inner = path.partition("/wsadapter/")
    return inner if inner.startswith("worker/") else f"supervisor/{inner}"


def measured(data_file: Path) -> dict[str, Reached]:
    """What a data file of coverage.py says, by the path in the repository."""
    import coverage  # of the environment of the tests, not of the package

    found = coverage.Coverage(data_file=data_file, config_file=str(ROOT / "pyproject.toml"))
    found.load()
    files = {}
    for path in found.get_data().measured_files():
        _, statements, _, missing, _ = found.analysis2(path)
        exits = found.branch_stats(path).values()
        branches, taken = sum(every for every, _ in exits), sum(one for _, one in exits)
        files[in_repository(path)] = Reached(len(statements), len(statements) - len(missing), branches, taken)
    return files


def run_tests(data_file: Path, arguments: list[str]) -> int:
    """The unit tests, with a tracer; pytest's exit code."""
    options = ["--cov", f"--cov-config={ROOT / 'pyproject.toml'}", "--cov-report="]
    command = [sys.executable, "-m", "pytest", "-n", "2", "tests/unit", *options, *arguments]
    return subprocess.run(command, cwd=ROOT, env={**os.environ, "COVERAGE_FILE": str(data_file)}, check=False).returncode


def main(arguments: list[str]) -> int:
    """Print each room with its floor, then what is wrong."""
    floors = tomllib.loads(Path(__file__).with_suffix(".toml").read_text())["floors"]
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        data_file = Path(folder) / "coverage"
        if arguments[:1] == ["--measured"]:
            data_file = Path(arguments[1])
        else:
            failed = run_tests(data_file, arguments)
        files = measured(data_file)
    for room, reached in rooms_of(files, floors).items():
        rises = f" (write {int(reached.percent * 10) / 10} there)" if reached.percent >= floors[room] + 0.1 else ""
        print(f"{reached.percent:7.2f} %  floor {floors[room]:5.1f} %  {room}{rises}")
    wrong = judged(files, floors)
    print("\n".join(wrong), file=sys.stderr)
    return 1 if wrong or failed else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
