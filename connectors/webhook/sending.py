"""
The calls of one lane: each is begun here, and once in a turn of the loop all that have ended are judged and carried out together.

One sweep for many answers costs less than a task for each: what a processor has just done it does again in two thirds of the time. All of
it runs in the event loop. Called by work.py, which says what may start.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import Any

from connectors.webhook.calls import Failure, Request, Response
from connectors.webhook.health import Health, Policy, Turn, Verdict
from connectors.webhook.held import Held
from connectors.webhook.lanes import Lane
from connectors.webhook.parker import Parker
from connectors.webhook.render import Endpoint, prepare
from connectors.webhook.reports import Reports
from connectors.webhook.retry import DeadLetter, Decision, Delivered, Disable, RetryAt, Returned, Schedule, error_of
from connectors.webhook.shared import Shared
from connectors.webhook.starting import Call, starter_of
from schemas.notices import NoticeKind
from schemas.topics import Record

logger = logging.getLogger(__name__)

Spawn = Callable[[Coroutine[Any, Any, None]], None]


class Sending:
    """
    Args:  swept: called after a sweep: something else may start.
           turned: called soon after the endpoint went down or came back.
           spawn: runs what must be waited for; what it raises ends the process.
           disable: called with the reason when the endpoint wants no more, or was down for too long; gives what is to be put on record.
    """

    def __init__(
        self,
        webhook: str,
        lane: Lane,
        shared: Shared,
        reports: Reports,
        parker: Parker,
        *,
        swept: Callable[[], None],
        turned: Callable[[], None],
        spawn: Spawn,
        disable: Callable[[str], Sequence[Record]],
    ) -> None:
        self.health = Health(shared.rng)
        self.policy = Policy(Schedule((0.0,)), 0.0)
        self.timeout_s = 1.0
        self.attempts = 0
        self._webhook, self._lane, self._shared, self._reports, self._parker = webhook, lane, shared, reports, parker
        self._swept, self._turned, self._spawn, self._disable = swept, turned, spawn, disable
        self._starter = starter_of(shared.sender)
        self._calls: dict[Held, Call] = {}
        self._ended: list[tuple[Held, Request, float, float, Response | Failure]] = []
        self._rest = asyncio.Event()

    def begin(self, many: Sequence[Held], endpoint: Endpoint, now: float) -> None:
        """Call for each of these, which the lane counts as under way."""
        failed, began, place_of = self._shared.failed, self._shared.uptime(), self._reports.place
        self.attempts += len(many)
        try:
            for held in many:
                place = place_of(held.partition, held.offset)
                request = prepare(held.delivery, endpoint, offset=place, attempt=held.attempt, now=now)
                done = partial(self._note, held, request, now, began)
                self._calls[held] = self._starter.start(request, timeout_s=self.timeout_s, done=done, failed=failed)
        except Exception as error:  # noqa: BLE001 - whatever it is, the sink must not go on without this lane
            failed(error)

    def _note(self, held: Held, request: Request, started: float, began: float, result: Response | Failure) -> None:
        """A call has ended; the first one in a turn of the loop brings the sweep about."""
        if not self._ended:
            asyncio.get_running_loop().call_soon(self._sweep)
        self._ended.append((held, request, started, began, result))

    def _sweep(self) -> None:
        """Deal with all calls that have ended."""
        ended, self._ended = self._ended, []
        if not ended:  # they were cancelled, and the lane may have another owner
            return
        try:
            uptime = self._shared.uptime()
            freed = 0
            for held, request, started, began, result in ended:
                del self._calls[held]
                freed += self._settle(held, request, result, started, started + uptime - began)
            self._free(freed)
            self._swept()
            self._reports.tell_soon()
        except Exception as error:  # noqa: BLE001 - whatever it is, the sink must not go on without this lane
            self._shared.failed(error)
        if not self._calls:
            self._rest.set()

    def _settle(self, held: Held, request: Request, result: Response | Failure, started: float, ended: float) -> bool:
        """Judge a result and carry out what follows; whether the lane counts it as under way no longer."""
        verdict = self.health.judge(result, held.place, held.key, held.attempt, self.policy, now=ended)
        decision = verdict.decision
        self._reports.attempted(held, request, result, decision, started=started, ended=ended)
        if verdict.turn is not None:
            self._turn(verdict.turn, verdict, result)
        if isinstance(decision, Delivered):
            self._lane.finished(held)
        elif isinstance(decision, DeadLetter):
            self._spawn(self._bury(held, decision))
            return False
        elif isinstance(decision, Disable):
            self._spawn(self._give_up_endpoint(held, self._disable(decision.reason)))  # at once: what follows is not called
            return False
        else:
            self._put_back(held, decision, ended)
        return True

    def _put_back(self, held: Held, decision: Decision, now: float) -> None:
        """It is to be sent again, at another time or as soon as the endpoint is up."""
        match decision:
            case RetryAt(at):
                was_parked = held.document is not None
                self._lane.retry_at(held, at, now)
                if not was_parked and not held.waits:
                    self._reports.parked(held)
            case Returned():
                self._lane.give_back(held, last=True)

    async def _bury(self, held: Held, dead: DeadLetter) -> None:
        await self._reports.bury(held.partition, held.offset, held.key, held.value, dead)
        self._lane.finished(held)
        self._settled_late()

    async def _give_up_endpoint(self, held: Held, records: Sequence[Record]) -> None:
        await self._shared.producer.send(records)
        self._lane.give_back(held)
        self._settled_late()

    def _settled_late(self) -> None:
        self._free(1)
        self._swept()

    def _free(self, count: int) -> None:
        """So many calls need none of the process's any more; those that are cancelled are counted off with the lane."""
        self._shared.calls.used -= count
        for _ in range(count):
            self._shared.freed()

    def _turn(self, turn: Turn, verdict: Verdict, result: Response | Failure) -> None:
        """The endpoint went down, or came back."""
        if turn is Turn.UP:
            logger.info("the endpoint of webhook %s is up again", self._webhook)
            self._parker.down(None)
            self._reports.notice(NoticeKind.UP, "a call has succeeded")
        else:
            error = error_of(result)
            detail = "" if error is None else error.detail
            logger.warning("the endpoint of webhook %s is down: %s", self._webhook, detail)
            self._lane.forgive(verdict.forgiven)
            self._parker.down(self.health.breaker.since)
            self._reports.notice(NoticeKind.DOWN, detail)
        asyncio.get_running_loop().call_soon(self._turned)

    async def rest(self) -> None:
        """Until no call is under way."""
        while self._calls:
            self._rest.clear()
            await self._rest.wait()

    def cancel(self) -> list[asyncio.Task[None]]:
        """Abandon all calls; gives what is to be waited for until their connections are closed."""
        calls, self._calls = self._calls, {}
        self._ended.clear()
        self._rest.set()
        return [task for call in calls.values() if (task := call.cancel()) is not None]
