"""
One partition read from an offset on, by a consumer of its own: no group, nothing committed.

For the readers of whole topics (compacted.py) and for catch-up. A position is always the next offset: everything below it has been read.
It also moves past offsets that no record has any more (compaction, transaction markers), which is what makes an end reachable.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Generator

from confluent_kafka import Consumer, KafkaError, Message, TopicPartition

from connectors.kafka.config import KafkaConfig
from connectors.kafka.errors import KafkaRefused, KafkaUnavailable, mapped, passes
from connectors.kafka.logs import librdkafka_logger

logger = logging.getLogger(__name__)

BATCH_MAX = 500
QUEUED_KIB_MAX = 16 * 1024
FETCH_BYTES_MAX = 4 * 1024 * 1024
_POLL_S = 0.1
SETTINGS: dict[str, str | int | float | bool] = {
    "group.id": "livehook.unused",  # librdkafka wants one; nobody joins it and nothing is committed to it
    "enable.auto.commit": False,
    "enable.auto.offset.store": False,
    "auto.offset.reset": "error",  # a log that does not reach back to where we are must not be skipped in silence
    "enable.partition.eof": True,
    "fetch.wait.max.ms": 100,  # how late the end is noticed when no record is in its place; a new record is answered at once
    "fetch.queue.backoff.ms": 10,  # the default, a second after each fetch that has filled the queue, is longer than it takes to empty it
    "fetch.error.backoff.ms": 100,
    "topic.metadata.refresh.interval.ms": 10_000,  # where a leader is not found at once, it is not looked for only after five minutes
    "fetch.message.max.bytes": FETCH_BYTES_MAX,
    "queued.max.messages.kbytes": QUEUED_KIB_MAX,
    "queued.min.messages": 10_000,
}


def offset_of(message: Message) -> int:
    """The offset of something that was received; the type of ``offset()`` also allows for messages that were not produced yet."""
    return message.offset() or 0


class PartitionReader:
    """Reads on from an offset; not for several threads at once."""

    def __init__(self, config: KafkaConfig, topic: str, partition: int, from_offset: int) -> None:
        """``from_offset`` must not be below the log's start."""
        self.position = from_offset
        self._where = f"{topic}/{partition}"
        self._consumer = Consumer(config.librdkafka() | SETTINGS, logger=librdkafka_logger("reader"))
        self._consumer.assign([TopicPartition(topic, partition, from_offset)])

    def read(self, timeout_s: float) -> list[Message]:
        """
        The next records, in order, at most BATCH_MAX; the first of them as soon as it is there, none after ``timeout_s``.

        ``position`` is behind them afterwards. A broker that restarts looks like no records; so does a topic that is deleted.
        Raises:  KafkaRefused: the partition cannot be read from here on.
        """
        first = self._consumer.poll(timeout_s)
        if first is None:
            return []
        # poll alone hands over one record a call, consume alone waits until its batch is full: together they do neither
        received = [first, *self._consumer.consume(BATCH_MAX - 1, 0)]
        return [message for message in received if self._is_record(message)]

    def close(self) -> None:
        """Give up the connections."""
        self._consumer.close()

    def _is_record(self, message: Message) -> bool:
        error = message.error()
        if error is None:
            self.position = offset_of(message) + 1
            return True
        if error.code() == KafkaError._PARTITION_EOF:
            self.position = max(self.position, offset_of(message))
        elif error.code() == KafkaError._AUTO_OFFSET_RESET:
            raise KafkaRefused(f"cannot read {self._where} from offset {self.position}: the log does not hold it (any more)")
        elif not passes(error):
            raise mapped(error, f"read {self._where}")
        return False


def read_partition(
    config: KafkaConfig, topic: str, partition: int, from_offset: int, until_offset: int, *, stall_s: float = 60.0
) -> Generator[list[Message]]:
    """
    The records of a partition with ``from_offset`` <= offset < ``until_offset``, in order, in batches of at most BATCH_MAX.

    Ends exactly when ``until_offset`` is reached, also when compaction has left no record just before it.
    Args:    from_offset: not below the log's start.
             until_offset: not above the log's end.
             stall_s: how long there may be no progress.
    Raises:  KafkaUnavailable: no progress for ``stall_s``. KafkaRefused: the partition cannot be read from here on.
    """
    if from_offset >= until_offset:
        return
    reader = PartitionReader(config, topic, partition, from_offset)
    try:
        progress_at = time.monotonic()
        while reader.position < until_offset:
            before = reader.position
            records = [record for record in reader.read(_POLL_S) if offset_of(record) < until_offset]
            if records:
                yield records
            if reader.position > before:
                progress_at = time.monotonic()
            elif time.monotonic() - progress_at > stall_s:
                raise KafkaUnavailable(f"cannot read {topic}/{partition}: no record after offset {reader.position} for {stall_s:.0f} s")
    finally:
        reader.close()
