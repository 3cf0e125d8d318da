"""The data of a recorded run: found where the record says or where a call says, and checked to be the same."""

import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from itertools import zip_longest

from mypt.data.loader import GPTDataLoader, LoaderOptions
from mypt.data.text import STDIN, TEXT_FIELD, Text, is_sample, read_sources, text_of
from mypt.data.tokenizer import Tokenizer
from mypt.errors import ConflictError, InputError, UsageError
from mypt.run.data.new import open_eval_set
from mypt.run.data.places import Places
from mypt.schema.files.state import DataRecord, PhaseRecord, TrainingState
from mypt.schema.files.tokenizer import END_OF_TEXT
from mypt.schema.settings.config import GPTConfig
from mypt.train.observer import Observer
from mypt.train.run_data import Phase, RunData

_BETWEEN = 4
"""Bytes of a byte order mark and a newline, by which the same text can be longer where it is cut into other sources."""
_BORDER = len(END_OF_TEXT) + 4
"""Bytes of a border: a marker, with a newline before and after it."""
_UTF8_BYTES = 4
"""The most that one character takes."""
EvalSets = Mapping[str, GPTDataLoader]


def recorded_data(
    state: TrainingState, config: GPTConfig, tokenizer: Tokenizer, places: Places, observer: Observer
) -> RunData:
    """The data that a session goes on with: the recorded training data, and eval sets as recorded or as called for.

    Args:
        state: the record.
        config: the architecture.
        tokenizer: of the bundle.
        places: where the call says that they are.
        observer: notified of long work.

    Raises:
        InputError: something is not to be found; all of it is listed.
        ConflictError: something is not what was recorded, or the call names what the run does not have.
    """
    inputs = _Recorded(state, config, tokenizer, places, observer)
    primary, phases = inputs.training()
    kept = {name: record for name, record in state.eval_sets.items() if places.others_stay or name in places.eval_sets}
    sets: dict[str, GPTDataLoader | None] = {}
    for name in {**kept, **places.eval_sets}:
        path = places.eval_sets.get(name)
        if path is None:
            sets[name] = inputs.eval_set(name, kept[name])
        elif path:
            sets[name] = inputs.new_eval_set(name, path)
    return inputs.finish(primary, phases, sets)


def reproduced_data(
    state: TrainingState, config: GPTConfig, tokenizer: Tokenizer, places: Places, observer: Observer
) -> tuple[RunData, list[EvalSets]]:
    """The data that a run is run again with, and the eval sets of each of its sessions; raises as `recorded_data`.

    A set that has moved since a session is looked for where a later session found it.
    """
    inputs = _Recorded(state, config, tokenizer, places, observer, again=True)
    primary, phases = inputs.training()
    sessions = [session.eval_sets for session in state.sessions]
    latest = {record.fingerprint: record for sets in [*sessions, state.eval_sets] for record in sets.values()}
    wanted = {
        (name, record.fingerprint): latest[record.fingerprint]
        for sets in sessions
        for name, record in sets.items()
        if places.eval_sets.get(name) != ""
    }
    opened = {key: inputs.eval_set(key[0], record) for key, record in wanted.items()}
    data = inputs.finish(primary, phases, {})
    found = {key: loader for key, loader in opened.items() if loader is not None}
    return data, [
        {name: found[name, r.fingerprint] for name, r in sets.items() if (name, r.fingerprint) in found}
        for sets in sessions
    ]


def recorded_loader(
    record: DataRecord,
    config: GPTConfig,
    tokenizer: Tokenizer,
    options: LoaderOptions,
    paths: tuple[str, ...] = (),
) -> GPTDataLoader:
    """One recorded set, from where the record says or from `paths`, checked against its fingerprint.

    Raises:
        InputError: it is not to be found.
        ConflictError: it is not the recorded one.
    """
    options = LoaderOptions(
        eval_only=record.train_tokens == 0,
        seed=options.seed if record.seed is None else record.seed,
        sampling=record.sampling,
        use_loss_mask=record.masked,
        text_field=record.text_field or TEXT_FIELD,
    )
    if record.dataset_dir is None:
        loader = GPTDataLoader(config, tokenizer, text=recorded_text(record, paths), options=options)
    else:
        folder = paths[0] if paths else record.dataset_dir
        loader = GPTDataLoader(config, tokenizer, dataset_dir=folder, options=options)
        if loader.record.fingerprint != record.fingerprint:
            raise ConflictError(
                f"The shards in {folder} are not those of this run: {_first_difference(record, loader.record)}.",
                "Give the recorded ones, or train a new model on these.",
            )
        if record.sample_sha256 not in (None, loader.record.sample_sha256):
            raise ConflictError(
                f"The shards in {folder} were changed in place since the run recorded them: a sample of their content "
                "has another SHA-256.",
                f"Restore them; `mypt data inspect {folder} --check` names the files.",
            )
    found = loader.record
    here = ("sources", "dataset_dir", "sample_sha256", "metadata_sha256")
    loader.record = record.model_copy(update={name: getattr(found, name) for name in here})
    return loader


