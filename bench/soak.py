"""
Ten minutes at a steady pace: memory, open files and threads of each role, and whether they grow.

Run: ``python -m bench.soak [--minutes 10] [--rate 1000] [--documents 100000]``
The documents of 1 kB are written first, each of them a delivery, so that the sink's windows fill once: what an allocator was given for a
burst it keeps, and bursts of a long run would look like growth. Then random documents are changed at the given rate. Every ten seconds each
role is looked at; the slope is a straight line through the second half, so that caches have filled. Fails when a slope is more than the
noise that it is held against.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
import tempfile
import time
from pathlib import Path

import psutil
from confluent_kafka import Producer

from bench.harness import broker, environment, receiving
from tests.integration.cluster import Cluster, Role

EVERY_S = 10.0
MEMORY_SLOPE_MAX = 12.0  # MB an hour at which nothing that matters grows
OTHERS_SLOPE_MAX = 6.0  # open files or threads an hour
FIGURES = ("memory MB", "open files", "threads")


def look(role: Role) -> tuple[float, float, float]:
    """Memory in MB, open files, threads. What is mapped of files (the activity log's) is the kernel's to give and to take, and left out."""
    process = psutil.Process(role.pid)
    memory = process.memory_info()
    return (memory.rss - memory.shared) / 1e6, float(process.num_fds()), float(process.num_threads())


def slope_an_hour(values: list[float]) -> float:
    """Of a straight line through values that are EVERY_S apart."""
    if len(values) < 2:
        return 0.0
    times = [number * EVERY_S / 3600 for number in range(len(values))]
    return statistics.linear_regression(times, values).slope


def main() -> int:
    """Load, look, judge."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--rate", type=int, default=1_000)
    parser.add_argument("--documents", type=int, default=100_000)
    parser.add_argument("--bootstrap-servers")
    arguments = parser.parse_args()
    rng = random.Random(1)
    seen: dict[str, list[tuple[float, float, float]]] = {}
    calls = [0]
    print(environment())
    with (
        broker(arguments.bootstrap_servers) as servers,
        tempfile.TemporaryDirectory() as folder,
        receiving(lambda _: calls.__setitem__(0, calls[0] + 1)) as url,
        Cluster(Path(folder), servers, chance=rng, prefix="soak.") as cluster,
    ):
        cluster.put_webhook("soak", collections=["c"], url=url, query="n % 2 = 0")
        roles = {role.name: role for role in (*cluster.streams, *cluster.sinks, cluster.api)}
        producer = Producer({"bootstrap.servers": servers, "linger.ms": 5, "partitioner": "murmur2_random"})

        def write(number: int, id_: int) -> None:
            value = {"n": number, "text": f"{number:>1000}"}
            body = json.dumps({"method": "upsert", "collection": "c", "id": f"d{id_}", "value": value})
            producer.produce(cluster.topics.mutations.name, body, f"c/d{id_}")
            producer.poll(0)

        for id_ in range(arguments.documents):
            write(2, id_)
            if id_ % 2_000 == 0:
                producer.flush(60)
        while cluster.metric("livehook_documents") < arguments.documents or calls[0] < arguments.documents:
            time.sleep(1)
        resident = [psutil.Process(role.pid).memory_info().rss / 1e6 for role in (cluster.streams[0], cluster.sinks[0])]
        print(f"{arguments.documents:,} documents of 1 kB: streams has {resident[0]:.0f} MB, the sink {resident[1]:.0f}", flush=True)
        begin, due, number = time.monotonic(), 0.0, 0
        while (now := time.monotonic() - begin) < arguments.minutes * 60:
            while number < now * arguments.rate:
                number += 1
                write(number, rng.randrange(arguments.documents))
            if now >= due:
                due += EVERY_S
                for name, role in roles.items():
                    seen.setdefault(name, []).append(look(role))
            time.sleep(0.005)
        producer.flush(60)
    return judge(seen, number, calls[0])


def judge(seen: dict[str, list[tuple[float, float, float]]], mutations: int, calls: int) -> int:
    """Print what was seen; 1 when something grows."""
    print(f"{mutations:,} mutations, {calls:,} calls")
    failed = 0
    for name, looks in seen.items():
        for figure, values in zip(FIGURES, map(list, zip(*looks, strict=True)), strict=True):
            slope = slope_an_hour(values[len(values) // 2 :])
            grows = slope > (MEMORY_SLOPE_MAX if figure == FIGURES[0] else OTHERS_SLOPE_MAX)
            failed |= grows
            shown = f"first {values[0]:>7.1f} last {values[-1]:>7.1f} max {max(values):>7.1f} slope {slope:>+8.1f}/h"
            print(f"{name:<12} {figure:<11} {shown}{' GROWS' * grows}")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
