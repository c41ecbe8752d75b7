"""Dialects: the bundled ones are sound, others are judged as a whole, and they fill in what the user left open."""

from __future__ import annotations

import re
import subprocess
import sys
import textwrap
import tomllib
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pytest

from wsadapter.config import checked, parse
from wsadapter.config.dialect import apply_dialect, bundled, check_dialect, dialect_urls, load_dialect
from wsadapter.config.dialect.check import SECTION_OF
from wsadapter.contract.dialect.templates import stream_name
from wsadapter.contract.endpoint import SECTIONS, Endpoint, Heartbeat
from wsadapter.contract.errors import ConfigError

ROOT = Path(__file__).resolve().parents[2]
REFERENCE = ROOT / "worker/dialects/README.md"
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
ONE_FORM = 'subscribe.frame: expected exactly one of "$streams", "$streams...", "$stream", "$stream": "*" and "{path}"'


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
        "bitget", "hyperliquid", "crypto_com", "bitget_v3", "kucoin_uta", "dydx",
        "bingx", "bingx_swap", "mexc", "mexc_futures",
        "alpaca", "gemini", "phemex", "lighter", "polymarket", "upbit", "bithumb",
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
        ("[urls]", "[urls]\nprod = 1", ["urls.prod: unknown key; known: also, live, private, private_test, test"]),
        ("[subscribe]", "[subscribe]\nper_fram = 1", ['subscribe.per_fram: unknown key; did you mean "per_frame"?']),
        ("[subscribe]", "[subscribe]\nper_frame = 0", ["subscribe.per_frame: expected a whole number from 1 on, got 0"]),
        ("[subscribe]", "[subscribe]\nper_frame = true", ["subscribe.per_frame: expected a whole number from 1 on, got true"]),
        ("[subscribe]", "[subscribe]\nack_timeout = nan", ["subscribe.ack_timeout: expected seconds, more than 0, got NaN"]),
        ("[subscribe]", "[subscribe]\nexample = 5", [
            "subscribe.example: expected a stream, a string or a table, or a list of streams, got 5",
        ]),
        ("[subscribe]", "[subscribe]\nexample = []", [
            "subscribe.example: expected a stream, a string or a table, or a list of streams, got a list",
        ]),
        ("[subscribe]", "[subscribe]\nexample = ['a', { b = 1 }]", []),
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
            'subscribe.frame: unknown placeholder $strems in "$strems"; did you mean "$streams"?',
            f"{ONE_FORM}, got none of them",
        ]),
        ('"$streams"', '["$streams", "$stream"]', [f'{ONE_FORM}, got "$stream" and "$streams"']),
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
            "answer[0].contains: this key is required",
            'answer[0].frame: unknown placeholder $ping in "$ping"; did you mean "$.ping"?',
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
            "gap[0].step: has no meaning with previous, which names the previous number itself",
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
    login = '[login]\nneeds = [\'key\']\nframe = \'{"args":["$key","$sign","$time"]}\'\nsubscribe = \'{"jwt":"$sign"}\'\n'
    assert problems(SOUND + login + "[[login.ack]]\nmatch = { event = 'login' }", tmp_path) == []
    login = login.replace("'key'", "'api_key'").replace('{"jwt":"$sign"}', "[]")
    assert problems(SOUND + login + "timeout = 0\n[[login.error]]\ntext = 'msg'", tmp_path) == [
        "login.timeout: expected seconds, more than 0, got 0",
        "login.error[0].match: this key is required",
        'login.frame: unknown placeholder $key in "$key"; did you mean "$api_key"?',
        "login.subscribe: expected a JSON object, whose fields are put into the frames that subscribe",
    ]


def test_fields_of_the_signature_can_stand_among_others(tmp_path: Path) -> None:
    login = '[login]\nframe = \'{"event":"auth","$sign":"*"}\'\n'
    assert problems(SOUND + login, tmp_path) == []
    assert problems(SOUND + login.replace('"*"', '"x"'), tmp_path) == ['login.frame: the value of the key "$sign" must be "*"']
    up = login.replace("[login]", "[[on_up]]")
    assert problems(SOUND + up, tmp_path) == ["on_up[0].frame: unknown placeholder $sign as a key"]


