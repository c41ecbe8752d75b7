"""`${NAME}` and `${file:PATH}` in settings: found, checked, and filled in only when an owner connects.

    ${NAME}        the environment variable NAME
    ${file:PATH}   the content of a file, less one final newline (and less the mark that some editors put first, U+FEFF)
    $${            a literal ${

Errors name the reference, never a value, because the values are secrets.
"""

from __future__ import annotations

import logging
import os
import re
from codecs import BOM_UTF8
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, NamedTuple

from wsadapter.config.files import read_file
from wsadapter.contract.endpoint import Endpoint
from wsadapter.contract.errors import ConfigError, Problem
from wsadapter.contract.masking import SECRET, Secrets, host_of

logger = logging.getLogger("wsadapter.supervisor")

EXPANDED: Final = (
    "url", "subscribe", "send_on_up", "headers", "subprotocols", "proxy", "bind", "login",
    "tls.ca_file", "tls.cert_file", "tls.key_file", "tls.key_password", "tls.server_name", "tls.ciphers", "tls.pin_sha256",
    "heartbeat.payload", "heartbeat.reply",
)  # fmt: skip
"""The settings of an endpoint in which references are filled in."""

_IN_THE_HANDSHAKE: Final = frozenset({"url", "headers", "subprotocols", "proxy", "bind", "tls.server_name"})
_LARGEST_FILE: Final = 1024 * 1024
_PATIENCE: Final = 0.5
"""Seconds in which a file must be read: the supervisor waits for it when an owner is to connect."""
_TOKEN: Final = re.compile(r"\$\$\{|\$\{([^}]*)(\}?)")
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_CONTROL: Final = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")


class Reference(NamedTuple):
    """One `${...}`, as written."""

    text: str
    """With its braces: "${file:key.pem}"."""
    name: str
    """Of the environment variable; empty for a file."""
    path: str
    """Of the file; empty for a variable."""


class UnresolvedReference(ConfigError):
    """A reference that is malformed, or whose variable or file does not exist. Its text never contains a value."""


def references(value: str) -> list[Reference]:
    """The references in `value`, in order. Raises `UnresolvedReference` for one that is malformed."""
    return [_parse(found) for found in _TOKEN.finditer(value) if found[0] != "$${"]


def expand(value: str, *, environ: Mapping[str, str] = os.environ, base_dir: str | Path = "") -> str:
    """`value` with its references filled in; the inserted texts are not expanded again.

    Relative paths start at `base_dir`, by default the working directory. Raises `UnresolvedReference`. Thread-safe.
    """

    def fill(found: re.Match[str]) -> str:
        return "${" if found[0] == "$${" else _resolve(_parse(found), environ, Path(base_dir))

    return _TOKEN.sub(fill, value) if "${" in value else value


def anchor(value: str, base_dir: Path) -> str:
    """`value` with the relative paths of its `${file:...}` made absolute: it means the same in every working directory.

    A malformed reference stays as it is: what expands it reports it with its place.
    """

    def absolute(found: re.Match[str]) -> str:
        kind, _, path = (found[1] or "").partition(":")
        if kind != "file" or not path or not found[2]:
            return found[0]
        return f"${{file:{base_dir.absolute() / path}}}"

    return _TOKEN.sub(absolute, value)


def expand_endpoint(endpoint: Endpoint, *, environ: Mapping[str, str] = os.environ, base_dir: str | Path = "") -> Endpoint:
    """`endpoint` with every reference filled in, the values read at this moment.

    Raises `UnresolvedReference` with everything that is missing, and for a value that would break out of its line in the
    handshake (RFC 9110 §5.5: no CR, LF or NUL in a field value).
    """
    problems: list[Problem] = []
    changes: dict[str, Any] = {}
    sections: dict[str, dict[str, Any]] = {}
    for key in EXPANDED:
        section, _, leaf = key.rpartition(".")
        holder = getattr(endpoint, section) if section else endpoint
        value, found = expand_value(key, getattr(holder, leaf), environ=environ, base_dir=base_dir)
        problems += [Problem(f"endpoints.{endpoint.name}.{problem.path}", problem.message) for problem in found]
        (sections.setdefault(section, {}) if section else changes)[leaf] = value
    if problems:
        raise UnresolvedReference(problems)
    changes |= {name: replace(getattr(endpoint, name), **values) for name, values in sections.items()}
    return replace(endpoint, **changes)


