"""A journal with messages of one's own, made the way a supervisor makes it."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack

from wsadapter.contract.errors import UsageError
from wsadapter.journal.journal import Journal
from wsadapter.supervisor import Supervisor
from wsadapter.testing.exchange import Exchange


def make_journal(
    path: str | os.PathLike[str], messages: Mapping[str, Sequence[str | bytes]], *, timeout: float = 30.0
) -> Journal:
    """Write these messages of these endpoints into the journal at `path`, after what it holds: a supervisor receives them from
    a test exchange for each endpoint, and stops. Between endpoints the order is that of their arrival. A second call with the
    same path is the next supervisor: between the messages of both stands a `Gap`.

    Raises `TimeoutError` if not all are written after `timeout` seconds, `UsageError` without any endpoint.
    """
    if not messages:
        raise UsageError("make_journal: expected at least one endpoint with its messages")
    journal = Journal(path)
    with ExitStack() as stack:
        exchanges = {name: stack.enter_context(Exchange(messages=list(each))) for name, each in messages.items()}
        endpoints = [exchange.endpoint(name) for name, exchange in exchanges.items()]
        feed = stack.enter_context(Supervisor(endpoints, journal=journal, journal_only=True))
        registry = feed.runtime.registry

        def are_received() -> bool:
            return all(registry.find(name).received.messages >= len(each) for name, each in messages.items())

        if not feed.runtime.reactor.run_until(are_received, timeout):
            raise TimeoutError(f"make_journal: not all messages were received within {timeout:g} s")
    return journal
