"""What a user asks for: one endpoint and its settings.

Plain frozen values with the defaults of the documentation, all intervals in seconds, all sizes in bytes. They are checked by
`wsadapter.config`, for TOML files and for objects alike; nothing here knows TOML.

A value may hold `${NAME}` or `${file:PATH}`. It is kept as written and filled in only when an owner connects, so that a
secret is read anew at each connect and never shows in a status, a log or an error.

A new setting is a field here, with its meaning below it, and a parameter of the typed `Endpoint.__init__` or a key of a table
in `tables.py`; everything else follows from these. tests/unit/test_endpoint.py compares them.
"""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, MISSING, dataclass, field, fields, is_dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, Any, Final, Literal, Self, cast, get_type_hints

from wsadapter.contract.errors import ConfigError, Problem
from wsadapter.contract.masking import mask_setting

if TYPE_CHECKING:
    from wsadapter.contract.tables import (
        BufferTable,
        FilterTable,
        HeartbeatTable,
        HooksTable,
        LimitsTable,
        RequestTable,
        RestartTable,
        Size,
        TimeoutsTable,
        TlsTable,
        WatchdogTable,
    )

RestartType = Literal["permanent", "transient", "temporary"]
OnExceeded = Literal["cool_down", "fatal", "stop_supervisor"]
Overflow = Literal["drop_oldest", "block", "conflate", "disconnect"]
HeartbeatKind = Literal["ping", "text", "json", "none"]
HeartbeatWhen = Literal["always", "idle"]
Compression = bool | Literal["no_context_takeover"]
Subscription = str | Mapping[str, Any]
"""One stream, as the user wrote it: a string, or a table where the exchange wants objects."""
SIZES: Final = frozenset(
    {
        "max_message",
        "buffer.max_bytes",
        "watchdog.memory",
        "quarantine_max_bytes",
        "retain_bytes",
        "segment_bytes",
        "rotate_bytes",
    }
)
"""The settings, by their dotted keys, that are bytes."""
RATIOS: Final = frozenset({"restart.backoff_factor", "weight"})
"""Those that are plain numbers. All other floats are seconds."""
_SHORT: Final = reprlib.Repr()
_SHORT.maxtuple = _SHORT.maxlist = _SHORT.maxdict = 4
_SHORT.maxstring, _SHORT.maxother = 200, 1000


class LateDocstring:
    """A docstring of a class that is made when it is read (`help`, `__doc__`), so that the import does not have to make it."""

    def __init__(self, short: str, make: Callable[[type[Any], str], str]) -> None:
        """`short` is used if the source files are missing."""
        self._short = short
        self._make = make

    def __get__(self, instance: object, owner: type[Any]) -> str:
        try:
            return self._make(owner, self._short)
        except OSError:
            return self._short


_prefixes: dict[type[Any], str] = {}
"""The prefix of the settings of each section. Filled after all classes exist, because without docstrings (-OO) `dataclass`
calls `repr` earlier."""


class _Shown:
    """A `repr` of the settings that differ from their defaults, with secrets masked and long lists shortened."""

    __slots__ = ()

    def __repr__(self) -> str:
        prefix = _prefixes.get(type(self), "")
        shown: list[str] = []
        for f in fields(self):  # type: ignore[arg-type]  # every class derived from it is a dataclass
            value = getattr(self, f.name)
            if f.default is MISSING and f.default_factory is MISSING:
                shown.append(repr(value))
            elif value != (f.default if f.default is not MISSING else {}) or f.name in self._also_shown():
                shown.append(f"{f.name}={_SHORT.repr(mask_setting(prefix + f.name, value))}")
        return f"{type(self).__name__}({', '.join(shown)})"

    def _also_shown(self) -> frozenset[str]:
        """Settings to show although they have their default."""
        return frozenset()


