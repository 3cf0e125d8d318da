"""training_state.json: how far a run is, with which settings, on which data, and where it ran."""

from typing import Literal

from pydantic import Field

from mypt.schema.base import Record
from mypt.schema.files.tokenizer import Tokenization
from mypt.schema.settings.training import TrainingConfig

Sampling = Literal["epoch", "random"]


class SourceRecord(Record):
    """One text that was read.

    Attributes:
        path: absolute path, address, `-` for standard input, or the name of the embedded sample.
        bytes: size as read, after decompression; for a folder of shards, of all that were opened.
        sha256: hash of those bytes; for a folder of shards, its fingerprint.
    """

    path: str
    bytes: int
    sha256: str


class DataRecord(Record):
    """The data of a run, so that a resume can find it again and refuse another.

    Attributes:
        sources: the texts, in the order in which they were joined.
        fingerprint: SHA-256 of the joined text in UTF-8; for shards, over their hashes.
        characters: characters of the joined text; None for shards.
        tokenization: how it became tokens.
        train_tokens: tokens of the training split; 0 for data that are only evaluated on.
        val_tokens: tokens of the validation split.
        bpe_vocab_size: for bpe, the size that was asked for.
        dataset_dir: the folder of shards; None for a text.
        sampling: order of the training windows.
        masked: whether only the tokens count that masks name.
    """

    sources: tuple[SourceRecord, ...]
    fingerprint: str
    characters: int | None = None
    tokenization: Tokenization
    train_tokens: int
    val_tokens: int
    bpe_vocab_size: int | None = None
    dataset_dir: str | None = None
    sampling: Sampling = "random"
    masked: bool = False


class PhaseRecord(Record):
    """One phase of a curriculum.

    Attributes:
        name: shown at each evaluation.
        until_iter: step at which the next one takes over; None for the last.
        description: what the config file says of it.
        data: what it trains on.
    """

    name: str
    until_iter: int | None
    description: str
    data: DataRecord


class ParentRecord(Record):
    """The bundle whose weights a run started from.

    Attributes:
        name: of the bundle.
        path: absolute.
        step: at which it was.
        run_id: of the run that made it; None if it had none.
        weights_sha256: hash of its weights, independent of how they are stored.
    """

    name: str
    path: str
    step: int
    run_id: str | None
    weights_sha256: str


class GoldState(Record):
    """What the gold decision remembers of the evaluations so far.

    Attributes:
        step: step of the gold checkpoint; None as long as there is none.
        val_loss: its validation loss.
        last_val_loss: validation loss of the latest evaluation.
        consecutive_rises: evaluations in a row, up to the latest, that were worse than the one before.
        baseline: losses of the further eval sets, each at the first evaluation that measured it.
    """

    step: int | None = None
    val_loss: float | None = None
    last_val_loss: float | None = None
    consecutive_rises: int = 0
    baseline: dict[str, float] | None = None


class Progress(Record):
    """What a run has gathered so far and a resume continues.

    Attributes:
        tokens_processed: training tokens since step 0.
        last_train_loss: train loss of the latest evaluation, nats per token.
        last_val_loss: validation loss of the latest evaluation, nats per token.
        last_val_bpb: the same in bits per byte.
        best_val_loss: the lowest validation loss so far.
        best_val_bpb: the same in bits per byte.
        best_step: the step of that evaluation.
        gold: what the gold decision remembers.
    """

    tokens_processed: int = 0
    last_train_loss: float | None = None
    last_val_loss: float | None = None
    last_val_bpb: float | None = None
    best_val_loss: float | None = None
    best_val_bpb: float | None = None
    best_step: int | None = None
    gold: GoldState = Field(default_factory=GoldState)

    def after_eval(self, step: int, train_loss: float, val_loss: float, val_bpb: float | None) -> "Progress":
        """The progress with one more evaluation in it; a NaN never becomes the best."""
        update: dict[str, object] = {
            "last_train_loss": train_loss, "last_val_loss": val_loss, "last_val_bpb": val_bpb,
        }  # fmt: skip
        if val_loss < (float("inf") if self.best_val_loss is None else self.best_val_loss):
            update |= {"best_val_loss": val_loss, "best_val_bpb": val_bpb, "best_step": step}
        return self.model_copy(update=update)


