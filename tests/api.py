"""What tests of the HTTP API share: an API on a fake Kafka, and what stands in that Kafka's topics."""

from __future__ import annotations

import itertools

import httpx

from livehook.api.app import create_app
from livehook.api.register import UNDER_WAY_US
from livehook.api.testing import NOW_US, fake_services
from schemas.mutations import Mutation
from schemas.records import decode_mutation, decode_webhooks
from schemas.topics import Topics
from schemas.webhooks import State, WebhookRevision, WebhookStatus

TOPICS = Topics(partitions=4)
WEBHOOK = {"collection": "people", "query": "age >= 18", "url": "https://example.com/hook"}
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
DOCUMENTS = "/v1/collections/people/documents"
LANE = TOPICS.lane("adults").name


def client(kafka, **services):
    """A client of an API on this Kafka."""
    transport = httpx.ASGITransport(create_app(fake_services(kafka, **services)), raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8080")


def problem(answer, status, code):
    """The answer's problem document, once it has the shape of RFC 9457."""
    body = answer.json()
    assert (status, "application/problem+json") == (answer.status_code, answer.headers["content-type"])
    assert ("about:blank", status, code) == (body["type"], body["status"], body["code"])
    assert {"type", "title", "status", "code", "detail"} <= body.keys()
    return body


def mutations(kafka):
    """What was produced to ``mutations``, without marks."""
    decoded = [decode_mutation(record.key, record.value) for record in kafka.records("livehook.mutations")]
    return [mutation for mutation in decoded if isinstance(mutation, Mutation)]


def revisions(kafka):
    """What was written to ``webhooks``, in order."""
    decoded = [decode_webhooks(record.value) for record in kafka.records("livehook.webhooks")]
    return [revision for revision in decoded if isinstance(revision, WebhookRevision)]


def disable(kafka):
    """What a sink writes when a receiver is gone."""
    current = kafka.registry.webhook("adults").current
    kafka.status(WebhookStatus(current.uid, "adults", current.edit, State.DISABLED, "410 Gone", current.updated_us))


def later():
    """The time when what was begun before is under way no more."""
    return itertools.count(NOW_US + UNDER_WAY_US + 1_000)
