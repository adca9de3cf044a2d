"""
The attempts that came last, in the order in which they came: what ``attempts --follow`` reads, a moment after they were made.

Lists are ordered by the start of an attempt, so a slow one appears in the middle of them; here each one is new. Threads may share it.
"""

from __future__ import annotations

import itertools
import threading
from collections import deque

KEPT_MAX = 10_000
BYTES_MAX = 32 * 1024 * 1024


class Recent:
    """
    Args:  token: tells this one from that of another process or an earlier life; its numbers mean nothing elsewhere.
    """

    def __init__(self, token: str) -> None:
        self.token = token
        self._kept: deque[tuple[int, bytes]] = deque()
        self._bytes = 0
        self._next = 0
        self._lock = threading.Lock()

    @property
    def end(self) -> int:
        """The number that the next attempt gets."""
        return self._next

    def add(self, value: bytes) -> None:
        """Another one, as it stands in ``attempts``."""
        with self._lock:
            self._kept.append((self._next, value))
            self._next += 1
            self._bytes += len(value)
            while len(self._kept) > KEPT_MAX or self._bytes > BYTES_MAX:
                self._bytes -= len(self._kept.popleft()[1])

    def since(self, number: int, at_most: int) -> list[tuple[int, bytes]]:
        """Those with this number or a higher one, oldest first; what is no longer kept is left out."""
        with self._lock:
            first = self._kept[0][0] if self._kept else self._next
            return list(itertools.islice(self._kept, max(number - first, 0), max(number - first, 0) + at_most))
