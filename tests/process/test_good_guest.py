"""Rule 11: the library changes nothing for the program that uses it, and works wherever Python code runs."""

from __future__ import annotations

import itertools
import json
import os
import pty
import random
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.feeds import DEADLINE
from wsadapter.testing import Exchange

pytestmark = pytest.mark.version

SCRIPTS = Path(__file__).parents[1] / "support" / "scripts"

PROGRAM = """
from wsadapter import Endpoint, Message, Supervisor
with Supervisor([Endpoint("a", url={url!r})], start_method={method!r}) as feed:
    for item in feed:
        if isinstance(item, Message):
            print(item.number, item.text)
            if item.number == 3:
                break
"""
ASYNC_PROGRAM = """
import asyncio
from wsadapter import Endpoint, Message, Supervisor
async def serve():
    async with Supervisor([Endpoint("a", url={url!r})], start_method={method!r}) as feed:
        async for item in feed:
            if isinstance(item, Message):
                print(item.number, item.text)
                if item.number == 3:
                    break
async def main():
    asyncio.get_running_loop().slow_callback_duration = 60  # a busy machine is no fault of the program's
    beside = asyncio.create_task(asyncio.sleep(3600))
    await asyncio.create_task(serve())
    beside.cancel()
asyncio.run(main(), debug=True)
"""
EXPECTED = "1 0\n2 1\n3 2\n"


@pytest.fixture
def exchange() -> Iterator[Exchange]:
    with Exchange(messages=lambda: map(str, itertools.count()), rate=2000) as ex:
        yield ex


def run(*arguments: str, given: str = "") -> str:
    """Standard output of a fresh interpreter, whose standard error must be empty."""
    done = subprocess.run(
        [sys.executable, *arguments], input=given, capture_output=True, text=True, timeout=40, check=False, cwd=SCRIPTS
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    return done.stdout


def said(*arguments: str) -> Any:
    """The JSON a fresh interpreter prints; its standard error may hold log records, for want of a handler."""
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, timeout=40, check=False)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr, done.stderr
    return json.loads(done.stdout)


def test_row_71_a_script_without_a_guard_is_imported_by_no_owner(exchange: Exchange, start_method: str, tmp_path: Path) -> None:
    notes = tmp_path / "imports"
    assert run(str(SCRIPTS / "without_a_guard.py"), exchange.url, str(notes), start_method) == EXPECTED
    assert len(notes.read_text("utf-8").splitlines()) == 1


@pytest.mark.parametrize("program", [PROGRAM, ASYNC_PROGRAM], ids=["blocking", "asyncio"])
def test_row_71_python_c(exchange: Exchange, start_method: str, program: str) -> None:
    assert run("-c", program.format(url=exchange.url, method=start_method)) == EXPECTED


@pytest.mark.parametrize("program", [PROGRAM, ASYNC_PROGRAM], ids=["blocking", "asyncio"])
def test_row_71_a_program_on_standard_input(exchange: Exchange, start_method: str, program: str) -> None:
    assert run("-", given=program.format(url=exchange.url, method=start_method)) == EXPECTED


@pytest.mark.parametrize("method", ["forkserver", "spawn", "fork"])
def test_a_program_with_its_own_processes_and_handlers_is_not_disturbed(exchange: Exchange, method: str) -> None:
    found = said(str(SCRIPTS / "own_processes.py"), exchange.url, method)
    assert found["results"] == [[4], [9], [16]]
    assert found["unchanged"]
    assert found["start_method"] == method
    assert found["numbers"]


@pytest.mark.parametrize("way", ["os", "multiprocessing"])
def test_row_72_a_fork_of_the_program_holds_nothing_and_does_no_harm(exchange: Exchange, start_method: str, way: str) -> None:
    found = said(str(SCRIPTS / "forking.py"), exchange.url, start_method, way)
    assert found["told"] == [True] * 7
    assert found["status"] == 0
    assert (found["epoch"], found["gaps"], found["whole"]) == (1, 0, True), "the parent goes on unharmed"
    assert "anon_inode" not in found["held"]
    assert "socket" not in found["held"]


