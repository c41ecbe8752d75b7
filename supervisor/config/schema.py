"""Every setting with its type and default, read from the dataclasses, and the conversion of a written value to that type.

`KEYS` are dotted: "url", "timeouts.connect". Documentation, unknown-key hints, conversion and `--show` all go by
these tables, so a new field of a dataclass is a new setting with nothing else to touch.
"""

from __future__ import annotations

import difflib
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, Field, dataclass, fields
from types import UnionType
from typing import Any, Final, Literal, Union, get_args, get_origin, get_type_hints

import msgspec

from wsadapter.config.quantities import DURATION, SIZE, duration, size
from wsadapter.config.settings import ClusterSettings, ExporterSettings, JournalSettings, OutputSettings, Settings, SinkSettings
from wsadapter.contract.endpoint import RATIOS, SECTIONS, SIZES, Endpoint, Restart, to_plain
from wsadapter.contract.masking import SECRET

_OF_SUPERVISOR: Final = (
    "name", "runtime_dir", "state_dir", "quarantine_max_bytes", "quarantine_max_age", "strategy", "spares", "start_method",
    "busy_poll",
)  # fmt: skip
_LONGEST_SHOWN: Final = 60
_KINDS: Final = {str: "a string", bool: "true or false", int: "a number", float: "a number", type(None): "nothing"}


@dataclass(frozen=True, slots=True)
class Setting:
    """One key of the configuration."""

    key: str
    hint: Any
    default: Any
    quantity: Literal["duration", "size", ""]
    secret: bool
    """Whether a text about it must not show its value."""

    @property
    def expected(self) -> str:
        """What its value may be, in words."""
        return {"duration": DURATION, "size": SIZE, "": _in_words(self.hint)}[self.quantity]


class Mismatch(ValueError):
    """A value is not of its setting's type."""

    def __init__(self, *found: tuple[str, str]) -> None:
        super().__init__("; ".join(message for _, message in found))
        self.found = found
        """(place, message): where in the value ("[2]", ".name"; "" is all of it), and what was expected there."""


def convert(setting: Setting, value: Any) -> Any:
    """`value` as the setting's type: durations in seconds, sizes in bytes, lists as tuples. Raises `Mismatch`."""
    if setting.quantity:
        try:
            return duration(value) if setting.quantity == "duration" else size(value)
        except ValueError:
            raise Mismatch(("", f"expected {setting.expected}, got {got(value, setting)}")) from None
    plain = to_plain(value)
    try:
        converted = msgspec.convert(plain, setting.hint)
    except (msgspec.ValidationError, UnicodeEncodeError):
        raise Mismatch(*_mismatches(setting, plain)) from None
    if not _is_unicode(converted):
        raise Mismatch(("", "expected text that is valid Unicode; it holds a lone surrogate"))
    if isinstance(converted, float) and not math.isfinite(converted):
        raise Mismatch(("", f"expected {setting.expected}, got {converted}"))
    return converted


def _mismatches(setting: Setting, value: Any) -> list[tuple[str, str]]:
    """Every item of a list or a table that is wrong: msgspec stops at the first."""
    item_type = _item_type(setting.hint, type(value))
    if item_type is None:
        single = _item_type(setting.hint, list)
        remedy = "; write it in brackets: [...]" if single is not None and _fits(value, single) else ""
        return [("", f"expected {setting.expected}, got {got(value, setting)}{remedy}")]
    items = [(f".{name}", item) for name, item in value.items()] if isinstance(value, dict) else enumerate(value)
    return [
        (place if isinstance(place, str) else f"[{place}]", f"expected {_in_words(item_type)}, got {got(item, setting)}")
        for place, item in items
        if not _fits(item, item_type)
    ]


def _fits(value: Any, hint: Any) -> bool:
    try:
        msgspec.convert(value, hint)
    except (msgspec.ValidationError, UnicodeEncodeError):
        return False
    return True


def _is_unicode(value: Any) -> bool:
    """Python strings may hold lone surrogates (from file names and the environment); JSON must not."""
    if isinstance(value, str):
        return value.isascii() or not any("\ud800" <= char <= "\udfff" for char in value)
    if isinstance(value, dict):
        return all(_is_unicode(name) and _is_unicode(item) for name, item in value.items())
    return all(_is_unicode(item) for item in value) if isinstance(value, list | tuple) else True


def _item_type(hint: Any, container: type[Any]) -> Any:
    """What the items of a list or dict are, where `hint` allows one; otherwise None."""
    containers: dict[type[Any], type[Any]] = {list: tuple, dict: dict}
    wanted = containers.get(container)
    for arm in (hint, *get_args(hint)):
        if wanted is not None and get_origin(arm) is wanted:
            return get_args(arm)[1 if wanted is dict else 0]
    return None


def _in_words(hint: Any) -> str:
    if get_origin(hint) is Literal:
        choices = [json.dumps(choice) for choice in get_args(hint)]
        return choices[0] if len(choices) == 1 else "one of " + ", ".join(choices)
    if get_origin(hint) in (Union, UnionType):
        return " or ".join(_in_words(arm) for arm in get_args(hint) if arm is not type(None))
    if get_origin(hint) is tuple:
        item = _in_words(get_args(hint)[0]).removeprefix("a ")
        return "a list of " + {"string": "strings", "string or a table": "strings or tables"}.get(item, item)
    if get_origin(hint) is dict:
        return "a table of strings" if get_args(hint)[1] is str else "a table"
    return {str: "a string", bool: "true or false", int: "a whole number", float: "a number"}.get(hint, "something else")


