"""Partitions as something to look into: where they begin and end, and what stands in between. Called by catch-up, from threads."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec
from confluent_kafka import Message

from connectors.kafka.admin import committed_offsets, offsets, offsets_at
from connectors.kafka.config import KafkaConfig
from connectors.kafka.reading import PartitionReader, offset_of, read_partition

TIMEOUT_S = 60.0


class ReadRecord(msgspec.Struct, frozen=True, gc=False):
    """A record that was read."""

    offset: int
    key: bytes | None
    value: bytes | None


class LogReader:
    """A partition that is read on and on; see :class:`PartitionReader`."""

    def __init__(self, reader: PartitionReader) -> None:
        self._reader = reader

    @property
    def position(self) -> int:
        """The next offset."""
        return self._reader.position

    def read(self, timeout_s: float) -> list[ReadRecord]:
        """The next records as soon as there are any; none after the time. Raises KafkaRefused."""
        return [_read_record(message) for message in self._reader.read(timeout_s)]

    def close(self) -> None:
        """Give up the connections."""
        self._reader.close()


class KafkaLog:
    """A real Kafka's partitions. Raises KafkaUnavailable, KafkaRefused."""

    def __init__(self, config: KafkaConfig, group: str) -> None:
        self._config = config
        self._group = group

    def offsets(self, topic: str, partition: int) -> tuple[int, int]:
        """First offset kept, and the offset after the last."""
        place = (topic, partition)
        found = offsets(self._config, [place], timeout_s=TIMEOUT_S)[place]
        return found.log_start, found.end

    def committed(self, topic: str, partition: int) -> int | None:
        """The group's commit; None when there is none."""
        found = committed_offsets(self._config, self._group, [(topic, partition)], timeout_s=TIMEOUT_S)
        return found[topic, partition].offset if found else None

    def read(self, topic: str, partition: int, start: int, end: int) -> Iterator[Sequence[ReadRecord]]:
        """What stands from ``start`` to before ``end``, in batches."""
        for messages in read_partition(self._config, topic, partition, start, end):
            yield list(map(_read_record, messages))

    def offset_at(self, topic: str, partition: int, us: int) -> int:
        """The first offset that was written at that time or later; the end if there is none."""
        found = offsets_at(self._config, [(topic, partition)], us // 1_000, timeout_s=TIMEOUT_S)
        return found[topic, partition] if (topic, partition) in found else self.offsets(topic, partition)[1]

    def follow(self, topic: str, partition: int, start: int) -> LogReader:
        """Read on from ``start``, or from the first record kept."""
        first, _ = self.offsets(topic, partition)
        return LogReader(PartitionReader(self._config, topic, partition, max(first, start)))


def _read_record(message: Message) -> ReadRecord:
    return ReadRecord(offset_of(message), message.key(), message.value())
