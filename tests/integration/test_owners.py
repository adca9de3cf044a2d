"""
A streams worker that was frozen wakes up after others took its partitions over, and still believes that it owns them.

What it had in hand it writes to ``changes`` late, behind what its successor wrote. That must harm nobody: not receivers, not a later fold
of the topic, and not the fold of what compaction leaves, which keeps the last record of each document.
"""

from __future__ import annotations

import itertools
import random
import threading
import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Self

import pytest
from confluent_kafka import Message

from connectors.kafka.admin import offsets
from connectors.kafka.config import KafkaConfig
from connectors.webhook.testing import Call
from schemas.changes import Change
from schemas.records import decode_change
from tests.broker import Broker
from tests.chaos.checker import Webhook, check, folded
from tests.chaos.report import Kind, Report
from tests.integration.cluster import Cluster, Role, wait_until
from tests.integration.recorder import Recorder, Writer, arrival_of
from tests.integration.topics import configured, id_at, records

DOCUMENTS = 120
MUTATIONS = 12_000
AWAKE_TRIES = 4
BUSY = 1_500  # changes after which the workers are in the middle of their backlog
SESSION_S = 10.0
TAKEN_OVER_S = 60.0
ARRIVE_S = 90.0
COMPACTED_S = 120.0
QUIET_S = 2.0

COMPACTING = {
    "segment.ms": "1000",
    "min.cleanable.dirty.ratio": "0.01",
    "min.compaction.lag.ms": "0",
    "max.compaction.lag.ms": "1000",
}
EVERYTHING = Webhook("everything", lambda document: True)


@pytest.fixture
def cluster(kafka: Broker, tmp_path: Path, chance: random.Random) -> Iterator[Cluster]:
    """Two streams workers, a sink and an API, on topics of their own."""
    prefix = f"owners-{uuid.uuid4().hex[:8]}."
    with Cluster(tmp_path, kafka.bootstrap_servers, chance=chance, streams=2, prefix=prefix) as cluster:
        yield cluster


class Supervisor:
    """Starts a streams worker again that ended by itself, as production does."""

    def __init__(self, roles: Sequence[Role]) -> None:
        self.ended: list[str] = []
        self._roles = roles
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="supervisor")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._over.wait(0.2):
            for role in self._roles:
                if not role.is_running:
                    self.ended.append(f"{role.name}: {role.last_words()}")
                    role.start()


@pytest.mark.timeout(600)
def test_an_owner_that_wakes_after_the_take_over_harms_nothing(cluster, seed, say):
    """Receivers see every change once and in order, and a worker that knows nothing finds the same documents after compaction."""
    rng = random.Random(seed)
    writer = Writer(cluster.bootstrap_servers, cluster.topics.mutations.name)
    with Recorder() as recorder:
        cluster.put_webhook(EVERYTHING.name, collections=["people"], url=recorder.url)
        with Supervisor(cluster.streams) as supervisor:
            tries = wake_too_late(cluster, recorder, writer, rng)
            assert [] == list(settled(recorder, writer).violations)
        late = late_copies(cluster)
        removed = compact(cluster, writer)
        say(
            f"an owner woke too late {tries} times: {late} late copies in changes, workers ended {len(supervisor.ended)} times\n"
            + "\n".join(f"  {line}" for line in supervisor.ended)
            + f"\ncompaction took away {removed} records"
        )
        start_afresh(cluster)
        for number in range(DOCUMENTS):
            writer.write(f"people/d{number}", "upsert", {"_id": f"d{number}", "afresh": number})
        report = settled(recorder, writer)
    assert [] == list(report.violations), str(report)
    assert late > 0, "no owner wrote anything late: the test has shown nothing"
    assert last_old_values(recorder.calls) == values_before(writer)


def wake_too_late(cluster: Cluster, recorder: Recorder, writer: Writer, rng: random.Random) -> int:
    """
    Freeze a worker that is busy, let the other one take over and finish, wake it; again until it has written something late.

    After it woke each partition gets one mutation of a document that is nowhere else: what the late copies stand behind stays as it is.

    Returns:  how often.
    """
    for number in range(1, AWAKE_TRIES + 1):
        sleeper = cluster.streams[number % 2]
        busy = written_changes(cluster) + BUSY
        write_many(writer, rng)
        wait_until(lambda busy=busy: written_changes(cluster) >= busy, ARRIVE_S, "no worker is busy")  # type: ignore[misc]
        sleeper.freeze()
        assert_taken_over(recorder, writer)
        sleeper.thaw()
        recorder.wait_quiet(QUIET_S, ARRIVE_S)
        nudge(cluster, writer, number)
        settled(recorder, writer)
        wait_until(lambda: all(role.is_running for role in cluster.streams), SESSION_S, "a worker is not started again")
        for role in cluster.streams:
            role.wait_ready()
        if late_copies(cluster):
            break
    return number


