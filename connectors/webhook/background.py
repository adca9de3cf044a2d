"""Tasks beside the main one, each kept until it has ended, what one raises told; waits that may end early. Used by sink.py, in the loop."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from connectors.kafka.errors import KafkaUnavailable

logger = logging.getLogger(__name__)

ENDS_S_MAX = 5.0


class Background:
    """
    Args:  failed: told what a task has raised.
    """

    def __init__(self, failed: Callable[[BaseException], None]) -> None:
        self._failed = failed
        self._tasks: set[asyncio.Task[None]] = set()

    def run(self, work: Coroutine[Any, Any, None]) -> None:
        """Until it is done."""
        self._tasks.add(self._watched(work))

    def regularly(self, every_s: float, act: Callable[[], Awaitable[None]]) -> asyncio.Task[None]:
        """Again and again, until whoever called this cancels it."""

        async def forever() -> None:
            while True:
                await asyncio.sleep(every_s)
                await act()

        return self._watched(forever())

    async def end(self) -> None:
        """Wait for what still runs, but not for long."""
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=ENDS_S_MAX)
            for task in late:
                task.cancel()

    def _watched(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._failed(error)


async def unless(event: asyncio.Event, wait: Coroutine[Any, Any, None]) -> bool:
    """Whether the wait has ended before the event came."""
    waiting, coming = asyncio.create_task(wait), asyncio.create_task(event.wait())
    await asyncio.wait({waiting, coming}, return_when=asyncio.FIRST_COMPLETED)
    coming.cancel()
    if not waiting.done():
        waiting.cancel()
        return False
    waiting.result()
    return True


async def while_away(wait: Callable[[], Awaitable[None]]) -> None:
    """Until what is to be known is known; a Kafka that went away meanwhile is waited for."""
    while True:
        try:
            return await wait()
        except KafkaUnavailable as error:
            logger.warning("waiting for Kafka: %s", error)
