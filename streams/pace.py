"""
How fast backfills may go: they take what the live flow leaves, and a tenth when it leaves nothing.

Pure but for two clocks, which are passed in. Called by backfilling.py.
"""

from __future__ import annotations

import time
from collections.abc import Callable

SHARE_MIN = 0.1
SHARE_MAX = 0.8
WINDOW_S = 0.25
REST_S_MAX = 0.5


class Pace:
    """
    Of one event loop, which does the live work and the backfills.

    Args:  now: wall time, s. busy: processor time of the loop's thread, s.
    """

    def __init__(self, *, now: Callable[[], float] = time.perf_counter, busy: Callable[[], float] = time.thread_time) -> None:
        self._now, self._busy = now, busy
        self._share = SHARE_MIN
        self._since = now(), busy()
        self._spent_s = 0.0

    def rest_s(self, spent_s: float) -> float:
        """How long backfills are to rest after they kept the loop busy for so long."""
        self._spent_s += spent_s
        self._measure()
        return min(spent_s * (1 - self._share) / self._share, REST_S_MAX)

    def _measure(self) -> None:
        """What the loop did besides, in the last window: the rest is free."""
        now, busy = self._now(), self._busy()
        wall_s, busy_s = now - self._since[0], busy - self._since[1]
        if wall_s < WINDOW_S:
            return
        live = max(busy_s - self._spent_s, 0.0) / wall_s
        self._share = min(max(SHARE_MAX - live, SHARE_MIN), SHARE_MAX)
        self._since, self._spent_s = (now, busy), 0.0
