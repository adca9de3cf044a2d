"""The stores of one place, and the places of a document by the property that they begin with."""

from __future__ import annotations

from typing import Any, Generic, TypeVar

from streams.query.values import MISSING
from streams.standing.predicates import Absent, Element, Equals, Flag, Interval, Place, Predicate, Prefix, value_at
from streams.standing.stores import Prefixes, Ranges

E = TypeVar("E")


class Found(Generic[E]):
    """What a change has found: by its old value, by its new one, by what is the same in both. An entry may be in several, or twice."""

    __slots__ = ("both", "new", "old")

    def __init__(self) -> None:
        self.both: list[E] = []
        self.new: list[E] = []
        self.old: list[E] = []


class PlaceStores(Generic[E]):
    """Entries by a predicate of the value at one place; absence apart, which no value has. A store that is empty is None."""

    __slots__ = ("_elements", "_equal", "_flags", "_numbers", "_prefixes", "_texts")

    def __init__(self) -> None:
        self._equal: dict[Any, E] = {}
        self._elements: dict[Any, E] | None = None
        self._flags: dict[bool, E] | None = None
        self._prefixes: Prefixes[E] | None = None
        self._numbers: Ranges[E] | None = None
        self._texts: Ranges[E] | None = None

    def __bool__(self) -> bool:
        return bool(self._equal) or any(
            store is not None for store in (self._elements, self._flags, self._prefixes, self._numbers, self._texts)
        )

    def add(self, predicate: Predicate, entry: E) -> None:
        """Add an entry under a predicate under which there is none."""
        match predicate:
            case Equals(_, value):
                self._equal[value] = entry
            case Element(_, value):
                self._elements = self._elements or {}
                self._elements[value] = entry
            case Flag(_, flag):
                self._flags = self._flags or {}
                self._flags[flag] = entry
            case Prefix(_, prefix):
                self._prefixes = self._prefixes or Prefixes()
                self._prefixes.add(prefix, entry)
            case Interval(_, "number"):
                self._numbers = self._numbers or Ranges("number")
                self._numbers.add(predicate, entry)
            case Interval():
                self._texts = self._texts or Ranges("text")
                self._texts.add(predicate, entry)

    def remove(self, predicate: Predicate) -> None:
        """Take away what stands under a predicate."""
        match predicate:
            case Equals(_, value):
                del self._equal[value]
            case Element(_, value) if self._elements is not None:
                del self._elements[value]
                self._elements = self._elements or None
            case Flag(_, flag) if self._flags is not None:
                del self._flags[flag]
                self._flags = self._flags or None
            case Prefix(_, prefix) if self._prefixes is not None:
                self._prefixes.remove(prefix)
                self._prefixes = self._prefixes or None
            case Interval(_, "number") if self._numbers is not None:
                self._numbers.remove(predicate)
                self._numbers = self._numbers or None
            case Interval() if self._texts is not None:
                self._texts.remove(predicate)
                self._texts = self._texts or None

    def find(self, value: Any, found: list[E]) -> None:
        """Add to `found` every entry with a predicate that holds for a value."""
        kind = type(value)
        if kind is str:
            entry = self._equal.get(value)
            if entry is not None:
                found.append(entry)
            if self._prefixes is not None:
                self._prefixes.find(value, found)
            if self._texts is not None:
                self._texts.find(value, found)
        elif kind is int or kind is float:
            entry = self._equal.get(value)
            if entry is not None:
                found.append(entry)
            if self._numbers is not None:
                self._numbers.find(value, found)
        elif kind is bool and self._flags is not None and value in self._flags:
            found.append(self._flags[value])
        if self._elements is not None:
            self._find_elements(value, found, self._elements)

    def _find_elements(self, value: object, found: list[E], elements: dict[Any, E]) -> None:
        for item in value if isinstance(value, list) else (value,):
            kind = type(item)
            if (kind is str or kind is int or kind is float) and (entry := elements.get(item)) is not None:
                found.append(entry)


class _Top(Generic[E]):
    """The stores of one property of the document: its own, and those of the places inside it, by the steps that lead there."""

    __slots__ = ("inner", "own")

    def __init__(self) -> None:
        self.own: PlaceStores[E] = PlaceStores()
        self.inner: dict[Place, PlaceStores[E]] | None = None

    def find(self, value: object, found: list[E]) -> None:
        self.own.find(value, found)
        if self.inner is not None:
            for place, stores in self.inner.items():
                inside = value_at(place, value)
                if inside is not MISSING:
                    stores.find(inside, found)


class Places(Generic[E]):
    """Entries by predicates of any place of a document."""

    __slots__ = ("_absent", "_tops")

    def __init__(self) -> None:
        self._tops: dict[str, _Top[E]] = {}
        self._absent: dict[Place, E] = {}

    def __bool__(self) -> bool:
        return bool(self._tops or self._absent)

    def add(self, predicate: Predicate, entry: E) -> None:
        """Add an entry under a predicate under which there is none."""
        if isinstance(predicate, Absent):
            self._absent[predicate.place] = entry
            return
        name, *rest = predicate.place
        top = self._tops.setdefault(str(name), _Top())
        stores = top.own
        if rest:
            top.inner = {} if top.inner is None else top.inner
            stores = top.inner.setdefault(tuple(rest), PlaceStores())
        stores.add(predicate, entry)

    def remove(self, predicate: Predicate) -> None:
        """Take away what stands under a predicate."""
        if isinstance(predicate, Absent):
            del self._absent[predicate.place]
            return
        name, *rest = predicate.place
        top, inner = self._tops[str(name)], tuple(rest)
        if inner and top.inner is not None:
            top.inner[inner].remove(predicate)
            if not top.inner[inner]:
                del top.inner[inner]
            top.inner = top.inner or None
        else:
            top.own.remove(predicate)
        if top.inner is None and not top.own:
            del self._tops[str(name)]

    def find(self, document: dict[str, Any], found: list[E]) -> None:
        """Add to `found` every entry with a predicate that holds for a document."""
        tops = self._tops
        for name in tops if len(tops) < len(document) else tops.keys() & document.keys():
            if name in document:
                tops[name].find(document[name], found)
        for place, entry in self._absent.items():
            if (value := value_at(place, document)) is None or value is MISSING:
                found.append(entry)

    def find_both(self, old: dict[str, Any], new: dict[str, Any], changed: set[str], found: Found[E]) -> None:
        """The same for an old and a new document whose properties differ in those named; what did not change is looked up once."""
        tops = self._tops
        for name in tops if len(tops) < len(new) + len(changed) else tops.keys() & (new.keys() | changed):
            if name not in changed:
                if name in new:
                    tops[name].find(new[name], found.both)
                continue
            top = tops[name]
            if name in old:
                top.find(old[name], found.old)
            if name in new:
                top.find(new[name], found.new)
        for place, entry in self._absent.items():
            for document, side in ((old, found.old), (new, found.new)):
                if (value := value_at(place, document)) is None or value is MISSING:
                    side.append(entry)
