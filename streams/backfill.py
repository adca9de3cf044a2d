"""
From old changes to deliveries: what a webhook that starts in the past gets of what happened before its live flow begins.

Pure. Called by the backfills (backfill_run.py, backfill_present.py) and the simulation. Source: docs/explanation/backfill.md.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import msgspec

from schemas.changes import Change, PassedMark
from schemas.deliveries import SNAPSHOT, Delivery, Match
from schemas.positions import Origin
from schemas.starts import first_txn
from schemas.topics import DAY_MS
from schemas.webhooks import PastReplay, WebhookRevision
from streams.matching import ANY, Standing, event_of
from streams.standing.documents import Documents
from streams.standing.needles import any_of, needles_of

WINDOW_US = 7 * DAY_MS * 1_000
"""For so long ``changes`` keeps every change, and after that the latest of each document: see schemas/topics.py."""


@dataclass(frozen=True, slots=True)
class Plan:
    """
    The backfill of one webhook: of its start, after a gap, or of a replay that is served from ``changes``.

    id:         see :attr:`WebhookRevision.backfill`.
    revisions:  those that have this backfill, oldest first; of a replay all of the webhook. The first one also serves all before it.
    first_txn:  changes before this number are before the start.
    snapshot_before_us:  what the broker took before this time may be compacted: of that the documents are sent, not their history.
    progress:   by partition of ``changes`` the offset below which nothing is left to do.
    snapshot:   the number of the snapshot.
    snapshot_before: after a gap, all from before these origins, by partition, belongs to it.
    again:      of a replay, what is sent again.
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
    again: Again | None = None

    @property
    def is_after_gap(self) -> bool:
        """Whether the present documents come first."""
        return self.snapshot_before is not None

    def is_snapshot(self, change: Change | PassedMark) -> bool:
        """Whether the documents are sent of it, not the history."""
        if self.snapshot_before is not None:
            return change.origin < self.snapshot_before[change.origin.partition]
        if not isinstance(change, Change) or change.appended_us >= self.snapshot_before_us:
            return False
        return self.again is None or self.again.goes_over(change.origin)

    @property
    def collections(self) -> frozenset[str] | None:
        """Those that any revision asks for; None: it asks for all."""
        names = frozenset(name for one in self.revisions for query in one.queries for name in query.collections)
        return None if ANY in names else names

    @property
    def needles(self) -> frozenset[bytes] | None:
        """What of it stands in the bytes of every change that leads to a delivery (see needles.py); None: nothing is known."""
        return any_of(needles_of(query.selection.condition) for one in self.revisions for query in one.queries)

    @property
    def lane_partition(self) -> int | None:
        """See :class:`Standing`."""
        return self.revisions[0].lane_partition


@dataclass(frozen=True, slots=True)
class Again:
    """
    What a replay sends once more.

    replay:   its id; None: it is only counted. is_cancelled: nothing is sent again any more.
    begin:    by partition the origin at which the webhook began; missing: it has always been there.
    until:    by partition the origin from which on nothing was sent before; None: all was.
    """

    replay: str | None = None
    begin: Mapping[int, Origin] = field(default_factory=dict)
    until: Mapping[int, Origin] | None = None
    is_cancelled: bool = False

    def goes_over(self, origin: Origin) -> bool:
        """Whether what came of it was sent before."""
        return self.until is None or origin < self.until[origin.partition]

    def wants(self, origin: Origin) -> bool:
        """Whether what came of it is sent again."""
        begin = self.begin.get(origin.partition)
        return not self.is_cancelled and (begin is None or begin <= origin)


def first_of(revisions: Sequence[WebhookRevision]) -> WebhookRevision | None:
    """
    The revision with which a backfill begins, of all that are on record; None: nobody was told yet that there is one.

    One that is not acknowledged was never answered to anybody: whoever came after it is the first.
    """
    return next((one for one in revisions if one.since is not None), None)


