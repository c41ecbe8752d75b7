"""Checks the table [login] of a dialect, see worker/dialects/README.md. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from wsadapter.config import values
from wsadapter.config.dialect import shapes
from wsadapter.config.dialect.frames import OURS, check_frame
from wsadapter.config.dialect.shapes import Check
from wsadapter.config.dialect.tables import Found, check_keys, check_list, checked_elsewhere, each_table

_ANSWER: Final[Mapping[str, Check]] = {"match": shapes.match, "id": shapes.text}
_CHALLENGE: Final[Mapping[str, Check]] = {"match": shapes.match, "value": shapes.path}


def check_login(table: Any) -> Found:
    """The table and those within it."""
    checks = {
        "frame": shapes.string, "subscribe": shapes.string, "needs": shapes.strings, "timeout": shapes.seconds,
        "renew_after": shapes.seconds, "challenge": shapes.string, "answer": checked_elsewhere, "ack": checked_elsewhere,
        "error": checked_elsewhere, "heartbeat": checked_elsewhere,
    }  # fmt: skip
    yield from check_keys("login", table, checks)
    if not isinstance(table, Mapping):
        return
    if "answer" in table:
        yield from check_keys("login.answer", table["answer"], _CHALLENGE, required=tuple(_CHALLENGE))
    if "ack" in table:
        yield from check_list("login.ack", table["ack"], _ANSWER, required=("match",))
    if "error" in table:
        yield from check_list("login.error", table["error"], {**_ANSWER, "text": shapes.text}, required=("match",))
    yield from _check_templates(table)
    yield from _check_together(table)


def _secrets(table: Mapping[str, Any]) -> list[str]:
    needs = table.get("needs")
    return [f"${need}" for need in needs] if isinstance(needs, list) else []


def known_to_login(table: Any) -> list[str]:
    """The placeholders of frames for which the endpoint has to log in; `table` is [login], if there is one."""
    if not isinstance(table, Mapping):
        return [*OURS]
    return [*OURS, *_secrets(table), "$sign", *(["$challenge"] if "challenge" in table else [])]


def _check_templates(table: Mapping[str, Any]) -> Found:
    for key in ("challenge", "frame", "subscribe"):
        template = table.get(key)
        known = [*OURS, *_secrets(table)] if key == "challenge" else known_to_login(table)
        if isinstance(template, str) and template:
            yield from ((f"login.{key}", message) for message in check_frame(template, known=known))
    subscribe = table.get("subscribe")
    if isinstance(subscribe, str) and subscribe and not values.json_text(subscribe) and values.json_object(subscribe):
        yield "login.subscribe", "expected a JSON object, whose fields are put into the frames that subscribe"


def _check_together(table: Mapping[str, Any]) -> Found:
    if "ack" in table and "frame" not in table:
        yield "login.ack", "has no meaning without frame: nothing is sent that it could answer"
    if ("challenge" in table) != ("answer" in table):
        yield "login", "expected both challenge and [login.answer], or neither"


def check_challenge(data: Mapping[str, Any]) -> Found:
    """Of a whole dialect: that the answer to the challenge is used."""
    login, subscribe = data.get("login"), data.get("subscribe")
    if not isinstance(login, Mapping) or not {"challenge", "answer"} <= login.keys():
        return
    kinds = subscribe.get("kind") if isinstance(subscribe, Mapping) else None
    tables = [login, *(kind for _, kind in each_table("subscribe.kind", kinds))]
    if not any("$challenge" in str(table.get(key)) for table in tables for key in ("frame", "subscribe")):
        places = "frame, subscribe or [[subscribe.kind]]"
        yield "login.challenge", f'expected "$challenge" in {places}: without it the answer is of no use'
