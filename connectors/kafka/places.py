"""
Single records of a topic, read back by their offsets: for whoever has kept a pointer and not the record.

Who calls it has a thread to spare: every call waits for Kafka. Called by connectors/webhook/parker.py.
"""

from __future__ import annotations

import time
from collections.abc import Collection

import msgspec
from confluent_kafka import Consumer, KafkaError, Message, TopicPartition

from connectors.kafka.config import KafkaConfig
from connectors.kafka.errors import KafkaUnavailable, mapped, passes
from connectors.kafka.logs import librdkafka_logger
from connectors.kafka.reading import offset_of

SEEK_FROM = 200  # nearer than that, reading on is cheaper than another fetch
BYTES_MAX = 8 * 1024 * 1024
POLL_S = 0.1


class Found(msgspec.Struct, frozen=True):
    """``gone``: offsets that no record has any more. What is in neither of the two was not reached: ask again."""

    records: dict[int, Message]
    gone: frozenset[int]


class RecordReader:
    """Reads records by offset; not for several threads at once. No group, nothing committed."""

    def __init__(self, config: KafkaConfig) -> None:
        self._config = config
        self._consumer: Consumer | None = None

    def read(self, topic: str, partition: int, offsets: Collection[int], *, timeout_s: float) -> Found:
        """
        The records of a partition at these offsets, as many of the first as fit into BYTES_MAX.

        Raises:  KafkaUnavailable: not within ``timeout_s``. KafkaRefused: there is no such partition.
        """
        try:
            return self._read(topic, partition, offsets, time.monotonic() + timeout_s)
        finally:
            if self._consumer is not None:
                self._consumer.unassign()  # else it would go on fetching what nobody asks for

    def _read(self, topic: str, partition: int, offsets: Collection[int], deadline: float) -> Found:
        wanted = sorted(offsets, reverse=True)  # the next one stands last
        records: dict[int, Message] = {}
        gone: set[int] = set()
        size, position = 0, -1
        while wanted and size < BYTES_MAX:
            if position < 0 or wanted[-1] > position + SEEK_FROM:
                position = wanted[-1]
                self._opened().assign([TopicPartition(topic, partition, position)])
            message = self._opened().poll(POLL_S)
            if message is None:
                if time.monotonic() > deadline:
                    raise KafkaUnavailable(f"{topic}/{partition} was not read in time")
                continue
            if (error := message.error()) is not None:
                if error.code() == KafkaError._PARTITION_EOF:
                    return Found(records, frozenset(gone | set(wanted)))
                if not passes(error):
                    raise mapped(error, f"read {topic}/{partition}")
                continue
            offset = offset_of(message)
            if offset < position:  # the log ends before it, so that librdkafka began at its start
                return Found(records, frozenset(gone | set(wanted)))
            position = offset + 1
            while wanted and wanted[-1] < offset:
                gone.add(wanted.pop())
            if wanted and wanted[-1] == offset:
                records[wanted.pop()] = message
                size += len(message.value() or b"")
        return Found(records, frozenset(gone))

    def close(self) -> None:
        """Give up the connections."""
        if self._consumer is not None:
            self._consumer.close()

    def _opened(self) -> Consumer:
        if self._consumer is None:
            self._consumer = Consumer(self._config.librdkafka() | _SETTINGS, logger=librdkafka_logger("records"))
        return self._consumer


_SETTINGS: dict[str, str | int | float | bool] = {
    "group.id": "livehook.unused",  # librdkafka wants one; nobody joins it and nothing is committed to it
    "enable.auto.commit": False,
    "enable.auto.offset.store": False,
    "auto.offset.reset": "earliest",  # what retention has taken is gone: the first record that is left says so
    "enable.partition.eof": True,
    "fetch.wait.max.ms": 10,
    # The default, a second after each fetch that has filled the queue, would also be waited for by the seek after it; 0 never rests.
    "fetch.queue.backoff.ms": 5,
    "fetch.error.backoff.ms": 100,
    "fetch.message.max.bytes": 256 * 1024,
    "queued.min.messages": 1,
    "queued.max.messages.kbytes": 4 * 1024,
}
