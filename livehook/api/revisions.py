"""What to write when a user changes a webhook: pure, so that every case is a line in a test."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from schemas.errors import FieldError, Invalid
from schemas.gaps import Gap
from schemas.registry import Webhook
from schemas.replays import Replay, is_past_and_running
from schemas.signing import scheme_of
from schemas.webhook_validation import Wanted
from schemas.webhooks import PastReplay, Secret, WebhookRevision, WebhookSpec

SECRETS_MAX = 10
SCHEME_OVERLAP_S = 86_400


class TooManySecrets(ValueError):
    """So many rotations overlap that the signature header would grow without end."""


def planned(
    wanted: Wanted, *, present: Webhook | None, newest: WebhookRevision | None, now_us: int, new_uid: str, new_secret: str
) -> WebhookRevision | None:
    """
    The record that makes the webhook what is wanted; None when it is that already.

    Args:     present: the webhook as it is, if there is one. newest: its newest revision on record, which may be deleted,
              or unfinished after a crash. new_uid, new_secret: used where one is needed.
    Returns:  ``since`` is None when marks are needed: the selection is new.
    Raises:   Invalid: it would change what is fixed once the webhook was made.
             TooManySecrets: the signing scheme changes while many secrets sign.
    """
    _check_fixed(wanted.spec, newest if present is None else present.current)
    if present is None:
        return _made(wanted, newest, now_us, new_uid, new_secret)
    current = present.current
    secrets = current.secrets
    if wanted.secret is not None and wanted.secret != secrets[0].value:
        secrets = [Secret(wanted.secret)]
    elif scheme_of(secrets[0].value) != wanted.spec.signing:  # receivers that verify the other way have a day to change
        secrets = rotated(secrets, new_secret, now_us=now_us, overlap_s=SCHEME_OVERLAP_S)
    is_same = wanted.spec == msgspec.structs.replace(current.spec, state=present.state) and secrets == current.secrets
    return None if is_same and newest == current else edited(current, wanted.spec, secrets, newest=newest, now_us=now_us)


def _check_fixed(wanted: WebhookSpec, made: WebhookRevision | None) -> None:
    """A document's deliveries must go on finding their partition: in another one they would be a queue of their own."""
    if made is not None and not made.deleted and wanted.delivery.partitions != made.spec.delivery.partitions:
        partitions = made.spec.delivery.partitions
        raise Invalid(
            [FieldError("delivery.partitions", f"is fixed once the webhook is made, and is {partitions}: delete it to change that")]
        )


def _made(wanted: Wanted, newest: WebhookRevision | None, now_us: int, new_uid: str, new_secret: str) -> WebhookRevision:
    # A creation that a crash left unfinished goes on as the same webhook: the streams may know its uid already.
    is_unfinished = newest is not None and not newest.deleted
    return WebhookRevision(
        uid=newest.uid if newest is not None and is_unfinished else new_uid,
        name=wanted.spec.name,
        revision=newest.revision + 1 if newest else 1,
        edit=newest.edit + 1 if newest else 1,
        spec=wanted.spec,
        secrets=[Secret(wanted.secret or new_secret)],
        created_us=now_us,
        updated_us=now_us,
    )


def edited(
    current: WebhookRevision, spec: WebhookSpec, secrets: Sequence[Secret], *, newest: WebhookRevision | None, now_us: int
) -> WebhookRevision:
    """The next record of a webhook that is there: the same revision, or the next one when the selection changes."""
    newest = newest or current
    # An unfinished revision above the current one may have marks already: only a later one can put it aside. If it is the first of a
    # backfill, the live flow may have ended at them, and the later one has that backfill too, or what has come since is nobody's.
    is_revision = not spec.selects_as(current.spec) or newest.revision != current.revision
    behind = newest if newest.since is None and newest.is_behind_live else current
    return msgspec.structs.replace(
        current,
        revision=newest.revision + 1 if is_revision else current.revision,
        edit=newest.edit + 1,
        spec=spec,
        secrets=list(secrets),
        updated_us=now_us,
        since=None if is_revision else current.since,
        snapshot=behind.snapshot,
        replay=behind.replay,
    )


def with_snapshot(webhook: Webhook, *, newest: WebhookRevision | None, gaps: Sequence[Gap], is_ready: bool) -> WebhookRevision | None:
    """
    The record that begins the snapshot which is to follow a webhook's gaps: a revision, since it holds from its marks on. None: not now.

    Not an edit: what a sink has found out about the webhook still holds.
    Args:  newest: its newest revision on record. gaps: on record. is_ready: its backfill, if it has one, has ended.
    """
    current = webhook.current
    number = max((gap.snapshot for gap in gaps if gap.is_followed), default=0)
    if number <= current.snapshot or newest is None or newest.revision != current.revision:
        return None  # nothing is owed; or a revision that is being made goes first
    if current.backfill is not None and not is_ready:
        return None  # its changes come first, and then the documents
    return msgspec.structs.replace(current, revision=current.revision + 1, snapshot=number, since=None)


def with_replay(webhook: Webhook, *, newest: WebhookRevision | None, replays: Sequence[Replay], is_ready: bool) -> WebhookRevision | None:
    """
    The record that begins the next replay that is served from ``changes``. None: not now. See :func:`with_snapshot`.

    Args:  replays: of the webhook, in order of their numbers.
    """
    current = webhook.current
    begun = 0 if current.replay is None else current.replay.number
    due = [one for one in replays if is_past_and_running(one) and one.number > begun]
    if not due or newest is None or newest.revision != current.revision or (current.backfill is not None and not is_ready):
        return None
    snapshot = (0 if current.replay is None else current.replay.snapshot) - 1
    replay = PastReplay(due[0].id, due[0].number, due[0].first_txn or 0, snapshot, current.snapshot)
    return msgspec.structs.replace(current, revision=current.revision + 1, replay=replay, since=None)


def deleted(newest: WebhookRevision, now_us: int) -> WebhookRevision:
    """The record that ends a webhook. It is a revision of its own, with marks, so that the streams stop at one place in each partition."""
    return msgspec.structs.replace(
        newest, revision=newest.revision + 1, edit=newest.edit + 1, updated_us=now_us, since=None, deleted=True, secrets=[]
    )


def rotated(secrets: Sequence[Secret], new_secret: str, *, now_us: int, overlap_s: int) -> list[Secret]:
    """
    The new secret first, and those before it for as long as they still sign.

    Raises:  TooManySecrets.
    """
    until_us = now_us + overlap_s * 1_000_000
    before = [Secret(one.value, min(until_us, one.until_us or until_us)) for one in secrets if one.value != new_secret]
    signing = [Secret(new_secret), *(one for one in before if one.until_us is not None and one.until_us > now_us)]
    if len(signing) > SECRETS_MAX:
        raise TooManySecrets(f"{SECRETS_MAX} secrets sign already: wait until one of them ends")
    return signing
