"""
The index behind :class:`streams.matching.StandingQueries`: a change costs as much as webhooks want it, however many there are.

Lives in one event loop. Nothing here waits, and ``matching`` answers with a list; so a webhook is put or removed between two changes,
never in the middle of one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, TypeAlias

from schemas.changes import Change
from schemas.deliveries import Match
from schemas.positions import Origin
from streams.matching import ANY, Standing, StandingQuery
from streams.standing.collection import CollectionQueries
from streams.standing.documents import Documents

Wanted: TypeAlias = tuple[Standing, Match, int]
"""The revision, what the change is to it, and the place of its query that wants it."""


EVENTS: Final = frozenset({Match.CREATE, Match.ENTER, Match.UPDATE, Match.LEAVE, Match.REMOVE})  # what a change can be to a query


class _Trigger:
    """
    One query of a revision that cannot stand for itself.

    place:  among the queries of the revision. newer: the later revisions of the name; where one of them serves, this one does not.
    """

    __slots__ = ("events", "newer", "place", "standing")

    def __init__(self, standing: Standing, place: int, newer: Sequence[Standing]) -> None:
        self.standing = standing
        self.place = place
        self.events = standing.queries[place].events
        self.newer = newer

    def wants(self, match: Match, origin: Origin) -> bool:
        """Whether its revision serves the origin, and such events are asked for."""
        return match in self.events and self.standing.serves(origin) and not any(newer.serves(origin) for newer in self.newer)


Subscriber: TypeAlias = Standing | _Trigger
"""A revision for itself where that says all: one query, all events, no later revision, begun in every partition; else its triggers."""


class _Webhook:
    """The revisions of one name, newest first, and who of them is subscribed to which query."""

    __slots__ = ("revisions", "subscribers")

    def __init__(self, revisions: Sequence[Standing], partitions: int) -> None:
        self.revisions = tuple(revisions)
        self.subscribers: tuple[Subscriber, ...] = tuple(self._subscribers(partitions))

    def _subscribers(self, partitions: int) -> Iterator[Subscriber]:
        """A revision of a webhook that was deleted, or deleted and made again, serves nothing: its lane is gone."""
        newest = self.revisions[0]
        for age, standing in enumerate(self.revisions):
            if not age and len(standing.since) == partitions and len(standing.queries) == 1 and EVENTS.issubset(standing.queries[0].events):
                yield standing
            elif standing.uid == newest.uid and not newest.deleted:
                yield from (_Trigger(standing, place, self.revisions[:age]) for place in range(len(standing.queries)))


class IndexedStandingQueries:
    """
    See :class:`streams.matching.StandingQueries`.

    Args:  partitions: of the topic that changes come from.
    """

    def __init__(self, partitions: int) -> None:
        self._partitions = partitions
        self._webhooks: dict[str, _Webhook] = {}
        self._collections: dict[str, CollectionQueries[Subscriber]] = {}
        self._begun: dict[int, Origin] = {}  # by partition: from here on all serve that are subscribed for themselves
        self._several = 0  # revisions with more than one query

    def put(self, standing: Standing) -> None:
        """See :class:`streams.matching.StandingQueries`."""
        others = (one for one in self._taken_out(standing.name) if one.revision != standing.revision)
        self._put_in(sorted((standing, *others), key=lambda one: one.revision, reverse=True))

    def remove(self, name: str, revision: int) -> None:
        """See :class:`streams.matching.StandingQueries`."""
        self._put_in([one for one in self._taken_out(name) if one.revision != revision])

    def _put_in(self, revisions: Sequence[Standing]) -> None:
        """Subscribe a webhook by all of its revisions, newest first."""
        if not revisions:
            return
        webhook = self._webhooks[revisions[0].name] = _Webhook(revisions, self._partitions)
        self._several += sum(len(one.queries) > 1 for one in revisions)
        for subscriber in webhook.subscribers:
            if isinstance(subscriber, Standing):
                for partition, since in subscriber.since.items():
                    self._begun[partition] = max(since, self._begun.get(partition, since))
            query = _query(subscriber)
            for collection in _collections(query):
                self._collections.setdefault(collection, CollectionQueries()).add(query.selection, query.ids, subscriber)

    def _taken_out(self, name: str) -> Sequence[Standing]:
        """The revisions of a webhook, which is not subscribed any more."""
        webhook = self._webhooks.pop(name, None)
        if webhook is None:
            return ()
        self._several -= sum(len(one.queries) > 1 for one in webhook.revisions)
        for subscriber in webhook.subscribers:
            query = _query(subscriber)
            for collection in _collections(query):
                queries = self._collections[collection]
                queries.remove(query.selection, query.ids, subscriber)
                if not queries:
                    del self._collections[collection]
        return webhook.revisions

    def get(self, name: str, revision: int) -> Standing | None:
        """See :class:`streams.matching.StandingQueries`."""
        webhook = self._webhooks.get(name)
        return None if webhook is None else next((one for one in webhook.revisions if one.revision == revision), None)

    def matching(self, change: Change) -> list[Wanted]:
        """See :class:`streams.matching.StandingQueries`."""
        documents = Documents(change)
        origin = change.origin
        begun = self._begun.get(origin.partition)
        have_begun = begun is not None and begun <= origin
        wanted: list[Wanted] = []
        for queries in (self._collections.get(change.collection), self._collections.get(ANY)):
            for match, entries in queries.wanting(change, documents) if queries is not None else ():
                for entry in entries:
                    for one in entry.subscribers:
                        if isinstance(one, _Trigger):
                            if one.wants(match, origin):
                                wanted.append((one.standing, match, one.place))
                        elif have_begun or one.serves(origin):
                            wanted.append((one, match, 0))
        wanted.sort(key=_name)
        return _first_of_each(wanted) if self._several else wanted

    def candidates(self, change: Change) -> set[tuple[str, int]]:
        """Name and revision of all whose query is looked at for a change: who is not among them does not match it."""
        documents = Documents(change)
        known = [self._collections[name] for name in (change.collection, ANY) if name in self._collections]
        found = [queries.candidates(change, documents) for queries in known]
        entries = {entry for one in found for side in (one.old, one.new, one.both) for entry in side}
        standings = {_standing(subscriber) for entry in entries for subscriber in entry.subscribers}
        return {(standing.name, standing.revision) for standing in standings}

    def is_empty(self) -> bool:
        """Whether it holds nothing, not even an empty store."""
        return not (self._webhooks or self._collections or self._several)


def _first_of_each(wanted: list[Wanted]) -> list[Wanted]:
    """Of the queries of one revision that want the change the first one."""
    first: dict[Standing, Wanted] = {}
    for one in wanted:
        known = first.get(one[0])
        if known is None or one[2] < known[2]:
            first[one[0]] = one
    return wanted if len(first) == len(wanted) else list(first.values())


def _name(wanted: Wanted) -> str:
    return wanted[0].name


def _standing(subscriber: Subscriber) -> Standing:
    return subscriber.standing if isinstance(subscriber, _Trigger) else subscriber


def _query(subscriber: Subscriber) -> StandingQuery:
    return subscriber.standing.queries[subscriber.place] if isinstance(subscriber, _Trigger) else subscriber.queries[0]


def _collections(query: StandingQuery) -> frozenset[str]:
    """Where a query is kept: a query of any collection once, whatever else it names."""
    return _ANY_COLLECTION if ANY in query.collections else query.collections


_ANY_COLLECTION = frozenset((ANY,))
