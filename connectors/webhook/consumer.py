"""What slots.py asks of librdkafka's consumer: its settings, where lanes go on, which errors end it. Called in its thread."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from connectors.kafka.errors import mapped, passes
from connectors.webhook.offsets import Start
from connectors.webhook.ownership import KnownLane, Place, start_of
from schemas.errors import Fatal

logger = logging.getLogger(__name__)

LEADERS_TIMEOUT_S = 2.0
COMMITTED_TIMEOUT_S = 10.0
COMMITTED_TRIES = 6


def settings(group: str, client_id: str, session_timeout_s: float) -> dict[str, Any]:
    """librdkafka's, beside those of the connection."""
    return {
        "group.id": group,
        "client.id": client_id,
        "partition.assignment.strategy": "cooperative-sticky",
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        "auto.offset.reset": "earliest",
        "session.timeout.ms": int(session_timeout_s * 1000),
        "heartbeat.interval.ms": int(session_timeout_s * 100),
        # A lane that is resumed is part of the next fetch; an idle fetch must not hold that up.
        "fetch.wait.max.ms": 100,
        "fetch.queue.backoff.ms": 10,
        "queued.max.messages.kbytes": 32 * 1024,
        # A commit that a broker took with it is given up, and tried again, well before the default of a minute.
        "socket.timeout.ms": 10_000,
        "topic.metadata.refresh.interval.ms": 30_000,
    }


def learn_leaders(consumer: Consumer, topics: Sequence[str]) -> None:
    """
    librdkafka looks for the leader of a new topic only once a second; when it is asked for the topic, it knows at once.

    Not to be called in a callback: Python's binding loses its state there in list_topics, and the next callback ends the process.
    """
    try:
        consumer.list_topics(topics[0] if len(topics) == 1 else None, timeout=LEADERS_TIMEOUT_S)
    except KafkaException as error:
        logger.info("the leaders of %d lanes are not known yet: %s", len(topics), error)


def starts_of(consumer: Consumer, lanes: Mapping[Place, KnownLane]) -> dict[Place, Start]:
    """
    Where each of these goes on, as the group has committed it.

    Raises:  KafkaRefused, KafkaUnavailable: it cannot be asked.
    """
    tries = 0
    while True:
        tries += 1
        try:
            committed = consumer.committed([TopicPartition(*place) for place in lanes], timeout=COMMITTED_TIMEOUT_S)
            return {(at.topic, at.partition): start_of(lanes[at.topic, at.partition], at) for at in committed}
        except KafkaException as error:
            reason = error.args[0]
            if not passes(reason) or tries == COMMITTED_TRIES:
                raise mapped(reason, "read the committed offsets of the lanes") from error
            logger.info("the committed offsets are not there yet: %s", reason.str())


def end_of(consumer: Consumer, place: Place) -> int:
    """The offset after the partition's last record, as the last answer had it; -1: it is not known."""
    _, end = consumer.get_watermark_offsets(TopicPartition(*place), cached=True) or (-1, -1)
    return int(end)


def check(error: KafkaError) -> None:
    """
    What librdkafka tries again by itself passes.

    Raises:  Fatal: the consumer cannot go on.
    """
    if error.code() == KafkaError._FATAL and "group.instance.id" in error.str():  # librdkafka tells the cause in words only
        raise Fatal("another process has joined the group under this sink's name: two must not use the same --dir, or copies of it")
    if error.fatal() or error.code() == KafkaError._FATAL:  # a message with an error has the code, but not the mark
        raise Fatal(f"the consumer of the lanes cannot go on: {error.str()}")
    logger.debug("Kafka: %s", error.str())  # its own lines say so now and then
