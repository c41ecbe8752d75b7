"""How often dialects are loaded, and when: at a start, at a reload, for a shard."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from wsadapter import ConfigError, Endpoint, Supervisor
from wsadapter.config import dialect as dialects_module
from wsadapter.config import load
from wsadapter.config.dialect import Dialects, bundled
from wsadapter.endpoint.link import Link
from wsadapter.runtime import Runtime
from wsadapter.supervise import main

ENDPOINTS = 5


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Files of dialects that were read, by their stems."""
    found: Counter[str] = Counter()
    parse = dialects_module._parse

    def counting(path: Path) -> dict[str, object]:
        found[path.stem] += 1
        return parse(path)

    monkeypatch.setattr(dialects_module, "_parse", counting)
    return found


@pytest.fixture
def _no_owners(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Runtime, "begin_if_new", lambda _: None)
    monkeypatch.setattr(Link, "restart", lambda *_, **__: None)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """Five endpoints that speak a bundled dialect, and five that speak the user's own."""
    own = bundled()["okx"].read_text("utf-8").replace('name = "okx"', 'name = "mine"')
    (tmp_path / "mine.toml").write_text(own)
    return written(tmp_path, "ws://127.0.0.1:9")


def written(folder: Path, url: str) -> Path:
    file = folder / "feeds.toml"
    names = [("k", "kraken"), ("m", "mine.toml")]
    tables = (f'[endpoints.{name}{n}]\ndialect = "{said}"\n' for name, said in names for n in range(ENDPOINTS))
    file.write_text(f'[supervisor]\nname = ""\n[defaults]\nurl = "{url}"\n' + "".join(tables))
    return file


def test_a_start_loads_each_dialect_once(config: Path, loads: Counter[str]) -> None:
    feed = Supervisor.from_settings(load(config))
    assert len(feed.status()["endpoints"]) == 2 * ENDPOINTS
    assert loads == {"kraken": 1, "mine": 1}


@pytest.mark.slow
@pytest.mark.usefixtures("_no_owners")
def test_a_reload_loads_each_dialect_once_and_none_under_the_loop_s_lock(
    config: Path, loads: Counter[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    feed = Supervisor.from_settings(load(config))
    loads.clear()
    apply, before = feed.runtime.registry.apply, Counter[str]()

    def applied(*arguments: object) -> object:
        before.update(loads)
        return apply(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(feed.runtime.registry, "apply", applied)
    changes = feed.reload(load(written(config.parent, "ws://127.0.0.1:10")))
    assert len(changes["changed"]) == 2 * ENDPOINTS
    assert loads == before == {"kraken": 1, "mine": 1}
    loads.clear()
    assert not any(feed.reload(load(config)).values())
    assert loads == {"kraken": 1, "mine": 1}


def test_an_endpoint_that_is_added_has_its_dialect_loaded_before_the_loop_s_lock_is_taken(
    loads: Counter[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    feed = Supervisor()
    add, before = feed.runtime.registry.add, Counter[str]()

    def added(*arguments: object) -> None:
        before.update(loads)
        add(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(feed.runtime.registry, "add", added)
    feed.add(Endpoint("a", dialect="kraken"))
    assert loads == before == {"kraken": 1}
    with pytest.raises(ConfigError, match="no dialect is called"):
        feed.add(Endpoint("b", dialect="krakn"))


def test_streams_that_need_another_shard_load_nothing(loads: Counter[str], monkeypatch: pytest.MonkeyPatch) -> None:
    feed = Supervisor([Endpoint("a", dialect="binance", subscribe=["s@trade"])])
    loads.clear()
    feed.subscribe("a", [f"s{n}@trade" for n in range(1100)])
    assert sorted(feed.status()["endpoints"]) == ["a", "a#2"]
    assert not loads


def test_streams_that_the_dialect_can_not_subscribe_are_refused_and_none_is_wanted() -> None:
    feed = Supervisor([Endpoint("a", dialect="okx")])
    with pytest.raises(ConfigError, match=r'endpoints\.a\.subscribe\[1\]: expected a table, got "trades"; see '):
        feed.subscribe("a", [{"channel": "trades", "instId": "BTC-USDT"}, "trades"])
    assert feed.status()["endpoints"]["a"]["subscriptions"]["wanted"] == 0


def test_a_check_loads_each_dialect_once(config: Path, loads: Counter[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(config), "--check", "--show"]) == 0
    assert "no problems" in capsys.readouterr().err
    assert loads == {"kraken": 1, "mine": 1}


def test_what_is_wrong_with_a_dialect_is_told_at_each_endpoint_and_found_once(tmp_path: Path, loads: Counter[str]) -> None:
    (tmp_path / "mine.toml").write_text("[dialect")
    with pytest.raises(ConfigError) as caught:
        load(written(tmp_path, "ws://127.0.0.1:9"))
    assert len(caught.value.problems) == ENDPOINTS
    assert loads == {"kraken": 1, "mine": 1}


@pytest.mark.usefixtures("_no_owners")
def test_a_dialect_that_has_changed_is_loaded_at_the_next_reload(config: Path) -> None:
    feed = Supervisor.from_settings(load(config))
    file = config.parent / "mine.toml"
    file.write_text(file.read_text("utf-8").replace("timeout = 8.0", "timeout = 3.25"))
    assert len(feed.reload(load(config))["changed"]) == ENDPOINTS
    assert feed.runtime.registry.endpoints["m0"].endpoint.heartbeat.timeout == 3.25


def test_known_dialects_are_not_loaded() -> None:
    known = {"/nowhere.toml": {"dialect": {"name": "x"}}}
    assert Dialects(known).load("/nowhere.toml") is known["/nowhere.toml"]
