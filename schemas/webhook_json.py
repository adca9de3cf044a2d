"""A webhook as the API answers it: docs/reference/webhook.md with every default filled in, and what Livehook knows besides."""

from __future__ import annotations

from typing import Any

import msgspec

from schemas.masking import mask
from schemas.registry import Webhook
from schemas.signing import public_key_of
from schemas.times import rfc3339
from schemas.webhooks import SELECTING, WebhookRevision, WebhookSpec

ANSWERED_ONLY = ("createdAt", "updatedAt", "reason", "publicKey")


def spec_json(spec: WebhookSpec) -> dict[str, Any]:
    """The spec as its user would write it; either the five selecting fields or the triggers are there."""
    found: dict[str, Any] = _plain(msgspec.to_builtins(spec))
    # Said even where it is the default: a payload of {} would hide what is sent.
    found["payload"] = {"format": spec.payload.format} | found["payload"]
    unused = SELECTING[:-1] if spec.triggers else SELECTING[-1:]
    return {name: found[name] for name in ("name", *SELECTING, *found) if name not in unused}


def revision_json(revision: WebhookRevision) -> dict[str, Any]:
    """The spec and its newest secret, all in the open: what a patch is applied to. Not to be shown."""
    return spec_json(revision.spec) | {"secret": revision.secrets[0].value}


def webhook_json(webhook: Webhook, *, show_secret: bool = False) -> dict[str, Any]:
    """
    The answer of the API.

    Args:  show_secret: the signing secret in full, once, to who made it; every other secret stays masked.
    """
    revision = webhook.current
    answer = mask(revision_json(revision))
    if show_secret:
        answer["secret"] = revision.secrets[0].value
    if (public_key := public_key_of(revision.secrets[0].value)) is not None:
        answer["publicKey"] = public_key
    return answer | {
        "state": webhook.state.value,
        "reason": webhook.reason,
        "createdAt": rfc3339(revision.created_us),
        "updatedAt": rfc3339(revision.updated_us),
    }


def _plain(value: Any) -> Any:
    """15.0 as 15: a number that the record keeps as a double is shown as it was written."""
    if isinstance(value, dict):
        return {name: _plain(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return int(value)
    return value
