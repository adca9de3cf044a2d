"""
Documents that fail, set aside from the window: which deliveries of them wait, until when, and what of that is still to be written down.

A parked delivery is known by its place in the lane alone: 8 bytes in memory and a pointer record in ``parked``; its body stays in the lane
and is read back when it is due. As soon as the pointer is acknowledged, the commit may pass the delivery. Pure; times are seconds since
1970. Called by lanes.py; what is to be written and read is done by parker.py. Source: docs/explanation/lanes.md, "Failing documents".
"""

from __future__ import annotations

import heapq
import itertools
from array import array
from bisect import bisect_left
from collections import defaultdict, deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from enum import Enum, auto
from typing import TypeVar

import msgspec

from connectors.webhook.offsets import Entry, Start
from schemas.parked import Parked

Awaited = TypeVar("Awaited")

PARTITION_BITS = 5  # a lane has at most 32 partitions
COMPACT_FROM = 1_024
STALE_MAX = 1_024

Wait = tuple[float, int, Awaited]
"""When it is due, a number that no other has, and what waits."""

Place = int
"""Offset and partition of a delivery in its lane, in one number: those of one partition sort by offset."""


def place_of(partition: int, offset: int) -> Place:
    """The two in one."""
    return offset << PARTITION_BITS | partition


def where(place: Place) -> tuple[int, int]:
    """Partition and offset."""
    return place & (1 << PARTITION_BITS) - 1, place >> PARTITION_BITS


def still_waiting(waiting: Iterable[Wait[Awaited]], holds: Callable[[float, Awaited], bool]) -> list[Wait[Awaited]]:
    """
    A heap without the entries that mean nothing any more, and of what is in it twice with one.

    Who is put in anew leaves the former entry behind until it would be due, which may be a day; an endpoint that comes and goes makes many.
    """
    found = {id(what): (due, number, what) for due, number, what in waiting if holds(due, what)}
    kept = list(found.values())
    heapq.heapify(kept)
    return kept


class Places:
    """A queue of places in ascending order, 8 bytes each."""

    def __init__(self) -> None:
        self._all = array("q")
        self._first = 0

    def __len__(self) -> int:
        return len(self._all) - self._first

    def ahead(self, count: int) -> list[Place]:
        """The first few."""
        return self._all[self._first : self._first + count].tolist()

    def add(self, place: Place) -> bool:
        """Put it where it belongs, which is nearly always the end; whether it is the first one now."""
        at = bisect_left(self._all, place, self._first)
        self._all.insert(at, place)
        return at == self._first

    def pop(self) -> Place:
        """Take the first one."""
        place = self._all[self._first]
        self._first += 1
        if self._first > COMPACT_FROM and 2 * self._first > len(self._all):
            del self._all[: self._first]
            self._first = 0
        return place


class Stage(Enum):
    """Where the first delivery of a parked document is."""

    UNREAD = auto()  # the lane was not read up to all of its places again since the restart: there may be others between them
    WAITING = auto()
    LOADING = auto()  # its body is being read back
    ACTIVE = auto()  # in the lane's hands: ready, under way, or waiting for a quick retry


class Document:
    """
    A document whose deliveries are parked; ``places`` is never empty.

    attempt, due:  of its first delivery.
    """

    __slots__ = ("attempt", "due", "group", "key", "places", "stage", "unread")

    def __init__(self, group: Hashable, key: bytes | None) -> None:
        self.group = group
        self.key = key
        self.places = Places()
        self.attempt = 0
        self.due = 0.0
        self.stage = Stage.ACTIVE
        self.unread = 0


class Note(msgspec.Struct, frozen=True, gc=False):
    """
    What is to be written about a place; ``pointer`` None: that it is parked no more.

    entry:  finished with for the lane's offsets once the note is written; None: it was already.
    size:   bytes that the window counts for it until then.
    """

    place: Place
    pointer: Parked | None
    entry: Entry | None = None
    size: int = 0


