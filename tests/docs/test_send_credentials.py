"""Each webhook of docs/howto/send-credentials.md is accepted once its variables are filled in, and nothing secret of it is shown."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest
import trustme
import yaml

from livehook.checks import check_identity, check_query
from livehook.commands.webhook_files import fill
from schemas.masking import mask
from schemas.webhook_checks import Checks
from schemas.webhook_json import spec_json
from schemas.webhook_validation import parse_webhook

PAGE = (Path(__file__).parents[2] / "docs/howto/send-credentials.md").read_text()
WEBHOOKS = [yaml.safe_load(text) for text in re.findall(r"^```yaml\n(.*?)^```$", PAGE, re.M | re.S)]
AUTHORITY = trustme.CA()
ISSUED = AUTHORITY.issue_cert("livehook@example.com")
ENVIRONMENT = {
    "CRM_PASSWORD": "planted-1",
    "CRM_TOKEN": "planted-2",
    "CRM_CLIENT_SECRET": "planted-3",
    "CRM_CERT": ISSUED.cert_chain_pems[0].bytes().decode(),
    "CRM_KEY": ISSUED.private_key_pem.bytes().decode(),
    "CRM_CA": AUTHORITY.cert_pem.bytes().decode(),
}
CHECKS = Checks(check_query, lambda host, port: None, check_identity)


@pytest.mark.parametrize("webhook", WEBHOOKS, ids=lambda webhook: webhook["name"])
def test_it_is_accepted_and_masked(webhook):
    """As ``livehook webhook apply`` sends it."""
    spec = parse_webhook(fill(webhook, ENVIRONMENT, "page"), name=None, checks=CHECKS).spec
    shown = msgspec.json.encode(mask(spec_json(spec))).decode()
    assert "****" in shown
    assert "planted" not in shown
    assert "PRIVATE KEY" not in shown


def test_every_kind_is_there():
    """The page names all that a webhook may have."""
    assert ["basic", "bearer", "oauth2", "mtls"] == [kind for webhook in WEBHOOKS for kind in webhook["auth"]]
