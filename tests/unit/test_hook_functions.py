"""Hooks: which functions are taken for one, how they are called, and what is said of the others."""

from __future__ import annotations

import sys
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from wsadapter.config import load
from wsadapter.config.hooks import TIMEOUT, hook_problems
from wsadapter.contract.hooks import SIGNATURES, HookError, keywords_of, load_function
from wsadapter.worker import hooks as documented
from wsadapter.worker.hooks.decode_thread import load_hook

pytestmark = pytest.mark.version

ROOT = Path(__file__).resolve().parents[2]


def bare(data: bytes) -> bytes:
    return b"bare " + data


def whole(data: bytes, *, binary: bool, stream: str | None) -> bytes:
    return b"whole %d %s " % (binary, str(stream).encode()) + data


def by_place(data: bytes, binary: bool, stream: str | None) -> bytes:
    return whole(data, binary=binary, stream=stream)


def only_stream(payload: bytes, stream: str | None = "none") -> bytes:
    return f"{stream} ".encode() + payload


def only_binary(payload: bytes, *, binary: bool) -> bytes:
    return b"%d " % binary + payload


def anything(*data: bytes, **more: Any) -> bytes:
    return whole(*data, **more)


class Hooks:
    @staticmethod
    def static(data: bytes) -> bytes:
        return b"static " + data


class Callee:
    def __call__(self, data: bytes) -> bytes:
        return b"callee " + data


def nothing() -> bytes:
    return b""


def needs_two(payload: bytes, kind: int) -> bytes:
    return payload


def only_by_name(*, data: bytes) -> bytes:
    return data


async def slow(data: bytes) -> bytes:
    return data


def many(data: bytes) -> Iterator[bytes]:
    yield data


class Slow:
    async def __call__(self, data: bytes) -> bytes:
        return data


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A module of the user's that has whatever is put in it."""
    made = ModuleType("mine")
    monkeypatch.setitem(sys.modules, "mine", made)
    return made


@pytest.mark.parametrize(
    ("hook", "expected"),
    [
        (bare, b"bare x"),
        (whole, b"whole 1 s x"),
        (by_place, b"whole 1 s x"),
        (only_stream, b"s x"),
        (only_binary, b"1 x"),
        (anything, b"whole 1 s x"),
        (Callee(), b"callee x"),
        (partial(whole, stream="t"), b"whole 1 s x"),
        (lambda data: data * 2, b"xx"),
        (bytes.upper, b"X"),
    ],
)
def test_a_decode_hook_is_called_with_what_it_takes(module: ModuleType, hook: Any, expected: bytes) -> None:
    module.decode = hook  # type: ignore[attr-defined]
    assert load_hook("mine:decode", ())(b"x", binary=True, stream="s") == expected


def test_one_that_takes_everything_is_called_without_a_step_between(module: ModuleType) -> None:
    module.decode = whole  # type: ignore[attr-defined]
    assert load_hook("mine:decode", ()) is whole


def test_a_function_in_a_class_can_be_named() -> None:
    assert load_hook(f"{__name__}:Hooks.static", ())(b"x", binary=False, stream=None) == b"static x"


@pytest.mark.parametrize("hook", [zlib.decompress, len, dict])
def test_functions_written_in_c_take_the_data_alone(hook: Callable[..., Any]) -> None:
    assert keywords_of("decode", hook) == ()


@pytest.mark.parametrize(
    ("key", "hook", "cause"),
    [
        ("decode", nothing, "it takes ()"),
        ("decode", needs_two, "it takes (payload: 'bytes', kind: 'int')"),
        ("decode", only_by_name, "it takes (*, data: 'bytes')"),
        ("decode", slow, "it is a coroutine function"),
        ("decode", partial(slow), "it is a coroutine function"),
        ("decode", Slow(), "it is a coroutine function"),
        ("decode", many, "it is a generator function"),
        ("hooks.decode", whole, "it takes (data: 'bytes', *, binary: 'bool'"),
        ("hooks.sign", nothing, "it takes ()"),
        ("hooks.before_connect", needs_two, "it takes (payload"),
        ("hooks.renew", slow, "it is a coroutine function"),
    ],
)
def test_a_function_that_can_not_be_called_is_refused_with_the_signature(
    module: ModuleType, key: str, hook: Any, cause: str
) -> None:
    module.hook = hook  # type: ignore[attr-defined]
    with pytest.raises(HookError) as caught:
        load_function("mine:hook", (), key)
    assert str(caught.value).startswith(f"{key} = 'mine:hook' can't be called: {cause}")
    assert f"`def {SIGNATURES[key]}`" in str(caught.value)


