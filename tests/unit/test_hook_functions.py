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

from wsadapter.config import parse
from wsadapter.config.hooks import hook_problems
from wsadapter.contract.hooks import SIGNATURES, HookError, keywords_of, load_function
from wsadapter.worker import hooks as documented
from wsadapter.worker.decode import load_hook

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
    pages = [ROOT / "README.md", ROOT / "ops/REFERENCE.md"]
    for page in pages:
        text = " ".join(page.read_text().replace("\\|", "|").split())
        assert SIGNATURES["decode"].partition(" -> ")[0] in text, page
    for signature in SIGNATURES.values():
        assert signature in " ".join((documented.__doc__ or "").split())
    assert SIGNATURES["hooks.decode"] in (ROOT / "worker/dialects/README.md").read_text()


def test_the_check_names_every_hook_that_is_none(
    module: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    module.good, module.bad = bare, needs_two  # type: ignore[attr-defined]
    dialect = ROOT / "tests/support/dialects/zorblax.toml"
    (tmp_path / "zorblax.toml").write_text(dialect.read_text() + '\n[hooks]\ndecode = "mine:bad"\n')
    (tmp_path / "leaves.py").write_text("import sys\nprint('noise')\nsys.exit(3)\n")
    sys.path.insert(0, str(tmp_path))
    try:
        settings = parse(
            '[endpoints.a]\nurl = "ws://h"\ndecode = "mine:good"\n[endpoints.b]\nurl = "ws://h"\ndecode = "mine:bad"\n'
            '[endpoints.c]\nurl = "ws://h"\ndecode = "no_such_module:f"\n[endpoints.d]\nurl = "ws://h"\ndecode = "leaves:f"\n'
            '[endpoints.e]\nurl = "ws://h"\nhooks.before_connect = "mine:bad"\n'
            f'[endpoints.f]\nurl = "ws://h"\ndialect = "{tmp_path}/zorblax.toml"\n'
            f'[endpoints.g]\nurl = "ws://h"\ndialect = "{tmp_path}/zorblax.toml"\nhooks.decode = "mine:good"\n'
            '[endpoints.h]\ndialect = "kucoin"\n',
            base_dir=tmp_path,
        )
        found = {problem.path: problem.message for problem in hook_problems(settings)}
    finally:
        sys.path.remove(str(tmp_path))
    assert list(found) == [
        "endpoints.b.decode", "endpoints.c.decode", "endpoints.d.decode", "endpoints.e.hooks.before_connect",
        "endpoints.f.hooks.decode",
    ]  # fmt: skip
    assert "it takes (payload: 'bytes', kind: 'int')" in found["endpoints.b.decode"]
    assert "No module named 'no_such_module'" in found["endpoints.c.decode"]
    assert "its module calls sys.exit(3)" in found["endpoints.d.decode"]
    assert capsys.readouterr().out == ""
