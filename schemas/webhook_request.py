"""
The part of a webhook that says how it is called: URL, credentials, headers, payload. Read for ``webhook_validation.py``. Pure.

Source: docs/reference/webhook.md; RFC 9110 (headers), RFC 7617 (basic), RFC 6750 (bearer), RFC 6749 (oauth2).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import SplitResult, urlsplit

from schemas.masking import MASK
from schemas.mustache import literals, parse, variables
from schemas.reader import Reader, as_text, not_available, shown
from schemas.webhooks import Payload

HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,128}", re.ASCII)  # RFC 9110, 5.6.2
HEADER_VALUE = re.compile(r"[\x21-\x7e](?:[\x20-\x7e\t]{0,8190}[\x21-\x7e])?|", re.ASCII)
MEDIA_TYPE = re.compile(r"[a-z0-9][a-z0-9!#$&^_.+-]*/[a-z0-9][a-z0-9!#$&^_.+-]*(\s*;\s*[a-z0-9-]+=[\x21-\x7e]+)*", re.ASCII | re.IGNORECASE)

FORMATS = ("livehook", "ditto", "document", "entity", "debezium", "cloudevents", "template")
OUR_HEADERS = frozenset({"user-agent", "webhook-id", "webhook-timestamp", "webhook-signature"})  # and livehook-…
CONNECTION_HEADERS = frozenset(
    {"connection", "content-length", "expect", "host", "http2-settings", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade"}
)
AUTHORIZATIONS = ("basic", "bearer", "oauth2")  # each makes the Authorization header
HEADERS_MAX = 64
URL_CHARS_MAX = 8_192

TargetCheck = Callable[[str, int], str | None]
"""Host and port of a URL in; why they may not be called, as far as the text tells, else None."""


def check_url(value: Any, check_target: TargetCheck, *, allow_private: bool) -> str:
    """
    A URL that may be called, as far as the text tells.

    Raises:  ValueError.
    """
    text = as_text(value)
    if not 1 <= len(text) <= URL_CHARS_MAX:
        raise ValueError(f"has {len(text):,} characters, must have 1 to {URL_CHARS_MAX:,}")
    _check_fixed(_fixed_part(text) if "{{" in text else text, check_target, allow_private=allow_private)
    return text


def _fixed_part(template: str) -> str:
    """The URL without its tags, which stand behind the host and port and write nothing that is not encoded."""
    nodes = parse(template)
    if not nodes or not isinstance(nodes[0], str) or not re.match(r"[A-Za-z]+://[^/?#]+[/?]", nodes[0]):
        raise ValueError("has {{…}} in its scheme, host or port: it may stand only behind them, after / or ?")
    if any(variable.is_raw for variable in variables(nodes)):
        raise ValueError("has {{{…}}} or {{&…}}: in a URL every value is percent-encoded, write {{…}}")
    return "".join(literals(nodes))


def _check_fixed(text: str, check_target: TargetCheck, *, allow_private: bool) -> None:
    if not re.fullmatch(r"[\x21-\x7e]+", text):
        raise ValueError("has a space, a control character or a sign beyond ASCII: percent-encode it")
    try:
        parts = urlsplit(text)
    except ValueError as error:
        raise ValueError("has an IPv6 address that is none, or without its brackets") from error
    schemes = ("https", "http") if allow_private else ("https",)
    if parts.scheme not in schemes:
        raise ValueError("must begin with https://, or http:// where private targets are allowed (ALLOW_PRIVATE)")
    if "@" in parts.netloc:
        raise ValueError("holds a user or password: use auth.basic")
    if parts.fragment or text.endswith("#"):
        raise ValueError("has a fragment (#…), which no receiver ever sees")
    _check_host(parts, check_target)


def is_callable_port(port: int) -> bool:
    """Whether webhooks may be sent to this port: below 1024 are services of other kinds. Holds for every call, too (egress.py)."""
    return port in (80, 443) or port >= 1024


def _check_host(parts: SplitResult, check_target: TargetCheck) -> None:
    if not parts.hostname or not re.fullmatch(r"[a-z0-9_.-]+|[0-9a-f:.]+(%[\w.-]+)?", parts.hostname):
        raise ValueError("has no host name that could be called")
    port = _port(parts)
    if not is_callable_port(port):
        raise ValueError(f"has port {port}, must be 80, 443 or from 1024")
    if (why := check_target(parts.hostname, port)) is not None:
        raise ValueError(why)


def _port(parts: SplitResult) -> int:
    try:
        return {"https": 443, "http": 80}[parts.scheme] if parts.port is None else parts.port
    except ValueError:
        raise ValueError(f"has the port {shown(parts.netloc.rpartition(':')[2])}, must be 80, 443 or a number from 1024 to 65535") from None


def read_auth(reader: Reader, check_target: TargetCheck, *, allow_private: bool) -> dict[str, Any]:
    """The credentials of a call."""
    found: dict[str, Any] = {}
    if reader.raw("mtls") is not None:
        reader.refuse("mtls", not_available("client certificates"))
    if reader.raw("basic") is not None:
        basic = reader.inner("basic")
        found["basic"] = {"username": _required(basic, "username", _username), "password": _required(basic, "password", unmasked)}
        basic.end()
    if reader.raw("bearer") is not None:
        bearer = reader.inner("bearer")
        found["bearer"] = {"token": _required(bearer, "token", _token)}
        bearer.end()
    if reader.raw("oauth2") is not None:
        found["oauth2"] = _oauth2(reader.inner("oauth2"), check_target, allow_private=allow_private)
    if len(present := [name for name in AUTHORIZATIONS if name in found]) > 1:
        reader.refuse(present[1], f"and auth.{present[0]} are both there: a call has one Authorization header")
    reader.end()
    return found


def _oauth2(reader: Reader, check_target: TargetCheck, *, allow_private: bool) -> dict[str, Any]:
    def token_url(value: Any) -> str:
        text = as_text(value)
        if "{{" in text:
            raise ValueError("has {{…}}: a token endpoint is the same for every delivery")
        return check_url(text, check_target, allow_private=allow_private)

    found = {
        "tokenUrl": _required(reader, "tokenUrl", token_url),
        "clientId": _required(reader, "clientId", _client_id),
        "clientSecret": _required(reader, "clientSecret", unmasked),
        "scope": str(reader.checked("scope", _scope, "")),
    }
    reader.end()
    return found


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


def read_headers(top: Reader) -> dict[str, str]:
    """A webhook's own headers."""
    reader = Reader(top.object("headers"), "headers", top.errors)
    names = list(reader)
    if len(names) > HEADERS_MAX:
        top.refuse("headers", f"has {len(names)}, at most {HEADERS_MAX} are possible")
        return {}
    times = Counter(name.lower() for name in names)
    auth = top.raw("auth")
    has_auth = isinstance(auth, Mapping) and any(auth.get(name) for name in AUTHORIZATIONS)
    for name in names:
        if (why := _refused_header(name.lower(), times[name.lower()], has_auth=has_auth)) is not None:
            reader.refuse(name, why)
    return {name: str(reader.checked(name, _header_value, "")) for name in names}


