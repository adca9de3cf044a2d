"""
The matching agent, from changes to deliveries: takes a batch, asks who wants it (matching.py), produces, waits for Kafka to acknowledge.

What a mark begins or ends is in ``webhooks`` before the batch is acknowledged. Whatever is cut off is done again from the same log, to the
same bytes. Anything unexpected ends the process; whoever supervises it starts it again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence

from schemas.backfills import encode_backfill
from schemas.changes import Change, PassedMark
from schemas.errors import BadRecord, Fatal
from schemas.positions import Origin
from schemas.records import decode_change, encode_delivery, encode_since
from schemas.topics import Record, Topics
from streams.backfilling import Backfills
from streams.marks import catch_up, has_read
from streams.matching import match
from streams.metrics import StreamsMetrics
from streams.ports import Log, Producer, Received
from streams.subscriptions import Subscriptions

ROUND_RECORDS_MAX = 10_000  # deliveries of one batch that are produced together
ROUND_BYTES_MAX = 16 * 1024 * 1024


class MatchingAgent:
    """Changes to deliveries."""

    def __init__(
        self,
        *,
        topics: Topics,
        producer: Producer,
        log: Log,
        subscriptions: Subscriptions,
        metrics: StreamsMetrics,
        backfills: Backfills,
    ) -> None:
        self.topic = topics.changes.name
        self._topics = topics
        self._webhooks = topics.webhooks.name
        self._producer = producer
        self._log = log
        self._subscriptions = subscriptions
        self._metrics = metrics
        self._backfills = backfills
        self._seen: dict[int, Origin] = {}
        self._rounds: Counter[int] = Counter()
        self._current: set[int] = set()

    def progress(self, partition: int) -> int:
        """See :class:`streams.ports.Agent`: a batch may be many rounds, and a mark may have to wait for a backfill that ends there."""
        return self._rounds[partition] + self._backfills.progress(partition)

    def assigned(self, partitions: Collection[int]) -> None:
        """See :class:`streams.ports.Agent`."""
        self._backfills.assigned(partitions)

    def revoked(self) -> None:
        """See :class:`streams.ports.Agent`."""
        self._seen.clear()  # whoever reads a partition next begins at its commit, and so do we when it comes back
        self._current.clear()
        self._backfills.revoked()

    def close(self) -> None:
        """See :class:`streams.ports.Agent`."""
        self._backfills.close()

    async def process(self, batch: Sequence[Received]) -> None:
        """See :class:`streams.ports.Agent`."""
        if batch[0].partition not in self._current:
            # What a former owner wrote before its commit passed a mark must be known to whoever begins behind the mark.
            await catch_up(self._subscriptions, self._log, self._webhooks)
            self._current.add(batch[0].partition)
        deliveries: list[Record] = []
        size = 0
        begun: list[Record] = []
        for record in batch:
            if record.value is None:
                continue
            change = _decoded(self.topic, record)
            if self._is_repeat(change):
                continue
            if isinstance(change, PassedMark):
                if await has_read(change, self._subscriptions, self._log, self._webhooks):
                    begun += await self._pass(change)
                continue
            for standing, delivery in match(self._subscriptions.queries, change):
                value = encode_delivery(delivery, record.value)
                deliveries.append(Record(standing.lane, record.key, value, (), standing.lane_partition))
                size += len(value)
                self._metrics.matched(standing.name, delivery.match)
            if len(deliveries) >= ROUND_RECORDS_MAX or size >= ROUND_BYTES_MAX:
                await self._deliver(deliveries)
                deliveries, size = [], 0
                self._rounds[record.partition] += 1
        await self._deliver(deliveries)
        await self._producer.send(begun)

    async def _deliver(self, deliveries: Sequence[Record]) -> None:
        """
        Produce one round of deliveries.

        The fewer there are for each lane, the more a round costs: Kafka takes a request for each lane, and a producer has five under way.
        """
        # A webhook deleted in this moment takes its lane along; its deliveries have nowhere to go, and nobody waits for them.
        offsets = await self._producer.send(deliveries, gone_ok=True)
        gone = {record.topic for record, offset in zip(deliveries, offsets, strict=True) if offset < 0}
        if gone:  # the deletion is in `webhooks`, but may not have been read yet
            await catch_up(self._subscriptions, self._log, self._webhooks)
        for lane in gone:
            name = self._topics.webhook_of_lane(lane) or ""
            if self._subscriptions.registry.webhook(name) is not None:
                raise Fatal(f"{lane} is gone, but its webhook is not: put the webhook again, or delete it")

    async def _pass(self, mark: PassedMark) -> list[Record]:
        """What must be in ``webhooks`` before the commit passes a mark."""
        if not mark.ends:
            since = self._subscriptions.marked(mark)
            return [] if since is None else [Record(self._webhooks, since.key.encode(), encode_since(since), (), 0)]
        name = self._subscriptions.ending(mark)
        if name is None:
            return []
        await self._backfills.ended(name, mark.ends, mark.origin.partition)
        if self._subscriptions.ending(mark) is None:  # deleted meanwhile
            return []
        end = self._subscriptions.ended(name, mark)
        return [Record(self._webhooks, end.key.encode(), encode_backfill(end), (), 0)]

    def _is_repeat(self, change: Change | PassedMark) -> bool:
        """A second copy: of two owners that overlapped, or written again by one that caught up."""
        seen = self._seen.get(change.origin.partition)
        if seen is not None and change.origin <= seen:
            self._metrics.repeated()
            return True
        self._seen[change.origin.partition] = change.origin
        return False


def _decoded(topic: str, record: Received) -> Change | PassedMark:
    try:
        return decode_change(record.value or b"")
    except BadRecord as error:
        raise Fatal(f"{topic}/{record.partition}/{record.offset} was not written by this version of Livehook: {error}") from error
