"""
What can go wrong between us and Kafka, mapped once, here; the class says what to do next::

    LivehookError
    ├── Unavailable
    │   └── KafkaUnavailable     not reached, or no answer in time: the outcome is unknown, try again
    ├── KafkaRefused             Kafka answered no: trying again does not help
    │   ├── UnknownTopic         there is no such topic or partition
    │   └── TopicExists          there is one of that name already
    └── Fatal
        ├── TopicMismatch        a topic is not as it must be: the role stops
        └── EmbeddedKafkaError   the embedded broker cannot start
"""

from __future__ import annotations

from collections.abc import Sequence

from confluent_kafka import KafkaError

from schemas.errors import Fatal, LivehookError, Unavailable

# librdkafka calls an error retriable only where it retries by itself; these pass as well.
_PASSING = frozenset(
    {
        KafkaError._ALL_BROKERS_DOWN,
        KafkaError._DESTROY,
        KafkaError._MSG_TIMED_OUT,
        KafkaError._NOENT,  # "no leaders found"
        KafkaError._RESOLVE,
        KafkaError._TIMED_OUT,
        KafkaError._TIMED_OUT_QUEUE,
        KafkaError._TRANSPORT,
        KafkaError._WAIT_CACHE,
        KafkaError._WAIT_COORD,
        KafkaError.BROKER_NOT_AVAILABLE,
        KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
        KafkaError.COORDINATOR_NOT_AVAILABLE,
        KafkaError.FENCED_LEADER_EPOCH,
        KafkaError.KAFKA_STORAGE_ERROR,
        KafkaError.LEADER_NOT_AVAILABLE,
        KafkaError.LISTENER_NOT_FOUND,
        KafkaError.NETWORK_EXCEPTION,
        KafkaError.NOT_CONTROLLER,
        KafkaError.NOT_COORDINATOR,
        KafkaError.NOT_ENOUGH_REPLICAS,
        KafkaError.NOT_ENOUGH_REPLICAS_AFTER_APPEND,
        KafkaError.NOT_LEADER_FOR_PARTITION,
        KafkaError.OFFSET_NOT_AVAILABLE,
        KafkaError.REPLICA_NOT_AVAILABLE,
        KafkaError.REQUEST_TIMED_OUT,
        KafkaError.STALE_BROKER_EPOCH,
        KafkaError.THROTTLING_QUOTA_EXCEEDED,
        KafkaError.UNKNOWN_LEADER_EPOCH,
    }
)
_ABSENT = frozenset(
    {
        KafkaError._UNKNOWN_PARTITION,
        KafkaError._UNKNOWN_TOPIC,
        KafkaError.UNKNOWN_TOPIC_ID,
        KafkaError.UNKNOWN_TOPIC_OR_PART,
    }
)


class KafkaUnavailable(Unavailable):
    """Kafka was not reached or did not answer in time; whether it did what was asked is unknown."""


class KafkaRefused(LivehookError):
    """Kafka answered, and the answer is no: the same request will be refused again."""


class UnknownTopic(KafkaRefused):
    """There is no such topic, or it has no such partition."""


class TopicExists(KafkaRefused):
    """There is a topic of that name already."""


class TopicMismatch(Fatal):
    """At least one topic differs from what it must be; one line a topic, kept in ``lines`` too."""

    def __init__(self, lines: Sequence[str]) -> None:
        super().__init__("\n".join(lines))
        self.lines = tuple(lines)


class EmbeddedKafkaError(Fatal):
    """The embedded broker cannot start; the one line says what to do."""


def passes(error: KafkaError) -> bool:
    """Whether the same request may succeed later without anybody doing anything."""
    if error.code() == KafkaError.INVALID_REPLICATION_FACTOR:
        return "fenced" in error.str()  # the brokers are there, and about to be let in again after a restart
    return not error.fatal() and (error.retriable() or error.code() in _PASSING)


def mapped(error: KafkaError, doing: str) -> KafkaUnavailable | KafkaRefused:
    """
    Our error for one of librdkafka's.

    Args:  doing: what was tried, as a verb with its object: ``describe topic livehook.changes``.
    """
    line = f"cannot {doing}: {error.str()}"
    if passes(error):
        return KafkaUnavailable(line)
    if error.code() in _ABSENT:
        return UnknownTopic(line)
    return TopicExists(line) if error.code() == KafkaError.TOPIC_ALREADY_EXISTS else KafkaRefused(line)
