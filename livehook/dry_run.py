"""What a query would have matched in the changes that are kept: counts and the first bodies. A fold over ``changes``; does no I/O."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from connectors.webhook.formats import livehook_body
from schemas.changes import Change
from schemas.deliveries import Delivery, Match
from streams.matching import classify
from streams.query.compile import Predicate
from streams.standing.documents import Documents

EXAMPLES_MAX = 10
EXAMPLE_BYTES_MAX = 1024 * 1024  # of all examples together
EVENTS = (Match.CREATE, Match.ENTER, Match.UPDATE, Match.LEAVE, Match.REMOVE)


class DryRun:
    """
    Args:  matches: whether the query is true for a document. collection: whose changes are looked at.
    """

    def __init__(self, matches: Predicate, collection: str) -> None:
        self._matches = matches
        self._collection = collection
        self._left_bytes = EXAMPLE_BYTES_MAX
        self.scanned = 0
        self.counts = dict.fromkeys(EVENTS, 0)
        self.examples: list[bytes] = []

    def take(self, change: Change) -> None:
        """Look at one change."""
        if change.collection != self._collection:
            return
        self.scanned += 1
        documents = Documents(change)
        old = change.old is not None and self._matches(documents.old())
        new = change.new is not None and self._matches(documents.new())
        event = classify(change, old=old, new=new)
        if event is not None:
            self.counts[event] += 1
            if len(self.examples) < EXAMPLES_MAX:
                self._keep(Delivery("", 0, event, change))

    def _keep(self, delivery: Delivery) -> None:
        body = livehook_body(delivery)
        if len(body) <= self._left_bytes:
            self._left_bytes -= len(body)
            self.examples.append(body)

    def answer(self) -> Mapping[str, Any]:
        """``{"scanned", "matches": {"create": n, …}, "examples": [bodies]}``."""
        matches = {event.value: count for event, count in self.counts.items()}
        return {"scanned": self.scanned, "matches": matches, "examples": [msgspec.Raw(body) for body in self.examples]}
