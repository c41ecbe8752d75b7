"""Owners change supervisors: nothing is closed, nothing is lost, nothing comes twice."""

from __future__ import annotations

import base64
import json
import os
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, Self

import psutil
import pytest

from tests.support.command_line import PATIENCE, Running, supervise, write_config, wsadapter
from tests.support.feeds import collect, is_message, numbered
from tests.support.waiting import wait_until
from wsadapter import Supervisor, SupervisorStopped
from wsadapter.takeover import CONTRACT
from wsadapter.takeover.old_side import allow_takeover
from wsadapter.testing import Exchange

pytestmark = pytest.mark.native  # it needs pidfds

DEFAULTS = "[defaults.heartbeat]\nkind = 'none'\n"


class Line:
    """Exchanges, a configuration and one output file, and supervisors that come one after the other."""

    def __init__(self, folder: Path, rate: float = 500) -> None:
        self.folder = folder
        self.file = folder / "out.jsonl"
        self._read = 0
        self._lines: list[dict[str, Any]] = []
        self._messages: dict[str, list[dict[str, Any]]] = {}
        self._exchanges = ExitStack()
        self.plain = Exchange(messages=numbered, rate=rate, resume="continue")
        self.secure = Exchange(messages=numbered, rate=rate, resume="continue", tls=True)

    def __enter__(self) -> Self:
        for exchange in (self.plain, self.secure):
            self._exchanges.enter_context(exchange)
        tls = f"[defaults.tls]\nca_file = {json.dumps(str(self.secure.ca_file))}\n"
        self.urls = {"plain": self.plain.url, "secure": self.secure.url}
        self.config = write_config(self.folder / "line.toml", self.urls, more=DEFAULTS + tls, output=str(self.file))
        return self

    def __exit__(self, *_error: object) -> None:
        self._exchanges.close()

    def first(self) -> Running:
        return Running(self.folder, str(self.config))

    def next(self, *more: str) -> Running:
        return Running(self.folder, str(self.config), "--takeover", *more)

    def lines(self) -> list[dict[str, Any]]:
        """Those that are complete. What was read once is not read again."""
        if self.file.exists():
            with self.file.open("rb") as file:
                file.seek(self._read)
                text = file.read()
            whole = text[: text.rfind(b"\n") + 1]
            self._read += len(whole)
            for line in map(json.loads, whole.splitlines()):
                self._lines.append(line)
                if "number" in line:
                    self._messages.setdefault(line["endpoint"], []).append(line)
        return self._lines

    def messages(self, name: str) -> list[dict[str, Any]]:
        self.lines()
        return self._messages.setdefault(name, [])

    def grows(self, running: Running) -> None:
        """Until more has come on both."""
        before = {name: len(self.messages(name)) for name in self.urls}
        running.wait_until(lambda: all(len(self.messages(name)) > before[name] for name in self.urls), "nothing more came")

    def assert_whole(self, *gaps: str) -> None:
        """Of both feeds every message came, once, in order, under numbers without a hole."""
        for name in self.urls:
            mine = self.messages(name)
            assert [m["number"] for m in mine] == list(range(1, len(mine) + 1))
            found = [m["data"]["n"] for m in mine]
            if name not in gaps:
                assert found == list(range(found[0], found[0] + len(found)))
        told = [line["endpoint"] for line in self.lines() if line.get("event") == "gap"]
        assert sorted(told) == sorted(gaps)


@pytest.fixture
def line(tmp_path: Path) -> Iterator[Line]:
    with Line(tmp_path) as line:
        yield line


def is_alive(pid: int) -> bool:
    """Whoever its parent is now: a zombie is dead."""
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def pids(running: Running) -> dict[str, int]:
    """Once the supervisor answers: under load a question may be too late."""
    found: dict[str, int] = {}

    def answered() -> bool:
        found.update({name: endpoint["pid"] for name, endpoint in running.status().items()})
        return bool(found)

    running.wait_until(answered, "the supervisor does not say its status")
    return found


