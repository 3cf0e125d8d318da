"""Runs tasks of lm-evaluation-harness on a bundle, through a folder for Hugging Face in a scratch place."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

from mypt.checkpoint.manager import Loaded
from mypt.errors import InputError, MyptError, UsageError
from mypt.exchange.hf.folder import HFModel, write
from mypt.exchange.homes import home_or_code
from mypt.model.network import Network
from mypt.run.exchange.harness import ENDINGS, TaskCall, TaskResult


def check_tasks(tasks: Sequence[str]) -> None:
    """Make sure that tasks can be run, as far as that is known without lm_eval.

    Raises:
        UsageError: it is not installed, or there is no such file.
    """
    for task in tasks:
        if task.endswith(ENDINGS) and not Path(task).is_file():
            raise InputError(f"The file {task} of a task does not exist.", "Check the path and its spelling.")
    if find_spec("lm_eval") is None:
        raise UsageError("Tasks need lm_eval, which is not installed.", "Install it: pip install 'mypt[eval]'.")


def run_tasks(loaded: Loaded[Network], tasks: Sequence[str], prefix: int, device: str) -> list[TaskResult]:
    """Run tasks on a model.

    Args:
        loaded: the model.
        tasks: names that lm_eval knows, or paths of YAML files.
        prefix: the token that a document begins after.
        device: where to compute.

    Raises:
        UsageError: a task or its data are not to be had.
        MyptError: lm_eval fails.
    """
    with TemporaryDirectory(prefix="mypt-") as scratch:
        folder, call, answer = (Path(scratch) / name for name in ("model", "call.json", "answer.json"))
        folder.mkdir()
        write_folder(loaded, folder)
        wanted = TaskCall(str(folder), list(tasks), loaded.model.config.block_size, prefix, device)
        call.write_text(json.dumps(asdict(wanted)), encoding="utf-8")
        done = subprocess.run(
            [sys.executable, "-m", "mypt.run.exchange.harness", str(call), str(answer)],
            capture_output=True, check=False, env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )  # fmt: skip
        if not answer.is_file():
            last = done.stderr.decode("utf-8", "replace").strip().rpartition("\n")[2] or f"exit code {done.returncode}"
            raise MyptError(f"lm_eval failed: {last}.", "Look whether the task runs with lm_eval alone.")
        told = json.loads(answer.read_text(encoding="utf-8"))
    if "error" in told:
        raise InputError(*told["error"])
    return [TaskResult(**result) for result in told["results"]]


def write_folder(loaded: Loaded[Network], folder: Path) -> None:
    """Write the folder that tasks are run on, in fp32, with mypt's own class where transformers has none."""
    home = home_or_code(loaded.model.config)
    write(folder, HFModel(loaded.model.state_dict(), loaded.model.config, loaded.tokenizer, home=home))
