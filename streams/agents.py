"""
The agents: take a batch, call the pure functions, produce, wait for the acknowledgements, acknowledge. Nothing is decided here.

Order of the effects is what survives a crash: dead letters and forwarded records are acknowledged first, then the changes; then the store
is written; then the batch is acknowledged. Whatever is cut off is done again from the same log, to the same bytes.
Anything unexpected ends the process; whoever supervises it starts it again.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path

from schemas.backfills import encode_backfill
from schemas.changes import Change, PassedMark
from schemas.codec import SchemaById
from schemas.errors import BadRecord, Fatal
from schemas.mutations import MARK_KEY
from schemas.positions import Origin, Position
from schemas.records import decode_change, encode_change, encode_delivery, encode_mutation, encode_passed_mark, encode_since
from schemas.topics import Record, Topics
from streams.backfilling import Backfills
from streams.documents import VIA, Applied, Dead, Forwarded, MutationRecord, apply_all
from streams.marks import catch_up, has_read
from streams.matching import match
from streams.metrics import StreamsMetrics
from streams.ports import Log, Producer, Read, Received
from streams.state import Documents, Fold
from streams.subscriptions import Subscriptions

logger = logging.getLogger(__name__)

ROUND_RECORDS_MAX = 10_000  # deliveries of one batch that are produced together
ROUND_BYTES_MAX = 16 * 1024 * 1024


class DocumentsAgent:
    """
    Mutations to changes, for the partitions that this process owns.

    folder:  where the stores are, one below it for each partition.
    """

    def __init__(
        self,
        *,
        topics: Topics,
        folder: Path,
        producer: Producer,
        log: Log,
        epoch: int,
        changes_topic_id: str,
        metrics: StreamsMetrics,
        schema_by_id: SchemaById | None = None,
    ) -> None:
        self.topic = topics.mutations.name
        self._topics = topics
        self._folder = folder
        self._producer = producer
        self._log = log
        self._epoch = epoch
        self._changes_topic_id = changes_topic_id
        self._metrics = metrics
        self._schema_by_id = schema_by_id
        self._owned: dict[int, Documents] = {}
        self._current: set[int] = set()

    async def process(self, batch: Sequence[Received]) -> None:
        """See :class:`streams.ports.Agent`."""
        partition = batch[0].partition
        documents = await self._documents(partition)
        applied = apply_all(
            [_mutation_record(record) for record in batch],
            documents.meta.progress,
            documents.document,
            epoch=self._epoch,
            partitions=self._topics.partitions,
            schema_by_id=self._schema_by_id,
        )
        await self._producer.send([*self._dead_letters(applied), *self._forwards(applied.forwarded)])
        position = await self._publish(partition, applied.changes, documents.meta.position)
        offsets = range(documents.meta.position, position)
        changes = [(change, offset) for change, offset in zip(applied.changes, offsets, strict=True) if isinstance(change, Change)]
        documents.write(changes, applied.progress, position)
        self._metrics.applied(partition, len(changes), applied, documents.meta.documents)

    async def _publish(self, partition: int, changes: Sequence[Change | PassedMark], end: int) -> int:
        """Produce to ``changes`` and hold the ownership check: nobody else may have written there since we caught up to ``end``."""
        records = [_changes_record(self._topics.changes.name, partition, change) for change in changes]
        offsets = await self._producer.send(records)
        for expected, offset in enumerate(offsets, start=end):
            if offset != expected:
                raise Fatal(
                    f"{self._topics.changes.name}/{partition}: our record has offset {offset} where {expected} was next, so another "
                    "process wrote there too. This one ends, and catches up when it is started again"
                )
        return end + len(offsets)

    def progress(self, partition: int) -> int:
        """See :class:`streams.ports.Agent`: catching up with a long log takes its time."""
        documents = self._owned.get(partition)
        return 0 if documents is None else documents.meta.position

    def assigned(self, partitions: Collection[int]) -> None:
        """See :class:`streams.ports.Agent`."""

    def revoked(self) -> None:
        """See :class:`streams.ports.Agent`: each partition is caught up again before it is used."""
        self._current.clear()

    def close(self) -> None:
        """See :class:`streams.ports.Agent`."""
        for documents in self._owned.values():
            documents.close()
        self._owned.clear()
        self._current.clear()

    async def _documents(self, partition: int) -> Documents:
        if partition not in self._current:
            loop = asyncio.get_running_loop()
            documents, behind, end = await loop.run_in_executor(None, self._catch_up, partition)
            if behind:
                await self._repair(partition, documents, behind, end)
            self._current.add(partition)
        return self._owned[partition]

    def _catch_up(self, partition: int) -> tuple[Documents, dict[str, int], int]:
        """
        Fold what was added to ``changes`` since we last looked.

        Returns:  beside the store the documents whose newest changes are followed by older copies, and where the log ends.
        """
        topic = self._topics.changes.name
        documents = self._owned.get(partition)
        if documents is None:
            documents = self._owned[partition] = Documents(self._folder / str(partition), self._changes_topic_id)
        first, end = self._log.offsets(topic, partition)
        position = documents.meta.position
        if position > end:
            raise Fatal(
                f"{topic}/{partition} ends at offset {end}, but {position} was reached before: the topic was truncated. "
                f"Restore it; or, to go on with the documents that are left, remove {self._folder / str(partition)}"
            )
        fold = Fold(documents)
        for batch in self._log.read(topic, partition, max(position, first), end):
            for read in batch:
                if read.value is not None:
                    fold.take(decode_change(read.value), read.offset)
            fold.write(batch[-1].offset + 1)
        fold.write(end)
        self._check_mutations(partition, documents)
        logger.info("caught up", extra={"partition": partition, "from": position, "to": end, "documents": documents.meta.documents})
        return documents, fold.behind, end

    def _check_mutations(self, partition: int, documents: Documents) -> None:
        origin = documents.meta.progress.origin
        topic = self._topics.mutations.name
        first, end = self._log.offsets(topic, partition)
        committed = self._log.committed(topic, partition)
        if committed is not None and committed < first:
            logger.error(
                "%s/%d begins at offset %d: %d mutations were removed before they were applied", topic, partition, first, first - committed
            )
        if origin is not None and origin.epoch == self._epoch and origin.offset >= end:
            raise Fatal(
                f"{topic}/{partition} ends at offset {end}, but {origin.offset} was applied before: the topic was truncated or made anew. "
                "Start once with --new-epoch to take it as a new topic"
            )

    def _read_all(self, partition: int, offsets: Collection[int]) -> list[Read]:
        """The records of ``changes`` at these offsets, as far as there are any."""
        wanted = set(offsets)
        batches = self._log.read(self._topics.changes.name, partition, min(wanted), max(wanted) + 1)
        return [read for batch in batches for read in batch if read.offset in wanted]

    async def _repair(self, partition: int, documents: Documents, behind: dict[str, int], end: int) -> None:
        """Write the newest change of a document again, the same bytes, when an older copy stands behind it."""
        topic = self._topics.changes.name
        newest = await asyncio.get_running_loop().run_in_executor(None, self._read_all, partition, behind.values())
        if len(newest) < len(behind):
            raise Fatal(
                f"{topic}/{partition}: compaction has taken the newest change of {len(behind) - len(newest)} documents, which an older "
                f"copy stands behind. Keep {self._folder / str(partition)}: it still has them"
            )
        records = [Record(topic, read.key, read.value, partition=partition) for read in newest]
        offsets = await self._producer.send(records)
        if offsets != list(range(end, end + len(records))):
            raise Fatal(f"{topic}/{partition}: another process writes there. This one ends, and catches up when it is started again")
        fold = Fold(documents)
        for read, offset in zip(newest, offsets, strict=True):
            fold.take(decode_change(read.value or b""), offset)
        fold.write(end + len(records))
        logger.warning("wrote %d changes again, in front of a former owner's", len(records), extra={"partition": partition})

    def _dead_letters(self, applied: Applied) -> list[Record]:
        return [dead_letter(self._topics, self._topics.mutations.name, record, dead) for record, dead in applied.dead]

    def _forwards(self, forwarded: Sequence[Forwarded]) -> list[Record]:
        topic = self._topics.mutations.name
        return [
            Record(
                topic,
                one.mutation.key.encode(),
                encode_mutation(one.mutation),
                [(VIA, f"{one.via.partition}/{one.via.offset}".encode())],
                one.partition,
            )
            for one in forwarded
        ]


def _changes_record(topic: str, partition: int, change: Change | PassedMark) -> Record:
    if isinstance(change, PassedMark):
        return Record(topic, MARK_KEY, encode_passed_mark(change), (), partition)
    return Record(topic, change.key.encode(), encode_change(change), (), partition)


def dead_letter(topics: Topics, topic: str, record: MutationRecord, dead: Dead) -> Record:
    """A record that cannot be applied, key and value untouched, and why."""
    source = f"{topic}/{record.position.partition}/{record.position.offset}"
    headers = [("reason", dead.reason.encode()), ("detail", dead.detail.encode()), ("source", source.encode())]
    return Record(topics.dead_letters.name, record.key, record.value, headers)


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
        for lane in {record.topic for record, offset in zip(deliveries, offsets, strict=True) if offset < 0}:
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


def _mutation_record(record: Received) -> MutationRecord:
    return MutationRecord(Position(record.partition, record.offset), record.key, record.value, record.timestamp * 1000, record.headers)


def _decoded(topic: str, record: Received) -> Change | PassedMark:
    try:
        return decode_change(record.value or b"")
    except BadRecord as error:
        raise Fatal(f"{topic}/{record.partition}/{record.offset} was not written by this version of Livehook: {error}") from error
