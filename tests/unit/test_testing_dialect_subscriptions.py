"""The exchange's side of subscriptions: what is taken, refused, there already or put off, and how a test may order all that."""

from __future__ import annotations

import json
import zlib
from typing import Any

import orjson
import pytest

from tests.support.conversation import Client, invented, noted, opened, said, sent
from wsadapter.contract.dialect.paths import look_up
from wsadapter.contract.dialect.text import Text
from wsadapter.contract.ipc.reports import Report
from wsadapter.testing.dialect.overrides import Answering, Overrides, StreamRefusal, name_of
from wsadapter.testing.dialect.recorded_market import NO_DATA
from wsadapter.testing.dialect.steps import CloseFeed, Data, HeartbeatSeen, OpenFeed, SendFrame, Unknown, Violation
from wsadapter.worker.subscription.subscriptions import Subscriptions

LISTS = """
[subscribe]
frame = '{"op":"sub","id":"$id","args":"$streams"}'
unsubscribe = '{"op":"unsub","id":"$id","args":"$streams"}'
per_frame = 5
[stream]
path = "topic"
[[ack]]
match = { ok = true }
id = "id"
[[error]]
match = { ok = false }
id = "id"
text = "why"
"""
EACH = """
[subscribe]
frame = '{"op":"sub","args":"$streams"}'
unsubscribe = '{"op":"unsub","args":"$streams"}'
per_frame = 5
[stream]
path = "topic"
[[ack]]
match = { event = "subscribed" }
stream = "arg"
[[ack]]
match = { event = "unsubscribed" }
stream = "arg"
[[error]]
match = { event = "error" }
stream = "arg"
text = "why"
"""
PARTS = """
[subscribe]
frame = '{"type":"sub","$stream":"*"}'
unsubscribe = '{"type":"unsub","$stream":"*"}'
parts = "products"
[stream]
fields = { channel = "channel", products = "product" }
[[ack]]
match = { type = "all" }
whole_set = "set"
[[error]]
match = { type = "error" }
text = "why"
"""
SET = """
[subscribe]
frame = '[{"ticket":"t"},"$streams...",{"format":"short"}]'
replaces = true
[stream]
path = "code"
[[error]]
match = { "error.name" = "*" }
text = "error.message"
"""


def told(text: str, **overrides: Any) -> Client:
    """A client of an invented exchange with these orders about answers."""
    return Client(invented(text), Overrides(answering=Answering(**overrides)))


def rejecting(text: str, refusal: StreamRefusal, *names: str) -> Client:
    return Client(invented(text), Overrides(rejected=dict.fromkeys(names, refusal)))


# -- the keys of the language --------------------------------------------------------------------------------------------


def the_set(*streams: Any) -> list[Any]:
    return [{"ticket": "t"}, *streams, {"format": "short"}]


def test_each_frame_replaces_the_set() -> None:
    client = Client(invented(SET), messages=['{"code":"a","n":1}'])
    assert client.says(the_set("a", "b")) == [OpenFeed("a"), OpenFeed("b")]  # nothing confirms
    assert client.says(the_set("b", "c")) == [CloseFeed("a"), OpenFeed("c")]
    assert client.gets('{"code":"a"}', '{"code":"b"}', '{"code":"c"}') == [b'{"code":"b"}', b'{"code":"c"}']
    assert client.says(the_set()) == [CloseFeed("b"), CloseFeed("c")]


def test_a_set_that_is_confirmed_is_confirmed_also_if_nothing_is_in_it() -> None:
    client = Client(invented(SET + '[[ack]]\nmatch = { set = "*" }\nwhole_set = "set"\n'))
    assert said(client.says(the_set("a"))) == [{"set": ["a"]}]
    assert client.says(the_set()) == [CloseFeed("a"), SendFrame({"set": []}, answer=True)]


def test_a_set_may_be_the_whole_answer() -> None:
    text = PARTS.replace('whole_set = "set"', 'whole_set = "{}"')
    subscriptions = Subscriptions(invented(text))
    a, b = ({"channel": "book", "products": [product]} for product in "ab")
    wanted = [a, b, {"channel": "trade", "products": ["a"]}]
    assert len(list(subscriptions.restore(wanted, 0.0))) == 3
    found = subscriptions.recognise(Text(b'{"type":"all","book":["a"],"trade":["b","*"]}'), 1.0)
    assert found is not None
    assert [step.fields["stream"] for step in found[0] if isinstance(step, Report)] == [name_of(a)]
    client = Client(invented(text))
    client.subscribes(a)
    (answer,) = said(client.subscribes(b))
    assert answer["type"] == "all"
    found = subscriptions.recognise(Text(orjson.dumps(answer)), 2.0)
    assert found is not None
    assert [step.fields["stream"] for step in found[0] if isinstance(step, Report)] == [name_of(b)]


