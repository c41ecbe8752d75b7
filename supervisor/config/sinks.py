"""Checks the tables [[sink]]: the settings that each kind needs and accepts. Pure, except for the check of installed
packages."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import Any, Final

from wsadapter.config import values
from wsadapter.config.checks import judge_value
from wsadapter.config.output_path import check_path
from wsadapter.config.quantities import show_duration
from wsadapter.config.schema import SINK
from wsadapter.contract.endpoint import Restart
from wsadapter.contract.errors import Problem

_COMMON: Final = frozenset({"name", "kind", "endpoints", "start", "restart"})
_NEEDS: Final[Mapping[str, tuple[str, ...]]] = {
    "jsonl": ("path",), "parquet": ("path",), "nats": ("servers", "stream"), "kafka": ("servers", "topic"),
}  # fmt: skip
_MAY_HAVE: Final[Mapping[str, tuple[str, ...]]] = {
    "jsonl": ("rotate_bytes", "compression"), "parquet": ("compression",), "nats": ("subject", "credentials"),
    "kafka": ("options",),
}  # fmt: skip
_LIBRARIES: Final[Mapping[str, tuple[str, str]]] = {
    "parquet": ("pyarrow", "parquet"), "nats": ("nats", "nats"), "kafka": ("confluent_kafka", "kafka"),
}  # fmt: skip
"""Module and extra."""
_NAME: Final = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,99}")
_STREAM: Final = re.compile(r"[^\s.*>/\\]+")
_SUBJECT: Final = re.compile(r"[^\s.*>]+(\.[^\s.*>]+)*")
_TOPIC: Final = re.compile(r"[A-Za-z0-9._-]*\{endpoint\}[A-Za-z0-9._-]*")
_RESTART: Final = Restart()
_LEAST_ROTATED: Final = 64 * 1024
PATHS: Final = ("path", "credentials")
"""Settings that start at the folder of the configuration file."""


def judge_sinks(found: Sequence[Mapping[str, Any]], written: Sequence[Mapping[str, Any]], *, journal: bool) -> list[Problem]:
    """Everything that is wrong with the tables. `found`: converted, without what is wrong or not known; `written`: as in the
    file. `journal`: there is one."""
    problems: list[Problem] = []
    if written and not journal:
        problems.append(Problem("sink", "a sink carries the journal: add a table [journal] with its path"))
    names: set[str] = set()
    for index, (sink, table) in enumerate(zip(found, written, strict=True)):
        place = f"sink[{index}]"
        name = sink.get("name", "")
        if "name" not in table:
            problems.append(Problem(f"{place}.name", "expected a name: the position of the sink is kept under it"))
        elif name and name in names:
            problems.append(Problem(f"{place}.name", f"another sink is named {name!r} too"))
        elif name and not _NAME.fullmatch(name):
            problems.append(Problem(f"{place}.name", 'expected letters, digits, "_", "-" and ".", which does not come first'))
        names.add(name)
        problems += [Problem(f"{place}.{key}", message) for key, message in _judge(sink, table)]
    return problems


def _judge(sink: Mapping[str, Any], table: Mapping[str, Any]) -> list[tuple[str, str]]:
    kind = sink.get("kind", "")
    if "kind" not in table:
        return [("kind", f"expected one of {', '.join(_NEEDS)}, or a class: package.module:Class")]
    if not kind:
        return []
    if kind not in _NEEDS and values.importable(kind):
        return [("kind", f"expected one of {', '.join(_NEEDS)}, or a class: package.module:Class")]
    needed = _NEEDS.get(kind, ())
    known = _COMMON | {*needed, *_MAY_HAVE.get(kind, ("options",))}
    problems = [
        (key, f"kind {kind} has no such setting; it has {', '.join(sorted(known))}")
        for key in sink
        if key.partition(".")[0] not in known
    ]
    problems += [(key, f"kind {kind} needs it") for key in needed if key not in table or sink.get(key) == ""]
    module, extra = _LIBRARIES.get(kind, ("", ""))
    if module and find_spec(module) is None:
        problems.append(("kind", f'kind {kind} needs a package that is not installed here: pip install "wsadapter[{extra}]"'))
    return problems + _judge_values(kind, sink)


def _judge_values(kind: str, sink: Mapping[str, Any]) -> list[tuple[str, str]]:
    problems = [
        (key, message)
        for key in sink
        if key.startswith("restart.")
        for _, message in judge_value(SINK[key], sink[key], sink[key])
    ]
    lowest, highest = (
        sink.get("restart.backoff_initial", _RESTART.backoff_initial),
        sink.get("restart.backoff_max", _RESTART.backoff_max),
    )
    if highest < lowest:
        problems.append(
            ("restart.backoff_max", f"{show_duration(highest)} is less than backoff_initial, {show_duration(lowest)}")
        )
    if kind == "jsonl" and sink.get("path") and (wrong := _check_file(sink["path"])):
        problems.append(("path", wrong))
    if kind == "jsonl" and 0 < sink.get("rotate_bytes", 0) < _LEAST_ROTATED:
        problems.append(("rotate_bytes", f"expected 0, or at least 64KiB, got {sink['rotate_bytes']}"))
    if kind == "nats" and sink.get("servers") and (wrong := values.nats_servers(sink["servers"])):
        problems.append(("servers", wrong))
    if sink.get("stream") and not _STREAM.fullmatch(sink["stream"]):
        problems.append(("stream", 'the name of a stream has no space, ".", "*", ">", "/" and "\\"'))
    if sink.get("subject") and not _SUBJECT.fullmatch(sink["subject"]):
        problems.append(("subject", 'expected words with "." between them, without space, "*" and ">"'))
    if sink.get("topic") and not _TOPIC.fullmatch(sink["topic"]):
        problems.append(("topic", 'expected letters, digits, ".", "_" and "-", and {endpoint} once'))
    return problems


def _check_file(path: str) -> str:
    return "expected a file; only [output] writes to standard output" if path == "-" else check_path(path)
