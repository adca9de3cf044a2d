"""The real Kafka keeps the rules of a partition that the simulation takes for granted."""

from __future__ import annotations

import time
from typing import Any, cast

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from connectors.kafka.admin import committed_offsets, delete_topic, ensure_topics, offsets
from connectors.kafka.reading import read_partition
from schemas.topics import TopicSpec
from tests.broker import Broker
from tests.integration.cluster import wait_until
from tests.integration.topics import configured
from tests.simulation.partition_rules import Headers, Partition, PartitionRules, Row

ASK_S = 30.0
SEGMENT_S = 1.0
COMPACTED_S = 120.0
FILLER = b"filler"  # written until the cleaner has come: it never looks at the newest segment
COMPACTING = {
    "cleanup.policy": "compact",
    "segment.ms": str(int(SEGMENT_S * 1_000)),
    "min.cleanable.dirty.ratio": "0.01",
    "min.compaction.lag.ms": "0",
    "max.compaction.lag.ms": "1000",
}


class RealPartition(Partition):
    """Of a topic of its own."""

    def __init__(self, kafka: Broker, name: str) -> None:
        self._kafka, self._spec, self._group = kafka, TopicSpec(name, 1, {}), f"{name}.group"
        self._place = (name, 0)
        self._producer = Producer(kafka.config.librdkafka() | {"enable.idempotence": True, "linger.ms": 0})
        ensure_topics(kafka.config, [self._spec], replication=None, timeout_s=ASK_S)

    def append(self, key: bytes | None, value: bytes | None, headers: Headers = ()) -> int:
        acknowledged: list[int] = []
        self._producer.produce(
            *self._place[:1],
            value,
            key,
            0,
            headers=[*headers],
            on_delivery=lambda error, message: acknowledged.append(message.offset() or 0),
        )
        assert self._producer.flush(ASK_S) == 0
        [offset] = acknowledged
        return offset

    def read(self, start: int = 0) -> list[Row]:
        begin, end = self.bounds()
        batches = read_partition(self._kafka.config, *self._place, max(start, begin), end)  # as consumers do: reset to the earliest
        found = [one for batch in batches for one in batch]
        return [(one.offset() or 0, one.key() or b"", one.value() or b"", cast(Any, one.headers() or [])) for one in found]

    def bounds(self) -> tuple[int, int]:
        found = offsets(self._kafka.config, [self._place], timeout_s=ASK_S)[self._place]
        return found.log_start, found.end

    def remove(self, before: int) -> None:
        client = AdminClient(self._kafka.config.librdkafka())
        [removed] = client.delete_records([TopicPartition(*self._place, before)]).values()
        removed.result(ASK_S)

    def compact(self) -> None:
        with configured(self._kafka.bootstrap_servers, self._place[0], COMPACTING):
            wait_until(self._is_compacted, COMPACTED_S, "nothing was compacted")

    def _is_compacted(self) -> bool:
        self.append(FILLER, b"")
        time.sleep(SEGMENT_S)  # a segment that is younger is not closed by the next record
        keys = [row[1] for row in self.read() if row[1] != FILLER]
        return len(keys) == len({*keys})

    def make_anew(self) -> None:
        delete_topic(self._kafka.config, self._place[0], timeout_s=ASK_S)
        ensure_topics(self._kafka.config, [self._spec], replication=None, timeout_s=ASK_S)
        self._producer = Producer(self._kafka.config.librdkafka())  # the one before has numbered its records for the former topic

    def commit(self, offset: int, metadata: str) -> None:
        consumer = Consumer(self._kafka.config.librdkafka() | {"group.id": self._group, "enable.auto.commit": False})
        consumer.commit(offsets=[TopicPartition(*self._place, offset, metadata)], asynchronous=False)
        consumer.close()

    def committed(self) -> tuple[int, str] | None:
        found = committed_offsets(self._kafka.config, self._group, [self._place], timeout_s=ASK_S).get(self._place)
        return None if found is None else (found.offset, found.metadata)


@pytest.fixture
def partition(kafka: Broker, topic_prefix: str) -> Partition:
    """An empty one."""
    return RealPartition(kafka, f"{topic_prefix}one")


class TestReal(PartitionRules):
    """On the Kafka of the tests."""
