"""An exchange to test against: real sockets, ws:// or wss://, and every kind of misbehaviour on command.

    with Exchange(replay="binance", rate="real", tls=True) as ex:
        with Supervisor([ex.endpoint("binance")]) as feed:
            ...
            ex.mute()                       # TCP stays up, nothing more comes
            ex.wait_connections(1)

It listens on the loopback interface and runs in a thread of its own with its own event loop.
"""

from __future__ import annotations

import asyncio
import ssl
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from wsadapter.config.dialect import is_path, load_dialect
from wsadapter.contract.endpoint import Endpoint, Tls
from wsadapter.contract.errors import WrongType
from wsadapter.testing.certificates import Authority, CertificateKind, ca_file, process_authority, server_context
from wsadapter.testing.dialect.answering import Answered
from wsadapter.testing.dialect.controls import Obedient
from wsadapter.testing.dialect.conversation_driver import Venue
from wsadapter.testing.feed import Messages, Rate, Source
from wsadapter.testing.frames import PING, encode_frame, encode_message
from wsadapter.testing.handshake import HalfHandshake, Manners, Refusal
from wsadapter.testing.house import House
from wsadapter.testing.journal import Ledger
from wsadapter.testing.observed import Observed
from wsadapter.testing.recording import load_recording
from wsadapter.testing.script import Frame, Script, compile_script
from wsadapter.testing.server import Resume, Server

_CALL_TIMEOUT = 10.0
T = TypeVar("T")


