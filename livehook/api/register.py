"""
The register of webhooks: writes revisions so that what a PUT answered holds from the next mutation on.

A new selection is written, marked in every partition of ``mutations``, written again with the marks' offsets, and answered once it is read
back. A crash anywhere before the answer leaves a revision without ``since``: the next start finishes it, once it is UNDER_WAY_US old.
Source: docs/explanation/architecture.md, "Revisions and marks".

Several processes may serve the API. What one of them may be about to finish, the others leave alone for UNDER_WAY_US.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from weakref import WeakValueDictionary

import msgspec

from connectors.kafka.errors import KafkaRefused, KafkaUnavailable
from livehook.api import revisions
from livehook.api.ports import Producer, TopicAdmin, WebhooksView
from livehook.api.problems import Problem, not_found
from schemas.deliveries import Match
from schemas.markers import is_asked_for, marker_of
from schemas.mutations import MARK_KEY, Mark
from schemas.positions import Origin
from schemas.records import encode_delivery, encode_mark, encode_revision
from schemas.registry import Webhook
from schemas.starts import NOW
from schemas.topics import Record, Topics
from schemas.webhook_validation import Wanted
from schemas.webhooks import Secret, State, WebhookRevision

logger = logging.getLogger(__name__)

UNDER_WAY_US = 60_000_000  # longer than a write takes, with all that it waits for

Decide = Callable[[Webhook | None], Wanted]
"""What is wanted of a webhook, given what is there; called while nobody else changes it."""


class Written(msgspec.Struct, frozen=True):
    """What came of a write."""

    webhook: Webhook
    is_new: bool
    is_secret_new: bool


class Register:
    """
    Args:  now_us: µs since 1970. new_uid, new_secret: make one each, the secret for a signing scheme.
    """

    def __init__(
        self,
        *,
        topics: Topics,
        producer: Producer,
        admin: TopicAdmin,
        view: WebhooksView,
        now_us: Callable[[], int],
        new_uid: Callable[[], str],
        new_secret: Callable[[str], str],
    ) -> None:
        self._topics = topics
        self._producer = producer
        self._admin = admin
        self._view = view
        self._now_us = now_us
        self._new_uid = new_uid
        self._new_secret = new_secret
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self.on_unfinished: Callable[[], None] = lambda: None
        """Called when a write has failed half-way, here or elsewhere: there may be something to :meth:`finish` in a minute, and nobody may
        ask again."""

    def get(self, name: str) -> Webhook:
        """
        The webhook.

        Raises:  Problem: not-found.
        """
        webhook = self._view.registry.webhook(name)
        if webhook is None:
            raise not_found(f"the webhook {name}")
        return webhook

    def page(self, after: str, limit: int) -> list[Webhook]:
        """At most ``limit`` webhooks by name, from the first whose name comes after ``after``."""
        found: list[Webhook] = []
        for webhook in self._view.registry:
            if webhook.current.name > after:
                found.append(webhook)
                if len(found) == limit:
                    break
        return found

    async def write(self, name: str, decide: Decide) -> Written:
        """
        Make the webhook what ``decide`` wants.

        Raises:  whatever ``decide`` raises; Problem: conflict.
                 KafkaUnavailable, KafkaRefused, TimeoutError: whether it was written is unknown.
        """
        async with self.changing(name):
            registry, lane = self._view.registry, self._topics.lane(name).name
            left_over: Mapping[str, str] = {}
            if registry.webhook(name) is None:
                left_over = await self._admin.existing([lane])
                await self._view.catch_up()  # another API may have made the webhook meanwhile: then that lane is its
            present, newest = registry.webhook(name), registry.newest(name)
            wanted = decide(present)
            try:
                revision = revisions.planned(
                    wanted,
                    present=present,
                    newest=newest,
                    now_us=self._now_us(),
                    new_uid=self._new_uid(),
                    new_secret=self._new_secret(wanted.spec.signing),
                )
            except revisions.TooManySecrets as error:
                raise Problem("conflict", str(error)) from error
            if revision is None:
                return Written(self.get(name), is_new=False, is_secret_new=False)
            if present is None and (newest is None or newest.deleted) and lane in left_over:
                await self._admin.delete(lane, left_over[lane])  # of a former life, whose deletion was cut off
            if present is None:
                await self._claim(revision)
                await self._open_lane(revision, again=newest is not None and not newest.deleted)
            await self._publish(revision)
            is_secret_new = present is None or revision.secrets[0] != present.current.secrets[0]
            return Written(self.get(name), is_new=present is None, is_secret_new=is_secret_new)

    async def set_state(self, name: str, state: State) -> Webhook:
        """Pause a webhook or make it active again. Raises as :meth:`write`."""

        def decide(present: Webhook | None) -> Wanted:
            current = self.get(name).current
            return Wanted(msgspec.structs.replace(current.spec, state=state))

        return (await self.write(name, decide)).webhook

    async def rotate_secret(self, name: str, secret: str | None, overlap_s: int) -> Webhook:
        """Sign with a new secret, and for ``overlap_s`` with the present ones too. Raises as :meth:`write`; Problem: conflict."""
        async with self.changing(name):
            current = self.get(name).current
            now_us = self._now_us()
            secret = secret or self._new_secret(current.spec.signing)
            try:
                secrets = revisions.rotated(current.secrets, secret, now_us=now_us, overlap_s=overlap_s)
            except revisions.TooManySecrets as error:
                raise Problem("conflict", str(error)) from error
            await self._publish(self._with_secrets(self.get(name), secrets, now_us))
            return self.get(name)

    def _with_secrets(self, webhook: Webhook, secrets: list[Secret], now_us: int) -> WebhookRevision:
        # Written as it is now: a new secret does not wake up a webhook that was disabled.
        spec = msgspec.structs.replace(webhook.current.spec, state=webhook.state)
        newest = self._view.registry.newest(webhook.current.name)
        return revisions.edited(webhook.current, spec, secrets, newest=newest, now_us=now_us)

    async def begin_backfill(self, name: str, *, again: bool = False) -> None:
        """
        Begin what is owed to a webhook behind its live flow, if it can begin: the present documents after a gap, or a replay that is served
        from ``changes``. Raises as :meth:`write`.

        Args:  again: a former call has failed; what it has left unfinished is finished. The live flow may wait for that.
        """
        if self._backfill(name, again=again) is None:
            return
        async with self.changing(name):
            revision = self._backfill(name, again=again)
            if revision is not None:
                logger.info("webhook %s begins backfill %s", name, revision.backfill)
                await self._publish(revision)

    def _backfill(self, name: str, *, again: bool) -> WebhookRevision | None:
        registry = self._view.registry
        webhook, newest = registry.webhook(name), registry.newest(name)
        if webhook is None or newest is None:
            return None
        current = webhook.current
        if newest.since is None and newest.is_behind_live and newest.backfill != current.backfill:
            if again:
                return newest
            self.on_unfinished()  # whoever has begun it may be no more, and none may start: the live flow may wait for it
        is_ready = registry.backfill(current).ready is not None
        return revisions.with_snapshot(webhook, newest=newest, gaps=registry.gaps(current), is_ready=is_ready) or revisions.with_replay(
            webhook, newest=newest, replays=registry.replays(current), is_ready=is_ready
        )

    async def delete(self, name: str) -> None:
        """End a webhook and drop its lane. Raises as :meth:`write`; Problem: not-found."""
        async with self.changing(name):
            current = self.get(name).current
            newest = self._view.registry.newest(name) or current
            lanes = await self._admin.existing([self._topics.lane(name).name])
            await self._publish(revisions.deleted(newest, self._now_us()))
            registry = self._view.registry
            gone = [key.encode() for key in (*(replay.key for replay in registry.replays(current)), *registry.keys_beside(name))]
            await self._producer.send([Record(self._topics.webhooks.name, key, None, partition=0) for key in gone])
            for lane, topic_id in lanes.items():  # one that another API has made since is a new webhook's
                await self._admin.delete(lane, topic_id)

    async def finish(self) -> bool:
        """
        Finish what a crash cut off: newest revisions get their marks, deleted webhooks lose their lanes. Raises as :meth:`write`.

        Returns:  whether that is all; False: there is what may be under way at another API, so this is to be called again.
        """
        await self._view.catch_up()
        newest = self._newest()
        for revision in newest:
            if revision.since is None:
                await self._take_up(revision.name)
        await self._drop_lanes([revision.name for revision in newest if revision.deleted])
        return all(revision.since is not None for revision in self._newest())

    def _newest(self) -> list[WebhookRevision]:
        return [revision for name in self._view.names() if (revision := self._view.registry.newest(name)) is not None]

    async def _take_up(self, name: str) -> None:
        """Finish a webhook's newest revision, unless somebody else has, or may be about to."""
        looked_us = self._now_us()
        async with self.changing(name):
            revision = self._view.registry.newest(name)
            if revision is None or revision.since is not None or self._is_under_way(revision, looked_us):
                return
            logger.info("finishing revision %d of webhook %s", revision.revision, name)
            if self._view.registry.webhook(name) is None and not revision.deleted:
                await self._open_lane(revision, again=True)
            await self._ensure_lane(revision)
            since = await self._marks(revision, self._view.offset(revision))  # not written again: somebody may have finished it by now
            await self._view.catch_up()
            if self._view.registry.newest(name) == revision:  # else somebody was at it all the same: what that one answers holds
                await self._publish(msgspec.structs.replace(revision, since=since))

    async def _drop_lanes(self, ended: Sequence[str]) -> None:
        """Of webhooks that were deleted, unless they have been made again meanwhile."""
        names = {self._topics.lane(name).name: name for name in ended}
        for lane, topic_id in (await self._admin.existing(list(names))).items():
            looked_us = self._now_us()
            async with self.changing(names[lane]):
                newest = self._view.registry.newest(names[lane])
                if newest is not None and newest.deleted and not self._is_under_way(newest, looked_us):
                    await self._admin.delete(lane, topic_id)

    def _is_under_way(self, revision: WebhookRevision, looked_us: int) -> bool:
        """
        Whether another API may be at it, by the clock of whoever wrote it, which may be ahead of ours.

        Args:  looked_us: from before ``webhooks`` was read: to whoever has stood still since then, what is fresh would be old.
        """
        return revision.since is None and looked_us - UNDER_WAY_US < revision.updated_us < self._now_us() + UNDER_WAY_US

    async def _claim(self, made: WebhookRevision) -> None:
        """
        Put a webhook on record before it has a lane.

        Where the newest that is on record of a name is that it was deleted, an API that starts takes its lane for one that was left over.
        """
        await self._producer.send([self._record(made)])

    async def _open_lane(self, made: WebhookRevision, *, again: bool) -> None:
        """
        The marker that comes before everything else, if asked for; who starts now has nothing to wait for.

        Args:  again: a crash may have come between. Nothing else is in the lane until marks follow: what stands there was written then.
        """
        lane = self._topics.lane(made.name, made.spec.delivery.partitions)
        markers = [Match.INITIALIZING, Match.READY] if made.spec.start == NOW else [Match.INITIALIZING]
        asked = [marker_of(made, one) for one in markers if is_asked_for(made, one)]
        if not asked:
            return
        await self._admin.ensure(lane)
        left = asked[await self._admin.end(lane.name) :] if again else asked
        await self._producer.send([Record(lane.name, one.change.key.encode(), encode_delivery(one), partition=0) for one in left])

    async def _publish(self, revision: WebhookRevision) -> None:
        await self._ensure_lane(revision)
        if revision.since is None:
            revision = msgspec.structs.replace(revision, since=await self._mark(revision))
        [offset] = await self._producer.send([self._record(revision)])
        await self._view.wait_until(offset)

    async def _ensure_lane(self, revision: WebhookRevision) -> None:
        if not revision.deleted:
            await self._admin.ensure(self._topics.lane(revision.name, revision.spec.delivery.partitions))

    async def _mark(self, revision: WebhookRevision) -> list[Origin]:
        """Write a revision that has no ``since`` yet, and find out where in each partition of ``mutations`` it begins."""
        [offset] = await self._producer.send([self._record(revision)])
        return await self._marks(revision, offset)

    async def _marks(self, revision: WebhookRevision, offset: int) -> list[Origin]:
        """Marks that name the revision by the offset of its record, and where it begins then."""
        topic, mark = self._topics.mutations.name, encode_mark(Mark(offset))
        marks = [Record(topic, MARK_KEY, mark, partition=partition) for partition in range(self._topics.partitions)]
        installation = self._view.registry.installation
        epoch = 0 if installation is None else installation.epoch
        offsets = await self._producer.send(marks)
        # Where marks of before a crash have been passed already, the revision began there.
        known = {origin.partition: origin for origin in self._view.registry.since(revision)}
        return [known.get(partition, Origin(epoch, partition, offset)) for partition, offset in enumerate(offsets)]

    def _record(self, revision: WebhookRevision) -> Record:
        return Record(self._topics.webhooks.name, revision.key.encode(), encode_revision(revision))

    @asynccontextmanager
    async def changing(self, name: str) -> AsyncIterator[None]:
        """Nobody else here changes the webhook meanwhile, and what another API process has written is known."""
        lock = self._locks.get(name)
        if lock is None:
            lock = self._locks[name] = asyncio.Lock()
        async with lock:
            await self._view.catch_up()
            try:
                yield
            except (KafkaUnavailable, KafkaRefused, TimeoutError):
                self.on_unfinished()
                raise
