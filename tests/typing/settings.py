"""Checked by the type checker alone: the settings of an endpoint, as objects and as tables."""

from __future__ import annotations

from wsadapter import Endpoint, Filter, Restart, RestartTable

SHARED: RestartTable = {"intensity": 3, "period": "1m", "type": "transient"}

tables = Endpoint(
    "a",
    url="wss://stream.example/ws",
    subscribe=["a", {"channel": "b"}],
    max_message="1MiB",
    filter={"include": ["a*"]},
    tls={"verify": True, "min_version": "1.3", "pin_sha256": ["ab" * 32]},
    timeouts={"connect": 3},
    restart={"intensity": 3},
    heartbeat={"kind": "text", "payload": "ping", "interval": "20s"},
    watchdog={"silence": 30.0, "memory": "256MiB"},
    buffer={"max_bytes": "16MiB", "overflow": "conflate", "key": "s"},
    limits={"connects": None, "sends": 5},
    request={"id_type": "text", "success": {"code": 0}},
    hooks={"sign": "mine:sign"},
    login={"key": "${KEY}"},
)
objects = Endpoint("b", url=["ws://a", "ws://b"], restart=Restart(intensity=3), filter=Filter(include=("a*",)))
shared = Endpoint("c", restart=SHARED)
intensity: int = tables.restart.intensity  # whatever was given, the attribute is the object

wrong_key = Endpoint("d", restart={"intensty": 3})  # type: ignore[arg-type]
wrong_type = Endpoint("d", restart={"intensity": "3"})  # type: ignore[arg-type]
wrong_word = Endpoint("d", buffer={"overflow": "drop"})  # type: ignore[arg-type]
wrong_setting = Endpoint("d", restarts={"intensity": 3})  # type: ignore[call-arg]
no_list = Endpoint("d", subscribe={"channel": "b"})  # type: ignore[arg-type]
no_section = Endpoint("d", restart=3)  # type: ignore[arg-type]
