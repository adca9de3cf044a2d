"""Values of Avro schemas, for the tests of what writes and reads them."""

from typing import Any

from hypothesis import strategies as st

from schemas.avro_writer import LONG_MAX, LONG_MIN

VALUES = {
    "string": st.text(st.characters(exclude_categories=["Cs"]), max_size=200),
    "bytes": st.binary(max_size=200),
    "int": st.integers(-(2**31), 2**31 - 1),
    "long": st.integers(LONG_MIN, LONG_MAX),
    "boolean": st.booleans(),
}


def values_of(schema: Any) -> st.SearchStrategy[Any]:
    """Any value of a parsed schema."""
    match schema:
        case str():
            return VALUES[schema]
        case [*branches]:
            return st.one_of([st.none() if branch == "null" else values_of(branch) for branch in branches])
        case {"type": "record", "fields": fields}:
            return st.fixed_dictionaries({field["name"]: values_of(field["type"]) for field in fields})
        case {"type": "array", "items": items}:
            return st.lists(values_of(items), max_size=5)
        case {"type": "map", "values": values}:
            return st.dictionaries(VALUES["string"], values_of(values), max_size=5)
    return values_of(schema["type"])
