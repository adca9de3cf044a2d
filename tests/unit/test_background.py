"""Tasks that nobody waits for."""

from __future__ import annotations

import asyncio

import pytest

from connectors.kafka.config import KafkaConfig
from connectors.kafka.errors import KafkaRefused
from livehook import api_role
from livehook.api_role import KafkaPing
from livehook.background import in_background


async def fails(error):
    raise error


async def test_an_exception_is_told():
    """The process must not go on as if the work were done."""
    error, told = ValueError("unexpected"), asyncio.get_running_loop().create_future()
    in_background(fails(error), name="work", fail=told.set_result)
    assert error is await asyncio.wait_for(told, 5)


async def test_an_end_and_a_cancel_are_no_failure():
    """That is how work under way is stopped."""
    failures: list[BaseException] = []
    tasks = [in_background(asyncio.sleep(after_s), name="work", fail=failures.append) for after_s in (0, 60)]
    await tasks[0]
    tasks[1].cancel()
    await asyncio.wait(tasks)
    await asyncio.sleep(0)
    assert [] == failures


def ping(fail):
    return KafkaPing(KafkaConfig(bootstrap_servers="localhost:1"), "t", fail)


async def test_a_refusal_is_an_answer_of_the_ping(monkeypatch):
    """Readiness tells it, and asks again."""
    loop, again, asked = asyncio.get_running_loop(), asyncio.Event(), list[str]()

    def ask(*_, **__):
        asked.append("once more")
        if len(asked) == 2:
            loop.call_soon_threadsafe(again.set)
        raise KafkaRefused("not authorized")

    monkeypatch.setattr(api_role, "partitions_of", ask)
    monkeypatch.setattr(api_role, "PING_S", 0)
    asking = ping(pytest.fail)
    asking.start()
    await asyncio.wait_for(again.wait(), 5)
    asking.stop()
    assert "not authorized" == asking.check()


async def test_a_fault_ends_the_ping_and_the_role(monkeypatch):
    """Readiness would stand still for good."""
    error, told = ValueError("a fault of ours"), asyncio.get_running_loop().create_future()

    def ask(*_, **__):
        raise error

    monkeypatch.setattr(api_role, "partitions_of", ask)
    ping(told.set_result).start()
    assert error is await asyncio.wait_for(told, 5)
