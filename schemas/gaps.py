"""
Gaps: deliveries that retention or an operator removed from a lane before they were sent. Records of ``webhooks``, written by the sink.

Source: docs/explanation/gaps.md.
"""

from __future__ import annotations

import msgspec

from schemas.changes import Change
from schemas.codec import Schema, decode, encode
from schemas.deliveries import SNAPSHOT, Delivery, Match
from schemas.markers import COLLECTION, collections_of
from schemas.positions import Origin
from schemas.webhooks import WebhookRevision

GAP = Schema("gap")
KEY_PART = "gap/"
INITIAL = "initial"


class Gap(msgspec.Struct, frozen=True):
    """
    A range of a lane partition that is missing; key ``name/gap/uid/partition/begin``.

    All that its marker says stands here, so that a marker that is sent again says the same.

    begin, until:  the first offset that is missing, and the one after the last.
    snapshot:      grows from gap to gap of a webhook; the number of the snapshot that may follow. is_followed: it does.
    noted_us:      when it was found, µs since 1970.
    after_txn, before_txn:  ``txnId`` of the delivery that stood before, and of the one that stands behind; None: not known.
    """

    name: str
    uid: str
    revision: int
    partition: int
    begin: int
    until: int
    snapshot: int
    is_followed: bool
    collections: tuple[str, ...]
    noted_us: int
    after_txn: int | None = None
    before_txn: int | None = None

    @property
    def key(self) -> str:
        """``name/gap/uid/partition/begin``."""
        return f"{self.name}/{KEY_PART}{self.uid}/{self.partition}/{self.begin}"

    @property
    def place(self) -> int:
        """Where its marker stands in the lane: at the last offset that is missing, so before all that is left."""
        return self.until - 1


class Missing(msgspec.Struct, frozen=True):
    """A range of a lane partition that is not there any more, and what is known of the deliveries around it; see :class:`Gap`."""

    partition: int
    begin: int
    until: int
    after_txn: int | None = None
    before_txn: int | None = None


def gap_of(missing: Missing, revision: WebhookRevision, number: int, noted_us: int) -> Gap:
    """
    The gap to be put on record for what is missing.

    Args:  number: how many gaps the webhook has had before.
    """
    return Gap(
        revision.name,
        revision.uid,
        revision.revision,
        missing.partition,
        missing.begin,
        missing.until,
        SNAPSHOT + 1 + number,
        revision.spec.on_gap == INITIAL,
        tuple(collections_of(revision.spec)),
        noted_us,
        missing.after_txn,
        missing.before_txn,
    )


def gap_marker(gap: Gap) -> Delivery:
    """The marker ``requeryRequired`` of a gap."""
    match = Match.REQUERY_REQUIRED
    offsets = {"from": gap.begin, "until": gap.until}
    range_ = {"afterTxnId": gap.after_txn, "beforeTxnId": gap.before_txn, "offsets": offsets}
    fields = msgspec.json.encode({"collections": gap.collections, "range": range_})
    id_ = f"{match.value}/{gap.partition}/{gap.begin}"
    change = Change(COLLECTION, id_, gap.noted_us, 0, None, fields, Origin(0, 0, 0), gap.noted_us)
    return Delivery(gap.uid, gap.revision, match, change)


def encode_gap(gap: Gap) -> bytes:
    """One record of ``webhooks``; its key is ``gap.key``."""
    return encode(
        GAP,
        {
            "name": gap.name,
            "uid": gap.uid,
            "revision": gap.revision,
            "partition": gap.partition,
            "begin": gap.begin,
            "until": gap.until,
            "snapshot": gap.snapshot,
            "isFollowed": gap.is_followed,
            "collections": list(gap.collections),
            "notedUs": gap.noted_us,
            "afterTxnId": gap.after_txn,
            "beforeTxnId": gap.before_txn,
        },
    )


def decode_gap(value: bytes) -> Gap:
    """
    One record of ``webhooks`` that :data:`GAP` has written.

    Raises:  BadRecord.
    """
    record = decode(GAP, value)
    return Gap(
        record["name"],
        record["uid"],
        record["revision"],
        record["partition"],
        record["begin"],
        record["until"],
        record["snapshot"],
        record["isFollowed"],
        tuple(record["collections"]),
        record["notedUs"],
        record["afterTxnId"],
        record["beforeTxnId"],
    )
