"""What the roles share when they are put together. Each has a file of its own: ``api_role.py``, ``sink_role.py``, ``streams_role.py``."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from urllib.parse import urlsplit

from connectors.kafka.admin import ensure_topics, partitions_of
from connectors.kafka.errors import KafkaUnavailable, UnknownTopic
from connectors.kafka.registry import SchemaRegistry
from livehook.settings import Settings
from schemas.topics import Topics

KAFKA_START_S_MAX = 60.0
ASK_S_MAX = 5.0
ASK_AGAIN_S = 0.2


async def with_existing_partitions(settings: Settings) -> Settings:
    """
    The settings with as many partitions as ``mutations`` has already, unless the user says how many there must be.

    Waits until Kafka answers: it may be starting, as we are.
    Raises:  KafkaUnavailable: it did not within a minute.
    """
    if "partitions" in settings.given:
        return settings
    topic = Topics(settings.topic_prefix).mutations.name
    deadline = time.monotonic() + KAFKA_START_S_MAX
    while True:
        try:
            partitions = await asyncio.to_thread(partitions_of, settings.kafka(), topic, timeout_s=ASK_S_MAX)
            return dataclasses.replace(settings, partitions=partitions)
        except UnknownTopic:
            return settings
        except KafkaUnavailable:
            if time.monotonic() > deadline:
                raise
            await asyncio.sleep(ASK_AGAIN_S)


def own_ports(address: str) -> frozenset[int]:
    """Where a role that is served at this address listens: no webhook may lead there."""
    port = urlsplit(address).port
    return frozenset() if port is None else frozenset({port})


async def prepare(settings: Settings) -> SchemaRegistry | None:
    """
    Make the topics that are missing, hold the others to what they must be, and write records as the schema registry wants, if there is one.

    Raises:  TopicMismatch, KafkaUnavailable, KafkaRefused.
    """
    topics = Topics(settings.topic_prefix, settings.partitions).fixed()
    await asyncio.to_thread(ensure_topics, settings.kafka(), topics, replication=settings.replication, timeout_s=KAFKA_START_S_MAX)
    if settings.schema_registry_url is None:
        return None
    schemas = SchemaRegistry(settings.schema_registry_url)
    await asyncio.to_thread(schemas.adopt)
    return schemas
