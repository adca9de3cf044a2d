"""Rules for topics that were made anew."""

import pytest

from schemas.errors import Fatal
from schemas.topics import Topics
from schemas.webhooks import Installation
from streams.installation import check


def run(known, *, mutations="m1", changes="c1", new_epoch=False):
    return check(known, Topics(), mutations_topic_id=mutations, changes_topic_id=changes, new_epoch=new_epoch)


def test_the_first_start_records_the_topics():
    """Epoch 0."""
    assert Installation(0, "m1", "c1") == run(None)


def test_the_same_topics_go_on():
    """Whatever the flag says, an epoch is only raised when there is a reason."""
    known = Installation(3, "m1", "c1")
    assert known == run(known) == run(known, new_epoch=True)


@pytest.mark.parametrize(("found", "named"), [({"mutations": "m2"}, "livehook.mutations was"), ({"changes": "c2"}, "livehook.changes was")])
def test_a_topic_made_anew_stops_the_worker_until_it_is_told(found, named):
    """The line names the topic and the flag; with the flag the epoch grows."""
    known = Installation(3, "m1", "c1")
    with pytest.raises(Fatal, match=named) as error:
        run(known, **found)
    assert "--new-epoch" in str(error.value)
    assert 4 == run(known, **found, new_epoch=True).epoch
