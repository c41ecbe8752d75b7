"""New settings over running endpoints: only what changed is touched, and unchanged endpoints keep their owners."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from typing import Any

from wsadapter.config.dialect import Dialects, apply_dialect
from wsadapter.contract.endpoint import Endpoint
from wsadapter.endpoint.endpoint import EndpointRuntime
from wsadapter.endpoint.subscriptions import key_of
from wsadapter.registry.shards import MARK

Given = Mapping[str, Collection[str]]
"""The keys that a configuration file sets, per endpoint."""


def with_dialect(endpoint: Endpoint, given: Given, dialects: Dialects) -> tuple[Endpoint, dict[str, Any] | None]:
    """The endpoint, with the dialect's values for settings that the user did not make, and the dialect. Raises `ConfigError` if
    the dialect has to be loaded and can't be."""
    if not endpoint.dialect:
        return endpoint, None
    dialect = dialects.load(endpoint.dialect)
    return apply_dialect(endpoint, dialect, given=given.get(endpoint.name.partition(MARK)[0], ())), dialect


def reload(
    running: Mapping[str, EndpointRuntime],
    wanted: Mapping[str, Endpoint],
    given: Given,
    dialects: Dialects,
    *,
    add: Callable[[Endpoint], object],
    remove: Callable[[str], object],
) -> dict[str, list[str]]:
    """Make `running` equal to `wanted`, which must be checked, under the reactor's lock. Returns the names of endpoints that
    were "added", "removed" or "changed", or got other "subscriptions"."""
    changes: dict[str, list[str]] = {"added": [], "removed": [], "changed": [], "subscriptions": []}
    for name in [name for name in running if name not in wanted]:
        remove(name)
        changes["removed"].append(name)
    for name, endpoint in wanted.items():
        runtime = running.get(name)
        if runtime is None:
            add(endpoint)
            changes["added"].append(name)
            continue
        new, dialect = with_dialect(endpoint, given, dialects)
        if runtime.endpoint == new:
            continue
        if (runtime.endpoint.replicas > 1) is not (new.replicas > 1):
            remove(name)
            add(endpoint)
            changes["changed"].append(name)
            continue
        if replace(runtime.endpoint, subscribe=()) == replace(new, subscribe=()) and dialect is not None:
            _resubscribe(runtime, new)
            changes["subscriptions"].append(name)
        else:
            runtime.replace_settings(new, dialect)
            changes["changed"].append(name)
    return changes


def _resubscribe(runtime: EndpointRuntime, new: Endpoint) -> None:
    wanted = {key_of(stream) for stream in new.subscribe}
    runtime.unsubscribe([stream for key, stream in runtime.subscriptions.wanted.items() if key not in wanted])
    runtime.subscribe(new.subscribe)
    runtime.endpoint = new