COMPOSED = """
[subscribe]
frame = '{"method":"{channel}.sub","params":"{params}"}'
unsubscribe = '{"method":"{channel}.unsub","params":"{params}"}'
[stream]
fields = { channel = "channel" }
[[ack]]
match = { result = "ok" }
"""


def test_a_frame_that_unsubscribes_may_say_less_than_the_stream_has() -> None:
    book = {"channel": "book", "params": ["X"], "depth": 5}
    client = Client(invented(COMPOSED.replace("frame = '{", 'frame = \'{"depth":"{depth}",', 1)))
    assert client.subscribes(book) == [SendFrame({"result": "ok"}, answer=True), OpenFeed(name_of(book))]
    assert noted(client.says({"method": "trade.unsub", "params": ["X"]})) == [
        "unsubscribes {'params': ['X'], 'channel': 'trade'}, which it does not have"
    ]
    assert client.subscribes(book, key="unsubscribe") == [CloseFeed(name_of(book)), SendFrame({"result": "ok"}, answer=True)]
    assert isinstance(client.subscribes(book, key="unsubscribe")[0], Violation)


def test_a_set_that_is_refused_leaves_the_one_before() -> None:
    client = rejecting(SET, StreamRefusal("no such code", whole=True), "bad")
    client.says(the_set("a"))
    assert client.says(the_set("a", "bad")) == [SendFrame({"error": {"name": 1, "message": "no such code: bad"}}, answer=True)]
    assert client.gets('{"code":"a"}') == [b'{"code":"a"}']


def test_a_frame_is_of_the_kind_of_its_streams() -> None:
    kinds = LISTS.replace(
        "[stream]",
        """[[subscribe.kind]]
streams = ["user.*", '{"account":*']
frame = '{"op":"watch","args":"$streams"}'
per_frame = 1
[stream]""",
        1,
    )
    client = Client(invented(kinds))
    assert opened(client.says({"op": "watch", "args": ["user.orders"]})) == ["user.orders"]
    assert opened(client.says({"op": "watch", "args": [{"account": 7}]})) == ['{"account":7}']
    assert opened(client.says({"op": "sub", "id": 1, "args": ["book"]})) == ["book"]
    assert noted(client.says({"op": "watch", "args": ["user.a", "user.b"]})) == ["2 streams in one frame, 1 are allowed"]
    for wrong in ({"op": "watch", "args": ["book"]}, {"op": "sub", "id": 1, "args": ["book", "user.a"]}):
        assert not opened(client.says(wrong))
        assert not said(client.says(wrong))
    assert client.says({"op": "unsub", "id": 2, "args": ["user.orders"]})[0] == CloseFeed("user.orders")


KEYS = """
[subscribe]
frame = '{"op":"sub","$stream":"*"}'
acks_per = "symbols"
[payload]
compression = "zlib"
[[stream]]
contains = '"candle":"'
key = "{candle}|{name}"
of = "candles|{interval}_{symbols}"
aliases = { candle = "candles" }
fold = true
[[stream]]
match = { trade = "*" }
fields = { symbols = "symbol" }
aliases = { "*-USD" = ["*-USD", "*-USDC"] }
"""


def test_what_a_client_gets_is_what_the_owner_takes_for_its_streams() -> None:
    client = Client(invented(KEYS))
    for stream in ({"feed": "x", "interval": "1m", "symbols": ["A", "B"]}, {"feed": "trades", "symbols": ["C-USDC"]}):
        client.subscribes(stream)
    messages = [
        '{"candle":"candle","name":"1M_b"}', '{"candle":"candle","name":"5m_b"}', '{"candle":"candle","name":"1m_c"}',
        '{"trade":1,"symbol":"C-USD"}', '{"trade":1,"symbol":"D-USD"}', '{"trade":1,"symbol":"1m_a"}',
        '{"candle": "candle","name":"1m_b"}',
    ]  # fmt: skip
    packed = [zlib.compress(message.encode()) for message in messages]
    assert [client.view.take(message, None) is not None for message in packed] == [True] + [False] * 2 + [True] + [False] * 3
    client.says({"op": "sub", "interval": "5m", "symbols": ["B"]})
    assert client.view.take(packed[1], None) is packed[1]


