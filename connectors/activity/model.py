"""What is asked of the activity log and what it answers. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Generic, TypeVar

import msgspec

from schemas.attempts import Attempt, Outcome
from schemas.dead_letters import Claim, Control
from schemas.errors import LivehookError
from schemas.positions import Position
from schemas.resends import Resend

FAILED = frozenset({Outcome.RETRY, Outcome.DEAD})

Place = tuple[str, int]
"""Topic and partition."""


class ActivityUnavailable(LivehookError):
    """The database cannot be reached, is full, or took too long: try again."""


class AttemptFilters(msgspec.Struct, frozen=True):
    """
    Which attempts; None and an empty set are any.

    since_us, until_us:  started at or after, and before, in µs since 1970.
    document:            the key, whole.
    q:                   a part of the document's key, the URL, the error's detail, or the start of either body; in any case.
    """

    webhook: str | None = None
    outcomes: frozenset[Outcome] = frozenset()
    since_us: int | None = None
    until_us: int | None = None
    document: str | None = None
    status: int | None = None
    q: str | None = None


class LetterFilters(msgspec.Struct, frozen=True):
    """Which dead letters; None is any. since_us: written at or after, in µs since 1970."""

    reason: str | None = None
    webhook: str | None = None
    since_us: int | None = None


class AttemptRow(msgspec.Struct, frozen=True, gc=False):
    """
    An attempt as it is stored.

    rank:    orders attempts by their start and names each; see :mod:`connectors.activity.ranks`.
    text:    what ``q`` looks into.
    record:  the attempt as it stands in ``attempts``.
    """

    rank: int
    id: str
    webhook: str
    document: str
    outcome: str
    status: int | None
    replay: str | None
    delivery_id: str
    ended_us: int
    text: str
    record: bytes


class Letter(msgspec.Struct, frozen=True):
    """
    A dead letter.

    place:    in ``dead-letters``. source: ``topic/partition/offset``, where it comes from.
    webhook:  whose lane that is; None for a mutation.
    value:    None: it has none. truncated: value is only the start of it.
    claim:    of who is redriving it; None: nobody is.
    """

    place: Position
    at_us: int
    reason: str
    detail: str
    source: str
    webhook: str | None
    key: bytes | None
    value: bytes | None
    truncated: bool = False
    claim: Claim | None = None


Item = AttemptRow | Resend | Letter | Control


class Projected(msgspec.Struct, frozen=True, gc=False):
    """What one record of a topic says."""

    place: Place
    offset: int
    item: Item


class Batch(msgspec.Struct, frozen=True):
    """What was read at once: items in the order of each partition, and where each partition is to be read on."""

    items: Sequence[Projected]
    next: Mapping[Place, int]


T = TypeVar("T")


class Page(msgspec.Struct, Generic[T], frozen=True):
    """
    Part of a list.

    cursor:  where the next part begins; None: there is none. A part may be empty and not be the last one, when a search has looked
             through as much as it may at once.
    """

    items: Sequence[T]
    cursor: int | None


class Progress(msgspec.Struct, frozen=True):
    """
    How far a resend is.

    finished:  deliveries that were delivered or dead-lettered; delivered: those that were delivered. ended_us: of the last of these.
    """

    resend: Resend
    finished: int
    delivered: int
    ended_us: int | None


AttemptPage = Page[Attempt]
LetterPage = Page[Letter]