def recorded_text(record: DataRecord, paths: tuple[str, ...] = ()) -> Text:
    """A recorded text, read again from where the record says or from `paths`, and checked.

    Raises:
        InputError: it cannot be found.
        ConflictError: it is another text than the recorded one.
    """
    recorded = tuple(s.path for s in record.sources)
    paths = paths or recorded
    if paths == recorded and (not paths or STDIN in paths):
        raise InputError(
            "The text of this run came from standard input or from memory and cannot be read again.",
            "Give the same text by --input-file.",
        )
    from_memory = _UTF8_BYTES * (record.characters or 0)
    most = sum(source.bytes for source in record.sources) or from_memory
    most += _BETWEEN * max(1, len(record.sources)) + _BORDER * (record.documents or 0)
    sources = read_sources([p for p in paths if not is_sample(p)], most)
    if larger := next((source.path for source in sources if source.record.bytes > most), None):
        raise ConflictError(
            f"{larger} has more than the {most:,} bytes that the text of this run can have.",
            "Give the recorded text, or train a new model on this one.",
        )
    text = text_of(sources, None if record.documents is None else record.text_field or TEXT_FIELD)
    if text.fingerprint != record.fingerprint:
        found = record.model_copy(update={"sources": text.sources, "fingerprint": text.fingerprint})
        raise ConflictError(
            f"The text of {', '.join(s.path for s in text.sources)} is not the one that this run was trained on: "
            f"{_first_difference(record, found)}.",
            "Give the recorded text, or train a new model on the changed one.",
        )
    return text


