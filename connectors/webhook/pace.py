"""
How fast a lane may go, as its endpoint shows: slower after 429, 502, 503 and 504, faster again with every second that goes well.

One factor holds for the webhook's concurrency and for the calls a second that the lane made when it was first told to slow down. Once a
second it is lowered by half of the share of calls that were too much (all of them: it is halved; one in twenty: by a fortieth, so that an
endpoint that is merely shaky is not starved), and raised by a twentieth when any went well. Besides, the time before which the endpoint
wants no calls at all (Retry-After). Source: Data Center TCP (RFC 8257, 3.3) for the decrease by share.
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
        self._too_much = self._went_well = 0  # since the factor was adjusted
        self._adjusted_at = float("-inf")
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

    def slow(self, now: float) -> None:
        """A call was told that it is too much."""
        if self._too_much == self._went_well == 0:
            self._adjusted_at = now
        self._too_much += 1
        self._adjust(now)

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
        if self._too_much or self.factor < 1.0:
            self._went_well += 1
            self._adjust(now)

    def _adjust(self, now: float) -> None:
        if now - self._adjusted_at < STEP_S:
            return
        if self._rate is None:
            self._full_per_s = max(self._started, self._started_before, RATE_MIN)
        share = self._too_much / (self._too_much + self._went_well)
        factor = self.factor * (1 - DECREASE * share) + (INCREASE if self._went_well else 0.0)
        self.factor = min(max(factor, FACTOR_MIN), 1.0)
        self._too_much = self._went_well = 0
        self._adjusted_at = now
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
