"""
From a query's tree to what must hold for it to match: one of several predicates, or nothing that could be looked up.

A query is true in some documents and false in others, and null in the rest; NOT swaps the first two and leaves the third. So each node has
two conditions, one for being true and one for being false, and a parent's follow from its children's. Whatever is not understood
here says nothing (ANYTHING), which is always safe: the condition is necessary, and the query itself decides.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from streams.query.ast import (
    And,
    ArrayOf,
    Between,
    Boolean,
    Call,
    Comparison,
    ComparisonSign,
    Expression,
    In,
    Is,
    Like,
    Not,
    Null,
    Number,
    ObjectOf,
    Or,
    Path,
    Text,
    Xor,
)
from streams.query.fold import fold, is_literal
from streams.query.patterns import Wildcard, like_parts
from streams.standing.predicates import (
    Absent,
    Element,
    Equals,
    Flag,
    Interval,
    Kind,
    Many,
    Place,
    Predicate,
    Prefix,
    intersection,
    place_of,
    rank,
)

BRANCHES_MAX: Final = 2_000  # of one condition; a query with more is asked always
THEN_MAX: Final = 3  # predicates one after the other, behind the first
PLACES_MAX: Final = 32  # in which a query may stand because of several branches behind several branches


class Branch(msgspec.Struct, frozen=True, gc=False):
    """A predicate, and what must hold as well when it does: None: nothing more is known."""

    predicate: Predicate
    then: Condition | None = None


class Condition(msgspec.Struct, frozen=True, gc=False):
    """
    What must hold.

    branches:  at least one of them; none can: it never holds; None: nothing is known.
    exact:     it holds whenever one of them does, so that the query need not be asked (with None: it always holds).
    """

    branches: tuple[Branch, ...] | None
    exact: bool = False

    @property
    def predicates(self) -> tuple[Predicate, ...]:
        """The first predicate of each branch."""
        return tuple(branch.predicate for branch in self.branches or ())


ANYTHING: Final = Condition(None)
ALWAYS: Final = Condition(None, exact=True)
NEVER: Final = Condition((), exact=True)

Outcomes = tuple[Condition, Condition]
"""When it is true, and when it is false; null, which is neither, needs no condition."""

_UNKNOWN: Final[Outcomes] = (ANYTHING, ANYTHING)
_NULL: Final[Outcomes] = (NEVER, NEVER)
_FLIPPED: Final[dict[ComparisonSign, ComparisonSign]] = {"=": "=", "<>": "<>", "<": ">", "<=": ">=", ">": "<", ">=": "<="}
_INVERSE: Final[dict[ComparisonSign, ComparisonSign]] = {"=": "<>", "<>": "=", "<": ">=", "<=": ">", ">": "<=", ">=": "<"}


def condition_of(tree: Expression) -> Condition:
    """
    The condition under which a query is true.

    Args:  tree: bound; its constant patterns are valid.
    """
    return _outcomes(fold(tree))[0]


def _outcomes(node: Expression) -> Outcomes:
    match node:
        case And(operands):
            parts = [_outcomes(operand) for operand in operands]
            return _all([true for true, _ in parts]), _any([false for _, false in parts])
        case Or(operands):
            parts = [_outcomes(operand) for operand in operands]
            return _any([true for true, _ in parts]), _all([false for _, false in parts])
        case Not(operand):
            return _outcomes(operand)[::-1]
        case Xor(left, right):
            (left_true, left_false), (right_true, right_false) = _outcomes(left), _outcomes(right)
            differ = _any([_all([left_true, right_false]), _all([left_false, right_true])])
            return differ, _any([_all([left_true, right_true]), _all([left_false, right_false])])
        case Boolean(value):
            return (ALWAYS, NEVER) if value else (NEVER, ALWAYS)
        case Null() | Number() | Text() | ArrayOf() | ObjectOf():
            return _NULL
    return _of_test(node)


def _of_test(node: Expression) -> Outcomes:
    """A node that is no logic."""
    match node:
        case Path() if (place := _plain(node)) is not None:
            return _one(Flag(place, value=True)), _one(Flag(place, value=False))
        case Comparison(sign, left, right):
            if is_literal(left):
                sign, left, right = _FLIPPED[sign], right, left
            return _of_comparison(sign, left, right), _of_comparison(_INVERSE[sign], left, right)
        case Between(operand, low, high):
            return _outcomes(And((Comparison(">=", operand, low), Comparison("<=", operand, high))))
        case In(_, ArrayOf(())):
            return NEVER, ANYTHING  # false, but null of a value that is null
        case In(operand, ArrayOf(items)) if all(map(is_literal, items)):
            return _outcomes(Or(tuple(Comparison("=", operand, item) for item in items)))
        case In((Text() | Number()) as item, Path() as path):
            return _element(path, item, also_text=False), ANYTHING
        case Like("LIKE", Path() as path, Text(pattern)) if (place := _plain(path)) is not None:
            return _of_like(place, pattern), _inexact(_any_text(place))
        case Like(_, Path() as path, Text()) | Call("regexp_like" | "ends_with", (Path() as path, *_)):
            return _of_text(path), _of_text(path)
        case Is(kind, Path() as path) if (place := _plain(path)) is not None:
            absent = _one(Absent(place))
            return absent if kind == "UNKNOWN" else _inexact(absent), ANYTHING
        case Call(name, operands):
            return _of_call(name, operands)
    return _UNKNOWN


def _of_comparison(sign: ComparisonSign, left: Expression, right: Expression) -> Condition:
    """When it is true; `right` is the literal, if there is one."""
    if isinstance(right, Null):
        return NEVER
    if isinstance(right, Boolean) and sign in ("=", "<>"):
        true, false = _outcomes(left)
        return true if right.value is (sign == "=") else false
    place = _plain(left) if isinstance(left, Path) else None
    if place is None or not isinstance(right, Number | Text):
        return ANYTHING
    kind: Kind = "number" if isinstance(right, Number) else "text"
    value = right.value
    match sign:
        case "=":
            return _one(Equals(place, value))
        case "<>":
            below, above = Interval(place, kind, high=value, high_open=True), Interval(place, kind, low=value, low_open=True)
            return _either(below, above)
        case "<" | "<=":
            return _one(Interval(place, kind, high=value, high_open=sign == "<"))
    return _one(Interval(place, kind, low=value, low_open=sign == ">"))


def _of_call(name: str, operands: Sequence[Expression]) -> Outcomes:
    match name, operands:
        case "starts_with", (Path() as path, Text(prefix)) if (place := _plain(path)) is not None:
            return _one(Prefix(place, prefix)), _inexact(_any_text(place))
        case "contains", (Path() as path, (Text() | Number()) as item):
            return _element(path, item, also_text=isinstance(item, Text)), ANYTHING
        case "array_contains", (Path() as path, (Text() | Number()) as item):
            return _element(path, item, also_text=False), ANYTHING
        case "contains" | "array_contains", (ArrayOf(items), Path() as path) if all(map(is_literal, items)):
            return _outcomes(Or(tuple(Comparison("=", path, item) for item in items)))[0], ANYTHING
        case "is_string", (Path() as path,):
            return _of_text(path), ANYTHING
        case "is_number", (Path() as path,) if (place := _plain(path)) is not None:
            return _one(Interval(place, "number")), ANYTHING
        case "is_boolean", (Path() as path,) if (place := _plain(path)) is not None:
            return _either(Flag(place, value=True), Flag(place, value=False)), ANYTHING
    return _UNKNOWN


def _of_like(place: Place, pattern: str) -> Condition:
    match like_parts(pattern):
        case []:
            return _one(Equals(place, ""))
        case [str() as text]:
            return _one(Equals(place, text))
        case [str() as text, Wildcard.ANY]:
            return _one(Prefix(place, text))
        case [str() as text, *_]:
            return _inexact(_one(Prefix(place, text)))
    return _inexact(_any_text(place))


def _element(path: Path, item: Text | Number, *, also_text: bool) -> Condition:
    """An array that holds an item; `also_text`: or a string, of which it may be a part."""
    place = place_of(path)
    if place is None:
        return ANYTHING
    holding = Element(place, item.value)
    return _inexact(_either(holding, Interval(place, "text")) if also_text else _one(holding))


def _of_text(path: Path) -> Condition:
    place = _plain(path)
    return ANYTHING if place is None else _inexact(_any_text(place))


def _any_text(place: Place) -> Condition:
    return _one(Interval(place, "text"))


def _plain(path: Path) -> Place | None:
    """The place of a path that leads to one value."""
    place = place_of(path)
    return None if place is None or any(isinstance(step, Many) for step in place) else place


def _one(predicate: Predicate) -> Condition:
    return Condition((Branch(predicate),), exact=True)


def _either(one: Predicate, other: Predicate) -> Condition:
    return Condition((Branch(one), Branch(other)), exact=True)


def _inexact(condition: Condition) -> Condition:
    return Condition(condition.branches)


# Several conditions


def _any(conditions: Sequence[Condition]) -> Condition:
    """One of them must hold."""
    if any(condition.branches is None for condition in conditions):
        return ALWAYS if ALWAYS in conditions else ANYTHING
    branches = tuple(dict.fromkeys(branch for condition in conditions for branch in condition.branches or ()))
    if len(branches) > BRANCHES_MAX:
        return ANYTHING
    return Condition(branches, exact=all(condition.exact for condition in conditions))


def _all(conditions: Sequence[Condition]) -> Condition:
    """All of them must hold, so any one will do: the best, after what ranges of one place have in common, and then the next best."""
    needed = _intersected([condition for condition in conditions if condition != ALWAYS])
    known = sorted((condition for condition in needed if condition.branches is not None), key=lambda one: rank(one.predicates))
    if not needed:
        return ALWAYS
    if not known:
        return ANYTHING
    best, *others = known  # the sort is stable: of equals the first in the query
    if not all(condition.branches for condition in known):
        return NEVER
    if len(needed) == 1:
        return best
    return _followed(best, others[:THEN_MAX], PLACES_MAX)


def _followed(first: Condition, others: Sequence[Condition], places: int) -> Condition:
    """A condition, and behind each of its branches that has nothing there yet the others, one after the other."""
    branches = first.branches or ()
    places //= max(len(branches), 1)
    if not others or places < len(others[0].branches or ()):
        return _inexact(first)
    then = _followed(_flat(others[0]), others[1:], places)
    return Condition(tuple(Branch(branch.predicate, branch.then or then) for branch in branches))


def _flat(condition: Condition) -> Condition:
    """A condition without what stands behind its branches: a query of operators inside operators would have no end of it."""
    return Condition(tuple(dict.fromkeys(Branch(predicate) for predicate in condition.predicates)))


def _intersected(conditions: Sequence[Condition]) -> list[Condition]:
    """The conditions, with those that are one interval of the same place and kind made one."""
    found: list[Condition] = []
    intervals: dict[tuple[Place, str], Condition] = {}
    for condition in conditions:
        match condition.branches:
            case (Branch(Interval() as interval, None),):
                key = (interval.place, interval.kind)
                known = intervals.get(key)
                intervals[key] = condition if known is None else _common(known, condition, interval)
            case _:
                found.append(condition)
    return [*found, *intervals.values()]


def _common(known: Condition, condition: Condition, interval: Interval) -> Condition:
    match known.branches:
        case (Branch(Interval() as before),):
            common = intersection(before, interval)
            return NEVER if common is None else Condition((Branch(common),), exact=known.exact and condition.exact)
    return known  # it can never hold
