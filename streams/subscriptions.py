"""
The webhooks as the matching agent sees them: a fold of the ``webhooks`` topic that keeps the standing queries, and waits at marks.

A revision serves a partition from its ``since`` on. Until the API has written that down, the marks that name the revision's offset tell it:
a mark stands in each partition exactly where the revision begins.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from schemas.backfills import BackfillEnd
from schemas.changes import PassedMark
from schemas.errors import Fatal
from schemas.positions import Origin
from schemas.registry import Registry
from schemas.replays import ReplayState
from schemas.topics import Topics
from schemas.webhooks import WebhookRevision, WebhookSince
from streams.backfill import Plan, first_of, plan_of
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
        self._live: dict[str, dict[int, Origin]] = {}  # by backfill
        self._begun: dict[Origin, tuple[str, int]] = {}  # revisions whose backfill follows a live flow, by their first origins
        self._owed: set[str] = set()  # names of webhooks that are not ready
        self.on_owed: Callable[[], None] = lambda: None
        """Called when there may be something to do for backfills."""
        self.registry = Registry()
        self.position = 0

    def apply(self, key: bytes, value: bytes | None, offset: int) -> str | None:
        """
        One record of ``webhooks``, in the order of the topic.

        Returns:  the name of the webhook that it is about, or None.
        Raises:   BadRecord, Fatal: it was written by a version that this one cannot stand in for.
        """
        name = self.registry.apply(key, value)
        number = key.decode().partition("/")[2].partition("/")[0]
        if name is not None and number.isdecimal():
            self._put(name, int(number), offset)
        if name is not None:
            self._note_backfill(name)
        self.position = offset + 1
        for waited in [waited for waited in self._waiting if waited < self.position]:
            for future in self._waiting.pop(waited):
                if not future.done():
                    future.set_result(None)
        return name

    def _put(self, name: str, number: int, offset: int) -> None:
        revision = next((one for one in self.registry.revisions(name) if one.revision == number), None)
        if revision is None:
            self.queries.remove(name, number)
            return
        known = self.queries.get(name, number)
        standing = self._standing(revision)
        if revision.is_behind_live:
            self._begun |= dict.fromkeys(revision.since or (), (name, number))
        if revision.since is None:
            self._pending.setdefault(offset, (name, number))
        if known is not None:  # a mark that was passed already holds, whatever whoever finished the revision knew of it
            for partition, origin in known.since.items():
                standing.since[partition] = min(standing.since.get(partition, origin), origin)
        self.queries.put(standing)

    def _standing(self, revision: WebhookRevision) -> Standing:
        try:
            standing = standing_of(revision, self._topics.lane(revision.name).name, self.registry.since(revision))
            standing.live = None if revision.backfill is None else self._live.setdefault(revision.backfill, {})
            return standing
        except (QueryError, ValueError) as error:
            raise Fatal(f"webhook {revision.name}, revision {revision.revision}, cannot be read by this version: {error}") from error

    def marked(self, mark: PassedMark) -> WebhookSince | None:
        """
        The revision that a mark names begins at the mark's origin, in its partition.

        Returns:  what must be in ``webhooks`` before a commit passes the mark, also when it may be there already: whether what was
                  returned before was written is not known here. None: the revision begins elsewhere.
        """
        name_and_number = self._pending.get(mark.webhooks) or self._begun.get(mark.origin)
        standing = None if name_and_number is None else self.queries.get(*name_and_number)
        if standing is None or standing.since.setdefault(mark.origin.partition, mark.origin) != mark.origin:
            return None
        return WebhookSince(standing.name, standing.revision, mark.origin)

    # Backfills.

    def _note_backfill(self, name: str) -> None:
        """What is known of where the live flow begins, and whether anything is left to do before it."""
        webhook = self.registry.webhook(name)
        current = None if webhook is None else webhook.current
        if current is None:
            self._owed.discard(name)
            return
        for one in self.registry.revisions(name):  # former ones may serve origins still
            if one.uid == current.uid and one.backfill in self._live:
                for partition, origin in self.registry.backfill(one).ends.items():
                    self._live[one.backfill].setdefault(partition, origin)
        if current.backfill not in self._live or self.registry.backfill(current).ready is not None:
            self._owed.discard(name)
            return
        self._owed.add(name)
        self.on_owed()

    def owed(self, partition: int) -> list[str]:
        """The webhooks whose backfill has not ended in a partition."""
        return [name for name in sorted(self._owed) if self.is_owed(name, partition)]

    def is_owed(self, name: str, partition: int) -> bool:
        """Whether the backfill of a webhook has not ended in a partition."""
        if name not in self._owed:
            return False
        webhook = self.registry.webhook(name)
        if webhook is None or (backfill := webhook.current.backfill) is None or partition in self._live[backfill]:
            return False
        # What was live before must be in the lane before it, or a document would go back.
        begun = first_of(self._revisions(webhook.current)) if webhook.current.is_behind_live else None
        return begun is None or partition in self.registry.passed(begun)

    def unready(self) -> list[WebhookRevision]:
        """
        The webhooks whose backfill has ended everywhere, and whose lane does not say so yet.

        As they were made, so that a marker that is written twice says the same, edited in between or not.
        """
        found = [first_of(self._revisions(webhook.current)) for name in self._owed if (webhook := self.registry.webhook(name)) is not None]
        return [one for one in found if one is not None and len(self.registry.backfill(one).ends) == self._topics.partitions]

    def _revisions(self, current: WebhookRevision) -> list[WebhookRevision]:
        """Those of a webhook as it was made that have the same backfill; of one that was deleted and made again, the later ones."""
        return [one for one in self.registry.revisions(current.name) if one.uid == current.uid and one.backfill == current.backfill]

    def plan(self, name: str) -> Plan | None:
        """The backfill of a webhook; None when there is none, or it is gone."""
        webhook = self.registry.webhook(name)
        if webhook is None:
            return None
        current = webhook.current
        made = [one for one in self.registry.revisions(name) if one.uid == current.uid]
        known = [(one, standing) for one in made if (standing := self.queries.get(name, one.revision)) is not None]
        replay = None if current.replaying is None else self.registry.replay(current.replaying.id)  # None: forgotten, so it has ended
        return plan_of(
            [one for one, _ in known],
            [standing for _, standing in known],
            self.registry.backfill(current).progress,
            is_cancelled=replay is None or replay.state is ReplayState.CANCELLED,
        )

    def begun_by(self, mark: PassedMark, name: str) -> int | None:
        """Which revision of a webhook a mark begins, by its number; for whoever reads ahead of the matching agent."""
        named, number = self._pending.get(mark.webhooks, (None, None))
        return number if named == name else None

    def ending(self, mark: PassedMark) -> str | None:
        """
        The webhook whose backfill ends at a mark; None: it is gone, or its backfill has ended at another mark of that partition.

        The same again for a mark that was seen before: whether its end was written down then is not known here.
        """
        for name in self._owed:
            webhook = self.registry.webhook(name)
            if webhook is not None and webhook.current.backfill == mark.ends:
                known = self._live[mark.ends].get(mark.origin.partition, mark.origin)
                return name if known == mark.origin else None
        return None

    def ended(self, name: str, mark: PassedMark) -> BackfillEnd:
        """The live flow of a webhook begins at a mark. Returns what must be in ``webhooks`` before a commit passes the mark."""
        self._live[mark.ends].setdefault(mark.origin.partition, mark.origin)
        return BackfillEnd(name, mark.ends, mark.origin)

    async def wait_until(self, offset: int) -> None:
        """Until the record at this offset of ``webhooks`` has been applied."""
        if offset >= self.position:
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.setdefault(offset, []).append(future)
            await future
