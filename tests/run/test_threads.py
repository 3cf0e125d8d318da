"""Threads that wait for each other give their cores away, unless whoever calls has said otherwise."""

import os
import subprocess
import sys

import pytest

from mypt.threads import SPINS

CALL = """
import contextlib, os, sys
from mypt.cli.app import main
with contextlib.suppress(SystemExit):
    main()
print("torch" in sys.modules, os.environ.get("GOMP_SPINCOUNT"))
"""
"""A call of mypt, which sets what torch reads once, as it is loaded later on."""


@pytest.mark.parametrize(
    ("given", "spins"),
    [({}, SPINS), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "active"}, None)],
)
def test_threads_wait_briefly_unless_the_caller_says_how(given: dict[str, str], spins: str | None) -> None:
    kept = {name: value for name, value in os.environ.items() if name not in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")}
    done = subprocess.run(
        [sys.executable, "-c", CALL, "presets"], capture_output=True, encoding="utf-8", env=kept | given
    )
    assert done.stdout.splitlines()[-1] == f"False {spins}", done.stderr
