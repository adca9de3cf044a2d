"""
Webhooks that are made, edited, deleted and made again under the same name, by two API processes that die at any step, and started again
finish what was left. With streams workers, and lanes of several partitions; without sinks: what must come is read from the lanes.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Coroutine, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from livehook.api.register import UNDER_WAY_US
from schemas.deliveries import Delivery, Match
from schemas.keys import partition_of
from schemas.markers import is_marker
from schemas.positions import Origin
from schemas.records import decode_delivery
from schemas.registry import Registry
from schemas.starts import NOW
from schemas.topics import Record, TopicSpec
from schemas.webhooks import DeliverySettings, WebhookRevision, WebhookSpec
from streams.backfill import WINDOW_US
from tests.chaos.checker import Webhook, event
from tests.simulation.apis import Api
from tests.simulation.oracle import QUERIES, history
from tests.simulation.processes import Process, Steps
from tests.simulation.storm import NAMES, mutation
from tests.simulation.topics import Log, MemoryDocuments
from tests.simulation.workers import documents, matching
from tests.simulation.world import World

STEPS = 260
QUIET_STEPS = 40
LOOKS_MAX = 1_500
OPENING = ("create", "enter", "update", "leave", "remove", "initializing", "ready")
NO_ANSWER_SHARE = 0.02


@dataclass
class Lane:
    """A topic of a lane; one that is made again has another id."""

    id: str
    logs: list[Log]


@dataclass
class Asked:
    """
    What a user asks for; ``spec`` None: to delete it.

    answered:  the webhook as it was answered; None for a deletion. ends: how far ``mutations`` reached by then.
    """

    name: str
    spec: WebhookSpec | None
    number: int = 0
    answered: WebhookRevision | None = None
    ends: tuple[int, ...] = ()
    is_done: bool = False


@dataclass
class User:
    """Who looks after one webhook, and asks for one thing after the other, again where nobody knows what came of it."""

    asked: list[Asked] = field(default_factory=list)
    under_way: int | None = None


class LivesWorld(World):
    """Its webhooks are those of the register; time goes slowly while one is being written, for a write takes less than a minute."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.stutters, self.lag_s = False, 0.001
        self.no_answer_share = NO_ANSWER_SHARE
        self.tops: dict[str, Lane] = {}
        self.users = {name: User() for name in NAMES}
        self._ids = itertools.count(1)

    def sleep(self, due: float | None) -> None:
        """To the next timer at once, if nobody waits for an answer."""
        if due is not None and all(user.under_way is None for user in self.users.values()):
            self.now_s = max(self.now_s, min(due, self.now_s + 10))
        else:
            self.now_s += 0.001

    # Kafka, for the API.

    def append(self, record: Record) -> int:
        """One more record, wherever it belongs."""
        if record.topic == self.topics.webhooks.name:
            return self.webhooks.append(record.key, record.value)
        if record.topic == self.topics.mutations.name:
            return self.mutations[record.partition or 0].append(record.key, record.value)
        lane = self.tops.get(record.topic)
        return -1 if lane is None else lane.logs[record.partition or 0].append(record.key, record.value)

    def existing(self, names: Sequence[str]) -> dict[str, str]:
        """The lanes that are there."""
        return {name: self.tops[name].id for name in names if name in self.tops}

    def ensure(self, topic: TopicSpec) -> None:
        """Make a lane unless it is there."""
        if topic.name not in self.tops:
            self.tops[topic.name] = Lane(f"id-{next(self._ids)}", [Log() for _ in range(topic.partitions)])
            self.tell(f"{topic.name} is made, {self.tops[topic.name].id}")

    def drop(self, name: str, topic_id: str) -> None:
        """Delete a lane, unless it is another one."""
        if self.existing([name]) == {name: topic_id}:
            del self.tops[name]
            self.tell(f"{name} is deleted, {topic_id}")

    def end(self, name: str) -> int:
        """How many records were ever written to the first partition of a lane."""
        return len(self.tops[name].logs[0].records)

    def webhooks_between(self, start: int, end: int) -> Iterator[tuple[int, bytes, bytes | None]]:
        """Tombstones too."""
        for offset, record in enumerate(self.webhooks.records[start:end], start):
            if record is not None:
                yield offset, record[0] or b"", record[1]

    def deliver(self, name: str, key: bytes, value: bytes) -> bool:
        """To the document's partition of a lane, if there is one."""
        lane = self.tops.get(self.topics.lane(name).name)
        if lane is None:
            return False
        lane.logs[partition_of(key, len(lane.logs))].append(key, value)
        return True

    # Users.

    def new_uid(self) -> str:
        """Another one each time."""
        return f"whk_{next(self._ids)}"

    def request_for(self, api: Api) -> Coroutine[Any, Any, None] | None:
        """What this process is to do next for a user who waits for nothing."""
        for user in self.users.values():
            if user.under_way is None and user.asked and not user.asked[-1].is_done and self.rng.random() < 0.5:
                user.under_way = api.number
                return self._ask(api, user, user.asked[-1])
        return None

    async def _ask(self, api: Api, user: User, asked: Asked) -> None:
        self.tell(f"api {api.number}: {'put' if asked.spec else 'delete'} {asked.name}")
        if asked.spec is None:
            is_gone = await api.delete(asked.name)
            asked.is_done = bool(is_gone) or self.registry().webhook(asked.name) is None
        else:
            asked.answered = await api.put(asked.spec)
            asked.is_done = asked.answered is not None
        asked.ends = tuple(len(log.records) for log in self.mutations)
        user.under_way = None
        self.tell(f"api {api.number}: {asked.name} {asked.is_done}, {asked.answered and asked.answered.since}")

    def died(self, number: int) -> None:
        """Who waited for this process asks again."""
        for user in self.users.values():
            if user.under_way == number:
                user.under_way = None

    def registry(self) -> Registry:
        """All that is in ``webhooks``."""
        registry = Registry()
        for _, key, value in self.webhooks_between(0, len(self.webhooks.records)):
            registry.apply(key, value)
        return registry

    def is_at_rest(self) -> bool:
        """All was asked and answered, nothing is left unfinished, and streams have come to the end."""
        registry = self.registry()
        newest = [registry.newest(name) for name in NAMES]
        return (
            all(user.under_way is None and all(one.is_done for one in user.asked[-1:]) for user in self.users.values())
            and all(one is None or one.since is not None for one in newest)
            and not any(one.deleted and self.topics.lane(one.name).name in self.tops for one in newest if one is not None)
            and all(len(log.records) <= self.commits["mutations", p] for p, log in enumerate(self.mutations))
            and all(len(log.records) <= self.commits["changes", p] for p, log in enumerate(self.changes))
            and all(_is_ready(registry, name) for name in NAMES)
        )


