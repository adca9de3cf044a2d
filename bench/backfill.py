"""
Backfill: how fast the past is gone through for a webhook that wants little of it, and what the live flow notices of several at once.

Run: ``python -m bench.backfill [--changes 300000] [--rate 500] [--webhooks 4] [--runs 3]``
One process each of broker, streams, sink and API on one machine; the receiver is this process. *scan*: changes a second from the PUT of a
webhook with ``start: beginning`` until its lane is not backfilling any more, and the CPU of the streams worker for each. Then mutations at
a steady pace, first alone, then while several such webhooks go through the past: latency from the producer's call to the receiver.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import time
from pathlib import Path

import psutil
from confluent_kafka import Producer

from bench.harness import broker, environment, receiving, row
from connectors.webhook.testing import Call
from tests.integration.cluster import Cluster, wait_until

DOCUMENTS = 10_000
FILL_S_MAX = 280.0
SCAN_S_MAX = 280.0
ALONE_S = 10.0
DRAIN_S = 30.0
NONE = "n == 0 - 1"
NO_TEXT = "text == 'none'"  # told by the bytes of a change


class Flow:
    """Mutations at a steady pace, and when each arrived."""

    def __init__(self, cluster: Cluster, rate: int) -> None:
        self.arrived: dict[int, float] = {}
        self._sent: dict[int, float] = {}
        self._topic, self._rate = cluster.topics.mutations.name, rate
        self._producer = Producer({"bootstrap.servers": cluster.bootstrap_servers, "linger.ms": 0, "partitioner": "murmur2_random"})

    def took(self, call: Call) -> None:
        self.arrived.setdefault(json.loads(call.body)["change"]["newValue"]["n"], time.perf_counter())

    def run(self, is_over: float | None, cluster: Cluster | None = None) -> list[float]:
        """Until a number of seconds is over, or until no lane is backfilling; latencies in ms, sorted."""
        begin, first = time.perf_counter(), len(self._sent)
        number = first
        while (is_over is not None and time.perf_counter() - begin < is_over) or (cluster is not None and backfilling(cluster)):
            for _ in range(self._rate // 5):  # a fifth of a second, then a look
                time.sleep(max(0.0, begin + (number - first) / self._rate - time.perf_counter()))
                self._sent[number] = time.perf_counter()
                mutation = {"method": "upsert", "collection": "live", "id": f"d{number % 1_000}", "value": {"n": number}}
                self._producer.produce(self._topic, json.dumps(mutation).encode(), f"live/d{number % 1_000}".encode())
                self._producer.poll(0)
                number += 1
        self._producer.flush(DRAIN_S)
        wait_until(lambda: len(self.arrived) >= number, DRAIN_S, f"{number - len(self.arrived)} live mutations did not arrive")
        return sorted((self.arrived[one] - self._sent[one]) * 1_000 for one in range(first, number))


def fill(cluster: Cluster, changes: int) -> None:
    """The past: documents of 250 bytes, each changed again and again."""
    producer = Producer({"bootstrap.servers": cluster.bootstrap_servers, "linger.ms": 20, "partitioner": "murmur2_random"})
    for number in range(changes):
        document = f"d{number % DOCUMENTS}"
        mutation = {"method": "upsert", "collection": "past", "id": document, "value": {"n": number, "text": "x" * 200}}
        while True:
            try:
                producer.produce(cluster.topics.mutations.name, json.dumps(mutation).encode(), f"past/{document}".encode())
                break
            except BufferError:
                producer.poll(0.1)
    producer.flush(FILL_S_MAX)
    wait_until(lambda: cluster.metric("livehook_changes_total") >= changes, FILL_S_MAX, "the past is not applied")
    wait_until(lambda: cluster.metric("livehook_stream_lag") == 0, FILL_S_MAX, "the past is not matched")


def backfilling(cluster: Cluster) -> bool:
    return any(lane["state"] == "backfilling" for lane in cluster.lanes().values())


def start_in_the_past(cluster: Cluster, name: str, url: str, query: str = NONE) -> None:
    cluster.put_webhook(name, collections=["past"], query=query, url=url, start="beginning")


def scan(cluster: Cluster, worker: psutil.Process, name: str, url: str, query: str, changes: int) -> tuple[float, float]:
    """Changes a second of one backfill, and CPU of the worker for each in µs."""
    begun, cpu = time.perf_counter(), sum(worker.cpu_times()[:2])
    start_in_the_past(cluster, name, url, query)
    wait_until(lambda: not backfilling(cluster), SCAN_S_MAX, "the backfill has not ended")
    return changes / (time.perf_counter() - begun), (sum(worker.cpu_times()[:2]) - cpu) / changes * 1e6


def run(servers: str, folder: Path, *, changes: int, rate: int, webhooks: int) -> dict[str, float]:
    """One run's figures."""
    with Cluster(folder, servers, chance=random.Random(), prefix=f"past-{folder.name}.") as cluster:
        flow = Flow(cluster, rate)
        with receiving(flow.took) as url:
            fill(cluster, changes)
            worker = psutil.Process(cluster.streams[0].pid)
            scans = [scan(cluster, worker, f"first-{number}", url, query, changes) for number, query in enumerate((NONE, NO_TEXT))]
            cluster.put_webhook("live", collections=["live"], url=url)
            flow.run(ALONE_S)  # to warm up
            alone = flow.run(ALONE_S)
            for number in range(webhooks):
                start_in_the_past(cluster, f"past-{number}", url)
            begun = time.perf_counter()
            beside = flow.run(None, cluster)
            beside_s = time.perf_counter() - begun
    (rate_number, cpu_number), (rate_text, cpu_text) = scans
    return {
        "number": rate_number, "number_cpu": cpu_number, "text": rate_text, "text_cpu": cpu_text, "beside": webhooks * changes / beside_s,
        "alone_p50": alone[len(alone) // 2], "alone_p99": alone[int(len(alone) * 0.99)],
        "beside_p50": beside[len(beside) // 2], "beside_p99": beside[int(len(beside) * 0.99)],
    }  # fmt: skip


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--changes", type=int, default=300_000)
    parser.add_argument("--rate", type=int, default=500)
    parser.add_argument("--webhooks", type=int, default=4)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--bootstrap-servers")
    given = parser.parse_args()
    found = []
    for _ in range(given.runs):
        with broker(given.bootstrap_servers) as servers, tempfile.TemporaryDirectory() as folder:
            found.append(run(servers, Path(folder), changes=given.changes, rate=given.rate, webhooks=given.webhooks))
    print(environment())
    print(f"{given.changes:,} changes in the past, {given.rate}/s live, {given.webhooks} webhooks at once, {given.runs} runs")
    print(f"{'':<44} {'min':>12} {'median':>12} {'max':>12}")
    row("scan for a number", found, "number", "changes/s")
    row("CPU of streams meanwhile", found, "number_cpu", "µs a change")
    row("scan for a text", found, "text", "changes/s")
    row("CPU of streams meanwhile", found, "text_cpu", "µs a change")
    row("several at once, beside the live flow", found, "beside", "changes/s")
    row("live flow alone, p50", found, "alone_p50", "ms")
    row("live flow alone, p99", found, "alone_p99", "ms")
    row("live flow beside backfills, p50", found, "beside_p50", "ms")
    row("live flow beside backfills, p99", found, "beside_p99", "ms")


if __name__ == "__main__":
    main()