def got(value: Any, setting: Setting | None = None) -> str:
    """The wrong value as text; of a secret setting only its type."""
    if isinstance(value, Mapping):
        return "a table"
    if isinstance(value, list | tuple):
        return "a list"
    hidden = setting is not None and setting.secret
    if value is None or hidden or not isinstance(value, str | bool | int | float):
        return _KINDS.get(type(value), f"a value of type {type(value).__name__}")
    shown = json.dumps(value, ensure_ascii=False).encode("utf-8", "replace").decode()
    return shown if len(shown) <= _LONGEST_SHOWN else f'{shown[:_LONGEST_SHOWN]}..."'


def nearest(word: str, known: Iterable[str]) -> str:
    """The one of `known` that was probably meant; "": none is similar."""
    return next(iter(difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)), "")


def unknown_key(word: str, known: Iterable[str]) -> str:
    """The text for a key that does not exist."""
    names = list(dict.fromkeys(known))
    near = nearest(word, names)
    return f'unknown key; did you mean "{near}"?' if near else f"unknown key; known: {', '.join(sorted(names))}"


def _hint(hint: Any) -> Any:
    """A dataclass's annotation as msgspec converts to it: sequences as tuples, mappings as dicts."""
    if hint is Any or get_origin(hint) is Literal or isinstance(hint, type):
        return hint
    arms = get_args(hint)
    if get_origin(hint) in (Union, UnionType):
        return Union[tuple(_hint(arm) for arm in arms)]  # noqa: UP007  built at run time
    if get_origin(hint) is tuple:
        return hint
    if len(arms) == 2:
        return dict[arms[0], _hint(arms[1])]  # type: ignore[valid-type,misc]
    return tuple[_hint(arms[0]), ...]  # type: ignore[misc]


def _settings_of(cls: type[Any], prefix: str = "", only: Iterable[str] | None = None) -> dict[str, Setting]:
    hints = get_type_hints(cls)
    wanted = [f for f in fields(cls) if only is None or f.name in only]
    return {prefix + f.name: _setting(prefix + f.name, hints[f.name], f) for f in wanted}


def _setting(key: str, hint: Any, field: Field[Any]) -> Setting:
    default = field.default if field.default is not MISSING else {}
    quantity: Literal["duration", "size", ""] = "size" if key in SIZES else ""
    if hint is float and key not in RATIOS:
        quantity = "duration"
    return Setting(key, _hint(hint), default, quantity, key in SECRET)


def _of_endpoint() -> dict[str, Setting]:
    top = [f.name for f in fields(Endpoint) if f.name not in SECTIONS and f.name != "name"]
    found = _settings_of(Endpoint, only=top)
    for name, section in SECTIONS.items():
        found |= _settings_of(section, f"{name}.")
    return found


ENDPOINT: Final = _of_endpoint()
"""The keys of `[endpoints.NAME]` and of `[defaults]`."""
SUPERVISOR: Final = _settings_of(Settings, only=_OF_SUPERVISOR)
"""The keys of `[supervisor]`."""
OUTPUT: Final = _settings_of(OutputSettings)
"""The keys of `[output]`."""
JOURNAL: Final = _settings_of(JournalSettings)
"""The keys of `[journal]`."""
SINK_RESTART: Final = tuple(f.name for f in fields(Restart) if f.name not in ("type", "on_exceeded"))
"""The keys of `[sink.restart]`: a sink is always started again, and nothing else follows from its end."""
SINK: Final = {key: setting for key, setting in _settings_of(SinkSettings).items() if key != "restart"} | _settings_of(
    Restart, "restart.", SINK_RESTART
)
"""The keys of `[[sink]]`, those of `[sink.restart]` with their table."""
CLUSTER: Final = _settings_of(ClusterSettings)
"""The keys of `[cluster]`."""
EXPORTER: Final = _settings_of(ExporterSettings)
"""The keys of `[exporter]`."""


def flatten(endpoint: Endpoint) -> dict[str, Any]:
    """An endpoint's values by their dotted keys, as they are."""
    return {key: reach(endpoint, key) for key in ENDPOINT}


def reach(settings: Any, key: str) -> Any:
    """The value under a dotted key."""
    section, _, leaf = key.rpartition(".")
    return getattr(getattr(settings, section) if section else settings, leaf)


def as_table(endpoint: Endpoint) -> dict[str, Any]:
    """The settings of an endpoint made in Python that are written or differ from the defaults, as the table of a TOML file.

    Values of a wrong type are kept unchanged.
    """
    table: dict[str, Any] = {}
    for f in fields(endpoint):
        value = getattr(endpoint, f.name)
        if f.name in SECTIONS and isinstance(value, SECTIONS[f.name]):
            own = {leaf.name: getattr(value, leaf.name) for leaf in fields(value)}
            default = {leaf: ENDPOINT[f"{f.name}.{leaf}"].default for leaf in own}
            table[f.name] = {leaf: item for leaf, item in own.items() if leaf in value.written or item != default[leaf]}
        elif f.name != "name" and (f.name in SECTIONS or value != ENDPOINT[f.name].default):
            table[f.name] = value
    return table


def assemble(name: str, values: Mapping[str, Any]) -> Endpoint:
    """The reverse of `flatten`; a setting that is not in `values` has its default."""
    top = {key: value for key, value in values.items() if "." not in key}
    for section, cls in SECTIONS.items():
        own = {k.removeprefix(f"{section}."): v for k, v in values.items() if k.startswith(f"{section}.")}
        top[section] = cls(**own)
    return Endpoint(name, **top)
