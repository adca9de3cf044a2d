"""Folders that only one process may use at a time."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from livehook.exits import Failed

AGAIN_S = 0.1


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
        raise Failed(f"cannot write to {folder} ({error.strerror}): choose another folder with --dir") from error
    try:
        _lock(descriptor, folder, time.monotonic() + wait_s)
        os.truncate(descriptor, 0)
        os.write(descriptor, str(os.getpid()).encode())
        yield
    finally:
        os.close(descriptor)


def _lock(descriptor: int, folder: Path, deadline: float) -> None:
    while True:
        try:
            return fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            if time.monotonic() > deadline:
                holder = os.pread(descriptor, 20, 0).decode(errors="replace") or "another one"
                raise Failed(f"{folder} is in use by process {holder}: end it, or choose another folder with --dir") from error
            time.sleep(AGAIN_S)