def _refused_header(name: str, times: int, *, has_auth: bool) -> str | None:
    """Why a header, in lower case, may not be set, or None."""
    if not HEADER_NAME.fullmatch(name):
        return "is no header name"
    if times > 1:
        return "is there twice: upper and lower case are the same"
    if name == "content-type":
        return "comes from payload.contentType: set it there"
    if name == "authorization" and has_auth:
        return "comes from auth: leave one of them out"
    if name in OUR_HEADERS or name.startswith("livehook-"):
        return "is set by Livehook"
    if name in CONNECTION_HEADERS or name.startswith("proxy-"):
        return "belongs to the connection and cannot be set"
    return None


def _header_value(value: Any) -> str:
    text = unmasked(value)
    if not HEADER_VALUE.fullmatch(text):
        raise ValueError("must be at most 8 KiB of ASCII on one line, without spaces at its ends")
    return text


def read_payload(reader: Reader) -> Payload:
    """What the body looks like."""
    template = reader.checked("template", _template)
    has_template = reader.raw("template") is not None
    format_ = reader.choice("format", FORMATS, "template" if has_template else "livehook")
    if has_template != (format_ == "template"):
        reader.refuse("format", f"is {format_!r} beside a template: leave one of them out" if has_template else "is 'template' without one")
    payload = Payload(format=format_, template=template, content_type=reader.checked("contentType", _media_type))
    reader.end()
    return payload


def _template(value: Any) -> str:
    text = as_text(value)
    parse(text)
    return text


def _media_type(value: Any) -> str:
    text = as_text(value)
    if len(text) > 256 or not MEDIA_TYPE.fullmatch(text):
        raise ValueError(f"is {shown(text)}, must be a media type such as application/json")
    return text
