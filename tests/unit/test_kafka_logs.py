"""Rules of librdkafka's log lines."""

import logging

from connectors.kafka.logs import EVERY_S, Once


def line(text, level=logging.ERROR):
    return logging.LogRecord("librdkafka.test", level, "", 0, text, (), None)


def test_the_same_kind_of_line_comes_once_in_a_while():
    """Other kinds are not held up by it."""
    now = [0.0]
    once = Once(lambda: now[0])
    assert [True, False, True] == [once.filter(line(text)) for text in ("FAIL [a]: refused", "FAIL [b]: refused", "GETPID [a]: loading")]
    now[0] = EVERY_S
    assert once.filter(line("FAIL [a]: refused"))


def test_what_librdkafka_tries_again_is_a_warning():
    """An error that is final reaches the caller as an exception."""
    record = line("FAIL [a]: refused")
    Once().filter(record)
    assert logging.WARNING == record.levelno


def test_what_we_know_is_not_said():
    """The gapless guarantee is chosen with open eyes."""
    assert not Once().filter(line("CONFWARN [a]: Configuration property enable.gapless.guarantee is experimental: When set"))
