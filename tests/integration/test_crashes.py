"""
Everything that can go wrong, under load, on a real Kafka: processes killed and frozen, workers added and removed, networks that fail, and
receivers that behave badly.

``LIVEHOOK_CHAOS_SECONDS=600`` makes it longer, with as many faults a minute; ``LIVEHOOK_CHAOS_SEED=7`` repeats a sequence of mutations and
faults; ``LIVEHOOK_CHAOS_RATE=30`` writes fewer than 80 mutations a second, for machines that have other things to do.
"""

from __future__ import annotations

import itertools
import os
import random
import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from connectors.kafka.embedded import EmbeddedKafka
from connectors.kafka.embedded_checks import free_port
from connectors.webhook.testing import Answer, Call
from tests.chaos.broker import ProxiedKafka
from tests.chaos.checker import Operation, Webhook, check
from tests.chaos.poster import Poster
from tests.chaos.proxy import HOST, TO_A_BROKER, TO_A_RECEIVER, Proxy
from tests.chaos.report import Kind, Outcome, Report
from tests.chaos.storm import Damage, Link, Plan, Storm
from tests.integration.cluster import Cluster
from tests.integration.recorder import Recorder, Writer, arrival_of

SECONDS_USUAL = 60.0
SECONDS = float(os.environ.get("LIVEHOOK_CHAOS_SECONDS", SECONDS_USUAL))
RATE_PER_S = int(os.environ.get("LIVEHOOK_CHAOS_RATE", "80"))
FAULTS = {
    "kill streams": 6, "kill sink": 6, "kill api": 2, "kill broker": 2,
    "freeze streams": 2, "freeze sink": 3, "freeze api": 1, "add streams": 1, "add sink": 1,
    "weather to the broker": 3, "weather to a receiver": 4,
}  # fmt: skip
OK_MIN = 1_000
QUIET_S = 3.0
SETTLE_S = 240.0
REFUSED_SHARE = 0.05
STORM_S = 2.0
BEFORE_S = 5.0
CALL_S = 3  # at most, of a call to a receiver

WEBHOOKS = {
    "everything": ("true", lambda document: True),
    "adults": ("age >= 18", lambda document: document.get("age", 0) >= 18),
    "minors": ("age < 18", lambda document: document.get("age", 99) < 18),
    "anns": ("name == 'Ann'", lambda document: document.get("name") == "Ann"),
    "bobs": ("name == 'Bob' || name == 'Čeněk'", lambda document: document.get("name") in ("Bob", "Čeněk")),
    "shaky": ("true", lambda document: True),
    "moody": ("true", lambda document: True),
}
# Often and soon, so that nothing comes to the dead letters and a run comes to its end.
PATIENT = {"schedule": ["0s", *["100ms"] * 60], "jitter": 0}
SLOW_DOWN = (("retry-after", "1"),)


class Refusing:
    """
    The receivers of a run: one that now and then answers 503, and one that does all that a receiver should not.

    kinds:  how often it did what.
    """

    def __init__(self, rng: random.Random) -> None:
        self.kinds: Counter[str] = Counter()
        self._rng = rng
        self._lock = threading.Lock()
        self._storm_until = 0.0  # by time, not by calls: an endpoint that is down gets few
        self._is_well = False

    def heal(self) -> None:
        """From now on answer 200 to everything."""
        self._is_well = True

    def __call__(self, call: Call) -> Answer:
        if self._is_well:
            return Answer()
        webhook = call.headers.get("livehook-webhook")
        with self._lock:
            if webhook == "shaky" and self._rng.random() < REFUSED_SHARE:
                return self._noted("503", Answer(503))
            return self._moody(self._rng.random(), call.at) if webhook == "moody" else Answer()

    def _moody(self, chance: float, now: float) -> Answer:
        if now < self._storm_until:
            return self._noted("5xx storm", Answer(self._rng.choice((500, 502, 503, 504))))
        if chance < 0.002:
            self._storm_until = now + STORM_S
        if chance < 0.006:
            return self._noted("hangs", Answer(hang=True))
        if chance < 0.016:
            return self._noted("breaks off", Answer(0, close=True))
        if chance < 0.022:
            return self._noted("429", Answer(429, SLOW_DOWN))
        return Answer(close=chance < 0.05)

    def _noted(self, kind: str, answer: Answer) -> Answer:
        self.kinds[kind] += 1
        return answer


@pytest.fixture
def broker_link(kafka_port: int, seed: int) -> Iterator[Link]:
    """Between the roles and the broker."""
    with Proxy(lambda: kafka_port, random.Random(seed)) as proxy:
        yield Link(name="to the broker", proxy=proxy, weathers=TO_A_BROKER)


@pytest.fixture
def kafka_port(chance: random.Random) -> int:
    """Where the broker listens for those that come through the proxy."""
    return free_port(HOST, chance)


@pytest.fixture
def kafka_of_its_own(tmp_path: Path, broker_link: Link, kafka_port: int) -> Iterator[EmbeddedKafka]:
    """A broker that may be killed without harm to other tests."""
    with ProxiedKafka(tmp_path / "broker", listens=kafka_port, advertised=broker_link.proxy.port) as kafka:
        yield kafka


