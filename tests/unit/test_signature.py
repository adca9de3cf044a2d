"""Rules of Standard Webhooks 1.0 for those who sign, checked with its own library."""

import base64
from datetime import UTC, datetime

import pytest
import standardwebhooks

from connectors.webhook.signature import BadSecret, key_of, new_secret, sign, signing

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
BODY = '{"test": 2432232314, "name": "Zoë"}'.encode()


def verified(secret: str, signature: str, webhook_id: str, timestamp_s: int, body: bytes) -> bool:
    headers = {"webhook-id": webhook_id, "webhook-timestamp": str(timestamp_s), "webhook-signature": signature}
    try:
        standardwebhooks.Webhook(secret).verify(body, headers, json_parse=False)
    except standardwebhooks.WebhookVerificationError:
        return False
    return True


def test_the_specifications_own_example():
    """Secret, id, timestamp and body of the specification's test vector give its signature."""
    assert "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=" == sign(
        [key_of(SECRET)], "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}'
    )


def test_the_reference_library_accepts_what_is_signed():
    """Id, timestamp and body are covered: another one of any is refused."""
    now = int(datetime.now(UTC).timestamp())
    signature = sign([key_of(SECRET)], "msg_1", now, BODY)
    assert verified(SECRET, signature, "msg_1", now, BODY)
    assert not verified(SECRET, signature, "msg_2", now, BODY)
    assert not verified(SECRET, signature, "msg_1", now - 1, BODY)
    assert not verified(SECRET, signature, "msg_1", now, BODY + b" ")
    assert not verified(new_secret(), signature, "msg_1", now, BODY)


def test_while_a_secret_is_rotated_both_sign():
    """Receivers that know either secret accept the call, until the old one's time is over."""
    now = int(datetime.now(UTC).timestamp())
    old, new = new_secret(), new_secret()
    keys = [(key_of(new), None), (key_of(old), (now + 1) * 1_000_000)]
    signature = sign(signing(keys, now), "msg_1", now, BODY)
    assert verified(old, signature, "msg_1", now, BODY)
    assert verified(new, signature, "msg_1", now, BODY)
    assert [key_of(new)] == signing(keys, now + 1)


def test_a_new_secret_has_32_random_bytes():
    """It reads back, and no two are the same."""
    assert b"x" * 32 == key_of(new_secret(lambda count: b"x" * count))
    assert new_secret() != new_secret()


@pytest.mark.parametrize("count", [24, 64])
def test_a_secret_has_24_to_64_bytes(count):
    """The bounds of the specification belong to what is allowed; padding may be missing."""
    text = "whsec_" + base64.b64encode(b"k" * count).decode()
    assert b"k" * count == key_of(text) == key_of(text.rstrip("="))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "whsec_",
        "whsec_!!!!",
        SECRET.removeprefix("whsec_"),
        "whsec_" + "a" * 31,
        "whsec_" + base64.b64encode(b"k" * 65).decode(),
        "whsec_é",
    ],
)
def test_what_is_no_secret_is_refused_without_showing_it(text):
    """The message holds nothing of what was given."""
    with pytest.raises(BadSecret) as caught:
        key_of(text)
    assert "must be whsec_ and 24 to 64 bytes in base64" == str(caught.value)