def plan_of(
    revisions: Sequence[WebhookRevision], standings: Sequence[Standing], progress: Mapping[int, int], *, is_cancelled: bool = False
) -> Plan | None:
    """
    The newest backfill of a webhook; None when it has none, or its first revision has not been acknowledged yet.

    Args:  revisions: all on record of the webhook as it was made, oldest first. standings: the same as the index has them.
           is_cancelled: the replay that it is of.
    """
    current = next((one for one in reversed(revisions) if one.since is not None), None)
    having = (
        []
        if current is None
        else [(one, standing) for one, standing in zip(revisions, standings, strict=True) if one.backfill == current.backfill]
    )
    made = first_of([one for one, _ in having])
    if made is None or made.backfill is None or made.since is None:
        return None
    until = _first_origins([standing for _, standing in having])
    if made.replaying is not None:
        return replayed(made.replaying, revisions, standings, progress, until=until, is_cancelled=is_cancelled)
    serving = [standing for one, standing in having if one.revision >= made.revision]
    txn_id = 0 if made.snapshot else first_txn(made.spec.start) or 0
    plan = Plan(made.name, made.backfill, serving[0].lane, serving, txn_id, made.created_us - WINDOW_US, progress)
    return replace(plan, snapshot=made.snapshot, snapshot_before=until) if made.snapshot else plan


def _first_origins(standings: Sequence[Standing]) -> dict[int, Origin]:
    """By partition where a backfill has ended the live flow: at the first mark of any of its revisions, also of one that was put aside."""
    lowest: dict[int, Origin] = {}
    for standing in standings:
        for partition, origin in standing.since.items():
            lowest[partition] = min(lowest.get(partition, origin), origin)
    return lowest


def replayed(
    replay: PastReplay,
    revisions: Sequence[WebhookRevision],
    standings: Sequence[Standing],
    progress: Mapping[int, int] | None = None,
    *,
    until: Mapping[int, Origin] | None = None,
    is_cancelled: bool = False,
) -> Plan | None:
    """
    The backfill of a replay: what was sent from ``first_txn`` on comes as at first, each change to the revision that served it.

    Args:  until: see :class:`Again`; None: it is only counted. For the others see :func:`plan_of`.
    """
    made = first_of(revisions)
    if made is None:
        return None
    first = revisions.index(made)
    started = first_txn(made.spec.start)
    begin = standings[first].since if started is None else {}
    again = Again(None if until is None else replay.id, begin, until, is_cancelled)
    id_, before_us = f"{made.uid}.{replay.snapshot}", replay.number - WINDOW_US
    txn_id = max(replay.first_txn, started or 0)
    return Plan(
        made.name, id_, standings[first].lane, standings[first:], txn_id, before_us, progress or {}, snapshot=replay.snapshot, again=again
    )


def backfilled(plan: Plan, change: Change, since: Mapping[int, Origin]) -> Delivery | None:
    """
    What a change from before the live flow is to a webhook: at most one delivery.

    Args:        since: where revisions begin in the change's partition as far as the caller has read it, by number, for those that do not
                 know it yet.
    Guarantees:  the same for the same revisions and change, whenever it is asked; of a replay with the ``webhook-id`` of the first time,
                 but for what may be compacted.
    """
    again = plan.again
    if again is not None and not again.goes_over(change.origin):
        return _delivery(plan, change, since, None)
    if change.txn_id < plan.first_txn or (again is not None and not again.wants(change.origin)):
        return None
    return _delivery(plan, change, since, None if again is None else again.replay)


def _delivery(plan: Plan, change: Change, since: Mapping[int, Origin], replay: str | None) -> Delivery | None:
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
            return Delivery(standing.uid, standing.revision, Match.INITIAL, present, plan.snapshot, replay, trigger)
        if event in query.events:
            return Delivery(standing.uid, standing.revision, event, change, plan.snapshot if is_snapshot else 0, replay, trigger)
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
