"""What a user reads when a query cannot be used: the line, a caret, and what was expected there."""

from __future__ import annotations

from typing import Final

_SHOWN_BEFORE: Final = 80
_SHOWN_AFTER: Final = 40


class QueryError(ValueError):
    """
    A query that cannot be compiled.

    Attributes:  message: one line, without the place. line, column: from 1, in characters. expected: what could have
                 stood there, or None where that does not help. text: the query.
    """

    def __init__(self, message: str, *, text: str, offset: int, expected: list[str] | None = None) -> None:
        line_start = text.rfind("\n", 0, offset) + 1
        self.message = message
        self.text = text
        self.expected = expected
        self.line = text.count("\n", 0, offset) + 1
        self.column = offset - line_start + 1
        super().__init__(f"line {self.line}, column {self.column}: {message}")

    def pretty(self) -> str:
        """The message, the line it is about with a caret under the place, and what was expected."""
        before, place, after = self._line_around()
        # A tab stays a tab under a tab, so that the caret stands right whatever width the terminal gives it.
        indent = "".join("\t" if char == "\t" else " " for char in before)
        lines = [str(self), f"  {before}{place}{after}".rstrip(), f"  {indent}^"]
        if self.expected:
            lines.append("expected: " + ", ".join(self.expected))
        return "\n".join(lines)

    def _line_around(self) -> tuple[str, str, str]:
        """The line in three parts: before the caret, under it, after it; a long line is cut on both sides."""
        line = self.text.split("\n")[self.line - 1].rstrip("\r")
        at = self.column - 1
        before, place, after = line[:at], line[at : at + 1], line[at + 1 :]
        if len(before) > _SHOWN_BEFORE:
            before = "…" + before[-_SHOWN_BEFORE:]
        if len(after) > _SHOWN_AFTER:
            after = after[:_SHOWN_AFTER] + "…"
        return before, place, after


class Refused(Exception):
    """A reason to refuse a query, raised where only the offset (in characters) is known and not the whole text."""

    def __init__(self, message: str, offset: int, expected: list[str] | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.offset = max(offset, 0)
        self.expected = expected
