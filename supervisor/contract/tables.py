"""The sections of an endpoint as tables, for type checkers: `Endpoint("a", restart={"intensity": 3})`.

Every key may be left out, and then has the default of the class that the table stands for. Durations are seconds, or text such
as "500ms" and "23h"; sizes are bytes, or text such as "64MiB". A test compares the keys and types with the classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypedDict

from wsadapter.contract.endpoint import HeartbeatKind, HeartbeatWhen, OnExceeded, Overflow, RestartType

Duration = float | str
"""Seconds, or "500ms", "2m", "23h"."""
Size = int | str
"""Bytes, or "64KiB", "64MiB"."""


class FilterTable(TypedDict, total=False):
    """`Filter` as a table."""

    include: Sequence[str]
    exclude: Sequence[str]


class TlsTable(TypedDict, total=False):
    """`Tls` as a table."""

    verify: bool
    ca_file: str
    cert_file: str
    key_file: str
    key_password: str
    server_name: str
    min_version: Literal["1.2", "1.3"]
    ciphers: str
    pin_sha256: Sequence[str]
    holder: bool


class TimeoutsTable(TypedDict, total=False):
    """`Timeouts` as a table."""

    resolve: Duration
    connect: Duration
    handshake: Duration
    send: Duration
    close: Duration


class RestartTable(TypedDict, total=False):
    """`Restart` as a table."""

    type: RestartType
    intensity: int
    period: Duration
    backoff_initial: Duration
    backoff_factor: float
    backoff_max: Duration
    min_uptime: Duration
    on_exceeded: OnExceeded
    cool_down: Duration


class HeartbeatTable(TypedDict, total=False):
    """`Heartbeat` as a table."""

    kind: HeartbeatKind
    interval: Duration
    timeout: Duration
    payload: str
    reply: str
    when: HeartbeatWhen
    server_interval: Duration
    server_missed: int


class WatchdogTable(TypedDict, total=False):
    """`Watchdog` as a table."""

    startup: Duration
    progress: Duration
    silence: Duration
    stalled: Duration
    live_timeout: Duration
    memory: Size
    max_age: Duration
    rollover_window: Duration


class BufferTable(TypedDict, total=False):
    """`Buffer` as a table."""

    max_bytes: Size
    overflow: Overflow
    key: str


class LimitsTable(TypedDict, total=False):
    """`Limits` as a table."""

    connects: int | None
    connects_period: Duration
    sends: int
    sends_period: Duration


class RequestTable(TypedDict, total=False):
    """`Request` as a table."""

    id: str
    id_type: Literal["int", "text"]
    answer_id: str
    error: str
    success: Mapping[str, Any]
    timeout: Duration


class HooksTable(TypedDict, total=False):
    """`Endpoint.hooks`: importable functions, "package.module:function"."""

    before_connect: str
    sign: str
    renew: str
    decode: str
