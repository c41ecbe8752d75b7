"""Kafka: one topic, one transactional producer for each endpoint.

`transactional.id` is the fence: a producer that begins with an id shuts out the one before it, also one that was frozen
meanwhile. Each batch is one transaction, so readers with `isolation.level = read_committed` see it whole or not at all. The
position of an endpoint is in the headers of the last committed record of its topic.
"""

from __future__ import annotations

from collections.abc import Mapping
from time import monotonic
from typing import Any, Final

from wsadapter.contract.items import Batch
from wsadapter.outputs.lines import batch_lines, event_line
from wsadapter.sinks.base import (
    EndpointPosition,
    OtherWriter,
    Position,
    SinkBatch,
    SinkError,
    SinkMisconfigured,
    SinkRecord,
    TargetRefused,
    TargetUnavailable,
)
from wsadapter.sinks.lines import Piece, token

try:
    import confluent_kafka
except ImportError:  # `KafkaSink` raises an error that names the extra
    confluent_kafka = None

ENDPOINT: Final = "{endpoint}"
_PATIENCE: Final = 15.0
_PARTITION: Final = 0
_OWN: Final = frozenset({"bootstrap.servers", "transactional.id", "enable.idempotence", "acks"})
"""Settings of librdkafka that are this sink's."""


class KafkaSink:
    """The sink `kind = "kafka"`."""

    def __init__(self, name: str, servers: str, *, topic: str, options: Mapping[str, str] | None = None) -> None:
        """`servers`: host:port, separated by commas. `topic`: with `{endpoint}`. `options`: settings of librdkafka."""
        if confluent_kafka is None:
            raise SinkMisconfigured('kind = "kafka" needs confluent-kafka: pip install "wsadapter[kafka]"')
        if own := sorted(_OWN & set(options or ())):
            raise SinkMisconfigured(f"kafka: {own[0]} is set by the sink; remove it from options")
        self.name = name
        self._topic = topic
        self._options = dict(options or {}) | {"bootstrap.servers": servers}
        self._servers = servers
        self._producers: dict[str, Any] = {}
        """By endpoint."""
        self._position: Position | None = None
        self._failed: Exception | None = None
        """The broker's answer to a record."""

    # -- the position ----------------------------------------------------------------------------------------------------

    def open(self, position: Position) -> Position:
        """Read the last committed record of each endpoint's topic. Raises `SinkError`."""
        head, _, tail = self._topic.partition(ENDPOINT)
        consumer = self._consumer()
        try:
            topics = consumer.list_topics(timeout=_PATIENCE).topics
            found: dict[str, EndpointPosition] = {}
            for topic in topics:
                if not (topic.startswith(head) and topic.endswith(tail)):
                    continue
                said = self._last(consumer, topic)
                if said.get("journal") != position.journal:
                    continue
                endpoint = said["endpoint"]
                self._producer(endpoint)  # shuts out the one before it: nothing of that one is committed afterwards
                said = self._last(consumer, topic)
                at = int(said["at"]) if said.get("at") else None
                found[endpoint] = EndpointPosition(int(said["end"]), int(said["number"]), int(said["epoch"]), at, said["run"])
        except confluent_kafka.KafkaException as error:
            raise self._reason(error) from error
        finally:
            consumer.close()
        self._position = position.with_endpoints(found)
        return self._position

    def _consumer(self) -> Any:
        settings = {
            "group.id": f"wsadapter.{self.name}", "enable.auto.commit": False, "isolation.level": "read_committed",
            "enable.partition.eof": True,
        }  # fmt: skip
        return self._made(confluent_kafka.Consumer, settings)

    def _last(self, consumer: Any, topic: str) -> dict[str, str]:
        """Headers of the last committed record; nothing: there is none."""
        place = confluent_kafka.TopicPartition(topic, _PARTITION)
        low, high = consumer.get_watermark_offsets(place, timeout=_PATIENCE)
        step = 64
        while high > low:
            begin = max(low, high - step)
            headers = self._last_from(consumer, topic, begin)
            if headers or begin == low:
                return headers
            step *= 8  # what is there are marks of transactions, and records of those that were aborted
        return {}

    def _last_from(self, consumer: Any, topic: str, begin: int) -> dict[str, str]:
        consumer.assign([confluent_kafka.TopicPartition(topic, _PARTITION, begin)])
        deadline = monotonic() + _PATIENCE
        headers: dict[str, str] = {}
        while True:
            message = consumer.poll(1.0)
            if message is None:
                if monotonic() >= deadline:
                    raise TargetUnavailable(f"Kafka {self._servers}: the end of {topic} cannot be read")
                continue
            if message.error() is None:
                headers = {name: value.decode() for name, value in message.headers() or ()}
            elif message.error().code() == getattr(confluent_kafka.KafkaError, "_PARTITION_EOF"):  # noqa: B009 - public in spite of its name
                return headers
            else:
                raise confluent_kafka.KafkaException(message.error())

    # -- writing ---------------------------------------------------------------------------------------------------------

    def write(self, batch: SinkBatch) -> None:
        """One transaction for each endpoint; all are committed afterwards. Raises `SinkError`."""
        try:
            for endpoint, records in batch.by_endpoint().items():
                self._write(endpoint, records)
        except confluent_kafka.KafkaException as error:
            raise self._reason(error) from error
        self._position = batch.after

    def _write(self, endpoint: str, records: list[SinkRecord]) -> None:
        assert self._position is not None
        if endpoint not in self._producers:
            self._begin(endpoint)
        producer = self._producers[endpoint]
        producer.begin_transaction()
        for record in records:
            for value, each in _single(record):
                at = Piece(b"", (each,)).position
                said = {
                    "journal": self._position.journal, "run": at.run, "endpoint": endpoint, "epoch": at.epoch,
                    "number": at.number, "end": at.seq, "at": at.at or "",
                }  # fmt: skip
                headers = [(name, str(value).encode()) for name, value in said.items()]
                self._produce(producer, endpoint, value, headers, each.at // 1_000_000)
        producer.commit_transaction(_PATIENCE)
        if self._failed is not None:
            raise self._failed

    def _begin(self, endpoint: str) -> None:
        """The first record of an endpoint. Its topic was empty in `open`; a record that is there now is another writer's, which
        can write nothing more from here on."""
        self._producer(endpoint)
        consumer = self._consumer()
        try:
            topic = self._topic_of(endpoint)
            found = consumer.list_topics(topic, timeout=_PATIENCE).topics[topic]
            said = self._last(consumer, topic) if found.error is None and found.partitions else {}
        finally:
            consumer.close()
        assert self._position is not None
        if said.get("journal") == self._position.journal:
            raise OtherWriter(f"Kafka {self._servers}: another writer has written to {topic}")

    def _produce(self, producer: Any, endpoint: str, value: bytes, headers: list[tuple[str, bytes]], at: int) -> None:
        while True:
            try:
                producer.produce(
                    self._topic_of(endpoint), value, endpoint.encode(), partition=_PARTITION, headers=headers, timestamp=at,
                    on_delivery=self._delivered,
                )  # fmt: skip
                producer.poll(0)
            except BufferError:  # the queue of librdkafka is full
                if producer.poll(_PATIENCE) == 0:
                    raise TargetUnavailable(f"Kafka {self._servers}: the broker accepts no records") from None
            else:
                return

    def _delivered(self, error: Any, _: Any) -> None:
        if error is not None and self._failed is None:
            self._failed = confluent_kafka.KafkaException(error)

    def _topic_of(self, endpoint: str) -> str:
        return self._topic.replace(ENDPOINT, token(endpoint, "."))

    def _producer(self, endpoint: str) -> Any:
        producer = self._producers.get(endpoint)
        if producer is None:
            own = {"transactional.id": f"{self.name}.{token(endpoint, '.')}", "enable.idempotence": True}
            producer = self._made(confluent_kafka.Producer, own)
            producer.init_transactions(_PATIENCE)
            self._producers[endpoint] = producer
        return producer

    def _made(self, kind: Any, own: Mapping[str, object]) -> Any:
        try:
            return kind({**self._options, **own})
        except confluent_kafka.KafkaException as error:
            raise SinkMisconfigured(f"kafka: {error.args[0].str()}") from error

    def _reason(self, error: Any) -> SinkError:
        said = error.args[0]
        text = f"Kafka {self._servers}: {said.str()}"
        kinds = confluent_kafka.KafkaError
        fenced = (getattr(kinds, "_FENCED"), kinds.INVALID_PRODUCER_EPOCH, kinds.PRODUCER_FENCED)  # noqa: B009 - as above
        if said.code() in fenced:
            return OtherWriter(text)
        refused = (
            kinds.TOPIC_AUTHORIZATION_FAILED, kinds.CLUSTER_AUTHORIZATION_FAILED, kinds.MSG_SIZE_TOO_LARGE,
            kinds.TRANSACTIONAL_ID_AUTHORIZATION_FAILED, kinds.UNKNOWN_TOPIC_OR_PART, kinds.TOPIC_EXCEPTION,
        )  # fmt: skip
        return TargetRefused(text) if said.code() in refused else TargetUnavailable(text)

    def flush(self) -> None:
        """Does nothing: `write` commits."""

    @property
    def position(self) -> Position:
        """The position that is committed."""
        assert self._position is not None
        return self._position

    def close(self) -> None:
        """Let the producers go; a transaction that is open is aborted by the broker."""
        for producer in self._producers.values():
            producer.purge()
        self._producers.clear()


def _single(record: SinkRecord) -> list[tuple[bytes, SinkRecord]]:
    """One line for each message, without its end."""
    if not isinstance(record.item, Batch):
        return [(event_line(record.item)[:-1], record)]
    parts = [record.part(at, at + 1) for at in range(len(record.item))]
    return [(batch_lines(part.item)[:-1], part) for part in parts if isinstance(part.item, Batch)]
