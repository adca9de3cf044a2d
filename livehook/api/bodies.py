"""Bodies of requests: bounded, unpacked, of an accepted type, strict JSON."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Iterator
from typing import Any

import msgspec
from fastapi import Request, Response

from livehook.api.problems import Problem
from schemas import strict_json

UNPACKED_BYTES_MAX = 16 * 1024 * 1024
GZIP_MEMBERS_MAX = 16  # each one copies what is left of the body
SMALL_BYTES_MAX = 1024 * 1024
READ_S_MAX = 60.0
GZIP = 16 + zlib.MAX_WBITS
JSON_TYPES = ("application/json",)
PATCH_TYPES = ("application/json", "application/merge-patch+json")
NDJSON = "application/x-ndjson"
NDJSON_TYPES = (NDJSON, "application/ndjson", "application/jsonl")


def json_response(value: Any, status: int = 200) -> Response:
    """An answer in JSON; msgspec writes it, several times faster than the framework."""
    return Response(msgspec.json.encode(value), status, media_type="application/json")


def content_type(request: Request, accepted: tuple[str, ...]) -> str:
    """
    The type of the body.

    Raises:  Problem: unsupported-type. A missing one too: without it a foreign web page could post here unasked.
    """
    given, _, parameters = request.headers.get("content-type", "").partition(";")
    found = given.strip().lower()
    charset = parameters.lower().partition("charset=")[2].strip().strip('"')
    if found not in accepted or charset not in ("", "utf-8", "utf8"):
        raise Problem("unsupported-type", f"content-type is {found or 'missing'!r}, must be {' or '.join(accepted)} in UTF-8")
    return found


def is_small(request: Request) -> bool:
    """Whether the body is small for sure, unpacked."""
    length = request.headers.get("content-length")
    return length is not None and int(length) <= SMALL_BYTES_MAX and "content-encoding" not in request.headers


async def read_json(request: Request, *, accepted: tuple[str, ...] = JSON_TYPES, empty: Any = None) -> Any:
    """
    The value of a small JSON body; ``empty`` when there is none and ``empty`` is given.

    Raises:  Problem: malformed, too-large, unsupported-type, timeout.
    """
    body = await read_body(request, SMALL_BYTES_MAX)
    if not body and empty is not None:
        return empty
    content_type(request, accepted)
    try:
        return strict_json.decode(body)
    except strict_json.NotStrict as error:
        raise Problem("malformed", f"the body is no strict JSON: {error}") from error


async def read_body(request: Request, bytes_max: int = UNPACKED_BYTES_MAX) -> bytes:
    """
    The whole body, unpacked.

    Raises:  Problem: too-large (packed or unpacked), unsupported-type (of the encoding), malformed (no gzip), timeout.
    """
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in ("identity", "gzip", "x-gzip"):
        raise Problem("unsupported-type", f"content-encoding is {encoding!r}, must be gzip or left out")
    if int(request.headers.get("content-length", "0")) > bytes_max:  # the server has checked that it is a number
        raise _too_large(bytes_max)
    try:
        async with asyncio.timeout(READ_S_MAX):
            packed = await _read(request, bytes_max)
    except TimeoutError:
        raise Problem("timeout", f"the body did not arrive within {READ_S_MAX:.0f} s") from None
    return packed if encoding == "identity" else b"".join(_unpacked(packed, bytes_max))


async def _read(request: Request, bytes_max: int) -> bytes:
    chunks: list[bytes] = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > bytes_max:
            raise _too_large(bytes_max)
        chunks.append(chunk)
    return b"".join(chunks)


def _unpacked(packed: bytes, bytes_max: int) -> Iterator[bytes]:
    """A gzip stream of one or several members; never more than the bound is unpacked, whatever it says of itself."""
    left = bytes_max
    for _ in range(GZIP_MEMBERS_MAX):
        member = zlib.decompressobj(GZIP)
        try:
            part = member.decompress(packed, left + 1)
        except zlib.error as error:
            raise Problem("malformed", f"the body is no gzip: {error}") from error
        if len(part) > left:
            raise _too_large(bytes_max)
        if not member.eof:
            raise Problem("malformed", "the gzip body is cut off")
        left -= len(part)
        packed = member.unused_data
        yield part
        if not packed:
            return
    raise Problem("malformed", f"the gzip body has more than {GZIP_MEMBERS_MAX} members")


def _too_large(bytes_max: int) -> Problem:
    return Problem("too-large", f"the body has more than {bytes_max // 1024 // 1024} MiB unpacked, the most that is taken at once")