def nudge(cluster: Cluster, writer: Writer, number: int) -> None:
    """One change in each partition, of a document of its own."""
    partitions = cluster.topics.partitions
    for partition in range(partitions):
        id_ = id_at(partition, "people", "nudge", partitions)
        writer.write(f"people/{id_}", "upsert", {"_id": id_, "nudge": number})
    writer.flush()


def write_many(writer: Writer, rng: random.Random) -> None:
    """Mutations that all differ, on a few documents; not waiting for their acknowledgements."""
    begun = len(writer.operations)
    for number in range(begun, begun + MUTATIONS):
        id_ = f"d{rng.randrange(DOCUMENTS)}"
        if rng.random() < 0.05:
            writer.write(f"people/{id_}", "remove", None)
        else:
            writer.write(f"people/{id_}", "upsert", {"_id": id_, "n": number, rng.choice("abc"): number})


def assert_taken_over(recorder: Recorder, writer: Writer) -> None:
    """Everything written arrives although one worker is frozen: the other one has its partitions."""
    report = settled(recorder, writer, TAKEN_OVER_S + SESSION_S)
    assert [] == list(report.violations), str(report)


def settled(recorder: Recorder, writer: Writer, timeout_s: float = ARRIVE_S) -> Report:
    """What has arrived once all of it is there; after a while as it is."""
    writer.flush()
    operations = writer.operations
    report: list[Report] = []

    def complete() -> bool:
        recorder.wait_quiet(QUIET_S, timeout_s)
        report.append(check(operations, map(arrival_of, recorder.calls), [EVERYTHING]))
        return not any(violation.kind is Kind.LOST for violation in report[-1].violations)

    try:
        wait_until(complete, timeout_s, "something is missing")
    except TimeoutError:
        return report[-1]
    return report[-1]


def late_copies(cluster: Cluster) -> int:
    """How many records of ``changes`` stand behind a newer one of the same document."""
    found = 0
    for partition in range(cluster.topics.partitions):
        highest: Counter[str] = Counter()
        for change in changes(cluster, partition):
            found += change.version < highest[change.key]
            highest[change.key] = max(highest[change.key], change.version)
    return found


def changes(cluster: Cluster, partition: int) -> Iterator[Change]:
    """What a partition of ``changes`` holds, without marks."""
    for message in stored(cluster, partition):
        record = decode_change(message.value() or b"")
        if isinstance(record, Change):
            yield record


def stored(cluster: Cluster, partition: int) -> list[Message]:
    """Every record of a partition of ``changes``, marks included."""
    return records(cluster.bootstrap_servers, cluster.topics.changes.name, partition)


def written_changes(cluster: Cluster) -> int:
    """How many records were ever written to ``changes``."""
    partitions = [(cluster.topics.changes.name, partition) for partition in range(cluster.topics.partitions)]
    found = offsets(KafkaConfig(bootstrap_servers=cluster.bootstrap_servers), partitions, timeout_s=ARRIVE_S)
    return sum(end for _, end in found.values())


def compact(cluster: Cluster, writer: Writer) -> int:
    """
    Have the broker compact ``changes`` until hardly more is left than one record a document.

    Returns:  how many records it took away.
    """
    numbers = itertools.count(AWAKE_TRIES + 1)

    def kept() -> int:
        return sum(len(stored(cluster, partition)) for partition in range(cluster.topics.partitions))

    def is_compact() -> bool:
        nudge(cluster, writer, next(numbers))  # a segment is only ever closed by the record that begins the next one
        return kept() < 2 * DOCUMENTS

    with configured(cluster.bootstrap_servers, cluster.topics.changes.name, COMPACTING):
        wait_until(is_compact, COMPACTED_S, "changes is not compacted")
    return written_changes(cluster) - kept()


def start_afresh(cluster: Cluster) -> None:
    """All workers are gone, with what they had on disk; one that never was there comes."""
    for role in cluster.streams:
        role.kill()
    fresh = cluster.add("streams-afresh", "streams")
    fresh.start()
    fresh.wait_ready()


def last_old_values(calls: Sequence[Call]) -> dict[str, Any]:
    """The old value of each document's last change."""
    last: dict[str, Any] = {}
    for arrival in map(arrival_of, calls):
        if arrival.new is not None and "afresh" in arrival.new:
            last[arrival.key] = arrival.old
    return last


def values_before(writer: Writer) -> dict[str, Any]:
    """Each document as all but its last operation left it."""
    before: dict[str, Any] = {}
    value: dict[str, Any] = {}
    for operation in writer.operations:
        if operation.value is not None and "afresh" in operation.value:
            before[operation.key] = value.get(operation.key)
        value[operation.key] = folded(value.get(operation.key), operation)
    return before
