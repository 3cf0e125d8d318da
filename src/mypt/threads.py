"""How the threads that compute wait for each other."""

import os

SPINS = "1000"
"""About as long as the next task of the same step takes to come: `benchmarks/together.py`."""


def wait_briefly() -> None:
    """Let a thread that waits for the others of its process give its core away soon, to whatever else is running.

    By default GNU's OpenMP, on which torch computes under Linux, spins for milliseconds: where another process has the
    core of the thread that is waited for, the two slow each other up to 30-fold. It reads this as torch is loaded;
    whoever has set `OMP_WAIT_POLICY` or `GOMP_SPINCOUNT` keeps the say.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", SPINS)
