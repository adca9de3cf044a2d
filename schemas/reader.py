"""
Reads what a user wrote, field by field, and notes everything that is wrong instead of stopping at the first.

Each method answers the field's value, or its default when the field is absent, null or wrong; the errors tell a default from a wrong value.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from schemas.errors import FieldError

SHOWN_CHARS_MAX = 60


def shown(value: Any) -> str:
    """A value as it may stand in a message: short, and in JSON's words, for that is what was written; a string stands in single quotes."""
    text = repr(value) if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= SHOWN_CHARS_MAX else f"{text[: SHOWN_CHARS_MAX - 3]}..."


class Reader:
    """
    One object of a user's input.

    Args:  data: what was written; anything but an object is an error. path: of this object, empty at the top.
           errors: the list that every reader of one input shares.
    """

    def __init__(self, data: Any, path: str, errors: list[FieldError]) -> None:
        self.path = path
        self.errors = errors
        self._asked: set[str] = set()
        if not isinstance(data, Mapping):
            errors.append(FieldError(path, f"is {shown(data)}, must be an object"))
            data = {}
        self._data: Mapping[str, Any] = data

    def __contains__(self, name: str) -> bool:
        """Whether the field was given: absent and null are the same."""
        return self._data.get(name) is not None

    def __iter__(self) -> Iterator[str]:
        """The names of the fields that were given."""
        return iter(self._data)

    def refuse(self, name: str, message: str) -> None:
        """Note that a field is wrong; the message goes on after its path."""
        self.errors.append(FieldError(self.path_of(name), message))

    def path_of(self, name: str) -> str:
        """The path of a field of this object, from the top."""
        return f"{self.path}.{name}" if self.path else name

    def raw(self, name: str) -> Any:
        """The value as it was written; None when it is absent or null."""
        self._asked.add(name)
        return self._data.get(name)

    def checked(self, name: str, check: Callable[[Any], Any], default: Any = None) -> Any:
        """The value that ``check`` makes of it; a ValueError that it raises is the message."""
        value = self.raw(name)
        if value is None:
            return default
        try:
            return check(value)
        except ValueError as error:
            self.refuse(name, str(error))
            return default

    def text(self, name: str, default: str = "") -> str:
        """A string."""
        return str(self.checked(name, as_text, default))

    def choice(self, name: str, allowed: Sequence[str], default: str, later: Sequence[str] = ()) -> str:
        """One of ``allowed``; those in ``later`` are known, and not available yet."""

        def check(value: Any) -> str:
            if isinstance(value, str) and value in later:
                raise ValueError(not_available(repr(value)))
            if not isinstance(value, str) or value not in allowed:
                raise ValueError(f"is {shown(value)}, must be {one_of(allowed)}")
            return value

        return str(self.checked(name, check, default))

    def whole(self, name: str, default: int, low: int, high: int) -> int:
        """A whole number from ``low`` to ``high``."""

        def check(value: Any) -> int:
            if isinstance(value, bool) or not isinstance(value, int):
                raise ValueError(f"is {shown(value)}, must be a whole number from {low} to {high}")
            if not low <= value <= high:
                raise ValueError(f"is {shown(value)}, must be {low} to {high}")
            return value

        return int(self.checked(name, check, default))

    def number(self, name: str, default: float | None, low: float, high: float) -> float | None:
        """A number from ``low`` to ``high``."""

        def check(value: Any) -> float:
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise ValueError(f"is {shown(value)}, must be a number from {low:,.10g} to {high:,.10g}")
            if not low <= value <= high:
                raise ValueError(f"is {shown(value)}, must be {low:,.10g} to {high:,.10g}")
            return value

        found: float | None = self.checked(name, check, default)
        return found

    def truth(self, name: str) -> bool:
        """True or false, which is the default."""

        def check(value: Any) -> bool:
            if not isinstance(value, bool):
                raise ValueError(f"is {shown(value)}, must be true or false")
            return value

        return bool(self.checked(name, check))

    def texts(self, name: str) -> list[str]:
        """A list of strings, of which the wrong ones are left out."""
        return [str(text) for text in self.each(name, as_text)]

    def each(self, name: str, check: Callable[[Any], Any], length_max: int = 10_000) -> list[Any]:
        """A list, each element through ``check``; the wrong ones are named by their place and left out."""
        values = self.raw(name)
        if values is None:
            return []
        if not isinstance(values, list | tuple):
            self.refuse(name, f"is {shown(values)}, must be a list")
            return []
        if len(values) > length_max:
            self.refuse(name, f"has {len(values):,} elements, at most {length_max:,} are possible")
            return []
        found = []
        for index, value in enumerate(values):
            try:
                found.append(check(value))
            except ValueError as error:  # every wrong element is named, not the first alone
                self.refuse(f"{name}[{index}]", str(error))
        return found

    def inner(self, name: str) -> Reader:
        """The object in a field; an empty one when it is absent."""
        value = self.raw(name)
        return Reader({} if value is None else value, self.path_of(name), self.errors)

    def object(self, name: str) -> dict[str, Any]:
        """An object whose fields are the user's own."""

        def check(value: Any) -> dict[str, Any]:
            if not isinstance(value, dict):
                raise ValueError(f"is {shown(value)}, must be an object")
            return value

        return dict(self.checked(name, check, {}))

    def end(self) -> None:
        """Refuse the fields that nobody asked for."""
        for name in self._data:
            if name not in self._asked:
                near = get_close_matches(str(name), self._asked, n=1)
                self.refuse(str(name), f"is no field here{f'; did you mean {near[0]}?' if near else ''}")


def as_text(value: Any) -> str:
    """
    The value, when it is a string.

    Raises:  ValueError.
    """
    if not isinstance(value, str):
        raise ValueError(f"is {shown(value)}, must be a string")
    return value


def not_available(what: str) -> str:
    """How everything is refused that the reference describes and this version does not do yet."""
    return f"is not available in this version: {what}"


def one_of(names: Sequence[str]) -> str:
    """``a, b or c``."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} or {names[-1]}"
