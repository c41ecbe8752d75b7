"""A whole supervisor on its way: its run, its name, its endpoints."""

from __future__ import annotations

from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Any

from wsadapter.contract.errors import TakeoverError
from wsadapter.control.instance import Instance
from wsadapter.endpoint.subscriptions import Numbers
from wsadapter.takeover.endpoint_state import give_endpoint, relinquish, take_endpoint, thaw
from wsadapter.takeover.transfer import close_all

if TYPE_CHECKING:
    from wsadapter.runtime import Runtime
    from wsadapter.takeover.new_side import Takeover


def give(runtime: Runtime) -> tuple[dict[str, Any], list[int]]:
    """What travels of it, and its descriptors. All its steady endpoints are frozen."""
    instance = runtime.claim.instance
    assert instance is not None
    named, fds = instance.to_plain()
    endpoints = []
    for managed in runtime.kept():
        plain, more = give_endpoint(managed)
        endpoints.append(plain)
        fds = fds + more
    registry = runtime.registry
    retired = {name: asdict(numbers) for name, numbers in registry.removed.numbers.items()}
    whole = {"run": runtime.run, "name": runtime.claim.name, "groups": registry.groups, "retired": retired}
    return {**whole, "instance": named, "endpoints": endpoints}, fds


def adopt(runtime: Runtime, takeover: Takeover) -> None:
    """Make all that was taken the new supervisor's, and let the old one go. Raises `TakeoverError`; nothing was read then."""
    fds = iter(takeover.fds)
    state = takeover.state
    ours: list[int] = []
    try:
        runtime.registry.groups = state["groups"]
        runtime.registry.removed.add_numbers({name: Numbers(**numbers) for name, numbers in state["retired"].items()})
        runtime.run = state["run"]  # before its endpoints: the folder of their quarantine has its name
        ours += [next(fds) for _ in range(1 + state["instance"]["locked"])]
        for plain in state["endpoints"]:
            runtime.registry.enter(take_endpoint(runtime, plain, fds))
        takeover.seal()
    except Exception as error:
        for managed in runtime.kept():
            relinquish(managed)
        close_all([*ours, *fds])
        if isinstance(error, TakeoverError):
            raise
        raise TakeoverError(f"what the running supervisor gave makes no sense here: {error!r}") from error
    listener, lock = ours[0], ours[1] if len(ours) > 1 else None
    claim = runtime.claim
    claim.inherit(Instance.inherit(claim.name, listener, lock, state["instance"]["path"], claim.runtime_dir))
    runtime.takeover.begin = partial(_begin, runtime)


def _begin(runtime: Runtime) -> None:
    """Under the reactor's lock: what was taken goes on, everything else is started."""
    for managed in runtime.kept():
        if managed.state == "up":
            thaw(managed)
            managed.start()  # those of its links that have no connection
        elif managed.state != "fatal":
            managed.start()
