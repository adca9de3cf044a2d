"""
What of ``changes`` a backfill need not make a change of, as cheaply as it can be told: by the key, the bytes, the two documents alone.

Pure. Called by the backfills (backfill_run.py, backfill_present.py), the API's dry runs (livehook/api/past.py) and the simulation.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
from msgspec.json import decode as decode_json

from schemas.errors import BadRecord
from schemas.records import decode_values
from streams.backfill import Plan
from streams.query.compile import Predicate
from streams.standing.needles import may_hold

ASKED_MAX = 4  # queries: asking more of every change takes longer than decoding it
LOOKS = 50  # and after so many changes it is known whether most of them are wanted


class Sieve:
    """What of ``changes`` may lead to a delivery, by its key, its bytes and its two documents; the rest need not be made a change."""

    def __init__(self, plan: Plan) -> None:
        queries = [query for one in plan.revisions for query in one.queries]
        self._collections = None if plan.collections is None else frozenset(name.encode() for name in plan.collections)
        self._needles = plan.needles
        ids = [query.ids for query in queries]
        self._ids = None if None in ids else frozenset(id_.encode() for some in ids for id_ in some or ())
        asked = {query.selection.matches for query in queries}
        self._asked = None if None in asked or len(asked) > ASKED_MAX else asked
        self._looks = self._found = 0

    def is_of(self, key: bytes | None) -> bool:
        """Whether a record may be of interest by its key alone; what is no document's is."""
        collection, slash, id_ = (key or b"").partition(b"/")
        if not slash:
            return True
        return (self._collections is None or collection in self._collections) and (self._ids is None or id_ in self._ids)

    def passes(self, key: bytes | None, value: bytes | None) -> bool:
        """Whether a record is worth decoding; a mark is, and what cannot be read."""
        if value is None or not self.is_of(key):
            return False
        if key is None or b"/" not in key:
            return True
        if self._needles is not None and not may_hold(value, self._needles):
            return False
        if self._asked is None:
            return True
        found = _may_match(value, self._asked)
        self._looks += 1
        self._found += found
        if self._looks == LOOKS and self._found > LOOKS // 2:
            self._asked = None  # most of it is wanted: asking first is work for nothing
        return found


def _may_match(value: bytes, asked: Iterable[Predicate | None]) -> bool:
    try:
        documents = [decode_json(data) for data in decode_values(value) if data is not None]
    except (BadRecord, msgspec.DecodeError):
        return True
    for document in documents:
        for matches in asked:
            if matches is None or matches(document):
                return True
    return False
