"""
From a change to deliveries: which webhooks want it, and as what.

Pure. ``match`` asks the standing queries which revisions want the change and as what, by its old and new value, and plans a delivery for
each. Called by the matching agent, the simulation and the golden log. ``streams.standing`` is the index behind them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Protocol

from schemas.changes import Change
from schemas.deliveries import ALIASES, MARKERS, Delivery, Match
from schemas.keys import id_text
from schemas.positions import Origin
from schemas.webhooks import Trigger, WebhookRevision
from streams.standing.documents import Documents
from streams.standing.selection import Selection, selection_of

ANY = "*"


@dataclass(frozen=True, slots=True)
class StandingQuery:
    """One trigger of a webhook, ready to be asked; ``ids`` None: any document."""

    collections: frozenset[str]
    selection: Selection
    ids: frozenset[str] | None
    events: tuple[Match, ...]


@dataclass(slots=True, eq=False)
class Standing:
    """
    One revision of a webhook in the matching agent; equal to itself only.

    lane_partition: 0 where the lane has one partition; None where the document's key finds it.
    since:  the first origin of each partition that it serves; a partition that is missing is not served yet. A later revision of the same
            name ends it where that one begins.
    live:   of a webhook that started in the past: where in each partition its backfill has ended; before that, and in a partition that is
            missing, the backfill serves. None: it has none.
    """

    name: str
    uid: str
    revision: int
    lane: str
    lane_partition: int | None
    queries: tuple[StandingQuery, ...]
    deleted: bool = False
    since: dict[int, Origin] = field(default_factory=dict)
    live: dict[int, Origin] | None = None

    def is_live(self, origin: Origin) -> bool:
        """Whether no backfill serves the origin."""
        if self.live is None:
            return True
        begin = self.live.get(origin.partition)
        return begin is not None and begin <= origin

    def serves(self, origin: Origin) -> bool:
        """Whether the origin is not before this revision's first."""
        since = self.since.get(origin.partition)
        return since is not None and since <= origin


class StandingQueries(Protocol):
    """All revisions that may still serve an origin."""

    def put(self, standing: Standing) -> None:
        """Add a revision, or put it in place of the one with the same name and number."""
        ...

    def remove(self, name: str, revision: int) -> None:
        """Forget a revision."""
        ...

    def get(self, name: str, revision: int) -> Standing | None:
        """One revision."""
        ...

    def matching(self, change: Change) -> Sequence[tuple[Standing, Match, int]]:
        """
        The webhooks that want the change, by name: of each the one revision that serves its origin, what the change is to it, and which of
        its queries is the first that wants it.
        """
        ...


class SimpleStandingQueries:
    """Asks every webhook of the change's collection: the oracle that any cleverer index must agree with."""

    def __init__(self) -> None:
        self._revisions: dict[str, list[Standing]] = {}  # newest first
        self._names: dict[str, set[str]] = {}  # by collection
        self._candidates: dict[str, tuple[str, ...]] = {}  # by collection too, those of any collection included, in order

    def put(self, standing: Standing) -> None:
        """See :class:`StandingQueries`."""
        self.remove(standing.name, standing.revision)
        self._candidates.clear()
        revisions = self._revisions.setdefault(standing.name, [])
        revisions.append(standing)
        revisions.sort(key=lambda one: one.revision, reverse=True)
        for collection in _collections(standing):
            self._names.setdefault(collection, set()).add(standing.name)

    def remove(self, name: str, revision: int) -> None:
        """See :class:`StandingQueries`."""
        self._candidates.clear()
        revisions = self._revisions.get(name, [])
        gone = [one for one in revisions if one.revision == revision]
        self._revisions[name] = [one for one in revisions if one.revision != revision]
        left = {collection for one in self._revisions[name] for collection in _collections(one)}
        for collection in {collection for one in gone for collection in _collections(one)} - left:
            self._names[collection].discard(name)

    def get(self, name: str, revision: int) -> Standing | None:
        """See :class:`StandingQueries`."""
        return next((one for one in self._revisions.get(name, ()) if one.revision == revision), None)

    def matching(self, change: Change) -> Sequence[tuple[Standing, Match, int]]:
        """See :class:`StandingQueries`."""
        documents = Documents(change)
        return [found for standing in self._serving(change) for found in _wanted(standing, change, documents)]

    def _serving(self, change: Change) -> Iterator[Standing]:
        """For each webhook of the collection the one revision that serves the change's origin."""
        collection = change.collection if change.collection in self._names else ANY
        names = self._candidates.get(collection)
        if names is None:
            names = tuple(sorted(self._names.get(collection, set()) | self._names.get(ANY, set())))
            self._candidates[collection] = names
        for name in names:
            newest = self._revisions[name][0]
            if newest.deleted:
                continue  # its lane is gone: what it would have been sent from before has nowhere to go
            for standing in self._revisions[name]:
                if standing.serves(change.origin):
                    if standing.uid == newest.uid and not standing.deleted:
                        yield standing
                    break


