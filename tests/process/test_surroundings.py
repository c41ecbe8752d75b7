"""What the world around a supervisor does to it: signals to everybody, no folder to write in, eyes on its secrets."""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import psutil
import pytest

from tests.support.command_line import PATIENCE, Running, environment, supervise, write_config, wsadapter
from tests.support.trees import command_line, lives, tree_of
from tests.support.waiting import wait_until
from wsadapter.testing import Exchange


def config_of(folder: Path, ex: Exchange, start_method: str, *, more: str = "") -> Path:
    path = write_config(folder / "a.toml", {"a": ex.url, "b": ex.url}, more=more)
    path.write_text(f'[supervisor]\nstart_method = "{start_method}"\n{path.read_text("utf-8")}')
    return path


def test_row_69_ctrl_c_to_the_whole_process_group_is_one_clean_stop(tmp_path: Path, start_method: str) -> None:
    with Exchange(messages=["x"]) as ex:
        config = config_of(tmp_path, ex, start_method)
        with Running(tmp_path, str(config), start_new_session=True) as running:
            running.wait_until(lambda: running.messages("a") and running.messages("b"))
            tree = tree_of(running.process.pid)
            os.killpg(running.process.pid, signal.SIGINT)
            assert running.wait() == 0, running.log
        ex.wait_connections(0)
        assert set(ex.closes.values()) == {1000}
    assert [event["reason"]["kind"] for event in running.events("down")] == ["stopped", "stopped"]
    assert not [line for line in running.log if "Traceback" in line]
    psutil.wait_procs(tree[1:], timeout=5)
    assert not [process for process in tree if lives(process)]


@pytest.mark.parametrize("lines", [1, 2, 3])
def test_row_69_ctrl_c_to_the_group_while_it_starts_is_a_clean_stop_too(tmp_path: Path, start_method: str, lines: int) -> None:
    with Exchange(messages=["x"] * 5) as ex:
        config = config_of(tmp_path, ex, start_method)
        with Running(tmp_path, str(config), start_new_session=True) as running:
            running.wait_until(lambda: len(running.output) >= lines)
            os.killpg(running.process.pid, signal.SIGINT)
            assert running.wait() == 0, running.log
    assert not [line for line in running.log if "Traceback" in line]


def test_row_69_a_term_to_every_process_at_once_is_one_clean_stop(tmp_path: Path, start_method: str) -> None:
    with Exchange(messages=["x"]) as ex:
        config = config_of(tmp_path, ex, start_method)
        with Running(tmp_path, str(config)) as running:
            running.wait_until(lambda: running.messages("a") and running.messages("b"))
            for process in tree_of(running.process.pid):
                with suppress(psutil.NoSuchProcess):  # the first to hear it is faster than we are
                    process.terminate()
            assert running.wait() == 0, running.log
        ex.wait_connections(0)
        assert set(ex.closes.values()) <= {1000, 1001}
    assert not [line for line in running.log if "Traceback" in line]


READ_ONLY = """
set -e
for folder in /tmp /var/tmp /usr/tmp "$1"; do
    if [ -d "$folder" ]; then mount --bind "$folder" "$folder"; mount -o remount,ro,bind "$folder"; fi
done
mount -o remount,ro,bind /
cd /
shift
exec "$@"
"""


