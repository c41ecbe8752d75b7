"""How a test makes an exchange misbehave: the methods of `Exchange` that need no dialect.

They may be called from any thread while the exchange runs; otherwise they raise `RuntimeError`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import TypeVar

from wsadapter.testing.connection import ClientConnection
from wsadapter.testing.frames import PING, encode_frame, encode_message
from wsadapter.testing.handshake import HalfHandshake, Refusal
from wsadapter.testing.script import Frame
from wsadapter.testing.server import Server

T = TypeVar("T")


class _Controls(ABC):
    """What the methods need of the exchange."""

    @abstractmethod
    def _call(self, command: Callable[[Server], T]) -> T:
        """Run `command` in the exchange's event loop. Returns what it returns, and raises what it raises."""

    def _each(self, connection: int | None, command: Callable[[ClientConnection], object]) -> None:
        """Run `command` for one open connection, or for all."""

        def run(server: Server) -> None:
            for target in server.select(connection):
                command(target)

        self._call(run)


class ConnectionControls(_Controls):
    """Commands to the connections that are open now, or to one of them."""

    def send(self, data: Frame, *, connection: int | None = None) -> None:
        """Send a message now, on all connections or one: str as text, bytes as binary."""
        frame = encode_message(data)
        self._each(connection, lambda c: c.send_messages([frame]))

    def _push(self, message: Frame, connection: int | None) -> None:
        frame = encode_message(message)
        self._each(connection, lambda c: c.send_answers([frame]))

    def ping(self, payload: bytes = b"", *, connection: int | None = None) -> None:
        """Send a protocol ping."""
        self._each(connection, lambda c: c.send_frames([encode_frame(PING, payload)]))

    def raw(self, data: bytes, *, connection: int | None = None) -> None:
        """Send bytes as they are, inside TLS if there is TLS: for violations of the protocol."""
        self._each(connection, lambda c: c.send_frames([data]))

    def flood(
        self, rate: float | None = None, duration: float = 1.0, *, size: int = 200, connection: int | None = None
    ) -> None:
        """Start to send made-up messages of `size` bytes besides the feed, `rate` per second or as fast as they are taken,
        for `duration` seconds."""

        def flood(server: Server) -> None:
            for target in server.select(connection):
                server.feeds.flood(target, rate, duration, size)

        self._call(flood)

    def mute(self, *, connection: int | None = None) -> None:
        """Send nothing more on the connections that are open now, no pongs and no answer to a close frame either; TCP stays up.

        What was sent before still arrives. The feed of one connection waits for `unmute`; messages of a common feed are lost.
        """
        self._each(connection, lambda c: c.outgoing.mute())

    def mute_mid_frame(self, *, connection: int | None = None) -> None:
        """As `mute`, in the middle of a frame: the feed's next one, or a made-up one if there is none."""

        def mute(server: Server) -> None:
            for target in server.select(connection):
                server.mute_mid_frame(target)

        self._call(mute)

    def unmute(self, *, connection: int | None = None) -> None:
        """End `mute` and `mute_mid_frame`; a frame that was cut gets its rest."""
        self._each(connection, lambda c: c.unmute())

    def drop(self, *, connection: int | None = None) -> None:
        """Close TCP without a close frame."""
        self._each(connection, lambda c: c.drop())

    def reset(self, *, connection: int | None = None) -> None:
        """End TCP with a RST."""
        self._each(connection, lambda c: c.reset())

    def close(self, code: int | None = 1000, reason: str = "", *, connection: int | None = None) -> None:
        """Close as RFC 6455 §7 requires: close frame, the client's answer (5 s), end of TCP. Any code is sent as given."""
        self._each(connection, lambda c: c.close(code, reason))


class ServerControls(_Controls):
    """Misbehaviour from now on, until it is switched off."""

    def _set(self, name: str, value: object) -> None:
        self._call(lambda server: setattr(server.misbehaviour, name, value))

    def pause(self) -> None:
        """Send no data, as in a quiet market; pings and subscriptions are answered. The feed's clock stops."""
        self._call(lambda server: server.feeds.pause())

    def resume(self) -> None:
        """Continue the feed where it was paused."""
        self._call(lambda server: server.feeds.resume())

    def hold_answers(self, on: bool = True) -> None:
        """Hold back the script's answers from now on; `on=False` ends that and sends the held answers."""
        self._set("hold_answers", on)
        if not on:
            self._each(None, lambda c: c.answers.release())

    def refuse(
        self, status: int = 503, headers: Mapping[str, str] | None = None, body: str | bytes = b"", *, times: int | None = None
    ) -> None:
        """Answer the next `times` handshakes (None: all) with this HTTP status. `status=0` ends it."""
        content = body.encode() if isinstance(body, str) else body
        self._set("refusal", Refusal(status, dict(headers or {}), content, times) if status else None)

    def redirect(self, url: str, *, times: int | None = None) -> None:
        """Answer handshakes with 302 to `url`; an empty one ends it."""
        self.refuse(302 if url else 0, {"Location": url}, times=times)

    def slow(self, bytes_per_second: float | None) -> None:
        """Send everything at this pace, handshakes too; None ends it."""
        self._call(lambda server: server.slow(bytes_per_second))

    def accept_and_drop(self, on: bool = True) -> None:
        """Accept TCP connections and close them at once."""
        self._set("accept_and_drop", on)

    def ignore_pings(self, on: bool = True) -> None:
        """Answer no pings."""
        self._set("ignore_pings", on)

    def half_handshake(self, on: bool = True, *, at: HalfHandshake = "http") -> None:
        """Send half of the HTTP response, or half of the TLS server's first flight (`at="tls"`), and then nothing."""
        self._set("half_handshake", at if on else None)

    def wrong_accept(self, on: bool = True) -> None:
        """Send a `Sec-WebSocket-Accept` that does not belong to the key."""
        self._set("wrong_accept", on)

    def missing_upgrade(self, on: bool = True) -> None:
        """Send a 101 without `Upgrade`."""
        self._set("missing_upgrade", on)

    def huge_headers(self, on: bool = True) -> None:
        """Send a response with a header of 256 KiB."""
        self._set("huge_headers", on)

    def http10(self, on: bool = True) -> None:
        """Send a response that says HTTP/1.0."""
        self._set("http10", on)
