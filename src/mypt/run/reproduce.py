"""`mypt reproduce`: run a recorded run again from its record alone, and compare."""

from dataclasses import dataclass, field, replace
from functools import partial
from math import isnan
from pathlib import Path
from typing import Any

from mypt.checkpoint.changes import Change, changed_environment
from mypt.checkpoint.layout import log_of
from mypt.checkpoint.manager import AnyOptimizer, CheckpointManager, load_optimizer_state, weights_sha256
from mypt.data.tokenizer import Tokenizer
from mypt.errors import BundleError, InputError
from mypt.launch import Launch
from mypt.log.replay import Branch, live_evals
from mypt.model.network import Network
from mypt.run.data.places import Places
from mypt.run.data.recorded import EvalSets, reproduced_data
from mypt.run.parallel.share import check_processes, restore, share_weights
from mypt.run.parent import recorded_parent
from mypt.schema.files.environment import Environment
from mypt.schema.files.events import Eval
from mypt.schema.files.state import Progress, TrainingState
from mypt.schema.files.tokenizer import TokenizerFile
from mypt.schema.settings.config import GPTConfig
from mypt.schema.settings.run import ReproducePlaces
from mypt.train.device.deterministic import computing
from mypt.train.device.devices import environment, keep_freed_memory, resolve_device
from mypt.train.loop import Trainer
from mypt.train.observer import Observer
from mypt.train.parallel.gather import gathered
from mypt.train.parallel.group import Group
from mypt.train.parallel.layout import check_rows, placed
from mypt.train.parallel.meeting import Meeting, meeting_of
from mypt.train.parallel.parts import is_sharded
from mypt.train.run_data import RunData
from mypt.train.session import assemble
from mypt.train.step import Earlier

_OF_NO_BIT = ("max_minutes", "patience", "sample_prompt")
"""Settings that end a session, as the record does here, or that are for people who watch."""


@dataclass(frozen=True)
class Compared:
    """One evaluation, recorded and reproduced; the recorded losses are None if the log has none for this step."""

    step: int
    recorded_val: float | None
    val: float
    recorded_train: float | None
    train: float

    @property
    def same(self) -> bool:
        """Whether both losses are those of the record, to its 6 decimals."""
        return _alike(self.val, self.recorded_val) and _alike(self.train, self.recorded_train)


def _alike(loss: float | None, recorded: float | None) -> bool:
    """Whether two losses are the same; what is no number on both sides is."""
    return loss == recorded or (loss is not None and recorded is not None and isnan(loss) and isnan(recorded))


class ReproduceObserver(Observer):
    """Notified of each evaluation as it is compared."""

    def begun(self, first: int, last: int, tokens_per_step: int) -> None:
        """A session is about to be run again."""

    def compared(self, row: Compared) -> None:
        """An evaluation was made again."""


@dataclass(frozen=True)
class Verdict:
    """The result of a reproduction.

    Attributes:
        rows: every evaluation, in order.
        steps: steps that were run.
        whole: whether they are all steps of the record.
        weights_same: whether weights and gold at the end are those of the bundle; None unless all steps were run.
        hashes: SHA-256 of the recorded and of the reproduced weights; None unless all steps were run.
        differences: circumstances that differ from the recorded ones.
        left_out: eval sets that were not measured, without which gold is not compared.
    """

    rows: list[Compared]
    steps: int
    whole: bool
    weights_same: bool | None
    hashes: tuple[str, str] | None
    differences: list[Change]
    left_out: tuple[str, ...] = ()

    @property
    def identical(self) -> bool:
        """Whether everything that was compared is the same."""
        return all(r.same for r in self.rows if r.recorded_val is not None) and self.weights_same is not False

    @property
    def first_difference(self) -> int | None:
        """The first step whose evaluation differs."""
        return next((r.step for r in self.rows if r.recorded_val is not None and not r.same), None)


@dataclass
class _Comparison(Observer):
    """Watches the trainer and compares each evaluation with the log."""

    recorded: dict[tuple[int | None, int], dict[str, Any]]
    """By session and step, and by step alone, where the last one counts."""
    to: ReproduceObserver
    rows: list[Compared] = field(default_factory=list)
    session: int | None = None

    def evaluated(self, event: Eval, max_iters: int, eta_seconds: float) -> None:
        """Compare."""
        del max_iters, eta_seconds
        was = self.recorded.get((self.session, event.iter), {})
        made = event.model_dump()
        row = Compared(event.iter, was.get("val_loss"), made["val_loss"], was.get("train_loss"), made["train_loss"])
        self.rows.append(row)
        self.to.compared(row)

    def stepped(self, step: int, loss: Any) -> None:
        """Pass on."""
        self.to.stepped(step, loss)


