"""
What the result of a call means for its lane as a whole: breaker, pace and retry policy in one judgement.

In: a result. Out: what becomes of the delivery, whose earlier attempts do not count after all, and whether the endpoint went down or came
back. Pure; times are seconds since 1970, chance is passed in. Called by work.py for every call.
"""

from __future__ import annotations

import random
from collections.abc import Hashable, Mapping
from enum import Enum, auto

import msgspec

from connectors.webhook.breaker import Breaker
from connectors.webhook.calls import Failure, Response
from connectors.webhook.pace import PAUSING, SLOWING, Pace
from connectors.webhook.parking import Place
from connectors.webhook.retry import DELIVERED, Decision, Disable, Returned, Schedule, decide, error_of, retry_after_s
from schemas.attempts import ErrorCode

WITHOUT_CONNECTION = frozenset({ErrorCode.DNS, ErrorCode.CONNECT, ErrorCode.TLS, ErrorCode.EGRESS})
NOBODY: Mapping[Place, int] = {}


class Turn(Enum):
    """A change for all of a lane's deliveries."""

    DOWN = auto()
    UP = auto()


class Policy(msgspec.Struct, frozen=True):
    """What the webhook says about failures: when to try again, and how long an endpoint may be down."""

    schedule: Schedule
    disable_after_s: float
    disable_after: str = ""


class Verdict(msgspec.Struct, frozen=True):
    """``forgiven``: so many attempts of these places do not count, that of the delivery itself not among them."""

    decision: Decision
    turn: Turn | None = None
    forgiven: Mapping[Place, int] = NOBODY


_WELL, _UP = Verdict(DELIVERED), Verdict(DELIVERED, Turn.UP)


class Health:
    """
    Of one endpoint, as its lane sees it.

    Args:  since: no call had succeeded since then when the lane was taken over, and it was down.
    """

    def __init__(self, rng: random.Random, *, since: float | None = None) -> None:
        self._rng = rng
        self.breaker = Breaker(rng, since=since)
        self.pace = Pace()

    @property
    def is_down(self) -> bool:
        """Whether it fails for everybody: nothing goes out but probes."""
        return not self.breaker.is_closed

    @property
    def next_probe_at(self) -> float | None:
        """When it is asked next; None while it is not down, or is being asked."""
        at = self.breaker.next_probe_at
        return None if at is None else max(at, self.pace.resume_at)

    def next_call_at(self, now: float) -> float | None:
        """When it is called next, while it is not to be called: it is down, or has asked for a pause. None: it may be called."""
        return self.pace.resume_at if not self.is_down and self.pace.resume_at > now else self.next_probe_at

    def room(self, now: float) -> int | None:
        """How many calls may start now; None: as many as you like."""
        pace, breaker = self.pace.allowed(now), self.breaker.room(now)
        return breaker if pace is None else pace if breaker is None else min(pace, breaker)

    def due(self, now: float) -> float:
        """When the next call may start, if nothing else happens."""
        probe_at = self.next_probe_at
        return self.pace.due(now) if probe_at is None else max(probe_at, self.pace.due(now))

    def started(self, place: Place) -> None:
        """That delivery is being sent."""
        self.breaker.started(place)

    def abandoned(self, place: Place) -> None:
        """Its call has ended without a result."""
        self.breaker.abandoned(place)

    def judge(self, result: Response | Failure, place: Place, document: Hashable, attempt: int, policy: Policy, *, now: float) -> Verdict:
        """
        What follows from the result of an attempt.

        Args:        document: whom the delivery is about. attempt: from 1.
        Guarantees:  while the endpoint is down nothing is dead-lettered, but for what no endpoint could be sent.
        """
        error = error_of(result)
        if error is None:
            self.pace.well(now)
            return _UP if self.breaker.succeeded() else _WELL
        decision = decide(result, attempt, policy.schedule, now, self._rng)
        if isinstance(decision, Disable) or error.code is ErrorCode.TEMPLATE:
            self.breaker.abandoned(place)
            return Verdict(decision)
        self._mind(result, document, now)
        without_connection = error.code in WITHOUT_CONNECTION
        blamed = self.breaker.failed(now, place, document, without_connection=without_connection)
        if blamed is not None:
            forgiven = {**blamed, place: blamed[place] - 1}
            return Verdict(Returned(self.next_probe_at or now), Turn.DOWN, forgiven)
        if not self.is_down:
            return Verdict(decision)
        if self.breaker.since is not None and now - self.breaker.since >= policy.disable_after_s:
            return Verdict(Disable(f"no call has succeeded for {policy.disable_after}; the last error: {error.detail}"))
        return Verdict(Returned(self.next_probe_at or now))

    def _mind(self, result: Response | Failure, document: Hashable, now: float) -> None:
        if not isinstance(result, Response):
            return
        if result.status in SLOWING and not self.is_down:  # a probe alone cannot be too much
            self.pace.slow(now)
        if result.status in PAUSING and (wait_s := retry_after_s(result, now)):
            self.pace.ask(document, now + wait_s)
