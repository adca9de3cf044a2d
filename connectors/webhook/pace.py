"""
How fast a lane may go, as its endpoint shows: slower after 429, 502, 503 and 504, faster again with every second that goes well.

Additive increase, multiplicative decrease, of one factor that holds for the webhook's concurrency and for the calls a second that the lane
made when it was first told to slow down. Besides, the time before which the endpoint wants no calls at all (Retry-After).
Pure; times are seconds since 1970. Called by work.py. Source: docs/explanation/lanes.md.
"""

from __future__ import annotations

from collections.abc import Hashable

from connectors.webhook.rates import Rate

SLOWING = frozenset({429, 502, 503, 504})
PAUSING = frozenset({429, 503})
FACTOR_MIN = 0.01
DECREASE = 0.5
INCREASE = 0.05
STEP_S = 1.0
RATE_MIN = 1.0
RATE_FLOOR = 0.1


class Pace:
    """Of one lane."""

    def __init__(self) -> None:
        self.factor = 1.0
        self.resume_at = 0.0
        self._rate: Rate | None = None
        self._full_per_s = RATE_MIN
        self._second = 0
        self._started = self._started_before = 0
        self._slowed_at = self._quickened_at = float("-inf")
        self._asker: Hashable = None

    def concurrency(self, wanted: int) -> int:
        """How many calls there may be at a time."""
        return max(1, int(wanted * self.factor))

    def allowed(self, now: float) -> int | None:
        """How many calls may start now; None: as many as you like."""
        if now < self.resume_at:
            return 0
        return None if self._rate is None else self._rate.allowed(now)

    def due(self, now: float) -> float:
        """When the next call will be allowed."""
        if now < self.resume_at or self._rate is None:
            return self.resume_at
        return self._rate.due(now)

    def started(self, now: float, count: int) -> None:
        """So many calls did; no more than were allowed."""
        second = int(now)
        if second != self._second:
            self._started_before = self._started if second == self._second + 1 else 0
            self._second, self._started = second, 0
        self._started += count
        if self._rate is not None:
            self._rate.started(count)

    def slow(self, now: float, started: float) -> None:
        """A call that began then was told that it is too much; calls that began before the last decrease say nothing new."""
        if started < self._slowed_at:
            return
        if self._rate is None:
            self._full_per_s = max(self._started, self._started_before, RATE_MIN)
        self.factor = max(self.factor * DECREASE, FACTOR_MIN)
        self._slowed_at = self._quickened_at = now
        self._limit(now)

    def ask(self, document: Hashable, until: float) -> None:
        """
        The endpoint wants no call before that time.

        When a second document is told so too, with no success between them, it is the endpoint and the lane pauses; one that is told
        alone waits alone.
        """
        if self._asker is not None and self._asker != document:
            self.resume_at = max(self.resume_at, until)
        self._asker = document

    def well(self, now: float) -> None:
        """A call was answered with success."""
        self._asker = None
        if self.factor < 1.0 and now - self._quickened_at >= STEP_S:
            self.factor = min(self.factor + INCREASE, 1.0)
            self._quickened_at = now
            self._limit(now)

    def _limit(self, now: float) -> None:
        if self.factor == 1.0:
            self._rate = None
            return
        per_s = max(self._full_per_s * self.factor, RATE_FLOOR)
        if self._rate is None:
            self._rate = Rate(per_s, now)
        else:
            self._rate.change(per_s, now)
