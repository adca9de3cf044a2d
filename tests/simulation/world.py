"""
A world in memory: topics, and the processes of Livehook as generators that yield between any two effects.

A process has state that a crash takes away and topics, commits and stores that it does not. The decisions are the product's own (apply,
fold, match, lane, health, parking, offsets, retry); only what moves the records is written again here, one effect at a time.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field

import msgspec

from connectors.webhook.calls import Failure, Response
from connectors.webhook.health import Health, Policy, Turn
from connectors.webhook.lanes import AHEAD, Held, Lane
from connectors.webhook.offsets import Entry, Offsets, Seen, Start, decode
from connectors.webhook.ownership import Jump
from connectors.webhook.parking import where
from connectors.webhook.retry import DeadLetter, Delivered, Disable, RetryAt, Returned, Schedule
from schemas.attempts import ErrorCode
from schemas.backfills import BackfillProgress, encode_backfill
from schemas.changes import Change, PassedMark
from schemas.keys import partition_of
from schemas.mutations import MARK_KEY, Mark
from schemas.parked import Parked
from schemas.positions import Origin, Position
from schemas.records import (
    decode_change,
    decode_delivery,
    encode_change,
    encode_delivery,
    encode_mark,
    encode_mutation,
    encode_passed_mark,
    encode_revision,
    encode_since,
)
from schemas.topics import Topics
from schemas.webhooks import WebhookRevision, WebhookSpec
from streams.backfill import WINDOW_US, Repeats, backfilled
from streams.documents import VIA, Document, MutationRecord, Progress, apply_all
from streams.matching import match
from streams.state import Fold, Meta, Stored
from streams.subscriptions import Subscriptions

Steps = Generator[None, None, None]

POLICY = Policy(Schedule((0.0, 3.0, 20.0, 50.0), 0.2), 1e9)


class Died(Exception):
    """A process ends itself: what it saw is not safe to go on with."""


@dataclass
class Rewind:
    """One that was asked for: where the lane had come to, and how much was settled by then."""

    name: str
    jump: Jump
    reached: int
    settled: int
    is_running: bool = True


class MemoryDocuments:
    """The document store's fold in a dictionary; what survives a crash is a copy."""

    def __init__(self) -> None:
        self.rows: dict[str, Stored] = {}
        self.meta = Meta("topic")

    def document(self, key: str) -> Document | None:
        row = self.rows.get(key)
        return None if row is None else row.document

    def stored(self, key: str) -> Stored | None:
        return self.rows.get(key)

    def write(self, changes, progress: Progress, position: int) -> None:
        for change, offset in changes:
            self.rows[change.key] = Stored(Document(change.version, change.new), offset)
        self.meta = Meta("topic", position=position, progress=progress)

    fold = write


@dataclass
class Log:
    """One partition: (key, value, headers), and whatever compaction took away as None."""

    records: list[tuple[bytes | None, bytes | None, list[tuple[str, bytes]]] | None] = field(default_factory=list)

    def append(self, key, value, headers=()) -> int:
        self.records.append((key, value, list(headers)))
        return len(self.records) - 1

    def compact(self, keep_from: int) -> None:
        """Keep only the last record of each key below ``keep_from``."""
        last = {record[0]: offset for offset, record in enumerate(self.records) if record is not None}
        for offset in range(min(keep_from, len(self.records) - 1)):
            record = self.records[offset]
            if record is not None and last[record[0]] != offset:
                self.records[offset] = None


@dataclass(frozen=True)
class Arrival:
    """What a receiver saw of a delivery."""

    webhook: str
    key: str
    version: int
    webhook_id: str
    match: str
    old: bytes | None
    new: bytes | None


