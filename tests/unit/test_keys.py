"""Rules of keys, ids and partitions."""

import pytest

from schemas.keys import BadKey, check_collection, id_json, id_text, murmur2, partition_of, split_key


@pytest.mark.parametrize(
    ("key", "hashed"),
    [
        # from org.apache.kafka.common.utils.UtilsTest.testMurmur2
        (b"21", -973932308),
        (b"foobar", -790332482),
        (b"a-little-bit-long-string", -985981536),
        (b"a-little-bit-longer-string", -1486304829),
        (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
        (b"abc", 479470107),
    ],
)
def test_murmur2_is_that_of_java(key, hashed):
    """Kafka's own test vectors."""
    assert hashed % 2**32 == murmur2(key)
    assert (hashed & 0x7FFFFFFF) % 8 == partition_of(key, 8)


@pytest.mark.parametrize("name", ["people", "_x", "a.b-c_d", "A" * 128])
def test_collections_that_are_allowed(name):
    """A letter or _, then letters, digits, _ . -"""
    assert name == check_collection(name)


@pytest.mark.parametrize("name", ["", "1a", "a/b", "a b", "é", "A" * 129, "people\n", None, 3])
def test_collections_that_are_not(name):
    """Anything else is refused."""
    with pytest.raises(BadKey):
        check_collection(name)


@pytest.mark.parametrize(
    ("given", "text"), [("6213", "6213"), ("a/b", "a/b"), ({"b": 1, "a": "x"}, '{"a":"x","b":1}'), ({}, "{}"), ({"n": 1e3}, '{"n":1000}')]
)
def test_ids_have_one_spelling(given, text):
    """A string as it is, an object in its canonical form; both are read back from a key."""
    assert text == id_text(given)
    assert ("people", text) == split_key(f"people/{text}")


@pytest.mark.parametrize("given", ["", "{x", '"x', 1, None, True, [], "x" * 1025, "é" * 513, {"a": "x" * 1020}, {"a": 2**60}])
def test_ids_that_are_refused(given):
    """Other types, strings that look like JSON, too long, numbers that RFC 8785 cannot hold."""
    with pytest.raises(BadKey):
        id_text(given)


@pytest.mark.parametrize(
    "key", ["people", "/1", "people/", '1x/{"a":1}', 'people/{"b":1,"a":1}', 'people/{"a" :1}', "people/{", 'people/"a"']
)
def test_keys_that_name_no_document(key):
    """A key must be what key_of gives."""
    with pytest.raises(BadKey):
        split_key(key)


def test_an_id_stands_in_the_document_as_json():
    """A string quoted, an object as it is."""
    assert b'"a\\"b"' == id_json('a"b')
    assert b'{"a":1}' == id_json('{"a":1}')
