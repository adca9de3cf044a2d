"""
Records to bytes and back: Avro single-object encoding, or Confluent wire format when a registry gives ids.

Readers tell JSON, single-object and wire format by the first byte. Every schema version ever written stays in ``schemas/avro`` as
``<record>.<version>.avsc``; the newest is written, all are read. Source: Avro 1.12 specification, "Single-object encoding";
Confluent wire format (a zero byte and a four-byte schema id before the Avro body).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from importlib.resources import files
from io import BytesIO
from typing import Any

from fastavro import parse_schema, schemaless_reader
from fastavro.schema import fingerprint, to_parsing_canonical_form
from fastavro.types import AvroMessage

from schemas.avro_reader import Read, compile_reader
from schemas.avro_writer import compile_writer
from schemas.errors import BadRecord, Reason

SINGLE_OBJECT = b"\xc3\x01"
WIRE_FORMAT = b"\x00"

SchemaById = Callable[[int], Any]
"""Gives the parsed Avro schema of a registry's id; raises LookupError when the registry has none."""


class Schema:
    """
    The versions of one record's Avro schema, oldest first; the last one is written.

    Args:  of_attributes: what is written has the fields as attributes, ``txnId`` as ``txn_id``; else it is a mapping.
    """

    def __init__(self, name: str, *, of_attributes: bool = False) -> None:
        found = sorted(
            (int(match[1]), file) for file in files("schemas.avro").iterdir() if (match := re.fullmatch(rf"{name}\.(\d+)\.avsc", file.name))
        )
        self.name = name
        self.sources = [json.loads(file.read_text()) for _, file in found]
        self.versions = [parse_schema(source) for source in self.sources]
        self.newest = self.versions[-1]
        self.write = compile_writer(self.newest, of_attributes=of_attributes)
        self.read = compile_reader(self.newest)
        self.read_row = compile_reader(self.newest, as_row=True)
        self.prefix = b""
        self.prefixes: tuple[bytes, ...] = ()
        self._ids: list[int | None] = [None] * len(self.sources)
        self._list_prefixes()

    def adopt(self, ids: Sequence[int] | None) -> None:
        """Write Confluent wire format from now on, with a registry's ids of the versions; None: single-object encoding again."""
        self._ids = [None] * len(self.sources) if ids is None else list(ids)
        self._list_prefixes()

    def _list_prefixes(self) -> None:
        plain = [SINGLE_OBJECT + _fingerprint(source) for source in self.sources]
        wire = [None if id_ is None else WIRE_FORMAT + id_.to_bytes(4) for id_ in self._ids]
        self._written = dict(zip(plain, self.versions, strict=True))
        self._written |= {prefix: version for prefix, version in zip(wire, self.versions, strict=True) if prefix is not None}
        self.prefixes = tuple(self._written)
        self.prefix = wire[-1] or plain[-1]

    def wrote(self, data: bytes) -> bool:
        """Whether the bytes begin as those of this record do."""
        return data.startswith(self.prefixes)

    def writer(self, data: bytes) -> tuple[bytes, Any] | None:
        """The prefix that the bytes begin with and the schema that they were written with; None when it is none of this record's."""
        for length in (10, 5):
            prefix = data[:length]
            if prefix in self._written:
                return prefix, self._written[prefix]
        return None


def _fingerprint(source: Any) -> bytes:
    return bytes.fromhex(fingerprint(to_parsing_canonical_form(source), "CRC-64-AVRO"))


def encode(schema: Schema, record: object) -> bytes:
    """The bytes of one record, in the newest version of its schema."""
    return schema.prefix + schema.write(record)


def decode(schema: Schema, data: bytes, schema_by_id: SchemaById | None = None) -> dict[str, Any]:
    """
    The fields of one record, in the newest version of its schema whatever version wrote it.

    Raises:  BadRecord: unknown-schema; undecodable (truncated, trailing bytes, no Avro).
    """
    if data.startswith(schema.prefix):
        return _read_newest(schema.read, data, len(schema.prefix))  # type: ignore[no-any-return]
    known = schema.writer(data)
    if known is not None:
        return _read(data, len(known[0]), known[1], schema.newest)
    if data.startswith(SINGLE_OBJECT):
        raise BadRecord(Reason.UNKNOWN_SCHEMA, f"no schema of {schema.name} has the fingerprint {data[2:10].hex()}")
    if data.startswith(WIRE_FORMAT):
        return _read(data, 5, _registered(schema, data, schema_by_id), schema.newest)
    raise BadRecord(Reason.UNDECODABLE, f"it begins with {data[:2].hex() or 'nothing'}, which is no encoding of {schema.name}")


def decode_with(read: Read, schema: Schema, data: bytes) -> dict[str, Any]:
    """As :func:`decode`, by a reader of the newest version that passes over what is not wanted, where that version wrote the record."""
    if data.startswith(schema.prefix):
        return _read_newest(read, data, len(schema.prefix))  # type: ignore[no-any-return]
    return decode(schema, data)


def decode_row(schema: Schema, data: bytes) -> tuple[Any, ...]:
    """As :func:`decode`, the fields as a tuple in the order of the newest schema; quicker, for what is read all the time."""
    return decode_row_with(schema.read_row, schema, data)


def decode_row_with(read: Read, schema: Schema, data: bytes) -> tuple[Any, ...]:
    """As :func:`decode_with`, the fields as a tuple."""
    if data.startswith(schema.prefix):
        return _read_newest(read, data, len(schema.prefix))  # type: ignore[no-any-return]
    found = decode(schema, data)
    return tuple([found[field["name"]] for field in schema.sources[-1]["fields"]])


def _registered(schema: Schema, data: bytes, schema_by_id: SchemaById | None) -> Any:
    if len(data) < 5:
        raise BadRecord(Reason.UNDECODABLE, "it ends inside the schema id")
    id_ = int.from_bytes(data[1:5])
    if schema_by_id is None:
        raise BadRecord(Reason.UNKNOWN_SCHEMA, f"it has schema id {id_}, but no schema registry is configured")
    try:
        return schema_by_id(id_)
    except LookupError as error:
        raise BadRecord(Reason.UNKNOWN_SCHEMA, f"the schema registry has no schema {id_} for {schema.name}") from error


def _read_newest(read: Read, data: bytes, begin: int) -> Any:
    try:
        found, end = read(data, begin)
    except (IndexError, ValueError) as error:  # ValueError: UTF-8, too
        raise BadRecord(Reason.UNDECODABLE, f"Avro: {error}"[:200]) from error
    if end != len(data):
        _refuse_length(len(data), end)
    return found


def _refuse_length(length: int, end: int) -> None:
    raise BadRecord(Reason.UNDECODABLE, f"Avro: {length - end} bytes too many" if end < length else "Avro: it ends inside a value")


def _read(data: bytes, start: int, written: Any, wanted: Any) -> dict[str, Any]:
    source = BytesIO(data)
    source.seek(start)
    try:
        found: AvroMessage = schemaless_reader(source, written, wanted)
    except Exception as error:  # fastavro has no error class of its own: whatever it raises, these bytes cannot be read
        raise BadRecord(Reason.UNDECODABLE, f"Avro: {type(error).__name__}: {error}"[:200]) from error
    if source.tell() != len(data):
        _refuse_length(len(data), source.tell())
    return found  # type: ignore[return-value]
