"""Rules of triggers: several standing queries of one webhook, and which of them a change is delivered for."""

import pytest

from schemas.changes import Change
from schemas.deliveries import Match
from schemas.positions import Origin
from schemas.webhooks import Secret, Trigger, WebhookRevision, WebhookSpec
from streams.matching import SimpleStandingQueries, match, standing_of

DRAFT = b'{"_id":"a","status":"draft"}'
LIVE = b'{"_id":"a","status":"published"}'
PUBLISHED = Trigger(("articles",), "status == 'published'", events=("publish", "unpublish"))
UPDATED = Trigger(("articles",), events=("update",))


def deliveries(*triggers: Trigger, old=None, new=None, collection="articles", id_="a"):
    """Match and trigger of each delivery that one webhook gets."""
    spec = WebhookSpec("site", "https://example.com", triggers=triggers)
    queries = SimpleStandingQueries()
    revision = WebhookRevision("uid", "site", 1, 1, spec, [Secret("x")], 0, 0)
    queries.put(standing_of(revision, "lane", [Origin(0, 0, 0)]))
    change = Change(collection, id_, 1, 1, old, new, Origin(0, 0, 1), 1)
    return [(delivery.match, delivery.trigger) for _, delivery in match(queries, change)]


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (None, LIVE, [(Match.CREATE, 0)]),
        (DRAFT, LIVE, [(Match.ENTER, 0)]),
        (LIVE, DRAFT, [(Match.LEAVE, 0)]),
        (LIVE, None, [(Match.REMOVE, 0)]),
        (LIVE, LIVE, [(Match.UPDATE, 1)]),
        (DRAFT, DRAFT, [(Match.UPDATE, 1)]),
        (None, DRAFT, []),
        (DRAFT, None, []),
    ],
)
def test_updated_or_published_is_two_triggers(old, new, expected):
    """The first that fires with an event it wants gives the match; one that does not want its event leaves it to the next."""
    assert expected == deliveries(PUBLISHED, UPDATED, old=old, new=new)


def test_one_change_makes_one_delivery():
    """However many triggers fire."""
    assert [(Match.CREATE, 0)] == deliveries(Trigger(("*",)), Trigger(("articles",)), Trigger(("*",)), new=LIVE)


def test_each_trigger_has_collections_and_ids_of_its_own():
    """What the first does not select may be selected by the next."""
    triggers = (
        Trigger(("people",)),
        Trigger(("articles",), ids=("b",)),
        Trigger(("articles",), ids=("a",), query="status == :s", args={"s": "draft"}),
    )
    assert [(Match.CREATE, 2)] == deliveries(*triggers, new=DRAFT)
    assert [] == deliveries(*triggers, new=LIVE)
    assert [(Match.CREATE, 0)] == deliveries(*triggers, new=LIVE, collection="people")