def _is_ready(registry: Registry, name: str) -> bool:
    """Whether a webhook has no backfill, or it has ended everywhere."""
    webhook = registry.webhook(name)
    return webhook is None or webhook.current.backfill is None or len(registry.backfill(webhook.current).ends) == 2


class LivesStorm:
    """What happens to a world."""

    def __init__(self, world: LivesWorld) -> None:
        self.world, self.rng = world, world.rng
        self._stores: dict[int, MemoryDocuments] = {}
        self._apis = [Process(f"api {number}", functools.partial(_api, world, number)) for number in (1, 2)]
        self._workers = [Process(f"documents {p}", functools.partial(self._documents, p)) for p in range(world.partitions)]
        self._workers += [Process(f"matching {p}", functools.partial(matching, world, p)) for p in range(world.partitions)]
        self._processes = [*self._workers, *self._apis]

    def rage(self) -> None:
        """Everybody wants something, and processes die."""
        for _ in range(STEPS):
            self._load()
            for name, user in self.world.users.items():
                if user.under_way is None and all(one.is_done for one in user.asked[-1:]) and self.rng.random() < 0.05:
                    user.asked.append(self._wish(name, len(user.asked)))
            self.rng.choice([*self._processes, *self._apis, *self._apis]).step(self.rng)
            for chance, processes in ((0.03, self._apis), (0.02, self._workers)):
                if self.rng.random() < chance:
                    self._crash(self.rng.choice(processes))
            if self.rng.random() < 0.005:
                self.world.now_s += UNDER_WAY_US / 1e6 if all(user.under_way is None for user in self.world.users.values()) else 0

    def calm(self) -> None:
        """No more faults: the last wish of everybody is answered, a little more is written, and all comes to rest."""
        self.world.no_answer_share = 0.0
        self._come_to_rest()
        for _ in range(QUIET_STEPS):
            self._load()
            self.rng.choice(self._workers).step(self.rng)
        self._come_to_rest()
        for process in self._processes:
            process.close()

    def _come_to_rest(self) -> None:
        for _ in range(LOOKS_MAX):
            for process in self._processes:
                process.step(self.rng)
            if self.world.is_at_rest():
                return
        self.world.violations.append("lost: it does not come to rest")

    def _load(self) -> None:
        if self.rng.random() < 0.2:
            self.world.mutate(mutation(self.rng))

    def _crash(self, process: Process) -> None:
        self.world.tell(f"kill -9 {process.name}")
        process.crash()

    def _wish(self, name: str, number: int) -> Asked:
        """To have a webhook, or another one, or none."""
        rng, before = self.rng, next((one.spec for one in reversed(self.world.users[name].asked)), None)
        if before is not None and rng.random() < 0.4:
            return Asked(name, None, number)
        partitions = rng.choice((1, 3)) if before is None else before.delivery.partitions
        spec = WebhookSpec(
            name, f"http://x/{number}", collections=("c",), query=rng.choice([*QUERIES]), start=rng.choice((NOW, "beginning")),
            events=OPENING if rng.random() < 0.5 else OPENING[:5], delivery=DeliverySettings(partitions=partitions),
        )  # fmt: skip
        return Asked(name, spec, number)

    def _documents(self, partition: int) -> Steps:
        before = self._stores.get(partition)
        store = self._stores[partition] = MemoryDocuments() if before is None else before.copy()
        return documents(self.world, partition, store)


