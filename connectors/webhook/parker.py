"""
The shell around parking.py: writes what is to be written to ``parked``, and reads back the bodies of parked deliveries that are due.

One write and one read at a time for each lane, so that records of a place are written in the order in which things happened to it.
Runs in the event loop. Called by work.py.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Sequence

from connectors.kafka.errors import KafkaRefused, KafkaUnavailable
from connectors.webhook.held import Held
from connectors.webhook.lanes import AHEAD, Lane
from connectors.webhook.ownership import KnownLane, LaneRecord
from connectors.webhook.parked import Bodies, partition_of_webhook
from connectors.webhook.parking import Document, Note, where
from connectors.webhook.reports import Reports
from connectors.webhook.retry import DeadLetter
from connectors.webhook.shared import Shared
from schemas.errors import BadRecord, Reason
from schemas.parked import DOWN, Down, parked_key
from schemas.records import decode_delivery, encode_parked
from schemas.topics import Record

logger = logging.getLogger(__name__)

NOTES_MAX = 1_000
DOCUMENTS_MAX = 64
AGAIN_S = 1.0


class Parker:
    """
    Of one lane.

    Args:  marker: what stands at a place of the lane and in no log; see gaps.py.
    """

    def __init__(self, known: KnownLane, lane: Lane, shared: Shared, reports: Reports, marker: Callable[[int, int], Held | None]) -> None:
        self._known, self._lane, self._shared, self._reports = known, lane, shared, reports
        self._marker = marker
        self._partition = partition_of_webhook(known.webhook, shared.parked_topic)
        self._down: list[Record] = []
        self._is_writing = False
        self.is_reading = False

    def begin(self) -> bool:
        """Whether there is something to write and nobody does so; :meth:`write` must follow."""
        begins = self._has_notes and not self._is_writing
        self._is_writing = self._is_writing or begins
        return begins

    @property
    def _has_notes(self) -> bool:
        return bool(self._lane.parking.outbox or (self._down and self._may_tell))

    @property
    def _may_tell(self) -> bool:
        """Without the lease the lane may have another owner, who knows better: nobody would ever take back what we say of its endpoint."""
        return self._shared.lease.held(self._shared.uptime())

    def down(self, since: float | None) -> None:
        """The endpoint is down since then, or (None) no longer."""
        value = None if since is None else encode_parked(Down(self._known.uid, int(since * 1_000_000)))
        self._down.append(self._record(DOWN, value))

    async def write(self) -> None:
        """Write until nothing is left to write."""
        try:
            while self._has_notes:
                notes, down = self._lane.parking.outbox[:NOTES_MAX], self._down
                if self._may_tell:
                    self._down = []
                else:
                    down = []
                await self._shared.producer.send([*down, *map(self._noted, notes)])
                self._lane.written(notes)
        finally:
            self._is_writing = False

    async def forget(self) -> None:
        """The webhook was deleted: nothing of it is parked any more."""
        places = [place for document in self._lane.parking.documents.values() for place in document.places.ahead(len(document.places))]
        for first in range(0, len(places), NOTES_MAX):
            await self._shared.producer.send([self._noted(Note(place, None)) for place in places[first : first + NOTES_MAX]])
        await self._shared.producer.send([self._record(DOWN, None)])

    def due(self, now: float, at_most: int) -> list[Document]:
        """Documents whose bodies are to be read back now; :meth:`read` must follow."""
        found = [] if self.is_reading else self._lane.wanted(now, min(at_most, DOCUMENTS_MAX))
        self.is_reading = self.is_reading or bool(found)
        return found

    async def read(self, documents: Sequence[Document]) -> None:
        """Read back the first bodies of these and hand them to the lane."""
        wanted: dict[int, set[int]] = defaultdict(set)
        for document in documents:
            for place in document.places.ahead(AHEAD):
                partition, offset = where(place)
                wanted[partition].add(offset)
        try:
            found = {
                partition: await self._shared.records.bodies(self._known.topic, partition, offsets) for partition, offsets in wanted.items()
            }
        except (KafkaUnavailable, KafkaRefused) as error:
            logger.info("what is parked of webhook %s cannot be read back now: %s", self._known.webhook, error)
            for document in documents:
                self._lane.not_loaded(document, self._shared.now() + AGAIN_S)
        else:
            for document in documents:
                await self._hand_over(document, found)
        finally:
            self.is_reading = False

    async def _hand_over(self, document: Document, found: dict[int, Bodies]) -> None:
        bodies: list[Held] = []
        for place in document.places.ahead(AHEAD):
            partition, offset = where(place)
            record = found[partition].records.get(offset)
            held = self._marker(partition, offset) if record is None else self._held(document, record)
            if held is not None:
                bodies.append(held)
                continue
            if not bodies and (record is not None or offset in found[partition].gone):
                await self._expired(document, partition, offset)
                return
            break
        if bodies:
            self._lane.loaded(document, bodies)
        else:
            self._lane.not_loaded(document, self._shared.now())

    def _held(self, document: Document, record: LaneRecord) -> Held | None:
        """None: at that offset is another record now; somebody has made the topic anew."""
        try:
            delivery = decode_delivery(record.value or b"")
        except BadRecord:
            return None
        if record.key != document.key or delivery.webhook_uid != self._known.uid:
            return None
        replay = self._known.replay_at(record.partition, record.offset)
        return Held(record.partition, record.offset, record.key, record.value or b"", delivery, replay=replay)

    async def _expired(self, document: Document, partition: int, offset: int) -> None:
        topic = self._known.topic
        logger.error("%s/%d/%d was parked and is not in the lane any more: retention has taken it", topic, partition, offset)
        detail = f"parked after {document.attempt} attempts, and gone from the lane before it could be sent again"
        await self._reports.bury(partition, offset, document.key, None, DeadLetter(Reason.EXPIRED, detail))
        self._lane.gone(document)

    def _noted(self, note: Note) -> Record:
        partition, offset = where(note.place)
        return self._record(self._reports.place(partition, offset), None if note.pointer is None else encode_parked(note.pointer))

    def _record(self, place: str, value: bytes | None) -> Record:
        return Record(self._shared.parked_topic.name, parked_key(self._known.webhook, place), value, partition=self._partition)