def test_the_signatures_are_documented() -> None:
    pages = [ROOT / "ops/docs/GUIDE.md", ROOT / "ops/docs/REFERENCE.md"]
    for page in pages:
        text = " ".join(page.read_text("utf-8").replace("\\|", "|").split())
        assert SIGNATURES["decode"].partition(" -> ")[0] in text, page
    for signature in SIGNATURES.values():
        assert signature in " ".join((documented.__doc__ or "").split())
    assert SIGNATURES["hooks.decode"] in (ROOT / "worker/dialects/README.md").read_text("utf-8")


GOOD_AND_BAD = "def good(data): return data\ndef bad(payload, kind): return payload\nnumber = 5\n"


def problems_of(folder: Path, hooks: dict[str, str], modules: dict[str, str], *, timeout: float = TIMEOUT) -> dict[str, str]:
    """What the check says of endpoints with these settings, by their names, and with these modules beside the file."""
    for name, source in modules.items():
        (folder / f"{name}.py").write_text(source)
    config = folder / "feeds.toml"
    config.write_text("".join(f'[endpoints.{name}]\nurl = "ws://h"\n{settings}\n' for name, settings in hooks.items()))
    return {problem.path: problem.message for problem in hook_problems(load(config), timeout)}


def test_the_check_names_every_hook_that_is_none(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    dialect = (ROOT / "tests/support/dialects/zorblax.toml").read_text("utf-8")
    (tmp_path / "dialects").mkdir()
    (tmp_path / "dialects/zorblax.toml").write_text(f'{dialect}\n[hooks]\nbefore_connect = "beside_it:bad"\n')
    (tmp_path / "dialects/beside_it.py").write_text(GOOD_AND_BAD)
    found = problems_of(
        tmp_path,
        {
            "a": 'decode = "mine:good"',
            "b": 'decode = "mine:bad"',
            "c": 'decode = "no_such_module:f"',
            "d": 'decode = "leaves:f"',
            "e": 'hooks.before_connect = "mine:bad"',
            "f": 'dialect = "dialects/zorblax.toml"',
            "g": 'dialect = "dialects/zorblax.toml"\nhooks.before_connect = "mine:good"',
            "h": 'dialect = "kucoin"',
            "i": 'decode = "mine:god"',
            "j": 'decode = "mine:number"',
            "k": 'decode = "json:load.nothing"',
            "l": 'decode = "needs:f"',
            "m": 'decode = "fails:f"',
            "n": 'decode = "wrong:f"',
        },
        {
            "mine": GOOD_AND_BAD,
            "leaves": "import sys\nprint('noise')\nsys.exit(3)\n",
            "needs": "import json\nimport not_installed\n",
            "fails": "\n\n1 / 0\n",
            "wrong": "def f(:\n",
        },
    )
    assert list(found) == [
        "endpoints.b.decode", "endpoints.c.decode", "endpoints.d.decode", "endpoints.e.hooks.before_connect",
        "endpoints.f.hooks.before_connect", *(f"endpoints.{name}.decode" for name in "ijklmn"),
    ]  # fmt: skip
    assert "it takes (payload, kind)" in found["endpoints.b.decode"]
    assert "there is no module 'no_such_module'; modules of hooks are searched on sys.path, then" in found["endpoints.c.decode"]
    assert "its module calls sys.exit(3)" in found["endpoints.d.decode"]
    assert f"mine ({tmp_path}/mine.py) has no 'god'; did you mean 'good'?" in found["endpoints.i.decode"]
    assert "is not a function but of type int" in found["endpoints.j.decode"]
    assert "has no 'load.nothing'" in found["endpoints.k.decode"]
    assert f"No module named 'not_installed' ({tmp_path}/needs.py line 2)" in found["endpoints.l.decode"]
    assert f"ZeroDivisionError: division by zero ({tmp_path}/fails.py line 3)" in found["endpoints.m.decode"]
    assert "SyntaxError: invalid syntax (wrong.py, line 1)" in found["endpoints.n.decode"]
    printed = capfd.readouterr()
    assert (printed.out, printed.err) == ("", "noise\n")


def test_the_check_names_the_class_of_a_sink_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "own_sinks.py").write_text("class Good: ...\nnumber = 5\n")
    kinds = ["own_sinks:Good", "own_sinks:Goood", "own_sinks:number", "no_such_module:Sink"]
    tables = "".join(f'[[sink]]\nname = "s{index}"\nkind = "{kind}"\n' for index, kind in enumerate(kinds))
    config = tmp_path / "feeds.toml"
    config.write_text(f'[endpoints.a]\nurl = "ws://h"\n[journal]\npath = "j"\n{tables}')
    found = {problem.path: problem.message for problem in hook_problems(load(config))}
    assert list(found) == [f"sink[{index}].kind" for index in (1, 2, 3)]
    assert "has no 'Goood'; did you mean 'Good'?" in found["sink[1].kind"]
    assert "is not a class but of type int" in found["sink[2].kind"]
    assert "there is no module 'no_such_module'; the module of a sink is searched on sys.path" in found["sink[3].kind"]


