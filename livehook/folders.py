"""Folders that only one process may use at a time, and the lasting name that a process has by its folder."""

from __future__ import annotations

import fcntl
import os
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from livehook.exits import Failed
from schemas.errors import Fatal

AGAIN_S = 0.1


def writable(folder: Path) -> None:
    """
    Make the folder, which several processes may use.

    Raises:  Failed: it cannot be made or written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise _unusable(folder, error) from error


@contextmanager
def locked(folder: Path, *, wait_s: float = 0.0) -> Iterator[None]:
    """
    Make the folder and hold it; the system lets go of it whatever ends us.

    Args:    wait_s: for somebody who may be ending.
    Raises:  Failed: somebody else holds it, or it cannot be written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise _unusable(folder, error) from error
    try:
        _lock(descriptor, folder, time.monotonic() + wait_s)
        os.truncate(descriptor, 0)
        os.write(descriptor, str(os.getpid()).encode())
        yield
    finally:
        os.close(descriptor)


def _unusable(folder: Path, error: OSError) -> Failed:
    return Failed(f"cannot write to {folder} ({error.strerror}): choose another folder with --dir")


def _lock(descriptor: int, folder: Path, deadline: float) -> None:
    while True:
        try:
            return fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            if time.monotonic() > deadline:
                holder = os.pread(descriptor, 20, 0).decode(errors="replace") or "another one"
                raise Failed(f"{folder} is in use by process {holder}: end it, or choose another folder with --dir") from error
            time.sleep(AGAIN_S)


def instance_id(folder: Path) -> str:
    """
    A process's lasting name in its group: started again within the session timeout it gets back what it had, without a rebalance.

    Raises:  Fatal: the name cannot be read.
    """
    file = folder / "instance"
    if not file.exists():
        fresh = folder / f"instance.{time.time_ns()}"
        fresh.write_text(f"livehook-{uuid.uuid4().hex}")
        fresh.replace(file)
    name = file.read_text().strip()
    if not name:
        raise Fatal(f"{file} is empty: remove it")
    return name
