"""An endpoint's settings as a user meets them: what `help` says, what `repr` shows, what a type checker knows."""

from __future__ import annotations

import ast
import copy
import inspect
import pickle
import pydoc
from collections.abc import Callable
from dataclasses import MISSING, Field, fields, replace
from typing import Any, get_type_hints

import pytest

from wsadapter import Endpoint, Heartbeat, Restart, Tls, Watchdog
from wsadapter.config import checked
from wsadapter.contract import endpoint, tables
from wsadapter.contract.endpoint import RATIOS, SECTIONS, SIZES
from wsadapter.contract.masking import MASK, mask_setting
from wsadapter.contract.meanings import meanings_of

pytestmark = pytest.mark.version

SECRET = "hunter2"


def default_of(f: Field[Any]) -> Any:
    return f.default if f.default is not MISSING else {}


# -- help ----------------------------------------------------------------------------------------------------------------


def entries(text: str) -> dict[str, tuple[str, str]]:
    """The fields that a docstring lists, dotted, with the first line of each and its meaning."""
    found: dict[str, tuple[str, str]] = {}
    section = last = ""
    for line in text.split('"64MiB".\n', 1)[1].splitlines():
        depth = (len(line) - len(line.lstrip())) // 4
        name, colon, _ = line.strip().partition(": ")
        if depth == 0 and colon:
            section = last = name
            found[last] = (line.strip(), "")
        elif depth == 1 and colon and section in SECTIONS and name in SECTIONS[section].__dataclass_fields__:
            last = f"{section}.{name}"
            found[last] = (line.strip(), "")
        elif line.strip():
            found[last] = (found[last][0], f"{found[last][1]} {line.strip()}".strip())
    return found


def test_help_lists_every_field_with_default_unit_and_meaning() -> None:
    found = entries(inspect.getdoc(Endpoint) or "")
    expected = {f.name: (f, Endpoint) for f in fields(Endpoint)}
    for name, section in SECTIONS.items():
        expected |= {f"{name}.{f.name}": (f, section) for f in fields(section)}
    assert set(found) == set(expected)
    meanings = {cls: meanings_of(cls) for cls in (Endpoint, *SECTIONS.values())}
    for key, (f, cls) in expected.items():
        line, meaning = found[key]
        assert meaning == meanings[cls][f.name], key
        assert key == "name" or f" = {default_of(f)!r}" in line, key
        hint = get_type_hints(cls)[f.name]
        unit = "# bytes" if key in SIZES else "# seconds" if hint is float and key not in RATIOS else ""
        assert line.endswith(unit) if unit else "#" not in line, key


def test_the_choices_of_a_setting_are_listed() -> None:
    assert "type: 'permanent' | 'transient' | 'temporary' = 'permanent'" in (inspect.getdoc(Restart) or "")


@pytest.mark.parametrize("cls", SECTIONS.values())
def test_each_section_explains_itself(cls: type[Any]) -> None:
    text = pydoc.plain(pydoc.render_doc(cls))
    for name, meaning in meanings_of(cls).items():
        assert f"{name}: " in text
        assert " ".join(meaning.split()[:3]) in " ".join(text.replace("|", " ").split())


