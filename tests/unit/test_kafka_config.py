"""How clients reach Kafka: what cannot work is refused at the start, by name, and no password is shown."""

from __future__ import annotations

import pytest

from connectors.kafka.config import KafkaConfig

SASL = {"security_protocol": "SASL_SSL", "sasl_mechanism": "SCRAM-SHA-512", "sasl_username": "ada", "sasl_password": "hunter2"}


@pytest.fixture
def pem(tmp_path):
    """A file that is there."""
    path = tmp_path / "ca.pem"
    path.write_text("-----BEGIN CERTIFICATE-----")
    return str(path)


def test_only_servers_are_needed():
    """The rest is what a Kafka without security wants."""
    settings = KafkaConfig(bootstrap_servers="a:9092,b:9093").librdkafka()
    assert ("a:9092,b:9093", "plaintext") == (settings["bootstrap.servers"], settings["security.protocol"])
    assert not [name for name in settings if name.startswith(("sasl.", "ssl."))]


def test_everything_reaches_librdkafka_under_its_own_name(pem):
    """User, password, mechanism, and the three files."""
    settings = KafkaConfig(bootstrap_servers="a:9092", ssl_ca=pem, ssl_cert=pem, ssl_key=pem, **SASL).librdkafka()
    expected = {
        "security.protocol": "sasl_ssl",
        "sasl.mechanism": "SCRAM-SHA-512",
        "sasl.username": "ada",
        "sasl.password": "hunter2",
        "ssl.ca.location": pem,
        "ssl.certificate.location": pem,
        "ssl.key.location": pem,
    }
    assert expected == {name: settings[name] for name in expected}


def test_a_callers_settings_stay_its_own():
    """Each call gives a new dict."""
    config = KafkaConfig(bootstrap_servers="a:9092")
    config.librdkafka()["group.id"] = "mine"
    assert "group.id" not in config.librdkafka()


def test_no_password_is_shown():
    """Neither by repr nor by the line of a refusal."""
    config = KafkaConfig(bootstrap_servers="a:9092", **SASL)
    assert "hunter2" not in repr(config)
    with pytest.raises(ValueError, match="sasl_password is set") as refusal:
        KafkaConfig(bootstrap_servers="a:9092", sasl_password="hunter2")
    assert "hunter2" not in str(refusal.value)


@pytest.mark.parametrize("servers", ["127.0.0.1:9092", "[::1]:9092", "kafka-1.example.com:9092, kafka-2.example.com:65535", "a_b:1"])
def test_servers_are_hosts_with_ports(servers):
    """Names, IPv4, IPv6 in brackets; several."""
    assert servers == KafkaConfig(bootstrap_servers=servers).bootstrap_servers


@pytest.mark.parametrize(
    "servers", ["", "a", "a:", ":9092", "a:0", "a:65536", "a:9092,", "a:9092 b:9092", "::1:9092", "PLAINTEXT://a:9092"]
)
def test_other_servers_are_refused(servers):
    """The line names the field, what it is, and what it must be."""
    with pytest.raises(ValueError, match=r"bootstrap_servers is .*, it must be host:port, several separated by commas"):
        KafkaConfig(bootstrap_servers=servers)


@pytest.mark.parametrize(
    ("fields", "line"),
    [
        ({"security_protocol": "TLS"}, "security_protocol is 'TLS', it must be one of PLAINTEXT, SSL, SASL_PLAINTEXT, SASL_SSL"),
        ({**SASL, "sasl_mechanism": "GSSAPI"}, "sasl_mechanism is 'GSSAPI', it must be one of PLAIN, SCRAM-SHA-256, SCRAM-SHA-512"),
        ({**SASL, "sasl_mechanism": None}, "sasl_mechanism is not set, it is needed when security_protocol is SASL_SSL"),
        ({**SASL, "sasl_username": ""}, "sasl_username is not set, it is needed when security_protocol is SASL_SSL"),
        ({**SASL, "security_protocol": "SSL"}, "sasl_mechanism is set, it needs security_protocol SASL_SSL or SASL_PLAINTEXT, not SSL"),
        ({"security_protocol": "SSL", "ssl_ca": "/no/file"}, "ssl_ca is '/no/file', there is no such file"),
    ],
)
def test_what_cannot_work_is_refused_by_name(fields, line):
    """The line names the field and what it must be."""
    with pytest.raises(ValueError, match="^" + line.replace("/", r"\/") + "$"):
        KafkaConfig(bootstrap_servers="a:9092", **fields)


def test_files_without_tls_are_refused(pem):
    """They would be ignored in silence."""
    with pytest.raises(ValueError, match="ssl_ca is set, it needs security_protocol SSL or SASL_SSL, not PLAINTEXT"):
        KafkaConfig(bootstrap_servers="a:9092", ssl_ca=pem)


@pytest.mark.parametrize(("given", "missing"), [("ssl_cert", "ssl_key"), ("ssl_key", "ssl_cert")])
def test_certificate_and_key_come_together(pem, given, missing):
    """One without the other proves nothing."""
    with pytest.raises(ValueError, match=f"{missing} is not set, {given} needs it"):
        KafkaConfig(bootstrap_servers="a:9092", security_protocol="ssl", **{given: pem})
