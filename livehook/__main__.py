"""
``livehook`` and ``python -m livehook``.

A role that is told to end while it is still being imported ends as it does later, with 0: so that comes before everything else.
"""

import signal
import sys
from types import FrameType

ROLES = frozenset({"api", "broker", "dev", "sink", "streams"})


def main() -> int:
    """Run the command line."""
    if ROLES.intersection(sys.argv[1:2]):
        signal.signal(signal.SIGTERM, _end)  # until the role listens for it
    from livehook import cli

    return cli.main()


def _end(_: int, __: FrameType | None) -> None:
    sys.exit(0)


if __name__ == "__main__":
    sys.exit(main())
