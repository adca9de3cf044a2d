"""
Names of documents: collections, ids, keys, and the partition that a key belongs to. Source: docs/reference/mutations.md.

A key is ``collection/id``; an object id stands as canonical JSON (RFC 8785), so that equal ids give equal keys.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec
import rfc8785

ID_BYTES_MAX = 1024
COLLECTION = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,127}", re.ASCII)
CONTROL = "$"  # first sign of keys that name no document: a collection cannot begin with it


class BadKey(ValueError):
    """A collection or id that is not allowed; the message says what would be right."""


def check_collection(name: Any) -> str:
    """
    The name, when it is one.

    Raises:  BadKey.
    """
    if not isinstance(name, str) or not COLLECTION.fullmatch(name):
        raise BadKey(f"is {_short(name)}, must be a letter or _ and then up to 127 letters, digits, _ . or -")
    return name


def id_text(value: Any) -> str:
    """
    A document's id as it stands in keys: a string as it is, an object as canonical JSON.

    Raises:  BadKey: another type, a string that begins with { or ", not 1 to 1,024 bytes, numbers beyond RFC 8785.
    """
    if isinstance(value, str):
        if value[:1] in ("{", '"'):
            raise BadKey('is a string that begins with { or ", which only an object id does')
        text = value
    elif isinstance(value, dict):
        try:
            text = rfc8785.dumps(value).decode()
        except (rfc8785.CanonicalizationError, ValueError, RecursionError) as error:
            raise BadKey(f"has no canonical form (RFC 8785): {error}") from error
    else:
        raise BadKey(f"is {_short(value)}, must be a string or an object")
    if not 1 <= len(text.encode()) <= ID_BYTES_MAX:
        raise BadKey(f"has {len(text.encode()):,} bytes, must have 1 to {ID_BYTES_MAX:,}")
    return text


def id_json(text: str) -> bytes:
    """The id as JSON, as it stands in ``_id``."""
    return text.encode() if text.startswith("{") else msgspec.json.encode(text)


def key_of(collection: str, id_: str) -> str:
    """The key of a document."""
    return f"{collection}/{id_}"


def split_key(key: str) -> tuple[str, str]:
    """
    Collection and id of a key.

    Raises:  BadKey: it is not ``collection/id`` in the form that :func:`id_text` gives.
    """
    collection, slash, text = key.partition("/")
    if not slash:
        raise BadKey(f"is {_short(key)}, must be collection/id")
    check_collection(collection)
    if text.startswith("{"):
        try:
            canonical = id_text(msgspec.json.decode(text))
        except msgspec.MsgspecError as error:
            raise BadKey(f"has an object id that is no JSON: {error}") from error
        if canonical != text:
            raise BadKey("has an object id that is not in its canonical form (RFC 8785)")
        return collection, text
    return collection, id_text(text)


def partition_of(key: bytes, partitions: int) -> int:
    """
    Where Java's default partitioner puts a key: murmur2, sign bit dropped, modulo.

    Source: org.apache.kafka.common.utils.Utils.murmur2; librdkafka calls it ``murmur2_random``.
    """
    return (murmur2(key) & 0x7FFFFFFF) % partitions


def murmur2(data: bytes) -> int:
    """Kafka's 32-bit MurmurHash2 with its fixed seed, as an unsigned number."""
    length = len(data)
    h = 0x9747B28C ^ length
    for i in range(0, length & ~3, 4):
        k = int.from_bytes(data[i : i + 4], "little") * 0x5BD1E995 & 0xFFFFFFFF
        k = (k ^ (k >> 24)) * 0x5BD1E995 & 0xFFFFFFFF
        h = (h * 0x5BD1E995 & 0xFFFFFFFF) ^ k
    tail = data[length & ~3 :]
    if tail:
        h = (h ^ int.from_bytes(tail, "little")) * 0x5BD1E995 & 0xFFFFFFFF
    h = (h ^ (h >> 13)) * 0x5BD1E995 & 0xFFFFFFFF
    return h ^ (h >> 15)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
