"""The events that a session writes into its log, each made from the state and what was measured."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from mypt.model.cost import parameter_count, rows_at_once
from mypt.schema.files.events import (
    BatchSkipped,
    Eval,
    GoldBlocked,
    GoldCheckpoint,
    OutputLost,
    PhaseSwitch,
    Step,
    TrainingComplete,
    TrainingStart,
    TrainingStopped,
    timestamp,
)
from mypt.schema.files.optimizer import REPLACED_SETTINGS
from mypt.schema.files.run_config import ModelRecord, RunConfigRecord
from mypt.schema.files.state import TrainingState
from mypt.train.evaluation.gold import Decision
from mypt.train.optim.optimizer import Optimizer
from mypt.train.throughput import Clock, Throughput

if TYPE_CHECKING:
    from mypt.train.device.async_check import StepResult
    from mypt.train.evaluation.evaluate import Measured
    from mypt.train.step import Stepper


def training_start(at: str, stepper: "Stepper", state: TrainingState, compile_reason: str) -> TrainingStart:
    """The event that says with which settings and which model a session starts.

    Args:
        at: timestamp of the start.
        stepper: the model, and the precision that is in effect, not only asked for.
        state: the settings and the data.
        compile_reason: why the model is compiled or not.
    """
    config, training, data = stepper.model.config, state.training_config, state.data
    as_in_effect = {"warmup_iters", "use_amp", "rows_at_once"}
    settings = training.model_dump(include=set(RunConfigRecord.model_fields) - as_in_effect)
    if not isinstance(stepper.optimizer, Optimizer):
        cls = type(stepper.optimizer)
        settings |= dict.fromkeys(REPLACED_SETTINGS) | {"optimizer": f"{cls.__module__}.{cls.__qualname__}"}
    from_text = data is not None and data.dataset_dir is None
    return TrainingStart(
        timestamp=at,
        config=RunConfigRecord(
            **settings,
            warmup_iters=training.warmup_steps,
            use_amp=stepper.precision.enabled,
            batch_size=config.batch_size,
            block_size=config.block_size,
            tokens_per_step=config.batch_size * config.block_size * training.grad_accum_steps,
            config_file=state.config_file,
            dataset_dir=data.dataset_dir if data else None,
            input_file=[s.path for s in data.sources] if data and from_text else None,
            tokenization=data.tokenization if data else None,
            sampling=data.sampling if data else None,
            dropout=config.dropout,
            rows_at_once=rows_at_once(config, training),
            processes=stepper.group.size,
            torch_compile_reason=compile_reason,
            preset=state.preset,
            device=config.device,
            fingerprint=data.fingerprint if data else None,
            masked=data.masked if data else None,
            tokenizer_size=stepper.data.primary.tokenizer.vocab_size,
        ),
        model=ModelRecord(
            total_params=parameter_count(config),
            **config.model_dump(include=set(ModelRecord.model_fields) - {"total_params"}),
        ),
    )


def evaluation(
    state: TrainingState, measured: Mapping[str, "Measured"], clock: Clock, rates: Throughput, lr: float, phase: str
) -> Eval:
    """The event of an evaluation at the state's step.

    Args:
        state: already brought up to the step.
        measured: every set that was measured, by name; `train` and `val` among them.
        clock: of the session.
        rates: of the session.
        lr: learning rate of the step.
        phase: the step's phase.
    """
    further = {name: m for name, m in measured.items() if name not in ("train", "val")}
    losses = {f"eval_{name}": m.loss for name, m in further.items()}
    errors = {f"{name}_se": m.se for name, m in further.items()}
    bits = {f"{name}_bpb": m.bpb for name, m in further.items()}
    return Eval(
        **_reached(state, clock),
        progress_pct=100 * state.step / state.training_config.max_iters,
        lr=lr,
        phase=phase,
        val_loss=measured["val"].loss,
        eval_duration_s=clock.latest["evaluating"],
        train_loss=measured["train"].loss,
        val_se=measured["val"].se,
        val_bpb=measured["val"].bpb,
        train_se=measured["train"].se,
        tokens_per_sec=round(rates.tokens_per_sec),
        tflops=rates.tflops,
        mfu=rates.mfu,
        **losses,
        **errors,
        **bits,
    )


def step(result: "StepResult", lr: float, tokens_per_sec: float) -> Step:
    """The event of a single step."""
    return Step(
        iter=result.step + 1,
        timestamp=timestamp(),
        loss=result.loss,
        lr=lr,
        grad_norm=result.grad_norm,
        tokens_per_sec=round(tokens_per_sec),
    )


def batch_skipped(result: "StepResult", windows: list[list[int]]) -> BatchSkipped:
    """The event of a step that was left out, with the first token of each window of its micro-batches."""
    return BatchSkipped(
        iter=result.step + 1, timestamp=timestamp(), loss=None if result.empty else str(result.loss), windows=windows
    )


def gold_decided(decision: Decision, step: int, val_loss: float) -> GoldCheckpoint | GoldBlocked | None:
    """The event of a gold decision; None if the loss was no better."""
    if decision.kind == "gold":
        return GoldCheckpoint(iter=step, timestamp=timestamp(), val_loss=val_loss, prev_best=decision.best)
    if decision.reason is None:
        return None
    return GoldBlocked(
        iter=step, timestamp=timestamp(), val_loss=val_loss, best_val_loss=decision.best, reason=decision.reason
    )


def output_lost(step: int, reason: str) -> OutputLost:
    """The event that what a run reports cannot be shown any more."""
    return OutputLost(iter=step, timestamp=timestamp(), reason=reason)


def phase_switch(state: TrainingState, clock: Clock, new_phase: str) -> PhaseSwitch:
    """The event that a phase of the curriculum takes over."""
    return PhaseSwitch(**_reached(state, clock), new_phase=new_phase)


def training_stopped(state: TrainingState, clock: Clock, reason: str) -> TrainingStopped:
    """The event of a session that ends before max_iters."""
    return TrainingStopped(**_reached(state, clock), reason=reason)


def training_complete(state: TrainingState, clock: Clock, rates: Throughput, restarts: int) -> TrainingComplete:
    """The closing event of a run; rates are of this session's training time alone.

    Args:
        state: at the end.
        clock: of the session.
        rates: of the session.
        restarts: how often the processes of the job were started anew by then.
    """
    progress = state.progress
    steps = state.step - state.training_config.start_step
    rate = steps / clock.training if clock.training else 0.0
    return TrainingComplete(
        timestamp=timestamp(),
        started_at=clock.started_at,
        total_elapsed_s=clock.elapsed,
        total_elapsed_h=clock.elapsed / 3600,
        total_steps=state.step,
        total_tokens=progress.tokens_processed,
        steps_per_sec=rate,
        tokens_per_sec=round(rates.tokens_per_sec),
        final_train_loss=progress.last_train_loss,
        final_val_loss=progress.last_val_loss,
        best_val_loss=progress.best_val_loss,
        gold_step=progress.gold.step,
        config_file=state.config_file,
        dataset_dir=state.data.dataset_dir if state.data else None,
        training_s=clock.training,
        eval_s=clock.evaluating,
        save_s=clock.saving,
        restarts=restarts,
        tflops=rates.tflops,
        mfu=rates.mfu,
    )


def _reached(state: TrainingState, clock: Clock) -> dict[str, Any]:
    """How far a session is, and when: the fields that several events begin with."""
    return {
        "iter": state.step, "timestamp": timestamp(), "elapsed_s": clock.elapsed,
        "tokens_processed": state.progress.tokens_processed,
    }  # fmt: skip
