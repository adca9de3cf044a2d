"""
What a record of ``attempts`` or ``dead-letters`` says, as what the activity log keeps of it. Pure.

Records of other kinds and damaged ones are told by a BadRecord; the projector counts them and goes on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from connectors.activity.model import AttemptRow, Item, Letter
from connectors.activity.ranks import rank_of
from schemas.attempts import Attempt, Outcome
from schemas.dead_letters import CONTROL_KEY, decode_control
from schemas.errors import BadRecord, Reason
from schemas.positions import Position
from schemas.records import decode_attempt_fields
from schemas.resends import RESEND, decode_resend
from schemas.topics import Topics

BODY_BYTES_SEARCHED = 200
OUTCOMES = frozenset(outcome.value for outcome in Outcome)


def project_attempts(value: bytes) -> Item:
    """
    A record of ``attempts``.

    Raises:  BadRecord: unknown-schema, undecodable, invalid.
    """
    if RESEND.wrote(value):
        return decode_resend(value)
    record = decode_attempt_fields(value)
    id_, outcome, request, response = record["id"], record["outcome"], record["request"], record["response"]
    rank = rank_of(id_)
    if rank is None:
        raise BadRecord(Reason.INVALID, f"{id_!r:.60} is no attempt's id")
    if outcome not in OUTCOMES:
        raise BadRecord(Reason.INVALID, f"{outcome!r:.60} is no outcome")
    bodies = [side["body"] for side in (request, response) if side is not None]
    return AttemptRow(
        rank,
        id_,
        record["webhook"],
        record["document"],
        outcome,
        None if response is None else response["status"],
        record["replay"],
        record["deliveryId"],
        record["startedUs"] + record["durationUs"],
        _text(record["document"], request["url"], record["errorDetail"] or "", bodies),
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
    bodies = [side.body for side in (attempt.request, attempt.response) if side is not None]
    return _text(attempt.document, attempt.request.url, attempt.error.detail if attempt.error else "", bodies)


def _text(document: str, url: str, detail: str, bodies: Sequence[bytes]) -> str:
    parts = [document, url, detail, *(body[:BODY_BYTES_SEARCHED].decode(errors="replace") for body in bodies)]
    return "\n".join(parts).lower().replace("\0", " ")  # PostgreSQL's texts hold no NUL
