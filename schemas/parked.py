"""
What must outlive a sink of a webhook in trouble: the records of ``parked``, written by the sink that holds the lane.

A :class:`Parked` is a pointer to one delivery of a document that fails; its body stays in the lane. A :class:`Down` says that the whole
endpoint fails. Either ends with a tombstone.
"""

from __future__ import annotations

import msgspec

DOWN = "down"


class Parked(msgspec.Struct, frozen=True, gc=False):
    """
    One delivery that was set aside; key ``webhook/lane offset``.

    partition, offset:  where in the lane it stands.
    document:           the key of its record there; deliveries with the same key go out in order.
    attempt:            attempts made that count; 0 for one that waits behind another.
    due_us:             not to be sent before, µs since 1970; 0 for one that waits behind another.
    """

    webhook_uid: str
    partition: int
    offset: int
    document: bytes | None
    attempt: int = 0
    due_us: int = 0


class Down(msgspec.Struct, frozen=True):
    """The endpoint of a webhook fails for everybody; key ``webhook/down``. ``since_us``: from then on no call succeeded, µs since 1970."""

    webhook_uid: str
    since_us: int


def parked_key(webhook: str, place: str) -> bytes:
    """``place``: the place in the lane as receivers see it, or :data:`DOWN`."""
    return f"{webhook}/{place}".encode()


def webhook_of(key: bytes) -> str:
    """The webhook that a record of ``parked`` is about."""
    return key.decode(errors="replace").partition("/")[0]
