"""Filters of attempts and dead letters as users write them, in a query or as JSON, and cursors. Pure: the time is passed in."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Mapping
from typing import Any

from connectors.activity.model import FAILED, AttemptFilters, LetterFilters
from schemas.attempts import Outcome
from schemas.errors import FieldError, Invalid, Reason
from schemas.keys import BadKey, split_key
from schemas.reader import Reader, as_text, one_of, shown
from schemas.times import moment_us
from schemas.webhook_validation import check_name

Q_CHARS_MAX = 200
OUTCOMES: Mapping[str, frozenset[Outcome]] = {"failed": FAILED} | {outcome.value: frozenset({outcome}) for outcome in Outcome}
PAGING = ("limit", "cursor", "follow")


def attempt_filters(reader: Reader, now_us: int) -> AttemptFilters:
    """The filters among the fields of what was asked; wrong ones are noted in the reader."""
    return AttemptFilters(
        webhook=reader.checked("webhook", check_name),
        outcomes=reader.checked("outcome", _outcomes, frozenset()),
        since_us=reader.checked("since", _moment(now_us)),
        until_us=reader.checked("until", _moment(now_us)),
        document=reader.checked("document", _document),
        status=reader.checked("status", _status),
        q=reader.checked("q", _searched),
    )


def letter_filters(reader: Reader, now_us: int) -> LetterFilters:
    """The same for dead letters."""
    return LetterFilters(
        reason=reader.checked("reason", _reason),
        webhook=reader.checked("webhook", check_name),
        since_us=reader.checked("since", _moment(now_us)),
    )


def query_reader(parameters: Mapping[str, str], errors: list[FieldError]) -> Reader:
    """The parameters of a query but for those that page."""
    return Reader({name: value for name, value in parameters.items() if name not in PAGING}, "", errors)


def ended(reader: Reader) -> None:
    """
    Every field has been asked for.

    Raises:  Invalid: one is unknown or wrong.
    """
    reader.end()
    if reader.errors:
        raise Invalid(reader.errors)


def cursor_of(number: int) -> str:
    """A cursor for those who only hand it back."""
    return base64.urlsafe_b64encode(number.to_bytes(8)).rstrip(b"=").decode()


def number_of(cursor: str) -> int:
    """
    What a cursor stands for.

    Raises:  Invalid.
    """
    try:
        data = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        data = b""
    if len(data) != 8:
        raise Invalid([FieldError("cursor", f"is {shown(cursor)}, must be nextCursor of an answer")])
    return int.from_bytes(data) & (2**63 - 1)


def _outcomes(value: Any) -> frozenset[Outcome]:
    if not isinstance(value, str) or value not in OUTCOMES:
        raise ValueError(f"is {shown(value)}, must be {one_of(sorted(OUTCOMES))}")
    return OUTCOMES[value]


def _reason(value: Any) -> str:
    if not isinstance(value, str) or value not in [*Reason]:
        raise ValueError(f"is {shown(value)}, must be {one_of(sorted(Reason))}")
    return value


def _moment(now_us: int) -> Callable[[Any], int]:
    return lambda value: moment_us(value, now_us)


def _document(value: Any) -> str:
    text = as_text(value)
    try:
        split_key(text)
    except BadKey as error:
        raise ValueError(str(error)) from error
    return text


def _status(value: Any) -> int:
    if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) == 3:
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not 100 <= value <= 999:
        raise ValueError(f"is {shown(value)}, must be a status of HTTP, such as 503")
    return value


def _searched(value: Any) -> str:
    text = as_text(value)
    if not 1 <= len(text) <= Q_CHARS_MAX or "\0" in text:
        raise ValueError(f"has {len(text)} characters, must have 1 to {Q_CHARS_MAX}")
    return text
