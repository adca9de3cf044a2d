"""
What operators do with values, in one place for the interpreter, the compiled code and constant folding.

A value is what JSON decodes to (None, bool, int, float, str, list, dict) or MISSING, which only a path gives. Operands that
are null or MISSING, or of a type that an operator is not for, give None; nothing here raises, and no result is larger than
limits.py allows. bool is not a number. int and float compare exactly, whatever their size.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from enum import Enum
from typing import Final, TypeAlias, TypeGuard

from streams.query.limits import INTEGER_BITS_MAX

Truth: TypeAlias = bool | None


class Missing(Enum):
    """The value of a path that leads nowhere."""

    MISSING = "missing"


MISSING: Final = Missing.MISSING
NUMBERS: Final[frozenset[type]] = frozenset((int, float))


def is_number(value: object) -> TypeGuard[int | float]:
    """Whether it is an int or a float; true and false are not numbers."""
    return type(value) in NUMBERS


def in_range(number: int | float) -> bool:
    """Whether a number can be a result: a finite float, or an int in the range of finite floats."""
    return math.isfinite(number) if isinstance(number, float) else number.bit_length() <= INTEGER_BITS_MAX


def object_of(keys: tuple[str, ...], *parts: object) -> dict[str, object]:
    """An object literal; an entry that is missing is left out."""
    return {key: value for key, value in zip(keys, parts, strict=True) if value is not MISSING}


def present(value: object) -> object:
    """A value where MISSING is as good as null."""
    return None if value is MISSING else value


# Truth


def truth(value: object) -> Truth:
    """A value where a boolean is wanted: what is not a boolean counts as null."""
    return value if isinstance(value, bool) else None


def all_true(*values: object) -> Truth:
    """AND: false if one is false, else null if one is not a boolean, else true."""
    result: Truth = True
    for value in values:
        if value is False:
            return False
        if value is not True:
            result = None
    return result


def any_true(*values: object) -> Truth:
    """OR: true if one is true, else null if one is not a boolean, else false."""
    result: Truth = False
    for value in values:
        if value is True:
            return True
        if value is not False:
            result = None
    return result


def exclusive(left: object, right: object) -> Truth:
    """XOR of two booleans."""
    return left is not right if isinstance(left, bool) and isinstance(right, bool) else None


def negated(value: object) -> Truth:
    """NOT of a boolean."""
    return not value if isinstance(value, bool) else None


# Comparison


def equal(left: object, right: object) -> Truth:
    """`=`: values of one type; null for two types and for null."""
    kind = type(left)
    if kind is str or kind is bool:
        return left == right if type(right) is kind else None
    if kind in NUMBERS:
        return left == right if type(right) in NUMBERS else None
    if kind is list or kind is dict:
        return same(left, right) if type(right) is kind else None
    return None


def unequal(left: object, right: object) -> Truth:
    """`<>`: the negation of `=`."""
    return negated(equal(left, right))


def less(left: object, right: object) -> Truth:
    """`<` of two numbers, two strings (by code point) or two booleans (false first); else null."""
    return left < right if _ordered(left, right) else None  # type: ignore[operator]  # _ordered has checked both types


def less_or_equal(left: object, right: object) -> Truth:
    """`<=`, for what `<` is for."""
    return left <= right if _ordered(left, right) else None  # type: ignore[operator]  # _ordered has checked both types


def greater(left: object, right: object) -> Truth:
    """`>`, for what `<` is for."""
    return less(right, left)


def greater_or_equal(left: object, right: object) -> Truth:
    """`>=`, for what `<` is for."""
    return less_or_equal(right, left)


def _ordered(left: object, right: object) -> bool:
    kind = type(left)
    if kind in NUMBERS:
        return type(right) in NUMBERS
    return type(right) is kind and (kind is str or kind is bool)


COMPARE: Final[dict[str, Callable[[object, object], Truth]]] = {
    "=": equal,
    "<>": unequal,
    "<": less,
    "<=": less_or_equal,
    ">": greater,
    ">=": greater_or_equal,
}


def between(value: object, low: object, high: object) -> Truth:
    """`value >= low AND value <= high`."""
    return all_true(less_or_equal(low, value), less_or_equal(value, high))


def among(value: object, items: object) -> Truth:
    """IN: `=` with each element, joined by OR; what is not an array counts as an array of one."""
    if not isinstance(items, list):
        return equal(value, items)
    if value is None or value is MISSING:
        return None
    result: Truth = False
    for item in items:
        match equal(value, item):
            case True:
                return True
            case None:
                result = None
    return result


class Choices:
    """The elements of an IN that are known when the query is compiled: `holds` is `among` at the cost of one look-up."""

    __slots__ = ("_items", "_kinds", "_scalars")

    def __init__(self, items: list[object]) -> None:
        self._items = items
        # True == 1 in Python, so booleans stay out of the set and go the slow way.
        self._scalars = frozenset(item for item in items if isinstance(item, str | int | float) and not isinstance(item, bool))
        kinds = {float if is_number(item) else type(item) for item in items}
        self._kinds = kinds.pop() if len(kinds) == 1 else None

    def holds(self, value: object) -> Truth:
        """Whether `value` is one of the elements."""
        kind = type(value)
        if kind is str or kind in NUMBERS:
            if value in self._scalars:
                return True
            # No element is equal: false if all are of the value's type, else one comparison is null.
            return False if not self._items or self._kinds is (str if kind is str else float) else None
        return among(value, self._items)


def same(left: object, right: object) -> bool:
    """
    Whether two values are equal at every depth: 31 = 31.0, the order of keys does not count, null equals null.

    Arrays and objects are compared as wholes, so there is no null answer here. Does not recurse: depth costs no stack.
    """
    pairs = [(left, right)]
    while pairs:
        one, other = pairs.pop()
        if is_number(one) and is_number(other):
            if one != other:
                return False
        elif type(one) is not type(other):
            return False
        elif isinstance(one, list) and isinstance(other, list):
            if len(one) != len(other):
                return False
            pairs.extend(zip(one, other, strict=True))
        elif isinstance(one, dict) and isinstance(other, dict):
            if one.keys() != other.keys():
                return False
            pairs.extend((one[key], other[key]) for key in one)
        elif one != other:
            return False
    return True


# Arithmetic


def _calculate(operation: Callable[[int | float, int | float], int | float | None], left: object, right: object) -> int | float | None:
    """The result of an operation on two numbers; null if it has none, or none in range."""
    if not (is_number(left) and is_number(right) and in_range(left) and in_range(right)):
        return None
    try:
        result = operation(left, right)
    except (ArithmeticError, ValueError):  # division by zero, an int too large for the float beside it, fmod of such
        return None
    return result if result is not None and in_range(result) else None


def add(left: object, right: object) -> int | float | None:
    """`+`; exact for ints."""
    return _calculate(lambda x, y: x + y, left, right)


def subtract(left: object, right: object) -> int | float | None:
    """`-`; exact for ints."""
    return _calculate(lambda x, y: x - y, left, right)


def multiply(left: object, right: object) -> int | float | None:
    """`*`; exact for ints."""
    return _calculate(lambda x, y: x * y, left, right)


def divide(left: object, right: object) -> int | float | None:
    """`/`: an int where ints divide without remainder, else the nearest float."""
    return _calculate(lambda x, y: x // y if isinstance(x, int) and isinstance(y, int) and x % y == 0 else x / y, left, right)


def remainder(left: object, right: object) -> int | float | None:
    """`%`: with the sign of the left operand, as in C, SQL and JavaScript."""
    return _calculate(_truncated_remainder, left, right)


def _truncated_remainder(left: int | float, right: int | float) -> int | float:
    if isinstance(left, int) and isinstance(right, int):
        return abs(left) % abs(right) * (-1 if left < 0 else 1)
    return math.fmod(left, right)


def shift_left(left: object, right: object) -> int | float | None:
    """`<<` of whole numbers; a negative count is null."""
    return _calculate(_shifted_left, left, right)


def shift_right(left: object, right: object) -> int | float | None:
    """`>>` of whole numbers, rounding down; a negative count is null."""
    return _calculate(_shifted_right, left, right)


def _shifted_left(left: int | float, right: int | float) -> int | None:
    if left != int(left) or right != int(right) or not 0 <= right <= INTEGER_BITS_MAX:
        return 0 if left == 0 and right > 0 and right == int(right) else None
    return int(left) << int(right)


def _shifted_right(left: int | float, right: int | float) -> int | None:
    if left != int(left) or right != int(right) or right < 0:
        return None
    return int(left) >> min(int(right), INTEGER_BITS_MAX)


CALCULATE: Final[dict[str, Callable[[object, object], int | float | None]]] = {
    "+": add,
    "-": subtract,
    "*": multiply,
    "/": divide,
    "%": remainder,
    "<<": shift_left,
    ">>": shift_right,
}


def negative(value: object) -> int | float | None:
    """Unary minus."""
    return -value if is_number(value) and in_range(value) else None