class Section(_Shown):
    """A section of settings that knows which of them the user has written, because a dialect gives values only for the others.
    A value alone does not show that: 0 is the default of many settings, and switches off what a dialect would switch on."""

    __slots__ = ("_written",)

    def __new__(cls, **settings: Any) -> Self:
        self = super().__new__(cls)
        # `dataclasses.replace` passes all settings, and nobody has written all of them.
        written = frozenset(settings) if len(settings) < len(cls.__dataclass_fields__) else frozenset()  # type: ignore[attr-defined]
        object.__setattr__(self, "_written", written)
        return self

    @property
    def written(self) -> frozenset[str]:
        """The settings that the user has written, if only with the default value."""
        return self._written  # type: ignore[attr-defined,no-any-return]  # a slot without an annotation, which `dataclass` would take for a field

    def with_values(self, values: Mapping[str, Any]) -> Self:
        """A copy with other values, which the user has not written."""
        copy = replace(self, **values)  # type: ignore[type-var]  # every class derived from it is a dataclass
        object.__setattr__(copy, "_written", self.written)
        return copy

    def _also_shown(self) -> frozenset[str]:
        return self.written


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Filter(Section):
    """Globs on stream names, applied in the owner. What they remove is counted as `filtered` and takes no number."""

    include: tuple[str, ...] = ()
    """Only these; empty means all."""
    exclude: tuple[str, ...] = ()
    """Not these, even if `include` names them."""


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Tls(Section):
    """TLS for wss://. The default is what the system trusts, with the host name checked."""

    verify: bool = True
    """Check the certificate and the host name. False is for tests; it is logged at every connect."""
    ca_file: str = ""
    """PEM file of the authorities to trust instead of the system's."""
    cert_file: str = ""
    """PEM file of the client certificate."""
    key_file: str = ""
    """PEM file of its key, if the key is not in `cert_file`."""
    key_password: str = ""
    """Password of the key."""
    server_name: str = ""
    """Name to send (SNI) and to check, if it is not the URL's host."""
    min_version: Literal["1.2", "1.3"] = "1.2"
    """Lowest TLS version to accept."""
    ciphers: str = ""
    """OpenSSL cipher list for TLS 1.2."""
    pin_sha256: tuple[str, ...] = ()
    """SHA-256 of the acceptable server certificates (DER), in hex; checked in addition to everything else."""
    holder: bool = False
    """Keep TLS in a process of its own, so that a wss:// connection outlives its owner too."""


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Timeouts(Section):
    """Deadlines of the single steps. Each is finite."""

    resolve: float = 5.0
    """Name resolution."""
    connect: float = 10.0
    """TCP, for all addresses of the host together (RFC 8305), and the proxy if there is one."""
    handshake: float = 10.0
    """TLS and the WebSocket handshake."""
    send: float = 10.0
    """One send, until the kernel has all its bytes."""
    close: float = 5.0
    """Closing handshake, and each step of a stop (request, SIGTERM, SIGKILL)."""


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Restart(Section):
    """When and how fast an endpoint gets a new owner (OTP supervisor: restart type, intensity, period)."""

    type: RestartType = "permanent"
    """"permanent": always; "transient": after an abnormal end; "temporary": never."""
    intensity: int = 10
    """Number of restarts that are allowed within `period`."""
    period: float = 60.0
    """The window in which restarts are counted."""
    backoff_initial: float = 0.5
    """The longest first wait. The actual wait is random, from 0 to this (full jitter)."""
    backoff_factor: float = 2.0
    """Factor from one longest wait to the next."""
    backoff_max: float = 30.0
    """No wait is longer."""
    min_uptime: float = 30.0
    """After a connection that lasted this long, the next wait starts at `backoff_initial` again."""
    on_exceeded: OnExceeded = "cool_down"
    """Above the intensity: wait `cool_down` and start again, become fatal, or stop the whole supervisor."""
    cool_down: float = 60.0
    """For `on_exceeded = "cool_down"`."""


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Heartbeat(Section):
    """What the owner sends to check that the peer responds."""

    kind: HeartbeatKind = "ping"
    """"ping": a protocol ping (RFC 6455 §5.5.2); "text" and "json": `payload` as a text frame; "none"."""
    interval: float = 20.0
    """From one heartbeat to the next."""
    timeout: float = 20.0
    """The connection is given up (`heartbeat_missed`) if no answer comes within this time. A peer that sends heartbeats of its
    own (`server_interval`) must answer pings only after it has answered one on this connection."""
    payload: str = ""
    """What to send for "text" and "json"."""
    reply: str = ""
    """For "text": the whole answer. For "json": an object whose fields the answer must have, or a list of such objects, of
    which one is enough. Empty: any frame is an answer."""
    when: HeartbeatWhen = "always"
    """"idle": only after `interval` in which nothing was received."""
    server_interval: float = 0.0
    """The peer sends heartbeats of its own at least once in this time (the dialect defines them; a protocol ping is always
    one). 0: it does not."""
    server_missed: int = 3
    """Number of missing heartbeats of the peer after which the connection is given up (`heartbeat_missed`)."""


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Watchdog(Section):
    """Bounds after which an owner or a stream counts as faulty. 0 means off, and if it is written, also where the dialect has a
    bound."""

    startup: float = 30.0
    """From the start of the process until it is ready for its endpoint."""
    progress: float = 10.0
    """The receive loop must answer a probe within this time."""
    silence: float = 0.0
    """A message must come within this time, or a new connection is made. Pings, pongs and answers to heartbeats do not count,
    because a peer may answer these and deliver nothing."""
    stalled: float = 60.0
    """A stream of a dialect with [stream] has stalled if it is silent for longer than this, and ten times longer than its
    longest pause before (and was watched for ten times as long as that). It is reported (`Stalled`) and subscribed again.
    After three times as long a planned change of connection follows, with the reason `silence`."""
    live_timeout: float = 300.0
    """A confirmed stream of a dialect with [stream] must deliver its first message within this time. After half of it the
    stream is requested again, at the end it is reported (`Stalled`). Streams that the dialect declares as quiet are exempt."""
    memory: int = 0
    """Largest resident memory of the owner."""
    max_age: float = 0.0
    """Life time of a connection; a planned change follows."""
    rollover_window: float = 0.0
    """The replacement at `max_age` comes earlier by a random part of this, so that connections are not replaced all at once."""


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Buffer(Section):
    """What waits for the consumer in the supervisor, per endpoint."""

    max_bytes: int = 64 * 1024 * 1024
    """Bytes that may wait: payloads, and some bytes for each message. The newest message may always wait, whatever its size. A
    message that takes more than half of the bytes is not counted against those after it."""
    overflow: Overflow = "drop_oldest"
    """Above `max_bytes`: drop the oldest messages (`Dropped` names them), stop reading, keep only the newest message per `key`
    (and drop the oldest if these are too many), or give up the connection."""
    key: str = ""
    """For "conflate": JSON field (dotted path) whose value distinguishes messages. Empty: the stream, for a dialect with
    [stream]. A message without this value is never conflated."""


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Limits(Section):
    """How fast an endpoint may connect and send."""

    connects: int | None = None
    """Connects per `connects_period` to one host, shared by all endpoints of the supervisor on that host (the strictest
    value applies). None: 60 a minute, and no limit to a loopback address. 0: no limit."""
    connects_period: float = 60.0
    """The window of `connects`."""
    sends: int = 0
    """Frames per `sends_period` on one connection, evenly spaced. 0: no limit."""
    sends_period: float = 1.0
    """The window of `sends`."""

    @property
    def pace(self) -> float:
        """Seconds from one frame to the next; 0: no limit."""
        return self.sends_period / self.sends if self.sends else 0.0


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Request(Section):
    """How answers are matched with requests. The defaults are those of JSON-RPC."""

    id: str = "id"
    """Dotted path of a request's id. If a request has none, wsadapter adds one."""
    id_type: Literal["int", "text"] = "int"
    """Type of the ids that wsadapter adds."""
    answer_id: str = ""
    """Dotted path of the id in an answer; empty: as in the request."""
    error: str = "error"
    """Dotted path of a value that only a rejection has (null, false, 0 and empty values do not count). Empty: there is no such
    value."""
    success: Mapping[str, Any] = field(default_factory=dict)
    """Dotted path = value: what an answer has if it is no rejection; "*" is any value."""
    timeout: float = 10.0
    """How long an answer may take, unless the request has a timeout of its own."""