class World:
    """Everything that outlives a process, and the processes."""

    def __init__(self, seed: int, partitions: int = 2) -> None:
        self.rng = random.Random(seed)
        self.topics = Topics("t.", partitions)
        self.partitions = partitions
        self.mutations = [Log() for _ in range(partitions)]
        self.changes = [Log() for _ in range(partitions)]
        self.webhooks = Log()
        self.lanes: dict[str, Log] = defaultdict(Log)
        self.commits: dict[tuple[str, int], int] = defaultdict(int)
        self.lane_commits: dict[str, tuple[int, str]] = {}
        self.stores = [MemoryDocuments() for _ in range(partitions)]
        self.arrivals: list[Arrival] = []
        self.clock_us = 1_000_000
        self.trace: list[str] = []
        self.failing = 0.0
        self.now_s = 1_000.0
        self.down: set[str] = set()
        self.poison: set[tuple[str, str]] = set()
        self.parked: dict[str, dict[int, Parked | None]] = defaultdict(dict)
        self.generations: dict[str, int] = defaultdict(int)
        self.owned: dict[str, Lane] = {}
        self.settled: list[tuple[str, str, int, str]] = []  # delivered or dead-lettered
        self.turns: list[Turn] = []
        self.dead = 0
        self.jumps: dict[str, list[Jump]] = defaultdict(list)
        self.rewinds: list[Rewind] = []
        self.number = 0
        self.made: dict[str, tuple[str, int]] = {}  # start and time of creation of each webhook
        self.backfilled = 0
        self.horizon_us = 0  # what was appended before it may have been compacted

    # --- what users do

    def mutate(self, mutation: dict[str, object], *, wrong_partition: bool = False) -> None:
        key = f"{mutation['collection']}/{mutation['id']}".encode()
        partition = partition_of(key, self.partitions)
        if wrong_partition:
            partition = (partition + 1) % self.partitions
        self.mutations[partition].append(key, msgspec.json.encode(mutation))

    def put_webhook(self, name: str, query: str, revision: int, edit: int) -> Steps:
        """The API's protocol for a new revision, one effect a step; gives up anywhere if the API dies."""
        start, created_us = self.made.setdefault(name, self._making())
        spec = WebhookSpec(name, "http://x", collections=("c",), query=query, start=start)
        pending = WebhookRevision(name, name, revision, edit, spec, [], created_us, created_us)
        offset = self.webhooks.append(pending.key.encode(), encode_revision(pending))
        yield
        since = []
        for partition, log in enumerate(self.mutations):
            since.append(Origin(0, partition, log.append(MARK_KEY, encode_mark(Mark(offset)))))
            yield
        final = msgspec.structs.replace(pending, since=since)
        self.webhooks.append(final.key.encode(), encode_revision(final))
        self.trace.append(f"webhook {name}/{revision} {query} since {since}")

    def _making(self) -> tuple[str, int]:
        """A start, and a time of creation to which the documents of before the horizon are a snapshot."""
        last_us = 1_000 * min(len(log.records) for log in self.mutations)  # the partition whose clock is the slowest
        if last_us < self.horizon_us:
            return "now", WINDOW_US
        start = self.rng.choice(["now", "beginning", "beginning", f"txn:{self.rng.randint(0, last_us)}"])
        return start, WINDOW_US + self.rng.randint(self.horizon_us, last_us)

    def rewind(self, name: str) -> None:
        """Ask for one, from anywhere in the lane."""
        end = len(self.lanes[name].records)
        self.number += 1
        jump = Jump(number=self.number, replay=f"rpl_{self.number}", is_forward=False, to=(self.rng.randint(0, end),), until=(end,))
        running = [one.reached for one in self.rewinds if one.name == name and one.is_running]
        reached = max([self.lane_commits.get(name, (0, ""))[0], *running])
        self.rewinds.append(Rewind(name, jump, reached, len(self.settled)))
        self.jumps[name].append(jump)

    def cancel(self, rewind: Rewind) -> None:
        """End it; only the last one leads on."""
        rewind.is_running = False
        self.jumps[rewind.name].remove(rewind.jump)
        if not any(one.is_running for one in self.rewinds if one.name == rewind.name):
            self.number += 1
            forward = Jump(number=self.number, replay=rewind.jump.replay, is_forward=True, to=(rewind.reached,), until=())
            self.jumps[rewind.name].append(forward)

    def jumped(self, name: str) -> bool:
        """Whether every jump of a lane was carried out."""
        offset, metadata = self.lane_commits.get(name, (0, ""))
        return all(metadata and decode(offset, metadata, name).rewind >= jump.number for jump in self.jumps[name])

    def backfills_over(self) -> bool:
        """Whether every webhook that started in the past is live in every partition."""
        ended = {key.decode() for _, key, _, _ in self.read(self.webhooks) if key.endswith(b"/end")}
        past = [name for name, (start, _) in self.made.items() if start != "now"]
        return {(name, str(partition)) for name in past for partition in range(self.partitions)} <= {_part(key) for key in ended}

    def sent(self, rewind: Rewind) -> set[tuple[str, int, str]]:
        """What a rewind goes over, without repeats, also of what stands before it: key, version, match."""
        [begin], [until] = rewind.jump.to, rewind.jump.until
        offsets, found = Offsets(Start()), set()
        for at, _, value, _ in self.read(self.lanes[rewind.name], 0, until):
            delivery = decode_delivery(value)
            if offsets.read(Entry(at, delivery.order)) is Seen.NEW and at >= begin:
                found.add((delivery.change.key, delivery.change.version, delivery.match.value))
        return found

    # --- the documents agent

    def documents(self, partition: int, store: MemoryDocuments) -> Steps:
        log, changes = self.mutations[partition], self.changes[partition]
        position = self.commits["mutations", partition]  # before catching up: whatever is below it then is in `changes` by then
        yield from self._catch_up(store, changes)
        while True:
            batch = self.read(log, position, self.rng.randint(1, 4))
            if not batch:
                yield
                continue
            position = batch[-1][0] + 1
            records = [
                MutationRecord(Position(partition, offset), key, value, 1000 * offset, headers) for offset, key, value, headers in batch
            ]
            applied = apply_all(records, store.meta.progress, store.document, epoch=0, partitions=self.partitions)
            assert not applied.dead, applied.dead
            for one in applied.forwarded:
                via = f"{one.via.partition}/{one.via.offset}".encode()
                self.mutations[one.partition].append(one.mutation.key.encode(), encode_mutation(one.mutation), [(VIA, via)])
                yield
            end = store.meta.position
            written = []
            for number, change in enumerate(applied.changes):
                if changes.append(*_change_record(change)) != end + number:
                    raise Died("a foreign record")
                if isinstance(change, Change):
                    written.append((change, end + number))
                yield
            store.write(written, applied.progress, end + len(applied.changes))
            yield
            self.commits["mutations", partition] = max(position, self.commits["mutations", partition])
            yield

    def _catch_up(self, store: MemoryDocuments, changes: Log) -> Steps:
        fold, end = Fold(store), len(changes.records)  # type: ignore[arg-type]
        for offset, _, value, _ in self.read(changes, store.meta.position, end):
            if offset < end:
                fold.take(decode_change(value), offset)
        fold.write(end)
        yield
        again = Fold(store)  # type: ignore[arg-type]
        for number, at in enumerate(sorted(fold.behind.values())):
            record = changes.records[at]
            assert record is not None, "compaction took the newest change of a document"
            if changes.append(*record) != end + number:
                raise Died("a foreign record")
            again.take(decode_change(record[1] or b""), end + number)
            yield
        again.write(end + len(fold.behind))

    # --- the matching agent

    def matching(self, partition: int) -> Steps:
        """The agent, and beside it the backfills of its partition: one process."""
        log = self.changes[partition]
        position = self.commits["changes", partition]
        subscriptions = Subscriptions(self.topics)
        read = self._subscribe(subscriptions, 0, len(self.webhooks.records))  # a worker starts with all that is there
        seen: Origin | None = None
        backfills: dict[str, Steps] = {}
        while True:
            for name in subscriptions.owed(partition):
                backfills.setdefault(name, self._backfill(partition, subscriptions, name))
            for running in backfills.values():
                if self.rng.random() < 0.5:
                    next(running, None)
                    yield
            read = max(read, subscriptions.position)
            batch = self.read(log, position, self.rng.randint(1, 4))
            for _, _, value, _ in batch:
                change = decode_change(value)
                if seen is not None and change.origin <= seen:
                    continue
                seen = change.origin
                upto = change.webhooks + 1 if isinstance(change, PassedMark) else self.rng.randint(read, len(self.webhooks.records))
                read = self._subscribe(subscriptions, read, max(read, upto))
                if isinstance(change, PassedMark) and change.ends:
                    ending = subscriptions.ending(change)
                    if ending is not None:
                        yield from backfills.setdefault(ending, self._backfill(partition, subscriptions, ending))
                        read = max(read, subscriptions.position)
                        end = subscriptions.ended(ending, change)
                        self.webhooks.append(end.key.encode(), encode_backfill(end))
                        yield
                    continue
                if isinstance(change, PassedMark):
                    since = subscriptions.marked(change)
                    if since is not None:
                        self.webhooks.append(since.key.encode(), encode_since(since))
                        yield
                    continue
                for standing, delivery in match(subscriptions.queries, change):
                    self.lanes[standing.name].append(change.key.encode(), encode_delivery(delivery, value))
                    yield
            if batch:
                position = batch[-1][0] + 1
                yield
                self.commits["changes", partition] = max(position, self.commits["changes", partition])
            else:
                read = self._subscribe(subscriptions, read, len(self.webhooks.records))
            yield

    def _backfill(self, partition: int, subscriptions: Subscriptions, name: str) -> Steps:
        """Until it has read the mark at which it ends."""
        log, lane = self.changes[partition], self.lanes[name]
        since: dict[int, Origin] = {}
        plan = subscriptions.plan(name)
        assert plan is not None
        position = plan.progress.get(partition, 0)
        uid = plan.uid
        repeats, is_marked = Repeats(plan.snapshot_before_us), False
        while True:
            for offset, key, value, _ in self.read(log, position, self.rng.randint(1, 4)):
                position = offset + 1
                change = decode_change(value)
                if isinstance(change, PassedMark):
                    if change.ends == uid:
                        return
                    self._subscribe(subscriptions, subscriptions.position, max(subscriptions.position, change.webhooks + 1))
                    if (number := subscriptions.begun_by(change, name)) is not None:
                        since.setdefault(number, change.origin)
                    continue
                plan = subscriptions.plan(name)
                assert plan is not None
                if repeats.is_repeat(change) or (delivery := backfilled(plan, change, since)) is None:
                    continue
                lane.append(key, encode_delivery(delivery))
                self.backfilled += 1
                yield
            progress = BackfillProgress(name, name, partition, position)
            if self.rng.random() < 0.2:
                self.webhooks.append(progress.key.encode(), encode_backfill(progress))
                yield
            if not is_marked and position >= len(log.records) - self.rng.randint(0, 5):
                place = self.webhooks.append(progress.key.encode(), encode_backfill(progress))
                yield
                self.mutations[partition].append(MARK_KEY, encode_mark(Mark(place, name)))
                is_marked = True
            yield

    def _subscribe(self, subscriptions: Subscriptions, start: int, end: int) -> int:
        for offset, key, value, _ in self.read(self.webhooks, start, end - start):
            if offset < end:
                subscriptions.apply(key, value, offset)
        return end

    # --- the sink

    def sink(self, name: str) -> Steps:
        """The next owner of a lane; whoever had it before commits and calls no more."""
        self.generations[name] += 1
        return self._sink(name, self.generations[name])

    def _sink(self, name: str, generation: int) -> Steps:
        log = self.lanes[name]
        offset, metadata = self.lane_commits.get(name, (0, None))
        start = Start() if metadata is None else decode(offset, metadata, name)
        jumps = tuple(self.jumps[name])
        for jump in jumps:
            start = jump.moves(0, start) if jump.number > start.rewind else start
        lane = Lane({0: start}, uid=name, concurrency=6, origin_partitions=self.partitions, bytes_max=5_000, parked_max=20)
        if generation == self.generations[name]:
            self.owned[name] = lane
        lane.restore(record for record in self.parked[name].values() if record is not None)
        health = Health(self.rng)
        position = start.offset
        while jumps == tuple(self.jumps[name]) or generation != self.generations[name]:
            self.now_s += self.rng.choice([0.2, 1.0, 20.0])
            now, is_owner = self.now_s, generation == self.generations[name]
            for at, key, value, _ in self.read(log, position, 0 if lane.full(0) else self.rng.randint(0, 4)):
                lane.take(Held(0, at, key, value, decode_delivery(value)))
                position = at + 1
            lane.relieve(0, now)
            if is_owner:  # a process that was frozen has no lease: it starts nothing
                yield from self._read_back(lane, log, health, now)
                yield from self._send(name, lane, health, now)
            yield from self._write_parked(name, lane)
            if self.rng.random() < 0.3 and generation == self.generations[name]:
                offsets = lane.partitions[0]
                self.lane_commits[name] = (offsets.commit, offsets.metadata(name))
            yield

    def _read_back(self, lane: Lane, log: Log, health: Health, now: float) -> Steps:
        room = health.room(now)
        for document in lane.wanted(now, 6 if room is None else room):
            yield
            places = document.places.ahead(self.rng.randint(1, AHEAD))
            found = [(where(place)[1], log.records[where(place)[1]]) for place in places]
            lane.loaded(document, [Held(0, at, one[0], one[1] or b"", decode_delivery(one[1] or b"")) for at, one in found if one])

    def _send(self, name: str, lane: Lane, health: Health, now: float) -> Steps:
        sent = lane.ready(now, health.room(now))
        health.pace.started(now, len(sent))
        for held in sent:
            health.started(held.place)
        self.rng.shuffle(sent)
        for held in sent:
            yield
            result = self._called(name, held)
            yield
            verdict = health.judge(result, held.place, held.key, held.attempt, POLICY, now=now)
            if verdict.turn is not None:
                self.turns.append(verdict.turn)
                lane.forgive(verdict.forgiven)
            match verdict.decision:
                case Delivered():
                    lane.finished(held)
                case RetryAt(at):
                    lane.retry_at(held, at, now)
                case Returned():
                    lane.give_back(held, last=True)
                case DeadLetter():
                    self.settled.append((name, held.delivery.change.key, held.delivery.change.version, held.delivery.match.value))
                    self.dead += 1
                    yield
                    lane.finished(held)
                case Disable():
                    raise AssertionError("no webhook is down for so long")

    def _write_parked(self, name: str, lane: Lane) -> Steps:
        """One record after the other; whatever of them is written when the process ends is a prefix."""
        while lane.parking.outbox and self.rng.random() < 0.9:
            note = lane.parking.outbox[0]
            self.parked[name][note.place] = note.pointer
            yield
            lane.written([note])

    def _called(self, name: str, held: Held) -> Response | Failure:
        """A receiver that may be down, hate a document, fail by chance, and lie: it has taken the delivery and says that it has not."""
        document = held.delivery.change.key
        if name in self.down:
            return Failure(ErrorCode.CONNECT, "refused")
        if (name, document) in self.poison:
            return Response(400)
        fails = self.rng.random() < self.failing
        if not fails or self.rng.random() < 0.5:
            self._arrive(name, held)
        return Response(self.rng.choice([500, 429, 503])) if fails else Response(200)

    def _arrive(self, name: str, held: Held) -> None:
        delivery = held.delivery
        change = delivery.change
        self.settled.append((name, change.key, change.version, delivery.match.value))
        self.arrivals.append(Arrival(name, change.key, change.version, delivery.webhook_id, delivery.match.value, change.old, change.new))

    def read(self, log: Log, start: int = 0, at_most: int = 10**9) -> list[tuple[int, bytes, bytes, list[tuple[str, bytes]]]]:
        found: list[tuple[int, bytes, bytes, list[tuple[str, bytes]]]] = []
        for offset in range(start, len(log.records)):
            if len(found) >= at_most:
                break
            record = log.records[offset]
            if record is not None:
                found.append((offset, record[0] or b"", record[1] or b"", record[2]))
        return found