class Exchange(Observed, Obedient, Answered):
    """A WebSocket server to test against.

    `messages`: a list of str (text) and bytes (binary), a `Recording`, or a function giving an iterable of them anew for
    each feed. `replay`: a bundled recording's name or the path of one, or of the runner's output, instead; `replay_endpoint`:
    whose messages, where that holds those of several. `rate`: messages per second, "real" for the
    recording's own pace, None or 0 for as fast as the client takes it. `loop`: start over at the end.

    `resume="start"`: every connection gets the messages from the start. `resume="continue"`: one feed for all, whose clock
    runs whether or not anybody listens, so that a client that was away has missed something, as on a real exchange; without a
    rate there is no clock, and it waits for the slowest (at least one) listener.

    `after_subscribe`: no messages before the first accepted subscription. `welcome`: frames sent first. `ack`: what is
    answered, see `wsadapter.testing.script`. `subprotocol`: chosen where the client offers it.

    `deflate`: what is answered to an offer of permessage-deflate. True agrees to all that is asked for. A text, such as
    "permessage-deflate; server_no_context_takeover", is sent as it stands, right or wrong, and obeyed. False or None declines.

    `tls`: wss://, with a throw-away authority (`authority`, by default one per process) and one TLS record per message,
    as exchanges send; `coalesce` puts many in one. `certificate`: "valid", or what is wrong with it.

    All methods may be called from any thread. What is called before `start()` or after `stop()` raises `RuntimeError`, except
    the inspection. `stop()` and `start()` in turn make an exchange that goes away and comes back at the same port.
    """

    def __init__(
        self,
        *,
        messages: Messages = (),
        replay: str | Path | None = None,
        replay_endpoint: str | None = None,
        rate: Rate = None,
        loop: bool = False,
        resume: Resume = "start",
        after_subscribe: bool = False,
        welcome: Sequence[Frame] = (),
        ack: Script | None = None,
        dialect: str | Path = "",
        pace: float = 1.0,
        grace: float = 2.0,
        login_required: bool = False,
        subprotocol: str | None = None,
        deflate: str | bool | None = None,
        tls: bool = False,
        coalesce: bool = False,
        certificate: CertificateKind = "valid",
        authority: Authority | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        if replay is not None and messages:
            raise ValueError("give messages or replay, not both")
        if resume not in ("start", "continue"):
            raise ValueError(f'resume is "start" or "continue", not {resume!r}')
        if isinstance(welcome, str | bytes | bytearray):
            raise WrongType("welcome: expected a list of frames, got one; write [...] around it")
        if isinstance(ack, Mapping):
            raise WrongType("ack: expected a list of rules, got one; write [...] around it")
        if replay is None and replay_endpoint is not None:
            raise ValueError("replay_endpoint says whose messages of a `replay`; there is none")
        source = messages if replay is None else load_recording(replay, replay_endpoint)
        self._source = Source(source, rate=rate, loop=loop)
        self._resume, self._after_subscribe = resume, after_subscribe
        self._authority = (authority or process_authority()) if tls else None
        self._ledger = Ledger()
        self._dialect = str(dialect)
        self._venue: Venue | None = None
        if dialect:
            folder = str(Path(self._dialect).resolve().parent) if is_path(self._dialect) else ""
            self._venue = Venue(
                load_dialect(self._dialect), self._source.listed, self._ledger, pace=pace, grace=grace, folder=folder
            )
            self._venue.orders.login_required = login_required
        self._pace = pace
        self._house = House(
            manners=Manners(deflate=deflate or False),
            ledger=self._ledger,
            answer=compile_script([] if ack is None and dialect else ack),
            welcome=tuple(encode_message(frame) for frame in welcome),
            subprotocol=subprotocol,
            tls_context=_tls_context(self._authority, certificate) if self._authority else None,
            coalesce=coalesce,
        )
        self._host, self._port = host, port
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop
        self._server: Server
        self._faults: list[BaseException] = []

    # life

    def start(self) -> Self:
        """Listens. Raises `OSError` where the port is taken, `RuntimeError` where it runs already."""
        if self._thread:
            raise RuntimeError("the exchange runs already")
        started: Future[int] = Future()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve(started)), name="exchange", daemon=True)
        self._thread.start()
        try:
            self._port = started.result(_CALL_TIMEOUT)
        except OSError:
            self._thread.join()
            self._thread = None
            raise
        return self

    def stop(self) -> None:
        """Drops everybody and ends the thread; does nothing where it does not run.

        Raises the first fault of the exchange's own doing: of a message generator, of an `ack` callable.
        """
        thread, self._thread = self._thread, None
        if thread is None:
            return
        self._loop.call_soon_threadsafe(self._stopping.set)
        thread.join(_CALL_TIMEOUT)
        if thread.is_alive():
            raise RuntimeError("the exchange's thread does not end; an ack callable or a message generator must be blocking it")
        if self._faults:
            raise self._faults.pop()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    # what it is

    @property
    def port(self) -> int:
        """The TCP port; 0 before the first start of one without a fixed port."""
        return self._port

    @property
    def url(self) -> str:
        """ws:// or wss://, by address."""
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"{'wss' if self._authority else 'ws'}://{host}:{self._port}/"

    @property
    def ca_file(self) -> str:
        """Path of the authority's PEM, removed when the process exits; empty for ws://."""
        return ca_file(self._authority) if self._authority else ""

    @property
    def ca_pem(self) -> str:
        """The authority's certificate itself; empty for ws://."""
        return self._authority.pem if self._authority else ""

    def endpoint(self, name: str, **settings: Any) -> Endpoint:
        """An `Endpoint` that connects here; `settings` are an endpoint's own. `url` and `tls.ca_file` are filled in, and where
        there is a dialect `dialect`, and how often the heartbeats come at the exchange's `pace`."""
        settings.setdefault("url", self.url)
        if self._venue:
            settings.setdefault("dialect", self._dialect)
            own = settings.get("heartbeat", {})
            if self._pace != 1.0 and isinstance(own, Mapping):
                settings["heartbeat"] = {**self._venue.paced_heartbeat(self._pace), **own}
        if self._authority:
            given = settings.get("tls", {})
            tls = Tls(**given) if isinstance(given, Mapping) else given
            settings["tls"] = tls if tls.ca_file else replace(tls, ca_file=self.ca_file)
        return Endpoint(name, **settings)

    # data on command

    def send(self, data: Frame, *, connection: int | None = None) -> None:
        """A message now, on all connections or one: str as text, bytes as binary."""
        frame = encode_message(data)
        self._each(connection, lambda c: c.send_messages([frame]))

    def _push(self, message: Frame, connection: int | None) -> None:
        frame = encode_message(message)
        self._each(connection, lambda c: c.send_answers([frame]))

    def ping(self, payload: bytes = b"", *, connection: int | None = None) -> None:
        """A protocol ping."""
        self._each(connection, lambda c: c.send_frames([encode_frame(PING, payload)]))

    def raw(self, data: bytes, *, connection: int | None = None) -> None:
        """Bytes as they are, inside TLS where there is TLS: for violations of the protocol."""
        self._each(connection, lambda c: c.send_frames([data]))

    def flood(
        self, rate: float | None = None, duration: float = 1.0, *, size: int = 200, connection: int | None = None
    ) -> None:
        """Starts sending made-up messages of `size` bytes besides the feed, `rate` per second or as fast as they are taken,
        for `duration` seconds."""
        self._call(lambda server: server.flood(rate, duration, size, connection))

    def pause(self) -> None:
        """A quiet market: no data, while pings and subscriptions are answered. The feed's clock stands still."""
        self._call(Server.pause)

    def resume(self) -> None:
        """The feed goes on where it was paused."""
        self._call(Server.resume)

    def hold_answers(self, on: bool = True) -> None:
        """Holds back what the script answers from now on; `on=False` ends that and sends what was held back."""
        self._set("hold_answers", on)
        if not on:
            self._each(None, lambda c: c.release_answers())

    # misbehaviour of open connections

    def mute(self, *, connection: int | None = None) -> None:
        """Those now open: TCP stays up, but nothing more is sent, no pongs and no answer to a close frame either.

        What was on its way already arrives. A feed of its own waits for `unmute`; a common one's messages are lost.
        """
        self._each(connection, lambda c: c.mute())

    def mute_mid_frame(self, *, connection: int | None = None) -> None:
        """The same, in the middle of a frame: the feed's next one, or a made-up one where there is none."""

        def mute(server: Server) -> None:
            for target in server.select(connection):
                server.mute_mid_frame(target)

        self._call(mute)

    def unmute(self, *, connection: int | None = None) -> None:
        """Ends `mute` and `mute_mid_frame`; a frame that was cut gets its rest."""
        self._each(connection, lambda c: c.unmute())

    def drop(self, *, connection: int | None = None) -> None:
        """Closes TCP without a close frame."""
        self._each(connection, lambda c: c.drop())

    def reset(self, *, connection: int | None = None) -> None:
        """Ends TCP with a RST."""
        self._each(connection, lambda c: c.reset())

    def close(self, code: int | None = 1000, reason: str = "", *, connection: int | None = None) -> None:
        """Closes as RFC 6455 §7 wants: close frame, the client's answer (5 s), end of TCP. Any code is sent as given."""
        self._each(connection, lambda c: c.close(code, reason))

    # misbehaviour from now on, until it is switched off

    def refuse(
        self, status: int = 503, headers: Mapping[str, str] | None = None, body: str | bytes = b"", *, times: int | None = None
    ) -> None:
        """Answers the next `times` handshakes (None: all) with this HTTP status. `status=0` ends it."""
        content = body.encode() if isinstance(body, str) else body
        refusal = Refusal(status, dict(headers or {}), content, times) if status else None
        self._set("refusal", refusal)

    def redirect(self, url: str, *, times: int | None = None) -> None:
        """Answers handshakes with 302 to `url`; an empty one ends it."""
        self.refuse(302 if url else 0, {"Location": url}, times=times)

    def slow(self, bytes_per_second: float | None) -> None:
        """Everything is sent at this pace, handshakes too; None ends it."""
        self._call(lambda server: server.slow(bytes_per_second))

    def accept_and_drop(self, on: bool = True) -> None:
        """TCP connections are accepted and closed at once."""
        self._set("accept_and_drop", on)

    def ignore_pings(self, on: bool = True) -> None:
        """Pings get no pong."""
        self._set("ignore_pings", on)

    def half_handshake(self, on: bool = True, *, at: HalfHandshake = "http") -> None:
        """Sends half of the HTTP response, or half of the TLS server's first words (`at="tls"`), and then nothing."""
        self._set("half_handshake", at if on else None)

    def wrong_accept(self, on: bool = True) -> None:
        """A `Sec-WebSocket-Accept` that does not belong to the key."""
        self._set("wrong_accept", on)

    def missing_upgrade(self, on: bool = True) -> None:
        """A 101 without `Upgrade`."""
        self._set("missing_upgrade", on)

    def huge_headers(self, on: bool = True) -> None:
        """A response with a header of 256 KiB."""
        self._set("huge_headers", on)

    def http10(self, on: bool = True) -> None:
        """The response says HTTP/1.0."""
        self._set("http10", on)

    # between the threads

    async def _serve(self, started: Future[int]) -> None:
        self._loop = asyncio.get_running_loop()
        self._loop.set_exception_handler(lambda _, context: self._note_fault(_fault(context)))
        self._stopping = asyncio.Event()
        self._server = Server(
            self._house, self._source, resume=self._resume, after_subscribe=self._after_subscribe, venue=self._venue
        )
        try:
            started.set_result(await self._server.listen(self._host, self._port))
        except OSError as error:
            started.set_exception(error)
            return
        await self._stopping.wait()
        try:
            await self._server.shut()
        except Exception as error:  # noqa: BLE001 - of the user's generator; raised by stop()
            self._note_fault(error)

    def _note_fault(self, error: BaseException) -> None:
        if not self._faults:  # the first tells most
            self._faults.append(error)

    def _call(self, command: Callable[[Server], T]) -> T:
        if self._thread is None:
            raise RuntimeError("the exchange does not run; use `with Exchange(...) as ex:`")
        if threading.current_thread() is self._thread:  # an ack callable that commands its own exchange
            return command(self._server)
        done: Future[T] = Future()

        def run() -> None:
            try:
                done.set_result(command(self._server))
            except Exception as error:  # noqa: BLE001 - raised in the caller's thread
                done.set_exception(error)

        self._loop.call_soon_threadsafe(run)
        return done.result(_CALL_TIMEOUT)

    def _each(self, connection: int | None, command: Callable[[Any], None]) -> None:
        def run(server: Server) -> None:
            for target in server.select(connection):
                command(target)

        self._call(run)

    def _set(self, manner: str, value: object) -> None:
        self._call(lambda server: setattr(server.manners, manner, value))

    def _tell(self, order: Callable[[Venue], None]) -> None:
        venue = self._venue
        if venue is None:
            raise ValueError("this exchange speaks no dialect: give it one, Exchange(dialect=...)")
        if self._thread is None:
            order(venue)
        else:
            self._call(lambda _: order(venue))


def _fault(context: dict[str, Any]) -> BaseException:
    error = context.get("exception")
    return error if isinstance(error, BaseException) else RuntimeError(context["message"])


@cache
def _tls_context(authority: Authority, certificate: CertificateKind) -> ssl.SSLContext:
    return server_context(authority, certificate)
