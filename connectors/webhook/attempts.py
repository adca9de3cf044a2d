"""
Attempts and dead letters as records: what people read later about a call, and what is left of a delivery that no call could bring.

An attempt is produced without waiting and may be lost; a dead letter is acknowledged before its lane goes on. Called by sink.py.
"""

from __future__ import annotations

import random
from typing import NamedTuple

from connectors.webhook.calls import Failure, Request, Response
from connectors.webhook.retry import OUTCOMES, DeadLetter, Decision, RetryAt, Returned, error_of
from schemas.attempts import BODY_BYTES_MAX, Attempt, Exchanged, attempt_id
from schemas.deliveries import Delivery
from schemas.kept import kept
from schemas.masking import MASK, is_secret_header
from schemas.records import encode_attempt
from schemas.topics import Record

DETAIL_CHARS_MAX = 1_000
SECRET_CHARS_MIN = 6  # a shorter one would mask half of an answer that has nothing to do with it

NAMES_KEPT = 1_024
NAMES_MAX, NAMES_CHARS_MAX = 64, 4_096  # of one answer, to be kept
_AGAIN = (RetryAt, Returned)


def attempt_of(
    delivery: Delivery,
    webhook: str,
    request: Request,
    result: Response | Failure,
    decision: Decision,
    *,
    offset: str,
    attempt: int,
    started: float,
    ended: float,
    rng: random.Random,
    test: bool = False,
) -> Attempt:
    """What is told about one call, secrets masked and bodies cut; times are seconds since 1970."""
    change = delivery.change
    started_us = int(started * 1_000_000)
    duration_us = int((ended - started) * 1_000_000)
    asked = _request(request)
    answered = _response(result, request) if isinstance(result, Response) else None
    next_us = int(decision.at * 1_000_000) if isinstance(decision, _AGAIN) else None
    return Attempt(
        attempt_id(started_us, rng.getrandbits(64)), webhook, request.delivery_id, change.collection, change.key, delivery.match,
        change.txn_id, change.version, offset, attempt, started_us, duration_us if duration_us > 0 else 0, OUTCOMES[type(decision)],
        asked, answered, error_of(result), next_us, test, delivery.replay,
    )  # fmt: skip


def attempt_record(attempt: Attempt, topic: str) -> Record:
    """The record of ``attempts``."""
    return Record(topic, attempt.webhook.encode(), encode_attempt(attempt))


def dead_letter(key: bytes | None, value: bytes | None, source: str, decision: DeadLetter, topic: str) -> Record:
    """The record of ``dead-letters``: key and value of the lane's record untouched. ``source``: ``topic/partition/offset``."""
    headers = [
        ("reason", decision.reason.value.encode()),
        ("detail", decision.detail[:DETAIL_CHARS_MAX].encode(errors="replace")),
        ("source", source.encode()),
    ]
    return Record(topic, key, value, headers)


def _request(request: Request) -> Exchanged:
    body = request.body
    return Exchanged(_shown(request.names, request.values), body[:BODY_BYTES_MAX], len(body) > BODY_BYTES_MAX, request.method, request.url)


def _response(response: Response, request: Request) -> Exchanged:
    """The answer; a receiver that shows what it was sent shows no secrets to others."""
    headers, body = response.headers, response.body
    for secret in _secrets(request):
        body = body.replace(secret.encode("latin-1"), MASK.encode())
        headers = tuple((name, value.replace(secret, MASK)) for name, value in headers)
    truncated = response.body_truncated or len(body) > BODY_BYTES_MAX
    names, values = zip(*headers, strict=True) if headers else ((), ())
    return Exchanged(_shown(names, values), body[:BODY_BYTES_MAX], truncated, "", "", response.status)


def _secrets(request: Request) -> list[str]:
    """The values of a request's secret headers; of credentials without their scheme, which is no secret and may be all that is left out."""
    if _known(request.names).is_plain:
        return []
    values = [value.rpartition(" ")[2] for name, value in request.headers if is_secret_header(name)]
    return [value for value in values if len(value) >= SECRET_CHARS_MIN]


def _shown(names: tuple[str, ...], values: tuple[str, ...]) -> dict[str, str]:
    """Headers as they may be shown, in lower case; one that came several times stands once, with all its values."""
    known = _known(names)
    if known.is_plain:
        return dict(zip(known.lower, values, strict=True))
    shown: dict[str, str] = {}
    for lower, value in zip(known.lower, values, strict=True):
        if is_secret_header(lower):
            shown[lower] = MASK
        else:
            shown[lower] = f"{shown[lower]}, {value}" if lower in shown else value
    return shown


class _Known(NamedTuple):
    """Names in lower case. Plain: no value is secret, and no name comes twice."""

    lower: tuple[str, ...]
    is_plain: bool


# The same for most calls of a lane; receivers choose names freely, so that it is bounded.
@kept(NAMES_KEPT, lambda names: len(names) <= NAMES_MAX and sum(map(len, names)) <= NAMES_CHARS_MAX)
def _known(names: tuple[str, ...]) -> _Known:
    lower = tuple([name.lower() for name in names])
    is_secret = any(is_secret_header(name) for name in names)
    return _Known(lower, not is_secret and len(set(lower)) == len(lower))
