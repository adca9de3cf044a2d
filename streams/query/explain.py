"""The value of every part of a query for one document: what `livehook query explain` shows."""

from __future__ import annotations

from dataclasses import dataclass

from streams.query.ast import Boolean, Expression, Null, Number, Text, children
from streams.query.interpret import evaluate
from streams.query.printer import to_text
from streams.query.steps import Budget, OutOfStepsError
from streams.query.values import MISSING


@dataclass(frozen=True, slots=True)
class Explained:
    """One part of a query; `missing` tells a path that leads nowhere from one that leads to null."""

    text: str
    value: object
    children: tuple[Explained, ...]
    missing: bool = False


def explain_tree(node: Expression, document: object) -> Explained:
    """The part and what it is made of; literals show their value already, and filters have one for each element."""
    return _explain(node, document, Budget())


def _explain(node: Expression, document: object, budget: Budget) -> Explained:
    """One budget for the whole tree: each part is evaluated once for itself and once for every part around it."""
    try:
        value = evaluate(node, document, budget)
    except OutOfStepsError:
        value = None
    parts = tuple(_explain(part, document, budget) for part in children(node) if not isinstance(part, Null | Boolean | Number | Text))
    return Explained(to_text(node), None if value is MISSING else value, parts, missing=value is MISSING)
