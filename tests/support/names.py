"""Names of a test's own, which owners resolve to addresses of the test's choice."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tests.support.owned import Owned
from wsadapter.contract.endpoint import Endpoint


class Names:
    """Lets owners resolve names of a test's own."""

    def __init__(self, folder: Path, names: dict[str, Sequence[str]]) -> None:
        (folder / "names.py").write_text(
            f"import socket\nNAMES = {names!r}\nreal = socket.getaddrinfo\n"
            "def getaddrinfo(host, *rest):\n"
            "    return [found for name in NAMES.get(host, [host]) for found in real(name, *rest)]\n"
            "socket.getaddrinfo = getaddrinfo\n"
            "def hook(data, *, binary, stream): return data\n"
        )
        self._folder = folder

    def connect(self, owned: Owned, url: str, **settings: object) -> None:
        endpoint = Endpoint("feed", url=url, decode="names:hook", **settings)  # type: ignore[arg-type]
        owned.assign(endpoint, sys_path=(str(self._folder),))
