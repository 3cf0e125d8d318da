"""training_state.json: progress, settings, data and environment of a run; see docs/files.md."""

from typing import Annotated, Any

from pydantic import AfterValidator, ConfigDict, Field, SerializerFunctionWrapHandler, model_serializer

from mypt.schema.base import Record, is_folder_name, place
from mypt.schema.files.environment import Environment
from mypt.schema.files.gold import GoldState, Measure, Remeasured
from mypt.schema.files.imported import ImportRecord
from mypt.schema.files.optimizer import REPLACED_SETTINGS, OptimizerRecord
from mypt.schema.order.labels import Note, Tag
from mypt.schema.settings.data import Sampling, TokenKind
from mypt.schema.settings.training import TrainingConfig


def _name(name: str) -> str:
    """A name that can stand beside others in a folder."""
    if not is_folder_name(name):
        raise ValueError("is no name of a folder")
    return name


Place = Annotated[str, AfterValidator(place)]
Name = Annotated[str, AfterValidator(_name)]


class SourceRecord(Record):
    """A source of training text.

    Attributes:
        path: absolute path, URL, `-` for standard input, or the name of the built-in sample.
        bytes: size after decompression; for a folder of shards, the size of all shards that were opened.
        sha256: hash of those bytes; for a folder of shards, its fingerprint.
    """

    path: Place
    bytes: int
    sha256: str


class DataRecord(Record):
    """The data of a run, so that a resume can find it and refuse different data.

    Attributes:
        sources: the texts, in the order they were joined.
        fingerprint: SHA-256 of the joined text in UTF-8; for shards, of their hashes.
        characters: number of characters of the text, without the markers of borders; None for shards.
        documents: documents that a border ends, a token in training; None if unknown, and in older records of a text,
            which took the marker of a border for a text like any other.
        text_field: field or column with the text, where a source has rows; None for shards and in older records.
        tokenization: kind of the tokenizer.
        train_tokens: tokens in the training split; 0 for data used only for evaluation.
        val_tokens: tokens in the validation split.
        bpe_vocab_size: for bpe, the requested vocabulary size.
        dataset_dir: folder of the shards; None for a text.
        sampling: order of the training windows.
        seed: random seed of the training windows; None in older records, which used that of the first session.
        masked: whether loss masks are applied.
        sample_sha256: for shards, hash of names, sizes and a sample of their files; None for texts and older records.
        content_sha256: for shards without metadata, hash of names and whole contents; None if they are too large.
        metadata_sha256: for shards, hash of the files that describe them: metadata and tokenizer.
        start_token: id that generation without a prompt starts from, which is among the training tokens; None in older
            records and without training tokens.
    """

    sources: tuple[SourceRecord, ...]
    fingerprint: str
    characters: int | None = None
    documents: int | None = None
    text_field: str | None = None
    tokenization: TokenKind
    train_tokens: int
    val_tokens: int
    bpe_vocab_size: int | None = None
    dataset_dir: Place | None = None
    sampling: Sampling = "random"
    seed: int | None = None
    masked: bool = False
    sample_sha256: str | None = None
    content_sha256: str | None = None
    metadata_sha256: str | None = None
    start_token: int | None = None


class PhaseRecord(Record):
    """One phase of a curriculum.

    Attributes:
        name: name, shown at each evaluation.
        until_iter: step at which the next phase starts; None for the last phase.
        description: description from the config file.
        data: training data.
    """

    name: str
    until_iter: int | None
    description: str
    data: DataRecord


class ParentRecord(Record):
    """The bundle whose weights a run started from.

    Attributes:
        name: name of the bundle.
        path: absolute path.
        step: step of its weights.
        run_id: run that made it; None if it had none.
        weights_sha256: hash of its weights, independent of the file format.
    """

    name: Name
    path: Place
    step: int
    run_id: str | None
    weights_sha256: str


