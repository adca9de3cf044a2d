"""
Bugs planted in the project's own decisions, one of each kind that has lost somebody's events: the simulation must find each of them.

Each plant is a line or two as somebody might write them in good faith. What is planted is gone again when the oracle is asked.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from connectors.webhook.lanes import Lane
from connectors.webhook.offsets import Offsets
from connectors.webhook.parking import Parking
from connectors.webhook.runner import LaneRunner
from connectors.webhook.work import LaneWork
from streams import documents
from streams.matching import Standing
from streams.state import Fold
from tests.simulation.oracle import violations
from tests.simulation.storm import run

Patch = pytest.MonkeyPatch
SEEDS_MAX = 1_000


def commit_too_early(patch: Patch) -> None:
    """A delivery counts as done when it was read."""
    patch.setattr(Offsets, "commit", property(lambda self: self.position))


def acknowledge_out_of_order(patch: Patch) -> None:
    """The commit goes to behind the last one that was finished, over those before it that are not."""
    finish = Offsets.finish

    def finished(self, entry):
        finish(self, entry)
        while self._window and self._window[0].offset < entry.offset:
            self._window.popleft()

    patch.setattr(Offsets, "finish", finished)


def drop_on_revoke(patch: Patch) -> None:
    """A lane that is given up says that all is done which it has begun."""
    drain = LaneRunner.drain

    async def drained(self, timeout_s):
        await drain(self, timeout_s)
        for offsets in self._lane.partitions.values():
            for entry in list(offsets.window):
                offsets.finish(entry)
        return self.commits()

    patch.setattr(LaneRunner, "drain", drained)


def forget_a_parked_document(patch: Patch) -> None:
    """Of what is parked the last record is not restored."""
    restore = Parking.restore
    patch.setattr(Parking, "restore", lambda self, records, *args, **more: restore(self, [*records][:-1], *args, **more))


def reuse_a_txn_id(patch: Patch) -> None:
    """Two changes in one tick of the broker's clock have one number."""
    next_txn_id = documents.next_txn_id
    patch.setattr(documents, "next_txn_id", lambda last, *more: next_txn_id(last - 1, *more))


def skip_the_origin_filter(patch: Patch) -> None:
    """What another owner has put into the lane once more is taken for new."""
    read = Offsets.read

    def taken(self, entry):
        self._seen.clear()
        return read(self, entry)

    patch.setattr(Offsets, "read", taken)


def ignore_via(patch: Patch) -> None:
    """A record that was sent on twice is applied twice."""
    patch.setattr(documents, "_source", lambda headers, own: None)


def fold_without_comparing_versions(patch: Patch) -> None:
    """Whoever catches up believes the last record of a document, which may be a former owner's."""
    patch.setattr(Fold, "_keep_newest", lambda self, change, offset: self._fresh.__setitem__(change.key, (change, offset)))


def cut_a_revision_at_the_wrong_origin(patch: Patch) -> None:
    """A revision holds from when it is known, not from its mark."""
    patch.setattr(Standing, "serves", lambda self, origin: True)


def look_at_the_clock_twice(patch: Patch) -> None:
    """What comes due between two looks is sent by neither: the lane stands still until somebody pushes it."""
    arm = LaneWork._arm
    patch.setattr(LaneWork, "_arm", lambda self, now: arm(self, self._shared.now()))


def overtake_a_retry(patch: Patch) -> None:
    """While a delivery waits for its retry, the next one of its document goes."""
    retry_at = Lane.retry_at

    def later(self, held, at, now):
        if held.next is not None and held.document is None:
            self._queue(held.next)
            held.next = None
        retry_at(self, held, at, now)

    patch.setattr(Lane, "retry_at", later)


PLANTS = (
    commit_too_early, acknowledge_out_of_order, drop_on_revoke, forget_a_parked_document, reuse_a_txn_id, skip_the_origin_filter,
    ignore_via, fold_without_comparing_versions, cut_a_revision_at_the_wrong_origin, look_at_the_clock_twice, overtake_a_retry,
)  # fmt: skip


@pytest.mark.timeout(600)
@pytest.mark.parametrize("plant", PLANTS, ids=lambda plant: plant.__name__)
def test_the_simulation_finds_a_planted_bug(plant: Callable[[Patch], None]):
    """Each kind of bug breaks a promise in one of a thousand seeds."""
    assert any(found(plant, seed) for seed in range(1, SEEDS_MAX + 1))


def found(plant: Callable[[Patch], None], seed: int) -> list[str]:
    """What a seed breaks with the bug in place."""
    with pytest.MonkeyPatch.context() as patch:
        plant(patch)
        try:
            world = run(seed)
        except Exception as error:  # noqa: BLE001  a bug may show as anything
            return [f"ended: {error!r}"]
    return violations(world)
