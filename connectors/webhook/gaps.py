"""
Gaps in a lane: what retention or an operator removed before it was sent. Where one is found, its partition stops; once the gap is on
record its marker is taken in, at the last offset that is missing; once that was sent, or is parked, the partition goes on.

A lane has no holes of another kind: nobody writes to it in transactions, and it is not compacted.
Pure, but for the lane that it belongs to. Called by intake.py and work.py. Source: docs/explanation/gaps.md.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence

import msgspec

from connectors.webhook.held import Held
from connectors.webhook.lanes import Lane
from schemas.gaps import Gap, Missing, gap_marker
from schemas.records import encode_delivery


class Found(msgspec.Struct, frozen=True):
    """A partition is not read on: before ``until`` something is missing. ``before_txn``: of the delivery at ``until``, if it is there."""

    until: int
    before_txn: int | None = None


class Gaps:
    """
    Those of one lane.

    Args:  due: when a delivery that is read now may first be sent. replay_at: the rewind that goes over a place.
    """

    def __init__(self, lane: Lane, *, due: Callable[[], float], replay_at: Callable[[int, int], str | None]) -> None:
        self._lane, self._due, self._replay_at = lane, due, replay_at
        self._known: dict[tuple[int, int], Gap] = {}
        self._found: dict[int, Found] = {}
        self._sending: dict[int, list[Held]] = {}
        self._txns: dict[int, int] = {}

    def know(self, gaps: Iterable[Gap]) -> None:
        """These are on record."""
        self._known |= {(gap.partition, gap.place): gap for gap in gaps}

    @property
    def count(self) -> int:
        """How many are on record."""
        return len(self._known)

    @property
    def is_found(self) -> bool:
        """Whether something is missing that is not on record yet, as far as is known here."""
        return bool(self._found)

    def stops(self, partition: int) -> bool:
        """Whether nothing may be taken in for now."""
        if partition in self._found:
            return True
        sending = self._sending.get(partition)
        if sending is None:
            return False
        if all(held.finished or held.document is not None for held in sending):
            del self._sending[partition]
            return False
        return True

    def passed(self, partition: int, txn_id: int) -> None:
        """A delivery of this ``txnId`` was taken in."""
        self._txns[partition] = txn_id

    def find(self, partition: int, until: int, before_txn: Callable[[], int | None] = lambda: None) -> bool:
        """Whether something is missing between what was taken in and this offset. If nothing is, the partition goes on there."""
        offsets = self._lane.partitions[partition]
        if partition in self._found:
            return True
        if missing(offsets.position, until, self._lane.done_ahead(partition)) is None:
            self._lane.skip_to(partition, until)
            return False
        self._found[partition] = Found(until, before_txn())
        return True

    def unrecorded(self) -> list[Missing]:
        """What is missing and has to be put on record, in order for each partition."""
        fresh: list[Missing] = []
        for partition, found in sorted(self._found.items()):
            position, after = self._lane.partitions[partition].position, self._txns.get(partition)
            known = [gap for gap in self._known.values() if gap.partition == partition]
            ranges = unknown(position, found.until, self._lane.done_ahead(partition), known)
            fresh += [
                Missing(
                    partition,
                    begin,
                    until,
                    after if number == 0 else None,
                    found.before_txn if number == len(ranges) - 1 and until == found.until else None,
                )
                for number, (begin, until) in enumerate(ranges)
            ]
        return fresh

    def take(self) -> None:
        """All that is missing is on record: the markers go into the lane."""
        for partition, found in self._found.items():
            position = self._lane.partitions[partition].position
            due = [gap for gap in self._known.values() if gap.partition == partition and position <= gap.place < found.until]
            self._sending[partition] = [self._taken(gap) for gap in sorted(due, key=lambda gap: gap.place)]
            self._lane.skip_to(partition, found.until)
        self._found.clear()

    def _taken(self, gap: Gap) -> Held:
        held = self._held(gap, self._due())
        self._lane.skip_to(gap.partition, gap.place)
        self._lane.take(held)
        return held

    def marker(self, partition: int, offset: int) -> Held | None:
        """The marker that stands at a place of the lane, for it is in no log."""
        gap = self._known.get((partition, offset))
        return None if gap is None else self._held(gap, 0.0)

    def _held(self, gap: Gap, due: float) -> Held:
        delivery = gap_marker(gap)
        key, value = delivery.change.key.encode(), encode_delivery(delivery)
        return Held(gap.partition, gap.place, key, value, delivery, due, self._replay_at(gap.partition, gap.place))


def missing(begin: int, until: int, done: Collection[int]) -> tuple[int, int] | None:
    """
    The smallest range that holds every offset from ``begin`` to before ``until`` that is not done; None: there is none.

    In at most as many steps as there are offsets done.
    """
    while begin < until and begin in done:
        begin += 1
    while begin < until and until - 1 in done:
        until -= 1
    return (begin, until) if begin < until else None


def unknown(begin: int, until: int, done: Collection[int], known: Sequence[Gap]) -> list[tuple[int, int]]:
    """What is :func:`missing` beside the gaps that are known: between any two of them at most one range. In order."""
    found: list[tuple[int, int] | None] = []
    for gap in sorted(known, key=lambda gap: gap.begin):
        found.append(missing(begin, min(gap.begin, until), done))
        begin = max(begin, gap.until)
    found.append(missing(begin, until, done))
    return [one for one in found if one is not None]
