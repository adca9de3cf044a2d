"""
Signing secrets as Standard Webhooks 1.0 writes them: ``whsec_…`` for ``v1`` (HMAC-SHA256), ``whsk_…`` and ``whpk_…`` for ``v1a`` (Ed25519).

The prefix says how a secret signs, so that secrets of both kinds may sign while one takes the other's place. Pure.
Source: https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md, "Signature scheme"; RFC 8032.
"""

from __future__ import annotations

import binascii
import secrets
from base64 import b64decode, b64encode
from collections.abc import Callable

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

SCHEMES = ("v1", "v1a")
PREFIXES = {"v1": "whsec_", "v1a": "whsk_"}
PUBLIC_PREFIX = "whpk_"
RULES = {
    "v1": "must be whsec_ and then 24 to 64 bytes in base64",
    "v1a": "must be whsk_ and then an Ed25519 key pair or its seed (64 or 32 bytes) in base64",
}
SECRET_BYTES = 32


class BadSecret(ValueError):
    """The text is no signing secret; the message says what would be right and does not hold it."""


def scheme_of(secret: str) -> str:
    """How a secret signs: ``v1`` or ``v1a``."""
    return "v1a" if secret.startswith(PREFIXES["v1a"]) else "v1"


def key_of(secret: str) -> bytes:
    """
    The key that a secret stands for: 24 to 64 bytes for HMAC, the 32 of the seed for Ed25519.

    Raises:  BadSecret.
    """
    scheme = scheme_of(secret)
    text = secret.removeprefix(PREFIXES[scheme])
    try:
        key = b64decode(text + "=" * (-len(text) % 4), validate=True) if text != secret else b""
    except (binascii.Error, ValueError):
        key = b""
    is_key = 24 <= len(key) <= 64 if scheme == "v1" else _is_pair(key)
    if not is_key:
        raise BadSecret(RULES[scheme])
    return key if scheme == "v1" else key[:SECRET_BYTES]


def check_secret(secret: str, scheme: str) -> str:
    """
    The secret, when it is one for this scheme.

    Raises:  BadSecret.
    """
    if not secret.startswith(PREFIXES[scheme]):
        raise BadSecret(RULES[scheme])
    key_of(secret)
    return secret


def new_secret(scheme: str = "v1", token_bytes: Callable[[int], bytes] = secrets.token_bytes) -> str:
    """A secret of 32 random bytes; for Ed25519 with the public key behind them."""
    key = token_bytes(SECRET_BYTES)
    return PREFIXES[scheme] + b64encode(key if scheme == "v1" else key + _public(key)).decode()


def public_key_of(secret: str) -> str | None:
    """What receivers verify with, ``whpk_…``; None for HMAC, where they need the secret itself."""
    return PUBLIC_PREFIX + b64encode(_public(key_of(secret))).decode() if scheme_of(secret) == "v1a" else None


def _is_pair(key: bytes) -> bool:
    seed, public = key[:SECRET_BYTES], key[SECRET_BYTES:]
    return len(seed) == SECRET_BYTES and public in (b"", _public(seed))


def _public(seed: bytes) -> bytes:
    return Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw()