def secrets_of(endpoint: Endpoint, *, environ: Mapping[str, str] = os.environ, base_dir: str | Path = "") -> Secrets:
    """The parts of the settings that no text may show: the values of references in settings that may be secrets, and the user
    info and the values of the query of filled-in URLs. A value that can't be read is left out, because it was never sent.

    The host and the port of a URL are no secrets, also if they come from the environment: without them nobody could read in a
    log where a connect failed."""
    found: list[str] = []

    def look(text: str, _path: str) -> str:
        try:
            given = [_resolve(reference, environ, Path(base_dir)) for reference in _apart_from_host(references(text), text)]
            found.extend([*given, expand(text, environ=environ, base_dir=base_dir)] if "://" in text else given)
        except UnresolvedReference:
            logger.debug("%s: a reference can't be read", endpoint.name)
        return text

    for key in SECRET:
        section, _, leaf = key.rpartition(".")
        _each_string(getattr(getattr(endpoint, section) if section else endpoint, leaf), key, look)
    return Secrets(found)


def _apart_from_host(given: list[Reference], text: str) -> list[Reference]:
    """The references of a text that are not in the host or the port of a URL."""
    if "://" not in text:
        return given
    numbers = iter(range(len(given) + 1))
    # A reference may hold "/", as in ${file:/path}: a number between two NULs stands for each while the host is looked for.
    plain = _TOKEN.sub(lambda found: found[0] if found[0] == "$${" else f"\0{next(numbers)}\0", text)
    in_host = {int(number) for number in re.findall("\0(\\d+)\0", host_of(plain))}
    return [reference for number, reference in enumerate(given) if number not in in_host]


def expand_value(
    key: str, value: Any, *, environ: Mapping[str, str] = os.environ, base_dir: str | Path = ""
) -> tuple[Any, list[Problem]]:
    """The value of the setting `key`, including lists and tables, filled in; and the problems, each with its path."""
    problems: list[Problem] = []

    def fill(text: str, path: str) -> str:
        try:
            filled = expand(text, environ=environ, base_dir=base_dir)
        except UnresolvedReference as error:
            problems.extend(Problem(path, problem.message) for problem in error.problems)
            return text
        if filled != text and key in _IN_THE_HANDSHAKE and _CONTROL.search(filled):
            shown = " and ".join(reference.text for reference in references(text))
            problems.append(Problem(path, f"the value of {shown} holds a line break or another control character"))
        return filled

    return _each_string(value, key, fill), problems


def places_with_references(key: str, value: Any) -> tuple[set[str], list[Problem]]:
    """The places in the value of the setting `key` at which something would be filled in, and those with a malformed reference.

    Nothing is read: neither a variable nor a file.
    """
    places: set[str] = set()
    problems: list[Problem] = []

    def look(text: str, path: str) -> str:
        try:
            found = references(text)
        except UnresolvedReference as error:
            problems.extend(Problem(path, problem.message) for problem in error.problems)
            found = []
        if found:
            places.add(path)
        return text

    _each_string(value, key, look)
    return places, problems


def _each_string(value: Any, path: str, change: Callable[[str, str], str]) -> Any:
    if isinstance(value, str):
        return change(value, path)
    if isinstance(value, Mapping):
        return {name: _each_string(item, f"{path}.{name}", change) for name, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, bytes):
        items = [_each_string(item, f"{path}[{place}]", change) for place, item in enumerate(value)]
        return tuple(items) if isinstance(value, tuple) else items
    return value


def anchor_value(value: Any, base_dir: Path) -> Any:
    """`anchor` for a setting, lists and tables included."""
    return _each_string(value, "", lambda text, _: anchor(text, base_dir))


def _parse(found: re.Match[str]) -> Reference:
    text, inside, closed = found[0], found[1], found[2]
    if not closed:
        raise _unresolved("a ${ without its }; write $${ for a literal one")
    if inside.startswith("file:") and inside != "file:":
        return Reference(text, "", inside.removeprefix("file:"))
    if not _NAME.fullmatch(inside):
        raise _unresolved(f"{text} is neither ${{NAME}} nor ${{file:PATH}}; write $${{ for a literal ${{")
    return Reference(text, inside, "")


def _resolve(reference: Reference, environ: Mapping[str, str], base_dir: Path) -> str:
    if reference.path:
        return _read(reference, base_dir / reference.path)
    if reference.name not in environ:
        raise _unresolved(f"{reference.text}: the environment variable {reference.name} is not set")
    return environ[reference.name]


def _read(reference: Reference, path: Path) -> str:
    try:
        content = read_file(path, most=_LARGEST_FILE, seconds=_PATIENCE, pipes=False)
    except (OSError, ValueError) as error:  # ValueError: a path with a NUL
        reason = error.strerror if isinstance(error, OSError) else "no path holds a NUL"
        raise _unresolved(f"{reference.text}: the file can't be read: {reason}") from error
    try:
        text = content.removeprefix(BOM_UTF8).decode()
    except UnicodeDecodeError:
        raise _unresolved(f"{reference.text}: the file is not UTF-8 text") from None  # its text would show a byte of the value
    return text.removesuffix("\n").removesuffix("\r") if text.endswith("\r\n") else text.removesuffix("\n")


def _unresolved(message: str) -> UnresolvedReference:
    return UnresolvedReference([Problem("", message)])