@pytest.mark.slow
def test_a_module_that_ends_or_blocks_the_process_of_the_check_does_not_hide_the_others(tmp_path: Path) -> None:
    found = problems_of(
        tmp_path,
        {
            "a": 'decode = "ends:f"',
            "b": 'decode = "dies:f"',
            "c": 'decode = "blocks:f"',
            "d": 'decode = "mine:bad"',
            "e": 'decode = "mine:good"',
        },
        {
            "ends": "import os\nos._exit(7)\n",
            "dies": "import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)\n",
            "blocks": "import threading\nthreading.Event().wait()\n",
            "mine": GOOD_AND_BAD,
        },
        timeout=2.0,
    )
    assert list(found) == [f"endpoints.{name}.decode" for name in "abcd"]
    assert "its module ended the process with exit code 7" in found["endpoints.a.decode"]
    assert "its module ended the process by SIGSEGV" in found["endpoints.b.decode"]
    assert "is not imported after 2 s" in found["endpoints.c.decode"]
    assert "it takes (payload, kind)" in found["endpoints.d.decode"]


@pytest.mark.parametrize("line", ["sys.stdout.close()", "sys.stdout = None"])
def test_a_module_that_takes_standard_output_away_is_checked_all_the_same(tmp_path: Path, line: str) -> None:
    hooks = {"a": 'decode = "quiet:f"', "b": 'decode = "quiet:nothing"'}
    found = problems_of(tmp_path, hooks, {"quiet": f"import sys\n{line}\ndef f(data): return data\n"})
    assert list(found) == ["endpoints.b.decode"]


def test_the_check_runs_user_code_only_in_a_child_process(tmp_path: Path) -> None:
    problems_of(tmp_path, {"a": 'decode = "only_in_the_child:f"'}, {"only_in_the_child": "def f(data): return data\n"})
    assert "only_in_the_child" not in sys.modules


def test_a_module_of_an_installed_name_is_not_taken_from_the_folder(tmp_path: Path) -> None:
    """As in an owner: what lies there may not take the place of a module that others need."""
    found = problems_of(tmp_path, {"a": 'decode = "queue:mine"'}, {"queue": "def mine(data): return data\n"})
    assert "queue.py) has no 'mine'" in found["endpoints.a.decode"]
    assert str(tmp_path) not in found["endpoints.a.decode"]


def test_without_hooks_no_process_is_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("subprocess.Popen", None)
    assert problems_of(tmp_path, {"a": 'dialect = "kucoin"'}, {}) == {}
