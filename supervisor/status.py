"""The status as typed values: what `Supervisor.status()`, `Pool.status()` and `python -m wsadapter status --json` return.

All values are plain JSON values. The keys, their types, units and meanings are a promise (`FORMAT`): ops/docs/REFERENCE.md is
made from this file, and tests compare both with a running supervisor.
"""

# Without postponed annotations: `NotRequired` must mark the optional keys at run time too.
from typing import Final, Literal, NotRequired, TypedDict, cast

from wsadapter.config.settings import StartMethod, Strategy
from wsadapter.contract.reasons import Reason
from wsadapter.pool_health import PoolState

FORMAT: Final = 1
"""Raised if a key is removed, renamed, or changes its type, unit or meaning. New keys do not raise it."""
SupervisorState = Literal["new", "running", "stopping", "stopped"]
SinkState = Literal["starting", "running", "backoff", "cooling_down", "fatal", "stopped"]
ClusterState = Literal["joining", "member", "degraded"]
EndpointState = Literal["starting", "connecting", "up", "backoff", "cooling_down", "stopping", "stopped", "fatal"]


class Capabilities(TypedDict):
    """What is used of what the platform could offer."""

    death: str
    """How the death of an owner is noticed: "pidfd", or "sentinel and waitpid"."""
    poll: str
    """"epoll" or "selectors"."""
    start_method: StartMethod
    """How owners are started."""
    handoff: str
    """What happens to a ws:// connection whose owner dies: "ws:// without loss" or "reconnect"."""


class ExitStatus(TypedDict):
    """A `Reason` as JSON: what does not apply is left out."""

    kind: str
    """One of the kinds of a `down` reason."""
    code: NotRequired[int]
    """WebSocket close code."""
    text: NotRequired[str]
    """The close reason, or the text of the last error."""
    status: NotRequired[int]
    """HTTP status of a refused handshake."""
    body: NotRequired[str]
    """The first 4 KiB of a refused handshake's body."""
    retry_after: NotRequired[float]
    """Seconds that the peer asked us to wait."""
    exit_code: NotRequired[int]
    """Exit code of the process."""
    signal: NotRequired[str]
    """Name of the signal that ended the process."""


class SubscriptionStatus(TypedDict):
    """State of the subscriptions of a connection."""

    wanted: int
    """Streams that are wanted."""
    confirmed: int
    """Of these, confirmed by the peer on this connection, or sent if nothing confirms."""
    live: int
    """Of these, those that have delivered on this connection."""
    rejected: dict[str, str]
    """The streams that the peer refused, with its error."""


class EventCounts(TypedDict):
    """How often what happened to an endpoint since it was added; what never happened is left out."""

    downs: dict[str, int]
    """Epochs that ended, by the kind of the `down` reason."""
    gaps: dict[str, int]
    """`Gap` events, by their cause."""
    dropped: dict[str, int]
    """Dropped messages, by the cause."""
    stalled: int
    """`Stalled` events."""
    handoff: float | None
    """Seconds of the last handoff: from the end of an owner until the next owner continued on its connection; null if there was
    none, and with `replicas`."""


class MemberStatus(TypedDict):
    """One of the replicas of an endpoint. The keys that an endpoint has too mean the same, for this connection alone."""

    member: int
    """Its number, from 1."""
    lead: bool
    """Whether it is the replica with which the others are compared."""
    aligned: bool
    """Whether its place in the common stream is known, so that its loss would cost nothing."""
    held: int
    """Messages that wait for their place in the common stream."""
    missed: int
    """Messages that other replicas delivered and this one did not, since it was added."""
    state: EndpointState
    """See "States of an endpoint"."""
    pid: int | None
    """Pid of its owner process; null if there is none."""
    epoch: int
    """Epoch of its last owner."""
    uptime: float | None
    """Seconds since its connection opened; null if it has none."""
    messages: int
    """Messages of the endpoint that were delivered or dropped. A message that another replica delivered first does not
    count."""
    restarts: int
    """Owners that were replaced, as planned or not."""
    silence: float | None
    """Seconds since a message was received, or the connection opened; null before the first time."""
    rtt: float | None
    """Seconds of the last heartbeat's round trip; null if none was measured."""
    memory: int | None
    """Resident bytes of the owner process; null if there is none."""
    last_exit: ExitStatus | None
    """Why its last epoch ended; null if none has."""
    subscriptions: SubscriptionStatus
    """State of its subscriptions."""


