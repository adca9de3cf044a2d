"""
kill -9 of everything, under load, on a real Kafka: streams workers, sinks and the broker itself.

``LIVEHOOK_CHAOS_SECONDS=600`` makes it longer, with as many kills a minute; ``LIVEHOOK_CHAOS_SEED=7`` repeats a sequence of mutations and
kills.
"""

from __future__ import annotations

import itertools
import os
import random
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from connectors.kafka.embedded import EmbeddedKafka
from connectors.webhook.testing import Answer, Call
from tests.chaos.checker import Webhook, check
from tests.chaos.report import Kind, Outcome, Report
from tests.chaos.storm import Damage, Plan, Storm
from tests.integration.cluster import Cluster
from tests.integration.recorder import Recorder, Writer, arrival_of

SECONDS_USUAL = 75.0
SECONDS = float(os.environ.get("LIVEHOOK_CHAOS_SECONDS", SECONDS_USUAL))
KILLS = {"streams": 10, "sink": 10, "broker": 3}
QUIET_S = 3.0
SETTLE_S = 180.0
REFUSED_SHARE = 0.05

WEBHOOKS = {
    "everything": ("true", lambda document: True),
    "adults": ("age >= 18", lambda document: document.get("age", 0) >= 18),
    "minors": ("age < 18", lambda document: document.get("age", 99) < 18),
    "anns": ("name == 'Ann'", lambda document: document.get("name") == "Ann"),
    "bobs": ("name == 'Bob' || name == 'Čeněk'", lambda document: document.get("name") in ("Bob", "Čeněk")),
    "shaky": ("true", lambda document: True),
}
SHAKY = {"schedule": ["0s", *["100ms"] * 30], "jitter": 0}


class Refusing:
    """A receiver that now and then answers 503 to one of the webhooks."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._lock = threading.Lock()

    def __call__(self, call: Call) -> Answer:
        with self._lock:
            refuses = call.headers.get("livehook-webhook") == "shaky" and self._rng.random() < REFUSED_SHARE
        return Answer(503) if refuses else Answer()


@pytest.fixture
def kafka_of_its_own(tmp_path: Path) -> Iterator[EmbeddedKafka]:
    """A broker that may be killed without harm to other tests."""
    with EmbeddedKafka(tmp_path / "broker") as kafka:
        yield kafka


@pytest.fixture
def cluster(tmp_path: Path, kafka_of_its_own: EmbeddedKafka, chance: random.Random) -> Iterator[Cluster]:
    """Two streams workers, two sinks, one API."""
    with Cluster(tmp_path, kafka_of_its_own.bootstrap_servers, chance=chance, streams=2, sinks=2) as cluster:
        yield cluster


@pytest.mark.timeout(SECONDS + SETTLE_S + 180)
def test_nothing_is_lost_whatever_is_killed(cluster, kafka_of_its_own, seed, say):
    """Every accepted mutation's effect arrives, first arrivals of a document in order, repeats only under the webhook-id they had."""
    rng = random.Random(seed)
    kills = {kind: round(count * SECONDS / SECONDS_USUAL) for kind, count in KILLS.items()}
    with Recorder(Refusing(random.Random(seed))) as recorder:
        for name, (query, _) in WEBHOOKS.items():
            retry = SHAKY if name == "shaky" else {}
            cluster.put_webhook(name, collections=["people"], query=query, url=f"{recorder.url}/{name}", retry=retry)
        writer = Writer(kafka_of_its_own.bootstrap_servers, cluster.topics.mutations.name)
        storm = Storm(Plan(seconds=SECONDS, kills=kills), cluster, kafka_of_its_own, writer, rng)
        storm.run()
        report = settled(recorder, writer, storm)
        found = table(seed, storm.damage, report, recorder)
        say(found)
    if report.violations:
        pytest.fail(f"{found}\n{report}", pytrace=False)
    assert kills == storm.damage.kills
    assert report.operations[Outcome.OK] > 0.9 * sum(report.operations.values())


def settled(recorder: Recorder, writer: Writer, storm: Storm) -> Report:
    """What has arrived once nothing comes any more; after a while as it is, complete or not. Who ends meanwhile is started again."""
    operations = writer.operations
    webhooks = [Webhook(name, matches) for name, (_, matches) in WEBHOOKS.items()]
    waits = itertools.repeat(QUIET_S, int(SETTLE_S / QUIET_S))
    for quiet_s in waits:
        recorder.wait_quiet(quiet_s, SETTLE_S)
        report = check(operations, map(arrival_of, recorder.calls), webhooks)
        if not any(violation.kind is Kind.LOST for violation in report.violations):
            break
        storm.tend()
    return report


def table(seed: int, damage: Damage, report: Report, recorder: Recorder) -> str:
    """What a person wants to know of a run."""
    of = report.operations
    kills = ", ".join(f"{kind} {count}" for kind, count in damage.kills.items())
    return "\n".join(
        [
            f"crash test      seed {seed}, {SECONDS:.0f} s of load, 2 streams, 2 sinks, 6 webhooks",
            f"operations      {sum(of.values())}: {', '.join(f'{outcome} {count}' for outcome, count in of.items())}",
            f"kill -9         {kills}; ended by themselves: {len(damage.fell)}",
            *(f"                {line}" for line in damage.fell),
            f"deliveries      {report.deliveries}; answered 503: {recorder.refused}",
            f"repeats         {report.repeats}",
            f"longest stall   {longest_silence_s(recorder.calls):.1f} s without any delivery",
            f"longest wait    {longest_wait_s(recorder.calls):.1f} s from Kafka taking a mutation to the first arrival",
            f"checker         {str(report).splitlines()[0]}",
        ]
    )


def longest_silence_s(calls: Sequence[Call]) -> float:
    """Between two calls that followed each other."""
    return max((later.at - sooner.at for sooner, later in itertools.pairwise(calls)), default=0.0)


def longest_wait_s(calls: Sequence[Call]) -> float:
    """Of a delivery, from the append time in its txnId (µs) to its first arrival."""
    seen: set[str] = set()
    waits = [0.0]
    for call in calls:
        arrival = arrival_of(call)
        if arrival.webhook_id not in seen:
            seen.add(arrival.webhook_id)
            waits.append(call.at - arrival.txn_id / 1e6)
    return max(waits)
