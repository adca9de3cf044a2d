"""Partitions as something to look into: where they begin and end, and what stands in between. Called by catch-up, from threads."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from connectors.kafka.admin import committed_offsets, offsets
from connectors.kafka.config import KafkaConfig
from connectors.kafka.reading import read_partition

TIMEOUT_S = 60.0


class ReadRecord(msgspec.Struct, frozen=True, gc=False):
    """A record that was read."""

    offset: int
    key: bytes | None
    value: bytes | None


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
            yield [ReadRecord(message.offset() or 0, message.key(), message.value()) for message in messages]
