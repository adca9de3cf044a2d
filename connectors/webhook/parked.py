"""
What is on record of lanes in trouble, read once when they are taken; and the bodies of parked deliveries, read back from their lanes.

Shell; the waiting for Kafka is done in threads. Called by sink.py and parker.py.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol, TypeVar

import msgspec

from connectors.kafka.admin import Offsets, offsets, topic_ids
from connectors.kafka.config import KafkaConfig
from connectors.kafka.errors import KafkaUnavailable
from connectors.kafka.places import RecordReader
from connectors.kafka.reading import read_partition
from connectors.webhook.ownership import LaneRecord, Place
from schemas.errors import BadRecord
from schemas.keys import partition_of
from schemas.parked import Down, Parked, webhook_of
from schemas.records import decode_parked
from schemas.topics import TopicSpec

logger = logging.getLogger(__name__)

READ_S_MAX = 10.0
AGAIN_S = 0.5

T = TypeVar("T")


class Troubles(msgspec.Struct, frozen=True):
    """What ``parked`` holds of one webhook."""

    parked: tuple[Parked, ...] = ()
    down: Down | None = None


class Bodies(msgspec.Struct, frozen=True):
    """Records of one lane partition by offset; ``gone``: those that the lane does not hold any more. The rest: ask again."""

    records: Mapping[int, LaneRecord]
    gone: frozenset[int]


class Records(Protocol):
    """What a lane can ask of Kafka besides its consumer."""

    async def bodies(self, topic: str, partition: int, wanted: Collection[int]) -> Bodies:
        """The records at these offsets. Raises KafkaUnavailable, KafkaRefused."""
        ...


class KafkaRecords:
    """Reads in one thread of its own."""

    def __init__(self, config: KafkaConfig, topic: TopicSpec) -> None:
        self._config, self._topic = config, topic
        self._reader = RecordReader(config)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="parked")

    async def bodies(self, topic: str, partition: int, wanted: Collection[int]) -> Bodies:
        """The records at these offsets. Raises KafkaUnavailable, KafkaRefused."""

        def read() -> Bodies:
            found = self._reader.read(topic, partition, wanted, timeout_s=READ_S_MAX)
            records = {
                offset: LaneRecord(topic, partition, offset, message.key(), message.value()) for offset, message in found.records.items()
            }
            return Bodies(records, found.gone)

        return await self._in_thread(read)

    async def troubles(self, webhooks: Collection[str]) -> dict[str, Troubles]:
        """
        What is on record of these; a Kafka that went away meanwhile is waited for.

        Raises:  KafkaRefused.
        """
        return await self._patiently("what is parked", lambda: read_troubles(self._config, self._topic, webhooks))

    async def logs(self, places: Collection[Place]) -> dict[Place, Offsets]:
        """Where these begin and end; those that are not there are left out. Waits and raises as :meth:`troubles`."""
        return await self._patiently("where the lanes begin", lambda: read_logs(self._config, places))

    async def _patiently(self, what: str, act: Callable[[], T]) -> T:
        while True:
            try:
                return await self._in_thread(act)
            except KafkaUnavailable as error:
                logger.warning("waiting for Kafka: %s is not known yet: %s", what, error)
                await asyncio.sleep(AGAIN_S)

    async def close(self) -> None:
        """Give up the connections, after the read that is under way."""
        await self._in_thread(self._reader.close)
        self._thread.shutdown(wait=False)

    async def _in_thread(self, act: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, act)


def partition_of_webhook(webhook: str, topic: TopicSpec) -> int:
    """Where in ``parked`` a webhook's records are."""
    return partition_of(webhook.encode(), topic.partitions)


def read_troubles(config: KafkaConfig, topic: TopicSpec, webhooks: Collection[str]) -> dict[str, Troubles]:
    """
    Fold what ``parked`` holds of these webhooks up to its present end.

    Raises:  KafkaUnavailable, KafkaRefused.
    """
    places = {(topic.name, partition_of_webhook(webhook, topic)) for webhook in webhooks}
    found: dict[str, dict[bytes, Parked | Down]] = {webhook: {} for webhook in webhooks}
    for (name, partition), log in offsets(config, places, timeout_s=READ_S_MAX).items():
        for batch in read_partition(config, name, partition, log.log_start, log.end):
            for message in batch:
                _fold(found, message.key() or b"", message.value())
    return {webhook: _troubles(records.values()) for webhook, records in found.items()}


def read_logs(config: KafkaConfig, places: Collection[Place]) -> dict[Place, Offsets]:
    """
    Where partitions begin and end; those of topics that are not there are left out.

    Raises:  KafkaUnavailable, KafkaRefused.
    """
    there = topic_ids(config, {topic for topic, _ in places}, timeout_s=READ_S_MAX)
    return offsets(config, [place for place in places if place[0] in there], timeout_s=READ_S_MAX)


def _fold(found: dict[str, dict[bytes, Parked | Down]], key: bytes, value: bytes | None) -> None:
    records = found.get(webhook_of(key))
    if records is None:
        return
    if value is None:
        records.pop(key, None)
        return
    try:
        records[key] = decode_parked(value)
    except BadRecord as error:
        logger.error("a record of parked deliveries cannot be read, key %r: %s", key, error)


def _troubles(records: Collection[Parked | Down]) -> Troubles:
    parked = tuple(record for record in records if isinstance(record, Parked))
    return Troubles(parked, next((record for record in records if isinstance(record, Down)), None))