def test_what_an_ack_gave_a_stream_can_take_it_back(tmp_path: Path) -> None:
    text = SOUND.replace('"$streams"', '"$stream"') + 'unsubscribe = \'{"off":"$channel"}\'\n'
    assert problems(text, tmp_path)[0] == 'subscribe.unsubscribe: unknown placeholder $channel in "$channel"'
    assert problems(text + "[[ack]]\nmatch = { on = '*' }\nchannel = 'chanId'", tmp_path) == []


def test_a_frame_may_be_put_together_from_parts_of_a_stream(tmp_path: Path) -> None:
    good = SOUND.replace('{"op":"sub","args":"$streams"}', '{"op":"{channel}.sub","{}":"{args.0}","id":"$id"}')
    assert problems(good, tmp_path) == []
    assert problems(good.replace("{args.0}", "{args..0}"), tmp_path) == [
        'subscribe.frame: expected a dotted path of a JSON field, got "args..0"',
    ]
    assert problems(f"{good}per_frame = 2", tmp_path) == ['subscribe.frame: "{path}" needs per_frame = 1']


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


WRITTEN = {  # per setting that a dialect may give: a value of the dialect, and the default, which a user writes against that
    "watchdog": {"silence": (30.0, 0), "max_age": (82800.0, 0.0), "rollover_window": (60.0, 0.0), "stalled": (5.0, 60.0)},
    "heartbeat": {"kind": ("text", "ping"), "interval": (5.0, 20), "payload": ("hi", ""), "server_interval": (15.0, 0)},
    "limits": {"sends": (5, 0), "sends_period": (2.0, 1.0), "connects_period": (300.0, 60.0)},
    "request": {"id": ("req_id", "id"), "error": ("err", "error"), "timeout": (3.0, 10.0)},
}
TABLE_OF = {section: table for table, section in SECTION_OF.items()}


@pytest.mark.parametrize("form", ["a table", "an object", "checked, as the supervisor does", "a shard of it"])
@pytest.mark.parametrize(("section", "key"), [(section, key) for section, keys in WRITTEN.items() for key in keys])
def test_a_default_that_is_written_switches_off_what_the_dialect_says(section: str, key: str, form: str) -> None:
    theirs, default = WRITTEN[section][key]
    dialect = {"urls": {"live": "wss://example.com"}, "subscribe": {}, TABLE_OF[section]: {key: theirs}}
    settings: Any = {key: default} if form == "a table" else SECTIONS[section](**{key: default})
    written, silent = Endpoint("x", **{section: settings}), Endpoint("x", url="wss://example.com")
    if form != "a table":
        written = replace(written, url="wss://example.com")
    if form.startswith("checked"):
        written, silent = checked(written), checked(silent)
    applied = apply_dialect(written, dialect)
    if form == "a shard of it":
        applied = apply_dialect(replace(applied, name="x#2", subscribe=("a",)), dialect)
    assert getattr(getattr(applied, section), key) == default
    assert getattr(getattr(apply_dialect(silent, dialect), section), key) == theirs


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


def test_an_example_of_a_stream_fits_its_frame(tmp_path: Path) -> None:
    text = SOUND.replace("[subscribe]", "[subscribe]\nexample = 'a'").replace('"$streams"', '"{channel}"')
    assert problems(text, tmp_path) == ["subscribe.example: must be a table for this dialect, not the string 'a'"]


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


def test_a_watchdog_of_the_dialect_is_switched_off_by_a_zero_in_the_file() -> None:
    text = '[endpoints.k]\ndialect = "kraken"\nsubscribe = [{ channel = "trade", symbol = ["BTC/USD"] }]\n'
    for written, found in (
        ("", 30.0),
        ("watchdog = { silence = 0 }\n", 0.0),
        ("[defaults]\nwatchdog = { silence = 0 }\n", 0.0),
    ):
        settings = parse(written + text if written.startswith("[") else text + written)
        whole = apply_dialect(settings.endpoints[0], load_dialect("kraken"), given=settings.given["k"])
        assert whole.watchdog.silence == found


