"""
What follows from an attempt: the whole policy of retries, as a pure function of its result.

2xx is success and 3xx failure; 410 disables; every other answer and error is retried on the schedule, then dead-lettered. Only what we
cannot send ourselves is permanent. Called by health.py after every call. Source: docs/reference/webhook.md, "Retry".
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime

from connectors.webhook.calls import Failure, Response
from schemas.attempts import AttemptError, ErrorCode, Outcome
from schemas.durations import seconds
from schemas.errors import Reason
from schemas.webhooks import Retry

RETRY_AFTER_S_MAX = 24 * 3_600.0
GONE = 410


@dataclass(frozen=True, slots=True)
class Schedule:
    """``waits_s[n - 1]`` is the wait before attempt n, each ± ``jitter``; there are as many attempts as waits."""

    waits_s: tuple[float, ...]
    jitter: float = 0.0

    def wait_s(self, attempt: int, rng: random.Random) -> float:
        """The wait before that attempt, with its jitter."""
        wait_s = self.waits_s[attempt - 1]
        return wait_s and wait_s * rng.uniform(1 - self.jitter, 1 + self.jitter)


@dataclass(frozen=True, slots=True)
class Delivered:
    """The receiver has it."""


@dataclass(frozen=True, slots=True)
class RetryAt:
    """The same delivery again at ``at``, seconds since 1970."""

    at: float


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """No further attempt."""

    reason: Reason
    detail: str


@dataclass(frozen=True, slots=True)
class Disable:
    """The endpoint wants no more deliveries at all; this one stays where it is and does not count as attempted."""

    reason: str


@dataclass(frozen=True, slots=True)
class Returned:
    """The endpoint is down, which is not the delivery's fault: it goes back to the lane, uncounted; ``at`` the endpoint is asked again."""

    at: float


Decision = Delivered | RetryAt | DeadLetter | Disable | Returned
DELIVERED = Delivered()
OUTCOMES = {Delivered: Outcome.DELIVERED, RetryAt: Outcome.RETRY, Disable: Outcome.RETRY, Returned: Outcome.RETRY, DeadLetter: Outcome.DEAD}


def schedule_of(retry: Retry) -> Schedule:
    """
    The schedule of a webhook.

    Raises:  BadDuration (ValueError).
    """
    return Schedule(tuple(seconds(wait) for wait in retry.schedule), retry.jitter)


def decide(result: Response | Failure, attempt: int, schedule: Schedule, now: float, rng: random.Random) -> Decision:
    """
    What follows from the result of attempt number ``attempt`` (from 1).

    Args:        now: seconds since 1970.
    Guarantees:  a Retry-After of up to 24 hours is never shortened; no more attempts than the schedule has waits.
    """
    error = error_of(result)
    if error is None:
        return DELIVERED
    if isinstance(result, Response) and result.status == GONE:
        return Disable("the endpoint answered 410 Gone")
    if error.code is ErrorCode.TEMPLATE:
        return DeadLetter(Reason.TEMPLATE, error.detail)
    if attempt >= len(schedule.waits_s):
        return DeadLetter(Reason.EXHAUSTED, f"attempt {attempt} of {len(schedule.waits_s)} failed: {error.detail}")
    return RetryAt(now + max(schedule.wait_s(attempt + 1, rng), retry_after_s(result, now)))


def error_of(result: Response | Failure) -> AttemptError | None:
    """Why the attempt failed; None: it did not."""
    if isinstance(result, Failure):
        return AttemptError(result.code, result.detail)
    if 200 <= result.status < 300:
        return None
    return AttemptError(ErrorCode.STATUS, f"status {result.status}")


def retry_after_s(result: Response | Failure, now: float) -> float:
    """What the receiver asks for, in seconds or as a date (RFC 9110, 10.2.3); 0 when it asks for nothing that can be read."""
    text = result.header("retry-after") if isinstance(result, Response) else None
    if text is None:
        return 0.0
    text = text.strip()
    if text.isascii() and text.isdigit():
        return min(float(text), RETRY_AFTER_S_MAX)
    try:
        at = parsedate_to_datetime(text)
        if at.tzinfo is None:
            at = at.replace(tzinfo=UTC)  # an HTTP date is in UTC; "-0000" leaves it open
        return min(max(at.timestamp() - now, 0.0), RETRY_AFTER_S_MAX)
    except (ValueError, OverflowError):  # years and zones that no calendar has
        return 0.0