@dataclass(frozen=True, slots=True, repr=False)
class Endpoint(_Shown):
    """One connection to keep up.

    `url` alone gives a connection that stays up. Nested settings may be given as mappings: `restart={"intensity": 3}`.
    A dialect gives values only for settings that are not written here; a written 0 switches off what it would switch on.
    Raises `ConfigError` for an unknown key in such a mapping; values are checked when the endpoint is added to a supervisor.
    """

    name: str
    """Unique within the supervisor; every message and event of this endpoint has it."""
    _: KW_ONLY
    url: str | Sequence[str] = ""
    """ws:// or wss://. A list: after each failed connect the next one is used. Optional with a dialect."""
    environment: Literal["live", "test"] = "live"
    """Which of the dialect's URLs to use if `url` is empty."""
    dialect: str = ""
    """A bundled dialect, or the path of a TOML file of your own."""
    subscribe: Sequence[Subscription] = ()
    """The streams. Without a dialect each is sent as it is: a string verbatim, a table as JSON."""
    subscribe_file: str = ""
    """File with more streams, one per line; a reload reads it again."""
    send_on_up: Sequence[str] = ()
    """Raw text frames to send first at every `Up`, before the subscriptions."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """Sent with the handshake."""
    subprotocols: Sequence[str] = ()
    """Subprotocols to offer in the handshake, the preferred one first (RFC 6455 §1.9)."""
    proxy: str = ""
    """http://, socks5:// or socks5h:// (the last resolves names at the proxy). Empty: the environment's (https_proxy,
    http_proxy, all_proxy, no_proxy, by curl's rules); "none": none."""
    bind: str = ""
    """Source address, also of a hook's HTTP requests. Only addresses of the same family are connected to."""
    compression: Compression = False
    """True: offer permessage-deflate (RFC 7692); if the server agrees, a connection does not outlive its owner.
    "no_context_takeover": ask the server to compress each message by itself (`server_no_context_takeover`); a connection then
    outlives its owner as one without compression does, and carries 2 to 7 times as many bytes as with `true`."""
    decode: str = ""
    """"package.module:function", run in the owner for each message: `decode(data: bytes, *, binary: bool, stream: str | None)
    -> bytes | list[bytes] | None`. None delivers nothing, a list several messages. `binary` and `stream` may be left out."""
    deliver_heartbeats: bool = False
    """Deliver heartbeat and housekeeping messages too, which otherwise stay in the owner."""
    max_message: int = 64 * 1024 * 1024
    """A longer message ends the connection with close code 1009."""
    replicas: int = 1
    """Live connections, an owner each, 1 to 16; more than 1 needs an identity. The first that delivers a message wins."""
    identity: str | Sequence[str] = ""
    """What makes two messages equal if several connections deliver them: "bytes", or JSON fields (dotted paths). Empty: as the
    dialect says."""
    gap_check: bool = True
    """Follow the exchange's own numbers if the dialect has rules for them, and report a number that is missing, repeated or
    late by a `Gap` (cause "sequence"). Set it to false if a rule does not hold."""
    make_before_break: bool = True
    """At a planned change of connection (`restart`, `watchdog.max_age`, a changed configuration) the old one is left only when
    the new one is up and subscribed. If messages have an identity, nothing is lost, and nothing comes twice."""
    filter: Filter = Filter()
    """Which streams are delivered."""
    login: Mapping[str, str] = field(default_factory=dict)
    """Key, secret, passphrase, as the dialect asks. With it the dialect logs in at each connection, before it subscribes."""
    hooks: Mapping[str, str] = field(default_factory=dict)
    """Importable functions ("package.module:function") for what data cannot express, instead of the dialect's own:
    `before_connect`, `sign`, `renew`, `decode`. See `wsadapter.worker.hooks`."""
    tls: Tls = Tls()
    """For wss://: what to trust, what to show, what to keep apart."""
    timeouts: Timeouts = Timeouts()
    """Deadlines of single steps."""
    restart: Restart = Restart()
    """When and how fast it gets a new owner."""
    heartbeat: Heartbeat = Heartbeat()
    """How the owner learns that the peer is there."""
    watchdog: Watchdog = Watchdog()
    """What ends an owner that is of no use any more."""
    buffer: Buffer = Buffer()
    """What waits for the consumer."""
    limits: Limits = Limits()
    """How fast an endpoint may connect and send."""
    request: Request = Request()
    """How requests and their answers find each other."""

    if TYPE_CHECKING:

        def __init__(  # the fields, and tables where a section is meant; a test compares them
            self,
            name: str,
            *,
            url: str | Sequence[str] = "",
            environment: Literal["live", "test"] = "live",
            dialect: str = "",
            subscribe: Sequence[Subscription] = (),
            subscribe_file: str = "",
            send_on_up: Sequence[str] = (),
            headers: Mapping[str, str] = {},
            subprotocols: Sequence[str] = (),
            proxy: str = "",
            bind: str = "",
            compression: Compression = False,
            decode: str = "",
            deliver_heartbeats: bool = False,
            max_message: Size = 64 * 1024 * 1024,
            replicas: int = 1,
            identity: str | Sequence[str] = "",
            gap_check: bool = True,
            make_before_break: bool = True,
            filter: Filter | FilterTable = Filter(),  # noqa: A002 - the name of the section
            login: Mapping[str, str] = {},
            hooks: Mapping[str, str] | HooksTable = {},  # noqa: B006
            tls: Tls | TlsTable = Tls(),
            timeouts: Timeouts | TimeoutsTable = Timeouts(),
            restart: Restart | RestartTable = Restart(),
            heartbeat: Heartbeat | HeartbeatTable = Heartbeat(),
            watchdog: Watchdog | WatchdogTable = Watchdog(),
            buffer: Buffer | BufferTable = Buffer(),
            limits: Limits | LimitsTable = Limits(),
            request: Request | RequestTable = Request(),
        ) -> None: ...

    def __post_init__(self) -> None:
        problems: list[Problem] = []
        for name, section in SECTIONS.items():
            value = getattr(self, name)
            if isinstance(value, Mapping):
                object.__setattr__(self, name, _section(section, value, f"endpoints.{self.name}.{name}", problems))
        if problems:
            raise ConfigError(problems)

    @property
    def urls(self) -> tuple[str, ...]:
        """`url` as a tuple, also if it is one string; empty if the dialect has the URL."""
        if isinstance(self.url, str):
            return (self.url,) if self.url else ()
        return tuple(self.url)