def test_each_kind_of_frame_is_confirmed_in_its_own_words() -> None:
    kind = """[[subscribe.kind]]
streams = ["own.*"]
frame = '{"op":"watch","id":"$id","of":"$stream"}'
[stream]"""
    kinds = EACH.replace("[stream]", kind)
    client = Client(invented(kinds + '[[ack]]\nmatch = { event = "watching" }\nid = "id"\n'))
    assert said(client.says({"op": "watch", "id": 5, "of": "own.orders"})) == [{"event": "watching", "id": 5}]
    assert said(client.subscribes("a")) == [{"event": "subscribed", "arg": "a"}]


def test_where_nothing_confirms_the_data_follow_the_frame() -> None:
    silent = invented(LISTS.replace('[[ack]]\nmatch = { ok = true }\nid = "id"\n', ""))
    client = Client(silent, Overrides(ignored={"deaf"}, rejected={"bad": StreamRefusal("no such topic")}))
    assert client.subscribes("a", "deaf") == [OpenFeed("a")]
    assert said(client.subscribes("bad")) == [{"ok": False, "id": 7, "why": "no such topic"}]


def test_a_table_may_be_asked_for_and_left_in_parts() -> None:
    client = Client(invented(PARTS))
    both, one, other = ({"channel": "book", "products": list(names)} for names in ("ab", "a", "b"))
    steps = client.subscribes(both)
    assert said(steps) == [{"type": "all", "set": [both]}]
    assert opened(steps) == ['{"channel":"book","products":["a","b"]}']
    assert client.subscribes(one) == [SendFrame({"type": "all", "set": [both]}, answer=True)]
    assert client.subscribes(one, key="unsubscribe") == [SendFrame({"type": "all", "set": [other]}, answer=True)]
    messages = ['{"channel":"book","product":"a"}', '{"channel":"book","product":"b"}']
    assert client.gets(*messages) == [messages[1].encode()]
    assert opened(client.subscribes(both)) == ['{"channel":"book","products":["a","b"]}#2']  # one feed of this name runs
    assert client.gets(*messages) == [message.encode() for message in messages]
    steps = client.subscribes(both, key="unsubscribe")
    assert [step.feed for step in steps if isinstance(step, CloseFeed)] == [
        '{"channel":"book","products":["a","b"]}', '{"channel":"book","products":["a","b"]}#2',
    ]  # fmt: skip
    assert said(steps) == [{"type": "all", "set": []}]


def test_a_message_that_does_not_tell_parts_apart_is_of_one_that_is_left() -> None:
    client = Client(invented(PARTS.replace('{ channel = "channel", products = "product" }', '{ channel = "channel" }')))
    client.subscribes({"channel": "book", "products": ["a", "b"]})
    client.subscribes({"channel": "book", "products": ["a"]}, key="unsubscribe")
    assert client.gets('{"channel":"book"}') == [b'{"channel":"book"}']
    client.subscribes({"channel": "book", "products": ["b"]}, key="unsubscribe")
    assert client.gets('{"channel":"book"}') == []


def test_a_table_with_a_new_part_is_no_repetition() -> None:
    client = Client(invented(PARTS), Overrides(answering=Answering(repeats=True)))
    a, both = ({"channel": "book", "products": list(names)} for names in ("a", "ab"))
    client.subscribes(a)
    assert said(client.subscribes(both)) == [{"type": "all", "set": [both]}]
    assert said(client.subscribes(both)) == [{"type": "error", "why": "already subscribed: book a b"}]


def test_one_bad_part_of_a_table_is_named() -> None:
    client = rejecting(PARTS, StreamRefusal("no such product"), '{"channel":"book","products":["b"]}')
    steps = client.subscribes({"channel": "book", "products": ["a", "b"]})
    assert said(steps) == [{"type": "error", "why": "no such product: book b"}]
    assert not opened(steps)
    assert opened(client.subscribes({"channel": "book", "products": ["a"]}))