class Parking:
    """
    The parked documents of one lane.

    Args:        uid: of the webhook. count_max: deliveries that may be parked; see :attr:`full`.
    Guarantees:  what a crash leaves of ``outbox`` written is a prefix, and from each prefix the lane goes on without losing a delivery.
    """

    def __init__(self, uid: str, count_max: int) -> None:
        self.documents: dict[Hashable, Document] = {}
        self.count = 0
        self.outbox: list[Note] = []
        self._uid = uid
        self._count_max = count_max
        self._waiting: list[tuple[float, int, Document]] = []
        self._number = itertools.count()
        self._noted: dict[int, int] = defaultdict(int)
        self._doubtful: set[Place] = set()  # parked before a jump that goes over them
        self._on_record: dict[int, deque[tuple[int, Document]]] = {}  # by partition: pointers at or above the commit we started from

    @property
    def full(self) -> bool:
        """So many are parked that no more of the lane may be read."""
        return self.count >= self._count_max and not self._on_record

    def count_in(self, partition: int) -> int:
        """Deliveries of a partition that are parked and on record."""
        return self._noted[partition]

    @property
    def next_due(self) -> float | None:
        """When the next document is due, about."""
        return self._waiting[0][0] if self._waiting else None

    # Into it.

    def open(self, group: Hashable, key: bytes | None) -> Document:
        """A document is parked from now on; its deliveries are to be added."""
        document = self.documents[group] = Document(group, key)
        return document

    def add(self, document: Document, entry: Entry, partition: int, size: int, *, attempt: int = 0, due: float = 0.0) -> None:
        """Park a delivery that was read; the commit may pass it when that is written down."""
        place = place_of(partition, entry.offset)
        if document.places.add(place) and len(document.places) > 1:  # it stands before what was the first one until now
            document.attempt, document.due = attempt, due
        self.count += 1
        self.outbox.append(Note(place, self._pointer(document, place, attempt, due), entry, size))

    def wait(self, document: Document, attempt: int, due: float, *, note: bool = True) -> None:
        """Its first delivery is not to be sent before ``due``; ``note``: that is new, and to be written down."""
        document.attempt, document.due = attempt, due
        if document.stage is not Stage.UNREAD:
            document.stage = Stage.WAITING
            heapq.heappush(self._waiting, (due, next(self._number), document))
            if len(self._waiting) > 2 * len(self.documents) + STALE_MAX:
                self._waiting = still_waiting(self._waiting, _waits_until)
        if note:
            self._note_first(document)

    # Out of it.

    def due(self, now: float, at_most: int) -> list[Document]:
        """Documents whose time has come; each is loading from now on."""
        found: list[Document] = []
        while self._waiting and self._waiting[0][0] <= now and len(found) < at_most:
            due, _, document = heapq.heappop(self._waiting)
            if _waits_until(due, document):
                document.stage = Stage.LOADING
                found.append(document)
        return found

    def finished(self, document: Document) -> bool:
        """Its first delivery was delivered or dead-lettered; whether there are more."""
        self.count -= 1
        self.outbox.append(Note(document.places.pop(), None))
        document.attempt, document.due = 0, 0.0
        if not document.places:
            del self.documents[document.group]
        return bool(document.places)

    def forgive(self, attempts: Mapping[Place, int]) -> None:
        """So many attempts of these do not count; who waits because of them is due at once."""
        for document in self.documents.values():
            less = attempts.get(document.places.ahead(1)[0], 0)
            if less and document.stage in (Stage.WAITING, Stage.UNREAD):
                self.wait(document, max(document.attempt - less, 0), 0.0)
            elif less and document.stage is Stage.LOADING:
                document.attempt = max(document.attempt - less, 0)

    def written(self, notes: Sequence[Note]) -> None:
        """These, the first of the outbox, are acknowledged."""
        del self.outbox[: len(notes)]
        for note in notes:
            partition, _ = where(note.place)
            self._noted[partition] += (note.entry is not None) - (note.pointer is None)

    # After a restart.

    def restore(self, records: Iterable[Parked], starts: Mapping[int, Start], *, ordered: bool) -> None:
        """
        What ``parked`` says of this webhook, before anything is read.

        Of what a jump goes over it may be wrong: that it is parked no more may have been said already, and be on its way still. So it is
        written once more when it is read (:meth:`renew`), and the commit waits for that.
        """
        for record in sorted(records, key=lambda record: (record.offset, record.partition)):
            start = starts.get(record.partition)
            if record.webhook_uid != self._uid or start is None:
                continue  # of a webhook of this name that was deleted
            place = place_of(record.partition, record.offset)
            group: Hashable = record.document if ordered else place
            document = self.documents.get(group)
            if document is None:
                document = self.open(group, record.document)
                document.stage, document.attempt, document.due = Stage.UNREAD, record.attempt, record.due_us / 1e6
            document.places.add(place)
            self.count += 1
            is_read_again = record.offset >= start.offset and record.offset not in start.finished
            self._noted[record.partition] += 1
            if is_read_again:
                if start.moved:
                    self._doubtful.add(place)
                document.unread += 1
                self._on_record.setdefault(record.partition, deque()).append((record.offset, document))
        for document in self.documents.values():
            self._begin(document)

    def is_on_record(self, partition: int, offset: int) -> bool:
        """Whether the next one to be read was parked in an earlier life, and only the commit does not say so yet."""
        waiting = self._on_record.get(partition)
        return waiting is not None and waiting[0][0] == offset

    def renew(self, partition: int, entry: Entry) -> bool:
        """Write that it is parked once more, if that is in doubt; then the commit may pass it when that is written down."""
        place = place_of(partition, entry.offset)
        if place not in self._doubtful:
            return False
        self._doubtful.remove(place)
        self._noted[partition] -= 1
        _, document = self._on_record[partition][0]
        self.outbox.append(Note(place, self._pointer(document, place, 0, 0.0), entry))
        return True

    def on_record_in(self, partition: int) -> Iterator[int]:
        """The offsets of a partition that were parked in an earlier life, and were not read since."""
        return (offset for offset, _ in self._on_record.get(partition, ()))

    def read_to(self, partition: int, offset: int) -> None:
        """The lane was read so far, that offset included."""
        waiting = self._on_record.get(partition)
        while waiting and waiting[0][0] <= offset:
            _, document = waiting.popleft()
            document.unread -= 1
            self._begin(document)
        if waiting is not None and not waiting:
            del self._on_record[partition]

    def _begin(self, document: Document) -> None:
        if document.stage is Stage.UNREAD and not document.unread:
            document.stage = Stage.WAITING
            self.wait(document, document.attempt, document.due, note=False)

    def _note_first(self, document: Document) -> None:
        place = document.places.ahead(1)[0]
        self.outbox.append(Note(place, self._pointer(document, place, document.attempt, document.due)))

    def _pointer(self, document: Document, place: Place, attempt: int, due: float) -> Parked:
        partition, offset = where(place)
        return Parked(self._uid, partition, offset, document.key, attempt, int(due * 1_000_000))


def _waits_until(due: float, document: Document) -> bool:
    """Whether an entry made for that time still holds."""
    return document.stage is Stage.WAITING and document.due == due
