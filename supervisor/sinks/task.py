"""The task of a sink process and its reports: JSON lines on its standard input and output."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, Self

from wsadapter.config.settings import SinkSettings
from wsadapter.contract.endpoint import Restart
from wsadapter.contract.reasons import Reason

_SILENCE: Final = 60.0
"""Seconds without a report: longer than the answer of any target may take."""
_SILENCE_OF_AGENT: Final = 10.0
"""An agent reports each renewal of its lease."""
LEAVE: Final = b"leave\n"
"""Sent to the agent of a cluster before the end of its standard input: the supervisor has stopped all endpoints."""
REBALANCE: Final = "rebalance"
"""Sent to the agent with an id: write the order to move each endpoint to the host of its first choice."""
CLOSED: Final = "closed"
"""Sent to the agent with the name of an endpoint that it reports as leaving: the supervisor has closed its connection."""


@dataclass(frozen=True, slots=True)
class Task:
    """The first line of standard input. Not arguments, because settings may have passwords and every user sees arguments."""

    journal: str
    """Path of the journal."""
    sink: SinkSettings
    sys_path: Sequence[str]
    """Folders in which a class of the user's own is searched, behind Python's own."""
    cluster: Mapping[str, Any] | None = None
    """For the agent of a cluster: see `AgentTask`; None: the process is a sink."""

    @property
    def module(self) -> str:
        """The module that the process runs."""
        return "wsadapter.sinks" if self.cluster is None else "wsadapter.cluster"

    @property
    def silence(self) -> float:
        """Seconds without a report after which the process is hung."""
        return _SILENCE if self.cluster is None else _SILENCE_OF_AGENT

    def encode(self) -> bytes:
        """One line."""
        said = {"journal": self.journal, "sink": asdict(self.sink), "sys_path": list(self.sys_path), "cluster": self.cluster}
        return json.dumps(said).encode() + b"\n"

    @classmethod
    def parse(cls, line: bytes) -> Self:
        """The reverse of `encode`."""
        said = json.loads(line)
        sink = said["sink"] | {
            "endpoints": tuple(said["sink"]["endpoints"]), "restart": Restart(**said["sink"]["restart"]),
        }  # fmt: skip
        return cls(said["journal"], SinkSettings(**sink), said["sys_path"], said["cluster"])


@dataclass(frozen=True, slots=True)
class Report:
    """One line of standard output."""

    seq: int = 0
    """Place in the journal behind the last item that is durable in the target."""
    payload_bytes: int = 0
    """Payload bytes before it."""
    at: int = 0
    """Wall-clock ns of the last item before it; 0: not known."""
    reason: Reason | None = None
    """The process ends for this reason; None: it runs."""
    cluster: Mapping[str, Any] | None = None
    """From the agent of a cluster: the leases that this host holds, and the other hosts. Such a report has no other field."""

    def encode(self) -> bytes:
        """One line."""
        said: dict[str, Any] = {"seq": self.seq, "bytes": self.payload_bytes, "at": self.at}
        if self.reason is not None:
            said = {"reason": self.reason.to_json()}
        elif self.cluster is not None:
            said = {"cluster": self.cluster}
        return json.dumps(said).encode() + b"\n"

    @classmethod
    def parse(cls, line: bytes) -> Self | None:
        """The reverse of `encode`; None for what a library or a class of the user's has printed."""
        try:
            said = json.loads(line)
            if "reason" in said:
                return cls(reason=Reason(**said["reason"]))
            if "cluster" in said:
                return cls(cluster=dict(said["cluster"]))
            return cls(int(said["seq"]), int(said["bytes"]), int(said["at"]))
        except (ValueError, TypeError, KeyError):
            return None
