"""The status of one link."""

from __future__ import annotations

from time import monotonic

from wsadapter.endpoint.link import Link
from wsadapter.status import EndpointStatus, exit_status


def status_of(link: Link) -> EndpointStatus:
    """Of a link, in the form of an endpoint's. The caller adds the rates, the memory and the `group`."""
    owner, connection, output = link.owner, link.connection, link.output
    now, counters = monotonic(), output.counters
    uptime = None if owner is None else owner.uptime
    holder = None if owner is None else owner.process.connection.holder
    overflow = "conflated" if output.backlog.buffer.overflow == "conflate" else "overflow"
    return {
        "state": link.state,
        "pid": None if owner is None else owner.process.pid,
        "epoch": output.epoch,
        "uptime": None if uptime is None else round(uptime, 3),
        "messages": counters.messages,
        "bytes": counters.bytes,
        "rate": None,
        "byte_rate": None,
        "restarts": link.policy.total,
        "gaps": counters.gaps,
        "handoffs": counters.handoffs,
        "in_custody": owner is not None and owner.process.connection.in_custody,
        "successor": link.rollover.phase,
        "holder": None if holder is None else holder.pid,
        "dropped": output.backlog.dropped,
        "filtered": counters.filtered,
        "torn": counters.torn,
        "silence": None if counters.last_heard is None else round(now - counters.last_heard, 3),
        "rtt": None if owner is None else owner.epoch.rtt,
        "buffered": output.backlog.waiting,
        "pending": connection.requests.waiting,
        "memory": None,
        "last_exit": exit_status(link.last_exit),
        "url": connection.dialer.url,
        "subscriptions": connection.subscriptions.to_json(),
        "counts": output.stream.tally.counts(output.backlog.dropped, overflow),
        "group": None,
    }
