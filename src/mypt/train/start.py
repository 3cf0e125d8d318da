"""The opening event of a run's log."""

from mypt.schema.arithmetic import parameter_count
from mypt.schema.config import GPTConfig
from mypt.schema.events import ModelRecord, RunConfigRecord, TrainingStart
from mypt.schema.state import TrainingState


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
