"""
Stores of predicates of one place: given a value, the entries whose predicate holds for it, and no others.

Each is exact and takes an addition or a removal in microseconds whatever it holds:

    equality   a dict
    prefixes   a dict too; it is asked for the beginnings of the string, of the lengths that there are
    half       sorted bounds: those that hold are all before, or all after, the place of the value
    ranges     a grid: an interval lies in the two to five cells of a quarter to half its length that it touches, one grid a power of two;
               a value looks at one cell a grid, and compares the bounds of what it finds there
"""

from __future__ import annotations

import math
import sys
from bisect import bisect_left, bisect_right, insort
from collections.abc import Callable, Hashable, Iterable, MutableMapping
from typing import Any, Final, Generic, TypeAlias, TypeVar

from streams.standing.predicates import Interval, Kind

E = TypeVar("E", bound=Hashable)
K = TypeVar("K", bound=Hashable)

Bucket: TypeAlias = tuple[E, ...] | set[E]
"""A few in a tuple, which is small; more in a set, which is quick to change."""

TUPLE_MAX: Final = 8
TEXT_BYTES: Final = 32  # of a string that its cell depends on
EXPONENT_MIN: Final = -1_000  # of the width of a cell: far above where floats get coarse


def added(bucket: Bucket[E], entry: E) -> Bucket[E]:
    """The bucket with an entry that was not in it."""
    if isinstance(bucket, set):
        bucket.add(entry)
        return bucket
    return (*bucket, entry) if len(bucket) < TUPLE_MAX else {*bucket, entry}


def removed(bucket: Bucket[E], entry: E) -> Bucket[E]:
    """The bucket without an entry."""
    if not isinstance(bucket, set):
        return tuple(one for one in bucket if one is not entry)
    bucket.discard(entry)
    return bucket if len(bucket) > TUPLE_MAX // 2 else tuple(bucket)


def put(buckets: MutableMapping[K, Bucket[E]], key: K, entry: E) -> None:
    """Add an entry to the bucket of a key."""
    buckets[key] = added(buckets.get(key, ()), entry)


def drop(buckets: MutableMapping[K, Bucket[E]], key: K, entry: E) -> None:
    """Take an entry out of the bucket of a key; an empty bucket goes."""
    left = removed(buckets[key], entry)
    if left:
        buckets[key] = left
    else:
        del buckets[key]


class Prefixes(Generic[E]):
    """Entries by the beginning of a string."""

    __slots__ = ("_by_length",)

    def __init__(self) -> None:
        self._by_length: dict[int, dict[str, Bucket[E]]] = {}  # lengths ascending

    def __bool__(self) -> bool:
        return bool(self._by_length)

    def add(self, prefix: str, entry: E) -> None:
        length = len(prefix)
        if length not in self._by_length:
            self._by_length[length] = {}
            self._by_length = dict(sorted(self._by_length.items()))
        put(self._by_length[length], prefix, entry)

    def remove(self, prefix: str, entry: E) -> None:
        buckets = self._by_length[len(prefix)]
        drop(buckets, prefix, entry)
        if not buckets:
            del self._by_length[len(prefix)]

    def find(self, text: str, found: set[E]) -> None:
        size = len(text)
        for length, buckets in self._by_length.items():
            if length > size:
                break
            if bucket := buckets.get(text[:length]):
                found.update(bucket)


class Halves(Generic[E]):
    """Entries by one bound, all on the same side of it."""

    __slots__ = ("_bounds", "_buckets")

    def __init__(self) -> None:
        self._bounds: list[Any] = []  # numbers or strings, never both
        self._buckets: dict[Any, Bucket[E]] = {}

    def __bool__(self) -> bool:
        return bool(self._bounds)

    def add(self, bound: object, entry: E) -> None:
        if bound not in self._buckets:
            insort(self._bounds, bound)
        put(self._buckets, bound, entry)

    def remove(self, bound: object, entry: E) -> None:
        drop(self._buckets, bound, entry)
        if bound not in self._buckets:
            del self._bounds[bisect_left(self._bounds, bound)]

    def before(self, place: int, found: set[E]) -> None:
        for bound in self._bounds[:place]:
            found.update(self._buckets[bound])

    def after(self, place: int, found: set[E]) -> None:
        for bound in self._bounds[place:]:
            found.update(self._buckets[bound])

    def left(self, value: object) -> int:
        """Before the bounds that equal a value."""
        return bisect_left(self._bounds, value)

    def right(self, value: object) -> int:
        """Behind them."""
        return bisect_right(self._bounds, value)


