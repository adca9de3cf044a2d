"""Attempts and dead letters made up for tests of the activity log."""

from __future__ import annotations

from typing import Any

import msgspec

from connectors.activity.model import Batch, Item, Letter, Place, Projected
from connectors.activity.projection import project_attempts
from schemas.attempts import Attempt, AttemptError, ErrorCode, Exchanged, Outcome, attempt_id
from schemas.positions import Position
from schemas.records import encode_attempt

ATTEMPTS: Place = ("livehook.attempts", 0)
LETTERS: Place = ("livehook.dead-letters", 0)
START_US = 1_790_000_000_000_000


def attempt(number: int, *, outcome: Outcome = Outcome.DELIVERED, **fields: Any) -> Attempt:
    """The attempt that was started ``number`` seconds after START_US."""
    is_delivered = outcome is Outcome.DELIVERED
    started_us = START_US + number * 1_000_000
    made = Attempt(
        id=attempt_id(started_us, number),
        webhook="adults",
        delivery_id=f"msg_{number}",
        collection="people",
        document=f"people/{number}",
        match="update",
        txn_id=started_us,
        version=number + 1,
        offset=str(number),
        attempt=1,
        started_us=started_us,
        duration_us=1_500,
        outcome=outcome,
        request=Exchanged(
            {"webhook-id": f"msg_{number}"}, b'{"name":"Susan"}', body_truncated=False, method="POST", url="https://example.com/hook"
        ),
        response=Exchanged({}, b"fine" if is_delivered else b"Busy", body_truncated=False, status=200 if is_delivered else 503),
        error=None if is_delivered else AttemptError(ErrorCode.STATUS, "503 Service Unavailable"),
        next_attempt_us=started_us + 5_000_000 if outcome is Outcome.RETRY else None,
    )
    return msgspec.structs.replace(made, **fields)


def letter(offset: int, **fields: Any) -> Letter:
    """The dead letter at an offset of partition 0, written that many seconds after START_US."""
    made = Letter(
        Position(0, offset), START_US + offset * 1_000_000, "invalid", "method must be upsert", "livehook.mutations/1/7", None,
        b"people/a", b'{"method":"insert"}',
    )  # fmt: skip
    return msgspec.structs.replace(made, **fields)


def batch(*items: Item | Attempt, place: Place = ATTEMPTS, first: int = 0) -> Batch:
    """These, one after the other in one partition."""
    rows = [project_attempts(encode_attempt(item)) if isinstance(item, Attempt) else item for item in items]
    return Batch([Projected(place, first + index, row) for index, row in enumerate(rows)], {place: first + len(rows)})
