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

from safetensors.torch import save_file

from mypt.checkpoint.manager import Loaded
from mypt.errors import InputError, MyptError, UsageError
from mypt.exchange.hf.config import to_hf as to_hf_config
from mypt.exchange.hf.tokenizer import tokenizer_config, tokenizer_json
from mypt.exchange.hf.weights import to_hf
from mypt.exchange.homes import home_of
from mypt.model.network import Network
from mypt.run.exchange.harness import ENDINGS, TaskCall, TaskResult
from mypt.schema.files.tokenizer import END_OF_TEXT


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
        UsageError: the model has no home in transformers, or a task or its data are not to be had.
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
    """Write the folder for Hugging Face that tasks are run on, in fp32.

    Raises:
        UsageError: the model has no home there.
    """
    config = loaded.model.config
    try:
        home = home_of(config, "hf")
    except UsageError as error:
        raise UsageError(error.what, "Measure it on a text with --input-file, which any model can be.") from error
    end = loaded.tokenizer.file.special_ids.get(END_OF_TEXT)
    files = {
        "config.json": json.dumps(to_hf_config(config, home, "fp32", end)),
        "tokenizer.json": loaded.tokenizer.file.hf or json.dumps(tokenizer_json(loaded.tokenizer)),
        "tokenizer_config.json": json.dumps(tokenizer_config(loaded.tokenizer, config.block_size)),
    }
    for name, content in files.items():
        (folder / name).write_text(content, encoding="utf-8")
    weights = to_hf({n: w.cpu() for n, w in loaded.model.state_dict().items()}, config, home)
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