@pytest.mark.parametrize("end", ["stop", "kill -9"])
def test_what_the_first_one_had_started_ends_with_the_last_one(line: Line, end: str) -> None:
    with ExitStack() as stack:
        first = stack.enter_context(line.first())
        line.grows(first)
        second = stack.enter_context(line.next())
        second.wait_for_log(f"took over from pid {first.process.pid}:")
        assert first.wait() == 0
        owners = set(pids(second).values())
        assert set(processes(line)) > owners  # the fork server of the first is there
        if end == "stop":
            assert second.stop() == 0
        else:
            for pid in owners:
                os.kill(pid, signal.SIGSTOP)
            second.process.kill()
        wait_until(lambda: not processes(line), 5, lambda: f"left: {processes(line)}")


def processes(line: Line) -> dict[int, list[str]]:
    """All that a supervisor of this test has started, whoever is the parent now: pid -> command line."""
    mine = f"WSADAPTER_RUNTIME_DIR={line.folder}/wsadapter"
    found = {}
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            theirs = Path(f"/proc/{process.pid}/environ").read_text("utf-8").split("\0")
            if process.status() != psutil.STATUS_ZOMBIE and mine in theirs:
                found[process.pid] = process.cmdline()
    return found


def test_ten_takeovers_in_a_row_close_nothing_and_lose_nothing(line: Line) -> None:
    with ExitStack() as stack:
        running = stack.enter_context(line.first())
        line.grows(running)
        owners = pids(running)
        for _ in range(10):
            before = running
            running = stack.enter_context(line.next())
            running.wait_for_log(f"took over from pid {before.process.pid}:")
            assert before.wait() == 0
            line.grows(running)
            assert pids(running) == owners
        assert line.plain.accepted == line.secure.accepted == 1
        assert running.stop() == 0
        for exchange in (line.plain, line.secure):
            wait_until(lambda exchange=exchange: list(exchange.closes.values()) == [1000], PATIENCE)
    line.assert_whole()
    assert len({event["run"] for event in line.lines() if event.get("event") == "started"}) == 1
    assert [event["endpoint"] for event in line.lines() if event.get("event") == "up"].count("plain") == 1
    wait_until(lambda: not any(map(is_alive, owners.values())), PATIENCE)


def test_after_it_a_killed_owner_is_handed_off_and_its_end_is_known(line: Line) -> None:
    with line.first() as before:
        line.grows(before)
        with line.next() as running:
            running.wait_for_log("took over from pid")
            line.grows(running)
            os.kill(pids(running)["plain"], signal.SIGKILL)
            running.wait_until(lambda: [e for e in line.lines() if e.get("event") == "up" and e["epoch"] == 2])
            line.grows(running)
            assert wsadapter(line.folder, "restart", "secure").returncode == 0
            line.grows(running)
            assert wsadapter(line.folder, "stop").returncode == 0
            assert running.wait() == 0
    assert line.plain.accepted == 1
    down = next(event for event in line.lines() if event.get("event") == "down")
    assert down["endpoint"] == "plain"
    assert down["reason"]["kind"] == "crashed"
    assert down["reason"].get("signal") == "SIGKILL" or down["reason"]["text"] == "exit status unknown"
    line.assert_whole("secure")  # without an identity a restart is a clean cut


def doubled(line: Line) -> None:
    """On wss:// there are two connections."""
    more = "[endpoints.secure]\nreplicas = 2\nidentity = ['n']\n"
    line.config.write_text(line.config.read_text("utf-8").replace("[endpoints.secure]\n", more))


def live(running: Running) -> list[int]:
    """The owners of the members that are up."""
    return [member["pid"] for member in running.status().get("secure", {}).get("members", ()) if member["state"] == "up"]


