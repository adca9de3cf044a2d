"""
What was asked of one document, and the mark that tells everybody downstream which revisions of webhooks hold from here on.

In: records of ``mutations`` from any producer (JSON, Avro single-object, Confluent wire format). Called by the documents agent and the API.
Source: docs/reference/mutations.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

import msgspec

from schemas import strict_json
from schemas.errors import BadRecord, Reason
from schemas.keys import BadKey, check_collection, id_json, id_text, key_of, split_key
from schemas.reader import shown

DOCUMENT_BYTES_MAX = 1024 * 1024
METADATA_BYTES_MAX = 8 * 1024
MARK_KEY = b"$mark"
FIELDS = dict.fromkeys(("method", "collection", "id", "value", "ifVersion", "metadata"))


class Method(StrEnum):
    """What to do with the document."""

    UPSERT = "upsert"
    REPLACE = "replace"
    REMOVE = "remove"


_METHODS = {method.value: method for method in Method}


class Mutation(msgspec.Struct, frozen=True, gc=False):
    """
    One valid mutation.

    id:          as in the key (:func:`schemas.keys.id_text`).
    value:       the properties given, a normalised JSON object with ``_id``; None for a remove.
    if_version:  the version that the document must have, 0 for "does not exist"; None for any.
    metadata:    a normalised JSON object that goes with the change, or None.
    """

    method: Method
    collection: str
    id: str
    value: bytes | None = None
    if_version: int | None = None
    metadata: bytes | None = None

    @property
    def key(self) -> str:
        """``collection/id``."""
        return key_of(self.collection, self.id)


class Mark(msgspec.Struct, frozen=True, gc=False):
    """
    From here on in this partition, revisions hold that stand in ``webhooks`` before or at this offset.

    ends:  the uid of the webhook whose backfill ends here, and whose live flow begins; empty: the mark is about revisions.
    """

    webhooks: int
    ends: str = ""


def from_fields(fields: Mapping[str, Any], raw: Mapping[str, Any]) -> Mutation:
    """
    The mutation that a record's fields ask for.

    Args:    fields: the decoded values; raw: the same fields as normalised JSON bytes (``value`` and ``metadata`` are read from here).
    Raises:  BadRecord: invalid or too-large, with the field named.
    """
    if not FIELDS.keys() >= fields.keys():
        name = next(name for name in fields if name not in FIELDS)
        raise _invalid(name, f"is no field of a mutation, which has {', '.join(FIELDS)}")
    method = _method(fields.get("method"))
    value = fields.get("value")
    if method is Method.REMOVE:
        if isinstance(value, dict):
            value = {"_id": value["_id"]} if "_id" in value else None
        elif value is not None:
            raise _invalid("value", "is no object")
    elif not isinstance(value, dict):
        raise _invalid("value", f"must be an object for {method}")
    collection = _checked("collection", check_collection, fields.get("collection"))
    id_ = _id(fields.get("id"), value)
    return Mutation(
        method=method,
        collection=collection,
        id=id_,
        value=None if method is Method.REMOVE else _document(bytes(raw["value"]), value or {}, id_),
        if_version=_if_version(fields.get("ifVersion")),
        metadata=_metadata(fields.get("metadata"), raw.get("metadata")),
    )


def removal(key: bytes | None) -> Mutation:
    """
    The remove that a record with a null value stands for.

    Raises:  BadRecord: the key is not ``collection/id``.
    """
    if key is None:
        raise _invalid("key", "is missing: a record without a value is a remove and its key names the document")
    try:
        collection, id_ = split_key(key.decode())
    except (BadKey, UnicodeDecodeError) as error:
        raise _invalid("key", str(error)) from error
    return Mutation(Method.REMOVE, collection, id_)


def check_document_size(document: bytes) -> None:
    """
    Raises:  BadRecord: too-large.
    """
    if len(document) > DOCUMENT_BYTES_MAX:
        raise BadRecord(Reason.TOO_LARGE, f"the document has {len(document):,} bytes, at most {DOCUMENT_BYTES_MAX:,} are kept")


def _method(value: Any) -> Method:
    method = _METHODS.get(value) if isinstance(value, str) else None
    if method is None:
        raise _invalid("method", f"is {shown(value)}, must be upsert, replace or remove")
    return method


def _id(given: Any, value: Any) -> str:
    inside = value.get("_id") if isinstance(value, dict) else None
    if given is None and inside is None:
        raise _invalid("id", "is missing: give id or value._id")
    id_ = _checked("id" if given is not None else "value._id", id_text, given if given is not None else inside)
    if given is not None and inside is not None and _checked("value._id", id_text, inside) != id_:
        raise _invalid("id", "and value._id differ")
    return id_


def _document(document: bytes, value: Mapping[str, Any], id_: str) -> bytes:
    if "_id" not in value:
        document = b'{"_id":' + id_json(id_) + (b"," if value else b"") + document[1:]
    elif value["_id"] is None:
        document = strict_json.merge(document, b'{"_id":' + id_json(id_) + b"}") or document
    check_document_size(document)
    return document


def _if_version(value: Any) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**53:
        raise _invalid("ifVersion", f"is {shown(value)}, must be a whole number, 0 or more")
    return value


def _metadata(value: Any, raw: Any) -> bytes | None:
    if value is None:
        return None
    if not isinstance(value, dict):
        raise _invalid("metadata", "is no object")
    data = bytes(raw)
    if len(data) > METADATA_BYTES_MAX:
        raise BadRecord(Reason.TOO_LARGE, f"metadata has {len(data):,} bytes, at most {METADATA_BYTES_MAX:,} are kept")
    return data


def _checked(field: str, check: Any, value: Any) -> str:
    try:
        return str(check(value))
    except BadKey as error:
        raise _invalid(field, str(error)) from error


def _invalid(field: str, why: str) -> BadRecord:
    return BadRecord(Reason.INVALID, f"{field} {why}")
