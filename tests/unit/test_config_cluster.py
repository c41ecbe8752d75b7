"""The table [cluster]: what it needs, what it refuses, and what is shown of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from wsadapter import ConfigError
from wsadapter.cluster.control import digest_of
from wsadapter.config import cluster as checks
from wsadapter.config import parse, show

JOURNAL = '[journal]\npath = "/j"\n'
ENDPOINT = '\n[endpoints.x]\nurl = "ws://localhost"\n'
SERVERS = 'servers = "nats://h"\n'


def problems(text: str, journal: str = JOURNAL) -> dict[str, str]:
    with pytest.raises(ConfigError) as error:
        parse(f"{journal}[cluster]\n{text}{ENDPOINT}", source="prices.toml")
    return {problem.path: problem.message for problem in error.value.problems}


def test_defaults_and_what_is_shown(tmp_path: Path) -> None:
    text = f'{JOURNAL}[cluster]\nservers = "nats://a:s3cret@h"\nca_file = "ca.pem"\nexclusive = ["x"]\n{ENDPOINT}'
    settings = parse(text, source="prices.toml", base_dir=tmp_path)
    cluster = settings.cluster
    assert cluster is not None
    assert (cluster.name, cluster.replicas, cluster.lease) == ("prices", 3, 3.0)
    assert cluster.host
    assert cluster.ca_file == str(tmp_path / "ca.pem")
    shown = show(settings)
    assert "s3cret" not in shown
    assert 'lease = "3s"' in shown
    again = parse(shown, source="prices.toml").cluster
    assert again is not None
    assert (again.exclusive, again.weight, again.host) == (cluster.exclusive, 1.0, cluster.host)


@pytest.mark.parametrize(
    ("text", "path", "message"),
    [
        ("", "cluster.servers", "expected URLs"),
        ('servers = "10.0.0.1"', "cluster.servers", "10.0.0.1: it has no scheme"),
        (SERVERS + "hosts = 2", "cluster.hosts", "a standby on a second host is not available yet"),
        (SERVERS + 'name = "a.b"', "cluster.name", "expected letters"),
        (SERVERS + 'host = "a b"', "cluster.host", "expected letters"),
        (SERVERS + 'lease = "0.1s"', "cluster.lease", "expected 1 s to 60 s"),
        (SERVERS + "weight = 0", "cluster.weight", "more than 0"),
        (SERVERS + "replicas = 0", "cluster.replicas", "expected 1 to 5"),
        (SERVERS + 'retain = "1s"', "cluster.retain", "at least 60 s"),
        (SERVERS + 'exclusive = ["y"]', "cluster.exclusive", "there is no endpoint 'y'"),
        (SERVERS + 'server = "x"', "cluster.server", 'did you mean "servers"'),
    ],
)
def test_what_is_refused(text: str, path: str, message: str) -> None:
    found = problems(text + "\n")
    assert list(found) == [path]
    assert message in found[path]


def test_it_needs_a_journal_a_free_name_and_a_package(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "add a table [journal]" in problems(SERVERS, journal="")["cluster"]
    sink = '[[sink]]\nname = "cluster"\nkind = "jsonl"\npath = "/p"\n'
    assert "a sink is named 'cluster' too" in problems(SERVERS + sink)["cluster"]
    monkeypatch.setattr(checks, "find_spec", lambda _: None)
    assert 'pip install "wsadapter[nats]"' in problems(SERVERS)["cluster"]


def test_the_digest_is_of_what_hosts_must_have_in_common() -> None:
    def digest(text: str, endpoints: str) -> str:
        settings = parse(f"{JOURNAL}[cluster]\n{SERVERS}{text}{endpoints}", source="prices.toml")
        assert settings.cluster is not None
        return digest_of(settings.endpoints, settings.cluster)

    more = '[endpoints.y]\nurl = "ws://y"\n'
    assert digest('host = "a"\n', ENDPOINT + more) == digest('host = "b"\nweight = 2\n', "\n" + more + ENDPOINT)
    assert digest("", ENDPOINT) != digest("", ENDPOINT + more)
    assert digest("", ENDPOINT) != digest('exclusive = ["x"]\n', ENDPOINT)