def test_row_70_without_a_folder_to_write_in_it_runs_and_says_what_it_does_without(tmp_path: Path) -> None:
    if shutil.which("unshare") is None or subprocess.run(["unshare", "--mount", "true"], check=False).returncode:
        pytest.skip("no mount namespaces here")
    with Exchange(messages=["x"]) as ex:
        config = config_of(tmp_path, ex, "forkserver")
        command = ["unshare", "--mount", "sh", "-c", READ_ONLY, "sh", str(tmp_path)]
        command += [sys.executable, "-m", "wsadapter.supervise", str(config), "--name", f"row70-{os.getpid()}"]
        kept = {name: value for name, value in environment(tmp_path).items() if name not in ("TMPDIR", "TEMP", "TMP")}
        with subprocess.Popen(command, env=kept, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            try:
                assert process.stdout is not None
                seen = [json.loads(process.stdout.readline()) for _ in range(7)]
                status = wsadapter(tmp_path, "status", "--json", "--name", f"row70-{os.getpid()}")
                process.terminate()
                _, log = process.communicate(timeout=PATIENCE)
            finally:
                process.kill()
    assert process.returncode == 0, log
    assert {line["endpoint"] for line in seen if "number" in line} == {"a", "b"}
    assert json.loads(status.stdout)["capabilities"]["start_method"] == "spawn"
    assert json.loads(status.stdout)["runtime"].startswith("abstract:")
    assert "abstract" in log
    assert "no folder for temporary files" in log


SECRETS = {"WSA_USER": "mallory", "WSA_PASSWORD": "tr0ub4dor", "WSA_TOKEN": "sesame-street"}


def test_row_64_secrets_show_nowhere(tmp_path: Path, start_method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "key").write_text("file-secret\n")
    more = '[defaults.headers]\nX-Key = "${file:key}"\n[defaults.restart]\nbackoff_max = 0.2\nbackoff_initial = 0.2\n'
    more += "[defaults.timeouts]\nhandshake = 0.5"  # b says TLS to a port that does not
    with Exchange(messages=["x"]) as ex:
        url = ex.url.replace("ws://", "ws://${WSA_USER}:${WSA_PASSWORD}@") + "?token=${WSA_TOKEN}&plain=inline-secret"
        config = tmp_path / "a.toml"
        config.write_text(
            f'[supervisor]\nstart_method = "{start_method}"\n{more}\n[endpoints.a]\nurl = {json.dumps(url)}\n'
            f'[endpoints.b]\nurl = "wss://${{WSA_USER}}:${{WSA_PASSWORD}}@127.0.0.1:{ex.port}/?token=${{WSA_TOKEN}}"\n'
        )
        ex.refuse(401, {}, b"who are you?", times=1)
        with Running(tmp_path, str(config), "--log-level", "debug") as running:
            running.wait_until(lambda: running.messages("a") and len(running.events("down")) >= 3)
            shown = [wsadapter(tmp_path, "status", "--json").stdout, wsadapter(tmp_path, "status").stdout]
            lines = [line for line in map(command_line, tree_of(running.process.pid)) if line]
            assert len(lines) >= 2, lines
            running.process.send_signal(signal.SIGUSR1)
            running.wait_for_log('"endpoints"')
            assert running.stop() == 0
        request = ex.requests[-1]
        shown += [supervise(tmp_path, str(config), "--check", "--show").stdout, *lines, *running.log]
        shown += map(json.dumps, running.output)
    assert any("file-secret" in str(r) for r in ex.requests), request  # they did reach the peer
    for secret in (*SECRETS.values(), "file-secret", "inline-secret"):
        assert not [text for text in shown if secret in text], secret


def test_row_64_a_secret_that_is_gone_is_a_reason_that_names_only_the_reference(tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text("file-secret")
    with Exchange(messages=["x"]) as ex:
        config = write_config(tmp_path / "a.toml", {"a": ex.url}, more='[endpoints.a.headers]\nX-Key = "${file:key}"')
        with Running(tmp_path, str(config)) as running:
            running.wait_until(lambda: running.messages("a"))
            key.unlink()
            ex.drop()
            running.wait_until(lambda: any(e["reason"]["kind"] == "config" for e in running.events("down")))
            key.write_text("file-secret")
            running.wait_until(lambda: len(running.messages("a")) == 2)
            assert running.stop() == 0
    assert not [line for line in running.log if "file-secret" in line]
    wait_until(lambda: ex.connections == 0, 5)


def as_an_ordinary_user() -> None:
    """In a new process, before its program: root there is bound by what an ordinary user is bound by."""
    if os.geteuid() == 0:
        for capability in (21, 24):  # CAP_SYS_ADMIN, CAP_SYS_RESOURCE
            ctypes.CDLL(None).prctl(24, capability, 0, 0, 0)  # PR_CAPBSET_DROP


@contextmanager
def pipes_used_up() -> Iterator[None]:
    """This user has as many bytes in pipes as an ordinary one may have (pipe(7), pipe-user-pages-soft)."""
    pages = int(Path("/proc/sys/fs/pipe-user-pages-soft").read_text("utf-8"))
    size = 1 << 20
    with ExitStack() as stack:
        for _ in range(pages * resource.getpagesize() // size + 1):
            ends = os.pipe()
            for end in ends:
                stack.callback(os.close, end)
            with suppress(PermissionError):  # an ordinary user is at the bound
                fcntl.fcntl(ends[1], fcntl.F_SETPIPE_SZ, size)
        yield


def pipe_sizes(pid: int) -> list[int]:
    """Of the pipes that a process has open."""
    sizes = []
    for name in os.listdir(f"/proc/{pid}/fd"):
        with suppress(OSError):
            fd = os.open(f"/proc/{pid}/fd/{name}", os.O_RDONLY | os.O_NONBLOCK)
            try:
                sizes.append(fcntl.fcntl(fd, fcntl.F_GETPIPE_SZ))
            finally:
                os.close(fd)
    return sizes


@pytest.mark.native
def test_row_75_a_hundred_endpoints_of_an_ordinary_user_get_smaller_pipes_and_all_their_messages(tmp_path: Path) -> None:
    def limited() -> None:
        as_an_ordinary_user()
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, min(4096, resource.getrlimit(resource.RLIMIT_NOFILE)[1])))

    names = [f"e{n}" for n in range(100)]
    with pipes_used_up(), Exchange(messages=["x" * 100_000]) as ex:
        config = write_config(tmp_path / "a.toml", dict.fromkeys(names, ex.url), more="[defaults.limits]\nconnects = 0\n")
        with Running(tmp_path, str(config), preexec_fn=limited) as running:
            running.wait_until(lambda: {m["endpoint"] for m in list(running.output) if "number" in m} == set(names))
            assert len([size for size in pipe_sizes(running.process.pid) if size <= 16_384]) > len(names)
            assert running.stop() == 0
    assert {len(m["text"]) for m in running.output if "number" in m} == {100_000}
    assert not running.events("gap") + running.events("fatal")


@pytest.mark.native
def test_row_75_endpoints_that_there_are_no_descriptors_for_say_so_and_the_others_go_on(tmp_path: Path) -> None:
    with Exchange(messages=["x"], loop=True, rate=20) as ex:
        more = "[defaults.limits]\nconnects = 0\n"
        config = write_config(tmp_path / "a.toml", {f"e{n}": ex.url for n in range(40)}, more=more)
        few = lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (160, 160))  # noqa: E731
        with Running(tmp_path, str(config), preexec_fn=few) as running:
            running.wait_until(lambda: running.events("up") and running.events("down"))
            down = running.events("down")[0]
            assert down["reason"]["kind"] == "start_failed"
            assert "Too many open files" in down["reason"]["text"]
            name = running.events("up")[0]["endpoint"]
            before = len(running.messages(name))
            running.wait_until(lambda: len(running.messages(name)) > before + 5)
            assert running.stop() == 0
    assert name not in {event["endpoint"] for event in running.events("down") if event["reason"]["kind"] != "stopped"}
