"""An attempt as the API answers it. Source: docs/reference/http-api.md, "An attempt"."""

from __future__ import annotations

from typing import Any

from schemas.attempts import Attempt, Exchanged
from schemas.times import rfc3339


def attempt_json(attempt: Attempt, *, in_full: bool = True) -> dict[str, Any]:
    """The attempt; ``in_full`` with request and response."""
    found: dict[str, Any] = {
        "id": attempt.id,
        "webhook": attempt.webhook,
        "deliveryId": attempt.delivery_id,
        "collection": attempt.collection,
        "document": attempt.document,
        "match": attempt.match,
        "txnId": attempt.txn_id,
        "version": attempt.version,
        "offset": attempt.offset or None,
        "attempt": attempt.attempt,
        "startedAt": rfc3339(attempt.started_us),
        "durationMs": round(attempt.duration_us / 1000, 3),
        "outcome": attempt.outcome.value,
        "status": None if attempt.response is None else attempt.response.status,
        "error": None if attempt.error is None else {"code": attempt.error.code.value, "detail": attempt.error.detail},
        "nextAttemptAt": None if attempt.next_attempt_us is None else rfc3339(attempt.next_attempt_us),
        "test": attempt.test,
        "replay": attempt.replay,
    }
    if in_full:
        request = attempt.request
        found["request"] = {"method": request.method, "url": request.url} | _side(request)
        found["response"] = None if attempt.response is None else {"status": attempt.response.status} | _side(attempt.response)
    return found


def _side(side: Exchanged) -> dict[str, Any]:
    return {
        "headers": side.headers,
        "body": side.body.decode(errors="replace"),
        "bodyTruncated": side.body_truncated,
    }