class Environment(Record):
    """The circumstances that a trajectory depends on beside its settings.

    Attributes:
        processor: name of the CPU and the widest vector unit that torch uses of it; None in records that do not say.
    """

    mypt: str
    python: str
    torch: str
    numpy: str
    tiktoken: str
    platform: str
    device: str
    threads: int
    processor: str | None = None


class SessionRecord(Record):
    """One start or resume of a run: with the others before it, all that it takes to run it again.

    Attributes:
        start_step: the step at which it took over.
        training_config: the settings that were in force.
        environment: where it took place.
        command: the exact command; empty for a session from Python.
        started_at: wall-clock time, ISO 8601.
        git_commit: commit of the folder it was started in, with `+` if files were changed; None outside git.
        eval_sets: what else was evaluated on, by name.
    """

    start_step: int
    training_config: TrainingConfig
    environment: Environment
    command: tuple[str, ...] = ()
    started_at: str
    git_commit: str | None = None
    eval_sets: dict[str, DataRecord] = {}


class TrainingState(Record):
    """The whole file, in the order in which it is written. The first three fields are the spec's.

    Attributes:
        step: optimizer steps taken.
        optimizer_file: name of the optimizer's file in the bundle; None where there is none.
        training_config: the settings in force.
        exact_resume: True if going on from this bundle gives the same weights as never having stopped.
        model_dtype: precision of the saved weights.
        progress: what the run has gathered so far.
        data: what was trained on, and what `val_loss` is measured on.
        eval_sets: what else was evaluated on, by name.
        curriculum: the phases, if there are several; `data` is then what they are all evaluated on.
        parent: what the run started from; None for random weights.
        log_file: the run's log.
        preset: the preset that the run was started from.
        config_file: the config file that the run was started from.
        environment: where the run took place.
        saved_at: wall-clock time of the save, ISO 8601.
        run_id: names the run in its log, through all its sessions.
        attempt: number of the session that saved this, from 1.
        sessions: the sessions that led here, in order; what a rewind left behind is not among them.
    """

    step: int
    optimizer_file: str | None = None
    training_config: TrainingConfig
    exact_resume: bool = True
    model_dtype: str = "fp32"
    progress: Progress = Field(default_factory=Progress)
    data: DataRecord | None = None
    eval_sets: dict[str, DataRecord] = {}
    curriculum: tuple[PhaseRecord, ...] = ()
    parent: ParentRecord | None = None
    log_file: str | None = None
    preset: str | None = None
    config_file: str | None = None
    environment: Environment | None = None
    saved_at: str | None = None
    run_id: str | None = None
    attempt: int = 1
    sessions: tuple[SessionRecord, ...] = ()

    def micro_batches(self, step: int) -> int:
        """Micro-batches that the run uses before `step`, by the settings of its sessions, the last one open-ended."""
        if not self.sessions:
            return step * self.training_config.grad_accum_steps
        ends = [s.start_step for s in self.sessions[1:]] + [step]
        return sum(
            max(0, min(end, step) - s.start_step) * s.training_config.grad_accum_steps
            for s, end in zip(self.sessions, ends, strict=True)
        )

    def at_step(self, step: int, tokens_per_step: int) -> "TrainingState":
        """The state brought up to a later step."""
        tokens = self.progress.tokens_processed + (step - self.step) * tokens_per_step
        progress = self.progress.model_copy(update={"tokens_processed": tokens})
        return self.model_copy(update={"step": step, "progress": progress})

    def with_progress(self, progress: Progress) -> "TrainingState":
        """The state with other progress."""
        return self.model_copy(update={"progress": progress})

    def with_settings(self, **changes: object) -> "TrainingState":
        """The state with other settings for the session that is going on."""
        training = self.training_config.model_copy(update=changes)
        *earlier, session = self.sessions
        sessions = (*earlier, session.model_copy(update={"training_config": training}))
        return self.model_copy(update={"training_config": training, "sessions": sessions})

    def with_session(self, session: SessionRecord) -> "TrainingState":
        """The state in which a new session takes over at this state's step."""
        kept = tuple(s for s in self.sessions if s.start_step < self.step)
        return self.model_copy(
            update={"sessions": (*kept, session), "attempt": self.attempt + 1 if self.sessions else 1}
        )
