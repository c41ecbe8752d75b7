"""Files that a person names: read in bounded time, whatever they are."""

from __future__ import annotations

import os
import threading
import time
import tomllib
from pathlib import Path

import pytest

from wsadapter.config import load, parse
from wsadapter.config.dialect import Dialects
from wsadapter.config.files import parse_toml, read_file
from wsadapter.config.interpolate import UnresolvedReference, expand
from wsadapter.contract.errors import ConfigError

pytestmark = pytest.mark.version


@pytest.fixture
def pipe(tmp_path: Path) -> Path:
    os.mkfifo(tmp_path / "pipe")
    return tmp_path / "pipe"


def test_a_file_is_read_whole_up_to_its_limit(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x" * 3_000_000)
    assert read_file(tmp_path / "a", most=3_000_000, seconds=5) == b"x" * 3_000_000
    with pytest.raises(OSError, match="larger than 2,999,999 bytes"):
        read_file(tmp_path / "a", most=2_999_999, seconds=5)
    with pytest.raises(OSError, match="larger than 1,000 bytes"):
        read_file("/dev/zero", most=1_000, seconds=5)


def test_a_thread_that_can_not_be_started_is_an_error_like_any_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    (tmp_path / "a").write_bytes(b"x")
    monkeypatch.setattr(threading.Thread, "start", fails)
    with pytest.raises(OSError, match="no thread can be started to read it"):
        read_file(tmp_path / "a", most=10, seconds=5)


@pytest.mark.parametrize("path", ["nope", ".", "a\0b"])
def test_what_cannot_be_read_is_an_error_in_this_thread(tmp_path: Path, path: str) -> None:
    with pytest.raises((OSError, ValueError)):
        read_file(tmp_path / path, most=10, seconds=5)


def test_a_pipe_without_a_writer_costs_only_its_time_limit(pipe: Path) -> None:
    began = time.monotonic()
    with pytest.raises(TimeoutError, match="nobody writes to this pipe"):
        read_file(pipe, most=10, seconds=0.1)
    assert time.monotonic() - began < 5


def test_a_pipe_is_read_to_its_end_and_one_without_an_end_is_given_up(pipe: Path) -> None:
    def write(text: bytes, wait: threading.Event) -> None:
        with pipe.open("wb") as writer:
            writer.write(text)
            writer.flush()
            wait.wait(20)

    ends, goes_on = threading.Event(), threading.Event()
    ends.set()
    one = threading.Thread(target=write, args=(b"abc", ends))
    one.start()
    assert read_file(pipe, most=10, seconds=10) == b"abc"
    one.join()
    other = threading.Thread(target=write, args=(b"abc", goes_on))
    other.start()
    with pytest.raises(TimeoutError, match="the pipe has no end"):
        read_file(pipe, most=10, seconds=0.5)
    goes_on.set()
    other.join()


def test_a_file_system_that_hangs_is_waited_for_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    released = threading.Event()
    real = os.open

    def hang(path: str, flags: int) -> int:
        released.wait(20)
        return real(path, flags)

    (tmp_path / "a").write_text("x")
    monkeypatch.setattr("wsadapter.config.files.os.open", hang)
    with pytest.raises(TimeoutError, match=r"could not be read within 0\.05 s"):
        read_file(tmp_path / "a", most=10, seconds=0.05)
    began = time.monotonic()
    with pytest.raises(TimeoutError, match="an earlier attempt"):
        read_file(tmp_path / "a", most=10, seconds=20)
    assert time.monotonic() - began < 5
    released.set()
    for thread in threading.enumerate():
        if thread.name == "wsadapter-file":
            thread.join()
    assert read_file(tmp_path / "a", most=10, seconds=5) == b"x"


def test_a_secret_is_in_a_regular_file(pipe: Path) -> None:
    began = time.monotonic()
    with pytest.raises(UnresolvedReference, match="can't be read: it is a pipe or a device"):
        expand("${file:pipe}", base_dir=pipe.parent)
    assert time.monotonic() - began < 0.4


@pytest.mark.slow
def test_a_pipe_without_a_writer_is_named_in_the_error_of_every_setting(pipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("wsadapter.config", "wsadapter.config.checks", "wsadapter.config.dialect"):
        monkeypatch.setattr(f"{module}._PATIENCE", 0.5)
    endpoint = "[endpoints.a]\nurl = 'ws://h/'\n"
    for more in ("subscribe_file = 'pipe'", "dialect = './pipe'"):
        with pytest.raises(ConfigError, match="nobody writes to this pipe"):
            parse(endpoint + more, base_dir=pipe.parent)
    with pytest.raises(ConfigError, match="nobody writes to this pipe"):
        load(pipe)


NESTED = "x = " + "[" * 3000 + "]" * 3000
LONG = "x = " + "9" * 5000


@pytest.mark.parametrize("text", [NESTED, LONG, "x = 1979-05-27T07:32:00+99:99", "x = ", "a." * 3000 + "b = 1", "\0"])
def test_whatever_is_wrong_with_a_text_it_is_one_kind_of_error(text: str, tmp_path: Path) -> None:
    (tmp_path / "d.toml").write_text(text)
    with pytest.raises(ConfigError):
        parse(text)
    with pytest.raises(ConfigError):
        load(tmp_path / "d.toml")
    with pytest.raises(ConfigError):
        Dialects().load(str(tmp_path / "d.toml"))


def test_toml_that_python_cannot_read_is_no_toml() -> None:
    for text in (NESTED, LONG):
        with pytest.raises(tomllib.TOMLDecodeError):
            parse_toml(text)


@pytest.mark.parametrize("depth", [20, 80, 200, 490])
def test_values_that_are_nested_deep_are_an_error_or_read(depth: int) -> None:
    for opening, closing in ("[]", ("{a=", "}")):
        text = f"[endpoints.a]\nurl = 'ws://h/'\nsubscribe = [{{a = {opening * depth}1{closing * depth}}}]\n"
        with pytest.raises(ConfigError):
            parse(text + "nope = 1")
