"""The bundles of one run, NAME, NAME_gold and NAME_fp16: whose each of them is, and how they are moved and copied."""

from dataclasses import dataclass
from pathlib import Path

from mypt.checkpoint.atomic import copy_tree, real_path, remove, rename_noreplace, replacing, storage_errors
from mypt.checkpoint.files import read_state, write_json
from mypt.checkpoint.layout import (
    CONFIG_FILE,
    FP16,
    GOLD,
    MANIFEST_FILE,
    STATE_FILE,
    command,
    folder_reference,
    is_export,
    log_reference,
    names_in,
)
from mypt.checkpoint.lineage import recorded_name
from mypt.checkpoint.manifest import file_hash, read_manifest, write_text
from mypt.errors import BundleError, ConflictError
from mypt.schema.files.state import TrainingState


@dataclass(frozen=True)
class Family:
    """The places that one run writes.

    Attributes:
        path: of its own bundle, whose name is the run's.
    """

    path: Path

    @property
    def gold(self) -> Path:
        """Where its gold bundle is."""
        return self.path.with_name(self.path.name + GOLD)

    @property
    def fp16(self) -> Path:
        """Where its fp16 bundle is."""
        return self.path.with_name(self.path.name + FP16)

    @property
    def paths(self) -> tuple[Path, Path, Path]:
        """All of them, the run's own first."""
        return (self.path, self.gold, self.fp16)

    def check_free_for_a_run(self, *, fresh: bool) -> None:
        """Make sure that this is not where another run keeps its gold or its fp16 bundle.

        Args:
            fresh: whether what is there would be moved aside; a resume of an fp16 bundle is refused anyway.

        Raises:
            ConflictError: it is.
        """
        for ending in (GOLD, FP16):
            run, there = self.path.name.removesuffix(ending), self.path.exists()
            if run in ("", self.path.name) or not is_bundle(self.path.with_name(run)):
                continue
            if there and (run_name(self.path) not in (None, run) or (ending == FP16 and not fresh)):
                continue
            again = command("resume", self.path.with_name(run), "--from", "gold")
            rewind = f"Rewind the run with `{again}`, or choose another name."
            raise ConflictError(
                f"{self.path} is where {run} keeps its {ending[1:]} bundle, and training would replace it.",
                rewind if there and ending == GOLD else "Choose another name.",
            )

    def check_own(self, run_id: str | None) -> list[Path]:
        """Make sure that a run may replace what is at the places of its gold and its fp16 bundle.

        Args:
            run_id: of the run; None for one that is yet to start.

        Returns:
            What another run of this very name has left there, to be moved aside before the first save.

        Raises:
            ConflictError: something is of another run, or is no bundle, or holds a file that no save would keep.
        """
        left = []
        for path in (self.gold, self.fp16):
            check_place(path)
            if not path.exists():
                continue
            state = record_of(path)
            if state is None or not self._made(path, state, run_id):
                whose = "whose record cannot be read" if state is None else f"of {run_name(path)} at step {state.step}"
                raise ConflictError(
                    f"{path} is a bundle {whose}, and {self.path.name} would replace it.",
                    "Give it another name, or choose another one for the run.",
                )
            if run_id is None or state.run_id != run_id:
                left.append(path)
            else:
                check_nothing_added(path)
        return left

    def _made(self, path: Path, state: TrainingState, run_id: str | None) -> bool:
        """Whether a bundle is what a run of this name, or the run itself under an earlier name, puts at this place."""
        is_export = state.optimizer_file is None
        fits = is_export if path == self.fp16 else not is_export and state.progress.gold.step == state.step
        return fits and (run_name(path) == self.path.name or (run_id is not None and state.run_id == run_id))


def is_bundle(path: Path) -> bool:
    """Whether a folder is a bundle, be it a damaged one."""
    return not is_export(path) and any((path / name).is_file() for name in (CONFIG_FILE, STATE_FILE, MANIFEST_FILE))


def check_bundle(path: Path) -> None:
    """Make sure that what is at a path, if anything, is a bundle.

    Raises:
        ConflictError: it is something else.
    """
    if path.exists() and not is_bundle(path):
        raise ConflictError(
            f"{path} is in the way, and is no bundle of mypt.",
            "Give it another name, or choose another one for the run.",
        )


def check_place(path: Path) -> None:
    """Make sure that a place is free for a bundle, or has one, before anything is done.

    Raises:
        ConflictError: something else is there, or a link that leads nowhere, as it may come with a folder.
    """
    if path.is_symlink() and not path.exists():
        raise ConflictError(f"{path} is a link that leads nowhere.", "Remove the link, or choose another name.")
    check_bundle(path)


def check_nothing_added(path: Path) -> None:
    """Make sure that a save which replaces a bundle would lose nothing else.

    Raises:
        ConflictError: it holds files that did not come with it.
    """
    if found := added(path):
        raise ConflictError(
            f"{', '.join(found)} in {path} did not come with the bundle, and is no part of what the next save writes.",
            "Move it to a folder of your own.",
        )


def added(bundle: Path) -> list[str]:
    """Names of what lies in a bundle and was not saved with it; none where the list of its files cannot be read."""
    try:
        known = {*read_manifest(bundle).files, MANIFEST_FILE}
    except BundleError:
        return []
    return [name for name in names_in(bundle) if name not in known]


def run_name(bundle: Path) -> str | None:
    """The name of the run that made a bundle; None where its record cannot be read."""
    state = record_of(bundle)
    return None if state is None else recorded_name(bundle, state)


def copy_bundle(source: Path, target: Path, name: str, log: Path, **changes: object) -> None:
    """Copy a bundle atomically; the copy's training state is that of a run called `name`, and points to `log`.

    Files are hard-linked where possible, since no file of a bundle is ever modified in place. Existing hashes are
    kept rather than recomputed, so that damage to the source is still detected in the copy. Further fields of the
    training state are changed as given.

    Raises:
        BundleError: the training state or the manifest cannot be read.
        StorageError: the copy cannot be written.
    """
    state, manifest = read_state(source), read_manifest(source)
    with replacing(target) as folder:
        copy_tree(source, folder)
        for rewritten in (STATE_FILE, MANIFEST_FILE):
            (folder / rewritten).unlink()
        reference = log_reference(log, target)
        update = {"name": name, "folder": folder_reference(target, reference), "log_file": reference, **changes}
        write_json(folder / STATE_FILE, state.model_copy(update=update))
        files = {**manifest.files, STATE_FILE: file_hash(folder / STATE_FILE)}
        write_text(manifest.model_copy(update={"files": files}), folder)


def move_bundle(source: Path, target: Path, name: str, log: Path) -> None:
    """Rename a bundle and let its training state tell `name` and `log`; an unreadable bundle is only renamed.

    A bundle that is a link stays on the disk that it is on: `target` becomes a link, and `source` leads nowhere.

    Raises:
        StorageError: the disk refused; the bundle keeps its old name.
    """
    if record_of(source) is None:
        rename_noreplace(source, target)
        return
    place = real_path(source)
    with storage_errors(target):
        if place != source:
            target.symlink_to(place.with_name(target.name))
        copy_bundle(source, target, name, log)
        remove(place)


def archived_log_path(log: Path, name: str, new_name: str) -> Path:
    """Path of a run's log once the run `name` is archived as `new_name`."""
    return log.with_name(log.name.replace(name, new_name, 1) if log.name.startswith(name) else f"{new_name}_{log.name}")


def record_of(bundle: Path) -> TrainingState | None:
    """The training state of a bundle; None where it cannot be read."""
    try:
        return read_state(bundle)
    except BundleError:
        return None
