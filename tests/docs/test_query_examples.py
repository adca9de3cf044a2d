"""docs/reference/query-language.md says what the query language does: every example in its tables is evaluated."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from streams.query import QueryError, compile_query, explain
from streams.query.functions import FUNCTIONS
from streams.query.tokens import KEYWORDS

PAGE = (Path(__file__).parents[2] / "docs" / "reference" / "query-language.md").read_text("utf-8")
CELL_END = re.compile(r"(?<!\\)\|")


def document() -> dict[str, Any]:
    """The page's own document: its first JSON block."""
    block = re.search(r"```json\n(.*?)```", PAGE, re.DOTALL)
    assert block
    found: dict[str, Any] = json.loads(block[1])
    return found


def rows() -> Iterator[list[str]]:
    """The cells of every table that ends in the columns example and value."""
    header: list[str] = []
    for line in PAGE.split("\n"):
        if not line.startswith("|"):
            header = []
            continue
        cells = [cell.strip().replace("\\|", "|") for cell in CELL_END.split(line.strip("|"))]
        header = header or cells
        if header[-2:] == ["example", "value"] and cells != header and not set(cells[0]) <= {"-"}:
            yield cells


def code(cell: str) -> str:
    """The text between the backticks of a cell."""
    return cell.strip("`").strip()


ROWS = list(rows())


@pytest.mark.parametrize(("example", "value"), [pytest.param(code(row[-2]), json.loads(code(row[-1])), id=code(row[-2])) for row in ROWS])
def test_an_example_has_the_value_beside_it(example: str, value: Any) -> None:
    """On the document at the top of the page; `explain` gives values of every type."""
    found = explain(compile_query(example), document())
    assert json.dumps(value) == json.dumps(found.value)
    assert not found.missing


def test_every_function_is_on_the_page() -> None:
    """With its signature, its other names, its meaning and its example, as functions.py has them."""
    on_page = {code(row[-2]): row for row in ROWS}
    for function in FUNCTIONS.values():
        example, value = function.example
        names = f" ({', '.join(f'`{name}`' for name in function.names)})" if function.names else ""
        assert [f"`{function.signature}`{names}", function.meaning] == on_page[example][:2]
        assert value == json.loads(code(on_page[example][-1]))


def test_every_word_of_the_language_is_on_the_page() -> None:
    """The list of words that are no names at the start of a path is complete."""
    listed = re.search(r"`(true false null [a-z ]+)`", PAGE)
    assert listed
    assert sorted(KEYWORDS) == sorted(listed[1].upper().split())
    for word in KEYWORDS:
        with pytest.raises(QueryError):
            compile_query(f"{word} == 1 == 2")


def test_the_error_on_the_page_is_the_one_that_is_shown() -> None:
    """The block under "Errors" is what `pretty` gives."""
    with pytest.raises(QueryError) as caught:
        compile_query("a == 1\n&& b ==&& c")
    assert f"```text\n{caught.value.pretty()}\n```" in PAGE
