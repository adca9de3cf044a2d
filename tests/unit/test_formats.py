"""Rules of payload formats: each body as docs/reference/receiver.md has it."""

import json

import pytest

from connectors.webhook.formats import FORMATS, event_types
from schemas.changes import Change
from schemas.deliveries import Delivery, Match
from schemas.positions import Origin
from schemas.webhooks import EVENTS, Trigger, WebhookSpec

OLD = b'{"_id":"a","age":31.0}'
NEW = b'{"_id":"a","age":1e2}'
OBJECT_ID = '{"by":"a","n":1}'


def delivery(match=Match.UPDATE, old=OLD, new=NEW, id_="a", trigger=0) -> Delivery:
    change = Change("people", id_, 1_790_000_000_000_001, 7, old, new, Origin(0, 3, 42), 1_790_000_000_123_456)
    return Delivery("uid", 1, match, change, trigger=trigger)


CREATED = delivery(Match.CREATE, None)
ENTERED = delivery(Match.ENTER)
LEFT = delivery(Match.LEAVE)
REMOVED = delivery(Match.REMOVE, OLD, None)
INITIAL = delivery(Match.INITIAL)


def body(format_: str, given: Delivery, **spec) -> bytes:
    found = WebhookSpec(**{"name": "adults", "url": "https://example.com", "collections": ("people",)} | spec)
    made = FORMATS[format_].compile(found)(given)
    json.loads(made, object_pairs_hook=unique)
    return made


def unique(pairs):
    assert len(pairs) == len(dict(pairs)), "a name comes twice"
    return dict(pairs)


@pytest.mark.parametrize("format_", FORMATS)
@pytest.mark.parametrize("given", [CREATED, ENTERED, LEFT, REMOVED, INITIAL, delivery()], ids=lambda given: given.match.value)
def test_numbers_leave_digit_for_digit(format_, given):
    """No format encodes a document again."""
    numbers = b"31.0" if given is REMOVED else b"1e2"
    assert numbers in body(format_, given)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (delivery(), NEW),
        (LEFT, NEW),
        (REMOVED, b'{"_id":"a","age":31.0,"_deleted":true}'),
        (delivery(Match.REMOVE, b'{"_id":"a","_deleted":"no"}', None), b'{"_id":"a","_deleted":true}'),
        (delivery(Match.REMOVE, b'{"_deleted":1}', None), b'{"_deleted":true}'),
    ],
)
def test_document(given, expected):
    """The new document; of a removed one the last, which says so, once."""
    assert expected == body("document", given)


@pytest.mark.parametrize(
    ("given", "event_type"),
    [(CREATED, "create"), (INITIAL, "create"), (ENTERED, "update"), (delivery(), "update"), (LEFT, "update"), (REMOVED, "delete")],
    ids=lambda given: given.match.value if isinstance(given, Delivery) else "",
)
def test_entity(given, event_type):
    """As DatoCMS sends it: the id beside the attributes, and create, update or delete."""
    age = b"31.0" if given is REMOVED else b"1e2"
    expected = b'{"entity_type":"people","event_type":"%b","entity":{"id":"a","type":"people","attributes":{"age":%b}}}'
    assert expected % (event_type.encode(), age) == body("entity", given)


def test_an_object_id_stands_as_its_canonical_text_where_a_string_is_needed():
    """In entity.id and in the subject of a CloudEvent; the document has it as it is."""
    given = delivery(new=b'{"_id":{"n":1,"by":"a"}}', id_=OBJECT_ID)
    assert OBJECT_ID == json.loads(body("entity", given))["entity"]["id"]
    event = json.loads(body("cloudevents", given))
    assert (OBJECT_ID, {"n": 1, "by": "a"}) == (event["subject"], event["data"]["change"]["newValue"]["_id"])


@pytest.mark.parametrize(
    ("given", "before", "after", "op"),
    [
        (CREATED, b"null", NEW, b"c"),
        (INITIAL, b"null", NEW, b"r"),
        (ENTERED, OLD, NEW, b"u"),
        (delivery(), OLD, NEW, b"u"),
        (LEFT, OLD, NEW, b"u"),
        (REMOVED, OLD, b"null", b"d"),
    ],
    ids=lambda given: given.match.value if isinstance(given, Delivery) else "",
)
def test_debezium(given, before, after, op):
    """Before, after and op; ts_ms is when Kafka took the mutation."""
    source = b'{"connector":"livehook","collection":"people","txnId":1790000000000001,"version":7}'
    expected = b'{"before":%b,"after":%b,"op":"%b","ts_ms":1790000000123,"source":%b}' % (before, after, op, source)
    assert expected == body("debezium", given)


def test_cloudevents():
    """Structured mode 1.0 with the default body as its data."""
    event = json.loads(body("cloudevents", ENTERED))
    assert {
        "specversion": "1.0",
        "id": ENTERED.webhook_id,
        "source": "/collections/people",
        "type": "livehook.document.enter",
        "subject": "a",
        "time": "2026-09-21T14:13:20.123456Z",
        "datacontenttype": "application/json",
        "data": json.loads(body("livehook", ENTERED)),
    } == event
    assert "application/cloudevents+json" == FORMATS["cloudevents"].content_type


@pytest.mark.parametrize(
    ("events", "names"),
    [
        (EVENTS, ("create", "update", "update", "update", "delete")),
        (("publish", "unpublish"), ("publish", "publish", "update", "unpublish", "unpublish")),
        (("publish", "update", "unpublish", "delete"), ("publish", "publish", "update", "unpublish", "delete")),
        (("publish", "create", "unpublish", "remove"), ("create", "publish", "update", "unpublish", "delete")),
    ],
)
def test_a_receiver_hears_the_alias_that_it_asked_by(events, names):
    """The narrowest name holds: an event asked for by its own name keeps it, delete goes before unpublish."""
    event_type = event_types(WebhookSpec("a", "https://example.com", ("people",), events=events))
    matches = (Match.CREATE, Match.ENTER, Match.UPDATE, Match.LEAVE, Match.REMOVE)
    assert names == tuple(event_type(delivery(match)) for match in matches)


def test_the_trigger_that_fired_gives_the_name():
    """Two triggers may ask for the same match by different names; one that an edit took away asks by none."""
    triggers = (Trigger(("people",), "a == 1", events=("publish",)), Trigger(("people",), events=("create",)))
    event_type = event_types(WebhookSpec("a", "https://example.com", triggers=triggers))
    assert ["publish", "create", "create"] == [event_type(delivery(Match.CREATE, trigger=trigger)) for trigger in (0, 1, 2)]
