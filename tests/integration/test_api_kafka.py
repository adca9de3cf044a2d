"""The API on a real Kafka: what a PUT has done when it is answered, and what a start finishes."""

import asyncio
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx
import msgspec
import pytest

from connectors.kafka.admin import offsets, topic_ids
from connectors.kafka.config import KafkaConfig
from connectors.kafka.producer import Producer
from connectors.kafka.reading import read_partition
from livehook.api.app import create_app
from livehook.api.revisions import planned
from livehook.api.testing import FakeKafka, fake_services
from livehook.api_role import ApiRole
from livehook.settings import Settings
from schemas.mutations import Mark
from schemas.positions import Origin
from schemas.records import decode_mutation, decode_webhooks, encode_revision
from schemas.topics import Record, Topics
from schemas.webhook_validation import Wanted
from schemas.webhooks import WebhookRevision, WebhookSpec

pytestmark = pytest.mark.timeout(180)

PARTITIONS = 3
WEBHOOK = {"collection": "people", "query": "age >= 18", "url": "http://127.0.0.1:9999/hook"}


@pytest.fixture
def settings(kafka, topic_prefix):
    return Settings(
        bootstrap_servers=kafka.bootstrap_servers, topic_prefix=topic_prefix, partitions=PARTITIONS, replication=1, allow_private=True
    )


@asynccontextmanager
async def running(settings):
    """An API, started, and a client of it."""
    failures: list[BaseException] = []
    with TemporaryDirectory() as folder:
        role = ApiRole(settings, folder=Path(folder), address="http://127.0.0.1:8080", fail=failures.append)
        async with started(role) as client:
            yield role, client
    assert [] == failures


