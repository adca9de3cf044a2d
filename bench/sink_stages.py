"""
What each stage of a delivery costs a sink by itself, and a lane with all of them, without Kafka: CPU time of one thread, in µs.

    python -m bench.sink_stages [--deliveries 4000] [--runs 15] [--concurrency 64] [--only lane]

Stages are run for a thousand deliveries one after the other, which is kinder to the processor's caches than the sink itself is: so what
their sum lacks of the whole lane is not only the loop. The smallest of the runs counts.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import uvloop
from prometheus_client import CollectorRegistry

from bench.harness import environment
from bench.sink_parts import ANSWER, PARTITIONS, Lanes, receiver
from connectors.webhook.attempts import attempt_of, attempt_record
from connectors.webhook.calls import Request, Response
from connectors.webhook.health import Health, Policy
from connectors.webhook.held import Held
from connectors.webhook.http import Sender
from connectors.webhook.http1_wire import AnswerReader, encoded
from connectors.webhook.lanes import Lane
from connectors.webhook.lease import Lease, uptime_s
from connectors.webhook.metrics import SinkMetrics
from connectors.webhook.offsets import Start
from connectors.webhook.ownership import KnownLane, LaneRecord, Place, Taken
from connectors.webhook.parked import Troubles
from connectors.webhook.rates import Share
from connectors.webhook.render import endpoint_of, prepare
from connectors.webhook.retry import DELIVERED, Schedule
from connectors.webhook.runner import LaneRunner
from connectors.webhook.shared import Shared
from connectors.webhook.starting import Done, Failed
from connectors.webhook.testing import sender_here
from schemas.records import decode_delivery, encode_attempt
from schemas.registry import Webhook
from schemas.signing import new_secret
from schemas.topics import Record, Topics
from schemas.webhooks import DeliverySettings, Retry, Secret, WebhookRevision, WebhookSpec

DOCUMENTS = 5_000
BATCH = 256
ALONE = 1_000
ANSWERED = Response(200, (("content-length", "2"),), b"ok")


class World:
    """What is around a lane: Kafka that takes everything, and a sender that answers in the loop's next turn."""

    def __init__(self, sender: Sender | None) -> None:
        self.told = 0
        self.bytes = 0
        self.shared = Shared(
            sender=sender or self, producer=self, attempts=self, reading=self, records=self, metrics=SinkMetrics(CollectorRegistry()),  # type: ignore[arg-type]
            lease=Lease(1e9), calls=Share(1_024), held_bytes=Share(256 * 1024 * 1024), failed=_fail, attempts_topic="attempts",
            dead_letters_topic="dead-letters", webhooks_topic="webhooks", parked_topic=Topics().parked, parked_max=1_000,
            origin_partitions=PARTITIONS, user_agent="livehook/1", worker="http://a", rng=random.Random(1),
        )  # fmt: skip
        self.shared.lease.renewed(uptime_s())

    def start(self, request: Request, *, timeout_s: float, done: Done, failed: Failed) -> asyncio.Handle:
        """Answer in the next turn."""
        encoded(request)
        return asyncio.get_running_loop().call_soon(done, ANSWERED)

    def send_soon(self, record: Record) -> bool:
        """Take an attempt."""
        self.told += 1
        self.bytes += len(record.value or b"")
        return True

    def pause(self, places: Sequence[Place]) -> None:
        """Nothing is read anyway."""

    def resume(self, places: Sequence[Place]) -> None:
        """Nothing is read anyway."""


def _fail(error: BaseException) -> None:
    raise error


def revision_of(url: str, concurrency: int) -> WebhookRevision:
    """The webhook."""
    spec = WebhookSpec("one", url, ("c",), delivery=DeliverySettings(concurrency=concurrency), retry=Retry())
    return WebhookRevision("whk_one", "one", 1, 1, spec, [Secret(new_secret())], 0, 0, since=[])


def records_of(count: int) -> list[LaneRecord]:
    """What stands in its lane."""
    lanes = Lanes("127.0.0.1:1", "bench.")
    records = [lanes.delivery("one", f"d{number % DOCUMENTS}")[1] for number in range(count)]
    return [LaneRecord(record.topic, 0, offset, record.key, record.value) for offset, record in enumerate(records)]


async def _lane(records: Sequence[LaneRecord], url: str, concurrency: int, sender: Sender | None) -> float:
    """CPU seconds of a lane that gets all of these."""
    world = World(sender)
    known = KnownLane("one", "whk_one", records[0].topic, 1)
    runner = LaneRunner(Taken(known, {0: Start()}), Webhook(revision_of(url, concurrency)), world.shared)
    runner.restore(Troubles())
    began = time.thread_time()
    for first in range(0, len(records), BATCH):
        for record in records[first : first + BATCH]:
            runner.read(record)
        runner.go_on()
        await asyncio.sleep(0)
    while world.told < len(records):  # noqa: ASYNC110 - what is measured must not be told
        await asyncio.sleep(0.001)
    took = time.thread_time() - began
    assert runner._lane.partitions[0].commit == len(records)  # else something is missing
    runner.halt()
    return took


