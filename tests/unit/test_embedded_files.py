"""What the embedded Kafka is told when it starts, and what is said when it does not."""

from __future__ import annotations

from pathlib import Path

import pytest

from connectors.kafka.embedded_files import cluster_id, java_command, java_environment, log4j2_properties, server_properties
from connectors.kafka.embedded_health import death_reason
from schemas.topics import DEAD_LETTER_BYTES_MAX


def settings(text: str) -> dict[str, str]:
    """A properties file as a dict; each name at most once."""
    pairs = [line.split("=", 1) for line in text.splitlines()]
    assert len(pairs) == len({name for name, _ in pairs})
    return dict(pairs)


def test_clients_are_told_the_address_they_asked_for():
    """What Kafka listens on is what it tells its clients; the controller is for this machine alone."""
    told = settings(server_properties("192.168.7.7", 9092, 21_000))
    assert "PLAINTEXT://192.168.7.7:9092" == told["advertised.listeners"]
    assert "PLAINTEXT://192.168.7.7:9092,CONTROLLER://127.0.0.1:21000" == told["listeners"]
    assert "1@127.0.0.1:21000" == told["controller.quorum.voters"]


def test_an_ipv6_address_stands_in_brackets():
    """Else its colons would be read as the port's."""
    assert "PLAINTEXT://[::1]:9092" == settings(server_properties("::1", 9092, 21_000))["advertised.listeners"]


def test_the_largest_record_of_any_topic_fits():
    """With its headers and framing on top."""
    told = settings(server_properties("127.0.0.1", 9092, 21_000))
    assert int(told["message.max.bytes"]) >= DEAD_LETTER_BYTES_MAX + 64 * 1024
    assert int(told["replica.fetch.max.bytes"]) >= int(told["message.max.bytes"])


def test_topics_are_never_made_by_a_typing_error():
    """Only ensure_topics makes topics, with their configs."""
    assert "false" == settings(server_properties("127.0.0.1", 9092, 21_000))["auto.create.topics.enable"]


def test_every_path_is_inside_the_folder():
    """Kafka would split a path at a comma, and a moved folder would not start; relative to the folder neither matters."""
    assert "data" == settings(server_properties("127.0.0.1", 9092, 21_000))["log.dirs"]
    assert "logs/server.log" == settings(log4j2_properties())["appender.file.fileName"]


def test_logs_are_bounded():
    """Three files of 5 MiB."""
    told = settings(log4j2_properties())
    assert 3 * 5 * 1024 * 1024 == (1 + int(told["appender.file.strategy.max"])) * int(told["appender.file.policies.size.size"])


def test_the_java_command_names_every_jar_then_the_class():
    """The class path is the jars in their order; the class and its arguments come last."""
    command = java_command(Path("/java"), [Path("/a.jar"), Path("/b c.jar")], 256, ["kafka.Kafka", "server.properties"])
    assert "/java" == command[0]
    assert "-Xmx256m" in command
    assert ["-cp", "/a.jar:/b c.jar", "kafka.Kafka", "server.properties"] == command[-4:]


def test_settings_of_other_javas_do_not_reach_the_broker():
    """JAVA_TOOL_OPTIONS, CLASSPATH and KAFKA_OPTS of the user stay outside."""
    environ = {"PATH": "/bin", "HOME": "/home/ada", "JAVA_TOOL_OPTIONS": "-Xmx1m", "CLASSPATH": "/x", "KAFKA_OPTS": "-Dx"}
    assert {"PATH": "/bin", "HOME": "/home/ada"} == java_environment(environ)


@pytest.mark.parametrize("chance", [bytes(16), b"\xff" * 16, b"\xf8" + bytes(15), bytes(range(16))])
def test_a_cluster_id_is_22_characters_that_no_command_line_takes_for_an_option(chance):
    """Kafka's own spelling: URL-safe base64 without padding."""
    made = cluster_id(chance)
    assert 22 == len(made)
    assert not made.startswith("-")


BIND = """\
2026-01-01T00:00:00,000+00:00 WARN org.apache.kafka.controller.QuorumController: Performing controller activation.
2026-01-01T00:00:01,000+00:00 ERROR kafka.network.DataPlaneAcceptor: Unable to start acceptor for PLAINTEXT
org.apache.kafka.common.KafkaException: Socket server failed to bind to 127.0.0.1:36631: Address already in use.
\tat org.apache.kafka.server.ServerSocketFactory.openServerSocket(ServerSocketFactory.java:56)
Caused by: java.net.BindException: Address already in use
2026-01-01T00:00:02,000+00:00 ERROR kafka.server.BrokerServer: Fatal error during startup
java.lang.RuntimeException: Unable to start acceptor for PLAINTEXT
"""


@pytest.mark.parametrize(
    ("server_log", "console", "expected"),
    [
        (BIND, "", "Socket server failed to bind to 127.0.0.1:36631: Address already in use"),
        ("00:00 ERROR kafka.Kafka$: no metadata\n", "", "kafka.Kafka$: no metadata"),
        ("00:00 WARN x: fine\n", "Error occurred during initialization of VM\nToo small maximum heap\n", "Too small maximum heap"),
        ("", "", ""),
        ("00:00 ERROR x: " + "y" * 1000, "", ("x: " + "y" * 1000)[:200]),
    ],
)
def test_the_reason_of_a_failed_start_is_its_first_cause(server_log, console, expected):
    """The first error's exception, else its words, else the last that Java said; one bounded line."""
    assert expected == death_reason(server_log, console)
