"""
The two ends of the way: a receiver that records every call, and a writer that knows what became of each mutation.

The receiver runs in a thread with a loop of its own, so that tests are plain functions that kill, wait and look.
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from types import TracebackType
from typing import Any, Self

import msgspec
from confluent_kafka import KafkaError, KafkaException, Message, Producer

from connectors.webhook.testing import Answer, Answering, Call, Receiver, ok
from tests.chaos.checker import Arrival, Operation
from tests.chaos.report import Outcome

START_S = 10.0
FLUSH_S = 90.0
QUEUED_MAX = 100_000


class Recorder:
    """
    Records each call that it answers with 2xx, in the order in which they came in.

    Args:  answer: asked for every call; runs in the receiver's thread.
    """

    def __init__(self, answer: Answering = ok) -> None:
        self.calls: list[Call] = []
        self.refused = 0
        self._receiver = Receiver(answer, keep=1, on_call=self._took)
        self._changed = threading.Condition()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="receiver", daemon=True)

    @property
    def url(self) -> str:
        """Where it listens."""
        return self._receiver.url

    def wait_for(self, holds: Callable[[Sequence[Call]], bool], timeout_s: float) -> list[Call]:
        """Until it holds for the calls so far. Raises TimeoutError."""
        with self._changed:
            if not self._changed.wait_for(lambda: holds(self.calls), timeout_s):
                raise TimeoutError(f"{len(self.calls)} calls came within {timeout_s:g} s, and not what was waited for")
            return list(self.calls)

    def wait_quiet(self, quiet_s: float, timeout_s: float) -> None:
        """Until no call came for so long. Raises TimeoutError."""
        deadline = time.monotonic() + timeout_s
        with self._changed:
            while self._changed.wait(quiet_s):
                if time.monotonic() > deadline:
                    raise TimeoutError(f"calls still come in after {timeout_s:g} s")

    def __enter__(self) -> Self:
        self._thread.start()
        self._run(self._receiver.start()).result(START_S)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._run(self._receiver.stop()).result(START_S)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(START_S)
        self._loop.close()

    def _run(self, work: Any) -> Future[Any]:
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def _took(self, call: Call, answer: Answer) -> None:
        with self._changed:
            if 200 <= answer.status < 300:
                self.calls.append(call)
                self._changed.notify_all()
            else:
                self.refused += 1


def arrival_of(call: Call) -> Arrival:
    """A call in the checker's words. Headers and body must agree on what both of them say."""
    body = msgspec.json.decode(call.body)
    change = body["change"]
    assert call.headers["livehook-match"] == body["match"], call.headers
    is_removal = change["method"] == "remove"
    return Arrival(
        webhook=call.headers["livehook-webhook"],
        key=call.headers["livehook-document"],
        version=int(call.headers["livehook-version"]),
        webhook_id=call.headers["webhook-id"],
        match=body["match"],
        txn_id=body["txnId"],
        old=change["value"] if is_removal else change["oldValue"],
        new=None if is_removal else change["newValue"],
    )


class Writer:
    """
    Any client of Kafka: plain JSON through a plain producer, of which it notes what was acknowledged.

    Idempotent, so that Kafka's order is the order of the calls whatever is retried.
    """

    def __init__(self, bootstrap_servers: str, topic: str, *, partitioner: str = "murmur2_random", message_timeout_s: float = 60.0) -> None:
        self._topic = topic
        self._outcomes: list[Outcome] = []
        self._written: list[tuple[str, str, Mapping[str, Any] | None]] = []
        self._producer = Producer(
            {
                "bootstrap.servers": bootstrap_servers,
                "partitioner": partitioner,
                "enable.idempotence": True,
                "message.timeout.ms": int(message_timeout_s * 1000),
                "message.max.bytes": 4 * 1024 * 1024,
                "queue.buffering.max.messages": QUEUED_MAX,
                "reconnect.backoff.max.ms": 500,
                "linger.ms": 2,
                "log_level": 0,
            }
        )

    @property
    def operations(self) -> list[Operation]:
        """All that was written, in order; what is not acknowledged yet is unknown."""
        return [Operation(*written, outcome) for written, outcome in zip(self._written, self._outcomes, strict=True)]

    def write(self, key: str, method: str, value: Mapping[str, Any] | None) -> None:
        """One mutation; ``key`` is ``collection/id`` with a string id, ``value`` holds ``_id``, or is None for a remove."""
        collection, _, id_ = key.partition("/")
        mutation = {"method": method, "collection": collection, "id": id_} | ({} if value is None else {"value": value})
        number = len(self._written)
        self._written.append((key, method, value))
        self._outcomes.append(Outcome.UNKNOWN)

        def acknowledged(error: KafkaError | None, _: Message) -> None:
            if error is None:
                self._outcomes[number] = Outcome.OK

        try:
            self._producer.produce(self._topic, json.dumps(mutation).encode(), key.encode(), on_delivery=acknowledged)
        except (BufferError, KafkaException):
            self._outcomes[number] = Outcome.FAILED  # it never left this process
        self._producer.poll(0)

    def send(
        self, value: bytes | None, key: bytes | None, *, partition: int = -1, headers: Sequence[tuple[str, bytes]] = ()
    ) -> tuple[int, int]:
        """Any record at all; gives the partition and offset at which it was acknowledged."""
        acknowledged: list[tuple[KafkaError | None, Message]] = []
        self._producer.produce(
            self._topic,
            value,
            key,
            partition=partition,
            headers=[*headers],
            on_delivery=lambda error, message: acknowledged.append((error, message)),
        )
        self.flush()
        [(error, message)] = acknowledged
        assert error is None, error
        place = message.partition(), message.offset()
        assert place[0] is not None
        assert place[1] is not None
        return place[0], place[1]

    def flush(self) -> None:
        """Until every outcome is known. Raises TimeoutError."""
        if left := self._producer.flush(FLUSH_S):
            raise TimeoutError(f"{left} mutations have no outcome after {FLUSH_S:g} s")
