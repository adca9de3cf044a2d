"""
Whether an endpoint fails for everybody, and when it is asked again.

A document that fails is parked and comes to its dead letter; an endpoint that fails must cost no delivery anything. So after
CONNECTION_ERRORS errors without a connection in a row, or when the last ATTEMPTS attempts over at least DOCUMENTS documents failed,
whatever the status, the breaker opens: the lane pauses, one call at a time probes the endpoint at growing gaps, and no attempt counts from
the last success on. Pure; times are seconds since 1970, chance is passed in. Called by work.py. Source: docs/explanation/lanes.md.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Hashable, Mapping
from enum import StrEnum

from connectors.webhook.parking import Place

CONNECTION_ERRORS = 5
ATTEMPTS = 20
DOCUMENTS = 5
GAP_S_MIN = 1.0
GAP_S_MAX = 300.0
GAP_JITTER = 0.2
BLAMED_MAX = 10_000


class BreakerState(StrEnum):
    """As users see it."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"


class Breaker:
    """
    Args:  since: it was open when the lane was taken over, and no call had succeeded since then; it is probed at once.
    """

    def __init__(self, rng: random.Random, *, since: float | None = None) -> None:
        self.state = BreakerState.CLOSED if since is None else BreakerState.OPEN
        self.since = since  # of the first failure after the last success
        self._rng = rng
        self._probe_at = 0.0
        self._gap_s = GAP_S_MIN
        self._probe: Place | None = None
        self._without_connection = 0
        self._recent: deque[Hashable] = deque(maxlen=ATTEMPTS)
        self._blamed: dict[Place, int] = {}

    @property
    def is_closed(self) -> bool:
        """Whether calls go out as usual."""
        return self.state is BreakerState.CLOSED

    @property
    def next_probe_at(self) -> float | None:
        """When the endpoint is asked next; None while it is not in trouble, or is being asked."""
        return self._probe_at if self.state is BreakerState.OPEN else None

    def room(self, now: float) -> int | None:
        """How many calls may start now; None: as many as you like."""
        if self.state is BreakerState.CLOSED:
            return None
        return int(self.state is BreakerState.OPEN and now >= self._probe_at)

    def started(self, place: Place) -> None:
        """A call has begun."""
        if self.state is BreakerState.OPEN:
            self.state, self._probe = BreakerState.HALF_OPEN, place

    def abandoned(self, place: Place) -> None:
        """That call has ended without a result."""
        if self._probe == place and self.state is BreakerState.HALF_OPEN:
            self.state, self._probe = BreakerState.OPEN, None

    def succeeded(self) -> bool:
        """A call was answered with success; whether that closes the breaker."""
        if self.since is None:  # nothing has failed since the last success
            return False
        was_closed = self.is_closed
        self.reset()
        return not was_closed

    def failed(self, now: float, place: Place, document: Hashable, *, without_connection: bool) -> Mapping[Place, int] | None:
        """
        A call has failed.

        Returns:  when that opens the breaker, how many attempts of which deliveries are not to be counted; None: it does not.
        """
        if not self.is_closed:
            if self._probe == place:
                self._wait(now)
            return None
        self.since = self.since or now
        self._without_connection = self._without_connection + 1 if without_connection else 0
        self._recent.append(document)
        self._blame(place)
        if not self._is_down():
            return None
        self._wait(now)
        blamed, self._blamed = self._blamed, {}
        return blamed

    def nudge(self) -> None:
        """The webhook was edited: ask at once whether that has helped."""
        self._gap_s, self._probe_at = GAP_S_MIN, 0.0

    def reset(self) -> None:
        """As if nothing had happened."""
        self.state, self.since, self._probe = BreakerState.CLOSED, None, None
        self._gap_s, self._without_connection = GAP_S_MIN, 0
        self._recent.clear()
        self._blamed.clear()

    def _is_down(self) -> bool:
        if self._without_connection >= CONNECTION_ERRORS:
            return True
        return len(self._recent) == ATTEMPTS and len(set(self._recent)) >= DOCUMENTS

    def _blame(self, place: Place) -> None:
        self._blamed[place] = self._blamed.get(place, 0) + 1
        if len(self._blamed) > BLAMED_MAX:  # fewer than DOCUMENTS documents fail, and no other is there: one delivery after the other
            del self._blamed[next(iter(self._blamed))]

    def _wait(self, now: float) -> None:
        self.state, self._probe = BreakerState.OPEN, None
        self._probe_at = now + self._gap_s * self._rng.uniform(1 - GAP_JITTER, 1 + GAP_JITTER)
        self._gap_s = min(2 * self._gap_s, GAP_S_MAX)
