"""Values of Avro schemas, for the tests of what writes and reads them."""

import re
from types import SimpleNamespace
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


def with_attributes(schema: Any, value: Any) -> Any:
    """The value with its records' fields as attributes, ``txnId`` as ``txn_id``."""
    match schema:
        case ["null", other]:
            return None if value is None else with_attributes(other, value)
        case {"type": "record", "fields": fields}:
            found = {field["name"]: with_attributes(field["type"], value[field["name"]]) for field in fields}
            return SimpleNamespace(**{re.sub("([A-Z])", r"_\1", name).lower(): item for name, item in found.items()})
        case {"type": "array", "items": items}:
            return [with_attributes(items, item) for item in value]
        case {"type": "map", "values": items}:
            return {name: with_attributes(items, item) for name, item in value.items()}
    return value


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
