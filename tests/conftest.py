"""Settings for all tests."""

import os

# The networks of the tests are tiny: more threads only get into each other's way. Set before torch
# is imported, and handed down to the processes that tests start.
os.environ.setdefault("OMP_NUM_THREADS", "1")
