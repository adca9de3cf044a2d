"""Tasks beside the main one: each is kept until it has ended, and what one raises is told. Used by sink.py, in the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

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
