"""
Child processes that are kept running: each is started again when it ends by itself, after a wait that grows, and the others go on.

A child holds the reading end of a pipe whose other end is ours alone: whatever ends us, it learns of it and ends too. It is in a session of
its own, so that Ctrl-C in the terminal reaches us only, and we say who stops first.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from livehook.process import DRAIN_S_MAX, PARENT_PIPE

logger = logging.getLogger(__name__)

WAIT_S_MIN, WAIT_S_MAX = 0.5, 10.0
STEADY_S = 30.0
STOP_GRACE_S = DRAIN_S_MAX + 2.0
LOG_BYTES_MAX = 10 * 1024 * 1024
LINE_BYTES_MAX = 1024 * 1024
SHOWN_LEVELS = frozenset({"warning", "error", "critical"})


class GaveUp(Exception):
    """A child ended again and again before it was of any use; the message says what it said last."""


class Log:
    """A file that lines are appended to; when it is full, it becomes the ``.old`` one."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        self._file = path.open("ab")

    def write(self, line: bytes) -> None:
        """Append a line."""
        if self._file.tell() > LOG_BYTES_MAX:
            self._file.close()
            self._path.replace(self._path.with_suffix(".old.log"))
            self._file = self._path.open("ab")
        self._file.write(line)
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class Child:
    """
    One child that is kept running.

    Args:  environment: on top of ours. descriptors: it inherits these.
           log: where what it logs goes; what is worth a look is handed to ``tell`` too.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        environment: Mapping[str, str],
        descriptors: Sequence[int] = (),
        log: Path,
        tell: Callable[[str], None],
    ) -> None:
        self.name = name
        self.pid: int | None = None
        self.failures = 0
        self._command = command
        self._environment = environment
        self._descriptors = descriptors
        self._log = Log(log)
        self._tell = tell
        self._last = ""
        self._stopping = asyncio.Event()
        self._process: asyncio.subprocess.Process | None = None
        self._pipe, self._parent_pipe = os.pipe()
        self._task: asyncio.Task[None] | None = None

    @property
    def last_words(self) -> str:
        """The last thing it said that was worth a look."""
        return self._last or f"see {self.name}.log"

    def start(self) -> None:
        """Start it, and keep it running from now on."""
        self._task = asyncio.create_task(self._keep_running(), name=f"keep {self.name} running")

    async def stop(self) -> None:
        """End it: SIGTERM, and after a while SIGKILL."""
        self._stopping.set()
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(signal.SIGTERM)
        if self._task is not None:
            try:
                await asyncio.wait_for(asyncio.shield(self._task), STOP_GRACE_S)
            except TimeoutError:
                self._kill()
                await self._task
        os.close(self._pipe)
        os.close(self._parent_pipe)
        self._log.close()

    def _kill(self) -> None:
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()

    async def _keep_running(self) -> None:
        loop = asyncio.get_running_loop()
        while not self._stopping.is_set():
            started = loop.time()
            code = await self._run()
            if self._stopping.is_set():
                return
            self.failures = 1 if loop.time() - started > STEADY_S else self.failures + 1
            wait_s = min(WAIT_S_MIN * 2 ** (self.failures - 1), WAIT_S_MAX)
            self._tell(f"{self.name} ended ({_how(code)}) and is started again: {self.last_words}")
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), wait_s)

    async def _run(self) -> int:
        """Run it once; gives its exit code."""
        self._process = await asyncio.create_subprocess_exec(
            *self._command,
            env=os.environ | self._environment | {PARENT_PIPE: str(self._pipe)},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            pass_fds=(self._pipe, *self._descriptors),
            start_new_session=True,
            limit=LINE_BYTES_MAX,
        )
        self.pid = self._process.pid
        if self._stopping.is_set():
            self._process.terminate()
        await self._read_log(self._process)
        return await self._process.wait()

    async def _read_log(self, process: asyncio.subprocess.Process) -> None:
        assert process.stderr is not None  # noqa: S101 - asked for above
        while True:
            try:
                line = await process.stderr.readline()
            except ValueError:  # longer than the limit: the rest of it comes as lines of their own
                continue
            if not line:
                return
            self._log.write(line)
            if (shown := worth_a_look(line)) is not None:
                self._last = shown
                self._tell(f"{self.name}: {shown}")
            elif line[:1] != b"{" and line.strip():  # no log line: something on its way down says why, at last in one line
                self._last = line.decode(errors="replace").strip()


def worth_a_look(line: bytes) -> str | None:
    """The message of a log line that a person should see, with the error behind it; None for everyday news and for other lines."""
    try:
        entry = json.loads(line)
    except ValueError:
        return None
    if not isinstance(entry, dict) or entry.get("level") not in SHOWN_LEVELS:
        return None
    cause = str(entry.get("exception", "")).strip().rpartition("\n")[2]
    return f"{entry.get('event')}: {cause}" if cause else str(entry.get("event"))


def _how(code: int) -> str:
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
