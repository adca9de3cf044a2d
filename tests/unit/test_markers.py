"""Markers: what they look like, and when a lane sends them."""

import json

from connectors.webhook.held import Held
from connectors.webhook.lanes import Lane
from connectors.webhook.offsets import Start
from connectors.webhook.render import endpoint_of, prepare
from schemas.changes import Change
from schemas.deliveries import Delivery, Match
from schemas.markers import is_asked_for, marker_of
from schemas.positions import Origin
from schemas.webhooks import Payload, Secret, WebhookRevision, WebhookSpec

SECRET = "whsec_" + "A" * 32
SPEC = WebhookSpec(
    "w",
    "http://localhost/",
    collections=("b", "a"),
    events=("create", "ready"),
    payload=Payload(template="{{id}}", content_type="text/plain"),
)
REVISION = WebhookRevision("u", "w", 1, 1, SPEC, [Secret(SECRET)], 1_790_000_000_000_000, 2)


def held(offset, delivery, partition=0):
    return Held(partition, offset, delivery.change.key.encode(), b"x", delivery)


def delivery(offset, partition=0):
    change = Change("a", f"d{offset}", offset, 1, None, b"{}", Origin(0, partition, offset), 0)
    return Delivery("u", 1, Match.CREATE, change)


def marker(match, places=()):
    return marker_of(REVISION, match, places)


def test_a_marker_has_its_own_body_whatever_the_payload():
    """And no headers about a document; its id is the same at each repeat and another for each marker."""
    endpoint = endpoint_of(REVISION, user_agent="livehook/0")
    ready = prepare(marker(Match.READY, [3, 4]), endpoint, offset="7", attempt=2, now=1.0)
    assert {"txnId": 1_790_000_000_000_000, "type": "ready", "collections": ["a", "b"]} == json.loads(ready.body)
    headers = dict(ready.headers)
    assert ("application/json", "ready", "7", "2") == tuple(
        headers[name] for name in ("content-type", "livehook-match", "livehook-offset", "livehook-attempt")
    )
    assert not {"livehook-document", "livehook-version"} & headers.keys()
    assert marker(Match.READY).webhook_id == marker(Match.READY, [9]).webhook_id != marker(Match.INITIALIZING).webhook_id
    assert (False, True) == (is_asked_for(REVISION, Match.INITIALIZING), is_asked_for(REVISION, Match.READY))


def test_nothing_goes_before_initializing_is_done():
    """Also when it has to be sent again."""
    lane = Lane({0: Start()}, concurrency=8)
    first = held(0, marker(Match.INITIALIZING))
    for one in (first, *(held(offset, delivery(offset)) for offset in (1, 2))):
        lane.take(one)
    assert [first] == lane.ready(0.0)
    assert lane.ready(0.0) == []
    lane.retry_at(first, 5.0, 0.0)
    assert lane.ready(1.0) == []
    assert [first] == lane.ready(5.0)
    lane.finished(first)
    assert [1, 2] == [one.offset for one in lane.ready(5.0)]


def test_a_receiver_that_refuses_initializing_gets_the_rest():
    """A marker that would wait for long is set aside like any delivery."""
    lane = Lane({0: Start()}, concurrency=8)
    first = held(0, marker(Match.INITIALIZING))
    lane.take(first)
    lane.take(held(1, delivery(1)))
    lane.ready(0.0)
    lane.retry_at(first, 300.0, 0.0)
    assert [1] == [one.offset for one in lane.ready(1.0)]


def test_ready_waits_for_all_before_it_in_every_partition():
    """Deliveries behind it do not wait for it."""
    lane = Lane({0: Start(), 1: Start()}, concurrency=8)
    before, other, ready, behind = (
        held(0, delivery(0)),
        held(0, delivery(10, 1), 1),
        held(1, marker(Match.READY, [1, 1])),
        held(2, delivery(2)),
    )
    for one in (before, ready, behind):
        lane.take(one)
    assert [before, behind] == lane.ready(0.0)
    lane.finished(before)
    assert lane.ready(0.0) == []
    lane.take(other)
    assert [other] == lane.ready(0.0)
    lane.finished(other)
    assert [ready] == lane.ready(0.0)