def test_each_part_is_answered_where_answers_are_per_part() -> None:
    each = PARTS.replace('parts = "products"', 'acks_per = "products"').replace('match = { type = "all" }\nwhole_set = "set"', (
        'match = { type = "yes" }\nfields = { channel = "channel", products = "product" }'
    ))  # fmt: skip
    client = rejecting(each, StreamRefusal("no such product"), '{"channel":"book","products":["b"]}')
    client.overrides.ignored.add('{"channel":"book","products":["c"]}')
    steps = client.subscribes({"channel": "book", "products": ["a", "b", "c"]})
    assert said(steps) == [
        {"type": "error", "why": "no such product: book b"},
        {"type": "yes", "channel": "book", "product": ["a"]},
    ]
    assert client.gets(*(f'{{"channel":"book","product":"{name}"}}' for name in "abc")) == [b'{"channel":"book","product":"a"}']


def test_the_arguments_of_a_frame_are_echoed() -> None:
    echoes = LISTS.replace('match = { ok = true }\nid = "id"', 'match = { ok = true }\nargs = "request.args"').replace(
        'match = { ok = false }\nid = "id"', 'match = { ok = false }\nargs = "request.args"'
    )
    client = rejecting(echoes, StreamRefusal("no such topic"), "bad")
    assert said(client.subscribes("a", "b")) == [{"ok": True, "request": {"args": ["a", "b"]}}]
    assert said(client.subscribes("a", "bad")) == [{"ok": False, "request": {"args": ["a", "bad"]}, "why": "no such topic"}]
    single = Client(invented(echoes.replace('"$streams"', '"$stream"').replace("per_frame = 5", "")))
    assert said(single.says({"op": "sub", "id": 1, "args": "a"})) == [{"ok": True, "request": {"args": "a"}}]


def test_what_is_subscribed_already_is_told_so() -> None:
    already = LISTS + '[[already]]\nmatch = { ok = false }\nid = "id"\ntext = "why"\nsays = ["Already there", "duplicate"]\n'
    client = Client(invented(already))
    assert opened(client.subscribes("a")) == ["a"]
    (answer,) = client.subscribes("a")
    assert answer == SendFrame({"ok": False, "id": 7, "why": "Already there: already subscribed: a"}, answer=True)
    assert not opened(client.subscribes("a", "b"))  # an answer that names frames is about all of the frame
    assert opened(client.subscribes("b")) == ["b"]
    client.overrides.answering.repeats = False
    assert said(client.subscribes("a", "b")) == [{"ok": True, "id": 7}]


def test_the_others_of_a_frame_are_taken_where_answers_name_streams() -> None:
    client = told(EACH, repeats=True)
    client.subscribes("a")
    steps = client.subscribes("a", "b")
    assert said(steps) == [
        {"event": "error", "arg": "a", "why": "already subscribed"},
        {"event": "subscribed", "arg": "b"},
    ]
    assert opened(steps) == ["b"]


def test_what_is_there_already_is_named_if_nothing_else_says_what_is_meant() -> None:
    client = told(PARTS.replace('parts = "products"', 'acks_per = "products"'), repeats=True)
    stream = {"channel": "book", "products": ["a", "b"]}
    client.subscribes(stream)
    assert [answer["why"] for answer in said(client.subscribes(stream))] == [
        "already subscribed: book a", "already subscribed: book b",
    ]  # fmt: skip


def test_what_is_to_come_again_later_is_told_so_and_taken_then() -> None:
    later = LISTS + '[[later]]\nmatch = { ok = false }\nid = "id"\ntext = "why"\nsays = ["slow down"]\npause = 2.0\n'
    client = told(later, later=1)
    assert client.subscribes("a") == [SendFrame({"ok": False, "id": 7, "why": "slow down: too many requests"}, answer=True)]
    assert opened(client.subscribes("a")) == ["a"]
    assert said(told(LISTS, later=1).subscribes("a", "b")) == [{"ok": False, "id": 7, "why": "too many requests"}]
    assert [answer["arg"] for answer in said(told(EACH, later=1).subscribes("a", "b"))] == ["a", "b"]


def test_an_error_is_told_by_the_rule_that_says_so() -> None:
    rules = LISTS.replace('text = "why"\n', 'text = "why"\nsays = ["unknown"]\n', 1) + (
        '[[error]]\nmatch = { ok = false, code = 5 }\nid = "id"\ntext = "why"\n'
    )
    for text, answer in (
        ("Unknown topic", {"ok": False, "id": 7, "why": "Unknown topic"}),
        ("closed", {"ok": False, "code": 5, "id": 7, "why": "closed"}),
    ):
        assert said(rejecting(rules, StreamRefusal(text), "bad").subscribes("bad")) == [answer]


