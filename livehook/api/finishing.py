"""
Finishes what an API that died has left, or what it could not write itself, once that is old enough not to be under way at another one.
Called by api_role.py.

Source: docs/explanation/architecture.md, "What a crash does".
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from connectors.kafka.errors import KafkaRefused, KafkaUnavailable
from livehook.api.register import Register
from livehook.background import in_background

logger = logging.getLogger(__name__)

LOOK_EVERY_S = 10.0


class Finishing:
    """
    Args:  fail: called with what nobody has thought of.
    """

    def __init__(self, register: Register, fail: Callable[[BaseException], None], *, every_s: float = LOOK_EVERY_S) -> None:
        self._register, self._fail, self._every_s = register, fail, every_s
        self._looking: asyncio.Task[None] | None = None

    def start(self) -> None:
        """:meth:`run`, until :meth:`stop`; nothing if it runs already."""
        if self._looking is None or self._looking.done():
            self._looking = in_background(self.run(), name="unfinished revisions", fail=self._fail)

    async def stop(self) -> None:
        """Look no more."""
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.wait([self._looking])

    async def run(self) -> None:
        """Look again and again, until nothing is left."""
        is_done = False
        while not is_done:
            await asyncio.sleep(self._every_s)
            is_done = await self._look()

    async def _look(self) -> bool:
        try:
            return await self._register.finish()
        except (KafkaUnavailable, KafkaRefused, TimeoutError) as error:
            logger.info("what was left unfinished is finished later: %s", error)
            return False
