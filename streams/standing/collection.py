"""The queries that watch one collection: who may want a change, and what it is to them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any, Generic, TypeVar

from schemas.changes import Change
from schemas.deliveries import Match
from streams.standing.buckets import Bucket, added, removed
from streams.standing.documents import Documents
from streams.standing.found import Found
from streams.standing.levels import Level
from streams.standing.selection import Selection

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

    An entry stands under its document ids if it names any; else under its condition; else it is asked always.
    """

    def __init__(self) -> None:
        self._entries: dict[tuple[Selection, frozenset[str] | None], Entry[S]] = {}
        self._by_id: dict[str, Bucket[Entry[S]]] = {}
        self._level: Level[Entry[S]] = Level(remembers=True)
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
        condition = entry.selection.condition
        if entry.ids is not None:
            for id_ in entry.ids:
                self._by_id[id_] = added(self._by_id.get(id_, ()), entry)
        elif condition.branches is None:
            self._always = added(self._always, entry)
        else:
            self._level.add(condition, entry)

    def _take_out(self, entry: Entry[S]) -> None:
        condition = entry.selection.condition
        if entry.ids is not None:
            for id_ in entry.ids:
                self._by_id[id_] = removed(self._by_id[id_], entry)
                if not self._by_id[id_]:
                    del self._by_id[id_]
        elif condition.branches is None:
            self._always = removed(self._always, entry)
        else:
            self._level.remove(condition, entry)

    def candidates(self, change: Change, documents: Documents) -> Found[Entry[S]]:
        """The entries that may want a change; those that are not in it cannot."""
        found: Found[Entry[S]] = Found()
        if change.old is None or change.new is None:
            one, document = (found.new, documents.new) if change.old is None else (found.old, documents.old)
            if self._level:
                self._level.find(document(), one)
        else:
            one = found.both
            if self._level:
                self._level.find_both(documents.old(), documents.new(), documents.changed(), found)
        one += self._by_id.get(change.id, ())
        one += self._always
        return found

    def wanting(self, change: Change, documents: Documents) -> Sequence[tuple[Match, Sequence[Entry[S]]]]:
        """What the change is to whom: the entries that want it, each once."""
        found = self.candidates(change, documents)
        if change.new is None:
            return ((Match.REMOVE, _holding(found.old, documents.old)),)
        if change.old is None:
            return ((Match.CREATE, _holding(found.new, documents.new)),)
        return _updated(found, documents)


def _updated(found: Found[Entry[S]], documents: Documents) -> Sequence[tuple[Match, Sequence[Entry[S]]]]:
    """
    What an update is to the entries that it has found.

    Whoever was found by one value only does not match the other. An answer that depends on nothing that changed holds for both.
    """
    both = dict.fromkeys(found.both)
    enters: list[Entry[S]] = []
    leaves: list[Entry[S]] = []
    if found.old or found.new:
        by_old, by_new = dict.fromkeys(found.old), dict.fromkeys(found.new)
        both |= dict.fromkeys(entry for entry in by_old if entry in by_new)
        enters = _holding([entry for entry in by_new if entry not in both], documents.new)
        leaves = _holding([entry for entry in by_old if entry not in both], documents.old)
    updates: list[Entry[S]] = []
    if both:
        _updated_by_both(both, documents, updates, enters, leaves)
    return (Match.UPDATE, updates), (Match.ENTER, enters), (Match.LEAVE, leaves)


def _updated_by_both(
    both: Iterable[Entry[S]], documents: Documents, updates: list[Entry[S]], enters: list[Entry[S]], leaves: list[Entry[S]]
) -> None:
    old, new, changed = documents.old(), documents.new(), documents.changed()
    for entry in both:
        asks = entry.asks
        if asks is None:
            updates.append(entry)
        elif asks(new):
            (updates if entry.reads.isdisjoint(changed) or asks(old) else enters).append(entry)
        elif not entry.reads.isdisjoint(changed) and asks(old):
            leaves.append(entry)


def _holding(entries: Collection[Entry[S]], decoded: Callable[[], Any]) -> list[Entry[S]]:
    """Those whose query matches a document, each once."""
    if not entries:
        return []
    document = decoded()
    return [entry for entry in dict.fromkeys(entries) if (asks := entry.asks) is None or asks(document)]