def test_without_the_source_the_docstring_is_the_short_one(monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(_: object) -> str:
        raise OSError("could not get source code")

    monkeypatch.setattr(inspect, "getsource", gone)
    assert (Restart.__doc__ or "").startswith("When and how fast")
    assert "intensity: int" not in (Restart.__doc__ or "")


def test_reading_settings_makes_no_docstring(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inspect, "getsource", lambda _: pytest.fail("the source was read"))
    assert repr(checked(Endpoint("a", url="ws://h"))) == "Endpoint('a', url='ws://h')"


# -- repr ----------------------------------------------------------------------------------------------------------------


def test_repr_shows_what_differs_from_the_defaults() -> None:
    one = Endpoint("a", url=("ws://a", "ws://b"), restart={"intensity": 3}, subscribe=[f"s{n}" for n in range(1000)])
    assert repr(one) == (
        "Endpoint('a', url=['ws://a', 'ws://b'], subscribe=['s0', 's1', 's2', 's3', ...], restart=Restart(intensity=3))"
    )
    assert repr(Watchdog()) == "Watchdog()"


@pytest.mark.parametrize(
    "settings",
    [
        {"url": f"wss://me:{SECRET}@h/?token={SECRET}"},
        {"url": ["wss://h", f"wss://h/?token={SECRET}"]},
        {"headers": {"Authorization": SECRET}},
        {"login": {"key": SECRET}},
        {"proxy": f"http://me:{SECRET}@h:1"},
        {"send_on_up": [f'{{"key":"{SECRET}"}}']},
        {"tls": {"key_password": SECRET}},
        {"heartbeat": {"kind": "text", "payload": SECRET}},
        {"login": [SECRET]},  # of the wrong type: it is told when the endpoint is added
        {"login": SECRET},
        {"send_on_up": SECRET},
        {"headers": {"X": [SECRET]}},
        {"url": {"a": SECRET}},
    ],
)
def test_repr_shows_no_secret(settings: dict[str, Any]) -> None:
    for shown in (repr(Endpoint("a", **settings)), str([Endpoint("a", **settings)])):
        assert SECRET not in shown
        assert MASK in shown


def test_a_section_alone_shows_no_secret() -> None:
    assert SECRET not in repr(Tls(key_password=SECRET)) + repr(Heartbeat(payload=SECRET))


def test_a_reference_is_no_secret() -> None:
    assert repr(Endpoint("a", login={"key": "${KEY}"})) == "Endpoint('a', login={'key': '${KEY}'})"
    assert mask_setting("login", {"key": "pre${KEY}"}) == {"key": MASK}


# -- types ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SECTIONS)
def test_the_table_of_a_section_has_its_keys_and_types(name: str) -> None:
    table: Any = getattr(tables, f"{SECTIONS[name].__name__}Table")
    assert table.__total__ is False
    expected: dict[str, Any] = {}
    for key, hint in get_type_hints(SECTIONS[name]).items():
        dotted = f"{name}.{key}"
        quantity = tables.Size if dotted in SIZES else tables.Duration if hint is float and dotted not in RATIOS else None
        expected[key] = quantity or (tables.Sequence[str] if hint == tuple[str, ...] else hint)
    assert get_type_hints(table) == expected


def test_the_table_of_hooks_has_the_known_ones() -> None:
    from wsadapter.config.checks import _HOOKS

    assert set(tables.HooksTable.__annotations__) == set(_HOOKS)


def test_the_values_of_a_table_are_converted() -> None:
    one = checked(Endpoint("a", url="ws://h", restart={"period": "1m"}, watchdog={"memory": "64MiB"}, max_message="1KiB"))
    assert (one.restart.period, one.watchdog.memory, one.max_message) == (60.0, 64 * 1024 * 1024, 1024)


def test_the_signature_that_type_checkers_see_is_that_of_the_fields() -> None:
    (tree,) = ast.parse(inspect.getsource(Endpoint)).body
    (typed,) = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name == "__init__"]
    assert [argument.arg for argument in typed.args.args] == ["self", "name"]
    seen = {
        argument.arg: (ast.unparse(argument.annotation or ast.Constant(None)), ast.unparse(default or ast.Constant(None)))
        for argument, default in zip(typed.args.kwonlyargs, typed.args.kw_defaults, strict=True)
    }
    assert list(seen) == [f.name for f in fields(Endpoint) if f.name != "name"]
    written = {
        node.target.id: ast.unparse(node.annotation)
        for node in tree.body  # type: ignore[attr-defined]
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
    }
    for f in fields(Endpoint):
        if f.name == "name":
            continue
        annotation, default = seen[f.name]
        assert eval(default, vars(endpoint)) == default_of(f), f.name
        if f.name in SECTIONS:
            assert annotation == f"{written[f.name]} | {written[f.name]}Table"
        elif f.name == "hooks":
            assert annotation == f"{written[f.name]} | HooksTable"
        else:
            assert annotation == ("Size" if f.name in SIZES else written[f.name])


def test_a_section_keeps_which_settings_were_written_even_if_they_have_their_default() -> None:
    written = Watchdog(silence=0.0, memory=5)
    assert written.written == {"silence", "memory"}
    assert repr(written) == "Watchdog(silence=0.0, memory=5)"
    assert Endpoint("a", watchdog={"silence": 0}).watchdog.written == {"silence"}
    assert Watchdog().written == frozenset()


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda section: pickle.loads(pickle.dumps(section)), replace])
def test_a_copy_of_a_section_is_equal_and_nobody_wrote_its_settings(copied: Callable[[Watchdog], Watchdog]) -> None:
    """`replace` passes all settings: those that have their default are not written by that."""
    section = copied(Watchdog(silence=0.0, memory=5))
    assert section == Watchdog(memory=5)
    assert section.written == frozenset()


def test_values_of_a_dialect_are_not_written_by_the_user() -> None:
    section = Watchdog(silence=0.0).with_values({"max_age": 3.0})
    assert (section.max_age, section.written) == (3.0, {"silence"})
