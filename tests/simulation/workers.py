"""
A streams worker of the simulation: the agents, each as a generator that yields between any two effects.

The decisions are the project's own (apply, fold, match, subscriptions, backfill); what moves the records is written here again.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING

from schemas.backfills import BackfillProgress, encode_backfill
from schemas.changes import Change, PassedMark
from schemas.mutations import MARK_KEY, Mark
from schemas.positions import Origin, Position
from schemas.records import (
    decode_change,
    encode_change,
    encode_delivery,
    encode_mark,
    encode_mutation,
    encode_passed_mark,
    encode_since,
)  # fmt: skip
from streams.backfill import Plan, Repeats, backfilled
from streams.documents import VIA, MutationRecord, apply_all
from streams.matching import match
from streams.sieve import Sieve
from streams.snapshots import Newest
from streams.state import Fold
from streams.subscriptions import Subscriptions
from tests.simulation.processes import IDLE, Died, Steps
from tests.simulation.topics import Log, MemoryDocuments

if TYPE_CHECKING:
    from tests.simulation.world import World


def documents(world: World, partition: int, store: MemoryDocuments) -> Steps:
    log, changes = world.mutations[partition], world.changes[partition]
    position = world.commits["mutations", partition]  # before catching up: whatever is below it then is in `changes` by then
    yield from _catch_up(world, store, changes)
    while True:
        batch = world.read(log, position, world.rng.randint(1, 4))
        if not batch:
            yield IDLE
            continue
        position = batch[-1][0] + 1
        records = [
            MutationRecord(Position(partition, offset), key, value, world.appended_us(offset), headers)
            for offset, key, value, headers in batch
        ]
        applied = apply_all(records, store.meta.progress, store.document, epoch=0, partitions=world.partitions)
        assert not applied.dead, applied.dead
        for one in applied.forwarded:
            via = f"{one.via.partition}/{one.via.offset}".encode()
            world.mutations[one.partition].append(one.mutation.key.encode(), encode_mutation(one.mutation), [(VIA, via)])
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
        world.commits["mutations", partition] = max(position, world.commits["mutations", partition])
        yield


def _catch_up(world: World, store: MemoryDocuments, changes: Log) -> Steps:
    fold, end = Fold(store), len(changes.records)  # type: ignore[arg-type]
    for offset, _, value, _ in world.read(changes, store.meta.position, end):
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


def matching(world: World, partition: int) -> Steps:
    """The agent, and beside it the backfills of its partition: one process."""
    log = world.changes[partition]
    position = world.commits["changes", partition]
    subscriptions = Subscriptions(world.topics)
    read = _subscribe(world, subscriptions, 0, len(world.webhooks.records))  # a worker starts with all that is there
    seen: Origin | None = None
    backfills: dict[str, Steps] = {}
    while True:
        for name in subscriptions.owed(partition):
            if (plan := subscriptions.plan(name)) is not None:
                backfills.setdefault(plan.id, _backfill(world, partition, subscriptions, name))
        for running in backfills.values():
            if world.rng.random() < 0.5:
                next(running, None)
                yield
        read = max(read, subscriptions.position)
        batch = world.read(log, position, world.rng.randint(1, 4))
        for _, _, value, _ in batch:
            change = decode_change(value)
            if seen is not None and change.origin <= seen:
                continue
            seen = change.origin
            upto = change.webhooks + 1 if isinstance(change, PassedMark) else world.rng.randint(read, len(world.webhooks.records))
            read = _subscribe(world, subscriptions, read, max(read, upto))
            if isinstance(change, PassedMark) and change.ends:
                ending = subscriptions.ending(change)
                if ending is not None:
                    yield from backfills.setdefault(change.ends, _backfill(world, partition, subscriptions, ending))
                    read = max(read, subscriptions.position)
                    end = subscriptions.ended(ending, change)
                    world.webhooks.append(end.key.encode(), encode_backfill(end))
                    yield
                continue
            if isinstance(change, PassedMark):
                since = subscriptions.marked(change)
                if since is not None:
                    world.webhooks.append(since.key.encode(), encode_since(since))
                    yield
                continue
            for standing, delivery in match(subscriptions.queries, change):
                if not world.deliver(standing.name, change.key.encode(), encode_delivery(delivery, value)):
                    read = _subscribe(world, subscriptions, read, len(world.webhooks.records))
                    if subscriptions.registry.webhook(standing.name) is not None:
                        raise Died("the lane is gone, but its webhook is not")
                yield
        if batch:
            position = batch[-1][0] + 1
            yield
            world.commits["changes", partition] = max(position, world.commits["changes", partition])
            yield
        else:
            read = _subscribe(world, subscriptions, read, len(world.webhooks.records))
            yield IDLE


def _backfill(world: World, partition: int, subscriptions: Subscriptions, name: str) -> Steps:
    """Until it has read the mark at which it ends."""
    log = world.changes[partition]
    since: dict[int, Origin] = {}
    plan = subscriptions.plan(name)
    if plan is None:
        return  # deleted meanwhile
    position = plan.progress.get(partition, 0)
    id_ = plan.id
    repeats, is_marked = Repeats(plan.is_snapshot), False
    if plan.is_after_gap and not position:
        position = yield from _send_present(world, plan, partition)
    while True:
        if (plan := subscriptions.plan(name)) is None or plan.id != id_:
            return  # deleted meanwhile
        for offset, key, value, _ in world.read(log, position, world.rng.randint(1, 4)):
            position = offset + 1
            if not Sieve(plan).passes(key, value):
                continue
            change = decode_change(value)
            if isinstance(change, PassedMark):
                if change.ends == id_:
                    return
                _subscribe(world, subscriptions, subscriptions.position, max(subscriptions.position, change.webhooks + 1))
                if (number := subscriptions.begun_by(change, name)) is not None:
                    since.setdefault(number, change.origin)
                if (plan := subscriptions.plan(name)) is None or plan.id != id_:
                    return
                continue
            if repeats.is_repeat(change) or (plan.is_after_gap and plan.is_snapshot(change)):
                continue
            if (delivery := backfilled(plan, change, since)) is None:
                continue
            world.deliver(name, key, encode_delivery(delivery))
            world.backfilled += 1
            yield
        progress = BackfillProgress(name, id_, partition, position)
        if world.rng.random() < 0.2:
            world.webhooks.append(progress.key.encode(), encode_backfill(progress))
            yield
        if not is_marked and position >= len(log.records) - world.rng.randint(0, 5):
            place = world.webhooks.append(progress.key.encode(), encode_backfill(progress))
            yield
            world.mutations[partition].append(MARK_KEY, encode_mark(Mark(place, id_)))
            is_marked = True
        yield


def _send_present(world: World, plan: Plan, partition: int) -> Generator[None, None, int]:
    """The newest of each document, two at a time; where what is behind the snapshot begins."""
    log = world.changes[partition]
    end, low = len(log.records), 0
    while True:
        newest, begin = Newest(low, 2), end
        for reading in (1, 2):
            for offset, key, value, _ in world.read(log, 0, end):
                change = decode_change(value)
                if offset >= end or not plan.is_snapshot(change):
                    begin = min(begin, offset)
                elif isinstance(change, Change):
                    delivery = backfilled(plan, change, {})
                    if reading == 1:
                        newest.take(key, change, offset, delivery)
                    elif (key, offset) in newest and delivery is not None:
                        world.deliver(plan.name, key, encode_delivery(delivery))
                        world.backfilled += 1
                        yield
            yield
        if newest.is_last:
            return begin
        low = newest.high


def _subscribe(world: World, subscriptions: Subscriptions, start: int, end: int) -> int:
    for offset, key, value, _ in world.read(world.webhooks, start, end - start):
        if offset < end:
            subscriptions.apply(key, value or None, offset)
    return end


def _change_record(change: Change | PassedMark) -> tuple[bytes, bytes]:
    if isinstance(change, PassedMark):
        return MARK_KEY, encode_passed_mark(change)
    return change.key.encode(), encode_change(change)
