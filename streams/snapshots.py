"""
The snapshot that follows a gap: of all documents the newest delivery from before a place, each once, in bounded memory.

Pure. Called by the backfills (backfill_present.py) and the simulation. Source: docs/explanation/gaps.md.
"""

from __future__ import annotations

import zlib

from schemas.changes import Change
from schemas.deliveries import Delivery, Match

HASHES = 2**32


class Newest:
    """
    Where the newest delivery of each document of a snapshot stands in ``changes``, of as many documents as there is room for.

    Documents are taken by a hash of their keys, from ``low`` on; ``high`` comes down until they fit. The rest is for the next round, from
    ``high`` on: so a snapshot of any size is gone through in bounded memory, and each document is sent once.
    """

    def __init__(self, low: int, count_max: int) -> None:
        self.low, self.high = low, HASHES
        self._count_max = count_max
        self._found: dict[bytes, tuple[int, int, bool]] = {}

    @property
    def is_last(self) -> bool:
        """Whether there is nothing for another round."""
        return self.high == HASHES

    def take(self, key: bytes, change: Change, offset: int, delivery: Delivery | None) -> None:
        """
        What a change from before the snapshot's end is to the webhook; all of them in the order of the log.

        Of a document that does not match any more nothing is left; but that it is gone, if that was asked for, nothing revokes.
        """
        if not self.low <= _hash(key) < self.high:
            return
        version, _, is_end = self._found.get(key, (0, 0, False))
        if change.version < version:
            return  # an older copy, behind the newer one
        if delivery is not None:
            self._found[key] = (change.version, offset, delivery.match in (Match.LEAVE, Match.REMOVE))
        elif not is_end:
            self._found.pop(key, None)
        while len(self._found) > self._count_max and self.high - self.low > 1:
            self.high = self.low + (self.high - self.low) // 2
            self._found = {one: found for one, found in self._found.items() if _hash(one) < self.high}

    def __contains__(self, place: tuple[bytes, int]) -> bool:
        """Whether the newest of a document, by its key, stands at an offset."""
        key, offset = place
        found = self._found.get(key)
        return found is not None and found[1] == offset


def _hash(key: bytes) -> int:
    return zlib.crc32(key)
