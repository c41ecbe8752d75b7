"""Dialects: TOML files that describe the protocol of an exchange. Loaded and checked here, used in the owner.

The form is documented in worker/dialects/README.md. The owner gets the parsed file as it is, so whatever it relies on
is checked here, all problems at once.
"""

from __future__ import annotations

import tomllib
import zipfile
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit
from zipimport import zipimporter

from wsadapter.config.dialect.check import SECTION_OF, check_dialect
from wsadapter.config.dialect.subscribing import wrong_stream
from wsadapter.config.files import parse_toml, read_file
from wsadapter.config.schema import ENDPOINT, convert, flatten, nearest
from wsadapter.contract.endpoint import Endpoint, Heartbeat, Section
from wsadapter.contract.errors import ConfigError, Problem

Dialect = dict[str, Any]

__all__ = [
    "Dialect", "Dialects", "apply_dialect", "bundled", "check_dialect", "dialect_urls", "is_path", "load_dialect",
    "wrong_stream",
]  # fmt: skip

_LARGEST: Final = 16 * 1024 * 1024
"""Bytes of a dialect's file, at most."""
_PATIENCE: Final = 5.0
"""Seconds in which it must have been read."""
_PRIVATE: Final = {"live": "private", "test": "private_test"}


def bundled() -> dict[str, Path | zipfile.Path]:
    """The dialects that come with wsadapter: name -> file, which is in an archive if wsadapter was imported from one. Found
    without importing the owner's modules."""
    spec = find_spec("wsadapter.worker")  # imports only `wsadapter`
    folders = spec.submodule_search_locations if spec and spec.submodule_search_locations else []
    loader: object = spec.loader if spec else None
    if isinstance(loader, zipimporter):
        archive = loader.archive
        inside = [zipfile.Path(archive, f"{Path(folder).relative_to(archive).as_posix()}/dialects/") for folder in folders]
        files: list[Path | zipfile.Path] = [file for folder in inside if folder.exists() for file in folder.iterdir()]
    else:
        files = [file for folder in folders for file in (Path(folder) / "dialects").iterdir()]
    return {file.stem: file for file in sorted(files, key=lambda file: file.name) if file.suffix == ".toml"}


def is_path(dialect: str) -> bool:
    """Whether it names a file rather than a bundled dialect."""
    return "/" in dialect or "\\" in dialect or dialect.endswith(".toml")


def load_dialect(dialect: str, *, base_dir: str | Path = "") -> Dialect:
    """The parsed TOML of a bundled dialect, or of a file; a relative path starts at `base_dir`.

    Raises `ConfigError` with everything that is wrong with it.
    """
    path = Path(base_dir) / dialect if is_path(dialect) else bundled().get(dialect)
    if path is None:
        near = nearest(dialect, bundled())
        hint = f'did you mean "{near}"?' if near else f"there are {', '.join(bundled())}; a file of your own ends in .toml"
        raise ConfigError([Problem("", f'no dialect is called "{dialect}"; {hint}')])
    data = _parse(path)
    problems = [Problem(where, message) for where, message in check_dialect(data, stem=path.stem)]
    if problems:
        raise ConfigError(problems, source=str(path))
    return data


class Dialects:
    """The dialects of one configuration: each is read and checked once, for any number of endpoints. Not thread-safe."""

    def __init__(self, known: Mapping[str, Dialect] | None = None) -> None:
        """`known`: those that were loaded before, by name or absolute path."""
        self.known = dict(known or {})
        self._wrong: dict[str, ConfigError] = {}

    def load(self, dialect: str) -> Dialect:
        """As `load_dialect`, of a bundled dialect's name or an absolute path. Raises `ConfigError` each time anew."""
        if dialect in self._wrong:
            wrong = self._wrong[dialect]
            raise ConfigError(wrong.problems, source=wrong.source)
        if dialect not in self.known:
            try:
                self.known[dialect] = load_dialect(dialect)
            except ConfigError as error:
                self._wrong[dialect] = error
                raise
        return self.known[dialect]