class Progress(Record):
    """Progress of a run, carried over on resume.

    Attributes:
        tokens_processed: training tokens since step 0.
        last_train_loss: train loss of the latest evaluation, nats per token.
        last_val_loss: val loss of the latest evaluation, nats per token.
        last_val_bpb: the same in bits per byte.
        best_val_loss: lowest val loss so far, of those measured as the latest.
        best_val_bpb: the same in bits per byte.
        best_step: step of the lowest val loss.
        evaluations_since_best: evaluations after that one, of those measured as the latest.
        gold: state of the gold decision.
    """

    tokens_processed: int = 0
    last_train_loss: float | None = None
    last_val_loss: float | None = None
    last_val_bpb: float | None = None
    best_val_loss: float | None = None
    best_val_bpb: float | None = None
    best_step: int | None = None
    evaluations_since_best: int = 0
    gold: GoldState = Field(default_factory=GoldState)

    def after_eval(
        self, step: int, train_loss: float, val_loss: float, val_bpb: float | None, counts: bool = True
    ) -> "Progress":
        """The progress after one more evaluation, which counts if a step was taken; NaN never becomes the best loss."""
        update: dict[str, object] = {
            "last_train_loss": train_loss, "last_val_loss": val_loss, "last_val_bpb": val_bpb,
            "evaluations_since_best": self.evaluations_since_best + counts,
        }  # fmt: skip
        if val_loss < (float("inf") if self.best_val_loss is None else self.best_val_loss):
            update |= {"best_val_loss": val_loss, "best_val_bpb": val_bpb, "best_step": step}
            update["evaluations_since_best"] = 0
        return self.model_copy(update=update)


class SessionRecord(Record):
    """One session (start or resume) of a run. `mypt reproduce` repeats all sessions in order.

    Attributes:
        start_step: step at which it started.
        training_config: its training settings.
        environment: its environment.
        command: exact command; empty if it was started from Python.
        started_at: wall-clock time, ISO 8601.
        git_commit: git commit of the working folder, with `+` if files were modified; None outside git.
        eval_sets: additional eval sets, by name.
        evaluation_owed: True if it began with the evaluation of its first step that the session before it owed.
        evaluated_first: True if it began with an evaluation that gave eval sets their baselines and decided nothing.
        measures: what it measured losses with, by set, `val` among them; None in older records, whose gold compared
            all losses.
        remeasured: losses of the gold checkpoint by a measure that is new with it; None if that of val is not.
        attempt: number of the session in the log; None in older records.
    """

    start_step: int
    training_config: TrainingConfig
    environment: Environment
    command: tuple[str, ...] = ()
    started_at: str
    git_commit: str | None = None
    eval_sets: dict[str, DataRecord] = {}
    evaluation_owed: bool = False
    evaluated_first: bool = False
    measures: dict[str, Measure] | None = None
    remeasured: Remeasured | None = None
    attempt: int | None = None

    @property
    def begins_by_measuring(self) -> bool:
        """Whether it measured something before its first step, so that it counts even if it took none."""
        return self.evaluation_owed or self.evaluated_first or self.remeasured is not None


