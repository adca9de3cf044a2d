"""What a replay is asked for in: its body, field by field. Pure: the time is passed in. Source: docs/reference/http-api.md, "Replay"."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from schemas.keys import BadKey, id_text
from schemas.reader import Reader, as_text, one_of, shown
from schemas.replays import Selected
from schemas.times import parse_rfc3339, rfc3339

FORMS = ("offset", "time", "txnId", "beginning")
OFFSET_MAX = 2**63 - 1
IDS_MAX = 10_000
_PLACE = re.compile(r"(?:(\d{1,2}):)?(\d{1,19})", re.ASCII)


class AtOffset(msgspec.Struct, frozen=True):
    """An offset; ``partition`` None: of a lane with one partition."""

    offset: int
    partition: int | None = None


class AtTime(msgspec.Struct, frozen=True):
    """The first delivery that came into the lane at that time or later, µs since 1970."""

    us: int


class AtTxn(msgspec.Struct, frozen=True):
    """The first delivery with that ``txnId`` or a higher one."""

    txn_id: int


class AtBeginning(msgspec.Struct, frozen=True):
    """The first delivery that the lane keeps."""


Moment = AtOffset | AtTime | AtTxn | AtBeginning


class Asked(msgspec.Struct, frozen=True):
    """
    A replay as it is asked for.

    until:     None: the end of the lane as it is now.
    selected:  None: a rewind, since only ``from`` is given.
    """

    begin: Moment
    until: Moment | None
    selected: Selected | None
    dry_run: bool


def asked_of(data: Any, now_us: int) -> tuple[Asked, Reader]:
    """A body; what is wrong with it is noted in the reader, which is not at its end yet, and the replay is of no use then."""
    reader = Reader(data, "", [])
    if "from" not in reader:
        reader.refuse("from", f"is missing, must be an object with {one_of(FORMS)}")
    begin = _moment(reader, "from", now_us) or AtBeginning()
    until = _moment(reader, "until", now_us)
    if isinstance(until, AtBeginning):
        reader.refuse("until.beginning", "selects nothing: leave until out, or give it as offset, time or txnId")
    selected = _selected(reader)
    dry_run = reader.truth("dryRun")
    if selected is None and until is not None:
        selected = Selected()
    return Asked(begin, until, selected, dry_run), reader


def _selected(reader: Reader) -> Selected | None:
    query = reader.text("query") or None
    ids = tuple(reader.each("ids", _id, IDS_MAX))
    if "ids" in reader and not ids and not reader.errors:
        reader.refuse("ids", "is empty: leave it out, or name at least one document")
    failed = reader.truth("failed")
    return Selected(query, ids, failed) if query is not None or ids or failed else None


def _id(value: Any) -> str:
    try:
        return id_text(value)
    except BadKey as error:
        raise ValueError(str(error)) from error


def _moment(reader: Reader, name: str, now_us: int) -> Moment | None:
    if reader.raw(name) is None:
        return None
    form = reader.inner(name)
    given = [one for one in FORMS if one in form]
    checks: Mapping[str, Callable[[Any], Moment]] = {"offset": _offset, "time": _time(now_us), "txnId": _txn, "beginning": _beginning}
    found: list[Moment | None] = [form.checked(one, checks[one]) for one in FORMS]
    form.end()
    if len(given) != 1 and isinstance(reader.raw(name), Mapping):
        what = "has none of them" if not given else f"has {' and '.join(given)}"
        reader.refuse(name, f"{what}, must have one of {one_of(FORMS)}")
    return next((moment for moment in found if moment is not None), None)


def _offset(value: Any) -> AtOffset:
    match = _PLACE.fullmatch(value) if isinstance(value, str) else None
    if match is not None and int(match[2]) <= OFFSET_MAX:
        return AtOffset(int(match[2]), None if match[1] is None else int(match[1]))
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= OFFSET_MAX:
        raise ValueError(f"is {shown(value)}, must be a whole number from 0, as livehook-offset has it")
    return AtOffset(value)


def _time(now_us: int) -> Callable[[Any], AtTime]:
    def check(value: Any) -> AtTime:
        text = as_text(value)
        try:
            us = parse_rfc3339(text)
        except (ValueError, OverflowError):
            message = f"is {shown(text)}, must be a time with an offset (RFC 3339), such as 2026-01-31T12:00:00Z"
            raise ValueError(message) from None
        if us > now_us:
            raise ValueError(f"is {rfc3339(us)}, which is in the future: it is {rfc3339(now_us)} now")
        return AtTime(us)

    return check


def _txn(value: Any) -> AtTxn:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**53:
        raise ValueError(f"is {shown(value)}, must be a txnId, such as 1790000000000001")
    return AtTxn(value)


def _beginning(value: Any) -> AtBeginning:
    if value is not True:
        raise ValueError(f"is {shown(value)}, must be true")
    return AtBeginning()
