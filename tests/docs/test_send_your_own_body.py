"""Each webhook of docs/howto/send-your-own-body.md is accepted, and its document comes to the body beside it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import yaml

from connectors.webhook.calls import Request
from connectors.webhook.render import endpoint_of, prepare
from livehook.checks import check_query
from schemas.changes import Change
from schemas.deliveries import Delivery, Match
from schemas.positions import Origin
from schemas.strict_json import encode
from schemas.webhook_checks import Checks
from schemas.webhook_validation import parse_webhook
from schemas.webhooks import Secret, WebhookRevision

PAGE = (Path(__file__).parents[2] / "docs/howto/send-your-own-body.md").read_text()
WEBHOOKS = {data["name"]: data for text in re.findall(r"^```yaml\n(.*?)^```$", PAGE, re.M | re.S) for data in [yaml.safe_load(text)]}
BODIES = [json.loads(text) for text in re.findall(r"^```json\n(.*?)^```$", PAGE, re.M | re.S)]
DOCUMENTS = [json.loads(text) for text in re.findall(r"ocument `(\{.*?\})`", PAGE)]


def request(name: str, document: dict[str, Any], match: Match = Match.CREATE, trigger: int = 0) -> Request:
    """The call for a document that was created."""
    spec = parse_webhook(WEBHOOKS[name], name=None, checks=Checks(check_query, lambda host, port: None, lambda mtls: [])).spec
    change = Change(spec.triggers_all[0].collections[0], document["_id"], 1, 1, None, encode(document), Origin(0, 0, 0), 1)
    endpoint = endpoint_of(WebhookRevision("uid", name, 1, 1, spec, [Secret("whsec_" + "a" * 32)], 0, 0), user_agent="livehook/1")
    return prepare(Delivery("uid", 1, match, change, trigger=trigger), endpoint, offset="0", attempt=1, now=0.0)


def test_the_page_has_what_is_tested():
    """So that nothing of it is forgotten."""
    assert (["chat", "crm", "site", "site-and-edits"], 3, 2) == ([*WEBHOOKS], len(BODIES), len(DOCUMENTS))


def test_chat_and_crm():
    """The same document, as a line and as a document with its URL."""
    assert BODIES[0] == json.loads(request("chat", DOCUMENTS[0]).body)
    crm = request("crm", DOCUMENTS[0])
    assert (BODIES[1], f"{crm.method} {crm.url}") == (json.loads(crm.body), "PUT https://crm.example.com/people/6213e9c9")
    assert f"`{crm.method} {crm.url}`" in PAGE


def test_datocms():
    """Created or published later: its own example comes out as its text says; the second trigger says update."""
    assert BODIES[2] == json.loads(request("site", DOCUMENTS[1]).body) == json.loads(request("site", DOCUMENTS[1], Match.ENTER).body)
    assert "publish" == json.loads(request("site-and-edits", DOCUMENTS[1]).body)["event_type"]
    assert "update" == json.loads(request("site-and-edits", DOCUMENTS[1], Match.UPDATE, trigger=1).body)["event_type"]
