"""Marks in ``changes``: whoever comes to one must have read ``webhooks`` as far as it says."""

from __future__ import annotations

import asyncio
import logging

from schemas.changes import PassedMark
from streams.asking import answered
from streams.ports import Log
from streams.subscriptions import Subscriptions

logger = logging.getLogger(__name__)

MARK_WAIT_S = 2.0


async def has_read(mark: PassedMark, subscriptions: Subscriptions, log: Log, webhooks: str) -> bool:
    """Until the record of ``webhooks`` that the mark names has been read; False when there is none: then the mark is nobody's."""
    try:
        await asyncio.wait_for(subscriptions.wait_until(mark.webhooks), MARK_WAIT_S)
    except TimeoutError:
        # A record is written before its marks; so one beyond the end of `webhooks` cannot be real, and nothing may wait for it.
        _, end = await answered(log.offsets, webhooks, 0)
        if mark.webhooks >= end:
            logger.error("a mark at %s names offset %d of %s, which ends at %d: ignored", mark.origin, mark.webhooks, webhooks, end)
            return False
        await subscriptions.wait_until(mark.webhooks)
    return True


async def catch_up(subscriptions: Subscriptions, log: Log, webhooks: str) -> None:
    """Until everything that is in ``webhooks`` now has been read."""
    _, end = await answered(log.offsets, webhooks, 0)
    await subscriptions.wait_until(end - 1)
