"""Rules of client certificates: what is refused, by field and without a word of the key."""

import ssl
from pathlib import Path

import pytest
import trustme
from cryptography.hazmat.primitives import serialization

from connectors.webhook import identity
from connectors.webhook.identity import identity_of
from connectors.webhook.tls import Trust
from livehook.checks import check_identity
from schemas.errors import FieldError, Invalid

AUTHORITY = trustme.CA()
ISSUED = AUTHORITY.issue_cert("livehook@example.com")
CERT = b"".join(blob.bytes() for blob in ISSUED.cert_chain_pems).decode()
KEY = ISSUED.private_key_pem.bytes().decode()
CA = AUTHORITY.cert_pem.bytes().decode()
MTLS = {"cert": CERT, "key": KEY, "ca": CA}


def locked(key: str) -> str:
    """The key with a passphrase."""
    private = serialization.load_pem_private_key(key.encode(), None)
    encryption = serialization.BestAvailableEncryption(b"x")
    return private.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption).decode()


@pytest.mark.parametrize(
    ("changed", "field", "message"),
    [
        ({"cert": "x"}, "cert", "is no certificate in PEM: -----BEGIN CERTIFICATE----- …"),
        ({"cert": KEY}, "cert", "is no certificate in PEM: -----BEGIN CERTIFICATE----- …"),
        ({"key": "x"}, "key", "is no private key in PEM: -----BEGIN PRIVATE KEY----- …"),
        ({"key": CERT}, "key", "is no private key in PEM: -----BEGIN PRIVATE KEY----- …"),
        ({"key": locked(KEY)}, "key", "has a passphrase: give the key without one, secrets are kept masked"),
        ({"key": AUTHORITY.issue_cert("a@example.com").private_key_pem.bytes().decode()}, "key", "is not the key of the certificate"),
        ({"ca": "x"}, "ca", "is no certificate in PEM: -----BEGIN CERTIFICATE----- …"),
    ],
)
def test_what_cannot_be_used_is_named(changed, field, message):
    """When a webhook is registered, not when its first call fails."""
    assert [FieldError(f"auth.mtls.{field}", message)] == check_identity(MTLS | changed)


def test_one_identity_is_one_context():
    """So that an edit of something else keeps the connections; another authority is another context."""
    assert identity_of(MTLS) is identity_of(dict(MTLS))
    assert identity_of(MTLS) is not identity_of(MTLS | {"ca": None})


def test_the_authorities_given_take_the_place_of_the_public_ones():
    """Else anybody with a public certificate could be the receiver."""
    assert 1 == identity_of(MTLS).cert_store_stats()["x509_ca"] < identity_of(MTLS | {"ca": None}).cert_store_stats()["x509_ca"]


def test_no_key_is_ever_on_disk_in_the_open(monkeypatch):
    """What is written for a moment is encrypted, and gone afterwards."""
    seen = []

    def load(self, path, password):
        seen.append((path, Path(path).read_text()))
        raise ssl.SSLError(1, "[SSL: EE_KEY_TOO_SMALL] ee key too small")

    monkeypatch.setattr(Trust, "load_cert_chain", load)
    with pytest.raises(Invalid, match=r"auth\.mtls\.cert cannot be used with its key"):
        identity._identity.__wrapped__(CERT, KEY, CA)
    [(path, written)] = seen
    assert "BEGIN ENCRYPTED PRIVATE KEY" in written
    assert not any(line in written for line in KEY.splitlines()[1:-1])
    assert not Path(path).exists()
