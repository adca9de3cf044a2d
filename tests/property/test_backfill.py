"""What a backfill passes over without making a change of it would have led to nothing."""

from __future__ import annotations

from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from schemas.changes import Change
from schemas.positions import Origin
from schemas.records import encode_change
from schemas.webhooks import WebhookRevision, WebhookSpec
from streams.backfill import WINDOW_US, Plan, backfilled
from streams.matching import standing_of
from streams.sieve import Sieve

MADE_US = WINDOW_US + 1_000
OLD_US, RECENT_US = 999, 1_000
EVENTS = ("create", "enter", "update", "leave", "remove")
QUERIES = ["true", "n == 1", "n > 1", "s == 'x'", "s == 'x' && n == 2", "s == 'x' || n == 2", "!(n == 1)", "s IN ('x', 'y')"]

documents = st.none() | st.fixed_dictionaries({}, optional={"n": st.integers(0, 3), "s": st.sampled_from(["x", "y", "\x1f"])})


@given(
    queries=st.lists(st.sampled_from(QUERIES), min_size=1, max_size=3),
    collections=st.sampled_from([("c",), ("d",), ("*",), ("c", "d")]),
    old=documents, new=documents, appended_us=st.sampled_from([OLD_US, RECENT_US]), offset=st.integers(0, 30),
)  # fmt: skip
def test_what_leads_to_a_delivery_passes_the_sieve(
    queries: list[str], collections: tuple[str, ...], old: Any, new: Any, appended_us: int, offset: int
) -> None:
    """Whatever revisions there are, and also where only what was there before matches."""
    revisions = []
    for number, query in enumerate(queries, 1):
        spec = WebhookSpec("w", "http://x", collections=collections, query=query, events=EVENTS, start="beginning")
        revisions.append(WebhookRevision("u", "w", number, number, spec, [], MADE_US, MADE_US, [Origin(0, 0, 10 * number)]))
    standings = [standing_of(one, "lane", one.since or ()) for one in revisions]
    plan = Plan("w", "u.1", "lane", standings, 0, MADE_US - WINDOW_US, {})
    old_data, new_data = (None if one is None else msgspec.json.encode(one) for one in (old, new))
    change = Change("c", "a", 1_000 + offset, offset, old_data, new_data, Origin(0, 0, offset), appended_us)
    if backfilled(plan, change, {}) is not None:
        assert Sieve(plan).passes(change.key.encode(), encode_change(change))
