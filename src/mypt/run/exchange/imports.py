"""`mypt import`: a bundle made of a model of another program."""

from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from mypt.checkpoint.atomic import rehearse
from mypt.checkpoint.family import Family, check_place
from mypt.checkpoint.files import read_tokenizer
from mypt.checkpoint.layout import bundle_path
from mypt.checkpoint.lock import locked
from mypt.checkpoint.manager import CheckpointManager, Content
from mypt.data.shards import open_shards
from mypt.data.tokenizer import Tokenizer
from mypt.errors import ConflictError, InputError, UsageError
from mypt.exchange.hf.reader import read_folder
from mypt.exchange.incoming import Incoming, files_of
from mypt.exchange.llmc import is_llmc, read_llmc
from mypt.exchange.nanogpt import read_nanogpt
from mypt.regular import NotRegularError, expanded, open_regular
from mypt.schema.files.events import timestamp
from mypt.schema.files.imported import ImportKind, ImportRecord
from mypt.schema.files.state import TrainingState
from mypt.schema.files.tokenizer import TokenizerFile
from mypt.schema.settings.training import TrainingConfig
from mypt.train.device.devices import environment
from mypt.train.observer import Observer


@dataclass(frozen=True)
class Imported:
    """What an import made.

    Attributes:
        path: the new bundle.
        record: where its weights come from.
        tokenizer: what its ids mean.
    """

    path: Path
    record: ImportRecord
    tokenizer: TokenizerFile


def import_model(source: str, name: str, out_dir: Path, tokenizer: str | None, observer: Observer) -> Imported:
    """Make a bundle without optimizer of a model of another program.

    Args:
        source: a folder of Hugging Face, a checkpoint of llm.c, or one of nanoGPT.
        name: of the new bundle.
        out_dir: folder of all bundles.
        tokenizer: gpt2, ids, or a bundle or dataset whose tokenizer it is; None for what comes with the model.
        observer: notified of long work.

    Raises:
        UsageError: the name is taken, or the source cannot be imported, with every reason.
        BusyError: another process writes there.
    """
    manager = CheckpointManager(name, out_dir)
    path = expanded(source)
    with locked(manager.path, observer.notice):
        _check_free(manager)
        rehearse(manager.path)
        given = None if tokenizer is None else _tokenizer(tokenizer, out_dir)
        with observer.busy(f"Reading {source}"):
            kind, incoming, files = _read(path, given)
        if given is not None and given.token_kind != "ids":
            _check_rows(given, incoming)
        file = given or incoming.tokenizer
        if file.token_kind == "ids":
            file = TokenizerFile(token_kind="ids", vocab_size=incoming.config.vocab_size)
        with observer.busy("Writing the bundle"):
            record = ImportRecord(
                kind=kind, path=str(path.absolute()), model_type=incoming.model_type, files=files_of(files),
                notes=incoming.notes,
            )  # fmt: skip
            manager.write(Content(incoming.config, file, _state(name, record), incoming.weights))
    return Imported(manager.path, record, file)


def _check_free(manager: CheckpointManager) -> None:
    """An import replaces nothing.

    Raises:
        ConflictError: it would.
    """
    check_place(manager.path)
    if manager.exists():
        raise ConflictError(f"{manager.path} is a bundle already.", "Give the model another name by --name.")
    manager.family.check_free_for_a_run(fresh=False)
    Family(manager.path).check_own(None)


def _tokenizer(given: str, out_dir: Path) -> TokenizerFile:
    """The tokenizer that a call names.

    Raises:
        UsageError: there is none of this name.
    """
    if given == "gpt2":
        return Tokenizer.gpt2().file
    if given == "ids":
        return TokenizerFile(token_kind="ids", vocab_size=1)
    folder = expanded(given)
    is_bundle = (folder / "training_state.json").is_file()
    if folder.is_dir() and not is_bundle:
        return open_shards(given).tokenizer
    try:
        return read_tokenizer(bundle_path(given, out_dir))
    except UsageError as error:
        raise UsageError(
            f"There is no tokenizer {given!r}: it is neither gpt2 nor ids, and no bundle or dataset.",
            "Name a bundle, a folder of `mypt prepare`, or a data folder of nanoGPT with its meta.pkl.",
        ) from error


def _check_rows(tokenizer: TokenizerFile, incoming: Incoming) -> None:
    """Refuse a tokenizer with ids that the model has no row for."""
    if tokenizer.vocab_size > incoming.config.vocab_size:
        raise ConflictError(
            f"The tokenizer has {tokenizer.vocab_size:,} ids, and the model {incoming.config.vocab_size:,} rows.",
            "Name the tokenizer that it was trained with by --tokenizer.",
        )


def _read(path: Path, tokenizer: TokenizerFile | None) -> tuple[ImportKind, Incoming, list[Path]]:
    """The kind of a source, what is in it, and the files that were read.

    Raises:
        InputError: it cannot be imported.
    """
    if path.is_dir():
        incoming, files = read_folder(path, tokenizer)
        return "hf", incoming, files
    try:
        with open_regular(path) as file:
            head = file.read(8)
    except NotRegularError as error:
        raise InputError(f"{path} is neither a file nor a folder.", "Give a folder of Hugging Face.") from error
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}.", "Check the path.") from error
    if is_llmc(head):
        return "llm.c", read_llmc(path), [path]
    if path.suffix == ".safetensors":
        raise InputError(f"{path} holds weights alone.", f"Give the folder with its config.json: {path.parent}")
    return "nanogpt", read_nanogpt(path), [path]


def _state(name: str, record: ImportRecord) -> TrainingState:
    """The record of a model that nothing was trained of here."""
    return TrainingState(
        step=0, training_config=TrainingConfig(), exact_resume=False, imported=record, environment=environment("cpu"),
        saved_at=timestamp(), run_id=uuid4().hex[:12], name=name,
    )  # fmt: skip