class EndpointStatus(TypedDict):
    """One endpoint; with `replicas`, the sums of all its connections. Counts begin when the endpoint is added, and continue
    over a takeover."""

    state: EndpointState
    """See "States of an endpoint"."""
    pid: int | None
    """Pid of its owner process; null if there is none."""
    epoch: int
    """Epoch of its last owner: 1, 2, 3 ...; 0 before the first."""
    uptime: float | None
    """Seconds since its connection opened; null if it has none."""
    messages: int
    """Messages received and numbered."""
    bytes: int
    """Bytes received on its connections, after TLS: the frames, not the payloads."""
    rate: float | None
    """Messages per second over the last 5 to 10 seconds, at first since the start; null while that is not known, and while the
    supervisor does not run."""
    byte_rate: float | None
    """The same for `bytes`."""
    restarts: int
    """Owners that were replaced, as planned or not."""
    gaps: int
    """`Gap` events."""
    handoffs: int
    """Connections that a new owner continued without a loss."""
    in_custody: bool
    """Whether its connection would outlive its owner now."""
    successor: str | None
    """Stage of the next owner of a planned change: "booked", "hired", "connecting", "settling", "ready"; null if there is
    none."""
    holder: int | None
    """Pid of the process that holds its TLS (`tls.holder`); null if there is none."""
    dropped: int
    """Messages of `Dropped` events with a number."""
    filtered: int
    """Messages that `filter` or a decode hook removed."""
    torn: int
    """Owners that died while they wrote a record; its messages are read again, or reported by a `Gap`."""
    silence: float | None
    """Seconds since a message was received, or the connection opened; null before the first time."""
    rtt: float | None
    """Seconds of the last heartbeat's round trip; null if none was measured."""
    buffered: int
    """Bytes that wait for the consumer."""
    pending: int
    """Requests that wait for their answer."""
    memory: int | None
    """Resident bytes of the owner process; null if there is none."""
    last_exit: ExitStatus | None
    """Why its last epoch ended; null if none has."""
    url: str
    """Where it connects, user info and query masked."""
    subscriptions: SubscriptionStatus
    """State of its subscriptions."""
    counts: EventCounts
    """What happened to it, by kinds and causes."""
    group: str | None
    """Of a shard: the endpoint that it is a part of; null otherwise."""
    live: NotRequired[int]
    """Only with `replicas`: how many have a connection."""
    members: NotRequired[list[MemberStatus]]
    """Only with `replicas`: each of them."""


class ConsumerLag(TypedDict):
    """How far a consumer is behind the end of the journal."""

    messages: int
    """Items of the stream that it has not committed: messages and events."""
    bytes: int
    """Of their payloads."""
    seconds: float
    """Between the times of the last item that it has committed and of the last item of the journal; 0 if it is at the end."""


class ConsumerStatus(TypedDict):
    """A consumer of the journal, attached or not."""

    pid: int | None
    """Of its process; null if it is not attached."""
    position: int
    """Place in the stream behind the last item that it has committed."""
    lag: ConsumerLag
    """How far it is behind."""


class JournalStatus(TypedDict):
    """The journal. Positions are places in the whole stream, of which each message and each event takes one."""

    path: str
    """Its folder."""
    segments: int
    """Its files."""
    bytes: int
    """Bytes on disk."""
    end: int
    """Place behind the last item that is committed."""
    waiting: int
    """Bytes of messages that wait for the disk."""
    lag: float
    """Seconds since when something waits for a commit; 0 if nothing does."""
    dropped: int
    """Messages that it could not keep, because the disk did not keep up; each is reported by a `Dropped`."""
    error: str | None
    """Why it can't be written at present; null if it can."""
    consumers: dict[str, ConsumerStatus]
    """Each consumer that has a position, by its name; a sink is "sink:" and its name. Looked at once a second."""


class SinkStatus(TypedDict):
    """A sink of the journal, which is a separate process."""

    kind: str
    """"jsonl", "parquet", "nats", "kafka", or its class."""
    state: SinkState
    """"starting": it connects to its target, and reads its position there. "running". "backoff", "cooling_down": it ended, and
    is started again. "fatal": its settings are wrong. "stopped"."""
    pid: int | None
    """Of its process; null if there is none."""
    restarts: int
    """Processes that were replaced."""
    position: int | None
    """Place in the stream behind the last item that is durable in the target; null before it is known."""
    lag: ConsumerLag | None
    """How far that is behind the end of the journal; null before it is known."""
    last_exit: ExitStatus | None
    """Why its last process ended, by the kinds of the end of a sink; null if none has."""


class ClusterHost(TypedDict):
    """A host of the cluster, as this host sees it."""

    alive: bool
    """Whether it counts as alive: nobody has declared it dead, and it has not left."""
    version: str
    """Of wsadapter."""
    weight: float
    """Its share of the endpoints, relative to other hosts."""
    same_configuration: bool
    """Whether its endpoints are configured as here; else neither host takes new endpoints for the other."""


class ClusterLease(TypedDict):
    """The host that has an endpoint."""

    host: str
    """Name of the host; "": nobody."""
    term: int
    """Grows with each change."""


