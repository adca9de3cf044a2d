"""
Values to Avro's binary encoding: each schema is compiled once into one function that gives the bytes of a value.

fastavro takes three to four times as long to write an attempt: it looks up each field's type anew, and tries the branches of a union.
Pure. Called by codec.py. Source: Avro 1.12 specification, "Binary Encoding".
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

from schemas.avro_source import Source
from schemas.kept import kept

Write = Callable[[Any], bytes]
Field = Callable[[str, str], str]
"""The expression for a record and the name of a field in; the one for that field's value out."""

INT_MIN, INT_MAX = -(2**31), 2**31 - 1
LONG_MIN, LONG_MAX = -(2**63), 2**63 - 1
KEYS_KEPT = 1_024
LAYOUTS_KEPT = 1_024
HIGH_KEPT = 1_024
KEY_CHARS_KEPT = 256
KEYS_MAX, LAYOUT_CHARS_KEPT = 64, 4_096
LOW_BITS, HIGH_BITS = 28, 36
PAIR = 0x3FFF
SMALL_MAX = 2_047  # nearly all lengths, versions and the like


def compile_writer(schema: Any, *, of_attributes: bool = False) -> Write:
    """
    What writes values of a schema, parsed by fastavro; a record is a mapping that has every field.

    Args:    of_attributes: a record has the fields as attributes instead, ``txnId`` as ``txn_id``.

    Raises:  ValueError: the schema has something that none of ours has: a type by its name, a union other than of null and one more.
             What is returned raises KeyError, TypeError, AttributeError, OverflowError or UnicodeEncodeError for a value that is none
             of the schema's.
    """
    source = Source("def write(value):")
    field = _attribute if of_attributes else _item
    source.line(f"return join(({', '.join(_parts(source, schema, 'value', field))},))")
    return source.function("write", _KNOWN)


def _item(record: str, name: str) -> str:
    return f"{record}[{name!r}]"


def _attribute(record: str, name: str) -> str:
    return f"{record}.{re.sub('[A-Z]', lambda found: '_' + found[0].lower(), name)}"


def _parts(source: Source, schema: Any, value: str, field: Field) -> list[str]:
    """Expressions for the pieces of a value, whose expression is given; what they need before stands in the source then."""
    match schema:
        case "string":
            data = source.let(f"{value}.encode()")
            return [f"longs[len({data})]", data]
        case "bytes":
            data = source.let(value)
            return [f"longs[len({data})]", data]
        case "int" | "long":
            return [f"{schema}s[{value}]"]
        case "boolean":
            return [f"yes if {value} else no"]
        case ["null", other]:
            return [_optional(source, other, source.let(value), field)]
        case {"type": "record", "fields": fields}:
            record = source.let(value)
            return [part for one in fields for part in _parts(source, one["type"], field(record, one["name"]), field)]
        case {"type": "array", "items": items}:
            return [_block(source, source.let(value), "item", [], items, field)]
        case {"type": "map", "values": "string"}:
            return [f"strings({value})"]
        case {"type": "map", "values": items}:
            return [_block(source, source.let(value), "key, item", ["keys(key)"], items, field)]
        case {"type": str() as name} if name in _PRIMITIVE:
            return _parts(source, name, value, field)
    raise ValueError(f"no writer for {str(schema)[:100]}")


def _optional(source: Source, schema: Any, value: str, field: Field) -> str:
    found = source.name()
    with source.block(f"if {value} is None:"):
        source.line(f"{found} = no")
    with source.block("else:"):
        source.line(f"{found} = join((some, {', '.join(_parts(source, schema, value, field))}))")
    return found


def _block(source: Source, value: str, names: str, before: list[str], schema: Any, field: Field) -> str:
    """All items in one block, and the empty one behind it; ``before``: what precedes each."""
    parts, item = source.let("[]"), source.name()
    with source.block(f"if len({value}):"):
        source.line(f"{parts}.append(longs[len({value})])")
    with source.block(f"for {names.replace('item', item)} in {value}{'.items()' if before else ''}:"):
        source.line(f"{parts} += ({', '.join([*before, *_parts(source, schema, item, field)])},)")
    source.line(f"{parts}.append(no)")
    return f"join({parts})"


