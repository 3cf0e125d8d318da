"""How a run and each of its sessions begin: the first state, the session's record, the opening event."""

import shutil
import subprocess
from uuid import uuid4

from mypt.record.bundle import OPTIMIZER_FILE
from mypt.schema.arithmetic import parameter_count
from mypt.schema.config import GPTConfig
from mypt.schema.events import ModelRecord, RunConfigRecord, TrainingStart, timestamp
from mypt.schema.state import DataRecord, Environment, SessionRecord, TrainingState
from mypt.schema.training import TrainingConfig


def first_state(training: TrainingConfig, data: DataRecord, log_file: str | None) -> TrainingState:
    """The state of a run before its first session."""
    return TrainingState(
        step=0,
        optimizer_file=OPTIMIZER_FILE,
        training_config=training,
        exact_resume=training.save_dtype == "fp32",
        model_dtype=training.save_dtype,
        data=data,
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


def training_start(at: str, config: GPTConfig, state: TrainingState, use_amp: bool) -> TrainingStart:
    """The event that says with which settings and which model a session starts.

    Args:
        at: timestamp of the start.
        config: the architecture.
        state: the settings and the data.
        use_amp: whether half precision is in effect, not only asked for.
    """
    training, data = state.training_config, state.data
    settings = training.model_dump(exclude={"warmup_iters", "use_amp", "save_dtype"})
    return TrainingStart(
        timestamp=at,
        config=RunConfigRecord(
            **settings,
            warmup_iters=training.warmup_steps,
            use_amp=use_amp,
            batch_size=config.batch_size,
            block_size=config.block_size,
            tokens_per_step=config.batch_size * config.block_size * training.grad_accum_steps,
            config_file=state.config_file,
            dataset_dir=None,
            input_file=[s.path for s in data.sources] if data else None,
            tokenization=data.tokenization if data else None,
            dropout=config.dropout,
            preset=state.preset,
            device=config.device,
        ),
        model=ModelRecord(
            total_params=parameter_count(config),
            **config.model_dump(include=set(ModelRecord.model_fields) - {"total_params"}),
        ),
    )
