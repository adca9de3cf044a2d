"""Rules of ``fields``: what leaves of a document."""

import pytest

from connectors.webhook.projection import projection
from schemas.webhooks import Fields

DOCUMENT = b'{"_id":"a","n":1e2,"b":{"c":1.0,"d":{"e":2}},"l":[{"p":1,"q":2},3,[{"p":4}]],"x.y":5}'


@pytest.mark.parametrize(
    ("include", "exclude", "left"),
    [
        (("n",), (), b'{"_id":"a","n":1e2}'),
        (("b.c",), (), b'{"_id":"a","b":{"c":1.0}}'),
        (("b.d", "b.d.e", "n"), (), b'{"_id":"a","n":1e2,"b":{"d":{"e":2}}}'),
        (("nothing", "n.deeper"), (), b'{"_id":"a"}'),
        (("b.nothing",), (), b'{"_id":"a","b":{}}'),
        (("l.p",), (), b'{"_id":"a","l":[{"p":1},[{"p":4}]]}'),
        ((), ("l", "b", "x.y"), b'{"_id":"a","n":1e2,"x.y":5}'),
        ((), ("b.d.e", "n", "l.q"), b'{"_id":"a","b":{"c":1.0,"d":{}},"l":[{"p":1},3,[{"p":4}]],"x.y":5}'),
        ((), ("b.d.e", "b.d", "b.c.x", "l", "x"), b'{"_id":"a","n":1e2,"b":{"c":1.0},"x.y":5}'),
        (("b",), ("b.d",), b'{"_id":"a","b":{"c":1.0}}'),
        (("_id",), (), b'{"_id":"a"}'),
    ],
)
def test_what_leaves(include, exclude, left):
    """What stays keeps its bytes and its order; a path goes through lists; exclude takes away from what include left."""
    project = projection(Fields(include, exclude))
    assert project is not None
    assert left == project(DOCUMENT)


@pytest.mark.parametrize("fields", [Fields(), Fields(exclude=("_id",))], ids=["none", "the id alone"])
def test_the_id_stays_and_nothing_else_to_do_is_nothing(fields):
    """Documents pass untouched, as one piece of bytes."""
    assert (projection(fields) or (lambda document: document))(DOCUMENT) is DOCUMENT
