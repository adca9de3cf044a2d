"""``livehook replay``."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Mapping
from typing import Annotated, Any
from urllib.parse import quote

from cyclopts import Parameter

from livehook.client import Client
from livehook.commands.common import REMOTE, Remote, note
from livehook.exits import Failed, Wrong
from schemas.durations import BadDuration, seconds
from schemas.times import rfc3339

ASK_EVERY_S = 0.5
OFFSET = re.compile(r"(?:\d+:)?\d+", re.ASCII)


def replay(
    name: str | None = None,
    /,
    *,
    from_: Annotated[str | None, Parameter(name="--from")] = None,
    until: str | None = None,
    query: Annotated[str | None, Parameter(allow_leading_hyphen=True)] = None,
    id: Annotated[list[str] | None, Parameter(name="--id")] = None,  # noqa: A002 - the flag's name
    failed: bool = False,
    dry_run: bool = False,
    yes: bool = False,
    cancel: str | None = None,
    remote: Remote = REMOTE,
) -> None:
    """
    Send deliveries of a webhook again.

    With nothing but --from the lane goes back there and delivers everything from there on. Counts first, asks on a terminal, and shows how
    far it is until it is done; Ctrl-C ends only the showing.

    Parameters
    ----------
    name
        The webhook.
    from_
        The first one: beginning, an offset, a time (RFC 3339, or how long ago: 1h), or txn:N.
    until
        Only those before: an offset, a time, or txn:N.
    query
        Only those whose old or new document matches.
    id
        Only those of this document; may be given several times.
    failed
        Only those that were not answered with 2xx so far.
    dry_run
        Only count.
    yes
        Do not ask.
    cancel
        End this replay before it is done.
    """
    with Client(remote.api, config=remote.config, as_json=remote.is_json) as client:
        if cancel is not None:
            _cancel(client, cancel, remote)
            return
        if name is None or from_ is None:
            raise Wrong("say which webhook and from where: livehook replay NAME --from beginning|OFFSET|TIME|txn:N")
        selection = {"until": until and place_of("--until", until), "query": query, "ids": id, "failed": failed or None}
        asked = {"from": place_of("--from", from_)} | {field: value for field, value in selection.items() if value}
        _replay(client, name, asked, remote, dry_run=dry_run, yes=yes)


def place_of(flag: str, text: str) -> dict[str, Any]:
    """
    A place in a lane as the API takes it.

    Raises:  Wrong: it is a txn: without a number, or nothing of the kind. What a time must look like is said by the API.
    """
    if text == "beginning":
        return {"beginning": True}
    if OFFSET.fullmatch(text):
        return {"offset": int(text) if text.isdecimal() else text}
    if text.startswith("txn:"):
        number = text.removeprefix("txn:")
        if not number.isdecimal():
            raise Wrong(f"{flag} is {text!r}, must be txn: and a number, such as txn:1790000000000001")
        return {"txnId": int(number)}
    try:
        return {"time": rfc3339(time.time_ns() // 1_000 - int(seconds(text) * 1_000_000))}
    except BadDuration as error:
        if not text[:1].isdigit():
            first = "beginning, " if flag == "--from" else ""
            raise Wrong(f"{flag} is {text!r}, must be {first}an offset, a time (RFC 3339, or how long ago: 1h) or txn:N") from error
        return {"time": text}


def _replay(client: Client, name: str, asked: Mapping[str, Any], remote: Remote, *, dry_run: bool, yes: bool) -> None:
    path = f"/v1/webhooks/{quote(name, safe='')}/replay"
    counted = client.call("POST", path, {**asked, "dryRun": True})
    what = f"{_deliveries(counted['deliveries'])} of {name}, from {_place(counted['from'])} until {_place(counted['until'])}"
    if dry_run or not counted["deliveries"]:
        remote.print(counted, what)
        return
    _agreed(what, yes=yes)
    answer = client.call("POST", path, asked)
    remote.print(answer, f"{what}: sent again as {answer['id']}")
    if answer["id"] is not None and sys.stderr.isatty():
        _show(client, answer["id"])


def _agreed(what: str, *, yes: bool) -> None:
    """Raises Wrong: nobody can be asked. Failed: the answer is no."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise Wrong(f"{what}: give --yes to send them again, since there is no terminal to ask on")
    print(f"Send {what}, again? [y/N] ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise Failed("nothing was sent")


def _show(client: Client, id_: str) -> None:
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True)) as bar:
        task = bar.add_task(id_, total=None)
        while True:
            found = client.call("GET", f"/v1/replays/{quote(id_, safe='')}")
            bar.update(task, total=found["deliveries"], completed=found["delivered"])
            if found["state"] != "running":
                break
            time.sleep(ASK_EVERY_S)
    note(f"{found['state']}: {found['delivered']} of {found['deliveries']} delivered")


def _cancel(client: Client, id_: str, remote: Remote) -> None:
    found = client.call("DELETE", f"/v1/replays/{quote(id_, safe='')}")
    remote.print(found, f"{found['id']} is {found['state']}: {found['delivered']} of {found['deliveries']} were delivered")


def _deliveries(count: int) -> str:
    return "1 delivery" if count == 1 else f"{count:,} deliveries"


def _place(place: Mapping[str, Any]) -> str:
    if "offset" in place:
        return f"offset {place['offset']}"
    if "txnId" in place:
        return f"txnId {place['txnId']}"
    return "offsets " + ", ".join(f"{partition}:{offset}" for partition, offset in place["offsets"].items())
