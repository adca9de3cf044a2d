"""One HTTP call for a delivery: the record of ``attempts``, written by the sink (and by ``webhook test``)."""

from __future__ import annotations

import re
from enum import StrEnum

import msgspec

BODY_BYTES_MAX = 16 * 1024


ID_US = re.compile(r"att_([0-9a-f]{14})[0-9a-f]{16}", re.ASCII)


def attempt_id(started_us: int, bits: int) -> str:
    """``att_``, the time in 14 hexadecimal digits and 64 random bits in 16: ids sort by time."""
    return f"att_{started_us:014x}{bits:016x}"


def started_of(id_: str) -> int | None:
    """When the attempt with this id was started, in µs since 1970; None when it is no attempt's id."""
    found = ID_US.fullmatch(id_)
    return None if found is None else int(found[1], 16)


class Outcome(StrEnum):
    """What came of an attempt."""

    DELIVERED = "delivered"
    RETRY = "retry"
    DEAD = "dead"


class ErrorCode(StrEnum):
    """Why an attempt failed."""

    STATUS = "status"
    DNS = "dns"
    CONNECT = "connect"
    TLS = "tls"
    TIMEOUT = "timeout"
    RESET = "reset"
    PROTOCOL = "protocol"
    TOO_LARGE = "too-large"
    EGRESS = "egress"
    AUTH = "auth"
    TEMPLATE = "template"


class AttemptError(msgspec.Struct, frozen=True):
    """What went wrong, for a person."""

    code: ErrorCode
    detail: str


class Exchanged(msgspec.Struct, frozen=True):
    """
    One side of the call as it may be shown: secrets masked, body cut at 16 KiB.

    method and url are those of the request and empty in a response; status is that of the response and None in a request.
    """

    headers: dict[str, str]
    body: bytes
    body_truncated: bool
    method: str = ""
    url: str = ""
    status: int | None = None


class Attempt(msgspec.Struct, frozen=True):
    """
    One attempt.

    offset:  the delivery's place in the lane (``partition:offset`` when the lane has several partitions); empty for a test.
    times:   µs since 1970.
    """

    id: str
    webhook: str
    delivery_id: str
    collection: str
    document: str
    match: str
    txn_id: int
    version: int
    offset: str
    attempt: int
    started_us: int
    duration_us: int
    outcome: Outcome
    request: Exchanged
    response: Exchanged | None = None
    error: AttemptError | None = None
    next_attempt_us: int | None = None
    test: bool = False
    replay: str | None = None

    @property
    def error_code(self) -> ErrorCode | None:
        """Of the error, if there is one."""
        return None if self.error is None else self.error.code

    @property
    def error_detail(self) -> str | None:
        """Of the error, if there is one."""
        return None if self.error is None else self.error.detail
