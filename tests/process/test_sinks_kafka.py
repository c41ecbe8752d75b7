"""The Kafka sink against the mock broker that librdkafka contains.

It speaks the protocol over TCP, also that of transactions. It keeps no marks of transactions, so what was aborted is read too,
and it shuts no producer out: a kill within a transaction, and a frozen writer, can only be tested against a real broker.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.journals import add, batch, writing
from tests.support.sinks import carry, line_numbers
from wsadapter.sinks.base import OtherWriter, SinkMisconfigured, TargetUnavailable
from wsadapter.sinks.feed import JournalFeed, first_position
from wsadapter.sinks.kafka import KafkaSink

confluent_kafka = pytest.importorskip("confluent_kafka")
BOTH = list(range(1, 201))


@pytest.fixture
def broker() -> Iterator[str]:
    """host:port of three brokers, which live as long as a producer of their own."""
    from confluent_kafka.admin import AdminClient

    cluster = AdminClient({"bootstrap.servers": "mock", "test.mock.num.brokers": 3})
    brokers = cluster.list_topics(timeout=10).brokers.values()
    yield ",".join(f"{each.host}:{each.port}" for each in brokers)
    del cluster


def sink(broker: str, **options: str) -> KafkaSink:
    return KafkaSink("s", broker, topic="prices.{endpoint}", options=options)


def read(broker: str, topic: str) -> list[Any]:
    """Every record of partition 0."""
    settings = {"bootstrap.servers": broker, "group.id": "test", "enable.partition.eof": True, "enable.auto.commit": False}
    consumer = confluent_kafka.Consumer(settings)
    consumer.assign([confluent_kafka.TopicPartition(topic, 0, 0)])
    found = []
    try:
        while (message := consumer.poll(10)) is not None and message.error() is None:
            found.append(message)
        return found
    finally:
        consumer.close()


def lines(broker: str, topic: str) -> list[dict[str, Any]]:
    return [json.loads(message.value()) for message in read(broker, topic)]


def test_each_endpoint_has_a_topic_with_every_item_once(broker: str, journal: Path) -> None:
    carry(journal, sink(broker))
    assert line_numbers(lines(broker, "prices.a"), "a") == BOTH
    assert line_numbers(lines(broker, "prices.b.231"), "b#1") == BOTH
    assert lines(broker, "prices..supervisor")[0]["event"] == "started"
    last = read(broker, "prices.a")[-1]
    headers = {name: value.decode() for name, value in last.headers()}
    assert (headers["endpoint"], headers["number"], headers["run"]) == ("a", "200", "0123456789abcdef")
    assert last.key() == b"a"


def test_the_position_is_read_back_from_the_topic(broker: str, journal: Path) -> None:
    carry(journal, sink(broker))
    (journal / "sinks/test.json").unlink()
    with writing(journal) as writer:
        add(writer, batch("a", [b"new"], 201))
    carry(journal, sink(broker))
    assert line_numbers(lines(broker, "prices.a"), "a") == [*BOTH, 201]
    assert line_numbers(lines(broker, "prices.b.231"), "b#1") == BOTH


def test_what_another_writer_wrote_since_the_position_was_read_is_seen(broker: str, journal: Path) -> None:
    one, two = sink(broker), sink(broker)
    begin = first_position(journal, "earliest")
    for each in (one, two):
        assert each.open(begin) == begin
    feed = JournalFeed(journal, begin)
    batch_of_both = feed.read()
    assert batch_of_both is not None
    one.write(batch_of_both)
    with pytest.raises(OtherWriter, match="another writer has written"):
        two.write(batch_of_both)
    one.close()
    two.close()
    feed.close()
    carry(journal, sink(broker))
    assert line_numbers(lines(broker, "prices.a"), "a") == BOTH


def test_a_producer_that_is_shut_out_is_another_writer(broker: str) -> None:
    one = sink(broker)
    kinds = confluent_kafka.KafkaError
    fenced = (kinds._FENCED, kinds.INVALID_PRODUCER_EPOCH, kinds.PRODUCER_FENCED)
    errors = [one._reason(confluent_kafka.KafkaException(kinds(code))) for code in fenced]
    assert [type(error) for error in errors] == [OtherWriter] * 3


def test_no_broker_is_unavailable(journal: Path) -> None:
    with pytest.raises(TargetUnavailable, match="Kafka 127"):
        carry(journal, sink("127.0.0.1:1", **{"socket.connection.setup.timeout.ms": "1000"}))


def test_settings_that_are_the_sinks_own_or_unknown_are_refused(journal: Path) -> None:
    with pytest.raises(SinkMisconfigured, match=r"acks is set by the sink"):
        sink("127.0.0.1:1", acks="0")
    with pytest.raises(SinkMisconfigured, match="No such configuration property"):
        carry(journal, sink("127.0.0.1:1", nonsense="0"))
