"""The process in which lm-evaluation-harness runs: what it and its libraries print, log and seed stays there."""

import hashlib
import json
import sys
import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from math import isfinite
from pathlib import Path
from typing import Any

from mypt.errors import InputError, did_you_mean

BOOTSTRAPS = 1000
"""Samples by which lm_eval finds the standard error of a metric that has no formula for it."""


ENDINGS = (".yaml", ".yml")
"""Of a task's name that is the path of its file."""
_UNKNOWN = "Missing [UNK] token"
"""What tokenizers says of a character for which a vocabulary has no token."""


@dataclass(frozen=True)
class TaskCall:
    """What is to be run.

    Attributes:
        folder: the model, as a folder for Hugging Face.
        tasks: names that lm_eval knows, or paths of YAML files.
        block_size: the most tokens that the model sees.
        prefix: the token that a document begins after.
        device: where to compute.
    """

    folder: str
    tasks: list[str]
    block_size: int
    prefix: int
    device: str


@dataclass(frozen=True)
class TaskResult:
    """What a task, or a group of tasks, came to.

    Attributes:
        sha256: hash of its prompts, of what is expected, and of the names of its metrics.
        samples: how many there are.
        metrics: figures by name, such as `acc` and `acc_stderr`.
    """

    name: str
    sha256: str
    samples: int
    metrics: dict[str, float]


def run(call: TaskCall) -> list[TaskResult]:
    """Run tasks on a model in fp32.

    Raises:
        InputError: there is no such task, a file describes none, its data are not here and cannot be fetched, or they
            have characters that the model does not know.
    """
    from lm_eval import simple_evaluate
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    manager = TaskManager(include_defaults=not all(task.endswith(ENDINGS) for task in call.tasks))
    for task in call.tasks:
        _check(manager, task)
    model = HFLM(
        call.folder, device=call.device, dtype="float32", batch_size=8, max_length=call.block_size,
        prefix_token_id=call.prefix, trust_remote_code=True,
    )  # fmt: skip
    try:
        found = simple_evaluate(
            model, tasks=call.tasks, task_manager=manager, bootstrap_iters=BOOTSTRAPS, log_samples=True
        )
    except Exception as error:
        if _UNKNOWN not in str(error):
            raise
        raise InputError(
            f"The task has characters that the vocabulary of the model does not know: {', '.join(call.tasks)}.",
            "Run it on a model whose tokenizer, gpt2 or bpe, knows every text.",
        ) from error
    return [_result(name, metrics, found["samples"]) for name, metrics in found["results"].items()]


def _check(manager: Any, task: str) -> None:
    if not task.endswith(ENDINGS) and task not in manager.all_tasks:
        raise InputError(
            f"There is no task {task!r}{did_you_mean(task, manager.all_tasks)}",
            "Give a name that lm_eval knows (`lm-eval ls tasks` lists them), or the path of a task's .yaml file.",
        )
    try:
        manager.load([task])
    except ConnectionError as error:
        raise InputError(
            f"The data of the task {task} are not on this machine, and the network does not give them: {error}.",
            "Call it once where there is a network, or give a .yaml file of a task whose data are local.",
        ) from error
    except Exception as error:  # lm_eval and datasets raise what they like
        told = str(error).splitlines()[0].rstrip(".") if str(error) else type(error).__name__
        raise InputError(f"The task {task} cannot be loaded: {told}.", "Mend its .yaml file or its data.") from error


def _result(name: str, metrics: Mapping[str, Any], samples: Mapping[str, Any]) -> TaskResult:
    """One entry of lm_eval's results; a group has no samples of its own but those of all tasks."""
    of = [name] if name in samples else sorted(samples)
    figures = {n.replace(",none", ""): v for n, v in metrics.items() if n not in ("alias", "sample_len")}
    known = {n: float(v) for n, v in figures.items() if isinstance(v, int | float) and isfinite(v)}
    rows = [[s["prompt_hash"], s["target_hash"]] for task in of for s in samples[task]]
    content = json.dumps([rows, sorted(known)])
    return TaskResult(name, hashlib.sha256(content.encode()).hexdigest(), len(rows), known)


def main(call: str, answer: str) -> None:
    """Do what the file `call` asks for, and write what came of it, or why nothing did, to `answer`."""
    warnings.simplefilter("ignore")
    try:
        told: Any = {"results": [asdict(r) for r in run(TaskCall(**json.loads(Path(call).read_text("utf-8"))))]}
    except InputError as error:
        told = {"error": [error.what, error.todo]}
    Path(answer).write_text(json.dumps(told), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
