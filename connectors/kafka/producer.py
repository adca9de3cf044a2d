"""
The one producer of every role: asyncio in front, librdkafka behind, and per partition always a prefix.

What was acknowledged, in which order, is what everything after a crash relies on (docs/explanation/architecture.md): a record may be
missing only together with all that were sent after it to the same partition. Idempotence keeps the order through retries, the gapless
guarantee ends the producer rather than leave a hole, and without a message timeout nothing is given up while something later is written.
Source: librdkafka's CONFIGURATION.md (enable.idempotence, enable.gapless.guarantee, message.timeout.ms); KIP-98.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import threading
from collections.abc import Callable, Sequence

from confluent_kafka import KafkaError, KafkaException, Message
from confluent_kafka import Producer as Librdkafka

from connectors.kafka.config import KafkaConfig
from connectors.kafka.errors import mapped
from connectors.kafka.logs import librdkafka_logger
from schemas.topics import DEAD_LETTER_BYTES_MAX, Record

logger = logging.getLogger(__name__)

QUEUED_MAX = 100_000
FULL_WAIT_S = 0.005
REPORT_EVERY = 100
IN_FLIGHT_MAX = 5  # requests to a broker; idempotence allows no more
Acknowledged = Callable[[KafkaError | None, Message], None]
GONE = frozenset({KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC, KafkaError._UNKNOWN_PARTITION})


class _Batch:
    """Waits for the acknowledgements that one call of ``send`` asked for; librdkafka's poll thread brings them."""

    __slots__ = ("_lock", "error", "future", "loop", "offsets", "waiting")

    def __init__(self, size: int) -> None:
        self._lock = threading.Lock()  # librdkafka's thread counts, and ours where a record is refused at once
        self.offsets: dict[int, int] = {}
        self.waiting = size
        self.error: KafkaError | None = None
        self.loop = asyncio.get_running_loop()
        self.future: asyncio.Future[None] = self.loop.create_future()

    def acknowledged(self, index: int, gone_ok: bool, error: KafkaError | None, message: Message) -> None:
        if error is None:
            self.count(index, message.offset() or 0)
        elif gone_ok and error.code() in GONE:
            self.count(index, -1)
        else:
            self.error = error
            self.count(index, -1)

    def count(self, index: int, offset: int) -> None:
        """One that was asked for has come to its end."""
        with self._lock:
            self.offsets[index] = offset
            self.waiting -= 1
            is_last = not self.waiting
        if is_last:
            self.loop.call_soon_threadsafe(self._done)

    def _done(self) -> None:
        if not self.future.done():
            self.future.set_result(None)


def first_and_last(records: Sequence[Record]) -> dict[int, None]:
    """The places of the first and the last record of each partition; all, where a record leaves its partition to its key."""
    ends: dict[tuple[str, int], tuple[int, int]] = {}
    for index, record in enumerate(records):
        if record.partition is None:
            return dict.fromkeys(range(len(records)))
        first, _ = ends.get((record.topic, record.partition), (index, index))
        ends[record.topic, record.partition] = (first, index)
    return dict.fromkeys(index for pair in ends.values() for index in pair)


