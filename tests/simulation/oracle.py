"""
What must have come of a run of the simulation, from what was asked alone: mutations as they stand in the log, webhooks as they were put.

Imports none of the decisions that it judges: documents, events, txnIds and which revision holds are worked out here again, in the words of
docs/reference. Asked after the run, when nothing is planted in the project any more. Pure.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from schemas.mutations import MARK_KEY
from schemas.starts import first_txn
from streams.backfill import WINDOW_US
from streams.documents import VIA
from tests.chaos.checker import Arrival, Document, Operation, Webhook, event, folded

if TYPE_CHECKING:
    from tests.simulation.world import World

QUERIES: Mapping[str, Callable[[Document], bool]] = {
    "true": lambda document: True,
    "n >= 2": lambda document: document.get("n", 0) >= 2,
    "n == 1 || s == 'x'": lambda document: document.get("n") == 1 or document.get("s") == "x",
    "!(n > 2)": lambda document: "n" in document and document["n"] <= 2,
}


@dataclass(frozen=True, slots=True)
class Made:
    """A webhook from one change of its query to the next; ``since``: the offset of its mark in each partition, or -1 for all there is."""

    number: int
    query: str
    since: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Change:
    """One step in a document's life, and where it was asked for."""

    key: str
    version: int
    old: Document | None
    new: Document | None
    txn_id: int
    partition: int
    offset: int
    appended_us: int


@dataclass(frozen=True, slots=True)
class Wanted:
    """A delivery that must come; one of a ``snapshot`` only if nothing newer of its document, from before the same time, follows it."""

    change: Change
    match: str
    snapshot: bool

    @property
    def settled(self) -> tuple[str, int, str]:
        """As the world notes what was delivered or dead-lettered."""
        return self.change.key, self.change.version, self.match


def violations(world: World) -> list[str]:
    """Every promise that was broken, in a few words each."""
    found = list(world.violations)
    wanted = {name: _wanted(world, name) for name in world.made}
    found += _bodies(world, wanted)
    for name in world.made:
        settled = [one[1:] for one in dict.fromkeys(world.receivers.settled) if one[0] == name]
        found += _lane(name, wanted[name], settled, _snapshots(world, name))
    found += _rewinds(world)
    return found


def history(world: World) -> list[Change]:
    """Every change, by partition and then in order."""
    return [change for partition in range(world.partitions) for change in _changes(world, partition)]


def _changes(world: World, partition: int) -> Iterator[Change]:
    values: dict[str, Document | None] = {}
    versions: dict[str, int] = {}
    forwarded: set[bytes] = set()
    last = 0
    for offset, raw_key, raw, headers in world.read(world.mutations[partition]):
        key = raw_key.decode()
        via = dict(headers).get(VIA)
        if raw_key == MARK_KEY or world.home(key) != partition or via in forwarded:
            continue
        if via is not None:
            forwarded.add(via)
        old, new = values.get(key), folded(values.get(key), _operation(key, json.loads(raw if via is None else _source(world, via))))
        if old == new:
            continue
        appended_us = world.appended_us(offset)
        least = max(last + 1, appended_us)
        last = least + (partition - least) % world.partitions
        values[key], versions[key] = new, versions.get(key, 0) + 1
        yield Change(key, versions[key], old, new, last, partition, offset, appended_us)


def _source(world: World, via: bytes) -> bytes:
    """The mutation as it was written, before it was sent on to its partition."""
    partition, _, offset = via.decode().partition("/")
    record = world.mutations[int(partition)].records[int(offset)]
    assert record is not None
    return record[1] or b""


def _operation(key: str, asked: Mapping[str, object]) -> Operation:
    value = asked.get("value")
    return Operation(key, str(asked["method"]), {**value, "_id": asked["id"]} if isinstance(value, dict) else None)


