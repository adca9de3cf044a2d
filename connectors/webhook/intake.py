"""
Records into a lane's window, and the consumer stopped while there is no room, or while something is missing before what it reads: what came
before it has stopped waits here, in order.

Shell; runs in the event loop. Called by work.py.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable

from prometheus_client import Counter

from connectors.webhook.gaps import Gaps
from connectors.webhook.held import Held
from connectors.webhook.lanes import Lane
from connectors.webhook.offsets import Entry, Seen
from connectors.webhook.ownership import KnownLane, LaneRecord, Place
from connectors.webhook.rates import Share
from connectors.webhook.retry import DeadLetter
from connectors.webhook.shared import Reading
from schemas.deliveries import Delivery
from schemas.errors import BadRecord, Reason
from schemas.records import decode_delivery

logger = logging.getLogger(__name__)

Bury = Callable[[LaneRecord, DeadLetter, Entry], None]
"""Puts a record that is no delivery into the dead letters, and then settles its entry."""


class Intake:
    """
    Args:  held_bytes: of all lanes.
           count: to be called when the lane holds more or less than before.
           due: when a delivery that is read now may first be sent; 0 for at once.
           bury: see :data:`Bury`.
    """

    def __init__(
        self,
        known: KnownLane,
        lane: Lane,
        *,
        reading: Reading,
        held_bytes: Share,
        count: Callable[[], None],
        duplicates: Counter,
        due: Callable[[], float],
        bury: Bury,
    ) -> None:
        self._known, self._lane = known, lane
        self._reading, self._held_bytes, self._duplicates, self._count = reading, held_bytes, duplicates, count
        self._due, self._bury = due, bury
        self.gaps = Gaps(lane, due=due, replay_at=known.replay_at)
        self._waiting: dict[int, deque[LaneRecord]] = {partition: deque() for _, partition in known.places}
        self._stopped: set[int] = set()
        self.is_open = False  # until it is known what was parked before, nothing is taken

    @property
    def is_stopped(self) -> bool:
        """Whether a partition is not read on for now."""
        return bool(self._stopped)

    @property
    def has_room(self) -> bool:
        """Whether so much of a partition that is not read on has been sent that it is time to :meth:`refill`: not after each call."""
        lane, waiting = self._lane, self._waiting
        return any(lane.roomy(partition) if waiting[partition] else lane.thin(partition) for partition in self._stopped)

    @property
    def stopped(self) -> list[Place]:
        """The partitions that are not read on for now."""
        return [(self._known.topic, partition) for partition in self._stopped]

    def read_to(self, partition: int) -> int:
        """The offset after the last record that came."""
        waiting = self._waiting[partition]
        return waiting[-1].offset + 1 if waiting else self._lane.partitions[partition].position

    def read(self, record: LaneRecord) -> None:
        """The next record of its partition."""
        waiting = self._waiting[record.partition]
        if not waiting and self._fits(record):
            self._take(record)
            return
        waiting.append(record)
        self._stop(record.partition)

    def _stop(self, partition: int) -> None:
        if partition not in self._stopped:
            self._stopped.add(partition)
            self._reading.pause([(self._known.topic, partition)])

    def refill(self) -> bool:
        """
        Into the window what waits before it; then, once there is room worth a fetch, read on.

        Returns:  whether something waits only because the other lanes hold so much.
        """
        crowded_out = False
        for partition in list(self._stopped):
            waiting = self._waiting[partition]
            while waiting and self._fits(waiting[0]):
                self._take(waiting.popleft())
            if waiting:
                crowded_out |= self.is_open and not self._lane.full(partition) and not self.gaps.stops(partition)
            elif self._lane.thin(partition) and not self.gaps.stops(partition):
                self._stopped.discard(partition)
                self._reading.resume([(self._known.topic, partition)])
        return crowded_out

    def begins_at(self, partition: int, log_start: int) -> None:
        """The log holds nothing before this offset, and nothing behind it either that would come and show what is missing."""
        if self.is_open and log_start > self.read_to(partition) and self.gaps.find(partition, log_start):
            self._stop(partition)

    def _fits(self, record: LaneRecord) -> bool:
        """Whether it may be taken in: there is room, and nothing is missing before it."""
        partition = record.partition
        if self._full(partition) or self.gaps.stops(partition):
            return False
        if record.offset <= self._lane.partitions[partition].position:
            return True
        return not self.gaps.find(partition, record.offset, lambda: _txn_of(record))

    def _full(self, partition: int) -> bool:
        own = self._lane.bytes
        return not self.is_open or self._lane.full(partition) or (own > 0 and not self._held_bytes.allows(own))

    def _take(self, record: LaneRecord) -> None:
        position = self._lane.partitions[record.partition].position
        if record.offset < position:
            logger.warning("%s/%d was cut: it was read to %d and goes on at %d", record.topic, record.partition, position, record.offset)
        try:
            delivery = _delivery(record)
        except BadRecord as error:
            entry = self._lane.set_aside(record.partition, record.offset)
            if entry is not None:
                self._bury(record, DeadLetter(error.reason, error.detail), entry)
            return
        if delivery.webhook_uid == self._known.uid:
            replay = self._known.replay_at(record.partition, record.offset)
            self._hold(Held(record.partition, record.offset, record.key, record.value or b"", delivery, self._due(), replay))
        else:
            self._pass_over(record, delivery)

    def _hold(self, held: Held) -> None:
        if self._lane.take(held) is Seen.DUPLICATE:
            self._duplicates.inc()
        self.gaps.passed(held.partition, held.delivery.change.txn_id)
        self._count()

    def _pass_over(self, record: LaneRecord, delivery: Delivery) -> None:
        """Matched for a webhook of this name that was deleted meanwhile: nobody waits for it."""
        logger.info("%s/%d/%d is of webhook %s, which is gone", record.topic, record.partition, record.offset, delivery.webhook_uid)
        entry = self._lane.set_aside(record.partition, record.offset)
        if entry is not None:
            self._lane.settled(record.partition, entry)


def _txn_of(record: LaneRecord) -> int | None:
    try:
        return _delivery(record).change.txn_id
    except BadRecord:
        return None  # it is dead-lettered when its turn comes


def _delivery(record: LaneRecord) -> Delivery:
    if record.value is None:
        raise BadRecord(Reason.UNDECODABLE, "it has no value")
    return decode_delivery(record.value)
