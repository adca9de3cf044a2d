"""Rules of requests: bodies and headers as docs/reference/receiver.md has them."""

import json
from datetime import UTC, datetime

import pytest
import standardwebhooks

from connectors.webhook.calls import unsendable
from connectors.webhook.render import document_header, endpoint_of, prepare
from schemas.changes import Change
from schemas.deliveries import Delivery, Match
from schemas.errors import Invalid
from schemas.positions import Origin
from schemas.webhooks import Fields, Payload, Secret, WebhookRevision, WebhookSpec

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
NOW = 1_790_000_000.75
OLD = b'{"_id":"a","age":31.0}'
NEW = '{"_id":"a","age":1e2,"name":"Zoë"}'.encode()


def webhook(**spec) -> WebhookRevision:
    found = WebhookSpec(**{"name": "adults", "url": "https://example.com/hook", "collections": ("people",)} | spec)
    return WebhookRevision("uid", "adults", 1, 1, found, [Secret(SECRET)], 0, 0)


def delivery(match=Match.UPDATE, old: bytes | None = OLD, new: bytes | None = NEW, id_="a", replay=None) -> Delivery:
    change = Change("people", id_, 1_790_000_000_000_001, 7, old, new, Origin(0, 3, 42), 1_790_000_000_000_000)
    return Delivery("uid", 1, match, change, replay=replay)


def request(given: Delivery, revision: WebhookRevision | None = None, **options):
    endpoint = endpoint_of(revision or webhook(), user_agent="livehook/1.2.3")
    return prepare(given, endpoint, **{"offset": "12", "attempt": 2, "now": NOW, **options})


HEAD = b'{"txnId":1790000000000001,"type":"documentChanged","collection":"people",'


@pytest.mark.parametrize(
    ("given", "body"),
    [
        (delivery(), b'"match":"update","change":{"method":"upsert","oldValue":' + OLD + b',"newValue":' + NEW + b"}}"),
        (delivery(Match.CREATE, None), b'"match":"create","change":{"method":"upsert","oldValue":null,"newValue":' + NEW + b"}}"),
        (delivery(Match.LEAVE), b'"match":"leave","change":{"method":"upsert","oldValue":' + OLD + b',"newValue":' + NEW + b"}}"),
        (delivery(Match.INITIAL), b'"match":"initial","change":{"method":"upsert","oldValue":null,"newValue":' + NEW + b"}}"),
        (delivery(Match.REMOVE, OLD, None), b'"match":"remove","change":{"method":"remove","value":' + OLD + b"}}"),
    ],
    ids=lambda given: given.match.value if isinstance(given, Delivery) else "",
)
def test_the_default_body(given, body):
    """The Ditto event and match; documents stand in it byte for byte as they were."""
    found = request(given)
    assert HEAD + body == found.body
    assert json.loads(found.body)


def test_the_ditto_body_has_no_match():
    """Otherwise it is the default body."""
    found = request(delivery(), webhook(payload=Payload(format="ditto")))
    assert HEAD + b'"change":{"method":"upsert","oldValue":' + OLD + b',"newValue":' + NEW + b"}}" == found.body


def test_the_headers():
    """Each header of the reference, with its value."""
    found = request(delivery())
    headers = dict(found.headers)
    assert ("POST", "https://example.com/hook") == (found.method, found.url)
    assert {
        "webhook-id": delivery().webhook_id,
        "webhook-timestamp": "1790000000",
        "webhook-signature": headers["webhook-signature"],
        "livehook-webhook": "adults",
        "livehook-offset": "12",
        "livehook-attempt": "2",
        "livehook-document": "people/a",
        "livehook-version": "7",
        "livehook-match": "update",
        "content-type": "application/json",
        "user-agent": "livehook/1.2.3",
    } == headers
    assert len(headers) == len(found.headers)


def test_replays_and_tests_say_so():
    """A replayed delivery names its replay; a test is marked and has no place in the lane."""
    assert "rpl_1" == dict(request(delivery(replay="rpl_1")).headers)["livehook-replay"]
    headers = dict(request(delivery(), offset="", test=True).headers)
    assert ("true", False) == (headers["livehook-test"], "livehook-offset" in headers)


