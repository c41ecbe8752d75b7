"""A real Prometheus with the files of ops/examples, faster: it scrapes each second, and alerts wait two seconds at most."""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self
from urllib.error import URLError
from urllib.parse import urlencode
from urllib.request import urlopen

from tests.support.waiting import wait_until

EXAMPLES: Final = Path(__file__).resolve().parents[2] / "ops/examples"
PROGRAM: Final = shutil.which("prometheus")
_START: Final = 30.0


class Prometheus:
    """One server, on its own port, that scrapes one exporter."""

    def __init__(self, folder: Path, exporter: int) -> None:
        """`exporter`: its port on 127.0.0.1."""
        folder.mkdir()
        config = (EXAMPLES / "prometheus.yaml").read_text("utf-8").replace("_interval: 10s", "_interval: 1s")
        assert "127.0.0.1:9464" in config
        (folder / "prometheus.yml").write_text(config.replace("127.0.0.1:9464", f"127.0.0.1:{exporter}"))
        alerts = (EXAMPLES / "alerts.yaml").read_text("utf-8")
        (folder / "alerts.yaml").write_text(re.sub(r"\n( +)for: \w+", r"\n\1for: 2s", alerts))
        with socket.create_server(("127.0.0.1", 0)) as free:
            self._port = free.getsockname()[1]
        self._folder = folder

    def __enter__(self) -> Self:
        assert PROGRAM is not None
        command = [
            PROGRAM, "--config.file=prometheus.yml", "--storage.tsdb.path=data", f"--web.listen-address=127.0.0.1:{self._port}",
        ]  # fmt: skip
        log = self._folder / "log"
        with open(log, "wb") as out:
            self._process = subprocess.Popen(command, cwd=self._folder, stdout=out, stderr=out)
        wait_until(self._is_ready, _START, log.read_text)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._process.terminate()
        try:
            self._process.wait(_START)
        finally:
            self._process.kill()

    def _is_ready(self) -> bool:
        assert self._process.poll() is None, (self._folder / "log").read_text()
        try:
            with urlopen(f"http://127.0.0.1:{self._port}/-/ready", timeout=5) as answer:
                return bool(answer.status == 200)
        except URLError:
            return False

    def ask(self, path: str, **parameters: str) -> Any:
        """The `data` of an answer of its API. Raises `HTTPError` for a query that it refuses."""
        with urlopen(f"http://127.0.0.1:{self._port}/api/v1/{path}?{urlencode(parameters)}", timeout=10) as answer:
            return json.load(answer)["data"]

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The series that an expression has now."""
        found: list[dict[str, Any]] = self.ask("query", query=expression)["result"]
        return found

    def alerts(self) -> set[tuple[str, str]]:
        """Name and state of each alert that is not inactive."""
        return {(alert["labels"]["alertname"], alert["state"]) for alert in self.ask("alerts")["alerts"]}
