"""
The index of standing queries on real changes: what an event, an update and a query cost, and the naive scan beside it.

Run: ``python bench/standing_queries.py [--queries 1 100 10000 100000] [--runs 3] [--parts mix unindexable same]``
Needs no Kafka. An event is one change: its old and new value are decoded and looked up, and the webhooks that want it are named;
``with its deliveries`` makes the delivery of each, as the matching agent does. Each webhook has one query. Times are CPU times of one
thread; other work on the machine makes them longer, so look at the decoding beside them. All of it takes some seven minutes, most of
them to parse 100,000 queries twice. bench/flights.py has the data and the mix.
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

from bench.flights import COLLECTION, PARTITIONS, Row, changes, flights, idle_queries, queries
from bench.harness import environment, row
from schemas.changes import Change
from schemas.positions import Origin
from schemas.webhooks import WebhookRevision, WebhookSpec
from streams.matching import SimpleStandingQueries, Standing, StandingQueries, match, standing_of
from streams.standing.documents import Documents
from streams.standing.index import IndexedStandingQueries

EVENTS = 3_000
SCAN_CHECKS = 300_000  # queries asked by the naive scan in all, so that it ends
SCANNED_MIN = 5
UPDATES = 2_000
MATCHING = 1_000
UNINDEXABLE_AMONG = 10_000
PARTS = ("mix", "unindexable", "same")


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


def filled_and_weighed(texts: Sequence[str]) -> tuple[IndexedStandingQueries, float]:
    """An index, and the bytes a query of it and of all that it holds, webhooks included; the parser's tables, made once, apart."""
    standing(0, "true")
    index = IndexedStandingQueries(PARTITIONS)
    gc.collect()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    filled(index, texts)
    gc.collect()
    taken = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    return index, taken / len(texts)


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


def named(queries: StandingQueries, change: Change) -> list[tuple[str, str]]:
    """Which webhooks want a change, and as what."""
    return [(standing.name, event.value) for standing, event, _ in queries.matching(change)]


def decode(change: Change) -> None:
    """What comes before every look-up."""
    documents = Documents(change)
    documents.old(), documents.new()


def measure(index: IndexedStandingQueries, texts: Sequence[str], events: Sequence[Sequence[Change]]) -> list[dict[str, float]]:
    """One run for each part of the events, after one to warm up: what is asked was not asked before."""
    scan = filled(SimpleStandingQueries(), texts)
    scans = max(SCANNED_MIN, min(len(events[0]), SCAN_CHECKS // len(texts)))
    for change in events[0][:SCANNED_MIN]:
        assert named(index, change) == named(scan, change)
    flying = index._collections[COLLECTION]
    results = []
    gc.collect()
    gc.freeze()
    for part in events:
        found = {
            "event": event_us(part, index.matching),
            "decode": event_us(part, decode),
            "found": event_us(part, lambda change: flying.candidates(change, Documents(change))),
            "asked": event_us(part, lambda change: flying.wanting(change, Documents(change))),
            "deliveries": event_us(part, lambda change: list(match(index, change))),
            "scan": event_us(part[:scans], scan.matching),
            "matches": sum(len(index.matching(change)) for change in part) / len(part),
            **updates_us(index, texts),
        }
        results.append(found)
    gc.unfreeze()
    return results[1:]


def show(title: str, texts: Sequence[str], events: Sequence[Sequence[Change]]) -> None:
    """Measure one set of queries and print its rows."""
    print(f"\n{title}")
    index, size = filled_and_weighed(texts)
    results = measure(index, texts, events)
    row("an event", results, "event", "µs")
    row("  until its two documents are decoded", results, "decode", "µs")
    row("  until the candidates are found", results, "found", "µs")
    row("  until they are asked", results, "asked", "µs")
    row("an event, with its deliveries", results, "deliveries", "µs")
    row("an event, naive scan", results, "scan", "µs")
    row("matches an event", results, "matches", "")
    for name in ("add", "replace", "remove"):
        row(f"{name}, 99th percentile", results, name, "µs")
    row("a query", [{"bytes": size}], "bytes", "bytes")


def show_same_matches(rows: list[Row], most: int, events: Sequence[Sequence[Change]]) -> None:
    """The same queries that match, alone and among more and more that do not."""
    print(f"\nThe same {MATCHING:,} queries, with others beside them that nothing matches")
    wanted = list(queries(rows, MATCHING))
    for count in (MATCHING * 10**power for power in range(6)):
        if count > most:
            return
        index = filled(IndexedStandingQueries(PARTITIONS), [*wanted, *idle_queries(rows, count - MATCHING)])
        gc.collect()
        gc.freeze()
        results = [
            {"event": event_us(part, index.matching), "matches": sum(len(index.matching(change)) for change in part) / len(part)}
            for part in events
        ]
        gc.unfreeze()
        row(f"an event, {count:,} queries", results[1:], "event", "µs")
        row("  matches an event", results[1:], "matches", "")


def main() -> None:
    """Measure, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--queries", type=int, nargs="+", default=[1, 100, 10_000, 100_000])
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    arguments = parser.parse_args()
    rows = flights()
    day = changes(rows)[EVENTS:]  # not from the first on: then there are hardly any landings
    events = [day[number * EVENTS : (number + 1) * EVENTS] for number in range(arguments.runs + 1)]
    print(environment())
    print(f"{EVENTS:,} events a run, {arguments.runs} runs after one to warm up, each with events of its own")
    print(f"{'':<44} {'min':>12} {'median':>12} {'max':>12}")
    if "mix" in arguments.parts:
        for count in arguments.queries:
            show(f"{count:,} queries", list(queries(rows, count)), events)
    if "unindexable" in arguments.parts:
        for share in (0.01, 0.1):
            texts = list(queries(rows, UNINDEXABLE_AMONG, unindexable=share))
            show(f"{UNINDEXABLE_AMONG:,} queries, {share:.0%} that no index can rule out", texts, events)
    if "same" in arguments.parts:
        show_same_matches(rows, max(arguments.queries), events)


if __name__ == "__main__":
    main()
