"""What ``query explain`` tells, on the command line and in the API. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from schemas import strict_json
from schemas.changes import Change
from schemas.positions import Origin
from streams.matching import classify
from streams.query import Explained, compile_query, explain
from streams.query.compile import Predicate
from streams.standing.shown import found_by

Document = Mapping[str, Any]


def explained(text: str, args: Mapping[str, Any], doc: Document, old: Document | None) -> dict[str, Any]:
    """
    The value of a query for a document, of every part of it, and what the change from ``old`` to ``doc`` would be.

    Returns:  ``{"result", "event", "tree": {"text", "value", "children"}, "index": {"found", "by"}}``.
    Raises:   QueryError.
    """
    query = compile_query(text, args)
    index = found_by(query.ast, doc, *([] if old is None else [old]))
    return {
        "result": query.value(doc),
        "event": _event(query.matches, doc, old),
        "tree": _tree(explain(query, doc)),
        "index": {"found": index.found, "by": index.by},
    }


def _event(matches: Predicate, doc: Document, old: Document | None) -> str | None:
    before = None if old is None else strict_json.encode(dict(old))
    change = Change("", "", 0, 1, before, strict_json.encode(dict(doc)), Origin(0, 0, 0), 0)
    event = classify(change, old=old is not None and matches(old), new=matches(doc))
    return None if event is None else event.value


def _tree(part: Explained) -> dict[str, Any]:
    return {"text": part.text, "value": part.value, "children": [_tree(child) for child in part.children]}
