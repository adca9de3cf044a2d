"""
The typed tree of a query: what the parser makes, and what the compiler, the interpreter and the index read.

Both dialects give the same tree: `a == 1 && b == 2` and `a = 1 AND b = 2` are equal. Nodes are frozen, hashable and
equal by value; `offset` (characters from the start of the text, -1 if unknown) is for error messages only and never
takes part in equality. `1` and `1.0` are equal numbers, here as everywhere in the language.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from typing import Literal, TypeAlias

ComparisonSign: TypeAlias = Literal["=", "<>", "<", "<=", ">", ">="]
ArithmeticSign: TypeAlias = Literal["+", "-", "*", "/", "%", "<<", ">>"]
PatternKind: TypeAlias = Literal["LIKE", "ILIKE", "SIMILAR TO"]
AbsenceKind: TypeAlias = Literal["NULL", "MISSING", "UNKNOWN"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """What all nodes share."""

    offset: int = field(default=-1, compare=False, repr=False)


# Literals


@dataclass(frozen=True, slots=True)
class Null(Node):
    """The word null."""


@dataclass(frozen=True, slots=True)
class Boolean(Node):
    """true or false."""

    value: bool


@dataclass(frozen=True, slots=True)
class Number(Node):
    """A finite number; an int stays exact."""

    value: int | float


@dataclass(frozen=True, slots=True)
class Text(Node):
    """A string."""

    value: str


@dataclass(frozen=True, slots=True)
class ArrayOf(Node):
    """`[a, b]`; an element that is missing is null in it."""

    items: tuple[Expression, ...]


@dataclass(frozen=True, slots=True)
class ObjectOf(Node):
    """`{key: a}`; an entry that is missing is left out."""

    entries: tuple[tuple[str, Expression], ...]


@dataclass(frozen=True, slots=True)
class Parameter(Node):
    """`:name` or `$args.name`; only in a tree that is not bound yet."""

    name: str


# Paths


@dataclass(frozen=True, slots=True)
class Field(Node):
    """`.name`: a property of an object."""

    name: str


@dataclass(frozen=True, slots=True)
class Index(Node):
    """`[2]`: an element of an array, from 0."""

    position: int


@dataclass(frozen=True, slots=True)
class Each(Node):
    """`[*]`: every element; the steps after it are taken from each."""


@dataclass(frozen=True, slots=True)
class Filter(Node):
    """`[? expr]`: the elements for which `expr` is true; names in it are properties of the element."""

    predicate: Expression


@dataclass(frozen=True, slots=True)
class Flatten(Node):
    """`[]`: the elements of the elements, one level; the steps after it are taken from each."""


@dataclass(frozen=True, slots=True)
class Path(Node):
    """Steps from the document (`base` is None, the first step a Field) or from the value of `base`."""

    base: Expression | None
    steps: tuple[Step, ...]


# Operators


@dataclass(frozen=True, slots=True)
class Call(Node):
    """A function by its first name (`beginsWith` is `starts_with` here)."""

    name: str
    arguments: tuple[Expression, ...]


@dataclass(frozen=True, slots=True)
class Negative(Node):
    """`-a`; of a number literal it is the negative Number instead."""

    operand: Expression


@dataclass(frozen=True, slots=True)
class Arithmetic(Node):
    """Two numbers make a number."""

    sign: ArithmeticSign
    left: Expression
    right: Expression


@dataclass(frozen=True, slots=True)
class Comparison(Node):
    """Two values of one type compared; of two types it is null."""

    sign: ComparisonSign
    left: Expression
    right: Expression


@dataclass(frozen=True, slots=True)
class Between(Node):
    """`operand BETWEEN low AND high`, both ends included."""

    operand: Expression
    low: Expression
    high: Expression


@dataclass(frozen=True, slots=True)
class In(Node):
    """`operand IN items`: an `=` with each element, joined by OR."""

    operand: Expression
    items: Expression


@dataclass(frozen=True, slots=True)
class Like(Node):
    """`operand LIKE pattern` and its kin; the pattern covers the whole string."""

    kind: PatternKind
    operand: Expression
    pattern: Expression


@dataclass(frozen=True, slots=True)
class Is(Node):
    """`operand IS NULL` (present and null), `IS MISSING` (absent), `IS UNKNOWN` (either); never null itself."""

    kind: AbsenceKind
    operand: Expression


@dataclass(frozen=True, slots=True)
class Not(Node):
    """Negation; null stays null."""

    operand: Expression


@dataclass(frozen=True, slots=True)
class And(Node):
    """Two operands or more; false if one is false, else null if one is null."""

    operands: tuple[Expression, ...]


@dataclass(frozen=True, slots=True)
class Or(Node):
    """Two operands or more; true if one is true, else null if one is null."""

    operands: tuple[Expression, ...]


@dataclass(frozen=True, slots=True)
class Xor(Node):
    """True if exactly one is true; null if one is null."""

    left: Expression
    right: Expression


Step: TypeAlias = Field | Index | Each | Filter | Flatten
Expression: TypeAlias = (
    Null
    | Boolean
    | Number
    | Text
    | ArrayOf
    | ObjectOf
    | Parameter
    | Path
    | Call
    | Negative
    | Arithmetic
    | Comparison
    | Between
    | In
    | Like
    | Is
    | Not
    | And
    | Or
    | Xor
)

PROJECTIONS = (Each, Filter, Flatten)


def normal(node: Expression) -> Expression:
    """
    The one form of a node that has two: `-5` is a Number, and `IN 5` is `IN [5]`.

    The parser makes these from text, and binding from arguments; without it, printing would not lead back to the same tree.
    """
    match node:
        case Negative(Number(value)):
            return Number(-value, offset=node.offset)
        case In(operand, (Null() | Boolean() | Number() | Text()) as item):
            return In(operand, ArrayOf((item,)))
    return node


def children(node: Expression) -> tuple[Expression, ...]:
    """The parts of an expression that are evaluated on the same document, in the order they are written."""
    match node:
        case Path(base):
            return () if base is None else (base,)
        case Comparison(_, left, right) | Arithmetic(_, left, right) | Like(_, left, right) | In(left, right) | Xor(left, right):
            return (left, right)
        case And(operands) | Or(operands) | Call(_, operands) | ArrayOf(operands):
            return operands
        case Not(operand) | Negative(operand) | Is(_, operand):
            return (operand,)
        case Between(operand, low, high):
            return (operand, low, high)
        case ObjectOf(entries):
            return tuple(value for _, value in entries)
        case _:
            return ()


def predicates(node: Expression) -> tuple[Expression, ...]:
    """The filters of a path: evaluated on elements, not on the document."""
    return tuple(step.predicate for step in node.steps if isinstance(step, Filter)) if isinstance(node, Path) else ()


def levels(root: Expression) -> int:
    """How many nodes stand one inside another; does not recurse, so that it may be asked of any tree."""
    count, level = 0, [root]
    while level:
        count += 1
        level = [part for node in level for part in (*children(node), *predicates(node))]
    return count


def offset_of(node: Expression) -> int:
    """Where the first part of `node` that knows its place stands; -1 if none does."""
    if node.offset >= 0:
        return node.offset
    return next((offset for part in children(node) if (offset := offset_of(part)) >= 0), -1)


def rewrite(node: Expression, change: Callable[[Expression], Expression]) -> Expression:
    """The tree with `change` applied to every expression, innermost first; unchanged parts are shared."""
    parts = {part.name: getattr(node, part.name) for part in fields(node)}
    changes = {name: after for name, part in parts.items() if (after := _rewrite_part(part, change)) is not part}
    return change(replace(node, **changes) if changes else node)  # type: ignore[arg-type]  # each under its own name


def _rewrite_part(part: object, change: Callable[[Expression], Expression]) -> object:
    """One field of a node: an expression, a step with a filter, a tuple of such or of object entries, or plain data."""
    if isinstance(part, tuple):
        after = tuple(_rewrite_part(item, change) for item in part)
        return part if all(new is old for new, old in zip(after, part, strict=True)) else after
    if isinstance(part, Filter):
        predicate = rewrite(part.predicate, change)
        return part if predicate is part.predicate else Filter(predicate)
    if isinstance(part, Node) and not isinstance(part, Field | Index | Each | Flatten):
        return rewrite(part, change)  # type: ignore[arg-type]  # every other Node is an Expression
    return part
