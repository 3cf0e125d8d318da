"""`mypt` with a fault in one of its processes, for torchrun: FAULT is KIND:RANK:STEP.

With `ahead:` before it, all processes launch steps before the results of those before are known, as on a GPU; with
`bf16:` they take their CPU for one that has bf16, with `large:` any model for one that is saved in parts.
"""

import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from mypt.cli.app import main
from mypt.data.loader import Batch, GPTDataLoader
from mypt.errors import InputError
from mypt.launch import Launch
from mypt.train import session
from mypt.train.device import precision
from mypt.train.parallel import disk
from mypt.train.step import Stepper
from tests.conftest import fill_the_disk

*EVERYWHERE, KIND, RANK, STEP = os.environ["FAULT"].split(":")
PATCH = pytest.MonkeyPatch()
real_micro_step, real_batch = Stepper.micro_step, GPTDataLoader.batch


def micro_step(self: Stepper, step: int, micro: int, batch: Batch, counted: int) -> torch.Tensor:
    """The micro-step, before which something happens to this process, where it is not only timed."""
    if step != int(STEP) or self.optimizer.param_groups[0]["lr"] == 0:
        return real_micro_step(self, step, micro, batch, counted)
    if KIND == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if KIND == "hang":
        end_when_told()
        os.kill(os.getpid(), signal.SIGSTOP)
    if KIND in ("SIGTERM", "SIGUSR1", "twice"):
        os.kill(os.getpid(), getattr(signal, KIND, signal.SIGTERM))
    if KIND == "twice":
        time.sleep(0.4)
        os.kill(os.getpid(), signal.SIGTERM)
    if KIND == "data":
        raise InputError("The shard train_0.npy cannot be read any more.", "Bring it back.")
    if KIND == "bug":
        raise RuntimeError("a shape that nobody expected")
    loss = real_micro_step(self, step, micro, batch, counted)
    return loss * math.nan if KIND == "nan" else loss


def end_when_told() -> None:
    """Let what torchrun sends to all that this process has started end it, though it is stopped.

    Before it kills one that does not end, torchrun waits half a minute, whatever its --shutdown-timeout.
    """
    script = f"trap 'kill -9 {os.getpid()}' TERM; sleep 600 & wait"
    subprocess.Popen(["sh", "-c", script], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def other_batch(self: GPTDataLoader, index: int) -> Batch:
    """Windows that are not those of the seed."""
    return real_batch(self, index + 1)


def not_there(path: Path) -> bytes:
    """What another host finds of a file that is on the disk of the first."""
    raise FileNotFoundError(path)


launch = Launch.of()
if "ahead" in EVERYWHERE:
    PATCH.setattr(session, "may_run_ahead", lambda *_: True)
if "bf16" in EVERYWHERE:
    PATCH.setattr(precision, "_cpu_has_bf16", lambda: True)
if "large" in EVERYWHERE:
    PATCH.setattr(disk, "LARGEST_WHOLE", 0)
if launch.rank == int(RANK) and not launch.restarts:
    if KIND == "disk":
        fill_the_disk(PATCH)
    elif KIND == "windows":
        PATCH.setattr(GPTDataLoader, "batch", other_batch)
    elif KIND == "elsewhere":
        PATCH.setattr(disk, "PATIENCE_S", 0.2)
        PATCH.setattr(disk, "read_regular", not_there)
    else:
        PATCH.setattr(Stepper, "micro_step", micro_step)
sys.argv[0] = "mypt"
main()
