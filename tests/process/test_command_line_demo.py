"""The demonstrations end by themselves, leave nothing behind, and what they show is true."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from pathlib import Path

from tests.support.command_line import environment, supervise
from wsadapter.cli.demo import FEEDS

DEMO = Path(__file__).parents[2] / "ops" / "demo.py"


def test_the_runners_demonstration_needs_no_file_and_no_network(tmp_path: Path) -> None:
    ended = supervise(tmp_path, "--demo", "--duration", "6")
    assert ended.returncode == 0, ended.stderr
    assert re.search(r"status page: http://127\.0\.0\.1:\d+/", ended.stderr)
    lines = [json.loads(line) for line in ended.stdout.splitlines()]
    assert {line["endpoint"] for line in lines if "number" in line} == set(FEEDS)
    for feed in FEEDS:
        numbers = [line["number"] for line in lines if "number" in line and line["endpoint"] == feed]
        assert numbers == list(range(1, len(numbers) + 1))


def test_what_breaks_in_the_demonstration_comes_back_and_no_number_is_missing(tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, str(DEMO), "--duration", "17"],
        env={**environment(tmp_path), "TERM": "dumb"}, capture_output=True, text=True, timeout=80, check=False,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "no number is missing" in ended.stdout
    assert ended.stdout.count(">>>") >= 3
    assert "the supervisor was killed once" in ended.stdout
    assert "attached to the journal was killed once: 0 numbers missing" in ended.stdout
    assert re.search(r"in a browser: http://127\.0\.0\.1:\d+/", ended.stdout)
    assert "\x1b" not in ended.stdout


def test_ctrl_c_ends_the_demonstration_with_its_summary(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, str(DEMO)], env=environment(tmp_path), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as demo:
        assert demo.stdout is not None
        said = []
        for line in demo.stdout:
            said.append(line)
            if ">>>" in line and not any("MISSING" in earlier for earlier in said):
                demo.send_signal(signal.SIGINT)
        assert demo.wait(60) == 0, "".join(said)
    assert any("MISSING NUMBERS" in line for line in said)


def test_in_the_demonstration_of_a_cluster_a_host_is_killed_and_the_others_go_on(tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, str(DEMO.with_name("demo_cluster.py")), "--calm", "1"],
        env=environment(tmp_path), capture_output=True, text=True, timeout=80, check=False,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "one stream for each endpoint, no hole, nothing twice" in ended.stdout
    assert re.search(r">>> kill -9 of host [abc]", ended.stdout)
