"""The metrics: their names, and their values of a reading. The text is prometheus-client's (extra `metrics`), made of a
registry of our own, so that nothing else of the process is in it.

`METRICS` is the only place that names a metric: the reference is made from it, and tests compare the alert rules, the dashboard
and a scrape with it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final, Literal, get_args

from wsadapter.contract.errors import WsAdapterError
from wsadapter.contract.items import DROP_CAUSES, GAP_CAUSES
from wsadapter.contract.reasons import KINDS
from wsadapter.exporter.processes import Usage
from wsadapter.exporter.reading import Reading
from wsadapter.status import ConsumerLag, EndpointState, EndpointStatus, Status

if TYPE_CHECKING:
    from prometheus_client.core import Metric as Family

Value = tuple[tuple[str, ...], float]
"""The values of the labels beyond `endpoint`, and the value."""


class NoMetrics(WsAdapterError):
    """The extra `metrics` is not installed."""


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric."""

    kind: Literal["gauge", "counter"]
    help: str
    labels: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Look:
    """What the values are made of."""

    reading: Reading
    now: float
    status: Status | None

    def usage(self, pid: int | None) -> Usage | None:
        return None if pid is None else self.reading.usage.get(pid)


def _one(value: float | None) -> Iterator[Value]:
    if value is not None:
        yield (), value


def _of_cluster(status: Status, key: Literal["hosts", "terms"]) -> Mapping[str, Any]:
    """Nothing if there is no cluster."""
    return status["cluster"][key] if "cluster" in status else {}


def _each(counts: Mapping[str, int]) -> Iterator[Value]:
    for word, count in counts.items():
        yield (word,), count


def _each_cause(counts: Mapping[str, int], causes: Iterable[str]) -> Iterator[Value]:
    """Also those that never happened: if a count appeared with its first event, Prometheus would see no increase."""
    return _each({**dict.fromkeys(causes, 0), **counts})


def _states(endpoint: EndpointStatus) -> Iterator[Value]:
    for state in get_args(EndpointState):
        yield (state,), endpoint["state"] == state


def _streams(endpoint: EndpointStatus) -> Iterator[Value]:
    streams = endpoint["subscriptions"]
    for state in ("wanted", "confirmed", "live"):
        yield (state,), streams[state]
    yield ("rejected",), len(streams["rejected"])


_OfEndpoint = Callable[[_Look, EndpointStatus], Iterable[Value]]
_ENDPOINT: Final[dict[str, tuple[Metric, _OfEndpoint]]] = {
    "wsadapter_endpoint_up": (
        Metric("gauge", "Whether the endpoint is up: 1 or 0.", ("endpoint",)),
        lambda _, e: _one(e["state"] == "up"),
    ),
    "wsadapter_endpoint_state": (
        Metric("gauge", "1 for the state in which the endpoint is, 0 for the others.", ("endpoint", "state")),
        lambda _, e: _states(e),
    ),
    "wsadapter_endpoint_uptime_seconds": (
        Metric("gauge", "Seconds since the connection opened; absent without one.", ("endpoint",)),
        lambda _, e: _one(e["uptime"]),
    ),
    "wsadapter_endpoint_messages_total": (
        Metric("counter", "Messages received and numbered.", ("endpoint",)),
        lambda _, e: _one(e["messages"]),
    ),
    "wsadapter_endpoint_bytes_total": (
        Metric("counter", "Bytes received on the connections, after TLS.", ("endpoint",)),
        lambda _, e: _one(e["bytes"]),
    ),
    "wsadapter_endpoint_filtered_total": (
        Metric("counter", "Messages that `filter` or a decode hook removed.", ("endpoint",)),
        lambda _, e: _one(e["filtered"]),
    ),
    "wsadapter_endpoint_restarts_total": (
        Metric("counter", "Owners that ended, as planned or not, by the kind of the `down` reason.", ("endpoint", "reason")),
        lambda _, e: _each_cause(e["counts"]["downs"], KINDS),
    ),
    "wsadapter_endpoint_gaps_total": (
        Metric("counter", "`gap` events, by their cause.", ("endpoint", "cause")),
        lambda _, e: _each_cause(e["counts"]["gaps"], GAP_CAUSES),
    ),
    "wsadapter_endpoint_dropped_total": (
        Metric("counter", "Messages that were dropped, by the cause.", ("endpoint", "cause")),
        lambda _, e: _each_cause(e["counts"]["dropped"], DROP_CAUSES),
    ),
    "wsadapter_endpoint_stalled_total": (
        Metric("counter", "`stalled` events: streams that were silent for far longer than usual.", ("endpoint",)),
        lambda _, e: _one(e["counts"]["stalled"]),
    ),
    "wsadapter_endpoint_handoffs_total": (
        Metric("counter", "Connections that a new owner continued without a loss.", ("endpoint",)),
        lambda _, e: _one(e["handoffs"]),
    ),
    "wsadapter_endpoint_handoff_seconds": (
        Metric("gauge", "Seconds that the last handoff took; absent if there was none.", ("endpoint",)),
        lambda _, e: _one(e["counts"]["handoff"]),
    ),
    "wsadapter_endpoint_silence_seconds": (
        Metric("gauge", "Seconds since a message was received, or the connection opened.", ("endpoint",)),
        lambda _, e: _one(e["silence"]),
    ),
    "wsadapter_endpoint_rtt_seconds": (
        Metric("gauge", "Round trip of the last heartbeat; absent if none was measured.", ("endpoint",)),
        lambda _, e: _one(e["rtt"]),
    ),
    "wsadapter_endpoint_buffered_bytes": (
        Metric("gauge", "Bytes that wait for the consumer.", ("endpoint",)),
        lambda _, e: _one(e["buffered"]),
    ),
    "wsadapter_endpoint_pending_requests": (
        Metric("gauge", "Requests that wait for their answer.", ("endpoint",)),
        lambda _, e: _one(e["pending"]),
    ),
    "wsadapter_endpoint_streams": (
        Metric("gauge", "Streams by state: wanted, confirmed, live (has delivered), rejected.", ("endpoint", "state")),
        lambda _, e: _streams(e),
    ),
    "wsadapter_endpoint_replicas_live": (
        Metric("gauge", "With `replicas`: how many have a connection.", ("endpoint",)),
        lambda _, e: _one(e.get("live")),
    ),
    "wsadapter_endpoint_owner_memory_bytes": (
        Metric("gauge", "Resident memory of the owner process; with `replicas`, of all.", ("endpoint",)),
        lambda look, e: _one(_sum_of(look, e, lambda usage: usage.memory)),
    ),
    "wsadapter_endpoint_owner_cpu_seconds": (
        Metric("gauge", "CPU time of the present owner process; with `replicas`, of all.", ("endpoint",)),
        lambda look, e: _one(_sum_of(look, e, lambda usage: usage.cpu)),
    ),
}  # fmt: skip


