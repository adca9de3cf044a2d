"""Rules of strict JSON and normalised documents."""

import pytest

from schemas import strict_json
from schemas.strict_json import NotStrict


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b'{"a":NaN}',
        b'{"a":Infinity}',
        b'{"a":1e999}',
        b'{"a":-1e999}',
        b'{"a":"\\ud800"}',
        b'{"a":"\\ud800xyzxyzxyz"}',
        b'{"\\udc00xyzxyzxyz":1}',
        b'{"a":"\xff"}',
        b'\xef\xbb\xbf{"a":1}',
        b'{"a":1} x',
        b'{"a":01}',
        b'{"a":"\x01"}',
        b"{'a':1}",
        b'{"a":1,}',
    ],
)
def test_what_is_no_strict_json_is_refused(data):
    """Anything but UTF-8 JSON with finite numbers and whole characters is refused."""
    with pytest.raises(NotStrict):
        strict_json.normalise(data)


@pytest.mark.parametrize(
    "data",
    [b'{"a":1,"a":2}', b'{"a" :1,"a" : 2}', b'{"a" :1,"a":"x\\":y"}', b'[{"b":{"c":1,"c":1}}]', b'{"a":1,"\\u0061":2}', b'{"":1,"":2}'],
)
def test_a_key_that_comes_twice_is_refused_at_every_depth(data):
    """However it is spelled and wherever it stands."""
    with pytest.raises(NotStrict, match="comes twice"):
        strict_json.normalise(data)


@pytest.mark.parametrize("data", [b'{"a":"\\":"}', b'{"a\\":":":"}', b'{"a":{"a":{"a":1}}}', b'{"a\\\\":1,"a":2}'])
def test_colons_in_strings_are_no_keys(data):
    """The quick look for duplicates is only quick: the slow one decides."""
    assert data == strict_json.normalise(data)


def test_normalising_keeps_every_digit():
    """Only white space goes."""
    assert b'{"a":1.10e2,"b":-0,"c":123456789012345678901234567890,"d":"\\u00e9 x"}' == strict_json.normalise(
        b' { "a" : 1.10e2,\n"b": -0, "c":123456789012345678901234567890 ,"d":"\\u00e9 x"}'
    )


def test_nesting_is_bounded():
    """128 levels are read, 129 are not."""
    assert b"[" * 128 + b"]" * 128 == strict_json.normalise(b"[" * 128 + b"]" * 128)
    for levels in (129, 100_000):
        with pytest.raises(NotStrict, match="128 levels"):
            strict_json.normalise(b"[" * levels + b"]" * levels)


def test_merging_replaces_top_level_properties_whole():
    """A nested object is replaced, not merged; null is a value; the bytes of both are kept."""
    assert b'{"_id":"1","a":null,"b":{"y":2.50},"c":[]}' == strict_json.merge(
        b'{"_id":"1","a":1,"b":{"x":1}}', b'{"b":{"y":2.50},"a":null,"c":[]}'
    )


@pytest.mark.parametrize("given", [b'{"_id":"1"}', b'{"a":31.0,"b":{"x":1,"y":2}}', b"{}"])
def test_merging_what_is_there_changes_nothing(given):
    """Equal values, whatever their digits or the order of keys."""
    assert strict_json.merge(b'{"_id":"1","a":31,"b":{"y":2,"x":1}}', given) is None


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (b'{"a":31}', b'{"a":31.0}', True),
        (b'{"a":1,"b":2}', b'{"b":2,"a":1}', True),
        (b'{"a":1}', b'{"a":true}', False),
        (b'{"a":[1,2]}', b'{"a":[2,1]}', False),
        (b'{"a":9007199254740993}', b'{"a":9007199254740992.0}', False),
        (b'{"a":null}', b"{}", False),
        (b'{"a":"1"}', b'{"a":1}', False),
        (b'{"a":{"b":[{"c":1.50}]}}', b'{"a":{"b":[{"c":1.5}]}}', True),
        (b'{"a":{}}', b'{"a":[]}', False),
    ],
)
def test_documents_are_equal_when_their_values_are(one, other, same):
    """Numbers by value, booleans never as numbers, keys in any order."""
    assert same is strict_json.equal(one, other)
    assert same is strict_json.equal(other, one)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b'{"a":"\\ud800"}', r"a string holds half of a surrogate pair (\ud800 to \udfff)"),
        (b'{"\\udc00x":1}', r"a string holds half of a surrogate pair (\ud800 to \udfff)"),
        (b'{"a":"\\ud800', "it ends too early"),
        (b'{"a":1', "it ends too early"),
        (b'{"a":1} x', "trailing characters (byte 9)"),
    ],
)
def test_a_refusal_says_what_is_wrong(data, why):
    """Half of a surrogate pair and an early end are told apart."""
    with pytest.raises(NotStrict) as refused:
        strict_json.decode(data)
    assert why == str(refused.value)
