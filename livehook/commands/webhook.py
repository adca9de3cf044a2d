"""``livehook webhook``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, Parameter

from livehook.client import Client, ProblemAnswer
from livehook.commands import webhook_files
from livehook.commands.common import REMOTE, Remote, json_object, note, printable, table
from livehook.exits import Failed, Wrong
from schemas.webhook_validation import check_name

webhook = App(name="webhook", help="Make, change and try webhooks.")

Json = Annotated[str | None, Parameter(allow_leading_hyphen=True)]
PAGE = 1_000


def _client(remote: Remote) -> Client:
    return Client(remote.api, config=remote.config, as_json=remote.is_json)


def _path(name: str, action: str = "") -> str:
    try:
        return f"/v1/webhooks/{check_name(name)}{action}"
    except ValueError as error:
        raise Wrong(f"the webhook's name {error}") from error


@webhook.command
def create(
    name: str,
    /,
    *,
    collection: list[str],
    url: str,
    query: Annotated[str | None, Parameter(allow_leading_hyphen=True)] = None,
    start: str | None = None,
    remote: Remote = REMOTE,
) -> None:
    """
    Make a webhook; its signing secret is printed once.

    Parameters
    ----------
    name
        a-z, 0-9 and -.
    collection
        Whose documents it is about; may be given several times, '*' is all.
    url
        Where to deliver.
    query
        Which documents: the old or the new value must match [default: true].
    start
        Where to begin: now, beginning, a time (RFC 3339) or txn:N [default: now].
    """
    wanted = {"collections": collection, "url": url, "query": query, "start": start}
    with _client(remote) as client:
        if _find(client, name) is not None:
            raise Failed(f"the webhook {name} is there already: change it with livehook webhook apply, or delete it first")
        answer = client.call("PUT", _path(name), {field: value for field, value in wanted.items() if value is not None})
    remote.print(answer, f"{name}: {', '.join(answer['collections'])} -> {answer['url']}\n{_secret(answer)}")


@webhook.command
def apply(
    *,
    file: Annotated[Path, Parameter(name=("--file", "-f"), allow_leading_hyphen=True)],
    prune: bool = False,
    dry_run: bool = False,
    remote: Remote = REMOTE,
) -> None:
    """
    Make the webhooks as a file says, and print what changes.

    Parameters
    ----------
    file
        YAML or JSON with one or many webhooks, a folder of such files, or - for stdin; ${NAME} is filled from the environment.
    prune
        Delete the webhooks that are not in it.
    dry_run
        Only print what would change.
    """
    wanted = webhook_files.read(file)
    with _client(remote) as client:
        plans = [_planned(client, name, data) for name, data in wanted.items()]
        gone = [found["name"] for found in _all(client) if found["name"] not in wanted] if prune else []
        plans += [{"name": name, "action": "delete", "changes": []} for name in gone]
        for plan in plans:
            secret = None if dry_run else _carried_out(client, plan, wanted)
            if not remote.is_json:
                print(webhook_files.text_of(plan))
                if secret is not None:
                    print(f"  {secret}")
    if remote.is_json:
        remote.print({"items": plans})


def _planned(client: Client, name: str, data: Mapping[str, Any]) -> dict[str, Any]:
    try:
        plan: dict[str, Any] = client.call("PUT", _path(name, "?dryRun=true"), data)
    except ProblemAnswer as problem:
        problem.args = (f"{name}: {problem}",)
        raise
    return plan


def _carried_out(client: Client, plan: dict[str, Any], wanted: Mapping[str, Mapping[str, Any]]) -> str | None:
    """Do what a plan says; how the secret is told when it is new."""
    name = plan["name"]
    if plan["action"] == "delete":
        client.call("DELETE", _path(name))
    elif plan["action"] != "none":
        answer = client.call("PUT", _path(name), wanted[name])
        if plan["action"] == "create" and wanted[name].get("secret") is None:  # a secret of one's own is not for a log of CI
            plan["secret"] = answer["secret"]
            return _secret(answer)
    return None


@webhook.command
def export(name: str | None = None, /, *, remote: Remote = REMOTE) -> None:
    """
    Print webhooks as apply reads them, with ${…} where a secret stands.

    Parameters
    ----------
    name
        Which one [default: all].
    """
    with _client(remote) as client:
        found = _all(client) if name is None else [client.call("GET", _path(name))]
    webhooks = [webhook_files.exported(one) for one in found]
    if remote.is_json:
        remote.print(webhooks if name is None else webhooks[0])
    else:
        print(webhook_files.to_yaml(webhooks), end="")


@webhook.command(name="list")
def list_(*, remote: Remote = REMOTE) -> None:
    """List the webhooks."""
    with _client(remote) as client:
        found = _all(client)
    rows = [(one["name"], one["state"], _selection(one), one["url"]) for one in found]
    remote.print({"items": found, "nextCursor": None}, table(("NAME", "STATE", "SELECTS", "URL"), rows))


@webhook.command
def show(name: str, /, *, remote: Remote = REMOTE) -> None:
    """Show a webhook."""
    with _client(remote) as client:
        found = client.call("GET", _path(name))
    remote.print(found, None if remote.is_json else webhook_files.to_yaml([found]).rstrip())


@webhook.command(name="test")
def try_(name: str, /, *, doc: Json = None, old: Json = None, remote: Remote = REMOTE) -> None:
    """
    Make one attempt now, outside the lane, and show request and answer; ends with 1 unless it is answered with 2xx.

    Parameters
    ----------
    name
        Which webhook.
    doc
        The document to send, as a JSON object [default: {"_id": "test"}].
    old
        What it was before, as a JSON object.
    """
    body = {field: json_object(f"--{field}", text) for field, text in (("doc", doc), ("old", old)) if text is not None}
    with _client(remote) as client:
        attempt = client.call("POST", _path(name, "/test"), body)
    remote.print(attempt, _attempt_text(attempt))
    if attempt["outcome"] != "delivered":
        raise Failed(f"the test of {name} was not answered with 2xx")


@webhook.command
def pause(name: str, /, *, remote: Remote = REMOTE) -> None:
    """Deliver nothing until it is resumed; what comes is kept."""
    _act(remote, name, "/pause")


@webhook.command
def resume(name: str, /, *, remote: Remote = REMOTE) -> None:
    """Make a paused or disabled webhook active again."""
    _act(remote, name, "/resume")


@webhook.command(name="rotate-secret")
def rotate_secret(
    name: str,
    /,
    *,
    secret: str | None = None,
    overlap_seconds: int | None = None,
    remote: Remote = REMOTE,
) -> None:
    """
    Sign with a new secret, which is printed once; both sign for a while.

    Parameters
    ----------
    name
        Which webhook.
    secret
        One of your own (whsec_…) [default: a new one].
    overlap_seconds
        How long the present secret signs too [default: 86400].
    """
    wanted = {"secret": secret, "overlapSeconds": overlap_seconds}
    with _client(remote) as client:
        body = {field: value for field, value in wanted.items() if value is not None}
        answer = client.call("POST", _path(name, "/rotate-secret"), body)
    remote.print(answer, _secret(answer))


@webhook.command
def delete(name: str, /, *, remote: Remote = REMOTE) -> None:
    """Delete a webhook and what is queued for it."""
    with _client(remote) as client:
        client.call("DELETE", _path(name))
    note(f"{name} is deleted")


def _act(remote: Remote, name: str, action: str) -> None:
    with _client(remote) as client:
        answer = client.call("POST", _path(name, action))
    remote.print(answer, f"{name} is {answer['state']}")


def _find(client: Client, name: str) -> dict[str, Any] | None:
    try:
        found: dict[str, Any] = client.call("GET", _path(name))
    except ProblemAnswer as problem:
        if problem.status == 404:
            return None
        raise
    return found


def _all(client: Client) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = []
    cursor = ""
    while True:
        answer = client.call("GET", f"/v1/webhooks?limit={PAGE}&cursor={cursor}")
        items += answer["items"]
        if (cursor := answer["nextCursor"]) is None:
            return items


def _attempt_text(attempt: Mapping[str, Any]) -> str:
    """The outcome, then what was sent behind ``>`` and what came back behind ``<``."""
    error, request, response = attempt["error"], attempt["request"], attempt["response"]
    outcome = attempt["status"] if error is None else f"{error['code']}: {error['detail']}"
    lines = [f"{attempt['outcome']}  {outcome}  {attempt['durationMs']:.0f} ms", ""]
    lines += _side_lines(">", f"{request['method']} {request['url']}", request)
    if response is not None:
        lines += ["", *_side_lines("<", str(response["status"]), response)]
    return "\n".join(printable(line) for line in lines)


def _side_lines(mark: str, first: str, side: Mapping[str, Any]) -> list[str]:
    lines = [first, *(f"{name}: {value}" for name, value in side["headers"].items())]
    if side["body"]:
        lines += ["", *side["body"].splitlines()]
    if side["bodyTruncated"]:
        lines.append("… (cut here)")
    return [f"{mark} {line}".rstrip() for line in lines]


def _secret(answer: Mapping[str, Any]) -> str:
    text = f"signing secret, shown only now: {answer['secret']}"
    return f"{text}\npublic key, for the receiver: {answer['publicKey']}" if "publicKey" in answer else text


def _selection(found: Mapping[str, Any]) -> str:
    triggers = found.get("triggers") or [found]
    return "; ".join(f"{', '.join(one['collections'])}: {one['query']}" for one in triggers)
