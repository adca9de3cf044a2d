"""Whether a starting broker is ready, and why one that ended did so."""

from __future__ import annotations

import re
import socket

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from connectors.kafka.config import KafkaConfig
from connectors.kafka.embedded_files import bracketed

ANSWER_S = 1.0
REASON_CHARS_MAX = 200
_EXCEPTION = re.compile(r"^[\w.$]+(?:Exception|Error): (.+)$", re.MULTILINE)


def answers(host: str, port: int) -> bool:
    """Whether a broker answers a metadata request and names itself, within a second or two."""
    try:  # librdkafka would wait between two attempts to connect; this asks it only when somebody listens
        socket.create_connection((host, port), timeout=ANSWER_S).close()
    except OSError:
        return False
    client = AdminClient(KafkaConfig(bootstrap_servers=f"{bracketed(host)}:{port}").librdkafka() | {"log_level": 0})
    try:
        return bool(client.list_topics(timeout=ANSWER_S).brokers)
    except KafkaException:
        return False


def death_reason(server_log: str, console: str) -> str:
    """
    Why a start failed, in one line of at most REASON_CHARS_MAX characters.

    The exception of the first error that Kafka logged, else that error's own words, else the last line that Java printed, else nothing.
    """
    _, error, after = server_log.partition(" ERROR ")
    exception = _EXCEPTION.search(after)
    if exception:
        reason = exception[1]
    elif error:
        reason = after.partition("\n")[0]
    else:
        reason = console.strip().rpartition("\n")[2]
    return reason.strip().rstrip(".")[:REASON_CHARS_MAX]
