"""``python -m livehook``."""

import sys

from livehook.cli import main

sys.exit(main())
