"""
From old changes to deliveries: what a webhook that starts in the past gets of what happened before its live flow begins.

Pure. Called by the backfills (backfill_run.py, backfill_present.py) and the simulation. Source: docs/explanation/backfill.md.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import msgspec

from schemas.changes import Change, PassedMark
from schemas.deliveries import SNAPSHOT, Delivery, Match
from schemas.positions import Origin
from schemas.starts import first_txn
from schemas.topics import DAY_MS
from schemas.webhooks import WebhookRevision
from streams.matching import ANY, Standing, event_of
from streams.standing.documents import Documents

WINDOW_US = 7 * DAY_MS * 1_000
"""For so long ``changes`` keeps every change, and after that the latest of each document: see schemas/topics.py."""


@dataclass(frozen=True, slots=True)
class Plan:
    """
    The backfill of one webhook, of its start or after a gap.

    id:         see :attr:`WebhookRevision.backfill`.
    revisions:  those that have this backfill, oldest first. The first one also serves all that was before it.
    first_txn:  changes before this number are before the start.
    snapshot_before_us:  what the broker took before this time may be compacted: of that the documents are sent, not their history.
    progress:   by partition of ``changes`` the offset below which nothing is left to do.
    snapshot:   the number of the snapshot.
    snapshot_before: after a gap, all from before these origins, by partition, belongs to it.
    """

    name: str
    id: str
    lane: str
    revisions: Sequence[Standing]
    first_txn: int
    snapshot_before_us: int
    progress: Mapping[int, int]
    snapshot: int = SNAPSHOT
    snapshot_before: Mapping[int, Origin] | None = None

    @property
    def is_after_gap(self) -> bool:
        """Whether it is not that of the webhook's start."""
        return self.snapshot_before is not None

    def is_snapshot(self, change: Change | PassedMark) -> bool:
        """Whether the documents are sent of it, not the history."""
        if self.snapshot_before is None:
            return isinstance(change, Change) and change.appended_us < self.snapshot_before_us
        return change.origin < self.snapshot_before[change.origin.partition]

    @property
    def collections(self) -> frozenset[str] | None:
        """Those that any revision asks for; None: it asks for all."""
        names = frozenset(name for one in self.revisions for query in one.queries for name in query.collections)
        return None if ANY in names else names

    @property
    def lane_partition(self) -> int | None:
        """See :class:`Standing`."""
        return self.revisions[0].lane_partition


def first_of(revisions: Sequence[WebhookRevision]) -> WebhookRevision | None:
    """
    The revision with which a backfill begins, of all that are on record; None: nobody was told yet that there is one.

    One that is not acknowledged was never answered to anybody: whoever came after it is the first.
    """
    return next((one for one in revisions if one.since is not None), None)


def plan_of(revisions: Sequence[WebhookRevision], standings: Sequence[Standing], progress: Mapping[int, int]) -> Plan | None:
    """
    The backfill of a webhook; None when it starts now, or its first revision has not been acknowledged yet.

    Args:  revisions: all on record that have this backfill, oldest first. standings: the same as the index has them.
    """
    made = first_of(revisions)
    if made is None:
        return None
    first = revisions.index(made)
    txn_id = 0 if made.snapshot else first_txn(made.spec.start)
    if made.backfill is None or txn_id is None:
        return None
    before_us = made.created_us - WINDOW_US
    plan = Plan(made.name, made.backfill, standings[first].lane, standings[first:], txn_id, before_us, progress)
    if not made.snapshot:
        return plan
    return replace(plan, snapshot=made.snapshot, snapshot_before={origin.partition: origin for origin in made.since or ()})


def backfilled(plan: Plan, change: Change, since: Mapping[int, Origin]) -> Delivery | None:
    """
    What a change from before the live flow is to a webhook: at most one delivery.

    Args:        since: where revisions begin in the change's partition as far as the caller has read it, by number, for those that do not
                 know it yet.
    Guarantees:  the same for the same revisions and change, whenever it is asked.
    """
    if change.txn_id < plan.first_txn:
        return None
    standing = _serving(plan, change.origin, since)
    if standing.deleted:
        return None
    is_snapshot = plan.is_snapshot(change)
    documents = Documents(change)
    for trigger, query in enumerate(standing.queries):
        event = event_of(query, change, documents)
        if event is None:
            continue
        if is_snapshot and event not in (Match.LEAVE, Match.REMOVE):
            present = msgspec.structs.replace(change, old=None)
            return Delivery(standing.uid, standing.revision, Match.INITIAL, present, plan.snapshot, trigger=trigger)
        if event in query.events:
            return Delivery(standing.uid, standing.revision, event, change, plan.snapshot if is_snapshot else 0, trigger=trigger)
    return None


def _serving(plan: Plan, origin: Origin, since: Mapping[int, Origin]) -> Standing:
    for standing in reversed(plan.revisions[1:]):
        begin = standing.since.get(origin.partition) or since.get(standing.revision)
        if begin is not None and begin <= origin:
            return standing
    return plan.revisions[0]


class Repeats:
    """
    Knows the second copies in a partition of ``changes``: of two owners that overlapped, or written again by one that caught up.

    Not in a snapshot: what may be compacted may have left the second copy only.
    """

    def __init__(self, is_snapshot: Callable[[Change], bool]) -> None:
        self._is_snapshot = is_snapshot
        self._seen: Origin | None = None

    def is_repeat(self, change: Change) -> bool:
        """Whether it was read before."""
        if self._is_snapshot(change):
            return False
        if self._seen is not None and change.origin <= self._seen:
            return True
        self._seen = change.origin
        return False


def is_of(key: bytes | None, collections: frozenset[str] | None) -> bool:
    """Whether a record of ``changes`` may be of interest by its key alone; what is no document's is."""
    if collections is None or key is None:
        return True
    collection, slash, _ = key.partition(b"/")
    return not slash or collection.decode(errors="replace") in collections
