"""What the tests on real processes share: the logs of those processes when a test fails, and a line for the person who runs the tests."""

from __future__ import annotations

import os
import random
import sys
import time
from collections.abc import Callable, Generator

import pytest

from tests.integration.cluster import Cluster

Say = Callable[[str], None]


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str]) -> Say:
    """Writes a text where people see it, whether the test fails or not."""

    def write(text: str) -> None:
        with capsys.disabled():
            sys.stdout.write(f"\n{text}\n")

    return write


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


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Adds the end of every process's log to the report of a test that failed."""
    report = yield
    cluster = getattr(item, "funcargs", {}).get("cluster")
    if report.failed and isinstance(cluster, Cluster):
        report.sections.extend(cluster.log_tails())
    return report
