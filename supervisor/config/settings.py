"""The settings of a checked configuration file, as frozen values. Those of endpoints are in the contract."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from wsadapter.contract.endpoint import Endpoint, Restart

Strategy = Literal["one_for_one", "one_for_all", "rest_for_one"]
StartMethod = Literal["forkserver", "spawn"]
OutputKind = Literal["jsonl", "none"]
Sync = Literal["normal", "full"]
SinkStart = Literal["earliest", "latest"]
SinkCompression = Literal["", "none", "zstd"]


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputSettings:
    """Where the items go."""

    kind: OutputKind = "jsonl"
    """"jsonl": one JSON line per item; "none": nowhere."""
    path: str = "-"
    """"-" is standard output. A file is appended to, never truncated; `{endpoint}` and strftime fields such as
    `%Y%m%d-%H` (UTC) are filled in."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalSettings:
    """The journal: what is received, on disk, for any number of consumers. Without this table there is none."""

    path: str = ""
    """Its folder; a relative path starts at the folder of the configuration file. It is made if it is not there. One supervisor
    at a time writes it, and the next one continues its numbers."""
    retain: float = 86400.0
    """What is older is removed, whole segments at a time. 0: no limit."""
    retain_bytes: int = 10 * 1024**3
    """The oldest segments are removed if all take more than this. 0: no limit. At least twice `segment_bytes`."""
    segment_bytes: int = 256 * 1024**2
    """Size of a segment, about: then the next file begins. At least 64KiB."""
    commit: float = 0.02
    """The longest that a record waits for a commit while the disk keeps up, at most 10 s. If little is received, it is
    committed at once."""
    sync: Sync = "normal"
    """"normal": a crash of any process loses nothing that was committed, a power failure the last moments. "full": nothing,
    because each commit waits for the disk."""
    keeper: bool = False
    """For the runner: it is two processes, a keeper and the supervisor. A supervisor that is killed is replaced, usually within
    a second, and no connection closes. On Linux; with `output.kind = "none"` and without `[cluster]`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SinkSettings:
    """Something that the journal is carried to, by a process of its own. Any number of them; each needs a `name`."""

    name: str = ""
    """Unique: letters, digits, "_", "-" and ".". The position of the sink is kept under it."""
    kind: str = ""
    """"jsonl", "parquet", "nats", "kafka", or a class of your own: "package.module:Class"."""
    endpoints: tuple[str, ...] = ()
    """Only these; a sharded one's name stands for its shards. Default: all."""
    start: SinkStart = "earliest"
    """Where a sink without a position begins: with the oldest item of the journal, or with what comes from then on."""
    restart: Restart = field(default_factory=Restart)
    """When and how fast the process is started again after it ended: always, and after `cool_down` if it ended too often."""
    path: str = ""
    """jsonl: the file, in which `{endpoint}` and strftime fields such as `%Y%m%d-%H` (UTC) are filled in. parquet: the
    folder."""
    rotate_bytes: int = 0
    """jsonl: at this size the next file begins: "prices.jsonl", "prices.1.jsonl" ... 0: no limit."""
    compression: SinkCompression = ""
    """jsonl: "zstd" compresses each file when it is complete; default "none". parquet: default "zstd"."""
    servers: str = ""
    """nats: URLs, separated by commas. kafka: host:port, separated by commas. `${...}` is filled in."""
    stream: str = ""
    """nats: the JetStream stream. It is made, without limits, if it is not there."""
    subject: str = ""
    """nats: prefix of the subjects, of which each endpoint has one. Default: the name of the stream."""
    credentials: str = ""
    """nats: path of a file with the user's JWT and key."""
    topic: str = ""
    """kafka: with `{endpoint}`, for each endpoint has a topic, of which partition 0 is used."""
    options: Mapping[str, str] = field(default_factory=dict)
    """kafka: settings of librdkafka, such as `"security.protocol" = "SSL"`. A class of your own: whatever it takes. `${...}` is
    filled in."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterSettings:
    """Hosts that share the endpoints of one configuration, on NATS JetStream. Without this table each host has all of them."""

    name: str = ""
    """Of the cluster: letters, digits, "_" and "-". The bucket and the stream are `WSA_` and this name. Default: the name of
    the supervisor."""
    host: str = ""
    """Of this host, unique in the cluster: letters, digits, "_", "-" and ".". Default: the host name of the machine."""
    servers: str = ""
    """URLs of NATS servers, 2.11 or later with JetStream, separated by commas. `${...}` is filled in."""
    credentials: str = ""
    """Path of a file with the user's JWT and key."""
    ca_file: str = ""
    """Certificates of the authority that signed the servers' certificates; for servers with TLS. Default: the system's."""
    replicas: int = 3
    """Servers that keep the bucket and the stream, where they are not there yet. 1: with one server."""
    lease: float = 3.0
    """A host whose record has not changed for so long is declared dead, and others take its endpoints. A host that cannot renew
    its record stops after two thirds of it. The same on all hosts."""
    weight: float = 1.0
    """Share of the endpoints, relative to other hosts."""
    retain: float = 86400.0
    """How old messages of the stream may become, where the stream is not there yet. 0: no limit."""
    exclusive: tuple[str, ...] = ()
    """Endpoints of which two connections at a time do harm, because a key may have one session: a host that is cut off from
    NATS closes these when its lease runs out. Others it keeps, and goes on to write its own journal."""
    hosts: int = 1
    """On how many hosts each endpoint is connected. 2, with a standby, is not available yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExporterSettings:
    """What shows the runner to browsers, Prometheus and orchestrators: a process of its own."""

    listen: str = ""
    """Address and port of metrics, probes and the status page, such as "127.0.0.1:9464"; port 0 is one that is free. Nothing
    needs a password there, so choose an address that only this machine or trusted ones reach. Default: no exporter."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """A whole configuration file."""

    name: str = ""
    """Name of this instance, of its lock and of its control socket. Default: the file's stem. A user can run one supervisor of
    a name, wherever it is started; with a `runtime_dir`, one in that folder."""
    runtime_dir: str = ""
    """Folder of the lock and the control socket, with names of its own. Default: $WSADAPTER_RUNTIME_DIR. Without it
    $RUNTIME_DIRECTORY, else $XDG_RUNTIME_DIR/wsadapter, else /tmp/wsadapter-UID, which share the names of the user."""
    state_dir: str = ""
    """Folder of the quarantine: messages on which a decode hook failed, or at which owner after owner died. Default:
    $STATE_DIRECTORY, else $XDG_STATE_HOME/wsadapter, else ~/.local/state/wsadapter, else the runtime folder."""
    quarantine_max_bytes: int = 256 * 1024**2
    """Largest size of the quarantine, for all supervisors that share it. Every ten minutes its oldest files are removed until
    it fits. 0: nothing is kept."""
    quarantine_max_age: float = 30 * 86400.0
    """Files of the quarantine are removed if nothing was written to them for longer than this. 0: no limit."""
    strategy: Strategy = "one_for_one"
    """Which other endpoints restart if an owner ends (OTP supervisor: strategy)."""
    spares: int = 1
    """Started owner processes that are kept ready."""
    start_method: StartMethod = "forkserver"
    """How processes are started: "forkserver" or "spawn"."""
    busy_poll: float = 0.0
    """For the lowest latency: seconds that owners and the consumer poll before they sleep. It costs a core for each of them."""
    output: OutputSettings = OutputSettings()
    """Without a table [output], standard output; with a journal, none."""
    journal: JournalSettings | None = None
    """None: there is no journal."""
    sinks: tuple[SinkSettings, ...] = ()
    """Each table [[sink]]."""
    cluster: ClusterSettings | None = None
    """None: there is no cluster."""
    exporter: ExporterSettings = ExporterSettings()
    endpoints: tuple[Endpoint, ...] = ()
    """With `[defaults]` and the lines of `subscribe_file` merged in, paths absolute, `${...}` as written, no dialects."""
    given: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """Per endpoint the keys that the file sets, or `[defaults]`: "url", "heartbeat.kind". For `apply_dialect`."""
    dialects: Mapping[str, dict[str, Any]] = field(default_factory=dict, repr=False, compare=False)
    """The dialects of the endpoints, as they were when they were checked: by name, or by absolute path."""
    source: str = ""
    """Path of the file, as given."""
    folder: str = ""
    """Absolute path of the folder of that file, in which the modules of hooks are searched; "": there is no file."""
