"""
How every client reaches Kafka: read once from the settings, refused at the start when it cannot work.

Source: docs/reference/settings.md (``BOOTSTRAP_SERVERS``, ``KAFKA_*``); librdkafka's CONFIGURATION.md.
"""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

PROTOCOLS = ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL")
MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")
PORT_MAX = 65_535
_SERVER = re.compile(r"(?P<host>\[[0-9A-Fa-f:.%\w]+\]|[^\s:,\[\]/]+):(?P<port>\d{1,5})")

# A broker that comes back is found within a second; librdkafka's own limit is ten.
# A lone broker that was cut off for a moment is listed by nobody; who has forgotten it asks the bootstrap servers again (KIP-1102).
_RECONNECT = {"reconnect.backoff.ms": 50, "reconnect.backoff.max.ms": 1000, "metadata.recovery.rebootstrap.trigger.ms": 5000}
# Kafka closes connections that were idle for ten minutes: no event worth a line in the log.
_QUIET = {"log.connection.close": False}


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class KafkaConfig:
    """
    Where Kafka is and who we are to it.

    Args:    bootstrap_servers: ``host:port``, several separated by commas; IPv6 addresses in brackets.
             security_protocol: one of PROTOCOLS, in any case.
             sasl_mechanism: one of MECHANISMS; this, the user name and the password are needed by the SASL protocols, and by no other.
             ssl_ca, ssl_cert, ssl_key: PEM files; the client's certificate and its key only together.
    Raises:  ValueError: names the field, what it is and what it must be; never shows the password.
    """

    bootstrap_servers: str
    security_protocol: str = "PLAINTEXT"
    sasl_mechanism: str | None = None
    sasl_username: str | None = None
    sasl_password: str | None = dataclasses.field(default=None, repr=False)
    ssl_ca: str | None = None
    ssl_cert: str | None = None
    ssl_key: str | None = None

    def __post_init__(self) -> None:
        self._check_servers()
        if self.security_protocol.upper() not in PROTOCOLS:
            raise ValueError(f"security_protocol is {self.security_protocol!r}, it must be one of {', '.join(PROTOCOLS)}")
        self._check_sasl()
        self._check_ssl()

    def librdkafka(self) -> dict[str, str | int | float | bool]:
        """The settings that every confluent-kafka client of ours begins with; a new dict each time, the caller adds its own."""
        named = {
            "bootstrap.servers": self.bootstrap_servers,
            "security.protocol": self.security_protocol.lower(),
            "sasl.mechanism": self.sasl_mechanism and self.sasl_mechanism.upper(),
            "sasl.username": self.sasl_username,
            "sasl.password": self.sasl_password,
            "ssl.ca.location": self.ssl_ca,
            "ssl.certificate.location": self.ssl_cert,
            "ssl.key.location": self.ssl_key,
        }
        settings: dict[str, str | int | float | bool] = {key: value for key, value in named.items() if value is not None}
        return settings | _RECONNECT | _QUIET

    def _check_servers(self) -> None:
        for server in self.bootstrap_servers.split(","):
            match = _SERVER.fullmatch(server.strip())
            if match is None or not 0 < int(match["port"]) <= PORT_MAX:
                raise ValueError(f"bootstrap_servers is {self.bootstrap_servers!r}, it must be host:port, several separated by commas")

    def _check_sasl(self) -> None:
        given = {name: getattr(self, name) for name in ("sasl_mechanism", "sasl_username", "sasl_password")}
        needed = self.security_protocol.upper().startswith("SASL_")
        for name, value in given.items():
            if needed and not value:
                raise ValueError(f"{name} is not set, it is needed when security_protocol is {self.security_protocol}")
            if value and not needed:
                raise ValueError(f"{name} is set, it needs security_protocol SASL_SSL or SASL_PLAINTEXT, not {self.security_protocol}")
        if self.sasl_mechanism and self.sasl_mechanism.upper() not in MECHANISMS:
            raise ValueError(f"sasl_mechanism is {self.sasl_mechanism!r}, it must be one of {', '.join(MECHANISMS)}")

    def _check_ssl(self) -> None:
        for name in ("ssl_ca", "ssl_cert", "ssl_key"):
            path = getattr(self, name)
            if path and not self.security_protocol.upper().endswith("SSL"):
                raise ValueError(f"{name} is set, it needs security_protocol SSL or SASL_SSL, not {self.security_protocol}")
            if path and not Path(path).is_file():
                raise ValueError(f"{name} is {path!r}, there is no such file")
        if bool(self.ssl_cert) != bool(self.ssl_key):
            present, absent = ("ssl_cert", "ssl_key") if self.ssl_cert else ("ssl_key", "ssl_cert")
            raise ValueError(f"{absent} is not set, {present} needs it")
