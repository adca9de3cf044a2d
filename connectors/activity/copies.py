"""
Which records of a lane are copied behind its end, so that a document's deliveries are sent again. Pure.

A resend of one delivery takes all later ones of its document along, in order. Copies are told from the rest by their replay id; what is
appended to the lane between copies is newer, so it is copied too, until nothing newer stands before the last copy of its document.
Source: docs/reference/http-api.md, "Resend".
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from schemas.deliveries import Delivery
from schemas.positions import Position

NONE = -1  # below every version: a marker's is 0

Versions = Mapping[bytes, frozenset[int]]
"""For the key of each document, the versions of the deliveries that were asked for."""


def lane_place(offset: str) -> Position | None:
    """The place in a lane that an attempt names, ``offset`` or ``partition:offset``; None: it names none."""
    partition, _, place = offset.rpartition(":")
    return Position(int(partition or 0), int(place)) if place.isdecimal() and (partition or "0").isdecimal() else None


class Copies:
    """
    Feed it the records of a lane partition, in order; a record that was seen may come again.

    Args:  uid: of the webhook as it is now. replay: the id in every copy. only: nothing but what was asked for.
    """

    def __init__(self, uid: str, replay: str, asked: Versions, *, only: bool) -> None:
        self._uid, self._replay, self._asked, self._only = uid, replay, asked, only
        self._copied: dict[bytes, int] = {}  # the newest version of each document that has a copy

    def wants(self, key: bytes | None) -> bool:
        """Whether a record with this key may have to be copied; the others need not be decoded."""
        return key in self._asked

    def note(self, key: bytes, delivery: Delivery) -> None:
        """What stands in the lane already: of a copy of ours, nothing up to it is copied again."""
        if delivery.replay == self._replay:
            self._copied[key] = max(delivery.change.version, self._copied.get(key, NONE))

    def take(self, key: bytes, delivery: Delivery) -> Delivery | None:
        """The copy to append for the next record of the lane; None: it needs none."""
        version = delivery.change.version
        if delivery.webhook_uid != self._uid or version <= self._copied.get(key, NONE):
            return None
        if version not in self._asked[key] if self._only else version < min(self._asked[key]):
            return None
        self._copied[key] = version
        return msgspec.structs.replace(delivery, replay=self._replay)
