"""
Settings, read once at the start: flag > environment ``LIVEHOOK_*`` > ``livehook.toml``. Source: docs/reference/settings.md.

A secret may stand in a file of its own, named by ``LIVEHOOK_<SETTING>_FILE``. Whatever is wrong is refused here, and named.
"""

from __future__ import annotations

import ipaddress
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from connectors.kafka.config import KafkaConfig
from connectors.webhook.egress import Rules, rules
from schemas.durations import seconds
from schemas.topics import PARTITIONS_MAX, SLOTS, Topics

PREFIX = "LIVEHOOK_"
FILE_NAME = "livehook.toml"
SECRETS = frozenset({"kafka_sasl_password", "api_token", "activity_url", "egress_proxy"})  # a URL may hold a password
LOG_LEVELS = ("debug", "info", "warning", "error")
FILE_BYTES_MAX = 1024 * 1024


class BadSettings(ValueError):
    """A setting that is unknown or wrong; the message is one line that names it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """
    What every role is told.

    partitions:   of ``mutations`` and ``changes`` when they are made; the existing topics must have as many.
    replication:  of topics that are made; None: what the broker does.
    activity_url: of the database with the activity log; None: SQLite in the role's folder.
    activity_keep, activity_mib_max: how long, and how much of it, is kept.
    egress_allow: networks that may be called although they are private.
    egress_proxy: URL of the HTTP proxy that calls go through; None: none.
    slot_count:   of ``slots``; cannot be set: as many as there are, or what the way of running wants.
    given:        the names of those that were set somewhere, and are not just defaults.
    """

    bootstrap_servers: str = "127.0.0.1:9092"
    kafka_security_protocol: str = "PLAINTEXT"
    kafka_sasl_mechanism: str | None = None
    kafka_sasl_username: str | None = None
    kafka_sasl_password: str | None = field(default=None, repr=False)
    kafka_ssl_ca: str | None = None
    kafka_ssl_cert: str | None = None
    kafka_ssl_key: str | None = None
    topic_prefix: str = "livehook."
    partitions: int = 8
    replication: int | None = None
    schema_registry_url: str | None = None
    activity_url: str | None = field(default=None, repr=False)
    activity_keep: str = "7d"
    activity_mib_max: int = 4_096
    api_token: str | None = field(default=None, repr=False)
    egress_allow: tuple[str, ...] = ()
    egress_proxy: str | None = field(default=None, repr=False)
    allow_private: bool = False
    log_level: str = "info"
    slot_count: int = SLOTS
    given: frozenset[str] = frozenset()

    def topics(self) -> Topics:
        """The topics of this installation."""
        return Topics(self.topic_prefix, self.partitions, self.slot_count)

    def kafka(self) -> KafkaConfig:
        """
        How every client reaches Kafka.

        Raises:  ValueError: the settings do not go together; the message begins with the field's name without ``kafka_``.
        """
        return KafkaConfig(
            bootstrap_servers=self.bootstrap_servers,
            security_protocol=self.kafka_security_protocol,
            sasl_mechanism=self.kafka_sasl_mechanism,
            sasl_username=self.kafka_sasl_username,
            sasl_password=self.kafka_sasl_password,
            ssl_ca=self.kafka_ssl_ca,
            ssl_cert=self.kafka_ssl_cert,
            ssl_key=self.kafka_ssl_key,
        )

    def egress(self, *, own_ports: frozenset[int] = frozenset()) -> Rules:
        """Where calls may lead. ``own_ports``: where this process listens."""
        return rules(allow_private=self.allow_private, egress_allow=self.egress_allow, own_ports=own_ports)


def load(
    flags: Mapping[str, Any],
    *,
    environment: Mapping[str, str],
    config: Path | None = None,
    folder: Path = Path(),
    defaults: Mapping[str, Any] | None = None,
) -> Settings:
    """
    The settings that hold.

    Args:    flags: by field; None where a flag was not given. config: the file to read, which must be there;
             None: ``livehook.toml`` in ``folder``, if there is one. defaults: instead of those of :class:`Settings`.
    Raises:  BadSettings.
    """
    given: dict[str, tuple[str, Any]] = {}  # field -> where it stands, and what
    given |= _from_file(config or folder / FILE_NAME, must_exist=config is not None)
    given |= _from_environment(environment)
    given |= {name: (f"--{name.replace('_', '-')}", value) for name, value in flags.items() if value is not None}
    checked = {name: _checked(name, value, where) for name, (where, value) in given.items()}
    settings = Settings(**{**(defaults or {}), **checked, "given": frozenset(checked)})
    try:
        settings.kafka()
    except ValueError as error:  # it names one of its own fields first
        message = str(error)
        raise BadSettings(message if message.startswith("bootstrap") else f"kafka_{message}") from None
    return settings


def _from_environment(environment: Mapping[str, str]) -> dict[str, tuple[str, Any]]:
    found: dict[str, tuple[str, Any]] = {}
    for setting in _CHECKS:
        name = PREFIX + setting.upper()
        value = environment.get(name)
        if setting in SECRETS and (path := environment.get(f"{name}_FILE")):
            if value:
                raise BadSettings(f"{name} and {name}_FILE are both set: unset one")
            found[setting] = (f"{name}_FILE", _read_secret(f"{name}_FILE", Path(path)))
        elif value:  # set to nothing is not set: how compose files and shells leave out a variable
            found[setting] = (name, value)
    return found


def _from_file(path: Path, *, must_exist: bool) -> dict[str, tuple[str, Any]]:
    if not must_exist and not path.exists():
        return {}
    try:
        with path.open("rb") as file:
            content = file.read(FILE_BYTES_MAX + 1)
        table = tomllib.loads(content.decode())
    except OSError as error:
        raise BadSettings(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:  # TOMLDecodeError and UnicodeDecodeError
        raise BadSettings(f"{path} is no TOML: {error}") from error
    return dict(_file_entry(path, key, value) for key, value in table.items())


def _file_entry(path: Path, key: str, value: Any) -> tuple[str, tuple[str, Any]]:
    name, where = key.lower(), f"{path}: {key}"
    if name.removesuffix("_file") in SECRETS and name.endswith("_file"):
        return name.removesuffix("_file"), (where, _read_secret(where, Path(_text(value))))
    if name not in _CHECKS:
        raise BadSettings(f"{where} is no setting; these are: {', '.join(_CHECKS)}")
    return name, (where, value)


def _read_secret(where: str, path: Path) -> str:
    try:
        return path.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise BadSettings(f"{where} names {path}, which cannot be read: {why}") from error


def _checked(name: str, value: Any, where: str) -> Any:
    try:
        return _CHECKS[name](value)
    except ValueError as error:
        shown = "" if name in SECRETS else f" is {str(value)[:60]!r},"
        raise BadSettings(f"{where}{shown} {error}") from None


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value or not value.isprintable():
        raise ValueError("must be a text on one line")
    return value


def _log_level(value: Any) -> str:
    if (level := _text(value).lower()) not in LOG_LEVELS:
        raise ValueError(f"must be one of {', '.join(LOG_LEVELS)}")
    return level


def _whole(low: int, high: int) -> Callable[[Any], int]:
    def check(value: Any) -> int:
        if isinstance(value, str) and re.fullmatch(r"\d{1,9}", value):
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise ValueError(f"must be a whole number from {low} to {high}")
        return value

    return check


def _truth(value: Any) -> bool:
    known = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
    if isinstance(value, bool):
        return value
    if not isinstance(value, str) or value.lower() not in known:
        raise ValueError("must be true or false")
    return known[value.lower()]


def _topic_prefix(value: Any) -> str:
    # Kafka's names have at most 249 characters; `deliveries.` and a webhook's name of 63 must fit behind it.
    if not isinstance(value, str) or not re.fullmatch(r"[A-Za-z0-9._-]{0,100}", value):
        raise ValueError("must be up to 100 letters, digits, dots, dashes and underscores")
    return value


def _http_url(value: Any) -> str:
    text = _text(value)
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise ValueError("must be a URL that begins with http:// or https://")
    return text


def _proxy_url(value: Any) -> str:
    text = _http_url(value)
    parts = urlsplit(text)
    try:
        is_good = parts.hostname and parts.port != 0 and parts.path in ("", "/") and not parts.query and not parts.fragment
    except ValueError:  # no port
        is_good = False
    if not is_good:
        raise ValueError("must be the URL of a proxy, such as http://proxy.example.com:3128")
    return text


def _database_url(value: Any) -> str:
    text = _text(value)
    if not text.startswith(("postgresql://", "postgres://")):
        raise ValueError("must be a URL that begins with postgresql://")
    return text


def _duration(value: Any) -> str:
    if seconds(value) < 60:
        raise ValueError("must be at least 1m")
    return str(value)


def _networks(value: Any) -> tuple[str, ...]:
    parts = value if isinstance(value, list | tuple) else str(value).split(",")
    try:
        return tuple(str(ipaddress.ip_network(str(part).strip())) for part in parts)
    except ValueError as error:
        raise ValueError(f"must be networks such as 10.1.0.0/16: {error}") from error


def _token(value: Any) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"[\x21-\x7e]{1,4096}", value):  # it must fit into a header
        raise ValueError("must be visible ASCII without spaces")
    return value


_CHECKS: dict[str, Callable[[Any], Any]] = {
    "bootstrap_servers": _text,
    "kafka_security_protocol": _text,
    "kafka_sasl_mechanism": _text,
    "kafka_sasl_username": _text,
    "kafka_sasl_password": _text,
    "kafka_ssl_ca": _text,
    "kafka_ssl_cert": _text,
    "kafka_ssl_key": _text,
    "topic_prefix": _topic_prefix,
    "partitions": _whole(1, PARTITIONS_MAX),
    "replication": _whole(1, 32),
    "schema_registry_url": _http_url,
    "activity_url": _database_url,
    "activity_keep": _duration,
    "activity_mib_max": _whole(1, 1024 * 1024),
    "api_token": _token,
    "egress_allow": _networks,
    "egress_proxy": _proxy_url,
    "allow_private": _truth,
    "log_level": _log_level,
}
