"""ECDSA on the curve P-256 (FIPS 186-5, SEC 1), in plain Python: for the throw-away certificates of tests only.

Not constant-time, not reviewed, and never to be used for a key that matters: its only merit is that it needs no library.
One scalar multiplication takes about 2 ms.
"""

from __future__ import annotations

import secrets
from hashlib import sha256
from typing import Final

P: Final = 0xFFFFFFFF00000001000000000000000000000000FFFFFFFFFFFFFFFFFFFFFFFF
"""The field's prime."""
N: Final = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
"""The order of the base point."""
G: Final = (
    0x6B17D1F2E12C4247F8BCE6E563A440F277037D812DEB33A0F4A13945D898C296,
    0x4FE342E2FE1A7F9B8EE7EB4A7C0F9E162BCE33576B315ECECBB6406837BF51F5,
)
"""The base point."""

Point = tuple[int, int]
_Jacobian = tuple[int, int, int]
_INFINITY: Final[_Jacobian] = (1, 1, 0)


def new_private_key() -> int:
    """A random private key."""
    return secrets.randbelow(N - 1) + 1


def public_point(private_key: int) -> Point:
    """The public key that belongs to a private one."""
    return _multiply(private_key, G)


def sign(private_key: int, message: bytes) -> tuple[int, int]:
    """The signature (r, s) of SHA-256 of `message` (FIPS 186-5, 6.4.1)."""
    digest = int.from_bytes(sha256(message).digest())
    while True:
        nonce = new_private_key()
        r = _multiply(nonce, G)[0] % N
        s = pow(nonce, -1, N) * (digest + r * private_key) % N
        if r and s:  # either is 0 once in 2^256
            return r, s


def _multiply(scalar: int, point: Point) -> Point:
    result = _INFINITY
    for bit in f"{scalar:b}":
        result = _double(result)
        if bit == "1":
            result = _add(result, point)
    return _affine(result)


def _double(point: _Jacobian) -> _Jacobian:
    x, y, z = point
    zz, yy = z * z % P, y * y % P
    s = 4 * x * yy % P
    m = 3 * (x - zz) * (x + zz) % P  # a = -3
    x3 = (m * m - 2 * s) % P
    return x3, (m * (s - x3) - 8 * yy * yy) % P, 2 * y * z % P


def _add(left: _Jacobian, right: Point) -> _Jacobian:
    x1, y1, z1 = left
    x2, y2 = right
    if z1 == 0:
        return x2, y2, 1
    zz = z1 * z1 % P
    h = (x2 * zz - x1) % P
    r = (y2 * z1 * zz - y1) % P
    if h == 0:
        return _double(left) if r == 0 else _INFINITY
    hh = h * h % P
    hhh, v = h * hh % P, x1 * hh % P
    x3 = (r * r - hhh - 2 * v) % P
    return x3, (r * (v - x3) - y1 * hhh) % P, z1 * h % P


def _affine(point: _Jacobian) -> Point:
    x, y, z = point
    inverse = pow(z, -1, P)
    square = inverse * inverse % P
    return x * square % P, y * square * inverse % P
