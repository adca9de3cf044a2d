"""
The matching agent alone: how its rate depends on the webhooks there are, and on the lanes that its deliveries are spread over.

Run: ``python bench/lanes.py [--records 20000] [--runs 3] [--lanes 10 100 1000] [--linger 0 50]``
``changes`` is filled first; then one process a row works through it, and measures itself from its first batch on. Each change matches one
webhook, whatever the number of webhooks: those beside the lanes are watching for what never comes. ``linger`` is how long, in ms, the
producer of deliveries waits for more records of a lane. Each lane has had one record before: the first one of a lane waits until its topic
is found, which is not what is measured here.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from pathlib import Path

import msgspec
import uvloop
from prometheus_client import CollectorRegistry

sys.path.insert(0, str(Path(__file__).parents[1]))

from bench.harness import Meter, broker, child, environment, prefix, row
from bench.streams import Measured, fail, matching_agent, topics_of
from connectors.kafka.admin import ensure_topics
from connectors.kafka.config import KafkaConfig
from connectors.kafka.fetching import Fetcher
from connectors.kafka.log import KafkaLog
from connectors.kafka.producer import Producer
from schemas.changes import Change
from schemas.keys import partition_of
from schemas.positions import Origin
from schemas.records import encode_change, encode_revision
from schemas.topics import Record, Topics
from schemas.webhooks import WebhookRevision, WebhookSpec
from streams.app import StreamsWorker
from streams.metrics import StreamsMetrics
from streams.subscriptions import Subscriptions

COLLECTION = "c"
TOPICS_AT_ONCE = 200


async def fill(servers: str, name: str, records: int, lanes: int) -> None:
    """Make the topics of one run, and write its changes: each an update of a document whose kind is the number of a lane."""
    topics, config = topics_of(name), KafkaConfig(bootstrap_servers=servers)
    specs = [*topics.fixed(), *(topics.lane(f"w{number}") for number in range(lanes))]
    for start in range(0, len(specs), TOPICS_AT_ONCE):
        ensure_topics(config, specs[start : start + TOPICS_AT_ONCE], replication=None, timeout_s=120)
    producer = Producer(config, client_id="bench", linger_ms=5)
    producer.start()
    for start in range(0, records, 10_000):
        await producer.send([change(topics, number, lanes) for number in range(start, min(start + 10_000, records))])
    await producer.stop(10)


def change(topics: Topics, number: int, lanes: int) -> Record:
    """One update, in the partition of its document; origins grow."""
    id_ = f"d{number}"
    partition = partition_of(f"{COLLECTION}/{id_}".encode(), topics.partitions)
    old = {"kind": number % lanes, "number": number, "name": f"name {number}", "text": "x" * 260, "tags": ["a", "b"]}
    new = old | {"name": f"name {number + 1}"}
    encoded = Change(COLLECTION, id_, number, 2, msgspec.json.encode(old), msgspec.json.encode(new), Origin(0, partition, number), 0)
    return Record(topics.changes.name, encoded.key.encode(), encode_change(encoded), (), partition)


def subscriptions(topics: Topics, webhooks: int, lanes: int) -> Subscriptions:
    """One webhook a lane, and beside them so many that nothing matches: equalities, ranges and prefixes."""
    known = Subscriptions(topics)
    for number in range(max(webhooks, lanes)):
        idle = (f"kind == {-number} && number > 5", f"number BETWEEN {-number - 5} AND {-number}", f"starts_with(name, 'nobody {number}')")
        spec = WebhookSpec(
            f"w{number}", "http://localhost/", collections=(COLLECTION,), query=f"kind == {number}" if number < lanes else idle[number % 3]
        )
        since = [Origin(0, partition, 0) for partition in range(topics.partitions)]
        revision = WebhookRevision(f"u{number}", spec.name, 1, 1, spec, [], 1, 1, since)
        known.apply(revision.key.encode(), encode_revision(revision), number)
    return known


async def work(arguments: argparse.Namespace, folder: Path) -> None:
    """One worker process with the matching agent."""
    servers, topics = arguments.bootstrap_servers, topics_of(arguments.prefix)
    config, metrics = KafkaConfig(bootstrap_servers=servers), StreamsMetrics(CollectorRegistry())
    producer = Producer(config, client_id="bench", linger_ms=arguments.linger[0])
    producer.start()
    await producer.send([Record(topics.lane(f"w{number}").name, b"first", b"", (), 0) for number in range(arguments.lanes[0])])
    known = subscriptions(topics, arguments.child, arguments.lanes[0])
    agent = matching_agent(topics, producer, KafkaLog(config, topics.group_streams), known, metrics)
    fetcher = Fetcher(config, client_id="bench")
    fetcher.start()
    worker = StreamsWorker(
        topics=topics, bootstrap_servers=servers, client_id="bench", instance_id=str(arguments.child), folder=folder, fetcher=fetcher,
        agents=[Measured(agent, Meter(arguments.records))], metrics=metrics, fail=fail,
    )  # fmt: skip
    await worker.start()
    await asyncio.Event().wait()


def measure(servers: str, records: int, webhooks: int, lanes: int, linger: int) -> dict[str, float]:
    """One run, on topics of its own."""
    name = prefix()
    asyncio.run(fill(servers, name, records, lanes))
    given = {"child": webhooks, "lanes": lanes, "linger": linger, "records": records, "prefix": name, "bootstrap-servers": servers}
    return child(__file__, *(str(part) for name, value in given.items() for part in (f"--{name}", value)))


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=20_000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--webhooks", type=int, nargs="+", default=[1, 10_000])
    parser.add_argument("--lanes", type=int, nargs="+", default=[10, 100, 1_000])
    parser.add_argument("--linger", type=int, nargs="+", default=[0, 50])
    parser.add_argument("--bootstrap-servers")
    parser.add_argument("--child", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--prefix", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        with tempfile.TemporaryDirectory() as folder:
            uvloop.run(work(arguments, Path(folder)))
        return
    rows = [(webhooks, 1, 0) for webhooks in arguments.webhooks]
    rows += [(max(arguments.webhooks), lanes, linger) for lanes in arguments.lanes for linger in arguments.linger]
    with broker(arguments.bootstrap_servers) as servers:
        measure(servers, 2_000, 1, 1, 0)  # warms up
        print(environment())
        print(f"{arguments.records:,} changes, one delivery each, {arguments.runs} runs")
        print(f"{'':<44} {'min':>12} {'median':>12} {'max':>12}", flush=True)
        for webhooks, lanes, linger in rows:
            results = [measure(servers, arguments.records, webhooks, lanes, linger) for _ in range(arguments.runs)]
            row(f"{webhooks:,} webhooks, {lanes:,} lanes, linger {linger} ms", results, "rate", "changes/s")
            row("", results, "cpu_us", "µs CPU a change")


if __name__ == "__main__":
    main()
