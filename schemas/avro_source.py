"""
Python source, line by line: what avro_writer.py and avro_reader.py make one function a schema of.

A function with the whole record in it spares a call for each field, and those cost more than what is done in them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any


class Source:
    """Lines of one function, indented, and names that nothing else in it has."""

    def __init__(self, head: str) -> None:
        self._lines = [head]
        self._depth = 1
        self._names = 0

    def line(self, text: str) -> None:
        """One more line."""
        self._lines.append("    " * self._depth + text)

    def name(self) -> str:
        """A fresh name."""
        self._names += 1
        return f"v{self._names}"

    def let(self, value: str) -> str:
        """A fresh name that stands for a value from now on."""
        name = self.name()
        self.line(f"{name} = {value}")
        return name

    @contextmanager
    def block(self, head: str) -> Iterator[None]:
        """A line that ends with a colon, and what belongs to it."""
        self.line(head)
        self._depth += 1
        yield
        self._depth -= 1

    def function(self, name: str, known: Mapping[str, Any]) -> Callable[..., Any]:
        """The function of that name, with the names that it knows."""
        made: dict[str, Any] = dict(known)
        exec(compile("\n".join(self._lines), "<avro>", "exec"), made)  # noqa: S102 - of our schemas, whose names go in by repr
        found: Callable[..., Any] = made[name]
        return found
