"""A topic read from one time to another, on a real Kafka."""

from __future__ import annotations

import pytest
from confluent_kafka import Producer

from connectors.kafka.admin import ensure_topics
from connectors.kafka.config import KafkaConfig
from connectors.kafka.errors import UnknownTopic
from connectors.kafka.history import TopicHistory
from schemas.topics import TopicSpec
from tests.broker import Broker

TIMEOUT_S = 30.0
RECORDS = 2_000  # a partition


@pytest.fixture
def history(kafka: Broker, topic_prefix: str) -> TopicHistory:
    """Three partitions, of which two hold a record a millisecond, from 1 ms after 1970 on; the last record of the second is a tombstone."""
    config, name = KafkaConfig(bootstrap_servers=kafka.bootstrap_servers), f"{topic_prefix}history"
    kept_for_ever = {"cleanup.policy": "delete", "retention.ms": "-1"}
    ensure_topics(config, [TopicSpec(name, 3, kept_for_ever)], replication=None, timeout_s=TIMEOUT_S)
    producer = Producer(
        config.librdkafka() | {"linger.ms": 5, "enable.idempotence": True, "log_level": 0}
    )  # else a retry may change their order
    for number in range(1, RECORDS + 1):
        producer.produce(name, f"0/{number}", b"key", 0, timestamp=number)
        producer.produce(name, None if number == RECORDS else f"1/{number}", b"key", 1, timestamp=number)
    assert 0 == producer.flush(TIMEOUT_S)
    return TopicHistory(config, name)


@pytest.mark.parametrize(("since", "until"), [(0, None), (1, RECORDS + 1), (500, 1_500), (RECORDS, None), (700, 701)])
def test_what_lies_between_two_times_is_read_once(history: TopicHistory, since: int, until: int | None) -> None:
    """From the first record of that time on, before the first of the other time, in order; tombstones are left out."""
    read = [value.decode() for values in history.values(since * 1_000, None if until is None else until * 1_000) for value in values]

    numbers = range(max(since, 1), RECORDS + 1 if until is None else until)
    for partition in (0, 1):
        expected = [f"{partition}/{number}" for number in numbers if (partition, number) != (1, RECORDS)]
        assert expected == [value for value in read if value.startswith(f"{partition}/")]
    assert len(read) == 2 * len(numbers) - (RECORDS in numbers)


def test_nothing_is_read_where_there_is_nothing(history: TopicHistory) -> None:
    """After the last record; and a topic that is not there is an error of ours."""
    assert [] == list(history.values((RECORDS + 1) * 1_000, None))
    assert [] == list(history.values(500_000, 500_000))
    missing = TopicHistory(history._config, "not-there")
    with pytest.raises(UnknownTopic):
        list(missing.values(0, None))
