"""
Payload formats: from a delivery to the bytes of a body. Documents go in as the bytes they are, never encoded again.

A format is one entry of FORMATS; it is compiled once for a webhook. Templates are in template.py. Pure. Source: docs/reference/receiver.md.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import msgspec

from schemas.changes import Change
from schemas.deliveries import Delivery, Match, alias_of
from schemas.times import rfc3339
from schemas.webhooks import WebhookSpec

Body = Callable[[Delivery], bytes]
EventType = Callable[[Delivery], str]

EVENT_TYPES: Mapping[Match, str] = {
    Match.CREATE: "create",
    Match.INITIAL: "create",
    Match.ENTER: "update",
    Match.UPDATE: "update",
    Match.LEAVE: "update",
    Match.REMOVE: "delete",
}
_OPS: Mapping[Match, bytes] = dict.fromkeys(Match, b"u") | {Match.CREATE: b"c", Match.INITIAL: b"r", Match.REMOVE: b"d"}
_MATCH = {match: match.value.encode() for match in Match}

_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_encode = msgspec.json.encode


class Format(msgspec.Struct, frozen=True):
    """One payload format: its content type, and how its bodies are made for a webhook."""

    content_type: str
    compile: Callable[[WebhookSpec], Body]


def event_types(spec: WebhookSpec) -> EventType:
    """What ``event_type`` says of a delivery: the alias that its trigger asked by, else create, update or delete."""
    by_trigger = [{match: alias_of(one.events, match) or event for match, event in EVENT_TYPES.items()} for one in spec.triggers_all]

    def event_type(delivery: Delivery) -> str:
        # A lane may hold deliveries of a trigger that an edit has taken away.
        names = by_trigger[delivery.trigger] if delivery.trigger < len(by_trigger) else EVENT_TYPES
        return names[delivery.match]

    return event_type


def old_of(delivery: Delivery) -> bytes:
    """The document before, ``null`` when there was none or it is of no interest."""
    old = delivery.change.old
    return b"null" if old is None or delivery.match is Match.INITIAL else old


def new_of(delivery: Delivery) -> bytes:
    """The document after, ``null`` when it was removed."""
    return delivery.change.new or b"null"


def last_of(change: Change) -> bytes:
    """The document after or, of one that was removed, its last value."""
    return change.new or change.old or b"{}"


def change_of(delivery: Delivery) -> bytes:
    """The field ``change`` of the default body."""
    if delivery.change.new is None:
        return b'{"method":"remove","value":%b}' % old_of(delivery)
    return b'{"method":"upsert","oldValue":%b,"newValue":%b}' % (old_of(delivery), delivery.change.new)


def livehook_body(delivery: Delivery) -> bytes:
    """The default body."""
    change = delivery.change
    return b'{"txnId":%d,"type":"documentChanged","collection":"%b","match":"%b","change":%b}' % (
        change.txn_id,
        change.collection.encode(),
        _MATCH[delivery.match],
        change_of(delivery),
    )


def _ditto(delivery: Delivery) -> bytes:
    change = delivery.change
    return b'{"txnId":%d,"type":"documentChanged","collection":"%b","change":%b}' % (
        change.txn_id,
        change.collection.encode(),
        change_of(delivery),
    )


def _document(delivery: Delivery) -> bytes:
    change = delivery.change
    if change.new is not None:
        return change.new
    last = last_of(change)
    if b'"_deleted"' in last:  # perhaps its own: a name must not come twice
        last = _encode({name: value for name, value in _members(last).items() if name != "_deleted"})
    return last[:-1] + (b'"_deleted":true}' if last == b"{}" else b',"_deleted":true}')


def entity_of(change: Change) -> bytes:
    """The field ``entity`` of the entity format: the document without its ``_id``, beside that."""
    attributes = _members(last_of(change))
    attributes.pop("_id", None)
    return b'{"id":%b,"type":"%b","attributes":%b}' % (_encode(change.id), change.collection.encode(), _encode(attributes))


def _entity(spec: WebhookSpec) -> Body:
    event_type = event_types(spec)

    def body(delivery: Delivery) -> bytes:
        change = delivery.change
        return b'{"entity_type":"%b","event_type":"%b","entity":%b}' % (
            change.collection.encode(),
            event_type(delivery).encode(),
            entity_of(change),
        )

    return body


def _debezium(delivery: Delivery) -> bytes:
    change = delivery.change
    return b'{"before":%b,"after":%b,"op":"%b","ts_ms":%d,"source":{"connector":"livehook","collection":"%b","txnId":%d,"version":%d}}' % (
        old_of(delivery),
        new_of(delivery),
        _OPS[delivery.match],
        change.appended_us // 1_000,
        change.collection.encode(),
        change.txn_id,
        change.version,
    )


def _cloudevents(delivery: Delivery) -> bytes:
    change = delivery.change
    return (
        b'{"specversion":"1.0","id":"%b","source":"/collections/%b","type":"livehook.document.%b","subject":%b,'
        b'"time":"%b","datacontenttype":"application/json","data":%b}'
        % (
            delivery.webhook_id.encode(),
            change.collection.encode(),
            _MATCH[delivery.match],
            _encode(change.id),
            rfc3339(change.appended_us).encode(),
            livehook_body(delivery),
        )
    )


def _always(body: Body) -> Callable[[WebhookSpec], Body]:
    return lambda spec: body


FORMATS: Mapping[str, Format] = {
    "livehook": Format("application/json", _always(livehook_body)),
    "ditto": Format("application/json", _always(_ditto)),
    "document": Format("application/json", _always(_document)),
    "entity": Format("application/json", _entity),
    "debezium": Format("application/json", _always(_debezium)),
    "cloudevents": Format("application/cloudevents+json", _always(_cloudevents)),
}
