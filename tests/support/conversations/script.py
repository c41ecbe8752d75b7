"""The exchange's part of a case: its answers, and the framing of its messages. See the package."""

from __future__ import annotations

import gzip
import re
import tomllib
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson

from tests.support.rawserver import server_frame
from wsadapter.contract.dialect.paths import MISSING, look_up, matches
from wsadapter.worker.websocket.frames import BINARY, TEXT

_FOLDER = Path(__file__).parent
_WITHIN = re.compile(r"\$\.([A-Za-z0-9_.-]+?)\$")
_WHOLE = re.compile(r'"\$\.([A-Za-z0-9_.-]+)"')
_CLOCK = re.compile(r'"(time|nonce)":\d+')
_HEX = "hex:"


def cases_of(dialect: str) -> list[dict[str, Any]]:
    """The cases of one file, in order, each with its dialect."""
    found = tomllib.loads((_FOLDER / f"{dialect}.toml").read_text("utf-8"))["case"]
    return [{**case, "dialect": dialect} for case in found]


def dialects() -> list[str]:
    """The dialects that have a file."""
    return sorted(file.stem for file in _FOLDER.glob("*.toml"))


def without_clock(frame: str) -> str:
    """A frame of the client whose time is left out."""
    return _CLOCK.sub(r'"\1":0', frame)


class Script:
    """The messages that the exchange of one case sends on one connection."""

    def __init__(self, case: Mapping[str, Any], dialect: Mapping[str, Any]) -> None:
        self._rules: Sequence[Mapping[str, Any]] = case.get("answers", ())
        self._binary = bool(case.get("binary"))
        self._compression = dialect.get("payload", {}).get("compression", "")
        self._said: Counter[int] = Counter()

    def answers(self, text: str) -> list[tuple[float, str]]:
        """The exchange's answers to a frame of the client, each with its delay in seconds."""
        try:
            value = orjson.loads(text)
        except orjson.JSONDecodeError:
            value = None
        for place, rule in enumerate(self._rules):
            times = rule.get("times", 0)
            if times and self._said[place] >= times:
                continue
            if matches(value, rule.get("when", {})) and rule.get("has", "") in text and rule.get("lacks", "\0") not in text:
                self._said[place] += 1
                return list(_timed(rule.get("say", ()), value))
        return []

    def frame(self, text: str) -> bytes:
        """A message of the exchange as it goes over the wire."""
        if text.startswith(_HEX):
            return server_frame(BINARY, bytes.fromhex(text.removeprefix(_HEX)))
        if not self._binary:
            return server_frame(TEXT, text.encode())
        match self._compression:
            case "gzip":
                return server_frame(BINARY, gzip.compress(text.encode()))
            case "zlib":
                return server_frame(BINARY, zlib.compress(text.encode()))
            case "deflate":
                return server_frame(BINARY, zlib.compress(text.encode(), wbits=-zlib.MAX_WBITS))
        return server_frame(BINARY, text.encode())


def _timed(says: Sequence[str | float], value: Any) -> Iterator[tuple[float, str]]:
    later = 0.0
    for one in says:
        if isinstance(one, str):
            yield later, _filled(one, value)
        else:
            later += one


def _filled(text: str, value: Any) -> str:
    def whole(found: re.Match[str]) -> str:
        return orjson.dumps(_at(value, found[1])).decode()

    def within(found: re.Match[str]) -> str:
        said = _at(value, found[1])
        return said if isinstance(said, str) else orjson.dumps(said).decode()

    return _WHOLE.sub(whole, _WITHIN.sub(within, text))


def _at(value: Any, path: str) -> Any:
    found = look_up(value, path)
    assert found is not MISSING, f"the client's frame has nothing at {path}: {value}"
    return found
