"""Starting from another model: its weights, its tokenizer, its architecture, and the lineage in the record."""

from dataclasses import dataclass
from pathlib import Path

from mypt.checkpoint.manager import CheckpointManager, Loaded
from mypt.errors import ConflictError, MyptError
from mypt.model.network import Network
from mypt.schema.files.state import ParentRecord
from mypt.schema.settings.config import GPTConfig
from mypt.schema.settings.run import RunSettings

FREE = ("batch_size", "dropout", "device")
"""Fields of config.json that no weight depends on."""
FREE_WITH_ROPE = ("block_size", "rope_theta", "rope_scale")


@dataclass(frozen=True)
class Parent:
    """The bundle that a run starts from, and what the record says of it."""

    loaded: Loaded[Network]
    record: ParentRecord

    def give_weights(self, model: Network) -> None:
        """Copy the weights into a model of the same architecture."""
        model.load_weights(self.loaded.model.state_dict())


def load_parent(name: str, out_dir: Path) -> Parent:
    """Load the bundle to start from, given by name or by path.

    Raises:
        UsageError: there is none.
        BundleError: it is damaged.
    """
    manager = CheckpointManager.find(name, out_dir)
    loaded = manager.load()
    return Parent(loaded, manager.parent_record(loaded.model, loaded.state))


def recorded_parent(record: ParentRecord, given: str | None, out_dir: Path) -> Parent:
    """The bundle that a recorded run started from, as it was then.

    Args:
        record: what the run's record says of it.
        given: name or path of a bundle with these weights; None for the recorded path.
        out_dir: folder of bundles that are given by name.

    Raises:
        ConflictError: it is gone, or its weights are others now.
    """
    todo = "Give a bundle with these weights, whatever its name, by --init-from-model."
    place = given or record.path
    try:
        parent = load_parent(place, out_dir if given else Path(record.path).parent)
    except MyptError as error:
        raise ConflictError(
            f"This run started from {record.name} at step {record.step}, which is missing: {error.what}", todo
        ) from error
    if parent.record.weights_sha256 != record.weights_sha256:
        raise ConflictError(
            f"This run started from {record.name} at step {record.step}, but {place} is at step "
            f"{parent.record.step} with other weights.",
            todo,
        )
    return parent


def inherited_config(settings: RunSettings, parent: Parent) -> GPTConfig:
    """The architecture of a run that starts from a parent: its own, with what the call gives that no weight needs.

    Raises:
        ConflictError: listing every given value that the parent's weights do not allow.
    """
    own, given = parent.loaded.model.config, settings.model
    free = FREE + (FREE_WITH_ROPE if own.pos_encoding == "rope" else ())
    conflicts = [
        f"{name}: {parent.record.name} has {getattr(own, name)}, given {getattr(given, name)} ({source})."
        for name, source in settings.given.items()
        if name in GPTConfig.model_fields and name not in free and getattr(given, name) != getattr(own, name)
    ]
    if conflicts:
        raise ConflictError(
            f"The architecture differs from that of {parent.record.path}, whose weights this run is to start from.",
            "Leave these out, so that the parent's own values stand.",
            conflicts,
        )
    return given
