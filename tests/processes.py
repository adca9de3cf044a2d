"""Other processes, seen from a test."""

from __future__ import annotations

import os
import time
from pathlib import Path

PATIENCE_S = 20.0
_LOOK_AGAIN_S = 0.01


def runs(pid: int) -> bool:
    """Whether the process still runs; a zombie that nobody has collected does not."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    stat = Path(f"/proc/{pid}/stat")
    try:
        return stat.read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:  # macOS, where init collects at once; or it ended just now
        return not Path("/proc/self/stat").exists()


def ends(pid: int) -> bool:
    """Whether the process ends within PATIENCE_S."""
    deadline = time.monotonic() + PATIENCE_S
    while runs(pid):
        if time.monotonic() > deadline:
            return False
        time.sleep(_LOOK_AGAIN_S)
    return True