async def lanes(records: Sequence[LaneRecord], runs: int, concurrency: int, url: str | None) -> list[float]:
    """µs a delivery of each run; without a URL nothing goes over a network."""
    sender = None if url is None else sender_here()
    found = []
    for _ in range(runs):
        gc.collect()
        found.append(await _lane(records, url or "http://127.0.0.1:8080/hook", concurrency, sender) / len(records) * 1e6)
    if sender is not None:
        await sender.close()
    return found


def timed(act: Callable[[], object], count: int, runs: int) -> list[float]:
    """µs of one of the ``count`` things that ``act`` does."""
    found = []
    for _ in range(runs):
        began = time.thread_time()
        act()
        found.append((time.thread_time() - began) / count * 1e6)
    return found


def stages(records: Sequence[LaneRecord]) -> Iterator[tuple[str, Callable[[], object]]]:
    """Each stage by its name, over all of the records."""
    revision = revision_of("http://127.0.0.1:8080/hook", 64)
    endpoint = endpoint_of(revision, user_agent="livehook/1")
    deliveries = [decode_delivery(record.value or b"") for record in records]
    now, rng = time.time(), random.Random(1)
    requests = [prepare(delivery, endpoint, offset="1", attempt=1, now=now) for delivery in deliveries]
    response = ANSWERED
    attempts = [
        attempt_of(delivery, "one", request, response, DELIVERED, offset="1", attempt=1, started=now, ended=now, rng=rng)
        for delivery, request in zip(deliveries, requests, strict=True)
    ]
    health, policy = Health(rng), Policy(Schedule((0.0, 5.0)), 1e9)
    reader, answer = AnswerReader(), ANSWER % 200

    def through_a_lane() -> None:
        lane = Lane({0: Start()}, concurrency=64, origin_partitions=PARTITIONS)
        for record, delivery in zip(records, deliveries, strict=True):
            lane.take(Held(0, record.offset, record.key, record.value or b"", delivery))
        while found := lane.ready(now):
            for held in found:
                lane.finished(held)

    def answers() -> None:
        for _ in records:
            reader.begin()
            assert reader.feed(answer) is not None

    yield "read (Avro)", lambda: [decode_delivery(record.value or b"") for record in records]
    yield "lane: in, ready, finished", through_a_lane
    yield "request, with its signature", lambda: [prepare(delivery, endpoint, offset="1", attempt=1, now=now) for delivery in deliveries]
    yield "bytes of the request", lambda: [encoded(request) for request in requests]
    yield "answer", answers
    yield "judgement", lambda: [health.judge(response, 1, b"k", 1, policy, now=now) for _ in records]
    yield (
        "attempt",
        lambda: [
            attempt_of(delivery, "one", request, response, DELIVERED, offset="1", attempt=1, started=now, ended=now, rng=rng)
            for delivery, request in zip(deliveries, requests, strict=True)
        ],
    )
    yield "attempt (Avro)", lambda: [encode_attempt(attempt) for attempt in attempts]
    yield "attempt to its record", lambda: [attempt_record(attempt, "attempts") for attempt in attempts]


def show(name: str, found: Sequence[float]) -> None:
    """One line."""
    ordered = sorted(found)
    print(f"{name:<44} {ordered[0]:>8.2f} {ordered[len(ordered) // 2]:>8.2f} {ordered[-1]:>8.2f}", flush=True)


@contextmanager
def _quiet() -> Iterator[None]:
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--deliveries", type=int, default=4_000, help="of a lane")
    parser.add_argument("--runs", type=int, default=15)
    parser.add_argument("--concurrency", type=int, default=64)
    parser.add_argument("--only", choices=["stages", "lane", "network"])
    options = parser.parse_args()
    print(environment())
    print(f"{'µs CPU a delivery':<44} {'min':>8} {'median':>8} {'max':>8}")
    records = records_of(options.deliveries)
    if options.only in (None, "stages"):
        for name, act in stages(records[:ALONE]):
            with _quiet():
                show(name, timed(act, ALONE, options.runs))
    if options.only in (None, "lane"):
        show("a lane, without network", uvloop.run(lanes(records, options.runs, options.concurrency, None)))
    if options.only in (None, "network"):
        with receiver(0.0, []) as url:
            show("a lane, with network", uvloop.run(lanes(records, options.runs, options.concurrency, f"{url}/")))


if __name__ == "__main__":
    main()
