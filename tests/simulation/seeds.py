"""Which seeds a run of the simulations tries."""

import os
import time

FIRST = int(os.environ.get("LIVEHOOK_SIM_SEED") or time.time_ns() // 1_000 % 1_000_000_000)
COUNT = int(os.environ.get("LIVEHOOK_SIM_SEEDS") or (2_000 if os.environ.get("CI") else 500))
