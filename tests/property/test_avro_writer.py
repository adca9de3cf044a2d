"""What is written is Avro: as fastavro writes it, byte for byte, but that the blocks of maps tell their size."""

from io import BytesIO
from typing import Any

import pytest
from fastavro import schemaless_reader, schemaless_writer
from hypothesis import given
from hypothesis import strategies as st

from schemas.avro_reader import compile_reader
from schemas.avro_writer import LONG_MAX, LONG_MIN, compile_writer
from schemas.codec import Schema
from schemas.records import ALL, ATTEMPT
from tests.property.avro_strategies import values_of, with_attributes


@pytest.mark.parametrize("schema", ALL, ids=lambda schema: schema.name)
@given(data=st.data())
def test_every_record_is_written_as_fastavro_writes_it(schema: Schema, data: st.DataObject) -> None:
    """Whatever the values, the library reads them; and the bytes are those that it writes, where no map is."""
    value = data.draw(values_of(schema.newest))
    found, out = compile_writer(schema.newest)(value), BytesIO()
    schemaless_writer(out, schema.newest, value)
    source = BytesIO(found)
    assert (value, len(found)) == (schemaless_reader(source, schema.newest, None), source.tell())
    assert found == compile_writer(schema.newest, of_attributes=True)(with_attributes(schema.newest, value))
    if schema is not ATTEMPT:
        assert out.getvalue() == found


@given(st.dictionaries(st.text("aé%", max_size=3), st.text("bü%", max_size=200), max_size=9))
def test_the_block_of_a_map_tells_its_size(value: dict[str, str]) -> None:
    """So that a reader passes over it at once."""
    found = compile_writer({"type": "map", "values": "string"})(value)
    count, at = compile_reader("long")(found, 0)
    assert -len(value) == count
    if value:
        size, at = compile_reader("long")(found, at)
        assert len(found) == at + size + 1
    assert (value, len(found)) == compile_reader({"type": "map", "values": "string"})(found, 0)


@given(st.one_of(st.integers(max_value=LONG_MIN - 1), st.integers(min_value=LONG_MAX + 1)))
def test_a_number_that_is_no_long_is_refused(number: int) -> None:
    """More than 64 bits would be written as something that nobody can read."""
    with pytest.raises(OverflowError):
        compile_writer("long")(number)


@pytest.mark.parametrize("number", [2**31, -(2**31) - 1])
def test_a_number_that_is_no_int_is_refused(number: int) -> None:
    """Other readers take only 32 bits."""
    with pytest.raises(OverflowError):
        compile_writer("int")(number)


@pytest.mark.parametrize("schema", [{"type": "array", "items": "long"}, {"type": "map", "values": "long"}])
def test_nothing_is_not_an_empty_collection(schema: Any) -> None:
    """None is a mistake of the writer."""
    with pytest.raises(TypeError):
        compile_writer(schema)(None)


@pytest.mark.parametrize(("type_", "value"), [("string", 1), ("string", None), ("bytes", "a"), ("long", "1"), ("long", 1.5)])
def test_a_value_of_another_type_is_refused(type_: str, value: object) -> None:
    """A mistake in our own code shows where it is made, not where the record is read."""
    with pytest.raises((TypeError, AttributeError)):
        compile_writer(type_)(value)


def test_a_field_that_is_missing_is_refused() -> None:
    """Every field is written; there is no guessing at defaults."""
    with pytest.raises(KeyError):
        compile_writer({"type": "record", "name": "R", "fields": [{"name": "a", "type": "long"}]})({})


@pytest.mark.parametrize("schema", ["livehook.Change", ["string", "null"], ["null", "string", "long"], {"type": "enum", "symbols": ["A"]}])
def test_a_schema_that_cannot_be_written_is_refused_at_the_start(schema: Any) -> None:
    """What none of our schemas has is not written wrongly."""
    with pytest.raises(ValueError, match="no writer for"):
        compile_writer(schema)
