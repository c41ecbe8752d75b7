"""The exchange as a process, commanded by lines; and as pytest fixtures."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.support.rawclient import Frame, RawClient
from wsadapter.testing import Exchange, load_recording
from wsadapter.testing.commands import COMMANDS, CommandError, help_text, run_command


class Served:
    """A running `python -m wsadapter.testing serve`."""

    def __init__(self, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "wsadapter.testing", "serve", *arguments],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.ready = self.line()

    def line(self) -> dict[str, Any]:
        assert self.process.stdout
        text = self.process.stdout.readline()
        assert text, self.process.communicate(timeout=5)
        return json.loads(text)

    def command(self, text: str) -> dict[str, Any]:
        assert self.process.stdin
        self.process.stdin.write(text + "\n")
        self.process.stdin.flush()
        return self.line()

    def end(self) -> int:
        self.process.communicate(timeout=5)
        return self.process.returncode


@pytest.fixture
def serve() -> Iterator[Callable[..., Served]]:
    with ExitStack() as stack:

        def make(*arguments: str) -> Served:
            served = Served(*arguments)
            stack.callback(served.process.communicate, timeout=5)
            stack.callback(served.process.terminate)
            return served

        yield make


def test_it_serves_a_recording_over_tls_and_obeys(serve: Any, tmp_path: Path) -> None:
    ca_file = tmp_path / "ca.pem"
    served = serve("--tls", "--replay", "htx", "--rate", "max", "--ca-file", str(ca_file), "--welcome", "hello")
    assert served.ready["ca_file"] == str(ca_file)
    with RawClient(served.ready["url"], str(ca_file)) as client:
        assert client.frame() == Frame(1, b"hello")
        assert [frame.payload for frame in client.frames(68)] == load_recording("htx").payloads
        assert served.command('send {"a": "b  c"}')["ok"]
        assert client.frame() == Frame(1, b'{"a": "b  c"}')
        assert served.command('close 4000 "good bye"') == {"command": 'close 4000 "good bye"', "ok": True}
        assert client.frame() == Frame(8, b"\x0f\xa0good bye")
    assert served.command("refuse 503 1")["ok"]
    with RawClient(served.ready["url"], str(ca_file), shake_hands=False) as client:
        assert client.read_head().startswith("HTTP/1.1 503")
    assert served.command("status")["result"]["exchange"]["accepted"] == 2
    answer = served.command("explode")
    assert (answer["ok"], "known: help, quit, send" in answer["error"]) == (False, True)
    served.process.stdin.write("quit\n")
    assert served.end() == 0


def test_several_exchanges_in_one_process_are_addressed_by_name(serve: Any) -> None:
    served = serve("--tls", "--feed", "one=htx", "--feed", "two=bybit", "--rate", "1")
    urls, ca_file = served.ready["exchanges"], served.ready["ca_file"]
    with RawClient(urls["one"], ca_file) as one, RawClient(urls["two"], ca_file) as two:
        assert (one.frame().opcode, two.frame().opcode) == (2, 1)
        assert served.command("one close 1001")["ok"]
        assert one.frame() == Frame(8, b"\x03\xe9")
        assert served.command("ping")["ok"]
        while two.frame() != Frame(9, b""):
            pass
    assert served.command("two stop")["ok"]
    with pytest.raises(ConnectionRefusedError):
        RawClient(urls["two"], ca_file)
    assert served.command("two drop") == {
        "command": "two drop",
        "ok": False,
        "error": "the exchange does not run; use `with Exchange(...) as ex:`",
    }
    assert served.command("two start")["ok"]
    RawClient(urls["two"], ca_file).close()


def test_processes_share_an_authority_by_folder(serve: Any, tmp_path: Path) -> None:
    ready = [serve("--tls", "--ca-dir", str(tmp_path)).ready for _ in range(2)]
    for line in ready:
        assert line["ca_file"] == str(tmp_path / "ca.pem")
        RawClient(line["url"], line["ca_file"]).close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_and_the_end_of_input_does_not(serve: Any, number: signal.Signals) -> None:
    served = serve()
    served.process.stdin.close()
    RawClient(served.ready["url"]).close()
    served.process.stdin = None
    served.process.send_signal(number)
    assert served.end() == 0


def test_the_end_of_input_ends_it_where_that_is_wanted(serve: Any) -> None:
    assert serve("--until-eof").end() == 0


@pytest.mark.parametrize(
    ("arguments", "text"),
    [(["--replay", "nyse"], "no recording 'nyse'"), (["--rate", "fast"], "neither real"), (["--feed", "x"], "NAME=RECORDING")],
)
def test_wrong_arguments_are_named_and_give_2(arguments: list[str], text: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "wsadapter.testing", "serve", *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert text in done.stderr
    assert "Traceback" not in done.stderr


def test_every_command_is_in_the_help() -> None:
    for command in COMMANDS.values():
        assert command.usage in help_text()


COMMAND_LINES = [
    "send x", "send_hex 00ff", "raw 8300", "ping", "ping 1", "flood 10 0.01", "pause", "resume", "mute", "mute_mid_frame",
    "unmute 1", "close 1001 bye", "refuse 503 2 busy", "refuse off", "redirect ws://x/", "redirect off", "slow 9000",
    "slow off",
    "half_handshake tls", "half_handshake off", "accept_and_drop", "ignore_pings off", "wrong_accept on", "missing_upgrade off",
    "huge_headers", "http10", "status", "reset", "stop", "start", "drop", 'reject {"channel":"books"}', "ignore a b",
    "silence a", "heed a b", 'gap {"channel":"books"}', "notice", "refuse_login wrong key", "refuse_login off",
    "require_login on", "reject_frame a b", "revoke a b", "refuse_later 2", "refuse_repeats on", "answer_after 0.1",
    "answer_times 2", "answer_reversed 2", "answer_with_data off", "data_first 1", "pad_answers 9", "refuse_welcome no",
    "refuse_welcome off", "stray_answers 1", "hang_up a b",
]  # fmt: skip


def test_every_command_runs_as_a_line() -> None:
    assert {line.split()[0] for line in COMMAND_LINES} == set(COMMANDS)
    with Exchange(dialect="okx") as ex, RawClient(ex.url):
        for line in COMMAND_LINES:
            run_command(ex, line)


@pytest.mark.parametrize(
    "line",
    [
        "", "close x", "drop 1 2", "reject {", "ignore", "mute x", "raw xyz", "http10 maybe", "half_handshake x",
        'close 1000 "x', "slow", "answer_after", "answer_after x", "refuse_later 1.5",
    ],
)  # fmt: skip
def test_a_line_that_is_wrong_says_how_it_would_be_right(line: str) -> None:
    with Exchange() as ex, pytest.raises(CommandError, match=r"usage: |known: |quotation"):
        run_command(ex, line)


def test_the_fixtures_work_in_a_project_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text('pytest_plugins = ["wsadapter.testing.fixtures"]\n')
    (tmp_path / "test_it.py").write_text(
        "from wsadapter.contract.items import Message\n"
        "def test_both(exchange, fake_feed):\n"
        "    one, two = exchange(messages=['x']), exchange(tls=True)\n"
        "    assert one.port != two.port\n"
        "    assert [m.data for m in fake_feed([Message('a', b'1', 1, 1, 0)])] == [b'1']\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "1 passed" in done.stdout, done.stdout + done.stderr


def test_an_exchange_of_a_dialect_as_a_process(serve: Any) -> None:
    served = serve("--feed", "a=binance@binance", "--feed", "b=okx", "--dialect", "okx", "--rate", "500", "--tls")
    ca_file = served.ready["ca_file"]
    with RawClient(served.ready["exchanges"]["a"], ca_file) as a, RawClient(served.ready["exchanges"]["b"], ca_file) as b:
        assert served.command("a reject nope@trade")["ok"]
        a.send(1, b'{"method":"SUBSCRIBE","params":["nope@trade"],"id":1}')
        assert json.loads(a.frame().payload) == {"code": 1, "msg": "no such stream", "id": 1}
        a.send(1, b'{"method":"SUBSCRIBE","params":["zilusdt@bookTicker"],"id":2}')
        assert json.loads(a.frame().payload)["id"] == 2
        assert json.loads(a.frame().payload)["stream"] == "zilusdt@bookTicker"
        stream = '{"channel":"trades","instId":"ZEN-USDT"}'
        assert served.command(f"b silence {stream}")["ok"]
        b.send(1, b'{"op":"subscribe","args":[%s]}' % stream.encode())
        assert json.loads(b.frame().payload) == {"event": "subscribe", "arg": json.loads(stream)}
        assert served.command("b notice")["ok"]
        assert json.loads(b.frame().payload)["code"] == "64008"
        b.send(1, b"what?")
        b.send(1, b"ping")
        assert b.frame() == Frame(1, b"pong")
        status = served.command("b status")["result"]["b"]
        assert status["heartbeats"] == {"1": {"heartbeat": 1, "answer": 0, "pong": 0}}
        assert status["violations"] == ["#1: a frame that the dialect does not know: what?"]


def test_a_dialect_that_does_not_exist_is_told() -> None:
    words = [sys.executable, "-m", "wsadapter.testing", "serve", "--dialect", "binanc"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode == 2
    assert 'did you mean "binance"?' in done.stderr
