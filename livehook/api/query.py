"""``POST /v1/query/…``: is this a query, what does it say of a document and why, and what would it have matched."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any, Final

from fastapi import APIRouter, Request, Response

from livehook.api import bodies, openapi
from livehook.api.ports import History
from livehook.api.problems import Problem, invalid
from livehook.checks import query_field_error
from livehook.dry_run import DryRun
from livehook.explaining import explained
from schemas.changes import Change
from schemas.errors import FieldError, Invalid
from schemas.keys import check_collection
from schemas.reader import Reader
from schemas.records import decode_change
from schemas.times import moment_us
from streams.query import QueryError, compile_query

DRY_RUNS_MAX: Final = 2  # at once
DRY_RUN_S_MAX: Final = 30.0  # of one, its wait for others included
SINCE: Final = "24h"


class Queries:
    """
    Args:  history: what a dry run reads. now_us: the time, µs since 1970. seconds_max: after which a dry run is given up.
    """

    def __init__(self, history: History, now_us: Callable[[], int], *, seconds_max: float = DRY_RUN_S_MAX) -> None:
        self._history = history
        self._now_us = now_us
        self._seconds_max = seconds_max
        self._running = asyncio.Semaphore(DRY_RUNS_MAX)

    def router(self) -> APIRouter:
        """The routes."""
        made = APIRouter(tags=["Query"])
        made.add_api_route("/v1/query/check", self.check, methods=["POST"], **openapi.CHECK_QUERY)
        made.add_api_route("/v1/query/explain", self.explain, methods=["POST"], **openapi.EXPLAIN_QUERY)
        made.add_api_route("/v1/query/dry-run", self.dry_run, methods=["POST"], **openapi.DRY_RUN_QUERY)
        return made

    async def check(self, request: Request) -> Response:
        """Check a query; with a document, evaluate it."""
        reader = Reader(await bodies.read_json(request), "", [])
        text, args, doc = _query(reader), reader.object("args"), _document(reader, "doc")
        _end(reader)
        try:
            query = compile_query(text, args)
        except QueryError as error:
            raise _invalid_query(error) from error
        answer: dict[str, Any] = {"valid": True}
        if doc is not None:
            answer["result"] = query.value(doc)
        return bodies.json_response(answer)

    async def explain(self, request: Request) -> Response:
        """The value of every part of a query for a document, the event that a change to it is, and how the index finds the query."""
        reader = Reader(await bodies.read_json(request), "", [])
        text, args, doc, old = _query(reader), reader.object("args"), _document(reader, "doc"), _document(reader, "old")
        if doc is None and not reader.errors:
            reader.refuse("doc", "is missing")
        _end(reader)
        try:
            return bodies.json_response(explained(text, args, doc or {}, old))
        except QueryError as error:
            raise _invalid_query(error) from error

    async def dry_run(self, request: Request) -> Response:
        """What a query would have matched in the changes of a collection that are kept."""
        now_us = self._now_us()
        reader = Reader(await bodies.read_json(request), "", [])
        text, args = _query(reader), reader.object("args")
        collection = reader.checked("collection", check_collection, "")
        if not collection and not reader.errors:
            reader.refuse("collection", "is missing")
        since_us = reader.checked("since", lambda value: moment_us(value, now_us), moment_us(SINCE, now_us))
        until_us = reader.checked("until", lambda value: moment_us(value, now_us))
        _end(reader)
        try:
            run = DryRun(compile_query(text, args, collections=[collection]).matches, collection)
        except QueryError as error:
            raise _invalid_query(error) from error
        deadline = time.monotonic() + self._seconds_max
        try:
            async with asyncio.timeout(self._seconds_max), self._running:
                await asyncio.to_thread(self._fold, run, since_us, until_us, deadline)
        except TimeoutError:
            raise Problem("timeout", self._too_slow(run)) from None
        return bodies.json_response(run.answer())

    def _fold(self, run: DryRun, since_us: int, until_us: int | None, deadline: float) -> None:
        """In a thread, which ends at the deadline whatever becomes of the request. Raises TimeoutError."""
        for values in self._history.values(since_us, until_us):
            if time.monotonic() > deadline:
                raise TimeoutError
            for value in values:
                change = decode_change(value)
                if isinstance(change, Change):
                    run.take(change)

    def _too_slow(self, run: DryRun) -> str:
        if not run.scanned:
            return f"other dry runs or Kafka took all of {self._seconds_max:g} s: ask again"
        return f"only {run.scanned:,} changes were looked at in {self._seconds_max:g} s: ask for less, with since and until"


def _query(reader: Reader) -> str:
    if "query" not in reader:
        reader.refuse("query", "is missing")
    return reader.text("query")


def _document(reader: Reader, name: str) -> dict[str, Any] | None:
    found = reader.object(name) if name in reader else None
    reader.raw(name)
    return found


def _end(reader: Reader) -> None:
    reader.end()
    if reader.errors:
        raise Invalid(list[FieldError](reader.errors))


def _invalid_query(error: QueryError) -> Problem:
    return invalid(Invalid([query_field_error(error)]), "Invalid query")
