"""
From a delivery to the request that carries it. Documents go into the body as the bytes they are, never encoded again.

A webhook is compiled once into an :class:`Endpoint`; :func:`prepare` then fills in what changes from delivery to delivery. Pure. Called by
sink.py for every attempt. Bodies come from formats.py and template.py. Source: docs/reference/receiver.md.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, Literal
from urllib.parse import quote

import msgspec

from connectors.webhook.calls import OAuthClient, Request
from connectors.webhook.formats import FORMATS, Body
from connectors.webhook.identity import identity_of
from connectors.webhook.projection import Project, projection
from connectors.webhook.signature import Signer, sign, signer_of, signing
from connectors.webhook.template import TemplateError, template_body, template_url
from connectors.webhook.tls import Trust
from schemas.deliveries import Delivery
from schemas.errors import FieldError, Invalid
from schemas.markers import is_marker, marker_body
from schemas.mustache import BadTemplate
from schemas.webhooks import WebhookRevision, WebhookSpec

VISIBLE = "".join(map(chr, range(0x21, 0x7F)))
NAMES_KEPT = 4_096
_PLAIN = re.compile(r"[\x21-\x24\x26-\x7e]*", re.ASCII)  # visible ASCII without %, which itself begins an encoded sign


class Endpoint(msgspec.Struct, frozen=True):
    """
    A webhook, compiled for sending.

    names, values:  of the headers that are the same for every delivery.
    signers:  each with the time until which it signs, µs since 1970; None: for good.
    body, target:  what is sent, and where if the URL is a template; both may raise TemplateError.
    project:  what leaves of a document; None: all of it.
    oauth, identity:  whose access token goes with each request, and whose certificate.
    """

    webhook: str
    method: str
    url: str
    names: tuple[str, ...]
    values: tuple[str, ...]
    signers: tuple[tuple[Signer, int | None], ...]
    body: Body
    target: Callable[[Delivery], str] | None = None
    project: Project | None = None
    oauth: OAuthClient | None = None
    identity: Trust | None = None

    def __repr__(self) -> str:
        return f"Endpoint({self.webhook!r})"  # the rest may hold secrets


def endpoint_of(revision: WebhookRevision, *, user_agent: str) -> Endpoint:
    """
    Compile a webhook.

    Raises:  Invalid: it asks for what this version cannot send; another one, newer than this, wrote it.
    """
    spec = revision.spec
    content_type, body = _body(spec)
    headers = {
        "content-type": content_type,
        "user-agent": user_agent,
        "livehook-webhook": spec.name,
        **{name.lower(): value for name, value in spec.headers.items()},
        **_authorization(spec.auth),
    }
    signers = tuple((signer_of(secret.value), secret.until_us) for secret in revision.secrets)
    mtls = spec.auth.get("mtls")
    return Endpoint(
        webhook=spec.name,
        method=spec.method,
        url=spec.url,
        names=tuple(headers),
        values=tuple(headers.values()),
        signers=signers,
        body=body,
        target=_target(spec),
        project=projection(spec.fields),
        oauth=_oauth(spec.auth),
        identity=None if mtls is None else identity_of(mtls),
    )


def _body(spec: WebhookSpec) -> tuple[str, Body]:
    """The content type and what makes the bodies."""
    payload = spec.payload
    if payload.template is not None:
        content_type = payload.content_type or "application/json"
        try:
            return content_type, template_body(payload.template, content_type, spec)
        except BadTemplate as error:
            raise Invalid([FieldError("payload.template", str(error))]) from error
    format_ = FORMATS.get(payload.format)
    if format_ is None:
        raise Invalid([FieldError("payload.format", f"is not known here, must be one of {', '.join(FORMATS)}")])
    return payload.content_type or format_.content_type, format_.compile(spec)


def _target(spec: WebhookSpec) -> Callable[[Delivery], str] | None:
    if "{{" not in spec.url:
        return None
    try:
        return template_url(spec.url, spec)
    except BadTemplate as error:
        raise Invalid([FieldError("url", str(error))]) from error


def prepare(delivery: Delivery, endpoint: Endpoint, *, offset: str, attempt: int, now: float, test: bool = False) -> Request:
    """
    The request of one attempt; one that cannot be rendered says so in ``refusal``.

    Args:  offset: the place in the lane, as receivers see it; empty for a test.
           attempt: from 1.
           now: seconds since 1970.
    """
    if is_marker(delivery):
        return _marker(delivery, endpoint, offset=offset, attempt=attempt, now=now)
    url, body, refusal = _content(delivery if endpoint.project is None else _projected(delivery, endpoint.project), endpoint)
    change, webhook_id, replay = delivery.change, delivery.webhook_id, delivery.replay
    names = _names("test" if test else "change", bool(offset), bool(replay), endpoint.names)
    values = (
        *_values(delivery, webhook_id, endpoint, body, attempt=attempt, now=now), *((offset,) if offset else ()),
        *((replay,) if replay else ()), document_header(change.key), str(change.version), *(("true",) if test else ()), *endpoint.values,
    )  # fmt: skip
    return Request(endpoint.method, url, names, values, body, refusal, endpoint.oauth, endpoint.identity, webhook_id)


@lru_cache(maxsize=NAMES_KEPT)
def _names(kind: Literal["change", "test", "marker"], has_offset: bool, has_replay: bool, lasting: tuple[str, ...]) -> tuple[str, ...]:
    """The names of a request's headers, in the order of their values."""
    return (
        "webhook-id", "webhook-timestamp", "webhook-signature", "livehook-attempt", "livehook-match",
        *(("livehook-offset",) if has_offset else ()), *(("livehook-replay",) if has_replay else ()),
        *(("livehook-document", "livehook-version") if kind != "marker" else ()), *(("livehook-test",) if kind == "test" else ()), *lasting,
    )  # fmt: skip


