"""Every metric has its name, its meaning and its value; what is not known is absent."""

from __future__ import annotations

import re

import pytest

from tests.support.statuses import CLUSTER, JOURNAL, KEEPER, SINKS, endpoint, reading, supervisor
from wsadapter.exporter import metrics
from wsadapter.exporter.metrics import METRICS, Exposition, NoMetrics, values

PROMISED = (
    "wsadapter_endpoint_up", "wsadapter_endpoint_messages_total", "wsadapter_endpoint_bytes_total",
    "wsadapter_endpoint_restarts_total", "wsadapter_endpoint_gaps_total", "wsadapter_endpoint_dropped_total",
    "wsadapter_endpoint_silence_seconds", "wsadapter_endpoint_stalled_total", "wsadapter_endpoint_rtt_seconds",
    "wsadapter_endpoint_handoff_seconds", "wsadapter_endpoint_buffered_bytes", "wsadapter_endpoint_owner_memory_bytes",
    "wsadapter_loop_lag_seconds", "wsadapter_spares", "wsadapter_connect_budget", "wsadapter_consumer_lag_messages",
    "wsadapter_sink_up",
)  # fmt: skip
"""Dashboards and alerts of users rest on these names."""
SAMPLE = re.compile(r"(?P<name>\w+)(?:\{(?P<labels>.*)\})? (?P<value>\S+)")


def scraped(text: str) -> dict[str, float]:
    """The samples of a text, by name and labels."""
    found = [SAMPLE.fullmatch(line) for line in text.splitlines() if line and not line.startswith("#")]
    assert all(found), text
    return {f"{m['name']}{{{m['labels'] or ''}}}": float(m["value"]) for m in found if m}


def text_of(status: object, now: float = 100.5) -> str:
    return Exposition().text(reading(status), now, "")[0].decode()  # type: ignore[arg-type]


def test_the_names_that_users_rely_on_are_there() -> None:
    assert set(PROMISED) <= METRICS.keys()


def test_names_follow_prometheus() -> None:
    for name, metric in METRICS.items():
        assert name.startswith("wsadapter_")
        assert name.endswith("_total") == (metric.kind == "counter"), name
        assert metric.help.endswith("."), name


def test_a_scrape_has_every_metric_of_an_endpoint_that_has_all() -> None:
    text = text_of(
        supervisor(
            {"a": endpoint(live=1, members=[{"pid": 4711}])}, journal=JOURNAL, sinks=SINKS, cluster=CLUSTER, keeper=KEEPER
        )
    )
    samples = scraped(text)
    assert {key.partition("{")[0] for key in samples} == METRICS.keys()
    assert samples['wsadapter_endpoint_up{endpoint="a"}'] == 1
    assert samples['wsadapter_endpoint_restarts_total{endpoint="a",reason="crashed"}'] == 1
    assert samples['wsadapter_endpoint_gaps_total{cause="reconnected",endpoint="a"}'] == 1
    assert samples['wsadapter_endpoint_dropped_total{cause="overflow",endpoint="a"}'] == 7
    assert samples['wsadapter_endpoint_dropped_total{cause="poison",endpoint="a"}'] == 0  # so that its first one is an increase
    assert samples['wsadapter_endpoint_gaps_total{cause="sequence",endpoint="a"}'] == 0
    assert samples['wsadapter_endpoint_restarts_total{endpoint="a",reason="hung"}'] == 0
    assert samples['wsadapter_endpoint_rtt_seconds{endpoint="a"}'] == 0.0125
    assert samples['wsadapter_endpoint_handoff_seconds{endpoint="a"}'] == 0.004
    assert samples['wsadapter_endpoint_owner_memory_bytes{endpoint="a"}'] == 20_000_000
    assert samples['wsadapter_endpoint_state{endpoint="a",state="up"}'] == 1
    assert samples['wsadapter_endpoint_state{endpoint="a",state="fatal"}'] == 0
    assert samples['wsadapter_endpoint_streams{endpoint="a",state="rejected"}'] == 1
    assert samples['wsadapter_connect_budget{host="stream.example.com"}'] == 290
    assert samples['wsadapter_consumer_lag_messages{consumer="risk"}'] == 90_000
    assert samples['wsadapter_consumer_lag_messages{consumer="sink:nats"}'] == 12
    assert samples['wsadapter_consumer_lag_seconds{consumer="strategy"}'] == 0.5
    assert samples['wsadapter_sink_up{sink="nats"}'] == 0
    assert samples['wsadapter_sink_up{sink="lines"}'] == 1
    assert samples['wsadapter_sink_restarts_total{sink="nats"}'] == 3
    assert samples["wsadapter_keeper_up{}"] == 1
    assert samples["wsadapter_supervisor_kills_total{}"] == 2
    assert samples["wsadapter_cluster_member{}"] == 1
    assert samples['wsadapter_cluster_host_up{host="b"}'] == 0
    assert samples['wsadapter_cluster_term{endpoint="a"}'] == 7
    assert samples["wsadapter_cluster_refused_total{}"] == 2
    assert samples["wsadapter_up{}"] == 1
    assert samples["wsadapter_memory_bytes{}"] == 30_000_000
    for name, metric in METRICS.items():
        family = name.removesuffix("_total") if "# HELP " + name not in text else name
        assert f"# HELP {family} {metric.help}" in text


def test_what_is_not_known_is_absent_and_never_zero() -> None:
    counts = {"downs": {}, "gaps": {}, "dropped": {}, "handoff": None}
    bare = endpoint(state="connecting", pid=None, uptime=None, silence=None, rtt=None, last_exit=None, counts=counts)
    samples = scraped(text_of(supervisor({"a": bare})))
    assert samples['wsadapter_endpoint_up{endpoint="a"}'] == 0
    for name in ("rtt_seconds", "silence_seconds", "uptime_seconds", "handoff_seconds", "owner_memory_bytes", "replicas_live"):
        assert not [key for key in samples if key.startswith(f"wsadapter_endpoint_{name}")], name


def test_a_supervisor_that_does_not_answer_has_no_endpoints() -> None:
    status = supervisor({"a": endpoint()})
    assert scraped(text_of(status, now=111.0)) == {
        "wsadapter_up{}": 0,
        "wsadapter_status_age_seconds{}": 11.0,
        "wsadapter_status_seconds{}": 0.002,
    }
    assert scraped(text_of(None)) == {"wsadapter_up{}": 0}


def test_labels_are_escaped() -> None:
    text = text_of(supervisor({'q"uote\\': endpoint()}))
    assert 'wsadapter_endpoint_up{endpoint="q\\"uote\\\\"} 1.0' in text


def test_the_text_of_a_reading_is_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    monkeypatch.setattr(metrics, "values", lambda *seen: made.append(seen) or values(*seen))
    exposition, first, second = Exposition(), reading(supervisor({})), reading(supervisor({}), at=101.0)
    for found in (first, first, second, first):
        exposition.text(found, 101.5, "")
    assert [seen[0] for seen in made] == [first, second, first]


def test_openmetrics_for_whoever_asks_for_it() -> None:
    text, kind = Exposition().text(reading(supervisor({})), 100.0, "application/openmetrics-text; version=1.0.0")
    assert kind.startswith("application/openmetrics-text")
    assert text.endswith(b"# EOF\n")


def test_without_the_extra_there_is_an_error_that_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "is_installed", lambda: False)
    with pytest.raises(NoMetrics, match=r"pip install 'wsadapter\[metrics\]'"):
        Exposition()
