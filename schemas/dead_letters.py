"""
What happens to dead letters: control records in ``dead-letters`` itself, each about one letter.

A letter is never changed or taken out of its topic. That it was redriven or discarded is a later record of the same topic, so it outlives
every database made from it, and every reader comes to the same list. A redrive first *claims* the letter: the claim names where in the
target the copies will begin, so that whoever goes on after a crash can look there for what is written already.
Source: docs/reference/topics.md, "dead-letters".
"""

from __future__ import annotations

import re
from typing import Literal

import msgspec

from schemas.errors import BadRecord, Reason
from schemas.positions import Position

CONTROL_KEY = b"$control"
REDRIVE_HEADER = "livehook-redrive"
TAKE_OVER_US = 60_000_000
ID = re.compile(r"(\d{1,4})-(\d{1,18})", re.ASCII)


class Claim(msgspec.Struct, frozen=True, tag="claim", rename="camel"):
    """
    Somebody is about to redrive a letter.

    letter:  its id. token: whose claim it is.
    topic, partition, from_offset:  where the copies go; none was written below this offset.
    at_us:   µs since 1970.
    """

    letter: str
    token: str
    topic: str
    partition: int
    from_offset: int
    at_us: int


class Settled(msgspec.Struct, frozen=True, tag="settled", rename="camel"):
    """A letter is no longer listed."""

    letter: str
    how: Literal["redriven", "discarded"]
    at_us: int


Control = Claim | Settled

_decode = msgspec.json.Decoder(Control).decode


def letter_id(place: Position) -> str:
    """``partition-offset``: the place of the letter in ``dead-letters``."""
    return f"{place.partition}-{place.offset}"


def letter_place(id_: str) -> Position | None:
    """The place that an id names; None when it is no id of a letter."""
    found = ID.fullmatch(id_)
    return None if found is None else Position(int(found[1]), int(found[2]))


def encode_control(control: Control) -> bytes:
    """One record of ``dead-letters``, in JSON; its key is CONTROL_KEY."""
    return msgspec.json.encode(control)


def decode_control(value: bytes) -> Control:
    """
    One record of ``dead-letters`` with the key CONTROL_KEY and no header ``reason``.

    Raises:  BadRecord: undecodable.
    """
    try:
        found: Control = _decode(value)
        return found
    except msgspec.MsgspecError as error:
        raise BadRecord(Reason.UNDECODABLE, f"no control record: {error}") from error


def holding(present: Claim | None, new: Claim) -> Claim | None:
    """
    The claim that holds once ``new`` was read: the first one, until it is old enough that nobody can still be carrying it out.

    Who takes over goes on where the first one began: what that one has written is to be found from there on.
    """
    if present is None:
        return new
    if new.at_us - present.at_us < TAKE_OVER_US or (new.topic, new.partition) != (present.topic, present.partition):
        return present
    return msgspec.structs.replace(new, from_offset=min(present.from_offset, new.from_offset))
