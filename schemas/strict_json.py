"""
Strict JSON, and documents as normalised JSON bytes: what every record carries, untouched, from ``apply`` to the POST body.

A document is normalised once: no white space, numbers digit for digit as they were written, no duplicate keys at any depth, no NaN,
no number beyond a double's range, no lone surrogate, at most 128 levels. Everything after that works on the bytes.
Source: RFC 8259; the refusals are those of I-JSON, RFC 7493, except that integers of any length are kept.
"""

from __future__ import annotations

import json
from typing import Any

import msgspec

DEPTH_MAX = 128

_decode = msgspec.json.decode
_decode_parts = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_encode = msgspec.json.encode


class NotStrict(ValueError):
    """The bytes are no strict JSON; the message says why."""


def decode(data: bytes) -> Any:
    """
    The value of strict JSON.

    Raises:  NotStrict: no JSON, bad UTF-8, NaN, overflow, lone surrogate, duplicate key, more than 128 levels.
    """
    return read(data)[0]


def normalise(data: bytes) -> bytes:
    """
    The same JSON without white space, every other byte kept.

    Raises:      NotStrict, as :func:`decode`.
    Guarantees:  normalise(normalise(x)) == normalise(x); both decode to the same value.
    """
    return read(data)[1]


def read(data: bytes) -> tuple[Any, bytes]:
    """Value and normalised bytes at once. Raises NotStrict, as :func:`decode`."""
    try:
        value = _decode(data)
        normal = msgspec.json.format(data, indent=-1)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise NotStrict(reason(error, data)) from error
    # Without white space each key ends in `":`, so a count of these that equals the names found proves that no key came twice.
    # Strings may hold the same two signs: then, and only then, the slow look decides.
    if _names(value, DEPTH_MAX - 1) != normal.count(b'":'):
        _refuse_duplicates(normal)
    return value, normal


def encode(value: Any) -> bytes:
    """Normalised JSON of plain Python values."""
    return _encode(value)


def merge(old: bytes, new: bytes) -> bytes | None:
    """
    The top-level properties of ``new`` put over those of ``old``; a nested object is replaced whole. None when that changes no value.

    Args:        both normalised objects.
    Guarantees:  values keep their bytes; a property keeps its place, new ones come last.
    """
    parts, given = _decode_parts(old), _decode_parts(new)
    if all(name in parts and equal(bytes(parts[name]), bytes(value)) for name, value in given.items()):
        return None
    parts.update(given)
    return _encode(parts)


def equal(one: bytes, other: bytes) -> bool:
    """Whether two normalised documents mean the same: 31 equals 31.0, the order of keys does not count, true is not 1."""
    return one == other or _same(_decode(one), _decode(other))


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, dict):
        return isinstance(other, dict) and one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return isinstance(other, list) and len(one) == len(other) and all(map(_same, one, other))
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    return bool(one == other)


def _names(value: Any, levels: int) -> int:
    """How many object keys there are, at every depth."""
    if levels < 0:
        raise NotStrict(f"it is nested deeper than {DEPTH_MAX} levels")
    if isinstance(value, dict):
        found, inner = len(value), value.values()
    elif isinstance(value, list):
        found, inner = 0, value  # type: ignore[assignment]
    else:
        return 0
    for part in inner:
        if part.__class__ is dict or part.__class__ is list:
            found += _names(part, levels - 1)
    return found


def _refuse_duplicates(data: bytes) -> None:
    def once(pairs: list[tuple[str, Any]]) -> None:
        seen = set()
        for key, _ in pairs:
            if key in seen:
                raise NotStrict(f"the key {json.dumps(key)} comes twice")
            seen.add(key)

    json.loads(data, object_pairs_hook=once, parse_int=str)


def reason(error: Exception, data: bytes) -> str:
    """
    Why ``data`` is no strict JSON, for people.

    Args:  error: what msgspec raised; of a lone surrogate it says that the data end too early, or where the other half is missing.
    """
    if isinstance(error, UnicodeDecodeError):
        return "it is not UTF-8"
    if isinstance(error, RecursionError):
        return f"it is nested deeper than {DEPTH_MAX} levels"
    if isinstance(error, msgspec.ValidationError):
        return "a number is beyond the range of a double"
    text = str(error).removeprefix("JSON is malformed: ")
    if ("truncated" in text or "surrogate" in text) and _is_lax_json(data):
        return r"a string holds half of a surrogate pair (\ud800 to \udfff)"
    return "it ends too early" if "truncated" in text else text


def _is_lax_json(data: bytes) -> bool:
    """Whether it is JSON where lone surrogates are let pass."""
    try:
        json.loads(data, parse_int=str)
    except (ValueError, RecursionError):
        return False
    return True
