"""
The query language: a text in, a function of a document out. Pure: no I/O, no clock, no chance.

    query = compile_query("age >= 18 && !(name == 'Frank')")
    query.matches({"name": "Susan", "age": 31})   # True

The way of a query: tokens → grammar.lark → builder → tree (ast) → bind → fold → writer → compile. The same tree goes to the
printer, to the interpreter and `explain`, and to the index of standing queries. docs/reference/query-language.md is what
users read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final

from streams.query.ast import Expression, Not
from streams.query.bind import bind
from streams.query.compile import Predicate, compile_tree
from streams.query.errors import QueryError, Refused
from streams.query.explain import Explained, explain_tree
from streams.query.parse import Parsed, parse
from streams.query.printer import to_text
from streams.query.tokens import Dialect

__all__ = ["Explained", "Query", "QueryError", "compile_query", "explain", "to_text"]

_NO_ARGS: Final[Mapping[str, object]] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Query:
    """
    A compiled query; made by `compile_query`.

    Attributes:  text: as it was written. ast: its condition with args bound. dialect: how it was read. collection: what
                 SELECT names, else None. matches: takes a decoded JSON object and says whether the query is true for it;
                 a function of its own rather than a method, to save a call on the hot path. It never raises.
    """

    text: str
    ast: Expression
    dialect: Dialect
    collection: str | None
    matches: Predicate = field(compare=False, repr=False)

    def value(self, document: Mapping[str, Any]) -> bool | None:
        """True, False, or None where the query is null. For a document now and then: it compiles the negation each time."""
        if self.matches(document):
            return True
        return False if compile_tree(Not(self.ast))(document) else None


def compile_query(text: str, args: Mapping[str, object] = _NO_ARGS, *, collections: Sequence[str] | None = None) -> Query:
    """
    Read a query of either dialect.

    Args:    args: JSON values for `$args.name` and `:name`. collections: those of the webhook; a SELECT must name the only one.
    Raises:  QueryError.
    """
    try:
        parsed = parse(text)
        _check_collection(parsed, collections)
        tree = bind(parsed.tree, args)
        return Query(text, tree, parsed.dialect, parsed.collection, compile_tree(tree))
    except Refused as refused:
        raise QueryError(refused.message, text=text, offset=refused.offset, expected=refused.expected) from None


def explain(query: Query, document: Mapping[str, Any]) -> Explained:
    """The value of every part of the query for a document."""
    return explain_tree(query.ast, document)


def _check_collection(parsed: Parsed, collections: Sequence[str] | None) -> None:
    if parsed.collection is not None and collections is not None and list(collections) != [parsed.collection]:
        message = f"the query selects from {parsed.collection}, the webhook watches {', '.join(collections) or 'nothing'}"
        raise Refused(message, parsed.collection_offset, list(collections) or None)
