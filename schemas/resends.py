"""
Deliveries put into their lanes again by a resend: a record of ``attempts`` next to the attempts, written by the API.

What came of them is told by the attempts that carry its id. Source: docs/reference/topics.md, "attempts".
"""

from __future__ import annotations

import msgspec

from schemas.codec import Schema, decode, encode

RESEND = Schema("resend")


class Resend(msgspec.Struct, frozen=True):
    """
    One resend, once all its copies are in their lanes.

    id:          ``rpl_…``, in every copy and every attempt for one.
    webhook:     None when it is about several.
    deliveries:  how many copies there are.
    started_us:  µs since 1970.
    """

    id: str
    webhook: str | None
    deliveries: int
    started_us: int


def encode_resend(resend: Resend) -> bytes:
    """One record of ``attempts``; its key is the id."""
    return encode(RESEND, {"id": resend.id, "webhook": resend.webhook, "deliveries": resend.deliveries, "startedUs": resend.started_us})


def decode_resend(value: bytes) -> Resend:
    """
    One record of ``attempts`` that :data:`RESEND` has written.

    Raises:  BadRecord: undecodable, unknown-schema.
    """
    record = decode(RESEND, value)
    return Resend(record["id"], record["webhook"], record["deliveries"], record["startedUs"])
