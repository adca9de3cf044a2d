"""Rules of the producer, and of records from producers of others, on a real Kafka."""

import asyncio

import pytest
from confluent_kafka import Producer as Client

from connectors.kafka.admin import delete_topic, ensure_topics
from connectors.kafka.errors import KafkaRefused
from connectors.kafka.producer import Producer
from schemas.mutations import MARK_KEY, Mark
from schemas.records import encode_mark
from schemas.topics import Record, TopicSpec
from tests.integration.cluster import Cluster
from tests.integration.recorder import Recorder

TIMEOUT_S = 30.0


@pytest.fixture
async def producer(kafka):
    producer = Producer(kafka.config, client_id="test")
    producer.start()
    yield producer
    await producer.stop(5.0)


@pytest.mark.parametrize(("message_timeout_s", "is_idempotent"), [(None, True), (TIMEOUT_S, True), (TIMEOUT_S, False)])
async def test_every_record_is_acknowledged_with_its_offset(kafka, topic_prefix, message_timeout_s, is_idempotent):
    """Whatever the producer guarantees about repeats: who waits learns where each record stands."""
    topic = f"{topic_prefix}written"
    ensure_topics(kafka.config, [TopicSpec(topic, 1, {})], replication=None, timeout_s=TIMEOUT_S)
    producer = Producer(kafka.config, client_id="test", message_timeout_s=message_timeout_s, is_idempotent=is_idempotent)
    producer.start()
    try:
        assert [0, 1, 2] == await producer.send([Record(topic, b"k", b"%d" % number, (), 0) for number in range(3)])
    finally:
        await producer.stop(5.0)


async def test_a_topic_that_is_gone_is_no_error_where_that_is_ok(kafka, topic_prefix, producer):
    """Neither when Kafka says so nor, later, when librdkafka knows it and refuses at once; the other records are written."""
    gone, stays = f"{topic_prefix}gone", f"{topic_prefix}stays"
    for name in (gone, stays):
        ensure_topics(kafka.config, [TopicSpec(name, 1, {})], replication=None, timeout_s=TIMEOUT_S)
    both = [Record(gone, b"k", b"v", (), 0), Record(stays, b"k", b"v", (), 0)]
    assert [0, 0] == await producer.send(both, gone_ok=True)
    await asyncio.to_thread(delete_topic, kafka.config, gone, timeout_s=TIMEOUT_S)
    for offset in (1, 2, 3):
        assert [-1, offset] == await producer.send(both, gone_ok=True)
    with pytest.raises(KafkaRefused):
        await producer.send(both)


async def test_offsets_are_those_of_kafka_and_a_foreign_record_shows_in_the_last(kafka, topic_prefix, producer):
    """What stands between the first and the last is counted on."""
    topic = f"{topic_prefix}t"
    ensure_topics(kafka.config, [TopicSpec(topic, 1, {})], replication=None, timeout_s=TIMEOUT_S)
    records = [Record(topic, b"k", str(number).encode(), (), 0) for number in range(5)]
    assert [0, 1, 2, 3, 4] == await producer.send(records)
    assert [5, 6, 7, 8, 9] == await producer.send(records)


@pytest.mark.timeout(120)
@pytest.mark.parametrize("codec", ["gzip", "snappy", "lz4", "zstd"])
def test_every_compression_that_a_producer_may_use_is_read(cluster: Cluster, recorder: Recorder, name: str, codec: str):
    """A worker that cannot read a batch would stand still for good."""
    cluster.put_webhook(name, collections=[name], url=recorder.url)
    client = Client({"bootstrap.servers": cluster.bootstrap_servers, "compression.type": codec, "partitioner": "murmur2_random"})
    for number in range(20):
        body = f'{{"method": "upsert", "collection": "{name}", "id": "{number}", "value": {{"text": "{"x" * 500}"}}}}'
        client.produce(cluster.topics.mutations.name, body, f"{name}/{number}")
    assert 0 == client.flush(TIMEOUT_S)
    assert 20 == len(recorder.wait_for(lambda calls: len(calls) >= 20, TIMEOUT_S))


@pytest.mark.timeout(120)
def test_a_forged_mark_holds_nothing_up(cluster: Cluster, recorder: Recorder, name: str):
    """It names a record of webhooks that is not there; what stands behind it is matched all the same."""
    cluster.put_webhook(name, collections=[name], url=recorder.url)
    client = Client({"bootstrap.servers": cluster.bootstrap_servers, "partitioner": "murmur2_random"})
    for partition in range(cluster.topics.partitions):
        client.produce(cluster.topics.mutations.name, encode_mark(Mark(10**15)), MARK_KEY, partition)
    client.flush(TIMEOUT_S)
    for number in range(8):
        body = f'{{"method": "upsert", "collection": "{name}", "id": "{number}", "value": {{}}}}'
        client.produce(cluster.topics.mutations.name, body, f"{name}/{number}")
    assert 0 == client.flush(TIMEOUT_S)
    assert 8 == len(recorder.wait_for(lambda calls: len(calls) >= 8, TIMEOUT_S))
