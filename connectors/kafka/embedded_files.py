"""
What the embedded Kafka reads when it starts, as text: broker settings, logging settings, the Java command line. Pure.

Kafka runs inside its folder and every path in these files is relative to it, so neither commas, spaces nor a moved folder matter::

    DIR/kafka/  server.properties  log4j2.properties  lock      written at each start
                data/              topics and metadata          durable
                logs/              server.log, console.log      bounded
                tmp/               libraries Java unpacks       emptied at each start

Source: Kafka 4.3's broker configs; Log4j 2's properties format; the ``java`` man page of JDK 25.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from schemas.topics import DEAD_LETTER_BYTES_MAX

MIB = 1024 * 1024
NODE_ID = 1
MESSAGE_BYTES_MAX = DEAD_LETTER_BYTES_MAX + MIB  # headers and batch framing come on top of the largest record of any topic
LOG_BYTES_MAX = 5 * MIB
LOG_FILES_MAX = 3

_SMALL_BROKER = {
    # A laptop's broker: few threads, few partitions of Kafka's own topics, and the log cleaner's buffer at 16 of its 128 MiB.
    "num.network.threads": 2,
    "num.io.threads": 4,
    "background.threads": 2,
    "num.recovery.threads.per.data.dir": 2,
    "log.cleaner.dedupe.buffer.size": 16 * MIB,
    "offsets.topic.num.partitions": 4,
    "transaction.state.log.num.partitions": 4,
    "share.coordinator.state.topic.num.partitions": 1,
    # An index entry is 8 bytes for 4 KiB of log: enough for a whole segment of 1 GiB, and a fifth of the default for each empty partition.
    "log.index.size.max.bytes": 2 * MIB,
}
_ONE_COPY = {
    "offsets.topic.replication.factor": 1,
    "transaction.state.log.replication.factor": 1,
    "transaction.state.log.min.isr": 1,
    "share.coordinator.state.topic.replication.factor": 1,
    "share.coordinator.state.topic.min.isr": 1,
}
_FOR_US = {
    "auto.create.topics.enable": "false",
    "group.initial.rebalance.delay.ms": 0,
    "message.max.bytes": MESSAGE_BYTES_MAX,
    "replica.fetch.max.bytes": MESSAGE_BYTES_MAX,
    # After kill -9 the broker is let in again only when its old session has ended: 12 s to come back with the default of 9, about 6 with 4.
    # With less, a machine that is busy for a moment fences a broker that is well, and clients forget where it is.
    "broker.session.timeout.ms": 4000,
    "broker.heartbeat.interval.ms": 500,
}


def server_properties(host: str, port: int, controller_port: int) -> str:
    """KRaft, one node that is broker and controller; clients come to ``host:port``, the controller listens on loopback only."""
    clients = f"PLAINTEXT://{bracketed(host)}:{port}"
    settings: dict[str, str | int] = {
        "process.roles": "broker,controller",
        "node.id": NODE_ID,
        "controller.quorum.voters": f"{NODE_ID}@127.0.0.1:{controller_port}",
        "listeners": f"{clients},CONTROLLER://127.0.0.1:{controller_port}",
        "advertised.listeners": clients,
        "controller.listener.names": "CONTROLLER",
        "inter.broker.listener.name": "PLAINTEXT",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "log.dirs": "data",
    }
    return _properties(settings | _FOR_US | _ONE_COPY | _SMALL_BROKER)


def log4j2_properties() -> str:
    """Warnings and the line of each start, to logs/server.log and two older files of at most 5 MiB each; nothing to the console."""
    return _properties(
        {
            "status": "error",
            "appender.file.type": "RollingFile",
            "appender.file.name": "file",
            "appender.file.fileName": "logs/server.log",
            "appender.file.filePattern": "logs/server.log.%i",
            "appender.file.layout.type": "PatternLayout",
            "appender.file.layout.pattern": "%d{ISO8601_OFFSET_DATE_TIME_HHCMM} %p %c: %m%n",
            "appender.file.policies.type": "Policies",
            "appender.file.policies.size.type": "SizeBasedTriggeringPolicy",
            "appender.file.policies.size.size": LOG_BYTES_MAX,
            "appender.file.strategy.type": "DefaultRolloverStrategy",
            "appender.file.strategy.max": LOG_FILES_MAX - 1,
            "rootLogger.level": "warn",
            "rootLogger.appenderRef.file.ref": "file",
            "logger.start.name": "org.apache.kafka.common.utils.AppInfoParser",
            "logger.start.level": "info",
        }
    )


def java_command(java: Path, jars: Sequence[Path], heap_mib: int, main: Sequence[str], options: Sequence[str] = ()) -> list[str]:
    """
    Run a class of Kafka's inside its folder.

    Args:  options: further ones for Java.

    Both compilers stay on: with the quick one alone the port is up 0.4 s earlier, but 10,000 records/s then cost a whole core, not 0.45.
    The serial collector: with 512 MiB its latencies equal G1's, in 10 % less memory, and messages of MiBs do not fragment its heap.
    """
    return [
        str(java),
        f"-Xmx{heap_mib}m",
        "-XX:+UseSerialGC",
        "-XX:+ExitOnOutOfMemoryError",
        "-XX:-UsePerfData",
        "-XX:ErrorFile=logs/java-crash.log",
        "-Djava.awt.headless=true",
        "-Djava.io.tmpdir=tmp",
        "-Dlog4j2.configurationFile=log4j2.properties",
        # What Kafka does on purpose and Java 24 and later warn of.
        "--enable-native-access=ALL-UNNAMED",
        "--sun-misc-unsafe-memory-access=allow",
        *options,
        "-cp",
        os.pathsep.join(str(jar) for jar in jars),
        *main,
    ]


def java_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Nothing of the user's Java or Kafka settings (JAVA_TOOL_OPTIONS, CLASSPATH, KAFKA_OPTS) may reach the broker."""
    return {name: environ[name] for name in ("HOME", "LANG", "LC_ALL", "PATH", "TZ", "USER") if name in environ}


def cluster_id(chance: bytes) -> str:
    """Kafka's spelling of 16 random bytes: base64 for URLs, 22 characters, none in front that looks like an option."""
    text = base64.urlsafe_b64encode(chance).rstrip(b"=").decode()
    return "A" + text[1:] if text.startswith("-") else text


def bracketed(host: str) -> str:
    """The host as it stands before ``:port``."""
    return f"[{host}]" if ":" in host else host


def _properties(settings: Mapping[str, object]) -> str:
    return "".join(f"{name}={value}\n" for name, value in settings.items())