class TrainingState(Record):
    """The file, in field order.

    Attributes:
        step: optimizer steps taken.
        optimizer_file: name of the optimizer file in the bundle; None without an optimizer.
        training_config: training settings of the current session.
        exact_resume: True if resuming from this bundle gives the same weights as an uninterrupted run.
        model_dtype: precision of the saved weights.
        progress: progress of the run.
        data: training and validation data.
        eval_sets: additional eval sets, by name.
        curriculum: phases of a curriculum; `data` is then the data of the validation loss.
        curriculum_description: description of the curriculum as a whole, from the config file.
        parent: bundle that the run started from; None for random weights.
        imported: where the weights of a model come from that was imported rather than trained; None for others.
        init_seed: random seed of the initial weights; None in older records, which used that of the first session.
        unrecorded_start: why the run cannot be started again from its record; None if it can.
        frozen: names of weights that were frozen by hand, besides those that the settings freeze.
        optimizer: optimizer that the caller of `GPT.fit` brought; None for the one that the settings name.
        log_file: the run's log; relative paths start at the parent of the bundles' folder.
        preset: preset that the run was started with.
        config_file: config file that the run was started with.
        environment: environment of the current session.
        saved_at: wall-clock time of the save, ISO 8601.
        run_id: id of the run, the same for all sessions and log events.
        name: name of the run, which its gold and fp16 bundles have too; None in older records.
        folder: folder that the bundle was saved in: its name, or its absolute path if that of the log is absolute.
        forked_from: runs that the bundle was one of before it was copied or renamed, oldest first.
        attempt: number of the session, from 1.
        evaluation_pending: the evaluation that is due at this step was broken off; a resume begins with it.
        sessions: sessions that led to this state, in order; sessions discarded by a rewind are not listed.
        tags: what the run is looked for by.
        note: what somebody noted on it.
    """

    model_config = ConfigDict(ser_json_inf_nan="constants")

    step: int
    optimizer_file: str | None = None
    training_config: TrainingConfig
    exact_resume: bool = True
    model_dtype: str = "fp32"
    progress: Progress = Field(default_factory=Progress)
    data: DataRecord | None = None
    eval_sets: dict[str, DataRecord] = {}
    curriculum: tuple[PhaseRecord, ...] = ()
    curriculum_description: str = ""
    parent: ParentRecord | None = None
    imported: ImportRecord | None = None
    init_seed: int | None = None
    unrecorded_start: str | None = None
    frozen: tuple[str, ...] = ()
    optimizer: OptimizerRecord | None = None
    log_file: Place | None = None
    preset: str | None = None
    config_file: Place | None = None
    environment: Environment | None = None
    saved_at: str | None = None
    run_id: str | None = None
    name: Name | None = None
    folder: Place | None = None
    forked_from: tuple[ParentRecord, ...] = ()
    attempt: int = 1
    evaluation_pending: bool = False
    sessions: tuple[SessionRecord, ...] = ()
    tags: tuple[Tag, ...] = ()
    note: Note | None = None

    @model_serializer(mode="wrap")
    def _without_replaced_settings(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out settings that the caller's optimizer replaces, so that the record says what was used."""
        content: dict[str, Any] = serialize(self)
        if self.optimizer is not None:
            for part in (content, *content.get("sessions", ())):
                for name in REPLACED_SETTINGS:
                    part.get("training_config", {}).pop(name, None)
        return content

    @property
    def start_token(self) -> int | None:
        """Id that generation without a prompt starts from; None if none is recorded."""
        trained_on = self.curriculum[0].data if self.curriculum else self.data
        return None if trained_on is None else trained_on.start_token

    def micro_batches(self, step: int) -> int:
        """Micro-batches used before `step`, given the settings of each session; the last session is open-ended."""
        if not self.sessions:
            return step * self.training_config.grad_accum_steps
        ends = [s.start_step for s in self.sessions[1:]] + [step]
        return sum(
            max(0, min(end, step) - s.start_step) * s.training_config.grad_accum_steps
            for s, end in zip(self.sessions, ends, strict=True)
        )

    def settings_at(self, step: int) -> TrainingConfig:
        """The settings with which the step after `step` completed ones was or will be taken."""
        begun = [s.training_config for s in self.sessions if s.start_step <= step]
        return begun[-1] if begun else self.training_config

    @property
    def inexact(self) -> str | None:
        """Why a resume from here is not the run that never stopped; None if it is."""
        if self.exact_resume:
            return None
        saved = {self.model_dtype, *(s.training_config.save_dtype for s in self.sessions)}
        return "weights were saved below fp32" if saved != {"fp32"} else "a GPU computed in an order left to chance"

    def at_step(self, step: int, tokens_per_step: int) -> "TrainingState":
        """The state at a later step."""
        tokens = self.progress.tokens_processed + (step - self.step) * tokens_per_step
        progress = self.progress.model_copy(update={"tokens_processed": tokens})
        return self.model_copy(update={"step": step, "progress": progress})

    def with_progress(self, progress: Progress) -> "TrainingState":
        """The state with new progress."""
        return self.model_copy(update={"progress": progress})

    def with_settings(self, **changes: object) -> "TrainingState":
        """The state with changed settings of the current session."""
        training = self.training_config.model_copy(update=changes)
        return self.model_copy(update={"training_config": training}).with_current(training_config=training)

    def with_current(self, **changes: object) -> "TrainingState":
        """The state with a changed record of the current session."""
        *earlier, session = self.sessions
        return self.model_copy(update={"sessions": (*earlier, session.model_copy(update=changes))})

    def with_session(self, session: SessionRecord) -> "TrainingState":
        """The state after a new session starts at this step; an earlier one counts if it has trained or evaluated."""
        previous = tuple(s for s in self.sessions if s.start_step < self.step or self._counts(s))
        attempt = self.attempt + 1 if self.sessions else 1
        session = session.model_copy(update={"attempt": attempt})
        return self.model_copy(update={"sessions": (*previous, session), "attempt": attempt})

    def _counts(self, session: SessionRecord) -> bool:
        """Whether a session that took no step did anything: an evaluation that is still owed it did not make."""
        measured = session.evaluated_first or session.remeasured is not None
        return measured or (session.evaluation_owed and not self.evaluation_pending)
