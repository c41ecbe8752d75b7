"""The reports of an owner: what is written parses to the same, and what no owner writes is a `ReportError`, whatever it is."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.reports import json_values, owner_reports
from wsadapter.contract.ipc.reports import (
    REPORTS,
    ChannelAssigned,
    ConnectionDown,
    ConnectionUp,
    GapFound,
    OwnerReport,
    ReportError,
    StreamStalled,
    SubscriptionConfirmed,
    SubscriptionRejected,
    SubscriptionsRestored,
    parse_report,
)
from wsadapter.contract.reasons import Reason

RIGHT: dict[str, Any] = {
    "str": "a", "str | None": None, "bool": True, "int": 1, "int | None": None, "Count": 0, "float": 0.5, "Any": [],
    "Subscription": "trades", "Reason": {"kind": "crashed"}, "tuple[str, ...]": ["a"], "dict[str, str]": {"a": "b"},
    "dict[str, str | None]": {"a": None}, "dict[str, float]": {"a": 1.5}, "tuple[Subscription, ...]": ["a", {"b": 1}],
    "tuple[Change, ...]": [[3, 4, ["a"]]],
}  # fmt: skip
"""A value for each annotation, as it stands on the pipe."""
WRONG: dict[str, list[Any]] = {
    "str": [None, 1, True, [], {}],
    "str | None": [1, []],
    "bool": [None, 0, "true"],
    "int": [None, True, 1.5, "1", 2**70],
    "int | None": [False, 1.5, "1"],
    "Count": [-1, 2**48, None, True, 1.0],
    "float": [None, True, "1", []],
    "Subscription": [None, 1, [], True],
    "Reason": [None, [], "", {}, {"kind": []}, {"kind": "no such"}, {"kind": "crashed", "retry_after": "soon"},
               {"kind": "crashed", "status": "4"}, {"kind": "crashed", "text": 5}, {"kind": "crashed", "signal": 9}],
    "tuple[str, ...]": [None, "ab", {"a": "b"}, [1], [None]],
    "tuple[Subscription, ...]": [None, "ab", {"a": "b"}, [1], [None]],
    "tuple[Change, ...]": [None, {}, ["a"], [[3, 4]], [[3, 4, "a"]], [[-1, 4, ["a"]]], [[3, None, ["a"]]], [[3, 4, [5]]]],
    "dict[str, str]": [None, [], {"a": 1}, {"a": None}],
    "dict[str, str | None]": [None, [], {"a": 1}],
    "dict[str, float]": [None, [], {"a": "1"}, {"a": None}],
}  # fmt: skip


def written(event: str, given: dict[str, Any]) -> bytes:
    try:
        return orjson.dumps({"event": event, "fields": given})
    except TypeError:  # an integer beyond 64 bits, which an owner that is no Python program may write
        return (b'{"event":"%b","fields":' % event.encode()) + repr(given).replace("'", '"').encode() + b"}"


def right(event: str) -> dict[str, Any]:
    return {f.name: RIGHT[str(f.type)] for f in fields(REPORTS[event])}


@given(owner_reports())
def test_what_is_encoded_parses_to_the_same(report: OwnerReport) -> None:
    assert parse_report(report.encode()) == report


@given(st.binary(max_size=100) | json_values.map(orjson.dumps))
def test_anything_else_is_a_report_error(body: bytes) -> None:
    with pytest.raises(ReportError):
        parse_report(body)


@pytest.mark.slow
@given(st.sampled_from(sorted(REPORTS)), st.dictionaries(st.text(max_size=3), json_values), st.data())
def test_any_fields_parse_or_are_a_report_error(event: str, more: dict[str, Any], data: st.DataObject) -> None:
    given = {f.name: data.draw(json_values) for f in fields(REPORTS[event])} | more
    try:
        report = parse_report(written(event, given))
    except ReportError:
        return
    orjson.dumps(report.fields)


@pytest.mark.parametrize("event", sorted(REPORTS))
def test_each_field_of_a_report_is_checked(event: str) -> None:
    assert parse_report(written(event, right(event))).event == event
    for f in fields(REPORTS[event]):
        for wrong in WRONG.get(str(f.type), []):
            with pytest.raises(ReportError, match=rf"report '{event}', field '{f.name}': "):
                parse_report(written(event, right(event) | {f.name: wrong}))


@pytest.mark.parametrize("event", sorted(REPORTS))
def test_a_field_that_is_missing_is_named(event: str) -> None:
    for name in set(right(event)) - {"of", "peer", "resumed"}:
        with pytest.raises(ReportError, match=f"report '{event}': the field '{name}' is missing"):
            parse_report(written(event, {key: value for key, value in right(event).items() if key != name}))


@pytest.mark.parametrize("body", [b"", b"nonsense", b"[]", b'{"event":1,"fields":{}}', b'{"event":"up"}',
                                  b'{"event":"no such","fields":{}}', b'{"event":["up"],"fields":{}}'])  # fmt: skip
def test_what_is_no_report_is_a_report_error(body: bytes) -> None:
    with pytest.raises(ReportError):
        parse_report(body)


def test_unknown_fields_are_ignored() -> None:
    assert parse_report(written("subscribed", {"stream": "a", "since": 1})) == SubscriptionConfirmed("a")


@pytest.mark.parametrize(
    ("report", "body"),
    [
        (ConnectionUp({"a": "b"}, None, "127.0.0.1:80", resumed=True),
         b'{"event":"up","fields":{"headers":{"a":"b"},"subprotocol":null,"peer":"127.0.0.1:80","resumed":true}}'),
        (SubscriptionConfirmed("a"), b'{"event":"subscribed","fields":{"stream":"a"}}'),
        (SubscriptionRejected("a", "no", "b"), b'{"event":"rejected","fields":{"stream":"a","error":"no","of":"b"}}'),
        (SubscriptionsRestored(1, ("b",)), b'{"event":"restored","fields":{"ok":1,"failed":["b"]}}'),
        (ChannelAssigned({"name": "a"}, "7"), b'{"event":"channel","fields":{"stream":{"name":"a"},"channel":"7"}}'),
        (GapFound("sequence", None, 2, 4),
         b'{"event":"gap","fields":{"cause":"sequence","stream":null,"expected":2,"got":4}}'),
        (StreamStalled(None, 1.5, hopeless=False),
         b'{"event":"stalled","fields":{"stream":null,"silence":1.5,"hopeless":false}}'),
        (ConnectionDown(Reason(kind="crashed", signal="SIGKILL")),
         b'{"event":"down","fields":{"reason":{"kind":"crashed","signal":"SIGKILL"}}}'),
    ],
)  # fmt: skip
def test_the_bytes_on_the_pipe_are_those_that_other_versions_know(report: OwnerReport, body: bytes) -> None:
    """Two versions meet in a takeover. If these bytes have to change, `takeover.CONTRACT` has to be raised."""
    assert report.encode() == body
