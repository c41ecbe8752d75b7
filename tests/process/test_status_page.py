"""The status page in a real Chromium: live, readable in each colour and width, usable by keyboard, also with 200 endpoints."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from tests.process.test_exporter import LISTENS, exported
from tests.support.browser import CHROMIUM, WHY_NOT, Page, browser
from tests.support.command_line import environment
from tests.support.fake_control import FakeControl
from tests.support.statuses import JOURNAL, SINKS, endpoint, supervisor
from wsadapter.testing import Exchange

pytestmark = [pytest.mark.skipif(CHROMIUM is None, reason=WHY_NOT), pytest.mark.timeout(240)]

TICKS = [f'{{"n":{n}}}' for n in range(50)]
WORDS = ("binance", "kraken", "coinbase", "bybit", "okx", "htx", "deribit", "bitfinex", "gate", "kucoin")


@contextmanager
def shown(folder: Path, answer: Any) -> Iterator[tuple[FakeControl, str]]:
    """An exporter of a supervisor that a test plays; and the address of the page."""
    with FakeControl(folder / "wsadapter", "feeds", answer) as control:
        exporter = subprocess.Popen(
            [sys.executable, "-m", "wsadapter.exporter", "--name", "feeds", "--listen", "127.0.0.1:0", "--until-eof"],
            env=environment(folder), stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        try:
            assert exporter.stderr is not None
            port = LISTENS.search(exporter.stderr.readline())
            assert port is not None
            yield control, f"http://127.0.0.1:{port[1]}/"
        finally:
            exporter.communicate(timeout=20)


class Market:
    """The status of many endpoints, another one each second."""

    def __init__(self, size: int) -> None:
        self._seconds = count(1)
        self._names = [f"{WORDS[n % len(WORDS)]}-{n}" for n in range(size)]

    def __call__(self, _request: dict[str, Any]) -> dict[str, Any]:
        second = next(self._seconds)
        endpoints = {name: self._endpoint(n, second) for n, name in enumerate(self._names)}
        return {"ok": True, "status": supervisor(endpoints, uptime=float(second), pid=4_999_999)}

    def _endpoint(self, n: int, second: int) -> Any:
        messages = sum((n * 7 + 3 * past) % 40 + 5 for past in range(second))
        fields: dict[str, Any] = {
            "messages": messages,
            "pid": None,
            "url": f"wss://stream{n}.example.com/ws",
            "silence": n % 9 / 3,
        }
        if n % 17 == 3:
            fields |= {
                "state": "backoff",
                "last_exit": {"kind": "handshake_rejected", "status": 429, "text": "Too Many Requests"},
            }
        elif n % 41 == 7:
            fields |= {
                "state": "fatal",
                "last_exit": {"kind": "config", "text": "the decode hook hooks:decode cannot be imported"},
            }
        elif n % 13 == 5:
            fields |= {"counts": {"downs": {"crashed": second // 3}, "gaps": {"reconnected": second // 4}}}
        return endpoint(**fields)


def fits(page: Page) -> bool:
    """Nothing is wider than the window."""
    return bool(page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"))


def state_of(name: str) -> str:
    return f"document.querySelector('[data-endpoint=\"{name}\"] .state')?.textContent"


def test_an_endpoint_that_goes_down_and_comes_back_is_seen_at_once(tmp_path: Path) -> None:
    with (
        Exchange(messages=TICKS, rate=20, loop=True) as ex,
        exported(tmp_path, a=ex.url, b=ex.url) as (_, port),
        browser() as page,
    ):
        page.look(1400)
        page.open(f"http://127.0.0.1:{port}/")
        page.wait("document.getElementById('total').textContent === '2 of 2 up'")
        assert page.evaluate("document.title") == "2/2 feeds"
        page.wait("document.querySelectorAll('.spark path')[0].getAttribute('d').includes('L')")
        ex.refuse(503)
        ex.drop(connection=1)
        page.wait("document.getElementById('total').textContent === '1 of 2 up'")
        page.wait("document.querySelector('#events li[data-kind=down]') !== null")
        page.wait("[...document.querySelectorAll('.state')].some((state) => state.dataset.tone === 'down')")
        assert re.search(r"closed by peer|HTTP 503", page.text())
        assert "down" in page.evaluate("document.getElementById('spoken').textContent")
        assert page.evaluate("document.querySelectorAll('#line path.mark-down').length") >= 1
        ex.refuse(0)
        page.wait("document.getElementById('total').textContent === '2 of 2 up'")
        page.wait("document.querySelector('#events li[data-kind=up]') !== null")
        assert page.complaints == []


def test_a_supervisor_that_stops_answering_is_said_and_so_is_an_exporter_that_is_gone(tmp_path: Path) -> None:
    answers: list[dict[str, Any]] = [{"ok": True, "status": supervisor({"a": endpoint(pid=None)})}]
    with browser() as page:
        with shown(tmp_path, lambda _request: answers[-1]) as (_, address):
            page.open(address)
            page.wait("document.getElementById('total').textContent === '1 of 1 up'")
            answers.append({"ok": False, "error": "this is a test"})
            page.wait("document.getElementById('alert').textContent.includes('this is a test')")
            page.wait("document.getElementById('total').textContent === 'not known'")
        page.wait("document.getElementById('alert').textContent.includes('The exporter does not answer')")


def test_who_reads_the_journal_is_shown_with_the_lag(tmp_path: Path) -> None:
    status: dict[str, Any] = dict(supervisor({"a": endpoint(pid=None)}))
    with browser() as page, shown(tmp_path, lambda _request: {"ok": True, "status": status}) as (_, address):
        page.look(1400)
        page.open(address)
        page.wait("document.getElementById('total').textContent === '1 of 1 up'")
        assert page.evaluate("document.getElementById('journal').offsetParent === null")  # without a journal there is no table
        status |= {"journal": JOURNAL, "sinks": SINKS}
        page.wait("document.querySelectorAll('#readers tr').length === 4")
        rows = page.evaluate("[...document.querySelectorAll('#readers tr')].map((row) => row.innerText.split('\\t').join('|'))")
        assert rows[0] == "nats|backoff|nats|12|3.3 KiB|0.5 s|unavailable, NATS 127.0.0.1:4222: connection refused"
        assert rows[3] == "risk|away|consumer|90,000|3.3 KiB|1 h 1 m|"
        assert page.evaluate("document.querySelector('[data-consumer=nats] .state').dataset.tone") == "down"
        assert page.evaluate("document.querySelector('[data-consumer=strategy] .state').dataset.tone") == "up"
        status["sinks"] = {name: {**sink, "state": "running"} for name, sink in SINKS.items()}
        page.wait("document.querySelector('[data-consumer=nats] .state').dataset.tone === 'up'")
        page.look(400)
        assert fits(page)
        assert page.complaints == []


def test_both_colours_and_widths_have_room_for_everything(tmp_path: Path) -> None:
    with shown(tmp_path, Market(12)) as (_, address), browser() as page:
        page.open(address)
        page.wait("document.querySelectorAll('#rows tr').length === 12")
        page.wait("document.querySelectorAll('#events li').length >= 2")
        grounds = set()
        for width in (400, 1400):
            for dark in (False, True):
                page.look(width, dark=dark)
                page.wait(f"window.innerWidth === {width}")
                assert fits(page), (width, dark)
                assert page.picture(f"page-{width}-{'dark' if dark else 'light'}").startswith(b"\x89PNG")
                grounds.add(page.evaluate("getComputedStyle(document.body).backgroundColor"))
                assert page.evaluate(LEAST_CONTRAST) >= 4.5, (width, dark)
        assert len(grounds) == 2
        assert page.complaints == []


LEAST_CONTRAST = """(() => {
    const parse = (text) => text.match(/[\\d.]+/g).map(Number);
    const part = (v) => v <= 10 ? v / 255 / 12.92 : ((v / 255 + .055) / 1.055) ** 2.4;
    const light = ([r, g, b]) => .2126 * part(r) + .7152 * part(g) + .0722 * part(b);
    const ground = (node) => {
        for (; node; node = node.parentElement) {
            const c = parse(getComputedStyle(node).backgroundColor);
            if (c.length < 4 || c[3] > 0) return c;
        }
        return [255, 255, 255];
    };
    let least = 99;
    for (const node of document.querySelectorAll('body *')) {
        if (![...node.childNodes].some((child) => child.nodeType === 3 && child.textContent.trim())) continue;
        if (!node.checkVisibility() || node.closest('script, svg, select')) continue;
        const [a, b] = [light(parse(getComputedStyle(node).color)), light(ground(node))].sort((x, y) => y - x);
        least = Math.min(least, (a + .05) / (b + .05));
    }
    return least;
})()"""
"""WCAG 2.2, 1.4.3: text against what is behind it, by relative luminance."""


def test_everything_can_be_reached_by_keyboard(tmp_path: Path) -> None:
    focused = "document.activeElement.id || document.activeElement.textContent"
    with shown(tmp_path, Market(12)) as (_, address), browser() as page:
        page.look(1400)
        page.open(address)
        page.wait("document.querySelectorAll('#rows tr').length === 12")
        page.press("Tab")
        assert page.evaluate(focused) == "Skip to the endpoints"
        page.press("Enter")
        page.wait("document.activeElement.id === 'endpoints'")
        page.press("/")
        assert page.evaluate(focused) == "filter"
        for letter in "kraken":
            page.press(letter)
        visible = "[...document.querySelectorAll('#rows tr')].filter((row) => !row.hidden).length"
        assert page.evaluate(visible) == 2
        assert "kraken-1" in page.text()
        assert "binance-0" not in page.text()
        for _ in range(3):
            page.press("Tab")
        assert page.evaluate(focused) == "kraken-1"
        page.press("Enter")
        assert page.evaluate("document.activeElement.getAttribute('aria-expanded')") == "true"
        assert "wss://stream1.example.com/ws" in page.text()
        assert "3 wanted, 2 confirmed, 1 live, 1 rejected" in page.text()
        page.press("Enter")
        assert "wss://stream1.example.com/ws" not in page.text()
        page.press("/")
        page.press("Escape")
        assert page.evaluate(visible) == 12


def test_a_screen_reader_finds_a_table_with_headings_and_names(tmp_path: Path) -> None:
    with shown(tmp_path, Market(4)) as (_, address), browser() as page:
        page.look(400)
        page.open(address)
        page.wait("document.querySelectorAll('#rows tr').length === 4")
        nodes = page.command("Accessibility.getFullAXTree")["nodes"]
        found = [(n["role"]["value"], n.get("name", {}).get("value", "")) for n in nodes if not n["ignored"]]
        roles = [role for role, _ in found]
        assert roles.count("row") == 5, roles  # although at this width they are no table's rows for the eye
        assert ("columnheader", "Messages/s") in found
        assert ("rowheader", "binance-0") in found
        assert ("searchbox", "Filter") in found
        assert [name for role, name in found if role in ("button", "image", "combobox", "checkbox", "link") and not name] == []


def test_200_endpoints_stay_quick(tmp_path: Path) -> None:
    with shown(tmp_path, Market(200)) as (control, address), browser() as page:
        page.look(1400)
        page.open(address)
        page.wait("document.querySelectorAll('#rows tr').length === 200")
        page.evaluate("window.ticks = 0; new EventSource('/events').addEventListener('tick', () => window.ticks++)")
        page.wait("window.ticks >= 5")
        assert {request["command"] for request in control.requests} == {"watch"}
        assert fits(page)
        page.evaluate("document.getElementById('sort').value = 'state'; "
                      "document.getElementById('sort').dispatchEvent(new Event('input'))")  # fmt: skip
        assert page.evaluate("document.querySelector('#rows .state').textContent") == "fatal"
        page.picture("page-200")
        page.look(400)
        page.wait("window.innerWidth === 400")
        assert fits(page)
        assert page.complaints == []
