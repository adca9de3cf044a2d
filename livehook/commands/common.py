"""What the commands share: flags, output, JSON arguments."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from cyclopts import Parameter

from livehook.exits import Wrong
from schemas import strict_json

INPUT_BYTES_MAX = 1024 * 1024 * 1024
CELL_CHARS_MAX = 60


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Output:
    """How to print."""

    output: Literal["text", "json"] = "text"
    """text for people, json for programs."""

    @property
    def is_json(self) -> bool:
        """Whether programs read it."""
        return self.output == "json"

    def print(self, value: Any, text: str | None = None) -> None:
        """The value as one line of JSON, or the text."""
        if self.is_json:
            print(msgspec.json.encode(value).decode())
        elif text:
            print(text)


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Remote(Output):
    """How to print, and where the API is."""

    api: Annotated[str | None, Parameter(env_var="LIVEHOOK_API")] = None
    """Address of the API; else that of ./.livehook/ready.json, else http://127.0.0.1:8080."""
    config: Path | None = None
    """Settings file, for the API's token [default: ./livehook.toml]."""


OUTPUT = Output()
REMOTE = Remote()


def note(text: str) -> None:
    """Say something that is not data."""
    print(text, file=sys.stderr)


def json_object(name: str, text: str) -> dict[str, Any]:
    """
    An argument that is a JSON object.

    Raises:  Wrong.
    """
    try:
        value = strict_json.decode(text.encode(errors="surrogateescape"))
    except strict_json.NotStrict as error:
        raise Wrong(f"{name} is no JSON: {error}") from error
    if not isinstance(value, dict):
        raise Wrong(f"{name} must be a JSON object")
    return value


def read_input(text: str) -> bytes:
    """
    The bytes that an argument stands for: itself, the file after ``@``, or stdin for ``-``.

    Raises:  Wrong: it cannot be read, or is larger than 1 GiB.
    """
    if text == "-":
        data = sys.stdin.buffer.read(INPUT_BYTES_MAX + 1)
    elif text.startswith("@"):
        try:
            with Path(text[1:]).open("rb") as file:
                data = file.read(INPUT_BYTES_MAX + 1)
        except OSError as error:
            raise Wrong(f"{text[1:]} cannot be read: {error.strerror}") from error
    else:
        data = text.encode(errors="surrogateescape")
    if len(data) > INPUT_BYTES_MAX:
        raise Wrong("the input is larger than 1 GiB: give it in parts")
    return data


def table(headings: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Rows in columns as wide as they need to be; the last one is not padded."""
    lines = [list(headings), *([cell(value) for value in row] for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(headings))]
    return "\n".join("  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip() for line in lines)


def printable(text: str) -> str:
    """A text on one line, without terminal codes out of somebody's data."""
    return "".join(char if char.isprintable() else "?" for char in text.expandtabs())


def cell(value: Any) -> str:
    """A value on one line, short."""
    text = "-" if value is None else printable(" ".join(str(value).split()))
    return text if len(text) <= CELL_CHARS_MAX else f"{text[: CELL_CHARS_MAX - 1]}…"
