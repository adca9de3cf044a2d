"""What the tests on real processes share: the logs of those processes when a test fails, and a line for the person who runs the tests."""

from __future__ import annotations

import asyncio
import os
import random
import time
import uuid
from collections.abc import AsyncIterator, Generator, Iterator

import pytest

from connectors.kafka.admin import ensure_topics
from tests.broker import Broker
from tests.conftest import Say
from tests.integration.cluster import Cluster
from tests.integration.installation import Installation
from tests.integration.recorder import Recorder, Writer


@pytest.fixture(scope="session")
def chance() -> random.Random:
    """For what no test depends on, such as ports."""
    return random.Random()


@pytest.fixture
def seed(say: Say) -> int:
    """Of everything in a test that is left to chance: LIVEHOOK_CHAOS_SEED, or a new one, which is printed."""
    found = int(os.environ.get("LIVEHOOK_CHAOS_SEED") or time.time_ns() % 1_000_000)
    say(f"LIVEHOOK_CHAOS_SEED={found}")
    return found


@pytest.fixture(scope="module")
def cluster(kafka: Broker, tmp_path_factory: pytest.TempPathFactory, chance: random.Random) -> Iterator[Cluster]:
    """Two streams workers, a sink and an API, on topics of their own, for the tests of one file."""
    prefix = f"test-{uuid.uuid4().hex[:8]}."
    with Cluster(tmp_path_factory.mktemp("cluster"), kafka.bootstrap_servers, chance=chance, streams=2, prefix=prefix) as cluster:
        yield cluster


@pytest.fixture
def recorder() -> Iterator[Recorder]:
    """A receiver that answers 200."""
    with Recorder() as recorder:
        yield recorder


@pytest.fixture
def writer(cluster: Cluster) -> Writer:
    """A client of Kafka with Java's partitioner."""
    return Writer(cluster.bootstrap_servers, cluster.topics.mutations.name)


@pytest.fixture
async def home(kafka: Broker, topic_prefix: str) -> AsyncIterator[Installation]:
    """The sink's topics, and nobody else."""
    installation = Installation(kafka, topic_prefix)
    topics = installation.topics
    await asyncio.to_thread(
        ensure_topics,
        kafka.config,
        [topics.webhooks, topics.attempts, topics.parked, topics.dead_letters, topics.slots],
        replication=None,
        timeout_s=60,
    )
    installation.producer.start()
    installation.attempts.start()
    yield installation
    await installation.producer.stop(5)
    await installation.attempts.stop(5)


@pytest.fixture
def name() -> str:
    """A webhook's name, and a collection's, that no other test uses."""
    return f"w{uuid.uuid4().hex[:10]}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Adds how every process is, and what it wrote last, to the report of a test that failed."""
    report = yield
    cluster = getattr(item, "funcargs", {}).get("cluster")
    if report.failed and isinstance(cluster, Cluster):
        report.sections.extend(cluster.states())
    return report
