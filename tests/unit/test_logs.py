"""Logs: one JSON object a line, without secrets."""

import io
import json
import logging

import pytest

from livehook import logs


@pytest.fixture
def said():
    """What is logged, as JSON; the root logger is put back afterwards."""
    root = logging.getLogger()
    before = (root.handlers, root.level)
    stream = io.StringIO()
    logs.configure("info", stream=stream)
    yield lambda: [json.loads(line) for line in stream.getvalue().splitlines()]
    logging.captureWarnings(capture=False)
    root.handlers, root.level = before


def test_a_record_is_an_object(said):
    """Message, level, logger, time, and what was given besides."""
    logging.getLogger("streams.state").info("caught up to %d", 7, extra={"partition": 3})

    [entry] = said()
    assert ("caught up to 7", "info", "streams.state", 3) == tuple(entry[name] for name in ("event", "level", "logger", "partition"))
    assert entry["time"].endswith("Z")


def test_an_exception_is_part_of_it(said):
    """As one field, not as lines of its own."""
    try:
        raise ValueError("no")
    except ValueError:
        logging.getLogger("x").exception("failed")

    assert said()[0]["exception"].endswith("ValueError: no")


@pytest.mark.parametrize(
    "text", ["secret whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw here", "Authorization: Bearer abc.def", "https://user:hidden@example.com/x"]
)
def test_secrets_in_texts_are_masked(said, text):
    """Signing secrets, bearer tokens, passwords in URLs."""
    logging.getLogger("x").warning(text)

    event = said()[0]["event"]
    assert "****" in event
    assert not any(hidden in event for hidden in ("MfKQ", "abc.def", "hidden"))


def test_fields_named_like_secrets_are_masked(said):
    """Whatever is in them."""
    logging.getLogger("x").info("set", extra={"api_token": "abc"})

    assert "****" == said()[0]["api_token"]


def test_what_others_say_again_and_again_is_said_once_in_a_while(said):
    """While a broker is down, aiokafka says so fifty times a second; our own lines all come."""
    for node in range(50):
        logging.getLogger("aiokafka.conn").error("Unable connect to node %s", node)
        logging.getLogger("streams.state").info("caught up to %d", node)

    assert 1 == sum(entry["logger"] == "aiokafka.conn" for entry in said())
    assert 50 == sum(entry["logger"] == "streams.state" for entry in said())