@asynccontextmanager
async def started(role):
    """The role at work, and a client of it."""
    await role.start()
    try:
        transport = httpx.ASGITransport(role.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8080", timeout=60) as client:
            yield client
    finally:
        await role.stop()


def records(settings, topic, partition=0):
    """Every record of a partition."""
    log = offsets(settings.kafka(), [(topic.name, partition)], timeout_s=10)[topic.name, partition]
    return [record for batch in read_partition(settings.kafka(), topic.name, partition, log.log_start, log.end) for record in batch]


def revisions(settings, topics):
    """The revisions on record, with their offsets."""
    decoded = [(record.offset(), decode_webhooks(record.value())) for record in records(settings, topics.webhooks)]
    return [(offset, revision) for offset, revision in decoded if isinstance(revision, WebhookRevision)]


def marks(settings, topics):
    """Offset of each mark in each partition of mutations, and what it says."""
    return [
        {
            record.offset(): mark
            for record in records(settings, topics.mutations, partition)
            if isinstance(mark := decode_mutation(record.key(), record.value()), Mark)
        }
        for partition in range(PARTITIONS)
    ]


async def test_a_put_is_answered_when_every_partition_is_marked(settings):
    """On record, a lane, a revision, a mark in each partition that names it, and the revision again with where the marks stand."""
    topics = Topics(settings.topic_prefix, PARTITIONS)
    async with running(settings) as (_, client):
        await client.post("/v1/collections/people/documents", json=[{"n": n} for n in range(20)])
        answer = await client.put("/v1/webhooks/adults", json=WEBHOOK)
        assert 201 == answer.status_code
        (_, claimed), (first_offset, first), (_, second) = revisions(settings, topics)
        found = marks(settings, topics)

    assert {topics.lane("adults").name} == topic_ids(settings.kafka(), [topics.lane("adults").name], timeout_s=10).keys()
    assert [[Mark(first_offset)]] * PARTITIONS == [list(one.values()) for one in found]
    assert claimed == first
    assert (None, [Origin(0, partition, next(iter(one))) for partition, one in enumerate(found)]) == (first.since, second.since)


async def test_documents_are_in_kafka_when_they_are_accepted(settings):
    """On the partition of their key, as Java puts them."""
    topics = Topics(settings.topic_prefix, PARTITIONS)
    async with running(settings) as (_, client):
        answer = await client.post("/v1/collections/people/documents", json=[{"_id": str(n)} for n in range(50)])
        assert 202 == answer.status_code
        keys = [record.key() for partition in range(PARTITIONS) for record in records(settings, topics.mutations, partition)]

    assert {f"people/{n}".encode() for n in range(50)} == set(keys)


async def test_delete_and_put_again(settings):
    """Another webhook with another lane; revisions go on counting."""
    topics = Topics(settings.topic_prefix, PARTITIONS)
    lane = topics.lane("adults").name
    async with running(settings) as (_, client):
        await client.put("/v1/webhooks/adults", json=WEBHOOK)
        [before] = topic_ids(settings.kafka(), [lane], timeout_s=10).values()
        assert 204 == (await client.delete("/v1/webhooks/adults")).status_code
        assert {} == topic_ids(settings.kafka(), [lane], timeout_s=10)
        assert 201 == (await client.put("/v1/webhooks/adults", json=WEBHOOK)).status_code
        [after] = topic_ids(settings.kafka(), [lane], timeout_s=10).values()
        written = [revision for _, revision in revisions(settings, topics)]

    assert before != after
    assert [1, 1, 1, 2, 2, 3, 3, 3] == [revision.revision for revision in written]
    assert written[0].uid != written[-1].uid


async def test_another_start_knows_the_webhooks_and_finishes_what_was_cut_off(settings):
    """A revision that was written without its marks is there after the next start."""
    topics = Topics(settings.topic_prefix, PARTITIONS)
    cut_off = planned(
        Wanted(WebhookSpec("late", WEBHOOK["url"], ("people",))), present=None, newest=None, now_us=1, new_uid="u", new_secret="s"
    )
    assert cut_off is not None
    async with running(settings) as (role, client):
        await client.put("/v1/webhooks/adults", json=WEBHOOK)
        await role._producer.send([Record(topics.webhooks.name, cut_off.key.encode(), encode_revision(cut_off), partition=0)])
        names = [one["name"] for one in (await client.get("/v1/webhooks")).json()["items"]]
        assert ["adults"] == names

    async with running(settings) as (_, client):
        names = [one["name"] for one in (await client.get("/v1/webhooks")).json()["items"]]
        lanes = (await client.get("/v1/lanes")).json()["items"]
        status = (await client.get("/v1/status")).json()

    assert ["adults", "late"] == names
    assert [("adults", "unassigned", 0), ("late", "unassigned", 0)] == [(one["webhook"], one["state"], one["lag"]) for one in lanes]
    assert [] == status["roles"]
    assert PARTITIONS == next(one for one in status["topics"] if one["name"] == topics.mutations.name)["partitions"]
    final = [revision for _, revision in revisions(settings, topics) if revision.name == "late"][-1]
    assert cut_off == msgspec.structs.replace(final, since=None)


async def test_without_kafka_the_answer_is_503_in_a_bounded_time():
    """Whether it was written is unknown, and the caller is told so."""
    producer = Producer(KafkaConfig(bootstrap_servers="127.0.0.1:1"), client_id="test", message_timeout_s=0.5)
    producer.start()
    services = msgspec.structs.replace(fake_services(FakeKafka(Topics(partitions=PARTITIONS))), producer=producer)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(create_app(services)), base_url="http://127.0.0.1") as client:
        answer = await client.post("/v1/collections/people/documents", json={"_id": "a"})
    await producer.stop(0.1)

    assert (503, "unavailable") == (answer.status_code, answer.json()["code"])


async def test_changes_of_one_webhook_come_one_after_the_other(settings):
    """Each has a revision of its own, with its own marks, however many are asked for at once."""
    topics = Topics(settings.topic_prefix, PARTITIONS)
    async with running(settings) as (_, client):
        wanted = [WEBHOOK | {"query": f"age >= {age}"} for age in range(4)]
        answers = await asyncio.gather(*(client.put("/v1/webhooks/adults", json=one) for one in wanted))
        written = [revision for _, revision in revisions(settings, topics)]
        found = marks(settings, topics)

    assert [200, 200, 200, 201] == sorted(answer.status_code for answer in answers)
    assert [1, 1, 1, 2, 2, 3, 3, 4, 4] == [revision.revision for revision in written]
    assert [[1, *range(1, 9)]] == [[revision.edit * 2 - (revision.since is None) for revision in written]]
    assert [4] * PARTITIONS == [len(one) for one in found]