def _sum_of(look: _Look, endpoint: EndpointStatus, field: Callable[[Usage], float]) -> float | None:
    members = endpoint.get("members")
    pids = [endpoint["pid"]] if members is None else [member["pid"] for member in members]
    usages = [usage for pid in pids if (usage := look.usage(pid)) is not None]
    return sum(map(field, usages)) if usages else None


def _consumers(status: Status, amount: Callable[[ConsumerLag], float]) -> Iterator[Value]:
    if "journal" in status:
        for name, consumer in status["journal"]["consumers"].items():
            yield (name,), amount(consumer["lag"])


_OfSupervisor = Callable[[_Look, Status], Iterable[Value]]
_SUPERVISOR: Final[dict[str, tuple[Metric, _OfSupervisor]]] = {
    "wsadapter_info": (
        Metric("gauge", "Always 1; its labels name the supervisor.", ("name", "version", "run")),
        lambda _, s: [((s["name"], s["version"], s["run"]), 1)],
    ),
    "wsadapter_uptime_seconds": (
        Metric("gauge", "Seconds since the supervisor was started."),
        lambda _, s: _one(s["uptime"]),
    ),
    "wsadapter_loop_lag_seconds": (
        Metric("gauge", "How late the supervisor's loop was when it last looked, once a second."),
        lambda _, s: _one(s["lag"]),
    ),
    "wsadapter_loop_lag_max_seconds": (
        Metric("gauge", "The most that the supervisor's loop was late within the last minute."),
        lambda _, s: _one(s["lag_worst"]),
    ),
    "wsadapter_spares": (
        Metric("gauge", "Warm owner processes that wait for work."),
        lambda _, s: _one(s["spares"]),
    ),
    "wsadapter_connect_budget": (
        Metric("gauge", "How many connects a host would allow now, by `limits.connects`.", ("host",)),
        lambda _, s: _each(s["connect_budget"]),
    ),
    "wsadapter_consumer_lag_messages": (
        Metric("gauge", "Items of the journal that the consumer has not committed; of a sink: `sink:NAME`.", ("consumer",)),
        lambda _, s: _consumers(s, lambda lag: lag["messages"]),
    ),
    "wsadapter_consumer_lag_seconds": (
        Metric("gauge", "Seconds between the last item of the consumer and the last of the journal.", ("consumer",)),
        lambda _, s: _consumers(s, lambda lag: lag["seconds"]),
    ),
    "wsadapter_sink_up": (
        Metric("gauge", "Whether the sink is running: 1 or 0.", ("sink",)),
        lambda _, s: [((name,), sink["state"] == "running") for name, sink in s.get("sinks", {}).items()],
    ),
    "wsadapter_sink_restarts_total": (
        Metric("counter", "Processes of the sink that were replaced.", ("sink",)),
        lambda _, s: [((name,), sink["restarts"]) for name, sink in s.get("sinks", {}).items()],
    ),
    "wsadapter_keeper_up": (
        Metric("gauge", "Whether the keeper is there, which replaces a supervisor that is killed: 1 or 0. Absent without one."),
        lambda _, s: _one(s["keeper"]["alive"] if "keeper" in s else None),
    ),
    "wsadapter_supervisor_kills_total": (
        Metric("counter", "Supervisors that were killed and replaced by the keeper. Absent without one."),
        lambda _, s: _one(s["keeper"]["kills"] if "keeper" in s else None),
    ),
    "wsadapter_cluster_member": (
        Metric("gauge", "Whether this host holds its lease in the cluster: 1 or 0."),
        lambda _, s: _one(s["cluster"]["state"] == "member" if "cluster" in s else None),
    ),
    "wsadapter_cluster_host_up": (
        Metric("gauge", "Whether a host of the cluster is alive, as this host sees it: 1 or 0.", ("host",)),
        lambda _, s: [((name,), host["alive"]) for name, host in _of_cluster(s, "hosts").items()],
    ),
    "wsadapter_cluster_term": (
        Metric("gauge", "The term of an endpoint that this host has; it grows with each change of host.", ("endpoint",)),
        lambda _, s: _each(_of_cluster(s, "terms")),
    ),
    "wsadapter_cluster_refused_total": (
        Metric("counter", "Appends to the cluster's stream that the server refused, because another host was first."),
        lambda _, s: _one(s["cluster"]["refused"] if "cluster" in s else None),
    ),
    "wsadapter_memory_bytes": (
        Metric("gauge", "Resident memory of the supervisor process."),
        lambda look, s: _one(usage.memory if (usage := look.usage(s["pid"])) else None),
    ),
    "wsadapter_cpu_seconds": (
        Metric("gauge", "CPU time of the supervisor process."),
        lambda look, s: _one(usage.cpu if (usage := look.usage(s["pid"])) else None),
    ),
}
_EXPORTER: Final[dict[str, tuple[Metric, Callable[[_Look], Iterable[Value]]]]] = {
    "wsadapter_up": (
        Metric("gauge", "Whether the supervisor answers: 1 or 0. If it does not, all metrics below are absent."),
        lambda look: _one(look.status is not None),
    ),
    "wsadapter_status_age_seconds": (
        Metric("gauge", "Seconds since the supervisor answered last; absent before the first time."),
        lambda look: _one(look.reading.age(look.now)),
    ),
    "wsadapter_status_seconds": (
        Metric("gauge", "How long the supervisor took for its last answer; absent before the first time."),
        lambda look: _one(look.reading.seconds if look.reading.status is not None else None),
    ),
}
METRICS: Final[dict[str, Metric]] = {
    name: metric for table in (_EXPORTER, _SUPERVISOR, _ENDPOINT) for name, (metric, _) in table.items()
}
"""Every metric by its name."""


