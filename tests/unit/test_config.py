"""Configuration: what is accepted, what is refused and in which words, and that no secret shows."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsadapter.config import Settings, check_endpoint, checked, describe_settings, effective, load, parse, show
from wsadapter.config.dialect import bundled, load_dialect, wrong_stream
from wsadapter.config.interpolate import expand_endpoint
from wsadapter.config.quantities import duration, show_duration, show_size, size
from wsadapter.config.schema import ENDPOINT
from wsadapter.contract.dialect.templates import fill
from wsadapter.contract.endpoint import SECTIONS, Endpoint
from wsadapter.contract.errors import ConfigError
from wsadapter.supervisor import Supervisor

EXAMPLES = Path(__file__).parents[2] / "ops" / "examples"
DURATION = 'expected a duration (seconds, or text such as "500ms", "2s", "1.5m", "23h", "2d")'
SIZE = 'expected a size (bytes, or text such as "4k", "10MB", "64MiB")'
URL = "expected a URL such as wss://host:port/path"
CIPHERS = "OpenSSL knows no cipher of this list (see `openssl ciphers`); those of TLS 1.3 can't be chosen"
NO_HOST = "the host is not a host name: each part of it has 1 to 63 characters on the wire"
NO_IDENTITY = 'more than 1 needs an `identity`, what makes two messages the same, "bytes" or JSON fields: there is no dialect'
NO_KEY = '"conflate" needs a `key`, the JSON field that tells messages apart'
X = '[endpoints.x]\nurl = "wss://h"\n'
MINE = """
[dialect]
name = "mine"
title = "M"
docs = "https://mine/"
[urls]
live = "wss://h"
[subscribe]
frame = '{"sub": "$streams"}'
"""


def problems(text: str, base_dir: Path | str = "", **environ: str) -> list[str]:
    try:
        parse(text, source="x.toml", base_dir=base_dir, environ=environ)
    except ConfigError as error:
        return [str(problem) for problem in error.problems]
    return []


def only(settings: Settings) -> Endpoint:
    [endpoint] = settings.endpoints
    return endpoint


# -- what is accepted ------------------------------------------------------------------------------------------------------


def test_a_url_alone_is_a_configuration_with_the_documented_defaults() -> None:
    settings = parse(X, source="/etc/prices.toml")
    assert (settings.name, settings.strategy) == ("prices", "one_for_one")
    assert (settings.spares, settings.start_method) == (1, "forkserver")
    assert (settings.output.kind, settings.output.path) == ("jsonl", "-")
    assert only(settings) == Endpoint("x", url="wss://h")
    t, r, h, w = only(settings).timeouts, only(settings).restart, only(settings).heartbeat, only(settings).watchdog
    assert (t.resolve, t.connect, t.handshake, t.send, t.close) == (5, 10, 10, 10, 5)
    assert (r.type, r.intensity, r.period) == ("permanent", 10, 60)
    assert (r.backoff_initial, r.backoff_factor, r.backoff_max) == (0.5, 2, 30)
    assert (r.min_uptime, r.cool_down, r.on_exceeded) == (30, 60, "cool_down")
    assert (h.kind, h.interval, h.timeout) == ("ping", 20, 20)
    assert (w.startup, w.progress, w.silence, w.memory, w.max_age) == (30, 10, 0, 0, 0)
    assert (only(settings).buffer.max_bytes, only(settings).buffer.overflow) == (64 * 1024**2, "drop_oldest")


def test_defaults_are_merged_section_by_section() -> None:
    settings = parse("""
        [defaults]
        bind = "127.0.0.1"
        headers = { A = "1", B = "2" }
        timeouts = { connect = "3s", close = 1 }
        [endpoints.x]
        url = "wss://h"
        headers = { B = "3" }
        timeouts = { close = "2s" }
        """)
    endpoint = only(settings)
    assert (endpoint.bind, endpoint.headers) == ("127.0.0.1", {"A": "1", "B": "3"})
    assert (endpoint.timeouts.connect, endpoint.timeouts.close, endpoint.timeouts.send) == (3.0, 2.0, 10.0)
    assert settings.given["x"] == {"bind", "headers", "timeouts.connect", "timeouts.close", "url"}


@pytest.mark.parametrize("example", sorted(EXAMPLES.glob("*.toml")), ids=lambda path: path.name)
def test_an_example_is_a_valid_configuration(example: Path) -> None:
    assert load(example).endpoints


def test_an_example_has_public_streams_of_every_bundled_dialect_each_of_its_form(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    example = (EXAMPLES / "exchanges.toml").read_text("utf-8")
    assert {endpoint.dialect for endpoint in load(EXAMPLES / "exchanges.toml").endpoints} == bundled().keys() - {"alpaca"}
    whole = tmp_path / "exchanges.toml"  # with what is commented out because it needs keys
    whole.write_text(re.sub(r"(?m)^# (?=\[endpoints|[a-z]+ = )", "", example))
    for name in re.findall(r"\$\{(\w+)\}", example):
        monkeypatch.setenv(name, "k")
    settings = load(whole)
    assert {endpoint.dialect for endpoint in settings.endpoints} == bundled().keys()
    for endpoint in settings.endpoints:
        dialect = load_dialect(endpoint.dialect)
        template = dialect["subscribe"]["frame"]
        for stream in endpoint.subscribe:
            assert wrong_stream(dialect, stream) == ""
            frame = fill(template, [stream], 1)  # raises where it is a string and must be a table
            assert b"$" not in frame


def test_the_reference_names_every_setting_with_its_default() -> None:
    text = (EXAMPLES / "reference.toml").read_text("utf-8")
    endpoint = only(load(EXAMPLES / "reference.toml"))
    assert endpoint == Endpoint("example", url="wss://stream.example.com/ws")
    written = tomllib.loads(text.replace("# connects = 60", "connects = 60"))
    written["sink"] = {key: value for sink in written["sink"] for key, value in sink.items()}
    for path, *_ in describe_settings():
        table = written
        for step in path.replace("NAME", "example").split("."):
            assert step in table, path
            table = table[step]


def explained(text: str) -> dict[str, str]:
    """The comments above the keys of a configuration, by the keys with their sections."""
    found, section, comment = {}, "", []
    for line in text.splitlines():
        if line.startswith("["):
            section = line.strip("[]")
        key = re.match(r"(?:# )?(\w+) = ", line)
        if key is not None:
            found.setdefault(f"{section}.{key[1]}", " ".join(comment))  # of several [[sink]], the first with the key
        comment = [*comment, line.removeprefix("# ")] if line.startswith("# ") and key is None else []
    return found


def test_the_reference_explains_every_setting_in_the_words_of_the_code() -> None:
    comments = explained((EXAMPLES / "reference.toml").read_text("utf-8"))
    for described in describe_settings():
        assert comments[described.path.replace("NAME", "example")] == described.meaning.replace("\\|", "|")


def test_every_setting_has_a_type_a_default_and_a_meaning() -> None:
    described = {d.path: d for d in describe_settings()}
    assert [path for path, d in described.items() if not d.meaning or not d.type] == []
    assert described["endpoints.NAME.timeouts.connect"].default == '"10s"'
    assert described["endpoints.NAME.buffer.max_bytes"].default == '"64MiB"'
    assert {path.split(".")[2] for path in described if path.count(".") == 3} == SECTIONS.keys()


def test_streams_come_from_the_list_and_from_the_file(tmp_path: Path) -> None:
    (tmp_path / "streams.txt").write_text('# mine\n\n a@trade \n{"channel": "b"}\n')
    table = 'subscribe = ["c"]\nsubscribe_file = "streams.txt"\n'
    assert only(parse(X + table, base_dir=tmp_path)).subscribe == ("c", "a@trade", '{"channel": "b"}')
    (tmp_path / "mine.toml").write_text(MINE)
    endpoint = only(parse('[endpoints.x]\ndialect = "mine.toml"\n' + table, base_dir=tmp_path))
    assert endpoint.subscribe == ("c", "a@trade", {"channel": "b"})
    assert checked(endpoint) == endpoint


def test_paths_start_at_the_folder_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").touch()
    (tmp_path / "token").write_text("t0ken\n")
    path = tmp_path / "c.toml"
    path.write_text(X + 'headers = { T = "${file:token}" }\ntls = { ca_file = "ca.pem" }\n')
    endpoint = only(load(path))
    assert endpoint.tls.ca_file == str(tmp_path / "ca.pem")
    assert endpoint.headers["T"] == f"${{file:{tmp_path}/token}}"
    assert expand_endpoint(endpoint).headers["T"] == "t0ken"


# -- what is refused -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ["endpoints: expected at least one: [endpoints.NAME] with a url or a dialect"]),
        ("[endpoint.x]\n" + X, ['endpoint: unknown key; did you mean "endpoints"?']),
        ("supervisor = 1\n" + X, ["supervisor: expected a table, got 1"]),
        ("endpoints.x = 1", ["endpoints.x: expected a table, got 1"]),
        ('[supervisor]\nnmae = "a"\n' + X, ['supervisor.nmae: unknown key; did you mean "name"?']),
        ('[supervisor]\nname = "a/b"\n' + X, ["supervisor.name: a name must not hold '/'"]),
        ("[supervisor]\nspares = -1\n" + X, ["supervisor.spares: expected 0 to 64, got -1"]),
        ("[supervisor]\nspares = true\n" + X, ["supervisor.spares: expected a whole number, got true"]),
        ('[supervisor]\nstart_method = "fork"\n' + X,
         ['supervisor.start_method: expected one of "forkserver", "spawn", got "fork"']),
        ('[output]\nkind = "csv"\n' + X, ['output.kind: expected one of "jsonl", "none", got "csv"']),
        ('[output]\npath = "{x}"\n' + X, ["output.path: only {endpoint} is filled in, not {x}"]),
        ('[endpoints.""]\nurl = "wss://h"', ["endpoints.: a name must not be empty"]),
        ('[endpoints."a#b"]\nurl = "wss://h"', ["endpoints.a#b: a name must not hold '#'"]),
        ('[endpoints."a\\nb"]\nurl = "wss://h"', ["endpoints.a\nb: a name must not hold '\\n'"]),
        ("[endpoints.x]", [f"endpoints.x.url: {URL}, or a dialect that knows one"]),
    ],
)  # fmt: skip
def test_a_wrong_file_is_refused(text: str, expected: list[str]) -> None:
    assert problems(text) == expected


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("timeouts.conect = 1", ['timeouts.conect: unknown key; did you mean "connect"?']),
        ("timeot.connect = 1", ['timeot: unknown key; did you mean "timeouts"?']),
        ("timeouts = 5", ["timeouts: expected a table, got 5"]),
        ("timeouts.connect = true", [f"timeouts.connect: {DURATION}, got true"]),
        ("timeouts.connect = nan", [f"timeouts.connect: {DURATION}, got NaN"]),
        ("timeouts.connect = inf", [f"timeouts.connect: {DURATION}, got Infinity"]),
        ("timeouts.connect = -1", [f"timeouts.connect: {DURATION}, got -1"]),
        ('timeouts.connect = "5 minutes"', [f'timeouts.connect: {DURATION}, got "5 minutes"']),
        ("timeouts.connect = 0", ["timeouts.connect: expected more than 0, got 0"]),
        ('compression = "gzip"', ['compression: expected true or false or "no_context_takeover", got "gzip"']),
        ("max_message = 1.5", [f"max_message: {SIZE}, got 1.5"]),
        ('max_message = "64 foo"', [f'max_message: {SIZE}, got "64 foo"']),
        ("max_message = 0", ["max_message: expected from 1 byte to 2GiB, got 0"]),
        ("buffer.max_bytes = 10", ["buffer.max_bytes: expected at least 1KiB, got 10"]),
        ("watchdog.memory = 1000",
         ["watchdog.memory: expected 0 (off) or at least 16MiB: an owner itself takes that, got 1000"]),
        ("heartbeat.timeout = 0", ["heartbeat.timeout: expected more than 0, got 0"]),
        ("heartbeat.interval = 0", ['heartbeat.interval: expected more than 0 (for no heartbeat: kind = "none"), got 0']),
        ("restart.intensity = -1", ["restart.intensity: expected 0 or more, got -1"]),
        ("restart.intensity = 2.0", ["restart.intensity: expected a whole number, got 2.0"]),
        ("request.id = ''", ["request.id: expected a dotted path of a JSON field, got an empty string"]),
        ("request.timeout = 0", ["request.timeout: expected more than 0, got 0"]),
        ("request.id_type = 'uuid'", ['request.id_type: expected one of "int", "text", got "uuid"']),
        ("restart.backoff_factor = 0.5", ["restart.backoff_factor: expected 1 or more, got 0.5"]),
        ("restart.backoff_factor = inf", ["restart.backoff_factor: expected a number, got inf"]),
        ("restart.backoff_initial = 60", ["restart.backoff_initial: backoff_max 30s is less than backoff_initial 60s"]),
        ('restart.type = "permanant"',
         ['restart.type: expected one of "permanent", "transient", "temporary", got "permanant"']),
        ('subscribe = "a"', ['subscribe: expected a list of strings or tables, got "a"; write it in brackets: [...]']),
        ('subscribe = ["a", 1, true]', ["subscribe[1]: expected a string or a table, got 1",
                                        "subscribe[2]: expected a string or a table, got true"]),
        ('subscribe = ["a", "b", "a"]', ["subscribe[2]: the same stream as subscribe[0]"]),
        ("subscribe = [{a = 1, b = 2}, {b = 2, a = 1}]", ["subscribe[1]: the same stream as subscribe[0]"]),
        ('subscribe = [""]', ["subscribe[0]: expected a stream, got an empty string"]),
        ("subscribe = [{ day = 2024-01-01 }]",
         ["subscribe[0]: it is sent as JSON, which has no form for dates, times, nan and inf"]),
        ('headers = { "A B" = "x" }', ["headers.A B: a header's name is made of letters, digits and !#$%&'*+-.^_`|~"]),
        ('headers = { A = "x\\r\\nEvil: 1" }',
         ["headers.A: a header's value must not hold line breaks or control characters"]),
        ("headers = { A = 1, B = 2 }",
         ["headers.A: expected a string, got a number", "headers.B: expected a string, got a number"]),
        ('headers = { A = "1", a = "2" }', ["headers.a: the same header as A; case makes no difference"]),
        ('headers = { Upgrade = "h2c" }', ["headers.Upgrade: the handshake sets this header itself"]),
        ('subprotocols = ["a b"]', ["subprotocols[0]: expected a subprotocol: letters, digits and !#$%&'*+-.^_`|~"]),
        ('bind = "localhost"', ["bind: expected an IP address of this machine"]),
        ('decode = "mine"', ['decode: expected "package.module:function"']),
        ('decode = "${F}"', ["decode: ${...} is not filled in here; write the value itself"]),
        ('filter.include = [" "]', ["filter.include[0]: expected a glob on stream names, got an empty one"]),
        ('tls.pin_sha256 = ["abcd"]', ["tls.pin_sha256[0]: expected a SHA-256 in hex: 64 digits, with or without colons"]),
        ('tls.ca_file = "/nope.pem"', ["tls.ca_file: no such file"]),
        (f'tls.ca_file = "/{"x" * 300}"', ["tls.ca_file: can't be read: File name too long"]),
        ('tls.key_password = "x"', ["tls.key_password: needs cert_file, the certificate that it belongs to"]),
        ('tls.min_version = "1.1"', ['tls.min_version: expected one of "1.2", "1.3", got "1.1"']),
        ('tls.ciphers = "nonsense"', [f"tls.ciphers: {CIPHERS}"]),
        ('tls.ciphers = "TLS_AES_128_GCM_SHA256"', [f"tls.ciphers: {CIPHERS}"]),
        ('tls.ciphers = "a\\u0000b"', [f"tls.ciphers: {CIPHERS}"]),
        ('tls = { ciphers = "ECDHE+AESGCM", min_version = "1.3" }',
         ['tls.ciphers: has no effect with min_version = "1.3": the list is for TLS 1.2']),
        ('tls.server_name = ".example"', ["tls.server_name: expected a host name, such as it stands in a certificate"]),
        ('tls.server_name = "a b"', ["tls.server_name: expected a host name, such as it stands in a certificate"]),
        ('buffer.key = "s"', ['buffer.key: only for overflow = "conflate"']),
        ('buffer.overflow = "conflate"', [f"buffer.overflow: {NO_KEY}: without a dialect there are no streams"]),
        ("watchdog.rollover_window = 5", ["watchdog.rollover_window: rollover_window 5s is more than max_age 0"]),
        ('heartbeat.kind = "text"', ['heartbeat.kind: kind "text" needs a payload, what to send']),
        ('heartbeat.payload = "x"', ['heartbeat.payload: payload is for kind = "text" and "json"; it is "ping"']),
        ('heartbeat = { kind = "json", payload = "{" }',
         ['heartbeat.payload: must be JSON text where heartbeat.kind is "json"']),
        ('heartbeat = { kind = "json", payload = "1", reply = "[1]" }',
         ['heartbeat.reply: must be a JSON object, or a list of them, where heartbeat.kind is "json"']),
        ('environment = "test"', ['environment: only a dialect knows what "test" is; give the url instead']),
        ('dialect = "krakn"', ['dialect: no dialect is called "krakn"; did you mean "kraken"?']),
        ('dialect = "kraken_futures"\nsubscribe = [{ feed = "heartbeat" }, { feed = "fills" }]', [
            'subscribe: {"feed":"fills"} needs [login], says the dialect "kraken_futures"',
        ]),
        ("replicas = 2", [f"replicas: {NO_IDENTITY}"]),
        ("replicas = 17", ["replicas: expected 1 to 16, got 17"]),
        ("replicas = 0", ["replicas: expected 1 to 16, got 0"]),
        ('identity = ["s..t"]', ['identity[0]: expected a dotted path of a JSON field, got "s..t"']),
        ('login.key = "k"', ["login: needs a dialect: without one nothing tells how to log in"]),
        ('hooks.sign = "a:b"', ["hooks: sign and renew need a dialect, whose [login] says what for"]),
        ('hooks.sgn = "a:b"', ['hooks.sgn: unknown key; did you mean "sign"?']),
        ('hooks.before_connect = "a"', ['hooks.before_connect: expected "package.module:function"']),
        ('subscribe_file = "/nope"', ["subscribe_file: /nope can't be read: No such file or directory"]),
    ],
)  # fmt: skip
def test_a_wrong_setting_is_refused(line: str, expected: list[str]) -> None:
    assert problems(X + line) == [f"endpoints.x.{problem}" for problem in expected]
    assert problems(f"[defaults]\n{line}\n{X}") == [f"defaults.{problem}" for problem in expected]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ('"http://h"', f"url: {URL}: the scheme must be ws or wss"),
        ('"wss://"', f"url: {URL}: it has no host"),
        ('"h:1"', f'url: {URL}: it has no scheme, the part that ends in "://"'),
        ('"h/ws"', f'url: {URL}: it has no scheme, the part that ends in "://"'),
        ('"wss://u:s3cret@h:99999/"', f"url: {URL}: the host or the port can't be read; a port is a number from 1 to 65535"),
        ('"wss://h:0"', f"url: {URL}: a port is a number from 1 to 65535"),
        ('"wss://h/#a"', f"url: {URL}: a WebSocket URL has no #fragment (RFC 6455 §3)"),
        ('"wss://h/a b"', f"url: {URL}: it holds a space or a control character"),
        ('["wss://h", "ws://h"]', "url: ws:// and wss:// in one list: a failed connect would change whether it is encrypted"),
        ('["wss://h", "wss://h"]', "url[1]: the same URL as url[0]"),
        ('"wss://a..b/"', f"url: {URL}: {NO_HOST}"),
        ('"wss://bü..test/"', f"url: {URL}: {NO_HOST}"),
        (f'"wss://{"a" * 64}.test/"', f"url: {URL}: {NO_HOST}"),
        ("5", "url: expected a string or a list of strings, got a number"),
        ('["wss://h", 5]', "url[1]: expected a string, got a number"),
    ],
)
def test_a_wrong_url_is_refused_without_showing_it(value: str, expected: str) -> None:
    assert problems(f"[endpoints.x]\nurl = {value}") == [f"endpoints.x.{expected}"]


@pytest.mark.parametrize("proxy", ["ftp://p:1", "socks4://p:1", "p:1", "http://", "http://p:0", "http://p:x", "http://p/path"])
def test_a_wrong_proxy_is_refused(proxy: str) -> None:
    [problem] = problems(f'{X}proxy = "{proxy}"')
    assert problem.startswith("endpoints.x.proxy: expected a proxy such as http://host:port, socks5://host:port or socks5h://")


@pytest.mark.parametrize("proxy", ["", "none", "http://u:p@p:3128", "socks5://p:1080", "socks5h://[::1]:1080"])
def test_a_good_proxy_is_accepted(proxy: str) -> None:
    assert problems(f'{X}proxy = "{proxy}"') == []


def test_a_socks_proxy_without_the_package_for_it_is_refused_with_the_command_that_installs_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("wsadapter.config.values.find_spec", lambda name: None if name == "python_socks" else name)
    text = "a SOCKS proxy needs the package python-socks, which is not installed here: pip install wsadapter[socks]"
    assert problems(f'{X}proxy = "socks5://p:1080"') == [f"endpoints.x.proxy: {text}"]
    assert problems(f'{X}proxy = "http://p:1080"') == []
    with pytest.raises(ConfigError, match="pip install wsadapter"):
        Supervisor([Endpoint("x", url="wss://h", proxy="socks5h://p:1080")])


def test_ciphers_that_openssl_does_not_know_are_refused_by_the_constructor_too() -> None:
    assert problems(f'{X}tls.ciphers = "ECDHE+AESGCM:!aNULL"') == []
    with pytest.raises(ConfigError, match=r"endpoints.x.tls.ciphers: OpenSSL knows no cipher of this list"):
        Supervisor([Endpoint("x", url="wss://h", tls={"ciphers": "nonsense"})])


@pytest.mark.parametrize("host", ["bücher.test", "xn--bcher-kva.test", "example.com.", "[::1]", "127.0.0.1", "a_b.test"])
def test_international_and_absolute_names_and_addresses_are_hosts(host: str) -> None:
    assert problems(f'[endpoints.x]\nurl = "wss://{host}/"') == []


def test_all_problems_come_at_once_and_those_of_the_defaults_once() -> None:
    found = problems("""
        [defaults]
        timeouts.connect = "x"
        restart.backoff_initial = "2m"
        [endpoints.a]
        url = "wss://h"
        [endpoints.b]
        url = "http://h"
        colour = 1
        """)
    assert [problem.partition(":")[0] for problem in found] == [
        "defaults.timeouts.connect", "defaults.restart.backoff_initial", "endpoints.b.url", "endpoints.b.colour",
    ]  # fmt: skip


def test_an_endpoint_may_mend_what_would_be_impossible_with_the_defaults_alone() -> None:
    assert problems(f'[defaults]\nrestart.backoff_initial = "2m"\n{X}restart.backoff_max = "5m"') == []


def test_duplicate_streams_are_refused_with_both_places(tmp_path: Path) -> None:
    (tmp_path / "s.txt").write_text("b\na\n")
    [problem] = problems(X + 'subscribe = ["a"]\nsubscribe_file = "s.txt"', tmp_path)
    assert problem == f"endpoints.x.subscribe_file: {tmp_path}/s.txt line 2: the same stream as subscribe[0]"


FORMS = [
    ("binance", '{ symbol = "A" }', 'expected a string, got a table; see the streams of the dialect "binance", such as "'),
    ("okx", '"trades"', 'expected a table, got "trades"; see the streams of the dialect "okx", such as { channel = "'),
    ("mine.toml", '{ sym = "a" }', "must have 'symbol' for this dialect; see the streams of the dialect \"mine\""),
]


@pytest.mark.parametrize(("dialect", "stream", "expected"), FORMS)
def test_a_stream_must_have_the_form_of_its_dialect(dialect: str, stream: str, expected: str, tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(MINE.replace("$streams", "{symbol}"))
    [problem] = problems(f'[endpoints.x]\ndialect = "{dialect}"\nsubscribe = [{stream}]', tmp_path)
    assert problem.startswith(f"endpoints.x.subscribe[0]: {expected}")


def test_of_many_streams_of_a_wrong_form_the_first_is_named_and_the_others_counted(tmp_path: Path) -> None:
    (tmp_path / "s.txt").write_text('btcusdt@trade\n{"symbol": "A"}\n{"symbol": "B"}\n{"symbol": "C"}\n')
    [problem] = problems('[endpoints.x]\ndialect = "binance"\nsubscribe_file = "s.txt"', tmp_path)
    assert problem.startswith(f"endpoints.x.subscribe_file: {tmp_path}/s.txt line 2: expected a string, got a table; see ")
    assert problem.endswith("; 2 more streams do not fit either")


@pytest.mark.parametrize("reference", ["${file:}", "${file:a", "${}"])
def test_a_malformed_reference_is_reported_with_its_place(reference: str) -> None:
    [problem] = problems(f'{X}headers = {{ A = "{reference}" }}')
    assert problem.startswith("endpoints.x.headers.A: ")


def test_what_is_wrong_with_a_dialect_of_ones_own_is_told(tmp_path: Path) -> None:
    identity, urls = '[dialect]\nname="mine"\ntitle="M"\ndocs="d"\n', '[urls]\nlive="wss://h"\n'
    (tmp_path / "mine.toml").write_text(f'{identity}{urls}[subscribe]\nframe="{{"')
    [problem] = problems('[endpoints.x]\ndialect = "mine.toml"', tmp_path)
    assert problem.startswith(f"endpoints.x.dialect: {tmp_path}/mine.toml: subscribe.frame: expected JSON text")


def test_to_conflate_by_stream_needs_a_dialect_that_can_tell_streams(tmp_path: Path) -> None:
    subscribe = """[subscribe]\nframe='{"sub": "$streams"}'\n"""
    identity, urls = '[dialect]\nname="mine"\ntitle="M"\ndocs="https://mine/"\n', '[urls]\nlive="wss://h"\n'
    (tmp_path / "mine.toml").write_text(identity + urls + subscribe)
    conflate = '\n[endpoints.x.buffer]\noverflow = "conflate"\n'
    expected = '"conflate" needs a `key`: the dialect "mine" can\'t tell which stream a message belongs to'
    found = problems('[endpoints.x]\ndialect = "mine.toml"' + conflate, tmp_path)
    assert found == [f"endpoints.x.buffer.overflow: {expected}"]
    assert problems('[endpoints.x]\ndialect = "mine.toml"' + conflate + 'key = "s"', tmp_path) == []
    assert problems('[endpoints.x]\ndialect = "binance"' + conflate) == []
    assert problems('[endpoints.x]\ndialect = "binnance"' + conflate) == [
        'endpoints.x.dialect: no dialect is called "binnance"; did you mean "binance"?'
    ]


def test_an_environment_that_the_dialect_does_not_have_is_refused() -> None:
    found = problems('[endpoints.x]\ndialect = "coinbase"\nenvironment = "test"')
    assert found == ['endpoints.x.environment: this dialect has no "test" URL, only live']


def test_a_written_heartbeat_wins_over_the_dialect() -> None:
    settings = parse('[endpoints.x]\ndialect = "okx"\nheartbeat.kind = "ping"')
    assert effective(settings)["endpoints"]["x"]["heartbeat"] == {
        "kind": "ping", "interval": 20.0, "timeout": 8.0, "payload": "", "reply": "", "when": "idle",
        "server_interval": 0.0, "server_missed": 3,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a = [\n1,\n", "line 3, column 1: not valid TOML: "),
        ("a = 1\nb = = 2", "line 2, column 5: not valid TOML: Invalid value"),
        ("a = 1\na = 2", "line 2, column 6: not valid TOML: Cannot overwrite a value"),
    ],
)
def test_a_syntax_error_tells_line_and_column(text: str, expected: str) -> None:
    [problem] = problems(text)
    assert problem.startswith(expected)


def test_a_file_that_is_missing_or_no_text_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nope\.toml: 1 problem\n  the file can't be read: No such file or directory"):
        load(tmp_path / "nope.toml")
    (tmp_path / "bin.toml").write_bytes(b"a = 1\nb = '\xff'")
    with pytest.raises(ConfigError, match="line 2: not UTF-8 text"):
        load(tmp_path / "bin.toml")


def test_files_that_begin_with_a_byte_order_mark_are_read_as_those_without(tmp_path: Path) -> None:
    """As some editors write UTF-8: the mark is no part of the first line."""
    mark = "\ufeff"
    own = bundled()["okx"].read_text("utf-8").replace('name = "okx"', 'name = "mine"')
    (tmp_path / "mine.toml").write_text(mark + own, "utf-8")
    (tmp_path / "streams.txt").write_text(mark + '# all of them\n{"channel":"trades","instId":"BTC-USDT"}\n', "utf-8")
    (tmp_path / "feeds.toml").write_text(
        mark + '[endpoints.x]\ndialect = "mine.toml"\nsubscribe_file = "streams.txt"\nbuffer.max_bytes = "1MiB"\n', "utf-8"
    )
    endpoint = only(load(tmp_path / "feeds.toml"))
    assert endpoint.subscribe == ({"channel": "trades", "instId": "BTC-USDT"},)
    (tmp_path / "feeds.toml").write_text(mark + "x = = 1\n", "utf-8")
    with pytest.raises(ConfigError, match="line 1, column 5: not valid TOML"):
        load(tmp_path / "feeds.toml")


# -- secrets ---------------------------------------------------------------------------------------------------------------


def test_a_missing_reference_is_told_with_the_path_of_its_key() -> None:
    text = X.replace("wss://h", "wss://h/${A}")
    found = problems(text + 'headers = { T = "Bearer ${B}", U = "${C}" }\ntls.ca_file = "${file:/no}"', C="c")
    assert found == [
        "endpoints.x.url: ${A}: the environment variable A is not set",
        "endpoints.x.headers.T: ${B}: the environment variable B is not set",
        "endpoints.x.tls.ca_file: ${file:/no}: the file can't be read: No such file or directory",
    ]


@pytest.mark.parametrize(
    "line",
    [
        'url = "${S}"', 'url = "wss://h:${S}/"', 'headers = { A = "${B}" }', 'proxy = "${S}"', 'bind = "${S}"',
        'tls.pin_sha256 = ["${S}"]', 'tls.ca_file = "${S}"', 'subprotocols = ["${B}"]',
    ],
)  # fmt: skip
def test_the_value_of_a_reference_is_judged_and_never_shown(line: str) -> None:
    text = f"[endpoints.x]\n{line}" if line.startswith("url") else X + line
    found = problems(text, S="s3cret", B="s3cret\r\nEvil: 1")
    assert len(found) == 1
    assert "s3cret" not in found[0]


def test_settings_keep_references_as_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("S", "s3cret")
    settings = parse('[endpoints.x]\nurl = "wss://h/${S}"\nheaders = { A = "${S}" }')
    assert "s3cret" not in repr(settings)
    assert (only(settings).url, only(settings).headers["A"]) == ("wss://h/${S}", "${S}")


NEVER_READ: dict[str, str] = {}


def test_without_secrets_each_reference_is_taken_for_present(tmp_path: Path) -> None:
    text = """
        [supervisor]
        name = "${HOST}"
        [output]
        path = "${file:where}/x.jsonl"
        [endpoints.x]
        url = ["${URL}", "${URL}", "wss://${HOST}/"]
        proxy = "${PROXY}"
        headers = { T = "${file:token}" }
        subprotocols = ["${file:token}"]
        tls = { ca_file = "${CA}", pin_sha256 = ["${PIN}"] }
        heartbeat = { kind = "json", payload = "${PING}" }
        """
    with pytest.raises(ConfigError):
        parse(text, base_dir=tmp_path, environ=NEVER_READ)
    settings = parse(text, source="feeds.toml", base_dir=tmp_path, environ=NEVER_READ, secrets=False)
    assert (settings.name, settings.output.path) == ("feeds", "-")
    assert only(settings).urls == ("${URL}", "${URL}", "wss://${HOST}/")


def test_without_secrets_a_variable_and_a_file_that_are_there_are_not_read(tmp_path: Path) -> None:
    (tmp_path / "token").write_bytes(b"\xff\n")
    parse(X + 'headers = { T = "${file:token}", U = "${U}" }', base_dir=tmp_path, environ={"U": "\r\n"}, secrets=False)


def test_without_secrets_everything_else_is_checked() -> None:
    text = """
        [supervisor]
        name = "a/b"
        runtime_dir = "${"
        [endpoints.x]
        url = ["wss://${HOST}/", "http://h/", "wss://h/", "wss://h/"]
        headers = { "no name" = "x", T = "${not a name}" }
        tls = { ca_file = "nowhere.pem" }
        """
    with pytest.raises(ConfigError) as caught:
        parse(text, environ=NEVER_READ, secrets=False)
    assert [problem.path for problem in caught.value.problems] == [
        "supervisor.runtime_dir", "supervisor.name", "endpoints.x.url[1]", "endpoints.x.headers.T",
        "endpoints.x.headers.no name", "endpoints.x.tls.ca_file",
    ]  # fmt: skip
    with pytest.raises(ConfigError, match=r"url\[2\]: the same URL as url\[1\]"):
        parse('[endpoints.x]\nurl = ["${A}", "wss://h", "wss://h", "${A}"]', environ=NEVER_READ, secrets=False)


def test_what_is_shown_masks_secrets_and_is_toml(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("S", "s3cret")
    settings = parse("""
        [endpoints."a b"]
        url = "wss://user:s3cret@h/?token=s3cret"
        proxy = "http://user:s3cret@p:1"
        headers = { Authorization = "s3cret", Other = "${S}" }
        send_on_up = ["s3cret"]
        subscribe = [{ channel = "x", ids = ["y"] }]
        """)
    text = show(settings)
    assert "s3cret" not in text
    assert "s3cret" not in repr(effective(settings))
    table = tomllib.loads(text)["endpoints"]["a b"]
    assert (table["url"], table["proxy"]) == ("wss://***@h/?***", "http://***@p:1")
    assert table["headers"] == {"Authorization": "***", "Other": "${S}"}
    assert table["subscribe"] == [{"channel": "x", "ids": ["y"]}]


@pytest.mark.parametrize("compression", ["true", "false", '"no_context_takeover"'])
def test_what_is_shown_is_itself_a_configuration_with_the_same_meaning(compression: str) -> None:
    settings = parse(X + f'compression = {compression}\nrestart.period = "1.5h"\nsubscribe = ["a\\"b\\u0001"]')
    assert f"\ncompression = {compression}\n" in show(settings)
    again = parse(show(settings))
    assert (again.endpoints, again.output, again.name) == (settings.endpoints, settings.output, settings.name)


# -- endpoints made in Python ----------------------------------------------------------------------------------------------


def test_an_endpoint_object_is_normalised() -> None:
    sections = {"restart": {"period": "1m"}, "timeouts": {"connect": 3}}
    endpoint = checked(Endpoint("x", url=["wss://a", "wss://b"], subscribe=["s"], **sections))  # type: ignore[arg-type]
    assert (endpoint.url, endpoint.subscribe, endpoint.restart.period) == (("wss://a", "wss://b"), ("s",), 60.0)
    assert isinstance(endpoint.timeouts.connect, float)
    assert checked(endpoint) == endpoint


def test_an_endpoint_object_gets_the_same_checks() -> None:
    sections = {"timeouts": 5, "restart": {"period": "x"}}
    endpoint = Endpoint("a#b", url="http://h", subscribe="s", replicas=17, **sections)  # type: ignore[arg-type]
    assert [problem.path.removeprefix("endpoints.a#b") for problem in check_endpoint(endpoint)] == [
        ".url", ".subscribe", ".timeouts", ".restart.period", "", ".replicas",
    ]  # fmt: skip
    with pytest.raises(ConfigError, match="6 problems"):
        checked(endpoint)
    assert check_endpoint(Endpoint(5, url="wss://h"))[0].message == "a name is a string, got 5"  # type: ignore[arg-type]


def test_a_dialect_with_a_heartbeat_of_its_own_fits_an_endpoint_object() -> None:
    assert check_endpoint(Endpoint("x", dialect="okx", heartbeat={"payload": "hello"})) == []  # type: ignore[arg-type]


# -- quantities ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "seconds"),
    [(2, 2), (0.5, 0.5), ("500ms", 0.5), ("2s", 2), ("1.5m", 90), ("23h", 82800), ("2d", 172800), ("2 s", 2)],
)
def test_durations(written: object, seconds: float) -> None:
    assert duration(written) == seconds


@pytest.mark.parametrize(
    "written",
    ["", "5", "s", "-1s", "1e3s", "1M", "1 2s", "\u0663s", "9" * 400 + "s", True, None, [], -1, float("nan"), 10**400, -0.1],
)
def test_what_is_no_duration(written: object) -> None:
    with pytest.raises(ValueError):
        duration(written)


@pytest.mark.parametrize(
    ("written", "count"),
    [(7, 7), ("7", 7), ("4k", 4096), ("4KiB", 4096), ("4kB", 4000), ("10MB", 10**7), ("64MiB", 2**26), ("1.5k", 1536)],
)
def test_sizes(written: object, count: int) -> None:
    assert size(written) == count


@pytest.mark.parametrize("written", ["", "k", "-1k", "1.0001k", "1x", True, None, 1.0, -1, 10**30, "9" * 400])
def test_what_is_no_size(written: object) -> None:
    with pytest.raises(ValueError):
        size(written)


@given(st.integers(0, 10**9).map(lambda ms: ms / 1000))
def test_a_shown_duration_reads_back(seconds: float) -> None:
    assert duration(show_duration(seconds)) == pytest.approx(seconds) if seconds else show_duration(seconds) == "0"


@given(st.integers(0, 2**60))
def test_a_shown_size_reads_back(count: int) -> None:
    assert size(show_size(count)) == count


# -- nothing gets through as another error ---------------------------------------------------------------------------------

NUMBERS = [True, 0, -1, 1.5, float("nan"), 10**400]
TEXTS = ["", "x", "${X", "${NOPE}", "\0", "1s", "\udcff", "/"]
ODD = [None, b"x", [], [[]], [None], ["\0"], {}, {"a": None}, {1: 2}, object(), *NUMBERS, *TEXTS]


@pytest.mark.parametrize("key", list(ENDPOINT))
def test_an_odd_value_is_accepted_or_told_as_a_problem_of_its_key(key: str) -> None:
    section, _, leaf = key.rpartition(".")
    for value in ODD:
        settings = {"url": "wss://h", (section or leaf): {leaf: value} if section else value}
        found = check_endpoint(Endpoint("x", **settings))  # type: ignore[arg-type]
        assert all(problem.path.startswith("endpoints.x.") for problem in found)
        if not found:
            assert checked(checked(Endpoint("x", **settings))) == checked(Endpoint("x", **settings))  # type: ignore[arg-type]


@given(st.text())
def test_any_text_is_a_configuration_or_a_configuration_error(text: str) -> None:
    with pytest.raises(ConfigError):
        parse(text, source="x.toml")  # hypothesis does not hit upon a valid one
