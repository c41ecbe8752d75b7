"""Tables [[sink]]: what each kind needs, what it does not have, and what is shown of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from wsadapter import ConfigError
from wsadapter.config import parse, show
from wsadapter.config import sinks as checks
from wsadapter.config.settings import SinkSettings
from wsadapter.contract.endpoint import Restart

BEFORE = '[journal]\npath = "/j"\n'
AFTER = '\n[endpoints.x]\nurl = "ws://localhost"\n'


def problems(text: str, before: str = BEFORE) -> dict[str, str]:
    with pytest.raises(ConfigError) as error:
        parse(before + text + AFTER)
    return {problem.path: problem.message for problem in error.value.problems}


def sink(**settings: str) -> str:
    return "[[sink]]\n" + "\n".join(f"{key} = {value}" for key, value in settings.items()) + "\n"


def test_each_kind_with_what_it_needs(tmp_path: Path) -> None:
    text = (
        sink(name='"a"', kind='"jsonl"', path='"out/%Y.jsonl"', rotate_bytes='"64MiB"', endpoints='["x"]')
        + sink(name='"b"', kind='"parquet"', path='"/p"', start='"latest"')
        + sink(name='"c"', kind='"nats"', servers='"nats://h"', stream='"s"', credentials='"c.creds"')
        + sink(name='"d"', kind='"kafka"', servers='"h:1"', topic='"t.{endpoint}"', options='{ "a.b" = "1" }')
        + sink(name='"e"', kind='"my.module:Sink"', options='{ x = "y" }')
    )
    found = parse(BEFORE + text + AFTER, base_dir=tmp_path).sinks
    assert [each.kind for each in found] == ["jsonl", "parquet", "nats", "kafka", "my.module:Sink"]
    assert found[0] == SinkSettings(
        name="a", kind="jsonl", path=str(tmp_path / "out/%Y.jsonl"), rotate_bytes=64 << 20, endpoints=("x",)
    )
    assert (found[1].path, found[2].credentials) == ("/p", str(tmp_path / "c.creds"))
    assert found[3].options == {"a.b": "1"}


def test_every_problem_is_reported_at_once_with_its_place() -> None:
    text = (
        sink(kind='"jsonl"', pth='"x"')
        + sink(name='"a b"', kind='"nats"', stream='"a.b"', path='"x"')
        + sink(name='"k"', kind='"kafka"', servers='"h:1"', topic='"t"')
        + sink(name='"k"', kind='"pigeon"')
        + sink(name='"l"', kind='"jsonl"', path='"-"', rotate_bytes="5")
        + sink(name='"m"')
    )
    assert problems(text) == {
        "sink[0].name": "expected a name: the position of the sink is kept under it",
        "sink[0].pth": 'unknown key; did you mean "path"?',
        "sink[0].path": "kind jsonl needs it",
        "sink[1].name": 'expected letters, digits, "_", "-" and ".", which does not come first',
        "sink[1].path": "kind nats has no such setting; it has credentials, endpoints, kind, name, restart, servers, start, "
        "stream, subject",
        "sink[1].servers": "kind nats needs it",
        "sink[1].stream": 'the name of a stream has no space, ".", "*", ">", "/" and "\\"',
        "sink[2].topic": 'expected letters, digits, ".", "_" and "-", and {endpoint} once',
        "sink[3].name": "another sink is named 'k' too",
        "sink[3].kind": "expected one of jsonl, parquet, nats, kafka, or a class: package.module:Class",
        "sink[4].path": "expected a file; only [output] writes to standard output",
        "sink[4].rotate_bytes": "expected 0, or at least 64KiB, got 5",
        "sink[5].kind": "expected one of jsonl, parquet, nats, kafka, or a class: package.module:Class",
    }


def test_how_a_sink_is_started_again_is_set_for_each() -> None:
    text = sink(name='"a"', kind='"jsonl"', path='"/x"') + '[sink.restart]\nintensity = 3\ncool_down = "5m"\nbackoff_max = 7\n'
    settings = parse(BEFORE + text + sink(name='"b"', kind='"jsonl"', path='"/y"', restart="{ intensity = 4 }") + AFTER)
    assert [each.restart for each in settings.sinks] == [
        Restart(intensity=3, cool_down=300.0, backoff_max=7.0), Restart(intensity=4),
    ]  # fmt: skip
    shown = show(settings)
    assert '[sink.restart]\nintensity = 3\nbackoff_max = "7s"\ncool_down = "5m"\n' in shown
    assert parse(shown).sinks == settings.sinks
    wrong = sink(
        name='"a"', kind='"jsonl"', path='"/x"', restart='{ intensity = -1, period = 0, intensty = 1, cool_down = "x" }'
    )
    assert problems(wrong) == {
        "sink[0].restart.intensity": "expected 0 or more, got -1",
        "sink[0].restart.period": "expected more than 0, got 0",
        "sink[0].restart.intensty": 'unknown key; did you mean "restart.intensity"?',
        "sink[0].restart.cool_down": 'expected a duration (seconds, or text such as "500ms", "2s", "1.5m", "23h", "2d"), '
        'got "x"',
    }
    assert problems(sink(name='"a"', kind='"jsonl"', path='"/x"', restart='{ backoff_max = "100ms" }')) == {
        "sink[0].restart.backoff_max": "100ms is less than backoff_initial, 500ms"
    }
    assert problems(sink(name='"a"', kind='"jsonl"', path='"/x"', restart="3")) == {
        "sink[0].restart": "expected a table, got 3"
    }


def test_a_sink_needs_a_journal_and_is_a_list_of_tables() -> None:
    text = sink(name='"a"', kind='"jsonl"', path='"/x"')
    assert problems(text, before="") == {"sink": "a sink carries the journal: add a table [journal] with its path"}
    assert problems('[sink]\nname = "a"\n') == {"sink": "expected tables [[sink]], got a table"}


def test_a_package_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "find_spec", lambda _: None)
    text = sink(name='"a"', kind='"nats"', servers='"nats://h"', stream='"s"')
    assert problems(text) == {
        "sink[0].kind": 'kind nats needs a package that is not installed here: pip install "wsadapter[nats]"'
    }


@pytest.mark.parametrize("servers", ["10.0.0.1", "nats://a,h:4222", "http://h", "nats://", "nats://user:s3cret@h:x"])
def test_servers_that_no_client_of_nats_can_reach_are_refused_without_their_password(servers: str) -> None:
    found = problems(sink(name='"a"', kind='"nats"', servers=f'"{servers}"', stream='"s"'))
    assert list(found) == ["sink[0].servers"]
    assert "expected URLs of NATS servers" in found["sink[0].servers"]
    assert "s3cret" not in found["sink[0].servers"]


def test_references_are_filled_in_and_no_secret_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NATS_USER", "user:s3cret")
    monkeypatch.setenv("WORD", "s3cret")
    text = sink(name='"a"', kind='"nats"', servers='"nats://${NATS_USER}@h,nats://${NATS_USER}@i"', stream='"s"') + sink(
        name='"b"', kind='"kafka"', servers='"h:1"', topic='"t.{endpoint}"', options='{ "sasl.password" = "${WORD}" }'
    )
    settings = parse(BEFORE + text + AFTER)
    assert settings.sinks[0].servers == "nats://user:s3cret@h,nats://user:s3cret@i"
    assert settings.sinks[1].options == {"sasl.password": "s3cret"}
    shown = show(settings)
    assert "s3cret" not in shown
    assert 'servers = "nats://***@h,nats://***@i"' in shown
    assert "[[sink]]" in shown
    monkeypatch.delenv("WORD")
    assert list(problems(text)) == ["sink[1].options.sasl.password"]
    assert parse(BEFORE + text + AFTER, secrets=False).sinks[0].name == "a"


def test_a_keeper_needs_an_output_that_has_a_position_and_no_cluster() -> None:
    kept = BEFORE + "keeper = true\n"
    journal = parse(kept + AFTER).journal
    assert journal is not None
    assert journal.keeper
    assert list(problems("[output]\nkind = 'jsonl'\n", before=kept)) == ["journal.keeper"]
    assert "other hosts get its endpoints" in problems("[cluster]\nservers = 'nats://h'\n", before=kept)["journal.keeper"]
