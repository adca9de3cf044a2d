"""
A Faust transport that hands an agent one event for up to n records of a partition.

Faust's path costs about as much for an event as all of our own work for a record, so records go through it in batches. The bookkeeping of
offsets is replaced with it: one batch is one message that carries its last offset, batches of a partition are acknowledged in order, and
the commit is the end of the newest acknowledged one. Faust's own bookkeeping merges neighbouring gaps and then commits past records that
are not done, and acknowledges an event whose agent raised; neither can happen here.

Selected by the URL scheme ``livehook://`` (:data:`SCHEME`); every topic of such an app must have the codec ``batch``.
Source: faust-streaming 0.15.3, ``faust/transport/consumer.py`` and ``drivers/aiokafka.py``.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import aiokafka
from aiokafka import ConsumerRecord
from faust.serializers import codecs
from faust.transport.drivers import TRANSPORTS
from faust.transport.drivers import aiokafka as driver
from faust.types import TP, ConsumerMessage
from faust.types import Message as FaustMessage

SCHEME = "livehook"
RECORDS_MAX = 500
BATCH_BYTES_MAX = 8 * 1024 * 1024
FETCH_WAIT_MS = 100
BATCHES_MAX = 2  # of a partition, fetched and not acknowledged
ROOM_WAIT_S = 0.005

Batch = list[ConsumerRecord]


def cut(records: Sequence[ConsumerRecord]) -> Iterator[Batch]:
    """
    Records of one partition as batches of at most RECORDS_MAX records and, where one record alone is not larger, BATCH_BYTES_MAX bytes.

    Guarantees:  every record once, in order.
    """
    batch: Batch = []
    size = 0
    for record in records:
        weight = len(record.value or b"") + len(record.key or b"")
        if batch and (len(batch) == RECORDS_MAX or size + weight > BATCH_BYTES_MAX):
            yield batch
            batch, size = [], 0
        batch.append(record)
        size += weight
    if batch:
        yield batch


class _Unchanged(codecs.Codec):
    """The codec of batches: they are records already, never bytes."""

    def _loads(self, s: Any) -> Any:
        return s

    def _dumps(self, s: Any) -> Any:
        return s


class ConsumerThread(driver.AIOKafkaConsumerThread):
    """The stock thread with a shorter long poll."""

    def _create_worker_consumer(self, transport: driver.Transport) -> aiokafka.AIOKafkaConsumer:
        consumer = super()._create_worker_consumer(transport)
        # aiokafka asks a broker for one thing at a time: while it waits for news of some partitions, one whose records were just taken is
        # not asked for. Faust waits 1.5 s, which would be the latency of a quiet topic beside a busy one.
        consumer._fetch_max_wait_ms = FETCH_WAIT_MS
        return consumer


class Consumer(driver.Consumer):
    """
    The stock consumer with batches for messages, prefix acknowledgement for gap bookkeeping, and flow control by batches under way.

    Faust stops asking for a partition when its agent's buffer is full, but then sleeps a second when all are, and a full buffer of one
    agent holds up the other. Here a partition is asked for while it has fewer than BATCHES_MAX batches that are not acknowledged.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._ends: dict[TP, int] = {}  # the offset after the newest acknowledged batch
        self._under_way: Counter[TP] = Counter()
        self._room = asyncio.Event()

    def _new_consumer_thread(self) -> ConsumerThread:
        return ConsumerThread(self, loop=self.loop, beacon=self.beacon)

    async def _wait_next_records(self, timeout: float) -> Any:
        if not self.flow_active:
            await self.wait(self.can_resume_flow.wait())
        active = self._get_active_partitions()
        roomy = {tp for tp in active if self._under_way[tp] < BATCHES_MAX}
        # Waiting for news of some partitions must not keep a busy one waiting that gets room meanwhile: then only for a moment.
        if roomy:
            records = await self._getmany(roomy, timeout if len(roomy) == len(active) else ROOM_WAIT_S)
        else:
            records = {}
            self._room.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._room.wait(), timeout)
        return {tp: list(cut(found)) for tp, found in records.items()}, active

    def _to_message(self, tp: TP, record: Any) -> ConsumerMessage:
        message = super()._to_message(tp, record[-1])
        message.value = record
        self._under_way[tp] += 1
        return message

    async def _add_gap(self, tp: TP, offset_from: int, offset_to: int) -> None:
        """Nothing: offsets between two batches were never asked for (compaction, control records)."""

    def ack(self, message: FaustMessage) -> bool:
        """Note that everything up to the end of this batch is durable."""
        first_time = super().ack(message)
        if first_time:
            self._ends[message.tp] = max(self._ends.get(message.tp, 0), message.offset + 1)
        if message.generation_id == self.app.consumer_generation_id:
            self._under_way[message.tp] -= 1
            self._room.set()
        return first_time

    def _new_offset(self, tp: TP) -> int | None:
        self._acked[tp].clear()
        self._acked_index[tp].clear()
        return self._ends.get(tp)

    def behind(self, tp: TP) -> int:
        """How many records of a partition are not done; 0 until the first of them was fetched."""
        done = self._ends.get(tp) or self._committed_offset[tp] or 0
        return max(0, (self.highwater(tp) or 0) - done)

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        """Forget what belongs to the next owner."""
        await super().on_partitions_revoked(revoked)
        for tp in revoked:
            self._ends.pop(tp, None)
            self._under_way.pop(tp, None)

    async def perform_seek(self) -> None:
        """Begin at the commits again: what is under way comes once more."""
        self._under_way.clear()
        await super().perform_seek()


class Transport(driver.Transport):
    """The aiokafka transport with our consumer."""

    Consumer: ClassVar[type[Consumer]] = Consumer


def register() -> None:
    """Make the scheme and the codec known to Faust; may be called again."""
    codecs.register("batch", _Unchanged())
    TRANSPORTS.aliases[SCHEME] = f"{__name__}:Transport"
