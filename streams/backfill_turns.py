"""Whose turn it is to keep the event loop busy, of all backfills of a worker. Called by backfill_run.py."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Hashable, Iterator
from contextlib import contextmanager

from streams.pace import SHARE_MIN, Pace

SLICE_S = 0.005


class Turn:
    """One backfill at a time, with rests. To be held while working, and not while waiting: another one may go on meanwhile."""

    def __init__(self, pace: Pace) -> None:
        self._pace = pace
        self._hurried = 0
        self._lock = asyncio.Lock()
        self._begun = 0.0
        self._least: dict[Hashable, float] = {}

    async def __aenter__(self) -> None:
        await self._lock.acquire()
        self._begun = time.perf_counter()

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                await self.rest()
        finally:
            self._lock.release()

    @contextmanager
    def hurry(self) -> Iterator[None]:
        """The live flow waits: no rests meanwhile."""
        self._hurried += 1
        try:
            yield
        finally:
            self._hurried -= 1

    def urge(self, who: Hashable, share: float | None) -> None:
        """The share of the loop that a backfill must have at least; None: it has ended."""
        if share is None:
            self._least.pop(who, None)
        else:
            self._least[who] = share

    @property
    def is_over(self) -> bool:
        """It has taken long enough, and should rest."""
        return time.perf_counter() - self._begun >= SLICE_S

    async def rest(self) -> None:
        """Let others go on."""
        least = max(self._least.values(), default=SHARE_MIN)
        rest_s = self._pace.rest_s(time.perf_counter() - self._begun, least)
        await asyncio.sleep(0 if self._hurried else rest_s)
        self._begun = time.perf_counter()