def run(seed: int) -> LivesWorld:
    """A run with faults, then one without until nothing moves."""
    storm = LivesStorm(LivesWorld(seed))
    storm.rage()
    storm.calm()
    return storm.world


def _api(world: LivesWorld, number: int) -> Steps:
    return Api(world, number).run()


# What must have come of it.


def broken(world: LivesWorld) -> Iterator[str]:
    """What does not hold at the end."""
    yield from world.violations
    registry = world.registry()
    for name, user in world.users.items():
        webhook, lane = registry.webhook(name), world.tops.get(world.topics.lane(name).name)
        last = user.asked[-1] if user.asked else None
        if last is None or last.spec is None:
            if webhook is not None or lane is not None:
                yield f"{name}: deleted, and there is {webhook and webhook.current.key} with {lane and lane.id}"
        elif webhook is None or webhook.current.spec != msgspec.structs.replace(last.spec, start=webhook.current.spec.start):
            yield f"{name}: put as {last.spec}, is {webhook and webhook.current.spec}"
        elif lane is None:
            yield f"{name}: has no lane"
        else:
            yield from _answer(name, last, webhook.current)
            yield from _lane(world, _revisions(registry, webhook.current), lane)


def _revisions(registry: Registry, current: WebhookRevision) -> list[WebhookRevision]:
    """Those of its life, oldest first; of one that was answered to nobody, where it is on record to have begun all the same."""
    found = [one for one in registry.revisions(current.name) if one.uid == current.uid]
    made = next(number for number, one in enumerate(found) if one.since is not None)
    before = found[:made] if current.spec.start == NOW else []  # a backfill begins with what was answered
    return [msgspec.structs.replace(one, since=registry.since(one)) for one in (*before, *found[made:])]


