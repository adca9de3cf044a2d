"""Parameters in paths and queries, read strictly."""

from __future__ import annotations

from fastapi import Request

from livehook.api.problems import invalid_field
from schemas.webhook_validation import check_name

LIMIT = 50
LIMIT_MAX = 1_000


def name_in_path(request: Request) -> str:
    """
    The webhook's name.

    Raises:  Problem: invalid.
    """
    try:
        return check_name(request.path_params["name"])
    except ValueError as error:
        raise invalid_field("name", str(error)) from error


def limit(request: Request) -> int:
    """
    How many items a list may have.

    Raises:  Problem: invalid.
    """
    text = request.query_params.get("limit", str(LIMIT))
    if not (text.isdecimal() and text.isascii() and len(text) <= len(str(LIMIT_MAX)) and 1 <= int(text) <= LIMIT_MAX):
        raise invalid_field("limit", f"is {text[:20]!r}, must be 1 to {LIMIT_MAX}")
    return int(text)


def page(request: Request) -> tuple[int, str]:
    """
    Of a list without filters: how many items it may have, and the cursor, empty at the beginning.

    Raises:  Problem: invalid.
    """
    for name in request.query_params:
        if name not in ("limit", "cursor"):  # a filter that was misspelt or is not there must not answer everything
            raise invalid_field(name[:60], "is no parameter here: there are limit and cursor")
    return limit(request), request.query_params.get("cursor", "")


def flag(request: Request, name: str) -> bool:
    """
    A query parameter that is true or false.

    Raises:  Problem: invalid.
    """
    text = request.query_params.get(name, "false")
    if text not in ("true", "false"):
        raise invalid_field(name, f"is {text[:20]!r}, must be true or false")
    return text == "true"
