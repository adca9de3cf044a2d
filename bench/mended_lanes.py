"""
A thousand lanes, 150 with bad endpoints, which then come back: is all of it delivered, each document in order, and nothing given up?

    python -m bench.mended_lanes [--lanes 1000] [--rate 500] [--seconds 45]

The endpoints are those of many_lanes.py: 50 refuse connections, 50 hang, 50 answer 404 to everything.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import time
from collections import defaultdict

import httpx

from bench.harness import broker, environment, prefix
from bench.many_lanes import WARM_UP, names_of
from bench.sink_parts import Lanes, RunningSink, receiver
from connectors.kafka.admin import offsets
from connectors.kafka.embedded_checks import free_port

DOCUMENTS = 16  # a lane; of fewer than five a lane would blame the documents
DELIVERED_S_MAX = 900.0
LOOK_S = 2.0
SETTLED_S = 5.0
ASK_S_MAX = 60.0


async def run(servers: str, *, count: int, rate: int, seconds: float) -> None:
    """Fill, mend, wait, and print what was found."""
    lanes, took = Lanes(servers, prefix()), list[tuple[str, float]]()
    lanes.producer.start()
    good, bad = names_of(count)
    port = free_port("127.0.0.1", random.Random())
    with receiver(0.0, took) as url:
        paths = {"dead": f"http://127.0.0.1:{port}/", "hanging": f"{url}/hang", "refusing": f"{url}/404", "good": f"{url}/"}
        await lanes.make({name: paths[name.split("-")[0]] for name in (*good, *bad)}, concurrency=16)
        sink = RunningSink(lanes)
        try:
            sink.wait_ready()
            sent = await fill(lanes, [*good, *bad], rate=rate, seconds=seconds)
            await asyncio.sleep(SETTLED_S)
            print(f"{sum(map(len, sent.values()))} deliveries, of which {await asyncio.to_thread(sink.lag)} are still to be made")
            began = time.time()
            with receiver(0.0, took, port=port):
                await asyncio.to_thread(httpx.get, f"{url}/mend", headers={"content-length": "0"}, trust_env=False)
                lag = await asyncio.to_thread(delivered, sink)
                print(f"the endpoints came back, and after {time.time() - began:.0f} s {lag} are left")
        finally:
            sink.close()
    await lanes.producer.stop(10)
    dead = await asyncio.to_thread(offsets, lanes.kafka, [(lanes.topics.dead_letters.name, 0)], timeout_s=ASK_S_MAX)
    arrived = {id_: number for number, (id_, _) in reversed([*enumerate(sorted(took, key=lambda call: call[1]))])}
    orders = [[arrived.get(id_, -1) for id_ in ids] for ids in sent.values()]
    print(f"documents {len(orders)}")
    print(f"never delivered {sum(order.count(-1) for order in orders)}")
    print(f"documents out of order {sum(order != sorted(order) for order in orders)}")
    print(f"dead letters {sum(at.end for at in dead.values())}")


def delivered(sink: RunningSink) -> int:
    """Wait until nothing is left to be delivered, or for too long; how much is left."""
    until = time.monotonic() + DELIVERED_S_MAX
    while (lag := sink.lag()) and time.monotonic() < until:
        time.sleep(LOOK_S)
    return lag


async def fill(lanes: Lanes, names: list[str], *, rate: int, seconds: float) -> dict[tuple[str, int], list[str]]:
    """At a steady pace, in turn over all lanes; the ids that were sent, by lane and document, in order."""
    sent: dict[tuple[str, int], list[str]] = defaultdict(list)
    begin, batch = time.time(), max(1, rate // 20)
    for first in range(0, int(rate * seconds) + WARM_UP * len(names), batch):
        records = []
        for number in range(first, first + batch):
            name, document = names[number * 7919 % len(names)], number // len(names) % DOCUMENTS
            id_, record = lanes.delivery(name, f"{name}-{document}")
            sent[name, document].append(id_)
            records.append(record)
        await lanes.producer.send(records)
        await asyncio.sleep(max(0.0, begin + first / rate - time.time()))
    return sent


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lanes", type=int, default=1_000)
    parser.add_argument("--rate", type=int, default=500)
    parser.add_argument("--seconds", type=float, default=45)
    parser.add_argument("--bootstrap-servers")
    arguments = parser.parse_args()
    print(environment())
    with broker(arguments.bootstrap_servers) as servers:
        asyncio.run(run(servers, count=arguments.lanes, rate=arguments.rate, seconds=arguments.seconds))


if __name__ == "__main__":
    main()
