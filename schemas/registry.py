"""
The webhooks that there are: a pure fold of the ``webhooks`` topic, kept by whoever reads it (API, matching agent, sink).

The last record of a key holds, which is what compaction keeps too; so every reader ends at the same state, whenever it began.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from schemas.backfills import KEY_PART as BACKFILL_KEY_PART
from schemas.backfills import Backfill, BackfillEnd, BackfillProgress, BackfillReady
from schemas.gaps import KEY_PART as GAP_KEY_PART
from schemas.gaps import Gap
from schemas.positions import Origin
from schemas.records import decode_webhooks
from schemas.replays import KEY_PART, Replay, is_past_and_running
from schemas.webhooks import INSTALLATION_KEY, Installation, State, WebhookRevision, WebhookSince, WebhookStatus


class Webhook(msgspec.Struct, frozen=True):
    """One webhook as it is now: its newest revision, and what a sink found out since the last edit."""

    current: WebhookRevision
    status: WebhookStatus | None = None

    @property
    def state(self) -> State:
        """What the user wants, unless a sink disabled it after the last edit."""
        return self.current.spec.state if self.status is None else self.status.state

    @property
    def reason(self) -> str | None:
        """Why it is disabled; None when it is not."""
        return None if self.status is None else self.status.reason


class Registry:
    """Feed it every record of ``webhooks`` in order; ask it at any time."""

    def __init__(self) -> None:
        self.installation: Installation | None = None
        self._revisions: dict[str, dict[int, WebhookRevision]] = {}
        self._since: dict[str, dict[int, list[Origin]]] = {}
        self._statuses: dict[str, WebhookStatus] = {}
        self._replays: dict[str, dict[str, Replay]] = {}
        self._backfills: dict[str, dict[str, BackfillProgress | BackfillEnd | BackfillReady]] = {}
        self._gaps: dict[str, dict[str, Gap]] = {}

    def apply(self, key: bytes, value: bytes | None) -> str | None:
        """
        Take in one record; None as value is a tombstone.

        Returns:  the name of the webhook that it is about, or None.
        Raises:   BadRecord: the record cannot be read; nothing has changed.
        """
        if key == INSTALLATION_KEY:
            if value is not None and isinstance(found := decode_webhooks(value), Installation):
                self.installation = found
            return None
        name, _, part = key.decode().partition("/")
        if value is None:
            self._forget(name, part)
            return name
        record = decode_webhooks(value)
        if isinstance(record, WebhookRevision):
            self._revisions.setdefault(name, {})[record.revision] = record
        elif isinstance(record, WebhookStatus):
            self._statuses[name] = record
        elif isinstance(record, WebhookSince):
            known = self._since.setdefault(name, {}).setdefault(record.revision, [])
            if record.origin not in known:  # whoever takes a partition over may say it once more
                known.append(record.origin)
        elif isinstance(record, Replay):
            self._replays.setdefault(name, {})[record.id] = record
        elif isinstance(record, BackfillProgress | BackfillEnd | BackfillReady):
            self._backfills.setdefault(name, {})[record.key] = record
        elif isinstance(record, Gap):
            self._gaps.setdefault(name, {})[record.key] = record
        return name

    def _forget(self, name: str, part: str) -> None:
        if part == "status":
            self._statuses.pop(name, None)
        elif part.startswith(KEY_PART):
            self._replays.get(name, {}).pop(part.removeprefix(KEY_PART), None)
        elif part.startswith(BACKFILL_KEY_PART):
            self._backfills.get(name, {}).pop(f"{name}/{part}", None)
        elif part.startswith(GAP_KEY_PART):
            self._gaps.get(name, {}).pop(f"{name}/{part}", None)
        elif "/" not in part:
            self._revisions.get(name, {}).pop(int(part), None)
            self._since.get(name, {}).pop(int(part), None)

    def since(self, revision: WebhookRevision) -> list[Origin]:
        """
        Where a revision is known to begin; before its marks are acknowledged only some partitions may be known.

        Where an API has died between its marks, a partition has several. The matching agent may have come to the first one before whoever
        finished the revision could know, so that one holds.
        """
        lowest: dict[int, Origin] = {}
        for origin in (*(revision.since or ()), *self._since.get(revision.name, {}).get(revision.revision, [])):
            lowest[origin.partition] = min(lowest.get(origin.partition, origin), origin)
        return [origin for _, origin in sorted(lowest.items())]

    def passed(self, revision: WebhookRevision) -> set[int]:
        """The partitions in which the matching agent has put on record that it has come to where a revision begins."""
        found = self._since.get(revision.name, {}).get(revision.revision, [])
        begins = self.since(revision)
        return {origin.partition for origin in found if origin in begins}

    def revisions(self, name: str) -> list[WebhookRevision]:
        """Every revision on record, deleted ones included, oldest first."""
        return [revision for _, revision in sorted(self._revisions.get(name, {}).items())]

    def newest(self, name: str) -> WebhookRevision | None:
        """The newest revision on record, a deleted or not yet acknowledged one too: the next one counts on from it."""
        return max(self._revisions.get(name, {}).values(), key=lambda revision: revision.revision, default=None)

    def webhook(self, name: str) -> Webhook | None:
        """The webhook, or None when there is none (any more). A revision whose marks are not acknowledged yet is not there."""
        known = [revision for revision in self._revisions.get(name, {}).values() if revision.since is not None or revision.deleted]
        current = max(known, key=lambda revision: revision.revision, default=None)
        if current is None or current.deleted:
            return None
        status = self._statuses.get(name)
        if status is None or status.uid != current.uid:
            return Webhook(current)
        # An edit that does not make a disabled webhook active again leaves it disabled, for the same reason.
        holds = status.edit >= current.edit or current.spec.state is State.DISABLED
        return Webhook(current, status if holds else None)

    def replays(self, webhook: WebhookRevision) -> list[Replay]:
        """The replays of a webhook as it was made, in the order in which they were asked for."""
        found = self._replays.get(webhook.name, {}).values()
        return sorted((one for one in found if one.uid == webhook.uid), key=lambda one: one.number)

    def backfill(self, webhook: WebhookRevision) -> Backfill:
        """What is on record of the newest backfill of a revision."""
        return self.backfill_of(webhook.name, webhook.backfill)

    def backfill_of(self, name: str, backfill: str | None) -> Backfill:
        """What is on record of a backfill of a webhook."""
        found = [one for one in self._backfills.get(name, {}).values() if one.uid == backfill]
        return Backfill(
            {one.partition: one.offset for one in found if isinstance(one, BackfillProgress)},
            {one.origin.partition: one.origin for one in found if isinstance(one, BackfillEnd)},
            next((one for one in found if isinstance(one, BackfillReady)), None),
        )

    def gaps(self, webhook: WebhookRevision) -> list[Gap]:
        """What was missing in the lane of a webhook as it was made, in the order in which it was found."""
        found = self._gaps.get(webhook.name, {}).values()
        return sorted((one for one in found if one.uid == webhook.uid), key=lambda one: one.snapshot)

    def names_owed(self) -> list[str]:
        """The webhooks that may be owed a backfill: something of their lane is missing, or they go back to before what it keeps."""
        replaying = {name for name, found in self._replays.items() if any(is_past_and_running(one) for one in found.values())}
        return sorted(replaying | {name for name, found in self._gaps.items() if found})

    def keys_beside(self, name: str) -> list[str]:
        """The keys of all that is on record of backfills and gaps of webhooks of this name."""
        return [*self._backfills.get(name, {}), *self._gaps.get(name, {})]

    def replay(self, id_: str) -> Replay | None:
        """One replay, also of a webhook that is gone."""
        return next((found[id_] for found in self._replays.values() if id_ in found), None)

    def __iter__(self) -> Iterator[Webhook]:
        """Every webhook that is there, by name."""
        for name in sorted(self._revisions):
            webhook = self.webhook(name)
            if webhook is not None:
                yield webhook
