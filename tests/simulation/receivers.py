"""The receivers of the simulation: endpoints that may be down, hate a document, fail by chance, and lie. They note all that arrives."""

from __future__ import annotations

import random
from typing import Any

import msgspec

from connectors.webhook.calls import Failure, Request, Response
from schemas.attempts import ErrorCode
from schemas.deliveries import Delivery, Match
from tests.chaos.checker import Arrival

LOST_ANSWER_SHARE = 0.2
RETRY_AFTER_SHARE = 0.2
RETRY_AFTER_S = ("1", "7", "40")


class Receivers:
    """
    failing:  the share of calls that are not answered with 2xx; half of these are taken all the same.
    down:     webhooks whose endpoint refuses every connection. poison: webhooks and documents that are always refused.
    markers:  webhook, ``webhook-id`` and body of each ``requeryRequired``, in order; a dead-lettered one is in ``settled``.
    settled:  webhook, key, version and match of what was delivered or dead-lettered, in order.
    """

    def __init__(self, rng: random.Random) -> None:
        self.failing = 0.0
        self.down: set[str] = set()
        self.poison: set[tuple[str, str]] = set()
        self.arrivals: list[Arrival] = []
        self.settled: list[tuple[str, str, int, str]] = []
        self.markers: list[tuple[str, str, dict[str, Any]]] = []
        self.dead = self.refused = 0
        self._rng = rng

    def heal(self) -> None:
        """All is well from now on."""
        self.failing = 0.0
        self.down.clear()
        self.poison.clear()

    def receive(self, request: Request) -> Response | Failure:
        """What the caller gets to know of a call; whether it has arrived is another matter."""
        headers = dict(request.headers)
        name, document = headers["livehook-webhook"], headers.get("livehook-document", "")
        if name in self.down:
            self.refused += 1
            return Failure(ErrorCode.CONNECT, "refused")
        if (name, document) in self.poison:
            return Response(400)
        fails = self._rng.random() < self.failing
        if not fails or self._rng.random() < 0.5:
            self._arrive(headers, request.body)
        return self._refusal() if fails else Response(200)

    def dead_lettered(self, delivery: Delivery) -> None:
        """No call is made for it any more."""
        self.settled.append((delivery.webhook_uid, delivery.change.key, delivery.change.version, delivery.match.value))
        self.dead += 1

    def _refusal(self) -> Response | Failure:
        if self._rng.random() < LOST_ANSWER_SHARE:
            return Failure(ErrorCode.TIMEOUT, "no answer")
        asks = (("retry-after", self._rng.choice(RETRY_AFTER_S)),) if self._rng.random() < RETRY_AFTER_SHARE else ()
        return Response(self._rng.choice((500, 429, 503)), asks)

    def _arrive(self, headers: dict[str, str], body: bytes) -> None:
        event = msgspec.json.decode(body)
        if event["type"] == Match.REQUERY_REQUIRED.value:
            self.markers.append((headers["livehook-webhook"], headers["webhook-id"], event))
            return
        change = event["change"]
        is_remove = change["method"] == "remove"
        arrival = Arrival(
            webhook=headers["livehook-webhook"],
            key=headers["livehook-document"],
            version=int(headers["livehook-version"]),
            webhook_id=headers["webhook-id"],
            match=event["match"],
            txn_id=event["txnId"],
            old=change["value"] if is_remove else change["oldValue"],
            new=None if is_remove else change["newValue"],
        )
        self.settled.append((arrival.webhook, arrival.key, arrival.version, arrival.match))
        self.arrivals.append(arrival)
