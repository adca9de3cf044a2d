"""What a query can know before it sees a document: its constants are computed once, its constant patterns must be valid."""

from __future__ import annotations

from streams.query.ast import (
    ArrayOf,
    Boolean,
    Call,
    Expression,
    Like,
    Null,
    Number,
    ObjectOf,
    Text,
    children,
    offset_of,
    rewrite,
)
from streams.query.bind import literal
from streams.query.errors import Refused
from streams.query.interpret import evaluate
from streams.query.javascript import PatternError
from streams.query.patterns import Matcher, pattern_matcher, regexp_matcher
from streams.query.steps import Budget, OutOfStepsError
from streams.query.values import MISSING


def fold(tree: Expression) -> Expression:
    """
    The tree with every part that no document can change replaced by its value.

    Raises:  Refused: a pattern that is a literal is not valid.
    """
    return rewrite(tree, _folded)


def is_literal(node: Expression) -> bool:
    """Whether it is plain data."""
    match node:
        case Null() | Boolean() | Number() | Text():
            return True
        case ArrayOf() | ObjectOf():
            return all(map(is_literal, children(node)))
    return False


def matcher_of(node: Expression) -> Matcher | None:
    """
    The matcher of a LIKE or regexp_like whose pattern is a literal; None for every other node.

    Raises:  Refused: the pattern is not valid.
    """
    try:
        match node:
            case Like(kind, _, Text(pattern) as place):
                return pattern_matcher(kind, pattern)
            case Call("regexp_like", (_, Text(pattern) as place, *flags)):
                literal_flags = [flag.value for flag in flags if isinstance(flag, Text)]
                matcher = regexp_matcher(pattern, *literal_flags)
                return matcher if len(literal_flags) == len(flags) else None
        return None
    except PatternError as error:
        raise Refused(f"the pattern is not valid: {error}", offset_of(place)) from None


def _folded(node: Expression) -> Expression:
    """The value of a node whose parts are all literals, as a literal; any other node as it is."""
    matcher_of(node)  # refuses what is not valid, before the node can become a null
    parts = children(node)
    if not parts or isinstance(node, ArrayOf | ObjectOf) or not all(map(is_literal, parts)):
        return node
    try:
        value = evaluate(node, None, Budget())
        return node if value is MISSING else literal(value, offset=offset_of(node))
    except (OutOfStepsError, ValueError):  # too costly to know, or too deep or large to write down: left to each evaluation
        return node