def _change_record(change: Change | PassedMark) -> tuple[bytes, bytes]:
    if isinstance(change, PassedMark):
        return MARK_KEY, encode_passed_mark(change)
    return change.key.encode(), encode_change(change)


class Process:
    """Something that runs, crashes and is started again; a zombie runs on beside its successor."""

    def __init__(self, name: str, start: Callable[[], Steps]) -> None:
        self.name = name
        self._start = start
        self._running: list[Steps] = [start()]
        self.crashes = 0

    def step(self, rng: random.Random) -> None:
        running = rng.choice(self._running)
        try:
            next(running)
        except Died:
            self._replace(running)
        except StopIteration:
            self._replace(running)

    def crash(self) -> None:
        """All of it ends, between two effects, and is started again."""
        self.crashes += 1
        self._running = [self._start()]

    def freeze(self) -> None:
        """Another owner takes over while this one is not gone; at most two at a time."""
        if len(self._running) < 2:
            self._running.append(self._start())

    def heal(self) -> None:
        """Only the last owner is left."""
        self._running = self._running[-1:]

    def _replace(self, running: Steps) -> None:
        self._running.remove(running)
        self._running.append(self._start())

    def __iter__(self) -> Iterator[Steps]:
        return iter(self._running)


def _part(key: str) -> tuple[str, str]:
    """Webhook and partition of a backfill's end."""
    name, _, _, partition, _ = key.split("/")
    return name, partition