def test_replicas_go_along_with_all_their_connections_and_one_that_has_none_gets_it_here_or_there(line: Line) -> None:
    doubled(line)
    with ExitStack() as stack:
        first = stack.enter_context(line.first())
        first.wait_until(lambda: len(live(first)) == 2, "not up")
        owners = live(first)
        second = stack.enter_context(line.next())
        second.wait_for_log("took over from pid")
        assert first.wait() == 0
        line.grows(second)
        assert live(second) == owners
        assert line.secure.accepted == 2
        line.secure.refuse(503, {"Retry-After": "1"})
        line.secure.drop(connection=line.secure.open_ids[0])
        second.wait_until(lambda: len(live(second)) == 1, "both are live")
        (owner,) = live(second)
        with asks(line, second) as client:
            read_to_the_state(client)  # and no more: all goes on here, that member too
        second.wait_for_log("takeover failed, this supervisor keeps running")
        accepted = line.secure.accepted
        second.wait_until(lambda: line.secure.accepted > accepted, "it does not try again")
        third = stack.enter_context(line.next())
        third.wait_for_log("took over from pid")
        line.secure.refuse(0)
        third.wait_until(lambda: len(live(third)) == 2, "it did not come back")
        assert owner in live(third)
        line.grows(third)
        assert third.stop() == 0
    line.assert_whole()


def test_one_that_is_killed_before_it_is_ready_changes_nothing(line: Line) -> None:
    with line.first() as running:
        line.grows(running)
        owners = pids(running)
        client = asks(line, running)
        read_to_the_state(client)
        client.close()  # as the kernel does for a killed one
        running.wait_for_log("takeover failed, this supervisor keeps running")
        line.grows(running)
        assert pids(running) == owners
        assert running.stop() == 0
    line.assert_whole()


def asks(line: Line, running: Running) -> socket.socket:
    """A stranger's takeover, by hand."""
    client = socket.socket(socket.AF_UNIX)
    client.connect(str(line.folder / "wsadapter" / "line.sock"))
    client.settimeout(PATIENCE)
    client.sendall(b'{"command": "takeover", "contract": %d, "version": "test", "pid": 1}\n' % CONTRACT)
    return client


def read_to_the_state(client: socket.socket) -> None:
    """Until it has offered all it has."""
    said = b""
    while not said.endswith(b"\n"):
        said += client.recv(1)
    assert json.loads(said)["ok"]


def test_one_that_never_says_that_it_is_ready_changes_nothing(line: Line) -> None:
    with line.first() as running:
        line.grows(running)
        client = asks(line, running)
        read_to_the_state(client)
        running.wait_for_log("takeover failed, this supervisor keeps running")  # after its deadline
        line.grows(running)
        client.close()
        with line.next() as after:
            after.wait_for_log("took over from pid")
            line.grows(after)
            assert after.stop() == 0
    line.assert_whole()


def test_a_second_one_at_the_same_time_is_refused_and_a_first_that_talks_nonsense_changes_nothing(line: Line) -> None:
    with line.first() as running:
        line.grows(running)
        owners = pids(running)
        with asks(line, running) as one, asks(line, running) as other:
            read_to_the_state(one)
            assert "taking over already" in json.loads(other.makefile("rb").readline())["error"]
            one.sendall(b"\xff\xfe\n")
            running.wait_for_log("takeover failed, this supervisor keeps running: no JSON")
        line.grows(running)
        assert pids(running) == owners
        with line.next() as after:
            after.wait_for_log("took over from pid")
            line.grows(after)
            assert after.stop() == 0
    line.assert_whole()


