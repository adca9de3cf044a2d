"""``livehook attempts`` and ``livehook resend``."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import Annotated, Any
from urllib.parse import quote, urlencode

from cyclopts import Parameter

from livehook.client import Client
from livehook.commands.common import REMOTE, Remote, cell, note, table

PAGE = 1_000
FOLLOW_EVERY_S = 0.3
COLUMNS = ("STARTED", "ID", "WEBHOOK", "DOCUMENT", "MATCH", "TRY", "OUTCOME", "STATUS", "MS", "ERROR")


def attempts(
    name: str | None = None,
    /,
    *,
    failed: bool = False,
    since: str | None = None,
    until: str | None = None,
    document: str | None = None,
    status: int | None = None,
    q: Annotated[str | None, Parameter(allow_leading_hyphen=True)] = None,
    limit: int = 50,
    follow: bool = False,
    remote: Remote = REMOTE,
) -> None:
    """
    Show calls that were made, newest first.

    Parameters
    ----------
    name
        Of which webhook [default: all].
    failed
        Only those that were not answered with 2xx.
    since
        Started within the last 1h, or at or after a time (RFC 3339).
    until
        Started before that.
    document
        Of one document: COLLECTION/ID.
    status
        Answered with this status.
    q
        With this text in the document's key, the URL, the error or the start of a body.
    limit
        How many, at most.
    follow
        Go on with each one as it is made, until Ctrl-C; with --output json an object a line.
    """
    outcome = "failed" if failed else None
    wanted = {"webhook": name, "outcome": outcome, "since": since, "until": until, "document": document, "status": status, "q": q}
    filters = {field: value for field, value in wanted.items() if value is not None}
    with Client(remote.api, config=remote.config, as_json=remote.is_json) as client:
        if follow:
            _follow(client, filters, remote)
        else:
            _list(client, filters, limit, remote)


def resend(attempt_id: str, /, *, only: bool = False, remote: Remote = REMOTE) -> None:
    """
    Send a delivery again, and after it all later ones of its document, in order.

    Parameters
    ----------
    attempt_id
        Of any attempt for it, as livehook attempts shows it.
    only
        Just the one: the receiver may end on an old value.
    """
    with Client(remote.api, config=remote.config, as_json=remote.is_json) as client:
        answer = client.call("POST", f"/v1/attempts/{quote(attempt_id, safe='')}/resend", {"only": only})
    plural = "delivery is" if answer["deliveries"] == 1 else "deliveries are"
    remote.print(answer, f"{answer['deliveries']} {plural} sent again as {answer['id']}")


def _list(client: Client, filters: Mapping[str, Any], limit: int, remote: Remote) -> None:
    """Pages until there are enough: one may hold few, and not be the last, when little of what was looked through is what is wanted."""
    items: list[dict[str, Any]] = []
    cursor: str | None = ""
    while cursor is not None and len(items) < limit:
        size = min(limit - len(items), PAGE)
        page = client.call("GET", f"/v1/attempts?{urlencode({**filters, 'limit': size, 'cursor': cursor})}")
        items, cursor = items + page["items"], page["nextCursor"]
    remote.print({"items": items, "nextCursor": cursor}, table(COLUMNS, map(_row, items)) if items else None)
    if not items:
        note("no attempts")


def _follow(client: Client, filters: Mapping[str, Any], remote: Remote) -> None:
    cursor = "now"
    while True:
        page = client.call("GET", f"/v1/attempts?{urlencode({**filters, 'limit': PAGE, 'follow': cursor})}")
        for item in page["items"]:
            remote.print(item, "  ".join(map(cell, _row(item))))
        sys.stdout.flush()
        if page["nextCursor"] == cursor:
            time.sleep(FOLLOW_EVERY_S)
        cursor = page["nextCursor"]


def _row(item: Mapping[str, Any]) -> tuple[Any, ...]:
    error = item["error"]
    return (
        item["startedAt"], item["id"], item["webhook"], item["document"], item["match"], item["attempt"], item["outcome"], item["status"],
        round(item["durationMs"]), None if error is None else f"{error['code']}: {error['detail']}",
    )  # fmt: skip
