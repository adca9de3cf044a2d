"""``livehook put`` and ``livehook remove``."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Sequence
from typing import Annotated, Any
from urllib.parse import quote

import msgspec
from cyclopts import Parameter

from livehook.client import Client, ProblemAnswer
from livehook.commands.common import REMOTE, Remote, read_input
from livehook.exits import Wrong
from livehook.progress import Progress
from schemas import strict_json

BATCH_DOCUMENTS = 10_000
BATCH_BYTES = 16 * 1024 * 1024
PLACE = re.compile(r"(?:(?<=[\s\"])|^)\[(\d+)\](?=[. ])", re.MULTILINE)  # of a document: what an error begins with
JSON = "application/json"
NDJSON = "application/x-ndjson"

Value = Annotated[str | None, Parameter(allow_leading_hyphen=True)]


def put(collection: str, data: Value = None, /, *, remote: Remote = REMOTE) -> None:
    """
    Write documents: properties given are put over those there are; a document that is not there is made.

    Parameters
    ----------
    collection
        Where the documents belong.
    data
        A JSON object, an array or NDJSON; @FILE to read it from a file, - from stdin [default: stdin].
    """
    if data is None and sys.stdin.isatty():
        raise Wrong("there is nothing to put: give JSON, @FILE, or - for stdin")
    documents = split_documents(read_input(data or "-"))
    ids: list[Any] = []
    bar = Progress("documents", len(documents), shown=len(documents) > BATCH_DOCUMENTS)
    with Client(remote.api, config=remote.config, as_json=remote.is_json) as client, bar as progress:
        for start, batch in batches(documents):
            ids += _send(client, collection, batch, start)
            progress.advance(len(batch))
    noun = "document" if len(ids) == 1 else "documents"
    remote.print({"accepted": len(ids), "ids": ids}, f"{len(ids)} {noun} accepted in {collection}")


def remove(collection: str, id_: Annotated[str, Parameter(name="ID", allow_leading_hyphen=True)], /, *, remote: Remote = REMOTE) -> None:
    """
    Remove a document.

    Parameters
    ----------
    collection
        Where the document belongs.
    id_
        Its id; an object id as JSON.
    """
    with Client(remote.api, config=remote.config, as_json=remote.is_json) as client:
        answer = client.call("DELETE", f"/v1/collections/{quote(collection, safe='')}/documents/{quote(id_, safe='')}")
    remote.print(answer, f"the removal of {collection}/{id_} is accepted")


def split_documents(data: bytes) -> list[bytes]:
    """
    The documents of an object, an array or NDJSON, each as a line of JSON.

    Raises:  Wrong: it is none of these; the line is named.
    """
    text = data.strip()
    if not text:
        raise Wrong("there is nothing to put: the input is empty")
    try:
        if text.startswith(b"["):
            return [msgspec.json.format(bytes(part), indent=-1) for part in _decode_array(text)]
        lines = [line for line in text.split(b"\n") if line.strip()]
        if _is_json(lines[0]):  # else the first line is the beginning of one document in several lines
            return [_checked(line, number) for number, line in enumerate(lines, start=1)]
        return [msgspec.json.format(text, indent=-1)]
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise Wrong(f"the input is no JSON: {strict_json.reason(error, text)}") from error


_decode_array = msgspec.json.Decoder(list[msgspec.Raw]).decode
_decode_any = msgspec.json.Decoder(msgspec.Raw).decode


def _is_json(line: bytes) -> bool:
    try:
        _decode_any(line)
    except msgspec.MsgspecError:
        return False
    return True


def _checked(line: bytes, number: int) -> bytes:
    try:
        _decode_any(line)
    except msgspec.MsgspecError as error:
        raise Wrong(f"line {number} is no JSON: {strict_json.reason(error, line)}") from error
    return line.strip()


def batches(documents: Sequence[bytes]) -> Iterator[tuple[int, Sequence[bytes]]]:
    """Parts that one request may carry: at most 10,000 documents and 16 MiB; each with the place of its first document."""
    start = size = 0
    for index, document in enumerate(documents):
        if index > start and (index - start == BATCH_DOCUMENTS or size + len(document) + 1 > BATCH_BYTES):
            yield start, documents[start:index]
            start, size = index, 0
        size += len(document) + 1
    yield start, documents[start:]


def _send(client: Client, collection: str, batch: Sequence[bytes], start: int) -> list[Any]:
    try:
        path = f"/v1/collections/{quote(collection, safe='')}/documents"
        # A single document is sent as such: errors then name its fields without a place.
        answer = client.call("POST", path, content=b"\n".join(batch), content_type=JSON if len(batch) == 1 else NDJSON)
    except ProblemAnswer as problem:
        if not start:
            raise
        # The API counts from the beginning of the batch, the user from that of the input.
        message = PLACE.sub(lambda found: f"[{int(found[1]) + start}]", str(problem))
        problem.args = (f"{message}\n{start} documents before that batch were accepted",)
        raise
    return list(answer["ids"])
