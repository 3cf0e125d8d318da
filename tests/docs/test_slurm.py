"""The sbatch script does what docs/scale.md says: played through with commands that write down what they get."""

import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from argparse import Namespace
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from torch.distributed.run import get_args_parser

from mypt.checkpoint.files import read_state
from tests.parallel.conftest import SHARED, environment

SCRIPT = Path(__file__).parents[2] / "examples" / "train.sbatch"
pytestmark = pytest.mark.skipif(os.name == "nt" or not shutil.which("bash"), reason="needs bash")

STUBS = {
    "scontrol": """
echo "scontrol $*" >> "$CALLS"
[[ $1 != show ]] || printf "${HOST:-n%s}\\n" $(seq 4 $((3 + SLURM_JOB_NUM_NODES)))
""",
    "srun": """
echo "srun $*" >> "$CALLS"
while [[ $1 == --* ]]; do shift; done
tasks=()
trap 'kill -s USR1 "${tasks[@]}" 2>/dev/null' USR1
for ((node = 0; node < SLURM_JOB_NUM_NODES; node++)); do SLURM_NODEID=$node "$@" & tasks+=($!); done
code=0
for task in "${tasks[@]}"; do
    while kill -0 "$task" 2>/dev/null; do wait "$task"; last=$?; done
    ((last == 0)) || code=$last
done
exit $code
""",
    "torchrun": """
trap 'sleep 0.3; echo "saved on $SLURM_NODEID" >> "$CALLS"; exit 1' USR1
echo "torchrun $(printf '%q ' "$@")" >> "$CALLS"
while [[ $ENDS == never ]]; do sleep 0.05; done
exit "$ENDS"
""",
}
"""What stands for Slurm, and for a torchrun that ends with a code, or trains on until it is told to save."""