def test_a_late_answer_to_a_request_of_the_first_one_is_not_taken_for_an_answer_to_the_next(line: Line) -> None:
    with ExitStack() as stack:
        first = stack.enter_context(line.first())
        line.grows(first)
        with commanded(line, "request", endpoint="plain", payload={"of": "the first"}, timeout=0.1) as client:
            assert "OutcomeUnknown" in str(answer_of(client))
        second = stack.enter_context(line.next())
        second.wait_for_log(f"took over from pid {first.process.pid}:")
        line.grows(second)
        with commanded(line, "request", endpoint="plain", payload={"of": "the next"}, timeout=PATIENCE) as client:
            wait_until(lambda: len(line.plain.received) == 2, PATIENCE)
            old, new = (json.loads(frame.payload)["id"] for frame in line.plain.received)
            for known, result in ((old, "late"), (new, "in time")):
                line.plain.send(json.dumps({"id": known, "result": result}))
            data = base64.b64decode(answer_of(client)["answer"]["data"])
        assert json.loads(data) == {"id": new, "result": "in time"}
        second.wait_until(lambda: "late_answer" in [each.get("event") for each in line.lines()], "no late answer")
        [late] = [each for each in line.lines() if each.get("event") == "late_answer"]
        assert late["id"] == str(old) != str(new)
        assert second.stop() == 0


def commanded(line: Line, command: str, **fields: Any) -> socket.socket:
    """A command was sent to the running supervisor."""
    client = socket.socket(socket.AF_UNIX)
    client.connect(str(line.folder / "wsadapter" / "line.sock"))
    client.settimeout(PATIENCE)
    client.sendall(json.dumps({"command": command} | fields).encode() + b"\n")
    return client


def answer_of(client: socket.socket) -> Any:
    return json.loads(client.makefile("rb").readline())


def test_what_was_not_up_before_a_takeover_that_fails_is_started_again_and_kept_up(line: Line) -> None:
    line.secure.refuse(503)
    with line.first() as running:
        running.wait_until(lambda: line.messages("plain") and [e for e in line.lines() if e.get("event") == "down"])
        with asks(line, running) as client:
            read_to_the_state(client)
        running.wait_for_log("takeover failed, this supervisor keeps running")
        line.secure.refuse(0)
        line.grows(running)
        assert running.status()["secure"]["state"] == "up"
        line.secure.drop()
        running.wait_until(lambda: [e for e in line.lines() if e.get("event") == "gap"])  # how many were refused varies
        line.grows(running)
        assert running.stop() == 0
    line.assert_whole("secure")


def test_an_owner_that_dies_in_a_takeover_that_fails_is_replaced_and_the_others_go_on(line: Line) -> None:
    with line.first() as running:
        line.grows(running)
        with asks(line, running) as client:
            read_to_the_state(client)
            os.kill(pids(running)["plain"], signal.SIGKILL)
        running.wait_until(lambda: [e for e in line.lines() if e.get("event") == "up" and e["epoch"] == 2])
        line.grows(running)
        assert [(e["endpoint"], e["epoch"]) for e in line.lines() if e.get("event") == "down"] == [("plain", 1)]
        assert running.stop() == 0
    line.assert_whole()


def test_one_that_is_told_to_stop_in_a_takeover_stops_and_the_new_one_hears_of_it(line: Line) -> None:
    with line.first() as running:
        line.grows(running)
        with asks(line, running) as client:
            read_to_the_state(client)
            began = time.monotonic()
            assert running.stop() == 0
            assert time.monotonic() - began < 8.0  # it does not wait for an answer
            said = client.makefile("rb").read()
        assert b'"error":"this supervisor is being stopped"' in said
        for exchange in (line.plain, line.secure):
            wait_until(lambda exchange=exchange: list(exchange.closes.values()) == [1000], PATIENCE)
    line.assert_whole()


def test_where_nothing_is_up_the_new_one_runs(line: Line) -> None:
    for exchange in (line.plain, line.secure):
        exchange.refuse(503)
    with line.first() as before:
        before.wait_until(lambda: len([e for e in line.lines() if e.get("event") == "down"]) >= 2)
        with line.next() as running:
            running.wait_for_log("took over from pid")
            assert before.wait() == 0
            for exchange in (line.plain, line.secure):
                exchange.refuse(0)
            line.grows(running)
            assert running.stop() == 0
    line.assert_whole()