def values(reading: Reading, now: float) -> Iterator[tuple[str, Metric, list[Value]]]:
    """Each metric with its values: the labels of `Metric.labels` in their order."""
    look = _Look(reading, now, reading.current(now))
    for name, (metric, of_exporter) in _EXPORTER.items():
        yield name, metric, list(of_exporter(look))
    if look.status is None:
        return
    for name, (metric, of_supervisor) in _SUPERVISOR.items():
        yield name, metric, list(of_supervisor(look, look.status))
    for name, (metric, of_endpoint) in _ENDPOINT.items():
        endpoints = look.status["endpoints"].items()
        yield name, metric, [((label, *more), v) for label, e in endpoints for more, v in of_endpoint(look, e)]


def is_installed() -> bool:
    """Whether prometheus-client is."""
    return find_spec("prometheus_client") is not None


class Exposition:
    """Texts for a scraper. The text of a reading is made once, for all clients."""

    def __init__(self) -> None:
        """Raises `NoMetrics`."""
        if not is_installed():
            raise NoMetrics("the metrics need prometheus-client: pip install 'wsadapter[metrics]'")
        from prometheus_client import CollectorRegistry

        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)
        self._reading: Reading | None = None
        self._now = 0.0
        self._made: dict[str, tuple[bytes, str]] = {}

    def text(self, reading: Reading, now: float, accept: str) -> tuple[bytes, str]:
        """The text and its content type, in the format that the scraper's header `Accept` asks for."""
        from prometheus_client.exposition import choose_encoder

        encode, content_type = choose_encoder(accept)
        if reading is not self._reading:
            self._reading, self._now, self._made = reading, now, {}
        if content_type not in self._made:
            self._made[content_type] = encode(self._registry), content_type
        return self._made[content_type]

    def collect(self) -> Iterator[Family]:
        """For the registry."""
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        if self._reading is None:
            return
        for name, metric, found in values(self._reading, self._now):
            family: Any = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
            made = family(name, metric.help, labels=metric.labels)
            for labels, value in found:
                made.add_metric(labels, value)
            yield made
