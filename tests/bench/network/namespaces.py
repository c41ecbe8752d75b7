"""Whether network namespaces can be had here, and how."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path


def command() -> list[str]:
    """Runs what follows in a network namespace of its own."""
    return ["unshare", "--net"] if os.geteuid() == 0 else ["unshare", "--user", "--map-root-user", "--net"]


@cache
def why_not() -> str:
    """Why there are none; empty where there are."""
    if sys.platform != "linux":
        return "network namespaces are Linux's"
    missing = [name for name in ("unshare", "ip") if shutil.which(name) is None]
    if missing:
        return f"there is no {missing[0]} here"
    if not Path("/dev/net/tun").exists():
        return "there is no /dev/net/tun"
    tried = subprocess.run(
        [*command(), "ip", "tuntap", "add", "dev", "try0", "mode", "tun"], capture_output=True, text=True, check=False
    )
    return f"no network namespace with a TUN device: {tried.stderr.strip()}" if tried.returncode else ""
