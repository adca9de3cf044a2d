"""
Replays: records of ``webhooks``, written by the API. A *rewind* moves a lane back and is carried out by the sink that holds it; one to
before what the lane keeps is served from ``changes`` by a backfill, which the streams carry out; a *selection* copies deliveries behind the
lane's end and is carried out by the API.

Source: docs/reference/http-api.md, "Replay".
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

from schemas.codec import Schema, decode, encode
from schemas.errors import BadRecord, Reason

REPLAY = Schema("replay")


class ReplayState(StrEnum):
    """How far a replay is."""

    RUNNING = "running"
    DONE = "done"
    CANCELLED = "cancelled"


class Selected(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """
    Which deliveries of the range are copied: those for which everything that is set here holds.

    ids:       as they stand in keys. failed: whose newest attempt was not answered with 2xx, when the replay was asked for.
    until_txn: where ``changes`` serve it: before this number.
    """

    query: str | None = None
    ids: tuple[str, ...] = ()
    failed: bool = False
    until_txn: int | None = None


class Replay(msgspec.Struct, frozen=True):
    """
    One replay; key ``webhook/replay/id``.

    uid:         of the webhook as it was made.
    number:      grows from replay to replay of a webhook. cancelled: such a number too, for the step forward of a cancelled rewind; 0: it
                 makes none.
    begin:       for each partition of the lane, the first offset. until: the one after the last.
    end:         the lane's end when it was asked for. committed: of a rewind, how far the lane had come then, other rewinds left
                 out; of what is copied, the lane's end once all copies are in it, empty before.
    deliveries:  how many there are.
    selected:    None: a rewind.
    first_txn:   of one that is served from ``changes``, the first one that is sent again; None: it goes over the lane.
    """

    id: str
    webhook: str
    uid: str
    number: int
    begin: tuple[int, ...]
    until: tuple[int, ...]
    end: tuple[int, ...]
    committed: tuple[int, ...]
    deliveries: int
    started_us: int
    state: ReplayState = ReplayState.RUNNING
    ended_us: int | None = None
    cancelled: int = 0
    selected: Selected | None = None
    first_txn: int | None = None

    @property
    def is_jump(self) -> bool:
        """Whether the lane itself goes back; else copies are put behind its end."""
        return self.selected is None and self.first_txn is None

    @property
    def is_backfill(self) -> bool:
        """Whether it is a rewind that a backfill carries out."""
        return self.selected is None and self.first_txn is not None

    @property
    def key(self) -> str:
        """``webhook/replay/id``."""
        return f"{self.webhook}/{KEY_PART}{self.id}"


KEY_PART = "replay/"


def is_past_and_running(replay: Replay) -> bool:
    """Whether a backfill carries it out, or is to."""
    return replay.is_backfill and replay.state is ReplayState.RUNNING


def encode_replay(replay: Replay) -> bytes:
    """One record of ``webhooks``."""
    selected = replay.selected
    return encode(
        REPLAY,
        {
            "id": replay.id,
            "webhook": replay.webhook,
            "uid": replay.uid,
            "number": replay.number,
            "begin": list(replay.begin),
            "until": list(replay.until),
            "end": list(replay.end),
            "committed": list(replay.committed),
            "deliveries": replay.deliveries,
            "startedUs": replay.started_us,
            "state": replay.state.value,
            "endedUs": replay.ended_us,
            "cancelled": replay.cancelled,
            "selected": None if selected is None else msgspec.json.encode(selected),
            "firstTxn": replay.first_txn,
        },
    )


def decode_replay(value: bytes) -> Replay:
    """
    One record of ``webhooks`` that :data:`REPLAY` has written.

    Raises:  BadRecord.
    """
    record = decode(REPLAY, value)
    selected = record["selected"]
    try:
        return Replay(
            record["id"],
            record["webhook"],
            record["uid"],
            record["number"],
            tuple(record["begin"]),
            tuple(record["until"]),
            tuple(record["end"]),
            tuple(record["committed"]),
            record["deliveries"],
            record["startedUs"],
            ReplayState(record["state"]),
            record["endedUs"],
            record["cancelled"],
            None if selected is None else msgspec.json.decode(selected, type=Selected),
            record["firstTxn"],
        )
    except (ValueError, msgspec.MsgspecError) as error:
        raise BadRecord(Reason.INVALID, f"the replay cannot be read: {error}") from error
