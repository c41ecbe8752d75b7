"""An endpoint's settings, checked: the same code for a TOML table and for an `Endpoint` made in Python.

    table ───read_layer──> Layer: every key converted, its references tried, its value checked. [defaults] is a Layer too
    Layers ──combine─────> Endpoint: merged, `subscribe_file` read, the keys checked against each other and the dialect

Nothing raises; problems are collected, so that all are reported at once. A key that failed is left out of the later steps, so
that one mistake gives one problem. No text shows the value of a `${...}`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, NamedTuple

from wsadapter.config import values
from wsadapter.config.dialect import Dialect, Dialects, apply_dialect, dialect_urls, is_path, wrong_stream
from wsadapter.config.files import parse_json, read_file
from wsadapter.config.interpolate import EXPANDED, anchor_value, expand_value, places_with_references
from wsadapter.config.quantities import show_duration, show_size
from wsadapter.config.schema import ENDPOINT, Mismatch, Setting, assemble, convert, got, unknown_key
from wsadapter.contract.dialect.templates import is_private, needs_sign_hook, stream_name
from wsadapter.contract.endpoint import SECTIONS, Endpoint, Subscription
from wsadapter.contract.errors import ConfigError, Problem

_TABLES: Final = ("headers", "login", "hooks")
_PATHS: Final = ("subscribe_file", "tls.ca_file", "tls.cert_file", "tls.key_file")
_NO_REFERENCES: Final = ("dialect", "decode", "subscribe_file")
_HOOKS: Final = ("before_connect", "sign", "renew", "decode")
_LEAST_MEMORY: Final = 16 * 1024 * 1024
_LARGEST_MESSAGE: Final = 2 * 1024**3
_LEAST_BUFFER: Final = 1024
_MOST_REPLICAS: Final = 16
_MOST_SUBSCRIPTION_BYTES: Final = 64 * 1024 * 1024
_PATIENCE: Final = 5.0
"""Seconds in which a file of subscriptions must have been read."""


@dataclass(slots=True)
class Layer:
    """The settings of an endpoint in one table of the configuration."""

    prefix: str
    """Path of the table: "endpoints.binance", "defaults"."""
    values: dict[str, Any] = field(default_factory=dict)
    """By dotted key, converted, references as written."""
    bad: set[str] = field(default_factory=set)
    """Keys with a problem."""
    problems: list[Problem] = field(default_factory=list)

    def complain(self, key: str, place: str, message: str) -> None:
        """Note a problem of `key`, at `place` within its value."""
        self.bad.add(key)
        self.problems.append(Problem(f"{self.prefix}.{key}{place}", message))


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a configuration is read in."""

    base_dir: Path
    """The base of its relative paths."""
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ)
    secrets: bool = True
    """False: no `${...}` is read. Each counts as present, and a value that contains one is not checked."""
    dialects: Dialects = field(default_factory=Dialects)
    """The dialects of its endpoints."""

    def expand(self, key: str, value: Any) -> tuple[Any, list[Problem], set[str]]:
        """The value of the setting `key` with its references filled in, the problems of these references, and the places whose
        value is not known."""
        if not self.secrets:
            places, problems = places_with_references(key, value)
            return value, problems, places | {problem.path for problem in problems}
        expanded, problems = expand_value(key, value, environ=self.environ, base_dir=self.base_dir)
        return expanded, problems, {problem.path for problem in problems}


class Combined(NamedTuple):
    """The outcome of `combine`."""

    endpoint: Endpoint
    """To be used only if there is no problem. A key with a problem has its default."""
    problems: list[Problem]
    """The problems of all layers, and those between layers."""


# -- one table -------------------------------------------------------------------------------------------------------------


