"""The sink that the settings ask for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from wsadapter.config.settings import SinkSettings
from wsadapter.contract.hooks import HookError, load_sink_class
from wsadapter.sinks.base import Sink, SinkMisconfigured

_METHODS: Final = ("open", "write", "flush", "close")
"""`position` is an attribute that may not be there before `open`."""


def make_sink(settings: SinkSettings, sys_path: Sequence[str] = ()) -> Sink:
    """A sink that is not open. Only the library of its kind is imported. Raises `SinkMisconfigured`."""
    name = settings.name
    match settings.kind:
        case "jsonl":
            from wsadapter.sinks.jsonl import JsonlSink

            return JsonlSink(
                name, settings.path, rotate_bytes=settings.rotate_bytes, compression=settings.compression or "none"
            )
        case "parquet":
            from wsadapter.sinks.parquet import ParquetSink

            return ParquetSink(name, settings.path, compression=settings.compression or "zstd")
        case "nats":
            from wsadapter.sinks.nats import NatsSink

            return NatsSink(
                name, settings.servers, stream=settings.stream, subject=settings.subject, credentials=settings.credentials
            )
        case "kafka":
            from wsadapter.sinks.kafka import KafkaSink

            return KafkaSink(name, settings.servers, topic=settings.topic, options=settings.options)
        case _:
            return _users_own(settings, sys_path)


def _users_own(settings: SinkSettings, sys_path: Sequence[str]) -> Sink:
    try:
        make = load_sink_class(settings.kind, sys_path)
    except HookError as error:
        raise SinkMisconfigured(f"sink {settings.name}: {error}") from error
    sink: Sink = make(settings.name, settings.options)
    if absent := [method for method in _METHODS if not callable(getattr(sink, method, None))]:
        raise SinkMisconfigured(f"sink {settings.name}: {settings.kind} has no {', '.join(absent)}")
    return sink
