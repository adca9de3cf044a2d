"""
Parser, compiler, evaluation and index against hostile texts: nothing but the declared error, in bounded time and memory.

tests/fuzz/queries.jsonl keeps what was hard once, a JSON string a line. What a longer run finds (LIVEHOOK_TEST_EXAMPLES=100000) is added.
"""

from __future__ import annotations

import json
import time
import tracemalloc
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from streams.query import QueryError, compile_query, explain
from streams.standing.conditions import condition_of
from streams.standing.predicates import value_at

CORPUS: Final[list[str]] = [
    json.loads(line) for line in (Path(__file__).parents[1] / "fuzz" / "queries.jsonl").read_text("utf-8").splitlines()
]
SECONDS_MAX: Final = 5.0  # of CPU: limits.STEPS_MAX and PATTERN_WORK_MAX allow a second each on a good day
BYTES_MAX: Final = 128 * 1024 * 1024
ARGS: Final = {"x": [1, "a", None]}
NESTED: Final[Any] = [[[{"b": [{"c": [{"d": 1}]}], "x": 1, "y": True}] * 10] * 10] * 10
DOCUMENTS: Final[list[dict[str, Any]]] = [
    {},
    {"a": "a" * 100_000, "b": "(a*)*b", "c": "i"},
    {"a": NESTED, "b": {"a": NESTED}},
    {"a": 10**300, "b": -1.5, "c": [1, None, "x"], "age": 31, "name": "Frank"},
]


def survive(text: str) -> None:
    """All that may be done with a text; QueryError is an answer."""
    try:
        query = compile_query(text, ARGS)
    except QueryError:
        return
    condition = condition_of(query.ast)
    for document in DOCUMENTS:
        matches = query.matches(document)
        assert matches is (query.value(document) is True)
        found = condition.branches is None or any(one.holds(value_at(one.place, document)) for one in condition.predicates)
        assert found or not matches
    explain(query, DOCUMENTS[-1])


@pytest.mark.parametrize("text", CORPUS, ids=range(len(CORPUS)))
def test_the_corpus_is_survived(text: str) -> None:
    """Whatever was hard once, each in seconds and some megabytes."""
    began = time.process_time()
    survive(text)
    assert time.process_time() - began < SECONDS_MAX


def test_the_corpus_takes_bounded_memory() -> None:
    """What one text has taken is free again, and none takes much."""
    tracemalloc.start()
    try:
        for text in CORPUS:
            survive(text[:2_000])  # tracing makes it slow
        assert tracemalloc.get_traced_memory()[1] < BYTES_MAX
    finally:
        tracemalloc.stop()


@st.composite
def spliced(draw: st.DrawFn) -> str:
    """The beginning of one text of the corpus and the end of another, with something between them."""
    one, other = draw(st.sampled_from(CORPUS)), draw(st.sampled_from(CORPUS))
    begin = one[: draw(st.integers(0, min(len(one), 200)))]
    end = other[-draw(st.integers(1, 200)) :]
    return begin + draw(st.sampled_from(["", " ", " AND ", " || ", "(", ")", "[?", "]", "'", "`", "/*", "\\", "\n"])) + end


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(st.one_of(spliced(), st.text(max_size=100), st.binary(max_size=60).map(lambda data: data.decode("latin-1"))))
def test_any_text_is_survived(text: str) -> None:
    """Also what nobody would write."""
    began = time.process_time()
    survive(text)
    assert time.process_time() - began < SECONDS_MAX
