"""
Reads ``attempts`` and ``dead-letters`` into the activity log, from where the log itself says that it has come to. Shell.

One thread reads and makes rows, another one writes, one batch behind it at most. What fails because Kafka or the database cannot be used
now is tried again for ever, from the positions on record; anything else ends the projector and is told.
"""

from __future__ import annotations

import concurrent.futures
import logging
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable
from typing import cast

from confluent_kafka import Message

from connectors.activity.model import ActivityUnavailable, Batch, Item, Place, Projected
from connectors.activity.projection import project_attempts, project_letters
from connectors.activity.store import Activity
from connectors.kafka.admin import partitions_of, topic_ids
from connectors.kafka.config import KafkaConfig
from connectors.kafka.errors import KafkaRefused, KafkaUnavailable
from connectors.kafka.following import Follower
from connectors.kafka.reading import offset_of
from schemas.errors import BadRecord
from schemas.positions import Position
from schemas.topics import Topics

logger = logging.getLogger(__name__)

POLL_S = 0.1
ASK_S_MAX = 10.0
AGAIN_S = 1.0
TRIM_EVERY_S = 10.0
TRIM_S = 0.5  # at a time: as long as a full batch takes to come in
CHECK_EVERY_S = 30.0
STOP_WAIT_S = 20.0


class Projector:
    """
    Works in threads of its own, from ``start`` to ``stop``.

    Args:  now_us: µs since 1970.
           on_attempt: called with the value of every attempt that is read, in the order in which they come; must return at once.
           fail: called once, in the projector's thread, with what it cannot go on after.
    """

    def __init__(
        self,
        config: KafkaConfig,
        topics: Topics,
        activity: Activity,
        *,
        now_us: Callable[[], int],
        on_attempt: Callable[[bytes], None],
        fail: Callable[[BaseException], None],
    ) -> None:
        self._config, self._topics, self._activity = config, topics, activity
        self._now_us, self._on_attempt, self._fail = now_us, on_attempt, fail
        self.skipped: Counter[str] = Counter()  # records of unknown kinds, and damaged ones, by reason
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="projector", daemon=True)

    def start(self) -> None:
        """Start to read."""
        self._thread.start()

    def stop(self) -> None:
        """Finish the batch that is being written, and end."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(STOP_WAIT_S)

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._project()
            except (ActivityUnavailable, KafkaUnavailable, KafkaRefused) as error:
                logger.warning("the activity log falls behind: %s", error)
                self._stopping.wait(AGAIN_S)
            except Exception as error:  # noqa: BLE001 - whatever it is, it is told, and the process ends
                self._fail(error)
                return

    def _project(self) -> None:
        """Until it is to stop, a topic was made anew, or something fails."""
        ids = self._topic_ids()
        follower = Follower(self._config, self._begin(ids))
        writing: deque[concurrent.futures.Future[int]] = deque()
        with concurrent.futures.ThreadPoolExecutor(1, "activity writer") as writer:
            try:
                trim_at, check_at = time.monotonic(), time.monotonic() + CHECK_EVERY_S
                while not self._stopping.is_set():
                    batch = self._batch(follower.read(POLL_S))
                    while len(writing) > (1 if batch.next else 0):
                        writing.popleft().result()
                    if batch.next:
                        writing.append(writer.submit(self._activity.add, batch))
                    if time.monotonic() >= trim_at:
                        more = writer.submit(trim_for_a_while, lambda: self._activity.trim(self._now_us()), time.monotonic).result()
                        trim_at = time.monotonic() + (0 if more else TRIM_EVERY_S)
                    if time.monotonic() >= check_at:
                        if self._topic_ids() != ids:
                            return
                        check_at = time.monotonic() + CHECK_EVERY_S
                while writing:
                    writing.popleft().result()
            finally:
                follower.close()

    def _topic_ids(self) -> dict[str, str]:
        names = [self._topics.attempts.name, self._topics.dead_letters.name]
        return topic_ids(self._config, names, timeout_s=ASK_S_MAX)

    def _begin(self, ids: dict[str, str]) -> dict[Place, int]:
        positions: dict[Place, int] = {}
        for topic, id_ in ids.items():
            positions |= self._activity.begin(topic, id_, partitions_of(self._config, topic, timeout_s=ASK_S_MAX))
        return positions

    def _batch(self, messages: Iterable[Message]) -> Batch:
        items: list[Projected] = []
        following: dict[Place, int] = {}
        for message in messages:
            place = (message.topic() or "", message.partition() or 0)
            offset = offset_of(message)
            following[place] = offset + 1
            item = self._item(place, offset, message)
            if item is not None:
                items.append(Projected(place, offset, item))
        return Batch(items, following)

    def _item(self, place: Place, offset: int, message: Message) -> Item | None:
        topic, partition = place
        value = message.value()
        try:
            if topic == self._topics.attempts.name:
                if value is None:
                    return None
                item = project_attempts(value)
                self._on_attempt(value)
                return item
            headers = dict(cast("list[tuple[str, bytes | None]]", message.headers() or []))
            _, at_ms = message.timestamp()
            return project_letters(Position(partition, offset), message.key(), value, headers, at_ms * 1_000, self._topics)
        except BadRecord as error:
            self.skipped[error.reason.value] += 1
            logger.debug("%s/%d/%d is left out of the activity log: %s", topic, partition, offset, error)
            return None


def trim_for_a_while(trim: Callable[[], bool], now_s: Callable[[], float]) -> bool:
    """As much as comes in meanwhile, also where an hour holds little; whether there may be more."""
    until = now_s() + TRIM_S
    while trim():
        if now_s() >= until:
            return True
    return False
