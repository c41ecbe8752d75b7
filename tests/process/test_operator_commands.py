"""Commands that change a running supervisor, as an operator gives them."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.support.command_line import Running, environment, write_config, wsadapter
from tests.support.waiting import wait_until
from wsadapter.testing import Exchange

TICKS = [f'{{"n":{n}}}' for n in range(20)]


def states(folder: Path) -> dict[str, str]:
    status = json.loads(wsadapter(folder, "status", "--json").stdout)
    return {name: endpoint["state"] for name, endpoint in status["endpoints"].items()}


def up(running: Running, *names: str) -> None:
    running.wait_until(lambda: {event["endpoint"] for event in running.events("up")} >= set(names))


def said(folder: Path, *words: str) -> Any:
    """The JSON that a command prints."""
    ended = wsadapter(folder, *words, "--json")
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout)


def test_one_endpoint_is_stopped_and_started_and_the_others_do_not_notice(tmp_path: Path) -> None:
    with (
        Exchange(messages=TICKS) as ex,
        Running(tmp_path, str(write_config(tmp_path / "f.toml", {"a": ex.url, "b": ex.url}))) as running,
    ):
        up(running, "a", "b")
        assert said(tmp_path, "stop", "a") == {"endpoint": "a"}
        assert states(tmp_path) == {"a": "stopped", "b": "up"}
        refused = wsadapter(tmp_path, "stop", "b")
        assert refused.returncode == 1
        assert "stop the supervisor instead" in refused.stderr
        assert said(tmp_path, "start", "a") == {"endpoint": "a", "started": ["a"]}
        assert states(tmp_path) == {"a": "up", "b": "up"}
        assert wsadapter(tmp_path, "start", "a").stdout == "a was not stopped: nothing to do\n"
        assert [event["endpoint"] for event in running.events("down")] == ["a"]
        assert running.stop() == 0


def test_a_wrong_name_is_answered_with_the_nearest(tmp_path: Path) -> None:
    with (
        Exchange(messages=TICKS) as ex,
        Running(tmp_path, str(write_config(tmp_path / "f.toml", {"binance": ex.url}))) as running,
    ):
        up(running, "binance")
        for words in (["tail"], ["start"], ["stop"], ["restart"], ["send", "x"], ["subscribe", "x"], ["unsubscribe", "x"]):
            ended = wsadapter(tmp_path, words[0], "binanse", *words[1:])
            assert ended.returncode == 1, words
            assert "no endpoint named 'binanse'; known: binance; did you mean 'binance'?" in ended.stderr
        assert running.stop() == 0
    for words in (["tail", "a"], ["reload"], ["start", "a"]):
        assert wsadapter(tmp_path, *words).returncode == 3


def test_tail_shows_lines_of_the_output_and_costs_the_consumer_nothing(tmp_path: Path) -> None:
    with (
        Exchange(messages=TICKS, rate=200, loop=True) as ex,
        Running(tmp_path, str(write_config(tmp_path / "f.toml", {"a": ex.url}))) as running,
    ):
        up(running, "a")
        ended = wsadapter(tmp_path, "tail", "a", "--count", "30", "--limit", "10", "--interval", "0.2")
        assert ended.returncode == 0
        lines = [json.loads(line) for line in ended.stdout.splitlines()]
        assert len(lines) == 30
        assert "more items are not shown" in ended.stderr
        numbers = [line["number"] for line in lines]
        assert numbers == sorted(set(numbers))
        running.wait_until(lambda: running.output[-1].get("number", 0) > numbers[-1])
        shown = {line["number"]: line for line in running.output if "number" in line}
        assert all(shown[line["number"]] == line for line in lines)
        assert sorted(shown) == list(range(1, len(shown) + 1))  # the consumer missed nothing
        assert running.stop() == 0


def test_tail_survives_a_restart_of_the_supervisor(tmp_path: Path) -> None:
    with Exchange(messages=TICKS, rate=50, loop=True) as ex:
        config = str(write_config(tmp_path / "f.toml", {"a": ex.url}))
        with Running(tmp_path, config) as first:
            up(first, "a")
            tail = subprocess.Popen(
                [sys.executable, "-m", "wsadapter", "tail", "a", "--interval", "0.1"],
                env=environment(tmp_path), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            )  # fmt: skip
            assert tail.stdout is not None
            run = json.loads(first.output[0]["run"].join('""'))
            assert json.loads(tail.stdout.readline())["endpoint"] == "a"
            assert first.stop() == 0
        with Running(tmp_path, config) as second:
            up(second, "a")
            assert second.output[0]["run"] != run
            begun = False
            for line in tail.stdout:
                begun = begun or json.loads(line).get("event") == "up" or json.loads(line).get("number") == 5
                if begun:
                    break
            tail.send_signal(signal.SIGINT)
            _, noted = tail.communicate(timeout=20)
            assert tail.returncode == 0
            assert "waiting for it" in noted
            assert "another run of the supervisor continues" in noted
            assert second.stop() == 0


def test_a_message_is_sent_as_text_and_from_standard_input_as_binary(tmp_path: Path) -> None:
    with Exchange(messages=TICKS) as ex, Running(tmp_path, str(write_config(tmp_path / "f.toml", {"a": ex.url}))) as running:
        up(running, "a")
        assert said(tmp_path, "send", "a", '{"op":"ping"}') == {"endpoint": "a", "bytes": 13}
        sent = subprocess.run(
            [sys.executable, "-m", "wsadapter", "send", "a", "-", "--binary"],
            env=environment(tmp_path), input=b"\x00\xff", capture_output=True, timeout=20, check=False,
        )  # fmt: skip
        assert sent.returncode == 0
        wait_until(lambda: len(ex.received) == 2, 10)
        assert [message.payload for message in ex.received] == [b'{"op":"ping"}', b"\x00\xff"]
        assert wsadapter(tmp_path, "send", "a", "x" * 60000).returncode == 2
        empty = subprocess.run(
            [sys.executable, "-m", "wsadapter", "send", "a", "-"],
            env=environment(tmp_path), stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert (empty.returncode, empty.stdout) == (2, "")
        assert "standard input is empty, and nothing was sent" in empty.stderr
        assert running.stop() == 0


def test_streams_are_subscribed_and_unsubscribed_on_the_running_connection(tmp_path: Path) -> None:
    config = tmp_path / "f.toml"
    with Exchange(dialect="binance", messages=TICKS) as ex:
        config.write_text(f'[endpoints.a]\nurl = "{ex.url}"\ndialect = "binance"\nsubscribe = ["btcusdt@trade"]\n')
        with Running(tmp_path, str(config)) as running:
            running.wait_until(lambda: len(running.events("subscribed")) == 1)
            assert said(tmp_path, "subscribe", "a", "ethusdt@trade", "xrpusdt@trade") == {"endpoint": "a", "streams": 2}
            running.wait_until(lambda: len(running.events("subscribed")) == 3)
            assert said(tmp_path, "unsubscribe", "a", "btcusdt@trade") == {"endpoint": "a", "streams": 1}
            status = json.loads(wsadapter(tmp_path, "status", "--json").stdout)["endpoints"]["a"]
            assert status["subscriptions"]["wanted"] == 2
            assert status["epoch"] == 1
            wrong = wsadapter(tmp_path, "subscribe", "a", '{"channel":"x"}')
            assert wrong.returncode == 1
            assert "endpoints.a.subscribe[0]" in wrong.stderr
            assert wsadapter(tmp_path, "subscribe", "a", "{nonsense").returncode == 2
            assert running.stop() == 0


def test_reload_prints_what_changed_or_every_problem(tmp_path: Path) -> None:
    with Exchange(messages=TICKS) as ex:
        config = write_config(tmp_path / "f.toml", {"a": ex.url})
        with Running(tmp_path, str(config)) as running:
            up(running, "a")
            assert "nothing changed" in wsadapter(tmp_path, "reload").stdout
            write_config(config, {"a": ex.url, "b": ex.url})
            assert said(tmp_path, "reload")["changes"]["added"] == ["b"]
            up(running, "b")
            config.write_text(config.read_text("utf-8") + 'nonsense = 1\nurll = "x"\n')
            refused = wsadapter(tmp_path, "reload")
            assert refused.returncode == 1
            assert refused.stderr.count("unknown key") == 2
            assert states(tmp_path) == {"a": "up", "b": "up"}
            assert running.stop() == 0
