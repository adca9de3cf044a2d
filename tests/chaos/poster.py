"""A client of the HTTP API under fire: posts documents and notes what it was told about each."""

from __future__ import annotations

import random
import threading
from types import TracebackType
from typing import Any, Self

import httpx

from tests.chaos.checker import Operation
from tests.chaos.report import Outcome

EVERY_S = 0.1
TIMEOUT_S = 5.0
DOCUMENTS = 20
COUNT_FROM = 1_000_000  # no value of it is one of the other writer's


class Poster:
    """
    Writes in a thread from ``with`` to ``with``; its documents are nobody else's.

    One of which it does not know how a write has ended is not written again: who asks once more on another connection may overtake it.

    Args:  url: of the API.
    """

    def __init__(self, url: str, rng: random.Random) -> None:
        self.operations: list[Operation] = []
        self._url, self._rng = url, rng
        self._ids = [f"api{number}" for number in range(DOCUMENTS)]
        self._count = 0
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="poster", daemon=True)

    def _run(self) -> None:
        while not self._stopping.wait(EVERY_S):
            self._write()

    def _write(self) -> None:
        at = self._rng.randrange(len(self._ids))
        id_ = self._ids[at]
        self._count += 1
        value: dict[str, Any] = {"_id": id_, "n": COUNT_FROM + self._count, "age": self._rng.randrange(36)}
        outcome = self._ask(value)
        self.operations.append(Operation(f"people/{id_}", "upsert", value, outcome))
        if outcome is Outcome.UNKNOWN:
            self._ids[at] = f"api{DOCUMENTS + self._count}"

    def _ask(self, value: dict[str, Any]) -> Outcome:
        try:
            answer = httpx.post(f"{self._url}/v1/collections/people/documents", json=value, timeout=TIMEOUT_S, trust_env=False)
        except httpx.ConnectError:
            return Outcome.FAILED  # it was never sent
        except httpx.HTTPError:
            return Outcome.UNKNOWN
        if answer.is_success:
            return Outcome.OK
        return Outcome.FAILED if answer.is_client_error else Outcome.UNKNOWN

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stopping.set()
        self._thread.join(2 * TIMEOUT_S)
