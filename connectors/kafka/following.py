"""Several partitions followed from known offsets on, by one consumer: no group, nothing committed. For what keeps its positions itself."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from confluent_kafka import Consumer, KafkaError, Message, TopicPartition

from connectors.kafka.config import KafkaConfig
from connectors.kafka.errors import mapped, passes
from connectors.kafka.logs import librdkafka_logger
from connectors.kafka.reading import offset_of

logger = logging.getLogger(__name__)

BATCH_MAX = 10_000  # what QUEUED_KIB_MAX holds of them is the bound where they are large
QUEUED_KIB_MAX = 32 * 1024
FETCH_BYTES_MAX = 1024 * 1024


class Follower:
    """
    Reads on for ever; not for several threads at once. What retention has removed is passed over.

    Args:  positions: the next offset of each (topic, partition).
    """

    def __init__(self, config: KafkaConfig, positions: Mapping[tuple[str, int], int]) -> None:
        self._consumer = Consumer(
            config.librdkafka()
            | {
                "group.id": "livehook.unused",  # librdkafka wants one; nobody joins it and nothing is committed to it
                "enable.auto.commit": False,
                "enable.auto.offset.store": False,
                "auto.offset.reset": "earliest",
                "fetch.wait.max.ms": 100,
                "fetch.queue.backoff.ms": 10,
                "fetch.message.max.bytes": FETCH_BYTES_MAX,
                "queued.max.messages.kbytes": QUEUED_KIB_MAX,
            },
            logger=librdkafka_logger("follower"),
        )
        self._consumer.assign([TopicPartition(topic, partition, offset) for (topic, partition), offset in positions.items()])

    def read(self, timeout_s: float) -> list[Message]:
        """
        The next records, in the order of each partition, at most BATCH_MAX; none after ``timeout_s``.

        A broker that restarts looks like no records.
        Raises:  KafkaRefused: a partition cannot be read.
        """
        first = self._consumer.poll(timeout_s)
        if first is None:
            return []
        # poll alone hands over one record a call, consume alone waits until its batch is full: together they do neither
        return [message for message in (first, *self._consumer.consume(BATCH_MAX - 1, 0)) if _is_record(message)]

    def close(self) -> None:
        """Give up the connections."""
        self._consumer.close()


def _is_record(message: Message) -> bool:
    error = message.error()
    if error is None:
        return True
    if not passes(error) and error.code() != KafkaError._AUTO_OFFSET_RESET:
        raise mapped(error, f"read {message.topic()}/{message.partition()} at {offset_of(message)}")
    logger.info("following %s: %s", message.topic(), error.str())
    return False
