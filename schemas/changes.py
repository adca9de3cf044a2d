"""
What happened to one document: the record of ``changes``, written by the documents agent and read by matching and by catch-up.

Next to changes the topic holds marks, passed on in place. Source: docs/reference/topics.md.
"""

from __future__ import annotations

import msgspec

from schemas.keys import key_of
from schemas.positions import Origin


class Change(msgspec.Struct, frozen=True, gc=False):
    """
    One document went from ``old`` to ``new``.

    txn_id:       unique; grows within a partition; at least the broker's append time of the mutation, in µs.
    version:      1, 2, 3 … for each document, going on after a remove.
    old, new:     normalised documents; None where there is none (``new`` None: it was removed).
    appended_us:  when the broker took the mutation, µs since 1970.
    via:          for each partition that forwarded records to this one, the highest offset applied so far: with this vector in the
                  last change, a forwarded record repeated by a crash is known again even when the store is lost.
    """

    collection: str
    id: str
    txn_id: int
    version: int
    old: bytes | None
    new: bytes | None
    origin: Origin
    appended_us: int
    via: dict[int, int] = {}
    metadata: bytes | None = None

    @property
    def key(self) -> str:
        """``collection/id``."""
        return key_of(self.collection, self.id)


class PassedMark(msgspec.Struct, frozen=True, gc=False):
    """A mark on its way: what it says, and where it stood in ``mutations``: from that origin on it holds."""

    webhooks: int
    origin: Origin
    ends: str = ""
