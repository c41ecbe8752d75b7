"""Commands that need no running supervisor: `check`, `dialects`, `version`, `docs`."""

from __future__ import annotations

import argparse
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

from wsadapter.cli import documents
from wsadapter.cli.checks import problems_here
from wsadapter.cli.standard_streams import write
from wsadapter.cli.which import DONE, USAGE, say, say_json
from wsadapter.config import load
from wsadapter.config.dialect import bundled, load_dialect
from wsadapter.config.schema import nearest
from wsadapter.contract.dialect.templates import stream_name
from wsadapter.contract.errors import ConfigError, UsageError
from wsadapter.version import VERSION

_PACKAGES: Final = (
    "websocket-client",
    "orjson",
    "psutil",
    "msgspec",
    "prometheus-client",
    "textual",
    "python-socks",
    "trustme",
)
"""The packages whose versions are printed: those that wsadapter uses, if they are installed."""


def check(options: argparse.Namespace) -> int:
    """For programs: each problem is an object. For a person it is `run --check`."""
    try:
        settings = load(options.file, secrets=not options.no_secrets)
        problems, names = problems_here(settings), [endpoint.name for endpoint in settings.endpoints]
    except ConfigError as error:
        problems, names = error.problems, []
    found = [{"path": problem.path, "message": problem.message} for problem in problems]
    say_json({"file": str(options.file), "problems": found, "endpoints": names})
    return USAGE if found else DONE


def dialects(options: argparse.Namespace) -> int:
    """All that come with it, or one."""
    known = bundled()
    if options.dialect is None:
        titles = {name: str(load_dialect(name)["dialect"].get("title", "")) for name in known}
        if options.json:
            say_json(titles)
        else:
            width = max(map(len, titles))
            say("\n".join(f"{name.ljust(width)}  {title}" for name, title in titles.items()))
        return DONE
    if options.dialect not in known:
        near = nearest(options.dialect, known)
        raise UsageError(
            f"there is no dialect {options.dialect!r}; "
            + (f"did you mean {near!r}?" if near else "`wsadapter dialects` lists them")
        )
    about = _about(options.dialect)
    if options.json:
        say_json(about)
    else:
        say("\n".join(f"{key}: {_shown(value)}" for key, value in about.items() if value not in (None, [], {})))
        say(f"\nThe file is {known[options.dialect]}; its language is described by: wsadapter docs dialects")
    return DONE


def _about(name: str) -> dict[str, Any]:
    dialect = load_dialect(name)
    about, subscribe = dialect["dialect"], dialect.get("subscribe", {})
    example = subscribe.get("example")
    return {
        "name": name,
        "title": about.get("title", ""),
        "docs": about.get("docs", ""),
        "urls": dialect.get("urls", {}),
        "stream": None if example is None else stream_name(example),
        "login_needs": list(dialect.get("login", {}).get("needs", ())),
        "limits": dialect.get("limits", {}),
        "file": str(bundled()[name]),
    }


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {item}" for key, item in value.items())
    return ", ".join(value) if isinstance(value, list) else str(value)


def show_version(options: argparse.Namespace) -> int:
    """What a report of a fault should have."""
    about = {
        "wsadapter": VERSION,
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "platform": platform.platform(),
        "folder": str(Path(__file__).parents[1]),
        "packages": {name: _version(name) for name in _PACKAGES},
    }
    if options.json:
        say_json(about)
        return DONE
    packages = [f"{name} {found}" for name, found in about["packages"].items() if found]  # type: ignore[attr-defined]
    say(f"wsadapter {VERSION}, {about['python']}, {about['platform']}\nin {about['folder']}\nwith {', '.join(packages)}")
    return DONE


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def docs(options: argparse.Namespace) -> int:
    """The list of documents, or one."""
    if options.document is None:
        say(documents.listing())
    else:
        documents.show(documents.find(options.document))
    return DONE


def completion(options: argparse.Namespace) -> int:
    """For a shell: to be read by its start-up file."""
    from wsadapter.cli.completion import script

    write(script(options.shell))
    return DONE