@dataclass
class _Recorded:
    """Opens recorded inputs, and keeps what is wrong with each, so that all of it can be told at once.

    Attributes:
        again: a run is run again, so that nothing may be another than recorded.
        problems: what is wrong, and the option that helps.
    """

    state: TrainingState
    config: GPTConfig
    tokenizer: Tokenizer
    places: Places
    observer: Observer
    again: bool = False
    problems: list[UsageError] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.places.check(self.state)
        sessions, training = self.state.sessions, self.state.training_config
        seed = sessions[0].training_config.seed if sessions else training.seed
        field = self.places.text_field or (self.state.data and self.state.data.text_field) or TEXT_FIELD
        self.options = LoaderOptions(seed=seed, text_field=field)
        self.moved = self.places.moved(self.state)

    def training(self) -> tuple[GPTDataLoader | None, list[Phase]]:
        """The primary set and the phases; None, or left out, if they cannot be used."""
        assert self.state.data is not None  # places.check made sure
        given = self.places.text or ((self.places.shards,) if self.places.shards else ())
        primary = self._recorded("", self.state.data, given, _primary_option(self.state.data))
        if primary is not None and primary.splits["train"].masked and not primary.masked:
            self.options = replace(self.options, use_loss_mask=False)  # the run leaves masks alone
        phases, start = [], 0
        for phase in self.state.curriculum:
            if (loader := self._phase(phase)) is not None:
                phases.append(Phase(phase.name, start, loader))
            start = phase.until_iter or start
        return primary, phases

    def eval_set(self, name: str, record: DataRecord) -> GPTDataLoader | None:
        """A recorded eval set; None if it cannot be used."""
        path = self.places.eval_sets.get(name)
        option = shlex.quote(f"{name}=PATH")
        todo = f"give the recorded one by --eval-set {option}, or leave it out by --eval-set {name}="
        if not self.again and record.sources:
            other = shlex.quote(f"{name}={record.sources[0].path}")
            todo += f" (what is there now becomes another measure by --eval-set {other})"
        return self._recorded(f"the eval set {name}", record, (path,) if path else (), f"To go on, {todo}.")

    def new_eval_set(self, name: str, path: str) -> GPTDataLoader | None:
        """An eval set that the call names; None if it cannot be used."""
        label = f"the eval set {name}"
        return self._attempt(
            lambda: open_eval_set(path, self.config, self.tokenizer, self.options), label, "Give another path."
        )

    def finish(
        self, primary: GPTDataLoader | None, phases: list[Phase], sets: Mapping[str, GPTDataLoader | None]
    ) -> RunData:
        """All of the data.

        Raises:
            InputError: something is not to be found.
            ConflictError: something is not the recorded one.
        """
        if len(self.problems) == 1:
            raise self.problems[0]
        if self.problems or primary is None:
            kind = ConflictError if any(isinstance(p, ConflictError) for p in self.problems) else InputError
            raise kind(
                f"{len(self.problems)} inputs of this run cannot be used as they are.",
                "Call again with the options that are named; a resume records the new places.",
                [line for problem in self.problems for line in (problem.what, f"  {problem.todo}")],
            )
        return RunData(primary, {n: loader for n, loader in sets.items() if loader is not None}, tuple(phases))

    def _phase(self, phase: PhaseRecord) -> GPTDataLoader | None:
        path = self.places.phases.get(phase.name)
        option = f"Give the folder of the recorded shards by --phase {shlex.quote(f'{phase.name}=PATH')}."
        return self._recorded(f"the phase {phase.name}", phase.data, (path,) if path else (), option)

    def _recorded(self, label: str, record: DataRecord, given: tuple[str, ...], todo: str) -> GPTDataLoader | None:
        """One input, from where the call says, else from where its recorded place has moved to."""
        paths = given or tuple(self.moved.get(s.path, s.path) for s in record.sources)

        def load() -> GPTDataLoader:
            try:
                return recorded_loader(record, self.config, self.tokenizer, self.options, paths)
            except ConflictError:
                if not (self.again and given and record.train_tokens == 0):
                    raise  # of an eval set, the place may be that of another session
                return recorded_loader(record, self.config, self.tokenizer, self.options)

        return self._attempt(load, label, todo)

    def _attempt(self, load: Callable[[], GPTDataLoader], label: str, todo: str) -> GPTDataLoader | None:
        try:
            with self.observer.busy(f"Opening {label or 'the data'}"):
                return load()
        except UsageError as error:
            what = f"{label[0].upper()}{label[1:]}: {error.what[0].lower()}{error.what[1:]}" if label else error.what
            self.problems.append(type(error)(what, todo, error.details))
            return None


def _primary_option(record: DataRecord) -> str:
    """How the primary set is given a new place."""
    if record.dataset_dir is not None:
        return "Give the folder of the recorded shards by --dataset-dir PATH, or train a new model on others."
    if len(record.sources) > 1:
        return (
            "Give the recorded texts in their order, each by its own --input-file PATH, or train a new model on others."
        )
    if record.sources and is_sample(record.sources[0].path):
        return "Call again with that version of Python, or give the recorded text by --input-file PATH."
    return "Give the recorded text by --input-file PATH, or train a new model on another."


def _first_difference(recorded: DataRecord, found: DataRecord) -> str:
    """The first thing in which data differ from the recorded ones."""
    if len(recorded.sources) != len(found.sources):
        return f"it is made of {len(found.sources)} sources instead of {len(recorded.sources)}"
    for was, now in zip_longest(recorded.sources, found.sources) if recorded.dataset_dir is None else ():
        if was.bytes != now.bytes:
            return f"{now.path} has {now.bytes:,} bytes instead of {was.bytes:,}"
        if was.sha256 != now.sha256:
            return f"the SHA-256 of {now.path} is {now.sha256[:12]}… instead of {was.sha256[:12]}…"
    for name, what in (("tokenization", "the tokenizer is"), ("train_tokens", "its training tokens are"),
                       ("val_tokens", "its validation tokens are")):  # fmt: skip
        if getattr(recorded, name) != getattr(found, name):
            return f"{what} {getattr(found, name)} instead of {getattr(recorded, name)}"
    return f"its fingerprint is {found.fingerprint[:12]}… instead of {recorded.fingerprint[:12]}…"