@pytest.mark.parametrize(
    ("text", "frame"),
    [(LISTS, {"ok": True, "id": 7}), (EACH, {"event": "unsubscribed", "arg": "a"})],
)
def test_unsubscribing_is_answered_by_the_rule_that_speaks_of_it(text: str, frame: Any) -> None:
    client = Client(invented(text))
    client.subscribes("a")
    assert client.subscribes("a", key="unsubscribe") == [CloseFeed("a"), SendFrame(frame, answer=True)]


# -- refusals ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "refusal", "answer"),
    [
        (LISTS, StreamRefusal("no"), {"ok": False, "id": 7, "why": "no"}),
        (LISTS, StreamRefusal("no", named=True), {"ok": False, "id": 7, "why": "no: bad"}),
        (EACH, StreamRefusal("no", whole=True), {"event": "error", "arg": "bad", "why": "no"}),
        (EACH, StreamRefusal("no", whole=True, named=False), {"event": "error", "why": "no"}),
        (EACH, StreamRefusal("no", whole=True, named=True), {"event": "error", "arg": "bad", "why": "no: bad"}),
    ],
)
def test_one_bad_stream_refuses_its_frame(text: str, refusal: StreamRefusal, answer: Any) -> None:
    client = rejecting(text, refusal, "bad", "worse")
    assert client.subscribes("a", "bad", "worse") == [SendFrame(answer, answer=True)]
    assert client.subscribes("a")[-1] == OpenFeed("a")


def test_one_bad_stream_is_refused_alone_where_answers_name_streams() -> None:
    steps = rejecting(EACH, StreamRefusal("no"), "bad").subscribes("a", "bad")
    assert said(steps) == [{"event": "error", "arg": "bad", "why": "no"}, {"event": "subscribed", "arg": "a"}]
    assert opened(steps) == ["a"]


def test_an_exchange_that_lists_what_it_took_leaves_the_others_out() -> None:
    listed = LISTS.replace("match = { ok = true }", 'match = { ok = true }\naccepted = "took"')
    steps = rejecting(listed, StreamRefusal("no"), "bad").subscribes("a", "bad")
    assert said(steps) == [{"ok": True, "id": 7, "took": ["a"]}]
    whole = rejecting(listed, StreamRefusal("no", whole=True), "bad").subscribes("a", "bad")
    assert said(whole) == [{"ok": False, "id": 7, "why": "no"}]


def test_a_confirmed_stream_can_be_revoked() -> None:
    client = Client(invented(EACH))
    client.subscribes("a", "b")
    assert list(client.conversation.revoke("a", "delisted")) == [
        SendFrame({"event": "error", "arg": "a", "why": "delisted"}), CloseFeed("a"),
    ]  # fmt: skip
    assert client.gets('{"topic":"a"}', '{"topic":"b"}') == [b'{"topic":"b"}']
    assert list(client.conversation.revoke("a", "delisted")) == []
    unnamed = Client(invented(LISTS.replace("match = { ok = false }", 'match = { ok = false, id = "*" }')))
    unnamed.subscribes("a")
    assert said(unnamed.conversation.revoke("a", "delisted")) == [
        {"ok": False, "id": -1, "why": "delisted: a"}
    ]  # no frame's id


def test_what_a_revoked_stream_was_called_is_said_no_more() -> None:
    client = Client("bitfinex")
    stream = {"channel": "book", "symbol": "tBTCUSD"}
    client.subscribes(stream)
    assert list(client.conversation._heartbeats()) == [SendFrame([1, "hb", 1])]
    list(client.conversation.revoke(stream, "delisted"))
    assert list(client.conversation._heartbeats()) == []


def test_a_revoked_stream_stands_among_the_arguments_if_errors_have_such() -> None:
    client = Client(
        invented(EACH.replace('match = { event = "error" }\nstream = "arg"', 'match = { event = "error" }\nargs = "r.args"'))
    )
    client.subscribes("a")
    assert said(client.conversation.revoke("a", "delisted")) == [{"event": "error", "r": {"args": ["a"]}, "why": "delisted"}]


