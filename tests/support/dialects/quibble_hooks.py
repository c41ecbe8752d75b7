"""What Quibble's dialect can't say as data. It lies beside the dialect, where owners find it."""

from __future__ import annotations

import hashlib
import hmac

from wsadapter.worker.hooks import Signing


def proof(signing: Signing) -> str:
    """The answer to the riddle, which the frame repeats."""
    return hmac.new(signing.login["secret"].encode(), signing.frame["riddle"].encode(), hashlib.sha256).hexdigest()
