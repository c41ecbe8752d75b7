"""Hosts and proxies with several addresses, of which some don't answer: the first that answers is connected to (RFC 8305)."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.black_hole import deaf_listener
from tests.support.names import Names
from tests.support.owned import Owned, forkserver
from tests.support.proxies import Proxy, exactly, http_connect, socks5
from tests.support.rawserver import RawServer
from wsadapter.worker.connect.tcp import Address, NoConnection, UnknownHost, open_tcp, resolve

__all__ = ["forkserver"]

pytestmark = pytest.mark.native  # a full queue that swallows SYNs, and all of 127.0.0.0/8, are Linux's

CLOSE = 8
DEAD, DEAD_TOO, LIVE = "127.0.0.2", "127.0.0.4", "127.0.0.3"


def addresses(port: int, *hosts: str) -> list[Address]:
    return [Address(socket.AF_INET, socket.SOCK_STREAM, 0, (host, port)) for host in hosts]


@contextmanager
def one_live_address() -> Iterator[RawServer]:
    """A server at LIVE; its port swallows SYNs at DEAD and DEAD_TOO."""
    with RawServer(host=LIVE) as server, deaf_listener(DEAD, server.port), deaf_listener(DEAD_TOO, server.port):
        yield server


def test_addresses_that_swallow_syns_cost_one_delay_each_and_not_the_deadline() -> None:
    with one_live_address() as server:
        began = time.monotonic()
        with open_tcp(addresses(server.port, DEAD, DEAD_TOO, LIVE), within=10.0) as sock:
            took = time.monotonic() - began
            assert sock.getpeername() == (LIVE, server.port)
            assert sock.gettimeout() is None
        assert 0.5 <= took < 3.0


def test_an_address_that_refuses_costs_nothing() -> None:
    with RawServer(host=LIVE) as server:
        began = time.monotonic()
        with open_tcp(addresses(server.port, *["127.0.0.2"] * 20, LIVE), within=10.0) as sock:
            assert sock.getpeername() == (LIVE, server.port)
        assert time.monotonic() - began < 2.0


def test_where_none_answers_the_error_says_what_became_of_each() -> None:
    with one_live_address() as server:
        with pytest.raises(NoConnection) as failure:
            open_tcp(addresses(server.port, DEAD, DEAD_TOO), within=0.4)
        assert str(failure.value) == f"no answer ({DEAD}, {DEAD_TOO})"
        with pytest.raises(NoConnection) as failure:
            open_tcp(addresses(server.port, DEAD, "127.0.0.5"), within=0.4)
        assert str(failure.value) == f"127.0.0.5: Connection refused, {DEAD}: no answer"


def test_many_failures_are_told_of_a_few() -> None:
    with RawServer() as server:
        with pytest.raises(NoConnection) as failure:
            open_tcp(addresses(server.port, *[f"127.0.1.{last}" for last in range(1, 31)]), within=5.0)
        assert str(failure.value) == "Connection refused (127.0.1.1, 127.0.1.2, 127.0.1.3, 127.0.1.4 and 26 more)"


def test_a_source_address_is_used_and_addresses_of_the_other_family_are_left_out() -> None:
    six = Address(socket.AF_INET6, socket.SOCK_STREAM, 0, ("::1", 1, 0, 0))
    with RawServer(host=LIVE) as server, open_tcp([six, *addresses(server.port, LIVE)], within=5.0, bind="127.0.0.9") as sock:
        assert sock.getsockname()[0] == "127.0.0.9"
    with pytest.raises(NoConnection, match=r"no IPv4 address to reach from `bind` 127\.0\.0\.9"):
        open_tcp([six], within=5.0, bind="127.0.0.9")


def test_a_name_is_resolved_to_distinct_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    six = (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("2001:db8::1", 1, 0, 0))
    four = (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("192.0.2.1", 1))
    other = (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("2001:db8::2", 1, 0, 0))
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_: [six, six, other, four])
    assert [address.host for address in resolve("x.test", 1)] == ["2001:db8::1", "192.0.2.1", "2001:db8::2"]


def test_a_name_that_is_none_is_told() -> None:
    with pytest.raises(UnknownHost, match=r"^not a host name$"):
        resolve("a..b", 1)


def test_an_owner_reaches_a_host_whose_first_addresses_swallow_syns_within_one_deadline(tmp_path: Path) -> None:
    names = Names(tmp_path, {"dual.test": [DEAD, DEAD_TOO, LIVE]})
    with Owned() as owned, one_live_address() as server:
        names.connect(owned, f"ws://dual.test:{server.port}/", timeouts={"connect": 4.0})
        peer = server.accept_websocket()
        assert owned.up()["peer"] == f"{LIVE}:{server.port}"
        peer.send_frame(CLOSE, b"")
        assert owned.down().kind == "closed_by_peer"


def test_an_owner_that_reaches_no_address_names_them(tmp_path: Path) -> None:
    names = Names(tmp_path, {"dual.test": [DEAD, DEAD_TOO]})
    with Owned() as owned, one_live_address() as server:
        names.connect(owned, f"ws://dual.test:{server.port}/", timeouts={"connect": 1.0})
        reason = owned.down()
        text = f"connecting to dual.test:{server.port}: no answer ({DEAD}, {DEAD_TOO})"
        assert (reason.kind, reason.text) == ("connect_failed", text)


@pytest.mark.parametrize("first", ["swallows", "refuses"])
def test_a_proxy_is_reached_at_whichever_address_answers(tmp_path: Path, first: str) -> None:
    names = Names(tmp_path, {"proxy.test": [DEAD, "127.0.0.1"]})
    with RawServer() as server, Proxy(http_connect, server.port) as proxy, Owned() as owned:
        dead = deaf_listener(DEAD, proxy.port) if first == "swallows" else RawServer(host=DEAD)
        with dead:
            names.connect(owned, f"ws://feed.invalid:{server.port}/", proxy=f"http://proxy.test:{proxy.port}")
            peer = server.accept_websocket()
            owned.up()
            assert proxy.seen[0] == f"CONNECT feed.invalid:{server.port} HTTP/1.1"
            peer.send_frame(CLOSE, b"")
            assert owned.down().kind == "closed_by_peer"
            peer.sock.close()


def test_a_socks5_proxy_is_asked_for_the_next_address_of_the_host_where_it_can_not_reach_one(tmp_path: Path) -> None:
    pytest.importorskip("python_socks")
    names = Names(tmp_path, {"feed.test": [DEAD, LIVE]})

    def reaches_only_the_second(proxy: Proxy, client: socket.socket) -> None:
        if proxy.seen:
            socks5(proxy, client)
            return
        exactly(client, exactly(client, 2)[1])
        client.sendall(b"\x05\x00")
        proxy.seen.append(socket.inet_ntop(socket.AF_INET, exactly(client, 10)[4:8]))
        client.sendall(b"\x05\x04\x00\x01\x00\x00\x00\x00\x00\x00")  # host unreachable

    with RawServer() as server, Proxy(reaches_only_the_second, server.port) as proxy, Owned() as owned:
        names.connect(owned, f"ws://feed.test:{server.port}/", proxy=f"socks5://127.0.0.1:{proxy.port}")
        peer = server.accept_websocket()
        owned.up()
        assert proxy.seen == [DEAD, f"{LIVE}:{server.port}"]
        peer.send_frame(CLOSE, b"")
        assert owned.down().kind == "closed_by_peer"
        peer.sock.close()
