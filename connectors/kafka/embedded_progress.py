"""Shows how a download goes: a bar on a terminal, a line each quarter elsewhere (CI, a log file)."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import TextIO

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

MB = 1_000_000


def progress_display(title: str, total_bytes: int, stream: TextIO) -> contextlib.AbstractContextManager[Callable[[int], None]]:
    """A context manager; call what it gives, from any thread, with each number of bytes that arrived (below 0: taken back)."""
    return _bar(title, total_bytes, stream) if stream.isatty() else _lines(title, total_bytes, stream)


@contextlib.contextmanager
def _bar(title: str, total_bytes: int, stream: TextIO) -> Iterator[Callable[[int], None]]:
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=Console(file=stream), transient=False) as progress:
        task = progress.add_task(title, total=total_bytes)
        yield lambda count: progress.advance(task, count)


@contextlib.contextmanager
def _lines(title: str, total_bytes: int, stream: TextIO) -> Iterator[Callable[[int], None]]:
    lock, arrived, shown = threading.Lock(), 0, 0

    def advance(count: int) -> None:
        nonlocal arrived, shown
        with lock:
            arrived += count
            quarters = 4 * arrived // max(total_bytes, 1)
            if quarters > shown:
                shown = quarters
                stream.write(f"{title}: {25 * quarters} %\n")
                stream.flush()

    stream.write(f"{title} ({total_bytes / MB:.0f} MB) ...\n")
    stream.flush()
    yield advance