def test_an_endpoint_that_was_removed_before_it_goes_on_with_its_numbers_behind_it(line: Line) -> None:
    with line.first() as before:
        line.grows(before)
        both = line.config.read_text("utf-8")
        line.config.write_text(both.replace("[endpoints.plain]", "[endpoints.other]"))
        before.process.send_signal(signal.SIGHUP)
        before.wait_for_log("removed plain")
        with line.next() as running:
            running.wait_until(lambda: [each.get("event") for each in line.lines()].count("started") == 2)  # its own is applied
            found = len(line.messages("plain"))
            line.config.write_text(both)
            running.process.send_signal(signal.SIGHUP)
            running.wait_until(lambda: len(line.messages("plain")) > found)
            assert running.stop() == 0
    line.assert_whole("plain")


def test_the_old_one_killed_in_the_middle_costs_what_its_death_costs(line: Line) -> None:
    with line.first() as running:
        line.grows(running)
        client = asks(line, running)
        read_to_the_state(client)
        running.process.kill()
        client.close()
        running.wait()
        with line.next() as after:  # nobody is there: it just starts
            after.wait_for_log("nothing to take over")
            after.wait_until(lambda: len([e for e in line.lines() if e.get("event") == "up"]) == 4)
            assert after.stop() == 0


def test_a_new_configuration_is_applied_after_it(line: Line) -> None:
    with Exchange(messages=numbered, rate=100, resume="continue") as third, line.first() as before:
        line.grows(before)
        owners = pids(before)
        urls = {"secure": line.urls["secure"], "third": third.url}
        tls = f"[defaults.tls]\nca_file = {json.dumps(str(line.secure.ca_file))}\n"
        write_config(line.config, urls, more=DEFAULTS + tls, output=str(line.file))
        with line.next() as running:
            running.wait_for_log("the new configuration: added third; removed plain")
            running.wait_until(lambda: line.messages("third"))
            assert pids(running)["secure"] == owners["secure"]
            wait_until(lambda: list(line.plain.closes.values()) == [1000], PATIENCE)
            assert running.stop() == 0
    line.assert_whole("third")  # it is new in a file that is continued


def test_a_bad_configuration_leaves_the_running_one_alone(line: Line) -> None:
    with line.first() as running:
        line.grows(running)
        bad = line.folder / "bad.toml"
        bad.write_text("[endpoints.x]\nurl = 5\n")
        refused = supervise(line.folder, str(bad), "--takeover", "--name", "line")
        assert refused.returncode == 2
        line.grows(running)
        assert running.stop() == 0
    line.assert_whole()


def test_what_is_not_up_is_stopped_there_and_started_here(line: Line) -> None:
    line.secure.refuse(503)
    with line.first() as before:
        before.wait_until(lambda: line.messages("plain") and [e for e in line.lines() if e.get("event") == "down"])
        owner = pids(before)["plain"]
        with line.next() as running:
            running.wait_for_log("took over from pid")
            line.secure.refuse(0)
            line.grows(running)
            assert pids(running)["plain"] == owner
            assert running.stop() == 0
    line.assert_whole()


def test_standard_output_is_the_new_ones(tmp_path: Path) -> None:
    with Exchange(messages=numbered, rate=500, resume="continue") as ex:
        config = write_config(tmp_path / "o.toml", {"a": ex.url}, more=DEFAULTS)
        with Running(tmp_path, str(config)) as before:
            before.wait_until(lambda: before.messages("a"))
            with Running(tmp_path, str(config), "--takeover") as running:
                running.wait_until(lambda: running.messages("a"))
                assert before.wait() == 0
                assert running.stop() == 0
            numbers = [m["number"] for m in before.messages("a") + running.messages("a")]
    assert numbers == list(range(1, len(numbers) + 1))


