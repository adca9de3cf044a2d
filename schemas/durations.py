"""Durations as users write them: ``100ms 5s 5m 2h 5d``. Source: docs/reference/webhook.md."""

from __future__ import annotations

import re
from typing import Any

DURATION = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)(ms|s|m|h|d)", re.ASCII)
SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3_600.0, "d": 86_400.0}
DURATION_S_MAX = 365 * SECONDS["d"]


class BadDuration(ValueError):
    """The text is no duration; the message says what would be right."""


def seconds(text: Any) -> float:
    """
    The seconds of a duration, at most a year.

    Raises:  BadDuration.
    """
    found = DURATION.fullmatch(text) if isinstance(text, str) else None
    if found is None:
        raise BadDuration(f"is {text!r:.60}, must be a number and one of ms, s, m, h, d, for example 5m")
    value = float(found[1]) * SECONDS[found[2]]
    if value > DURATION_S_MAX:
        raise BadDuration(f"is {text}, must be at most 365d")
    return value
