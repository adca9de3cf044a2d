"""
The whole way at a steady pace: from the moment a mutation is handed to a Kafka client until its call has reached the receiver.

Run: ``python bench/way.py [--rate 500] [--seconds 20] [--runs 3]``
One process each of broker, streams, sink and API, as in production, on one machine; the receiver and the client are this process.
One webhook with the query ``true``; 1,000 documents in turn.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import time
from pathlib import Path

import psutil
from confluent_kafka import Producer

sys.path.insert(0, str(Path(__file__).parents[1]))

from bench.harness import broker, environment, receiving, row
from connectors.webhook.testing import Call
from tests.integration.cluster import Cluster

DOCUMENTS = 1_000
WARM_UP_S = 3.0
DRAIN_S = 30.0


def run(servers: str, folder: Path, rate: int, seconds: float) -> dict[str, float]:
    """One run's latencies in ms, and the CPU that each role took for a delivery, in µs."""
    arrived: dict[int, float] = {}

    def took(call: Call) -> None:
        arrived.setdefault(json.loads(call.body)["change"]["newValue"]["n"], time.perf_counter())

    with receiving(took) as url, Cluster(folder, servers, chance=random.Random(), prefix=f"way-{folder.name}.") as cluster:
        cluster.put_webhook("way", collections=["c"], url=url)
        producer = Producer({"bootstrap.servers": servers, "linger.ms": 0, "partitioner": "murmur2_random"})
        sent: dict[int, float] = {}
        total = int(rate * (WARM_UP_S + seconds))
        begin = time.perf_counter()
        cpu = {}
        for number in range(total):
            time.sleep(max(0.0, begin + number / rate - time.perf_counter()))
            if number == int(rate * WARM_UP_S):
                cpu = cpu_of(cluster)
            mutation = {"method": "upsert", "collection": "c", "id": f"d{number % DOCUMENTS}", "value": {"n": number, "text": "x" * 200}}
            sent[number] = time.perf_counter()
            producer.produce(cluster.topics.mutations.name, json.dumps(mutation).encode(), f"c/d{number % DOCUMENTS}".encode())
            producer.poll(0)
        producer.flush(DRAIN_S)
        deadline = time.perf_counter() + DRAIN_S
        while len(arrived) < total and time.perf_counter() < deadline:
            time.sleep(0.05)
        measured = range(int(rate * WARM_UP_S), total)
        used = {name: after - cpu[name] for name, after in cpu_of(cluster).items()}
    missing = [number for number in measured if number not in arrived]
    if missing:
        raise SystemExit(f"{len(missing)} of {len(measured)} deliveries did not arrive")
    latencies = sorted((arrived[number] - sent[number]) * 1000 for number in measured)
    found = {f"p{share:g}": latencies[int(len(latencies) * share / 100)] for share in (50, 90, 99, 99.9)}
    return found | {"max": latencies[-1]} | {name: seconds_used / len(measured) * 1e6 for name, seconds_used in used.items()}


def cpu_of(cluster: Cluster) -> dict[str, float]:
    """CPU seconds of each role so far."""
    roles = {"streams": cluster.streams[0], "sink": cluster.sinks[0]}
    return {name: sum(psutil.Process(role.pid).cpu_times()[:2]) for name, role in roles.items()}


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rate", type=int, default=500)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--bootstrap-servers")
    arguments = parser.parse_args()
    with broker(arguments.bootstrap_servers) as servers, tempfile.TemporaryDirectory() as folder:
        folders = [Path(folder) / str(number) for number in range(arguments.runs + 1)]
        runs = [run(servers, each, arguments.rate, arguments.seconds) for each in folders][1:]  # the first one warms up
    print(environment())
    print(f"{arguments.rate}/s for {arguments.seconds:g} s, {arguments.runs} runs after one to warm up")
    print(f"{'':<44} {'min':>12} {'median':>12} {'max':>12}")
    for name in ("p50", "p90", "p99", "p99.9", "max"):
        row(f"mutation -> receiver, {name}", runs, name, "ms")
    for name in ("streams", "sink"):
        row(f"CPU of {name}", runs, name, "µs a delivery")


if __name__ == "__main__":
    main()