def test_the_test_environment_has_urls_of_its_own() -> None:
    endpoint = Endpoint("x", dialect="okx", environment="test")
    assert apply_dialect(endpoint, load_dialect("okx")).urls == ("wss://wspap.okx.com:8443/ws/v5/public",)
    assert apply_dialect(endpoint, None) is endpoint


@pytest.mark.parametrize(
    ("table", "problem"),
    [
        ("[stream]", "stream: expected exactly one of path, text, fields, key"),
        ("[stream]\npath = 'a'\ntext = '{a}'", "stream: expected exactly one of path, text, fields, key"),
        ("[stream]\npath = ''", "stream.path: expected a string that is not empty"),
        ("[stream]\npath = 's'\nkeys = 's'", "stream.keys: "),
    ],
)
def test_a_stream_table_says_where_the_name_stands_and_nothing_else(table: str, problem: str, tmp_path: Path) -> None:
    found = problems(SOUND + table, tmp_path)
    assert len(found) == 1
    assert found[0].startswith(problem)
    assert problems(SOUND + "[stream]\npath = 'arg'", tmp_path) == []


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        ("[stream]\nkey = ['{c}|{n}', '{c}|!all']\nof = '{c}|{p.0}_{p.1}'\nfold = true\naliases = { '*-A' = '*-B' }", []),
        ("[[stream]]\ncontains = 'x'\nmatch = { e = 'u' }\npath = 's'\n[[stream]]\n[stream.fields]\nc = 'c'", []),
        ("[stream]\nkey = '{a}'\nof = ''", []),
        ("[stream]\nkey = '{a}'\nof = ['{}', '{a}@{b}']", []),
        ("stream = []", ["stream: expected at least one table"]),
        ("stream = [1]", ["stream[0]: expected a table, got 1"]),
        ("[[stream]]\nkey = '{a}'\n[[stream]]\nof = '{a}'", [
            "stream[0].of: this key is required: what `key` puts together is compared with it",
            "stream[1]: expected exactly one of path, text, fields, key",
            "stream[1].of: has no meaning without key",
        ]),
        ("[stream]\nkey = '{a'\nof = '{a..b}'", [
            'stream.key: expected text with paths in braces, such as {data.s}, got "{a"',
            'stream.of: expected a dotted path of a JSON field, got "a..b"',
        ]),
        ("[stream]\ntext = ['a', '{}']", ["stream.text: expected a dotted path of a JSON field, got an empty string"]),
        ("[stream]\npath = 'a'\nfold = true\naliases = { a = 'b' }", [
            "stream.aliases: has no meaning with path: only text, fields and key compare words",
            "stream.fold: has no meaning with path: only text, fields and key compare words",
        ]),
        ("[stream]\ntext = '{a}'\naliases = { '*-*' = ['*/*', '*', 'x'] }", []),
        ("[stream]\ntext = '{a}'\naliases = { 'x-*' = ['*', '**'], y = '**' }", [
            'stream.aliases: x-*: expected no more "*" in a word of the subscription than in the message\'s',
        ]),
    ],
)  # fmt: skip
def test_each_stream_rule_has_one_form(table: str, expected: list[str], tmp_path: Path) -> None:
    text = f"{table}\n{SOUND}" if table.startswith("stream =") else SOUND + table
    assert problems(text, tmp_path) == expected


ACK = "[[ack]]\nmatch = { ok = 1 }\n"
STREAM = "[stream]\npath = 's'\n"
KIND = "[[subscribe.kind]]\nstreams = ['user.*']\nframe = '[\"$streams\"]'\n"


