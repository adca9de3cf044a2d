"""
All partitions of a topic from one time to another, read once, by a consumer of its own: no group, nothing committed.

For dry runs over ``changes``. What is read is bounded before the first record is: the end is where the topic ended at the beginning.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

from confluent_kafka import Consumer, KafkaError, Message, TopicPartition

from connectors.kafka.admin import offsets, offsets_at, partitions_of
from connectors.kafka.config import KafkaConfig
from connectors.kafka.errors import KafkaRefused, KafkaUnavailable, mapped, passes
from connectors.kafka.logs import librdkafka_logger
from connectors.kafka.reading import BATCH_MAX, SETTINGS, offset_of

ADMIN_S_MAX = 10.0
STALL_S = 30.0
_POLL_S = 0.1


class TopicHistory:
    """A topic's records by the time that stands in them. Every method blocks. Raises KafkaUnavailable, KafkaRefused."""

    def __init__(self, config: KafkaConfig, topic: str) -> None:
        self._config = config
        self._topic = topic

    def values(self, since_us: int, until_us: int | None) -> Iterator[list[bytes]]:
        """
        The values from the first record at ``since_us`` or later to the first at ``until_us`` or later, or to the present end.

        In order within a partition, in batches of at most BATCH_MAX, empty ones too while Kafka is slow; tombstones are left out.
        """
        spans = self._spans(since_us, until_us)
        if not spans:
            return
        consumer = Consumer(self._config.librdkafka() | SETTINGS, logger=librdkafka_logger("history"))
        try:
            consumer.assign([TopicPartition(self._topic, partition, start) for partition, (start, _) in spans.items()])
            yield from self._read(consumer, {partition: end for partition, (_, end) in spans.items()})
        finally:
            consumer.close()

    def _spans(self, since_us: int, until_us: int | None) -> dict[int, tuple[int, int]]:
        """First offset and end of each partition that holds anything of that time."""
        count = partitions_of(self._config, self._topic, timeout_s=ADMIN_S_MAX)
        places = [(self._topic, partition) for partition in range(count)]
        logs = offsets(self._config, places, timeout_s=ADMIN_S_MAX)
        starts = offsets_at(self._config, places, since_us // 1_000, timeout_s=ADMIN_S_MAX)
        ends = {} if until_us is None else offsets_at(self._config, places, until_us // 1_000, timeout_s=ADMIN_S_MAX)
        found = {}
        for place, log in logs.items():
            start, end = starts.get(place), min(ends.get(place, log.end), log.end)
            if start is not None and max(start, log.log_start) < end:
                found[place[1]] = (max(start, log.log_start), end)
        return found

    def _read(self, consumer: Consumer, ends: dict[int, int]) -> Iterator[list[bytes]]:
        """Until every partition has reached its end; one that has is paused, so that what is written now costs nothing."""
        progress_at = time.monotonic()
        while ends:
            first = consumer.poll(_POLL_S)
            received = [] if first is None else [first, *consumer.consume(BATCH_MAX - 1, 0)]
            values = [value for message in received if (value := self._value(consumer, message, ends)) is not None]
            if received:
                progress_at = time.monotonic()
            elif time.monotonic() - progress_at > STALL_S:
                raise KafkaUnavailable(f"cannot read {self._topic}: no record for {STALL_S:.0f} s")
            yield values

    def _value(self, consumer: Consumer, message: Message, ends: dict[int, int]) -> bytes | None:
        """The value of a record that belongs to the span; notes how far its partition is."""
        partition = message.partition()
        error = message.error()
        if error is not None and error.code() not in (KafkaError._PARTITION_EOF, KafkaError._AUTO_OFFSET_RESET):
            if passes(error):
                return None
            raise mapped(error, f"read {self._topic}")
        if error is not None and error.code() == KafkaError._AUTO_OFFSET_RESET:
            raise KafkaRefused(f"cannot read {self._topic}: what was to be read has just been deleted")
        if partition is None or partition not in ends:
            return None
        offset, end = offset_of(message), ends[partition]
        if offset + (error is None) >= end:  # the end of a partition is told at the offset behind the last record
            del ends[partition]
            consumer.pause([TopicPartition(self._topic, partition)])
        return message.value() if error is None and offset < end else None
