"""The ways of docs/howto/verify-signatures.md accept what is signed as Standard Webhooks, and nothing else."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from connectors.webhook.signature import sign, signer_of
from schemas.signing import public_key_of

PAGE = Path(__file__).parents[2] / "docs/howto/verify-signatures.md"
SECRET = "whsec_" + base64.b64encode(b"a secret of twenty-four!").decode()
OTHER = "whsec_" + base64.b64encode(b"another one of the same!").decode()
BODY = b'{"txnId":1790000000000001,"type":"documentChanged"}'


def functions() -> dict[str, Any]:
    """What the page's Python examples define."""
    found: dict[str, Any] = {}
    for example in re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL):
        exec(compile(example, str(PAGE), "exec"), found)  # noqa: S102  our own page
    return found


def by_library(secret: str, headers: dict[str, str], body: bytes) -> bool:
    try:
        functions()["verified"](secret, headers, body)
    except WebhookVerificationError:
        return False
    return True


def by_hand(secret: str, headers: dict[str, str], body: bytes) -> bool:
    return bool(functions()["is_genuine"](secret, headers, body))


def signed(*secrets: str, age_s: int = 0) -> dict[str, str]:
    """The headers of an attempt made ``age_s`` seconds ago."""
    at = datetime.now(UTC) - timedelta(seconds=age_s)
    signatures = " ".join(Webhook(secret).sign("msg_1", at, BODY.decode()) for secret in secrets)
    return {"webhook-id": "msg_1", "webhook-timestamp": str(int(at.timestamp())), "webhook-signature": signatures}


@pytest.mark.parametrize("accepts", [by_library, by_hand])
@pytest.mark.parametrize(
    ("expected", "headers", "body"),
    [
        pytest.param(True, lambda: signed(SECRET), BODY, id="genuine"),
        pytest.param(True, lambda: signed(OTHER, SECRET), BODY, id="while the secret is rotated"),
        pytest.param(False, lambda: signed(SECRET), BODY + b" ", id="changed on the way"),
        pytest.param(False, lambda: signed(OTHER), BODY, id="another secret"),
        pytest.param(False, lambda: signed(SECRET) | {"webhook-id": "msg_2"}, BODY, id="another id"),
        pytest.param(False, lambda: signed(SECRET, age_s=3600), BODY, id="a recording"),
    ],
)
def test_only_what_livehook_signed_is_accepted(
    accepts: Callable[[str, dict[str, str], bytes], bool], expected: bool, headers: Callable[[], dict[str, str]], body: bytes
):
    """Both examples of the page come to the same answer."""
    # Signed only now: an attempt that is five minutes old is refused, and collecting a whole suite may be longer ago than that.
    assert expected is accepts(SECRET, headers(), body)


SEED = base64.b64encode(b"a seed of just thirty-two bytes!").decode()


def signed_with_a_key(seed: str, age_s: int = 0) -> dict[str, str]:
    """The headers of an attempt made ``age_s`` seconds ago, signed by the symmetric secret too."""
    at_s = int(datetime.now(UTC).timestamp()) - age_s
    signature = sign([signer_of(SECRET), signer_of("whsk_" + seed)], "msg_1", at_s, BODY)
    return {"webhook-id": "msg_1", "webhook-timestamp": str(at_s), "webhook-signature": signature}


def test_a_public_key_is_enough():
    """The page's third example: the same rules, without a secret."""
    is_signed, public_key = functions()["is_signed"], public_key_of("whsk_" + SEED)
    other = base64.b64encode(b"x" * 32).decode()
    assert is_signed(public_key, signed_with_a_key(SEED), BODY)
    assert not is_signed(public_key, signed_with_a_key(SEED), BODY + b" ")
    assert not is_signed(public_key, signed_with_a_key(other), BODY)
    assert not is_signed(public_key, signed_with_a_key(SEED, age_s=3600), BODY)
    assert not is_signed(public_key, signed(SECRET), BODY)
