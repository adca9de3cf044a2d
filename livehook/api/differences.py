"""What a PUT would change, field by field, secrets masked: the answer of ``?dryRun=true``, which ``webhook apply`` shows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from schemas.masking import mask
from schemas.registry import Webhook
from schemas.webhook_json import revision_json, spec_json
from schemas.webhook_validation import Wanted

OBJECTS = ("auth", "headers", "payload", "fields", "delivery", "retry")


def differences(present: Webhook | None, wanted: Wanted) -> dict[str, Any]:
    """``action`` is create, change or none; ``changes`` names each field that differs, with its value before and after."""
    after = spec_json(wanted.spec)
    if present is None:
        return {"name": wanted.spec.name, "action": "create", "changes": []}
    before = revision_json(present.current) | {"state": present.state.value}
    after["secret"] = before["secret"] if wanted.secret is None else wanted.secret
    changes = list(_changes(before, after))
    return {"name": wanted.spec.name, "action": "change" if changes else "none", "changes": changes}


def _changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    shown_before, shown_after = _flat(mask(before)), _flat(mask(after))
    flat_before, flat_after = _flat(before), _flat(after)
    for field in sorted(flat_before.keys() | flat_after.keys()):
        if msgspec.json.encode(flat_before.get(field)) != msgspec.json.encode(flat_after.get(field)):
            yield {"field": field, "from": shown_before.get(field), "to": shown_after.get(field)}


def _flat(webhook: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in webhook.items():
        if name in OBJECTS:
            found |= {f"{name}.{inner}": inner_value for inner, inner_value in value.items()}
        else:
            found[name] = value
    return found
