"""
The index behind :class:`streams.matching.StandingQueries`: a change costs as much as webhooks want it, however many there are.

Lives in one event loop. Nothing here waits, and ``matching`` answers with a list; so a webhook is put or removed between two changes,
never in the middle of one.
"""

from __future__ import annotations

from operator import itemgetter
from typing import TypeAlias

from schemas.changes import Change
from schemas.deliveries import Match
from schemas.positions import Origin
from streams.matching import ANY, Standing, StandingQuery
from streams.standing.collection import CollectionQueries
from streams.standing.documents import Documents

_by_name = itemgetter(0)
Wanted: TypeAlias = tuple[str, int, Match, Standing]
"""A webhook's name, the place of the trigger that fires, what the change is to it, the revision."""


class _Webhook:
    """The revisions of one name, newest first."""

    __slots__ = ("revisions",)

    def __init__(self) -> None:
        self.revisions: list[Standing] = []

    def serves(self, standing: Standing, origin: Origin) -> bool:
        """Whether of all revisions this one, which is not the newest and begins at ``origin`` or before, is the one that serves it."""
        newest = self.revisions[0]
        if newest.deleted or newest.uid != standing.uid:
            return False
        return not any(newer.serves(origin) for newer in self.revisions[: self.revisions.index(standing)])


class _Trigger:
    """
    One query of one revision, as a subscriber of its entry. With ten thousand of them each object that a match has to look into is a miss
    of the processor's cache, so it has by itself what most matches need.

    place:      among the queries of the revision. is_newest: no later revision of the name is known.
    since:      the revision's own, which grows.
    """

    __slots__ = ("events", "is_newest", "name", "place", "since", "standing", "webhook")

    def __init__(self, webhook: _Webhook, standing: Standing, place: int) -> None:
        self.webhook = webhook
        self.standing = standing
        self.name = standing.name
        self.since = standing.since
        self.place = place
        self.events = standing.queries[place].events
        self.is_newest = False


class IndexedStandingQueries:
    """See :class:`streams.matching.StandingQueries`."""

    def __init__(self) -> None:
        self._webhooks: dict[str, _Webhook] = {}
        self._triggers: dict[tuple[str, int], list[_Trigger]] = {}  # by name and revision
        self._collections: dict[str, CollectionQueries[_Trigger]] = {}
        self._several = 0  # revisions with more than one query

    def put(self, standing: Standing) -> None:
        """See :class:`streams.matching.StandingQueries`."""
        self.remove(standing.name, standing.revision)
        webhook = self._webhooks.setdefault(standing.name, _Webhook())
        webhook.revisions.append(standing)
        webhook.revisions.sort(key=lambda one: one.revision, reverse=True)
        triggers = [_Trigger(webhook, standing, place) for place in range(len(standing.queries))]
        self._triggers[standing.name, standing.revision] = triggers
        self._several += len(triggers) > 1
        self._note_newest(standing.name)
        for trigger, query in zip(triggers, standing.queries, strict=True):
            for collection in _collections(query):
                self._collections.setdefault(collection, CollectionQueries()).add(query.selection, query.ids, trigger)

    def remove(self, name: str, revision: int) -> None:
        """See :class:`streams.matching.StandingQueries`."""
        known = self.get(name, revision)
        if known is None:
            return
        for trigger, query in zip(self._triggers.pop((name, revision)), known.queries, strict=True):
            for collection in _collections(query):
                queries = self._collections[collection]
                queries.remove(query.selection, query.ids, trigger)
                if not queries:
                    del self._collections[collection]
        self._several -= len(known.queries) > 1
        webhook = self._webhooks[name]
        webhook.revisions.remove(known)
        if webhook.revisions:
            self._note_newest(name)
        else:
            del self._webhooks[name]

    def _note_newest(self, name: str) -> None:
        for place, standing in enumerate(self._webhooks[name].revisions):
            for trigger in self._triggers[name, standing.revision]:
                trigger.is_newest = not place

    def get(self, name: str, revision: int) -> Standing | None:
        """See :class:`streams.matching.StandingQueries`."""
        webhook = self._webhooks.get(name)
        return None if webhook is None else next((one for one in webhook.revisions if one.revision == revision), None)

    def matching(self, change: Change) -> list[tuple[Standing, Match, int]]:
        """See :class:`streams.matching.StandingQueries`."""
        documents = Documents(change)
        origin = change.origin
        partition = origin.partition
        wanted: list[Wanted] = []
        for queries in (self._collections.get(change.collection), self._collections.get(ANY)):
            if queries is None:
                continue
            for entry, match in queries.wanting(change, documents):
                for trigger in entry.subscribers:
                    standing = trigger.standing
                    since = standing.since.get(partition)
                    if since is not None and since <= origin and match in trigger.events and trigger.webhook.serves(standing, origin):
                        wanted.append((standing.name, trigger.place, match, standing))
        wanted.sort(key=_by_name)
        return [(standing, match, trigger) for _, trigger, match, standing in _first_of_each(wanted)]

    def candidates(self, change: Change) -> set[tuple[str, int]]:
        """Name and revision of all whose query is looked at for a change: who is not among them does not match it."""
        documents = Documents(change)
        known = [self._collections[name] for name in (change.collection, ANY) if name in self._collections]
        found = [queries.candidates(change, documents) for queries in known]
        entries = {entry for one in found for side in (one.old, one.new, one.both) for entry in side}
        return {(trigger.standing.name, trigger.standing.revision) for entry in entries for trigger in entry.subscribers}

    def is_empty(self) -> bool:
        """Whether it holds nothing, not even an empty store."""
        return not (self._webhooks or self._triggers or self._collections)


def _first_of_each(wanted: list[Wanted]) -> list[Wanted]:
    """Of the triggers of one webhook that fire the first one; ``wanted`` is sorted by name."""
    first: dict[str, Wanted] = {}
    for one in wanted:
        known = first.get(one[0])
        if known is None or one[1] < known[1]:
            first[one[0]] = one
    return wanted if len(first) == len(wanted) else list(first.values())


def _collections(query: StandingQuery) -> frozenset[str]:
    """Where a query is kept: a query of any collection once, whatever else it names."""
    return _ANY_COLLECTION if ANY in query.collections else query.collections


_ANY_COLLECTION = frozenset((ANY,))