def _wanted(world: World, name: str) -> dict[tuple[str, int], Wanted]:
    """By document and version, in the order in which a document's must come."""
    start, made_us = world.made[name]
    revisions = sorted(world.revisions[name], key=lambda one: one.number, reverse=True)
    found: dict[tuple[str, int], Wanted] = {}
    for change in history(world):
        serving = next((one for one in revisions if one.since[change.partition] < change.offset), None)
        if serving is None or change.txn_id < (first_txn(start) or 0):
            continue
        match = event(Webhook(name, QUERIES[serving.query]), change.old, change.new)
        if match is None:
            continue
        is_snapshot = start != "now" and change.appended_us < made_us - WINDOW_US
        if is_snapshot and match not in ("leave", "remove"):
            match = "initial"
        found[change.key, change.version] = Wanted(change, match, is_snapshot)
    return found


def _bodies(world: World, wanted: Mapping[str, Mapping[tuple[str, int], Wanted]]) -> Iterator[str]:
    """Every call says what happened, under an id that says nothing else."""
    known: dict[str, Arrival] = {}
    ids: dict[tuple[str, str, int], str] = {}
    for one in world.receivers.arrivals:
        if known.setdefault(one.webhook_id, one) is not one:
            if known[one.webhook_id] != one:
                yield f"repeat: {one.webhook_id} with two bodies: {known[one.webhook_id]} and {one}"
            continue
        if ids.setdefault((one.webhook, one.key, one.version), one.webhook_id) != one.webhook_id:
            yield f"not growing: {one.webhook} {one.key} version {one.version} under two ids"
        yield from _body(one, wanted[one.webhook].get((one.key, one.version)))


def _body(arrival: Arrival, wanted: Wanted | None) -> Iterator[str]:
    where = f"{arrival.webhook} {arrival.key} version {arrival.version}"
    if wanted is None:
        yield f"phantom: {where}: nobody wants {arrival}"
        return
    old = None if wanted.match == "initial" else wanted.change.old
    if arrival.new != wanted.change.new:
        yield f"phantom: {where}: new value is {arrival.new}, must be {wanted.change.new}"
    if arrival.old != old:
        yield f"torn: {where}: old value is {arrival.old}, must be {old}"
    if arrival.match != wanted.match:
        yield f"wrong event: {where}: came as {arrival.match}, is {wanted.match}"
    if arrival.txn_id != wanted.change.txn_id:
        yield f"not growing: {where}: txnId is {arrival.txn_id}, must be {wanted.change.txn_id}"


def _snapshots(world: World, name: str) -> dict[str, int]:
    """Each document's version when the history that a webhook can still have began: of the changes before it compaction may take any."""
    start, made_us = world.made[name]
    return {} if start == "now" else {one.key: one.version for one in history(world) if one.appended_us < made_us - WINDOW_US}


def _lane(
    name: str, wanted: Mapping[tuple[str, int], Wanted], settled: Sequence[tuple[str, int, str]], last_of_snapshot: Mapping[str, int]
) -> Iterator[str]:
    """All that was wanted was delivered or dead-lettered, first times in order of each document."""
    seen = set(settled)
    for (key, version), one in wanted.items():
        may_lack = one.snapshot and version < last_of_snapshot[key]
        if one.settled not in seen and not may_lack:
            yield f"lost: {name} {key} version {version} {one.match}"
    highest: dict[str, int] = {}
    for key, version, _ in settled:
        may_repeat = version < last_of_snapshot.get(key, 0) and highest.get(key, 0) <= last_of_snapshot[key]
        if version <= highest.get(key, 0) and not may_repeat:
            yield f"reordered: {name} {key} version {version} after {highest[key]}"
        highest[key] = max(version, highest.get(key, 0))


def _rewinds(world: World) -> Iterator[str]:
    """A rewind sends all that stood in the lane from its place on, whatever crashes and whatever else is asked for, unless cancelled."""
    for rewind in world.rewinds:
        if rewind.is_running:
            again = {found[1:] for found in world.receivers.settled[rewind.settled :] if found[0] == rewind.name}
            for lost in sorted(world.sent(rewind) - again):
                yield f"lost: {rewind.name} {lost}, of {rewind.jump.replay}"