@pytest.mark.parametrize(
    ("subscribe", "expected"),
    [
        ("parts = 'ids'\nquiet = ['user.*']\nlive_timeout = 0\nacks_per = 'ids'\n" + STREAM + ACK, []),
        ("quiet = ['a']\nlive_timeout = 30\nacks_per = 'ids'", [
            "subscribe.live_timeout: needs the table [stream]: without it no message belongs to a stream",
            "subscribe.quiet: needs the table [stream]: without it no message belongs to a stream",
            "subscribe.acks_per: needs [[ack]]: without it no answer is waited for",
        ]),
        ("parts = 'ids'\n[[error]]\nmatch = { a = 1 }\ncloses = true", [
            "error[0].closes: has no meaning with subscribe.parts: the parts of a table can't be asked for any more",
        ]),
        ("live_timeout = -1\nquiet = 'a'\n" + STREAM, [
            "subscribe.live_timeout: expected seconds, or 0 for none, got -1",
            'subscribe.quiet: expected a list of strings, got "a"',
        ]),
        ("replaces = true", []),
        ("replaces = true\nunsubscribe = '[\"$streams\"]'\nper_frame = 5\nmax_frame = 9\n" + KIND, [
            "subscribe.unsubscribe: has no meaning with replaces: the smaller set is sent",
            "subscribe.per_frame: has no meaning with replaces: each frame names all streams",
            "subscribe.max_frame: has no meaning with replaces: each frame names all streams",
            "subscribe.kind: has no meaning with replaces: each frame names all streams",
        ]),
        (KIND + "unsubscribe = '{\"b\":\"$stream\"}'", []),
        ("per_frame = 5\n[[subscribe.kind]]\nframe = '{\"a\":\"$stream\"}'\nstreams = []\nper = 1", [
            "subscribe.kind[0].streams: expected a list of strings, got a list",
            "subscribe.kind[0].per: unknown key; known: frame, parts, per_frame, streams, unsubscribe",
            'subscribe.kind[0].frame: "$stream" needs per_frame = 1',
        ]),
        ("unsubscribe = '{\"b\":\"$stream\"}'\n" + KIND + "per_frame = 2", [
            'subscribe.kind[0].unsubscribe: "$stream" needs per_frame = 1',
        ]),
    ],
)  # fmt: skip
def test_how_streams_are_asked_for_is_judged_as_a_whole(subscribe: str, expected: list[str], tmp_path: Path) -> None:
    assert problems(SOUND + subscribe, tmp_path) == expected


@pytest.mark.parametrize(
    ("frame", "expected"),
    [
        ('[{"ticket":"x"},"$streams..."]', []),
        ('{"args":["$streams..."]}', []),
        ('{"args":"$streams..."}', [
            'subscribe.frame: "$streams..." stands for the items of an array: expected it as an item of one',
        ]),
        ('["$streams...","$streams"]', [f'{ONE_FORM}, got "$streams" and "$streams..."']),
        ('{"a":"$stream"}', [
            'subscribe.frame: "$stream" can\'t name all streams, as replaces wants it: expected "$streams" or "$streams..."',
        ]),
    ],
)  # fmt: skip
def test_a_set_that_is_replaced_is_named_as_a_whole(frame: str, expected: list[str], tmp_path: Path) -> None:
    text = SOUND.replace('{"op":"sub","args":"$streams"}', frame) + "replaces = true\n"
    assert problems(text, tmp_path) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (ACK + "args = 'request.args'\ndata = 'result.data'", []),
        ("[[already]]\nmatch = { e = '*' }\ntext = 'm'\nid = 'id'\nsays = ['already']\nargs = 'a'", []),
        ("[[later]]\nmatch = { e = '*' }\npause = 5\nsays = ['too many', 'rate']", []),
        ("[[later]]\npause = 0\nsays = 'x'", [
            "later[0].pause: expected seconds, more than 0, got 0", 'later[0].says: expected a list of strings, got "x"',
            "later[0].match: this key is required",
        ]),
        ("[[error]]\nmatch = { e = 1 }\npause = 1", [
            "error[0].pause: unknown key; known: args, closes, fields, id, match, says, stream, text",
        ]),
        ("[[already]]\nmatch = { e = 1 }\ndata = 'x'", [
            "already[0].data: unknown key; known: args, fields, id, match, says, stream, text",
        ]),
        ("[payload]\ntext = true\nsplit = true", []),
        ("[payload]\ntext = true\ncompression = 'gzip'\nsplit = 1", [
            "payload.split: expected true, or leave it out, got 1",
            "payload.text: has no meaning with compression: what is inflated is a text where it is one",
        ]),
        ("[payload]\ntext = true\nsplit = true\n[hooks]\ndecode = 'a:b'", [
            "payload.text: has no meaning with hooks.decode, which takes its place",
        ]),
        ("[[answer]]\nis = 'a'\nsay = 'b'\n[[housekeeping]]\nis = 'c'\nheartbeat = true", []),
        ("[[notice]]\nis = 'd'\n[[ready]]\nis = 'e'", []),
        ("[[answer]]\ncontains = 'p'\nmatch = { ping = 1 }\nsay = 'Pong'", []),
        ("[[answer]]\nis = 'Ping'\nframe = '{\"a\":\"$.ping\"}'", [
            'answer[0].frame: "$.path" has no meaning with `is`: the message that is answered is no JSON',
        ]),
        ("[[answer]]\nis = 'Ping'\ncontains = 'i'", [
            "answer[0].contains: has no meaning with `is`, which is the whole message",
            "answer[0]: expected either frame, or say for a text that is no JSON",
        ]),
        ("[[ready]]\nis = ''\nmatch = { a = 1 }", [
            "ready[0].is: expected a string that is not empty",
            "ready[0].match: has no meaning with `is`, which is the whole message",
        ]),
        ("[[ready]]\ncontains = 'a'\nmatch = { a = 1 }", ["ready[0].contains: unknown key; known: is, match"]),
        ("[[gap]]\nscope = ['s']\nprevious = 'p'\nvalue = 'v'\nopaque = true", []),
        ("[[gap]]\nscope = ['s']\nvalue = 'v'\nopaque = true", [
            "gap[0].opaque: needs previous: a value that is not a number has no successor",
        ]),
    ],
)  # fmt: skip
def test_answers_and_texts_that_are_no_json(text: str, expected: list[str], tmp_path: Path) -> None:
    assert problems(SOUND + text, tmp_path) == expected


