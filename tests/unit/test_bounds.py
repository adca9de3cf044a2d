"""Floods: what grows with what comes in has a bound, and holds it. Those tested elsewhere are named in docs/explanation/bounds.md."""

from __future__ import annotations

import asyncio
import itertools
import random
import ssl
import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, cast

import httpx
import pytest
from fastapi import FastAPI
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import generate_latest

from connectors.kafka.config import KafkaConfig
from connectors.kafka.logs import KNOWN_MAX as KINDS_MAX
from connectors.kafka.logs import Once
from connectors.kafka.producer import Producer
from connectors.kafka.registry import KNOWN_MAX, SchemaRegistry
from connectors.webhook.breaker import BLAMED_MAX, DOCUMENTS, Breaker
from connectors.webhook.held import Held
from connectors.webhook.lanes import Lane
from connectors.webhook.metrics import SinkMetrics
from connectors.webhook.offsets import Start, span_max
from connectors.webhook.parking import STALE_MAX
from connectors.webhook.tls import SESSIONS_MAX, Trust
from livehook.api import documents
from livehook.api.app import create_app
from livehook.api.crowd import Crowd
from livehook.api.query import DRY_RUNS_MAX, Queries
from livehook.api.testing import FakeKafka, fake_services
from schemas.attempts import Outcome
from schemas.changes import Change
from schemas.deliveries import Delivery, Match
from schemas.positions import Origin
from schemas.records import encode_revision, encode_since
from schemas.registry import Registry
from schemas.topics import Record, Topics
from schemas.webhooks import WebhookRevision, WebhookSince, WebhookSpec
from streams.metrics import StreamsMetrics
from tests.unit.test_kafka_logs import line

DAY_S = 86_400.0
BODIES = 60


def held(offset: int, document: str = "", *, size: int = 100) -> Held:
    change = Change("c", document or str(offset), 1, offset + 1, None, b"{}", Origin(0, 0, offset), 0)
    return Held(0, offset, change.key.encode(), b"x" * size, Delivery("uid", 1, Match.CREATE, change))


def flood(lane: Lane, begin: int, *, size: int = 100, documents: int = 10**9) -> int:
    """Everything that a lane takes before it says that it is full; the offset behind it."""
    offset = begin
    while not lane.full(0):
        lane.take(held(offset, str(offset % documents), size=size))
        offset += 1
    return offset


@pytest.mark.parametrize(("size", "documents"), [(10, 10**9), (10, 1), (100_000, 10**9), (4_000_000, 3)])
def test_a_window_is_bounded_in_offsets_and_bytes(size, documents):
    """Of small deliveries by their number, of large ones by their bytes and one record; of many documents and of one."""
    lane = Lane({0: Start()}, concurrency=64, bytes_max=2_000_000)
    end = flood(lane, 0, size=size, documents=documents)
    assert end <= span_max(8)
    assert lane.bytes <= 2_000_000 + held(0, size=size).size
    assert lane.held == end


def test_what_is_finished_behind_a_slow_one_is_bounded():
    """Behind a call that does not end everything else may be delivered: the window does not slide, for its commit cannot."""
    lane = Lane({0: Start()}, concurrency=64)
    lane.take(held(0, "slow"))
    lane.ready(0.0)
    offset = 1
    while not lane.full(0):
        lane.take(held(offset))
        for one in lane.ready(0.0):
            lane.finished(one)
        offset += 1
    assert (span_max(8), 1) == (offset, lane.held)


def test_parked_deliveries_and_their_notes_are_bounded():
    """While nothing that is parked can be written down, as many are parked as a window holds; when it can, as many as may be."""
    lane = Lane({0: Start()}, uid="uid", concurrency=10_000, parked_max=12_000)
    offset, acknowledged = 0, 0
    for is_written in (False, True):
        for _ in range(10):
            offset = flood(lane, offset)
            for one in lane.ready(0.0):
                lane.retry_at(one, DAY_S, 0.0)
            if is_written:
                acknowledged += len(lane.parking.outbox)
                lane.written(list(lane.parking.outbox))
        assert len(lane.parking.outbox) <= span_max(8)
    assert 12_000 <= lane.parking.count <= 12_000 + span_max(8)
    assert (0, 0, offset) == (lane.held, lane.bytes, acknowledged)


