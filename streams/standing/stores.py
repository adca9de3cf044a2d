"""
Stores of predicates of one place: given a value, what stands under each predicate that holds for it, and nothing else.

Under a predicate stands one entry (levels.py sees to that). Each store is exact, and takes an addition or a removal in microseconds
whatever it holds:

    equality   a dict
    prefixes   dicts too, one a length: asked for the beginnings of the string of the lengths that there are
    half       sorted bounds: those that hold are all before, or all behind, the place of the value
    ranges     a grid: an interval stands in the two to five cells of a quarter to half its length that it touches, one grid a power of
               two; a value looks at one cell a grid, and is compared with the bounds of what it finds there
"""

from __future__ import annotations

import math
import sys
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable
from typing import Any, Final, Generic, TypeVar

from streams.standing.buckets import Bucket, added, removed
from streams.standing.predicates import Interval, Kind

E = TypeVar("E")

TEXT_BYTES: Final = 32  # of a string that its cell depends on
EXPONENT_MIN: Final = -1_000  # of the width of a cell: far above where floats get coarse


class Prefixes(Generic[E]):
    """Entries by the beginning of a string."""

    __slots__ = ("_by_length",)

    def __init__(self) -> None:
        self._by_length: dict[int, dict[str, E]] = {}  # lengths ascending

    def __bool__(self) -> bool:
        return bool(self._by_length)

    def add(self, prefix: str, entry: E) -> None:
        length = len(prefix)
        if length not in self._by_length:
            self._by_length[length] = {}
            self._by_length = dict(sorted(self._by_length.items()))
        self._by_length[length][prefix] = entry

    def remove(self, prefix: str) -> None:
        entries = self._by_length[len(prefix)]
        del entries[prefix]
        if not entries:
            del self._by_length[len(prefix)]

    def find(self, text: str, found: list[E]) -> None:
        size = len(text)
        for length, entries in self._by_length.items():
            if length > size:
                break
            entry = entries.get(text[:length])
            if entry is not None:
                found.append(entry)


class Halves(Generic[E]):
    """Entries by one bound, all on the same side of it, in the order of the bounds."""

    __slots__ = ("bounds", "entries")

    def __init__(self) -> None:
        self.bounds: list[Any] = []  # numbers or strings, never both
        self.entries: list[E] = []

    def add(self, bound: object, entry: E) -> None:
        place = bisect_left(self.bounds, bound)
        self.bounds.insert(place, bound)
        self.entries.insert(place, entry)

    def remove(self, bound: object) -> None:
        place = bisect_left(self.bounds, bound)
        del self.bounds[place], self.entries[place]


class _Node(Generic[E]):
    """One interval in the grid; `excluded` holds the bounds that are open."""

    __slots__ = ("entry", "excluded", "high", "low")

    def __init__(self, interval: Interval, entry: E) -> None:
        self.low: Any = interval.low
        self.high: Any = interval.high
        self.excluded = (interval.low,) * interval.low_open + (interval.high,) * interval.high_open
        self.entry = entry


class Grid(Generic[E]):
    """
    Entries by an interval with two bounds.

    Args:  number: a value as a number, so that no two values change their order.
    """

    __slots__ = ("_grids", "_nodes", "_number")

    def __init__(self, number: Callable[[Any], int | float]) -> None:
        self._number = number
        self._grids: dict[int | float, dict[int | float, Bucket[_Node[E]]]] = {}  # width of a cell -> number of the cell
        self._nodes: dict[Interval, _Node[E]] = {}

    def __bool__(self) -> bool:
        return bool(self._nodes)

    def add(self, interval: Interval, entry: E) -> None:
        node = self._nodes[interval] = _Node(interval, entry)
        width, numbers = self._cells(interval)
        cells = self._grids.setdefault(width, {})
        for number in numbers:
            cells[number] = added(cells.get(number, ()), node)

    def remove(self, interval: Interval) -> None:
        node = self._nodes.pop(interval)
        width, numbers = self._cells(interval)
        cells = self._grids[width]
        for number in numbers:
            cells[number] = removed(cells[number], node)
            if not cells[number]:
                del cells[number]
        if not cells:
            del self._grids[width]

    def find(self, value: Any, found: list[E]) -> None:
        number = self._number(value)
        for width, cells in self._grids.items():
            if nodes := cells.get(number // width):
                found += [node.entry for node in nodes if node.low <= value <= node.high and value not in node.excluded]

    def _cells(self, interval: Interval) -> tuple[int | float, Iterable[int]]:
        """The width of the cells that an interval is kept in, and the numbers of those that it touches."""
        low, high = self._number(interval.low), self._number(interval.high)
        width = _width(high - low)
        return width, range(int(low // width), int(high // width) + 1)


def _width(length: int | float) -> int | float:
    """A power of two; the length is two to four times it."""
    if not length:
        return 1
    if isinstance(length, int):
        return 1 << max(length.bit_length() - 2, 0)
    exponent = math.frexp(min(length, sys.float_info.max))[1]
    return math.ldexp(1.0, max(exponent - 2, EXPONENT_MIN))


def number_of_number(value: int | float) -> float:
    """A float near a number; one that is too large becomes the largest there is."""
    try:
        return float(value)
    except OverflowError:
        return sys.float_info.max if value > 0 else -sys.float_info.max


def number_of_text(value: str) -> int:
    """The first bytes of a string in UTF-8 as a number: UTF-8 is ordered as its code points are."""
    return int.from_bytes(value[:TEXT_BYTES].encode("utf-8", "surrogatepass")[:TEXT_BYTES].ljust(TEXT_BYTES, b"\0"), "big")


class Ranges(Generic[E]):
    """Entries by intervals of one kind: with two bounds, one or none."""

    __slots__ = ("_all", "_at_least", "_at_most", "_below", "_grid", "_over")

    def __init__(self, kind: Kind) -> None:
        self._all: E | None = None
        self._at_least: Halves[E] = Halves()
        self._over: Halves[E] = Halves()
        self._at_most: Halves[E] = Halves()
        self._below: Halves[E] = Halves()
        self._grid: Grid[E] = Grid(number_of_number if kind == "number" else number_of_text)

    def __bool__(self) -> bool:
        halves = (self._at_least, self._over, self._at_most, self._below)
        return self._all is not None or bool(self._grid) or any(half.bounds for half in halves)

    def add(self, interval: Interval, entry: E) -> None:
        if interval.low is not None and interval.high is not None:
            self._grid.add(interval, entry)
        elif interval.low is not None:
            (self._over if interval.low_open else self._at_least).add(interval.low, entry)
        elif interval.high is not None:
            (self._below if interval.high_open else self._at_most).add(interval.high, entry)
        else:
            self._all = entry

    def remove(self, interval: Interval) -> None:
        if interval.low is not None and interval.high is not None:
            self._grid.remove(interval)
        elif interval.low is not None:
            (self._over if interval.low_open else self._at_least).remove(interval.low)
        elif interval.high is not None:
            (self._below if interval.high_open else self._at_most).remove(interval.high)
        else:
            self._all = None

    def find(self, value: Any, found: list[E]) -> None:
        if self._grid._nodes:
            self._grid.find(value, found)
        if (half := self._at_least).bounds:
            found += half.entries[: bisect_right(half.bounds, value)]
        if (half := self._over).bounds:
            found += half.entries[: bisect_left(half.bounds, value)]
        if (half := self._at_most).bounds:
            found += half.entries[bisect_left(half.bounds, value) :]
        if (half := self._below).bounds:
            found += half.entries[bisect_right(half.bounds, value) :]
        if self._all is not None:
            found.append(self._all)
