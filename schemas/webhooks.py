"""
The subscription: what a user writes (:class:`WebhookSpec`, section by section of docs/reference/webhook.md), and its records in
``webhooks``.

A change of what a webhook *selects* makes a new revision; everything else edits the newest one. The API writes revisions, the sink status.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any

import msgspec

from schemas.positions import Origin
from schemas.starts import NOW

SELECTING = ("collections", "query", "args", "ids", "events", "triggers")
EVENTS = ("create", "enter", "update", "leave", "remove")


class State(StrEnum):
    """Whether a webhook delivers; disabled is set by Livehook alone, with a reason."""

    ACTIVE = "active"
    PAUSED = "paused"
    DISABLED = "disabled"


class Trigger(msgspec.Struct, frozen=True, rename="camel"):
    """One standing query of a webhook."""

    collections: tuple[str, ...]
    query: str = "true"
    args: dict[str, Any] = {}
    ids: tuple[str | dict[str, Any], ...] = ()
    events: tuple[str, ...] = EVENTS


class Payload(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """What the body looks like."""

    format: str = "livehook"
    template: str | None = None
    content_type: str | None = None


class Fields(msgspec.Struct, frozen=True, rename="camel"):
    """What leaves of a document, as dotted paths."""

    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()


class DeliverySettings(msgspec.Struct, frozen=True, rename="camel"):
    """How hard the endpoint may be driven."""

    concurrency: int = 64
    timeout_seconds: float = 15
    rate_limit: float | None = None
    order: str = "document"
    partitions: int = 1


class Retry(msgspec.Struct, frozen=True, rename="camel"):
    """Entry n of ``schedule`` is the wait before attempt n, each ± ``jitter``."""

    schedule: tuple[str, ...] = ("0s", "5s", "5m", "30m", "2h", "5h", "10h", "14h", "20h", "24h")
    jitter: float = 0.2
    disable_after: str = "5d"


class WebhookSpec(msgspec.Struct, frozen=True, rename="camel"):
    """
    A webhook as its user wrote it, every default filled in.

    triggers:  empty when the five fields beside it say what is selected; otherwise these are empty.
    auth:      {} or one of basic, bearer, oauth2, with mtls beside it, as in the reference.
    """

    name: str
    url: str
    collections: tuple[str, ...] = ()
    query: str = "true"
    args: dict[str, Any] = {}
    ids: tuple[str | dict[str, Any], ...] = ()
    events: tuple[str, ...] = EVENTS
    triggers: tuple[Trigger, ...] = ()
    method: str = "POST"
    auth: dict[str, Any] = {}
    headers: dict[str, str] = {}
    payload: Payload = Payload()
    fields: Fields = Fields()
    delivery: DeliverySettings = DeliverySettings()
    retry: Retry = Retry()
    start: str = "now"
    on_gap: str = "initial"
    signing: str = "v1"
    state: State = State.ACTIVE

    def __repr__(self) -> str:
        return f"WebhookSpec({self.name!r})"  # url, headers and auth may hold secrets

    @property
    def triggers_all(self) -> tuple[Trigger, ...]:
        """The triggers, whichever way they were written."""
        return self.triggers or (Trigger(self.collections, self.query, self.args, self.ids, self.events),)

    def selects_as(self, other: WebhookSpec) -> bool:
        """Whether both select the same deliveries: if not, a new revision is needed."""
        return self.triggers_all == other.triggers_all


class Secret(msgspec.Struct, frozen=True):
    """A signing secret (``whsec_…`` or ``whsk_…``); until ``until_us`` (µs since 1970, None: for good) it signs."""

    value: str
    until_us: int | None = None

    def __repr__(self) -> str:
        return "Secret(****)"


class PastReplay(msgspec.Struct, frozen=True):
    """
    A rewind to before what the lane keeps, as the backfill that serves it.

    id, number: those of the :class:`schemas.replays.Replay`; the number is a time, µs since 1970.
    first_txn:  changes before this number are before the replay.
    snapshot:   the number for what may be compacted. It counts down from -1: gaps, which sinks number, count up.
    after_gap:  the revision's ``snapshot`` when it began; a higher one comes after it.
    """

    id: str
    number: int
    first_txn: int
    snapshot: int
    after_gap: int


class WebhookRevision(msgspec.Struct, frozen=True):
    """
    A webhook from one change of its selection to the next; key ``name/revision``.

    uid:      made with the webhook; a name made again after a delete has another.
    edit:     grows with every write of this webhook; it tells whether a status still holds.
    since:    the origin of its mark in each partition of ``mutations``, in order of partitions: from there on it holds.
              None until the marks are acknowledged; meanwhile a :class:`WebhookSince` says it for each partition whose mark was passed.
    deleted:  the webhook ends here.
    snapshot: the number of the newest snapshot after a gap: the revision that is the first to have it begins with the present documents.
    replay:   the newest replay that is served from ``changes`` and has begun: the revision that is the first to have it begins with it.
    """

    uid: str
    name: str
    revision: int
    edit: int
    spec: WebhookSpec
    secrets: list[Secret]
    created_us: int
    updated_us: int
    since: list[Origin] | None = None
    deleted: bool = False
    snapshot: int = 0
    replay: PastReplay | None = None

    @property
    def replaying(self) -> PastReplay | None:
        """The replay that its newest backfill serves; None: that is another one."""
        return self.replay if self.replay is not None and self.replay.after_gap == self.snapshot else None

    @property
    def snapshot_newest(self) -> int:
        """The number of the newest snapshot, after a gap or of a replay; 0: it is that of the start, if any."""
        return self.snapshot if self.replaying is None else self.replaying.snapshot

    @property
    def backfill(self) -> str | None:
        """Under what its newest backfill stands on record: of its start, after a gap, or of a replay; None: it has none."""
        if self.is_behind_live:
            return f"{self.uid}.{self.snapshot_newest}"
        return None if self.spec.start == NOW else self.uid

    @property
    def is_behind_live(self) -> bool:
        """Whether its newest backfill follows a live flow: it is not that of the start."""
        return self.snapshot_newest != 0

    @property
    def key(self) -> str:
        """``name/revision``."""
        return f"{self.name}/{self.revision}"


class WebhookSince(msgspec.Struct, frozen=True):
    """
    Where a revision begins in one partition; key ``name/revision/partition``.

    The matching agent writes it before its commit passes the mark of a revision whose ``since`` it does not know yet. Without it, an API
    that dies between its marks and its last write would leave a revision that held before a restart of the agent and not after.
    """

    name: str
    revision: int
    origin: Origin

    @property
    def key(self) -> str:
        """``name/revision/partition``."""
        return f"{self.name}/{self.revision}/{self.origin.partition}"


class WebhookStatus(msgspec.Struct, frozen=True):
    """What a sink found out about a webhook; key ``name/status``. It holds until an edit above ``edit``."""

    uid: str
    name: str
    edit: int
    state: State
    reason: str
    at_us: int


INSTALLATION_KEY = b"$installation"


class Installation(msgspec.Struct, frozen=True):
    """
    Which topics the origins and changes on record belong to; key ``$installation`` of ``webhooks``, written by the first streams worker.

    epoch:  part of every origin; an operator raises it when ``mutations`` had to be made anew, so that origins stay ordered.
    """

    epoch: int
    mutations_topic_id: str
    changes_topic_id: str
