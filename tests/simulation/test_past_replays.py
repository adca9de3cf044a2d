"""
Replays of what lanes do not keep any more, in the simulation: whatever crashes, and whatever else is asked for, all comes again that was
sent, each document in order, and then what is new. Judged by what stands in the lanes. ``LIVEHOOK_SIM_SEED`` and ``LIVEHOOK_SIM_SEEDS`` as
in test_simulation.py, of which a tenth is run here.
"""

from __future__ import annotations

import functools
import os
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

import msgspec
import pytest

from livehook.api.revisions import with_replay
from schemas.deliveries import Delivery
from schemas.records import decode_delivery
from schemas.registry import Registry
from schemas.replays import Replay, ReplayState, encode_replay
from schemas.webhooks import WebhookRevision
from streams.backfill import WINDOW_US
from tests.chaos.checker import Webhook, event
from tests.simulation.oracle import QUERIES, Change, history
from tests.simulation.processes import Process, Steps
from tests.simulation.storm import NAMES, Storm
from tests.simulation.world import World

SEED = int(os.environ.get("LIVEHOOK_SIM_SEED", "1"))
SEEDS = int(os.environ.get("LIVEHOOK_SIM_SEEDS", "250")) // 10 + 1

Sent = tuple[str, int, str]
"""Key, version and match."""


@dataclass(frozen=True, slots=True)
class Placed:
    """A delivery in a lane where it stands for the first time, as far as its replay goes."""

    place: int
    delivery: Delivery

    @property
    def sent(self) -> Sent:
        """What a receiver is told."""
        return self.delivery.change.key, self.delivery.change.version, self.delivery.match.value


