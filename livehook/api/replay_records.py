"""The records of replays in ``webhooks``: each is written while nobody else changes its webhook, and answered once it is read back."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import msgspec

from livehook.api.ports import Producer, WebhooksView
from livehook.api.problems import Problem
from livehook.api.register import Register
from schemas.registry import Webhook
from schemas.replays import Replay, ReplayState, encode_replay
from schemas.topics import Record, Topics

KEPT_MAX = 100  # of a webhook

Make = Callable[[int], Replay]
"""A new replay, given its number."""


class ReplayRecords:
    """Every method that writes raises KafkaUnavailable and TimeoutError: whether it was written is unknown."""

    def __init__(self, *, topics: Topics, register: Register, producer: Producer, view: WebhooksView, now_us: Callable[[], int]) -> None:
        self._topic = topics.webhooks.name
        self._register, self._producer, self._view, self._now_us = register, producer, view, now_us

    def get(self, id_: str) -> Replay | None:
        """One replay."""
        return self._view.registry.replay(id_)

    def running(self) -> list[Replay]:
        """Those of all webhooks that are there."""
        registry = self._view.registry
        return [replay for webhook in registry for replay in registry.replays(webhook.current) if replay.state is ReplayState.RUNNING]

    def written(self, replay: Replay) -> tuple[int, ...] | None:
        """Where the lane ended once all was in it of a replay that ``changes`` serve; None: it is not."""
        registry = self._view.registry
        began = (one for one in registry.revisions(replay.webhook) if one.replaying is not None and one.replaying.id == replay.id)
        revision = next(began, None)
        ready = None if revision is None else registry.backfill(revision).ready
        return None if ready is None else ready.offsets

    async def begin(self, webhook: Webhook, make: Make) -> Replay:
        """
        Put a new one on record, and forget the oldest of those that have ended.

        Raises:  Problem: conflict: the webhook was deleted meanwhile.
        """
        current = webhook.current
        async with self._register.changing(current.name):
            if self._register.get(current.name).current.uid != current.uid:
                raise Problem("conflict", f"the webhook {current.name} was deleted and made again meanwhile")
            known = self._view.registry.replays(current)
            replay = _beyond(make(self._number(known)), known)
            ended = [one for one in known if one.state is not ReplayState.RUNNING]
            await self._write([replay], forget=ended[: max(len(known) + 1 - KEPT_MAX, 0)])
            return replay

    async def end(self, replay: Replay, state: ReplayState) -> Replay:
        """The replay is done or cancelled; one that has ended already stays as it is, and is answered."""
        async with self._register.changing(replay.webhook):
            current = self._register.get(replay.webhook).current
            known = self._view.registry.replays(current)
            present = next((one for one in known if one.id == replay.id), None)
            if present is None or present.state is not ReplayState.RUNNING:
                return present or replay
            is_last = not any(_is_rewinding(one) for one in known if one.id != replay.id)
            number = self._number(known) if state is ReplayState.CANCELLED and is_last and present.is_jump else 0
            ended = msgspec.structs.replace(present, state=state, cancelled=number, ended_us=self._now_us())
            await self._write([ended])
            return ended

    async def copied(self, replay: Replay, end: tuple[int, ...]) -> None:
        """All copies are in the lane, which now ends there."""
        async with self._register.changing(replay.webhook):
            present = self._view.registry.replay(replay.id)
            if present is not None and present.state is ReplayState.RUNNING:
                await self._write([msgspec.structs.replace(present, committed=end)])

    def _number(self, known: Iterable[Replay]) -> int:
        """Above all others of the webhook, also of those that are forgotten: hence a time."""
        last = max((max(one.number, one.cancelled) for one in known), default=0)
        return max(last + 1, self._now_us())

    async def _write(self, replays: Iterable[Replay], forget: Iterable[Replay] = ()) -> None:
        records = [Record(self._topic, one.key.encode(), None, partition=0) for one in forget]
        records += [Record(self._topic, one.key.encode(), encode_replay(one), partition=0) for one in replays]
        await self._view.wait_until((await self._producer.send(records))[-1])


def _is_rewinding(replay: Replay) -> bool:
    return replay.is_jump and replay.state is ReplayState.RUNNING


def _beyond(replay: Replay, known: Iterable[Replay]) -> Replay:
    """Of several rewinds under way each goes on, when it is cancelled, where the lane was before the first one."""
    if not replay.is_jump:
        return replay
    places = [replay.committed, *(one.committed for one in known if _is_rewinding(one))]
    return msgspec.structs.replace(replay, committed=tuple(map(max, zip(*places, strict=True))))
