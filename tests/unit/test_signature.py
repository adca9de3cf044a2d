"""Rules of Standard Webhooks 1.0 for those who sign, checked with its own library."""

import base64
from datetime import UTC, datetime

import pytest
import standardwebhooks
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from connectors.webhook.signature import sign, signer_of, signing
from schemas.signing import RULES, BadSecret, check_secret, key_of, new_secret, public_key_of

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
        [signer_of(SECRET)], "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}'
    )


def test_the_reference_library_accepts_what_is_signed():
    """Id, timestamp and body are covered: another one of any is refused."""
    now = int(datetime.now(UTC).timestamp())
    signature = sign([signer_of(SECRET)], "msg_1", now, BODY)
    assert verified(SECRET, signature, "msg_1", now, BODY)
    assert not verified(SECRET, signature, "msg_2", now, BODY)
    assert not verified(SECRET, signature, "msg_1", now - 1, BODY)
    assert not verified(SECRET, signature, "msg_1", now, BODY + b" ")
    assert not verified(new_secret("v1"), signature, "msg_1", now, BODY)


def test_while_a_secret_is_rotated_both_sign():
    """Receivers that know either secret accept the call, until the old one's time is over."""
    now = int(datetime.now(UTC).timestamp())
    old, new = new_secret("v1"), new_secret("v1")
    newest = signer_of(new)
    signers = [(newest, None), (signer_of(old), (now + 1) * 1_000_000)]
    signature = sign(signing(signers, now), "msg_1", now, BODY)
    assert verified(old, signature, "msg_1", now, BODY)
    assert verified(new, signature, "msg_1", now, BODY)
    assert [newest] == signing(signers, now + 1)


def test_a_new_secret_has_32_random_bytes():
    """It reads back, and no two are the same."""
    assert b"x" * 32 == key_of(new_secret("v1", lambda count: b"x" * count))
    assert new_secret("v1") != new_secret("v1")


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
    assert RULES["v1"] == str(caught.value)


# RFC 8032, 7.1, test 1.
SEED = bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")
PUBLIC = bytes.fromhex("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a")


def asymmetric(key: bytes) -> str:
    return "whsk_" + base64.b64encode(key).decode()


def test_an_ed25519_secret_is_a_key_pair_or_its_seed():
    """Both stand for the same key; the public one is told with its own prefix."""
    assert SEED == key_of(asymmetric(SEED)) == key_of(asymmetric(SEED + PUBLIC))
    assert "whpk_" + base64.b64encode(PUBLIC).decode() == public_key_of(asymmetric(SEED))
    assert asymmetric(SEED + PUBLIC) == new_secret("v1a", lambda count: SEED)
    assert public_key_of(SECRET) is None


@pytest.mark.parametrize("key", [b"", SEED[:-1], SEED + SEED, SEED + PUBLIC + b"x"])
def test_what_is_no_key_pair_is_refused(key):
    """Also a pair whose halves do not belong together: what it signs, nobody could verify."""
    with pytest.raises(BadSecret, match="must be whsk_"):
        key_of(asymmetric(key))


def test_a_secret_of_the_other_scheme_is_refused():
    """Either way round."""
    with pytest.raises(BadSecret, match="must be whsec_"):
        check_secret(asymmetric(SEED), "v1")
    with pytest.raises(BadSecret, match="must be whsk_"):
        check_secret(SECRET, "v1a")
    assert asymmetric(SEED) == check_secret(asymmetric(SEED), "v1a")


def test_ed25519_signs_the_same_content():
    """Version ``v1a``, then the signature of id, timestamp and body; the public key verifies it."""
    version, _, signature = sign([signer_of(asymmetric(SEED))], "msg_1", 1614265330, BODY).partition(",")
    public = Ed25519PublicKey.from_public_bytes(PUBLIC)
    public.verify(base64.b64decode(signature), b"msg_1.1614265330." + BODY)
    assert "v1a" == version
    with pytest.raises(InvalidSignature):
        public.verify(base64.b64decode(signature), b"msg_2.1614265330." + BODY)


def test_while_the_scheme_changes_both_sign():
    """A receiver that knows the symmetric secret takes the call although another signature stands before its own."""
    now = int(datetime.now(UTC).timestamp())
    signature = sign([signer_of(asymmetric(SEED)), signer_of(SECRET)], "msg_1", now, BODY)
    assert ["v1a", "v1"] == [one.partition(",")[0] for one in signature.split()]
    assert verified(SECRET, signature, "msg_1", now, BODY)
