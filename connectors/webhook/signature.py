"""
Signatures of requests, Standard Webhooks 1.0: over id, timestamp and body, one for each secret that signs now.

Called by render.py for every attempt. What secrets look like is in schemas/signing.py.
Source: https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

from __future__ import annotations

import binascii
import hashlib
from collections.abc import Callable, Iterable

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from schemas.signing import key_of, scheme_of

Signer = Callable[[bytes, bytes], str]
"""The signed content in, in two parts, one signature with its version out."""

_BLOCK_BYTES = 64  # of SHA-256; no secret is longer (schemas/signing.py)
_INNER, _OUTER = bytes(byte ^ 0x36 for byte in range(256)), bytes(byte ^ 0x5C for byte in range(256))


def signer_of(secret: str) -> Signer:
    """
    What signs with this secret.

    Raises:  BadSecret.
    """
    key = key_of(secret)
    if scheme_of(secret) == "v1a":
        private = Ed25519PrivateKey.from_private_bytes(key)
        return lambda head, body: "v1a," + _base64(private.sign(head + body))
    return _hmac_signer(key)


def _hmac_signer(key: bytes) -> Signer:
    """
    HMAC-SHA256, for a key of one block at most (RFC 2104): what the key alone makes of it is computed once.

    Two hashes that are copied take half the time of an HMAC of OpenSSL's that is.
    """
    block = key.ljust(_BLOCK_BYTES, b"\0")
    inner_copy, outer_copy = hashlib.sha256(block.translate(_INNER)).copy, hashlib.sha256(block.translate(_OUTER)).copy

    def signer(head: bytes, body: bytes) -> str:
        inner = inner_copy()
        inner.update(head)
        inner.update(body)
        outer = outer_copy()
        outer.update(inner.digest())
        return "v1," + _base64(outer.digest())

    return signer


def signing(found: Iterable[tuple[Signer, int | None]], now: float) -> list[Signer]:
    """Those of the signers, each with the time it signs until (µs since 1970, None: for good), that sign now (seconds since 1970)."""
    return [signer for signer, until_us in found if until_us is None or until_us > now * 1_000_000]


def sign(signers: Iterable[Signer], webhook_id: str, timestamp_s: int, body: bytes) -> str:
    """The ``webhook-signature`` header: one signature a signer, with spaces between."""
    head = f"{webhook_id}.{timestamp_s}.".encode()
    return " ".join([signer(head, body) for signer in signers])


def _base64(data: bytes) -> str:
    return binascii.b2a_base64(data, newline=False).decode()
