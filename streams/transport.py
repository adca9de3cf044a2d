"""
A Faust transport that hands an agent one event for up to n records of a partition, which librdkafka has read.

Faust keeps the group: membership, assignment, commits. Its path costs about as much for an event as all of our own work for a record, so
records go through it in batches; and the Python client beneath it costs half a ms of CPU for each small answer of a broker, so that
client reads nothing: records come from a :class:`streams.ports.Fetcher`. The bookkeeping of offsets is replaced as well: one batch is one
message that carries its last offset, batches of a partition are acknowledged in order, and the commit is the end of the newest acknowledged
one. Faust's own bookkeeping merges neighbouring gaps and then commits past records that are not done, and acknowledges an event whose agent
raised; neither can happen here.

Selected by the URL scheme ``livehook://`` (:data:`SCHEME`); every topic of such an app must have the codec ``batch``.
Source: faust-streaming 0.15.3, ``faust/transport/consumer.py`` and ``drivers/aiokafka.py``.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, cast

import aiokafka
import faust
from aiokafka.consumer.group_coordinator import GroupCoordinator
from aiokafka.structs import TopicPartition
from faust.serializers import codecs
from faust.transport.drivers import TRANSPORTS
from faust.transport.drivers import aiokafka as driver
from faust.types import TP, ConsumerMessage
from faust.types import Message as FaustMessage

from streams.ports import Fetcher, Received

SCHEME = "livehook"
BATCHES_MAX = 2  # of a partition, taken and not acknowledged


class App(faust.App):
    """A Faust app whose records come from ``fetcher``."""

    fetcher: Fetcher


@dataclass(frozen=True, slots=True)
class Batch:
    """
    Records of one partition that go through an agent together.

    life:  of the consumer; a batch of an earlier one was given up, whatever has become of it: it comes once more, to us or to another.
    """

    records: Sequence[Received]
    life: int


class _Last:
    """The last record of a batch, with all that Faust asks of a record."""

    checksum = None
    timestamp_type = 1
    serialized_key_size = serialized_value_size = 0

    def __init__(self, tp: TP, record: Received) -> None:
        self.topic, self.partition = tp
        self.offset, self.timestamp = record.offset, record.timestamp
        self.key, self.value, self.headers = record.key, record.value, ()


class _Unchanged(codecs.Codec):
    """The codec of batches: they are records already, never bytes."""

    def _loads(self, s: Any) -> Any:
        return s

    def _dumps(self, s: Any) -> Any:
        return s


class ConsumerThread(driver.AIOKafkaConsumerThread):
    """The stock thread, which keeps the group and reads nothing."""

    async def on_partitions_assigned(self, assigned: set[TP], generation_id: int = 0) -> None:
        """Keep the client from reading what the fetcher reads."""
        self._ensure_consumer().pause(*(TopicPartition(tp.topic, tp.partition) for tp in assigned))
        await super().on_partitions_assigned(assigned, generation_id)

    def verify_event_path(self, now: float, tp: TP) -> None:
        """Nothing: it watches for fetches, and there are none."""

    def failure(self) -> BaseException | None:
        """
        What the group's client cannot go on with, if anything.

        It keeps that for whoever reads through it next, and waits for him; here nobody reads.
        """
        consumer: aiokafka.AIOKafkaConsumer | None = self._consumer
        coordinator = None if consumer is None else consumer._coordinator
        if not isinstance(coordinator, GroupCoordinator):
            return None
        task = coordinator._coordination_task
        if task.done() and not task.cancelled():
            return cast(BaseException | None, task.exception())
        return cast(BaseException | None, coordinator._pending_exception)

    def alive(self) -> None:
        """The worker asks for records: without that for max.poll.interval the client leaves the group, as any stuck consumer should."""
        consumer: aiokafka.AIOKafkaConsumer | None = self._consumer
        if consumer is not None:
            with consumer._subscription.fetch_context():
                pass


class Consumer(driver.Consumer):
    """
    The stock consumer with batches for messages, prefix acknowledgement for gap bookkeeping, and flow control by batches under way.

    A partition's next batch is taken while fewer than BATCHES_MAX of its batches are not acknowledged; a full agent of one topic never
    holds up the other.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._ends: dict[TP, int] = {}  # the offset after the newest acknowledged batch
        self._under_way: Counter[TP] = Counter()
        self._begun: set[TP] = set()
        self.life = 0

    def end_life(self) -> None:
        """
        Give up the batches under way: neither is one begun from here on, nor does its acknowledgement count.

        A batch that was not finished while its partition was given away would else be passed over by the one behind it.
        """
        self.life += 1
        self._under_way.clear()

    @property
    def _fetcher(self) -> Fetcher:
        return cast(App, self.app).fetcher

    def _new_consumer_thread(self) -> ConsumerThread:
        return ConsumerThread(self, loop=self.loop, beacon=self.beacon)

    async def _wait_next_records(self, timeout: float) -> Any:
        if not self.flow_active:
            await self.wait(self.can_resume_flow.wait())
        cast(ConsumerThread, self._thread).alive()
        active = self._get_active_partitions()
        self._begin(active - self._begun)
        records = self._take(active)
        if not records:
            await self._fetcher.wait(timeout)
            if self.flow_active:
                records = self._take(active)
        return records, active

    def _begin(self, new: set[TP]) -> None:
        if new:
            self._fetcher.begin({tp: self._read_offset[tp] for tp in new})
            self._begun |= new

    def _take(self, active: set[TP]) -> dict[TP, list[Sequence[Received]]]:
        roomy = [tp for tp in active & self._begun if self._under_way[tp] < BATCHES_MAX]
        return {TP(*place): [batch] for place, batch in self._fetcher.take(roomy).items()}

    def _end(self, places: set[TP]) -> None:
        self._fetcher.end(places & self._begun)
        self._begun -= places

    async def _drain_messages(self, fetcher: Any) -> None:
        """
        Hand each batch to its agent's stream.

        As Faust's, without the two tasks that it makes for each message: a stream's queue is never full here, for the batches under way are
        bounded.
        """
        try:
            while not (self._stopped.is_set() or fetcher._stopped.is_set()):
                async for tp, message in self.getmany(timeout=1.0):
                    await self.callback(message)
                    self._read_offset[tp] = message.offset
                await asyncio.sleep(0)
        except self.consumer_stopped_errors:
            if not self.transport.app.should_stop:
                raise

    def _to_message(self, tp: TP, record: Any) -> ConsumerMessage:
        message = super()._to_message(tp, _Last(tp, record[-1]))
        message.value = cast(Any, Batch(record, self.life))
        self._under_way[tp] += 1
        return message

    async def _add_gap(self, tp: TP, offset_from: int, offset_to: int) -> None:
        """Nothing: offsets between two batches were never asked for (compaction, control records)."""

    def ack(self, message: FaustMessage) -> bool:
        """Note that everything up to the end of this batch is durable."""
        first_time = super().ack(message)
        if cast(Batch, message.value).life == self.life:
            if first_time:
                self._ends[message.tp] = max(self._ends.get(message.tp, 0), message.offset + 1)
            self._under_way[message.tp] -= 1
            self._fetcher.wake()
        return first_time

    def _new_offset(self, tp: TP) -> int | None:
        self._acked[tp].clear()
        self._acked_index[tp].clear()
        return self._ends.get(tp)

    def highwater(self, tp: TP) -> int:
        """The offset after the last record of a partition; 0 until that is known."""
        return self._fetcher.log_end(tp) or 0

    def done(self, tp: TP) -> int:
        """All before this offset is done, as far as is known."""
        if self._is_idle(tp):
            return self._fetcher.position(tp) or 0
        return self._ends.get(tp) or self._committed_offset[tp] or 0

    def behind(self, tp: TP) -> int:
        """How many records of a partition are not done; 0 until the first of them was fetched."""
        return max(0, self.highwater(tp) - self.done(tp))

    def waiting(self, ends: Mapping[TP, int]) -> dict[TP, int]:
        """
        The partitions in which something is to be done, each with the offset up to which all is done.

        Args:  ends: where their logs end, asked a while ago of Kafka itself.
        """
        return {tp: self.done(tp) for tp in self.assignment() if not self._is_idle(tp) or self.done(tp) < ends.get(tp, 0)}

    def _is_idle(self, tp: TP) -> bool:
        return tp in self._begun and not self._under_way[tp] and not self._fetcher.has(tp)

    def failure(self) -> BaseException | None:
        """What the group's client cannot go on with, if anything."""
        return cast(ConsumerThread, self._thread).failure()

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        """Forget what belongs to the next owner."""
        await super().on_partitions_revoked(revoked)
        self.end_life()
        self._end(revoked)
        for tp in revoked:
            self._ends.pop(tp, None)

    async def perform_seek(self) -> None:
        """Begin at the commits again: what is under way comes once more."""
        self._end(set(self._begun))
        self.end_life()
        await super().perform_seek()


class Transport(driver.Transport):
    """The aiokafka transport with our consumer."""

    Consumer: ClassVar[type[Consumer]] = Consumer


def register() -> None:
    """Make the scheme and the codec known to Faust; may be called again."""
    codecs.register("batch", _Unchanged())
    TRANSPORTS.aliases[SCHEME] = f"{__name__}:Transport"
