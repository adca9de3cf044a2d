"""Properties of retries: whatever a receiver answers, the schedule ends, and no wait is outside its bounds."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.webhook.calls import Failure, Response
from connectors.webhook.retry import DeadLetter, Delivered, Disable, RetryAt, Schedule, decide
from schemas.attempts import ErrorCode

NOW = 1_790_000_000.0

waits = st.lists(st.floats(0, 86_400), min_size=1, max_size=12).map(tuple)
responses = st.builds(
    Response,
    st.integers(100, 599),
    st.lists(
        st.tuples(st.sampled_from(["retry-after", "Retry-After", "x"]), st.text(max_size=40) | st.integers().map(str)), max_size=3
    ).map(tuple),
)
failures = st.builds(Failure, st.sampled_from(ErrorCode), st.text(max_size=20))


@given(responses | failures, st.integers(1, 12), waits, st.floats(0, 1), st.integers())
def test_every_decision_is_within_bounds(result, attempt, schedule, jitter, seed):
    """A wait is never below the schedule's less its jitter, never above a day or the schedule's with it; the last attempt is the last."""
    decision = decide(result, attempt, Schedule(schedule, jitter), NOW, random.Random(seed))
    match decision:
        case RetryAt(at):
            wait_s = schedule[attempt]
            assert wait_s * (1 - jitter) - 1e-3 <= at - NOW <= max(wait_s * (1 + jitter), 86_400) + 1e-3
        case DeadLetter():
            assert attempt >= len(schedule) or (isinstance(result, Failure) and result.code is ErrorCode.TEMPLATE)
        case Disable():
            assert isinstance(result, Response)
            assert 410 == result.status
        case Delivered():
            assert isinstance(result, Response)
            assert 200 <= result.status < 300


@given(waits, st.floats(0, 1), st.integers())
def test_a_receiver_that_always_fails_gets_as_many_attempts_as_entries(schedule, jitter, seed):
    """Then the delivery is dead, and the waits between were those of the schedule."""
    rng, now, attempts = random.Random(seed), NOW, 0
    while True:
        attempts += 1
        decision = decide(Response(500), attempts, Schedule(schedule, jitter), now, rng)
        if not isinstance(decision, RetryAt):
            break
        now = decision.at
    assert isinstance(decision, DeadLetter)
    assert len(schedule) == attempts
    assert now - NOW <= sum(schedule[1:]) * (1 + jitter) + 1e-3


@pytest.mark.parametrize(
    "text",
    [
        "Mon, 01 Jan 2030 00:00:00 +99999999999999",
        "1 Jan 2030 99999999999999:1:1",
        "Mon, 01 Jan 99999999999999999999 00:00:00 GMT",
        "soon",
        "",
    ],
)
def test_a_retry_after_beyond_any_calendar_asks_for_nothing(text):
    """A receiver's header never ends the process: the schedule holds as if it had not been sent."""
    answer = Response(503, (("retry-after", text),))
    decision = decide(answer, 1, Schedule((0.0, 5.0)), 1_000.0, random.Random(1))
    assert RetryAt(1_005.0) == decision