def _values(delivery: Delivery, webhook_id: str, endpoint: Endpoint, body: bytes, *, attempt: int, now: float) -> tuple[str, ...]:
    """Those that every request has, and that differ."""
    timestamp_s = int(now)
    signature = sign(signing(endpoint.signers, now), webhook_id, timestamp_s, body)
    return webhook_id, str(timestamp_s), signature, str(attempt), delivery.match._value_


def _marker(delivery: Delivery, endpoint: Endpoint, *, offset: str, attempt: int, now: float) -> Request:
    """A marker is about no document: it has its own body whatever the payload, and a template in the URL finds nothing to put in."""
    body, webhook_id, replay = marker_body(delivery), delivery.webhook_id, delivery.replay
    lasting = ["application/json" if name == "content-type" else value for name, value in zip(endpoint.names, endpoint.values, strict=True)]
    names = _names("marker", bool(offset), bool(replay), endpoint.names)
    varying = _values(delivery, webhook_id, endpoint, body, attempt=attempt, now=now)
    values = (*varying, *((offset,) if offset else ()), *((replay,) if replay else ()), *lasting)
    url, _, refusal = _content(delivery, endpoint) if endpoint.target is not None else (endpoint.url, b"", None)
    return Request(endpoint.method, url, names, values, body, refusal, endpoint.oauth, endpoint.identity, webhook_id)


def _content(delivery: Delivery, endpoint: Endpoint) -> tuple[str, bytes, str | None]:
    """URL and body, or why there are none."""
    try:
        return endpoint.url if endpoint.target is None else endpoint.target(delivery), endpoint.body(delivery), None
    except TemplateError as error:
        return endpoint.url, b"", str(error)


def _projected(delivery: Delivery, project: Project) -> Delivery:
    change = delivery.change
    shown = msgspec.structs.replace(
        change,
        old=None if change.old is None else project(change.old),
        new=None if change.new is None else project(change.new),
    )
    return msgspec.structs.replace(delivery, change=shown)


def document_header(key: str) -> str:
    """A key as it travels in a header: UTF-8, percent-encoded outside visible ASCII, and so is ``%``, so that it reads back."""
    return key if _PLAIN.fullmatch(key) else quote(key, safe=VISIBLE.replace("%", ""))


def _authorization(auth: Mapping[str, Any]) -> dict[str, str]:
    if basic := auth.get("basic"):
        pair = f"{basic['username']}:{basic['password']}".encode()
        return {"authorization": "Basic " + b64encode(pair).decode()}
    if bearer := auth.get("bearer"):
        return {"authorization": f"Bearer {bearer['token']}"}
    return {}


def _oauth(auth: Mapping[str, Any]) -> OAuthClient | None:
    found = auth.get("oauth2")
    return None if found is None else OAuthClient(found["tokenUrl"], found["clientId"], found["clientSecret"], found["scope"])
