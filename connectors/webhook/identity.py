"""
Client certificates (mutual TLS): from PEM texts to the context that calls to the receiver are made with.

Python reads certificates and keys from files only. The key is written for a moment into a file that is the user's alone, encrypted with a
password made for it: what a crash would leave behind is of no use to anybody. Called by render.py, and by the API when a webhook is
registered.
"""

from __future__ import annotations

import secrets
import ssl
import tempfile
from collections.abc import Mapping
from functools import lru_cache

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes, PublicKeyTypes

from connectors.webhook.http import text_of
from connectors.webhook.tls import Trust, trusted
from schemas.errors import FieldError, Invalid

IDENTITIES_KEPT = 256
PASSWORD_BYTES = 32


def identity_of(mtls: Mapping[str, str | None]) -> Trust:
    """
    The context for ``auth.mtls``: shows the certificate, and trusts the authorities in ``ca`` instead of the public ones if there are any.

    Raises:  Invalid: names the field; the message holds nothing of a key.
    """
    return _identity(mtls["cert"] or "", mtls["key"] or "", mtls.get("ca"))


@lru_cache(maxsize=IDENTITIES_KEPT)  # an edit of something else keeps the connections
def _identity(cert: str, key: str, ca: str | None) -> Trust:
    chain, private = _chain(cert), _private(key)
    if _bytes(chain[0].public_key()) != _bytes(private.public_key()):
        raise _wrong("key", "is not the key of the certificate")
    trust = _trust(ca)
    password = secrets.token_hex(PASSWORD_BYTES)
    with tempfile.NamedTemporaryFile("wb", prefix="livehook-", suffix=".pem") as file:
        file.write(b"".join(one.public_bytes(serialization.Encoding.PEM) for one in chain))
        file.write(_encrypted(private, password))
        file.flush()
        try:
            trust.load_cert_chain(file.name, password=password)
        except ssl.SSLError as error:
            raise _wrong("cert", f"cannot be used with its key: {text_of(error)}") from None
    return trust


def _chain(cert: str) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(cert.encode())
    except ValueError:
        raise _wrong("cert", "is no certificate in PEM: -----BEGIN CERTIFICATE----- …") from None


def _private(key: str) -> PrivateKeyTypes:
    try:
        return serialization.load_pem_private_key(key.encode(), password=None)
    except TypeError:
        raise _wrong("key", "has a passphrase: give the key without one, secrets are kept masked") from None
    except (ValueError, UnsupportedAlgorithm):
        raise _wrong("key", "is no private key in PEM: -----BEGIN PRIVATE KEY----- …") from None


def _trust(ca: str | None) -> Trust:
    if not ca:
        return trusted()
    trust = Trust()
    try:
        trust.load_verify_locations(cadata=ca)
    except (ssl.SSLError, ValueError):
        raise _wrong("ca", "is no certificate in PEM: -----BEGIN CERTIFICATE----- …") from None
    return trust


def _encrypted(private: PrivateKeyTypes, password: str) -> bytes:
    encryption = serialization.BestAvailableEncryption(password.encode())
    return private.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)


def _bytes(public: PublicKeyTypes) -> bytes:
    return public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def _wrong(field: str, message: str) -> Invalid:
    return Invalid([FieldError(f"auth.mtls.{field}", message)])
