"""A real Chromium without a window, driven by its own protocol (Chrome DevTools) over one WebSocket."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final
from urllib.request import Request, urlopen

import websocket

from tests.support.waiting import wait_until

CHROMIUM: Final = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None
)
WHY_NOT: Final = "there is no Chromium here (Debian: apt-get install chromium)"
_START: Final = 60.0
_PATIENCE: Final = 60.0
_KEYS: Final = {"Enter": ("Enter", 13, "\r"), "Tab": ("Tab", 9, ""), "Escape": ("Escape", 27, ""), " ": ("Space", 32, " ")}


class Page:
    """One tab."""

    def __init__(self, connection: websocket.WebSocket) -> None:
        self._connection = connection
        self._number = 0
        self.complaints: list[str] = []
        """Errors of scripts, and what the browser logged as an error: a broken policy, a resource that is not there."""
        for domain in ("Page", "Runtime", "Log"):
            self.command(f"{domain}.enable")

    def command(self, method: str, **parameters: Any) -> dict[str, Any]:
        """One command of the protocol, and its result."""
        self._number += 1
        self._connection.send(json.dumps({"id": self._number, "method": method, "params": parameters}))
        while True:
            message = json.loads(self._connection.recv())
            if message.get("method") == "Runtime.exceptionThrown":
                self.complaints.append(json.dumps(message["params"]["exceptionDetails"])[:500])
            elif message.get("method") == "Log.entryAdded" and message["params"]["entry"]["level"] == "error":
                self.complaints.append(message["params"]["entry"]["text"])
            elif message.get("id") == self._number:
                assert "error" not in message, (method, message["error"])
                result: dict[str, Any] = message["result"]
                return result

    def open(self, url: str) -> None:
        """Go there; returns when the document is loaded."""
        self.command("Page.navigate", url=url)
        self.wait("document.readyState === 'complete' && location.href !== 'about:blank'")

    def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression."""
        result = self.command("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def wait(self, expression: str) -> None:
        """Until it is true."""
        wait_until(lambda: self.evaluate(expression), _PATIENCE, lambda: f"{expression}\n{self.text()[:3000]}")

    def text(self) -> str:
        """What a person reads."""
        return str(self.evaluate("document.body.innerText"))

    def look(self, width: int, height: int = 900, *, dark: bool = False) -> None:
        """The size of the window, and what the person prefers."""
        self.command("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.command("Emulation.setEmulatedMedia", features=[scheme])

    def press(self, key: str) -> None:
        """One key."""
        code, number, text = _KEYS.get(key, ("", ord(key.upper()[0]), key))
        common = {"key": key, "code": code, "windowsVirtualKeyCode": number}
        self.command("Input.dispatchKeyEvent", type="keyDown", text=text, **common)
        self.command("Input.dispatchKeyEvent", type="keyUp", **common)

    def picture(self, name: str) -> bytes:
        """A PNG of the whole page; kept under that name in the folder $WSADAPTER_PICTURES, for a person to look at."""
        data = base64.b64decode(self.command("Page.captureScreenshot", captureBeyondViewport=True)["data"])
        if folder := os.environ.get("WSADAPTER_PICTURES"):
            Path(folder, f"{name}.png").write_bytes(data)
        return data


@contextmanager
def browser() -> Iterator[Page]:
    """A separate Chromium with an empty profile, which is removed afterwards."""
    assert CHROMIUM is not None
    with tempfile.TemporaryDirectory(prefix="wsadapter-chromium-", ignore_cleanup_errors=True) as profile:
        process = subprocess.Popen(
            [
                CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
                "--disable-extensions", "--disable-background-networking", "--disable-component-update", "--disable-sync",
                "--no-proxy-server", "--remote-debugging-port=0", "--remote-allow-origins=*", f"--user-data-dir={profile}",
                "about:blank",
            ],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            env={**os.environ, "HOME": profile, "XDG_CONFIG_HOME": profile, "XDG_CACHE_HOME": profile},
        )  # fmt: skip
        try:
            port_file = Path(profile, "DevToolsActivePort")
            wait_until(
                lambda: port_file.exists() and port_file.read_text("utf-8").count("\n"), _START, "Chromium did not start"
            )
            port = int(port_file.read_text("utf-8").split()[0])
            with urlopen(Request(f"http://127.0.0.1:{port}/json/new", method="PUT"), timeout=30) as answer:
                target = json.loads(answer.read())
            connection = websocket.create_connection(target["webSocketDebuggerUrl"], timeout=_PATIENCE)
            try:
                page = Page(connection)
                yield page
                page.command("Browser.close")
            finally:
                connection.close()
            process.wait(30)
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
