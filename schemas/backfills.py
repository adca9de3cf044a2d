"""
Backfills: how far each partition of ``changes`` has been gone through for a webhook that starts in the past, that is sent the present
documents after a gap, or that goes back to before what its lane keeps. Records of ``webhooks``, written by the streams workers. Their
``uid`` is that of the backfill (:attr:`schemas.webhooks.WebhookRevision.backfill`): of a start that of the webhook.

Source: docs/explanation/backfill.md.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from schemas.codec import Schema, decode, encode
from schemas.positions import Origin

PROGRESS = Schema("backfill_progress")
END = Schema("backfill_end")
READY = Schema("backfill_ready")
KEY_PART = "backfill/"


class BackfillProgress(msgspec.Struct, frozen=True):
    """
    What a backfill need not do again in one partition of ``changes``; key ``name/backfill/uid/partition``.

    offset:  what the changes below it lead to is in the lane.
    """

    name: str
    uid: str
    partition: int
    offset: int

    @property
    def key(self) -> str:
        """``name/backfill/uid/partition``: what is written late of a webhook that was deleted is not its successor's."""
        return f"{self.name}/{KEY_PART}{self.uid}/{self.partition}"


class BackfillEnd(msgspec.Struct, frozen=True):
    """
    Where a backfill ends in one partition and the live flow begins; key ``name/backfill/uid/partition/end``.

    The matching agent writes it before its commit passes the mark at ``origin``; by then all from before it is in the lane.
    """

    name: str
    uid: str
    origin: Origin

    @property
    def key(self) -> str:
        """``name/backfill/uid/partition/end``."""
        return f"{self.name}/{KEY_PART}{self.uid}/{self.origin.partition}/end"


class BackfillReady(msgspec.Struct, frozen=True):
    """
    A backfill has ended in every partition, and the lane says so; key ``name/backfill/uid/ready``.

    offsets:  for each partition of the lane the place of its marker ``ready``: what the backfill led to stands before it.
    """

    name: str
    uid: str
    offsets: tuple[int, ...]

    @property
    def key(self) -> str:
        """``name/backfill/uid/ready``."""
        return f"{self.name}/{KEY_PART}{self.uid}/ready"


class Backfill(msgspec.Struct, frozen=True):
    """
    What is on record of a webhook's backfill.

    progress:  offset of ``changes`` by partition. ends: by partition the origin at which the live flow begins.
    ready:     None: it has not ended everywhere.
    """

    progress: Mapping[int, int] = {}
    ends: Mapping[int, Origin] = {}
    ready: BackfillReady | None = None


def encode_backfill(record: BackfillProgress | BackfillEnd | BackfillReady) -> bytes:
    """One record of ``webhooks``; its key is ``record.key``."""
    head = {"name": record.name, "uid": record.uid}
    if isinstance(record, BackfillProgress):
        return encode(PROGRESS, head | {"partition": record.partition, "offset": record.offset})
    if isinstance(record, BackfillReady):
        return encode(READY, head | {"offsets": list(record.offsets)})
    return encode(END, head | msgspec.structs.asdict(record.origin))


def decode_backfill(value: bytes) -> BackfillProgress | BackfillEnd | BackfillReady | None:
    """
    One record of ``webhooks`` that :func:`encode_backfill` has written; None: it is another one.

    Raises:  BadRecord: undecodable.
    """
    if PROGRESS.wrote(value):
        found = decode(PROGRESS, value)
        return BackfillProgress(found["name"], found["uid"], found["partition"], found["offset"])
    if END.wrote(value):
        found = decode(END, value)
        return BackfillEnd(found["name"], found["uid"], Origin(found["epoch"], found["partition"], found["offset"]))
    if READY.wrote(value):
        found = decode(READY, value)
        return BackfillReady(found["name"], found["uid"], tuple(found["offsets"]))
    return None
