"""Times on the wire: RFC 3339 in UTC with microseconds and ``Z``; inside, whole microseconds since 1970."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any

from schemas.durations import DURATION, seconds

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
RFC3339 = re.compile(r"\d{4}-\d{2}-\d{2}[Tt ]\d{2}:\d{2}:\d{2}(\.\d{1,9})?([Zz]|[+-]\d{2}:\d{2})", re.ASCII)


def rfc3339(us: int) -> str:
    """``2026-01-31T12:00:00.000001Z``."""
    # From the parts: datetime.fromtimestamp goes through a float and loses the last microsecond.
    moment = EPOCH + timedelta(microseconds=us)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def parse_rfc3339(text: str) -> int:
    """
    Microseconds since 1970; digits beyond the sixth are dropped.

    Raises:  ValueError: no time with an offset.
    """
    if not RFC3339.fullmatch(text):
        raise ValueError("must be a time with an offset (RFC 3339), such as 2026-01-31T12:00:00Z")
    return (datetime.fromisoformat(text.upper()) - EPOCH) // timedelta(microseconds=1)


def moment_us(text: Any, now_us: int) -> int:
    """
    A time, µs since 1970, as users give it: RFC 3339, or a duration before now.

    Raises:  ValueError: it is neither.
    """
    if isinstance(text, str) and DURATION.fullmatch(text):
        return now_us - int(seconds(text) * 1_000_000)
    try:
        return parse_rfc3339(text)
    except (TypeError, ValueError, OverflowError):
        raise ValueError(
            f"is {text!r:.60}, must be a time with an offset (RFC 3339), such as 2026-01-31T12:00:00Z, or how long ago, such as 24h"
        ) from None
