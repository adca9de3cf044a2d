"""
The present documents after a gap: of one partition of ``changes`` the newest delivery of each document from before the snapshot's end.

Shell around snapshots.py, before the rest of the backfill (backfill_run.py). Source: docs/explanation/gaps.md.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from schemas.changes import Change
from schemas.topics import Record
from streams.asking import answered
from streams.backfill import Plan, backfilled
from streams.backfill_run import READ_S, Lane, Surroundings, decoded
from streams.ports import Read
from streams.sieve import Sieve
from streams.snapshots import Newest

PRESENT_MAX = 200_000
"""So many documents of a snapshot are gone through at a time; each takes about 200 bytes."""


class Present:
    """Args: thread: for one reader at a time, and for nobody else."""

    def __init__(self, plan: Plan, partition: int, around: Surroundings, thread: ThreadPoolExecutor) -> None:
        self._plan, self._partition, self._around, self._thread = plan, partition, around, thread
        self._lane = Lane(plan, partition, around)

    async def send(self) -> int | None:
        """
        Put the newest of each document from before the snapshot's end into the lane.

        Two readings a round: where it stands, and what it is. What a former owner left behind the end of the snapshot belongs to it too. A
        crash begins it anew, and comes to the same deliveries: what is before its end has happened.
        Returns:  where in the log the first stands that is not of the snapshot. None: the webhook is gone.
        """
        plan = self._plan
        _, end = await answered(self._around.log.offsets, self._around.topics.changes.name, self._partition, thread=self._thread)
        low = 0
        while True:
            newest = Newest(low, PRESENT_MAX)

            def find(change: Change, read: Read, newest: Newest = newest) -> Record | None:
                if plan.is_snapshot(change):
                    newest.take(read.key or b"", change, read.offset, backfilled(plan, change, {}))
                return None

            def give(change: Change, read: Read, newest: Newest = newest) -> Record | None:
                delivery = backfilled(plan, change, {}) if (read.key or b"", read.offset) in newest else None
                return None if delivery is None else self._lane.record(plan, delivery, change, read)

            begin = await self._scan(end, find)
            if begin is None or await self._scan(end, give) is None:
                return None
            if newest.is_last:
                return begin
            low = newest.high

    async def _scan(self, end: int, take: Callable[[Change, Read], Record | None]) -> int | None:
        """
        Go through all changes from before ``end``, and put what ``take`` gives of each into the lane.

        Returns:  where in the log the first stands that is not of the snapshot, or ``end``. None: the webhook is gone.
        """
        begin, around = end, self._around
        topic, sieve = around.topics.changes.name, Sieve(self._plan)
        reader = await answered(around.log.follow, topic, self._partition, 0, thread=self._thread)
        try:
            while reader.position < end:
                if self._lane.plan() is None:
                    return None
                records = await answered(reader.read, READ_S, thread=self._thread)
                deliveries: list[Record] = []
                async with around.turn:
                    for record in records:
                        if record.offset >= end or record.value is None or not sieve.is_of(record.key):
                            continue
                        change = decoded(topic, self._partition, record)
                        if begin == end and not self._plan.is_snapshot(change):
                            begin = record.offset
                        if isinstance(change, Change) and (found := take(change, record)) is not None:
                            deliveries.append(found)
                        if around.turn.is_over:
                            await around.turn.rest()
                await self._lane.send(self._plan, deliveries)
                around.count(self._partition, len(records))
            return begin
        finally:
            self._thread.submit(reader.close)
