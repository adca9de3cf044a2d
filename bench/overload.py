"""
Mutations faster than the endpoints take them, for minutes: memory of each role stays flat, and afterwards everything is delivered.

Run: ``python -m bench.overload [--minutes 30] [--rate 300] [--documents 5000]``
Three webhooks want every change. The endpoint of one is slow: a few dozen calls a second, whatever is asked of it. That of another refuses
some documents, which are parked, with all that follows of them. The third refuses everything: it is down. When the load ends, all are well,
and the lanes are drained. Each document of each webhook must come in all its versions, first arrivals one by one, each with the old value
that the version before has left; the last one with the value that was written last.
Before all that, large documents that nobody wants fill once what is bounded in the document store, as days of load would.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import msgspec
from confluent_kafka import Producer

from bench.harness import answering, broker, environment
from bench.soak import EVERY_S, look, slope_an_hour
from connectors.webhook.testing import Answer, Call
from tests.integration.cluster import Cluster, Role, wait_until

WEBHOOKS = ("slow", "picky", "down")
SLOW_S = 0.2
SLOW_CALLS = 8  # at a time: 40 a second
REFUSED_EVERY = 50  # documents of which `picky` refuses one
RETRY = {"schedule": ["0s", "5s", *["30s"] * 98], "jitter": 0}  # 49 minutes: nothing comes to the dead letters
GROWTH_MAX = 0.1  # of the memory, in the second half of the load
JUDGED_FROM_MINUTES = 10.0  # in a shorter run what fills once is not full yet
DRAIN_S = 3_600.0
FILLING = 25_000  # mutations of FILLING_BYTES, to a fifth as many documents: a document is read before it is written again
FILLING_BYTES = 4_000
FILL_S = 300.0
FLUSHED_EVERY = 10_000


class Arrivals:
    """
    The endpoints, and what has come to them; runs in the receiver's thread.

    arrived:  how many versions have come to each webhook. calls: repeats and those that were refused included.
    wrong:  what should not have come, in a few words; the first of them.
    """

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()
        self.arrived: Counter[str] = Counter()
        self.repeats = 0
        self.wrong: list[str] = []
        self.is_well = False
        self._last: dict[tuple[str, str], tuple[int, int]] = {}  # version and value of what came last of a webhook and document

    def __call__(self, call: Call) -> Answer:
        name, document = call.headers["livehook-webhook"], call.headers["livehook-document"]
        self.calls[name] += 1
        if not self.is_well and (name == "down" or (name == "picky" and _number(document) % REFUSED_EVERY == 0)):
            return Answer(500)
        self._take(name, document, call)
        return Answer(delay_s=0.0 if self.is_well or name != "slow" else SLOW_S)

    def _take(self, name: str, document: str, call: Call) -> None:
        version = int(call.headers["livehook-version"])
        change = msgspec.json.decode(call.body)["change"]
        last, value = self._last.get((name, document), (0, 0))
        if version <= last:
            self.repeats += 1
            return
        old = (change["oldValue"] or {}).get("n", 0)
        if (version, old) != (last + 1, value) and len(self.wrong) < 10:
            self.wrong.append(f"{name} {document}: version {version} of {old} after version {last} of {value}")
        self._last[name, document] = version, change["newValue"]["n"]
        self.arrived[name] += 1

    def missing(self, written: Mapping[str, tuple[int, int]]) -> list[str]:
        """Documents that do not stand as they were written last: for each its versions and value."""
        return [
            f"{name} {document}: {self._last.get((name, document))}, must be {expected}"
            for name in WEBHOOKS
            for document, expected in written.items()
            if self._last.get((name, document)) != expected
        ]


class Load:
    """Mutations at a pace, each with a value of its own; ``written``: how many there were of each document, and its last value."""

    def __init__(self, servers: str, topic: str, documents: int, rng: random.Random) -> None:
        self.written: dict[str, tuple[int, int]] = {}
        self.count = 0
        self._topic, self._documents, self._rng = topic, documents, rng
        self._producer = Producer(
            {"bootstrap.servers": servers, "linger.ms": 5, "partitioner": "murmur2_random", "enable.idempotence": True, "log_level": 0}
        )

    def write(self) -> None:
        """One more."""
        self.count += 1
        id_ = f"d{self._rng.randrange(self._documents)}"
        value = {"n": self.count, "text": f"{self.count:>300}"}
        body = json.dumps({"method": "upsert", "collection": "c", "id": id_, "value": value})
        self._producer.produce(self._topic, body, f"c/{id_}")
        self._producer.poll(0)
        self.written[f"c/{id_}"] = self.written.get(f"c/{id_}", (0, 0))[0] + 1, self.count
        if self.count % FLUSHED_EVERY == 0:
            self.flush()

    def flush(self) -> None:
        """Until all is acknowledged."""
        assert self._producer.flush(60) == 0, "Kafka does not acknowledge"


def main() -> int:
    """Load, heal, drain, judge."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--rate", type=int, default=300)
    parser.add_argument("--documents", type=int, default=5_000)
    parser.add_argument("--bootstrap-servers")
    arguments = parser.parse_args()
    rng = random.Random(1)
    arrivals = Arrivals()
    print(environment(), flush=True)
    with (
        broker(arguments.bootstrap_servers) as servers,
        tempfile.TemporaryDirectory() as folder,
        answering(arrivals) as url,
        Cluster(Path(folder), servers, chance=rng, prefix="overload.") as cluster,
    ):
        fill(cluster, servers)
        put(cluster, url)
        load = Load(servers, cluster.topics.mutations.name, arguments.documents, rng)
        seen = overload(load, cluster, minutes=arguments.minutes, rate=arguments.rate)
        for name in WEBHOOKS:
            print(
                f"{name:<12} {arrivals.arrived[name]:>9,} of {load.count:,} delivered under load, {arrivals.calls[name]:,} calls",
                flush=True,
            )
        arrivals.is_well = True
        put(cluster, url, headers={"x-well": "yes"})  # an edit: who is down is asked at once
        drained_s = drain(arrivals, load)
    return judge(arrivals, load, seen, drained_s, minutes=arguments.minutes)


