"""
A child process that cannot outlive its parent, however that ends, kill -9 included; Linux and macOS.

The parent starts a watcher, a few lines of sh that read from a pipe, and then the child, which tells the watcher its process id through the
same pipe and closes its end before it becomes the program. From then on only the parent can write there. It never does until the child has
ended: the watcher sees the end of the pipe only when the parent is gone, and ends the child. There is no moment without a guard: a parent
killed between the two starts leaves a watcher that is told the id and sees the end of the pipe right after.

Both run in sessions of their own: Ctrl-C in the terminal reaches the parent alone, which decides who stops first.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

SHELL = "/bin/sh"
WATCHER_END_S = 5.0
# Lines in: the child's id; then an empty one when the parent has seen the child's end. $1: seconds between TERM and KILL.
_WATCH = """
read -r child || exit 0
read -r _ && exit 0
kill -TERM "$child" 2> /dev/null || exit 0
waited=0
while [ "$waited" -lt "$1" ] && kill -0 "$child" 2> /dev/null; do
    sleep 1
    waited=$((waited + 1))
done
kill -KILL "$child" 2> /dev/null
"""
# Standard input is the pipe; exec keeps the id and closes the pipe.
_INTRODUCE = 'echo "$$" >&0; exec "$@" < /dev/null'


class TiedProcess:
    """A running child. ``returncode`` is that of subprocess: None while it runs, negative for the signal that ended it."""

    def __init__(
        self, command: Sequence[str], *, cwd: Path, env: Mapping[str, str], output: IO[bytes], grace_s: int, inherit: Sequence[int] = ()
    ) -> None:
        """
        Start ``command``, with standard output and error going to ``output``.

        Args:    grace_s: what the child has between TERM and KILL when the parent is gone.
                 inherit: descriptors that the child keeps open under the same number.
        Raises:  OSError: no process can be started.
        """
        self._dismissing = threading.Lock()
        read_end, self._pipe = os.pipe()
        try:
            self._watcher = self._start_watcher(read_end, grace_s)
        except BaseException:
            os.close(self._pipe)
            raise
        finally:
            os.close(read_end)
        _open_pipes.add(self)
        try:
            self._child = subprocess.Popen(  # noqa: S603 - a command of ours, passed as words, never read by the shell
                [SHELL, "-c", _INTRODUCE, SHELL, *command],
                stdin=self._pipe,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=cwd,
                env=dict(env),
                pass_fds=inherit,
                start_new_session=True,
            )
        except BaseException:
            self._dismiss_watcher()
            raise

    @property
    def pid(self) -> int:
        """The child's process id; after its end it may belong to somebody else."""
        return self._child.pid

    @property
    def watcher_pid(self) -> int:
        """The watcher's process id."""
        return self._watcher.pid

    def poll(self) -> int | None:
        """The exit code once the child has ended; it is then no zombie any more, and the watcher is gone."""
        code = self._child.poll()
        if code is not None:
            self._dismiss_watcher()
        return code

    def wait(self, timeout_s: float | None) -> int | None:
        """Wait for the end, at most ``timeout_s`` (None: for ever); None when it still runs."""
        try:
            self._child.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return None
        return self.poll()

    def send(self, number: signal.Signals) -> None:
        """Signal the child; does nothing when it has ended."""
        self._child.send_signal(number)

    def close_in_fork(self) -> None:
        """A copy of the parent made by a plain fork must not keep the pipe open."""
        if self._pipe >= 0:
            os.close(self._pipe)
            self._pipe = -1

    def _start_watcher(self, read_end: int, grace_s: int) -> subprocess.Popen[bytes]:
        return subprocess.Popen(  # noqa: S603 - all of it stands here
            [SHELL, "-c", _WATCH, SHELL, str(grace_s)],
            stdin=read_end,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            env={"PATH": os.defpath},
            start_new_session=True,
        )

    def _dismiss_watcher(self) -> None:
        with self._dismissing:
            if self._pipe < 0:
                return
            with contextlib.suppress(BrokenPipeError):  # somebody ended the watcher
                os.write(self._pipe, b"\n\n")  # the first stands for the id when the child never came to say it
            os.close(self._pipe)
            self._pipe = -1
            try:
                self._watcher.wait(WATCHER_END_S)
            except subprocess.TimeoutExpired:
                self._watcher.kill()
                self._watcher.wait()


_open_pipes: weakref.WeakSet[TiedProcess] = weakref.WeakSet()


def _close_in_fork() -> None:
    for process in _open_pipes:
        process.close_in_fork()


os.register_at_fork(after_in_child=_close_in_fork)
