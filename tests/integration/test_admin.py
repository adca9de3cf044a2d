"""Topics, offsets and groups, asked of a real Kafka."""

from __future__ import annotations

import concurrent.futures

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from connectors.kafka.admin import (
    Committed,
    Offsets,
    committed_offsets,
    delete_topic,
    ensure_topics,
    group_client_ids,
    offsets,
    partitions_of,
    takes_writes,
    topic_ids,
)
from connectors.kafka.config import KafkaConfig
from connectors.kafka.errors import KafkaRefused, KafkaUnavailable, TopicMismatch, UnknownTopic
from schemas.topics import Topics, TopicSpec

TIMEOUT_S = 30.0
NOBODY = KafkaConfig(bootstrap_servers="127.0.0.1:1")


@pytest.fixture
def topics(topic_prefix):
    """All topics of an installation that nobody else uses."""
    return Topics(prefix=topic_prefix, partitions=3)


@pytest.fixture
def one(kafka, topic_prefix):
    """A topic of two partitions."""
    spec = TopicSpec(f"{topic_prefix}one", 2, {})
    ensure_topics(kafka.config, [spec], replication=None, timeout_s=TIMEOUT_S)
    return spec.name


def append(kafka, topic: str, partition: int, count: int) -> None:
    """Append records and wait until all are acknowledged."""
    producer, errors = Producer(kafka.config.librdkafka()), []
    for _ in range(count):
        producer.produce(topic, b"value", partition=partition, on_delivery=lambda error, _: errors.append(error))
    producer.flush(TIMEOUT_S)
    assert [None] * count == errors


def test_topics_are_made_as_they_must_be_and_a_second_time_changes_nothing(kafka, topics):
    """All of an installation's topics pass their own comparison, are usable at once, and keep their ids."""
    ensure_topics(kafka.config, topics.fixed(), replication=None, timeout_s=TIMEOUT_S)
    names = [spec.name for spec in topics.fixed()]
    ids = topic_ids(kafka.config, names, timeout_s=TIMEOUT_S)
    append(kafka, topics.mutations.name, 2, 1)
    ensure_topics(kafka.config, topics.fixed(), replication=1, timeout_s=TIMEOUT_S)
    assert set(names) == set(ids)
    assert ids == topic_ids(kafka.config, names, timeout_s=TIMEOUT_S)


def test_those_who_make_the_same_topics_at_once_do_not_disturb_each_other(kafka, topics):
    """Every role makes them at its start."""
    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        started = [pool.submit(ensure_topics, kafka.config, topics.fixed(), replication=None, timeout_s=TIMEOUT_S) for _ in range(6)]
        assert [None] * 6 == [each.result() for each in started]


def test_a_topic_that_differs_is_named_with_all_that_differs(kafka, topics):
    """A line for each topic: partitions and configs, found and expected. Nothing is changed."""
    as_found = TopicSpec(topics.changes.name, 5, {"cleanup.policy": "delete", "min.compaction.lag.ms": "1"})
    ensure_topics(kafka.config, [as_found], replication=None, timeout_s=TIMEOUT_S)
    with pytest.raises(TopicMismatch) as mismatch:
        ensure_topics(kafka.config, topics.fixed(), replication=None, timeout_s=TIMEOUT_S)
    (line,) = mismatch.value.lines
    assert line.startswith(f"topic {topics.changes.name}: partitions is 5, must be 3; ")
    assert "cleanup.policy is delete, must be compact" in line
    assert "min.compaction.lag.ms is 1, must be 604800000" in line
    ensure_topics(kafka.config, [as_found], replication=None, timeout_s=TIMEOUT_S)


def test_what_kafka_refuses_is_said(kafka, topic_prefix):
    """A config it does not know: the line names the topic; and trying again would not help."""
    with pytest.raises(KafkaRefused, match=f"cannot create topic {topic_prefix}bad: .*no\\.such\\.config"):
        ensure_topics(kafka.config, [TopicSpec(f"{topic_prefix}bad", 1, {"no.such.config": "1"})], replication=None, timeout_s=TIMEOUT_S)


def test_a_deleted_topic_can_be_made_anew_at_once_and_is_another_one(kafka, topic_prefix, one):
    """Its id is another one, and it is empty."""
    append(kafka, one, 0, 3)
    before = topic_ids(kafka.config, [one], timeout_s=TIMEOUT_S)
    delete_topic(kafka.config, one, timeout_s=TIMEOUT_S)
    assert {} == topic_ids(kafka.config, [one], timeout_s=TIMEOUT_S)
    ensure_topics(kafka.config, [TopicSpec(one, 2, {})], replication=None, timeout_s=TIMEOUT_S)
    assert before != topic_ids(kafka.config, [one], timeout_s=TIMEOUT_S)
    assert {(one, 0): Offsets(0, 0)} == offsets(kafka.config, [(one, 0)], timeout_s=TIMEOUT_S)


