"""
Values to Avro's binary encoding: a schema is compiled once into functions, one a type, that give the bytes of a value.

fastavro, which reads, takes three times as long to write an attempt: it looks up each field's type anew, and tries the branches of a union.
Pure. Called by codec.py. Source: Avro 1.12 specification, "Binary Encoding".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

Write = Callable[[Any], bytes]

INT_MIN, INT_MAX = -(2**31), 2**31 - 1
LONG_MIN, LONG_MAX = -(2**63), 2**63 - 1
KEYS_KEPT = 1_024


def compile_writer(schema: Any) -> Write:
    """
    What writes values of a schema, parsed by fastavro; a record is a mapping that has every field.

    Raises:  ValueError: the schema has something that none of ours has: a type by its name, a union other than of null and one more.
             What is returned raises KeyError, TypeError, AttributeError, OverflowError or UnicodeEncodeError for a value that is none
             of the schema's.
    """
    match schema:
        case str() if schema in _PRIMITIVE:
            return _PRIMITIVE[schema]
        case ["null", other]:
            return _optional(compile_writer(other))
        case {"type": "record", "fields": fields}:
            return _record([(field["name"], compile_writer(field["type"])) for field in fields])
        case {"type": "array", "items": items}:
            return _array(compile_writer(items))
        case {"type": "map", "values": values}:
            return _map(compile_writer(values))
        case {"type": str() as name} if name in _PRIMITIVE:
            return _PRIMITIVE[name]
    raise ValueError(f"no writer for {str(schema)[:100]}")


def _varint(number: int) -> bytes:
    """Zigzag, then seven bits a byte, lowest first."""
    if not LONG_MIN <= number <= LONG_MAX:
        raise OverflowError(f"{number} is no long")
    left = (number << 1) ^ (number >> 63)
    out: list[int] = []
    while left > 0x7F:
        out.append(left & 0x7F | 0x80)
        left >>= 7
    out.append(left)
    return bytes(out)


SMALL_MAX = 2_047
_SMALL = [_varint(number) for number in range(SMALL_MAX + 1)]  # nearly all lengths, versions and the like


def _long(value: int) -> bytes:
    return _SMALL[value] if 0 <= value <= SMALL_MAX else _varint(value)


def _int(value: int) -> bytes:
    if not INT_MIN <= value <= INT_MAX:
        raise OverflowError(f"{value} is no int")
    return _long(value)


def _bytes(value: bytes) -> bytes:
    size = len(value)
    return (_SMALL[size] if size <= SMALL_MAX else _varint(size)) + value


def _string(value: str) -> bytes:
    data = value.encode()
    size = len(data)  # the same once more: some fifty strings an attempt, and a call costs as much as the rest
    return (_SMALL[size] if size <= SMALL_MAX else _varint(size)) + data


def _boolean(value: bool) -> bytes:
    return b"\x01" if value else b"\x00"


_PRIMITIVE: Mapping[str, Write] = {"string": _string, "bytes": _bytes, "int": _int, "long": _long, "boolean": _boolean}
_key = lru_cache(maxsize=KEYS_KEPT)(_string)  # of maps: names of headers, the same again and again


def _optional(write: Write) -> Write:
    return lambda value: b"\x00" if value is None else b"\x02" + write(value)


def _record(fields: Sequence[tuple[str, Write]]) -> Write:
    return lambda value: b"".join([write(value[name]) for name, write in fields])


def _array(write: Write) -> Write:
    def array(value: Sequence[Any]) -> bytes:
        return b"".join([_long(len(value)), *[write(item) for item in value], b"\x00"]) if len(value) else b"\x00"

    return array


def _map(write: Write) -> Write:
    def mapping(value: Mapping[str, Any]) -> bytes:
        if not len(value):
            return b"\x00"
        parts = [_long(len(value))]
        for key, item in value.items():
            parts.append(_key(key))
            parts.append(write(item))
        parts.append(b"\x00")
        return b"".join(parts)

    return mapping