def test_nothing_can_be_revoked_without_an_error_to_say() -> None:
    with pytest.raises(LookupError, match=r"no \[\[error\]\]"):
        Client(invented(EACH.partition("[[error]]")[0])).dialect_rules.replies.complain("delisted")


def test_a_part_of_a_table_can_be_revoked() -> None:
    client = Client(invented(PARTS))
    client.subscribes({"channel": "book", "products": ["a", "b"]})
    steps = list(client.conversation.revoke({"channel": "book", "products": ["a"]}, "delisted"))
    assert steps == [SendFrame({"type": "error", "why": "delisted: book a"})]
    assert client.gets('{"channel":"book","product":"a"}') == []
    assert len(client.gets('{"channel":"book","product":"b"}')) == 1


# -- when, how often, in which order -------------------------------------------------------------------------------------


def test_a_late_answer_comes_late_and_so_do_the_data() -> None:
    client = told(LISTS, after=3.0)
    assert client.subscribes("a") == []
    assert client.gets('{"topic":"a"}') == []
    assert client.waits(2.9) == []
    assert client.waits(0.2) == [SendFrame({"ok": True, "id": 7}, answer=True), OpenFeed("a")]
    assert client.subscribes("a", key="unsubscribe") == []
    assert client.waits(3.1) == [CloseFeed("a"), SendFrame({"ok": True, "id": 7}, answer=True)]


def test_data_may_come_first() -> None:
    messages = [f'{{"topic":"{topic}","n":{number}}}' for number in range(3) for topic in "ab"]
    client = Client(invented(LISTS), Overrides(answering=Answering(data_first=2)), messages)
    first = (b'{"topic":"a","n":0}', b'{"topic":"a","n":1}')
    assert client.subscribes("a") == [*map(Data, first), SendFrame({"ok": True, "id": 7}, answer=True), OpenFeed("a", first)]
    client.overrides.silent.add("b")
    assert sent(client.subscribes("b")) == []
    client.overrides.silent.clear()
    client.subscribes("b", key="unsubscribe")
    client.overrides.answering.after = 3.0
    steps = client.subscribes("b")
    assert [message["n"] for message in sent(steps)] == [0, 1]
    assert opened(steps) == ["b"]
    assert said(steps) == []
    assert said(client.waits(3.1)) == [{"ok": True, "id": 7}]


def test_an_answer_may_come_twice_or_never() -> None:
    answer = SendFrame({"ok": True, "id": 7}, answer=True)
    assert told(LISTS, times=2).subscribes("a") == [answer, answer, OpenFeed("a")]
    assert told(LISTS, times=0).subscribes("a") == [OpenFeed("a")]
    late = told(LISTS, times=2, after=1.0)
    late.subscribes("a")
    assert late.waits(1.1) == [answer, answer, OpenFeed("a")]


def test_frames_may_be_answered_in_reverse_order() -> None:
    client = told(EACH, reverse=2)
    assert client.subscribes("a", "b") == []
    steps = client.subscribes("c")
    assert [answer["arg"] for answer in said(steps)] == ["c", "b", "a"]
    assert opened(steps) == ["a", "b", "c"]
    assert client.subscribes("d") == []
    client.overrides.answering.reverse = 0
    assert [answer["arg"] for answer in said(client.subscribes("e"))] == ["e", "d"]
    assert opened(client.subscribes("f")) == ["f"]


def test_answers_to_nobody_may_come_before_an_answer() -> None:
    assert said(told(LISTS, strays=1).subscribes("a")) == [{"ok": True, "id": 1_000_000_007}, {"ok": True, "id": 7}]
    assert [answer["arg"] for answer in said(told(EACH, strays=2).subscribes("a"))] == ["a~0", "a~0", "a"]
    text = LISTS.replace('"$id"', '"no-$id"')
    assert [answer["id"] for answer in said(told(text, strays=1).subscribes("a"))] == ["no-1000000007", "no-7"]
    assert len(said(told(PARTS, strays=1).subscribes({"channel": "book", "products": ["a"]}))) == 1


def test_answers_may_be_long() -> None:
    size = 1_000_000
    listed = LISTS.replace("match = { ok = true }", 'match = { ok = true }\naccepted = "took"')
    for text, path in ((listed, "took"), (PARTS, "set")):
        client = told(text, padding=size)
        stream: Any = "a" if path == "took" else {"channel": "book", "products": ["a"]}
        (answer,) = said(client.subscribes(stream))
        assert len(look_up(answer, path)) > 10_000
        assert look_up(answer, path)[0] == stream
        assert len(str(answer)) > size
    (answer,) = said(told(LISTS, padding=size).subscribes("a"))
    assert (answer["ok"], len(answer["padding"])) == (True, size - len('{"ok":true,"id":7}'))


