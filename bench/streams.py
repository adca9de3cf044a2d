"""
The two hops of a streams worker, beside a stock Faust agent that does nothing: records/s and µs CPU a record, one process each.

Run: ``python bench/streams.py [--records 60000] [--runs 3] [--bootstrap-servers HOST:PORT]`` Each run has topics of its own.
``mutations`` is filled first; then one process after the other works through what is there, and measures itself from its first batch on:
the stock no-op and the documents agent read ``mutations``, the matching agent reads what the documents agent wrote. Mutations are JSON of
about 400 bytes over 10 collections; of 100 webhooks one matches each change.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import faust
import uvloop
from prometheus_client import CollectorRegistry

sys.path.insert(0, str(Path(__file__).parents[1]))

from bench.harness import Meter, broker, child, environment, median, prefix, row
from connectors.kafka.admin import ensure_topics
from connectors.kafka.config import KafkaConfig
from connectors.kafka.fetching import Fetcher
from connectors.kafka.log import KafkaLog
from connectors.kafka.producer import Producer
from schemas.positions import Origin
from schemas.records import encode_revision
from schemas.topics import Record, Topics
from schemas.webhooks import WebhookRevision, WebhookSpec
from streams.app import StreamsWorker
from streams.backfilling import Backfills
from streams.documents_agent import DocumentsAgent
from streams.matching_agent import MatchingAgent
from streams.metrics import StreamsMetrics
from streams.ports import Agent, Received
from streams.subscriptions import Subscriptions

PARTITIONS = 4
COLLECTIONS = 10
WEBHOOKS = 100
DOCUMENTS = 10_000


def topics_of(name: str) -> Topics:
    """The topics of one run."""
    return Topics(name, PARTITIONS)


async def fill(servers: str, name: str, records: int) -> None:
    """Write the mutations of one run, and make its topics and lanes."""
    topics, config = topics_of(name), KafkaConfig(bootstrap_servers=servers)
    ensure_topics(config, [*topics.fixed(), *(topics.lane(f"w{number}") for number in range(WEBHOOKS))], replication=None, timeout_s=60)
    producer = Producer(config, client_id="bench", linger_ms=5)
    producer.start()
    rng = random.Random(1)
    for start in range(0, records, 10_000):
        await producer.send([mutation(topics, rng, number) for number in range(start, min(start + 10_000, records))])
    await producer.stop(10)


def mutation(topics: Topics, rng: random.Random, number: int) -> Record:
    """One upsert; the same document keeps its kind, so that exactly one webhook matches each change."""
    id_ = rng.randrange(DOCUMENTS)
    collection = f"c{id_ % COLLECTIONS}"
    value = {"kind": id_ // COLLECTIONS % 10, "number": number, "name": f"name {number}", "text": "x" * 260, "tags": ["a", "b"]}
    body = {"method": "upsert", "collection": collection, "id": f"d{id_}", "value": value}
    return Record(topics.mutations.name, f"{collection}/d{id_}".encode(), json.dumps(body).encode())


class Measured:
    """An agent that counts what it has done, and ends the process when that is all."""

    def __init__(self, agent: Agent, meter: Meter) -> None:
        self.topic = agent.topic
        self._agent = agent
        self._meter = meter
        self.progress = agent.progress
        self.assigned = agent.assigned
        self.revoked = agent.revoked
        self.close = agent.close

    async def process(self, batch: Sequence[Received]) -> None:
        await self._agent.process(batch)
        if self._meter.count(len(batch)):
            end(self._meter)


def end(meter: Meter) -> None:
    """Print what was measured, and be gone: stopping is not measured."""
    print(json.dumps(meter.result()), flush=True)
    os._exit(0)


def fail(error: BaseException) -> None:
    """An agent must not fail here."""
    print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
    os._exit(1)


async def work(part: str, servers: str, name: str, records: int, folder: Path) -> None:
    """One worker process with one agent."""
    topics, config, metrics = topics_of(name), KafkaConfig(bootstrap_servers=servers), StreamsMetrics(CollectorRegistry())
    producer = Producer(config, client_id="bench")
    producer.start()
    log = KafkaLog(config, topics.group_streams)
    agent: Agent = (
        DocumentsAgent(
            topics=topics,
            folder=folder,
            producer=producer,
            log=log,
            epoch=0,
            changes_topic_id="bench",
            metrics=metrics,
        )
        if part == "documents"
        else matching_agent(topics, producer, log, subscriptions(topics), metrics)
    )
    fetcher = Fetcher(config, client_id="bench")
    fetcher.start()
    worker = StreamsWorker(
        topics=topics, bootstrap_servers=servers, client_id="bench", instance_id=part, folder=folder, fetcher=fetcher,
        agents=[Measured(agent, Meter(records))], metrics=metrics, fail=fail,
    )  # fmt: skip
    await worker.start()
    await asyncio.Event().wait()


def matching_agent(topics: Topics, producer: Producer, log: KafkaLog, known: Subscriptions, metrics: StreamsMetrics) -> MatchingAgent:
    """The agent with all that belongs to it."""
    backfills = Backfills(topics=topics, producer=producer, log=log, subscriptions=known, metrics=metrics, fail=fail)
    return MatchingAgent(topics=topics, producer=producer, log=log, subscriptions=known, metrics=metrics, backfills=backfills)


def subscriptions(topics: Topics) -> Subscriptions:
    """100 webhooks, ten a collection."""
    known = Subscriptions(topics)
    for number in range(WEBHOOKS):
        spec = WebhookSpec(
            f"w{number}", "http://localhost/", collections=(f"c{number % COLLECTIONS}",), query=f"kind == {number // COLLECTIONS}"
        )
        since = [Origin(0, partition, 0) for partition in range(PARTITIONS)]
        revision = WebhookRevision(f"u{number}", spec.name, 1, 1, spec, [], 1, 1, since)
        known.apply(revision.key.encode(), encode_revision(revision), number)
    return known


async def stock(servers: str, name: str, records: int, folder: Path) -> None:
    """Faust as it comes: an agent that takes each value and does nothing."""
    app = faust.App(
        f"{name}stock", broker=f"kafka://{servers}", datadir=str(folder), autodiscover=False, web_enabled=False, topic_disable_leader=True,
        topic_allow_declare=False, consumer_auto_offset_reset="earliest",
    )  # fmt: skip
    meter = Meter(records)

    @app.agent(app.topic(topics_of(name).mutations.name, value_serializer="raw", value_type=bytes))
    async def nothing(stream: Any) -> None:
        async for _ in stream:
            if meter.count(1):
                end(meter)

    await app.start()
    await asyncio.Event().wait()


def run_child(arguments: argparse.Namespace) -> None:
    """The measured part, in this process."""
    with tempfile.TemporaryDirectory() as folder:
        part, servers, name, records = arguments.child, arguments.bootstrap_servers, arguments.prefix, arguments.records
        if part == "stock":
            uvloop.run(stock(servers, name, records, Path(folder)))
        else:
            uvloop.run(work(part, servers, name, records, Path(folder)))


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=60_000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--bootstrap-servers")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--prefix", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        run_child(arguments)
        return
    parts: dict[str, list[dict[str, float]]] = {"stock": [], "documents": [], "matching": []}
    with broker(arguments.bootstrap_servers) as servers:
        for run in range(arguments.runs + 1):  # the first one warms up
            name = prefix()
            asyncio.run(fill(servers, name, arguments.records))
            for part, results in parts.items():
                found = child(
                    __file__, "--child", part, "--prefix", name, "--bootstrap-servers", servers, "--records", str(arguments.records)
                )
                results.append(found)
            if not run:
                for results in parts.values():
                    results.clear()
    print(environment())
    print(f"{arguments.records:,} records, {arguments.runs} runs after one to warm up")
    print(f"{'':<44} {'min':>12} {'median':>12} {'max':>12}")
    for part, title in [
        ("stock", "stock Faust, no-op"),
        ("documents", "mutation -> change"),
        ("matching", "change -> deliveries, 100 webhooks"),
    ]:
        row(title, parts[part], "rate", "records/s")
        row("", parts[part], "cpu_us", "µs CPU a record")
    for part in ("documents", "matching"):
        print(f"{part}: {median(parts[part], 'rate') / median(parts['stock'], 'rate'):.2f} x the rate of the stock no-op")


if __name__ == "__main__":
    main()
