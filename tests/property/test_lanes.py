"""Properties of a lane: order per document, one call a document, no more than asked for, everything finished in the end."""

from __future__ import annotations

from collections import defaultdict

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from connectors.webhook.held import Held
from connectors.webhook.lanes import Lane
from connectors.webhook.offsets import Seen, Start
from connectors.webhook.rates import Rate, Share
from schemas.changes import Change
from schemas.deliveries import Delivery, Match
from schemas.positions import Origin

CONCURRENCY = 3


def held(offset: int, document: str, *, partition: int = 0, value: bytes = b"x" * 100, due: float = 0.0) -> Held:
    """The delivery at that offset, whose origin has the same offset."""
    change = Change("c", document, offset, offset, None, b"{}", Origin(0, partition, offset), 0)
    return Held(partition, offset, f"c/{document}".encode(), value, Delivery("uid", 1, Match.CREATE, change), due)


class LaneRules(RuleBasedStateMachine):
    """A lane of one partition with few documents, so that they meet; time only moves forward."""

    def __init__(self) -> None:
        super().__init__()
        self.lane = Lane({0: Start()}, concurrency=CONCURRENCY)
        self.now = 1_000.0
        self.read = 0
        self.under_way: list[Held] = []
        self.expected: dict[bytes | None, list[int]] = defaultdict(list)  # offsets of a document that are not finished, in order
        self.due: dict[int, float] = {}

    @rule(document=st.sampled_from("abcd"), copies=st.integers(1, 3))
    def take(self, document: str, copies: int) -> None:
        for _ in range(copies):
            found = held(self.read, document)
            assert Seen.NEW is self.lane.take(found)
            self.expected[found.key].append(self.read)
            self.read += 1

    @rule(at_most=st.none() | st.integers(0, 4))
    def start(self, at_most: int | None) -> None:
        free = {offsets[0] for offsets in self.expected.values() if offsets} - {found.offset for found in self.under_way}
        startable = {offset for offset in free if self.due.get(offset, 0.0) <= self.now}
        found = self.lane.ready(self.now, at_most)
        room = CONCURRENCY - len(self.under_way)
        assert min(len(startable), room if at_most is None else min(room, at_most)) == len(found)
        for one in found:
            assert self.expected[one.key][0] == one.offset  # the earliest unfinished of its document
            assert self.due.pop(one.offset, 0.0) <= self.now
        self.under_way += found
        assert len({one.key for one in self.under_way}) == len(self.under_way)

    @precondition(lambda self: self.under_way)
    @rule(data=st.data())
    def finish(self, data: st.DataObject) -> None:
        found = self.under_way.pop(data.draw(st.integers(0, len(self.under_way) - 1)))
        self.lane.finished(found)
        assert found.offset == self.expected[found.key].pop(0)

    @precondition(lambda self: self.under_way)
    @rule(data=st.data(), wait_s=st.integers(0, 5))
    def fail(self, data: st.DataObject, wait_s: int) -> None:
        found = self.under_way.pop(data.draw(st.integers(0, len(self.under_way) - 1)))
        self.lane.retry_at(found, self.now + wait_s, self.now)
        self.due[found.offset] = self.now + wait_s

    @precondition(lambda self: self.under_way)
    @rule(last=st.booleans())
    def give_back(self, last: bool) -> None:
        found = self.under_way.pop()
        attempt = found.attempt
        self.lane.give_back(found, last=last)
        assert attempt - 1 == found.attempt

    @rule(seconds=st.integers(1, 4))
    def wait(self, seconds: int) -> None:
        self.now += seconds

    @invariant()
    def counts(self) -> None:
        unfinished = [offset for offsets in self.expected.values() for offset in offsets]
        assert len(unfinished) == self.lane.held
        assert len(self.under_way) == self.lane.in_flight
        assert min(unfinished, default=self.read) == self.lane.partitions[0].commit
        assert (self.lane.bytes == 0) == (not unfinished)

    @invariant()
    def next_due(self) -> None:
        due = min(self.lane.dues, default=None)
        later = [at for at in self.due.values() if at > self.now]
        if later:
            assert due is not None
            assert due <= min(later)

    def teardown(self) -> None:
        """Nothing starves: with patience alone all is finished."""
        for _ in range(10 * (self.read + 1)):
            for found in self.under_way:
                self.lane.finished(found)
            self.now += 1
            self.under_way = self.lane.ready(self.now)
        assert (0, 0, self.read) == (self.lane.held, self.lane.bytes, self.lane.partitions[0].commit)


@pytest.fixture(autouse=True)
def _tidy(monkeypatch: pytest.MonkeyPatch) -> None:
    """What does not wait any more is forgotten as soon as it is half of all, however little that is."""
    monkeypatch.setattr("connectors.webhook.held.STALE_MAX", 0)


TestLaneRules = LaneRules.TestCase


@given(st.lists(st.sampled_from("ab"), max_size=20), st.integers(1, 30))
def test_without_order_a_document_holds_up_nothing(documents, concurrency):
    """With order none, deliveries of one document go at once."""
    lane = Lane({0: Start()}, concurrency=concurrency, ordered=False)
    for offset, document in enumerate(documents):
        lane.take(held(offset, document))
    assert list(range(min(len(documents), concurrency))) == [found.offset for found in lane.ready(0.0)]


@given(st.lists(st.tuples(st.integers(0, 2), st.sampled_from("abc")), max_size=40), st.randoms(use_true_random=False))
def test_partitions_of_a_lane_commit_on_their_own(records, rng):
    """Each partition has its own lowest unfinished offset; the concurrency is the webhook's, over all of them."""
    lane = Lane({partition: Start() for partition in range(3)}, concurrency=2)
    positions = dict.fromkeys(range(3), 0)
    left: dict[int, set[int]] = {partition: set() for partition in range(3)}
    for partition, document in records:
        lane.take(held(positions[partition], f"{partition}{document}", partition=partition))
        left[partition].add(positions[partition])
        positions[partition] += 1
    while lane.held:
        lane.ready(0.0)
        assert lane.in_flight <= 2
        done = rng.choice(sorted(lane.under_way, key=lambda held: (held.partition, held.offset)))
        lane.finished(done)
        left[done.partition].discard(done.offset)
        for partition, offsets in left.items():
            assert min(offsets, default=positions[partition]) == lane.partitions[partition].commit


@given(st.floats(0.5, 10_000), st.lists(st.tuples(st.floats(0, 0.5), st.integers(0, 200)), min_size=1, max_size=60))
def test_a_rate_is_never_exceeded(per_s, steps):
    """Over any stretch from the start, no more calls than the rate and one burst; and at its due time a call is allowed."""
    now = begin = 1_790_000_000.0
    rate, started = Rate(per_s, now), 0
    for wait_s, wanted in steps:
        now += wait_s
        count = min(wanted, rate.allowed(now))
        rate.started(count)
        started += count
        assert started <= (now - begin + 1e-6 * len(steps)) * per_s + max(1.0, per_s / 10) + 1e-3
        now = rate.due(now)
        assert rate.allowed(now) >= 1


@given(st.integers(1, 50), st.lists(st.integers(0, 9), min_size=1, max_size=200))
def test_a_share_starves_nobody(limit, turns):
    """A lane that has nothing may always take something, and all together take little more than the limit."""
    share, own = Share(limit), [0] * 10
    share.lanes = len(own)
    for lane in turns:
        taken = min(share.allows(own[lane]), 5)
        assert taken or own[lane]
        own[lane] += taken
        share.used += taken
        assert share.used <= limit + len(own) * max(limit // len(own), 1)
