"""Fixtures for tests that need a Kafka, and how many examples the property tests try."""

from __future__ import annotations

import logging
import os
import sys
import uuid
from collections.abc import Callable, Iterator

import pytest
from hypothesis import settings
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

from tests.broker import Broker, BrokerMissing, open_broker, without_broker

# A counterexample of a rule that held yesterday is looked for in every run a little; LIVEHOOK_TEST_EXAMPLES=1000 looks for longer.
# A busy machine is no reason for a test to fail: no deadline.
settings.register_profile("livehook", max_examples=int(os.environ.get("LIVEHOOK_TEST_EXAMPLES", "25")), deadline=None)
settings.load_profile("livehook")


Say = Callable[[str], None]


class OneForKafka(LoadScopeScheduling):  # type: ignore[misc]
    """All that needs Kafka goes to one of the two processes of `make test`: it mostly waits, while the other one computes."""

    def _split_scope(self, nodeid: str) -> str:
        return "tests/integration" if nodeid.startswith("tests/integration/") else nodeid.partition("::")[0]


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> OneForKafka:
    """How pytest-xdist shares the tests out."""
    return OneForKafka(config, log)


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str]) -> Say:
    """Writes a text where people see it, whether the test fails or not."""

    def write(text: str) -> None:
        with capsys.disabled():
            sys.stdout.write(f"\n{text}\n")

    return write


@pytest.fixture(autouse=True)
def _logging_as_it_was() -> Iterator[None]:
    """A program that was run within a test leaves its handler behind, which writes to a stream that ends with the test."""
    root = logging.getLogger()
    before = root.handlers[:], root.level
    yield
    root.handlers, root.level = before


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
