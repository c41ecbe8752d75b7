"""Private keys in PEM, and signatures by them. The package `cryptography` is imported only if there is such a key."""

from __future__ import annotations

import base64
from typing import Any

from wsadapter.worker.hooks import LoginRefused

_BEGINS = "-----BEGIN"


def is_pem(secret: str) -> bool:
    """Whether it is a key in PEM (RFC 7468)."""
    return secret.lstrip().startswith(_BEGINS)


def es256(secret: str, text: bytes, *, extra: str) -> bytes:
    """ECDSA on P-256 over SHA-256: r and s, 32 bytes each (RFC 7518 §3.4). `secret`: PEM, of either form (SEC 1, PKCS 8).
    `extra`: the extra of this package that installs `cryptography`. Raises `LoginRefused`."""
    key = _loaded(secret, extra)
    from cryptography.hazmat.primitives.asymmetric import ec, utils
    from cryptography.hazmat.primitives.hashes import SHA256

    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise LoginRefused("the secret is not a private key on the curve P-256")
    r, s = utils.decode_dss_signature(key.sign(text, ec.ECDSA(SHA256())))
    return r.to_bytes(32) + s.to_bytes(32)


def base64_signature(secret: str, text: bytes, *, extra: str) -> str:
    """By Ed25519 (RFC 8032), or RSA PKCS #1 v1.5 over SHA-256 (RFC 8017), as the key is. As for `es256`."""
    key = _loaded(secret, extra)
    from cryptography.hazmat.primitives.asymmetric import ed25519, padding, rsa
    from cryptography.hazmat.primitives.hashes import SHA256

    if isinstance(key, ed25519.Ed25519PrivateKey):
        signature = key.sign(text)
    elif isinstance(key, rsa.RSAPrivateKey):
        signature = key.sign(text, padding.PKCS1v15(), SHA256())
    else:
        raise LoginRefused("the secret is neither an Ed25519 nor an RSA private key")
    return base64.b64encode(signature).decode()


def _loaded(secret: str, extra: str) -> Any:
    try:
        from cryptography.hazmat.primitives.serialization import load_pem_private_key
    except ImportError:
        raise LoginRefused(f"this key needs the package cryptography: pip install wsadapter[{extra}]") from None
    text = secret.replace("\\n", "\n").strip()  # as keys are written on one line, in JSON and in the environment
    try:
        return load_pem_private_key(text.encode() + b"\n", password=None)
    except (ValueError, TypeError):  # the texts of these may hold some of the key
        raise LoginRefused("the secret is no private key in PEM without a password") from None
