"""What comes into a topic from now on, from all its partitions, without a group: for showing things as they happen."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from confluent_kafka import Consumer, TopicPartition

from connectors.kafka.admin import offsets, partitions_of
from connectors.kafka.config import KafkaConfig
from connectors.kafka.logs import librdkafka_logger

logger = logging.getLogger(__name__)

POLL_S = 0.1
ASK_S_MAX = 10.0
STOP_WAIT_S = 5.0


class Tail:
    """
    Reads in a thread of its own, from ``start`` to ``stop``. A broker that restarts is waited for; what is lost in between is lost.

    Args:    on_value: called in that thread with the value of each record.
    Raises:  KafkaUnavailable, KafkaRefused: where the topic ends now could not be found out.
    """

    def __init__(self, config: KafkaConfig, topic: str, on_value: Callable[[bytes], None]) -> None:
        partitions = partitions_of(config, topic, timeout_s=ASK_S_MAX)
        # Asked for now: librdkafka would look up "the end" only when it begins to fetch, and miss what came until then.
        ends = offsets(config, [(topic, partition) for partition in range(partitions)], timeout_s=ASK_S_MAX)
        self._consumer = Consumer(
            config.librdkafka()
            | {
                "group.id": "livehook.unused",  # librdkafka wants one; nobody joins it
                "enable.auto.commit": False,
                "auto.offset.reset": "latest",
                "fetch.wait.max.ms": 100,
                "fetch.queue.backoff.ms": 10,
            },
            logger=librdkafka_logger("tail"),
        )
        self._consumer.assign([TopicPartition(topic, partition, log.end) for (_, partition), log in ends.items()])
        self._on_value = on_value
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"tail of {topic}", daemon=True)

    def start(self) -> None:
        """Start to read."""
        self._thread.start()

    def stop(self) -> None:
        """Stop reading."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(STOP_WAIT_S)

    def _run(self) -> None:
        while not self._stopping.is_set():
            message = self._consumer.poll(POLL_S)
            if message is None:
                continue
            if (error := message.error()) is not None:
                logger.info("tail: %s", error.str())
                continue
            if (value := message.value()) is not None:
                self._on_value(value)
        self._consumer.close()
