"""
Markers: what a lane tells its receiver beside changes. ``initializing`` and ``ready`` stand in the lane as deliveries, where the webhook
asks for them; ``requeryRequired`` (gaps.py) is put in by the sink, where something is missing.

Pure. Source: docs/reference/receiver.md.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from schemas.changes import Change
from schemas.deliveries import MARKERS, Delivery, Match
from schemas.positions import Origin
from schemas.webhooks import WebhookRevision, WebhookSpec

COLLECTION = "*"

_decode = msgspec.json.Decoder(list[int]).decode


def is_asked_for(revision: WebhookRevision, marker: Match) -> bool:
    """Whether a webhook wants this marker."""
    return any(marker.value in trigger.events for trigger in revision.spec.triggers_all)


def marker_of(revision: WebhookRevision, marker: Match, places: Sequence[int] = ()) -> Delivery:
    """
    A marker as it stands in the first partition of a lane.

    Args:        places: for each partition of the lane, what must be finished before the marker is sent; empty: what stands before it.
    Guarantees:  the same for the same webhook, whatever its later revisions: a repeat has the same body.
    """
    fields = msgspec.json.encode({"collections": collections_of(revision.spec)})
    change = Change(
        COLLECTION, marker.value, revision.created_us, 0, None, fields, Origin(0, 0, 0), revision.created_us,
        metadata=msgspec.json.encode(list(places)) if places else None,
    )  # fmt: skip
    return Delivery(revision.uid, revision.revision, marker, change, revision.snapshot_newest)


def collections_of(spec: WebhookSpec) -> list[str]:
    """What a marker is about: each collection that any of the triggers names; ``*`` is all of them."""
    names = sorted({name for trigger in spec.triggers_all for name in trigger.collections})
    return ["*"] if "*" in names else names


def is_marker(delivery: Delivery) -> bool:
    """Whether it tells of no change."""
    return delivery.match in MARKERS


def places_of(delivery: Delivery) -> Sequence[int]:
    """What :func:`marker_of` was given."""
    return () if delivery.change.metadata is None else _decode(delivery.change.metadata)


def marker_body(delivery: Delivery) -> bytes:
    """The body, whatever the webhook's payload is."""
    change = delivery.change
    return b'{"txnId":%d,"type":"%b",%b' % (change.txn_id, delivery.match.value.encode(), (change.new or b"{}")[1:])
