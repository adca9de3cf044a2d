"""
The index of standing queries on real changes: what an event, an update and a query cost, and the naive scan beside it.

Run: ``python bench/standing_queries.py [--queries 1 100 10000 100000] [--runs 3]``
Needs no Kafka. An event is one change: its old and new value are decoded and looked up, and the webhooks that want it are named;
``with its deliveries`` makes the delivery of each, as the matching agent does. Each webhook has one query. Times are CPU times of one
thread. bench/flights.py has the data and the mix.
"""

from __future__ import annotations

import argparse
import gc
import random
import sys
import time
import tracemalloc
from collections.abc import Callable, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from bench.flights import COLLECTION, PARTITIONS, changes, flights, queries
from bench.harness import environment, row
from schemas.changes import Change
from schemas.positions import Origin
from schemas.webhooks import WebhookRevision, WebhookSpec
from streams.matching import SimpleStandingQueries, Standing, StandingQueries, match, standing_of
from streams.standing.index import IndexedStandingQueries

EVENTS = 3_000
SCAN_CHECKS = 300_000  # queries asked by the naive scan in all, so that it ends
UPDATES = 2_000


def standing(number: int, query: str) -> Standing:
    """A webhook that has been there from the beginning of every partition."""
    spec = WebhookSpec(name=f"w{number}", url="https://example.com/hook", collections=(COLLECTION,), query=query)
    revision = WebhookRevision(f"whk_{number:032x}", spec.name, 1, 1, spec, [], 0, 0)
    return standing_of(revision, f"livehook.deliveries.{spec.name}", [Origin(0, partition, 0) for partition in range(PARTITIONS)])


def filled(into: StandingQueries, texts: Sequence[str]) -> StandingQueries:
    """The queries, each of a webhook of its own."""
    for number, query in enumerate(texts):
        into.put(standing(number, query))
    return into


def bytes_a_query(texts: Sequence[str]) -> float:
    """What the index and all that it holds take, webhooks included; the parser's tables, made once, apart."""
    standing(0, "true")
    gc.collect()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    index = filled(IndexedStandingQueries(), texts)
    gc.collect()
    taken = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    del index
    return taken / len(texts)


def event_us(events: Sequence[Change], work: Callable[[Change], object]) -> float:
    """µs an event."""
    begin = time.process_time()
    for change in events:
        work(change)
    return (time.process_time() - begin) / len(events) * 1e6


def updates_us(index: StandingQueries, texts: Sequence[str]) -> dict[str, float]:
    """The 99th percentile of adding, replacing and removing a webhook, in µs; its query is compiled before."""
    fresh = [standing(len(texts) + number, text) for number, text in enumerate(random.Random(2).choices(texts, k=UPDATES))]
    found = {}
    for name, update in (("add", index.put), ("replace", index.put), ("remove", lambda one: index.remove(one.name, one.revision))):
        taken = []
        for one in fresh:
            begin = time.process_time()
            update(one)
            taken.append((time.process_time() - begin) * 1e6)
        found[name] = sorted(taken)[len(taken) * 99 // 100]
    return found


def measure(texts: Sequence[str], events: Sequence[Change], runs: int) -> list[dict[str, float]]:
    """One warm-up, then so many runs over the same events."""
    index, scan = filled(IndexedStandingQueries(), texts), filled(SimpleStandingQueries(), texts)
    scanned = events[: max(20, min(len(events), SCAN_CHECKS // len(texts)))]
    assert [index.matching(change) for change in scanned[:20]] == [scan.matching(change) for change in scanned[:20]]
    matches = sum(len(index.matching(change)) for change in events) / len(events)
    results = []
    gc.collect()
    gc.freeze()
    for _ in range(runs + 1):
        found = {
            "event": event_us(events, index.matching),
            "deliveries": event_us(events, lambda change: list(match(index, change))),
            "scan": event_us(scanned, scan.matching),
            "matches": matches,
            **updates_us(index, texts),
        }
        results.append(found)
    gc.unfreeze()
    return results[1:]


def show(title: str, texts: Sequence[str], events: Sequence[Change], runs: int) -> None:
    """Measure one set of queries and print its rows."""
    print(f"\n{title}")
    results = measure(texts, events, runs)
    size = bytes_a_query(texts)
    row("an event", results, "event", "µs")
    row("an event, with its deliveries", results, "deliveries", "µs")
    row("an event, naive scan", results, "scan", "µs")
    row("matches an event", results, "matches", "")
    for name in ("add", "replace", "remove"):
        row(f"{name}, 99th percentile", results, name, "µs")
    row("a query", [{"bytes": size}], "bytes", "bytes")


def main() -> None:
    """Measure, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--queries", type=int, nargs="+", default=[1, 100, 10_000, 100_000])
    parser.add_argument("--runs", type=int, default=3)
    arguments = parser.parse_args()
    rows = flights()
    events = changes(rows)[-EVENTS * 2 : -EVENTS]  # neither the first nor the last of the day
    print(environment())
    print(f"{len(events):,} events, {arguments.runs} runs after one to warm up")
    print(f"{'':<44} {'min':>12} {'median':>12} {'max':>12}")
    for count in arguments.queries:
        show(f"{count:,} queries", list(queries(rows, count)), events, arguments.runs)
    for share in (0.01, 0.1):
        texts = list(queries(rows, 10_000, unindexable=share))
        show(f"10,000 queries, {share:.0%} that no index can rule out", texts, events, arguments.runs)


if __name__ == "__main__":
    main()