def match(queries: StandingQueries, change: Change) -> Iterator[tuple[Standing, Delivery]]:
    """
    The deliveries of one change, at most one a webhook, by name.

    Guarantees:  the same for the same revisions, whatever else the index holds.
    """
    for standing, event, trigger in queries.matching(change):
        if standing.is_live(change.origin):
            yield standing, Delivery(standing.uid, standing.revision, event, change, trigger=trigger)


def _wanted(standing: Standing, change: Change, documents: Documents) -> Iterator[tuple[Standing, Match, int]]:
    """What the first trigger that wants it makes of a change; nothing when none does."""
    for trigger, query in enumerate(standing.queries):
        event = event_of(query, change, documents)
        if event is not None and event in query.events:
            yield standing, event, trigger
            return


def event_of(query: StandingQuery, change: Change, documents: Documents) -> Match | None:
    """What a change is to a query, wanted or not."""
    if change.collection not in query.collections and ANY not in query.collections:
        return None
    if query.ids is not None and change.id not in query.ids:
        return None
    matches = query.selection.matches
    old = change.old is not None and (matches is None or matches(documents.old()))
    new = change.new is not None and (matches is None or matches(documents.new()))
    return classify(change, old=old, new=new)


def classify(change: Change, *, old: bool, new: bool) -> Match | None:
    """What a change is to a query that matches its old and new value or does not."""
    if change.new is None:
        return Match.REMOVE if old else None
    if change.old is None:
        return Match.CREATE if new else None
    if new:
        return Match.UPDATE if old else Match.ENTER
    return Match.LEAVE if old else None


def standing_of(revision: WebhookRevision, lane: str, since: Iterable[Origin]) -> Standing:
    """
    A revision as the matching agent asks it; ``since``: its first origins, as far as they are known.

    Raises:  QueryError: its query cannot be read (by this version).
    """
    return Standing(
        name=revision.name,
        uid=revision.uid,
        revision=revision.revision,
        lane=lane,
        lane_partition=0 if revision.spec.delivery.partitions == 1 else None,
        queries=() if revision.deleted else tuple(map(_standing_query, revision.spec.triggers_all)),
        deleted=revision.deleted,
        since={origin.partition: origin for origin in since},
    )


def _standing_query(trigger: Trigger) -> StandingQuery:
    return StandingQuery(
        collections=_collections_of(tuple(trigger.collections)),
        selection=selection_of(trigger.query, trigger.args),
        ids=frozenset(map(id_text, trigger.ids)) if trigger.ids else None,
        events=_events_of(tuple(trigger.events)),
    )


# Thousands of webhooks name the same few collections and events, and share them.
@lru_cache(1_024)
def _collections_of(names: tuple[str, ...]) -> frozenset[str]:
    return frozenset(names)


@lru_cache(1_024)
def _events_of(names: tuple[str, ...]) -> tuple[Match, ...]:
    """The events behind names and aliases; a tuple, because finding a member among five is quicker than computing its hash."""
    asked = {match for name in names for match in ALIASES.get(name) or (Match(name),)}
    return tuple(match for match in Match if match in asked and match not in MARKERS)


def _collections(standing: Standing) -> set[str]:
    return {collection for query in standing.queries for collection in query.collections}
