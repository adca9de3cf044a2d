"""
Tests of the value at one place of a document that an index can look up; what they say of a value, the query language says too.

A query's necessary condition is made of them (conditions.py), and stores are keyed by them (stores.py). Immutable, equal by value.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from enum import Enum
from typing import Any, Literal, TypeAlias

import msgspec

from streams.query.ast import Each, Expression, Field, Flatten, Index, Number, Path, Step, Text
from streams.query.interpret import evaluate
from streams.query.printer import to_text
from streams.query.steps import Budget, OutOfStepsError
from streams.query.values import MISSING, is_number


class Many(Enum):
    """The steps of a place that lead to several values."""

    EACH = "[*]"
    FLATTEN = "[]"


Place: TypeAlias = tuple[str | int | Many, ...]
"""A path from the document: names, positions, and steps to all elements; never empty, the first is a name."""

Scalar: TypeAlias = str | int | float
Kind: TypeAlias = Literal["number", "text"]


class Equals(msgspec.Struct, frozen=True, gc=False):
    """A number or a string; numbers by value, so that 31 is 31.0 and no digit of a large one is lost."""

    place: Place
    value: Scalar

    def holds(self, found: object) -> bool:
        return _same_kind(found, self.value) and found == self.value

    def text(self) -> str:
        return f"{place_text(self.place)} = {_literal(self.value)}"


class Flag(msgspec.Struct, frozen=True, gc=False):
    """True or false; apart from Equals, because Python takes True for 1."""

    place: Place
    value: bool

    def holds(self, found: object) -> bool:
        return found is self.value

    def text(self) -> str:
        return f"{place_text(self.place)} = {str(self.value).lower()}"


class Element(msgspec.Struct, frozen=True, gc=False):
    """An array with such an element; a value that is no array counts as an array of one, as it does for IN."""

    place: Place
    value: Scalar

    def holds(self, found: object) -> bool:
        return any(_same_kind(item, self.value) and item == self.value for item in (found if isinstance(found, list) else [found]))

    def text(self) -> str:
        return f"{_literal(self.value)} IN {place_text(self.place)}"


class Prefix(msgspec.Struct, frozen=True, gc=False):
    """A string that begins so."""

    place: Place
    prefix: str

    def holds(self, found: object) -> bool:
        return isinstance(found, str) and found.startswith(self.prefix)

    def text(self) -> str:
        return f"starts_with({place_text(self.place)}, {_literal(self.prefix)})"


class Interval(msgspec.Struct, frozen=True, gc=False):
    """
    A number or a string between two bounds; a bound that is None is no bound, and an open one is not part of it.

    Strings are ordered by code point. Without any bound it is every number, or every string.
    """

    place: Place
    kind: Kind
    low: Scalar | None = None
    high: Scalar | None = None
    low_open: bool = False
    high_open: bool = False

    def holds(self, found: object) -> bool:
        if not (is_number(found) if self.kind == "number" else isinstance(found, str)):
            return False
        above = self.low is None or (found > self.low if self.low_open else found >= self.low)  # type: ignore[operator]  # of one kind
        below = self.high is None or (found < self.high if self.high_open else found <= self.high)  # type: ignore[operator]  # the same
        return above and below

    def text(self) -> str:
        place = place_text(self.place)
        parts = [f"{place} {'>' if self.low_open else '>='} {_literal(self.low)}"] if self.low is not None else []
        parts += [f"{place} {'<' if self.high_open else '<='} {_literal(self.high)}"] if self.high is not None else []
        return " AND ".join(parts) or f"is_{'number' if self.kind == 'number' else 'string'}({place})"


class Absent(msgspec.Struct, frozen=True, gc=False):
    """Null, or nothing at all."""

    place: Place

    def holds(self, found: object) -> bool:
        return found is None or found is MISSING

    def text(self) -> str:
        return f"{place_text(self.place)} IS UNKNOWN"


Predicate: TypeAlias = Equals | Flag | Element | Prefix | Interval | Absent

_EQUALITY, _CHOICE, _PREFIX, _RANGE, _HALF, _ABSENT, _TYPE = range(7)


def rank(predicates: tuple[Predicate, ...]) -> tuple[int, int]:
    """
    How much a disjunction is expected to let through; the least is the best. Fixed, so that the same query is always found by the same.

    Equality, several equalities, prefix, range, half range, absence, any value of a type. A boolean has two values only: it counts
    as half a range. A disjunction is as good as its worst part.
    """
    worst = max(map(_rank, predicates), default=_EQUALITY)
    return (_CHOICE if worst == _EQUALITY and len(predicates) > 1 else worst, len(predicates))


def _rank(predicate: Predicate) -> int:
    match predicate:
        case Equals() | Element():
            return _EQUALITY
        case Prefix():
            return _PREFIX
        case Absent():
            return _ABSENT
        case Flag():
            return _HALF
        case Interval():
            bounds = (predicate.low is not None) + (predicate.high is not None)
            return (_TYPE, _HALF, _RANGE)[bounds]


def intersection(one: Interval, other: Interval) -> Interval | None:
    """What lies in both intervals of one place and kind; None if nothing does."""
    low, low_open = _tighter((one.low, one.low_open), (other.low, other.low_open), max)
    high, high_open = _tighter((one.high, one.high_open), (other.high, other.high_open), min)
    if low is not None and high is not None and (low > high or (low == high and (low_open or high_open))):  # type: ignore[operator]
        return None
    return Interval(one.place, one.kind, low, high, low_open, high_open)


_Bound: TypeAlias = tuple[Scalar | None, bool]


def _tighter(one: _Bound, other: _Bound, choose: Callable[..., Any]) -> _Bound:
    """The narrower of two bounds of one side, each with whether it is open."""
    if one[0] is None or other[0] is None:
        return other if one[0] is None else one
    if one[0] == other[0]:
        return one[0], one[1] or other[1]
    return one if choose(one[0], other[0]) == one[0] else other


def place_of(path: Path) -> Place | None:
    """The place that a path leads to; None where it begins at no property of the document, or has a filter."""
    if path.base is not None or not isinstance(path.steps[0], Field):
        return None
    place = tuple(map(_place_step, path.steps))
    return None if None in place else place  # type: ignore[return-value]  # None has just been ruled out


def _place_step(step: Step) -> str | int | Many | None:
    match step:
        case Field(name):
            return sys.intern(name)
        case Index(position):
            return position
        case Each():
            return Many.EACH
        case Flatten():
            return Many.FLATTEN
    return None


def steps_of(place: Place) -> tuple[Step, ...]:
    """The steps of a place, or of the end of one, as the query language has them."""
    many: dict[Many, Step] = {Many.EACH: Each(), Many.FLATTEN: Flatten()}
    return tuple(many[step] if isinstance(step, Many) else Field(step) if isinstance(step, str) else Index(step) for step in place)


def value_at(place: Place, document: object) -> object:
    """The value at a place of a document, or at the end of a place from the value at its beginning; MISSING if there is none."""
    try:
        return evaluate(Path(None, steps_of(place)), document, Budget())
    except OutOfStepsError:  # then so is every query that goes there
        return MISSING


def place_text(place: Place) -> str:
    """A place as the query language writes it."""
    return to_text(Path(None, steps_of(place)))


def _same_kind(found: object, value: Scalar) -> bool:
    return isinstance(found, str) if isinstance(value, str) else is_number(found)


def _literal(value: Scalar) -> str:
    node: Expression = Text(value) if isinstance(value, str) else Number(value)
    return to_text(node)
