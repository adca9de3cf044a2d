"""
A Mustache template as a tree: what a webhook's body and URL may be written in. Read at registration and by connectors/webhook/template.py.

The syntax is read by chevron-ng's tokenizer; its renderer is not used, since it escapes for HTML alone and shows values as Python writes
them. A template stands alone: there are no partials, parents, blocks or functions, so nothing can be read from anywhere. Pure.
Source: the Mustache specification 1.4 (comments, delimiters, interpolation, inverted, sections).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeAlias

import msgspec
from chevron.tokenizer import ChevronError, tokenize

CHARS_MAX = 65_536
TAGS_MAX = 1_000
LEVELS_MAX = 32

Path = tuple[str, ...]
"""A dotted name; empty: the value that the section stands for, ``{{.}}``."""


class BadTemplate(ValueError):
    """It is no template that could be used; the message says why."""


class Variable(msgspec.Struct, frozen=True):
    """``{{path}}``, or with ``is_raw`` ``{{{path}}}`` and ``{{&path}}``."""

    path: Path
    is_raw: bool


class Section(msgspec.Struct, frozen=True):
    """``{{#path}}…{{/path}}``, or with ``is_inverted`` ``{{^path}}…{{/path}}``."""

    path: Path
    is_inverted: bool
    nodes: tuple[Node, ...]


Node: TypeAlias = str | Variable | Section


def parse(text: str) -> tuple[Node, ...]:
    """
    The tree of a template.

    Raises:  BadTemplate: wrong syntax, partials and the like, more than 65,536 characters, 1,000 tags or 32 levels.
    """
    if len(text) > CHARS_MAX:
        raise BadTemplate(f"has {len(text):,} characters, at most {CHARS_MAX:,} are possible")
    tokens = _tokens(text)
    if sum(kind != "literal" for kind, _ in tokens) > TAGS_MAX:
        raise BadTemplate(f"has more than {TAGS_MAX:,} tags")
    return tuple(_nodes(iter(tokens), LEVELS_MAX))


def literals(nodes: Iterable[Node]) -> Iterator[str]:
    """The text between the tags, at every depth."""
    for node in nodes:
        if isinstance(node, str):
            yield node
        elif isinstance(node, Section):
            yield from literals(node.nodes)


def variables(nodes: Iterable[Node]) -> Iterator[Variable]:
    """The tags that write a value, at every depth."""
    for node in nodes:
        if isinstance(node, Variable):
            yield node
        elif isinstance(node, Section):
            yield from variables(node.nodes)


def paths(nodes: Iterable[Node]) -> Iterator[Path]:
    """Every name that is used, at every depth."""
    for node in nodes:
        if isinstance(node, str):
            continue
        yield node.path
        if isinstance(node, Section):
            yield from paths(node.nodes)


def _tokens(text: str) -> list[tuple[str, str]]:
    try:
        tokens: list[tuple[str, str, str]] = list(tokenize(text, include_raw=True))
    except ChevronError as error:
        raise BadTemplate(f"cannot be read: {' '.join(str(error).split())}") from error
    except IndexError as error:  # how the tokenizer says so
        raise BadTemplate("has a tag with nothing in it") from error
    if sum(len(source) for _, _, source in tokens) != len(text):  # it drops a last, open {{
        raise BadTemplate("ends with a tag that is not closed")
    return [(kind, name) for kind, name, source in tokens if kind != "comment" and (kind != "literal" or name)]


def _nodes(tokens: Iterator[tuple[str, str]], levels: int) -> Iterator[Node]:
    """The nodes up to the end of the section; that each section has its end is known already."""
    if levels < 0:
        raise BadTemplate(f"has sections nested deeper than {LEVELS_MAX}")
    for kind, text in tokens:
        match kind:
            case "literal":
                yield text
            case "variable" | "no escape":
                yield Variable(_path(text), kind == "no escape")
            case "section" | "inverted section":
                yield Section(_path(text), kind == "inverted section", tuple(_nodes(tokens, levels - 1)))
            case "set delimiter":
                _check_delimiters(text)
            case "end":
                return
            case "no escape?":
                raise BadTemplate(f"has {{{{{{{text}, which does not end with }}}}}}")
            case _:
                raise BadTemplate(f"has a {kind}, {text!r}: a template stands alone, without partials, parents and blocks")


def _path(text: str) -> Path:
    if text == ".":
        return ()
    names = tuple(text.split("."))
    if not all(names) or any(name != name.strip() for name in names):
        raise BadTemplate(f"has the name {text!r}: a dot has a name on both sides")
    return names


def _check_delimiters(text: str) -> None:
    if len(text.split()) != 2 or "=" in text:
        raise BadTemplate(f"sets the delimiters {text!r}, must be two, without =")
