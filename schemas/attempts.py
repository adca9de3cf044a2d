"""One HTTP call for a delivery: the record of ``attempts``, written by the sink (and by ``webhook test``)."""

from __future__ import annotations

from enum import StrEnum

import msgspec

BODY_BYTES_MAX = 16 * 1024


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
