"""Log lines that a person can read and grep: one for each event of an endpoint, with the next action.

    binance/3 down: closed by peer, code 1006, after 42.1 s, 18,310 messages; next start in 0.8 s (restart 2 of 5 in 60 s)

The parts of a `down` line come from two places (the end of the epoch, the decision); they are put together here.
"""

from __future__ import annotations

import logging

from wsadapter.contract.endpoint import Restart
from wsadapter.contract.reasons import Reason
from wsadapter.endpoint.restart_policy import Decision, RestartAction

logger = logging.getLogger("wsadapter.supervisor")
printed = logging.getLogger("wsadapter.owner")

_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


class EndpointLog:
    """Writes the log lines of one endpoint."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._down: tuple[int, str, bool] | None = None
        """The last ended epoch: its number, the text of the log line, and whether its end counts as a failure."""

    def stage(self, epoch: int, stage: str, url: str) -> None:
        logger.debug("%s/%d %s %s", self._name, epoch, stage, url)

    def budget(self, epoch: int, host: str, wait: float) -> None:
        logger.info("%s/%d next connect to %s in %.1f s (Retry-After or limits.connects)", self._name, epoch, host, wait)

    def up(self, epoch: int, url: str, resolved: str, peer: str, *, resumed: bool) -> None:
        """`url`: as configured, masked; `resolved`: its host, with what the environment gives; `peer`: its address."""
        what = "resumed, nothing lost" if resumed else "up"
        where = " at ".join(part for part in ("" if resolved in url else resolved, peer) if part)
        logger.info("%s/%d %s: %s%s", self._name, epoch, what, url, f" ({where})" if where else "")

    def lost_connection(self, epoch: int, why: str) -> None:
        logger.info("%s/%d: no owner can continue with the connection: %s", self._name, epoch, why)

    def logged_in(self, epoch: int) -> None:
        logger.info("%s/%d logged in", self._name, epoch)

    def rejected(self, epoch: int, stream: str, error: str) -> None:
        logger.warning("%s/%d rejected: %s: %s", self._name, epoch, stream, error)

    def restored(self, epoch: int, ok: int, failed: tuple[str, ...]) -> None:
        if failed:
            logger.warning("%s/%d restored: %s, failed: %s", self._name, epoch, _subscriptions(ok), ", ".join(failed))
        elif ok:
            logger.info("%s/%d restored: %s", self._name, epoch, _subscriptions(ok))

    def dropped(self, epoch: int, count: int, cause: str, text: str) -> None:
        logger.warning("%s/%d dropped: %d messages, %s%s", self._name, epoch, count, cause, f": {text}" if text else "")

    def stalled(self, epoch: int, stream: str | None, silence: float, cure: str = "subscribed anew") -> None:
        what = f"nothing of {stream}" if stream else "nothing"
        logger.warning("%s/%d stalled: %s for %.1f s; %s", self._name, epoch, what, silence, cure)

    def said(self, epoch: int, level: str, text: str) -> None:
        logger.log(_LEVELS.get(level, logging.INFO), "%s/%d %s", self._name, epoch, text[:4096])

    def printed(self, epoch: int, pid: int | None, line: str) -> None:
        printed.info("%s/%d printed (pid %s): %s", self._name, epoch, pid, line)

    def down(self, epoch: int, reason: Reason, uptime: float | None, messages: int) -> None:
        """An epoch ended. `next` completes and writes the line; if the endpoint was stopped, it is written at once."""
        lived = f"after {uptime:.1f} s, {messages:,} messages" if uptime is not None else "never up"
        text = f"{reason.describe()}, {lived}"
        if reason.kind == "stopped":
            logger.info("%s/%d down: %s", self._name, epoch, text)
        else:
            self._down = (epoch, text, reason.counts)

    def change_failed(self, epoch: int, why: str, text: str) -> None:
        logger.warning("%s/%d: its successor (%s) failed, the old connection stays: %s", self._name, epoch, why, text)

    def next(self, decision: Decision, settings: Restart, *, resumes: bool, follows: bool, waits: bool) -> None:
        """Write the next action. `resumes`: the next owner continues with the connection; `waits`: after a backoff
        nevertheless; `follows`: the next owner has opened a connection already."""
        if self._down is None:
            return
        epoch, text, counts = self._down
        self._down = None
        level = logging.WARNING if counts else logging.INFO
        if decision.action in (RestartAction.FATAL, RestartAction.STOP_SUPERVISOR, RestartAction.COOL_DOWN):
            level = logging.ERROR
        what = _what_comes(decision, settings, resumes=resumes, follows=follows, waits=waits)
        logger.log(level, "%s/%d down: %s; %s", self._name, epoch, text, what)


def _subscriptions(count: int) -> str:
    return "1 subscription" if count == 1 else f"{count} subscriptions"


def _what_comes(decision: Decision, settings: Restart, *, resumes: bool, follows: bool, waits: bool) -> str:
    times = f"restart {decision.restarts} of {settings.intensity} in {settings.period:g} s"
    match decision.action:
        case RestartAction.RESTART if waits:
            return f"its connection stays open, next start in {decision.delay:.1f} s ({times})"
        case RestartAction.RESTART if resumes:
            return f"its connection stays open ({times if decision.restarts else 'planned'})"
        case RestartAction.RESTART if follows:
            return "its successor is connected"
        case RestartAction.RESTART if decision.restarts:
            return f"next start in {decision.delay:.1f} s ({times})"
        case RestartAction.RESTART:
            return "next start now (planned)"
        case RestartAction.COOL_DOWN:
            return f"too many restarts ({times}): cooling down for {decision.delay:g} s, then with a new count"
        case RestartAction.FATAL:
            return "fatal: mend the cause, then `restart` it"
        case RestartAction.STOP_SUPERVISOR:
            return f"too many restarts ({times}): stopping the supervisor, as configured"
        case RestartAction.END:
            return f"not restarted (restart type {settings.type})"
