"""
What must stand in the bytes of a document for a query to be true of it: to pass over what need not be decoded.

Pure. Called by streams/backfill.py and streams/sieve.py.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from streams.standing.conditions import Condition
from streams.standing.predicates import Element, Equals, Predicate, Prefix

_ESCAPE = b"\\"
_NEEDLES_MAX = 8  # looking for more in each change takes longer than decoding it


def needles_of(condition: Condition) -> frozenset[bytes] | None:
    """One of these few stands in every document for which the condition holds, if nothing in it is escaped; None: nothing is known."""
    if condition.branches is None:
        return None
    found: list[frozenset[bytes] | None] = []
    for branch in condition.branches:
        needle = _needle(branch.predicate)
        if needle is not None:
            found.append(frozenset((needle,)))
        else:
            found.append(None if branch.then is None else needles_of(branch.then))
    return any_of(found)


def any_of(many: Iterable[frozenset[bytes] | None]) -> frozenset[bytes] | None:
    """What stands in every document for which one of several conditions holds."""
    found: frozenset[bytes] = frozenset()
    for needles in many:
        if needles is None:
            return None
        found |= needles
    return found if len(found) <= _NEEDLES_MAX else None


def may_hold(data: bytes, needles: frozenset[bytes]) -> bool:
    """
    Whether what is inside may be true for a document in these bytes.

    A document keeps its strings as they were written, and any character may have been written as an escape: then it may.
    """
    for needle in needles:
        if needle in data:
            return True
    return _ESCAPE in data


def _needle(predicate: Predicate) -> bytes | None:
    match predicate:
        case Equals(_, str(text)) | Element(_, str(text)):
            return msgspec.json.encode(text)
        case Prefix(_, prefix):
            return msgspec.json.encode(prefix)[:-1]
    return None
