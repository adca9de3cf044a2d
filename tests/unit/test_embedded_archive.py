"""Which class-data archive a broker uses; that Java accepts it is held by tests/integration/test_embedded_kafka.py."""

import os

import pytest

from connectors.kafka.embedded_archive import archive_path, start_options
from connectors.kafka.embedded_jars import Runtime


@pytest.fixture
def runtime(tmp_path):
    """A Java and a jar, as far as an archive's name goes."""
    (tmp_path / "java" / "lib").mkdir(parents=True)
    (tmp_path / "java" / "lib" / "modules").write_bytes(b"classes")
    return Runtime(tmp_path / "java" / "bin" / "java", [tmp_path / "cache" / "kafka.jar"])


def test_an_archive_belongs_to_one_java_and_one_set_of_jars(runtime, tmp_path):
    """It lies beside the jars, has the same name each time, and another one for another Java or other jars."""
    first = archive_path(runtime)
    assert (tmp_path / "cache", first) == (first.parent, archive_path(runtime))
    assert first != archive_path(Runtime(runtime.java, [*runtime.jars, tmp_path / "cache" / "more.jar"]))
    os.utime(tmp_path / "java" / "lib" / "modules", ns=(1, 1))
    assert first != archive_path(runtime)


def test_a_start_uses_an_archive_or_lists_what_one_would_hold(runtime, tmp_path):
    """A used archive is checked as a whole."""
    archive = archive_path(runtime)
    assert ["-XX:DumpLoadedClassList=tmp/classes.lst"] == start_options(archive)
    archive.parent.mkdir()
    archive.touch()
    assert [f"-XX:SharedArchiveFile={archive}", "-XX:+VerifySharedSpaces"] == start_options(archive)
