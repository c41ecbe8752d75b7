"""The login as a table of what happens and what follows."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from wsadapter.contract.dialect.text import Text
from wsadapter.contract.endpoint import Endpoint
from wsadapter.worker.session.login import LoggedIn, Login, LoginFailed, ToRenew, ToSend, ToSign

RULES: dict[str, Any] = {
    "needs": ["key"],
    "frame": '{"id":"$id","op":"login","key":"$key"}',
    "timeout": 5.0,
    "ack": [{"match": {"event": "login"}, "id": "id"}],
    "error": [{"match": {"event": "error"}, "text": "msg", "id": "id"}],
}


def made(hooks: dict[str, str] | None = None, *, known: Any = None, **changed: Any) -> Login:
    rules = {key: value for key, value in {**RULES, **changed}.items() if value is not None}
    endpoint = Endpoint("x", url="ws://127.0.0.1/", login={"key": "K"}, hooks=hooks or {})
    return Login({"login": rules}, endpoint, number=itertools.count(1).__next__, wall=lambda: 12.5, challenge=known)


def test_without_keys_or_without_a_table_there_is_nothing_to_wait_for() -> None:
    for dialect, keys in ((None, {"key": "K"}), ({}, {"key": "K"}), ({"login": RULES}, {})):
        login = Login(dialect, Endpoint("x", url="ws://127.0.0.1/", login=keys), number=lambda: 1)
        assert not login.pending
        assert list(login.start(1.0)) == [LoggedIn(1.0, first=True)]
        assert login.fields() == {}
        assert login.deadline() is None


def test_the_frame_is_sent_and_its_answer_ends_the_waiting() -> None:
    login = made()
    assert login.pending
    assert list(login.start(1.0)) == [ToSend({"id": 1, "op": "login", "key": "K"})]
    assert login.pending
    assert login.awaits_answer
    assert login.deadline() == 6.0
    assert login.recognise(Text(b'{"event":"other"}'), 2.0) is None
    assert login.recognise(Text(b'{"event":"login","id":2}'), 2.0) is None  # another frame's
    assert login.recognise(Text(b'{"event":"login","id":1}'), 2.0) == [LoggedIn(2.0, first=True)]
    assert not login.pending
    assert not login.awaits_answer
    assert login.deadline() is None


@pytest.mark.parametrize(
    ("answer", "text"),
    [(b'{"event":"error","msg":"no such key"}', "no such key"), (b'{"event":"error","msg":5}', '{"event":"error","msg":5}')],
)
def test_a_refusal_is_told_in_the_peers_words(answer: bytes, text: str) -> None:
    login = made()
    list(login.start(1.0))
    assert login.recognise(Text(answer), 2.0) == [LoginFailed(text, first=True)]
    assert login.pending  # nothing is ever subscribed on this connection
    assert login.deadline() is None
    assert list(login.tick(1000.0)) == []


def test_what_has_to_be_signed_is_sent_when_it_is() -> None:
    login = made(frame='{"id":"$id","t":"$time","args":["$sign"],"more":{"$sign":"*"}}')
    assert list(login.start(1.0)) == [ToSign({"id": 1, "t": 12, "args": ["$sign"], "more": {"$sign": "*"}})]
    assert not login.awaits_answer
    assert list(login.signed({"id": 1}, 2.0)) == [ToSend({"id": 1})]
    assert login.awaits_answer


@pytest.mark.parametrize(("frame", "what"), [('{"s":"$sign"}', "signed"), ('{"s":1}', "answered")])
def test_what_takes_too_long_is_a_refusal(frame: str, what: str) -> None:
    login = made(frame=frame)
    list(login.start(1.0))
    assert list(login.tick(5.9)) == []
    assert list(login.tick(6.0)) == [LoginFailed(f"not {what} within 5 s", first=True)]


def test_without_an_ack_nothing_is_waited_for() -> None:
    login = made(ack=None)
    assert list(login.start(1.0)) == [ToSend({"id": 1, "op": "login", "key": "K"}), LoggedIn(1.0, first=True)]


def test_it_is_renewed_by_its_frame_and_a_failure_is_no_end() -> None:
    login = made(renew_after=60.0)
    list(login.start(1.0))
    login.recognise(Text(b'{"event":"login"}'), 2.0)
    assert login.deadline() == 62.0
    assert list(login.tick(62.0)) == [ToSend({"id": 2, "op": "login", "key": "K"})]
    assert not login.pending  # subscriptions go on
    assert login.recognise(Text(b'{"event":"login","id":2}'), 63.0) == [LoggedIn(63.0, first=False)]
    assert list(login.tick(123.0)) == [ToSend({"id": 3, "op": "login", "key": "K"})]
    assert list(login.tick(128.0)) == [LoginFailed("not answered within 5 s", first=False)]
    assert login.deadline() is None


def test_it_is_renewed_by_the_hook_where_there_is_one() -> None:
    login = made({"renew": "a:b"}, frame=None, renew_after=60.0)
    assert list(login.start(1.0)) == [LoggedIn(1.0, first=True)]
    assert list(login.tick(61.0)) == [ToRenew()]
    assert login.deadline() == 66.0
    assert list(login.renewed(62.0)) == [LoggedIn(62.0, first=False)]
    assert login.deadline() == 122.0
    list(login.tick(122.0))
    assert list(login.tick(127.0)) == [LoginFailed("not renewed within 5 s", first=False)]
    assert list(login.renewed(128.0)) == []  # too late


def test_who_goes_on_with_a_connection_does_not_log_in_and_renews_when_it_is_due() -> None:
    login = made(renew_after=60.0)
    assert list(login.start(50.0, since=10.0)) == [LoggedIn(10.0, first=True)]
    assert login.deadline() == 70.0


def test_fields_of_frames_that_subscribe() -> None:
    login = made(frame=None, subscribe='{"jwt":"$sign","who":"$key","at":"$time"}')
    assert not login.pending
    assert login.fields() == {"jwt": "$sign", "who": "K", "at": 12}


CHALLENGE: dict[str, Any] = {
    "challenge": '{"id":"$id","event":"challenge","key":"$key"}',
    "answer": {"match": {"event": "challenge"}, "value": "message"},
    "frame": '{"id":"$id","is":"$challenge","key":"$key"}',
    "subscribe": '{"of":"$challenge"}',
    "error": [{"match": {"event": "error"}, "text": "msg"}],
}
ASKED, ANSWER = ToSend({"id": 1, "event": "challenge", "key": "K"}), Text(b'{"event":"challenge","message":"c-1"}')


def test_a_challenge_is_asked_for_first_and_stands_in_the_frames() -> None:
    login = made(**CHALLENGE)
    assert login.pending
    assert list(login.start(1.0)) == [ASKED]
    assert login.awaits_answer
    assert login.recognise(Text(b'{"event":"login"}'), 2.0) is None  # nobody has asked for that yet
    assert login.recognise(ANSWER, 2.0) == [ToSend({"id": 2, "is": "c-1", "key": "K"})]
    assert login.pending
    assert login.deadline() == 6.0  # one timeout for both
    assert login.recognise(Text(b'{"event":"login","id":2}'), 3.0) == [LoggedIn(3.0, first=True)]
    assert (login.challenge, login.fields()) == ("c-1", {"of": "c-1"})


def test_a_challenge_can_be_all_of_a_login_and_is_asked_for_anew() -> None:
    login = made(**{**CHALLENGE, "frame": None, "ack": None, "renew_after": 60.0})
    assert list(login.start(1.0)) == [ASKED]
    assert login.recognise(ANSWER, 2.0) == [LoggedIn(2.0, first=True)]
    assert login.fields() == {"of": "c-1"}
    assert list(login.tick(62.0)) == [ToSend({"id": 2, "event": "challenge", "key": "K"})]
    assert (login.pending, login.fields()) == (False, {"of": "c-1"})
    assert login.recognise(Text(b'{"event":"challenge","message":{"n":2}}'), 63.0) == [LoggedIn(63.0, first=False)]
    assert login.fields() == {"of": {"n": 2}}


def test_a_challenge_that_must_be_signed_goes_to_the_hook_filled_in() -> None:
    templates = {"frame": '{"is":"$challenge","signed":"$sign"}', "subscribe": '{"of":"$challenge","$sign":"*"}'}
    login = made(**{**CHALLENGE, **templates})
    list(login.start(1.0))
    assert login.recognise(ANSWER, 2.0) == [ToSign({"is": "c-1", "signed": "$sign"})]
    assert login.fields() == {"of": "c-1", "$sign": "*"}


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (b'{"event":"error","msg":"no such key"}', "no such key"),
        (b'{"event":"challenge","message":null}', "the answer to the challenge has nothing at 'message'"),
        (b'{"event":"challenge"}', "the answer to the challenge has nothing at 'message'"),
        (b"", "not answered within 5 s"),
    ],
)
def test_a_challenge_that_is_refused_empty_or_not_answered_is_no_login(answer: bytes, text: str) -> None:
    login = made(**CHALLENGE)
    list(login.start(1.0))
    steps = login.recognise(Text(answer), 2.0) if answer else list(login.tick(6.0))
    assert steps == [LoginFailed(text, first=True)]
    assert login.pending


def test_who_goes_on_with_a_connection_knows_its_challenge_or_asks_for_one() -> None:
    login = made(known="c-0", **CHALLENGE)
    assert list(login.start(50.0, since=10.0)) == [LoggedIn(10.0, first=True)]
    assert login.fields() == {"of": "c-0"}
    login = made(**CHALLENGE)
    assert list(login.start(50.0, since=10.0)) == [ASKED]
    assert login.pending


def test_a_login_within_the_frames_that_subscribe_has_nothing_to_renew() -> None:
    login = made(frame=None, ack=None, error=None, fields='{"key":"$key"}', renew_after=60.0)
    assert list(login.start(1.0)) == [LoggedIn(1.0, first=True)]
    assert login.deadline() == 61.0
    assert list(login.tick(61.0)) == []
    assert login.deadline() is None