class ClusterStatus(TypedDict):
    """The cluster, as this host sees it."""

    name: str
    """Of the cluster."""
    host: str
    """Of this host."""
    state: ClusterState
    """"joining": it has no lease yet. "member". "degraded": the lease could not be renewed in time, so other hosts may take its
    endpoints; `trouble` has the reason."""
    lease: float | None
    """Seconds until the lease runs out; less than 0 if it has; null while it joins."""
    trouble: str | None
    """Why the last write to the bucket failed; null if it did not."""
    refused: int
    """Appends of the present agent process that the server refused, because another writer was first."""
    terms: dict[str, int]
    """The endpoints that this host has, with their terms."""
    hosts: dict[str, ClusterHost]
    """Every host that is known, by its name."""
    endpoints: dict[str, ClusterLease | None]
    """The host of each endpoint; null: no host had it yet."""


class KeeperStatus(TypedDict):
    """The keeper of the supervisor (`journal.keeper`)."""

    pid: int
    """Of its process."""
    alive: bool
    """False: it was killed, and nothing replaces the supervisor if that is killed too."""
    kills: int
    """Supervisors of this runner that were killed and replaced."""


class Status(TypedDict):
    """The whole supervisor."""

    format: int
    """Of this schema: 1."""
    name: str
    """Of the supervisor; empty if it has none."""
    run: str
    """Unique in the world; (run, endpoint, number) names one message."""
    pid: int
    """Of the supervisor's process."""
    version: str
    """Of wsadapter."""
    state: SupervisorState
    """"new", "running", "stopping" or "stopped"."""
    uptime: float
    """Seconds since it was started; before, since it was made."""
    strategy: Strategy
    """Who else restarts when an owner ends."""
    spares: int
    """Warm owners that wait for work."""
    capabilities: Capabilities
    """What is used of what the platform could offer."""
    lag: float
    """Seconds by which the supervisor's loop was late when that was last looked at, once a second."""
    lag_worst: float
    """The most of the last minute."""
    connect_budget: dict[str, int]
    """For each host with a limit of connects (`limits.connects`): how many it would allow now. With `bind`, for each host and
    source address."""
    runtime: str | None
    """Path of the control socket, or its abstract name; null without a name."""
    endpoints: dict[str, EndpointStatus]
    """Each endpoint by its name."""
    journal: NotRequired[JournalStatus]
    """Only with a journal."""
    sinks: NotRequired[dict[str, SinkStatus]]
    """Only with sinks: each by its name; the agent of a cluster is one, "cluster"."""
    cluster: NotRequired[ClusterStatus]
    """Only with `[cluster]`."""
    keeper: NotRequired[KeeperStatus]
    """Only with `journal.keeper`."""


class PoolMemberStatus(TypedDict):
    """One member of a pool."""

    state: EndpointState
    """See "States of an endpoint"."""
    pid: int | None
    """Pid of its owner process; null if there is none."""
    epoch: int
    """Epoch of its last owner."""
    pending: int
    """Requests that wait for their answer."""
    rtt: float | None
    """Seconds from a request to its answer, averaged; before the first, of its heartbeat; null if not known."""
    failures: int
    """Requests and connections that it lost within the last 30 seconds."""
    requests: int
    """Requests that it was given."""


class PoolStatus(TypedDict):
    """A `Pool`."""

    name: str
    """Of the pool."""
    state: PoolState
    """"operational": at least `min_up` members are up; "down": none is; "degraded": between."""
    size: int
    """How many members it has."""
    min_up: int
    """How many must be up."""
    up: int
    """How many are up."""
    pending: int
    """Requests that wait for their answer."""
    members: dict[str, PoolMemberStatus]
    """Each member by the name of its endpoint."""


SUMMED: Final[tuple[Literal["messages", "bytes", "restarts", "gaps", "handoffs", "filtered", "torn", "pending"], ...]] = (
    "messages", "bytes", "restarts", "gaps", "handoffs", "filtered", "torn", "pending",
)  # fmt: skip
"""The keys of an endpoint with `replicas` that are the sums of those of all its connections."""
SCHEMA: Final[tuple[type, ...]] = (
    Status, Capabilities, EndpointStatus, MemberStatus, SubscriptionStatus, EventCounts, ExitStatus, JournalStatus,
    ConsumerStatus, ConsumerLag, SinkStatus, ClusterStatus, ClusterHost, ClusterLease, KeeperStatus, PoolStatus,
    PoolMemberStatus,
)  # fmt: skip
"""The whole status, in the order of the documentation."""


def exit_status(reason: Reason | None) -> ExitStatus | None:
    """A reason for the status."""
    return None if reason is None else cast("ExitStatus", reason.to_json())