class Job:
    """A job as Slurm would start it."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.log = folder, folder / "calls"
        self.started: list[subprocess.Popen[bytes]] = []
        for name, body in STUBS.items():
            (folder / name).write_text(f"#!/usr/bin/env bash\n{body}", encoding="utf-8")
            (folder / name).chmod(0o755)

    def start(self, *words: str, nodes: int = 1, ends: str = "never", **more: str) -> subprocess.Popen[bytes]:
        self.log.write_text("", encoding="utf-8")
        environ = {
            **os.environ, **more, "PATH": f"{self.folder}{os.pathsep}{os.environ['PATH']}", "CALLS": str(self.log),
            "ENDS": ends, "SLURM_JOB_ID": "31234", "SLURM_JOB_NODELIST": "n[4-5]", "SLURM_JOB_NUM_NODES": str(nodes),
        }  # fmt: skip
        self.started.append(subprocess.Popen(["bash", str(SCRIPT), *words], env=environ, start_new_session=True))
        return self.started[-1]

    def end(self) -> None:
        """Leave nothing behind of what a failed test has started."""
        for process in self.started:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def calls(self, name: str) -> list[str]:
        return [line for line in self.log.read_text(encoding="utf-8").splitlines() if line.startswith(name)]

    def torchruns(self) -> list[Namespace]:
        """The calls of torchrun, as torchrun itself understands them."""
        return [get_args_parser().parse_args(shlex.split(call)[1:]) for call in self.calls("torchrun")]


@pytest.fixture
def job(tmp_path: Path) -> Iterator[Job]:
    job = Job(tmp_path)
    yield job
    job.end()


def wait_for(what: Callable[[], bool], seconds: float = 20) -> None:
    ends = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < ends
        time.sleep(0.02)


def test_bash_understands_the_script() -> None:
    assert subprocess.run(["bash", "-n", str(SCRIPT)], check=False).returncode == 0


@pytest.mark.parametrize("nodes", [1, 2])
def test_one_torchrun_a_node_that_meet_at_the_first_and_train_what_was_asked_for(job: Job, nodes: int) -> None:
    words = ["dante", "--config-file", "my dante.json", "--lr", "1e-4"]
    assert job.start(*words, nodes=nodes, ends="0", PROCESSES="8").wait(30) == 0
    assert len(job.torchruns()) == nodes
    for args in job.torchruns():
        assert (args.nnodes, args.nproc_per_node, args.rdzv_backend) == (str(nodes), "8", "c10d")
        assert args.rdzv_endpoint == "n4:21234" and args.rdzv_id == "31234-0" and args.max_restarts == 3
        assert args.module and args.training_script == "mypt" and args.training_script_args == ["train", *words]
    assert not job.calls("scontrol requeue")


def test_processes_are_one_for_each_gpu_unless_a_number_is_given(job: Job) -> None:
    job.start("dante", ends="0").wait(30)
    assert job.torchruns()[0].nproc_per_node == "gpu"


def test_there_is_more_time_before_the_end_than_a_save_may_take(job: Job) -> None:
    job.start("dante", ends="0").wait(30)
    text = SCRIPT.read_text(encoding="utf-8")
    (told,) = (line.rpartition("@")[2] for line in text.splitlines() if line.startswith("#SBATCH --signal=B:USR1@"))
    assert job.torchruns()[0].shutdown_timeout < int(told)
    assert "SIGUSR1" in job.torchruns()[0].signals_to_handle.split(",")


def ended_by(job: Job, signum: int, nodes: int) -> Iterator[str]:
    """Let a job train until it gets a signal; what happens from there on."""
    process = job.start("dante", nodes=nodes)
    wait_for(lambda: len(job.calls("torchrun")) == nodes)
    process.send_signal(signum)
    code = process.wait(30)
    yield from [line for line in job.calls("s") if not line.startswith(("srun", "scontrol show"))]
    yield f"exit {code}"


@pytest.mark.parametrize("nodes", [1, 2])
def test_when_the_time_is_up_every_node_saves_and_then_the_job_is_queued_again(job: Job, nodes: int) -> None:
    *saved, requeued, code = ended_by(job, signal.SIGUSR1, nodes)
    assert sorted(saved) == [f"saved on {node}" for node in range(nodes)]
    assert (requeued, code) == ("scontrol requeue 31234", "exit 0")


def test_a_job_that_is_cancelled_saves_and_is_not_queued_again(job: Job) -> None:
    assert [*ended_by(job, signal.SIGTERM, 1)] == ["saved on 0", "exit 1"]


def test_a_run_that_fails_is_not_queued_again_and_its_code_is_that_of_the_job(job: Job) -> None:
    assert job.start("dante", nodes=2, ends="3").wait(30) == 3
    assert not job.calls("scontrol requeue")


def test_a_job_that_was_queued_again_meets_under_another_name(job: Job) -> None:
    job.start("dante", ends="0", SLURM_RESTART_COUNT="2").wait(30)
    assert job.torchruns()[0].rdzv_id == "31234-2"


def test_fresh_is_refused_as_it_would_start_over_each_time(job: Job) -> None:
    assert job.start("dante", "--fresh", ends="0").wait(30) == 2
    assert not job.calls("srun")


@pytest.mark.distributed
def test_two_nodes_save_when_the_time_is_up_and_go_on_when_they_are_queued_again(job: Job, folder: Path) -> None:
    """With real torchruns, one for each of two nodes that are this machine."""
    (job.folder / "torchrun").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m torch.distributed.run "$@"\n')
    call = ["dante", *SHARED, "--log-interval", "1", "--max-iters"]
    environ = {**environment(), "HOST": "localhost", "PROCESSES": "2"}
    process = job.start(*call, "100000", nodes=2, **environ)
    log = folder / "logs" / "train" / "dante_eval.jsonl"
    wait_for(lambda: log.exists() and '"step"' in log.read_text(encoding="utf-8"), seconds=100)
    process.send_signal(signal.SIGUSR1)
    assert process.wait(100) == 0 and job.calls("scontrol requeue")
    saved = read_state(folder / "checkpoints" / "dante")
    assert saved.step > 0 and saved.environment and (saved.environment.processes, saved.environment.hosts) == (4, 2)
    again = job.start(*call, str(saved.step + 2), nodes=2, SLURM_RESTART_COUNT="1", **environ)
    assert again.wait(100) == 0 and not job.calls("scontrol requeue")
    assert read_state(folder / "checkpoints" / "dante").step == saved.step + 2
