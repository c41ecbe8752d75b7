"""A whole supervisor on its way: its run, its name, its endpoints.

    old: freeze, snapshot_of ──> SupervisorSnapshot, descriptors ──(transfer.py)──> new: receive, seal, begin

This is the one way in which a supervisor receives owners that live: each link by its `LinkSnapshot` and the descriptors of its
owner (`Link.receive`), wherever both come from.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

import msgspec

from wsadapter.contract.errors import TakeoverError
from wsadapter.control.instance import Instance, InstanceSnapshot
from wsadapter.endpoint.subscriptions import Numbers
from wsadapter.takeover.endpoint_state import EndpointSnapshot, disown, receive, snapshot_of, thaw
from wsadapter.takeover.transfer import close_all

if TYPE_CHECKING:
    from wsadapter.runtime import Runtime
    from wsadapter.takeover.new_side import Takeover


@dataclass(frozen=True, slots=True, kw_only=True)
class SupervisorSnapshot:
    """A supervisor. Its descriptors are those of the instance, then those of each endpoint."""

    run: str
    instance: InstanceSnapshot
    groups: dict[str, list[str]]
    removed: dict[str, Numbers]
    """How far endpoints came that were removed."""
    endpoints: list[EndpointSnapshot]
    configured: dict[str, str] = field(default_factory=dict)
    """By name of an endpoint or group, the fingerprint of its settings; a supervisor of an earlier version has none."""

    def encode(self) -> bytes:
        """As JSON."""
        return msgspec.json.encode(self)

    @classmethod
    def parse(cls, body: bytes) -> SupervisorSnapshot:
        """The reverse of `encode`. Raises `TakeoverError`."""
        try:
            return msgspec.json.decode(body, type=cls)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:  # ValidationError is one
            raise TakeoverError(f"the state of the running supervisor cannot be read here: {error}") from error


def give(runtime: Runtime) -> tuple[SupervisorSnapshot, list[int]]:
    """The whole supervisor with its descriptors, which stay open here. All its steady endpoints are frozen."""
    assert runtime.claim.instance is not None
    instance, fds = runtime.claim.instance.snapshot()
    endpoints = []
    for endpoint in runtime.endpoints():
        snapshot, more = snapshot_of(endpoint)
        endpoints.append(snapshot)
        fds = fds + more
    registry = runtime.registry
    whole = SupervisorSnapshot(
        run=runtime.run, instance=instance, groups=registry.groups, removed=registry.removed.numbers, endpoints=endpoints,
        configured=registry.configured,
    )  # fmt: skip
    return whole, fds


def adopt(runtime: Runtime, takeover: Takeover) -> None:
    """Make all that was taken the new supervisor's, and let the old one go. Raises `TakeoverError`; nothing was read then."""
    fds = iter(takeover.fds)
    ours: list[int] = []
    try:
        snapshot = SupervisorSnapshot.parse(takeover.state)
        runtime.registry.groups, runtime.registry.configured = snapshot.groups, snapshot.configured
        runtime.registry.removed.add_numbers(snapshot.removed)
        runtime.run = snapshot.run  # before its endpoints: the folder of their quarantine has its name
        ours += [next(fds) for _ in range(1 + snapshot.instance.locked)]
        for each in snapshot.endpoints:
            runtime.registry.register(receive(runtime, each, fds))
        takeover.seal()
    except Exception as error:
        for endpoint in runtime.endpoints():
            disown(endpoint)
        close_all([*ours, *fds])
        if isinstance(error, TakeoverError):
            raise
        raise TakeoverError(f"what the running supervisor passed cannot be used here: {error!r}") from error
    listener, lock = ours[0], ours[1] if len(ours) > 1 else None
    claim = runtime.claim
    claim.inherit(Instance.inherit(claim.name, listener, lock, snapshot.instance.path, claim.runtime_dir))
    runtime.takeover.begin = partial(_begin, runtime)


def _begin(runtime: Runtime) -> None:
    """Under the reactor's lock: endpoints that came with a connection continue on it, all others are started."""
    for endpoint in runtime.endpoints():
        if endpoint.state == "up":
            thaw(endpoint)
            endpoint.start()  # those of its links that have no connection
        elif endpoint.state != "fatal":
            endpoint.start()
