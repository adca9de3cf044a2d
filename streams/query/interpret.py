"""
The meaning of a tree, written plainly: a value for a node and a document, nothing prepared beforehand.

It is the oracle for the compiled code, computes constants, and shows the value of every part (`explain`).
"""

from __future__ import annotations

from streams.query.ast import (
    And,
    Arithmetic,
    ArrayOf,
    Between,
    Boolean,
    Call,
    Comparison,
    Each,
    Expression,
    Field,
    Filter,
    Flatten,
    In,
    Index,
    Is,
    Like,
    Negative,
    Not,
    Null,
    Number,
    ObjectOf,
    Or,
    Path,
    Step,
    Text,
    Xor,
    children,
)
from streams.query.cost import cost, steps_cost
from streams.query.functions import FUNCTIONS
from streams.query.patterns import match_pattern
from streams.query.steps import Budget, Projected, element, elements, field, filtered, flattened, mapped
from streams.query.values import (
    CALCULATE,
    COMPARE,
    MISSING,
    all_true,
    among,
    any_true,
    between,
    exclusive,
    negated,
    negative,
    object_of,
    present,
)


def evaluate(node: Expression, document: object, budget: Budget) -> object:
    """
    The value of an expression, MISSING for a path that leads nowhere.

    Args:    node: bound. document: decoded JSON; inside a filter, the element.
    Raises:  OutOfStepsError: the budget is spent; the query is null then.
    """
    match node:
        case Path(base, steps):
            return _walk(document if base is None else evaluate(base, document, budget), steps, budget)
        case Boolean() | Number() | Text():
            return node.value
        case Null():
            return None
        case ObjectOf(entries):
            return object_of(tuple(key for key, _ in entries), *(evaluate(part, document, budget) for _, part in entries))
        case Is(kind, operand):
            found = evaluate(operand, document, budget)
            return (found is None and kind != "MISSING") or (found is MISSING and kind != "NULL")
        case Call(name, arguments):
            function = FUNCTIONS[name]
            values = [evaluate(part, document, budget) for part in arguments]
            return function.call(*(values if function.sees_missing else map(present, values)))
    return _operate(node, [present(evaluate(part, document, budget)) for part in children(node)])


def _operate(node: Expression, values: list[object]) -> object:
    """The value of an operator from those of its operands, where missing is as good as null."""
    match node:
        case Comparison(sign):
            return COMPARE[sign](*values)
        case And():
            return all_true(*values)
        case Or():
            return any_true(*values)
        case Not():
            return negated(*values)
        case ArrayOf():
            return values
        case Xor():
            return exclusive(*values)
        case Between():
            return between(*values)
        case In():
            return among(*values)
        case Like(kind):
            return match_pattern(kind, *values)
        case Arithmetic(sign):
            return CALCULATE[sign](*values)
        case Negative():
            return negative(*values)
    raise TypeError(f"{type(node).__name__} has no value")  # a Parameter: the tree is not bound


def _walk(value: object, steps: tuple[Step, ...], budget: Budget) -> object:
    """Follow a path; after a projection the rest is taken from each element."""
    for position, step in enumerate(steps):
        match step:
            case Field(name):
                value = field(value, name)
            case Index(place):
                value = element(value, place)
            case Each() | Filter() | Flatten():
                return _map(_project(value, step, budget), steps[position + 1 :], budget)
    return value


def _map(found: Projected, rest: tuple[Step, ...], budget: Budget) -> object:
    return mapped(found, lambda item, left: _walk(item, rest, left), steps_cost(rest), budget) if rest else found


def _project(value: object, step: Each | Filter | Flatten, budget: Budget) -> Projected:
    match step:
        case Each():
            return elements(value)
        case Flatten():
            return flattened(value, budget)
        case Filter(predicate):
            return filtered(value, lambda item, left: evaluate(predicate, item, left) is True, cost(predicate), budget)
