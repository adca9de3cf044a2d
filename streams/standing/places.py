"""The stores of one place, and the places of a document by the property that they begin with."""

from __future__ import annotations

from typing import Any, Final, Generic, TypeVar

from streams.query.values import MISSING
from streams.standing.found import Found, Seen
from streams.standing.predicates import Absent, Element, Equals, Flag, Interval, Place, Predicate, Prefix, value_at
from streams.standing.stores import Prefixes, Ranges

E = TypeVar("E")

FEW: Final = 32  # properties of which going through all costs less than seeing which of them a document has


class PlaceStores(Generic[E]):
    """
    Entries by a predicate of the value at one place; absence apart, which no value has. A store that is empty is None.

    inner:  the stores of the places inside this one, by the steps that lead there.
    """

    __slots__ = ("_elements", "_equal", "_flags", "_numbers", "_prefixes", "_seen", "_texts", "inner")

    def __init__(self, *, remembers: bool) -> None:
        self._seen: Seen[E] | None = Seen() if remembers else None
        self._equal: dict[Any, E] = {}
        self._elements: dict[Any, E] | None = None
        self._flags: dict[bool, E] | None = None
        self._prefixes: Prefixes[E] | None = None
        self._numbers: Ranges[E] | None = None
        self._texts: Ranges[E] | None = None
        self.inner: dict[Place, PlaceStores[E]] | None = None

    def __bool__(self) -> bool:
        stores = (self._elements, self._flags, self._prefixes, self._numbers, self._texts, self.inner)
        return bool(self._equal) or any(store is not None for store in stores)

    def add(self, predicate: Predicate, entry: E) -> None:
        """Add an entry under a predicate under which there is none."""
        if self._seen is not None:
            self._seen.clear()
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
        if self._seen is not None:
            self._seen.clear()
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
        """Add to `found` every entry with a predicate that holds for a value, or for a value inside it."""
        kind = type(value)
        if kind is str or kind is int or kind is float:
            seen = self._seen
            if seen is None:
                self._find_scalar(value, kind is str, found)
            elif (known := seen.get(value)) is not None:
                found += known
            else:
                entries: list[E] = []
                self._find_scalar(value, kind is str, entries)
                seen.note(value, entries)
                found += entries
        elif kind is bool and self._flags is not None and value in self._flags:
            found.append(self._flags[value])
        if self._elements is not None:
            self._find_elements(value, found, self._elements)
        if self.inner is not None:
            for place, stores in self.inner.items():
                if (inside := value_at(place, value)) is not MISSING:
                    stores.find(inside, found)

    def _find_scalar(self, value: Any, is_text: bool, found: list[E]) -> None:
        entry = self._equal.get(value)
        if entry is not None:
            found.append(entry)
        if is_text:
            if self._prefixes is not None:
                self._prefixes.find(value, found)
            if self._texts is not None:
                self._texts.find(value, found)
        elif self._numbers is not None:
            self._numbers.find(value, found)

    def _find_elements(self, value: object, found: list[E], elements: dict[Any, E]) -> None:
        for item in value if isinstance(value, list) else (value,):
            kind = type(item)
            if (kind is str or kind is int or kind is float) and (entry := elements.get(item)) is not None:
                found.append(entry)


class Places(Generic[E]):
    """
    Entries by predicates of any place of a document.

    Args:  remembers: whether what was found for a value is kept, for the next one that is equal.
    """

    __slots__ = ("_absent", "_remembers", "_tops")

    def __init__(self, *, remembers: bool) -> None:
        self._remembers = remembers
        self._tops: dict[str, PlaceStores[E]] = {}
        self._absent: dict[Place, E] | None = None

    def __bool__(self) -> bool:
        return bool(self._tops or self._absent)

    def add(self, predicate: Predicate, entry: E) -> None:
        """Add an entry under a predicate under which there is none."""
        if isinstance(predicate, Absent):
            self._absent = self._absent or {}
            self._absent[predicate.place] = entry
            return
        name, *rest = predicate.place
        stores = self._tops.get(str(name))
        if stores is None:
            stores = self._tops[str(name)] = PlaceStores(remembers=self._remembers)
        if rest:
            stores.inner = stores.inner or {}
            if tuple(rest) not in stores.inner:
                stores.inner[tuple(rest)] = PlaceStores(remembers=self._remembers)
            stores = stores.inner[tuple(rest)]
        stores.add(predicate, entry)

    def remove(self, predicate: Predicate) -> None:
        """Take away what stands under a predicate."""
        if isinstance(predicate, Absent):
            if self._absent is not None:
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
            top.remove(predicate)
        if not top:
            del self._tops[str(name)]

    def find(self, document: dict[str, Any], found: list[E]) -> None:
        """Add to `found` every entry with a predicate that holds for a document."""
        tops = self._tops
        for name in tops if len(tops) <= FEW else tops.keys() & document.keys():
            if name in document:
                tops[name].find(document[name], found)
        if self._absent:
            self._find_absent(document, found, self._absent)

    def find_both(self, old: dict[str, Any], new: dict[str, Any], changed: set[str], found: Found[E]) -> None:
        """The same for an old and a new document whose properties differ in those named; what did not change is looked up once."""
        tops = self._tops
        for name in tops if len(tops) <= FEW else tops.keys() & (new.keys() | changed):
            if name not in changed:
                if name in new:
                    tops[name].find(new[name], found.both)
                continue
            if name in old:
                tops[name].find(old[name], found.old)
            if name in new:
                tops[name].find(new[name], found.new)
        if self._absent:
            self._find_absent(old, found.old, self._absent)
            self._find_absent(new, found.new, self._absent)

    def _find_absent(self, document: dict[str, Any], found: list[E], absent: dict[Place, E]) -> None:
        for place, entry in absent.items():
            if (value := value_at(place, document)) is None or value is MISSING:
                found.append(entry)
