"""Gaps of a lane: what is missing, where its marker goes, and that a crash changes nothing of it."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.webhook.formats import FORMATS
from connectors.webhook.gaps import Gaps, missing, unknown
from connectors.webhook.held import Held
from connectors.webhook.lanes import Lane
from connectors.webhook.offsets import Start
from connectors.webhook.render import endpoint_of, prepare
from schemas.changes import Change
from schemas.deliveries import Delivery, Match
from schemas.gaps import Gap, Missing, gap_marker, gap_of
from schemas.parked import Parked
from schemas.positions import Origin
from schemas.webhooks import Payload, Secret, WebhookRevision, WebhookSpec

SPEC = WebhookSpec("w", "http://localhost/", collections=("b", "a"))
REVISION = WebhookRevision("u", "w", 3, 4, SPEC, [Secret("whsec_" + "A" * 32)], 1, 2)
NOTED_US = 1_790_000_000_000_000


def gap(begin, until, number=0, partition=0):
    return gap_of(Missing(partition, begin, until, 5, 9), REVISION, number, NOTED_US)


def lane_of(start):
    return Lane({0: start}, uid="u", concurrency=8)


def gaps_of(lane, *known):
    gaps = Gaps(lane, due=lambda: 0.0, replay_at=lambda partition, offset: None)
    gaps.know(known)
    return gaps


def ranges(gaps):
    return [(one.begin, one.until) for one in gaps.unrecorded()]


def held(offset):
    change = Change("a", f"d{offset}", offset, 1, None, b"{}", Origin(0, 0, offset), 0)
    return Held(0, offset, change.key.encode(), b"x", Delivery("u", 1, Match.CREATE, change))


def sent(lane, now=0.0):
    return [one.offset for one in lane.ready(now)]


@pytest.mark.parametrize(
    ("done", "expected"),
    [
        ((), (3, 8)),
        ((3, 4), (5, 8)),
        ((7, 4), (3, 7)),
        ((3, 5, 7), (4, 7)),
        (range(3, 8), None),
    ],
)
def test_what_is_missing_is_the_smallest_range_that_holds_it(done, expected):
    """What is finished, or parked, need not be there any more."""
    assert expected == missing(3, 8, set(done))


@pytest.mark.parametrize(
    ("known", "expected"),
    [
        ([], [(3, 20)]),
        ([(3, 10)], [(10, 20)]),
        ([(5, 20)], [(3, 5)]),
        ([(5, 8), (8, 12)], [(3, 5), (12, 20)]),
        ([(0, 30)], []),
        ([(0, 2)], [(3, 20)]),
        ([(25, 30)], [(3, 20)]),
    ],
)
def test_what_is_on_record_is_not_a_gap_again(known, expected):
    """Whatever the log has lost since, and whatever before a crash was in memory only."""
    assert expected == unknown(3, 20, set(), [gap(*one) for one in known])


@given(
    st.integers(0, 30), st.integers(0, 30), st.sets(st.integers(0, 30)),
    st.lists(st.tuples(st.integers(0, 30), st.integers(1, 8)), max_size=4),
)  # fmt: skip
def test_each_offset_that_is_missing_is_in_exactly_one_gap(begin, until, done, known):
    """And no range of a new gap reaches into one that is on record."""
    on_record = [gap(first, first + length) for first, length in known]
    fresh = unknown(begin, until, done, on_record)
    for offset in range(begin, until):
        told = sum(first <= offset < end for first, end in fresh)
        is_known = any(one.begin <= offset < one.until for one in on_record)
        if is_known:
            assert told == 0
        elif offset not in done:
            assert told == 1
    assert all(begin <= first < end <= until and {first, end - 1}.isdisjoint(done) for first, end in fresh)


def test_the_marker_goes_between_what_is_before_and_behind():
    """It waits for what was taken in before; nothing behind it is to be taken in until it is done."""
    lane = lane_of(Start())
    gaps, before = gaps_of(lane), held(0)
    lane.take(before)
    assert gaps.find(0, 5, lambda: 77)
    assert [Missing(0, 1, 5, None, 77)] == gaps.unrecorded()
    gaps.know([gap(1, 5)])
    gaps.take()
    assert gaps.stops(0)
    assert [0] == sent(lane)
    assert [] == sent(lane)
    lane.finished(before)
    [marker] = lane.ready(0.0)
    assert (4, True) == (marker.offset, gaps.stops(0))
    lane.finished(marker)
    assert not gaps.stops(0)
    assert 5 == lane.partitions[0].commit


def test_a_marker_that_was_sent_is_not_sent_again():
    """The commit has passed it, or its bitmap has it."""
    for start in (Start(5), Start(3, frozenset([4]))):
        lane = lane_of(start)
        gaps = gaps_of(lane, gap(3, 5))
        if gaps.find(0, 9):
            gaps.know([gap_of(one, REVISION, 1, NOTED_US) for one in gaps.unrecorded()])
            gaps.take()
        assert [8] == sent(lane)


def test_a_crash_after_the_record_leads_to_the_same_marker():
    """Whether the commit has come to the marker's place or not, and whatever else the log has lost since."""
    for start in (Start(1), Start(4)):
        lane = lane_of(start)
        gaps = gaps_of(lane, gap(1, 5))
        assert gaps.find(0, 5)
        assert [] == ranges(gaps)
        gaps.take()
        [one] = lane.ready(0.0)
        assert gap_marker(gap(1, 5)).webhook_id == one.delivery.webhook_id
    lane = lane_of(Start(1))
    gaps = gaps_of(lane, gap(1, 5))
    assert gaps.find(0, 8)
    assert [(5, 8)] == ranges(gaps)


