"""What is written when a webhook changes: which number, which edit, marks or none."""

import msgspec
import pytest

from livehook.api.revisions import TooManySecrets, deleted, edited, planned, rotated
from schemas.errors import FieldError, Invalid
from schemas.positions import Origin
from schemas.registry import Webhook
from schemas.webhook_validation import Wanted
from schemas.webhooks import DeliverySettings, Secret, State, WebhookRevision, WebhookSpec, WebhookStatus

SPEC = WebhookSpec("adults", "https://example.com", ("people",))
SINCE = [Origin(0, 0, 5)]
CURRENT = WebhookRevision("uid", "adults", 3, 7, SPEC, [Secret("old")], 1, 2, SINCE)


def plan(wanted, present=CURRENT, newest=CURRENT, status=None):
    webhook = None if present is None else Webhook(present, status)
    return planned(wanted, present=webhook, newest=newest, now_us=100, new_uid="new uid", new_secret="new")


def test_the_first_revision_of_a_name():
    """Number 1, a new uid, a new secret, marks needed."""
    assert WebhookRevision("new uid", "adults", 1, 1, SPEC, [Secret("new")], 100, 100) == plan(Wanted(SPEC), None, None)


def test_a_secret_of_ones_own_is_taken():
    """In place of a made one."""
    assert [Secret("own")] == plan(Wanted(SPEC, "own"), None, None).secrets


def test_after_a_delete_the_numbers_go_on():
    """Another webhook of the same name."""
    ended = deleted(CURRENT, 50)
    assert (4, 8, True, None, []) == (ended.revision, ended.edit, ended.deleted, ended.since, ended.secrets)

    again = plan(Wanted(SPEC), None, ended)
    assert ("new uid", 5, 9, None) == (again.uid, again.revision, again.edit, again.since)


def test_an_unfinished_creation_goes_on_as_the_same_webhook():
    """With another number, since its marks may stand somewhere."""
    unfinished = msgspec.structs.replace(CURRENT, since=None)
    again = plan(Wanted(SPEC), None, unfinished)

    assert ("uid", 4, 8, None) == (again.uid, again.revision, again.edit, again.since)


def test_an_edit_that_selects_the_same_keeps_the_revision():
    """Same number and since; the edit grows."""
    found = plan(Wanted(msgspec.structs.replace(SPEC, url="https://other.example")))

    assert (3, 8, SINCE, 1, 100) == (found.revision, found.edit, found.since, found.created_us, found.updated_us)


@pytest.mark.parametrize(
    "change", [{"query": "age > 3"}, {"collections": ("cars",)}, {"ids": ("a",)}, {"events": ("create",)}, {"args": {"a": 1}}]
)
def test_another_selection_is_another_revision(change):
    """It needs marks."""
    found = plan(Wanted(msgspec.structs.replace(SPEC, **change)))

    assert (4, 8, None) == (found.revision, found.edit, found.since)


def test_what_is_there_already_is_not_written():
    """Nor is the secret that is there."""
    assert plan(Wanted(SPEC)) is None
    assert plan(Wanted(SPEC, "old")) is None


def test_the_number_of_partitions_is_fixed_once_made():
    """A document must go on finding its partition; a name that was deleted is free again."""
    other = Wanted(msgspec.structs.replace(SPEC, delivery=DeliverySettings(partitions=4)))
    for present, newest in ((CURRENT, CURRENT), (None, msgspec.structs.replace(CURRENT, since=None))):
        with pytest.raises(Invalid) as error:
            plan(other, present, newest)
        assert [
            FieldError("delivery.partitions", "is fixed once the webhook is made, and is 1: delete it to change that")
        ] == error.value.errors
    assert 4 == plan(other, None, deleted(CURRENT, 50)).spec.delivery.partitions


def test_another_secret_replaces_all():
    """Only a rotation keeps the old one."""
    assert [Secret("other")] == plan(Wanted(SPEC, "other")).secrets


def test_a_disabled_webhook_wanted_active_is_written():
    """The status of the sink holds until the next edit."""
    status = WebhookStatus("uid", "adults", 7, State.DISABLED, "410", 9)

    assert (State.ACTIVE, 8) == ((found := plan(Wanted(SPEC), status=status)).spec.state, found.edit)
    assert plan(Wanted(msgspec.structs.replace(SPEC, state=State.DISABLED)), status=status) is None


def test_an_unfinished_revision_is_put_aside_by_a_later_one():
    """Even by an edit that selects what the current one does: marks of the unfinished one may stand in some partitions."""
    unfinished = msgspec.structs.replace(CURRENT, revision=4, edit=8, since=None)

    assert (5, 9, None) == ((found := plan(Wanted(SPEC), newest=unfinished)).revision, found.edit, found.since)
    assert (5, 9, None) == ((found := edited(CURRENT, SPEC, [], newest=unfinished, now_us=1)).revision, found.edit, found.since)


def test_rotation_keeps_what_still_signs():
    """Each for no longer than it would have signed anyway."""
    found = rotated([Secret("b"), Secret("a", 5_000_000), Secret("z", 999)], "c", now_us=1_000, overlap_s=10)

    assert [Secret("c"), Secret("b", 10_001_000), Secret("a", 5_000_000)] == found


def test_rotation_to_a_secret_that_signs_already():
    """It is there once."""
    assert [Secret("a"), Secret("b", 1_001_000)] == rotated([Secret("b"), Secret("a", 5_000_000)], "a", now_us=1_000, overlap_s=1)


def test_rotations_are_bounded():
    """Each is a signature in the header."""
    with pytest.raises(TooManySecrets):
        rotated([Secret(str(n)) for n in range(10)], "new", now_us=0, overlap_s=1)
