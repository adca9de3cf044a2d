"""
What a sink brings to one endpoint: a lane that is full from the start, each delivery signed, in order for its document, its attempt
written.

    python -m bench.sink [--deliveries 20000] [--concurrency 64 256] [--latency 0 20 200] [--order document none] [--tls] [--runs 3]
    python -m bench.sink --rate 500 [--seconds 20]
    BENTHOS=/path/to/benthos python -m bench.sink …

Broker, receiver and sink are processes of their own on one machine. The receiver parses nothing but the end of a request. ``--tls``: https
beside http, certificates verified. ``--rate``: the sink's own hop at a steady pace, from the record in the lane to its request at the
receiver. With BENTHOS the same is measured with Benthos or Redpanda Connect in turn with ours (beside.py).
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import os
import time

from bench import beside
from bench.harness import broker, environment, prefix, row
from bench.sink_parts import Lanes, RunningSink, receiver

DOCUMENTS = 5_000
DONE_S_MAX = 240.0
WARM_UP_S = 3.0
BROKER_WARM_UP_S = 45.0  # until then Java compiles, on a core of its own, and every hop waits for it now and then
DRAIN_S = 2.0
HALF_A_MINUTE_MS = 10_000.0  # about, of calls one after the other: no more are made where the endpoint is slow


async def run(servers: str, *, deliveries: int, concurrency: int, latency_s: float, order: str, is_tls: bool) -> dict[str, float]:
    """One run's figures."""
    lanes = Lanes(servers, prefix())
    lanes.producer.start()
    with receiver(latency_s, [], is_tls=is_tls) as url:
        await lanes.make({"one": url}, concurrency=concurrency, order=order)
        for first in range(0, deliveries, 1_000):
            numbers = range(first, min(first + 1_000, deliveries))
            await lanes.producer.send([lanes.delivery("one", f"d{number % DOCUMENTS}")[1] for number in numbers])
        sink = RunningSink(lanes, deliveries)
        try:
            sink.wait_ready()
            found, _ = await asyncio.to_thread(sink.result, DONE_S_MAX)
        finally:
            sink.close()
    await lanes.producer.stop(10)
    return found


async def run_at(servers: str, rate: int, seconds: float) -> dict[str, float]:
    """Latencies in ms at a steady pace, of one lane: from handing a record to the Kafka client, and from its acknowledgement."""
    lanes, took = Lanes(servers, prefix()), list[tuple[str, float]]()
    lanes.producer.start()
    handed, acknowledged = dict[str, float](), dict[str, float]()
    with receiver(0.0, took) as url:
        await lanes.make({"one": url}, concurrency=64)
        sink = RunningSink(lanes)
        try:
            sink.wait_ready()
            await _produce(lanes, rate, seconds, handed, acknowledged)
            await asyncio.sleep(DRAIN_S)
            found, _ = await asyncio.to_thread(sink.result, DONE_S_MAX)
        finally:
            sink.close()
    await lanes.producer.stop(10)
    arrived = dict(reversed(took))
    figures = {"cpu_us": found["cpu_s"] * 10, "missing": float(len(acknowledged.keys() - arrived.keys()))}
    for name, times in (("handed", handed), ("acknowledged", acknowledged)):
        late = sorted((arrived[id_] - at) * 1_000 for id_, at in times.items() if id_ in arrived)
        figures |= {f"{name} p{share:g}": late[int(len(late) * share / 100)] for share in (50, 90, 99)}
    return figures


async def _produce(lanes: Lanes, rate: int, seconds: float, handed: dict[str, float], acknowledged: dict[str, float]) -> None:
    """Deliveries at a steady pace; after the warm-up it is noted when each was handed over and acknowledged."""
    waiting = set[asyncio.Task[None]]()

    async def send(number: int) -> None:
        id_, record = lanes.delivery("one", f"d{number % DOCUMENTS}")
        at = time.time()
        await lanes.producer.send([record])
        if number > rate * WARM_UP_S:
            handed[id_], acknowledged[id_] = at, time.time()

    begin = time.time()
    for number in range(int(rate * (WARM_UP_S + seconds))):
        await asyncio.sleep(max(0.0, begin + number / rate - time.time()))
        task = asyncio.create_task(send(number))
        waiting.add(task)
        task.add_done_callback(waiting.discard)
    await asyncio.gather(*waiting)


def _full_lanes(arguments: argparse.Namespace, servers: str) -> None:
    kinds = itertools.product(arguments.latency, arguments.concurrency, arguments.order, (False, True) if arguments.tls else (False,))
    for latency_ms, concurrency, order, is_tls in kinds:
        deliveries = min(arguments.deliveries, int(concurrency * HALF_A_MINUTE_MS / latency_ms)) if latency_ms else arguments.deliveries
        ours, theirs = list[dict[str, float]](), list[dict[str, float]]()
        for _ in range(arguments.runs):
            asked = {"deliveries": deliveries, "concurrency": concurrency, "latency_s": latency_ms / 1_000}
            ours.append(asyncio.run(run(servers, order=order, is_tls=is_tls, **asked)))
            if (binary := os.environ.get("BENTHOS")) and not is_tls:
                theirs.append(asyncio.run(beside.run(binary, servers, is_ordered=order == "document", **asked)))
        print(
            f"\nendpoint {latency_ms:g} ms, {'https' if is_tls else 'http'}, concurrency {concurrency}, order {order}, "
            f"{deliveries} deliveries, {arguments.runs} runs"
        )
        _heading()
        row("deliveries", ours, "rate", "a second")
        row("calls under way, on average", ours, "in_flight", "")
        row("CPU of the sink", ours, "cpu_s", "s a 100,000")
        row("memory of the sink when all are delivered", ours, "memory", "bytes")
        row("at most until then", ours, "memory_max", "bytes")
        row("a call, p50", ours, "p50", "ms")
        row("a call, p99", ours, "p99", "ms")
        if theirs:
            row("Benthos: deliveries", theirs, "rate", "a second")
            row("Benthos: CPU", theirs, "cpu_s", "s a 100,000")


def _steady(arguments: argparse.Namespace, servers: str) -> None:
    asyncio.run(run_at(servers, arguments.rate, BROKER_WARM_UP_S))
    runs = [asyncio.run(run_at(servers, arguments.rate, arguments.seconds)) for _ in range(arguments.runs)]
    print(f"\none lane, {arguments.rate}/s for {arguments.seconds:g} s, {arguments.runs} runs")
    _heading()
    for name in ("handed", "acknowledged"):
        for share in (50, 90, 99):
            row(f"record {name} -> request received, p{share}", runs, f"{name} p{share}", "ms")
    row("CPU of the sink", runs, "cpu_us", "µs a delivery")
    row("not delivered in the end", runs, "missing", "")


def _heading() -> None:
    print(f"{'':<44} {'min':>12} {'median':>12} {'max':>12}")


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--deliveries", type=int, default=20_000)
    parser.add_argument("--concurrency", type=int, nargs="+", default=[64, 256])
    parser.add_argument("--latency", type=float, nargs="+", default=[0, 20, 200], help="of the endpoint, in ms")
    parser.add_argument("--order", nargs="+", default=["document"], choices=["document", "none"])
    parser.add_argument("--tls", action="store_true")
    parser.add_argument("--rate", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--bootstrap-servers")
    arguments = parser.parse_args()
    print(environment())
    with broker(arguments.bootstrap_servers) as servers:
        (_steady if arguments.rate else _full_lanes)(arguments, servers)


if __name__ == "__main__":
    main()
