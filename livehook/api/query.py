"""``POST /v1/query/check``: is this a query, and what does it say of a document."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request, Response

from livehook.api import bodies, openapi
from livehook.api.problems import invalid
from livehook.checks import query_field_error
from schemas.errors import FieldError, Invalid
from schemas.reader import Reader
from streams.query import QueryError, compile_query


def router() -> APIRouter:
    """The routes."""
    made = APIRouter(tags=["Query"])
    made.add_api_route("/v1/query/check", check, methods=["POST"], **openapi.CHECK_QUERY)
    return made


async def check(request: Request) -> Response:
    """Check a query; with a document, evaluate it."""
    data = await bodies.read_json(request)
    text, args, doc = _read(data)
    try:
        query = compile_query(text, args)
    except QueryError as error:
        raise invalid(Invalid([query_field_error(error)]), "Invalid query") from error
    answer: dict[str, Any] = {"valid": True}
    if doc is not None:
        answer["result"] = query.value(doc)
    return bodies.json_response(answer)


def _read(data: Any) -> tuple[str, dict[str, Any], dict[str, Any] | None]:
    errors: list[FieldError] = []
    reader = Reader(data, "", errors)
    if "query" not in reader:
        reader.refuse("query", "is missing")
    text, args = reader.text("query"), reader.object("args")
    doc = reader.object("doc") if "doc" in reader else None
    reader.raw("doc")
    reader.end()
    if errors:
        raise Invalid(errors)
    return text, args, doc
