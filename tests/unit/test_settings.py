"""Settings: where they come from, and what is refused."""

from pathlib import Path

import pytest

from livehook.settings import BadSettings, Settings, load


def test_without_anything_the_defaults_hold(tmp_path):
    """No file, no environment, no flag: the documented defaults."""
    assert Settings() == load({}, environment={}, folder=tmp_path)


def test_a_flag_comes_before_the_environment_and_that_before_the_file(tmp_path):
    """Flag > environment > file."""
    (tmp_path / "livehook.toml").write_text('bootstrap_servers = "file:1"\npartitions = 3\nlog_level = "error"\n')
    environment = {"LIVEHOOK_BOOTSTRAP_SERVERS": "environment:2", "LIVEHOOK_PARTITIONS": "4"}

    found = load({"bootstrap_servers": "flag:3", "partitions": None}, environment=environment, folder=tmp_path)

    assert ("flag:3", 4, "error") == (found.bootstrap_servers, found.partitions, found.log_level)


def test_defaults_of_a_role_come_last(tmp_path):
    """What `dev` sets differently gives way to everything that the user says."""
    found = load({}, environment={"LIVEHOOK_PARTITIONS": "2"}, folder=tmp_path, defaults={"partitions": 4, "allow_private": True})

    assert (2, True) == (found.partitions, found.allow_private)


def test_names_in_the_file_may_be_written_as_in_the_environment(tmp_path):
    """The reference names settings in capitals; both spellings are taken."""
    (tmp_path / "livehook.toml").write_text('TOPIC_PREFIX = "other."\n')

    assert "other." == load({}, environment={}, folder=tmp_path).topic_prefix


def test_an_unknown_setting_in_the_file_is_refused_and_named(tmp_path):
    """A misspelt setting must not be silently without effect."""
    (tmp_path / "livehook.toml").write_text("partitons = 3\n")

    with pytest.raises(BadSettings, match=r"livehook\.toml: partitons is no setting"):
        load({}, environment={}, folder=tmp_path)


def test_a_config_file_that_is_named_must_be_there(tmp_path):
    """--config never falls back to nothing."""
    with pytest.raises(BadSettings, match=r"cannot be read: No such file"):
        load({}, environment={}, config=tmp_path / "absent.toml")


def test_a_file_that_is_no_toml_is_refused(tmp_path):
    """Its own error says where."""
    (tmp_path / "livehook.toml").write_text("partitions = = 3\n")

    with pytest.raises(BadSettings, match="is no TOML"):
        load({}, environment={}, folder=tmp_path)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PARTITIONS", "0"),
        ("PARTITIONS", "many"),
        ("REPLICATION", "-1"),
        ("ALLOW_PRIVATE", "maybe"),
        ("LOG_LEVEL", "loud"),
        ("TOPIC_PREFIX", "a/b"),
        ("EGRESS_ALLOW", "10.0.0.0/33"),
        ("SCHEMA_REGISTRY_URL", "registry:8081"),
        ("API_TOKEN", "with space"),
        ("BOOTSTRAP_SERVERS", "nowhere"),
        ("KAFKA_SECURITY_PROTOCOL", "TLS"),
        ("KAFKA_SASL_USERNAME", "alone"),
        ("KAFKA_SSL_CERT", "absent.pem"),
    ],
)
def test_a_bad_value_is_refused_and_named(name, value, tmp_path):
    """Every setting is checked at the start."""
    with pytest.raises(BadSettings, match=f"(?i){name}"):
        load({}, environment={f"LIVEHOOK_{name}": value}, folder=tmp_path)


def test_a_secret_may_stand_in_a_file_of_its_own(tmp_path):
    """LIVEHOOK_API_TOKEN_FILE is read without the newline at its end."""
    (tmp_path / "token").write_text("s3cret\n")

    assert "s3cret" == load({}, environment={"LIVEHOOK_API_TOKEN_FILE": str(tmp_path / "token")}, folder=tmp_path).api_token


def test_a_secret_given_twice_is_refused(tmp_path):
    """Which of the two holds would be a guess."""
    (tmp_path / "token").write_text("a")
    environment = {"LIVEHOOK_API_TOKEN": "b", "LIVEHOOK_API_TOKEN_FILE": str(tmp_path / "token")}

    with pytest.raises(BadSettings, match="both set"):
        load({}, environment=environment, folder=tmp_path)


def test_a_secret_file_that_is_not_there_is_refused(tmp_path):
    """The setting and the path are named."""
    with pytest.raises(BadSettings, match="LIVEHOOK_API_TOKEN_FILE names"):
        load({}, environment={"LIVEHOOK_API_TOKEN_FILE": str(tmp_path / "absent")}, folder=tmp_path)


def test_a_variable_set_to_nothing_is_not_set(tmp_path):
    """Compose files pass on variables that are empty."""
    assert 8 == load({}, environment={"LIVEHOOK_PARTITIONS": ""}, folder=tmp_path).partitions


def test_secrets_are_not_in_messages_or_representations(tmp_path):
    """Neither a refused token nor a good one is ever printed."""
    with pytest.raises(BadSettings) as refused:
        load({}, environment={"LIVEHOOK_API_TOKEN": "hidden value"}, folder=tmp_path)

    assert "hidden" not in str(refused.value)
    assert "hidden" not in repr(Settings(api_token="hidden", kafka_sasl_password="hidden"))


def test_values_of_toml_keep_their_types(tmp_path):
    """Numbers, truths and lists need no quotes."""
    (tmp_path / "livehook.toml").write_text('partitions = 4\nallow_private = true\negress_allow = ["10.1.0.0/16", "fd00::/8"]\n')

    found = load({}, environment={}, folder=tmp_path)

    assert (4, True, ("10.1.0.0/16", "fd00::/8")) == (found.partitions, found.allow_private, found.egress_allow)


def test_kafka_settings_reach_the_clients(tmp_path):
    """What is set for Kafka is what every client is made with."""
    environment = {
        "LIVEHOOK_KAFKA_SECURITY_PROTOCOL": "SASL_PLAINTEXT",
        "LIVEHOOK_KAFKA_SASL_MECHANISM": "PLAIN",
        "LIVEHOOK_KAFKA_SASL_USERNAME": "u",
        "LIVEHOOK_KAFKA_SASL_PASSWORD": "p",
    }

    kafka = load({}, environment=environment, folder=tmp_path).kafka().librdkafka()

    assert ("u", "p", "PLAIN") == (kafka["sasl.username"], kafka["sasl.password"], kafka["sasl.mechanism"])


def test_the_folder_is_where_it_is_run(tmp_path, monkeypatch):
    """./livehook.toml, without being named."""
    (tmp_path / "livehook.toml").write_text("partitions = 5\n")
    monkeypatch.chdir(tmp_path)

    assert 5 == load({}, environment={}, folder=Path()).partitions
