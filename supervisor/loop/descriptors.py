"""Letting go of descriptors that other code still holds by number."""

from __future__ import annotations

import os
from collections.abc import Iterable


def blind(fds: Iterable[int]) -> None:
    """What they led to closes. Their numbers stay taken until those who hold them close them: a number that was free could
    have become somebody else's by then."""
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    for fd in fds:
        os.dup2(null, fd, inheritable=False)
    os.close(null)
