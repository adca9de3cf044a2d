"""Rules of attempts and dead letters as records."""

import random

from connectors.webhook.attempts import attempt_of, attempt_record, dead_letter
from connectors.webhook.calls import Failure, Response, request_of
from connectors.webhook.retry import DeadLetter, Delivered, Disable, RetryAt
from schemas.attempts import BODY_BYTES_MAX, AttemptError, ErrorCode, Outcome
from schemas.changes import Change
from schemas.deliveries import Delivery, Match
from schemas.errors import Reason
from schemas.positions import Origin
from schemas.records import decode_attempt

CHANGE = Change("people", "a", 17, 3, None, b"{}", Origin(0, 1, 2), 0)
DELIVERY = Delivery("uid", 1, Match.CREATE, CHANGE, replay="rpl_1")
HEADERS = (("X-Api-Key", "t0p"), ("authorization", "Basic t0p"), ("x-team", "crm"))
REQUEST = request_of("POST", "https://example.com/", HEADERS, b"{}", delivery_id=DELIVERY.webhook_id)


def attempt(result, decision, request=REQUEST):
    return attempt_of(
        DELIVERY, "adults", request, result, decision, offset="7", attempt=2, started=10.0, ended=10.25, rng=random.Random(1)
    )  # fmt: skip


def test_an_attempt_tells_what_was_sent_and_what_came_back():
    """Everything of section "An attempt" of the reference, and it reads back from its record."""
    found = attempt(Response(503, (("Retry-After", "5"),), b"busy"), RetryAt(15.5))
    assert found == decode_attempt(attempt_record(found, "attempts").value or b"")
    told = (found.webhook, found.delivery_id, found.collection, found.document, found.match, found.txn_id, found.version)
    assert ("adults", DELIVERY.webhook_id, "people", "people/a", "create", 17, 3) == told
    assert ("7", 2, "rpl_1") == (found.offset, found.attempt, found.replay)
    assert (10_000_000, 250_000, Outcome.RETRY, 15_500_000) == (found.started_us, found.duration_us, found.outcome, found.next_attempt_us)
    assert AttemptError(ErrorCode.STATUS, "status 503") == found.error
    assert found.response is not None
    assert (503, {"retry-after": "5"}, b"busy") == (found.response.status, found.response.headers, found.response.body)


def test_outcomes():
    """delivered, retry or dead; an endpoint that is gone leaves the delivery to be tried again."""
    assert Outcome.DELIVERED is attempt(Response(200), Delivered()).outcome
    assert Outcome.DEAD is attempt(Response(500), DeadLetter(Reason.EXHAUSTED, "")).outcome
    assert Outcome.RETRY is attempt(Response(410), Disable("gone")).outcome
    failed = attempt(Failure(ErrorCode.DNS, "no address"), RetryAt(11.0))
    assert (None, AttemptError(ErrorCode.DNS, "no address")) == (failed.response, failed.error)


def test_secrets_are_masked():
    """Headers that carry secrets, of both sides, whatever their case."""
    found = attempt(Response(200, (("Set-Cookie", "t0p"), ("set-cookie", "t0p"), ("x-a", "1"), ("X-A", "2"))), Delivered())
    assert {"x-api-key": "****", "authorization": "****", "x-team": "crm"} == found.request.headers
    assert found.response is not None
    assert {"set-cookie": "****", "x-a": "1, 2"} == found.response.headers
    assert b"t0p" not in (attempt_record(found, "attempts").value or b"")


def test_bodies_are_cut():
    """At 16 KiB, and it is said."""
    body = b"x" * BODY_BYTES_MAX
    whole = attempt(Response(200, (), body), Delivered(), request_of("POST", "", (), body))
    assert (False, False) == (whole.request.body_truncated, whole.response and whole.response.body_truncated)
    cut = attempt(Response(200, (), body, body_truncated=True), Delivered(), request_of("POST", "", (), body + b"y"))
    assert (body, True, True) == (cut.request.body, cut.request.body_truncated, cut.response and cut.response.body_truncated)


def test_ids_sort_by_time():
    """Later attempts have greater ids."""
    first, later = (
        attempt_of(
            DELIVERY, "a", REQUEST, Response(200), Delivered(), offset="", attempt=1, started=at, ended=at, rng=random.Random(seed)
        ).id
        for at, seed in ((1_790_000_000.0, 9), (1_790_000_000.1, 1))
    )
    assert first.startswith("att_")
    assert first < later


def test_a_dead_letter_keeps_key_and_value():
    """Headers say why and where from; a long detail is cut."""
    found = dead_letter(b"k", b"v", "lane/0/7", DeadLetter(Reason.EXHAUSTED, "é" * 2_000), "dead-letters")
    headers = dict(found.headers)
    assert ("dead-letters", b"k", b"v") == (found.topic, found.key, found.value)
    assert (b"exhausted", b"lane/0/7", 1_000) == (headers["reason"], headers["source"], len(headers["detail"].decode()))
