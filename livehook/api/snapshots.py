"""
Begins the backfills that follow a live flow: of the present documents, where a sink has put a gap on record; and of a replay that is served
from ``changes``. Called by api_role.py.

Source: docs/explanation/gaps.md, docs/explanation/replay.md.
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
        self._looking = in_background(self._look_again(), name="backfills", fail=self._fail)

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
        for name in self._view.registry.names_owed():
            try:
                await self._register.begin_backfill(name, again=name in self._unfinished)
                self._unfinished.discard(name)
            except (KafkaUnavailable, KafkaRefused, TimeoutError, Problem) as error:
                logger.info("the backfill of webhook %s is begun later: %s", name, error)
                self._unfinished.add(name)
