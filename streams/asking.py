"""Questions to Kafka that may wait: a broker that is away is asked again, for what the streams have to do is of no use without it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import Executor
from typing import TypeVar

from schemas.errors import Unavailable

logger = logging.getLogger(__name__)

T = TypeVar("T")

AGAIN_S = 1.0


async def answered(ask: Callable[..., T], *what: object, thread: Executor | None = None) -> T:
    """
    What ``ask`` returns, called in a thread, and again for as long as Kafka is away.

    Without limit: who does not want to wait any longer cancels it, and whether Kafka answers others is looked after by the watchdog.
    Args:    thread: where it is called; None: in any.
    """
    while True:
        try:
            return await asyncio.get_running_loop().run_in_executor(thread, ask, *what)
        except Unavailable as error:
            logger.info("asking Kafka again: %s", error)
            await asyncio.sleep(AGAIN_S)
