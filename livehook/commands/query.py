"""``livehook query``: ``check`` and ``explain`` need no running Livehook."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

from cyclopts import App, Parameter

from livehook.commands.common import OUTPUT, REMOTE, Output, Remote, json_object, printable
from livehook.exits import Wrong

query = App(name="query", help="Try queries.")

Text = Annotated[str, Parameter(name="QUERY", allow_leading_hyphen=True)]
Json = Annotated[str | None, Parameter(allow_leading_hyphen=True)]
SLICES = 12  # of a dry run: each is a call that takes a bounded time
SLICE_US_MIN = 60_000_000
EXAMPLES_MAX = 10
_WORDS = {True: "true", False: "false", None: "null"}


@query.command
def check(
    text: Text,
    /,
    *,
    doc: Json = None,
    args: Json = None,
    output: Output = OUTPUT,
) -> None:
    """
    Say whether a query can be read and, with a document, whether it matches: true, false or null.

    Parameters
    ----------
    text
        The query.
    doc
        A document, as a JSON object.
    args
        What $args.name or :name stand for, as a JSON object.
    """
    from streams.query import QueryError, compile_query

    document = None if doc is None else json_object("--doc", doc)
    given = {} if args is None else json_object("--args", args)
    try:
        compiled = compile_query(text, given)
    except QueryError as error:
        raise Wrong(error.pretty()) from error
    answer: dict[str, Any] = {"valid": True}
    if document is not None:
        answer["result"] = compiled.value(document)
    output.print(answer, _WORDS[answer["result"]] if document is not None else None)


@query.command
def explain(
    text: Text,
    /,
    *,
    doc: Annotated[str, Parameter(allow_leading_hyphen=True)],
    old: Json = None,
    args: Json = None,
    output: Output = OUTPUT,
) -> None:
    """
    Show the value of every part of a query for a document, the event that it makes, and whether the index finds the query.

    Parameters
    ----------
    text
        The query.
    doc
        The document, as a JSON object.
    old
        The document before, for a change from it; without it the document is new.
    args
        What $args.name or :name stand for, as a JSON object.
    """
    from livehook.explaining import explained
    from streams.query import QueryError

    document = json_object("--doc", doc)
    before = None if old is None else json_object("--old", old)
    try:
        answer = explained(text, {} if args is None else json_object("--args", args), document, before)
    except QueryError as error:
        raise Wrong(error.pretty()) from error
    output.print(answer, "\n".join([*_tree_lines(answer["tree"]), "", *_summary(answer)]))


def _tree_lines(part: Mapping[str, Any], level: int = 0) -> Iterator[str]:
    """The text of each part, further in than what it is a part of, and its value."""
    from schemas.strict_json import encode

    yield f"{'  ' * level}{printable(part['text'])}  ->  {printable(encode(part['value']).decode())}"
    for child in part["children"]:
        yield from _tree_lines(child, level + 1)


def _summary(answer: Mapping[str, Any]) -> Iterator[str]:
    index = answer["index"]
    yield f"result  {_WORDS[answer['result']]}"
    yield f"event   {answer['event'] or 'none'}"
    if not index["found"]:
        yield "index   not found: nothing that the query needs is in the document"
    else:
        yield (
            f"index   found by {printable(index['by'])}"
            if index["by"]
            else "index   asked of every change: nothing in the query can be looked up"
        )


@query.command
def dry_run(text: Text, /, *, collection: str, since: str = "24h", args: Json = None, remote: Remote = REMOTE) -> None:
    """
    Show what a query would have matched in the changes that are kept: counts by event, and the first examples.

    Parameters
    ----------
    text
        The query.
    collection
        Whose changes are looked at.
    since
        From when on: a duration before now, or a time (RFC 3339).
    args
        What $args.name or :name stand for, as a JSON object.
    """
    from livehook.client import Client
    from livehook.progress import Progress
    from schemas.times import rfc3339

    given = {} if args is None else json_object("--args", args)
    slices = _slices(since, time.time_ns() // 1_000)
    scanned, matches, examples = 0, Counter[str](), list[Any]()
    with Client(remote.api, config=remote.config, as_json=remote.is_json) as client, Progress("history", len(slices)) as progress:
        for since_us, until_us in slices:
            body = {"query": text, "collection": collection, "args": given, "since": rfc3339(since_us)}
            answer = client.call("POST", "/v1/query/dry-run", body if until_us is None else body | {"until": rfc3339(until_us)})
            scanned += answer["scanned"]
            matches.update(answer["matches"])
            examples += answer["examples"][: EXAMPLES_MAX - len(examples)]
            progress.advance(1)
    found = {"scanned": scanned, "matches": dict(matches), "examples": examples}
    remote.print(found, "\n".join(_found_lines(found)))


def _slices(since: str, now_us: int) -> list[tuple[int, int | None]]:
    """
    The time from ``since`` on in parts, µs since 1970; the last one has no end.

    Raises:  Wrong: ``since`` is no time.
    """
    from schemas.times import moment_us

    try:
        since_us = moment_us(since, now_us)
    except ValueError as error:
        raise Wrong(f"--since {error}") from error
    step_us = max((now_us - since_us) // SLICES + 1, SLICE_US_MIN)
    starts = list(range(since_us, max(now_us, since_us + 1), step_us))
    return list(zip(starts, [*starts[1:], None], strict=True))


def _found_lines(found: Mapping[str, Any]) -> Iterator[str]:
    from schemas.strict_json import encode

    yield f"{found['scanned']:,} changes looked at"
    for event, count in found["matches"].items():
        yield f"{event:<8}{count:>12,}"
    if found["examples"]:
        yield "the first of them:"
    for example in found["examples"]:
        yield printable(encode(example).decode())
