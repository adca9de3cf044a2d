"""
What a sink brings to one endpoint: a lane that is full from the start, each delivery signed, in order for its document, its attempt
written.

    python -m bench.sink [--deliveries 20000] [--concurrency 64 256] [--latency 0 20 200] [--order document none] [--runs 3]

Broker, receiver and sink are processes of their own on one machine. The receiver parses nothing but the end of a request.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools

from bench.harness import broker, environment, prefix, row
from bench.sink_parts import Lanes, RunningSink, receiver

DOCUMENTS = 5_000
DONE_S_MAX = 240.0


async def run(servers: str, *, deliveries: int, concurrency: int, latency_s: float, order: str) -> dict[str, float]:
    """One run's figures."""
    lanes = Lanes(servers, prefix())
    lanes.producer.start()
    with receiver(latency_s, []) as url:
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


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--deliveries", type=int, default=20_000)
    parser.add_argument("--concurrency", type=int, nargs="+", default=[64, 256])
    parser.add_argument("--latency", type=float, nargs="+", default=[0, 20, 200], help="of the endpoint, in ms")
    parser.add_argument("--order", nargs="+", default=["document"], choices=["document", "none"])
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--bootstrap-servers")
    arguments = parser.parse_args()
    print(environment())
    with broker(arguments.bootstrap_servers) as servers:
        for latency_ms, concurrency, order in itertools.product(arguments.latency, arguments.concurrency, arguments.order):
            # No more than half a minute's worth where the endpoint is slow.
            deliveries = min(arguments.deliveries, int(concurrency * 10_000 / latency_ms)) if latency_ms else arguments.deliveries
            asked = {"deliveries": deliveries, "concurrency": concurrency, "latency_s": latency_ms / 1_000}
            runs = [asyncio.run(run(servers, order=order, **asked)) for _ in range(arguments.runs)]
            print(f"\nendpoint {latency_ms:g} ms, concurrency {concurrency}, order {order}, {deliveries} deliveries, {arguments.runs} runs")
            print(f"{'':<44} {'min':>12} {'median':>12} {'max':>12}")
            row("deliveries", runs, "rate", "a second")
            row("calls under way, on average", runs, "in_flight", "")
            row("CPU of the sink", runs, "cpu_s", "s a 100,000")
            row("memory of the sink when all are delivered", runs, "memory", "bytes")
            row("at most until then", runs, "memory_max", "bytes")
            row("a call, p50", runs, "p50", "ms")
            row("a call, p99", runs, "p99", "ms")


if __name__ == "__main__":
    main()
