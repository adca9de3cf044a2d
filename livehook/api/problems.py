"""Errors as ``application/problem+json`` (RFC 9457): one class, one table of codes, one place where foreign errors become either."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from http import HTTPStatus
from typing import Any

import msgspec
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.routing import Match

from connectors.activity.model import ActivityUnavailable
from connectors.kafka.errors import KafkaRefused, KafkaUnavailable
from schemas.errors import FieldError, Invalid

logger = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"
ERRORS_MAX = 100  # more help nobody
ERRORS_SHOWN = 10  # in the detail
METHODS = ("DELETE", "GET", "HEAD", "PATCH", "POST", "PUT")

CODES: dict[str, tuple[int, str]] = {
    "malformed": (400, "Malformed JSON"),
    "unauthorized": (401, "Unauthorized"),
    "forbidden": (403, "Forbidden"),
    "not-found": (404, "Not found"),
    "method-not-allowed": (405, "Method not allowed"),
    "conflict": (409, "Conflict"),
    "too-large": (413, "Too large"),
    "unsupported-type": (415, "Unsupported content type"),
    "invalid": (422, "Invalid input"),
    "internal": (500, "Internal error"),
    "unavailable": (503, "Kafka is not available"),
    "timeout": (504, "Timeout"),
}
UNKNOWN_OUTCOME = "Kafka did not acknowledge it: whether it was written is unknown, so send it again"


class Problem(Exception):
    """
    An answer that is an error.

    Args:  code: of :data:`CODES`. errors: the wrong fields. title: instead of the code's own.
    """

    def __init__(self, code: str, detail: str, *, errors: Sequence[FieldError] = (), title: str | None = None) -> None:
        super().__init__(detail)
        self.code = code
        self.status, self.title = CODES[code][0], title or CODES[code][1]
        self.detail = detail
        self.errors = errors

    def body(self) -> bytes:
        """The problem document."""
        found: dict[str, Any] = {
            "type": "about:blank",
            "title": self.title,
            "status": self.status,
            "code": self.code,
            "detail": self.detail,
        }
        if self.errors:
            found["errors"] = [_error_json(error) for error in self.errors[:ERRORS_MAX]]
        return msgspec.json.encode(found)

    def response(self) -> Response:
        """The problem as an answer."""
        headers = {"www-authenticate": "Bearer"} if self.code == "unauthorized" else None
        return Response(self.body(), self.status, headers, MEDIA_TYPE)


def invalid(error: Invalid, title: str | None = None) -> Problem:
    """The 422 that names every wrong field."""
    fields = [one.field or "the input" for one in error.errors]
    detail = str(error) if len(fields) == 1 else f"{len(fields)} fields are wrong: {', '.join(fields[:ERRORS_SHOWN])}"
    return Problem("invalid", detail, errors=error.errors, title=title)


def invalid_field(field: str, message: str) -> Problem:
    """The 422 for one wrong field."""
    return invalid(Invalid([FieldError(field, message)]))


def not_found(what: str) -> Problem:
    """The 404 for what is not there."""
    return Problem("not-found", f"{what} is not there")


def _error_json(error: FieldError) -> dict[str, Any]:
    found: dict[str, Any] = msgspec.to_builtins(error)
    return {name: value for name, value in found.items() if value is not None}


def _allowed(request: Request) -> list[str]:
    """The methods that the path has: every one is a route of its own, and the framework would name that of the first alone."""
    routes = request.app.routes
    return [method for method in METHODS if any(route.matches({**request.scope, "method": method})[0] is Match.FULL for route in routes)]


def _of_framework(error: HTTPException) -> Problem:
    by_status = {status: code for code, (status, _) in CODES.items()}
    code = by_status.get(error.status_code)
    if code is None:
        return Problem("internal", f"the framework answered {error.status_code}: {error.detail}")
    detail = "there is nothing at this address; /docs lists what there is" if code == "not-found" else str(error.detail)
    return Problem(code, detail)


def _of_parameters(error: RequestValidationError) -> Problem:
    errors = [FieldError(".".join(map(str, one["loc"][1:])), str(one["msg"])) for one in error.errors()]
    return invalid(Invalid(errors))


def install(app: FastAPI) -> None:
    """Answer every error as a problem, the framework's own included."""

    def answered(kind: type[Exception], to_problem: Callable[[Any], Problem]) -> None:
        async def handle(_: Request, error: Exception) -> Response:
            return to_problem(error).response()

        app.add_exception_handler(kind, handle)

    answered(Problem, lambda error: error)
    answered(Invalid, invalid)
    app.add_exception_handler(HTTPException, _framework)
    answered(RequestValidationError, _of_parameters)
    answered(KafkaUnavailable, lambda error: Problem("unavailable", f"{UNKNOWN_OUTCOME} ({error})"))
    answered(KafkaRefused, lambda error: Problem("unavailable", f"Kafka refused: {error}"))
    answered(ActivityUnavailable, lambda error: Problem("unavailable", str(error), title="The activity log is not available"))
    answered(TimeoutError, lambda error: Problem("timeout", str(error) or "it took too long"))
    app.add_exception_handler(Exception, _unexpected)


async def _framework(request: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        raise error
    if error.status_code != HTTPStatus.METHOD_NOT_ALLOWED:
        return _of_framework(error).response()
    allowed = ", ".join(_allowed(request))
    response = Problem("method-not-allowed", f"{request.method} is not for this path: {allowed}").response()
    response.headers["allow"] = allowed  # RFC 9110, 15.5.6
    return response


async def _unexpected(request: Request, error: Exception) -> Response:
    logger.error("%s %s failed", request.method, request.url.path, exc_info=error)
    return Problem("internal", f"this is a fault of Livehook: {HTTPStatus.INTERNAL_SERVER_ERROR.phrase}").response()


Handler = Callable[[Request], Awaitable[Response]]