WITH_DATA = EACH.replace('stream = "arg"', 'stream = "arg"\ndata = "result.rows"', 1).replace('path = "topic"', 'path = "arg"')


def test_an_answer_may_carry_the_first_message() -> None:
    messages = ['{"event":"change","arg":"a","result":{"rows":[1]}}', '{"event":"change","arg":"a","result":{"rows":[2]}}']
    client = Client(invented(WITH_DATA), Overrides(answering=Answering(with_data=True)), messages)
    steps = client.subscribes("a", "b")
    assert said(steps) == [
        {"event": "subscribed", "arg": "a", "result": {"rows": [1]}},
        {"event": "subscribed", "arg": "b"},  # of which nothing is known
    ]
    assert [step for step in steps if isinstance(step, OpenFeed)] == [OpenFeed("a", (messages[0].encode(),)), OpenFeed("b")]
    plain = Client(invented(WITH_DATA), messages=messages).subscribes("a")
    assert said(plain) == [{"event": "subscribed", "arg": "a"}]
    silent = Client(invented(WITH_DATA), Overrides(answering=Answering(with_data=True), silent={"a"}), messages)
    assert said(silent.subscribes("a")) == [{"event": "subscribed", "arg": "a"}]


def test_an_answer_that_was_recorded_with_data_is_that_of_its_stream() -> None:
    messages = ['{"event":"subscribed","arg":"a","result":{"rows":["all"]},"of":"old"}', '{"event":"change","arg":"a"}']
    client = Client(invented(WITH_DATA), Overrides(answering=Answering(with_data=True)), messages)
    steps = client.subscribes("a")
    assert said(steps) == [{"event": "subscribed", "arg": "a", "result": {"rows": ["all"]}, "of": "old"}]
    assert steps[-1] == OpenFeed("a")
    assert client.gets(*messages) == [messages[1].encode()]


# -- texts, logins, numbers ----------------------------------------------------------------------------------------------

TEXTS = """
[subscribe]
frame = '{"sub":"$stream"}'
[heartbeat]
kind = "none"
server_interval = 5.0
[[ready]]
is = "hello"
[[answer]]
is = "Ping"
say = "Pong"
[[answer]]
match = { ask = "*" }
frame = '{"told":"$.ask"}'
[[housekeeping]]
is = "."
heartbeat = true
[[notice]]
is = "bye"
"""


def test_texts_that_are_not_json_are_said_and_understood() -> None:
    client = Client(invented(TEXTS))
    assert [client.dialect_rules.welcome(), client.dialect_rules.notice()] == ["hello", "bye"]
    asked = said(client.waits(5.0))
    assert asked[0] == "Ping"
    assert list(asked[1]) == ["ask"]
    assert asked[2] == "."
    assert [client.says("Pong") for _ in range(asked.count("Ping") + 1)][-2:] == [[HeartbeatSeen("answer")], [Unknown("Pong")]]
    assert client.says({"told": asked[-2]["ask"]}) == [HeartbeatSeen("answer")]
    assert [client.market.value(text) is NO_DATA for text in (b"Ping", b".", b"hello", b"bye", b"1")] == [True] * 4 + [False]


CHALLENGE = """
[subscribe]
frame = '{"event":"subscribe","$stream":"*"}'
[stream]
fields = { feed = "feed" }
[[ack]]
match = { event = "subscribed" }
fields = { feed = "feed" }
[[error]]
match = { event = "error" }
text = "message"
[login]
needs = ["key", "secret"]
challenge = '{"event":"challenge","api_key":"$key"}'
subscribe = '{"api_key":"$key","original":"$challenge","signed":"$sign"}'
[login.answer]
match = { event = "challenge" }
value = "message"
[[login.error]]
match = { event = "alert" }
text = "message"
"""


