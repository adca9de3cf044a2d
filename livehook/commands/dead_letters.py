"""``livehook dead-letters``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote, urlencode

import yaml
from cyclopts import App

from livehook.client import Client, ProblemAnswer
from livehook.commands.common import REMOTE, Remote, note, table
from livehook.exits import Failed, Wrong

dead_letters = App(name="dead-letters", help="See, redrive and discard what could not be applied or delivered.")

PAGE = 1_000
COLUMNS = ("ID", "AT", "REASON", "WEBHOOK", "KEY", "DETAIL")


@dead_letters.command(name="list")
def list_(
    *, reason: str | None = None, webhook: str | None = None, since: str | None = None, limit: int = 50, remote: Remote = REMOTE
) -> None:
    """
    List dead letters, newest first.

    Parameters
    ----------
    reason
        Only those with this reason.
    webhook
        Only deliveries of this webhook.
    since
        Written within the last 1h, or at or after a time (RFC 3339).
    limit
        How many, at most.
    """
    with _client(remote) as client:
        items = []
        for item in _selected(client, _filters(reason, webhook, since)):
            items.append(item)
            if len(items) >= limit:
                break
    rows = [(item["id"], item["at"], item["reason"], item["webhook"], item["key"], item["detail"]) for item in items]
    remote.print({"items": items, "nextCursor": None}, table(COLUMNS, rows) if rows else None)
    if not items:
        note("no dead letters")


@dead_letters.command
def show(id_: str, /, *, remote: Remote = REMOTE) -> None:
    """Show one, with its value."""
    with _client(remote) as client:
        found = client.call("GET", _path(id_))
    remote.print(found, None if remote.is_json else yaml.safe_dump(found, sort_keys=False, allow_unicode=True).rstrip())


@dead_letters.command
def redrive(*ids: str, reason: str | None = None, webhook: str | None = None, remote: Remote = REMOTE) -> None:
    """
    Send dead letters on their way again: mutations to mutations, deliveries to their lane, with all later ones of their document.

    Parameters
    ----------
    ids
        Which ones.
    reason
        All with this reason.
    webhook
        All deliveries of this webhook.
    """
    filters = _filters(reason, webhook, None)
    _check_choice(ids, filters)
    done: list[str] = []
    left: list[dict[str, str]] = []
    with _client(remote) as client:
        cursor: str | None = "" if filters else None
        while cursor is not None:
            answer = client.call("POST", "/v1/dead-letters/redrive", {**filters, "cursor": cursor})
            done, left, cursor = done + answer["redriven"], left + answer["left"], answer["nextCursor"]
        for id_ in ids:
            try:
                done += client.call("POST", _path(id_, "/redrive"))["redriven"]
            except ProblemAnswer as problem:
                if problem.status not in (404, 409):
                    raise
                left.append({"id": id_, "detail": problem.detail})
    _tell(remote, "redriven", done, left)


@dead_letters.command
def discard(*ids: str, reason: str | None = None, webhook: str | None = None, remote: Remote = REMOTE) -> None:
    """
    Take dead letters out of the list, for good.

    Parameters
    ----------
    ids
        Which ones.
    reason
        All with this reason.
    webhook
        All deliveries of this webhook.
    """
    filters = _filters(reason, webhook, None)
    _check_choice(ids, filters)
    done: list[str] = []
    left: list[dict[str, str]] = []
    with _client(remote) as client:
        for id_ in [*ids, *([item["id"] for item in _selected(client, filters)] if filters else [])]:
            try:
                client.call("DELETE", _path(id_))
                done.append(id_)
            except ProblemAnswer as problem:
                if problem.status != 404:
                    raise
                left.append({"id": id_, "detail": problem.detail})
    _tell(remote, "discarded", done, left)


def _client(remote: Remote) -> Client:
    return Client(remote.api, config=remote.config, as_json=remote.is_json)


def _path(id_: str, action: str = "") -> str:
    return f"/v1/dead-letters/{quote(id_, safe='')}{action}"


def _filters(reason: str | None, webhook: str | None, since: str | None) -> dict[str, str]:
    return {name: value for name, value in (("reason", reason), ("webhook", webhook), ("since", since)) if value is not None}


def _check_choice(ids: tuple[str, ...], filters: Mapping[str, str]) -> None:
    if bool(ids) == bool(filters):
        raise Wrong("give the IDs of dead letters, or --reason or --webhook for all of a kind")


def _selected(client: Client, filters: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    cursor: str | None = ""
    while cursor is not None:
        page = client.call("GET", f"/v1/dead-letters?{urlencode({**filters, 'limit': PAGE, 'cursor': cursor})}")
        yield from page["items"]
        cursor = page["nextCursor"]


def _tell(remote: Remote, verb: str, done: list[str], left: list[dict[str, str]]) -> None:
    """What was done; ends with 1 when something was not."""
    remote.print({verb: done, "left": left}, "\n".join(f"{id_} {verb}" for id_ in done))
    if not done and not left:
        note("no dead letters")
    if left:
        raise Failed("\n".join(one["detail"] for one in left))
