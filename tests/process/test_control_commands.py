"""The control socket, and `python -m wsadapter status | restart | stop` through it."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
from pathlib import Path

import pytest

from tests.support.command_line import Running, write_config, wsadapter
from tests.support.waiting import wait_until
from wsadapter.testing import Exchange

TICKS = ['{"n":1}', '{"n":2}']
OF_AN_ENDPOINT = {
    "state", "pid", "epoch", "uptime", "messages", "bytes", "restarts", "gaps", "dropped", "silence", "rtt", "memory",
    "buffered", "last_exit",
}  # fmt: skip
COMMANDS = [
    "insert", "journal", "log", "rebalance", "reload", "request", "restart", "restart_sink", "resubscribe", "sample", "send",
    "start_endpoint", "status", "stop", "stop_endpoint", "subscribe", "takeover", "unsubscribe", "watch",
]  # fmt: skip
OF_THE_SUPERVISOR = {"name", "pid", "version", "uptime", "endpoints", "spares", "capabilities"}


def up(running: Running, *names: str) -> None:
    running.wait_until(lambda: {event["endpoint"] for event in running.events("up")} >= set(names))


def connected(folder: Path, name: str) -> socket.socket:
    client = socket.socket(socket.AF_UNIX)
    client.connect(str(folder / "wsadapter" / f"{name}.sock"))  # without a timeout: with one, a full backlog is an error
    client.settimeout(10)
    return client


def asked(client: socket.socket, line: bytes) -> dict[str, object]:
    client.sendall(line + b"\n")
    answer: dict[str, object] = json.loads(received(client, until=b"\n"))
    return answer


def received(client: socket.socket, until: bytes = b"") -> bytes:
    """What comes until it ends so, or until the end."""
    came = b""
    while not (until and came.endswith(until)) and (chunk := client.recv(65536)):
        came += chunk
    return came


def test_status_is_0_when_all_are_up_1_when_some_are_not_3_when_nothing_runs(tmp_path: Path) -> None:
    assert wsadapter(tmp_path, "status").returncode == 3
    with Exchange(messages=TICKS) as ex:
        config = write_config(tmp_path / "prices.toml", {"a": ex.url, "b": ex.url})
        with Running(tmp_path, str(config)) as running:
            up(running, "a", "b")
            table = wsadapter(tmp_path, "status")
            assert table.returncode == 0
            assert "2 of 2 endpoints up" in table.stdout
            status = json.loads(wsadapter(tmp_path, "status", "--json", "--name", "prices").stdout)
            assert set(status) >= OF_THE_SUPERVISOR
            assert all(set(endpoint) >= OF_AN_ENDPOINT for endpoint in status["endpoints"].values())
            assert status["endpoints"]["a"]["memory"] > 1_000_000
            ex.refuse(503)
            ex.drop(connection=1)
            running.wait_until(lambda: running.events("down"))
            assert wsadapter(tmp_path, "status").returncode == 1
            assert wsadapter(tmp_path, "status", "--name", "other").returncode == 3
            assert running.stop() == 0
    assert wsadapter(tmp_path, "status").returncode == 3


def test_status_of_some_endpoints_is_about_them_alone(tmp_path: Path) -> None:
    with Exchange(messages=TICKS, rate=100, loop=True) as ex, Exchange() as away:
        away.refuse(503)
        config = write_config(tmp_path / "a.toml", {"okx": ex.url, "kraken": ex.url, "down": away.url})
        with Running(tmp_path, str(config)) as running:
            up(running, "okx", "kraken")
            running.wait_until(lambda: running.events("down"))
            words = ("okx kraken", "okx down", "--down", "okx --down")
            asked = {line: wsadapter(tmp_path, "status", *line.split()) for line in words}
            assert {line: answer.returncode for line, answer in asked.items()} == {
                "okx kraken": 0, "okx down": 1, "--down": 1, "okx --down": 0,
            }  # fmt: skip
            shown = {line: [row.split()[0] for row in answer.stdout.splitlines()[3:]] for line, answer in asked.items()}
            assert shown == {"okx kraken": ["okx", "kraken"], "okx down": ["okx", "down"], "--down": ["down"], "okx --down": []}
            assert "none of 1 is down" in asked["okx --down"].stdout
            unknown = wsadapter(tmp_path, "status", "okx", "karken")
            assert (unknown.returncode, unknown.stdout) == (1, "")
            assert "no endpoint named 'karken'; known: down, kraken, okx" in unknown.stderr
            found = json.loads(wsadapter(tmp_path, "status", "--json", "--down").stdout)
            assert list(found["endpoints"]) == ["down"]
            running.wait_until(lambda: (running.status()["okx"]["rate"] or 0) > 10)
            assert running.status()["okx"]["byte_rate"] > 100
            assert running.stop() == 0


def test_a_name_that_does_not_run_is_reported_with_the_places_that_were_searched(tmp_path: Path) -> None:
    with Exchange(messages=TICKS) as ex:
        config = write_config(tmp_path / "prices.toml", {"a": ex.url})
        with Running(tmp_path, str(config)) as running:
            up(running, "a")
            other = wsadapter(tmp_path, "status", "--name", "prizes")
            assert other.returncode == 3
            assert "no supervisor named 'prizes' is running here" in other.stderr
            assert f"  {tmp_path}/wsadapter: prices\n" in other.stderr
            assert running.stop() == 0
    stopped = wsadapter(tmp_path, "stop")
    assert stopped.returncode == 3
    assert f"  {tmp_path}/wsadapter: prices (not running)\n" in stopped.stderr
    nowhere = wsadapter(tmp_path, "restart", "a", "--runtime-dir", str(tmp_path / "nowhere"))
    assert nowhere.returncode == 3
    assert f"searched in:\n  {tmp_path}/nowhere: no such folder\n" in nowhere.stderr


def test_restart_returns_when_the_new_owner_is_up(tmp_path: Path) -> None:
    with Exchange(messages=TICKS) as ex:
        config = write_config(tmp_path / "a.toml", {"a": ex.url, "b": ex.url})
        with Running(tmp_path, str(config)) as running:
            up(running, "a", "b")
            before = running.status()
            ended = wsadapter(tmp_path, "restart", "a")
            after = running.status()
            assert (ended.returncode, ended.stdout) == (0, f"a is up: epoch 2, pid {after['a']['pid']}\n")
            assert after["a"]["state"] == "up"
            assert after["a"]["pid"] != before["a"]["pid"]
            assert after["b"]["pid"] == before["b"]["pid"]
            assert running.stop() == 0
    assert [event["reason"]["kind"] for event in running.events("down") if event["endpoint"] == "a"] == ["recycled", "stopped"]


def test_restart_reports_what_prevents_it(tmp_path: Path) -> None:
    with Exchange(messages=TICKS, tls=True) as ex:
        config = write_config(tmp_path / "a.toml", {"kraken": ex.url}, more=f'[defaults.tls]\nca_file = "{ex.ca_file}"')
        with Running(tmp_path, str(config)) as running:
            up(running, "kraken")
            unknown = wsadapter(tmp_path, "restart", "karken")
            assert unknown.returncode == 1
            assert "no endpoint named 'karken'; known: kraken" in unknown.stderr
            ex.refuse(503)
            refused = wsadapter(tmp_path, "restart", "kraken")
            assert refused.returncode == 1
            assert "the successor failed, the old connection stays: handshake rejected, HTTP 503" in refused.stderr
            ex.refuse(0)
            ex.half_handshake()
            late = wsadapter(tmp_path, "restart", "kraken", "--timeout", "0.5")
            assert late.returncode == 1
            assert "did not answer in time" in late.stderr
            assert running.stop() == 0
    assert not any("karken" in line for line in running.log)  # nothing of that name was restarted


def test_stop_returns_when_it_has_stopped_and_the_name_is_free(tmp_path: Path) -> None:
    with Exchange(messages=TICKS) as ex:
        config = write_config(tmp_path / "a.toml", {"a": ex.url})
        for _ in range(3):
            with Running(tmp_path, str(config)) as running:
                up(running, "a")
                assert wsadapter(tmp_path, "stop").returncode == 0
                assert wsadapter(tmp_path, "status").returncode == 3
                assert running.wait() == 0
        wait_until(lambda: list(ex.closes.values()) == [1000] * 3, 10)
    assert wsadapter(tmp_path, "stop").returncode == 3


def test_if_several_run_the_name_must_be_given(tmp_path: Path) -> None:
    with Exchange(messages=TICKS) as ex:
        one, two = (write_config(tmp_path / f"{name}.toml", {"a": ex.url}) for name in ("one", "two"))
        with Running(tmp_path, str(one)) as first, Running(tmp_path, str(two)) as second:
            up(first, "a")
            up(second, "a")
            unsure = wsadapter(tmp_path, "stop")
            assert unsure.returncode == 2
            assert "choose one with --name: one, two" in unsure.stderr
            assert wsadapter(tmp_path, "stop", "--name", "two").returncode == 0
            assert second.wait() == 0
            assert wsadapter(tmp_path, "status").returncode == 0
            assert first.stop() == 0


def test_the_socket_is_its_users_alone(tmp_path: Path) -> None:
    with Exchange(messages=TICKS) as ex:
        config = write_config(tmp_path / "a.toml", {"a": ex.url})
        with Running(tmp_path, str(config)) as running:
            up(running, "a")
            folder = tmp_path / "wsadapter"
            assert stat.S_IMODE(folder.stat().st_mode) == 0o700
            assert stat.S_IMODE((folder / "a.sock").stat().st_mode) == 0o600
            assert running.stop() == 0
    assert not (folder / "a.sock").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
def test_another_user_is_refused_even_if_the_file_modes_permit_the_connection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Exchange(messages=TICKS) as ex:
        config = write_config(tmp_path / "a.toml", {"a": ex.url})
        with Running(tmp_path, str(config)) as running, socket.socket(socket.AF_UNIX) as client:
            up(running, "a")
            monkeypatch.chdir(tmp_path / "wsadapter")  # the folders above need not be passed then
            Path().chmod(0o755)
            Path("a.sock").chmod(0o666)
            os.seteuid(65534)
            try:
                client.connect("a.sock")
            finally:
                os.seteuid(0)
            client.settimeout(10)
            assert client.recv(1) == b""
            running.wait_for_log("refused uid 65534")
            monkeypatch.undo()
            assert running.stop() == 0


def test_an_unknown_command_is_answered_and_disturbs_no_other_client(tmp_path: Path) -> None:
    with Exchange(messages=TICKS) as ex:
        config = write_config(tmp_path / "a.toml", {"a": ex.url})
        with Running(tmp_path, str(config)) as running:
            up(running, "a")
            with connected(tmp_path, "a") as client:
                assert asked(client, b'{"command":"reboot"}') == {
                    "ok": False, "error": "unknown command 'reboot'", "kind": "UsageError", "fields": {}, "known": COMMANDS,
                }  # fmt: skip
                for nonsense in (b"hello", b"[]", b"{}", b'{"command":7}', b"\xff\xfe", b'{"command":"restart"}'):
                    assert asked(client, nonsense)["ok"] is False
                client.sendall(b"x" * 70_000)
                assert b"a request may have 65536 bytes" in received(client)
            assert wsadapter(tmp_path, "status").returncode == 0
            assert running.stop() == 0


def test_clients_that_say_nothing_do_not_lock_others_out(tmp_path: Path) -> None:
    with Exchange(messages=TICKS) as ex:
        config = write_config(tmp_path / "a.toml", {"a": ex.url})
        with Running(tmp_path, str(config)) as running:
            up(running, "a")
            idle = [connected(tmp_path, "a") for _ in range(40)]
            assert wsadapter(tmp_path, "status").returncode == 0
            for client in idle:
                client.close()
            assert running.stop(signal.SIGTERM) == 0


def test_a_client_that_reads_nothing_stalls_only_itself(tmp_path: Path) -> None:
    with Exchange(messages=TICKS) as ex:
        config = write_config(tmp_path / "a.toml", {"a": ex.url})
        with Running(tmp_path, str(config)) as running:
            up(running, "a")
            with connected(tmp_path, "a") as greedy:
                greedy.settimeout(0.2)
                try:
                    for _ in range(200_000):
                        greedy.sendall(b'{"command":"status"}\n' * 10)
                except (TimeoutError, BrokenPipeError, ConnectionResetError):
                    pass
                assert wsadapter(tmp_path, "status").returncode == 0
            assert running.stop() == 0
