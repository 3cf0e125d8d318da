"""`mypt export`: a bundle as a folder that other programs open, with the proof of it."""

from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from mypt.checkpoint.atomic import recover, replacing
from mypt.checkpoint.files import read_config, read_state, write_json
from mypt.checkpoint.layout import EXPORT_FILE, check_name, is_export
from mypt.checkpoint.lineage import lineage, recorded_name, role_of
from mypt.checkpoint.lock import locked
from mypt.checkpoint.manager import CheckpointManager, Loaded, weights_sha256
from mypt.checkpoint.manifest import file_hash
from mypt.errors import ConflictError, UsageError
from mypt.exchange.folder import changes, read_record
from mypt.exchange.hf.card import card
from mypt.exchange.hf.code import CLASS
from mypt.exchange.hf.folder import HFModel
from mypt.exchange.homes import Home, home_of, home_or_code
from mypt.model.network import Network
from mypt.run.exchange import gguf, hf
from mypt.run.exchange.choice import BetterGold, better_gold_of, own_val_loss
from mypt.schema.files.events import timestamp
from mypt.schema.files.export import ExportProof, ExportRecord
from mypt.schema.settings.config import GPTConfig
from mypt.schema.settings.export import ExportConfig
from mypt.train.observer import Observer

CARD = "README.md"


@dataclass(frozen=True)
class Exported:
    """What an export made.

    Attributes:
        path: the folder.
        record: what it holds.
        better: why gold was taken instead of the last step; None if it was not, or was asked for.
    """

    path: Path
    record: ExportRecord
    better: BetterGold | None


def export(name: str, out_dir: Path, out: Path | None, config: ExportConfig, observer: Observer) -> Exported:
    """Write the folder of a bundle for other programs.

    Args:
        name: of the bundle, or its path.
        out_dir: folder of all bundles.
        out: the folder to write; by default beside the bundle, with the format after its name.
        config: the settings.
        observer: notified of long work.

    Raises:
        UsageError: there is no such bundle, its architecture has no home, or the place is taken.
        BusyError: another process writes there.
        ExportError: the dtype cannot hold a weight, or what was written is not the model.
    """
    named = CheckpointManager.find(name, out_dir)
    source, better = _chosen(named, config)
    target = named.path.with_name(f"{named.name}_{config.format}") if out is None else out
    check_name(target.name)
    home = _home(read_config(source.path), config)
    with locked(target, observer.notice):
        recover(target)
        _check_free(target, source)
        with observer.busy(f"Reading {source.name}"):
            loaded = source.load()
        with replacing(target) as folder, observer.busy(f"Writing {target} and proving it"):
            record = _write(folder, source, loaded, home, config)
    return Exported(target, record, better)


def _chosen(named: CheckpointManager, config: ExportConfig) -> tuple[CheckpointManager, BetterGold | None]:
    """The bundle to export: that which is named, or gold instead of its run's last step.

    Raises:
        UsageError: gold is asked for, and there is none; or one bundle is named and another is asked for.
    """
    role = role_of(named.path, read_state(named.path))
    if role != "run" and config.bundle not in (None, role):
        raise UsageError(
            f"{named.name} is the {role} bundle of its run, and --bundle {config.bundle} asks for another one.",
            "Name the run, or leave --bundle out.",
        )
    if config.bundle == "last" or role != "run":
        return named, None
    if config.bundle == "gold":
        return CheckpointManager.find(named.gold().name, named.path.parent), None
    better = better_gold_of(named.path)
    return (named, None) if better is None else (CheckpointManager.at(better.path), better)


def _home(config: GPTConfig, asked: ExportConfig) -> Home | None:
    """The home of an architecture; None for code, where there is none and code is asked for.

    Raises:
        UsageError: there is none.
    """
    return home_or_code(config) if asked.with_code else home_of(config, asked.format)


def _check_free(target: Path, source: CheckpointManager) -> None:
    """An export replaces nothing but an earlier one of the same run, as it was written.

    Raises:
        ConflictError: it would.
    """
    todo = "Choose another place with --out."
    if target.is_symlink() and not target.exists():
        raise ConflictError(f"{target} is a link that leads nowhere.", "Remove the link, or choose another place.")
    if not target.exists() or (target.is_dir() and not any(target.iterdir())):
        return
    record = read_record(target) if is_export(target) else None
    if record is None:
        raise ConflictError(f"{target} is in the way, and is no export of mypt.", todo)
    state = read_state(source.path)
    if (record.run_id, record.run) != (state.run_id, recorded_name(source.path, state)):
        raise ConflictError(f"{target} is an export of another run, {record.run}.", todo)
    if found := changes(target, record).all:
        raise ConflictError(f"{target} would be replaced, and since its export {'; '.join(found[:5])}.", todo)


def _write(
    folder: Path, source: CheckpointManager, loaded: Loaded[Network], home: Home | None, config: ExportConfig
) -> ExportRecord:
    """Write and prove the model, then the card, then the record with the hashes of all."""
    network, state = loaded.model, loaded.state
    if config.format == "gguf":
        proof = _of_gguf(gguf.write_folder(folder, source.name, network, loaded.tokenizer, config.gguf_dtype))
    else:
        model = HFModel(network.state_dict(), network.config, loaded.tokenizer, config.hf_dtype, home)
        proof = hf.write_folder(folder, model, network)
    record = ExportRecord(
        format=config.format,
        architecture=CLASS if home is None else home.family if config.format == "gguf" else home.hf_class,
        with_code=home is None,
        dtype=config.gguf_dtype if config.format == "gguf" else config.hf_dtype,
        bundle=source.name,
        run=recorded_name(source.path, state),
        run_id=state.run_id,
        step=state.step,
        val_loss=own_val_loss(state),
        weights_sha256=weights_sha256(network),
        config=network.config,
        proof=proof,
        mypt=version("mypt"),
        exported_at=timestamp(),
        files={},
    )
    if config.format == "hf":
        text = card(record, state, loaded.tokenizer.file, lineage(source.path, state))
        (folder / CARD).write_text(text, encoding="utf-8", newline="\n")
    record = record.model_copy(update={"files": {p.name: file_hash(p) for p in sorted(folder.iterdir())}})
    write_json(folder / EXPORT_FILE, record)
    return record


def _of_gguf(proof: gguf.GGUFProof) -> ExportProof:
    notes = list(proof.notes)
    if proof.gelu is not None:
        notes.append(f"llama.cpp knows GELU in its tanh form alone, which changes a logit by up to {proof.gelu:.3g}.")
    found = ExportProof(weights=proof.weights, notes=tuple(notes))
    if (llama := proof.llama) is None:
        return found
    told = {"program": f"llama.cpp (xllamacpp {version('xllamacpp')})", "outputs": llama.difference}
    return found.model_copy(update={**told, "tokens": llama.tokens, "same": llama.same})
