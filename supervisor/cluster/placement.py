"""The order of the hosts for an endpoint: rendezvous hashing by weight.

Each host computes the same order from the same names, without messages to the others. If a host leaves, only its endpoints
move. Source: Schindelhauer and Schomaker, "Weighted Distributed Hash Tables", 2005: score = -weight / ln(hash).
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from hashlib import blake2b
from math import log


def order(endpoint: str, weights: Mapping[str, float]) -> list[str]:
    """The hosts for an endpoint, the first choice first. `weights`: of each host, more than 0; equal scores by name."""
    return sorted(weights, key=lambda host: (-_score(endpoint, host, weights[host]), host))


@lru_cache(maxsize=4096)
def _score(endpoint: str, host: str, weight: float) -> float:
    # The length in front keeps ("ab", "c") and ("a", "bc") apart.
    key = f"{len(endpoint)}:{endpoint}{host}".encode()
    uniform = (int.from_bytes(blake2b(key, digest_size=8).digest()) + 0.5) / 2**64
    return -weight / log(uniform)
