"""
The published number: 300,000 mutations over 10,000 documents, kill -9 of streams, of the sink and of the broker midway; what arrived.

Run: ``python -m bench.published [--mutations 300000] [--documents 10000] [--rate 2500]``
Written at a steady pace, so that whoever is killed is in the middle of its work; each is started again a second later, as a supervisor
does. The invariants are those of the crash test, and its checker says whether they hold. Beside them: a receiver that drops what it has
seen by its ``webhook-id`` holds the documents as they were written last.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from bench.harness import environment, receiving
from connectors.kafka.embedded import EmbeddedKafka
from tests.chaos.checker import Arrival, Document, Operation, Webhook, check, folded
from tests.integration.cluster import Cluster, Role
from tests.integration.recorder import Writer, arrival_of

NAME = "everything"
DOWN_S = 1.0
BROKER_START_S = 120.0
QUIET_S = 5.0
SETTLE_S = 300.0
TICK_S = 0.02


class Fault:
    """Somebody is killed when so much of the load is written; ``strike`` returns when it has been started again."""

    def __init__(self, what: str, share: float, strike: Callable[[], None]) -> None:
        self.what, self.share, self.strike = what, share, strike


def main() -> int:
    """Load, kill, settle, check."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mutations", type=int, default=300_000)
    parser.add_argument("--documents", type=int, default=10_000)
    parser.add_argument("--rate", type=int, default=2_500)
    arguments = parser.parse_args()
    rng = random.Random(1)
    arrivals: list[Arrival] = []
    print(environment(), flush=True)
    with (
        tempfile.TemporaryDirectory() as folder,
        EmbeddedKafka(Path(folder) / "broker") as kafka,
        receiving(lambda call: arrivals.append(arrival_of(call))) as url,
        Cluster(Path(folder), kafka.bootstrap_servers, chance=rng, prefix="published.") as cluster,
    ):
        cluster.put_webhook(NAME, collections=["people"], url=url)
        [streams], [sink] = cluster.streams, cluster.sinks
        faults = [
            Fault("kill -9 streams", 0.3, lambda: restart(streams)),
            Fault("kill -9 broker", 0.5, lambda: restart_broker(kafka)),
            Fault("kill -9 sink", 0.7, lambda: restart(sink)),
        ]
        writer = Writer(kafka.bootstrap_servers, cluster.topics.mutations.name)
        begin = time.monotonic()
        wanted = [mutation(rng, number, arguments.documents) for number in range(1, arguments.mutations + 1)]
        written_s = load(writer, wanted, faults, rate=arguments.rate)
        settle(arrivals, expected=len(wanted))
        took_s = time.monotonic() - begin
    return judge(writer.operations, arrivals, faults, written_s=written_s, took_s=took_s)


def mutation(rng: random.Random, number: int, documents: int) -> tuple[str, str, Mapping[str, Any] | None]:
    """Key, method, value. Each changes something: the number is another one."""
    id_ = f"d{rng.randrange(documents)}"
    value: dict[str, Any] = {"_id": id_, "n": number}
    if rng.random() < 0.5:
        value["name"] = rng.choice(["Ann", "Bob", "Čeněk"])
    return f"people/{id_}", "replace" if rng.random() < 0.2 else "upsert", value


def load(writer: Writer, wanted: Sequence[tuple[str, str, Mapping[str, Any] | None]], faults: Sequence[Fault], *, rate: int) -> float:
    """Write all, and kill meanwhile; how long it took."""
    due, done = list(faults), 0
    begin = time.monotonic()
    with ThreadPoolExecutor(1) as striker:
        struck = []
        while done < len(wanted):
            until = min(len(wanted), int((time.monotonic() - begin) * rate))
            for one in wanted[done:until]:
                writer.write(*one)
            done = max(done, until)
            while due and done >= due[0].share * len(wanted):
                struck.append(striker.submit(due.pop(0).strike))
            time.sleep(TICK_S)
        for strike in struck:
            strike.result()
    writer.flush()
    return time.monotonic() - begin


def restart(role: Role) -> None:
    """kill -9, and a second later another life."""
    role.kill()
    time.sleep(DOWN_S)
    role.start()


def restart_broker(kafka: EmbeddedKafka) -> None:
    """The same for Kafka."""
    kafka.kill()
    time.sleep(DOWN_S)
    kafka.start(timeout_s=BROKER_START_S)


def settle(arrivals: Sequence[Arrival], *, expected: int) -> None:
    """Until as much has come as must, and then nothing more for a while; or for as long as there is patience."""
    begin = changed = time.monotonic()
    before = 0
    while (now := time.monotonic()) - begin < SETTLE_S:
        if len(arrivals) != before:
            before, changed = len(arrivals), now
        elif now - changed > QUIET_S:
            if len({one.webhook_id for one in arrivals}) >= expected:
                return
            changed = now
        time.sleep(TICK_S)


def judge(operations: Sequence[Operation], arrivals: Sequence[Arrival], faults: Sequence[Fault], *, written_s: float, took_s: float) -> int:
    """Print the table; 1 when something is wrong."""
    report = check(operations, arrivals, [Webhook(NAME, lambda _: True)])
    expected: dict[str, Document | None] = {}
    for operation in operations:
        expected[operation.key] = folded(expected.get(operation.key), operation)
    found = held(arrivals)
    right = sum(found.get(key) == value for key, value in expected.items())
    print(f"mutations       {len(operations):,} over {len(expected):,} documents, in {written_s:.0f} s; all settled after {took_s:.0f} s")
    print(f"acknowledged    {', '.join(f'{count:,} {outcome}' for outcome, count in sorted(report.operations.items()))}")
    print(f"faults          {', '.join(f'{fault.what} at {fault.share:.0%}' for fault in faults)}")
    print(f"deliveries      {report.deliveries:,}; repeats {report.repeats:,}")
    print(f"final values    {right:,} of {len(expected):,} right")
    print(f"violations      {len(report.violations):,}: {report}")
    return int(bool(report.violations) or right < len(expected))


def held(arrivals: Sequence[Arrival]) -> dict[str, Document | None]:
    """What a receiver has that drops every ``webhook-id`` that it has seen, and takes all else as it comes."""
    seen: set[str] = set()
    documents: dict[str, Document | None] = {}
    for arrival in arrivals:
        if arrival.webhook_id not in seen:
            seen.add(arrival.webhook_id)
            documents[arrival.key] = arrival.new
    return documents


if __name__ == "__main__":
    sys.exit(main())
