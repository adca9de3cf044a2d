"""Rules of the fold of webhooks."""

import msgspec
import pytest

from schemas.positions import Origin
from schemas.records import encode_revision, encode_since, encode_status
from schemas.registry import Registry
from schemas.webhooks import State, WebhookRevision, WebhookSince, WebhookSpec, WebhookStatus

SINCE = [Origin(0, 0, 5)]
FIRST = WebhookRevision("uid", "a", 1, 1, WebhookSpec("a", "http://x", collections=("c",)), [], 1, 1, SINCE)


def registry(*records):
    found = Registry()
    for record in records:
        if isinstance(record, WebhookRevision):
            found.apply(record.key.encode(), encode_revision(record))
        elif isinstance(record, WebhookSince):
            found.apply(record.key.encode(), encode_since(record))
        else:
            found.apply(f"{record.name}/status".encode(), encode_status(record))
    return found


def edited(before, **changes):
    return msgspec.structs.replace(before, edit=before.edit + 1, **changes)


def disabled(edit):
    return WebhookStatus("uid", "a", edit, State.DISABLED, "410", 1)


def test_a_revision_is_there_once_its_marks_are_acknowledged():
    """Until then the one before it holds."""
    second = edited(FIRST, revision=2, since=None)
    assert FIRST == registry(FIRST, second).webhook("a").current
    assert 2 == registry(FIRST, second, edited(second, since=SINCE)).webhook("a").current.revision


def test_a_deleted_webhook_is_gone_and_its_name_counts_on():
    """The next one of this name has a higher revision."""
    found = registry(FIRST, edited(FIRST, revision=2, deleted=True))
    assert found.webhook("a") is None
    assert 2 == found.newest("a").revision
    assert [] == list(found)


@pytest.mark.parametrize(
    ("records", "state"),
    [
        ([FIRST, disabled(1)], State.DISABLED),
        ([FIRST, disabled(1), edited(FIRST)], State.ACTIVE),
        ([FIRST, disabled(1), edited(FIRST, spec=msgspec.structs.replace(FIRST.spec, state=State.DISABLED))], State.DISABLED),
        ([FIRST, msgspec.structs.replace(disabled(9), uid="another")], State.ACTIVE),
    ],
)
def test_a_status_holds_until_an_edit_makes_the_webhook_active(records, state):
    """Of this webhook alone, not of one of the same name before it."""
    found = registry(*records).webhook("a")
    assert state == found.state
    assert ("410" if state is State.DISABLED else None) == found.reason


def test_where_a_pending_revision_begins_is_known_from_its_marks():
    """Partition by partition, until the API has written it down."""
    pending = edited(FIRST, revision=2, since=None)
    found = registry(FIRST, pending, WebhookSince("a", 2, Origin(0, 1, 7)))
    assert [Origin(0, 1, 7)] == found.since(pending)
    assert SINCE == found.since(FIRST)


def test_tombstones_forget():
    """A revision and its status."""
    found = registry(FIRST, disabled(1))
    found.apply(b"a/status", None)
    assert State.ACTIVE == found.webhook("a").state
    found.apply(b"a/1", None)
    assert found.webhook("a") is None


def test_the_first_of_several_marks_holds_once_it_was_passed():
    """An API that finishes what another one has left may not know of it, and names its own."""
    second = edited(FIRST, revision=2, since=[Origin(0, 0, 9), Origin(0, 1, 9)])
    found = registry(FIRST, second, WebhookSince("a", 2, Origin(0, 0, 7)), WebhookSince("a", 2, Origin(0, 0, 9)))
    assert [Origin(0, 0, 7), Origin(0, 1, 9)] == found.since(second)
    assert {0} == found.passed(second)
