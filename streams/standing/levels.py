"""
Queries by one predicate of their condition, and where many share one, by the next.

`dest = 'ATL' AND depDelay > 120` stands under `dest = 'ATL'`. When more than a few do, those are told apart by what must hold as well, in a
level of their own: otherwise every flight to Atlanta would ask all who watch Atlanta.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any, Generic, TypeVar

from streams.standing.buckets import Bucket, added, removed
from streams.standing.conditions import Condition
from streams.standing.found import Found
from streams.standing.places import Places
from streams.standing.predicates import Predicate

E = TypeVar("E", bound=Hashable)

TOGETHER_MAX = 8  # entries under one predicate that are not told apart: asking them costs less than another level


class Level(Generic[E]):
    """Entries by the branches of their conditions."""

    __slots__ = ("_nodes", "_places")

    def __init__(self, *, remembers: bool = False) -> None:
        self._nodes: dict[Predicate, _Node[E]] = {}
        self._places: Places[_Node[E]] = Places(remembers=remembers)

    def __bool__(self) -> bool:
        return bool(self._nodes)

    def add(self, condition: Condition, entry: E) -> None:
        """Add an entry under a condition that has branches; it is not there yet."""
        for predicate, then in _by_predicate(condition).items():
            node = self._nodes.get(predicate)
            if node is None:
                node = self._nodes[predicate] = _Node()
                self._places.add(predicate, node)
            node.add(then, entry)

    def remove(self, condition: Condition, entry: E) -> None:
        """Take an entry away from the condition under which it is there."""
        for predicate, then in _by_predicate(condition).items():
            node = self._nodes[predicate]
            node.remove(then, entry)
            if not node:
                del self._nodes[predicate]
                self._places.remove(predicate)

    def find(self, document: dict[str, Any], found: list[E]) -> None:
        """Add to `found` every entry whose condition holds for a document, and perhaps some more."""
        nodes: list[_Node[E]] = []
        self._places.find(document, nodes)
        _open(nodes, document, found)

    def find_both(self, old: dict[str, Any], new: dict[str, Any], changed: set[str], found: Found[E]) -> None:
        """The same for an old and a new document whose properties differ in those named."""
        nodes: Found[_Node[E]] = Found()
        self._places.find_both(old, new, changed, nodes)
        for node in nodes.both:
            found.both += node.entries
            if node.inside is not None:
                node.inside.find_both(old, new, changed, found)
        if nodes.old:
            _open(nodes.old, old, found.old)
        if nodes.new:
            _open(nodes.new, new, found.new)


def _open(nodes: list[_Node[E]], document: dict[str, Any], found: list[E]) -> None:
    """What stands in nodes whose predicates hold for a document."""
    for node in nodes:
        found += node.entries
        if node.inside is not None:
            node.inside.find(document, found)


class _Node(Generic[E]):
    """
    The entries of one predicate.

    entries:  all of them with, in ``thens``, what must hold as well; once there is an ``inside``, those of which nothing more is known.
    """

    __slots__ = ("entries", "inside", "thens")

    def __init__(self) -> None:
        self.entries: Bucket[E] = ()
        self.thens: tuple[Condition | None, ...] = ()
        self.inside: Level[E] | None = None

    def __bool__(self) -> bool:
        return bool(self.entries or self.inside)

    def add(self, then: Condition | None, entry: E) -> None:
        if self.inside is not None:
            self._put(then, entry, self.inside)
        elif len(self.entries) < TOGETHER_MAX:
            self.entries, self.thens = (*self.entries, entry), (*self.thens, then)
        else:
            before = [*zip(self.thens, self.entries, strict=True), (then, entry)]
            self.entries, self.thens, self.inside = (), (), Level()
            for each_then, each in before:
                self._put(each_then, each, self.inside)

    def _put(self, then: Condition | None, entry: E, inside: Level[E]) -> None:
        if then is None:
            self.entries = added(self.entries, entry)
        else:
            inside.add(then, entry)

    def remove(self, then: Condition | None, entry: E) -> None:
        """Entries stay told apart until none is left."""
        if self.inside is None:
            kept = [pair for pair in zip(self.entries, self.thens, strict=True) if pair[0] is not entry]
            self.entries, self.thens = tuple(one for one, _ in kept), tuple(its for _, its in kept)
        elif then is None:
            self.entries = removed(self.entries, entry)
        else:
            self.inside.remove(then, entry)


def _by_predicate(condition: Condition) -> dict[Predicate, Condition | None]:
    """What must hold behind each first predicate; nothing is known where several branches begin with one."""
    found: dict[Predicate, Condition | None] = {}
    for branch in condition.branches or ():
        found[branch.predicate] = None if branch.predicate in found else branch.then
    return found