def _answer(name: str, asked: Asked, current: WebhookRevision) -> Iterator[str]:
    """What a PUT has answered holds, and from before the next mutation on."""
    since = [origin.offset for origin in current.since or ()]
    if asked.answered is None or asked.answered.since != current.since:
        yield f"{name}: answered {asked.answered}, holds from {current.since}"
    if any(begin >= end for begin, end in zip(since, asked.ends, strict=True)):
        yield f"{name}: holds from {since}, and was answered at {asked.ends}"


def _lane(world: LivesWorld, revisions: Sequence[WebhookRevision], lane: Lane) -> Iterator[str]:
    """It holds what its revisions want, each document's in order, each from where a revision is on record to begin; markers first."""
    name, made = revisions[0].name, next(one for one in revisions if len(one.since or ()) == world.partitions)
    found: list[tuple[str, int, str]] = []
    for log in lane.logs:
        # What was matched for a webhook of this name that is gone by whoever has not read so yet is passed over by the sink.
        read = [decode_delivery(value) for _, _, value, _ in world.read(log)]
        deliveries = [one for one in read if one.webhook_uid == made.uid]
        found += [(one.change.key, one.change.version, one.match.value) for one in deliveries if not is_marker(one)]
        # A PUT before that nobody has answered may have asked for others; and what is not its own may look like its markers after a crash.
        if log is lane.logs[0] and made is revisions[0] and read[:1] == deliveries[:1]:
            yield from _markers(name, made, deliveries)
    wanted = {*_wanted(world, made, revisions)}
    if lost := wanted - {*found}:
        yield f"{name}: lost: {sorted(lost)}"
    if phantoms := {*found} - wanted:
        yield f"{name}: phantom: {sorted(phantoms)}"
    highest: dict[str, int] = {}
    for key, version, _ in dict.fromkeys(found):
        if version < highest.get(key, 0):
            yield f"{name}: {key} version {version} after {highest[key]}"
        highest[key] = version


def _markers(name: str, made: WebhookRevision, deliveries: Sequence[Delivery]) -> Iterator[str]:
    """
    Where asked for, ``initializing`` once, before everything else; ``ready`` behind it at once when it starts now.

    Of two APIs that find the same left over at the same moment each may write them: the second time, with the same ids, is a repeat.
    """
    if sum(one.match is Match.INITIALIZING for one in deliveries) > 2:
        yield f"{name}: opens again and again"
    matches = [*{one.webhook_id: one.match for one in deliveries}.values()]
    asked = Match.INITIALIZING.value in made.spec.events
    opening = [Match.INITIALIZING, Match.READY] if made.spec.start == NOW else [Match.INITIALIZING]
    if matches.count(Match.INITIALIZING) != asked or (asked and matches[: len(opening)] != opening):
        yield f"{name}: {'opens' if asked else 'does not open'} with a marker: {matches}"


def _wanted(world: LivesWorld, made: WebhookRevision, revisions: Sequence[WebhookRevision]) -> Iterator[tuple[str, int, str]]:
    """Of each change what the revision that serves it wants."""
    for change in history(world):
        place = Origin(0, change.partition, change.offset)
        begun = [one for one in revisions if any(since.partition == place.partition and since < place for since in one.since or ())]
        serving = begun[-1] if begun else made if made.spec.start != NOW else None
        if serving is None:
            continue
        match = event(Webhook(made.name, QUERIES[serving.spec.query]), change.old, change.new)
        is_snapshot = made.spec.start != NOW and change.appended_us < made.created_us - WINDOW_US
        if match is not None:
            yield change.key, change.version, "initial" if is_snapshot and match not in ("leave", "remove") else match