@pytest.fixture
def cluster(tmp_path: Path, kafka_of_its_own: EmbeddedKafka, broker_link: Link, chance: random.Random) -> Iterator[Cluster]:
    """Two streams workers, two sinks, one API, all of which reach the broker through the proxy."""
    with Cluster(tmp_path, f"{HOST}:{broker_link.proxy.port}", chance=chance, streams=2, sinks=2) as cluster:
        yield cluster


@pytest.mark.timeout(3 * SECONDS + SETTLE_S + 300)  # a storm does all of its faults, however slow the machine
def test_nothing_is_lost_whatever_is_killed(cluster, kafka_of_its_own, broker_link, seed, say):
    """Every accepted mutation's effect arrives, first arrivals of a document in order, repeats only under the webhook-id they had."""
    rng = random.Random(seed)
    faults = {kind: max(1, round(count * SECONDS / SECONDS_USUAL)) for kind, count in FAULTS.items()}
    refusing = Refusing(random.Random(seed))
    with Recorder(refusing) as recorder, Proxy(lambda: urlsplit(recorder.url).port or 0, random.Random(seed)) as before_moody:
        for name, (query, _) in WEBHOOKS.items():
            url = f"http://{HOST}:{before_moody.port}" if name == "moody" else recorder.url
            cluster.put_webhook(
                name, collections=["people"], query=query, url=f"{url}/{name}", retry=PATIENT, delivery={"timeoutSeconds": CALL_S}
            )
        writer = Writer(kafka_of_its_own.bootstrap_servers, cluster.topics.mutations.name)
        links = [broker_link, Link(name="to a receiver", proxy=before_moody, weathers=TO_A_RECEIVER)]
        plan = Plan(seconds=SECONDS, faults=faults, rate_per_s=RATE_PER_S)
        storm = Storm(plan, cluster, kafka_of_its_own, writer, {link.name: link for link in links}, rng)
        with Poster(cluster.api.url, random.Random(seed)) as poster:
            storm.run()
        refusing.heal()  # else how long the lanes take to empty is up to chance
        report = settled(recorder, [*writer.operations, *poster.operations], storm)
        found = table(seed, storm.damage, report, recorder, refusing)
        say(found)
    if report.violations:
        pytest.fail(f"{found}\n{report}", pytrace=False)
    assert faults == storm.damage.faults
    assert report.operations[Outcome.OK] > OK_MIN, "Kafka was away for nearly all of the run: little was tried"


def settled(recorder: Recorder, operations: Sequence[Operation], storm: Storm) -> Report:
    """What has arrived once nothing comes any more; after a while as it is, complete or not. Who ends meanwhile is started again."""
    webhooks = [Webhook(name, matches) for name, (_, matches) in WEBHOOKS.items()]
    waits = itertools.repeat(QUIET_S, int(SETTLE_S / QUIET_S))
    for quiet_s in waits:
        recorder.wait_quiet(quiet_s, SETTLE_S)
        report = check(operations, map(arrival_of, recorder.calls), webhooks)
        if not any(violation.kind is Kind.LOST for violation in report.violations):
            break
        storm.tend()
    return report


def table(seed: int, damage: Damage, report: Report, recorder: Recorder, refusing: Refusing) -> str:
    """What a person wants to know of a run."""
    begin, end = longest_silence(recorder.calls)
    return "\n".join(
        [
            f"crash test      seed {seed}, {SECONDS:.0f} s of load, 2 streams, 2 sinks, 1 api, {len(WEBHOOKS)} webhooks",
            f"operations      {sum(report.operations.values())}: {counts(report.operations)}",
            f"faults          {counts(damage.faults)}",
            f"weather         {counts(damage.weather)}",
            f"receivers       {counts(refusing.kinds)}",
            f"fell            {len(damage.fell)} processes ended by themselves",
            *(f"                {line}" for line in damage.fell),
            f"deliveries      {report.deliveries}; refused {recorder.refused}",
            f"repeats         {report.repeats}",
            f"longest stall   {end - begin:.1f} s without any delivery; meanwhile and shortly before:",
            *(f"                {at - begin:+6.1f} s  {what}" for at, what in damage.told if begin - BEFORE_S < at < end),
            f"longest wait    {longest_wait_s(recorder.calls):.1f} s from Kafka taking a mutation to the first arrival",
            f"violations      {len(report.violations)}: {str(report).splitlines()[0]}",
        ]
    )


def counts(of: Mapping[Any, int]) -> str:
    """How many of each kind, in one line."""
    return ", ".join(f"{kind} {count}" for kind, count in sorted(of.items()))


def longest_silence(calls: Sequence[Call]) -> tuple[float, float]:
    """From a call to the next one, the longest time there was, in seconds since 1970."""
    gaps = ((sooner.at, later.at) for sooner, later in itertools.pairwise(calls))
    return max(gaps, key=lambda gap: gap[1] - gap[0], default=(0.0, 0.0))


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
