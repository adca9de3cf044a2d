"""
Backfills: what webhooks that start in the past get of it, read from ``changes`` and put into their lanes before the live flow; and the
present documents for those whose lane has lost deliveries.

In each partition of ``changes`` that the worker owns a backfill reads on until it is near the end; then it puts a mark into the same
partition of ``mutations``. Where that mark comes out in ``changes``, the backfill ends and the matching agent takes over: whoever works on
the partition, and however often, all cut at the same place. Here is which of them run, a few at a time; one of them is backfill_run.py.
Source: docs/explanation/backfill.md.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Coroutine, Hashable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from schemas.backfills import BackfillReady, encode_backfill
from schemas.deliveries import Match
from schemas.markers import is_asked_for, marker_of
from schemas.records import encode_delivery
from schemas.topics import Record, Topics
from schemas.webhooks import WebhookRevision
from streams.asking import answered
from streams.backfill import Plan
from streams.backfill_present import Present
from streams.backfill_run import BackfillRun, Surroundings
from streams.backfill_turns import Turn
from streams.marks import catch_up
from streams.metrics import StreamsMetrics
from streams.pace import Pace
from streams.ports import Log, Producer
from streams.subscriptions import Subscriptions

RUNNING_MAX = 4
READY_BY = 0
"""Whose owner says that a backfill has ended everywhere."""
READY = -1
LOOK_S = 0.02

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
        self._around = Surroundings(topics, producer, log, subscriptions, metrics, self._turn, self._count)
        self._running_max = running_max
        self._partitions: frozenset[int] = frozenset()
        self._running: dict[Key, asyncio.Task[None]] = {}
        self._runs: dict[Key, BackfillRun] = {}
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

    def waiting(self) -> dict[str, Hashable]:
        """Those that have something to read, by name, with how far each has come."""
        found = {key: run.waiting for key, run in self._runs.items()}
        return {f"backfill {id_}, partition {partition}": at for (id_, partition), at in found.items() if at is not None}

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
            places = [(await answered(self._log.offsets, lane.name, partition))[1] for partition in range(lane.partitions)]
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
        key = plan.id, partition
        thread = ThreadPoolExecutor(1, thread_name_prefix="backfill")  # a reader is for one thread at a time
        try:
            begin: int | None = None
            if plan.is_after_gap and partition not in plan.progress:
                begin = await Present(plan, partition, self._around, thread).send()
                if begin is None:
                    return
            run = self._runs[key] = BackfillRun(plan, partition, self._around, thread)
            if await run.run(begin):
                self._over.add(key)
        finally:
            self._runs.pop(key, None)
            thread.shutdown(wait=False)

    def _count(self, partition: int, changes: int) -> None:
        self._scanned[partition] = self._scanned.get(partition, 0) + changes
        self._metrics.backfilled(changes)

    def _done(self, key: Key, task: asyncio.Task[None]) -> None:
        del self._running[key]
        if not task.cancelled() and (error := task.exception()) is not None:
            self._fail(error)
        else:
            self.look()
