"""Where a webhook starts: ``start`` as a user writes it, and what it means for changes. Pure. Source: docs/reference/webhook.md."""

from __future__ import annotations

import re

from schemas.reader import shown
from schemas.times import parse_rfc3339, rfc3339

NOW = "now"
BEGINNING = "beginning"
TXN_MAX = 2**53
_TRANSACTION = re.compile(r"txn:(\d{1,16})", re.ASCII)


def first_txn(start: str) -> int | None:
    """
    The lowest ``txnId`` that a start takes in; None: it takes in nothing that has happened.

    A time is such a number too: the microsecond in which Kafka took the mutation.
    Raises:  ValueError: it is no start.
    """
    if start == NOW:
        return None
    if start == BEGINNING:
        return 0
    if (found := _TRANSACTION.fullmatch(start)) is not None:
        return int(found[1])
    return parse_rfc3339(start)


def check_start(start: str, now_us: int) -> str:
    """
    A start that a webhook can be made with.

    Raises:  ValueError.
    """
    try:
        txn_id = first_txn(start)
    except (ValueError, OverflowError):
        raise ValueError(f"is {shown(start)}, must be now, beginning, a time with an offset (RFC 3339) or txn:N") from None
    if txn_id is None or txn_id <= now_us:
        return start
    if start.startswith("txn:"):
        # A txnId is the microsecond in which Kafka took its mutation; so a number beyond the present one is nobody's.
        raise ValueError(f"is {start}, and there is no such txnId yet: now would be txn:{now_us}")
    raise ValueError(f"is {shown(start)}, which is in the future: it is {rfc3339(now_us)} now")
