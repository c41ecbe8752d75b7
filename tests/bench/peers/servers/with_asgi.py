"""python with_asgi.py SERVER: one of uvicorn, uvicorn-wsproto, hypercorn, daphne, granian."""

import asyncio
import os
import socket
import sys
from importlib.metadata import version
from pathlib import Path

from behaviour import say

_LARGEST = 64 * 1024 * 1024


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as held:
        return held.getsockname()[1]


def uvicorn(implementation):
    import uvicorn
    from asgi_app import app

    config = uvicorn.Config(
        app, port=port, ws=implementation, ws_ping_interval=0.5, ws_ping_timeout=5, ws_max_size=_LARGEST, log_level="warning"
    )
    uvicorn.Server(config).run()


def hypercorn():
    import hypercorn.asyncio
    from asgi_app import app

    config = hypercorn.Config()
    config.bind = [f"127.0.0.1:{port}"]
    config.websocket_ping_interval = 0.5
    config.websocket_max_message_size = _LARGEST
    config.loglevel = "WARNING"
    asyncio.run(hypercorn.asyncio.serve(app, config))


def run_command(*words):
    program = Path(sys.executable).with_name(words[0])
    os.chdir(Path(__file__).parent)
    os.execv(program, words)


kind = sys.argv[1]
port = free_port()
wsproto = f"(wsproto {version('wsproto')})" if kind in ("hypercorn", "uvicorn-wsproto") else ""
say("version", version(kind.partition("-")[0]), wsproto)
say("listening", port)  # soon
if kind == "uvicorn":
    uvicorn("websockets")
elif kind == "uvicorn-wsproto":
    uvicorn("wsproto")
elif kind == "hypercorn":
    hypercorn()
elif kind == "daphne":
    run_command(
        "daphne", "-b", "127.0.0.1", "-p", str(port), "-v", "0", "--ping-interval", "1", "--ping-timeout", "5", "asgi_app:app"
    )
else:
    run_command(
        "granian", "--interface", "asgi", "--host", "127.0.0.1", "--port", str(port), "--log-level", "error", "asgi_app:app"
    )
