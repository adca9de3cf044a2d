"""Properties of breaker, pace and what they make of a result: when an endpoint is down, and what that costs nobody."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from connectors.webhook.breaker import ATTEMPTS, CONNECTION_ERRORS, DOCUMENTS, GAP_JITTER, GAP_S_MAX, Breaker, BreakerState
from connectors.webhook.calls import Failure, Response
from connectors.webhook.health import Health, Policy, Turn
from connectors.webhook.pace import FACTOR_MIN, Pace
from connectors.webhook.parking import Places, place_of, where
from connectors.webhook.retry import DeadLetter, Disable, RetryAt, Returned, Schedule
from schemas.attempts import ErrorCode

POLICY = Policy(Schedule((0.0, 5.0)), 1_000.0, "1000s")
REFUSED = Failure(ErrorCode.CONNECT, "refused")
ANSWERS = st.sampled_from([Response(200), Response(404), Response(500), Response(503), REFUSED, Failure(ErrorCode.TIMEOUT, "late")])


@given(st.lists(st.tuples(ANSWERS, st.integers(0, 6)), max_size=200), st.integers())
def test_a_breaker_opens_exactly_by_its_rule(results, seed):
    """Five errors without a connection in a row, or twenty failures in a row over at least five documents; and a success closes it."""
    health = Health(random.Random(seed))
    row: list[tuple[bool, int]] = []
    for number, (result, document) in enumerate(results):
        health.judge(result, place_of(0, number), document, 1, POLICY, now=0.0)
        if isinstance(result, Response) and result.status == 200:
            row = []
        else:
            row.append((result is REFUSED, document))
        without = len(row) >= CONNECTION_ERRORS and any(
            all(is_refused for is_refused, _ in row[at : at + CONNECTION_ERRORS]) for at in range(len(row) - CONNECTION_ERRORS + 1)
        )
        over = any(len({document for _, document in row[at : at + ATTEMPTS]}) >= DOCUMENTS for at in range(len(row) - ATTEMPTS + 1))
        assert (without or over) == health.is_down


@given(st.lists(st.integers(0, 3), max_size=400), st.integers())
def test_a_few_documents_that_fail_are_no_endpoint(documents, seed):
    """However often they do, while a connection is made."""
    breaker = Breaker(random.Random(seed))
    for number, document in enumerate(documents):
        assert breaker.failed(float(number), place_of(0, number), document, without_connection=False) is None
    assert breaker.is_closed


@given(st.integers(1, 40), st.integers())
def test_probes_come_one_at_a_time_at_growing_gaps(failures, seed):
    """None starts before its time, none beside another; gaps double up to their limit, with some chance in them."""
    now, breaker = 1_000.0, Breaker(random.Random(seed), since=900.0)
    for number in range(failures):
        assert 1 == breaker.room(now)
        breaker.started(7)
        assert (0, BreakerState.HALF_OPEN) == (breaker.room(now + 1_000), breaker.state)
        assert breaker.failed(now, 8, "other", without_connection=True) is None  # a late one says nothing
        breaker.failed(now, 7, "a", without_connection=False)
        assert breaker.next_probe_at is not None
        gap_s = min(2.0**number, GAP_S_MAX)
        assert (1 - GAP_JITTER) * gap_s <= breaker.next_probe_at - now + 1e-6
        assert breaker.next_probe_at - now <= (1 + GAP_JITTER) * gap_s + 1e-6
        assert 0 == breaker.room(now)
        now = breaker.next_probe_at
    assert 900.0 == breaker.since
    assert breaker.succeeded()
    assert (None, None) == (breaker.room(now), breaker.next_probe_at)


@given(st.lists(st.tuples(ANSWERS, st.integers(0, 9), st.integers(1, 2)), max_size=120), st.integers())
def test_no_attempt_of_an_outage_counts(results, seed):
    """What is forgiven when it opens are exactly the failures since the last success, and after that none is anything but returned."""
    health = Health(random.Random(seed))
    failed: dict[int, int] = {}
    for result, number, attempt in results:
        was_down = health.is_down
        verdict = health.judge(result, number, number, attempt, POLICY, now=0.0)
        if isinstance(result, Response) and result.status == 200:
            failed = {}
            assert (Turn.UP if was_down else None) == verdict.turn
        elif verdict.turn is Turn.DOWN:
            assert {**failed, number: failed.get(number, 0)} == verdict.forgiven
        elif was_down:
            assert isinstance(verdict.decision, Returned)
        else:
            failed[number] = failed.get(number, 0) + 1
            assert isinstance(verdict.decision, RetryAt if attempt < 2 else DeadLetter)


def test_an_endpoint_that_is_down_for_too_long_disables():
    """Counted from the first failure after the last success."""
    health = Health(random.Random(1), since=100.0)
    assert isinstance(health.judge(REFUSED, 1, "a", 1, POLICY, now=1_099.0).decision, Returned)
    assert Disable("no call has succeeded for 1000s; the last error: refused") == (
        health.judge(REFUSED, 1, "a", 1, POLICY, now=1_100.0).decision
    )


def test_gone_disables_even_while_down_and_templates_are_nobodys_fault():
    """410 is a word of the endpoint; what cannot be rendered says nothing about it."""
    health = Health(random.Random(1), since=100.0)
    assert isinstance(health.judge(Response(410), 1, "a", 1, POLICY, now=101.0).decision, Disable)
    unsendable = Failure(ErrorCode.TEMPLATE, "no such field")
    assert isinstance(health.judge(unsendable, 1, "a", 1, POLICY, now=101.0).decision, DeadLetter)
    assert Health(random.Random(1)).judge(unsendable, 1, "a", 1, POLICY, now=0.0).turn is None


@given(st.lists(st.tuples(st.floats(0, 3), st.booleans()), max_size=200))
def test_a_pace_stays_in_bounds_and_recovers(steps):
    """Never below one call and one in ten seconds; and some seconds of success later nothing is left of it."""
    pace, now = Pace(), 1_000.0
    for wait_s, is_slow in steps:
        now += wait_s
        pace.started(now, min(pace.allowed(now) or 1, 5) if pace.allowed(now) != 0 else 0)
        if is_slow:
            pace.slow(now)
        else:
            pace.well(now)
        assert FACTOR_MIN <= pace.factor <= 1.0
        assert 1 <= pace.concurrency(64) <= 64
        assert pace.due(now) - now <= 10.0 + 1e-6
    for _ in range(21):
        now += 1.0
        pace.well(now)
    assert (64, None) == (pace.concurrency(64), pace.allowed(now))


def test_a_pace_is_lowered_by_the_share_of_calls_that_were_too_much():
    """Sixty calls that are answered 429 within a second say it once; an endpoint that fails one call in twenty is hardly slowed."""
    pace = Pace()
    for number in range(61):
        pace.slow(10.0 + number / 60)
    assert 32 == pace.concurrency(64)
    shaky = Pace()
    for number in range(10_000):
        (shaky.slow if number % 20 == 0 else shaky.well)(10.0 + number / 100)
    assert shaky.concurrency(64) > 56


def test_one_document_that_is_told_to_wait_waits_alone():
    """Two in a row are the endpoint: then the lane waits for as long as it was asked to."""
    health = Health(random.Random(1))
    asks = Response(503, (("retry-after", "3600"),))
    for number in range(3):
        decision = health.judge(asks, number, "a", 1, POLICY, now=10.0).decision
        assert RetryAt(3_610.0) == decision
    assert 0.0 == health.pace.resume_at
    health.judge(asks, 9, "b", 1, POLICY, now=10.0)
    assert (0, 3_610.0) == (health.room(3_609.0), health.due(11.0))
    assert 0 != health.room(3_610.0)


@given(st.lists(st.integers(0, 2**40), unique=True), st.data())
def test_places_come_out_in_order(offsets, data):
    """Whatever the order they went in; and a place holds both its numbers."""
    places, expected = Places(), list[int]()
    for offset in offsets:
        place = place_of(3, offset)
        assert (3, offset) == where(place)
        expected = sorted([*expected, place])
        assert (expected[0] == place) == places.add(place)
        if data.draw(st.booleans()):
            assert expected.pop(0) == places.pop()
        assert (len(expected), expected[:4]) == (len(places), places.ahead(4))
