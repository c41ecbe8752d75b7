"""Checks the table [cluster]. Pure, except for the check of installed packages."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import Any, Final

from wsadapter.config import values
from wsadapter.config.settings import ClusterSettings
from wsadapter.contract.errors import Problem

AGENT: Final = "cluster"
"""Name of the agent among the sinks."""
_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,100}")
_HOST: Final = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,99}")
_LEASE: Final = (1.0, 60.0)
_MOST_REPLICAS: Final = 5


def judge_cluster(
    cluster: ClusterSettings, written: Mapping[str, Any], *, endpoints: Sequence[str], sinks: Sequence[Any], journal: bool
) -> list[Problem]:
    """Everything that is wrong with the table. `cluster`: with defaults, without what is wrong or not known; `written`: as in
    the file. `journal`: there is one."""
    return [
        Problem(f"cluster.{key}" if key else "cluster", text)
        for key, text in _judge(cluster, written, endpoints, sinks, journal)
    ]


def _judge(
    cluster: ClusterSettings, written: Mapping[str, Any], endpoints: Sequence[str], sinks: Sequence[Any], journal: bool
) -> list[tuple[str, str]]:
    problems: list[tuple[str, str]] = []
    if not journal:
        problems.append(("", "a host of a cluster carries its journal to the cluster: add a table [journal] with its path"))
    if "servers" not in written or ("servers" in written and cluster.servers == "" and written["servers"] == ""):
        problems.append(("servers", values.NATS_SERVERS))
    elif wrong := values.nats_servers(cluster.servers):
        problems.append(("servers", wrong))
    if not _NAME.fullmatch(cluster.name):
        problems.append(("name", f'expected letters, digits, "_" and "-", got {cluster.name!r}'))
    if not _HOST.fullmatch(cluster.host):
        problems.append(
            ("host", f'expected letters, digits, "_", "-" and ".", which does not come first, got {cluster.host!r}')
        )
    if not 1 <= cluster.replicas <= _MOST_REPLICAS:
        problems.append(("replicas", f"expected 1 to {_MOST_REPLICAS}, got {cluster.replicas}"))
    if not _LEASE[0] <= cluster.lease <= _LEASE[1]:
        problems.append(("lease", f"expected {_LEASE[0]:g} s to {_LEASE[1]:g} s, got {cluster.lease:g}"))
    if cluster.weight <= 0:
        problems.append(("weight", f"expected more than 0, got {cluster.weight:g}"))
    if 0 < cluster.retain < 60:
        problems.append(("retain", f"expected 0, or at least 60 s, got {cluster.retain:g}"))
    if cluster.hosts != 1:
        problems.append(("hosts", f"expected 1, got {cluster.hosts}: a standby on a second host is not available yet"))
    problems += [("exclusive", f"there is no endpoint {name!r}") for name in cluster.exclusive if name not in endpoints]
    if AGENT in sinks:
        problems.append(
            ("", f"a sink is named {AGENT!r} too, which is the name of the cluster's agent; give that sink another name")
        )
    if find_spec("nats") is None:
        problems.append(("", 'a cluster needs a package that is not installed here: pip install "wsadapter[nats]"'))
    return problems
