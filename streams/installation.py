"""Which topics the origins and documents on record belong to: checked at every start, for one made anew is another one."""

from __future__ import annotations

from schemas.errors import Fatal
from schemas.topics import Topics
from schemas.webhooks import Installation


def check(known: Installation | None, topics: Topics, *, mutations_topic_id: str, changes_topic_id: str, new_epoch: bool) -> Installation:
    """
    What must be on record before a worker starts.

    Args:     known: what is on record, None at the very first start. new_epoch: an operator says that the new topics are to be taken.
    Returns:  ``known`` when it holds, else what has to be written.
    Raises:   Fatal: a topic was made anew, and nobody has said that this is meant.
    """
    found = {topics.mutations.name: mutations_topic_id, topics.changes.name: changes_topic_id}
    if known is None:
        return Installation(0, mutations_topic_id, changes_topic_id)
    recorded = {topics.mutations.name: known.mutations_topic_id, topics.changes.name: known.changes_topic_id}
    if found == recorded:
        return known
    if new_epoch:
        return Installation(known.epoch + 1, mutations_topic_id, changes_topic_id)
    anew = [name for name in found if found[name] != recorded[name]]
    lost = "the documents that it kept are gone" if topics.changes.name in anew else "its offsets begin again"
    raise Fatal(
        f"{' and '.join(anew)} was made anew since the last start (topic id {found[anew[0]]}, was {recorded[anew[0]]}): {lost}. "
        "If that is meant, start once with --new-epoch; if not, restore the topic"
    )