def _varint(number: int) -> bytes:
    """Zigzag, then seven bits a byte, lowest first."""
    left = (number << 1) ^ (number >> 63)
    high = left >> LOW_BITS
    if high == 0:
        return _last(left)
    if high >> HIGH_BITS:
        raise OverflowError(f"{number} is no long")
    return _PAIRS[left & PAIR] + _PAIRS[left >> 14 & PAIR] + _last(high)


@lru_cache(maxsize=HIGH_KEPT)  # of times in µs, and what is numbered by them, it is the same for minutes
def _last(left: int) -> bytes:
    out: list[int] = []
    while left > 0x7F:
        out.append(left & 0x7F | 0x80)
        left >>= 7
    out.append(left)
    return bytes(out)


class _Pairs(dict[int, bytes]):
    """Two bytes, with more to follow, of each 14 bits that were asked for."""

    def __missing__(self, bits: int) -> bytes:
        found = self[bits] = bytes((bits & 0x7F | 0x80, bits >> 7 | 0x80))
        return found


_PAIRS = _Pairs()


class _Longs(dict[int, bytes]):
    """The bytes of each number: those of small ones stand here, those of others are made when they are asked for."""

    def __init__(self) -> None:
        super().__init__((number, _varint(number)) for number in range(SMALL_MAX + 1))

    def __missing__(self, number: int) -> bytes:
        return _varint(number)


class _Ints(_Longs):
    def __missing__(self, number: int) -> bytes:
        if not INT_MIN <= number <= INT_MAX:
            raise OverflowError(f"{number} is no int")
        return _varint(number)


_PRIMITIVE = frozenset({"string", "bytes", "int", "long", "boolean"})
_LONGS = _Longs()


@kept(KEYS_KEPT, lambda key: len(key) <= KEY_CHARS_KEPT)  # of maps: names of headers, the same again and again
def _key(key: str) -> bytes:
    data = key.encode()
    return _LONGS[len(data)] + data


def _strings(value: Mapping[str, str]) -> bytes:
    """
    A map of strings: names of headers are the same again and again, and lengths of values nearly so; together they are a template.

    Its one block tells its size, so that a reader may pass over it.
    """
    values = tuple(value.values())
    if not "".join(values).isascii():  # then a string has more bytes than signs
        data = [item.encode() for item in values]
        items = b"".join([_key(key) + _LONGS[len(item)] + item for key, item in zip(value, data, strict=True)])
        return b"".join((_LONGS[-len(value)], _LONGS[len(items)], items, b"\x00"))
    return (_layout(tuple(value), tuple(map(len, values))) % values).encode("latin-1")


@kept(LAYOUTS_KEPT, lambda keys, _: len(keys) <= KEYS_MAX and sum(map(len, keys)) <= LAYOUT_CHARS_KEPT)
def _layout(keys: tuple[str, ...], sizes: tuple[int, ...]) -> str:
    """The bytes of a map of ASCII strings of these lengths, as Latin-1, with ``%s`` where they go in."""
    if not keys:
        return "\x00"
    heads = [_key(key) + _LONGS[size] for key, size in zip(keys, sizes, strict=True)]
    begin = _LONGS[-len(keys)] + _LONGS[sum(map(len, heads)) + sum(sizes)]
    return "%s".join([head.decode("latin-1").replace("%", "%%") for head in (begin + heads[0], *heads[1:], b"\x00")])


# "no" is false, the branch of a union that is null, and the end of an array or map; "some" is the other branch.
_KNOWN: Mapping[str, Any] = {
    "join": b"".join,
    "longs": _LONGS,
    "ints": _Ints(),
    "keys": _key,
    "strings": _strings,
    "yes": b"\x01",
    "no": b"\x00",
    "some": b"\x02",
}