def test_deleting_what_is_not_there_is_no_error(kafka, topic_prefix):
    """It is gone, which is what was asked."""
    delete_topic(kafka.config, f"{topic_prefix}none", timeout_s=TIMEOUT_S)


def test_offsets_are_where_a_log_begins_and_where_it_ends(kafka, one):
    """For each partition; records that were deleted from the front count."""
    append(kafka, one, 0, 5)
    client = AdminClient(kafka.config.librdkafka())
    (deleted,) = client.delete_records([TopicPartition(one, 0, 2)]).values()
    deleted.result(TIMEOUT_S)
    found = offsets(kafka.config, [(one, 0), (one, 1)], timeout_s=TIMEOUT_S)
    assert {(one, 0): Offsets(2, 5), (one, 1): Offsets(0, 0)} == found


def test_offsets_of_nothing_are_nothing(kafka):
    """No request is needed for that."""
    assert {} == offsets(kafka.config, [], timeout_s=TIMEOUT_S)


def test_partitions_are_counted(kafka, one):
    """Of a topic that is there."""
    assert 2 == partitions_of(kafka.config, one, timeout_s=TIMEOUT_S)


def test_a_topic_takes_writes_while_enough_copies_are_in_sync(kafka, one, topic_prefix):
    """One that needs two copies has too few on one broker."""
    strict = TopicSpec(f"{topic_prefix}strict", 1, {"min.insync.replicas": "2"})
    ensure_topics(kafka.config, [strict], replication=1, timeout_s=TIMEOUT_S)
    assert [True, False] == [takes_writes(kafka.config, [name], timeout_s=TIMEOUT_S) for name in (one, strict.name)]


def test_what_is_not_there_is_an_unknown_topic(kafka, one, topic_prefix):
    """Both a topic and a partition."""
    with pytest.raises(UnknownTopic, match=f"there is no topic {topic_prefix}none"):
        partitions_of(kafka.config, f"{topic_prefix}none", timeout_s=TIMEOUT_S)
    with pytest.raises(UnknownTopic, match=f"there is no partition {topic_prefix}none/0"):
        offsets(kafka.config, [(f"{topic_prefix}none", 0)], timeout_s=TIMEOUT_S)
    with pytest.raises(UnknownTopic, match=f"{one}/2"):
        offsets(kafka.config, [(one, 0), (one, 2)], timeout_s=TIMEOUT_S)


def test_a_groups_members_are_known_by_their_client_ids(kafka, one, topic_prefix):
    """Those who are in it now; this is how the API finds the sinks."""
    group = f"{topic_prefix}group"
    assert [] == group_client_ids(kafka.config, group, timeout_s=TIMEOUT_S)
    settings = {"group.id": group, "client.id": "livehook-sink@http://127.0.0.1:8082", "auto.offset.reset": "earliest"}
    consumer = Consumer(kafka.config.librdkafka() | settings)
    try:
        consumer.subscribe([one])
        append(kafka, one, 0, 1)
        assert consumer.poll(TIMEOUT_S) is not None
        assert ["livehook-sink@http://127.0.0.1:8082"] == group_client_ids(kafka.config, group, timeout_s=TIMEOUT_S)
    finally:
        consumer.close()


def test_a_groups_commits_are_read_with_their_metadata(kafka, one, topic_prefix):
    """Partitions without a commit are left out; without a list, all are read."""
    group = f"{topic_prefix}group"
    consumer = Consumer(kafka.config.librdkafka() | {"group.id": group})
    consumer.commit(offsets=[TopicPartition(one, 1, 42, metadata="so far")], asynchronous=False)
    consumer.close()
    expected = {(one, 1): Committed(42, "so far")}
    assert expected == committed_offsets(kafka.config, group, [(one, 0), (one, 1)], timeout_s=TIMEOUT_S)
    assert {} == committed_offsets(kafka.config, group, [], timeout_s=TIMEOUT_S)
    assert {} == committed_offsets(kafka.config, f"{topic_prefix}nobody", [(one, 0)], timeout_s=TIMEOUT_S)


@pytest.mark.parametrize(
    "ask",
    [
        lambda: ensure_topics(NOBODY, [TopicSpec("a", 1, {})], replication=None, timeout_s=0.3),
        lambda: delete_topic(NOBODY, "a", timeout_s=0.3),
        lambda: topic_ids(NOBODY, ["a"], timeout_s=0.3),
        lambda: partitions_of(NOBODY, "a", timeout_s=0.3),
        lambda: offsets(NOBODY, [("a", 0)], timeout_s=0.3),
        lambda: group_client_ids(NOBODY, "a", timeout_s=0.3),
        lambda: committed_offsets(NOBODY, "a", [("a", 0)], timeout_s=0.3),
    ],
)
def test_a_kafka_that_is_not_there_is_unavailable(ask):
    """Within the time that was given, whatever was asked."""
    with pytest.raises(KafkaUnavailable):
        ask()