SECTIONS: dict[str, type[Any]] = {
    "filter": Filter,
    "tls": Tls,
    "timeouts": Timeouts,
    "restart": Restart,
    "heartbeat": Heartbeat,
    "watchdog": Watchdog,
    "buffer": Buffer,
    "limits": Limits,
    "request": Request,
}
"""The nested sections of an endpoint, `[endpoints.NAME.SECTION]` in TOML."""


def _describe(cls: type[Any], short: str) -> str:
    from wsadapter.contract.settings_help import describe  # only needed to read the docstring

    return describe(cls, short)


_prefixes.update({section: f"{name}." for name, section in SECTIONS.items()})
for _class in (Endpoint, *SECTIONS.values()):
    _class.__doc__ = cast("str", LateDocstring(_class.__doc__ or "", _describe))


def _section(section: type[Any], values: Mapping[str, Any], path: str, problems: list[Problem]) -> Any:
    known = {f.name for f in fields(section)}
    problems += [
        Problem(f"{path}.{key}", f"unknown key; known: {', '.join(sorted(known))}") for key in sorted(values.keys() - known)
    ]
    return section(**{key: value for key, value in values.items() if key in known})


def to_plain(value: Any) -> Any:
    """Settings as plain JSON values, for the control socket."""
    if is_dataclass(value) and not isinstance(value, type):
        return {f.name: to_plain(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): to_plain(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return [to_plain(item) for item in value]
    return value


def endpoint_from_plain(values: Mapping[str, Any]) -> Endpoint:
    """The reverse of `to_plain` for an `Endpoint`."""
    values = dict(values)
    for name, section in SECTIONS.items():
        given = values.get(name, {})
        tuples = _tuples_of(name)
        values[name] = section(**{k: tuple(v) if k in tuples else v for k, v in given.items()})
    return Endpoint(values.pop("name"), **values)


@cache
def _tuples_of(section: str) -> frozenset[str]:
    """The fields that are tuples, which JSON can't express. Cached, because evaluating annotations compiles each of them."""
    return frozenset(name for name, hint in get_type_hints(SECTIONS[section]).items() if hint == tuple[str, ...])