LOGIN = "[login]\nneeds = ['key']\nchallenge = '{\"c\":1}'\n[login.answer]\nmatch = { c = '*' }\nvalue = 'c'\n"


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ('{"s":"$stream","by":"$key","is":"$challenge","so":"$sign"}', []),
        ('{"s":"$stream","by":"$secret","is":"$challenge"}', [
            'subscribe.kind[0].frame: unknown placeholder $secret in "$secret"',
        ]),
        ('{"s":"$stream","by":"key $key","is":"$challenge"}', [
            'subscribe.kind[0].frame: $key can\'t be a part of a text: expected it as the whole of "key $key"',
        ]),
        ('{"user":"$sign","is":"$challenge"}', [f"{ONE_FORM}, got none of them".replace("frame", "kind[0].frame")]),
    ],
)  # fmt: skip
def test_frames_of_a_kind_may_have_what_a_login_has(kind: str, expected: list[str], tmp_path: Path) -> None:
    text = f"{SOUND}[[subscribe.kind]]\nstreams = ['user.*']\nframe = '{kind}'\n{LOGIN}"
    assert problems(text, tmp_path) == expected


def test_without_a_login_and_in_other_frames_there_is_nothing_of_it(tmp_path: Path) -> None:
    text = SOUND.replace('"$streams"', '"$streams","by":"$key"')
    assert problems(text, tmp_path) == ['subscribe.frame: unknown placeholder $key in "$key"']
    kind = '[[subscribe.kind]]\nstreams = [\'user\']\nframe = \'{"s":"$stream","by":"$sign"}\'\n'
    assert problems(SOUND + kind, tmp_path) == ['subscribe.kind[0].frame: unknown placeholder $sign in "$sign"']


@pytest.mark.parametrize(
    ("streams", "expected"),
    [
        ("['user']", []),
        ("['user', 'users']", [f"{ONE_FORM}, got none of them".replace("frame", "kind[0].frame")]),
        ("['user*']", [f"{ONE_FORM}, got none of them".replace("frame", "kind[0].frame")]),
    ],
)
def test_a_frame_that_can_be_for_one_stream_only_need_not_name_it(streams: str, expected: list[str], tmp_path: Path) -> None:
    text = f"{SOUND}[[subscribe.kind]]\nstreams = {streams}\nframe = '{{\"listen\":1}}'\n"
    assert problems(text, tmp_path) == expected


