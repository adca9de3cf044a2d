"""What the roles share when they are put together. Each has a file of its own: ``api_role.py``, ``sink_role.py``, ``streams_role.py``."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from typing import Any
from urllib.parse import urlsplit

from connectors.kafka.admin import committed_offsets, ensure_topics, partitions_of, takes_writes
from connectors.kafka.errors import KafkaRefused, KafkaUnavailable, UnknownTopic
from connectors.kafka.registry import SchemaRegistry
from livehook.settings import Settings

ADMIN_S_MAX = 10.0  # a question at the start: then the start begins anew; who tells it to end waits for the answer
READ_S_MAX = 60.0
ASK_S_MAX = 5.0


async def as_installed(settings: Settings) -> Settings:
    """
    The settings with as many partitions as ``mutations`` has already, unless the user says how many there must be, and as ``slots`` has.

    Raises:  KafkaUnavailable.
    """
    topics = settings.topics()
    found: dict[str, Any] = {}
    for field, spec in (("partitions", topics.mutations), ("slot_count", topics.slots)):
        if field not in settings.given:
            with contextlib.suppress(UnknownTopic):
                found[field] = await asyncio.to_thread(partitions_of, settings.kafka(), spec.name, timeout_s=ASK_S_MAX)
    return dataclasses.replace(settings, **found)


def own_ports(address: str) -> frozenset[int]:
    """Where a role that is served at this address listens: no webhook may lead there."""
    port = urlsplit(address).port
    return frozenset() if port is None else frozenset({port})


async def kafka_answers(settings: Settings, group: str) -> bool:
    """Whether the group's coordinator answers and the topics can be written to, within ASK_S_MAX each; a refusal is an answer too."""
    topics = settings.topics()
    place, names = (topics.mutations.name, 0), [spec.name for spec in topics.fixed()]
    try:
        await asyncio.to_thread(committed_offsets, settings.kafka(), group, [place], timeout_s=ASK_S_MAX)
        return await asyncio.to_thread(takes_writes, settings.kafka(), names, timeout_s=ASK_S_MAX)
    except KafkaUnavailable:
        return False
    except KafkaRefused:
        return True


async def prepare(settings: Settings) -> SchemaRegistry | None:
    """
    Make the topics that are missing, hold the others to what they must be, and write records as the schema registry wants, if there is one.

    Raises:  TopicMismatch, KafkaUnavailable, KafkaRefused.
    """
    topics = settings.topics().fixed()
    await asyncio.to_thread(ensure_topics, settings.kafka(), topics, replication=settings.replication, timeout_s=ADMIN_S_MAX)
    if settings.schema_registry_url is None:
        return None
    schemas = SchemaRegistry(settings.schema_registry_url)
    await asyncio.to_thread(schemas.adopt)
    return schemas
