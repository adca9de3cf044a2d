"""``livehook query``: needs no running Livehook."""

from __future__ import annotations

from typing import Annotated, Any

from cyclopts import App, Parameter

from livehook.commands.common import OUTPUT, Output, json_object
from livehook.exits import Wrong

query = App(name="query", help="Try queries.")


@query.command
def check(
    text: Annotated[str, Parameter(name="QUERY", allow_leading_hyphen=True)],
    /,
    *,
    doc: Annotated[str | None, Parameter(allow_leading_hyphen=True)] = None,
    args: Annotated[str | None, Parameter(allow_leading_hyphen=True)] = None,
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
    output.print(answer, {True: "true", False: "false", None: "null"}[answer["result"]] if document is not None else None)
