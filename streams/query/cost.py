"""What evaluating a part of a query costs, in the steps of limits.STEPS_MAX; the interpreter and the compiler count alike."""

from __future__ import annotations

from typing import Final

from streams.query.ast import Boolean, Call, Expression, Like, Null, Number, Step, Text, children

DYNAMIC_PATTERN_COST: Final = 2_000  # compiling a pattern that a document brings takes up to some milliseconds


def cost(node: Expression) -> int:
    """Steps to evaluate an expression once, its own projections apart (they pay for themselves); literals are free."""
    if isinstance(node, Null | Boolean | Number | Text):
        return 0
    own = DYNAMIC_PATTERN_COST if _has_dynamic_pattern(node) else 1
    return own + sum(map(cost, children(node)))


def steps_cost(steps: tuple[Step, ...]) -> int:
    """Steps to follow a path from one element to its next projection."""
    return max(len(steps), 1)


def _has_dynamic_pattern(node: Expression) -> bool:
    match node:
        case Like(_, _, pattern) | Call("regexp_like", (_, pattern, *_)):
            return not isinstance(pattern, Text)
    return False
