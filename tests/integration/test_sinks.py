"""
Sinks that join, leave, are killed and are frozen under load: nothing is lost, first arrivals are in order, and repeats stay few.

``LIVEHOOK_FROZEN_S=90`` freezes for longer; the session timeout of a sink is 30 s.
"""

from __future__ import annotations

import os
import random
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from connectors.webhook.testing import Answer
from tests.broker import Broker
from tests.chaos.checker import Webhook, check
from tests.integration.cluster import Cluster
from tests.integration.recorder import Recorder, Writer, arrival_of

FROZEN_S = float(os.environ.get("LIVEHOOK_FROZEN_S", "40"))
RATE = 40
QUIET_S = 3.0
SETTLE_S = 60.0
NAMES = [f"w{number}" for number in range(12)]
# At each kill: what was under way, and what was finished since the last commit (half a second, and the time that a commit takes).
UNCOMMITTED_S = 2.0


@pytest.fixture
def cluster(kafka: Broker, tmp_path: Path, chance: random.Random) -> Iterator[Cluster]:
    """One streams worker, two sinks and an API, on topics of their own."""
    prefix = f"sinks-{uuid.uuid4().hex[:8]}."
    with Cluster(tmp_path, kafka.bootstrap_servers, chance=chance, sinks=2, prefix=prefix) as cluster:
        yield cluster


class Load:
    """Mutations at a steady pace, in a thread of its own."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="load")
        self._thread.start()

    def _run(self) -> None:
        number = 0
        while not self._over.wait(1 / RATE):
            number += 1
            self._writer.write(f"people/{number % 23}", "upsert", {"_id": str(number % 23), "n": number})

    def stop(self) -> None:
        """And wait for every outcome."""
        self._over.set()
        self._thread.join()
        self._writer.flush()


@pytest.mark.timeout(FROZEN_S + SETTLE_S + 180)
def test_sinks_come_and_go(cluster, say):
    """One joins, one is killed and comes back, one stops and comes back, one is frozen until others have its lanes, and wakes up."""
    with Recorder(lambda call: Answer(delay_s=0.02)) as recorder:
        for name in NAMES:
            cluster.put_webhook(name, collections=["people"], url=f"{recorder.url}/{name}")
        writer = Writer(cluster.bootstrap_servers, cluster.topics.mutations.name)
        load = Load(writer)
        counts = {}

        def repeats() -> int:
            calls = list(recorder.calls)  # it grows meanwhile
            return len(calls) - len({(call.target, call.headers["webhook-id"]) for call in calls})

        def after(what: str, seconds: float) -> None:
            time.sleep(seconds)  # under load; how long is part of what is tested
            counts[what] = repeats()

        try:
            first, second = cluster.sinks
            after("two sinks", 4)
            third = cluster.add("sink-3", "sink")
            third.start()
            third.wait_ready()
            after("a third one joined", 6)
            first.kill()
            first.start()
            first.wait_ready()
            after("one was killed", 8)
            assert 0 == second.stop()
            second.start()
            second.wait_ready()
            after("one stopped in order", 8)
            third.freeze()
            after("one was frozen", FROZEN_S)
            third.thaw()
            after("it woke up", 6)
        finally:
            load.stop()
        recorder.wait_quiet(QUIET_S, SETTLE_S)
        report = check(writer.operations, map(arrival_of, recorder.calls), [Webhook(name, lambda document: True) for name in NAMES])
        say(
            "\n".join(
                [f"repeats until {what}: {count}" for what, count in counts.items()] + [f"deliveries {report.deliveries}", str(report)]
            )
        )
    assert [] == list(report.violations), str(report)
    assert counts["a third one joined"] == 0
    assert counts["one stopped in order"] == counts["one was killed"]
    assert report.repeats <= 2 * RATE * len(NAMES) * UNCOMMITTED_S
