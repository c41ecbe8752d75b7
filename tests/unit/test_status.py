"""The status: what it holds, what its types say, and what is documented, are the same."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any, get_args, get_type_hints

import orjson
import pytest

from tests.support.schema import deviations
from wsadapter import Endpoint, ExitStatus, Pool, PoolStatus, Reason, Status, Supervisor
from wsadapter import status as schema
from wsadapter.contract.meanings import meanings_of
from wsadapter.contract.reasons import KINDS
from wsadapter.endpoint.link_state import STATES

REFERENCE = (Path(__file__).resolve().parents[2] / "ops/docs/REFERENCE.md").read_text("utf-8")
URL = "ws://127.0.0.1:9/"


@pytest.fixture
def feed() -> Iterator[Supervisor]:
    """An endpoint alone, one with replicas, one that makes shards; nothing is started."""
    supervisor = Supervisor(
        [
            Endpoint("alone", url="ws://me:secret@127.0.0.1:9/?key=secret"),
            Endpoint("twice", url=URL, replicas=2, identity="bytes"),
            Endpoint("many", dialect="bitfinex", subscribe=[{"channel": "trades", "symbol": f"t{n}"} for n in range(60)]),
        ],
        name="here",
    )
    yield supervisor
    supervisor.stop()


def test_the_status_is_what_its_types_say(feed: Supervisor) -> None:
    for _ in range(2):
        status = feed.status()
        assert deviations(status, Status) == []
        assert orjson.loads(orjson.dumps(status)) == status
        assert status["format"] == schema.FORMAT
        assert {name: len(endpoint.get("members", ())) for name, endpoint in status["endpoints"].items()} == {
            "alone": 0, "twice": 2, "many#1": 0, "many#2": 0, "many#3": 0,
        }  # fmt: skip
        assert status["endpoints"]["many#2"]["group"] == "many"
        assert "secret" not in str(status)
        feed.stop()


def test_the_status_of_a_pool_is_what_its_types_say() -> None:
    pool = Pool(Endpoint("orders", url=URL), 2)
    assert deviations(pool.status(), PoolStatus) == []
    pool.stop()
    assert deviations(pool.status(), PoolStatus) == []


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda s: s.pop("run"), "status.run: missing"),
        (lambda s: s.update(extra=1), "status.extra: not in the schema"),
        (lambda s: s.update(pid="1"), "status.pid: '1' is not"),
        (lambda s: s.update(state="up"), "status.state: 'up' is not one of"),
        (lambda s: s["endpoints"]["alone"].pop("group"), "status.endpoints.alone.group: missing"),
        (lambda s: s["endpoints"]["twice"]["members"][1].update(rtt="0"), r"status.endpoints.twice.members\[1\].rtt: '0'"),
        (lambda s: s["endpoints"]["alone"].update(last_exit={"kind": "hung", "code": None}), "last_exit: "),
    ],
)
def test_a_deviation_is_found(feed: Supervisor, change: Any, found: str) -> None:
    status = feed.status()
    change(status)
    (deviation,) = deviations(status, Status)
    assert re.search(found, deviation)


@pytest.mark.parametrize("kind", schema.SCHEMA)
def test_every_key_is_documented_with_its_meaning(kind: type) -> None:
    section = REFERENCE.split(f"### `{kind.__name__}`\n")[1].split("\n### ")[0].split("\n## ")[0]
    assert list(meanings_of(kind)) == list(kind.__annotations__)
    assert re.findall(r"^\| `(\w+)` \| [^|]+ \| [^|]{4,} \|$", section, re.MULTILINE) == list(kind.__annotations__)


def test_the_schema_is_whole() -> None:
    def named(kind: Any) -> set[Any]:
        own = {kind} if getattr(kind, "__annotations__", None) else set()
        inside = get_type_hints(kind).values() if own else get_args(kind)
        return own.union(*(named(one) for one in inside))

    assert named(Status) | named(PoolStatus) == set(schema.SCHEMA)


def test_states_and_reasons_are_those_of_the_code() -> None:
    assert get_args(schema.EndpointState) == tuple(STATES)
    assert set(ExitStatus.__annotations__) == {f.name for f in fields(Reason)}
    full = Reason(
        kind="crashed", code=1006, text="x", status=503, body="x", retry_after=1.5, exit_code=1, signal="SIGKILL"
    ).to_json()
    assert deviations(full, ExitStatus) == []
    for kind in KINDS:
        assert deviations(Reason(kind=kind).to_json(), ExitStatus) == []


def test_the_promise_stands_in_the_reference() -> None:
    promise = REFERENCE.split("\n## Status\n")[1].split("\n### ")[0]
    for words in ("no key is removed or renamed", "unless `format` is raised", "null means"):
        assert words in promise
