"""The example programs that attach: run, killed and started again."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from tests.support.feeds import DEADLINE
from tests.support.waiting import wait_until
from wsadapter import Journal, Message
from wsadapter.journal import positions
from wsadapter.testing import make_journal

EXAMPLES = Path(__file__).parents[2] / "ops" / "examples"
PRICES = [n % 17 for n in range(3000)]


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    messages = [f'{{"p":{price}}}' for price in PRICES]
    make_journal(tmp_path / "j", {"a": messages, "b": messages[:100]})
    return tmp_path / "j"


def started(program: str, *words: object) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, str(EXAMPLES / program), *map(str, words)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def killed(process: subprocess.Popen[bytes]) -> bytes:
    os.kill(process.pid, signal.SIGKILL)
    out, errors = process.communicate(timeout=DEADLINE)
    assert errors == b""
    return out


def committed(journal: Path, consumer: str) -> int:
    found = positions.look(positions.path_of(journal, consumer))
    return 0 if found is None else found[0].seq


def test_a_made_journal_holds_the_messages(journal: Path) -> None:
    found = [item for item in Journal(journal) if isinstance(item, Message)]
    assert [item.json()["p"] for item in found if item.endpoint == "a"] == PRICES
    assert [item.number for item in found if item.endpoint == "b"] == list(range(1, 101))


def test_the_strategy_says_live_what_it_says_in_the_backtest(journal: Path) -> None:
    backtest = started("strategy.py", "--backtest", journal)
    expected, errors = backtest.communicate(timeout=DEADLINE)
    assert (backtest.returncode, errors) == (0, b"")
    assert len(expected.splitlines()) > 1000
    live = started("strategy.py", journal)
    wait_until(lambda: committed(journal, "strategy") > 3100, DEADLINE)
    assert killed(live) == expected


def test_a_recorder_that_is_killed_misses_nothing(journal: Path, tmp_path: Path) -> None:
    file = tmp_path / "messages.txt"
    for wanted in (500, 1500, 3100):
        recorder = started("recorder.py", journal, file)
        wait_until(lambda wanted=wanted: committed(journal, "recorder") >= wanted, DEADLINE)  # type: ignore[misc]
        killed(recorder)
    lines = file.read_text("utf-8").splitlines()
    assert [f"a {n} " + f'{{"p":{PRICES[n - 1]}}}' for n in range(1, 3001)] == list(
        dict.fromkeys(line for line in lines if line.startswith("a "))
    )


def test_results_with_their_place_in_one_transaction_are_exactly_once(journal: Path, tmp_path: Path) -> None:
    path = tmp_path / "results.db"

    def done() -> int:
        try:
            with closing(sqlite3.connect(path)) as database:
                return sum(number for (number,) in database.execute("SELECT number FROM sums"))
        except sqlite3.Error:
            return 0

    for wanted in (300, 900, 1700, 3100):
        program = started("exactly_once.py", journal, path)
        wait_until(lambda wanted=wanted: done() >= wanted, DEADLINE)  # type: ignore[misc]
        killed(program)
    with closing(sqlite3.connect(path)) as database:
        found = database.execute("SELECT endpoint, total, number FROM sums ORDER BY 1").fetchall()
    assert found == [("a", float(sum(PRICES)), 3000), ("b", float(sum(PRICES[:100])), 100)]


def test_the_example_of_a_consumers_test_passes_and_notices_a_strategy_that_is_wrong(tmp_path: Path) -> None:
    for name in ("strategy.py", "test_strategy.py"):
        (tmp_path / name).write_text((EXAMPLES / name).read_text("utf-8"))

    def tested() -> subprocess.CompletedProcess[str]:
        words = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "test_strategy.py"]
        return subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=DEADLINE * 4, check=False)

    right = tested()
    assert (right.returncode, right.stdout.splitlines()[-1].split(" in ")[0]) == (0, "3 passed"), right.stdout + right.stderr
    text = (tmp_path / "strategy.py").read_text("utf-8")
    (tmp_path / "strategy.py").write_text(text.replace("prices.pop(name, None)", "pass"))
    wrong = tested()
    assert wrong.returncode == 1
    assert "1 failed, 2 passed" in wrong.stdout
