"""
The deliveries of one webhook on their way: in the order of the log for each document, at once for different documents.

In: what was read, in order. Out: what may be sent now. A *window* of the log is held in memory, bounded in offsets and bytes; within it
each document has a queue of its own, of which only the head is ever sent, and a head that waits for its retry holds up nobody else. A
document that would wait long is *parked*: it leaves the window (parking.py). The deliveries themselves are in held.py.
Pure: time is passed in, as seconds since 1970. Each call is O(1) amortised, or O(log waiting) for a retry. Called by work.py.
"""

from __future__ import annotations

import itertools
from collections.abc import Hashable, Iterable, Mapping, Sequence

from connectors.webhook.held import Held, Line
from connectors.webhook.offsets import Entry, Offsets, Seen, Start, span_max
from connectors.webhook.parking import Document, Note, Parking, Place, Stage, where
from schemas.deliveries import Match
from schemas.markers import is_marker, places_of
from schemas.parked import Parked

BYTES_MAX = 16 * 1024 * 1024
PARKED_MAX = 100_000
THIN = 0.5
ROOMY = 0.95
QUICK_S_MAX = 10.0
SLOW_S = 5.0
AHEAD = 16  # deliveries of one parked document that are read back at a time


class Lane:
    """
    Args:        starts: where each partition of the lane goes on.
                 uid: of the webhook.
                 concurrency: calls at a time, at most.
                 ordered: False sends without regard to documents.
                 origin_partitions: of ``mutations``; what an origin vector may have to name.
                 bytes_max: of the deliveries held.
                 parked_max: deliveries that may be parked.

    Guarantees:  a delivery becomes ready only when the earlier one of its document is finished; at most ``concurrency`` are under way.
    """

    def __init__(
        self,
        starts: Mapping[int, Start],
        *,
        uid: str = "",
        concurrency: int,
        ordered: bool = True,
        origin_partitions: int = 8,
        bytes_max: int = BYTES_MAX,
        parked_max: int = PARKED_MAX,
    ) -> None:
        self.partitions = {partition: Offsets(start) for partition, start in starts.items()}
        self.parking = Parking(uid, parked_max)
        self.concurrency = concurrency
        self.ordered = ordered
        self.under_way: set[Held] = set()
        self.held = 0
        self.bytes = 0
        self._starts = starts
        self._span_max = span_max(origin_partitions)
        self._bytes_max = bytes_max
        self._line = Line()
        self._ready, self._queue = self._line.ready, self._line.put
        self._opening: Held | None = None  # goes before everything else
        self._closing: list[Held] = []  # go when all that stands before them is done
        self._tails: dict[bytes | None, Held] = {}  # the last one in each document's queue

    # Records in.

    def restore(self, records: Iterable[Parked]) -> None:
        """What was parked before this process took the lane; to be told before anything is taken."""
        self.parking.restore(records, self._starts, ordered=self.ordered)

    def take(self, held: Held) -> Seen:
        """Take in the next record of its partition. What is not new is finished with."""
        seen = self.partitions[held.partition].read(held)
        parking = self.parking
        if seen is Seen.NEW:
            if parking.is_on_record(held.partition, held.offset):
                if not parking.renew(held.partition, held):
                    self.partitions[held.partition].finish(held)
            else:
                self._hold(held)
        parking.read_to(held.partition, held.offset)
        return seen

    def _hold(self, held: Held) -> None:
        self._count_in(held)
        if is_marker(held.delivery):
            if held.delivery.match is not Match.INITIALIZING:
                self._closing.append(held)
                return
            if self._opening is None or self._opening.finished:
                self._opening = held
        document = self.parking.documents.get(self._group(held)) if self.parking.documents else None
        if document is not None:
            self.parking.add(document, held, held.partition, held.size)
            return
        before = None
        if self.ordered:
            before = self._tails.get(held.key)
            self._tails[held.key] = held
        if before is None:
            self._queue(held)
        else:
            before.next = held

    def done_ahead(self, partition: int) -> set[int]:
        """What need not be read any more of what was not read since the last restart: finished, or parked."""
        return {*self.partitions[partition].finished_ahead, *self.parking.on_record_in(partition)}

    def skip_to(self, partition: int, position: int) -> None:
        """What was not read of the partition before this offset is not in the log any more, and nobody waits for it."""
        self.partitions[partition].skip_to(position)
        self.parking.read_to(partition, position - 1)

    def set_aside(self, partition: int, offset: int) -> Entry | None:
        """Take in a record that is no delivery of this webhook; the commit stops there until it is settled. None: it was, before."""
        entry = Entry(offset, None)
        seen = self.partitions[partition].read(entry)
        self.parking.read_to(partition, offset)
        return entry if seen is Seen.NEW else None

    def settled(self, partition: int, entry: Entry) -> None:
        """What was set aside needs nothing more."""
        self.partitions[partition].finish(entry)

    # Calls out, and what came of them.

    def ready(self, now: float, at_most: int | None = None) -> list[Held]:
        """What may be sent now; each is under way until finished, retried or given back."""
        self._line.wake(now)
        if self._closing:
            self._close()
        room = self.concurrency - len(self.under_way)
        if self._opening is not None:
            room = min(room, self._open(self._opening))
        count = min(len(self._ready), room if at_most is None else min(room, at_most))
        if count <= 0:
            return []
        found = [self._ready.popleft() for _ in range(count)]
        for held in found:
            held.attempt += 1
            held.started = now
        self.under_way.update(found)
        return found

    def _open(self, marker: Held) -> int:
        """How much may be sent while the marker at the beginning is not done: nothing but itself, unless it would wait for long."""
        if marker.finished or marker.document is not None or marker.key in self.parking.documents:
            self._opening = None
            return self.concurrency
        if marker not in self._ready:
            return 0
        self._ready.remove(marker)
        self._ready.appendleft(marker)
        return 1

    def _close(self) -> None:
        """Markers go when everything before them is done or parked, in every partition of the lane."""
        for held in list(self._closing):
            places = places_of(held.delivery)
            before = (offsets.commit >= places[partition] for partition, offsets in self.partitions.items() if partition < len(places))
            if self.partitions[held.partition].commit >= held.offset and all(before):
                self._closing.remove(held)
                self._queue(held)

    def finished(self, held: Held) -> None:
        """Delivered or in the dead letters: the commit may pass it, and its document's next one may go."""
        self.under_way.discard(held)
        self._count_out(held)
        behind, held.next = held.next, None
        if held.document is not None:
            self._finished_parked(held.document, behind)
            return
        self.partitions[held.partition].finish(held)
        if behind is not None:
            self._queue(behind)
        elif self._tails.get(held.key) is held:
            del self._tails[held.key]

    def retry_at(self, held: Held, at: float, now: float) -> None:
        """It failed and is sent again at that time; its document waits, the others do not. A document that waits long is parked."""
        self.under_way.discard(held)
        held.due = at
        if at - now <= QUICK_S_MAX:
            self._queue(held)
        else:
            self._park(held)

    def give_back(self, held: Held, *, last: bool = False) -> None:
        """The attempt does not count: it is the next to go (``last``: behind all others), as if it had not been sent."""
        self.under_way.discard(held)
        held.attempt -= 1
        if last:
            self._ready.append(held)
        else:
            self._ready.appendleft(held)

    def forgive(self, attempts: Mapping[Place, int]) -> None:
        """So many attempts of these do not count: the endpoint failed, not they. Who waits because of them is ready at once."""
        for held in self.under_way:
            held.forgive(attempts)
        self._line.forgive(attempts)
        self.parking.forgive(attempts)

    # Parked documents.

    def relieve(self, partition: int, now: float) -> None:
        """
        Park what fills the window of a partition, so that the lane can be read on: a document that fails, with what waits behind it.

        Only while nothing else can be sent, and one document at a time: busy documents are no trouble.
        """
        if self._ready or self.parking.outbox or self.in_flight >= self.concurrency or not self.full(partition):
            return
        for entry in self.partitions[partition].window:
            if isinstance(entry, Held) and not entry.finished and self._holds_up(entry, now):
                self._park(entry)
                return

    def _holds_up(self, held: Held, now: float) -> bool:
        if held in self.under_way:
            return now - held.started > SLOW_S
        return held.waits and (held.attempt > 0 or held.due - now > QUICK_S_MAX)

    def wanted(self, now: float, at_most: int) -> list[Document]:
        """Parked documents that are due: the bodies of their first :data:`AHEAD` deliveries are to be read back."""
        room = min(at_most, self.concurrency - self.in_flight - len(self._ready))
        return self.parking.due(now, room) if room > 0 and (self.bytes < self._bytes_max or not self.in_flight) else []

    def loaded(self, document: Document, bodies: Sequence[Held]) -> None:
        """The first deliveries of a document are back, in order; at least one."""
        document.stage = Stage.ACTIVE
        for held, behind in itertools.zip_longest(bodies, bodies[1:]):
            held.document, held.next = document, behind
            self._count_in(held)
        bodies[0].attempt = document.attempt
        self._queue(bodies[0])

    def not_loaded(self, document: Document, at: float) -> None:
        """They could not be read; again at that time."""
        self.parking.wait(document, document.attempt, at, note=False)

    def gone(self, document: Document) -> None:
        """The lane does not hold its first delivery any more, and that is in the dead letters."""
        self._finished_parked(document, None)

    def written(self, notes: Sequence[Note]) -> None:
        """These, the first of ``parking.outbox``, are acknowledged: the commit may pass what they name."""
        self.parking.written(notes)
        for note in notes:
            if note.entry is not None:
                self.partitions[where(note.place)[0]].finish(note.entry)
            if note.size:
                self.held -= 1
                self.bytes -= note.size

    def _park(self, held: Held) -> None:
        """Its document leaves the window, or stays out of it."""
        if held.document is not None:
            self._unload(held)
            self.parking.wait(held.document, held.attempt, held.due)
            return
        document = self.parking.open(self._group(held), held.key)
        is_under_way = held in self.under_way
        held.waits = False
        attempt = held.attempt - is_under_way
        self.parking.add(document, held, held.partition, 0 if is_under_way else held.size, attempt=attempt, due=held.due)
        last, behind, held.next = held, held.next, None
        while behind is not None:
            self.parking.add(document, behind, behind.partition, behind.size)
            last, behind = behind, behind.next
        if self._tails.get(held.key) is last:
            del self._tails[held.key]
        if is_under_way:
            held.document = document
        else:
            self.parking.wait(document, attempt, held.due, note=False)

    def _unload(self, held: Held | None) -> None:
        while held is not None:
            self._count_out(held)
            held = held.next

    def _finished_parked(self, document: Document, behind: Held | None) -> None:
        if not self.parking.finished(document):
            return
        if behind is not None:
            self._queue(behind)
        else:
            self.parking.wait(document, 0, 0.0, note=False)

    # How full it is.

    def full(self, partition: int) -> bool:
        """Nothing more should be taken from the partition for now."""
        return self._above(partition, 1.0) or self.parking.full

    def roomy(self, partition: int) -> bool:
        """There is room for some of what waits before the window; a little at a time, so that nobody waits long for it to be taken in."""
        return not self._above(partition, ROOMY) and not self.parking.full

    def thin(self, partition: int) -> bool:
        """A full partition may be read on: there is room worth a fetch."""
        return not self._above(partition, THIN) and not self.parking.full

    def _above(self, partition: int, part: float) -> bool:
        return self.partitions[partition].span >= part * self._span_max or self.bytes >= part * self._bytes_max

    @property
    def dues(self) -> list[float]:
        """When :meth:`ready` and :meth:`wanted` will find more than now, if nothing else happens: each, for one may be held up."""
        return [due for due in (self._line.due, self.parking.next_due) if due is not None]

    @property
    def has_ready(self) -> bool:
        """Whether something could be sent at once, were there room."""
        return bool(self._ready)

    @property
    def in_flight(self) -> int:
        """Calls under way."""
        return len(self.under_way)

    def _group(self, held: Held) -> Hashable:
        return held.key if self.ordered else held.place

    def _count_in(self, held: Held) -> None:
        self.held += 1
        self.bytes += held.size

    def _count_out(self, held: Held) -> None:
        self.held -= 1
        self.bytes -= held.size
