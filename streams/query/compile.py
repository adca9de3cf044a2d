"""Tree to Python: one function that says whether a document matches, some 0.1 µs for a comparison."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, Final, TypeAlias, cast

from streams.query import steps, values
from streams.query.ast import Expression
from streams.query.fold import fold
from streams.query.functions import FUNCTIONS
from streams.query.patterns import match_pattern
from streams.query.writer import Module, Writer

Predicate: TypeAlias = Callable[[Any], bool]

_SOURCES_MAX: Final = 1_024

# The global names of all compiled functions: one dict for all of them, so that a query costs its code and its constants.
_GLOBALS: Final[dict[str, Any]] = {
    **{
        operation.__name__: operation
        for operation in (
            *values.COMPARE.values(), *values.CALCULATE.values(), values.negative, values.all_true, values.any_true,
            values.exclusive, values.negated, values.between, values.among, values.object_of, values.present, steps.follow,
            steps.elements, steps.flattened, steps.filtered, steps.mapped,
        )
    },
    **{f"call_{name}": function.call for name, function in FUNCTIONS.items()},
    "match_pattern": match_pattern,
    "Budget": steps.Budget,
    "OutOfStepsError": steps.OutOfStepsError,
    "MISSING": values.MISSING,
    "NUMBERS": values.NUMBERS,
}  # fmt: skip


def compile_tree(tree: Expression) -> Predicate:
    """
    The function that says whether a document matches: whether the value of `tree` is true.

    Args:    tree: bound. The function takes a decoded JSON object.
    Raises:  Refused: a literal pattern is not valid.
    """
    module = Module()
    source = module.source(Writer(module, of_document=True).true(fold(tree)))
    return _maker(source)(*module.constants)


@lru_cache(_SOURCES_MAX)
def _maker(source: str) -> Callable[..., Predicate]:
    """The function that makes predicates of one shape from their constants: most of thousands of queries have one of a few."""
    made: dict[str, Any] = {}
    exec(compile(source, "<query>", "exec"), _GLOBALS, made)  # noqa: S102 - the text is ours; names of properties go in by repr
    return cast("Callable[..., Predicate]", made["make"])
