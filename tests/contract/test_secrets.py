"""Secrets are planted wherever a webhook may have one, and looked for in all that comes out: answers, attempts, logs, metrics, reprs."""

from __future__ import annotations

import io
import json
import logging
import random
from collections.abc import Iterator

import httpx
import msgspec
import pytest
import trustme
from prometheus_client import CollectorRegistry, generate_latest

from connectors.webhook.metrics import SinkMetrics
from connectors.webhook.render import endpoint_of
from connectors.webhook.testing import Answer, Call, Receiver, sender_here
from connectors.webhook.tls import trusted
from connectors.webhook.tokens import AuthorizingSender
from connectors.webhook.trial import send_test
from livehook import logs
from livehook.api.app import create_app
from livehook.api.testing import FakeKafka, fake_services
from livehook.commands import webhook_files
from schemas.attempt_json import attempt_json
from schemas.attempts import Attempt, Outcome
from schemas.records import decode_webhooks
from schemas.topics import Topics
from schemas.webhooks import WebhookRevision

KEY = trustme.CA().issue_cert("livehook@example.com")
PEM = KEY.private_key_pem.bytes().decode()
TOKEN = "planted-access-token"
SIGNING = "whsec_cGxhbnRlZC1zaWduaW5nLXNlY3JldC0x"
PLANTED = ("planted", SIGNING[6:], *(line for line in PEM.splitlines() if not line.startswith("-----")), "cGxhbnRlZ")
CREDENTIALS = {
    "basic": {"basic": {"username": "u", "password": "planted-password"}},
    "bearer": {"bearer": {"token": "planted-bearer"}},
    "oauth2": {"oauth2": {"tokenUrl": "{url}/token", "clientId": "id", "clientSecret": "planted-client-secret"}},
    "mtls": {"mtls": {"cert": KEY.cert_chain_pems[0].bytes().decode(), "key": PEM}},
}
HEADERS = {"x-api-key": "planted-key", "cookie": "planted=cookie", "x-auth-token": "planted-token", "x-team": "crm"}


def leaks(text: str) -> list[str]:
    """The planted secrets that stand in it."""
    return [secret for secret in PLANTED if secret in text]


def echo(call: Call) -> Answer:
    """A token endpoint, and a receiver that answers with all that it was sent."""
    if call.target == "/token":
        return Answer(body=json.dumps({"access_token": TOKEN, "token_type": "Bearer"}).encode())
    shown = json.dumps(call.headers).encode()
    return Answer(400, headers=(("x-seen", call.header("authorization") or "none"),), body=shown)


@pytest.fixture
def logged() -> Iterator[io.StringIO]:
    """Everything that is logged, down to debug."""
    root = logging.getLogger()
    before = root.handlers, root.level
    stream = io.StringIO()
    logs.configure("debug", stream=stream)
    yield stream
    logging.captureWarnings(capture=False)
    root.handlers, root.level = before


def webhook(kind: str, url: str) -> dict[str, object]:
    auth = json.loads(json.dumps(CREDENTIALS[kind]).replace("{url}", url))
    target = "https://127.0.0.1:65000/hook" if kind == "mtls" else f"{url}/hook"
    return {"collection": "people", "url": target, "auth": auth, "headers": HEADERS, "secret": SIGNING}


async def delivered(revision: WebhookRevision) -> Attempt:
    """An attempt over the real engine."""
    sender = AuthorizingSender(sender_here(tls=trusted()), user_agent="livehook/1")
    attempt = await send_test(revision, {"_id": "a"}, None, sender=sender, user_agent="livehook/1", rng=random.Random(1))
    await sender.close()
    return attempt


@pytest.mark.parametrize("kind", CREDENTIALS)
async def test_no_planted_secret_comes_out(kind, logged):
    """Only the answer that made a signing secret has it, and the records that Kafka keeps for ourselves."""
    kafka = FakeKafka(Topics(partitions=1))
    transport = httpx.ASGITransport(create_app(fake_services(kafka)), raise_app_exceptions=False)
    async with Receiver(echo) as receiver, httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as api:
        given = webhook(kind, receiver.url)
        path = "/v1/webhooks/name-1"
        made = await api.put(path, json=given)
        assert 201 == made.status_code
        found = (await api.get(path)).json()
        wrong = given | {"headers": HEADERS | {"x-secret": "planted\n"}, "secret": "whsec_planted"}
        wrong["auth"] = {"bearer": {"token": "planted bearer"}}
        answers = [
            found,
            (await api.get("/v1/webhooks")).json(),
            (await api.put(path, json=found)).json(),
            (await api.patch(path, json={"method": "PUT"})).json(),
            (await api.put(path, params={"dryRun": "true"}, json=given | {"headers": HEADERS | {"x-api-key": "planted-other"}})).json(),
            (await api.put("/v1/webhooks/other", params={"dryRun": "true"}, json=given)).json(),
            (await api.put("/v1/webhooks/other", json=wrong)).json(),
            (await api.post(f"{path}/rotate-secret", json={"secret": "whsec_planted"})).json(),
            (await api.post(f"{path}/pause")).json(),
            webhook_files.to_yaml([webhook_files.exported(found)]),
        ]
        revision = decode_webhooks(kafka.records("livehook.webhooks")[-1].value or b"")
        assert isinstance(revision, WebhookRevision)
        attempt = await delivered(revision)
    registry = CollectorRegistry()
    SinkMetrics(registry).lane("name-1").attempted(Outcome.RETRY, 0.1)
    output = {
        "answers": json.dumps(answers),
        "attempt": json.dumps(attempt_json(attempt)) + msgspec.json.encode(attempt.request.headers).decode(),
        "reprs": repr((revision, revision.spec, endpoint_of(revision, user_agent="x"))),
        "metrics": generate_latest(registry).decode(),
        "logs": logged.getvalue(),
    }
    assert [] == [(name, secret) for name, text in output.items() for secret in leaks(text)]
    assert "****" in output["answers"]
    assert "****" in output["attempt"]
