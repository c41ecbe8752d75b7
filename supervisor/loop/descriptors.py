"""Closing what descriptors lead to while other code still holds their numbers."""

from __future__ import annotations

import os
from collections.abc import Iterable


def redirect_to_null(fds: Iterable[int]) -> None:
    """Redirect `fds` to /dev/null: their files are closed, and their numbers stay in use until their holders close them. If the
    numbers became free now, the holders would later close descriptors that somebody else has opened in the meantime."""
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    for fd in fds:
        os.dup2(null, fd, inheritable=False)
    os.close(null)
