"""
The steps of a path: from a value to the one it leads to, MISSING where it leads nowhere; and what bounds the walk.

Used by the interpreter and by compiled code alike; nothing here raises but OutOfStepsError.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, TypeAlias

from streams.query.limits import STEPS_MAX
from streams.query.values import MISSING, Missing


class OutOfStepsError(Exception):
    """An evaluation visited more than limits.STEPS_MAX; the whole query is null for this document."""


class Budget:
    """
    The steps left for one evaluation.

    Filters inside filters over arrays that the query repeats (`[a, a, a][][? …]`) could multiply without end; everything
    else costs at most the size of the query times the size of the document.
    """

    __slots__ = ("_steps_left",)

    def __init__(self, steps: int = STEPS_MAX) -> None:
        self._steps_left = steps

    def spend(self, steps: int) -> None:
        """Take steps; raises OutOfStepsError when none are left."""
        self._steps_left -= steps
        if self._steps_left < 0:
            raise OutOfStepsError


Projected: TypeAlias = list[object] | Literal[Missing.MISSING]


def field(value: object, name: str) -> object:
    """`value.name`; MISSING if it has none or is no object."""
    return value.get(name, MISSING) if isinstance(value, dict) else MISSING


def element(value: object, position: int) -> object:
    """`value[position]`; MISSING if it has none or is no array."""
    return value[position] if isinstance(value, list) and position < len(value) else MISSING


def follow(value: object, steps: tuple[str | int, ...], otherwise: object) -> object:
    """Names and places one after the other; `otherwise` if they lead nowhere."""
    for step in steps:
        value = field(value, step) if isinstance(step, str) else element(value, step)
        if value is MISSING:
            return otherwise
    return value


def elements(value: object) -> Projected:
    """`value[*]`; MISSING if it is no array."""
    return value if isinstance(value, list) else MISSING


def flattened(value: object, budget: Budget) -> Projected:
    """`value[]`: elements that are arrays give their elements, others stay; MISSING if it is no array."""
    if not isinstance(value, list):
        return MISSING
    budget.spend(sum(len(item) if isinstance(item, list) else 1 for item in value))
    return [inner for item in value for inner in (item if isinstance(item, list) else (item,))]


def filtered(value: object, is_true: Callable[[object, Budget], bool], cost: int, budget: Budget) -> Projected:
    """`value[? …]`: the elements for which it is true; `cost` = steps an element. MISSING if it is no array."""
    if not isinstance(value, list):
        return MISSING
    budget.spend(len(value) * cost)
    return [item for item in value if is_true(item, budget)]


def mapped(value: Projected, rest: Callable[[object, Budget], object], cost: int, budget: Budget) -> Projected:
    """The rest of a path taken from each element; where it is missing, the element is left out."""
    if value is MISSING:
        return MISSING
    budget.spend(len(value) * cost)
    return [found for item in value if (found := rest(item, budget)) is not MISSING]