def _parse(path: Path | zipfile.Path) -> Dialect:
    try:
        data = path.read_bytes() if isinstance(path, zipfile.Path) else read_file(path, most=_LARGEST, seconds=_PATIENCE)
        return parse_toml(data.decode("utf-8-sig"))
    except OSError as error:
        problem = f"the file can't be read: {error.strerror}"
    except UnicodeDecodeError:
        problem = "the file is not UTF-8 text"
    except tomllib.TOMLDecodeError as error:
        problem = f"not valid TOML: {error}"
    raise ConfigError([Problem("", problem)], source=str(path))


def dialect_urls(dialect: Mapping[str, Any], environment: str, *, private: bool = False) -> tuple[str, ...]:
    """The URLs of "live" or "test", in the order to try them; empty: the dialect has none.

    `private`: those for an endpoint that logs in, if the dialect has any; otherwise the public ones.
    """
    urls = dialect["urls"]
    found = (private and urls.get(_PRIVATE[environment])) or urls.get(environment, ())
    return tuple(_listed(found))


def apply_dialect(endpoint: Endpoint, dialect: Mapping[str, Any] | None, *, given: Collection[str] = ()) -> Endpoint:
    """`endpoint` with the values of the dialect for what the user has not set: `url`, `hooks`, and the keys of `heartbeat`,
    `request`, `limits` and (from the dialect's [connection]) `watchdog`. The limit of connects applies to the exchange's own
    hosts.

    A value counts as set if it differs from its default, if it was written (`Section.written`), or if its key is in `given`
    ("heartbeat.kind"). If the user has set `kind`, the dialect's payload and reply are not used; if `max_age`, its
    rollover_window is not used.
    """
    if dialect is None:
        return endpoint
    url = endpoint.url or dialect_urls(dialect, endpoint.environment, private=bool(endpoint.login))
    filled: dict[str, Any] = {}
    for table, section in SECTION_OF.items():
        own, theirs = _own(endpoint, section, given), _theirs(dialect, table)
        if section == "heartbeat" and endpoint.login and "heartbeat" in dialect.get("login", {}):
            theirs = _theirs(dialect["login"], table)
        if section == "heartbeat" and "kind" in own and endpoint.heartbeat.kind != theirs.get("kind", Heartbeat().kind):
            own |= {"payload", "reply"}
        if section == "watchdog" and "max_age" in own:
            own |= {"rollover_window"}
        if section == "limits" and not _is_at_home(url, dialect):
            own |= {"connects", "connects_period"}
        if section == "watchdog" and "live_timeout" in dialect["subscribe"]:
            theirs["live_timeout"] = float(dialect["subscribe"]["live_timeout"])
        settings: Section = getattr(endpoint, section)
        filled[section] = settings.with_values({k: v for k, v in theirs.items() if k not in own})
    return replace(endpoint, url=url, hooks={**dialect.get("hooks", {}), **endpoint.hooks}, **filled)


def _is_at_home(url: str | Sequence[str], dialect: Mapping[str, Any]) -> bool:
    """Whether a host of the endpoint is one of the dialect's."""
    theirs = [found for urls in dialect["urls"].values() for found in _listed(urls)]
    return not {urlsplit(one).hostname for one in _listed(url)}.isdisjoint(urlsplit(one).hostname for one in theirs)


def _listed(url: str | Sequence[str]) -> Sequence[str]:
    return (url,) if isinstance(url, str) else url


def _own(endpoint: Endpoint, section: str, given: Collection[str]) -> set[str]:
    """The keys of a section that the user has set."""
    said: Section = getattr(endpoint, section)
    values = {key: value for key, value in flatten(endpoint).items() if key.startswith(f"{section}.")}
    changed = {key for key, value in values.items() if value != ENDPOINT[key].default or key in given}
    return {key.removeprefix(f"{section}.") for key in changed} | said.written


def _theirs(dialect: Mapping[str, Any], table: str) -> dict[str, Any]:
    """The values that a table of the dialect has for a section of an endpoint."""
    section = SECTION_OF[table]
    known = {key: ENDPOINT.get(f"{section}.{key}") for key in dialect.get(table, {})}
    return {key: convert(setting, dialect[table][key]) for key, setting in known.items() if setting is not None}
