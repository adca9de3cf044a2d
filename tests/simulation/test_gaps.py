"""
Lanes that lose what was not sent, in the simulation: whatever crashes, the receiver is told each gap once, and then comes to hold what
there is, no document going back. ``LIVEHOOK_SIM_SEED`` and ``LIVEHOOK_SIM_SEEDS`` as in test_simulation.py, of which a tenth is run here.
"""

from __future__ import annotations

import functools
import os
import re
from collections import defaultdict
from collections.abc import Iterator
from itertools import pairwise

import msgspec
import pytest

from livehook.api.revisions import with_snapshot
from schemas.deliveries import Match
from schemas.gaps import Gap, gap_marker
from schemas.records import decode_delivery
from schemas.registry import Registry
from schemas.webhooks import WebhookRevision
from tests.simulation.oracle import QUERIES, history
from tests.simulation.processes import Process, Steps
from tests.simulation.storm import NAMES, Storm
from tests.simulation.world import World

SEED = int(os.environ.get("LIVEHOOK_SIM_SEED", "1"))
SEEDS = int(os.environ.get("LIVEHOOK_SIM_SEEDS", "250")) // 10 + 1
GONE = (Match.LEAVE.value, Match.REMOVE.value)
MARKER = Match.REQUERY_REQUIRED.value

Settled = tuple[str, int, str]
"""Key, version and match."""


class LosingWorld(World):
    """Also with retention, and with what the API does about it."""

    def registry(self) -> Registry:
        """All that is in ``webhooks``."""
        registry = Registry()
        for _, key, value, _ in self.read(self.webhooks):
            registry.apply(key, value)
        return registry

    def gaps(self, name: str) -> list[Gap]:
        """What is on record as missing from a lane."""
        registry = self.registry()
        webhook = registry.webhook(name)
        return [] if webhook is None else registry.gaps(webhook.current)

    def lose(self) -> None:
        """Retention takes a part of a lane."""
        name = self.rng.choice(NAMES)
        lane = self.lanes[name]
        lane.remove(self.rng.randint(lane.start, len(lane.records)))
        self.tell(f"the lane of {name} begins at {lane.start}")

    def api(self) -> Steps:
        """One life of the API: what a former one has begun is finished first."""
        for name in NAMES:
            newest = self.registry().newest(name)
            if newest is not None and newest.snapshot and newest.since is None:
                yield from self._publish(newest)
        while True:
            for name in NAMES:
                revision = self._due(name)
                if revision is not None:
                    yield from self._publish(revision)
                yield

    def _due(self, name: str) -> WebhookRevision | None:
        registry = self.registry()
        webhook = registry.webhook(name)
        if webhook is None or not (gaps := registry.gaps(webhook.current)):
            return None
        return with_snapshot(webhook, newest=registry.newest(name), gaps=gaps, is_ready=_is_over(registry, name, self.partitions))

    def _publish(self, pending: WebhookRevision) -> Steps:
        since = yield from self._marks(pending)
        known = {origin.partition: origin for origin in self.registry().since(pending)}
        self._put(msgspec.structs.replace(pending, since=[known.get(origin.partition, origin) for origin in since]))
        self.tell(f"snapshot {pending.snapshot} of {pending.name} since {since}")

    def is_at_rest(self) -> bool:
        """Also no snapshot is owed or under way."""
        registry = self.registry()
        for name in NAMES:
            webhook = registry.webhook(name)
            if webhook is None or not _is_over(registry, name, self.partitions):
                return False
            if max((gap.snapshot for gap in registry.gaps(webhook.current)), default=0) > webhook.current.snapshot:
                return False
        return super().is_at_rest()

    def present(self, name: str) -> dict[str, int]:
        """The version of each document that matches at the end."""
        webhook = self.registry().webhook(name)
        assert webhook is not None
        last = {change.key: change for change in history(self)}
        matches = QUERIES[webhook.current.spec.query]
        return {key: change.version for key, change in last.items() if change.new is not None and matches(change.new)}

    def lost(self, name: str) -> dict[int, Settled]:
        """What was removed from a lane, by offset."""
        found = {offset: decode_delivery(record[1] or b"") for offset, record in self.lanes[name].removed.items()}
        return {offset: (one.change.key, one.change.version, one.match.value) for offset, one in found.items()}

    def written_twice(self, name: str) -> set[str]:
        """
        Documents of which a lost delivery stands in the lane a second time, as a crash of a worker leaves it.

        If a later one was sent before it was lost too, and that is not committed, the second copy comes after it: behind the marker.
        """
        changes = [decode_delivery(value).change for _, _, value, _ in self.read(self.lanes[name])]
        kept = {(one.key, one.version) for one in changes}
        lost = [delivery[:2] for delivery in self.lost(name).values()]
        return {key for key, version in lost if (key, version) in kept or lost.count((key, version)) > 1}


