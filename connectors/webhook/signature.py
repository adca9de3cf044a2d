"""
Standard Webhooks 1.0, symmetric signatures: ``v1``, HMAC-SHA256 over id, timestamp and body.

Called by render.py for every attempt. Source: https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

from __future__ import annotations

import binascii
import hmac
import secrets
from base64 import b64decode
from collections.abc import Callable, Iterable

PREFIX = "whsec_"
SECRET_BYTES = 32
SECRET_BYTES_MIN = 24
SECRET_BYTES_MAX = 64


class BadSecret(ValueError):
    """The text is no signing secret; the message says what would be right and does not hold it."""


def new_secret(token_bytes: Callable[[int], bytes] = secrets.token_bytes) -> str:
    """A signing secret, ``whsec_`` and 32 random bytes in base64."""
    return PREFIX + binascii.b2a_base64(token_bytes(SECRET_BYTES), newline=False).decode()


def key_of(secret: str) -> bytes:
    """
    The key that a secret stands for.

    Raises:  BadSecret.
    """
    text = secret.removeprefix(PREFIX)
    try:
        key = b64decode(text + "=" * (-len(text) % 4), validate=True) if text != secret else b""
    except (binascii.Error, ValueError):
        key = b""
    if not SECRET_BYTES_MIN <= len(key) <= SECRET_BYTES_MAX:
        raise BadSecret(f"must be {PREFIX} and {SECRET_BYTES_MIN} to {SECRET_BYTES_MAX} bytes in base64")
    return key


def signing(found: Iterable[tuple[bytes, int | None]], now: float) -> list[bytes]:
    """Those of the keys, each with the time it signs until (µs since 1970, None: for good), that sign now (seconds since 1970)."""
    return [key for key, until_us in found if until_us is None or until_us > now * 1_000_000]


def sign(keys: Iterable[bytes], webhook_id: str, timestamp_s: int, body: bytes) -> str:
    """The ``webhook-signature`` header: one signature a key, with spaces between."""
    content = b"%b.%d.%b" % (webhook_id.encode(), timestamp_s, body)
    return " ".join(["v1," + binascii.b2a_base64(hmac.digest(key, content, "sha256"), newline=False).decode() for key in keys])
