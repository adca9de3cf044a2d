"""
Properties of a lane that parks documents: whatever fails, however long, and wherever the process dies, every delivery comes out, and the
first time in the order of its document.

What survives a crash is what Kafka has: the lane, the last commit, and of ``parked`` a prefix of what was to be written.
"""

from __future__ import annotations

from collections import defaultdict

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from connectors.webhook import parking
from connectors.webhook.held import Held
from connectors.webhook.lanes import Lane
from connectors.webhook.offsets import Seen, Start, decode
from connectors.webhook.parking import Note, place_of, where
from schemas.changes import Change
from schemas.deliveries import Delivery, Match
from schemas.parked import Parked
from schemas.positions import Origin

CONCURRENCY = 3
PARTITIONS = 2


def held(partition: int, offset: int, document: str) -> Held:
    change = Change("c", document, offset, offset, None, b"{}", Origin(0, partition, offset), 0)
    return Held(partition, offset, f"c/{document}".encode(), b"x" * 100, Delivery("uid", 1, Match.CREATE, change))


class ParkingRules(RuleBasedStateMachine):
    """A lane of two partitions with few documents and a small window; the process dies now and then."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1_000.0
        self.log: dict[int, list[str]] = {partition: [] for partition in range(PARTITIONS)}
        self.commits: dict[int, tuple[int, str]] = {}
        self.parked: dict[int, Parked] = {}
        self.arrived: dict[tuple[int, str], list[int]] = defaultdict(list)
        self.attempts: dict[int, int] = defaultdict(int)
        self._begin()

    def _begin(self) -> None:
        starts = {partition: Start() for partition in self.log}
        starts |= {partition: decode(offset, metadata, "uid") for partition, (offset, metadata) in self.commits.items()}
        self.lane = Lane(starts, uid="uid", concurrency=CONCURRENCY, bytes_max=8_000, parked_max=15)
        self.lane.restore(self.parked.values())
        self.position = {partition: start.offset for partition, start in starts.items()}
        self.under_way: list[Held] = []

    @rule(partition=st.integers(0, PARTITIONS - 1), documents=st.text("abc", min_size=1, max_size=6))
    def append(self, partition: int, documents: str) -> None:
        self.log[partition] += [f"{document}{partition}" for document in documents]

    @rule()
    def read(self) -> None:
        for partition, log in self.log.items():
            for _ in range(4):
                offset = self.position[partition]
                if offset < len(log) and not self.lane.full(partition):
                    self.lane.take(held(partition, offset, log[offset]))
                    self.position[partition] += 1

    @rule(at_most=st.integers(1, CONCURRENCY))
    def start(self, at_most: int) -> None:
        self.under_way += self.lane.ready(self.now, at_most)

    @precondition(lambda self: self.under_way)
    @rule(data=st.data())
    def deliver(self, data: st.DataObject) -> None:
        found = self.under_way.pop(data.draw(st.integers(0, len(self.under_way) - 1)))
        self._arrive(found)
        self.lane.finished(found)

    @precondition(lambda self: self.under_way)
    @rule(data=st.data(), wait_s=st.sampled_from([0.0, 3.0, 11.0, 60.0]))
    def fail(self, data: st.DataObject, wait_s: float) -> None:
        found = self.under_way.pop(data.draw(st.integers(0, len(self.under_way) - 1)))
        self.lane.retry_at(found, self.now + wait_s, self.now)

    @precondition(lambda self: self.under_way)
    @rule()
    def go_down(self) -> None:
        """The endpoint is down: nothing that is under way counts, nor does one attempt of each other."""
        self.lane.forgive(dict.fromkeys([*self.parked, *(found.place for found in self.under_way)], 1))
        for found in self.under_way:
            self.lane.give_back(found, last=True)
        self.under_way = []

    @rule(count=st.integers(1, 5))
    def write(self, count: int) -> None:
        notes = self.lane.parking.outbox[:count]
        for note in notes:
            if note.pointer is None:
                self.parked.pop(note.place, None)
            else:
                self.parked[note.place] = note.pointer
        self.lane.written(notes)

    @rule(at_most=st.integers(1, 5), ahead=st.integers(1, 3), works=st.booleans())
    def read_back(self, at_most: int, ahead: int, works: bool) -> None:
        for document in self.lane.wanted(self.now, at_most):
            if works:
                found = [where(place) for place in document.places.ahead(ahead)]
                self.lane.loaded(document, [held(partition, offset, self.log[partition][offset]) for partition, offset in found])
            else:
                self.lane.not_loaded(document, self.now + 1.0)

    @rule(seconds=st.sampled_from([1.0, 6.0, 60.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def relieve(self) -> None:
        for partition in self.log:
            self.lane.relieve(partition, self.now)

    @rule()
    def commit(self) -> None:
        for partition, offsets in self.lane.partitions.items():
            self.commits[partition] = offsets.commit, offsets.metadata("uid")

    @rule()
    def die(self) -> None:
        self._begin()

    def _arrive(self, found: Held) -> None:
        arrived = self.arrived[found.partition, self.log[found.partition][found.offset]]
        if found.offset not in arrived:
            arrived.append(found.offset)

    @invariant()
    def first_arrivals_are_in_order(self) -> None:
        for (partition, document), offsets in self.arrived.items():
            expected = [offset for offset, found in enumerate(self.log[partition]) if found == document]
            assert expected[: len(offsets)] == offsets

    @invariant()
    def one_call_a_document(self) -> None:
        assert len({found.key for found in self.lane.under_way}) == self.lane.in_flight <= CONCURRENCY

    @invariant()
    def what_is_committed_is_delivered_or_on_record(self) -> None:
        for partition, (offset, metadata) in self.commits.items():
            done = {*range(offset), *decode(offset, metadata, "uid").finished}
            for at in done:
                has_arrived = at in self.arrived[partition, self.log[partition][at]]
                assert has_arrived or at << 5 | partition in self.parked

    def teardown(self) -> None:
        """Nothing starves: with patience alone all is delivered, and nothing stays on record."""
        for _ in range(20 + 20 * sum(map(len, self.log.values()))):
            for found in self.under_way:
                self._arrive(found)
                self.lane.finished(found)
            self.under_way = []
            self.now += 61
            self.read()
            self.relieve()
            self.write(10_000)
            self.read_back(5, 3, works=True)
            self.start(CONCURRENCY)
        assert ({}, {}) == (self.parked, self.lane.parking.documents)
        assert (0, 0, 0) == (self.lane.held, self.lane.bytes, self.lane.parking.count)
        for partition, log in self.log.items():
            assert len(log) == self.lane.partitions[partition].commit
            assert len(log) == sum(len(offsets) for (found, _), offsets in self.arrived.items() if found == partition)


@pytest.fixture(autouse=True)
def _tidy(monkeypatch: pytest.MonkeyPatch) -> None:
    """What does not wait any more is forgotten as soon as it is half of all, however little that is."""
    monkeypatch.setattr("connectors.webhook.held.STALE_MAX", 0)
    monkeypatch.setattr(parking, "STALE_MAX", 0)


ParkingRules.TestCase.settings = settings(stateful_step_count=60)
TestParkingRules = ParkingRules.TestCase


def test_what_a_jump_goes_over_is_noted_once_more_before_the_commit_passes_it() -> None:
    """An earlier life may have finished with it: the note of that may be still to come."""
    lane = Lane({0: Start(2, moved=True)}, uid="uid", concurrency=CONCURRENCY)
    known = Parked("uid", 0, 3, b"c/b", 0, 0)
    lane.restore([Parked("uid", 0, 1, b"c/a", 1, 0), known])
    assert [] == lane.parking.outbox
    last = held(0, 3, "b")
    for one in (held(0, 2, "z"), last):
        lane.take(one)
    assert [Note(place_of(0, 3), known, last)] == lane.parking.outbox
    for one in lane.ready(1_000.0):
        lane.finished(one)
    assert 3 == lane.partitions[0].commit
    lane.written(lane.parking.outbox[:])
    assert 4 == lane.partitions[0].commit
    assert 2 == lane.parking.count_in(0)


def test_what_a_jump_goes_over_is_counted_once() -> None:
    """Also where it is read as a copy of an earlier one, by its origin, and so is not noted once more."""
    lane = Lane({0: Start(2, moved=True)}, uid="uid", concurrency=CONCURRENCY)
    copy = held(0, 3, "b")
    first = Held(0, 2, copy.key, copy.value, copy.delivery)
    lane.restore([Parked("uid", 0, 3, b"c/b", 0, 0)])
    assert [Seen.NEW, Seen.DUPLICATE] == [lane.take(first), lane.take(copy)]
    lane.written(lane.parking.outbox[:])
    [document] = lane.wanted(1_000.0, 1)
    lane.loaded(document, [first, copy])
    for _ in range(2):
        [one] = lane.ready(1_000.0)
        lane.finished(one)
    lane.written(lane.parking.outbox[:])
    assert (0, 0, 4) == (lane.parking.count_in(0), lane.parking.count, lane.partitions[0].commit)