def test_owners_that_were_started_by_spawn_outlive_the_first_one_too(line: Line) -> None:
    line.config.write_text("[supervisor]\nstart_method = 'spawn'\n" + line.config.read_text("utf-8"))
    with line.first() as first:
        line.grows(first)
        owners = pids(first)
        with line.next() as second:
            second.wait_for_log("took over from pid")
            assert first.wait() == 0
            ended = time.monotonic()
            wait_until(lambda: time.monotonic() > ended + 4, PATIENCE)  # without a supervisor an owner ends within 3 s
            line.grows(second)
            assert pids(second) == owners
            for pid in owners.values():
                os.kill(pid, signal.SIGSTOP)
            second.process.kill()
            wait_until(lambda: not processes(line), 5, lambda: f"left: {processes(line)}")
    line.assert_whole()


def test_a_connection_whose_tls_is_held_goes_along_with_its_holder(tmp_path: Path) -> None:
    with Exchange(messages=numbered, rate=1_000, resume="continue", tls=True) as ex:
        tls = f"[defaults.tls]\nholder = true\nca_file = {json.dumps(str(ex.ca_file))}\n"
        config = write_config(tmp_path / "h.toml", {"a": ex.url}, more=DEFAULTS + tls)
        with Running(tmp_path, str(config)) as before:
            before.wait_until(lambda: before.messages("a"))
            with Running(tmp_path, str(config), "--takeover") as running:
                running.wait_until(lambda: running.messages("a"))
                status = running.status()["a"]
                wait_until(lambda: running.status()["a"]["in_custody"], PATIENCE)
                os.kill(status["pid"], signal.SIGKILL)
                running.wait_until(lambda: running.events("up"))
                assert running.events("up")[0]["resumed"]
                assert running.status()["a"]["holder"] == status["holder"]
                assert running.stop() == 0
            found = [m["data"]["n"] for m in before.messages("a") + running.messages("a")]
        assert found == list(range(found[0], found[0] + len(found)))
        assert ex.accepted == 1
        wait_until(lambda: not is_alive(status["holder"]), PATIENCE)


def test_one_of_another_contract_is_replaced_when_all_is_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wsadapter.takeover.old_side.CONTRACT", 99)
    with Exchange(messages=numbered, rate=100, resume="continue") as ex:
        config = write_config(tmp_path / "o.toml", {"a": ex.url}, more=DEFAULTS)
        other = Supervisor([ex.endpoint("a")], name="o", runtime_dir=str(tmp_path / "wsadapter"))
        allow_takeover(other.runtime)
        with other, Running(tmp_path, str(config), "--takeover") as running:
            while True:
                try:
                    other.get(PATIENCE)
                except SupervisorStopped:
                    break
            other.stop()
            running.wait_for_log("this one has the name 'o' now")
            assert running.status()["a"]["state"] == "up"
            assert running.stop() == 0
    assert any("takeover not possible (the running supervisor" in line and "has contract 99" in line for line in running.log)
    up = next(place for place, line in enumerate(running.log) if "a/1 up" in line)
    assert up < next(place for place, line in enumerate(running.log) if "the other supervisor has stopped" in line)


def test_a_program_of_its_own_is_not_taken_over(tmp_path: Path) -> None:
    with Exchange(messages=numbered, rate=100) as ex:
        config = write_config(tmp_path / "o.toml", {"a": ex.url}, more=DEFAULTS)
        with Supervisor([ex.endpoint("a")], name="o", runtime_dir=str(tmp_path / "wsadapter")) as program:
            collect(program, is_message("a"))
            refused = supervise(tmp_path, str(config), "--takeover")
            assert refused.returncode == 4
            assert "only python -m wsadapter.supervise can be taken over" in refused.stderr
            collect(program, is_message("a"))


def test_takeover_goes_with_nothing_that_does_not_run(tmp_path: Path) -> None:
    config = write_config(tmp_path / "a.toml", {"a": "ws://127.0.0.1:1"})
    assert supervise(tmp_path, str(config), "--takeover", "--check").returncode == 2
