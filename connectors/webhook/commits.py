"""
Commits of many lanes through one consumer: the newest of each lane, one call at a time, at most a hundred lanes a call.

A commit during a rebalance is refused (ILLEGAL_GENERATION, REBALANCE_IN_PROGRESS); it is no error: the next one holds it too. Called by
slots.py, in its thread only.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from connectors.kafka.errors import passes
from connectors.webhook.lease import uptime_s
from connectors.webhook.ownership import Commit, Place

logger = logging.getLogger(__name__)

LANES_MAX = 100  # a call with more of our metadata fails
REFUSED_FOR_NOW = frozenset({KafkaError.ILLEGAL_GENERATION, KafkaError.REBALANCE_IN_PROGRESS, KafkaError.UNKNOWN_MEMBER_ID})
ABSENT = frozenset({KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC, KafkaError._UNKNOWN_PARTITION})


class Commits:
    """
    What is to be committed, and what is under way.

    Args:  committed: told what was acknowledged, and when that had been sent (:func:`lease.uptime_s`).
    """

    def __init__(self, slots_topic: str, committed: Callable[[Sequence[Commit], float], None]) -> None:
        self._slots_topic = slots_topic
        self._committed = committed
        self._wanted: dict[Place, Commit] = {}
        self._asked = False
        self._sent: tuple[float, list[Commit]] | None = None

    def want(self, commits: Iterable[Commit]) -> None:
        """Commit these soon; without any, only find out whether we are a member of the group."""
        self._wanted |= {(commit.topic, commit.partition): commit for commit in commits}
        self._asked = True

    def forget(self, places: Iterable[Place]) -> None:
        """These are not ours any more."""
        for place in places:
            self._wanted.pop(place, None)

    def send(self, consumer: Consumer, slots: Iterable[int]) -> None:
        """The next call, unless one is under way; ``slots`` are ours."""
        member = min(slots, default=None)
        if self._sent is not None or not self._asked or member is None:
            return
        commits = [self._wanted.pop(place) for place in list(self._wanted)[: LANES_MAX - 1]]
        self._asked = bool(self._wanted)
        self._sent = uptime_s(), commits
        # A slot beside the lanes: it is always there and always ours, so its acknowledgement says that we are a member of the group.
        offsets = [TopicPartition(self._slots_topic, member, 0), *(_offset(commit) for commit in commits)]
        try:
            consumer.commit(offsets=offsets, asynchronous=True)
        except KafkaException as error:
            self._sent = None
            logger.info("a commit could not be sent and is tried again: %s", error)

    def answered(self, error: KafkaError | None, offsets: Sequence[TopicPartition]) -> None:
        """librdkafka's ``on_commit``."""
        if self._sent is None:
            return  # that of commit_now, whose caller knows
        sent, commits = self._sent
        self._sent = None
        refused = {(at.topic, at.partition) for at in offsets if at.error is not None}
        if (error is not None and error.code() not in ABSENT) or any(topic == self._slots_topic for topic, _ in refused):
            level = logging.INFO if error is None or error.code() in REFUSED_FOR_NOW or passes(error) else logging.WARNING
            logger.log(level, "a commit was refused and is tried again: %s", error and error.str())
            return
        self._committed([commit for commit in commits if (commit.topic, commit.partition) not in refused], sent)


def commit_now(consumer: Consumer, commits: Sequence[Commit]) -> None:
    """
    Commit and wait for it.

    Raises:  KafkaException: refused, or no answer.
    """
    for first in range(0, len(commits), LANES_MAX):
        consumer.commit(offsets=[_offset(commit) for commit in commits[first : first + LANES_MAX]], asynchronous=False)


def _offset(commit: Commit) -> TopicPartition:
    return TopicPartition(commit.topic, commit.partition, commit.offset, commit.metadata)
