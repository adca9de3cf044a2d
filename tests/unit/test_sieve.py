"""What a backfill passes over without making a change of it."""

import pytest

from schemas.changes import Change
from schemas.mutations import MARK_KEY
from schemas.positions import Origin
from schemas.records import encode_change, encode_revision
from schemas.topics import Topics
from schemas.webhooks import WebhookRevision, WebhookSpec
from streams.sieve import ASKED_MAX, LOOKS, Sieve
from streams.subscriptions import Subscriptions

N1, N2 = b'{"_id":"a","n":1}', b'{"_id":"a","n":2}'


def change(old, new):
    return Change("c", "a", 1_003, 3, old, new, Origin(0, 0, 3), 1_000)


def revision(number=1, *, query="true", ids=(), collections=("c",)):
    spec = WebhookSpec("w", "http://x", collections=collections, query=query, ids=ids, start="beginning")
    return WebhookRevision("u", "w", number, number, spec, [], 1_000, 1_000, [Origin(0, 0, 10 * number)])


def plan_of(*revisions):
    subscriptions = Subscriptions(Topics("test.", 1))
    for offset, one in enumerate(revisions):
        subscriptions.apply(one.key.encode(), encode_revision(one), offset)
    plan = subscriptions.plan("w")
    assert plan is not None
    return plan


def sieve(*queries):
    return Sieve(plan_of(*(revision(number, query=query) for number, query in enumerate(queries, 1))))


def test_changes_of_other_collections_are_told_by_their_key():
    """A mark is always of interest."""
    assert [True, False, True, True] == [sieve("true").is_of(key) for key in (b"c/1", b"d/c/1", MARK_KEY, None)]
    assert Sieve(plan_of(revision(collections=("*",)))).is_of(b"d/1")


@pytest.mark.parametrize(
    ("query", "needles"),
    [
        ("a = 'x'", {b'"x"'}),
        ("a = 'x' AND n > 3", {b'"x"'}),
        ("n > 3 AND starts_with(a, 'x')", {b'"x'}),
        ("a IN ('x', 'y')", {b'"x"', b'"y"'}),
        ("a IN ('1', '2', '3', '4', '5', '6', '7', '8', '9')", None),
        ("a = 'x' OR starts_with(b, 'é\"')", {b'"x"', '"é\\"'.encode()}),
        ("a = 'x' OR n = 3", None),
        ("NOT a = 'x'", None),
        ("true", None),
        ("false", set()),
    ],
)
def test_what_must_stand_in_the_bytes_of_a_change(query, needles):
    """Strings that a query asks for; a number may be written in many ways."""
    assert needles == plan_of(revision(query=query)).needles


def test_the_strings_of_all_revisions_are_looked_for():
    """Each serves a part of what is gone through."""
    assert {b'"x"', b'"y"'} == plan_of(revision(query="a = 'x'"), revision(2, query="a = 'y'")).needles


def test_a_change_is_passed_over_by_its_bytes_alone():
    """But for a mark, and where something is escaped, which may be what is looked for."""
    asked = [(b"c/1", b'{"a":"x"}'), (b"c/1", b'{"a":"y"}'), (b"c/1", b'{"a":"\\u0078"}'), (MARK_KEY, b""), (None, b""), (b"d/1", b'"x"')]
    assert [True, False, True, True, True, False] == [sieve("a = 'x'").passes(key, value) for key, value in asked]
    assert sieve("a = 1").passes(b"c/1", b"")  # is no change: whoever decodes it says so


def test_a_change_of_another_document_is_passed_over_by_its_key():
    """Where every query names documents."""
    of_two = Sieve(plan_of(revision(ids=("a", "b/1"))))
    keys = (b"c/a", b"c/b/1", b"c/b", b"d/a", MARK_KEY)
    assert [True, True, False, False, True] == [of_two.passes(key, b"") for key in keys]


def test_what_is_mostly_wanted_is_not_asked_first():
    """It would be decoded twice."""
    both = sieve("n == 2")
    wanted, unwanted = (encode_change(change(None, new)) for new in (N2, N1))
    assert [True] * LOOKS == [both.passes(b"c/a", wanted) for _ in range(LOOKS)]
    assert both.passes(b"c/a", unwanted)


def test_a_change_is_passed_over_when_no_query_wants_either_document():
    """So that the rest of it is not decoded."""
    changes = [encode_change(change(old, new)) for old, new in ((N1, N1), (N1, N2), (N2, N1), (None, N2), (N2, None), (None, N1))]
    assert [False, True, True, True, True, False] == [sieve("n == 2").passes(b"c/a", one) for one in changes]
    assert all(sieve("n == 2", "n == 1").passes(b"c/a", one) for one in changes)
    assert all(sieve("n == 2", "true").passes(b"c/a", one) for one in changes)
    assert all(sieve(*(f"n == {number + 10}" for number in range(ASKED_MAX + 1))).passes(b"c/a", one) for one in changes)
