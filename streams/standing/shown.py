"""Whether an index finds a query for a document, and by what: for people who wonder what their query costs."""

from __future__ import annotations

import msgspec

from streams.query.ast import Expression
from streams.standing.conditions import condition_of
from streams.standing.predicates import value_at


class FoundBy(msgspec.Struct, frozen=True):
    """Whether a query would be looked at; ``by``: what of it was found, None if nothing or if every change is."""

    found: bool
    by: str | None


def found_by(tree: Expression, *documents: object) -> FoundBy:
    """
    How an index finds a query for a change with these documents, the most telling one first.

    Args:  tree: bound, of a query that compiles.
    """
    condition = condition_of(tree)
    if condition.branches is None:
        return FoundBy(found=True, by=None)
    for document in documents:
        for predicate in condition.predicates:
            if predicate.holds(value_at(predicate.place, document)):
                return FoundBy(found=True, by=predicate.text())
    return FoundBy(found=False, by=None)
