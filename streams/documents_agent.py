"""
The documents agent, from mutations to changes: takes a batch, applies it (documents.py), produces, waits for the acknowledgements.

Order of the effects is what survives a crash: dead letters and forwarded records are acknowledged first, then the changes; then the store
is written; then the batch is acknowledged. Whatever is cut off is done again from the same log, to the same bytes.
Anything unexpected ends the process; whoever supervises it starts it again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Sequence
from pathlib import Path

from schemas.changes import Change, PassedMark
from schemas.codec import SchemaById
from schemas.errors import Fatal
from schemas.mutations import MARK_KEY
from schemas.positions import Position
from schemas.records import decode_change, encode_change, encode_mutation, encode_passed_mark
from schemas.topics import Record, Topics
from streams.documents import VIA, Applied, Dead, Forwarded, MutationRecord, apply_all
from streams.metrics import StreamsMetrics
from streams.ports import Log, Producer, Read, Received
from streams.state import Documents, Fold

logger = logging.getLogger(__name__)


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


def _mutation_record(record: Received) -> MutationRecord:
    return MutationRecord(Position(record.partition, record.offset), record.key, record.value, record.timestamp * 1000, record.headers)
