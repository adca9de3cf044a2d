"""
Signatures of requests, Standard Webhooks 1.0: over id, timestamp and body, one for each secret that signs now.

Called by render.py for every attempt. What secrets look like is in schemas/signing.py.
Source: https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

from __future__ import annotations

import binascii
import hmac
from collections.abc import Callable, Iterable

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from schemas.signing import key_of, scheme_of

Signer = Callable[[bytes], str]
"""The signed content in, one signature with its version out."""


def signer_of(secret: str) -> Signer:
    """
    What signs with this secret.

    Raises:  BadSecret.
    """
    key = key_of(secret)
    if scheme_of(secret) == "v1a":
        private = Ed25519PrivateKey.from_private_bytes(key)
        return lambda content: "v1a," + _base64(private.sign(content))
    keyed = hmac.new(key, digestmod="sha256")  # what the key alone makes of it is computed once

    def signer(content: bytes) -> str:
        mac = keyed.copy()
        mac.update(content)
        return "v1," + _base64(mac.digest())

    return signer


def signing(found: Iterable[tuple[Signer, int | None]], now: float) -> list[Signer]:
    """Those of the signers, each with the time it signs until (µs since 1970, None: for good), that sign now (seconds since 1970)."""
    return [signer for signer, until_us in found if until_us is None or until_us > now * 1_000_000]


def sign(signers: Iterable[Signer], webhook_id: str, timestamp_s: int, body: bytes) -> str:
    """The ``webhook-signature`` header: one signature a signer, with spaces between."""
    content = b"%b.%d.%b" % (webhook_id.encode(), timestamp_s, body)
    return " ".join([signer(content) for signer in signers])


def _base64(data: bytes) -> str:
    return binascii.b2a_base64(data, newline=False).decode()
