"""What a query costs at run time and no more: a function, a condition, and which properties they read. Equal queries share one."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any
from weakref import WeakValueDictionary

import msgspec

from streams.query import compile_query
from streams.query.ast import Expression, Field, Path, children
from streams.query.compile import Predicate
from streams.standing.conditions import Condition, condition_of


class Selection:
    """
    Which documents a query is true for; the same object for the same query and arguments, and equal to nothing else.

    matches:    None: every document. condition: what must hold for that, for an index.
    reads:      the properties of the document that it depends on: where none of them changed, neither did the answer.
    """

    __slots__ = ("__weakref__", "condition", "matches", "reads")

    def __init__(self, tree: Expression, matches: Predicate) -> None:
        self.condition: Condition = condition_of(tree)
        self.matches = None if self.condition.branches is None and self.condition.exact else matches
        self.reads = reads_of(tree)


_selections: WeakValueDictionary[tuple[str, bytes], Selection] = WeakValueDictionary()


def selection_of(text: str, args: Mapping[str, Any]) -> Selection:
    """
    The selection of a query; its tree is not kept.

    Raises:  QueryError.
    """
    key = (text, msgspec.json.encode(args) if args else b"")
    known = _selections.get(key)
    if known is None:
        query = compile_query(text, args)
        known = _selections[key] = Selection(query.ast, query.matches)
    return known


def reads_of(tree: Expression) -> frozenset[str]:
    """The properties of the document that an expression looks at; filters look at elements of those."""
    found: set[str] = set()
    nodes = [tree]
    while nodes:
        node = nodes.pop()
        if isinstance(node, Path) and node.base is None and isinstance(node.steps[0], Field):
            found.add(node.steps[0].name)
        nodes += children(node)
    return _shared(frozenset(found))


@lru_cache(4_096)
def _shared(names: frozenset[str]) -> frozenset[str]:
    """One object for equal sets: thousands of queries look at the same few properties."""
    return names
