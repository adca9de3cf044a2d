"""The table of tests/unit/query_cases.yaml, which says what queries mean: spellings that mean the same are one test."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from streams.query import compile_query
from streams.query.interpret import evaluate
from streams.query.steps import Budget
from streams.query.values import truth

CASES_AT_LEAST = 800


def cases() -> Iterator[Any]:
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    for section in yaml.load(Path(__file__).with_name("query_cases.yaml").read_text("utf-8"), loader):  # noqa: S506 - a safe loader
        for case in section["cases"]:
            spellings = case["q"] if isinstance(case["q"], list) else [case["q"]]
            document, args = case.get("d", section["d"]), case.get("args", {})
            yield pytest.param(spellings, document, args, case["is"], id=f"{section['section']}: {spellings[0]}")


CASES = list(cases())


@pytest.mark.parametrize(("spellings", "document", "args", "expected"), CASES)
def test_a_query_has_the_value_the_table_says(
    spellings: list[str], document: dict[str, Any], args: dict[str, Any], expected: bool | None
) -> None:
    """The interpreter and the compiled code both say what the table says; `matches` is whether that is true."""
    for text in spellings:
        query = compile_query(text, args)
        interpreted = truth(evaluate(query.ast, document, Budget()))
        assert (text, expected, expected, expected is True) == (text, interpreted, query.value(document), query.matches(document))


def test_the_table_is_long_enough() -> None:
    """A table that a slip of indentation has emptied is noticed."""
    assert sum(len(case.values[0]) for case in CASES) >= CASES_AT_LEAST
