"""
OAuth 2.0 client credentials as bytes: the request for a token, and what its answer means. Pure. Called by tokens.py.

Source: RFC 6749, 2.3.1 (client authentication), 4.4 (the grant), 5 (answers); RFC 6750, 2.1 (the token in a request).
"""

from __future__ import annotations

import re
from base64 import b64encode
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote_plus, urlencode

import msgspec

from connectors.webhook.calls import Failure, OAuthClient, Request, Response, request_of
from schemas.attempts import ErrorCode

LIFETIME_S = 300.0  # where the answer does not say, and RFC 6749 leaves it open
LIFETIME_S_MAX = 86_400.0
AHEAD_S_MAX = 60.0
MARGIN_S_MAX = 5.0
TOKEN = re.compile(r"[A-Za-z0-9._~+/-]{1,8192}=*", re.ASCII)
ERRORS = frozenset({"invalid_request", "invalid_client", "invalid_grant", "unauthorized_client", "unsupported_grant_type", "invalid_scope"})


@dataclass(slots=True)
class Token:
    """
    An access token; times are those of the clock that :func:`token_of` was given.

    renew_at:    from then on another one is fetched, while this one is still used.
    expires_at:  from then on it is not used.
    is_doubtful: it took the place of one that the receiver refused, and was not accepted by it so far.
    """

    value: str = field(repr=False)
    renew_at: float
    expires_at: float
    is_doubtful: bool = False


def token_request(client: OAuthClient, user_agent: str) -> Request:
    """The call that asks for a token."""
    fields = {"grant_type": "client_credentials"} | ({"scope": client.scope} if client.scope else {})
    pair = f"{quote_plus(client.client_id)}:{quote_plus(client.client_secret)}"
    headers = (
        ("content-type", "application/x-www-form-urlencoded"),
        ("user-agent", user_agent),
        ("authorization", "Basic " + b64encode(pair.encode()).decode()),
    )
    return request_of("POST", client.token_url, headers, urlencode(fields).encode())


def token_of(result: Response | Failure, *, asked_at: float) -> Token | Failure:
    """The token that was answered; a failure shows nothing of what came but the error codes of RFC 6749."""
    if isinstance(result, Failure):
        return _failure(f"{result.code.value}: {result.detail}")
    answer = _object(result)
    if result.status != 200:
        error = answer.get("error")
        return _failure(f"status {result.status}" + (f", {error}" if isinstance(error, str) and error in ERRORS else ""))
    value, kind = answer.get("access_token"), answer.get("token_type")
    if not isinstance(value, str) or not TOKEN.fullmatch(value):
        return _failure("the answer has no access_token that could be sent")
    if not isinstance(kind, str) or kind.lower() != "bearer":
        return _failure("the answer has no token_type Bearer")
    lifetime_s = _lifetime_s(answer.get("expires_in"))
    if lifetime_s <= 0:
        return _failure("the answer has a token that has expired already")
    expires_at = asked_at + lifetime_s
    return Token(value, expires_at - min(AHEAD_S_MAX, lifetime_s / 5), expires_at - min(MARGIN_S_MAX, lifetime_s / 10))


def _failure(detail: str) -> Failure:
    return Failure(ErrorCode.AUTH, f"no access token from the token endpoint: {detail}")


def _object(response: Response) -> dict[str, Any]:
    try:
        found = msgspec.json.decode(response.body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _lifetime_s(value: Any) -> float:
    """``expires_in`` in seconds; some servers write it as a string."""
    if isinstance(value, str) and value.isascii() and value.isdigit():
        value = int(value[:9])
    if isinstance(value, bool) or not isinstance(value, int | float):
        return LIFETIME_S
    return min(float(value), LIFETIME_S_MAX)
