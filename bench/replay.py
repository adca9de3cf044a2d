"""
Replay: how fast a lane is gone through again, against the first time, and how long counting it takes.

Run: ``python bench/replay.py [--deliveries 100000] [--runs 3]``
One process each of broker, streams, sink and API on one machine; the receiver is this process. Deliveries are written into the lane as the
matching agent writes them, so that the sink alone is measured. *live* and *replay*: deliveries a second from the first call to the last.
*count*: deliveries a second of a dry run over the whole lane; *selected*: the same with a query.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
from confluent_kafka import Producer

sys.path.insert(0, str(Path(__file__).parents[1]))

from bench.harness import broker, environment, receiving, row
from connectors.kafka.admin import offsets
from connectors.kafka.config import KafkaConfig
from connectors.kafka.reading import read_partition
from connectors.webhook.testing import Call
from schemas.changes import Change
from schemas.deliveries import Delivery, Match
from schemas.positions import Origin
from schemas.records import encode_delivery
from schemas.registry import Registry
from tests.integration.cluster import Cluster

DOCUMENTS = 10_000
PATIENCE_S = 280.0


class Calls:
    """When each was taken, as a count and two times."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.count, self.first, self.last = 0, 0.0, 0.0

    def took(self, _: Call) -> None:
        self.last = time.perf_counter()
        self.first = self.first or self.last
        self.count += 1

    def rate(self, expected: int) -> float:
        """Calls a second, once all have come. Raises SystemExit."""
        deadline = time.monotonic() + PATIENCE_S
        while self.count < expected:
            if time.monotonic() > deadline:
                raise SystemExit(f"{self.count} of {expected} deliveries came")
            time.sleep(0.05)
        return expected / (self.last - self.first)


def fill(cluster: Cluster, lane: str, uid: str, deliveries: int) -> None:
    """The lane as the matching agent would have written it."""
    producer = Producer({"bootstrap.servers": cluster.bootstrap_servers, "linger.ms": 20, "queue.buffering.max.messages": 100_000})
    for number in range(deliveries):
        document = f"d{number % DOCUMENTS}"
        body = b'{"_id":"%b","n":%d,"text":"%b"}' % (document.encode(), number, b"x" * 200)
        change = Change("c", document, number + 1, number // DOCUMENTS + 1, None, body, Origin(0, 0, number), time.time_ns() // 1_000)
        value = encode_delivery(Delivery(uid, 1, Match.CREATE, change))
        while True:
            try:
                producer.produce(lane, value, change.key.encode(), partition=0)
                break
            except BufferError:
                producer.poll(0.1)
    producer.flush(PATIENCE_S)


def run(servers: str, folder: Path, deliveries: int) -> dict[str, float]:
    """One run's rates, a second."""
    calls = Calls()
    with receiving(calls.took) as url, Cluster(folder, servers, chance=random.Random(), prefix=f"replay-{folder.name}.") as cluster:
        cluster.put_webhook("replay", collections=["c"], url=url)
        registered = uid_of(cluster)
        fill(cluster, cluster.topics.lane("replay").name, registered, deliveries)
        live = calls.rate(deliveries)

        def ask(**body: Any) -> Any:
            path = f"{cluster.api.url}/v1/webhooks/replay/replay"
            return (
                httpx.post(path, json={"from": {"beginning": True}, **body}, timeout=PATIENCE_S, trust_env=False).raise_for_status().json()
            )

        count = timed(lambda: ask(dryRun=True))
        selected = timed(lambda: ask(dryRun=True, query="n < 0"))
        time.sleep(2.0)  # so that the first time is committed
        calls.reset()
        ask()
        again = calls.rate(deliveries)
    return {"live": live, "replay": again, "count": deliveries / count, "selected": deliveries / selected}


def uid_of(cluster: Cluster) -> str:
    """Of the webhook as it was made."""
    registry, config = Registry(), KafkaConfig(bootstrap_servers=cluster.bootstrap_servers)
    topic = cluster.topics.webhooks.name
    for batch in read_partition(config, topic, 0, 0, offsets(config, [(topic, 0)], timeout_s=10)[topic, 0].end):
        for message in batch:
            registry.apply(message.key() or b"", message.value())
    webhook = registry.webhook("replay")
    assert webhook is not None
    return webhook.current.uid


def timed(act: Callable[[], Any]) -> float:
    """Seconds that it takes."""
    began = time.perf_counter()
    act()
    return time.perf_counter() - began


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--deliveries", type=int, default=100_000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--bootstrap-servers")
    options = parser.parse_args()
    found = []
    with broker(options.bootstrap_servers) as servers:
        for _ in range(options.runs):
            with tempfile.TemporaryDirectory() as folder:
                found.append(run(servers, Path(folder), options.deliveries))
    print(environment())
    for name in found[0]:
        row(name, found, name, "deliveries/s")


if __name__ == "__main__":
    main()
