"""One change for one webhook: the record of a lane, written by the matching agent and read by the sink."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from enum import StrEnum
from hashlib import blake2b

import msgspec

from schemas.changes import Change
from schemas.positions import Origin


class Match(StrEnum):
    """How a change looks to a webhook's query, which sees the old and the new value; the last three are markers, of no change."""

    CREATE = "create"
    ENTER = "enter"
    UPDATE = "update"
    LEAVE = "leave"
    REMOVE = "remove"
    INITIAL = "initial"
    INITIALIZING = "initializing"
    READY = "ready"
    REQUERY_REQUIRED = "requeryRequired"


MARKERS_ASKED_FOR = (Match.INITIALIZING, Match.READY)
"""Those that a webhook may name among its events; the other one comes unasked."""
MARKERS = (*MARKERS_ASKED_FOR, Match.REQUERY_REQUIRED)
SNAPSHOT = 1
"""The number of the snapshot that a webhook begins with; later ones have higher numbers."""

ALIASES: Mapping[str, tuple[Match, ...]] = {
    "publish": (Match.CREATE, Match.ENTER),
    "unpublish": (Match.LEAVE, Match.REMOVE),
    "delete": (Match.REMOVE,),
}
"""Short forms in the events of a webhook."""


def alias_of(events: Collection[str], match: Match) -> str | None:
    """By which alias the events ask for the match, the narrowest of several; None: by its own name, or not at all."""
    if match.value in events:
        return None
    asked = [alias for alias, matches in ALIASES.items() if alias in events and match in matches]
    return min(asked, key=lambda alias: len(ALIASES[alias]), default=None)


class Delivery(msgspec.Struct, frozen=True, gc=False):
    """
    One change for one webhook.

    webhook_uid:  the webhook as it was made; a name that was deleted and made again has another.
    snapshot:     0 in the live flow; grows with each snapshot that a webhook is sent, but for those of replays, which have numbers below 0.
    replay:       the id of the replay or resend that put it into the lane a second time, or None.
    trigger:      which of the webhook's triggers fired, from 0; it tells under which name the match was asked for.
    """

    webhook_uid: str
    revision: int
    match: Match
    change: Change
    snapshot: int = 0
    replay: str | None = None
    trigger: int = 0

    @property
    def order(self) -> Origin | None:
        """
        What tells a lane whether it has seen the delivery: origins grow in a lane, but for those of replays and snapshots, which may come
        again and out of turn. A marker has none.
        """
        return None if self.replay or self.snapshot or self.match in MARKERS else self.change.origin

    @property
    def webhook_id(self) -> str:
        """The ``webhook-id`` header: the same on every retry, repeat and replay, never used for another body."""
        if self.match is Match.REQUERY_REQUIRED:  # as many as there are gaps, each with a body of its own
            said = (self.change.new or b"").decode()
            return _id_of(f"{self.webhook_uid}/{self.change.id}/{self.change.txn_id}/{said}")
        if self.match in MARKERS:
            number = f"/{self.snapshot}" if self.snapshot else ""
            return _id_of(f"{self.webhook_uid}/{self.match.value}{number}")
        return webhook_id(self.webhook_uid, self.revision, self.snapshot, self.change.origin)


def webhook_id(webhook_uid: str, revision: int, snapshot: int, origin: Origin) -> str:
    """``msg_`` and 128 bits of a hash of what makes a delivery the one it is."""
    return _id_of(f"{webhook_uid}/{revision}/{snapshot}/{origin.epoch}/{origin.partition}/{origin.offset}")


def _id_of(parts: str) -> str:
    return "msg_" + blake2b(parts.encode(), digest_size=16).hexdigest()