def read_layer(table: Mapping[str, Any], prefix: str, around: Surroundings) -> Layer:
    """Convert and judge every key of `[endpoints.NAME]` or `[defaults]` by itself."""
    layer = Layer(prefix)
    for name, value in table.items():
        if name not in SECTIONS:
            _read_key(layer, name, value, around, [*(k for k in ENDPOINT if "." not in k), *SECTIONS])
        elif not isinstance(value, Mapping):
            layer.complain(name, "", f"expected a table, got {got(value)}")
        else:
            known = [k.removeprefix(f"{name}.") for k in ENDPOINT if k.startswith(f"{name}.")]
            for leaf, item in value.items():
                _read_key(layer, f"{name}.{leaf}", item, around, known)
    return layer


def _read_key(layer: Layer, key: str, value: Any, around: Surroundings, known: list[str]) -> None:
    setting = ENDPOINT.get(key)
    if setting is None or key.rpartition(".")[2] not in known:
        layer.complain(key, "", unknown_key(key.rpartition(".")[2], known))
        return
    try:
        converted = convert(setting, value)
    except Mismatch as mismatch:
        for place, message in mismatch.found:
            layer.complain(key, place, message)
        return
    layer.values[key] = _anchored(key, converted, around.base_dir)
    for place, message in _judge(setting, layer.values[key], around):
        layer.complain(key, place, message)


def _anchored(key: str, value: Any, base_dir: Path) -> Any:
    """`value` with its paths made absolute: an owner may run anywhere, and a secret is read anew at each connect."""
    if key in EXPANDED:
        value = anchor_value(value, base_dir)
    if value and (key in _PATHS or (key == "dialect" and is_path(value))) and not value.startswith("${"):
        return str(base_dir.absolute() / value)
    return value


def _judge(setting: Setting, value: Any, around: Surroundings) -> Iterator[tuple[str, str]]:
    key = setting.key
    if key in _NO_REFERENCES and "${" in value:
        yield "", "${...} is not filled in here; write the value itself"
        return
    expanded, unresolved, unknown = around.expand("", value) if key in EXPANDED else (value, [], set())
    yield from ((problem.path, problem.message) for problem in unresolved)
    yield from ((place, message) for place, message in judge_value(setting, value, expanded) if place not in unknown)


def judge_value(setting: Setting, value: Any, expanded: Any) -> Iterator[tuple[str, str]]:
    """The problems of a value of the right type: (place in the value, message). `expanded`: with its `${...}` filled in."""
    key = setting.key
    for limit in _LIMITS.get(key, ()):
        if value is not None and not limit.holds(value):
            yield "", f"expected {limit.expected}, got {_shown(setting, value)}"
    if check := _CHECKS.get(key):
        yield from _check_each(check, expanded)
    if key == "headers":
        yield from _check_headers(expanded)
    if key == "hooks":
        yield from _check_hooks(value)


def _shown(setting: Setting, value: Any) -> str:
    if setting.quantity == "duration":
        return show_duration(value)
    return show_size(value) if setting.quantity == "size" else json.dumps(value)


def _check_each(check: Callable[[Any], str], value: Any) -> Iterator[tuple[str, str]]:
    items = [("", value)] if isinstance(value, str) else [(f"[{place}]", item) for place, item in enumerate(value)]
    for place, item in items:
        if message := check(item):
            yield place, message


