"""
The credentials of a webhook's calls. Read for ``webhook_validation.py``. Pure.

Source: docs/reference/webhook.md; RFC 7617 (basic), RFC 6750 (bearer), RFC 6749 (oauth2), RFC 7468 (certificates and keys as text).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from schemas.masking import MASK
from schemas.reader import Reader, as_text
from schemas.webhook_checks import Checks, IdentityCheck
from schemas.webhook_url import check_url

AUTHORIZATIONS = ("basic", "bearer", "oauth2")  # each makes the Authorization header
PEM_CHARS_MAX = 65_536


def read_auth(reader: Reader, checks: Checks) -> dict[str, Any]:
    """The credentials of a call."""
    found: dict[str, Any] = {}
    if reader.raw("basic") is not None:
        basic = reader.inner("basic")
        found["basic"] = {"username": _required(basic, "username", _username), "password": _required(basic, "password", unmasked)}
        basic.end()
    if reader.raw("bearer") is not None:
        bearer = reader.inner("bearer")
        found["bearer"] = {"token": _required(bearer, "token", _token)}
        bearer.end()
    if reader.raw("oauth2") is not None:
        found["oauth2"] = _oauth2(reader.inner("oauth2"), checks)
    if reader.raw("mtls") is not None:
        found["mtls"] = _mtls(reader.inner("mtls"), checks.identity)
    if len(present := [name for name in AUTHORIZATIONS if name in found]) > 1:
        reader.refuse(present[1], f"and auth.{present[0]} are both there: a call has one Authorization header")
    reader.end()
    return found


def _oauth2(reader: Reader, checks: Checks) -> dict[str, Any]:
    def token_url(value: Any) -> str:
        text = as_text(value)
        if "{{" in text:
            raise ValueError("has {{…}}: a token endpoint is the same for every delivery")
        return check_url(text, checks)

    found = {
        "tokenUrl": _required(reader, "tokenUrl", token_url),
        "clientId": _required(reader, "clientId", _client_id),
        "clientSecret": _required(reader, "clientSecret", unmasked),
        "scope": str(reader.checked("scope", _scope, "")),
    }
    reader.end()
    return found


def _mtls(reader: Reader, check_identity: IdentityCheck) -> dict[str, Any]:
    found = {
        "cert": _required(reader, "cert", _pem),
        "key": _required(reader, "key", _pem),
        "ca": reader.checked("ca", _pem),
    }
    reader.end()
    if found["cert"] and found["key"]:
        reader.errors.extend(check_identity(found))
    return found


def _pem(value: Any) -> str:
    if not isinstance(value, str) or not value.isascii() or len(value) > PEM_CHARS_MAX:
        raise ValueError(f"must be PEM, at most {PEM_CHARS_MAX:,} signs")
    if value == MASK:
        raise ValueError("is masked, and there is none on record to keep")
    return value


def _client_id(value: Any) -> str:
    text = as_text(value)
    if not re.fullmatch(r"[\x20-\x7e]{1,1024}", text):  # RFC 6749, A.1
        raise ValueError("must be 1 to 1,024 signs of ASCII")
    return text


def _scope(value: Any) -> str:
    text = as_text(value)
    if text and not re.fullmatch(r"(?=.{1,1024}\Z)[!#-\[\]-~]+( [!#-\[\]-~]+)*", text):  # RFC 6749, A.4
        raise ValueError("must be names with one space between, at most 1,024 signs of ASCII")
    return text


def _required(reader: Reader, name: str, check: Callable[[Any], str]) -> str:
    if name not in reader:
        reader.refuse(name, "is missing")
    return str(reader.checked(name, check, ""))


def _username(value: Any) -> str:
    text = as_text(value)
    if ":" in text or not text.isprintable():  # RFC 7617, section 2
        raise ValueError("has a colon or a control character")
    return text


def unmasked(value: Any) -> str:
    """
    A secret.

    Raises:  ValueError; the message never holds the value.
    """
    if not isinstance(value, str) or not value.isprintable():
        raise ValueError("must be a string without control characters")
    if value == MASK:
        raise ValueError("is masked, and there is none on record to keep")
    return value


def _token(value: Any) -> str:
    text = unmasked(value)
    if not re.fullmatch(r"[\x21-\x7e]{1,8192}", text):
        raise ValueError("must be visible ASCII without spaces")
    return text
