"""
The deliveries of one webhook on their way: in the order of the log for each document, at once for different documents.

In: what was read, in order. Out: what may be sent now. A *window* of the log is held in memory, bounded in offsets and bytes; within it
each document has a queue of its own, of which only the head is ever sent, and a head that waits for its retry holds up nobody else.
Pure: time is passed in, as seconds since 1970. Each call is O(1) amortised, or O(log waiting) for a retry. Called by sink.py.
"""

from __future__ import annotations

import heapq
import itertools
from collections import deque
from collections.abc import Mapping

from connectors.webhook.offsets import Entry, Offsets, Seen, Start, span_max
from schemas.deliveries import Delivery

BYTES_MAX = 16 * 1024 * 1024
THIN = 0.5


class Held(Entry):
    """
    A delivery between being read and being finished.

    key, value:  the record as it stands in the lane.
    attempt:     how many attempts were started that count.
    due:         not to be sent before.
    next:        the one behind it in its document's queue.
    """

    __slots__ = ("attempt", "delivery", "due", "key", "next", "partition", "value")

    def __init__(self, partition: int, offset: int, key: bytes | None, value: bytes, delivery: Delivery, due: float = 0.0) -> None:
        super().__init__(offset, None if delivery.replay else delivery.change.origin)
        self.partition = partition
        self.key = key
        self.value = value
        self.delivery = delivery
        self.due = due
        self.attempt = 0
        self.next: Held | None = None

    @property
    def size(self) -> int:
        """Bytes in memory, about: the record, and its documents once more in the decoded delivery."""
        return 2 * len(self.value) + 600


class Lane:
    """
    Args:        starts: where each partition of the lane goes on.
                 concurrency: calls at a time, at most.
                 ordered: False sends without regard to documents.
                 origin_partitions: of ``mutations``; what an origin vector may have to name.
                 bytes_max: of the deliveries held.

    Guarantees:  a delivery becomes ready only when the earlier one of its document is finished; at most ``concurrency`` are under way.
    """

    def __init__(
        self,
        starts: Mapping[int, Start],
        *,
        concurrency: int,
        ordered: bool = True,
        origin_partitions: int = 8,
        bytes_max: int = BYTES_MAX,
    ) -> None:
        self.partitions = {partition: Offsets(start) for partition, start in starts.items()}
        self.concurrency = concurrency
        self.ordered = ordered
        self.under_way: set[Held] = set()
        self.held = 0
        self.bytes = 0
        self._span_max = span_max(origin_partitions)
        self._bytes_max = bytes_max
        self._ready: deque[Held] = deque()
        self._tails: dict[bytes | None, Held] = {}  # the last one in each document's queue
        self._waiting: list[tuple[float, int, Held]] = []
        self._count = itertools.count()

    def take(self, held: Held) -> Seen:
        """Take in the next record of its partition. What is not new is finished with."""
        seen = self.partitions[held.partition].read(held)
        if seen is not Seen.NEW:
            return seen
        self.held += 1
        self.bytes += held.size
        before = None
        if self.ordered:
            before = self._tails.get(held.key)
            self._tails[held.key] = held
        if before is None:
            self._queue(held)
        else:
            before.next = held
        return seen

    def set_aside(self, partition: int, offset: int) -> Entry | None:
        """Take in a record that is no delivery of this webhook; the commit stops there until it is settled. None: it was, before."""
        entry = Entry(offset, None)
        return entry if self.partitions[partition].read(entry) is Seen.NEW else None

    def settled(self, partition: int, entry: Entry) -> None:
        """What was set aside needs nothing more."""
        self.partitions[partition].finish(entry)

    def ready(self, now: float, at_most: int | None = None) -> list[Held]:
        """What may be sent now; each is under way until finished, retried or given back."""
        self._wake(now)
        room = self.concurrency - len(self.under_way)
        count = min(len(self._ready), room if at_most is None else min(room, at_most))
        if count <= 0:
            return []
        found = [self._ready.popleft() for _ in range(count)]
        for held in found:
            held.attempt += 1
        self.under_way.update(found)
        return found

    def finished(self, held: Held) -> None:
        """Delivered or in the dead letters: the commit may pass it, and its document's next one may go."""
        self.under_way.discard(held)
        self.held -= 1
        self.bytes -= held.size
        self.partitions[held.partition].finish(held)
        behind, held.next = held.next, None
        if behind is not None:
            self._queue(behind)
        elif self._tails.get(held.key) is held:
            del self._tails[held.key]

    def retry_at(self, held: Held, at: float) -> None:
        """It failed and is sent again at that time; its document waits, the others do not."""
        self.under_way.discard(held)
        held.due = at
        self._queue(held)

    def give_back(self, held: Held) -> None:
        """The attempt does not count: it is the next to go, as if it had not been sent."""
        self.under_way.discard(held)
        held.attempt -= 1
        self._ready.appendleft(held)

    def full(self, partition: int) -> bool:
        """Nothing more should be taken from the partition for now."""
        return self._above(partition, 1.0)

    def thin(self, partition: int) -> bool:
        """A full partition may be read on: there is room worth a fetch."""
        return not self._above(partition, THIN)

    def _above(self, partition: int, part: float) -> bool:
        return self.partitions[partition].span >= part * self._span_max or self.bytes >= part * self._bytes_max

    @property
    def next_due(self) -> float | None:
        """When :meth:`ready` will find more than now, if nothing else happens."""
        return self._waiting[0][0] if self._waiting else None

    @property
    def has_ready(self) -> bool:
        """Whether something could be sent at once, were there room."""
        return bool(self._ready)

    @property
    def in_flight(self) -> int:
        """Calls under way."""
        return len(self.under_way)

    def _queue(self, held: Held) -> None:
        if held.due:
            heapq.heappush(self._waiting, (held.due, next(self._count), held))
        else:
            self._ready.append(held)

    def _wake(self, now: float) -> None:
        while self._waiting and self._waiting[0][0] <= now:
            _, _, held = heapq.heappop(self._waiting)
            held.due = 0.0
            self._ready.append(held)
