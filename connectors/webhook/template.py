"""
Bodies and URLs from Mustache templates: compiled once for a webhook, rendered for every attempt from the document's own bytes.

How a value is written depends on where it goes (a JSON string, XML or HTML, plain text, a URL). Output and work are bounded, whatever the
template and the document. Pure. Called by render.py. Source: docs/reference/receiver.md, "Templates".
"""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Mapping
from urllib.parse import quote

import msgspec

from connectors.webhook.formats import Body, EventType, change_of, entity_of, event_types, last_of, old_of
from connectors.webhook.spans import Span
from schemas.deliveries import Delivery
from schemas.keys import id_json
from schemas.mustache import Node, Section, Variable, parse, paths
from schemas.webhooks import WebhookSpec

OUTPUT_BYTES_MAX = 4 * 1024 * 1024
URL_CHARS_MAX = 16_384
STEPS_MAX = 100_000  # pieces of the template written; sections over lists in lists multiply

_encode = msgspec.json.encode
_JSON_TYPE = re.compile(r"[^;]+[/+]json\s*(;.*)?", re.ASCII | re.IGNORECASE)
_XML_TYPE = re.compile(r"[^;]+[/+](xml|html)\s*(;.*)?|application/xhtml\+xml\s*(;.*)?", re.ASCII | re.IGNORECASE)
_NOT_XML = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")  # XML 1.0, 2.2: no way to write them


class TemplateError(ValueError):
    """This delivery cannot be rendered; the message says why and shows nothing of the document."""


Write = Callable[[Span | None], bytes]
"""How the value of a tag is written; None: there is none."""


class Escaping(msgspec.Struct, frozen=True):
    """How ``{{x}}`` and how ``{{{x}}}`` are written."""

    escaped: Write
    raw: Write


def _plain(span: Span | None) -> bytes:
    return b"" if span is None else span.text().encode()


def _as_json(span: Span | None) -> bytes:
    return b"null" if span is None else span.raw


def _in_json_string(span: Span | None) -> bytes:
    if span is None or span.raw == b"null":
        return b""
    return span.raw[1:-1] if span.is_text else _encode(span.raw.decode())[1:-1]


def _in_markup(span: Span | None) -> bytes:
    return b"" if span is None else html.escape(_NOT_XML.sub("\ufffd", span.text())).encode()


def _in_url(span: Span | None) -> bytes:
    text = "" if span is None else span.text()
    if text in (".", ".."):
        raise TemplateError("a value of . or .. would lead to another path than the URL says")
    return quote(text, safe="").encode()


JSON = Escaping(_in_json_string, _as_json)
MARKUP = Escaping(_in_markup, _plain)
PLAIN = Escaping(_plain, _plain)
URL = Escaping(_in_url, _in_url)


def escaping_of(content_type: str) -> Escaping:
    """How values are written in a body of that type."""
    if _JSON_TYPE.fullmatch(content_type):
        return JSON
    return MARKUP if _XML_TYPE.fullmatch(content_type) else PLAIN


class Template:
    """
    A compiled template.

    Raises:  BadTemplate.
    """

    def __init__(self, text: str, escaping: Escaping) -> None:
        self._nodes = parse(text)
        self._escaping = escaping
        self.names = frozenset(path[0] for path in paths(self._nodes) if path)

    def render(self, context: Span, *, bytes_max: int = OUTPUT_BYTES_MAX) -> bytes:
        """
        The text with everything filled in.

        Raises:  TemplateError: too much of it, or a value that must not stand there.
        """
        rendering = _Rendering(self._escaping, context, bytes_max)
        rendering.put(self._nodes)
        return b"".join(rendering.parts)