def test_what_is_parked_is_not_missing():
    """It is dead-lettered as expired when its turn comes. What was parked behind it is recognised all the same."""
    lane = lane_of(Start(2))
    lane.restore([Parked("u", 0, offset, b"a/x", 1, 0) for offset in (2, 3)])
    gaps = gaps_of(lane)
    assert not gaps.find(0, 4)
    assert (4, 0) == (lane.partitions[0].position, lane.partitions[0].unfinished)
    assert 1 == len(lane.wanted(1.0, 8))


def test_a_parked_marker_holds_up_nobody_and_is_found_again():
    """It is in no log: its body is made from what is on record."""
    lane = lane_of(Start(2))
    lane.restore([Parked("u", 0, 4, gap_marker(gap(2, 5)).change.key.encode(), 3, 0)])
    gaps = gaps_of(lane, gap(2, 5))
    assert gaps.find(0, 5)
    gaps.take()
    assert not gaps.stops(0)
    assert [] == sent(lane)
    [document] = lane.wanted(1.0, 8)
    marker = gaps.marker(0, 4)
    assert marker is not None
    lane.loaded(document, [marker])
    assert [4] == sent(lane, 1.0)
    assert gaps.marker(0, 3) is None


def test_a_webhook_whose_lane_begins_at_its_start_misses_nothing():
    """Neither one that has never committed, nor one that was moved forward on purpose."""
    for start in (Start(), Start(7), Start(9, moved=True)):
        assert missing(start.offset, 0 if start.offset == 0 else 7, start.finished) is None


def test_the_body_tells_the_exact_range():
    """The same whatever the payload, with an id that is no other gap's."""
    body = {
        "txnId": NOTED_US,
        "type": "requeryRequired",
        "collections": ["a", "b"],
        "range": {"afterTxnId": 5, "beforeTxnId": 9, "offsets": {"from": 3, "until": 8}},
    }
    payloads = [*(Payload(format=name) for name in FORMATS), Payload(template="{{id}}", content_type="text/plain")]
    for payload in payloads:
        spec = WebhookSpec("w", "http://localhost/", collections=("a",), payload=payload)
        endpoint = endpoint_of(WebhookRevision("u", "w", 1, 1, spec, REVISION.secrets, 1, 2), user_agent="livehook/0")
        request = prepare(gap_marker(gap(3, 8)), endpoint, offset="7", attempt=1, now=1.0)
        assert body == json.loads(request.body)
        headers = dict(request.headers)
        assert ("application/json", "requeryRequired", "7") == tuple(
            headers[name] for name in ("content-type", "livehook-match", "livehook-offset")
        )
        assert not {"livehook-document", "livehook-version"} & headers.keys()
    ids = {gap_marker(one).webhook_id for one in (gap(3, 8), gap(3, 9), gap(3, 8, partition=1))}
    assert 3 == len(ids)


def test_a_gap_says_whether_documents_follow():
    """By ``onGap`` as it is when the gap is found; each has the number of its snapshot, above that of the webhook's start."""
    assert [(2, True), (3, True)] == [(one.snapshot, one.is_followed) for one in (gap(1, 2), gap(3, 4, 1))]
    quiet = WebhookRevision("u", "w", 1, 1, WebhookSpec("w", "http://x", on_gap="continue"), [], 1, 2)
    assert not gap_of(Missing(0, 1, 2), quiet, 0, NOTED_US).is_followed


def test_a_gap_is_kept_apart_by_webhook_and_place():
    """Its key is its own."""
    assert "w/gap/u/1/3" == gap(3, 8, partition=1).key
    assert isinstance(gap(3, 8), Gap)
