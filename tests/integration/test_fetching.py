"""Rules of the fetcher, on a real Kafka."""

import asyncio
from uuid import uuid4

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic

from connectors.kafka.admin import readable_ends
from connectors.kafka.config import KafkaConfig
from connectors.kafka.fetching import HELD_RECORDS_MAX, Fetcher

WAIT_S = 30.0


@pytest.fixture
def topic(kafka):
    name = f"fetching-{uuid4().hex[:8]}"
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap_servers})
    admin.create_topics([NewTopic(name, 2)])[name].result(WAIT_S)
    return name


@pytest.fixture
async def fetcher(kafka):
    found = Fetcher(KafkaConfig(bootstrap_servers=kafka.bootstrap_servers), client_id="test")
    found.start()
    yield found
    await found.stop()


def produce(kafka, topic, partition, numbers, **settings):
    producer = Producer({"bootstrap.servers": kafka.bootstrap_servers} | settings)
    if settings:
        producer.init_transactions(WAIT_S)
        producer.begin_transaction()
    for number in numbers:
        producer.produce(topic, b"%d" % number, b"k", partition, headers=[("n", b"%d" % number)])
        producer.poll(0)
    producer.flush(WAIT_S)
    return producer


async def taken(fetcher, places, count):
    """The values of the next records, by partition, until there are ``count``."""
    found: dict[int, list[int]] = {}
    async with asyncio.timeout(WAIT_S):
        while sum(map(len, found.values())) < count:
            for (_, partition), batch in fetcher.take(places).items():
                found.setdefault(partition, []).extend(int(record.value) for record in batch)
            await fetcher.wait(0.1)
    return found


async def test_the_end_of_a_transaction_is_passed(kafka, topic, fetcher):
    """It has an offset and is no record: who waits for all before the end of the log waits no longer."""
    producer = produce(kafka, topic, 0, range(3), **{"transactional.id": topic})
    producer.commit_transaction(WAIT_S)
    place = (topic, 0)
    fetcher.begin({place: None})
    assert {0: [0, 1, 2]} == await taken(fetcher, [place], 3)
    (end,) = readable_ends(KafkaConfig(bootstrap_servers=kafka.bootstrap_servers), [place], timeout_s=WAIT_S).values()
    assert 4 == end
    async with asyncio.timeout(WAIT_S):
        while fetcher.position(place) != end:  # noqa: ASYNC110 - no event tells
            await asyncio.sleep(0.01)
    assert not fetcher.has(place)


async def test_each_partition_comes_in_order_from_its_offset(kafka, topic, fetcher):
    """With all that the log has of a record, and the end of the log."""
    produce(kafka, topic, 0, range(5))
    produce(kafka, topic, 1, range(10, 15))
    places = [(topic, 0), (topic, 1)]
    fetcher.begin({(topic, 0): None, (topic, 1): 3})
    assert {0: [0, 1, 2, 3, 4], 1: [13, 14]} == await taken(fetcher, places, 7)
    assert [5, 5] == [fetcher.log_end(place) for place in places]
    produce(kafka, topic, 0, [5])
    async with asyncio.timeout(WAIT_S):
        while not (found := fetcher.take(places)):
            await fetcher.wait(1.0)
    (record,) = found[topic, 0]
    assert (0, 5, b"k", b"5", [("n", b"5")]) == (record.partition, record.offset, record.key, record.value, record.headers)
    assert record.timestamp > 1_600_000_000_000


async def test_what_ended_and_begins_again_has_no_record_of_before(kafka, topic, fetcher):
    """Neither waiting ones nor ones that were on the way."""
    produce(kafka, topic, 0, range(2_000))
    place = (topic, 0)
    fetcher.begin({place: None})
    for offset in (700, 5, 1_500, 0):
        fetcher.end([place])
        fetcher.begin({place: offset})
        await fetcher.wait(0.05)
    assert {0: list(range(2_000))} == await taken(fetcher, [place], 2_000)
    fetcher.end([place])
    assert {} == fetcher.take([place])


async def test_a_partition_that_nobody_takes_from_holds_up_no_other(kafka, topic, fetcher):
    """It is held back at its bound, and goes on where it stopped."""
    count = 3 * HELD_RECORDS_MAX
    produce(kafka, topic, 0, range(count))
    fetcher.begin({(topic, 0): None, (topic, 1): None})
    produce(kafka, topic, 1, range(count))
    assert {1: list(range(count))} == await taken(fetcher, [(topic, 1)], count)
    assert {0: list(range(count))} == await taken(fetcher, [(topic, 0)], count)


async def test_what_a_producer_took_back_is_not_read(kafka, topic, fetcher):
    """It was never accepted; what came after it is."""
    produce(kafka, topic, 0, range(3), **{"transactional.id": topic}).abort_transaction(WAIT_S)
    produce(kafka, topic, 0, [7])
    fetcher.begin({(topic, 0): None})
    assert {0: [7]} == await taken(fetcher, [(topic, 0)], 1)