class _Rendering:
    """One rendering: what is written so far, and the values that the open sections stand for, innermost last."""

    __slots__ = ("_bytes_left", "_escaping", "_scopes", "_steps_left", "parts")

    def __init__(self, escaping: Escaping, context: Span, bytes_max: int) -> None:
        self.parts: list[bytes] = []
        self._escaping = escaping
        self._scopes = [context]
        self._bytes_left = bytes_max
        self._steps_left = STEPS_MAX

    def put(self, nodes: tuple[Node, ...]) -> None:
        self._steps_left -= 1 + len(nodes)
        if self._steps_left < 0:
            raise TemplateError(f"the template takes more than {STEPS_MAX:,} steps with this document")
        for node in nodes:
            if isinstance(node, str):
                self._append(node.encode())
            elif isinstance(node, Variable):
                found = self._find(node.path)
                self._append(self._escaping.raw(found) if node.is_raw else self._escaping.escaped(found))
            else:
                self._put_section(node)

    def _append(self, part: bytes) -> None:
        self._bytes_left -= len(part)
        if self._bytes_left < 0:
            raise TemplateError("the template gives too long a text with this document")
        self.parts.append(part)

    def _put_section(self, section: Section) -> None:
        found = self._find(section.path)
        is_empty = found is None or found.is_empty
        if section.is_inverted:
            if is_empty:
                self.put(section.nodes)
        elif found is not None and not is_empty:
            elements = found.items()
            for element in [found] if elements is None else elements:
                self._scopes.append(element)
                self.put(section.nodes)
                self._scopes.pop()

    def _find(self, path: tuple[str, ...]) -> Span | None:
        """The first name is looked for from the innermost section outwards; the others are what it holds."""
        if not path:
            return self._scopes[-1]
        for scope in reversed(self._scopes):
            found = scope.get(path[0])
            if found is not None:
                break
        else:
            return None
        for name in path[1:]:
            found = found.get(name)
            if found is None:
                return None
        return found


Field = Callable[[Delivery, str, EventType], bytes]
"""Delivery, name of the webhook and event types in; a field of the context as JSON out."""

CONTEXT: Mapping[str, Field] = {
    "txnId": lambda delivery, *_: b"%d" % delivery.change.txn_id,
    "type": lambda *_: b'"documentChanged"',
    "collection": lambda delivery, *_: _encode(delivery.change.collection),
    "match": lambda delivery, *_: _encode(delivery.match.value),
    "change": lambda delivery, *_: change_of(delivery),
    "entity_type": lambda delivery, *_: _encode(delivery.change.collection),
    "event_type": lambda delivery, _, event_type: _encode(event_type(delivery)),
    "entity": lambda delivery, *_: entity_of(delivery.change),
    "document": lambda delivery, *_: last_of(delivery.change),
    "old": lambda delivery, *_: old_of(delivery),
    "id": lambda delivery, *_: id_json(delivery.change.id),
    "version": lambda delivery, *_: b"%d" % delivery.change.version,
    "webhook": lambda _, name, __: _encode(name),
}


def _context(template: Template, spec: WebhookSpec) -> Callable[[Delivery], Span]:
    fields = {name: field for name, field in CONTEXT.items() if name in template.names}
    event_type = event_types(spec)
    return lambda delivery: Span.of({name: field(delivery, spec.name, event_type) for name, field in fields.items()})


def template_body(text: str, content_type: str, spec: WebhookSpec) -> Body:
    """
    Bodies from a template.

    Raises:  BadTemplate. What is returned raises TemplateError; with a JSON content type also where the outcome is no JSON.
    """
    escaping = escaping_of(content_type)
    template = Template(text, escaping)
    context = _context(template, spec)

    def body(delivery: Delivery) -> bytes:
        found = template.render(context(delivery))
        if escaping is JSON:
            _check_json(found)
        return found

    return body


def _check_json(body: bytes) -> None:
    try:
        msgspec.json.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise TemplateError(f"the template gives no JSON with this document: {error}") from error


def template_url(text: str, spec: WebhookSpec) -> Callable[[Delivery], str]:
    """
    URLs from a template. What is returned raises TemplateError.

    Raises:  BadTemplate.
    """
    template = Template(text, URL)
    context = _context(template, spec)
    return lambda delivery: template.render(context(delivery), bytes_max=URL_CHARS_MAX).decode()
