"""What is read is what fastavro reads; what is no record is refused, whatever it is."""

import contextlib
from io import BytesIO
from typing import Any

import pytest
from fastavro import schemaless_writer
from hypothesis import given
from hypothesis import strategies as st

from schemas.avro_reader import compile_reader
from schemas.changes import Change
from schemas.codec import Schema, decode, decode_row
from schemas.deliveries import Delivery, Match
from schemas.errors import BadRecord
from schemas.positions import Origin
from schemas.records import ALL, ATTEMPT, decode_delivery_order, encode_delivery
from tests.property.avro_strategies import values_of, with_attributes


def written(schema: Schema, data: st.DataObject) -> tuple[Any, bytes]:
    """A value, and its bytes as fastavro writes them."""
    value, out = data.draw(values_of(schema.newest)), BytesIO()
    schemaless_writer(out, schema.newest, value)
    return value, out.getvalue()


@pytest.mark.parametrize("schema", ALL, ids=lambda schema: schema.name)
@given(data=st.data())
def test_every_record_is_read_as_it_was_written(schema: Schema, data: st.DataObject) -> None:
    """By the library, too."""
    value, found = written(schema, data)
    assert isinstance(schema.newest, dict)
    assert value == decode(schema, schema.prefix + found)
    assert tuple(value[field["name"]] for field in schema.sources[-1]["fields"]) == decode_row(schema, schema.prefix + found)


@pytest.mark.parametrize("schema", ALL, ids=lambda schema: schema.name)
@given(data=st.data())
def test_a_record_that_was_cut_or_goes_on_is_refused(schema: Schema, data: st.DataObject) -> None:
    """At whatever byte it ends, or whatever stands behind it."""
    _, found = written(schema, data)
    cut = data.draw(st.integers(0, len(found) - 1))
    for wrong in (found[:cut], found + b"\x00"):
        with pytest.raises(BadRecord):
            decode(schema, schema.prefix + wrong)


@pytest.mark.parametrize("schema", ALL, ids=lambda schema: schema.name)
@given(junk=st.binary(max_size=300))
def test_bytes_that_are_no_record_are_refused(schema: Schema, junk: bytes) -> None:
    """There is one error for it, and always an end."""
    with contextlib.suppress(BadRecord):
        decode(schema, schema.prefix + junk)


@pytest.mark.parametrize(
    ("schema", "wrong"),
    [("string", b"\x01"), ("bytes", b"\x03a"), ("string", b"\x02\xff"), (["null", "long"], b"\x04\x00"), ("long", b"\xff" * 11)],
)
def test_what_cannot_be_is_refused(schema: Any, wrong: bytes) -> None:
    """A negative length, no UTF-8, a branch that there is not, a number of too many bytes."""
    with pytest.raises((ValueError, IndexError)):
        compile_reader(schema)(wrong, 0)


def test_a_block_may_tell_its_size() -> None:
    """A negative count and the bytes of the block, as other writers have it."""
    assert ([1, 2], 5) == compile_reader({"type": "array", "items": "long"})(b"\x03\x04\x02\x04\x00", 0)


@pytest.mark.parametrize("schema", ["livehook.Change", ["string", "null"], ["null", "string", "long"], {"type": "enum", "symbols": ["A"]}])
def test_a_schema_that_cannot_be_read_is_refused_at_the_start(schema: Any) -> None:
    """What none of our schemas has is not read wrongly."""
    with pytest.raises(ValueError, match="no reader for"):
        compile_reader(schema)


@given(data=st.data())
def test_what_is_passed_over_is_none_and_all_else_is_as_it_was(data: st.DataObject) -> None:
    """At any depth, whether the blocks of maps tell their size or not."""
    value, found = written(ATTEMPT, data)
    if data.draw(st.booleans()):
        found = ATTEMPT.write(with_attributes(ATTEMPT.newest, value))
    read, end = compile_reader(ATTEMPT.newest, without=("headers",))(found, 0)
    for side in ("request", "response"):
        if value[side] is not None:
            value[side]["headers"] = None
    assert (value, len(found)) == (read, end)


@pytest.mark.parametrize("schema", ALL, ids=lambda schema: schema.name)
@given(data=st.data())
def test_whatever_is_passed_over_ends_where_it_ends(schema: Schema, data: st.DataObject) -> None:
    """Of every kind that our schemas have."""
    _, found = written(schema, data)
    names = [field["name"] for field in schema.sources[-1]["fields"]]
    left_out = data.draw(st.sets(st.sampled_from(names)))
    read, end = compile_reader(schema.newest, as_row=True, without=left_out)(found, 0)
    assert len(found) == end
    assert all(value is None for name, value in zip(names, read, strict=True) if name in left_out)


@given(data=st.data(), match=st.sampled_from([*Match]), trigger=st.integers(0, 12), snapshot=st.integers(0, 2))
def test_a_delivery_says_its_order_without_its_document(data: st.DataObject, match: Match, trigger: int, snapshot: int) -> None:
    """As the whole of it does."""
    numbers = st.integers(0, 1 << 50)
    origin = Origin(data.draw(st.integers(0, 5)), data.draw(st.integers(0, 40)), data.draw(numbers))
    change = Change("c", "d", data.draw(numbers), data.draw(numbers), data.draw(st.none() | st.binary()), b"{}", origin, data.draw(numbers))
    delivery = Delivery("uid", 1, match, change, snapshot, data.draw(st.sampled_from([None, "rpl_1"])), trigger)
    assert ("uid", delivery.order) == decode_delivery_order(encode_delivery(delivery))