class Producer:
    """
    Args:  client_id: shown by Kafka's own tools.
           message_timeout_s: after which an unacknowledged record is given up; None: never, which keeps every partition a prefix.
           linger_ms: how long librdkafka may wait for company; batches of ``send`` are together already.
           is_idempotent: without it a record may be written twice, or after a later one. With it, librdkafka's thread takes a whole core
               (2.16) for as long as five requests wait for a broker's answer and more is to be sent.
    """

    def __init__(
        self,
        config: KafkaConfig,
        *,
        client_id: str,
        message_timeout_s: float | None = None,
        linger_ms: float = 0,
        is_idempotent: bool = True,
    ) -> None:
        self._gapless = is_idempotent and message_timeout_s is None
        self._librdkafka = Librdkafka(
            config.librdkafka()
            | {
                "client.id": client_id,
                "acks": "all",
                "enable.idempotence": is_idempotent,
                "enable.gapless.guarantee": self._gapless,
                "max.in.flight.requests.per.connection": IN_FLIGHT_MAX,
                "message.timeout.ms": 0 if message_timeout_s is None else int(message_timeout_s * 1000),
                "topic.metadata.propagation.max.ms": 10_000,
                "message.max.bytes": DEAD_LETTER_BYTES_MAX,
                "queue.buffering.max.messages": QUEUED_MAX,
                "queue.buffering.max.kbytes": 256 * 1024,
                "linger.ms": linger_ms,
                "partitioner": "murmur2_random",
                "error_cb": self._on_error,
            },
            logger=librdkafka_logger("producer"),
        )
        self._fatal: KafkaError | None = None
        self._stopping = threading.Event()
        self._poller = threading.Thread(target=self._poll, name=f"producer {client_id}", daemon=True)
        self._sent_soon = 0
        self.dropped = 0

    def start(self) -> None:
        """Start to report acknowledgements."""
        self._poller.start()

    async def send(self, records: Sequence[Record], *, gone_ok: bool = False) -> list[int]:
        """
        Produce all, in this order, and wait until each is acknowledged.

        Args:     gone_ok: a topic that is not there (any more) is no error; its records get the offset -1.
        Returns:  the offset of each. Of a producer that never gives up, Kafka is asked for the first and the last one of a partition, for
                  an acknowledged record means that all before it are; those between are counted on from the first, so that a foreign
                  record among them shows in the last.
        Raises:   KafkaUnavailable, KafkaRefused: at least one was not acknowledged; whether it was written is unknown.
        """
        if not records:
            return []
        asked = first_and_last(records) if self._gapless else dict.fromkeys(range(len(records)))
        batch = _Batch(len(asked))
        for index, record in enumerate(records):
            taken = await self._produce(record, functools.partial(batch.acknowledged, index, gone_ok) if index in asked else None, gone_ok)
            if not taken and index in asked:
                batch.count(index, -1)
        await batch.future
        if batch.error is not None:
            raise mapped(batch.error, "produce")
        return _filled(records, batch.offsets)

    def send_soon(self, record: Record) -> bool:
        """
        Produce without waiting; when the buffer is full the record is dropped and counted. Returns whether it was taken.

        What became of it is asked of one in REPORT_EVERY: for each answer librdkafka's thread waits for the interpreter's lock.
        """
        self._sent_soon += 1
        try:
            if self._sent_soon % REPORT_EVERY == 1 or record.headers or record.partition is not None:
                self._enqueue(record, _ignored)
            else:
                self._librdkafka.produce(record.topic, record.value, record.key)  # what is left unsaid takes no time
        except (BufferError, KafkaException):
            self.dropped += 1
            return False
        return True

    async def stop(self, timeout_s: float) -> None:
        """Wait for what is under way, at most ``timeout_s``, and end."""
        left = await asyncio.get_running_loop().run_in_executor(None, self._librdkafka.flush, timeout_s)
        if left:
            logger.warning("%d records were not acknowledged within %.0f s", left, timeout_s)
        self._stopping.set()
        if self._poller.is_alive():
            await asyncio.get_running_loop().run_in_executor(None, self._poller.join, 1.0)

    async def _produce(self, record: Record, on_delivery: Acknowledged | None, gone_ok: bool) -> bool:
        """Whether librdkafka took it; what it knows to be gone it refuses at once."""
        while True:
            if self._fatal is not None:
                raise mapped(self._fatal, "produce, for the producer has ended")
            try:
                self._enqueue(record, on_delivery)
                return True
            except BufferError:  # the queue is bounded; acknowledgements make room
                await asyncio.sleep(FULL_WAIT_S)
            except KafkaException as error:
                if gone_ok and error.args[0].code() in GONE:
                    return False
                raise mapped(error.args[0], f"produce to {record.topic}") from error

    def _enqueue(self, record: Record, on_delivery: Acknowledged | None) -> None:
        self._librdkafka.produce(
            record.topic,
            record.value,
            record.key,
            partition=-1 if record.partition is None else record.partition,
            on_delivery=on_delivery,
            headers=list(record.headers or ()),
        )

    def _poll(self) -> None:
        while not self._stopping.is_set():
            self._librdkafka.poll(0.1)

    def _on_error(self, error: KafkaError) -> None:
        if error.fatal():
            self._fatal = error
            logger.error("the producer has ended: %s", error.str())
        else:
            logger.debug("Kafka: %s", error.str())


def _filled(records: Sequence[Record], known: dict[int, int]) -> list[int]:
    if len(known) == len(records):
        return [known[index] for index in range(len(records))]
    offsets: list[int] = []
    last: dict[tuple[str, int | None], int] = {}
    for index, record in enumerate(records):
        place = (record.topic, record.partition)
        before = last.get(place, -1)
        offset = known[index] if index in known else before + (before >= 0)
        last[place] = offset
        offsets.append(offset)
    return offsets


def _ignored(error: KafkaError | None, message: Message) -> None:
    if error is not None:
        logger.info("a record for %s was dropped, and likely others beside it: %s", message.topic(), error.str())
