"""
The webhooks as the matching agent sees them: a fold of the ``webhooks`` topic that keeps the standing queries, and waits at marks.

A revision serves a partition from its ``since`` on. Until the API has written that down, the marks that name the revision's offset tell it:
a mark stands in each partition exactly where the revision begins.
"""

from __future__ import annotations

import asyncio

from schemas.changes import PassedMark
from schemas.errors import Fatal
from schemas.registry import Registry
from schemas.topics import Topics
from schemas.webhooks import WebhookRevision, WebhookSince
from streams.matching import Standing, StandingQueries, standing_of
from streams.query import QueryError
from streams.standing.index import IndexedStandingQueries


class Subscriptions:
    """
    Lives in the agents' event loop: whoever reads the topic in a thread hands its records over to it.

    Args:  queries: what to keep them in, if not in an index of its own.
    """

    def __init__(self, topics: Topics, queries: StandingQueries | None = None) -> None:
        self._topics = topics
        self.queries = IndexedStandingQueries(topics.partitions) if queries is None else queries
        self._pending: dict[int, tuple[str, int]] = {}  # offset in `webhooks` -> revision that has no since yet
        self._waiting: dict[int, list[asyncio.Future[None]]] = {}
        self.registry = Registry()
        self.position = 0

    def apply(self, key: bytes, value: bytes | None, offset: int) -> None:
        """
        One record of ``webhooks``, in the order of the topic.

        Raises:  BadRecord, Fatal: it was written by a version that this one cannot stand in for.
        """
        name = self.registry.apply(key, value)
        number = key.decode().partition("/")[2].partition("/")[0]
        if name is not None and number.isdecimal():
            self._put(name, int(number), offset)
        self.position = offset + 1
        for waited in [waited for waited in self._waiting if waited < self.position]:
            for future in self._waiting.pop(waited):
                if not future.done():
                    future.set_result(None)

    def _put(self, name: str, number: int, offset: int) -> None:
        revision = next((one for one in self.registry.revisions(name) if one.revision == number), None)
        if revision is None:
            self.queries.remove(name, number)
            return
        known = self.queries.get(name, number)
        standing = self._standing(revision)
        if revision.since is None:
            self._pending.setdefault(offset, (name, number))
            if known is not None:
                standing.since = known.since | standing.since
        self.queries.put(standing)

    def _standing(self, revision: WebhookRevision) -> Standing:
        try:
            return standing_of(revision, self._topics.lane(revision.name).name, self.registry.since(revision))
        except (QueryError, ValueError) as error:
            raise Fatal(f"webhook {revision.name}, revision {revision.revision}, cannot be read by this version: {error}") from error

    def marked(self, mark: PassedMark) -> WebhookSince | None:
        """
        The revision that a mark names begins at the mark's origin, in its partition.

        Returns:  what must be in ``webhooks`` before a commit passes the mark; None when it is known there.
        """
        name_and_number = self._pending.get(mark.webhooks)
        standing = None if name_and_number is None else self.queries.get(*name_and_number)
        if standing is None or mark.origin.partition in standing.since:
            return None
        standing.since[mark.origin.partition] = mark.origin
        return WebhookSince(standing.name, standing.revision, mark.origin)

    async def wait_until(self, offset: int) -> None:
        """Until the record at this offset of ``webhooks`` has been applied."""
        if offset >= self.position:
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.setdefault(offset, []).append(future)
            await future
