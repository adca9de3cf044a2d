"""
What can be wrong, said once. Everything that Livehook raises on purpose is a LivehookError::

    LivehookError
    ├── BadRecord       a record that cannot be used; goes to the dead letters with its reason and detail
    ├── Invalid         input of a user that is readable but wrong; names each field
    ├── Unavailable     something outside was not reached, or did not answer in time; to be asked again
    └── Fatal           the process cannot go on safely; it ends with this line and a supervisor starts it again
"""

from __future__ import annotations

from enum import StrEnum

import msgspec


class LivehookError(Exception):
    """Base of every error that Livehook raises on purpose."""


class Reason(StrEnum):
    """Why a record is in the dead letters (header ``reason``)."""

    UNDECODABLE = "undecodable"
    UNKNOWN_SCHEMA = "unknown-schema"
    INVALID = "invalid"
    TOO_LARGE = "too-large"
    MISROUTED = "misrouted"
    CONFLICT = "conflict"
    EXHAUSTED = "exhausted"
    TEMPLATE = "template"
    EXPIRED = "expired"


class BadRecord(LivehookError):
    """A record that no retry can help: dead-letter it with ``reason`` and ``detail``, and go on."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


class FieldError(msgspec.Struct, frozen=True):
    """One wrong field: its dotted path (``delivery.concurrency``, ``[3].id``) and what would be right."""

    field: str
    message: str

    def __str__(self) -> str:
        """A sentence; the dot behind a place in an array joins a field to it, and nothing to a message."""
        return f"{self.field.removesuffix('.')} {self.message}" if self.field else self.message


class Invalid(LivehookError, ValueError):
    """Input that is readable but wrong; every wrong field is named."""

    def __init__(self, errors: list[FieldError]) -> None:
        super().__init__("; ".join(map(str, errors)))
        self.errors = errors


class Unavailable(LivehookError):
    """Something outside was not reached or did not answer in time; whether it did what was asked is unknown."""


class Fatal(LivehookError):
    """It is not safe to go on: the process ends with this one line, which says what to do."""
