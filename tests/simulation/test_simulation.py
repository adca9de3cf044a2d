"""
One seed, one run: random mutations, webhooks edited meanwhile, crashes between any two effects, two owners at once, lost stores,
compaction.

At the end every webhook has received exactly what its query wants of the changes that a world without faults would have made, first
arrivals in order. ``LIVEHOOK_SEEDS=1000`` runs more; ``LIVEHOOK_SEED=7`` runs one.
"""

import functools
import os
import random

import msgspec
import pytest

from connectors.webhook.health import Turn
from schemas.changes import Change
from schemas.positions import Origin, Position
from schemas.records import decode_change, decode_webhooks
from schemas.starts import first_txn
from schemas.webhooks import WebhookRevision
from streams.backfill import WINDOW_US
from streams.documents import Document, MutationRecord, Progress, apply_all
from streams.matching import SimpleStandingQueries, match, standing_of
from tests.simulation.world import MemoryDocuments, Process, World

FIRST = int(os.environ.get("LIVEHOOK_SEED", "1"))
COUNT = 1 if "LIVEHOOK_SEED" in os.environ else int(os.environ.get("LIVEHOOK_SEEDS", "300"))
QUERIES = ["true", "n >= 2", "n == 1 || s == 'x'", "!(n > 2)"]


def mutation(rng: random.Random) -> dict[str, object]:
    kind = rng.random()
    id_ = rng.choice("abcd")
    if kind < 0.2:
        return {"method": "remove", "collection": "c", "id": id_}
    value = {"n": rng.randint(0, 3)} | ({"s": rng.choice("xy")} if rng.random() < 0.5 else {})
    return {"method": "upsert" if kind < 0.7 else "replace", "collection": "c", "id": id_, "value": value}


def run(seed: int) -> World:
    """A run with faults, then one without until nothing moves."""
    world = World(seed)
    rng = world.rng
    world.failing = rng.choice([0.0, 0.2, 0.5])
    rewinding = rng.choice([0.0, 0.0, 0.01])
    world.poison = {(name, f"c/{id_}") for name in ("one", "two") for id_ in "abcd" if rng.random() < 0.2}
    store_of: dict[int, MemoryDocuments] = {}

    def documents(partition):
        def start():
            # A zombie shares nothing with its successor: each works on its own copy of the store, and the store may be lost.
            store = MemoryDocuments() if rng.random() < 0.3 else copy(store_of.get(partition))
            store_of[partition] = store
            return world.documents(partition, store)

        return start

    processes = [Process(f"documents {p}", documents(p)) for p in range(world.partitions)]
    processes += [Process(f"matching {p}", functools.partial(world.matching, p)) for p in range(world.partitions)]
    processes += [Process(f"sink {name}", functools.partial(world.sink, name)) for name in ("one", "two")]
    edits = {"one": 0, "two": 0}
    putting = dict.fromkeys(edits)
    for step in range(600):
        if rng.random() < 0.15:
            asked = mutation(rng)
            world.mutate(asked, wrong_partition=asked["id"] == "d")
        if step > 5 and rng.random() < 0.02:
            name = rng.choice(list(edits))
            if putting[name] is None:
                edits[name] += 1
                putting[name] = world.put_webhook(name, rng.choice(QUERIES), edits[name], edits[name])
        for name, steps in putting.items():
            if steps is not None and rng.random() < 0.5 and next(steps, "done") == "done":
                putting[name] = None
        process = rng.choice(processes)
        process.step(rng)
        if rng.random() < 0.02:
            process.crash()
        if rng.random() < 0.01:
            process.freeze()
        if rng.random() < 0.01:
            world.down ^= {rng.choice(("one", "two"))}
        if rng.random() < 0.01 and world.poison:
            world.poison.pop()
        if rng.random() < 0.005:
            compact(world)
        if rng.random() < rewinding:
            world.rewind(rng.choice(("one", "two")))
        if rng.random() < 0.005 and (running := [one for one in world.rewinds if one.is_running]):
            world.cancel(rng.choice(running))
    for steps in putting.values():
        if steps is not None:
            list(steps)
    world.failing = 0.0
    world.down.clear()
    world.poison.clear()
    drain(world, processes)
    return world


def copy(store: MemoryDocuments | None) -> MemoryDocuments:
    fresh = MemoryDocuments()
    if store is not None:
        fresh.rows, fresh.meta = dict(store.rows), store.meta
    return fresh


def compact(world: World) -> None:
    """Only what every matching agent has committed and every repair has had time for: the compaction lag is a week."""
    if any(start != "now" for start, _ in world.made.values()):
        return  # a backfill may be reading
    for partition, log in enumerate(world.changes):
        before = min(world.commits["changes", partition], max(0, len(log.records) - 30))
        log.compact(before)
        removable = [decode_change(value) for offset, _, value, _ in world.read(log) if offset <= before]
        world.horizon_us = max([world.horizon_us, *(one.appended_us + 1 for one in removable if isinstance(one, Change))])


def drain(world: World, processes: list[Process]) -> None:
    for process in processes:
        process.heal()
    for _ in range(6000):
        for process in processes:
            process.step(world.rng)
        done = all(len(log.records) <= world.commits["mutations", p] for p, log in enumerate(world.mutations))
        done &= all(len(log.records) <= world.commits["changes", p] for p, log in enumerate(world.changes))
        done &= all(world.lane_commits.get(name, (0, ""))[0] >= len(log.records) for name, log in world.lanes.items())
        done &= all(world.jumped(name) for name in world.jumps)
        done &= world.backfills_over()
        done &= not any(lane.parking.documents for lane in world.owned.values())
        if done:
            return
    raise AssertionError("it does not come to rest")


