"""
Keeps up with a compacted topic of one partition: all that it holds, then each new record within a few milliseconds.

Who needs the state of such a topic (``webhooks``, most of all) folds the records that come in through ``on_record``, and knows through
``wait_until`` that the fold holds what was written at an offset. Source: docs/reference/topics.md.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import threading
import time
from collections.abc import Callable
from typing import NamedTuple, TypeVar

from connectors.kafka.admin import offsets, topic_ids
from connectors.kafka.config import KafkaConfig
from connectors.kafka.errors import KafkaUnavailable, UnknownTopic
from connectors.kafka.reading import PartitionReader, offset_of

logger = logging.getLogger(__name__)

STOP_WAIT_S = 10.0
_ASK_S = 2.0
_POLL_S = 0.1
_TELL_EVERY_S = 10.0

Answer = TypeVar("Answer")
OnRecord = Callable[[bytes, bytes | None, int], None]


class _Waiter(NamedTuple):
    """Somebody in an event loop who waits until ``reached`` holds."""

    reached: Callable[[], bool]
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[None]


class CompactedReader:
    """
    Reads in a thread of its own, from ``start`` to ``stop``; a broker that restarts is waited for.

    Any exception of ``on_record``, and a topic that is gone or was cut off where we are, ends the reader: ``failed`` holds it,
    ``on_failure`` is called with it, and every wait raises it.
    """

    def __init__(
        self,
        config: KafkaConfig,
        topic: str,
        on_record: OnRecord,
        *,
        on_failure: Callable[[Exception], None] | None = None,
        check_every_s: float = 5.0,
    ) -> None:
        """
        Args:  topic: of one partition.
               on_record: called in the reader's thread with key, value (None: a tombstone) and offset, in order.
               on_failure: called in the reader's thread, once, with what ended it.
               check_every_s: how often to ask whether the topic is still the same one. librdkafka says nothing of a topic that was
                 deleted, and reads on in the next one of that name.
        """
        self._config, self._topic = config, topic
        self._on_record, self._on_failure = on_record, on_failure
        self._check_every_s = check_every_s
        self._position = 0
        self._end_at_start: int | None = None
        self._ended: Exception | None = None
        self._failed: Exception | None = None
        self._changed = threading.Condition()
        self._waiters: list[_Waiter] = []
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"reader of {topic}", daemon=True)

    @property
    def position(self) -> int:
        """The next offset: ``on_record`` has returned for everything below it."""
        return self._position

    @property
    def ready(self) -> bool:
        """Whether everything that the topic held when the reader started has been read."""
        return self._end_at_start is not None and self._position >= self._end_at_start

    @property
    def failed(self) -> Exception | None:
        """What ended the reader; None while it runs, and after ``stop``."""
        return self._failed

    def start(self) -> None:
        """Start to read; returns at once."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread, after the record it is in; waits end with KafkaUnavailable."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(STOP_WAIT_S)

    def wait_until(self, offset: int, timeout_s: float) -> None:
        """
        Return once ``position`` is at least ``offset``: to have read the record at offset n, wait for n + 1.

        Raises:  KafkaUnavailable: not within ``timeout_s``, or the reader was stopped; else whatever has ended it.
        """
        self._wait(lambda: self._position >= offset, timeout_s)

    def wait_ready(self, timeout_s: float) -> None:
        """Return once ``ready``; raises as ``wait_until``."""
        self._wait(lambda: self.ready, timeout_s)

    async def wait_until_async(self, offset: int, timeout_s: float) -> None:
        """``wait_until`` for an event loop, which goes on meanwhile."""
        await self._wait_async(lambda: self._position >= offset, timeout_s)

    async def wait_ready_async(self, timeout_s: float) -> None:
        """``wait_ready`` for an event loop."""
        await self._wait_async(lambda: self.ready, timeout_s)

    def _wait(self, reached: Callable[[], bool], timeout_s: float) -> None:
        with self._changed:
            self._changed.wait_for(lambda: reached() or self._ended is not None, timeout_s)
            self._answer(reached, timeout_s)

    async def _wait_async(self, reached: Callable[[], bool], timeout_s: float) -> None:
        loop = asyncio.get_running_loop()
        waiter = _Waiter(reached, loop, loop.create_future())
        with self._changed:
            self._waiters.append(waiter)
            self._wake()
        try:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(waiter.future, timeout_s)
        finally:
            with self._changed:
                self._waiters = [other for other in self._waiters if other is not waiter]
        self._answer(reached, timeout_s)

    def _answer(self, reached: Callable[[], bool], timeout_s: float) -> None:
        if reached():
            return
        raise self._ended or KafkaUnavailable(f"reading {self._topic} has only come to offset {self._position} after {timeout_s:g} s")

    def _wake(self) -> None:
        """Tell those whose wait is over. The caller holds the lock."""
        self._changed.notify_all()
        for waiter in self._waiters:
            if waiter.reached() or self._ended is not None:
                with contextlib.suppress(RuntimeError):  # its loop was closed: nobody waits there any more
                    waiter.loop.call_soon_threadsafe(_settle, waiter.future)

    def _run(self) -> None:
        try:
            self._read()
            ended: Exception = KafkaUnavailable(f"reading {self._topic} was stopped")
        except Exception as error:  # noqa: BLE001 - on_record is not ours; whatever it raises is raised again in every wait
            ended = self._failed = error
        with self._changed:
            self._ended = ended
            self._wake()
        if self._failed is not None and self._on_failure is not None:
            self._on_failure(self._failed)

    def _read(self) -> None:
        log = self._asked(lambda: offsets(self._config, [(self._topic, 0)], timeout_s=_ASK_S)[self._topic, 0])
        topic_id = self._asked(self._topic_id)
        if log is None:
            return
        reader = PartitionReader(self._config, self._topic, 0, log.log_start)
        try:
            self._moved(log.log_start, end_at_start=log.end)
            checked_at = time.monotonic()
            while not self._stopping.is_set():
                for record in reader.read(_POLL_S):
                    self._on_record(record.key() or b"", record.value(), offset_of(record))
                    self._position = offset_of(record) + 1
                self._moved(reader.position)
                if time.monotonic() - checked_at > self._check_every_s:
                    self._check(topic_id)
                    checked_at = time.monotonic()
        finally:
            reader.close()

    def _asked(self, ask: Callable[[], Answer]) -> Answer | None:
        """What Kafka answers; asked until it does. None: stopped before it did."""
        told_at = -math.inf
        while not self._stopping.is_set():
            try:
                return ask()
            except KafkaUnavailable as error:
                if (now := time.monotonic()) - told_at >= _TELL_EVERY_S:
                    told_at = now
                    logger.info("waiting for Kafka: %s", error)
                self._stopping.wait(_POLL_S)
        return None

    def _topic_id(self) -> str | None:
        return topic_ids(self._config, [self._topic], timeout_s=_ASK_S).get(self._topic)

    def _check(self, topic_id: str | None) -> None:
        with contextlib.suppress(KafkaUnavailable):  # asked again later
            if self._topic_id() != topic_id:
                raise UnknownTopic(f"topic {self._topic} was deleted or made anew")

    def _moved(self, position: int, *, end_at_start: int | None = None) -> None:
        with self._changed:
            self._position = position
            if end_at_start is not None:
                self._end_at_start = end_at_start
            self._wake()


def _settle(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
