"""What librdkafka reports becomes one of our errors, whose class says what to do next."""

from __future__ import annotations

import pytest
from confluent_kafka import KafkaError

from connectors.kafka.admin import topic_difference
from connectors.kafka.errors import KafkaRefused, KafkaUnavailable, TopicExists, TopicMismatch, UnknownTopic, mapped
from schemas.topics import TopicSpec

SPEC = TopicSpec("livehook.changes", 8, {"cleanup.policy": "compact", "max.message.bytes": "4194304"})
AS_MADE = {"cleanup.policy": "compact", "max.message.bytes": "4194304", "retention.ms": "1"}


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (KafkaError._TRANSPORT, KafkaUnavailable),
        (KafkaError._TIMED_OUT, KafkaUnavailable),
        (KafkaError._ALL_BROKERS_DOWN, KafkaUnavailable),
        (KafkaError.REQUEST_TIMED_OUT, KafkaUnavailable),
        (KafkaError.NOT_LEADER_FOR_PARTITION, KafkaUnavailable),
        (KafkaError.NOT_ENOUGH_REPLICAS, KafkaUnavailable),
        (KafkaError.COORDINATOR_LOAD_IN_PROGRESS, KafkaUnavailable),
        (KafkaError.UNKNOWN_TOPIC_OR_PART, UnknownTopic),
        (KafkaError._UNKNOWN_PARTITION, UnknownTopic),
        (KafkaError.TOPIC_ALREADY_EXISTS, TopicExists),
        (KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaRefused),
        (KafkaError.INVALID_REPLICATION_FACTOR, KafkaRefused),
        (KafkaError.SASL_AUTHENTICATION_FAILED, KafkaRefused),
    ],
)
def test_the_class_says_whether_to_try_again(code, expected):
    """What passes is KafkaUnavailable; what Kafka has decided is KafkaRefused or one of its kinds."""
    assert expected is type(mapped(KafkaError(code), "do it"))


def test_a_broker_that_is_about_to_be_let_in_is_worth_another_try():
    """Right after a restart topics cannot be made for a moment; the code alone does not tell that from too few brokers."""
    fenced = KafkaError(KafkaError.INVALID_REPLICATION_FACTOR, "All brokers are currently fenced.")
    assert KafkaUnavailable is type(mapped(fenced, "create topic a"))


def test_the_line_says_what_was_tried_and_what_kafka_said():
    """In this order."""
    error = KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED, "Denied")
    assert "cannot describe topic a: Denied" == str(mapped(error, "describe topic a"))


def test_a_topic_as_it_must_be_has_no_difference():
    """Configs that we do not set may be anything."""
    assert topic_difference(SPEC, 8, AS_MADE) is None


def test_everything_that_differs_is_said_in_one_line():
    """Partitions and each config that we set: what it is, and what it must be."""
    line = topic_difference(SPEC, 4, {"cleanup.policy": "delete", "max.message.bytes": None})
    assert line == (
        "topic livehook.changes: partitions is 4, must be 8; cleanup.policy is delete, must be compact; "
        "max.message.bytes is None, must be 4194304"
    )


def test_the_order_of_a_list_is_no_difference():
    """Kafka may write compact,delete either way."""
    spec = TopicSpec("a", 1, {"cleanup.policy": "compact,delete"})
    assert topic_difference(spec, 1, {"cleanup.policy": "delete,compact"}) is None
    assert topic_difference(spec, 1, {"cleanup.policy": "compact"}) is not None


def test_a_mismatch_has_a_line_for_each_topic():
    """All in its text, and each by itself."""
    error = TopicMismatch(["topic a: …", "topic b: …"])
    assert ("topic a: …\ntopic b: …", ("topic a: …", "topic b: …")) == (str(error), error.lines)
