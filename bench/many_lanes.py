"""
A thousand lanes with a few bad endpoints among them: what do the others notice of it, and what does an idle lane cost?

    python -m bench.many_lanes [--lanes 1000] [--rate 500] [--seconds 20] [--runs 5]

Of a thousand lanes 50 have an endpoint that refuses connections, 50 one that hangs and 50 one that answers 404 to everything. Each run
is made twice, in turn, each on a broker of its own: without deliveries for those 150 and with them. Latency: from handing a delivery to the
Kafka client until its call has reached the receiver.

Every lane begins with a few deliveries that do not count. For its first 4 KiB a partition's two index files get their first page each, and
where a thousand of them come due together, the broker has its hands full for some ten seconds, whoever reads them.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import time

from bench.harness import broker, environment, prefix, row
from bench.sink_parts import Lanes, RunningSink, receiver
from connectors.kafka.embedded_checks import free_port

IDLE_S = 5.0
WARM_UP_S = 5.0
WARM_UP = 8  # deliveries of 1.2 kB a lane
DRAIN_S = 10.0
BAD = ("dead", "hanging", "refusing")


def names_of(lanes: int) -> tuple[list[str], list[str]]:
    """The good ones, and the bad ones."""
    bad = [f"{kind}-{number}" for kind in BAD for number in range(lanes // 20)]
    return [f"good-{number}" for number in range(lanes - len(bad))], bad


async def run(servers: str, *, count: int, rate: int, seconds: float, with_bad: bool) -> dict[str, float]:
    """One run: p99 of the good lanes in ms, and the memory of an idle lane in bytes."""
    lanes, took = Lanes(servers, prefix()), list[tuple[str, float]]()
    lanes.producer.start()
    good, bad = names_of(count)
    with receiver(0.0, took) as url:
        paths = {
            "dead": f"http://127.0.0.1:{free_port('127.0.0.1', random.Random())}/",
            "hanging": f"{url}/hang",
            "refusing": f"{url}/404",
            "good": f"{url}/",
        }
        await lanes.make({"first": url}, concurrency=16)
        sink = RunningSink(lanes)
        try:
            sink.wait_ready()
            await asyncio.sleep(IDLE_S)
            before = sink.memory
            await lanes.make({name: paths[name.split("-")[0]] for name in (*good, *bad)}, concurrency=16)
            await asyncio.sleep(IDLE_S)
            memory = (sink.memory - before) / count
            for _ in range(WARM_UP):
                await lanes.producer.send([lanes.delivery(name, f"{name}-0")[1] for name in (good + bad if with_bad else good)])
            await asyncio.sleep(IDLE_S)
            sent = await produce(lanes, good, bad if with_bad else [], rate=rate, seconds=seconds)
            await asyncio.sleep(DRAIN_S)
            _, items = await asyncio.to_thread(sink.result, 60.0)
        finally:
            sink.close()
    await lanes.producer.stop(10)
    arrived: dict[str, float] = {}
    for id_, at in took:
        arrived.setdefault(id_, at)
    late = sorted((arrived[id_] - at) * 1_000 for id_, at in sent.items() if id_ in arrived)
    missing = len(sent) - len(late)
    down = sum(item["state"] == "down" for item in items)
    return {"p50": late[len(late) // 2], "p99": late[int(len(late) * 0.99)], "missing": missing, "down": down, "memory": memory}


async def produce(lanes: Lanes, good: list[str], bad: list[str], *, rate: int, seconds: float) -> dict[str, float]:
    """Deliveries at a steady pace, in turn over all lanes; when those for the good ones were sent, after the warm-up."""
    sent: dict[str, float] = {}
    names = [*good, *bad]
    names = [names[number * 7919 % len(names)] for number in range(len(names))]  # the bad ones in between
    is_good = set(good)
    begin = time.time()
    waiting = set[asyncio.Task[list[int]]]()
    for number in range(int(rate * (WARM_UP_S + seconds))):
        await asyncio.sleep(max(0.0, begin + number / rate - time.time()))
        name = names[number % len(names)]
        id_, record = lanes.delivery(name, f"{name}-{number // len(names) % 7}")
        if name in is_good and number > rate * WARM_UP_S:
            sent[id_] = time.time()
        task = asyncio.create_task(lanes.producer.send([record]))
        waiting.add(task)
        task.add_done_callback(waiting.discard)
    await asyncio.gather(*waiting)
    return sent


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lanes", type=int, default=1_000)
    parser.add_argument("--rate", type=int, default=500)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--bootstrap-servers")
    arguments = parser.parse_args()
    print(environment())
    runs: dict[bool, list[dict[str, float]]] = {False: [], True: []}
    for _ in range(arguments.runs):
        for with_bad, done in runs.items():
            with broker(arguments.bootstrap_servers) as servers:  # a new one each time: topics of earlier runs cost it time
                asked = {"count": arguments.lanes, "rate": arguments.rate}
                done.append(asyncio.run(run(servers, seconds=arguments.seconds, with_bad=with_bad, **asked)))
    for with_bad, done in runs.items():
        print(f"\n{arguments.lanes} lanes, {arguments.rate}/s, {'with' if with_bad else 'without'} deliveries for the bad endpoints")
        print(f"{'':<44} {'min':>12} {'median':>12} {'max':>12}")
        row("delivery written -> receiver, p50", done, "p50", "ms")
        row("delivery written -> receiver, p99", done, "p99", "ms")
        row("not delivered in the end", done, "missing", "")
        row("lanes that are down", done, "down", "")
        row("memory of an idle lane", done, "memory", "bytes")


if __name__ == "__main__":
    main()
