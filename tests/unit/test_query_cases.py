"""The table of tests/unit/query_cases.yaml, which says what queries mean: each spelling of each case is one test."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from streams.query import compile_query
from streams.query.interpret import evaluate
from streams.query.steps import Budget
from streams.query.values import truth

CASES_AT_LEAST = 300


def cases() -> Iterator[Any]:
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    for section in yaml.load(Path(__file__).with_name("query_cases.yaml").read_text("utf-8"), loader):  # noqa: S506 - a safe loader
        for case in section["cases"]:
            spellings = case["q"] if isinstance(case["q"], list) else [case["q"]]
            document, args = case.get("d", section["d"]), case.get("args", {})
            for query in spellings:
                yield pytest.param(query, document, args, case["is"], id=f"{section['section']}: {query}")


CASES = list(cases())


@pytest.mark.parametrize(("text", "document", "args", "expected"), CASES)
def test_a_query_has_the_value_the_table_says(text: str, document: dict[str, Any], args: dict[str, Any], expected: bool | None) -> None:
    """The interpreter and the compiled code both say what the table says; `matches` is whether that is true."""
    query = compile_query(text, args)
    assert expected is truth(evaluate(query.ast, document, Budget()))
    assert expected is query.value(document)
    assert (expected is True) is query.matches(document)


def test_the_table_is_long_enough() -> None:
    """A table that a slip of indentation has emptied is noticed."""
    assert len(CASES) >= CASES_AT_LEAST