def test_who_logs_in_may_have_other_heartbeats(tmp_path: Path) -> None:
    rest = "[heartbeat]\nkind = 'none'\nserver_interval = 5.0\n[login]\nneeds = ['key']\nframe = '1'\n[login.heartbeat]\n"
    (tmp_path / "mine.toml").write_text(f"{SOUND}{rest}kind = 'none'\nserver_interval = 20.0\n")
    dialect = load_dialect(str(tmp_path / "mine.toml"))
    assert apply_dialect(Endpoint("x"), dialect).heartbeat.server_interval == 5.0
    private = apply_dialect(Endpoint("x", login={"key": "K"}), dialect).heartbeat
    assert (private.kind, private.server_interval) == ("none", 20.0)
    own = apply_dialect(Endpoint("x", login={"key": "K"}, heartbeat=Heartbeat(server_interval=7.0)), dialect).heartbeat
    assert own.server_interval == 7.0
    assert problems(f"{SOUND}{rest}kind = 'json'\nintervall = 1", tmp_path) == [
        'login.heartbeat.intervall: unknown key; did you mean "interval"?',
        'login.heartbeat.payload: expected what to send: heartbeat.kind is "json"',
    ]


def test_a_challenge_has_an_answer_and_a_use(tmp_path: Path) -> None:
    login = '[login]\nneeds = [\'key\']\nchallenge = \'{"c":"$key"}\'\nsubscribe = \'{"o":"$challenge","$sign":"*"}\'\n'
    answer = "[login.answer]\nmatch = { event = 'challenge' }\nvalue = 'message'\n"
    assert problems(SOUND + login + answer, tmp_path) == []
    assert problems(SOUND + login, tmp_path) == ["login: expected both challenge and [login.answer], or neither"]
    assert problems(SOUND + login.replace("$challenge", "x") + "[login.answer]\nmatch = 1", tmp_path) == [
        "login.answer.match: expected a table of path = value, got 1",
        "login.answer.value: this key is required",
        'login.challenge: expected "$challenge" in frame, subscribe or [[subscribe.kind]]: without it the answer is of no use',
    ]
    assert problems(SOUND + login.replace('"c":"$key"', '"c":"$challenge$sign"') + answer, tmp_path) == [
        'login.challenge: unknown placeholder $challenge in "$challenge$sign"',
    ]
    assert problems(SOUND + login.replace("challenge = ", "# ") + "[[login.ack]]\nmatch = { a = 1 }", tmp_path) == [
        'login.subscribe: unknown placeholder $challenge in "$challenge"',
        "login.ack: has no meaning without frame: nothing is sent that it could answer",
    ]


def documented() -> list[str]:
    """The pieces of TOML in the dialects' reference."""
    page = REFERENCE.read_text("utf-8")
    return [block for block in re.findall(r"(?:^    .*\n|^\n)+", page, re.MULTILINE) if block.strip().startswith("[")]


ODD: dict[str, Any] = {"qqqqqqqq": 1}
TABLES = ["dialect", "urls", "hooks", "connection", "limits", "payload", "login", "subscribe", "stream", "heartbeat", "request"]
RULES = [
    "ready", "on_up", "ack", "already", "later", "error", "answer", "housekeeping", "notice", "gap", "identity", "snapshot",
]  # fmt: skip
WITHIN = [
    {"login": {"answer": ODD}}, {"login": {"ack": [ODD]}}, {"login": {"error": [ODD]}}, {"subscribe": {"kind": [ODD]}},
]  # fmt: skip


@pytest.mark.parametrize("data", [*({name: ODD} for name in TABLES), *({name: [ODD]} for name in RULES), *WITHIN], ids=str)
def test_the_reference_names_every_key(data: dict[str, Any]) -> None:
    (message,) = [message for _, message in check_dialect(data, stem="") if message.startswith("unknown key; known: ")]
    known = message.removeprefix("unknown key; known: ").split(", ")
    named = set(re.findall(r"^\s+#? ?(\w+) =|^\s+\[+([\w.]+)\]", "".join(documented()), re.MULTILINE))
    assert set(known) - {word.rpartition(".")[2] for pair in named for word in pair} == set()


def test_the_reference_names_no_key_that_is_unknown() -> None:
    blocks = documented()
    assert len(blocks) > 8
    for block in blocks:
        found = check_dialect(tomllib.loads(textwrap.dedent(block)), stem="")
        assert [problem for problem in found if "unknown" in problem[1]] == []


