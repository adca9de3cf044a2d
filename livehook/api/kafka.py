"""The real Kafka behind the API's ports: blocking calls go to threads, records come over from the reader's thread."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import cast

from confluent_kafka import Message

from connectors.kafka import admin
from connectors.kafka.compacted import CompactedReader
from connectors.kafka.config import KafkaConfig
from connectors.kafka.reading import offset_of, read_partition
from livehook.api.ports import LogRecord
from schemas.registry import Registry
from schemas.topics import TopicSpec
from schemas.webhooks import WebhookRevision

ADMIN_S_MAX = 10.0
READ_BACK_S_MAX = 10.0
READ_S_MAX = 20.0  # without progress


class KafkaTopics:
    """See :class:`livehook.api.ports.TopicAdmin`; ``replication`` of topics that are made, None: the broker's."""

    def __init__(self, config: KafkaConfig, replication: int | None) -> None:
        self._config = config
        self._replication = replication

    async def existing(self, names: Sequence[str]) -> Mapping[str, str]:
        """Those of the topics that are there, each with its id."""
        return await asyncio.to_thread(admin.topic_ids, self._config, names, timeout_s=ADMIN_S_MAX)

    async def ensure(self, topic: TopicSpec) -> None:
        """Create the topic unless it is there."""
        await asyncio.to_thread(admin.ensure_topics, self._config, [topic], replication=self._replication, timeout_s=ADMIN_S_MAX)

    async def end(self, name: str) -> int:
        """Where the first partition ends."""
        place = (name, 0)
        return (await asyncio.to_thread(admin.offsets, self._config, [place], timeout_s=ADMIN_S_MAX))[place].end

    async def delete(self, name: str, topic_id: str) -> None:
        """Delete the topic with this id and wait until it is gone."""
        await asyncio.to_thread(admin.delete_topic, self._config, name, topic_id=topic_id, timeout_s=ADMIN_S_MAX)


class KafkaGroups:
    """See :class:`livehook.api.lanes.GroupView`."""

    def __init__(self, config: KafkaConfig) -> None:
        self._config = config

    async def client_ids(self, group: str) -> list[str]:
        """The client id of every member."""
        return await asyncio.to_thread(admin.group_client_ids, self._config, group, timeout_s=ADMIN_S_MAX)

    async def committed(self, group: str, partitions: Sequence[tuple[str, int]]) -> dict[tuple[str, int], int]:
        """The committed offsets; partitions without one are left out."""
        found = await asyncio.to_thread(admin.committed_offsets, self._config, group, partitions, timeout_s=ADMIN_S_MAX)
        return {partition: committed.offset for partition, committed in found.items()}

    async def ends(self, partitions: Sequence[tuple[str, int]]) -> dict[tuple[str, int], tuple[int, int]]:
        """First and end offset of each partition; those that are not there are left out."""
        topics = await asyncio.to_thread(admin.topic_ids, self._config, {topic for topic, _ in partitions}, timeout_s=ADMIN_S_MAX)
        there = [place for place in partitions if place[0] in topics]
        found = await asyncio.to_thread(admin.offsets, self._config, there, timeout_s=ADMIN_S_MAX)
        return {place: (log.log_start, log.end) for place, log in found.items()}


class KafkaLogs:
    """See :class:`livehook.api.ports.Logs`."""

    def __init__(self, config: KafkaConfig) -> None:
        self._config = config
        self._groups = KafkaGroups(config)

    async def ends(self, partitions: Sequence[tuple[str, int]]) -> dict[tuple[str, int], tuple[int, int]]:
        """First and end offset of each partition; those that are not there are left out."""
        return await self._groups.ends(partitions)

    async def offsets_at(self, partitions: Sequence[tuple[str, int]], us: int) -> dict[tuple[str, int], int]:
        """In each partition the first offset that was written at that time or later (µs since 1970), or its end."""
        ms = -(-us // 1_000)  # Kafka knows milliseconds: one that holds the time, and may begin before it, does not count
        ends = await self.ends(partitions)  # before: what is written meanwhile is later
        found = await asyncio.to_thread(admin.offsets_at, self._config, partitions, ms, timeout_s=ADMIN_S_MAX)
        return {place: found.get(place, end) for place, (_, end) in ends.items()}

    async def commits(self, group: str, partitions: Sequence[tuple[str, int]]) -> dict[tuple[str, int], tuple[int, str]]:
        """See :class:`livehook.api.ports.Commits`."""
        found = await asyncio.to_thread(admin.committed_offsets, self._config, group, partitions, timeout_s=ADMIN_S_MAX)
        return {place: (committed.offset, committed.metadata) for place, committed in found.items()}

    async def read(self, topic: str, partition: int, start: int, end: int) -> AsyncIterator[Sequence[LogRecord]]:
        """What stands from ``start`` to before ``end``, in batches."""
        batches = read_partition(self._config, topic, partition, start, end, stall_s=READ_S_MAX)
        try:
            while (batch := await asyncio.to_thread(next, batches, None)) is not None:
                yield [_log_record(message) for message in batch]
        finally:
            await asyncio.to_thread(batches.close)


def _log_record(message: Message) -> LogRecord:
    headers = cast("list[tuple[str, bytes | None]] | None", message.headers())
    return LogRecord(offset_of(message), message.key(), message.value(), dict(headers) if headers else {})


class WebhooksFold:
    """
    The ``webhooks`` topic, folded in the event loop; see :class:`livehook.api.ports.WebhooksView`.

    Args:  fail: called when the topic cannot be read any further: the role must end.
    """

    def __init__(self, config: KafkaConfig, topic: str, fail: Callable[[BaseException], None]) -> None:
        self.registry = Registry()
        self._config = config
        self._topic = topic
        self._names: set[str] = set()
        self._offsets: dict[bytes, int] = {}
        self._fail = fail
        self._loop = asyncio.get_running_loop()
        self._reader = CompactedReader(config, topic, self._received, on_failure=self._failed)

    async def start(self, timeout_s: float) -> None:
        """Read what there is. Raises KafkaUnavailable."""
        self._reader.start()
        await self._reader.wait_ready_async(timeout_s)

    def stop(self) -> None:
        """Stop reading."""
        self._reader.stop()

    def names(self) -> list[str]:
        """Every name that was ever used."""
        return sorted(self._names)

    def offset(self, revision: WebhookRevision) -> int:
        """Where the last record of a revision stands."""
        return self._offsets[revision.key.encode()]

    async def catch_up(self) -> None:
        """Until everything that is in the topic now is folded in."""
        place = (self._topic, 0)
        found = await asyncio.to_thread(admin.offsets, self._config, [place], timeout_s=ADMIN_S_MAX)
        await self.wait_until(found[place].end - 1)

    async def wait_until(self, offset: int) -> None:
        """Until the record at this offset is folded in."""
        # The reader hands a record over to the loop before it tells that it is past it, so the fold is done when this returns.
        await self._reader.wait_until_async(offset + 1, READ_BACK_S_MAX)

    def _received(self, key: bytes, value: bytes | None, offset: int) -> None:
        self._loop.call_soon_threadsafe(self._apply, key, value, offset)

    def _failed(self, error: Exception) -> None:
        self._loop.call_soon_threadsafe(self._fail, error)

    def _apply(self, key: bytes, value: bytes | None, offset: int) -> None:
        try:
            name = self.registry.apply(key, value)
        except Exception as error:  # noqa: BLE001 - whatever it is, from here on the fold would be wrong
            self._fail(error)
            return
        if name is not None:
            self._names.add(name)
            self._offsets[key] = offset
        if value is None:
            self._offsets.pop(key, None)
