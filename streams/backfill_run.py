"""
One backfill in one partition of ``changes``, from where it begins up to the mark where the live flow takes over. Called by backfilling.py.

Shell around backfill.py: reads in a thread, evaluates in the event loop in its turn, writes to the lane, notes how far it is.
Source: docs/explanation/backfill.md.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

from schemas.backfills import BackfillProgress, encode_backfill
from schemas.changes import Change, PassedMark
from schemas.deliveries import Delivery
from schemas.errors import BadRecord, Fatal
from schemas.mutations import MARK_KEY, Mark
from schemas.positions import Origin
from schemas.records import decode_change, encode_delivery, encode_mark
from schemas.topics import BATCH_BYTES_MAX, Record, Topics
from streams.asking import answered
from streams.backfill import Plan, Repeats, backfilled
from streams.backfill_turns import Turn
from streams.marks import catch_up, has_read
from streams.metrics import StreamsMetrics
from streams.pace import Urgency
from streams.ports import Log, Producer, Read, Reader
from streams.sieve import Sieve
from streams.subscriptions import Subscriptions

logger = logging.getLogger(__name__)

T = TypeVar("T")

READ_S = 0.2
NEAR = 500
PROGRESS_S = 2.0
CLOCKS_US = 3_600_000_000
"""A change may have been written so long before its ``txnId``, by clocks of several machines that disagree."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What all backfills of a worker share. ``count``: is told of a partition how many of its changes were looked at."""

    topics: Topics
    producer: Producer
    log: Log
    subscriptions: Subscriptions
    metrics: StreamsMetrics
    turn: Turn
    count: Callable[[int, int], None]


class Lane:
    """Where a backfill puts deliveries, as long as the webhook is there and this backfill is still to be done."""

    def __init__(self, plan: Plan, partition: int, around: Surroundings) -> None:
        self.name, self.id, self.partition = plan.name, plan.id, partition
        self._around = around

    def plan(self) -> Plan | None:
        """The backfill as it is now; None: it is over, or the webhook is gone."""
        subscriptions = self._around.subscriptions
        if not subscriptions.is_owed(self.name, self.partition):
            return None
        plan = subscriptions.plan(self.name)
        return None if plan is None or plan.id != self.id else plan

    def record(self, plan: Plan, delivery: Delivery, change: Change, read: Read) -> Record:
        """A delivery of a change that was read."""
        self._around.metrics.matched(plan.name, delivery.match)
        value = encode_delivery(delivery, read.value if delivery.change is change else None)
        return Record(plan.lane, read.key, value, (), plan.lane_partition)

    async def send(self, plan: Plan, deliveries: Sequence[Record]) -> None:
        """Write these, in order. Raises Fatal: the lane is gone, but its webhook is not."""
        around = self._around
        if not deliveries or min(await around.producer.send(deliveries, gone_ok=True)) >= 0:
            return
        await catch_up(around.subscriptions, around.log, around.topics.webhooks.name)  # the deletion may not have been read yet
        if self.plan() is not None:
            raise Fatal(f"{plan.lane} is gone, but its webhook is not: put the webhook again, or delete it")


