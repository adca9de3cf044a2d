"""
Backfills: what webhooks that start in the past get of it, read from ``changes`` and put into their lanes before the live flow; and the
present documents for those whose lane has lost deliveries.

In each partition of ``changes`` that the worker owns a backfill reads on until it is near the end; then it puts a mark into the same
partition of ``mutations``. Where that mark comes out in ``changes``, the backfill ends and the matching agent takes over: whoever works on
the partition, and however often, all cut at the same place. Shell around backfill.py; all of it runs in the event loop, but for reading.
Source: docs/explanation/backfill.md.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Coroutine, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

from schemas.backfills import BackfillProgress, BackfillReady, encode_backfill
from schemas.changes import Change, PassedMark
from schemas.deliveries import Delivery, Match
from schemas.errors import BadRecord, Fatal
from schemas.markers import is_asked_for, marker_of
from schemas.mutations import MARK_KEY, Mark
from schemas.positions import Origin
from schemas.records import decode_change, encode_delivery, encode_mark
from schemas.topics import BATCH_BYTES_MAX, Record, Topics
from schemas.webhooks import WebhookRevision
from streams.backfill import Plan, Repeats, backfilled, is_of
from streams.marks import catch_up, has_read
from streams.metrics import StreamsMetrics
from streams.pace import Pace
from streams.ports import Log, Producer, Read, Reader
from streams.snapshots import Newest
from streams.subscriptions import Subscriptions

logger = logging.getLogger(__name__)

T = TypeVar("T")

RUNNING_MAX = 4
READY_BY = 0
"""Whose owner says that a backfill has ended everywhere."""
READY = -1
READ_S = 0.2
SLICE_S = 0.005
NEAR = 500
PROGRESS_S = 2.0
PRESENT_MAX = 200_000
"""So many documents of a snapshot are gone through at a time; each takes about 200 bytes."""
LOOK_S = 0.02
CLOCKS_US = 3_600_000_000
"""A change may have been written so long before its ``txnId``, by clocks of several machines that disagree."""

Key = tuple[str, int]
"""A backfill, and a partition; READY: what is to be done when all of them have ended."""


class Backfills:
    """
    Those of one worker, a few at a time.

    Args:  fail: called with what makes it unsafe to go on; it must end the process.
    """

    def __init__(
        self,
        *,
        topics: Topics,
        producer: Producer,
        log: Log,
        subscriptions: Subscriptions,
        metrics: StreamsMetrics,
        fail: Callable[[BaseException], None],
        pace: Pace | None = None,
        running_max: int = RUNNING_MAX,
    ) -> None:
        self._topics, self._producer, self._log, self._subscriptions, self._metrics = topics, producer, log, subscriptions, metrics
        self._fail = fail
        self._turn = Turn(Pace() if pace is None else pace)
        self._running_max = running_max
        self._partitions: frozenset[int] = frozenset()
        self._running: dict[Key, asyncio.Task[None]] = {}
        self._scanned: dict[int, int] = {}
        self._over: set[Key] = set()  # they have read their mark: all from before it is in the lane, whoever owns the partition
        self._is_due = False
        subscriptions.on_owed = self._look_soon

    def assigned(self, partitions: Collection[int]) -> None:
        """These partitions are ours from now on, and no others."""
        self.revoked()
        self._partitions = frozenset(partitions)
        self.look()

    def revoked(self) -> None:
        """None is ours: whoever has them next goes on from what is on record."""
        self._partitions = frozenset()
        for task in self._running.values():
            task.cancel()

    def close(self) -> None:
        """End."""
        self.revoked()

    def progress(self, partition: int) -> int:
        """How many changes of a partition were looked at since this worker has begun."""
        return self._scanned.get(partition, 0)

    def _look_soon(self) -> None:
        """Many records of ``webhooks`` may come at once, and each may be news."""
        if not self._is_due:
            self._is_due = True
            asyncio.get_running_loop().call_later(LOOK_S, self.look)

    def look(self) -> None:
        """Begin what is to be done, as far as there is room."""
        self._is_due = False
        if len(self._running) >= self._running_max:
            return  # whoever ends looks again
        if READY_BY in self._partitions:
            for made in self._subscriptions.unready():
                if (key := (made.backfill or made.uid, READY)) not in self._running:
                    self._start(key, self._make_ready(made))
        for partition in sorted(self._partitions):
            for name in self._subscriptions.owed(partition):
                if len(self._running) >= self._running_max:
                    return
                plan = self._subscriptions.plan(name)
                if plan is not None and (plan.id, partition) not in self._over:
                    self._begin(plan, partition)

    async def ended(self, name: str, id_: str, partition: int) -> None:
        """
        Until everything from before the backfill's mark is in the lane, or the webhook is gone. It does not wait for its turn.

        Raises:  CancelledError: it was given up, as the partition was.
        """
        plan = self._subscriptions.plan(name)
        if (id_, partition) not in self._over and plan is not None and plan.id == id_:
            with self._turn.hurry():
                if (given_up := self._running.get((id_, partition))) is not None and given_up.cancelling():
                    await asyncio.wait([given_up])  # of before a rebalance that has left us the partition
                await asyncio.shield(self._begin(plan, partition))
        self._over.discard((id_, partition))

    def _begin(self, plan: Plan, partition: int) -> asyncio.Task[None]:
        key = plan.id, partition
        task = self._running.get(key)
        return self._start(key, self._run(plan, partition)) if task is None else task

    def _start(self, key: Key, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = self._running[key] = asyncio.create_task(work, name=f"backfill {key}")
        task.add_done_callback(lambda done: self._done(key, done))
        return task

    async def _make_ready(self, made: WebhookRevision) -> None:
        """
        Say in the lane that the backfill has ended, if asked, and note where.

        Once it is on record nobody does it again; who dies before has it done again by the next owner, to the same marker.
        """
        lane = self._topics.lane(made.name, made.spec.delivery.partitions)
        try:
            places = [(await asyncio.to_thread(self._log.offsets, lane.name, partition))[1] for partition in range(lane.partitions)]
        except Exception:
            await catch_up(self._subscriptions, self._log, self._topics.webhooks.name)
            if self._subscriptions.registry.webhook(made.name) is None:  # deleted meanwhile, with its lane
                return
            raise
        if is_asked_for(made, Match.READY):
            marker = marker_of(made, Match.READY, places)
            record = Record(lane.name, marker.change.key.encode(), encode_delivery(marker), (), 0)
            await self._producer.send([record], gone_ok=True)
        ready = BackfillReady(made.name, made.backfill or made.uid, tuple(places))
        await self._producer.send([Record(self._topics.webhooks.name, ready.key.encode(), encode_backfill(ready), (), 0)])
        await catch_up(self._subscriptions, self._log, self._topics.webhooks.name)

    async def _run(self, plan: Plan, partition: int) -> None:
        backfill = _Backfill(
            plan, partition, topics=self._topics, producer=self._producer, log=self._log, subscriptions=self._subscriptions,
            metrics=self._metrics, turn=self._turn, count=self._count,
        )  # fmt: skip
        if await backfill.run():
            self._over.add((plan.id, partition))

    def _count(self, partition: int, changes: int) -> None:
        self._scanned[partition] = self._scanned.get(partition, 0) + changes
        self._metrics.backfilled(changes)

    def _done(self, key: Key, task: asyncio.Task[None]) -> None:
        del self._running[key]
        if not task.cancelled() and (error := task.exception()) is not None:
            self._fail(error)
        else:
            self.look()


class Turn:
    """Whose turn it is to keep the event loop busy: one backfill at a time, with rests."""

    def __init__(self, pace: Pace) -> None:
        self._pace = pace
        self._waiting = 0
        self._lock = asyncio.Lock()
        self._begun = 0.0

    async def __aenter__(self) -> None:
        await self._lock.acquire()
        self._begun = time.perf_counter()

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                await self.rest()
        finally:
            self._lock.release()

    @contextmanager
    def hurry(self) -> Iterator[None]:
        """The live flow waits: no rests meanwhile."""
        self._waiting += 1
        try:
            yield
        finally:
            self._waiting -= 1

    @property
    def is_over(self) -> bool:
        """It has taken long enough, and should rest."""
        return time.perf_counter() - self._begun >= SLICE_S

    async def rest(self) -> None:
        """Let others go on."""
        rest_s = self._pace.rest_s(time.perf_counter() - self._begun)
        await asyncio.sleep(0 if self._waiting else rest_s)
        self._begun = time.perf_counter()


class _Backfill:
    """One webhook in one partition, until the mark at which it ends."""

    def __init__(
        self,
        plan: Plan,
        partition: int,
        *,
        topics: Topics,
        producer: Producer,
        log: Log,
        subscriptions: Subscriptions,
        metrics: StreamsMetrics,
        turn: Turn,
        count: Callable[[int, int], None],
    ) -> None:
        self._name, self._id, self._partition = plan.name, plan.id, partition
        self._topics, self._producer, self._log, self._subscriptions, self._metrics = topics, producer, log, subscriptions, metrics
        self._turn, self._count = turn, count
        self._repeats = Repeats(plan.is_snapshot)
        self._since: dict[int, Origin] = {}
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="backfill")  # a reader is for one thread at a time
        self._first_us = plan.first_txn - CLOCKS_US
        self._recorded = plan.progress.get(partition, -1)
        self._record_due = 0.0
        self._is_marked = False
        self._end = 0
        self._reader: Reader | None = None

    async def run(self) -> bool:
        """Whether the mark was read; else the webhook is gone, or somebody else has ended its backfill here."""
        try:
            if (plan := self._plan()) is not None and plan.is_after_gap and self._recorded < 0 and not await self._send_present(plan):
                return False
            reader = await self._in_thread(self._open)
            logger.info("backfill of webhook %s: partition %d from offset %d", self._name, self._partition, reader.position)
            while (plan := self._plan()) is not None:
                records = await self._in_thread(reader.read, READ_S)
                if await self._take(plan, records):
                    logger.info("backfill of webhook %s: partition %d is done", self._name, self._partition)
                    return True
                await self._note(reader.position)
            return False
        finally:
            self._metrics.backfill_over(self._name, self._partition)
            self._thread.submit(self._close)
            self._thread.shutdown(wait=False)

    def _plan(self) -> Plan | None:
        if not self._subscriptions.is_owed(self._name, self._partition):
            return None
        plan = self._subscriptions.plan(self._name)
        return None if plan is None or plan.id != self._id else plan

    def _open(self) -> Reader:
        topic, start = self._topics.changes.name, self._recorded
        if start < 0:
            start = self._log.offset_at(topic, self._partition, self._first_us) if self._first_us > 0 else 0
        self._reader = self._log.follow(topic, self._partition, start)
        return self._reader

    def _close(self) -> None:
        if self._reader is not None:
            self._reader.close()

    async def _take(self, plan: Plan, records: Sequence[Read]) -> bool:
        """Put into the lane what these records lead to; True: the mark is among them, and nothing behind it was looked at."""
        deliveries: list[Record] = []
        size, collections = 0, plan.collections
        async with self._turn:
            for record in records:
                if record.value is None or not is_of(record.key, collections):
                    continue
                change = self._decoded(record)
                if isinstance(change, PassedMark):
                    if change.ends == self._id:
                        await self._send(plan, deliveries)
                        return True
                    await self._pass(change)
                    if (renewed := self._plan()) is None:
                        return False
                    plan, collections = renewed, renewed.collections
                elif (found := self._delivery(plan, change, record)) is not None:
                    deliveries.append(found)
                    size += len(found.value or b"")
                if size >= BATCH_BYTES_MAX:
                    await self._send(plan, deliveries)
                    deliveries, size = [], 0
                if self._turn.is_over:
                    await self._turn.rest()
        await self._send(plan, deliveries)
        self._count(self._partition, len(records))
        return False

    def _delivery(self, plan: Plan, change: Change, record: Read) -> Record | None:
        if self._repeats.is_repeat(change) or (plan.is_after_gap and plan.is_snapshot(change)):  # that was sent before
            return None
        delivery = backfilled(plan, change, self._since)
        return None if delivery is None else self._record(plan, change, delivery, record)

    def _record(self, plan: Plan, change: Change, delivery: Delivery, read: Read) -> Record:
        self._metrics.matched(plan.name, delivery.match)
        value = encode_delivery(delivery, read.value if delivery.change is change else None)
        return Record(plan.lane, read.key, value, (), plan.lane_partition)

    # After a gap.

    async def _send_present(self, plan: Plan) -> bool:
        """
        Put the newest of each document from before the snapshot's end into the lane. False: the webhook is gone.

        Two readings a round: where it stands, and what it is. What a former owner left behind the end of the snapshot belongs to it too. A
        crash begins it anew, and comes to the same deliveries: what is before its end has happened.
        """
        _, end = await self._in_thread(self._log.offsets, self._topics.changes.name, self._partition)
        low, begin = 0, end
        while True:
            newest = Newest(low, PRESENT_MAX)

            def find(change: Change, read: Read, newest: Newest = newest) -> Record | None:
                if plan.is_snapshot(change):
                    newest.take(read.key or b"", change, read.offset, backfilled(plan, change, {}))
                return None

            def give(change: Change, read: Read, newest: Newest = newest) -> Record | None:
                delivery = backfilled(plan, change, {}) if (read.key or b"", read.offset) in newest else None
                return None if delivery is None else self._record(plan, change, delivery, read)

            found = await self._scan(plan, end, find)
            if found is None or await self._scan(plan, end, give) is None:
                return False
            begin = found
            if newest.is_last:
                break
            low = newest.high
        self._recorded = begin
        return True

    async def _scan(self, plan: Plan, end: int, take: Callable[[Change, Read], Record | None]) -> int | None:
        """
        Go through all changes from before ``end``, and put what ``take`` gives of each into the lane.

        Returns:  where in the log the first stands that is not of the snapshot, or ``end``. None: the webhook is gone.
        """
        begin, collections = end, plan.collections
        reader = await self._in_thread(self._log.follow, self._topics.changes.name, self._partition, 0)
        try:
            while reader.position < end:
                if self._plan() is None:
                    return None
                records = await self._in_thread(reader.read, READ_S)
                deliveries: list[Record] = []
                async with self._turn:
                    for record in records:
                        if record.offset >= end or record.value is None or not is_of(record.key, collections):
                            continue
                        change = self._decoded(record)
                        if begin == end and not plan.is_snapshot(change):
                            begin = record.offset
                        if isinstance(change, Change) and (found := take(change, record)) is not None:
                            deliveries.append(found)
                        if self._turn.is_over:
                            await self._turn.rest()
                await self._send(plan, deliveries)
                self._count(self._partition, len(records))
            return begin
        finally:
            self._thread.submit(reader.close)

    async def _pass(self, mark: PassedMark) -> None:
        """From here on another revision may hold; the matching agent may not have come here yet."""
        if not mark.ends and await has_read(mark, self._subscriptions, self._log, self._topics.webhooks.name):
            number = self._subscriptions.begun_by(mark, self._name)
            if number is not None:
                self._since.setdefault(number, mark.origin)

    async def _send(self, plan: Plan, deliveries: Sequence[Record]) -> None:
        if not deliveries or min(await self._producer.send(deliveries, gone_ok=True)) >= 0:
            return
        await catch_up(self._subscriptions, self._log, self._topics.webhooks.name)  # the deletion may not have been read yet
        if self._plan() is not None:
            raise Fatal(f"{plan.lane} is gone, but its webhook is not: put the webhook again, or delete it")

    async def _note(self, position: int) -> None:
        """Put on record how far it is, now and then; near the end, put in the mark."""
        is_due = time.monotonic() >= self._record_due and position != self._recorded
        may_be_near = not self._is_marked and position >= self._end - NEAR
        if not is_due and not may_be_near:
            return
        _, self._end = await self._in_thread(self._log.offsets, self._topics.changes.name, self._partition)
        self._metrics.backfill_left(self._name, self._partition, max(self._end - position, 0))
        is_near = may_be_near and position >= self._end - NEAR
        if not is_due and not is_near:
            return
        progress = BackfillProgress(self._name, self._id, self._partition, position)
        [offset] = await self._producer.send([Record(self._topics.webhooks.name, progress.key.encode(), encode_backfill(progress), (), 0)])
        self._recorded, self._record_due = position, time.monotonic() + PROGRESS_S
        if is_near:
            mark = encode_mark(Mark(offset, self._id))
            await self._producer.send([Record(self._topics.mutations.name, MARK_KEY, mark, (), self._partition)])
            self._is_marked = True

    def _decoded(self, record: Read) -> Change | PassedMark:
        try:
            return decode_change(record.value or b"")
        except BadRecord as error:
            where = f"{self._topics.changes.name}/{self._partition}/{record.offset}"
            raise Fatal(f"{where} was not written by this version of Livehook: {error}") from error

    async def _in_thread(self, act: Callable[..., T], *what: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, act, *what)