def test_a_replay_keeps_the_webhook_id():
    """The id is that of the delivery, however often it is sent."""
    assert delivery().webhook_id == dict(request(delivery(replay="rpl_1"), attempt=5).headers)["webhook-id"]


@pytest.mark.parametrize(
    ("key", "header"),
    [
        ("people/6213e9c9", "people/6213e9c9"),
        ('people/{"a":1}', 'people/{"a":1}'),
        ("people/Zoë B", "people/Zo%C3%AB%20B"),
        ("people/50%25", "people/50%2525"),
        ("people/a\r\nx: y", "people/a%0D%0Ax:%20y"),
        ("people/\x7f", "people/%7F"),
    ],
)
def test_document_keys_are_percent_encoded_outside_visible_ascii(key, header):
    """No key can break out of its header, and each reads back."""
    assert header == document_header(key)


def test_own_headers_content_type_and_authorization():
    """Custom headers travel as given, the content type comes from the payload, the credentials from auth."""
    basic = webhook(
        method="PUT",
        headers={"X-Team": "crm"},
        payload=Payload(content_type="application/json; charset=utf-8"),
        auth={"basic": {"username": "u", "password": "pä:ss"}},
    )
    found = request(delivery(), basic)
    headers = dict(found.headers)
    assert ("PUT", "crm", "application/json; charset=utf-8") == (found.method, headers["x-team"], headers["content-type"])
    assert "Basic dTpww6Q6c3M=" == headers["authorization"]
    assert "Bearer t0k" == dict(request(delivery(), webhook(auth={"bearer": {"token": "t0k"}})).headers)["authorization"]


def test_a_format_of_another_version_is_refused():
    """What this program cannot render is named, and nothing is sent in its place."""
    with pytest.raises(Invalid, match=r"payload\.format"):
        endpoint_of(webhook(payload=Payload(format="protobuf")), user_agent="livehook/1.2.3")


def test_what_cannot_be_rendered_is_not_sent():
    """The request says why, without the document; the sender refuses it."""
    found = request(delivery(), webhook(payload=Payload(format="template", template='{"name": {{document.name}}}')))
    assert b"" == found.body
    assert found.refusal is not None
    assert "gives no JSON" in found.refusal
    assert "Zo" not in found.refusal
    assert found.refusal == unsendable(found)


def test_a_url_is_filled_in_percent_encoded():
    """No value can leave its place in the path or the query."""
    revision = webhook(url="https://example.com/{{collection}}/{{id}}?n={{document.name}}")
    assert "https://example.com/people/a%2Fb%3Fc?n=Zo%C3%AB" == request(delivery(id_="a/b?c"), revision).url


@pytest.mark.parametrize("id_", [".", ".."])
def test_no_value_leads_to_another_path(id_):
    """Receivers take dots out of a path, percent-encoded or not."""
    assert "another path" in (request(delivery(id_=id_), webhook(url="https://example.com/people/{{id}}/x")).refusal or "")


def test_fields_leave_out_of_old_and_new():
    """In the body, whatever its format; _id stays, and what stays keeps its bytes."""
    found = request(delivery(), webhook(fields=Fields(include=("age",))))
    assert b'"change":{"method":"upsert","oldValue":{"_id":"a","age":31.0},"newValue":{"_id":"a","age":1e2}}}' in found.body
    found = request(delivery(Match.REMOVE, NEW, None), webhook(fields=Fields(exclude=("name", "_id")), payload=Payload(format="document")))
    assert b'{"_id":"a","age":1e2,"_deleted":true}' == found.body
    assert delivery().webhook_id == dict(request(delivery(), webhook(fields=Fields(include=("age",)))).headers)["webhook-id"]


def test_nothing_secret_shows_in_a_repr():
    """Endpoints and requests end up in tracebacks; their secrets must not."""
    secret = webhook(auth={"bearer": {"token": "t0ps3cret"}}, headers={"x-key": "t0ps3cret"})
    shown = repr(endpoint_of(secret, user_agent="x")) + repr(request(delivery(), secret))
    assert "t0ps3cret" not in shown


def test_the_signature_covers_what_is_sent():
    """The reference library verifies the request as it goes out."""
    now = datetime.now(UTC).timestamp()
    found = request(delivery(), now=now)
    standardwebhooks.Webhook(SECRET).verify(found.body, dict(found.headers))
