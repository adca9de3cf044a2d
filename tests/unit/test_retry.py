"""Rules of retries: what follows from an answer."""

import random
from datetime import UTC, datetime
from email.utils import format_datetime

import pytest

from connectors.webhook.calls import Failure, Response
from connectors.webhook.retry import DeadLetter, Delivered, Disable, RetryAt, Schedule, decide, schedule_of
from schemas.attempts import ErrorCode
from schemas.errors import Reason
from schemas.webhooks import Retry

SCHEDULE = Schedule((0.0, 5.0, 300.0))
NOW = 1_790_000_000.0


def decided(result, attempt=1, schedule=SCHEDULE, seed=1):
    return decide(result, attempt, schedule, NOW, random.Random(seed))


@pytest.mark.parametrize("status", [200, 201, 204, 299])
def test_2xx_is_success(status):
    """Whatever else the answer says."""
    assert Delivered() == decided(Response(status, (("retry-after", "5"),)))


@pytest.mark.parametrize("status", [101, 301, 302, 304, 400, 401, 404, 409, 422, 429, 500, 503, 599])
def test_every_other_status_is_retried(status):
    """Redirects are not followed but are a failure; 4xx is not taken for permanent."""
    assert RetryAt(NOW + 5) == decided(Response(status))


@pytest.mark.parametrize("code", sorted(set(ErrorCode) - {ErrorCode.TEMPLATE}))
def test_every_error_of_the_network_is_retried(code):
    """No error of the way there is permanent."""
    assert RetryAt(NOW + 5) == decided(Failure(code, "…"))


def test_410_disables():
    """The delivery is neither retried nor dead: the webhook stops."""
    assert isinstance(decided(Response(410), attempt=3), Disable)


def test_what_cannot_be_sent_is_dead_at_once():
    """A request that we cannot even write is not better the next time."""
    assert DeadLetter(Reason.TEMPLATE, "no JSON") == decided(Failure(ErrorCode.TEMPLATE, "no JSON"))


def test_there_are_as_many_attempts_as_entries():
    """Entry n is the wait before attempt n; after the last comes the dead letter."""
    assert RetryAt(NOW + 300) == decided(Response(500), attempt=2)
    assert DeadLetter(Reason.EXHAUSTED, "attempt 3 of 3 failed: status 500") == decided(Response(500), attempt=3)


def test_jitter_spreads_a_wait_to_both_sides():
    """Waits stay within ± the share asked for, and use all of it."""
    waits = [decided(Response(500), schedule=Schedule((0.0, 100.0), 0.2), seed=seed).at - NOW for seed in range(500)]
    assert 80 <= min(waits) < 82
    assert 118 < max(waits) <= 120


@pytest.mark.parametrize(
    ("text", "wait_s"),
    [
        ("30", 30),
        (" 30 ", 30),
        ("0", 5),
        ("0000000000000030", 30),
        ("3", 5),
        ("86400", 86_400),
        ("86401", 86_400),
        ("9" * 30, 86_400),
        (format_datetime(datetime.fromtimestamp(NOW + 60, UTC), usegmt=True), 60),
        (format_datetime(datetime.fromtimestamp(NOW - 60, UTC), usegmt=True), 5),
        ("Sun, 06 Nov 2094 08:49:37 -0000", 86_400),
        ("-1", 5),
        ("1.5", 5),
        ("soon", 5),
        ("", 5),
        ("٣٠", 5),
    ],
)
def test_retry_after_is_obeyed(text, wait_s):
    """Seconds or a date, up to a day; what cannot be read counts as nothing, and the schedule's wait holds if it is longer."""
    assert RetryAt(NOW + wait_s) == decided(Response(503, (("Retry-After", text),)))


def test_retry_after_is_never_shortened_by_jitter():
    """Jitter applies to the schedule, not to what the receiver asks for."""
    for seed in range(50):
        found = decided(Response(429, (("retry-after", "30"),)), schedule=Schedule((0.0, 30.0), 1.0), seed=seed)
        assert found.at >= NOW + 30


def test_the_schedule_of_a_webhook():
    """Durations become seconds, in order."""
    assert Schedule((0.0, 0.1, 5.0, 86_400.0), 0.5) == schedule_of(Retry(("0s", "100ms", "5s", "24h"), 0.5))
