"""A progress bar for people."""

from __future__ import annotations

import sys
from typing import Any, Self


class Progress:
    """A bar on a terminal (stderr), if it is ``shown``; nothing elsewhere."""

    def __init__(self, what: str, total: int, *, shown: bool = True) -> None:
        self._bar: Any = None
        self._task: Any = None
        if shown and sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import Progress as Bar

            self._bar = Bar(console=Console(stderr=True), transient=True)
            self._task = self._bar.add_task(what, total=total)

    def advance(self, count: int) -> None:
        """So many more are done."""
        if self._bar is not None:
            self._bar.advance(self._task, count)

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()
