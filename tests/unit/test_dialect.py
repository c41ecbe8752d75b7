"""Dialects: the bundled ones are sound, others are judged as a whole, and they fill in what the user left open."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from wsadapter.config.dialect import apply_dialect, bundled, dialect_urls, load_dialect
from wsadapter.contract.endpoint import Endpoint
from wsadapter.contract.errors import ConfigError

SOUND = """
[dialect]
name = "mine"
title = "Mine"
docs = "https://example.com"
[urls]
live = "wss://example.com"
[subscribe]
frame = '{"op":"sub","args":"$streams"}'
"""


def problems(text: str, tmp_path: Path, name: str = "mine") -> list[str]:
    path = tmp_path / f"{name}.toml"
    path.write_text(text)
    try:
        load_dialect(str(path))
    except ConfigError as error:
        return [f"{problem}" for problem in error.problems if error.source == str(path)]
    return []


@pytest.mark.parametrize("name", sorted(bundled()))
def test_a_bundled_dialect_is_sound(name: str) -> None:
    dialect = load_dialect(name)
    assert dialect["dialect"]["name"] == name
    endpoint = apply_dialect(Endpoint("x", dialect=name), dialect)
    assert endpoint.urls == dialect_urls(dialect, "live") != ()


def test_there_are_bundled_dialects() -> None:
    assert bundled().keys() == {
        "binance", "binance_usdm", "binance_coinm", "coinbase", "coinbase_exchange", "kraken", "kraken_v1", "kraken_futures",
        "okx", "bybit", "deribit", "bitstamp", "bitfinex", "gate", "gate_futures", "kucoin", "htx", "htx_swap", "bitmex",
        "bitget", "hyperliquid", "crypto_com",
    }  # fmt: skip


def test_loading_a_dialect_imports_nothing_of_the_owner() -> None:
    code = "import sys, wsadapter.config.dialect as d; d.load_dialect('okx'); sys.exit('wsadapter.worker' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=30).returncode == 0


def test_a_file_is_found_from_the_folder_it_is_relative_to(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(SOUND)
    assert load_dialect("mine.toml", base_dir=tmp_path)["dialect"]["title"] == "Mine"


def test_an_unknown_name_gets_the_nearest_known_one() -> None:
    with pytest.raises(ConfigError, match='no dialect is called "krakn"; did you mean "kraken"') as caught:
        load_dialect("krakn")
    assert len(caught.value.problems) == 1


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("", "", []),
        ('name = "mine"', 'name = "other"', ['dialect.name: expected the file\'s stem, "mine", got "other"']),
        ('title = "Mine"', "", ["dialect.title: this key is required"]),
        ('live = "wss://example.com"', "", ["urls: expected at least one of live, test"]),
        ('live = "wss://example.com"', "live = []", ["urls.live: expected a URL or a list of URLs, got a list"]),
        ("[urls]", "[urls]\nprod = 1", ["urls.prod: unknown key; known: live, private, private_test, test"]),
        ("[subscribe]", "[subscribe]\nper_fram = 1", ['subscribe.per_fram: unknown key; did you mean "per_frame"?']),
        ("[subscribe]", "[subscribe]\nper_frame = 0", ["subscribe.per_frame: expected a whole number from 1 on, got 0"]),
        ("[subscribe]", "[subscribe]\nper_frame = true", ["subscribe.per_frame: expected a whole number from 1 on, got true"]),
        ("[subscribe]", "[subscribe]\nack_timeout = nan", ["subscribe.ack_timeout: expected seconds, more than 0, got NaN"]),
        ("[subscribe]", "[ackk]\n[subscribe]", ['ackk: unknown key; did you mean "ack"?']),
        ("[subscribe]", "[ack]\n[subscribe]", ["ack: expected [[ack]] tables, got a table"]),
        ("[subscribe]", "[[ack]]\nid = 'id'\n[subscribe]", ["ack[0].match: this key is required"]),
        ("[subscribe]", "[[housekeeping]]\nmatch = { a = 1 }\n[subscribe]", ["housekeeping[0].contains: this key is required"]),
        ("[subscribe]", "[[error]]\nmatch = {}\n[subscribe]",
         ["error[0].match: expected a table of path = value, got a table"]),
        ("[subscribe]", "[heartbeat]\nkind = 'text'\n[subscribe]",
         ['heartbeat.payload: expected what to send: heartbeat.kind is "text"']),
        ("[subscribe]", "[heartbeat]\ninterval = 0\n[subscribe]", ["heartbeat.interval: expected more than 0, got 0"]),
        ("[subscribe]", "[request]\nid = 'a..b'\ntimeout = 0\nids = 1\n[subscribe]", [
            "request.timeout: expected more than 0, got 0",
            'request.ids: unknown key; did you mean "id"?',
            'request.id: expected a dotted path of a JSON field, got "a..b"',
        ]),
        ("[subscribe]", "[request]\nid = ''\nsuccess = 1\n[subscribe]", [
            "request.success: expected a table, got 1",
            "request.id: expected a dotted path of a JSON field, got an empty string",
        ]),
        ("$streams", "$stream", []),
        ("$streams", "$strems", [
            'subscribe.frame: unknown placeholder $strems in "$strems"',
            'subscribe.frame: expected exactly one of "$streams", "$stream" and "$stream": "*", got none of them',
        ]),
        ('"$streams"', '["$streams", "$stream"]', [
            'subscribe.frame: expected exactly one of "$streams", "$stream" and "$stream": "*", got "$stream" and "$streams"'
        ]),
        ("'{", "'[,", ["subscribe.frame: expected JSON text: Expecting value: line 1 column 2 (char 1)"]),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told(old: str, new: str, expected: list[str], tmp_path: Path) -> None:
    assert problems(SOUND.replace(old, new) if old else SOUND, tmp_path) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[connection]\nmax_age = '23h'\nrollover_window = '30m'\nsilence = 60\nsettle = 1.0", []),
        ("[connection]\nsettle = 0\nmemory = 1", [
            "connection.settle: expected seconds, more than 0, got 0",
            "connection.memory: unknown key; known: max_age, rollover_window, settle, silence, stalled",
        ]),
        ("[limits]\nsends = 5\nsends_period = 0", ["limits.sends_period: expected more than 0, got 0"]),
        ("[payload]\ncompression = 'gzip'", []),
        ("[payload]\ncompression = 'lz4'", [
            'payload.compression: expected one of "", "gzip", "zlib", "deflate", got "lz4"'
        ]),
        ("[hooks]\nsign = 'a.b:c'", []),
        ("[hooks]\nsign = 'a.b'\nsignn = ''", [
            'hooks.sign: expected "package.module:function"', 'hooks.signn: unknown key; did you mean "sign"?',
        ]),
        ("[[ready]]", ["ready[0].match: this key is required"]),
        ("[[on_up]]\nframe = '{\"id\":\"$id\",\"t\":\"$time_ms\",\"s\":\"x-$id_text\"}'", []),
        ("[[on_up]]\nframe = '\"$streams\"'", ['on_up[0].frame: "$streams" has no meaning here: this frame names no stream']),
        ("[[on_up]]\nframe = '\"$.a\"'\n[[on_up]]\nframe = 'x'", [
            "on_up[1].frame: expected JSON text: Expecting value: line 1 column 1 (char 0)",
        ]),
        ("[[answer]]\ncontains = 'p'\nmatch = { ping = '*' }\nframe = '{\"pong\":\"$.ping\"}'", []),
        ("[[answer]]\nmatch = { ping = '*' }\nframe = '{\"pong\":\"$ping\"}'", [
            "answer[0].contains: this key is required", 'answer[0].frame: unknown placeholder $ping in "$ping"',
        ]),
        ("[[notice]]\ncontains = 'n'", ["notice[0].match: this key is required"]),
        ("[[housekeeping]]\ncontains = 'n'\nmatch = { a = 1 }\nheartbeat = false", [
            "housekeeping[0].heartbeat: expected true, or leave it out, got false",
        ]),
        ("[heartbeat]\nwhen = 'idle'\nserver_interval = '5s'\nserver_missed = 2", []),
        ("[heartbeat]\nwhen = 'never'\nserver_missed = 0", [
            'heartbeat.when: expected one of "always", "idle", got "never"',
            "heartbeat.server_missed: expected more than 0, got 0",
        ]),
        ("[[ack]]\nmatch = { a = 1 }\naccepted = 'r'\nwhole_set = 's'", [
            "ack[0]: expected at most one of accepted, whole_set",
        ]),
        ("[[ack]]\nmatch = { a = 1 }\nfields = { pair = ['x', 1] }", [
            "ack[0].fields: pair: expected a list of dotted paths, got a list",
        ]),
        ("[stream]\nfields = { channel = 'c', symbol = ['a', 'b'] }\naliases = { l2 = 'level2', m = ['a', 'b'] }", []),
        ("[stream]\ntext = '{a}'\naliases = { a = 1 }", [
            "stream.aliases: expected a table of word in a message = word in a subscription, got a table",
        ]),
    ],
)  # fmt: skip
def test_the_optional_tables(text: str, expected: list[str], tmp_path: Path) -> None:
    assert problems(SOUND + text, tmp_path) == expected


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("scope = []\nvalue = 'n'", []),
        ("scope = ['s']\nfirst = 'U'\nlast = 'u'\nstep = 2\nsnapshot = { a = 1 }\nreset = { b = 1 }\nignore_equal = true", []),
        ("scope = ['s']\nprevious = 'pu'\nvalue = 'u'\ncontains = 'x'\nmatch = { e = 'd' }", []),
        ("value = 'n'", ["gap[0].scope: this key is required"]),
        ("scope = 's'\nvalue = 'n'", ['gap[0].scope: expected a list of dotted paths, [] for the whole connection, got "s"']),
        ("scope = []", ["gap[0]: expected either first and last, or value, or previous and value"]),
        ("scope = []\nfirst = 'U'\nvalue = 'n'", ["gap[0]: expected either first and last, or value, or previous and value"]),
        ("scope = []\nprevious = 'p'\nvalue = 'n'\nstep = 1", [
            "gap[0].step: has no meaning with previous, which says itself what came before",
        ]),
        ("scope = ['$stream']\nvalue = 'n'", [
            'gap[0].scope: "$stream" needs the table [stream]: without it no message has one',
        ]),
        ("scope = ['$stream']\nvalue = 'a..b'\n[stream]\npath = 's'", [
            'gap[0].value: expected a dotted path of a JSON field, got "a..b"',
        ]),
    ],
)  # fmt: skip
def test_a_gap_rule_has_a_scope_and_one_form(rule: str, expected: list[str], tmp_path: Path) -> None:
    assert problems(f"{SOUND}[[gap]]\n{rule}", tmp_path) == expected


def test_login_names_its_words_and_its_answers(tmp_path: Path) -> None:
    login = "[login]\nneeds = ['key']\nframe = '{\"args\":[\"$key\",\"$sign\",\"$time\"]}'\nsubscribe = '{\"jwt\":\"$sign\"}'\n"
    assert problems(SOUND + login + "[[login.ack]]\nmatch = { event = 'login' }", tmp_path) == []
    login = login.replace("'key'", "'api_key'").replace('{"jwt":"$sign"}', "[]")
    assert problems(SOUND + login + "timeout = 0\n[[login.error]]\ntext = 'msg'", tmp_path) == [
        "login.timeout: expected seconds, more than 0, got 0",
        "login.error[0].match: this key is required",
        'login.frame: unknown placeholder $key in "$key"',
        "login.subscribe: expected a JSON object, whose fields are put into the frames that subscribe",
    ]


def test_fields_of_the_signature_can_stand_among_others(tmp_path: Path) -> None:
    login = "[login]\nframe = '{\"event\":\"auth\",\"$sign\":\"*\"}'\n"
    assert problems(SOUND + login, tmp_path) == []
    assert problems(SOUND + login.replace('"*"', '"x"'), tmp_path) == ['login.frame: the value of the key "$sign" must be "*"']
    up = login.replace("[login]", "[[on_up]]")
    assert problems(SOUND + up, tmp_path) == ["on_up[0].frame: unknown placeholder $sign as a key"]


def test_what_an_ack_gave_a_stream_can_take_it_back(tmp_path: Path) -> None:
    text = SOUND.replace('"$streams"', '"$stream"') + "unsubscribe = '{\"off\":\"$channel\"}'\n"
    assert problems(text, tmp_path)[0] == 'subscribe.unsubscribe: unknown placeholder $channel in "$channel"'
    assert problems(text + "[[ack]]\nmatch = { on = '*' }\nchannel = 'chanId'", tmp_path) == []


def test_an_endpoint_gets_the_dialects_limits_life_time_and_hooks(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(
        SOUND + "[connection]\nmax_age = '23h'\nsettle = 1\n[limits]\nsends = 5\n[hooks]\nsign = 'a:b'\nrenew = 'a:c'\n"
    )
    dialect = load_dialect("mine.toml", base_dir=tmp_path)
    endpoint = apply_dialect(Endpoint("x", hooks={"sign": "own:one"}, limits={"sends_period": 2.0}), dialect)  # type: ignore[arg-type]
    assert (endpoint.watchdog.max_age, endpoint.limits.sends, endpoint.limits.sends_period) == (82800.0, 5, 2.0)
    own = apply_dialect(Endpoint("x", watchdog={"max_age": 60.0}), {**dialect, "connection": {"rollover_window": 90}})  # type: ignore[arg-type]
    assert (own.watchdog.max_age, own.watchdog.rollover_window) == (60.0, 0.0)
    assert endpoint.hooks == {"sign": "own:one", "renew": "a:c"}


def test_how_often_to_connect_is_of_the_exchanges_own_hosts(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(SOUND + "[limits]\nconnects = 300\nconnects_period = '5m'\nsends = 5")
    dialect = load_dialect("mine.toml", base_dir=tmp_path)
    assert apply_dialect(Endpoint("x"), dialect).limits.connects == 300
    assert apply_dialect(Endpoint("x", url=["wss://other", "wss://example.com/raw"]), dialect).limits.connects == 300
    elsewhere = apply_dialect(Endpoint("x", url="ws://127.0.0.1:1/"), dialect).limits
    assert (elsewhere.connects, elsewhere.connects_period, elsewhere.sends) == (None, 60.0, 5)


def test_who_logs_in_gets_the_private_url(tmp_path: Path) -> None:
    text = SOUND.replace('live = "wss://example.com"', 'live = "wss://a"\ntest = "wss://b"\nprivate = "wss://c"')
    (tmp_path / "mine.toml").write_text(text)
    dialect = load_dialect("mine.toml", base_dir=tmp_path)
    assert apply_dialect(Endpoint("x"), dialect).urls == ("wss://a",)
    assert apply_dialect(Endpoint("x", login={"key": "k"}), dialect).urls == ("wss://c",)
    assert apply_dialect(Endpoint("x", login={"key": "k"}, environment="test"), dialect).urls == ("wss://b",)


def test_one_stream_forms_need_one_stream_per_frame(tmp_path: Path) -> None:
    text = SOUND.replace('"$streams"', '"$stream"').replace("[subscribe]", "[subscribe]\nper_frame = 5")
    assert problems(text, tmp_path) == ['subscribe.frame: "$stream" needs per_frame = 1']


def test_all_problems_come_at_once(tmp_path: Path) -> None:
    found = problems("[urls]\nlive = 'http://x'\n[heartbeat]\nkind = 'pong'\ninterval = 'x'\n", tmp_path)
    assert [p.partition(":")[0] for p in found] == ["dialect", "subscribe", "urls.live", "heartbeat.kind", "heartbeat.interval"]


def test_a_file_that_is_no_toml_or_is_not_there_is_told(tmp_path: Path) -> None:
    assert problems("[", tmp_path)[0].startswith("not valid TOML: ")
    with pytest.raises(ConfigError, match="can't be read: No such file"):
        load_dialect(str(tmp_path / "nope.toml"))


def test_the_dialect_fills_in_what_the_user_left_open() -> None:
    endpoint = apply_dialect(Endpoint("x", dialect="okx", heartbeat={"timeout": 5.0}), load_dialect("okx"))  # type: ignore[arg-type]
    assert endpoint.urls == ("wss://ws.okx.com:8443/ws/v5/public",)
    assert (endpoint.heartbeat.kind, endpoint.heartbeat.payload, endpoint.heartbeat.timeout) == ("text", "ping", 5.0)


def test_what_the_user_says_wins() -> None:
    dialect = load_dialect("okx")
    endpoint = Endpoint("x", url="wss://own", dialect="okx", heartbeat={"payload": "hello"})  # type: ignore[arg-type]
    assert apply_dialect(endpoint, dialect).url == "wss://own"
    assert apply_dialect(endpoint, dialect).heartbeat.payload == "hello"
    as_written = apply_dialect(Endpoint("x", dialect="okx"), dialect, given={"heartbeat.kind"}).heartbeat
    assert (as_written.kind, as_written.payload) == ("ping", "")


def test_the_test_environment_has_urls_of_its_own() -> None:
    endpoint = Endpoint("x", dialect="okx", environment="test")
    assert apply_dialect(endpoint, load_dialect("okx")).urls == ("wss://wspap.okx.com:8443/ws/v5/public",)
    assert apply_dialect(endpoint, None) is endpoint


@pytest.mark.parametrize(
    ("table", "problem"),
    [
        ("[stream]", "stream: expected exactly one of path, fields, text"),
        ("[stream]\npath = 'a'\ntext = '{a}'", "stream: expected exactly one of path, fields, text"),
        ("[stream]\npath = ''", "stream.path: expected a string that is not empty"),
        ("[stream]\npath = 's'\nkey = 's'", "stream.key: "),
    ],
)
def test_a_stream_table_says_where_the_name_stands_and_nothing_else(table: str, problem: str, tmp_path: Path) -> None:
    found = problems(SOUND + table, tmp_path)
    assert len(found) == 1
    assert found[0].startswith(problem)
    assert problems(SOUND + "[stream]\npath = 'arg'", tmp_path) == []