class BackfillRun:
    """
    Args:  thread: for one reader at a time, and for nobody else.
    """

    def __init__(self, plan: Plan, partition: int, around: Surroundings, thread: ThreadPoolExecutor) -> None:
        self._lane = Lane(plan, partition, around)
        self._partition, self._around, self._thread = partition, around, thread
        self._repeats = Repeats(plan.is_snapshot)
        self._since: dict[int, Origin] = {}
        self._first_us = plan.first_txn - CLOCKS_US
        self._recorded = plan.progress.get(partition, -1)
        self._record_due = 0.0
        self._marked: int | None = None
        self._end = 0
        self._reader: Reader | None = None
        self._urgency = Urgency()

    @property
    def waiting(self) -> int | None:
        """How far it is, if there is something left to read; None: there is nothing, as far as is known."""
        return self._reader.position if self._reader is not None and self._reader.position < self._end else None

    async def run(self, start: int | None = None) -> bool:
        """
        Whether the mark was read; else the webhook is gone, or somebody else has ended its backfill here.

        Args:  start: where to begin in ``changes``, if nothing is on record; None: where the plan begins.
        """
        lane, turn = self._lane, self._around.turn
        try:
            reader = await self._ask(self._open, start)
            logger.info("backfill %s of webhook %s: partition %d from offset %d", lane.id, lane.name, self._partition, reader.position)
            while (plan := lane.plan()) is not None:
                records = await self._ask(reader.read, READ_S)
                if await self._take(plan, records):
                    logger.info("backfill %s of webhook %s: partition %d is done", lane.id, lane.name, self._partition)
                    return True
                await self._note(reader.position)
            return False
        finally:
            turn.urge((lane.id, self._partition), None)
            self._around.metrics.backfill_over(lane.name, self._partition)
            self._thread.submit(self._close)

    def _open(self, start: int | None) -> Reader:
        topic, log = self._around.topics.changes.name, self._around.log
        if self._recorded >= 0:
            start = self._recorded
        elif start is None:
            start = log.offset_at(topic, self._partition, self._first_us) if self._first_us > 0 else 0
        self._reader = log.follow(topic, self._partition, start)
        return self._reader

    def _close(self) -> None:
        if self._reader is not None:
            self._reader.close()

    async def _take(self, plan: Plan, records: Sequence[Read]) -> bool:
        """Put into the lane what these records lead to; True: the mark is among them, and nothing behind it was looked at."""
        place = 0
        while place < len(records):
            async with self._around.turn:
                deliveries, place, mark = await self._evaluate(plan, records, place)
            await self._lane.send(plan, deliveries)
            if mark is None:
                continue
            if mark.ends == plan.id:
                return True
            await self._pass(mark)
            if (renewed := self._lane.plan()) is None:
                return False
            plan = renewed
        self._around.count(self._partition, len(records))
        return False

    async def _evaluate(self, plan: Plan, records: Sequence[Read], first: int) -> tuple[list[Record], int, PassedMark | None]:
        """
        Deliveries of the records from ``first`` on, until there are as many as may be written at once, or up to a mark.

        Returns:  also the place after the last record that was looked at, and the mark if it is one.
        """
        deliveries: list[Record] = []
        size, sieve = 0, Sieve(plan)
        for place in range(first, len(records)):
            record = records[place]
            if self._around.turn.is_over:
                await self._around.turn.rest()
            if not sieve.passes(record.key, record.value):
                continue
            change = decoded(self._around.topics.changes.name, self._partition, record)
            if isinstance(change, PassedMark):
                return deliveries, place + 1, change
            delivery = self._delivery(plan, change)
            if delivery is not None:
                found = self._lane.record(plan, delivery, change, record)
                deliveries.append(found)
                size += len(found.value or b"")
                if size >= BATCH_BYTES_MAX:
                    return deliveries, place + 1, None
        return deliveries, len(records), None

    def _delivery(self, plan: Plan, change: Change) -> Delivery | None:
        if self._repeats.is_repeat(change) or (plan.is_after_gap and plan.is_snapshot(change)):  # that was sent before
            return None
        return backfilled(plan, change, self._since)

    async def _pass(self, mark: PassedMark) -> None:
        """From here on another revision may hold; the matching agent may not have come here yet."""
        around = self._around
        if not mark.ends and await has_read(mark, around.subscriptions, around.log, around.topics.webhooks.name):
            number = around.subscriptions.begun_by(mark, self._lane.name)
            if number is not None:
                self._since.setdefault(number, mark.origin)

    async def _note(self, position: int) -> None:
        """Put on record how far it is, now and then; near the end, put in the mark."""
        lane, around, now_s = self._lane, self._around, time.monotonic()
        is_due = now_s >= self._record_due
        may_be_near = self._marked is None and position >= self._end - NEAR
        if not is_due and not may_be_near:
            return
        _, self._end = await self._ask(around.log.offsets, around.topics.changes.name, self._partition)
        left = max(self._end - position, 0)
        around.metrics.backfill_left(lane.name, self._partition, left)
        around.turn.urge((lane.id, self._partition), self._urgency.share(left, now_s))
        is_near = position >= self._end - NEAR and await self._is_mark_missing()
        if is_near or (is_due and position != self._recorded):
            offset = await self._record(position)
            if is_near:
                await self._mark(offset)
        self._record_due = now_s + PROGRESS_S

    async def _record(self, position: int) -> int:
        """Where in ``webhooks`` it stands now how far this backfill is."""
        progress = BackfillProgress(self._lane.name, self._lane.id, self._partition, position)
        record = Record(self._around.topics.webhooks.name, progress.key.encode(), encode_backfill(progress), (), 0)
        [offset] = await self._around.producer.send([record])
        self._recorded = position
        return offset

    async def _is_mark_missing(self) -> bool:
        """
        Whether the mark is to be written, perhaps once more: of ``mutations`` nobody may have read it before it was removed.

        If it had been read, it would stand in ``changes`` and the next look there would find it; then a second one does no harm.
        """
        if self._marked is None:
            return True
        first, _ = await self._ask(self._around.log.offsets, self._around.topics.mutations.name, self._partition)
        return first > self._marked

    async def _mark(self, offset: int) -> None:
        mark = encode_mark(Mark(offset, self._lane.id))
        record = Record(self._around.topics.mutations.name, MARK_KEY, mark, (), self._partition)
        [self._marked] = await self._around.producer.send([record])

    async def _ask(self, act: Callable[..., T], *what: object) -> T:
        return await answered(act, *what, thread=self._thread)


def decoded(topic: str, partition: int, record: Read) -> Change | PassedMark:
    """What stands in ``changes``. Raises Fatal: another program wrote it."""
    try:
        return decode_change(record.value or b"")
    except BadRecord as error:
        raise Fatal(f"{topic}/{partition}/{record.offset} was not written by this version of Livehook: {error}") from error