def reproduce(
    name: str, out_dir: Path, steps: int | None, observer: ReproduceObserver, given: ReproducePlaces | None = None
) -> Verdict:
    """Train again from nothing as the record says, session by session, writing nothing, and compare.

    Args:
        name: a bundle, by name or by path.
        out_dir: folder of all bundles.
        steps: reproduce only the first steps; None for all.
        observer: notified of each step and comparison.
        given: where the run's inputs are, if not where the record says, and the eval sets to leave out.

    Raises:
        BundleError: the bundle is damaged, or its record does not hold what it takes.
        ConflictError: an input is not the recorded one any more.
        InputError: an input is not to be found.
    """
    keep_freed_memory()
    manager, launch, given = CheckpointManager.find(name, out_dir), Launch.of(), given or ReproducePlaces()
    with observer.busy("Reading the record"):
        loaded = manager.load()
        state = loaded.state
        last = min(steps or state.step, state.step)
        whole = last == state.step
        recorded = weights_sha256(loaded.model) if whole else ""
    _check_record(manager, state)
    config = loaded.model.config.model_copy(update={"device": resolve_device(loaded.model.config.device)})
    again = Again(config, loaded.tokenizer.file, state, given, last)
    del loaded  # whose weights take as much memory as those of the model that is to be trained
    comparison = _Comparison(_logged(log_of(manager.path, state), state), observer)
    seed = state.sessions[0].training_config.seed if state.init_seed is None else state.init_seed
    model = Network(config, seed)
    if state.parent is not None:
        recorded_parent(state.parent, given.init_from_model, out_dir).give_weights(model)
    with meeting_of(launch) as meeting:
        group = again.called(launch, meeting)
        progress, model = run_again(again, group, comparison, model)
    hashes = (recorded, weights_sha256(model)) if whole else None
    left_out = tuple(sorted(name for name, path in given.every_eval_set.items() if not path))
    same_gold = progress.gold == state.progress.gold or bool(left_out)  # a set that is not measured blocks no gold
    same = hashes[0] == hashes[1] and same_gold if hashes else None
    differences = _differences(state, environment(config.device, launch))
    return Verdict(comparison.rows, last, whole, same, hashes, differences, left_out)


def _differences(state: TrainingState, now: Environment) -> list[Change]:
    """What differs from the circumstances of any session, each told once."""
    found = [
        change
        for session in state.sessions
        for change in changed_environment(session.environment, now, exact=session.training_config.reduce == "exact")
    ]
    return list({change.name: change for change in reversed(found)}.values())


@dataclass(frozen=True)
class Again:
    """A run that is to be run again, as each process that takes part needs it.

    Attributes:
        config: the architecture, and the device.
        tokenizer: of the run.
        state: the record.
        given: where inputs are, if not where the record says.
        last: the step to go to.
    """

    config: GPTConfig
    tokenizer: TokenizerFile
    state: TrainingState
    given: ReproducePlaces
    last: int

    def called(self, launch: Launch, meeting: Meeting | None) -> Group:
        """The processes that take part, once they have come.

        Raises:
            UsageError: so many cannot share the steps of the run.
        """
        if meeting is None or launch.size == 1:
            return Group(launch)
        for session in self.state.sessions:
            check_processes(session.training_config, self.config.device, launch.size)
            check_rows(session.training_config, launch)
        meeting.call(self.state.training_config.collective_timeout)
        group = Group(launch, meeting)
        group.first(lambda: self)
        return group


def run_again(
    again: Again, group: Group, comparison: "_Comparison | None" = None, model: Network | None = None
) -> tuple[Progress, Network]:
    """Run the sessions of a record again; `model` has the weights that it began with, on the first process.

    Returns:
        What it came to, and the model at the end.
    """
    observer: Observer = comparison.to if comparison else Observer()
    model = model or Network.hollow(again.config)
    opened: list[tuple[RunData, list[EvalSets]]] = []
    tokenizer, places = Tokenizer(again.tokenizer), Places.of(again.given)
    group.each(lambda: opened.append(reproduced_data(again.state, again.config, tokenizer, places, observer)))
    [(data, eval_sets)] = opened
    return _run_sessions(model, [replace(data, eval_sets=sets) for sets in eval_sets], again, group, comparison)


