"""Was an owner killed because memory ran out? Judged by the kernel's counter and the last measurement of the watchdog."""

from __future__ import annotations

from pathlib import Path

import pytest

from wsadapter.process.memory_witness import judged, oom_kills

MIB = 1 << 20


@pytest.mark.parametrize(
    ("exit_code", "kills", "resident", "allowed", "likely"),
    [
        (-9, 1, 0, 0, True), (-9, 0, 90 * MIB, 100 * MIB, True), (-9, 0, 80 * MIB, 100 * MIB, False),
        (-9, 0, 900 * MIB, 0, False),
        (-9, 0, 0, 0, False), (-11, 1, 90 * MIB, 100 * MIB, False), (1, 1, 0, 0, False), (None, 1, 0, 0, False),
    ],
)  # fmt: skip
def test_out_of_memory_is_likely(exit_code: int | None, kills: int, resident: int, allowed: int, likely: bool) -> None:
    said = judged(exit_code, kills=kills, resident=resident, allowed=allowed)
    assert said.startswith("out of memory is likely") is likely


def files(folder: Path, membership: str, group: str | None, machine: str | None) -> dict[str, Path]:
    (folder / "cgroup").write_text(membership)
    (folder / "groups" / "a" / "b").mkdir(parents=True)
    if group is not None:
        (folder / "groups" / "a" / "b" / "memory.events").write_text(group)
    if machine is not None:
        (folder / "vmstat").write_text(machine)
    return {"membership": folder / "cgroup", "cgroups": folder / "groups", "machine": folder / "vmstat"}


@pytest.mark.parametrize(
    ("membership", "group", "machine", "count"),
    [
        ("0::/a/b\n", "low 0\noom 5\noom_kill 3\n", "oom_kill 9\n", 3),
        ("0::/a/b\n", None, "nr_free_pages 1\noom_kill 9\n", 9),
        ("0::/\n", None, "oom_kill 9\n", 9),
        ("5:memory:/a/b\n", "oom_kill 3\n", "oom_kill 9\n", 9),
        ("", None, "oom_kill nine\n", 0),
        ("", None, None, 0),
    ],
)
def test_the_kernels_count_is_our_control_groups_else_the_machines(
    tmp_path: Path, membership: str, group: str | None, machine: str | None, count: int
) -> None:
    assert oom_kills(**files(tmp_path, membership, group, machine)) == count
