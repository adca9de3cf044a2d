"""Many small sets of entries, a few large ones: a few in a tuple, which is small; more in a dict, which is quick to change."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Final, TypeAlias, TypeVar

E = TypeVar("E", bound=Hashable)

Bucket: TypeAlias = tuple[E, ...] | dict[E, None]

TUPLE_MAX: Final = 8


def added(bucket: Bucket[E], entry: E) -> Bucket[E]:
    """The bucket with an entry that was not in it."""
    if isinstance(bucket, dict):
        bucket[entry] = None
        return bucket
    return (*bucket, entry) if len(bucket) < TUPLE_MAX else dict.fromkeys((*bucket, entry))


def removed(bucket: Bucket[E], entry: E) -> Bucket[E]:
    """The bucket without an entry."""
    if not isinstance(bucket, dict):
        return tuple(one for one in bucket if one is not entry)
    bucket.pop(entry, None)
    return bucket if len(bucket) > TUPLE_MAX // 2 else tuple(bucket)