def _logged(log: Path | None, state: TrainingState) -> dict[tuple[int | None, int], dict[str, Any]]:
    """The evaluations that the run logged, as `_Comparison` wants them; none where its log is gone."""
    try:
        events = list(live_evals(log, state.run_id, Branch.to(state))) if log else []
        return {(session, e["iter"]): e for e in events for session in (None, e.get("attempt"))}
    except InputError:
        return {}


def _check_record(manager: CheckpointManager, state: TrainingState) -> None:
    """Make sure that the record holds all that running again takes."""
    todo = "Only bundles of `mypt train`, `mypt resume` and `GPT.fit`, saved in fp32, can be reproduced."
    if state.unrecorded_start is not None:
        raise BundleError(f"{manager.path} cannot be started again: {state.unrecorded_start}.", todo)
    if not state.sessions or state.sessions[0].start_step != 0:
        raise BundleError(f"{manager.path} does not record the sessions that led to it from step 0.", todo)
    if state.model_dtype != "fp32" or any(s.training_config.save_dtype != "fp32" for s in state.sessions):
        raise BundleError(f"{manager.path} was rounded below fp32 on its way, so it has no exact repetition.", todo)


def _run_sessions(
    model: Network, data: list[RunData], again: Again, group: Group, comparison: _Comparison | None
) -> tuple[Progress, Network]:
    """Each session from where it took over to where the next one did, with its own settings."""
    state, last = again.state, again.last
    ends = [s.start_step for s in state.sessions[1:]] + [state.step]
    owed = [s.evaluation_owed for s in state.sessions[1:]] + [state.evaluation_pending]
    progress, earlier = Progress(), None
    sessions = zip(state.sessions, data, ends, owed, strict=True)
    for number, (session, own, end, owing) in enumerate(sessions, start=1):
        if session.start_step > last or (session.start_step == last and not session.begins_by_measuring):
            break
        begun = TrainingState(
            step=session.start_step,
            training_config=session.training_config.model_copy(update=dict.fromkeys(_OF_NO_BIT)),
            progress=progress,
            evaluation_pending=session.evaluation_owed,
            frozen=state.frozen,
            optimizer=state.optimizer,
            sessions=state.sessions[:number],
        )
        model = placed(model, session.training_config, group.launch)
        trainer = assemble(model, own, begun, comparison or Observer(), restore=earlier)
        trainer.stepper.group = group
        share_weights(trainer)
        restore(trainer.stepper)
        if session.training_config.torch_compile == "on":
            with computing(model.config, session.training_config):
                trainer.compile_loss()
        trainer.stop.at_step, trainer.stop.owing = min(end, last), owing and end <= last
        if comparison is not None:
            comparison.session = session.attempt
            comparison.to.begun(session.start_step, min(end, last), trainer.stepper.tokens_per_step)
        progress = trainer.run().state.progress
        model, earlier = _left(trainer)
    return progress, model


def _left(trainer: Trainer) -> tuple[Network, Earlier]:
    """What a session leaves to the next: the model, and what gives an optimizer the moments.

    Of a model in parts, which the next session may part otherwise, the first process alone has all of it then.
    """
    stepper = trainer.stepper
    if not is_sharded(stepper.model):
        moments, scaler = stepper.optimizer.state_dict(), stepper.precision.scaler.state_dict()
        return stepper.model, Earlier(partial(_hand_over, moments, scaler))
    content = gathered(stepper, trainer.state)
    if content is None or content.optimizer is None:
        return Network.hollow(stepper.model.config), Earlier(partial(_hand_over, {}, {}))
    model = Network(content.config)
    model.load_weights(content.weights)
    return model, Earlier(partial(_hand_over, content.optimizer["optimizer"], {}))


def _hand_over(moments: dict[str, Any], scaler: dict[str, Any], optimizer: AnyOptimizer) -> dict[str, Any]:
    """Give an optimizer the moments of the session before, and return the state of its loss scale."""
    load_optimizer_state(moments, optimizer)
    return scaler
