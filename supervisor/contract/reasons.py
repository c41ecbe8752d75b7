"""Why an epoch ended, as a value.

An owner reports its reason; if it could not (it was killed, it crashed), the supervisor determines one from the
exit status. Either way `Down.reason` is one of these, and the restart policy looks at nothing else.
"""

from __future__ import annotations

import signal
from dataclasses import dataclass, fields
from typing import Any

KINDS: dict[str, str] = {
    "closed_by_peer": "the peer closed the connection, with a close frame (`code`) or without one (1006)",
    "connect_failed": "no connection: name resolution, TCP, the proxy or TLS failed, or took too long",
    "handshake_rejected": "the peer answered the WebSocket handshake with something other than a valid 101 (`status`, `body`)",
    "not_ready": "the message of the peer that its dialect waits for ([[ready]]) did not come within `timeouts.handshake`",
    "login_failed": "the exchange refused the login or did not answer it in time, or a hook could not sign it",
    "protocol_error": "the peer broke RFC 6455; closed with `code` (1002, 1007, 1009), 0.2 s after the last message or later",
    "holder_lost": "the process that holds its TLS (`tls.holder`) ended, and the connection with it",
    "silence": "no message came for `watchdog.silence` seconds, or a stream that `Stalled` stayed silent",
    "heartbeat_missed": "a heartbeat was not answered in time, or the peer's own (`heartbeat.server_interval`) did not come",
    "send_failed": "a frame could not be sent within `timeouts.send`",
    "hung": "the owner made no progress for `watchdog.progress` seconds and was killed",
    "start_failed": "the process ended, or was ended, before it was ready for its endpoint",
    "crashed": "the process was ended by a signal (`signal`) or with an exit code other than 0 (`exit_code`)",
    "exited": "the process ended with exit code 0 without a report, for example because user code called `sys.exit()`",
    "corrupt": "the pipe contained something that no owner writes; the owner was killed",
    "memory_limit": "the owner exceeded `watchdog.memory`",
    "recycled": "replaced as planned: `restart`, `watchdog.max_age`, a notice of the exchange, a changed configuration",
    "overflow": 'the consumer was too slow and `buffer.overflow` is "disconnect", or there was no memory for a message',
    "config": "retries can't fix it: a decode hook cannot be imported, a file is missing",
    "stopped": "stopped as asked",
    "host_lost": "in the stream of a cluster: the host that had the connection did not end the epoch; another host continues",
    "supervisor_gone": "the supervisor died or closed the control socket: the peer sees close code 1001, and with it the next "
    "supervisor of the same journal ends the epochs of the dead one",
}
"""Every value of `Reason.kind`, with its meaning."""

_TYPES: dict[str, type | tuple[type, ...]] = {
    "kind": str, "code": int, "text": str, "status": int, "body": str, "retry_after": (int, float), "exit_code": int,
    "signal": str,
}  # fmt: skip
_ABNORMAL = 1006
_LONGEST_SHOWN = 120
"""Bytes or characters of a value in a `repr`."""
_PLANNED = frozenset({"recycled", "stopped"})
_UNCOUNTED = frozenset({"recycled", "stopped", "host_lost", "supervisor_gone"})


def shortened(value: object) -> str:
    """The `repr` of a value; for long bytes and texts, the beginning and the length."""
    if isinstance(value, bytes | str) and len(value) > _LONGEST_SHOWN:
        return f"{value[: _LONGEST_SHOWN - 20]!r}... ({len(value)} {'bytes' if isinstance(value, bytes) else 'characters'})"
    return repr(value)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reason:
    """Why an epoch ended. `None` stands for "does not apply" everywhere."""

    kind: str
    """One of `KINDS`."""
    code: int | None = None
    """WebSocket close code (RFC 6455 §7.4): the peer's, or ours if we closed first; 1006 if the connection was lost."""
    text: str = ""
    """The close reason, or the text of the last error."""
    status: int | None = None
    """HTTP status of a refused handshake."""
    body: str = ""
    """The first 4 KiB of a refused handshake's body."""
    retry_after: float | None = None
    """Seconds that the peer asked us to wait (`Retry-After`), a year at most."""
    exit_code: int | None = None
    """Exit code of the process if it ended without a reason of its own."""
    signal: str | None = None
    """Name of the signal that ended the process, such as "SIGKILL"."""

    @property
    def counts(self) -> bool:
        """True if it counts against the restart intensity. A planned end does not."""
        return self.kind not in _UNCOUNTED

    @property
    def broke_off(self) -> bool:
        """True if the connection ended without a close frame (RFC 6455 §7.1.5)."""
        return self.kind == "closed_by_peer" and self.code == _ABNORMAL

    @property
    def abnormal(self) -> bool:
        """True if a `transient` endpoint starts again after it (OTP supervisor: abnormal termination).

        Normal ends are: a close with 1000 by the peer, exit code 0, and planned ends.
        """
        if self.kind == "closed_by_peer":
            return self.code != 1000
        return self.kind not in _PLANNED and self.kind != "exited"

    def __repr__(self) -> str:
        shown = [f"{name}={shortened(value)}" for name, value in self.to_json().items()]
        return f"Reason({', '.join(shown)})"

    def to_json(self) -> dict[str, Any]:
        """The reason as a JSON object: `kind`, and the other fields that are not empty."""
        said = {f.name: getattr(self, f.name) for f in fields(self)}
        return {name: value for name, value in said.items() if value is not None and value != ""}

    @classmethod
    def from_json(cls, data: Any) -> Reason:
        """The reverse of `to_json`. Raises `ValueError` if `data` is no reason, because reports of owners are not trusted."""
        if not isinstance(data, dict) or not all(isinstance(value, _TYPES.get(name, ())) for name, value in data.items()):
            raise ValueError(f"not a reason: {data!r:.200}")
        if data.get("kind") not in KINDS:
            raise ValueError(f"not a reason: {data!r:.200}")
        return cls(**data)

    def describe(self) -> str:
        """One phrase for a log line: "closed by peer, code 1006"."""
        parts = [self.kind.replace("_", " ")]
        if self.code is not None:
            parts.append(f"code {self.code}")
        if self.status is not None:
            parts.append(f"HTTP {self.status}")
        if self.signal is not None:
            parts.append(self.signal)
        elif self.exit_code is not None:
            parts.append(f"exit code {self.exit_code}")
        if self.text:
            parts.append(self.text if len(self.text) <= 300 else self.text[:300] + "...")
        return ", ".join(parts)


def from_exit_code(exit_code: int | None, *, text: str = "") -> Reason:
    """The reason of a process that ended without a report.

    `exit_code` as in `multiprocessing.Process.exitcode`: negative for a signal, `None` if the status is unknown, because other
    code has reaped the process.
    """
    if exit_code is None:
        return Reason(kind="crashed", text=text or "exit status unknown")
    if exit_code < 0:
        try:
            name = signal.Signals(-exit_code).name
        except ValueError:
            name = f"signal {-exit_code}"
        return Reason(kind="crashed", signal=name, text=text)
    if exit_code == 0:
        return Reason(kind="exited", exit_code=0, text=text)
    return Reason(kind="crashed", exit_code=exit_code, text=text)
