"""The queries that watch one collection: who may want a change, and what it is to them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Generic, TypeVar

from schemas.changes import Change
from schemas.deliveries import Match
from streams.standing.documents import Documents
from streams.standing.places import Found, Places
from streams.standing.selection import Selection
from streams.standing.stores import Bucket, added, drop, put, removed

S = TypeVar("S")


class Entry(Generic[S]):
    """
    One distinct query of the collection, and who stands behind it.

    asks:  whether a document matches; None where being found says so.
    """

    __slots__ = ("asks", "ids", "reads", "selection", "subscribers")

    def __init__(self, selection: Selection, ids: frozenset[str] | None) -> None:
        self.selection = selection
        self.ids = ids
        self.reads = selection.reads
        self.asks = None if ids is None and selection.condition.exact else selection.matches
        self.subscribers: Bucket[S] = ()


class CollectionQueries(Generic[S]):
    """
    Queries with their subscribers, of any type that can be hashed.

    An entry stands under its document ids if it names any; else under each predicate of its condition; else it is asked always.
    """

    def __init__(self) -> None:
        self._entries: dict[tuple[Selection, frozenset[str] | None], Entry[S]] = {}
        self._by_id: dict[str, Bucket[Entry[S]]] = {}
        self._places: Places[Entry[S]] = Places()
        self._always: Bucket[Entry[S]] = ()

    def __bool__(self) -> bool:
        return bool(self._entries)

    def add(self, selection: Selection, ids: frozenset[str] | None, subscriber: S) -> None:
        """Add a subscriber that is not there yet."""
        entry = self._entries.get((selection, ids))
        if entry is None:
            entry = self._entries[selection, ids] = Entry(selection, ids)
            self._insert(entry)
        entry.subscribers = added(entry.subscribers, subscriber)

    def remove(self, selection: Selection, ids: frozenset[str] | None, subscriber: S) -> None:
        """Take away a subscriber that is there."""
        entry = self._entries[selection, ids]
        entry.subscribers = removed(entry.subscribers, subscriber)
        if not entry.subscribers:
            del self._entries[selection, ids]
            self._take_out(entry)

    def _insert(self, entry: Entry[S]) -> None:
        predicates = entry.selection.condition.predicates
        if entry.ids is not None:
            for id_ in entry.ids:
                put(self._by_id, id_, entry)
        elif predicates is None:
            self._always = added(self._always, entry)
        else:
            for predicate in predicates:
                self._places.add(predicate, entry)

    def _take_out(self, entry: Entry[S]) -> None:
        predicates = entry.selection.condition.predicates
        if entry.ids is not None:
            for id_ in entry.ids:
                drop(self._by_id, id_, entry)
        elif predicates is None:
            self._always = removed(self._always, entry)
        else:
            for predicate in predicates:
                self._places.remove(predicate, entry)

    def candidates(self, change: Change, documents: Documents) -> Found[Entry[S]]:
        """The entries that may want a change; those that are not in it cannot."""
        found: Found[Entry[S]] = Found()
        if change.old is None or change.new is None:
            one, document = (found.new, documents.new) if change.old is None else (found.old, documents.old)
            if self._places:
                self._places.find(document(), one)
        else:
            one = found.both
            if self._places:
                self._places.find_both(documents.old(), documents.new(), documents.changed(), found)
        if self._by_id:
            one.update(self._by_id.get(change.id, ()))
        one.update(self._always)
        return found

    def wanting(self, change: Change, documents: Documents) -> Iterator[tuple[Entry[S], Match]]:
        """The entries that want a change, and what it is to them."""
        found = self.candidates(change, documents)
        if change.new is None:
            yield from ((entry, Match.REMOVE) for entry in found.old if _holds(entry, documents.old))
        elif change.old is None:
            yield from ((entry, Match.CREATE) for entry in found.new if _holds(entry, documents.new))
        else:
            yield from _updated(found, documents)


def _updated(found: Found[Entry[S]], documents: Documents) -> Iterator[tuple[Entry[S], Match]]:
    """
    What an update is to the entries that it has found.

    Whoever was found by one value only does not match the other. An answer that depends on nothing that changed holds for both.
    """
    old, new = documents.old, documents.new
    both = found.both
    if found.old or found.new:
        both |= found.old & found.new
        for entry in found.new - both:
            if entry.asks is None or entry.asks(new()):
                yield entry, Match.ENTER
        for entry in found.old - both:
            if entry.asks is None or entry.asks(old()):
                yield entry, Match.LEAVE
    for entry in both:
        asks = entry.asks
        if asks is None:
            yield entry, Match.UPDATE
        elif asks(new()):
            if entry.reads.isdisjoint(documents.changed()) or asks(old()):
                yield entry, Match.UPDATE
            else:
                yield entry, Match.ENTER
        elif not entry.reads.isdisjoint(documents.changed()) and asks(old()):
            yield entry, Match.LEAVE


def _holds(entry: Entry[S], document: Callable[[], Any]) -> bool:
    return entry.asks is None or entry.asks(document())