def fill(cluster: Cluster, servers: str) -> None:
    """What is bounded, and fills once."""
    producer = Producer({"bootstrap.servers": servers, "linger.ms": 20, "partitioner": "murmur2_random"})
    for number in range(FILLING):
        id_ = f"d{number % (FILLING // 5)}"
        body = json.dumps({"method": "upsert", "collection": "filling", "id": id_, "value": {"n": number, "text": "x" * FILLING_BYTES}})
        producer.produce(cluster.topics.mutations.name, body, f"filling/{id_}")
        producer.poll(0)
    producer.flush(FILL_S)
    wait_until(lambda: cluster.metric("livehook_changes_total") >= FILLING, FILL_S, "the store is not filled")


def put(cluster: Cluster, url: str, **fields: object) -> None:
    """The three webhooks."""
    for name in WEBHOOKS:
        delivery = {"concurrency": SLOW_CALLS} if name == "slow" and not fields else {}
        cluster.put_webhook(name, collections=["c"], url=f"{url}/{name}", retry=RETRY, delivery=delivery, **fields)


def overload(load: Load, cluster: Cluster, *, minutes: float, rate: int) -> dict[str, list[float]]:
    """Write; gives the memory of each role in MB, every EVERY_S."""
    roles: list[Role] = [*cluster.streams, *cluster.sinks, cluster.api]
    seen: dict[str, list[float]] = {role.name: [] for role in roles}
    begin, due = time.monotonic(), EVERY_S
    while (now := time.monotonic() - begin) < minutes * 60:
        while load.count < now * rate:
            load.write()
        if now >= due:
            due += EVERY_S
            for role in roles:
                seen[role.name].append(look(role)[0])
        time.sleep(0.005)
    load.flush()
    return seen


def drain(arrivals: Arrivals, load: Load) -> float:
    """Until everything has arrived, or for as long as there is patience; how long it took."""
    begin = time.monotonic()
    while (waited := time.monotonic() - begin) < DRAIN_S and any(arrivals.arrived[name] < load.count for name in WEBHOOKS):
        time.sleep(1)
    return waited


def judge(arrivals: Arrivals, load: Load, seen: Mapping[str, list[float]], drained_s: float, *, minutes: float) -> int:
    """Print what was seen; 1 when something grows, or is missing."""
    grown = False
    for name, values in seen.items():
        half = values[len(values) // 2 :]
        slope = slope_an_hour(half)
        growth = slope * len(half) * EVERY_S / 3600 / (sum(half) / max(len(half), 1) or 1)
        grows = minutes >= JUDGED_FROM_MINUTES and growth > GROWTH_MAX
        grown |= grows
        shown = (
            f"first {values[0]:>6.1f}  half {half[0]:>6.1f}  last {values[-1]:>6.1f}  max {max(values):>6.1f} MB  slope {slope:>+7.1f} MB/h"
        )
        print(f"{name:<12} {shown}{'  GROWS' * grows}")
    missing = arrivals.missing(load.written)
    print(f"{load.count:,} mutations in {minutes:g} min, {len(WEBHOOKS) * load.count:,} deliveries, {arrivals.repeats:,} repeats")
    print(f"drained in {drained_s:.0f} s; out of order or torn: {len(arrivals.wrong)}; documents not as written: {len(missing)}")
    for line in (*arrivals.wrong, *missing[:10]):
        print(f"  {line}")
    return int(grown or bool(arrivals.wrong or missing))


def _number(document: str) -> int:
    return int(document.rpartition("/d")[2])


if __name__ == "__main__":
    sys.exit(main())
