"""Tasks that nobody waits for: one that ends by an exception is no secret."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any


def in_background(work: Coroutine[Any, Any, None], *, name: str, fail: Callable[[BaseException], None]) -> asyncio.Task[None]:
    """
    A task that may end, or be cancelled; with what else it ends, the process cannot go on.

    Args:  fail: called with the exception.
    """
    task = asyncio.create_task(work, name=name)

    def ended(_: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            fail(error)

    task.add_done_callback(ended)
    return task
