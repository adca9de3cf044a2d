"""Arguments into a tree: after this every parameter is a literal, and the tree stands for itself."""

from __future__ import annotations

from collections.abc import Mapping

from streams.query.ast import (
    ArrayOf,
    Boolean,
    Expression,
    Null,
    Number,
    ObjectOf,
    Parameter,
    Text,
    children,
    levels,
    normal,
    predicates,
    rewrite,
)
from streams.query.errors import Refused
from streams.query.limits import ARGS_BYTES_MAX, LEVELS_MAX, LITERALS_MAX
from streams.query.values import in_range


def bind(tree: Expression, args: Mapping[str, object]) -> Expression:
    """
    Replace each `:name` and `$args.name` by its value.

    Args:    args: JSON values by name; those that the query does not use are ignored.
    Raises:  Refused: an argument is missing or no JSON value, or the tree gets over a limit with it.
    """

    def replaced(node: Expression) -> Expression:
        if not isinstance(node, Parameter):
            return normal(node)
        if node.name not in args:
            raise Refused(f"the argument {node.name} is missing", node.offset, sorted(args) or None)
        return _argument(node, args[node.name])

    bound = rewrite(tree, replaced)
    if bound is not tree:
        _check_limits(bound)
    return bound


def _argument(parameter: Parameter, value: object) -> Expression:
    try:
        return literal(value, offset=parameter.offset)
    except (TypeError, ValueError) as error:
        raise Refused(f"the argument {parameter.name} {error}", parameter.offset) from None


def literal(value: object, *, offset: int = -1, level: int = 1) -> Expression:
    """
    A JSON value as a node.

    Raises:  TypeError, ValueError: it is none, or too deep; the message continues "the argument x ".
    """
    if level > LEVELS_MAX:
        raise ValueError(f"is nested more than {LEVELS_MAX} levels deep")
    match value:
        case None:
            return Null(offset=offset)
        case bool():
            return Boolean(value, offset=offset)
        case int() | float():
            if not in_range(value):
                raise ValueError("is out of range (about ±1.8e308)")
            return Number(value, offset=offset)
        case str():
            return Text(value, offset=offset)
        case list() | tuple():
            return ArrayOf(tuple(literal(item, offset=offset, level=level + 1) for item in value), offset=offset)
        case Mapping():
            if not all(isinstance(key, str) for key in value):
                raise TypeError("has a key that is no string")
            entries = tuple((key, literal(item, offset=offset, level=level + 1)) for key, item in value.items())
            return ObjectOf(entries, offset=offset)
    raise TypeError(f"is no JSON value but {type(value).__name__}")


def _check_limits(tree: Expression) -> None:
    """Arguments count like literals in the text: the same query must not cost more because its values stand elsewhere."""
    if levels(tree) > LEVELS_MAX:
        raise Refused(f"the query with its args is nested more than {LEVELS_MAX} levels deep", 0)
    literals, size = _measure(tree)
    if literals > LITERALS_MAX:
        raise Refused(f"the query with its args has more than {LITERALS_MAX:,} literals", 0)
    if size > ARGS_BYTES_MAX:
        raise Refused(f"the query with its args is longer than {ARGS_BYTES_MAX // 1024} KiB", 0)


def _measure(tree: Expression) -> tuple[int, int]:
    """Literals in the tree, and the bytes of its strings."""
    literals = size = 0
    nodes = [tree]
    while nodes:
        node = nodes.pop()
        literals += isinstance(node, Null | Boolean | Number | Text)
        size += len(node.value.encode("utf-8", "surrogatepass")) if isinstance(node, Text) else 0
        nodes += (*children(node), *predicates(node))
    return literals, size
