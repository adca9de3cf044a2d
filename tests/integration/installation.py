"""
A sink on a real Kafka, without the rest: a test is what API, streams and receivers are elsewhere.

Used by the tests of the sink; several sinks may run in the test's own process, and be killed as far as Kafka can tell.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Sequence

import msgspec
from confluent_kafka import Message
from prometheus_client import CollectorRegistry

from connectors.kafka.admin import committed_offsets, ensure_topics, offsets
from connectors.kafka.producer import Producer
from connectors.kafka.reading import read_partition
from connectors.webhook.config import SinkConfig
from connectors.webhook.http1 import Http1Sender
from connectors.webhook.sink import Sink
from connectors.webhook.testing import Call, sender_here
from schemas.attempts import Attempt
from schemas.changes import Change
from schemas.deliveries import Delivery, Match
from schemas.keys import partition_of
from schemas.positions import Origin
from schemas.records import decode_activity, encode_delivery, encode_revision
from schemas.signing import new_secret
from schemas.topics import Record, Topics, TopicSpec
from schemas.webhooks import DeliverySettings, Secret, WebhookRevision, WebhookSpec
from tests.broker import Broker

PARTITIONS = 4
SESSION_S = 6.0
PATIENCE_S = 30.0


class FewSlots(Topics, frozen=True):
    """The topics of an installation, with fewer slots, so that a broker bears one for each test."""

    @property
    def slots(self) -> TopicSpec:
        return msgspec.structs.replace(super().slots, partitions=16)


class Installation:
    """The topics of one test, and what writes into them: what API, streams and receivers are elsewhere."""

    def __init__(self, broker: Broker, prefix: str) -> None:
        self.kafka = broker.config
        self.topics = FewSlots(prefix, PARTITIONS)
        self.producer = Producer(self.kafka, client_id="test", message_timeout_s=30)
        self.attempts = Producer(self.kafka, client_id="test-attempts", message_timeout_s=30)
        self.origins = [0] * PARTITIONS
        self.versions: dict[str, int] = defaultdict(int)
        self.metrics: list[CollectorRegistry] = []

    async def webhook(
        self, name: str, url: str, *, uid: str | None = None, edit: int = 1, deleted: bool = False, **spec
    ) -> WebhookRevision:
        """Put a webhook on record, as the API does; its lane is made first."""
        partitions = spec.get("delivery", DeliverySettings()).partitions
        await asyncio.to_thread(ensure_topics, self.kafka, [self.topics.lane(name, partitions)], replication=None, timeout_s=30)
        found = WebhookSpec(name=name, url=url, collections=("c",), **spec)
        revision = WebhookRevision(uid or f"whk_{name}", name, edit, edit, found, [Secret(new_secret())], 0, 0, since=[], deleted=deleted)
        await self.put(revision)
        return revision

    async def put(self, revision: WebhookRevision) -> None:
        await self.producer.send([Record(self.topics.webhooks.name, revision.key.encode(), encode_revision(revision), partition=0)])

    async def edit(self, revision: WebhookRevision, **spec) -> WebhookRevision:
        """Change what is not selecting."""
        edited = msgspec.structs.replace(revision, edit=revision.edit + 1, spec=msgspec.structs.replace(revision.spec, **spec))
        await self.put(edited)
        return edited

    def delivery(
        self,
        webhook: str,
        document: str,
        *,
        uid: str | None = None,
        replay: str | None = None,
        origin: Origin | None = None,
        partitions: int = 1,
    ) -> Record:
        """The next change of a document, as the matching agent writes it."""
        if origin is None:
            partition = hash(document) % PARTITIONS
            self.origins[partition] += 1
            origin = Origin(0, partition, self.origins[partition])
            self.versions[document] += 1
        change = Change("c", document, 1, self.versions[document], None, b'{"_id":"%b"}' % document.encode(), origin, 1)
        delivery = Delivery(uid or f"whk_{webhook}", 1, Match.CREATE, change, replay=replay)
        key = change.key.encode()
        return Record(self.topics.lane(webhook).name, key, encode_delivery(delivery), partition=partition_of(key, partitions))

    @contextlib.asynccontextmanager
    async def sink(self, name: str = "a", **options) -> AsyncIterator[Sink]:
        """A sink that runs until the block ends, and ends in order."""
        sink, task, sender = self.started(name, **options)
        try:
            yield sink
        finally:
            sink.stop()
            await task
            await sender.close()

    def started(self, name: str = "a", **options) -> tuple[Sink, asyncio.Task[None], Http1Sender]:
        config = SinkConfig(
            kafka=self.kafka, topics=self.topics, worker=f"http://127.0.0.1/{name}", version="0", session_timeout_s=SESSION_S,
            **{"commit_s": 0.1, "drain_s": 2.0, **options},
        )  # fmt: skip
        sender = sender_here()
        self.metrics.append(CollectorRegistry())
        sink = Sink(config, producer=self.producer, attempts=self.attempts, sender=sender, registry=self.metrics[-1])
        return sink, asyncio.create_task(sink.run()), sender

    def metric(self, name: str, **labels: str) -> float:
        """Summed over all sinks of the test."""
        return sum(registry.get_sample_value(name, labels) or 0.0 for registry in self.metrics)

    async def read(self, topic: str, partitions: int = 1) -> list[Record]:
        """All that a topic holds."""

        def read() -> list[Record]:
            found = []
            for partition in range(partitions):
                at = offsets(self.kafka, [(topic, partition)], timeout_s=10)[topic, partition]
                for batch in read_partition(self.kafka, topic, partition, at.log_start, at.end):
                    found += [Record(topic, one.key(), one.value(), headers_of(one)) for one in batch]
            return found

        return await asyncio.to_thread(read)

    async def attempts_made(self) -> list[Attempt]:
        await asyncio.to_thread(self.attempts._librdkafka.flush, 10)
        found = [decode_activity(record.value or b"") for record in await self.read(self.topics.attempts.name, PARTITIONS)]
        return [one for one in found if isinstance(one, Attempt)]

    async def committed(self, webhook: str) -> int:
        """The committed offset of a lane; -1: none."""
        place = self.topics.lane(webhook).name, 0
        found = await asyncio.to_thread(committed_offsets, self.kafka, self.topics.group_sink, [place], timeout_s=10)
        return found[place].offset if place in found else -1


def headers_of(message: Message) -> list[tuple[str, bytes]]:
    headers = message.headers()
    return [(name, value) for name, value in headers if isinstance(value, bytes)] if isinstance(headers, list) else []


async def until(holds: Callable[[], bool], what: str, timeout_s: float = PATIENCE_S) -> None:
    """Look again and again until it holds."""
    deadline = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < deadline, f"not within {timeout_s:g} s: {what}"
        await asyncio.sleep(0.02)


async def until_committed(home: Installation, webhook: str, offset: int, timeout_s: float = PATIENCE_S) -> None:
    """Until everything below that offset of a lane is finished, and Kafka knows."""
    deadline = time.monotonic() + timeout_s
    while (committed := await home.committed(webhook)) < offset:
        assert time.monotonic() < deadline, f"{webhook} is committed to {committed}, not to {offset}"
        await asyncio.sleep(0.1)


def versions(calls: Sequence[Call]) -> dict[str, list[int]]:
    """The versions of each document in the order in which they came for the first time."""
    seen: dict[str, list[int]] = defaultdict(list)
    for call in calls:
        version = int(call.headers["livehook-version"])
        document = call.headers["livehook-document"]
        if version not in seen[document]:
            seen[document].append(version)
    return dict(seen)


def in_order(home: Installation, calls: Sequence[Call]) -> bool:
    return {f"c/{document}": list(range(1, last + 1)) for document, last in home.versions.items()} == versions(calls)
