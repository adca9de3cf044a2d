"""The snapshot after a gap: of each document the newest, once, in bounded memory."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from schemas.changes import Change
from schemas.deliveries import Delivery, Match
from schemas.positions import Origin
from streams.snapshots import Newest

Told = tuple[str, int, Match | None]
"""Key and version of a change, and what it is to the webhook."""


def taken(log: Sequence[Told], low: int = 0, count_max: int = 100) -> Newest:
    newest = Newest(low, count_max)
    for offset, (key, version, found) in enumerate(log):
        change = Change("c", key, version, version, None, None, Origin(0, 0, offset), 0)
        newest.take(key.encode(), change, offset, None if found is None else Delivery("u", 1, found, change))
    return newest


def sent(log: Sequence[Told], count_max: int = 100) -> list[tuple[str, int]]:
    """Key and version of all that is sent, in all rounds."""
    low, out = 0, []
    while True:
        newest = taken(log, low, count_max)
        out += [(key, version) for offset, (key, version, _) in enumerate(log) if (key.encode(), offset) in newest]
        if newest.is_last:
            return out
        low = newest.high


def test_the_newest_of_each_document_is_sent():
    """Once, however often it has changed; an older copy behind a newer one is nothing."""
    log = [("a", 1, Match.INITIAL), ("b", 1, Match.INITIAL), ("a", 2, Match.INITIAL), ("a", 1, Match.INITIAL)]
    assert [("b", 1), ("a", 2)] == sent(log)


def test_what_does_not_match_any_more_is_not_sent():
    """Where nobody wants to hear that it is gone; it may come back."""
    gone: Told = ("a", 2, None)
    assert [] == sent([("a", 1, Match.INITIAL), gone])
    assert [("a", 3)] == sent([("a", 1, Match.INITIAL), gone, ("a", 3, Match.INITIAL)])


def test_that_a_document_is_gone_is_not_revoked_by_what_nobody_wants():
    """The receiver may have it from before the gap. A newer one that matches comes in its place."""
    assert [("a", 2)] == sent([("a", 1, Match.INITIAL), ("a", 2, Match.LEAVE), ("a", 3, None)])
    assert [("a", 3)] == sent([("a", 1, Match.INITIAL), ("a", 2, Match.REMOVE), ("a", 3, Match.INITIAL)])


@given(
    st.lists(st.tuples(st.sampled_from("abcdefgh"), st.sampled_from([Match.INITIAL, Match.LEAVE, None])), max_size=40), st.integers(1, 9)
)
def test_in_as_many_rounds_as_it_takes_the_same_is_sent(log, count_max):
    """In each round no more is held than there is room for; in all of them each document comes once."""
    told = [(key, version, found) for version, (key, found) in enumerate(log, 1)]
    found = sent(told, count_max)
    assert sorted(sent(told)) == sorted(found)
    assert len(found) == len({key for key, _ in found})
