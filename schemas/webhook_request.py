"""
The part of a webhook that says how it is called: headers and payload. Read for ``webhook_validation.py``. Pure.

Source: docs/reference/webhook.md; RFC 9110 (headers).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

from schemas.mustache import parse
from schemas.reader import Reader, as_text, shown
from schemas.webhook_auth import AUTHORIZATIONS, unmasked
from schemas.webhooks import Payload

HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,128}", re.ASCII)  # RFC 9110, 5.6.2
HEADER_VALUE = re.compile(r"[\x21-\x7e](?:[\x20-\x7e\t]{0,8190}[\x21-\x7e])?|", re.ASCII)
MEDIA_TYPE = re.compile(r"[a-z0-9][a-z0-9!#$&^_.+-]*/[a-z0-9][a-z0-9!#$&^_.+-]*(\s*;\s*[a-z0-9-]+=[\x21-\x7e]+)*", re.ASCII | re.IGNORECASE)

FORMATS = ("livehook", "ditto", "document", "entity", "debezium", "cloudevents", "template")
OUR_HEADERS = frozenset({"user-agent", "webhook-id", "webhook-timestamp", "webhook-signature"})  # and livehook-…
CONNECTION_HEADERS = frozenset(
    {"connection", "content-length", "expect", "host", "http2-settings", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade"}
)
HEADERS_MAX = 64


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
