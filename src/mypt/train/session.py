"""How a run and each of its sessions begin: the first state, and the session's record."""

import shutil
import subprocess
from typing import TYPE_CHECKING
from uuid import uuid4

from mypt.checkpoint.layout import OPTIMIZER_FILE
from mypt.schema.files.events import timestamp
from mypt.schema.files.state import Environment, SessionRecord, TrainingState
from mypt.schema.settings.training import TrainingConfig

if TYPE_CHECKING:
    from mypt.train.run_data import RunData


def first_state(training: TrainingConfig, data: "RunData", log_file: str | None) -> TrainingState:
    """The state of a run before its first session."""
    return TrainingState(
        step=0,
        optimizer_file=OPTIMIZER_FILE,
        training_config=training,
        exact_resume=training.save_dtype == "fp32",
        model_dtype=training.save_dtype,
        data=data.primary.record,
        eval_sets={name: loader.record for name, loader in data.eval_sets.items()},
        log_file=log_file,
        run_id=uuid4().hex[:12],
    )


def open_session(
    state: TrainingState, training: TrainingConfig, environment: Environment, command: tuple[str, ...] = ()
) -> TrainingState:
    """The state in which a session with these settings takes over at the state's step."""
    training = training.model_copy(update={"start_step": state.step})
    session = SessionRecord(
        start_step=state.step,
        training_config=training,
        environment=environment,
        command=command,
        started_at=timestamp(),
        git_commit=_git_commit(),
        eval_sets=state.eval_sets,
    )
    return state.with_session(session).model_copy(
        update={
            "training_config": training,
            "environment": environment,
            "model_dtype": training.save_dtype,
            "exact_resume": state.exact_resume and training.save_dtype == "fp32",
        }
    )


def _git_commit() -> str | None:
    """The commit of the working folder, with `+` if files in it were changed; None outside git."""
    if shutil.which("git") is None:
        return None
    try:
        head, changed = (
            subprocess.run(["git", *call], capture_output=True, text=True, timeout=5, check=True).stdout.strip()
            for call in (("rev-parse", "HEAD"), ("status", "--porcelain", "--untracked-files=no"))
        )
    except (subprocess.SubprocessError, OSError):
        return None
    return head + ("+" if changed else "")
