"""Rules of the batch transport, among them the three ways in which Faust's own bookkeeping (0.15.3) loses records."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from aiokafka.consumer.group_coordinator import GroupCoordinator
from aiokafka.errors import KafkaError
from faust.types import TP
from prometheus_client import CollectorRegistry

from schemas.topics import Topics
from streams import transport
from streams.app import StreamsWorker
from streams.metrics import StreamsMetrics

TOPIC = TP("t.mutations", 0)


def record(offset, value=b"x", key=b"k"):
    return SimpleNamespace(
        topic=TOPIC.topic, partition=0, offset=offset, timestamp=1000, timestamp_type=1, headers=(), key=key, value=value, checksum=None,
        serialized_key_size=1, serialized_value_size=1,
    )  # fmt: skip


class Fetched:
    """A fetcher whose batches are put in by hand."""

    def __init__(self):
        self.reading: dict[Any, int | None] = {}
        self.batches: dict[Any, list[Any]] = {}
        self.received: int | None = None

    def begin(self, offsets):
        assert not self.reading.keys() & offsets.keys(), "is read already"
        self.reading |= offsets

    def end(self, places):
        for place in places:
            del self.reading[place]
            self.batches.pop(place, None)

    def take(self, places):
        return {place: self.batches[place].pop(0) for place in places if self.batches.get(place)}

    def has(self, place):
        return bool(self.batches.get(place))

    async def wait(self, timeout_s):
        await asyncio.sleep(0)

    def wake(self):
        """Nobody waits for long."""

    def log_end(self, place):
        return None

    def position(self, place):
        return self.received


@pytest.fixture
async def consumer():
    transport.register()
    app = transport.App("t", broker=f"{transport.SCHEME}://localhost:1", store="memory://", autodiscover=False, web_enabled=False)
    app.fetcher = Fetched()
    cast(Any, app.topics)._acking_topics.add(TOPIC.topic)

    async def nothing(*_):
        return None

    consumer = transport.Consumer(app.transport, callback=nothing, on_partitions_revoked=nothing, on_partitions_assigned=nothing)
    yield consumer
    consumer._thread.thread_loop.close()


def message(consumer, *offsets):
    return consumer._to_message(TOPIC, [record(offset) for offset in offsets])


async def test_a_batch_is_one_message_with_its_last_offset(consumer):
    """Its commit is the offset after it."""
    batch = message(consumer, 3, 4, 5)
    assert (5, [3, 4, 5]) == (batch.offset, [one.offset for one in batch.value.records])
    assert consumer.ack(batch)
    assert 6 == consumer._new_offset(TOPIC)


async def test_a_commit_stops_before_what_is_not_done(consumer):
    """Faust merges neighbouring gaps in the offsets and commits past records between them that are not done."""
    first = message(consumer, 0, 1)
    message(consumer, 5, 6)  # fetched after a gap, as compaction leaves them, and not done
    await consumer._add_gap(TOPIC, 2, 4)
    await consumer._add_gap(TOPIC, 7, 9)
    consumer.ack(first)
    assert 2 == consumer._new_offset(TOPIC)


async def test_nothing_is_committed_before_anything_is_done(consumer):
    """And what was revoked is forgotten."""
    batch = message(consumer, 0)
    assert consumer._new_offset(TOPIC) is None
    consumer.ack(batch)
    consumer._ends.pop(TOPIC)
    assert consumer._new_offset(TOPIC) is None


async def test_values_reach_the_agent_as_they_came(consumer):
    """Faust decodes before an agent sees anything, and acknowledges what it cannot decode."""
    batch = consumer._to_message(TOPIC, [record(0, value=b"\xff{", key=b"\xff")])
    topic = consumer.app.topic(TOPIC.topic, value_serializer="batch", value_type=None, key_serializer="raw", key_type=bytes)
    event = await topic.decode(batch, propagate=True)
    assert (b"\xff", b"\xff{") == (event.value.records[0].key, event.value.records[0].value)
    assert consumer._new_offset(TOPIC) is None


async def taken(consumer):
    """What one round of the consumer hands on."""
    return [message.value.records async for _, message in consumer.getmany(timeout=0)]


async def test_a_partition_is_read_from_its_commit(consumer):
    """Once it is active; and again from there when Faust seeks."""
    consumer._set_active_tps({TOPIC})
    consumer._read_offset[TOPIC] = 7
    assert [] == await taken(consumer)
    assert {TOPIC: 7} == consumer.app.fetcher.reading
    consumer._read_offset[TOPIC] = None
    consumer._end({TOPIC})
    assert {} == consumer.app.fetcher.reading
    assert [] == await taken(consumer)
    assert {TOPIC: None} == consumer.app.fetcher.reading


async def test_no_more_than_two_batches_of_a_partition_are_under_way(consumer):
    """The third one is taken when the first is acknowledged."""
    consumer._set_active_tps({TOPIC})
    consumer._read_offset[TOPIC] = 0
    batches = [[record(0)], [record(1)], [record(2)]]
    consumer.app.fetcher.batches[TOPIC] = list(batches)
    consumer._begin({TOPIC})
    messages = [message for _ in range(3) for message in [message async for _, message in consumer.getmany(timeout=0)]]
    assert batches[:2] == [message.value.records for message in messages]
    consumer.ack(messages[0])
    assert [batches[2]] == await taken(consumer)


async def test_what_was_taken_before_partitions_are_revoked_makes_no_room_later(consumer):
    """And what waits for them is forgotten."""
    consumer._set_active_tps({TOPIC})
    consumer._read_offset[TOPIC] = 0
    consumer.app.fetcher.batches[TOPIC] = [[record(0)], [record(1)], [record(2)]]
    consumer._begin({TOPIC})
    assert 1 == len(await taken(consumer))
    consumer.end_life()
    consumer._end({TOPIC})
    assert 0 == consumer._under_way[TOPIC]
    assert [] == await taken(consumer)


async def test_an_acknowledgement_of_a_batch_that_was_given_up_counts_for_nothing(consumer):
    """It may have been done behind one that was not; and its room was given back already."""
    batch = message(consumer, 0, 1)
    consumer.end_life()
    consumer.ack(batch)
    assert (None, 0) == (consumer._new_offset(TOPIC), consumer._under_way[TOPIC])


async def test_what_waits_is_what_is_not_read_or_not_done(consumer):
    """A partition that is read and empty has nothing to wait for."""
    consumer._thread._consumer = cast(Any, SimpleNamespace(assignment=lambda: {TOPIC}))
    assert {TOPIC: 0} == consumer.waiting({})
    consumer._begin({TOPIC})
    assert {} == consumer.waiting({})
    consumer.app.fetcher.batches[TOPIC] = [[record(0)]]
    assert {TOPIC: 0} == consumer.waiting({})
    (taken_message,) = [consumer._to_message(tp, batches[0]) for tp, batches in consumer._take({TOPIC}).items()]
    assert {TOPIC: 0} == consumer.waiting({})
    consumer.ack(taken_message)
    assert {} == consumer.waiting({})


async def test_a_log_that_is_not_read_to_its_end_waits(consumer):
    """Also when nothing of it comes any more; the end of a transaction is no record, and nothing to wait for."""
    consumer._thread._consumer = cast(Any, SimpleNamespace(assignment=lambda: {TOPIC}))
    consumer._begin({TOPIC})
    assert {TOPIC: 0} == consumer.waiting({TOPIC: 2})
    consumer.app.fetcher.received = 2
    assert {} == consumer.waiting({TOPIC: 2})


async def test_what_the_client_of_the_group_gave_up_on_is_told(consumer):
    """It keeps its error for whoever reads through it, and nobody does: a group that is never joined again would stand still in silence."""
    error = KafkaError("unexpected")
    coordinator = GroupCoordinator.__new__(GroupCoordinator)
    coordinator._coordination_task = asyncio.get_running_loop().create_future()
    coordinator._pending_exception = None
    consumer._thread._consumer = cast(Any, SimpleNamespace(_coordinator=coordinator))
    assert consumer.failure() is None
    coordinator._pending_exception = error
    assert error is consumer.failure()
    coordinator._pending_exception = None
    coordinator._coordination_task.set_exception(error)
    assert error is consumer.failure()


class Failing:
    """An agent whose n-th batch fails."""

    topic = TOPIC.topic

    def __init__(self, fails_at):
        self.fails_at, self.seen = fails_at, []

    async def process(self, batch):
        self.seen.append(batch)
        await asyncio.sleep(0)
        if len(self.seen) == self.fails_at:
            raise RuntimeError("unexpected")

    def progress(self, partition):
        return 0

    def assigned(self, partitions):
        """Nothing to prepare."""

    def revoked(self):
        """Nothing to forget."""

    def close(self):
        """Nothing is open."""


def worker_of(
    folder: Path,
    agent: Failing,
    consumer: SimpleNamespace,
    *,
    registry: CollectorRegistry | None = None,
    fail: Callable[[BaseException], None] = lambda error: None,
) -> StreamsWorker:
    """A worker with one agent, and with that in place of its consumer."""
    worker = StreamsWorker(
        topics=Topics("t."),
        bootstrap_servers="localhost:1",
        client_id="t",
        instance_id="t",
        folder=folder,
        fetcher=Fetched(),
        agents=[agent],
        metrics=StreamsMetrics(registry or CollectorRegistry()),
        fail=fail,
    )
    worker.app.consumer = cast(Any, consumer)
    return worker


async def test_nothing_is_acknowledged_from_a_failed_batch_on(tmp_path):
    """Faust acknowledges an event whose agent raised; here nothing behind it is even looked at, and the process is told to end."""
    failed: list[BaseException] = []
    acknowledged: list[int] = []
    agent = Failing(fails_at=2)
    worker = worker_of(tmp_path, agent, SimpleNamespace(life=0), fail=failed.append)
    events = [
        SimpleNamespace(
            value=transport.Batch(cast(Any, number), 0),
            message=SimpleNamespace(tp=TOPIC),
            ack=lambda number=number: acknowledged.append(number),
        )
        for number in (1, 2, 3)
    ]
    await asyncio.gather(*(worker._in_turn(agent, cast(Any, event)) for event in events))
    assert [1] == acknowledged
    assert [1, 2] == agent.seen
    assert ["unexpected"] == [str(error) for error in failed]


async def test_a_batch_from_before_a_rebalance_is_left_alone(tmp_path):
    """Whoever owns its partition now reads it from the commit."""
    agent = Failing(fails_at=0)
    worker = worker_of(tmp_path, agent, SimpleNamespace(life=1))
    stale = SimpleNamespace(value=transport.Batch([], 0), message=SimpleNamespace(tp=TOPIC))
    await worker._in_turn(agent, cast(Any, stale))
    assert [] == agent.seen


class GivingUp(Failing):
    """An agent whose batches wait, and are given up when their partition is."""

    def __init__(self):
        super().__init__(fails_at=0)
        self.waits = asyncio.get_running_loop().create_future()

    async def process(self, batch):
        self.seen.append(batch)
        await self.waits

    def revoked(self):
        self.waits.cancel()


async def test_behind_a_batch_that_was_given_up_none_is_begun(tmp_path, monkeypatch):
    """Its deliveries would come first, and those of the one given up, with lower origins, would be taken for repeats."""
    monkeypatch.setattr("streams.app.IN_FLIGHT_WAIT_S", 0)
    agent = GivingUp()
    consumer = SimpleNamespace(life=0)
    consumer.end_life = lambda: setattr(consumer, "life", 1)
    worker = worker_of(tmp_path, agent, consumer)
    events = [SimpleNamespace(value=transport.Batch([cast(Any, number)], 0), message=SimpleNamespace(tp=TOPIC)) for number in (1, 2)]
    worker._under_way = {asyncio.create_task(worker._in_turn(agent, cast(Any, event))) for event in events[:1]}
    tasks = [*worker._under_way, asyncio.create_task(worker._in_turn(agent, cast(Any, events[1])))]
    await asyncio.sleep(0)
    await worker._on_revoked()
    await asyncio.wait(tasks)
    assert [[1]] == agent.seen


async def test_the_lag_is_told_by_topic_without_the_prefix(tmp_path):
    """A dashboard made for one installation fits all of them."""
    registry = CollectorRegistry()
    agent = Failing(fails_at=0)
    agent.topic = "t.mutations"
    worker = worker_of(tmp_path, agent, SimpleNamespace(assignment=lambda: {TP("t.mutations", 0)}, behind=lambda tp: 3), registry=registry)
    worker.measure()
    assert 3.0 == registry.get_sample_value("livehook_stream_lag", {"topic": "mutations"})
