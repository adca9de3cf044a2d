"""The stores of one place, and the places of one collection by the property that they begin with."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any, Generic, TypeVar

from streams.query.values import MISSING
from streams.standing.predicates import Absent, Element, Equals, Flag, Interval, Place, Predicate, Prefix, value_at
from streams.standing.stores import Bucket, Prefixes, Ranges, added, drop, put, removed

E = TypeVar("E", bound=Hashable)


class PlaceStores(Generic[E]):
    """Entries by a predicate of the value at one place; absence apart, which no value has."""

    __slots__ = ("_elements", "_equal", "_false", "_numbers", "_prefixes", "_texts", "_true")

    def __init__(self) -> None:
        self._equal: dict[Any, Bucket[E]] = {}
        self._elements: dict[Any, Bucket[E]] = {}
        self._true: Bucket[E] = ()
        self._false: Bucket[E] = ()
        self._prefixes: Prefixes[E] = Prefixes()
        self._numbers: Ranges[E] = Ranges("number")
        self._texts: Ranges[E] = Ranges("text")

    def __bool__(self) -> bool:
        return any((self._equal, self._elements, self._true, self._false, self._prefixes, self._numbers, self._texts))

    def add(self, predicate: Predicate, entry: E) -> None:
        """Add an entry under a predicate under which it is not there."""
        match predicate:
            case Equals(_, value):
                put(self._equal, value, entry)
            case Element(_, value):
                put(self._elements, value, entry)
            case Flag(_, True):
                self._true = added(self._true, entry)
            case Flag():
                self._false = added(self._false, entry)
            case Prefix(_, prefix):
                self._prefixes.add(prefix, entry)
            case Interval():
                self._ranges(predicate).add(predicate, entry)

    def remove(self, predicate: Predicate, entry: E) -> None:
        """Take an entry away from a predicate under which it is there."""
        match predicate:
            case Equals(_, value):
                drop(self._equal, value, entry)
            case Element(_, value):
                drop(self._elements, value, entry)
            case Flag(_, True):
                self._true = removed(self._true, entry)
            case Flag():
                self._false = removed(self._false, entry)
            case Prefix(_, prefix):
                self._prefixes.remove(prefix, entry)
            case Interval():
                self._ranges(predicate).remove(predicate, entry)

    def find(self, value: object, found: set[E]) -> None:
        """Add to `found` every entry with a predicate that holds for a value."""
        kind = type(value)
        if kind is str:
            if bucket := self._equal.get(value):
                found.update(bucket)
            if self._prefixes:
                self._prefixes.find(value, found)  # type: ignore[arg-type]  # it is a string
            if self._texts:
                self._texts.find(value, found)
        elif kind is int or kind is float:
            if bucket := self._equal.get(value):
                found.update(bucket)
            if self._numbers:
                self._numbers.find(value, found)
        elif kind is bool:
            found.update(self._true if value else self._false)
        if self._elements:
            self._find_elements(value, found)

    def _find_elements(self, value: object, found: set[E]) -> None:
        for item in value if isinstance(value, list) else (value,):
            kind = type(item)
            if (kind is str or kind is int or kind is float) and (bucket := self._elements.get(item)):
                found.update(bucket)

    def _ranges(self, interval: Interval) -> Ranges[E]:
        return self._numbers if interval.kind == "number" else self._texts


class _Top(Generic[E]):
    """The stores of one property of the document: its own, and those of the places inside it."""

    __slots__ = ("inner", "own")

    def __init__(self) -> None:
        self.own: PlaceStores[E] = PlaceStores()
        self.inner: dict[Place, PlaceStores[E]] = {}  # by the steps after the property

    def find(self, value: object, found: set[E]) -> None:
        self.own.find(value, found)
        for place, stores in self.inner.items():
            inside = value_at(place, value)
            if inside is not MISSING:
                stores.find(inside, found)


class Places(Generic[E]):
    """Entries by predicates of any place of a document."""

    __slots__ = ("_absent", "_tops")

    def __init__(self) -> None:
        self._tops: dict[str, _Top[E]] = {}
        self._absent: dict[Place, Bucket[E]] = {}

    def __bool__(self) -> bool:
        return bool(self._tops or self._absent)

    def add(self, predicate: Predicate, entry: E) -> None:
        """Add an entry under a predicate under which it is not there."""
        if isinstance(predicate, Absent):
            put(self._absent, predicate.place, entry)
            return
        name, *rest = predicate.place
        top = self._tops.setdefault(str(name), _Top())
        (top.inner.setdefault(tuple(rest), PlaceStores()) if rest else top.own).add(predicate, entry)

    def remove(self, predicate: Predicate, entry: E) -> None:
        """Take an entry away from a predicate under which it is there."""
        if isinstance(predicate, Absent):
            drop(self._absent, predicate.place, entry)
            return
        name, *rest = predicate.place
        top, inner = self._tops[str(name)], tuple(rest)
        stores = top.inner[inner] if rest else top.own
        stores.remove(predicate, entry)
        if rest and not stores:
            del top.inner[inner]
        if not top.inner and not top.own:
            del self._tops[str(name)]

    def find(self, document: dict[str, Any], found: set[E]) -> None:
        """Add to `found` every entry with a predicate that holds for a document."""
        for name in self._tops.keys() & document.keys():  # as many steps as the smaller has
            self._tops[name].find(document[name], found)
        for place, bucket in self._absent.items():
            if (value := value_at(place, document)) is None or value is MISSING:
                found.update(bucket)

    def find_both(self, old: dict[str, Any], new: dict[str, Any], changed: set[str], found: Found[E]) -> None:
        """The same for an old and a new document whose properties differ in those named; what did not change is looked up once."""
        tops = self._tops
        for name in tops.keys() & new.keys():
            if name not in changed:
                tops[name].find(new[name], found.both)
        for name in tops.keys() & changed:
            if name in old:
                tops[name].find(old[name], found.old)
            if name in new:
                tops[name].find(new[name], found.new)
        for place, bucket in self._absent.items():
            for document, side in ((old, found.old), (new, found.new)):
                if (value := value_at(place, document)) is None or value is MISSING:
                    side.update(bucket)


class Found(Generic[E]):
    """What a change has found: by its old value, by its new one, by what is the same in both. An entry may be in several."""

    __slots__ = ("both", "new", "old")

    def __init__(self) -> None:
        self.both: set[E] = set()
        self.new: set[E] = set()
        self.old: set[E] = set()
