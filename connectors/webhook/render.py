"""
From a delivery to the request that carries it. Documents go into the body as the bytes they are, never encoded again.

A webhook is compiled once into an :class:`Endpoint`; :func:`prepare` then fills in what changes from delivery to delivery. Pure. Called by
sink.py for every attempt. A payload format is one entry of FORMATS. Source: docs/reference/receiver.md.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote

import msgspec

from connectors.webhook.calls import Headers, Request
from connectors.webhook.signature import key_of, sign, signing
from schemas.deliveries import Delivery, Match
from schemas.errors import FieldError, Invalid
from schemas.webhooks import WebhookRevision

VISIBLE = "".join(map(chr, range(0x21, 0x7F)))
_PLAIN = re.compile(r"[\x21-\x24\x26-\x7e]*", re.ASCII)  # visible ASCII without %, which itself begins an encoded sign
_MATCH = {match: match.value.encode() for match in Match}


class Format(msgspec.Struct, frozen=True):
    """One payload format: its content type, and the body of a delivery."""

    content_type: str
    body: Callable[[Delivery], bytes]


class Endpoint(msgspec.Struct, frozen=True):
    """
    A webhook, compiled for sending.

    headers:  those that are the same for every delivery.
    keys:     each with the time until which it signs, µs since 1970; None: for good.
    """

    webhook: str
    method: str
    url: str
    headers: Headers
    keys: tuple[tuple[bytes, int | None], ...]
    body: Callable[[Delivery], bytes]

    def __repr__(self) -> str:
        return f"Endpoint({self.webhook!r})"  # the rest may hold secrets


def endpoint_of(revision: WebhookRevision, *, user_agent: str) -> Endpoint:
    """
    Compile a webhook.

    Raises:  Invalid: it asks for what this version cannot send; another one, newer than this, wrote it.
    """
    spec = revision.spec
    format_ = FORMATS.get(spec.payload.format)
    if format_ is None or spec.payload.template is not None:
        raise Invalid([FieldError("payload.format", f"is not known here, must be one of {', '.join(FORMATS)}")])
    headers = {
        "content-type": spec.payload.content_type or format_.content_type,
        "user-agent": user_agent,
        "livehook-webhook": spec.name,
        **{name.lower(): value for name, value in spec.headers.items()},
        **_authorization(spec.auth),
    }
    keys = tuple((key_of(secret.value), secret.until_us) for secret in revision.secrets)
    return Endpoint(spec.name, spec.method, spec.url, tuple(headers.items()), keys, format_.body)


def prepare(delivery: Delivery, endpoint: Endpoint, *, offset: str, attempt: int, now: float, test: bool = False) -> Request:
    """
    The request of one attempt.

    Args:  offset: the place in the lane, as receivers see it; empty for a test.
           attempt: from 1.
           now: seconds since 1970.
    """
    change = delivery.change
    webhook_id = delivery.webhook_id
    timestamp_s = int(now)
    body = endpoint.body(delivery)
    headers = [
        ("webhook-id", webhook_id),
        ("webhook-timestamp", str(timestamp_s)),
        ("webhook-signature", sign(signing(endpoint.keys, now), webhook_id, timestamp_s, body)),
        ("livehook-attempt", str(attempt)),
        ("livehook-document", document_header(change.key)),
        ("livehook-version", str(change.version)),
        ("livehook-match", delivery.match.value),
    ]
    if offset:
        headers.append(("livehook-offset", offset))
    if delivery.replay:
        headers.append(("livehook-replay", delivery.replay))
    if test:
        headers.append(("livehook-test", "true"))
    return Request(endpoint.method, endpoint.url, (*headers, *endpoint.headers), body)


def document_header(key: str) -> str:
    """A key as it travels in a header: UTF-8, percent-encoded outside visible ASCII, and so is ``%``, so that it reads back."""
    return key if _PLAIN.fullmatch(key) else quote(key, safe=VISIBLE.replace("%", ""))


def _livehook(delivery: Delivery) -> bytes:
    change = delivery.change
    return b'{"txnId":%d,"type":"documentChanged","collection":"%b","match":"%b","change":%b}' % (
        change.txn_id,
        change.collection.encode(),
        _MATCH[delivery.match],
        _change(delivery),
    )


def _ditto(delivery: Delivery) -> bytes:
    change = delivery.change
    return b'{"txnId":%d,"type":"documentChanged","collection":"%b","change":%b}' % (
        change.txn_id,
        change.collection.encode(),
        _change(delivery),
    )


def _change(delivery: Delivery) -> bytes:
    old, new = delivery.change.old, delivery.change.new
    if new is None:
        return b'{"method":"remove","value":%b}' % (old or b"null")
    if old is None or delivery.match is Match.INITIAL:
        old = b"null"
    return b'{"method":"upsert","oldValue":%b,"newValue":%b}' % (old, new)


FORMATS: Mapping[str, Format] = {
    "livehook": Format("application/json", _livehook),
    "ditto": Format("application/json", _ditto),
}


def _authorization(auth: Mapping[str, Any]) -> dict[str, str]:
    if basic := auth.get("basic"):
        pair = f"{basic['username']}:{basic['password']}".encode()
        return {"authorization": "Basic " + b64encode(pair).decode()}
    if bearer := auth.get("bearer"):
        return {"authorization": f"Bearer {bearer['token']}"}
    return {}