class _Node(Generic[E]):
    """One interval in the grid; `excluded` holds the bounds that are open."""

    __slots__ = ("entries", "excluded", "high", "low")

    def __init__(self, interval: Interval) -> None:
        self.low: Any = interval.low
        self.high: Any = interval.high
        self.excluded = (interval.low,) * interval.low_open + (interval.high,) * interval.high_open
        self.entries: Bucket[E] = ()


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
        node = self._nodes.get(interval)
        if node is None:
            node = self._nodes[interval] = _Node(interval)
            width, numbers = self._cells(interval)
            cells = self._grids.setdefault(width, {})
            for number in numbers:
                put(cells, number, node)
        node.entries = added(node.entries, entry)

    def remove(self, interval: Interval, entry: E) -> None:
        node = self._nodes[interval]
        node.entries = removed(node.entries, entry)
        if node.entries:
            return
        del self._nodes[interval]
        width, numbers = self._cells(interval)
        cells = self._grids[width]
        for number in numbers:
            drop(cells, number, node)
        if not cells:
            del self._grids[width]

    def find(self, value: Any, found: set[E]) -> None:
        number = self._number(value)
        for width, cells in self._grids.items():
            for node in cells.get(number // width, ()):
                if node.low <= value <= node.high and value not in node.excluded:
                    found.update(node.entries)

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
        return min(max(float(value), -sys.float_info.max), sys.float_info.max)
    except OverflowError:
        return sys.float_info.max if value > 0 else -sys.float_info.max


def number_of_text(value: str) -> int:
    """The first bytes of a string in UTF-8 as a number: UTF-8 is ordered as its code points are."""
    return int.from_bytes(value[:TEXT_BYTES].encode("utf-8", "surrogatepass")[:TEXT_BYTES].ljust(TEXT_BYTES, b"\0"), "big")


class Ranges(Generic[E]):
    """Entries by intervals of one kind: with two bounds, one or none."""

    __slots__ = ("_all", "_at_least", "_at_most", "_below", "_grid", "_over")

    def __init__(self, kind: Kind) -> None:
        self._all: Bucket[E] = ()
        self._at_least: Halves[E] = Halves()
        self._over: Halves[E] = Halves()
        self._at_most: Halves[E] = Halves()
        self._below: Halves[E] = Halves()
        self._grid: Grid[E] = Grid(number_of_number if kind == "number" else number_of_text)

    def __bool__(self) -> bool:
        return any((self._all, self._at_least, self._over, self._at_most, self._below, self._grid))

    def add(self, interval: Interval, entry: E) -> None:
        if interval.low is not None and interval.high is not None:
            self._grid.add(interval, entry)
        elif interval.low is not None:
            (self._over if interval.low_open else self._at_least).add(interval.low, entry)
        elif interval.high is not None:
            (self._below if interval.high_open else self._at_most).add(interval.high, entry)
        else:
            self._all = added(self._all, entry)

    def remove(self, interval: Interval, entry: E) -> None:
        if interval.low is not None and interval.high is not None:
            self._grid.remove(interval, entry)
        elif interval.low is not None:
            (self._over if interval.low_open else self._at_least).remove(interval.low, entry)
        elif interval.high is not None:
            (self._below if interval.high_open else self._at_most).remove(interval.high, entry)
        else:
            self._all = removed(self._all, entry)

    def find(self, value: Any, found: set[E]) -> None:
        if self._grid:
            self._grid.find(value, found)
        if self._at_least:
            self._at_least.before(self._at_least.right(value), found)
        if self._over:
            self._over.before(self._over.left(value), found)
        if self._at_most:
            self._at_most.after(self._at_most.left(value), found)
        if self._below:
            self._below.after(self._below.right(value), found)
        if self._all:
            found.update(self._all)