def test_a_challenge_is_given_and_has_to_come_back() -> None:
    client = Client(invented(CHALLENGE), Overrides(login_required=True))
    (answer,) = said(client.says({"event": "challenge", "api_key": "K"}))
    assert answer == {"event": "challenge", "message": "challenge-0"}
    frame = {"event": "subscribe", "feed": "fills", "api_key": "K", "signed": "s"}
    assert opened(client.says({**frame, "original": answer["message"]})) == ['{"feed":"fills"}']
    steps = client.says({**frame, "feed": "orders", "original": "another"})
    assert noted(steps) == ["the challenge is challenge-0, not another"]
    assert said(steps) == [{"event": "error", "message": "the challenge is challenge-0, not another: orders"}]
    assert noted(client.says({"event": "subscribe", "feed": "orders"})) == ["log in first"]


def test_a_challenge_without_a_frame_is_all_of_the_login_and_may_be_refused() -> None:
    text = CHALLENGE.replace('subscribe = \'{"api_key":"$key","original":"$challenge","signed":"$sign"}\'\n', "")
    client = Client(invented(text), Overrides(login_required=True, login_refusal="wrong key"))
    ask = {"event": "challenge", "api_key": "K"}
    assert said(client.says(ask)) == [{"event": "alert", "message": "wrong key"}]
    assert noted(client.subscribes({"feed": "fills"})) == ["log in first"]
    client.overrides.login_refusal = ""
    client.says(ask)
    assert opened(client.subscribes({"feed": "fills"})) == ['{"feed":"fills"}']


def test_the_frame_behind_a_challenge_is_answered() -> None:
    frame = '[login]\nframe = \'{"event":"login","original":"$challenge","signed":"$sign"}\''
    text = CHALLENGE.replace("[login]", frame, 1) + '[[login.ack]]\nmatch = { event = "in" }\n'
    client = Client(invented(text))
    client.says({"event": "challenge", "api_key": "K"})
    good = {"event": "login", "original": "challenge-0", "signed": "s"}
    assert said(client.says({**good, "original": "x"})) == [
        {"event": "alert", "message": "the challenge is challenge-0, not x"}
    ]
    assert said(client.says(good)) == [{"event": "in"}]


def test_numbers_without_an_order_are_a_chain_of_the_connections_own() -> None:
    text = EACH + '[[gap]]\nscope = []\nprevious = "before"\nvalue = "id"\nopaque = true\n'
    client = Client(invented(text))
    messages = [f'{{"topic":"a","before":"x{number}","id":"x{number + 1}"}}' for number in (5, 6)]
    answer, begun = client.subscribes("a")
    assert (answer, begun) == (
        SendFrame({"event": "subscribed", "arg": "a", "before": "n0", "id": "n1"}, answer=True),
        OpenFeed("a"),
    )
    taken = [json.loads(message) for message in client.gets(*messages)]
    assert [(message["before"], message["id"]) for message in taken] == [("n1", "n2"), ("n2", "n3")]
    scoped = Client(invented(text.replace("scope = []", 'scope = ["topic"]')), Overrides(left_out=[frozenset(["a"])]))
    scoped.subscribes("a")
    assert scoped.gets(*messages) == [messages[0].encode()]  # as recorded, but for the one that is left out


def test_an_error_may_come_instead_of_the_greeting() -> None:
    text = EACH + '[[ready]]\nmatch = { hello = "*" }\n'
    client = Client(invented(text), Overrides(welcome_refusal="token is invalid"))
    assert said(client.opened().tick(0.2)) == [{"event": "error", "why": "token is invalid"}]


def test_an_array_may_hold_several_messages() -> None:
    client = Client(invented(EACH + "[payload]\nsplit = true\n"), messages=['[{"topic": "a"},\n{"topic":"b"} ]'])
    assert list(client.market.listed) == [b'{"topic": "a"}', b'{"topic":"b"}']
    for text in (b"[]", b"[ ]", b"[1", b'{"topic":"a"}', b'[{"topic":"[x],"}]'):
        joined = client.market.joined(client.market.elements(text))
        assert joined == {b"[ ]": b"[]", b"[1": b"[[1]", b'{"topic":"a"}': b'[{"topic":"a"}]'}.get(text, text)
    plain = Client(invented(EACH))
    assert plain.market.elements(b'[{"topic":"a"}]') == (b'[{"topic":"a"}]',)


def test_binary_messages_may_be_plain_text() -> None:
    assert Client(invented(EACH + "[payload]\ntext = true\n")).market.packed(b'{"a":1}') == b'{"a":1}'
    assert Client(invented(EACH)).market.packed(b'{"a":1}') == '{"a":1}'
