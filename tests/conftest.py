"""Fixtures for tests that need a Kafka; the others need none of these."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator

import pytest

from tests.broker import Broker, BrokerMissing, open_broker, without_broker


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """A real Kafka for the whole session (tests/broker.py). Without one: failed where CI is set, skipped elsewhere."""
    try:
        with open_broker(os.environ.get("LIVEHOOK_TEST_BROKER", ""), tmp_path_factory.mktemp("kafka")) as broker:
            yield broker
    except BrokerMissing as missing:
        without_broker(str(missing))


@pytest.fixture
def topic_prefix() -> str:
    """Begins the names of one test's topics and groups; no other test's begin like this."""
    return f"test-{uuid.uuid4().hex[:12]}."