def test_an_endpoint_that_comes_and_goes_leaves_nothing_behind():
    """Documents that are parked for a day are forgiven and fail again, a hundred times over: what they waited for before is forgotten."""
    lane = Lane({0: Start()}, uid="uid", concurrency=500)
    failing = [held(offset) for offset in range(500)]
    for one in failing:
        lane.take(one)
    for one in lane.ready(0.0):
        lane.retry_at(one, DAY_S, 0.0)
    for _ in range(100):
        lane.forgive({one.place: 1 for one in failing})
        for document in lane.parking.documents.values():
            lane.parking.wait(document, 1, DAY_S, note=False)
    assert len(lane.parking._waiting) <= 2 * 500 + STALE_MAX + 1
    assert 500 == len(lane.parking.due(DAY_S, 1_000))


def test_retries_that_are_forgiven_leave_nothing_behind():
    """The same for those that wait for a few seconds: an entry would keep its body."""
    lane = Lane({0: Start()}, concurrency=50)
    for offset in range(50):
        lane.take(held(offset))
    for number in range(200):
        for one in lane.ready(float(number) / 100):
            lane.retry_at(one, 9.0 + number / 100, number / 100)
        lane.forgive({one.place: 1 for one in (held(offset) for offset in range(50))})
    assert len(lane._line._waiting) <= 2 * 50 + STALE_MAX + 1
    assert 50 == len(lane.ready(100.0))


def test_what_a_breaker_blames_is_bounded():
    """Too few documents to be an endpoint, failing for ever."""
    breaker = Breaker(random.Random(1))
    for number in range(BLAMED_MAX + 2_000):
        assert breaker.failed(0.0, number, number % (DOCUMENTS - 1), without_connection=False) is None
    assert BLAMED_MAX == len(breaker._blamed)


def test_tls_sessions_are_bounded():
    """Of so many hosts; who was called last is kept."""
    trust = Trust()
    for number in range(SESSIONS_MAX + 50):
        trust.remember(cast(ssl.SSLObject, SimpleNamespace(server_hostname=f"h{number}", session=object())))
    assert (SESSIONS_MAX, True) == (len(trust._sessions), f"h{SESSIONS_MAX + 49}" in trust._sessions)


def test_schemas_of_a_registry_are_bounded():
    """A topic whose every record names another schema."""
    schema = {"schema": '{"type": "record", "name": "a", "fields": []}'}
    registry = SchemaRegistry("http://x", transport=httpx.MockTransport(lambda _: httpx.Response(200, json=schema)))
    for number in range(KNOWN_MAX + 50):
        registry.schema_by_id(number)
    registry.close()
    assert KNOWN_MAX == len(registry._known)


def test_kinds_of_log_lines_are_bounded():
    """Whatever first words librdkafka thinks of."""
    once = Once(lambda: 0.0)
    for number in range(10 * KINDS_MAX):
        once.filter(line(f"KIND{number} [a]: refused"))
    assert len(once._said) <= KINDS_MAX


def test_what_every_owner_says_again_is_kept_once():
    """Where a revision begins is written again by each worker that takes the partition over."""
    registry = Registry()
    revision = WebhookRevision("uid", "a", 1, 1, WebhookSpec("a", "http://x", collections=("c",)), [], 1, 1)
    registry.apply(b"a/1", encode_revision(revision))
    for number in range(1_000):
        since = WebhookSince("a", 1, Origin(0, number % 4, 7))
        registry.apply(since.key.encode(), encode_since(since))
    assert 4 == len(registry.since(revision))