def _is_over(registry: Registry, name: str, partitions: int) -> bool:
    """Whether a webhook has no backfill, or it has ended everywhere."""
    webhook = registry.webhook(name)
    return webhook is None or webhook.current.backfill is None or len(registry.backfill(webhook.current).ends) == partitions


class LosingStorm(Storm):
    """Each webhook is made once; then its lane loses a part now and then, and nobody rewinds it."""

    def __init__(self, world: LosingWorld) -> None:
        super().__init__(world)
        self._api = Process("api", functools.partial(LosingWorld.api, world))
        self._processes.append(self._api)
        self._often.append(self._api)
        self._mishaps = (
            (0.02, self._crash), (0.01, self._freeze), (0.01, self._rebalance), (0.01, self._turn_down), (0.01, self._cure),
            (0.06, world.lose),
        )  # fmt: skip

    def _freeze(self) -> None:
        api, self._processes = self._processes[-1], self._processes[:-1]  # two that write revisions at once are not looked at here
        super()._freeze()
        self._processes.append(api)

    def _put_webhooks(self, *, begins: bool) -> None:
        for name in NAMES:
            if begins and name not in self.world.made:
                list(self.world.put_webhook(name, self.rng.choice([*QUERIES])))


def run(seed: int) -> LosingWorld:
    """A run with faults and losses, then one without until nothing moves."""
    world = LosingWorld(seed)
    storm = LosingStorm(world)
    storm.rage()
    storm.calm()
    return world


def broken(world: LosingWorld) -> Iterator[str]:
    """What does not hold at the end."""
    yield from world.violations
    for name in NAMES:
        settled = [one[1:] for one in dict.fromkeys(world.receivers.settled) if one[0] == name]
        yield from _markers(world, name, {key for key, _, found in settled if found == MARKER})
        yield from _losses(world, name, {*settled})
        yield from _documents(world, name, [one for one in settled if one[2] != MARKER])


def _markers(world: LosingWorld, name: str, dead: set[str]) -> Iterator[str]:
    gaps = sorted(world.gaps(name), key=lambda gap: gap.begin)
    if any(one.until > other.begin for one, other in pairwise(gaps)):
        yield f"{name}: two gaps for one place: {gaps}"
    arrived = {id_ for webhook, id_, _ in world.receivers.markers if webhook == name}
    expected = {gap_marker(gap).webhook_id for gap in gaps if gap_marker(gap).change.key not in dead}
    told = {gap_marker(gap).webhook_id for gap in gaps}
    if not expected <= arrived <= told:
        yield f"{name}: of {len(gaps)} gaps {len(expected - arrived)} were not told, and {len(arrived - told)} markers are of none"


def _losses(world: LosingWorld, name: str, settled: set[Settled]) -> Iterator[str]:
    expired = {int(match[1]) for one in world.expired if (match := re.fullmatch(rf"{name}/0/(\d+)", one))}
    lost, gaps = world.lost(name), world.gaps(name)
    told = {one for offset, one in lost.items() if offset in expired or any(gap.begin <= offset < gap.until for gap in gaps)}
    if missing := {*lost.values()} - told - settled:
        yield f"{name}: lost, and nobody was told: {missing}"


def _documents(world: LosingWorld, name: str, settled: list[Settled]) -> Iterator[str]:
    versions: dict[str, list[int]] = defaultdict(list)
    held: dict[str, int] = {}
    for key, version, found in settled:
        versions[key].append(version)
        held[key] = version
        if found in GONE:
            del held[key]
    for key in versions.keys() - world.written_twice(name):
        if versions[key] != sorted(versions[key]):
            yield f"{name}: {key} went back: {versions[key]}"
    if not world.expired and world.gaps(name) and held != world.present(name):
        yield f"{name}: the receiver holds {held}, there is {world.present(name)}"


@pytest.mark.parametrize("seed", range(SEED, SEED + SEEDS))
def test_each_gap_is_told_once_and_then_the_receiver_has_what_there_is(seed: int) -> None:
    """Nothing is missing that no gap names; each gap has one marker; no document goes back."""
    world = run(seed)
    found = [*broken(world)]
    assert found == [], "\n".join(world.trace)


def test_the_world_loses_something() -> None:
    """Gaps, one after the other, and snapshots, or nothing would be shown."""
    worlds = [run(seed) for seed in range(1, 15)]
    assert sum(len(world.gaps(name)) for world in worlds for name in NAMES) > 15
    assert any(len(world.gaps(name)) > 1 for world in worlds for name in NAMES)
    assert sum(arrival.match == "initial" for world in worlds for arrival in world.receivers.arrivals) > 20
