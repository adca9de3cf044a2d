"""The checks of a webhook's input that only the composition root can bring together: the query language, and what may be called."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from connectors.webhook.egress import OPENED_BY_ALLOW_PRIVATE, Rules
from connectors.webhook.identity import identity_of
from schemas.errors import FieldError, Invalid
from schemas.webhook_checks import TargetCheck
from schemas.webhook_validation import QueryFieldError
from streams.query import QueryError, compile_query


def check_query(text: str, args: Mapping[str, Any], collections: Sequence[str]) -> FieldError | None:
    """What is wrong with a query, with its place, or None."""
    try:
        compile_query(text, args, collections=collections)
    except QueryError as error:
        return query_field_error(error)
    return None


def query_field_error(error: QueryError) -> QueryFieldError:
    """A query's error as the field ``query``."""
    expected = None if error.expected is None else tuple(error.expected)
    return QueryFieldError("query", error.message, error.line, error.column, expected)


def target_check(rules: Rules) -> TargetCheck:
    """Says which hosts may not be called, as far as their text tells; what names lead to is checked at every call, by the same rules."""

    def check(host: str, _: int) -> str | None:
        found = rules.refused_host(host)
        if found is None:
            return None
        ways = "EGRESS_ALLOW or ALLOW_PRIVATE" if found in OPENED_BY_ALLOW_PRIVATE else "EGRESS_ALLOW"
        return f"leads to an address that is not public ({found.value}): it may be allowed with {ways}"

    return check


def check_identity(mtls: Mapping[str, str | None]) -> Sequence[FieldError]:
    """What is wrong with a client certificate."""
    try:
        identity_of(mtls)
    except Invalid as error:
        return error.errors
    return []