def test_row_42_the_program_reaps_every_child(exchange: Exchange, start_method: str) -> None:
    found = said(str(SCRIPTS / "reaping.py"), exchange.url, start_method)
    assert found["epochs"] == [1, 2, 3, 4, 5]
    assert found["kinds"][-1] == "stopped"
    assert set(found["kinds"][:-1]) <= {"crashed"}


# -- Ctrl-C --------------------------------------------------------------------------------------------------------------


@contextmanager
def interrupted(url: str, count: int) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, str(SCRIPTS / "interrupted.py"), url, str(count)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, start_new_session=True) as process:
        try:
            yield process
        finally:
            process.kill()


def await_line(process: subprocess.Popen[str], wanted: str) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        if line == wanted:
            return
    assert process.stderr is not None
    raise AssertionError(process.stderr.read())


@pytest.mark.parametrize(("count", "rate"), [(200, 20_000), (200, 100_000)])
def test_interrupts_at_any_moment_cost_the_consumer_nothing(count: int, rate: int) -> None:
    """To the whole process group, as Ctrl-C in a terminal; the owners live on. A thread of the program's own runs beside."""
    dice = random.Random(count + rate)
    with Exchange(messages=lambda: map(str, itertools.count()), rate=rate) as ex, interrupted(ex.url, count) as process:
        await_line(process, "caught 0\n")
        for n in range(1, count + 1):
            time.sleep(dice.random() * 0.01)  # the moment is what is varied here
            os.killpg(process.pid, signal.SIGINT)
            await_line(process, f"caught {n}\n")
        out, errors = process.communicate(timeout=30)
        assert errors == ""
        found = json.loads(out)
    assert found["epoch"] == 1
    assert found["losses"] == []
    assert found["contiguous"]
    assert found["payloads"]


class Terminal:
    """An interactive interpreter at the other end of a pseudo terminal."""

    def __init__(self) -> None:
        self._pid, self._fd = pty.fork()
        if self._pid == 0:
            os.environ.update(TERM="dumb", PYTHON_BASIC_REPL="1")
            os.execv(sys.executable, [sys.executable, "-q"])
        self._seen = ""

    def type(self, text: str) -> None:
        os.write(self._fd, text.encode())

    def read_until(self, pattern: str) -> re.Match[str]:
        """What comes up to this; it is not seen again."""
        deadline = time.monotonic() + DEADLINE
        while (found := re.search(pattern, self._seen)) is None:
            ready, _, _ = select.select([self._fd], [], [], max(0.0, deadline - time.monotonic()))
            assert ready, f"no {pattern!r} in {self._seen!r}"
            self._seen += os.read(self._fd, 65536).decode(errors="replace")
        self._seen = self._seen[found.end() :]
        return found

    def close(self) -> int:
        """The exit code."""
        code = os.waitstatus_to_exitcode(os.waitpid(self._pid, 0)[1])
        os.close(self._fd)
        return code


def test_row_71_a_repl_goes_on_after_ctrl_c(exchange: Exchange) -> None:
    repl = Terminal()
    repl.read_until(">>> ")
    repl.type("from wsadapter import *; seen = []\n")
    repl.read_until(">>> ")
    repl.type(f"feed = Supervisor([Endpoint('a', url={exchange.url!r})])\n")
    repl.read_until(">>> ")
    for _ in range(3):
        repl.type("for item in feed: seen.append(item); len(seen) % 500 or print('at', len(seen))\n\n")
        repl.read_until(r"at \d+\r?\n")
        repl.type("\x03")
        repl.read_until(r"KeyboardInterrupt[\s\S]*>>> ")
    repl.type("n = [i.number for i in seen if isinstance(i, Message)]; n == list(range(1, len(n) + 1)), len(n) > 1000\n")
    assert repl.read_until(r"\((True|False), (True|False)\)").groups() == ("True", "True")
    repl.type("feed.status()['endpoints']['a']['epoch'], feed.stop(), 'was stopped'\n")
    repl.read_until(r"\(1, None, 'was stopped'\)")
    repl.type("exit()\n")
    assert repl.close() == 0
