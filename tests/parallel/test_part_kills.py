"""Processes that save a bundle in parts, killed at each write; they are forked, so that this needs no torchrun."""

import json
import subprocess
import sys

from tests.parallel.conftest import ROOT, environment


def test_processes_that_save_in_parts_may_be_killed_at_each_write() -> None:
    call = [sys.executable, "-m", "tests.parallel.kills"]
    done = subprocess.run(call, cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["faults"] == []
    assert found["points"][0] > 100 and found["points"][1] > 10 and found["states"] > 20 and found["tried"] > 20
    assert {"write", "flush", "mkdir"} <= {*found["kinds"][1]} and "switch" in found["kinds"][0]
