"""Where a call says that the inputs of a recorded run are now."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Self

from mypt.checkpoint.changes import Change
from mypt.errors import ConflictError, InputError, did_you_mean
from mypt.schema.files.state import DataRecord, TrainingState
from mypt.schema.resolve import COMMAND_LINE
from mypt.schema.settings.data import DataConfig, DataPlaces
from mypt.schema.settings.run import RunSettings


@dataclass(frozen=True)
class Places:
    """Where a call says that recorded inputs are; what it does not name is where the record says.

    Attributes:
        text: sources of the text, in their order.
        shards: folder of the primary set.
        phases: folder of each phase, by name.
        eval_sets: path of each further set, by name; empty for one that is left out.
        others_stay: whether recorded sets stay that the call does not name.
        text_field: field with the text of the sets that the call names; None for the recorded one.
    """

    text: tuple[str, ...] = ()
    shards: str | None = None
    phases: Mapping[str, str] = field(default_factory=dict)
    eval_sets: Mapping[str, str] = field(default_factory=dict)
    others_stay: bool = True
    text_field: str | None = None

    @classmethod
    def of(cls, data: DataPlaces) -> Self:
        """The places that a section of settings names."""
        phases = {p.name: p.dataset_dir for p in data.phases} if isinstance(data, DataConfig) else {}
        return cls(data.input_file, data.dataset_dir, {**phases, **data.phase_dirs}, data.every_eval_set)

    @classmethod
    def of_call(cls, settings: RunSettings) -> Self:
        """The places that a call names; a config file lists all eval sets, the command line changes single ones."""
        listed = settings.given.get("eval_sets", COMMAND_LINE) != COMMAND_LINE
        field = settings.data.text_field if "text_field" in settings.given else None
        return replace(cls.of(settings.data), others_stay=not listed, text_field=field)

    def check(self, state: TrainingState) -> None:
        """Make sure that the call names only what the run has.

        Raises:
            InputError: the record names no data.
            ConflictError: the call names shards for a text, a text for shards, or a phase or set that there is not.
        """
        record = state.data
        if record is None:
            raise InputError("The record does not say what this model was trained on.", "Train a new model.")
        if self.shards and record.dataset_dir is None:
            raise ConflictError(
                f"This run was trained on a text, not on shards such as {self.shards}.", "Leave dataset_dir out."
            )
        if self.text and record.dataset_dir is not None:
            raise ConflictError(
                f"This run was trained on the shards in {record.dataset_dir}, not on a text such as {self.text[0]}.",
                "Leave input_file out; shards that have moved are given by --dataset-dir.",
            )
        _check_known("phase", self.phases, [phase.name for phase in state.curriculum])
        sessions = [name for session in state.sessions for name in session.eval_sets]
        left_out = [name for name, path in self.eval_sets.items() if not path]
        _check_known("eval set", left_out, [*dict.fromkeys([*state.eval_sets, *sessions])])

    def moved(self, state: TrainingState) -> dict[str, str]:
        """New places by recorded ones, so that one that serves several inputs is given once."""
        found = {p.data.dataset_dir: self.phases[p.name] for p in state.curriculum if p.name in self.phases}
        if state.data is not None and self.shards:
            found[state.data.dataset_dir] = self.shards
        if state.data is not None and len(self.text) == len(state.data.sources):
            found |= {s.path: new for s, new in zip(state.data.sources, self.text, strict=True)}
        return {old: new for old, new in found.items() if old is not None}


def moves(before: TrainingState, after: TrainingState) -> list[Change]:
    """The inputs that are read from another place than the record said, and the eval sets that come, go or move."""
    pairs: list[tuple[str, DataRecord | None, DataRecord | None]] = [
        ("dataset_dir" if after.data and after.data.dataset_dir else "input_file", before.data, after.data)
    ]
    pairs += [
        (f"phase {was.name}", was.data, now.data) for was, now in zip(before.curriculum, after.curriculum, strict=True)
    ]
    changes = [Change(name, _shown(was), _shown(now), "harmless") for name, was, now in pairs]
    changes += [
        Change(f"description of {now.dataset_dir}", was.metadata_sha256[:12], now.metadata_sha256[:12], "harmless")
        for _, was, now in pairs
        if was and now and was.metadata_sha256 and now.metadata_sha256
    ]
    same = _fingerprints(before) == _fingerprints(after)
    changes.append(Change("eval_sets", *_shown_sets(before, after), "harmless" if same else "gold"))
    return [change for change in changes if change.recorded != change.now]


def _fingerprints(state: TrainingState) -> dict[str, str]:
    return {name: record.fingerprint for name, record in state.eval_sets.items()}


def _shown_sets(before: TrainingState, after: TrainingState) -> tuple[dict[str, str], dict[str, str]]:
    """Where the eval sets were and are; one that is not the recorded one is marked."""
    was = {name: _shown(record) for name, record in before.eval_sets.items()}
    now = {name: _shown(record) for name, record in after.eval_sets.items()}
    for name, record in after.eval_sets.items():
        if name in was and before.eval_sets[name].fingerprint != record.fingerprint:
            now[name] += " (another measure)"
    return was, now


def _shown(record: DataRecord | None) -> str:
    if record is None:
        return "none"
    return ", ".join(source.path for source in record.sources) or "from memory"


def _check_known(kind: str, names: Iterable[str], known: Sequence[str]) -> None:
    for name in names:
        if name not in known:
            there = f"Those recorded: {', '.join(known)}." if known else "There is none in the record; leave it out."
            raise ConflictError(f"This run has no {kind} {name!r}{did_you_mean(name, known)}", there)
