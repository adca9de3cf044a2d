"""What happened to a webhook besides its calls: a record of ``attempts``, written by the sink. It may be lost, as attempts may."""

from __future__ import annotations

from enum import StrEnum

import msgspec


class NoticeKind(StrEnum):
    """What happened."""

    PARKED = "parked"
    DEAD = "dead"
    DOWN = "down"
    UP = "up"
    DISABLED = "disabled"


class Notice(msgspec.Struct, frozen=True):
    """
    One event.

    id:      ``ntc_…``; ids sort by time.
    at_us:   µs since 1970.
    detail:  why, for a person.
    document, delivery_id, offset:  the document's key, the webhook-id and the place in the lane, where it is about one delivery.
    """

    id: str
    kind: NoticeKind
    webhook: str
    at_us: int
    detail: str
    document: str | None = None
    delivery_id: str | None = None
    offset: str | None = None