class ReturningWorld(World):
    """Also with replays that are served from ``changes``, and with what the API does about them; ``busy``: it is writing a revision."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.busy: set[str] = set()
        self.putting: dict[str, Steps] = {}
        self.asked: list[Replay] = []
        self._registry = Registry()
        self._folded = 0

    def registry(self) -> Registry:
        """All that is in ``webhooks``."""
        for offset, key, value, _ in self.read(self.webhooks, self._folded):
            self._registry.apply(key, value)
            self._folded = offset + 1
        return self._registry

    def _making(self) -> tuple[str, int]:
        return ("now" if self.horizon_us else self.rng.choice(("now", "now", "beginning"))), WINDOW_US

    def compact(self) -> None:
        """What is young when a replay is asked for stays for a week."""
        if not self.asked:
            super().compact()

    def go_back(self) -> None:
        """Somebody asks for a replay, from any time on."""
        name = self.rng.choice(NAMES)
        if name in self.made and self.registry().webhook(name) is not None:
            latest_us = max(self.appended_us(len(log.records)) for log in self.mutations)
            number = WINDOW_US + max(self.horizon_us, latest_us // 2) + len(self.asked)  # half of the past may be compacted
            first = self.rng.choice((0, self.rng.randint(0, latest_us)))
            self.asked.append(Replay(f"rpl_{len(self.asked)}", name, name, number, (0,), (0,), (0,), (), 1, number, first_txn=first))
            self._write(self.asked[-1])
            self.tell(f"{self.asked[-1].id} of {name} from {first}")

    def cancel_one(self) -> None:
        """Somebody ends one, begun or not."""
        if self.asked:
            at = self.rng.randrange(len(self.asked))
            self.asked[at] = msgspec.structs.replace(self.asked[at], state=ReplayState.CANCELLED)
            self._write(self.asked[at])
            self.tell(f"{self.asked[at].id} is cancelled")

    def _write(self, replay: Replay) -> None:
        self.webhooks.append(replay.key.encode(), encode_replay(replay))

    def api(self) -> Steps:
        """One life of the API: what a former one has begun is finished first."""
        for name in sorted(self.busy):
            newest = self.registry().newest(name)
            if newest is not None and newest.since is None:
                yield from self._publish(newest)
            self.busy.discard(name)
        while True:
            for name in NAMES:
                revision = self._due(name)
                if revision is not None:
                    self.busy.add(name)
                    yield from self._publish(revision)
                yield

    def _due(self, name: str) -> WebhookRevision | None:
        registry = self.registry()
        webhook = registry.webhook(name)
        if webhook is None or name in self.putting:
            return None
        is_over = len(registry.backfill(webhook.current).ends) == self.partitions
        return with_replay(webhook, newest=registry.newest(name), replays=registry.replays(webhook.current), is_ready=is_over)

    def _publish(self, pending: WebhookRevision) -> Steps:
        since = yield from self._marks(pending)
        known = {origin.partition: origin for origin in self.registry().since(pending)}
        self._put(msgspec.structs.replace(pending, since=[known.get(origin.partition, origin) for origin in since]))
        self.busy.discard(pending.name)
        self.tell(f"revision {pending.revision} of {pending.name} begins {pending.backfill} since {since}")

    def is_at_rest(self) -> bool:
        """Also no replay is owed or under way."""
        registry = self.registry()
        for webhook in registry:
            current = webhook.current
            if current.backfill is not None and len(registry.backfill(current).ends) < self.partitions:
                return False
            if self._due(current.name) is not None:
                return False
        return super().is_at_rest()

    def began(self, replay: Replay) -> WebhookRevision | None:
        """The revision with which a replay began."""
        revisions = self.registry().revisions(replay.webhook)
        found = (one for one in revisions if one.since is not None and one.replay is not None and one.replay.id == replay.id)
        return next(found, None)

    def lane(self, name: str, replay: str | None) -> dict[Sent, Placed]:
        """What stands in a lane because of a replay, or of the live flow, each where it stands for the first time."""
        found: dict[Sent, Placed] = {}
        for offset, _, value, _ in self.read(self.lanes[name]):
            placed = Placed(offset, decode_delivery(value))
            if placed.delivery.replay == replay:
                found.setdefault(placed.sent, placed)
        return found

    def to_send(self, name: str, first_txn: int, until: dict[int, int]) -> dict[Sent, Change]:
        """What was to be sent of the changes from ``first_txn`` on and before these offsets, by the queries of then."""
        revisions = sorted(self.revisions[name], key=lambda one: one.number, reverse=True)
        found: dict[Sent, Change] = {}
        for change in history(self):
            serving = next((one for one in revisions if one.since[change.partition] < change.offset), None)
            if serving is None or change.txn_id < first_txn or change.offset >= until.get(change.partition, 2**62):
                continue
            match = event(Webhook(name, QUERIES[serving.query]), change.old, change.new)
            if match is not None:
                found[change.key, change.version, match] = change
        return found


class ReturningStorm(Storm):
    """Webhooks that start now, are edited, and go back now and then."""

    def __init__(self, world: ReturningWorld) -> None:
        super().__init__(world)
        self._putting = world.putting
        self._returning = world
        self._api = Process("api", functools.partial(ReturningWorld.api, world))
        self._processes.append(self._api)
        self._often.append(self._api)
        self._mishaps = (
            (0.02, self._crash), (0.01, self._freeze), (0.01, self._rebalance), (0.01, self._cure), (0.01, world.compact),
            (0.02, world.go_back), (0.004, world.cancel_one),
        )  # fmt: skip

    def _freeze(self) -> None:
        api, self._processes = self._processes[-1], self._processes[:-1]  # two that write revisions at once are not looked at here
        super()._freeze()
        self._processes.append(api)

    def _put_webhooks(self, *, begins: bool) -> None:
        free = [name for name in NAMES if name not in self._returning.busy and name not in self._putting]
        if begins and free and self.rng.random() < 0.02:
            name = self.rng.choice(free)
            self._putting[name] = self.world.put_webhook(name, self.rng.choice([*QUERIES]))
        for name, steps in list(self._putting.items()):
            if self.rng.random() < 0.5 and next(steps, self) is self:
                del self._putting[name]

    def calm(self) -> None:
        """See :meth:`Storm.calm`."""
        for name in sorted(self._putting):
            list(self._putting.pop(name))
        super().calm()


def run(seed: int) -> ReturningWorld:
    """A run with faults and replays, then one without until nothing moves."""
    world = ReturningWorld(seed)
    storm = ReturningStorm(world)
    storm.rage()
    storm.calm()
    return world


def broken(world: ReturningWorld) -> Iterator[str]:
    """What does not hold at the end."""
    yield from world.violations
    for name in NAMES:
        live = world.lane(name, None)
        wanted = world.to_send(name, 0, {}) if world.revisions[name] else {}
        yield from (f"{name}: {sent} is not in the lane" for sent in wanted.keys() - live.keys())
        yield from (f"{name}: {sent} is in the lane, and nobody wants it" for sent in live.keys() - wanted.keys())
        yield from _order(name, [*live])
    for replay in world.asked:
        if (began := world.began(replay)) is not None:
            yield from _replay(world, replay, began)


def _replay(world: ReturningWorld, replay: Replay, began: WebhookRevision) -> Iterator[str]:
    name, until = replay.webhook, {origin.partition: origin.offset for origin in world.registry().since(began)}
    wanted, found = world.to_send(name, replay.first_txn or 0, until), world.lane(name, replay.id)
    live = world.lane(name, None)
    before_us = replay.number - WINDOW_US
    expected = {sent if change.appended_us >= before_us else _snapshot(sent): change for sent, change in wanted.items()}
    yield from (f"{replay.id}: {sent} comes again, and was not to" for sent in found.keys() - expected.keys())
    if replay.state is ReplayState.RUNNING:
        kept = {sent for sent, change in expected.items() if change.appended_us >= before_us}
        yield from (f"{replay.id}: {sent} does not come again" for sent in kept - found.keys())
    for sent, placed in found.items():
        first = live.get(sent)
        if placed.delivery.snapshot == 0 and (first is None or first.delivery.webhook_id != placed.delivery.webhook_id):
            yield f"{replay.id}: {sent} comes under another id"
        if (placed.delivery.snapshot == 0) != (expected.get(sent, history(world)[0]).appended_us >= before_us):
            yield f"{replay.id}: {sent} is of snapshot {placed.delivery.snapshot}"
    yield from _order(replay.id, [sent for sent, placed in found.items() if placed.delivery.snapshot == 0])
    last = {placed.delivery.change.key: placed.place for placed in found.values()}
    for sent, placed in live.items():
        origin = placed.delivery.change.origin
        if origin.offset >= until[origin.partition] and placed.place < last.get(sent[0], -1):
            yield f"{replay.id}: {sent} is new, and comes before what comes again"


def _snapshot(sent: Sent) -> Sent:
    key, version, match = sent
    return key, version, match if match in ("leave", "remove") else "initial"


def _order(what: str, sent: list[Sent]) -> Iterator[str]:
    versions: dict[str, list[int]] = defaultdict(list)
    for key, version, _ in sent:
        versions[key].append(version)
    yield from (f"{what}: {key} went back: {found}" for key, found in versions.items() if found != sorted(found))


@pytest.mark.parametrize("seed", range(SEED, SEED + SEEDS))
def test_what_was_sent_comes_again_and_then_what_is_new(seed: int) -> None:
    """All of it, with the ids of the first time; no document goes back within a replay, or behind it."""
    world = run(seed)
    found = [*broken(world)]
    assert found == [], "\n".join(world.trace)


def test_the_world_goes_back() -> None:
    """Again and again, with some that are cancelled when they have begun, or nothing would be shown."""
    worlds = [run(seed) for seed in range(1, 15)]
    began = [replay for world in worlds for replay in world.asked if world.began(replay) is not None]
    assert len(began) > 25
    assert any(replay.state is ReplayState.CANCELLED for replay in began)
    assert sum(len(world.lane(replay.webhook, replay.id)) for world in worlds for replay in world.asked) > 200
