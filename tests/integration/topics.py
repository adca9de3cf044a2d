"""Topics as tests look into them: everything in a partition, and configs changed for a while."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping

from confluent_kafka import Message
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType

from connectors.kafka.admin import offsets
from connectors.kafka.config import KafkaConfig
from connectors.kafka.reading import read_partition
from schemas.keys import key_of, partition_of

ASK_S = 30.0
NAMES_MAX = 10_000


def records(bootstrap_servers: str, topic: str, partition: int = 0) -> list[Message]:
    """What a partition holds at this moment."""
    config = KafkaConfig(bootstrap_servers=bootstrap_servers)
    start, end = offsets(config, [(topic, partition)], timeout_s=ASK_S)[topic, partition]
    return [message for batch in read_partition(config, topic, partition, start, end) for message in batch]


def headers_of(message: Message) -> dict[str, str]:
    """Its headers, as text."""
    return {name: value.decode() for name, value in dict(message.headers() or []).items() if isinstance(value, bytes)}


@contextlib.contextmanager
def configured(bootstrap_servers: str, topic: str, configs: Mapping[str, str]) -> Iterator[None]:
    """The topic has these configs until the block ends; then each goes back to what the topic was made with, or the broker's default."""
    admin = AdminClient({"bootstrap.servers": bootstrap_servers})
    resource = ConfigResource(ResourceType.TOPIC, topic)
    found = admin.describe_configs([resource])[resource].result(ASK_S)
    before = {name: None if found[name].is_default else found[name].value for name in configs}
    _alter(admin, topic, configs)
    try:
        yield
    finally:
        _alter(admin, topic, before)


def _alter(admin: AdminClient, topic: str, configs: Mapping[str, str | None]) -> None:
    entries = [
        ConfigEntry(name, value, incremental_operation=AlterConfigOpType.DELETE if value is None else AlterConfigOpType.SET)
        for name, value in configs.items()
    ]
    resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=entries)
    admin.incremental_alter_configs([resource])[resource].result(ASK_S)


def id_at(partition: int, collection: str, prefix: str, partitions: int) -> str:
    """An id that begins with ``prefix`` and whose document belongs to that partition."""
    ids = (f"{prefix}-{number}" for number in range(NAMES_MAX))
    return next(id_ for id_ in ids if partition_of(key_of(collection, id_).encode(), partitions) == partition)
