"""An exchange to test against: real sockets, ws:// or wss://, and every kind of misbehaviour on command.

    with Exchange(replay="binance", rate="real", tls=True) as ex:
        with Supervisor([ex.endpoint("binance")]) as feed:
            ...
            ex.mute()                       # TCP stays up, nothing more comes
            ex.wait_connections(1)

It listens on the loopback interface and runs in a thread with its own event loop.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from wsadapter.config.dialect import is_path, load_dialect
from wsadapter.contract.endpoint import Endpoint, Tls
from wsadapter.contract.errors import WrongType
from wsadapter.testing.certificates import Authority, CertificateKind, ca_file, process_authority, server_context
from wsadapter.testing.context import ExchangeContext
from wsadapter.testing.controls import ConnectionControls, ServerControls
from wsadapter.testing.dialect.answer_controls import AnswerControls
from wsadapter.testing.dialect.client_driver import DialectServer
from wsadapter.testing.dialect.stream_controls import StreamControls
from wsadapter.testing.feed import Messages, MessageSource, Rate
from wsadapter.testing.frames import encode_message
from wsadapter.testing.handshake import Misbehaviour
from wsadapter.testing.journal import Journal
from wsadapter.testing.observed import Observations
from wsadapter.testing.recording import load_recording
from wsadapter.testing.script import Frame, Script, compile_script
from wsadapter.testing.server import Resume, Server
from wsadapter.testing.server_thread import ServerThread

T = TypeVar("T")


class Exchange(Observations, ConnectionControls, ServerControls, StreamControls, AnswerControls):
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
    as exchanges send; `coalesce` puts many in one. `certificate`: "valid", or its fault.

    All methods may be called from any thread. Before `start()` and after `stop()` they raise `RuntimeError`, except the
    inspection. An exchange that is stopped and started again listens on the same port.
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
            raise ValueError("replay_endpoint selects an endpoint of a `replay`; there is no `replay`")
        source = messages if replay is None else load_recording(replay, replay_endpoint)
        self._source = MessageSource(source, rate=rate, loop=loop)
        self._resume, self._after_subscribe = resume, after_subscribe
        self._authority = (authority or process_authority()) if tls else None
        self._journal = Journal()
        self._dialect = str(dialect)
        self._dialect_server: DialectServer | None = None
        if dialect:
            folder = str(Path(self._dialect).resolve().parent) if is_path(self._dialect) else ""
            self._dialect_server = DialectServer(
                load_dialect(self._dialect), self._source.listed, self._journal, pace=pace, grace=grace, folder=folder
            )
            self._dialect_server.overrides.login_required = login_required
        self._pace = pace
        self._context = ExchangeContext(
            misbehaviour=Misbehaviour(deflate=deflate or False),
            journal=self._journal,
            answer=compile_script([] if ack is None and dialect else ack),
            welcome=tuple(encode_message(frame) for frame in welcome),
            subprotocol=subprotocol,
            tls_context=_tls_context(self._authority, certificate) if self._authority else None,
            coalesce=coalesce,
        )
        self._host, self._port = host, port
        self._run: ServerThread | None = None
        """From `start` to `stop`."""

    # life

    def start(self) -> Self:
        """Listen. Raises `OSError` if the port is taken, `RuntimeError` if the exchange runs already."""
        if self._run:
            raise RuntimeError("the exchange runs already")
        self._run = ServerThread(self._make_server, self._host, self._port)
        self._port = self._run.port
        return self

    def stop(self) -> None:
        """Drop every client and end the thread; does nothing if the exchange does not run.

        Raises the first error of user code in the exchange: of a message generator, of an `ack` callable.
        """
        run, self._run = self._run, None
        if run is not None:
            run.stop()

    def _make_server(self) -> Server:
        return Server(
            self._context,
            self._source,
            resume=self._resume,
            after_subscribe=self._after_subscribe,
            dialect_server=self._dialect_server,
        )

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    def _call(self, command: Callable[[Server], T]) -> T:
        if self._run is None:
            raise RuntimeError("the exchange does not run; use `with Exchange(...) as ex:`")
        return self._run.call(command)

    def _override(self, change: Callable[[DialectServer], None]) -> None:
        dialect_server = self._dialect_server
        if dialect_server is None:
            raise ValueError("this exchange has no dialect: give it one, Exchange(dialect=...)")
        if self._run is None:
            change(dialect_server)
        else:
            self._run.call(lambda _: change(dialect_server))

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
        if self._dialect_server:
            settings.setdefault("dialect", self._dialect)
            own = settings.get("heartbeat", {})
            if self._pace != 1.0 and isinstance(own, Mapping):
                settings["heartbeat"] = {**self._dialect_server.paced_heartbeat(self._pace), **own}
        if self._authority:
            given = settings.get("tls", {})
            tls = Tls(**given) if isinstance(given, Mapping) else given
            settings["tls"] = tls if tls.ca_file else replace(tls, ca_file=self.ca_file)
        return Endpoint(name, **settings)


@cache
def _tls_context(authority: Authority, certificate: CertificateKind) -> ssl.SSLContext:
    return server_context(authority, certificate)
