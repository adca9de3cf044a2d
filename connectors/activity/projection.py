"""
What a record of ``attempts`` or ``dead-letters`` says, as what the activity log keeps of it. Pure.

Records of other kinds and damaged ones are told by a BadRecord; the projector counts them and goes on.
"""

from __future__ import annotations

from collections.abc import Mapping

from connectors.activity.model import AttemptRow, Item, Letter
from connectors.activity.ranks import rank_of
from schemas.attempts import Attempt
from schemas.dead_letters import CONTROL_KEY, decode_control
from schemas.errors import BadRecord, Reason
from schemas.positions import Position
from schemas.records import decode_attempt
from schemas.resends import RESEND, decode_resend
from schemas.topics import Topics

BODY_BYTES_SEARCHED = 200


def project_attempts(value: bytes) -> Item:
    """
    A record of ``attempts``.

    Raises:  BadRecord: unknown-schema, undecodable, invalid.
    """
    if RESEND.wrote(value):
        return decode_resend(value)
    attempt = decode_attempt(value)
    rank = rank_of(attempt.id)
    if rank is None:
        raise BadRecord(Reason.INVALID, f"{attempt.id!r:.60} is no attempt's id")
    return AttemptRow(
        rank,
        attempt.id,
        attempt.webhook,
        attempt.document,
        attempt.outcome.value,
        None if attempt.response is None else attempt.response.status,
        attempt.replay,
        attempt.delivery_id,
        attempt.started_us + attempt.duration_us,
        searched(attempt),
        value,
    )


def project_letters(
    place: Position, key: bytes | None, value: bytes | None, headers: Mapping[str, bytes | None], at_us: int, topics: Topics
) -> Item:
    """
    A record of ``dead-letters``: a letter, or what is to happen to one.

    Raises:  BadRecord: undecodable; neither.
    """
    if "reason" not in headers:
        if key != CONTROL_KEY or value is None:
            raise BadRecord(Reason.UNDECODABLE, "it has no header reason")
        return decode_control(value)
    reason, detail, source = ((headers.get(name) or b"").decode(errors="replace") for name in ("reason", "detail", "source"))
    webhook = topics.webhook_of_lane(source.rsplit("/", 2)[0])
    return Letter(place, at_us, reason, detail, source, webhook, key, value)


def searched(attempt: Attempt) -> str:
    """What ``q`` looks into, in lower case."""
    parts = [attempt.document, attempt.request.url, attempt.error.detail if attempt.error else ""]
    parts += [side.body[:BODY_BYTES_SEARCHED].decode(errors="replace") for side in (attempt.request, attempt.response) if side is not None]
    return "\n".join(parts).lower().replace("\0", " ")  # PostgreSQL's texts hold no NUL