def test_no_book_and_no_trade_of_the_examples_may_be_silent() -> None:
    """A glob for the user's own orders must not be one for order books."""
    examples = tomllib.loads((ROOT / "ops" / "examples" / "exchanges.toml").read_text("utf-8"))["endpoints"]
    for example in examples.values():
        quiet = load_dialect(example["dialect"])["subscribe"].get("quiet", [])
        names = map(stream_name, example["subscribe"])
        assert [name for name in names if any(fnmatchcase(name, glob) for glob in quiet)] == []


COLUMNS = [
    "dialect", "subscribe frame", "ack", "reject", "later", "already", "heartbeat", "attribution", "gap rule", "login",
    "live timeout", "tested against",
]  # fmt: skip


def what_each_dialect_says() -> dict[str, dict[str, str]]:
    """The table at the end of the reference."""
    lines = REFERENCE.read_text("utf-8").partition("## What each dialect says")[2].splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    assert cells[0] == COLUMNS
    assert all(len(row) == len(COLUMNS) and all(row) for row in cells)
    names = [row[0] for row in cells[2:]]
    assert names == sorted(set(names))
    return {row[0]: dict(zip(COLUMNS, row, strict=True)) for row in cells[2:]}


def test_the_table_of_dialects_has_a_row_for_each() -> None:
    assert what_each_dialect_says().keys() == bundled().keys()


@pytest.mark.parametrize("name", sorted(bundled()))
def test_a_row_says_what_the_file_says(name: str) -> None:
    row, dialect = what_each_dialect_says()[name], load_dialect(name)
    subscribe = dialect["subscribe"]
    assert (row["login"] == "-") is ("login" not in dialect)
    assert row["gap rule"].startswith("none") is ("gap" not in dialect)
    assert float(re.split("[, ]", row["live timeout"])[0]) == subscribe.get("live_timeout", 300.0)
    assert ("never" in row["live timeout"]) is ("quiet" in subscribe)
    several = subscribe.get("per_frame", 1) > 1 or bool(subscribe.get("replaces"))
    assert several or row["subscribe frame"].startswith("one ")
    if subscribe.get("per_frame", 1) > 1:
        assert row["subscribe frame"].startswith(f"up to {subscribe['per_frame']} ")
    beats = [dialect.get("heartbeat", {}), dialect.get("login", {}).get("heartbeat", {})]
    spans = {beat[key] for beat in beats for key in ("interval", "server_interval") if beat.get(key)}
    assert {f"{span:g}" for span in spans} <= set(re.findall("[0-9.]+", row["heartbeat"]))
    paths = [rule[key] for rule in dialect.get("gap", []) for key in ("previous", "value", "first", "last") if key in rule]
    numbers = {path.rpartition(".")[2] for path in paths}
    assert {number for number in numbers if not number.lstrip("-").isdecimal()} <= set(re.findall(r"\w+", row["gap rule"]))
    matched = {str(value) for rule in dialect.get("later", []) for value in rule["match"].values()}
    assert {value for value in matched if re.fullmatch("-?[0-9]+", value)} <= set(re.findall("-?[0-9]+", row["later"]))


@pytest.mark.parametrize("name", sorted(bundled()))
def test_a_row_says_whose_a_refusal_is_as_the_file_does(name: str) -> None:
    row, dialect = what_each_dialect_says()[name], load_dialect(name)
    errors = dialect.get("error", [])
    assert ("by id" in row["reject"]) is any("id" in rule for rule in errors)
    named = any(rule.keys() & {"id", "args", "stream", "fields"} for rule in errors)
    if errors and not named and not any("closes" in rule for rule in errors):
        assert "by text, else in the order of the frames" in row["reject"]
    assert (row["later"] == "-") is not bool(errors)
    assert (row["already"] == "-") is not bool(errors)
    if errors and "already" not in dialect:
        assert row["already"].startswith("words in general") or row["already"] == "a yes"
    told = {str(value) for rule in dialect.get("already", []) for value in rule["match"].values()}
    assert {value for value in told if re.fullmatch("-?[0-9]{2,}", value)} <= set(re.findall("-?[0-9]+", row["already"]))
