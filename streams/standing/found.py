"""What the index has found: for one change, and for the values that it was asked for before."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Generic, TypeVar

E = TypeVar("E")

VALUES_MAX: Final = 2_048  # of one place that are remembered
TEXT_MAX: Final = 64  # characters of one; longer ones hardly come again
ENTRIES_MAX: Final = 64  # found by one; with more of them, looking it up is little of what they cost


class Found(Generic[E]):
    """What a change has found: by its old value, by its new one, by what is the same in both. An entry may be in several, or twice."""

    __slots__ = ("both", "new", "old")

    def __init__(self) -> None:
        self.both: list[E] = []
        self.new: list[E] = []
        self.old: list[E] = []


class Seen(Generic[E]):
    """
    What stands under the predicates that hold for a value of a place, for values that come again: most do.

    31 and 31.0 are one value, as they are to every predicate; a bool is no value here, because Python takes it for a number.
    """

    __slots__ = ("_found", "clear", "get")

    def __init__(self) -> None:
        self._found: dict[Any, Sequence[E]] = {}
        self.get = self._found.get
        self.clear = self._found.clear

    def note(self, value: Any, entries: Sequence[E]) -> None:
        """Remember what was found, unless that would not pay."""
        if len(entries) > ENTRIES_MAX or (type(value) is str and len(value) > TEXT_MAX):
            return
        if len(self._found) >= VALUES_MAX:
            self._found.clear()
        self._found[value] = entries
