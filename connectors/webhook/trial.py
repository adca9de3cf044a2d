"""
``webhook test``: one attempt now, outside the lane, in any state of the webhook. Called by the API; needs no sink.

The delivery is made up: it looks like the change from ``old`` to ``doc``, its webhook-id is used just once, and a header says it is a test.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping
from typing import Any

from connectors.webhook.attempts import attempt_of
from connectors.webhook.http import Sender
from connectors.webhook.render import endpoint_of, prepare
from connectors.webhook.retry import DeadLetter, Disable, Schedule, decide
from schemas.attempts import Attempt
from schemas.changes import Change
from schemas.deliveries import Delivery, Match
from schemas.errors import Reason
from schemas.keys import id_text
from schemas.positions import Origin
from schemas.strict_json import encode
from schemas.webhooks import WebhookRevision

COLLECTION = "test"
ONCE = Schedule((0.0,))


async def send_test(
    revision: WebhookRevision,
    doc: Mapping[str, Any] | None,
    old: Mapping[str, Any] | None,
    *,
    sender: Sender,
    user_agent: str,
    rng: random.Random | None = None,
    now: Callable[[], float] = time.time,
) -> Attempt:
    """
    Send it once and tell what came of it; the caller keeps the attempt.

    Args:    doc, old: documents with ``_id``; without ``old`` it is a create, without ``doc`` a remove.
    Returns: the attempt, ``dead`` when it failed: nothing is tried again.
    Raises:  Invalid: the webhook asks for what this version cannot send. BadKey: an ``_id`` that is none.
    """
    rng = rng or random.Random()
    started = now()
    delivery = _delivery(revision, doc, old, int(started * 1_000_000), rng.getrandbits(63))
    request = prepare(delivery, endpoint_of(revision, user_agent=user_agent), offset="", attempt=1, now=started, test=True)
    began = time.monotonic()
    result = await sender.send(request, timeout_s=revision.spec.delivery.timeout_seconds)
    ended = started + time.monotonic() - began
    decision = decide(result, 1, ONCE, ended, rng)
    if isinstance(decision, Disable):  # a test has no consequences, and is not sent again
        decision = DeadLetter(Reason.EXHAUSTED, decision.reason)
    return attempt_of(
        delivery, revision.name, request, result, decision, offset="", attempt=1, started=started, ended=ended, rng=rng, test=True
    )


def _delivery(
    revision: WebhookRevision, doc: Mapping[str, Any] | None, old: Mapping[str, Any] | None, now_us: int, number: int
) -> Delivery:
    collection = revision.spec.triggers_all[0].collections[0]
    shown = doc or old or {}
    change = Change(
        collection=COLLECTION if collection == "*" else collection,
        id=id_text(shown.get("_id", "test")),
        txn_id=now_us,
        version=1,
        old=None if old is None else encode(dict(old)),
        new=None if doc is None else encode(dict(doc)),
        origin=Origin(-1, 0, number),  # no epoch is negative: the webhook-id is that of no delivery
        appended_us=now_us,
    )
    match = Match.REMOVE if doc is None else Match.CREATE if old is None else Match.UPDATE
    return Delivery(revision.uid, revision.revision, match, change)
