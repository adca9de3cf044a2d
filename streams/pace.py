"""
How fast backfills may go: they take what the live flow leaves, and a tenth when it leaves nothing; more, where a tenth is too little ever
to catch up.

Pure but for two clocks, which are passed in. Called by the backfills (backfill_run.py, backfill_turns.py).
"""

from __future__ import annotations

import time
from collections.abc import Callable

SHARE_MIN = 0.1
SHARE_MAX = 0.8
WINDOW_S = 0.25
REST_S_MAX = 0.5
URGED_S = 30.0
URGED_BY = 1.5
URGED_MAX = 0.5


class Pace:
    """
    Of one event loop, which does the live work and the backfills.

    Args:  now: wall time, s. busy: processor time of the loop's thread, s.
    """

    def __init__(self, *, now: Callable[[], float] = time.perf_counter, busy: Callable[[], float] = time.thread_time) -> None:
        self._now, self._busy = now, busy
        self._free = 0.0
        self._since = now(), busy()
        self._spent_s = 0.0

    def rest_s(self, spent_s: float, least: float = SHARE_MIN) -> float:
        """How long backfills are to rest after they kept the loop busy for so long. ``least``: the share that they have in any case."""
        self._spent_s += spent_s
        self._measure()
        share = min(max(self._free, least), SHARE_MAX)
        return min(spent_s * (1 - share) / share, REST_S_MAX)

    def _measure(self) -> None:
        """What the loop did besides, in the last window: the rest is free."""
        now, busy = self._now(), self._busy()
        wall_s, busy_s = now - self._since[0], busy - self._since[1]
        if wall_s < WINDOW_S:
            return
        live = max(busy_s - self._spent_s, 0.0) / wall_s
        self._free = SHARE_MAX - live
        self._since, self._spent_s = (now, busy), 0.0


class Urgency:
    """
    The least share of the loop for one backfill: more, every time that it has not come nearer to its end for URGED_S; up to half.

    A backfill that is slower than the live flow before it would never end, and the webhook would get nothing new for as long.
    """

    def __init__(self) -> None:
        self._share = SHARE_MIN
        self._least_left: int | None = None
        self._since_s = 0.0

    def share(self, left: int, now_s: float) -> float:
        """How much, now that so many changes are left."""
        if self._least_left is None or left < self._least_left:
            self._least_left, self._since_s = left, now_s
        elif now_s - self._since_s >= URGED_S:
            self._share = min(self._share * URGED_BY, URGED_MAX)
            self._since_s = now_s
        return self._share
