"""Local exchanges for demonstrations: `wsadapter.testing` in another process, and a configuration that connects to them.

No network is needed: they replay the bundled recordings of real exchanges over real TLS sockets, at the recorded pace, and
speak those exchanges' dialects.
"""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from time import monotonic
from types import MappingProxyType, TracebackType
from typing import IO, Any, Final, NamedTuple, Self

from wsadapter.contract.endpoint import Subscription
from wsadapter.contract.errors import WsAdapterError
from wsadapter.control.instance import runtime_folder


class DemoFeed(NamedTuple):
    """One local exchange, and the streams that are subscribed there."""

    recording: str
    dialect: str
    subscribe: tuple[Subscription, ...]


def _books(*names: str) -> tuple[Subscription, ...]:
    return tuple({"channel": "books-l2-tbt", "instId": name} for name in names)


FEEDS: Final[Mapping[str, DemoFeed]] = MappingProxyType({
    "binance": DemoFeed(
        "binance", "binance", ("manausdt@bookTicker", "manausdt@depth@100ms", "zilusdt@depth@100ms", "dentusdt@aggTrade")
    ),
    "coinbase": DemoFeed(
        "coinbase", "coinbase_exchange",
        tuple({"channels": ["level2_batch"], "product_ids": [product]} for product in ("SKL-USD", "DASH-BTC", "YFI-BTC")),
    ),
    "bybit": DemoFeed("bybit", "bybit", ("orderBookL2_25.LTCUSDT", "orderBookL2_25.ETHUSDT", "orderBookL2_25.XTZUSDT")),
    "okx": DemoFeed("okx", "okx", _books("ELON-USDT", "UNI-USD-SWAP", "ZEN-USDT")),
    "htx": DemoFeed("htx", "htx", ("market.trioeth.depth.step0", "market.borusdt.depth.step0", "market.omgbtc.depth.step0")),
})  # fmt: skip
"""Each an exchange of that name."""
_SERVE: Final = (sys.executable, "-m", "wsadapter.testing", "serve", "--loop", "--live", "--until-eof")
_START_TIMEOUT: Final = 30.0
_ANSWER_TIMEOUT: Final = 10.0
_END_TIMEOUT: Final = 5.0


class ExchangesFailed(WsAdapterError):
    """The process of the local exchanges did not start, or has ended."""


class LocalExchanges:
    """While it is entered, the exchanges run; their process ends with this one, however this one ends."""

    def __init__(self, folder: Path) -> None:
        """`folder` takes the certificate and what the process has to say. Without the extra `testing`, which makes the
        certificates, the exchanges are at ws:// and not at wss:// addresses."""
        self._tls = ("--tls",) if find_spec("trustme") is not None else ()
        self.ca_file = folder / "ca.pem"
        self.urls: dict[str, str] = {}
        """The address of each."""
        self._log = folder / "exchanges.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._unread = b""

    def __enter__(self) -> Self:
        feeds = [f"{name}={feed.recording}@{feed.dialect}" for name, feed in FEEDS.items()]
        words = [word for feed in feeds for word in ("--feed", feed)]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(  # noqa: S603 - our own module
                [*_SERVE, *self._tls, *words, "--ca-file", str(self.ca_file)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,  # Ctrl-C is not for them: they are there until the last connection is closed
            )
        try:
            self.urls = self._read_answer(_START_TIMEOUT)["exchanges"]
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def command(self, line: str) -> dict[str, Any]:
        """Have an exchange misbehave: "kraken mute"; `python -m wsadapter.testing serve --help` knows more.

        Raises `ExchangesFailed`.
        """
        try:
            self._pipes()[0].write(line.encode() + b"\n")
            self._pipes()[0].flush()
        except OSError as error:
            raise ExchangesFailed(f"the local exchanges have ended ({error}){self._last_words()}") from error
        answer = self._read_answer(_ANSWER_TIMEOUT)
        if not answer["ok"]:
            raise ExchangesFailed(f"{line}: {answer['error']}")
        return answer

    def close(self) -> None:
        """End the process."""
        process, self._process = self._process, None
        if process is None:
            return
        assert process.stdin is not None
        assert process.stdout is not None
        with suppress(BrokenPipeError):  # the process has ended: the unwritten rest has no reader
            process.stdin.close()
        try:
            process.wait(_END_TIMEOUT)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()

    def _pipes(self) -> tuple[IO[bytes], IO[bytes]]:
        process = self._process
        if process is None or process.stdin is None or process.stdout is None:
            raise ExchangesFailed("the local exchanges do not run")
        return process.stdin, process.stdout

    def _read_answer(self, timeout: float) -> dict[str, Any]:
        deadline = monotonic() + timeout
        source = self._pipes()[1]
        with selectors.DefaultSelector() as selector:
            selector.register(source, selectors.EVENT_READ)
            while b"\n" not in self._unread:
                if not selector.select(max(0.0, deadline - monotonic())):
                    raise ExchangesFailed(f"the local exchanges do not answer{self._last_words()}")
                chunk = source.read1(65536)  # type: ignore[attr-defined]
                if not chunk:
                    raise ExchangesFailed(f"the local exchanges ended{self._last_words()}")
                self._unread += chunk
        line, _, self._unread = self._unread.partition(b"\n")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _last_words(self) -> str:
        said = self._log.read_text(errors="replace").strip()
        return f": {said[-2000:]}" if said else ""


def configuration(urls: Mapping[str, str], ca_file: Path, name: str) -> str:
    """An ordinary configuration that connects to local exchanges."""
    endpoints = "\n".join(_endpoint(name, url) for name, url in urls.items())
    secure = any(url.startswith("wss:") for url in urls.values())
    tls = f"[defaults.tls]\nca_file = {json.dumps(str(ca_file))}\n\n" if secure else ""
    return (
        f"[supervisor]\nname = {json.dumps(name)}\n\n"
        f'[exporter]\nlisten = "127.0.0.1:0"\n\n'
        f'[defaults]\nproxy = "none" # the exchanges are on this machine, whatever the environment says of proxies\n'
        f"gap_check = false # the recordings start over, and the numbers in them\n\n"
        f"{tls}[defaults.restart]\nbackoff_max = 2\n\n"
        f"{endpoints}"
    )


def _endpoint(name: str, url: str) -> str:
    streams = "".join(f"    {_toml(stream)},\n" for stream in FEEDS[name].subscribe)
    return (
        f"[endpoints.{name}]\nurl = {json.dumps(url)}\ndialect = {json.dumps(FEEDS[name].dialect)}\nsubscribe = [\n{streams}]\n"
    )


def _toml(stream: Subscription) -> str:
    """A string, or a table of strings and lists of them."""
    if isinstance(stream, str):
        return json.dumps(stream)
    return "{ " + ", ".join(f"{key} = {json.dumps(value)}" for key, value in stream.items()) + " }"


@contextmanager
def demonstration(name: str | None) -> Iterator[Path]:
    """Local exchanges, running, and the path of a configuration for them; both are removed at the end.

    Without a `name` it gets one that no other demonstration has.
    """
    own = f"demo-{os.getpid()}"
    with tempfile.TemporaryDirectory(prefix="wsadapter-demo-") as folder, LocalExchanges(Path(folder)) as exchanges:
        path = Path(folder, "demo.toml")
        path.write_text(configuration(exchanges.urls, exchanges.ca_file, name or own))
        try:
            yield path
        finally:
            # Lock files stay, or two could hold "the" lock. Nobody else ever wants this one.
            if (where := runtime_folder("")) is not None:
                (where / f"{own}.lock").unlink(missing_ok=True)