def test_webhooks_that_are_gone_leave_no_metric_behind():
    """A thousand are made, called and deleted."""
    sinks, streams = CollectorRegistry(), CollectorRegistry()
    sink, worker = SinkMetrics(sinks), StreamsMetrics(streams)
    empty = [len(generate_latest(registry)) for registry in (sinks, streams)]
    for number in range(1_000):
        lane = sink.lane(f"w{number}")
        lane.attempted(Outcome.DELIVERED, 0.1)
        lane.delivered(0.1)
        lane.remove()
        sink.forget(f"w{number}")
        worker.matched(f"w{number}", Match.CREATE)
        worker.forget(f"w{number}")
    assert empty == [len(generate_latest(registry)) for registry in (sinks, streams)]


async def test_a_producer_that_reaches_nobody_takes_so_much_and_no_more(monkeypatch):
    """What may be lost is dropped, and counted; nothing waits."""
    monkeypatch.setattr("connectors.kafka.producer.QUEUED_MAX", 1_000)
    producer = Producer(KafkaConfig(bootstrap_servers="127.0.0.1:1"), client_id="flood", message_timeout_s=1)
    taken = sum(producer.send_soon(Record("t", b"k", b"v", partition=0)) for _ in range(5_000))
    assert (1_000, 4_000) == (taken, producer.dropped)


async def test_requests_under_way_are_bounded():
    """One more is refused before anything of it is read; health answers all the same; and then there is room again."""
    going_on, most = asyncio.Event(), 0

    async def app(scope: Any, receive: Any, send: Any) -> None:
        nonlocal most
        most = max(most, crowd._under_way)
        if scope["path"] == "/v1/a":
            await going_on.wait()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    crowd = Crowd(app, under_way_max=20)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(crowd), base_url="http://x") as client:
        asked = [asyncio.create_task(client.get("/v1/a")) for _ in range(100)]
        refused = [await one for one in itertools.islice(asyncio.as_completed(asked), 80)]
        assert ({503}, 80, "1") == ({answer.status_code for answer in refused}, len(refused), refused[0].headers["retry-after"])
        assert 200 == (await client.get("/livez")).status_code
        going_on.set()
        assert 20 == sum(answer.status_code == 200 for answer in await asyncio.gather(*asked))
        assert (200, 20) == ((await client.get("/v1/b")).status_code, most)


async def test_large_bodies_at_once_are_bounded(monkeypatch):
    """The others wait, and nothing of them is read."""
    monkeypatch.setattr(documents, "LARGE_AT_ONCE", 3)
    reading, most = 0, 0

    async def body() -> Any:
        nonlocal reading, most
        reading += 1
        most = max(most, reading)
        await asyncio.sleep(0)
        yield b'{"_id": "a"}'
        reading -= 1

    transport = httpx.ASGITransport(create_app(fake_services(FakeKafka(Topics(partitions=4)))))
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
        headers = {"content-type": "application/json", "content-length": str(10**7)}
        calls = (client.post("/v1/collections/c/documents", content=body(), headers=headers) for _ in range(BODIES))
        assert {202} == {answer.status_code for answer in await asyncio.gather(*calls)}
    assert 3 == most


async def test_dry_runs_at_once_are_bounded():
    """Each reads history in a thread; the others wait for theirs."""
    history = Counting()
    app = FastAPI()
    app.include_router(Queries(history, lambda: 1_790_000_000_000_000).router())
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://x") as client:
        calls = (client.post("/v1/query/dry-run", json={"query": "true", "collection": "c"}) for _ in range(12))
        assert {200} == {answer.status_code for answer in await asyncio.gather(*calls)}
    assert (DRY_RUNS_MAX, 12) == (history.most, history.runs)


class Counting:
    """A history that is empty, and sees how many read it at once."""

    def __init__(self) -> None:
        self.most = self.runs = self._running = 0
        self._changed = threading.Condition()

    def values(self, since_us: int, until_us: int | None) -> Iterator[list[bytes]]:
        with self._changed:
            self._running += 1
            self.runs += 1
            self.most = max(self.most, self._running)
            self._changed.notify_all()
            self._changed.wait_for(lambda: self.most >= DRY_RUNS_MAX, timeout=5)
        yield []
        with self._changed:
            self._running -= 1
