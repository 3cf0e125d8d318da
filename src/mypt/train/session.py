"""A training session put together: from a model, data and a state to a `Trainer`, in one place for all who train."""

from uuid import uuid4

from mypt.checkpoint.layout import OPTIMIZER_FILE
from mypt.checkpoint.manager import AnyOptimizer, CheckpointManager
from mypt.commit import git_commit
from mypt.errors import ConfigError
from mypt.log.writer import RunLog
from mypt.model.network import Network
from mypt.schema.files.environment import Environment
from mypt.schema.files.events import timestamp
from mypt.schema.files.state import SessionRecord, TrainingState
from mypt.schema.settings.config import GPTConfig
from mypt.schema.settings.training import TrainingConfig
from mypt.train.device.async_check import AsyncCheck
from mypt.train.device.async_save import AsyncSaver
from mypt.train.device.precision import Precision, precision_in_effect
from mypt.train.documents import check_documents, separator_of
from mypt.train.evaluation.masks import check_counted
from mypt.train.evaluation.measure import measures_of
from mypt.train.evaluation.sample import check_prompt
from mypt.train.keeper import Keeper
from mypt.train.loop import Trainer
from mypt.train.observer import Observer
from mypt.train.optim.given import build_given
from mypt.train.optim.optimizer import Optimizer, build_optimizer
from mypt.train.run_data import RunData
from mypt.train.step import Earlier, Stepper


def assemble(
    model: Network,
    data: RunData,
    state: TrainingState,
    observer: Observer,
    *,
    checkpoint: CheckpointManager | None = None,
    log: RunLog | None = None,
    optimizer: AnyOptimizer | None = None,
    restore: Earlier | None = None,
) -> Trainer:
    """Put a session together.

    Args:
        model: on its device, with the weights of the state's step; one that is to be shared out may be elsewhere.
        data: what is trained on and measured.
        state: as `open_session` gives it.
        observer: who watches.
        checkpoint: where to save; None saves nothing.
        log: where events go; None logs nothing.
        optimizer: the caller's own; by default the one that the state names.
        restore: what the optimizer is given of an earlier session, by `Stepper.restore` or as the session begins; None
            starts without moments.

    Raises:
        ConfigError: nothing is left to train, or the tokenizer does not know the prompt of samples.
        InputError: a loss mask leaves nothing to learn, or to measure.
        BundleError: the recorded optimizer cannot be built here.
    """
    training = state.training_config
    for line in data.left_out:
        observer.notice(line)
    check_counted(data, training)
    check_prompt(training, data.primary.tokenizer)
    apply_settings(model, state)
    model.separator = separator_of(training, data.primary.tokenizer)
    if model.separator is not None:
        check_documents(data, model.separator)
    optimizer = optimizer or optimizer_of(model, state)
    if not any(p.requires_grad for group in optimizer.param_groups for p in group["params"]):
        raise ConfigError("Every weight that the optimizer would move is frozen.", "Freeze less.")
    device = model.config.device
    precision = Precision.of(training, device)
    ahead = may_run_ahead(device, precision, optimizer)
    check = AsyncCheck() if ahead else None
    stepper = Stepper(model, data, optimizer, precision, state, model.loss, check, earlier=restore)
    keeper = Keeper(stepper, checkpoint, AsyncSaver(beside=device.startswith("cuda")), observer)
    return Trainer(stepper, state, observer, keeper, log)


def may_run_ahead(device: str, precision: Precision, optimizer: AnyOptimizer) -> bool:
    """Whether steps can be launched before the results of those before them are known.

    The optimizer has to leave a step out by itself where it is not finite, and a loss scale adapts on the host.
    """
    return device.startswith("cuda") and isinstance(optimizer, Optimizer) and not precision.scaler.is_enabled()


def optimizer_of(model: Network, state: TrainingState) -> AnyOptimizer:
    """The optimizer of a run, without moments: the recorded one of a caller, or the one that the settings name.

    Raises:
        BundleError: the recorded one cannot be built here.
    """
    if state.optimizer is None:
        return build_optimizer(model, state.training_config)
    return build_given(model, state.optimizer)


def apply_settings(model: Network, state: TrainingState) -> None:
    """Freeze what the state freezes, and let the model recompute activations if the settings ask for it.

    A token embedding that is tied to the output layer freezes that too.
    """
    training = state.training_config
    model.use_checkpoint = training.use_checkpoint
    frozen = [*model.blocks[: training.freeze_layers]]
    if training.freeze_embeddings:
        frozen += [m for m in (model.token_embedding, model.position_embedding) if m is not None]
    for module in frozen:
        module.requires_grad_(False)
    for name in state.frozen:
        model.get_parameter(name).requires_grad_(False)


def check_freezing(config: GPTConfig, training: TrainingConfig) -> None:
    """Make sure that there are as many layers as are to be frozen.

    Raises:
        ConfigError: there are fewer.
    """
    if training.freeze_layers > config.n_layer:
        raise ConfigError(
            f"freeze_layers {training.freeze_layers} is more than the {config.n_layer} layers of the model.",
            "Give at most that many.",
        )


def first_state(training: TrainingConfig, data: RunData, name: str | None, log_file: str | None) -> TrainingState:
    """The state of a run before its first session; `name` is None where nothing is saved."""
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
        name=name,
    )


def open_session(
    state: TrainingState,
    training: TrainingConfig,
    environment: Environment,
    config: GPTConfig,
    data: RunData,
    command: tuple[str, ...] = (),
) -> TrainingState:
    """The state in which a session takes over at the state's step.

    Args:
        state: as the session before left it.
        training: the settings.
        environment: what the session runs on.
        config: the architecture.
        data: what is trained on and measured.
        command: the words of the call.
    """
    training = training.model_copy(update={"start_step": state.step})
    session = SessionRecord(
        start_step=state.step,
        training_config=training,
        environment=environment,
        command=command,
        started_at=timestamp(),
        git_commit=git_commit(),
        eval_sets=state.eval_sets,
        evaluation_owed=state.evaluation_pending,
        measures=measures_of(
            data.primary.record,
            {name: loader.record for name, loader in data.eval_sets.items()},
            config,
            training,
            precision_in_effect(training, config.device),
        ),
    )
    return state.with_session(session).model_copy(
        update={
            "training_config": training,
            "environment": environment,
            "model_dtype": training.save_dtype,
            "exact_resume": state.exact_resume and training.save_dtype == "fp32",
        }
    )