Wanted = list[tuple[str, int, str]]
"""Key, version, match; by document in order."""


def oracle(world: World) -> tuple[dict[str, Wanted], dict[str, Wanted]]:
    """
    What each webhook must get, from the mutations and the final revisions alone.

    Returns:  what happened since its start, and, of one that starts where history is compacted, what a snapshot may hold.
    """
    queries = SimpleStandingQueries()
    final: dict[tuple[str, int], WebhookRevision] = {}
    for _, _, value, _ in world.read(world.webhooks):
        revision = decode_webhooks(value)
        if isinstance(revision, WebhookRevision):
            final[revision.name, revision.revision] = revision
    for revision in final.values():
        is_first = revision.revision == 1 and revision.spec.start != "now"
        since = [Origin(0, partition, -1) for partition in range(world.partitions)] if is_first else revision.since
        queries.put(standing_of(revision, revision.name, since or ()))
    wanted: dict[str, Wanted] = {}
    snapshots: dict[str, Wanted] = {}
    for partition, log in enumerate(world.mutations):
        documents: dict[str, Document] = {}
        records = [MutationRecord(Position(partition, at), key, value, 1000 * at, headers) for at, key, value, headers in world.read(log)]
        for change in apply_all(records, Progress(), documents.get, epoch=0, partitions=world.partitions).changes:
            if isinstance(change, Change):
                for standing, delivery in match(queries, change):
                    start, made_us = world.made[standing.name]
                    if change.txn_id < (first_txn(start) or 0):
                        continue
                    is_snapshot = start != "now" and change.appended_us < made_us - WINDOW_US
                    event = "initial" if is_snapshot and delivery.match.value not in ("leave", "remove") else delivery.match.value
                    (snapshots if is_snapshot else wanted).setdefault(standing.name, []).append((change.key, change.version, event))
    return wanted, snapshots


@pytest.mark.parametrize("seed", range(FIRST, FIRST + COUNT))
def test_nothing_is_lost_and_first_arrivals_are_in_order(seed):
    """Whatever crashes, whenever, whoever owns what for a while, and however receivers behave: delivered or dead-lettered, in order."""
    world = run(seed)
    wanted, snapshots = oracle(world)
    first: dict[str, Wanted] = {}
    bodies: dict[str, object] = {}
    for name, key, version, found in dict.fromkeys(world.settled):
        first.setdefault(name, []).append((key, version, found))
    for arrival in world.arrivals:
        bodies.setdefault(arrival.webhook_id, arrival)
        assert bodies[arrival.webhook_id] == arrival, "one webhook-id, two bodies"
    for name in snapshots.keys() & first.keys():
        check_snapshot(snapshots[name], first[name])
        first[name] = [one for one in first[name] if one not in snapshots[name]]
    for name in wanted.keys() | first.keys():
        by_document = lambda found: sorted(found, key=lambda one: one[0])  # noqa: E731 (stable: keeps the order within a document)
        assert by_document(wanted.get(name, [])) == by_document(first.get(name, [])), "\n".join(world.trace)


def check_snapshot(snapshot: Wanted, first: Wanted) -> None:
    """Of each document at least the last that happened to it before the window, and that before anything newer."""
    last = {key: (version, event) for key, version, event in snapshot}
    for key, (version, event) in last.items():
        versions = [arrived for of, arrived, _ in first if of == key]
        assert (key, version, event) in first
        assert not any(arrived > version for arrived in versions[: versions.index(version)])


@pytest.mark.parametrize("seed", range(FIRST, FIRST + COUNT // 3 + 1))
def test_a_rewind_sends_all_that_stood_in_the_lane(seed):
    """From its place to where the lane ended, whatever crashes and whatever else is asked for, unless it is cancelled."""
    world = run(seed)
    for rewind in world.rewinds:
        if rewind.is_running:
            again = {found[1:] for found in world.settled[rewind.settled :] if found[0] == rewind.name}
            assert world.sent(rewind) <= again, "\n".join(world.trace)


def test_the_world_is_not_idle():
    """A simulation without deliveries, crashes or repeats would show nothing."""
    worlds = [run(seed) for seed in range(1, 40)]
    arrivals = [arrival for world in worlds for arrival in world.arrivals]
    assert len(arrivals) > 200
    assert len({arrival.webhook_id for arrival in arrivals}) < len(arrivals)
    assert {Turn.DOWN, Turn.UP} == {turn for world in worlds for turn in world.turns}
    assert sum(world.dead for world in worlds) > 5
    assert sum(len(places) for world in worlds for places in world.parked.values()) > 50
    assert any(None in log.records for world in worlds for log in world.changes)
    assert sum(len(world.sent(rewind)) for world in worlds for rewind in world.rewinds if rewind.is_running) > 100
    assert sum(not rewind.is_running for world in worlds for rewind in world.rewinds) > 5
    assert sum(world.backfilled for world in worlds) > 200
    assert sum(arrival.match == "initial" for arrival in arrivals) > 20
    assert msgspec.json.encode(Origin(0, 0, 0))
