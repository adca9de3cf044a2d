"""The event loops that contract tests run on: the engines on the one of production, too; and an API on a fake Kafka."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping

import httpx
import pytest
import uvloop

from livehook.api.testing import FakeKafka
from tests.api import TOPICS, client


def pytest_asyncio_loop_factories(config: pytest.Config, item: pytest.Item) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """uvloop beside asyncio where connections are made and lost."""
    both: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}
    return both if item.path.name == "test_sender.py" else {"asyncio": asyncio.new_event_loop}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Nothing runs httpx on uvloop."""
    items[:] = [item for item in items if "[uvloop-httpx" not in item.nodeid]


@pytest.fixture
def kafka() -> FakeKafka:
    """In memory."""
    return FakeKafka(TOPICS)


@pytest.fixture
async def api(kafka: FakeKafka) -> AsyncIterator[httpx.AsyncClient]:
    """A client of an API on it."""
    async with client(kafka) as connected:
        yield connected
