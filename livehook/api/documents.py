"""
Documents in, mutations out: ``/v1/collections/{collection}/documents``.

A body is checked as a whole before anything of it is produced; it is accepted when the broker has acknowledged all of it.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Any
from urllib.parse import unquote_to_bytes

import msgspec
from fastapi import APIRouter, Request, Response

from livehook.api import bodies, openapi
from livehook.api.ports import Producer
from livehook.api.problems import Problem, invalid_field
from schemas import strict_json
from schemas.errors import BadRecord, FieldError, Reason
from schemas.keys import BadKey, check_collection, id_text
from schemas.mutations import DOCUMENT_BYTES_MAX, Method, Mutation, from_fields
from schemas.records import encode_mutation
from schemas.topics import Record

DOCUMENTS_MAX = 10_000
ERRORS_MAX = 100
LARGE_AT_ONCE = 8  # each may take some 64 MiB while it is read

NewId = Callable[[], str]


class Accepted(msgspec.Struct, frozen=True):
    """The answer: how many, and which, in the order given."""

    accepted: int
    ids: list[Any]


class Documents:
    """The endpoints; ``topic`` is that of mutations, ``new_id`` makes the id of a document that has none."""

    def __init__(self, producer: Producer, topic: str, new_id: NewId) -> None:
        self._producer = producer
        self._topic = topic
        self._new_id = new_id
        self._large = asyncio.Semaphore(LARGE_AT_ONCE)

    def router(self) -> APIRouter:
        """The routes."""
        router = APIRouter(tags=["Documents"])
        documents = "/v1/collections/{collection}/documents"
        one = f"{documents}/{{id:path}}"  # a path: an id may hold what looks like a slash once it is decoded
        router.add_api_route(documents, self.post, methods=["POST"], status_code=202, **openapi.POST_DOCUMENTS)
        router.add_api_route(one, self.patch, methods=["PATCH"], status_code=202, **openapi.PATCH_DOCUMENT)
        router.add_api_route(one, self.put, methods=["PUT"], status_code=202, **openapi.PUT_DOCUMENT)
        router.add_api_route(one, self.delete, methods=["DELETE"], status_code=202, **openapi.DELETE_DOCUMENT)
        return router

    async def post(self, request: Request) -> Response:
        """Upsert one document, an array or NDJSON."""
        collection, _ = _named(request)
        kind = bodies.content_type(request, (*bodies.JSON_TYPES, *bodies.NDJSON_TYPES))
        is_ndjson = kind in bodies.NDJSON_TYPES
        if bodies.is_small(request):
            return await self._accept(self._read(await bodies.read_body(request), collection, is_ndjson))
        async with self._large:
            body = await bodies.read_body(request)
            # In a thread: it takes up to half a second, in which the others are answered.
            return await self._accept(await asyncio.to_thread(self._read, body, collection, is_ndjson))

    async def patch(self, request: Request) -> Response:
        """Upsert the document of this id."""
        return await self._write(request, Method.UPSERT, bodies.PATCH_TYPES)

    async def put(self, request: Request) -> Response:
        """Put the document of this id in place of what is there."""
        return await self._write(request, Method.REPLACE, bodies.JSON_TYPES)

    async def delete(self, request: Request) -> Response:
        """Remove the document of this id."""
        collection, id_ = _named(request)
        return await self._accept(self._records([(Mutation(Method.REMOVE, collection, id_text(id_)), id_)]))

    async def _write(self, request: Request, method: Method, accepted: tuple[str, ...]) -> Response:
        collection, id_ = _named(request)
        bodies.content_type(request, accepted)
        if bodies.is_small(request):
            return await self._accept(self._records([_single(await bodies.read_body(request), collection, method, id_)]))
        async with self._large:
            body = await bodies.read_body(request)
            single = await asyncio.to_thread(_single, body, collection, method, id_)
            return await self._accept(self._records([single]))

    def _read(self, body: bytes, collection: str, is_ndjson: bool) -> tuple[list[Record], list[Any]]:
        parts, numbered = split_documents(body, ndjson=is_ndjson)
        return self._records(mutations_of(parts, collection, self._new_id, numbered=numbered))

    def _records(self, mutations: Sequence[tuple[Mutation, Any]]) -> tuple[list[Record], list[Any]]:
        records = [Record(self._topic, mutation.key.encode(), encode_mutation(mutation)) for mutation, _ in mutations]
        return records, [id_ for _, id_ in mutations]

    async def _accept(self, found: tuple[list[Record], list[Any]]) -> Response:
        records, ids = found
        await self._producer.send(records)
        return bodies.json_response(Accepted(len(records), ids), 202)


def split_documents(body: bytes, *, ndjson: bool) -> tuple[Sequence[bytes], bool]:
    """
    The documents of a body, each still to be read, and whether they are numbered in errors (an array and NDJSON are).

    Raises:  Problem: malformed; too-large: more than 10,000.
    """
    if ndjson:
        if body.count(b"\n") > 2 * DOCUMENTS_MAX:  # blank lines do not count, but are not free either
            raise _too_many()
        lines = [line for line in body.split(b"\n") if line.strip()]
        if len(lines) > DOCUMENTS_MAX:
            raise _too_many()
        return lines, True
    if not body.lstrip(b" \t\r\n").startswith(b"["):
        return [body], False
    try:
        _check_syntax(body)
        _count_documents(body)
        return [bytes(part) for part in _split_array(body)], True
    except msgspec.ValidationError as error:
        if _seen.count > DOCUMENTS_MAX:
            raise _too_many() from None
        raise invalid_field(f"[{_seen.count}].", "must be an object") from error
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise Problem("malformed", f"the body is no JSON: {strict_json.reason(error, body)}") from error


class _Seen(threading.local):
    count = 0


_seen = _Seen()


class _Counted(msgspec.Struct, gc=False):
    """An element of an array: stops the reading as soon as there are too many, before memory is spent on them."""

    def __post_init__(self) -> None:
        _seen.count += 1
        if _seen.count > DOCUMENTS_MAX:
            raise ValueError


_check_syntax = msgspec.json.Decoder(msgspec.Raw).decode
_decode_counted = msgspec.json.Decoder(list[_Counted]).decode
_split_array = msgspec.json.Decoder(list[msgspec.Raw]).decode


def _count_documents(body: bytes) -> None:
    _seen.count = 0
    _decode_counted(body)


def mutations_of(parts: Iterable[bytes], collection: str, new_id: NewId, *, numbered: bool) -> list[tuple[Mutation, Any]]:
    """
    The upserts that documents ask for, each with its id as it was given.

    Raises:  Problem: malformed, invalid or too-large, the first of these that any document is; every wrong one is named.
    """
    found: list[tuple[Mutation, Any]] = []
    errors: dict[str, list[FieldError]] = {"malformed": [], "invalid": [], "too-large": []}
    count = 0
    for index, part in enumerate(parts):
        try:
            found.append(_single(part, collection, Method.UPSERT, None, new_id))
        except Problem as problem:
            place = f"[{index}]." if numbered else ""
            errors[problem.code] += [FieldError(place + error.field, error.message) for error in problem.errors]
            count += 1
            if count == ERRORS_MAX:
                break
    for code, wrong in errors.items():
        if wrong:
            detail = str(wrong[0]) if wrong[0].field else f"the document {wrong[0].message}"
            raise Problem(code, detail, errors=wrong, title="Invalid document" if code == "invalid" else None)
    return found


def _single(body: bytes, collection: str, method: Method, id_: Any, new_id: NewId | None = None) -> tuple[Mutation, Any]:
    """
    The mutation of one document; ``id_`` is that of the path, if there is one, else the body's or a new one.

    Raises:  Problem: malformed, invalid, too-large.
    """
    try:
        value, normal = strict_json.read(body)
    except strict_json.NotStrict as error:
        raise _wrong("malformed", "", f"is no strict JSON: {error}") from error
    if not isinstance(value, dict):
        raise _wrong("invalid", "", "must be an object")
    inside = value.get("_id")
    if id_ is None:
        id_ = new_id() if inside is None and new_id is not None else inside
    elif inside is not None and _id_text(inside) != id_text(id_):
        raise _wrong("invalid", "_id", "is another one than in the path")
    _id_text(id_)
    try:
        fields = {"method": method.value, "collection": collection, "id": id_, "value": value}
        return from_fields(fields, {"value": normal}), id_
    except BadRecord as error:
        if error.reason is Reason.TOO_LARGE:
            raise _wrong("too-large", "", f"has more than {DOCUMENT_BYTES_MAX:,} bytes without white space, _id included") from error
        raise _wrong("invalid", "", error.detail) from error


def _id_text(id_: Any) -> str:
    try:
        return id_text(id_)
    except BadKey as error:
        raise _wrong("invalid", "_id", str(error)) from error


def _wrong(code: str, field: str, message: str) -> Problem:
    return Problem(code, f"{field or 'the document'} {message}", errors=[FieldError(field, message)])


def _too_many() -> Problem:
    return Problem("too-large", f"there are more than {DOCUMENTS_MAX:,} documents, the most that are taken at once")


def _named(request: Request) -> tuple[str, Any]:
    """
    Collection and id of the path (None without one), from its raw bytes: a slash inside an id and one beside it look the same once decoded.

    Raises:  Problem: invalid.
    """
    _, _, _, collection, _, *rest = request.scope["raw_path"].split(b"/")
    try:
        name = check_collection(unquote_to_bytes(collection).decode())
    except UnicodeDecodeError as error:
        raise invalid_field("collection", "is not UTF-8 once it is percent-decoded") from error
    except BadKey as error:
        raise invalid_field("collection", str(error)) from error
    if not rest:
        return name, None
    try:
        text = unquote_to_bytes(b"/".join(rest)).decode()
        id_ = strict_json.decode(text.encode()) if text.startswith("{") else text
        id_text(id_)
    except UnicodeDecodeError as error:
        raise invalid_field("id", "is not UTF-8 once it is percent-decoded") from error
    except strict_json.NotStrict as error:
        raise invalid_field("id", f"begins with {{ and is no JSON object: {error}") from error
    except BadKey as error:
        raise invalid_field("id", str(error)) from error
    return name, id_
