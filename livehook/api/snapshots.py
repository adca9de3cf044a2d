"""
Looks after the gaps that sinks put on record: where the present documents are to follow, their snapshot is begun. Called by api_role.py.

Source: docs/explanation/gaps.md.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from connectors.kafka.errors import KafkaRefused, KafkaUnavailable
from livehook.api.ports import WebhooksView
from livehook.api.problems import Problem
from livehook.api.register import Register
from livehook.background import in_background

logger = logging.getLogger(__name__)

LOOK_EVERY_S = 1.0


class Snapshots:
    """
    Whatever a crash cuts off is taken up again after the next start.

    Args:  fail: called with what nobody has thought of.
    """

    def __init__(self, register: Register, view: WebhooksView, fail: Callable[[BaseException], None]) -> None:
        self._register, self._view, self._fail = register, view, fail
        self._looking: asyncio.Task[None] | None = None
        self._unfinished: set[str] = set()

    def start(self) -> None:
        """Look again and again, until :meth:`stop`."""
        self._looking = in_background(self._look_again(), name="snapshots", fail=self._fail)

    async def stop(self) -> None:
        """Look no more."""
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.wait([self._looking])

    async def _look_again(self) -> None:
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            await self.look()

    async def look(self) -> None:
        """Begin what is to be begun."""
        for name in self._view.registry.names_with_gaps():
            try:
                await self._register.begin_snapshot(name, again=name in self._unfinished)
                self._unfinished.discard(name)
            except (KafkaUnavailable, KafkaRefused, TimeoutError, Problem) as error:
                logger.info("the snapshot of webhook %s is begun later: %s", name, error)
                self._unfinished.add(name)
