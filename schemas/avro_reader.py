"""
Avro's binary encoding to values: each schema is compiled once into one function that reads a record.

fastavro, which reads what older versions of a schema wrote, takes twice as long for a delivery. Pure. Called by codec.py.
Source: Avro 1.12 specification, "Binary Encoding".
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from functools import lru_cache
from typing import Any

from schemas.avro_source import Source

Read = Callable[[bytes, int], tuple[Any, int]]
"""The data and where a value begins; gives the value, and where it ends, which may be behind the end of data that was cut."""

VARINT_BITS_MAX = 64
HIGH_KEPT = 1_024


def compile_reader(schema: Any, *, as_row: bool = False, without: Collection[str] = ()) -> Read:
    """
    What reads values of a schema, parsed by fastavro; a record becomes a dict.

    Args:    as_row: the schema is that of a record, whose fields are wanted as a tuple in their order.
             without: fields, at any depth, that are passed over: they are None, whatever they hold.

    Raises:  ValueError: the schema has something that none of ours has: a type by its name, a union other than of null and one more.
             What is returned raises ValueError or IndexError for what is no value of the schema.
    """
    source = Source("def read(data, at):")
    schema = _without(schema, without)
    found = _row(source, schema["fields"]) if as_row else _value(source, schema)
    source.line(f"return {found}, at")
    return source.function("read", _KNOWN)


def _value(source: Source, schema: Any) -> str:
    """An expression for the value that begins at ``at``; the lines that read it, and move ``at`` on, stand in the source then."""
    match schema:
        case "string" | "bytes":
            return _text(source, schema)
        case "int" | "long":
            return _number(source)
        case "boolean":
            source.line("at += 1")
            return source.let("data[at - 1] != 0")
        case ["null", other]:
            return _optional(source, other)
        case {"type": "record", "fields": fields}:
            return source.let("{" + ", ".join([f"{field['name']!r}: {_value(source, field['type'])}" for field in fields]) + "}")
        case {"type": "array", "items": items}:
            return _blocks(source, "[]", lambda found: source.line(f"{found}.append({_value(source, items)})"))
        case {"type": "map", "values": items}:
            return _blocks(source, "{}", lambda found: source.line(f"{found}[{_text(source, 'string')}] = {_value(source, items)}"))
        case {"type": "string" | "bytes" | "int" | "long" | "boolean" as name}:
            return _value(source, name)
        case {"passed over": other}:
            _pass_over(source, other)
            return "None"
    raise ValueError(f"no reader for {str(schema)[:100]}")


def _without(schema: Any, names: Collection[str]) -> Any:
    """The schema with these fields marked as passed over."""
    match schema:
        case ["null", other]:
            return ["null", _without(other, names)]
        case {"type": "record", "fields": fields}:
            marked = [
                field | {"type": {"passed over": field["type"]} if field["name"] in names else _without(field["type"], names)}
                for field in fields
            ]
            return schema | {"fields": marked}
    return schema


def _pass_over(source: Source, schema: Any) -> None:
    match schema:
        case "string" | "bytes":
            _length(source)
        case "int" | "long":
            with source.block("while data[at] > 127:"):
                source.line("at += 1")
            source.line("at += 1")
        case ["null", other]:
            branch = source.let("data[at]")
            source.line("at += 1")
            with source.block(f"if {branch} == 2:"):
                _pass_over(source, other)
            with source.block(f"elif {branch}:"):
                source.line("refuse('no branch of a union')")
        case {"type": "map", "values": items}:

            def pass_item(_: str) -> None:
                _pass_over(source, "string")
                _pass_over(source, items)

            _blocks(source, "None", pass_item, is_passed_over=True)
        case _:
            _value(source, schema)


def _row(source: Source, fields: Any) -> str:
    return "(" + "".join([f"{_value(source, field['type'])}, " for field in fields]) + ")"


def _varint(source: Source) -> str:
    """Zigzag as it is; one byte or two without a call."""
    found = source.let("data[at]")
    source.line("at += 1")
    with source.block(f"if {found} > 127:"):
        _further_bytes(source, found)
    return found


def _further_bytes(source: Source, found: str) -> None:
    second = source.let("data[at]")
    source.line("at += 1")
    source.line(f"{found} += ({second} << 7) - 128")
    with source.block(f"if {second} > 127:"):
        source.line(f"{found}, at = more(data, at, {found} - 16384)")


def _number(source: Source) -> str:
    found = source.let("data[at]")
    source.line("at += 1")
    with source.block(f"if {found} > 127:"):
        _further_bytes(source, found)
        source.line(f"{found} = ({found} >> 1) ^ -({found} & 1)")
    with source.block("else:"):
        source.line(f"{found} = small[{found}]")
    return found


def _length(source: Source) -> None:
    """Moves ``at`` on behind a string or bytes."""
    size = _varint(source)
    with source.block(f"if {size} & 1:"):
        source.line("refuse('a negative length')")
    source.line(f"at += {size} >> 1")


def _text(source: Source, type_: str) -> str:
    size = _varint(source)
    with source.block(f"if {size} & 1:"):
        source.line("refuse('a negative length')")
    begin = source.let("at")
    source.line(f"at += {size} >> 1")
    data = f"data[{begin}:at]"
    return source.let(f"str({data}, 'utf-8')" if type_ == "string" else data)


def _optional(source: Source, schema: Any) -> str:
    branch, found = source.let("data[at]"), source.name()
    source.line("at += 1")
    with source.block(f"if {branch} == 0:"):
        source.line(f"{found} = None")
    with source.block(f"elif {branch} == 2:"):
        source.line(f"{found} = {_value(source, schema)}")
    with source.block("else:"):
        source.line("refuse('no branch of a union')")
    return found


def _blocks(source: Source, empty: str, read_item: Callable[[str], None], *, is_passed_over: bool = False) -> str:
    """Items in blocks, each with their count before it and, where that is negative, the size of the block; the last one is empty."""
    found = source.let(empty)
    with source.block("while True:"):
        count = _number(source)
        with source.block(f"if {count} == 0:"):
            source.line("break")
        with source.block(f"if {count} < 0:"):
            if is_passed_over:
                _length(source)
                source.line("continue")
            else:
                source.line(f"{count} = -{count}")
                _varint(source)
        with source.block(f"for _ in range({count}):"):
            read_item(found)
    return found


def _more(data: bytes, at: int, number: int) -> tuple[int, int]:
    """The rest of a varint of more than two bytes, whose 14 lowest bits are known."""
    if data[at] > 0x7F and data[at + 1] > 0x7F and (high := _high(data[at + 2 : at + 6])) is not None:
        return number | (data[at] & 0x7F) << 14 | (data[at + 1] & 0x7F) << 21 | high, at + 6
    shift = 14
    while (byte := data[at]) > 0x7F:
        number |= (byte & 0x7F) << shift
        shift += 7
        at += 1
        if shift >= VARINT_BITS_MAX:
            _refuse("a number of more than 64 bits")
    return number | byte << shift, at + 1


@lru_cache(maxsize=HIGH_KEPT)  # of times in µs, and what is numbered by them, it is the same for minutes
def _high(last: bytes) -> int | None:
    """What the last four bytes of a varint of eight count for; None: these are none."""
    if len(last) < 4 or last[3] > 0x7F or min(last[:3]) < 0x80:
        return None
    return (last[0] & 0x7F) << 28 | (last[1] & 0x7F) << 35 | (last[2] & 0x7F) << 42 | last[3] << 49


def _refuse(what: str) -> None:
    raise ValueError(what)


_KNOWN: Mapping[str, Any] = {"more": _more, "refuse": _refuse, "small": [(byte >> 1) ^ -(byte & 1) for byte in range(128)]}