def _check_headers(headers: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    seen: dict[str, str] = {}
    for name, value in headers.items():
        if message := values.header(name, value):
            yield f".{name}", message
        if name.lower() in seen:
            yield f".{name}", f"the same header as {seen[name.lower()]}; case makes no difference"
        seen.setdefault(name.lower(), name)


def _check_hooks(hooks: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    for name, function in hooks.items():
        if name not in _HOOKS:
            yield f".{name}", unknown_key(name, _HOOKS)
        elif function and (message := values.importable(function)):
            yield f".{name}", message


class _Limit(NamedTuple):
    expected: str
    holds: Callable[[Any], bool]


def _at_least(least: int) -> _Limit:
    return _Limit(f"{least} or more", lambda value: value >= least)


_POSITIVE: Final = _Limit("more than 0", lambda value: value > 0)

_LIMITS: Final[dict[str, tuple[_Limit, ...]]] = {
    **{key: (_POSITIVE,) for key in ENDPOINT if key.startswith("timeouts.")},
    "heartbeat.interval": (_Limit('more than 0 (for no heartbeat: kind = "none")', lambda value: value > 0),),
    "heartbeat.timeout": (_POSITIVE,),
    "heartbeat.server_missed": (_at_least(1),),
    "restart.intensity": (_at_least(0),),
    "restart.period": (_POSITIVE,),
    "restart.backoff_factor": (_at_least(1),),
    "restart.cool_down": (_POSITIVE,),
    "watchdog.memory": (_Limit("0 (off) or at least 16MiB: an owner itself takes that", lambda v: not 0 < v < _LEAST_MEMORY),),
    "buffer.max_bytes": (_Limit("at least 1KiB", lambda value: value >= _LEAST_BUFFER),),
    "max_message": (_Limit("from 1 byte to 2GiB", lambda value: 1 <= value <= _LARGEST_MESSAGE),),
    "limits.connects": (_at_least(0),),
    "limits.connects_period": (_POSITIVE,),
    "limits.sends": (_at_least(0),),
    "limits.sends_period": (_POSITIVE,),
    "request.timeout": (_POSITIVE,),
}

_CHECKS: Final[dict[str, Callable[[Any], str]]] = {
    "url": lambda url: values.websocket_url(url) if url else "",
    "subscribe": values.stream,
    "subscribe_file": values.path,
    "dialect": values.path,
    "send_on_up": values.not_empty,
    "subprotocols": values.subprotocol,
    "proxy": values.proxy,
    "bind": values.ip_address,
    "decode": values.importable,
    "identity": values.json_path,
    "request.id": values.field_path,
    "request.answer_id": values.json_path,
    "request.error": values.json_path,
    "filter.include": values.glob,
    "filter.exclude": values.glob,
    "tls.pin_sha256": values.sha256_pin,
    "tls.ciphers": values.ciphers,
    "tls.server_name": values.server_name,
    "tls.ca_file": values.existing_file,
    "tls.cert_file": values.existing_file,
    "tls.key_file": values.existing_file,
}


# -- tables together -------------------------------------------------------------------------------------------------------


class _Finding(NamedTuple):
    """A problem between keys: reported at the first of `keys` that the endpoint itself sets."""

    keys: tuple[str, ...]
    message: str
    place: str = ""


def combine(name: str, own: Layer, defaults: Layer, around: Surroundings) -> Combined:
    """The endpoint that its own table and `[defaults]` make, and everything that is wrong with it."""
    problems = [*own.problems]
    if wrong := values.name(name):
        problems.append(Problem(own.prefix, wrong))
    merged = {**defaults.values, **own.values}
    for key in _TABLES:
        merged[key] = {**defaults.values.get(key, {}), **own.values.get(key, {})}
    bad = own.bad | (defaults.bad - own.values.keys())
    endpoint = assemble(name, {key: value for key, value in merged.items() if key not in bad})
    findings: list[_Finding] = []
    dialect = _dialect(endpoint, around.dialects, findings) if "dialect" not in bad else None
    endpoint = _with_file(endpoint, dialect, findings)
    given = own.values.keys() | defaults.values.keys()
    findings += _between(endpoint, dialect, frozenset(given), around)
    problems += [_located(finding, own, defaults) for finding in findings if bad.isdisjoint(finding.keys)]
    return Combined(endpoint, problems)


def _located(finding: _Finding, own: Layer, defaults: Layer) -> Problem:
    for layer in (own, defaults):
        for key in finding.keys:
            if key in layer.values:
                return Problem(f"{layer.prefix}.{key}{finding.place}", finding.message)
    return Problem(f"{own.prefix}.{finding.keys[0]}{finding.place}", finding.message)


def _dialect(endpoint: Endpoint, dialects: Dialects, findings: list[_Finding]) -> Dialect | None:
    if not endpoint.dialect:
        return None
    try:
        return dialects.load(endpoint.dialect)
    except ConfigError as error:
        source = f"{error.source}: " if error.source else ""
        findings += [_Finding(("dialect",), f"{source}{problem}") for problem in error.problems]
        return None


def _with_file(endpoint: Endpoint, dialect: Dialect | None, findings: list[_Finding]) -> Endpoint:
    """The lines of `subscribe_file` become part of `subscribe`, and the key is emptied: doing it twice changes nothing."""
    lines = _read_streams(endpoint, findings) if endpoint.subscribe_file else []
    places = [f"subscribe[{place}]" for place in range(len(endpoint.subscribe))]
    places += [f"{endpoint.subscribe_file} line {number}" for number, _ in lines]
    streams = (*endpoint.subscribe, *(stream for _, stream in lines))
    seen: dict[str, str] = {}
    for stream, place in zip(streams, places, strict=True):
        canonical = json.dumps(stream, sort_keys=True, default=str)
        if canonical in seen:
            findings.append(_of_stream(place, f"the same stream as {seen[canonical]}"))
        seen.setdefault(canonical, place)
    if dialect is not None:
        findings += _check_streams(streams, places, dialect)
    return replace(endpoint, subscribe=streams, subscribe_file="")


def _check_streams(streams: Sequence[Subscription], places: Sequence[str], dialect: Dialect) -> Iterator[_Finding]:
    """Streams that the dialect can't subscribe. Only the first is reported, because a file of streams is usually wrong in one
    way."""
    judged = ((place, wrong_stream(dialect, stream)) for stream, place in zip(streams, places, strict=True))
    if wrong := [(place, message) for place, message in judged if message]:
        (place, message), *others = wrong
        yield _of_stream(place, f"{message}; {len(others)} more streams do not fit either" if others else message)


def _of_stream(place: str, message: str) -> _Finding:
    if place.startswith("subscribe["):
        return _Finding(("subscribe",), message, place.removeprefix("subscribe"))
    return _Finding(("subscribe_file",), f"{place}: {message}")


def _read_streams(endpoint: Endpoint, findings: list[_Finding]) -> list[tuple[int, Subscription]]:
    """(line number, stream). Empty lines and lines that begin with # are comments; with a dialect {...} is a table, in JSON."""
    try:
        content = read_file(endpoint.subscribe_file, most=_MOST_SUBSCRIPTION_BYTES, seconds=_PATIENCE)
        text = content.decode("utf-8-sig").replace("\r\n", "\n")
    except OSError as error:
        findings.append(_Finding(("subscribe_file",), f"{endpoint.subscribe_file} can't be read: {error.strerror}"))
        return []
    except UnicodeDecodeError:
        findings.append(_Finding(("subscribe_file",), f"{endpoint.subscribe_file} is not UTF-8 text"))
        return []
    streams: list[tuple[int, Subscription]] = []
    for number, line in enumerate(map(str.strip, text.split("\n")), 1):
        if not line or line.startswith("#"):
            continue
        try:
            streams.append((number, parse_json(line) if endpoint.dialect and line.startswith("{") else line))
        except ValueError as error:
            message = f"{endpoint.subscribe_file} line {number}: begins with {{ but is no JSON object: {error}"
            findings.append(_Finding(("subscribe_file",), message))
    return streams


def _between(endpoint: Endpoint, dialect: Dialect | None, given: frozenset[str], around: Surroundings) -> Iterator[_Finding]:
    yield from _check_urls(endpoint, dialect, around)
    yield from _check_heartbeat(apply_dialect(endpoint, dialect, given=given))
    yield from _check_filter(endpoint, dialect)
    yield from _check_replicas(endpoint, dialect)
    yield from _check_login(endpoint, dialect)
    restart, watchdog, tls = endpoint.restart, endpoint.watchdog, endpoint.tls
    if restart.backoff_max < restart.backoff_initial:
        low, high = show_duration(restart.backoff_initial), show_duration(restart.backoff_max)
        message = f"backoff_max {high} is less than backoff_initial {low}"
        yield _Finding(("restart.backoff_max", "restart.backoff_initial"), message)
    if watchdog.rollover_window > watchdog.max_age:
        window, age = show_duration(watchdog.rollover_window), show_duration(watchdog.max_age)
        message = f"rollover_window {window} is more than max_age {age}"
        yield _Finding(("watchdog.rollover_window", "watchdog.max_age"), message)
    yield from _check_conflation(endpoint, dialect)
    if tls.holder and any(url.lower().startswith("ws:") for url in endpoint.urls):
        yield _Finding(("tls.holder", "url"), "only for wss://: on ws:// the connection outlives its owner without one")
    if tls.ciphers and tls.min_version == "1.3":
        yield _Finding(("tls.ciphers", "tls.min_version"), 'has no effect with min_version = "1.3": the list is for TLS 1.2')
    for leaf in ("key_file", "key_password"):
        if getattr(tls, leaf) and not tls.cert_file:
            yield _Finding((f"tls.{leaf}", "tls.cert_file"), "needs cert_file, the certificate that it belongs to")


def _check_urls(endpoint: Endpoint, dialect: Dialect | None, around: Surroundings) -> Iterator[_Finding]:
    expanded, _, unknown = around.expand("", list(endpoint.urls))
    urls = {place: url for place, url in enumerate(expanded) if f"[{place}]" not in unknown}
    if endpoint.url and not all(urls.values()):
        yield _Finding(("url",), "expected a URL, got an empty string")
    if len({url.partition(":")[0].lower() for url in urls.values()}) > 1:
        yield _Finding(("url",), "ws:// and wss:// in one list: a failed connect would change whether it is encrypted")
    first: dict[str, int] = {}
    for place, url in urls.items():
        if first.setdefault(url, place) != place:
            yield _Finding(("url",), f"the same URL as url[{first[url]}]", f"[{place}]")
    if not endpoint.dialect:
        if not endpoint.urls:
            yield _Finding(("url", "dialect"), "expected a URL such as wss://host:port/path, or a dialect that knows one")
        if endpoint.environment == "test":
            yield _Finding(("environment", "dialect"), 'only a dialect knows what "test" is; give the url instead')
    elif dialect and not endpoint.urls and not dialect_urls(dialect, endpoint.environment):
        has = " and ".join(name for name in ("live", "test") if name in dialect["urls"])
        yield _Finding(("environment", "dialect"), f'this dialect has no "{endpoint.environment}" URL, only {has}')


def _check_filter(endpoint: Endpoint, dialect: Dialect | None) -> Iterator[_Finding]:
    """Only a dialect with a [stream] table names the place of a stream's name in a message."""
    if not (endpoint.filter.include or endpoint.filter.exclude) or (dialect and "stream" in dialect):
        return
    keys = ("filter.include", "filter.exclude")
    if not endpoint.dialect:
        yield _Finding(keys, "needs a dialect: without one nothing tells which stream a message belongs to")
    elif dialect:
        yield _Finding(keys, f'the dialect "{dialect["dialect"]["name"]}" can\'t tell which stream a message belongs to')


def _check_conflation(endpoint: Endpoint, dialect: Dialect | None) -> Iterator[_Finding]:
    """Without a key, messages are conflated by their streams."""
    buffer = endpoint.buffer
    if buffer.overflow != "conflate":
        if buffer.key:
            yield _Finding(("buffer.key", "buffer.overflow"), 'only for overflow = "conflate"')
    elif not buffer.key and not endpoint.dialect:
        message = '"conflate" needs a `key`, the JSON field that tells messages apart: without a dialect there are no streams'
        yield _Finding(("buffer.overflow", "buffer.key"), message)
    elif not buffer.key and dialect and "stream" not in dialect:
        name = dialect["dialect"]["name"]
        message = f'"conflate" needs a `key`: the dialect "{name}" can\'t tell which stream a message belongs to'
        yield _Finding(("buffer.overflow", "buffer.key"), message)


def _check_replicas(endpoint: Endpoint, dialect: Dialect | None) -> Iterator[_Finding]:
    if not 1 <= endpoint.replicas <= _MOST_REPLICAS:
        yield _Finding(("replicas",), f"expected 1 to {_MOST_REPLICAS}, got {endpoint.replicas}")
    elif endpoint.replicas > 1 and not endpoint.identity and not (dialect or {}).get("identity"):
        why = f'the dialect "{dialect["dialect"]["name"]}" has none' if dialect else "there is no dialect"
        message = f'more than 1 needs an `identity`, what makes two messages the same, "bytes" or JSON fields: {why}'
        yield _Finding(("replicas", "identity"), message)


def _check_login(endpoint: Endpoint, dialect: Dialect | None) -> Iterator[_Finding]:
    """Only a dialect describes a login. Missing words are reported here, before the exchange refuses the login."""
    if not endpoint.dialect:
        if endpoint.login:
            yield _Finding(("login",), "needs a dialect: without one nothing tells how to log in")
        if any(endpoint.hooks.get(name) for name in ("sign", "renew")):
            yield _Finding(("hooks",), "sign and renew need a dialect, whose [login] says what for")
    if dialect is None:
        return
    name = dialect["dialect"]["name"]
    if endpoint.login and "login" not in dialect:
        yield _Finding(("login",), f'the dialect "{name}" has no [login]: it can\'t say how to log in')
    elif endpoint.login:
        needs = dialect["login"].get("needs", [])
        missing = [need for need in needs if not endpoint.login.get(need)]
        if missing:
            yield _Finding(("login",), f'the dialect "{name}" needs {", ".join(needs)}; missing: {", ".join(missing)}')
        for word in endpoint.login:
            if word not in needs and not endpoint.hooks:
                yield _Finding(("login",), unknown_key(word, needs), f".{word}")
    elif private := [stream for stream in endpoint.subscribe if is_private(stream, dialect)]:
        message = f'{stream_name(private[0])} needs [login], says the dialect "{name}"'
        yield _Finding(("subscribe", "login"), message)
    hooks = {**dialect.get("hooks", {}), **endpoint.hooks}
    if endpoint.login and not hooks.get("sign") and needs_sign_hook(dialect):
        yield _Finding(("hooks",), f'the dialect "{name}" has frames with "$sign": name a hook `sign`')
    if endpoint.tls.holder and hooks.get("before_connect"):
        message = "not together with a hook before_connect: the holder connects before the owner can ask for a URL"
        yield _Finding(("tls.holder", "hooks"), message)


def _check_heartbeat(endpoint: Endpoint) -> Iterator[_Finding]:
    heartbeat = endpoint.heartbeat
    kind = heartbeat.kind
    for leaf in ("payload", "reply"):
        if getattr(heartbeat, leaf) and kind not in ("text", "json"):
            yield _Finding((f"heartbeat.{leaf}", "heartbeat.kind"), f'{leaf} is for kind = "text" and "json"; it is "{kind}"')
    if kind in ("text", "json") and not heartbeat.payload:
        yield _Finding(("heartbeat.kind", "heartbeat.payload"), f'kind "{kind}" needs a payload, what to send')
    if kind != "json":
        return
    if heartbeat.payload and "${" not in heartbeat.payload and (wrong := values.json_text(heartbeat.payload)):
        yield _Finding(("heartbeat.payload",), wrong)
    if heartbeat.reply and "${" not in heartbeat.reply and (wrong := values.json_reply(heartbeat.reply)):
        yield _Finding(("heartbeat.reply",), wrong)
