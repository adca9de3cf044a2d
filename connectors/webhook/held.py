"""A delivery between being read and being finished, and the line in which those stand that can be sent. Pure. Used by lanes.py."""

from __future__ import annotations

import heapq
import itertools
from collections import deque
from collections.abc import Mapping

import msgspec

from connectors.webhook.offsets import Entry
from connectors.webhook.parking import STALE_MAX, Document, Place, place_of, still_waiting
from schemas.deliveries import Delivery


class Held(Entry):
    """
    A delivery between being read and being finished.

    key, value:  the record as it stands in the lane.
    size:        bytes in memory, about: the record, and its documents once more in the decoded delivery.
    attempt:     how many attempts were started that count.
    due:         not to be sent before; 0: at once.
    replay:      the rewind that sends it again; the delivery then says so.
    started:     when the last attempt was.
    waits:       it is the head of its queue and waits for its time.
    next:        the one behind it in its document's queue.
    document:    where it is parked; the lane has its body all the same while it is sent.
    """

    __slots__ = ("attempt", "delivery", "document", "due", "key", "next", "partition", "size", "started", "value", "waits")

    def __init__(
        self,
        partition: int,
        offset: int,
        key: bytes | None,
        value: bytes,
        delivery: Delivery,
        due: float = 0.0,
        replay: str | None = None,
    ) -> None:
        super().__init__(offset, delivery.order)
        self.partition = partition
        self.key = key
        self.value = value
        self.size = 2 * len(value) + 600
        self.delivery = delivery if replay is None else msgspec.structs.replace(delivery, replay=replay)
        self.due = due
        self.attempt = 0
        self.started = 0.0
        self.waits = False
        self.next: Held | None = None
        self.document: Document | None = None

    @property
    def place(self) -> Place:
        """Its place in the lane."""
        return place_of(self.partition, self.offset)

    def forgive(self, attempts: Mapping[Place, int]) -> None:
        """So many attempts do not count."""
        self.attempt = max(self.attempt - attempts.get(self.place, 0), 0)


class Line:
    """
    Those that are first for their documents: ready, or waiting for their time.

    Times are seconds since 1970; each call is O(1), or O(log waiting) for one that waits.
    """

    def __init__(self) -> None:
        self.ready: deque[Held] = deque()
        self._waiting: list[tuple[float, int, Held]] = []
        self._waiting_max = STALE_MAX  # with entries that were parked or forgiven meanwhile
        self._count = itertools.count()

    def put(self, held: Held) -> None:
        """At its end, or aside until it is due."""
        if held.due:
            held.waits = True
            heapq.heappush(self._waiting, (held.due, next(self._count), held))
            if len(self._waiting) > self._waiting_max:
                self._waiting = still_waiting(self._waiting, _waits_until)
                self._waiting_max = 2 * len(self._waiting) + STALE_MAX
        else:
            self.ready.append(held)

    def wake(self, now: float) -> None:
        """Those that are due are ready."""
        while self._waiting and self._waiting[0][0] <= now:
            due, _, held = heapq.heappop(self._waiting)
            if _waits_until(due, held):  # else it was parked or forgiven meanwhile
                self._awake(held)

    @property
    def due(self) -> float | None:
        """When the next one is due, if it still waits then."""
        return self._waiting[0][0] if self._waiting else None

    def forgive(self, attempts: Mapping[Place, int]) -> None:
        """So many attempts of these do not count; those of them that wait are ready at once."""
        for held in self.ready:
            held.forgive(attempts)
        for due, _, held in self._waiting:
            if _waits_until(due, held) and held.place in attempts:
                held.forgive(attempts)
                self._awake(held)

    def _awake(self, held: Held) -> None:
        held.waits, held.due = False, 0.0
        self.ready.append(held)


def _waits_until(due: float, held: Held) -> bool:
    """Whether an entry made for that time still holds."""
    return held.waits and held.due == due
